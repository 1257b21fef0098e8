package netloop

import (
	"crypto/tls"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// silent is a Handler that does nothing and allocates nothing.
type silent struct{}

func (silent) Open(*Conn)                   {}
func (silent) Message(*Conn, []byte)        {}
func (silent) Closed(*Conn, uint16, string) {}

// rawClients opens n WebSockets from bare descriptors, which hold no heap.
func rawClients(t testing.TB, addr string, n int) []int {
	t.Helper()
	to := netip.MustParseAddrPort(addr)
	sa := &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	head := []byte(upgradeHead)
	answer := make([]byte, 1024)
	fds := make([]int, n)
	t.Cleanup(func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	})
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
		if err := unix.Connect(fd, sa); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, head); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(fd, answer); err != nil || n < 12 || string(answer[:12]) != "HTTP/1.1 101" {
			t.Fatalf("answer %q, %v", answer[:n], err)
		}
	}
	return fds
}

// drainRaw reads what waits on fds away.
func drainRaw(fds []int) {
	var buf [64 << 10]byte
	for _, fd := range fds {
		for {
			if n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT); n <= 0 || err != nil {
				break
			}
		}
	}
}

// openConns are the open connections of a loop. Loop goroutine only.
func (l *Loop) openConns() []*Conn {
	var out []*Conn
	for _, c := range l.conns {
		if c.phase == phaseOpen {
			out = append(out, c)
		}
	}
	return out
}

// TestAllocations holds the paths that run for each message, recipient and tick to no
// allocation at all.
func TestAllocations(t *testing.T) {
	s := startServer(t, Config{Loops: 1, Handler: silent{}, Heartbeat: time.Hour})
	fds := rawClients(t, s.addr, 100)
	l := s.Loop(0)
	frame := AppendTextFrame(nil, make([]byte, 150))
	message := text("a small message of a client, such as there are many")
	nothing := func() {}
	check := func(what string, fn func()) {
		var n float64
		onLoop(t, l, func() { n = testing.AllocsPerRun(100, fn) })
		if n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
		drainRaw(fds)
	}
	var conns []*Conn
	onLoop(t, l, func() { conns = l.openConns() })
	check("one frame to 100 connections", func() {
		l.begin()
		for _, c := range conns {
			c.Write(frame)
		}
		l.end()
	})
	check("four frames gathered", func() {
		l.begin()
		for range 4 {
			conns[0].Write(frame)
		}
		l.end()
	})
	// arrive sends p and lets the connection of fds[0] read until it has come.
	var mine *Conn
	arrive := func(p []byte) {
		want := l.n.bytesIn.Load() + uint64(len(p))
		if _, err := unix.Write(fds[0], p); err != nil {
			t.Fatal(err)
		}
		for l.n.bytesIn.Load() < want {
			for _, c := range conns {
				if mine == nil || c == mine {
					c.event(unix.EPOLLIN)
				}
				if mine == nil && l.n.bytesIn.Load() >= want {
					mine = c
				}
			}
		}
	}
	check("read a small message", func() { arrive(message) })
	check("read a message in two halves", func() { arrive(message[:20]); arrive(message[20:]) })
	check("a ping and its pong", func() { arrive(emptyPing) })
	check("an idle timer tick", func() { l.onTimer(0) })
	check("a timer that goes off and is set again", func() {
		l.begin()
		l.wheel.stop(&conns[0].timer)
		l.wheel.add(&conns[0].timer, l.tick())
		l.wheel.advance(l.wheel.next())
		l.end()
	})
	check("a heartbeat's ping", func() {
		l.begin()
		c := conns[0]
		c.pings = 0
		c.mark = l.tick() - ticks(time.Hour)
		c.expire(l.tick())
		c.mark = l.tick()
		l.end()
	})
	check("a post", func() {
		l.Post(nothing)
		l.onMailbox(0)
	})
	if st := s.Stats(); st.FramesIn < 300 || st.Sessions != 100 {
		t.Errorf("%d frames in, %d sessions: the test measured something else", st.FramesIn, st.Sessions)
	}
}

var emptyPing = ping("")

