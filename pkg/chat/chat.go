// Package chat keeps conversations and their entries: it is the only write path
// of the server (PROTOCOL 4 to 7), and it answers what members read.
//
// It owns the commit goroutine, the conversations that are in memory, the rate
// limit of senders and the gathering of read receipts. It never knows a socket,
// a frame or who is connected: what happened leaves as replies and bus events.
//
// How it works. Submit puts a command into a bounded queue. The commit goroutine
// takes what waits and runs each command against the state as the earlier ones
// of the same batch leave it: key, permission, targets, rate, then a staged
// store.Write. One Append makes the batch durable; while it blocks, the next
// batch gathers, and while many send a short rest lets it gather some more (pace).
// Then, in this order: the state becomes
// visible, the replies go out, the events are published (PROTOCOL 2.3, 3.4). If
// Append fails, the staged state is dropped and nobody ever saw it. A refused
// command leaves no trace but a token of its sender's rate.
//
// Concurrency. All mutable state of conversations belongs to the commit
// goroutine; readers see immutable snapshots through atomic pointers, and the
// cached newest messages under a lock of the one conversation that is never held
// over I/O. Submit, Typing, Probe and Stats never block and may be called on
// event loops; everything else may read the disk. All exported methods may be
// called from any goroutine.
//
// The contract is pkg/wire/PROTOCOL.md, sections 2.3, 3.3 to 3.6 and 4 to 8.1;
// permissions are pkg/access.
package chat

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Store is the part of a store that chat reads and writes.
type Store interface {
	store.Log
	store.Convs
}

// Users knows the users of a tenant.
type Users interface {
	// User returns a user, disabled or not; the record is read-only. It is
	// called on the commit goroutine and must not block.
	User(t im.TenantID, id im.UserID) (*im.User, bool)
}

// Rules knows what a tenant lets its people do (PROTOCOL 4.7). All of it is
// called on the commit goroutine too: no lock that is held over I/O, no
// allocation.
type Rules interface {
	// Policy returns the tenant's policy; nil: the protocol's defaults.
	Policy(t im.TenantID) *access.Policy
	// SharesClass says whether two users are in one class that is not archived.
	SharesClass(t im.TenantID, a, b im.UserID) bool
	// Sees says whether the actor may see a user of the same tenant.
	Sees(actor im.Actor, u *im.User) bool
}

// defaults are the Rules of the protocol, where nobody brings others.
type defaults struct{}

func (defaults) Policy(im.TenantID) *access.Policy                  { return nil }
func (defaults) SharesClass(im.TenantID, im.UserID, im.UserID) bool { return false }
func (defaults) Sees(im.Actor, *im.User) bool                       { return true }

// Options are what a Chat is made of. Store, Bus and Users are required.
type Options struct {
	Store Store
	Bus   bus.Bus
	Users Users
	Rules Rules // nil: the protocol's defaults
	// OnPass writes down that a message went out in its sender's quiet hours
	// (PROTOCOL 6.7). It may block, and is tried again after an error; while 256
	// wait for it, further ones are refused. Nil: nobody wants to know.
	OnPass func(ctx context.Context, p Pass) error
	// Now is the clock of entry times; default time.Now. It may leap: times in a
	// log never fall (PROTOCOL 5.1).
	Now func() time.Time
	// Mono is a clock that only goes on, for rates and gathering; default the
	// process's monotonic clock.
	Mono func() time.Duration
	// Quota bounds what a tenant may have. It is asked on the commit goroutine and
	// must not block. Nil: nothing is bounded.
	Quota  func(im.TenantID) Quota
	Limits func() im.Limits // default: the protocol's defaults; may change at any time
	Rand   io.Reader        // of conversation ids; default crypto/rand
	Log    *slog.Logger     // default: discarded
	// QueueLen bounds the commands that wait for the commit goroutine, besides 8
	// MiB; default 4096. Over it, commands are refused as unavailable.
	QueueLen int
	// CacheBytes bounds the memory that conversations take (estimated): members,
	// newest messages, digests. Default 8 MiB. Over it, those that were used
	// longest ago are forgotten and read again when needed.
	CacheBytes int
	// PageBytes bounds the size of a page of messages or heads on the wire
	// (estimated from above; one item always fits). It must leave room below what
	// may wait for a connection, or asking for the page would end it; default 128
	// KiB.
	PageBytes int
	// OnCommit, if set, hears of each Append: how many writes, how long it took.
	// It is called on the commit goroutine and must not block.
	OnCommit func(writes int, took time.Duration, err error)
}

