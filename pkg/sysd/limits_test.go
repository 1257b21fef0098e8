package sysd

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	val := func(n uint64) func() (uint64, error) { return func() (uint64, error) { return n, nil } }
	fails := func() (uint64, error) { return 0, errors.New("no cgroup") }
	const gib = 1 << 30
	for _, tc := range []struct {
		name           string
		env            string
		configured     int64
		cgroup, system func() (uint64, error)
		want           MemoryLimit
	}{
		{"cgroup below RAM", "", 0, val(512 << 20), val(gib), MemoryLimit{Bytes: usualMemory, Most: (512 << 20) / 10 * 9, Source: "cgroup"}},
		{"cgroup above RAM", "", 0, val(2 * gib), val(gib), MemoryLimit{Bytes: usualMemory, Most: gib / 4 * 3, Source: "machine"}},
		{"cgroup is RAM", "", 0, val(gib), val(gib), MemoryLimit{Bytes: usualMemory, Most: gib / 4 * 3, Source: "machine"}},
		{"RAM unknown", "", 0, val(1000), fails, MemoryLimit{Bytes: 900, Most: 900, Source: "cgroup"}},
		{"no cgroup", "", 0, fails, val(gib), MemoryLimit{Bytes: usualMemory, Most: gib / 4 * 3, Source: "machine"}},
		{"configured", "", 77, val(1000), val(gib), MemoryLimit{Bytes: 77, Most: 77, Source: "memory.limit_bytes"}},
		{"GOMEMLIMIT", "1GiB", 77, val(1000), val(gib), MemoryLimit{Source: "GOMEMLIMIT"}},
	} {
		if got := memoryLimit(tc.env, tc.configured, tc.cgroup, tc.system); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// TestMemoryFollows: the bound rises above what is in use for long, not for a
// peak, never over the most there is, and comes down again.
func TestMemoryFollows(t *testing.T) {
	const mib = 1 << 20
	l := MemoryLimit{Bytes: 96 * mib, Most: 300 * mib, now: 96 * mib}
	for _, c := range []struct {
		what       string
		live       int64
		looks      int
		want, last int64 // while it lasts, and at its end
	}{
		{"usual", 40 * mib, 100, 96 * mib, 96 * mib},
		{"a compaction", 100 * mib, 3, 96 * mib, 96 * mib},
		{"usual again", 40 * mib, 1, 96 * mib, 96 * mib},
		{"many people", 80 * mib, 4, 96 * mib, 120 * mib},
		{"more than there is", 250 * mib, 4, 120 * mib, 300 * mib},
		{"night", 60 * mib, 30, 300 * mib, 96 * mib},
	} {
		for i := range c.looks {
			want := c.want
			if i == c.looks-1 {
				want = c.last
			}
			if got := l.follow(c.live); got != want {
				t.Fatalf("%s, look %d: %d MiB, want %d", c.what, i, got/mib, want/mib)
			}
		}
	}
}

func TestSetMemoryLimit(t *testing.T) {
	old := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(old)
	t.Setenv("GOMEMLIMIT", "")
	const want = int64(3) << 30
	if got := SetMemoryLimit(want); got.Bytes != want || debug.SetMemoryLimit(-1) != want {
		t.Errorf("%+v, runtime has %d", got, debug.SetMemoryLimit(-1))
	}
	t.Setenv("GOMEMLIMIT", "3GiB")
	if got := SetMemoryLimit(1 << 20); got.Source != "GOMEMLIMIT" || got.Bytes != want || debug.SetMemoryLimit(-1) != want {
		t.Errorf("%+v, runtime has %d", got, debug.SetMemoryLimit(-1))
	}
	t.Setenv("GOMEMLIMIT", "")
	if got := SetMemoryLimit(0); got.Follow() != got.Bytes || got.Bytes <= 0 || got.Bytes > usualMemory || debug.SetMemoryLimit(-1) != got.Bytes {
		t.Errorf("%+v, runtime has %d", got, debug.SetMemoryLimit(-1))
	}
	if n, err := MachineMemory(); err != nil || n < 64<<20 {
		t.Errorf("machine has %d bytes, %v", n, err)
	}
}

func TestRaiseDescriptorLimit(t *testing.T) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	low := syscall.Rlimit{Cur: r.Max / 2, Max: r.Max}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
			t.Error(err)
		}
	}()
	soft, hard, err := RaiseDescriptorLimit()
	var now syscall.Rlimit
	if e := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); e != nil {
		t.Fatal(e)
	}
	if err != nil || soft != r.Max || hard != r.Max || now.Cur != r.Max {
		t.Errorf("soft %d, hard %d, %v; the kernel says %d of %d", soft, hard, err, now.Cur, r.Max)
	}
}

// TestUnmapProgram: pages of the program's own file leave the process, and it goes on.
func TestUnmapProgram(t *testing.T) {
	resident := func() (kB int) {
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(status), "RssFile:")
		if _, err := fmt.Sscan(after, &kB); err != nil {
			t.Fatal(err)
		}
		return kB
	}
	before := resident()
	if err := UnmapProgram(); err != nil {
		t.Fatal(err)
	}
	if after := resident(); after >= before*3/4 {
		t.Errorf("%d kB of files before, %d after", before, after)
	}
}
