package chat

import (
	"context"
	"slices"
	"sync"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// after returns where in a roster the users above cursor begin.
func after(roster []*member, cursor string) int {
	if cursor == "" {
		return 0
	}
	i, found := slices.BinarySearchFunc(roster, im.UserID(cursor), byUser)
	if found {
		i++
	}
	return i
}

func membersLimit(limit int) int {
	if limit < 1 || limit > im.MaxMembersPage {
		return im.MaxMembersPage
	}
	return limit
}

// Members lists who is in a conversation, in order of user id (PROTOCOL 4.3).
// next is empty on the last page.
func (c *Chat) Members(ctx context.Context, actor im.Actor, id im.ConvID, cursor string, limit int) (members []im.Member, next string, err error) {
	_, s, err := c.open(ctx, actor, id, access.Read)
	if err != nil {
		return nil, "", err
	}
	limit = membersLimit(limit)
	for _, m := range s.roster[after(s.roster, cursor):] {
		p := m.pub.Load()
		if p.role == 0 {
			continue
		}
		if len(members) == limit {
			return members, string(members[limit-1].User), nil
		}
		members = append(members, im.Member{Conv: id, User: m.user, Role: p.role, Joined: p.joined, Read: p.read, Change: p.change})
	}
	return members, "", nil
}

// Meets says whether the actor and another user are, or once were together, in a
// conversation that the actor is in now.
func (c *Chat) Meets(ctx context.Context, actor im.Actor, other im.UserID) (bool, error) {
	ids, err := c.member.of(ctx, userKey{actor.Tenant, actor.User})
	if err != nil {
		return false, err
	}
	for _, id := range ids {
		cv, err := c.convs.get(ctx, convKey{actor.Tenant, id})
		if c.damaged(convKey{actor.Tenant, id}, err) {
			continue
		}
		if err != nil {
			return false, err
		}
		s := cv.pub.Load()
		if s.role(actor.User) != 0 && s.member(other) != nil {
			return true, nil
		}
	}
	return false, nil
}

// ReadList says who has read a message (PROTOCOL 7.3): Read and Unread are this
// page, the counts are of all; the author is not among them.
type ReadList struct {
	Read, Unread           []im.UserID
	ReadCount, UnreadCount int
	Next                   string
}

// ReadList returns it to the message's author, owners and moderators.
func (c *Chat) ReadList(ctx context.Context, actor im.Actor, id im.ConvID, seq im.Seq, cursor string, limit int) (ReadList, error) {
	cv, s, err := c.open(ctx, actor, id, access.Read)
	if err != nil {
		return ReadList{}, err
	}
	author, err := c.author(ctx, cv, seq)
	if err != nil {
		return ReadList{}, err
	}
	own := access.Object{Own: author == actor.User}
	if err := access.Decide(c.rules.Policy(actor.Tenant), actor.Role, s.role(actor.User), s.rec.Kind, access.SeeReceipts, own); err != nil {
		return ReadList{}, err
	}
	limit = membersLimit(limit)
	var list ReadList
	begin, n, last := after(s.roster, cursor), 0, im.UserID("")
	for i, m := range s.roster {
		p := m.pub.Load()
		if p.role == 0 || m.user == author {
			continue
		}
		has := p.read >= seq
		if has {
			list.ReadCount++
		} else {
			list.UnreadCount++
		}
		switch {
		case i < begin:
			continue
		case n == limit:
			list.Next = string(last)
			continue
		case has:
			list.Read = append(list.Read, m.user)
		default:
			list.Unread = append(list.Unread, m.user)
		}
		last = m.user
		n++
	}
	return list, nil
}

// author returns who wrote the message at seq, recalled or not.
func (c *Chat) author(ctx context.Context, cv *conv, seq im.Seq) (im.UserID, error) {
	wrong := im.E(im.Invalid, "There is no such message in this conversation.").OnField("seq")
	cv.mu.Lock()
	head := cv.pub.Load().rec.Head
	var kind im.EntryKind
	var by im.UserID
	if e := cv.tail.at(seq); e != nil {
		kind, by = e.Kind, e.By
	}
	cv.mu.Unlock()
	if seq == 0 || seq > head {
		return "", wrong
	}
	if kind == 0 {
		page, err := c.store.Page(ctx, cv.key.tenant, cv.key.id, "", seq, seq)
		if err != nil {
			return "", im.Wrap("read a message", err)
		}
		if len(page.Entries) == 1 {
			kind, by = page.Entries[0].Kind, page.Entries[0].By
		}
	}
	if kind != im.EntryMessage {
		return "", wrong
	}
	return by, nil
}

// memberships remembers which conversations users ever were members of, so that
// a hello reads no disk. It is bounded by maxIndexed users; over that, any other
// one is dropped.
type memberships struct {
	store store.Convs

	mu    sync.Mutex
	users map[userKey][]im.ConvID // each slice is replaced, never changed
	adds  uint64                  // counts add: a load that one overtook is not kept
}

// maxIndexed bounds the users in memory: a hundred bytes each, or so, and twice
// as many as TARGETS.md has online.
const maxIndexed = 8192

func newMemberships(s store.Convs) *memberships {
	return &memberships{store: s, users: make(map[userKey][]im.ConvID)}
}

// of returns the conversations that k ever was a member of; read-only.
func (ms *memberships) of(ctx context.Context, k userKey) ([]im.ConvID, error) {
	ms.mu.Lock()
	ids, ok := ms.users[k]
	adds := ms.adds
	ms.mu.Unlock()
	if ok {
		return ids, nil
	}
	records, err := ms.store.OfUser(ctx, k.tenant, k.user)
	if err != nil {
		return nil, im.Wrap("read the conversations of "+string(k.user), err)
	}
	ids = make([]im.ConvID, len(records))
	for i := range records {
		ids[i] = records[i].Conv
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.adds != adds {
		return ids, nil
	}
	if len(ms.users) >= maxIndexed {
		for other := range ms.users {
			delete(ms.users, other)
			break
		}
	}
	ms.users[k] = ids
	return ids, nil
}

// add notes that k is a member of a conversation for the first time; commit
// goroutine, before the change counter tells of it.
func (ms *memberships) add(k userKey, id im.ConvID) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.adds++
	if ids, ok := ms.users[k]; ok && !slices.Contains(ids, id) {
		ms.users[k] = append(slices.Clip(slices.Clone(ids)), id)
	}
}

func (ms *memberships) forget(t im.TenantID) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for k := range ms.users {
		if k.tenant == t {
			delete(ms.users, k)
		}
	}
}
