package sysd

import (
	"fmt"
	"os"
	"runtime/debug"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// MemoryLimit is the soft bound that the Go runtime works under.
type MemoryLimit struct {
	Bytes  int64  // 0 = none
	Source string // "GOMEMLIMIT", "memory.limit_bytes", "cgroup" or "none"
}

// SetMemoryLimit sets the runtime's soft memory bound and says what it is and
// why. GOMEMLIMIT, where somebody set it, wins; then configured (bytes, 0 =
// unset); then nine tenths of the cgroup's limit (the unit's MemoryMax=, the
// container's) or of any cgroup above it, if that is less than the machine has.
// The tenth is for what the runtime does not count: mapped files, stacks of
// threads, the kernel's socket buffers.
func SetMemoryLimit(configured int64) MemoryLimit {
	l := memoryLimit(os.Getenv("GOMEMLIMIT"), configured, memlimit.FromCgroup, memlimit.FromSystem)
	switch l.Source {
	case "GOMEMLIMIT":
		l.Bytes = debug.SetMemoryLimit(-1) // the runtime has read it already
	case "none":
	default:
		debug.SetMemoryLimit(l.Bytes)
	}
	return l
}

func memoryLimit(env string, configured int64, cgroup, system func() (uint64, error)) MemoryLimit {
	if env != "" {
		return MemoryLimit{Source: "GOMEMLIMIT"}
	}
	if configured > 0 {
		return MemoryLimit{Bytes: configured, Source: "memory.limit_bytes"}
	}
	// No cgroup, no limit in it, or a hierarchy we cannot read: all mean that
	// nobody set one for us.
	limit, err := cgroup()
	if err != nil || limit == 0 {
		return MemoryLimit{Source: "none"}
	}
	if ram, err := system(); err == nil && ram > 0 && limit >= ram {
		return MemoryLimit{Source: "none"}
	}
	return MemoryLimit{Bytes: int64(limit / 10 * 9), Source: "cgroup"}
}

// MachineMemory returns the bytes of RAM of this machine.
func MachineMemory() (uint64, error) {
	n, err := memlimit.FromSystem()
	if err != nil {
		return 0, fmt.Errorf("memory of the machine: %w", err)
	}
	return n, nil
}

// RaiseDescriptorLimit lifts the soft bound on open descriptors to the hard one
// and returns what holds. The Go runtime does the same at its start, but leaves
// no trace of a failure; 4000 people need more than the usual 1024.
func RaiseDescriptorLimit() (soft, hard uint64, err error) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return 0, 0, fmt.Errorf("read descriptor limit: %w", err)
	}
	if r.Cur >= r.Max {
		return r.Cur, r.Max, nil
	}
	old := r.Cur
	r.Cur = r.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		return old, r.Max, fmt.Errorf("raise descriptor limit from %d to %d: %w", old, r.Max, err)
	}
	return r.Cur, r.Max, nil
}
