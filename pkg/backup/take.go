package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/im"
)

// Names of what is kept in the data directory.
const (
	// DirName is the folder of the nightly backups.
	DirName = "backups"
	// RecipientName is the file with the recipient of the technician's identity.
	RecipientName = "backup-recipient"
)

const (
	namePrefix = "pipit-"
	nameSuffix = ".age"
	nameTime   = "20060102-150405Z"
	unfinished = ".new"
)

// ReportName is the file beside the nightly backups that says how the last night
// was; the server's health reads it.
const ReportName = "last.json"

// Report is what ReportName holds.
type Report struct {
	At     time.Time     `json:"at"`              // when it was tried last
	Good   time.Time     `json:"good,omitzero"`   // when it last went well everywhere
	Error  string        `json:"error,omitempty"` // for people; "" if the last went well
	Places []PlaceReport `json:"places"`
}

// PlaceReport is one folder's part of a Report.
type PlaceReport struct {
	Place string `json:"place"` // "card" or "stick"
	Taken
	Error string `json:"error,omitempty"`
	Why   string `json:"why,omitempty"` // of Error, for programs: see Why
}

// errUnread is that what was written is not what can be read.
var errUnread = errors.New("can't be read back")

// Why is why a backup was not made, in a word: "room", "locked" (it may not be
// written), "failing" (it can't be read back), or "" for anything else.
func Why(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "room"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return "locked"
	case errors.Is(err, errUnread):
		return "failing"
	}
	return ""
}

// WriteReport replaces the report in a folder, in one step.
func WriteReport(dir string, r Report) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	name := filepath.Join(dir, ReportName)
	if err := os.WriteFile(name+unfinished, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(name+unfinished, name)
}

// ReadReport returns the report in a folder.
func ReadReport(dir string) (r Report, err error) {
	b, err := os.ReadFile(filepath.Join(dir, ReportName))
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

// Recipient returns whom the backups of a data directory are encrypted to;
// fs.ErrNotExist is matched if nobody is set.
func Recipient(dataDir string) (age.Recipient, error) {
	b, err := os.ReadFile(filepath.Join(dataDir, RecipientName))
	if err != nil {
		return nil, err
	}
	r, err := age.ParseX25519Recipient(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, &im.Error{Kind: im.Invalid, Cause: err, Message: fmt.Sprintf("%s holds no age recipient. Make a new key: pipit backup key --new", filepath.Join(dataDir, RecipientName))}
	}
	return r, nil
}

// Estimate is about how large the next backup in a folder will be, of a store of
// that size.
func Estimate(dir string, storeBytes int64) int64 {
	if list, err := List(dir); err == nil && len(list) > 0 {
		return list[0].Bytes + list[0].Bytes/4
	}
	return storeBytes
}

// Name is what a backup of that time is called.
func Name(at time.Time) string { return namePrefix + at.UTC().Format(nameTime) + nameSuffix }

// Kept is a backup in a folder.
type Kept struct {
	Name  string    `json:"name"`
	At    time.Time `json:"at"`
	Bytes int64     `json:"bytes"`
}

// List returns the backups in a folder, newest first. Other files are nobody's.
func List(dir string) ([]Kept, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, im.Wrap("list backups", err)
	}
	var list []Kept
	for _, e := range entries {
		middle, ok := strings.CutPrefix(e.Name(), namePrefix)
		middle, ok2 := strings.CutSuffix(middle, nameSuffix)
		at, err := time.Parse(nameTime, middle)
		if !ok || !ok2 || err != nil || !e.Type().IsRegular() {
			continue
		}
		fi, err := e.Info()
		if err != nil {
			continue // gone meanwhile
		}
		list = append(list, Kept{Name: e.Name(), At: at, Bytes: fi.Size()})
	}
	slices.SortFunc(list, func(a, b Kept) int { return b.At.Compare(a.At) })
	return list, nil
}

// rule is how many days, weeks and months keep their newest backup.
const (
	keepDays   = 7
	keepWeeks  = 4
	keepMonths = 12
)

// Thin says which backups of a list (newest first) go.
func Thin(list []Kept) (gone []Kept) {
	day, week, month := map[string]bool{}, map[string]bool{}, map[string]bool{}
	first := func(seen map[string]bool, most int, key string) bool {
		if seen[key] || len(seen) == most {
			return false
		}
		seen[key] = true
		return true
	}
	for _, k := range list {
		year, w := k.At.ISOWeek()
		// Each is asked, so that one backup may stand for its day, week and month.
		d := first(day, keepDays, k.At.Format(time.DateOnly))
		ww := first(week, keepWeeks, fmt.Sprint(year, w))
		m := first(month, keepMonths, k.At.Format("2006-01"))
		if !d && !ww && !m {
			gone = append(gone, k)
		}
	}
	return gone
}

// Place is a folder that backups go to.
type Place struct {
	Dir string
	// SpareBytes must be free after a backup: above the bound at which messages
	// are refused.
	SpareBytes int64
	// Free returns the free bytes of the folder's file system; nil asks it.
	Free func(dir string) (int64, error)
}

// Taken is what Take did.
type Taken struct {
	Kept
	Path    string   `json:"path"`
	Records uint64   `json:"records"` // of the store, counted when it was read back
	Removed []string `json:"removed"` // thinned out
}

