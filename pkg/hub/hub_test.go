package hub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/im"
)

func TestSessionID(t *testing.T) {
	for _, num := range []uint64{1, 0xdeadbeef, 1<<64 - 1} {
		m := Member{num: num}
		if got := sessionNumber(m.ID()); got != num {
			t.Errorf("%s is read as %d, want %d", m.ID(), got, num)
		}
	}
	for _, id := range []im.SessionID{"", "s_", "s_aaaaaaaaaaaa1", "x_aaaaaaaaaaaaa", "s_aaaaaaaaaaaaaa"} {
		if got := sessionNumber(id); got != 0 {
			t.Errorf("%q is read as %d, want 0", id, got)
		}
	}
}

// TestPeopleOfOneHash holds that persons are told apart by more than their hash.
func TestPeopleOfOneHash(t *testing.T) {
	s := newPeople()
	ann := s.add(&im.User{Tenant: "t", ID: "u_ann"})
	// What a collision would look like.
	other := &person{user: &im.User{Tenant: "o", ID: "u_ann"}, next: &person{user: &im.User{Tenant: "t", ID: "u_bob"}, next: ann}}
	s.byHash[s.hash("t", "u_ann")] = other
	if got := s.find("t", "u_ann"); got != ann {
		t.Fatalf("found %+v, want ann", got)
	}
	count := func() (n int) { s.each(func(*person) { n++ }); return n }
	if count() != 3 {
		t.Errorf("%d people, want 3", count())
	}
	if !s.remove(ann) || s.remove(ann) || s.find("t", "u_ann") != nil || count() != 2 {
		t.Errorf("after ann was removed, %d people are left, want 2", count())
	}
	s = newPeople()
	if ann = s.add(ann.user); !s.remove(ann) || len(s.byHash) != 0 {
		t.Errorf("%d hashes are left, want none", len(s.byHash))
	}
}

// sink is a session that counts.
type sink struct {
	Member
	frames, bytes int
}

func (s *sink) Deliver(b []byte)     { s.frames++; s.bytes += len(b) }
func (s *sink) Busy() bool           { return false }
func (s *sink) Close(uint16, string) {}

// crowd is a hub of two fake loops with a room of n sessions.
func crowd(tb testing.TB, n int) (*Hub, *membus.Bus, []*fakeLoop, []*sink) {
	b := membus.New()
	loops := []*fakeLoop{{}, {}}
	h := New(Options{Bus: b, Loops: []Loop{loops[0], loops[1]}})
	tb.Cleanup(func() { h.Close(); b.Close() })
	var sinks []*sink
	for i := range n {
		s := &sink{}
		sinks = append(sinks, s)
		u := &im.User{Tenant: "t", ID: im.UserID(fmt.Sprintf("u_%d", i))}
		if err := h.Shard(i%2).Attach(&s.Member, s, u, "i"); err != nil {
			tb.Fatal(err)
		}
		h.Join(&s.Member, []im.ConvID{"c_1"})
		loops[i%2].run()
		h.Shard(i%2).Release(&s.Member, nil)
		s.frames, s.bytes = 0, 0
	}
	return h, b, loops, sinks
}

// cool makes the room's next entry go at once, however fast the test is.
func cool(h *Hub) {
	h.mu.Lock()
	h.rooms[roomKey{"t", "c_1"}].level = 0
	h.mu.Unlock()
}

// An entry costs the same few allocations whether ten or a thousand hear it:
// none a recipient. (The slack is for the race detector, under which a sync.Pool
// loses things on purpose.)
func TestFanoutDoesNotAllocateForRecipients(t *testing.T) {
	allocs := func(n int) float64 {
		h, b, loops, sinks := crowd(t, n)
		evs := []bus.Event{{Kind: bus.Entry, Tenant: "t", Conv: "c_1", Entry: &im.Entry{Conv: "c_1", Seq: 1, By: "u_1", Kind: im.EntryMessage, Text: "hello"}}}
		got := testing.AllocsPerRun(200, func() {
			cool(h)
			b.Publish(evs)
			for _, l := range loops {
				l.run()
			}
		})
		if sinks[0].frames != 201 || sinks[n-1].frames != 201 {
			t.Fatalf("with %d sessions, the first heard %d and the last %d of 201 entries", n, sinks[0].frames, sinks[n-1].frames)
		}
		return got
	}
	few, many := allocs(10), allocs(1000)
	t.Logf("allocations an entry: %v to 10 sessions, %v to 1000", few, many)
	if many > few+5 || few > 5 {
		t.Errorf("an entry allocates %v times for 10 sessions and %v for 1000; want the same few", few, many)
	}
}

