package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
)

// superblockBytes is the beginning of the disk, which is never torn. ext4 writes its superblock in place, not through
// the journal, with a checksum over two sectors; when that is torn neither mount nor "e2fsck -p" can help (seen
// here). A card writes pages of 4 KiB and more, and the rig judges the program on the file system, not ext4.
const superblockBytes = 4096

// CutMode says what becomes of the writes that no completed flush covers.
type CutMode int

const (
	// CutAny draws one of the other modes for each cut.
	CutAny CutMode = iota
	// CutLost loses all of them: a drive whose cache was never written back.
	CutLost
	// CutKept keeps all of them: a drive without a volatile cache.
	CutKept
	// CutReordered keeps some and loses others, whichever came first. Where several wrote the same sector, any of
	// their versions or the old one remains, but never one that a remaining later version replaced.
	CutReordered
	// CutTorn is CutReordered, and some of the writes keep only some of their sectors of 512 bytes.
	CutTorn
)

// String returns the name used in test output.
func (m CutMode) String() string {
	switch m {
	case CutAny:
		return "any"
	case CutLost:
		return "lost"
	case CutKept:
		return "kept"
	case CutReordered:
		return "reordered"
	case CutTorn:
		return "torn"
	}
	return fmt.Sprintf("CutMode(%d)", int(m))
}

// horizon returns the number of leading records that are durable at the end of recs. A lying disk makes nothing durable when it
// is told to, but its cache is only so large: what cacheBytes of later writes have pushed out is durable too.
func horizon(recs []record, cacheBytes int64) int64 {
	covered, lied := int64(0), int64(-1)
	for i, r := range recs {
		switch r.kind {
		case recordFlushed:
			covered = max(covered, r.data)
		case recordLied:
			lied = int64(i)
		}
	}
	if lied < covered {
		return covered
	}
	var newest int64
	for i := int64(len(recs)) - 1; i >= covered; i-- {
		if recs[i].kind == recordWrite {
			newest += int64(recs[i].length)
		}
		if newest > cacheBytes {
			return i + 1
		}
	}
	return covered
}

// fate decides for the writes beyond the horizon. It returns the byte ranges of a write of length bytes that remain.
type fate struct {
	rng  *rand.Rand
	mode CutMode
	keep float64 // chance of a write to remain whole, drawn per cut so that nearly all and nearly none both happen
	torn float64 // chance of a write to be torn, of those that do not remain whole
}

func newFate(rng *rand.Rand, mode CutMode) *fate {
	if mode == CutAny {
		mode = CutLost + CutMode(rng.IntN(4))
	}
	return &fate{rng: rng, mode: mode, keep: rng.Float64(), torn: rng.Float64()}
}

func (f *fate) remaining(off int64, length uint32, yield func(from, to uint32)) {
	switch f.mode {
	case CutLost:
		return
	case CutKept:
		yield(0, length)
		return
	}
	if f.rng.Float64() < f.keep {
		yield(0, length)
		return
	}
	if f.mode != CutTorn || f.rng.Float64() >= f.torn {
		return
	}
	// Boundaries are those of the disk: a write need not begin on one.
	for from := uint32(0); from < length; {
		at, atomic := off+int64(from), int64(sectorBytes)
		if at < superblockBytes {
			atomic = superblockBytes
		}
		to := uint32(min(int64(length), int64(from)+atomic-at%atomic))
		if f.rng.IntN(2) == 0 {
			yield(from, to)
		}
		from = to
	}
}

// CutAt rebuilds the disk as a power cut at position pos could have left it, in a file of its own; the disk goes on. rng
// decides what mode leaves open, so the same rng state gives the same image. The caller must Close the image before the disk.
func (d *Disk) CutAt(pos int64, rng *rand.Rand, mode CutMode) (_ *Image, err error) {
	recs, err := d.log.prefix(pos)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.images++
	name := fmt.Sprintf("image-%d", d.images)
	d.mu.Unlock()
	f, err := d.newContent(name)
	if err != nil {
		return nil, err
	}
	img := &Image{path: f.Name()}
	err = replay(f, d.log, recs, horizon(recs, d.opts.LieCacheBytes), newFate(rng, mode))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("disk: rebuilding the disk at %d: %w", pos, err), os.Remove(img.path))
	}
	return img, nil
}

// replay applies recs to f: those before durable whole, later ones as fate decides. A write with FUA is durable by itself, but no
// earlier one is because of it.
func replay(f *os.File, log *journal, recs []record, durable int64, fate *fate) error {
	var buf []byte
	for i, r := range recs {
		if r.kind != recordWrite && r.kind != recordZero {
			continue
		}
		if r.kind == recordWrite {
			if int(r.length) > len(buf) {
				buf = make([]byte, r.length)
			}
			if err := log.readAt(buf[:r.length], r); err != nil {
				return err
			}
		}
		var err error
		part := func(from, to uint32) {
			if err == nil {
				piece := record{kind: r.kind, off: r.off + int64(from), length: to - from}
				var p []byte
				if r.kind == recordWrite {
					p = buf[from:to]
				}
				err = apply(f, piece, p)
			}
		}
		if int64(i) < durable || r.fua {
			part(0, r.length)
		} else {
			fate.remaining(r.off, r.length, part)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
