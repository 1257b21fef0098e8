package netloop

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialFrom dials from another address of the loopback net.
func (s *testServer) dialFrom(ip string) *client {
	s.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.clientOn(c)
}

// TestConnectionFlood: over the limits, connections are closed at once, counted by
// cause, and those that are there keep working; what closes makes room; silent ones and
// those that net/http has count too.
func TestConnectionFlood(t *testing.T) {
	s := startServer(t, Config{MaxConns: 20, MaxConnsPerAddr: 10})
	honest := s.dialFrom("127.0.0.9")
	honest.send(upgradeHead)
	honest.upgraded()
	var held []*client
	for i := range 10 {
		c := s.dialFrom("127.0.0.2")
		if i == 0 {
			c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n") // goes to net/http's backlog
		}
		held = append(held, c)
	}
	eventually(t, "all to be accepted", func() bool { st := s.Stats(); return st.Open == 11 && st.HTTP == 1 })
	for range 50 {
		s.dialFrom("127.0.0.2").expectEOF()
	}
	if st := s.Stats(); st.RefusedAddr != 50 || st.RefusedLimit != 0 || st.Open != 11 {
		t.Errorf("%d refused by address, %d by number, %d open", st.RefusedAddr, st.RefusedLimit, st.Open)
	}
	for range 9 {
		held = append(held, s.dialFrom("127.0.0.3"))
	}
	eventually(t, "the rest to be accepted", func() bool { return s.Stats().Open == 20 })
	for range 50 {
		s.dialFrom("127.0.0.4").expectEOF()
	}
	if st := s.Stats(); st.RefusedLimit != 50 || st.Open != 20 {
		t.Errorf("%d refused by number, %d open", st.RefusedLimit, st.Open)
	}
	honest.send(string(text("x")))
	honest.expectText("x")

	for _, c := range held[1:] {
		c.Close()
	}
	eventually(t, "room", func() bool { return s.Stats().Open == 2 })
	again := s.dialFrom("127.0.0.2")
	again.send(upgradeHead)
	again.upgraded()
	s.SetLimits(0, 1)
	s.dialFrom("127.0.0.2").expectEOF()
	s.SetLimits(0, 0)
	free := s.dialFrom("127.0.0.2")
	free.send(upgradeHead)
	free.upgraded()
}

func TestAddrKey(t *testing.T) {
	key := func(s string) [16]byte { return addrKey(netip.MustParseAddr(s)) }
	same := [][2]string{{"10.0.0.1", "::ffff:10.0.0.1"}, {"2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"}}
	other := [][2]string{{"10.0.0.1", "10.0.0.2"}, {"2001:db8::1", "2001:db8:0:1::1"}}
	for _, p := range same {
		if key(p[0]) != key(p[1]) {
			t.Errorf("%s and %s count apart", p[0], p[1])
		}
	}
	for _, p := range other {
		if key(p[0]) == key(p[1]) {
			t.Errorf("%s and %s count together", p[0], p[1])
		}
	}
}

// TestLoopsShareConnections: the acceptor keeps the loops level, also when one of them
// has lost many.
func TestLoopsShareConnections(t *testing.T) {
	s := startServer(t, Config{Loops: 3})
	counts := func() [3]int64 {
		st := s.Stats()
		return [3]int64{st.Loops[0].Conns, st.Loops[1].Conns, st.Loops[2].Conns}
	}
	byConn := map[string]*client{}
	for range 30 {
		c := s.open()
		byConn[c.LocalAddr().String()] = c
	}
	if got := counts(); got != [3]int64{10, 10, 10} {
		t.Errorf("got %v", got)
	}
	for range 30 {
		if conn := s.rec.waitOpen(t); conn.Loop().ID() == 1 {
			byConn[conn.Remote().String()].Close()
		}
	}
	eventually(t, "loop 1 to be empty", func() bool { return counts() == [3]int64{10, 0, 10} })
	for range 10 {
		s.open()
	}
	if got := counts(); got != [3]int64{10, 10, 10} {
		t.Errorf("got %v", got)
	}
}

// TestOutOfDescriptors: at the limit of descriptors, the loop does not spin, the peer
// is shed at once, those that are open go on, and accepting comes back by itself.
func TestOutOfDescriptors(t *testing.T) {
	s := startServer(t, Config{Loops: 1})
	c := s.open()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	restored := false
	restore := func() {
		if !restored {
			restored = true
			if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
				t.Error(err)
			}
		}
	}
	defer restore()
	// Sockets made before, to connect with when nothing can be made any more.
	sock, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sock)
	sock2, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(sock2)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highestFD(t)) + 1, Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	var fill []int
	for {
		fd, err := unix.FcntlInt(uintptr(sock), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			break
		}
		fill = append(fill, fd)
	}
	to := netip.MustParseAddrPort(s.addr)
	if err := unix.Connect(sock, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	// A read blocks until the server sheds the connection.
	if n, err := unix.Read(sock, make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("read %d, %v; want the end of the stream", n, err)
	}
	turns := s.Stats().Loops[0].Turns
	for range 3 {
		c.send(string(text("x")))
		c.expectText("x")
	}
	if st := s.Stats(); st.RefusedFD == 0 || st.RefusedFD > 5 || st.Loops[0].Turns-turns > 20 {
		t.Errorf("%d refusals, %d turns", st.RefusedFD, st.Loops[0].Turns-turns)
	}

	// Without the spare one, the connection stays in the kernel's queue; the loop must
	// look away, not spin.
	onLoop(t, s.Loop(0), s.closeSpare)
	if fd, err := unix.FcntlInt(uintptr(sock2), unix.F_DUPFD_CLOEXEC, 0); err == nil {
		fill = append(fill, fd)
	}
	before, start := s.Stats().RefusedFD, time.Now()
	if err := unix.Connect(sock2, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "some refusals", func() bool { return s.Stats().RefusedFD >= before+3 })
	refused := s.Stats().RefusedFD - before
	if most := uint64(time.Since(start)/acceptPause) + 2; refused > most {
		t.Errorf("%d refusals, %d pauses", refused, most)
	}
	for _, fd := range fill {
		_ = unix.Close(fd)
	}
	restore()
	s.open()
}

func highestFD(t *testing.T) int {
	top := 0
	for fd := range 1 << 16 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			top = fd
		}
	}
	return top
}
