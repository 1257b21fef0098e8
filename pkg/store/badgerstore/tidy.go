package badgerstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/badgerdir"
	"github.com/pipit-im/pipit/pkg/badgerlog"
	"github.com/pipit-im/pipit/pkg/wal"
)

// tidy looks the directory over before badger does, and removes what a power
// cut may have left that badger would stumble over: it ends the process or
// drops data for some of it. What cannot be the work of a cut is damage. It
// returns the format, 0 for a new store, and, of the first format, badger's logs and
// how many bytes they hold, which badger will write again.
func tidy(dir string) (format int, logs []int, logged int64, err error) {
	fail := func(err error) (int, []int, int64, error) { return 0, nil, 0, damagedDir(dir, err) }
	if format, err = checkFormat(dir); err != nil {
		return 0, nil, 0, err
	}
	if err := badgerdir.Tidy(dir); err != nil {
		return fail(err)
	}
	// Since the second format badger's own logs are memory: all in them is in ours.
	if err := badgerlog.Sweep(dir, format > 1); err != nil {
		return fail(err)
	}
	if logs, logged, err = badgerlog.CheckAll(dir); err != nil {
		return fail(err)
	}
	return format, logs, logged, nil
}

// openLog opens the store's own log. One that is missing where tables are is damage.
func (s *Store) openLog(format int) (err error) {
	dir := s.opt.Dir
	s.wal, err = wal.Open(wal.Options{Dir: dir, SlotBytes: s.slotBytes(), NoSync: s.opt.NoSync, Fault: s.opt.syncFault})
	var path *fs.PathError
	switch {
	case errors.As(err, &path) && (errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)):
		return cannotOpen(NotWritable, err, "The files in %s cannot be written: check that they belong to the user the server runs as.", dir)
	case err != nil:
		return damagedDir(dir, err)
	case format > 1 && !s.wal.There() && hasManifest(dir):
		return damagedDir(dir, errors.Join(errNoLog, s.wal.Close()))
	}
	return nil
}

var errNoLog = errors.New("the log is missing")

func hasManifest(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "MANIFEST"))
	return err == nil
}

// checkReadOnly looks over what is only to be read.
func checkReadOnly(dir string) error {
	format, err := checkFormat(dir)
	if err != nil {
		return err
	}
	fids, err := badgerlog.Files(dir)
	if err != nil {
		return damagedDir(dir, err)
	}
	there, dirty, err := wal.Look(dir)
	switch {
	case err != nil:
		return damagedDir(dir, err)
	case dirty || len(fids) > 0:
		return needsRecover(dir)
	case format > 1 && !there && hasManifest(dir):
		return damagedDir(dir, errNoLog)
	}
	if err := badgerdir.Check(dir); err != nil {
		return damagedDir(dir, err)
	}
	return nil
}

// FormatNow is the format that this program writes; it reads that and all
// older ones. A later format raises it. 1: badger's log is the log. 2: the log is
// package wal's.
const FormatNow = 2

// Format returns the format of the data in dir, 0 if there are none yet.
func Format(dir string) (int, error) {
	n, err := badgerdir.Format(dir)
	switch {
	case errors.Is(err, badgerdir.ErrFormat):
		return 0, damagedDir(dir, err)
	case err != nil:
		return 0, cannotOpen(NotWritable, err, "The file FORMAT in %s cannot be read: check that it belongs to the user the server runs as.", dir)
	}
	return n, nil
}

// checkFormat refuses a store that a newer program wrote.
func checkFormat(dir string) (int, error) {
	n, err := Format(dir)
	if err != nil {
		return 0, err
	}
	if n > FormatNow {
		return 0, cannotOpen(NewerFormat, nil,
			"The data in %s was written by Pipit format %d and this program knows %d: install a newer Pipit.", dir, n, FormatNow)
	}
	return n, nil
}

// writeFormat writes the format's name, whole or not at all.
func writeFormat(dir string) error {
	if err := badgerdir.WriteFormat(dir, FormatNow); err != nil {
		return noRoomOr(dir, err)
	}
	return nil
}
