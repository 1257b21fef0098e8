package badgerstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/badgerlog"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/prealloc"
	"github.com/pipit-im/pipit/pkg/store"
)

// Reason is why a store did not open.
type Reason uint8

// The reasons.
const (
	Held         Reason = iota + 1 // another process has it
	NotWritable                    // no permission, a read-only file system, no such place
	Damaged                        // what is there cannot be right
	NewerFormat                    // written by a newer Pipit
	NoRoom                         // the disk is full, and the reserve is gone
	NeedsRecover                   // was not shut down cleanly: cannot be opened read-only
)

// OpenError says why a store did not open, in one plain sentence with the way
// out. The cause is for the log.
type OpenError struct {
	Reason   Reason
	Sentence string
	Cause    error
}

func (e *OpenError) Error() string {
	if e.Cause == nil {
		return e.Sentence
	}
	return e.Sentence + " [" + e.Cause.Error() + "]"
}

// Unwrap returns the cause.
func (e *OpenError) Unwrap() error { return e.Cause }

func cannotOpen(r Reason, cause error, sentence string, args ...any) *OpenError {
	return &OpenError{r, fmt.Sprintf(sentence, args...), cause}
}

func damagedDir(dir string, cause error) *OpenError {
	return cannotOpen(Damaged, cause,
		"The data in %s is damaged: stop here, copy that directory away, and restore the newest backup with \"pipit restore\".", dir)
}

// Open opens the store in a directory, making it if there is none. Whatever a
// power cut left there, it opens; it returns an *OpenError if it cannot.
func Open(o Options) (*Store, error) {
	if err := o.defaults(); err != nil {
		return nil, fmt.Errorf("store options: %w", err)
	}
	lock, err := lockDir(&o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opt: o, log: o.Log, mono: o.Mono, lock: lock,
		failed: make(chan struct{}), unwatch: func() {},
		queue: make(chan *job, queueJobs), quit: make(chan struct{}), drained: make(chan struct{}),
	}
	s.spaces.m = map[im.TenantID]space{}
	s.clock.wall, s.clock.mono = o.Wall, o.Mono
	s.state.Store(&status{state: store.Writable})
	if err := s.openFiles(); err != nil {
		s.unwatch()
		lock.Close()
		return nil, err
	}
	giveUp := func(err error) error {
		if s.sink != nil {
			err = errors.Join(err, s.db.Close(), s.sink.Close(), s.wal.Close(), lock.Close())
		} else {
			err = errors.Join(err, s.db.Close(), lock.Close())
		}
		s.unwatch()
		return err
	}
	if err := s.load(); err != nil {
		return nil, giveUp(err)
	}
	if o.ReadOnly {
		s.state.Store(&status{store.ReadOnly, "the store was opened for reading only"})
		close(s.drained)
		return s, nil
	}
	if err := s.prepare(); err != nil {
		return nil, giveUp(err)
	}
	s.checkSpace()
	s.keepReserve()
	s.keepManifest()
	go s.commitLoop()
	s.running.Add(1)
	go s.keepLoop()
	if o.ScrubInterval > 0 {
		s.running.Add(1)
		go s.scrubLoop()
	}
	return s, nil
}

const lockName = "pipit.lock"

// lockDir makes sure that the directory is there, may be written, and is held
// by nobody else.
func lockDir(o *Options) (*os.File, error) {
	notWritable := func(err error) error {
		if errors.Is(err, unix.ENOSPC) {
			return noRoom(o.Dir, err)
		}
		return cannotOpen(NotWritable, err,
			"The data directory %s cannot be written: check that it exists and belongs to the user the server runs as, and that the card is not write-protected.", o.Dir)
	}
	flags, how := os.O_RDWR|os.O_CREATE, unix.LOCK_EX
	if o.ReadOnly {
		flags, how = os.O_RDONLY, unix.LOCK_SH
	} else if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, notWritable(err)
	}
	name := filepath.Join(o.Dir, lockName)
	f, err := os.OpenFile(name, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) && o.ReadOnly {
		return nil, cannotOpen(NotWritable, err, "There is no store in %s: check the path of the data directory.", o.Dir)
	}
	if errors.Is(err, unix.ENOSPC) && prealloc.DropReserve(filepath.Join(o.Dir, reserveName)) == nil {
		f, err = os.OpenFile(name, flags, 0o600)
	}
	if err != nil {
		return nil, notWritable(err)
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, cannotOpen(Held, err,
			"The data directory %s is in use by another Pipit process: stop that one first, or choose another data_dir.", o.Dir)
	}
	return f, nil
}

