package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// people are the users that the tests' auth asks for.
type people struct {
	mu      sync.Mutex
	tenants map[im.TenantID]im.Tenant
	users   map[im.TenantID]map[im.UserID]*im.User
}

func (p *people) Tenant(t im.TenantID) (im.Tenant, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ten, ok := p.tenants[t]
	return ten, ok
}

func (p *people) User(t im.TenantID, id im.UserID) (*im.User, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u, ok := p.users[t][id]
	return u, ok
}

func (p *people) ByUsername(t im.TenantID, name string) (*im.User, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.users[t] {
		// The star stands for what only the directory's folding makes equal.
		if u.Username == strings.TrimSuffix(strings.ToLower(name), "*") {
			return u, true
		}
	}
	return nil, false
}

// set replaces a user's record, as a directory does.
func (p *people) set(t im.TenantID, id im.UserID, change func(*im.User)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := *p.users[t][id]
	change(&u)
	p.users[t][id] = &u
}

func (p *people) suspend(t im.TenantID, suspended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ten := p.tenants[t]
	ten.Suspended = suspended
	p.tenants[t] = ten
}

func (p *people) erase(t im.TenantID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.tenants, t)
	delete(p.users, t)
}

// bench is an Auth with everything around it: a store whose age is the test's,
// users ann and bob in oak and ann in elm, and a record of what it told and wrote
// down.
type bench struct {
	*Auth
	store *storetest.Model
	t     testing.TB
	users *people
	wall  atomic.Int64 // Unix milliseconds
	log   bytes.Buffer
	mu    sync.Mutex
	told  []Ended
	tell  func([]Ended)
}

const (
	oak  = im.TenantID("oak")
	elm  = im.TenantID("elm")
	ann  = im.UserID("u_ann")
	bob  = im.UserID("u_bob")
	good = "correct horse"
)

var home = netip.MustParseAddr("192.168.1.7")

// cheap is hashing that takes microseconds.
var cheap = Hashing{MemoryKiB: 8, Iterations: 1}

func newBench(t testing.TB, change func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, users: &people{
		tenants: map[im.TenantID]im.Tenant{oak: {ID: oak, Name: "橡树山学校 Oakhill School"}, elm: {ID: elm}},
		users:   map[im.TenantID]map[im.UserID]*im.User{},
	}}
	b.wall.Store(1_790_000_000_000)
	b.store = storetest.NewModel(func() time.Time { return time.UnixMilli(b.wall.Load()) })
	ctx := t.Context()
	for _, u := range []im.User{
		{Tenant: oak, ID: ann, Username: "ann", Role: im.RoleStaff},
		{Tenant: oak, ID: bob, Username: "bob", Role: im.RoleMember},
		{Tenant: elm, ID: ann, Username: "ann", Role: im.RoleGuest},
	} {
		if b.users.users[u.Tenant] == nil {
			b.users.users[u.Tenant] = map[im.UserID]*im.User{}
			if err := b.store.UpdateTenant(ctx, u.Tenant, func(*im.Tenant) (*im.Tenant, error) { return &im.Tenant{ID: u.Tenant}, nil }); err != nil {
				t.Fatal(err)
			}
		}
		b.users.users[u.Tenant][u.ID] = &u
		if err := b.store.UpdateUser(ctx, u.Tenant, u.ID, func(*im.User) (*im.User, error) { return &u, nil }); err != nil {
			t.Fatal(err)
		}
	}
	o := Options{Tokens: b.store, Credentials: b.store, Records: b.store, Box: b.store, Users: b.users, Hashing: cheap,
		Limits: Limits{ChecksPerMinutePerAddr: 600, FailuresPerHourPerAccount: 20, Hashes: 2},
		Log:    slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Ended: func(e []Ended) {
			b.mu.Lock()
			b.told = append(b.told, e...)
			b.mu.Unlock()
			if b.tell != nil {
				b.tell(e)
			}
		}}
	if change != nil {
		change(&o)
	}
	var err error
	if b.Auth, err = New(ctx, o); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) SignIn(username, password string, addr netip.Addr) (string, error) {
	in, err := b.Auth.SignIn(b.t.Context(), SignInRequest{Tenant: oak, Username: username, Password: password, Addr: addr})
	return in.Token, err
}

