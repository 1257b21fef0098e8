package conformance_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func with(p J, name string, v any) J {
	q := J{}
	for k, v := range p {
		q[k] = v
	}
	q[name] = v
	return q
}

func Test5_1_Messages(t *testing.T) {
	t.Parallel()
	p := mainServer(t).tenant(t).people(t, "ann", "ben", "cat")
	a, b := p[0].connect(t), p[1].connect(t)
	a2 := p[0].connect(t)
	g, h := a.create("group", "G", p[1]), a.create("group", "H", p[1])
	base := J{"conversation": g, "text": "x"}
	send := func(more string, v any) J { return with(with(base, more, v), "key", key()) }
	one := a.send(g, "one")
	a.send(h, "elsewhere")
	a.send(h, "elsewhere 2")
	r := a.ok("message.send", send("reply_to", one))
	e := b.entry(g, r.get("seq").num())
	if e.get("reply_to").num() != one || e.get("time").num() != r.get("time").num() || e.get("by").str() != p[0].id || e.get("text").str() != "x" {
		t.Errorf("%s", e)
	}
	a2.entry(g, r.get("seq").num()) // the sender's other session
	a.entry(g, r.get("seq").num())  // and this one
	a.ok("message.react", J{"conversation": g, "target": one, "emoji": "👍", "on": true, "key": key()})
	for _, no := range []int64{0, 3, 4, 99, 1 << 62} { // 3 is the reaction
		a.fail("message.send", send("reply_to", no), "invalid", "reply_to")
	}
	// Who is no member is dropped, and so is who does not exist.
	seq := a.ok("message.send", send("mentions", []string{p[2].id, p[1].id, "u_none", p[0].id})).get("seq").num()
	if got := b.entry(g, seq).get("mentions").strs(); !slices.Equal(got, ids(p[1], p[0])) {
		t.Errorf("mentions %q", got)
	}
	a.fail("message.send", send("files", []any{J{"id": "f_1"}}), "invalid", "files")
	a.ok("message.send", send("files", []any{}))
	a.bad("message.send", send("mentions", []any{5}), "mentions")
	a.bad("message.send", send("mentions", p[1].id), "mentions")
	a.bad("message.send", J{"conversation": g, "key": key()}, "text")
	a.bad("message.send", J{"conversation": g, "text": "x"}, "key")
	a.bad("message.send", J{"text": "x", "key": key()}, "conversation")
	a.fail("message.send", J{"conversation": g, "text": "", "key": key()}, "invalid", "text")
	last := int64(0)
	for _, e := range a.log(g) {
		if e.get("time").num() < last {
			t.Errorf("time decreases: %s", e)
		}
		last = e.get("time").num()
	}
}

