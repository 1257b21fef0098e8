package client

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/goleak"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// The tests run in a bubble (testing/synctest) with a server that does what the
// test says, over net.Pipe: time is the bubble's, and nothing waits for real.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server hands the connections that a client dials to the test.
type server struct {
	t      *testing.T
	conns  chan net.Conn
	refuse atomic.Bool // dialling fails
}

func newServer(t *testing.T) *server { return &server{t: t, conns: make(chan net.Conn)} }

func (s *server) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	if s.refuse.Load() {
		return nil, errors.New("refused")
	}
	mine, theirs := net.Pipe()
	select {
	case s.conns <- mine:
		return theirs, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// start returns a client of s whose jitter is always the longest.
func (s *server) start(o Options) *Client {
	o.URL, o.Token, o.Dial = "http://pipit.test", "token", s.dial
	if o.Jitter == nil {
		o.Jitter = func(n time.Duration) time.Duration { return n }
	}
	c := New(o)
	s.t.Cleanup(func() {
		s.refuse.Store(true)
		c.Close()
	})
	return c
}

// peer is the server's end of one connection.
type peer struct {
	t  *testing.T
	nc net.Conn
}

// accept takes the next connection and upgrades it.
func (s *server) accept() *peer {
	s.t.Helper()
	p := &peer{t: s.t, nc: <-s.conns}
	u := ws.Upgrader{Protocol: func(b []byte) bool { return string(b) == "pipit.v1" }}
	if _, err := u.Upgrade(p.nc); err != nil {
		s.t.Fatalf("upgrade: %v", err)
	}
	s.t.Cleanup(func() { p.nc.Close() })
	return p
}

// request is what the client sent.
type request struct {
	ID     json.RawMessage
	Method string
	Params struct {
		Token, Epoch, Sync, Key, Text, Cursor string
		Conversation                          string
		After                                 uint64
	}
}

// frame reads one frame of the client.
func (p *peer) frame() ws.Frame {
	p.t.Helper()
	f := ws.Frame{}
	var err error
	if f.Header, err = ws.ReadHeader(p.nc); err == nil {
		f.Payload = make([]byte, f.Header.Length)
		_, err = io.ReadFull(p.nc, f.Payload)
	}
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	if !f.Header.Masked || !f.Header.Fin || f.Header.Rsv != 0 {
		p.t.Fatalf("the client sent a frame with the header %+v", f.Header)
	}
	return ws.UnmaskFrameInPlace(f)
}

// read reads one request.
func (p *peer) read() request {
	p.t.Helper()
	f := p.frame()
	var r request
	if f.Header.OpCode != ws.OpText || json.Unmarshal(f.Payload, &r) != nil {
		p.t.Fatalf("opcode %x %q, want a request", f.Header.OpCode, f.Payload)
	}
	return r
}

// want reads one request and checks its method.
func (p *peer) want(method string) request {
	p.t.Helper()
	r := p.read()
	if r.Method != method {
		p.t.Fatalf("got %s, want %s", r.Method, method)
	}
	return r
}

// quiet fails if the client sends anything within a second.
func (p *peer) quiet() {
	p.t.Helper()
	if err := p.nc.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		p.t.Fatal(err)
	}
	if h, err := ws.ReadHeader(p.nc); err == nil {
		p.t.Fatalf("the client sent a frame: %+v", h)
	}
	if err := p.nc.SetReadDeadline(time.Time{}); err != nil {
		p.t.Fatal(err)
	}
}

// wantClose reads until the client's close frame and returns its code.
func (p *peer) wantClose() uint16 {
	p.t.Helper()
	for {
		if f := p.frame(); f.Header.OpCode == ws.OpClose {
			return binary.BigEndian.Uint16(f.Payload)
		}
	}
}

func (p *peer) write(f ws.Frame) {
	p.t.Helper()
	if _, err := p.nc.Write(ws.MustCompileFrame(f)); err != nil {
		p.t.Fatalf("write: %v", err)
	}
}

// send writes one text message.
func (p *peer) send(format string, args ...any) {
	p.t.Helper()
	p.write(ws.NewTextFrame(fmt.Appendf(nil, format, args...)))
}