// Chat is the service. Make one with New.
type Chat struct {
	store    Store
	bus      bus.Bus
	users    Users
	rules    Rules
	now      func() time.Time
	mono     func() time.Duration
	limits   func() im.Limits
	rand     io.Reader
	log      *slog.Logger
	onCommit func(int, time.Duration, error)

	pageBytes int

	queue    *queue
	convs    *cache
	member   *memberships
	channels *channels
	receipts *receipts
	typing   *typing
	passes   *passes
	rates    *rates // commit goroutine
	// tenantRates holds one bucket for each tenant with a quota of sends. Commit
	// goroutine.
	tenantRates *rates
	quota       func(im.TenantID) Quota
	usages      usages
	batch       *batch // commit goroutine
	failing     bool   // commit goroutine: the last Append failed
	pace        pace   // commit goroutine

	complained atomic.Int64 // when unreadable logged last, on the clock of mono

	// change is the newest change whose effect is in the snapshots. What `sync`
	// is made of: a change that is durable but not yet visible must not be behind
	// a sync token, or the one who holds it would miss it.
	change atomic.Uint64

	// publishing is held around every Publish, so that events of a conversation
	// come from one goroutine at a time (package bus). No event loop takes it.
	publishing sync.Mutex

	stop     context.CancelFunc
	done     sync.WaitGroup // the typing and receipts goroutines
	commits  chan struct{}  // closed when the commit goroutine has ended
	probes   atomic.Uint64
	probing  atomic.Bool
	evicting atomic.Bool
	stats    counters
}

type counters struct {
	commands, refusedFull, commits, commitErrors, writes, entries, repeats atomic.Uint64
	rateLimited, typingDropped                                             atomic.Uint64
}

// Stats is a snapshot for metrics; the counters count since New.
type Stats struct {
	Queue         int    // commands that wait for the commit goroutine
	QueueLimit    int    //
	RefusedFull   uint64 // commands refused because the queue was full
	Commands      uint64 // commands run
	Repeats       uint64 // answered from a remembered key
	RateLimited   uint64 //
	Commits       uint64 // calls of Append that went well
	CommitErrors  uint64 // and that failed
	Writes        uint64 // accepted commands stored
	Entries       uint64 // entries stored
	Conversations int    // in memory
	CacheBytes    int64  // what they take, estimated
	ReadsGathered int    // read receipts that wait for their second to end
	TypingDropped uint64 // typing events dropped because their queue was full
}

const (
	defaultQueueLen   = 4096
	defaultCacheBytes = 8 << 20
	defaultPageBytes  = 128 << 10
)