func Test5_4_Recalled(t *testing.T) {
	t.Parallel()
	p := mainServer(t).tenant(t).people(t, "ann", "ben")
	a, b := p[0].connect(t), p[1].connect(t)
	g := a.create("channel", "G", p[1])
	const secret = "the-secret-wording"
	seq := a.send(g, secret)
	a.ok("message.edit", J{"conversation": g, "target": seq, "text": secret + " edited", "key": key()})
	a.ok("message.edit", J{"conversation": g, "target": seq, "text": secret + " again", "key": key()})
	a.ok("message.pin", J{"conversation": g, "target": seq, "on": true, "key": key()})
	b.ok("message.react", J{"conversation": g, "target": seq, "emoji": "👍", "on": true, "key": key()})
	k := key()
	r := a.ok("message.recall", J{"conversation": g, "target": seq, "key": k})
	if e := b.entry(g, r.get("seq").num()); e.get("kind").str() != "recall" || e.get("target").num() != seq {
		t.Errorf("%s", e)
	}
	if v := a.ok("message.recall", J{"conversation": g, "target": seq, "key": k}); !v.get("repeat").yes() || v.get("seq").num() != r.get("seq").num() {
		t.Errorf("%s", v)
	}
	fresh := p[1].connect(t)
	mark := len(fresh.seen())
	b2 := len(b.seen())
	for _, x := range []*session{fresh, b, a} {
		x.page(g, J{})
		x.page(g, J{"before": seq + 1})
		x.page(g, J{"after": seq, "limit": 1})
		x.head(g)
		x.ok("conversation.list", J{})
		x.ok("conversation.find", J{})
		if n := len(x.ok("message.pins", J{"conversation": g}).get("entries").list()); n != 0 {
			t.Errorf("%d pins: what is recalled is no longer pinned", n)
		}
	}
	for _, m := range append(fresh.seen()[mark-1:], b.seen()[b2:]...) {
		if strings.Contains(m.raw, secret) {
			t.Errorf("served after its recall: %.400s", m.raw)
		}
	}
	if _, body := p[1].rest(t, "GET", "/v1/conversations/"+g+"/messages", nil); strings.Contains(body.String(), secret) {
		t.Errorf("REST serves it after its recall: %s", body)
	}
	log := b.log(g)
	if e := log[0]; !e.get("recalled").yes() || e.has("text") {
		t.Errorf("%s", e)
	}
	for _, e := range log[1:3] {
		if e.get("kind").str() != "edit" || e.has("text") || e.get("target").num() != seq {
			t.Errorf("%s", e)
		}
	}
	// Nothing more can be done with it, but it may be replied to and has its place.
	for method, params := range map[string]J{
		"message.edit":   {"text": "x"},
		"message.recall": {},
		"message.react":  {"emoji": "👍", "on": true},
		"message.pin":    {"on": true},
	} {
		for _, target := range []int64{seq, seq + 1, 0, 1000} {
			a.fail(method, with(with(with(params, "conversation", g), "target", target), "key", key()), "invalid", "target")
		}
	}
	// The sent text's own key still gives the first result.
	head := b.head(g)
	if head.get("last").has("text") || head.get("unread").num() != 0 {
		t.Errorf("%s", head)
	}
}

func Test6_1_TextLimits(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a := ann.connect(t)
	c := a.direct(ben)
	send := func(text string) J { return J{"conversation": c, "text": text, "key": key()} }
	a.ok("message.send", send("x"))
	a.ok("message.send", send(strings.Repeat("é", 8192)))
	// The bytes are counted after decoding.
	a.ok("message.send", `{"conversation":"`+c+`","key":"`+key()+`","text":"`+strings.Repeat(`\u00e9`, 8192)+`"}`)
	for _, long := range []string{strings.Repeat("é", 8192) + "x", strings.Repeat("x", 16385), strings.Repeat("x", 60000)} {
		if e := a.fail("message.send", send(long), "too_large", "text"); e.get("data", "limit").num() != 16384 {
			t.Errorf("%s", e)
		}
	}
	if a.head(c).get("head").num() != 3 {
		t.Error("something refused was stored")
	}
}

