// Package badgerlog looks after the files that badger logs into: it gives them
// their blocks beforehand, makes them durable, cuts off what failed, and tells a
// log that a power cut tore from one that rotted.
//
// It owns the log files of one store directory and their format as badger
// writes it; it never imports badger, never reads a record's meaning and starts
// no goroutine. A Log belongs to one goroutine at a time, the store's committer;
// the functions are pure or touch only the paths they are given.
//
// The contract is "the log" in pkg/store/badgerstore/DESIGN.md.
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

	"golang.org/x/sys/unix"
)

// Log looks after the file that badger logs into. Badger makes each such file
// sparse and writes it through a mapping, so that a full disk is a SIGBUS, and
// it syncs two files where one was written. So the store does both itself:
//
//   - the next file is made beforehand, empty but with all its blocks
//     (fallocate with KEEP_SIZE); badger finds it under the name it wants and
//     only sets its size, which keeps the blocks;
//   - badger runs with SyncWrites off and the store calls fdatasync once after
//     each transaction, before the next one is written;
//   - zeros are written ahead of where badger is: a block that is written for the
//     first time makes its fdatasync commit the file system's journal too, which
//     costs a second flush and more bytes than the transaction has.
//
// It belongs to the committer (and to Open and Close before and after it).
type Log struct {
	Dir    string
	Blocks int64 // how much of a file is given blocks beforehand
	NoSync bool
	cur    *os.File // what badger logs into now
	fid    int
	next   *os.File // made beforehand, or nil
	old    []int    // logs that badger may still have to make tables of
	sparse bool     // the file system cannot give blocks beforehand
	pos    int64    // about where badger is in cur
	ahead  int64    // up to where cur was written, by badger or with zeros
	last   int      // about how long the last transaction was
	buf    []byte   // of Ahead
	// SyncFault, in tests, answers in place of the disk.
	SyncFault func() error
}

const ext = ".mem"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// HalfTables is how many half memtables a log is given blocks for: badger goes on
// to the next one when the log is as long as the memtable may be big, before
// the transaction that is to come.
const HalfTables = 3

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

// Sparse says that the file system cannot give blocks beforehand.
func (w *Log) Sparse() bool { return w.sparse }

// Number returns the number of the file that badger logs into.
func (w *Log) Number() int { return w.fid }

// Open finds the file that badger, just opened, logs into.
func (w *Log) Open() error {
	fids, err := Files(w.Dir)
	if err != nil || len(fids) == 0 {
		return fmt.Errorf("badger has no log file: %w", err)
	}
	w.fid = slices.Max(fids)
	w.old = slices.DeleteFunc(fids, func(fid int) bool { return fid == w.fid })
	if w.cur, err = os.OpenFile(Path(w.Dir, w.fid), os.O_RDWR, 0); err != nil {
		return err
	}
	w.pos, w.ahead = Header, 0 // badger begins a new one when it is opened
	return w.allocate(w.cur)
}

// allocate gives f its blocks without changing its size.
func (w *Log) allocate(f *os.File) error {
	if w.sparse {
		return nil
	}
	err := IgnoringEINTR(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, w.Blocks)
	})
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		w.sparse = true
		err = nil
	}
	if err != nil {
		return fmt.Errorf("giving %s its blocks: %w", filepath.Base(f.Name()), err)
	}
	return nil
}

// Ready makes sure that badger can go on to a next file.
func (w *Log) Ready() error {
	if err := w.follow(); err != nil || w.next != nil {
		return err
	}
	name := Path(w.Dir, w.fid+1)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err = w.allocate(f); err == nil {
		err = errors.Join(f.Sync(), SyncDir(w.Dir))
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(name))
	}
	w.next = f
	return nil
}

