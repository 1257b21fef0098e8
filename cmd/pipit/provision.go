package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/provision"
)

// bootErrors is what went wrong before anybody could be told, one line each; the
// screen and doctor show it. The image's first process writes it too.
const bootErrors = "/run/pipit/boot-errors"

func (t *tool) provisionCmd() *cobra.Command {
	c := &cobra.Command{Use: "provision", Short: "Set the box up from pipit.yaml on the card's boot partition", Args: noArgs,
		Long: "Reads " + provision.FileName + " on the boot partition, which any PC can edit. The system does it by itself at each start;\n" +
			"the file is read once and then called " + provision.UsedName + ". To use one again, give it its old name and restart.",
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.provisionCheck(), t.provisionHost(), t.provisionServer())
	return c
}

func bootFlag(c *cobra.Command, boot *string) {
	c.Flags().StringVar(boot, "boot", "/boot/firmware", "`DIR` where the boot partition is")
}

func (t *tool) provisionCheck() *cobra.Command {
	return &cobra.Command{Use: "check DIR", Short: "Judge the pipit.yaml in a folder, and change nothing", Args: exactArgs("DIR"),
		Example: "  pipit provision check /media/ann/BOOTFS",
		RunE: func(_ *cobra.Command, args []string) error {
			s, problems, err := provision.Read(args[0])
			if err != nil {
				return usageError{err}
			}
			if err := t.answer(orNone(problems), func() {
				for _, p := range problems {
					fmt.Fprintf(t.out, "%s\n", p)
				}
				switch {
				case len(problems) > 0:
				case s.Empty():
					fmt.Fprintln(t.out, "The file says nothing: every line is a comment.")
				default:
					fmt.Fprintln(t.out, "The file is good.")
				}
			}); err != nil {
				return err
			}
			if len(problems) > 0 {
				return &attentionError{exitAttention}
			}
			return nil
		}}
}

func orNone(p []provision.Problem) []provision.Problem {
	if p == nil {
		return []provision.Problem{}
	}
	return p
}

// provisionHost runs early in the boot, before the network comes up.
func (t *tool) provisionHost() *cobra.Command {
	var boot string
	c := &cobra.Command{Use: "host", Short: "Apply what the operating system needs (run by pipit-provision.service)", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, problems, err := provision.Read(boot)
			switch {
			case errors.Is(err, provision.ErrNone):
				fmt.Fprintln(t.err, "Nothing to do:", err)
				return nil
			case err != nil:
				return err
			case len(problems) > 0:
				return t.complain(cmd.Context(), boot, problems)
			case s.Empty():
				return writable(cmd.Context(), boot, func() error { return provision.Content(boot) })
			}
			h := provision.Host{Root: "/", Group: groupOf("pipit")}
			if err := h.Apply(s); err != nil {
				return err
			}
			if s.HostName != "" {
				// systemd has given the box its old name already.
				if err := unix.Sethostname([]byte(s.HostName)); err != nil {
					return fmt.Errorf("host name: %w", err)
				}
			}
			if err := writable(cmd.Context(), boot, s.Used); err != nil {
				return err
			}
			fmt.Fprintf(t.err, "Applied %s; it is called %s now.\n", provision.FileName, provision.UsedName)
			return nil
		}}
	bootFlag(c, &boot)
	return c
}

// complain tells the person who edits the file, the one before the screen, and the log.
func (t *tool) complain(ctx context.Context, boot string, problems []provision.Problem) error {
	var screen strings.Builder
	for _, p := range problems {
		fmt.Fprintln(t.err, provision.FileName+":", p)
		where := provision.FileName
		if p.Line > 0 {
			where += ":" + strconv.Itoa(p.Line)
		}
		fmt.Fprintf(&screen, "%s: %s %s\n", where, p.ZH, p.EN)
	}
	err := os.MkdirAll(filepath.Dir(bootErrors), 0o755)
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(bootErrors, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err == nil {
			_, err = f.WriteString(screen.String())
			err = errors.Join(err, f.Close())
		}
	}
	err = errors.Join(err, writable(ctx, boot, func() error { return provision.Complain(boot, problems) }))
	if err != nil {
		return err
	}
	return &attentionError{exitAttention}
}

