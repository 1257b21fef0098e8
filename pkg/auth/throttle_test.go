package auth

import (
	"fmt"
	"hash/maphash"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// places are the addresses that TestPerAddress tells apart, one of each network.
var places = []string{"192.168.1.7", "10.1.1.1", "10.1.1.2", "10.1.1.3", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1", "fe80::1%eth0", ""}

// TestMain takes a seed with which no two of those places share a slot, nor the two
// accounts of newBench. By chance one process in some 110 has such a pair: that is what slots
// are, and not what is tested.
func TestMain(m *testing.M) {
	for {
		addrs := map[uint64]bool{}
		for _, p := range places {
			addr, _ := netip.ParseAddr(p)
			addrs[maphash.Comparable(seed, network(addr))%addrSlots] = true
		}
		key := func(id im.UserID) uint64 {
			return maphash.Comparable(seed, accountKey{tenant: oak, name: string(id)}) % accountSlots
		}
		if len(addrs) == len(places) && key(ann) != key(bob) {
			break
		}
		seed = maphash.MakeSeed()
	}
	os.Exit(m.Run())
}

// attackers are 100 addresses.
func attackers() []netip.Addr {
	addrs := make([]netip.Addr, 100)
	for i := range addrs {
		addrs[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
	}
	return addrs
}

// 10,000 guesses at one account from 100 addresses, spread over an hour: at most
// 20 may be judged, 10 of them from addresses that are not known, and the owner still gets in from where the owner was before.
func TestGuessing(t *testing.T) {
	for _, victim := range []string{"ann", "nobody"} {
		t.Run(victim, func(t *testing.T) {
			b := newBench(t, nil)
			b.password(ann, good)
			if _, err := b.SignIn("ann", good, home); err != nil {
				t.Fatal(err)
			}
			before := b.Stats()
			addrs := attackers()
			for i := range 10_000 {
				b.store.AddAge(time.Hour / 10_000)
				// Some change the case of the name: that is no other account.
				name := victim
				if i%3 == 0 {
					name = strings.ToUpper(victim)
				} else if i%3 == 1 && victim == "ann" {
					name = "ann*"
				}
				if _, err := b.SignIn(name, fmt.Sprintf("guess number %d", i), addrs[i%100]); !im.Is(err, im.Unauthenticated) {
					wantKind(t, err, im.RateLimited, "")
				}
				if i%1000 == 999 {
					if _, err := b.SignIn("ann", good, home); err != nil {
						t.Fatalf("after %d guesses the owner does not get in: %v", i, err)
					}
				}
			}
			after := b.Stats()
			judged := after.Wrong - before.Wrong
			if judged > 10 || judged < 5 || after.LimitedByAccount-before.LimitedByAccount != 10_000-judged {
				t.Fatalf("%d guesses were judged, %d refused", judged, after.LimitedByAccount)
			}
			if hashed := after.Hashes - before.Hashes; hashed != judged+10 {
				t.Fatalf("%d hashes for %d judged", hashed, judged)
			}
			// In the second hour the burst is gone.
			for i := range 1000 {
				b.store.AddAge(time.Hour / 1000)
				if _, err := b.SignIn(victim, "guess", addrs[i%100]); err == nil {
					t.Fatal("got in")
				}
			}
			if second := b.Stats().Wrong - after.Wrong; second > 5 || second < 4 {
				t.Fatalf("%d guesses were judged in the second hour", second)
			}
		})
	}
}

// All at once does not get more judged than one after the other.
func TestGuessingAtOnce(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Hashing.Waiting = 1000 })
	b.password(ann, good)
	var wg sync.WaitGroup
	for i, addr := range attackers() {
		wg.Go(func() {
			for range 10 {
				if _, err := b.SignIn("ann", fmt.Sprint("guess ", i), addr); err == nil {
					t.Error("got in")
				}
			}
		})
	}
	wg.Wait()
	if s := b.Stats(); s.Wrong > 5 {
		t.Fatalf("%d of 1000 guesses at one moment were judged", s.Wrong)
	}
}

// The owner at an unknown place is told when to come back, and that is true.
func TestRetryAfter(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	for range 5 {
		if _, err := b.SignIn("ann", "guess", attackers()[0]); !im.Is(err, im.Unauthenticated) {
			t.Fatal(err)
		}
	}
	_, err := b.SignIn("ann", good, home)
	e := wantKind(t, err, im.RateLimited, "")
	if e.RetryAfter > 12*time.Minute || e.RetryAfter < 11*time.Minute {
		t.Fatalf("come back after %v", e.RetryAfter)
	}
	b.store.AddAge(e.RetryAfter - 2*time.Second)
	_, err = b.SignIn("ann", good, home)
	wantKind(t, err, im.RateLimited, "")
	b.store.AddAge(2 * time.Second)
	if _, err = b.SignIn("ann", good, home); err != nil {
		t.Fatal(err)
	}
	// Another account is not held up by that.
	b.password(bob, good)
	if _, err := b.SignIn("bob", good, attackers()[0]); err != nil {
		t.Fatal(err)
	}
}

// What is right costs nothing, from wherever.
func TestRightPasswordsAreNotCounted(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	for i, addr := range attackers() {
		if _, err := b.SignIn("ann", good, addr); err != nil {
			t.Fatalf("sign-in %d: %v", i, err)
		}
	}
}

// A place is known for 30 days of running time after the last sign-in there, to
// the account that signed in and to no other; guesses from it count by
// themselves.
func TestKnownPlaces(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	b.password(bob, good)
	stranger := attackers()[1]
	exhaust := func(name string, from netip.Addr) (judged int) {
		for range 50 {
			if _, err := b.SignIn(name, "guess", from); im.Is(err, im.Unauthenticated) {
				judged++
			}
		}
		return judged
	}
	if _, err := b.SignIn("ann", good, home); err != nil {
		t.Fatal(err)
	}
	if n := exhaust("ann", stranger); n != 5 {
		t.Fatalf("%d judged from elsewhere", n)
	}
	if n := exhaust("bob", stranger); n != 5 {
		t.Fatalf("%d judged for another account", n)
	}
	if _, err := b.SignIn("bob", good, home); !im.Is(err, im.RateLimited) {
		t.Fatalf("ann's place is known to bob: %v", err)
	}
	if n := exhaust("ann", home); n != 5 {
		t.Fatalf("%d judged from a known place", n)
	}
	if _, err := b.SignIn("ann", good, home); !im.Is(err, im.RateLimited) {
		t.Fatalf("guessing goes on from a known place: %v", err)
	}
	b.store.AddAge(29 * 24 * time.Hour)
	exhaust("ann", stranger)
	if _, err := b.SignIn("ann", good, home); err != nil { // known for 30 more days
		t.Fatal(err)
	}
	b.store.AddAge(29 * 24 * time.Hour)
	exhaust("ann", stranger)
	if _, err := b.SignIn("ann", good, home); err != nil {
		t.Fatal(err)
	}
	b.store.AddAge(30 * 24 * time.Hour)
	exhaust("ann", stranger)
	if _, err := b.SignIn("ann", good, home); !im.Is(err, im.RateLimited) {
		t.Fatalf("a place is known for more than 30 days: %v", err)
	}
}

func TestPerAddress(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Limits.ChecksPerMinutePerAddr = 10 })
	b.password(ann, good)
	v6 := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	for _, c := range []struct {
		first, again netip.Addr
		same         bool
	}{
		{home, home, true},
		{v6("10.1.1.1"), v6("::ffff:10.1.1.1"), true},
		{v6("10.1.1.2"), v6("10.1.1.3"), false},
		{v6("2001:db8::1"), v6("2001:db8::ffff:2"), true},
		{v6("2001:db8:0:1::1"), v6("2001:db8:0:2::1"), false},
		{v6("fe80::1%eth0"), v6("fe80::2%wlan0"), true},
		{netip.Addr{}, netip.Addr{}, true},
	} {
		for range 10 {
			if _, err := b.SignIn("ann", good, c.first); err != nil {
				t.Fatalf("%v: %v", c.first, err)
			}
		}
		limited := b.Stats().LimitedByAddr
		_, err := b.SignIn("ann", good, c.again)
		if c.same {
			if e := wantKind(t, err, im.RateLimited, ""); e.RetryAfter != 6*time.Second || b.Stats().LimitedByAddr != limited+1 {
				t.Errorf("%v after %v: retry after %v", c.again, c.first, e.RetryAfter)
			}
		} else if err != nil {
			t.Errorf("%v after %v: %v", c.again, c.first, err)
		}
	}
	b.store.AddAge(6 * time.Second)
	if _, err := b.SignIn("ann", good, home); err != nil {
		t.Fatalf("six seconds later: %v", err)
	}
}

