package client

import (
	"context"
	"errors"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// maxAhead bounds the events that wait above a hole; what comes beyond it is
// pulled like the hole itself.
const maxAhead = 1000

// logPos is where the client is in one conversation.
type logPos struct {
	have    im.Seq        // newest entry handed out, or that the user does not want
	joined  bool          // announced, and nothing came yet: have is a guess
	pulling bool          // a history request is under way, or waits to be tried again
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
	defer conn.end()
	defer context.AfterFunc(c.ctx, func() { conn.close(1000) })()
	late := context.AfterFunc(ctx, func() { conn.nc.Close() }) // hello has the rest of dialTimeout

	hello, err := c.hello(conn)
	if !late() && err == nil {
		err = &CloseError{Code: 1006, Cause: context.DeadlineExceeded}
	}
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
	c.mu.Lock()
	c.sendLocked() // before any pull (PROTOCOL 3.6)
	c.mu.Unlock()
	named := map[im.ConvID]bool{}
	c.listed(hello.Conversations, named)
	if hello.Next != "" {
		c.listMore(hello.Next, named)
	} else {
		c.listEnd(hello.Sync, hello.Full, named)
	}
	for {
		p, err := conn.next()
		if err != nil {
			return err
		}
		if err := c.message(p); err != nil {
			conn.close(1002)
			return errors.Join(&CloseError{Code: 1002, Reason: "the server's message can't be read"}, err)
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
	if err == nil && m.Error != nil {
		err = errorOf(m.Error)
		// The close frame behind it says what to do (PROTOCOL 3.9).
		for {
			if _, cerr := conn.next(); cerr != nil {
				return nil, errors.Join(cerr, err)
			}
		}
	}
	var hello wire.HelloResult
	if err == nil && (!m.HasID || m.ID != id) {
		err = errors.New("something else before the answer to hello")
	}
	if err == nil {
		hello, err = wire.DecodeHelloResult(m.Result)
	}
	if err != nil {
		conn.close(1002)
		return nil, errors.Join(&CloseError{Code: 1002, Reason: "the server's message can't be read"}, err)
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
	if c.epoch != hello.Epoch {
		c.epoch, c.sync = hello.Epoch, "" // that of the old history says nothing of this one
	}
	c.mu.Unlock()
	return &hello, nil
}

// listed takes a page of hello's list and pulls what is missing in each
// conversation (PROTOCOL 3.6).
func (c *Client) listed(heads []im.Head, named map[im.ConvID]bool) {
	for i := range heads {
		h := &heads[i]
		named[h.ID] = true
		if h.Left {
			c.left(h)
			continue
		}
		c.pull(h.ID, c.position(h), h.Head)
	}
}

// listMore fetches the further pages of the list that hello began.
func (c *Client) listMore(cursor string, named map[im.ConvID]bool) {
	c.request(wire.MethodList, &wire.ListParams{Cursor: cursor, Limit: im.MaxHeadsPage}, func(result []byte, err error) {
		var list wire.HeadsResult
		if err == nil {
			list, err = wire.DecodeHeads(result)
		}
		if err != nil {
			// The connection is lost, or the server refuses: without the last page's
			// sync, the next hello lists the same again.
			c.log.Info("the list of conversations is not complete", "error", err)
			return
		}
		c.listed(list.Conversations, named)
		if c.o.Handler.Changed != nil {
			for i := range list.Conversations {
				if h := &list.Conversations[i]; !h.Left {
					c.o.Handler.Changed(h)
				}
			}
		}
		if list.Next != "" {
			c.listMore(list.Next, named)
			return
		}
		c.listEnd(list.Sync, list.Full, named)
	})
}

// listEnd ends the list: only the last page's sync counts, and what a full one
// did not name is no longer the user's (PROTOCOL 3.3).
func (c *Client) listEnd(sync string, full bool, named map[im.ConvID]bool) {
	if full {
		for id, l := range c.logs {
			// What was joined, or spoke, since the list began is not in it.
			if !named[id] && !l.joined && l.event == 0 {
				c.left(&im.Head{ID: id, Left: true})
			}
		}
	}
	c.mu.Lock()
	c.sync = sync
	c.mu.Unlock()
}

// left forgets a conversation.
func (c *Client) left(h *im.Head) {
	delete(c.logs, h.ID)
	if c.o.Handler.Left != nil {
		c.o.Handler.Left(h)
	}
}

// position returns the position in a listed conversation; one that was not known
// begins at its head, or with FromStart at its first entry.
func (c *Client) position(h *im.Head) *logPos {
	l := c.logs[h.ID]
	if l == nil {
		l = &logPos{have: h.Head}
		if c.o.FromStart {
			l.have = 0
		}
		c.logs[h.ID] = l
	}
	return l
}

// pull fetches entries after l.have until head is reached.
func (c *Client) pull(conv im.ConvID, l *logPos, head im.Seq) {
	l.until = max(l.until, head)
	if l.pulling || l.have >= l.until {
		return
	}
	l.pulling = true
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.pullLocked(c.conn, conv, l, l.have, 0)
	}
}

// pullLocked asks for entries after a seq; tries counts refusals so far. It
// touches nothing of l: a second try comes from a timer.
func (c *Client) pullLocked(conn *conn, conv im.ConvID, l *logPos, after im.Seq, tries int) {
	params := &wire.HistoryParams{Conversation: conv, After: after, HasAfter: true, Limit: im.MaxHistoryPage}
	c.requestLocked(wire.MethodHistory, params, func(result []byte, err error) {
		if errors.Is(err, errDown) || c.logs[conv] != l {
			return // the next hello pulls; or the conversation was left meanwhile
		}
		var page im.Page
		if err == nil {
			page, err = wire.DecodePage(result)
		}
		if wait := pullAgain(err, tries); wait > 0 {
			time.AfterFunc(wait, func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.conn == conn {
					c.pullLocked(conn, conv, l, after, tries+1)
				}
			})
			return
		}
		l.pulling = false
		if err != nil {
			c.log.Info("entries can't be fetched", "conversation", conv, "after", after, "error", err)
			c.skip(conv, l)
			return
		}
		c.pulledPage(conv, l, &page)
	})
}

// pullAgain says after what time a refused pull is tried again; 0: never.
func pullAgain(err error, tries int) time.Duration {
	var e *im.Error
	if !errors.As(err, &e) {
		return 0
	}
	switch {
	case e.Kind == im.RateLimited, e.Kind == im.Unavailable:
		return max(e.RetryAfter, 500*time.Millisecond)
	case e.Kind == im.Internal && tries == 0:
		return 500 * time.Millisecond
	}
	return 0
}

// pulledPage hands out what a pull brought, and then the events that waited.
func (c *Client) pulledPage(conv im.ConvID, l *logPos, page *im.Page) {
	before := l.have
	for i := range page.Entries {
		m := &page.Entries[i]
		if m.Seq <= l.have {
			continue
		}
		// A page is in order; what it leaves out, the server has not.
		c.missed.Add(uint64(m.Seq - l.have - 1))
		c.pulled.Add(1)
		c.hand(l, m)
	}
	if l.have == before {
		c.skip(conv, l) // asking again would bring the same
		return
	}
	c.placeAhead(l)
	c.pull(conv, l, l.until)
}

// skip gives up a hole that the server can't fill, so that what is above it is
// not held back for ever.
func (c *Client) skip(conv im.ConvID, l *logPos) {
	to := l.until
	if len(l.ahead) > 0 {
		to = l.ahead[0].Seq - 1
	}
	if to > l.have {
		c.missed.Add(uint64(to - l.have))
		l.have = to
	}
	c.placeAhead(l)
	c.pull(conv, l, l.until)
}

// placeAhead places the events that waited above a hole.
func (c *Client) placeAhead(l *logPos) {
	ahead := l.ahead
	l.ahead = nil
	for _, m := range ahead {
		c.place(l, m)
	}
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
	if l.joined {
		// The announcement's head may count this entry in: both are of one commit.
		l.joined = false
		l.have = min(l.have, m.Seq-1)
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
		if len(l.ahead) < maxAhead {
			l.ahead = append(l.ahead, m)
		}
		c.pull(m.Conv, l, m.Seq)
	}
}

// message handles one message of the server; an error is one that can't be read.
func (c *Client) message(p []byte) error {
	m, err := wire.DecodeServerMessage(p)
	if err != nil {
		return err
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
		c.answered(k.out, m.Result, m.Error)
	case m.Error != nil:
		k.finish(nil, errorOf(m.Error))
	default:
		k.finish(m.Result, nil)
	}
	return nil
}

// changed takes the position from a HEAD that was announced. One that was not
// known was joined just now, and its first entries follow, although the head may
// count them in already (PROTOCOL 3.4). Of a known one nothing is pulled: the
// event of the entry that changed it may be right behind, and everybody in the
// room would ask for it.
func (c *Client) changed(h *im.Head) {
	if c.logs[h.ID] != nil {
		return
	}
	l := c.position(h)
	l.joined = !c.o.FromStart
	c.pull(h.ID, l, h.Head)
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
			c.left(&head)
			return nil
		}
		c.changed(&head)
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
