// Package conformance_test is the client that somebody writes who has only PROTOCOL.md: its own WebSocket, its own JSON,
// nothing of ours but the two binaries. It goes through the sections one by one; each test is named for the one that it
// holds, and each frame that any test receives is held against 1.5, 2.1, 2.3, 3.5, 5.1 and 5.3 besides (lint_test.go).
//
// Tests run in parallel, each in a tenant of its own, most of them against one shared server. Nothing here waits a fixed
// time: what has to come is waited for with patience, and that something does not come is shown by something later that did.
package conformance_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// patience bounds each wait for something that must happen; it is long because only a fault meets it.
const patience = 60 * time.Second

// scratch holds the binaries and the data of the shared servers.
var scratch string

// atEnd is what ends the shared servers.
var atEnd struct {
	sync.Mutex
	list []func()
}

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait for another process, and some for the protocol's own seconds: many at once cost little.
	if err := flag.Set("test.parallel", "24"); err != nil {
		panic(err)
	}
	code := 1
	var err error
	if scratch, err = os.MkdirTemp("", "pipit-conf-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
		for _, end := range atEnd.list {
			end()
		}
		if err := os.RemoveAll(scratch); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// binaries builds pipitd and pipit, once, and returns their directory.
var binaries = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "bin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+string(filepath.Separator),
		"github.com/pipit-im/pipit/cmd/pipitd", "github.com/pipit-im/pipit/cmd/pipit").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building: %w\n%s", err, out)
	}
	return dir, nil
})

// server is a data directory and the pipitd on it.
type server struct {
	data  string
	env   []string
	admin *http.Client
	addr  string // host:port

	cmd   *exec.Cmd
	said  *tail
	ended chan struct{}
}

// Settings are NAME=value without PIPIT_.
func newServer(data string, settings ...string) (*server, error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	s := &server{data: data}
	for _, v := range os.Environ() {
		// The environment of the tests is not the server's: a setting or a socket of systemd in it would be obeyed.
		if !strings.HasPrefix(v, "PIPIT_") && !strings.HasPrefix(v, "LISTEN_") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			s.env = append(s.env, v)
		}
	}
	for _, v := range append([]string{"METRICS_LISTEN=", "LOG_FORMAT=text", "LIMITS_SENDS_PER_MINUTE=100000",
		"STORAGE_LOW_WATER_BYTES=48MiB", "STORAGE_RESERVE_BYTES=8MiB"}, settings...) {
		s.env = append(s.env, "PIPIT_"+v)
	}
	s.admin = &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(data, "admin.sock"))
		},
	}}
	return s, s.start()
}

// start runs pipitd and returns when it is ready; the port is a new one each time.
func (s *server) start() error {
	dir, err := binaries()
	if err != nil {
		return err
	}
	s.said, s.ended = new(tail), make(chan struct{})
	s.cmd = exec.Command(filepath.Join(dir, "pipitd"), "--data-dir", s.data, "--listen", "127.0.0.1:0")
	s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = s.env, s.said, s.said
	if err := s.cmd.Start(); err != nil {
		return err
	}
	cmd, ended := s.cmd, s.ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case <-s.ended:
			return fmt.Errorf("pipitd ended by itself: %v\n%s", s.cmd.ProcessState, s.said)
		case <-tick.C:
		}
		if s.address() == nil {
			if resp, err := http.Get("http://" + s.addr + "/readyz"); err == nil {
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					return nil
				}
			}
		}
	}
	s.kill()
	return fmt.Errorf("pipitd did not become ready\n%s", s.said)
}

// address asks the tool of the technician where the server listens.
func (s *server) address() error {
	if _, err := os.Stat(filepath.Join(s.data, "admin.sock")); err != nil {
		return err
	}
	out, err := s.pipit("", "status", "--json")
	if err != nil {
		return err
	}
	var status struct{ Listen []string }
	if err := json.Unmarshal(out, &status); err != nil {
		return err
	}
	if len(status.Listen) != 1 {
		return fmt.Errorf("pipit status names %d addresses", len(status.Listen))
	}
	s.addr = status.Listen[0]
	return nil
}

// pipit runs the technician's tool on this server.
func (s *server) pipit(stdin string, args ...string) ([]byte, error) {
	dir, err := binaries()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(dir, "pipit"), append([]string{"--data-dir", s.data}, args...)...)
	cmd.Env, cmd.Stdin = s.env, strings.NewReader(stdin)
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("pipit %s: %w\n%s", strings.Join(args, " "), err, words.Bytes())
	}
	return out, nil
}

// kill is kill -9; it returns when the process is gone.
func (s *server) kill() {
	_ = s.cmd.Process.Kill() // it may be gone already
	<-s.ended
}

func (s *server) terminate(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// shared makes a function that returns one server for all who ask.
func shared(name string, settings ...string) func(*testing.T) *server {
	get := sync.OnceValues(func() (*server, error) {
		s, err := newServer(filepath.Join(scratch, name), settings...)
		if err == nil {
			atEnd.Lock()
			atEnd.list = append(atEnd.list, func() {
				select {
				case <-s.ended:
					fmt.Fprintf(os.Stderr, "the server %s ended by itself: %v\n%s\n", name, s.cmd.ProcessState, s.said)
				default:
					s.kill()
				}
			})
			atEnd.Unlock()
		}
		return s, err
	})
	return func(t *testing.T) *server {
		t.Helper()
		s, err := get()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// mainServer is for every test that needs nothing of its own.
var mainServer = shared("main")

// ownServer starts one for this test alone.
func ownServer(t *testing.T, settings ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "own-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := newServer(dir, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Log(s.said)
		}
	})
	return s
}

// operate asks the box's own socket and returns the answer; any error fails the test.
func (s *server) operate(t *testing.T, method, path string, body any) value {
	t.Helper()
	p, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://box"+path, bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.admin.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s %v\n%s", method, path, resp.Status, err, answer)
	}
	if len(answer) == 0 {
		return value{}
	}
	return parse(t, answer)
}

// tenant is an organisation of a test's own.
type tenant struct {
	*server
	id string
}

var serial atomic.Int64

func (s *server) tenant(t *testing.T) *tenant {
	t.Helper()
	id := fmt.Sprintf("t%d", serial.Add(1))
	s.operate(t, "POST", "/admin/tenants", J{"id": id, "name": "Tenant " + id})
	return &tenant{s, id}
}

// person is a user with a token.
type person struct {
	*tenant
	id, username, token string
}

// people makes users, one for each name; "ann:guest" gives a role, else it is staff.
func (tn *tenant) people(t *testing.T, names ...string) []*person {
	t.Helper()
	list := make([]J, len(names))
	for i, name := range names {
		username, role, ok := strings.Cut(name, ":")
		if !ok {
			role = "staff"
		}
		list[i] = J{"username": username, "role": role, "name": username}
	}
	return tn.bulk(t, list)
}

func (tn *tenant) bulk(t *testing.T, list []J) []*person {
	t.Helper()
	got := tn.operate(t, "POST", "/admin/tenants/"+tn.id+"/users-bulk", J{"users": list, "tokens": true})
	people := make([]*person, 0, len(list))
	for _, u := range got.get("users").list() {
		people = append(people, &person{tn, u.get("id").str(), u.get("username").str(), u.get("token").str()})
	}
	return people
}

// two is what most tests need: two members of staff.
func two(t *testing.T) (ann, ben *person) {
	t.Helper()
	p := mainServer(t).tenant(t).people(t, "ann", "ben")
	return p[0], p[1]
}

// tail keeps the last of what a process printed.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailBytes = 16 << 10

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
