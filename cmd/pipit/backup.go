package main

import (
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
	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/backup"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/update"
)

// StickLabel is the label of the file system that nightly backups are copied to.
const stickLabel = "PIPIT-BACKUP"

func (t *tool) backupCmd() *cobra.Command {
	var nightly, plain bool
	var stick string
	c := &cobra.Command{Use: "backup FILE", Short: "Back up everything, while the server runs",
		Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		Long: "Writes all organisations with their messages to FILE, or to standard output if FILE is -. FILE appears only when it is complete.\n\n" +
			"Once there is a backup key (pipit backup key), backups are encrypted to it and hold the box's certificate authority and names\n" +
			"as well; --plain writes only what the store holds, readable by anybody.\n\n" +
			"--nightly is what the timer calls: a backup to backups/ in the data directory, and another to a USB stick labelled " + stickLabel + "\n" +
			"if there is one. Each is read back from the card and opened before it counts. In each place the newest of the last 7 days,\n" +
			"4 weeks and 12 months stay. A backup is refused long before messages are, where room is short.",
		Example: "  sudo pipit backup key\n  sudo pipit backup --nightly\n  sudo pipit backup /media/usb/pipit-$(date +%F).age",
		RunE: func(cmd *cobra.Command, args []string) error {
			if nightly {
				if err := noArgs(cmd, args); err != nil {
					return err
				}
				return t.nightly(cmd.Context(), stick)
			}
			if err := exactArgs("FILE")(cmd, args); err != nil {
				return err
			}
			return t.backupTo(cmd.Context(), args[0], plain)
		}}
	c.Flags().BoolVar(&nightly, "nightly", false, "back up to the card and to the stick, and thin out what is there")
	c.Flags().BoolVar(&plain, "plain", false, "do not encrypt, although there is a key")
	c.Flags().StringVar(&stick, "stick", "", "`DIR` to use instead of looking for a stick labelled "+stickLabel)
	c.AddCommand(t.backupKeyCmd(), t.backupListCmd())
	return c
}

// backupTo writes one backup to a file.
func (t *tool) backupTo(ctx context.Context, name string, plain bool) error {
	box, err := t.box()
	if err != nil {
		return err
	}
	dir, err := t.dir()
	if err != nil {
		return err
	}
	fill := box.Backup
	to, err := backup.Recipient(dir)
	encrypted := !plain && err == nil
	switch {
	case encrypted:
		c, _, err := t.content(ctx, box, dir)
		if err != nil {
			return err
		}
		fill = func(ctx context.Context, w io.Writer) (int64, error) {
			n := &countingWriter{w: w}
			err := backup.Write(ctx, n, c, to)
			return n.n, err
		}
	case !plain && !errors.Is(err, fs.ErrNotExist):
		return err
	case !plain:
		fmt.Fprintln(t.err, "Not encrypted: there is no backup key. Keep the file as safe as the messages in it, or make a key: pipit backup key")
	}
	if name == "-" {
		_, err := fill(ctx, t.out)
		return err
	}
	n, err := writeWhole(ctx, name, fill)
	if err != nil {
		return err
	}
	return t.answer(map[string]any{"file": name, "bytes": n, "encrypted": encrypted}, func() {
		fmt.Fprintf(t.out, "Wrote %s (%s%s).\n", name, size(n), map[bool]string{true: ", encrypted"}[encrypted])
	})
}

// content is what a backup of the running box holds, and about how large it is.
func (t *tool) content(ctx context.Context, box *apiclient.Client, dir string) (backup.Content, apiclient.ServerInfo, error) {
	s, err := box.Status(ctx)
	if err != nil {
		return backup.Content{}, s, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "pipit"
	}
	return backup.Content{
		Meta:    backup.Meta{Version: s.Version, Host: host, Made: time.Now().UTC(), StoreFormat: app.StoreFormat},
		DataDir: dir, Names: app.BackedUp, Settings: config.DefaultFile,
		Store: func(ctx context.Context, w io.Writer) error {
			_, err := box.Backup(ctx, w)
			return err
		},
	}, s, nil
}

