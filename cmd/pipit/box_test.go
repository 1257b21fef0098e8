package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/provision"
)

// TestMachineFindings: what is wrong with the board and its card, and what to do.
func TestMachineReadings(t *testing.T) {
	for _, x := range []struct {
		i    machineInfo
		want string
	}{
		{machineInfo{Celsius: 60, Throttling: &machine.Throttling{}, Card: &machine.Card{LifeUsedPercent: 10, Reserve: "normal"}}, ""},
		{machineInfo{Celsius: 76}, "temperature:watch"},
		{machineInfo{Celsius: 83, Throttling: &machine.Throttling{Throttled: true}}, "temperature:act throttling:watch"},
		{machineInfo{Throttling: &machine.Throttling{UnderVoltage: true, UnderVoltageBefore: true, Throttled: true}}, "power:act"},
		{machineInfo{Throttling: &machine.Throttling{UnderVoltageBefore: true}}, "power:watch"},
		{machineInfo{Card: &machine.Card{LifeUsedPercent: 80}}, "card:watch"},
		{machineInfo{Card: &machine.Card{LifeUsedPercent: 110}}, "card:act"},
		{machineInfo{Card: &machine.Card{Reserve: "urgent"}}, "card:act"},
	} {
		found := machineFindings(x.i)
		if got := checks(found); got != x.want {
			t.Errorf("%+v: %s, want %s", x.i, got, x.want)
		}
		for _, f := range found {
			if f.Mend == "" {
				t.Errorf("%s: %q says not what to do", f.Check, f.Text)
			}
		}
	}
}

func sampleOverview() overview {
	return overview{
		ServerInfo: apiclient.ServerInfo{Version: "1.2.0", Ready: true, UptimeS: 300_000, PID: 812, Listen: []string{"[::]:80"}, ListenTLS: []string{"[::]:443"},
			Tenants: 3, People: 1204, Sessions: 1310, Connections: 1402, Messages: 93_000, MessagesPerMinute: 84, CommitP50US: 12_300, CommitP99US: 31_000,
			RSSBytes: 78 << 20, MemoryLimit: 345 << 20, DataDir: "/var/lib/pipit", Descriptors: apiclient.DescriptorInfo{Open: 1450, Limit: 524288},
			Store: apiclient.StoreInfo{State: "writable", Bytes: 1200 << 20, FreeBytes: 21 << 30}},
		Machine: machineInfo{Host: "oakhill", Model: "Raspberry Pi 4 Model B Rev 1.5", UptimeS: 301_000, Celsius: 52, Load: 0.42, Throttling: &machine.Throttling{},
			MemTotal: 920 << 20, MemFree: 300 << 20, DiskTotal: 29 << 30, DiskFree: 21 << 30, Clock: machine.Synchronised,
			Card: &machine.Card{Device: "mmcblk0", Name: "SC32G", Made: "04/2024", WrittenBytes: 3 << 30}},
		Health: []finding{
			{Check: "power", State: "act", Text: "The power supply is too weak: the voltage is too low at this moment.", Mend: "use the board's own power supply and a short cable; take off USB devices"},
			{Check: "disk-short", State: "watch", Text: "The disk is nearly full. There is room for a while, but not for long. (300 MiB free)", Mend: "Remove what is not needed."}},
	}
}

// TestStatusFits: the busiest overview fits a console of 80 × 25.
func TestStatusFits(t *testing.T) {
	o := sampleOverview()
	text := o.text(time.Date(2026, 11, 25, 8, 0, 0, 0, time.UTC), 80)
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > 25 {
		t.Errorf("%d lines:\n%s", len(lines), text)
	}
	for _, l := range lines {
		if n := len([]rune(l)); n > 80 || strings.HasSuffix(l, " ") {
			t.Errorf("%d columns: %q", n, l)
		}
	}
	for _, want := range []string{"http://oakhill.local\n", "https://oakhill.local\n", "1204 people in 1310 sessions", "within 12 ms (half), 31 ms (99 %)", "not throttled", "health       act: The power supply is too weak"} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %q:\n%s", want, text)
		}
	}
}

// TestSceneFits: the box's screen at 80 × 25, at its fullest, and on a small one.
func TestSceneFits(t *testing.T) {
	s := scene{Host: "oakhill", URLs: []string{"http://oakhill.local", "http://elm.local", "http://192.168.7.20", "http://10.0.0.3", "http://10.0.0.4"},
		SetUp:       provision.SetUp{Organisation: "Oakhill", Username: "admin", Code: "ABCD-EFGH-JKMN-PQRS"},
		Fingerprint: []string{"3C:CC:50:3C:CB:44:B2:4E", "FC:98:F4:BE:F6:6A:FC:E7", "DA:A6:67:62:9E:0B:D2:FA", "D9:85:82:01:ED:F3:FD:6C"},
		Lines: []finding{{State: "act", Text: "pipit.yaml:3: 名称不对 The name is wrong.", Mend: ""}, {State: "watch", Text: strings.Repeat("many words ", 30)},
			{State: "watch", Text: strings.Repeat("more words ", 30)}, {State: "watch", Text: strings.Repeat("most words ", 30)}}}
	for _, size := range [][2]int{{80, 25}, {80, 30}, {100, 37}, {60, 20}} {
		text := s.draw(size[0], size[1])
		lines := strings.Split(text, "\n")
		if len(lines) > size[1] {
			t.Errorf("%v: %d lines:\n%s", size, len(lines), text)
		}
		for _, l := range lines {
			if n := len([]rune(l)); n >= size[0] {
				t.Errorf("%v: %d columns: %q", size, n, l)
			}
		}
		if strings.ContainsRune(text, '名') {
			t.Error("letters that the console lacks")
		}
		if size[0] >= 80 && (!strings.Contains(text, "ABCD-EFGH-JKMN-PQRS") || !strings.Contains(text, "D9:85:82:01:ED:F3:FD:6C")) {
			t.Errorf("%v:\n%s", size, text)
		}
	}
	if text := s.draw(80, 25); !strings.Contains(text, "more: pipit status") && !strings.Contains(text, "The name is wrong") {
		t.Errorf("health is lost:\n%s", text)
	}
}

