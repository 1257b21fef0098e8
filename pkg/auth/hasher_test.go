package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

func TestCalibration(t *testing.T) {
	for each, want := range map[time.Duration]uint32{
		0:                      16, // a machine that is too fast to be true
		time.Millisecond:       16,
		20 * time.Millisecond:  5,
		34 * time.Millisecond:  3,
		50 * time.Millisecond:  2,
		500 * time.Millisecond: 2, // a very slow one still gets a sound hash
	} {
		measured := 0
		o := Hashing{MemoryKiB: 8, Measure: func(memoryKiB, iterations uint32) time.Duration {
			measured++
			if memoryKiB != 8 || iterations != 2 {
				t.Errorf("measured m=%d t=%d", memoryKiB, iterations)
			}
			noise := time.Duration(measured%2) * time.Second // another process had the core
			return each*time.Duration(iterations) + noise
		}}
		b := newBench(t, func(opts *Options) { opts.Hashing = o })
		if s := b.Stats(); s.Iterations != want || measured != 3 {
			t.Errorf("%v an iteration: t=%d after %d tries, want %d", each, s.Iterations, measured, want)
		}
		again := func() uint32 {
			t.Helper()
			a, err := New(t.Context(), Options{Tokens: b.store, Credentials: b.store, Box: b.store, Users: b.users, Hashing: o})
			if err != nil {
				t.Fatal(err)
			}
			return a.Stats().Iterations
		}
		if n := again(); n != want || measured != 3 {
			t.Errorf("the second start measured again, t=%d", n)
		}
		for _, broken := range []string{"", "x", `{"m":8,"t":1}`, `{"m":8,"t":17}`, `{"m":9,"t":3}`} {
			measured = 0
			if err := b.store.SetSetting(t.Context(), hashingSetting, []byte(broken)); err != nil {
				t.Fatal(err)
			}
			if n := again(); n != want || measured != 3 {
				t.Errorf("with %q stored: t=%d after %d tries", broken, n, measured)
			}
		}
		measured = 0
		if err := b.store.SetSetting(t.Context(), hashingSetting, nil); err != nil {
			t.Fatal(err)
		}
		b.store.SetState(store.ReadOnly, "read-only")
		if n := again(); n != want || measured != 3 {
			t.Errorf("read-only: t=%d after %d tries", n, measured)
		}
	}
}

