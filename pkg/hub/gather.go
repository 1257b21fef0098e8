package hub

import "time"

// Gathering: about 99 % of a delivery is the kernel's write, and ten frames in
// one write cost little more than one. So the frames of a busy room are put into
// one buffer and leave together every few milliseconds, as one write for each
// recipient. A quiet room is written at once: gathering it would cost a delay
// and gain nothing.
const (
	// hotPerSecond is the rate above which a room is gathered.
	hotPerSecond = 50
	// A room's level drains at hotPerSecond and rises by one with each message:
	// it stays near zero below that rate. The room becomes hot above hotLevel,
	// so that a burst of ten is no reason, and is cold again at coldLevel.
	hotLevel, coldLevel = 10, 1
	// levelCap lets a room cool within half a second.
	levelCap = 25
	// A buffer waits for memberDelay for each session, at least gatherDelay and at
	// most maxDelay, while the loops keep up. To write to one takes a third as
	// long. At 92 messages a second to 1000 sessions, 15 µs and 25 ms took 0.64-0.71 of
	// the floor, this 0.41-0.50.
	gatherDelay = 5 * time.Millisecond
	memberDelay = 30 * time.Microsecond
	maxDelay    = 40 * time.Millisecond
	// gatherBytes bounds a buffer: what would pass it is posted first. Four fit
	// into the default bound of a connection's output.
	gatherBytes = 64 << 10
	// gatherTurns is how often a room is passed over because a loop has not yet
	// walked its former run. Under overload the runs grow instead of the loops'
	// mailboxes, which makes each delivery cheaper.
	gatherTurns = 10
)

// measure counts one message at that time and tells whether the room is hot.
func (r *room) measure(now time.Duration) bool {
	r.level = max(0, r.level-float32((now-r.last).Seconds()*hotPerSecond))
	r.level = min(r.level+1, levelCap)
	r.last = now
	if r.hot {
		r.hot = r.level > coldLevel
	} else {
		r.hot = r.level > hotLevel
	}
	return r.hot
}

// gather takes the frames into the room's buffer if the room is hot. If not,
// what is in the buffer goes first, and the caller routes the frames. h.mu is
// held.
func (h *Hub) gather(p *plan, r *room, frames []byte) bool {
	hot := r.measure(h.elapsed())
	if len(r.buffer)+len(frames) > gatherBytes || !hot {
		h.flushRoom(p, r)
		if !hot || len(frames) > gatherBytes {
			return false
		}
	}
	if r.buffer == nil {
		r.buffer = make([]byte, 0, max(r.bufferSize, 4*len(frames)))
	}
	r.buffer = append(r.buffer, frames...)
	h.n.gathered.Add(1)
	if !r.listed {
		r.listed = true
		r.due = h.elapsed() + r.delay()
		h.gathering = append(h.gathering, r)
		if h.gatherDue == 0 || r.due < h.gatherDue {
			h.gatherDue = r.due
			h.poke()
		}
	}
	return true
}

// delay is how long a buffer of the room waits. h.mu is held.
func (r *room) delay() time.Duration {
	return min(max(gatherDelay, time.Duration(r.total)*memberDelay), maxDelay)
}

// flushRoom routes what the room's buffer holds, as one run of frames. h.mu is
// held.
func (h *Hub) flushRoom(p *plan, r *room) {
	if len(r.buffer) == 0 {
		return
	}
	o := op{kind: opRoom, room: r, frames: r.buffer, walked: true}
	r.bufferSize = min(len(r.buffer)+len(r.buffer)/4, gatherBytes)
	r.buffer = nil // the loops' now
	r.passedOver = 0
	loops := r.loops()
	for l := loops; l != 0; l &= l - 1 {
		r.walking.Add(1)
	}
	h.n.flushes.Add(1)
	h.push(p, loops, &o)
}

// flushGathered posts the buffers that are due; all of them at the end.
func (h *Hub) flushGathered(end bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.elapsed()
	if !end && (h.gatherDue == 0 || now < h.gatherDue) {
		return
	}
	p := h.plans.Get().(*plan)
	kept := h.gathering[:0]
	h.gatherDue = 0
	for _, r := range h.gathering {
		wait := !end && len(r.buffer) > 0
		switch {
		case wait && now < r.due:
		case wait && r.walking.Load() > 0 && r.passedOver < gatherTurns:
			r.passedOver++
			r.due = now + gatherDelay
		default:
			r.listed = false
			h.flushRoom(p, r)
			continue
		}
		kept = append(kept, r)
		if h.gatherDue == 0 || r.due < h.gatherDue {
			h.gatherDue = r.due
		}
	}
	clear(h.gathering[len(kept):])
	h.gathering = kept
	h.post(p)
	h.plans.Put(p)
}
