package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// The states that FuzzGateway meets a session in.
const (
	fuzzOpened   = iota // nothing was said yet
	fuzzGreeting        // a hello is being computed
	fuzzLive
	fuzzClosing
	fuzzStates
)

// arena is a world that many fuzz inputs share, with an honest session of
// another tenant in it, which must hear nothing but its own answers.
type arena struct {
	w      *world
	honest *talker
	runs   int
	next   int // request id of the honest session
}

func newArena(t testing.TB) *arena {
	a := &arena{w: newWorld(t, worldOptions{limits: im.Limits{FrameBytes: 65536, TextBytes: 1000, SendsPerMinute: 1_000_000}}), next: 2}
	a.honest = newTalker(a.w, "honest", 0)
	a.honest.request(1, "session.hello", `{"token":"eve"}`)
	return a
}

func (a *arena) end() {
	a.honest.conn.hangUp()
	a.w.end()
}

// heard collects what a fuzzed session is told.
type heard struct {
	frames []string
	closed string
	more   chan struct{}
}

// FuzzGateway gives a session in each of its states messages that may be
// anything, one a line. Every answer must be JSON with an id that was asked (or
// null), every request with an id must be answered just once while the session
// lives, and another session must not notice.
func FuzzGateway(f *testing.F) {
	send := func(method, params string) string { return envelope(`"a"`, method, params) }
	seeds := []string{
		send("session.hello", `{"token":"ann"}`), send("session.hello", `{"token":"nobody"}`), send("session.hello", `{}`),
		send("session.hello", `{"token":"cold-ann","epoch":"x","sync":"y"}`), send("session.ping", `{}`), send("no.such", ""),
		"[]", "{", "null", `{"jsonrpc":"2.0","id":null,"method":"session.ping"}`, envelope("", "typing", `{"conversation":"$c"}`), envelope("", "typing", "{}"), envelope("", "presence.set", `{"state":7}`),
		send("message.send", `{"conversation":"$c","key":"k1","text":"hello"}`) + "\n" + send("message.send", `{"conversation":"$c","key":"k1","text":"other"}`),
		send("message.edit", `{"conversation":"$c","target":1,"text":"x","key":"k2"}`), send("message.recall", `{"conversation":"$c","target":1,"key":"k3"}`),
		send("message.react", `{"conversation":"$c","target":1,"emoji":"👍","on":true,"key":"k4"}`), send("message.pin", `{"conversation":"$c","target":1,"on":true,"key":"k5"}`),
		send("message.history", `{"conversation":"$c","after":0,"limit":10}`), send("message.pins", `{"conversation":"$c"}`),
		send("conversation.list", `{"limit":5,"cursor":"x"}`), send("conversation.find", `{"query":"a"}`), send("conversation.direct", `{"user":"u_bob"}`),
		send("conversation.create", `{"kind":"channel","title":"t","members":["u_bob","u_cat"],"key":"k6"}`), send("conversation.get", `{"id":"$c"}`),
		send("conversation.update", `{"id":"$c","title":"new"}`), send("conversation.join", `{"id":"$c"}`), send("conversation.leave", `{"id":"$c"}`),
		send("conversation.invite", `{"id":"$c","users":["u_cat","u_gus"]}`), send("conversation.remove", `{"id":"$c","users":["u_cat"]}`),
		send("conversation.set_role", `{"id":"$c","user":"u_bob","role":"moderator"}`), send("conversation.members", `{"id":"$c"}`),
		send("user.search", `{"query":"b"}`), send("user.get", `{"users":["u_bob"]}`), send("read.mark", `{"conversation":"$c","seq":1}`),
		send("read.list", `{"conversation":"$c","seq":1}`), send("presence.watch", `{"users":["u_bob","u_bob"]}`), send("presence.set", `{"state":"away"}`),
	}
	for state := range byte(fuzzStates) {
		for _, s := range seeds {
			f.Add(state, s)
		}
	}
	var a *arena
	f.Cleanup(func() {
		if a != nil {
			a.end()
		}
	})
	f.Fuzz(func(t *testing.T, state byte, text string) {
		if a == nil || a.runs > 500 { // the model store was not written for speed
			if a != nil {
				a.end()
			}
			a = newArena(t)
		}
		a.runs++
		fuzzOne(t, a, state%fuzzStates, text)
		a.checkHonest(t)
	})
}

