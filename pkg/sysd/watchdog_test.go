package sysd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdogFeedsOnlyForProgress(t *testing.T) {
	var log bytes.Buffer
	var a, b uint64
	var stuck bool
	var bErr error
	fed := 0
	w := newWatchdog(slog.New(slog.NewTextHandler(&log, nil)), 20*time.Second, []Probe{
		{Name: "loop 0", Progress: func() (uint64, error) { a++; return a, nil }},
		{Name: "commit", Progress: func() (uint64, error) {
			if !stuck {
				b++
			}
			return b, bErr
		}},
	}, func() error { fed++; return nil })
	now := time.Unix(0, 0)
	w.start(now)

	look := func(times, wantFed int, when string) {
		t.Helper()
		for range times {
			now = now.Add(5 * time.Second)
			w.look(now)
		}
		if fed != wantFed {
			t.Errorf("%s: fed %d times, want %d", when, fed, wantFed)
		}
	}
	look(2, 2, "both move")
	stuck = true
	look(1, 2, "one is stuck")
	if log.Len() != 0 {
		t.Errorf("named too early: %s", log.String())
	}
	look(1, 2, "still stuck")
	if s := log.String(); !strings.Contains(s, "parts=commit") || strings.Contains(s, "loop 0") || !strings.Contains(s, "level=ERROR") {
		t.Errorf("log: %s", s)
	}
	n := log.Len()
	look(6, 2, "long stuck")
	if log.Len() != n {
		t.Errorf("named again: %s", log.String()[n:])
	}
	stuck = false
	look(1, 3, "moves again")
	if !strings.Contains(log.String(), "moves again") {
		t.Errorf("log: %s", log.String())
	}
	b, stuck = 0, true
	look(1, 4, "a counter that began anew has moved")
	stuck, bErr = false, errors.New("store is closed")
	look(2, 4, "a probe that fails")
	if !strings.Contains(log.String(), "commit (store is closed)") {
		t.Errorf("log: %s", log.String())
	}
}

// TestWatchdogLateProgress: what moves only every second look is alive.
func TestWatchdogLateProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, fed := uint64(0), 0
		w := newWatchdog(slog.New(slog.DiscardHandler), 20*time.Second, []Probe{
			{Name: "slow", Progress: func() (uint64, error) { calls++; return calls / 2, nil }},
		}, func() error { fed++; return nil })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); w.run(ctx) }()
		time.Sleep(40*time.Second + time.Millisecond)
		synctest.Wait()
		if fed != 4 {
			t.Errorf("fed %d times, want 4", fed)
		}
		cancel()
		<-done
	})
}

func TestWatchdogTalksToSystemd(t *testing.T) {
	next := notifySocket(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	if d, err := WatchdogInterval(); err != nil || d != 20*time.Millisecond {
		t.Fatalf("%v, %v", d, err)
	}
	var n uint64
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- Watchdog(ctx, slog.New(slog.DiscardHandler), []Probe{{Name: "x", Progress: func() (uint64, error) { n++; return n, nil }}})
	}()
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("got %q", got)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWatchdogOff(t *testing.T) {
	t.Setenv("WATCHDOG_USEC", "")
	if err := Watchdog(context.Background(), slog.New(slog.DiscardHandler), nil); err != nil {
		t.Error(err)
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if err := Watchdog(context.Background(), slog.New(slog.DiscardHandler), nil); err == nil {
		t.Error("nonsense was accepted")
	}
}
