package app

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/backup"
	"github.com/pipit-im/pipit/pkg/health"
	"github.com/pipit-im/pipit/pkg/machine"
)

func TestPace(t *testing.T) {
	var p pace
	now := time.Unix(1_800_000_000, 0)
	if n, p50, p99 := p.lastMinute(now); n != 0 || p50 != 0 || p99 != 0 {
		t.Errorf("nothing yet: %d %v %v", n, p50, p99)
	}
	// 98 commits of 1 ms, 2 of 100 ms, within a bucket's quarter.
	for i := range 100 {
		d := time.Millisecond
		if i < 2 {
			d = 100 * time.Millisecond
		}
		p.commit(now.Add(time.Duration(i)*300*time.Millisecond), d)
		p.entries(now.Add(time.Duration(i)*300*time.Millisecond), 3)
	}
	n, p50, p99 := p.lastMinute(now.Add(30 * time.Second))
	if n != 300 || p50 < time.Millisecond || p50 > 1300*time.Microsecond || p99 < 100*time.Millisecond || p99 > 130*time.Millisecond {
		t.Errorf("%d %v %v", n, p50, p99)
	}
	// A minute later they count no more.
	if n, _, _ := p.lastMinute(now.Add(85 * time.Second)); n >= 300 {
		t.Errorf("%d of the minute before", n)
	}
	if n, p50, _ := p.lastMinute(now.Add(3 * time.Minute)); n != 0 || p50 != 0 {
		t.Errorf("%d %v long after", n, p50)
	}
	// Every duration has a bucket that holds it.
	for d := time.Microsecond; d < 50*time.Second; d = d*5/4 + 1 {
		if up := (paceSlot{}).upper(paceBucket(d)); up < d && paceBucket(d) < paceBuckets-1 {
			t.Errorf("%v is in a bucket up to %v", d, up)
		}
	}
}

// TestBackupMissing: a new box is not told on its first day that it has no backup, and
// what its clock leaps by is no day.
func TestBackupMissing(t *testing.T) {
	b := newBox(t)
	// The box has looked by itself once it has written down the time; then in a minute.
	for machine.LastKnown(b.dir).IsZero() {
		time.Sleep(10 * time.Millisecond)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(b.dir, "nobody")) // systemd runs it
	at := time.Now()
	look := func(later, leap time.Duration, want bool) {
		t.Helper()
		at = at.Add(later)
		b.lookAtBackups(at.Round(0), leap)
		if got := b.board.Holds(health.BackupMissing); got != want {
			t.Errorf("%v later, with a leap of %v: backup-missing %v, want %v", later, leap, got, want)
		}
	}
	look(0, 0, false)
	look(20*time.Hour, 0, false)
	look(400*24*time.Hour, 400*24*time.Hour, false) // a Pi learns the time
	look(3*time.Hour, 0, false)
	look(2*time.Hour, 0, true)
	look(-400*24*time.Hour, -400*24*time.Hour, true)
	if err := backup.WriteReport(filepath.Join(b.dir, backup.DirName), backup.Report{At: at, Good: at}); err != nil {
		t.Fatal(err)
	}
	look(time.Hour, 0, false)
	look(backupOld, 0, true)
	if d := b.waitsForBackup(filepath.Join(b.file, backup.DirName), at, 0); d <= backupGrace {
		t.Errorf("where no folder can be made it is not said at once, but as after %v", d)
	}
}
