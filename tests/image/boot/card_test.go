package boot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/tests/image/guest"
)

const top = "../../.."

// image is the card under test. Where it or the tools are missing, the test is
// skipped, which a pipeline does not accept.
func image(t *testing.T) string {
	t.Helper()
	name := os.Getenv("PIPIT_IMAGE")
	if name == "" {
		t.Skip("PIPIT_IMAGE names no card image: make image-test builds and names one")
	}
	if err := guest.Available(); err != nil {
		t.Skip("the card image: ", err)
	}
	return name
}

func sum(t *testing.T, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestSameTwice assembles the card once more, at another place: every byte must
// be the same, or nobody can check that an image was made from this source.
func TestSameTwice(t *testing.T) {
	t.Parallel()
	card := image(t)
	again := filepath.Join(t.TempDir(), "again.img")
	cmd := exec.Command(top+"/image/builder/assemble.sh", "--deb", os.Getenv("PIPIT_DEB"), "--output", again)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if a, b := sum(t, card), sum(t, again); a != b {
		where, _ := exec.Command("cmp", card, again).CombinedOutput()
		t.Errorf("the second card differs: %s and %s\n%s", a, b, where)
	}
}

// part copies one partition out, for the tools that check file systems.
func part(t *testing.T, card string, p guest.Partition) string {
	t.Helper()
	in, err := os.Open(card)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	name := filepath.Join(t.TempDir(), "part")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, io.NewSectionReader(in, p.Offset, p.Length)); err != nil {
		t.Fatal(err)
	}
	return name
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestLayout(t *testing.T) {
	card := image(t)
	id, parts, err := guest.Table(card)
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) != 3 || parts[0].Type != 0x0c || !parts[0].Bootable || parts[1].Type != 0x83 || parts[2].Type != 0x83 {
		t.Fatalf("want FAT32 to boot from, root and data, got %+v", parts)
	}
	info, err := os.Stat(card)
	if err != nil {
		t.Fatal(err)
	}
	at := int64(4 << 20)
	for i, p := range parts {
		if p.Offset != at || p.Offset%(4<<20) != 0 {
			t.Errorf("partition %d begins at %d, want %d, a multiple of 4 MiB", i+1, p.Offset, at)
		}
		at += p.Length
	}
	if at != info.Size() {
		t.Errorf("the last partition ends at %d, the image at %d: data grows from its own end", at, info.Size())
	}

	boot, root, data := part(t, card, parts[0]), part(t, card, parts[1]), part(t, card, parts[2])
	run(t, "fsck.fat", "-n", boot)
	run(t, "e2fsck", "-fn", root)
	run(t, "e2fsck", "-fn", data)

	fat, err := guest.OpenFAT(card)
	if err != nil {
		t.Fatal(err)
	}
	files, err := fat.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"bootcode.bin", "start.elf", "fixup.dat", "start4.elf", "fixup4.dat", // Pi 3 and Zero 2 W; Pi 4 and 400
		"bcm2837-rpi-3-b.dtb", "bcm2837-rpi-3-b-plus.dtb", "bcm2837-rpi-zero-2-w.dtb", "bcm2711-rpi-4-b.dtb", "bcm2711-rpi-400.dtb",
		"config.txt", "cmdline.txt", "vmlinuz", "initrd.img", "pipit.yaml",
	} {
		if !slices.Contains(files, want) {
			t.Errorf("the boot partition has no %s", want)
		}
	}
	cmdline, err := fat.Read("cmdline.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{fmt.Sprintf("root=PARTUUID=%08x-02", id), " ro ", "init=/usr/lib/pipit/init", "fsck.mode=skip", "panic=10", "systemd.crash_action=reboot"} {
		if !strings.Contains(string(cmdline), want) {
			t.Errorf("cmdline.txt has no %q: %s", want, cmdline)
		}
	}
	if strings.Count(strings.TrimSpace(string(cmdline)), "\n") != 0 {
		t.Error("the firmware reads only the first line of cmdline.txt")
	}
}

// TestNothingSecret looks for what must be made on the device and never be in an
// image.
func TestNothingSecret(t *testing.T) {
	card := image(t)
	_, parts, err := guest.Table(card)
	if err != nil {
		t.Fatal(err)
	}
	root := part(t, card, parts[1])
	debugfs := func(request string) string {
		out, _ := exec.Command("debugfs", "-R", request, root).Output()
		return string(out)
	}
	if ls := debugfs("ls -p /etc/ssh"); strings.Contains(ls, "ssh_host_") || !strings.Contains(ls, "sshd_config") {
		t.Errorf("host keys in the image, or no sshd at all:\n%s", ls)
	}
	if id := strings.TrimSpace(debugfs("cat /etc/machine-id")); id != "" && id != "uninitialized" {
		t.Errorf("the image has the machine-id %q", id)
	}
	for line := range strings.Lines(debugfs("cat /etc/shadow")) {
		if f := strings.Split(line, ":"); len(f) > 1 && !regexp.MustCompile(`^[!*]+$`).MatchString(f[1]) {
			t.Errorf("%s can sign in with a password", f[0])
		}
	}
	if debugfs("cat /etc/shadow") == "" {
		t.Error("no /etc/shadow")
	}
	// In no other file either, in the form that OpenSSH writes.
	whole, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.Index(whole, []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl")); i >= 0 {
		t.Errorf("a private key at byte %d of the root", i)
	}
	for _, dir := range []string{"/etc/ssl/private", "/etc/pipit/tls", "/etc/NetworkManager/system-connections", "/data"} {
		for line := range strings.Lines(debugfs("ls -p " + dir)) {
			if f := strings.Split(line, "/"); len(f) > 5 && f[5] != "." && f[5] != ".." && f[5] != "README" {
				t.Errorf("%s in the image: %s", dir, f[5])
			}
		}
	}
}
