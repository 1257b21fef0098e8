package chat

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// bubbleClocks lets a world live on the bubble's clocks.
func bubbleClocks(o *Options) { o.Now, o.Mono = nil, nil }

// stamped is an event with the second it was published in.
type stamped struct {
	at   time.Duration
	text string
}

func (w *world) stamps(kind bus.Kind) func() []stamped {
	var got []stamped
	start := time.Now()
	w.bus.Subscribe(func(events []bus.Event) {
		for _, e := range events {
			if e.Kind == kind {
				text := fmt.Sprint(short(e.User), " ", e.Seq)
				if e.Wide {
					text += " wide"
				}
				got = append(got, stamped{time.Since(start), text})
			}
		}
	})
	return func() []stamped {
		synctest.Wait()
		return got
	}
}

// TestReadGather is PROTOCOL 7.2: at most one wide event per reader and second,
// the last one always within a second; the reader's own sessions hear all.
func TestReadGather(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bubbleClocks)
		id := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"), w.actor("cid"))
		for range 9 {
			w.send(w.actor("ann"), id, "x")
		}
		got := w.stamps(bus.Read)
		mark := func(who string, seq im.Seq) {
			w.do(&Command{Op: Mark, Actor: w.actor(who), Conv: id, Seq: seq})
		}
		mark("ben", 1)
		mark("ben", 1) // nothing new: no event
		time.Sleep(100 * time.Millisecond)
		mark("ben", 2)
		mark("cid", 1) // another reader
		time.Sleep(800 * time.Millisecond)
		mark("ben", 3)
		time.Sleep(600 * time.Millisecond) // 1.5 s
		mark("ben", 4)
		time.Sleep(2 * time.Second) // 3.5 s: long enough that nothing is held
		mark("ben", 5)
		time.Sleep(10 * time.Second)
		want := []stamped{
			{0, "ben 1 wide"},
			{100 * time.Millisecond, "ben 2"},
			{100 * time.Millisecond, "cid 1 wide"},
			{900 * time.Millisecond, "ben 3"},
			{1000 * time.Millisecond, "ben 3 wide"},
			{1500 * time.Millisecond, "ben 4"},
			{2000 * time.Millisecond, "ben 4 wide"},
			{3500 * time.Millisecond, "ben 5 wide"},
		}
		if got := got(); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		if n := w.chat.Stats().ReadsGathered; n != 0 {
			t.Errorf("%d receipts are held although nobody reads", n)
		}
	})
}

// TestReadGatherAtClose: what is held goes out before the end.
func TestReadGatherAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bubbleClocks)
		id := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"))
		w.send(w.actor("ann"), id, "x")
		w.send(w.actor("ann"), id, "x")
		got := w.stamps(bus.Read)
		w.do(&Command{Op: Mark, Actor: w.actor("ben"), Conv: id, Seq: 1})
		w.do(&Command{Op: Mark, Actor: w.actor("ben"), Conv: id, Seq: 2})
		w.stop()
		want := []stamped{{0, "ben 1 wide"}, {0, "ben 2"}, {0, "ben 2 wide"}}
		if got := got(); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		w.start()
	})
}

// TestLargeConversation: neither marks nor typing go to the others where there
// are more than 100.
func TestLargeConversation(t *testing.T) {
	for _, c := range []struct {
		members int
		wide    bool
	}{{100, true}, {101, false}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, bubbleClocks)
			var others []im.Actor
			for i := range c.members - 1 {
				others = append(others, w.user(fmt.Sprint("m", i), im.RoleMember))
			}
			id := w.group(im.KindGroup, w.actor("ann"), others...)
			w.send(w.actor("ann"), id, "x")
			reads, typings := w.stamps(bus.Read), w.stamps(bus.Typing)
			w.do(&Command{Op: Mark, Actor: others[0], Conv: id, Seq: 1})
			w.chat.Typing(others[0], id)
			want := []stamped{{0, "m0 1"}}
			if c.wide {
				want[0].text += " wide"
			}
			if got := reads(); !reflect.DeepEqual(got, want) {
				t.Errorf("%d members: got %v, want %v", c.members, got, want)
			}
			if got := typings(); (len(got) == 1) != c.wide {
				t.Errorf("%d members: typing %v", c.members, got)
			}
		})
	}
}

func TestReceiptsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := newReceipts(func() time.Duration { return time.Since(start) }, func([]bus.Event) {})
		for i := range maxReceipts {
			if !r.mark(tenant, "c_1", im.UserID(fmt.Sprint(i)), 1, "") {
				t.Fatal("a first mark was held")
			}
		}
		for range 2 {
			if !r.mark(tenant, "c_1", "one too many", 1, "") {
				t.Error("a mark over the bound was held, and might be lost")
			}
		}
		if r.len() != maxReceipts {
			t.Errorf("%d are held", r.len())
		}
		time.Sleep(receiptGap)
		r.release(time.Since(start))
		if r.len() != 0 {
			t.Errorf("%d are held after their second", r.len())
		}
	})
}

