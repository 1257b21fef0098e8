package image

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	top   = "../.."
	stage = top + "/image/stage-pipit"
)

// What pi-gen (branch arm64, June 2026) gives to a stage's scripts: README.md,
// build.sh and scripts/common of pi-gen.
var (
	piGenVariables = strings.Fields(`ROOTFS_DIR STAGE_WORK_DIR PREV_ROOTFS_DIR PREV_STAGE PREV_STAGE_DIR STAGE STAGE_DIR
		BASE_DIR SCRIPT_DIR WORK_DIR DEPLOY_DIR LOG_FILE IMG_NAME IMG_DATE IMG_FILENAME IMG_SUFFIX ARCHIVE_FILENAME ARCH RELEASE
		TARGET_HOSTNAME FIRST_USER_NAME FIRST_USER_PASS LOCALE_DEFAULT TIMEZONE_DEFAULT KEYBOARD_KEYMAP KEYBOARD_LAYOUT WPA_COUNTRY
		ENABLE_SSH PUBKEY_ONLY_SSH PUBKEY_SSH_FIRST_USER ENABLE_CLOUD_INIT USE_QEMU APT_PROXY TEMP_REPO GIT_HASH
		EXPORT_DIR EXPORT_ROOTFS_DIR`)
	piGenSettings = strings.Fields(`IMG_NAME PI_GEN_RELEASE RELEASE APT_PROXY TEMP_REPO WORK_DIR DEPLOY_DIR DEPLOY_COMPRESSION
		COMPRESSION_LEVEL USE_QEMU LOCALE_DEFAULT TARGET_HOSTNAME KEYBOARD_KEYMAP KEYBOARD_LAYOUT TIMEZONE_DEFAULT FIRST_USER_NAME
		FIRST_USER_PASS DISABLE_FIRST_BOOT_USER_RENAME PASSWORDLESS_SUDO WPA_COUNTRY ENABLE_SSH PUBKEY_SSH_FIRST_USER PUBKEY_ONLY_SSH
		SETFCAP STAGE_LIST EXPORT_CONFIG_DIR ENABLE_CLOUD_INIT`)
	stepName = regexp.MustCompile(`^\d\d-(debconf|packages|packages-nr|run\.sh|run-chroot\.sh|patches)$`)
	topName  = regexp.MustCompile(`^(prerun\.sh|EXPORT_IMAGE|SKIP|SKIP_IMAGES)$`)
	usedVar  = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)`)
	setVar   = regexp.MustCompile(`(?m)(?:^|[;\s])(?:for )?([A-Za-z_][A-Za-z0-9_]*)(?:=| in )`)
)

// stageProblems holds a stage against pi-gen's rules and returns what is wrong.
// given are the variables that the scripts may use beside pi-gen's.
func stageProblems(dir string, given []string) []string {
	var wrong []string
	bad := func(name, why string) { wrong = append(wrong, name+": "+why) }
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			bad(path, err.Error())
			return nil
		}
		name, _ := filepath.Rel(dir, path)
		depth := strings.Count(name, "/")
		base := filepath.Base(name)
		if d.IsDir() {
			if base == "files" && depth == 1 {
				return fs.SkipDir
			}
			if depth > 1 || depth == 1 && !stepName.MatchString(base) {
				bad(name, "pi-gen runs stage folders of one level, and nothing looks into this one")
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			bad(name, err.Error())
			return nil
		}
		runs := info.Mode()&0o111 == 0o111
		if depth == 0 && !topName.MatchString(base) || depth == 1 && base != "SKIP" && !stepName.MatchString(base) {
			bad(name, "pi-gen knows no such name and passes over it")
			return nil
		}
		if base != "prerun.sh" && !strings.HasSuffix(base, "run.sh") && !strings.HasSuffix(base, "run-chroot.sh") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			bad(name, err.Error())
			return nil
		}
		inside := strings.HasSuffix(base, "run-chroot.sh")
		switch {
		case inside && bytes.HasPrefix(text, []byte("#!")):
			bad(name, "it is read by a shell in the chroot: its first line names no other")
		case !inside && !runs:
			bad(name, "pi-gen passes over a script that is not executable")
		case !inside && !bytes.HasPrefix(text, []byte("#!/bin/bash -e\n")):
			bad(name, "without #!/bin/bash -e a failing line is not noticed")
		}
		if out, err := exec.Command("bash", "-n", path).CombinedOutput(); err != nil {
			bad(name, "is no shell: "+string(out))
		}
		var known []string
		if !inside {
			known = slices.Concat(piGenVariables, given)
		}
		for _, m := range setVar.FindAllSubmatch(text, -1) {
			known = append(known, string(m[1]))
		}
		for _, m := range usedVar.FindAllSubmatch(text, -1) {
			if v := string(m[1]); !slices.Contains(known, v) {
				bad(name, "uses $"+v+", which pi-gen does not set there")
			}
		}
		return nil
	})
	return wrong
}

func TestPiGenStage(t *testing.T) {
	for _, p := range stageProblems(stage, []string{"PIPIT_DIR", "PIPIT_DEB"}) {
		t.Error(p)
	}
}

// TestPiGenRules shows that each rule finds what it is there for.
func TestPiGenRules(t *testing.T) {
	for name, c := range map[string]struct {
		file, text string
		mode       os.FileMode
		want       string
	}{
		"no run bit":       {"00-a/00-run.sh", "#!/bin/bash -e\n", 0o644, "not executable"},
		"no -e":            {"00-a/00-run.sh", "#!/bin/bash\n", 0o755, "not noticed"},
		"one digit":        {"00-a/0-run.sh", "#!/bin/bash -e\n", 0o755, "no such name"},
		"unknown step":     {"00-a/00-install.sh", "#!/bin/bash -e\n", 0o755, "no such name"},
		"too deep":         {"00-a/sub/00-run.sh", "#!/bin/bash -e\n", 0o755, "nothing looks into"},
		"unknown variable": {"00-a/00-run.sh", "#!/bin/bash -e\necho ${ROOTFS}\n", 0o755, "$ROOTFS"},
		"host variable":    {"00-a/00-run-chroot.sh", "echo ${PIPIT_DIR}\n", 0o644, "$PIPIT_DIR"},
		"syntax":           {"00-a/00-run.sh", "#!/bin/bash -e\nif true\n", 0o755, "is no shell"},
		"at the top":       {"00-run.sh", "#!/bin/bash -e\n", 0o755, "no such name"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, c.file), c.text, c.mode)
			got := strings.Join(stageProblems(dir, nil), "\n")
			if !strings.Contains(got, c.want) {
				t.Errorf("want a problem with %q, got %q", c.want, got)
			}
		})
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// settings are the variables that reading pi-gen.conf sets, as pi-gen reads it.
func settings(t *testing.T) map[string]string {
	t.Helper()
	conf, err := filepath.Abs(top + "/pi-gen.conf")
	if err != nil {
		t.Fatal(err)
	}
	variables := func(read string) map[string]string {
		cmd := exec.Command("bash", "-ec", `source "$0"; for v in $(compgen -v); do printf '%s=%s\n' "$v" "${!v}"; done`, read)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "BASE_DIR=/pi-gen"}
		cmd.Dir = t.TempDir() // pi-gen reads it from its own folder
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		set := map[string]string{}
		for line := range strings.Lines(string(out)) {
			name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			set[name] = value
		}
		return set
	}
	set := variables(conf)
	for name := range variables("/dev/null") {
		delete(set, name)
	}
	return set
}

func TestPiGenConf(t *testing.T) {
	set, again := settings(t), settings(t)
	for name := range set {
		if !slices.Contains(piGenSettings, name) && !strings.HasPrefix(name, "PIPIT_") {
			t.Errorf("pi-gen.conf sets %s, which pi-gen does not know", name)
		}
	}
	stages := strings.Fields(set["STAGE_LIST"])
	if want := []string{"/pi-gen/stage0", "/pi-gen/stage1", "/pi-gen/stage2"}; len(stages) != 4 || !slices.Equal(stages[:3], want) {
		t.Fatalf("STAGE_LIST is %q", set["STAGE_LIST"])
	}
	if _, err := os.Stat(stages[3] + "/prerun.sh"); err != nil {
		t.Errorf("our stage is not where STAGE_LIST says: %v", err)
	}
	if set["DISABLE_FIRST_BOOT_USER_RENAME"] != "1" || len(set["FIRST_USER_PASS"]) < 24 || set["FIRST_USER_PASS"] == again["FIRST_USER_PASS"] {
		t.Error("the password of the first user must be drawn at each build, or everybody knows it")
	}
	if set["ENABLE_SSH"] != "0" {
		t.Error("SSH is for those whose key pipit.yaml brings")
	}
	if !slices.Contains([]string{"none", "zip", "gz", "xz"}, set["DEPLOY_COMPRESSION"]) {
		t.Errorf("pi-gen knows no compression %q", set["DEPLOY_COMPRESSION"])
	}
}

// TestPiGenScripts runs the scripts that work from outside the chroot, in
// pi-gen's order, on a small root file system.
func TestPiGenScripts(t *testing.T) {
	work := t.TempDir()
	previous, root := filepath.Join(work, "stage2", "rootfs"), filepath.Join(work, "stage-pipit", "rootfs")
	write(t, previous+"/boot/firmware/config.txt", "arm_64bit=1\n", 0o644)
	write(t, previous+"/etc/fstab", "theirs\n", 0o644)
	deb := filepath.Join(work, "pipit_1_arm64.deb")
	write(t, deb, "package", 0o644)
	dir, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}
	run := func(script string) {
		t.Helper()
		// Scripts are started in their own folder, with pi-gen's functions exported to them.
		cmd := exec.Command("bash", "-ec", `copy_previous() { mkdir -p "$ROOTFS_DIR"; cp -a "$PREV_ROOTFS_DIR/." "$ROOTFS_DIR"; }; export -f copy_previous; exec "./$0"`, filepath.Base(script))
		cmd.Dir = filepath.Dir(script)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "ROOTFS_DIR=" + root, "PREV_ROOTFS_DIR=" + previous, "PIPIT_DIR=" + dir, "PIPIT_DEB=" + deb}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	run(stage + "/prerun.sh")
	scripts, err := filepath.Glob(stage + "/*/*-run.sh")
	if err != nil || len(scripts) == 0 {
		t.Fatal("no scripts: ", err)
	}
	for _, s := range scripts {
		run(s)
	}
	for name, want := range map[string]string{
		"var/cache/pipit/pipit.deb": "package", "etc/fstab": "theirs", "boot/firmware/pipit.yaml": "", "boot/firmware/config.txt": "dtparam=watchdog=on",
		"etc/sudoers.d/pipit": "", "usr/lib/systemd/system.conf.d/60-pipit.conf": "",
	} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(text), want) {
			t.Errorf("%s does not hold %q:\n%s", name, want, text)
		}
	}
	for _, name := range []string{"usr/lib/pipit/init", "usr/lib/systemd/system/pipit-zram.service"} {
		if _, err := os.Stat(filepath.Join(root, name)); err == nil {
			t.Errorf("%s belongs to Pipit's own image and not here", name)
		}
	}
	// A second run finds everything done already and changes nothing.
	before, _ := os.ReadFile(root + "/boot/firmware/config.txt")
	for _, s := range scripts {
		run(s)
	}
	if after, _ := os.ReadFile(root + "/boot/firmware/config.txt"); !bytes.Equal(before, after) {
		t.Errorf("the second run changed config.txt:\n%s", after)
	}
}
