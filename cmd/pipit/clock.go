package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/machine"
)

// systemClock is what the clock commands read and set; tests replace it.
var systemClock machine.Clock = machine.SystemClock{}

const clockLayout = "2006-01-02 15:04"

func (t *tool) clockCmd() *cobra.Command {
	c := &cobra.Command{Use: "clock", Short: "The clock: what it says, whether it is believed; set it", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		Long: "A Raspberry Pi has no clock that outlives its plug. Until a time server answered or somebody set it, the time is not\n" +
			"believed: messages keep their order all the same, but old backups are not thinned out and codes of authenticator apps\n" +
			"do not fit.",
		RunE: func(*cobra.Command, []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			trust, last, now := machine.Machine{}.ClockTrust(dir), machine.LastKnown(dir), systemClock.Now()
			if err := t.answer(map[string]any{"now": now, "trust": trust, "last_known": last}, func() {
				fmt.Fprintf(t.out, "%-12s %s\n%-12s %s\n", "now", now.Format("2006-01-02 15:04:05 MST"), "trust", trust)
				if !last.IsZero() {
					fmt.Fprintf(t.out, "%-12s %s\n", "last known", last.Local().Format("2006-01-02 15:04:05 MST"))
				}
				if !trust.Believed() {
					fmt.Fprintln(t.err, "Connect the box to a network with a time server, or set the clock: sudo pipit clock set \"YYYY-MM-DD HH:MM\"")
				}
			}); err != nil {
				return err
			}
			if !trust.Believed() {
				return &attentionError{exitAttention}
			}
			return nil
		}}
	c.AddCommand(t.clockSetCmd(),
		&cobra.Command{Use: "restore", Short: "Move the clock forward to the last known time (done at the start of the box)", Args: noArgs,
			RunE: func(*cobra.Command, []string) error {
				dir, err := t.dir()
				if err != nil {
					return err
				}
				moved, err := machine.RestoreClock(dir, systemClock)
				if err != nil {
					return err
				}
				return t.answer(map[string]any{"moved_s": int64(moved.Seconds())}, func() {
					if moved > 0 {
						fmt.Fprintf(t.out, "The clock was behind; it says %s now. It is not trusted for that.\n", systemClock.Now().Format(clockLayout))
					} else {
						fmt.Fprintln(t.out, "The clock is not behind the last known time.")
					}
				})
			}},
		&cobra.Command{Use: "save", Short: "Write down the time for the next start (the server does it by itself)", Args: noArgs,
			RunE: func(*cobra.Command, []string) error {
				dir, err := t.dir()
				if err != nil {
					return err
				}
				if err := machine.SaveClock(dir, systemClock); err != nil {
					return fmt.Errorf("write down the time (run this with sudo): %w", err)
				}
				return t.answer(map[string]any{"last_known": machine.LastKnown(dir)}, func() {})
			}})
	return c
}

func (t *tool) clockSetCmd() *cobra.Command {
	return &cobra.Command{Use: "set TIME", Short: "Set the clock by hand; it is believed until the box is switched off", Args: exactArgs("TIME"),
		Example: "  sudo pipit clock set \"2026-11-25 08:30\"",
		RunE: func(_ *cobra.Command, args []string) error {
			to, err := parseTime(args[0])
			if err != nil {
				return err
			}
			dir, err := t.dir()
			if err != nil {
				return err
			}
			if err := (machine.Machine{}).SetClock(dir, systemClock, to); err != nil {
				return err
			}
			return t.answer(map[string]any{"now": to}, func() { fmt.Fprintf(t.out, "The clock says %s.\n", to.Format("2006-01-02 15:04:05 MST")) })
		}}
}

// parseTime reads a time of this box's time zone.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{clockLayout, "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if at, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("%q is no time; write it like \"2026-11-25 08:30\"", s)}
}
