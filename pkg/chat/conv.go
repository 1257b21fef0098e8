package chat

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// convKey names a conversation over all tenants.
type convKey struct {
	tenant im.TenantID
	id     im.ConvID
}

// conv is one conversation in memory.
type conv struct {
	key convKey

	// cur is the state as the staged writes of the running batch leave it, dirty
	// whether there are any, staged which they are. Commit goroutine only.
	cur    *state
	dirty  bool
	staged []*staged

	// pub is what readers see: the state as of the last commit.
	pub atomic.Pointer[state]
	// used is the cache's tick of the last use.
	used atomic.Int64

	// mu guards what follows. It is never held over I/O. pub is replaced under
	// it too, together with tail and digest, so that who holds it sees a state
	// and the newest entries as one snapshot.
	mu      sync.Mutex
	tail    tail
	digest  digest
	bytes   int64 // what this conversation takes, as counted in the cache
	evicted bool  // out of the cache: does not count any more

	loadMu sync.Mutex // one goroutine at a time extends digest; taken before mu
}

// state is a conversation's record and members; once published it is immutable
// but for what the members themselves say.
type state struct {
	rec    im.Conversation
	roster []*member // all who ever were members, in order of user id
}

// member is one user's place in a conversation, for as long as it is in memory.
type member struct {
	user  im.UserID
	cur   *place                // as staged; commit goroutine only
	dirty bool                  // cur is not published; commit goroutine only
	pub   atomic.Pointer[place] // as committed; nil while the member is new and staged
}

// place is what changes of a member; immutable once published.
type place struct {
	role   im.MemberRole // 0: left
	joined im.Millis
	read   im.Seq
	change im.Change
}

func byUser(m *member, u im.UserID) int { return cmp.Compare(m.user, u) }

// member returns u's place, also that of one who left, or nil.
func (s *state) member(u im.UserID) *member {
	if i, ok := slices.BinarySearchFunc(s.roster, u, byUser); ok {
		return s.roster[i]
	}
	return nil
}

// role returns u's role as committed; 0 for who is no member.
func (s *state) role(u im.UserID) im.MemberRole {
	if m := s.member(u); m != nil {
		return m.pub.Load().role
	}
	return 0
}

// staged role of u; commit goroutine only.
func (s *state) roleNow(u im.UserID) im.MemberRole {
	if m := s.member(u); m != nil {
		return m.cur.role
	}
	return 0
}

// owners counts the owners; commit goroutine only.
func (s *state) owners() int {
	n := 0
	for _, m := range s.roster {
		if m.cur.role == im.MemberOwner {
			n++
		}
	}
	return n
}

// with returns a roster that has the new members too.
func with(roster, added []*member) []*member {
	all := make([]*member, 0, len(roster)+len(added))
	all = append(append(all, roster...), added...)
	slices.SortFunc(all, func(a, b *member) int { return cmp.Compare(a.user, b.user) })
	return all
}

// Estimated sizes of what is kept in memory; they need to be right within a
// factor of two, so that CacheBytes means something.
const (
	convBytes   = int64(unsafe.Sizeof(conv{})+unsafe.Sizeof(state{})) + 300
	memberBytes = int64(unsafe.Sizeof(member{})+unsafe.Sizeof(place{})) + 40
	entryBytes  = int64(unsafe.Sizeof(tailEntry{})) + 40
)

// measure returns what the conversation takes; mu is held.
func (cv *conv) measure(s *state) int64 {
	return convBytes + int64(len(s.roster))*memberBytes + int64(len(s.rec.Title)) +
		cv.tail.size() + cv.digest.size()
}

// cache holds the conversations that are in memory. Anyone may load one; only
// the commit goroutine evicts, between two batches.
type cache struct {
	store store.Convs
	limit int64
	// digestLimit bounds the digest of each conversation.
	digestLimit int
	over        func() // called, from any goroutine, when the bound was passed; must not block

	mu    sync.RWMutex
	slots map[convKey]*slot
	bytes atomic.Int64
	tick  atomic.Int64
}

// slot is a place in the cache; ready is closed when cv or err is there.
type slot struct {
	ready chan struct{}
	cv    *conv
	err   error
}

func newCache(s store.Convs, limit int64) *cache {
	return &cache{store: s, limit: limit, digestLimit: maxDigest, over: func() {}, slots: make(map[convKey]*slot)}
}

// get returns a conversation, from memory or from the store. What does not exist
// is access.NotFound. What it returns is current at that time or later: who
// reads it after it was evicted reads a state that was current during the call.
func (ch *cache) get(ctx context.Context, k convKey) (*conv, error) {
	if len(k.id) > im.MaxIDBytes {
		return nil, access.NotFound() // wire does not judge ids, and the store holds it for our mistake
	}
	ch.mu.RLock()
	s := ch.slots[k]
	ch.mu.RUnlock()
	if s == nil {
		ch.mu.Lock()
		if s = ch.slots[k]; s == nil {
			s = &slot{ready: make(chan struct{})}
			ch.slots[k] = s
			ch.mu.Unlock()
			ch.fill(ctx, k, s)
		} else {
			ch.mu.Unlock()
		}
	}
	<-s.ready
	if s.err != nil {
		return nil, s.err
	}
	s.cv.used.Store(ch.tick.Load())
	return s.cv, nil
}

