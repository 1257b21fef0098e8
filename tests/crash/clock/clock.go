//go:build linux && amd64

// Package clock gives a program a wall clock that lies: the box's real binary can be tried with the clock of a Pi that
// wakes in 1970, is set right, and leaps by decades, without a change to the binary or to this machine's clock.
//
// The program asks the kernel for the time, and a seccomp filter that was made before it began hands these calls to us
// (SECCOMP_RET_USER_NOTIF, seccomp_unotify(2)). It asks because it finds no vDSO that would answer by itself: we blank
// that entry of its auxiliary vector while it waits in the first system call of the Go runtime, arch_prctl(2), which
// comes before the vector is read. The monotonic clock stays true, as on a Pi.
//
// Linux since 5.6 on amd64 only, static Go programs only. A test binary that uses it calls [Shim] first in TestMain.
package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// shimEnv is set for the process that installs the filter and becomes the program.
const shimEnv = "PIPIT_FALSE_CLOCK_SHIM"

// Clock is a wall clock that is off by a settable amount. Its methods may be called from anywhere.
type Clock struct {
	off    atomic.Int64 // nanoseconds to add to the true time
	asked  atomic.Int64
	failed atomic.Pointer[error]
}

// Leap moves the clock by d, which may be negative.
func (c *Clock) Leap(d time.Duration) { c.off.Add(int64(d)) }

// Set sets the clock; from then on it goes as fast as the true one.
func (c *Clock) Set(t time.Time) { c.off.Store(int64(time.Until(t))) }

// Now is what programs with this clock are told.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.off.Load())) }

// Asked is how often programs have asked for the time: none means that they were not deceived.
func (c *Clock) Asked() int64 { return c.asked.Load() }

// Err is the first thing that went wrong while answering, or nil.
func (c *Clock) Err() error {
	if p := c.failed.Load(); p != nil {
		return *p
	}
	return nil
}

func (c *Clock) fail(err error) { c.failed.CompareAndSwap(nil, &err) }

// Start starts cmd with this clock, as cmd.Start does; cmd.Wait is the caller's. The program starts through this
// process's own binary, see [Shim].
func (c *Clock) Start(cmd *exec.Cmd) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := pair[0], os.NewFile(uintptr(pair[1]), "filter")
	defer unix.Close(ours)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Args = append([]string{self, cmd.Path}, cmd.Args[1:]...)
	cmd.Env = append(cmd.Env, shimEnv+"="+strconv.Itoa(3+len(cmd.ExtraFiles)))
	cmd.Path = self
	cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	if err := errors.Join(cmd.Start(), theirs.Close()); err != nil {
		return err
	}
	listener, err := receive(ours)
	if err != nil {
		return errors.Join(fmt.Errorf("false clock: no filter came: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	go c.answer(listener)
	return nil
}

// receive takes the descriptor that the shim sends.
func receive(from int) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(from, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("%d messages: %w", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	return fds[0], nil
}

const (
	atNull         = 0
	atIgnore       = 1
	atSysinfoEhdr  = 33 // the vDSO's address
	startStack     = 28 // field of /proc/PID/stat, proc_pid_stat(5)
	mostStackWords = 1 << 16
)

// hideVDSO blanks the vDSO's entry in the auxiliary vector, which lies behind arguments and environment where the
// stack of a new process begins.
func hideVDSO(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	_, after, _ := strings.Cut(string(stat), ") ") // behind field 2, which may hold spaces
	fields := strings.Fields(after)
	if len(fields) < startStack-2 {
		return errors.New("stat has too few fields")
	}
	at, err := strconv.ParseInt(fields[startStack-3], 10, 64)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	word := func() (v uint64) {
		var b [8]byte
		if _, rerr := mem.ReadAt(b[:], at); rerr != nil && err == nil {
			err = rerr
		}
		at += 8
		return binary.NativeEndian.Uint64(b[:])
	}
	argc := word()
	if err != nil || argc > mostStackWords {
		return fmt.Errorf("no stack where it should begin (%d arguments): %w", argc, err)
	}
	at += int64(argc+1) * 8 // the arguments and the null behind them
	for range mostStackWords {
		if word() == 0 {
			break
		}
	}
	for range mostStackWords {
		switch key := word(); {
		case err != nil:
			return err
		case key == atNull:
			return nil // no vDSO at all
		case key == atSysinfoEhdr:
			_, err := mem.WriteAt(binary.NativeEndian.AppendUint64(nil, atIgnore), at-8)
			return err
		}
		word()
	}
	return errors.New("no end of the auxiliary vector")
}

// The kernel's structures, seccomp_unotify(2).
type notif struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type reply struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

const (
	notifRecv         = 3<<30 | unsafe.Sizeof(notif{})<<16 | '!'<<8
	notifSend         = 3<<30 | unsafe.Sizeof(reply{})<<16 | '!'<<8 | 1
	userNotifContinue = 1
)

// answer tells the programs the time until the last of them has ended.
func (c *Clock) answer(listener int) {
	defer unix.Close(listener)
	for {
		fds := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			c.fail(fmt.Errorf("poll: %w", err))
			return
		}
		if fds[0].Revents&unix.POLLIN == 0 {
			if fds[0].Revents != 0 {
				return // nobody is left who could ask
			}
			continue
		}
		var n notif
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifRecv, uintptr(unsafe.Pointer(&n))); e != 0 {
			if e != unix.EINTR && e != unix.ENOENT { // ENOENT: who asked has ended meanwhile
				c.fail(fmt.Errorf("receive: %w", e))
				return
			}
			continue
		}
		r := reply{id: n.id}
		if n.nr == unix.SYS_ARCH_PRCTL {
			r.flags = userNotifContinue
			if err := hideVDSO(int(n.pid)); err != nil {
				c.fail(fmt.Errorf("hide the vDSO: %w", err))
			}
		} else {
			ts := unix.NsecToTimespec(c.Now().UnixNano())
			b := unsafe.Slice((*byte)(unsafe.Pointer(&ts)), int(unsafe.Sizeof(ts)))
			local := []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}
			remote := []unix.RemoteIovec{{Base: uintptr(n.args[1]), Len: len(b)}}
			if _, err := unix.ProcessVMWritev(int(n.pid), local, remote, 0); err != nil {
				r.errno = -int32(unix.EFAULT)
			}
			c.asked.Add(1)
		}
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(listener), notifSend, uintptr(unsafe.Pointer(&r))); e != 0 && e != unix.ENOENT {
			c.fail(fmt.Errorf("answer: %w", e))
			return
		}
	}
}

