package badgerstore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/pipit-im/pipit/pkg/im"
)

// A backup is a line that names its format, then all records of one snapshot,
// each as key length, key, value length, value (lengths as varints), then a key
// length of 0, the number of records (8 bytes), and the SHA-256 of everything
// before. Values keep their checksums: what was damaged in the store is damaged
// in the backup and in what is restored from it, and is noticed there as here.

const (
	backupName   = "pipit backup format "
	backupFormat = 1
	maxBackupKey = 1 << 16
	maxBackupVal = 4 << 20
)

// notInBackup says which records belong to the running store and not to its
// content.
func notInBackup(p parts) bool {
	if p.space.n != 0 {
		return false
	}
	return p.kind == boxEpoch || p.kind == boxClock || p.kind == boxProbe || p.kind == boxRestore || p.kind == boxErasing
}

// Backup implements store.Admin. Damaged records go along as they are.
func (s *Store) Backup(ctx context.Context, w io.Writer) error {
	r, err := s.read(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	spaces := map[uint32]bool{}
	for _, sp := range s.spaces.all() {
		spaces[sp.n] = true
	}
	sum := sha256.New()
	buf := bufio.NewWriterSize(w, 64<<10)
	out := io.MultiWriter(buf, sum)
	write := func(b []byte) {
		if err == nil {
			_, err = out.Write(b)
		}
	}
	write(fmt.Appendf(nil, "%s%d\n", backupName, backupFormat))
	var n uint64
	var head []byte
	record := func(k, v []byte) {
		n++
		head = binary.AppendUvarint(head[:0], uint64(len(k)))
		write(head)
		write(k)
		head = binary.AppendUvarint(head[:0], uint64(len(v)))
		write(head)
		write(v)
	}
	// The clock as it is now and not as it was last written: nobody's sign-in
	// shall live longer for having been restored.
	clock := box(boxClock)
	record(clock.b, seal(clock, s.clock.peek().encode()))
	it := r.txn.NewIterator(badger.IteratorOptions{PrefetchValues: false})
	defer it.Close()
	for it.Rewind(); it.Valid() && err == nil; it.Next() {
		item := it.Item()
		k := item.Key()
		p, perr := parse(k)
		if perr == nil && (notInBackup(p) || p.space.n != 0 && !spaces[p.space.n]) {
			continue
		}
		if n%1000 == 0 && ctx.Err() != nil {
			return gaveUp(ctx.Err())
		}
		verr := item.Value(func(v []byte) error {
			record(k, v)
			return nil
		})
		if verr != nil {
			return s.damaged(k, verr)
		}
	}
	write(binary.BigEndian.AppendUint64([]byte{0}, n))
	if err == nil {
		_, err = buf.Write(sum.Sum(nil))
	}
	if err == nil {
		err = buf.Flush()
	}
	return im.Wrap("store backup", err)
}

func badBackup(cause error) error {
	return &im.Error{Kind: im.Invalid, Message: "the backup is damaged or cut short; nothing was restored", Op: "store restore", Cause: cause}
}

// Restore implements store.Admin. It runs on the committer: other writes wait.
// Reads see nothing of it until it is done.
func (s *Store) Restore(ctx context.Context, r io.Reader) error {
	return s.submit(ctx, &job{writes: 1, alone: true, run: func(t *tx) error {
		if empty, err := t.empty(); err != nil || !empty {
			if err == nil {
				err = im.E(im.Conflict, "the store is not empty: restore into a new data directory")
			}
			return err
		}
		in := &backupReader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
		if err := in.header(); err != nil {
			return err
		}
		err := s.restore(ctx, in)
		if err != nil && s.refusal() == nil {
			err = errors.Join(err, s.wipe(), s.rename())
		}
		return err
	}})
}

// empty reports whether nothing was ever kept in the store.
func (t *tx) empty() (bool, error) {
	empty := len(t.s.spaces.all()) == 0
	for _, kept := range []key{box(boxSetting), box(boxRecord)} {
		err := t.each(kept, kept, func(_, _ []byte) error {
			empty = false
			return errStop
		})
		if err != nil {
			return false, err
		}
	}
	return empty, nil
}

// rename gives a store that was wiped its epoch anew.
func (s *Store) rename() error {
	t, err := s.beginTx()
	if err != nil {
		return err
	}
	defer t.end()
	epoch := newEpoch()
	t.put(box(boxEpoch), encodeText(string(epoch)))
	t.put(box(boxClock), s.clock.record().encode())
	if err := s.commit(t); err != nil {
		return err
	}
	s.epoch.Store(&epoch)
	return nil
}

// wipe removes every record.
func (s *Store) wipe() error {
	all := make([][]byte, 256)
	for i := range all {
		all[i] = []byte{byte(i)}
	}
	if err := s.db.DropPrefix(all...); err != nil {
		s.failStop(err, s.ts.Load()+1)
		return s.refusal()
	}
	for id := range s.spaces.all() {
		s.spaces.remove(id)
	}
	s.change.Store(0)
	var none im.Epoch
	s.epoch.Store(&none)
	return nil
}

// restore writes what a backup holds. A mark that it is under way is durable
// before the first record and goes with the last step, so that a cut between
// leaves a store that starts empty.
func (s *Store) restore(ctx context.Context, in *backupReader) error {
	t, err := s.beginTx()
	if err != nil {
		return err
	}
	t.put(box(boxRestore), begin(0))
	var n uint64
	for more := true; more; {
		var k, v []byte
		if k, v, more, err = in.next(); err != nil {
			break
		}
		if more {
			n++
			t.set(key{k}, v)
		}
		if t.full() || !more {
			if err = s.commit(t); err != nil {
				break
			}
			t.end()
			if err = ctx.Err(); err != nil {
				return gaveUp(err)
			}
			if t, err = s.beginTx(); err != nil {
				return err
			}
		}
	}
	if err == nil {
		err = in.trailer(n)
	}
	t.end()
	if err != nil {
		return err
	}
	return s.adopt()
}

// adopt makes what was restored the store's content.
func (s *Store) adopt() error {
	if err := s.load(); err != nil {
		return badBackup(err)
	}
	t, err := s.beginTx()
	if err != nil {
		return err
	}
	defer t.end()
	epoch := newEpoch()
	t.put(box(boxEpoch), encodeText(string(epoch)))
	t.put(box(boxClock), s.clock.record().encode())
	t.del(box(boxRestore))
	if err := s.commit(t); err != nil {
		return err
	}
	s.epoch.Store(&epoch)
	return nil
}

// backupReader reads a backup and sums what it reads.
type backupReader struct {
	r   *bufio.Reader
	sum hash.Hash
}

func (b *backupReader) header() error {
	line, err := b.r.ReadSlice('\n')
	if err != nil || !bytes.HasPrefix(line, []byte(backupName)) {
		return badBackup(errors.New("no header"))
	}
	b.sum.Write(line)
	var n int
	if _, err := fmt.Sscanf(strings.TrimPrefix(string(line), backupName), "%d\n", &n); err != nil || n < 1 {
		return badBackup(errors.New("no format in the header"))
	}
	if n > backupFormat {
		return im.E(im.Invalid, "the backup has format %d and this program knows %d: install a newer Pipit", n, backupFormat)
	}
	return nil
}

func (b *backupReader) length(most uint64) (int, error) {
	var raw []byte
	for {
		c, err := b.r.ReadByte()
		if err != nil {
			return 0, badBackup(err)
		}
		raw = append(raw, c)
		if c < 0x80 {
			break
		}
		if len(raw) == binary.MaxVarintLen64 {
			return 0, badBackup(errors.New("bad length"))
		}
	}
	b.sum.Write(raw)
	n, size := binary.Uvarint(raw)
	if size != len(raw) || n > most {
		return 0, badBackup(errors.New("bad length"))
	}
	return int(n), nil
}

func (b *backupReader) bytes(n int) ([]byte, error) {
	v := make([]byte, n)
	if _, err := io.ReadFull(b.r, v); err != nil {
		return nil, badBackup(err)
	}
	b.sum.Write(v)
	return v, nil
}

// next returns the next record; not more at the end.
func (b *backupReader) next() (k, v []byte, more bool, err error) {
	n, err := b.length(maxBackupKey)
	if err != nil || n == 0 {
		return nil, nil, false, err
	}
	if k, err = b.bytes(n); err != nil {
		return nil, nil, false, err
	}
	if n, err = b.length(maxBackupVal); err != nil {
		return nil, nil, false, err
	}
	if v, err = b.bytes(n); err != nil {
		return nil, nil, false, err
	}
	if p, perr := parse(k); perr != nil || notInBackup(p) && p.kind != boxClock {
		return nil, nil, false, badBackup(errors.New("a record that is none of ours"))
	}
	return k, v, true, nil
}

func (b *backupReader) trailer(n uint64) error {
	count, err := b.bytes(8)
	if err != nil {
		return err
	}
	want := b.sum.Sum(nil)
	sum, err := b.bytes(sha256.Size)
	if err != nil {
		return err
	}
	if binary.BigEndian.Uint64(count) != n || !bytes.Equal(sum, want) {
		return badBackup(errors.New("checksum or count does not match"))
	}
	if _, err := b.r.ReadByte(); !errors.Is(err, io.EOF) {
		return badBackup(errors.New("something follows the end"))
	}
	return nil
}
