package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Shipped compares what Pipit's packages put into the system with what the system
// runs with. What is expected is read from the installed files themselves, so that it
// can't differ from them; a setting that the technician laid over one of ours is
// expected, and named.
type Shipped struct {
	Root string // "/" but in tests
	Proc string // "/proc" but in tests
	Ask  func(ctx context.Context, name string, args ...string) (string, error)
}

// Command runs a program of the system and returns what it printed.
func Command(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0", "SYSTEMD_PAGER=")
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
}

// bootErrors is what went wrong before anybody could be told, one line each; the first
// process and `pipit provision` write it.
const bootErrors = "run/pipit/boot-errors"

// Files that are compared, below Root.
const (
	kernelDir     = "usr/lib/sysctl.d"
	unitDir       = "usr/lib/systemd/system"
	managerFile   = "usr/lib/systemd/system.conf.d/60-pipit.conf"
	journalFile   = "usr/lib/systemd/journald.conf.d/60-pipit.conf"
	modulesFile   = "usr/lib/modules-load.d/pipit.conf"
	applianceInit = "usr/lib/pipit/init" // only Pipit's own card has it
)

func (s Shipped) path(name string) string { return filepath.Join(s.Root, name) }

func (s Shipped) has(name string) bool {
	_, err := os.Stat(s.path(name))
	return err == nil
}

// Findings makes all checks. It changes nothing and runs systemctl and its like.
func (s Shipped) Findings(ctx context.Context) []Finding {
	if !s.has(filepath.Join(unitDir, "pipit.service")) {
		return []Finding{Good("settings", "Pipit was not installed by a package: limits and kernel settings are not checked")}
	}
	container := false
	if out, err := s.Ask(ctx, "systemd-detect-virt", "--container"); err == nil && out != "none" {
		container = true
	}
	found := append(s.bootErrors(), s.units(ctx)...)
	found = append(found, s.kernel(container)...)
	found = append(found, s.modules(container)...)
	if s.has(managerFile) {
		found = append(found, s.manager(ctx, container)...)
	}
	if s.has(journalFile) {
		found = append(found, s.journal(ctx)...)
	}
	if s.has(applianceInit) {
		found = append(found, s.mounts()...)
		if !container {
			found = append(found, s.zram())
		}
	}
	return found
}

// summary folds the good ones of a kind into one line; what differs keeps its own.
func summary(check string, found []Finding, text string) []Finding {
	bad := slices.DeleteFunc(slices.Clone(found), func(f Finding) bool { return f.State == "good" })
	if len(bad) > 0 {
		return bad
	}
	return []Finding{Good(check, "%s", text)}
}

// bootErrors is what the first process and the first boot had to say.
func (s Shipped) bootErrors() []Finding {
	text, err := os.ReadFile(s.path(bootErrors))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []Finding{Good("boot", "%v", err).As("watch", "run this with sudo")}
	}
	var found []Finding
	for line := range strings.Lines(string(text)) {
		found = append(found, Good("boot", "%s", strings.TrimSpace(line)).As("act", "mend it and restart the box; the whole story: journalctl -b -u pipit-provision"))
	}
	return found
}

// assignments reads "key = value" lines; comments begin with # or ;, sections are passed
// over. A key may stand more than once.
func assignments(text []byte) [][2]string {
	var out [][2]string
	for line := range bytes.Lines(text) {
		s := strings.TrimSpace(string(line))
		key, val, ok := strings.Cut(s, "=")
		if !ok || strings.HasPrefix(s, "#") || strings.HasPrefix(s, ";") || strings.HasPrefix(s, "[") {
			continue
		}
		out = append(out, [2]string{strings.TrimSpace(key), strings.TrimSpace(val)})
	}
	return out
}

