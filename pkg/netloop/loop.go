package netloop

import (
	"runtime"
	"time"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

const (
	scratchBytes = 64 << 10 // what a loop reads at once of a message that is under way
	fairBytes    = 16 << 10 // else: a flood of small messages has its turn, not more
	tlsChunk     = 16 << 10 // plaintext bytes encrypted at once: one record
	maxPending   = 8192     // frames gathered in a turn before it flushes early
	maxPendBytes = 4 << 20  // bytes, likewise
	maxIovecs    = 128      // frames in one writev
	keepBuffer   = 4 << 10  // bytes of a buffer that the free list may keep
	keepFree     = 64       // readers and queues that the free lists may keep

	// yieldEvery is how often a busy loop calls Go's scheduler. A goroutine that
	// does nothing but short system calls never does, and looks to the runtime as
	// if it had run without a break: after 10 ms its processor is taken away, and the
	// monitor thread that does so stays up for the next time. That cost 3,300
	// wake-ups a second and an eighth of the server's processor time
	// (tests/load/RESULTS.md); with this 375.
	yieldEvery = 5 * time.Millisecond
)

// Loop is one event loop: an epoll set, the connections in it, a mailbox and a
// timing wheel. All its fields but those marked belong to its goroutine.
//
// A turn is one callback of epoll: bytes of one connection, a burst of posts, due
// timers, or connections to accept. What connections are given to write during a
// turn leaves at its end, one write each.
type Loop struct {
	s       *Server
	id      int
	ep      *netpoll.Epoll
	box     mailbox // any goroutine
	wheel   wheel
	tfd     int       // timerfd
	armedAt int64     // tick for which tfd is set; noTick: not
	start   time.Time // tick 0
	now     time.Duration
	yielded time.Duration // the turn that called the scheduler last
	conns   []*Conn

	scratch  []byte // read buffer; what handlers are lent points into it
	plain    []byte // gathers plaintext for TLS; made when first needed
	iov      []unix.Iovec
	readers  []*frameReader // free list
	outs     []*outQueue    // free list
	pend     []pendFrame
	pendSize int // bytes in pend
	dirty    []*Conn
	ended    []ended

	stopping bool
	stopped  bool
	isEmpty  bool          // empty is closed
	empty    chan struct{} // closed when stopping and no connection is left
	n        loopCounters  // any goroutine
}

// ended is a connection whose Handler.Closed is due at the end of the turn.
type ended struct {
	c     *Conn
	code  uint16
	cause string
}

func newLoop(s *Server, id int) (*Loop, error) {
	l := &Loop{
		s: s, id: id, tfd: -1, armedAt: noTick, start: s.now(),
		scratch: make([]byte, scratchBytes),
		iov:     make([]unix.Iovec, maxIovecs),
		empty:   make(chan struct{}),
	}
	l.wheel.init()
	err := l.box.open()
	if err != nil {
		return nil, err
	}
	l.tfd, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err == nil {
		l.ep, err = netpoll.EpollCreate(&netpoll.EpollConfig{OnWaitError: func(err error) {
			s.log.Error("event loop cannot wait", "loop", id, "err", err)
			s.cfg.Fatal(err)
		}})
	}
	if err != nil {
		l.box.close()
		_ = unix.Close(l.tfd)
		return nil, err
	}
	// Edge-triggered, unlike the sockets: a wake-up then costs no read to silence it.
	// Each write to the eventfd and each expiry of the timerfd is an edge.
	if err = l.watch(l.box.efd, netpoll.EPOLLIN|netpoll.EPOLLET, l.onMailbox); err == nil {
		err = l.watch(l.tfd, netpoll.EPOLLIN|netpoll.EPOLLET, l.onTimer)
	}
	if err != nil {
		_ = l.ep.Close()
		l.box.close()
		_ = unix.Close(l.tfd)
		return nil, err
	}
	return l, nil
}

// watch registers fd.
func (l *Loop) watch(fd int, events netpoll.EpollEvent, cb func(netpoll.EpollEvent)) error {
	if err := l.ep.Add(fd, events, cb); err != nil {
		_ = l.ep.Del(fd) // Add leaves its callback behind when epoll_ctl fails
		return err
	}
	return nil
}

// stop ends the loop and waits for its goroutine. Not on the loop.
func (l *Loop) stop() {
	done := make(chan struct{})
	if !l.Post(func() {
		defer close(done)
		// Nothing may be left in the set: easygo calls back what is, from another
		// goroutine.
		_ = l.ep.Del(l.box.efd)
		_ = l.ep.Del(l.tfd)
		l.stopped = true
		l.box.run(l.box.close())
		_ = unix.Close(l.tfd)
	}) {
		return
	}
	<-done
	_ = l.ep.Close()
}

// ID is the loop's number, 0 to NumLoops-1. Any goroutine.
func (l *Loop) ID() int { return l.id }

// Post runs fn on the loop, after all that was posted before. It never blocks, and
// answers false, without running fn, once the loop has stopped. There is no bound:
// see mailbox for why, and Stats for the depth. Any goroutine.
func (l *Loop) Post(fn func()) bool { return l.box.post(fn, l.s.now) }

// Timer is a function that runs once on its loop.
type Timer struct {
	l    *Loop
	node wheelNode
	fn   func()
}

func (t *Timer) expire(int64) { t.fn() }

// After runs fn on the loop d after the beginning of this turn, not earlier, and
// about a millisecond later: a turn reads the clock once. Loop goroutine only.
func (l *Loop) After(d time.Duration, fn func()) *Timer {
	t := &Timer{l: l, fn: fn}
	t.node.owner = t
	l.wheel.add(&t.node, l.after(d))
	return t
}

// Stop keeps the timer from running; it answers whether it still would have. Loop
// goroutine only.
func (t *Timer) Stop() bool { return t.l.wheel.stop(&t.node) }

// Reset runs the function again d after the beginning of this turn, and not as
// planned before. Loop goroutine only.
func (t *Timer) Reset(d time.Duration) {
	t.l.wheel.stop(&t.node)
	t.l.wheel.add(&t.node, t.l.after(d))
}

// tick is the wheel's time of this turn.
func (l *Loop) tick() int64 { return int64(l.now / time.Millisecond) }

// after is the first tick that is d or more away from now.
func (l *Loop) after(d time.Duration) int64 {
	return int64((l.now + max(d, 0) + time.Millisecond - 1) / time.Millisecond)
}

func ticks(d time.Duration) int64 { return int64(d / time.Millisecond) }

func (l *Loop) begin() { l.now = l.s.now().Sub(l.start) }

// end flushes what the turn has gathered and tells of connections that ended,
// until neither makes more of the other.
func (l *Loop) end() {
	for {
		l.flush()
		if len(l.ended) == 0 {
			break
		}
		for i := 0; i < len(l.ended); i++ {
			e := l.ended[i]
			l.ended[i] = ended{}
			l.s.cfg.Handler.Closed(e.c, e.code, e.cause)
		}
		l.ended = l.ended[:0]
	}
	if l.stopping && !l.isEmpty && len(l.conns) == 0 {
		l.isEmpty = true
		close(l.empty)
	}
	if l.stopped {
		return
	}
	took := l.s.now().Sub(l.start) - l.now
	l.arm(took)
	l.n.turn(took)
	if l.now-l.yielded >= yieldEvery {
		l.yielded = l.now
		runtime.Gosched()
	}
}

// arm sets the timerfd for the next timer, took into the turn. A later time than
// what is set is left alone: waking up once in vain is cheaper than setting the
// timer in each turn.
func (l *Loop) arm(took time.Duration) {
	next := l.wheel.next()
	if next >= l.armedAt {
		return
	}
	l.armedAt = next
	wait := max(time.Duration(next)*time.Millisecond-l.now-took, 1)
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
	if err := unix.TimerfdSettime(l.tfd, 0, &spec, nil); err != nil {
		l.s.cfg.Fatal(err) // EINVAL or EBADF: timers would be dead
	}
}

func (l *Loop) onTimer(netpoll.EpollEvent) {
	if l.stopped {
		return
	}
	l.begin()
	l.armedAt = noTick
	l.wheel.advance(l.tick())
	l.end()
}

func (l *Loop) onMailbox(netpoll.EpollEvent) {
	if l.stopped {
		return
	}
	l.begin()
	l.n.lag(l.box.drain(l.start.Add(l.now)))
	l.end()
}

// closeAll begins the end: every open connection is closed, every unfinished one
// dropped.
func (l *Loop) closeAll(code uint16, reason func() string) {
	l.stopping = true
	for i := len(l.conns) - 1; i >= 0; i-- {
		switch c := l.conns[i]; c.phase {
		case phaseOpen:
			c.Close(code, reason())
		case phaseHead:
			c.destroy()
		}
	}
}

// dropAll cuts off what closeAll has left. Handshakes end by themselves: their
// context is cancelled.
func (l *Loop) dropAll() {
	for i := len(l.conns) - 1; i >= 0; i-- {
		if c := l.conns[i]; c.phase != phaseHandshake {
			c.drop(closeAbnormal, "server stopped")
		}
	}
}

// takeReader lends a frame reader to a connection that holds none.
func (l *Loop) takeReader() *frameReader {
	if n := len(l.readers); n > 0 {
		r := l.readers[n-1]
		l.readers = l.readers[:n-1]
		return r
	}
	return new(frameReader)
}

// giveReader takes an idle reader back.
func (l *Loop) giveReader(r *frameReader) {
	r.release(keepBuffer)
	if len(l.readers) < keepFree {
		l.readers = append(l.readers, r)
	}
}
