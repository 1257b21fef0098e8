package sysd

import (
	"errors"
	"runtime/debug"
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
		{"cgroup below RAM", "", 0, val(512 << 20), val(gib), MemoryLimit{(512 << 20) / 10 * 9, "cgroup"}},
		{"cgroup above RAM", "", 0, val(2 * gib), val(gib), MemoryLimit{0, "none"}},
		{"cgroup is RAM", "", 0, val(gib), val(gib), MemoryLimit{0, "none"}},
		{"RAM unknown", "", 0, val(1000), fails, MemoryLimit{900, "cgroup"}},
		{"no cgroup", "", 0, fails, val(gib), MemoryLimit{0, "none"}},
		{"configured", "", 77, val(1000), val(gib), MemoryLimit{77, "memory.limit_bytes"}},
		{"GOMEMLIMIT", "1GiB", 77, val(1000), val(gib), MemoryLimit{0, "GOMEMLIMIT"}},
	} {
		if got := memoryLimit(tc.env, tc.configured, tc.cgroup, tc.system); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
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