// TestIdleHeap holds the heap of an idle WebSocket to 300 bytes, the epoll set's map
// entry and callback included.
func TestIdleHeap(t *testing.T) {
	const n, most = 2000, 300
	s := startServer(t, Config{Handler: silent{}, Heartbeat: time.Minute})
	rawClients(t, s.addr, 10) // what is made once
	before := liveHeap()
	rawClients(t, s.addr, n)
	eventually(t, "all to be open", func() bool { return s.Stats().Sessions == n+10 })
	each := (float64(liveHeap()) - float64(before)) / n
	t.Logf("%.0f bytes of live heap a connection, of which Conn is %d", each, unsafe.Sizeof(Conn{}))
	if each > most {
		t.Errorf("%.0f bytes of live heap a connection, more than %d", each, most)
	}
}

// TestIdleHeapTLS is the same for a TLS session; nearly all of it is crypto/tls's own.
func TestIdleHeapTLS(t *testing.T) {
	const n, most = 200, 8_500
	s, conf := startTLS(t, Config{Handler: silent{}, Heartbeat: time.Minute})
	open := func() {
		c, err := tls.Dial("tcp", s.addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(upgradeHead)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1024)); err != nil {
			t.Fatal(err)
		}
		// Keep the socket, not the client's half of the TLS state.
		fd, err := dupRaw(must(c.NetConn().(*net.TCPConn).SyscallConn()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		_ = c.NetConn().Close()
	}
	for range 10 {
		open()
	}
	before := liveHeap()
	for range n {
		open()
	}
	eventually(t, "all to be open", func() bool { return s.Stats().Sessions == n+10 && s.Stats().HandshakesNow == 0 })
	each := (float64(liveHeap()) - float64(before)) / n
	t.Logf("%.0f bytes of live heap a TLS connection", each)
	if each > most {
		t.Errorf("%.0f bytes of live heap a TLS connection, more than %d", each, most)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkDeliver is what TARGETS.md calls a delivery, without the storeys above: one
// shared frame of 150 bytes to each of 50 or 1000 connections. x-floor is the ratio to
// a bare Go loop that writes the same bytes to as many sockets, one write each, in
// alternation in the same run; both in CPU time of the process, wake-ups of the loop
// included, because wall time here is mostly other people's.
func BenchmarkDeliver(b *testing.B) {
	b.Run("50", func(b *testing.B) { benchDeliver(b, 50, 1) })
	b.Run("1000", func(b *testing.B) { benchDeliver(b, 1000, 1) })
	b.Run("50gathered4", func(b *testing.B) { benchDeliver(b, 50, 4) })
	b.Run("50gathered16", func(b *testing.B) { benchDeliver(b, 50, 16) })
}

// cpuTime is what the process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchDeliver(b *testing.B, conns, gather int) {
	s := startServer(b, Config{Loops: 1, Handler: silent{}})
	fds := rawClients(b, s.addr, conns)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	floorConns := make([]net.Conn, conns)
	for i := range floorConns {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
		to := ln.Addr().(*net.TCPAddr)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
			b.Fatal(err)
		}
		fds = append(fds, fd)
		if floorConns[i], err = ln.Accept(); err != nil {
			b.Fatal(err)
		}
		defer floorConns[i].Close()
	}
	frame := AppendTextFrame(nil, make([]byte, 150))
	l := s.Loop(0)
	var mine []*Conn
	onLoop(b, l, func() { mine = l.openConns() })
	deliver := func() { // as the hub does: one post, which walks the members
		for _, c := range mine {
			for range gather {
				c.Write(frame)
			}
		}
	}
	var ours, floor time.Duration
	rounds := 0
	done := make(chan struct{}, 1)
	after := func() { done <- struct{}{} }
	b.ReportAllocs()
	const block = 16 // rounds between two looks at the clock
	for b.Loop() {
		start := cpuTime(b)
		for range block {
			l.Post(deliver)
			l.Post(after)
			<-done
		}
		l.Post(after) // the last flush is behind
		<-done
		ours += cpuTime(b) - start
		start = cpuTime(b)
		for range block {
			for _, c := range floorConns {
				for range gather {
					if _, err := c.Write(frame); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		floor += cpuTime(b) - start
		rounds += block
		b.StopTimer()
		drainRaw(fds)
		b.StartTimer()
	}
	each := float64(rounds * conns * gather)
	b.ReportMetric(float64(ours)/each, "ns/delivery")
	b.ReportMetric(float64(floor)/each, "ns/floor")
	b.ReportMetric(float64(ours)/float64(floor), "x-floor")
	b.ReportMetric(0, "ns/op")
}
