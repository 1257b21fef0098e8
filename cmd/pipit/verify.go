package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/config"
)

// offline returns the configuration for work on a data directory that no
// server is running on, and says so if one is.
func (t *tool) offline(ctx context.Context) (config.Config, error) {
	c, err := config.Load(config.Source{Environ: os.Environ()})
	if err != nil {
		return c, usageError{err}
	}
	if c.DataDir = onBox(c.DataDir); t.dataDir != "" {
		c.DataDir = t.dataDir
	}
	box := apiclient.New(c.DataDir)
	defer box.Close()
	if _, err := box.Status(ctx); err == nil {
		return c, usageError{fmt.Errorf("a server is running on %s; stop it first", c.DataDir)}
	}
	return c, nil
}

func (t *tool) verifyCmd() *cobra.Command {
	return &cobra.Command{Use: "verify", Short: "Read every stored record and check it", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := t.verify(cmd.Context())
			if err != nil {
				return err
			}
			err = t.answer(report, func() {
				fmt.Fprintf(t.out, "Read %d records (%s), %d of them entries.\n", report.Records, size(report.Bytes), report.Entries)
				for _, d := range report.Damages {
					fmt.Fprintf(t.out, "damaged: %s: %s\n", d.Place, d.What)
				}
				if report.Damaged == 0 {
					fmt.Fprintln(t.out, "Nothing is damaged.")
					return
				}
				fmt.Fprintf(t.err, "%d records are damaged. They are never shown; all others can be read. Restore the newest backup, and replace the card: it has begun to fail.\n", report.Damaged)
			})
			if err == nil && report.Damaged > 0 {
				return &attentionError{exitStore}
			}
			return err
		}}
}

// verify asks the running server, or opens the store itself if there is none.
func (t *tool) verify(ctx context.Context) (apiclient.VerifyReport, error) {
	box, err := t.box()
	if err != nil {
		return apiclient.VerifyReport{}, err
	}
	report, err := box.Verify(ctx)
	if !errors.Is(err, apiclient.ErrNotRunning) {
		return report, err
	}
	c, err := t.offline(ctx)
	if err != nil {
		return report, err
	}
	c.Storage.ReadOnly = true
	s, err := app.OpenStore(c, t.log())
	if err != nil {
		return report, err
	}
	r, err := s.Verify(ctx, func(n uint64) { fmt.Fprintf(t.err, "\r%d records …", n) })
	fmt.Fprint(t.err, "\r                    \r")
	report = apiclient.VerifyReport{Records: r.Records, Bytes: r.Bytes, Entries: r.Entries, Damaged: r.Damaged, Damages: []apiclient.DamageInfo{}}
	for _, d := range r.Damages {
		report.Damages = append(report.Damages, apiclient.DamageInfo{Place: d.Place, What: d.What})
	}
	return report, errors.Join(err, s.Close())
}
