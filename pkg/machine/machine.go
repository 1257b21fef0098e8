// Package machine reads what the machine under the server says of itself: its
// model, temperature and throttling, the wear of its card, memory, load, Wi-Fi, and
// whether its clock is to be believed.
//
// It owns the paths under /sys, /proc and /run, and DATA/clock (clock.go); it
// changes nothing but that file and, where it is told to, the clock. Readings
// that this machine does not offer are absent, not errors. Everything is read
// below Machine.Root, so that tests give it a tree of files.
//
// All methods may be called from any goroutine and take microseconds to
// milliseconds; nothing is cached.
package machine

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machine is a machine whose files are below Root.
type Machine struct {
	Root string // "" is /
}

func (m Machine) path(name string) string {
	if m.Root == "" {
		return "/" + name
	}
	return filepath.Join(m.Root, name)
}

// text returns the trimmed content of a file, "" if there is none.
func (m Machine) text(name string) string {
	b, err := os.ReadFile(m.path(name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(bytes.Trim(b, "\x00")))
}

func (m Machine) glob(pattern string) []string {
	names, err := filepath.Glob(m.path(pattern))
	if err != nil {
		return nil
	}
	slices.Sort(names)
	return names
}

// Model is what the board calls itself, "" if it does not.
func (m Machine) Model() string {
	if s := m.text("proc/device-tree/model"); s != "" {
		return s
	}
	return strings.TrimSpace(m.text("sys/class/dmi/id/sys_vendor") + " " + m.text("sys/class/dmi/id/product_name"))
}

// Temperature returns the processor's in degrees Celsius.
func (m Machine) Temperature() (celsius float64, ok bool) {
	zones := m.glob("sys/class/thermal/thermal_zone*")
	// The processor's zone has a name of its own on most boards; else the first.
	slices.SortStableFunc(zones, func(a, b string) int { return cpuFirst(a) - cpuFirst(b) })
	for _, z := range zones {
		b, err := os.ReadFile(filepath.Join(z, "temp"))
		if err != nil {
			continue
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
		if err == nil && n > -50_000 && n < 200_000 && n != 0 {
			return n / 1000, true
		}
	}
	return 0, false
}

func cpuFirst(zone string) int {
	b, err := os.ReadFile(filepath.Join(zone, "type"))
	if err == nil && strings.Contains(strings.ToLower(string(b)), "cpu") {
		return 0
	}
	return 1
}

// Throttling is what a Raspberry Pi's firmware did to keep itself alive
// (get_throttled: bits 0–3 now, 16–19 since the start).
type Throttling struct {
	UnderVoltage bool `json:"under_voltage"` // the power supply is too weak
	Capped       bool `json:"frequency_capped"`
	Throttled    bool `json:"throttled"`
	TooWarm      bool `json:"soft_temperature_limit"`

	UnderVoltageBefore bool `json:"under_voltage_before"`
	ThrottledBefore    bool `json:"throttled_before"`
}

// Throttling reads the firmware's word, from sysfs or by vcgencmd.
func (m Machine) Throttling() (t Throttling, ok bool) {
	word := m.text("sys/devices/platform/soc/soc:firmware/get_throttled")
	if word == "" && m.Root == "" {
		if out, err := exec.Command("vcgencmd", "get_throttled").Output(); err == nil {
			_, word, _ = strings.Cut(strings.TrimSpace(string(out)), "=")
		}
	}
	n, err := strconv.ParseUint(strings.TrimPrefix(word, "0x"), 16, 32)
	if word == "" || err != nil {
		return t, false
	}
	return Throttling{UnderVoltage: n&1 != 0, Capped: n&2 != 0, Throttled: n&4 != 0, TooWarm: n&8 != 0,
		UnderVoltageBefore: n&(1<<16) != 0, ThrottledBefore: n&(1<<18|1<<19) != 0}, true
}

// Card is the SD card, eMMC or other block device that the data are on.
type Card struct {
	Device       string `json:"device"`
	Name         string `json:"name,omitempty"`
	Made         string `json:"made,omitempty"`          // MM/YYYY
	WrittenBytes int64  `json:"written_bytes,omitempty"` // since the start of the machine
	// LifeUsedPercent is the upper end of what the device estimates (JEDEC eMMC
	// 5.0, DEVICE_LIFE_TIME_EST), in steps of ten; 0: it does not say.
	LifeUsedPercent int `json:"life_used_percent,omitempty"`
	// Reserve is normal, warning or urgent (PRE_EOL_INFO); "": it does not say.
	Reserve string `json:"reserve,omitempty"`
}

// Card returns the device that dir is on. SD cards tell no wear; eMMC does.
func (m Machine) Card(dir string) (c Card, ok bool) {
	dev := m.deviceOf(dir)
	if dev == "" {
		return c, false
	}
	c.Device = dev
	base := "sys/block/" + dev
	c.Name = m.text(base + "/device/name")
	if c.Name == "" {
		c.Name = m.text(base + "/device/model")
	}
	c.Made = m.text(base + "/device/date")
	if f := strings.Fields(m.text(base + "/stat")); len(f) > 6 {
		if sectors, err := strconv.ParseInt(f[6], 10, 64); err == nil {
			c.WrittenBytes = sectors * 512
		}
	}
	for _, f := range strings.Fields(m.text(base + "/device/life_time")) { // of its two kinds of memory
		if n, err := strconv.ParseUint(strings.TrimPrefix(f, "0x"), 16, 8); err == nil && n >= 1 && n <= 11 {
			c.LifeUsedPercent = max(c.LifeUsedPercent, int(n)*10)
		}
	}
	switch m.text(base + "/device/pre_eol_info") {
	case "0x01":
		c.Reserve = "normal"
	case "0x02":
		c.Reserve = "warning"
	case "0x03":
		c.Reserve = "urgent"
	}
	return c, true
}

// deviceOf returns the whole disk that a folder is on: mmcblk0, sda.
func (m Machine) deviceOf(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	number, longest := "", -1
	for line := range strings.Lines(m.text("proc/self/mountinfo")) {
		f := strings.Fields(line) // proc(5): 3 major:minor, 5 mount point
		if len(f) < 5 {
			continue
		}
		at := strings.ReplaceAll(f[4], `\040`, " ")
		if (at == "/" || dir == at || strings.HasPrefix(dir, at+"/")) && len(at) > longest {
			number, longest = f[2], len(at)
		}
	}
	link, err := os.Readlink(m.path("sys/dev/block/" + number))
	if err != nil {
		return ""
	}
	parts := strings.Split(filepath.ToSlash(link), "/")
	if i := slices.Index(parts, "block"); i >= 0 && i+1 < len(parts) {
		return parts[i+1]
	}
	return ""
}

// Memory returns total and available memory in bytes (proc(5), meminfo).
func (m Machine) Memory() (total, available int64, ok bool) {
	kib := func(name string) int64 {
		for line := range strings.Lines(m.text("proc/meminfo")) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == name+":" {
				if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
					return n << 10
				}
			}
		}
		return 0
	}
	total, available = kib("MemTotal"), kib("MemAvailable")
	return total, available, total > 0
}

