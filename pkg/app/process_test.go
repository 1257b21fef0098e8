package app

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestUnderSystemd runs the real pipitd as a unit would: sockets passed by name
// (sd_listen_fds(3)), readiness, reload, stop and watchdog told to NOTIFY_SOCKET
// (sd_notify(3)). A frozen process feeds no watchdog.
func TestUnderSystemd(t *testing.T) {
	dir, err := os.MkdirTemp("", "pipit-unit-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	binary := filepath.Join(dir, "pipitd")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/pipit-im/pipit/cmd/pipitd").CombinedOutput(); err != nil {
		t.Fatalf("building pipitd: %v\n%s", err, out)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()

	// The shell knows the process id that the variables must name.
	cmd := exec.Command("sh", "-c", `export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$0" --data-dir "$1" --metrics-listen ""`, binary, filepath.Join(dir, "d"))
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=http", "NOTIFY_SOCKET="+filepath.Join(dir, "n"), "WATCHDOG_USEC=400000",
		"PIPIT_LISTEN=127.0.0.1:1") // not to be listened on: sockets that were passed win
	cmd.ExtraFiles = []*os.File{socket}
	var log output
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails if it has ended
		select {
		case <-ended:
		default:
		}
		if t.Failed() {
			t.Logf("log:\n%s", log.String())
		}
	})

	// told waits for a message with that assignment and returns all of it.
	told := func(want string) string {
		t.Helper()
		b := make([]byte, 4096)
		if err := notify.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for {
			n, err := notify.Read(b)
			if err != nil {
				t.Fatalf("systemd was not told %s: %v", want, err)
			}
			for line := range strings.Lines(string(b[:n])) {
				if strings.TrimSpace(line) == want {
					return string(b[:n])
				}
			}
		}
	}
	told("READY=1")
	resp, err := http.Get("http://" + l.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("readyz on the passed socket: %d", resp.StatusCode)
	}
	told("WATCHDOG=1")
	told("WATCHDOG=1")
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGHUP)
	if text := told("RELOADING=1"); !strings.Contains(text, "MONOTONIC_USEC=") {
		t.Errorf("reload without its moment: %q", text)
	}
	told("READY=1")

	// Frozen: what was sent before is read, and then there is nothing.
	signal(syscall.SIGSTOP)
	b := make([]byte, 4096)
	for silent := false; !silent; {
		if err := notify.SetReadDeadline(time.Now().Add(800 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, err := notify.Read(b)
		silent = errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !silent {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGCONT)
	told("WATCHDOG=1")

	signal(syscall.SIGTERM)
	told("STOPPING=1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("pipitd ended with %v", err)
		}
	case <-ctx.Done():
		t.Fatal("pipitd did not stop")
	}
	if text := log.String(); strings.Contains(text, "Next, in another terminal") || !strings.Contains(text, "memory_limit_from") {
		t.Errorf("a unit's log is for the journal, and says where the memory limit came from:\n%s", text)
	}
	// The socket is systemd's: it is open still, for the next start.
	if c, err := net.Dial("tcp", l.Addr().String()); err != nil {
		t.Errorf("the passed socket was closed: %v", err)
	} else {
		c.Close()
	}
}
