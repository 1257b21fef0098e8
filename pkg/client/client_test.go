package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// bubble runs a test with the clock of its own.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func msg(conv, key string) Outgoing {
	return Outgoing{Conversation: im.ConvID(conv), Key: key, Text: "t-" + key}
}

func TestOutbox(t *testing.T) {
	bubble(t, "kept over losses, in order, with the same keys", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler(), Outbox: []Outgoing{msg("c_1", "old"), msg("c_1", "old")}})
		c.SendAsync(msg("c_1", "a"), n.done("a"))
		c.SendAsync(msg("c_1", "b"), n.done("b"))
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		for _, key := range []string{"old", "a", "b"} {
			if r := p.want(wire.MethodSend); r.Params.Key != key || r.Params.Text != "t-"+key {
				t.Fatalf("sent %+v, want %s", r.Params, key)
			} else if key == "old" {
				p.reply(r, `{"seq":7,"time":1790000600000}`)
			}
		}
		n.want(t, "ready")
		p.nc.Close() // without a word
		c.SendAsync(msg("c_1", "c"), n.done("c"))
		p = s.accept()
		p.hello("e_1", "s2", "", "")
		for _, x := range []struct{ key, result string }{{"a", `{"seq":8,"time":1,"repeat":true}`}, {"b", `{"seq":9,"time":1}`}, {"c", `{"seq":10,"time":1}`}} {
			r := p.want(wire.MethodSend)
			if r.Params.Key != x.key || r.Params.Text != "t-"+x.key {
				t.Fatalf("resent %+v, want %s", r.Params, x.key)
			}
			p.reply(r, x.result)
		}
		n.want(t, "down:500ms ready a=8r b=9 c=10")
		if left := c.Outbox(); len(left) != 0 {
			t.Errorf("outbox %v", left)
		}
	})
	bubble(t, "refused for good", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		for i, x := range []struct {
			code int
			data string
		}{{-32003, `{"kind":"forbidden"}`}, {-32007, `{"kind":"too_large","limit":5}`}, {-32602, `{"field":"text"}`}, {-32006, `{"kind":"conflict"}`}} {
			name := fmt.Sprint("m", i)
			c.SendAsync(msg("c_1", name), n.done(name))
			p.fail(p.want(wire.MethodSend), x.code, x.data)
		}
		n.want(t, "ready m0:forbidden m1:too_large m2:invalid m3:conflict")
		if len(c.Outbox()) != 0 || c.Stats().Waiting != 0 {
			t.Errorf("outbox %v", c.Outbox())
		}
	})
	bubble(t, "tried again later, one at a time until it goes", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		for _, k := range []string{"a", "b", "c"} {
			c.SendAsync(msg("c_1", k), n.done(k))
		}
		ra, rb, rc := p.read(), p.read(), p.read()
		p.reply(rc, `{"seq":1,"time":1}`)
		began := time.Now()
		p.fail(ra, -32008, `{"kind":"rate_limited","retry_after_ms":1500}`)
		p.fail(rb, -32009, `{"kind":"unavailable"}`)
		c.SendAsync(msg("c_1", "d"), n.done("d")) // waits behind them
		r := p.want(wire.MethodSend)
		if wait := time.Since(began); r.Params.Key != "a" || wait != 1500*time.Millisecond {
			t.Fatalf("%s after %v", r.Params.Key, wait)
		}
		p.quiet() // until that one went through
		p.reply(r, `{"seq":2,"time":1}`)
		for _, k := range []string{"b", "d"} {
			if r = p.want(wire.MethodSend); r.Params.Key != k {
				t.Fatalf("%s, want %s", r.Params.Key, k)
			}
			p.reply(r, `{"seq":3,"time":1}`)
		}
		n.want(t, "ready c=1 a=2 b=3 d=3")
	})
	bubble(t, "a fault of the server is tried once more", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		c.SendAsync(msg("c_1", "a"), n.done("a"))
		p.fail(p.want(wire.MethodSend), -32010, `{"kind":"internal","ref":"r"}`)
		p.fail(p.want(wire.MethodSend), -32010, `{"kind":"internal","ref":"r"}`)
		n.want(t, "ready a:internal")
	})
	bubble(t, "bounds", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		for i := range MaxOutbox {
			c.SendAsync(msg("c_1", fmt.Sprint(i)), nil)
		}
		c.SendAsync(msg("c_1", "5"), n.done("same key"))
		c.SendAsync(msg("c_1", "one more"), n.done("one more"))
		if w := c.Stats().Waiting; w != MaxOutbox {
			t.Errorf("%d wait", w)
		}
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		for i := range sendWindow {
			if r := p.want(wire.MethodSend); r.Params.Key != fmt.Sprint(i) {
				t.Fatalf("%s, want %d", r.Params.Key, i)
			}
		}
		n.want(t, "same key:conflict one more:unavailable ready")
		p.quiet()
		p.nc.Close()
		p = s.accept()
		p.hello("e_1", "s1", "", "")
		for i := range sendWindow {
			if r := p.want(wire.MethodSend); r.Params.Key != fmt.Sprint(i) {
				t.Fatalf("%s, want %d", r.Params.Key, i)
			}
		}
	})
	bubble(t, "many goroutines: frames leave in the order of the outbox", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		n.want(t, "ready")
		var wg sync.WaitGroup
		const each = 25
		for g := range 8 {
			wg.Go(func() {
				for i := range each {
					c.SendAsync(msg("c_1", fmt.Sprint(g, "-", i)), nil)
				}
			})
		}
		wg.Wait()
		want := c.Outbox()
		for i := range want {
			if r := p.want(wire.MethodSend); r.Params.Key != want[i].Key {
				t.Fatalf("frame %d is %s, the outbox has %s there", i, r.Params.Key, want[i].Key)
			}
		}
	})
	bubble(t, "after the end", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		c.SendAsync(msg("c_1", "a"), n.done("a"))
		p.want(wire.MethodSend)
		go p.wantClose()
		c.Close()
		n.want(t, "ready down:-1ns a:internal")
		if left := c.Outbox(); len(left) != 1 || left[0].Key != "a" {
			t.Errorf("outbox %v", left)
		}
		if !errors.Is(c.Err(), ErrClosed) {
			t.Errorf("Err() = %v", c.Err())
		}
		if _, err := c.Send(t.Context(), msg("c_1", "b")); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
		if err := c.Call(t.Context(), wire.MethodPing, nil, nil); !im.Is(err, im.Unavailable) {
			t.Errorf("Call after Close: %v", err)
		}
		if err := c.Wait(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Wait after Close: %v", err)
		}
	})
}

