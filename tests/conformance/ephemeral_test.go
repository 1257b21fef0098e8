package conformance_test

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// reads are the read events of one reader in one conversation that a session heard: seq and when.
func (s *session) reads(conv, user string) (seqs []int64) {
	for _, m := range s.seen() {
		p := m.get("params")
		if m.event() == "read" && p.get("conversation").str() == conv && p.get("user").str() == user {
			seqs = append(seqs, p.get("seq").num())
		}
	}
	return seqs
}

func (s *session) read1(conv string, who *person, seq int64) {
	s.t.Helper()
	s.until(fmt.Sprintf("the read event %d of %s", seq, who.username), func(m message) bool {
		p := m.get("params")
		return m.event() == "read" && p.get("conversation").str() == conv && p.get("user").str() == who.id && p.get("seq").num() == seq
	})
}

func Test7_1_Marks(t *testing.T) {
	t.Parallel()
	p := mainServer(t).tenant(t).people(t, "ann", "ben", "cat")
	ann, ben := p[0], p[1]
	a, b, b2 := ann.connect(t), ben.connect(t), ben.connect(t)
	g := a.create("group", "G", ben, p[2])
	for range 5 {
		a.send(g, "x")
	}
	if a.head(g).get("read").num() != 0 {
		t.Error("sending moved the mark")
	}
	b.ok("read.mark", J{"conversation": g, "seq": 3})
	b2.read1(g, ben, 3)
	a.read1(g, ben, 3)
	b.ok("read.mark", J{"conversation": g, "seq": 2})
	b.ok("read.mark", J{"conversation": g, "seq": 3})
	b.ok("read.mark", J{"conversation": g, "seq": 0})
	if got := b.head(g).get("read").num(); got != 3 {
		t.Errorf("the mark fell to %d", got)
	}
	b.ok("read.mark", J{"conversation": g, "seq": 1 << 60})
	b2.read1(g, ben, 5)
	a.read1(g, ben, 5)
	b2.ok("read.mark", J{"conversation": g, "seq": a.send(g, "x")})
	b.read1(g, ben, 6)
	a.read1(g, ben, 6)
	// What the receipts of 7.2 gather may come to one's own sessions once more; a mark never falls.
	if got := slices.Compact(b.reads(g, ben.id)); !slices.Equal(got, []int64{6}) {
		t.Errorf("the session that marked hears %v: only the other session's mark is news to it", got)
	}
	for _, list := range [][]int64{a.reads(g, ben.id), b2.reads(g, ben.id)} {
		if !slices.IsSorted(list) {
			t.Errorf("marks fall: %v", list)
		}
	}
	b.fail("read.mark", J{"conversation": "c_none", "seq": 1}, "not_found", "")
	b.bad("read.mark", J{"conversation": g}, "seq")
}

// Test7_2_Throttle marks 200 times as fast as it can: the others hear at most one a second, and the last.
func Test7_2_Throttle(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b, b2 := ann.connect(t), ben.connect(t), ben.connect(t)
	g := a.create("group", "G", ben)
	for range 200 {
		a.start("message.send", J{"conversation": g, "text": "x", "key": key()})
	}
	last := a.send(g, "x")
	began := time.Now()
	for i := range last {
		b.ok("read.mark", J{"conversation": g, "seq": i + 1})
	}
	a.read1(g, ben, last)
	took := time.Since(began)
	if got := a.reads(g, ben.id); len(got) > 2+int(took/time.Second) || !slices.IsSorted(got) {
		t.Errorf("%d read events within %v: %v", len(got), took, got)
	}
	b2.read1(g, ben, last)
}

// Test7_2_Crowds: above 100 members receipts and typing go to nobody else; read.list still tells.
func Test7_2_Crowds(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	tn := s.tenant(t)
	var list []J
	for i := range 101 {
		list = append(list, J{"username": fmt.Sprint("p", i), "role": "staff"})
	}
	people := tn.bulk(t, list)
	a, b, b2 := people[0].connect(t), people[1].connect(t), people[1].connect(t)
	small, big := a.create("group", "100", people[1:100]...), a.create("group", "101", people[1:]...)
	sm, bm := a.send(small, "x"), a.send(big, "x")
	b.ok("read.mark", J{"conversation": big, "seq": bm})
	b.ok("typing", J{"conversation": big})
	b2.read1(big, people[1], bm) // one's own sessions hear it in any case
	b.ok("read.mark", J{"conversation": small, "seq": sm})
	a.read1(small, people[1], sm)
	b.ok("typing", J{"conversation": small})
	a.until("typing", func(m message) bool { return m.event() == "typing" })
	for _, m := range a.seen() {
		if (m.event() == "read" || m.event() == "typing") && m.get("params", "conversation").str() == big {
			t.Errorf("in a conversation of 101: %s", m)
		}
	}
	// 7.3
	r := a.ok("read.list", J{"conversation": big, "seq": bm})
	if !slices.Equal(r.get("read").strs(), ids(people[1])) || len(r.get("unread").list()) != 99 || r.get("counts").String() != `{"read":1,"unread":99}` {
		t.Errorf("%s", r)
	}
	seen := map[string]bool{}
	p := J{"conversation": big, "seq": bm, "limit": 30}
	for {
		page := a.ok("read.list", p)
		if n := len(page.get("read").list()) + len(page.get("unread").list()); n > 30 || page.get("counts", "unread").num() != 99 {
			t.Errorf("a page of %d: %s", n, page.get("counts"))
		}
		for _, id := range append(page.get("read").strs(), page.get("unread").strs()...) {
			if seen[id] || id == people[0].id {
				t.Errorf("twice, or the author: %s", id)
			}
			seen[id] = true
		}
		if !page.has("next") {
			break
		}
		p["cursor"] = page.get("next").str()
	}
	if len(seen) != 100 {
		t.Errorf("%d of 100", len(seen))
	}
	a.ok("message.react", J{"conversation": big, "target": bm, "emoji": "👍", "on": true, "key": key()})
	for _, no := range []int64{0, bm + 1, bm + 2, 1 << 50} {
		a.fail("read.list", J{"conversation": big, "seq": no}, "invalid", "seq")
	}
	a.fail("read.list", J{"conversation": big, "seq": bm, "limit": 0}, "invalid", "limit")
	b.fail("read.list", J{"conversation": big, "seq": bm}, "forbidden", "")
}

