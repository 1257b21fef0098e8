package client

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

func TestResume(t *testing.T) {
	bubble(t, "epoch and sync are given back; the hole is pulled after the outbox", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler(), Epoch: "e_1", Sync: "s9", Outbox: []Outgoing{msg("c_1", "old")},
			Positions: map[im.ConvID]im.Seq{"c_1": 3, "c_2": 5}})
		p := s.accept()
		if r := p.hello("e_1", "s10", head("c_1", 6)+","+head("c_2", 5)+","+head("c_3", 9), ""); r.Params.Epoch != "e_1" || r.Params.Sync != "s9" {
			t.Errorf("hello said %q %q", r.Params.Epoch, r.Params.Sync)
		}
		p.want(wire.MethodSend)
		r := p.want(wire.MethodHistory)
		if r.Params.Conversation != "c_1" || r.Params.After != 3 {
			t.Errorf("pulls %+v", r.Params)
		}
		p.event("c_1", 7) // while the pull is under way
		p.event("c_2", 6)
		p.event("c_3", 10)
		n.want(t, "ready c_2:6 c_3:10")
		p.page(r, 4, 6, 7) // a page need not reach its head
		n.want(t, "c_1:4 c_1:5 c_1:6 c_1:7")
		if e, sync := c.State(); e != "e_1" || sync != "s10" {
			t.Errorf("State() = %q %q", e, sync)
		}
		if st := c.Stats(); st != (Stats{Pulled: 3, Waiting: 1}) {
			t.Errorf("%+v", st)
		}
		p.nc.Close()
		p = s.accept()
		if r := p.hello("e_1", "s11", head("c_1", 8), ""); r.Params.Sync != "s10" {
			t.Errorf("hello said %q", r.Params.Sync)
		}
		p.want(wire.MethodSend)
		if r := p.want(wire.MethodHistory); r.Params.After != 7 {
			t.Errorf("pulls after %d", r.Params.After)
		} else {
			p.page(r, 8, 8, 8)
		}
		n.want(t, "down:500ms ready c_1:8")
	})
	bubble(t, "another epoch: reset, and the outbox stays", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler(), Epoch: "e_1", Sync: "s9", Positions: map[im.ConvID]im.Seq{"c_1": 50}})
		c.SendAsync(msg("c_1", "a"), n.done("a"))
		p := s.accept()
		p.hello("e_2", "s1", head("c_1", 10), `,"full":true`)
		p.reply(p.want(wire.MethodSend), `{"seq":11,"time":1}`)
		p.event("c_1", 11)
		n.want(t, "reset ready a=11 c_1:11")
		if e, sync := c.State(); e != "e_2" || sync != "s1" {
			t.Errorf("State() = %q %q", e, sync)
		}
	})
	bubble(t, "another epoch: the old sync is not kept when the list breaks off", func(t *testing.T) {
		s := newServer(t)
		c := s.start(Options{Epoch: "e_1", Sync: "s9"})
		p := s.accept()
		p.hello("e_2", "s1", head("c_1", 10), `,"next":"n1"`)
		p.want(wire.MethodList)
		if e, sync := c.State(); e != "e_2" || sync != "" {
			t.Errorf("State() = %q %q", e, sync)
		}
	})
	bubble(t, "further pages; what a full list does not name is left", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler(), Epoch: "e_1", Positions: map[im.ConvID]im.Seq{"c_1": 1, "c_2": 1, "c_3": 1, "c_4": 1}})
		p := s.accept()
		p.hello("e_1", "sx", head("c_1", 1), `,"next":"n1"`)
		r := p.want(wire.MethodList)
		if r.Params.Cursor != "n1" {
			t.Errorf("cursor %q", r.Params.Cursor)
		}
		p.event("c_4", 2) // spoke since the list began
		p.reply(r, `{"conversations":[`+head("c_2", 2)+`,{"id":"c_9","kind":"group","left":true}],"next":"n2","sync":"sy"}`)
		h := p.want(wire.MethodHistory)
		p.page(h, 2, 2, 2)
		if _, sync := c.State(); sync != "" {
			t.Errorf("sync %q before the last page", sync)
		}
		p.reply(p.want(wire.MethodList), `{"conversations":[],"sync":"sz","full":true}`)
		n.want(t, "ready c_4:2 left:c_9 changed:c_2 c_2:2 left:c_3")
		if _, sync := c.State(); sync != "sz" {
			t.Errorf("sync %q", sync)
		}
	})
	bubble(t, "FromStart", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		s.start(Options{Handler: n.handler(), FromStart: true, Positions: map[im.ConvID]im.Seq{"c_2": 4}})
		p := s.accept()
		p.hello("e_1", "s1", head("c_1", 3)+","+head("c_2", 4)+","+head("c_3", 0), "")
		r := p.want(wire.MethodHistory)
		if r.Params.Conversation != "c_1" || r.Params.After != 0 {
			t.Errorf("pulls %+v", r.Params)
		}
		p.page(r, 1, 2, 3) // fewer than asked for
		if r = p.want(wire.MethodHistory); r.Params.After != 2 {
			t.Errorf("pulls %+v", r.Params)
		}
		p.page(r, 3, 3, 3)
		n.want(t, "ready c_1:1 c_1:2 c_1:3")
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":%s}`, head("c_4", 2))
		p.page(p.want(wire.MethodHistory), 1, 2, 2)
		n.want(t, "changed:c_4 c_4:1 c_4:2")
	})
}

