package disk

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"sync"
)

// sectorBytes is the smallest unit that a power cut keeps or loses as a whole: a drive promises no more than one sector.
const sectorBytes = 512

var errLogFull = errors.New("the disk's log is full (Options.LogBytes)")

// recordKind says what happened to the disk at one position of the log.
type recordKind uint8

const (
	recordWrite     recordKind = iota + 1 // off, length, data; fua: durable by itself
	recordZero                            // off, length (trim and write-zeroes); no data
	recordFlushed                         // an honest flush completed; covers: every position below it is durable
	recordLied                            // a flush was acknowledged, nothing was made durable
	recordStamp                           // a caller's mark
	recordBadFlush                        // a flush was answered with EIO
	recordKindCount                       // not a kind
)

// record is one entry of the log. Its position is its index + 1: "at position p" means that records [0, p) have happened.
type record struct {
	kind   recordKind
	fua    bool
	length uint32 // bytes
	off    int64  // byte offset on the disk
	data   int64  // byte offset in the data file; stamps: index into stamps; flushes: the position covered
}

// journal is the ordered log: contents in a file, and an index of 32 bytes a record in memory, so a disk that took
// 300 MiB in 4 KiB writes costs about 2.5 MB of RAM. Records are never changed once appended, which is why a prefix
// of the index may be read without the lock. Safe for concurrent use.
type journal struct {
	maxBytes int64

	mu      sync.Mutex
	file    *os.File
	size    int64    // bytes in file; guarded by mu
	records []record // guarded by mu; append only
	stamps  []any    // guarded by mu; append only
	counts  [recordKindCount]int64
	written int64 // bytes of all writes; guarded by mu
}

func openJournal(path string, maxBytes int64) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("disk log: %w", err)
	}
	return &journal{file: f, maxBytes: maxBytes}, nil
}

// append puts r (and, for a write, its content) behind everything that was appended before, and returns the
// position just after it. The bytes of data are not kept.
func (j *journal) append(r record, data []byte) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if r.kind == recordWrite {
		if j.size+int64(len(data)) > j.maxBytes {
			return 0, errLogFull
		}
		if _, err := j.file.WriteAt(data, j.size); err != nil {
			return 0, fmt.Errorf("disk log: %w", err)
		}
		r.data = j.size
		j.size += int64(len(data))
		j.written += int64(len(data))
	}
	j.counts[r.kind]++
	j.records = append(j.records, r)
	return int64(len(j.records)), nil
}

func (j *journal) stamp(v any) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts[recordStamp]++
	j.records = append(j.records, record{kind: recordStamp, data: int64(len(j.stamps))})
	j.stamps = append(j.stamps, v)
	return int64(len(j.records))
}

func (j *journal) position() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return int64(len(j.records))
}

// prefix returns the records before pos. The caller must not change them.
func (j *journal) prefix(pos int64) ([]record, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if pos < 0 || pos > int64(len(j.records)) {
		return nil, fmt.Errorf("disk log: position %d is outside 0..%d", pos, len(j.records))
	}
	return slices.Clip(j.records[:pos]), nil
}

// stampsBefore yields the marks at or before pos with their positions, in order.
func (j *journal) stampsBefore(pos int64) (iter.Seq2[int64, any], error) {
	recs, err := j.prefix(pos)
	if err != nil {
		return nil, err
	}
	j.mu.Lock()
	stamps := slices.Clip(j.stamps)
	j.mu.Unlock()
	return func(yield func(int64, any) bool) {
		for i, r := range recs {
			if r.kind == recordStamp && !yield(int64(i)+1, stamps[r.data]) {
				return
			}
		}
	}, nil
}

// readAt fills p with the content of write r, which must be as long as p.
func (j *journal) readAt(p []byte, r record) error {
	if _, err := j.file.ReadAt(p, r.data); err != nil {
		return fmt.Errorf("disk log: %w", err)
	}
	return nil
}

// close gives up the file and the index: a test that goes through many disks may hold on to each of them.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records, j.stamps = nil, nil
	return j.file.Close()
}