func Test6_2_Keys(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, a2, b := ann.connect(t), ann.connect(t), ben.connect(t)
	c, d := a.direct(ben), a.create("group", "G", ben)
	for _, good := range []string{"x", strings.Repeat("k", 64), " ", " !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", "123e4567-e89b-12d3-a456-426614174000"} {
		r := a.ok("message.send", J{"conversation": c, "text": "t", "key": good})
		if v := a2.ok("message.send", J{"conversation": c, "text": "t", "key": good}); !v.get("repeat").yes() || v.get("seq").num() != r.get("seq").num() || v.get("time").num() != r.get("time").num() {
			t.Errorf("key %q: %s, then %s", good, r, v)
		}
	}
	for _, bad := range []string{"", strings.Repeat("k", 65), "a\x1f", "a\n", "é", "a\x7f", "\x00", "😀"} {
		a.fail("message.send", J{"conversation": c, "text": "t", "key": bad}, "invalid", "key")
	}
	// Bodies that are the same.
	head := a.head(c).get("head").num()
	k := key()
	first := a.ok("message.send", `{"conversation":"`+c+`","key":"`+k+`","text":"aé😀\n"}`).get("seq").num()
	for _, same := range []string{
		`{"text":"aé😀\n","key":"` + k + `","conversation":"` + c + `"}`,
		`{"conversation":"` + c + `","key":"` + k + `","text":"\u0061\u00e9\ud83d\ude00\u000A","more":[1,{"x":null}]}`,
		`{"conversation":"` + c + `","key":"` + k + `","text":"aé😀\n","mentions":[],"files":[]}`,
		` { "conversation" : "` + c + `" , "key":"` + k + `","text":"no","text":"aé😀\n" } `,
	} {
		if v := a.ok("message.send", same); v.get("seq").num() != first || !v.get("repeat").yes() {
			t.Errorf("%s: %s", same, v)
		}
	}
	if got := a.head(c).get("head").num(); got != head+1 {
		t.Errorf("head %d, must be %d", got, head+1)
	}
	// Bodies that differ, in one namespace over methods, conversations and connections.
	base := J{"conversation": c, "text": "aé😀\n", "key": k}
	for name, v := range map[string]any{"text": "ae\u0301😀\n", "conversation": d, "mentions": ids(ben), "reply_to": first} {
		a2.fail("message.send", with(base, name, v), "conflict", "")
	}
	a2.fail("message.edit", J{"conversation": c, "target": first, "text": "aé😀\n", "key": k}, "conflict", "")
	a2.fail("message.recall", J{"conversation": c, "target": first, "key": k}, "conflict", "")
	a2.fail("message.react", J{"conversation": c, "target": first, "emoji": "👍", "on": true, "key": k}, "conflict", "")
	a2.fail("message.pin", J{"conversation": c, "target": first, "on": true, "key": k}, "conflict", "")
	a2.fail("conversation.create", J{"kind": "group", "title": "x", "key": k}, "conflict", "")
	// A key is one user's.
	if v := b.ok("message.send", base); v.has("repeat") {
		t.Errorf("another user's key: %s", v)
	}
	// The order of a list counts, and so does a double.
	m := J{"conversation": d, "text": "m", "mentions": ids(ann, ben), "key": key()}
	a.ok("message.send", m)
	a.fail("message.send", with(m, "mentions", ids(ben, ann)), "conflict", "")
	a.fail("message.send", with(m, "mentions", ids(ann, ben, ben)), "conflict", "")
	if !a.ok("message.send", m).get("repeat").yes() {
		t.Error("no repeat")
	}
	// A refused request leaves no trace of its key.
	refused := key()
	a.fail("message.send", J{"conversation": c, "text": "x", "reply_to": 99999, "key": refused}, "invalid", "reply_to")
	a.fail("message.send", J{"conversation": "c_none", "text": "x", "key": refused}, "not_found", "")
	a.fail("message.edit", J{"conversation": c, "target": 99999, "text": "x", "key": refused}, "invalid", "target")
	if v := a.ok("message.send", J{"conversation": c, "text": "other", "key": refused}); v.has("repeat") {
		t.Errorf("%s", v)
	}
	// A repeat is answered before permission is looked at.
	p := J{"conversation": d, "text": "before", "key": key()}
	seq := b.ok("message.send", p).get("seq").num()
	a.ok("conversation.remove", J{"id": d, "users": ids(ben)})
	if v := b.ok("message.send", p); !v.get("repeat").yes() || v.get("seq").num() != seq {
		t.Errorf("%s", v)
	}
	b.fail("message.send", with(p, "text", "after"), "conflict", "")
	b.fail("message.send", with(p, "key", key()), "not_found", "")
}

// Test6_2_AtOnce sends the same request on many connections at the same moment.
func Test6_2_AtOnce(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	var sessions []*session
	for range 8 {
		sessions = append(sessions, ann.connect(t))
	}
	c := sessions[0].direct(ben)
	for round := range 25 {
		p := J{"conversation": c, "text": fmt.Sprint(round), "key": key()}
		asked := make([]string, len(sessions))
		var wg sync.WaitGroup
		for i, s := range sessions {
			wg.Go(func() { asked[i] = s.start("message.send", p) })
		}
		var status int
		var rest value
		wg.Go(func() {
			status, rest = ann.rest(t, "POST", "/v1/conversations/"+c+"/messages", J{"text": fmt.Sprint(round)}, "Idempotency-Key", p["key"].(string))
		})
		wg.Wait()
		firsts := 0
		if status == 201 {
			firsts++
		} else if status != 200 || !rest.get("repeat").yes() {
			t.Errorf("REST: %d %s", status, rest)
		}
		for i, s := range sessions {
			v := s.reply(asked[i]).get("result")
			if v.get("seq").num() != int64(round+1) || rest.get("seq").num() != int64(round+1) {
				t.Fatalf("round %d: %s", round, v)
			}
			if !v.has("repeat") {
				firsts++
			}
		}
		if firsts != 1 {
			t.Errorf("round %d: stored %d times", round, firsts)
		}
	}
}

