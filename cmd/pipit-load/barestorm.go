package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// callersArg starts this program as those who connect to the bare loop.
const callersArg = "--callers"

// What is said on a connection until its session runs, in bytes: two questions and
// two answers, of the order of what pipit-load and pipitd say (not counted).
var bareTalk = [4]int{260, 129, 130, 620}

// measureBareStorm returns this process's processor time for so many connections
// that come at once: one bare epoll loop accepts each, reads twice and writes
// twice, and does nothing else. What a server needs beyond it is its own.
func measureBareStorm(ctx context.Context, conns int) (used time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(l)
	if err = errors.Join(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(l, conns)); err != nil {
		return 0, err
	}
	at, err := unix.Getsockname(l)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	callers := exec.CommandContext(ctx, self, callersArg, fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port), strconv.Itoa(conns))
	callers.Stderr = os.Stderr
	end, err := callers.StdinPipe() // they hang up when it is closed
	if err != nil {
		return 0, err
	}
	if err := callers.Start(); err != nil {
		return 0, err
	}
	defer func() {
		end.Close()
		err = errors.Join(err, callers.Wait())
	}()
	before, err := selfTime()
	if err != nil {
		return 0, err
	}
	if err := bareLoop(ctx, l, conns); err != nil {
		return 0, err
	}
	after, err := selfTime()
	return after - before, err
}

// bareLoop serves until the last of conns has its second answer.
func bareLoop(ctx context.Context, l, conns int) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(ep)
	add := func(fd int) error {
		return unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
	}
	if err := add(l); err != nil {
		return err
	}
	heard := make(map[int]int, conns) // bytes, by descriptor
	defer func() {
		for fd := range heard {
			unix.Close(fd)
		}
	}()
	events, buf := make([]unix.EpollEvent, 1024), make([]byte, 4096)
	for served := 0; served < conns; {
		n, err := unix.EpollWait(ep, events, 1000)
		if err != nil && err != unix.EINTR {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			if fd == l {
				c, _, err := unix.Accept4(l, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
				if err == unix.EAGAIN {
					continue
				}
				if err == nil {
					err = add(c)
				}
				if err != nil {
					return err
				}
				heard[c] = 0
				continue
			}
			n, err := unix.Read(fd, buf)
			if err != nil || n == 0 {
				return fmt.Errorf("a caller ended early: %w", errors.Join(err, io.ErrUnexpectedEOF))
			}
			was := heard[fd]
			heard[fd] += n
			answer := 0
			switch first, both := bareTalk[0], bareTalk[0]+bareTalk[2]; {
			case was < first && heard[fd] >= first:
				answer = bareTalk[1]
			case was < both && heard[fd] >= both:
				answer = bareTalk[3]
				served++
			}
			if answer > 0 {
				if _, err := unix.Write(fd, buf[:answer]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// serveCallers connects all at once, talks, and holds the connections until in
// ends.
func serveCallers(addr string, conns int, in io.Reader) error {
	var wg sync.WaitGroup
	errs := make(chan error, conns)
	open := make(chan net.Conn, conns)
	for n := range conns {
		wg.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%localAddresses))}}
			nc, err := d.Dial("tcp", addr)
			if err != nil {
				errs <- err
				return
			}
			open <- nc
			buf := make([]byte, 1024)
			for i := 0; i < len(bareTalk) && err == nil; i += 2 {
				if _, err = nc.Write(buf[:bareTalk[i]]); err == nil {
					_, err = io.ReadFull(nc, buf[:bareTalk[i+1]])
				}
			}
			if err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	close(open)
	_, _ = io.Copy(io.Discard, in) // until it is closed
	for nc := range open {
		nc.Close()
	}
	return <-errs
}
