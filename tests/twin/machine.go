// Package twin boots Pipit's card image as a container of the machine that tests it: the
// same Debian, for this processor, in systemd-nspawn, with the real .deb, the image's
// own overlay tree and its first process. What a boot of the arm64 image in QEMU takes a
// minute for, this does in seconds; what it can't show is in image/README.md.
//
// A Root is an installed system in a folder, a Machine is one that runs. The container
// has a network of its own, with nothing in it but its own loopback: no address of the
// host, none outside. Dial reaches it. The data partition is a file with ext4, the boot
// partition another (FAT is not in every kernel).
//
// It needs root, mmdebstrap and systemd-container. The base system is made once and kept
// in ${XDG_CACHE_HOME:-~/.cache}/pipit, keyed by what goes into it.
package twin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds each wait for something that must happen; only a fault meets it.
const patience = 2 * time.Minute

// Root is an installed system that is not running.
type Root struct {
	Dir      string // its /
	DataFile string // with the data partition
	BootFile string // with the boot partition
}

// run executes a command of the host and fails the test if it fails.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// NewRoot unpacks the base into a folder. With deb, that package is installed; with
// appliance, the image's overlay lies over it and the partitions are made.
func NewRoot(t *testing.T, deb string, appliance bool) *Root {
	t.Helper()
	dir, err := os.MkdirTemp("", "pipit-twin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	r := &Root{Dir: filepath.Join(dir, "root"), DataFile: filepath.Join(dir, "data.ext4"), BootFile: filepath.Join(dir, "boot.ext4")}
	if err := os.Mkdir(r.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, "tar", "-C", r.Dir, "-xpf", base(t), "--numeric-owner")
	if deb != "" {
		r.Install(t, deb)
	}
	if !appliance {
		return r
	}
	run(t, "sh", "-c", `tar -C "$0" -c --owner=0 --group=0 --mode=u=rwX,go=rX . | tar -C "$1" -xp --keep-directory-symlink`, "../../image/overlay", r.Dir)
	for _, d := range []string{"boot/firmware", "data"} {
		if err := os.MkdirAll(filepath.Join(r.Dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, mib := range map[string]int64{r.DataFile: 1024, r.BootFile: 8} {
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, mib<<20)); err != nil {
			t.Fatal(err)
		}
		run(t, "mkfs.ext4", "-q", "-F", "-L", "data", "-E", "lazy_itable_init=0", "-O", "^has_journal", file)
	}
	run(t, "tune2fs", "-O", "has_journal", r.DataFile)
	r.PutBoot(t, map[string]string{"README.md": "../../provisioning/README.md", "pipit.yaml": "../../provisioning/pipit.yaml"})
	return r
}

// Install installs a package into the system that is not running, as the image is made.
func (r *Root) Install(t *testing.T, deb string) string {
	t.Helper()
	run(t, "cp", deb, filepath.Join(r.Dir, "pipit.deb"))
	defer os.Remove(filepath.Join(r.Dir, "pipit.deb"))
	return run(t, "chroot", r.Dir, "dpkg", "--install", "/pipit.deb")
}

// PutBoot copies files of the host (by their path) to the boot partition, as a person
// with a PC does. A path of "" makes an empty file.
func (r *Root) PutBoot(t *testing.T, files map[string]string) {
	t.Helper()
	for name, from := range files {
		if from == "" {
			from = os.DevNull
		}
		run(t, "debugfs", "-w", "-R", "rm "+name, r.BootFile)
		if from == os.DevNull {
			empty := filepath.Join(t.TempDir(), "empty")
			if err := os.WriteFile(empty, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			from = empty
		}
		run(t, "debugfs", "-w", "-R", fmt.Sprintf("write %s %s", from, name), r.BootFile)
	}
}

// GetBoot returns a file of the boot partition, "" if it is not there.
func (r *Root) GetBoot(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("debugfs", "-R", "cat "+name, r.BootFile).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Machine is a system that runs.
type Machine struct {
	t       *testing.T
	nspawn  *exec.Cmd
	ended   chan error
	leader  int // process id of its first process, on the host
	console *bytes.Buffer
}

// Boot starts the system as the card does: read-only, by its own first process.
func (r *Root) Boot(t *testing.T) *Machine {
	t.Helper()
	m := &Machine{t: t, ended: make(chan error, 1), console: new(bytes.Buffer)}
	args := []string{"--read-only", "--setenv=PIPIT_DATA=" + m.loop(r.DataFile), "--setenv=PIPIT_BOOT=" + m.loop(r.BootFile)}
	for _, a := range args[1:] {
		args = append(args, "--bind="+a[strings.LastIndexByte(a, '=')+1:])
	}
	m.start(r, append(args, "/usr/lib/pipit/init")...)
	return m
}

// BootStock starts the system as any Debian: writable, by systemd itself.
func (r *Root) BootStock(t *testing.T) *Machine {
	t.Helper()
	m := &Machine{t: t, ended: make(chan error, 1), console: new(bytes.Buffer)}
	m.start(r, "/usr/lib/systemd/systemd")
	return m
}

// loop returns a loop device of file; it goes with the test.
func (m *Machine) loop(file string) string {
	m.t.Helper()
	dev := strings.TrimSpace(run(m.t, "losetup", "--find", "--show", file))
	m.t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
			m.t.Errorf("losetup --detach %s: %v %s", dev, err, out)
		}
	})
	return dev
}

// start runs nspawn and waits until the system has started all that it starts.
func (m *Machine) start(r *Root, args ...string) {
	m.t.Helper()
	m.nspawn = exec.Command("systemd-nspawn", append([]string{"--quiet", "--register=no", "--keep-unit", "--private-network",
		"--machine=" + filepath.Base(filepath.Dir(r.Dir)), "--kill-signal=SIGRTMIN+3", "--console=pipe", "--setenv=SYSTEMD_COLORS=0", "--directory=" + r.Dir}, args...)...)
	// Hosts that mount cgroup v1 have a v2 hierarchy beside it; the systemd inside needs that.
	m.nspawn.Env = append(os.Environ(), "UNIFIED_CGROUP_HIERARCHY=1")
	m.nspawn.Stdout, m.nspawn.Stderr = m.console, m.console
	group := m.cgroup()
	m.nspawn.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:     true, // not the terminal's Ctrl-C, but the end of the test
		UseCgroupFD: true, CgroupFD: int(group.Fd()),
	}
	err := m.nspawn.Start()
	if err := errors.Join(err, group.Close()); err != nil {
		m.t.Fatal(err)
	}
	go func() { m.ended <- m.nspawn.Wait() }()
	m.t.Cleanup(m.kill)
	for m.leader == 0 {
		m.pause("its first process")
		m.leader = m.child()
	}
	for {
		// 1: degraded, which is for the test to judge.
		out, err := m.Try("systemctl", "is-system-running", "--wait")
		if state := strings.TrimSpace(out); err == nil || state == "degraded" {
			return
		}
		m.pause("the end of its start: " + out)
	}
}

