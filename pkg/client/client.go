// Package client is the Go client of a Pipit server: it connects, says hello,
// keeps what was sent until the server acknowledged it, takes up where it left
// off, pulls the holes it sees, and reconnects as the close codes say.
//
// It owns one connection at a time, the outbox, and for each conversation the
// newest seq that was handed out. It never renders, stores or logs text. `pipit`,
// `pipit-load` and the tests use it and nothing else to speak the protocol.
//
// Concurrency: all methods may be called from any goroutine. Handler functions,
// and the done functions of SendAsync, are called one at a time, from the
// client's own goroutine; they may call methods that do not wait (SendAsync,
// Notify, Outbox, State, Stats), never those that do (Send, Call, Wait, Close).
//
// Messages leave in the order in which they entered the outbox. At most
// sendWindow of them are under way; when the server says "later" (rate, full
// disk), those that were under way behind the refused one may still be stored
// before it, and after that the client feels its way with one at a time.
//
// The contract is pkg/wire/PROTOCOL.md, sections 1, 3, 5 and 6 above all.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// Options say whom to connect to and what to do with what comes. URL and Token
// are required.
type Options struct {
	URL     string // of the server: http://host:port or https://host:port
	Token   string // from POST /v1/sessions
	Name    string // what the client calls itself, "pipit/0.1"
	Handler Handler
	// Outbox is what an earlier run kept (Client.Outbox): it is sent first, with
	// the same keys, so that nothing is stored twice. It may be longer than
	// MaxOutbox; of two messages with one key the first counts.
	Outbox []Outgoing
	// Positions is the newest seq that an earlier run had of each conversation;
	// entries above it are pulled. A conversation that is not in it starts at
	// its head.
	Positions map[im.ConvID]im.Seq
	Epoch     im.Epoch // of the earlier run
	Sync      string   // of the earlier run
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS       *tls.Config
	Log       *slog.Logger
	// FromStart pulls conversations that are not in Positions from their first
	// entry instead of starting at their head.
	FromStart bool
	// Once ends the client at the first loss of the connection instead of
	// reconnecting.
	Once bool
	// Jitter picks a random duration in [0, n], for the delay before a reconnect;
	// nil is math/rand.
	Jitter func(n time.Duration) time.Duration
}

// Handler gets what happens; nil functions are left out. Pointers are the
// callee's to keep.
type Handler struct {
	// Ready: hello was answered; the connection is live. The conversations of
	// further pages, if Next says that there are any, come to Changed and Left.
	Ready func(*wire.HelloResult)
	// Down: the connection was lost; the client tries again after retry, or
	// never if retry is negative (err says why).
	Down func(err error, retry time.Duration)
	// Entry: the next entry of a conversation, each exactly once and in order of
	// seq, whether it came as an event or was pulled.
	Entry func(*im.Message)
	// Reset: the server's history is another one (PROTOCOL 3.7): what was cached
	// counts no more.
	Reset func()
	// Changed: a conversation was joined, or its HEAD is another one.
	Changed func(*im.Head)
	// Left: the conversation is no longer the user's. Of one that a complete
	// list did not name (PROTOCOL 3.3) only the id is known.
	Left     func(*im.Head)
	Read     func(conv im.ConvID, user im.UserID, seq im.Seq)
	Typing   func(conv im.ConvID, user im.UserID)
	Presence func([]im.Presence)
}

// Outgoing is a message that was not acknowledged yet.
type Outgoing struct {
	Conversation im.ConvID
	Key          string
	Text         string
	ReplyTo      im.Seq
	Mentions     []im.UserID
}

// Sent is the acknowledgement of an Outgoing.
type Sent struct {
	Seq    im.Seq
	Time   im.Millis
	Repeat bool // it had been stored by an earlier try
}

// MaxOutbox is how many messages wait at most; further ones are refused with
// im.Unavailable.
const MaxOutbox = 10_000

// ErrClosed is returned after Close.
var ErrClosed = errors.New("client: closed")

// errDown is how a call ends whose connection was lost before the answer.
var errDown = im.E(im.Unavailable, "The connection was lost before the answer came.")

// Client is one user's connection. Make it with New.
type Client struct {
	o    Options
	log  *slog.Logger
	ctx  context.Context
	stop context.CancelFunc
	done chan struct{} // closed when the run goroutine has ended
	err  error         // why it ended; read after done

	mu     sync.Mutex
	conn   *conn // live connection, nil while down
	nextID uint64
	calls  map[uint64]*call
	outbox []*outgoing // in the order of sending
	byKey  map[string]*outgoing
	window int           // how many of the outbox may be under way
	flying int           // how many are
	pause  *time.Timer   // set while the server said "later"; then nothing of the outbox is sent
	ready  chan struct{} // closed while live, remade on loss
	epoch  im.Epoch
	sync   string
	closed bool

	doubled, pulled, missed, again atomic.Uint64

	// Run goroutine only.
	logs    map[im.ConvID]*logPos
	backoff time.Duration
}

type outgoing struct {
	Outgoing
	done func(Sent, error)
	id   uint64 // of the request under way on the live connection, 0 if none
	once bool   // an internal error was retried already (PROTOCOL 2)
}

// call is a request that waits for its reply.
type call struct {
	out    *outgoing // message.send of the outbox, or nil
	finish func(result []byte, err error)
}

