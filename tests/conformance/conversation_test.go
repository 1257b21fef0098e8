package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// cast is one conversation with a member of each role, and strangers.
type cast struct {
	conv                                     string
	owner, moderator, member, reader         *session
	stranger, guest, foreigner, helper, idle *session
	// seqs of messages, one by each
	byOwner, byMember int64
}

func newCast(t *testing.T, kind string) *cast {
	t.Helper()
	s := mainServer(t)
	p := s.tenant(t).people(t, "owner", "moderator", "member", "reader", "stranger", "guest:guest", "helper", "idle")
	c := &cast{foreigner: s.tenant(t).people(t, "foreigner")[0].connect(t)}
	for i, to := range []**session{&c.owner, &c.moderator, &c.member, &c.reader, &c.stranger, &c.guest, &c.helper, &c.idle} {
		*to = p[i].connect(t)
	}
	c.conv = c.owner.create(kind, "The "+kind, p[1], p[2], p[3], p[7])
	c.byOwner = c.owner.send(c.conv, "by the owner")
	c.owner.ok("conversation.set_role", J{"id": c.conv, "user": p[1].id, "role": "moderator"})
	c.owner.ok("conversation.set_role", J{"id": c.conv, "user": p[3].id, "role": "reader"})
	// What the member has is from when it was allowed.
	c.owner.ok("conversation.set_role", J{"id": c.conv, "user": p[2].id, "role": "moderator"})
	c.byMember = c.member.send(c.conv, "by the member")
	c.owner.ok("conversation.set_role", J{"id": c.conv, "user": p[2].id, "role": "member"})
	return c
}

