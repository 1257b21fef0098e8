package netloop

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mailru/easygo/netpoll"
	"golang.org/x/sys/unix"
)

const (
	acceptsPerTurn = 64                     // then the loop sees to its connections
	acceptPause    = 100 * time.Millisecond // after running out of descriptors
)

// listener is one listening socket, in the epoll set of one loop. That loop accepts
// and gives each connection to the loop that has fewest: with the socket in every
// set, all loops would wake for each connection (the library's set knows no
// EPOLLEXCLUSIVE), and the busiest would get fewest only by chance.
type listener struct {
	s     *Server
	loop  *Loop
	fd    int // -1 when closed
	tls   bool
	addr  net.Addr
	retry *Timer
}

// start and close run on the loop.
func (ln *listener) start() error { return ln.loop.watch(ln.fd, netpoll.EPOLLIN, ln.ready) }

func (ln *listener) close() {
	if ln.fd < 0 {
		return
	}
	if ln.retry != nil {
		ln.retry.Stop()
	}
	_ = ln.loop.ep.Del(ln.fd)
	_ = unix.Close(ln.fd)
	ln.fd = -1
}

func (ln *listener) ready(netpoll.EpollEvent) {
	if ln.fd < 0 {
		return
	}
	ln.loop.begin()
	for range acceptsPerTurn {
		fd, sa, err := unix.Accept4(ln.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err == nil {
			ln.accepted(fd, sa)
			continue
		}
		if err == unix.EAGAIN {
			break
		}
		if ln.failed(err) {
			break
		}
	}
	ln.loop.end()
}

// failed sees to an accept error and answers whether to stop for this turn.
func (ln *listener) failed(err error) bool {
	switch err {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		// The waiting connection would make the level-triggered set call again at
		// once, for ever. So: shed it through the spare descriptor, and look away
		// for a while.
		ln.s.n.refusedFD.Add(1)
		ln.s.shed(ln.fd)
		ln.pause()
		ln.s.log.Warn("out of descriptors or memory, connections are refused", "err", err)
		return true
	case unix.EBADF, unix.EINVAL, unix.ENOTSOCK, unix.EOPNOTSUPP:
		ln.s.log.Error("listener is dead", "addr", ln.addr, "err", err)
		ln.close()
		return true
	}
	// EINTR, ECONNABORTED, and network errors that accept4(2) says to treat like
	// EAGAIN: they belong to the one connection.
	return false
}

func (ln *listener) pause() {
	if err := ln.loop.ep.Mod(ln.fd, 0); err != nil {
		ln.s.log.Error("pause accept", "addr", ln.addr, "err", err)
		return
	}
	if ln.retry != nil {
		ln.retry.Reset(acceptPause)
		return
	}
	ln.retry = ln.loop.After(acceptPause, func() {
		ln.s.openSpare()
		if err := ln.loop.ep.Mod(ln.fd, netpoll.EPOLLIN); err != nil {
			ln.s.log.Error("resume accept", "addr", ln.addr, "err", err)
		}
	})
}

// accepted admits one connection and gives it to a loop.
func (ln *listener) accepted(fd int, sa unix.Sockaddr) {
	s := ln.s
	remote, ok := addrPort(sa)
	if !ok {
		_ = unix.Close(fd)
		return
	}
	switch s.admit.enter(remote.Addr()) {
	case overTotal:
		s.n.refusedLimit.Add(1)
		_ = unix.Close(fd)
		return
	case overAddr:
		s.n.refusedAddr.Add(1)
		_ = unix.Close(fd)
		return
	}
	s.n.accepted.Add(1)
	// Frames leave gathered, one write a turn: what Nagle would wait for has come.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	l := s.fewest()
	l.n.conns.Add(1) // here, so that the next choice sees it
	if l == ln.loop {
		l.adopt(fd, remote, ln.tls)
		return
	}
	if !l.Post(func() { l.adopt(fd, remote, ln.tls) }) {
		l.orphan(fd, remote)
	}
}

// orphan closes a socket that its loop, stopped by now, did not take.
func (l *Loop) orphan(fd int, remote netip.AddrPort) {
	l.n.conns.Add(-1)
	_ = unix.Close(fd)
	l.s.admit.leave(remote.Addr())
}

// fewest is the loop with the fewest connections.
func (s *Server) fewest() *Loop {
	best := s.loops[0]
	for _, l := range s.loops[1:] {
		if l.n.conns.Load() < best.n.conns.Load() {
			best = l
		}
	}
	return best
}

// adopt makes an admitted socket, counted in l.n.conns, a connection of this loop. It
// answers nil if that failed, and the socket is closed.
func (l *Loop) adopt(fd int, remote netip.AddrPort, wantTLS bool) *Conn {
	c := &Conn{loop: l, fd: -1, ip: remote.Addr().As16(), port: remote.Port(), wantTLS: wantTLS}
	c.timer.owner = c
	c.index = int32(len(l.conns))
	l.conns = append(l.conns, c)
	if l.stopping {
		_ = unix.Close(fd)
		c.destroy()
		return nil
	}
	if err := c.register(fd); err != nil {
		l.s.log.Error("epoll add", "loop", l.id, "err", err)
		_ = unix.Close(fd)
		c.destroy()
		return nil
	}
	c.mark = l.after(l.s.cfg.FirstByteTimeout)
	c.rearm()
	return c
}

func addrPort(sa unix.Sockaddr) (netip.AddrPort, bool) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), true
	}
	return netip.AddrPort{}, false
}

// dupFD duplicates a listener's descriptor, non-blocking. Not through File: its Fd
// method would make the socket blocking.
func dupFD(l *net.TCPListener) (int, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	return dupRaw(raw)
}

// openSpare and closeSpare keep one descriptor that shed can give up.
func (s *Server) openSpare() {
	if s.spare.Load() > 0 {
		return
	}
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // shed does without; the pause alone keeps the loop from spinning
	}
	if !s.spare.CompareAndSwap(0, int32(fd)) {
		_ = unix.Close(fd)
	}
}

func (s *Server) closeSpare() {
	if fd := s.spare.Swap(0); fd > 0 {
		_ = unix.Close(int(fd))
	}
}

// shed accepts one connection in the place of the spare descriptor and closes it, so
// that its peer is told now and not when its patience ends.
func (s *Server) shed(listenFD int) {
	s.closeSpare()
	if fd, _, err := unix.Accept4(listenFD, unix.SOCK_CLOEXEC); err == nil {
		_ = unix.Close(fd)
	}
	s.openSpare()
}

// dupRaw duplicates what raw stands for, close-on-exec and non-blocking.
func dupRaw(raw interface {
	Control(func(fd uintptr)) error
}) (fd int, err error) {
	ctlErr := raw.Control(func(p uintptr) {
		fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0)
	})
	if ctlErr != nil {
		return -1, ctlErr
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("set non-blocking: %w", err)
	}
	return fd, nil
}