func (b *bench) password(u im.UserID, password string) {
	b.t.Helper()
	if err := b.SetPassword(b.t.Context(), oak, u, password); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) issue(u im.UserID) string {
	b.t.Helper()
	token, _, err := b.Issue(b.t.Context(), oak, u, "test")
	if err != nil {
		b.t.Fatal(err)
	}
	return token
}

// signInOf returns the id of the sign-in that owns token.
func (b *bench) signInOf(token string) im.SignInID {
	b.t.Helper()
	who, _, err := b.Verify(b.t.Context(), token)
	if err != nil {
		b.t.Fatal(err)
	}
	return who.SignIn
}

func (b *bench) accepted(token string) bool {
	b.t.Helper()
	_, _, err := b.Verify(b.t.Context(), token)
	if err != nil && !im.Is(err, im.Unauthenticated) {
		b.t.Fatal(err)
	}
	return err == nil
}

func wantKind(t *testing.T, err error, k im.Kind, field string) *im.Error {
	t.Helper()
	var e *im.Error
	if !errors.As(err, &e) || e.Kind != k || e.Field != field {
		t.Fatalf("error %v, want kind %v on field %q", err, k, field)
	}
	if e.Message == "" && k != im.Internal {
		t.Fatalf("error %v has no text for people", err)
	}
	if k == im.RateLimited && e.RetryAfter <= 0 {
		t.Fatalf("error %v says to retry after %v", err, e.RetryAfter)
	}
	return e
}

func TestSignIn(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	in, err := b.Auth.SignIn(t.Context(), SignInRequest{Tenant: oak, Username: "ANN", Password: good, Device: "Ann's phone", Addr: home})
	if err != nil {
		t.Fatal(err)
	}
	token, expires, user := in.Token, in.Expires, in.User
	if user.ID != ann || user.Tenant != oak || expires != im.Millis(b.wall.Load()+DefaultLifetime.Milliseconds()) {
		t.Fatalf("user %+v, expires %d", user, expires)
	}
	actor, u, err := b.Verify(t.Context(), token)
	if err != nil || u.ID != ann || actor.Tenant != oak || actor.User != ann || actor.Role != im.RoleStaff || len(actor.SignIn) != 18 {
		t.Fatalf("actor %+v, user %+v, %v", actor, u, err)
	}
	list, err := b.Auth.SignIns(t.Context(), oak, ann)
	if err != nil || len(list) != 1 || list[0] != (SignedIn{ID: actor.SignIn, Device: "Ann's phone", Created: im.Millis(b.wall.Load()), Expires: expires}) {
		t.Fatalf("sign-ins %+v, %v", list, err)
	}
	second, err := b.SignIn("ann", good, home)
	if err != nil || second == token {
		t.Fatalf("second token %q, %v", second, err)
	}
}

// One answer, one cost: whatever is wrong, one hash is computed and the error is
// the same in every member (PROTOCOL 2).
func TestOneAnswerOneCost(t *testing.T) {
	b := newBench(t, nil)
	for _, u := range []im.UserID{ann, bob} {
		b.password(u, good)
	}
	b.users.users[oak]["u_new"] = &im.User{Tenant: oak, ID: "u_new", Username: "new"}
	b.users.set(oak, bob, func(u *im.User) { u.Disabled = true })
	for what, r := range map[string]SignInRequest{
		"wrong password":   {Tenant: oak, Username: "ann", Password: "wrong password"},
		"empty password":   {Tenant: oak, Username: "ann"},
		"nearly right":     {Tenant: oak, Username: "ann", Password: good + " "},
		"unknown user":     {Tenant: oak, Username: "nobody", Password: good},
		"empty user":       {Tenant: oak, Password: good},
		"unknown tenant":   {Tenant: "ash", Username: "ann", Password: good},
		"empty tenant":     {Username: "ann", Password: good},
		"no password set":  {Tenant: oak, Username: "new", Password: ""},
		"disabled":         {Tenant: oak, Username: "bob", Password: good},
		"of another":       {Tenant: elm, Username: "ann", Password: good},
		"not even a name":  {Tenant: oak, Username: strings.Repeat("x\xff", 5000), Password: good},
		"not even UTF-8":   {Tenant: oak, Username: "ann", Password: "\xff\xfe"},
		"suspended tenant": {Tenant: elm, Username: "ann", Password: good},
	} {
		r.Addr = home
		b.users.suspend(elm, what == "suspended tenant")
		before := b.Stats()
		_, err := b.Auth.SignIn(t.Context(), r)
		var e *im.Error
		if !errors.As(err, &e) || *e != *wrongPassword().(*im.Error) {
			t.Errorf("%s: %v", what, err)
		}
		after := b.Stats()
		if after.Hashes != before.Hashes+1 || after.Wrong != before.Wrong+1 {
			t.Errorf("%s: %d hashes, %d counted", what, after.Hashes-before.Hashes, after.Wrong-before.Wrong)
		}
	}
	before := b.Stats().Hashes
	_, err := b.SignIn("ann", strings.Repeat("x", im.MaxPasswordBytes+1), home)
	wantKind(t, err, im.Invalid, "password")
	for _, device := range []string{strings.Repeat("x", MaxDeviceRunes+1), "a\nb", "\xff"} {
		_, err = b.Auth.SignIn(t.Context(), SignInRequest{Tenant: oak, Username: "ann", Password: good, Device: device, Addr: home})
		wantKind(t, err, im.Invalid, "device")
	}
	if b.Stats().Hashes != before {
		t.Error("a hash was computed for what can't be")
	}
	if _, err := b.SignIn("ann", good, home); err != nil {
		t.Errorf("the right password: %v", err)
	}
}

