// Package auth knows who somebody is: it judges passwords, gives out tokens,
// checks and revokes them.
//
// It owns credentials, sign-ins and the parameters of password hashing, all kept
// through the store; the cache of sign-ins that were checked already; and the
// counts that slow guessing down. It never decides what a user may do (access
// does), holds no socket (Options.Ended tells those who do), and never
// puts a password, a token or a name that was typed into a log or an error.
//
// Passwords are hashed with argon2id. The parameters are measured at the first
// start of a store, so that one hash takes about 100 ms on that machine, and kept
// with it. A hash takes 19 MiB, so only a few are computed at a time; others wait
// in a bounded queue, first come, first served, and what finds it full is
// im.RateLimited. An unknown tenant or user, a suspended or disabled one and a
// wrong password get one answer at one cost.
//
// In a browser the token is kept in a cookie; what its name and attributes are,
// when it counts, and which requests count because of it is decided here for all
// who take it (gateway, api, oidcop).
//
// A token is 256 random bits and carries its tenant; of it only the SHA-256 is
// stored. A sign-in lasts as long as its lifetime in running time of the box
// (store.Box.Age): a clock that leaps signs nobody out (DESIGN 5.7).
//
// Concurrency: all methods are safe for concurrent use. VerifyCached does no I/O
// and may be called on an event loop; everything else may block on the disk or on
// the hashing queue. auth starts no goroutine that outlives a call.
//
// The contract is PROTOCOL 2 (one answer, one cost), 3.2, 3.9, 9.2 and 9.5.
package auth

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"hash/maphash"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// DefaultLifetime is how long a sign-in lasts, in running time of the box.
const DefaultLifetime = 30 * 24 * time.Hour

// MaxSignIns is how many sign-ins one user keeps; the oldest gives way to a new
// one.
const MaxSignIns = 64

// MaxDeviceRunes bounds the name that a client gives itself at sign-in.
const MaxDeviceRunes = im.MaxTitleRunes

// Users is what auth asks of the directory. It answers from memory: it is asked
// on event loops.
type Users interface {
	// ByUsername folds the name as the directory does.
	ByUsername(t im.TenantID, name string) (*im.User, bool)
	User(t im.TenantID, id im.UserID) (*im.User, bool)
	Tenant(t im.TenantID) (im.Tenant, bool)
}

// Ended says that a sign-in is over and its sockets are to be closed with Code
// (PROTOCOL 3.9). An empty SignIn means all of User, an empty User all of Tenant.
type Ended struct {
	Tenant im.TenantID
	User   im.UserID
	SignIn im.SignInID
	Code   uint16
}

// Limits slow guessing down. They can be changed while the server runs.
type Limits struct {
	// ChecksPerMinutePerAddr is how many passwords are judged for one address
	// (IPv6: one /64) in a minute, right and wrong ones; as many at once.
	ChecksPerMinutePerAddr int
	// FailuresPerHourPerAccount is how many wrong passwords are judged for one
	// account in an hour: half of them from addresses from which nobody signed in
	// to it within 30 days, the other half from one from which somebody did. So
	// who guesses from elsewhere does not lock out the owner. At least 4 counts.
	FailuresPerHourPerAccount int
	// Hashes is how many passwords are hashed at the same time.
	Hashes int
}

// Hashing fixes what is measured otherwise. The zero value is right for a server;
// tests make hashing cheap with it.
type Hashing struct {
	MemoryKiB  uint32 // of one hash; 0: 19,456
	Iterations uint32 // 0: measured at the first start, and kept
	Waiting    int    // how many may wait for a hash; 0: 50 for each of Limits.Hashes
	// Measure returns how long one hash takes. Nil: it is tried and timed.
	Measure func(memoryKiB, iterations uint32) time.Duration
}

// Options are what an Auth is made of. Tokens, Credentials, Records, Box, Users and
// Limits are required.
type Options struct {
	Tokens      store.Tokens
	Credentials store.People
	Records     store.Records // API tokens, invitations, second factors
	Box         store.Box
	Users       Users
	// WantTOTP says whose sign-in needs a second factor because the tenant wants
	// it. Nil: nobody's; who has one is asked for it all the same.
	WantTOTP func(*im.User) bool
	// Ended is called after a sign-in was deleted and the cache forgot it. It must
	// not block. Nil: nobody is told.
	Ended    func([]Ended)
	Limits   Limits
	Hashing  Hashing
	Lifetime time.Duration // of new sign-ins; 0: DefaultLifetime
	// Cached is how many sign-ins are remembered as checked; 0: 20,000, about 3 MB
	// when full.
	Cached int
	// Rand gives tokens and ids. It is read from several goroutines. Nil:
	// crypto/rand. (Salts of passwords always come from crypto/rand.)
	Rand io.Reader
	Log  *slog.Logger // nil: nothing is logged
}

