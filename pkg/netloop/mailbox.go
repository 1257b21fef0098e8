package netloop

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// keepTasks is how many slots a mailbox keeps between bursts (8 bytes each).
const keepTasks = 4096

// mailbox is how other goroutines reach a loop: a queue with many producers and
// one consumer, and an eventfd that stands in the loop's epoll set, edge-triggered,
// so it is never read. One burst makes one wake-up: only the post that finds the box
// asleep writes to the eventfd.
//
// Bound and overflow: a mailbox never refuses and never drops (a dropped post would
// be a lost reply or a leaked connection). Its producers are bounded instead: the
// acceptor by the limits of connections, handshakes by theirs, the commit queue and
// the hub by their own. depth is the metric that shows a producer that is not.
type mailbox struct {
	efd   int
	depth atomic.Int64

	mu     sync.Mutex
	tasks  []func()  // guarded by mu
	since  time.Time // when the first of tasks came; guarded by mu
	asleep bool      // no wake-up is under way; guarded by mu
	closed bool      // guarded by mu

	spare []func() // loop goroutine only: the other half of the double buffer
}

func (m *mailbox) open() error {
	efd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	m.efd, m.asleep = efd, true
	return err
}

var eventOne = binary.NativeEndian.AppendUint64(nil, 1)

func (m *mailbox) post(fn func(), now func() time.Time) bool {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return false
	}
	m.tasks = append(m.tasks, fn)
	m.depth.Add(1)
	if m.asleep {
		m.asleep = false
		m.since = now()
		// Under mu, so that close cannot take the eventfd away in between. It
		// never blocks: one write a burst does not fill a counter of 64 bits.
		_, _ = unix.Write(m.efd, eventOne)
	}
	m.mu.Unlock()
	return true
}

// drain runs what waits, in order, and returns how long the first of it waited.
// What is posted meanwhile has its own turn. Loop goroutine only.
func (m *mailbox) drain(now time.Time) (lag time.Duration) {
	m.mu.Lock()
	tasks := m.tasks
	m.tasks, m.asleep = m.spare[:0], true
	m.spare = nil
	if len(tasks) > 0 {
		lag = now.Sub(m.since)
	}
	m.mu.Unlock()
	m.run(tasks)
	return lag
}

func (m *mailbox) run(tasks []func()) {
	for i, fn := range tasks {
		tasks[i] = nil
		m.depth.Add(-1)
		fn()
	}
	if cap(tasks) <= keepTasks {
		m.spare = tasks[:0]
	}
}

// close refuses further posts and returns the ones that came in before. Loop
// goroutine only.
func (m *mailbox) close() []func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	tasks := m.tasks
	m.tasks = nil
	_ = unix.Close(m.efd)
	return tasks
}