// Test4_3_Roles is the table of 4.3 with the strangers of 4.1, for each kind but direct.
func Test4_3_Roles(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"group", "channel", "notice"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := newCast(t, kind)
			all := []*session{c.owner, c.moderator, c.member, c.reader, c.stranger, c.guest, c.foreigner}
			stranger := "not_found"
			if kind == "channel" {
				stranger = "forbidden"
			}
			yes, no := "", "forbidden"
			memberPosts := yes
			if kind == "notice" {
				memberPosts = no
			}
			conv := J{"conversation": c.conv}
			msg := func(more J) func(*session) J {
				return func(*session) J {
					p := J{"conversation": c.conv, "key": key()}
					for k, v := range more {
						p[k] = v
					}
					return p
				}
			}
			same := func(p J) func(*session) J { return func(*session) J { return p } }
			n := 0
			for _, row := range []struct {
				what, method string
				params       func(*session) J
				want         [4]string // owner, moderator, member, reader
			}{
				{"read", "message.history", same(conv), [4]string{yes, yes, yes, yes}},
				{"read pins", "message.pins", same(conv), [4]string{yes, yes, yes, yes}},
				{"read members", "conversation.members", same(J{"id": c.conv}), [4]string{yes, yes, yes, yes}},
				{"read head", "conversation.get", same(J{"id": c.conv}), [4]string{yes, yes, yes, yes}},
				{"mark", "read.mark", same(J{"conversation": c.conv, "seq": 1}), [4]string{yes, yes, yes, yes}},
				{"react", "message.react", msg(J{"target": c.byOwner, "emoji": "👍", "on": true}), [4]string{yes, yes, yes, yes}},
				{"send", "message.send", msg(J{"text": "x"}), [4]string{yes, yes, memberPosts, no}},
				{"edit another's", "message.edit", func(s *session) J {
					target := c.byOwner
					if s == c.owner {
						target = c.byMember
					}
					return msg(J{"text": "x", "target": target})(s)
				}, [4]string{no, no, no, no}},
				{"edit the member's", "message.edit", msg(J{"text": "x", "target": c.byMember}), [4]string{no, no, memberPosts, no}},
				{"pin", "message.pin", func(s *session) J {
					n++
					return msg(J{"target": c.byOwner, "on": n%2 == 1})(s)
				}, [4]string{yes, yes, no, no}},
				{"set title", "conversation.update", same(J{"id": c.conv, "title": "New"}), [4]string{yes, yes, no, no}},
				{"invite", "conversation.invite", same(J{"id": c.conv, "users": []string{c.helper.who.id}}), [4]string{yes, yes, no, no}},
				{"member to reader", "conversation.set_role", same(J{"id": c.conv, "user": c.idle.who.id, "role": "reader"}), [4]string{yes, yes, no, no}},
				{"reader to member", "conversation.set_role", same(J{"id": c.conv, "user": c.idle.who.id, "role": "member"}), [4]string{yes, yes, no, no}},
				{"see who read the owner's", "read.list", same(J{"conversation": c.conv, "seq": c.byOwner}), [4]string{yes, yes, no, no}},
				{"see who read the member's", "read.list", same(J{"conversation": c.conv, "seq": c.byMember}), [4]string{yes, yes, yes, no}},
			} {
				for i, s := range all {
					want := stranger
					switch {
					case i < 4:
						want = row.want[i]
					case s != c.stranger:
						want = "not_found"
					}
					v := s.call(row.method, row.params(s))
					if got := v.get("error", "data", "kind"); want == "" && !v.has("result") || want != "" && got.str() != want {
						t.Errorf("%s by %s: must be %q: %s", row.what, s.who.username, want, v)
					}
				}
			}
			// What only owners may.
			for _, role := range []string{"owner", "moderator"} {
				for _, s := range []*session{c.moderator, c.member, c.reader} {
					s.fail("conversation.set_role", J{"id": c.conv, "user": c.idle.who.id, "role": role}, "forbidden", "")
				}
			}
			c.owner.ok("conversation.set_role", J{"id": c.conv, "user": c.idle.who.id, "role": "moderator"})
			c.moderator.fail("conversation.set_role", J{"id": c.conv, "user": c.idle.who.id, "role": "member"}, "forbidden", "")
			c.moderator.fail("conversation.remove", J{"id": c.conv, "users": ids(c.idle.who)}, "forbidden", "")
			c.moderator.fail("conversation.remove", J{"id": c.conv, "users": ids(c.owner.who)}, "forbidden", "")
			c.moderator.fail("conversation.remove", J{"id": c.conv, "users": ids(c.helper.who, c.owner.who)}, "forbidden", "")
			c.member.fail("conversation.remove", J{"id": c.conv, "users": ids(c.helper.who)}, "forbidden", "")
			c.reader.fail("conversation.remove", J{"id": c.conv, "users": ids(c.helper.who)}, "forbidden", "")
			c.moderator.ok("conversation.remove", J{"id": c.conv, "users": ids(c.helper.who)})
			c.owner.ok("conversation.remove", J{"id": c.conv, "users": ids(c.idle.who)})
			// Recalls: one's own while one may post, others' by owner and moderator.
			kindIf := func(bad bool) string {
				if bad {
					return "forbidden"
				}
				return ""
			}
			recall := func(s *session, target int64, want string) {
				t.Helper()
				v := s.call("message.recall", J{"conversation": c.conv, "target": target, "key": key()})
				if want == "" && !v.has("result") || want != "" && v.get("error", "data", "kind").str() != want {
					t.Errorf("recall of %d by %s: must be %q: %s", target, s.who.username, want, v)
				}
			}
			recall(c.reader, c.byOwner, "forbidden")
			recall(c.member, c.byOwner, "forbidden")
			recall(c.stranger, c.byOwner, stranger)
			recall(c.member, c.byMember, kindIf(kind == "notice"))
			recall(c.moderator, c.byOwner, "")
			recall(c.owner, c.owner.send(c.conv, "own"), "")
			// The last owner stays while others remain.
			c.owner.fail("conversation.leave", J{"id": c.conv}, "invalid", "")
			c.owner.fail("conversation.set_role", J{"id": c.conv, "user": c.owner.who.id, "role": "member"}, "invalid", "")
			c.owner.fail("conversation.remove", J{"id": c.conv, "users": ids(c.owner.who)}, "invalid", "")
			c.reader.ok("conversation.leave", J{"id": c.conv})
			c.owner.ok("conversation.set_role", J{"id": c.conv, "user": c.moderator.who.id, "role": "owner"})
			c.owner.ok("conversation.leave", J{"id": c.conv})
			c.moderator.ok("conversation.remove", J{"id": c.conv, "users": ids(c.member.who)})
			c.moderator.ok("conversation.leave", J{"id": c.conv})
			c.moderator.fail("conversation.get", J{"id": c.conv}, stranger, "")
		})
	}
}

