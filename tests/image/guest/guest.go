// Package guest runs Pipit's card image in a virtual machine, as a Raspberry Pi
// would run the card: the firmware's part is played by reading config.txt and
// cmdline.txt on the boot partition, then the image's own kernel takes over.
//
// It owns the QEMU process and the folder with the guest's kernel and console
// log; [Guest.Cut] pulls the plug. The guest reaches nothing outside, and is
// reached through ports of 127.0.0.1 only. Emulation is slow (a boot takes one to
// a few minutes), so every wait is for an event or the end of QEMU, bounded by
// the context alone.
//
// A Guest is for one goroutine; Run, HTTP and the ports may be used by many.
package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// Options say which card to boot in which machine.
type Options struct {
	// Card is the image file; the guest writes to it.
	Card string
	// Disk is where QEMU finds the card's content if that is not Card itself, such as nbd:unix:PATH.
	Disk string
	// Processors is how many the machine has. An emulated processor that waits for
	// another one is as busy as if it worked.
	Processors int
	// MemoryMiB is the machine's memory.
	MemoryMiB int
	// Clock is what the clock says at power-on, as QEMU's -rtc base takes it; empty is now.
	Clock string
	// Key signs in over SSH as User. Its public half must have been put into pipit.yaml.
	Key  ssh.Signer
	User string
	// Dir holds the kernel and the console log. It must exist.
	Dir string
	// Append is added to the kernel's command line.
	Append string
}

// Guest is a running machine.
type Guest struct {
	opts    Options
	cmd     *exec.Cmd
	done    chan struct{} // closed when QEMU has ended
	ports   map[int]int   // port in the guest to port of 127.0.0.1
	console string

	mu  sync.Mutex
	ssh *ssh.Client
}

// virtual is what the kernel is told beside cmdline.txt. The last console is the one
// that programs write to, and it tells what is started. PID 1 of an emulated machine
// that shares its processor can need more than the 14 s that a Pi's watchdog gives. The
// page table's isolation, which a Pi 4's kernel has only for the sake of a random address
// of its own, throws the emulator's table of addresses away at each system call; what
// the kernel does against guesses of a real processor is work for nothing here.
const virtual = "console=ttyAMA0 systemd.show_status=1 systemd.watchdog_sec=120s kpti=off mitigations=off"

// guestPorts are those that can be reached.
var guestPorts = []int{22, 80, 443}

// Available says what is missing to run guests, or nil.
func Available() error {
	for tool, pkg := range map[string]string{"qemu-system-aarch64": "qemu-system-arm", "mcopy": "mtools", "sfdisk": "fdisk"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("needs %s (Debian: %s)", tool, pkg)
		}
	}
	return nil
}

// Start boots the card. The caller must Cut or Wait for the end.
func Start(opts Options) (*Guest, error) {
	g := &Guest{opts: opts, done: make(chan struct{}), ports: make(map[int]int), console: filepath.Join(opts.Dir, "console.log")}
	boot, err := readBoot(opts.Card, opts.Dir)
	if err != nil {
		return nil, err
	}
	forwards := ""
	for _, p := range guestPorts {
		free, err := freePort()
		if err != nil {
			return nil, err
		}
		g.ports[p] = free
		forwards += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", free, p)
	}
	disk := opts.Disk
	if disk == "" {
		disk = opts.Card
	}
	rtc := "base=utc"
	if opts.Clock != "" {
		rtc = "base=" + opts.Clock
	}
	args := []string{
		"-M", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi", "-smp", strconv.Itoa(opts.Processors), "-m", strconv.Itoa(opts.MemoryMiB),
		"-display", "none", "-monitor", "none", "-serial", "file:" + g.console, "-rtc", rtc,
		"-kernel", boot.kernel, "-initrd", boot.initrd,
		"-append", strings.TrimSpace(boot.cmdline + " " + virtual + " " + opts.Append),
		"-drive", "file=" + disk + ",format=raw,if=none,id=card,cache=writeback,discard=unmap,detect-zeroes=unmap", "-device", "virtio-blk-pci,drive=card",
		// No ROM to boot from the network, which would be another package (ipxe-qemu).
		"-netdev", "user,id=net,restrict=on" + forwards, "-device", "virtio-net-pci,netdev=net,romfile=",
		"-device", "i6300esb", "-action", "watchdog=reset", "-device", "virtio-rng-pci",
	}
	g.cmd = exec.Command("qemu-system-aarch64", args...)
	out, err := os.Create(filepath.Join(opts.Dir, "qemu.log"))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	g.cmd.Stdout, g.cmd.Stderr = out, out
	// A test that dies takes its machine with it.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.done)
	}()
	return g, nil
}

// boot is what the firmware would load.
type boot struct{ kernel, initrd, cmdline string }

