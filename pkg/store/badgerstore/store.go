// Package badgerstore is the store of the box: package store's contract on one
// directory of badger files.
//
// It owns that directory and everything in it. It commits all writes through
// one goroutine, one transaction and one sync for whatever waits (commit.go),
// checks a checksum on every read, notices a full disk before badger does, and
// fails stop when a write or flush did not succeed. It never decides what may
// be done: that is the domain's.
//
// Goroutines: the committer, the keeper (space, reserve, clock), the scrubber,
// and badger's own; Close ends and awaits all of them. All methods may be
// called from any goroutine.
//
// The contract is written in package store; key layout, file formats, sizes and
// what each decision was measured with in DESIGN.md beside this file.
package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/pipit-im/pipit/pkg/badgerlog"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/wal"
)

// Options say where a store is and how big it may get. The zero value of a size
// means its default.
type Options struct {
	Dir      string // made if it is not there
	ReadOnly bool   // for looking at a store that was shut down cleanly

	MemTableBytes int64 // 8 MiB; 2 MiB at least. Two to three are in memory
	CacheBytes    int64 // 8 MiB; of decompressed blocks
	LowWaterBytes int64 // 192 MiB (20 memtables + 32 MiB), less with small memtables; with less free, writes are refused
	ReserveBytes  int64 // 5 memtables; negative: no reserve file

	// ScrubInterval is how long one slow reading of everything takes at least;
	// 0: seven days, negative: never.
	ScrubInterval time.Duration

	Wall func() time.Time     // the wall clock; default time.Now
	Mono func() time.Duration // the monotonic clock; default since the start of the process
	Log  *slog.Logger         // default discards

	// OnCommit, if set, hears of each commit on the committer's goroutine: how
	// many writes were in it and how long it took, sync included. It must not
	// block.
	OnCommit func(writes int, took time.Duration)
	// OnDamage, if set, hears of each damaged record that is found, by place.
	OnDamage func(store.Damage)

	// NoSync leaves out every sync, for proving that a power-cut rig notices.
	// It is refused unless the environment has PIPIT_UNSAFE_NO_SYNC=yes.
	NoSync bool

	statfs    func() (int64, error) // in tests, answers in place of the file system
	syncFault func() error          // in tests, answers in place of the disk
	unwatched bool                  // in tests: no filter, which every program started from here would inherit
}

func (o *Options) defaults() error {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.MemTableBytes, 8<<20)
	def(&o.CacheBytes, 8<<20)
	merge, _ := o.levelZero()
	def(&o.LowWaterBytes, int64(merge+8)*o.MemTableBytes+32<<20)
	def(&o.ReserveBytes, 5*o.MemTableBytes)
	o.ReserveBytes = max(o.ReserveBytes, 0)
	if o.ScrubInterval == 0 {
		o.ScrubInterval = 7 * 24 * time.Hour
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Mono == nil {
		start := time.Now()
		o.Mono = func() time.Duration { return time.Since(start) }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Dir == "":
		return errors.New("no directory was given")
	case o.MemTableBytes < 2<<20:
		return fmt.Errorf("a memtable of %d bytes is too small: 2 MiB at least", o.MemTableBytes)
	case o.NoSync && os.Getenv("PIPIT_UNSAFE_NO_SYNC") != "yes":
		return errors.New("NoSync is for tests only: set PIPIT_UNSAFE_NO_SYNC=yes")
	}
	return nil
}

// Store is an open store.
type Store struct {
	opt  Options
	log  *slog.Logger
	mono func() time.Duration
	lock *os.File
	db   *badger.DB
	wal  *wal.Log        // committer
	sink *badgerlog.Sink // committer

	logBuf []byte // committer; of flush

	groupBytes, groupPuts int // what closes a group: half of what one badger transaction takes
	maxBytes, maxPuts     int // what one Write may have: nearly all of that

	ts     atomic.Uint64 // version of the newest durable commit; only the committer raises it
	change atomic.Uint64
	epoch  atomic.Pointer[im.Epoch]
	spaces registry
	pins   pins
	clock  clock

	stateMu sync.Mutex // guards changes of state, and that ts rises only while not Failed
	state   atomic.Pointer[status]
	failed  chan struct{} // closed when Failed

	queue   chan *job
	quit    chan struct{}  // closed by Close
	drained chan struct{}  // closed when the committer ended
	running sync.WaitGroup // keeper and scrubber
	gate    gate
	unwatch func() // ends watchFiles
	closing sync.Once
	closeOK error

	batches, writes, entries, commitNanos atomic.Uint64
	damages, scrubbed                     atomic.Uint64
	freeBytes, reserve                    atomic.Int64
	noReserve                             atomic.Bool // the file system can give no file its blocks beforehand
}

var _ store.Store = (*Store)(nil)

// Close ends everything and lets go of the directory. Writes that wait are
// refused, reads under way are waited for. A store that failed or is full is
// left as a power cut would leave it, since badger writes at its end: all that
// was acknowledged is there; the directory stays locked until the process ends.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeOK = s.close() })
	return s.closeOK
}

func (s *Store) close() error {
	if s.refusal() == nil {
		// The clock of a clean stop loses nothing; of any other, a minute.
		if err := s.saveClock(context.Background()); err != nil {
			s.log.Warn("could not write the clock", "cause", err)
		}
	}
	close(s.quit)
	<-s.drained
	s.running.Wait()
	s.pins.close()
	if s.opt.ReadOnly {
		return errors.Join(s.db.Close(), s.lock.Close())
	}
	if s.checkSpace(); s.refusal() != nil {
		s.log.Warn("the store is left without closing its files")
		return nil
	}
	err := s.db.Close()
	s.unwatch()
	if err == nil { // all is in tables now
		if cerr := s.wal.Clean(); cerr != nil {
			s.log.Warn("the log could not be ended: the next start reads it again", "cause", cerr)
		}
	}
	return errors.Join(err, s.sink.Close(), s.wal.Close(), wal.SyncDir(s.opt.Dir), s.lock.Close())
}
