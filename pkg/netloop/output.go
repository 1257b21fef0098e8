package netloop

import (
	"unsafe"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

// pendFrame is a frame that leaves at the end of the turn. The frames of one
// connection are linked by index, so that a turn's frames for a thousand connections
// stand in one reused array, and a connection that has none holds nothing.
type pendFrame struct {
	frame []byte
	next  int32 // index plus one; 0: the last
}

// outQueue is output that the socket did not take. It exists only while there is
// some. For plain connections it holds the callers' frames, not copies; for TLS
// ones, encrypted bytes of its own.
type outQueue struct {
	frames   [][]byte
	first    int   // index of the first that waits
	off      int   // bytes of it that were written
	bytes    int   // unwritten bytes, plus frameCost for each frame
	progress int64 // tick at which the socket last took something
}

// frameCost is what a waiting frame counts beyond its bytes: its slice header and
// about its allocation. Without it a flood of two-byte pongs could hold twenty times
// the bound.
const frameCost = 32

// Write sends frame: one or several complete server frames, header and payload. It
// is kept without a copy until it is written, so it must never change again; the
// same bytes may go to any number of connections. What is written in one turn leaves
// in one system call at its end. After Close it does nothing.
func (c *Conn) Write(frame []byte) {
	if c.phase == phaseOpen {
		c.push(frame)
	}
}

func (c *Conn) push(frame []byte) {
	l := c.loop
	l.n.framesOut.Add(1)
	l.pend = append(l.pend, pendFrame{frame: frame})
	at := int32(len(l.pend))
	if c.pendHead == 0 {
		c.pendHead = at
		l.dirty = append(l.dirty, c)
	} else {
		l.pend[c.pendTail-1].next = at
	}
	c.pendTail = at
	l.pendSize += len(frame)
	if len(l.pend) >= maxPending || l.pendSize >= maxPendBytes {
		l.flush()
	}
}

// flush writes what the turn has gathered: one write or writev for each connection.
func (l *Loop) flush() {
	if len(l.dirty) == 0 {
		return
	}
	for i, c := range l.dirty {
		l.dirty[i] = nil
		c.flush()
	}
	l.dirty = l.dirty[:0]
	clear(l.pend)
	l.pend, l.pendSize = l.pend[:0], 0
}

func (c *Conn) flush() {
	at := c.pendHead
	c.pendHead, c.pendTail = 0, 0
	if c.fd < 0 {
		return
	}
	if c.tls != nil {
		c.tls.flush(c, at)
	} else {
		c.flushPlain(at)
	}
	if c.phase == phaseClosing && c.out == nil {
		c.drained()
	}
}

func (c *Conn) flushPlain(at int32) {
	l := c.loop
	if c.out == nil && at != 0 && l.pend[at-1].next == 0 {
		frame := l.pend[at-1].frame
		n, ok := c.write(frame)
		if ok && n < len(frame) {
			c.enqueue(frame, n)
		}
		return
	}
	for at != 0 && c.out == nil {
		count, size := 0, 0
		first := at
		for ; at != 0 && count < len(l.iov); at = l.pend[at-1].next {
			if f := l.pend[at-1].frame; len(f) > 0 {
				setIovec(&l.iov[count], f)
				count++
				size += len(f)
			}
		}
		n, ok := c.writev(count)
		if !ok {
			return
		}
		if n == size {
			continue
		}
		for at = first; n >= len(l.pend[at-1].frame); at = l.pend[at-1].next {
			n -= len(l.pend[at-1].frame)
		}
		c.enqueue(l.pend[at-1].frame, n)
		at = l.pend[at-1].next
	}
	for ; at != 0 && c.enqueue(l.pend[at-1].frame, 0); at = l.pend[at-1].next {
	}
}

// enqueue keeps a frame that must wait, of which written bytes are on their way
// (only of the first in a queue). Over the bound, the connection is closed instead,
// and the answer is false.
func (c *Conn) enqueue(frame []byte, written int) bool {
	l := c.loop
	if len(frame) == 0 {
		return true
	}
	q := c.out
	if q == nil {
		q = l.takeQueue(c)
	} else if c.tls == nil && c.phase == phaseOpen && q.bytes+len(frame) > l.s.cfg.MaxOutputBytes {
		c.slow()
		return false
	}
	if written > 0 {
		q.off = written
	}
	q.frames = append(q.frames, frame)
	q.bytes += len(frame) - written + frameCost
	l.n.queued.Add(int64(len(frame) - written))
	return true
}

// slow closes a connection whose output passed its bound (PROTOCOL 3.9, 4001). The
// log is the truth: what is thrown away here, the client pulls when it is back. A
// frame that is half written stays, or the close frame could not be read; TLS records
// stay all, for each is numbered.
func (c *Conn) slow() {
	l := c.loop
	l.s.n.slow.Add(1)
	frame := appendCloseFrame(nil, closeSlowReader, "slow consumer")
	if c.tls == nil {
		q := c.out
		keep := q.first
		if q.off > 0 {
			keep++
		}
		for _, f := range q.frames[keep:] {
			q.bytes -= len(f) + frameCost
			l.n.queued.Add(-int64(len(f)))
		}
		clear(q.frames[keep:])
		q.frames = q.frames[:keep]
		c.beginClosing(closeSlowReader, "slow consumer")
		c.enqueue(frame, 0)
		return
	}
	c.beginClosing(closeSlowReader, "slow consumer")
	c.tls.write(c, frame)
}

// drainQueue writes what waits, now that the socket takes more.
func (c *Conn) drainQueue() {
	l := c.loop
	q := c.out
	if q == nil {
		return
	}
	for q.first < len(q.frames) {
		count, size := 0, 0
		for _, f := range q.frames[q.first:] {
			if count == len(l.iov) {
				break
			}
			if count == 0 {
				f = f[q.off:]
			}
			setIovec(&l.iov[count], f)
			count++
			size += len(f)
		}
		n, ok := c.writev(count)
		if !ok {
			return
		}
		if n > 0 {
			q.progress = l.tick()
			c.written(q, n)
		}
		if n < size {
			q.compact()
			return
		}
	}
	l.giveQueue(c)
	if c.phase == phaseClosing {
		c.drained()
	}
}

// written takes n bytes off the front.
func (c *Conn) written(q *outQueue, n int) {
	c.loop.n.queued.Add(-int64(n))
	q.bytes -= n
	for n > 0 {
		left := len(q.frames[q.first]) - q.off
		if n < left {
			q.off += n
			return
		}
		n -= left
		q.frames[q.first] = nil
		q.first++
		q.off = 0
		q.bytes -= frameCost
	}
}

// compact drops the written half of the array, so that a queue that never runs
// empty does not grow for ever.
func (q *outQueue) compact() {
	if q.first < 64 || q.first < len(q.frames)/2 {
		return
	}
	n := copy(q.frames, q.frames[q.first:])
	clear(q.frames[n:])
	q.frames, q.first = q.frames[:n], 0
}

// takeQueue gives c a queue and asks epoll when the socket takes more.
func (l *Loop) takeQueue(c *Conn) *outQueue {
	var q *outQueue
	if n := len(l.outs); n > 0 {
		q = l.outs[n-1]
		l.outs = l.outs[:n-1]
	} else {
		q = new(outQueue)
	}
	q.progress = l.tick()
	c.out = q
	if err := l.ep.Mod(int(c.fd), netpoll.EPOLLIN|netpoll.EPOLLOUT); err != nil {
		l.s.log.Error("epoll mod", "loop", l.id, "err", err)
	}
	c.rearm()
	return q
}

// giveQueue takes c's queue back, with all that is in it.
func (l *Loop) giveQueue(c *Conn) {
	q := c.out
	c.out = nil
	for i := q.first; i < len(q.frames); i++ {
		n := len(q.frames[i])
		if i == q.first {
			n -= q.off
		}
		l.n.queued.Add(-int64(n))
	}
	if c.fd >= 0 {
		if err := l.ep.Mod(int(c.fd), netpoll.EPOLLIN); err != nil {
			l.s.log.Error("epoll mod", "loop", l.id, "err", err)
		}
	}
	if cap(q.frames) <= keepFree && len(l.outs) < keepFree {
		clear(q.frames)
		*q = outQueue{frames: q.frames[:0]}
		l.outs = append(l.outs, q)
	}
}

// rawWrite is write(2) or writev(2) without a word to Go's scheduler before and
// after, which costs a third of what a delivery takes besides the kernel. The
// socket does not block, so nobody waits for this processor meanwhile.
func (c *Conn) rawWrite(trap uintptr, p unsafe.Pointer, n int) (int, error) {
	for {
		r, _, errno := unix.RawSyscall(trap, uintptr(c.fd), uintptr(p), uintptr(n))
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// write is write(2). ok is false if the connection is gone now; n is 0 if the socket
// takes nothing.
func (c *Conn) write(p []byte) (n int, ok bool) {
	n, err := c.rawWrite(unix.SYS_WRITE, unsafe.Pointer(unsafe.SliceData(p)), len(p))
	return c.wrote(n, 1, err)
}

// writev is writev(2) of the loop's first count iovecs. The wrapper of x/sys makes
// its own array, on the heap if it is long.
func (c *Conn) writev(count int) (n int, ok bool) {
	l := c.loop
	if count == 0 {
		return 0, true
	}
	n, err := c.rawWrite(unix.SYS_WRITEV, unsafe.Pointer(&l.iov[0]), count)
	clear(l.iov[:count]) // they would keep the frames alive
	return c.wrote(n, count, err)
}

func (c *Conn) wrote(n, frames int, err error) (int, bool) {
	l := c.loop
	l.n.writes.Add(1)
	switch {
	case err == unix.EAGAIN:
		return 0, true
	case err != nil:
		c.drop(closeAbnormal, err.Error())
		return 0, false
	}
	l.n.bytesOut.Add(uint64(n))
	if frames > 1 {
		l.n.gathered.Add(uint64(frames - 1))
	}
	return n, true
}

func setIovec(v *unix.Iovec, p []byte) {
	v.Base = unsafe.SliceData(p)
	v.SetLen(len(p))
}
