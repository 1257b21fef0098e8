package client

import (
	"context"
	"errors"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// logPos is where the client is in one conversation.
type logPos struct {
	have    im.Seq        // newest entry handed out
	pulling bool          // a history request is under way
	ahead   []*im.Message // events above a hole, in order
	until   im.Seq        // a pull goes on until this is reached
	event   im.Seq        // newest that came as an event on this connection
}

// session is one connection from dial to loss. Its error says how it ended.
func (c *Client) session() error {
	ctx, cancel := context.WithTimeout(c.ctx, dialTimeout)
	defer cancel()
	conn, err := dial(ctx, &c.o)
	if err != nil {
		return err
	}
	defer conn.nc.Close()
	unhook := context.AfterFunc(c.ctx, func() { conn.close(1000) })
	defer unhook()

	hello, err := c.hello(conn)
	if err != nil {
		return err
	}
	c.backoff = 0
	for _, l := range c.logs { // pulls of the connection before were lost with it
		l.pulling, l.ahead, l.event = false, nil, 0
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.conn = conn
	close(c.ready)
	c.mu.Unlock()
	defer c.down(conn)
	if c.o.Handler.Ready != nil {
		c.o.Handler.Ready(hello)
	}
	c.resend(conn) // before any pull (PROTOCOL 3.6)
	c.catchUp(hello.Conversations)
	if hello.Next != "" {
		c.listMore(hello.Next)
	}
	for {
		p, err := conn.next()
		if err != nil {
			return err
		}
		if err := c.message(conn, p); err != nil {
			return err
		}
	}
}

// hello signs the connection in (PROTOCOL 3.1).
func (c *Client) hello(conn *conn) (*wire.HelloResult, error) {
	c.mu.Lock()
	c.nextID++
	id, epoch, sync := c.nextID, c.epoch, c.sync
	c.mu.Unlock()
	conn.write(wire.AppendRequest(nil, id, wire.MethodHello, &wire.HelloParams{
		Token: c.o.Token, HasToken: true, Client: c.o.Name, Epoch: string(epoch), Sync: sync,
	}))
	p, err := conn.next()
	if err != nil {
		return nil, err
	}
	m, err := wire.DecodeServerMessage(p)
	if err != nil {
		return nil, err
	}
	if m.Error != nil {
		return nil, errorOf(m.Error)
	}
	hello, err := wire.DecodeHelloResult(m.Result)
	if err != nil {
		return nil, err
	}
	if hello.Heartbeat > 0 {
		conn.silence = hello.Heartbeat + hello.Heartbeat/2
	}
	if epoch != "" && hello.Epoch != epoch {
		c.logs = map[im.ConvID]*logPos{}
		if c.o.Handler.Reset != nil {
			c.o.Handler.Reset()
		}
	}
	c.mu.Lock()
	c.epoch = hello.Epoch
	if hello.Next == "" {
		c.sync = hello.Sync
	}
	c.mu.Unlock()
	return &hello, nil
}

// catchUp pulls what is missing in each listed conversation (PROTOCOL 3.6).
func (c *Client) catchUp(heads []im.Head) {
	for i := range heads {
		h := &heads[i]
		if h.Left {
			delete(c.logs, h.ID)
			continue
		}
		l := c.logs[h.ID]
		if l == nil {
			l = &logPos{have: c.start(h)}
			c.logs[h.ID] = l
		}
		c.pull(h.ID, l, h.Head)
	}
}

// start is where a conversation begins that was not known before.
func (c *Client) start(h *im.Head) im.Seq {
	if c.o.FromStart {
		return 0
	}
	return h.Head
}

// listMore fetches the further pages of the list that hello began.
func (c *Client) listMore(cursor string) {
	c.request(wire.MethodList, &wire.ListParams{Cursor: cursor, Limit: im.MaxHeadsPage}, func(result []byte, err error) {
		if err != nil {
			return // the connection is lost; the next hello lists anew
		}
		list, err := wire.DecodeHeads(result)
		if err != nil {
			c.log.Warn("conversation.list", "error", err)
			return
		}
		c.catchUp(list.Conversations)
		if list.Next != "" {
			c.listMore(list.Next)
			return
		}
		c.mu.Lock()
		c.sync = list.Sync
		c.mu.Unlock()
	})
}

// pull fetches entries after l.have until head is reached.
func (c *Client) pull(conv im.ConvID, l *logPos, head im.Seq) {
	l.until = max(l.until, head)
	if l.pulling || l.have >= l.until {
		return
	}
	l.pulling = true
	params := &wire.HistoryParams{Conversation: conv, After: l.have, HasAfter: true, Limit: im.MaxHistoryPage}
	c.request(wire.MethodHistory, params, func(result []byte, err error) {
		l.pulling = false
		if err != nil {
			return // lost connection: hello pulls again; left meanwhile: no matter
		}
		page, err := wire.DecodePage(result)
		if err != nil {
			c.log.Warn("message.history", "conversation", conv, "error", err)
			return
		}
		for i := range page.Entries {
			if m := &page.Entries[i]; m.Seq == l.have+1 {
				c.pulled.Add(1)
				c.hand(l, m)
			}
		}
		// What the pull covered, the page showed with its state; what is above
		// came as events.
		ahead := l.ahead
		l.ahead = nil
		for _, m := range ahead {
			c.place(l, m)
		}
		if len(page.Entries) > 0 && l.have < l.until {
			c.pull(conv, l, l.until)
		}
	})
}

func (c *Client) hand(l *logPos, m *im.Message) {
	l.have = m.Seq
	if c.o.Handler.Entry != nil {
		c.o.Handler.Entry(m)
	}
}

// entry takes an event: (conversation, seq) is the identity, a hole is pulled
// (PROTOCOL 5.3).
func (c *Client) entry(m *im.Message) {
	l := c.logs[m.Conv]
	if l == nil {
		l = &logPos{have: m.Seq - 1}
		c.logs[m.Conv] = l
	}
	if m.Seq <= l.event {
		c.doubled.Add(1)
	}
	l.event = max(l.event, m.Seq)
	c.place(l, m)
}

// place hands m out if it is the next, drops it if it is known, and pulls what
// is missing before it.
func (c *Client) place(l *logPos, m *im.Message) {
	switch {
	case m.Seq <= l.have:
	case m.Seq == l.have+1 && !l.pulling:
		c.hand(l, m)
	default:
		l.ahead = append(l.ahead, m)
		c.pull(m.Conv, l, m.Seq)
	}
}

// message handles one message of the server.
func (c *Client) message(conn *conn, p []byte) error {
	m, err := wire.DecodeServerMessage(p)
	if err != nil {
		conn.close(1002)
		return errors.Join(&CloseError{Code: 1002, Reason: "the server's message can't be read"}, err)
	}
	if m.Method != "" {
		return c.event(&m)
	}
	if !m.HasID {
		return nil
	}
	c.mu.Lock()
	k := c.calls[m.ID]
	delete(c.calls, m.ID)
	c.mu.Unlock()
	switch {
	case k == nil:
	case k.out != nil:
		c.answered(conn, k.out, m.Result, m.Error)
	case m.Error != nil:
		k.finish(nil, errorOf(m.Error))
	default:
		k.finish(m.Result, nil)
	}
	return nil
}

// event handles one event; unknown ones are ignored (PROTOCOL 1.5).
func (c *Client) event(m *wire.ServerMessage) error {
	h := &c.o.Handler
	switch m.Method {
	case wire.EventEntry:
		e, err := wire.DecodeMessage(m.Params)
		if err != nil {
			return err
		}
		c.entry(&e)
	case wire.EventChanged:
		head, err := wire.DecodeHead(m.Params)
		if err != nil {
			return err
		}
		if head.Left {
			delete(c.logs, head.ID)
			if h.Left != nil {
				h.Left(&head)
			}
			return nil
		}
		c.catchUp([]im.Head{head})
		if h.Changed != nil {
			h.Changed(&head)
		}
	case wire.EventRead:
		if h.Read == nil {
			return nil
		}
		r, err := wire.DecodeReadEvent(m.Params)
		if err != nil {
			return err
		}
		h.Read(r.Conversation, r.User, r.Seq)
	case wire.EventTyping:
		if h.Typing == nil {
			return nil
		}
		r, err := wire.DecodeReadEvent(m.Params)
		if err != nil {
			return err
		}
		h.Typing(r.Conversation, r.User)
	case wire.EventPresence:
		if h.Presence == nil {
			return nil
		}
		users, err := wire.DecodePresenceList(m.Params)
		if err != nil {
			return err
		}
		h.Presence(users)
	}
	return nil
}
