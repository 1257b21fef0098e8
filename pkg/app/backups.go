package app

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/backup"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/update"
)

// BackedUp is what a backup holds of the data directory beside the store.
var BackedUp = []string{TLSDir, NamesName, update.KeysName, backup.RecipientName}

// backups is the backup that somebody started from the console. The nightly one
// is another process's (pipit backup --nightly), and sticks are its affair, since
// they have to be mounted; the lock of package backup keeps the two apart.
type backups struct {
	mu      sync.Mutex
	running bool // guarded by mu
	wait    sync.WaitGroup
	ctx     context.Context // of the process: no request's
	stop    context.CancelFunc
}

// backupState is what the console shows of the backups.
func (a *App) backupState() (apiclient.Backups, error) {
	dir := a.config().DataDir
	folder := filepath.Join(dir, backup.DirName)
	out := apiclient.Backups{Kept: []apiclient.KeptBackup{}, Places: []apiclient.BackupPlace{}}
	if _, err := backup.Recipient(dir); err == nil {
		out.Key = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	a.backups.mu.Lock()
	out.Running = a.backups.running
	a.backups.mu.Unlock()
	list, err := backup.List(folder)
	if err != nil {
		return out, err
	}
	for _, k := range list {
		out.Kept = append(out.Kept, apiclient.KeptBackup{Name: k.Name, At: k.At.UnixMilli(), Bytes: k.Bytes})
	}
	r, err := backup.ReadReport(folder)
	if err != nil {
		return out, nil // none was made yet: tried is absent
	}
	out.Tried, out.Error = r.At.UnixMilli(), r.Error
	if !r.Good.IsZero() {
		out.Verified = r.Good.UnixMilli()
	}
	for _, p := range r.Places {
		b := apiclient.BackupPlace{Place: p.Place, Records: p.Records, Bytes: p.Bytes, Error: p.Error, Why: p.Why}
		if !p.At.IsZero() {
			b.At = p.At.UnixMilli()
		}
		out.Places = append(out.Places, b)
	}
	return out, nil
}

// startBackup begins a backup to the card and returns; the state says how it goes
// on. Errors: im.Conflict if one is under way or there is no key.
func (a *App) startBackup(by audit.Origin) error {
	to, err := backup.Recipient(a.config().DataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return im.E(im.Conflict, "There is no backup key yet. Make one at the box, once: sudo pipit backup key").OnField("key")
	}
	if err != nil {
		return err
	}
	b := &a.backups
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running {
		return im.E(im.Conflict, "A backup is being made already.")
	}
	b.running = true
	b.wait.Go(func() {
		err := a.backUp(b.ctx, to)
		b.mu.Lock()
		b.running = false
		b.mu.Unlock()
		if err != nil {
			a.log.Warn("backup failed", "error", err)
		}
		a.lookAtBackups(time.Now(), 0)
		_ = a.audit.Add(audit.With(context.WithoutCancel(b.ctx), by), audit.Box, audit.Event{Action: "backup.made", Result: audit.ResultOf(err)}) // logged there
	})
	return nil
}

// backUp makes one backup and writes the report.
func (a *App) backUp(ctx context.Context, to age.Recipient) error {
	dir := a.config().DataDir
	folder := filepath.Join(dir, backup.DirName)
	host, err := os.Hostname()
	if err != nil {
		host = "pipit"
	}
	s := a.store.Stats()
	c := backup.Content{
		Meta:    backup.Meta{Version: Version, Host: host, Made: time.Now().UTC(), StoreFormat: StoreFormat},
		DataDir: dir, Names: BackedUp, Settings: config.DefaultFile,
		Store: func(ctx context.Context, w io.Writer) error { return store.Admin(a.store).Backup(ctx, w) },
	}
	place := backup.Place{Dir: folder, SpareBytes: 4 * s.LowWaterBytes}
	taken, err := place.Take(ctx, c, backup.Estimate(folder, s.LSMBytes+s.ValueLogBytes), machine.Machine{}.ClockTrust(dir).Believed(), to)
	if errors.Is(err, context.Canceled) {
		return err // the server stops; the report stays what it was
	}
	r, rerr := backup.ReadReport(folder)
	if rerr != nil {
		r = backup.Report{} // the first one
	}
	r.At = time.Now().UTC().Truncate(time.Second)
	now := backup.PlaceReport{Place: "card", Taken: taken}
	if err != nil {
		now.Error, now.Why = sentence(err), backup.Why(err)
	}
	places := []backup.PlaceReport{now}
	for _, p := range r.Places {
		if p.Place != now.Place {
			places = append(places, p) // what the stick said last still holds
		}
	}
	var wrong []string
	for _, p := range places {
		if p.Error != "" {
			wrong = append(wrong, p.Place+": "+p.Error)
		}
	}
	if r.Places, r.Error = places, strings.Join(wrong, " "); r.Error == "" {
		r.Good = r.At
	}
	return errors.Join(err, backup.WriteReport(folder, r))
}

// sentence is what an error tells people.
func sentence(err error) string {
	var e *im.Error
	if errors.As(err, &e) && e.Message != "" {
		return e.Message
	}
	return err.Error()
}
