package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

func checks(found []finding) string {
	var list []string
	for _, f := range found {
		list = append(list, f.Check+":"+f.State)
	}
	return strings.Join(list, " ")
}

// TestMerge: doctor's own checks and the server's conditions never say the same
// thing twice.
func TestMerge(t *testing.T) {
	f := func(list ...string) (out []finding) {
		for _, x := range list {
			check, state, _ := strings.Cut(x, ":")
			out = append(out, finding{Check: check, State: state})
		}
		return out
	}
	for _, x := range []struct {
		own, conditions []finding
		want            string
	}{
		{f("clock:good", "disk:good"), nil, "clock:good disk:good"},
		{f("clock:watch", "disk:good"), f("clock-untrusted:watch"), "disk:good clock-untrusted:watch"},
		{f("clock:act"), f("clock-untrusted:watch"), "clock:act"},
		{f("clock:good"), f("clock-untrusted:watch"), "clock-untrusted:watch"},
		{f("store:act"), f("store-failed:act", "store-damaged:act"), "store-failed:act store-damaged:act"},
		{f("disk:watch"), f("disk-full:act", "reserve-spent:watch"), "disk-full:act reserve-spent:watch"},
	} {
		if got := checks(merge(x.own, x.conditions)); got != x.want {
			t.Errorf("%s with %s: %s, want %s", checks(x.own), checks(x.conditions), got, x.want)
		}
	}
}

func TestMachineFindings(t *testing.T) {
	proc := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(proc, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("meminfo", "MemTotal:         935000 kB\nMemAvailable:      40000 kB\n")
	if f := memoryFinding(proc); f.State != "act" || f.Text != "39 MiB available of 913 MiB" {
		t.Errorf("%+v", f)
	}
	write("meminfo", "MemTotal:         935000 kB\nMemAvailable:     400000 kB\n")
	if f := memoryFinding(proc); f.State != "good" {
		t.Errorf("%+v", f)
	}
	if f := memoryFinding(filepath.Join(proc, "none")); f.State != "watch" {
		t.Errorf("%+v", f)
	}
	if f := clockFinding(time.Unix(86400, 0)); f.State != "act" || !strings.Contains(f.Text, "1970") {
		t.Errorf("%+v", f)
	}
	if f := diskFinding(filepath.Join(proc, "not", "there", "yet")); strings.Contains(f.Text, "yet") || f.Check != "disk" {
		t.Errorf("%+v", f)
	}
	s := apiclient.ServerInfo{Version: "1", Descriptors: apiclient.DescriptorInfo{Open: 950, Limit: 1024},
		Store: apiclient.StoreInfo{State: "full", Reason: "no room"}}
	if got := checks(serverFindings(s)); got != "server:watch descriptors:act store:act" {
		t.Errorf("%s", got)
	}
	s.Ready, s.Descriptors.Limit, s.Store = true, 65536, apiclient.StoreInfo{State: "writable", Damaged: 2}
	if got := checks(serverFindings(s)); got != "server:good descriptors:good store:act" {
		t.Errorf("%s", got)
	}
}

func TestTexts(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 10 << 20: "10 MiB", 5 << 30: "5.0 GiB", 1 << 60: "1048576 TiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %s, want %s", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0 s", 59 * time.Second: "59 s", 90 * time.Minute: "1 h 30 min", 61 * time.Second: "1 min", 72 * time.Hour: "3 days"} {
		if got := since(d); got != want {
			t.Errorf("since(%v) = %s, want %s", d, got, want)
		}
	}
	if got := printable("a\tb\x1b[2J\u202e👨\u200d👩\n"); got != "a b�[2J�👨\u200d👩 " {
		t.Errorf("%q", got)
	}
}
