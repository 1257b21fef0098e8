package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/argon2"

	"github.com/pipit-im/pipit/pkg/im"
)

// The parameters of argon2id (RFC 9106; memory, lanes and the least number of
// iterations as OWASP's first choice for small memory). More iterations are
// taken on a machine that is fast, up to targetTime.
const (
	memoryKiB     = 19 << 10
	minIterations = 2
	maxIterations = 16
	targetTime    = 100 * time.Millisecond
	saltBytes     = 16
	keyBytes      = 32

	hashingSetting = "auth.argon2id" // of store.Box: JSON of stored
)

// stored is how the measured parameters are kept.
type stored struct {
	MemoryKiB  uint32 `json:"m"`
	Iterations uint32 `json:"t"`
}

// hasher computes password hashes, a few at a time, address by address in turn.
type hasher struct {
	params *argon2id.Params // of new hashes; never changed
	dummy  string           // a hash with params that no password has

	turns   turns
	fixed   int // how many may wait if not counted by how many run
	running atomic.Int64
	calm    func() // called after a hash when no other is computed or waited for
	collect func() // called after every second of the others
	refused atomic.Uint64
	hashes  atomic.Uint64
	nanos   atomic.Int64
}

func (a *Auth) newHasher(ctx context.Context, o Hashing, n int) (*hasher, error) {
	if o.MemoryKiB == 0 {
		o.MemoryKiB = memoryKiB
	}
	if o.Measure == nil {
		o.Measure = measure
	}
	if o.Iterations == 0 {
		var err error
		if o.Iterations, err = a.calibrate(ctx, o); err != nil {
			return nil, err
		}
	}
	// Each hash leaves its memory to the collector, which by itself lets several
	// pile up and keeps their pages for minutes: a rush of 100, two at a time, took a
	// process from 24 to 167 MB, and most of that stayed. Collecting during the rush
	// and giving back after it: 108 MB, then 24, and the rush took no longer. Not
	// after each hash: a collection costs a few percent of one.
	calm, collect := debug.FreeOSMemory, runtime.GC
	if o.MemoryKiB < 1<<10 { // tests: nothing worth it
		calm = func() {}
		collect = calm
	}
	h := &hasher{fixed: o.Waiting, calm: calm, collect: collect, params: &argon2id.Params{
		Memory: o.MemoryKiB, Iterations: o.Iterations, Parallelism: 1, SaltLength: saltBytes, KeyLength: keyBytes}}
	// Made up, not computed: nobody knows a password for it, and a start need not
	// wait for it.
	var b [saltBytes + keyBytes]byte
	if _, err := io.ReadFull(a.rand, b[:]); err != nil {
		return nil, im.Wrap("auth: draw a salt", err)
	}
	h.dummy = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.params.Memory, h.params.Iterations,
		h.params.Parallelism, base64.RawStdEncoding.EncodeToString(b[:saltBytes]), base64.RawStdEncoding.EncodeToString(b[saltBytes:]))
	h.setSlots(n)
	return h, nil
}

func (h *hasher) setSlots(n int) {
	if n < 1 {
		n = max(runtime.NumCPU()/2, 1)
	}
	h.turns.setLimit(n)
}

func (h *hasher) maxWaiting() int {
	if h.fixed > 0 {
		return h.fixed
	}
	_, limit := h.turns.count()
	return 50 * limit // about five seconds
}

