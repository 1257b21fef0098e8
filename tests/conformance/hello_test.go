package conformance_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func Test3_1_TheFirstMessage(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	ann := s.tenant(t).people(t, "ann")[0]
	hello := func(id, params string) string { return request(id, "session.hello", params) }
	right := `{"token":"` + ann.token + `"}`
	for name, c := range map[string]struct {
		first  string
		answer int64 // an error before the close
	}{
		"another method":          {request("1", "session.ping", J{}), 0},
		"no such method":          {request("1", "hello", J{}), 0},
		"a batch":                 {"[" + hello("1", right) + "]", 0},
		"not JSON":                {"hello", 0},
		"nothing":                 {"", 0},
		"not JSON-RPC":            {`{"id":1,"method":"session.hello","params":` + right + `}`, 0},
		"without id":              {hello("", right), 0},
		"id null":                 {hello("null", right), 0},
		"token of the wrong type": {hello("1", `{"token":5}`), -32602},
		"token null":              {hello("1", `{"token":null}`), -32602},
		"params an array":         {hello("1", `["`+ann.token+`"]`), -32602},
		"sync of the wrong type":  {hello("1", `{"token":"`+ann.token+`","sync":{}}`), -32602},
	} {
		t.Run(name, func(t *testing.T) {
			ws := s.open(t)
			ws.put(t, text(c.first))
			texts, end := ws.untilEnd(t)
			if end.code != 4201 {
				t.Errorf("ended with %v", end)
			}
			if c.answer == 0 && len(texts) != 0 || c.answer != 0 && (len(texts) != 1 || parse(t, []byte(texts[0])).get("error", "code").num() != c.answer) {
				t.Errorf("answered %q", texts)
			}
		})
	}
}

// Test3_1_TenSeconds: nothing but pings, or the beginning of a message, is nothing.
func Test3_1_TenSeconds(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	for name, first := range map[string][]byte{
		"silence": nil, "pings": frameOf(fin|opPing, "x"), "half a frame": text(request("1", "session.hello", J{}))[:9],
		"half a message": frameOf(opText, `{"jsonrpc"`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			ws := s.open(t)
			ws.put(t, first)
			texts, end := ws.untilEnd(t)
			if took := time.Since(began); took < 9*time.Second || end.code != 4201 || len(texts) != 0 {
				t.Errorf("after %v: %v, %q", took, end, texts)
			}
		})
	}
}

func Test3_1_Hello(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	tn := s.tenant(t)
	ann := tn.bulk(t, []J{{"username": "ann.lee", "name": "Ann Lee", "role": "guest"}})[0]
	a := ann.connectWith(t, J{"client": "conformance/1", "epoch": "", "sync": "", "more": nil})
	h := a.hello
	if h.get("user").String() != fmt.Sprintf(`{"id":%q,"name":"Ann Lee","role":"guest","username":"ann.lee"}`, ann.id) ||
		h.get("tenant", "id").str() != tn.id || h.get("tenant", "name").str() != "Tenant "+tn.id || len(h.get("conversations").list()) != 0 {
		t.Errorf("%s", h)
	}
	if h.get("limits").String() != `{"frame_bytes":65536,"sends_per_minute":100000,"text_bytes":16384}` || h.get("heartbeat_ms").num() != 30000 {
		t.Errorf("%s", h)
	}
	if off := time.Now().UnixMilli() - h.get("time").num(); off < -60_000 || off > 60_000 {
		t.Errorf("time is %d ms off", off)
	}
	if !h.get("full").yes() || h.has("next") || h.get("sync").str() == "" || h.get("epoch").str() == "" {
		t.Errorf("%s", h)
	}
	// A second hello is refused, whatever is in it, and nothing else happens.
	a.fail("session.hello", J{"token": ann.token}, "invalid", "")
	a.fail("session.hello", J{"token": "wrong"}, "invalid", "")
	a.ok("session.ping", J{})
	b := ann.connect(t)
	if a.hello.get("session").str() == b.hello.get("session").str() || a.hello.get("epoch").str() != b.hello.get("epoch").str() {
		t.Errorf("%s and %s", a.hello, b.hello)
	}
}

