package boot

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPiGen drives an unmodified pi-gen, whose checkout PI_GEN_DIR names, through
// our stage. Our own base stands in for pi-gen's stages 0 to 2, which need Raspberry
// Pi's archive; and instead of pi-gen's export, which needs loop devices with
// partitions, the finished root is looked at.
func TestPiGen(t *testing.T) {
	dir := os.Getenv("PI_GEN_DIR")
	if dir == "" {
		t.Log("PI_GEN_DIR names no checkout of pi-gen; tests/image holds the stage against its rules")
		return
	}
	image(t)
	work := t.TempDir()
	base := strings.TrimSpace(run(t, top+"/image/builder/base.sh", "key"))
	put(t, work+"/stage-base/prerun.sh", "#!/bin/bash -e\nmkdir -p \"${ROOTFS_DIR}\"\nzstd -qdc "+base+` | tar -C "${ROOTFS_DIR}" -xp --numeric-owner
mkdir -p "${ROOTFS_DIR}/boot/firmware"
printf 'arm_64bit=1\n' >"${ROOTFS_DIR}/boot/firmware/config.txt"
`)
	put(t, work+"/export/prerun.sh", "#!/bin/bash -e\nmkdir -p \"${ROOTFS_DIR}\"\ntouch "+work+"/exported\n")
	cmd := exec.Command(top + "/image/pi-gen.sh")
	cmd.Env = append(os.Environ(), "PIPIT_STAGE_LIST="+work+"/stage-base", "EXPORT_CONFIG_DIR="+work+"/export", "WORK_DIR="+work+"/work", "DEPLOY_DIR="+work+"/deploy")
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "Build finished") {
		t.Fatalf("pi-gen: %v\n%s", err, text[max(0, len(text)-4000):])
	}
	if _, err := os.Stat(work + "/exported"); err != nil {
		t.Error("our stage is not marked for export: ", err)
	}
	root := work + "/work/stage-pipit/rootfs"
	for name, want := range map[string]bool{
		"usr/bin/pipitd": true, "boot/firmware/pipit.yaml": true, "etc/systemd/system/sockets.target.wants/pipit.socket": true,
		"usr/lib/systemd/system/pipit-screen.service": true, "usr/lib/pipit/init": false, "var/cache/pipit": false,
	} {
		if _, err := os.Lstat(filepath.Join(root, name)); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", name, err == nil, want)
		}
	}
	if keys, _ := filepath.Glob(root + "/etc/ssh/ssh_host_*"); len(keys) > 0 {
		t.Errorf("host keys in the image: %v", keys)
	}
	shadow, err := os.ReadFile(root + "/etc/shadow")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(shadow)) {
		if f := strings.Split(line, ":"); strings.Trim(f[1], "!*") != "" {
			t.Errorf("%s can sign in with a password", f[0])
		}
	}
	if !strings.Contains(string(shadow), "technician:") {
		t.Error("there is no technician")
	}
}
