package chat

import (
	"sync"

	"github.com/pipit-im/pipit/pkg/im"
)

// pending is a command that waits for its reply.
type pending struct {
	cmd *Command
	to  Replier
	// counted: the rate limit saw this command already, so that running it a
	// second time (see Chat.fail) does not count twice; limited is its verdict.
	counted bool
	limited error
	// call, when set, is run by the commit goroutine instead of a command, after
	// everything that was put before it.
	call  func()
	order uint64 // in which it was put
}

// queue is the bounded queue in front of the commit goroutine: a lane for each
// tenant, from which it takes in turn, so that one tenant's flood does not make
// the others wait behind it. Within a lane commands keep their order.
//
// It is bounded by number and by bytes. Its overflow policy is to refuse: the
// sender keeps the request and tries again (PROTOCOL 2, unavailable). While it is
// full a tenant still gets a small share of its own, if it does not hold that
// already. What the commit goroutine has taken does not count any more. A lane
// costs nothing while it is empty, and no command costs an allocation.
type queue struct {
	mu     sync.Mutex
	lanes  map[im.TenantID]*lane
	turn   []*lane // those that are not empty; the first is next
	idle   []*lane // empty, with their rings, for whoever comes
	calls  []pending
	out    []pending // what take handed out last
	closed bool
	limit  int
	n      int           // commands that wait
	bytes  int           // of them
	order  uint64        // of what was put last
	rivals int           // how many more takes remember that two tenants waited at once
	wake   chan struct{} // holds one token while something may be new
	shut   chan struct{} // closed by close
}

// lane is what one tenant has waiting, a ring.
type lane struct {
	tenant  im.TenantID
	ring    []pending
	head, n int
	bytes   int
	credit  int // bytes it may still take in this turn; in debt after a large command
}

const (
	maxQueueBytes = 8 << 20 // of the commands that wait
	commandBytes  = 512     // a command without its text and users, with who replies to it

	// laneShare and laneShareBytes are what a tenant gets of a full queue.
	laneShare      = 64
	laneShareBytes = 256 << 10
	// quantum is what a lane may take in its turn (deficit round robin): two short
	// messages, or a part of a long one, which then sits out some turns.
	quantum = 2 * commandBytes
	// smallBatch bounds a batch while, or a while after, tenants met in the queue:
	// who comes while a batch is being written waits for less of others' work.
	smallBatch  = 128
	rememberFor = 256 // batches
	idleLanes   = 64
	idleRing    = 256 // a longer ring is not kept
)

func newQueue(limit int) *queue {
	return &queue{limit: limit, lanes: map[im.TenantID]*lane{}, wake: make(chan struct{}, 1), shut: make(chan struct{})}
}

type verdict uint8

const (
	queued verdict = iota
	full
	shut
)

func (p *pending) bytes() int {
	return len(p.cmd.Text) + 20*(len(p.cmd.Users)+len(p.cmd.Mentions)) + commandBytes
}

// put appends p. A call is taken even when the queue is full: there are only a
// few of them, each made by one waiting goroutine of ours.
func (q *queue) put(p pending) verdict {
	v := q.add(p)
	if v == queued {
		q.signal()
	}
	return v
}

func (q *queue) add(p pending) verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return shut
	}
	q.order++
	p.order = q.order
	if p.call != nil {
		q.calls = append(q.calls, p)
		return queued
	}
	l := q.lanes[p.cmd.Actor.Tenant]
	if (q.n >= q.limit || q.bytes >= maxQueueBytes) && !q.mayShare(l) {
		return full
	}
	if l == nil {
		l = q.open(p.cmd.Actor.Tenant)
	}
	l.push(p)
	n := p.bytes()
	l.bytes += n
	q.n, q.bytes = q.n+1, q.bytes+n
	return queued
}

// mayShare tells whether a tenant holds less of a full queue than its share.
func (q *queue) mayShare(l *lane) bool {
	if l == nil {
		return len(q.turn) > 0
	}
	all := len(q.turn)
	return l.n < min(laneShare, q.limit/all) && l.bytes < min(laneShareBytes, maxQueueBytes/all)
}

func (q *queue) open(t im.TenantID) *lane {
	var l *lane
	if n := len(q.idle); n > 0 {
		l, q.idle = q.idle[n-1], q.idle[:n-1]
	} else {
		l = &lane{ring: make([]pending, 16)}
	}
	l.tenant, l.credit = t, 0
	q.lanes[t] = l
	q.turn = append(q.turn, l)
	return l
}

func (q *queue) retire(l *lane) {
	delete(q.lanes, l.tenant)
	if len(q.idle) < idleLanes && len(l.ring) <= idleRing {
		q.idle = append(q.idle, l)
	}
}

func (l *lane) push(p pending) {
	if l.n == len(l.ring) {
		ring := make([]pending, 2*l.n)
		n := copy(ring, l.ring[l.head:])
		copy(ring[n:], l.ring[:l.head])
		l.ring, l.head = ring, 0
	}
	l.ring[(l.head+l.n)%len(l.ring)] = p
	l.n++
}

func (l *lane) pop() pending {
	p := l.ring[l.head]
	l.ring[l.head] = pending{} // the ring must not keep it alive
	l.head = (l.head + 1) % len(l.ring)
	l.n--
	return p
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits until there is something and returns the next batch of at most
// most commands; nil when the queue is closed and empty. The slice is valid until
// the next take.
func (q *queue) take(most int) []pending {
	for {
		q.mu.Lock()
		if q.n > 0 || len(q.calls) > 0 {
			q.gather(most)
			q.mu.Unlock()
			return q.out
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.wake
	}
}

// gather fills out from the lanes in turn, then with the calls that have nothing
// older before them.
func (q *queue) gather(most int) {
	q.out = q.out[:0] // what was in it was cleared by whoever took it
	if len(q.turn) > 1 {
		q.rivals = rememberFor
	}
	if q.rivals > 0 {
		q.rivals--
		most = min(most, smallBatch)
	}
	for len(q.turn) > 0 && len(q.out) < most {
		l := q.turn[0]
		q.turn = append(q.turn[:0], q.turn[1:]...)
		for l.credit += quantum; l.credit > 0 && l.n > 0 && len(q.out) < most; {
			p := l.pop()
			n := p.bytes()
			l.credit -= n
			l.bytes -= n
			q.n, q.bytes = q.n-1, q.bytes-n
			q.out = append(q.out, p)
		}
		if l.n == 0 {
			q.retire(l)
		} else {
			q.turn = append(q.turn, l)
		}
	}
	for len(q.calls) > 0 && !q.older(q.calls[0].order) {
		q.out = append(q.out, q.calls[0])
		q.calls = append(q.calls[:0], q.calls[1:]...)
	}
}

// older tells whether a command waits that came before order.
func (q *queue) older(order uint64) bool {
	for _, l := range q.turn {
		if l.ring[l.head].order < order {
			return true
		}
	}
	return false
}

// close refuses everything from now on; what waits is still taken.
func (q *queue) close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.shut)
	}
	q.mu.Unlock()
	q.signal()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.n
}