func TestSendAndCall(t *testing.T) {
	bubble(t, "a message outlives the context of Send", func(t *testing.T) {
		s := newServer(t)
		c := s.start(Options{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Send(ctx, msg("c_1", "")); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		if r := p.want(wire.MethodSend); len(r.Params.Key) < 20 {
			t.Errorf("key %q", r.Params.Key)
		}
	})
	bubble(t, "calls end with the connection", func(t *testing.T) {
		s := newServer(t)
		c := s.start(Options{})
		if err := c.Call(t.Context(), wire.MethodPing, nil, nil); !im.Is(err, im.Unavailable) {
			t.Errorf("before the connection: %v", err)
		}
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		answer := make(chan error)
		go func() { answer <- c.Call(t.Context(), wire.MethodPing, nil, nil) }()
		p.want(wire.MethodPing)
		p.nc.Close()
		if err := <-answer; !im.Is(err, im.Unavailable) {
			t.Errorf("lost: %v", err)
		}
	})
	bubble(t, "a call's context, answer and error", func(t *testing.T) {
		s := newServer(t)
		c := s.start(Options{})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		answer := make(chan error)
		go func() {
			answer <- c.Call(ctx, wire.MethodPing, nil, func([]byte) error { t.Error("decoded after the end"); return nil })
		}()
		late := p.want(wire.MethodPing)
		if err := <-answer; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		p.reply(late, `{"time":5}`)
		var got im.Millis
		go func() {
			answer <- c.Call(t.Context(), wire.MethodPing, nil, func(b []byte) (err error) { got, err = wire.DecodeTime(b); return err })
		}()
		p.reply(p.want(wire.MethodPing), `{"time":17}`)
		if err := <-answer; err != nil || got != 17 {
			t.Errorf("%v %v", got, err)
		}
		go func() { answer <- c.Call(t.Context(), wire.MethodPing, nil, nil) }()
		p.fail(p.want(wire.MethodPing), -32008, `{"kind":"rate_limited","retry_after_ms":250}`)
		var e *im.Error
		if err := <-answer; !errors.As(err, &e) || e.Kind != im.RateLimited || e.RetryAfter != 250*time.Millisecond {
			t.Errorf("%v", err)
		}
	})
	bubble(t, "who calls without waiting is cut off, not buffered for ever", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		n.want(t, "ready")
		big := strings.Repeat("x", 60_000)
		for range 2*maxPendingBytes/60_000 + 3 { // one half may be in the writer's hands
			c.Notify(wire.MethodTyping, raw(big))
		}
		n.want(t, "down:500ms")
	})
}

// raw are params of that many bytes.
type raw string

func (r raw) AppendParams(dst []byte) []byte {
	return append(append(append(dst, `{"conversation":"`...), r...), `"}`...)
}

func TestCloseCodes(t *testing.T) {
	for _, x := range []struct {
		code   uint16
		reason string
		want   string // of Down; a second loss in a row is "then"
	}{
		{1001, "", "500ms"}, {1011, "", "500ms"}, {1012, "", "500ms"}, {4001, "slow", "500ms"},
		{4002, "retry_ms=2000", "2s"}, {4002, "retry_ms=0", "0s"}, {1013, "retry_ms=30000", "30s"}, {4042, "retry_ms=x", "500ms"},
		{4101, "", "-1ns"}, {4102, "", "-1ns"}, {1002, "", "-1ns"}, {1003, "", "-1ns"}, {1007, "", "-1ns"}, {1009, "", "-1ns"},
		{4201, "", "-1ns"}, {4202, "", "-1ns"},
	} {
		bubble(t, fmt.Sprint(x.code, x.reason), func(t *testing.T) {
			s, n := newServer(t), new(notes)
			c := s.start(Options{Handler: n.handler()})
			p := s.accept()
			p.hello("e_1", "s1", "", "")
			at := time.Now()
			p.close(x.code, x.reason)
			n.want(t, "ready down:"+x.want)
			if x.want == "-1ns" {
				<-c.Done()
				var closed *CloseError
				if !errors.As(c.Err(), &closed) || closed.Code != x.code || closed.Reason != x.reason {
					t.Errorf("Err() = %v", c.Err())
				}
				return
			}
			s.accept().hello("e_1", "s1", "", "")
			if wait := time.Since(at).String(); wait != x.want {
				t.Errorf("came back after %v, want %s", wait, x.want)
			}
		})
	}
	bubble(t, "no code in the frame", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		p.write(ws.NewCloseFrame(nil))
		if f := p.frame(); f.Header.OpCode != ws.OpClose || len(f.Payload) != 0 {
			t.Errorf("answered %x %x", f.Header.OpCode, f.Payload)
		}
		p.nc.Close()
		n.want(t, "ready down:500ms")
	})
	bubble(t, "backoff grows to 30 s and is forgotten after a hello", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		s.refuse.Store(true)
		s.start(Options{Handler: n.handler()})
		time.Sleep(110 * time.Second) // of the bubble: no real second passes
		n.want(t, "down:500ms down:1s down:2s down:4s down:8s down:16s down:30s down:30s down:30s")
		s.refuse.Store(false)
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		p.nc.Close()
		n.want(t, "ready down:500ms")
	})
	bubble(t, "full jitter", func(t *testing.T) {
		seen := map[bool]bool{}
		d := New(Options{URL: "no address"}) // ends by itself; has the default jitter
		<-d.Done()
		for range 200 {
			w := d.o.Jitter(time.Second)
			if w < 0 || w > time.Second {
				t.Fatalf("jitter %v", w)
			}
			seen[w < time.Second/2] = true
		}
		if len(seen) != 2 {
			t.Error("200 draws fell into one half")
		}
		if w := d.o.Jitter(0); w != 0 {
			t.Errorf("jitter of nothing: %v", w)
		}
	})
	bubble(t, "Once ends at the first loss", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler(), Once: true})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		p.close(4002, "retry_ms=5")
		<-c.Done()
		n.want(t, "ready down:-1ns")
	})
}

