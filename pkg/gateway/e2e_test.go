package gateway

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/hub"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/metrics"
	"github.com/pipit-im/pipit/pkg/netloop"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// box is a server on a loopback socket with everything real but the disk.
type box struct {
	addr  string
	net   *netloop.Server
	store *storetest.Model
	dir   *directory.Directory
	auth  *auth.Auth
	chat  *chat.Chat
	hub   *hub.Hub
	gw    *Gateway
	bus   *membus.Bus
}

// late is the Handler that a netloop.Server gets before there is a gateway.
type late struct{ *Gateway }

func newBox(t testing.TB) *box {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	b := &box{store: storetest.NewModel(time.Now), bus: membus.New()}
	limits := func() im.Limits { return im.Limits{FrameBytes: 65536, TextBytes: 16384, SendsPerMinute: 120} }
	var err error
	b.dir, err = directory.New(ctx, directory.Options{People: b.store, Records: b.store, Bus: b.bus})
	must(err)
	_, err = b.dir.AddTenant(ctx, "oakhill", "Oakhill School")
	must(err)
	b.auth, err = auth.New(ctx, auth.Options{Tokens: b.store, Credentials: b.store, Records: b.store, Box: b.store, Users: b.dir,
		Limits: auth.Limits{ChecksPerMinutePerAddr: 100, FailuresPerHourPerAccount: 20, Hashes: 1}, Hashing: auth.Hashing{MemoryKiB: 64, Iterations: 1},
		Ended: func(list []auth.Ended) {
			for _, e := range list {
				b.bus.Publish([]bus.Event{{Kind: bus.SignedOut, Tenant: e.Tenant, User: e.User, SignIn: e.SignIn, Code: e.Code}})
			}
		}})
	must(err)
	b.chat, err = chat.New(chat.Options{Store: b.store, Bus: b.bus, Users: b.dir, Limits: limits})
	must(err)
	h := &late{}
	b.net, err = netloop.New(netloop.Config{Loops: 2, Handler: h, WSPath: "/v1/ws", Subprotocol: "pipit.v1",
		Upgrade: func(r *netloop.Request) error { return h.Upgrade(r) }, Heartbeat: 30 * time.Second, Linger: 50 * time.Millisecond})
	must(err)
	loops := []hub.Loop{b.net.Loop(0), b.net.Loop(1)}
	b.hub = hub.New(hub.Options{Bus: b.bus, Loops: loops})
	b.gw = New(Options{Auth: b.auth, Directory: b.dir, Chat: b.chat, Hub: b.hub, Epoch: b.store.Epoch, Limits: limits, Metrics: metrics.New("test")})
	h.Gateway = b.gw
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	b.addr = l.Addr().String()
	must(b.net.Serve(l, false))
	return b
}

func (b *box) end(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b.net.HTTP().Close()
	b.net.Shutdown(ctx, 4002, func() string { return "retry_ms=7" })
	b.gw.Close(ctx)
	b.chat.Close(ctx)
	b.hub.Close()
	b.bus.Close()
	b.store.Close()
}

// user makes a user and a token.
func (b *box) user(t testing.TB, name string) (*im.User, string) {
	t.Helper()
	u, err := b.dir.AddUser(context.Background(), "oakhill", directory.NewUser{Username: name, Name: name, Role: im.RoleStaff})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := b.auth.Issue(context.Background(), "oakhill", u.ID, "test")
	if err != nil {
		t.Fatal(err)
	}
	return &u, token
}

// socket is a client written for these tests alone.
type socket struct {
	t  *testing.T
	c  net.Conn
	rd *bufio.Reader
	id int
}

