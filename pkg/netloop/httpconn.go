package netloop

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// httpBacklog is how many connections may wait for net/http to accept them. Beyond
// it, they are answered 503.
const httpBacklog = 128

// httpListener is where net/http gets its connections.
type httpListener struct {
	s     *Server
	conns chan net.Conn
	done  chan struct{}
	close sync.Once
}

func newHTTPListener(s *Server) *httpListener {
	return &httpListener{s: s, conns: make(chan net.Conn, httpBacklog), done: make(chan struct{})}
}

func (h *httpListener) Accept() (net.Conn, error) {
	select {
	case <-h.done: // first, so that nothing is accepted after Close
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *httpListener) Close() error {
	h.close.Do(func() { close(h.done) })
	return nil
}

// Addr is the address of the first listener.
func (h *httpListener) Addr() net.Addr {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if len(h.s.listeners) > 0 {
		return h.s.listeners[0].addr
	}
	return &net.TCPAddr{}
}

// offer gives a connection to net/http without waiting.
func (h *httpListener) offer(c net.Conn) bool {
	select {
	case <-h.done:
		return false
	default:
	}
	select {
	case h.conns <- c:
		return true
	default:
		return false
	}
}

// discard closes what nobody accepted. After Close, with the loops stopped.
func (h *httpListener) discard() {
	for {
		select {
		case c := <-h.conns:
			_ = c.Close()
		default:
			return
		}
	}
}

// handOver gives the connection to net/http, with what was read of it: p is lent.
func (c *Conn) handOver(p []byte) {
	l := c.loop
	s := l.s
	if c.out != nil { // an unread TLS alert or key update; nothing that HTTP could go on from
		c.destroy()
		return
	}
	_ = l.ep.Del(int(c.fd))
	nc, err := netConn(int(c.fd))
	c.fd = -1
	if err != nil {
		s.log.Error("hand a connection to net/http", "err", err)
		c.destroy()
		return
	}
	handed := handedConn{prefix: append([]byte(nil), p...)}
	addr := c.addr()
	handed.release = sync.OnceFunc(func() { s.admit.leave(addr) })
	var conn net.Conn
	if c.tls == nil {
		conn = &plainHanded{TCPConn: nc, handedConn: handed}
	} else {
		c.tls.wire.block(nc)
		conn = &tlsHanded{Conn: c.tls.conn, wire: c.tls.wire, handedConn: handed}
	}
	c.forget()
	if s.http.offer(conn) {
		s.n.http.Add(1)
		return
	}
	s.n.httpRefused.Add(1)
	if c.tls == nil {
		// One attempt that cannot wait: it fits into an empty socket buffer.
		if raw, err := nc.SyscallConn(); err == nil {
			_ = raw.Write(func(fd uintptr) bool {
				_, _ = unix.Write(int(fd), problem(http.StatusServiceUnavailable, "busy, try again", "Retry-After: 1\r\n"))
				return true
			})
		}
	}
	_ = nc.Close()
	handed.release()
}

// netConn makes a net.Conn of a non-blocking socket. fd is taken, also in error.
func netConn(fd int) (*net.TCPConn, error) {
	f := os.NewFile(uintptr(fd), "")
	if f == nil {
		return nil, unix.EBADF
	}
	defer func() { _ = f.Close() }() // FileConn has its own duplicate
	nc, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		_ = nc.Close()
		return nil, unix.ENOTSOCK
	}
	return tc, nil
}

// handedConn is what both kinds of connections for net/http have: bytes that were
// read before, and the count of connections to be told of the close.
type handedConn struct {
	prefix  []byte
	release func()
}

// takePrefix serves what was read before.
func (h *handedConn) takePrefix(p []byte) int {
	n := copy(p, h.prefix)
	if h.prefix = h.prefix[n:]; len(h.prefix) == 0 {
		h.prefix = nil
	}
	return n
}

