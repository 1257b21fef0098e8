package netloop

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

func TestEcho(t *testing.T) {
	s := startServer(t, Config{Upgrade: func(r *Request) error {
		if r.Host != "box.local" || r.Path != "/v1/ws" || r.RawQuery != "a=b" || r.TLS || !r.Remote.IsValid() {
			t.Errorf("request %+v", r)
		}
		r.Data = "mine"
		return nil
	}})
	c := s.open()
	conn := s.rec.waitOpen(t)
	for _, n := range []int{0, 1, 125, 126, 5000, 65536} {
		c.send(string(text(bigText(n))))
		c.expectText(bigText(n))
	}
	c.send(string(join(ping("p"), clientFrame(fText, "a"), ping(""), clientFrame(fCont|fFin, "b"), text("c"))))
	if f := c.frame(); f.Header.OpCode != ws.OpPong || string(f.Payload) != "p" {
		t.Errorf("got %v %q", f.Header.OpCode, f.Payload)
	}
	if f := c.frame(); f.Header.OpCode != ws.OpPong || len(f.Payload) != 0 {
		t.Errorf("got %v %q", f.Header.OpCode, f.Payload)
	}
	c.expectText("ab")
	c.expectText("c")
	onLoop(t, conn.Loop(), func() {
		if conn.SetData("ours"); conn.Data() != "ours" {
			t.Errorf("data %v", conn.Data())
		}
		conn.SetData("mine")
		if conn.Data() != "mine" || conn.Closed() || conn.Remote().String() != c.LocalAddr().String() {
			t.Errorf("data %v, closed %v, remote %v", conn.Data(), conn.Closed(), conn.Remote())
		}
	})
	c.send(string(clientFrame(0x88, "\x0f\xa0bye")))
	c.expectCloseEcho(4000)
	if e := s.rec.waitClosed(t); e.c != conn || e.code != 4000 || e.cause != "closed by peer: bye" {
		t.Errorf("closed with %d %q", e.code, e.cause)
	}
	st := s.Stats()
	if st.Upgraded != 1 || st.Sessions != 0 || st.FramesIn != 11 || st.Writes == 0 || st.BytesOut == 0 {
		t.Errorf("stats %+v", st)
	}
}

// expectCloseEcho is for a close that the client began: the server closes first.
func (c *client) expectCloseEcho(code uint16) {
	c.t.Helper()
	f := c.frame()
	if f.Header.OpCode != ws.OpClose || string(f.Payload) != string([]byte{byte(code >> 8), byte(code)}) {
		c.t.Fatalf("got %v %q", f.Header.OpCode, f.Payload)
	}
	c.expectEOF()
}

// TestOneByteAtATime: the whole life of a connection in segments of one byte, the
// frames behind the upgrade included.
func TestOneByteAtATime(t *testing.T) {
	s := startServer(t, Config{})
	c := s.dial()
	c.trickle([]byte(upgradeHead))
	c.upgraded()
	c.trickle(join(text("hello"), clientFrame(fText, bigText(300)), ping("x"), clientFrame(fCont|fFin, "é")))
	c.expectText("hello")
	if f := c.frame(); f.Header.OpCode != ws.OpPong {
		t.Errorf("got %v", f.Header.OpCode)
	}
	c.expectText(bigText(300) + "é")
	c.trickle(clientFrame(0x88, ""))
	if f := c.frame(); f.Header.OpCode != ws.OpClose || len(f.Payload) != 0 {
		t.Errorf("got %v %q", f.Header.OpCode, f.Payload)
	}
	if e := s.rec.waitClosed(t); e.code != closeNoStatus {
		t.Errorf("closed with %d", e.code)
	}
}

// TestFramesBehindUpgrade: what shares a segment with the request is not lost.
func TestFramesBehindUpgrade(t *testing.T) {
	s := startServer(t, Config{})
	c := s.dial()
	c.send(upgradeHead + string(text("one")) + string(text("two"))[:5])
	c.upgraded()
	c.expectText("one")
	c.send(string(text("two"))[5:])
	c.expectText("two")
}

