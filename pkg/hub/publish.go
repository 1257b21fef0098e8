package hub

import (
	"math/bits"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// opKind says what a loop does with an op.
type opKind uint8

const (
	opNone   opKind = iota
	opRoom          // frames to every session in the room
	opRead          // to every session in the room but one
	opTyping        // to the sessions of other users in the room that are not busy
	opOwn           // to every session of the person but one
	opJoin          // to every session of the person, which sits in the room from here on
	opLeave         // to every session of the person, which sits there no more
	opClose         // ends the sessions listed
)

// op is one event on its way to the loops.
type op struct {
	kind   opKind
	walked bool   // opRoom: count room.walking down afterwards
	code   uint16 // opClose
	room   *room
	person *person
	conv   im.ConvID // opLeave; its room is looked up when it is needed
	frames []byte
	loops  uint64    // opJoin: a bit for each loop that has a reservation
	skip   uint64    // opRead, opOwn: number of the session that does not hear it; 0: none
	close  []*Member // opClose: of all loops
}

// plan is one batch of events on its way through onEvents, reused.
type plan struct {
	ops []op
	per []*batch // by loop; nil: nothing for it
}

// onEvents is the subscription. It runs on the publisher's goroutine, for
// several publishers at once.
//
// Who hears an event is looked up first, so that one without hearers is not
// encoded; then it is encoded, without the lock; then it is routed. Between the
// first and the last step a session may join: it did so after the event was
// published, so its heads have it (PROTOCOL 3.4).
func (h *Hub) onEvents(events []bus.Event) {
	p := h.plans.Get().(*plan)
	h.mu.Lock()
	for i := range events {
		p.ops = append(p.ops, h.resolve(&events[i]))
	}
	h.mu.Unlock()
	for i := range p.ops {
		if p.ops[i].kind != opNone {
			p.ops[i].frames = encode(&events[i])
		}
	}
	h.mu.Lock()
	for i := range p.ops {
		h.route(p, &p.ops[i], events[i].Kind == bus.Entry)
	}
	h.post(p)
	h.mu.Unlock()
	clear(p.ops)
	p.ops = p.ops[:0]
	h.plans.Put(p)
}

// resolve finds who hears of the event. h.mu is held.
func (h *Hub) resolve(e *bus.Event) op {
	switch e.Kind {
	case bus.Entry:
		if r := h.rooms[roomKey{e.Tenant, e.Conv}]; r != nil {
			return op{kind: opRoom, room: r}
		}
	case bus.Typing:
		if r := h.rooms[roomKey{e.Tenant, e.Conv}]; r != nil {
			return op{kind: opTyping, room: r, person: h.people.find(e.Tenant, e.User)}
		}
	case bus.Read:
		if !e.Wide {
			if p := h.people.find(e.Tenant, e.User); p != nil {
				return op{kind: opOwn, person: p, skip: sessionNumber(e.Session)}
			}
		} else if r := h.rooms[roomKey{e.Tenant, e.Conv}]; r != nil {
			o := op{kind: opRead, room: r, skip: sessionNumber(e.Session)}
			if e.Others {
				o.person = h.people.find(e.Tenant, e.User) // nil: none of the user's sessions is here
			}
			return o
		}
	case bus.Changed:
		if p := h.people.find(e.Tenant, e.User); p != nil && p.sessions > 0 {
			o := op{kind: opJoin, person: p, room: h.room(roomKey{e.Tenant, e.Conv}), loops: p.loops()}
			for l := o.loops; l != 0; l &= l - 1 {
				o.room.reserve(bits.TrailingZeros64(l))
			}
			return o
		}
	case bus.Left:
		if p := h.people.find(e.Tenant, e.User); p != nil {
			return op{kind: opLeave, person: p, conv: e.Conv}
		}
	case bus.Presence:
		h.noteChange(userKey{e.Tenant, e.User}, e.Presence)
	case bus.SignedOut:
		if list := h.signedOut(e); len(list) > 0 {
			return op{kind: opClose, close: list, code: e.Code}
		}
	}
	return op{}
}

// signedOut lists the sessions that the event ends. h.mu is held.
func (h *Hub) signedOut(e *bus.Event) (list []*Member) {
	pick := func(p *person) {
		for m := p.first; m != nil; m = m.next {
			if e.SignIn == "" || m.signIn == e.SignIn {
				list = append(list, m)
			}
		}
	}
	if e.User != "" {
		if p := h.people.find(e.Tenant, e.User); p != nil {
			pick(p)
		}
		return list
	}
	h.people.each(func(p *person) {
		if p.user.Tenant == e.Tenant {
			pick(p)
		}
	})
	return list
}

func encode(e *bus.Event) []byte {
	switch e.Kind {
	case bus.Entry:
		return wire.EntryEventFrame(e.Entry)
	case bus.Changed:
		return wire.ChangedEventFrame(e.Head)
	case bus.Left:
		return wire.LeftEventFrame(e.Head)
	case bus.Read:
		return wire.ReadEventFrame(e.Conv, e.User, e.Seq)
	case bus.Typing:
		return wire.TypingEventFrame(e.Conv, e.User)
	}
	return nil
}

// route gives an op to the loops that have a recipient, or its frames to the
// room's gathering buffer. h.mu is held.
func (h *Hub) route(p *plan, o *op, entry bool) {
	var loops uint64
	switch o.kind {
	case opNone:
		return
	case opRead:
		h.flushRoom(p, o.room) // a mark does not overtake the entry that it is on
		loops = o.room.loops()
	case opRoom, opTyping:
		loops = o.room.loops()
	case opOwn:
		loops = o.person.loops()
	case opJoin:
		h.flushRoom(p, o.room)
		loops = o.loops
	case opLeave:
		if r := h.rooms[roomKey{o.person.user.Tenant, o.conv}]; r != nil {
			h.flushRoom(p, r)
		}
		loops = o.person.loops()
	case opClose:
		for _, m := range o.close {
			if m.person != nil {
				loops |= 1 << m.loop()
			}
		}
	}
	if loops == 0 {
		return
	}
	if !entry {
		h.n.events.Add(1)
		h.push(p, loops, o)
		return
	}
	h.n.entries.Add(1)
	if h.onFanout != nil {
		h.onFanout(o.room.total)
	}
	if !h.gather(p, o.room, o.frames) {
		h.push(p, loops, o)
	}
}

// loops returns the loops that have sessions, or reservations, in r. Hub.mu is
// held.
func (r *room) loops() (set uint64) {
	for i := range r.seats {
		if r.seats[i].n > 0 {
			set |= 1 << i
		}
	}
	return set
}

// push adds o to the batches of those loops.
func (h *Hub) push(p *plan, loops uint64, o *op) {
	for ; loops != 0; loops &= loops - 1 {
		i := bits.TrailingZeros64(loops)
		if p.per[i] == nil {
			p.per[i] = h.shards[i].batch()
		}
		p.per[i].ops = append(p.per[i].ops, *o)
	}
}

// post posts the batches. h.mu is held, so that batches reach each loop in the
// order in which they were routed.
func (h *Hub) post(p *plan) {
	for i, b := range p.per {
		if b == nil {
			continue
		}
		p.per[i] = nil
		h.n.posts.Add(1)
		h.shards[i].loop.Post(b.run) // false: the loop is gone, and its sessions with it
	}
}