// The dummy costs what a real one does: same parameters, same lengths.
func TestDummyHash(t *testing.T) {
	b := newBench(t, nil)
	phc, err := b.hasher.hash(t.Context(), netip.Addr{}, good)
	if err != nil {
		t.Fatal(err)
	}
	if len(phc) != len(b.hasher.dummy) || phc[:strings.LastIndex(phc[:40], "$")] != b.hasher.dummy[:strings.LastIndex(phc[:40], "$")] {
		t.Fatalf("a hash is like %s, the dummy like %s", phc, b.hasher.dummy)
	}
}

func TestTheStoreFails(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	b.store.SetState(store.Full, "no room")
	_, err := b.SignIn("ann", good, home)
	wantKind(t, err, im.Unavailable, "")
	wantKind(t, b.SetPassword(t.Context(), oak, ann, "another password"), im.Unavailable, "")
	b.store.SetState(store.Writable, "")
	token := b.issue(ann)
	b.store.SetState(store.Full, "no room")
	wantKind(t, b.Revoke(t.Context(), oak, ann, b.signInOf(token)), im.Unavailable, "")
	if !b.accepted(token) || len(b.told) != 0 {
		t.Fatal("a sign-in ended though the store refused")
	}
	b.store.SetState(store.Writable, "")
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	b.cache.purge([][32]byte{sum(token)})
	_, _, err = b.Verify(t.Context(), token)
	wantKind(t, err, im.Unavailable, "")
}

// Nothing that is secret, and nothing that was typed, reaches a log or an error.
func TestNothingSecretIsToldOn(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	token, err := b.SignIn("ann", good, home)
	if err != nil {
		t.Fatal(err)
	}
	var told strings.Builder
	note := func(err error) { fmt.Fprintf(&told, "%v %+v\n", err, err) }
	_, err = b.SignIn("ann", "tell-nobody-1", home)
	note(err)
	_, err = b.SignIn("tell-nobody-2", "x", home)
	note(err)
	_, _, err = b.Verify(t.Context(), token[:len(token)-1]+"!")
	note(err)
	note(b.SetPassword(t.Context(), oak, ann, "tell-no"))
	b.store.FailNext(errors.New("disk"))
	note(b.SetPassword(t.Context(), oak, ann, "tell-nobody-3"))
	b.store.FailNext(errors.New("disk"))
	_, err = b.SignIn("ann", good, home)
	note(err)
	note(b.Revoke(t.Context(), oak, ann, b.signInOf(token)))
	_, _, err = b.Verify(t.Context(), token)
	note(err)
	told.WriteString(b.log.String())
	for _, secret := range []string{"tell-no", good, token[len(token)-secretLen:], token[:20], "$argon2id$"} {
		if strings.Contains(told.String(), secret) {
			t.Errorf("%q is told on:\n%s", secret, told.String())
		}
	}
	if !strings.Contains(b.log.String(), "signed in") || !strings.Contains(b.log.String(), "refused") {
		t.Errorf("the log says nothing:\n%s", b.log.String())
	}
	if strings.Contains(b.log.String(), "level=ERROR") || strings.Contains(b.log.String(), "level=WARN") {
		t.Errorf("a user's fault is logged above info:\n%s", b.log.String())
	}
}

