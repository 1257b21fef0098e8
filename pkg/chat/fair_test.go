package chat

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// diskStore takes as long for a commit as a disk that flushes in 3 ms, and 20 µs
// a write.
type diskStore struct{ store.Store }

func (s diskStore) Append(ctx context.Context, batch []*store.Write) error {
	time.Sleep(3*time.Millisecond + time.Duration(len(batch))*20*time.Microsecond)
	return s.Store.Append(ctx, batch)
}

// quietP99 has eight people of a quiet tenant send a message every 17 ms each, and
// returns the 99th percentile of the time to the answer. noisy tenants keep the
// queue full meanwhile.
func quietP99(t *testing.T, noisy ...im.TenantID) (p99 time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, bubbleClocks, func(o *Options) { o.Store, o.QueueLen = diskStore{o.Store.(store.Store)}, 500 })
		room := func(tn im.TenantID) (im.Actor, im.ConvID) {
			who := im.Actor{Tenant: tn, User: "u_ann", Role: im.RoleStaff}
			w.mu.Lock()
			w.people[userKey{tn, who.User}] = &im.User{Tenant: tn, ID: who.User, Username: "ann", Name: "Ann", Role: who.Role}
			w.mu.Unlock()
			return who, w.do(&Command{Op: Create, Actor: who, Key: newKey(), Kind: im.KindGroup, Title: "Room"}).Head.ID
		}
		ctx, cancel := context.WithCancel(t.Context())
		for _, tn := range noisy {
			who, id := room(tn)
			var again func(cmd *Command, _ Result, err error)
			submit := func() {
				w.chat.Submit(&Command{Op: Send, Actor: who, Conv: id, Key: newKey(), Text: "noise"}, ReplyFunc(again))
			}
			again = func(_ *Command, _ Result, err error) {
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					time.AfterFunc(time.Millisecond, submit)
					return
				}
				go submit()
			}
			for range 600 {
				go submit()
			}
		}
		// The flood runs before the quiet tenant comes, whatever order goroutines
		// start in: its first command (the room) meets one large batch, and what is
		// measured is the time after it.
		time.Sleep(100 * time.Millisecond)
		who, id := room("quiet")
		took := make([]time.Duration, 8*8)
		var people sync.WaitGroup
		for i := range 8 {
			people.Go(func() {
				time.Sleep(time.Duration(i) * 2100 * time.Microsecond)
				for j := range 8 {
					at := time.Now()
					w.send(who, id, "Is anybody there?")
					took[8*i+j] = time.Since(at)
					time.Sleep(17*time.Millisecond - time.Since(at))
				}
			})
		}
		people.Wait()
		cancel()
		synctest.Wait()
		slices.Sort(took)
		p99 = took[len(took)*99/100]
	})
	return p99
}

// TestFairness: a tenant that sends now and then waits no more than twice as long
// for its answers while others keep the queue full.
func TestFairness(t *testing.T) {
	alone := quietP99(t)
	for _, noisy := range [][]im.TenantID{{"noisy"}, {"noisy", "loud", "shrill"}} {
		if got := quietP99(t, noisy...); got > 2*alone {
			t.Errorf("beside %v: p99 %v, alone %v", noisy, got, alone)
		} else {
			t.Logf("beside %v: p99 %v, alone %v", noisy, got, alone)
		}
	}
}

// TestQueueFairness: lanes are taken from in turn by weight, keep their order,
// and calls come after everything before them.
func TestQueueFairness(t *testing.T) {
	q := newQueue(100)
	put := func(tn im.TenantID, text string) verdict {
		return q.put(pending{cmd: &Command{Op: Send, Actor: im.Actor{Tenant: tn}, Text: text}})
	}
	for i := range 100 {
		put("noisy", string(rune('a'+i%26)))
	}
	if v := put("noisy", "over"); v != full {
		t.Fatalf("a full queue took more of the same tenant: %d", v)
	}
	for i := range laneShare/2 + 1 {
		if v := put("quiet", "z"); v != queued && i < min(laneShare, 50) {
			t.Fatalf("the share of another tenant: %d refused (%d)", i, v)
		}
	}
	called := false
	q.put(pending{call: func() { called = true }})
	var seen []string
	first := q.take(20)
	quiet := 0
	for _, p := range first {
		if p.cmd.Actor.Tenant == "quiet" {
			quiet++
		} else {
			seen = append(seen, p.cmd.Text)
		}
	}
	if len(first) != 20 || quiet != 10 {
		t.Errorf("%d of %d are the quiet tenant's, want half", quiet, len(first))
	}
	for n := 0; n < 200; n++ {
		for _, p := range q.take(20) {
			switch {
			case p.call != nil:
				if q.len() > 0 {
					t.Errorf("the call came before %d that were put before it", q.len())
				}
				p.call()
			case p.cmd.Actor.Tenant == "noisy":
				seen = append(seen, p.cmd.Text)
			}
		}
		if called {
			break
		}
	}
	for i, s := range seen {
		if s != string(rune('a'+i%26)) {
			t.Fatalf("command %d of a lane is %q: out of order", i, s)
		}
	}
	if len(seen) != 100 {
		t.Errorf("%d of 100 came out", len(seen))
	}
}

// TestQueueAllocs: no command costs an allocation, nor does a tenant that comes
// and goes.
func TestQueueAllocs(t *testing.T) {
	q := newQueue(4096)
	cmds := make([]*Command, 300)
	for i := range cmds {
		cmds[i] = &Command{Op: Send, Actor: im.Actor{Tenant: im.TenantID("t" + string(rune('0'+i%3)))}}
	}
	round := func() {
		for _, c := range cmds {
			q.put(pending{cmd: c})
		}
		for q.len() > 0 {
			q.take(maxBatch)
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n > 0 {
		t.Errorf("%v allocations for 300 commands", n)
	}
}