// The real thing, once: parameters as strong as they have to be, and a hash that
// says so.
func TestRealHash(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Hashing = Hashing{} })
	s := b.Stats()
	if s.MemoryKiB != 19456 || s.Iterations < 2 || s.Iterations > 16 {
		t.Fatalf("m=%d t=%d", s.MemoryKiB, s.Iterations)
	}
	b.password(ann, good)
	c, err := b.store.Credential(t.Context(), oak, ann)
	if err != nil || !strings.HasPrefix(c.PHC, fmt.Sprintf("$argon2id$v=19$m=19456,t=%d,p=1$", s.Iterations)) {
		t.Fatalf("stored %.40s…, %v", c.PHC, err)
	}
	if _, err := b.SignIn("ann", good, home); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SignIn("ann", "wrong password", home); !im.Is(err, im.Unauthenticated) {
		t.Fatal(err)
	}
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Hashing.Waiting = 5 })
		h := b.hasher
		calmed, collected := 0, 0 // nothing runs beside them in this test
		h.calm, h.collect = func() { calmed++ }, func() { collected++ }
		var running, most atomic.Int32
		release := make(chan struct{})
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		enter := func(i int, ctx context.Context) error {
			return h.do(ctx, netip.Addr{}, func() error {
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				<-release
				running.Add(-1)
				return nil
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 7 {
			wg.Go(func() {
				c := t.Context()
				if i == 4 {
					c = ctx
				}
				err := enter(i, c)
				if i == 4 {
					wantKind(t, err, im.Unavailable, "")
				} else if err != nil {
					t.Errorf("%d: %v", i, err)
				}
			})
			synctest.Wait() // one after the other, so that the order is known
		}
		if s := b.Stats(); s.HashWaiting != 5 || s.HashWaitingMax != 5 || most.Load() != 2 {
			t.Errorf("%d wait, %d run", s.HashWaiting, most.Load())
		}
		wantKind(t, enter(7, t.Context()), im.RateLimited, "")
		if b.Stats().LimitedByQueue != 1 {
			t.Errorf("%d counted", b.Stats().LimitedByQueue)
		}
		cancel() // 4 hung up: it makes room
		synctest.Wait()
		wg.Go(func() {
			if err := enter(8, t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		for range 7 {
			release <- struct{}{}
			synctest.Wait()
		}
		wg.Wait()
		if got := fmt.Sprint(order); got != "[0 1 2 3 5 6 8]" {
			t.Errorf("they ran in the order %s", got)
		}
		if s := b.Stats(); most.Load() != 2 || s.HashWaiting != 0 || s.Hashes != 7 {
			t.Errorf("%d at once, %d wait, %d counted", most.Load(), s.HashWaiting, s.Hashes)
		}
		if calmed != 1 || collected != 3 {
			t.Errorf("memory was collected %d times in the rush and given back %d times", collected, calmed)
		}
		// A turn is given back by who fails.
		for range 10 {
			if err := h.do(t.Context(), netip.Addr{}, func() error { return errors.New("x") }); err == nil {
				t.Error("no error")
			}
		}
	})
}

// When everybody comes at once, those whom the queue can't take are told when to
// come back, and everybody who comes back gets in.
func TestStorm(t *testing.T) {
	const users, bound = 300, 20
	b := newBench(t, func(o *Options) { o.Hashing = Hashing{MemoryKiB: 64, Iterations: 2, Waiting: bound} })
	for i := range users {
		id := im.UserID(fmt.Sprintf("u_%d", i))
		u := im.User{Tenant: oak, ID: id, Username: fmt.Sprintf("user%d", i), Role: im.RoleMember}
		b.users.users[oak][id] = &u
		if err := b.store.UpdateUser(t.Context(), oak, id, func(*im.User) (*im.User, error) { return &u, nil }); err != nil {
			t.Fatal(err)
		}
		b.password(id, good)
	}
	var wg sync.WaitGroup
	var in, later atomic.Int32
	for i := range users {
		wg.Go(func() {
			addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
			for {
				_, err := b.SignIn(fmt.Sprintf("user%d", i), good, addr)
				if err == nil {
					in.Add(1)
					return
				}
				var e *im.Error
				if !errors.As(err, &e) || e.Kind != im.RateLimited || e.RetryAfter < time.Second {
					t.Errorf("user %d: %v", i, err)
					return
				}
				later.Add(1)
				b.store.AddAge(e.RetryAfter)
				runtime.Gosched()
			}
		})
	}
	wg.Wait()
	s := b.Stats()
	if in.Load() != users || s.SignIns != users || s.HashWaiting != 0 || s.LimitedByAccount != 0 || int32(s.LimitedByQueue+s.LimitedByAddr) != later.Load() {
		t.Fatalf("%d got in, %d told to come back; %+v", in.Load(), later.Load(), s)
	}
	t.Logf("%d got in, %d times told to come back", in.Load(), later.Load())
}

// One at a time, nothing is computed for a moment between two; that is not the
// end of the rush.
func TestMemoryIsGivenBackOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(o *Options) { o.Limits.Hashes = 1 })
		calmed := 0
		b.hasher.calm = func() { calmed++ }
		release := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := b.hasher.do(t.Context(), netip.Addr{}, func() error { <-release; return nil }); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		for range 4 {
			release <- struct{}{}
			synctest.Wait()
		}
		wg.Wait()
		if calmed != 1 {
			t.Errorf("given back %d times", calmed)
		}
	})
}
