package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/hub"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/metrics"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testLoop runs what is posted on a goroutine of its own.
type testLoop struct {
	mu    sync.Mutex
	queue []func()
	some  chan struct{}
	done  chan struct{}
	ended bool
}

func newTestLoop() *testLoop {
	l := &testLoop{some: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for range l.some {
			l.mu.Lock()
			fns, ended := l.queue, l.ended
			l.queue = nil
			l.mu.Unlock()
			for _, fn := range fns {
				fn()
			}
			if ended {
				return
			}
		}
	}()
	return l
}

func (l *testLoop) Post(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.queue = append(l.queue, fn)
	l.signal()
	return true
}

func (l *testLoop) signal() {
	select {
	case l.some <- struct{}{}:
	default:
	}
}

func (l *testLoop) stop() {
	l.mu.Lock()
	l.ended = true
	l.signal()
	l.mu.Unlock()
	<-l.done
}

// do runs fn on the loop and waits.
func (l *testLoop) do(fn func()) {
	done := make(chan struct{})
	l.Post(func() { fn(); close(done) })
	<-done
}

// fakeAuth knows tokens by heart. A token that begins with "cold" is not in its
// cache; one that begins with "once" is revoked after it was judged once;
// "broken" can't be judged.
type fakeAuth struct {
	mu     sync.Mutex
	users  map[string]*im.User // by token
	refuse map[string]error
	gate   chan struct{} // while not nil, Verify of cold tokens waits for its end
}

func (a *fakeAuth) VerifyCached(token string) (im.Actor, *im.User, bool, error) {
	if len(token) >= 4 && token[:4] == "cold" || token == "broken" {
		return im.Actor{}, nil, false, nil
	}
	actor, u, err := a.judge(token)
	return actor, u, true, err
}

func (a *fakeAuth) Verify(_ context.Context, token string) (im.Actor, *im.User, error) {
	a.mu.Lock()
	gate := a.gate
	a.mu.Unlock()
	if gate != nil && token[:4] == "cold" {
		<-gate
	}
	return a.judge(token)
}

func (a *fakeAuth) judge(token string) (im.Actor, *im.User, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if token == "broken" {
		return im.Actor{}, nil, errors.New("disk on fire")
	}
	if err := a.refuse[token]; strings.HasPrefix(token, "once") && err == nil {
		defer func() { a.refuse[token] = auth.ErrToken }()
	}
	err := a.refuse[token]
	u := a.users[token]
	if err == nil && u == nil {
		err = auth.ErrToken
	}
	if err != nil {
		return im.Actor{}, nil, &im.Error{Kind: im.Unauthenticated, Message: "please sign in", Cause: err}
	}
	return im.Actor{Tenant: u.Tenant, User: u.ID, Role: u.Role, SignIn: im.SignInID("i_" + token)}, u, nil
}

// world is a whole server but for sockets and disk.
type world struct {
	store *storetest.Model
	bus   *membus.Bus
	dir   *directory.Directory
	auth  *fakeAuth
	chat  *chat.Chat
	hub   *hub.Hub
	gw    *Gateway
	loops []*testLoop
	log   io.Writer
}

// people are the users of every world: the token of each is the name.
var people = []struct {
	tenant, name string
	role         im.Role
}{
	{"oakhill", "ann", im.RoleStaff}, {"oakhill", "bob", im.RoleMember}, {"oakhill", "cat", im.RoleMember},
	{"oakhill", "gus", im.RoleGuest}, {"elmwood", "eve", im.RoleStaff},
}

type worldOptions struct {
	limits  im.Limits
	perUser int
	workers int
	log     io.Writer
}