// TestRulesOnTheSocket: each broken rule of the table ends with its close code, and
// the neighbours don't notice.
func TestRulesOnTheSocket(t *testing.T) {
	s := startServer(t, Config{MaxMessageBytes: func() int { return testMax }})
	neighbour := s.open()
	for _, fc := range frameCases {
		parts := strings.Split(fc.want, " ")
		last, fails := strings.CutPrefix(parts[len(parts)-1], "!")
		if !fails {
			continue
		}
		number, err := strconv.Atoi(last)
		if err != nil {
			t.Fatal(err)
		}
		code := uint16(number)
		c := s.open()
		c.send(string(fc.in))
		for range parts[1:] {
			c.frame()
		}
		c.expectClose(code, "*")
		if e := s.rec.waitClosed(t); e.code != code {
			t.Errorf("%s: Closed with %d", fc.name, e.code)
		}
		neighbour.send(string(text("still here")))
		neighbour.expectText("still here")
	}
	st := s.Stats()
	if st.Protocol1002 == 0 || st.Protocol1003 == 0 || st.Protocol1007 == 0 || st.Protocol1009 == 0 {
		t.Errorf("protocol errors are not counted: %+v", st)
	}
}

// TestBadCloseFrames: a close frame that breaks a rule is answered with that rule's
// code; a good one with its own.
func TestBadCloseFrames(t *testing.T) {
	s := startServer(t, Config{})
	for _, c := range []struct {
		payload string
		code    uint16
	}{
		{"\x03", 1002}, {"\x03\xed", 1002}, {"\xff\xff", 1002}, {"\x03\xe8\xff", 1007}, {"\x0b\xb8fine", 3000},
	} {
		conn := s.open()
		conn.send(string(clientFrame(0x88, c.payload)) + string(text("after the close")))
		conn.expectClose(c.code, "*")
		if e := s.rec.waitClosed(t); e.code != c.code {
			t.Errorf("%q: Closed with %d", c.payload, e.code)
		}
	}
	if st := s.Stats(); st.Protocol1002 != 3 || st.Protocol1007 != 1 || st.FramesIn != 5 {
		t.Errorf("counted %d, %d, %d", st.Protocol1002, st.Protocol1007, st.FramesIn)
	}
}

func TestCloseFromServer(t *testing.T) {
	s := startServer(t, Config{})
	c := s.open()
	conn := s.rec.waitOpen(t)
	onLoop(t, conn.Loop(), func() {
		conn.Write(AppendTextFrame(nil, []byte("last words")))
		conn.Close(4101, "sign in again")
		conn.Close(4000, "twice")
		conn.Write(AppendTextFrame(nil, []byte("too late")))
		if !conn.Closed() {
			t.Error("not Closed after Close")
		}
		select {
		case <-s.rec.closed:
			t.Error("Closed was called within Close")
		default:
		}
	})
	if e := s.rec.waitClosed(t); e.c != conn || e.code != 4101 || e.cause != "sign in again" {
		t.Errorf("closed with %d %q", e.code, e.cause)
	}
	c.expectText("last words")
	c.expectClose(4101, "sign in again")
	if n := len(s.rec.closed); n != 0 {
		t.Errorf("%d Closed events too many", n)
	}
}

func TestPeerVanishes(t *testing.T) {
	s := startServer(t, Config{})
	c := s.open()
	c.Close()
	if e := s.rec.waitClosed(t); e.code != closeAbnormal {
		t.Errorf("closed with %d", e.code)
	}
	c = s.open()
	_ = c.Conn.(*net.TCPConn).SetLinger(0) // a reset
	c.Close()
	if e := s.rec.waitClosed(t); e.code != closeAbnormal {
		t.Errorf("closed with %d", e.code)
	}
	eventually(t, "no connection to be left", func() bool { return s.Stats().Open == 0 })
}

func TestCloseAfter(t *testing.T) {
	s := startServer(t, Config{})
	c, kept := s.open(), s.open()
	a, b := s.rec.waitOpen(t), s.rec.waitOpen(t)
	if a.Remote().String() != c.LocalAddr().String() {
		a, b = b, a
	}
	onLoop(t, b.Loop(), func() {
		b.CloseAfter(20*time.Millisecond, 4201, "hello timeout")
		b.CancelClose()
	})
	onLoop(t, a.Loop(), func() { a.CloseAfter(20*time.Millisecond, 4201, "hello timeout") })
	c.expectClose(4201, "hello timeout")
	kept.send(string(text("x")))
	kept.expectText("x")
	if n := s.Stats().TimeoutDeadline; n != 1 {
		t.Errorf("%d deadlines counted", n)
	}
}