// cgroup makes a control group for the machine alone. Two in one would take each other's
// services for their own, and kill them.
func (m *Machine) cgroup() *os.File {
	m.t.Helper()
	mount := strings.TrimSpace(run(m.t, "findmnt", "-n", "-t", "cgroup2", "-o", "TARGET", "--first-only"))
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		m.t.Fatal(err)
	}
	_, path, _ := strings.Cut(string(own), "0::")
	path, _, _ = strings.Cut(path, "\n")
	dir, err := os.MkdirTemp(filepath.Join(mount, path), "pipit-twin-")
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { // after kill, which is registered later
		// Groups are removed from the leaves up, and only when their processes are gone.
		for range 100 {
			_ = exec.Command("find", dir, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";").Run() // tried again
			if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		m.t.Errorf("%s can't be removed: something of the machine runs still", dir)
	})
	f, err := os.Open(dir)
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

// pause waits a moment, and fails the test if the machine has ended.
func (m *Machine) pause(what string) {
	m.t.Helper()
	select {
	case err := <-m.ended:
		m.ended <- err
		m.t.Fatalf("the twin ended (%v) while waiting for %s\n%s", err, what, m.console)
	case <-m.t.Context().Done():
		m.t.Fatalf("the test ended while waiting for %s", what)
	case <-time.After(50 * time.Millisecond):
	}
}

