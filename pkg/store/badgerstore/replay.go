package badgerstore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/wal"
)

// replay hands badger what is in the log and in no table. Several transactions go as
// one, under the version of the last: nobody can ask for a moment between them any
// more, and badger takes each of these whole or not at all.
func (s *Store) replay() error {
	tables := s.db.MaxVersion()
	s.wal.Release(tables)
	var puts []put
	var at map[string]int
	var bytes int
	last := tables
	hand := func() error {
		if len(puts) == 0 {
			return nil
		}
		if err := s.sink.Ready(); err != nil {
			return err
		}
		taken := make(chan error, 1)
		if err := s.hand(last, puts, func(err error) { taken <- err }); err != nil {
			return err
		}
		err := errors.Join(<-taken, s.sink.Wrote(last, logged(puts)))
		puts, at, bytes = nil, nil, 0
		return err
	}
	n := 0
	err := s.wal.Replay(tables, func(version uint64, rec []byte) error {
		n++
		// A part of this one goes under the version before it: until the last part is
		// in a table, all of it is replayed again.
		last = version - 1
		var failed error
		err := wal.EachChange(append([]byte(nil), rec...), func(k string, v []byte) { // values outlive the call
			p := put{k, v}
			if size := len(p.k) + len(p.v) + putOverhead; failed == nil && len(puts) > 0 && (bytes+size >= s.maxBytes || len(puts) >= s.groupPuts) {
				failed = hand()
			}
			if at == nil {
				at = map[string]int{}
			}
			bytes += len(p.k) + len(p.v) + putOverhead
			if i, ok := at[p.k]; ok {
				puts[i] = p
				return
			}
			at[p.k] = len(puts)
			puts = append(puts, p)
		})
		last = version
		if err = errors.Join(err, failed); err != nil {
			return fmt.Errorf("record %d of the log: %w", version, err)
		}
		return nil
	})
	if err == nil {
		err = hand()
	}
	if err != nil {
		return err
	}
	s.ts.Store(max(s.ts.Load(), last, s.wal.Last()))
	s.db.SetDiscardTs(s.ts.Load())
	if n > 0 {
		s.log.Debug("read the log of the last run", "transactions", n)
	}
	return nil
}

// dropPrefix drops every record whose key begins so, from the tables and the log.
func (s *Store) dropPrefix(prefixes ...[]byte) error {
	if err := s.sink.Ready(); err != nil {
		return err
	}
	if err := s.db.DropPrefix(prefixes...); err != nil {
		return err
	}
	return s.relog()
}

// relog takes what was dropped out of the log, too: everything else in it is in
// tables by now.
func (s *Store) relog() error {
	all, err := s.sink.AllFlushed()
	if err != nil || !all {
		return err // nothing was dropped
	}
	if err = s.wal.Restart(); errors.Is(err, unix.ENOSPC) {
		s.log.Warn("no room for a new log: what was dropped stays in the old one until it is written over")
		err = s.wal.Clean()
	}
	return err
}
