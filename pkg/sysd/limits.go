package sysd

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// MemoryLimit is the soft bound that the Go runtime works under. It belongs to one
// goroutine.
type MemoryLimit struct {
	Bytes  int64  // at the start
	Most   int64  // up to where Follow may raise it; Bytes where somebody set it
	Source string // "GOMEMLIMIT", "memory.limit_bytes", "cgroup" or "machine"

	now         int64
	tight, wide int // looks in a row
}

// usualMemory is what the server asks to stay under where nobody says: it holds
// 4000 people and a million messages in that, but for a compaction, whose garbage
// is then collected sooner.
const usualMemory = 96 << 20

// SetMemoryLimit sets the runtime's soft memory bound and says what it is and
// why. GOMEMLIMIT, where somebody set it, wins; then configured (bytes, 0 =
// unset); then 96 MiB, which Follow raises while more is in use for long: up to
// nine tenths of the cgroup's limit (the unit's MemoryMax=, the container's) or of
// any cgroup above it, if that is less than the machine has, or to three quarters
// of the machine. The rest is for what the runtime does not count: mapped files,
// stacks of threads, the kernel's socket buffers.
func SetMemoryLimit(configured int64) MemoryLimit {
	l := memoryLimit(os.Getenv("GOMEMLIMIT"), configured, memlimit.FromCgroup, memlimit.FromSystem)
	if l.Source == "GOMEMLIMIT" {
		l.Bytes = debug.SetMemoryLimit(-1) // the runtime has read it already
		l.Most = l.Bytes
	}
	l.now = l.Bytes
	debug.SetMemoryLimit(l.Bytes)
	return l
}

func memoryLimit(env string, configured int64, cgroup, system func() (uint64, error)) MemoryLimit {
	if env != "" {
		return MemoryLimit{Source: "GOMEMLIMIT"}
	}
	if configured > 0 {
		return MemoryLimit{Bytes: configured, Most: configured, Source: "memory.limit_bytes"}
	}
	// No cgroup, no limit in it, or a hierarchy we cannot read: all mean that
	// nobody set one for us.
	limit, err := cgroup()
	ram, ramErr := system()
	l := MemoryLimit{Most: 1 << 30, Source: "machine"}
	switch {
	case err == nil && limit > 0 && (ramErr != nil || limit < ram):
		l = MemoryLimit{Most: int64(limit / 10 * 9), Source: "cgroup"}
	case ramErr == nil:
		l.Most = int64(ram / 4 * 3)
	}
	l.Bytes = min(usualMemory, l.Most)
	return l
}

// A bound below what is really in use makes the collector run all the time and
// frees nothing. So Follow raises it when three quarters of it were live for
// tightLooks looks in a row, which no compaction takes, and lowers it again when
// less than half was for wideLooks.
const (
	tightLooks = 4
	wideLooks  = 30
)

// Follow keeps the bound above what is in use, if nobody set it, and returns what
// it is now. Call it every few seconds.
func (l *MemoryLimit) Follow() int64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	if was := l.now; l.follow(int64(live[0].Value.Uint64())) != was {
		debug.SetMemoryLimit(l.now)
	}
	return l.now
}

func (l *MemoryLimit) follow(live int64) int64 {
	l.tight, l.wide = l.tight+1, l.wide+1
	if live <= l.now/4*3 {
		l.tight = 0
	}
	if live >= l.now/2 {
		l.wide = 0
	}
	if l.tight >= tightLooks || l.wide >= wideLooks {
		l.now = min(max(live/2*3, l.Bytes), l.Most)
		l.tight, l.wide = 0, 0
	}
	return l.now
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