// provisionServer runs once the server does.
func (t *tool) provisionServer() *cobra.Command {
	var boot string
	c := &cobra.Command{Use: "server", Short: "Make the organisation and its administrator (run by pipit-enroll.service)", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			h := provision.Host{Root: "/", Group: -1}
			p, ok, err := h.Pending()
			if err != nil || !ok {
				return err
			}
			box, err := t.box()
			if err != nil {
				return err
			}
			problems, err := h.Enroll(cmd.Context(), p, boot, firstBoot{box})
			if err != nil {
				return err
			}
			if err := h.Done(); err != nil {
				return err
			}
			fmt.Fprintf(t.err, "Made %s (%s) with administrator %s.\n", printable(p.Organisation), p.TenantID, p.Username)
			if len(problems) > 0 {
				return t.complain(cmd.Context(), boot, problems)
			}
			return nil
		}}
	bootFlag(c, &boot)
	return c
}

// groupOf returns the number of a group, -1 where there is none.
func groupOf(name string) int {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return n
}

// writable runs fn while folder may be written to. On the image the boot partition is
// read-only but for such moments: FAT has no journal.
func writable(ctx context.Context, folder string, fn func() error) error {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		return fmt.Errorf("%s: %w", folder, err)
	}
	if st.Flags&unix.ST_RDONLY == 0 {
		return fn()
	}
	remount := func(how string) error {
		if out, err := exec.CommandContext(ctx, "mount", "-o", "remount,"+how, folder).CombinedOutput(); err != nil {
			return fmt.Errorf("make %s %s: %w: %s", folder, how, err, strings.TrimSpace(string(out)))
		}
		return nil
	}
	if err := remount("rw"); err != nil {
		return err
	}
	return errors.Join(fn(), remount("ro"))
}

// firstBoot is provision.Server over the admin socket.
type firstBoot struct{ box *apiclient.Client }

func (f firstBoot) AddTenant(ctx context.Context, id, name, kind string) error {
	_, err := f.box.AddTenant(ctx, id, name)
	if err != nil && im.KindOf(err) != im.Exists {
		return err
	}
	if _, perr := f.box.ChangePolicy(ctx, id, apiclient.PolicyChange{Preset: &kind}); perr != nil {
		return perr
	}
	// Whoever wrote the first boot's settings has the box.
	keeper := true
	if _, kerr := f.box.SetTenant(ctx, id, apiclient.BoxSettings{Keeper: &keeper}); kerr != nil {
		return kerr
	}
	return err
}

func (f firstBoot) AddOwner(ctx context.Context, tenant, username, name string) error {
	_, err := f.box.AddUser(ctx, tenant, apiclient.NewPerson{Username: username, Name: name, Role: im.RoleOwner.String()})
	return err
}

// SetUpCode is a password that nobody chose, and that has to be replaced at the first
// sign-in: 16 characters of 30, 78 bits, in groups that can be typed.
func (f firstBoot) SetUpCode(ctx context.Context, tenant, username string) (string, error) {
	const alphabet = "ABCDEFGHJKMNPQRSTVWXYZ23456789"
	var code strings.Builder
	b := make([]byte, 1)
	for n := 0; n < 16; {
		if _, err := rand.Read(b); err != nil {
			return "", err
		}
		if int(b[0]) >= 256/len(alphabet)*len(alphabet) {
			continue // each character as likely as another
		}
		if n > 0 && n%4 == 0 {
			code.WriteByte('-')
		}
		code.WriteByte(alphabet[int(b[0])%len(alphabet)])
		n++
	}
	return code.String(), f.box.SetTemporaryPassword(ctx, tenant, username, code.String())
}

// ImportRoster imports one list. Whoever is not on it is left alone, because there may be
// several; a list with a bad row is not imported at all.
func (f firstBoot) ImportRoster(ctx context.Context, tenant, name string, data []byte) error {
	o := apiclient.RosterOptions{Name: name, Partial: true}
	plan, err := f.box.PreviewRoster(ctx, tenant, data, o)
	if err != nil {
		return err
	}
	if plan.Wrong > 0 {
		return im.E(im.Invalid, "%d rows can't be used; see: pipit roster import %s --dry-run", plan.Wrong, name)
	}
	if len(plan.Changes) == 0 {
		return nil
	}
	if _, err := f.box.ImportRoster(ctx, tenant, data, o, plan.Digest); err != nil {
		return err
	}
	for {
		st, err := f.box.RosterStatus(ctx, tenant)
		switch {
		case err != nil:
			return err
		case st.State == "idle" && st.Why != "":
			return im.E(im.Unavailable, "%s", st.Why)
		case st.State == "idle":
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}
