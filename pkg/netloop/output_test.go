package netloop

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// numbered is a text frame of size (8 or more) bytes that begins with number i.
func numbered(i, size int) []byte {
	return fmt.Appendf(appendServerHeader(nil, opText, size), "%08d%s", i, strings.Repeat("x", size-8))
}

func TestGather(t *testing.T) {
	s := startServer(t, Config{})
	c := s.open()
	conn := s.rec.waitOpen(t)
	for _, n := range []int{1, 2, maxIovecs, maxIovecs + 1, 1000} {
		onLoop(t, conn.Loop(), func() {}) // the turn before has been counted
		before := s.Stats()
		onLoop(t, conn.Loop(), func() {
			for i := range n {
				conn.Write(numbered(i, 20))
			}
		})
		for i := range n {
			if f := c.frame(); string(f.Payload) != string(numbered(i, 20)[2:]) {
				t.Fatalf("frame %d of %d: got %q", i, n, f.Payload)
			}
		}
		onLoop(t, conn.Loop(), func() {})
		after := s.Stats()
		calls := uint64((n + maxIovecs - 1) / maxIovecs)
		if w, g, f := after.Writes-before.Writes, after.Gathered-before.Gathered, after.FramesOut-before.FramesOut; w != calls || g != uint64(n)-calls || f != uint64(n) {
			t.Errorf("%d frames: %d writes, %d gathered, %d frames", n, w, g, f)
		}
	}
}

// TestOrderUnderBackpressure: with a reader that is slower than the writer, frames of
// all sizes come whole and in order, and the close frame after them.
func TestOrderUnderBackpressure(t *testing.T) {
	const n = 3000
	s := startServer(t, Config{MaxOutputBytes: 1 << 30, Linger: patience})
	c := s.open()
	conn := s.rec.waitOpen(t)
	rng := rand.New(rand.NewPCG(5, 6))
	for i := 0; i < n; {
		burst := min(1+rng.IntN(20), n-i)
		from, seed := i, rng.Uint64()
		conn.Loop().Post(func() {
			rng := rand.New(rand.NewPCG(seed, 0))
			for j := range burst {
				conn.Write(numbered(from+j, 8+rng.IntN(30_000)))
			}
		})
		i += burst
	}
	conn.Loop().Post(func() { conn.Close(4000, "done") })
	eventually(t, "output to queue up", func() bool { return s.Stats().QueuedBytes > 1<<20 })
	for i := range n {
		f := c.frame()
		if p := string(f.Payload); f.Header.OpCode != ws.OpText || !strings.HasSuffix(string(numbered(i, len(p))), p) {
			t.Fatalf("frame %d: got %v %.20q", i, f.Header.OpCode, p)
		}
	}
	c.expectClose(4000, "done")
}

// TestSlowConsumer: a client that never reads is closed when its output passes the
// bound; its neighbours on the same loop don't notice; what it reads at last is whole
// frames, then 4001.
func TestSlowConsumer(t *testing.T) {
	const bound = 100_000
	s := startServer(t, Config{Loops: 1, MaxOutputBytes: bound, Linger: patience})
	deaf, neighbour := s.open(), s.open()
	a, b := s.rec.waitOpen(t), s.rec.waitOpen(t)
	if a.Remote().String() != deaf.LocalAddr().String() {
		a, b = b, a
	}
	frame := numbered(7, 16_000)
	written := 0
	for done := false; !done; {
		onLoop(t, a.Loop(), func() {
			a.Write(frame)
			b.Write(AppendTextFrame(nil, []byte("x")))
			written++
			done = a.Closed()
		})
		neighbour.expectText("x")
		if n := s.Stats().QueuedBytes; n > bound+16_000 {
			t.Fatalf("%d bytes queued", n)
		}
	}
	if e := s.rec.waitClosed(t); e.c != a || e.code != closeSlowReader {
		t.Errorf("closed with %d", e.code)
	}
	if n := s.Stats().SlowConsumers; n != 1 {
		t.Errorf("%d slow consumers counted", n)
	}
	got := 0
	for {
		f := deaf.frame()
		if f.Header.OpCode == ws.OpClose {
			if string(f.Payload) != "\x0f\xa1slow consumer" {
				t.Errorf("got %q", f.Payload)
			}
			break
		}
		if string(f.Payload) != string(frame[4:]) {
			t.Fatal("a frame came in pieces")
		}
		got++
	}
	if got == 0 || got >= written {
		t.Errorf("%d of %d frames came", got, written)
	}
	deaf.expectEOF()
}

// TestOneLargeAnswer: one write over the bound, onto an empty queue, is delivered to
// a client that reads.
func TestOneLargeAnswer(t *testing.T) {
	s := startServer(t, Config{MaxOutputBytes: 1000})
	c := s.open()
	conn := s.rec.waitOpen(t)
	big := bigText(16 << 20)
	onLoop(t, conn.Loop(), func() { conn.Write(AppendTextFrame(nil, []byte(big))) })
	c.expectText(big)
	onLoop(t, conn.Loop(), func() {
		if conn.Waiting() || conn.Closed() {
			t.Errorf("waiting %v, closed %v", conn.Waiting(), conn.Closed())
		}
	})
	// And the loop sleeps again: epoll was told that nothing waits.
	loop := conn.Loop().ID()
	before := s.Stats().Loops[loop].Turns
	for range 200 {
		c.send(string(text("x")))
		c.expectText("x")
	}
	if n := s.Stats().Loops[loop].Turns - before; n > 300 {
		t.Errorf("%d turns for 200 messages", n)
	}
}