// nightly backs up to the card and to the stick.
func (t *tool) nightly(ctx context.Context, stick string) error {
	dir, err := t.dir()
	if err != nil {
		return err
	}
	to, err := backup.Recipient(dir)
	if errors.Is(err, fs.ErrNotExist) {
		// The health of the server says so as well; a timer that fails each night
		// until somebody made a key would say nothing more.
		return t.answer(backup.Report{At: time.Now().UTC(), Places: []backup.PlaceReport{}}, func() {
			fmt.Fprintln(t.err, "Nothing was backed up: there is no backup key yet. Make one: sudo pipit backup key")
		})
	}
	if err != nil {
		return err
	}
	box, err := t.box()
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, backup.DirName)
	before, err := backup.ReadReport(folder)
	if err != nil {
		before = backup.Report{} // the first night, or a damaged file
	}
	r := backup.Report{At: time.Now().UTC().Truncate(time.Second), Good: before.Good}
	c, s, err := t.content(ctx, box, dir)
	if err != nil {
		return err
	}
	// Four times the bound below which messages are refused is where the box begins
	// to call its disk short.
	places := map[string]backup.Place{"card": {Dir: folder, SpareBytes: 4 * s.Store.LowWaterBytes}}
	stickDir, leave, serr := findStick(stick)
	defer leave()
	if stickDir != "" {
		places["stick"] = backup.Place{Dir: stickDir, SpareBytes: 1 << 20}
	}
	believed := machine.Machine{}.ClockTrust(dir).Believed()
	for _, name := range []string{"card", "stick"} {
		p, ok := places[name]
		if !ok {
			continue
		}
		taken, err := p.Take(ctx, c, backup.Estimate(p.Dir, s.Store.Bytes), believed, to)
		pr := backup.PlaceReport{Place: name, Taken: taken}
		if err != nil {
			pr.Error, pr.Why = explain(err), backup.Why(err)
		}
		r.Places = append(r.Places, pr)
	}
	if serr != nil {
		r.Places = append(r.Places, backup.PlaceReport{Place: "stick", Error: serr.Error(), Why: backup.Why(serr)})
	}
	var wrong []string
	for _, p := range r.Places {
		if p.Error != "" {
			wrong = append(wrong, p.Place+": "+p.Error)
		}
	}
	if r.Error = strings.Join(wrong, " "); r.Error == "" {
		r.Good = r.At
	}
	if err := errors.Join(backup.WriteReport(folder, r), giveTo(dir, folder)); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := t.answer(r, func() {
		for _, p := range r.Places {
			if p.Error == "" {
				fmt.Fprintf(t.out, "%-6s %s (%s, %d records read back), %d old ones removed\n", p.Place, p.Path, size(p.Bytes), p.Records, len(p.Removed))
			}
		}
	}); err != nil {
		return err
	}
	if r.Error != "" {
		return &im.Error{Kind: im.Unavailable, Message: r.Error}
	}
	return nil
}

// giveTo gives what root made in the data directory to its owner, the server's
// user, so that the server can read it. Versions and keys stay with root, or
// nobody would believe them.
func giveTo(dataDir, folder string) error {
	var st unix.Stat_t
	if os.Geteuid() != 0 {
		return nil
	}
	if err := unix.Stat(dataDir, &st); err != nil {
		return err
	}
	roots := []string{filepath.Join(dataDir, update.VersionsName), filepath.Join(dataDir, update.KeysName)}
	return filepath.WalkDir(folder, func(name string, _ fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case slices.Contains(roots, name):
			return fs.SkipDir
		}
		return os.Lchown(name, int(st.Uid), int(st.Gid))
	})
}

// findStick returns the folder of the stick labelled PIPIT-BACKUP, mounting it
// where nobody has; leave undoes that. "" is no stick, which is no error.
func findStick(named string) (dir string, leave func(), err error) {
	leave = func() {}
	if named != "" {
		return named, leave, nil
	}
	device, err := filepath.EvalSymlinks("/dev/disk/by-label/" + stickLabel)
	if err != nil {
		return "", leave, nil
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", leave, err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == device {
			return strings.ReplaceAll(f[1], `\040`, " "), leave, nil
		}
	}
	dir, err = os.MkdirTemp("", "pipit-stick-")
	if err != nil {
		return "", leave, err
	}
	for _, kind := range []string{"vfat", "exfat", "ext4"} {
		if err = unix.Mount(device, dir, kind, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_NOATIME, ""); err == nil {
			return dir, func() {
				unix.Sync()
				_ = unix.Unmount(dir, 0) // busy: it stays, and the next night finds it mounted
				_ = os.Remove(dir)
			}, nil
		}
	}
	_ = os.Remove(dir) // empty
	return "", leave, fmt.Errorf("the stick labelled %s (%s) can't be used: %v. Format it as FAT32, exFAT or ext4", stickLabel, device, err)
}

