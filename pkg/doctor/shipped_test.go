package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func checks(found []Finding) string {
	var list []string
	for _, f := range found {
		list = append(list, f.Check+":"+f.State)
	}
	return strings.Join(list, " ")
}

// TestShipped: what is expected is read from the installed files, and what the
// technician lays over it counts. The parts that systemd answers are tested in
// tests/twin, where it does.
func TestShipped(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	silent := func(context.Context, string, ...string) (string, error) { return "", errors.New("no systemd") }
	s := Shipped{Root: root, Proc: filepath.Join(root, "proc"), Ask: silent}
	if got := checks(s.Findings(t.Context())); got != "settings:good" {
		t.Errorf("not installed: %s", got)
	}
	write("usr/lib/sysctl.d/60-pipit.conf", "# why\n-net.core.somaxconn = 16384\n-net.ipv4.tcp_rmem = 4096 32768 1048576\n-net.gone = 1\n-net.ipv4.tcp_fin_timeout = 20\n")
	write("etc/sysctl.d/70-local.conf", "net/ipv4/tcp_fin_timeout=30\nvm.swappiness=1\n")
	write("proc/sys/net/core/somaxconn", "4096\n")
	write("proc/sys/net/ipv4/tcp_rmem", "4096\t32768\t1048576\n")
	write("proc/sys/net/ipv4/tcp_fin_timeout", "30\n")
	write("proc/sys/vm/swappiness", "60\n")
	found := s.kernel(false)
	if got := checks(found); got != "net.core.somaxconn:watch" || !strings.HasPrefix(found[0].Text, "4096, but ") || !strings.HasSuffix(found[0].Text, "60-pipit.conf says 16384") {
		t.Errorf("%+v", found)
	}
	write("proc/sys/net/ipv4/tcp_fin_timeout", "20\n")
	if got := checks(s.kernel(false)); got != "net.core.somaxconn:watch net.ipv4.tcp_fin_timeout:watch" {
		t.Errorf("a local setting that does not hold: %s", got)
	}
	write("proc/sys/net/ipv4/tcp_fin_timeout", "30\n")
	write("proc/sys/net/core/somaxconn", "16384\n")
	if found := s.kernel(false); checks(found) != "kernel:good" || !strings.HasPrefix(found[0].Text, "3 settings") {
		t.Errorf("%+v", found)
	}

	write("usr/lib/modules-load.d/pipit.conf", "# why\ntls\n")
	if got := checks(s.modules(false)) + " " + checks(s.modules(true)); got != "module:watch module:good" {
		t.Errorf("%s", got)
	}
	write("sys/module/tls/refcnt", "0")
	if got := checks(s.modules(false)); got != "module:good" {
		t.Errorf("%s", got)
	}

	write("run/pipit/boot-errors", "The data partition was damaged.\npipit.yaml:1: x\n")
	if found := s.bootErrors(); checks(found) != "boot:act boot:act" || found[1].Text != "pipit.yaml:1: x" {
		t.Errorf("%+v", found)
	}

	const header = "Filename Type Size Used Priority\n"
	for text, want := range map[string]string{
		header: "swap:watch", header + "/dev/zram0 partition 1 0 100\n": "swap:good",
		header + "/dev/zram0 partition 1 0 100\n/var/swap file 1 0 -2\n": "swap:watch", header + "/var/swap file 1 0 -2\n": "swap:watch",
	} {
		write("proc/swaps", text)
		if got := checks([]Finding{s.zram()}); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}

	const mounts = "/dev/x / ext4 ro,noatime 0 0\n/dev/y /data ext4 rw,nosuid,nodev,noatime,errors=remount-ro 0 0\noverlay /etc overlay rw 0 0\noverlay /var overlay rw 0 0\n/dev/y /var/lib/pipit ext4 rw 0 0\n"
	for text, want := range map[string]string{
		mounts: "mounts:good", strings.Replace(mounts, " ro,", " rw,", 1): "mounts:act",
		strings.Replace(mounts, "/data ext4 rw", "/data ext4 ro", 1): "mounts:act", strings.Replace(mounts, "/dev/y /var/lib/pipit", "/dev/y /mnt", 1): "mounts:act",
	} {
		write("proc/self/mounts", text)
		if got := checks(s.mounts()); got != want {
			t.Errorf("%q: %s", text, got)
		}
	}
}

// TestNormal: one value in a unit file and in systemctl show.
func TestNormal(t *testing.T) {
	for _, x := range []struct{ key, file, shown string }{
		{"WatchdogSec", "30", "30s"}, {"TimeoutStartSec", "5min", "5min"}, {"RestartSec", "500ms", "500ms"}, {"DefaultTimeoutStopSec", "90", "1min 30s"},
		{"NoNewPrivileges", "true", "yes"}, {"TasksMax", "512", "512"},
	} {
		key, want := property(x.key, x.file)
		if got := normal(key, x.shown); got != want {
			t.Errorf("%s=%s: %s in the file, %s shown", x.key, x.file, want, got)
		}
	}
}