// TestTyping is PROTOCOL 8.1.
func TestTyping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bubbleClocks)
		id := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"))
		other := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"))
		w.stop()
		w.start() // nothing is in memory
		got := w.stamps(bus.Typing)
		say := func(who string, cv im.ConvID) {
			w.chat.Typing(w.actor(who), cv)
			synctest.Wait()
		}
		say("ben", id)
		say("ben", id)
		say("ben", other)
		say("ann", id)
		say("cid", id)        // no member
		say("ben", "c_wrong") // no such conversation
		time.Sleep(typingGap - time.Millisecond)
		say("ben", id)
		time.Sleep(time.Millisecond)
		say("ben", id)
		want := []stamped{{0, "ben 0"}, {0, "ben 0"}, {0, "ann 0"}, {typingGap, "ben 0"}}
		if got := got(); !reflect.DeepEqual(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestTypingQueueBound(t *testing.T) {
	w := newWorld(t)
	w.stop() // nobody takes from the queue any more
	for range typingQueue + 5 {
		w.chat.Typing(w.actor("ann"), "c_1")
	}
	if n := w.chat.Stats().TypingDropped; n != 5 {
		t.Errorf("%d dropped, want 5", n)
	}
	w.start()
}

// blockingStore holds Append until it is let go.
type blockingStore struct {
	store.Store
	gate chan struct{}
}

func (s *blockingStore) Append(ctx context.Context, batch []*store.Write) error {
	<-s.gate
	return s.Store.Append(ctx, batch)
}

// TestQueueFull: over the bound, commands are refused at once, on the caller's
// goroutine, and what was taken is done; a probe still goes through afterward.
func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &blockingStore{gate: make(chan struct{})}
		w := newWorld(t, func(o *Options) {
			gate.Store = o.Store.(store.Store)
			o.Store, o.QueueLen = gate, 10
		})
		replies, refused := 0, 0
		submit := func() {
			w.chat.Submit(&Command{Op: Create, Actor: w.actor("ann"), Key: newKey(), Kind: im.KindGroup, Title: "x"},
				ReplyFunc(func(_ *Command, _ Result, err error) {
					if err != nil {
						if !im.Is(err, im.Unavailable) {
							t.Error(err)
						}
						refused++
					} else {
						replies++
					}
				}))
		}
		submit()
		synctest.Wait() // the commit goroutine has taken it and waits for the store
		for range 15 {
			submit()
		}
		if refused != 5 || replies != 0 {
			t.Errorf("%d refused at once, %d answered, want 5 and 0", refused, replies)
		}
		if s := w.chat.Stats(); s.Queue != 10 || s.RefusedFull != 5 {
			t.Errorf("%+v", s)
		}
		before := w.chat.Probe()
		synctest.Wait()
		if w.chat.Probe() != before {
			t.Error("a probe came through although the commit goroutine is stuck")
		}
		close(gate.gate)
		synctest.Wait()
		if replies != 11 {
			t.Errorf("%d answered, want 11", replies)
		}
		if w.chat.Probe() != before+1 {
			t.Error("no probe came through although the commit goroutine goes on")
		}
	})
}

// TestQueueBytes: a few large commands fill the queue too.
func TestQueueBytes(t *testing.T) {
	q := newQueue(1000)
	cmd := &Command{Op: Send, Text: strings.Repeat("x", 1<<20)}
	for range 8 {
		if v := q.put(pending{cmd: cmd}); v != queued {
			t.Fatal(v)
		}
	}
	if v := q.put(pending{cmd: &Command{Op: Join}}); v != full {
		t.Errorf("%d MiB wait, and more is taken", 8)
	}
	if n := len(q.take(maxBatch)); n != 8 {
		t.Errorf("took %d", n)
	}
	if v := q.put(pending{cmd: cmd}); v != queued {
		t.Error("still full after everything was taken")
	}
}

// TestClose: what was taken is committed and answered, what comes later refused.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &blockingStore{gate: make(chan struct{})}
		w := newWorld(t, func(o *Options) { gate.Store = o.Store.(store.Store); o.Store = gate })
		var errs []error
		submit := func() {
			w.chat.Submit(&Command{Op: Create, Actor: w.actor("ann"), Key: newKey(), Kind: im.KindGroup, Title: "x"},
				ReplyFunc(func(_ *Command, _ Result, err error) { errs = append(errs, err) }))
		}
		submit()
		synctest.Wait()
		submit()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.chat.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closed while a commit hangs: %v", err)
		}
		submit()
		if len(errs) != 1 || !im.Is(errs[0], im.Unavailable) {
			t.Errorf("after Close: %v", errs)
		}
		close(gate.gate)
		synctest.Wait()
		if len(errs) != 3 || errs[1] != nil || errs[2] != nil {
			t.Errorf("what was taken before Close: %v", errs)
		}
		if _, err := w.chat.Do(t.Context(), &Command{Op: Join, Actor: w.actor("ann")}); !im.Is(err, im.Unavailable) {
			t.Errorf("Do after Close: %v", err)
		}
		if err := w.chat.Forget(t.Context(), tenant); err != nil {
			t.Errorf("Forget after Close: %v", err)
		}
		w.chat.Probe()
	})
}

