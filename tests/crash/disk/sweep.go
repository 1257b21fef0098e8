package disk

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const scratchPrefix = "pipit-disk-"

// scratchName is the MkdirTemp pattern of a scratch directory: it names the process that owns it.
func scratchName(pid int) string { return fmt.Sprintf("%s%d-*", scratchPrefix, pid) }

// abandoned says whether path lies in the scratch directory of a process that no longer lives.
func abandoned(path string) bool {
	_, rest, ok := strings.Cut(path, "/"+scratchPrefix)
	if !ok {
		return false
	}
	digits, _, ok := strings.Cut(rest, "-")
	if !ok {
		return false
	}
	pid, err := strconv.Atoi(digits)
	return err == nil && pid > 0 && errors.Is(unix.Kill(pid, 0), unix.ESRCH)
}

// sweep clears what disks of processes that no longer live left: their mounts, wherever those are, and with the last
// mount the loop device and nbdfuse, which end by themselves; and their scratch directories in dir. A process that was killed by
// the deadline of go test cannot do it itself.
func sweep(dir string) error {
	mounts, err := abandonedMounts()
	if err != nil {
		return err
	}
	for _, at := range mounts {
		// Another process may sweep at the same time.
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("disk: clearing an abandoned mount at %s: %w", at, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, scratchPrefix+"*"))
	if err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	for _, path := range left {
		if !abandoned(path) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("disk: clearing an abandoned scratch directory: %w", err)
		}
	}
	return nil
}

// abandonedMounts returns where abandoned disks are mounted, file systems before the nbdfuse mounts they stand on.
func abandonedMounts() ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("disk: %w", err)
	}
	defer f.Close()
	var above, below []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// proc_pid_mountinfo(5): … (5) mount point … - (9) type (10) source …
		head, tail, ok := strings.Cut(lines.Text(), " - ")
		fields, source := strings.Fields(head), strings.Fields(tail)
		if !ok || len(fields) < 5 || len(source) < 2 {
			continue
		}
		at := unescape(fields[4])
		if abandoned(at) {
			below = append(below, at)
			continue
		}
		name, isLoop := strings.CutPrefix(source[1], "/dev/loop")
		if !isLoop {
			continue
		}
		backing, err := os.ReadFile("/sys/block/loop" + name + "/loop/backing_file")
		if err == nil && abandoned(strings.TrimSpace(string(backing))) {
			above = append(above, at)
		}
	}
	return append(above, below...), nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
