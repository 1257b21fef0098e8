package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Available returns nil if disks work on this machine, or the reason why not in one sentence that says what would help.
// It tries once per process.
var Available = sync.OnceValue(func() error {
	if os.Geteuid() != 0 {
		return errors.New("the power-cut disk needs root, to mount file systems")
	}
	for tool, pkg := range map[string]string{"nbdfuse": "libnbd-bin", "mkfs.ext4": "e2fsprogs"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("the power-cut disk needs %s, which Debian has in the package %s", tool, pkg)
		}
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("the power-cut disk needs /dev/fuse: %w", err)
	}
	fuse.Close()
	if err := tryMount(); err != nil {
		return fmt.Errorf("the power-cut disk needs loop devices and ext4: %w", err)
	}
	return nil
})

// tryMount mounts a small ext4: a container may show the devices and still forbid the mount.
func tryMount() (err error) {
	dir, err := os.MkdirTemp("", "pipit-try-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	at := filepath.Join(dir, "mnt")
	img := &Image{path: filepath.Join(dir, "image")}
	if err := errors.Join(os.Mkdir(at, 0o700), os.WriteFile(img.path, nil, 0o600), os.Truncate(img.path, 4<<20)); err != nil {
		return err
	}
	if err := makeExt4(img.path); err != nil {
		return err
	}
	return errors.Join(img.Mount(at), img.Close())
}

// Need ends the test if [Available] has a reason: by skipping it, or, where the environment has CI=true, by failing
// it, since a pipeline that skips the proof of durability has not proved it.
func Need(tb testing.TB) {
	tb.Helper()
	err := Available()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("CANNOT RUN: %v", err)
	}
	tb.Skipf("NOT PROVED HERE: %v", err)
}