// kernel compares sysctl.d with /proc/sys. The last file that names a key counts
// (sysctl.d(5)); of two files with one name that in /etc.
func (s Shipped) kernel(container bool) []Finding {
	files := map[string]string{}
	for _, dir := range []string{kernelDir, "run/sysctl.d", "etc/sysctl.d"} {
		names, err := filepath.Glob(s.path(dir + "/*.conf"))
		if err != nil {
			continue
		}
		for _, n := range names {
			files[filepath.Base(n)] = n
		}
	}
	type want struct{ value, file string }
	wanted, ours := map[string]want{}, map[string]bool{}
	for _, base := range slices.Sorted(maps.Keys(files)) {
		text, err := os.ReadFile(files[base])
		if err != nil {
			continue
		}
		for _, a := range assignments(text) {
			key := strings.ReplaceAll(strings.TrimPrefix(a[0], "-"), "/", ".")
			wanted[key] = want{a[1], files[base]}
			ours[key] = ours[key] || strings.Contains(base, "pipit")
		}
	}
	var found []Finding
	for _, key := range slices.Sorted(maps.Keys(ours)) {
		w := wanted[key]
		if !ours[key] {
			continue
		}
		name := filepath.Join(s.Proc, "sys", strings.ReplaceAll(key, ".", "/"))
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not in this kernel, or its module is not loaded
		}
		if err != nil {
			found = append(found, Good(key, "%v", err).As("watch", "run this with sudo"))
			continue
		}
		is := strings.Join(strings.Fields(string(text)), " ")
		expected := strings.Join(strings.Fields(w.value), " ")
		f := Good(key, "%s", is)
		if is != expected {
			f = Good(key, "%s, but %s says %s", is, w.file, expected).As("watch", "sudo /usr/lib/systemd/systemd-sysctl")
			if container && unix.Access(name, unix.W_OK) != nil {
				f = Good(key, "%s; it is the host's, this container can't set it", is)
			}
		}
		found = append(found, f)
	}
	return summary("kernel", found, fmt.Sprintf("%d settings are as in /%s", len(found), kernelDir))
}

// modules: each is loaded or built in.
func (s Shipped) modules(container bool) []Finding {
	text, err := os.ReadFile(s.path(modulesFile))
	if err != nil {
		return nil
	}
	var found []Finding
	for line := range strings.Lines(string(text)) {
		name := strings.TrimSpace(line)
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		f := Good("module", "%s is loaded", name)
		if !s.has("sys/module/" + name) {
			f = Good("module", "%s is not loaded; the server does that work itself", name).As("watch", "sudo modprobe "+name)
			if container {
				f = Good("module", "%s is not loaded; that is the host's to do", name)
			}
		}
		found = append(found, f)
	}
	return found
}

// managed are the settings of units that systemd shows in a form that can be compared,
// each under its own name but for times. Others (filters, paths, lists) are expanded by
// systemd; whether a unit differs from its file at all is in DropInPaths.
var managed = regexp.MustCompile(`^(Type|NotifyAccess|User|Group|Restart|RestartSteps|StateDirectoryMode|UMask|LimitNOFILE|TasksMax|OOMScoreAdjust|CPUWeight|IOWeight|` +
	`NoNewPrivileges|PrivateUsers|ProtectSystem|ProtectHome|PrivateTmp|PrivateDevices|DevicePolicy|PrivateMounts|ProtectProc|ProcSubset|PrivateIPC|RemoveIPC|KeyringMode|` +
	`Protect(Clock|Hostname|KernelLogs|KernelModules|KernelTunables|ControlGroups)|Restrict(Realtime|SUIDSGID)|LockPersonality|MemoryDenyWriteExecute|` +
	`Backlog|NoDelay|FileDescriptorName|[A-Za-z]+Sec)$`)

