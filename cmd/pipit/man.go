package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/pipit-im/pipit/pkg/app"
)

func (t *tool) manCmd() *cobra.Command {
	c := &cobra.Command{Use: "man DIR", Short: "Write the man pages into a folder (for whoever packages it)", Args: exactArgs("DIR"), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			// The date of the source (reproducible-builds.org), not of this day: the same
			// source makes the same pages.
			seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
			if err != nil {
				return usageError{errors.New("SOURCE_DATE_EPOCH must say of when the pages are, in seconds since 1970: the time of the last commit")}
			}
			at := time.Unix(seconds, 0).UTC()
			if err := doc.GenManTree(root, &doc.GenManHeader{Title: "PIPIT", Section: "8", Date: &at, Source: "Pipit " + app.Version, Manual: "Pipit"}, args[0]); err != nil {
				return err
			}
			pages, err := filepath.Glob(filepath.Join(args[0], "pipit*.8"))
			if err != nil {
				return err
			}
			return t.answer(map[string]int{"pages": len(pages)}, func() { fmt.Fprintf(t.out, "Wrote %d pages into %s.\n", len(pages), args[0]) })
		}}
	return c
}