func Test4_3_Direct(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	p := s.tenant(t).people(t, "ann", "ben", "cat", "guest:guest", "gus:guest")
	a, b, c, g := p[0].connect(t), p[1].connect(t), p[2].connect(t), p[3].connect(t)
	foreigner := s.tenant(t).people(t, "foreigner")[0]
	d := a.direct(p[1])
	if b.direct(p[0]) != d || a.direct(p[1]) != d {
		t.Error("the direct is not the same for both, ever after")
	}
	seq := a.send(d, "x")
	b.entry(d, seq)
	for _, x := range []*session{a, b} {
		x.ok("message.pin", J{"conversation": d, "target": seq, "on": x == a, "key": key()})
		x.ok("message.react", J{"conversation": d, "target": seq, "emoji": "👍", "on": true, "key": key()})
		x.fail("conversation.leave", J{"id": d}, "forbidden", "")
		x.fail("conversation.update", J{"id": d, "title": "x"}, "forbidden", "")
		x.fail("conversation.invite", J{"id": d, "users": ids(p[2])}, "forbidden", "")
		x.fail("conversation.remove", J{"id": d, "users": ids(p[1])}, "forbidden", "")
		x.fail("conversation.set_role", J{"id": d, "user": p[1].id, "role": "reader"}, "forbidden", "")
	}
	b.fail("message.recall", J{"conversation": d, "target": seq, "key": key()}, "forbidden", "")
	a.ok("read.list", J{"conversation": d, "seq": seq})
	b.fail("read.list", J{"conversation": d, "seq": seq}, "forbidden", "")
	a.fail("conversation.direct", J{"user": p[0].id}, "invalid", "user")
	for _, unknown := range []string{"u_none", "", foreigner.id, "not an id at all", strings.Repeat("u", 41), strings.Repeat("u", 60000)} {
		a.fail("conversation.direct", J{"user": unknown}, "not_found", "user")
	}
	for _, x := range []string{"conversation.get", "conversation.join", "conversation.leave", "conversation.members"} {
		c.fail(x, J{"id": d}, "not_found", "")
	}
	// A guest starts none, but is in those that others start with him.
	g.fail("conversation.direct", J{"user": p[4].id}, "forbidden", "")
	gd := a.direct(p[3])
	g.send(gd, "hello")
	if g.direct(p[0]) != gd {
		t.Error("the guest can't open the direct that exists")
	}
}

// Test4_3_DirectAtOnce: both ask at the same time, from many sessions.
func Test4_3_DirectAtOnce(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	var sessions []*session
	for i := range 6 {
		sessions = append(sessions, []*person{ann, ben}[i%2].connect(t))
	}
	var asked []string
	for i, s := range sessions {
		asked = append(asked, s.start("conversation.direct", J{"user": []*person{ben, ann}[i%2].id}))
	}
	conv := ""
	for i, s := range sessions {
		id := s.reply(asked[i]).get("result", "id").str()
		if conv == "" {
			conv = id
		}
		if id != conv {
			t.Errorf("two directs of one pair: %s and %s", conv, id)
		}
		s.changed(conv)
	}
}

