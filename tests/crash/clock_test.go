//go:build linux && amd64

package crash_test

import (
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/tests/crash/clock"
	"github.com/pipit-im/pipit/tests/crash/history"
)

const (
	leaps         = 200
	leapsAProcess = 25
)

// TestClockLeaps gives the server the clock of a Pi that wakes in 1970, is set right, and then leaps by decades and back
// under load, 200 times, with a kill -9 now and then. No message is lost or out of order, times in a log never fall, and
// nobody is signed out.
func TestClockLeaps(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	day, now := 24*time.Hour, time.Now()
	eras := []time.Time{
		time.Date(1970, 1, 2, 0, 0, 0, 0, time.UTC), now, now.AddDate(56, 0, 0), now.AddDate(-1, 0, 0), now.Add(90 * day), now.Add(-90 * day),
	}
	var wall clock.Clock
	wall.Set(eras[0])
	p, data := newPlace(t), filepath.Join(shortDir(t), "data")
	p.run = wall.Start
	s := p.mustStart(t, data)
	w := settle(t, s, 6, 4)
	var order atomic.Int64
	rec := history.NewRecorder(history.History{}, func() int64 { return order.Add(1) })
	l := startLoad(t, w, p, rec, 8, seed)
	l.untilAcks(50)
	for n := range leaps {
		if n < len(eras) {
			wall.Set(eras[n]) // each of them at least once, the right time after 1970 first
		} else {
			wall.Set(eras[rng.IntN(len(eras))])
		}
		l.untilAcks(1 + rng.Int64N(20))
		if n%leapsAProcess == leapsAProcess-1 {
			s.kill()
			s = p.mustStart(t, data)
		}
	}
	l.untilAcks(50)
	l.stop()
	h := rec.All()
	w.judge(t, p, h, "after the last leap")
	if len(h.Acks) != len(h.Sends) {
		t.Errorf("%d messages sent, %d acknowledged in the end", len(h.Sends), len(h.Acks))
	}
	for i, who := range w.people {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url()+"/v1/tenant", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+who.token)
		resp, err := probe.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("person %d was signed out: %d", i, resp.StatusCode)
		}
	}
	if wall.Asked() < leaps || wall.Err() != nil {
		t.Errorf("the server asked for the time %d times: %v", wall.Asked(), wall.Err())
	}
	s.stop(t)
	t.Logf("%d leaps, %d messages acknowledged, the time was asked for %d times", leaps, len(h.Acks), wall.Asked())
}
