package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const testDiskBytes = 64 << 20

// mountedDisk makes a disk of its own and mounts it; both end with the test, also when it fails.
func mountedDisk(t *testing.T, opts Options) (*Disk, string) {
	t.Helper()
	Need(t)
	if opts.SizeBytes == 0 {
		opts.SizeBytes = testDiskBytes
	}
	opts.Dir = t.TempDir()
	d, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	at := t.TempDir()
	if err := d.Mount(at); err != nil {
		t.Fatal(err)
	}
	return d, at
}

const recordBytes = 128

// testRecord is the nth record of a recorder: it can be told from every other record and from a torn one.
func testRecord(n int) []byte {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, recordBytes), uint64(n))
	for len(b) < recordBytes-4 {
		b = append(b, byte(n*7+len(b)))
	}
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// intactRecords counts the records at the beginning of the file that are whole.
func intactRecords(path string) (int, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // lost with all it held
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for n := 0; ; n++ {
		var b [recordBytes]byte
		if _, err := io.ReadFull(f, b[:]); err == io.EOF || err == io.ErrUnexpectedEOF {
			return n, nil
		} else if err != nil {
			return 0, err
		}
		if string(b[:]) != string(testRecord(n)) {
			return n, nil
		}
	}
}

// recordInto appends records to at/records and stamps each as acknowledged: after fsync, or, if careless, without.
func recordInto(d *Disk, at string, records int, careless bool) error {
	f, err := os.OpenFile(filepath.Join(at, "records"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	// The file's name is durable only when its directory is.
	if err := syncFS(at); err != nil {
		return err
	}
	for n := range records {
		if _, err := f.Write(testRecord(n)); err != nil {
			return err
		}
		switch {
		case !careless:
			if err := f.Sync(); err != nil {
				return err
			}
		case n%20 == 19:
			// What the kernel does by itself every few seconds: the data goes to the disk, no flush follows.
			if err := writeBack(f); err != nil {
				return err
			}
		}
		d.Stamp(n + 1)
	}
	return nil
}

func writeBack(f *os.File) error {
	const flags = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	return unix.SyncFileRange(int(f.Fd()), 0, 0, flags)
}

// verdict is what a run of cuts found.
type verdict struct {
	cuts, losing int
	unmountable  int // cuts after which the file system could not be mounted, or not read
	owed, lost   int
}

func (v verdict) String() string {
	return fmt.Sprintf("%d cuts: %d records owed, %d lost in %d cuts, %d did not mount or were unreadable", v.cuts, v.owed, v.lost, v.losing, v.unmountable)
}

// cutMany cuts the disk at random positions in [from, end of the log] and compares what is there with what was owed.
func cutMany(t *testing.T, d *Disk, from int64, cuts int) verdict {
	t.Helper()
	rng := rand.New(rand.NewPCG(42, uint64(cuts)))
	at := t.TempDir()
	end := d.Position()
	var v verdict
	for range cuts {
		pos := from + rng.Int64N(end-from+1)
		owed := 0
		stamps, err := d.Stamps(pos)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range stamps {
			owed = n.(int)
		}
		found, readable, err := recordsAfterCut(d, pos, rng, at)
		if err != nil {
			t.Fatal(err)
		}
		v.cuts++
		v.owed += owed
		if !readable {
			v.unmountable++
		}
		if found < owed {
			v.lost += owed - found
			v.losing++
		}
	}
	return v
}

func recordsAfterCut(d *Disk, pos int64, rng *rand.Rand, at string) (found int, readable bool, err error) {
	img, err := d.CutAt(pos, rng, CutAny)
	if err != nil {
		return 0, false, err
	}
	defer func() { err = errors.Join(err, img.Close()) }()
	if img.Mount(at) != nil {
		return 0, false, nil // a lying disk may tear the file system itself
	}
	found, err = intactRecords(filepath.Join(at, "records"))
	if errors.Is(err, unix.EBADMSG) || errors.Is(err, unix.EUCLEAN) {
		return 0, false, nil // likewise, noticed by ext4's own checksums
	}
	return found, true, err
}

func TestFsyncedRecordsSurviveEveryCut(t *testing.T) {
	d, at := mountedDisk(t, Options{})
	from := d.Stamp(0)
	if err := recordInto(d, at, 400, false); err != nil {
		t.Fatal(err)
	}
	v := cutMany(t, d, from, 25)
	t.Log(v)
	if v.lost != 0 || v.unmountable != 0 {
		t.Errorf("an honest disk and a program that fsyncs each record: %v", v)
	}
	if v.owed < 1000 {
		t.Errorf("only %d records were owed: the cuts prove too little", v.owed)
	}
}

func TestRecordsWithoutFsyncAreLost(t *testing.T) {
	d, at := mountedDisk(t, Options{})
	from := d.Stamp(0)
	if err := recordInto(d, at, 400, true); err != nil {
		t.Fatal(err)
	}
	v := cutMany(t, d, from, 15)
	t.Log(v)
	if v.losing == 0 {
		t.Errorf("a program that never fsyncs lost nothing: the rig cannot fail: %v", v)
	}
	if v.unmountable != 0 {
		t.Errorf("an honest disk lost the file system itself: %v", v)
	}
}

func TestLyingDiskLoses(t *testing.T) {
	d, at := mountedDisk(t, Options{Lie: true})
	from := d.Stamp(0)
	if err := recordInto(d, at, 400, false); err != nil {
		t.Fatal(err)
	}
	if s := d.Stats(); s.LiedFlushes < 400 {
		t.Errorf("%d flushes were lied about for 400 records", s.LiedFlushes)
	}
	v := cutMany(t, d, from, 15)
	t.Log(v)
	if v.losing == 0 {
		t.Errorf("a disk that lies about flushing lost nothing: %v", v)
	}
}

func TestCutLeavesTheDiskAlone(t *testing.T) {
	d, at := mountedDisk(t, Options{})
	before := d.Stamp(0)
	if err := recordInto(d, at, 50, false); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	old := t.TempDir()
	found, readable, err := recordsAfterCut(d, before, rng, old)
	if err != nil || !readable || found != 0 {
		t.Errorf("a cut before the first record: %d records, readable %v, %v", found, readable, err)
	}
	if err := d.Unmount(); err != nil {
		t.Fatal(err)
	}
	if err := d.Mount(at); err != nil {
		t.Fatal(err)
	}
	if n, err := intactRecords(filepath.Join(at, "records")); n != 50 || err != nil {
		t.Errorf("the disk itself holds %d of 50 records after a cut of it and a remount: %v", n, err)
	}
}

func TestAnImageIsTheBaseOfTheNextDisk(t *testing.T) {
	d, at := mountedDisk(t, Options{})
	if err := recordInto(d, at, 30, false); err != nil {
		t.Fatal(err)
	}
	img, err := d.CutAt(d.Position(), rand.New(rand.NewPCG(2, 2)), CutLost)
	if err != nil {
		t.Fatal(err)
	}
	next, at2 := mountedDisk(t, Options{Base: img.Path()})
	if err := img.Close(); err != nil { // the new disk must not need it any more
		t.Fatal(err)
	}
	if n, err := intactRecords(filepath.Join(at2, "records")); n != 30 || err != nil {
		t.Errorf("%d of 30 records on the disk made from the image: %v", n, err)
	}
	// The cut at once after the mount must find the base's content too, not only what was written since.
	found, readable, err := recordsAfterCut(next, next.Position(), rand.New(rand.NewPCG(3, 3)), t.TempDir())
	if err != nil || !readable || found != 30 {
		t.Errorf("a cut of that disk: %d of 30 records, readable %v, %v", found, readable, err)
	}
}

func TestWriteErrorReachesTheProgram(t *testing.T) {
	d, at := mountedDisk(t, Options{})
	if err := recordInto(d, at, 5, false); err != nil {
		t.Fatal(err)
	}
	d.SetFaults(0, 1, 0)
	if err := recordInto(d, at, 5, false); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) {
		t.Errorf("fsync on a disk whose writes fail: %v", err)
	}
	if d.Stats().WriteEIO == 0 {
		t.Error("no write error was injected")
	}
}

func TestFlushErrorReachesTheProgram(t *testing.T) {
	d, at := mountedDisk(t, Options{})
	if err := recordInto(d, at, 5, false); err != nil {
		t.Fatal(err)
	}
	d.SetFaults(0, 0, 1)
	if err := recordInto(d, at, 5, false); !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EROFS) {
		t.Errorf("fsync on a disk whose flushes fail: %v", err)
	}
	if d.Stats().FailedFlushes == 0 {
		t.Error("no flush error was injected")
	}
}

