package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// errAbsent is what a look-up inside the package answers; it becomes
// im.NotFound where the contract says so, with a text for people.
var errAbsent = errors.New("absent")

func notFound(what string) error { return im.E(im.NotFound, "no such %s", what) }

// orNotFound turns errAbsent into im.NotFound.
func orNotFound(err error, what string) error {
	if errors.Is(err, errAbsent) {
		return notFound(what)
	}
	return err
}

// damaged reports a damaged record: counted, named by place in the log, never
// served.
func (s *Store) damaged(k []byte, what error) error {
	s.damages.Add(1)
	p := place(k)
	s.log.Error("damaged record", "place", p, "what", what)
	if s.opt.OnDamage != nil {
		s.opt.OnDamage(store.Damage{Place: p, What: what.Error()})
	}
	return &im.Error{
		Kind: im.Internal, Message: "a stored record is damaged; the rest is readable",
		Op: "store read " + p, Cause: errors.Join(store.ErrDamaged, what),
	}
}

// snap reads one snapshot: everything that was durable when it began and
// nothing later. It belongs to one goroutine, which ends it.
type snap struct {
	s   *Store
	txn *badger.Txn
	ts  uint64
}

// read begins a snapshot.
func (s *Store) read(ctx context.Context) (*snap, error) {
	if err := ctx.Err(); err != nil {
		return nil, gaveUp(err)
	}
	ts, ok := s.pins.hold(&s.ts)
	if !ok {
		return nil, errClosed()
	}
	return &snap{s, s.db.NewTransactionAt(ts, false), ts}, nil
}

func (r *snap) end() {
	r.txn.Discard()
	r.s.pins.release(r.ts)
}

// caught makes damage of what badger does with bytes that cannot be right: it
// panics over some blocks whose checksum it cannot find. And a page of a mapped
// file that the disk cannot read is a fault. Each read that goes through badger
// defers it, with what debug.SetPanicOnFault(true) answered.
func (s *Store) caught(k []byte, faults bool, err *error) {
	debug.SetPanicOnFault(faults)
	if p := recover(); p != nil {
		*err = s.damaged(k, fmt.Errorf("cannot be read: %v", p))
		s.log.Debug("badger could not read a record", "stack", string(debug.Stack()))
	}
}

// get hands the payload of k's record to decode, which must not keep it.
func (r *snap) get(k key, decode func(payload []byte) error) (err error) {
	defer r.s.caught(k.b, debug.SetPanicOnFault(true), &err)
	item, err := r.txn.Get(k.b)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return errAbsent
	}
	if err != nil {
		return r.s.damaged(k.b, err)
	}
	return r.s.open(item, k.b, decode)
}

// open checks an item's checksum and hands its payload to decode.
func (s *Store) open(item *badger.Item, k []byte, decode func(payload []byte) error) error {
	return item.Value(func(v []byte) error {
		p, err := unseal(k, v)
		if err == nil {
			err = decode(p)
		}
		if err != nil && !errors.Is(err, errStop) {
			return s.damaged(k, err)
		}
		return err
	})
}

// errStop ends an iteration early.
var errStop = errors.New("stop")

// each calls fn for every record under prefix from the key from on, in order;
// key and payload are only valid during the call. An error of fn ends it;
// errStop does so without being one.
func (r *snap) each(prefix, from key, fn func(k, payload []byte) error) (err error) {
	defer r.s.caught(prefix.b, debug.SetPanicOnFault(true), &err)
	o := badger.IteratorOptions{PrefetchValues: false, Prefix: prefix.b}
	it := r.txn.NewIterator(o)
	defer it.Close()
	for it.Seek(from.b); it.ValidForPrefix(prefix.b); it.Next() {
		item := it.Item()
		k := item.Key()
		var inner error
		err := r.s.open(item, k, func(p []byte) error {
			inner = fn(k, p)
			return errStop // what fn says is no damage
		})
		if !errors.Is(err, errStop) {
			return err
		}
		if errors.Is(inner, errStop) {
			return nil
		}
		if inner != nil {
			return inner
		}
	}
	return nil
}

// list calls fn for every record of a counted list and compares the count, so
// that a record that vanished is noticed.
func (r *snap) list(sp space, prefix key, fn func(k, payload []byte) error) error {
	var n uint64
	err := r.each(prefix, prefix, func(k, p []byte) error {
		n++
		return fn(k, p)
	})
	if err != nil {
		return err
	}
	var want uint64
	err = r.get(sp.count(prefix), func(p []byte) (err error) {
		want, err = decodeUint(p)
		return err
	})
	if err != nil && !errors.Is(err, errAbsent) {
		return err
	}
	if n != want {
		return r.s.damaged(prefix.b, fmt.Errorf("a list of %d records has %d", want, n))
	}
	return nil
}

