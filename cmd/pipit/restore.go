package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/backup"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/update"
)

// sockets are the units that would start the server at the next connection.
var sockets = []string{"pipit.socket", "pipit-https.socket"}

// settingsOfBackup is where a restore puts the settings that were in force when
// the backup was made: for comparing, they are not put into force.
const settingsOfBackup = "settings-from-backup.yaml"

func (t *tool) restoreCmd() *cobra.Command {
	var identity string
	var replace bool
	c := &cobra.Command{Use: "restore [FILE]", Short: "Fill a box from a backup", Args: cobra.MaximumNArgs(1),
		Long: "Fills the data directory from a backup (- for standard input), all or nothing, and gives the box back its certificate\n" +
			"authority and names if the backup has them. A server that systemd runs is stopped before and started after it.\n" +
			"Without FILE it is the newest backup on the USB stick labelled " + stickLabel + ".\n\n" +
			"An encrypted backup needs the identity that was shown by `pipit backup key`, in a file or typed in.\n" +
			"Where organisations exist already, --replace moves what is there aside first.\n\n" +
			"Clients notice that the history changed, fetch everything anew and resend what was not acknowledged.",
		Example: "  sudo pipit restore\n  sudo pipit restore /media/usb/pipit-20261125-030000Z.age --identity /media/key/pipit.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return t.restore(cmd.Context(), args[0], identity, replace)
			}
			name, leave, err := newestOnStick()
			defer leave()
			if err != nil {
				return err
			}
			return t.restore(cmd.Context(), name, identity, replace)
		}}
	c.Flags().StringVar(&identity, "identity", "", "`FILE` with the age identity (AGE-SECRET-KEY-1…)")
	c.Flags().BoolVar(&replace, "replace", false, "move what is in the data directory aside, although organisations exist there")
	return c
}

// newestOnStick finds the backup that a restore without a name takes; leave unmounts the
// stick.
func newestOnStick() (name string, leave func(), err error) {
	dir, leave, err := findStick("")
	if err != nil {
		return "", leave, err
	}
	if dir == "" {
		return "", leave, usageError{errors.New("there is no USB stick labelled " + stickLabel + ": plug it in, or say which FILE to restore")}
	}
	list, err := backup.List(dir)
	if err == nil && len(list) == 0 {
		err = notFound("There is no backup on the stick labelled %s.", stickLabel)
	}
	if err != nil {
		return "", leave, err
	}
	return filepath.Join(dir, list[0].Name), leave, nil
}

func (t *tool) restore(ctx context.Context, name, identityFile string, replace bool) (err error) {
	in := bufio.NewReaderSize(t.in, 64<<10)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return usageError{fmt.Errorf("read the backup: %w", err)}
		}
		defer f.Close()
		in.Reset(f)
	}
	head, err := in.Peek(32)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the backup: %w", err)
	}
	var ids []age.Identity
	if backup.Encrypted(head) {
		if ids, err = t.identities(identityFile, name == "-"); err != nil {
			return err
		}
	}
	c, start, err := t.takeDown(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, start()) }()
	aside, err := makeWay(ctx, c, t, replace)
	if err != nil {
		return err
	}
	defer func() {
		switch {
		case aside != "" && err != nil:
			err = errors.Join(err, putBack(c.DataDir, aside))
		case aside != "":
			fmt.Fprintf(t.err, "What was there before is in %s; remove it when it is not needed any more.\n", aside)
		}
	}()
	s, err := app.OpenStore(c, t.log())
	if err != nil {
		return err
	}
	var parts backup.Parts
	if ids == nil {
		err = s.Restore(ctx, in)
	} else {
		parts, err = backup.Read(in, func(_ backup.Meta, r io.Reader) error { return s.Restore(ctx, r) }, ids...)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	if err := errors.Join(putBeside(c.DataDir, parts), giveTo(c.DataDir, c.DataDir)); err != nil {
		return fmt.Errorf("the messages are restored, but not everything beside them: %w", err)
	}
	return t.answer(map[string]any{"data_dir": c.DataDir, "epoch": string(s.Epoch()), "made": parts.Meta.Made, "host": parts.Meta.Host}, func() {
		fmt.Fprintf(t.out, "Restored %s into %s.", name, c.DataDir)
		if !parts.Meta.Made.IsZero() {
			fmt.Fprintf(t.out, " It is of %s, %s.", printable(parts.Meta.Host), parts.Meta.Made.Local().Format("2006-01-02 15:04"))
		}
		if supervised() {
			fmt.Fprintln(t.out, " The server starts again.")
		} else {
			fmt.Fprintln(t.out, " Start the server now.")
		}
		if parts.Settings != nil {
			fmt.Fprintf(t.err, "The settings of that box are in %s, to be compared with %s.\n", filepath.Join(c.DataDir, settingsOfBackup), config.DefaultFile)
		}
	})
}

