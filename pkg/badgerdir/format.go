package badgerdir

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// The file FORMAT names the format of the whole directory, with a checksum.
const formatName = "FORMAT"

// ErrFormat says that a FORMAT file is there but not what WriteFormat wrote.
var ErrFormat = errors.New("FORMAT is not what a Pipit wrote")

// Format returns the format of the data in dir, 0 if there are none yet.
func Format(dir string) (int, error) {
	b, err := os.ReadFile(filepath.Join(dir, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // a new store, or the cut came before the first line of it
	}
	if err != nil {
		return 0, err
	}
	var n int
	var sum uint32
	if _, err := fmt.Sscanf(string(b), "pipit store format %d %08x\n", &n, &sum); err != nil || string(b) != string(FormatLine(n)) {
		return 0, ErrFormat
	}
	return n, nil
}

// FormatLine is what the file says for a format.
func FormatLine(n int) []byte {
	s := fmt.Appendf(nil, "pipit store format %d", n)
	return fmt.Appendf(s, " %08x\n", crc32.Checksum(s, castagnoli))
}

// WriteFormat writes the file, whole or not at all, and durable.
func WriteFormat(dir string, n int) error {
	name := filepath.Join(dir, formatName)
	f, err := os.OpenFile(name+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(FormatLine(n))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