// pins counts the snapshots that are being read, so that compaction keeps what
// they see and Close waits for them. Snapshots only ever begin at the newest
// time, so a short list of times with a count each is all it needs.
type pins struct {
	mu     sync.Mutex
	held   []pinned // rising ts, counts above 0
	closed bool
	idle   chan struct{} // closed when closed and nothing is held
}

type pinned struct {
	ts uint64
	n  int
}

// hold pins the newest durable time and returns it; not ok after close.
func (p *pins) hold(newest *atomic.Uint64) (ts uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, false
	}
	ts = newest.Load() // under mu: oldest must not pass it before it is held
	if n := len(p.held); n > 0 && p.held[n-1].ts == ts {
		p.held[n-1].n++
	} else {
		p.held = append(p.held, pinned{ts, 1})
	}
	return ts, true
}

func (p *pins) release(ts uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.held) - 1; i >= 0; i-- {
		if p.held[i].ts != ts {
			continue
		}
		if p.held[i].n--; p.held[i].n == 0 {
			p.held = slices.Delete(p.held, i, i+1)
		}
		break
	}
	if p.closed && len(p.held) == 0 {
		close(p.idle)
	}
}

// close lets nobody begin any more and waits until all have ended.
func (p *pins) close() {
	p.mu.Lock()
	p.closed, p.idle = true, make(chan struct{})
	idle, busy := p.idle, len(p.held) > 0
	p.mu.Unlock()
	if busy {
		<-idle
	}
}

// oldest returns the oldest time that is being read, at most newest.
func (p *pins) oldest(newest uint64) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.held) > 0 {
		return min(p.held[0].ts, newest)
	}
	return newest
}

// tx is what one group of writes is worked out in: it reads a snapshot, with
// what the group wrote already on top, and gathers what will be committed. It
// belongs to the committer.
type tx struct {
	*snap
	puts map[string][]byte // sealed values, never changed once there; nil: deleted
	undo []undone          // in the order of the puts

	// What exceeds one badger transaction is cut into pieces between Writes;
	// undo[pieceFrom:] is not in a piece yet and has about pieceBytes.
	pieces     [][]put
	pieceFrom  int
	pieceBytes int
	wipes      []string // keys of puts that may go before their piece (see recall)

	change     im.Change // the change counter as of this tx
	drew       bool
	newTenants map[im.TenantID]space
	entries    int
	jobs       []*job // whose writes these are
}

type put struct {
	k string
	v []byte
}

type undone struct {
	k   string
	v   []byte
	had bool
}

// mark is a point to go back to.
type mark struct {
	undo, pieces, pieceFrom, pieceBytes, wipes, entries int
	change                                              im.Change
	drew                                                bool
}

func (t *tx) mark() mark {
	return mark{len(t.undo), len(t.pieces), t.pieceFrom, t.pieceBytes, len(t.wipes), t.entries, t.change, t.drew}
}

// back takes back everything since m.
func (t *tx) back(m mark) {
	for i := len(t.undo) - 1; i >= m.undo; i-- {
		if u := t.undo[i]; u.had {
			t.puts[u.k] = u.v
		} else {
			delete(t.puts, u.k)
		}
	}
	for id := range t.newTenants {
		if _, ok := t.puts[string(boxNamed(boxTenant, string(id)).b)]; !ok {
			delete(t.newTenants, id)
		}
	}
	t.undo, t.pieces, t.wipes = t.undo[:m.undo], t.pieces[:m.pieces], t.wipes[:m.wipes]
	t.pieceFrom, t.pieceBytes = m.pieceFrom, m.pieceBytes
	t.entries, t.change, t.drew = m.entries, m.change, m.drew
}

// full reports that what is not in a piece yet fills a badger transaction.
func (t *tx) full() bool {
	return t.pieceBytes >= t.s.groupBytes || len(t.undo)-t.pieceFrom >= t.s.groupPuts
}

// fits reports that what is not in a piece yet will be taken by badger as one
// transaction, but for wipes, which may go before.
func (t *tx) fits() error {
	if len(t.undo)-t.pieceFrom < t.s.maxPuts && t.pieceBytes < t.s.maxBytes {
		return nil
	}
	seen := make(map[string]bool, len(t.undo)-t.pieceFrom+len(t.wipes))
	for _, k := range t.wipes {
		seen[k] = true
	}
	n, bytes := 0, 0
	for _, u := range t.undo[t.pieceFrom:] {
		if !seen[u.k] {
			seen[u.k] = true
			n, bytes = n+1, bytes+len(u.k)+len(t.puts[u.k])+putOverhead
		}
	}
	if n < t.s.maxPuts && bytes < t.s.maxBytes {
		return nil
	}
	return &im.Error{Kind: im.TooLarge, Message: "too much at once for the storage", Limit: int64(t.s.maxPuts), Op: "store write"}
}

