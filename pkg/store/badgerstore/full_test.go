package badgerstore

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// smallDisk mounts a file system of the given size and returns its directory.
func smallDisk(t *testing.T, kind string, bytes int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: mounting a small file system needs root")
	}
	dir := t.TempDir()
	if kind == "tmpfs" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
			t.Skipf("SKIPPED, NOT PROVEN: cannot mount a tmpfs: %v", err)
		}
	} else {
		image := filepath.Join(t.TempDir(), "image")
		f, err := os.Create(image)
		if err == nil {
			err = errors.Join(f.Truncate(bytes), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, cmd := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, dir}} {
			if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
				t.Skipf("SKIPPED, NOT PROVEN: %v: %v %s", cmd, err, out)
			}
		}
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// filler appends messages of random text to one log.
type filler struct {
	s    *Store
	head im.Seq
}

const fillConv = im.ConvID("c_0000000000000000")

// write is the write of message seq with about n characters.
func write(seq im.Seq, n int) *store.Write {
	text := make([]byte, n/2)
	rand.Read(text)
	e := im.Entry{Conv: fillConv, Seq: seq, Time: 1, By: "u_0000000000000000", Kind: im.EntryMessage, Text: hex.EncodeToString(text)}
	return &store.Write{Tenant: "oak", Create: seq == 1, PrevHead: seq - 1, Entries: []im.Entry{e},
		Conv: &im.Conversation{ID: fillConv, Kind: im.KindGroup, Head: seq, LastMsg: seq}}
}

// append appends one message of about n characters.
func (f *filler) append(n int) error {
	err := f.s.Append(context.Background(), []*store.Write{write(f.head+1, n)})
	if err == nil {
		f.head++
	}
	return err
}

// readAll reads everything that was acknowledged.
func (f *filler) readAll() error {
	for from := im.Seq(1); from <= f.head; from += 100 {
		p, err := f.s.Page(context.Background(), "oak", fillConv, "u_x", from, from+99)
		if err != nil {
			return err
		}
		if p.Head != f.head || len(p.Entries) != int(min(100, f.head-from+1)) {
			return fmt.Errorf("page from %d: %d entries, head %d of %d", from, len(p.Entries), p.Head, f.head)
		}
	}
	return nil
}

// eventually waits for something that comes by itself.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// hog takes disk space as a stranger would: as fast as memory can be written.
type hog struct{ name string }

func (h hog) take(bytes int64) error {
	f, err := os.OpenFile(h.name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for n := int64(0); n < bytes; n += int64(len(block)) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return nil
}

func (h hog) takeAll(t *testing.T) {
	t.Helper()
	if err := h.take(1 << 40); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	// The crumbs that are left go too.
	f, err := os.OpenFile(h.name, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 512)); err != nil {
			return
		}
	}
}

func (h hog) giveBack(t *testing.T) {
	t.Helper()
	if err := os.Remove(h.name); err != nil {
		t.Fatal(err)
	}
}

// asked is how often something is done: the environment asks for the long form.
func asked(t *testing.T, name string, usual int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return usual
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number", name, v)
	}
	return n
}

func fullOptions(dir string) Options {
	o := small(dir)
	o.LowWaterBytes, o.ReserveBytes = 40<<20, 10<<20
	return o
}

// TestDiskFull fills a small disk by messages and by strangers, restarts on it
// while it is full, and gives room again. A SIGBUS in badger ends the child and
// with it the test.
func TestDiskFull(t *testing.T) {
	for _, kind := range []string{"tmpfs", "ext4"} {
		t.Run(kind, func(t *testing.T) {
			disk := smallDisk(t, kind, 200<<20)
			dir := filepath.Join(disk, "data")
			h := hog{filepath.Join(disk, "stranger")}
			if err := h.take(60 << 20); err != nil {
				t.Fatal(err)
			}
			c := startChild(t, dir)
			restart := func() {
				t.Helper()
				c.end()
				c = startChild(t, dir)
				c.must("check", "ok")
			}
			back := func() {
				t.Helper()
				h.giveBack(t)
				eventually(t, "writable again", func() bool { return c.ask("append 100") == "ok" })
				c.must("check", "ok")
			}
			c.must("fill 16000", "unavailable")
			for range 2 {
				restart() // badger tidies up; what that frees is filled again
				c.must("fill 16000", "unavailable")
			}
			c.must("check", "ok")
			back() // writes come back by themselves
			for range 300 {
				c.must("append 1000", "ok")
			}
			for range 2 {
				h.takeAll(t) // strangers take everything, to the last byte
				c.must("append 100", "unavailable")
				c.must("check", "ok")
				restart()
				c.must("fill 16000", "unavailable") // badger may have freed some
				restart()                           // and once more, with what is left of the reserve
				// And once the hard way: the third start on a disk without one free
				// byte. If the reserve is spent by now it says so in plain words, and
				// starts with everything once there is room.
				c.kill(func(string) {})
				again, said := tryChild(t, dir)
				if again == nil {
					if !strings.Contains(said, "is full: delete something else") {
						t.Fatal(said)
					}
					h.giveBack(t)
					c = startChild(t, dir)
					c.must("check", "ok")
					continue
				}
				c = again
				c.must("check", "ok")
				back()
			}
			for n := range asked(t, "PIPIT_TORTURE_FILLINGS", 3) { // by strangers
				if n%5 == 4 { // or it is the messages that fill the disk
					c.end()
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
					c = startChild(t, dir)
				}
				c.say("fill 8000")                                     // while messages come in and become tables,
				time.Sleep(time.Duration(n%8) * 20 * time.Millisecond) // at another moment of that each time
				h.takeAll(t)
				if got := c.line(); got[:11] != "unavailable" {
					t.Fatalf("got %q", got)
				}
				c.must("check", "ok")
				if n%2 == 0 {
					restart()
				}
				back()
			}
			c.must("verify", "ok")
			c.end()
		})
	}
}
