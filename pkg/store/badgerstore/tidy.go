package badgerstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"

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
	steps := []func(string) error{tidyManifest, checkTables, tidyScrap}
	for _, step := range steps {
		if err := step(dir); err != nil {
			return 0, damagedDir(dir, err)
		}
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
	if _, rest, err := readManifest(dir); err != nil || rest > 0 {
		return damagedDir(dir, err)
	}
	if err := checkTables(dir); err != nil {
		return damagedDir(dir, err)
	}
	return nil
}

// tidyScrap removes what holds nothing: badger's value log, which is never
// written since all values are in its tables, and the statistics about it; and
// the key registry if it is unreadable, since nothing is encrypted.
func tidyScrap(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil {
		return err
	}
	names = append(names, filepath.Join(dir, "DISCARD"), filepath.Join(dir, "LOCK"))
	registry := filepath.Join(dir, "KEYREGISTRY")
	if b, err := os.ReadFile(registry); err == nil && (len(b) != 28 || string(b[16:]) != "Hello Badger") {
		names = append(names, registry)
	}
	for _, n := range names {
		if err := os.Remove(n); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func tables(dir string) ([]string, error) { return filepath.Glob(filepath.Join(dir, "*.sst")) }

const manifestHeader = 8

// readManifest returns the manifest and how many bytes at its end are a torn
// record. Badger takes a manifest with a bad length for a short one and then
// deletes the tables it does not name; so what is wrong here other than a torn
// end is damage.
func readManifest(dir string) (b []byte, torn int, err error) {
	b, err = os.ReadFile(filepath.Join(dir, "MANIFEST"))
	if err != nil {
		return nil, 0, err
	}
	if len(b) < manifestHeader {
		return b, len(b), nil
	}
	if !bytes.Equal(b[:4], []byte("Bdgr")) {
		return b, 0, errors.New("MANIFEST: wrong magic")
	}
	for at := manifestHeader; at < len(b); {
		rest := b[at:]
		if len(rest) < 8 {
			return b, len(rest), nil
		}
		n, sum := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])
		if uint64(n) > uint64(len(rest)-8) {
			if crc32.Checksum(rest[8:], castagnoli) == sum || wholeFrame(rest[8:]) {
				return b, 0, fmt.Errorf("MANIFEST: bad length at byte %d", at)
			}
			return b, len(rest), nil
		}
		if crc32.Checksum(rest[8:8+n], castagnoli) != sum {
			return b, 0, fmt.Errorf("MANIFEST: checksum does not match at byte %d", at)
		}
		at += 8 + int(n)
	}
	return b, 0, nil
}

// wholeFrame reports whether a whole record of the manifest is anywhere in b.
func wholeFrame(b []byte) bool {
	for at := 0; at+8 < len(b); at++ {
		n := binary.BigEndian.Uint32(b[at:])
		if n > 0 && uint64(n) <= uint64(len(b)-at-8) && crc32.Checksum(b[at+8:at+8+int(n)], castagnoli) == binary.BigEndian.Uint32(b[at+4:]) {
			return true
		}
	}
	return false
}

// tidyManifest removes a manifest that was never finished and cuts off a torn
// end. Without a manifest badger would delete every table.
func tidyManifest(dir string) error {
	name := filepath.Join(dir, "MANIFEST")
	b, torn, err := readManifest(dir)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return err
	}
	if missing || len(b) < manifestHeader {
		ts, err := tables(dir)
		if err != nil {
			return err
		}
		if len(ts) > 0 {
			return fmt.Errorf("MANIFEST is missing or empty, but there are %d tables", len(ts))
		}
		if missing {
			return nil
		}
		return os.Remove(name)
	}
	if torn > 0 {
		return os.Truncate(name, int64(len(b)-torn))
	}
	return nil
}