// child returns the process id of the container's first process, 0 if it is not there
// yet. nspawn has one child in the end.
func (m *Machine) child() int {
	out, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", m.nspawn.Process.Pid, m.nspawn.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(out))
	if len(fields) != 1 {
		return 0
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0
	}
	// It is the one once it is process 1 of its own namespace and systemd.
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil || !bytes.Contains(status, []byte(fmt.Sprintf("NSpid:\t%d\t1\n", pid))) || !bytes.HasPrefix(status, []byte("Name:\tsystemd\n")) {
		return 0
	}
	return pid
}

// kill pulls the plug of a machine that was not shut down.
func (m *Machine) kill() {
	select {
	case <-m.ended:
		return
	default:
	}
	if m.t.Failed() && m.leader != 0 {
		journal, err := m.Try("journalctl", "--no-pager", "-n", "120", "-o", "short-monotonic")
		m.t.Logf("console:\n%s\njournal (%v):\n%s", m.console, err, journal)
	}
	if m.leader != 0 {
		_ = syscall.Kill(m.leader, syscall.SIGKILL) // fails only if it is gone
	} else {
		_ = m.nspawn.Process.Kill()
	}
	<-m.ended
}

// PowerOff shuts the machine down in order.
func (m *Machine) PowerOff() {
	m.t.Helper()
	if out, err := m.Try("systemctl", "poweroff"); err != nil {
		m.t.Fatalf("poweroff: %v %s", err, out)
	}
	select {
	case err := <-m.ended:
		m.ended <- err
		if err != nil {
			m.t.Errorf("the twin ended with %v\n%s", err, m.console)
		}
	case <-time.After(patience):
		m.t.Fatalf("the twin does not power off\n%s", m.console)
	}
}

// Try runs a command inside and returns what it printed.
func (m *Machine) Try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.leader), "-a",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root"}, args...)...).CombinedOutput()
	return string(out), err
}

// Run runs a command inside and fails the test if it fails.
func (m *Machine) Run(args ...string) string {
	m.t.Helper()
	out, err := m.Try(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(out)
}

// Path returns the name under which the host sees a file of the machine.
func (m *Machine) Path(name string) string { return fmt.Sprintf("/proc/%d/root%s", m.leader, name) }

// Show returns a property of a unit.
func (m *Machine) Show(unit, property string) string {
	m.t.Helper()
	return m.Run("systemctl", "show", "--value", "-p", property, unit)
}

// Within waits until ok says true.
func (m *Machine) Within(what string, ok func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); m.pause(what) {
		if time.Now().After(deadline) {
			m.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// Dial connects from inside the machine's network: the socket is made on a thread that
// has moved there, and stays what it is wherever it is used.
func (m *Machine) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return within(m.leader, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, addr) })
}

// within makes a socket in the network of another process.
func within[T any](pid int, open func() (T, error)) (T, error) {
	type result struct {
		socket T
		err    error
	}
	out := make(chan result, 1)
	go func() {
		// Never unlocked: the thread is of no use to others and ends with the goroutine.
		runtime.LockOSThread()
		var r result
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			err = errors.Join(unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET), ns.Close())
		}
		if r.err = err; err == nil {
			r.socket, r.err = open()
		}
		out <- r
	}()
	r := <-out
	return r.socket, r.err
}
