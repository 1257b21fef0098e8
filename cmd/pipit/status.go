package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/backup"
	"github.com/pipit-im/pipit/pkg/machine"
)

// overview is the whole box at one moment: what the server says, what the machine
// says, and what follows from both.
type overview struct {
	apiclient.ServerInfo
	Machine machineInfo `json:"machine"`
	Health  []finding   `json:"health"` // worst first; one "good" line when all is well
}

// machineInfo is what package machine reads; what the machine does not tell is
// left out.
type machineInfo struct {
	Host       string              `json:"host"`
	Model      string              `json:"model,omitempty"`
	UptimeS    int64               `json:"uptime_s,omitempty"`
	Celsius    float64             `json:"celsius,omitempty"`
	Throttling *machine.Throttling `json:"throttling,omitempty"`
	Load       float64             `json:"load"`
	MemTotal   int64               `json:"memory_bytes,omitempty"`
	MemFree    int64               `json:"memory_available_bytes,omitempty"`
	DiskTotal  int64               `json:"disk_bytes,omitempty"`
	DiskFree   int64               `json:"disk_free_bytes,omitempty"`
	Card       *machine.Card       `json:"card,omitempty"`
	Clock      machine.Trust       `json:"clock"`
	BackupGood time.Time           `json:"last_good_backup,omitzero"`
}

func readMachine(m machine.Machine, dir string) machineInfo {
	i := machineInfo{Model: m.Model(), Clock: m.ClockTrust(dir)}
	var err error
	if i.Host, err = os.Hostname(); err != nil {
		i.Host = "pipit"
	}
	if up, ok := m.Uptime(); ok {
		i.UptimeS = int64(up.Seconds())
	}
	i.Celsius, _ = m.Temperature()
	i.Load, _ = m.Load()
	i.MemTotal, i.MemFree, _ = m.Memory()
	if t, ok := m.Throttling(); ok {
		i.Throttling = &t
	}
	if c, ok := m.Card(dir); ok {
		i.Card = &c
	}
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) == nil {
		i.DiskTotal, i.DiskFree = int64(st.Blocks)*int64(st.Bsize), int64(st.Bavail)*int64(st.Bsize)
	}
	if r, err := backup.ReadReport(filepath.Join(dir, backup.DirName)); err == nil {
		i.BackupGood = r.Good
	}
	return i
}

// machineFindings judges the readings; what is good says nothing.
func machineFindings(i machineInfo) []finding {
	var found []finding
	add := func(state, check, text, mend string) {
		found = append(found, finding{Check: check, State: state, Text: text, Mend: mend})
	}
	switch {
	case i.Celsius >= 82:
		add("act", "temperature", fmt.Sprintf("The processor is at %.0f °C and slows down.", i.Celsius), "give the box air, or a heat sink; out of the sun")
	case i.Celsius >= 75:
		add("watch", "temperature", fmt.Sprintf("The processor is at %.0f °C; from 80 °C on it slows down.", i.Celsius), "give the box air, or a heat sink")
	}
	if t := i.Throttling; t != nil {
		switch {
		case t.UnderVoltage:
			add("act", "power", "The power supply is too weak: the voltage is too low at this moment.", "use the board's own power supply and a short cable; take off USB devices")
		case t.UnderVoltageBefore:
			add("watch", "power", "The voltage was too low since the start.", "use the board's own power supply and a short cable")
		case t.Throttled || t.TooWarm:
			add("watch", "throttling", "The board holds its processor back because of its temperature.", "give the box air, or a heat sink")
		}
	}
	if c := i.Card; c != nil {
		switch {
		case c.Reserve == "urgent" || c.LifeUsedPercent > 100:
			add("act", "card", "The card has used up its life and may fail at any time.", "make a backup now (pipit backup), and restore it on a new card")
		case c.Reserve == "warning" || c.LifeUsedPercent >= 80:
			add("watch", "card", fmt.Sprintf("The card says that it has used %d %% of its life.", c.LifeUsedPercent), "have a new card ready, and look that backups are made")
		}
	}
	return found
}

