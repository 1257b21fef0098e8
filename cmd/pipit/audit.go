package main

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

// auditQuery is what the flags of `pipit audit` narrow to.
type auditQuery struct {
	tenant, actor, action, object, result, since, until string
}

func (q *auditQuery) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&q.tenant, "tenant", "", "the log of this organisation, by its `ID` (default: the box's own)")
	f.StringVar(&q.actor, "by", "", "`WHO` did it: an id of a user or token, or user, program, operator, system, nobody")
	f.StringVar(&q.action, "action", "", "`WHAT` was done, such as user.create, or session. for all that begin so")
	f.StringVar(&q.object, "object", "", "on `WHAT`, such as user/u_…, or user/ for all users")
	f.StringVar(&q.result, "result", "", "`RESULT`: ok, refused, or the kind of the error")
	f.StringVar(&q.since, "since", "", "not before `TIME`: 2026-11-25, \"2026-11-25 14:30\", or 24h, 7d ago")
	f.StringVar(&q.until, "until", "", "before `TIME`, in the same forms")
}

func (q *auditQuery) values() (url.Values, error) {
	v := url.Values{}
	for name, value := range map[string]string{"actor": q.actor, "action": q.action, "object": q.object, "result": q.result} {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, value := range map[string]string{"since": q.since, "until": q.until} {
		if value == "" {
			continue
		}
		at, err := parseSince(value, time.Now())
		if err != nil {
			return nil, usageError{fmt.Errorf("--%s: %w", name, err)}
		}
		v.Set(name, strconv.FormatInt(at.UnixMilli(), 10))
	}
	return v, nil
}

// parseSince reads a day, a minute, or how long ago.
func parseSince(s string, now time.Time) (time.Time, error) {
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02T15:04", time.RFC3339} {
		if at, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return at, nil
		}
	}
	ago := s
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil {
			n = -1
		}
		ago = fmt.Sprintf("%dh", 24*n)
	}
	if d, err := time.ParseDuration(ago); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: write 2026-11-25, \"2026-11-25 14:30\", 24h or 7d", s)
}

func (t *tool) auditCmd() *cobra.Command {
	c := &cobra.Command{Use: "audit", Short: "Who did what, when and from where: list, export", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		Long: "The audit log has every administrative act and every sign-in, refused ones too: of each organisation, and of this\n" +
			"server itself. It holds no passwords and no messages, and is kept for a year unless set otherwise.",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.auditList(), t.auditExport())
	return c
}

func (t *tool) auditList() *cobra.Command {
	var q auditQuery
	var limit int
	c := &cobra.Command{Use: "list", Short: "Show the newest events", Args: noArgs,
		Example: `  pipit audit list
  pipit audit list --tenant oakhill --action session. --result refused --since 24h`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return usageError{errors.New("--limit is at least 1")}
			}
			v, err := q.values()
			if err != nil {
				return err
			}
			box, err := t.box()
			if err != nil {
				return err
			}
			events := []apiclient.AuditEvent{}
			for len(events) < limit {
				v.Set("limit", strconv.Itoa(min(limit-len(events), 500)))
				page, err := box.Audit(cmd.Context(), q.tenant, v)
				if err != nil {
					return err
				}
				events = append(events, page.Events...)
				if page.Next == "" {
					break
				}
				v.Set("cursor", page.Next)
			}
			return t.answer(events, func() {
				if len(events) == 0 {
					fmt.Fprintln(t.err, "No events.")
					return
				}
				rows := make([][]string, 0, len(events))
				for _, e := range events {
					rows = append(rows, []string{day(e.Time), e.Action, e.Result, actorName(e.Actor), objectName(e), e.Addr, details(e.Detail)})
				}
				t.table([]string{"TIME", "ACTION", "RESULT", "BY", "ON", "FROM", "DETAIL"}, rows)
			})
		}}
	q.flags(c)
	c.Flags().IntVar(&limit, "limit", 50, "at most `N` events, the newest first")
	return c
}

func actorName(a apiclient.AuditActor) string {
	switch {
	case a.Name != "" && a.Kind == "program":
		return "program " + a.Name
	case a.Name != "":
		return a.Name
	case a.ID != "":
		return a.ID
	}
	return a.Kind
}

func objectName(e apiclient.AuditEvent) string {
	kind, _, _ := strings.Cut(e.Object, "/")
	if e.Name != "" {
		return kind + " " + e.Name
	}
	return e.Object
}

func details(d map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(d)) {
		out = append(out, k+"="+d[k])
	}
	return strings.Join(out, " ")
}

func (t *tool) auditExport() *cobra.Command {
	var q auditQuery
	var to, format string
	c := &cobra.Command{Use: "export --to FILE", Short: "Write events to a file, the oldest first", Args: noArgs,
		Example: "  pipit audit export --tenant oakhill --since 2026-09-01 --to audit.csv",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return usageError{errors.New("say where to: --to FILE")}
			}
			if format == "" {
				format = "csv"
				if strings.HasSuffix(to, ".jsonl") {
					format = "jsonl"
				}
			}
			if format != "csv" && format != "jsonl" {
				return usageError{errors.New("--format is csv or jsonl")}
			}
			v, err := q.values()
			if err != nil {
				return err
			}
			v.Set("format", format)
			box, err := t.box()
			if err != nil {
				return err
			}
			n, err := writeFile(to, func(f *os.File) (int64, error) { return box.ExportAudit(cmd.Context(), q.tenant, v, f) })
			if err != nil {
				return err
			}
			return t.answer(map[string]any{"file": to, "bytes": n}, func() { fmt.Fprintf(t.out, "Wrote the audit log to %s (%s).\n", to, size(n)) })
		}}
	q.flags(c)
	c.Flags().StringVar(&to, "to", "", "the `FILE` to write; it must not be there yet")
	c.Flags().StringVar(&format, "format", "", "`FORMAT`: csv or jsonl (default: by the file's name)")
	return c
}
