package machine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/im"
)

// tree makes a machine of files; a value that begins with -> is a link.
func tree(t *testing.T, files map[string]string) Machine {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if to, link := strings.CutPrefix(text, "->"); link {
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Machine{Root: root}
}

// A Raspberry Pi 4, warm, with a weak power supply, on eMMC.
var pi = map[string]string{
	"proc/device-tree/model":                              "Raspberry Pi 4 Model B Rev 1.5\x00",
	"sys/class/thermal/thermal_zone0/temp":                "0\n",
	"sys/class/thermal/thermal_zone0/type":                "gpu-thermal\n",
	"sys/class/thermal/thermal_zone1/temp":                "71586\n",
	"sys/class/thermal/thermal_zone1/type":                "cpu-thermal\n",
	"sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
	"proc/self/mountinfo":                                 "21 1 179:2 / / rw - ext4 /dev/root rw\n44 21 179:3 /pipit /var/lib/pipit rw - ext4 /dev/mmcblk0p3 rw\n45 21 8:1 / /media/my\\040stick rw - vfat /dev/sda1 rw\n",
	"sys/dev/block/179:2":                                 "->../../devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0/mmcblk0p2",
	"sys/dev/block/179:3":                                 "->../../devices/platform/emmc2bus/fe340000.mmc/mmc_host/mmc0/mmc0:0001/block/mmcblk0/mmcblk0p3",
	"sys/dev/block/8:1":                                   "->../../devices/platform/usb/host0/target0:0:0/0:0:0:0/block/sda/sda1",
	"sys/block/mmcblk0/device/name":                       "BJTD4R\n",
	"sys/block/mmcblk0/device/date":                       "04/2024\n",
	"sys/block/mmcblk0/device/life_time":                  "0x01 0x09\n",
	"sys/block/mmcblk0/device/pre_eol_info":               "0x02\n",
	"sys/block/mmcblk0/stat":                              "  11 0 900 40 77 12 204800 90 0 100 130\n",
	"sys/block/sda/device/model":                          "Flash Disk      \n",
	"proc/meminfo":                                        "MemTotal:         935000 kB\nMemFree:  1 kB\nMemAvailable:     400000 kB\n",
	"proc/loadavg":                                        "0.52 0.58 0.59 1/200 999\n",
	"proc/uptime":                                         "93784.25 300000.00\n",
	"sys/class/net/wlan0/wireless/x":                      "",
	"proc/net/wireless":                                   "Inter-| sta-|   Quality        |\n face | tus | link level noise |\n wlan0: 0000   54.  -56.  -256        0      0      0      0     16        0\n",
	"proc/sys/kernel/random/boot_id":                      "b0b0\n",
}

func TestPi(t *testing.T) {
	m := tree(t, pi)
	if got := m.Model(); got != "Raspberry Pi 4 Model B Rev 1.5" {
		t.Errorf("model %q", got)
	}
	if c, ok := m.Temperature(); !ok || c != 71.586 {
		t.Errorf("temperature %v", c)
	}
	if got, ok := m.Throttling(); !ok || got != (Throttling{UnderVoltage: true, Throttled: true, UnderVoltageBefore: true, ThrottledBefore: true}) {
		t.Errorf("throttling %+v", got)
	}
	want := Card{Device: "mmcblk0", Name: "BJTD4R", Made: "04/2024", WrittenBytes: 100 << 20, LifeUsedPercent: 90, Reserve: "warning"}
	if got, ok := m.Card("/var/lib/pipit"); !ok || got != want {
		t.Errorf("card %+v", got)
	}
	if got, ok := m.Card("/media/my stick/x"); !ok || got.Device != "sda" || got.Name != "Flash Disk" || got.LifeUsedPercent != 0 {
		t.Errorf("stick %+v", got)
	}
	if got, ok := m.Card("/var/lib/pipit2"); !ok || got.Device != "mmcblk0" {
		t.Errorf("root %+v", got)
	}
	if total, avail, ok := m.Memory(); !ok || total != 935000<<10 || avail != 400000<<10 {
		t.Errorf("memory %d %d", total, avail)
	}
	if l, ok := m.Load(); !ok || l != 0.52 {
		t.Errorf("load %v", l)
	}
	if up, ok := m.Uptime(); !ok || up.Round(time.Second) != 26*time.Hour+3*time.Minute+4*time.Second {
		t.Errorf("uptime %v", up)
	}
	if w := m.WiFi(); len(w) != 1 || w[0] != (WiFi{"wlan0", 54, -56}) {
		t.Errorf("Wi-Fi %+v", w)
	}
}

// TestNothing: a machine that tells nothing has no readings and no errors.
func TestNothing(t *testing.T) {
	m := tree(t, nil)
	_, temp := m.Temperature()
	_, thr := m.Throttling()
	_, card := m.Card("/")
	_, _, mem := m.Memory()
	_, load := m.Load()
	_, up := m.Uptime()
	if m.Model() != "" || temp || thr || card || mem || load || up || m.WiFi() != nil {
		t.Error("a reading from nowhere")
	}
	if got := m.ClockTrust(t.TempDir()); got != Unknown || !got.Believed() {
		t.Errorf("clock %v", got)
	}
}

// TestThisMachine: the real files have the form that is read here.
func TestThisMachine(t *testing.T) {
	m := Machine{}
	if _, ok := m.Load(); !ok {
		t.Error("no load")
	}
	if up, ok := m.Uptime(); !ok || up <= 0 {
		t.Errorf("uptime %v", up)
	}
	if total, avail, ok := m.Memory(); !ok || avail > total {
		t.Errorf("memory %d of %d", avail, total)
	}
	if m.BootID() == "" {
		t.Error("no boot id")
	}
}

// fake is a clock that can be set.
type fake struct {
	now time.Time
	err error
}

func (f *fake) Now() time.Time { return f.now }
func (f *fake) Set(t time.Time) error {
	if f.err == nil {
		f.now = t
	}
	return f.err
}

func TestClock(t *testing.T) {
	m, dir := tree(t, pi), t.TempDir()
	day := time.Date(2027, 5, 1, 8, 0, 0, 0, time.UTC)
	c := &fake{now: time.Unix(100, 0)}

	// The first start ever: as late as it must be, and not believed.
	if moved, err := RestoreClock(dir, c); err != nil || !c.now.Equal(clockFloor) || moved < 50*365*24*time.Hour {
		t.Errorf("%v, %v, %v", moved, err, c.now)
	}
	if err := os.MkdirAll(m.path("run/systemd/timesync"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := m.ClockTrust(dir); got != Untrusted {
		t.Errorf("trust %v", got)
	}
	// Set by hand.
	if err := m.SetClock(dir, c, time.Unix(5, 0)); !im.Is(err, im.Invalid) {
		t.Errorf("1970: %v", err)
	}
	if err := m.SetClock(dir, c, day); err != nil || !c.now.Equal(day) || m.ClockTrust(dir) != SetByHand {
		t.Errorf("%v, %v, %v", err, c.now, m.ClockTrust(dir))
	}
	// It goes on, and is written down now and then; never back.
	for _, x := range []time.Time{day.Add(time.Hour), day.Add(time.Minute)} {
		if err := SaveClock(dir, &fake{now: x}); err != nil {
			t.Fatal(err)
		}
	}
	if got := LastKnown(dir); !got.Equal(day.Add(time.Hour)) {
		t.Errorf("last %v", got)
	}
	if m.ClockTrust(dir) != SetByHand {
		t.Error("saving the time forgets that it was set")
	}
	// The plug: another boot, and 1970 again.
	if err := os.WriteFile(m.path("proc/sys/kernel/random/boot_id"), []byte("another\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.now = time.Unix(7, 0)
	if _, err := RestoreClock(dir, c); err != nil || !c.now.Equal(day.Add(time.Hour)) || m.ClockTrust(dir) != Untrusted {
		t.Errorf("%v, %v, %v", err, c.now, m.ClockTrust(dir))
	}
	if moved, err := RestoreClock(dir, c); moved != 0 || err != nil {
		t.Errorf("twice: %v, %v", moved, err)
	}
	// A time server answers.
	if err := os.WriteFile(m.path("run/systemd/timesync/synchronized"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := m.ClockTrust(dir); got != Synchronised {
		t.Errorf("trust %v", got)
	}
	// Not root.
	c.err = unix.EPERM
	if err := m.SetClock(dir, c, day); !im.Is(err, im.Forbidden) || !strings.Contains(err.Error(), "sudo") {
		t.Errorf("%v", err)
	}
	c.err = errors.New("broken")
	c.now = time.Unix(7, 0)
	if _, err := RestoreClock(dir, c); !im.Is(err, im.Unavailable) {
		t.Errorf("%v", err)
	}
	// A damaged file is as none.
	if err := os.WriteFile(filepath.Join(dir, ClockName), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if !LastKnown(dir).IsZero() {
		t.Error("a time from a damaged file")
	}
	if err := SaveClock(dir, &fake{now: day}); err != nil || !LastKnown(dir).Equal(day) {
		t.Errorf("not mended: %v", err)
	}
}

// shared is a clock that two set and read, and that goes on with each look.
type shared struct {
	mu  sync.Mutex
	now time.Time
}

func (s *shared) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(time.Second)
	return s.now
}

func (s *shared) Set(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = t
	return nil
}

// The server writes the time down while somebody sets the clock back from a wrong
// future: that it was set stays written, and the future does not come back.
func TestClockSetBesideTheServer(t *testing.T) {
	m := tree(t, pi)
	if err := os.MkdirAll(m.path("run/systemd/timesync"), 0o755); err != nil {
		t.Fatal(err)
	}
	day := time.Date(2027, 5, 1, 8, 0, 0, 0, time.UTC)
	for range 100 {
		dir, c := t.TempDir(), &shared{now: day.AddDate(9, 0, 0)}
		var server sync.WaitGroup
		server.Go(func() {
			for range 20 {
				if err := SaveClock(dir, c); err != nil {
					t.Error(err)
				}
			}
		})
		if err := m.SetClock(dir, c, day); err != nil {
			t.Fatal(err)
		}
		server.Wait()
		if last := LastKnown(dir); last.Before(day) || last.After(day.Add(time.Hour)) {
			t.Fatalf("set to %v, written down is %v", day, last)
		}
		if trust := m.ClockTrust(dir); trust != SetByHand {
			t.Fatalf("set by hand, then %v", trust)
		}
	}
}
