package prealloc

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A reserve is a file of real blocks that is given up when there is no room for
// anything else.

// MakeReserve gives the file that many bytes of blocks. A file system that cannot is
// errors.ErrUnsupported.
func MakeReserve(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	err = unix.EINTR
	for errors.Is(err, unix.EINTR) {
		err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	}
	return errors.Join(err, f.Close())
}

// ReserveSize returns how many bytes of real blocks the file has; 0 if it is not there.
func ReserveSize(name string) int64 {
	var st unix.Stat_t
	if unix.Stat(name, &st) != nil {
		return 0
	}
	return min(st.Size, int64(st.Blocks)*512)
}

// DropReserve gives the file up. That it is not there is no error.
func DropReserve(name string) error {
	if err := os.Remove(name); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Free returns the bytes that the file system of dir has left for this process.
func Free(dir string) (int64, error) {
	var st unix.Statfs_t
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.Statfs(dir, &st)
	}
	if err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	blocks := st.Bavail
	if os.Geteuid() == 0 {
		blocks = st.Bfree // root may use what is set aside for it
	}
	return int64(blocks) * int64(st.Bsize), nil
}