// TestScrub: what looks like a secret does not leave the box, whatever it stands in.
func TestScrub(t *testing.T) {
	for _, secret := range []string{
		"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\nAbCd\n-----END EC PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\nMHcCAQEE", "AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGP",
		"pipit-update-secret MDEyMzQ1Njc4OWFiY2RlZg==", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA", "Authorization: Bearer pt_oakhill_0123456789abcdef0123456789abcdef",
		"wifi-sec.psk=MHcCAQEE", "password: MHcCAQEE", `{"password":"MHcCAQEE","user":"x"}`, "\"client_secret\": \"MHcCAQEE\"", "tls:\n  token: MHcCAQEE",
		"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl", "setup_code=MHcCAQEE", "pa_oakhill_0123456789abcdef0123456789abcdef",
	} {
		got := string(scrub([]byte("before\n" + secret + "\nafter\n")))
		for _, leak := range []string{"MHcCAQEE", "0123456789abcdef", "QQPQYQSZ", "aGFzaA", "MDEyMzQ1", "eyJzdWIi"} {
			if strings.Contains(got, leak) {
				t.Errorf("%q becomes %q", secret, got)
			}
		}
		if !strings.HasPrefix(got, "before\n") || !strings.Contains(got, "(left out)") {
			t.Errorf("%q becomes %q", secret, got)
		}
	}
	plain := "listen: 127.0.0.1:8080\nlog:\n  level: info\n{\"messages\": 1, \"code\": \"disk-full\"}\n  \"code\": \"x\"\n"
	if got := string(scrub([]byte(plain))); got != plain {
		t.Errorf("too much is left out: %q", got)
	}
}

// handClock is a clock that can be set.
type handClock struct {
	now time.Time
	err error
}

func (c *handClock) Now() time.Time { return c.now }
func (c *handClock) Set(t time.Time) error {
	if c.err == nil {
		c.now = t
	}
	return c.err
}

func TestClockCommands(t *testing.T) {
	real := systemClock
	defer func() { systemClock = real }()
	c := &handClock{now: time.Unix(100, 0)}
	systemClock = c
	dir := t.TempDir()
	pipit := func(args ...string) (int, string, string) {
		var out, errOut bytes.Buffer
		code := run(t.Context(), append([]string{"--data-dir", dir}, args...), strings.NewReader(""), &out, &errOut)
		return code, out.String(), errOut.String()
	}
	if code, out, _ := pipit("clock", "set", "2027-05-01 08:00"); code != 0 || !strings.Contains(out, "The clock says 2027-05-01 08:00:00") || c.now.Year() != 2027 {
		t.Errorf("%d %s %v", code, out, c.now)
	}
	c.now = time.Unix(5, 0) // the plug
	if code, out, _ := pipit("clock", "restore"); code != 0 || !strings.Contains(out, "it says 2027-05-01 08:00 now") {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ := pipit("clock", "restore", "--json"); code != 0 || !strings.Contains(out, `"moved_s": 0`) {
		t.Errorf("%d %s", code, out)
	}
	c.now = c.now.Add(time.Hour)
	if code, _, _ := pipit("clock", "save"); code != 0 || !machine.LastKnown(dir).Equal(c.now) {
		t.Errorf("%d %v", code, machine.LastKnown(dir))
	}
	c.err = errors.New("broken")
	if code, _, errOut := pipit("clock", "set", "2028-05-01 08:00"); code != 1 || !strings.Contains(errOut, "can't be set") {
		t.Errorf("%d %s", code, errOut)
	}
}

func TestNetworkReadings(t *testing.T) {
	if got := gateway("Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0107A8C0\t0003\t0\t0\t100\t00000000\n"); got != "192.168.7.1" {
		t.Errorf("gateway %q", got)
	}
	if got := gateway("eth0\t0007A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\n"); got != "" {
		t.Errorf("gateway %q", got)
	}
	root := t.TempDir()
	for name, text := range map[string]string{"etc/resolv.conf": "nameserver 127.0.0.53\n", "run/systemd/resolve/resolv.conf": "# x\nnameserver 192.168.7.1\nnameserver 9.9.9.9\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := readNetwork(t.TempDir(), root); strings.Join(n.DNS, " ") != "192.168.7.1 9.9.9.9" || n.Announced {
		t.Errorf("%+v", n)
	}
}
