package hub

import (
	"encoding/base32"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// Shard is the part of the hub that belongs to one loop. Its methods are for
// that loop's goroutine, but for Post.
type Shard struct {
	hub   *Hub
	index int
	loop  Loop

	topics  map[userKey]*topic // who is watched by sessions of this loop
	behind  []*watch           // watches that have pending changes
	scratch []*Member          // for sessionsOf; empty between uses

	delivered, held, typingLeftOut atomic.Uint64
}

// Post runs fn on the shard's loop (Loop.Post). Any goroutine may call it.
func (sh *Shard) Post(fn func()) bool { return sh.loop.Post(fn) }

// Member is what the hub keeps of a session. It is embedded in the session's own
// record, so that a session is one allocation; the zero value is not attached.
// All of it belongs to the loop's goroutine, but for what is said to be guarded.
type Member struct {
	shard  *Shard
	sess   Session
	user   *im.User
	signIn im.SignInID
	num    uint64
	held   *held // while the hello is computed
	rooms  []*room
	watch  *watch

	// Guarded by Hub.mu.
	person   *person // nil before Attach and after Detach
	next     *Member // the person's next session
	presence im.PresenceState
}

// held is what came for a session while its hello was computed.
type held struct {
	frames [][]byte
	bytes  int
	// left are conversations that the user left since Attach. Join must not
	// bring them back: the list that it is given may be older than that. One who
	// was invited again meanwhile sits there already.
	left []im.ConvID
	full bool // over the bound: the session is closing
}

func (m *Member) loop() int { return m.shard.index }

// User is the signed-in user as of Attach. The record is shared and read-only.
func (m *Member) User() *im.User { return m.user }

// SignIn is the sign-in that the session belongs to.
func (m *Member) SignIn() im.SignInID { return m.signIn }

var sessionEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// ID is the session's id, the same for its life. It is made from a number at
// each call, which spares an idle session 40 bytes.
func (m *Member) ID() im.SessionID {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], m.num)
	return im.SessionID("s_" + sessionEncoding.EncodeToString(b[:]))
}

// sessionNumber reads what ID wrote; 0 is no session's.
func sessionNumber(id im.SessionID) uint64 {
	var b [8]byte
	if len(id) != 15 || id[:2] != "s_" {
		return 0
	}
	if _, err := sessionEncoding.Decode(b[:], []byte(id[2:])); err != nil {
		return 0
	}
	return binary.BigEndian.Uint64(b[:])
}