// units reads back what systemd runs the units with, and whether they run.
func (s Shipped) units(ctx context.Context) []Finding {
	var found, process []Finding
	n := 0
	for _, unit := range []string{"pipit.socket", "pipit-https.socket", "pipit.service"} {
		text, err := os.ReadFile(s.path(filepath.Join(unitDir, unit)))
		if err != nil {
			found = append(found, Good(unit, "%v", err).As("act", "install the package again"))
			continue
		}
		show, err := s.Ask(ctx, "systemctl", "show", unit)
		if err != nil {
			return []Finding{Good("units", "systemd does not answer: %v", err).As("watch", "run this where systemd runs")}
		}
		is := map[string]string{}
		for _, a := range assignments([]byte(show)) {
			is[a[0]] = a[1]
		}
		if is["DropInPaths"] != "" {
			found = append(found, Good(unit, "changed by %s", is["DropInPaths"]).As("watch", "look whether that is meant: systemctl cat "+unit))
		}
		if is["NeedDaemonReload"] == "yes" {
			found = append(found, Good(unit, "its file changed since systemd read it").As("watch", "sudo systemctl daemon-reload"))
		}
		if is["ActiveState"] != "active" && strings.HasSuffix(unit, ".socket") {
			found = append(found, Good(unit, "%s: nobody can connect", is["ActiveState"]).As("act", "sudo systemctl start "+unit))
		}
		for _, a := range assignments(text) {
			if !managed.MatchString(a[0]) {
				continue
			}
			key, want := property(a[0], a[1])
			got, ok := is[key]
			if !ok {
				continue // systemd is older than the setting
			}
			n++
			if normal(key, got) != want {
				found = append(found, Good(unit, "%s is %s, not %s", a[0], got, a[1]).As("watch", "systemctl cat "+unit+" shows who says so"))
			}
		}
		if unit == "pipit.service" {
			process = s.process(is, text)
		}
	}
	for _, unit := range []string{"pipit-backup.timer", "pipit-scrub.timer"} {
		if state, err := s.Ask(ctx, "systemctl", "is-active", unit); err != nil {
			found = append(found, Good(unit, "%s: it does not come by itself", state).As("act", "sudo systemctl enable --now "+unit))
		}
	}
	if failed, err := s.Ask(ctx, "systemctl", "list-units", "--failed", "--plain", "--no-legend"); err == nil {
		for line := range strings.Lines(failed) {
			if f := strings.Fields(line); len(f) > 0 {
				found = append(found, Good("units", "%s failed", f[0]).As("act", "journalctl -b -u "+f[0]))
			}
		}
	}
	return append(summary("units", found, fmt.Sprintf("sockets listen, timers run, none failed, %d settings are as in /%s", n, unitDir)), process...)
}

// process compares what the running server really has with the unit.
func (s Shipped) process(is map[string]string, unit []byte) []Finding {
	text, err := os.ReadFile(filepath.Join(s.Proc, is["MainPID"], "limits"))
	if err != nil {
		return nil // it does not run: the check of the server says so
	}
	got := regexp.MustCompile(`Max open files +(\d+)`).FindSubmatch(text)
	for _, a := range assignments(unit) {
		if a[0] != "LimitNOFILE" || got == nil {
			continue
		}
		have, err := strconv.Atoi(string(got[1]))
		want, werr := strconv.Atoi(a[1])
		// Fewer than asked for, in a container, are named by the check of descriptors if
		// they are too few.
		if err == nil && werr == nil && have < want && have < 20256 {
			return []Finding{Good("descriptors", "the server may open %d files, not %d", have, want).As("watch", "the machine around this one sets the bound; limits.connections must stay below it")}
		}
	}
	return nil
}

// property returns the name under which systemctl show has a setting, and the value in
// that form.
func property(key, val string) (string, string) {
	if name, ok := strings.CutSuffix(key, "Sec"); ok {
		key = name + "USec"
	}
	return key, normal(key, val)
}

// normal brings a value of a unit file and one of systemctl show to one form.
func normal(key, val string) string {
	switch val {
	case "true", "on":
		return "yes"
	case "false", "off":
		return "no"
	}
	if strings.HasSuffix(key, "USec") {
		if n, err := strconv.Atoi(val); err == nil {
			return (time.Duration(n) * time.Second).String()
		}
		// systemd.time(7): "1min 30s".
		if d, err := time.ParseDuration(strings.NewReplacer("min", "m", " ", "", "ms", "ms").Replace(val)); err == nil {
			return d.String()
		}
	}
	return val
}

// manager reads back PID 1's own settings.
func (s Shipped) manager(ctx context.Context, container bool) []Finding {
	text, err := os.ReadFile(s.path(managerFile))
	if err != nil {
		return []Finding{Good("watchdog", "%v", err).As("watch", "install the image again")}
	}
	show, err := s.Ask(ctx, "systemctl", "show")
	if err != nil {
		return nil // units has said that systemd does not answer
	}
	is := map[string]string{}
	for _, a := range assignments([]byte(show)) {
		is[a[0]] = a[1]
	}
	var found []Finding
	for _, a := range assignments(text) {
		key, want := property(a[0], a[1])
		if got := is[key]; normal(key, got) != want {
			found = append(found, Good("watchdog", "%s is %q, %s says %s", a[0], got, managerFile, a[1]).As("watch", "systemd-analyze cat-config systemd/system.conf"))
		}
	}
	device := is["WatchdogDevice"]
	if device == "" && !container {
		found = append(found, Good("watchdog", "no hardware watchdog is in use: a crashed kernel stays down").As("watch", "ls /dev/watchdog*; journalctl -b | grep -i watchdog"))
	}
	if container {
		device = "the host's, this is a container"
	}
	return summary("watchdog", found, "systemd feeds the hardware's watchdog ("+device+")")
}

