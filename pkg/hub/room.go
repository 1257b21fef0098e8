package hub

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

type roomKey struct {
	tenant im.TenantID
	conv   im.ConvID
}

// room is one conversation and the sessions here that hear it. It exists while
// it has a session or a reservation.
type room struct {
	key roomKey
	// total is the sum of seats.n. Guarded by Hub.mu.
	total int
	seats []seats // one for each loop

	// Gathering (gather.go); guarded by Hub.mu.
	level  float32       // messages above the rate at which writing at once pays
	last   time.Duration // when level was brought up to date
	hot    bool
	listed bool          // is in Hub.gathering
	due    time.Duration // while listed: when the buffer is posted, since start
	buffer []byte        // frames in order, not posted yet
	// bufferSize is what the next buffer is made with, from the last one.
	bufferSize int
	passedOver int // times in a row that the buffer was due and walking was not 0
	// walking counts the loops that have not yet walked the run posted last.
	walking atomic.Int32
}

// seats is the part of a room that belongs to one loop.
type seats struct {
	// members is touched on the loop's goroutine only. A session sits there once.
	// The order means nothing: leaving is a linear scan and a swap, which beats
	// keeping positions in every session for rooms of any size we allow.
	members []*Member
	// n is len(members) and the reservations: sessions that the loop will add
	// when it comes to it. It is guarded by Hub.mu and tells publishers whether
	// the loop must hear of an event at all.
	n int
}

// room returns the room of key, made if need be. h.mu is held; the caller
// reserves a seat before it lets go.
func (h *Hub) room(key roomKey) *room {
	r := h.rooms[key]
	if r == nil {
		r = &room{key: key, seats: make([]seats, len(h.shards))}
		h.rooms[key] = r
		h.n.rooms.Add(1)
	}
	return r
}

// reserve makes publishers count loop i in, before the sessions sit there.
// h.mu is held.
func (r *room) reserve(i int) {
	r.seats[i].n++
	r.total++
}

// release takes back one seat or reservation; a room without any is forgotten.
// h.mu is held.
func (h *Hub) release(r *room, i int) {
	r.seats[i].n--
	if r.total--; r.total == 0 {
		delete(h.rooms, r.key)
		h.n.rooms.Add(-1)
	}
}

// sit adds m to the room, unless it sits there. h.mu is held, on m's loop.
func (h *Hub) sit(m *Member, r *room) {
	if slices.Contains(m.rooms, r) {
		return
	}
	r.reserve(m.loop())
	s := &r.seats[m.loop()]
	s.members = append(s.members, m)
	m.rooms = append(m.rooms, r)
}

// stand takes m out of the room, if it sits there. h.mu is held, on m's loop.
func (h *Hub) stand(m *Member, r *room) {
	at := slices.Index(m.rooms, r)
	if at < 0 {
		return
	}
	last := len(m.rooms) - 1
	m.rooms[at] = m.rooms[last]
	m.rooms[last] = nil
	m.rooms = m.rooms[:last]
	h.unseat(m, r)
}

// unseat is the room's half of stand.
func (h *Hub) unseat(m *Member, r *room) {
	s := &r.seats[m.loop()]
	at := slices.Index(s.members, m)
	last := len(s.members) - 1
	s.members[at] = s.members[last]
	s.members[last] = nil
	s.members = s.members[:last]
	// Give memory back after a crowd has left, with slack against flapping.
	if c := cap(s.members); c > 32 && last < c/4 {
		s.members = append(make([]*Member, 0, c/2), s.members...)
	}
	h.release(r, m.loop())
}
