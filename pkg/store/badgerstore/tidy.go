package badgerstore

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/pipit-im/pipit/pkg/badgerdir"
	"github.com/pipit-im/pipit/pkg/badgerlog"
)

// tidy looks the directory over before badger does, and removes what a power
// cut may have left that badger would stumble over: it ends the process or
// drops data for some of it. What cannot be the work of a cut is damage. It
// returns how many bytes the last run logged, which badger will write again.
func tidy(dir string, log *slog.Logger) (logged int64, err error) {
	if err := checkFormat(dir); err != nil {
		return 0, err
	}
	if err := badgerdir.Tidy(dir); err != nil {
		return 0, damagedDir(dir, err)
	}
	fids, err := badgerlog.Files(dir)
	if err != nil {
		return 0, damagedDir(dir, err)
	}
	for _, fid := range fids {
		data, err := os.ReadFile(badgerlog.Path(dir, fid))
		if err != nil {
			return 0, damagedDir(dir, err)
		}
		if len(data) == 0 {
			// Made beforehand and never used.
			if err := os.Remove(badgerlog.Path(dir, fid)); err != nil {
				return 0, damagedDir(dir, err)
			}
			continue
		}
		used, err := badgerlog.Check(data)
		if err != nil {
			return 0, damagedDir(dir, fmt.Errorf("%s: %w", filepath.Base(badgerlog.Path(dir, fid)), err))
		}
		log.Debug("log of the last run", "file", fid, "bytes", used)
		logged += int64(used)
	}
	return logged, nil
}

// checkReadOnly looks over what is only to be read.
func checkReadOnly(dir string) error {
	if err := checkFormat(dir); err != nil {
		return err
	}
	fids, err := badgerlog.Files(dir)
	if err != nil {
		return damagedDir(dir, err)
	}
	for _, fid := range fids {
		if fi, err := os.Stat(badgerlog.Path(dir, fid)); err == nil && fi.Size() >= 0 {
			return needsRecover(dir)
		}
	}
	if err := badgerdir.Check(dir); err != nil {
		return damagedDir(dir, err)
	}
	return nil
}

const (
	formatName = "FORMAT"
	// FormatNow is the format that this program writes; it reads that and all
	// older ones. A later format raises it.
	FormatNow = 1
)

// Format returns the format of the data in dir, 0 if there are none yet.
func Format(dir string) (int, error) {
	name := filepath.Join(dir, formatName)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // a new store, or the cut came before the first line of it
	}
	if err != nil {
		return 0, cannotOpen(NotWritable, err, "The file %s cannot be read: check that it belongs to the user the server runs as.", name)
	}
	var n int
	var sum uint32
	if _, err := fmt.Sscanf(string(b), "pipit store format %d %08x\n", &n, &sum); err != nil || string(b) != string(formatLine(n)) {
		return 0, damagedDir(dir, errors.New("FORMAT is not what a Pipit wrote"))
	}
	return n, nil
}

// checkFormat refuses a store that a newer program wrote.
func checkFormat(dir string) error {
	n, err := Format(dir)
	if err != nil {
		return err
	}
	if n > FormatNow {
		return cannotOpen(NewerFormat, nil,
			"The data in %s was written by Pipit format %d and this program knows %d: install a newer Pipit.", dir, n, FormatNow)
	}
	return nil
}

func formatSum(n int) uint32 {
	return crc32.Checksum(fmt.Appendf(nil, "pipit store format %d", n), castagnoli)
}

func formatLine(n int) []byte {
	return fmt.Appendf(nil, "pipit store format %d %08x\n", n, formatSum(n))
}

// writeFormat writes the format's name, once, whole or not at all.
func writeFormat(dir string) error {
	name := filepath.Join(dir, formatName)
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	err := func() error {
		f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(formatLine(FormatNow))
		return errors.Join(err, f.Sync(), f.Close(), os.Rename(name+".new", name), badgerlog.SyncDir(dir))
	}()
	if err != nil {
		return noRoomOr(dir, err)
	}
	return nil
}
