package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// NewKey makes an idempotency key (PROTOCOL 6.2).
func NewKey() string { return rand.Text() }

// Send puts a message into the outbox and returns when the server has stored
// it. An empty Key is made. If ctx ends first the message stays in the outbox
// and is sent all the same.
func (c *Client) Send(ctx context.Context, m Outgoing) (Sent, error) {
	type result struct {
		sent Sent
		err  error
	}
	ch := make(chan result, 1)
	c.SendAsync(m, func(s Sent, err error) { ch <- result{s, err} })
	select {
	case r := <-ch:
		return r.sent, r.err
	case <-ctx.Done():
		return Sent{}, ctx.Err()
	}
}

// SendAsync puts a message into the outbox; done is called once, when it is
// stored or refused for good, and must not block. While there is no connection,
// or the server says "later", the message waits and is resent unchanged.
func (c *Client) SendAsync(m Outgoing, done func(Sent, error)) {
	if m.Key == "" {
		m.Key = NewKey()
	}
	c.mu.Lock()
	var refused error
	switch {
	case c.closed:
		refused = ErrClosed
	case c.byKey[m.Key] != nil:
		refused = im.E(im.Conflict, "A message with this key is on its way already.").OnField("key")
	case len(c.outbox) >= MaxOutbox:
		refused = im.E(im.Unavailable, "Too many messages wait for the server.")
	default:
		c.enqueue(m, done)
		c.sendLocked()
	}
	c.mu.Unlock()
	if refused != nil {
		done(Sent{}, refused)
	}
}

// sendWindow is how many messages of the outbox are under way at most: enough
// to share flushes, and not so many that a client which comes back with a full
// outbox fills the server's queues.
const sendWindow = 256

// enqueue adds m to the outbox. c.mu is held, or c is not shared yet.
func (c *Client) enqueue(m Outgoing, done func(Sent, error)) {
	out := &outgoing{Outgoing: m, done: done}
	c.outbox = append(c.outbox, out)
	c.byKey[m.Key] = out
}

// sendLocked puts what the window allows of the outbox on the live connection.
// Queueing happens under c.mu, so frames leave in the order of the outbox
// whoever sends them.
func (c *Client) sendLocked() {
	if c.conn == nil || c.pause != nil {
		return
	}
	for _, m := range c.outbox {
		if c.flying >= c.window {
			return
		}
		if m.id != 0 {
			continue
		}
		c.flying++
		c.nextID++
		m.id = c.nextID
		c.calls[m.id] = &call{out: m}
		c.conn.write(wire.AppendRequest(nil, m.id, wire.MethodSend, &wire.SendParams{
			Conversation: m.Conversation, Key: m.Key, Text: m.Text, ReplyTo: m.ReplyTo, Mentions: m.Mentions,
		}))
	}
}

// pauseLocked sends nothing of the outbox for wait, and then one message to see.
func (c *Client) pauseLocked(wait time.Duration) {
	c.window = 1
	if c.pause != nil || c.closed {
		return // the first of several refusals says when
	}
	var t *time.Timer
	t = time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.pause == t {
			c.pause = nil
			c.sendLocked()
		}
	})
	c.pause = t
}

// unpauseLocked ends a pause: the connection that it was about is gone.
func (c *Client) unpauseLocked() {
	if c.pause != nil {
		c.pause.Stop()
		c.pause = nil
	}
}

// answered takes the reply of an outbox message.
func (c *Client) answered(out *outgoing, result []byte, rpc *wire.RPCError) {
	c.mu.Lock()
	c.flying--
	out.id = 0
	if wait, again := retryAfter(rpc, out); again {
		c.again.Add(1)
		c.pauseLocked(wait)
		c.mu.Unlock()
		return
	}
	delete(c.byKey, out.Key)
	if i := slices.Index(c.outbox, out); i >= 0 {
		c.outbox = slices.Delete(c.outbox, i, i+1)
	}
	c.window = min(2*c.window, sendWindow)
	c.sendLocked()
	c.mu.Unlock()
	if out.done == nil {
		return
	}
	if rpc != nil {
		out.done(Sent{}, errorOf(rpc))
		return
	}
	r, err := wire.DecodeSeqResult(result)
	out.done(Sent{Seq: r.Seq, Time: r.Time, Repeat: r.Repeat}, err)
}

// retryAfter says whether a refused message is tried again (PROTOCOL 2, column
// "retry"), and after what time.
func retryAfter(e *wire.RPCError, out *outgoing) (time.Duration, bool) {
	switch {
	case e == nil:
	case e.Kind == im.RateLimited:
		return max(e.RetryAfter, 10*time.Millisecond), true
	case e.Kind == im.Unavailable:
		return max(e.RetryAfter, 500*time.Millisecond), true
	case e.Kind == im.Internal && e.Code == wire.CodeInternal && !out.once:
		out.once = true
		return 500 * time.Millisecond, true
	}
	return 0, false
}

// errorOf turns an error of the wire into one of ours.
func errorOf(e *wire.RPCError) error {
	return &im.Error{Kind: e.Kind, Message: e.Message, Field: e.Field, Limit: e.Limit, RetryAfter: e.RetryAfter, Reason: e.Reason}
}

// Call asks method (wire.Method…) with its params and hands the raw result to
// decode, which may be nil and runs on the caller's goroutine. It is tried once:
// without a connection, or if it is lost before the answer, the error is
// im.Unavailable.
func (c *Client) Call(ctx context.Context, method string, params wire.Params, decode func(result []byte) error) error {
	type answer struct {
		result []byte
		err    error
	}
	ch := make(chan answer, 1)
	// The result is copied: a caller whose context has ended is gone when it comes.
	c.request(method, params, func(result []byte, err error) { ch <- answer{bytes.Clone(result), err} })
	select {
	case a := <-ch:
		if a.err == nil && decode != nil {
			return decode(a.result)
		}
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// request sends one request on the live connection; finish is called once, on
// the run goroutine, or at once if there is no connection.
func (c *Client) request(method string, params wire.Params, finish func(result []byte, err error)) {
	c.mu.Lock()
	sent := c.conn != nil
	if sent {
		c.requestLocked(method, params, finish)
	}
	c.mu.Unlock()
	if !sent {
		finish(nil, errDown)
	}
}

// requestLocked sends one request on the live connection.
func (c *Client) requestLocked(method string, params wire.Params, finish func(result []byte, err error)) {
	c.nextID++
	c.calls[c.nextID] = &call{finish: finish}
	c.conn.write(wire.AppendRequest(nil, c.nextID, method, params))
}

// Notify sends a notification (typing, presence.set); without a connection it
// is dropped.
func (c *Client) Notify(method string, params wire.Params) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		conn.write(wire.AppendNotification(nil, method, params))
	}
}
