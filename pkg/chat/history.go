package chat

import (
	"context"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
)

// HistoryQuery asks for a stretch of a log (PROTOCOL 6.3): the entries after
// After or before Before (both exclusive), or the newest.
type HistoryQuery struct {
	Conv                im.ConvID
	After, Before       im.Seq
	HasAfter, HasBefore bool
	Limit               int // 1 to im.MaxHistoryPage; 0 or above: the most
}

// History returns a page of a conversation in rising order, one snapshot with
// its head (PROTOCOL 6.3, 6.5).
func (c *Chat) History(ctx context.Context, actor im.Actor, q HistoryQuery) (im.Page, error) {
	if q.HasAfter && q.HasBefore {
		return im.Page{}, im.E(im.Invalid, "Ask for what is after or for what is before, not both.").OnField("before")
	}
	if q.Limit < 0 {
		return im.Page{}, im.E(im.Invalid, "A page has at least one entry.").OnField("limit")
	}
	cv, _, err := c.open(ctx, actor, q.Conv, access.Read)
	if err != nil {
		return im.Page{}, err
	}
	limit := im.Seq(q.Limit)
	if limit == 0 || limit > im.MaxHistoryPage {
		limit = im.MaxHistoryPage
	}
	cv.mu.Lock()
	head := cv.pub.Load().rec.Head
	from, to := q.span(head, limit)
	entries, ok := cv.tail.page(actor.User, from, to)
	cv.mu.Unlock()
	page := im.Page{Entries: entries, Head: head}
	if !ok {
		if page, err = c.read(ctx, cv, actor.User, from, to); err != nil {
			return im.Page{}, err
		}
	}
	page.Entries = c.fit(page.Entries, !q.HasAfter)
	return page, nil
}

// span returns the seqs that the query is about, from > to for none.
func (q *HistoryQuery) span(head, limit im.Seq) (from, to im.Seq) {
	if q.HasAfter {
		if q.After >= head {
			return 1, 0
		}
		return q.After + 1, min(head, q.After+limit)
	}
	to = head
	if q.HasBefore && q.Before <= head {
		if q.Before == 0 {
			return 1, 0
		}
		to = q.Before - 1
	}
	from = 1
	if to >= limit {
		from = to - limit + 1
	}
	return from, to
}

// read gets a page from the store, and has the tail learn from it.
func (c *Chat) read(ctx context.Context, cv *conv, reader im.UserID, from, to im.Seq) (im.Page, error) {
	page, err := c.store.Page(ctx, cv.key.tenant, cv.key.id, reader, from, to)
	if err != nil {
		return im.Page{}, im.Wrap("read a page of "+string(cv.key.id), err)
	}
	cv.mu.Lock()
	cv.tail.fill(reader, page)
	cv.mu.Unlock()
	c.convs.weigh(cv)
	return page, nil
}

// fit cuts a page to the bound in bytes, but to one entry at least: the last ones
// are kept if last, else the first.
func (c *Chat) fit(entries []im.Message, last bool) []im.Message {
	most := 0
	for i := range entries {
		most += 256 + 6*len(entries[i].Shown()) + 40*len(entries[i].Mentions) + 512*len(entries[i].Reactions) + 6*im.MaxKeyBytes
	}
	if most <= c.pageBytes {
		return entries // nearly always: there is no need to look at the texts
	}
	total := 0
	for i := range entries {
		at := i
		if last {
			at = len(entries) - 1 - i
		}
		if total += encoded(&entries[at]); total > c.pageBytes && i > 0 {
			if last {
				return entries[at+1:]
			}
			return entries[:at]
		}
	}
	return entries
}

// encoded estimates the bytes of a message in JSON, from above for its texts:
// which characters need an escape is known, and a text of nothing else is six
// times as long on the wire.
func encoded(m *im.Message) int {
	n := 256 + escaped(m.Shown()) + 40*len(m.Mentions) + escaped(m.Key) + escaped(m.Emoji) + escaped(m.Title)
	for i := range m.Reactions {
		n += escaped(m.Reactions[i].Emoji) + 40
	}
	return n
}

func escaped(s string) int {
	n := len(s)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < ' ':
			n += 5 // \u0000
		case c == '"' || c == '\\':
			n++
		}
	}
	return n
}

// Pins returns the pinned messages, newest pin first, at most im.MaxPins, fewer
// if they are long (PROTOCOL 6.4).
func (c *Chat) Pins(ctx context.Context, actor im.Actor, id im.ConvID) ([]im.Message, error) {
	cv, _, err := c.open(ctx, actor, id, access.Read)
	if err != nil {
		return nil, err
	}
	pins, err := c.store.Pins(ctx, cv.key.tenant, id, actor.User, im.MaxPins)
	return c.fit(pins, false), im.Wrap("read the pins of "+string(id), err)
}
