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

// pageBytes bounds the text of one page, so that it fits into the output bound
// of a session: long messages make it shorter, but never empty.
const pageBytes = 192 << 10

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
	page.Entries = fit(page.Entries, !q.HasAfter)
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

// fit cuts a page to pageBytes: the newest are kept if newest, else the oldest.
func fit(entries []im.Message, newest bool) []im.Message {
	total := 0
	for i := range entries {
		at := i
		if newest {
			at = len(entries) - 1 - i
		}
		m := &entries[at]
		total += len(m.Shown()) + 256 + 40*len(m.Mentions)
		for j := range m.Reactions {
			total += len(m.Reactions[j].Emoji) + 32
		}
		if total > pageBytes && i > 0 {
			if newest {
				return entries[at+1:]
			}
			return entries[:at]
		}
	}
	return entries
}

// Pins returns the pinned messages, newest pin first, at most im.MaxPins
// (PROTOCOL 6.4).
func (c *Chat) Pins(ctx context.Context, actor im.Actor, id im.ConvID) ([]im.Message, error) {
	cv, _, err := c.open(ctx, actor, id, access.Read)
	if err != nil {
		return nil, err
	}
	pins, err := c.store.Pins(ctx, cv.key.tenant, id, actor.User, im.MaxPins)
	return pins, im.Wrap("read the pins of "+string(id), err)
}
