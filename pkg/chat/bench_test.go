package chat

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// forgetful is a store that, once it forgets, takes writes and drops them, so
// that a benchmark measures chat and not the store.
type forgetful struct {
	store.Store
	forgets atomic.Bool
	change  im.Change
}

func (s *forgetful) Append(ctx context.Context, batch []*store.Write) error {
	if !s.forgets.Load() {
		return s.Store.Append(ctx, batch)
	}
	for _, w := range batch {
		s.change++
		if w.Conv != nil {
			w.Conv.Change = s.change
		}
	}
	return nil
}

var errNoKey = im.E(im.NotFound, "no such key")

func (s *forgetful) Key(ctx context.Context, t im.TenantID, u im.UserID, key string) (store.Key, error) {
	if !s.forgets.Load() {
		return s.Store.Key(ctx, t, u, key)
	}
	return store.Key{}, errNoKey
}

// quiet is a bus that nobody hears.
type quiet struct{ bus.Bus }

func (quiet) Publish([]bus.Event) {}

// request is a command that is its own replier, as the gateway's is.
type request struct {
	Command
	t  testing.TB
	wg *sync.WaitGroup
}

func (r *request) Reply(_ *Command, _ Result, err error) {
	if err != nil {
		r.t.Error(err)
	}
	r.wg.Done()
}

// room makes a group of that many members in a world whose store then forgets.
func room(t testing.TB, members int) (*world, im.ConvID) {
	no := &forgetful{}
	w := newWorld(t, func(o *Options) {
		no.Store = o.Store.(store.Store)
		o.Store, o.Bus = no, quiet{o.Bus}
	})
	var others []im.Actor
	for i := range min(members-1, im.MaxMembersInCall) {
		others = append(others, w.user(fmt.Sprintf("m%05d", i), im.RoleMember))
	}
	id := w.group(im.KindGroup, w.actor("ann"), others...)
	for i := len(others); i < members-1; {
		cmd := &Command{Op: Invite, Actor: w.actor("ann"), Conv: id}
		for ; i < members-1 && len(cmd.Users) < im.MaxMembersInCall; i++ {
			cmd.Users = append(cmd.Users, w.user(fmt.Sprintf("m%05d", i), im.RoleMember).User)
		}
		w.do(cmd)
	}
	no.change = im.Change(w.chat.change.Load())
	no.forgets.Store(true)
	return w, id
}

// burst sends n messages at once and waits for their replies.
func (w *world) burst(id im.ConvID, n int) {
	var wg sync.WaitGroup
	wg.Add(n)
	actor := w.actor("ann")
	for range n {
		r := &request{t: w.t, wg: &wg}
		r.Command = Command{Op: Send, Actor: actor, Conv: id, Key: "k0123456789012345678901234567890123456", Text: "a message of some length, as people write them"}
		w.chat.Submit(&r.Command, r)
	}
	wg.Wait()
}

// BenchmarkCommit is what one message costs in chat, from Submit to Publish, the
// store and the bus left out.
func BenchmarkCommit(b *testing.B) {
	for _, members := range []int{50, 4000} {
		b.Run(fmt.Sprint("members=", members), func(b *testing.B) {
			w, id := room(b, members)
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= 100 {
				w.burst(id, min(left, 100))
			}
		})
	}
}

// TestCommitAllocates: what a message allocates does not depend on how many will
// hear it.
func TestCommitAllocates(t *testing.T) {
	perMessage := func(members int) float64 {
		w, id := room(t, members)
		w.burst(id, 2000) // the digest and the tail have their size
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		return testing.AllocsPerRun(20, func() { w.burst(id, 100) }) / 100
	}
	small, large := perMessage(2), perMessage(4000)
	t.Logf("%.2f allocations a message among 2, %.2f among 4000", small, large)
	if large > small+0.5 || small > 8 {
		t.Errorf("%.2f allocations a message among 2, %.2f among 4000", small, large)
	}
}

// processorTime makes a benchmark report the processor time of an operation, the
// collector's in it: what the bars are about, and what other programs on the
// machine do not stretch.
func processorTime(b *testing.B) (report func()) {
	used := func() int64 {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return r.Utime.Nano() + r.Stime.Nano()
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}

// BenchmarkHistoryMemory is the first page of a live conversation.
func BenchmarkHistoryMemory(b *testing.B) {
	w, id := room(b, 50)
	w.burst(id, 100)
	actor, ctx := w.actor("m00001"), context.Background()
	b.ReportAllocs()
	defer processorTime(b)()
	for b.Loop() {
		p, err := w.chat.History(ctx, actor, HistoryQuery{Conv: id, Limit: 50})
		if err != nil || len(p.Entries) != 50 {
			b.Fatal(len(p.Entries), err)
		}
	}
}

// BenchmarkHeads is the heads of a hello of somebody with one conversation, who
// has read all, or is 500 or 100,000 behind.
func BenchmarkHeads(b *testing.B) {
	for _, behind := range []int{0, 500, 100_000} {
		b.Run(fmt.Sprint("behind=", behind), func(b *testing.B) {
			w, id := room(b, 50)
			for range behind / 100 {
				w.burst(id, 100)
			}
			actor, ctx := w.actor("m00001"), context.Background()
			b.ReportAllocs()
			for b.Loop() {
				p, err := w.chat.Heads(ctx, actor, HeadsQuery{})
				if err != nil || len(p.Heads) != 1 || p.Heads[0].Unread != behind {
					b.Fatal(p, err)
				}
			}
		})
	}
}

// BenchmarkTitle is the worst that one command asks of the commit goroutine: a
// new head for each of 4000 members who are 100,000 messages behind.
func BenchmarkTitle(b *testing.B) {
	w, id := room(b, 4000)
	for range 1000 {
		w.burst(id, 100)
	}
	i := 0
	for b.Loop() {
		i++
		w.do(&Command{Op: Update, Actor: w.actor("ann"), Conv: id, Title: fmt.Sprint("Title ", i)})
	}
}
