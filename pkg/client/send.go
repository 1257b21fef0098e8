package client

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
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
	if c.closed {
		c.mu.Unlock()
		done(Sent{}, ErrClosed)
		return
	}
	out := c.enqueue(m, done)
	conn := c.conn
	if out == nil {
		c.mu.Unlock()
		done(Sent{}, im.E(im.Conflict, "A message with this key is on its way already.").OnField("key"))
		return
	}
	var frame []byte
	if conn != nil {
		frame = c.requestLocked(out)
	}
	c.mu.Unlock()
	if frame != nil {
		conn.write(frame)
	}
}

// enqueue adds m to the outbox; nil if its key is there. c.mu is held, or c is
// not shared yet.
func (c *Client) enqueue(m Outgoing, done func(Sent, error)) *outgoing {
	if c.byKey[m.Key] != nil {
		return nil
	}
	out := &outgoing{Outgoing: m, done: done}
	c.outbox = append(c.outbox, out)
	c.byKey[m.Key] = out
	return out
}

// requestLocked makes the request of out on the live connection.
func (c *Client) requestLocked(out *outgoing) []byte {
	c.nextID++
	out.id = c.nextID
	c.calls[out.id] = &call{out: out}
	return wire.AppendRequest(nil, out.id, wire.MethodSend, &wire.SendParams{
		Conversation: out.Conversation, Key: out.Key, Text: out.Text, ReplyTo: out.ReplyTo, Mentions: out.Mentions,
	})
}

// resend puts what waits in the outbox on the live connection, in order, but
// for what is held back for now.
func (c *Client) resend(conn *conn) {
	c.mu.Lock()
	var frames [][]byte
	var next time.Duration
	now := time.Now()
	if c.conn == conn {
		for _, m := range c.outbox {
			if m.id != 0 {
				continue
			}
			if wait := m.hold.Sub(now); wait > 0 {
				if next == 0 || wait < next {
					next = wait
				}
				continue
			}
			frames = append(frames, c.requestLocked(m))
		}
		if next > 0 && !c.closed {
			if c.retry != nil {
				c.retry.Stop()
			}
			c.retry = time.AfterFunc(next, func() { c.resend(conn) })
		}
	}
	c.mu.Unlock()
	for _, f := range frames {
		conn.write(f)
	}
}

// answered takes the reply of an outbox message.
func (c *Client) answered(conn *conn, out *outgoing, result []byte, rpc *wire.RPCError) {
	var sent Sent
	var err error
	if rpc != nil {
		if wait, again := retryAfter(rpc, out); again {
			c.mu.Lock()
			out.id, out.hold = 0, time.Now().Add(wait)
			c.mu.Unlock()
			c.resend(conn)
			return
		}
		err = errorOf(rpc)
	} else {
		var r wire.SeqResult
		r, err = wire.DecodeSeqResult(result)
		sent = Sent{Seq: r.Seq, Time: r.Time, Repeat: r.Repeat}
	}
	c.mu.Lock()
	delete(c.byKey, out.Key)
	if i := slices.Index(c.outbox, out); i >= 0 {
		c.outbox = slices.Delete(c.outbox, i, i+1)
	}
	c.mu.Unlock()
	if out.done != nil {
		out.done(sent, err)
	}
}

// retryAfter says whether a refused message is tried again (PROTOCOL 2, column
// "retry"), and after what time.
func retryAfter(e *wire.RPCError, out *outgoing) (time.Duration, bool) {
	switch e.Kind {
	case im.RateLimited:
		return max(e.RetryAfter, 10*time.Millisecond), true
	case im.Unavailable:
		return max(e.RetryAfter, 500*time.Millisecond), true
	case im.Internal:
		if e.Code == wire.CodeInternal && !out.once {
			out.once = true
			return 500 * time.Millisecond, true
		}
	}
	return 0, false
}

// errorOf turns an error of the wire into one of ours.
func errorOf(e *wire.RPCError) error {
	return &im.Error{Kind: e.Kind, Message: e.Message, Field: e.Field, Limit: e.Limit, RetryAfter: e.RetryAfter}
}

// Call asks method (wire.Method…) with its params and hands the raw result to
// decode, which may be nil; decode borrows its argument. It is tried once:
// without a connection, or if it is lost before the answer, the error is
// im.Unavailable.
func (c *Client) Call(ctx context.Context, method string, params wire.Params, decode func(result []byte) error) error {
	ch := make(chan error, 1)
	c.request(method, params, func(result []byte, err error) {
		if err == nil && decode != nil {
			err = decode(result)
		}
		ch <- err
	})
	select {
	case err := <-ch:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// request sends one request on the live connection; finish is called once, on
// the run goroutine if there is an answer.
func (c *Client) request(method string, params wire.Params, finish func(result []byte, err error)) {
	c.mu.Lock()
	conn := c.conn
	if conn == nil {
		c.mu.Unlock()
		finish(nil, errDown)
		return
	}
	c.nextID++
	id := c.nextID
	c.calls[id] = &call{finish: finish}
	c.mu.Unlock()
	conn.write(wire.AppendRequest(nil, id, method, params))
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

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
