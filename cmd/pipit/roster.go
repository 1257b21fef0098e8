package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

func (t *tool) rosterCmd() *cobra.Command {
	c := &cobra.Command{Use: "roster", Short: "Fill an organisation from the list that it already has", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.rosterImport(), t.rosterStatus())
	return c
}

const rosterHelp = `Reads a roster and shows what importing it would change; after a yes, imports it, all or nothing.

FILE is a table in CSV, or a zip archive of OneRoster 1.1 or 1.2; DIR is a folder with the files of one.
The simple table has the columns

  class,role,name,username,guardian_of,password

one row for each person and class. The role is admin, staff (teacher), member (student), guest, guardian (parent) or bot;
guardian_of holds user names; a password is for the first sign-in only, and most leave it empty and print login cards.
Commas, semicolons and tabs are understood, UTF-8 and GB18030, and Chinese names of columns (班级,角色,姓名,用户名,监护对象,密码).

Everybody who came with a roster and is in it no more is disabled, never deleted; a class that is in it no more is archived.
Whoever was added by hand stays as he is. Importing the same file again changes nothing. Each class gets a group and a board.`

func (t *tool) rosterImport() *cobra.Command {
	var tenant string
	var o apiclient.RosterOptions
	var yes, dry, all bool
	c := &cobra.Command{Use: "import FILE|DIR", Short: "Show what a roster would change, then import it", Args: exactArgs("FILE"), Long: rosterHelp,
		Example: `  pipit roster import school.csv --term 2026/27
  pipit roster import oneroster.zip --dry-run
  pipit roster import class5b.csv --partial --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			content, err := readRoster(args[0])
			if err != nil {
				return err
			}
			o.Name = filepath.Base(args[0])
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			rep, err := box.PreviewRoster(cmd.Context(), tenant, content, o)
			if err != nil {
				return err
			}
			if dry && t.json {
				return t.answer(rep, nil)
			}
			t.showReport(rep, all)
			if rep.Wrong > 0 && !o.SkipBad {
				return im.E(im.Invalid, "Nothing was changed. Mend the rows above, or leave them out with --skip-bad.")
			}
			if dry || len(rep.Changes) == 0 {
				return nil
			}
			if !yes {
				if err := t.confirm("Import this?"); err != nil {
					return err
				}
			}
			if _, err := box.ImportRoster(cmd.Context(), tenant, content, o, rep.Digest); err != nil {
				return err
			}
			st, err := t.followImport(cmd.Context(), box, tenant)
			if err != nil {
				return err
			}
			return t.answer(st, func() { t.showStatus(st) })
		}}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&o.Term, "term", "", "`TERM` of a simple table's classes; a class that has another term is over, and the next begins empty")
	c.Flags().BoolVar(&o.Partial, "partial", false, "leave everybody alone who is not in the roster")
	c.Flags().BoolVar(&o.SkipBad, "skip-bad", false, "leave bad rows out instead of refusing all")
	c.Flags().BoolVar(&dry, "dry-run", false, "only show what would change")
	c.Flags().BoolVar(&yes, "yes", false, "import without asking")
	c.Flags().BoolVar(&all, "all", false, "show every change, not the first of each kind")
	return c
}

func (t *tool) rosterStatus() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "status", Short: "How far an import is, and what became of the last one", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			st, err := box.RosterStatus(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return t.answer(st, func() { t.showStatus(st) })
		}}
	tenantFlag(c, &tenant)
	return c
}

// maxUpload is what the server takes (roster.MaxUploadBytes).
const maxUpload = 32 << 20

// readRoster reads a file, or packs a folder's tables into an archive.
func readRoster(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s can't be read: %w", name, errors.Unwrap(err))}
	}
	if !info.IsDir() {
		if info.Size() > maxUpload {
			return nil, usageError{fmt.Errorf("%s is larger than %d MB", name, maxUpload>>20)}
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, usageError{fmt.Errorf("%s can't be read: %w", name, errors.Unwrap(err))}
		}
		return b, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s can't be read: %w", name, errors.Unwrap(err))}
	}
	var packed bytes.Buffer
	z := zip.NewWriter(&packed)
	for _, e := range entries {
		// Demographics are nobody's business here: they do not even leave the folder.
		lower := strings.ToLower(e.Name())
		if e.IsDir() || !strings.HasSuffix(lower, ".csv") || lower == "demographics.csv" || strings.HasPrefix(lower, ".") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(name, e.Name()))
		if err != nil {
			return nil, usageError{fmt.Errorf("%s can't be read: %w", e.Name(), errors.Unwrap(err))}
		}
		w, err := z.Create(e.Name())
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// fewOfAKind is how many changes of each kind are shown without --all.
const fewOfAKind = 8

// showReport prints what a roster would change, and what is wrong with it, for the
// person who typed; the answer of the command comes later.
func (t *tool) showReport(r apiclient.RosterReport, all bool) {
	w := t.out
	if t.json {
		w = t.err // standard output holds the answer alone
	}
	fmt.Fprintf(w, "%s: %s, %s.\n", r.Format, plural(r.People, "person", "people"), plural(r.Classes, "class", "classes"))
	for _, p := range r.Problems {
		place := p.File
		if p.Line > 0 {
			place = fmt.Sprintf("%s:%d", p.File, p.Line)
		}
		mark := "wrong"
		if p.Note {
			mark = "note"
		}
		fmt.Fprintf(w, "%-6s %s: %s\n", mark, printable(place), printable(p.Text))
	}
	if told := len(r.Problems); told < r.Wrong+r.Notes {
		fmt.Fprintf(w, "… and %d more\n", r.Wrong+r.Notes-told)
	}
	if len(r.Changes) == 0 {
		if r.Wrong == 0 {
			fmt.Fprintln(w, "Nothing to change: everybody is as the roster says.")
		}
		return
	}
	shown := map[string]int{}
	for _, c := range r.Changes {
		kind := c.What + " " + c.Of
		if shown[kind]++; shown[kind] > fewOfAKind && !all {
			if shown[kind] == fewOfAKind+1 {
				fmt.Fprintf(w, "%-8s … and %d more (--all shows them)\n", c.What, r.Counts[kind]-fewOfAKind)
			}
			continue
		}
		fmt.Fprintf(w, "%-8s %s %s\n", c.What, c.Of, describe(c))
	}
	fmt.Fprintln(w, summary(r.Counts))
}

func describe(c apiclient.RosterChange) string {
	s := printable(c.Key)
	if c.Name != "" {
		s += " (" + printable(c.Name) + ")"
	}
	if c.Detail != "" {
		s += ": " + printable(c.Detail)
	}
	return s
}

// summary counts the changes in one line.
func summary(counts map[string]int) string {
	var parts []string
	for _, of := range []struct{ one, many string }{{"person", "people"}, {"class", "classes"}} {
		for _, what := range []string{"add", "change", "enable", "disable", "archive"} {
			if n := counts[what+" "+of.one]; n > 0 {
				parts = append(parts, fmt.Sprintf("%s %s", what, plural(n, of.one, of.many)))
			}
		}
	}
	return "Together: " + strings.Join(parts, ", ") + "."
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// confirm asks on a terminal; without one, --yes has to say it.
func (t *tool) confirm(question string) error {
	f, ok := t.in.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usageError{errors.New("no terminal to ask: nothing was imported. Say --yes to import, or --dry-run to look only")}
	}
	fmt.Fprintf(t.err, "%s [y/N] ", question)
	line, err := bufio.NewReader(t.in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if !slices.Contains([]string{"y", "yes", "j", "是"}, strings.ToLower(strings.TrimSpace(line))) {
		return usageError{errors.New("nothing was imported")}
	}
	return nil
}

// followImport waits until an import has ended, and shows on a terminal how far
// it is.
func (t *tool) followImport(ctx context.Context, box *apiclient.Client, tenant string) (apiclient.RosterStatus, error) {
	f, live := t.err.(*os.File)
	live = live && term.IsTerminal(int(f.Fd()))
	wait := 50 * time.Millisecond
	for {
		st, err := box.RosterStatus(ctx, tenant)
		if err != nil {
			return st, err
		}
		if st.State == "idle" {
			if live {
				fmt.Fprint(t.err, "\r\x1b[K")
			}
			if st.Why != "" {
				return st, im.E(im.Unavailable, "%s", st.Why)
			}
			return st, nil
		}
		if live {
			fmt.Fprintf(t.err, "\r\x1b[K%s %d of %d", st.State, st.Done, st.Total)
		}
		select {
		case <-ctx.Done():
			return st, fmt.Errorf("interrupted; the import goes on by itself (pipit roster status)")
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Second)
	}
}

func (t *tool) showStatus(st apiclient.RosterStatus) {
	switch {
	case st.State != "idle":
		fmt.Fprintf(t.out, "An import is under way: %s, %d of %d steps. %s\n", st.State, st.Done, st.Total, st.Why)
	case st.Last == nil:
		fmt.Fprintln(t.out, "No roster was imported yet.")
	default:
		took := time.Duration(st.Last.Ended-st.Last.Began) * time.Millisecond
		fmt.Fprintf(t.out, "Imported: %s and %s changed, in %s. Print login cards: pipit cards --help\n",
			plural(st.Last.Counts["people"], "person", "people"), plural(st.Last.Counts["classes"], "class", "classes"), took.Round(100*time.Millisecond))
		for _, p := range st.Last.Problems {
			fmt.Fprintln(t.out, "  not done: "+printable(p))
		}
	}
}
