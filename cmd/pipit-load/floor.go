package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// floorBytes is the size of the floor's frame (TARGETS: 150-byte frames).
const floorBytes = 150

// sinkArg starts this program as the receiver of the floor.
const sinkArg = "--sink"

// floorPlan is what the bare loop does: it goes round its sockets, Group at a
// time, Rate groups a second; Rate 0 is as fast as it can.
type floorPlan struct {
	Sockets, Group int
	Rate           float64
	Writes         int
}

// floorFigures are what a bare loop needed.
type floorFigures struct {
	PerWriteUS float64   `json:"us_per_write"` // processor time of the writer
	Delivery   quantiles `json:"delivery_ms"`  // from the beginning of the group to the receiver
}

func floorCmd() *cobra.Command {
	var p floorPlan
	var asJSON, storm bool
	c := &cobra.Command{Use: "floor", Short: "Measure a bare loop that writes the same bytes to the same number of sockets", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Sockets < 1 || p.Writes < 1 || p.Group < 0 || p.Rate < 0 {
				return fmt.Errorf("--sockets and --writes must be at least 1, --group and --rate not below 0")
			}
			if storm {
				used, err := measureBareStorm(cmd.Context(), p.Sockets)
				switch {
				case err != nil:
					return err
				case asJSON:
					return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]float64{"storm_s": used.Seconds()})
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%.3f s of processor time for %d connections at once, two reads and two writes on each\n", used.Seconds(), p.Sockets)
				return nil
			}
			f, err := measureFloor(cmd.Context(), p)
			switch {
			case err != nil:
				return err
			case asJSON:
				return json.NewEncoder(cmd.OutOrStdout()).Encode(f)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%.2f µs of processor time a write of %d bytes, %d sockets\n", f.PerWriteUS, floorBytes, p.Sockets)
			return nil
		}}
	c.Flags().IntVar(&p.Sockets, "sockets", 4000, "how many sockets")
	c.Flags().IntVar(&p.Group, "group", 0, "sockets that are written to in one go (default: all)")
	c.Flags().Float64Var(&p.Rate, "rate", 0, "groups a second (default: as fast as it goes)")
	c.Flags().IntVar(&p.Writes, "writes", 200000, "how many writes in all")
	c.Flags().BoolVar(&storm, "storm", false, "measure connections that come at once instead: accept, two reads, two writes")
	c.Flags().BoolVar(&asJSON, "json", false, "print the figures as JSON")
	return c
}

// measureFloor returns this process's processor time for one write(2) of
// floorBytes to one of many established sockets, whose other ends a second
// process reads.
func measureFloor(ctx context.Context, p floorPlan) (figures floorFigures, err error) {
	self, err := os.Executable()
	if err != nil {
		return figures, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return figures, err
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sink := exec.CommandContext(ctx, self, sinkArg, l.Addr().String(), strconv.Itoa(p.Sockets))
	sink.Stderr = os.Stderr
	out, err := sink.StdoutPipe()
	if err != nil {
		return figures, err
	}
	if err := sink.Start(); err != nil {
		return figures, err
	}
	fds := make([]int, 0, p.Sockets)
	closeAll := func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
		fds = nil
	}
	defer func() {
		cancel()
		closeAll()
		sink.Wait() // it has said what it had to say, or was told to end
	}()
	for len(fds) < p.Sockets {
		nc, err := l.Accept()
		if err != nil {
			return figures, err
		}
		f, err := nc.(*net.TCPConn).File()
		nc.Close()
		if err != nil {
			return figures, err
		}
		fd, err := unix.Dup(int(f.Fd())) // blocking: a full socket waits, as a bare loop would
		f.Close()
		if err != nil {
			return figures, err
		}
		fds = append(fds, fd)
	}
	used, err := p.write(ctx, fds)
	if err != nil {
		return figures, err
	}
	figures.PerWriteUS = float64(used.Nanoseconds()) / 1e3
	closeAll() // the sink reports when all its sockets have ended
	return figures, json.NewDecoder(out).Decode(&figures.Delivery)
}

// write goes round fds and returns the processor time a write.
func (p floorPlan) write(ctx context.Context, fds []int) (time.Duration, error) {
	if p.Group == 0 {
		p.Group = p.Sockets
	}
	frame := make([]byte, floorBytes)
	began := time.Now()
	used, err := selfTime()
	if err != nil {
		return 0, err
	}
	at, groups := 0, max(p.Writes/p.Group, 1)
	for n := range groups {
		if p.Rate > 0 {
			// Not the runtime's timers: they are no part of a bare loop.
			if d := time.Until(began.Add(time.Duration(float64(n) / p.Rate * 1e9))); d > 0 {
				wait := unix.NsecToTimespec(int64(d))
				_ = unix.Nanosleep(&wait, nil) // EINTR: this group comes a little early
			}
		}
		binary.LittleEndian.PutUint64(frame, uint64(time.Now().UnixNano()))
		for range p.Group {
			if _, err := unix.Write(fds[at], frame); err != nil {
				return 0, err
			}
			at = (at + 1) % len(fds)
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	end, err := selfTime()
	return (end - used) / time.Duration(groups*p.Group), err
}

func selfTime() (time.Duration, error) {
	var r unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()), err
}

// serveSink connects, reads until the connections end, and reports how long the
// frames were under way.
func serveSink(addr string, sockets int, out io.Writer) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	all := histogram() // guarded by mu
	for n := range sockets {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+n%localAddresses))}}
		nc, err := d.Dial("tcp", addr)
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer nc.Close()
			frame := make([]byte, floorBytes)
			for {
				if _, err := io.ReadFull(nc, frame); err != nil {
					return // the writer is done
				}
				recordSince(all, &mu, int64(binary.LittleEndian.Uint64(frame)))
			}
		})
	}
	wg.Wait()
	return json.NewEncoder(out).Encode(quantilesOf(all))
}

func recordSince(h *hdrhistogram.Histogram, mu *sync.Mutex, at int64) {
	took := time.Duration(time.Now().UnixNano() - at)
	mu.Lock()
	defer mu.Unlock()
	_ = h.RecordValue(max(took.Microseconds(), 1)) // above ten minutes it does not count
}
