// Package snapshot is the form of a store's backup as a stream: records in any
// order between a line that names the format and a checksum over the whole.
//
// It owns the framing and nothing else: what keys and values mean, and whether
// they belong into a backup, is the back end's. So that a copy can be checked by
// who has no back end (package backup), Check reads a stream to its end.
//
// The form: "pipit backup format 1\n"; each record as key length, key, value
// length, value (lengths as varints, keys not empty); a key length of 0; the
// number of records (8 bytes, big endian); the SHA-256 of everything before.
//
// A Writer or Reader belongs to one goroutine. Bytes that Next returns belong to
// the caller.
package snapshot

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
)

const (
	name   = "pipit backup format "
	format = 1

	maxKeyBytes   = 1 << 16
	maxValueBytes = 4 << 20
)

// Writer writes a snapshot.
type Writer struct {
	buf *bufio.Writer
	sum hash.Hash
	out io.Writer
	len []byte
	n   uint64
	err error
}

// NewWriter begins a snapshot. Errors are told by Close.
func NewWriter(w io.Writer) *Writer {
	s := &Writer{buf: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	s.out = io.MultiWriter(s.buf, s.sum)
	s.write(fmt.Appendf(nil, "%s%d\n", name, format))
	return s
}

func (w *Writer) write(b []byte) {
	if w.err == nil {
		_, w.err = w.out.Write(b)
	}
}

// Record appends one record. An error is one of what it writes to, and stays.
func (w *Writer) Record(key, value []byte) error {
	w.n++
	w.len = binary.AppendUvarint(w.len[:0], uint64(len(key)))
	w.write(w.len)
	w.write(key)
	w.len = binary.AppendUvarint(w.len[:0], uint64(len(value)))
	w.write(w.len)
	w.write(value)
	return w.err
}

// Records returns how many there were so far.
func (w *Writer) Records() uint64 { return w.n }

// Close ends the snapshot; without it the stream is cut short, and Next says so.
func (w *Writer) Close() error {
	w.write(binary.BigEndian.AppendUint64([]byte{0}, w.n))
	if w.err == nil {
		_, w.err = w.buf.Write(w.sum.Sum(nil))
	}
	if w.err == nil {
		w.err = w.buf.Flush()
	}
	return w.err
}

// Damaged is the error about a stream that is no whole snapshot.
func Damaged(cause error) error {
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF // io.EOF is Next's word for a whole one
	}
	return &im.Error{Kind: im.Invalid, Message: "the backup is damaged or cut short; nothing was restored", Op: "read snapshot", Cause: cause}
}

// Reader reads a snapshot.
type Reader struct {
	r   *bufio.Reader
	sum hash.Hash
	n   uint64
}

// NewReader reads the head of a snapshot.
func NewReader(r io.Reader) (*Reader, error) {
	b := &Reader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	line, err := b.r.ReadSlice('\n')
	if err != nil || !bytes.HasPrefix(line, []byte(name)) {
		return nil, Damaged(errors.New("no header"))
	}
	b.sum.Write(line)
	var n int
	if _, err := fmt.Sscanf(strings.TrimPrefix(string(line), name), "%d\n", &n); err != nil || n < 1 {
		return nil, Damaged(errors.New("no format in the header"))
	}
	if n > format {
		return nil, im.E(im.Invalid, "the backup has format %d and this program knows %d: install a newer Pipit", n, format)
	}
	return b, nil
}

func (b *Reader) length(most uint64) (int, error) {
	var raw []byte
	for {
		c, err := b.r.ReadByte()
		if err != nil {
			return 0, Damaged(err)
		}
		raw = append(raw, c)
		if c < 0x80 {
			break
		}
		if len(raw) == binary.MaxVarintLen64 {
			return 0, Damaged(errors.New("bad length"))
		}
	}
	b.sum.Write(raw)
	n, size := binary.Uvarint(raw)
	if size != len(raw) || n > most {
		return 0, Damaged(errors.New("bad length"))
	}
	return int(n), nil
}

func (b *Reader) bytes(n int) ([]byte, error) {
	v := make([]byte, n)
	if _, err := io.ReadFull(b.r, v); err != nil {
		return nil, Damaged(err)
	}
	b.sum.Write(v)
	return v, nil
}

// Next returns the next record, or io.EOF once the end was reached and number
// and checksum are right. Until then nothing that was read may be believed.
func (b *Reader) Next() (key, value []byte, err error) {
	n, err := b.length(maxKeyBytes)
	if err != nil {
		return nil, nil, err
	}
	if n == 0 {
		return nil, nil, b.trailer()
	}
	b.n++
	if key, err = b.bytes(n); err != nil {
		return nil, nil, err
	}
	if n, err = b.length(maxValueBytes); err != nil {
		return nil, nil, err
	}
	value, err = b.bytes(n)
	return key, value, err
}

// trailer returns io.EOF if the end is as it should be.
func (b *Reader) trailer() error {
	count, err := b.bytes(8)
	if err != nil {
		return err
	}
	want := b.sum.Sum(nil)
	sum, err := b.bytes(sha256.Size)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint64(count) != b.n || !bytes.Equal(sum, want) {
		return Damaged(errors.New("checksum or count does not match"))
	}
	if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
		return Damaged(errors.New("something follows the end"))
	}
	return io.EOF
}

// Check reads a whole snapshot and returns how many records it has.
func Check(r io.Reader) (records uint64, err error) {
	b, err := NewReader(r)
	for err == nil {
		_, _, err = b.Next()
	}
	if errors.Is(err, io.EOF) {
		return b.n, nil
	}
	return 0, err
}
