package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

// patience bounds the wait for a server to be ready; only a fault meets it.
const patience = 60 * time.Second

// TestPlantedFaults: what a receiver sees wrong is counted as what it is.
func TestPlantedFaults(t *testing.T) {
	type got struct{ seq, number int } // of sender 1
	for name, x := range map[string]struct {
		list                      []got
		lost, doubled, misordered int64
	}{
		"all well":                     {[]got{{1, 1}, {2, 2}, {3, 3}}, 0, 0, 0},
		"an entry is missing":          {[]got{{1, 1}, {3, 3}}, 1, 0, 0},
		"three are":                    {[]got{{1, 1}, {5, 5}}, 3, 0, 0},
		"an entry comes twice":         {[]got{{1, 1}, {2, 2}, {2, 2}}, 0, 1, 0},
		"a message is stored twice":    {[]got{{1, 1}, {2, 2}, {3, 2}}, 0, 1, 0},
		"two messages change places":   {[]got{{1, 2}, {2, 1}, {3, 3}}, 0, 0, 1},
		"an old entry comes late":      {[]got{{1, 1}, {3, 3}, {2, 2}}, 1, 1, 0},
		"of another run, and no texts": {[]got{{1, -1}, {2, 1}}, 0, 0, 0},
	} {
		w := &worker{deliv: histogram()}
		u := &user{w: w, rooms: map[im.ConvID]*roomView{"c_1": newView()}}
		for _, g := range x.list {
			m := &im.Message{}
			m.Conv, m.Seq, m.Kind, m.Entry.Text = "c_1", im.Seq(g.seq), im.EntryMessage, "hello"
			if g.number > 0 {
				m.Entry.Text = makeText(1, g.number, time.Now().UnixNano(), 64)
			}
			u.entry(m)
		}
		c := &w.counts
		if c.lost.Load() != x.lost || c.doubled.Load() != x.doubled || c.misordered.Load() != x.misordered {
			t.Errorf("%s: %d lost, %d doubled, %d out of order; want %d, %d, %d", name,
				c.lost.Load(), c.doubled.Load(), c.misordered.Load(), x.lost, x.doubled, x.misordered)
		}
	}
}

func newView() *roomView { return &roomView{from: map[int]*heard{}} }

// TestDamageFailsTheRun: one message lost, doubled or out of order is an error,
// after the report.
func TestDamageFailsTheRun(t *testing.T) {
	for _, asJSON := range []bool{true, false} {
		for _, x := range []struct {
			r    report
			want error
		}{{report{}, nil}, {report{Lost: 1}, errDamage}, {report{Doubled: 1}, errDamage}, {report{OutOfOrder: 1}, errDamage}} {
			var out bytes.Buffer
			if err := x.r.print(&out, asJSON); !errors.Is(err, x.want) || out.Len() == 0 {
				t.Errorf("%+v: %v, %d bytes printed", x.r, err, out.Len())
			}
		}
	}
}

func TestText(t *testing.T) {
	for _, size := range []int{minText, 49, 200, 4096} {
		s := makeText(123456, 98765, 1790000000000000000, size)
		sender, n, at, err := parseText(s)
		if err != nil || sender != 123456 || n != 98765 || at != 1790000000000000000 || len(s) != size {
			t.Errorf("size %d: %d bytes, %d %d %d %v", size, len(s), sender, n, at, err)
		}
	}
	for _, s := range []string{"", "hello there you all", "L 1 2", "L x 2 3 ", "L 1 x 3 ", "L 1 2 x "} {
		if _, _, _, err := parseText(s); err == nil {
			t.Errorf("%q was taken for one of ours", s)
		}
	}
}

// TestProfiles runs each profile, small and short, against a real server.
func TestProfiles(t *testing.T) {
	dir, err := os.MkdirTemp("", "pipit-load-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	out, err := exec.Command("go", "build", "-o", dir, "github.com/pipit-im/pipit/cmd/pipitd", "github.com/pipit-im/pipit/cmd/pipit-load").CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	data, load := filepath.Join(dir, "d"), filepath.Join(dir, "pipit-load")
	server := exec.Command(filepath.Join(dir, "pipitd"), "--data-dir", data, "--listen", "127.0.0.1:0", "--metrics-listen", "")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM) // fails if it has ended
		if err := server.Wait(); err != nil {
			t.Errorf("pipitd: %v", err)
		}
	})
	box := apiclient.New(data)
	defer box.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		if s, err := box.Status(t.Context()); err == nil && s.Ready {
			break
		}
		if time.Since(began) > patience {
			t.Fatal("the server is not ready")
		}
	}
	for _, p := range profiles {
		t.Run(p.name, func(t *testing.T) {
			cmd := exec.Command(load, p.name, "--data-dir", data, "--users", "30", "--duration", "2s", "--every", "500ms", "--json")
			var out, progress bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &progress
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s%s", err, out.Bytes(), progress.Bytes())
			}
			var r map[string]any
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			for _, key := range []string{"profile", "users", "rooms", "duration_s", "sends", "acked", "refused", "deliveries", "lost", "doubled", "out_of_order",
				"sends_per_s", "deliveries_per_s", "ack_ms", "delivery_ms", "handshake_ms", "handshakes_per_s", "server_cpu_s", "client_cpu_s",
				"server_cpu_us_per_delivery", "server_memory", "rss_bytes_per_connection"} {
				if _, ok := r[key]; !ok {
					t.Errorf("the report has no %s", key)
				}
			}
			if r["profile"] != p.name || r["users"] != 30.0 || r["lost"] != 0.0 || r["doubled"] != 0.0 || r["out_of_order"] != 0.0 {
				t.Errorf("%s", out.Bytes())
			}
			if sends := slices.Contains([]string{"chat", "announce", "soak"}, p.name); sends != (r["acked"].(float64) > 0) || sends != (r["deliveries"].(float64) > 0) {
				t.Errorf("acked %v, delivered %v", r["acked"], r["deliveries"])
			}
			if text := progress.String(); !strings.Contains(text, "making 30 users") {
				t.Errorf("progress: %s", text)
			}
		})
	}
	for _, args := range []string{"chat --users 1", "chat --duration 1ms", "chat --size 5", "nothing", "chat --data-dir /nowhere"} {
		cmd := exec.Command(load, append(strings.Fields(args), fmt.Sprintf("--url=http://%s", "127.0.0.1:1"))...)
		cmd.Env = append(os.Environ(), "PIPIT_DATA_DIR="+data)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.HasPrefix(string(out), "pipit-load: ") {
			t.Errorf("%s: %v %s", args, err, out)
		}
	}
}
