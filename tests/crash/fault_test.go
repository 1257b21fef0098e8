package crash_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/tests/crash/disk"
	"github.com/pipit-im/pipit/tests/crash/history"
)

// TestFailingFlushes lets the disk answer flushes with EIO under load and loses everything unflushed then. After a
// failed flush nothing may be acknowledged any more, or it is owed now and gone.
func TestFailingFlushes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, f := range []struct {
		name              string
		read, write, sync float64
		again             int // rounds more for each ten cuts of a long run
	}{
		{"every flush", 0, 0, 1, 0},
		{"some flushes", 0, 0, 0.2, 0},
		{"some of everything", 0.03, 0.03, 0.03, 1},
	} {
		t.Run(f.name, func(t *testing.T) {
			rounds := 1
			if n := cuts(t); n > defaultCuts {
				rounds += f.again * n / 10
			}
			for n := range rounds {
				t.Run(fmt.Sprint("round", n), func(t *testing.T) { failUnderLoad(t, rng, f.read, f.write, f.sync) })
			}
		})
	}
}

func failUnderLoad(t *testing.T, rng *rand.Rand, readEIO, writeEIO, flushEIO float64) {
	disk.Need(t)
	at, p := shortDir(t), newPlace(t)
	d, err := disk.New(disk.Options{SizeBytes: powerDisk, Seed: rng.Uint64()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("the disk: %v", err)
		}
	})
	if err := d.Mount(at); err != nil {
		t.Fatal(err)
	}
	s := p.mustStart(t, filepath.Join(at, powerDataDir))
	w := settle(t, s, powerPeople, powerRooms)
	rec := history.NewRecorder(history.History{}, func() int64 { return d.Stamp(nil) })
	l := startLoad(t, w, p, rec, 4, rng.Uint64())
	l.untilAcks(200)
	d.SetFaults(readEIO, writeEIO, flushEIO)
	within(t, "the server noticing that its disk fails", func() bool { return !s.alive() || !s.isReady() })
	if !s.alive() && strings.Contains(s.said.String(), "panic") {
		t.Errorf("the server crashed\n%s", s.said)
	}
	s.kill()
	l.abandon()
	stats := d.Stats()
	d.SetFaults(0, 0, 0)

	img, err := d.CutAt(d.Position(), rng, disk.CutLost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.Unmount(); err != nil {
		t.Fatal(err)
	}
	if err := img.Mount(at); err != nil {
		t.Fatal(err)
	}
	s = p.mustStart(t, filepath.Join(at, powerDataDir))
	h := rec.All()
	w.judge(t, p, h, "after the disk failed")
	var clock atomic.Int64
	clock.Store(d.Position())
	next := history.NewRecorder(h, func() int64 { return clock.Add(1) })
	again := w.resend(t, p, h, next)
	w.judge(t, p, next.All(), "after the outboxes were sent again")
	t.Logf("%d flushes and %d writes failed; %d acknowledgements owed, %d sent again", stats.FailedFlushes, stats.WriteEIO, len(h.Acks), again)
	s.kill()
}

// TestLyingDisk cuts the power of a disk that acknowledges flushes and forgets them. What was acknowledged may be gone then; the server
// still starts, or says in plain words why not: it never crashes over what it finds.
func TestLyingDisk(t *testing.T) {
	disk.Need(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	at, p := shortDir(t), newPlace(t)
	d, err := disk.New(disk.Options{SizeBytes: powerDisk, Lie: true, LieCacheBytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("the disk: %v", err)
		}
	})
	if err := d.Mount(at); err != nil {
		t.Fatal(err)
	}
	s := p.mustStart(t, filepath.Join(at, powerDataDir))
	w := settle(t, s, powerPeople, powerRooms)
	rec := history.NewRecorder(history.History{}, func() int64 { return d.Stamp(nil) })
	from := d.Position()
	l := startLoad(t, w, p, rec, 4, rng.Uint64())
	l.untilAcks(1000)
	s.kill()
	l.abandon()
	if err := d.Unmount(); err != nil {
		t.Fatal(err)
	}
	var started, named, unmountable, lost int
	total := max(cuts(t), 10)
	for range total {
		pos := from + rng.Int64N(d.Position()-from+1)
		img, err := d.CutAt(pos, rng, disk.CutAny)
		if err != nil {
			t.Fatal(err)
		}
		if img.Mount(at) != nil {
			unmountable++ // the file system's own damage
		} else if s, err := p.start(t, filepath.Join(at, powerDataDir)); err == nil {
			started++
			if w.forgot(t, p, rec.Until(pos)) {
				lost++
			}
			s.kill()
		} else {
			named++
			if code := s.cmd.ProcessState.ExitCode(); code != 3 || strings.Contains(err.Error(), "goroutine ") {
				t.Errorf("cut at %d: want exit code 3 and a sentence: %v", pos, err)
			}
		}
		if err := img.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d cuts of a lying disk: %d started (%d of them without something acknowledged), %d said why not, %d file systems broken", total, started, lost, named, unmountable)
	if lost+named+unmountable == 0 {
		t.Error("a lying disk lost nothing: the cuts prove nothing")
	}
}
