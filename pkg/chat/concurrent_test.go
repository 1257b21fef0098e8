package chat

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// order records what one session would see of a conversation, in order.
type order struct {
	mu    sync.Mutex
	heard map[im.ConvID]im.Seq // newest entry event
	early []string             // what came in the wrong order
}

func (o *order) event(e bus.Event) {
	if e.Kind != bus.Entry {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.Seq != o.heard[e.Conv]+1 {
		o.early = append(o.early, fmt.Sprintf("event %d after %d", e.Seq, o.heard[e.Conv]))
	}
	o.heard[e.Conv] = e.Seq
}

// reply notes the reply to a request that made entry seq: no event of that or a
// higher seq may have come (PROTOCOL 2.3).
func (o *order) reply(cv im.ConvID, seq im.Seq, repeat bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !repeat && o.heard[cv] >= seq {
		o.early = append(o.early, fmt.Sprintf("reply %d after event %d", seq, o.heard[cv]))
	}
}

func (o *order) head(cv im.ConvID) im.Seq {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.heard[cv]
}

// TestConcurrent has many senders, who send everything twice, and many readers
// work on a few conversations and a cache that holds hardly one of them.
func TestConcurrent(t *testing.T) {
	const senders, each, rooms = 8, 60, 3
	w := newWorld(t, func(o *Options) { o.CacheBytes = 60 << 10 })
	ctx := context.Background()
	o := &order{heard: map[im.ConvID]im.Seq{}}
	actors := make([]im.Actor, senders)
	for i := range actors {
		actors[i] = w.user(fmt.Sprintf("sender%d", i), im.RoleMember)
	}
	ids := make([]im.ConvID, rooms)
	for i := range ids {
		ids[i] = w.group(im.KindGroup, w.actor("ann"), append(actors, w.actor("ben"))...)
	}
	cancel := w.bus.Subscribe(func(events []bus.Event) {
		for _, e := range events {
			o.event(e)
		}
	})
	defer cancel()

	var senderWG, readerWG sync.WaitGroup
	var stop atomic.Bool
	var mu sync.Mutex
	got := map[string]im.Seq{} // by key
	for s, actor := range actors {
		senderWG.Go(func() {
			var wg sync.WaitGroup
			var last im.Seq
			for i := range each {
				cv := ids[s%rooms]
				if i%10 == 9 {
					cv = ids[(s+1)%rooms]
				}
				cmd := &Command{Op: Send, Actor: actor, Conv: cv, Key: fmt.Sprint(i), Text: fmt.Sprint(s, " ", i)}
				cmd.Body = bodyOf(cmd)
				for range 2 {
					wg.Add(1)
					w.chat.Submit(cmd, ReplyFunc(func(cmd *Command, res Result, err error) {
						defer wg.Done()
						if err != nil {
							t.Errorf("send: %v", err)
							return
						}
						o.reply(cv, res.Seq, res.Repeat)
						mu.Lock()
						defer mu.Unlock()
						name := string(actor.User) + " " + cmd.Key
						if seq, ok := got[name]; ok && seq != res.Seq || ok != res.Repeat {
							t.Errorf("key %s: seq %d, repeat %v, after %d", name, res.Seq, res.Repeat, seq)
						}
						got[name] = res.Seq
						if cv == ids[s%rooms] {
							if res.Seq < last {
								t.Errorf("%s: seq %d after %d", name, res.Seq, last)
							}
							last = res.Seq
						}
					}))
				}
				if i%7 == 0 {
					wg.Wait()
				}
			}
			wg.Wait()
		})
	}
	// One who reacts, recalls and pins, so that the tails change in the middle.
	senderWG.Go(func() {
		for i := range each {
			target := im.Seq(i/2 + 1)
			for _, cmd := range []*Command{
				{Op: React, Emoji: "👍", On: i%3 > 0}, {Op: Pin, On: i%2 == 0}, {Op: Mark, Seq: target},
			} {
				cmd.Actor, cmd.Conv, cmd.Target, cmd.Key = w.actor("ann"), ids[0], target, newKey()
				if err := w.try(cmd); err != nil && !im.Is(err, im.Invalid) {
					t.Errorf("%v: %v", cmd.Op, err)
				}
			}
		}
	})
	// Readers: a head is never behind an event that was published before.
	for range 2 {
		readerWG.Go(func() {
			for i := 0; !stop.Load(); i++ {
				cv := ids[i%rooms]
				before := o.head(cv)
				page, err := w.chat.History(ctx, w.actor("ben"), HistoryQuery{Conv: cv, Limit: 40})
				if err != nil {
					t.Errorf("history: %v", err)
					return
				}
				if n := len(page.Entries); page.Head < before || n > 0 && page.Entries[n-1].Seq > page.Head {
					t.Errorf("page with head %d after event %d", page.Head, before)
				}
				h, err := w.chat.Head(ctx, w.actor("ben"), cv)
				if err != nil || h.Head < before || h.Last != nil && h.Last.Seq > h.Head {
					t.Errorf("head %+v after event %d: %v", h, before, err)
				}
			}
		})
	}
	// One who syncs again and again, and must end up with everything.
	known := map[im.ConvID]im.Seq{}
	readerWG.Go(func() {
		sync := ""
		for done := false; !done; {
			done = stop.Load() // once more after the end
			for cursor := ""; ; {
				p, err := w.chat.Heads(ctx, w.actor("ben"), HeadsQuery{Sync: sync, Cursor: cursor, Limit: 1})
				if err != nil {
					t.Errorf("heads: %v", err)
					return
				}
				for _, h := range p.Heads {
					known[h.ID] = max(known[h.ID], h.Head)
				}
				if cursor = p.Next; cursor == "" {
					sync = p.Sync
					break
				}
			}
		}
	})
	senderWG.Wait()
	w.settle()
	stop.Store(true)
	readerWG.Wait()

	for _, e := range o.early {
		t.Error(e)
	}
	if len(got) != senders*each {
		t.Errorf("%d keys were answered of %d", len(got), senders*each)
	}
	texts := map[string]bool{}
	for _, cv := range ids {
		if known[cv] != o.head(cv) {
			t.Errorf("%s: the syncing client ended at %d, the log at %d", cv, known[cv], o.head(cv))
		}
		stored, err := w.store.Page(ctx, tenant, cv, "u_ben", 1, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for i := range stored.Entries {
			e := &stored.Entries[i]
			if e.Seq != im.Seq(i+1) {
				t.Fatalf("a hole at %d", i+1)
			}
			if e.Kind == im.EntryMessage {
				if texts[e.Entry.Text] {
					t.Errorf("%q is there twice", e.Entry.Text)
				}
				texts[e.Entry.Text] = true
			}
		}
		page, err := w.chat.History(ctx, w.actor("ben"), HistoryQuery{Conv: cv, Limit: 60})
		if err != nil {
			t.Fatal(err)
		}
		for i := range page.Entries {
			if m := &page.Entries[i]; !same(m, &stored.Entries[m.Seq-1]) {
				t.Errorf("in memory\n%+v\nstored\n%+v", m, stored.Entries[m.Seq-1])
			}
		}
		h, err := w.chat.Head(ctx, w.actor("ben"), cv)
		if err != nil {
			t.Fatal(err)
		}
		unread := 0
		for i := range stored.Entries {
			if m := &stored.Entries[i]; m.Kind == im.EntryMessage && m.By != "u_ben" && !m.Recalled {
				unread++
			}
		}
		if h.Unread != unread {
			t.Errorf("%d unread, counted %d", h.Unread, unread)
		}
	}
	if len(texts) != senders*each {
		t.Errorf("%d messages are stored of %d", len(texts), senders*each)
	}
}