func TestEvents(t *testing.T) {
	start := func(t *testing.T) (*Client, *peer, *notes) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", head("c_1", 3), "")
		n.want(t, "ready")
		return c, p, n
	}
	bubble(t, "a hole is pulled, what is above waits, doubles are dropped", func(t *testing.T) {
		c, p, n := start(t)
		p.event("c_1", 4)
		p.event("c_1", 4)
		p.event("c_1", 2)
		p.event("c_1", 7)
		r := p.want(wire.MethodHistory)
		p.event("c_1", 8)
		n.want(t, "c_1:4")
		if r.Params.After != 4 {
			t.Errorf("pulls after %d", r.Params.After)
		}
		p.page(r, 5, 8, 8)
		p.event("c_1", 9)
		n.want(t, "c_1:5 c_1:6 c_1:7 c_1:8 c_1:9")
		if st := c.Stats(); st != (Stats{Doubled: 2, Pulled: 4}) {
			t.Errorf("%+v", st)
		}
	})
	bubble(t, "joined later: nothing of the announcing commit is skipped", func(t *testing.T) {
		_, p, n := start(t)
		// The head counts the entry of the invitation in; its event follows.
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":%s}`, head("c_5", 12))
		p.event("c_5", 11)
		p.event("c_5", 12)
		p.event("c_5", 13)
		n.want(t, "changed:c_5 c_5:11 c_5:12 c_5:13")
		// Only the entry above the head comes.
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":%s}`, head("c_6", 12))
		p.event("c_6", 13)
		n.want(t, "changed:c_6 c_6:13")
		// The first event was lost: a hole like any other.
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":%s}`, head("c_7", 12))
		p.event("c_7", 14)
		p.page(p.want(wire.MethodHistory), 13, 14, 14)
		n.want(t, "changed:c_7 c_7:13 c_7:14")
	})
	bubble(t, "left, and joined again", func(t *testing.T) {
		_, p, n := start(t)
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":{"id":"c_1","kind":"group","left":true}}`)
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":%s}`, head("c_1", 40))
		p.event("c_1", 40)
		n.want(t, "left:c_1 changed:c_1 c_1:40")
	})
	bubble(t, "a change of what is known pulls nothing: its entry may be right behind", func(t *testing.T) {
		_, p, n := start(t)
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":%s}`, head("c_1", 4))
		p.quiet()
		p.event("c_1", 4)
		n.want(t, "changed:c_1 c_1:4")
	})
	bubble(t, "the others", func(t *testing.T) {
		_, p, n := start(t)
		p.send(`{"jsonrpc":"2.0","method":"read","params":{"conversation":"c_1","user":"u_2","seq":3}}`)
		p.send(`{"jsonrpc":"2.0","method":"typing","params":{"conversation":"c_1","user":"u_2"}}`)
		p.send(`{"jsonrpc":"2.0","method":"presence","params":{"users":[["u_2","away",5]]}}`)
		p.send(`{"jsonrpc":"2.0","method":"of.a.later.version","params":{"x":[1]}}`)
		p.send(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}`)
		p.send(`{"jsonrpc":"2.0","id":99,"result":{}}`) // nobody asked
		n.want(t, "read:c_1:u_2:3 typing:c_1:u_2 presence:1")
	})
	bubble(t, "without handlers", func(t *testing.T) {
		s := newServer(t)
		c := s.start(Options{})
		p := s.accept()
		p.hello("e_1", "s1", head("c_1", 3), "")
		p.send(`{"jsonrpc":"2.0","method":"read","params":{"conversation":"c_1","user":"u_2","seq":3}}`)
		p.send(`{"jsonrpc":"2.0","method":"typing","params":{"conversation":"c_1","user":"u_2"}}`)
		p.send(`{"jsonrpc":"2.0","method":"presence","params":{"users":[["u_2","away",5]]}}`)
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":%s}`, head("c_2", 1))
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":{"id":"c_1","kind":"group","left":true}}`)
		p.event("c_2", 1)
		c.SendAsync(msg("c_2", "a"), nil)
		p.want(wire.MethodSend)
	})
}

