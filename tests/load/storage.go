package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/badgerstore"
	"github.com/pipit-im/pipit/tests/crash/disk"
)

// fill makes a store of n messages in 1000 conversations of a tenant of its own.
func fill(ctx context.Context, dir string, n int) (err error) {
	s, err := badgerstore.Open(badgerstore.Options{Dir: dir, ScrubInterval: -1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	const convs, group = 1000, 200
	text := strings.Repeat("what was said ", 11)[:messageBytes]
	heads := make([]im.Seq, convs)
	for done := 0; done < n; done += group {
		batch := make([]*store.Write, group)
		for i := range batch {
			c := (done + i) % convs
			heads[c]++
			seq, id := heads[c], im.ConvID(fmt.Sprintf("c_%016d", c))
			user, now := im.UserID(fmt.Sprintf("u_%016d", c)), im.Millis(1_790_000_000_000+int64(seq))
			key := fmt.Sprintf("%08x-0000-4000-8000-%012d", seq, c)
			batch[i] = &store.Write{Tenant: "archive", Create: seq == 1, PrevHead: seq - 1,
				Conv: &im.Conversation{ID: id, Kind: im.KindGroup, Title: "Class", Head: seq, LastMsg: seq, Created: 1_790_000_000_000, Last: now},
				Key:  &store.Key{User: user, Key: key, Body: [16]byte{1, byte(seq)}, Conv: id, Seq: seq, Time: now},
				Entries: []im.Entry{{Conv: id, Seq: seq, Time: now, By: user, Kind: im.EntryMessage,
					Text: strconv.Itoa(done+i) + text[:messageBytes-8], Key: key}}}
		}
		if err := s.Append(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}

const flushDelay = 3 * time.Millisecond

// measureDisk has the server on a disk that takes 3 ms to flush.
func measureDisk(ctx context.Context, b *bench) (err error) {
	if reason := disk.Available(); reason != nil {
		fmt.Fprintln(os.Stderr, "  left out:", reason)
		return nil
	}
	d, err := disk.New(disk.Options{SizeBytes: 1 << 30, LogBytes: 16 << 30, FlushDelay: flushDelay})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	at := filepath.Join(b.dir, "slow")
	if err := errors.Join(os.Mkdir(at, 0o700), d.Mount(at)); err != nil {
		return err
	}
	fsync, slowest, err := syncTimes(filepath.Join(at, "probe"))
	if err != nil {
		return err
	}
	s, err := b.start(ctx, filepath.Join(at, "data"))
	if err != nil {
		return err
	}
	steady, err := b.load(ctx, s, "chat", 400, b.length(15*time.Second), "--room", "2", "--every", "1s", "--size", strconv.Itoa(messageBytes))
	var many *report
	if err == nil {
		many, err = b.load(ctx, s, "chat", 2000, b.length(12*time.Second), "--room", "2", "--every", "100ms", "--size", strconv.Itoa(messageBytes))
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	b.saw("sends", many.SendsPerS, "2000 senders in pairs, %.1f a commit; fsync %.1f ms; clients and disk on the same cores", float64(many.Acked)/float64(max(many.Commits, 1)), fsync.Seconds()*1000)
	b.saw("ack", steady.Ack.P99/(fsync.Seconds()*1000), "ack p50 %.1f, p99 %.1f ms; a bare fsync beside it: median %.1f, p99 %.1f ms of 400", steady.Ack.P50, steady.Ack.P99, fsync.Seconds()*1000, slowest.Seconds()*1000)
	return nil
}

// syncTimes is how long fdatasync takes after a small write into a file that has
// its blocks.
func syncTimes(name string) (median, p99 time.Duration, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	page := make([]byte, 4096)
	times := make([]time.Duration, 400)
	if _, err := f.Write(make([]byte, len(page)*len(times))); err != nil {
		return 0, 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, 0, err
	}
	for i := range times {
		page[0]++
		if _, err := f.WriteAt(page, int64(i*len(page))); err != nil {
			return 0, 0, err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, 0, err
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)*99/100], nil
}

// cpuPerOp runs one benchmark and returns the nanoseconds of processor time of an
// operation.
func cpuPerOp(ctx context.Context, name, pkg string) (float64, error) {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+strings.ReplaceAll(name, "/", "$/^")+"$", "-benchtime", "20000x", pkg)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", name, err, out.String())
	}
	for line := range strings.Lines(out.String()) {
		f := strings.Fields(line)
		if i := slices.Index(f, "cpu-ns/op"); i > 0 && strings.HasPrefix(f[0], name) {
			return strconv.ParseFloat(f[i-1], 64)
		}
	}
	return 0, fmt.Errorf("%s said nothing:\n%s", name, out.String())
}