// New starts a Chat: its commit goroutine and two that publish what is gathered.
// Close ends them.
func New(o Options) (*Chat, error) {
	if o.Store == nil || o.Bus == nil || o.Users == nil {
		return nil, errors.New("chat: a store, a bus and users are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Mono == nil {
		start := time.Now()
		o.Mono = func() time.Duration { return time.Since(start) }
	}
	if o.Limits == nil {
		o.Limits = func() im.Limits {
			return im.Limits{FrameBytes: im.DefaultFrameBytes, TextBytes: im.DefaultTextBytes, SendsPerMinute: im.DefaultSendsPerMin}
		}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rules == nil {
		o.Rules = defaults{}
	}
	if o.QueueLen <= 0 {
		o.QueueLen = defaultQueueLen
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = defaultCacheBytes
	}
	if o.PageBytes <= 0 {
		o.PageBytes = defaultPageBytes
	}
	c := &Chat{
		store: o.Store, bus: o.Bus, users: o.Users, rules: o.Rules, now: o.Now, mono: o.Mono, limits: o.Limits,
		rand: o.Rand, log: o.Log, onCommit: o.OnCommit, pageBytes: o.PageBytes,
		queue:    newQueue(o.QueueLen),
		convs:    newCache(o.Store, int64(o.CacheBytes)),
		member:   newMemberships(o.Store),
		channels: newChannels(o.Store),
		rates:    newRates(o.Mono), tenantRates: newRates(o.Mono), quota: o.Quota, usages: usages{m: map[im.TenantID]*usage{}},
		batch:   newBatch(),
		commits: make(chan struct{}),
	}
	c.convs.over = c.evictSoon
	c.change.Store(uint64(o.Store.LastChange()))
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.receipts = newReceipts(o.Mono, c.publish)
	c.typing = newTyping(c)
	c.done.Go(func() { c.receipts.run(ctx) })
	c.done.Go(func() { c.typing.run(ctx) })
	c.passes = newPasses(o.OnPass, c.log)
	c.done.Go(func() { c.passes.run(ctx) })
	go c.commit()
	return c, nil
}

// Close refuses new commands, commits and answers all that were taken, publishes
// what is gathered and waits for the goroutines to end, or for ctx: then it
// returns ctx's error and the rest ends by itself. Call it once, before the
// store is closed.
func (c *Chat) Close(ctx context.Context) error {
	c.queue.close()
	select {
	case <-c.commits:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.stop()
	ended := make(chan struct{})
	go func() {
		c.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Submit hands a command to the commit goroutine and never blocks. The reply
// comes exactly once; if the queue is full or closed, at once, on the caller's
// goroutine, as im.Unavailable.
func (c *Chat) Submit(cmd *Command, to Replier) {
	switch c.queue.put(pending{cmd: cmd, to: to}) {
	case full:
		c.stats.refusedFull.Add(1)
		to.Reply(cmd, Result{}, &im.Error{Kind: im.Unavailable, Message: "The server has too much to do just now. Try again in a moment.", RetryAfter: time.Second})
	case shut:
		to.Reply(cmd, Result{}, im.E(im.Unavailable, "The server is shutting down."))
	}
}

// Do submits a command and waits for its reply. If ctx ends first, the error is
// im.Internal: the command may still be stored, and repeating it with the same
// key tells.
func (c *Chat) Do(ctx context.Context, cmd *Command) (Result, error) {
	type answer struct {
		res Result
		err error
	}
	got := make(chan answer, 1)
	c.Submit(cmd, ReplyFunc(func(_ *Command, res Result, err error) { got <- answer{res, err} }))
	select {
	case a := <-got:
		return a.res, a.err
	case <-ctx.Done():
		return Result{}, &im.Error{Kind: im.Internal, Op: "chat " + cmd.Op.String(), Cause: ctx.Err(),
			Message: "The outcome is not known yet. Send the request again with the same key."}
	}
}

// Probe sends a probe through the commit goroutine, unless one is still on its
// way, and returns how many came through since New. A watchdog that calls it now
// and then sees the number rise while commits make progress.
func (c *Chat) Probe() uint64 {
	if c.probing.CompareAndSwap(false, true) {
		if c.queue.put(pending{call: func() { c.probes.Add(1); c.probing.Store(false) }}) != queued {
			c.probing.Store(false)
		}
	}
	return c.probes.Load()
}

// Forget drops what is in memory of a tenant, after its records were erased from
// the store. It waits for the commit goroutine, or for ctx.
func (c *Chat) Forget(ctx context.Context, t im.TenantID) error {
	forgot := make(chan struct{})
	if c.queue.put(pending{call: func() {
		c.convs.forget(t)
		c.member.forget(t)
		c.channels.forget(t)
		close(forgot)
	}}) != queued {
		return nil // closed: nothing is served from memory any more
	}
	select {
	case <-forgot:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// evictSoon has the commit goroutine bring the cache back under its bound. Only
// that goroutine evicts, so that what it works on cannot vanish under it.
func (c *Chat) evictSoon() {
	if c.evicting.CompareAndSwap(false, true) {
		if c.queue.put(pending{call: func() { c.evicting.Store(false) }}) != queued {
			c.evicting.Store(false)
		}
	}
}

// Stats returns the counters.
func (c *Chat) Stats() Stats {
	n, bytes := c.convs.size()
	return Stats{
		Queue: c.queue.len(), QueueLimit: c.queue.limit,
		RefusedFull: c.stats.refusedFull.Load(), Commands: c.stats.commands.Load(), Repeats: c.stats.repeats.Load(),
		RateLimited: c.stats.rateLimited.Load(), Commits: c.stats.commits.Load(), CommitErrors: c.stats.commitErrors.Load(),
		Writes: c.stats.writes.Load(), Entries: c.stats.entries.Load(),
		Conversations: n, CacheBytes: bytes,
		ReadsGathered: c.receipts.len(), TypingDropped: c.stats.typingDropped.Load(),
	}
}

// publish hands events to the bus; not on an event loop.
func (c *Chat) publish(events []bus.Event) {
	if len(events) == 0 {
		return
	}
	c.publishing.Lock()
	c.bus.Publish(events)
	c.publishing.Unlock()
}
