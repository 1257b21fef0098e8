package badgerstore

import (
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/badgerdir"
	"github.com/pipit-im/pipit/pkg/badgerlog"
	"github.com/pipit-im/pipit/pkg/prealloc"
	"github.com/pipit-im/pipit/pkg/store"
)

const reserveName = "reserve"

// status is the state of the store with its reason for people.
type status struct {
	state  store.State
	reason string
}

// setState changes the state; Failed and ReadOnly are never left again.
func (s *Store) setState(to store.State, reason string) {
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	was := s.state.Load()
	if was.state == to || was.state == store.Failed || was.state == store.ReadOnly {
		return
	}
	s.state.Store(&status{to, reason})
	if to == store.Failed {
		close(s.failed)
	}
	s.log.Info("store state changed", "from", was.state.String(), "to", to.String())
}

// free returns the bytes that the file system has left for this process.
func (s *Store) free() (int64, error) {
	if s.opt.statfs != nil {
		return s.opt.statfs()
	}
	return prealloc.Free(s.opt.Dir)
}

const fullReason = "the storage is full; nothing can be written until there is room again"

// checkSpace goes between Writable and Full. Coming back needs an eighth more
// than leaving, so that the store does not flutter at the mark, and that badger
// has made its tables and the keeper the reserve. It is called before every
// commit and by the keeper; only the keeper finds it Full.
func (s *Store) checkSpace() {
	free, err := s.free()
	if err != nil {
		s.log.Warn("cannot tell the free space", "cause", err)
		return
	}
	s.freeBytes.Store(free)
	// The reserve goes before writes: while it is not there, its room does not
	// count, or the next start on a full disk would have nothing to give up.
	mark := s.opt.LowWaterBytes
	if !s.noReserve.Load() {
		mark += max(s.opt.ReserveBytes-s.reserve.Load(), 0)
	}
	switch full := s.state.Load().state == store.Full; {
	case !full && free < mark:
		s.setState(store.Full, fullReason)
	case full && free >= mark+s.opt.LowWaterBytes/8 && !s.flushing():
		s.setState(store.Writable, "")
	}
}

// Every keepEvery the keeper looks after space, reserve and clock.
const (
	keepEvery     = time.Second
	keepEveryFull = 200 * time.Millisecond
)

// keepLoop is the keeper. It ends when quit is closed.
func (s *Store) keepLoop() {
	defer s.running.Done()
	for {
		every := keepEvery
		if s.state.Load().state == store.Full {
			every = keepEveryFull
		}
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-s.quit:
			timer.Stop()
			return
		}
		s.keepReserve() // goes before writes
		s.checkSpace()
		s.keepManifest()
		s.keepClock()
	}
}

// manifestAhead is how much room the manifest is given beforehand: an append
// that is cut short by a full disk would break it for good.
const manifestAhead = 64 << 10

func (s *Store) keepManifest() { badgerdir.RoomForManifest(s.opt.Dir, manifestAhead) }

// keepReserve makes the reserve file when there is room for it: real blocks
// that the next start gives up so that it can open a full store. While the
// store is full a smaller one is better than none.
func (s *Store) keepReserve() {
	if s.opt.ReserveBytes == 0 {
		return
	}
	have := prealloc.ReserveSize(s.reserveFile())
	s.reserve.Store(have)
	if have >= s.opt.ReserveBytes || s.flushing() {
		return
	}
	free, err := s.free()
	if err != nil {
		return
	}
	want := s.opt.ReserveBytes
	if free < s.opt.LowWaterBytes+want {
		if s.state.Load().state != store.Full {
			return
		}
		want = min(want, have+free-1<<20)
	}
	if want <= have || want < s.opt.MemTableBytes {
		return
	}
	switch err := prealloc.MakeReserve(s.reserveFile(), want); {
	case errors.Is(err, errors.ErrUnsupported):
		s.noReserve.Store(true) // such a file system cannot be helped
	case err != nil:
		s.log.Warn("could not make the reserve file", "cause", err)
	}
	s.reserve.Store(prealloc.ReserveSize(s.reserveFile()))
}

// flushing reports whether badger still has to make tables of logs: what is
// free is for those first.
func (s *Store) flushing() bool {
	n, err := badgerlog.Used(s.opt.Dir)
	return err != nil || n > 1
}

// watchFiles gives every file that badger writes through a mapping its blocks
// when badger sizes it: a table waits for room, whatever strangers do meanwhile.
// The first page is all that badger writes of a value log, its statistics, and its
// first log before that becomes memory.
func (s *Store) watchFiles() {
	if s.opt.ReadOnly || s.opt.unwatched {
		return
	}
	stop, err := prealloc.Watch(s.opt.Dir, func(name string, size int64) (blocks int64, wait bool) {
		switch filepath.Ext(name) {
		case ".sst":
			return size, true
		case ".mem", ".vlog", "":
			return min(size, 4096), false
		}
		return 0, false
	})
	if err != nil {
		s.log.Warn("a disk that strangers fill within moments may end the server here", "cause", err)
		return
	}
	s.unwatch = stop
}

func (s *Store) reserveFile() string { return filepath.Join(s.opt.Dir, reserveName) }

// slotBytes is the size of a slot of the log.
func (s *Store) slotBytes() int64 { return s.opt.MemTableBytes / 2 }

// gate holds compactions back while there is too little room for what they are
// about to write: a table written without room is a SIGBUS. Above the low-water
// mark, which has room for any compaction, it is open; below, it lets one table
// through at a time.
type gate struct {
	mu  sync.Mutex // held by who is let through next
	let time.Time  // when one was let through last
	// seen counts the tables that came to the gate.
	seen atomic.Uint64
}

const gateEvery = 100 * time.Millisecond

// waitForRoom is called on badger's goroutines, right before one writes a
// compacted table.
func (s *Store) waitForRoom() {
	if free, err := s.free(); err != nil || free >= s.opt.LowWaterBytes {
		return
	}
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	for {
		free, err := s.free()
		if err != nil || free >= s.opt.LowWaterBytes || free >= s.tableRoom()-prealloc.ReserveSize(s.reserveFile()) && time.Since(s.gate.let) >= gateEvery && badgerdir.Landed(s.opt.Dir) {
			s.gate.let = time.Now()
			return
		}
		time.Sleep(gateEvery) // a disk's room has no event to wait for
	}
}

// tableRoom is what must be free for one table, which may be all of level 0, and
// for the reserve, which goes first.
func (s *Store) tableRoom() int64 {
	_, stall := s.opt.levelZero()
	return int64(stall)*s.opt.MemTableBytes + 4<<20 + s.opt.ReserveBytes
}