func Test8_1_Typing(t *testing.T) {
	t.Parallel()
	p := mainServer(t).tenant(t).people(t, "ann", "ben", "cat")
	a, a2, b, c := p[0].connect(t), p[0].connect(t), p[1].connect(t), p[2].connect(t)
	g, h := a.create("group", "G", p[1]), a.create("group", "H", p[1])
	c.ok("session.ping", J{})
	for range 20 {
		a.notify("typing", J{"conversation": g})
		a2.notify("typing", J{"conversation": g})
	}
	a.ok("typing", J{"conversation": h}) // another conversation counts apart
	typed := func(conv string) func(message) bool {
		return func(m message) bool {
			return m.event() == "typing" && m.get("params", "conversation").str() == conv && m.get("params", "user").str() == p[0].id
		}
	}
	b.until("typing in G", typed(g))
	first := time.Now()
	b.until("typing in H", typed(h))
	// Again after 3 s, and no sooner: it keeps saying so until one more comes.
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		count := 0
		for _, m := range b.seen() {
			if typed(g)(m) {
				count++
			}
		}
		if count == 2 {
			break
		}
		if count != 1 || n > 500 {
			t.Fatalf("%d typing events", count)
		}
		a.notify("typing", J{"conversation": g})
		<-tick.C
	}
	if gap := time.Since(first); gap < 2500*time.Millisecond {
		t.Errorf("the next typing came after %v", gap)
	}
	b.entry(g, a.send(g, "x"))
	for _, s := range []*session{a, a2, c} {
		s.ok("session.ping", J{})
		for _, m := range s.seen() {
			if m.event() == "typing" {
				t.Errorf("%s hears %s", s.who.username, m)
			}
		}
	}
}

func Test8_2_Presence(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	p := s.tenant(t).people(t, "ann", "ben", "cat")
	foreigner := s.tenant(t).people(t, "eve")[0]
	foreigner.connect(t)
	a := p[0].connect(t)
	b := p[1].connect(t)
	states := func(v value) map[string]string {
		m := map[string]string{}
		for _, u := range v.get("users").list() {
			m[u.get(0).str()] = u.get(1).str()
		}
		return m
	}
	r := a.ok("presence.watch", J{"users": ids(p[1], p[2], foreigner, p[0])})
	if got := states(r); got[p[1].id] != "online" || got[p[2].id] != "offline" || len(got) != 3 {
		t.Errorf("%s", r)
	}
	for _, u := range r.get("users").list() {
		if u.get(0).str() == p[2].id && u.get(2).num() != 0 {
			t.Errorf("never seen: %s", u)
		}
		if u.get(0).str() == p[1].id && u.get(2).num() < 1_000_000_000_000 {
			t.Errorf("since: %s", u)
		}
	}
	want := func(who *person, state string) {
		t.Helper()
		a.until(who.username+" "+state, func(m message) bool {
			return m.event() == "presence" && states(m.get("params"))[who.id] == state
		})
	}
	c := p[2].connect(t)
	want(p[2], "online")
	b.notify("presence.set", J{"state": "away"})
	want(p[1], "away")
	b2 := p[1].connect(t) // the most present wins
	want(p[1], "online")
	began := time.Now()
	b2.close()
	want(p[1], "away")
	b.close()
	want(p[1], "offline")
	if took := time.Since(began); took < 4500*time.Millisecond {
		t.Errorf("offline after %v", took)
	}
	// A reconnect within 5 s is no change.
	gone := time.Now()
	c.close()
	c = p[2].connect(t)
	quick := time.Since(gone) < 4*time.Second
	// The set is replaced.
	if got := a.ok("presence.watch", J{"users": ids(p[1])}); states(got)[p[1].id] != "offline" || len(states(got)) != 1 {
		t.Errorf("%s", got)
	}
	mark := len(a.seen())
	c.ok("presence.set", J{"state": "away"})
	b = p[1].connect(t)
	want(p[1], "online")
	for _, m := range a.seen()[mark:] {
		if m.event() == "presence" && states(m.get("params"))[p[2].id] != "" {
			t.Errorf("not watched any more: %s", m)
		}
	}
	for _, m := range a.seen()[:mark] {
		if quick && m.event() == "presence" && states(m.get("params"))[p[2].id] == "offline" {
			t.Errorf("offline at a reconnect: %s", m)
		}
	}
	if got := a.ok("presence.watch", J{"users": []string{}}); len(got.get("users").list()) != 0 {
		t.Errorf("%s", got)
	}
	a.bad("presence.watch", J{}, "users")
	a.bad("presence.set", J{}, "state")
	b.fail("presence.set", J{"state": "offline"}, "invalid", "state")
}
