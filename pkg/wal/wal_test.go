package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func mustOpen(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(Options{Dir: dir, SlotBytes: MinSlotBytes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // again, if the test closed it: nothing is left
	return l
}

// rec is a record that names its version and does not get shorter.
func rec(version uint64, n int) []byte {
	rnd := rand.New(rand.NewPCG(version, 1))
	b := []byte(fmt.Sprintf("record %d ", version))
	for len(b) < n {
		b = append(b, byte(rnd.Uint32()))
	}
	return b
}

func appendTo(t *testing.T, l *Log, version uint64, n int) {
	t.Helper()
	if err := l.Ready(2 * n); err != nil {
		t.Fatal(err)
	}
	l.Begin()
	if err := l.Append(version, rec(version, n)); err != nil {
		t.Fatal(err)
	}
	l.Ahead()
}

// replayed returns the versions that a log hands out, after checking their bytes.
func replayed(t *testing.T, l *Log, after uint64) (versions []uint64) {
	t.Helper()
	err := l.Replay(after, func(v uint64, b []byte) error {
		if !bytes.Equal(b, rec(v, len(b))) {
			return fmt.Errorf("record %d has other bytes", v)
		}
		versions = append(versions, v)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return versions
}

func wants(t *testing.T, got []uint64, from, to uint64) {
	t.Helper()
	if len(got) != int(to-from+1) || len(got) > 0 && (got[0] != from || got[len(got)-1] != to) {
		t.Fatalf("got %v, want %d to %d", got, from, to)
	}
}

// TestRoundTrip: what was appended is handed out again, over as many slots and
// openings as there are, and nothing of it after a clean end.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	rnd := rand.New(rand.NewPCG(1, 2))
	v := uint64(0)
	for range 5 {
		for range 60 {
			v++
			appendTo(t, l, v, 30+rnd.IntN(3000))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, dir)
		wants(t, replayed(t, l, 0), 1, v)
		wants(t, replayed(t, l, v-7), v-6, v)
	}
	if err := l.Clean(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if there, dirty, err := Look(dir); err != nil || !there || dirty {
			t.Fatalf("after a clean end: %v %v %v", there, dirty, err)
		}
		l = mustOpen(t, dir)
		if got := replayed(t, l, 0); len(got) > 0 {
			t.Fatalf("after a clean end: %v", got)
		}
	}
	v++
	appendTo(t, l, v, 100)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, dirty, err := Look(dir); err != nil || !dirty {
		t.Fatalf("with a record again: %v %v", dirty, err)
	}
	wants(t, replayed(t, mustOpen(t, dir), 0), v, v)
}

// TestSlotsAreUsedAgain: once what is in them is kept elsewhere, the oldest slots
// take the new records, and the log does not grow.
func TestSlotsAreUsedAgain(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	const keep = 100
	for v := uint64(1); v <= 2000; v++ {
		appendTo(t, l, v, 400)
		if v > keep {
			l.Release(v - keep)
		}
		if v%371 == 0 { // a cut, at any moment
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = mustOpen(t, dir)
			wants(t, replayed(t, l, v-keep), v-keep+1, v)
		}
	}
	names, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	if err != nil || len(names) < 2 || len(names) > 6 {
		t.Fatalf("%d slots of 64 KiB for 100 records of 400 bytes (%v)", len(names), err)
	}
}

// TestTornOrRotten breaks every sector of a log in turn. In the last record that is
// what a cut may have done: it is left out. Anywhere else it is damage. A sector
// that is zero again is judged alike.
func TestTornOrRotten(t *testing.T) {
	whole := t.TempDir()
	l := mustOpen(t, whole)
	const n = 150
	for v := uint64(1); v <= n; v++ {
		appendTo(t, l, v, 700)
	}
	lastSlot, lastAt := filepath.Base(l.cur.name), l.recent[0].at
	end := l.cur.end
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(whole, "*"+ext))
	if err != nil || len(names) < 2 {
		t.Fatalf("%d slots: %v", len(names), err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for at := int64(0); at < int64(len(data)); at += sector {
			if bytes.Equal(data[at:at+sector], make([]byte, sector)) {
				continue
			}
			for _, zero := range []bool{false, true} {
				dir := t.TempDir()
				for _, other := range names {
					b := data
					if other != name {
						if b, err = os.ReadFile(other); err != nil {
							t.Fatal(err)
						}
					} else if b = bytes.Clone(b); zero {
						clear(b[at : at+sector])
					} else {
						b[at+11] ^= 4
					}
					if err := os.WriteFile(filepath.Join(dir, filepath.Base(other)), b, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				l, err := Open(Options{Dir: dir, SlotBytes: MinSlotBytes})
				if filepath.Base(name) == lastSlot && at >= lastAt && at < end {
					if err != nil {
						t.Fatalf("%s byte %d, torn: %v", name, at, err)
					}
					wants(t, replayed(t, l, 0), 1, n-1)
					appendTo(t, l, n, 300)
					wants(t, replayed(t, l, 0), 1, n)
				} else if err == nil {
					t.Errorf("%s byte %d (zero %v): not noticed", filepath.Base(name), at, zero)
				}
				if l != nil {
					_ = l.Close()
				}
			}
		}
	}
}

// TestMissingSlot: a slot that is not there any more is damage.
func TestMissingSlot(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for v := uint64(1); v <= 600; v++ {
		appendTo(t, l, v, 700)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"+ext))
	if len(names) < 5 {
		t.Fatalf("%d slots", len(names))
	}
	for _, name := range names[:len(names)-2] {
		if err := os.Rename(name, name+".away"); err != nil {
			t.Fatal(err)
		}
		if again, err := Open(Options{Dir: dir, SlotBytes: MinSlotBytes}); err == nil {
			t.Errorf("without %s: no error", filepath.Base(name))
			_ = again.Close()
		}
		if err := os.Rename(name+".away", name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCut: what was appended since Begin and failed does not come back, also where it
// went on into a next slot.
func TestCut(t *testing.T) {
	for before := 80; before < 100; before++ {
		dir := t.TempDir()
		l := mustOpen(t, dir)
		v := uint64(0)
		for range before {
			v++
			appendTo(t, l, v, 700)
		}
		whole := v
		l.Begin()
		for range 4 {
			if err := l.Ready(8000); err != nil {
				t.Fatal(err)
			}
			v++
			if err := l.Append(v, rec(v, 8000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Cut(whole + 1); err != nil {
			t.Fatal(err)
		}
		again := mustOpen(t, dir)
		wants(t, replayed(t, again, 0), 1, whole)
		appendTo(t, again, whole+1, 200)
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		wants(t, replayed(t, mustOpen(t, dir), 0), 1, whole+1)
	}
}

// TestRestart: nothing that was logged is in any file afterwards.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for v := uint64(1); v <= 300; v++ {
		appendTo(t, l, v, 700)
		l.Release(v)
	}
	if err := l.Restart(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"+ext))
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil || bytes.Contains(b, []byte("record ")) {
			t.Errorf("%s still has a record (%v)", filepath.Base(name), err)
		}
	}
	appendTo(t, l, 301, 700)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wants(t, replayed(t, mustOpen(t, dir), 0), 301, 301)
}

// TestReserve: a log that was reserved does not grow before it needs more.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	if err := l.Reserve(3); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, dir)
	for v := uint64(1); v <= 150; v++ { // two slots and a part of the third
		appendTo(t, l, v, 700)
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*"+ext)); err != nil || len(names) != 3 {
		t.Fatalf("%d slots, %v", len(names), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	wants(t, replayed(t, mustOpen(t, dir), 0), 1, 150)
}

// TestFault: a flush that fails is an error.
func TestFault(t *testing.T) {
	var fault error
	l, err := Open(Options{Dir: t.TempDir(), SlotBytes: MinSlotBytes, Fault: func() error { return fault }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	appendTo(t, l, 1, 100)
	fault = unix.EIO
	if err := l.Append(2, rec(2, 100)); !errors.Is(err, unix.EIO) {
		t.Fatalf("got %v", err)
	}
}

// FuzzSlot gives the reader of slots any bytes behind a good header.
func FuzzSlot(f *testing.F) {
	l, err := Open(Options{Dir: f.TempDir(), SlotBytes: MinSlotBytes})
	if err != nil {
		f.Fatal(err)
	}
	for v := uint64(1); v <= 3; v++ {
		if err := l.Append(v, rec(v, 600)); err != nil {
			f.Fatal(err)
		}
	}
	data, err := os.ReadFile(l.cur.name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:8*sector])
	f.Add(data[:3*sector])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := slot{number: 1}
		var last uint64
		_, err := s.scan(b, func(r *record) bool {
			if r.version < last {
				t.Fatalf("version %d after %d", r.version, last)
			}
			last = r.version
			return true
		})
		if err == nil && s.end > max(int64(len(b))+sector, 2*sector) {
			t.Fatalf("ends at %d of %d", s.end, len(b))
		}
	})
}