func Test3_1_RequestsBehindHello(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	c := ann.connect(t).direct(ben)
	for range 10 {
		s := ann.attach(t, ann.open(t))
		first := s.startAll("session.hello", J{"token": ann.token})
		var params []any
		for i := range 100 {
			params = append(params, J{"conversation": c, "text": fmt.Sprint(i), "key": key()})
		}
		list := s.startAll("message.send", params...)
		hello := s.reply(first[0]).get("result")
		head := hello.get("conversations", 0, "head").num()
		for i, id := range list {
			if seq := s.reply(id).get("result", "seq").num(); seq != head+1+int64(i) {
				t.Fatalf("request %d behind a hello with head %d got seq %d", i, head, seq)
			}
		}
		if m := s.seen()[0]; !m.has("result", "session") {
			t.Errorf("the first that came is %s", m)
		}
		s.entry(c, head+100)
		s.close()
	}
	// All in one segment, the hello refused: nothing of it runs.
	ws := ann.open(t)
	k := key()
	ws.put(t, append(text(request("1", "session.hello", J{"token": "no"})), text(request("2", "message.send", J{"conversation": c, "text": "x", "key": k}))...))
	texts, end := ws.untilEnd(t)
	if end.code != 4101 || len(texts) < 1 || parse(t, []byte(texts[0])).get("error", "data", "kind").str() != "unauthenticated" {
		t.Errorf("%v %q", end, texts)
	}
	a := ann.connect(t)
	if a.ok("message.send", J{"conversation": c, "text": "x", "key": k}).has("repeat") {
		t.Error("what came behind a refused hello was executed")
	}
}

func Test3_2_Tokens(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	ann := s.tenant(t).people(t, "ann")[0]
	origin := "Origin: http://" + s.addr
	for name, c := range map[string]struct {
		params J
		header []string
		good   bool
	}{
		"right":                     {J{"token": ann.token}, nil, true},
		"wrong":                     {J{"token": "wrong"}, nil, false},
		"empty":                     {J{"token": ""}, nil, false},
		"cut":                       {J{"token": ann.token[:len(ann.token)-1]}, nil, false},
		"with more behind it":       {J{"token": ann.token + "x"}, nil, false},
		"very long":                 {J{"token": strings.Repeat("x", 60000)}, nil, false},
		"not ASCII":                 {J{"token": "é\x00😀"}, nil, false},
		"none":                      {J{}, nil, false},
		"none, with origin":         {J{}, []string{origin}, false},
		"cookie and origin":         {J{}, []string{origin, "Cookie: a=b; pipit=" + ann.token + "; c=d"}, true},
		"cookie without origin":     {J{}, []string{"Cookie: pipit=" + ann.token}, false},
		"wrong token, right cookie": {J{"token": "wrong"}, []string{origin, "Cookie: pipit=" + ann.token}, false},
		"empty token, right cookie": {J{"token": ""}, []string{origin, "Cookie: pipit=" + ann.token}, false},
		"right token, wrong cookie": {J{"token": ann.token}, []string{origin, "Cookie: pipit=wrong"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := ann.attach(t, s.open(t, c.header...))
			v := h.call("session.hello", c.params)
			if v.has("result") != c.good {
				t.Fatalf("answered %s", v)
			}
			if !c.good {
				h.wantError(v, "hello", "unauthenticated", "")
				if end := h.ended(); end.code != 4101 {
					t.Errorf("ended with %v", end)
				}
			}
		})
	}
}

// heads are the HEADs of a list, by id.
func heads(list []value) map[string]value {
	m := make(map[string]value)
	for _, h := range list {
		m[h.get("id").str()] = h
	}
	return m
}

// everything pages from a reply with conversations through conversation.list, and holds the pages against 3.3.
func (s *session) everything(first value, limit int) (all []value, last value) {
	s.t.Helper()
	last = first
	for {
		page := last.get("conversations").list()
		all = append(all, page...)
		if !last.has("next") {
			return all, last
		}
		if last.has("full") || len(page) == 0 || len(page) > 200 {
			s.t.Fatalf("3.3: a page of %d with next: %s", len(page), last)
		}
		params := J{"cursor": last.get("next").str()}
		if limit > 0 {
			params["limit"] = limit
		}
		last = s.ok("conversation.list", params)
	}
}

