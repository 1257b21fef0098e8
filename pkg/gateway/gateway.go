// Package gateway is the server's side of a session (PROTOCOL 1.3, 2, 3): hello,
// requests, replies and the limits of one connection. It is the netloop.Handler
// of the server.
//
// It owns the state machine of each session, the replies on their way back to
// its loop, and the workers that read for requests. It decides nothing about
// conversations (chat does), permissions (access does, behind chat), tokens
// (auth) or who hears an event (hub), and it knows no store. It never logs texts
// or tokens, and what a client does wrong is never logged above info.
//
// Concurrency: a session belongs to its connection's loop; everything about it
// happens there, and nothing there blocks. Requests that append go to chat's
// queue; those that read go to a bounded pool of workers; both come back through
// the loop's outbox, in one post for all that gathers.
//
// Order: a session's requests are decoded, and those that append submitted, in
// the order in which they came. A reply is put into the outbox, and the outbox
// posted, before chat publishes the events that go with it, so on the loop it
// goes first (PROTOCOL 2.3).
//
// Bounds: requests in flight and requests per second for a session, bytes behind
// a hello for a session and for all together, reads in the queue. Over a bound a
// request is refused as rate_limited or unavailable; nothing waits unbounded.
//
// Contract: pkg/wire/PROTOCOL.md; DESIGN 3 and 4.
package gateway

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/hub"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/metrics"
	"github.com/pipit-im/pipit/pkg/netloop"
	"github.com/pipit-im/pipit/pkg/wire"
)

// The gateway's own bounds.
const (
	helloTimeout = 10 * time.Second // PROTOCOL 3.1
	// behindBytes bounds what one client may send behind its hello before that
	// is answered, allBehindBytes what all may together: those who were not yet
	// let in must not fill the memory.
	behindBytes    = 256 << 10
	allBehindBytes = 16 << 20
	// maxReads and maxAppends bound the requests of one session under way: enough
	// that a client may pull all of its conversations at once after a night away.
	maxReads   = 256
	maxAppends = 1024
	// Each session may make this many requests a second, and as many at once,
	// besides those that the limit of sends allows.
	requestsPerSecond = 50
	requestsAtOnce    = 1000
	// maxQueuedReads bounds the reads of all sessions that wait for a worker.
	maxQueuedReads = 8192
)

// Auth judges tokens; auth.Auth is one.
type Auth interface {
	// VerifyCached answers from memory, or hit is false.
	VerifyCached(token string) (actor im.Actor, user *im.User, hit bool, err error)
	// Verify may read the disk.
	Verify(ctx context.Context, token string) (im.Actor, *im.User, error)
}

// Directory knows users and tenants, from memory; directory.Directory is one.
type Directory interface {
	User(t im.TenantID, id im.UserID) (*im.User, bool)
	Tenant(t im.TenantID) (im.Tenant, bool)
	Search(actor im.Actor, query string, limit int) ([]*im.User, error)
	Sees(actor im.Actor, u *im.User) bool
}

// Options are what a Gateway is made of. Auth, Directory, Chat, Hub, Epoch,
// Limits and Metrics are required.
type Options struct {
	Auth      Auth
	Directory Directory
	Chat      *chat.Chat
	Hub       *hub.Hub // made with the loops of the netloop.Server, in their order
	Epoch     func() im.Epoch
	// Now is the time that clients are told; store.Box.Now is meant. Nil: time.Now.
	Now func() time.Time
	// Limits are those in force; they may change.
	Limits func() im.Limits
	// Heartbeat is what clients are told; 0: im.DefaultHeartbeatSecs.
	Heartbeat time.Duration
	// Origins are the origins allowed besides the server's own, in lower case, as
	// scheme://host[:port] or host[:port]. They may change. Nil: none.
	Origins func() []string
	// Workers is how many reads run at once; 0: two for each loop.
	Workers int
	Metrics *metrics.Registry
	Log     *slog.Logger // nil: nothing is logged
}

// Gateway is all sessions of this node. See New.
type Gateway struct {
	auth      Auth
	dir       Directory
	chat      *chat.Chat
	hub       *hub.Hub
	epoch     func() im.Epoch
	now       func() time.Time
	limits    func() im.Limits
	heartbeat time.Duration
	origins   func() []string
	log       *slog.Logger
	start     time.Time // what the monotonic clock of rates counts from

	loops   []*loop
	pool    *pool
	methods map[string]*method
	count   counts
	behind  atomic.Int64 // bytes behind hellos, over all sessions
}

var _ netloop.Handler = (*Gateway)(nil)

// New starts the workers; Close ends them.
func New(o Options) *Gateway {
	g := &Gateway{
		auth: o.Auth, dir: o.Directory, chat: o.Chat, hub: o.Hub, epoch: o.Epoch, now: o.Now, limits: o.Limits,
		heartbeat: o.Heartbeat, origins: o.Origins, log: o.Log, start: time.Now(),
	}
	if g.now == nil {
		g.now = time.Now
	}
	if g.heartbeat == 0 {
		g.heartbeat = im.DefaultHeartbeatSecs * time.Second
	}
	if g.origins == nil {
		g.origins = func() []string { return nil }
	}
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	g.count = newCounts(o.Metrics)
	g.methods = newMethods(g.count.requests)
	for i := range o.Hub.NumShards() {
		g.loops = append(g.loops, newLoop(g, o.Hub.Shard(i)))
	}
	workers := o.Workers
	if workers <= 0 {
		workers = 2 * len(g.loops)
	}
	g.pool = newPool(workers)
	return g
}

// Close refuses further reads and waits for the workers, at most until ctx ends.
// It is called after the loops have stopped and before chat is closed.
func (g *Gateway) Close(ctx context.Context) error { return g.pool.close(ctx) }

// Stats is a snapshot of the gateway's queues, for metrics.
type Stats struct {
	QueuedHellos int   // hellos that wait for a worker, at most one a connection
	QueuedReads  int   // reads that wait for a worker, at most 8192
	BehindBytes  int64 // kept behind hellos that are not answered yet, at most 16 MiB
}

// Stats may be called from any goroutine.
func (g *Gateway) Stats() Stats {
	hellos, reads := g.pool.queued()
	return Stats{QueuedHellos: hellos, QueuedReads: reads, BehindBytes: g.behind.Load()}
}

// Open implements netloop.Handler.
func (g *Gateway) Open(c *netloop.Conn) {
	t, _ := c.Data().(*ticket)
	s := g.open(c, g.loops[c.Loop().ID()], t, c.CancelClose)
	c.SetData(s)
	c.CloseAfter(helloTimeout, wire.CloseViolation, "no hello came")
}

// Message implements netloop.Handler.
func (g *Gateway) Message(c *netloop.Conn, p []byte) { c.Data().(*session).message(p) }

// Closed implements netloop.Handler.
func (g *Gateway) Closed(c *netloop.Conn, code uint16, cause string) {
	c.Data().(*session).end(code, cause)
}

func (g *Gateway) millis() im.Millis { return im.Millis(g.now().UnixMilli()) }
