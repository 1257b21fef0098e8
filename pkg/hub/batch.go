package hub

import "sync"

// batch is what one loop is to do, in order, in one turn. Batches are reused, and
// run is made once for each, so that a post allocates nothing.
type batch struct {
	shard *Shard
	ops   []op
	run   func() // b.walk
}

var batches sync.Pool // of *batch

func (sh *Shard) batch() *batch {
	b, _ := batches.Get().(*batch)
	if b == nil {
		b = new(batch)
		b.run = b.walk
	}
	b.shard = sh
	return b
}

// keptOps bounds what a batch that was very long once keeps.
const keptOps = 1024

func (b *batch) walk() {
	for i := range b.ops {
		b.shard.apply(&b.ops[i])
	}
	clear(b.ops)
	b.ops = b.ops[:0]
	if cap(b.ops) > keptOps {
		b.ops = nil
	}
	b.shard = nil
	batches.Put(b)
}

// apply does one op on the loop's goroutine. Session.Deliver and Close never call
// back into the hub, so the slices it walks stand still.
func (sh *Shard) apply(o *op) {
	switch o.kind {
	case opRoom:
		members := o.room.seats[sh.index].members
		for _, m := range members {
			m.deliver(o.frames)
		}
		sh.delivered.Add(uint64(len(members)))
		if o.walked {
			o.room.walking.Add(-1)
		}
	case opRead:
		for _, m := range o.room.seats[sh.index].members {
			if m.num != o.skip && (o.person == nil || m.user.ID != o.person.user.ID) {
				m.deliver(o.frames)
			}
		}
	case opTyping:
		sh.typing(o)
	case opOwn:
		for _, m := range sh.sessions(o.person) {
			if m.num != o.skip {
				m.deliver(o.frames)
			}
		}
	case opJoin:
		for _, m := range sh.admit(o) {
			m.deliver(o.frames)
		}
	case opLeave:
		for _, m := range sh.dismiss(o) {
			m.deliver(o.frames)
		}
	case opClose:
		for _, m := range o.close {
			if m.shard == sh {
				sh.hub.n.closes.Add(1)
				m.sess.Close(o.code, "")
			}
		}
	}
}

func (sh *Shard) typing(o *op) {
	for _, m := range o.room.seats[sh.index].members {
		if o.person != nil && m.user.ID == o.person.user.ID {
			continue
		}
		// Whose hello is not out yet has no use for it either.
		if m.held != nil || m.sess.Busy() {
			sh.typingLeftOut.Add(1)
			continue
		}
		m.sess.Deliver(o.frames)
	}
}

func (sh *Shard) sessions(p *person) []*Member {
	sh.hub.mu.Lock()
	defer sh.hub.mu.Unlock()
	return sh.sessionsOf(p)
}

// admit seats the person's sessions in the room (PROTOCOL 3.4: announced before
// the first entry) and gives the reservation back.
func (sh *Shard) admit(o *op) []*Member {
	h := sh.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	list := sh.sessionsOf(o.person)
	for _, m := range list {
		h.sit(m, o.room)
	}
	h.release(o.room, sh.index)
	return list
}

// dismiss takes the person's sessions out of the room (PROTOCOL 4.4). The room is
// looked up now: it may have come into being since the event was resolved, by a
// Join with a list that is older than the event.
func (sh *Shard) dismiss(o *op) []*Member {
	h := sh.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	list := sh.sessionsOf(o.person)
	for _, m := range list {
		if m.held != nil {
			m.held.left = append(m.held.left, o.conv)
		}
		if r := h.rooms[roomKey{o.person.user.Tenant, o.conv}]; r != nil {
			h.stand(m, r)
		}
	}
	return list
}