func Test4_1_Strangers(t *testing.T) {
	t.Parallel()
	c := newCast(t, "channel")
	g := newCast(t, "group")
	// What one may not know of is answered just as what does not exist (section 2).
	for _, s := range []*session{c.guest, c.foreigner, g.stranger} {
		conv := c.conv
		if s == g.stranger {
			conv = g.conv
		}
		for method, params := range map[string]func(string) J{
			"conversation.get":     func(id string) J { return J{"id": id} },
			"conversation.join":    func(id string) J { return J{"id": id} },
			"conversation.leave":   func(id string) J { return J{"id": id} },
			"conversation.members": func(id string) J { return J{"id": id} },
			"conversation.update":  func(id string) J { return J{"id": id, "title": "x"} },
			"conversation.invite":  func(id string) J { return J{"id": id, "users": ids(s.who)} },
			"conversation.remove":  func(id string) J { return J{"id": id, "users": ids(s.who)} },
			"message.send":         func(id string) J { return J{"conversation": id, "text": "x", "key": key()} },
			"message.edit":         func(id string) J { return J{"conversation": id, "text": "x", "target": 1, "key": key()} },
			"message.recall":       func(id string) J { return J{"conversation": id, "target": 1, "key": key()} },
			"message.react": func(id string) J {
				return J{"conversation": id, "target": 1, "emoji": "👍", "on": true, "key": key()}
			},
			"message.pin":     func(id string) J { return J{"conversation": id, "target": 1, "on": true, "key": key()} },
			"message.pins":    func(id string) J { return J{"conversation": id} },
			"message.history": func(id string) J { return J{"conversation": id} },
			"read.mark":       func(id string) J { return J{"conversation": id, "seq": 1} },
			"read.list":       func(id string) J { return J{"conversation": id, "seq": 1} },
		} {
			hidden, none := s.fail(method, params(conv), "not_found", ""), s.fail(method, params("c_aaaaaaaaaaaaaaaa"), "not_found", "")
			if hidden.String() != none.String() {
				t.Errorf("%s by %s: what is hidden answers %s, what does not exist %s", method, s.who.username, hidden, none)
			}
		}
		for _, weird := range []string{"", "c_", "C_X", "../../x", strings.Repeat("c", 200), strings.Repeat("c", 60000), "é\x00", "*"} {
			s.fail("conversation.get", J{"id": weird}, "not_found", "")
			s.fail("conversation.join", J{"id": weird}, "not_found", "")
			s.fail("message.send", J{"conversation": weird, "text": "x", "key": key()}, "not_found", "")
			s.fail("message.history", J{"conversation": weird}, "not_found", "")
			s.fail("read.mark", J{"conversation": weird, "seq": 1}, "not_found", "")
			s.notify("typing", J{"conversation": weird})
		}
	}
	// Typing and receipts of strangers reach nobody: the next thing the member hears is a message.
	c.stranger.ok("typing", J{"conversation": c.conv})
	c.foreigner.ok("typing", J{"conversation": c.conv})
	seq := c.owner.send(c.conv, "after")
	c.member.entry(c.conv, seq)
	for _, m := range c.member.seen() {
		if m.event() == "typing" || m.event() == "read" {
			t.Errorf("from a stranger: %s", m)
		}
	}
}

func Test4_1_Channels(t *testing.T) {
	t.Parallel()
	c := newCast(t, "channel")
	// Joining: HEAD, one entry, changed before its first entry; a second time nothing.
	h := c.stranger.ok("conversation.join", J{"id": c.conv})
	if h.get("role").str() != "member" || h.get("unread").num() != 2 {
		t.Errorf("joined: %s", h)
	}
	joined := c.member.entry(c.conv, h.get("head").num())
	if joined.get("kind").str() != "member" || joined.get("change").str() != "joined" || joined.get("user").str() != c.stranger.who.id || joined.get("by").str() != c.stranger.who.id {
		t.Errorf("%s", joined)
	}
	if again := c.stranger.ok("conversation.join", J{"id": c.conv}); again.get("head").num() != h.get("head").num() {
		t.Errorf("joining twice made an entry: %s", again)
	}
	// A new member sees the whole log.
	if log := c.stranger.log(c.conv); int64(len(log)) != h.get("head").num() || log[0].get("text").str() != "by the owner" {
		t.Errorf("a new member sees %v", log)
	}
	// Finding.
	find := func(s *session, query string) []value {
		t.Helper()
		return s.ok("conversation.find", J{"query": query}).get("conversations").list()
	}
	for _, q := range []string{"", "the", "CHANN", "e ch", "The channel"} {
		if got := find(c.helper, q); len(got) != 1 || got[0].get("id").str() != c.conv || !got[0].get("joined").no() || got[0].get("members").num() != 6 ||
			got[0].get("kind").str() != "channel" || got[0].get("title").str() != "The channel" {
			t.Errorf("find %q: %v", q, got)
		}
	}
	if got := find(c.stranger, ""); len(got) != 1 || !got[0].get("joined").yes() {
		t.Errorf("joined: %v", got)
	}
	for _, q := range []string{"x", "channels", "_he", "%", ".*"} {
		if got := find(c.helper, q); len(got) != 0 {
			t.Errorf("find %q: %v", q, got)
		}
	}
	if got := find(c.foreigner, ""); len(got) != 0 {
		t.Errorf("another tenant finds %v", got)
	}
	guest := c.guest.call("conversation.find", J{})
	if len(guest.get("result", "conversations").list()) != 0 {
		t.Errorf("a guest finds %s", guest)
	}
	// All channels, page by page, and only channels.
	var params []any
	for i := range 120 {
		params = append(params, J{"kind": []string{"channel", "group", "notice"}[i%3], "title": fmt.Sprint("Room ", i), "key": key()})
	}
	for _, id := range c.helper.startAll("conversation.create", params...) {
		c.helper.reply(id)
	}
	for _, limit := range []int{7, 50, 500} {
		found := map[string]bool{}
		p := J{"query": "ROOM", "limit": limit}
		for {
			page := c.owner.ok("conversation.find", p)
			list := page.get("conversations").list()
			if len(list) > min(limit, 50) {
				t.Errorf("a page of %d", len(list))
			}
			for _, f := range list {
				if f.get("kind").str() != "channel" || found[f.get("id").str()] {
					t.Errorf("found twice or no channel: %s", f)
				}
				found[f.get("id").str()] = true
			}
			if !page.has("next") {
				break
			}
			p["cursor"] = page.get("next").str()
		}
		if len(found) != 40 {
			t.Errorf("limit %d: found %d of 40", limit, len(found))
		}
	}
}

