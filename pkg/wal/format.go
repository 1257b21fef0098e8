package wal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// A slot is a header of one sector, which says which number the slot has now, then
// records, each from a sector of its own on. The checksums of its records begin with
// that number, so that what the slot held under an earlier one is no record.
//
//	slot   "pipitwal", format (4), number (8), number before this one or 0 (8), CRC-32C (4); number 0: never used
//	record CRC-32C of number and header (4), length (4), length unpacked (4), version (8), kind (1), packed (1), 0 (2), CRC-32C of the body (4), body
//
// The first record of a slot is its start: which slot a replay must begin with, and
// where the slot before it ended.
const (
	magic       = "pipitwal"
	format      = 1
	headerBytes = 28
	maxUnpacked = 64 << 20
)

type recordKind byte

const (
	kindData  recordKind = 1
	kindStart recordKind = 2
	kindClean recordKind = 3 // what was before is kept elsewhere
)

// record is one record as it is in a slot; body is a part of what was read.
type record struct {
	kind    recordKind
	packed  bool
	version uint64
	raw     int
	body    []byte
	size    int64 // with header and padding
}

// start is what the first record of a slot says.
type start struct {
	from              uint64 // number of the first slot that was still needed
	prevEnd, prevLast uint64 // end and last version of the slot before it
}

func (s start) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, s.from)
	b = binary.BigEndian.AppendUint64(b, s.prevEnd)
	return binary.BigEndian.AppendUint64(b, s.prevLast)
}

func decodeStart(b []byte) (s start, ok bool) {
	if len(b) != 24 {
		return s, false
	}
	return start{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])}, true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// headerSum is the checksum of a record's header in the slot of that number.
func headerSum(number uint64, header []byte) uint32 {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], number)
	return crc32.Update(crc32.Checksum(n[:], castagnoli), castagnoli, header[4:headerBytes])
}

func appendRecord(b []byte, number uint64, kind recordKind, packed bool, version uint64, raw int, body []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, headerBytes)...)
	h := b[at:]
	binary.BigEndian.PutUint32(h[4:], uint32(len(body)))
	binary.BigEndian.PutUint32(h[8:], uint32(raw))
	binary.BigEndian.PutUint64(h[12:], version)
	h[20] = byte(kind)
	if packed {
		h[21] = 1
	}
	binary.BigEndian.PutUint32(h[24:], crc32.Checksum(body, castagnoli))
	binary.BigEndian.PutUint32(h, headerSum(number, h))
	return append(b, body...)
}

// readRecord reads the record that begins b. begins says that the header is one of
// that slot's, whatever became of the rest.
func readRecord(number uint64, b []byte) (r record, begins, whole bool) {
	if len(b) < headerBytes || binary.BigEndian.Uint32(b) != headerSum(number, b) {
		return r, false, false
	}
	n := int64(binary.BigEndian.Uint32(b[4:]))
	r = record{kind: recordKind(b[20]), packed: b[21] != 0, version: binary.BigEndian.Uint64(b[12:]),
		raw: int(binary.BigEndian.Uint32(b[8:])), size: padded(headerBytes + int(n))}
	if n > int64(len(b)-headerBytes) || r.raw > maxUnpacked {
		return r, true, false
	}
	r.body = b[headerBytes : headerBytes+n]
	return r, true, crc32.Checksum(r.body, castagnoli) == binary.BigEndian.Uint32(b[24:])
}

func padded(n int) int64 { return int64(n+sector-1) &^ (sector - 1) }

// scan reads the records of a slot in order, calls fn for each but the start until
// that says false, and notes whether the slot was begun and where it ends. Only the
// last record of a log can be torn, since each is flushed before the next one is
// written: one that is whole behind a broken one is an error.
func (s *slot) scan(data []byte, fn func(*record) bool) (st start, err error) {
	s.begun, s.end, s.last = false, sector, 0
	for s.end+headerBytes <= int64(len(data)) {
		r, _, whole := readRecord(s.number, data[s.end:])
		if !whole {
			break
		}
		if !s.begun {
			var ok bool
			if st, ok = decodeStart(r.body); !ok || r.kind != kindStart {
				break
			}
			s.begun = true
			s.end += r.size
			continue
		}
		if r.kind != kindData && r.kind != kindClean || r.version < s.last || r.version == s.last && r.kind == kindData {
			break
		}
		s.end, s.last = s.end+r.size, r.version
		if fn != nil && !fn(&r) {
			return st, nil
		}
	}
	at := s.end + sector
	if !s.begun {
		// The start and the first record are written at once: of those, either may be
		// torn.
		if _, begins, _ := readRecord(s.number, data[min(at, int64(len(data))):]); begins {
			at += sector
		}
	}
	for ; at < int64(len(data)); at += sector {
		if r, begins, _ := readRecord(s.number, data[at:]); begins {
			return st, fmt.Errorf("log: slot %d is broken at byte %d, but record %d behind it is whole", s.number, s.end, r.version)
		}
	}
	return st, nil
}