func TestReadErrorReachesTheProgram(t *testing.T) {
	d, at := mountedDisk(t, Options{})
	if err := recordInto(d, at, 200, false); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(at, "records")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	d.SetFaults(1, 0, 0)
	if _, err := io.ReadAll(f); !errors.Is(err, unix.EIO) {
		t.Errorf("read of a file on a disk whose reads fail: %v", err)
	}
	d.SetFaults(0, 0, 0)
	if n, err := intactRecords(path); n != 200 || err != nil {
		t.Errorf("%d of 200 records readable once the disk is well again: %v", n, err)
	}
}

// TestFlushDelayIsFelt compares the time for the same flushes with and without delay; the delay is a lower bound of the one, and
// noise can only add to it.
func TestFlushDelayIsFelt(t *testing.T) {
	d, at := mountedDisk(t, Options{})
	const delay, records = 20 * time.Millisecond, 20
	d.SetFlushDelay(delay)
	before, start := d.Stats().Flushes, time.Now()
	if err := recordInto(d, at, records, false); err != nil {
		t.Fatal(err)
	}
	took, flushes := time.Since(start), d.Stats().Flushes-before
	if flushes < records {
		t.Errorf("%d flushes for %d fsyncs", flushes, records)
	}
	// One fewer: a flush of the kernel's own may have begun before the clock.
	if took < time.Duration(flushes-1)*delay {
		t.Errorf("%d flushes of %v took %v", flushes, delay, took)
	}
}

