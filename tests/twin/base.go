package twin

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// suite and packages are the base system: Debian's essential packages and these, which
// are those of the image (image/builder/packages.list) that need no hardware.
const suite = "trixie"

var packages = []string{
	"systemd-sysv", "systemd-timesyncd", "dbus", "udev", "kmod", "procps", "tzdata", "zstd",
	"e2fsprogs", "fdisk", "logsave", "dosfstools",
	"network-manager", "avahi-daemon", "avahi-utils", "iproute2",
	"openssh-server", "openssh-client", "sudo", "libpam-systemd",
}

// options keep it small.
var options = []string{
	"--quiet", "--variant=minbase", "--aptopt=APT::Install-Recommends \"false\"",
	"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
	"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/lib/udev/hwdb.d/*",
	// Keys and ids are made on the machine, as with the image.
	`--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/var/lib/dbus/machine-id && : >"$1"/etc/machine-id`,
}

// Need skips the test where a twin can't be made, and fails it there with CI=true: a
// pipeline that skips the boot has not proved it.
func Need(t *testing.T) {
	t.Helper()
	err := available()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("CANNOT RUN: %v", err)
	default:
		t.Skipf("NOT PROVED HERE: %v", err)
	}
}

func available() error {
	if os.Geteuid() != 0 {
		return errors.New("a twin needs root: it is a container with a boot of its own")
	}
	for tool, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "mkfs.ext4": "e2fsprogs",
		"debugfs": "e2fsprogs", "nsenter": "util-linux", "losetup": "mount", "dpkg": "dpkg"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("a twin needs %s, which Debian has in the package %s", tool, pkg)
		}
	}
	return nil
}

// base returns the tar of the base system; it makes it (about a minute, and what the
// network takes) if no earlier run has.
func base(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "pipit")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	arch := strings.TrimSpace(run(t, "dpkg", "--print-architecture"))
	key := sha256.Sum256([]byte(strings.Join(append(append([]string{suite, arch}, packages...), options...), "\n")))
	tar := filepath.Join(dir, fmt.Sprintf("twin-%s-%s-%x.tar", suite, arch, key[:8]))
	lock, err := os.OpenFile(filepath.Join(dir, "twin.lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close() // and with it the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tar); err == nil {
		return tar
	}
	t.Logf("making the base system %s", filepath.Base(tar))
	args := append(append([]string{}, options...), "--architectures="+arch, "--include="+strings.Join(packages, ","), suite, tar+".new.tar")
	run(t, "mmdebstrap", args...)
	if err := os.Rename(tar+".new.tar", tar); err != nil {
		t.Fatal(err)
	}
	return tar
}