func (s *slot) header(b []byte) {
	copy(b, magic)
	binary.BigEndian.PutUint32(b[8:], format)
	binary.BigEndian.PutUint64(b[12:], s.number)
	binary.BigEndian.PutUint64(b[20:], s.was)
	binary.BigEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
}

// errUnmade is the answer for a slot that never got its header.
var errUnmade = errors.New("log: a slot without a header")

func openSlot(name string, flags int) (*slot, error) {
	f, err := openDirect(name, flags)
	if err != nil {
		return nil, err
	}
	s := &slot{f: f, name: name}
	if err := s.readHeader(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func (s *slot) readHeader() error {
	fi, err := s.f.Stat()
	if err != nil {
		return err
	}
	s.size = fi.Size() &^ (sector - 1)
	b := aligned(nil, sector)
	if n, err := s.f.ReadAt(b, 0); n < len(b) && (err == nil || errors.Is(err, io.EOF)) {
		return errUnmade
	} else if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	empty := true
	for _, c := range b {
		empty = empty && c == 0
	}
	if empty {
		// Then there is nothing behind it either, or it had a header.
		data, err := s.bytes()
		for _, c := range data {
			if c != 0 && err == nil {
				err = fmt.Errorf("log: the header of %s is gone", s.name)
			}
		}
		return cmp.Or(err, errUnmade)
	}
	if string(b[:8]) != magic || binary.BigEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) || binary.BigEndian.Uint32(b[8:]) != format {
		return fmt.Errorf("log: the header of %s is broken", s.name)
	}
	for _, c := range b[32:] {
		if c != 0 {
			return fmt.Errorf("log: the header of %s is broken", s.name)
		}
	}
	s.number, s.was = binary.BigEndian.Uint64(b[12:]), binary.BigEndian.Uint64(b[20:])
	return nil
}

// bytes reads the whole slot.
func (s *slot) bytes() ([]byte, error) { return os.ReadFile(s.name) }

// write writes at a sector, past the page cache if that can be.
func (s *slot) write(b []byte, at int64) error {
	_, err := s.f.WriteAt(b, at)
	if errors.Is(err, unix.EINVAL) {
		// A disk with longer sectors than ours: through the page cache, then.
		flags, ferr := unix.FcntlInt(s.f.Fd(), unix.F_GETFL, 0)
		if ferr != nil || flags&unix.O_DIRECT == 0 {
			return err
		}
		if _, ferr = unix.FcntlInt(s.f.Fd(), unix.F_SETFL, flags&^unix.O_DIRECT); ferr != nil {
			return err
		}
		_, err = s.f.WriteAt(b, at)
	}
	return err
}

// pack makes a record shorter if it can be.
func (l *Log) pack(rec []byte) (body []byte, packed bool, err error) {
	if l.enc == nil {
		// Its memory is what counts on a small box: one encoder, a window that a commit
		// hardly ever exceeds.
		l.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(32<<10), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithAllLitEntropyCompression(true))
		if err != nil {
			return nil, false, err
		}
	}
	l.packed = l.enc.EncodeAll(rec, l.packed[:0])
	if padded(headerBytes+len(l.packed)) < padded(headerBytes+len(rec)) {
		return l.packed, true, nil
	}
	return rec, false, nil
}

func (l *Log) unpack(r *record) (b []byte, err error) {
	if !r.packed {
		return r.body, nil
	}
	if l.dec == nil {
		l.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(maxUnpacked))
		if err != nil {
			return nil, err
		}
	}
	l.packed, err = l.dec.DecodeAll(r.body, l.packed[:0])
	if err == nil && len(l.packed) != r.raw {
		err = errors.New("it has another length than it says")
	}
	return l.packed, err
}