// New starts a client. It connects in the background and goes on until Close,
// or until the server says that there is no use (signed out, suspended).
func New(o Options) *Client {
	ctx, stop := context.WithCancel(context.Background())
	c := &Client{
		o: o, log: o.Log, ctx: ctx, stop: stop, done: make(chan struct{}),
		calls: map[uint64]*call{}, byKey: map[string]*outgoing{}, ready: make(chan struct{}), window: sendWindow,
		logs: map[im.ConvID]*logPos{}, epoch: o.Epoch, sync: o.Sync,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.o.Jitter == nil {
		c.o.Jitter = func(n time.Duration) time.Duration { return rand.N(n + 1) }
	}
	for _, m := range o.Outbox {
		if m.Key == "" {
			m.Key = NewKey()
		}
		if c.byKey[m.Key] == nil {
			c.enqueue(m, nil)
		}
	}
	for id, seq := range o.Positions {
		c.logs[id] = &logPos{have: seq}
	}
	go c.run()
	return c
}

// Close ends the client and waits until its goroutines are gone, which takes
// closeTimeout (1 s) at most. What was not acknowledged is in Outbox.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop() // a live connection sends its close frame because of it
	<-c.done
	return nil
}

// Done is closed when the client has ended; Err says why then.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns why the client ended: ErrClosed after Close, else the server's
// word. It is nil before Done is closed.
func (c *Client) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Outbox returns what was not acknowledged yet, in the order of sending.
func (c *Client) Outbox() []Outgoing {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Outgoing, 0, len(c.outbox))
	for _, m := range c.outbox {
		list = append(list, m.Outgoing)
	}
	return list
}

// State returns epoch and sync for a later run's Options.
func (c *Client) State() (im.Epoch, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch, c.sync
}

// Stats are counts of the client's repairs.
type Stats struct {
	Doubled uint64 // events that were not newer than an event before, on one connection
	Pulled  uint64 // entries that came by message.history and not as an event
	Missed  uint64 // entries that the server could not give: their place in the log was skipped
	Again   uint64 // messages that the server refused for now: they are sent again, behind those under way
	Waiting int    // messages in the outbox
}

// Stats returns the counts so far.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Doubled: c.doubled.Load(), Pulled: c.pulled.Load(), Missed: c.missed.Load(), Again: c.again.Load(), Waiting: len(c.outbox)}
}

// Wait returns when the connection is live.
func (c *Client) Wait(ctx context.Context) error {
	c.mu.Lock()
	ready := c.ready
	c.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run connects again and again.
func (c *Client) run() {
	defer close(c.done)
	for {
		err := c.session()
		retry := c.after(err)
		if c.ctx.Err() != nil {
			err, retry = ErrClosed, -1
		}
		if c.o.Handler.Down != nil {
			c.o.Handler.Down(err, retry)
		}
		if retry < 0 {
			c.err = err
			c.end(err)
			return
		}
		select {
		case <-time.After(retry):
		case <-c.ctx.Done():
		}
	}
}

// after decides by PROTOCOL 3.9 when to connect again; negative: never.
func (c *Client) after(err error) time.Duration {
	var closed *CloseError
	var e *im.Error
	action, spread := wire.Backoff, time.Duration(0)
	if errors.As(err, &closed) {
		action, spread = wire.CloseAction(closed.Code, closed.Reason)
	}
	errors.As(err, &e)
	switch {
	case c.o.Once, action == wire.SignIn, action == wire.Stop:
		return -1
	case e != nil && (e.Kind == im.Unauthenticated || e.Kind == im.Invalid):
		return -1 // the token, or the address, will not become right by itself
	case action == wire.Reconnect:
		return c.o.Jitter(spread)
	}
	// Exponential backoff from 0.5 s to 30 s with full jitter.
	c.backoff = min(max(2*c.backoff, 500*time.Millisecond), 30*time.Second)
	wait := c.o.Jitter(c.backoff)
	if e != nil {
		wait = max(wait, e.RetryAfter)
	}
	return wait
}

// end answers everybody who still waits.
func (c *Client) end(err error) {
	c.mu.Lock()
	calls, box := c.calls, c.outbox
	c.calls, c.closed = map[uint64]*call{}, true
	c.unpauseLocked()
	c.mu.Unlock()
	for _, k := range calls {
		if k.finish != nil {
			k.finish(nil, err)
		}
	}
	for _, m := range box {
		if m.done != nil {
			m.done(Sent{}, err)
		}
	}
}

// down takes the live connection away: requests under way are answered with
// errDown, but for the outbox, which waits.
func (c *Client) down(k *conn) {
	c.mu.Lock()
	if c.conn != k {
		c.mu.Unlock()
		return
	}
	c.conn = nil
	c.ready = make(chan struct{})
	calls := c.calls
	c.calls = map[uint64]*call{}
	for _, m := range c.outbox {
		m.id = 0
	}
	c.flying = 0
	c.unpauseLocked()
	c.mu.Unlock()
	for _, k := range calls {
		if k.finish != nil {
			k.finish(nil, errDown)
		}
	}
}

// CloseError is how the server, or the network (1006), ended a connection.
type CloseError struct {
	Code   uint16
	Reason string
	Cause  error
}

func (e *CloseError) Error() string {
	s := "connection closed with code " + strconv.Itoa(int(e.Code))
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	if e.Cause != nil && !errors.Is(e.Cause, io.EOF) {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *CloseError) Unwrap() error { return e.Cause }
