package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

// server is a running pipitd.
type server struct {
	cmd    *exec.Cmd
	data   string
	plain  string
	box    *apiclient.Client
	stderr bytes.Buffer
}

// start runs pipitd on a data directory and waits until it is ready.
func (b *bench) start(ctx context.Context, data string, more ...string) (*server, error) {
	return b.startIn(ctx, nil, data, more...)
}

// startIn does so in a cgroup, if there is one.
func (b *bench) startIn(ctx context.Context, g *cgroup, data string, more ...string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	args := append([]string{"--data-dir", data, "--listen", addr, "--metrics-listen", "", "--log-level", "warn",
		"--limits-connections", "19000", "--limits-sends-per-minute", "1000000"}, more...)
	cmd := exec.Command(filepath.Join(b.bin, "pipitd"), args...)
	if g != nil {
		cmd = exec.Command("sh", append([]string{"-c", `echo $$ >"$0"/cgroup.procs && exec "$@"`, g.dir, cmd.Path}, args...)...)
	}
	s := &server{cmd: cmd, data: data, plain: addr, box: apiclient.New(data)}
	s.cmd.Stderr = &s.stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for {
		status, err := s.box.Status(ctx)
		if err == nil && status.Ready && status.PID == s.pid() {
			return s, nil
		}
		if ctx.Err() != nil || s.cmd.Process.Signal(syscall.Signal(0)) != nil {
			return nil, errors.Join(fmt.Errorf("pipitd did not start: %s", s.stderr.String()), err, s.kill())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// fresh runs pipitd on a new data directory.
func (b *bench) fresh(ctx context.Context, more ...string) (*server, error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	return b.start(ctx, data, more...)
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop ends the server as systemd does.
func (s *server) stop() error {
	s.box.Close()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("pipitd: %w: %s", err, s.stderr.String())
	}
	return nil
}

// kill ends it without a word.
func (s *server) kill() error {
	s.box.Close()
	err := s.cmd.Process.Kill()
	s.cmd.Wait() // it was killed: its status says nothing
	return err
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// report is what is used of pipit-load's report.
type report struct {
	Duration   float64 `json:"duration_s"`
	Acked      int     `json:"acked"`
	Refused    int     `json:"refused"`
	Deliveries int     `json:"deliveries"`
	Lost       int     `json:"lost"`
	Doubled    int     `json:"doubled"`
	OutOfOrder int     `json:"out_of_order"`
	SendsPerS  float64 `json:"sends_per_s"`
	Ack        spread  `json:"ack_ms"`
	Delivery   spread  `json:"delivery_ms"`
	Connecting float64 `json:"connecting_s"`
	ConnectCPU float64 `json:"server_cpu_connecting_s"`
	CPUPerDel  float64 `json:"server_cpu_us_per_delivery"`
	Memory     struct {
		RSS  int64 `json:"rss_bytes"`
		Anon int64 `json:"rss_anon_bytes"`
		File int64 `json:"rss_file_bytes"`
	} `json:"server_memory"`
	Written int64 `json:"server_written_bytes"`
	Commits int   `json:"commits"`
}

// spread is in milliseconds.
type spread struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

// load runs pipit-load against s. Faults count against the whole run.
func (b *bench) load(ctx context.Context, s *server, profile string, users int, d time.Duration, more ...string) (*report, error) {
	var r report
	err := b.loadJSON(ctx, &r, append([]string{profile, "--data-dir", s.data, "--users", strconv.Itoa(users), "--duration", d.String()}, more...)...)
	if n := r.Lost + r.Doubled + r.OutOfOrder; n > 0 || err == nil {
		b.saw("faults", float64(n), "%s, %d users: %d deliveries, %d refused", profile, users, r.Deliveries, r.Refused)
	}
	return &r, err
}

func (b *bench) loadJSON(ctx context.Context, out any, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(b.bin, "pipit-load"), append(args, "--json")...)
	var stderr, stdout bytes.Buffer
	cmd.Stderr, cmd.Stdout = &stderr, &stdout
	err := cmd.Run()
	if stdout.Len() > 0 {
		err = errors.Join(err, json.Unmarshal(stdout.Bytes(), out))
	}
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return fmt.Errorf("pipit-load %s: %w: %s", strings.Join(args, " "), err, lines[len(lines)-1])
	}
	return nil
}

// floor is the bare write loop of pipit-load.
type floor struct {
	US       float64 `json:"us_per_write"`
	Delivery spread  `json:"delivery_ms"`
}

func (b *bench) floor(ctx context.Context, sockets, group, writes int, rate float64) (f floor, err error) {
	err = b.loadJSON(ctx, &f, "floor", "--sockets", strconv.Itoa(sockets), "--group", strconv.Itoa(group),
		"--writes", strconv.Itoa(writes), "--rate", strconv.FormatFloat(rate, 'f', -1, 64))
	return f, err
}

// bareStorm is the processor time, in seconds, of a bare loop for so many
// connections at once.
func (b *bench) bareStorm(ctx context.Context, conns int) (float64, error) {
	var bare struct {
		Seconds float64 `json:"storm_s"`
	}
	err := b.loadJSON(ctx, &bare, "floor", "--storm", "--sockets", strconv.Itoa(conns))
	return bare.Seconds, err
}

// procStatus reads a line of /proc/PID/status, in bytes.
func procStatus(pid int, name string) (int64, error) {
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(p)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, name)
}

// watchAnon looks at RssAnon twice a second until the returned function is called,
// which says the highest that was seen.
func (s *server) watchAnon() func() int64 {
	stop, most := make(chan struct{}), make(chan int64)
	go func() {
		highest := int64(0)
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if n, err := procStatus(s.pid(), "RssAnon"); err == nil { // else it has ended, which others notice
					highest = max(highest, n)
				}
			case <-stop:
				most <- highest
				return
			}
		}
	}()
	return func() int64 { close(stop); return <-most }
}

// heap returns the server's live heap after a collection.
func (s *server) heap(ctx context.Context) (int64, error) {
	var text bytes.Buffer
	if _, err := s.box.Stream(ctx, "GET", "/debug/pprof/heap?gc=1&debug=1", &text); err != nil {
		return 0, err
	}
	for line := range strings.Lines(text.String()) {
		if rest, ok := strings.CutPrefix(line, "# HeapAlloc = "); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, errors.New("the heap profile has no HeapAlloc")
}

// sessions waits until the server has n sessions.
func (s *server) sessions(ctx context.Context, n int) error {
	for {
		status, err := s.box.Status(ctx)
		if err != nil || status.Sessions == n {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d sessions of %d: %w", status.Sessions, n, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}
