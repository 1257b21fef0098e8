package gateway

import (
	"context"
	"slices"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// readJob is one request that reads, from the loop to a worker and back.
type readJob struct {
	s     *session
	m     *method
	id    []byte
	read  reading
	frame []byte
	err   error
}

var (
	errTooManyReads = &im.Error{Kind: im.RateLimited, Message: "too many requests are under way; please wait for their answers", RetryAfter: tooFast.RetryAfter}
	errBusy         = &im.Error{Kind: im.Unavailable, Message: "the server is busy; please try again in a moment", RetryAfter: tooFast.RetryAfter}
)

// startRead hands a request that reads to the workers.
func (s *session) startRead(m *method, r *wire.Request) {
	if s.reads >= maxReads {
		s.refuse(m, r.ID, errTooManyReads)
		return
	}
	read, err := m.read(s, r.Params)
	if err != nil {
		s.refuse(m, r.ID, err)
		return
	}
	if !s.loop.gw.pool.read(&readJob{s: s, m: m, id: slices.Clone(r.ID), read: read}) {
		s.refuse(m, r.ID, errBusy)
		return
	}
	s.reads++
}

func (j *readJob) work(ctx context.Context) {
	j.frame, j.err = j.read(ctx, j.id)
	j.s.loop.send(j)
}

// finish writes the reply, on the loop.
func (j *readJob) finish() {
	s := j.s
	s.reads--
	switch {
	case s.closing:
	case j.err != nil:
		s.refuse(j.m, j.id, j.err)
	default:
		j.m.ok().Add(1)
		s.conn.Write(j.frame)
	}
}

func listHeads(s *session, params []byte) (reading, error) {
	p, err := wire.DecodeList(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(ctx context.Context, id []byte) ([]byte, error) {
		page, err := g.chat.Heads(ctx, actor, chat.HeadsQuery{Sync: p.Sync, Cursor: p.Cursor, Limit: p.Limit})
		if err != nil {
			return nil, err
		}
		return wire.HeadsResultFrame(id, page.Heads, page.Next, page.Sync, page.Full), nil
	}, nil
}

func findChannels(s *session, params []byte) (reading, error) {
	p, err := wire.DecodeFind(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(ctx context.Context, id []byte) ([]byte, error) {
		list, next, err := g.chat.Find(ctx, actor, p.Query, p.Cursor, p.Limit)
		if err != nil {
			return nil, err
		}
		found := make([]wire.Found, len(list))
		for i, f := range list {
			found[i] = wire.Found(f)
		}
		return wire.FindResultFrame(id, found, next), nil
	}, nil
}

func getHead(s *session, params []byte) (reading, error) {
	p, err := wire.DecodeConv(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(ctx context.Context, id []byte) ([]byte, error) {
		head, err := g.chat.Head(ctx, actor, p.ID)
		if err != nil {
			return nil, err
		}
		return wire.HeadResultFrame(id, &head, false), nil
	}, nil
}

func listMembers(s *session, params []byte) (reading, error) {
	p, err := wire.DecodeMembers(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(ctx context.Context, id []byte) ([]byte, error) {
		list, next, err := g.chat.Members(ctx, actor, p.ID, p.Cursor, p.Limit)
		if err != nil {
			return nil, err
		}
		infos := make([]wire.MemberInfo, len(list))
		for i, m := range list {
			infos[i] = wire.MemberInfo{User: m.User, Role: m.Role, Joined: m.Joined}
			if u, ok := g.dir.User(actor.Tenant, m.User); ok {
				infos[i].Name, infos[i].Username = u.Name, u.Username
			}
		}
		return wire.MembersResultFrame(id, infos, next), nil
	}, nil
}

func searchUsers(s *session, params []byte) (reading, error) {
	p, err := wire.DecodeSearch(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(_ context.Context, id []byte) ([]byte, error) {
		users, err := g.dir.Search(actor, p.Query, p.Limit)
		if err != nil {
			return nil, err
		}
		return wire.UsersResultFrame(id, users), nil
	}, nil
}

// getUsers gives those whom the session may see, and those with whom it is in a
// conversation (PROTOCOL 10.12).
func getUsers(s *session, params []byte) (reading, error) {
	p, err := wire.DecodeUserGet(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(ctx context.Context, id []byte) ([]byte, error) {
		users := make([]*im.User, 0, len(p.Users))
		for _, asked := range p.Users {
			u, ok := g.dir.User(actor.Tenant, asked)
			if ok && !g.dir.Sees(actor, u) {
				if ok, err = g.chat.Meets(ctx, actor, u.ID); err != nil {
					return nil, err
				}
			}
			if ok {
				users = append(users, u)
			}
		}
		return wire.UsersResultFrame(id, users), nil
	}, nil
}

func readHistory(s *session, params []byte) (reading, error) {
	p, err := wire.DecodeHistory(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(ctx context.Context, id []byte) ([]byte, error) {
		page, err := g.chat.History(ctx, actor, chat.HistoryQuery{
			Conv: p.Conversation, After: p.After, Before: p.Before, HasAfter: p.HasAfter, HasBefore: p.HasBefore, Limit: p.Limit})
		if err != nil {
			return nil, err
		}
		return wire.PageResultFrame(id, &page, p.Conversation), nil
	}, nil
}

func readPins(s *session, params []byte) (reading, error) {
	p, err := wire.DecodePins(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(ctx context.Context, id []byte) ([]byte, error) {
		pins, err := g.chat.Pins(ctx, actor, p.Conversation)
		if err != nil {
			return nil, err
		}
		return wire.PinsResultFrame(id, pins, p.Conversation), nil
	}, nil
}

func readReadList(s *session, params []byte) (reading, error) {
	p, err := wire.DecodeReadList(params)
	if err != nil {
		return nil, err
	}
	g, actor := s.loop.gw, s.actor()
	return func(ctx context.Context, id []byte) ([]byte, error) {
		list, err := g.chat.ReadList(ctx, actor, p.Conversation, p.Seq, p.Cursor, p.Limit)
		if err != nil {
			return nil, err
		}
		r := wire.ReadListResult(list)
		return wire.ReadListResultFrame(id, &r), nil
	}, nil
}
