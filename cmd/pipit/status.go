package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

func (t *tool) statusCmd() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "How the server is: people, messages, storage, what is wrong", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			s, err := box.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := t.answer(s, func() { t.printStatus(s) }); err != nil {
				return err
			}
			for _, c := range s.Conditions {
				if c.Severity == "act" {
					return &attentionError{exitAttention}
				}
			}
			return nil
		}}
}

func (t *tool) printStatus(s apiclient.ServerInfo) {
	state := "starting"
	if s.Ready {
		state = "ready"
	}
	row := func(k, format string, args ...any) { fmt.Fprintf(t.out, "%-12s %s\n", k, fmt.Sprintf(format, args...)) }
	row("server", "Pipit %s, %s for %s (process %d)", s.Version, state, since(time.Duration(s.UptimeS)*time.Second), s.PID)
	for _, a := range s.Listen {
		row("address", "http://%s", a)
	}
	for _, a := range s.ListenTLS {
		row("address", "https://%s", a)
	}
	row("tenants", "%d", s.Tenants)
	row("online", "%d sessions, %d connections", s.Sessions, s.Connections)
	row("stored", "%d entries in %d commits since the start", s.Messages, s.Commits)
	row("memory", "%s in use%s", size(s.RSSBytes), limitText(s.MemoryLimit))
	row("descriptors", "%d of %d", s.Descriptors.Open, s.Descriptors.Limit)
	row("storage", "%s; %s in %s, %s free", s.Store.State, size(s.Store.Bytes), s.DataDir, size(s.Store.FreeBytes))
	if s.Store.Reason != "" {
		row("", "%s", s.Store.Reason)
	}
	if s.Store.Damaged > 0 {
		row("", "%d damaged records were found: see `pipit verify`", s.Store.Damaged)
	}
	if len(s.Conditions) == 0 {
		row("health", "good")
		return
	}
	for _, c := range s.Conditions {
		row("health", "%s: %s", c.Severity, c.Title)
		for _, line := range []string{c.Text, c.Hint} {
			if line = strings.TrimSpace(line); line != "" {
				row("", "%s", line)
			}
		}
	}
}

func limitText(n int64) string {
	if n <= 0 {
		return ""
	}
	return ", asked to stay under " + size(n)
}