func Test4_2_WhatMakesAnEntry(t *testing.T) {
	t.Parallel()
	p := mainServer(t).tenant(t).people(t, "ann", "ben", "cat", "dan")
	ann, ben, cat, dan := p[0], p[1], p[2], p[3]
	a, b, c := ann.connect(t), ben.connect(t), cat.connect(t)
	g := a.create("group", "G", ben, ben, ann)
	if h := b.changed(g); h.get("head").num() != 0 || h.get("members").num() != 2 || h.get("role").str() != "member" {
		t.Errorf("announced as %s", h)
	}
	a.changed(g)
	want := func(entries ...string) {
		t.Helper()
		log := a.log(g)
		for i, e := range log {
			for name := range e.members() {
				if slices.Contains([]string{"conversation", "seq", "time", "kind"}, name) {
					delete(e.members(), name)
				}
			}
			if i >= len(entries) || e.String() != entries[i] {
				t.Fatalf("entry %d is %s", i+1, e)
			}
		}
		if len(log) != len(entries) {
			t.Fatalf("%d entries, must be %d", len(log), len(entries))
		}
	}
	want()
	a.ok("conversation.update", J{"id": g, "title": "G"})
	a.ok("conversation.invite", J{"id": g, "users": ids(ben, ann)})
	a.ok("conversation.invite", J{"id": g, "users": []string{}})
	a.ok("conversation.set_role", J{"id": g, "user": ben.id, "role": "member"})
	want()
	if got := a.ok("conversation.update", J{"id": g, "title": "H"}); got.get("title").str() != "H" || got.get("head").num() != 1 {
		t.Errorf("%s", got)
	}
	if h := b.changed(g); h.get("title").str() != "H" {
		t.Errorf("%s", h)
	}
	b.entry(g, 1)
	title := fmt.Sprintf(`{"by":%q,"title":"H"}`, ann.id)
	want(title)
	a.ok("conversation.invite", J{"id": g, "users": ids(ben, cat, cat, dan)})
	joinedC := fmt.Sprintf(`{"by":%q,"change":"joined","role":"member","user":%q}`, ann.id, cat.id)
	joinedD := fmt.Sprintf(`{"by":%q,"change":"joined","role":"member","user":%q}`, ann.id, dan.id)
	want(title, joinedC, joinedD)
	// Announced before the first entry.
	h := c.changed(g)
	if h.get("members").num() != 4 || h.get("title").str() != "H" {
		t.Errorf("%s", h)
	}
	a.ok("conversation.set_role", J{"id": g, "user": cat.id, "role": "moderator"})
	roleC := fmt.Sprintf(`{"by":%q,"change":"role","role":"moderator","user":%q}`, ann.id, cat.id)
	want(title, joinedC, joinedD, roleC)
	if h := c.changed(g); h.get("role").str() != "moderator" {
		t.Errorf("%s", h)
	}
	c.entry(g, 4)
	// 4.4: who goes hears it in all sessions, but not the entry; the others hear the entry, and no changed.
	c2 := cat.connect(t)
	a.ok("conversation.remove", J{"id": g, "users": ids(cat)})
	c.ok("session.ping", J{})
	for _, x := range []*session{c, c2} {
		if got := x.changed(g); got.String() != fmt.Sprintf(`{"id":%q,"kind":"group","left":true}`, g) {
			t.Errorf("%s", got)
		}
	}
	b.ok("conversation.leave", J{"id": g})
	b.changed(g)
	leftC := fmt.Sprintf(`{"by":%q,"change":"left","user":%q}`, ann.id, cat.id)
	leftB := fmt.Sprintf(`{"by":%q,"change":"left","user":%q}`, ben.id, ben.id)
	want(title, joinedC, joinedD, roleC, leftC, leftB)
	seq := a.send(g, "without them")
	d := a.direct(ben)
	dc := a.direct(cat)
	b.entry(d, a.send(d, "now"))
	c.entry(dc, a.send(dc, "now"))
	c2.entry(dc, 1)
	for _, x := range []*session{b, c, c2} {
		for _, m := range x.seen() {
			e := m.get("params")
			if m.event() == "entry" && e.get("conversation").str() == g && (e.get("seq").num() == seq || e.get("change").str() == "left" && e.get("user").str() == x.who.id) {
				t.Errorf("%s, who had left, hears %s", x.who.username, m)
			}
		}
		x.fail("conversation.get", J{"id": g}, "not_found", "")
		x.fail("message.history", J{"conversation": g}, "not_found", "")
	}
	// Back again: announced again, and the events go on.
	a.ok("conversation.invite", J{"id": g, "users": ids(cat)})
	if h := c.changed(g); h.get("role").str() != "member" {
		t.Errorf("%s", h)
	}
	c.entry(g, a.send(g, "with cat"))
	// A mere entry is no change.
	n := 0
	for _, m := range a.seen() {
		if m.event() == "conversation.changed" && m.get("params", "id").str() == g {
			n++
		}
	}
	if n != 2 { // created, title
		t.Errorf("the owner heard %d changes, must be 2", n)
	}
}