func TestHello(t *testing.T) {
	bubble(t, "refused: the close code behind it decides", func(t *testing.T) {
		for _, x := range []struct {
			code       int
			data       string
			close      uint16
			want, kind string
		}{
			{-32002, `{"kind":"unauthenticated"}`, 4101, "down:-1ns", "unauthenticated"},
			{-32003, `{"kind":"forbidden"}`, 4202, "down:-1ns", "forbidden"},
			{-32009, `{"kind":"unavailable"}`, 4002, "down:500ms", ""},
			{-32008, `{"kind":"rate_limited","retry_after_ms":9000}`, 1013, "down:9s", ""},
		} {
			s, n := newServer(t), new(notes)
			c := s.start(Options{Handler: n.handler()})
			p := s.accept()
			p.fail(p.want(wire.MethodHello), x.code, x.data)
			p.close(x.close, "")
			n.want(t, x.want)
			if x.kind != "" {
				<-c.Done()
				var closed *CloseError
				if !errors.As(c.Err(), &closed) || closed.Code != x.close || im.KindOf(c.Err()).String() != x.kind {
					t.Errorf("Err() = %v", c.Err())
				}
			}
		}
	})
	bubble(t, "refused without a close frame", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.fail(p.want(wire.MethodHello), -32002, `{"kind":"unauthenticated"}`)
		p.nc.Close()
		<-c.Done()
		n.want(t, "down:-1ns")
	})
	bubble(t, "no answer within dialTimeout", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		s.start(Options{Handler: n.handler()})
		began := time.Now()
		p := s.accept()
		p.want(wire.MethodHello)
		if _, err := p.nc.Read(make([]byte, 1)); err == nil {
			t.Error("the client went on")
		}
		if took := time.Since(began); took != dialTimeout {
			t.Errorf("gave up after %v", took)
		}
		n.want(t, "down:500ms")
	})
	bubble(t, "no upgrade within dialTimeout", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		s.start(Options{Handler: n.handler()})
		nc := <-s.conns
		defer nc.Close()
		began := time.Now()
		for {
			if _, err := nc.Read(make([]byte, 512)); err != nil {
				break
			}
		}
		if took := time.Since(began); took != dialTimeout {
			t.Errorf("gave up after %v", took)
		}
		n.want(t, "down:500ms")
	})
	bubble(t, "addresses", func(t *testing.T) {
		for _, x := range []struct{ in, want string }{
			{"http://h:1", "ws://h:1/v1/ws"}, {"https://h", "wss://h/v1/ws"}, {"HTTP://h/", "ws://h/v1/ws"},
			{"ws://h/pipit/?x=1#y", "ws://h/pipit/v1/ws"}, {"wss://[::1]:5", "wss://[::1]:5/v1/ws"},
			{"h:1", ""}, {"ftp://h", ""}, {"", ""}, {"http://", ""}, {"http://h\n", ""},
		} {
			got, err := socketURL(x.in)
			if got != x.want || (err != nil) != (x.want == "") || err != nil && !im.Is(err, im.Invalid) {
				t.Errorf("%q: %q, %v", x.in, got, err)
			}
		}
		c := New(Options{URL: "pipit.local"})
		<-c.Done()
		if !im.Is(c.Err(), im.Invalid) {
			t.Errorf("Err() = %v", c.Err())
		}
	})
}

