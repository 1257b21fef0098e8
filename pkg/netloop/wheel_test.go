package netloop

import (
	"math/rand/v2"
	"testing"
)

type testTimer struct {
	node  wheelNode
	fired int64 // tick told; 0: not
	count int
	then  func()
}

func (t *testTimer) expire(now int64) {
	t.fired = now
	t.count++
	if t.then != nil {
		t.then()
	}
}

func newTestTimer() *testTimer {
	t := &testTimer{}
	t.node.owner = t
	return t
}

// TestWheelAgainstModel: random timers over all levels and beyond, random steps; each
// fires once, never early, and never later than the step that passed it.
func TestWheelAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var w wheel
	w.init()
	now := int64(0)
	live := map[*testTimer]int64{} // to the tick from which an advance fires it
	for range 100_000 {
		switch op := rng.IntN(8); {
		case op < 4 && len(live) < 100:
			tm := newTestTimer()
			w.add(&tm.node, now+rng.Int64N(int64(1)<<rng.IntN(27)))
			live[tm] = max(tm.node.when, now+1)
		case op < 5:
			for tm := range live {
				if !w.stop(&tm.node) || w.stop(&tm.node) {
					t.Fatal("a live timer is armed once")
				}
				delete(live, tm)
				break
			}
		default:
			if op == 5 {
				now = max(now, min(now+1<<28, w.next())) // to where the loop would wake
			} else {
				now += rng.Int64N(int64(1) << rng.IntN(22))
			}
			w.advance(now)
			for tm, due := range live {
				switch {
				case due > now && tm.count != 0, due <= now && tm.count != 1:
					t.Fatalf("due at %d: fired %d times at %d", due, tm.count, now)
				case due > now && w.next() > due:
					t.Fatalf("due at %d: the loop would sleep until %d", due, w.next())
				case due <= now:
					delete(live, tm)
				}
			}
			if w.armed != len(live) {
				t.Fatalf("%d armed, want %d", w.armed, len(live))
			}
		}
	}
}

// TestWheelWakesAtMostThrice: between arming and firing, the loop is woken for each
// level once, not each millisecond.
func TestWheelWakesAtMostThrice(t *testing.T) {
	for _, when := range []int64{1, 63, 64, 65, 4095, 4096, 30_000, 262_143, 262_144, 5_000_000} {
		var w wheel
		w.init()
		w.now = 12345
		tm := newTestTimer()
		w.add(&tm.node, w.now+when)
		wakes := 0
		for tm.count == 0 {
			wakes++
			w.advance(w.next())
		}
		if tm.fired != 12345+when || wakes > wheelLevels {
			t.Errorf("after %d: fired after %d, %d wakes", when, tm.fired-12345, wakes)
		}
	}
}

// TestWheelChangesWhileFiring: what fires may stop its neighbour and arm itself again.
func TestWheelChangesWhileFiring(t *testing.T) {
	var w wheel
	w.init()
	a, b := newTestTimer(), newTestTimer()
	a.then = func() {
		w.stop(&b.node)
		w.add(&a.node, a.fired) // due at once: must wait for the next advance
	}
	w.add(&a.node, 10)
	w.add(&b.node, 10)
	w.advance(10)
	if a.count != 1 || b.count != 0 {
		t.Fatalf("a fired %d times, b %d", a.count, b.count)
	}
	a.then = nil
	w.advance(11)
	if a.count != 2 {
		t.Fatalf("a fired %d times", a.count)
	}
}
