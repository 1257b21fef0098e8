// Package wal is the log of a store: what a commit changes is here, durable, before
// anybody is told of it, and is read again after a power cut.
//
// It owns the files *.wal of one directory. It knows versions and bytes, and
// nothing of what they say; it starts no goroutine. A Log belongs to one goroutine
// at a time, the store's committer.
//
// How it works. The log is a row of slots, files of one size that are written from
// end to end and then used again, the oldest first, so that their blocks never come
// or go and a flush of them never makes the file system write its journal. A commit
// is one record, which begins at a sector of its own and is written past the page
// cache: no byte of an earlier commit is ever written again, and a commit of 300
// bytes costs 512 and not a page of 4096. Each record is flushed before the next one
// is written.
//
// The format, and what a cut may leave of it, is "The log" in
// pkg/store/badgerstore/DESIGN.md.
package wal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"unsafe"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// Options say where a log is and how big its slots are.
type Options struct {
	Dir string
	// SlotBytes is the size of a new slot, at least twice the longest record.
	SlotBytes int64
	// NoSync leaves out every flush, for proving that a power-cut rig notices.
	NoSync bool
	// Fault, in tests, answers in place of the disk's flush.
	Fault func() error
}

// Log is an open log.
type Log struct {
	opt   Options
	slots []*slot // by number, rising without a hole; the last may be prepared only
	cur   *slot   // what is written now; nil before the first record
	next  *slot   // prepared: it has its header
	spare []*slot // made and never used
	made  *making // a new slot under way
	from  uint64  // the number of the first slot that is still needed
	last  uint64  // version of the newest record
	known uint64  // versions up to here are needed no more
	dirty bool    // there are records that a reader must replay
	raw   int64   // how long those are

	recent []place // of the records since Begin
	buf    []byte
	packed []byte
	enc    *zstd.Encoder
	dec    *zstd.Decoder
}

// slot is one file. Its fields belong to the log.
type slot struct {
	f      *os.File
	name   string
	size   int64
	number uint64
	was    uint64 // the number that it had before; 0: it is new
	begun  bool   // it has its start record
	end    int64  // of its last whole record
	last   uint64 // the version of that
}

type place struct {
	s       *slot
	at      int64
	version uint64
}

type making struct {
	slot
	done int64
}

const (
	ext       = ".wal"
	sector    = 512
	pageBytes = 4096
	// makeBytes is how much of a new slot is written after one commit: a card takes
	// that in a few milliseconds.
	makeBytes = 64 << 10
)

// MinSlotBytes is the smallest slot.
const MinSlotBytes = 64 << 10