// TestDoGivesUp: who does not wait for the reply learns that it is not known.
func TestDoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &blockingStore{gate: make(chan struct{})}
		w := newWorld(t, func(o *Options) { gate.Store = o.Store.(store.Store); o.Store = gate })
		cmd := &Command{Op: Create, Actor: w.actor("ann"), Key: newKey(), Kind: im.KindGroup, Title: "x"}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.chat.Do(ctx, cmd); !im.Is(err, im.Internal) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		close(gate.gate)
		if res := w.do(cmd); !res.Repeat {
			t.Error("it was not stored")
		}
	})
}

// TestRate is PROTOCOL 6.6.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := 6
		w := newWorld(t, bubbleClocks, func(o *Options) {
			o.Limits = func() im.Limits { return im.Limits{TextBytes: 10, SendsPerMinute: limit} }
		})
		ann, ben := w.actor("ann"), w.actor("ben")
		id := w.group(im.KindGroup, ann, ben) // 1 of ann's 6
		key := newKey()
		w.do(&Command{Op: Send, Actor: ann, Conv: id, Key: key, Text: "x"})                                 // 2
		w.do(&Command{Op: Send, Actor: ann, Conv: id, Key: key, Text: "x"})                                 // a repeat
		w.do(&Command{Op: Direct, Actor: ann, Users: []im.UserID{"u_cid"}})                                 // 3
		w.do(&Command{Op: Direct, Actor: ann, Users: []im.UserID{"u_cid"}})                                 // 4, though it changes nothing
		w.do(&Command{Op: Mark, Actor: ann, Conv: id, Seq: 1})                                              // appends nothing
		if err := w.try(&Command{Op: Send, Actor: ann, Conv: id, Key: newKey()}); !im.Is(err, im.Invalid) { // 5, refused
			t.Error(err)
		}
		if err := w.try(&Command{Op: Leave, Actor: ann, Conv: id}); !im.Is(err, im.Invalid) { // 6, refused
			t.Error(err)
		}
		over := &Command{Op: Send, Actor: ann, Conv: id, Key: newKey(), Text: "x"}
		err := w.try(over)
		var e *im.Error
		if !errors.As(err, &e) || e.Kind != im.RateLimited || e.RetryAfter != 10*time.Second {
			t.Fatalf("the seventh: %v %v", err, e)
		}
		// Permission is looked at before rate; a repeat goes through; others are not
		// bound by it.
		if err := w.try(&Command{Op: Send, Actor: ann, Conv: "c_x", Key: newKey(), Text: "x"}); !im.Is(err, im.NotFound) {
			t.Error(err)
		}
		if res := w.do(&Command{Op: Send, Actor: ann, Conv: id, Key: key, Text: "x"}); !res.Repeat {
			t.Error("no repeat")
		}
		w.send(ben, id, "x")
		time.Sleep(e.RetryAfter - time.Millisecond)
		if err := w.try(over); !im.Is(err, im.RateLimited) {
			t.Errorf("a millisecond early: %v", err)
		}
		time.Sleep(2 * time.Millisecond)
		w.do(over)
		time.Sleep(time.Hour) // the burst is one minute's worth, however long one was quiet
		for range limit {
			w.send(ann, id, "x")
		}
		if err := w.try(&Command{Op: Send, Actor: ann, Conv: id, Key: newKey(), Text: "x"}); !im.Is(err, im.RateLimited) {
			t.Errorf("after the burst: %v", err)
		}
		if n := w.chat.Stats().RateLimited; n != 3 {
			t.Errorf("%d counted", n)
		}
	})
}

// TestRateSweep: crowding does not give anybody a fresh bucket, and buckets that
// are full again go.
func TestRateSweep(t *testing.T) {
	var now time.Duration
	r := newRates(func() time.Duration { return now })
	for range 60 {
		r.take(userKey{tenant, "greedy"}, 60)
	}
	for i := range 5 * firstSweep {
		r.take(userKey{tenant, im.UserID(fmt.Sprint(i))}, 60)
	}
	if _, ok := r.take(userKey{tenant, "greedy"}, 60); ok {
		t.Error("a fresh bucket after others came")
	}
	now = time.Minute
	for i := range 10 * firstSweep {
		r.take(userKey{tenant, im.UserID(fmt.Sprint("later", i))}, 60)
		now += 100 * time.Millisecond
	}
	if n := len(r.buckets); n > 2*firstSweep {
		t.Errorf("%d buckets, of which all but a few are full", n)
	}
}