// Shim does nothing, but in the process that [Clock.Start] made: there it becomes the program and does not return.
func Shim() {
	v := os.Getenv(shimEnv)
	if v == "" {
		return
	}
	fmt.Fprintln(os.Stderr, "false clock:", shim(v))
	os.Exit(126)
}

func shim(v string) error {
	fd, err := strconv.Atoi(v)
	if err != nil || len(os.Args) < 2 {
		return errors.New("started by hand")
	}
	runtime.LockOSThread() // the filter is this thread's, and the program goes on from it
	listener, err := install()
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	if err := unix.Sendmsg(fd, []byte{0}, unix.UnixRights(listener), nil, 0); err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	unix.CloseOnExec(fd)
	env := os.Environ()
	for i, e := range env {
		if strings.HasPrefix(e, shimEnv+"=") {
			env = append(env[:i:i], env[i+1:]...)
			break
		}
	}
	return fmt.Errorf("exec: %w", unix.Exec(os.Args[1], os.Args[1:], env))
}

// install gives this thread a filter that asks for the time of the wall clock, precise or coarse, and when a program
// begins, and returns where it asks.
func install() (listener int, err error) {
	const (
		offNr, offArch, offArg0 = 0, 4, 16 // of struct seccomp_data, little-endian
		retNotif, retAllow      = 0x7fc00000, 0x7fff0000
		setModeFilter, newFD    = 1, 1 << 3
	)
	load := func(k uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: k}
	}
	jeq := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jt: yes, Jf: no}
	}
	ret := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	prog := []unix.SockFilter{
		load(offArch), jeq(unix.AUDIT_ARCH_X86_64, 0, 7),
		load(offNr), jeq(unix.SYS_ARCH_PRCTL, 4, 0), jeq(unix.SYS_CLOCK_GETTIME, 0, 4),
		load(offArg0), jeq(unix.CLOCK_REALTIME, 1, 0), jeq(unix.CLOCK_REALTIME_COARSE, 0, 1),
		ret(retNotif),
		ret(retAllow),
	}
	f := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	fd, _, e := unix.RawSyscall(unix.SYS_SECCOMP, setModeFilter, newFD, uintptr(unsafe.Pointer(&f)))
	if e != 0 {
		return -1, e
	}
	return int(fd), nil
}
