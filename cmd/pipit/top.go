package main

import (
	"context"
	"encoding/json"
	"fmt"

	"os"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/machine"
)

const topPause = 2 * time.Second

func (t *tool) topCmd() *cobra.Command {
	var times int
	c := &cobra.Command{Use: "top", Short: "Watch the box live", Args: noArgs,
		Long: "Shows what `pipit status` shows, again every two seconds, with the pace of the last minutes. q ends it.\n" +
			"Where there is no terminal it prints a line each time; with --json a value a line.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			f, ok := t.out.(*os.File)
			if t.json || !ok || !term.IsTerminal(int(f.Fd())) || times > 0 {
				return t.topPlain(cmd.Context(), box, times)
			}
			if _, err := t.look(cmd.Context(), box, machine.Machine{}); err != nil {
				return err
			}
			_, err = tea.NewProgram(&topModel{t: t, box: box, ctx: cmd.Context()}, tea.WithContext(cmd.Context()), tea.WithInput(t.in), tea.WithOutput(t.out)).Run()
			return err
		}}
	c.Flags().IntVarP(&times, "times", "n", 0, "print `N` lines and end")
	return c
}

// topPlain prints a line each time.
func (t *tool) topPlain(ctx context.Context, box *apiclient.Client, times int) error {
	for i := 0; times == 0 || i < times; i++ {
		if i > 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(topPause):
			}
		}
		o, err := t.look(ctx, box, machine.Machine{})
		if err != nil {
			return err
		}
		if t.json {
			if err := json.NewEncoder(t.out).Encode(o); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(t.out, "%s  online %d  connections %d  messages/min %d  commit p99 %s  rss %s  free %s  load %.2f  %s\n",
			time.Now().Format(time.TimeOnly), o.People, o.Connections, o.MessagesPerMinute, millis(o.CommitP99US), size(o.RSSBytes), size(o.Store.FreeBytes), o.Machine.Load, o.worst())
	}
	return nil
}

// worst is the gravest line of health in a word or two.
func (o *overview) worst() string {
	f := o.Health[0]
	if f.State == "good" {
		return "good"
	}
	return f.State + ": " + f.Check
}

// topModel is the live view. Its fields are touched by bubbletea's loop only.
type topModel struct {
	t      *tool
	box    *apiclient.Client
	ctx    context.Context
	o      overview
	err    error
	width  int
	height int
	paces  []float64 // messages a minute, newest last
	people []float64
}

type topMsg struct {
	o   overview
	err error
}

func (m *topModel) ask() tea.Msg {
	ctx, cancel := context.WithTimeout(m.ctx, 5*topPause)
	defer cancel()
	o, err := m.t.look(ctx, m.box, machine.Machine{})
	return topMsg{o, err}
}

// Init, Update and View implement tea.Model.
func (m *topModel) Init() tea.Cmd { return m.ask }

// Update takes keys, sizes and what the server answered.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.KeyPressMsg:
		if s := msg.String(); s == "q" || s == "esc" || s == "ctrl+c" {
			return m, tea.Quit
		}
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case topMsg:
		if m.err = msg.err; msg.err == nil {
			m.o = msg.o
			m.paces = keepLast(append(m.paces, float64(msg.o.MessagesPerMinute)))
			m.people = keepLast(append(m.people, float64(msg.o.People)))
		}
		return m, tea.Tick(topPause, func(time.Time) tea.Msg { return m.ask() })
	}
	return m, nil
}

func keepLast(x []float64) []float64 { return x[max(0, len(x)-240):] }

// View draws the screen.
func (m *topModel) View() tea.View {
	v := tea.NewView(m.draw())
	v.AltScreen = true
	return v
}

func (m *topModel) draw() string {
	var b strings.Builder
	switch {
	case m.o.PID == 0 && m.err != nil:
		return explain(m.err) + "\n\nq ends\n"
	case m.o.PID == 0:
		return "asking the server …\n"
	}
	columns := max(m.width, 40)
	b.WriteString(m.o.facts(time.Now(), columns))
	room := min(columns, 120) - 24
	fmt.Fprintf(&b, "%-12s %s %.0f\n%-12s %s %.0f\n\n", "messages/min", spark(m.paces, room), last(m.paces), "people", spark(m.people, room), last(m.people))
	b.WriteString(m.o.healthText(columns))
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if m.height > 1 && len(lines) > m.height-1 {
		lines = append(lines[:m.height-2], "             … more: pipit status")
	}
	for i, l := range lines {
		if r := []rune(l); m.width > 0 && len(r) > m.width {
			lines[i] = string(r[:m.width])
		}
	}
	end := "q ends"
	if m.err != nil {
		end += "   no answer now: " + explain(m.err)
	}
	return strings.Join(append(lines, end), "\n")
}

func last(x []float64) float64 {
	if len(x) == 0 {
		return 0
	}
	return x[len(x)-1]
}

// spark draws the newest values as bars of eight heights.
func spark(x []float64, width int) string {
	x = x[max(0, len(x)-max(width, 1)):]
	if len(x) == 0 {
		return ""
	}
	top := max(slices.Max(x), 1)
	var b strings.Builder
	for _, v := range x {
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[int(v/top*7+0.5)])
	}
	return b.String()
}
