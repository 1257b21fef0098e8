package twin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

// debs are the packages that were built, by version; they go with the test binary.
var debs = struct {
	sync.Mutex
	dir    string
	byName map[string]string
}{byName: map[string]string{}}

// TestMain removes what deb built.
func TestMain(m *testing.M) {
	code := m.Run()
	if err := os.RemoveAll(debs.dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// deb returns the package of this machine's architecture in that version, with the
// server inside; it is built once.
func deb(t *testing.T, version string) string {
	t.Helper()
	return debOf(t, strings.TrimSpace(run(t, "dpkg", "--print-architecture")), version)
}

// debOf is deb for an architecture, in Debian's words.
func debOf(t *testing.T, arch, version string) string {
	t.Helper()
	debs.Lock()
	defer debs.Unlock()
	key := version + " " + arch
	if file := debs.byName[key]; file != "" {
		return file
	}
	if debs.dir == "" {
		var err error
		if debs.dir, err = os.MkdirTemp("", "pipit-debs-"); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("../../image/deb/build.sh", arch)
	cmd.Env = append(os.Environ(), "VERSION="+version, "PIPIT_DEB_OUT="+debs.dir)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("building the package: %v\n%s", err, errs.String())
	}
	debs.byName[key] = strings.TrimSpace(out.String())
	return debs.byName[key]
}

// get asks the machine's server for a page.
func (m *Machine) get(path string) (status int, body string) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c := &http.Client{Transport: &http.Transport{DialContext: m.Dial, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1"+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		m.t.Fatalf("%s: %v", path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatalf("%s: %v", path, err)
	}
	return resp.StatusCode, string(b)
}

// failedUnits returns the names of units that failed.
func (m *Machine) failedUnits() string {
	m.t.Helper()
	var names []string
	for line := range strings.Lines(m.Run("systemctl", "list-units", "--failed", "--plain", "--no-legend")) {
		if f := strings.Fields(line); len(f) > 0 {
			names = append(names, f[0])
		}
	}
	return strings.Join(names, " ")
}

// TestCard is the life of a card: first boot with a pipit.yaml, everything that happens
// to a running box, power off, a factory reset with a pipit.yaml that has mistakes.
func TestCard(t *testing.T) {
	t.Parallel() // with TestPackage: each waits much of the time, for a watchdog or for the network
	Need(t)
	r := NewRoot(t, deb(t, "v0.1.0"), true)
	keys := t.TempDir()
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(keys, "id"))
	public, err := os.ReadFile(filepath.Join(keys, "id.pub"))
	if err != nil {
		t.Fatal(err)
	}
	yaml := filepath.Join(keys, "pipit.yaml")
	if err := os.WriteFile(yaml, []byte("\ufeffhostname: oakhill\r\nlanguage: zh\r\ntimezone: Asia/Shanghai\r\n"+
		"organisation:\r\n  name: 橡树山学校\r\n  id: oakhill\r\n  kind: school\r\nadministrator:\r\n  name: 李安\r\n  username: ann\r\n"+
		"network:\r\n  wifi_name: 橡树\r\n  wifi_password: geheimnis\r\nssh:\r\n  keys:\r\n    - "+strings.TrimSpace(string(public))+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	roster := filepath.Join(keys, "5b.csv")
	if err := os.WriteFile(roster, []byte("班级,角色,姓名,用户名\n五乙班,老师,王老师,wang\n五乙班,学生,小明,ming\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "debugfs", "-w", "-R", "mkdir roster", r.BootFile)
	r.PutBoot(t, map[string]string{"pipit.yaml": yaml, "roster/5b.csv": roster})

	var firstID string
	night := &night{stick: stick(t)}
	t.Run("first", func(t *testing.T) {
		m := r.Boot(t)
		firstID = firstBoot(t, m, filepath.Join(keys, "id"))
		t.Run("units", func(t *testing.T) { m.units(t) })
		t.Run("activation", func(t *testing.T) { m.activation(t) })
		t.Run("doctor", func(t *testing.T) { m.doctor(t) })
		t.Run("names", func(t *testing.T) { m.names(t) })
		p := newParty(t, m, "party")
		t.Run("restart", func(t *testing.T) { m.restarts(t, p) })
		t.Run("watchdog", func(t *testing.T) { m.wedges(t, p, r) })
		t.Run("update", func(t *testing.T) { m.update(t, p) })
		t.Run("backup", func(t *testing.T) { m.backup(t, p, night) })
		if failed := m.failedUnits(); failed != "" {
			t.Errorf("failed in the end: %s", failed)
		}
		m.PowerOff()
		if out := run(t, "e2fsck", "-fn", r.DataFile); !strings.Contains(out, "data: ") {
			t.Errorf("the data partition after the power off: %s", out)
		}
	})
	if used := r.GetBoot(t, "pipit-used.yaml"); !strings.Contains(used, "hostname: oakhill") || strings.Contains(used, "geheimnis") {
		t.Errorf("pipit-used.yaml: %q", used)
	}
	if left := r.GetBoot(t, "pipit.yaml"); left != "" {
		t.Errorf("pipit.yaml is there still: %q", left)
	}

	if err := os.WriteFile(yaml, []byte("hostnme: oakhill\nlanguage: de\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.PutBoot(t, map[string]string{"pipit.yaml": yaml, "factory-reset": ""})
	t.Run("reset", func(t *testing.T) { afterReset(t, r, r.Boot(t), firstID, night) })
}

// firstBoot looks at a box that has just come up for the first time.
func firstBoot(t *testing.T, m *Machine, key string) (machineID string) {
	if failed := m.failedUnits(); failed != "" {
		t.Errorf("failed: %s", failed)
	}
	for command, want := range map[string]string{
		"hostname":          "oakhill",
		"cat /etc/timezone": "Asia/Shanghai",
		"stat -c %a /etc/NetworkManager/system-connections/pipit-wifi.nmconnection": "600",
		"findmnt -n -o FSTYPE /data":                           "ext4",
		"findmnt -n -o FSTYPE /etc":                            "overlay",
		"findmnt -n -o FSTYPE /var/lib/pipit":                  "ext4",
		"stat -c %U:%a /var/lib/pipit":                         "pipit:700",
		"systemctl is-active pipit-provision.service":          "active",
		"systemctl is-enabled pipit.socket":                    "enabled",
		"sh -c ls\\ /etc/ssh/ssh_host_*_key":                   "/etc/ssh/ssh_host_ed25519_key",
		"sh -c cat\\ /run/pipit/boot-errors\\ 2>&1||:":         "cat: /run/pipit/boot-errors: No such file or directory",
		"sh -c ls\\ /etc/pipit/first-boot.json\\ 2>&1|wc\\ -l": "1",
	} {
		args := strings.Split(strings.ReplaceAll(command, "\\ ", "\x00"), " ")
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "\x00", " ")
		}
		if got := m.Run(args...); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
	for _, mount := range []string{"/", "/boot/firmware"} {
		if options := m.Run("findmnt", "-n", "-o", "OPTIONS", mount); !strings.HasPrefix(options, "ro,") {
			t.Errorf("%s is not read-only: %s", mount, options)
		}
	}
	options := "," + m.Run("findmnt", "-n", "-o", "OPTIONS", "/data") + ","
	for _, want := range []string{"nosuid", "nodev", "noatime", "errors=remount-ro"} { // ext4 does not show its own defaults
		if !strings.Contains(options, ","+want+",") {
			t.Errorf("/data without %s: %s", want, options)
		}
	}
	if out := m.Run("nmcli", "-g", "connection.id,802-11-wireless.ssid", "connection", "show", "pipit-wifi"); out != "pipit-wifi\n橡树" {
		t.Errorf("NetworkManager reads the Wi-Fi as %q", out)
	}

	// The administrator comes in with the code that the screen shows.
	var setUp struct {
		TenantID string `json:"tenant_id"`
		Username string
		Code     string
	}
	if err := json.Unmarshal([]byte(m.Run("cat", "/etc/pipit/set-up.json")), &setUp); err != nil {
		t.Fatal(err)
	}
	if setUp.TenantID != "oakhill" || setUp.Username != "ann" || len(setUp.Code) < 16 {
		t.Errorf("set-up: %+v", setUp)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tenants, err := m.box().Tenants(ctx)
	if err != nil || len(tenants) != 1 || tenants[0].ID != "oakhill" || tenants[0].Name != "橡树山学校" {
		t.Errorf("tenants: %+v, %v", tenants, err)
	}

	if policy, err := m.box().Policy(ctx, "oakhill"); err != nil || policy.Preset != "school" {
		t.Errorf("the rules are those of %q, %v", policy.Preset, err)
	}
	var people []string
	if err := m.box().Users(ctx, "oakhill", func(p apiclient.Person) error {
		people = append(people, p.Username+" "+p.Role)
		return nil
	}); err != nil {
		t.Error(err)
	}
	if got := strings.Join(people, ", "); got != "ann owner, ming member, wang staff" {
		t.Errorf("people after the first boot: %s", got)
	}

	// The technician, with the key of pipit.yaml and with nothing else.
	run(t, "install", "-m", "600", key, m.Path("/run/id"))
	ssh := []string{"ssh", "-i", "/run/id", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
	if out := m.Run(append(ssh, "technician@127.0.0.1", "sudo", "pipit", "status", "--json")...); !strings.Contains(out, `"version": "v0.1.0"`) {
		t.Errorf("over SSH: %s", out)
	}
	if out, err := m.Try(append(ssh, "root@127.0.0.1", "id")...); err == nil {
		t.Errorf("root comes in over SSH: %s", out)
	}
	return m.Run("cat", "/etc/machine-id")
}

// units judges the unit files with the systemd that runs them.
func (m *Machine) units(t *testing.T) {
	units := strings.Fields(m.Run("sh", "-c", "cd /usr/lib/systemd/system && ls pipit*"))
	if len(units) < 9 {
		t.Errorf("units: %q", units)
	}
	if out, err := m.Try(append([]string{"systemd-analyze", "verify", "--man=no"}, units...)...); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for unit, most := range map[string]string{"pipit.service": "15", "pipit-backup.service": "60", "pipit-scrub.service": "30", "pipit-provision.service": "60", "pipit-enroll.service": "60"} {
		if out, err := m.Try("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+most, "/usr/lib/systemd/system/"+unit); err != nil {
			t.Errorf("%s is too open: %v\n%s", unit, err, out)
		}
	}
}

// activation: the first connection starts the server.
func (m *Machine) activation(t *testing.T) {
	m.Run("systemctl", "stop", "pipit.service")
	if state := m.Show("pipit.service", "ActiveState"); state != "inactive" {
		t.Fatalf("stopped, the server is %s", state)
	}
	if status, body := m.get("/readyz"); status != http.StatusOK {
		// It may answer "starting" to the connection that started it.
		m.Within("ready: "+body, func() bool { status, _ := m.get("/readyz"); return status == http.StatusOK })
	}
	if state := m.Show("pipit.service", "ActiveState"); state != "active" {
		t.Errorf("after a connection the server is %s", state)
	}
}

// doctor finds nothing on a box as it is delivered, and each thing that is changed.
func (m *Machine) doctor(t *testing.T) {
	examine := func() map[string]string {
		t.Helper()
		// 8: something is to be done.
		out, err := m.Try("pipit", "doctor", "--json")
		var list []struct{ Check, State, Text string }
		if jerr := json.Unmarshal([]byte(out), &list); jerr != nil {
			t.Fatalf("%v, %v: %s", err, jerr, out)
		}
		found := map[string]string{}
		for _, f := range list {
			if found[f.Check] == "" || f.State != "good" {
				found[f.Check] = f.State + ": " + f.Text
			}
		}
		return found
	}
	for check, text := range examine() {
		// The clock of a machine without a network and the bound of descriptors that the
		// host may have are what they are.
		if !strings.HasPrefix(text, "good") && check != "clock-untrusted" && check != "clock" && check != "descriptors-low" {
			t.Errorf("as delivered: %s: %s", check, text)
		}
	}
	for _, x := range []struct{ do, undo, check, want string }{
		{"sysctl -qw net.core.somaxconn=100", "sysctl -qw net.core.somaxconn=16384", "net.core.somaxconn", "watch: 100, but /usr/lib/sysctl.d/60-pipit.conf says 16384"},
		{"systemctl stop pipit-backup.timer", "systemctl start pipit-backup.timer", "pipit-backup.timer", "act: inactive"},
		{"systemctl set-property --runtime pipit.service TasksMax=99", "systemctl revert pipit.service", "pipit.service", "watch: TasksMax is 99, not 512"},
		{"mount -o remount,atime /data", "mount -o remount,noatime /data", "mounts", "act: /data is mounted without noatime"},
		{"mkdir -p /etc/systemd/journald.conf.d && printf '[Journal]\nStorage=persistent\n' >/etc/systemd/journald.conf.d/90-x.conf", "rm /etc/systemd/journald.conf.d/90-x.conf", "log", `watch: Storage is "persistent"`},
		{"systemd-run -q --wait --unit=breaks false || :", "systemctl reset-failed", "units", "act: breaks.service failed"},
	} {
		m.Run("sh", "-c", x.do)
		found := examine()
		m.Run("sh", "-c", x.undo)
		if !strings.HasPrefix(found[x.check], x.want) {
			t.Errorf("after %s: %q", x.do, found[x.check])
		}
	}
}

// inode identifies the listening socket of port 80 within the machine.
func (m *Machine) inode() string {
	for line := range strings.Lines(m.Run("cat", "/proc/net/tcp6")) {
		if f := strings.Fields(line); len(f) > 9 && strings.HasSuffix(f[1], ":0050") && f[3] == "0A" {
			return f[9]
		}
	}
	m.t.Fatal("nobody listens on port 80")
	return ""
}

// restarts: the listening socket outlives restarts and crashes of the server, and
// everybody goes on.
func (m *Machine) restarts(t *testing.T, p *party) {
	socket := m.inode()
	p.talk()
	m.Run("systemctl", "restart", "pipit.service")
	p.talk()
	before := m.Show("pipit.service", "NRestarts")
	m.Run("systemctl", "kill", "--signal=KILL", "pipit.service")
	m.Within("a restart after a crash", func() bool { return m.Show("pipit.service", "NRestarts") != before })
	p.talk()
	m.Run("systemctl", "reload", "pipit.service")
	p.talk()
	if now := m.inode(); now != socket {
		t.Errorf("the listening socket was made anew: %s, then %s", socket, now)
	}
}

// wedges: a server that does nothing any more is killed and started, and everybody goes
// on. It runs the same server, built so that it can be wedged on purpose.
func (m *Machine) wedges(t *testing.T, p *party, r *Root) {
	binary := filepath.Join(t.TempDir(), "pipitd")
	build := exec.Command("go", "build", "-tags", "pipitwedge", "-o", binary, "github.com/pipit-im/pipit/cmd/pipitd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.Run("mkdir", "-p", "/data/wedge", "/run/systemd/system/pipit.service.d")
	run(t, "install", "-m", "755", binary, m.Path("/data/wedge/pipitd"))
	// The same unit, but that a test need not wait half a minute each time.
	dropIn := "[Service]\nExecStart=\nExecStart=/data/wedge/pipitd\nExecPaths=/data/wedge\nWatchdogSec=3\nTimeoutAbortSec=3\n"
	if err := os.WriteFile(m.Path("/run/systemd/system/pipit.service.d/wedge.conf"), []byte(dropIn), 0o644); err != nil {
		t.Fatal(err)
	}
	m.Run("systemctl", "daemon-reload")
	m.Run("systemctl", "restart", "pipit.service")
	p.talk()
	socket := m.inode()

	// wedge does something to the server and sees it killed by the watchdog and running
	// again; meanwhile happens before it may be.
	wedge := func(t *testing.T, what string, do, meanwhile func()) {
		t.Helper()
		before, err := strconv.Atoi(m.Show("pipit.service", "NRestarts"))
		if err != nil {
			t.Fatal(err)
		}
		cursor := m.Run("sh", "-c", `journalctl -n 0 --show-cursor --no-pager | sed -n "s/^-- cursor: //p"`)
		journal := func() string {
			return m.Run("journalctl", "--no-pager", "--after-cursor="+cursor, "-u", "pipit.service", "-o", "cat")
		}
		do()
		m.Within("the watchdog bites", func() bool { return strings.Contains(journal(), "Watchdog timeout") })
		meanwhile()
		m.Within("a restart", func() bool {
			n, err := strconv.Atoi(m.Show("pipit.service", "NRestarts"))
			return err == nil && n == before+1 && m.Show("pipit.service", "SubState") == "running"
		})
		p.talk()
		if text := journal(); !strings.Contains(text, "wedged: systemd will restart the server parts="+what) {
			t.Errorf("the log does not name %q:\n%s", what, text)
		}
	}
	nothing := func() {}
	post := func(path string) func() {
		return func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := m.box().Do(ctx, http.MethodPost, path, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	var talking sync.WaitGroup // everybody goes on saying things while the commit hangs
	t.Run("loop", func(t *testing.T) { wedge(t, `"loop 0"`, post("/wedge/spin"), nothing) })
	t.Run("deadlock", func(t *testing.T) { wedge(t, `"loop 0"`, post("/wedge/deadlock"), nothing) })
	t.Run("commit", func(t *testing.T) {
		wedge(t, "commit", func() { post("/wedge/commit")(); talking.Go(p.talk) }, nothing)
		talking.Wait()
	})
	// A card that takes nothing any more: what waits for it can't even be killed. The
	// server is given up all the same, and runs again when the card answers.
	t.Run("disk", func(t *testing.T) {
		freeze := func(how string) { m.Run("fsfreeze", how, "/data") }
		wedge(t, "commit", func() { freeze("--freeze"); talking.Go(p.talk) }, func() { freeze("--unfreeze") })
		talking.Wait()
	})
	if now := m.inode(); now != socket {
		t.Errorf("the listening socket was made anew: %s, then %s", socket, now)
	}
	m.Run("rm", "-r", "/data/wedge", "/run/systemd/system/pipit.service.d")
	m.Run("systemctl", "daemon-reload")
	m.Run("systemctl", "restart", "pipit.service")
	p.talk()
}

// update installs a signed bundle beside what is in the image, under the real sandbox;
// then one that can't run, from which the box finds back by itself.
func (m *Machine) update(t *testing.T, p *party) {
	dir := t.TempDir()
	// The bundle's programs are the image's own under another number: what is tested is
	// that the unit lets them run from the data partition.
	for _, name := range []string{"pipit", "pipitd"} {
		run(t, "cp", m.Path("/usr/bin/"+name), dir)
	}
	m.Run("mkdir", "-p", "/run/u/bad", "/etc/pipit/keys")
	run(t, "cp", "-r", dir, m.Path("/run/u/good"))
	m.Run("cp", "/bin/false", "/run/u/bad/pipitd")
	m.Run("cp", "/bin/false", "/run/u/bad/pipit")
	m.Run("pipit", "update", "keygen", "/run/u/shop.key")
	m.Run("cp", "/run/u/shop.pub", "/etc/pipit/keys/")
	for version, from := range map[string]string{"0.2.0": "good", "0.3.0": "bad"} {
		m.Run("pipit", "update", "bundle", "/run/u/"+from, "--key", "/run/u/shop.key", "--out", "/run/u/"+version+".pipit", "--bundle-version", version)
	}
	socket := m.inode()
	m.Run("pipit", "update", "/run/u/0.2.0.pipit")
	runs := func() string { return m.Run("readlink", "/proc/"+m.Show("pipit.service", "MainPID")+"/exe") }
	if exe := runs(); exe != "/var/lib/pipit/versions/0.2.0/pipitd" {
		t.Errorf("after the update %s runs", exe)
	}
	p.talk()
	if out, err := m.Try("pipit", "update", "/run/u/0.3.0.pipit"); err == nil {
		t.Errorf("a version that can't run is well: %s", out)
	}
	m.Within("the way back", func() bool {
		return m.Show("pipit.service", "SubState") == "running" && runs() == "/var/lib/pipit/versions/0.2.0/pipitd"
	})
	p.talk()
	m.Run("pipit", "update", "back")
	m.Within("the factory version", func() bool { return m.Show("pipit.service", "SubState") == "running" && runs() == "/usr/bin/pipitd" })
	p.talk()
	if now := m.inode(); now != socket {
		t.Errorf("the listening socket was made anew: %s, then %s", socket, now)
	}
}

// afterReset looks at a box that was reset, and that found a pipit.yaml with mistakes.
func afterReset(t *testing.T, r *Root, m *Machine, firstID string, night *night) {
	if failed := m.failedUnits(); failed != "pipit-provision.service" {
		t.Errorf("failed: %q; only the file with mistakes should be named", failed)
	}
	if id := m.Run("cat", "/etc/machine-id"); id == firstID || len(id) != 32 {
		t.Errorf("machine-id %q after a reset, %q before", id, firstID)
	}
	if name := m.Run("hostname"); name != "pipit" {
		t.Errorf("the host name %q outlived the reset", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if tenants, err := m.box().Tenants(ctx); err != nil || len(tenants) != 0 {
		t.Errorf("after a reset: %+v, %v", tenants, err)
	}
	if status, _ := m.get("/readyz"); status != http.StatusOK {
		t.Errorf("a file with mistakes stopped the server: %d", status)
	}
	if state := m.Show("ssh.service", "ActiveState"); state != "inactive" {
		t.Errorf("without a key, SSH is %s", state)
	}
	if _, err := m.Try("sh", "-c", "ls /etc/ssh/ssh_host_*"); err == nil {
		t.Error("host keys outlived the reset, or were made for nobody")
	}
	onScreen := m.Run("cat", "/run/pipit/boot-errors")
	for _, want := range []string{"pipit.yaml:1: ", "最接近的是 hostname", "hostnme is no setting", "pipit.yaml:2: ", "zh, en"} {
		if !strings.Contains(onScreen, want) {
			t.Errorf("the screen does not say %q: %s", want, onScreen)
		}
	}
	t.Run("fresh card", func(t *testing.T) { m.fresh(t, night) })
	m.PowerOff()
	if text := r.GetBoot(t, "pipit-errors.txt"); !strings.Contains(text, "第 1 行 / line 1\r\n") || !strings.Contains(text, "hostnme is no setting; the nearest is hostname.") {
		t.Errorf("pipit-errors.txt: %q", text)
	}
	if r.GetBoot(t, "pipit.yaml") == "" {
		t.Error("a pipit.yaml with mistakes is gone")
	}
	if out := run(t, "debugfs", "-R", "ls -p /", r.BootFile); strings.Contains(out, "/factory-reset/") {
		t.Errorf("factory-reset is there still: %s", out)
	}
}
