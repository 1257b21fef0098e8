package signin_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

// patience bounds each wait for something that must happen; only a fault meets it.
const patience = 60 * time.Second

// within polls ok until it says true.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("%s did not happen within %v", what, patience)
		}
	}
}

// realBox is a pipitd, as it is started by hand, that keeps its address.
type realBox struct {
	t         *testing.T
	bin, data string
	addr      string
	cmd       *exec.Cmd
	box       *apiclient.Client
}

func newRealBox(t *testing.T) *realBox {
	t.Helper()
	dir, err := os.MkdirTemp("", "pipit-signin-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if out, err := exec.Command("go", "build", "-o", dir+"/", "github.com/pipit-im/pipit/cmd/pipit", "github.com/pipit-im/pipit/cmd/pipitd").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b := &realBox{t: t, bin: dir, data: filepath.Join(dir, "d")}
	for b.addr == "" { // below the ports that the kernel gives away
		addr := fmt.Sprint("127.0.0.1:", 20_000+rand.IntN(12_000))
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			b.addr = addr
		}
	}
	b.box = apiclient.New(b.data)
	t.Cleanup(b.box.Close)
	b.start()
	t.Cleanup(func() { b.end() })
	return b
}

func (b *realBox) url() string { return "http://" + b.addr }

func (b *realBox) start() {
	b.t.Helper()
	b.cmd = exec.Command(filepath.Join(b.bin, "pipitd"), "--data-dir", b.data, "--listen", b.addr, "--metrics-listen", "")
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	within(b.t, "pipitd becoming ready", func() bool {
		status, err := b.box.Status(context.Background())
		return err == nil && status.Ready && status.PID == b.cmd.Process.Pid
	})
}

func (b *realBox) end() {
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait() // it was killed
}

// said is what a process says while others look.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// login is a pipit login that waits.
type login struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err said
}

var openThis = regexp.MustCompile(`Open (\S+)`)

// login starts pipit login and returns it with the address that it shows.
func (b *realBox) login() (*login, string) {
	b.t.Helper()
	l := &login{t: b.t, cmd: exec.Command(filepath.Join(b.bin, "pipit"), "login", b.url())}
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.err
	if err := l.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = l.cmd.Process.Kill() })
	within(b.t, "an address to open", func() bool { return strings.Contains(l.err.String(), "Waiting") })
	return l, openThis.FindStringSubmatch(l.err.String())[1]
}

// ended waits for it and returns its exit code and what it printed.
func (l *login) ended() (code int, out string) {
	l.t.Helper()
	_ = l.cmd.Wait() // the code says it
	return l.cmd.ProcessState.ExitCode(), l.out.String()
}

func (b *realBox) me(token string) int {
	b.t.Helper()
	req, err := http.NewRequest("GET", b.url()+"/v1/me", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// TestPipitLogin is the tool against the server, both as they are installed: it gets
// a token when the person agrees, says so when he does not or when the code is
// worth nothing any more, and the token ends with the sign-in.
func TestPipitLogin(t *testing.T) {
	b := newRealBox(t)
	if _, err := b.box.AddTenant(t.Context(), tenant, "Oakhill"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.box.AddUser(t.Context(), tenant, apiclient.NewPerson{Username: "ann", Name: "Ann Lee", Role: "owner", Password: password}); err != nil {
		t.Fatal(err)
	}
	agrees, at := b.login()
	refuses, at2 := b.login()
	v := newBrowser(t, ann)
	v.visit(at)
	v.fields = map[string]string{"username": "ann", "password": password, "decision": "deny"}
	v.visit(at2)

	code, token := agrees.ended()
	token = strings.TrimSpace(token)
	if code != 0 || strings.ContainsAny(token, " \n") || b.me(token) != http.StatusOK {
		t.Errorf("agreed: code %d, token %q, /v1/me %d\n%s\n%s", code, token, b.me(token), agrees.err.String(), v.page)
	}
	if code, out := refuses.ended(); code != 1 || out != "" || !strings.Contains(refuses.err.String(), "The server refused: The person did not agree.") {
		t.Errorf("refused: code %d, output %q\n%s", code, out, refuses.err.String())
	}
	if err := b.box.SignOutUser(t.Context(), tenant, "ann"); err != nil {
		t.Fatal(err)
	}
	if status := b.me(token); status != http.StatusUnauthorized {
		t.Errorf("the token of a sign-in that was ended: %d", status)
	}

	// Codes live for ten minutes, and no longer than the server.
	late, _ := b.login()
	if err := late.cmd.Process.Signal(syscall.SIGSTOP); err != nil { // it must not ask while nobody answers
		t.Fatal(err)
	}
	b.end()
	b.start()
	if err := late.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if code, out := late.ended(); code != 1 || out != "" || !strings.Contains(late.err.String(), "The code is unknown or has expired. Begin again.") {
		t.Errorf("expired: code %d, output %q\n%s", code, out, late.err.String())
	}
}
