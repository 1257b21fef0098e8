// Package crash_test ends the real pipitd in the ways that a box in a cupboard ends it: the power is cut, the process
// is killed, the disk is full. Whatever was acknowledged must be there afterwards, exactly once and in order.
//
// Each test builds the binary, puts load on it through pkg/client, records every acknowledgement (tests/crash/history),
// ends it, starts it again and compares. What is not acknowledged may be there or not.
package crash_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pipit-im/pipit/tests/crash/clock"
)

// patience bounds each wait for something that must happen; it is long because only a fault meets it.
const patience = 60 * time.Second

var binDir string

func TestMain(m *testing.M) {
	clock.Shim()
	code := 1
	var err error
	if binDir, err = os.MkdirTemp("", "pipit-bin-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
		if err := os.RemoveAll(binDir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// build builds the server's binary with more arguments, and returns its path.
func build(name string, args ...string) (string, error) {
	path := filepath.Join(binDir, name)
	args = append(append([]string{"build", "-o", path}, args...), "github.com/pipit-im/pipit/cmd/pipitd")
	out, err := exec.Command("go", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building pipitd: %w\n%s", err, out)
	}
	return path, nil
}

// pipitd is the path of the server's binary, built once.
var pipitd = sync.OnceValues(func() (string, error) { return build("pipitd") })

// within runs ok every few milliseconds until it says true, or fails the test after patience.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not happen within %v", what, patience)
		case <-tick.C:
		}
	}
}

// place is where a server runs: it outlives each process, so clients find the next one at the same address.
type place struct {
	addr string
	env  []string
	bin  string                // another binary than pipitd
	run  func(*exec.Cmd) error // another way to start it than by itself
}

// freeAddr returns an address that nobody listens on, outside the range of ports that the kernel gives to outgoing connections: one of
// those, even the client's own attempt to reconnect, could take it while the server is down.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// newPlace takes a free port. Settings are NAME=value without PIPIT_. The store is kept small, so that a short load rotates and
// compacts its files too.
func newPlace(t *testing.T, settings ...string) *place {
	t.Helper()
	p := &place{addr: freeAddr(t)}
	for _, v := range os.Environ() {
		// The environment of the tests is not the server's: a setting or a socket of systemd in it would be obeyed.
		if !strings.HasPrefix(v, "PIPIT_") && !strings.HasPrefix(v, "LISTEN_") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			p.env = append(p.env, v)
		}
	}
	for _, v := range append([]string{
		"LISTEN=" + p.addr, "METRICS_LISTEN=", "LOG_FORMAT=text", "LIMITS_SENDS_PER_MINUTE=1000000",
		"STORAGE_MEMTABLE_BYTES=2MiB", "STORAGE_CACHE_BYTES=4MiB",
		"STORAGE_LOW_WATER_BYTES=32MiB", "STORAGE_RESERVE_BYTES=8MiB",
	}, settings...) {
		p.env = append(p.env, "PIPIT_"+v)
	}
	return p
}

func (p *place) url() string { return "http://" + p.addr }

// server is one process of pipitd.
type server struct {
	*place
	data  string
	cmd   *exec.Cmd
	said  *tail
	ended chan struct{} // closed when the process is gone
	ready time.Duration // from start to ready
}

// start runs pipitd on the data directory and returns when it is ready, or why it is not.
func (p *place) start(t *testing.T, data string) (*server, error) {
	t.Helper()
	path, err := p.bin, error(nil)
	if path == "" {
		path, err = pipitd()
	}
	if err != nil {
		t.Fatal(err)
	}
	s := &server{place: p, data: data, said: new(tail), ended: make(chan struct{})}
	s.cmd = exec.Command(path)
	s.cmd.Env = append(p.env, "PIPIT_DATA_DIR="+data)
	s.cmd.Stdout, s.cmd.Stderr = s.said, s.said
	begin := p.run
	if begin == nil {
		begin = (*exec.Cmd).Start
	}
	began := time.Now()
	if err := begin(s.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // the exit state is read from the process
	}()
	t.Cleanup(s.kill)
	err = nil
	within(t, "pipitd becoming ready", func() bool {
		select {
		case <-s.ended:
			err = fmt.Errorf("pipitd ended by itself: %v\n%s", s.cmd.ProcessState, s.said)
			return true
		default:
			return s.isReady()
		}
	})
	s.ready = time.Since(began)
	return s, err
}

// mustStart is start for a server that has to become ready.
func (p *place) mustStart(t *testing.T, data string) *server {
	t.Helper()
	s, err := p.start(t, data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var probe = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (s *server) isReady() bool {
	resp, err := probe.Get(s.url() + "/readyz")
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

func (s *server) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// kill is kill -9; it returns when the process is gone. Killing a dead one does nothing.
func (s *server) kill() {
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(err)
	}
	<-s.ended
}

// stop asks for an orderly end and returns when it has come.
func (s *server) stop(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	within(t, "pipitd stopping", func() bool { return !s.alive() })
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("pipitd stopped with code %d\n%s", code, s.said)
	}
}

// tail keeps the last of what a process printed.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 8 << 10

func (w *tail) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, p...)
	if over := len(w.b) - tailBytes; over > 0 {
		w.b = append(w.b[:0], w.b[over:]...)
	}
	return len(p), nil
}

func (w *tail) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return "last words of pipitd:\n" + string(bytes.ToValidUTF8(w.b, []byte("?")))
}

// shortDir makes a directory with a short path: that of a socket in it is bounded.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pipit-crash-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