// journal compares journald's settings, as they result from all its files.
func (s Shipped) journal(ctx context.Context) []Finding {
	text, err := os.ReadFile(s.path(journalFile))
	if err != nil {
		return []Finding{Good("log", "%v", err).As("watch", "install the image again")}
	}
	all, err := s.Ask(ctx, "systemd-analyze", "cat-config", "systemd/journald.conf")
	if err != nil {
		return nil
	}
	is := map[string]string{}
	for _, a := range assignments([]byte(all)) {
		is[a[0]] = a[1]
	}
	var found []Finding
	for _, a := range assignments(text) {
		if is[a[0]] != a[1] {
			found = append(found, Good("log", "%s is %q, %s says %s", a[0], is[a[0]], journalFile, a[1]).As("watch", "systemd-analyze cat-config systemd/journald.conf"))
		}
	}
	if kept, err := os.ReadDir(s.path("var/log/journal")); err == nil && len(kept) > 0 {
		found = append(found, Good("log", "the journal is written to the card").As("watch", "sudo rm -r /var/log/journal; sudo systemctl restart systemd-journald"))
	}
	return summary("log", found, "in memory, at most "+is["RuntimeMaxUse"])
}

// mounts: the root is read-only, the data are where they belong.
func (s Shipped) mounts() []Finding {
	text, err := os.ReadFile(filepath.Join(s.Proc, "self/mounts"))
	if err != nil {
		return []Finding{Good("mounts", "%v", err).As("watch", "")}
	}
	type mount struct{ fs, options string }
	is := map[string]mount{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 {
			is[f[1]] = mount{f[2], "," + f[3] + ","}
		}
	}
	var found []Finding
	for _, want := range []struct{ at, fs, options, mend string }{
		{"/", "", "ro", "sudo mount -o remount,ro /"},
		{"/data", "ext4", "rw nosuid nodev noatime errors=remount-ro", "restart the box; if it comes back, the card is failing: make a backup"},
		{"/etc", "overlay", "rw", "restart the box"},
		{"/var", "overlay", "rw", "restart the box"},
		{"/var/lib/pipit", "ext4", "rw", "restart the box; if it comes back, the card is failing: make a backup"},
	} {
		m, ok := is[want.at]
		if !ok || want.fs != "" && m.fs != want.fs {
			found = append(found, Good("mounts", "%s is not mounted as %s", want.at, want.fs).As("act", want.mend))
			continue
		}
		for _, o := range strings.Fields(want.options) {
			if !strings.Contains(m.options, ","+o+",") {
				found = append(found, Good("mounts", "%s is mounted without %s", want.at, o).As("act", want.mend))
			}
		}
	}
	return summary("mounts", found, "the system is read-only, the data are on /data")
}

// zram: swap is in memory, and nowhere else.
func (s Shipped) zram() Finding {
	text, err := os.ReadFile(filepath.Join(s.Proc, "swaps"))
	if err != nil {
		return Good("swap", "%v", err).As("watch", "")
	}
	var on []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 2 && f[0] != "Filename" {
			on = append(on, f[0])
		}
	}
	sort.Strings(on)
	switch {
	case len(on) == 0:
		return Good("swap", "there is none").As("watch", "sudo systemctl start pipit-zram")
	case !strings.HasPrefix(on[0], "/dev/zram") || !strings.HasPrefix(on[len(on)-1], "/dev/zram"):
		return Good("swap", "%s is on a disk or card, which it wears out", strings.Join(on, " ")).As("watch", "sudo swapoff -a; sudo systemctl restart pipit-zram")
	}
	return Good("swap", "in compressed memory (%s)", on[0])
}