func Test3_3_PagesAndSync(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	const n = 430
	var params []any
	for i := range n {
		params = append(params, J{"kind": "group", "title": fmt.Sprint("G", i), "members": ids(ben), "key": key()})
	}
	convs := make([]string, n)
	for i, id := range a.startAll("conversation.create", params...) {
		convs[i] = a.reply(id).get("result", "id").str()
	}
	for i := 0; i < n; i += 7 {
		a.send(convs[i], "hello")
	}
	check := func(all []value, last value) {
		t.Helper()
		if got := heads(all); len(got) != n || len(all) != n {
			t.Fatalf("%d conversations, %d different, must be %d", len(all), len(got), n)
		}
		if !last.get("full").yes() {
			t.Errorf("the last page has no full: %v", last.members())
		}
		for i := 1; i < len(all); i++ {
			if all[i].get("updated").num() > all[i-1].get("updated").num() {
				t.Fatalf("not newest first: %s before %s", all[i-1], all[i])
			}
		}
	}
	b2 := ben.connect(t)
	if len(b2.hello.get("conversations").list()) != 200 || !b2.hello.has("next") {
		t.Errorf("the hello lists %d of %d", len(b2.hello.get("conversations").list()), n)
	}
	all, last := b2.everything(b2.hello, 0)
	check(all, last)
	sync := last.get("sync").str()
	for _, limit := range []int{1000, 150} {
		check(b2.everything(b2.ok("conversation.list", J{"limit": limit}), limit))
	}
	for _, unusable := range []string{"", "garbage", strings.Repeat("9", 300), "é\x00"} {
		check(b2.everything(b2.ok("conversation.list", J{"sync": unusable}), 0))
		h := ben.connectWith(t, J{"sync": unusable})
		check(h.everything(h.hello, 0))
	}
	// With sync: what changed, and few others.
	a.send(convs[3], "new")
	a.ok("conversation.update", J{"id": convs[4], "title": "new"})
	a.ok("conversation.set_role", J{"id": convs[5], "user": ben.id, "role": "reader"})
	b.ok("read.mark", J{"conversation": convs[7], "seq": 1})
	b.ok("conversation.leave", J{"id": convs[8]})
	a.ok("conversation.remove", J{"id": convs[9], "users": ids(ben)})
	joined := a.create("group", "J", ben)
	d := a.direct(ben)
	for i, ask := range []func() ([]value, value){
		func() ([]value, value) {
			h := ben.connectWith(t, J{"sync": sync, "epoch": b2.hello.get("epoch").str()})
			return h.everything(h.hello, 0)
		},
		func() ([]value, value) { return b2.everything(b2.ok("conversation.list", J{"sync": sync}), 0) },
		func() ([]value, value) {
			return b2.everything(b2.ok("conversation.list", J{"sync": sync, "limit": 2}), 2)
		},
	} {
		list, last := ask()
		got := heads(list)
		if last.has("full") {
			t.Errorf("%d: full with a good sync", i)
		}
		if len(got) > 40 {
			t.Errorf("%d: %d of %d conversations are listed for 8 changes", i, len(got), n)
		}
		if got[convs[3]].get("last", "text").str() != "new" || got[convs[4]].get("title").str() != "new" || got[convs[5]].get("role").str() != "reader" ||
			got[convs[7]].get("read").num() != 1 || !got[joined].exists() || got[d].get("kind").str() != "direct" {
			t.Errorf("%d: changed and not listed, or as before: %v", i, list)
		}
		for _, c := range convs[8:10] {
			if !got[c].get("left").yes() || got[c].get("kind").str() != "group" {
				t.Errorf("%d: left and listed as %s", i, got[c])
			}
		}
	}
	// What was left is not in a full list.
	h := ben.connect(t)
	whole, _ := h.everything(h.hello, 0)
	if got := heads(whole); got[convs[8]].exists() || got[convs[9]].exists() || len(got) != n {
		t.Errorf("%d conversations after leaving 2 and joining 2", len(got))
	}
	// 3.7: another epoch means everything, whatever the sync.
	e := ben.connectWith(t, J{"sync": sync, "epoch": "e_of_another_box"})
	if whole, last := e.everything(e.hello, 0); len(whole) != n || !last.get("full").yes() {
		t.Errorf("another epoch: %d conversations, full %s", len(whole), last.get("full"))
	}
	h.fail("conversation.list", J{"cursor": "garbage"}, "invalid", "cursor")
}

