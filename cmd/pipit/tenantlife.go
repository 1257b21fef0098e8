package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

func (t *tool) tenantShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "Show an organisation: settings, quota and what it uses", Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			d, err := box.Tenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return t.answer(d, func() { t.showTenant(d) })
		}}
}

func (t *tool) showTenant(d apiclient.TenantDetail) {
	hosts := strings.Join(d.Settings.Hosts, ", ")
	if hosts == "" {
		hosts = "none (reached as /t/" + d.ID + ")"
	}
	twoStep := "as each person likes"
	if d.Settings.StaffTOTP {
		twoStep = "required of owners, admins and staff"
	}
	t.table([]string{"ORGANISATION", d.Name}, [][]string{
		{"id", d.ID}, {"state", stateOf(d.TenantInfo)}, {"created", day(d.Created)}, {"host names", hosts},
		{"second step", twoStep}, {"audit log kept", fmt.Sprintf("%d days", d.Settings.AuditDays)},
	})
	fmt.Fprintln(t.out)
	q, u := d.Settings.Quota, d.Settings.Usage
	number := func(n int) string { return strconv.Itoa(n) }
	t.table([]string{"QUOTA", "USED", "ALLOWED"}, [][]string{
		{"users", number(u.Users), bound(q.Users, number)},
		{"conversations", number(u.Conversations), bound(q.Conversations, number)},
		{"storage", size(u.StoredBytes), bound(q.StoredBytes, size)},
		{"connections", number(u.Connections), bound(q.Connections, number)},
		{"sends a minute", "", bound(q.SendsPerMinute, number)},
	})
}

// bound writes a quota for people.
func bound[N int | int64](n N, write func(N) string) string {
	if n == 0 {
		return "no bound"
	}
	return write(n)
}

// stateOf says in a word or two how a tenant is.
func stateOf(x apiclient.TenantInfo) string {
	switch {
	case x.ErasedIn > 0:
		return fmt.Sprintf("deleted; erased in %d days of running time", (x.ErasedIn+86399)/86400)
	case x.Suspended:
		return "suspended"
	}
	return "active"
}