// Auth judges passwords and tokens.
type Auth struct {
	tokens   store.Tokens
	people   store.People
	box      store.Box
	records  store.Records
	users    Users
	wantTOTP func(*im.User) bool
	ended    func([]Ended)
	lifetime time.Duration
	rand     io.Reader
	log      *slog.Logger

	hasher     *hasher
	throttle   *throttle
	cache      *cache
	ceremonies ceremonies
	stats      counters
}

// counters are the parts of Stats that only rise.
type counters struct {
	signIns, wrong, limitedByAccount, limitedByAddr atomic.Uint64
	issued, ended, expired, rehashed                atomic.Uint64
	verifyCached, verifyLoaded, verifyRefused       atomic.Uint64
}

// Stats is a snapshot for metrics and `pipit status`.
type Stats struct {
	SignIns          uint64 // with a right password
	Wrong            uint64 // one answer: wrong password, unknown, suspended, disabled
	LimitedByAccount uint64 // refused before judging
	LimitedByAddr    uint64
	LimitedByQueue   uint64 // the hashing queue was full
	Issued           uint64 // tokens without a password
	Ended            uint64 // sign-ins revoked, signed out, replaced
	Expired          uint64
	Rehashed         uint64 // passwords hashed anew because the parameters rose
	VerifyCached     uint64 // tokens answered from memory, refused ones included
	VerifyLoaded     uint64 // tokens looked up in the store
	VerifyRefused    uint64
	Cached           int    // sign-ins in memory
	Hashes           uint64 // computed
	HashNanos        uint64 // time spent in them
	HashWaiting      int    // in the queue now
	HashWaitingMax   int
	Iterations       uint32 // argon2id's t
	MemoryKiB        uint32 // argon2id's m
}

// New makes an Auth. At the first start of a store it measures the hashing
// parameters, which takes about half a second, and stores them. It fails when the
// store can't be read; one that can't be written is measured again next time.
func New(ctx context.Context, o Options) (*Auth, error) {
	a := &Auth{tokens: o.Tokens, people: o.Credentials, box: o.Box, records: o.Records, users: o.Users, wantTOTP: o.WantTOTP, ended: o.Ended,
		lifetime: o.Lifetime, rand: o.Rand, log: o.Log}
	if a.lifetime == 0 {
		a.lifetime = DefaultLifetime
	}
	if a.rand == nil {
		a.rand = rand.Reader
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.ended == nil {
		a.ended = func([]Ended) {}
	}
	if o.Cached == 0 {
		o.Cached = 20_000
	}
	a.cache = newCache(o.Cached)
	a.throttle = newThrottle(o.Limits, o.Box.Age)
	var err error
	a.hasher, err = a.newHasher(ctx, o.Hashing, o.Limits.Hashes)
	return a, err
}

// Lifetime is how long a new sign-in lasts, in running time of the box.
func (a *Auth) Lifetime() time.Duration { return a.lifetime }

// SetLimits changes the limits. If they are others, what was counted so far is
// forgotten.
func (a *Auth) SetLimits(l Limits) {
	a.throttle.setLimits(l)
	a.hasher.setSlots(l.Hashes)
}

// Stats returns the counts since the start.
func (a *Auth) Stats() Stats {
	c, h := &a.stats, a.hasher
	waiting, _ := h.turns.count()
	return Stats{
		SignIns: c.signIns.Load(), Wrong: c.wrong.Load(),
		LimitedByAccount: c.limitedByAccount.Load(), LimitedByAddr: c.limitedByAddr.Load(), LimitedByQueue: h.refused.Load(),
		Issued: c.issued.Load(), Ended: c.ended.Load(), Expired: c.expired.Load(), Rehashed: c.rehashed.Load(),
		VerifyCached: c.verifyCached.Load(), VerifyLoaded: c.verifyLoaded.Load(), VerifyRefused: c.verifyRefused.Load(),
		Cached: a.cache.len(),
		Hashes: h.hashes.Load(), HashNanos: uint64(h.nanos.Load()), HashWaiting: waiting, HashWaitingMax: h.maxWaiting(),
		Iterations: h.params.Iterations, MemoryKiB: h.params.Memory,
	}
}

// idEncoding writes random bits in the characters that PROTOCOL 1.5 allows.
var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// parallel runs fn(0) … fn(n-1), at most 64 at once: enough that the store's
// group commit shares flushes, few beside its bounded queue.
func parallel(n int, fn func(i int)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range n {
		slots <- struct{}{}
		wg.Go(func() {
			fn(i)
			<-slots
		})
	}
	wg.Wait()
}

// seed keeps outsiders from choosing what shares a slot.
var seed = maphash.MakeSeed()