// checkTables checks the end and the index of each table that the manifest may
// name: badger ends the process on some faults there.
func checkTables(dir string) error {
	ts, err := tables(dir)
	if err != nil {
		return err
	}
	named, err := manifestTables(dir)
	if err != nil {
		return err
	}
	for _, t := range ts {
		if _, ok := named[strings.TrimSuffix(filepath.Base(t), ".sst")]; !ok {
			continue // of a compaction that a cut ended; badger removes it
		}
		if err := checkTable(t); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(t), err)
		}
	}
	return nil
}

// manifestTables returns the names, without extension, of the tables that the
// manifest has, with the compression of each.
func manifestTables(dir string) (map[string]options.CompressionType, error) {
	named := map[string]options.CompressionType{}
	b, torn, err := readManifest(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return named, nil
	}
	if err != nil {
		return nil, err
	}
	for at := manifestHeader; at < len(b)-torn; {
		n := int(binary.BigEndian.Uint32(b[at:]))
		var set pb.ManifestChangeSet
		if err := proto.Unmarshal(b[at+8:at+8+n], &set); err != nil {
			return nil, fmt.Errorf("MANIFEST at byte %d: %w", at, err)
		}
		for _, c := range set.Changes {
			name := fmt.Sprintf("%06d", c.Id)
			if c.Op == pb.ManifestChange_CREATE {
				named[name] = options.CompressionType(c.Compression)
			} else {
				delete(named, name)
			}
		}
		at += 8 + n
	}
	return named, nil
}

// checkTable checks that a table's end leads to an index with the right
// checksum: … | index | its length | checksum | its length.
func checkTable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	pos := fi.Size()
	cut := func(n int64) (b []byte, err error) {
		if n < 0 || n > pos {
			return nil, errors.New("the end of the table is damaged")
		}
		pos -= n
		b = make([]byte, n)
		_, err = f.ReadAt(b, pos)
		return b, err
	}
	length := func(most int64) (int64, error) {
		b, err := cut(4)
		if err != nil {
			return 0, err
		}
		if n := int64(binary.BigEndian.Uint32(b)); n <= most {
			return n, nil
		}
		return 0, errors.New("the end of the table is damaged")
	}
	n, err := length(1 << 10)
	if err != nil {
		return err
	}
	b, err := cut(n)
	if err != nil {
		return err
	}
	var sum pb.Checksum
	if err := proto.Unmarshal(b, &sum); err != nil {
		return err
	}
	if sum.Algo != pb.Checksum_CRC32C && sum.Algo != pb.Checksum_XXHash64 {
		return errors.New("the end of the table is damaged")
	}
	if n, err = length(fi.Size()); err != nil {
		return err
	}
	if b, err = cut(n); err != nil {
		return err
	}
	return y.VerifyChecksum(b, &sum)
}

const (
	formatName = "FORMAT"
	// formatNow is what this program writes. A later format raises it.
	formatNow = 1
)

// checkFormat refuses a store that a newer program wrote.
func checkFormat(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a new store, or the cut came before the first line of it
	}
	if err != nil {
		return cannotOpen(NotWritable, err, "The file %s cannot be read: check that it belongs to the user the server runs as.", filepath.Join(dir, formatName))
	}
	var n int
	var sum uint32
	if _, err := fmt.Sscanf(string(b), "pipit store format %d %08x\n", &n, &sum); err != nil || sum != formatSum(n) {
		return damagedDir(dir, errors.New("FORMAT is not what a Pipit wrote"))
	}
	if n > formatNow {
		return cannotOpen(NewerFormat, nil,
			"The data in %s was written by Pipit format %d and this program knows %d: install a newer Pipit.", dir, n, formatNow)
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
		_, err = f.Write(formatLine(formatNow))
		return errors.Join(err, f.Sync(), f.Close(), os.Rename(name+".new", name), badgerlog.SyncDir(dir))
	}()
	if err != nil {
		return noRoomOr(dir, err)
	}
	return nil
}