// TestKilledProcessIsSweptUp leaves a mounted disk behind as a process does that go test kills at its deadline.
func TestKilledProcessIsSweptUp(t *testing.T) {
	const dirVar, atVar = "PIPIT_TEST_ABANDON_DIR", "PIPIT_TEST_ABANDON_AT"
	if dir := os.Getenv(dirVar); dir != "" {
		d, err := New(Options{SizeBytes: testDiskBytes, Dir: dir})
		if err == nil {
			err = d.Mount(os.Getenv(atVar))
		}
		if err != nil {
			t.Fatal(err)
		}
		os.Exit(7) // no Close, no cleanup
	}
	Need(t)
	dir, at := t.TempDir(), t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestKilledProcessIsSweptUp$")
	child.Env = append(os.Environ(), dirVar+"="+dir, atVar+"="+at)
	if out, err := child.CombinedOutput(); child.ProcessState.ExitCode() != 7 {
		t.Fatalf("the abandoning process: %v: %s", err, out)
	}
	if mounts, err := abandonedMounts(); err != nil || !slices.Contains(mounts, at) {
		t.Errorf("abandoned mounts: %v, %v; want %s and that of nbdfuse", mounts, err, at)
	}
	d, err := New(Options{SizeBytes: testDiskBytes, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if mounts, err := abandonedMounts(); err != nil || slices.Contains(mounts, at) {
		t.Errorf("still mounted: %v, %v", mounts, err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, scratchPrefix+"*")); err != nil || len(left) != 1 {
		t.Errorf("scratch directories: %v, %v; want only that of the live disk", left, err)
	}
}