// calibrate returns the iterations that were measured at the first start, or
// measures them.
func (a *Auth) calibrate(ctx context.Context, o Hashing) (uint32, error) {
	raw, err := a.box.Setting(ctx, hashingSetting)
	if err != nil && !im.Is(err, im.NotFound) {
		return 0, im.Wrap("auth: read the hashing parameters", err)
	}
	var s stored
	if err == nil && json.Unmarshal(raw, &s) == nil && s.MemoryKiB == o.MemoryKiB &&
		s.Iterations >= minIterations && s.Iterations <= maxIterations {
		return s.Iterations, nil
	}
	// The quickest of three: something else may run, but nothing makes it faster.
	took := o.Measure(o.MemoryKiB, minIterations)
	for range 2 {
		took = min(took, o.Measure(o.MemoryKiB, minIterations))
	}
	if o.MemoryKiB >= 1<<10 {
		// What the three left would stay for minutes: 59 MB resident after a first
		// start, 21 with this.
		debug.FreeOSMemory()
	}
	each := max(took/minIterations, 1)
	s = stored{MemoryKiB: o.MemoryKiB, Iterations: uint32(min(max((targetTime+each/2)/each, minIterations), maxIterations))}
	a.log.Info("password hashing measured", "memory_kib", s.MemoryKiB, "iterations", s.Iterations, "about", each*time.Duration(s.Iterations))
	if raw, err = json.Marshal(s); err == nil {
		err = a.box.SetSetting(ctx, hashingSetting, raw)
	}
	if err != nil {
		// Full or read-only: people can still sign in.
		a.log.Warn("password hashing parameters not stored; they will be measured again", "error", err)
	}
	return s.Iterations, nil
}

func measure(memoryKiB, iterations uint32) time.Duration {
	start := time.Now()
	argon2.IDKey([]byte("a password"), make([]byte, saltBytes), iterations, memoryKiB, 1, keyBytes)
	return time.Since(start)
}

// do runs fn, which computes one hash, when it is its turn. from is the address
// that wants it, the zero Addr for the box itself. im.RateLimited if too many wait,
// im.Unavailable if ctx ends first.
func (h *hasher) do(ctx context.Context, from netip.Addr, fn func() error) error {
	ok, err := h.turns.take(ctx, network(from), h.maxWaiting())
	if err != nil {
		return &im.Error{Kind: im.Unavailable, Message: "Gave up waiting to check the password.", Cause: err}
	}
	if !ok {
		h.refused.Add(1)
		// By then those who wait now are through.
		waiting, limit := h.turns.count()
		turns := time.Duration(1 + waiting/limit)
		return &im.Error{Kind: im.RateLimited, RetryAfter: max((turns * h.average()).Round(time.Second), time.Second),
			Message: "Many people are signing in right now. Please try again in a moment."}
	}
	defer h.turns.give()
	h.running.Add(1)
	start := time.Now()
	err = fn()
	h.nanos.Add(int64(time.Since(start)))
	n := h.hashes.Add(1)
	if waiting, _ := h.turns.count(); h.running.Add(-1) == 0 && waiting == 0 {
		h.calm()
	} else if n%2 == 0 {
		h.collect()
	}
	return err
}

// average returns how long a hash took so far.
func (h *hasher) average() time.Duration {
	if n := h.hashes.Load(); n > 0 {
		return time.Duration(uint64(h.nanos.Load()) / n)
	}
	return targetTime
}

// hash returns a new hash of a password.
func (h *hasher) hash(ctx context.Context, from netip.Addr, password string) (phc string, err error) {
	err = h.do(ctx, from, func() error {
		phc, err = argon2id.CreateHash(password, h.params)
		return err
	})
	return phc, err
}

// check reports whether phc is a hash of password. An empty phc is of none, at
// the same cost. weak: it is, but with less than what new hashes get.
func (h *hasher) check(ctx context.Context, from netip.Addr, password, phc string) (ok, weak bool, err error) {
	if phc == "" {
		phc = h.dummy
	}
	p, _, _, err := argon2id.DecodeHash(phc)
	if err != nil {
		return false, false, err
	}
	// What is stored says how much memory is taken: not without a bound, and
	// argon2 panics without iterations or lanes.
	if p.Memory > 256<<10 || p.Iterations < 1 || p.Iterations > 256 || p.Parallelism < 1 {
		return false, false, fmt.Errorf("parameters m=%d,t=%d,p=%d are out of bounds", p.Memory, p.Iterations, p.Parallelism)
	}
	err = h.do(ctx, from, func() error {
		ok, _, err = argon2id.CheckHash(password, phc)
		return err
	})
	return ok, p.Memory < h.params.Memory || p.Iterations < h.params.Iterations, err
}