// look asks the server and the machine.
func (t *tool) look(ctx context.Context, box *apiclient.Client, m machine.Machine) (overview, error) {
	s, err := box.Status(ctx)
	if err != nil {
		return overview{}, err
	}
	o := overview{ServerInfo: s, Machine: readMachine(m, s.DataDir)}
	for _, f := range append(conditionFindings(s), machineFindings(o.Machine)...) {
		at := len(o.Health)
		for at > 0 && f.State == "act" && o.Health[at-1].State != "act" {
			at-- // act before watch, else as they came
		}
		o.Health = append(o.Health[:at], append([]finding{f}, o.Health[at:]...)...)
	}
	if len(o.Health) == 0 {
		o.Health = []finding{good("box", "Everything is well.")}
	}
	return o, nil
}

func (o *overview) attention() error {
	for _, f := range o.Health {
		if f.State == "act" {
			return &attentionError{exitAttention}
		}
	}
	return nil
}

func (t *tool) statusCmd() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "How the box is, what is wrong, and what to do", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			o, err := t.look(cmd.Context(), box, machine.Machine{})
			if err != nil {
				return err
			}
			if err := t.answer(o, func() { fmt.Fprint(t.out, o.text(time.Now(), t.columns())) }); err != nil {
				return err
			}
			return o.attention()
		}}
}

// columns is the width of the terminal that the answer goes to; 0 where it is
// none, and lines are not to be broken for whoever searches them.
func (t *tool) columns() int {
	if f, ok := t.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			return max(w, 40)
		}
	}
	return 0
}

// text is the overview on one screen.
func (o *overview) text(now time.Time, columns int) string {
	return o.facts(now, columns) + "\n" + o.healthText(columns)
}

// rows returns what writes labelled lines into b, broken at columns.
func rows(b *strings.Builder, columns int) func(k, format string, args ...any) {
	return func(k, format string, args ...any) {
		lines := []string{fmt.Sprintf(format, args...)}
		if columns > 0 {
			lines = wrap(lines[0], columns-14)
		}
		for i, line := range lines {
			if i > 0 {
				k = ""
			}
			fmt.Fprintf(b, "%s\n", strings.TrimRight(fmt.Sprintf("%-12s %s", k, line), " "))
		}
	}
}

func (o *overview) facts(now time.Time, columns int) string {
	var b strings.Builder
	row := rows(&b, columns)
	state := "starting"
	if o.Ready {
		state = "ready"
	}
	m := &o.Machine
	row("server", "Pipit %s, %s for %s (process %d)", o.Version, state, since(time.Duration(o.UptimeS)*time.Second), o.PID)
	row("machine", "%s", o.machineText())
	for _, a := range o.Listen {
		row("address", "http://%s", friendly(a, "80", m.Host))
	}
	for _, a := range o.ListenTLS {
		row("address", "https://%s", friendly(a, "443", m.Host))
	}
	row("tenants", "%d", o.Tenants)
	row("online", "%s in %s, %d connections", count(o.People, "person", "people"), count(o.Sessions, "session", "sessions"), o.Connections)
	row("messages", "%s", o.paceText())
	row("memory", "server %s%s; %s of %s free", size(o.RSSBytes), limitText(o.MemoryLimit), size(m.MemFree), size(m.MemTotal))
	row("descriptors", "%d of %d", o.Descriptors.Open, o.Descriptors.Limit)
	row("storage", "%s; %s in %s, %s free of %s", o.Store.State, size(o.Store.Bytes), o.DataDir, size(o.Store.FreeBytes), size(m.DiskTotal))
	if c := o.cardText(); c != "" {
		row("card", "%s", c)
	}
	row("clock", "%s, %s", now.Format("2006-01-02 15:04:05 MST"), m.Clock)
	backups := "none yet"
	if !m.BackupGood.IsZero() {
		backups = "the last good one is of " + m.BackupGood.Local().Format("2006-01-02 15:04")
	}
	row("backup", "%s", backups)
	return b.String()
}

