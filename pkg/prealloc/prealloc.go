// Package prealloc gives files their blocks in the moment in which they get their
// size: for a library that sizes a file and then writes it through a mapping,
// where a full disk is no error but a SIGBUS that ends the process.
//
// How: the process puts a seccomp filter on itself that hands every ftruncate to
// a listener in the same process (seccomp user notification, Linux 5.7 or newer).
// The listener allocates what the policy of the file's directory asks for, if need
// be waits until there is room, and lets the call go on. Other system calls pass
// the filter at some nanoseconds each. Nothing else stands between the call that
// sizes such a file and the first write to its mapping.
//
// It owns the filter, which stays for the life of the process and is inherited by
// programs it starts: those must not outlive it if they use ftruncate. Without
// the right to CAP_SYS_ADMIN it also gives up the right to gain privileges
// (no_new_privs). It never sizes, writes or removes a file.
//
// All functions may be called from any goroutine. The listener is one goroutine,
// and one more for each call that waits; they end with the process.
package prealloc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Policy says what a file is given that is about to grow to size: how many bytes
// of blocks, from its start on, and whether to wait until there is room for them. If not, the call
// fails with ENOSPC. name is the file's without directory. It is called on the
// listener's goroutine, so it must not block and never size a file itself.
type Policy func(name string, size int64) (blocks int64, wait bool)

// retryEvery is how often a call that waits looks for room; there is no event
// for that.
const retryEvery = 20 * time.Millisecond

var guard struct {
	once sync.Once
	err  error
	mu   sync.Mutex // guards dirs
	dirs map[string]Policy
}

// Watch applies a policy to the files right in dir that get a size from now on,
// until the returned function is called. The error says why this machine cannot
// do it; nothing is changed then.
func Watch(dir string, p Policy) (stop func(), err error) {
	dir, err = filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, err
	}
	guard.once.Do(func() { guard.err = install() })
	if guard.err != nil {
		return nil, guard.err
	}
	guard.mu.Lock()
	defer guard.mu.Unlock()
	if guard.dirs == nil {
		guard.dirs = map[string]Policy{}
	}
	guard.dirs[dir] = p
	return func() {
		guard.mu.Lock()
		defer guard.mu.Unlock()
		delete(guard.dirs, dir)
	}, nil
}

// The kernel's structures: struct seccomp_notif and seccomp_notif_resp.
type notice struct {
	id      uint64
	tid     uint32
	flags   uint32
	nr      int32
	arch    uint32
	pointer uint64
	args    [6]uint64
}

type answer struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

const (
	notifRecv = 0xc0502100 // SECCOMP_IOCTL_NOTIF_RECV
	notifSend = 0xc0182101 // SECCOMP_IOCTL_NOTIF_SEND
	goOn      = 1          // SECCOMP_USER_NOTIF_FLAG_CONTINUE

	retAllow  = 0x7fff0000
	retNotify = 0x7fc00000
)

// install puts the filter on all threads and starts the listener.
func install() error {
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4}, // seccomp_data.arch
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jf: 3},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: sysFtruncate, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: retNotify},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	const flags = unix.SECCOMP_FILTER_FLAG_TSYNC | unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	load := func() (int, error) {
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
		if errno != 0 {
			return -1, errno
		}
		return int(fd), nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fd, err := load()
	if errors.Is(err, unix.EACCES) {
		// The kernel asks for that of whoever lacks CAP_SYS_ADMIN; TSYNC gives it to
		// all threads.
		if err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err == nil {
			fd, err = load()
		}
	}
	if err != nil {
		return fmt.Errorf("seccomp user notification: %w", err)
	}
	unix.CloseOnExec(fd)
	go listen(fd)
	return nil
}

func ioctl(fd int, what uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), what, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// listen answers every ftruncate of the process, for good.
func listen(fd int) {
	for {
		n := new(notice)
		if err := ioctl(fd, notifRecv, unsafe.Pointer(n)); err != nil {
			continue // EINTR, or ENOENT: who called has gone
		}
		file, blocks, wait := look(n)
		if blocks == 0 {
			reply(fd, n, nil)
			continue
		}
		err := allocate(file, blocks)
		if !wait || !full(err) {
			reply(fd, n, err)
			continue
		}
		go func() {
			for full(err) {
				time.Sleep(retryEvery)
				err = allocate(file, blocks)
			}
			reply(fd, n, err)
		}()
	}
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// reply lets the call go on, or fail if there is no room. Any other error means
// that blocks cannot be had beforehand here: then it is as it would be without.
func reply(fd int, n *notice, err error) {
	a := answer{id: n.id, flags: goOn}
	if full(err) {
		a.flags, a.errno = 0, -int32(unix.ENOSPC)
	}
	_ = ioctl(fd, notifSend, unsafe.Pointer(&a)) // ENOENT: a signal made the caller ask again
}

// look finds what the file of a call is to be given; 0 blocks: nothing.
func look(n *notice) (file int, blocks int64, wait bool) {
	size := sizeOf(n)
	if size <= 0 {
		return 0, 0, false
	}
	if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(int(n.tid))); err != nil {
		return 0, 0, false // a program that was started from here
	}
	file = int(int32(n.args[0]))
	var st unix.Stat_t
	if unix.Fstat(file, &st) != nil || st.Size >= size {
		return 0, 0, false
	}
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(file))
	if err != nil {
		return 0, 0, false
	}
	guard.mu.Lock()
	p := guard.dirs[filepath.Dir(path)]
	guard.mu.Unlock()
	if p == nil {
		return 0, 0, false
	}
	blocks, wait = p(filepath.Base(path), size)
	return file, blocks, wait
}

// allocate gives a file blocks without changing its size. The descriptor stays
// what it is: its owner is inside the call that waits.
func allocate(file int, blocks int64) error {
	for {
		err := unix.Fallocate(file, unix.FALLOC_FL_KEEP_SIZE, 0, blocks)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
