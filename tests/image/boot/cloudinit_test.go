package boot

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// cloudPackages make the smallest Debian that boots and runs cloud-init.
const cloudPackages = "cloud-init,systemd-sysv,udev,sudo,python3-jsonschema,netplan.io,tzdata"

// cloudRoot unpacks a Debian with cloud-init, for this machine, from the cache or
// made anew.
func cloudRoot(t *testing.T) string {
	t.Helper()
	image(t) // needs the same tools
	cache := os.Getenv("PIPIT_IMAGE_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "pipit")
	}
	key := sha256.Sum256([]byte(cloudPackages))
	tar := filepath.Join(cache, "cloud-init-"+hex.EncodeToString(key[:8])+".tar")
	if _, err := os.Stat(tar); err != nil {
		if err := os.MkdirAll(cache, 0o755); err != nil {
			t.Fatal(err)
		}
		args := []string{"--quiet", "--mode=root", "--variant=apt", "--include=" + cloudPackages, `--aptopt=APT::Install-Recommends "false"`,
			"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
			"trixie", tar + ".new"}
		if mirror := os.Getenv("PIPIT_DEBIAN_MIRROR"); mirror != "" {
			args = append(args, mirror)
		}
		args = append(args, "--format=tar")
		run(t, "mmdebstrap", args...)
		if err := os.Rename(tar+".new", tar); err != nil {
			t.Fatal(err)
		}
	}
	root := t.TempDir()
	run(t, "tar", "-C", root, "-xf", tar)
	return root
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestCloudInit starts a Debian with our three files as its seed and the package on
// its boot partition, without network, and looks at what became of it.
func TestCloudInit(t *testing.T) {
	root := cloudRoot(t)
	for name, kind := range map[string]string{"user-data": "cloud-config", "network-config": "network-config"} {
		text, err := os.ReadFile(top + "/image/cloud-init/" + name)
		if err != nil {
			t.Fatal(err)
		}
		put(t, root+"/var/lib/cloud/seed/nocloud/"+name, string(text))
		if out := run(t, "chroot", root, "cloud-init", "schema", "--schema-type", kind, "--config-file", "/var/lib/cloud/seed/nocloud/"+name); !strings.Contains(out, "Valid schema") {
			t.Errorf("%s is not what cloud-init expects:\n%s", name, out)
		}
	}
	meta, err := os.ReadFile(top + "/image/cloud-init/meta-data")
	if err != nil {
		t.Fatal(err)
	}
	put(t, root+"/var/lib/cloud/seed/nocloud/meta-data", string(meta))

	build := exec.Command(top+"/image/deb/build.sh", strings.TrimSpace(run(t, "dpkg", "--print-architecture")))
	out, err := build.Output()
	if err != nil {
		t.Fatal(err)
	}
	deb := strings.TrimSpace(string(out))
	put(t, root+"/boot/firmware/README", "")
	run(t, "cp", filepath.Join(top, deb), root+"/boot/firmware/")

	put(t, root+"/report.sh", `#!/bin/sh
{
	echo "cloud-init: $(cloud-init status --wait | head -n 1)"
	echo "errors: $(sed -n '/"errors"/,/]/p' /run/cloud-init/result.json | tr -d ' \n')"
	echo "package: $(dpkg-query -W -f '${Status}' pipit)"
	echo "socket: $(systemctl is-enabled pipit.socket) $(systemctl is-active pipit.socket)"
	echo "technician: $(getent passwd technician | cut -d: -f7) $(getent shadow technician | cut -d: -f2 | cut -c1)"
	echo "passwords: $(getent shadow | awk -F: '$2 !~ /^[!*]/ { print $1 }' | xargs)"
	echo "host: $(cat /etc/hostname)"
	echo "complaints: $(cat /boot/firmware/pipit-errors.txt 2>/dev/null)"
} >/report 2>&1
systemctl poweroff --force
`)
	put(t, root+"/etc/systemd/system/report.service", "[Unit]\nAfter=cloud-final.service multi-user.target\n[Service]\nType=oneshot\nExecStart=/report.sh\n")
	if err := os.MkdirAll(root+"/etc/systemd/system/cloud-init.target.wants", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../report.service", root+"/etc/systemd/system/cloud-init.target.wants/report.service"); err != nil {
		t.Fatal(err)
	}
	put(t, root+"/etc/fstab", "")

	boot := exec.Command("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "--boot", "--directory="+root)
	// systemd in the container wants one hierarchy, whatever this machine has.
	boot.Env = append(os.Environ(), "UNIFIED_CGROUP_HIERARCHY=1")
	console, err := boot.CombinedOutput()
	if err != nil {
		t.Logf("systemd-nspawn: %v", err)
	}
	report, err := os.ReadFile(root + "/report")
	if err != nil {
		t.Fatalf("%v\n%s", err, console)
	}
	t.Logf("\n%s", report)
	for _, want := range []string{
		"cloud-init: status: done\n", `errors: "errors":[]`, "package: install ok installed\n", "socket: enabled active\n",
		"technician: /bin/bash !\n", "passwords: \n", "host: pipit\n", "complaints: \n",
	} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the report has no %q", want)
		}
	}
	if t.Failed() {
		t.Logf("console:\n%s", console)
	}
}