func noRoom(dir string, cause error) *OpenError {
	return cannotOpen(NoRoom, cause, "The disk that holds %s is full: delete something else from it, then start again.", dir)
}

// memTables is how many full memtables may wait to become tables.
const memTables = 2

// levelZero is how many tables of level 0 are merged into the next level, and stall
// how many it may have. The more wait, the more a merge moves at once, and the less
// often what lies below is written again, which is what a card wears by. With small
// memtables the disk is small: fewer wait, and take less room.
func (o *Options) levelZero() (merge, stall int) {
	merge = int(min(max(12*o.MemTableBytes/(8<<20), 4), 12))
	return merge, merge*3/2 + 2
}

// badger's options are sized for a Pi; DESIGN.md has the figures behind them.
func (o *Options) badger(log *badgerLog) badger.Options {
	b := badger.DefaultOptions(o.Dir)
	b.BypassLockGuard = true // the store has its own lock, taken before anything is looked at
	b.ReadOnly = o.ReadOnly
	b.Logger = log
	b.MetricsEnabled = false
	b.SyncWrites = false // its log is nowhere: see badgerlog.Sink
	b.DetectConflicts = false
	b.NumVersionsToKeep = 1
	b.MemTableSize = o.MemTableBytes
	b.NumMemtables = memTables
	b.BlockCacheSize = o.CacheBytes
	b.IndexCacheSize = 0 // indexes are used where they are mapped
	b.Compression = compression
	b.ChecksumVerificationMode = options.OnBlockRead
	b.NumCompactors = 2
	b.NumLevelZeroTables, b.NumLevelZeroTablesStall = o.levelZero() // bounds what one compaction may need
	b.BaseLevelSize = 8 * o.MemTableBytes                           // a store of up to this has one level below level 0
	b.NumGoroutines = 1
	// A compaction builds up to a dozen tables at once, each in memory of some
	// times its size: small tables, and none bigger further down.
	b.BaseTableSize = 1 << 20
	b.TableSizeMultiplier = 1
	b.ValueLogFileSize = 1 << 20
	b.ValueThreshold = min(1<<20, o.MemTableBytes*15/100) // all values in the LSM
	if strconv.IntSize == 32 {
		// Where int has 32 bits, the allocator below badger's table builder
		// (ristretto z.Allocator, an int shifted by 32) begins anew at the start of
		// its first buffer when that is full, over what is there. So everything
		// that goes into a table must fit the first, which is twice its size:
		// nothing compressed beside it, blocks that a message does not burst, all
		// tables of one size and that above a memtable's.
		b.BlockSize = 64 << 10
		b.BaseTableSize = o.MemTableBytes * 5 / 4
	}
	return b
}

// compression is what new tables get.
var compression = func() options.CompressionType {
	if strconv.IntSize == 32 {
		return options.None
	}
	return options.Snappy
}()

// openFiles opens badger on files that were looked over before.
func (s *Store) openFiles() error {
	o := &s.opt
	format, oldLogs := 0, []int(nil)
	if o.ReadOnly {
		if err := checkReadOnly(o.Dir); err != nil {
			return err
		}
	} else {
		var err error
		var need int64
		if format, oldLogs, need, err = tidy(o.Dir); err != nil {
			return err
		}
		if err := s.openLog(format); err != nil {
			return err
		}
		if err := s.makeRoom(need + s.wal.Logged()); err != nil {
			return errors.Join(err, s.wal.Close())
		}
		if format != 1 {
			err = s.begin(format)
		}
		if err != nil {
			return errors.Join(err, s.wal.Close())
		}
	}
	s.watchFiles()
	err := s.openBadger()
	if err == nil && !o.ReadOnly {
		err = s.takeOver(format, oldLogs)
	}
	if err != nil && s.wal != nil {
		err = errors.Join(err, s.wal.Close())
	}
	return err
}

// firstSlots is how many slots of the log a new store is given: what fits a memtable
// takes two, and one is prepared.
const firstSlots = 3

// begin makes sure that there is a log, and a format's name, before badger is opened.
func (s *Store) begin(format int) error {
	if err := s.wal.Ready(s.room()); err != nil {
		return noRoomOr(s.opt.Dir, err)
	}
	if format != FormatNow {
		if err := s.wal.Reserve(firstSlots); err != nil && !errors.Is(err, unix.ENOSPC) {
			return noRoomOr(s.opt.Dir, err)
		}
	}
	if format == FormatNow {
		return nil
	}
	return writeFormat(s.opt.Dir)
}