func TestSilence(t *testing.T) {
	bubble(t, "a ping, and then the end", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		began := time.Now()
		if f := p.frame(); f.Header.OpCode != ws.OpPing || time.Since(began) != 45*time.Second {
			t.Fatalf("opcode %x after %v", f.Header.OpCode, time.Since(began))
		}
		p.write(ws.NewPongFrame(nil)) // it lives
		p.event("c_1", 1)
		if f := p.frame(); f.Header.OpCode != ws.OpPing || time.Since(began) != 90*time.Second {
			t.Fatalf("opcode %x after %v", f.Header.OpCode, time.Since(began))
		}
		if _, err := p.nc.Read(make([]byte, 1)); err == nil {
			t.Error("the client went on")
		}
		if took := time.Since(began); took != 135*time.Second {
			t.Errorf("dead after %v", took)
		}
		n.want(t, "ready c_1:1 down:500ms")
	})
	bubble(t, "a server that takes nothing", func(t *testing.T) {
		s, n := newServer(t), new(notes)
		c := s.start(Options{Handler: n.handler()})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		c.SendAsync(msg("c_1", "a"), n.done("a"))
		began := time.Now()
		for range 10 { // it goes on talking, so the reader is content
			time.Sleep(20 * time.Second)
			if err := ws.WriteFrame(p.nc, ws.NewTextFrame([]byte(`{"jsonrpc":"2.0","method":"x","params":{}}`))); err != nil {
				break
			}
		}
		if took := time.Since(began); took > 60*time.Second {
			t.Errorf("noticed after %v", took)
		}
		n.want(t, "ready down:500ms")
		p = s.accept()
		p.hello("e_1", "s1", "", "")
		p.reply(p.want(wire.MethodSend), `{"seq":1,"time":1}`)
		n.want(t, "ready a=1")
	})
	bubble(t, "pings are answered in kind", func(t *testing.T) {
		s := newServer(t)
		s.start(Options{})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		p.write(ws.NewPingFrame([]byte("abc")))
		if f := p.frame(); f.Header.OpCode != ws.OpPong || string(f.Payload) != "abc" {
			t.Errorf("opcode %x %q", f.Header.OpCode, f.Payload)
		}
	})
	bubble(t, "Close within a second of a dead server", func(t *testing.T) {
		s := newServer(t)
		c := s.start(Options{})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		if err := c.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.SendAsync(msg("c_1", "a"), nil) // its write hangs
		synctest.Wait()
		began := time.Now()
		c.Close()
		if took := time.Since(began); took > closeTimeout {
			t.Errorf("Close took %v", took)
		}
	})
	bubble(t, "Close says goodbye and takes the server's", func(t *testing.T) {
		s := newServer(t)
		c := s.start(Options{})
		p := s.accept()
		p.hello("e_1", "s1", "", "")
		if err := c.Wait(t.Context()); err != nil { // before that there is nobody to say goodbye to
			t.Fatal(err)
		}
		began := time.Now()
		go c.Close()
		if code := p.wantClose(); code != 1000 {
			t.Errorf("close code %d", code)
		}
		p.write(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, "")))
		<-c.Done()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
	bubble(t, "Close before, and between connections", func(t *testing.T) {
		s := newServer(t)
		c := s.start(Options{})
		c.Close() // dialling
		s.refuse.Store(true)
		c = s.start(Options{})
		time.Sleep(5 * time.Second)
		began := time.Now()
		c.Close() // waiting
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}
