package chat

import "sync"

// pending is a command that waits for its reply.
type pending struct {
	cmd *Command
	to  Replier
	// counted: the rate limit saw this command already, so that running it a
	// second time (see Chat.fail) does not count twice; limited is its verdict.
	counted bool
	limited error
	// call, when set, is run by the commit goroutine instead of a command.
	call func()
}

// queue is the bounded queue in front of the commit goroutine, bounded by number
// and by bytes. Its overflow policy is to refuse: the sender keeps the request
// and tries again (PROTOCOL 2, unavailable). What the commit goroutine has taken
// does not count any more, so in all there is at most twice the bound.
type queue struct {
	mu     sync.Mutex
	items  []pending
	spare  []pending // the slice that take handed out last, empty
	closed bool
	limit  int
	bytes  int           // of items
	wake   chan struct{} // holds one token while items or closed may be new
}

const (
	maxQueueBytes = 8 << 20 // of the commands that wait
	commandBytes  = 512     // a command without its text and users, with who replies to it
)

func newQueue(limit int) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

type verdict uint8

const (
	queued verdict = iota
	full
	shut
)

// put appends p. A call is taken even when the queue is full: there are only a
// few of them, each made by one waiting goroutine of ours.
func (q *queue) put(p pending) verdict {
	q.mu.Lock()
	switch {
	case q.closed:
		q.mu.Unlock()
		return shut
	case p.call == nil && (len(q.items) >= q.limit || q.bytes >= maxQueueBytes):
		q.mu.Unlock()
		return full
	}
	q.items = append(q.items, p)
	if p.cmd != nil {
		q.bytes += len(p.cmd.Text) + 20*(len(p.cmd.Users)+len(p.cmd.Mentions)) + commandBytes
	}
	q.mu.Unlock()
	q.signal()
	return queued
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take waits until there is something and returns all of it, in order; nil when
// the queue is closed and empty. The slice is valid until the next take.
func (q *queue) take() []pending {
	for {
		q.mu.Lock()
		if n := len(q.items); n > 0 {
			items := q.items
			q.items, q.bytes = q.spare[:0], 0
			q.spare = items
			q.mu.Unlock()
			return items
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return nil
		}
		<-q.wake
	}
}

// close refuses everything from now on; what waits is still taken.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}
