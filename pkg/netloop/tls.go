package netloop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxHandshakes bounds the handshakes under way, those that wait for their peer
// included; each holds a goroutine. Beyond it, a new one is refused.
const maxHandshakes = 1024

// tlsFactory narrows the configurations that Config.TLS answers. A clone is made
// once for each, not for each handshake: session ticket keys are part of it.
type tlsFactory struct {
	mu   sync.Mutex
	from *tls.Config
	made *tls.Config
}

func (f *tlsFactory) config(from *tls.Config) *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.made == nil || f.from != from {
		made := from.Clone()
		made.MinVersion = max(made.MinVersion, tls.VersionTLS12)
		made.NextProtos = []string{"http/1.1"} // the front door reads nothing else
		if made.CurvePreferences == nil {
			// The hybrid default costs a Pi 3.3 M instructions a handshake instead
			// of 2.3 M, and twice the bytes.
			made.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		}
		f.from, f.made = from, made
	}
	return f.made
}

// tlsLayer is the TLS of one connection.
type tlsLayer struct {
	conn *tls.Conn
	wire *tlsWire
}

// errWouldBlock is a temporary net.Error, which tls.Conn does not remember: what was
// read of a record stays buffered (crypto/tls, readRecordOrCCS).
type errWouldBlock struct{}

func (errWouldBlock) Error() string   { return "would block" }
func (errWouldBlock) Timeout() bool   { return true }
func (errWouldBlock) Temporary() bool { return true }

// tlsWire is the net.Conn under a tls.Conn. It has two modes. Blocking, through a
// net.Conn: during the handshake, on its goroutine, and again once net/http has the
// connection. On the loop: reads answer errWouldBlock, writes go to the bounded output
// queue, which takes all.
type tlsWire struct {
	nc    net.Conn      // blocking mode
	gate  chan struct{} // tokens of Server.workers, while the handshake lasts
	ahead []byte        // read before the handshake began

	c      *Conn // loop mode
	budget int   // bytes that this turn may still read
	eof    bool
}

func (w *tlsWire) block(nc net.Conn) { w.nc, w.c = nc, nil }

func (w *tlsWire) Read(p []byte) (int, error) {
	if len(w.ahead) > 0 {
		n := copy(p, w.ahead)
		if w.ahead = w.ahead[n:]; len(w.ahead) == 0 {
			w.ahead = nil // an empty slice would keep the hello for life
		}
		return n, nil
	}
	if w.nc != nil {
		if w.gate == nil {
			return w.nc.Read(p)
		}
		// Waiting for the peer is not computing: a slow one must not hold a token.
		<-w.gate
		n, err := w.nc.Read(p)
		w.gate <- struct{}{}
		return n, err
	}
	if w.budget <= 0 {
		return 0, errWouldBlock{} // epoll is level-triggered: it calls again
	}
	n, err := readFD(int(w.c.fd), p[:min(len(p), w.budget)])
	switch {
	case err == unix.EAGAIN:
		w.budget = 0
		return 0, errWouldBlock{}
	case err != nil:
		return 0, err
	case n == 0:
		w.eof = true
		return 0, io.EOF
	}
	w.budget -= n
	w.c.loop.n.bytesIn.Add(uint64(n))
	return n, nil
}

// Write sends encrypted bytes. On the loop it always takes all: what the socket does
// not is copied to the queue, for p is the TLS layer's.
func (w *tlsWire) Write(p []byte) (int, error) {
	if w.nc != nil {
		return w.nc.Write(p)
	}
	c := w.c
	if c.fd < 0 {
		return 0, net.ErrClosed
	}
	n := 0
	if c.out == nil {
		var ok bool
		if n, ok = c.write(p); !ok {
			return 0, net.ErrClosed
		}
	}
	if n < len(p) {
		c.enqueue(bytes.Clone(p[n:]), 0)
	}
	return len(p), nil
}

func (w *tlsWire) Close() error {
	if w.nc != nil {
		return w.nc.Close()
	}
	return nil // the connection closes its socket
}

func (w *tlsWire) LocalAddr() net.Addr {
	if w.nc != nil {
		return w.nc.LocalAddr()
	}
	return &net.TCPAddr{}
}

func (w *tlsWire) RemoteAddr() net.Addr {
	if w.nc != nil {
		return w.nc.RemoteAddr()
	}
	return net.TCPAddrFromAddrPort(w.c.Remote())
}

func (w *tlsWire) SetDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetDeadline(t)
	}
	return nil // the wheel has the deadlines
}

func (w *tlsWire) SetReadDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetReadDeadline(t)
	}
	return nil
}

func (w *tlsWire) SetWriteDeadline(t time.Time) error {
	if w.nc != nil {
		return w.nc.SetWriteDeadline(t)
	}
	return nil
}

