package crash_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/tests/crash/disk"
	"github.com/pipit-im/pipit/tests/crash/history"
)

// cutsVar asks for the long form: how many cuts in all.
const cutsVar = "PIPIT_TORTURE_CUTS"

const (
	defaultCuts   = 12
	cutsPerDisk   = 6 // of one run under load; the next disk goes on from what the last cut left
	disksPerWorld = 8 // then a new world begins, or its disk would be full some time
	powerDisk     = 256 << 20
	acksPerDisk   = 1500
	powerPeople   = 6
	powerRooms    = 4
	powerDataDir  = "data"
)

func cuts(t *testing.T) int {
	t.Helper()
	v := os.Getenv(cutsVar)
	if v == "" {
		return defaultCuts
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number of cuts", cutsVar, v)
	}
	return n
}

// TestPowerCuts cuts the power of a server under load at random moments, and at the worst ones: just after an
// acknowledgement. Everything that was acknowledged before is there when it starts again, and what was under way
// can be sent again without standing there twice.
func TestPowerCuts(t *testing.T) {
	disk.Need(t)
	total := cuts(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	var sum powerSum
	for world := 0; sum.cuts < total; world++ {
		ok := t.Run(fmt.Sprint("world", world), func(t *testing.T) {
			run := &powerRun{T: t, rng: rng, place: newPlace(t), sum: &sum, slow: world%2 == 1}
			for d := 0; d < disksPerWorld && sum.cuts < total; d++ {
				run.underLoad()
				n := min(cutsPerDisk, total-sum.cuts)
				for i := range n {
					run.cut(i == n-1 && d+1 < disksPerWorld && sum.cuts+1 < total)
				}
			}
		})
		if !ok {
			t.Fatalf("after %d cuts (seed %d)", sum.cuts, seed)
		}
	}
	t.Logf("%d cuts, %d acknowledgements owed, 0 lost; slowest start %v", sum.cuts, sum.owed, sum.slowest)
	if sum.cuts >= 10 && sum.owed < 50*sum.cuts {
		t.Errorf("%d acknowledgements owed in %d cuts: the load was too thin to prove anything", sum.owed, sum.cuts)
	}
}

// powerSum is what all cuts came to.
type powerSum struct {
	cuts, owed int
	slowest    time.Duration // start to ready
}

// powerRun is a world that loses its power again and again.
type powerRun struct {
	*testing.T
	rng   *rand.Rand
	sum   *powerSum
	place *place
	slow  bool // disks that flush as slowly as cards do
	world *world
	known history.History // at the end of the cut that the next disk goes on from
	base  *disk.Image     // of that cut, nil at first
	now   int64           // the time at the end of known

	disk  *disk.Disk
	rec   *history.Recorder
	first int64 // position from which the world is owed
	start int64 // time that is position 0 of the disk
}

// underLoad runs the server on a disk of its own, under load, until it is killed.
func (r *powerRun) underLoad() {
	r.Helper()
	at := shortDir(r.T)
	delay := r.rng.IntN(4)
	if r.slow {
		delay = 10 + r.rng.IntN(30)
	}
	opts := disk.Options{SizeBytes: powerDisk, FlushDelay: time.Duration(delay) * time.Millisecond}
	if r.base != nil {
		opts.Base = r.base.Path()
	}
	d, err := disk.New(opts)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := d.Close(); err != nil {
			r.Errorf("the disk: %v", err)
		}
	})
	if r.base != nil {
		if err := errors.Join(r.base.Close(), r.disk.Close()); err != nil { // copied by New
			r.Fatal(err)
		}
	}
	if err := d.Mount(at); err != nil {
		r.Fatal(err)
	}
	r.disk, r.start = d, r.now
	r.rec = history.NewRecorder(r.known, func() int64 { return r.start + d.Stamp(nil) })
	s := r.place.mustStart(r.T, filepath.Join(at, powerDataDir))
	if r.world == nil {
		r.world = settle(r.T, s, powerPeople, powerRooms)
	}
	r.first = d.Stamp(nil)
	l := startLoad(r.T, r.world, r.place, r.rec, 1+r.rng.IntN(8), r.rng.Uint64())
	l.untilAcks(acksPerDisk)
	s.kill()
	l.abandon()
	if err := d.Unmount(); err != nil {
		r.Fatal(err)
	}
}

