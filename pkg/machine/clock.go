package machine

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/im"
)

// ClockName is the file in the data directory that outlives the plug, because the
// clock of a Pi does not: the last time that was known, and whether somebody set
// the clock by hand since the machine started.
const ClockName = "clock"

// clockFloor is a time that is surely past.
var clockFloor = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// clockFile is what ClockName holds.
type clockFile struct {
	Last    time.Time `json:"last"`
	SetBoot string    `json:"set_boot,omitempty"` // the boot in which it was set by hand
}

// Trust says why the clock is believed, or that it is not.
type Trust string

// The kinds of trust.
const (
	Synchronised Trust = "synchronised" // with a time server
	SetByHand    Trust = "set by hand"  // since the machine started
	Untrusted    Trust = "not trusted"  // it began somewhere after the last start
	Unknown      Trust = "unknown"      // nothing here tells; it is taken as it is
)

// Believed says whether times may be relied on.
func (t Trust) Believed() bool { return t != Untrusted }

// ClockTrust judges the clock. dataDir is where ClockName is.
func (m Machine) ClockTrust(dataDir string) Trust {
	if _, err := os.Stat(m.path("run/systemd/timesync/synchronized")); err == nil {
		return Synchronised // systemd-timesyncd touches it at each success since the start
	}
	known := false
	if m.Root == "" {
		// Units with ProtectClock= may not ask; then the file above is what there is.
		var tx unix.Timex
		if state, err := unix.Adjtimex(&tx); err == nil {
			if known = true; state != unix.TIME_ERROR {
				return Synchronised
			}
		}
	}
	if c, err := readClock(dataDir); err == nil && c.SetBoot != "" && c.SetBoot == m.BootID() {
		return SetByHand
	}
	if _, err := os.Stat(m.path("run/systemd/timesync")); err == nil || known {
		return Untrusted
	}
	return Unknown
}

func readClock(dataDir string) (c clockFile, err error) {
	b, err := os.ReadFile(filepath.Join(dataDir, ClockName))
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	return c, err
}

// LastKnown returns the last time that was saved, zero if none was.
func LastKnown(dataDir string) time.Time {
	c, err := readClock(dataDir)
	if err != nil {
		return time.Time{}
	}
	return c.Last
}

// lockClock keeps other processes from ClockName until unlock: the server writes
// it now and then, `pipit clock set` when somebody sets the clock, and what is read
// before it is written must not have changed meanwhile. Nobody holds it for longer
// than one small file takes. flock(2) on the folder: the store locks a file in it.
func lockClock(dataDir string) (unlock func(), err error) {
	d, err := os.Open(dataDir)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return func() { _ = d.Close() }, nil // which unlocks; nothing was written
}

// SaveClock writes down clock's time, for RestoreClock at the next start. It never
// goes back: a clock that fell behind is not worth remembering.
func SaveClock(dataDir string, clock Clock) error {
	unlock, err := lockClock(dataDir)
	if err != nil {
		return err
	}
	defer unlock()
	now := clock.Now() // under the lock: what it was before SetClock is past
	c, err := readClock(dataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c = clockFile{} // damaged: better a new one than none
	}
	if !now.After(c.Last) {
		return nil
	}
	c.Last = now.UTC().Truncate(time.Second)
	return writeClock(dataDir, c)
}

// writeClock replaces the file in one step, under lockClock. It keeps the owner of
// the folder, who is the server's user, when root writes it.
func writeClock(dataDir string, c clockFile) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	name := filepath.Join(dataDir, ClockName)
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if os.Geteuid() == 0 {
		var st unix.Stat_t
		if serr := unix.Stat(dataDir, &st); serr == nil {
			err = errors.Join(err, f.Chown(int(st.Uid), int(st.Gid)))
		}
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// Clock is a system clock that can be set; SystemClock is the real one.
type Clock interface {
	Now() time.Time
	Set(time.Time) error
}

// SystemClock is the machine's.
type SystemClock struct{}

// Now implements Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// Set implements Clock (settimeofday(2)). It takes root.
func (SystemClock) Set(t time.Time) error {
	tv := unix.NsecToTimeval(t.UnixNano())
	return unix.Settimeofday(&tv)
}

// RestoreClock moves a clock that is behind the last known time to it, and
// returns by how much. It is called once at the start of the machine, before the
// server; what it sets is better than 1970 and is not trusted for it.
func RestoreClock(dataDir string, clock Clock) (moved time.Duration, err error) {
	last := LastKnown(dataDir)
	if last.Before(clockFloor) {
		last = clockFloor
	}
	now := clock.Now()
	if !now.Before(last) {
		return 0, nil
	}
	if err := clock.Set(last); err != nil {
		return 0, cantSet(err)
	}
	return last.Sub(now), nil
}

// SetClock sets the clock by hand; it is trusted until the machine stops.
func (m Machine) SetClock(dataDir string, clock Clock, to time.Time) error {
	if to.Before(clockFloor) {
		return im.E(im.Invalid, "%s is past for certain; the clock was not set.", to.Format("2006-01-02 15:04"))
	}
	unlock, lockErr := lockClock(dataDir)
	if lockErr == nil {
		defer unlock()
	}
	if err := clock.Set(to); err != nil {
		return cantSet(err)
	}
	// Set back on purpose, the last known time goes back too.
	err := lockErr
	if err == nil {
		err = writeClock(dataDir, clockFile{Last: to.UTC().Truncate(time.Second), SetBoot: m.BootID()})
	}
	if err != nil {
		return &im.Error{Kind: im.Unavailable, Op: "set clock", Cause: err, Message: "The clock is set, but it can't be written down in the data directory that it was; the server goes on calling it untrusted."}
	}
	return nil
}

func cantSet(err error) error {
	e := &im.Error{Kind: im.Unavailable, Op: "set clock", Cause: err, Message: "The clock can't be set: " + err.Error() + "."}
	if errors.Is(err, unix.EPERM) {
		e.Kind, e.Message = im.Forbidden, "Only root may set the clock: run this with sudo."
	}
	return e
}
