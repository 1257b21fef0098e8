package app

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/api"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/health"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/metrics"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/sysd"
)

const (
	healthPause = 2 * time.Second
	unmapEach   = 5 // looks; some 200 faults come back after each
	certWarning = 14 * 24 * time.Hour
	lowRatio    = 10 // below a tenth free (or twice the low water) the disk is short
)

var lagMetric = metrics.NetLag

// probes are what must move for systemd's watchdog to be fed: every loop, and
// the commit goroutine with what waits in front of it.
func (a *App) probes() []sysd.Probe {
	probes := []sysd.Probe{{Name: "commit", Progress: func() (uint64, error) { return a.chat.Probe(), nil }}}
	for i := range a.loops.NumLoops() {
		l := a.loops.Loop(i)
		probes = append(probes, sysd.Probe{Name: "loop " + strconv.Itoa(i), Progress: func() (uint64, error) {
			l.Post(func() {})
			return a.loops.Stats().Loops[i].Turns, nil
		}})
	}
	return probes
}

// watchHealth looks at the box now and then and keeps the board.
func (a *App) watchHealth(ctx context.Context) {
	tick := time.NewTicker(healthPause)
	defer tick.Stop()
	for n := 0; ; n++ {
		a.look()
		if n%unmapEach == 0 {
			if err := sysd.UnmapProgram(); err != nil {
				a.log.Debug("pages of the program stay mapped", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *App) look() {
	s := a.store.Stats()
	b := a.board
	b.Update(health.StoreFailed, s.State == store.Failed, s.Reason)
	if s.State == store.Failed && s.Batches > 0 && sysd.Supervised() {
		// It worked and then failed: a new start reads the log anew and may write
		// again (DESIGN 5.6). A start that could not write once is not repeated: it
		// stays, for reading, with this condition. Without a supervisor nobody
		// would start it again, so it stays then too.
		a.fail(&StoreError{Sentence: "The store has failed: " + s.Reason})
	}
	b.Update(health.StoreReadOnly, s.State == store.ReadOnly, s.Reason)
	b.Update(health.DiskFull, s.State == store.Full, s.Reason)
	b.UpdateFigures(health.DiskShort, s.State == store.Writable && s.FreeBytes < 4*s.LowWaterBytes,
		fmt.Sprintf("%d MiB free, %d MiB is where nothing new is accepted", s.FreeBytes>>20, s.LowWaterBytes>>20),
		map[string]int64{"free_bytes": int64(s.FreeBytes), "low_bytes": int64(s.LowWaterBytes)})
	b.UpdateFigures(health.StoreDamaged, s.Damaged > 0, fmt.Sprintf("%d found since the start", s.Damaged), map[string]int64{"found": int64(s.Damaged)})
	b.Update(health.ReserveSpent, s.State != store.ReadOnly && a.config().Storage.ReserveBytes > 0 && s.ReserveBytes == 0, "")

	b.Update(health.ClockUntrusted, !a.host.ClockTrust(a.config().DataDir).Believed(), "")

	wanted := uint64(a.config().Limits.Connections) + 256
	b.UpdateFigures(health.DescriptorsLow, a.fdMax > 0 && a.fdMax < wanted, fmt.Sprintf("%d allowed, %d wanted", a.fdMax, wanted),
		map[string]int64{"allowed": int64(a.fdMax), "wanted": int64(wanted)})
	if left, ok := a.certs.left(time.Now()); ok {
		end := time.Now().Add(left)
		b.UpdateFigures(health.CertificateExpiring, left < certWarning, "it ends "+end.Format("2006-01-02"), map[string]int64{"end_ms": end.UnixMilli()})
	}
	a.memoryNow.Store(a.memory.Follow())
	used := rss()
	b.UpdateFigures(health.MemoryShort, used > a.memory.Most, fmt.Sprintf("%d MiB used, %d MiB is the limit", used>>20, a.memory.Most>>20),
		map[string]int64{"used_bytes": int64(used), "limit_bytes": int64(a.memory.Most)})
}

// status is what `pipit status` shows.
func (a *App) status() api.ServerInfo {
	s := a.store.Stats()
	net := a.loops.Stats()
	tenants, _ := a.dir.Size()
	ready, _ := a.board.Ready()
	online := a.hub.Stats()
	perMinute, p50, p99 := a.pace.lastMinute(time.Now())
	info := api.ServerInfo{
		Version: Version, PID: os.Getpid(), UptimeS: int64(time.Since(a.began).Seconds()), Ready: ready,
		DataDir: a.config().DataDir, Listen: orEmpty(a.listeners.plain), ListenTLS: orEmpty(a.listeners.tls),
		Epoch: string(a.store.Epoch()), Tenants: tenants,
		Connections: int(net.Open), Sessions: online.Sessions, People: online.People,
		Messages: s.Entries, Commits: s.Batches, MessagesPerMinute: perMinute,
		CommitP50US: p50.Microseconds(), CommitP99US: p99.Microseconds(),
		RSSBytes: rss(), MemoryLimit: a.memoryNow.Load(),
		Descriptors: apiclient.DescriptorInfo{Open: openDescriptors(), Limit: int(min(a.fdMax, 1<<31-1))},
		Store: apiclient.StoreInfo{State: s.State.String(), Reason: s.Reason, Bytes: s.LSMBytes + s.ValueLogBytes,
			FreeBytes: s.FreeBytes, LowWaterBytes: s.LowWaterBytes, ReserveBytes: s.ReserveBytes, Damaged: s.Damaged},
		Conditions: []apiclient.ConditionInfo{},
	}
	for _, c := range a.board.List() {
		text := c.Text
		if c.Detail != "" {
			text += " (" + c.Detail + ")"
		}
		info.Conditions = append(info.Conditions, apiclient.ConditionInfo{Code: c.Code, Severity: c.Severity.String(),
			Title: c.Title, Text: text, Hint: c.Hint, Since: c.Since.UnixMilli(), Figures: c.Figures})
	}
	return info
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// rss returns this process's resident memory in bytes (proc(5), statm).
func rss() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// openDescriptors counts this process's open files.
func openDescriptors() int {
	d, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return 0
	}
	return len(names)
}

// reloadConfig takes what a reload can change: limits, certificate, log level.
func (a *App) reloadConfig() {
	if err := sysd.Reloading(); err != nil {
		a.log.Warn("systemd not told", "error", err)
	}
	defer func() {
		if err := sysd.Ready("serving"); err != nil {
			a.log.Warn("systemd not told", "error", err)
		}
	}()
	refuse := func(err error) {
		a.board.Set(health.SettingsRejected, err.Error())
		a.log.Error("reload refused, the old settings stay", "error", err)
	}
	next, err := a.reload()
	if err != nil {
		refuse(err)
		return
	}
	merged, err := a.config().Reloaded(next)
	if err != nil {
		refuse(err)
		return
	}
	if err := a.certs.load(merged.TLS, merged.DataDir); err != nil {
		refuse(err)
		return
	}
	a.refreshCertificate()
	restart := a.config().Reloadable(next)
	a.cfg.Store(&merged)
	a.loops.SetLimits(merged.Limits.Connections, merged.Limits.ConnectionsPerAddress)
	a.auth.SetLimits(authLimits(&merged))
	a.level.Set(merged.Log.Level)
	a.board.Clear(health.SettingsRejected)
	a.board.Update(health.RestartNeeded, len(restart) > 0, strings.Join(restart, ", "))
	a.log.Info("reloaded", "restart_needed_for", restart)
}

func authLimits(c *config.Config) auth.Limits {
	return auth.Limits{ChecksPerMinutePerAddr: c.Limits.SigninsPerMinutePerAddr,
		FailuresPerHourPerAccount: c.Limits.SigninsPerHourPerAccount, Hashes: c.Limits.PasswordHashes}
}

// tidyUp ends, once an hour, what has outlived its time: sign-ins, invitations,
// remembered keys of requests, audit events, and tenants whose grace is over. All
// of it is judged by running time. What fails is tried again in an hour.
func (a *App) tidyUp(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.tidyOnce(ctx)
		}
	}
}

func (a *App) tidyOnce(ctx context.Context) {
	if n, err := a.auth.Expire(ctx); err != nil {
		a.log.Warn("sign-ins not expired", "error", err)
	} else if n > 0 {
		a.log.Info("sign-ins expired", "count", n)
	}
	gone, err := a.dir.EraseDue(ctx)
	if err != nil {
		a.log.Error("deleted tenants not erased", "error", err)
	}
	for _, t := range gone {
		_ = a.audit.Add(ctx, audit.Box, audit.Event{Action: "tenant.erase", Object: "tenant/" + string(t.ID), Name: t.Name}) // logged there
	}
	tenants := append(a.dir.Tenants(), im.Tenant{ID: audit.Box})
	for _, t := range tenants {
		if _, err := a.audit.Prune(ctx, t.ID, a.dir.Settings(t.ID).AuditKeep()); err != nil {
			a.log.Warn("audit log not pruned", "tenant", string(t.ID), "error", err)
		}
		a.endTerms(ctx, t.ID)
		if err := a.api.Tidy(ctx, t.ID); err != nil {
			a.log.Warn("keys of requests not forgotten", "tenant", string(t.ID), "error", err)
		}
	}
}

// quietLog is for net/http's own lines: what a peer did wrong is no error of
// ours.
func quietLog(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// Tune sets what holds for the whole process.
//
// The collector runs at a quarter of the usual growth, because a Pi has little
// memory and the server makes little garbage: with 4000 idle sessions 37 MB
// resident instead of 41 with half, for one collection of 7 ms a second instead of
// half of one at 400 messages a second.
//
// Twice as many of Go's processors as the machine has: each event loop sits in
// epoll_wait, and the committer in fdatasync, and the runtime counts a processor
// as taken all that time. With as many as there are cores nobody else could run
// until the runtime's monitor thread takes one back, for which it wakes every 50
// µs: that thread alone used 40 % of the server's time at 200 messages a second
// (tests/load/RESULTS.md). GOMAXPROCS, where somebody set it, wins.
func Tune() {
	debug.SetGCPercent(25)
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
}
