package sysd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary play the server that systemd starts.
const childEnv = "PIPIT_TEST_SYSD_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "listeners" {
		listenersChild()
		return
	}
	os.Exit(m.Run())
}

// listenersChild prints what it was handed, and whether the variables are gone.
func listenersChild() {
	ls, err := Listeners()
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	var names []string
	for name, group := range ls {
		for _, l := range group {
			names = append(names, name+" "+l.Addr().String())
		}
	}
	slices.Sort(names)
	fmt.Println(strings.Join(names, "\n"))
	again, err := Listeners()
	fmt.Println("again:", len(again), err, os.Getenv("LISTEN_FDS") == "", "sockets:", openSockets())
}

// openSockets counts descriptors that are sockets: what was handed over must not
// stay open beside its listener.
func openSockets() int {
	n := 0
	for fd := range 64 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			n++
		}
	}
	return n
}

// activate starts the test binary as systemd would: sockets from descriptor 3
// on, their names, and its own process id in LISTEN_PID.
func activate(t *testing.T, names string, files ...*os.File) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, exe)
	cmd.Env = append(os.Environ(), childEnv+"=listeners", fmt.Sprintf("LISTEN_FDS=%d", len(files)), "LISTEN_FDNAMES="+names)
	cmd.ExtraFiles = files
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func tcpFile(t *testing.T) (*os.File, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, l.Addr().String()
}

func TestListenersFromSystemd(t *testing.T) {
	a, addrA := tcpFile(t)
	b, addrB := tcpFile(t)
	c, addrC := tcpFile(t)
	want := []string{"http " + addrA, "http " + addrC}
	slices.Sort(want)
	want = append(want, "https "+addrB, "again: 0 <nil> true sockets: 3", "")
	if got := activate(t, "http:https:http", a, b, c); got != strings.Join(want, "\n") {
		t.Errorf("got\n%swant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestListenersRefused(t *testing.T) {
	tcp, _ := tcpFile(t)
	if got := activate(t, "pipit.socket", tcp); !strings.Contains(got, "error:") || !strings.Contains(got, "FileDescriptorName=http or https") {
		t.Errorf("unnamed socket: %s", got)
	}
	ul, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ul.Close()
	uf, err := ul.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer uf.Close()
	if got := activate(t, "http", uf); !strings.Contains(got, `error: sockets from systemd: "http" (unix): want a TCP socket`) {
		t.Errorf("unix socket: %s", got)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if got := activate(t, "http", null); !strings.Contains(got, `"http" is no listening socket`) {
		t.Errorf("no socket: %s", got)
	}
}

func TestListenersByHand(t *testing.T) {
	t.Setenv("LISTEN_FDS", "3")
	t.Setenv("LISTEN_PID", "1") // meant for another process
	if ls, err := Listeners(); err != nil || len(ls) != 0 {
		t.Errorf("%v, %v", ls, err)
	}
}

// notifySocket stands in for systemd and returns what it is told next.
func notifySocket(t *testing.T) (next func() string) {
	t.Helper()
	addr := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	c, err := net.ListenUnixgram("unixgram", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", addr.Name)
	return func() string {
		t.Helper()
		if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
}

func TestNotify(t *testing.T) {
	next := notifySocket(t)
	for _, tc := range []struct {
		send func() error
		want string
	}{
		{func() error { return Ready("serving 127.0.0.1:8080") }, "READY=1\nSTATUS=serving 127.0.0.1:8080"},
		{func() error { return Stopping("closing\nMAINPID=1") }, "STOPPING=1\nSTATUS=closing MAINPID=1"},
		{func() error { return Status("4000 people") }, "STATUS=4000 people"},
		{feed, "WATCHDOG=1"},
	} {
		if err := tc.send(); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
	var before, after unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &before); err != nil {
		t.Fatal(err)
	}
	if err := Reloading(); err != nil {
		t.Fatal(err)
	}
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &after); err != nil {
		t.Fatal(err)
	}
	var usec int64
	if _, err := fmt.Sscanf(next(), "RELOADING=1\nMONOTONIC_USEC=%d", &usec); err != nil {
		t.Fatal(err)
	}
	if usec < before.Nano()/1000 || usec > after.Nano()/1000 {
		t.Errorf("reload at %d us, not between %d and %d", usec, before.Nano()/1000, after.Nano()/1000)
	}
	if !Supervised() {
		t.Error("not supervised")
	}
}

func TestNotifyByHandAndBroken(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Ready("x"); err != nil || Supervised() {
		t.Errorf("%v, %v", err, Supervised())
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	if err := Ready("x"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("%v", err)
	}
}
