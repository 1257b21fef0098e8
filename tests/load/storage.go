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

// onDisk starts the server on a disk of its own that takes delay to flush and
// calls fn with both and with how long a bare fdatasync takes there.
func (b *bench) onDisk(ctx context.Context, delay time.Duration, messages int, fn func(*server, *disk.Disk, syncTimes) error) (err error) {
	if reason := disk.Available(); reason != nil {
		fmt.Fprintln(os.Stderr, "  left out:", reason)
		return nil
	}
	d, err := disk.New(disk.Options{SizeBytes: 2 << 30, LogBytes: 16 << 30})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	at, err := os.MkdirTemp(b.dir, "disk-")
	if err == nil {
		err = d.Mount(at)
	}
	if err != nil {
		return err
	}
	data := filepath.Join(at, "data")
	if messages > 0 {
		// Not by this process: it must not map files of a disk that it serves itself.
		full := filepath.Join(b.dir, "full")
		if err := fill(ctx, full, messages); err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, "sh", "-c", `cp -r "$0" "$1" && sync -f "$1"`, full, data).CombinedOutput()
		if err = errors.Join(err, os.RemoveAll(full)); err != nil {
			return fmt.Errorf("copying the store: %w: %s", err, out)
		}
	}
	d.SetFlushDelay(delay)
	bare, err := measureSync(filepath.Join(at, "probe"))
	if err != nil {
		return err
	}
	s, err := b.start(ctx, data)
	if err != nil {
		return err
	}
	return errors.Join(fn(s, d, bare), s.stop())
}

// measureDisk has the server on a disk that takes 3 ms to flush.
func measureDisk(ctx context.Context, b *bench) error {
	return b.onDisk(ctx, 3*time.Millisecond, 0, func(s *server, _ *disk.Disk, bare syncTimes) error {
		steady, err := b.load(ctx, s, "chat", 400, b.length(15*time.Second), "--room", "2", "--every", "1s", "--size", strconv.Itoa(messageBytes))
		if err != nil {
			return err
		}
		b.sawAck(steady, bare)
		many, err := b.load(ctx, s, "chat", 2000, b.length(12*time.Second), "--room", "2", "--every", "100ms", "--size", strconv.Itoa(messageBytes))
		b.saw("sends", many.SendsPerS, "2000 senders in pairs, %.1f a commit; fsync %.1f ms; clients and disk on the same cores", float64(many.Acked)/float64(max(many.Commits, 1)), bare.ms(bare.median))
		return err
	})
}

// measureSlow has 64 people send to a disk that flushes in 10 ms, each as soon as it
// has waited 60 ms.
func measureSlow(ctx context.Context, b *bench) error {
	return b.onDisk(ctx, 10*time.Millisecond, 0, func(s *server, _ *disk.Disk, bare syncTimes) error {
		r, err := b.load(ctx, s, "chat", 64, b.length(15*time.Second), "--room", "2", "--every", "60ms", "--size", strconv.Itoa(messageBytes))
		if err != nil {
			return err
		}
		b.saw("slow", r.SendsPerS, "%d messages, %.1f a commit; ack p50 %.1f, p99 %.1f ms (bar 150); a bare fsync beside it %.1f ms, p99 %.1f",
			r.Acked, float64(r.Acked)/float64(max(r.Commits, 1)), r.Ack.P50, r.Ack.P99, bare.ms(bare.median), bare.ms(bare.p99))
		return nil
	})
}

func (b *bench) sawAck(r *report, bare syncTimes) {
	b.saw("ack", r.Ack.P99/bare.ms(bare.median), "ack p50 %.1f (%.2f ×), p99 %.1f ms; a bare fsync beside it: median %.1f, p99 %.1f ms of 400; %.1f messages a commit",
		r.Ack.P50, r.Ack.P50/bare.ms(bare.median), r.Ack.P99, bare.ms(bare.median), bare.ms(bare.p99), float64(r.Acked)/float64(max(r.Commits, 1)))
}

// measureCard counts the bytes that reach a card which takes 10, 20 or 50 ms to
// flush, at 400 sends a second, and once with a million messages stored before:
// the journal of the file system, zeros and compactions in it.
func measureCard(ctx context.Context, b *bench) error {
	for _, c := range []struct {
		delay    time.Duration
		messages int
	}{{10 * time.Millisecond, 0}, {20 * time.Millisecond, 0}, {50 * time.Millisecond, 0}, {20 * time.Millisecond, b.messages()}} {
		err := b.onDisk(ctx, c.delay, c.messages, func(s *server, d *disk.Disk, bare syncTimes) error {
			const room = 2
			// The users are made before the messages begin, which is what is counted.
			began := make(chan disk.Stats, 1)
			go func() {
				_ = s.sessions(ctx, 400) // if they never come, the load says so
				began <- d.Stats()
			}()
			r, err := b.load(ctx, s, "chat", 400, b.length(60*time.Second), "--room", strconv.Itoa(room), "--every", "1s", "--size", strconv.Itoa(messageBytes))
			after := d.Stats()
			if err != nil {
				return err
			}
			before := <-began
			told := float64(r.Acked * messageBytes)
			b.saw("written", float64(after.BytesWritten-before.BytesWritten)/told,
				"bytes that reached a disk that flushes in %v, %d messages stored before: %d messages of %d bytes, %.1f a commit, %.2f flushes a commit; write_bytes of the process alone %.1f; ack p50 %.2f ×, p99 %.2f × a bare fsync of %.1f ms",
				c.delay, c.messages, r.Acked, messageBytes, float64(r.Acked)/float64(max(r.Commits, 1)), float64(after.Flushes-before.Flushes)/float64(max(r.Commits, 1)),
				float64(r.Written)/told, r.Ack.P50/bare.ms(bare.median), r.Ack.P99/bare.ms(bare.median), bare.ms(bare.median))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// syncTimes is how long fdatasync takes after a small write into a file whose
// blocks were written before.
type syncTimes struct{ median, p99 time.Duration }

func (syncTimes) ms(d time.Duration) float64 { return d.Seconds() * 1000 }

func measureSync(name string) (t syncTimes, err error) {
	f, err := os.Create(name)
	if err != nil {
		return t, err
	}
	defer f.Close()
	page := make([]byte, 4096)
	times := make([]time.Duration, 400)
	if _, err := f.Write(make([]byte, len(page)*len(times))); err != nil {
		return t, err
	}
	if err := f.Sync(); err != nil {
		return t, err
	}
	for i := range times {
		page[0]++
		if _, err := f.WriteAt(page, int64(i*len(page))); err != nil {
			return t, err
		}
		began := time.Now()
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return t, err
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return syncTimes{times[len(times)/2], times[len(times)*99/100]}, nil
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
