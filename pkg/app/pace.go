package app

import (
	"context"
	"math/bits"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/backup"
	"github.com/pipit-im/pipit/pkg/health"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/sysd"
)

// pace is how fast the last minute was, for `pipit status` and `pipit top`:
// entries stored, and how long commits took. It is told at each commit, so it
// takes one short lock and nothing else.
type pace struct {
	mu    sync.Mutex
	slots [paceSlots]paceSlot // guarded by mu
}

const (
	paceSlots = 12
	paceStep  = 5 * time.Second
	// Four to each doubling from 64 µs to a minute.
	paceBuckets = 80
)

type paceSlot struct {
	at      int64 // which step of time this slot is of
	entries uint64
	took    [paceBuckets]uint32 // commits by the number of bits of their microseconds, four to a bit
}

// slot returns the slot of now, emptied if it was an older one's. mu is held.
func (p *pace) slot(now time.Time) *paceSlot {
	at := now.UnixNano() / int64(paceStep)
	s := &p.slots[at%paceSlots]
	if s.at != at {
		*s = paceSlot{at: at}
	}
	return s
}

func (p *pace) commit(now time.Time, took time.Duration) {
	p.mu.Lock()
	p.slot(now).took[paceBucket(took)]++
	p.mu.Unlock()
}

func (p *pace) entries(now time.Time, n uint64) {
	p.mu.Lock()
	p.slot(now).entries += n
	p.mu.Unlock()
}

// paceBucket puts a duration into a bucket whose upper end is at most a quarter
// above its lower one, from 64 µs to a minute.
func paceBucket(d time.Duration) int {
	us := uint64(max(d.Microseconds(), 64))
	n := bits.Len64(us) // 7 for 64 to 127
	quarter := us >> (n - 3) & 3
	return min((n-7)*4+int(quarter), paceBuckets-1)
}

// upper is the upper end of a bucket.
func (paceSlot) upper(i int) time.Duration {
	base := time.Duration(64<<(i/4)) * time.Microsecond
	return base + base*time.Duration(i%4+1)/4
}

// lastMinute returns entries and the median and 99th percentile of commits.
func (p *pace) lastMinute(now time.Time) (entries uint64, p50, p99 time.Duration) {
	at := now.UnixNano() / int64(paceStep)
	return p.between(at-paceSlots+1, at)
}

// lastStep is lastMinute for the step that ended last.
func (p *pace) lastStep(now time.Time) (entries uint64, p50, p99 time.Duration) {
	at := now.UnixNano()/int64(paceStep) - 1
	return p.between(at, at)
}

// between is lastMinute for the steps from first to last.
func (p *pace) between(first, last int64) (entries uint64, p50, p99 time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var took [paceBuckets]uint64
	var n uint64
	for i := range p.slots {
		s := &p.slots[i]
		if s.at < first || s.at > last {
			continue
		}
		entries += s.entries
		for b, c := range s.took {
			took[b] += uint64(c)
			n += uint64(c)
		}
	}
	quantile := func(q uint64) time.Duration {
		var sum uint64
		for b, c := range took {
			if sum += c; sum*100 >= n*q && n > 0 {
				return paceSlot{}.upper(b)
			}
		}
		return 0
	}
	return entries, quantile(50), quantile(99)
}

// watchPace counts what was stored, once a second.
func (a *App) watchPace(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := a.store.Stats().Entries
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n := a.store.Stats().Entries
			a.pace.entries(time.Now(), n-last)
			last = n
		}
	}
}

const (
	clockPause  = 10 * time.Minute
	backupPause = time.Minute
	backupOld   = 3 * 24 * time.Hour
	// backupGrace is how long a new box may be without its first backup: a night, and
	// the day on which somebody makes a key.
	backupGrace = 24 * time.Hour
	// clockLeap is by how much the clock may have been wrong and be set right without
	// any of that being taken for time that passed.
	clockLeap = time.Hour
)

// watchBox looks after what changes slowly: the last known time is written down,
// and the state of the backups is read.
func (a *App) watchBox(ctx context.Context) {
	clock, backups := time.NewTicker(clockPause), time.NewTicker(backupPause)
	defer clock.Stop()
	defer backups.Stop()
	last := time.Now()
	a.lookAtBackups(last, 0)
	a.saveClock()
	for {
		select {
		case <-ctx.Done():
			a.saveClock()
			return
		case <-clock.C:
			a.saveClock()
		case <-backups.C:
			now := time.Now()
			// What the clock went on by, but for the time that passed.
			a.lookAtBackups(now, now.Round(0).Sub(last.Round(0))-now.Sub(last))
			last = now
		}
	}
}

func (a *App) saveClock() {
	if err := machine.SaveClock(a.config().DataDir, machine.SystemClock{}); err != nil {
		a.log.Debug("time not written down", "error", err)
	}
}

// lookAtBackups keeps the two conditions about them. A server that somebody runs
// by hand, without a timer, is not told that it has no backups. leap is by how much the
// clock was set since the last call.
func (a *App) lookAtBackups(now time.Time, leap time.Duration) {
	folder := filepath.Join(a.config().DataDir, backup.DirName)
	r, err := backup.ReadReport(folder)
	if err != nil {
		a.board.Clear(health.BackupFailed)
		a.board.UpdateFigures(health.BackupMissing, sysd.Supervised() && a.waitsForBackup(folder, now, leap) > backupGrace, "none was made yet", map[string]int64{"last_ms": 0})
		return
	}
	a.board.Update(health.BackupFailed, r.Error != "", r.Error)
	old := now.Sub(r.Good) > backupOld
	detail, last := "none was made yet", int64(0)
	if !r.Good.IsZero() {
		detail, last = "the last is of "+r.Good.Local().Format("2006-01-02"), r.Good.UnixMilli()
	}
	a.board.UpdateFigures(health.BackupMissing, r.Error == "" && old, detail, map[string]int64{"last_ms": last})
}

// waitsForBackup is how long the box has been without its first backup: since the
// folder for them was made. A Pi starts somewhere in the past and learns the time
// later; what its clock leaps by did not pass, so the folder's time leaps along.
func (a *App) waitsForBackup(folder string, now time.Time, leap time.Duration) time.Duration {
	err := os.MkdirAll(folder, 0o700)
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(folder); err == nil {
			since := info.ModTime()
			if leap.Abs() > clockLeap {
				since = since.Add(leap)
				err = os.Chtimes(folder, time.Time{}, since)
			}
			if err == nil {
				return now.Sub(since)
			}
		}
	}
	a.log.Debug("not known how long there has been no backup", "error", err)
	return 2 * backupGrace // then it is said at once
}
