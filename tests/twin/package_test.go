package twin

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPackage installs the package on a running Debian, upgrades it under people who are
// connected, removes and purges it.
func TestPackage(t *testing.T) {
	t.Parallel()
	Need(t)
	before, after := deb(t, "v0.1.0"), deb(t, "v0.2.0")
	r := NewRoot(t, "", false)
	run(t, "chroot", r.Dir, "ssh-keygen", "-A") // as Debian's own installation
	m := r.BootStock(t)
	// apt asks for no root of its own: what is missing would be named by dpkg.
	install := func(deb string) string {
		t.Helper()
		run(t, "cp", deb, m.Path("/run/pipit.deb"))
		return m.Run("dpkg", "--install", "/run/pipit.deb")
	}
	version := func() string { return m.Run("pipit", "status", "--json") }

	install(before)
	if status, _ := m.get("/readyz"); status != http.StatusOK {
		t.Errorf("installed, the server answers %d", status)
	}
	if user := m.Run("ps", "-o", "user=", "-p", m.Show("pipit.service", "MainPID")); user != "pipit" {
		t.Errorf("the server runs as %s", user)
	}
	if got := m.Run("cat", "/proc/sys/net/core/somaxconn"); got != "16384" {
		t.Errorf("the kernel's settings are not applied: somaxconn is %s", got)
	}
	p := newParty(t, m, "party")
	p.talk()
	socket := m.inode()
	m.Run("sh", "-c", "echo '# mine' >>/etc/pipit/pipit.yaml")
	m.Run("systemctl", "disable", "--now", "pipit-scrub.timer")

	install(after)
	if !strings.Contains(version(), `"version": "v0.2.0"`) {
		t.Errorf("after the upgrade: %s", version())
	}
	p.talk()
	if now := m.inode(); now != socket {
		t.Errorf("the upgrade made the listening socket anew: %s, then %s", socket, now)
	}
	if text := m.Run("cat", "/etc/pipit/pipit.yaml"); !strings.Contains(text, "# mine") {
		t.Errorf("the upgrade took the technician's settings: %s", text)
	}
	if out, _ := m.Try("systemctl", "is-enabled", "pipit-scrub.timer"); strings.TrimSpace(out) != "disabled" {
		t.Errorf("what was switched off is %s after the upgrade", out)
	}
	if failed := m.failedUnits(); failed != "" {
		t.Errorf("failed: %s", failed)
	}

	m.Run("dpkg", "--remove", "pipit")
	if out, err := m.Try("systemctl", "is-active", "pipit.socket", "pipit.service"); err == nil || strings.Contains(out, "\nactive") {
		t.Errorf("removed, and still %s", out)
	}
	install(before) // what a technician does who removed the wrong thing
	if !strings.Contains(version(), `"version": "v0.1.0"`) {
		t.Errorf("installed again: %s", version())
	}
	p.talk()
	p.leave()
	p.clients = nil

	out := m.Run("dpkg", "--purge", "pipit")
	if !strings.Contains(out, "kept in /var/lib/pipit") {
		t.Errorf("purge does not say what it kept: %s", out)
	}
	left := m.Run("sh", "-c", "find / -xdev -name '*pipit*' -not -path '/proc/*' -not -path '/var/lib/pipit/*' -not -path '/sys/*' -not -path '/run/*' -not -path '/tmp/*' -not -path '/var/log/*'")
	if left != "/var/lib/pipit" {
		t.Errorf("after the purge there is %s", left)
	}
	if out := m.Run("ls", "/var/lib/pipit"); !strings.Contains(out, "MANIFEST") {
		t.Errorf("the purge took the data: %s", out)
	}
	m.PowerOff()
}

// TestLintian: Debian's own checker finds nothing in the packages of all boards.
func TestLintian(t *testing.T) {
	t.Parallel()
	Need(t)
	args := []string{"--fail-on", "error,warning", "--allow-root"}
	for _, arch := range []string{"amd64", "arm64", "armhf"} {
		args = append(args, debOf(t, arch, "v0.2.0"))
	}
	if out, err := exec.Command("lintian", args...).CombinedOutput(); err != nil || len(strings.TrimSpace(string(out))) > 0 {
		t.Errorf("lintian: %v\n%s", err, out)
	}
}

// TestVersions: a later build is a later package, whatever it is called.
func TestVersions(t *testing.T) {
	Need(t)
	script, err := os.ReadFile("../../image/deb/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(script), "debVersion() {")
	body, _, ok := strings.Cut(body, "\n}\n")
	if !ok {
		t.Fatal("debVersion is not in build.sh")
	}
	last := "0~"
	for i, version := range []string{"4b3e093", "4b3e093-dirty", "v0.1.0-rc.1", "v0.1.0", "v0.1.0-dirty", "v0.1.0-3-gabcdef0", "v0.1.0-12-gabcdef0", "v0.2.0"} {
		got := strings.TrimSpace(run(t, "bash", "-c", fmt.Sprintf("SOURCE_DATE_EPOCH=%d; debVersion() {%s\n}; debVersion '%s'", 1764028800+i, body, version)))
		if out, err := exec.Command("dpkg", "--compare-versions", last, "lt", got).CombinedOutput(); err != nil {
			t.Errorf("%s is the package %s, which is not later than %s %s", version, got, last, out)
		}
		last = got
	}
}
