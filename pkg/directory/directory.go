// Package directory knows the tenants of the box and the users of each: who
// they are, what they are called, which role they have in the tenant, who is
// suspended or disabled.
//
// It owns those records: they are written through store.People here and nowhere
// else, and a copy of all of them is kept in memory, so that event loops and
// permission checks can ask without touching a disk. It never decides who may
// administer whom (access does), never sees a password or token (auth does), and
// knows no conversation.
//
// Concurrency: every method is safe for concurrent use. The methods that read
// (those without a context) take no lock and do no I/O: they load one atomic
// pointer to an immutable snapshot, and what they return points into it, so it
// must not be changed and may be kept for as long as one likes. The methods that
// write block on the disk, so never call them on an event loop; the snapshot
// changes only after the write is on stable storage, and in the order in which
// writes to the same user were stored.
//
// One process owns the records: there is no event yet that would tell a second
// node to load a user again.
//
// The contract is PROTOCOL 1.5 (ids), 3.9 (4102, 4202), 4.3 (user.search,
// user.get) and 9.2 (which tenant).
package directory

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"hash/maphash"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// The close codes that a directory's decisions lead to (PROTOCOL 3.9).
const (
	closeDisabled  = 4102
	closeSuspended = 4202
)

// Options are what a Directory is made of. People, Records and Bus are required.
type Options struct {
	People store.People
	// Records keeps policies, classes, settings and what rosters say of users;
	// nil: there are none.
	Records store.Records
	Bus     bus.Bus
	// Age is store.Box.Age, by which the grace of a deleted tenant is judged.
	// Nil: no time passes.
	Age func() time.Duration
	// Now gives the time for Created; store.Box.Now is meant. Nil: time.Now.
	Now func() time.Time
	// Rand gives ids. It is read from several goroutines. Nil: crypto/rand.
	Rand io.Reader
	Log  *slog.Logger // nil: nothing is logged
}

// Directory is all tenants and users of the box.
type Directory struct {
	people  store.People
	records store.Records
	bus     bus.Bus
	now     func() time.Time
	age     func() time.Duration
	rand    io.Reader
	log     *slog.Logger

	snap   atomic.Pointer[snapshot]
	keeper atomic.Pointer[im.TenantID] // of the box; stored while tenants is held
	mu     sync.Mutex                  // held while a new snapshot replaces the old one; never over I/O

	// tenants is held for writing over a change of a tenant and for reading over
	// a change of a user, so that no user is stored into a tenant that is being
	// erased. users orders the changes of one user: durable write, then snapshot.
	// Both are held over I/O.
	tenants sync.RWMutex
	users   [64]sync.Mutex
	// grouping orders the changes of policies, classes and rosters. Held over I/O.
	grouping sync.Mutex
	seed     maphash.Seed
}

// snapshot is one state of the directory. It is never changed once published.
type snapshot struct {
	byID  map[im.TenantID]*tenant
	list  []*tenant // in order of id
	hosts map[string]im.TenantID
}

// tenant is one tenant and its users. It is never changed once published.
type tenant struct {
	rec    im.Tenant
	set    *Settings
	byID   map[im.UserID]*im.User
	sorted []person // in order of user name
	groups *groups  // nil: none
}

// person is a user with what a search compares.
type person struct {
	*im.User
	key string // searchKey(Name)
}