// A hot room's frames wait the longer the more are in it, within bounds, and no
// longer; and not a moment in a room that is not hot.
func TestGatherDelayFollowsTheRoom(t *testing.T) {
	for _, c := range []struct {
		sessions int
		want     time.Duration
	}{{50, 5 * time.Millisecond}, {1000, 30 * time.Millisecond}, {4000, 40 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			_, b, loops, _ := crowd(t, c.sessions)
			evs := []bus.Event{{Kind: bus.Entry, Tenant: "t", Conv: "c_1", Entry: &im.Entry{Conv: "c_1", Seq: 1, By: "u_1", Kind: im.EntryMessage, Text: "hot"}}}
			for range hotLevel + 1 {
				for _, l := range loops {
					l.run()
				}
				b.Publish(evs)
			}
			if loops[0].posts() != 0 {
				t.Fatal("the room is not hot")
			}
			time.Sleep(c.want - time.Microsecond)
			synctest.Wait()
			if loops[0].posts() != 0 {
				t.Errorf("%d sessions: posted before %v", c.sessions, c.want)
			}
			time.Sleep(time.Microsecond)
			synctest.Wait()
			if loops[0].posts() != 1 || loops[1].posts() != 1 {
				t.Errorf("%d sessions: not posted after %v", c.sessions, c.want)
			}
		})
	}
}

