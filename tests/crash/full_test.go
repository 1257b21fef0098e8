package crash_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
	"github.com/pipit-im/pipit/tests/crash/disk"
	"github.com/pipit-im/pipit/tests/crash/history"
)

const fullDisk = 128 << 20

// refusal bounds how long a full disk goes unnoticed. The promise is one second, what is seen is a millisecond; the rest is
// for a busy machine.
const refusal = 5 * time.Second

// small is a server on a small file system, with one person who asks it one thing after the other.
type small struct {
	*testing.T
	at    string // where the file system is mounted
	place *place
	world *world
	rec   *history.Recorder
	srv   *server
	c     *client.Client
	rng   *rand.Rand
	n     int
}

func newSmall(t *testing.T) *small {
	t.Helper()
	disk.Need(t)
	f := &small{T: t, at: shortDir(t), place: newPlace(t), rng: rand.New(rand.NewPCG(1, 1))}
	d, err := disk.New(disk.Options{SizeBytes: fullDisk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("the disk: %v", err)
		}
	})
	if err := d.Mount(f.at); err != nil {
		t.Fatal(err)
	}
	var clock atomic.Int64
	f.rec = history.NewRecorder(history.History{}, func() int64 { return clock.Add(1) })
	f.srv = f.place.mustStart(t, f.data())
	f.world = settle(t, f.srv, 1, 1)
	f.c = f.world.connect(t, f.place, 0, client.Handler{})
	t.Cleanup(func() { f.c.Close() })
	return f
}

func (f *small) data() string { return filepath.Join(f.at, "data") }

// send asks once to store a message of about size bytes and returns the server's answer. A message that is refused is not recorded, so it
// counts as invented if it is found after all: "unavailable" says that nothing was stored (PROTOCOL 2).
func (f *small) send(size int) error {
	f.Helper()
	f.n++
	s := history.Send{Conv: f.world.convs[0], By: f.world.people[0].id, Key: fmt.Sprint("f", f.n)}
	s.Text = s.Key + " " + incompressible(f.rng, size)
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	params := &wire.SendParams{Conversation: s.Conv, Key: s.Key, Text: s.Text}
	return f.c.Call(ctx, wire.MethodSend, params, func(result []byte) error {
		r, err := wire.DecodeSeqResult(result)
		if err == nil {
			f.rec.Send(s)
			f.rec.Ack(history.Ack{By: s.By, Key: s.Key, Seq: r.Seq, Time: r.Time})
		}
		return err
	})
}

// mustRefuse wants sends refused with unavailable, and nothing else, from now on.
func (f *small) mustRefuse(when string) {
	f.Helper()
	began := time.Now()
	for {
		err := f.send(100)
		if im.Is(err, im.Unavailable) && f.srv.alive() {
			break
		}
		if err != nil {
			f.Fatalf("%s: a message was answered with %v\n%s", when, err, f.srv.said)
		}
		if time.Since(began) > patience {
			f.Fatalf("%s: messages are still accepted", when)
		}
	}
	took := time.Since(began)
	f.Logf("%s: refused after %v", when, took)
	if took > refusal {
		f.Errorf("%s: refused only after %v", when, took)
	}
	if err := f.send(100); !im.Is(err, im.Unavailable) {
		f.Errorf("%s: the next message was answered with %v", when, err)
	}
	f.world.judge(f.T, f.place, f.rec.All(), when)
}

// mustRecover wants sends accepted again without anything being done to the server.
func (f *small) mustRecover(when string) {
	f.Helper()
	began := time.Now()
	within(f.T, "messages being accepted again "+when, func() bool {
		err := f.send(100)
		if err != nil && !im.Is(err, im.Unavailable) {
			f.Fatalf("%s: a message was answered with %v\n%s", when, err, f.srv.said)
		}
		return err == nil
	})
	f.Logf("%s: accepted again after %v", when, time.Since(began))
	f.world.judge(f.T, f.place, f.rec.All(), when)
}

// restart kills the server and starts it again; only reading has to work then.
func (f *small) restart(when string) {
	f.Helper()
	f.srv.kill()
	srv, err := f.place.start(f.T, f.data())
	if err != nil {
		f.Fatalf("restart %s: %v", when, err)
	}
	f.srv = srv
	f.c.Close()
	f.c = f.world.connect(f.T, f.place, 0, client.Handler{})
	f.Logf("restart %s: ready after %v", when, srv.ready)
	f.world.judge(f.T, f.place, f.rec.All(), "after the restart "+when)
}

// stranger writes a file that is not ours until size bytes are in it or the disk is full, and returns its path.
func (f *small) stranger(name string, size int64) string {
	f.Helper()
	path := filepath.Join(f.at, name)
	file, err := os.Create(path)
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	_, err = io.Copy(file, io.LimitReader(zeros{}, size))
	if err != nil && !errors.Is(err, unix.ENOSPC) {
		f.Fatal(err)
	}
	return path
}

// incompressible returns size bytes of text that a store cannot make smaller by more than a quarter.
func incompressible(rng *rand.Rand, size int) string {
	raw := make([]byte, size*3/4+3)
	for i := range raw {
		raw[i] = byte(rng.Uint32())
	}
	return base64.StdEncoding.EncodeToString(raw)[:size]
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (f *small) remove(path string) {
	f.Helper()
	if err := os.Remove(path); err != nil {
		f.Fatal(err)
	}
}

// TestDiskFilledByStrangers fills the server's file system from outside, to the last block.
func TestDiskFilledByStrangers(t *testing.T) {
	f := newSmall(t)
	for range 200 {
		if err := f.send(200); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 3 {
		name := fmt.Sprintf("in round %d", round)
		foreign := f.stranger("foreign", fullDisk)
		f.mustRefuse("full " + name)
		if round > 0 {
			f.restart("while full " + name)
			f.mustRefuse("full after the restart " + name)
		}
		f.remove(foreign)
		f.mustRecover("with room again " + name)
	}
	f.restart("at the end")
	f.srv.stop(t)
}

// TestDiskFilledByMessages lets the messages themselves fill what a stranger left.
func TestDiskFilledByMessages(t *testing.T) {
	f := newSmall(t)
	foreign := f.stranger("foreign", fullDisk/3)
	const text = 16_000
	for stored := 0; ; stored++ {
		err := f.send(text)
		if im.Is(err, im.Unavailable) {
			t.Logf("full after %d messages of %d bytes", stored, text)
			break
		}
		if err != nil {
			t.Fatalf("message %d was answered with %v\n%s", stored, err, f.srv.said)
		}
		if stored*text > fullDisk {
			t.Fatalf("%d messages of %d bytes on a disk of %d bytes", stored, text, fullDisk)
		}
	}
	f.mustRefuse("full of messages")
	f.restart("while full of messages") // which may tidy up and find room for a few more
	f.remove(foreign)
	f.mustRecover("with room again")
	f.srv.stop(t)
}