func TestCheckPassword(t *testing.T) {
	b := newBench(t, nil)
	for password, ok := range map[string]bool{
		"brown owl": true, "brownow": false, "王家门前两棵大树": true, "王家门前两棵树": false,
		"e\u0301e\u0301e\u0301e\u0301": false, // four characters, however they are sent
		"":                             false, strings.Repeat("owl tree", 128): true, strings.Repeat("owl tree", 128) + "s": false,
		"with\x00nul": false, "\xff\xff\xff\xff\xff\xff\xff\xff": false, " spaces count ": true,
		"Ann.Lee-1": false, "ann.lee-1": false, "ann.lee-12": true,
	} {
		err := b.CheckPassword(oak, "ann.lee-1", password)
		if ok && err != nil {
			t.Errorf("%q: %v", password, err)
		} else if !ok {
			wantKind(t, err, im.Invalid, "password")
		}
	}
	wantKind(t, b.SetPassword(t.Context(), oak, ann, "short"), im.Invalid, "password")
	wantKind(t, b.SetPassword(t.Context(), oak, "u_x", good), im.NotFound, "user")
	b.password(ann, "cafe\u0301 cafe\u0301")
	if _, err := b.SignIn("ann", "café café", home); err != nil {
		t.Errorf("typed on another system: %v", err)
	}
}

func TestSetPasswordEndsSignIns(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	kept, lost, other := b.issue(ann), b.issue(ann), b.issue(bob)
	id := b.signInOf(lost)
	if err := b.SetPassword(t.Context(), oak, ann, "a better one", b.signInOf(kept)); err != nil {
		t.Fatal(err)
	}
	if !b.accepted(kept) || b.accepted(lost) || !b.accepted(other) {
		t.Fatal("the wrong sign-ins ended")
	}
	if len(b.told) != 1 || b.told[0] != (Ended{Tenant: oak, User: ann, SignIn: id, Code: 4101}) {
		t.Fatalf("told %+v", b.told)
	}
	if _, err := b.SignIn("ann", good, home); !im.Is(err, im.Unauthenticated) {
		t.Fatalf("the old password: %v", err)
	}
	if _, err := b.SignIn("ann", "a better one", home); err != nil {
		t.Fatalf("the new password: %v", err)
	}
	b.password(ann, good)
	if b.accepted(kept) {
		t.Fatal("a sign-in outlived its password")
	}
}

// late makes things happen just before a sign-in is stored: the moment at which
// everything was judged and nothing is to be seen yet.
type late struct {
	store.Tokens
	once   sync.Once
	happen func()
}

func (l *late) PutSignIn(ctx context.Context, s store.SignIn) error {
	l.once.Do(l.happen)
	return l.Tokens.PutSignIn(ctx, s)
}

