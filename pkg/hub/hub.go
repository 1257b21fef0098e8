// Package hub knows who is connected to this node and brings committed events
// to them: each event is encoded once, posted once to every loop that has a
// recipient, and walked there over plain slices.
//
// It owns the rooms (which sessions hear a conversation), the people (which
// sessions a user has, and how present that makes the user), the watch lists of
// presence, and the gathering of frames for busy rooms. It decides nothing:
// membership reaches it as bus events, permission and content never do. It
// stores nothing and reads no store; it knows netloop only as Loop and a
// connection only as Session.
//
// Concurrency: a Shard and the sessions of its loop are touched on that loop's
// goroutine only, so that a delivery takes no lock and no allocation for a
// recipient. What several goroutines need (which loops have members of a room,
// the sessions of a user, the gathering buffers) is guarded by Hub.mu, which is
// held for microseconds: never over encoding, I/O, or a call into bus or
// Session. Lock order: Hub.announceMu, then the bus, then Hub.mu.
//
// Order: for one conversation, frames reach each session in the order in which
// the events were published, gathered or not (PROTOCOL 1.4, 5.3). What is
// ephemeral (typing, presence) may be left out.
//
// Contract: PROTOCOL 3.4 (snapshot), 4.4, 5.3, 7.1–7.2, 8; DESIGN 3 and 4.
package hub

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// The close codes that the hub ends sessions with (PROTOCOL 3.9).
const (
	closeSlow = 4001 // what was held for a session passed its bound
)

// The hub's bounds and delays. All are fixed by PROTOCOL or TARGETS.
const (
	// maxLoops bounds Options.Loops: sets of loops are kept as bits.
	maxLoops = 64
	// heldBytes is how much may come for a session while its hello is computed.
	// It is the default bound of a connection's output: what is held goes there.
	heldBytes = 256 << 10
	// offlineGrace is how long a user without sessions stays as present as
	// before (PROTOCOL 8.2).
	offlineGrace = 5 * time.Second
	// presenceGather is how long changes of presence are gathered for watchers
	// (PROTOCOL 8.2).
	presenceGather = time.Second
)

// Loop runs functions in the order of posting, one at a time. Post may be called
// from any goroutine and does not wait; false means that the loop has stopped
// and will not run fn. *netloop.Loop is one.
type Loop interface {
	Post(fn func()) bool
}

// Session is a connection with a signed-in user. Its methods are called on the
// goroutine of its loop only.
type Session interface {
	// Deliver takes complete server frames, one or several in a row, which
	// nobody changes any more. It must not call back into the hub.
	Deliver(frames []byte)
	// Busy tells that output waits already, so that what may be left out
	// (PROTOCOL 8) should be.
	Busy() bool
	// Close ends the session with a close code; Detach follows some time later,
	// not within the call.
	Close(code uint16, reason string)
}

// Options are what a Hub is made of. Bus and Loops are required.
type Options struct {
	Bus   bus.Bus
	Loops []Loop // 1 to 64
	// Now gives the `since` of presence; store.Box.Now is meant. Nil: time.Now.
	// Delays are measured by the monotonic clock, whatever it says.
	Now func() time.Time
	// SessionsPerUser bounds the sessions of one user on this node. Nil, or a
	// value below 1: no bound.
	SessionsPerUser func() int
	// SessionsPerTenant bounds those of one tenant. It is called under a lock of the
	// hub and must not block. Nil, or a value below 1: no bound.
	SessionsPerTenant func(im.TenantID) int
	// Fanout, if set, is told for each entry how many sessions it goes to. It is
	// called by the publisher and must not block.
	Fanout func(sessions int)
	Log    *slog.Logger // nil: nothing is logged
}

// Hub is everybody who is connected to this node. See New.
type Hub struct {
	bus       bus.Bus
	shards    []*Shard
	now       func() time.Time
	start     time.Time // what the monotonic delays count from
	perUser   func() int
	perTenant func(im.TenantID) int
	onFanout  func(int)
	log       *slog.Logger
	cancel    func() // ends the subscription
	wake      chan struct{}
	quit      chan struct{}
	done      chan struct{}
	sessionID atomic.Uint64 // the number of the newest session, before mixing

	// announceMu makes reading a user's merged presence and announcing it one
	// step, so that the bus hears the changes of one user in their order.
	announceMu sync.Mutex

	mu     sync.Mutex
	rooms  map[roomKey]*room
	people people
	// gathering lists the rooms whose buffer is not empty, in no order.
	gathering []*room
	gatherDue time.Duration // when they are flushed, since start; 0: nothing waits
	// changes are the newest presences that watchers were not told yet. Bounded
	// by the users of the installation; empty while nobody watches.
	changes    map[userKey]im.Presence
	changesDue time.Duration
	grace      []graceEntry        // people who may be offline, in order of due
	tenants    map[im.TenantID]int // sessions of each
	watches    int                 // watch lists that are not empty, over all loops
	closed     bool

	plans sync.Pool // of *plan
	n     counters
}