// newWorld makes one; end takes it down.
func newWorld(t testing.TB, o worldOptions) *world {
	t.Helper()
	if o.limits == (im.Limits{}) {
		o.limits = im.Limits{FrameBytes: im.DefaultFrameBytes, TextBytes: im.DefaultTextBytes, SendsPerMinute: im.DefaultSendsPerMin}
	}
	if o.log == nil {
		o.log = io.Discard
	}
	ctx := context.Background()
	w := &world{store: storetest.NewModel(time.Now), bus: membus.New(), log: o.log}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	w.auth = &fakeAuth{users: map[string]*im.User{}, refuse: map[string]error{}}
	for _, p := range people {
		tenant := im.TenantID(p.tenant)
		must(w.store.UpdateTenant(ctx, tenant, func(old *im.Tenant) (*im.Tenant, error) {
			return &im.Tenant{ID: tenant, Name: p.tenant + " school"}, nil
		}))
		u := im.User{Tenant: tenant, ID: im.UserID("u_" + p.name), Username: p.name, Name: p.name + " lee", Role: p.role}
		must(w.store.UpdateUser(ctx, tenant, u.ID, func(*im.User) (*im.User, error) { return &u, nil }))
	}
	var err error
	log := slog.New(slog.NewTextHandler(o.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.dir, err = directory.New(ctx, directory.Options{People: w.store, Records: w.store, Bus: w.bus, Log: log})
	must(err)
	for _, p := range people {
		u, _ := w.dir.User(im.TenantID(p.tenant), im.UserID("u_"+p.name))
		w.auth.users[p.name], w.auth.users["cold-"+p.name], w.auth.users["once-"+p.name] = u, u, u
	}
	w.chat, err = chat.New(chat.Options{Store: w.store, Bus: w.bus, Users: w.dir, Rand: &counter{},
		Limits: func() im.Limits { return o.limits }, Log: log})
	must(err)
	var loops []hub.Loop
	for range 2 {
		l := newTestLoop()
		w.loops = append(w.loops, l)
		loops = append(loops, l)
	}
	w.hub = hub.New(hub.Options{Bus: w.bus, Loops: loops, SessionsPerUser: func() int { return o.perUser }, Log: log})
	w.gw = New(Options{Auth: w.auth, Directory: w.dir, Chat: w.chat, Hub: w.hub, Epoch: w.store.Epoch,
		Limits: func() im.Limits { return o.limits }, Metrics: metrics.New("test"), Log: log, Workers: o.workers,
		Origins: func() []string { return []string{"https://chat.example", "intra.example:8443"} }})
	return w
}

// end takes the world down in the order of the server. Connections must be gone.
func (w *world) end() {
	ctx := context.Background()
	for _, l := range w.loops {
		l.stop()
	}
	w.gw.Close(ctx)
	w.chat.Close(ctx)
	w.hub.Close()
	w.bus.Close()
	w.store.Close()
}

func (w *world) publish(e bus.Event) { w.bus.Publish([]bus.Event{e}) }

// counter is randomness that counts, so that ids can be told apart by eye.
type counter struct {
	mu sync.Mutex
	n  uint64
}

func (c *counter) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	rng := rand.New(rand.NewPCG(c.n, 0))
	for i := range p {
		p[i] = byte(rng.Uint32())
	}
	return len(p), nil
}

// fakeConn is a connection that writes down what it is given.
type fakeConn struct {
	name string
	loop *testLoop
	s    *session
	got  func(c *fakeConn, text string) // of each frame, on the loop

	mu      sync.Mutex
	waiting bool
	closed  bool
}

// connect opens a connection on a loop.
func (w *world) connect(name string, loop int, t *ticket, got func(*fakeConn, string)) *fakeConn {
	c := &fakeConn{name: name, loop: w.loops[loop], got: got}
	c.loop.do(func() {
		timer := time.AfterFunc(helloTimeout, func() {
			c.loop.Post(func() { c.s.Close(4201, "no hello came") })
		})
		c.s = w.gw.open(c, w.gw.loops[loop], t, func() { timer.Stop() })
	})
	return c
}

func (c *fakeConn) Write(frames []byte) {
	for _, p := range split(frames) {
		c.got(c, string(p))
	}
}

func (c *fakeConn) Waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waiting
}

// Close is like netloop's: Closed comes at the end of the turn.
func (c *fakeConn) Close(code uint16, reason string) {
	if !c.closed {
		c.closed = true
		c.got(c, fmt.Sprintf("closed %d %s", code, reason))
		c.loop.Post(func() { c.s.end(code, reason) })
	}
}

// send gives the session a message, without waiting.
func (c *fakeConn) send(p string) { c.loop.Post(func() { c.take(p) }) }

func (c *fakeConn) take(p string) {
	if !c.closed {
		c.s.message([]byte(p))
	}
}

// hangUp is the peer going away.
func (c *fakeConn) hangUp() {
	c.loop.do(func() {
		if !c.closed {
			c.closed = true
			c.s.end(1006, "hung up")
		}
	})
}

// split cuts a run of unmasked text frames into payloads (RFC 6455 §5.2).
func split(b []byte) (payloads [][]byte) {
	for len(b) > 0 {
		if b[0] != 0x81 {
			return append(payloads, fmt.Appendf(nil, "bad header %x", b[0]))
		}
		n, head := int(b[1]), 2
		switch n {
		case 126:
			n, head = int(binary.BigEndian.Uint16(b[2:])), 4
		case 127:
			n, head = int(binary.BigEndian.Uint64(b[2:])), 10
		}
		payloads = append(payloads, b[head:head+n])
		b = b[head+n:]
	}
	return payloads
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu  sync.Mutex
	buf []byte
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	return len(p), nil
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.buf)
}