// handshake leaves the loop for a goroutine of its own: the handshake computes for
// milliseconds and its library blocks. first is the client's hello.
func (c *Conn) handshake(first []byte) {
	l := c.loop
	s := l.s
	if s.n.handshakes.Add(1) > maxHandshakes {
		s.n.handshakes.Add(-1)
		s.n.refusedHandshake.Add(1)
		c.destroy()
		return
	}
	fd := int(c.fd)
	_ = l.ep.Del(fd)
	c.fd, c.head, c.phase = -1, nil, phaseHandshake
	l.wheel.stop(&c.timer)
	s.shaking.Add(1)
	go func() {
		defer s.shaking.Done()
		layer, fd, err := s.shake(fd, first)
		s.n.handshakes.Add(-1)
		if !l.Post(func() { c.shaken(layer, fd, err) }) && err == nil {
			_ = unix.Close(fd)
		}
	}()
}

// shake runs on a handshake goroutine. fd is taken; the answer is another number for
// the same socket.
func (s *Server) shake(fd int, first []byte) (*tlsLayer, int, error) {
	nc, err := netConn(fd)
	if err != nil {
		return nil, -1, err
	}
	defer func() { _ = nc.Close() }()
	wire := &tlsWire{nc: nc, ahead: first}
	layer := &tlsLayer{conn: tls.Server(wire, s.tls.config(s.cfg.TLS())), wire: wire}
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.HandshakeTimeout)
	defer cancel()
	select {
	case s.workers <- struct{}{}:
	case <-ctx.Done():
		return nil, -1, ctx.Err()
	}
	wire.gate = s.workers
	err = layer.conn.HandshakeContext(ctx)
	wire.gate = nil
	<-s.workers
	if err != nil {
		return nil, -1, err
	}
	raw, err := nc.SyscallConn()
	if err != nil {
		return nil, -1, err
	}
	if fd, err = dupRaw(raw); err != nil {
		return nil, -1, err
	}
	wire.nc = nil
	return layer, fd, nil
}

// shaken is back on the loop.
func (c *Conn) shaken(layer *tlsLayer, fd int, err error) {
	l := c.loop
	if err != nil {
		l.s.n.handshakeFailed.Add(1)
		l.s.log.Debug("TLS handshake", "remote", c.Remote(), "err", err)
		c.destroy()
		return
	}
	if l.stopping {
		_ = unix.Close(fd)
		c.destroy()
		return
	}
	if err := c.register(fd); err != nil {
		l.s.log.Error("epoll add", "loop", l.id, "err", err)
		_ = unix.Close(fd)
		c.destroy()
		return
	}
	layer.wire.c = c
	c.tls, c.phase = layer, phaseHead
	c.mark = l.after(l.s.cfg.HeaderTimeout)
	c.rearm()
	// The TLS layer may have read on: epoll would never tell.
	layer.pump(c)
}

// pump reads until the TLS layer would block: it may hold decrypted bytes, or whole
// records, that epoll can't see. What it reads of the socket in a turn is bounded, so
// one sender can't keep the loop.
func (t *tlsLayer) pump(c *Conn) {
	l := c.loop
	t.wire.budget = c.share()
	for c.tls == t && c.phase < phaseClosing {
		n, err := t.fill(l.scratch)
		if n > 0 {
			c.input(l.scratch[:n])
		}
		if err == nil {
			continue
		}
		if c.tls != t || c.phase >= phaseClosing {
			return // ended, or handed over with its TLS, meanwhile
		}
		var wait errWouldBlock
		switch {
		case errors.As(err, &wait):
		case err == io.EOF && !t.wire.eof:
			c.drop(closeAbnormal, "close_notify")
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			c.drop(closeAbnormal, "end of stream")
		default:
			c.drop(closeAbnormal, err.Error())
		}
		return
	}
}

// fill reads records until p is full or nothing more is there, so that a message of
// several records is not copied aside.
func (t *tlsLayer) fill(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = t.conn.Read(p[n:])
		n += m
	}
	return n, err
}

// flush encrypts the frames that the turn has gathered, beginning with l.pend[at-1],
// as few records as they fit in.
func (t *tlsLayer) flush(c *Conn, at int32) {
	l := c.loop
	if l.plain == nil {
		l.plain = make([]byte, 0, tlsChunk)
	}
	buf := l.plain[:0]
	for ; at != 0; at = l.pend[at-1].next {
		frame := l.pend[at-1].frame
		if len(buf)+len(frame) > tlsChunk && len(buf) > 0 {
			if !t.write(c, buf) {
				return
			}
			buf = buf[:0]
		}
		if len(frame) > tlsChunk {
			if !t.write(c, frame) {
				return
			}
			continue
		}
		buf = append(buf, frame...)
	}
	if len(buf) > 0 {
		t.write(c, buf)
	}
}

// write encrypts p and sends or queues it. It answers false when the connection is
// gone, or was closed for being slow.
func (t *tlsLayer) write(c *Conn, p []byte) bool {
	if c.phase == phaseOpen && c.out != nil && c.out.bytes+len(p) > c.loop.s.cfg.MaxOutputBytes {
		c.slow()
		return false
	}
	if _, err := t.conn.Write(p); err != nil {
		c.drop(closeAbnormal, err.Error())
		return false
	}
	return c.fd >= 0
}

// closeWrite sends close_notify.
func (t *tlsLayer) closeWrite() {
	_ = t.conn.CloseWrite() // fails only with the socket, which has its own ways to tell
}
