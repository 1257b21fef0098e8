package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

func (t *tool) userCmd() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "People of an organisation: add, invite, list, set passwords, disable", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.userAdd(), t.userInvite(), t.userList(), t.userPasswd(), t.userSignOut(), t.userResetFactor(), t.userDisable(true), t.userDisable(false))
	return c
}

// tenantFlag adds --tenant; left out, it is the only tenant of the server.
func tenantFlag(c *cobra.Command, tenant *string) {
	c.Flags().StringVar(tenant, "tenant", "", "`ID` of the organisation (default: the only one)")
}

// theTenant returns the tenant that was named, or the only one.
func theTenant(cmd *cobra.Command, box *apiclient.Client, named string) (string, error) {
	if named != "" {
		return named, nil
	}
	tenants, err := box.Tenants(cmd.Context())
	switch {
	case err != nil:
		return "", err
	case len(tenants) == 0:
		return "", im.E(im.NotFound, "There is no tenant yet. Add one: pipit tenant add ID --name NAME")
	case len(tenants) > 1:
		return "", usageError{errors.New("there is more than one tenant: say which with --tenant ID")}
	}
	return tenants[0].ID, nil
}

func (t *tool) userAdd() *cobra.Command {
	var tenant, role, name string
	var stdin, temporary bool
	c := &cobra.Command{Use: "add USERNAME", Short: "Add a person", Args: exactArgs("USERNAME"),
		Long: "Adds a person. The password is asked for on a terminal, or read with --password-stdin (the first line).\n" +
			"Passwords are never taken from the command line, where other users of the machine could read them.",
		Example: `  pipit user add ann --tenant oakhill --role owner --name "Ann Lee"
  printf '%s\n' "$PASSWORD" | pipit user add ann --tenant oakhill --role owner --password-stdin`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := im.ParseRole(role); !ok {
				return usageError{fmt.Errorf("--role must be one of %s", strings.Join(im.Roles(), ", "))}
			}
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			password, err := t.password(stdin)
			if err != nil {
				return err
			}
			p, err := box.AddUser(cmd.Context(), tenant, apiclient.NewPerson{Username: args[0], Name: name, Role: role, Password: password, Temporary: temporary})
			if err != nil {
				return err
			}
			return t.answer(p, func() {
				fmt.Fprintf(t.out, "Added %s (%s) as %s of %s.\n", p.Username, printable(p.Name), p.Role, tenant)
			})
		}}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&role, "role", "member", "`ROLE` in the organisation: "+strings.Join(im.Roles(), ", "))
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(im.Roles(), cobra.ShellCompDirectiveNoFileComp)) // fails only without the flag
	c.Flags().StringVar(&name, "name", "", "`NAME` for people (default: the user name)")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	c.Flags().BoolVar(&temporary, "temporary", false, "the person has to replace the password at the first sign-in")
	return c
}

// readLine reads one line of standard input, a person's at a terminal or a script's.
func (t *tool) readLine() (string, error) {
	line, err := bufio.NewReader(io.LimitReader(t.in, im.MaxPasswordBytes+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

// password reads a password: from standard input if told so, else by asking
// twice on a terminal.
func (t *tool) password(stdin bool) (string, error) {
	if stdin {
		line, err := t.readLine()
		if err != nil {
			return "", err
		}
		if line == "" {
			return "", usageError{errors.New("standard input held no password")}
		}
		return line, nil
	}
	f, ok := t.in.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", usageError{errors.New("no terminal to ask for the password: give it with --password-stdin")}
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(t.err, prompt)
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(t.err)
		return string(b), err
	}
	first, err := ask("Password (at least 8 characters): ")
	if err != nil {
		return "", err
	}
	second, err := ask("Once more: ")
	if err != nil {
		return "", err
	}
	if first != second {
		return "", usageError{errors.New("the two passwords differ; nothing was changed")}
	}
	return first, nil
}

func (t *tool) userList() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "list", Short: "List people", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			people := []apiclient.Person{}
			err = box.Users(cmd.Context(), tenant, func(p apiclient.Person) error {
				people = append(people, p)
				return nil
			})
			if err != nil {
				return err
			}
			return t.answer(people, func() {
				rows := make([][]string, 0, len(people))
				for _, p := range people {
					state := "active"
					if p.Disabled {
						state = "disabled"
					}
					rows = append(rows, []string{p.Username, p.Name, p.Role, state, p.ID})
				}
				t.table([]string{"USERNAME", "NAME", "ROLE", "STATE", "ID"}, rows)
			})
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) userPasswd() *cobra.Command {
	var tenant string
	var stdin, temporary bool
	c := &cobra.Command{Use: "passwd USERNAME", Short: "Set a person's password; all of the person's sign-ins end", Args: exactArgs("USERNAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			password, err := t.password(stdin)
			if err != nil {
				return err
			}
			set := box.SetPassword
			if temporary {
				set = box.SetTemporaryPassword
			}
			if err := set(cmd.Context(), tenant, args[0], password); err != nil {
				return err
			}
			return t.answer(map[string]string{"username": args[0], "tenant": tenant}, func() {
				fmt.Fprintf(t.out, "Set a new password for %s and signed %s out everywhere.\n", args[0], args[0])
			})
		}}
	tenantFlag(c, &tenant)
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	c.Flags().BoolVar(&temporary, "temporary", false, "the person has to replace the password at the first sign-in")
	return c
}

func (t *tool) userDisable(disable bool) *cobra.Command {
	var tenant string
	use, short, done := "disable USERNAME", "Sign a person out and refuse further sign-ins; nothing is deleted", "Disabled"
	if !disable {
		use, short, done = "enable USERNAME", "Let a disabled person back in", "Enabled"
	}
	c := &cobra.Command{Use: use, Short: short, Args: exactArgs("USERNAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			p, err := box.UpdateUser(cmd.Context(), tenant, args[0], apiclient.PersonChange{Disabled: &disable})
			if err != nil {
				return err
			}
			return t.answer(p, func() { fmt.Fprintf(t.out, "%s %s (%s).\n", done, p.Username, printable(p.Name)) })
		}}
	tenantFlag(c, &tenant)
	return c
}