// fill loads a slot that the caller has put into the map. Nothing can be
// appended to the conversation meanwhile, since the commit goroutine would need
// the same slot.
func (ch *cache) fill(ctx context.Context, k convKey, s *slot) {
	// Others wait for the same slot: the end of this caller's ctx must not fail them.
	cv, err := ch.load(context.WithoutCancel(ctx), k)
	ch.mu.Lock()
	if s.cv, s.err = cv, err; err != nil {
		if ch.slots[k] == s {
			delete(ch.slots, k)
		}
	} else if ch.slots[k] == s {
		cv.used.Store(ch.tick.Add(1))
		cv.mu.Lock()
		cv.bytes = cv.measure(cv.pub.Load())
		ch.bytes.Add(cv.bytes)
		cv.mu.Unlock()
	} else {
		cv.evicted = true // replaced by put meanwhile: this one serves its callers and goes
	}
	ch.mu.Unlock()
	close(s.ready)
	ch.check()
}

func (ch *cache) load(ctx context.Context, k convKey) (*conv, error) {
	rec, err := ch.store.Conv(ctx, k.tenant, k.id)
	if err != nil {
		if im.Is(err, im.NotFound) {
			return nil, access.NotFound()
		}
		return nil, im.Wrap("load conversation "+string(k.id), err)
	}
	members, err := ch.store.Members(ctx, k.tenant, k.id)
	if err != nil {
		return nil, im.Wrap("load members of "+string(k.id), err)
	}
	cv := &conv{key: k}
	s := &state{rec: rec, roster: make([]*member, len(members))}
	for i, m := range members {
		p := &place{role: m.Role, joined: m.Joined, read: m.Read, change: m.Change}
		s.roster[i] = &member{user: m.User, cur: p}
		s.roster[i].pub.Store(p)
	}
	cv.cur = s
	cv.pub.Store(s)
	cv.tail.start(rec.Head)
	cv.digest.start(rec.Head, ch.digestLimit)
	return cv, nil
}

// put adds a conversation that was just created; commit goroutine only. A reader
// that met it in the store already may have loaded it too: this one replaces
// that, it is the one that will be written to.
func (ch *cache) put(cv *conv) {
	s := &slot{ready: make(chan struct{}), cv: cv}
	close(s.ready)
	ch.mu.Lock()
	if old := ch.slots[cv.key]; old != nil {
		select {
		case <-old.ready:
			ch.drop(old.cv)
		default: // still loading: fill sees that it was replaced
		}
	}
	ch.slots[cv.key] = s
	cv.used.Store(ch.tick.Add(1))
	ch.mu.Unlock()
	ch.weigh(cv)
}

// weigh counts anew what a conversation takes.
func (ch *cache) weigh(cv *conv) {
	cv.mu.Lock()
	if !cv.evicted {
		now := cv.measure(cv.pub.Load())
		ch.bytes.Add(now - cv.bytes)
		cv.bytes = now
	}
	cv.mu.Unlock()
	ch.check()
}

func (ch *cache) check() {
	if ch.bytes.Load() > ch.limit {
		ch.over()
	}
}

// drop stops counting cv; ch.mu is held.
func (ch *cache) drop(cv *conv) {
	if cv == nil {
		return
	}
	cv.mu.Lock()
	if !cv.evicted {
		cv.evicted = true
		ch.bytes.Add(-cv.bytes)
	}
	cv.mu.Unlock()
}

// evictSample is how many conversations a victim is chosen from: the one used
// longest ago of a random few is nearly as good as that of all, and costs no list
// that readers would have to lock.
const evictSample = 8

// evict forgets conversations until the bound is kept, but never the last one;
// commit goroutine, between two batches.
func (ch *cache) evict() {
	ch.tick.Add(1)
	for ch.bytes.Load() > ch.limit {
		ch.mu.Lock()
		var victim *slot
		n := 0
		for _, s := range ch.slots {
			select {
			case <-s.ready:
			default:
				continue
			}
			if victim == nil || s.cv.used.Load() < victim.cv.used.Load() {
				victim = s
			}
			if n++; n == evictSample {
				break
			}
		}
		if n < 2 {
			ch.mu.Unlock()
			return
		}
		delete(ch.slots, victim.cv.key)
		ch.drop(victim.cv)
		ch.mu.Unlock()
	}
}

// remove drops one conversation, so that it is read again; commit goroutine.
func (ch *cache) remove(k convKey) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if s := ch.slots[k]; s != nil {
		delete(ch.slots, k)
		select {
		case <-s.ready:
			ch.drop(s.cv)
		default:
		}
	}
}

// forget drops a tenant's conversations; commit goroutine.
func (ch *cache) forget(t im.TenantID) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	for k, s := range ch.slots {
		if k.tenant == t {
			delete(ch.slots, k)
			select {
			case <-s.ready:
				ch.drop(s.cv)
			default:
			}
		}
	}
}

func (ch *cache) size() (n int, bytes int64) {
	ch.mu.RLock()
	defer ch.mu.RUnlock()
	return len(ch.slots), ch.bytes.Load()
}
