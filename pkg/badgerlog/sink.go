package badgerlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sink is where badger's own log goes: memory that nobody reads. It also knows, by
// which of these files are gone, what badger has made tables of.
//
// Badger opens the next file by a name that it counts up; the link under that name
// is always there beforehand. It goes on to a next one right before it writes a
// transaction, and removes one when its memtable is a table, on the disk.
type Sink struct {
	dir  string
	fid  int
	cur  *os.File // what badger logs into now
	next *os.File // made beforehand
	last uint64   // version of the newest transaction
	old  []filled // may not be tables yet
	done uint64   // versions up to this are in tables
	left int      // bytes until the next giving back
}

type filled struct {
	fid  int
	last uint64
}

// giveBack is how much badger may write before the memory under it goes.
const giveBack = 256 << 10

// NewSink takes over from badger, which was just opened on dir and logs into a file
// of its own there: its mapping becomes memory.
func NewSink(dir string) (*Sink, error) {
	fids, err := Files(dir)
	if err != nil || len(fids) == 0 {
		return nil, fmt.Errorf("badger has no log file: %w", err)
	}
	s := &Sink{dir: dir, fid: slices.Max(fids), left: giveBack}
	fi, err := os.Stat(Path(dir, s.fid))
	if err != nil {
		return nil, err
	}
	if s.cur, err = memory(fi.Size()); err != nil {
		return nil, err
	}
	if err = remap(Path(dir, s.fid), s.cur); err == nil {
		err = s.link()
	}
	if err != nil {
		return nil, errors.Join(err, s.cur.Close())
	}
	return s, nil
}

// memory makes a file without a place.
func memory(size int64) (*os.File, error) {
	fd, err := unix.MemfdCreate("badger.mem", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memory for badger's log: %w", err)
	}
	f := os.NewFile(uintptr(fd), "badger.mem")
	if err := f.Truncate(size); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// remap puts f where this process has mapped the file of that name. Badger lists the
// directory when it is opened and then makes its first log, so that there is no moment
// for a link; nobody writes to that log before the opening is over.
func remap(name string, f *os.File) error {
	// As the kernel names it: several stores may be open, each with such a file.
	name, err := filepath.Abs(name)
	if err == nil {
		name, err = filepath.EvalSymlinks(name)
	}
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	found := false
	for line := range strings.Lines(string(maps)) {
		head, ok := strings.CutSuffix(strings.TrimSuffix(line, "\n"), " "+name)
		var from, to, off uint64
		var prot string
		if n, _ := fmt.Sscanf(head, "%x-%x %s %x", &from, &to, &prot, &off); !ok || n < 4 {
			continue
		}
		_, err := unix.MmapPtr(int(f.Fd()), int64(off), unsafe.Add(nil, from), uintptr(to-from),
			unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
		if err != nil {
			return fmt.Errorf("badger's log into memory: %w", err)
		}
		found = true
	}
	if !found {
		return fmt.Errorf("badger's log %s is not mapped", filepath.Base(name))
	}
	return nil
}

// link makes the next file.
func (s *Sink) link() error {
	f, err := memory(0)
	if err != nil {
		return err
	}
	if err := os.Symlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), Path(s.dir, s.fid+1)); err != nil {
		return errors.Join(err, f.Close())
	}
	s.next = f
	return nil
}

// Sweep removes what an earlier process left that only led to its memory. If all, it
// removes every log: then badger's were never the truth.
func Sweep(dir string, all bool) error {
	fids, err := Files(dir)
	if err != nil {
		return err
	}
	for _, fid := range fids {
		fi, err := os.Lstat(Path(dir, fid))
		if err == nil && (all || fi.Mode()&os.ModeSymlink != 0) {
			err = os.Remove(Path(dir, fid))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Ready makes sure that badger can go on to a next file.
func (s *Sink) Ready() error {
	if err := s.follow(); err != nil || s.next != nil {
		return err
	}
	return s.link()
}

// follow notices that badger went on to the next file.
func (s *Sink) follow() error {
	if s.next == nil {
		return nil
	}
	fi, err := s.next.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	if s.cur != nil {
		err = s.cur.Close()
		s.old = append(s.old, filled{s.fid, s.last})
	}
	s.cur, s.next = s.next, nil
	s.fid, s.left = s.fid+1, giveBack
	return err
}

// Wrote says that badger wrote the transaction of that version, of about n bytes.
// Badger must not be writing now.
func (s *Sink) Wrote(version uint64, n int) error {
	err := s.follow()
	s.last = version
	if s.left -= n; s.left <= 0 && s.cur != nil {
		s.left = giveBack
		s.drop()
	}
	return err
}

// drop gives the memory back that badger will not write again. It is only memory: a
// failure is no fault.
func (s *Sink) drop() {
	fd := int(s.cur.Fd())
	from, err := unix.Seek(fd, 0, unix.SEEK_DATA)
	if err != nil {
		return
	}
	to, err := unix.Seek(fd, from, unix.SEEK_HOLE)
	if err != nil {
		return
	}
	const margin = 64 << 10
	if to -= margin; to > from {
		_ = unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, to-from)
	}
}

// Backlog returns how many memtables badger still has to make tables of.
func (s *Sink) Backlog() int {
	s.old = slices.DeleteFunc(s.old, func(m filled) bool {
		_, err := os.Lstat(Path(s.dir, m.fid))
		if !errors.Is(err, os.ErrNotExist) {
			return false
		}
		s.done = max(s.done, m.last)
		return true
	})
	return len(s.old)
}

// Flushed returns the version up to which all is in tables, on the disk, as far as
// this process wrote it.
func (s *Sink) Flushed() uint64 {
	s.Backlog()
	if len(s.old) > 0 {
		// They become tables in order; one that is read may be gone later than the next.
		return min(s.done, s.old[0].last-1)
	}
	return s.done
}

// AllFlushed says whether all that was written is in tables, on the disk: badger has
// gone on to a memtable in which there is nothing yet.
func (s *Sink) AllFlushed() (bool, error) {
	was := s.fid
	if err := s.follow(); err != nil {
		return false, err
	}
	return s.fid != was && s.Backlog() == 0, nil
}

// Close lets go of the memory and removes the links that badger did not.
func (s *Sink) Close() error {
	var errs []error
	for _, f := range []*os.File{s.cur, s.next} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	if s.next != nil {
		errs = append(errs, os.Remove(Path(s.dir, s.fid+1)))
	}
	s.cur, s.next = nil, nil
	return errors.Join(errs...)
}
