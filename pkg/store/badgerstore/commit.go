package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/wal"
)

// Group commit. Everybody who writes puts a job into one bounded queue; the
// committer, one goroutine, takes what waits there, works it out in one tx,
// commits that as one badger transaction and syncs it once. While it syncs, the
// next group gathers: that is all the waiting there is.

const (
	// queueJobs bounds the jobs that wait. More callers wait at the door, each
	// with its own context; nothing is dropped.
	queueJobs = 1024
	// A group is closed when it holds this share of what one badger transaction
	// may hold, or this many jobs.
	groupJobs = 1024
	// backlogEvery is how often the committer looks whether badger has caught up.
	backlogEvery = 5 * time.Millisecond
)

// job is one write. Who submitted it waits for done; run and taken belong to
// the committer from the moment state is taken.
type job struct {
	run func(*tx) error
	// alone makes the job the first and only one of its group.
	alone bool
	// after, if set, runs on the committer once the group is durable and before
	// the submitter is answered.
	after  func() error
	writes int
	state  atomic.Int32 // waiting, taken, abandoned, stored
	err    error
	done   chan error
}

// errLeave is a job's answer that all shall stay as it is: no error, but
// nothing of the job is kept.
var errLeave = errors.New("leave as it is")

const (
	waiting int32 = iota
	taken
	abandoned
	stored // durable and visible
)

func errClosed() error { return im.E(im.Unavailable, "the store is closed") }

func gaveUp(cause error) error {
	return &im.Error{Kind: im.Unavailable, Message: "gave up waiting for the store", Op: "store", Cause: cause}
}

// refusal returns the error for a write while the store takes none.
func (s *Store) refusal() error {
	st := s.state.Load()
	if st.state == store.Writable {
		return nil
	}
	e := &im.Error{Kind: im.Unavailable, Message: st.reason, Op: "store write"}
	if st.state == store.Full {
		e.RetryAfter = time.Second
	}
	return e
}

// submit runs a job through the committer and returns when it is durable, or
// refused, or, before the committer took it, ctx is done.
func (s *Store) submit(ctx context.Context, j *job) error {
	if err := s.refusal(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return gaveUp(err)
	}
	j.done = make(chan error, 1)
	select {
	case s.queue <- j:
	case <-ctx.Done():
		return gaveUp(ctx.Err())
	case <-s.quit:
		return errClosed()
	}
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		if j.state.CompareAndSwap(waiting, abandoned) {
			return gaveUp(ctx.Err())
		}
	case <-s.drained: // the committer ended; it answers everything it took
		if j.state.CompareAndSwap(waiting, abandoned) {
			return errClosed()
		}
	case <-s.failed:
	}
	// The committer has it. A store that failed may have it hang in badger for
	// good; what is not stored by then never will be.
	select {
	case err := <-j.done:
		return err
	case <-s.failed:
		if j.state.Load() == stored {
			return <-j.done
		}
		return s.refusal()
	}
}

// commitLoop is the committer. It ends when quit is closed.
func (s *Store) commitLoop() {
	defer close(s.drained)
	var next *job
	for {
		j := next
		next = nil
		if j == nil {
			select {
			case j = <-s.queue:
			case <-s.quit:
				return
			}
		}
		next = s.group(j)
	}
}

// group gathers what waits behind first, commits it and answers everybody. It
// returns a job that it took from the queue but that must be alone.
func (s *Store) group(first *job) (next *job) {
	start := s.mono()
	if err := s.refuseNow(); err != nil {
		s.answer(first, err)
		return nil
	}
	t, err := s.beginTx()
	if err != nil {
		s.answer(first, err)
		return nil
	}
	defer t.end()
	writes := 0
	for j := first; j != nil; {
		if j.state.CompareAndSwap(waiting, taken) || j == first && j.state.Load() == taken {
			m := t.mark()
			if j.err = j.run(t); j.err != nil {
				t.back(m)
			}
			if j.err == errLeave {
				j.err, j.after = nil, nil
			}
			t.jobs = append(t.jobs, j)
			writes += j.writes
		}
		if j.alone || len(t.jobs) >= groupJobs || t.full() {
			break
		}
		select {
		case j = <-s.queue:
			if j.alone && len(t.jobs) > 0 {
				next, j = j, nil
			}
		default:
			j = nil
		}
	}
	s.sign(t)
	if err = s.commit(t); err == nil {
		s.batches.Add(1)
		s.writes.Add(uint64(writes))
		s.entries.Add(uint64(t.entries))
		d := s.mono() - start
		s.commitNanos.Add(uint64(d))
		if s.opt.OnCommit != nil {
			s.opt.OnCommit(writes, d)
		}
	}
	for _, j := range t.jobs {
		if j.err == nil {
			j.err = err
		}
		if j.err == nil && j.after != nil {
			j.err = j.after()
		}
		j.done <- j.err
	}
	s.wal.Ahead()
	return next
}

func (s *Store) answer(j *job, err error) {
	if j.state.CompareAndSwap(waiting, taken) || j.state.Load() == taken {
		j.done <- err
	}
}

