package update

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// Status is how the chosen version stands.
type Status string

// The states of a version that was activated.
const (
	Trial Status = "trial" // not yet well; counted out after MaxTries
	Good  Status = "good"  // it said that it is well
)

// State is what DATA/update.json holds. The zero State means the factory
// version.
type State struct {
	Current  string    `json:"current"` // "" is the factory version
	Status   Status    `json:"status,omitempty"`
	Tries    int       `json:"tries,omitempty"` // starts on trial so far
	Previous string    `json:"previous"`        // where the way back leads; "" is the factory version
	Factory  string    `json:"factory"`         // the factory version when Current was activated
	Changed  time.Time `json:"changed,omitzero"`
	Failed   []Failure `json:"failed,omitempty"` // newest last, at most maxFailures
}

// Failure is a version that did not become well, or was given up.
type Failure struct {
	Version string    `json:"version"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

const (
	maxFailures   = 8
	maxStateBytes = 64 << 10
)

func readState(data string) (State, error) {
	var s State
	f, err := os.Open(filepath.Join(data, StateName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateBytes+1))
	if err != nil {
		return s, err
	}
	if len(b) > maxStateBytes {
		return State{}, errors.New("it is too long")
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return State{}, err
	}
	if s.Current != "" && CheckVersion(s.Current) != nil || s.Previous != "" && CheckVersion(s.Previous) != nil ||
		s.Current != "" && s.Status != Trial && s.Status != Good {
		return State{}, fmt.Errorf("it says what can't be")
	}
	return s, nil
}

// writeState replaces update.json in one step. The new file belongs to the
// owner of the data directory, who is the server's user.
func (v *Versions) writeState(s State) error {
	s.Changed = v.now().UTC().Truncate(time.Second)
	if n := len(s.Failed); n > maxFailures {
		s.Failed = s.Failed[n-maxFailures:]
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	name := filepath.Join(v.data, StateName)
	tmp := name + ".new"
	err = v.disk.RemoveAll(tmp)
	if err == nil {
		err = v.disk.Write(tmp, 0o644, func(w io.Writer) error {
			if f, ok := w.(*os.File); ok && os.Geteuid() == 0 {
				if fi, err := os.Stat(v.data); err == nil {
					if st, ok := fi.Sys().(*syscall.Stat_t); ok {
						if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
							return err
						}
					}
				}
			}
			_, err := w.Write(append(b, '\n'))
			return err
		})
	}
	if err == nil {
		err = v.disk.Rename(tmp, name)
	}
	if err == nil {
		err = v.disk.SyncDir(v.data)
	}
	if err != nil {
		return noRoom("write "+name, err)
	}
	return nil
}

// noRoom gives errors of the disk a sentence.
func noRoom(op string, err error) error {
	e := &im.Error{Kind: im.Unavailable, Op: op, Cause: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Message = "There is not enough room on the card for another version. Nothing was changed. Free some, or put in a larger card."
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		e.Message = "The data directory may not be written by this user. Nothing was changed. Run this with sudo."
	default:
		e.Message = "The data directory can't be written: " + text(err) + "."
	}
	return e
}