// putOverhead is what badger counts for a record beyond key and value.
const putOverhead = 12

// cut makes a piece of what is not in one yet. It is called between Writes
// only, when everything in t.puts belongs together.
func (t *tx) cut() {
	piece := make([]put, 0, len(t.undo)-t.pieceFrom)
	seen := make(map[string]bool, cap(piece))
	for _, u := range t.undo[t.pieceFrom:] {
		if v, ok := t.puts[u.k]; ok && !seen[u.k] {
			seen[u.k] = true
			piece = append(piece, put{u.k, v})
		}
	}
	if len(piece) >= t.s.maxPuts || t.pieceBytes >= t.s.maxBytes {
		wipe := make(map[string]bool, len(t.wipes))
		for _, k := range t.wipes {
			wipe[k] = true
		}
		i := slices.IndexFunc(piece, func(p put) bool { return wipe[p.k] })
		for ; i >= 0; i = slices.IndexFunc(piece, func(p put) bool { return wipe[p.k] }) {
			var early []put
			piece = slices.DeleteFunc(piece, func(p put) bool {
				if len(early) < t.s.groupPuts && wipe[p.k] {
					early = append(early, p)
					return true
				}
				return false
			})
			t.pieces = append(t.pieces, early)
		}
	}
	if len(piece) > 0 {
		t.pieces = append(t.pieces, piece)
	}
	t.pieceFrom, t.pieceBytes = len(t.undo), 0
}

func (t *tx) put(k key, v []byte) { t.set(k, seal(k, v)) }

func (t *tx) del(k key) { t.set(k, nil) }

func (t *tx) set(k key, v []byte) {
	s := string(k.b)
	old, had := t.puts[s]
	t.undo = append(t.undo, undone{s, old, had})
	t.puts[s] = v
	t.pieceBytes += len(s) + len(v)
}

// get reads a record as the group has it now.
func (t *tx) get(k key, decode func(payload []byte) error) error {
	if v, ok := t.puts[string(k.b)]; ok {
		if v == nil {
			return errAbsent
		}
		return decode(v[sumBytes:])
	}
	return t.snap.get(k, decode)
}

func (t *tx) has(k key) (bool, error) {
	err := t.get(k, func([]byte) error { return nil })
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	return err == nil, err
}

func (t *tx) uint(k key) (v uint64, err error) {
	err = t.get(k, func(p []byte) (err error) {
		v, err = decodeUint(p)
		return err
	})
	if errors.Is(err, errAbsent) {
		return 0, nil
	}
	return v, err
}

// grow adds n to the count of a list.
func (t *tx) grow(sp space, list key, n int) error {
	k := sp.count(list)
	v, err := t.uint(k)
	if err != nil {
		return err
	}
	if v += uint64(n); v == 0 {
		t.del(k)
	} else {
		t.put(k, encodeUint(v))
	}
	return nil
}

// space returns the tenant's place in the key order, drawing a number for a
// tenant that has none yet.
func (t *tx) space(id im.TenantID) (space, error) {
	if sp, ok := t.s.spaces.find(id); ok {
		return sp, nil
	}
	if sp, ok := t.newTenants[id]; ok {
		return sp, nil
	}
	k := boxNamed(boxTenant, string(id))
	n, err := t.uint(k)
	if err != nil {
		return space{}, err
	}
	if n == 0 {
		if n, err = t.uint(box(boxNumber)); err != nil {
			return space{}, err
		}
		if n++; n > maxSpace {
			return space{}, im.E(im.TooLarge, "this store has seen %d tenants and can take no more", maxSpace)
		}
		many, err := t.uint(box(boxTenants))
		if err != nil {
			return space{}, err
		}
		t.put(box(boxNumber), encodeUint(n))
		t.put(box(boxTenants), encodeUint(many+1))
		t.put(k, encodeUint(n))
	}
	sp := space{uint32(n)}
	t.newTenants[id] = sp
	return sp, nil
}

// registry maps tenants to their numbers.
type registry struct {
	mu sync.RWMutex
	m  map[im.TenantID]space
}

func (g *registry) find(id im.TenantID) (space, bool) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	sp, ok := g.m[id]
	return sp, ok
}

func (g *registry) add(m map[im.TenantID]space) {
	if len(m) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, sp := range m {
		g.m[id] = sp
	}
}

func (g *registry) remove(id im.TenantID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.m, id)
}

func (g *registry) all() map[im.TenantID]space {
	g.mu.RLock()
	defer g.mu.RUnlock()
	m := make(map[im.TenantID]space, len(g.m))
	for id, sp := range g.m {
		m[id] = sp
	}
	return m
}