// refuseNow checks right before a commit that there is room for it.
func (s *Store) refuseNow() error {
	if err := s.refusal(); err != nil {
		return err
	}
	s.checkSpace()
	// Badger would hold the committer while it makes tables of what was logged,
	// for good if a full disk holds those. So the store waits itself, where it
	// can still refuse. It has no event for that.
	for s.refusal() == nil && s.sink.Backlog() >= memTables {
		time.Sleep(backlogEvery)
		s.checkSpace()
	}
	if err := s.refusal(); err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		if !errors.Is(err, unix.ENOSPC) {
			s.failStop(err, s.ts.Load()+1)
			return s.refusal()
		}
		s.setState(store.Full, fullReason)
	}
	return s.refusal()
}

func (s *Store) beginTx() (*tx, error) {
	r, err := s.read(context.Background())
	if err != nil {
		return nil, err
	}
	return &tx{snap: r, puts: map[string][]byte{}, change: im.Change(s.change.Load()), newTenants: map[im.TenantID]space{}}, nil
}

// sign adds what the store itself keeps up with each commit.
func (s *Store) sign(t *tx) {
	if len(t.puts) == 0 {
		return
	}
	if t.drew {
		t.put(box(boxChange), encodeUint(uint64(t.change)))
	}
	if rec, due := s.clock.due(); due {
		t.put(box(boxClock), rec.encode())
	}
}

// commit makes a tx durable and then visible. After an error nothing of it is
// ever visible and the store has failed stop.
func (s *Store) commit(t *tx) error {
	if t.cut(); len(t.pieces) == 0 {
		return nil
	}
	ts := s.ts.Load()
	from := ts + 1
	s.wal.Begin()
	err := func() error {
		for _, piece := range t.pieces {
			ts++
			if err := s.flush(ts, piece); err != nil {
				return err
			}
		}
		return nil
	}()
	if err != nil {
		s.failStop(err, from)
		return s.refusal()
	}
	if !s.publish(ts, t.jobs) {
		return s.refusal()
	}
	s.change.Store(uint64(t.change))
	s.spaces.add(t.newTenants)
	s.db.SetDiscardTs(s.pins.oldest(ts))
	return nil
}

// publish lets reads see everything up to version ts, unless the store failed
// in the meantime: then badger's word that all is well counts no more.
func (s *Store) publish(ts uint64, jobs []*job) bool {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	if s.state.Load().state == store.Failed {
		return false
	}
	s.ts.Store(ts)
	for _, j := range jobs {
		if j.err == nil {
			j.state.Store(stored)
		}
	}
	return true
}

// room is what the log must have room for: the longest record.
func (s *Store) room() int { return int(s.opt.MemTableBytes / 6) }

// ready makes sure that neither the log nor badger's lack a place for a transaction.
func (s *Store) ready() error {
	if err := s.sink.Ready(); err != nil {
		return err
	}
	s.wal.Release(s.sink.Flushed())
	return s.wal.Ready(s.room())
}

// flush makes one transaction durable and has badger take it meanwhile, into memory:
// nobody sees it there before publish, and it becomes no table before the next one is
// written.
func (s *Store) flush(ts uint64, puts []put) error {
	if err := s.ready(); err != nil { // of a second piece; the first found it ready
		return err
	}
	s.logBuf = s.logBuf[:0]
	for _, p := range puts {
		s.logBuf = wal.AppendChange(s.logBuf, p.k, p.v)
	}
	taken := make(chan error, 1)
	if err := s.hand(ts, puts, func(err error) { taken <- err }); err != nil {
		return err
	}
	err := s.wal.Append(ts, s.logBuf)
	err = errors.Join(err, <-taken, s.sink.Wrote(ts, logged(puts)))
	if cap(s.logBuf) > 64<<10 {
		s.logBuf = nil
	}
	return err
}

// hand gives badger a transaction; done hears when it is in memory.
func (s *Store) hand(ts uint64, puts []put, done func(error)) error {
	txn := s.db.NewTransactionAt(ts-1, true)
	defer txn.Discard()
	for _, p := range puts {
		var err error
		if p.v == nil {
			err = txn.Delete([]byte(p.k))
		} else {
			err = txn.Set([]byte(p.k), p.v)
		}
		if err != nil {
			return fmt.Errorf("transaction of %d records: %w", len(puts), err)
		}
	}
	return txn.CommitAt(ts, done)
}

// logged is about how many bytes badger logs for a transaction.
func logged(puts []put) int {
	n := 40 // its end
	for _, p := range puts {
		n += len(p.k) + len(p.v) + 19 // meta, lengths, version, checksum
	}
	return n
}

// failStop takes no write any more until the store is opened anew (DESIGN 5.6).
// What was written of the failed commit is cut off the log again, so that no
// restart brings back what was refused.
func (s *Store) failStop(cause error, from uint64) {
	// Cut first: who is refused shall not meet the write again after a restart.
	if err := s.wal.Cut(from); err != nil {
		s.log.Error("store failed: could not cut off the failed write", "cause", err)
	}
	s.log.Error("store failed: a write or flush did not succeed", "cause", cause)
	s.setState(store.Failed, "writing to the storage failed; the server must be restarted, and the card or disk checked")
}