func Test4_3_UnknownPeople(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	p := s.tenant(t).people(t, "ann", "ben", "cat", "dan")
	foreigner := s.tenant(t).people(t, "eve")[0]
	a := p[0].connect(t)
	g := a.create("group", "G", p[1])
	for _, unknown := range []string{"u_none", foreigner.id, "", p[0].username, strings.Repeat("u", 20000)} {
		for _, list := range [][]string{{unknown}, {p[2].id, unknown}, {unknown, p[2].id}} {
			a.fail("conversation.invite", J{"id": g, "users": list}, "not_found", "users")
			a.fail("conversation.create", J{"kind": "group", "title": "H", "members": list, "key": key()}, "not_found", "members")
		}
		a.fail("conversation.remove", J{"id": g, "users": []string{p[1].id, unknown}}, "not_found", "users")
		a.fail("conversation.set_role", J{"id": g, "user": unknown, "role": "reader"}, "not_found", "user")
	}
	a.fail("conversation.remove", J{"id": g, "users": ids(p[1], p[2])}, "not_found", "users")
	a.fail("conversation.set_role", J{"id": g, "user": p[2].id, "role": "reader"}, "not_found", "user")
	if h := a.head(g); h.get("head").num() != 0 || h.get("members").num() != 2 {
		t.Errorf("something was done: %s", h)
	}
	if got := len(a.ok("conversation.list", J{}).get("conversations").list()); got != 1 {
		t.Errorf("%d conversations: a refused create made one", got)
	}
}

