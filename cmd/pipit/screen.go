package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/localca"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/provision"
)

const screenPause = 2 * time.Second

func (t *tool) screenCmd() *cobra.Command {
	var once bool
	c := &cobra.Command{Use: "screen", Short: "What the box shows on its own screen: address, QR code, health", Args: noArgs,
		Long: "Draws the screen that is plugged into the box, anew whenever something on it changes. --once prints it and ends.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			if once || t.json {
				s := t.scene(cmd.Context(), dir)
				return t.answer(s, func() { fmt.Fprintln(t.out, s.draw(80, 25)) })
			}
			return t.screen(cmd.Context(), dir)
		}}
	c.Flags().BoolVar(&once, "once", false, "print it once and end")
	return c
}

// scene is what stands on the screen.
type scene struct {
	Host        string          `json:"host"`
	URLs        []string        `json:"urls"` // the first is the QR code's
	SetUp       provision.SetUp `json:"set_up,omitzero"`
	SetupCode   string          `json:"setup_code,omitempty"` // of the set-up page, while nobody set the box up
	Fingerprint []string        `json:"ca_fingerprint,omitempty"`
	Lines       []finding       `json:"health"`
}

func (t *tool) scene(ctx context.Context, dir string) scene {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	box := apiclient.New(dir)
	defer box.Close()
	var s scene
	o, err := t.look(ctx, box, machine.Machine{})
	switch {
	case errors.Is(err, apiclient.ErrNotRunning):
		// systemd starts it at the first connection; that is no fault.
		s.Lines = []finding{{Check: "server", State: "watch", Text: "The server is not running now; it starts when somebody connects."}}
		o.Machine = readMachine(machine.Machine{}, dir)
	case err != nil:
		s.Lines = []finding{{Check: "server", State: "act", Text: explain(err)}}
		o.Machine = readMachine(machine.Machine{}, dir)
	default:
		s.Lines = o.Health
		if o.Health[0].State == "good" {
			s.Lines = []finding{good("box", "%s online, %s in the last minute. Everything is well.", count(o.People, "person", "people"), count(int(o.MessagesPerMinute), "message", "messages"))}
		}
	}
	s.Host = o.Machine.Host
	port := ""
	if len(o.Listen) > 0 {
		port = o.Listen[0][strings.LastIndex(o.Listen[0], ":"):]
	}
	if port == ":80" {
		port = ""
	}
	names := append(boxNames(dir), localAddresses()...)
	if len(o.Listen) > 0 && strings.HasPrefix(o.Listen[0], "127.") {
		names = []string{"127.0.0.1"} // started by hand, for this machine alone
	}
	for _, name := range names {
		s.URLs = append(s.URLs, "http://"+name+port)
	}
	if b, err := os.ReadFile("/" + provision.SetUpName); err == nil {
		if json.Unmarshal(b, &s.SetUp) != nil {
			s.SetUp = provision.SetUp{}
		}
	}
	if s.SetUp.Code == "" && o.PID != 0 && o.Tenants == 0 {
		if code, err := box.SetupCode(ctx); err == nil {
			s.SetupCode = code
		}
	}
	if root, err := readRoot(dir); err == nil {
		s.Fingerprint = localca.FingerprintLines(root)
	}
	if b, err := os.ReadFile(bootErrors); err == nil {
		for line := range strings.Lines(string(b)) {
			if line = strings.TrimSpace(line); line != "" && len(s.Lines) < 12 {
				s.Lines = append(s.Lines, finding{Check: "start", State: "act", Text: line})
			}
		}
	}
	return s
}

// draw fits the scene into a screen. The Linux console has no Chinese letters,
// so there is none.
func (s scene) draw(width, height int) string {
	qr := strings.Split(qrText(s.URLs[0]), "\n")
	qrWidth := len([]rune(qr[0]))
	right := []string{"Open this address in the same network:", "", "  " + s.URLs[0]}
	for _, u := range s.URLs[1:min(len(s.URLs), 4)] {
		right = append(right, "  "+u)
	}
	if s.SetUp.Code != "" {
		right = append(right, "", "Not set up yet. Sign in as", "  "+s.SetUp.Username+"   with the code", "  "+s.SetUp.Code)
	}
	if s.SetupCode != "" {
		right = append(right, "", "Not set up yet. The code for that page:", "  "+s.SetupCode)
	}
	if s.Fingerprint != nil {
		right = append(right, "", "Certificate of this box (page /ca):")
		for _, l := range s.Fingerprint {
			right = append(right, "  "+l)
		}
	}
	var lines []string
	lines = append(lines, fmt.Sprintf(" Pipit%*s", max(width-8, 1), s.Host), "")
	for i := range max(len(qr), len(right)) {
		l, r := strings.Repeat(" ", qrWidth), ""
		if i < len(qr) {
			l = qr[i]
		}
		if i < len(right) {
			r = right[i]
		}
		lines = append(lines, " "+l+"  "+r)
	}
	lines = append(lines, " "+strings.Repeat("─", max(width-3, 1)))
	for i, f := range s.Lines {
		text, _, _ := strings.Cut(f.Text, ". ") // the rest is for pipit status
		if f.Mend != "" {
			text += " → " + f.Mend
		}
		body := wrap(text, width-10)
		if room := height - 1 - len(lines); len(body) > room {
			if room < 1 {
				lines[len(lines)-1] = fmt.Sprintf(" … and %d more: pipit status", len(s.Lines)-i)
				break
			}
			body = body[:room]
		}
		for j, b := range body {
			state := f.State
			if j > 0 {
				state = ""
			}
			lines = append(lines, fmt.Sprintf(" %-6s %s", state, b))
		}
	}
	for i, l := range lines {
		r := []rune(strings.TrimRight(plainLetters(l), " "))
		lines[i] = string(r[:min(len(r), width-1)])
	}
	return strings.Join(lines[:min(len(lines), height)], "\n")
}

// plainLetters leaves out what a console can't show.
func plainLetters(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Han, r) || r >= 0x3000 && r < 0x3040 || r >= 0xff00 && r < 0xffe0 || unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}

// screen redraws when something changed, until ctx ends.
func (t *tool) screen(ctx context.Context, dir string) error {
	fmt.Fprint(t.out, "\x1b[?25l\x1b[2J")             // no cursor, nothing left over
	defer fmt.Fprint(t.out, "\x1b[?25h\x1b[2J\x1b[H") // as it was
	shown := ""
	for {
		width, height := 80, 25
		if f, ok := t.out.(*os.File); ok {
			if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 0 && h > 0 {
				width, height = w, h
			}
		}
		if now := t.scene(ctx, dir).draw(max(width, 60), max(height, 15)); now != shown {
			fmt.Fprint(t.out, "\x1b[H"+strings.ReplaceAll(now, "\n", "\x1b[K\r\n")+"\x1b[K\x1b[J")
			shown = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(screenPause):
		}
	}
}

// rootFile is the certificate of the box's own authority.
func rootFile(dir string) string { return filepath.Join(dir, app.TLSDir, "ca.crt") }
