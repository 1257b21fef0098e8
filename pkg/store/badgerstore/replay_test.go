package badgerstore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/badgerdir"
	"github.com/pipit-im/pipit/pkg/badgerlog"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// TestUpgrade opens a store of format 1 as a power cut left it (testdata/format1:
// 40 messages, all of them still in badger's own log) and goes on with it.
func TestUpgrade(t *testing.T) {
	dir := fastDir(t)
	old := filepath.Join(dir, "old")
	if err := os.CopyFS(old, os.DirFS("testdata/format1")); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(badgerlog.Path(old, 1), 4<<20); err != nil { // its zeros are not in the repository
		t.Fatal(err)
	}
	if n, err := Format(old); err != nil || n != 1 {
		t.Fatalf("format %d, %v", n, err)
	}
	s, err := Open(small(old))
	if err != nil {
		t.Fatal(err)
	}
	f := &filler{s: s, head: 40}
	if err := f.readAll(); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := f.append(1000); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := Format(old); err != nil || n != FormatNow {
		t.Fatalf("format %d, %v", n, err)
	}
	cut := filepath.Join(dir, "cut")
	copyStore(t, old, cut)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{cut, old} {
		again, err := Open(small(d))
		if err != nil {
			t.Fatal(err)
		}
		if err := (&filler{s: again, head: f.head}).readAll(); err != nil {
			t.Fatal(err)
		}
		if rep, err := again.Verify(context.Background(), nil); err != nil || rep.Damaged > 0 || rep.Entries != uint64(f.head) {
			t.Fatalf("verify: %v %+v", err, rep)
		}
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
		o := small(d)
		o.ReadOnly = true
		if again, err = Open(o); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join((&filler{s: again, head: f.head}).readAll(), again.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReplayInParts reads a log whose transactions are longer than badger takes: a
// store with smaller memtables than the one that wrote it.
func TestReplayInParts(t *testing.T) {
	dir := fastDir(t)
	o := small(filepath.Join(dir, "live"))
	o.MemTableBytes = 16 << 20
	f := &filler{s: mustOpen(t, o)}
	for range 20 {
		if err := f.append(100); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	for range 3 { // about 1 MB each: badger takes 0.3 MB at 2 MiB
		batch := make([]*store.Write, 0, 200)
		for range 200 {
			f.head++
			batch = append(batch, write(f.head, 5000))
		}
		if err := f.s.Append(ctx, batch); err != nil {
			t.Fatal(err)
		}
	}
	cut := filepath.Join(dir, "cut")
	copyStore(t, o.Dir, cut)
	s := mustOpen(t, small(cut))
	if err := (&filler{s: s, head: f.head}).readAll(); err != nil {
		t.Fatal(err)
	}
	// Cut again: a part of a transaction is in a table by now, and the rest in memory.
	eventually(t, "what was full is a table", func() bool { return s.sink.Backlog() == 0 })
	if tables, err := badgerdir.Tables(cut); err != nil || len(tables) == 0 {
		t.Fatalf("no table: %v", err)
	}
	again := filepath.Join(dir, "again")
	copyStore(t, cut, again)
	if err := (&filler{s: mustOpen(t, small(again)), head: f.head}).readAll(); err != nil {
		t.Fatal(err)
	}
}

// TestErasedIsInNoFile: what a tenant wrote is in no file of the store any more when
// EraseTenant returns.
func TestErasedIsInNoFile(t *testing.T) {
	dir := fastDir(t)
	s := mustOpen(t, small(dir))
	f := &filler{s: s}
	ctx := context.Background()
	const secret = "what only oak was told"
	for range 30 {
		f.head++
		w := write(f.head, 100)
		w.Entries[0].Text = secret + strings.Repeat("\x01\x02", int(f.head)) // so that it does not pack
		if err := s.Append(ctx, []*store.Write{w}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.UpdateRecords(ctx, "", func(tx store.RecordTx) error { tx.Put(1, "kept", []byte("kept")); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.EraseTenant(ctx, "oak"); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(fastDir(t), "cut")
	copyStore(t, dir, cut)
	files, _ := filepath.Glob(filepath.Join(cut, "*"))
	for _, name := range files {
		if b, err := os.ReadFile(name); err != nil || bytes.Contains(b, []byte("only oak was")) {
			t.Errorf("%s still has it (%v)", filepath.Base(name), err)
		}
	}
	again := mustOpen(t, small(cut))
	if v, err := again.Record(ctx, "", 1, "kept"); err != nil || string(v) != "kept" {
		t.Fatalf("what was kept: %q %v", v, err)
	}
	if _, err := again.Conv(ctx, "oak", fillConv); !im.Is(err, im.NotFound) {
		t.Fatalf("what was erased: %v", err)
	}
	if rep, err := again.Verify(ctx, nil); err != nil || rep.Damaged > 0 {
		t.Fatalf("verify: %v %+v", err, rep)
	}
}