// readBoot does the firmware's part: config.txt names kernel and initramfs,
// cmdline.txt is the command line.
func readBoot(card, dir string) (boot, error) {
	fat, err := OpenFAT(card)
	if err != nil {
		return boot{}, err
	}
	config, err := fat.Read("config.txt")
	if err != nil {
		return boot{}, err
	}
	cmdline, err := fat.Read("cmdline.txt")
	if err != nil {
		return boot{}, err
	}
	b := boot{kernel: filepath.Join(dir, "kernel"), initrd: filepath.Join(dir, "initrd"), cmdline: strings.TrimSpace(string(cmdline))}
	names := map[string]string{}
	for line := range strings.Lines(string(config)) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), "#")
		if name, ok := strings.CutPrefix(line, "kernel="); ok {
			names[name] = b.kernel
		}
		if f := strings.Fields(line); len(f) == 3 && f[0] == "initramfs" && f[2] == "followkernel" {
			names[f[1]] = b.initrd
		}
	}
	if len(names) != 2 {
		return boot{}, fmt.Errorf("guest: config.txt names no kernel or no initramfs: %v", names)
	}
	for name, to := range names {
		if err := fat.Extract(name, to); err != nil {
			return boot{}, err
		}
	}
	return b, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Addr is where the guest's port is reached.
func (g *Guest) Addr(port int) string { return "127.0.0.1:" + strconv.Itoa(g.ports[port]) }

// Done is closed when the machine has ended.
func (g *Guest) Done() <-chan struct{} { return g.done }

// Cut pulls the plug: QEMU is killed and what the guest had not flushed to the
// disk is the disk's to keep or to lose.
func (g *Guest) Cut() {
	_ = g.cmd.Process.Kill()
	<-g.done
	g.hangUp()
}

// CPU is what the machine has used so far, when it has ended.
func (g *Guest) CPU() time.Duration {
	if s := g.cmd.ProcessState; s != nil {
		return s.UserTime() + s.SystemTime()
	}
	return 0
}

// Console is what QEMU and the machine have printed so far.
func (g *Guest) Console() string {
	b, err := os.ReadFile(g.console)
	if err != nil {
		return err.Error()
	}
	if said, err := os.ReadFile(filepath.Join(g.opts.Dir, "qemu.log")); err == nil { // why QEMU did not even start
		b = append(said, b...)
	}
	return string(bytes.ToValidUTF8(b, []byte("?")))
}

// Tail is the end of the console.
func (g *Guest) Tail(lines int) string {
	all := strings.Split(strings.TrimSpace(g.Console()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Until calls try until it returns nil. It gives up when ctx ends or the machine
// does, and then says what the last try said and what the console shows.
func (g *Guest) Until(ctx context.Context, what string, try func(context.Context) error) error {
	for {
		once, stop := context.WithTimeout(ctx, 90*time.Second) // a handshake of an emulated machine takes its time
		err := try(once)
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("guest: %s: %w; console:\n%s", what, err, g.Tail(40))
		case <-g.done:
			return fmt.Errorf("guest: %s: the machine ended: %w; console:\n%s", what, err, g.Tail(40))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Run runs a shell command in the guest over SSH and returns what it printed,
// also when it failed. It signs in anew if the connection broke.
func (g *Guest) Run(ctx context.Context, command string) (string, error) {
	return g.RunIn(ctx, command, nil)
}

// RunIn is Run with something on standard input.
func (g *Guest) RunIn(ctx context.Context, command string, in io.Reader) (string, error) {
	client, err := g.signIn(ctx)
	if err != nil {
		return "", err
	}
	// A machine that was reset does not answer on its old connection.
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	session, err := client.NewSession()
	if err != nil {
		g.hangUp()
		return "", fmt.Errorf("guest: session: %w", errors.Join(err, ctx.Err()))
	}
	defer session.Close()
	session.Stdin = in
	out, err := session.CombinedOutput(command)
	if err != nil {
		var exit *ssh.ExitError
		if !errors.As(err, &exit) {
			g.hangUp()
		}
		return string(out), fmt.Errorf("guest: %s: %w: %s", command, errors.Join(err, ctx.Err()), strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// Pipe runs a command in the guest with in and out as its standard input and
// output, until it ends.
func (g *Guest) Pipe(ctx context.Context, command string, in io.Reader, out io.Writer) error {
	client, err := g.signIn(ctx)
	if err != nil {
		return err
	}
	session, err := client.NewSession()
	if err != nil {
		return fmt.Errorf("guest: session: %w", err)
	}
	defer session.Close()
	stop := context.AfterFunc(ctx, func() { session.Close() })
	defer stop()
	session.Stdin, session.Stdout = in, out
	return session.Run(command)
}

func (g *Guest) signIn(ctx context.Context) (*ssh.Client, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ssh != nil {
		return g.ssh, nil
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", g.Addr(22))
	if err != nil {
		return nil, fmt.Errorf("guest: ssh: %w", err)
	}
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	}
	c, channels, requests, err := ssh.NewClientConn(conn, g.Addr(22), &ssh.ClientConfig{
		User: g.opts.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(g.opts.Key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), // the tests compare host keys themselves
	})
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("guest: ssh: %w", err)
	}
	_ = conn.SetDeadline(time.Time{})
	g.ssh = ssh.NewClient(c, channels, requests)
	return g.ssh, nil
}

func (g *Guest) hangUp() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ssh != nil {
		g.ssh.Close()
		g.ssh = nil
	}
}