func TestSetLimits(t *testing.T) {
	b := newBench(t, nil)
	b.password(ann, good)
	guess := func() (judged int) {
		for range 50 {
			if _, err := b.SignIn("ann", "guess", home); im.Is(err, im.Unauthenticated) {
				judged++
			}
		}
		return judged
	}
	if n := guess(); n != 5 {
		t.Fatalf("%d judged", n)
	}
	b.SetLimits(Limits{ChecksPerMinutePerAddr: 600, FailuresPerHourPerAccount: 20, Hashes: 2})
	if n := guess(); n != 0 {
		t.Fatalf("%d judged after limits were set that are the same", n)
	}
	b.SetLimits(Limits{ChecksPerMinutePerAddr: 600, FailuresPerHourPerAccount: 40, Hashes: 1})
	if n := guess(); n != 10 {
		t.Fatalf("%d judged after limits were raised", n)
	}
	if b.Stats().HashWaitingMax != 50 {
		t.Fatalf("%d may wait for one at a time", b.Stats().HashWaitingMax)
	}
}

// Whatever strangers try, what is remembered is bounded.
func TestThrottleIsBounded(t *testing.T) {
	var age atomic.Int64
	th := newThrottle(Limits{ChecksPerMinutePerAddr: 1, FailuresPerHourPerAccount: 20}, func() time.Duration { return time.Duration(age.Add(int64(time.Second))) })
	for i := range 50_000 {
		acc := accountKey{tenant: oak, name: fmt.Sprint("user", i)}
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		try, retry, _ := th.admit(acc, addr)
		if retry > 0 {
			continue
		}
		th.settle(try, right)
		for j := range 20 {
			th.remember(acc, netip.AddrFrom4([4]byte{byte(j), 1, 1, 1}))
		}
		if n := len(th.known[acc]); n != knownPerAccount {
			t.Fatalf("%d places of one account", n)
		}
	}
	if len(th.known) != maxKnownAccounts || len(th.accounts) != accountSlots || len(th.addrs) != addrSlots {
		t.Fatalf("%d known, %d accounts, %d addresses", len(th.known), len(th.accounts), len(th.addrs))
	}
	acc := accountKey{tenant: oak, name: "last"}
	for j := range 9 { // the one used longest ago gives way
		th.remember(acc, netip.AddrFrom4([4]byte{byte(j), 1, 1, 1}))
		th.remember(acc, netip.AddrFrom4([4]byte{0, 1, 1, 1}))
	}
	first, second := false, false
	for _, k := range th.known[acc] {
		first = first || k.addr == netip.AddrFrom4([4]byte{0, 1, 1, 1})
		second = second || k.addr == netip.AddrFrom4([4]byte{1, 1, 1, 1})
	}
	if !first || second {
		t.Fatalf("known are %v", th.known[acc])
	}
}