// upgradeWait bounds how long the logs of an earlier format take to become tables.
const upgradeWait = 2 * time.Minute

// takeOver puts the store's log in the place of badger's, and reads it.
func (s *Store) takeOver(format int, oldLogs []int) (err error) {
	dir := s.opt.Dir
	if s.sink, err = badgerlog.NewSink(dir); err != nil {
		return errors.Join(cannotOpen(NotWritable, err, "The store in %s cannot be opened on this machine: it needs memory files and /proc.", dir), s.db.Close())
	}
	if format == 1 {
		// Badger makes tables of its own logs before the first record goes into ours,
		// which a program of format 1 would not read.
		if err = badgerlog.AwaitGone(dir, oldLogs, upgradeWait); err == nil {
			err = s.begin(format)
		}
		if err == nil {
			s.log.Info("the store has a new format", "from", format, "to", FormatNow)
		}
	}
	if err == nil {
		err = s.replay()
	}
	var oe *OpenError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &oe):
	case errors.Is(err, unix.ENOSPC):
		err = noRoom(dir, err)
	default:
		err = damagedDir(dir, err)
	}
	return errors.Join(err, s.db.Close(), s.sink.Close())
}

func (s *Store) openBadger() error {
	o := &s.opt
	log := &badgerLog{log: s.log, store: s}
	log.opening.Store(true)
	db, err := badger.OpenManaged(o.badger(log))
	log.opening.Store(false)
	if bad := log.fault.Load(); err == nil && bad != nil {
		// Badger leaves out a table that it cannot read and says so in its log
		// only: that would be messages gone without a word.
		err = errors.Join(errors.New(*bad), db.Close())
	}
	switch {
	case errors.Is(err, badger.ErrTruncateNeeded):
		return needsRecover(o.Dir)
	case errors.Is(err, unix.ENOSPC):
		return noRoom(o.Dir, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EROFS):
		return cannotOpen(NotWritable, err, "The files in %s cannot be written: check that they belong to the user the server runs as.", o.Dir)
	case err != nil:
		return damagedDir(o.Dir, err)
	}
	s.db = db
	s.ts.Store(db.MaxVersion())
	db.SetDiscardTs(s.ts.Load())
	s.groupBytes = int(db.MaxBatchSize() / 2)
	s.groupPuts = int(db.MaxBatchCount() / 2)
	s.maxBytes = int(db.MaxBatchSize() * 9 / 10)
	s.maxPuts = int(db.MaxBatchCount() * 9 / 10)
	return nil
}

func needsRecover(dir string) *OpenError {
	return cannotOpen(NeedsRecover, nil,
		"The store in %s was not shut down cleanly: start the server once and stop it again, then look at it.", dir)
}

// makeRoom gives the reserve up if badger could not open without it.
func (s *Store) makeRoom(need int64) error {
	// What the last run logged becomes a table, and the log gets a slot.
	need += s.slotBytes() + 1<<20
	free, err := s.free()
	if err != nil {
		return cannotOpen(NotWritable, err, "The data directory %s cannot be looked at.", s.opt.Dir)
	}
	if free >= need {
		return nil
	}
	if err := prealloc.DropReserve(s.reserveFile()); err != nil {
		return noRoom(s.opt.Dir, err)
	}
	if free, err = s.free(); err != nil || free < need {
		return noRoom(s.opt.Dir, fmt.Errorf("%d bytes free, %d needed (%v)", free, need, err))
	}
	s.log.Warn("the disk is full: gave up the reserve to be able to start", "free_bytes", free)
	return nil
}

