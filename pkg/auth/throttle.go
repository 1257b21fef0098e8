package auth

import (
	"hash/maphash"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pipit-im/pipit/pkg/im"
)

// The bounds of what is remembered about sign-ins. Buckets sit in tables of fixed
// size by a keyed hash: two accounts may share one, which costs little, but
// nobody can push a bucket out by trying many names, as he could with a cache.
const (
	accountSlots     = 8192
	addrSlots        = 4096
	maxKnownAccounts = 20_000
	knownPerAccount  = 8
	knownFor         = 30 * 24 * time.Hour // of Box.Age
)

// throttle slows guessing down. Its clock is Box.Age, so it neither stands still
// nor runs ahead when the wall clock leaps. What it knows is lost at a restart:
// guessers get the burst once more, and owners have to sign in once to be known.
type throttle struct {
	age func() time.Duration

	mu       sync.Mutex // never held over I/O; guards everything below
	limits   Limits
	accounts []*lane
	addrs    []*lane
	known    map[accountKey][]knownAddr
}

// accountKey is who somebody claims to be: the user's id for one who exists, the
// name that was typed, case ignored, for one who does not.
type accountKey struct {
	tenant im.TenantID
	name   string
}

// knownAddr is an address from which somebody signed in to an account.
type knownAddr struct {
	addr netip.Addr
	at   time.Duration // Box.Age of the last time
	lane *lane         // nil while no password was wrong
}

// lane is a token bucket that is charged only for what failed: while passwords
// are being judged they are held against it.
type lane struct {
	bucket  *rate.Limiter
	judging int
}

// epoch is where Box.Age begins, for rate's arithmetic on times.
var epoch = time.Unix(0, 0)

func newThrottle(l Limits, age func() time.Duration) *throttle {
	t := &throttle{age: age, known: map[accountKey][]knownAddr{}}
	t.reset(l)
	return t
}

// setLimits forgets what was counted, but only if the limits are others: who
// reloads the settings for another reason gives nobody a new burst.
func (t *throttle) setLimits(l Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l != t.limits {
		t.reset(l)
	}
}

// reset begins anew with limits l. Caller holds mu.
func (t *throttle) reset(l Limits) {
	t.limits = l
	t.accounts = make([]*lane, accountSlots)
	t.addrs = make([]*lane, addrSlots)
	for _, addrs := range t.known {
		for i := range addrs {
			addrs[i].lane = nil
		}
	}
}

// newAccountLane gives a quarter of the hourly failures at once and a quarter in
// an hour, so at most half of them in any hour. Caller holds mu.
func (t *throttle) newAccountLane() *lane {
	quarter := max(float64(t.limits.FailuresPerHourPerAccount)/4, 1)
	return &lane{bucket: rate.NewLimiter(rate.Limit(quarter/3600), int(quarter))}
}

// attempt is a password that was admitted to be judged.
type attempt struct {
	account accountKey
	addr    netip.Addr
	lane    *lane
}

// admit lets a password be judged, or says after how long to try again and
// whether the address is to blame. Every attempt that was admitted must be
// settled.
func (t *throttle) admit(acc accountKey, addr netip.Addr) (_ attempt, retry time.Duration, byAddr bool) {
	addr = network(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := epoch.Add(t.age())
	if retry := t.fromAddr(addr, now); retry > 0 {
		return attempt{}, retry, true
	}
	l := t.lane(acc, addr)
	if retry := l.wait(now); retry > 0 {
		return attempt{}, retry, false
	}
	l.judging++
	return attempt{account: acc, addr: addr, lane: l}, 0, false
}

// fromAddr counts one attempt against its address, or says after how long to try
// again. Caller holds mu.
func (t *throttle) fromAddr(addr netip.Addr, now time.Time) (retry time.Duration) {
	at := &t.addrs[maphash.Comparable(seed, addr)%addrSlots]
	if *at == nil {
		n := max(t.limits.ChecksPerMinutePerAddr, 1)
		*at = &lane{bucket: rate.NewLimiter(rate.Limit(float64(n)/60), n)}
	}
	if !(*at).bucket.AllowN(now, 1) {
		return (*at).wait(now)
	}
	return 0
}

// admitAddr counts an attempt that is about no account yet (an invitation's code,
// a passkey) against its address alone.
func (t *throttle) admitAddr(addr netip.Addr) (retry time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fromAddr(network(addr), epoch.Add(t.age()))
}

// lane returns the bucket that an attempt counts against. Caller holds mu.
func (t *throttle) lane(acc accountKey, addr netip.Addr) *lane {
	addrs := t.known[acc]
	for i := range addrs {
		k := &addrs[i]
		if k.addr == addr && t.age()-k.at < knownFor {
			if k.lane == nil {
				k.lane = t.newAccountLane()
			}
			return k.lane
		}
	}
	at := &t.accounts[maphash.Comparable(seed, acc)%accountSlots]
	if *at == nil {
		*at = t.newAccountLane()
	}
	return *at
}

// wait returns how long until another one may be judged: 0 for now, else whole
// seconds, at least one. Caller holds the throttle's mu.
func (l *lane) wait(now time.Time) time.Duration {
	tokens := l.bucket.TokensAt(now)
	switch {
	case tokens >= float64(l.judging+1):
		return 0
	case tokens >= 1: // only those that are being judged are in the way
		return time.Second
	}
	return time.Duration(math.Ceil((1-tokens)/float64(l.bucket.Limit()))) * time.Second
}

// The ways in which an attempt can end.
type outcome uint8

const (
	unjudged outcome = iota
	wrong
	right
)

// settle says what became of an attempt. A right one makes the address known.
func (t *throttle) settle(a attempt, o outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a.lane.judging--
	switch o {
	case wrong:
		a.lane.bucket.AllowN(epoch.Add(t.age()), 1)
	case right:
		t.remember(a.account, a.addr)
	}
}

// remember makes an address known to an account. Only who knows the password gets
// here, so nobody else can push anything out. Caller holds mu.
func (t *throttle) remember(acc accountKey, addr netip.Addr) {
	now := t.age()
	addrs := t.known[acc]
	oldest := 0
	for i := range addrs {
		if addrs[i].addr == addr {
			addrs[i].at = now
			return
		}
		if addrs[i].at < addrs[oldest].at {
			oldest = i
		}
	}
	k := knownAddr{addr: addr, at: now}
	if len(addrs) >= knownPerAccount {
		addrs[oldest] = k
		return
	}
	if len(addrs) == 0 && len(t.known) >= maxKnownAccounts {
		for any := range t.known {
			delete(t.known, any)
			break
		}
	}
	t.known[acc] = append(addrs, k)
}

// network returns what counts as one address: an IPv4 address, or the /64 that an
// IPv6 host draws its addresses from (RFC 4291 §2.5.1).
func network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if addr.Is6() {
		// Prefix drops the zone.
		if p, err := addr.Prefix(64); err == nil {
			return p.Addr()
		}
	}
	return addr
}