func Test4_3_TenantRoles(t *testing.T) {
	t.Parallel()
	p := mainServer(t).tenant(t).people(t, "owner:owner", "admin:admin", "staff:staff", "member:member", "guest:guest", "other")
	for i, who := range p[:5] {
		s := who.connect(t)
		for kind, most := range map[string]int{"direct": 3, "group": 3, "channel": 2, "notice": 2} {
			var v value
			if kind == "direct" {
				v = s.call("conversation.direct", J{"user": p[5].id})
			} else {
				v = s.call("conversation.create", J{"kind": kind, "title": "T", "key": key()})
			}
			if i <= most && !v.has("result") || i > most && v.get("error", "data", "kind").str() != "forbidden" {
				t.Errorf("%s makes a %s: %s", who.username, kind, v)
			}
		}
		s.fail("conversation.create", J{"kind": "direct", "title": "T", "key": key()}, "invalid", "kind")
		s.fail("conversation.create", J{"kind": "room", "title": "T", "key": key()}, "invalid", "kind")
	}
}

func Test4_3_CreateIsIdempotent(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, a2 := ann.connect(t), ann.connect(t)
	p := J{"kind": "group", "title": "G", "members": ids(ben), "key": key()}
	first := a.ok("conversation.create", p)
	again := a2.ok("conversation.create", p)
	if first.has("repeat") || !again.get("repeat").yes() || again.get("id").str() != first.get("id").str() {
		t.Errorf("%s, then %s", first, again)
	}
	for name, v := range map[string]any{"title": "H", "members": []string{}, "kind": "notice"} {
		q := J{}
		for k, v := range p {
			q[k] = v
		}
		q[name] = v
		a.fail("conversation.create", q, "conflict", "")
	}
	none := J{"kind": "group", "title": "G", "key": key()}
	id := a.ok("conversation.create", none).get("id").str()
	none["members"] = []string{} // absent and default are the same body
	if v := a.ok("conversation.create", none); v.get("id").str() != id || !v.get("repeat").yes() {
		t.Errorf("%s", v)
	}
}

func Test4_3_MembersAndUsers(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	tn := s.tenant(t)
	var list []J
	for i := range 620 {
		list = append(list, J{"username": fmt.Sprintf("p%03d", i), "name": fmt.Sprintf("Pupil No%03d", i), "role": "member"})
	}
	pupils := tn.bulk(t, list)
	named := tn.bulk(t, []J{
		{"username": "ann.lee", "name": "Ann Lee", "role": "owner"}, {"username": "lee", "name": "王小明", "role": "staff"},
		{"username": "zoe", "name": "Zoë Leeson-Smith", "role": "guest"}, {"username": "kit", "name": "Annabel 李雷", "role": "staff"},
	})
	ann := named[0].connect(t)
	g := ann.create("group", "G", pupils[:500]...)
	ann.ok("conversation.invite", J{"id": g, "users": ids(pupils[500:]...)})
	ann.ok("conversation.set_role", J{"id": g, "user": pupils[0].id, "role": "reader"})
	for _, limit := range []int{0, 100, 10000} {
		roles := map[string]string{}
		p := J{"id": g}
		if limit > 0 {
			p["limit"] = limit
		}
		for pages := 0; ; pages++ {
			page := ann.ok("conversation.members", p)
			for _, m := range page.get("members").list() {
				if roles[m.get("user").str()] != "" {
					t.Errorf("twice: %s", m)
				}
				roles[m.get("user").str()] = m.get("role").str()
				if m.get("joined").num() < 1_000_000_000_000 || !strings.HasPrefix(m.get("name").str(), "Pupil") && m.get("username").str() != "ann.lee" {
					t.Errorf("%s", m)
				}
			}
			if n := len(page.get("members").list()); n > 500 || limit == 100 && n > 100 {
				t.Errorf("a page of %d", n)
			}
			if !page.has("next") {
				break
			}
			p["cursor"] = page.get("next").str()
		}
		if len(roles) != 621 || roles[named[0].id] != "owner" || roles[pupils[0].id] != "reader" || roles[pupils[1].id] != "member" {
			t.Errorf("limit %d: %d members", limit, len(roles))
		}
	}
	search := func(q string, more J, want ...string) {
		t.Helper()
		p := J{"query": q}
		for k, v := range more {
			p[k] = v
		}
		var got []string
		for _, u := range ann.ok("user.search", p).get("users").list() {
			got = append(got, u.get("username").str())
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("search %q: %q, must be %q", q, got, want)
		}
	}
	search("ann", nil, "ann.lee", "kit")
	search("LEE", nil, "ann.lee", "lee", "zoe")
	search("nn", nil)
	search("smith", nil, "zoe")
	search("小明", nil, "lee")
	search("雷", nil, "kit")
	search("p61", nil, "p610", "p611", "p612", "p613", "p614", "p615", "p616", "p617", "p618", "p619")
	search("no00", J{"limit": 3}, "p000", "p001", "p002")
	if n := len(ann.ok("user.search", J{"query": "pupil", "limit": 1000}).get("users").list()); n != 50 {
		t.Errorf("user.search clamps to %d", n)
	}
	ann.fail("user.search", J{"query": "x", "limit": 0}, "invalid", "limit")
	ann.bad("user.search", J{}, "query")
	foreigner := s.tenant(t).people(t, "eve")[0]
	got := ann.ok("user.get", J{"users": []string{named[2].id, "u_none", foreigner.id, "", named[1].id}}).get("users").list()
	if len(got) != 2 || got[0].String() != fmt.Sprintf(`{"id":%q,"name":"Zoë Leeson-Smith","role":"guest","username":"zoe"}`, named[2].id) {
		t.Errorf("user.get: %v", got)
	}
}