// Test3_4_OneSnapshot signs in again and again while others write and join.
func Test3_4_OneSnapshot(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a := ann.connect(t)
	var convs []string
	for i := range 3 {
		convs = append(convs, a.create("group", fmt.Sprint("G", i), ben))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			var params []any
			for _, c := range convs {
				params = append(params, J{"conversation": c, "text": fmt.Sprint(i), "key": key()})
			}
			for _, id := range a.startAll("message.send", params...) {
				a.reply(id)
			}
			if i%20 == 5 {
				a.create("group", fmt.Sprint("later ", i), ben)
			}
		}
	})
	var sessions []*session
	for range 40 {
		sessions = append(sessions, ben.connect(t))
		if len(sessions) > 8 {
			sessions[0].close()
			checkSnapshot(t, sessions[0])
			sessions = sessions[1:]
		}
	}
	close(stop)
	wg.Wait()
	last := make(map[string]int64)
	for _, c := range convs {
		last[c] = a.send(c, "end")
	}
	for _, s := range sessions {
		for _, c := range convs {
			s.wait("the last entry", func() bool { return s.law.heads[c] == last[c] })
		}
		checkSnapshot(t, s)
	}
}

// checkSnapshot holds what a session heard against 3.4: each conversation's events go on where the hello's head ends, or with
// conversation.changed if it was joined later.
func checkSnapshot(t *testing.T, s *session) {
	t.Helper()
	known := make(map[string]int64)
	all := s.seen()
	if !all[0].has("result", "session") {
		t.Errorf("before the reply to hello came %s", all[0])
	}
	for _, h := range s.hello.get("conversations").list() {
		known[h.get("id").str()] = h.get("head").num()
	}
	for _, m := range all {
		switch m.event() {
		case "conversation.changed":
			if id := m.get("params", "id").str(); known[id] == 0 {
				known[id] = m.get("params", "head").num()
			}
		case "entry":
			id, seq := m.get("params", "conversation").str(), m.get("params", "seq").num()
			head, ok := known[id]
			if !ok {
				t.Errorf("entry %d of %s, which was never announced", seq, id)
			}
			if seq > head+1 {
				t.Errorf("entry %d of %s after %d", seq, id, head)
			}
			known[id] = max(head, seq)
		}
	}
}

func Test3_5_Head(t *testing.T) {
	t.Parallel()
	people := mainServer(t).tenant(t).people(t, "ann", "ben", "cat")
	ann, ben, cat := people[0], people[1], people[2]
	a, b := ann.connect(t), ben.connect(t)
	c := a.create("group", "Class 5a", ben, cat)
	if h := b.head(c); h.get("title").str() != "Class 5a" || h.get("head").num() != 0 || h.get("members").num() != 3 || h.get("role").str() != "member" ||
		h.has("last") || h.get("kind").str() != "group" {
		t.Errorf("new: %s", h)
	}
	if h := a.head(c); h.get("role").str() != "owner" {
		t.Errorf("the creator: %s", h)
	}
	want := func(step string, unread, mentions, read int64) {
		t.Helper()
		if h := b.head(c); h.get("unread").num() != unread || h.get("mentions").num() != mentions || h.get("read").num() != read {
			t.Errorf("%s: unread, mentions, read must be %d, %d, %d: %s", step, unread, mentions, read, h)
		}
	}
	mention := func(text string, who ...string) int64 {
		return a.ok("message.send", J{"conversation": c, "text": text, "mentions": who, "key": key()}).get("seq").num()
	}
	a.send(c, "one")
	want("a message", 1, 0, 0)
	two := mention("two", ben.id)
	mention("three", cat.id)
	want("a mention", 3, 1, 0)
	b.send(c, "own")
	want("one's own message", 3, 1, 0)
	a.ok("message.edit", J{"conversation": c, "target": 1, "text": "uno", "key": key()})
	a.ok("message.react", J{"conversation": c, "target": 1, "emoji": "👍", "on": true, "key": key()})
	a.ok("conversation.update", J{"id": c, "title": "Class 5b"})
	want("what is no message", 3, 1, 0)
	a.ok("message.recall", J{"conversation": c, "target": two, "key": key()})
	want("a recall", 2, 0, 0)
	b.ok("read.mark", J{"conversation": c, "seq": 1})
	want("a mark", 1, 0, 1)
	b.ok("read.mark", J{"conversation": c, "seq": 1 << 40})
	want("a mark above head", 0, 0, b.head(c).get("head").num())
	mention("four", ben.id, ben.id)
	want("a double mention", 1, 1, b.head(c).get("read").num())

	// The newest message stands in HEAD, cut at a code point.
	for _, s := range []string{strings.Repeat("x", 256), strings.Repeat("x", 257), strings.Repeat("é", 129), "x" + strings.Repeat("😀", 70)} {
		seq := a.send(c, s)
		cut := s
		for len(cut) > 256 {
			r := []rune(cut)
			cut = string(r[:len(r)-1])
		}
		last := b.head(c).get("last")
		if last.get("seq").num() != seq || last.get("text").str() != cut || last.get("cut").yes() != (cut != s) {
			t.Errorf("%.10q… of %d bytes: %s", s, len(s), last)
		}
	}
	seq := a.send(c, "to be edited")
	a.ok("message.pin", J{"conversation": c, "target": seq, "on": true, "key": key()})
	a.ok("message.react", J{"conversation": c, "target": seq, "emoji": "👍", "on": true, "key": key()})
	e := a.ok("message.edit", J{"conversation": c, "target": seq, "text": "edited", "key": key()})
	if last := a.head(c).get("last"); last.get("text").str() != "edited" || last.get("edited").num() != e.get("time").num() {
		t.Errorf("after the edit: %s", last)
	}
	a.ok("message.recall", J{"conversation": c, "target": seq, "key": key()})
	if last := a.head(c).get("last"); last.get("seq").num() != seq || !last.get("recalled").yes() {
		t.Errorf("after the recall: %s", last)
	}

	d := a.direct(ben)
	a.send(d, "x")
	b.ok("read.mark", J{"conversation": d, "seq": 1})
	if h := a.head(d); h.get("peer").String() != fmt.Sprintf(`{"id":%q,"name":"ben","username":"ben"}`, ben.id) || h.get("peer_read").num() != 1 ||
		h.get("role").str() != "member" || h.get("members").num() != 2 || h.get("read").num() != 0 || h.get("unread").num() != 0 {
		t.Errorf("direct: %s", h)
	}
}

