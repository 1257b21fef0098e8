// Package bustest is the suite that every bus passes: each sentence of the
// contract in pkg/bus as a test.
//
// It owns nothing and is imported by tests only. The tests wait for events with
// a generous deadline, never for time to pass, so that they hold for a bus
// within the process and for one over a network.
package bustest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// patience is how long an event may take before the test gives up. It is no
// bound on speed.
const patience = 30 * time.Second

// Run runs the suite. open returns the nodes of one fresh installation, at
// least one, and closes them at the end of the test it is given. The suite
// publishes at the first node and listens at the last one.
func Run(t *testing.T, open func(t *testing.T) []bus.Bus) {
	tests := []struct {
		name string
		fn   func(t *testing.T, pub, sub bus.Bus)
	}{
		{"EverySubscriberInOrder", everySubscriberInOrder},
		{"ConversationsKeepTheirOrder", conversationsKeepTheirOrder},
		{"SliceIsThePublishers", sliceIsThePublishers},
		{"OwnNodeIncluded", ownNodeIncluded},
		{"FieldsArrive", fieldsArrive},
		{"CancelWaits", cancelWaits},
		{"CloseEndsSubscriptions", closeEndsSubscriptions},
		{"Presence", presence},
		{"PresenceIsSealed", presenceIsSealed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nodes := open(t)
			tt.fn(t, nodes[0], nodes[len(nodes)-1])
		})
	}
	t.Run("MostPresentNodeWins", func(t *testing.T) {
		nodes := open(t)
		mostPresentNodeWins(t, nodes)
	})
}

// listener collects what a subscription was handed.
type listener struct {
	mu     sync.Mutex
	events []bus.Event
	grew   chan struct{} // capacity 1
}

func listen(t *testing.T, b bus.Bus) *listener {
	l := &listener{grew: make(chan struct{}, 1)}
	cancel := b.Subscribe(func(evs []bus.Event) {
		l.mu.Lock()
		l.events = append(l.events, evs...)
		l.mu.Unlock()
		select {
		case l.grew <- struct{}{}:
		default:
		}
	})
	t.Cleanup(cancel)
	return l
}

// wait returns the first n events that ok accepts (nil: all).
func (l *listener) wait(t *testing.T, n int, ok func(bus.Event) bool) []bus.Event {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		var got []bus.Event
		l.mu.Lock()
		for _, e := range l.events {
			if ok == nil || ok(e) {
				got = append(got, e)
			}
		}
		l.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-l.grew:
		case <-deadline.C:
			t.Fatalf("%d of %d events came", len(got), n)
		}
	}
}

func everySubscriberInOrder(t *testing.T, pub, sub bus.Bus) {
	ls := []*listener{listen(t, sub), listen(t, sub), listen(t, sub)}
	const batches, each = 50, 7
	for i := range batches {
		var evs []bus.Event
		for j := range each {
			evs = append(evs, bus.Event{Kind: bus.Read, Tenant: "t", Conv: "c_1", User: "u_1", Seq: im.Seq(i*each + j + 1)})
		}
		pub.Publish(evs)
	}
	for _, l := range ls {
		got := l.wait(t, batches*each, nil)
		if len(got) != batches*each {
			t.Fatalf("%d events, want %d: one came twice", len(got), batches*each)
		}
		for i, e := range got {
			if e.Seq != im.Seq(i+1) {
				t.Fatalf("event %d has seq %d", i, e.Seq)
			}
		}
	}
}

func conversationsKeepTheirOrder(t *testing.T, pub, sub bus.Bus) {
	l := listen(t, sub)
	const convs, each = 8, 200
	var wg sync.WaitGroup
	for c := range convs {
		conv := im.ConvID(fmt.Sprintf("c_%d", c))
		wg.Go(func() {
			for i := range each {
				pub.Publish([]bus.Event{{Kind: bus.Entry, Tenant: "t", Conv: conv, Entry: &im.Entry{Conv: conv, Seq: im.Seq(i + 1), Kind: im.EntryMessage}}})
			}
		})
	}
	wg.Wait()
	got := l.wait(t, convs*each, nil)
	last := map[im.ConvID]im.Seq{}
	for _, e := range got {
		if e.Entry.Seq != last[e.Conv]+1 {
			t.Fatalf("%s: %d came after %d", e.Conv, e.Entry.Seq, last[e.Conv])
		}
		last[e.Conv]++
	}
	if len(got) != convs*each {
		t.Errorf("%d events, want %d", len(got), convs*each)
	}
}