type counters struct {
	sessions, people, rooms                  atomic.Int64
	entries, events, posts                   atomic.Uint64
	gathered, flushes, slow, refused, closes atomic.Uint64
	presenceFrames                           atomic.Uint64
}

// Stats is a snapshot for metrics.
type Stats struct {
	Sessions int    // attached sessions
	People   int    // users with sessions, or offline for less than five seconds
	Rooms    int    // conversations that somebody here belongs to
	Entries  uint64 // entry events that somebody here heard
	Events   uint64 // other events that somebody here heard
	Posts    uint64 // posts to loops that carried them
	// Deliveries counts frames handed to sessions, a run of gathered frames as one.
	Deliveries uint64
	Gathered   uint64 // frames that went through a gathering buffer
	Flushes    uint64 // gathering buffers posted
	Held       uint64 // frames kept back for sessions whose hello was being computed
	Typing     uint64 // typing events left out because output waited
	Presence   uint64 // presence frames to watchers
	Slow       uint64 // sessions closed because too much was held (4001)
	Refused    uint64 // sessions refused by the bound for each user
	Closed     uint64 // sessions closed because of a sign-out
}

// New subscribes to the bus and starts the hub's one goroutine, which keeps its
// delays. Call Close to end both.
func New(o Options) *Hub {
	if len(o.Loops) < 1 || len(o.Loops) > maxLoops {
		panic("hub: Options.Loops must be 1 to 64 loops")
	}
	h := &Hub{
		bus: o.Bus, now: o.Now, start: time.Now(), perUser: o.SessionsPerUser, perTenant: o.SessionsPerTenant, tenants: make(map[im.TenantID]int), onFanout: o.Fanout, log: o.Log,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
		rooms: make(map[roomKey]*room), people: newPeople(), changes: make(map[userKey]im.Presence),
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	var seed [8]byte
	rand.Read(seed[:])
	h.sessionID.Store(binary.LittleEndian.Uint64(seed[:]))
	for i, l := range o.Loops {
		sh := &Shard{hub: h, index: i, loop: l, topics: make(map[userKey]*topic)}
		h.shards = append(h.shards, sh)
	}
	h.plans.New = func() any { return &plan{per: make([]*batch, len(h.shards))} }
	h.cancel = h.bus.Subscribe(h.onEvents)
	go h.run()
	return h
}

// SessionsOf returns how many sessions a tenant has here.
func (h *Hub) SessionsOf(t im.TenantID) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tenants[t]
}

// Shard returns the part of the hub that belongs to loop i of NumShards.
func (h *Hub) Shard(i int) *Shard { return h.shards[i] }

// NumShards is how many loops there are.
func (h *Hub) NumShards() int { return len(h.shards) }

// Close ends the subscription, posts what is still gathered, takes back the
// presence of everybody here, and waits for the hub's goroutine. Sessions stay
// attached until they are detached; they hear nothing any more.
func (h *Hub) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	close(h.quit)
	<-h.done
	h.flushGathered(true)
	h.takeBackPresence()
}

// Stats may be called from any goroutine.
func (h *Hub) Stats() Stats {
	s := Stats{
		Sessions: int(h.n.sessions.Load()), People: int(h.n.people.Load()), Rooms: int(h.n.rooms.Load()),
		Entries: h.n.entries.Load(), Events: h.n.events.Load(), Posts: h.n.posts.Load(),
		Gathered: h.n.gathered.Load(), Flushes: h.n.flushes.Load(), Presence: h.n.presenceFrames.Load(),
		Slow: h.n.slow.Load(), Refused: h.n.refused.Load(), Closed: h.n.closes.Load(),
	}
	for _, sh := range h.shards {
		s.Deliveries += sh.delivered.Load()
		s.Held += sh.held.Load()
		s.Typing += sh.typingLeftOut.Load()
	}
	return s
}

// elapsed is the monotonic time since New.
func (h *Hub) elapsed() time.Duration { return time.Since(h.start) }

func (h *Hub) millis() im.Millis { return im.Millis(h.now().UnixMilli()) }

// poke makes run look at what is due. It never blocks.
func (h *Hub) poke() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// run keeps the hub's delays: it sleeps until the earliest of them, and for ever
// while there is none, so that an idle hub costs nothing.
func (h *Hub) run() {
	defer close(h.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if wait, any := h.nextDue(); any {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-h.quit:
			return
		case <-h.wake:
		case <-timer.C:
		}
		h.flushGathered(false)
		h.flushChanges()
		h.endGrace()
	}
}

// nextDue returns how long until something is due, if anything is.
func (h *Hub) nextDue() (wait time.Duration, any bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	due := time.Duration(0)
	earlier := func(d time.Duration) {
		if d != 0 && (due == 0 || d < due) {
			due = d
		}
	}
	earlier(h.gatherDue)
	earlier(h.changesDue)
	if len(h.grace) > 0 {
		earlier(h.grace[0].due)
	}
	return max(due-h.elapsed(), 0), due != 0
}
