package netloop

import "math/bits"

// The wheel keeps the timers of one loop. It is pure: it is told the time in
// ticks of one millisecond since the loop began, and it never reads a clock.
//
// It is hierarchical: four levels of 64 slots, each slot of a level as wide as
// all of the level below (64 ms, 4 s, 4 min, 4.6 h). A timer enters at the level
// of its distance and moves down when its slot begins, at most three times.
// Nodes are part of what they time (intrusive lists), so that arming, stopping
// and firing allocate nothing. Loop goroutine only.
const (
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 4
	wheelSpan   = int64(1) << (wheelBits * wheelLevels) // ticks; farther timers wait in the last slot
	noTick      = int64(1)<<62 - 1                      // later than everything
)

// expirer is what owns a timer node.
type expirer interface {
	// expire is called at or after the node's tick, with the node unlinked.
	expire(now int64)
}

// wheelNode is one timer. Its zero value with an owner is a stopped one.
type wheelNode struct {
	next, prev *wheelNode // nil when not armed
	when       int64      // tick
	owner      expirer
}

func (n *wheelNode) armed() bool { return n.next != nil }

type wheel struct {
	now   int64 // all timers up to this tick have fired
	used  [wheelLevels]uint64
	slots [wheelLevels][wheelSlots]wheelNode // sentinels of circular lists
	armed int
	due   wheelNode // sentinel of the slot being worked off; here, or it would be allocated
}

func (w *wheel) init() {
	for l := range w.slots {
		for s := range w.slots[l] {
			n := &w.slots[l][s]
			n.next, n.prev = n, n
		}
	}
}

// add arms n for tick when; one that is not after the wheel's now fires at the
// next advance. n must not be armed.
func (w *wheel) add(n *wheelNode, when int64) {
	n.when = when
	w.place(n, w.now+1)
	w.armed++
}

// place links n where it belongs, no earlier than tick first.
func (w *wheel) place(n *wheelNode, first int64) {
	at := max(n.when, first)
	d := at - w.now
	if d >= wheelSpan {
		at, d = w.now+wheelSpan-1, wheelSpan-1
	}
	l := 0
	for d >= wheelSlots {
		d >>= wheelBits
		l++
	}
	s := at >> (wheelBits * l) & (wheelSlots - 1)
	head := &w.slots[l][s]
	n.next, n.prev = head, head.prev
	head.prev.next, head.prev = n, n
	w.used[l] |= 1 << s
}

// stop disarms n and tells whether it was armed. A slot that it leaves empty keeps
// its mark; that costs one early wake-up.
func (w *wheel) stop(n *wheelNode) bool {
	if n.next == nil {
		return false
	}
	w.unlink(n)
	w.armed--
	return true
}

func (w *wheel) unlink(n *wheelNode) {
	n.prev.next, n.next.prev = n.next, n.prev
	n.next, n.prev = nil, nil
}

// next returns the earliest tick at which advance has something to do, or noTick.
// It is never later than the earliest timer.
func (w *wheel) next() int64 {
	first := noTick
	for l := range w.used {
		if w.used[l] == 0 {
			continue
		}
		base := w.now >> (wheelBits * l)
		// The slot of base itself was emptied when it began, so what is marked
		// there lies a full turn ahead: look from base+1 on.
		from := int(base+1) & (wheelSlots - 1)
		ahead := bits.TrailingZeros64(bits.RotateLeft64(w.used[l], -from))
		if t := (base + 1 + int64(ahead)) << (wheelBits * l); t < first {
			first = t
		}
	}
	return first
}

// advance fires what is due up to tick now. Owners may arm and stop timers while
// it runs.
func (w *wheel) advance(now int64) {
	for {
		t := w.next()
		if t > now {
			w.now = max(w.now, now)
			return
		}
		w.now = t
		for l := wheelLevels - 1; l > 0; l-- {
			shift := wheelBits * l
			if t&(1<<shift-1) == 0 {
				w.cascade(l, int(t>>shift)&(wheelSlots-1))
			}
		}
		w.fire(int(t)&(wheelSlots-1), now)
	}
}

// cascade moves the timers of one slot down, now that its time has begun.
func (w *wheel) cascade(l, s int) {
	if w.used[l]&(1<<s) == 0 {
		return
	}
	w.used[l] &^= 1 << s
	w.detach(&w.slots[l][s], &w.due)
	for w.due.next != &w.due {
		n := w.due.next
		w.unlink(n)
		w.place(n, w.now)
	}
}

func (w *wheel) fire(s int, now int64) {
	if w.used[0]&(1<<s) == 0 {
		return
	}
	w.used[0] &^= 1 << s
	w.detach(&w.slots[0][s], &w.due)
	for w.due.next != &w.due {
		n := w.due.next
		w.unlink(n)
		w.armed--
		n.owner.expire(now)
	}
}

// detach moves all of from to the empty list to, so that timers armed meanwhile
// don't join a walk that is under way.
func (w *wheel) detach(from, to *wheelNode) {
	if from.next == from {
		to.next, to.prev = to, to
		return
	}
	to.next, to.prev = from.next, from.prev
	to.next.prev, to.prev.next = to, to
	from.next, from.prev = from, from
}