func Test3_6_Resume(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	a.send(c, "0")
	b.entry(c, 1)
	sync := b.hello.get("sync").str()
	b.close()
	for i := range 450 {
		a.start("message.send", J{"conversation": c, "text": fmt.Sprint(i + 1), "key": key()})
	}
	last := a.send(c, "451")
	b = ben.connectWith(t, J{"sync": sync})
	h := heads(b.hello.get("conversations").list())[c]
	if h.get("head").num() != last {
		t.Fatalf("head %s, must be %d", h, last)
	}
	mine := int64(1)
	for mine < last {
		for _, e := range b.page(c, J{"after": mine}).get("entries").list() {
			if mine++; e.get("seq").num() != mine || e.get("text").str() != fmt.Sprint(mine-1) {
				t.Fatalf("entry %d is %s", mine, e)
			}
		}
	}
}

func Test3_8_Heartbeat(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "LIMITS_HEARTBEAT=2s")
	ann := s.tenant(t).people(t, "ann")[0]
	hello := text(request("1", "session.hello", J{"token": ann.token}))
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		ws := s.open(t)
		ws.put(t, hello)
		began, pings := time.Now(), 0
		ws.SetReadDeadline(began.Add(patience))
		for {
			op, _, payload, err := ws.serverFrame()
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				t.Fatal("never closed")
			}
			if err != nil {
				break
			}
			switch op {
			case opPing:
				pings++
			case opText:
				if ms := parse(t, payload).get("result", "heartbeat_ms").num(); ms != 2000 {
					t.Errorf("heartbeat_ms %d", ms)
				}
			}
			if op == opClose {
				break
			}
		}
		if took := time.Since(began); took < 5*time.Second || pings == 0 {
			t.Errorf("closed after %v and %d pings", took, pings)
		}
	})
	t.Run("pongs", func(t *testing.T) {
		t.Parallel()
		ws := s.open(t)
		ws.put(t, hello)
		ws.SetReadDeadline(time.Now().Add(patience))
		for pings := 0; pings < 4; {
			op, _, payload, err := ws.serverFrame()
			if err != nil {
				t.Fatalf("after %d pings: %v", pings, err)
			}
			if op == opPing {
				pings++
				ws.put(t, frameOf(fin|opPong, string(payload)))
			}
		}
	})
	t.Run("session.ping", func(t *testing.T) {
		t.Parallel()
		ws := s.open(t) // without a goroutine that answers pings
		ws.put(t, hello)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for i := range 15 {
			<-tick.C // the client's own heartbeat
			ws.put(t, text(request(strconv.Itoa(i+2), "session.ping", J{})))
		}
		ws.SetReadDeadline(time.Now().Add(patience))
		for replies := 0; replies < 16; {
			op, _, payload, err := ws.serverFrame()
			if err != nil || op == opClose {
				t.Fatalf("ended after %d replies: %v", replies, err)
			}
			if op == opText {
				replies++
				if v := parse(t, payload).get("result"); replies > 1 && !(v.get("time").num() > 1_000_000_000_000) {
					t.Errorf("session.ping: %s", v)
				}
			}
		}
	})
}

