package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

const (
	mb = 1e6
	// messageBytes is what a message of pipit-load is to its sender: the text.
	messageBytes = 150
)

// idle makes users, connects some of them, who say nothing, and calls fn when all
// are there and what connecting left behind has settled.
func (b *bench) idle(ctx context.Context, s *server, users, online int, fn func() error) error {
	hold := 25 * time.Second
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := b.load(ctx, s, "idle", users, hold, "--room", "40", "--online", strconv.Itoa(online))
		done <- err
	}()
	err := s.sessions(ctx, online)
	if err == nil {
		select {
		case <-time.After(8 * time.Second):
			err = fn()
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	return errors.Join(err, <-done)
}

// measureIdle takes the memory of 4000 and of 15,000 idle sessions.
func measureIdle(ctx context.Context, b *bench) (err error) {
	var few, on, off int64
	s, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	err = b.idle(ctx, s, 4000, 4000, func() (err error) {
		if few, err = procStatus(s.pid(), "VmRSS"); err != nil {
			return err
		}
		if on, err = s.heap(ctx); err == nil {
			err = s.profile(ctx, os.Getenv("PIPIT_HEAP_PROFILE"))
		}
		return err
	})
	if err == nil {
		// What a session takes is what goes when it goes; presence keeps something
		// of it for five seconds more.
		if err = s.sessions(ctx, 0); err == nil {
			time.Sleep(7 * time.Second)
			off, err = s.heap(ctx)
		}
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	b.saw("rss4000", float64(few)/mb, "8 s after the last hello, first start of the store")
	b.saw("heap", float64(on-off)/4000, "%.1f MB with 4000, %.1f MB after they left, each after a collection", float64(on)/mb, float64(off)/mb)
	// Users, tokens and conversations take memory whether their people are there
	// or not: both runs have the same.
	var rss [2]int64
	for i, online := range []int{4000, 15000} {
		if s, err = b.fresh(ctx); err != nil {
			return err
		}
		err = b.idle(ctx, s, 15000, online, func() (err error) {
			rss[i], err = procStatus(s.pid(), "VmRSS")
			return err
		})
		if err = errors.Join(err, s.stop()); err != nil {
			return err
		}
	}
	b.saw("rssmore", float64(rss[1]-rss[0])/11000/1000, "15,000 users: %.1f MB with 4000 online, %.1f MB with all; with their records, tokens and places in 275 conversations %.2f kB",
		float64(rss[0])/mb, float64(rss[1])/mb, float64(rss[1]-few)/11000/1000)
	return nil
}

// profile writes the server's heap profile to a file, if one is named.
func (s *server) profile(ctx context.Context, file string) error {
	if file == "" {
		return nil
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = s.box.Stream(ctx, "GET", "/debug/pprof/heap?gc=1", f)
	return errors.Join(err, f.Close())
}

// measureRooms takes 4000 users in rooms of 50, 400 messages a second. The floor
// writes to as many sockets, as fast as it goes; beside it stands a floor that
// writes in the same groups at the same pace, because receivers who have fallen
// asleep cost their waker more.
func measureRooms(ctx context.Context, b *bench) error {
	return b.against(ctx, "rooms", "chat", 4000, 50, 400, b.length(20*time.Second))
}

// measureHot takes a room of 1000 with 100 messages a second, all of them to all.
func measureHot(ctx context.Context, b *bench) error {
	return b.against(ctx, "hot", "chat", 1000, 1000, 100, b.length(15*time.Second))
}

func (b *bench) against(ctx context.Context, id, profile string, users, room int, perSecond float64, d time.Duration) error {
	s, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	before, err := b.floor(ctx, users, 0, max(100_000, 10*users), 0)
	var r *report
	var after, paced floor
	if err == nil {
		every := time.Duration(float64(users) / perSecond * float64(time.Second))
		r, err = b.load(ctx, s, profile, users, d, "--room", strconv.Itoa(room), "--every", every.String(), "--size", "64")
	}
	if err == nil {
		after, err = b.floor(ctx, users, 0, max(100_000, 10*users), 0)
	}
	if err == nil {
		paced, err = b.floor(ctx, users, room, int(min(perSecond*float64(room)*3, 200_000)), perSecond)
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	bare := (before.US + after.US) / 2
	b.saw(id, r.CPUPerDel/bare, "%.1f µs a delivery, floor %.1f and %.1f µs; at this pace a bare loop needs %.1f µs (%.2f ×); %.0f sends/s, %.0f deliveries/s, ack p99 %.0f ms",
		r.CPUPerDel, before.US, after.US, paced.US, r.CPUPerDel/paced.US, r.SendsPerS, float64(r.Deliveries)/r.Duration, r.Ack.P99)
	return nil
}

// measureAnnounce sends one message every two seconds to 4000. The floor writes
// to 4000 bare sockets at the same pace.
func measureAnnounce(ctx context.Context, b *bench) error {
	s, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	bare, err := b.floor(ctx, 4000, 4000, 5*4000, 0.5)
	var r *report
	if err == nil {
		r, err = b.load(ctx, s, "announce", 4000, b.length(12*time.Second))
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	b.saw("announce", r.Delivery.P999/bare.Delivery.P999, "p99.9 of deliveries %.0f ms, p50 %.0f; floor %.0f, %.0f. Our receivers parse JSON on the same cores, the floor's do not",
		r.Delivery.P999, r.Delivery.P50, bare.Delivery.P999, bare.Delivery.P50)
	return nil
}

// measureStorm lets 4000 come back at once. The bare loop beside it accepts as
// many, reads twice and writes twice on each.
func measureStorm(ctx context.Context, b *bench) error {
	s, err := b.fresh(ctx)
	if err != nil {
		return err
	}
	before, err := b.bareStorm(ctx, 4000)
	var r *report
	var after float64
	if err == nil {
		r, err = b.load(ctx, s, "storm", 4000, b.length(9*time.Second))
	}
	if err == nil {
		after, err = b.bareStorm(ctx, 4000)
	}
	if err = errors.Join(err, s.stop()); err != nil {
		return err
	}
	b.saw("stormcpu", 2*r.ConnectCPU/(before+after), "%.2f s a storm, mean of all rounds; bare sockets %.2f and %.2f s", r.ConnectCPU, before, after)
	b.saw("stormtime", r.Connecting, "mean of all rounds, the clients' share of the cores in it")
	return nil
}

// measureSteady has 4000 online at 400 messages a second in rooms of 30, on a
// store that holds a million messages already.
func measureSteady(ctx context.Context, b *bench) error {
	return b.steady(ctx, "anon", b.start)
}

// measureGuest does the same with the server in a memory cgroup of 512 MB, what it
// has in the page cache counted: a Pi Zero 2 W's.
func measureGuest(ctx context.Context, b *bench) error {
	g, err := newCgroup(512 << 20)
	if err != nil {
		fmt.Fprintln(os.Stderr, "  left out:", err)
		return nil
	}
	err = b.steady(ctx, "", func(ctx context.Context, data string, more ...string) (*server, error) {
		return b.startIn(ctx, g, data, more...)
	})
	peak, killed := g.peak(), g.killed()
	if err = errors.Join(err, g.remove()); err != nil {
		return err
	}
	b.saw("guest", float64(peak)/mb, "the most that the group held, page cache in it; %d ended for want of memory; the soft limit is the server's own", killed)
	return nil
}

func (b *bench) steady(ctx context.Context, id string, start func(context.Context, string, ...string) (*server, error)) error {
	data := filepath.Join(b.dir, "steady")
	if err := fill(ctx, data, b.messages()); err != nil {
		return err
	}
	s, err := start(ctx, data)
	if err != nil {
		return err
	}
	highest := s.watchAnon()
	r, err := b.load(ctx, s, "chat", 4000, b.length(10*time.Minute), "--room", "30", "--every", "10s", "--size", strconv.Itoa(messageBytes))
	peak := highest()
	if err = errors.Join(err, s.stop(), os.RemoveAll(data)); err != nil {
		return err
	}
	note := fmt.Sprintf("the highest of looks twice a second over %.0f s, compactions in it, with %d messages stored before; at the end %.0f MB, and mapped files of %.0f MB apart; %.0f sends/s, ack p50 %.0f, p99 %.0f ms, %.1f µs of processor a delivery",
		r.Duration, b.messages(), float64(r.Memory.Anon)/mb, float64(r.Memory.File)/mb, r.SendsPerS, r.Ack.P50, r.Ack.P99, r.CPUPerDel)
	if id == "" {
		b.saw("anon", float64(peak)/mb, "in 512 MB: %s", note)
		return nil
	}
	b.saw(id, float64(peak)/mb, "%s", note)
	b.saw("written", float64(r.Written)/float64(r.Acked*messageBytes), "%d messages of %d bytes in %d commits; write_bytes of the process, so 4 kB a sync at least, on this machine's disk", r.Acked, messageBytes, r.Commits)
	return nil
}

func (b *bench) messages() int {
	if b.short {
		return 100_000
	}
	return 1_000_000
}

// measureMillion takes the time from the start to readiness after kill -9 while
// messages came in.
func measureMillion(ctx context.Context, b *bench) error {
	data := filepath.Join(b.dir, "million")
	if err := fill(ctx, data, b.messages()); err != nil {
		return err
	}
	worst, times := 0.0, ""
	for range 3 {
		s, err := b.start(ctx, data)
		if err != nil {
			return err
		}
		loading, cancel := context.WithCancel(ctx)
		var ignored report
		done := make(chan error, 1)
		go func() {
			done <- b.loadJSON(loading, &ignored, "chat", "--data-dir", data, "--users", "200", "--room", "10", "--every", "1s", "--duration", "60s")
		}()
		err = s.sessions(ctx, 200)
		time.Sleep(2 * time.Second)
		err = errors.Join(err, s.kill())
		cancel()
		<-done // it was cut off
		if err != nil {
			return err
		}
		began := time.Now()
		if s, err = b.start(ctx, data); err != nil {
			return err
		}
		took := time.Since(began).Seconds()
		if err := s.stop(); err != nil {
			return err
		}
		worst = max(worst, took)
		times += fmt.Sprintf(" %.2f", took)
	}
	b.saw("ready", worst, "%d messages, killed three times under load:%s s; worst", b.messages(), times)
	return os.RemoveAll(data)
}

// measureCode runs the benchmarks and the allocation tests beside the code.
func measureCode(ctx context.Context, b *bench) error {
	allocs := exec.CommandContext(ctx, "go", "test", "-count=1", "-run", "Alloc", "./pkg/netloop", "./pkg/hub", "./pkg/chat", "./pkg/wire")
	out, err := allocs.CombinedOutput()
	if err != nil {
		return fmt.Errorf("allocation tests: %w\n%s", err, out)
	}
	b.saw("allocs", 0, "testing.AllocsPerRun in netloop and hub: the same count for 10 recipients and 1000, 0 for a write")
	cold, err := cpuPerOp(ctx, "BenchmarkPage/cold", "./pkg/store/badgerstore")
	if err != nil {
		return err
	}
	warm, err := cpuPerOp(ctx, "BenchmarkHistoryMemory", "./pkg/chat")
	if err != nil {
		return err
	}
	b.saw("cold", cold/1000, "BenchmarkPage/cold of badgerstore, 100,000 messages in 1000 conversations")
	b.saw("warm", warm/1000, "BenchmarkHistoryMemory of chat")
	return nil
}