// TestHeartbeat: a silent client is pinged after each heartbeat; it stays when it
// answers, and is cut off after three without a word (PROTOCOL 3.8).
func TestHeartbeat(t *testing.T) {
	s := startServer(t, Config{Heartbeat: time.Hour})
	c := s.open()
	conn := s.rec.waitOpen(t)
	// pass lets the clock of this connection go on, as if that long had passed since
	// the last byte, and tells how many pings are unanswered then.
	pass := func(d time.Duration) (pings uint8) {
		onLoop(t, conn.Loop(), func() {
			conn.mark = conn.loop.tick() - ticks(d)
			conn.expire(conn.loop.tick())
			pings = conn.pings
		})
		return pings
	}
	for i, step := range []struct {
		silent time.Duration
		pings  uint8
	}{{59 * time.Minute, 0}, {time.Hour, 1}, {119 * time.Minute, 1}, {2 * time.Hour, 2}, {179 * time.Minute, 2}} {
		if got := pass(step.silent); got != step.pings {
			t.Errorf("step %d: %d pings, want %d", i, got, step.pings)
		}
	}
	for range 2 {
		if f := c.frame(); f.Header.OpCode != ws.OpPing || len(f.Payload) != 0 {
			t.Errorf("got %v %q", f.Header.OpCode, f.Payload)
		}
	}
	c.send(string(clientFrame(0x8a, "")))
	eventually(t, "the answer to count", func() (ok bool) {
		onLoop(t, conn.Loop(), func() { ok = conn.pings == 0 && conn.loop.tick()-conn.mark < ticks(time.Minute) })
		return ok
	})
	pass(3 * time.Hour)
	if e := s.rec.waitClosed(t); e.code != closeAbnormal || e.cause != "heartbeat" {
		t.Errorf("closed with %d %q", e.code, e.cause)
	}
	c.expectEOF()
	if n := s.Stats().TimeoutHeartbeat; n != 1 {
		t.Errorf("%d counted", n)
	}
}

// TestHeartbeatByTheClock: the same by real timers.
func TestHeartbeatByTheClock(t *testing.T) {
	const beat = 20 * time.Millisecond
	s := startServer(t, Config{Heartbeat: beat})
	start := time.Now()
	c := s.open()
	if e := s.rec.waitClosed(t); e.cause != "heartbeat" {
		t.Errorf("closed with %d %q", e.code, e.cause)
	}
	if d := time.Since(start); d < 3*(beat-time.Millisecond) {
		t.Errorf("closed after %v", d)
	}
	for {
		f, err := readServerFrame(c.br)
		if err == io.EOF {
			break
		}
		if err != nil || f.Header.OpCode != ws.OpPing {
			t.Fatalf("got %v %v", f.Header.OpCode, err)
		}
	}
}

func TestSlowFirstBytes(t *testing.T) {
	s := startServer(t, Config{FirstByteTimeout: 30 * time.Millisecond})
	s.dial().expectEOF()
	eventually(t, "it to be gone", func() bool { return s.Stats().Open == 0 })
	if st := s.Stats(); st.TimeoutFirstByte != 1 || st.TimeoutHead != 0 {
		t.Errorf("timeouts %d, %d", st.TimeoutFirstByte, st.TimeoutHead)
	}
}

func TestSlowHead(t *testing.T) {
	s := startServer(t, Config{HeaderTimeout: 30 * time.Millisecond})
	c := s.open() // the deadline of the head is not one of the session
	slow := s.dial()
	slow.send("GET /v1/ws HT")
	slow.expectEOF()
	eventually(t, "it to be gone", func() bool { return s.Stats().Open == 1 })
	if st := s.Stats(); st.TimeoutFirstByte != 0 || st.TimeoutHead != 1 {
		t.Errorf("timeouts %d, %d", st.TimeoutFirstByte, st.TimeoutHead)
	}
	c.send(string(text("x")))
	c.expectText("x")
}