func (p *peer) reply(r request, result string) {
	p.t.Helper()
	p.send(`{"jsonrpc":"2.0","id":%s,"result":%s}`, r.ID, result)
}

func (p *peer) fail(r request, code int, data string) {
	p.t.Helper()
	p.send(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":"no","data":%s}}`, r.ID, code, data)
}

// hello answers the client's hello with heads, and further members of the result.
func (p *peer) hello(epoch, sync, heads, further string) request {
	p.t.Helper()
	r := p.want(wire.MethodHello)
	if r.Params.Token != "token" {
		p.t.Fatalf("token %q", r.Params.Token)
	}
	p.reply(r, helloResult(epoch, sync, heads, further))
	return r
}

func helloResult(epoch, sync, heads, further string) string {
	return fmt.Sprintf(`{"session":"s_1","user":{"id":"u_1","username":"ann","name":"Ann","role":"staff"},`+
		`"tenant":{"id":"oakhill","name":"Oakhill"},"epoch":%q,"sync":%q,"time":1790000500000,"heartbeat_ms":30000,`+
		`"limits":{"frame_bytes":65536,"text_bytes":16384,"sends_per_minute":120},"conversations":[%s]%s}`, epoch, sync, heads, further)
}

func head(id string, seq int) string {
	return fmt.Sprintf(`{"id":%q,"kind":"group","title":"T","head":%d,"read":0,"unread":0,"mentions":0,"role":"member","members":2,"updated":1790000400000}`, id, seq)
}

func entry(conv string, seq int) string {
	return fmt.Sprintf(`{"conversation":%q,"seq":%d,"time":1790000600000,"by":"u_2","kind":"message","text":"%s %d"}`, conv, seq, conv, seq)
}

// event sends the event of an entry.
func (p *peer) event(conv string, seq int) {
	p.t.Helper()
	p.send(`{"jsonrpc":"2.0","method":"entry","params":%s}`, entry(conv, seq))
}

// page answers a history request with entries from first to last.
func (p *peer) page(r request, first, last, head int) {
	p.t.Helper()
	var list []string
	for n := first; n <= last; n++ {
		list = append(list, entry(r.Params.Conversation, n))
	}
	p.reply(r, fmt.Sprintf(`{"entries":[%s],"head":%d}`, strings.Join(list, ","), head))
}

// close sends a close frame, reads until the client's and ends the connection.
func (p *peer) close(code uint16, reason string) {
	p.t.Helper()
	p.write(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusCode(code), reason)))
	if got := p.wantClose(); got != code {
		p.t.Fatalf("the client answered close code %d with %d", code, got)
	}
	p.nc.Close()
}

// notes is what handlers were told, one word each.
type notes struct {
	mu   sync.Mutex
	list []string
}

func (n *notes) add(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.list = append(n.list, fmt.Sprintf(format, args...))
}

// take returns what was noted since the last take, when everything has come to
// rest.
func (n *notes) take() string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	s := strings.Join(n.list, " ")
	n.list = nil
	return s
}

func (n *notes) want(t *testing.T, want string) {
	t.Helper()
	if got := n.take(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func (n *notes) handler() Handler {
	return Handler{
		Ready:    func(*wire.HelloResult) { n.add("ready") },
		Down:     func(err error, retry time.Duration) { n.add("down:%v", retry) },
		Entry:    func(m *im.Message) { n.add("%s:%d", m.Conv, m.Seq) },
		Reset:    func() { n.add("reset") },
		Changed:  func(h *im.Head) { n.add("changed:%s", h.ID) },
		Left:     func(h *im.Head) { n.add("left:%s", h.ID) },
		Read:     func(c im.ConvID, u im.UserID, s im.Seq) { n.add("read:%s:%s:%d", c, u, s) },
		Typing:   func(c im.ConvID, u im.UserID) { n.add("typing:%s:%s", c, u) },
		Presence: func(l []im.Presence) { n.add("presence:%d", len(l)) },
	}
}

func (n *notes) done(name string) func(Sent, error) {
	return func(s Sent, err error) {
		if err != nil {
			n.add("%s:%s", name, im.KindOf(err))
			return
		}
		again := ""
		if s.Repeat {
			again = "r"
		}
		n.add("%s=%d%s", name, s.Seq, again)
	}
}