func Test3_9_CloseCodes(t *testing.T) {
	t.Parallel()
	s := ownServer(t)
	tn, other := s.tenant(t), s.tenant(t)
	people := tn.people(t, "ann", "ben", "cat")
	ann, ben, cat := people[0], people[1], people[2]
	eve := other.people(t, "eve")[0]
	a1, a2, b, c, e := ann.connect(t), ann.connect(t), ben.connect(t), cat.connect(t), eve.connect(t)
	refused := func(p *person, code uint16) {
		t.Helper()
		h := p.attach(t, p.open(t))
		h.wantError(h.call("session.hello", J{"token": p.token}), "hello", "unauthenticated", "")
		if end := h.ended(); end.code != code {
			t.Errorf("%s: hello ended with %v, must be %d", p.username, end, code)
		}
	}
	if status, _ := ann.rest(t, "DELETE", "/v1/sessions/current", nil); status != 204 {
		t.Errorf("sign-out: %d", status)
	}
	for _, x := range []*session{a1, a2} {
		if end := x.ended(); end.code != 4101 {
			t.Errorf("signed out: %v", end)
		}
	}
	refused(ann, 4101)
	if status, _ := ann.rest(t, "DELETE", "/v1/sessions/current", nil); status != 401 {
		t.Errorf("signed out twice: %d", status)
	}
	s.operate(t, "PATCH", "/admin/tenants/"+tn.id+"/users/ben", J{"disabled": true})
	if end := b.ended(); end.code != 4102 {
		t.Errorf("disabled: %v", end)
	}
	refused(ben, 4102)
	if _, err := s.pipit("", "tenant", "suspend", tn.id); err != nil {
		t.Error(err)
	}
	if end := c.ended(); end.code != 4202 {
		t.Errorf("suspended: %v", end)
	}
	refused(cat, 4202)
	e.ok("session.ping", J{})
	if _, err := s.pipit("", "tenant", "resume", tn.id); err != nil {
		t.Error(err)
	}
	cat.token = s.operate(t, "POST", "/admin/tenants/"+tn.id+"/users/cat/tokens", J{}).get("token").str()
	c = cat.connect(t)
	s.terminate(t)
	for _, x := range []*session{c, e} {
		end := x.ended()
		ms, found := strings.CutPrefix(end.reason, "retry_ms=")
		n, err := strconv.Atoi(ms)
		if end.code != 4002 || !found || err != nil || n < 0 {
			t.Errorf("stopping: %v", end)
		}
	}
	<-s.ended
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("pipitd ended with %d", code)
	}
}

func Test3_9_SlowConsumer(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, watcher := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	sync := watcher.hello.get("sync").str()
	conn := ben.dialTCP(t).(*net.TCPConn)
	if err := conn.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, ben.upgradeHead()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(text(request("1", "session.hello", J{"token": ben.token}))); err != nil {
		t.Fatal(err)
	}
	// It reads nothing from here on. The sockets' buffers take some megabytes, then the server's bound is reached.
	big := strings.Repeat("x", 16000)
	var last int64
	for range 30 {
		var params []any
		for range 20 {
			params = append(params, J{"conversation": c, "text": big, "key": key()})
		}
		for _, id := range a.startAll("message.send", params...) {
			last = a.reply(id).get("result", "seq").num()
		}
	}
	watcher.entry(c, last)
	// Now it reads what there is: it must end, with 4001 or with TCP alone.
	ws := &socket{conn, bufio.NewReaderSize(conn, 1<<16)}
	if status, _ := answerHead(t, ws.r); status != 101 {
		t.Fatal(status)
	}
	texts, end := ws.untilEnd(t)
	if end.code != 4001 && end.code != 1006 || int64(len(texts)) > last {
		t.Errorf("after %d messages: %v", len(texts), end)
	}
	// Nothing is lost: resume.
	b := ben.connectWith(t, J{"sync": sync})
	if h := heads(b.hello.get("conversations").list())[c]; h.get("head").num() != last {
		t.Errorf("%s, must have head %d", h, last)
	}
	if got := int64(len(b.log(c))); got != last {
		t.Errorf("%d entries of %d", got, last)
	}
}
