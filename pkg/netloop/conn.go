package netloop

import (
	"net/netip"
	"time"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

// phase is where a connection is in its life; it only moves down this list, but
// for handshake → head.
type phase uint8

const (
	phaseHead      phase = iota // first bytes: a request head or a TLS hello
	phaseHandshake              // with a handshake goroutine; fd is -1
	phaseOpen                   // an upgraded WebSocket
	phaseClosing                // last output drains, input is thrown away
	phaseGone                   // closed, or given to net/http; fd is -1
)

// Conn is one connection. Its methods are for its loop's goroutine, but where they
// say otherwise. It is small on purpose: thousands are idle (TestIdleHeap holds the
// bound). What only some connections need at some time hangs on a pointer.
type Conn struct {
	loop *Loop
	data any
	tls  *tlsLayer
	head *opening     // bytes before the upgrade, while they are incomplete
	rd   *frameReader // while a frame or message is incomplete
	out  *outQueue    // while output waits
	due  *closeDue    // while CloseAfter is pending

	timer wheelNode
	// mark is a tick: when the last byte came (phaseOpen), or when patience ends
	// (phaseHead, phaseClosing).
	mark  int64
	fd    int32
	index int32 // in loop.conns

	pendHead, pendTail int32 // first and last own frame in loop.pend, plus one; 0: none
	ip                 [16]byte
	port               uint16
	phase              phase
	pings              uint8 // sent since the last byte came
	opened             bool  // Handler.Open was called
	wantTLS            bool  // came in through a TLS listener
	peerClosed         bool  // a close frame was received
	finished           bool  // our side is shut down
}

// closeDue is a pending CloseAfter.
type closeDue struct {
	at     int64 // tick
	code   uint16
	reason string
}

// Loop is the loop that the connection belongs to, for life. Any goroutine.
func (c *Conn) Loop() *Loop { return c.loop }

// Data is what Config.Upgrade left in Request.Data, or SetData last set.
func (c *Conn) Data() any { return c.data }

// SetData keeps d with the connection.
func (c *Conn) SetData(d any) { c.data = d }

// Remote is the peer's address and port; IPv4 is not mapped, a zone is left out. Any
// goroutine.
func (c *Conn) Remote() netip.AddrPort { return netip.AddrPortFrom(c.addr(), c.port) }

func (c *Conn) addr() netip.Addr { return netip.AddrFrom16(c.ip).Unmap() }

// Closed tells whether the connection is closing or gone: writes go nowhere, no more
// messages come.
func (c *Conn) Closed() bool { return c.phase >= phaseClosing }

// Waiting tells whether output waits because the socket takes no more: what may be
// left out should be (PROTOCOL 8). Output of this turn does not count.
func (c *Conn) Waiting() bool { return c.out != nil }

// register puts an accepted or handshaken socket into the loop's epoll set.
func (c *Conn) register(fd int) error {
	if err := c.loop.watch(fd, netpoll.EPOLLIN, c.event); err != nil {
		return err
	}
	c.fd = int32(fd)
	return nil
}

// event is the turn of one connection.
func (c *Conn) event(ev netpoll.EpollEvent) {
	if c.fd < 0 {
		return // closed earlier in this batch of events; the number may be another's by now
	}
	l := c.loop
	l.begin()
	if ev&netpoll.EPOLLOUT != 0 {
		c.drainQueue()
	}
	if c.fd >= 0 && ev&^netpoll.EPOLLOUT != 0 {
		c.readable()
	}
	l.end()
}

func (c *Conn) readable() {
	if c.tls != nil && c.phase != phaseClosing {
		c.tls.pump(c)
		return
	}
	l := c.loop
	n, err := readFD(int(c.fd), l.scratch[:c.share()])
	switch {
	case err == unix.EAGAIN:
	case err != nil:
		c.drop(closeAbnormal, err.Error())
	case n == 0:
		c.drop(closeAbnormal, "end of stream")
	default:
		l.n.bytesIn.Add(uint64(n))
		c.input(l.scratch[:n])
	}
}

// share is how many bytes the connection may read in this turn.
func (c *Conn) share() int {
	if c.rd != nil {
		return scratchBytes
	}
	return fairBytes
}

// input takes what came, decrypted. p is the loop's, and changed.
func (c *Conn) input(p []byte) {
	switch c.phase {
	case phaseHead:
		c.headInput(p)
	case phaseOpen:
		c.mark, c.pings = c.loop.tick(), 0
		c.frames(p)
	}
}

// frames takes bytes of an open WebSocket.
func (c *Conn) frames(p []byte) {
	l := c.loop
	r := c.rd
	if r == nil {
		r = l.takeReader()
	}
	max := l.s.cfg.MaxMessageBytes()
	for len(p) > 0 && c.phase == phaseOpen {
		kind, payload, rest, fail := r.next(p, max)
		if fail != nil {
			l.s.n.closedFor(fail.code)
			c.Close(fail.code, fail.reason)
			break
		}
		p = rest
		if kind == frameNone {
			continue
		}
		l.n.framesIn.Add(1)
		switch kind {
		case frameText:
			l.s.cfg.Handler.Message(c, payload)
		case framePing:
			c.pong(payload)
		case frameClose:
			c.closeReceived(payload)
		}
	}
	switch {
	case c.phase != phaseOpen:
		c.rd = nil // dropped: what it holds must never reach another connection
	case r.idle():
		c.rd = nil
		l.giveReader(r)
	default:
		c.rd = r
	}
}

var (
	pingFrame = appendServerHeader(nil, opPing, 0)
	pongFrame = appendServerHeader(nil, opPong, 0)
)

// pong answers a ping (RFC 6455 §5.5.3) through the bounded output, so that a flood
// of pings that reads no answers ends as a slow consumer.
func (c *Conn) pong(payload []byte) {
	if len(payload) == 0 {
		c.Write(pongFrame)
		return
	}
	frame := appendServerHeader(make([]byte, 0, 2+len(payload)), opPong, len(payload))
	c.Write(append(frame, payload...))
}

func (c *Conn) closeReceived(payload []byte) {
	code, reason, fail := parseClose(payload)
	if fail != nil {
		c.loop.s.n.closedFor(fail.code)
		c.Close(fail.code, fail.reason)
		return
	}
	c.peerClosed = true
	c.closeWith(code, "", "closed by peer: "+string(reason))
}

// Close sends a close frame behind what is queued, then closes: at once if the peer
// has sent its own, else when the peer does or Config.Linger is over. Handler.Closed
// follows at the end of the turn. Later calls do nothing. reason is cut to 123 bytes.
func (c *Conn) Close(code uint16, reason string) { c.closeWith(code, reason, reason) }

func (c *Conn) closeWith(code uint16, reason, cause string) {
	if c.phase != phaseOpen {
		return
	}
	c.beginClosing(code, cause)
	c.push(appendCloseFrame(nil, code, reason))
}

// beginClosing leaves phaseOpen, or phaseHead with an answer written: what is queued
// drains, then our side shuts down, then the socket closes when the peer's side does.
// Closing at once would make the kernel reset the connection if input is unread, and
// a reset may overtake the close frame.
func (c *Conn) beginClosing(code uint16, cause string) {
	c.tell(code, cause)
	c.phase = phaseClosing
	c.rd, c.head, c.due = nil, nil, nil
	c.mark = c.loop.after(c.loop.s.cfg.Linger)
	c.rearm()
}

// tell queues Handler.Closed, once.
func (c *Conn) tell(code uint16, cause string) {
	if !c.opened {
		return
	}
	c.opened = false
	c.loop.s.n.sessions.Add(-1)
	c.loop.ended = append(c.loop.ended, ended{c, code, cause})
}

// drained is called when a closing connection has nothing left to write.
func (c *Conn) drained() {
	if c.finished {
		return
	}
	if c.tls != nil {
		c.tls.closeWrite()
		if c.fd < 0 || c.out != nil {
			return // close_notify waits; drained comes again
		}
	}
	c.finished = true
	if c.peerClosed {
		c.destroy()
		return
	}
	_ = unix.Shutdown(int(c.fd), unix.SHUT_WR)
}

// CloseAfter is Close(code, reason) after d, unless CancelClose comes first. There is
// one deadline a connection: a later call replaces it.
func (c *Conn) CloseAfter(d time.Duration, code uint16, reason string) {
	if c.phase != phaseOpen {
		return
	}
	c.due = &closeDue{at: c.loop.after(d), code: code, reason: reason}
	c.rearm()
}

// CancelClose takes CloseAfter back.
func (c *Conn) CancelClose() { c.due = nil }

// drop ends a connection without a word to the peer: it vanished, or it is beyond
// talking to.
func (c *Conn) drop(code uint16, cause string) {
	c.tell(code, cause)
	c.destroy()
}

// destroy closes the socket and forgets the connection.
func (c *Conn) destroy() {
	if c.phase == phaseGone {
		return
	}
	if c.fd >= 0 {
		c.closeFD()
	}
	c.forget()
	c.loop.s.admit.leave(c.addr())
}

// closeFD takes the socket out of the epoll set, then closes it: in this order, or
// the set's callback would outlive the number.
func (c *Conn) closeFD() {
	_ = c.loop.ep.Del(int(c.fd))
	_ = unix.Close(int(c.fd))
	c.fd = -1
}

// forget takes the connection off the loop. The socket is closed or someone else's.
func (c *Conn) forget() {
	l := c.loop
	c.phase = phaseGone
	l.wheel.stop(&c.timer)
	if c.out != nil {
		l.giveQueue(c)
	}
	c.rd, c.head, c.due, c.tls = nil, nil, nil, nil
	last := len(l.conns) - 1
	l.conns[c.index] = l.conns[last]
	l.conns[c.index].index = c.index
	l.conns[last] = nil
	l.conns = l.conns[:last]
	l.n.conns.Add(-1)
}

// rearm sets the connection's timer to its earliest deadline. A timer that is set
// earlier than needed stays: it finds nothing due and is set again then, which
// spares touching the wheel with each byte that comes.
func (c *Conn) rearm() {
	when := c.nextDeadline()
	if c.timer.armed() {
		if c.timer.when <= when {
			return
		}
		c.loop.wheel.stop(&c.timer)
	}
	if when != noTick {
		c.loop.wheel.add(&c.timer, when)
	}
}

func (c *Conn) nextDeadline() int64 {
	switch c.phase {
	case phaseHead, phaseClosing:
		return c.mark
	case phaseOpen:
	default:
		return noTick
	}
	when := noTick
	if beat := ticks(c.loop.s.cfg.Heartbeat); beat > 0 {
		when = c.mark + beat*int64(1+c.pings)
		if c.out != nil {
			when = min(when, c.out.progress+3*beat)
		}
	}
	if c.due != nil {
		when = min(when, c.due.at)
	}
	return when
}

// expire is the wheel's call: something may be due.
func (c *Conn) expire(now int64) {
	n := &c.loop.s.n
	switch c.phase {
	case phaseHead:
		if now >= c.mark {
			if c.head == nil && c.tls == nil {
				n.firstByte.Add(1)
			} else {
				n.head.Add(1)
			}
			c.destroy()
			return
		}
	case phaseClosing:
		if now >= c.mark {
			c.destroy()
			return
		}
	case phaseOpen:
		c.expireOpen(now)
	}
	c.rearm()
}

func (c *Conn) expireOpen(now int64) {
	n := &c.loop.s.n
	if d := c.due; d != nil && now >= d.at {
		n.deadline.Add(1)
		c.due = nil
		c.Close(d.code, d.reason)
		return
	}
	beat := ticks(c.loop.s.cfg.Heartbeat)
	switch {
	case beat <= 0:
	case c.out != nil && now >= c.out.progress+3*beat:
		n.writeStall.Add(1)
		c.drop(closeAbnormal, "output made no progress")
	case now >= c.mark+3*beat:
		n.heartbeat.Add(1)
		c.drop(closeAbnormal, "heartbeat")
	case now >= c.mark+beat*int64(1+c.pings):
		c.pings++
		c.push(pingFrame)
	}
}

// readFD reads without blocking; EINTR is not an answer.
func readFD(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return n, err
		}
	}
}
