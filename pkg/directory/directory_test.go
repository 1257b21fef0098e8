package directory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// recorder is a bus that keeps what was published, and what the directory said
// of the tenant and user at that moment.
type recorder struct {
	bus.Bus
	dir    *Directory
	mu     sync.Mutex
	events []bus.Event
	seen   []string
}

func (r *recorder) Publish(events []bus.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range events {
		t, _ := r.dir.Tenant(e.Tenant)
		u, ok := r.dir.User(e.Tenant, e.User)
		r.events = append(r.events, e)
		r.seen = append(r.seen, fmt.Sprintf("suspended=%v disabled=%v", t.Suspended, ok && u.Disabled))
	}
}

// counter is randomness that a test can foresee; safe for concurrent use.
type counter struct{ n atomic.Uint32 }

func (c *counter) Read(p []byte) (int, error) {
	n := c.n.Add(1)
	for i := range p {
		p[i] = byte(n >> (8 * (i % 4)))
	}
	return len(p), nil
}

var start = time.UnixMilli(1_790_000_000_000)

// keeps is what a directory needs of the store.
type keeps interface {
	store.People
	store.Records
}

func newDirectory(t testing.TB, people keeps) (*Directory, *recorder) {
	t.Helper()
	rec := &recorder{}
	now := func() time.Time { return start }
	if m, ok := people.(*storetest.Model); ok {
		now = m.Now // as in the server: it must not be asked while the store is busy with an update
	}
	d, err := New(t.Context(), Options{People: people, Records: people, Bus: rec, Now: now, Rand: &counter{}})
	if err != nil {
		t.Fatal(err)
	}
	rec.dir = d
	return d, rec
}

func model() *storetest.Model { return storetest.NewModel(func() time.Time { return start }) }

func role(r im.Role) *im.Role { return &r }

func wantKind(t *testing.T, err error, k im.Kind, field string) {
	t.Helper()
	var e *im.Error
	if !errors.As(err, &e) || e.Kind != k || e.Field != field {
		t.Fatalf("error %v, want kind %v on field %q", err, k, field)
	}
	if e.Message == "" && k != im.Internal {
		t.Fatalf("error %v has no text for people", err)
	}
}

func mustTenant(t testing.TB, d *Directory, id im.TenantID) {
	t.Helper()
	if _, err := d.AddTenant(t.Context(), id, "Tenant "+string(id)); err != nil {
		t.Fatal(err)
	}
}