func BenchmarkFanout(b *testing.B) {
	for _, n := range []int{50, 1000} {
		b.Run(fmt.Sprintf("room=%d", n), func(b *testing.B) {
			h, bs, loops, _ := crowd(b, n)
			evs := []bus.Event{{Kind: bus.Entry, Tenant: "t", Conv: "c_1", Entry: &im.Entry{Conv: "c_1", Seq: 1, By: "u_1", Kind: im.EntryMessage, Text: "a text of some length, as people write them in a chat room of their class"}}}
			b.ReportAllocs()
			for b.Loop() {
				cool(h)
				bs.Publish(evs)
				for _, l := range loops {
					l.run()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/delivery")
		})
	}
}

// TestHeapOfMember holds what an idle session in one room costs here.
func TestHeapOfMember(t *testing.T) {
	const n = 4000
	b := membus.New()
	defer b.Close()
	loops := []*fakeLoop{{}, {}}
	h := New(Options{Bus: b, Loops: []Loop{loops[0], loops[1]}})
	defer h.Close()
	users := make([]*im.User, n)
	convs := make([]im.ConvID, 100)
	for i := range users {
		users[i] = &im.User{Tenant: "t", ID: im.UserID(fmt.Sprintf("u_%016d", i))}
	}
	for i := range convs {
		convs[i] = im.ConvID(fmt.Sprintf("c_%016d", i))
	}
	sinks := make([]*sink, n)
	before := heap()
	for i, u := range users {
		s := new(sink)
		sinks[i] = s
		if err := h.Shard(i%2).Attach(&s.Member, s, u, "i"); err != nil {
			t.Fatal(err)
		}
		h.Join(&s.Member, convs[i%100:i%100+1])
		loops[i%2].run()
		h.Shard(i%2).Release(&s.Member, nil)
	}
	each := (heap() - before) / n
	t.Logf("an idle session with its user's presence costs %d bytes", each)
	if each > 380 {
		t.Errorf("an idle session costs %d bytes of the hub and the bus, want at most 380", each)
	}
	runtime.KeepAlive(sinks)
	runtime.KeepAlive(users)
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// realLoop runs what is posted on its own goroutine.
type realLoop struct {
	mu     sync.Mutex
	queue  []func()
	signal chan struct{}
	done   chan struct{}
	ended  bool
}

func newRealLoop() *realLoop {
	l := &realLoop{signal: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

func (l *realLoop) Post(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.queue = append(l.queue, fn)
	select {
	case l.signal <- struct{}{}:
	default:
	}
	return true
}

func (l *realLoop) run() {
	defer close(l.done)
	for range l.signal {
		l.mu.Lock()
		fns := l.queue
		l.queue = nil
		ended := l.ended
		l.mu.Unlock()
		for _, fn := range fns {
			fn()
		}
		if ended {
			return
		}
	}
}

func (l *realLoop) stop() {
	l.mu.Lock()
	l.ended = true
	select {
	case l.signal <- struct{}{}:
	default:
	}
	l.mu.Unlock()
	<-l.done
}

// do runs fn on the loop and waits.
func (l *realLoop) do(fn func()) {
	done := make(chan struct{})
	l.Post(func() { fn(); close(done) })
	<-done
}

// conv is a conversation of the model: what chat would keep. head and members
// are changed before the event is published, as chat does.
type conv struct {
	id      im.ConvID
	mu      sync.Mutex
	head    im.Seq
	members map[im.UserID]bool
}

// checker is a session that judges what it hears: for each conversation, every
// seq from the head it was told on, in order, and nothing while it is no member.
type checker struct {
	Member
	name   string
	heads  map[im.ConvID]im.Seq // from the hello or conversation.changed
	left   map[im.ConvID]bool   // told so, and nothing else since
	last   map[im.ConvID]im.Seq // newest heard; 0 before the first
	live   bool
	heard  int
	until  int // heard this many, or closed: done ends
	done   chan struct{}
	faults []string
}

func (c *checker) Busy() bool { return false }
func (c *checker) Close(code uint16, _ string) {
	c.until = 0
	c.progress()
	if code != closeSlow { // which is how a hello ends that takes too long for what comes meanwhile
		c.fault("closed %d", code)
	}
}
func (c *checker) progress() {
	if c.done != nil && c.heard >= c.until {
		close(c.done)
		c.done = nil
	}
}

func (c *checker) fault(format string, args ...any) {
	if len(c.faults) < 5 {
		c.faults = append(c.faults, c.name+": "+fmt.Sprintf(format, args...))
	}
}

func (c *checker) Deliver(frames []byte) {
	if !c.live {
		c.live = true // the reply; heads were set by the test
		return
	}
	for _, p := range split(frames) {
		var m struct {
			Method string
			Params struct {
				ID, Conversation im.ConvID
				Seq, Head        im.Seq
				Left             bool
			}
		}
		if err := json.NewDecoder(bytes.NewReader(p)).Decode(&m); err != nil {
			c.fault("%v", err)
			continue
		}
		q := m.Params
		switch {
		case m.Method == "conversation.changed" && q.Left:
			c.left[q.ID] = true
			delete(c.heads, q.ID)
			delete(c.last, q.ID)
		case m.Method == "conversation.changed":
			c.heads[q.ID], c.last[q.ID], c.left[q.ID] = q.Head, 0, false
		case m.Method == "entry":
			c.heard++
			c.progress()
			// A conversation may be left between Join and the heads; then its
			// entries come until the event that says so.
			head, listed := c.heads[q.Conversation]
			last := c.last[q.Conversation]
			switch {
			case c.left[q.Conversation]:
				c.fault("%s %d though no member", q.Conversation, q.Seq)
			case last == 0 && listed && q.Seq > head+1:
				c.fault("%s %d after head %d: a hole", q.Conversation, q.Seq, head)
			case last != 0 && q.Seq != last+1:
				c.fault("%s %d after %d", q.Conversation, q.Seq, last)
			}
			c.last[q.Conversation] = q.Seq
		}
	}
}

// TestRandomHistories lets people come, go, join and leave while conversations
// are written to, slow ones and one that is gathered, and checks at each session
// that heads and events are one snapshot (PROTOCOL 3.4) and events stay in order
// (5.3).
func TestRandomHistories(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	b := membus.New()
	loops := []*realLoop{newRealLoop(), newRealLoop()}
	h := New(Options{Bus: b, Loops: []Loop{loops[0], loops[1]}})
	convs := make([]*conv, 4)
	for i := range convs {
		convs[i] = &conv{id: im.ConvID(fmt.Sprintf("c_%d", i)), members: map[im.UserID]bool{}}
	}
	users := make([]*im.User, 6)
	for i := range users {
		users[i] = &im.User{Tenant: "t", ID: im.UserID(fmt.Sprintf("u_%d", i))}
		convs[0].members[users[i].ID] = true
	}

	var writers, people sync.WaitGroup
	stop := make(chan struct{})
	for i, c := range convs {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		writers.Go(func() { write(c, b, users, rng, loops, stop) })
	}
	var mu sync.Mutex
	var faults []string
	heard := 0
	for i := range 8 {
		rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
		people.Go(func() {
			for n := range 8 {
				l := rng.IntN(2)
				done := make(chan struct{})
				c := &checker{name: fmt.Sprintf("session %d.%d", i, n), until: 1 + rng.IntN(40), done: done}
				connect(h, l, loops[l], c, users[rng.IntN(len(users))], convs)
				select {
				case <-done:
				case <-time.After(20 * time.Second): // no bound on speed: nothing comes any more
					loops[l].do(func() { c.fault("%d of %d entries came", c.heard, c.until) })
				}
				loops[l].do(func() { h.Shard(l).Detach(&c.Member) })
				mu.Lock()
				heard += c.heard
				faults = append(faults, c.faults...)
				mu.Unlock()
			}
		})
	}
	people.Wait()
	close(stop)
	writers.Wait()
	h.Close()
	for _, l := range loops {
		l.stop()
	}
	b.Close()
	for i, f := range faults {
		if i < 10 {
			t.Error(f)
		}
	}
	st := h.Stats()
	if st.Sessions != 0 || st.Rooms != 0 {
		t.Errorf("%d sessions and %d rooms are left", st.Sessions, st.Rooms)
	}
	if st.Gathered == 0 || st.Held == 0 || heard == 0 {
		t.Errorf("the history is too tame: gathered %d, held %d, heard %d", st.Gathered, st.Held, heard)
	}
	t.Logf("heard %d, gathered %d in %d runs, held %d", heard, st.Gathered, st.Flushes, st.Held)
}

// write is the commit goroutine of one conversation. It goes as fast as the
// loops follow. In all but conversation 0 people come and go.
func write(c *conv, b *membus.Bus, users []*im.User, rng *rand.Rand, loops []*realLoop, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		var evs []bus.Event
		u := users[rng.IntN(len(users))].ID
		c.mu.Lock()
		if c.id != "c_0" && rng.IntN(3) == 0 {
			if c.members[u] {
				delete(c.members, u)
				evs = append(evs, bus.Event{Kind: bus.Left, Tenant: "t", Conv: c.id, User: u, Head: &im.Head{ID: c.id, Kind: im.KindGroup, Left: true}})
			} else {
				c.members[u] = true
				evs = append(evs, bus.Event{Kind: bus.Changed, Tenant: "t", Conv: c.id, User: u, Head: &im.Head{ID: c.id, Kind: im.KindGroup, Title: "T", Head: c.head, Role: im.MemberMember}})
			}
		}
		for range 1 + rng.IntN(3) {
			c.head++
			evs = append(evs, bus.Event{Kind: bus.Entry, Tenant: "t", Conv: c.id, Entry: &im.Entry{Conv: c.id, Seq: c.head, By: u, Kind: im.EntryMessage, Text: "x"}})
		}
		c.mu.Unlock()
		b.Publish(evs)
		for _, l := range loops {
			l.do(func() {})
		}
	}
}

// connect is a hello as the gateway does it.
func connect(h *Hub, i int, l *realLoop, c *checker, u *im.User, convs []*conv) {
	l.do(func() {
		if err := h.Shard(i).Attach(&c.Member, c, u, "i"); err != nil {
			c.fault("%v", err)
		}
	})
	var mine []im.ConvID
	for _, cv := range convs {
		cv.mu.Lock()
		if cv.members[u.ID] {
			mine = append(mine, cv.id)
		}
		cv.mu.Unlock()
		runtime.Gosched()
	}
	h.Join(&c.Member, mine)
	heads := map[im.ConvID]im.Seq{}
	for _, cv := range convs {
		cv.mu.Lock()
		if cv.members[u.ID] {
			heads[cv.id] = cv.head
		}
		cv.mu.Unlock()
		runtime.Gosched()
	}
	l.do(func() {
		c.heads, c.last, c.left = heads, map[im.ConvID]im.Seq{}, map[im.ConvID]bool{}
		h.Shard(i).Release(&c.Member, nil)
	})
}

// TestSessionsPerTenant: a tenant's bound refuses its own next session, counts
// those that left, and touches no other tenant.
func TestSessionsPerTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New()
		h := New(Options{Bus: b, Loops: []Loop{nowLoop{}}, SessionsPerTenant: func(t im.TenantID) int { return map[im.TenantID]int{"oak": 2}[t] }})
		defer b.Close()
		defer h.Close()
		attach := func(m *Member, tenant im.TenantID, user im.UserID) error {
			return h.Shard(0).Attach(m, deaf{}, &im.User{Tenant: tenant, ID: user}, "i_1")
		}
		var members [4]Member
		for i, who := range []im.UserID{"u_a", "u_b"} {
			if err := attach(&members[i], "oak", who); err != nil {
				t.Fatal(err)
			}
		}
		if err := attach(&members[2], "oak", "u_c"); !im.Is(err, im.RateLimited) {
			t.Errorf("a third session: %v", err)
		}
		if err := attach(&members[3], "elm", "u_c"); err != nil || h.SessionsOf("elm") != 1 {
			t.Errorf("another tenant: %v", err)
		}
		h.Shard(0).Detach(&members[0])
		h.Shard(0).Detach(&members[0])
		if err := attach(&members[2], "oak", "u_c"); err != nil || h.SessionsOf("oak") != 2 {
			t.Errorf("after one left: %v, %d", err, h.SessionsOf("oak"))
		}
	})
}

// nowLoop runs what is posted at once.
type nowLoop struct{}

func (nowLoop) Post(fn func()) bool { fn(); return true }

// deaf is a session that hears nothing.
type deaf struct{}

func (deaf) Deliver([]byte)       {}
func (deaf) Busy() bool           { return false }
func (deaf) Close(uint16, string) {}
