package badgerstore

import (
	"context"
	"errors"
	"io"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/snapshot"
)

// A backup (package snapshot) holds all records of one moment. Values keep their
// checksums: what was damaged in the store is damaged in the backup and in what
// is restored from it, and is noticed there as here.

// notInBackup says which records belong to the running store and not to its
// content.
func notInBackup(p parts) bool {
	if p.space.n != 0 {
		return false
	}
	return p.kind == boxEpoch || p.kind == boxClock || p.kind == boxProbe || p.kind == boxRestore || p.kind == boxErasing
}

// Backup implements store.Admin. Damaged records go along as they are.
func (s *Store) Backup(ctx context.Context, w io.Writer) (err error) {
	r, err := s.read(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	spaces := map[uint32]bool{}
	for _, sp := range s.spaces.all() {
		spaces[sp.n] = true
	}
	defer s.caught(nil, debug.SetPanicOnFault(true), &err)
	out := snapshot.NewWriter(w)
	// The clock as it is now and not as it was last written: nobody's sign-in
	// shall live longer for having been restored.
	clock := box(boxClock)
	if err := out.Record(clock.b, seal(clock, s.clock.peek().encode())); err != nil {
		return im.Wrap("store backup", err)
	}
	it := r.txn.NewIterator(badger.IteratorOptions{PrefetchValues: false})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		k := item.Key()
		p, perr := parse(k)
		if perr == nil && (notInBackup(p) || p.space.n != 0 && !spaces[p.space.n]) {
			continue
		}
		if out.Records()%1000 == 0 && ctx.Err() != nil {
			return gaveUp(ctx.Err())
		}
		var werr error
		verr := item.Value(func(v []byte) error {
			werr = out.Record(k, v)
			return nil
		})
		switch {
		case verr != nil:
			return s.damaged(k, verr)
		case werr != nil:
			return im.Wrap("store backup", werr)
		}
	}
	return im.Wrap("store backup", out.Close())
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
		in, err := snapshot.NewReader(r)
		if err != nil {
			return err
		}
		err = s.restore(ctx, in)
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
	if err := s.dropPrefix(all...); err != nil {
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
func (s *Store) restore(ctx context.Context, in *snapshot.Reader) error {
	t, err := s.beginTx()
	if err != nil {
		return err
	}
	t.put(box(boxRestore), begin(0))
	for more := true; more; {
		var k, v []byte
		k, v, err = in.Next()
		more = !errors.Is(err, io.EOF)
		if err != nil && more {
			break
		}
		err = nil
		if more {
			if p, perr := parse(k); perr != nil || notInBackup(p) && p.kind != boxClock {
				err = snapshot.Damaged(errors.New("a record that is none of ours"))
				break
			}
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
	t.end()
	if err != nil {
		return err
	}
	return s.adopt()
}

// adopt makes what was restored the store's content.
func (s *Store) adopt() error {
	if err := s.load(); err != nil {
		return snapshot.Damaged(err)
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