func mustUser(t testing.TB, d *Directory, ten im.TenantID, username, name string) im.User {
	t.Helper()
	u, err := d.AddUser(t.Context(), ten, NewUser{Username: username, Name: name, Role: im.RoleMember})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// same compares what two directories know.
func same(t *testing.T, a, b *Directory) {
	t.Helper()
	if got, want := a.Tenants(), b.Tenants(); !slices.Equal(got, want) {
		t.Fatalf("tenants %v, want %v", got, want)
	}
	for _, ten := range a.Tenants() {
		ua, _ := a.Users(ten.ID, "", MaxUsersPage)
		ub, _ := b.Users(ten.ID, "", MaxUsersPage)
		if !slices.EqualFunc(ua, ub, func(x, y *im.User) bool { return *x == *y }) {
			t.Fatalf("users of %s differ", ten.ID)
		}
	}
}

func TestTenants(t *testing.T) {
	m := model()
	d, rec := newDirectory(t, m)
	ctx := t.Context()
	if _, ok := d.OnlyTenant(); ok {
		t.Fatal("an empty box has an only tenant")
	}
	oak, err := d.AddTenant(ctx, "oakhill", "")
	if err != nil || oak != (im.Tenant{ID: "oakhill", Name: "oakhill", Created: im.Millis(start.UnixMilli())}) {
		t.Fatalf("added %+v, %v", oak, err)
	}
	if id, ok := d.OnlyTenant(); !ok || id != "oakhill" {
		t.Fatalf("only tenant %q, %v", id, ok)
	}
	mustTenant(t, d, "elm")
	if _, ok := d.OnlyTenant(); ok {
		t.Fatal("two tenants, and one is the only one")
	}
	_, err = d.AddTenant(ctx, "elm", "again")
	wantKind(t, err, im.Exists, "id")
	for _, bad := range []im.TenantID{"", "Elm", "a b", "ä", "a/b", im.TenantID(strings.Repeat("a", im.MaxIDBytes+1))} {
		_, err = d.AddTenant(ctx, bad, "x")
		wantKind(t, err, im.Invalid, "id")
		err = d.RenameTenant(ctx, bad, "x")
		wantKind(t, err, im.NotFound, "tenant")
	}
	_, err = d.AddTenant(ctx, "ash", "a\nb")
	wantKind(t, err, im.Invalid, "name")
	err = d.RenameTenant(ctx, "ash", "Ash")
	wantKind(t, err, im.NotFound, "tenant")
	if err := d.RenameTenant(ctx, "elm", " Elm Road "); err != nil {
		t.Fatal(err)
	}
	if got := d.Tenants(); len(got) != 2 || got[0].ID != "elm" || got[0].Name != "Elm Road" || got[1].ID != "oakhill" {
		t.Fatalf("tenants %+v", got)
	}

	err = d.SuspendTenant(ctx, "ash", true)
	wantKind(t, err, im.NotFound, "tenant")
	for range 2 { // the second time nothing is stored, but sockets close again
		err := d.SuspendTenant(ctx, "elm", true)
		if got, _ := d.Tenant("elm"); err != nil || !got.Suspended || got.Name != "Elm Road" {
			t.Fatalf("suspended %+v, %v", got, err)
		}
	}
	err = d.SuspendTenant(ctx, "elm", false)
	if got, _ := d.Tenant("elm"); err != nil || got.Suspended {
		t.Fatalf("opened %+v, %v", got, err)
	}
	want := bus.Event{Kind: bus.SignedOut, Tenant: "elm", Code: 4202}
	if len(rec.events) != 2 || rec.events[0] != want || rec.events[1] != want {
		t.Fatalf("published %+v", rec.events)
	}
	if rec.seen[0] != "suspended=true disabled=false" {
		t.Fatalf("when it was published: %s", rec.seen[0])
	}
	again, _ := newDirectory(t, m)
	same(t, again, d)
}

func TestEraseTenant(t *testing.T) {
	m := model()
	d, rec := newDirectory(t, m)
	mustTenant(t, d, "elm")
	mustTenant(t, d, "oak")
	ann := mustUser(t, d, "elm", "ann", "Ann")
	mustUser(t, d, "oak", "ann", "Ann")
	wantKind(t, d.EraseTenant(t.Context(), "ash"), im.NotFound, "tenant")
	if err := d.EraseTenant(t.Context(), "elm"); err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Tenant("elm"); ok {
		t.Fatal("tenant is still there")
	}
	if _, ok := d.User("elm", ann.ID); ok {
		t.Fatal("user is still there")
	}
	if len(rec.events) != 1 || rec.events[0] != (bus.Event{Kind: bus.SignedOut, Tenant: "elm", Code: 4202}) {
		t.Fatalf("published %+v", rec.events)
	}
	if _, ok := d.ByUsername("oak", "ann"); !ok {
		t.Fatal("another tenant's user is gone")
	}
	_, err := d.AddUser(t.Context(), "elm", NewUser{Username: "bob", Role: im.RoleMember})
	wantKind(t, err, im.NotFound, "tenant")
	_, err = d.UpdateUser(t.Context(), "elm", ann.ID, UserChange{Role: role(im.RoleStaff)})
	wantKind(t, err, im.NotFound, "user")
	if us, err := m.Users(t.Context(), "elm"); err != nil || len(us) != 0 {
		t.Fatalf("the store still has %v, %v", us, err)
	}
	again, _ := newDirectory(t, m)
	same(t, again, d)
}

func TestUsers(t *testing.T) {
	m := model()
	d, rec := newDirectory(t, m)
	ctx := t.Context()
	mustTenant(t, d, "oak")
	mustTenant(t, d, "elm")
	ann, err := d.AddUser(ctx, "oak", NewUser{Username: "ANN", Name: " Ann Lee ", Role: im.RoleStaff})
	if err != nil {
		t.Fatal(err)
	}
	if ann.Username != "ann" || ann.Name != "Ann Lee" || ann.Role != im.RoleStaff || ann.Tenant != "oak" ||
		ann.Created != im.Millis(start.UnixMilli()) || len(ann.ID) != 18 || !strings.HasPrefix(string(ann.ID), "u_") {
		t.Fatalf("added %+v", ann)
	}
	_, err = d.AddUser(ctx, "oak", NewUser{Username: "Ann", Role: im.RoleMember})
	wantKind(t, err, im.Exists, "username")
	if !strings.Contains(err.Error(), "There is a user ann already.") {
		t.Fatalf("the error does not name the user: %v", err)
	}
	other := mustUser(t, d, "elm", "ann", "")
	if other.Name != "ann" || other.ID == ann.ID {
		t.Fatalf("added %+v", other)
	}
	for field, n := range map[string]NewUser{
		"username": {Username: "a b", Role: im.RoleMember},
		"name":     {Username: "bob", Name: "\x00", Role: im.RoleMember},
		"role":     {Username: "bob", Role: 99},
	} {
		_, err = d.AddUser(ctx, "oak", n)
		wantKind(t, err, im.Invalid, field)
	}
	_, err = d.AddUser(ctx, "oak", NewUser{Username: "bob"})
	wantKind(t, err, im.Invalid, "role")
	_, err = d.AddUser(ctx, "ash", NewUser{Username: "bob", Role: im.RoleMember})
	wantKind(t, err, im.NotFound, "tenant")

	if u, ok := d.User("oak", ann.ID); !ok || *u != ann {
		t.Fatalf("by id: %+v, %v", u, ok)
	}
	if _, ok := d.User("elm", ann.ID); ok {
		t.Fatal("a user is known in another tenant")
	}
	for _, name := range []string{"ann", "Ann", " ANN ", "ＡＮＮ"} {
		if u, ok := d.ByUsername("oak", name); !ok || u.ID != ann.ID {
			t.Fatalf("by name %q: %+v, %v", name, u, ok)
		}
	}
	for _, name := range []string{"", "an", "anna", "a nn", "\xff"} {
		if u, ok := d.ByUsername("oak", name); ok {
			t.Fatalf("by name %q: %+v", name, u)
		}
	}

	before, _ := d.User("oak", ann.ID)
	lee := "Ann Li"
	if u, err := d.UpdateUser(ctx, "oak", ann.ID, UserChange{Name: &lee, Role: role(im.RoleAdmin)}); err != nil || u.Name != lee || u.Role != im.RoleAdmin || u.Username != "ann" {
		t.Fatalf("updated %+v, %v", u, err)
	}
	if before.Name != "Ann Lee" {
		t.Fatal("a record that was handed out has changed")
	}
	empty := " "
	_, err = d.UpdateUser(ctx, "oak", ann.ID, UserChange{Name: &empty})
	wantKind(t, err, im.Invalid, "name")
	_, err = d.UpdateUser(ctx, "oak", ann.ID, UserChange{Role: role(77)})
	wantKind(t, err, im.Invalid, "role")
	for _, id := range []im.UserID{"", "u_nobody", other.ID} {
		_, err = d.UpdateUser(ctx, "oak", id, UserChange{Role: role(im.RoleAdmin)})
		wantKind(t, err, im.NotFound, "user")
	}

	for range 2 {
		err := d.DisableUser(ctx, "oak", ann.ID, true)
		if u, _ := d.User("oak", ann.ID); err != nil || !u.Disabled || u.Name != lee {
			t.Fatalf("disabled %+v, %v", u, err)
		}
	}
	err = d.DisableUser(ctx, "oak", ann.ID, false)
	if u, _ := d.User("oak", ann.ID); err != nil || u.Disabled {
		t.Fatalf("enabled %+v, %v", u, err)
	}
	want := bus.Event{Kind: bus.SignedOut, Tenant: "oak", User: ann.ID, Code: 4102}
	if len(rec.events) != 2 || rec.events[0] != want || rec.events[1] != want {
		t.Fatalf("published %+v", rec.events)
	}
	if rec.seen[0] != "suspended=false disabled=true" {
		t.Fatalf("when it was published: %s", rec.seen[0])
	}
	again, _ := newDirectory(t, m)
	same(t, again, d)
}

// What the store refused is not to be seen.
func TestRefusedByTheStore(t *testing.T) {
	m := model()
	d, rec := newDirectory(t, m)
	mustTenant(t, d, "oak")
	ann := mustUser(t, d, "oak", "ann", "Ann")
	m.SetState(store.Full, "no room")
	ctx := t.Context()
	_, err := d.AddTenant(ctx, "elm", "Elm")
	wantKind(t, err, im.Unavailable, "")
	err = d.SuspendTenant(ctx, "oak", true)
	wantKind(t, err, im.Unavailable, "")
	_, err = d.AddUser(ctx, "oak", NewUser{Username: "bob", Role: im.RoleMember})
	wantKind(t, err, im.Unavailable, "")
	err = d.DisableUser(ctx, "oak", ann.ID, true)
	wantKind(t, err, im.Unavailable, "")
	wantKind(t, d.EraseTenant(ctx, "oak"), im.Unavailable, "")
	if len(rec.events) != 0 {
		t.Fatalf("published %+v", rec.events)
	}
	if tenants, users := d.Size(); tenants != 1 || users != 1 {
		t.Fatalf("%d tenants, %d users", tenants, users)
	}
	again, _ := newDirectory(t, m)
	same(t, again, d)
	m.SetState(store.Writable, "")
	mustUser(t, d, "oak", "bob", "Bob")
}

func TestAddUsers(t *testing.T) {
	m := model()
	d, _ := newDirectory(t, m)
	mustTenant(t, d, "oak")
	mustUser(t, d, "oak", "taken", "")
	list := []NewUser{
		{Username: "bob", Role: im.RoleMember}, {Username: "Bob", Role: im.RoleMember}, {Username: "taken", Role: im.RoleMember},
		{Username: "ann", Role: im.RoleMember}, {Username: "", Role: im.RoleMember}, {Username: "cid"}}
	wants := []im.Kind{im.Internal, im.Exists, im.Exists, im.Internal, im.Invalid, im.Invalid}
	for i, a := range d.AddUsers(t.Context(), "oak", list) {
		if ok := wants[i] == im.Internal; ok != (a.Err == nil) || ok != (a.User.ID != "") || !ok && !im.Is(a.Err, wants[i]) {
			t.Fatalf("user %d: %+v, want %v", i, a, wants[i])
		}
	}
	if got := d.AddUsers(t.Context(), "oak", nil); len(got) != 0 {
		t.Fatalf("nothing became %v", got)
	}
	many := make([]NewUser, 1000)
	for i := range many {
		many[i] = NewUser{Username: fmt.Sprintf("pupil%03d", (i*7)%1000), Role: im.RoleMember}
	}
	for i, a := range d.AddUsers(t.Context(), "oak", many) {
		if a.Err != nil || a.User.Username != many[i].Username {
			t.Fatalf("user %d: %+v", i, a)
		}
	}
	// Pages hold everybody once and in order.
	var names []string
	cursor := ""
	for {
		page, next := d.Users("oak", cursor, 99)
		for _, u := range page {
			names = append(names, u.Username)
		}
		if next == "" {
			break
		}
		cursor = next
	}
	if len(names) != 1003 || !slices.IsSorted(names) || names[0] != "ann" || names[1002] != "taken" {
		t.Fatalf("%d names, from %s", len(names), names[0])
	}
	if us, next := d.Users("oak", "zzz", 0); len(us) != 0 || next != "" {
		t.Fatalf("after the last: %v %q", us, next)
	}
	if us, next := d.Users("nowhere", "", 9); len(us) != 0 || next != "" {
		t.Fatalf("nowhere: %v %q", us, next)
	}
	if us, next := d.Users("oak", "annnn", -5); len(us) != 1 || us[0].Username != "bob" || next != "bob" {
		t.Fatalf("after a name that is not there: %v %q", us, next)
	}
	again, _ := newDirectory(t, m)
	same(t, again, d)
}

// gate lets writers of users in only when n of them stand before it.
type gate struct {
	keeps
	n       int
	mu      sync.Mutex
	waiting int
	open    chan struct{}
}

func (g *gate) UpdateUser(ctx context.Context, t im.TenantID, u im.UserID, fn func(*im.User) (*im.User, error)) error {
	g.mu.Lock()
	if g.waiting++; g.waiting == g.n {
		close(g.open)
	}
	g.mu.Unlock()
	select {
	case <-g.open:
		return g.keeps.UpdateUser(ctx, t, u, fn)
	case <-time.After(30 * time.Second):
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.waiting < g.n {
			g.waiting = g.n
			close(g.open) // the test has failed; let it end
		}
		return errors.New("the others did not come: users are stored one after the other")
	}
}

// A group commit shares a flush between writers that wait at the same time, so
// AddUsers, and calls of AddUser, must wait at the same time.
func TestWritersWaitTogether(t *testing.T) {
	for _, bulk := range []bool{true, false} {
		g := &gate{keeps: model(), n: bulkWriters, open: make(chan struct{})}
		d, _ := newDirectory(t, g)
		mustTenant(t, d, "oak")
		list := make([]NewUser, bulkWriters)
		for i := range list {
			list[i] = NewUser{Username: fmt.Sprintf("u%d", i), Role: im.RoleMember}
		}
		if bulk {
			for _, a := range d.AddUsers(t.Context(), "oak", list) {
				if a.Err != nil {
					t.Fatal(a.Err)
				}
			}
		} else {
			var wg sync.WaitGroup
			for _, n := range list {
				wg.Go(func() {
					if _, err := d.AddUser(t.Context(), "oak", n); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		if _, users := d.Size(); users != bulkWriters {
			t.Fatalf("%d users", users)
		}
	}
}

// tally counts what gets as far as the store, and what is written there.
type tally struct {
	keeps
	asked, written atomic.Int32
}

func (c *tally) UpdateUser(ctx context.Context, t im.TenantID, u im.UserID, fn func(*im.User) (*im.User, error)) error {
	c.asked.Add(1)
	return c.keeps.UpdateUser(ctx, t, u, func(old *im.User) (*im.User, error) {
		next, err := fn(old)
		if next != nil {
			c.written.Add(1)
		}
		return next, err
	})
}

func (c *tally) UpdateTenant(ctx context.Context, t im.TenantID, fn func(*im.Tenant) (*im.Tenant, error)) error {
	c.asked.Add(1)
	return c.keeps.UpdateTenant(ctx, t, func(old *im.Tenant) (*im.Tenant, error) {
		next, err := fn(old)
		if next != nil {
			c.written.Add(1)
		}
		return next, err
	})
}

// What changes nothing is not written; of two of one name in a list it is always
// the first that is added; a user that is not there does not reach the store.
func TestNeedlessWrites(t *testing.T) {
	c := &tally{keeps: model()}
	d, _ := newDirectory(t, c)
	ctx := t.Context()
	mustTenant(t, d, "oak")
	ann := mustUser(t, d, "oak", "ann", "Ann")
	name := "Ann"
	step := func(what string, asked, written int32, fn func() error) {
		t.Helper()
		c.asked.Store(0)
		c.written.Store(0)
		err := fn()
		if a, w := c.asked.Load(), c.written.Load(); a != asked || w != written {
			t.Errorf("%s: asked the store %d times, wrote %d times, want %d and %d (%v)", what, a, w, asked, written, err)
		}
	}
	step("same name", 1, 0, func() error { _, err := d.UpdateUser(ctx, "oak", ann.ID, UserChange{Name: &name}); return err })
	step("enabled already", 1, 0, func() error { return d.DisableUser(ctx, "oak", ann.ID, false) })
	step("open already", 1, 0, func() error { return d.SuspendTenant(ctx, "oak", false) })
	step("suspend", 1, 1, func() error { return d.SuspendTenant(ctx, "oak", true) })
	step("unknown user", 0, 0, func() error { return d.DisableUser(ctx, "oak", "u_/../x", true) })
	step("unknown tenant", 0, 0, func() error { return d.RenameTenant(ctx, "o/k", "x") })
	step("twice", 1, 1, func() error {
		d.AddUsers(ctx, "oak", []NewUser{{Username: "bob", Role: im.RoleStaff}, {Username: "BOB", Role: im.RoleGuest}})
		return nil
	})
	if u, ok := d.ByUsername("oak", "bob"); !ok || u.Role != im.RoleStaff {
		t.Errorf("bob is %+v", u)
	}
}

// slowApply gives another goroutine the chance to overtake between the durable
// write and what follows it.
type slowApply struct{ keeps }

func (s slowApply) UpdateUser(ctx context.Context, t im.TenantID, u im.UserID, fn func(*im.User) (*im.User, error)) error {
	err := s.keeps.UpdateUser(ctx, t, u, fn)
	for range rand.IntN(20) {
		runtime.Gosched()
	}
	return err
}

// However changes of one user overtake one another, memory ends up with what the
// store has.
func TestSnapshotFollowsTheStore(t *testing.T) {
	m := model()
	d, _ := newDirectory(t, slowApply{m})
	mustTenant(t, d, "oak")
	ann := mustUser(t, d, "oak", "ann", "Ann")
	for range 200 {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				name := fmt.Sprintf("Ann %d", i)
				if _, err := d.UpdateUser(t.Context(), "oak", ann.ID, UserChange{Name: &name}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		stored, err := m.Users(t.Context(), "oak")
		if err != nil {
			t.Fatal(err)
		}
		if u, _ := d.User("oak", ann.ID); *u != stored[0] {
			t.Fatalf("memory has %q, the store %q", u.Name, stored[0].Name)
		}
	}
}

// Readers see whole snapshots while everything changes under them.
func TestReadersAndWriters(t *testing.T) {
	d, _ := newDirectory(t, model())
	mustTenant(t, d, "oak")
	ann := mustUser(t, d, "oak", "ann", "Ann")
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if u, ok := d.User("oak", ann.ID); !ok || u.Username != "ann" {
					t.Errorf("ann is %+v", u)
					return
				}
				us, _ := d.Users("oak", "", MaxUsersPage)
				for _, u := range us {
					if byID, ok := d.User("oak", u.ID); !ok || byID.Username != u.Username {
						t.Errorf("%s is not known by id", u.Username)
						return
					}
				}
				if _, err := d.Search(im.Actor{Tenant: "oak", Role: im.RoleStaff}, "u1", 50); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 25 {
				u := mustUser(t, d, "oak", fmt.Sprintf("u%d-%d", w, i), "User")
				name := "Other"
				if _, err := d.UpdateUser(t.Context(), "oak", u.ID, UserChange{Name: &name}); err != nil {
					t.Error(err)
				}
				if err := d.SuspendTenant(t.Context(), "oak", i%2 == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	if _, users := d.Size(); users != 101 {
		t.Fatalf("%d users", users)
	}
}

// people4000 is a store with a school in it, as a back end would hand it out.
type people4000 struct{ keeps }

func (people4000) Tenants(context.Context) ([]im.Tenant, error) {
	return []im.Tenant{{ID: "oakhill", Name: "Oakhill School"}}, nil
}

func (people4000) Users(_ context.Context, t im.TenantID) ([]im.User, error) {
	first := []string{"Ann", "Bob", "Chloé", "Dmitri", "Emma", "Farid", "Grace", "Hu"}
	last := []string{"Lee", "O'Neil", "Smith-Jones", "Ivanova", "Garcia", "Khan", "Wang", "Okafor"}
	users := make([]im.User, 4000)
	for i := range users {
		users[i] = im.User{Tenant: im.TenantID(strings.Clone(string(t))), ID: im.UserID(fmt.Sprintf("u_%016d", i)),
			Username: fmt.Sprintf("pupil%04d", i), Name: fmt.Sprintf("%s %s", first[i%8], last[i/8%8]), Role: im.RoleMember}
	}
	return users, nil
}

// A user may cost 300 bytes of live heap.
func TestMemoryOfAUser(t *testing.T) {
	heap := func() uint64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	d, _ := newDirectory(t, people4000{storetest.NewModel(time.Now)})
	each := (float64(heap()) - float64(before)) / 4000
	t.Logf("%.0f bytes a user", each)
	if _, users := d.Size(); users != 4000 {
		t.Fatalf("%d users", users)
	}
	if each > 300 {
		t.Fatalf("%.0f bytes a user, at most 300", each)
	}
}

func TestReadingAllocatesNothing(t *testing.T) {
	d, _ := newDirectory(t, people4000{storetest.NewModel(time.Now)})
	for what, fn := range map[string]func(){
		"User":       func() { d.User("oakhill", "u_0000000000000123") },
		"Tenant":     func() { d.Tenant("oakhill") },
		"OnlyTenant": func() { d.OnlyTenant() },
		"ByUsername": func() { d.ByUsername("oakhill", "pupil0123") },
	} {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
}

func BenchmarkLoad4000(b *testing.B) {
	for b.Loop() {
		newDirectory(b, people4000{storetest.NewModel(time.Now)})
	}
}

func BenchmarkUser(b *testing.B) {
	d, _ := newDirectory(b, people4000{storetest.NewModel(time.Now)})
	for b.Loop() {
		d.User("oakhill", "u_0000000000000123")
	}
}

func BenchmarkSearchMiss4000(b *testing.B) {
	d, _ := newDirectory(b, people4000{storetest.NewModel(time.Now)})
	for b.Loop() {
		if us, err := d.Search(im.Actor{Tenant: "oakhill", Role: im.RoleStaff}, "zorro", 50); err != nil || len(us) != 0 {
			b.Fatal(us, err)
		}
	}
}
