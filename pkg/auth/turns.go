package auth

import (
	"context"
	"net/netip"
	"slices"
	"sync"
)

// turns says whose hash is computed next. Those who wait stand in a line for each
// address, and the lines take turns, so that one address has its share however
// many it sends. Within a line, first come is first served.
//
// It is bounded. While it is full, who comes from an address with few waiting takes
// the place of the last of the longest line; that one, or else the newcomer, is
// refused. What comes from no address, the box's own work, is one line.
type turns struct {
	mu      sync.Mutex // never held over a hash
	limit   int        // hashes at the same time
	running int
	waiting int
	next    []*line // those that are not empty; the first is next
}

// line is who waits from one address; it is never empty.
type line struct {
	from netip.Addr
	wait []*turn
}

// turn is somebody who waits.
type turn struct {
	decided chan struct{} // closed when it is his, or will not be
	refused bool          // read after decided
}

// setLimit changes how many run at the same time. Those that run go on.
func (q *turns) setLimit(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = n
	q.call()
}

// count returns how many wait, and how many may run.
func (q *turns) count() (waiting, limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.limit
}

// take waits for a turn, which must be given back by give. ok is false if it was
// refused because bound wait already; err is ctx's.
func (q *turns) take(ctx context.Context, from netip.Addr, bound int) (ok bool, err error) {
	q.mu.Lock()
	if q.waiting == 0 && q.running < q.limit {
		q.running++
		q.mu.Unlock()
		return true, nil
	}
	i := q.lineOf(from)
	if q.waiting >= bound && !q.dropFor(i) {
		q.mu.Unlock()
		return false, nil
	}
	t := &turn{decided: make(chan struct{})}
	if i = q.lineOf(from); i < 0 { // the drop may have ended a line
		i = len(q.next)
		q.next = append(q.next, &line{from: from})
	}
	q.next[i].wait = append(q.next[i].wait, t)
	q.waiting++
	q.mu.Unlock()
	select {
	case <-t.decided:
		return !t.refused, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-t.decided: // in the same moment
		if !t.refused {
			q.running--
			q.call()
		}
	default:
		i = q.lineOf(from)
		q.remove(i, slices.Index(q.next[i].wait, t))
	}
	return false, ctx.Err()
}

// give ends a turn.
func (q *turns) give() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.call()
}

// call lets those run for whom there is room. Caller holds mu, as of all below.
func (q *turns) call() {
	for q.running < q.limit && len(q.next) > 0 {
		l := q.next[0]
		t := l.wait[0]
		q.remove(0, 0)
		if len(l.wait) > 0 {
			q.next = append(q.next[1:], l) // behind the others
		}
		q.running++
		close(t.decided)
	}
}

// dropFor makes room for one more of line i (-1: none yet) by refusing the last of
// the longest line, and reports whether that line was longer than i will be.
func (q *turns) dropFor(i int) bool {
	mine := 0
	if i >= 0 {
		mine = len(q.next[i].wait)
	}
	longest := 0
	for j, l := range q.next {
		if len(l.wait) > len(q.next[longest].wait) {
			longest = j
		}
	}
	if len(q.next) == 0 || len(q.next[longest].wait) <= mine+1 {
		return false
	}
	last := len(q.next[longest].wait) - 1
	t := q.next[longest].wait[last]
	q.remove(longest, last)
	t.refused = true
	close(t.decided)
	return true
}

// lineOf returns the index of an address's line, or -1. There are at most as many
// as may wait, a hundred or so.
func (q *turns) lineOf(from netip.Addr) int {
	return slices.IndexFunc(q.next, func(l *line) bool { return l.from == from })
}

// remove takes one out of a line, and the line out of the round if it was the last.
func (q *turns) remove(i, j int) {
	l := q.next[i]
	l.wait = slices.Delete(l.wait, j, j+1)
	if len(l.wait) == 0 {
		q.next = slices.Delete(q.next, i, i+1)
	}
	q.waiting--
}
