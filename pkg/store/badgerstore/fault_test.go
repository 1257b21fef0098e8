package badgerstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/badgerdir"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// copyStore copies the files of a store, but for those that hold nothing, as
// they are now.
func copyStore(t *testing.T, from, to string) {
	t.Helper()
	es, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		if e.Name() == reserveName || strings.HasSuffix(e.Name(), ".vlog") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// filled makes a closed store with some tables in dir and returns its head.
func filled(t *testing.T, dir string, bytes int) im.Seq {
	t.Helper()
	s, err := Open(small(dir))
	if err != nil {
		t.Fatal(err)
	}
	f := &filler{s: s}
	for n := 0; n < bytes; n += 2000 {
		if err := f.append(2000); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return f.head
}

// notices reports how a store in dir says that something is wrong; "" if it
// does not. It must not serve wrong content either.
func notices(t *testing.T, dir string) string {
	t.Helper()
	s, err := Open(small(dir))
	if err != nil {
		var oe *OpenError
		if !errors.As(err, &oe) || !strings.HasSuffix(oe.Sentence, ".") {
			t.Errorf("the error is no sentence: %v", err)
		}
		return "open: " + err.Error()
	}
	defer s.Close()
	rep, err := s.Verify(context.Background(), nil)
	if err != nil {
		return "verify: " + err.Error()
	}
	if rep.Damaged > 0 {
		return "verify: " + rep.Damages[0].Place + ": " + rep.Damages[0].What
	}
	return ""
}

// TestBitRot flips single bits in the files of a closed store: every one is
// noticed, at the start or by Verify.
func TestBitRot(t *testing.T) {
	dir, flips := fastDir(t), asked(t, "PIPIT_TORTURE_FLIPS", 100)
	whole := filepath.Join(dir, "whole")
	filled(t, whole, 3<<20)
	if how := notices(t, whole); how != "" {
		t.Fatalf("an undamaged store: %s", how)
	}
	var names []string
	for _, pattern := range []string{"*.sst", "MANIFEST", "FORMAT"} {
		ns, err := filepath.Glob(filepath.Join(whole, pattern))
		if err != nil || len(ns) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		names = append(names, ns...)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range flips {
		name := filepath.Base(names[rnd.IntN(len(names))])
		bad := filepath.Join(dir, "bad")
		copyStore(t, whole, bad)
		data, err := os.ReadFile(filepath.Join(bad, name))
		if err != nil {
			t.Fatal(err)
		}
		at := rnd.IntN(len(data))
		if i%4 == 0 { // often near the end, where tables keep what leads to the rest
			at = len(data) - 1 - rnd.IntN(min(len(data), 200))
		}
		data[at] ^= 1 << rnd.IntN(8)
		if err := os.WriteFile(filepath.Join(bad, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if how := notices(t, bad); how == "" {
			t.Errorf("flip %d: byte %d of %s: not noticed", i, at, name)
		}
		if err := os.RemoveAll(bad); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBitRotServed flips a bit in a message on the disk and reads it: it is
// never served, its place is named, and its neighbours are read.
func TestBitRotServed(t *testing.T) {
	s := mustOpen(t, small(fastDir(t)))
	f := &filler{s: s}
	for range 3 {
		if err := f.append(1000); err != nil {
			t.Fatal(err)
		}
	}
	// Through the committer, so that even badger believes it.
	sp, _ := s.spaces.find("oak")
	k := sp.entry(fillConv, 2)
	err := s.submit(context.Background(), &job{run: func(tx *tx) error {
		m, err := tx.record(sp, fillConv, 2)
		if err != nil {
			return err
		}
		v := seal(k, m.encode())
		v[len(v)/2] ^= 1
		tx.set(k, v)
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Page(context.Background(), "oak", fillConv, "u_x", 1, 3)
	if !errors.Is(err, store.ErrDamaged) || !im.Is(err, im.Internal) || !strings.Contains(err.Error(), string(fillConv)+" seq 2") {
		t.Fatalf("got %v", err)
	}
	for _, q := range []im.Seq{1, 3} {
		if _, err := s.Page(context.Background(), "oak", fillConv, "u_x", q, q); err != nil {
			t.Fatal(err)
		}
	}
	if s.Stats().Damaged == 0 {
		t.Fatal("not counted")
	}
	rep, err := s.Verify(context.Background(), nil)
	if err != nil || rep.Damaged != 1 || !strings.Contains(rep.Damages[0].Place, "seq 2") {
		t.Fatalf("verify: %v %+v", err, rep)
	}
	// A record that is gone is a hole and not the end of the log.
	err = s.submit(context.Background(), &job{run: func(tx *tx) error { tx.del(k); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Page(context.Background(), "oak", fillConv, "u_x", 1, 3); !errors.Is(err, store.ErrDamaged) {
		t.Fatalf("a hole: got %v", err)
	}
	if rep, err = s.Verify(context.Background(), nil); err != nil || rep.Damaged != 1 {
		t.Fatalf("verify: %v %+v", err, rep)
	}
}

// TestLogRot flips bits in the log of a store that was cut off: all but those
// of the last transaction, which could be torn, are noticed; a torn end opens.
func TestLogRot(t *testing.T) {
	dir := fastDir(t)
	live := filepath.Join(dir, "live")
	f := &filler{s: mustOpen(t, small(live))}
	const slot, sector = "0001.wal", 512
	used := func() (at int) { // where what was written ends
		data, err := os.ReadFile(filepath.Join(live, slot))
		if err != nil {
			t.Fatal(err)
		}
		for at = len(data); bytes.Equal(data[at-sector:at], make([]byte, sector)); {
			at -= sector
		}
		return at
	}
	for range 49 {
		if err := f.append(1500); err != nil {
			t.Fatal(err)
		}
	}
	last := used()
	if err := f.append(1500); err != nil {
		t.Fatal(err)
	}
	end := used()
	cut := filepath.Join(dir, "cut")
	copyStore(t, live, cut)
	data, err := os.ReadFile(filepath.Join(cut, slot))
	if err != nil {
		t.Fatal(err)
	}
	open := func(data []byte) (im.Seq, error) {
		bad := filepath.Join(dir, "bad")
		defer os.RemoveAll(bad)
		copyStore(t, cut, bad)
		if err := os.WriteFile(filepath.Join(bad, slot), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(small(bad))
		if err != nil {
			return 0, err
		}
		defer s.Close()
		c, err := s.Conv(context.Background(), "oak", fillConv)
		if err == nil {
			err = (&filler{s: s, head: c.Head}).readAll()
		}
		return c.Head, err
	}
	if head, err := open(data); err != nil || head != f.head {
		t.Fatalf("undamaged: head %d, %v", head, err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 30 {
		bad := slices.Clone(data)
		at := rnd.IntN(last)
		for data[at] == 0 { // zeros fill up to the next sector: nothing is lost with them
			at = rnd.IntN(last)
		}
		bad[at] ^= 1 << rnd.IntN(8)
		var oe *OpenError
		if _, err := open(bad); !errors.As(err, &oe) || oe.Reason != Damaged {
			t.Errorf("byte %d of %d: %v", at, last, err)
		}
	}
	for at := last; at < end; at += sector { // torn: the last transaction lost a sector
		bad := slices.Clone(data)
		clear(bad[at : at+sector])
		if head, err := open(bad); err != nil || head != f.head-1 {
			t.Errorf("torn at %d: head %d of %d, %v", at, head, f.head, err)
		}
	}
	if err := os.Remove(filepath.Join(cut, slot)); err != nil {
		t.Fatal(err)
	}
	var oe *OpenError
	if _, err := Open(small(cut)); !errors.As(err, &oe) || oe.Reason != Damaged {
		t.Errorf("without its log: %v", err)
	}
}

// TestFailStop lets a flush fail: nothing is acknowledged from then on, the
// failed write is not served, not now and not after a restart.
func TestFailStop(t *testing.T) {
	dir := fastDir(t)
	var broken atomic.Bool
	o := small(filepath.Join(dir, "live"))
	o.syncFault = func() error {
		if broken.Load() {
			return unix.EIO
		}
		return nil
	}
	f := &filler{s: mustOpen(t, o)}
	for range 5 {
		if err := f.append(500); err != nil {
			t.Fatal(err)
		}
	}
	change := f.s.LastChange()
	broken.Store(true)
	if err := f.append(500); !im.Is(err, im.Unavailable) {
		t.Fatalf("got %v", err)
	}
	broken.Store(false) // the disk is well again: too late
	for range 3 {
		if err := f.append(500); !im.Is(err, im.Unavailable) {
			t.Fatalf("got %v", err)
		}
	}
	if st := f.s.Stats(); st.State != store.Failed || st.Reason == "" {
		t.Fatalf("state %v %q", st.State, st.Reason)
	}
	look := func(s *Store) {
		t.Helper()
		if err := (&filler{s: s, head: 5}).readAll(); err != nil {
			t.Fatal(err)
		}
		if s.LastChange() != change {
			t.Fatalf("last change %d, was %d", s.LastChange(), change)
		}
	}
	look(f.s)
	again := filepath.Join(dir, "again") // as the next process finds it
	copyStore(t, o.Dir, again)
	s := mustOpen(t, small(again))
	look(s)
	if err := (&filler{s: s, head: 5}).append(500); err != nil {
		t.Fatal(err)
	}
}

// TestKill kills the store in the middle of writing and looks whether all that
// was acknowledged is there.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(5, 6))
	acked := 0
	for round := range 5 {
		c := startChild(t, dir)
		var head int
		fmt.Sscanf(c.opened, "opened %d", &head)
		if head < acked || head > acked+1 {
			t.Fatalf("round %d: head %d, acknowledged %d", round, head, acked)
		}
		c.must("check", "ok")
		c.must("verify", "ok")
		acked = head
		c.say("stream 3000")
		for range 50 + rnd.IntN(400) {
			fmt.Sscanf(c.line(), "ack %d", &acked)
		}
		c.kill(func(line string) { // what was acknowledged before it died
			fmt.Sscanf(line, "ack %d", &acked)
		})
	}
}

// TestOpenErrors checks that each reason has its sentence.
func TestOpenErrors(t *testing.T) {
	dir := fastDir(t)
	whole := filepath.Join(dir, "whole")
	filled(t, whole, 100000)
	overwrite := func(name string, data []byte) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), data, 0o600) }
	}
	held := func(dir string) error {
		mustOpen(t, small(dir))
		return nil
	}
	for name, c := range map[string]struct {
		spoil func(dir string) error
		o     func(*Options)
		want  Reason // 0: opens
		say   string
	}{
		"as it was":       {func(string) error { return nil }, nil, 0, ""},
		"held":            {held, nil, Held, "in use by another Pipit process"},
		"newer format":    {overwrite("FORMAT", badgerdir.FormatLine(3)), nil, NewerFormat, "written by Pipit format 3 and this program knows 2: install a newer Pipit"},
		"broken format":   {overwrite("FORMAT", []byte("pipit")), nil, Damaged, "restore the newest backup"},
		"no manifest":     {func(dir string) error { return os.Remove(filepath.Join(dir, "MANIFEST")) }, nil, Damaged, "restore"},
		"empty manifest":  {overwrite("MANIFEST", nil), nil, Damaged, "restore"},
		"no table":        {func(dir string) error { ts, _ := badgerdir.Tables(dir); return os.Remove(ts[0]) }, nil, Damaged, "restore"},
		"short table":     {func(dir string) error { ts, _ := badgerdir.Tables(dir); return os.Truncate(ts[0], 1000) }, nil, Damaged, "restore"},
		"empty registry":  {overwrite("KEYREGISTRY", nil), nil, 0, ""},
		"empty next log":  {overwrite("00099.mem", nil), nil, 0, ""},
		"log never begun": {overwrite("00099.mem", make([]byte, 1<<20)), nil, 0, ""},
		"empty value log": {overwrite("000099.vlog", nil), nil, 0, ""},
		"torn manifest": {func(dir string) error {
			return appendTo(filepath.Join(dir, "MANIFEST"), []byte{0, 0, 0, 40, 1, 2, 3, 4, 5})
		}, nil, 0, ""},
		"orphan table":      {overwrite("000777.sst", []byte("half")), nil, 0, ""},
		"no directory":      {func(dir string) error { os.RemoveAll(dir); return os.WriteFile(dir, nil, 0o600) }, nil, NotWritable, "cannot be written"},
		"no room":           {func(string) error { return nil }, func(o *Options) { o.statfs = func() (int64, error) { return 1 << 20, nil } }, NoRoom, "is full: delete something"},
		"nothing to read":   {os.RemoveAll, func(o *Options) { o.ReadOnly = true }, NotWritable, "There is no store"},
		"read only":         {func(string) error { return nil }, func(o *Options) { o.ReadOnly = true }, 0, ""},
		"read only, uncut":  {overwrite("00099.mem", make([]byte, 1<<20)), func(o *Options) { o.ReadOnly = true }, NeedsRecover, "start the server once"},
		"read only, broken": {overwrite("FORMAT", []byte("pipit")), func(o *Options) { o.ReadOnly = true }, Damaged, "restore"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := filepath.Join(dir, "bad "+name)
			copyStore(t, whole, bad)
			if err := c.spoil(bad); err != nil {
				t.Fatal(err)
			}
			o := small(bad)
			if c.o != nil {
				c.o(&o)
			}
			s, err := Open(o)
			if c.want == 0 {
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				p, err := s.Page(context.Background(), "oak", fillConv, "u_x", 1, 10)
				if err != nil || len(p.Entries) != 10 {
					t.Fatalf("%d entries, %v", len(p.Entries), err)
				}
				if o.ReadOnly {
					if err := s.Probe(context.Background()); !im.Is(err, im.Unavailable) || s.Stats().State != store.ReadOnly {
						t.Fatalf("a write to a read-only store: %v", err)
					}
				}
				return
			}
			var oe *OpenError
			if !errors.As(err, &oe) || oe.Reason != c.want || !strings.Contains(oe.Sentence, c.say) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func appendTo(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// TestFirstStartCut opens what every prefix of the first start may have left.
func TestFirstStartCut(t *testing.T) {
	dir := fastDir(t)
	for name, files := range map[string]map[string][]byte{
		"nothing":       {},
		"format half":   {"FORMAT.new": []byte("pip")},
		"manifest half": {"FORMAT": badgerdir.FormatLine(1), "MANIFEST-REWRITE": []byte("Bd")},
		"manifest none": {"FORMAT": badgerdir.FormatLine(1), "MANIFEST": nil},
		"registry half": {"FORMAT": badgerdir.FormatLine(1), "KEYREGISTRY": []byte("123")},
		"log empty":     {"FORMAT": badgerdir.FormatLine(1), "00001.mem": nil},
		"log zeros":     {"FORMAT": badgerdir.FormatLine(1), "00001.mem": make([]byte, 4<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			d := filepath.Join(dir, name)
			if err := os.MkdirAll(d, 0o700); err != nil {
				t.Fatal(err)
			}
			for n, b := range files {
				if err := os.WriteFile(filepath.Join(d, n), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := mustOpen(t, small(d))
			if err := (&filler{s: s}).append(100); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestClock moves the wall clock by decades: Now never falls, not over a
// restart, and Age only counts what passed.
func TestClock(t *testing.T) {
	dir := fastDir(t)
	wall, mono := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), time.Duration(0)
	o := small(dir)
	o.Wall = func() time.Time { return wall }
	o.Mono = func() time.Duration { return mono }
	s := mustOpen(t, o)
	last, age := s.Now(), s.Age()
	pass := func(d, leap time.Duration) {
		t.Helper()
		mono += d
		wall = wall.Add(d + leap)
		if n := s.Now(); n.Before(last.Add(d)) {
			t.Fatalf("now fell from %v to %v", last, n)
		}
		if a := s.Age(); a != age+d {
			t.Fatalf("age %v after %v and %v", a, age, d)
		}
		last, age = s.Now(), s.Age()
	}
	restart := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		mono = 0
		s = mustOpen(t, o)
	}
	pass(time.Hour, 0)
	if !last.Equal(wall) {
		t.Fatalf("now %v, wall %v", last, wall)
	}
	const year = 365 * 24 * time.Hour
	pass(time.Minute, -56*year)
	restart()
	pass(time.Second, 0)
	pass(time.Second, 57*year)
	if !last.Equal(wall) {
		t.Fatalf("now %v, wall %v", last, wall)
	}
	restart()
	pass(time.Hour, -90*24*time.Hour)
	pass(time.Hour, 90*24*time.Hour)
}

// TestClockCut checks that a cut loses at most a minute of age.
func TestClockCut(t *testing.T) {
	dir := fastDir(t)
	mono := time.Duration(0)
	o := small(filepath.Join(dir, "live"))
	o.Mono = func() time.Duration { return mono }
	f := &filler{s: mustOpen(t, o)}
	for range 200 { // ten minutes and some
		mono += 3100 * time.Millisecond
		if err := f.append(10); err != nil {
			t.Fatal(err)
		}
	}
	age := f.s.Age()
	cut := filepath.Join(dir, "cut")
	copyStore(t, o.Dir, cut)
	o.Dir = cut
	s := mustOpen(t, o)
	if a := s.Age(); a > age || a < age-time.Minute-4*time.Second {
		t.Fatalf("age %v after a cut at %v", a, age)
	}
}

// TestCompactionComesToTheGate fails when badger no longer says that it is
// about to write a table.
func TestCompactionComesToTheGate(t *testing.T) {
	s := mustOpen(t, small(fastDir(t)))
	f := &filler{s: s}
	for range 1000 {
		if err := f.append(16 << 10); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "a compaction at the gate", func() bool { return s.gate.seen.Load() > 0 })
}

// TestRestoreCut opens a store in which a restore was cut off: it is empty.
func TestRestoreCut(t *testing.T) {
	dir := fastDir(t)
	src := mustOpen(t, small(filepath.Join(dir, "src")))
	f := &filler{s: src}
	for range 400 {
		if err := f.append(8 << 10); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := src.Backup(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	o := small(filepath.Join(dir, "dst"))
	o.MemTableBytes = 16 << 20 // no table comes or goes while it is copied
	dst := mustOpen(t, o)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- dst.Restore(context.Background(), r) }()
	if _, err := w.Write(b.Bytes()[:b.Len()*3/4]); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	copyStore(t, dst.opt.Dir, cut)
	w.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-done; !im.Is(err, im.Invalid) {
		t.Fatalf("a restore that was cut short: %v", err)
	}
	for _, s := range []*Store{dst, mustOpen(t, small(cut))} {
		if _, err := s.Conv(context.Background(), "oak", fillConv); !im.Is(err, im.NotFound) {
			t.Fatalf("got %v", err)
		}
		if err := s.Restore(context.Background(), bytes.NewReader(b.Bytes())); err != nil {
			t.Fatal(err)
		}
		if err := (&filler{s: s, head: f.head}).readAll(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestForget checks that the scrubber forgets keys that are old enough, and
// only those.
func TestForget(t *testing.T) {
	mono := time.Duration(0)
	o := small(fastDir(t))
	o.Mono = func() time.Duration { return mono }
	s := mustOpen(t, o)
	ctx := context.Background()
	put := func(k string) {
		t.Helper()
		if err := s.Append(ctx, []*store.Write{{Tenant: "oak", Key: &store.Key{User: "u", Key: k}}}); err != nil {
			t.Fatal(err)
		}
	}
	put("old")
	mono += im.KeyMemoryDays * 24 * time.Hour
	put("new")
	scrub := func() {
		t.Helper()
		if err := s.scrub(ctx, func(time.Duration) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	scrub()
	if _, err := s.Key(ctx, "oak", "u", "old"); err != nil {
		t.Fatalf("after 30 days: %v", err)
	}
	mono += 25 * time.Hour
	scrub()
	if _, err := s.Key(ctx, "oak", "u", "old"); !im.Is(err, im.NotFound) {
		t.Fatalf("after 31 days: %v", err)
	}
	if _, err := s.Key(ctx, "oak", "u", "new"); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadablePages takes the blocks of a table away under a running store, as a
// sector that the disk cannot read does: what is asked for is damage, said and
// counted, and not the end of the process.
func TestUnreadablePages(t *testing.T) {
	dir := fastDir(t)
	head := filled(t, dir, 1<<20)
	s, err := Open(small(dir))
	if err != nil {
		t.Fatal(err)
	}
	names, err := badgerdir.Tables(dir)
	if err != nil || len(names) == 0 {
		t.Fatalf("no table: %v", err)
	}
	for _, n := range names {
		if err := os.Truncate(n, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Page(context.Background(), "oak", fillConv, "u_x", head/2, head/2+10); !errors.Is(err, store.ErrDamaged) || !im.Is(err, im.Internal) {
		t.Errorf("a page of what cannot be read: %v", err)
	}
	if err := s.Scan(context.Background(), "oak", fillConv, 1, head, func(*store.Digest) bool { return true }); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("a scan of what cannot be read: %v", err)
	}
	if err := s.Backup(context.Background(), io.Discard); err == nil {
		t.Error("a backup of what cannot be read succeeded")
	}
	if s.Stats().Damaged == 0 {
		t.Error("not counted")
	}
	// The store is left as it is: badger's own goroutines would stumble, too.
}