// Test6_2_OverAKill resends what was acknowledged, and what was not, to the next process.
func Test6_2_OverAKill(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	p := s.tenant(t).people(t, "ann", "ben")
	a := p[0].connect(t)
	sync, epoch := a.hello.get("sync").str(), a.hello.get("epoch").str()
	create := J{"kind": "group", "title": "G", "members": ids(p[1]), "key": key()}
	g := a.ok("conversation.create", create).get("id").str()
	d := a.direct(p[1])
	react := J{"conversation": g, "target": 1, "emoji": "👍", "on": false, "key": key()}
	var sent []J
	var got []value
	for i := range 50 {
		m := J{"conversation": g, "text": fmt.Sprint(i), "key": key()}
		sent, got = append(sent, m), append(got, a.ok("message.send", m))
		if i == 0 {
			if v := a.ok("message.react", react); !v.get("repeat").yes() || v.get("seq").num() != 1 {
				t.Errorf("off what never was on: %s", v)
			}
		}
	}
	edit := J{"conversation": g, "target": 1, "text": "edited", "key": key()}
	edited := a.ok("message.edit", edit)
	recall := J{"conversation": g, "target": 2, "key": key()}
	recalled := a.ok("message.recall", recall)
	a.ok("read.mark", J{"conversation": g, "seq": 5})
	// And a crowd in flight when the process dies.
	var flying []J
	var params []any
	for i := range 300 {
		m := J{"conversation": g, "text": fmt.Sprint("flying ", i), "key": key()}
		flying, params = append(flying, m), append(params, m)
	}
	list := a.startAll("message.send", params...)
	a.reply(list[20])
	s.kill()
	a.ended()
	known := make(map[int]value)
	for i, id := range list {
		a.mu.Lock()
		if v, ok := a.replies[id]; ok {
			known[i] = v.get("result")
		}
		a.mu.Unlock()
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	a = p[0].connectWith(t, J{"sync": sync, "epoch": epoch})
	if e := a.hello.get("epoch").str(); e != epoch {
		t.Errorf("epoch %s after a crash, was %s", e, epoch)
	}
	if h := heads(a.hello.get("conversations").list()); h[g].get("read").num() != 5 || !h[d].exists() {
		t.Errorf("the mark or the direct did not survive: %s, %s", h[g], h[d])
	}
	same := func(method string, p J, first value) {
		t.Helper()
		v := a.ok(method, p)
		if !v.get("repeat").yes() || first.exists() && (v.get("seq").num() != first.get("seq").num() || v.get("time").num() != first.get("time").num()) {
			t.Errorf("%s: first %s, after the crash %s", method, first, v)
		}
	}
	for i := range sent {
		same("message.send", sent[i], got[i])
	}
	same("message.edit", edit, edited)
	same("message.recall", recall, recalled)
	if v := a.ok("conversation.create", create); v.get("id").str() != g || !v.get("repeat").yes() {
		t.Errorf("create after the crash: %s", v)
	}
	// 6.4's entry-less answer is remembered, though meanwhile the reaction is on.
	a.ok("message.react", with(with(react, "on", true), "key", key()))
	if v := a.ok("message.react", react); !v.get("repeat").yes() || v.get("seq").num() != 1 {
		t.Errorf("the remembered answer of a reaction: %s", v)
	}
	for i, m := range flying {
		v := a.ok("message.send", m)
		if first, ok := known[i]; ok && (!v.get("repeat").yes() || v.get("seq").num() != first.get("seq").num()) {
			t.Errorf("acknowledged as %s before the crash, %s after it", first, v)
		}
	}
	count := make(map[string]int)
	for _, e := range a.log(g) {
		if e.get("kind").str() == "message" {
			count[e.get("text").str()]++
		}
	}
	for i := range flying {
		if n := count[fmt.Sprint("flying ", i)]; n != 1 {
			t.Errorf("message %d is there %d times", i, n)
		}
	}
}

func Test6_3_History(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a := ann.connect(t)
	c := a.direct(ben)
	if p := a.page(c, J{}); p.String() != `{"entries":[],"head":0}` {
		t.Errorf("empty: %s", p)
	}
	const n = 250
	for i := range n {
		a.start("message.send", J{"conversation": c, "text": fmt.Sprint(i + 1), "key": key()})
	}
	a.send(c, "251")
	for _, q := range []struct {
		more        J
		first, last int64
		few         bool // it may hold fewer
	}{
		{J{}, 52, 251, true}, {J{"limit": 10}, 242, 251, true}, {J{"limit": 1}, 251, 251, false}, {J{"limit": 100000}, 52, 251, true},
		{J{"after": 0, "limit": 3}, 1, 3, true}, {J{"after": 0}, 1, 200, true}, {J{"after": 249}, 250, 251, true}, {J{"after": 251}, 0, 0, false},
		{J{"after": 1 << 62}, 0, 0, false}, {J{"before": 1}, 0, 0, false}, {J{"before": 0}, 0, 0, false}, {J{"before": 2}, 1, 1, false},
		{J{"before": 11, "limit": 4}, 7, 10, true}, {J{"before": 1 << 62, "limit": 2}, 250, 251, true},
	} {
		p := a.page(c, q.more)
		list := p.get("entries").list()
		if p.get("head").num() != n+1 {
			t.Errorf("%v: head %s", q.more, p.get("head"))
		}
		if q.last == 0 {
			if len(list) != 0 {
				t.Errorf("%v: %d entries", q.more, len(list))
			}
			continue
		}
		// A page begins where it was asked for, and ends no later; it holds at least one.
		_, rising := q.more["after"]
		if len(list) == 0 || rising && list[0].get("seq").num() != q.first || !rising && list[len(list)-1].get("seq").num() != q.last || int64(len(list)) > q.last-q.first+1 {
			t.Errorf("%v: %d entries from %s", q.more, len(list), p.get("entries", 0, "seq"))
		}
	}
	a.fail("message.history", J{"conversation": c, "after": 1, "before": 9}, "invalid", "before")
	a.fail("message.history", J{"conversation": c, "after": 0, "before": 0}, "invalid", "before")
}

func Test6_3_BigPages(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	for range 60 {
		a.start("message.send", J{"conversation": c, "text": strings.Repeat("x", 10), "key": key()})
	}
	for range 12 {
		a.ok("message.send", `{"conversation":"`+c+`","key":"`+key()+`","text":"`+strings.Repeat(`\b`, 16384)+`"}`)
		a.ok("message.send", J{"conversation": c, "text": strings.Repeat("\x01", 10000), "key": key()}) // six bytes each when escaped
	}
	if got := len(b.log(c)); got != 84 {
		t.Errorf("%d entries of 84", got)
	}
}

func Test6_4_EditReactPin(t *testing.T) {
	t.Parallel()
	p := mainServer(t).tenant(t).people(t, "ann", "ben", "cat")
	a, b := p[0].connect(t), p[1].connect(t)
	g := a.create("group", "G", p[1], p[2])
	m := a.send(g, "m")
	act := func(s *session, method string, more J) value {
		t.Helper()
		return s.ok(method, with(with(more, "conversation", g), "key", key()))
	}
	react := func(s *session, emoji string, on bool) value {
		t.Helper()
		return act(s, "message.react", J{"target": m, "emoji": emoji, "on": on})
	}
	entry := func(v value) value { t.Helper(); return b.entry(g, v.get("seq").num()) }
	if v := react(a, "👍", false); !v.get("repeat").yes() || v.get("seq").num() != m {
		t.Errorf("off what never was on: %s", v)
	}
	r1 := react(a, "👍", true)
	if e := entry(r1); e.get("kind").str() != "reaction" || e.get("emoji").str() != "👍" || !e.get("on").yes() || e.get("target").num() != m {
		t.Errorf("%s", e)
	}
	if v := react(a, "👍", true); !v.get("repeat").yes() || v.get("seq").num() != r1.get("seq").num() || v.get("time").num() != r1.get("time").num() {
		t.Errorf("the same reaction again: %s, was %s", v, r1)
	}
	r2 := react(b, "👍", true)
	if r2.has("repeat") {
		t.Errorf("another's same reaction: %s", r2)
	}
	react(b, "❤️", true)
	off := react(a, "👍", false)
	if e := entry(off); !e.get("on").no() {
		t.Errorf("%s", e)
	}
	if v := react(a, "👍", false); !v.get("repeat").yes() || v.get("seq").num() != off.get("seq").num() {
		t.Errorf("off again: %s, was %s", v, off)
	}
	react(a, "👨‍👩‍👧", true)
	state := func(s *session) value { t.Helper(); return s.page(g, J{"after": m - 1, "limit": 1}).get("entries", 0) }
	want := func(s *session, reactions string) {
		t.Helper()
		if got := state(s).get("reactions").String(); got != reactions {
			t.Errorf("%s sees %s, must be %s", s.who.username, got, reactions)
		}
	}
	want(a, `[{"count":1,"emoji":"👍","mine":false},{"count":1,"emoji":"❤️","mine":false},{"count":1,"emoji":"👨‍👩‍👧","mine":true}]`)
	want(b, `[{"count":1,"emoji":"👍","mine":true},{"count":1,"emoji":"❤️","mine":true},{"count":1,"emoji":"👨‍👩‍👧","mine":false}]`)
	for _, good := range []string{"x", "é", "e\u0301", "🇩🇪", "1️⃣", "👍🏽", "ก็", "कि"} {
		react(a, good, true)
		react(a, good, false)
	}
	want(b, `[{"count":1,"emoji":"👍","mine":true},{"count":1,"emoji":"❤️","mine":true},{"count":1,"emoji":"👨‍👩‍👧","mine":false}]`)
	for _, bad := range []string{"", "ab", "👍👍", " ", "\n", "\x00", "\u00a0", "\u0085", "🇩🇪🇫🇷", "e" + strings.Repeat("\u0301", 32)} {
		a.fail("message.react", J{"conversation": g, "target": m, "emoji": bad, "on": true, "key": key()}, "invalid", "emoji")
	}
	// An edit always makes an entry, even with the same text.
	e1 := act(a, "message.edit", J{"target": m, "text": "m"})
	e2 := act(a, "message.edit", J{"target": m, "text": "m2"})
	if e1.has("repeat") || e2.get("seq").num() != e1.get("seq").num()+1 {
		t.Errorf("%s %s", e1, e2)
	}
	if e := entry(e2); e.get("kind").str() != "edit" || e.get("text").str() != "m2" || e.get("target").num() != m {
		t.Errorf("%s", e)
	}
	if got := state(b); got.get("text").str() != "m2" || got.get("edited").num() != e2.get("time").num() {
		t.Errorf("%s", got)
	}
	// Pins, newest pin first.
	m2, m3 := a.send(g, "two"), a.send(g, "three")
	pin := func(target int64, on bool) value {
		t.Helper()
		return act(a, "message.pin", J{"target": target, "on": on})
	}
	if v := pin(m, false); !v.get("repeat").yes() || v.get("seq").num() != m {
		t.Errorf("%s", v)
	}
	pins := func(want ...int64) {
		t.Helper()
		var got []int64
		for _, e := range b.ok("message.pins", J{"conversation": g}).get("entries").list() {
			got = append(got, e.get("seq").num())
			if !e.get("pinned").yes() {
				t.Errorf("not pinned: %s", e)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pins %v, must be %v", got, want)
		}
	}
	pins()
	p1 := pin(m2, true)
	pin(m, true)
	pin(m3, true)
	if v := pin(m2, true); !v.get("repeat").yes() || v.get("seq").num() != p1.get("seq").num() {
		t.Errorf("%s", v)
	}
	pins(m3, m, m2)
	pin(m2, false)
	pin(m2, true)
	pins(m2, m3, m)
	act(a, "message.recall", J{"target": m3})
	pins(m2, m)
	if got := b.ok("message.pins", J{"conversation": g}).get("entries", 1); got.get("text").str() != "m2" || len(got.get("reactions").list()) != 3 {
		t.Errorf("a pin as in a page: %s", got)
	}
	for _, bad := range []int64{0, r1.get("seq").num(), e1.get("seq").num(), 1 << 40} {
		a.fail("message.edit", J{"conversation": g, "target": bad, "text": "x", "key": key()}, "invalid", "target")
		a.fail("message.pin", J{"conversation": g, "target": bad, "on": true, "key": key()}, "invalid", "target")
	}
}

func Test6_4_AtMost200Pins(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a := ann.connect(t)
	c := a.direct(ben)
	for range 210 {
		a.start("message.send", J{"conversation": c, "text": "x", "key": key()})
	}
	a.send(c, "x")
	for i := range 205 {
		a.start("message.pin", J{"conversation": c, "target": i + 1, "on": true, "key": key()})
	}
	a.ok("message.pin", J{"conversation": c, "target": 206, "on": true, "key": key()})
	list := a.ok("message.pins", J{"conversation": c}).get("entries").list()
	if len(list) != 200 || list[0].get("seq").num() != 206 || list[199].get("seq").num() != 7 {
		t.Errorf("%d pins", len(list))
	}
}

func Test6_5_Keys(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	k := key()
	seq := a.ok("message.send", J{"conversation": c, "text": "x", "key": k}).get("seq").num()
	if e := a.entry(c, seq); e.has("key") {
		t.Errorf("the event has the key: %s", e)
	}
	a.ok("message.pin", J{"conversation": c, "target": seq, "on": true, "key": key()})
	for _, x := range []*session{a, b} {
		page, pin := x.page(c, J{}).get("entries", 0), x.ok("message.pins", J{"conversation": c}).get("entries", 0)
		_, rest := x.who.rest(t, "GET", "/v1/conversations/"+c+"/messages", nil)
		for where, e := range map[string]value{"page": page, "pins": pin, "REST": rest.get("entries", 0)} {
			if x == a && e.get("key").str() != k || x == b && e.has("key") {
				t.Errorf("%s sees in the %s: %s", x.who.username, where, e)
			}
		}
		if x.head(c).get("last").has("key") {
			t.Error("HEAD.last has the key")
		}
	}
}

// Test6_5_PageAndHeadAreOneSnapshot reads while another edits, reacts and pins: the events above a page's head, applied to it,
// must give what the next page shows.
func Test6_5_PageAndHeadAreOneSnapshot(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	m := a.send(c, "0")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			list := a.startAll("message.edit", J{"conversation": c, "target": m, "text": fmt.Sprint(i), "key": key()})
			list = append(list, a.startAll("message.pin", J{"conversation": c, "target": m, "on": i%2 == 1, "key": key()})...)
			list = append(list, a.startAll("message.react", J{"conversation": c, "target": m, "emoji": "👍", "on": i%2 == 1, "key": key()})...)
			for _, id := range list {
				a.reply(id)
			}
		}
	})
	type view struct {
		head         int64
		text         string
		pinned, like bool
	}
	var views []view
	for range 150 {
		p := b.page(c, J{"after": m - 1, "limit": 1})
		e := p.get("entries", 0)
		views = append(views, view{p.get("head").num(), e.get("text").str(), e.get("pinned").yes(), e.has("reactions")})
	}
	close(stop)
	wg.Wait()
	at := view{head: m, text: "0"}
	states := map[int64]view{m: at}
	for _, e := range b.log(c)[1:] {
		at.head = e.get("seq").num()
		switch e.get("kind").str() {
		case "edit":
			at.text = e.get("text").str()
		case "pin":
			at.pinned = e.get("on").yes()
		case "reaction":
			at.like = e.get("on").yes()
		}
		states[at.head] = at
	}
	for _, v := range views {
		if states[v.head] != v {
			t.Errorf("a page with head %d shows %+v, at that head it was %+v", v.head, v, states[v.head])
		}
	}
}