// Open looks the log in a directory over. A log that is not there is empty. What a
// power cut cannot have left is an error.
func Open(o Options) (*Log, error) {
	if o.SlotBytes = max(o.SlotBytes, MinSlotBytes) &^ (pageBytes - 1); o.Dir == "" {
		return nil, errors.New("a log without a directory")
	}
	l := &Log{opt: o}
	if err := l.look(os.O_RDWR); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	if s := l.next; s != nil && s.size < o.SlotBytes { // slots were smaller
		l.next, l.slots = nil, l.slots[:len(l.slots)-1]
		if err := errors.Join(s.f.Close(), os.Remove(s.name)); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	if !l.dirty {
		l.known = l.last
	}
	return l, nil
}

// Look says, without changing anything, whether there is a log in a directory,
// and whether it holds records that are only there.
func Look(dir string) (there, dirty bool, err error) {
	l := &Log{opt: Options{Dir: dir}}
	err = l.look(os.O_RDONLY)
	return l.There(), l.dirty, errors.Join(err, l.Close())
}

// look finds the slots and reads those that are still needed.
func (l *Log) look(flags int) error {
	names, err := filepath.Glob(filepath.Join(l.opt.Dir, "*"+ext))
	if err != nil {
		return err
	}
	for _, name := range names {
		s, err := openSlot(name, flags)
		if errors.Is(err, errUnmade) {
			// A cut came while it was made: nothing was ever written to it.
			if err = nil; flags == os.O_RDWR {
				err = os.Remove(name)
			}
		}
		if err != nil {
			return err
		}
		switch {
		case s == nil:
		case s.number == 0 && s.size >= l.opt.SlotBytes:
			l.spare = append(l.spare, s)
		case s.number == 0: // slots were smaller
			if err := s.f.Close(); err != nil {
				return err
			}
			if flags == os.O_RDWR {
				if err := os.Remove(name); err != nil {
					return err
				}
			}
		default:
			l.slots = append(l.slots, s)
		}
	}
	slices.SortFunc(l.slots, func(a, b *slot) int { return cmp.Compare(a.number, b.number) })
	for i, s := range l.slots {
		if i > 0 && s.number != l.slots[i-1].number+1 {
			return fmt.Errorf("log: the slot between %d and %d is missing", l.slots[i-1].number, s.number)
		}
	}
	return l.read()
}

// read finds the newest slot that was begun, and reads from there back to what is
// still needed.
func (l *Log) read() error {
	at, unbegun := len(l.slots)-1, 0
	var after start // what the slot behind says of the one before it
	for ; at >= 0; at-- {
		s := l.slots[at]
		data, err := s.bytes()
		if err != nil {
			return err
		}
		st, err := s.scan(data, nil)
		if err != nil {
			return err
		}
		if s.begun {
			l.cur, l.last, after = s, s.last, st
			break
		}
		unbegun++
		l.next = s
	}
	if unbegun > 1 {
		return errors.New("log: two slots without a beginning")
	}
	if l.cur == nil {
		return nil
	}
	l.from = after.from
	// What was flushed since the newest slot began may be prepared for use again.
	if low := l.slots[0].number; low > l.from && (l.next == nil || l.next.was < l.from || low > l.next.was+1) {
		return fmt.Errorf("log: slot %d is missing", l.from)
	}
	l.from = max(l.from, l.slots[0].number)
	for i := at - 1; i >= 0 && l.slots[i].number >= l.from; i-- {
		s := l.slots[i]
		data, err := s.bytes()
		if err != nil {
			return err
		}
		st, err := s.scan(data, nil)
		if err == nil && (!s.begun || s.end != int64(after.prevEnd) || s.last != after.prevLast) {
			err = fmt.Errorf("log: slot %d ends at byte %d, and not at %d", s.number, s.end, after.prevEnd)
		}
		if err != nil {
			return err
		}
		after = st
	}
	return l.each(func(r *record) error {
		if r.kind == kindClean {
			l.dirty, l.raw = false, 0
			return nil
		}
		l.dirty = true
		l.raw += int64(r.raw)
		return nil
	})
}

// each calls fn for every record from the first slot that is needed on.
func (l *Log) each(fn func(r *record) error) error {
	for _, s := range l.slots {
		if l.cur == nil || s.number < l.from || s.number > l.cur.number {
			continue
		}
		data, err := s.bytes()
		if err != nil {
			return err
		}
		var inner error
		if _, err := s.scan(data, func(r *record) bool {
			inner = fn(r)
			return inner == nil
		}); err != nil {
			return err
		}
		if inner != nil {
			return inner
		}
	}
	return nil
}

// There says whether there is any slot that was ever in use.
func (l *Log) There() bool { return len(l.slots) > 0 }

// Logged returns about how many bytes Replay will hand out.
func (l *Log) Logged() int64 { return l.raw }

// Last returns the version of the newest record.
func (l *Log) Last() uint64 { return l.last }

// Replay calls fn for every record with a version above after, in rising order. fn
// must not keep the bytes.
func (l *Log) Replay(after uint64, fn func(version uint64, rec []byte) error) error {
	if !l.dirty {
		return nil
	}
	skip := 0 // records that are behind a clean end
	n := 0
	if err := l.each(func(r *record) error {
		if n++; r.kind == kindClean {
			skip = n
		}
		return nil
	}); err != nil {
		return err
	}
	n = 0
	return l.each(func(r *record) error {
		if n++; n <= skip || r.version <= after {
			return nil
		}
		b, err := l.unpack(r)
		if err != nil {
			return fmt.Errorf("log: record %d: %w", r.version, err)
		}
		return fn(r.version, b)
	})
}

// Begin begins a commit: what is appended from here on can be cut off again.
func (l *Log) Begin() { l.recent = l.recent[:0] }

// Append writes a record and flushes it: when it returns nil, the record is durable.
// Versions rise.
func (l *Log) Append(version uint64, rec []byte) error {
	if version <= l.last {
		return fmt.Errorf("log: version %d after %d", version, l.last)
	}
	body, packed, err := l.pack(rec)
	if err != nil {
		return err
	}
	if err := l.write(kindData, version, body, packed, len(rec)); err != nil {
		return err
	}
	return l.sync(l.cur.f)
}

// write writes a record behind the last one, on into the next slot if need be.
func (l *Log) write(kind recordKind, version uint64, body []byte, packed bool, raw int) error {
	n := padded(headerBytes + len(body))
	if l.cur == nil || l.cur.end+n > l.cur.size {
		if err := l.prepare(true); err != nil {
			return err
		}
		if err := l.turn(); err != nil {
			return err
		}
	}
	s := l.cur
	l.buf = aligned(l.buf, int(n)+sector)
	b, at := l.buf[:0], s.end
	if !s.begun {
		st := start{from: l.needed()}
		if i := slices.Index(l.slots, s); i > 0 {
			st.prevEnd, st.prevLast = uint64(l.slots[i-1].end), l.slots[i-1].last
		}
		b = pad(appendRecord(b, s.number, kindStart, false, 0, 0, st.encode()))
	}
	if at += int64(len(b)); at+n > s.size {
		return fmt.Errorf("log: a record of %d bytes is longer than a slot", n)
	}
	b = pad(appendRecord(b, s.number, kind, packed, version, raw, body))
	l.recent = append(l.recent, place{s, at, version})
	if err := s.write(b, s.end); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	s.begun, s.end, s.last, l.last, l.dirty = true, s.end+int64(len(b)), version, version, kind == kindData
	return nil
}

// pad fills up with zeros to the next place where a record may begin.
func pad(b []byte) []byte {
	n := int(padded(len(b)))
	at := len(b)
	b = b[:n]
	clear(b[at:])
	return b
}

// turn goes on to the prepared slot.
func (l *Log) turn() error {
	if l.next == nil {
		return errors.New("log: no slot to go on to")
	}
	l.cur, l.next = l.next, nil
	l.cur.begun, l.cur.end, l.cur.last = false, sector, 0
	return nil
}

// needed is the number of the first slot that a replay needs now.
func (l *Log) needed() uint64 {
	for _, s := range l.slots {
		if s == l.cur || s.begun && s.last > l.known {
			return s.number
		}
	}
	return 0
}

// Release says that versions up to and with this one are kept elsewhere, durable.
func (l *Log) Release(version uint64) { l.known = max(l.known, version) }

// Ready makes sure that the next record, of up to room bytes, finds its place. It
// fails with ENOSPC if the disk has none.
func (l *Log) Ready(room int) error {
	if l.cur != nil && l.cur.size-l.cur.end >= 2*padded(headerBytes+room) {
		return nil
	}
	return l.prepare(true)
}

// Ahead prepares the next slot, a little at a time, when half of this one is
// written. What fails here is tried again by Ready.
func (l *Log) Ahead() {
	if l.cur != nil && l.cur.end > l.cur.size/2 {
		_ = l.prepare(false) // Ready says what is wrong, if it lasts
	}
}

// prepare makes sure that there is a next slot; unless whole, it may take some more
// calls.
func (l *Log) prepare(whole bool) error {
	if l.next != nil {
		return nil
	}
	number := uint64(1)
	if n := len(l.slots); n > 0 {
		number = l.slots[n-1].number + 1
	}
	var s *slot
	// The oldest may be used again, and no other: what remains is always a row
	// without a hole.
	if n := len(l.slots); l.made == nil && n > 0 && l.slots[0] != l.cur && l.slots[0].number < l.needed() && l.slots[0].size >= l.opt.SlotBytes {
		s = l.slots[0]
		l.slots = append(l.slots[:0], l.slots[1:]...)
	} else {
		var err error
		if s, err = l.unused(whole); err != nil || s == nil {
			return err
		}
	}
	if err := l.name(s, number); err != nil {
		return err
	}
	l.next = s
	return nil
}

// unused returns a slot in which nothing ever was; unless whole, it may take some
// more calls until there is one.
func (l *Log) unused(whole bool) (*slot, error) {
	if n := len(l.spare); n > 0 {
		s := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return s, nil
	}
	if ok, err := l.make(whole); err != nil || !ok {
		return nil, err
	}
	s := l.made.slot
	l.made = nil
	return &s, nil
}

// Reserve makes slots until there are n: so that a new log need not grow when the
// first messages come.
func (l *Log) Reserve(n int) error {
	for len(l.slots)+len(l.spare) < n {
		if _, err := l.make(true); err != nil {
			return err
		}
		s := l.made.slot
		l.made = nil
		l.spare = append(l.spare, &s)
		if err := l.label(&s); err != nil {
			return err
		}
	}
	return nil
}

// name gives a slot its number, durable.
func (l *Log) name(s *slot, number uint64) error {
	s.was, s.number, s.begun, s.end, s.last = s.number, number, false, sector, 0
	l.slots = append(l.slots, s)
	return l.label(s)
}

// label writes a slot's header.
func (l *Log) label(s *slot) error {
	b := aligned(nil, sector)
	s.header(b)
	err := s.write(b, 0)
	if err == nil {
		err = l.sync(s.f)
	}
	if err != nil {
		return fmt.Errorf("log: preparing a slot: %w", err)
	}
	return nil
}

// make makes a new slot, all its blocks written once.
func (l *Log) make(whole bool) (done bool, err error) {
	if l.made == nil {
		m, err := l.create()
		if err != nil {
			return false, fmt.Errorf("log: %w", err)
		}
		l.made = m
	}
	m := l.made
	zeros := aligned(nil, makeBytes)
	for m.done < m.size {
		n := min(m.size-m.done, makeBytes)
		if err := m.write(zeros[:n], m.done); err != nil {
			return false, fmt.Errorf("log: %w", err)
		}
		if m.done += n; !whole && m.done < m.size {
			return false, nil
		}
	}
	if l.opt.NoSync {
		return true, nil
	}
	return true, errors.Join(m.f.Sync(), SyncDir(l.opt.Dir))
}

func (l *Log) create() (*making, error) {
	for i := 1; ; i++ {
		name := filepath.Join(l.opt.Dir, fmt.Sprintf("%04d%s", i, ext))
		f, err := openDirect(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = ignoringEINTR(func() error { return unix.Fallocate(int(f.Fd()), 0, 0, l.opt.SlotBytes) })
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
			err = nil // then the zeros find out whether there is room
		}
		if err != nil {
			return nil, errors.Join(err, f.Close(), os.Remove(name))
		}
		return &making{slot: slot{f: f, name: name, size: l.opt.SlotBytes}}, nil
	}
}

// Cut takes the records since Begin with this version and later away again: a
// commit that failed is not to come back at the next start. The disk that just
// failed must take one more write for that; three tries. The latest goes first, so
// that what is left is a log without a hole, whenever the power goes.
func (l *Log) Cut(version uint64) error {
	var errs []error
	for i := len(l.recent) - 1; i >= 0 && l.recent[i].version >= version; i-- {
		p := l.recent[i]
		from := p.at
		if p.at == 2*sector {
			from = sector // with the start of its slot, which is unused again
		}
		var err error
		for range 3 {
			if err = p.s.write(aligned(nil, int(p.at+sector-from)), from); err == nil {
				err = p.s.f.Sync()
			}
			if err == nil {
				break
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Clean says that all that was ever logged is kept elsewhere, durable: nothing is
// replayed at the next start.
func (l *Log) Clean() error {
	if !l.dirty {
		return nil
	}
	if err := l.write(kindClean, l.last, nil, false, 0); err != nil {
		return err
	}
	return l.sync(l.cur.f)
}

// Restart is Clean, and removes what was logged: none of it is in a slot any more.
// It fails with ENOSPC if there is no room for a slot beside those.
func (l *Log) Restart() error {
	if l.cur == nil {
		return nil
	}
	// A new one: the one that may be prepared was used before.
	s, err := l.unused(true)
	if err != nil {
		return err
	}
	old := l.slots
	l.known = l.last
	if err := l.name(s, old[len(old)-1].number+1); err != nil {
		return err
	}
	l.next = s
	if err := l.turn(); err != nil {
		return err
	}
	if err := l.write(kindClean, l.last, nil, false, 0); err != nil {
		return err
	}
	if err := l.sync(l.cur.f); err != nil {
		return err
	}
	l.slots, l.recent = []*slot{l.cur}, nil
	var errs []error
	for _, s := range old { // the oldest first: what is left has no hole
		errs = append(errs, s.f.Close(), os.Remove(s.name))
	}
	return errors.Join(append(errs, SyncDir(l.opt.Dir))...)
}

func (l *Log) sync(f *os.File) error {
	if l.opt.Fault != nil {
		if err := l.opt.Fault(); err != nil {
			return err
		}
	}
	if l.opt.NoSync {
		return nil
	}
	if err := ignoringEINTR(func() error { return unix.Fdatasync(int(f.Fd())) }); err != nil {
		return fmt.Errorf("log: flush: %w", err)
	}
	return nil
}

// Close lets go of the files. A slot that was being made is removed at the next
// Open.
func (l *Log) Close() error {
	var errs []error
	for _, s := range append(l.slots, l.spare...) {
		errs = append(errs, s.f.Close())
	}
	if l.made != nil {
		errs = append(errs, l.made.f.Close())
	}
	if l.enc != nil {
		errs = append(errs, l.enc.Close())
	}
	if l.dec != nil {
		l.dec.Close()
	}
	l.slots, l.spare, l.cur, l.next, l.made, l.enc, l.dec = nil, nil, nil, nil, nil, nil, nil
	return errors.Join(errs...)
}

// openDirect opens a file for writes past the page cache, where the file system
// knows them.
func openDirect(name string, flags int) (*os.File, error) {
	f, err := os.OpenFile(name, flags|unix.O_DIRECT, 0o600)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(name, flags&^os.O_EXCL, 0o600) // it was made before it was refused
	}
	return f, err
}

// aligned returns n zeros, or b if that has as many bytes, that begin where a write
// past the page cache may begin.
func aligned(b []byte, n int) []byte {
	if cap(b) >= n {
		return b[:n]
	}
	room := (n + pageBytes - 1) &^ (pageBytes - 1)
	b = make([]byte, room+pageBytes)
	off := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (pageBytes - 1))
	return b[off : off+n : off+room]
}

func ignoringEINTR(fn func() error) error {
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