func Test4_5_Limits(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a := ann.connect(t)
	g := a.create("group", "G", ben)
	many := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = ann.id
		}
		return list
	}
	for _, title := range []string{"x", strings.Repeat("x", 120), strings.Repeat("😀", 120), "e\u0301", " "} {
		a.ok("conversation.create", J{"kind": "group", "title": title, "key": key()})
		if got := a.ok("conversation.update", J{"id": g, "title": title}).get("title").str(); got != title {
			t.Errorf("title %q became %q", title, got)
		}
	}
	for _, title := range []string{"", strings.Repeat("x", 121), strings.Repeat("é", 121)} {
		a.fail("conversation.create", J{"kind": "group", "title": title, "key": key()}, "invalid", "title")
		a.fail("conversation.update", J{"id": g, "title": title}, "invalid", "title")
	}
	tooLarge := func(method string, params J, field string, limit int64) {
		t.Helper()
		if e := a.fail(method, params, "too_large", field); e.get("data", "limit").num() != limit {
			t.Errorf("%s: %s", method, e)
		}
	}
	a.ok("conversation.create", J{"kind": "group", "title": "x", "members": many(500), "key": key()})
	tooLarge("conversation.create", J{"kind": "group", "title": "x", "members": many(501), "key": key()}, "members", 500)
	tooLarge("conversation.invite", J{"id": g, "users": many(501)}, "users", 500)
	tooLarge("conversation.remove", J{"id": g, "users": many(501)}, "users", 500)
	a.ok("user.get", J{"users": many(200)})
	tooLarge("user.get", J{"users": many(201)}, "users", 200)
	a.ok("presence.watch", J{"users": many(200)})
	tooLarge("presence.watch", J{"users": many(201)}, "users", 200)
	a.ok("message.send", J{"conversation": g, "text": "x", "mentions": many(100), "key": key()})
	tooLarge("message.send", J{"conversation": g, "text": "x", "mentions": many(101), "key": key()}, "mentions", 100)
	for _, method := range []string{"conversation.list", "conversation.find", "conversation.members", "message.history"} {
		for _, limit := range []int{0, -5} {
			a.fail(method, J{"id": g, "conversation": g, "limit": limit}, "invalid", "limit")
		}
		a.ok(method, J{"id": g, "conversation": g, "limit": 1 << 50})
	}
	a.fail("conversation.set_role", J{"id": g, "user": ben.id, "role": "admin"}, "invalid", "role")
	a.fail("conversation.find", J{"cursor": "garbage"}, "invalid", "cursor")
	// 10.4: bad params, then what is not acceptable, then permission.
	a.bad("message.send", J{"conversation": "c_none", "text": "", "key": 5}, "key")
	a.fail("message.send", J{"conversation": "c_none", "text": "", "key": key()}, "invalid", "text")
	a.fail("message.send", J{"conversation": "c_none", "text": strings.Repeat("x", 16385), "key": key()}, "too_large", "text")
	a.fail("conversation.update", J{"id": "c_none", "title": ""}, "invalid", "title")
	a.fail("message.history", J{"conversation": "c_none", "limit": 0}, "invalid", "limit")
}