func fuzzOne(t *testing.T, a *arena, state byte, text string) {
	h := &heard{more: make(chan struct{}, 1)}
	c := a.w.connect("fuzzed", 1, nil, func(_ *fakeConn, s string) {
		if code, ok := strings.CutPrefix(s, "closed "); ok {
			h.closed = code
		} else {
			h.frames = append(h.frames, s)
		}
		select {
		case h.more <- struct{}{}:
		default:
		}
	})
	defer c.hangUp()
	prelude := 0
	conv := "c_none"
	if state != fuzzOpened {
		c.send(envelope("1", "session.hello", `{"token":"cold-ann"}`))
		prelude = 1
	}
	if state == fuzzLive {
		h.wait(t, c, func() bool { return len(h.frames) >= 1 })
		c.send(envelope("2", "conversation.create", fmt.Sprintf(`{"kind":"group","title":"t","members":["u_bob"],"key":"fuzz%d"}`, a.runs)))
		h.wait(t, c, func() bool { return len(h.frames) >= 3 })
		var r struct{ Result struct{ ID string } }
		if err := json.Unmarshal([]byte(h.frames[1]), &r); err != nil {
			t.Fatal(err)
		}
		conv, prelude = r.Result.ID, 2
	}
	if state == fuzzClosing {
		h.wait(t, c, func() bool { return len(h.frames) >= 1 })
		c.loop.do(func() { c.s.Close(4101, "") })
	}
	asked := map[string]int{}
	for i, line := range strings.Split(text, "\n") {
		if i == 20 {
			break
		}
		line = strings.ReplaceAll(line, "$c", conv)
		r, bad := wire.DecodeRequest([]byte(line))
		switch {
		case r.ID != nil:
			asked[string(r.ID)]++
		case bad != nil:
			asked["null"]++
		}
		c.send(line)
	}
	if state == fuzzClosing {
		c.loop.do(func() {})
		if len(h.frames) != 1 {
			t.Errorf("%d frames on a closed session", len(h.frames)-1)
		}
		return
	}
	const last = `"the last"`
	c.send(envelope(last, "session.ping", "{}"))
	asked[last]++
	total := prelude
	for _, n := range asked {
		total += n
	}
	h.wait(t, c, func() bool { return h.closed != "" || h.replies() >= total })
	h.check(t, c, asked)
	if h.closed != "" && state != fuzzOpened {
		t.Errorf("closed %s by requests", h.closed)
	}
}

// wait waits for ok, which is asked on the session's loop.
func (h *heard) wait(t *testing.T, c *fakeConn, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		done := false
		c.loop.do(func() { done = ok() })
		if done {
			return
		}
		select {
		case <-h.more:
		case <-deadline.C:
			t.Fatalf("waited in vain; heard %q", h.frames)
		}
	}
}

func (h *heard) replies() (n int) {
	for _, f := range h.frames {
		if strings.HasPrefix(f, `{"jsonrpc":"2.0","id":`) {
			n++
		}
	}
	return n
}

// check holds that all is JSON and every id was asked, as often as answered.
func (h *heard) check(t *testing.T, c *fakeConn, asked map[string]int) {
	c.loop.do(func() {
		left := map[string]int{"1": 1, "2": 1}
		for id, n := range asked {
			left[id] += n
		}
		for _, f := range h.frames {
			var m struct {
				ID     json.RawMessage
				Method string
				Result json.RawMessage
				Error  json.RawMessage
			}
			if err := json.Unmarshal([]byte(f), &m); err != nil {
				t.Errorf("not JSON: %v: %s", err, f)
				continue
			}
			if m.ID == nil {
				if m.Method == "" {
					t.Errorf("neither reply nor event: %s", f)
				}
				continue
			}
			if bytes.Equal(m.Result, []byte("null")) || (m.Result == nil) == (m.Error == nil) {
				t.Errorf("neither result nor error, or both: %s", f)
			}
			id := string(m.ID)
			if left[id]--; left[id] < 0 {
				t.Errorf("id %s was answered more often than asked", id)
			}
		}
	})
}

// checkHonest asks whether the honest session is still served.
func (a *arena) checkHonest(t *testing.T) {
	id := a.next
	a.next++
	a.honest.request(id, "session.ping", "{}")
	a.honest.until(t, "the honest session's ping", func() bool { _, ok := a.honest.replied[id]; return ok })
	a.honest.mu.Lock()
	defer a.honest.mu.Unlock()
	if len(a.honest.faults) > 0 || len(a.honest.texts) > 0 {
		t.Errorf("the honest session heard %v, with faults %q", a.honest.texts, a.honest.faults)
	}
	delete(a.honest.replied, id)
}
