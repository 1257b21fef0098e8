package chat

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// world is a Chat on the model store and the in-process bus, with a clock and
// users of its own, and a record of everything that was published.
type world struct {
	t     testing.TB
	store *storetest.Model
	bus   bus.Bus
	chat  *Chat
	opts  Options

	clock atomic.Int64 // milliseconds
	mono  atomic.Int64 // nanoseconds

	mu     sync.Mutex
	people map[userKey]*im.User
	events []bus.Event
}

const tenant = im.TenantID("oakhill")

// newWorld has the users olga (owner), ann and ada (staff), ben, cid and dan
// (members) and gus (guest), whose ids are their names behind "u_".
func newWorld(t testing.TB, with ...func(*Options)) *world {
	w := &world{t: t, bus: membus.New(), people: map[userKey]*im.User{}}
	w.clock.Store(1000)
	w.store = storetest.NewModel(func() time.Time { return time.UnixMilli(w.clock.Load()) })
	for name, role := range map[string]im.Role{"olga": im.RoleOwner, "ann": im.RoleStaff, "ada": im.RoleStaff,
		"ben": im.RoleMember, "cid": im.RoleMember, "dan": im.RoleMember, "gus": im.RoleGuest} {
		w.user(name, role)
	}
	w.opts = Options{
		Store: w.store, Bus: w.bus, Users: w,
		Now:    func() time.Time { return time.UnixMilli(w.clock.Load()) },
		Mono:   func() time.Duration { return time.Duration(w.mono.Load()) },
		Limits: func() im.Limits { return im.Limits{TextBytes: 100, SendsPerMinute: 0} },
		Rand:   rand.NewChaCha8([32]byte{1}),
	}
	for _, f := range with {
		f(&w.opts)
	}
	w.bus.Subscribe(func(events []bus.Event) {
		w.mu.Lock()
		w.events = append(w.events, events...)
		w.mu.Unlock()
	})
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *world) start() {
	var err error
	if w.chat, err = New(w.opts); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.chat.Close(ctx); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

func (w *world) user(name string, role im.Role) im.Actor {
	u := &im.User{Tenant: tenant, ID: im.UserID("u_" + name), Username: name, Name: strings.ToUpper(name[:1]) + name[1:], Role: role}
	w.mu.Lock()
	w.people[userKey{tenant, u.ID}] = u
	w.mu.Unlock()
	return im.Actor{Tenant: tenant, User: u.ID, Role: role}
}

// User implements Users.
func (w *world) User(t im.TenantID, id im.UserID) (*im.User, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u, ok := w.people[userKey{t, id}]
	return u, ok
}

func (w *world) actor(name string) im.Actor {
	u, ok := w.User(tenant, im.UserID("u_"+name))
	if !ok {
		return im.Actor{Tenant: tenant, User: im.UserID("u_" + name), Role: im.RoleMember}
	}
	return im.Actor{Tenant: tenant, User: u.ID, Role: u.Role}
}

// settle waits until everything submitted so far was answered and published.
func (w *world) settle() {
	done := make(chan struct{})
	if w.chat.queue.put(pending{call: func() { close(done) }}) == queued {
		<-done
	}
}

// hold stops the commit goroutine between two batches until the returned func is
// called, so that what is submitted meanwhile becomes one batch.
func (w *world) hold() (release func()) {
	gate, at := make(chan struct{}), make(chan struct{})
	w.chat.queue.put(pending{call: func() { close(at); <-gate }})
	<-at
	return func() { close(gate) }
}

// taken returns the events since the last call.
func (w *world) taken() []bus.Event {
	w.settle()
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.events
	w.events = nil
	return e
}

// do runs one command and fails the test on an error.
func (w *world) do(cmd *Command) Result {
	w.t.Helper()
	res, err := w.chat.Do(context.Background(), cmd)
	if err != nil {
		w.t.Fatalf("%v by %s: %v", cmd.Op, cmd.Actor.User, err)
	}
	return res
}

// try runs one command that may fail.
func (w *world) try(cmd *Command) error {
	_, err := w.chat.Do(context.Background(), cmd)
	return err
}

var keys atomic.Int64

func newKey() string { return fmt.Sprintf("key-%d", keys.Add(1)) }

// bodyOf stands in for wire's hash of the body.
func bodyOf(cmd *Command) (b [16]byte) {
	text := fmt.Sprint(cmd.Op, cmd.Conv, cmd.Text, cmd.ReplyTo, cmd.Target, cmd.Mentions, cmd.Emoji, cmd.On, cmd.Kind, cmd.Title, cmd.Users)
	h := uint64(14695981039346656037)
	for i := 0; i < len(text); i++ {
		h = (h ^ uint64(text[i])) * 1099511628211
		b[i%16] ^= byte(h >> 32)
	}
	return b
}

// group makes a group of owner and the others.
func (w *world) group(kind im.ConvKind, owner im.Actor, others ...im.Actor) im.ConvID {
	w.t.Helper()
	cmd := &Command{Op: Create, Actor: owner, Key: newKey(), Kind: kind, Title: "Room"}
	for _, o := range others {
		cmd.Users = append(cmd.Users, o.User)
	}
	return w.do(cmd).Head.ID
}

func (w *world) send(who im.Actor, cv im.ConvID, text string) im.Seq {
	w.t.Helper()
	return w.do(&Command{Op: Send, Actor: who, Conv: cv, Key: newKey(), Text: text}).Seq
}

var _ Store = (store.Store)(nil)
