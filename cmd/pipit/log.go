package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/im"
)

// log returns a logger for work that this tool does itself: warnings only, on
// standard error.
func (t *tool) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// logUnits are the units whose lines `pipit logs` shows.
var logUnits = []string{"pipit.service", "pipit-backup.service", "pipit-scrub.service", "pipit-provision.service", "pipit-enroll.service", "pipit-names.service"}

func (t *tool) logsCmd() *cobra.Command {
	var follow, all bool
	var lines int
	var since string
	c := &cobra.Command{Use: "logs", Short: "The server's log, newest at the end", Args: noArgs,
		Long: "Shows the lines of the server and of its timers from the journal. No message text and no password is ever in them.\n" +
			"The journal is kept in memory: it begins with the last start of the box.",
		Example: "  pipit logs -n 50\n  pipit logs --follow\n  pipit logs --since '1 hour ago' --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			args := []string{"--no-pager", "--lines", strconv.Itoa(lines)}
			if !all {
				for _, u := range logUnits {
					args = append(args, "--unit", u)
				}
			}
			if follow {
				args = append(args, "--follow")
			}
			if since != "" {
				args = append(args, "--since", since)
			}
			if t.json {
				args = append(args, "--output", "json")
			}
			j := exec.CommandContext(cmd.Context(), "journalctl", args...)
			j.Stdout, j.Stderr = t.out, t.err
			err := j.Run()
			switch {
			case errors.Is(err, exec.ErrNotFound):
				return im.E(im.Unavailable, "There is no journal here. A server that was started by hand logs to its terminal.")
			case err != nil && cmd.Context().Err() == nil:
				return fmt.Errorf("journalctl: %w", err)
			}
			return nil
		}}
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes")
	c.Flags().BoolVar(&all, "all", false, "the whole system's lines")
	c.Flags().IntVarP(&lines, "lines", "n", 200, "at most `N` lines")
	c.Flags().StringVar(&since, "since", "", "not older than `TIME`, as \"1 hour ago\" (journalctl's words)")
	return c
}
