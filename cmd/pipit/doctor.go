package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/doctor"
	"github.com/pipit-im/pipit/pkg/machine"
)

// finding is the result of one check of doctor.
type finding = doctor.Finding

var good = doctor.Good

func (t *tool) doctorCmd() *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "Check the system under the server, and say what mends it", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			found := t.examine(cmd.Context(), dir, "/proc")
			if err := t.answer(found, func() {
				width := 0
				for _, f := range found {
					width = max(width, len(f.Check))
				}
				for _, f := range found {
					fmt.Fprintf(t.out, "%-5s  %-*s  %s\n", f.State, width, f.Check, f.Text)
					if f.Mend != "" {
						fmt.Fprintf(t.out, "%-5s  %-*s  → %s\n", "", width, "", f.Mend)
					}
				}
			}); err != nil {
				return err
			}
			for _, f := range found {
				if f.State == "act" {
					return &attentionError{exitAttention}
				}
			}
			return nil
		}}
}

// examine makes all checks; proc is /proc but in tests.
func (t *tool) examine(ctx context.Context, dir, proc string) []finding {
	var found, conditions []finding
	box := apiclient.New(dir)
	defer box.Close()
	s, err := box.Status(ctx)
	switch {
	case errors.Is(err, apiclient.ErrNotRunning):
		found = append(found, good("server", "not running on %s", dir).As("act", "sudo systemctl start pipit   (by hand: pipitd --data-dir "+dir+")"))
	case err != nil:
		found = append(found, good("server", "%s", explain(err)).As("act", "run this with sudo, or as the server's user"))
	default:
		found = append(found, serverFindings(s)...)
		conditions = conditionFindings(s)
	}
	found = append(found, diskFinding(dir), clockFinding(time.Now()))
	found = append(found, machineFindings(readMachine(machine.Machine{}, dir))...)
	found = append(found, memoryFinding(proc))
	found = append(found, doctor.Shipped{Root: "/", Proc: proc, Ask: doctor.Command}.Findings(ctx)...)
	return merge(found, conditions)
}

// merge adds what the server itself has noticed to doctor's own checks. Of two
// that are about the same thing (clock and clock-untrusted) the graver one
// stays; of two equals the server's, which knows more.
func merge(own, conditions []finding) []finding {
	grave := map[string]int{"good": 0, "watch": 1, "act": 2}
	drop := map[string]bool{}
	for _, c := range conditions {
		subject, _, _ := strings.Cut(c.Check, "-")
		for _, f := range own {
			if f.Check == subject {
				if grave[f.State] > grave[c.State] {
					drop[c.Check] = true
				} else {
					drop[f.Check] = true
				}
			}
		}
	}
	return slices.DeleteFunc(append(own, conditions...), func(f finding) bool { return drop[f.Check] })
}

func serverFindings(s apiclient.ServerInfo) []finding {
	found := []finding{good("server", "Pipit %s, up %s", s.Version, since(time.Duration(s.UptimeS)*time.Second))}
	if !s.Ready {
		found[0] = found[0].As("watch", "it is starting: look again in a moment, then: journalctl -u pipit")
	}
	fd := good("descriptors", "%d of %d open", s.Descriptors.Open, s.Descriptors.Limit)
	if s.Descriptors.Limit < 5000 || s.Descriptors.Open*10 > s.Descriptors.Limit*9 {
		fd = fd.As("act", "LimitNOFILE=65536 in the unit (by hand: ulimit -n 65536 before pipitd)")
	}
	store := good("store", "%s", s.Store.State)
	if s.Store.State != "writable" {
		store = finding{Check: "store", State: "act", Text: s.Store.State + ": " + s.Store.Reason, Mend: "free space on the card for state full; otherwise restart the server, then: pipit verify"}
	}
	if s.Store.Damaged > 0 {
		store = good("store", "%d damaged records", s.Store.Damaged).As("act", "pipit verify, then restore the newest backup on a new card")
	}
	return append(found, fd, store)
}

func conditionFindings(s apiclient.ServerInfo) []finding {
	var found []finding
	for _, c := range s.Conditions {
		found = append(found, finding{Check: c.Code, State: c.Severity, Text: c.Title + ". " + c.Text, Mend: c.Hint})
	}
	return found
}

func diskFinding(dir string) finding {
	var st unix.Statfs_t
	where := dir
	for unix.Statfs(where, &st) != nil {
		if parent := filepath.Dir(where); parent != where {
			where = parent
			continue
		}
		return good("disk", "%s can't be examined", dir).As("act", "check --data-dir")
	}
	blocks := st.Bavail
	if os.Geteuid() == 0 {
		blocks = st.Bfree // root may use what is set aside for it, and so may a server that runs as root
	}
	free := int64(blocks) * int64(st.Bsize)
	total := int64(st.Blocks) * int64(st.Bsize)
	f := good("disk", "%s free of %s at %s", size(free), size(total), where)
	switch {
	case free < 256<<20:
		return f.As("act", "delete what is not needed there, or put in a bigger card")
	case total > 0 && free*10 < total:
		return f.As("watch", "less than a tenth is free: plan for a bigger card")
	case st.Files > 0 && st.Ffree*20 < st.Files:
		return f.As("act", "the file system has few inodes left: delete small files there")
	}
	return f
}

// clockFinding judges the clock: a Pi has none that outlives its plug.
func clockFinding(now time.Time) finding {
	var tx unix.Timex
	state, err := unix.Adjtimex(&tx)
	f := good("clock", "%s, synchronised", now.Format("2006-01-02 15:04:05 MST"))
	switch {
	case now.Year() < 2026 || now.Year() > 2080:
		return good("clock", "%s can't be right", now.Format("2006-01-02 15:04")).As("act", `sudo pipit clock set "YYYY-MM-DD HH:MM"`)
	case err != nil || state == unix.TIME_ERROR:
		return good("clock", "%s, not synchronised with anything", now.Format("2006-01-02 15:04:05 MST")).
			As("watch", "messages keep their order all the same; for right times: a network with a time server, or sudo pipit clock set")
	}
	return f
}

func memoryFinding(proc string) finding {
	b, err := os.ReadFile(filepath.Join(proc, "meminfo"))
	if err != nil {
		return good("memory", "unknown").As("watch", "")
	}
	kib := func(name string) int64 {
		for line := range bytes.Lines(b) {
			if f := strings.Fields(string(line)); len(f) > 1 && f[0] == name+":" {
				n, err := strconv.ParseInt(f[1], 10, 64)
				if err == nil {
					return n
				}
			}
		}
		return 0
	}
	total, avail := kib("MemTotal")<<10, kib("MemAvailable")<<10
	f := good("memory", "%s available of %s", size(avail), size(total))
	if avail < 64<<20 {
		return f.As("act", "end other programs on this box: `systemctl list-units --state=running` shows them")
	}
	return f
}
