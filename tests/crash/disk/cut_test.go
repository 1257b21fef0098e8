package disk

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// bareDisk is a disk that nothing is mounted on: it needs no root.
func bareDisk(t *testing.T, opts Options) *Disk {
	t.Helper()
	opts.Dir = t.TempDir()
	if opts.SizeBytes == 0 {
		opts.SizeBytes = 16 << 20
	}
	d, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return d
}

// area is where the tests write: beyond the superblock, which is never torn.
const area = 64 << 10

// put writes n sectors of the letter at sector of the area.
func put(t *testing.T, d *Disk, sector int64, n int, letter byte, fua bool) {
	t.Helper()
	if err := d.write(bytes.Repeat([]byte{letter}, n*sectorBytes), area+sector*sectorBytes, fua); err != nil {
		t.Fatal(err)
	}
}

func flushNow(t *testing.T, d *Disk) {
	t.Helper()
	done := make(chan error, 1)
	d.flush(func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// letters cuts d and returns the first n sectors of the area, one letter each; "." is a sector of zeros, "?" a mixed one.
func letters(t *testing.T, d *Disk, pos int64, rng *rand.Rand, mode CutMode, n int) string {
	t.Helper()
	img, err := d.CutAt(pos, rng, mode)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	f, err := os.Open(img.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, n*sectorBytes)
	if _, err := f.ReadAt(b, area); err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	for ; len(b) > 0; b = b[sectorBytes:] {
		switch c := b[0]; {
		case bytes.Count(b[:sectorBytes], b[:1]) != sectorBytes:
			s.WriteByte('?')
		case c == 0:
			s.WriteByte('.')
		default:
			s.WriteByte(c)
		}
	}
	return s.String()
}

// outcomes are all results that many cuts at pos give.
func outcomes(t *testing.T, d *Disk, pos int64, mode CutMode, n int) map[string]int {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	seen := make(map[string]int)
	for range 300 {
		seen[letters(t, d, pos, rng, mode, n)]++
	}
	return seen
}

func TestCutModes(t *testing.T) {
	d := bareDisk(t, Options{})
	put(t, d, 0, 2, 'a', false)
	flushNow(t, d)
	put(t, d, 0, 2, 'b', false)
	put(t, d, 2, 2, 'c', false)
	put(t, d, 1, 1, 'd', false)
	pos := d.Position()

	for _, c := range []struct {
		mode  CutMode
		all   []string // exactly these, if given
		some  []string // these among others
		never []string
	}{
		{mode: CutLost, all: []string{"aa.."}},
		{mode: CutKept, all: []string{"bdcc"}},
		{mode: CutReordered, all: []string{"aa..", "aacc", "bb..", "bbcc", "ad..", "adcc", "bd..", "bdcc"}},
		{mode: CutTorn, some: []string{"aa..", "ba..", "ab..", "aa.c", "aac.", "bdcc", "ad.."}},
		{mode: CutAny, some: []string{"aa..", "bdcc", "aacc", "aa.c"}},
	} {
		t.Run(c.mode.String(), func(t *testing.T) {
			seen := outcomes(t, d, pos, c.mode, 4)
			for _, want := range append(c.all, c.some...) {
				if seen[want] == 0 {
					t.Errorf("%s never came: %v", want, seen)
				}
			}
			if c.all != nil && len(seen) != len(c.all) {
				t.Errorf("want only %v: %v", c.all, seen)
			}
			for got := range seen {
				if strings.ContainsAny(got, "?") || !strings.Contains("ab", got[:1]) || !strings.Contains(".c", got[2:3]) {
					t.Errorf("%s cannot come of these writes", got)
				}
			}
		})
	}
}

func TestFlushCoversWhatCameBeforeItAndNothingElse(t *testing.T) {
	d := bareDisk(t, Options{})
	put(t, d, 0, 1, 'a', false)
	beforeFlush := d.Position()
	flushNow(t, d)
	afterFlush := d.Position()
	put(t, d, 1, 1, 'b', false)

	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name string
		pos  int64
		want string
	}{
		{"before the first write", 0, ".."},
		{"written, not flushed", beforeFlush, ".."},
		{"flushed", afterFlush, "a."},
		{"a write behind the flush", d.Position(), "a."},
	} {
		if got := letters(t, d, c.pos, rng, CutLost, 2); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// A flush promises nothing about a write that comes while it is under way, even if it completes later.
func TestAWriteDuringAFlushIsNotCovered(t *testing.T) {
	d := bareDisk(t, Options{})
	put(t, d, 0, 1, 'a', false)
	// The write is put into the log between the flush's arrival and its completion by hand: no timing.
	covers := d.log.position()
	put(t, d, 1, 1, 'b', false)
	if _, err := d.log.append(record{kind: recordFlushed, data: covers}, nil); err != nil {
		t.Fatal(err)
	}
	if got := letters(t, d, d.Position(), rand.New(rand.NewPCG(1, 1)), CutLost, 2); got != "a." {
		t.Errorf("%s, want a.", got)
	}
}

func TestADelayedFlushCompletesLaterThanItArrives(t *testing.T) {
	d := bareDisk(t, Options{FlushDelay: 1}) // any delay takes the path of its own goroutine
	put(t, d, 0, 1, 'a', false)
	d.flushing.Lock() // another flush is being carried out
	done := make(chan error, 1)
	d.flush(func(err error) { done <- err })
	put(t, d, 1, 1, 'b', false)
	stamp := d.Stamp(nil)
	d.flushing.Unlock()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	if got := letters(t, d, stamp, rng, CutLost, 2); got != ".." {
		t.Errorf("before the flush completed: %s, want ..", got)
	}
	if got := letters(t, d, d.Position(), rng, CutLost, 2); got != "a." {
		t.Errorf("after it completed: %s, want a.", got)
	}
}

func TestFUAWriteIsDurableAlone(t *testing.T) {
	d := bareDisk(t, Options{})
	put(t, d, 0, 1, 'a', false)
	put(t, d, 1, 1, 'b', true)
	put(t, d, 1, 1, 'c', false)
	seen := outcomes(t, d, d.Position(), CutReordered, 2)
	for _, want := range []string{".b", "ab", ".c", "ac"} {
		if seen[want] == 0 {
			t.Errorf("%s never came: %v", want, seen)
		}
	}
	if len(seen) != 4 {
		t.Errorf("a write with FUA was lost: %v", seen)
	}
}

func TestTrimCanBeLostToo(t *testing.T) {
	d := bareDisk(t, Options{})
	put(t, d, 0, 2, 'a', false)
	flushNow(t, d)
	if err := d.zero(area, sectorBytes, false); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	if got := letters(t, d, d.Position(), rng, CutLost, 2); got != "aa" {
		t.Errorf("trim lost: %s, want aa", got)
	}
	if got := letters(t, d, d.Position(), rng, CutKept, 2); got != ".a" {
		t.Errorf("trim kept: %s, want .a", got)
	}
	p := make([]byte, 2*sectorBytes)
	if err := d.read(p, area); err != nil || p[0] != 0 || p[sectorBytes] != 'a' {
		t.Errorf("the disk itself after trim: %c %c, %v", p[0], p[sectorBytes], err)
	}
}

func TestSuperblockIsNotTorn(t *testing.T) {
	d := bareDisk(t, Options{})
	if err := d.write(bytes.Repeat([]byte{'a'}, 2*superblockBytes), 0, false); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	torn := false
	for range 50 {
		img, err := d.CutAt(d.Position(), rng, CutTorn)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(img.Path())
		img.Close()
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b[:superblockBytes], []byte{'a'}); n != 0 && n != superblockBytes {
			t.Fatalf("%d bytes of the superblock's %d remain", n, superblockBytes)
		}
		n := bytes.Count(b[superblockBytes:2*superblockBytes], []byte{'a'})
		torn = torn || n != 0 && n != superblockBytes
	}
	if !torn {
		t.Error("nothing behind the superblock was torn either")
	}
}

func TestLyingDiskKeepsOnlyWhatItsCacheHasPushedOut(t *testing.T) {
	d := bareDisk(t, Options{LieCacheBytes: 3 * sectorBytes})
	put(t, d, 0, 1, 'a', false)
	flushNow(t, d)
	d.SetLie(true)
	for i := range int64(6) {
		put(t, d, 1+i, 1, 'b', true) // its FUA is a lie as well
		flushNow(t, d)
	}
	if got := letters(t, d, d.Position(), rand.New(rand.NewPCG(1, 1)), CutLost, 7); got != "abbb..." {
		t.Errorf("%s, want abbb...", got)
	}
	d.SetLie(false)
	flushNow(t, d)
	if got := letters(t, d, d.Position(), rand.New(rand.NewPCG(1, 1)), CutLost, 7); got != "abbbbbb" {
		t.Errorf("after an honest flush: %s, want abbbbbb", got)
	}
}

func TestInjectedFaultsChangeNothing(t *testing.T) {
	d := bareDisk(t, Options{})
	put(t, d, 0, 1, 'a', false)
	d.SetFaults(1, 1, 1)
	if err := d.write(make([]byte, sectorBytes), area, false); err == nil {
		t.Error("write: no error")
	}
	if err := d.zero(area, sectorBytes, false); err == nil {
		t.Error("trim: no error")
	}
	if err := d.read(make([]byte, sectorBytes), area); err == nil {
		t.Error("read: no error")
	}
	failed := make(chan error, 1)
	d.flush(func(err error) { failed <- err })
	if err := <-failed; err == nil {
		t.Error("flush: no error")
	}
	d.SetFaults(0, 0, 0)
	rng := rand.New(rand.NewPCG(1, 1))
	if got := letters(t, d, d.Position(), rng, CutLost, 1); got != "." {
		t.Errorf("a failed flush made a write durable: %s", got)
	}
	if got := letters(t, d, d.Position(), rng, CutKept, 1); got != "a" {
		t.Errorf("a failed write changed the disk: %s", got)
	}
	if s := d.Stats(); s.ReadEIO != 1 || s.WriteEIO != 2 || s.FailedFlushes != 1 || s.Flushes != 0 {
		t.Errorf("counts: %+v", s)
	}
}

func TestFaultProbability(t *testing.T) {
	d := bareDisk(t, Options{Seed: 5})
	d.SetFaults(0.03, 0, 0)
	p := make([]byte, 1)
	for range 10_000 {
		_ = d.read(p, 0) // counted by the disk
	}
	if n := d.Stats().ReadEIO; n < 200 || n > 400 {
		t.Errorf("%d of 10000 reads failed at 3 %%", n)
	}
}

func TestStampsInOrder(t *testing.T) {
	d := bareDisk(t, Options{})
	if d.Position() != 0 {
		t.Fatalf("a new disk is at %d", d.Position())
	}
	var want []string
	var mid int64
	for i := range 5 {
		put(t, d, int64(i), 1, 'a', false)
		pos := d.Stamp(i)
		if pos != d.Position() {
			t.Errorf("Stamp returned %d, Position says %d", pos, d.Position())
		}
		if i < 3 {
			want, mid = append(want, fmt.Sprint(pos, i)), pos
		}
	}
	stamps, err := d.Stamps(mid)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for pos, v := range stamps {
		got = append(got, fmt.Sprint(pos, v))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("stamps before %d: %v, want %v", mid, got, want)
	}
	for _, pos := range []int64{-1, d.Position() + 1} {
		if _, err := d.CutAt(pos, rand.New(rand.NewPCG(1, 1)), CutLost); err == nil {
			t.Errorf("a cut at %d was accepted", pos)
		}
	}
}

func TestSameSeedSameImage(t *testing.T) {
	d := bareDisk(t, Options{})
	for i := range int64(40) {
		put(t, d, i%10, 3, 'a'+byte(i%26), false)
	}
	for _, mode := range []CutMode{CutAny, CutTorn} {
		one := letters(t, d, d.Position(), rand.New(rand.NewPCG(9, 9)), mode, 12)
		two := letters(t, d, d.Position(), rand.New(rand.NewPCG(9, 9)), mode, 12)
		if one != two {
			t.Errorf("%v: %s and %s from one seed", mode, one, two)
		}
	}
}

func TestFullLogIsSaid(t *testing.T) {
	d, err := New(Options{SizeBytes: 16 << 20, LogBytes: 4 * sectorBytes, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	put(t, d, 0, 4, 'a', false)
	if err := d.write(make([]byte, sectorBytes), area, false); err == nil {
		t.Error("a write beyond LogBytes was taken")
	}
	if got := letters(t, d, d.Position(), rand.New(rand.NewPCG(1, 1)), CutKept, 4); got != "aaaa" {
		t.Errorf("what came before the log was full: %s", got)
	}
	if err := d.Close(); err == nil || !strings.Contains(err.Error(), "LogBytes") {
		t.Errorf("Close after a full log: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	short := t.TempDir() + "/base"
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{
		{}, {SizeBytes: 1 << 20}, {SizeBytes: 16<<20 + 1},
		{SizeBytes: 16 << 20, Base: short}, {SizeBytes: 16 << 20, Base: short + "-missing"},
	} {
		o.Dir = t.TempDir()
		if d, err := New(o); err == nil {
			t.Errorf("%+v was accepted", o)
			d.Close()
		}
		if left, err := os.ReadDir(o.Dir); err != nil || len(left) != 0 {
			t.Errorf("%+v left %v in its scratch directory, %v", o, left, err)
		}
	}
}

func TestSweepTakesOnlyWhatIsAbandoned(t *testing.T) {
	dir := t.TempDir()
	dead := 1 << 30 // above any pid the kernel gives
	for pid, kept := range map[int]bool{os.Getpid(): true, dead: false} {
		if err := os.MkdirAll(fmt.Sprintf("%s/%s%d-x/nbd", dir, scratchPrefix, pid), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := abandoned(fmt.Sprintf("%s/%s%d-x", dir, scratchPrefix, pid)); got == kept {
			t.Errorf("pid %d: abandoned is %v", pid, got)
		}
	}
	if err := os.MkdirAll(dir+"/"+scratchPrefix+"notes", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := sweep(dir); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v, %v; want the live process's and the stranger's", left, err)
	}
}
