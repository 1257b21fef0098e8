package auth

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// queued is a queue of turns in a synctest bubble: who runs does so until released.
type queued struct {
	turns
	t       *testing.T
	bound   int
	order   []string
	refused []string
	mu      sync.Mutex
	release chan struct{}
	wait    sync.WaitGroup
}

func (q *queued) come(addr string, name string) {
	q.comeWith(q.t.Context(), addr, name)
}

func (q *queued) comeWith(ctx context.Context, addr string, name string) {
	q.wait.Go(func() {
		ok, err := q.take(ctx, netip.MustParseAddr(addr), q.bound)
		q.mu.Lock()
		switch {
		case err != nil:
			q.refused = append(q.refused, "gone "+name)
		case !ok:
			q.refused = append(q.refused, name)
		default:
			q.order = append(q.order, name)
		}
		q.mu.Unlock()
		if ok {
			<-q.release
			q.give()
		}
	})
	synctest.Wait()
}

// finish lets everybody run, one after the other.
func (q *queued) finish() string {
	for {
		if _, ran := q.idle(); ran {
			break
		}
		q.release <- struct{}{}
		synctest.Wait()
	}
	q.wait.Wait()
	return strings.Join(q.order, " ")
}

func (q *queued) idle() (waiting int, idle bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.turns.mu.Lock()
	defer q.turns.mu.Unlock()
	return q.waiting, q.running == 0
}

func newQueued(t *testing.T, limit, bound int) *queued {
	q := &queued{t: t, bound: bound, release: make(chan struct{})}
	q.setLimit(limit)
	return q
}

// TestTurnsByAddress: an address that sends many waits behind itself, not others
// behind it; and when no more fit, it is the one that gives up a place.
func TestTurnsByAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueued(t, 1, 6)
		for i := range 9 { // one runs, six wait, two too many
			q.come("10.0.0.66", fmt.Sprint("m", i))
		}
		q.come("10.0.0.1", "ann") // takes m6's place
		q.come("10.0.0.2", "ben") // m5's
		q.come("10.0.0.1", "amy") // m4's
		q.come("10.0.0.2", "bob") // two of ann's, ben one, m three: m3's
		q.come("10.0.0.2", "bud") // nobody has more than he would have: his own bad luck
		want := "m7 m8 m6 m5 m4 m3 bud"
		if got := strings.Join(q.refused, " "); got != want {
			t.Errorf("refused: %s, want %s", got, want)
		}
		if got, want := q.finish(), "m0 m1 ann ben m2 amy bob"; got != want {
			t.Errorf("order: %s, want %s", got, want)
		}
		if n, _ := q.idle(); n != 0 || len(q.next) != 0 {
			t.Errorf("%d wait in the end, %d lines", n, len(q.next))
		}
	})
}

// TestTurnsGivenUp: whoever hangs up leaves no gap, be it the last of a line.
func TestTurnsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueued(t, 1, 10)
		gone, leave := context.WithCancel(t.Context())
		q.come("10.0.0.1", "a0")
		q.comeWith(gone, "10.0.0.1", "a1")
		q.comeWith(gone, "10.0.0.2", "b0")
		q.come("10.0.0.1", "a2")
		leave()
		synctest.Wait()
		slices.Sort(q.refused)
		if got := strings.Join(q.refused, " "); got != "gone a1 gone b0" || q.waiting != 1 {
			t.Errorf("%s; %d wait", got, q.waiting)
		}
		q.setLimit(2) // a reload lets one more run at once
		synctest.Wait()
		if q.running != 2 {
			t.Errorf("%d run", q.running)
		}
		if got := q.finish(); got != "a0 a2" {
			t.Errorf("order %s", got)
		}
	})
}

// TestTurnsAtRandom: with many addresses that come, go and hang up, no more run than
// may, nobody is forgotten, and no more wait than the bound.
func TestTurnsAtRandom(t *testing.T) {
	const limit, bound = 3, 150
	var q turns
	q.setLimit(limit)
	var running, ran, refused, gone atomic.Int64
	var wait sync.WaitGroup
	for who := range 200 {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(uint64(who), 5))
			addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(30))})
			for range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(2) == 0 { // often in the moment in which the turn comes
					spins := r.IntN(100)
					go func() {
						for range spins {
							runtime.Gosched()
						}
						cancel()
					}()
				}
				ok, err := q.take(ctx, addr, bound)
				switch {
				case ok:
					if n := running.Add(1); n > limit {
						t.Errorf("%d run", n)
					}
					if n, _ := q.count(); n > bound {
						t.Errorf("%d wait", n)
					}
					runtime.Gosched()
					running.Add(-1)
					ran.Add(1)
					q.give()
				case err != nil:
					gone.Add(1)
				default:
					refused.Add(1)
				}
				cancel()
			}
		})
	}
	wait.Wait()
	if n := ran.Load() + refused.Load() + gone.Load(); n != 200*50 || q.waiting != 0 || q.running != 0 || len(q.next) != 0 || ran.Load() == 0 {
		t.Errorf("%d of %d; %d wait and %d run in the end", n, 200*50, q.waiting, q.running)
	}
	t.Logf("%d ran, %d refused, %d hung up", ran.Load(), refused.Load(), gone.Load())
}
