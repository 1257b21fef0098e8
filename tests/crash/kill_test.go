package crash_test

import (
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/tests/crash/history"
)

const killRounds = 20

// TestKill kills the server 20 times under load. The clients stay: they reconnect by themselves, resend what was not
// acknowledged and pull what they missed.
func TestKill(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	p, data := newPlace(t), filepath.Join(shortDir(t), "data")
	s := p.mustStart(t, data)
	w := settle(t, s, 6, 4)
	var clock atomic.Int64
	rec := history.NewRecorder(history.History{}, func() int64 { return clock.Add(1) })
	l := startLoad(t, w, p, rec, 8, seed)
	var slowest time.Duration
	for range killRounds {
		l.untilAcks(1 + rng.Int64N(400))
		s.kill()
		s = p.mustStart(t, data)
		slowest = max(slowest, s.ready)
	}
	l.untilAcks(100) // the clients came back by themselves
	l.stop()
	h := rec.All()
	w.judge(t, p, h, "after the last round")
	if len(h.Acks) != len(h.Sends) {
		t.Errorf("%d messages sent, %d acknowledged in the end", len(h.Sends), len(h.Acks))
	}
	s.stop(t)
	s = p.mustStart(t, data)
	w.judge(t, p, h, "after an orderly stop")
	s.stop(t)
	t.Logf("%d kills, %d messages acknowledged, slowest start %v", killRounds, len(h.Acks), slowest)
}