func (t *tool) backupKeyCmd() *cobra.Command {
	var anew bool
	var given string
	c := &cobra.Command{Use: "key", Short: "Make the key that opens the backups, and show it once", Args: noArgs,
		Long: "Makes an age identity, shows it once, as text and as a QR code, and keeps only the recipient that belongs to it:\n" +
			"the box encrypts its backups and can't read them again. Keep the identity somewhere else than the box: on paper,\n" +
			"in a password manager, on a stick in the safe. Without it no backup can be restored.\n\n" +
			"Once there is a key, shows its recipient. --recipient takes one whose identity you have already.",
		Example: "  sudo pipit backup key\n  sudo pipit backup key --recipient age1…",
		RunE: func(*cobra.Command, []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			now, err := backup.Recipient(dir)
			if err == nil && !anew && given == "" {
				return t.answer(map[string]string{"recipient": fmt.Sprint(now)}, func() {
					fmt.Fprintf(t.out, "Backups are encrypted to %s\n", now)
					fmt.Fprintln(t.err, "The identity that opens them was shown when it was made. If it is lost, make a new one with --new; older backups stay closed.")
				})
			}
			if given != "" {
				if _, err := age.ParseX25519Recipient(given); err != nil {
					return usageError{fmt.Errorf("--recipient: %q is no age recipient: it begins with age1", given)}
				}
				if err := keepRecipient(dir, given); err != nil {
					return err
				}
				return t.answer(map[string]string{"recipient": given}, func() { fmt.Fprintf(t.out, "Backups are encrypted to %s from now on.\n", given) })
			}
			id, err := age.GenerateX25519Identity()
			if err != nil {
				return err
			}
			if err := keepRecipient(dir, id.Recipient().String()); err != nil {
				return err
			}
			return t.answer(map[string]string{"recipient": id.Recipient().String(), "identity": id.String()}, func() {
				fmt.Fprintf(t.out, "This identity opens the backups of this box. It is shown once and kept nowhere: write it down now.\n\n%s\n\n%s\n", id, qrText(id.String()))
				fmt.Fprintf(t.out, "Backups are encrypted to %s from now on.\nTo restore: pipit restore FILE --identity FILE-WITH-THAT-LINE\n", id.Recipient())
			})
		}}
	c.Flags().BoolVar(&anew, "new", false, "make a new key although there is one; older backups need the old one")
	c.Flags().StringVar(&given, "recipient", "", "`RECIPIENT` of an identity that exists (age1…)")
	return c
}

func keepRecipient(dir, r string) error {
	name := filepath.Join(dir, backup.RecipientName)
	if _, err := writeWhole(context.Background(), name, func(_ context.Context, w io.Writer) (int64, error) {
		n, err := io.WriteString(w, r+"\n")
		return int64(n), err
	}); err != nil {
		return err
	}
	return giveTo(dir, name)
}

func (t *tool) backupListCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the nightly backups on the card, and how the last night was", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			folder := filepath.Join(dir, backup.DirName)
			list, err := backup.List(folder)
			if err != nil {
				return err
			}
			r, err := backup.ReadReport(folder)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				fmt.Fprintln(t.err, "the report of the last night can't be read:", err)
			}
			if list == nil {
				list = []backup.Kept{}
			}
			return t.answer(map[string]any{"backups": list, "last": r}, func() {
				rows := make([][]string, 0, len(list))
				for _, k := range list {
					rows = append(rows, []string{k.At.Local().Format("2006-01-02 15:04"), size(k.Bytes), filepath.Join(folder, k.Name)})
				}
				if len(rows) > 0 {
					t.table([]string{"MADE", "SIZE", "FILE"}, rows)
				}
				switch {
				case r.At.IsZero():
					fmt.Fprintln(t.err, "No backup was made yet. Make a key: sudo pipit backup key; then the box backs up each night, or now: sudo pipit backup --nightly")
				case r.Error != "":
					fmt.Fprintf(t.err, "The last one, %s, failed: %s\n", r.At.Local().Format("2006-01-02 15:04"), printable(r.Error))
				}
			})
		}}
}
