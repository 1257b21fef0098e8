package chat

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// bg is the context of reads on the commit goroutine: nobody waits for them with
// a deadline.
var bg = context.Background()

// open returns a conversation and the state in which actor is a member of it, or
// what access says to those who are none.
func (c *Chat) open(ctx context.Context, actor im.Actor, id im.ConvID, act access.Action) (*conv, *state, error) {
	cv, err := c.convs.get(ctx, convKey{actor.Tenant, id})
	if err != nil {
		return nil, nil, err
	}
	s := cv.pub.Load()
	return cv, s, access.Decide(c.rules.Policy(actor.Tenant), actor.Role, s.role(actor.User), s.rec.Kind, act,
		access.Object{Archived: s.rec.Archived})
}

// Head returns the actor's view of one conversation (conversation.get).
func (c *Chat) Head(ctx context.Context, actor im.Actor, id im.ConvID) (im.Head, error) {
	cv, _, err := c.open(ctx, actor, id, access.Read)
	if err != nil {
		return im.Head{}, err
	}
	h, err := c.head(ctx, cv, actor.User)
	if c.damaged(cv.key, err) {
		err = nil
	}
	if err == nil && h.Left { // left in between
		_, _, err = c.open(ctx, actor, id, access.Read)
	}
	return h, err
}

// damaged reports, and logs, that err is about a damaged record (DESIGN 5.5). One
// such record must not lock its readers out: a listing goes on without the
// conversation, or with a head that lacks what could not be read.
func (c *Chat) damaged(k convKey, err error) bool {
	if !errors.Is(err, store.ErrDamaged) {
		return false
	}
	c.unreadable(k, err)
	return true
}

// unreadable logs that something could not be read, at most once a second: many
// may ask for the same damaged record.
func (c *Chat) unreadable(k convKey, err error) {
	now, last := c.mono(), c.complained.Load()
	if last != 0 && now-time.Duration(last) < time.Second || !c.complained.CompareAndSwap(last, max(1, int64(now))) {
		return
	}
	c.log.Error("a conversation cannot be read", "tenant", k.tenant, "conversation", k.id, "err", err)
}

// head returns u's view of cv: one snapshot of state, unread and newest message
// (PROTOCOL 3.5). For who is no member only ID, Kind and Left are set. On an
// error the head has what could be read.
func (c *Chat) head(ctx context.Context, cv *conv, u im.UserID) (im.Head, error) {
	return c.headOf(ctx, cv, u, nil)
}

// headOf is head for one whose unread messages may have been counted already; on
// the commit goroutine then, so that they are still right.
func (c *Chat) headOf(ctx context.Context, cv *conv, u im.UserID, counted *tally) (im.Head, error) {
	for {
		cv.mu.Lock()
		s := cv.pub.Load()
		m := s.member(u)
		if m == nil || m.pub.Load().role == 0 {
			cv.mu.Unlock()
			return im.Head{ID: cv.key.id, Kind: s.rec.Kind, Left: true}, nil
		}
		p := m.pub.Load()
		h := im.Head{
			ID: cv.key.id, Kind: s.rec.Kind, Title: s.rec.Title, Head: s.rec.Head, Read: p.read,
			Role: p.role, Members: s.rec.Members, Updated: s.rec.Last,
			Archived: s.rec.Archived,
		}
		if s.rec.Kind == im.KindDirect {
			c.peer(s, u, &h)
		}
		covered := counted != nil || p.read >= s.rec.Head || cv.digest.covers(p.read)
		from := cv.digest.from
		switch {
		case counted != nil:
			h.Unread, h.Mentions = counted.unread, counted.mentions
		case covered:
			h.Unread, h.Mentions = cv.digest.count(u, p.read)
		}
		last, known := cv.tail.newest(u)
		known = known || s.rec.LastMsg == 0
		if known {
			h.Last = last
		}
		cv.mu.Unlock()
		if !covered {
			if err := c.extend(ctx, cv, p.read+1); err != nil {
				return h, err
			}
			continue
		}
		if !known {
			if err := c.newest(ctx, cv, u, s.rec.LastMsg, &h); err != nil {
				return h, err
			}
		}
		if p.read < s.rec.Head && p.read+1 < from {
			unread, mentions, err := c.countOlder(ctx, cv.key, u, p.read, from)
			h.Unread, h.Mentions = h.Unread+unread, h.Mentions+mentions
			return h, err
		}
		return h, nil
	}
}

