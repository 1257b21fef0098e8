package badgerstore

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

// wal looks after the file that badger logs into. Badger makes each such file
// sparse and writes it through a mapping, so that a full disk is a SIGBUS, and
// it syncs two files where one was written. So the store does both itself:
//
//   - the next file is made beforehand, empty but with all its blocks
//     (fallocate with KEEP_SIZE); badger finds it under the name it wants and
//     only sets its size, which keeps the blocks;
//   - badger runs with SyncWrites off and the store calls fdatasync once after
//     each transaction, before the next one is written.
//
// It belongs to the committer (and to Open and Close before and after it).
type wal struct {
	dir    string
	blocks int64 // how much of a file is given blocks beforehand
	noSync bool
	cur    *os.File // what badger logs into now
	fid    int
	next   *os.File // made beforehand, or nil
	old    []int    // logs that badger may still have to make tables of
	sparse bool     // the file system cannot give blocks beforehand
	// syncFault, in tests, answers in place of the disk.
	syncFault func() error
}

const walExt = ".mem"

// walBlocks is how many half memtables a log is given blocks for: badger goes on
// to the next one when the log is as long as the memtable may be big, before
// the transaction that is to come.
const walBlocks = 3

func walPath(dir string, fid int) string {
	return filepath.Join(dir, fmt.Sprintf("%05d%s", fid, walExt))
}

// walFiles returns the numbers of the log files in dir, rising.
func walFiles(dir string) ([]int, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+walExt))
	var fids []int
	for _, n := range names {
		if fid, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(n), walExt)); err == nil {
			fids = append(fids, fid)
		}
	}
	return fids, err
}

// open finds the file that badger, just opened, logs into.
func (w *wal) open() error {
	fids, err := walFiles(w.dir)
	if err != nil || len(fids) == 0 {
		return fmt.Errorf("badger has no log file: %w", err)
	}
	w.fid = slices.Max(fids)
	w.old = slices.DeleteFunc(fids, func(fid int) bool { return fid == w.fid })
	if w.cur, err = os.OpenFile(walPath(w.dir, w.fid), os.O_RDWR, 0); err != nil {
		return err
	}
	return w.allocate(w.cur)
}

// allocate gives f its blocks without changing its size.
func (w *wal) allocate(f *os.File) error {
	if w.sparse {
		return nil
	}
	err := ignoringEINTR(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, w.blocks)
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

// ready makes sure that badger can go on to a next file.
func (w *wal) ready() error {
	if err := w.follow(); err != nil || w.next != nil {
		return err
	}
	name := walPath(w.dir, w.fid+1)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err = w.allocate(f); err == nil {
		err = errors.Join(f.Sync(), syncDir(w.dir))
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(name))
	}
	w.next = f
	return nil
}

// follow notices that badger went on to the next file, which it does before it
// writes a transaction and never within one.
func (w *wal) follow() error {
	if w.next == nil {
		return nil
	}
	fi, err := w.next.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	err = w.cur.Close() // all in it was synced
	w.cur, w.next = w.next, nil
	w.old = append(w.old, w.fid)
	w.fid++
	return err
}

// backlog returns how many logs badger still has to make tables of.
func (w *wal) backlog() int {
	w.old = slices.DeleteFunc(w.old, func(fid int) bool {
		_, err := os.Stat(walPath(w.dir, fid))
		return errors.Is(err, os.ErrNotExist)
	})
	return len(w.old)
}

// sync makes what was logged durable.
func (w *wal) sync() error {
	if err := w.follow(); err != nil {
		return err
	}
	if w.syncFault != nil {
		if err := w.syncFault(); err != nil {
			return err
		}
	}
	if w.noSync {
		return nil
	}
	return ignoringEINTR(func() error { return unix.Fdatasync(int(w.cur.Fd())) })
}

// cut ends the log before the transactions of version from and later: a commit
// that failed is not to come back at the next start. The disk that just failed
// must take one more write for that; three tries.
func (w *wal) cut(from uint64) error {
	if err := w.follow(); err != nil {
		return err
	}
	data, err := os.ReadFile(w.cur.Name())
	if err != nil {
		return err
	}
	at := -1
	scanLog(data, func(e logEntry) {
		if at < 0 && e.version >= from {
			at = e.at
		}
	})
	if at < 0 {
		return nil
	}
	for range 3 {
		if _, err = w.cur.WriteAt(make([]byte, logZeros), int64(at)); err == nil {
			err = w.cur.Sync()
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// close lets go of the files; one that was made beforehand goes.
func (w *wal) close() error {
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

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Badger's log format: a header of 20 bytes, then entries of
// meta, user meta, three varints (key length, value length, expiry), key
// (which ends in the version, inverted), value, CRC-32C of all before.
const (
	logHeader = 20
	logZeros  = 22 // the longest entry header: zeros of that length end a log
	logFin    = 1 << 7
	finKey    = "!badger!txn"
)

type logEntry struct {
	at      int
	version uint64
	fin     bool // the end of a transaction
}

// readLogEntry reads the entry at data[at:]; size 0: none that is whole.
func readLogEntry(data []byte, at int) (e logEntry, size int) {
	b := data[at:]
	if len(b) < logZeros || b[0]|b[1]|b[2] == 0 {
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
	return logEntry{at, ^binary.BigEndian.Uint64(k[len(k)-8:]), b[0]&logFin != 0}, i + 4
}

// scanLog calls fn for each whole entry from the start of a log file and
// returns where the last whole transaction ends, and the version of that.
func scanLog(data []byte, fn func(logEntry)) (end int, last uint64) {
	end = logHeader
	for at := logHeader; at < len(data); {
		e, size := readLogEntry(data, at)
		if size == 0 {
			break
		}
		fn(e)
		if at += size; e.fin {
			end, last = at, e.version
		}
	}
	return end, last
}

// checkLog tells a log that a power cut tore from one that rotted. Only the
// last transaction can be torn: each is on disk before the next is written. So
// a whole end of a transaction two versions behind the break is rot.
func checkLog(data []byte) (used int, err error) {
	end, last := scanLog(data, func(logEntry) {})
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
		if e, size := readLogEntry(data, max(at, 0)); size > 0 && e.fin {
			if last == 0 {
				last = e.version - 1 // the first that can be read, perhaps of the torn one
			}
			if e.version >= last+2 {
				return end, fmt.Errorf("transaction %d is broken at byte %d, but %d behind it is whole", last+1, end, e.version)
			}
		}
		off += i + len(finKey)
	}
}