// identities reads the technician's identity.
func (t *tool) identities(file string, stdinTaken bool) ([]age.Identity, error) {
	var text []byte
	var err error
	switch f, ok := t.in.(interface{ Fd() uintptr }); {
	case file != "":
		if text, err = os.ReadFile(file); err != nil {
			return nil, usageError{fmt.Errorf("read the identity: %w", err)}
		}
	case ok && !stdinTaken && term.IsTerminal(int(f.Fd())):
		fmt.Fprint(t.err, "The identity (AGE-SECRET-KEY-1…): ")
		text, err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(t.err)
		if err != nil {
			return nil, err
		}
	default:
		return nil, usageError{errors.New("this backup is encrypted: say where the identity is with --identity FILE")}
	}
	ids, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil {
		return nil, usageError{errors.New("that is no age identity: a line that begins with AGE-SECRET-KEY-1 is wanted")} // the cause may quote the secret
	}
	return ids, nil
}

// takeDown stops a server that systemd runs, its sockets first, and returns what
// starts it again. A server that somebody started by hand is his to stop.
func (t *tool) takeDown(ctx context.Context) (c config.Config, start func() error, err error) {
	start = func() error { return nil }
	if !supervised() || t.dataDir != "" {
		c, err = t.offline(ctx)
		return c, start, err
	}
	if err := systemctl(ctx, append([]string{"stop", unit}, sockets...)...); err != nil {
		return c, start, err
	}
	start = func() error {
		return systemctl(context.WithoutCancel(ctx), append(append([]string{"start"}, sockets...), unit)...)
	}
	c, err = t.offline(ctx)
	return c, start, err
}

// ours are the names in a data directory that are not the store's.
var ours = append([]string{apiclient.SocketName, update.StateName, update.VersionsName, backup.DirName, machine.ClockName, settingsOfBackup}, app.BackedUp...)

// makeWay empties the data directory for a restore. What is there of a store that
// nobody uses yet goes; with replace, what is there is moved into the folder that
// it returns.
func makeWay(ctx context.Context, c config.Config, t *tool, replace bool) (aside string, err error) {
	if format, err := app.DataFormat(c.DataDir); err == nil && format == 0 {
		return "", nil // no store yet
	}
	if !replace {
		tenants, err := tenantsIn(ctx, c, t)
		if err != nil {
			return "", err
		}
		if len(tenants) > 0 {
			return "", im.E(im.Conflict, "%s is not empty: there are organisations in it (%s). Say --replace to move them aside and put the backup in their place.", c.DataDir, firstFew(tenants))
		}
	}
	names, err := storeFiles(c.DataDir)
	if err != nil {
		return "", err
	}
	if !replace {
		for _, name := range names {
			if err := os.RemoveAll(filepath.Join(c.DataDir, name)); err != nil {
				return "", fmt.Errorf("make room for the backup: %w", err)
			}
		}
		return "", nil
	}
	aside = filepath.Join(c.DataDir, asidePrefix+time.Now().UTC().Format("20060102-150405Z"))
	if err := os.Mkdir(aside, 0o700); err != nil {
		return "", fmt.Errorf("move the old data aside: %w", err)
	}
	return aside, move(c.DataDir, aside, names)
}

const asidePrefix = "before-restore-"

// tenantsIn reads who is in a store that no server runs on.
func tenantsIn(ctx context.Context, c config.Config, t *tool) ([]im.Tenant, error) {
	c.Storage.ReadOnly = true
	s, err := app.OpenStore(c, t.log())
	if err != nil {
		return nil, err
	}
	tenants, err := s.Tenants(ctx)
	return tenants, errors.Join(err, s.Close())
}

// storeFiles are the names in a data directory that are not known to be
// somebody else's.
func storeFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if name := e.Name(); !slices.Contains(ours, name) && !strings.HasPrefix(name, asidePrefix) {
			names = append(names, name)
		}
	}
	return names, err
}

func move(from, to string, names []string) error {
	for _, name := range names {
		if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return fmt.Errorf("move %s from %s to %s: %w", name, from, to, err)
		}
	}
	return nil
}

// putBack undoes makeWay after a restore that failed.
func putBack(dir, aside string) error {
	half, err := storeFiles(dir)
	if err != nil {
		return err
	}
	for _, name := range half {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("what was there before is in %s: %w", aside, err)
		}
	}
	entries, err := os.ReadDir(aside)
	if err != nil {
		return err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return errors.Join(move(aside, dir, names), os.Remove(aside))
}

func firstFew(tenants []im.Tenant) string {
	var names []string
	for _, t := range tenants[:min(len(tenants), 3)] {
		names = append(names, string(t.ID))
	}
	if len(tenants) > 3 {
		names = append(names, "…")
	}
	return strings.Join(names, ", ")
}

// putBeside writes what a backup has beside the store.
func putBeside(dir string, p backup.Parts) error {
	files := p.Files
	if p.Settings != nil {
		files = append(files, backup.File{Name: settingsOfBackup, Mode: 0o600, Data: p.Settings})
	}
	for _, f := range files {
		first, _, _ := strings.Cut(f.Name, "/")
		if !slices.Contains(app.BackedUp, first) && f.Name != settingsOfBackup {
			continue // of a newer version
		}
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if _, err := writeWhole(context.Background(), name, func(_ context.Context, w io.Writer) (int64, error) {
			n, err := w.Write(f.Data)
			return int64(n), err
		}); err != nil {
			return err
		}
		if err := os.Chmod(name, fs.FileMode(f.Mode)); err != nil {
			return err
		}
	}
	return nil
}