func TestPullRefused(t *testing.T) {
	start := func(t *testing.T, log *slog.Logger) (*Client, *server, *peer, *notes) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler(), Positions: map[im.ConvID]im.Seq{"c_1": 1}, Log: log})
		p := s.accept()
		p.hello("e_1", "s1", head("c_1", 3), "")
		n.want(t, "ready")
		return c, s, p, n
	}
	bubble(t, "for now: asked again", func(t *testing.T) {
		_, _, p, n := start(t, nil)
		p.fail(p.want(wire.MethodHistory), -32008, `{"kind":"rate_limited","retry_after_ms":3000}`)
		p.event("c_1", 4)
		p.fail(p.want(wire.MethodHistory), -32009, `{"kind":"unavailable"}`)
		p.fail(p.want(wire.MethodHistory), -32010, `{"kind":"internal"}`) // not the first try any more: given up
		n.want(t, "c_1:4")
	})
	bubble(t, "a fault of the server once, then the hole is skipped and told", func(t *testing.T) {
		var text bytes.Buffer
		c, _, p, n := start(t, slog.New(slog.NewTextHandler(&text, nil)))
		p.event("c_1", 5)
		p.fail(p.want(wire.MethodHistory), -32010, `{"kind":"internal"}`)
		p.fail(p.want(wire.MethodHistory), -32010, `{"kind":"internal"}`)
		p.event("c_1", 6)
		n.want(t, "c_1:5 c_1:6")
		if st := c.Stats(); st != (Stats{Missed: 3}) {
			t.Errorf("%+v", st)
		}
		if !strings.Contains(text.String(), "can't be fetched") {
			t.Errorf("log: %s", text.String())
		}
	})
	bubble(t, "a page with a gap, and one that brings nothing", func(t *testing.T) {
		c, _, p, n := start(t, nil)
		r := p.want(wire.MethodHistory)
		p.reply(r, fmt.Sprintf(`{"entries":[%s],"head":9}`, entry("c_1", 3)))
		p.event("c_1", 9)
		p.reply(p.want(wire.MethodHistory), fmt.Sprintf(`{"entries":[%s],"head":9}`, entry("c_1", 3)))
		n.want(t, "c_1:3 c_1:9")
		if st := c.Stats(); st != (Stats{Pulled: 1, Missed: 6}) {
			t.Errorf("%+v", st)
		}
	})
	bubble(t, "left meanwhile", func(t *testing.T) {
		_, _, p, n := start(t, nil)
		r := p.want(wire.MethodHistory)
		p.send(`{"jsonrpc":"2.0","method":"conversation.changed","params":{"id":"c_1","kind":"group","left":true}}`)
		p.page(r, 2, 3, 3)
		n.want(t, "left:c_1")
	})
	bubble(t, "lost meanwhile, also while it waits to ask again", func(t *testing.T) {
		_, s, p, n := start(t, nil)
		p.fail(p.want(wire.MethodHistory), -32008, `{"kind":"rate_limited","retry_after_ms":3000}`)
		p.nc.Close()
		p = s.accept()
		p.hello("e_1", "s2", head("c_1", 3), "")
		p.page(p.want(wire.MethodHistory), 2, 3, 3)
		n.want(t, "down:500ms ready c_1:2 c_1:3")
		if f := p.frame(); f.Header.OpCode != ws.OpPing { // the old wait asks nothing here
			t.Errorf("%q", f.Payload)
		}
	})
	bubble(t, "more events above a hole than are kept", func(t *testing.T) {
		c, _, p, n := start(t, nil)
		r := p.want(wire.MethodHistory)
		last := 3 + maxAhead + 50
		for seq := 4; seq <= last; seq++ {
			p.event("c_1", seq)
		}
		p.page(r, 2, 3, last)
		p.page(p.want(wire.MethodHistory), last-49, last, last)
		got := strings.Fields(n.take())
		if len(got) != last-1 || got[0] != "c_1:2" || got[len(got)-1] != fmt.Sprint("c_1:", last) {
			t.Errorf("%d entries, %v … %v", len(got), got[0], got[len(got)-1])
		}
		if st := c.Stats(); st.Pulled != 52 || st.Missed != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestGarbage(t *testing.T) {
	for name, frame := range map[string][]byte{
		"not JSON":                ws.MustCompileFrame(ws.NewTextFrame([]byte("hello there"))),
		"neither reply nor event": ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"jsonrpc":"2.0"}`))),
		"an entry of nothing":     ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"jsonrpc":"2.0","method":"entry","params":{}}`))),
		"a HEAD of nothing":       ws.MustCompileFrame(ws.NewTextFrame([]byte(`{"jsonrpc":"2.0","method":"conversation.changed","params":[]}`))),
		"binary":                  ws.MustCompileFrame(ws.NewBinaryFrame([]byte{1})),
		"masked":                  ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("{}")))),
		"reserved bit":            {0xc1, 0},
		"bad opcode":              append([]byte{0x83, 42}, `{"jsonrpc":"2.0","method":"x","params":{}}`...),
		"continuation of nothing": {0x80, 0},
		"two beginnings":          {0x01, 0, 0x81, 0},
		"long ping":               {0x89, 126, 0, 126},
		"ping in parts":           {0x09, 0},
		"close of one byte":       {0x88, 1, 3},
		"close with 1006":         {0x88, 2, 3, 0xee},
		"close, reason not UTF-8": {0x88, 3, 3, 0xe8, 0xff},
		"longer than we take":     {0x81, 127, 0, 0, 0, 0, 0x10, 0, 0, 0},
		"length with its top bit": {0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0},
	} {
		bubble(t, name, func(t *testing.T) {
			s, n := newServer(t), new(notes)
			c := s.start(Options{Handler: n.handler()})
			p := s.accept()
			p.hello("e_1", "s1", "", "")
			go p.nc.Write(frame) // the client need not read all of it
			if code := p.wantClose(); code != 1002 {
				t.Errorf("closed with %d", code)
			}
			p.nc.Close()
			<-c.Done()
			n.want(t, "ready down:-1ns")
			if text := c.Err().Error(); !strings.Contains(text, "1002") {
				t.Errorf("%s", text)
			}
		})
	}
	bubble(t, "to hello", func(t *testing.T) {
		for _, answer := range []string{`{"jsonrpc":"2.0","id":77,"result":{}}`, `[]`, `{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","method":"entry","params":{}}`} {
			s := newServer(t)
			c := s.start(Options{})
			p := s.accept()
			p.want(wire.MethodHello)
			p.send("%s", answer)
			if code := p.wantClose(); code != 1002 {
				t.Errorf("%s: closed with %d", answer, code)
			}
			p.nc.Close()
			<-c.Done()
		}
	})
	bubble(t, "parts, with a ping between, are one message", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		text := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"entry","params":%s}`, entry("c_1", 1))
		p.write(ws.NewFrame(ws.OpText, false, text[:20]))
		p.write(ws.NewPingFrame([]byte("x")))
		if f := p.frame(); f.Header.OpCode != ws.OpPong {
			t.Errorf("opcode %x", f.Header.OpCode)
		}
		p.write(ws.NewFrame(ws.OpContinuation, true, text[20:]))
		n.want(t, "ready c_1:1")
	})
	bubble(t, "no Pipit server", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		s.start(Options{Handler: n.handler()})
		nc := <-s.conns
		go func() { _, _ = ws.Upgrade(nc) }() // agrees to no subprotocol
		n.want(t, "down:500ms")
		nc.Close()
	})
}

func TestAnnouncedIsNotAllocated(t *testing.T) {
	k := &conn{br: bufio.NewReader(strings.NewReader(strings.Repeat("x", 100_000)))}
	if err := k.payload(30 << 20); err == nil || cap(k.buf) > 1<<20 {
		t.Errorf("%v, %d bytes for 100,000", err, cap(k.buf))
	}
}