func sliceIsThePublishers(t *testing.T, pub, sub bus.Bus) {
	l := listen(t, sub)
	evs := make([]bus.Event, 1)
	for i := range 20 {
		evs[0] = bus.Event{Kind: bus.Typing, Tenant: "t", Conv: "c_1", User: im.UserID(fmt.Sprintf("u_%d", i))}
		pub.Publish(evs)
		evs[0] = bus.Event{Kind: bus.Typing, Tenant: "t", Conv: "overwritten", User: "overwritten"}
	}
	pub.Publish(nil) // no event is no batch
	for i, e := range l.wait(t, 20, nil) {
		if want := im.UserID(fmt.Sprintf("u_%d", i)); e.User != want {
			t.Errorf("event %d is of %q, want %q", i, e.User, want)
		}
	}
}

func ownNodeIncluded(t *testing.T, pub, sub bus.Bus) {
	own, other := listen(t, pub), listen(t, sub)
	pub.Publish([]bus.Event{{Kind: bus.Typing, Tenant: "t", Conv: "c_1", User: "u_1"}})
	own.wait(t, 1, nil)
	other.wait(t, 1, nil)
}

func fieldsArrive(t *testing.T, pub, sub bus.Bus) {
	l := listen(t, sub)
	pub.Publish([]bus.Event{
		{Kind: bus.Entry, Tenant: "t", Conv: "c_1", Entry: &im.Entry{Conv: "c_1", Seq: 9, Time: 8, By: "u_1", Kind: im.EntryMessage, Text: "grüezi", Mentions: []im.UserID{"u_2"}}},
		{Kind: bus.Changed, Tenant: "t", Conv: "c_1", User: "u_1", Head: &im.Head{ID: "c_1", Kind: im.KindGroup, Title: "5a", Head: 9, Peer: &im.User{ID: "u_3", Name: "Bo"}}},
		{Kind: bus.Left, Tenant: "t", Conv: "c_1", User: "u_1", Head: &im.Head{ID: "c_1", Kind: im.KindGroup, Left: true}},
		{Kind: bus.Read, Tenant: "t", Conv: "c_1", User: "u_1", Seq: 3, Wide: true, Session: "s_1"},
		{Kind: bus.SignedOut, Tenant: "t", User: "u_1", SignIn: "i_1", Code: 4101},
	})
	got := l.wait(t, 5, nil)
	if e := got[0].Entry; got[0].Kind != bus.Entry || e.Seq != 9 || e.Time != 8 || e.By != "u_1" || e.Text != "grüezi" || len(e.Mentions) != 1 || e.Mentions[0] != "u_2" {
		t.Errorf("entry: %+v", got[0])
	}
	if h := got[1].Head; got[1].Kind != bus.Changed || h.Title != "5a" || h.Head != 9 || h.Peer == nil || h.Peer.Name != "Bo" {
		t.Errorf("changed: %+v", got[1])
	}
	if e := got[2]; e.Kind != bus.Left || !e.Head.Left || e.User != "u_1" {
		t.Errorf("left: %+v", e)
	}
	if e := got[3]; e.Kind != bus.Read || e.Seq != 3 || !e.Wide || e.Session != "s_1" {
		t.Errorf("read: %+v", e)
	}
	if e := got[4]; e.Kind != bus.SignedOut || e.SignIn != "i_1" || e.Code != 4101 {
		t.Errorf("signed out: %+v", e)
	}
}

func cancelWaits(t *testing.T, pub, sub bus.Bus) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	calls, running := 0, false
	cancel := sub.Subscribe(func([]bus.Event) {
		mu.Lock()
		calls++
		running = true
		mu.Unlock()
		once.Do(func() { close(entered) })
		<-leave
		mu.Lock()
		running = false
		mu.Unlock()
	})
	other := listen(t, sub)
	published := make(chan struct{})
	go func() {
		defer close(published)
		pub.Publish([]bus.Event{{Kind: bus.Typing, Tenant: "t", Conv: "c_1", User: "u_1"}})
	}()
	<-entered
	cancelled := make(chan bool, 1)
	started := make(chan struct{})
	go func() {
		close(started)
		cancel()
		mu.Lock()
		defer mu.Unlock()
		cancelled <- running
	}()
	<-started
	for range 1000 { // a cancel that does not wait has returned by now
		runtime.Gosched()
	}
	close(leave)
	if <-cancelled {
		t.Error("cancel returned while the function was running")
	}
	<-published
	mu.Lock()
	before := calls
	mu.Unlock()
	pub.Publish([]bus.Event{{Kind: bus.Typing, Tenant: "t", Conv: "c_1", User: "u_2"}})
	other.wait(t, 2, nil)
	mu.Lock()
	defer mu.Unlock()
	if calls != before {
		t.Errorf("%d calls after cancel", calls-before)
	}
	cancel() // again: no harm
}