// follow notices that badger went on to the next file, which it does before it
// writes a transaction and never within one.
func (w *Log) follow() error {
	if w.next == nil {
		return nil
	}
	fi, err := w.next.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	err = w.cur.Close() // all in it was synced
	w.cur, w.next = w.next, nil
	w.pos, w.ahead = Header, 0
	w.old = append(w.old, w.fid)
	w.fid++
	return err
}

// Backlog returns how many logs badger still has to make tables of.
func (w *Log) Backlog() int {
	w.old = slices.DeleteFunc(w.old, func(fid int) bool {
		_, err := os.Stat(Path(w.Dir, fid))
		return errors.Is(err, os.ErrNotExist)
	})
	return len(w.old)
}

// Sync makes what was logged durable; wrote is about how many bytes that was.
func (w *Log) Sync(wrote int) error {
	if err := w.follow(); err != nil {
		return err
	}
	w.pos += int64(wrote)
	w.last = wrote
	if w.SyncFault != nil {
		if err := w.SyncFault(); err != nil {
			return err
		}
	}
	if w.NoSync {
		return nil
	}
	return IgnoringEINTR(func() error { return unix.Fdatasync(int(w.cur.Fd())) })
}

const (
	pageBytes = 4096
	// aheadBytes is written at once: a card takes that in some 10 ms, and a hundred
	// commits and more pay for one commit of the journal.
	aheadBytes = 256 << 10
	// aheadFor is how short a transaction must be for zeros to pay: a longer one
	// weighs more than the journal's commit, and would be written twice.
	aheadFor = 16 << 10
)

// Ahead writes zeros where badger will log soon and lets the kernel begin to
// carry them out. It must not run while badger may write to the log. That what
// it overwrites is still nothing but zeros is looked at, not reckoned. A failure
// is no fault: what it leaves undone, badger's write does.
func (w *Log) Ahead() {
	if w.cur == nil || w.sparse || w.NoSync || w.last > aheadFor || w.ahead-w.pos > aheadBytes/2 {
		return
	}
	from := max(w.ahead, (w.pos+pageBytes-1)&^(pageBytes-1))
	n := min(aheadBytes, w.Blocks-from)
	if n <= 0 {
		return
	}
	if w.buf == nil {
		w.buf = make([]byte, aheadBytes)
	}
	b := w.buf[:n]
	if _, err := w.cur.ReadAt(b, from); err != nil {
		return
	}
	w.ahead = from + n
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	if len(b) > 0 { // badger is further than we thought
		used := (int64(len(b)) + pageBytes - 1) &^ (pageBytes - 1)
		clear(b)
		from, n = from+used, n-used
	}
	if _, err := w.cur.WriteAt(w.buf[:n], from); err != nil {
		return
	}
	_ = unix.SyncFileRange(int(w.cur.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE) // the next sync does what this did not
}

// Cut ends the log before the transactions of version from and later: a commit
// that failed is not to come back at the next start. The disk that just failed
// must take one more write for that; three tries.
func (w *Log) Cut(from uint64) error {
	if err := w.follow(); err != nil {
		return err
	}
	data, err := os.ReadFile(w.cur.Name())
	if err != nil {
		return err
	}
	at := -1
	Scan(data, func(e Entry) {
		if at < 0 && e.Version >= from {
			at = e.At
		}
	})
	if at < 0 {
		return nil
	}
	for range 3 {
		if _, err = w.cur.WriteAt(make([]byte, zeros), int64(at)); err == nil {
			err = w.cur.Sync()
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// Close lets go of the files; one that was made beforehand goes.
func (w *Log) Close() error {
	var errs []error
	if w.cur != nil {
		errs = append(errs, w.cur.Close())
	}
	if w.next != nil {
		fi, err := w.next.Stat()
		errs = append(errs, err, w.next.Close())
		if err == nil && fi.Size() == 0 {
			errs = append(errs, os.Remove(w.next.Name()))
		}
	}
	w.cur, w.next = nil, nil
	return errors.Join(errs...)
}

// IgnoringEINTR calls fn until a signal does not interrupt it.
func IgnoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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