func (o *overview) healthText(columns int) string {
	var b strings.Builder
	row := rows(&b, columns)
	for _, f := range o.Health {
		if f.State == "good" {
			row("health", "good: %s", f.Text)
			continue
		}
		title, text, _ := strings.Cut(f.Text, ". ")
		row("health", "%s: %s", f.State, title)
		for _, line := range []string{text, f.Mend} {
			if line = strings.TrimSpace(line); line != "" {
				row("", "%s", line)
			}
		}
	}
	return b.String()
}

func (o *overview) machineText() string {
	m := &o.Machine
	var parts []string
	if m.Model != "" {
		parts = append(parts, m.Model)
	}
	if m.UptimeS > 0 {
		parts = append(parts, "up "+since(time.Duration(m.UptimeS)*time.Second))
	}
	if m.Celsius != 0 {
		parts = append(parts, fmt.Sprintf("%.0f °C", m.Celsius))
	}
	parts = append(parts, fmt.Sprintf("load %.2f", m.Load))
	if t := m.Throttling; t != nil {
		if *t == (machine.Throttling{}) {
			parts = append(parts, "not throttled")
		} else {
			parts = append(parts, "throttled or short of power: see health")
		}
	}
	return m.Host + ": " + strings.Join(parts, ", ")
}

func (o *overview) paceText() string {
	s := fmt.Sprintf("%s in the last minute, %d since the start", count(int(o.MessagesPerMinute), "message", "messages"), o.Messages)
	if o.CommitP50US > 0 {
		s += fmt.Sprintf("; stored within %s (half), %s (99 %%)", millis(o.CommitP50US), millis(o.CommitP99US))
	}
	return s
}

func (o *overview) cardText() string {
	c := o.Machine.Card
	if c == nil {
		return ""
	}
	parts := []string{strings.TrimSpace(c.Device + " " + c.Name)}
	if c.Made != "" {
		parts[0] += " of " + c.Made
	}
	if c.LifeUsedPercent > 0 {
		parts = append(parts, fmt.Sprintf("up to %d %% of its life used", c.LifeUsedPercent))
	} else {
		parts = append(parts, "tells no wear")
	}
	if c.WrittenBytes > 0 {
		parts = append(parts, size(c.WrittenBytes)+" written since the machine started")
	}
	return strings.Join(parts, ", ")
}

func millis(us int64) string {
	if us < 10_000 {
		return fmt.Sprintf("%.1f ms", float64(us)/1000)
	}
	return fmt.Sprintf("%d ms", us/1000)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// friendly writes an address that listens everywhere as the name that people
// type.
func friendly(addr, usual, host string) string {
	ip, port, err := net.SplitHostPort(addr)
	if err != nil || (ip != "" && ip != "::" && ip != "0.0.0.0") {
		return addr
	}
	name, _, _ := strings.Cut(strings.ToLower(host), ".")
	if name += ".local"; port == usual {
		return name
	}
	return net.JoinHostPort(name, port)
}

// wrap breaks a text at spaces; a word that is longer than width stays whole.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(s) {
		if line != "" && len([]rune(line))+1+len([]rune(w)) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimLeft(line+" "+w, " ")
	}
	return append(lines, line)
}

func limitText(n int64) string {
	if n <= 0 {
		return ""
	}
	return ", asked to stay under " + size(n)
}

// localAddresses are the IPv4 addresses that others in the network can use.
func localAddresses() []string {
	var list []string
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			list = append(list, n.IP.String())
		}
	}
	return list
}

// boxNames are the names in the local network, the box's own first.
func boxNames(dir string) []string {
	host, err := os.Hostname()
	if err != nil {
		host = "pipit"
	}
	host, _, _ = strings.Cut(strings.ToLower(host), ".")
	return append([]string{host + ".local"}, app.ReadNames(dir)...)
}
