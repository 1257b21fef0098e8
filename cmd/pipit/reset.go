package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/im"
)

// resetName is the file on the boot partition that erases the data partition at
// the next start (image/overlay/usr/lib/pipit/init).
const resetName = "factory-reset"

func (t *tool) factoryResetCmd() *cobra.Command {
	var boot, confirm string
	var cancel, reboot bool
	c := &cobra.Command{Use: "factory-reset", Short: "Erase everything that the box stores, at its next start", Args: noArgs,
		Long: "Puts the file " + resetName + " on the boot partition. At the next start the box erases its data partition: all organisations,\n" +
			"people, messages, backups on the card, its certificate authority, network settings and SSH keys. Nothing brings them back\n" +
			"but a backup somewhere else. Until then --cancel takes the file away.",
		Example: "  sudo pipit factory-reset --reboot",
		RunE: func(cmd *cobra.Command, _ []string) error {
			host, err := os.Hostname()
			if err != nil {
				return err
			}
			if fi, err := os.Stat(boot); err != nil || !fi.IsDir() {
				return notFound("There is no boot partition at %s: this is not Pipit's own image. Remove the data directory by hand, while the server does not run.", boot)
			}
			name := filepath.Join(boot, resetName)
			if cancel {
				err := os.ErrNotExist
				if _, serr := os.Stat(name); serr == nil {
					err = writable(cmd.Context(), boot, func() error { return os.Remove(name) })
				}
				if errors.Is(err, fs.ErrNotExist) {
					return notFound("No factory reset was asked for.")
				}
				if err != nil {
					return err
				}
				return t.answer(map[string]bool{"reset": false}, func() { fmt.Fprintln(t.out, "Nothing will be erased.") })
			}
			if confirm == "" {
				fmt.Fprintf(t.err, "This erases everything that %s stores, at its next start. Type the name of the box to go on: ", host)
				line, err := bufio.NewReader(t.in).ReadString('\n')
				if err != nil && line == "" {
					fmt.Fprintln(t.err)
					return usageError{errors.New("nobody confirmed; nothing was changed. In a script: --confirm NAME-OF-THE-BOX")}
				}
				confirm = strings.TrimSpace(line)
			}
			if confirm != host {
				return im.E(im.Invalid, "%q is not the name of this box; nothing was changed.", confirm)
			}
			if err := writable(cmd.Context(), boot, func() error {
				f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
				if err != nil {
					return err
				}
				return errors.Join(f.Sync(), f.Close())
			}); err != nil {
				return fmt.Errorf("write %s (run this with sudo): %w", name, err)
			}
			if err := t.answer(map[string]bool{"reset": true}, func() {
				fmt.Fprintln(t.out, "At its next start the box erases everything. `pipit factory-reset --cancel` until then.")
			}); err != nil {
				return err
			}
			if reboot {
				return systemctl(cmd.Context(), "reboot")
			}
			return nil
		}}
	c.Flags().StringVar(&boot, "boot", "/boot/firmware", "`DIR` where the boot partition is")
	c.Flags().StringVar(&confirm, "confirm", "", "`NAME` of the box, instead of being asked for it")
	c.Flags().BoolVar(&cancel, "cancel", false, "take a reset back that has not happened yet")
	c.Flags().BoolVar(&reboot, "reboot", false, "restart the box at once")
	return c
}