func closeEndsSubscriptions(t *testing.T, pub, sub bus.Bus) {
	l := listen(t, sub)
	pub.Publish([]bus.Event{{Kind: bus.Typing, Tenant: "t", Conv: "c_1", User: "u_1"}})
	l.wait(t, 1, nil)
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	if pub != sub {
		if err := pub.Close(); err != nil {
			t.Fatal(err)
		}
	}
	pub.Publish([]bus.Event{{Kind: bus.Typing, Tenant: "t", Conv: "c_1", User: "u_2"}})
	if got := l.wait(t, 1, nil); len(got) != 1 {
		t.Errorf("%d events, want 1: one came after Close", len(got))
	}
	cancel := sub.Subscribe(func([]bus.Event) { t.Error("an event on a bus that was closed") })
	pub.Publish([]bus.Event{{Kind: bus.Typing, Tenant: "t", Conv: "c_1", User: "u_3"}})
	cancel()
}

func presence(t *testing.T, pub, sub bus.Bus) {
	l := listen(t, sub)
	states := func(want ...im.Presence) {
		t.Helper()
		var users []im.UserID
		for _, w := range want {
			users = append(users, w.User)
		}
		got := sub.Presence("t", users)
		if len(got) != len(want) {
			t.Fatalf("%d states for %d users", len(got), len(want))
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("presence of %s is %+v, want %+v", users[i], got[i], want[i])
			}
		}
	}
	of := func(u im.UserID) func(bus.Event) bool {
		return func(e bus.Event) bool { return e.Kind == bus.Presence && e.User == u }
	}
	states(im.Presence{User: "u_1"}, im.Presence{User: "u_2"})
	pub.Announce("t", "u_1", im.Online, 100)
	if e := l.wait(t, 1, of("u_1"))[0]; e.Tenant != "t" || e.Presence != (im.Presence{User: "u_1", State: im.Online, Since: 100}) {
		t.Errorf("event of the change: %+v", e)
	}
	pub.Announce("t", "u_2", im.Away, 110)
	l.wait(t, 1, of("u_2"))
	states(im.Presence{User: "u_2", State: im.Away, Since: 110}, im.Presence{User: "u_3"}, im.Presence{User: "u_1", State: im.Online, Since: 100})
	pub.Announce("t", "u_1", im.Online, 120) // as it is: since stays, no event
	pub.Announce("t", "u_3", im.Offline, 125)
	pub.Announce("t", "u_1", im.Offline, 130)
	if got := l.wait(t, 2, of("u_1")); len(got) != 2 || got[1].Presence != (im.Presence{User: "u_1", State: im.Offline, Since: 130}) {
		t.Errorf("events of u_1: %+v", got)
	}
	states(im.Presence{User: "u_1", State: im.Offline, Since: 130}, im.Presence{User: "u_3"})
}

func presenceIsSealed(t *testing.T, pub, sub bus.Bus) {
	l := listen(t, sub)
	pub.Announce("one", "u_1", im.Online, 100)
	l.wait(t, 1, nil)
	if p := sub.Presence("two", []im.UserID{"u_1"})[0]; p.State != im.Offline || p.Since != 0 {
		t.Errorf("a user of the same id in another tenant is %+v", p)
	}
}

func mostPresentNodeWins(t *testing.T, nodes []bus.Bus) {
	if len(nodes) == 1 {
		// One node is its own most present one; what it announced last counts.
		nodes[0].Announce("t", "u_1", im.Online, 1)
		nodes[0].Announce("t", "u_1", im.Away, 2)
		if p := nodes[0].Presence("t", []im.UserID{"u_1"})[0]; p.State != im.Away || p.Since != 2 {
			t.Errorf("presence is %+v, want away since 2", p)
		}
		return
	}
	a, b := nodes[0], nodes[1]
	l := listen(t, b)
	isState := func(s im.PresenceState) func(bus.Event) bool {
		return func(e bus.Event) bool { return e.Kind == bus.Presence && e.Presence.State == s }
	}
	a.Announce("t", "u_1", im.Online, 1)
	l.wait(t, 1, isState(im.Online))
	b.Announce("t", "u_1", im.Away, 2)
	if p := b.Presence("t", []im.UserID{"u_1"})[0]; p.State != im.Online {
		t.Errorf("online at one node, away at the other: %+v, want online", p)
	}
	a.Announce("t", "u_1", im.Offline, 3)
	l.wait(t, 1, isState(im.Away))
	if p := b.Presence("t", []im.UserID{"u_1"})[0]; p.State != im.Away {
		t.Errorf("offline at one node, away at the other: %+v, want away", p)
	}
}