// TestHandedConn: who takes a connection himself gets all of its bytes, by whichever
// method; and the listener has the address that people dial.
// TestTakeBack: an upgrade on a connection that served plain HTTP before, as a proxy
// sends it, over TLS too; frames that share its segment are not lost.
func TestShutdown(t *testing.T) {
	s := startServer(t, Config{})
	silent := s.dial()
	c := s.open()
	deaf := s.open() // answers no close frame: Linger cuts it off
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx, 4002, func() string { return "retry_ms=5" }) }()
	c.expectClose(4002, "retry_ms=5")
	if err := <-done; err != nil {
		t.Error(err)
	}
	silent.expectEOF()
	if f := deaf.frame(); f.Header.OpCode != ws.OpClose {
		t.Errorf("got %v", f.Header.OpCode)
	}
	if s.Loop(0).Post(func() { t.Error("ran after the stop") }) {
		t.Error("a stopped loop took a post")
	}
	if _, err := net.Dial("tcp", s.addr); err == nil {
		t.Error("still accepting")
	}
	if _, err := s.HTTP().Accept(); err != net.ErrClosed {
		t.Errorf("HTTP listener: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l, false); err != ErrStopped {
		t.Errorf("Serve after Shutdown: %v", err)
	}
	for range 2 {
		if e := s.rec.waitClosed(t); e.code != 4002 {
			t.Errorf("closed with %d", e.code)
		}
	}
}

func TestShutdownCutOff(t *testing.T) {
	s := startServer(t, Config{Linger: time.Hour})
	s.open() // never answers
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx, 4002, func() string { return "" }); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

func TestPostOrderAndTimers(t *testing.T) {
	s := startServer(t, Config{})
	l := s.Loop(1)
	if l.ID() != 1 || s.NumLoops() != 2 {
		t.Errorf("loop %d of %d", l.ID(), s.NumLoops())
	}
	const n = 10_000
	var got []int
	for i := range n {
		l.Post(func() { got = append(got, i) })
	}
	onLoop(t, l, func() {
		for i, v := range got {
			if i != v {
				t.Fatalf("post %d ran as number %d", v, i)
			}
		}
	})
	if len(got) != n {
		t.Fatalf("%d of %d posts ran", len(got), n)
	}
	fired := make(chan time.Duration, 3)
	var start time.Time
	onLoop(t, l, func() {
		time.Sleep(2 * time.Millisecond)
		start = l.start.Add(l.now) // timers count from where the turn began
		stopped := l.After(time.Millisecond, func() { t.Error("a stopped timer fired") })
		if !stopped.Stop() || stopped.Stop() {
			t.Error("Stop answers wrong")
		}
		again := l.After(time.Hour, func() { fired <- time.Since(start) })
		again.Reset(3 * time.Millisecond)
		l.After(5*time.Millisecond, func() { fired <- time.Since(start) })
		l.After(80*time.Millisecond, func() { fired <- time.Since(start) })
	})
	for _, least := range []time.Duration{3, 5, 80} {
		select {
		case d := <-fired:
			if d < least*time.Millisecond {
				t.Errorf("fired after %v, not %v ms", d, int(least))
			}
		case <-time.After(patience):
			t.Fatal("a timer did not fire")
		}
	}
	if st := s.Stats(); st.Loops[1].Turns == 0 || st.Loops[1].MailboxDepth != 0 {
		t.Errorf("%+v", st.Loops[1])
	}
}

// TestLoopSleeps: a burst of posts, or a timer, wakes a loop once, and then it waits.
func TestLoopSleeps(t *testing.T) {
	s := startServer(t, Config{Loops: 1})
	l := s.Loop(0)
	fired := make(chan struct{})
	onLoop(t, l, func() { l.After(time.Millisecond, func() { close(fired) }) })
	<-fired
	// Long enough for a loop that spins to be seen: other processes turn meanwhile.
	before := s.Stats().Loops[0].Turns
	for range 50 {
		c := s.dial()
		c.Close()
	}
	eventually(t, "the connections to be gone", func() bool { st := s.Stats(); return st.Accepted == 50 && st.Open == 0 })
	if n := s.Stats().Loops[0].Turns - before; n > 150 {
		t.Errorf("%d turns for 50 connections", n)
	}
}
