// Package badgerdir looks over a directory of badger's files, manifest and tables,
// before badger does: badger ends the process on some faults there, and drops
// data for others. The logs are the business of packages wal and badgerlog.
//
// It also reads and writes the file that names the format of the whole.
//
// It owns nothing: its functions touch only the directory that they are given,
// which nobody else may use meanwhile but for Tables and Named. It knows the
// formats of these files and no record in them.
//
// What a cut may leave, and what is damage, is said in
// pkg/store/badgerstore/DESIGN.md ("Bit rot, cuts").
package badgerdir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"github.com/klauspost/compress/snappy"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Tidy removes what a power cut may have left that badger would stumble over.
// What cannot be the work of a cut is an error: damage.
func Tidy(dir string) error {
	for _, step := range []func(string) error{tidyManifest, checkTables, tidyScrap} {
		if err := step(dir); err != nil {
			return err
		}
	}
	return nil
}

// Check looks over a directory that was left cleanly and changes nothing.
func Check(dir string) error {
	_, torn, err := readManifest(dir)
	switch {
	case err != nil:
		return err
	case torn > 0:
		return errors.New("MANIFEST: the end is torn")
	}
	return checkTables(dir)
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

// Tables returns the paths of the table files in dir.
func Tables(dir string) ([]string, error) { return filepath.Glob(filepath.Join(dir, "*.sst")) }

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
		ts, err := Tables(dir)
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
	ts, err := Tables(dir)
	if err != nil {
		return err
	}
	named, err := Named(dir)
	if err != nil {
		return err
	}
	for _, t := range ts {
		how, ok := named[strings.TrimSuffix(filepath.Base(t), ".sst")]
		if !ok {
			continue // of a compaction that a cut ended; badger removes it
		}
		if err := checkTable(t, how); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(t), err)
		}
	}
	return nil
}

// Named returns the names, without extension, of the tables that the
// manifest has, with the compression of each.
func Named(dir string) (map[string]options.CompressionType, error) {
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
// checksum: … | index | its length | checksum | its length, and that the last
// block, which badger reads when it opens the table, is whole.
func checkTable(name string, how options.CompressionType) error {
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
	if err := y.VerifyChecksum(b, &sum); err != nil {
		return err
	}
	index := fb.GetRootAsTableIndex(b, 0)
	var at fb.BlockOffset
	if n := index.OffsetsLength(); n == 0 || !index.Offsets(&at, n-1) || int64(at.Offset())+int64(at.Len()) > pos {
		return errors.New("the index of the table is damaged")
	}
	b = make([]byte, at.Len())
	if _, err := f.ReadAt(b, int64(at.Offset())); err != nil {
		return err
	}
	return checkBlock(b, how)
}

// checkBlock checks the checksum of a block: … | checksum | its length.
func checkBlock(b []byte, how options.CompressionType) (err error) {
	if how == options.Snappy {
		if b, err = snappy.Decode(nil, b); err != nil {
			return err
		}
	}
	bad := errors.New("a block of the table is damaged")
	if len(b) < 8 {
		return bad
	}
	b, n := b[:len(b)-4], int64(binary.BigEndian.Uint32(b[len(b)-4:]))
	if n > int64(len(b)-4) {
		return bad
	}
	var sum pb.Checksum
	if err := proto.Unmarshal(b[int64(len(b))-n:], &sum); err != nil || sum.Algo != pb.Checksum_CRC32C && sum.Algo != pb.Checksum_XXHash64 {
		return bad
	}
	return y.VerifyChecksum(b[:int64(len(b))-n], &sum)
}

// VerifyTable checks every block of the table with that number, whose file holds data.
func VerifyTable(data []byte, id uint64, how options.CompressionType) (err error) {
	defer func() {
		// Badger names the block that it could not read by a field of that block.
		if p := recover(); p != nil {
			err = fmt.Errorf("a block cannot be read: %v", p)
		}
	}()
	// The table package wants a cache for compressed blocks or none at all; it
	// gets none, and each block is checked as it is read.
	t, err := table.OpenInMemoryTable(data, id, &table.Options{
		ReadOnly: true, BlockSize: 4 << 10, Compression: how, ChkMode: options.OnBlockRead,
	})
	if err != nil {
		return err
	}
	return t.VerifyChecksum()
}

// Landed reports whether all tables have their blocks.
func Landed(dir string) bool {
	names, err := Tables(dir)
	for _, n := range names {
		var st unix.Stat_t
		if unix.Stat(n, &st) == nil && st.Blocks*512 < st.Size {
			return false
		}
	}
	return err == nil
}

// RoomForManifest gives the manifest some blocks ahead, when half of those are used.
// Best effort: what really guards it is that nothing is written when there is little
// room.
func RoomForManifest(dir string, ahead int64) {
	f, err := os.OpenFile(filepath.Join(dir, "MANIFEST"), os.O_RDWR, 0)
	if err != nil {
		return // it is being renamed
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) == nil && st.Blocks*512-st.Size < ahead/2 {
		_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, st.Size, ahead)
	}
}