// cut cuts the power at a moment of the run and looks at what is left. The last cut of a disk is kept for the next.
func (r *powerRun) cut(keep bool) {
	r.Helper()
	end := r.disk.Position()
	pos := r.first + r.rng.Int64N(end-r.first+1)
	if acks := r.rec.Until(r.start + pos).Acks; r.rng.IntN(2) == 0 && len(acks) > 0 && acks[len(acks)-1].At > r.start+r.first {
		pos = acks[len(acks)-1].At - r.start
	}
	mode := disk.CutAny
	if r.rng.IntN(3) == 0 {
		mode = disk.CutLost
	}
	at := shortDir(r.T)
	img, err := r.disk.CutAt(pos, r.rng, mode)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		if err := img.Close(); err != nil {
			r.Error(err)
		}
	})
	if err := img.Mount(at); err != nil {
		r.Fatalf("cut at %d (%v): %v", pos, mode, err)
	}
	s, err := r.place.start(r.T, filepath.Join(at, powerDataDir))
	if err != nil {
		r.Fatalf("cut at %d (%v): %v", pos, mode, err)
	}
	h := r.rec.Until(r.start + pos)
	r.sum.cuts++
	r.sum.owed += len(h.Acks)
	r.sum.slowest = max(r.sum.slowest, s.ready)
	r.world.judge(r.T, r.place, h, "after the cut")

	// The outboxes are sent again; some of it was stored and not acknowledged.
	clock := atomic.Int64{}
	clock.Store(r.start + pos)
	next := history.NewRecorder(h, func() int64 { return clock.Add(1) })
	again := r.world.resend(r.T, r.place, h, next)
	r.world.judge(r.T, r.place, next.All(), "after the outboxes were sent again")
	r.Logf("cut at %d of %d (%v): %d acknowledgements owed, %d sent again, ready after %v", pos, end, mode, len(h.Acks), again, s.ready)
	if r.Failed() {
		r.FailNow()
	}
	if keep {
		s.stop(r.T)
		r.base, r.known, r.now = img, next.All(), clock.Load()
		if err := img.Unmount(); err != nil {
			r.Fatal(err)
		}
		return
	}
	s.kill()
	if err := img.Close(); err != nil {
		r.Fatal(err)
	}
}

// TestUnsyncedLoses shows that the cuts can fail: a server that is built to leave out its syncs loses what it acknowledged.
func TestUnsyncedLoses(t *testing.T) {
	disk.Need(t)
	at, p := shortDir(t), newPlace(t, "UNSAFE_NO_SYNC=yes")
	var err error
	if p.bin, err = build("pipitd-unsynced", "-tags", "unsafe_no_sync"); err != nil {
		t.Fatal(err)
	}
	d, err := disk.New(disk.Options{SizeBytes: powerDisk})
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
	unix.Sync() // the people and rooms are not what it is to lose
	rec := history.NewRecorder(history.History{}, func() int64 { return d.Stamp(nil) })
	l := startLoad(t, w, p, rec, 4, 1)
	l.untilAcks(500)
	s.kill()
	l.abandon()
	h := rec.All()
	img, err := d.CutAt(d.Position(), rand.New(rand.NewPCG(1, 1)), disk.CutLost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := img.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(d.Unmount(), img.Mount(at)); err != nil {
		t.Fatal(err)
	}
	p.bin = ""
	again, err := p.start(t, filepath.Join(at, powerDataDir))
	switch {
	case err != nil:
		t.Logf("of %d acknowledged messages none can be read: %v", len(h.Acks), err)
	case !w.forgot(t, p, h):
		t.Errorf("all of %d acknowledged messages are there although nothing was synced: the cuts prove nothing", len(h.Acks))
	default:
		again.kill()
	}
}