// Who shuts an account while its old password is being judged is not overtaken.
func TestSignInDoesNotOutliveWhatEndsIt(t *testing.T) {
	for what, happen := range map[string]func(b *bench){
		"password changed": func(b *bench) { b.password(ann, "a better one") },
		"user disabled":    func(b *bench) { b.users.set(oak, ann, func(u *im.User) { u.Disabled = true }) },
		"tenant suspended": func(b *bench) { b.users.suspend(oak, true) },
		"tenant erased": func(b *bench) {
			b.users.erase(oak)
			if err := b.store.EraseTenant(b.t.Context(), oak); err != nil {
				b.t.Error(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			tokens := &late{}
			b := newBench(t, func(o *Options) { tokens.Tokens, o.Tokens = o.Tokens, tokens })
			b.password(ann, good)
			tokens.happen = func() { happen(b) }
			_, err := b.SignIn("ann", good, home)
			wantKind(t, err, im.Unauthenticated, "")
			left, err := b.store.SignIns(t.Context(), oak, ann)
			if err != nil || len(left) != 0 || b.Stats().Cached != 0 {
				t.Fatalf("%d sign-ins stored, %d remembered, %v", len(left), b.Stats().Cached, err)
			}
		})
	}
}

// A password that another sign-in hashes anew at that moment stays right.
func TestSignInWhileHashedAnew(t *testing.T) {
	tokens := &late{}
	b := newBench(t, func(o *Options) { tokens.Tokens, o.Tokens = o.Tokens, tokens })
	b.password(ann, good)
	tokens.happen = func() {
		phc, err := b.hasher.hash(t.Context(), netip.Addr{}, good)
		if err == nil {
			err = b.store.UpdateCredential(t.Context(), oak, ann, func(*store.Credential) (*store.Credential, error) {
				return &store.Credential{PHC: phc}, nil
			})
		}
		if err != nil {
			t.Error(err)
		}
	}
	if token, err := b.SignIn("ann", good, home); err != nil || !b.accepted(token) {
		t.Fatal(err)
	}
}

func TestRehash(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	before, err := b.store.Credential(t.Context(), oak, ann)
	if err != nil {
		t.Fatal(err)
	}
	next := func(h Hashing) *bench {
		a, err := New(t.Context(), Options{Tokens: b.store, Credentials: b.store, Records: b.store, Box: b.store, Users: b.users, Hashing: h, Limits: Limits{ChecksPerMinutePerAddr: 600, FailuresPerHourPerAccount: 20}})
		if err != nil {
			t.Fatal(err)
		}
		return &bench{Auth: a, store: b.store, t: t, users: b.users}
	}
	stronger := next(Hashing{MemoryKiB: 8, Iterations: 3})
	if _, err := stronger.SignIn("ann", "wrong password", home); err == nil || stronger.Stats().Rehashed != 0 {
		t.Fatalf("a wrong password was hashed anew, %v", err)
	}
	for range 2 { // the second time it is strong already
		if _, err := stronger.SignIn("ann", good, home); err != nil {
			t.Fatal(err)
		}
		if stronger.Stats().Rehashed != 1 {
			t.Fatalf("hashed anew %d times", stronger.Stats().Rehashed)
		}
	}
	after, err := b.store.Credential(t.Context(), oak, ann)
	if err != nil || after.PHC == before.PHC || !strings.Contains(after.PHC, "m=8,t=3,p=1") || after.Changed != before.Changed {
		t.Fatalf("stored %+v, before %+v, %v", after, before, err)
	}
	weaker := next(cheap)
	if _, err := weaker.SignIn("ann", good, home); err != nil || weaker.Stats().Rehashed != 0 {
		t.Fatalf("hashed anew with less, %v", err)
	}
	// A store that takes no writes puts it off; nobody is kept out by that alone.
	more := next(Hashing{MemoryKiB: 16, Iterations: 3})
	b.store.FailNext(errors.New("disk"))
	if _, err := more.SignIn("ann", good, home); err != nil || more.Stats().Rehashed != 0 {
		t.Fatalf("%v, hashed anew %d times", err, more.Stats().Rehashed)
	}
}

// A password that was changed meanwhile is not put back.
func TestRehashAfterAChange(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	old, err := b.store.Credential(t.Context(), oak, ann)
	if err != nil {
		t.Fatal(err)
	}
	b.password(ann, "a better one")
	user, _ := b.users.User(oak, ann)
	if counts := b.rehash(t.Context(), netip.Addr{}, user, good, old.PHC); counts != old.PHC {
		t.Errorf("what counts is %s", counts)
	}
	if _, err := b.SignIn("ann", "a better one", home); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

// A damaged or foreign hash is an error, not a password, and takes no memory.
func TestOddHashes(t *testing.T) {
	b := newBench(t, nil)
	for _, phc := range []string{"x", "$argon2i$v=19$m=8,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWE",
		"$argon2id$v=19$m=8,t=0,p=1$YWFhYWFhYWE$YWFhYWFhYWE", "$argon2id$v=19$m=8,t=1,p=0$YWFhYWFhYWE$YWFhYWFhYWE",
		"$argon2id$v=19$m=4194304,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWE", "$argon2id$v=19$m=8,t=99999,p=1$YWFhYWFhYWE$YWFhYWFhYWE"} {
		if ok, _, err := b.hasher.check(t.Context(), netip.Addr{}, good, phc); ok || err == nil {
			t.Errorf("%s: %v, %v", phc, ok, err)
		}
	}
}