// Take makes a backup in a place: room first, then the file under another name,
// synced, read back from the medium and opened; then its name, then those that
// the rule does not keep go. estimate is about how large it will be. Without
// thin (the clock is not to be believed) nothing is thinned out.
func (p Place) Take(ctx context.Context, c Content, estimate int64, thin bool, to age.Recipient) (t Taken, err error) {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return t, p.cant(err)
	}
	unlock, err := Lock(p.Dir)
	if err != nil {
		return t, err
	}
	defer unlock()
	if err := p.sweep(); err != nil {
		return t, p.cant(err)
	}
	if err := p.makeRoom(estimate, &t); err != nil {
		return t, err
	}
	t.Removed = append([]string{}, t.Removed...) // JSON shows a list
	once, err := age.GenerateX25519Identity()    // opens this one file, in this process
	if err != nil {
		return t, im.Wrap("verify backup", err)
	}
	t.Name, t.At = Name(c.Meta.Made), c.Meta.Made.UTC().Truncate(time.Second)
	t.Path = filepath.Join(p.Dir, t.Name)
	tmp := t.Path + unfinished
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(os.Remove(tmp)))
		}
	}()
	if err := p.fill(ctx, tmp, c, to, once.Recipient()); err != nil {
		return t, err
	}
	if t.Records, t.Bytes, err = readBack(tmp, once); err != nil {
		return t, &im.Error{Kind: im.Unavailable, Op: "verify backup", Cause: fmt.Errorf("%w: %w", errUnread, err), Message: fmt.Sprintf("The backup was written to %s, but could not be read back whole, so it was removed. The card or stick has begun to fail: use another one.", p.Dir)}
	}
	if err := os.Rename(tmp, t.Path); err != nil {
		return t, p.cant(err)
	}
	if err := syncDir(p.Dir); err != nil {
		return t, p.cant(err)
	}
	if !thin {
		return t, nil
	}
	list, err := List(p.Dir)
	if err != nil {
		return t, err
	}
	for _, k := range Thin(list) {
		if err := p.remove(k, &t); err != nil {
			return t, err
		}
	}
	return t, nil
}

func noRoom(format string, args ...any) error {
	e := im.E(im.Unavailable, format, args...)
	e.Cause = syscall.ENOSPC
	return e
}

func (p Place) cant(err error) error {
	e := &im.Error{Kind: im.Unavailable, Op: "backup to " + p.Dir, Cause: err}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		e.Message = fmt.Sprintf("There is no room for a backup in %s. Remove what is not needed there, or use a larger card or stick.", p.Dir)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Message = fmt.Sprintf("%s may not be written. Run this with sudo, or use a stick that is not write-protected.", p.Dir)
	default:
		e.Message = fmt.Sprintf("The backup can't be written to %s: %v.", p.Dir, err)
	}
	return e
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sweep removes what a cut left unfinished.
func (p Place) sweep() error {
	names, err := filepath.Glob(filepath.Join(p.Dir, namePrefix+"*"+nameSuffix+unfinished))
	for _, name := range names {
		err = errors.Join(err, ignoreGone(os.Remove(name)))
	}
	return err
}

func (p Place) free() (int64, error) {
	if p.Free != nil {
		return p.Free(p.Dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(p.Dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// makeRoom removes the oldest backups, never the newest, until another fits.
func (p Place) makeRoom(estimate int64, t *Taken) error {
	list, err := List(p.Dir)
	if err != nil {
		return err
	}
	for {
		free, err := p.free()
		if err != nil {
			return p.cant(err)
		}
		if free-estimate >= p.SpareBytes {
			return nil
		}
		if len(list) <= 1 {
			return noRoom("There is no room for a backup in %s: it takes about %d MiB, and %d MiB must stay free there for messages; %d MiB are free. Remove what is not needed, or use a larger card or stick.",
				p.Dir, estimate>>20, p.SpareBytes>>20, free>>20)
		}
		if err := p.remove(list[len(list)-1], t); err != nil {
			return err
		}
		list = list[:len(list)-1]
	}
}

func (p Place) remove(k Kept, t *Taken) error {
	if err := os.Remove(filepath.Join(p.Dir, k.Name)); err != nil {
		return p.cant(err)
	}
	t.Removed = append(t.Removed, k.Name)
	return nil
}

func (p Place) fill(ctx context.Context, name string, c Content, to ...age.Recipient) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return p.cant(err)
	}
	w := &frugal{place: p, w: f}
	err = Write(ctx, w, c, to...)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	switch {
	case w.err != nil:
		return w.err
	case errors.Is(err, syscall.ENOSPC):
		return p.cant(err)
	}
	return err
}

// frugal stops a backup that turns out larger than was thought before it takes
// the room that messages need.
type frugal struct {
	place Place
	w     io.Writer
	since int64
	err   error
}

const lookEveryBytes = 4 << 20

// Write looks at the free space now and then.
func (f *frugal) Write(b []byte) (int, error) {
	if f.since -= int64(len(b)); f.since <= 0 {
		f.since = lookEveryBytes
		if free, err := f.place.free(); err == nil && free < f.place.SpareBytes {
			f.err = noRoom("The backup to %s was stopped: it would have taken the room that messages need. Remove what is not needed there, or use a larger card or stick.", f.place.Dir)
			return 0, f.err
		}
	}
	return f.w.Write(b)
}

// readBack opens what is on the medium, not what is in memory.
func readBack(name string, id age.Identity) (records uint64, bytes int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	// The file is synced, so its pages can go; where the file system keeps them
	// all the same (tmpfs), reading them is what can be done.
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return 0, 0, err
	}
	_, records, err = Check(f, id)
	return records, fi.Size(), err
}

// Lock keeps others from writing a backup to a folder meanwhile: the
// timer's and the server's own. im.Conflict: one does.
func Lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = d.Close() // nothing was written
		return nil, im.E(im.Conflict, "A backup to %s is being made already.", dir)
	}
	return func() { _ = d.Close() }, nil // which unlocks; nothing was written
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