// newest reads the newest message from the store, for h and for the tail.
func (c *Chat) newest(ctx context.Context, cv *conv, u im.UserID, seq im.Seq, h *im.Head) error {
	page, err := c.store.Page(ctx, cv.key.tenant, cv.key.id, u, seq, seq)
	if err == nil && len(page.Entries) != 1 {
		err = store.ErrDamaged
	}
	if err != nil {
		return im.Wrap("read the newest message of "+string(cv.key.id), err)
	}
	cv.mu.Lock()
	cv.tail.fillLast(u, page, seq)
	cv.mu.Unlock()
	h.Last = &page.Entries[0]
	h.Last.Key = ""
	return nil
}

// peer fills in what a head of a direct says of the other one.
func (c *Chat) peer(s *state, u im.UserID, h *im.Head) {
	other := s.rec.Peers[0]
	if other == u {
		other = s.rec.Peers[1]
	}
	if m := s.member(other); m != nil {
		h.PeerRead = m.pub.Load().read
	}
	var ok bool
	if h.Peer, ok = c.users.User(s.rec.Tenant, other); !ok {
		h.Peer = &im.User{Tenant: s.rec.Tenant, ID: other}
	}
}

// ConvIDs returns the conversations that the user is a member of now, for the
// hub. Whoever subscribes a session does so in this order, so that nothing is
// missed (PROTOCOL 3.4): have bus.Changed and bus.Left of the user take effect,
// ConvIDs, subscribe to what it named and was not left since, Heads.
func (c *Chat) ConvIDs(ctx context.Context, t im.TenantID, u im.UserID) ([]im.ConvID, error) {
	all, err := c.member.of(ctx, userKey{t, u})
	if err != nil {
		return nil, err
	}
	ids := make([]im.ConvID, 0, len(all))
	for _, id := range all {
		cv, err := c.convs.get(ctx, convKey{t, id})
		if c.damaged(convKey{t, id}, err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if cv.pub.Load().role(u) != 0 {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// HeadsQuery asks for conversations. Cursor, from the page before, goes before
// Sync. A Sync that can't be used counts as none.
type HeadsQuery struct {
	Sync   string
	Cursor string
	Limit  int // 1 to im.MaxHeadsPage; 0 or above: the most. A page may hold fewer
}

// HeadsPage is an answer to it. Next is empty on the last page; only that page's
// Sync counts. Full: it ends a listing of everything.
type HeadsPage struct {
	Heads []im.Head
	Next  string
	Sync  string
	Full  bool
}

// A position in a listing of heads. A listing goes over the conversations of a
// user that changed after since, and has two parts, because they go on changing
// while a client pages: down lists those whose newest change is at most upTo, the
// counter when the listing began, newest first. What changes meanwhile moves
// above upTo and out of it; then up lists what is above, oldest first, so that
// what moves again moves ahead of the reader, never behind. So each conversation
// is listed at least once.
type position struct {
	since, upTo im.Change
	up          bool
	at          im.Change // the change of the last one listed
}

const (
	syncPrefix = "s1." // a new format gets a new number; old tokens then list everything
	downPrefix = "d1."
	upPrefix   = "u1."
)

func (p position) cursor() string {
	prefix := downPrefix
	if p.up {
		prefix = upPrefix
	}
	return prefix + join36(uint64(p.since), uint64(p.upTo), uint64(p.at))
}

func parseCursor(s string) (position, error) {
	var p position
	text, down := strings.CutPrefix(s, downPrefix)
	if !down {
		text, p.up = strings.CutPrefix(s, upPrefix)
	}
	n, ok := split36(text, 3)
	if !ok || !down && !p.up {
		return p, badCursor()
	}
	p.since, p.upTo, p.at = im.Change(n[0]), im.Change(n[1]), im.Change(n[2])
	return p, nil
}

func badCursor() error {
	return im.E(im.Invalid, "This cursor is not one of ours. Begin again without one.").OnField("cursor")
}

func syncToken(n im.Change) string { return syncPrefix + join36(uint64(n)) }

func parseSync(s string) (im.Change, bool) {
	text, ok := strings.CutPrefix(s, syncPrefix)
	if !ok {
		return 0, false
	}
	n, ok := split36(text, 1)
	if !ok {
		return 0, false
	}
	return im.Change(n[0]), true
}

func join36(ns ...uint64) string {
	var b []byte
	for i, n := range ns {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendUint(b, n, 36)
	}
	return string(b)
}

func split36(s string, n int) ([]uint64, bool) {
	parts := strings.SplitN(s, ".", n+1)
	if len(parts) != n {
		return nil, false
	}
	ns := make([]uint64, n)
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 36, 64)
		if err != nil {
			return nil, false
		}
		ns[i] = v
	}
	return ns, true
}

// Heads lists the actor's conversations, newest change first (PROTOCOL 3.3): all
// of them, or with a usable Sync those that changed since, left ones included.
func (c *Chat) Heads(ctx context.Context, actor im.Actor, q HeadsQuery) (HeadsPage, error) {
	// The counter first: whatever it includes is visible below.
	now := im.Change(c.change.Load())
	pos := position{upTo: now, at: now + 1}
	if q.Cursor != "" {
		var err error
		if pos, err = parseCursor(q.Cursor); err != nil {
			return HeadsPage{}, err
		}
	} else if since, ok := parseSync(q.Sync); ok && since <= now {
		// A token from a counter that is ahead of this one is from another history.
		pos.since = since
	}
	limit := q.Limit
	if limit < 1 || limit > im.MaxHeadsPage {
		limit = im.MaxHeadsPage
	}
	all, err := c.changed(ctx, actor, pos)
	if err != nil {
		return HeadsPage{}, err
	}
	page := HeadsPage{Heads: make([]im.Head, 0, min(limit, len(all)))}
	bytes := 0
	for _, ch := range all {
		if len(page.Heads) == limit || bytes > c.pageBytes {
			page.Next = pos.cursor()
			break
		}
		h, err := c.head(ctx, ch.cv, actor.User)
		if err != nil && !c.damaged(ch.cv.key, err) {
			return HeadsPage{}, err
		}
		if !h.Left || pos.since != 0 {
			page.Heads = append(page.Heads, h)
			bytes += 300 + escaped(h.Title)
			if h.Peer != nil {
				bytes += escaped(h.Peer.Name) + len(h.Peer.Username)
			}
			if h.Last != nil {
				bytes += min(encoded(h.Last), 512+6*im.LastTextBytes) // its text is cut
			}
		}
		pos.up, pos.at = ch.at > pos.upTo, ch.at
	}
	page.Sync = syncToken(pos.upTo)
	page.Full = page.Next == "" && pos.since == 0
	return page, nil
}

type changedConv struct {
	cv *conv
	at im.Change
}

// changed returns what is left of a listing after pos, in its order.
func (c *Chat) changed(ctx context.Context, actor im.Actor, pos position) ([]changedConv, error) {
	ids, err := c.member.of(ctx, userKey{actor.Tenant, actor.User})
	if err != nil {
		return nil, err
	}
	list := make([]changedConv, 0, len(ids))
	for _, id := range ids {
		cv, err := c.convs.get(ctx, convKey{actor.Tenant, id})
		if c.damaged(convKey{actor.Tenant, id}, err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s := cv.pub.Load()
		m := s.member(actor.User)
		if m == nil {
			continue // the index knows of the join, this snapshot not yet: it comes as an event
		}
		p := m.pub.Load()
		at := p.change
		if p.role != 0 {
			at = max(at, s.rec.Change)
		} else if pos.since == 0 {
			continue // left: nothing to drop for one who has nothing
		}
		if at <= pos.since {
			continue
		}
		if up := at > pos.upTo; pos.up && !up || pos.up == up && (up && at <= pos.at || !up && at >= pos.at) {
			continue // listed before
		}
		list = append(list, changedConv{cv, at})
	}
	slices.SortFunc(list, func(a, b changedConv) int {
		aUp, bUp := a.at > pos.upTo, b.at > pos.upTo
		switch {
		case aUp != bUp && aUp:
			return 1
		case aUp != bUp:
			return -1
		case aUp:
			return cmp.Compare(a.at, b.at)
		}
		return cmp.Compare(b.at, a.at)
	})
	return list, nil
}