// New loads everything from the store. It fails when the store can't be read.
func New(ctx context.Context, o Options) (*Directory, error) {
	d := &Directory{people: o.People, records: o.Records, bus: o.Bus, now: o.Now, age: o.Age, rand: o.Rand, log: o.Log, seed: maphash.MakeSeed()}
	if d.now == nil {
		d.now = time.Now
	}
	if d.age == nil {
		d.age = func() time.Duration { return 0 }
	}
	if d.rand == nil {
		d.rand = rand.Reader
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.loadKeeper(ctx); err != nil {
		return nil, err
	}
	recs, err := d.people.Tenants(ctx)
	if err != nil {
		return nil, im.Wrap("directory: load tenants", err)
	}
	s := &snapshot{byID: make(map[im.TenantID]*tenant, len(recs))}
	for _, rec := range recs {
		ten, err := d.load(ctx, rec)
		if err != nil {
			return nil, err
		}
		s.byID[rec.ID] = ten
	}
	s.index()
	d.snap.Store(s)
	return d, nil
}

// load reads all of one tenant from the store.
func (d *Directory) load(ctx context.Context, rec im.Tenant) (*tenant, error) {
	users, err := d.people.Users(ctx, rec.ID)
	if err != nil {
		return nil, im.Wrap("directory: load users of tenant "+string(rec.ID), err)
	}
	set, err := d.loadSettings(ctx, rec.ID)
	if err != nil {
		return nil, err
	}
	ten := newTenant(rec, set, users)
	ten.groups, err = d.loadGroups(ctx, rec.ID)
	return ten, err
}

// newTenant makes a tenant from records; it keeps them.
func newTenant(rec im.Tenant, set *Settings, users []im.User) *tenant {
	t := &tenant{rec: rec, set: set, byID: make(map[im.UserID]*im.User, len(users)), sorted: make([]person, len(users))}
	for i := range users {
		// A copy of each, not a pointer into the slice, which would keep all of
		// them alive for as long as somebody holds one.
		u := users[i]
		u.Tenant = rec.ID // one string for all
		t.byID[u.ID] = &u
		t.sorted[i] = person{User: &u, key: searchKey(u.Name)}
	}
	slices.SortFunc(t.sorted, byUsername)
	return t
}

func byUsername(a, b person) int { return cmp.Compare(a.Username, b.Username) }

// index fills list and hosts from byID. Only for a snapshot that is not published yet.
func (s *snapshot) index() {
	s.list = slices.SortedFunc(maps.Values(s.byID), func(a, b *tenant) int { return cmp.Compare(a.rec.ID, b.rec.ID) })
	s.hosts = map[string]im.TenantID{}
	for _, t := range s.list {
		for _, h := range t.set.Hosts {
			s.hosts[h] = t.rec.ID
		}
	}
}

// put returns a tenant that has users besides, or instead of, its own. A user's
// name never changes, so who is there already stays in its place.
func (t *tenant) put(users []*im.User) *tenant {
	next := &tenant{rec: t.rec, set: t.set, byID: maps.Clone(t.byID), groups: t.groups}
	sorted := make([]person, len(t.sorted), len(t.sorted)+len(users))
	copy(sorted, t.sorted)
	known := len(sorted)
	for _, u := range users {
		next.byID[u.ID] = u
		p := person{User: u, key: searchKey(u.Name)}
		if at, ok := find(sorted[:known], u.Username); ok {
			sorted[at] = p
		} else {
			sorted = append(sorted, p)
		}
	}
	if len(sorted) > known {
		slices.SortFunc(sorted, byUsername)
	}
	next.sorted = sorted
	return next
}

// find returns where in order of user name that user is, or would be.
func find(sorted []person, username string) (at int, ok bool) {
	return slices.BinarySearchFunc(sorted, username, func(p person, name string) int {
		return cmp.Compare(p.Username, name)
	})
}

// replace publishes a snapshot in which fn's result stands for the tenant; nil
// drops it. fn gets nil for a tenant that is not there.
func (d *Directory) replace(id im.TenantID, fn func(old *tenant) *tenant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.snap.Load()
	next := &snapshot{byID: maps.Clone(old.byID)}
	if t := fn(old.byID[id]); t != nil {
		next.byID[id] = t
	} else {
		delete(next.byID, id)
	}
	next.index()
	d.snap.Store(next)
}

// Tenants returns all tenants in order of id, suspended ones too. The slice is
// the caller's.
func (d *Directory) Tenants() []im.Tenant {
	list := d.snap.Load().list
	out := make([]im.Tenant, len(list))
	for i, t := range list {
		out[i] = t.shut()
	}
	return out
}

// Tenant returns one tenant.
func (d *Directory) Tenant(id im.TenantID) (im.Tenant, bool) {
	t := d.snap.Load().byID[id]
	if t == nil {
		return im.Tenant{}, false
	}
	return t.shut(), true
}

// OnlyTenant returns the tenant that is meant when a sign-in names none: the
// only one, if there is just one (PROTOCOL 9.2).
func (d *Directory) OnlyTenant() (im.TenantID, bool) {
	list := d.snap.Load().list
	if len(list) != 1 {
		return "", false
	}
	return list[0].rec.ID, true
}

// User returns a user by id, disabled ones too. The record is shared and
// read-only.
func (d *Directory) User(t im.TenantID, id im.UserID) (*im.User, bool) {
	ten := d.snap.Load().byID[t]
	if ten == nil {
		return nil, false
	}
	u, ok := ten.byID[id]
	return u, ok
}

// ByUsername returns a user by name, disabled ones too. The name is folded
// (FoldUsername) first, and spaces around it, which telephones add, are dropped;
// a name that can't be one is unknown.
func (d *Directory) ByUsername(t im.TenantID, name string) (*im.User, bool) {
	ten := d.snap.Load().byID[t]
	if ten == nil {
		return nil, false
	}
	folded, err := FoldUsername(strings.TrimSpace(name))
	if err != nil {
		return nil, false
	}
	if at, ok := find(ten.sorted, folded); ok {
		return ten.sorted[at].User, true
	}
	return nil, false
}

// MaxUsersPage is how many users one call of Users returns at most.
const MaxUsersPage = 500

// Users returns users of a tenant, disabled ones too, in order of user name,
// beginning after cursor (empty: from the start), at most limit (clamped to
// 1…MaxUsersPage). next is the cursor of the following page, empty after the
// last. Each page is of the moment when it was asked for. An unknown tenant has
// no users.
func (d *Directory) Users(t im.TenantID, cursor string, limit int) (users []*im.User, next string) {
	ten := d.snap.Load().byID[t]
	if ten == nil {
		return nil, ""
	}
	from := 0
	if cursor != "" {
		at, ok := find(ten.sorted, cursor)
		if ok {
			at++
		}
		from = at
	}
	limit = min(max(limit, 1), MaxUsersPage)
	page := ten.sorted[from:min(from+limit, len(ten.sorted))]
	users = make([]*im.User, len(page))
	for i, p := range page {
		users[i] = p.User
	}
	if from+limit < len(ten.sorted) {
		next = page[len(page)-1].Username
	}
	return users, next
}

// UsersOf returns how many users a tenant has, disabled ones too.
func (d *Directory) UsersOf(t im.TenantID) int {
	if ten := d.snap.Load().byID[t]; ten != nil {
		return len(ten.sorted)
	}
	return 0
}

// Size returns how many tenants and users there are, for metrics.
func (d *Directory) Size() (tenants, users int) {
	s := d.snap.Load()
	for _, t := range s.list {
		users += len(t.sorted)
	}
	return len(s.list), users
}

// idEncoding writes random bits in the characters that PROTOCOL 1.5 allows.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newUserID draws 80 random bits.
func (d *Directory) newUserID() (im.UserID, error) {
	var b [10]byte
	if _, err := io.ReadFull(d.rand, b[:]); err != nil {
		return "", im.Wrap("directory: draw a user id", err)
	}
	return im.UserID("u_" + idEncoding.EncodeToString(b[:])), nil
}

func (d *Directory) nowMillis() im.Millis { return im.Millis(d.now().UnixMilli()) }

func (d *Directory) lockUser(t im.TenantID, u im.UserID) *sync.Mutex {
	var h maphash.Hash
	h.SetSeed(d.seed)
	h.WriteString(string(t))
	h.WriteByte(0)
	h.WriteString(string(u))
	m := &d.users[h.Sum64()%uint64(len(d.users))]
	m.Lock()
	return m
}

// errSame stops an update that would change nothing.
var errSame = errors.New("directory: nothing to change")

func unknownTenant() error { return im.E(im.NotFound, "There is no such tenant.").OnField("tenant") }
func unknownUser() error   { return im.E(im.NotFound, "There is no such user.").OnField("user") }
