package sysd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Probe is one part of the server that must keep moving.
type Probe struct {
	Name string // "loop 0", "commit"
	// Progress returns a counter that rises while the part works. A part that
	// may be idle is asked to do something by it (the loop gets a task in its
	// mailbox, the commit goroutine an empty batch), so that the next call sees
	// a higher number. It must not block. An error counts as no progress.
	Progress func() (uint64, error)
}

// WatchdogInterval returns the time within which systemd wants to hear from
// this process, 0 if it does not (WatchdogSec= is not set).
func WatchdogInterval() (time.Duration, error) {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0, fmt.Errorf("watchdog: %w", err)
	}
	return d, nil
}

// Watchdog feeds systemd's watchdog until ctx ends, but only when every probe
// has moved since the last feed: one wedged loop is enough to be restarted. What
// does not move is named in the log, once, after half the interval; then there
// is still time to see the line before systemd acts.
//
// It returns at once when systemd does not watch, and after ctx otherwise. It
// runs on the caller's goroutine, which waits for it.
func Watchdog(ctx context.Context, log *slog.Logger, probes []Probe) error {
	interval, err := WatchdogInterval()
	if err != nil || interval == 0 {
		return err
	}
	w := newWatchdog(log, interval, probes, feed)
	w.run(ctx)
	return nil
}

// watchdog belongs to the goroutine of run.
type watchdog struct {
	log      *slog.Logger
	interval time.Duration
	probes   []Probe
	feed     func() error

	seen  []uint64 // counters at the last feed
	moved []bool   // since the last feed
	errs  []error  // of the last look
	fed   time.Time
	named bool // the wedged ones are in the log
}

func newWatchdog(log *slog.Logger, interval time.Duration, probes []Probe, feed func() error) *watchdog {
	return &watchdog{log: log, interval: interval, probes: probes, feed: feed,
		seen: make([]uint64, len(probes)), moved: make([]bool, len(probes)), errs: make([]error, len(probes))}
}

// run looks four times an interval: a probe that moved between two looks is
// fed for with at least half the interval to spare.
func (w *watchdog) run(ctx context.Context) {
	t := time.NewTicker(max(w.interval/4, time.Millisecond))
	defer t.Stop()
	w.start(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			w.look(time.Now())
		}
	}
}

// start takes the counters from which progress is judged.
func (w *watchdog) start(now time.Time) {
	w.fed = now
	for i, p := range w.probes {
		w.seen[i], w.errs[i] = p.Progress()
	}
}

// look asks every probe, and feeds or complains.
func (w *watchdog) look(now time.Time) {
	all := true
	for i, p := range w.probes {
		n, err := p.Progress()
		w.errs[i] = err
		// Not "greater": a part that was restarted counts from 0 again.
		if err == nil && n != w.seen[i] {
			w.seen[i], w.moved[i] = n, true
		}
		all = all && w.moved[i]
	}
	if all {
		if err := w.feed(); err != nil {
			w.log.Warn("the watchdog could not be fed", "error", err)
			return
		}
		if w.named {
			w.log.Warn("everything moves again", "after", now.Sub(w.fed))
		}
		w.fed, w.named = now, false
		clear(w.moved)
		return
	}
	if w.named || now.Sub(w.fed) < w.interval/2 {
		return
	}
	var names []string
	for i, p := range w.probes {
		switch {
		case w.moved[i]:
		case w.errs[i] != nil:
			names = append(names, fmt.Sprintf("%s (%v)", p.Name, w.errs[i]))
		default:
			names = append(names, p.Name)
		}
	}
	w.named = true
	w.log.Error("wedged: systemd will restart the server", "parts", strings.Join(names, ", "),
		"since", now.Sub(w.fed), "limit", w.interval)
}
