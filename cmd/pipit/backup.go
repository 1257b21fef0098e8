package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/config"
)

func (t *tool) backupCmd() *cobra.Command {
	return &cobra.Command{Use: "backup FILE", Short: "Write a consistent snapshot of everything, while the server runs", Args: exactArgs("FILE"),
		Long:    "Writes a snapshot of all tenants to FILE, or to standard output if FILE is -. FILE appears only when it is complete.",
		Example: "  pipit backup /media/usb/pipit-$(date +%F).backup",
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if args[0] == "-" {
				_, err := box.Backup(cmd.Context(), t.out)
				return err
			}
			n, err := writeWhole(cmd.Context(), args[0], box.Backup)
			if err != nil {
				return err
			}
			return t.answer(map[string]any{"file": args[0], "bytes": n}, func() {
				fmt.Fprintf(t.out, "Wrote %s (%s).\n", args[0], size(n))
			})
		}}
}

// writeWhole fills name through a temporary file beside it, so that name is
// either what it was or complete and on stable storage.
func writeWhole(ctx context.Context, name string, fill func(context.Context, io.Writer) (int64, error)) (n int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if n, err = fill(ctx, f); err != nil {
		return n, err
	}
	if err = f.Sync(); err != nil {
		return n, fmt.Errorf("write %s: %w", name, err)
	}
	if err = os.Rename(f.Name(), name); err != nil {
		return n, err
	}
	d, err := os.Open(filepath.Dir(name))
	if err != nil {
		return n, err
	}
	return n, errors.Join(d.Sync(), d.Close(), f.Close())
}

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

func (t *tool) restoreCmd() *cobra.Command {
	return &cobra.Command{Use: "restore FILE", Short: "Fill an empty data directory from a backup, while no server runs", Args: exactArgs("FILE"),
		Long: "Fills an empty data directory from a backup (- for standard input), all or nothing.\n" +
			"Clients notice that the history changed, fetch everything anew and resend what was not acknowledged.",
		Example: "  sudo systemctl stop pipit && sudo -u pipit pipit restore /media/usb/pipit-2026-11-01.backup --data-dir /var/lib/pipit",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := t.offline(cmd.Context())
			if err != nil {
				return err
			}
			in := t.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return usageError{fmt.Errorf("read the backup: %w", err)}
				}
				defer f.Close()
				in = f
			}
			s, err := app.OpenStore(c, t.log())
			if err != nil {
				return err
			}
			err = errors.Join(s.Restore(cmd.Context(), in), s.Close())
			if err != nil {
				return err
			}
			return t.answer(map[string]string{"data_dir": c.DataDir, "epoch": string(s.Epoch())}, func() {
				fmt.Fprintf(t.out, "Restored %s into %s. Start the server now.\n", args[0], c.DataDir)
			})
		}}
}

func (t *tool) verifyCmd() *cobra.Command {
	return &cobra.Command{Use: "verify", Short: "Read every stored record and check it, with or without a running server", Args: noArgs,
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
