// Package badgerlog keeps badger's own log off the disk, and reads the logs that
// earlier formats left there.
//
// Badger cannot do without a log file for each memtable, mapped and never flushed
// here: the store has a log of its own (package wal). So each of these files is a
// link to memory, and what badger wrote to it is given back at once.
//
// It owns the *.mem files of one store directory and their format as badger writes
// it; it never imports badger, never reads a record's meaning and starts no
// goroutine. A Sink belongs to one goroutine at a time, the store's committer; the
// functions are pure or touch only the paths they are given.
//
// The contract is "The log" in pkg/store/badgerstore/DESIGN.md.
package badgerlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const ext = ".mem"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Path returns the name of a log file.
func Path(dir string, fid int) string {
	return filepath.Join(dir, fmt.Sprintf("%05d%s", fid, ext))
}

// Files returns the numbers of the log files in dir, rising.
func Files(dir string) ([]int, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+ext))
	var fids []int
	for _, n := range names {
		if fid, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(n), ext)); err == nil {
			fids = append(fids, fid)
		}
	}
	return fids, err
}

// Badger's log format: a header of 20 bytes, then entries of
// meta, user meta, three varints (key length, value length, expiry), key
// (which ends in the version, inverted), value, CRC-32C of all before.
// Header is where the entries of a log begin.
const (
	Header = 20
	zeros  = 22 // the longest entry header: zeros of that length end a log
	fin    = 1 << 7
	finKey = "!badger!txn"
)

// Entry is one entry of a log.
type Entry struct {
	At      int // where it begins
	Version uint64
	Fin     bool // the end of a transaction
}

// readEntry reads the entry at data[at:]; size 0: none that is whole.
func readEntry(data []byte, at int) (e Entry, size int) {
	b := data[at:]
	if len(b) < zeros || b[0]|b[1]|b[2] == 0 {
		return e, 0
	}
	i := 2
	var n [3]uint64
	for j := range n {
		v, l := binary.Uvarint(b[i:])
		if l <= 0 {
			return e, 0
		}
		n[j], i = v, i+l
	}
	if n[0] < 8 || n[0] > 1<<20 || n[1] > 1<<26 || uint64(len(b)) < uint64(i)+n[0]+n[1]+4 {
		return e, 0
	}
	k := b[i : i+int(n[0])]
	i += int(n[0] + n[1])
	if crc32.Checksum(b[:i], castagnoli) != binary.BigEndian.Uint32(b[i:]) {
		return e, 0
	}
	return Entry{at, ^binary.BigEndian.Uint64(k[len(k)-8:]), b[0]&fin != 0}, i + 4
}

// Scan calls fn for each whole entry from the start of a log file and
// returns where the last whole transaction ends, and the version of that.
func Scan(data []byte, fn func(Entry)) (end int, last uint64) {
	end = Header
	for at := Header; at < len(data); {
		e, size := readEntry(data, at)
		if size == 0 {
			break
		}
		fn(e)
		if at += size; e.Fin {
			end, last = at, e.Version
		}
	}
	return end, last
}

// Check tells a log that a power cut tore from one that rotted. Only the
// last transaction can be torn: each is on disk before the next is written. So
// a whole end of a transaction two versions behind the break is rot.
func Check(data []byte) (used int, err error) {
	end, last := Scan(data, func(Entry) {})
	rest := data[min(end, len(data)):]
	for off := 0; ; {
		i := bytes.Index(rest[off:min(len(rest), off+1<<16)], []byte(finKey))
		if i < 0 {
			if off += 1<<16 - len(finKey); off >= len(rest) {
				return end, nil
			}
			continue
		}
		// The header of such an entry has 5 bytes.
		at := end + off + i - 5
		if e, size := readEntry(data, max(at, 0)); size > 0 && e.Fin {
			if last == 0 {
				last = e.Version - 1 // the first that can be read, perhaps of the torn one
			}
			if e.Version >= last+2 {
				return end, fmt.Errorf("transaction %d is broken at byte %d, but %d behind it is whole", last+1, end, e.Version)
			}
		}
		off += i + len(finKey)
	}
}

// CheckAll looks the logs in a directory over, and removes those that were made
// beforehand and never used. It returns the numbers of the others, and how many bytes
// they hold. A log that a cut cannot have left so is an error.
func CheckAll(dir string) (fids []int, bytes int64, err error) {
	all, err := Files(dir)
	if err != nil {
		return nil, 0, err
	}
	for _, fid := range all {
		data, err := os.ReadFile(Path(dir, fid))
		if err != nil {
			return nil, 0, err
		}
		if len(data) == 0 {
			if err := os.Remove(Path(dir, fid)); err != nil {
				return nil, 0, err
			}
			continue
		}
		used, err := Check(data)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", filepath.Base(Path(dir, fid)), err)
		}
		fids, bytes = append(fids, fid), bytes+int64(used)
	}
	return fids, bytes, nil
}

// Used returns how many logs in a directory badger has begun.
func Used(dir string) (n int, err error) {
	fids, err := Files(dir)
	for _, fid := range fids {
		if fi, err := os.Stat(Path(dir, fid)); err == nil && fi.Size() > 0 {
			n++
		}
	}
	return n, err
}

// AwaitGone waits until badger has made tables of all these logs. After most the error
// is ENOSPC: it waits for nothing else that long.
func AwaitGone(dir string, fids []int, most time.Duration) error {
	for end := time.Now().Add(most); ; time.Sleep(5 * time.Millisecond) { // no event says it
		fids = slices.DeleteFunc(fids, func(fid int) bool {
			_, err := os.Lstat(Path(dir, fid))
			return errors.Is(err, os.ErrNotExist)
		})
		if len(fids) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s did not become a table: %w", Path(dir, fids[0]), unix.ENOSPC)
		}
	}
}