// Load is the load average of the last minute (proc(5), loadavg).
func (m Machine) Load() (float64, bool) {
	first, _, _ := strings.Cut(m.text("proc/loadavg"), " ")
	n, err := strconv.ParseFloat(first, 64)
	return n, err == nil
}

// Uptime is how long the machine has been running (proc(5), uptime).
func (m Machine) Uptime() (time.Duration, bool) {
	first, _, _ := strings.Cut(m.text("proc/uptime"), " ")
	n, err := strconv.ParseFloat(first, 64)
	return time.Duration(n * float64(time.Second)), err == nil
}

// WiFi is a wireless interface.
type WiFi struct {
	Interface string `json:"interface"`
	Quality   int    `json:"quality"` // link quality as the driver counts it, mostly of 70; 0: not connected
	SignalDBM int    `json:"signal_dbm,omitempty"`
}

// WiFi lists the wireless interfaces (proc(5), net/wireless).
func (m Machine) WiFi() []WiFi {
	var list []WiFi
	for _, dir := range m.glob("sys/class/net/*/wireless") {
		list = append(list, WiFi{Interface: filepath.Base(filepath.Dir(dir))})
	}
	s := bufio.NewScanner(strings.NewReader(m.text("proc/net/wireless")))
	for s.Scan() {
		f := strings.Fields(strings.ReplaceAll(s.Text(), ".", " ")) // "wlan0: 0000   54.  -56.  -256 …"
		if len(f) < 4 || !strings.HasSuffix(f[0], ":") {
			continue
		}
		quality, err1 := strconv.Atoi(f[2])
		signal, err2 := strconv.Atoi(f[3])
		name := strings.TrimSuffix(f[0], ":")
		if errors.Join(err1, err2) != nil {
			continue
		}
		if i := slices.IndexFunc(list, func(w WiFi) bool { return w.Interface == name }); i >= 0 {
			list[i].Quality, list[i].SignalDBM = quality, signal
		} else {
			list = append(list, WiFi{name, quality, signal})
		}
	}
	return list
}

// BootID is another at each start of the machine (random(4)).
func (m Machine) BootID() string { return m.text("proc/sys/kernel/random/boot_id") }