// TestSmallFramesCount: what a waiting frame costs beyond its bytes counts too.
func TestSmallFramesCount(t *testing.T) {
	const bound = 20_000
	s := startServer(t, Config{MaxOutputBytes: bound})
	s.open()
	conn := s.rec.waitOpen(t)
	frame := numbered(1, 10_000)
	for full := false; !full; {
		onLoop(t, conn.Loop(), func() { full = conn.Waiting(); conn.Write(frame) })
	}
	small := 0
	for closed := false; !closed; small++ {
		onLoop(t, conn.Loop(), func() { conn.Write(pongFrame); closed = conn.Closed() })
	}
	if small > bound/32+2 {
		t.Errorf("%d frames waited", small)
	}
}

// TestQueueWritten: in steps of all sizes, bytes leave the queue in order, and the
// books balance.
func TestQueueWritten(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	s := startServer(t, Config{Loops: 1})
	c := &Conn{loop: s.Loop(0)}
	for range 200 {
		var want []byte
		q := &outQueue{}
		for i := range 1 + rng.IntN(200) {
			f := numbered(i, 8+rng.IntN(50))
			want = append(want, f...)
			q.frames = append(q.frames, f)
			q.bytes += len(f) + frameCost
		}
		s.Loop(0).n.queued.Add(int64(len(want)))
		for len(want) > 0 {
			n := 1 + rng.IntN(min(len(want), 1+rng.IntN(300)))
			c.written(q, n)
			q.compact()
			want = want[n:]
			var got []byte
			for i, f := range q.frames[q.first:] {
				if i == 0 {
					f = f[q.off:]
				}
				got = append(got, f...)
			}
			if string(got) != string(want) || q.bytes != len(want)+frameCost*(len(q.frames)-q.first) {
				t.Fatalf("%d bytes are left, want %d; %d counted", len(got), len(want), q.bytes)
			}
		}
	}
}

// TestPingFlood: a client that sends pings and reads no answers is a slow consumer.
func TestPingFlood(t *testing.T) {
	s := startServer(t, Config{MaxOutputBytes: 64 << 10})
	c := s.open()
	flood := []byte(strings.Repeat(string(ping("12345678")), 1000))
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for {
			if _, err := c.Write(flood); err != nil {
				return
			}
		}
	}()
	if e := s.rec.waitClosed(t); e.code != closeSlowReader {
		t.Errorf("closed with %d %q", e.code, e.cause)
	}
	c.Close()
	<-stop
}

// TestWriteStall: output that makes no progress for three heartbeats ends the
// connection, though the client still talks.
func TestWriteStall(t *testing.T) {
	s := startServer(t, Config{Heartbeat: time.Hour, MaxOutputBytes: 1 << 30})
	c := s.open()
	conn := s.rec.waitOpen(t)
	onLoop(t, conn.Loop(), func() { conn.Write(AppendTextFrame(nil, make([]byte, 16<<20))) })
	// pass lets the clock of the queue go on, but not that of the input.
	pass := func(d time.Duration) (due int64) {
		onLoop(t, conn.Loop(), func() {
			now := conn.loop.tick()
			conn.mark, conn.out.progress = now, now-ticks(d)
			due = conn.nextDeadline() - now
			conn.expire(now)
		})
		return due
	}
	if due := pass(179 * time.Minute); due != ticks(time.Minute) {
		t.Errorf("due in %d ticks", due)
	}
	if n := len(s.rec.closed); n != 0 {
		t.Fatal("closed too early")
	}
	pass(3 * time.Hour)
	if e := s.rec.waitClosed(t); e.code != closeAbnormal || e.cause != "output made no progress" {
		t.Errorf("closed with %d %q", e.code, e.cause)
	}
	if n := s.Stats().TimeoutWrite; n != 1 {
		t.Errorf("%d counted", n)
	}
	c.Close()
}

// TestEarlyFlush: a turn that gathers without end writes in between, and keeps order.
func TestEarlyFlush(t *testing.T) {
	s := startServer(t, Config{MaxOutputBytes: 1 << 30})
	c := s.open()
	conn := s.rec.waitOpen(t)
	const n = 2*maxPending + 10
	most := 0
	onLoop(t, conn.Loop(), func() {
		for i := range n {
			conn.Write(numbered(i, 8))
			most = max(most, len(conn.loop.pend))
		}
	})
	if most > maxPending {
		t.Errorf("%d frames gathered", most)
	}
	for i := range n {
		if f := c.frame(); string(f.Payload) != string(numbered(i, 8)[2:]) {
			t.Fatalf("frame %d: got %q", i, f.Payload)
		}
	}
}

// TestClosedWritesMore: what Closed writes to others leaves in the same turn.
func TestClosedWritesMore(t *testing.T) {
	var other *Conn
	rec := newRecorder()
	h := &farewell{recorder: rec, other: &other}
	s := startServer(t, Config{Loops: 1, Handler: h})
	s.rec = rec
	a := s.open()
	rec.waitOpen(t)
	b := s.open()
	conn := rec.waitOpen(t)
	onLoop(t, conn.Loop(), func() { other = conn })
	a.Close()
	b.expectText("gone")
}

type farewell struct {
	*recorder
	other **Conn
}

func (h *farewell) Closed(c *Conn, code uint16, cause string) {
	if o := *h.other; o != nil {
		o.Write(AppendTextFrame(nil, []byte("gone")))
	}
	h.recorder.Closed(c, code, cause)
}

// TestHalfOpen: a peer that shuts down its writing side ends the session at once.
func TestHalfOpen(t *testing.T) {
	s := startServer(t, Config{})
	c := s.open()
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if e := s.rec.waitClosed(t); e.code != closeAbnormal || e.cause != "end of stream" {
		t.Errorf("closed with %d %q", e.code, e.cause)
	}
	if _, err := io.ReadAll(c.br); err != nil {
		t.Error(err)
	}
}
