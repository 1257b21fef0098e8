package netloop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests; only a failure takes that long.
const patience = 20 * time.Second

// recorder is a Handler that echoes and writes down. Its hooks run on the loop.
type recorder struct {
	onOpen    func(*Conn)
	onMessage func(*Conn, []byte)

	opened chan *Conn
	closed chan closeEvent
}

type closeEvent struct {
	c     *Conn
	code  uint16
	cause string
}

func newRecorder() *recorder {
	return &recorder{opened: make(chan *Conn, 10_000), closed: make(chan closeEvent, 10_000)}
}

func (r *recorder) Open(c *Conn) {
	if r.onOpen != nil {
		r.onOpen(c)
	}
	r.opened <- c
}

func (r *recorder) Message(c *Conn, p []byte) {
	if r.onMessage != nil {
		r.onMessage(c, p)
		return
	}
	c.Write(AppendTextFrame(nil, p))
}

func (r *recorder) Closed(c *Conn, code uint16, cause string) { r.closed <- closeEvent{c, code, cause} }

// waitClosed is the next Closed event.
func (r *recorder) waitClosed(t testing.TB) closeEvent {
	t.Helper()
	select {
	case e := <-r.closed:
		return e
	case <-time.After(patience):
		t.Fatal("no Closed event")
		panic("unreachable")
	}
}

func (r *recorder) waitOpen(t testing.TB) *Conn {
	t.Helper()
	select {
	case c := <-r.opened:
		return c
	case <-time.After(patience):
		t.Fatal("no Open event")
		panic("unreachable")
	}
}

type testServer struct {
	*Server
	t    testing.TB
	rec  *recorder
	addr string
}

// startServer serves cfg on a port of 127.0.0.1, and checks at the end that every
// descriptor came back.
func startServer(t testing.TB, cfg Config) *testServer {
	t.Helper()
	before := countFDs(t)
	rec, _ := cfg.Handler.(*recorder)
	if cfg.Handler == nil {
		rec = newRecorder()
		cfg.Handler = rec
	}
	if cfg.Subprotocol == "" {
		cfg.Subprotocol = "pipit.v1"
	}
	if cfg.Loops == 0 {
		cfg.Loops = 2
	}
	if cfg.Linger == 0 {
		cfg.Linger = time.Second
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ts := &testServer{Server: s, t: t, rec: rec, addr: l.Addr().String()}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx, 4002, func() string { return "retry_ms=1" }); err != nil && err != context.Canceled {
			t.Errorf("shutdown: %v", err)
		}
		if n := s.Stats().QueuedBytes; n != 0 {
			t.Errorf("%d bytes still count as queued", n)
		}
		eventually(t, "descriptors to come back", func() bool { return countFDs(t) <= before })
	})
	if err := s.Serve(l, false); err != nil {
		t.Fatal(err)
	}
	return ts
}

func countFDs(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// eventually polls, for what no event tells.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// onLoop runs fn on l and waits for it.
func onLoop(t testing.TB, l *Loop, fn func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { fn(); close(done) }) {
		t.Fatal("the loop has stopped")
	}
	<-done
}

// client is the peer's end of one connection.
type client struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func (s *testServer) dial() *client {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.clientOn(c)
}

func (s *testServer) clientOn(c net.Conn) *client {
	_ = c.SetDeadline(time.Now().Add(patience))
	var once sync.Once
	s.t.Cleanup(func() { once.Do(func() { _ = c.Close() }) })
	return &client{Conn: c, t: s.t, br: bufio.NewReader(c)}
}

const upgradeHead = "GET /v1/ws?a=b HTTP/1.1\r\nHost: box.local\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: x, pipit.v1\r\n\r\n"

// open dials and upgrades.
func (s *testServer) open() *client {
	s.t.Helper()
	c := s.dial()
	c.send(upgradeHead)
	c.upgraded()
	return c
}

func (c *client) send(p string) {
	c.t.Helper()
	if _, err := io.WriteString(c, p); err != nil {
		c.t.Fatal(err)
	}
}

// upgraded reads the answer to an upgrade.
func (c *client) upgraded() {
	c.t.Helper()
	head := c.responseHead()
	for _, want := range []string{"HTTP/1.1 101 ", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Sec-WebSocket-Protocol: pipit.v1\r\n"} {
		if !strings.Contains(head, want) {
			c.t.Fatalf("no %q in %q", want, head)
		}
	}
}

func (c *client) responseHead() string {
	c.t.Helper()
	var b strings.Builder
	for {
		line, err := c.br.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			c.t.Fatalf("after %q: %v", b.String(), err)
		}
		if line == "\r\n" {
			return b.String()
		}
	}
}

// readServerFrame reads one frame of the server, which we trust with its length.
func readServerFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

// frame reads one frame.
func (c *client) frame() ws.Frame {
	c.t.Helper()
	f, err := readServerFrame(c.br)
	if err != nil {
		c.t.Fatalf("read a frame: %v", err)
	}
	if f.Header.Masked || f.Header.Rsv != 0 || !f.Header.Fin {
		c.t.Fatalf("bad server frame %+v", f.Header)
	}
	return f
}

func (c *client) expectText(want string) {
	c.t.Helper()
	if f := c.frame(); f.Header.OpCode != ws.OpText || string(f.Payload) != want {
		c.t.Fatalf("got %v %.60q, want text %.60q", f.Header.OpCode, f.Payload, want)
	}
}

// expectClose reads a close frame, answers it, and expects the end of the stream.
func (c *client) expectClose(code uint16, reason string) {
	c.t.Helper()
	f := c.frame()
	for f.Header.OpCode == ws.OpPing {
		f = c.frame()
	}
	if f.Header.OpCode != ws.OpClose || len(f.Payload) < 2 {
		c.t.Fatalf("got %v %q, want a close frame", f.Header.OpCode, f.Payload)
	}
	got := binary.BigEndian.Uint16(f.Payload)
	if got != code || reason != "*" && string(f.Payload[2:]) != reason {
		c.t.Fatalf("closed with %d %q, want %d %q", got, f.Payload[2:], code, reason)
	}
	_, _ = c.Write(clientFrame(0x88, string(f.Payload[:2]))) // the server may be gone already
	c.expectEOF()
}

func (c *client) expectEOF() {
	c.t.Helper()
	rest, err := io.ReadAll(c.br)
	if len(rest) > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		c.t.Fatalf("got %.60q %v, want the end of the stream", rest, err)
	}
}

// trickle sends byte by byte, each in a segment of its own.
func (c *client) trickle(p []byte) {
	c.t.Helper()
	for i := range p {
		if _, err := c.Write(p[i : i+1]); err != nil {
			c.t.Fatal(err)
		}
	}
}

func bigText(n int) string { return string(bytes.Repeat([]byte("pipit "), n/6+1)[:n]) }