// plainHanded is a connection without TLS. What TCPConn can do beyond net.Conn and
// net/http asks for (ReadFrom, CloseWrite) comes through.
type plainHanded struct {
	*net.TCPConn
	handedConn
}

func (c *plainHanded) Read(p []byte) (int, error) {
	if c.prefix != nil {
		return c.takePrefix(p), nil
	}
	return c.TCPConn.Read(p)
}

// WriteTo hides TCPConn's, which would leave out the prefix.
func (c *plainHanded) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{c})
}

func (c *plainHanded) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}

// tlsHanded is a TLS connection. Its ConnectionState makes net/http fill Request.TLS.
type tlsHanded struct {
	*tls.Conn
	wire *tlsWire
	handedConn
}

func (c *tlsHanded) Read(p []byte) (int, error) {
	if c.prefix != nil {
		return c.takePrefix(p), nil
	}
	return c.Conn.Read(p)
}

func (c *tlsHanded) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// TakeBack gives a connection that net/http has back to the loops, with the request
// that it is in. It is for upgrades of WSPath that come on a kept-alive connection: a
// proxy may reuse one that served plain HTTP before. The loop then sees the request as
// if it had come first, and answers it: 101 or what refuses it. On an error, nothing was
// done, and the caller answers. Call it from an http.Handler, and return.
func (s *Server) TakeBack(w http.ResponseWriter, r *http.Request) error {
	if r.ProtoMajor != 1 || r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return errors.New("netloop: a WebSocket upgrade is a request of HTTP/1.1 without a body")
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s %s\r\nHost: %s\r\n", r.Method, r.RequestURI, r.Proto, r.Host)
	if err := r.Header.Write(&head); err != nil {
		return fmt.Errorf("netloop: write the request anew: %w", err)
	}
	head.WriteString("\r\n")
	// What the loop would not take for an upgrade it would hand over again, and
	// so for ever. What it can't read it refuses by itself.
	if h, err := parseHead(head.Bytes()); err == nil && !h.wantsWebSocket(s.cfg.WSPath) {
		return errors.New("netloop: not an upgrade of the WebSocket path")
	}
	nc, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("netloop: take the connection: %w", err)
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		behind, _ := buffered.Reader.Peek(n) // cannot fail: they are buffered
		head.Write(behind)
	}
	s.takeBack(nc, head.Bytes())
	return nil
}

func (s *Server) takeBack(nc net.Conn, p []byte) {
	var layer *tlsLayer
	var tcp *net.TCPConn
	switch c := nc.(type) {
	case *plainHanded:
		tcp, p = c.TCPConn, append(p, c.prefix...)
	case *tlsHanded:
		tcp, p = c.wire.nc.(*net.TCPConn), append(p, c.prefix...)
		layer = &tlsLayer{conn: c.Conn, wire: c.wire}
	default: // a connection that did not come from HTTP()
		_ = nc.Close()
		return
	}
	fd := -1
	raw, err := tcp.SyscallConn()
	if err == nil {
		fd, err = dupRaw(raw)
	}
	if err != nil {
		s.log.Error("take a connection back from net/http", "err", err)
		_ = nc.Close()
		return
	}
	remote := tcp.RemoteAddr().(*net.TCPAddr).AddrPort()
	_ = tcp.Close() // not nc: the connection goes on being counted
	l := s.fewest()
	l.n.conns.Add(1)
	if !l.Post(func() {
		if c := l.adopt(fd, remote, false); c != nil {
			c.resume(layer, p)
		}
	}) {
		l.orphan(fd, remote)
	}
}

// resume goes on with a connection that came back, where it was.
func (c *Conn) resume(layer *tlsLayer, p []byte) {
	if layer == nil {
		c.headInput(p)
		return
	}
	layer.wire.nc, layer.wire.c = nil, c
	c.tls = layer
	c.headInput(p)
	if c.tls == layer {
		layer.pump(c) // it may have read on
	}
}
