package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// floorBytes is the size of the floor's frame (TARGETS: 150-byte frames).
const floorBytes = 150

// sinkArg starts this program as the receiver of the floor.
const sinkArg = "--sink"

func floorCmd() *cobra.Command {
	var sockets, writes int
	c := &cobra.Command{Use: "floor", Short: "Measure a bare loop that writes the same bytes to the same number of sockets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			per, err := measureFloor(cmd.Context(), sockets, writes)
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%.2f µs of processor time a write of %d bytes, %d sockets\n", float64(per.Nanoseconds())/1e3, floorBytes, sockets)
			}
			return err
		}}
	c.Flags().IntVar(&sockets, "sockets", 1000, "how many sockets")
	c.Flags().IntVar(&writes, "writes", 200000, "how many writes in all")
	return c
}

// measureFloor returns this process's processor time for one write(2) of
// floorBytes to one of many established sockets, whose other ends a second
// process reads.
func measureFloor(ctx context.Context, sockets, writes int) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sink := exec.CommandContext(ctx, self, sinkArg, l.Addr().String(), strconv.Itoa(sockets))
	sink.Stderr = os.Stderr
	if err := sink.Start(); err != nil {
		return 0, err
	}
	defer func() {
		cancel()
		sink.Wait() // it was told to end: its status says nothing
	}()
	fds := make([]int, 0, sockets)
	for len(fds) < sockets {
		nc, err := l.Accept()
		if err != nil {
			return 0, err
		}
		f, err := nc.(*net.TCPConn).File()
		nc.Close()
		if err != nil {
			return 0, err
		}
		defer f.Close()
		fd := int(f.Fd()) // blocking: a full socket waits, as a bare loop would
		fds = append(fds, fd)
	}
	frame := make([]byte, floorBytes)
	rounds := max(writes/sockets, 1)
	began, err := selfTime()
	if err != nil {
		return 0, err
	}
	for range rounds {
		for _, fd := range fds {
			if _, err := unix.Write(fd, frame); err != nil {
				return 0, err
			}
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	ended, err := selfTime()
	return (ended - began) / time.Duration(rounds*sockets), err
}

func selfTime() (time.Duration, error) {
	var r unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), err
}

// serveSink connects and reads until the connections end.
func serveSink(addr string, sockets int) error {
	done := make(chan struct{}, sockets)
	for range sockets {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		go func() {
			buf := make([]byte, 2048)
			for {
				if _, err := nc.Read(buf); err != nil {
					if err != io.EOF {
						nc.Close()
					}
					done <- struct{}{}
					return
				}
			}
		}()
	}
	for range sockets {
		<-done
	}
	return nil
}