func Test6_6_Rate(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "LIMITS_SENDS_PER_MINUTE=120")
	p := s.tenant(t).people(t, "ann", "ben", "cat", "dan")
	a, a2, b := p[0].connect(t), p[0].connect(t), p[1].connect(t)
	if a.hello.get("limits", "sends_per_minute").num() != 120 {
		t.Errorf("%s", a.hello)
	}
	c := a.direct(p[1])               // 1
	g := b.create("group", "G", p[2]) // ben's
	k := J{"conversation": c, "text": "x", "key": key()}
	a.ok("message.send", k) // 2
	// All methods that append share one bucket, over all sessions and REST. Fractions of the bucket come back meanwhile,
	// two a second, so it is emptied until it refuses.
	refuse := func(s *session) value {
		t.Helper()
		for range 400 {
			v := s.call("message.send", J{"conversation": c, "text": "x", "key": key()})
			if v.has("error") {
				s.wantError(v, "message.send", "rate_limited", "")
				return v.get("error")
			}
		}
		t.Fatal("400 sends in a row were taken")
		return value{}
	}
	sent, began := 0, time.Now()
	for _, id := range a.startAll("message.send", func() (list []any) {
		for range 130 {
			list = append(list, J{"conversation": c, "text": "x", "key": key()})
		}
		return list
	}()...) {
		if a.reply(id).has("result") {
			sent++
		}
	}
	if back := int(2 * time.Since(began).Seconds()); sent < 110 || sent > 120+back {
		t.Errorf("a burst of %d was taken", sent)
	}
	if ms := refuse(a).get("data", "retry_after_ms").num(); ms < 1 || ms > 60000 {
		t.Errorf("retry_after_ms %d", ms)
	}
	refuse(a2)
	for range 50 { // one of them meets the empty bucket
		status, v := p[0].rest(t, "POST", "/v1/conversations/"+c+"/messages", J{"text": "x"}, "Idempotency-Key", key())
		if status == 429 {
			break
		}
		if status != 201 {
			t.Fatalf("REST: %d %s", status, v)
		}
	}
	refuse(a)
	// A repeat is free, and permission is looked at before rate.
	if v := a.ok("message.send", k); !v.get("repeat").yes() {
		t.Errorf("%s", v)
	}
	for range 20 {
		a.fail("message.send", J{"conversation": g, "text": "x", "key": key()}, "not_found", "")
	}
	// Reading and marking don't count.
	a.page(c, J{})
	a.ok("read.mark", J{"conversation": c, "seq": 1})
	a.ok("session.ping", J{})
	for what, ask := range map[string]func() value{
		"create": func() value { return a.call("conversation.create", J{"kind": "group", "title": "x", "key": key()}) },
		"direct": func() value { return a.call("conversation.direct", J{"user": p[1].id}) },
		"react": func() value {
			return a.call("message.react", J{"conversation": c, "target": 2, "emoji": "👍", "on": true, "key": key()})
		},
	} {
		limited := false
		for range 200 {
			if v := ask(); v.has("error") {
				a.wantError(v, what, "rate_limited", "")
				limited = true
				break
			}
		}
		if !limited {
			t.Errorf("%s is not limited", what)
		}
	}
	// Another user has another bucket; refused requests count.
	d := p[3].connect(t)
	var params []any
	for range 125 {
		params = append(params, J{"conversation": g, "text": "x", "key": key()})
	}
	for _, id := range d.startAll("message.send", params...) {
		d.wantError(d.reply(id), "message.send of a stranger", "not_found", "")
	}
	taken := 0
	began = time.Now()
	for range 20 {
		if d.call("conversation.create", J{"kind": "group", "title": "x", "key": key()}).has("result") {
			taken++
		}
	}
	if taken > 12+int(2*time.Since(began).Seconds()) {
		t.Errorf("after 125 refused requests %d were taken in a row: refused ones don't count", taken)
	}
}