func (t *tool) tenantRename() *cobra.Command {
	return &cobra.Command{Use: "rename ID NAME", Short: "Give an organisation another name; its id stays", Args: exactArgs("ID", "NAME"),
		Example: `  pipit tenant rename oakhill "Oakhill School"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			info, err := box.UpdateTenant(cmd.Context(), args[0], apiclient.TenantPatch{Name: &args[1]})
			if err != nil {
				return err
			}
			return t.answer(info, func() { fmt.Fprintf(t.out, "Tenant %s is called %s now.\n", info.ID, printable(info.Name)) })
		}}
}

func (t *tool) tenantDelete() *cobra.Command {
	var now bool
	var confirm string
	c := &cobra.Command{Use: "delete ID", Short: "Delete an organisation with everything in it", Args: exactArgs("ID"),
		Long: "Deletes an organisation: nobody of it can sign in from now on, and after seven days in which the server ran it is\n" +
			"erased from the disk. Until then `pipit tenant undelete ID` brings it back as it was.\n\n" +
			"With --now it is erased at once, and nothing but a backup brings it back. The id is asked for again, or given\n" +
			"with --confirm.",
		Example: `  pipit tenant export oakhill --to oakhill.zip
  pipit tenant delete oakhill
  pipit tenant delete oakhill --now --confirm oakhill`,
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if now {
				if err := t.confirmed(args[0], confirm); err != nil {
					return err
				}
			}
			info, err := box.DeleteTenant(cmd.Context(), args[0], now)
			if err != nil {
				return err
			}
			return t.answer(info, func() {
				if now {
					fmt.Fprintf(t.out, "Erased tenant %s (%s). Nothing of it is left on this server.\n", info.ID, printable(info.Name))
					return
				}
				fmt.Fprintf(t.out, "Deleted tenant %s (%s). It is erased after 7 days.\n", info.ID, printable(info.Name))
				fmt.Fprintf(t.err, "To have it back until then: pipit tenant undelete %s\n", info.ID)
			})
		}}
	c.Flags().BoolVar(&now, "now", false, "erase it at once; nothing but a backup brings it back")
	c.Flags().StringVar(&confirm, "confirm", "", "with --now: the `ID` once more, for scripts")
	return c
}

// confirmed has the id typed once more, unless it was given.
func (t *tool) confirmed(id, given string) error {
	if given == "" {
		fmt.Fprintf(t.err, "This erases %s with all its people and messages for good. Type its id to go on: ", id)
		line, err := t.readLine()
		if err != nil {
			return err
		}
		given = line
	}
	if given != id {
		return usageError{errors.New("that is not the id; nothing was changed")}
	}
	return nil
}

func (t *tool) tenantUndelete() *cobra.Command {
	return &cobra.Command{Use: "undelete ID", Short: "Bring a deleted organisation back while it is not erased yet", Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			info, err := box.UndeleteTenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return t.answer(info, func() { fmt.Fprintf(t.out, "Tenant %s (%s) is back.\n", info.ID, printable(info.Name)) })
		}}
}

func (t *tool) tenantHost() *cobra.Command {
	var remove bool
	c := &cobra.Command{Use: "host ID [NAME…]", Short: "Host names that lead to an organisation", Args: minArgs(1, "ID"),
		Long: "Shows, adds or removes the host names that lead to an organisation. Whoever opens the server by one of them need not\n" +
			"say which organisation is meant. Any name that points to this machine will do; in a network without a name server\n" +
			"one that ends in .local and has two parts, such as oakhill.local.",
		Example: `  pipit tenant host oakhill
  pipit tenant host oakhill oakhill.local chat.oakhill.example
  pipit tenant host oakhill oakhill.local --remove`,
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			d, err := box.Tenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if len(args) > 1 {
				hosts := d.Settings.Hosts
				for _, h := range args[1:] {
					if remove {
						hosts = slices.DeleteFunc(hosts, func(x string) bool { return strings.EqualFold(x, h) })
					} else {
						hosts = append(hosts, h)
					}
				}
				if d, err = box.SetTenant(cmd.Context(), args[0], apiclient.BoxSettings{Hosts: &hosts}); err != nil {
					return err
				}
			}
			return t.answer(d.Settings.Hosts, func() {
				if len(d.Settings.Hosts) == 0 {
					fmt.Fprintf(t.err, "No host names. Add one: pipit tenant host %s NAME\n", d.ID)
				}
				for _, h := range d.Settings.Hosts {
					fmt.Fprintln(t.out, h)
				}
			})
		}}
	c.Flags().BoolVar(&remove, "remove", false, "remove the names instead of adding them")
	return c
}

func (t *tool) tenantQuota() *cobra.Command {
	var q apiclient.Quota
	var storage string
	c := &cobra.Command{Use: "quota ID", Short: "What an organisation may have at most", Args: exactArgs("ID"),
		Long: "Shows or sets what an organisation may have at most. 0 takes a bound away; what is not named stays as it is.",
		Example: `  pipit tenant quota oakhill
  pipit tenant quota oakhill --users 500 --storage 2GiB --sends 3000`,
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			d, err := box.Tenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			next, changed := d.Settings.Quota, false
			for name, set := range map[string]func(){
				"users": func() { next.Users = q.Users }, "conversations": func() { next.Conversations = q.Conversations },
				"sends": func() { next.SendsPerMinute = q.SendsPerMinute }, "connections": func() { next.Connections = q.Connections },
			} {
				if cmd.Flags().Changed(name) {
					set()
					changed = true
				}
			}
			if storage != "" {
				if next.StoredBytes, err = parseSize(storage); err != nil {
					return usageError{err}
				}
				changed = true
			}
			if changed {
				if d, err = box.SetTenant(cmd.Context(), args[0], apiclient.BoxSettings{Quota: &next}); err != nil {
					return err
				}
			}
			return t.answer(d.Settings, func() { t.showTenant(d) })
		}}
	f := c.Flags()
	f.IntVar(&q.Users, "users", 0, "at most `N` users, disabled ones too")
	f.IntVar(&q.Conversations, "conversations", 0, "at most `N` conversations")
	f.StringVar(&storage, "storage", "", "at most `SIZE` of storage, such as 500MiB or 2GiB")
	f.IntVar(&q.SendsPerMinute, "sends", 0, "at most `N` messages and reactions a minute, over all users")
	f.IntVar(&q.Connections, "connections", 0, "at most `N` people connected at once")
	return c
}

func (t *tool) tenantKeeper() *cobra.Command {
	var none bool
	c := &cobra.Command{Use: "keeper ID", Short: "Let an organisation look after the box from its browsers", Args: exactArgs("ID"),
		Long: "The owners of one organisation look after the box from their browsers: its health, its backups, the other organisations.\n" +
			"The set-up wizard and the first boot make it the one that they make; this hands the box over to another, or with --none to nobody.",
		Example: "  pipit tenant keeper oakhill",
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			keeper := !none
			d, err := box.SetTenant(cmd.Context(), args[0], apiclient.BoxSettings{Keeper: &keeper})
			if err != nil {
				return err
			}
			return t.answer(d, func() {
				if d.Settings.Keeper {
					fmt.Fprintf(t.out, "The owners of %s (%s) look after this box from their browsers now.\n", d.ID, printable(d.Name))
				} else {
					fmt.Fprintf(t.out, "Nobody in %s (%s) looks after this box.\n", d.ID, printable(d.Name))
				}
			})
		}}
	c.Flags().BoolVar(&none, "none", false, "take it away from this organisation")
	return c
}

// parseSize reads what size writes.
func parseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "BKMGTibkmgt ")
	n, err := strconv.ParseFloat(number, 64)
	unit := strings.ToLower(strings.TrimSpace(s[len(number):]))
	factor, known := map[string]float64{"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
		"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}[unit]
	if err != nil || !known || n < 0 || n*factor > 1<<60 {
		return 0, fmt.Errorf("%q is no size: write it like 500MiB or 2GiB", s)
	}
	return int64(n * factor), nil
}

func (t *tool) tenantExport() *cobra.Command {
	var to string
	var credentials bool
	c := &cobra.Command{Use: "export ID --to FILE", Short: "Write an organisation to an archive, to be imported elsewhere", Args: exactArgs("ID"),
		Long: "Writes an organisation with its people, conversations and messages to a ZIP of JSON lines. While it is written\n" +
			"nothing stops; suspend the organisation first if it is to move. Without --credentials nobody can sign in with the\n" +
			"former password after the import.",
		Example: `  pipit tenant suspend oakhill
  pipit tenant export oakhill --to oakhill.zip --credentials`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError{errors.New("say where to: --to FILE")}
			}
			box, err := t.box()
			if err != nil {
				return err
			}
			n, err := writeFile(to, func(f *os.File) (int64, error) { return box.ExportTenant(cmd.Context(), args[0], credentials, f) })
			if err != nil {
				return err
			}
			return t.answer(map[string]any{"tenant": args[0], "file": to, "bytes": n}, func() {
				fmt.Fprintf(t.out, "Wrote tenant %s to %s (%s).\n", args[0], to, size(n))
			})
		}}
	c.Flags().StringVar(&to, "to", "", "the `FILE` to write; it must not be there yet")
	c.Flags().BoolVar(&credentials, "credentials", false, "with hashes of passwords, second factors and API tokens: keep the file secret")
	return c
}

func (t *tool) tenantImport() *cobra.Command {
	return &cobra.Command{Use: "import FILE", Short: "Make an organisation of an archive, all or nothing", Args: exactArgs("FILE"),
		Example: "  pipit tenant import oakhill.zip",
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return im.E(im.NotFound, "%s can't be read: %v", args[0], errors.Unwrap(err))
			}
			defer f.Close()
			info, err := box.ImportTenant(cmd.Context(), f)
			if err != nil {
				return err
			}
			return t.answer(info, func() { fmt.Fprintf(t.out, "Imported tenant %s (%s).\n", info.ID, printable(info.Name)) })
		}}
}

// writeFile makes a file that was not there, and leaves none when fill fails.
func writeFile(name string, fill func(*os.File) (int64, error)) (int64, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return 0, im.E(im.Exists, "%s is there already; choose another name.", name)
	}
	if err != nil {
		return 0, err
	}
	n, err := fill(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, errors.Join(err, os.Remove(name))
	}
	return n, nil
}
