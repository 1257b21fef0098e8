package prealloc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// sized makes a file of a size and returns how many bytes of blocks it has.
func sized(t *testing.T, name string, size int64) (int64, error) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != size {
		t.Errorf("%s has %d bytes, want %d", name, st.Size, size)
	}
	return st.Blocks * 512, nil
}

// TestWatch: a file gets the blocks that the policy says with its size, a file
// elsewhere stays sparse, and so does one after the watch has ended.
func TestWatch(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	stop, err := Watch(dir, func(name string, size int64) (int64, bool) {
		if name == "half" {
			return size / 2, false
		}
		return size, false
	})
	if err != nil {
		t.Fatalf("this kernel does not do it: %v", err)
	}
	const size = 1 << 20
	for _, c := range []struct {
		name string
		want int64
	}{{filepath.Join(dir, "whole"), size}, {filepath.Join(dir, "half"), size / 2}, {filepath.Join(other, "none"), 0}} {
		if n, err := sized(t, c.name, size); err != nil || n < c.want || n > c.want+64<<10 {
			t.Errorf("%s: %d bytes of blocks, %v; want %d", c.name, n, err, c.want)
		}
	}
	stop()
	if n, err := sized(t, filepath.Join(dir, "after"), size); err != nil || n > 64<<10 {
		t.Errorf("after the watch: %d bytes of blocks, %v", n, err)
	}
}

// TestFull: on a full file system a sizing fails, or waits for room, as the
// policy says.
func TestFull(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOT PROVEN: mounting a small file system needs root")
	}
	dir := t.TempDir()
	const size = 4 << 20
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size+256<<10)); err != nil {
		t.Skipf("SKIPPED, NOT PROVEN: cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	asked := make(chan struct{}, 1)
	stop, err := Watch(dir, func(name string, size int64) (int64, bool) {
		if name == "waits" {
			asked <- struct{}{}
		}
		return size, name == "waits"
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	hog := filepath.Join(dir, "hog")
	if _, err := sized(t, hog, size); err != nil {
		t.Fatal(err)
	}
	if _, err := sized(t, filepath.Join(dir, "fails"), size); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("sizing a file without room: %v, want ENOSPC", err)
	}
	done := make(chan error)
	go func() {
		n, err := sized(t, filepath.Join(dir, "waits"), size)
		if err == nil && n < size {
			err = fmt.Errorf("%d bytes of blocks", n)
		}
		done <- err
	}()
	<-asked
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("with room again: %v", err)
	}
}
