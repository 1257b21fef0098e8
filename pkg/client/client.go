// Package client is the Go client of a Pipit server: it connects, says hello,
// keeps what was sent until the server acknowledged it, takes up where it left
// off, pulls the holes it sees, and reconnects as the close codes say.
//
// It owns one connection at a time, the outbox, and for each conversation the
// newest seq that was handed out. It never renders, stores or logs text. `pipit`,
// `pipit-load` and the tests use it and nothing else to speak the protocol.
//
// Concurrency: all methods may be called from any goroutine. Handler functions
// are called one at a time, from the client's own goroutine; they may call
// methods that do not wait (SendAsync, Notify), never those that do (Send, Call).
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
	// the same keys, so that nothing is stored twice.
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
}

// Handler gets what happens; nil functions are left out. Pointers are the
// callee's to keep.
type Handler struct {
	// Ready: hello was answered; the connection is live.
	Ready func(*wire.HelloResult)
	// Down: the connection was lost; the client tries again after retry, or
	// never if retry is negative (err says why).
	Down func(err error, retry time.Duration)
	// Entry: the next entry of a conversation, each exactly once and in order of
	// seq, whether it came as an event or was pulled.
	Entry func(*im.Message)
	// Reset: the server's history is another one (PROTOCOL 3.7): what was cached
	// counts no more.
	Reset    func()
	Changed  func(*im.Head)
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
	ready  chan struct{} // closed while live, remade on loss
	epoch  im.Epoch
	sync   string
	retry  *time.Timer // resends what was refused for now
	closed bool

	doubled, pulled atomic.Uint64

	// Run goroutine only.
	logs    map[im.ConvID]*logPos
	backoff time.Duration
}

type outgoing struct {
	Outgoing
	done func(Sent, error)
	id   uint64 // of the request under way on the live connection, 0 if none
	hold time.Time
	once bool // an internal error was retried already (PROTOCOL 2)
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
		calls: map[uint64]*call{}, byKey: map[string]*outgoing{}, ready: make(chan struct{}),
		logs: map[im.ConvID]*logPos{}, epoch: o.Epoch, sync: o.Sync,
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	for _, m := range o.Outbox {
		c.enqueue(m, nil)
	}
	for id, seq := range o.Positions {
		c.logs[id] = &logPos{have: seq}
	}
	go c.run()
	return c
}

// Close ends the client and waits until its goroutine is gone. What was not
// acknowledged is in Outbox.
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
}

// Stats returns the counts so far.
func (c *Client) Stats() Stats {
	return Stats{Doubled: c.doubled.Load(), Pulled: c.pulled.Load()}
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
	if errors.As(err, &closed) {
		action, spread := wire.CloseAction(closed.Code, closed.Reason)
		switch {
		case c.o.Once || action == wire.SignIn || action == wire.Stop:
			return -1
		case action == wire.Reconnect && spread > 0:
			return rand.N(spread)
		}
	}
	if c.o.Once || im.Is(err, im.Unauthenticated) {
		return -1
	}
	// Exponential backoff from 0.5 s to 30 s with full jitter.
	c.backoff = min(max(2*c.backoff, 500*time.Millisecond), 30*time.Second)
	return rand.N(c.backoff)
}

// end answers everybody who still waits.
func (c *Client) end(err error) {
	c.mu.Lock()
	calls, box := c.calls, c.outbox
	c.calls, c.closed = map[uint64]*call{}, true
	if c.retry != nil {
		c.retry.Stop()
	}
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
	s := "connection closed with code " + itoa(uint64(e.Code))
	if e.Reason != "" {
		s += " (" + e.Reason + ")"
	}
	if e.Cause != nil && !errors.Is(e.Cause, io.EOF) {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *CloseError) Unwrap() error { return e.Cause }