// load reads what the store keeps in memory.
func (s *Store) load() error {
	r, err := s.read(context.Background())
	if err != nil {
		return err
	}
	defer r.end()
	var epoch im.Epoch
	var change, tenants uint64
	var rec clockRecord
	get := func(k key, decode func([]byte) error) {
		if err == nil {
			if err = r.get(k, decode); errors.Is(err, errAbsent) {
				err = nil
			}
		}
	}
	get(box(boxEpoch), func(p []byte) error { epoch = im.Epoch(p); return nil })
	get(box(boxChange), func(p []byte) (err error) { change, err = decodeUint(p); return err })
	get(box(boxTenants), func(p []byte) (err error) { tenants, err = decodeUint(p); return err })
	get(box(boxClock), func(p []byte) (err error) { rec, err = decodeClock(p); return err })
	spaces := map[im.TenantID]space{}
	if err == nil {
		all := box(boxTenant)
		err = r.each(all, all, func(k, p []byte) error {
			n, err := decodeUint(p)
			if err != nil || n == 0 || n > maxSpace {
				return s.damaged(k, errValue)
			}
			spaces[im.TenantID(k[len(all.b):])] = space{uint32(n)}
			return nil
		})
	}
	switch {
	case err != nil:
	case uint64(len(spaces)) != tenants:
		err = s.damaged(box(boxTenant).b, fmt.Errorf("%d tenants of %d", len(spaces), tenants))
	case epoch == "" && s.ts.Load() > 0:
		err = s.damaged(box(boxEpoch).b, errors.New("the store has records but no epoch"))
	}
	if err != nil {
		return damagedDir(s.opt.Dir, err)
	}
	s.spaces.add(spaces)
	s.epoch.Store(&epoch)
	s.change.Store(change)
	s.clock.start(rec)
	return nil
}

// prepare finishes what a cut may have left half done, and gives a new store
// its epoch.
func (s *Store) prepare() error {
	fail := func(err error) error { return damagedDir(s.opt.Dir, err) }
	half, erasing, err := s.unfinished()
	if err != nil {
		return fail(err)
	}
	if half {
		s.log.Warn("a restore was interrupted: the store starts empty")
		if err := s.wipe(); err != nil {
			return fail(err)
		}
	}
	for _, sp := range erasing {
		if err := s.drop(sp); err != nil {
			return fail(err)
		}
	}
	if s.Epoch() != "" {
		return nil
	}
	t, err := s.beginTx()
	if err != nil {
		return fail(err)
	}
	defer t.end()
	epoch := newEpoch()
	t.put(box(boxEpoch), encodeText(string(epoch)))
	t.put(box(boxClock), s.clock.record().encode())
	if err := s.commit(t); err != nil {
		return fail(err)
	}
	s.epoch.Store(&epoch)
	return nil
}

func (s *Store) unfinished() (half bool, erasing []space, err error) {
	t, err := s.beginTx()
	if err != nil {
		return false, nil, err
	}
	defer t.end()
	if half, err = t.has(box(boxRestore)); err != nil {
		return false, nil, err
	}
	all := box(boxErasing)
	err = t.each(all, all, func(k, _ []byte) error {
		if n := k[len(all.b):]; len(n) == spaceBytes {
			erasing = append(erasing, space{uint32(n[0])<<16 | uint32(n[1])<<8 | uint32(n[2])})
		}
		return nil
	})
	return half, erasing, err
}

func newEpoch() im.Epoch { return im.Epoch("e_" + strings.ToLower(rand.Text()[:16])) }

// badgerLog hears what badger logs. Its text goes to debug; two things in it
// are acted upon: an error (badger only reports some, and goes on), and the
// moment before a compaction writes a table.
type badgerLog struct {
	log     *slog.Logger
	store   *Store
	opening atomic.Bool
	fault   atomic.Pointer[string]
}

// compactionNote is what badger logs right before it writes a compacted table.
// TestCompactionWaitsForRoom fails when that changes.
const compactionNote = "[%d] LOG Compact. Added"

func (l *badgerLog) Errorf(format string, args ...any) {
	msg := strings.TrimSpace(fmt.Sprintf(format, args...))
	if l.opening.Load() {
		l.fault.CompareAndSwap(nil, &msg)
		return
	}
	l.log.Error("badger reports an error", "what", msg)
	l.store.setState(store.Failed, "the storage reported an error; the server must be restarted, and the card or disk checked")
}

func (l *badgerLog) Warningf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }
func (l *badgerLog) Infof(format string, args ...any)    { l.say(slog.LevelDebug, format, args) }

func (l *badgerLog) Debugf(format string, args ...any) {
	if strings.HasPrefix(format, compactionNote) {
		l.store.gate.seen.Add(1)
		l.store.waitForRoom()
	}
}

func (l *badgerLog) say(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "badger: "+strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func noRoomOr(dir string, err error) *OpenError {
	if errors.Is(err, unix.ENOSPC) {
		return noRoom(dir, err)
	}
	return cannotOpen(NotWritable, err, "The data directory %s cannot be written: check that it belongs to the user the server runs as.", dir)
}