func (b *box) dial(t *testing.T, header string) (*socket, int) {
	t.Helper()
	c, err := net.Dial("tcp", b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET /v1/ws HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: pipit.v1\r\n%s\r\n", b.addr, header)
	s := &socket{t: t, c: c, rd: bufio.NewReader(c)}
	resp, err := http.ReadResponse(s.rd, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s, resp.StatusCode
}

// maskedFrame is a client's text frame (RFC 6455 §5.2) with a mask of zeros.
func maskedFrame(p string) []byte {
	b := []byte{0x81}
	if len(p) < 126 {
		b = append(b, 0x80|byte(len(p)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(p)))
	}
	return append(append(b, 0, 0, 0, 0), p...)
}

func (s *socket) request(method, params string) {
	s.t.Helper()
	s.id++
	if _, err := s.c.Write(maskedFrame(envelope(fmt.Sprint(s.id), method, params))); err != nil {
		s.t.Fatal(err)
	}
}

// next returns the next message, or "closed CODE REASON".
func (s *socket) next() string {
	s.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(s.rd, head[:]); err != nil {
		s.t.Fatal(err)
	}
	n := int(head[1])
	switch n {
	case 126:
		var b [2]byte
		io.ReadFull(s.rd, b[:])
		n = int(binary.BigEndian.Uint16(b[:]))
	case 127:
		var b [8]byte
		io.ReadFull(s.rd, b[:])
		n = int(binary.BigEndian.Uint64(b[:]))
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(s.rd, p); err != nil {
		s.t.Fatal(err)
	}
	if head[0] == 0x88 {
		return fmt.Sprintf("closed %d %s", binary.BigEndian.Uint16(p), p[2:])
	}
	return string(p)
}

// hello signs in and returns the result.
func (s *socket) hello(params string) string {
	s.t.Helper()
	s.request("session.hello", params)
	return s.next()
}

func (s *socket) expect(want string) {
	s.t.Helper()
	if got := s.next(); !strings.Contains(got, want) {
		s.t.Fatalf("heard %s, want …%s…", got, want)
	}
}

func TestOverSockets(t *testing.T) {
	b := newBox(t)
	defer b.end(t)
	annUser, annToken := b.user(t, "ann")
	bobUser, bobToken := b.user(t, "bob")

	if _, status := b.dial(t, "Origin: https://evil.example\r\n"); status != 403 {
		t.Errorf("another site's page: status %d, want 403", status)
	}
	x, _ := b.dial(t, "")
	x.request("session.ping", "{}")
	x.expect("closed 4201")
	x, _ = b.dial(t, "")
	if got := x.hello(`{"token":"pt_oakhill_nonsense"}`); !strings.Contains(got, `"unauthenticated"`) {
		t.Errorf("a token that is none: %s", got)
	}
	x.expect("closed 4101")

	ann, _ := b.dial(t, "")
	if got := ann.hello(fmt.Sprintf(`{"token":%q}`, annToken)); !strings.Contains(got, string(annUser.ID)) {
		t.Fatal(got)
	}
	// A browser: the cookie, and an Origin that is ours.
	bob, status := b.dial(t, fmt.Sprintf("Origin: http://%s\r\nCookie: pipit=%s\r\n", b.addr, bobToken))
	if status != 101 {
		t.Fatal(status)
	}
	if got := bob.hello("{}"); !strings.Contains(got, string(bobUser.ID)) {
		t.Fatal(got)
	}
	ann.request("conversation.direct", fmt.Sprintf(`{"user":%q}`, bobUser.ID))
	var r struct{ Result struct{ ID im.ConvID } }
	if err := json.Unmarshal([]byte(ann.next()), &r); err != nil || r.Result.ID == "" {
		t.Fatal(err)
	}
	ann.expect("conversation.changed")
	bob.expect("conversation.changed")
	for i := range 20 {
		ann.request("message.send", fmt.Sprintf(`{"conversation":%q,"key":"k%d","text":"hello %d"}`, r.Result.ID, i, i))
	}
	for seq := 1; seq <= 20; seq++ {
		bob.expect(fmt.Sprintf(`"seq":%d,`, seq))
	}
	replies, entries := 0, 0
	for replies < 20 || entries < 20 {
		switch got := ann.next(); {
		case strings.Contains(got, `"result"`):
			replies++
		case strings.Contains(got, `"entry"`):
			if entries++; entries > replies {
				t.Fatalf("entry %d came before its reply", entries)
			}
		default:
			t.Fatal(got)
		}
	}
	// Signing out ends the session, and the token.
	if err := b.auth.RevokeUser(context.Background(), "oakhill", annUser.ID); err != nil {
		t.Fatal(err)
	}
	ann.expect("closed 4101")
	ann, _ = b.dial(t, "")
	ann.hello(fmt.Sprintf(`{"token":%q}`, annToken))
	ann.expect("closed 4101")
	// The box stops.
	go b.net.Shutdown(context.Background(), 4002, func() string { return "retry_ms=7" })
	bob.expect("closed 4002 retry_ms=7")
}