// mix spreads consecutive numbers over 64 bits, one to one (SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Attach makes the session known as one of user's, before its hello is computed:
// from here on, what happens to the user's memberships and what is said in
// conversations that Join adds is held for it, until Release. That is how heads
// and events are one snapshot (PROTOCOL 3.4). It fails with im.RateLimited when
// the user has too many sessions.
func (sh *Shard) Attach(m *Member, s Session, user *im.User, signIn im.SignInID) error {
	h := sh.hub
	most := 0
	if h.perUser != nil {
		most = h.perUser()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.people.find(user.Tenant, user.ID)
	if p != nil && most > 0 && int(p.sessions) >= most {
		h.n.refused.Add(1)
		e := im.E(im.RateLimited, "there are %d open sessions of this user already", p.sessions)
		e.Limit, e.RetryAfter = int64(most), 30*time.Second
		return e
	}
	if h.perTenant != nil {
		if most := h.perTenant(user.Tenant); most > 0 && h.tenants[user.Tenant] >= most {
			h.n.refused.Add(1)
			e := im.E(im.RateLimited, "as many people of your organisation are connected as may be")
			e.Limit, e.RetryAfter = int64(most), 30*time.Second
			return e
		}
	}
	if p == nil {
		p = h.people.add(user)
		h.n.people.Add(1)
	}
	h.tenants[user.Tenant]++
	num := mix(h.sessionID.Add(1))
	if num == 0 {
		num = mix(h.sessionID.Add(1))
	}
	*m = Member{shard: sh, sess: s, user: user, signIn: signIn, num: num, held: &held{}, person: p, next: p.first}
	p.first = m
	p.sessions++
	h.n.sessions.Add(1)
	return nil
}

// Join tells which conversations the user is a member of, as read after Attach.
// It is called once for a session, from any goroutine, before the heads are
// read: an entry that was committed by then is in the heads, any later one is
// held. It also makes the user online.
func (h *Hub) Join(m *Member, convs []im.ConvID) {
	h.mu.Lock()
	if m.person == nil {
		h.mu.Unlock()
		return
	}
	sh, tenant := m.shard, m.person.user.Tenant
	rooms := make([]*room, len(convs))
	for i, c := range convs {
		rooms[i] = h.room(roomKey{tenant, c})
		rooms[i].reserve(sh.index)
	}
	// Under the lock: an event that is routed to the loop because of these
	// reservations is posted after this.
	ok := sh.loop.Post(func() { sh.join(m, rooms) })
	h.mu.Unlock()
	if ok {
		h.setPresence(m, im.Online)
	}
}

func (sh *Shard) join(m *Member, rooms []*room) {
	h := sh.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.person != nil && m.held != nil {
		if m.rooms == nil && len(rooms) > 0 {
			m.rooms = make([]*room, 0, len(rooms))
		}
		for _, r := range rooms {
			if !m.held.hasLeft(r.key.conv) {
				h.sit(m, r)
			}
		}
	}
	for _, r := range rooms {
		h.release(r, sh.index)
	}
}

func (hd *held) hasLeft(c im.ConvID) bool { return slices.Contains(hd.left, c) }

// Release delivers the reply to the session's hello, then everything that was
// held, and ends the holding. Frames as for Session.Deliver.
func (sh *Shard) Release(m *Member, reply []byte) {
	hd := m.held
	if hd == nil || hd.full {
		return // detached, released before, or closing
	}
	m.held = nil
	m.sess.Deliver(reply)
	for _, f := range hd.frames {
		m.sess.Deliver(f)
	}
	sh.delivered.Add(uint64(len(hd.frames)))
}

// Detach forgets the session. It may be called for one that is not attached.
func (sh *Shard) Detach(m *Member) {
	h := sh.hub
	sh.unwatch(m)
	h.mu.Lock()
	p := m.person
	if p == nil {
		h.mu.Unlock()
		return
	}
	for i, r := range m.rooms {
		h.unseat(m, r)
		m.rooms[i] = nil
	}
	m.rooms, m.held = nil, nil
	h.n.sessions.Add(-1)
	if t := p.user.Tenant; h.tenants[t] > 1 {
		h.tenants[t]--
	} else {
		delete(h.tenants, t)
	}
	h.mu.Unlock()
	h.setPresence(m, im.Offline)
	h.mu.Lock()
	for at := &p.first; *at != nil; at = &(*at).next {
		if *at == m {
			*at = m.next
			break
		}
	}
	p.sessions--
	m.person, m.next = nil, nil
	h.forget(p)
	h.mu.Unlock()
}

// forget drops a person of whom nothing needs to be known. h.mu is held.
func (h *Hub) forget(p *person) {
	if p.sessions == 0 && !p.leaving && p.announced == im.Offline && h.people.remove(p) {
		h.n.people.Add(-1)
	}
}

// sessionsOf returns p's sessions on this loop. The slice is the shard's, valid
// until the next call. h.mu is held.
func (sh *Shard) sessionsOf(p *person) []*Member {
	sh.scratch = sh.scratch[:0]
	for m := p.first; m != nil; m = m.next {
		if m.shard == sh {
			sh.scratch = append(sh.scratch, m)
		}
	}
	return sh.scratch
}

// deliver hands frames to the session, or keeps them until its hello is out.
func (m *Member) deliver(frames []byte) {
	if m.held == nil {
		m.sess.Deliver(frames)
		return
	}
	m.hold(frames)
}

func (m *Member) hold(frames []byte) {
	hd, h := m.held, m.shard.hub
	if hd.full {
		return
	}
	// Counting the slice's own size bounds the memory of tiny frames too.
	hd.bytes += len(frames) + 24
	if hd.bytes > heldBytes {
		*hd = held{full: true}
		h.n.slow.Add(1)
		h.log.Info("session closed: too much came while its hello was computed", "tenant", m.user.Tenant, "user", m.user.ID)
		m.sess.Close(closeSlow, "")
		return
	}
	hd.frames = append(hd.frames, frames)
	m.shard.held.Add(1)
}
