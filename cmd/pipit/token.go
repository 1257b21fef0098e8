package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

func (t *tool) tokenCmd() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Tokens with which programs use the REST API: add, list, revoke", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.tokenAdd(), t.tokenList(), t.tokenRevoke())
	return c
}

func (t *tool) tokenAdd() *cobra.Command {
	var tenant, as, scopes string
	var expires time.Duration
	c := &cobra.Command{Use: "add NAME --as USERNAME --scopes SCOPES", Short: "Make a token for a program; it is shown once", Args: exactArgs("NAME"),
		Long: "Makes a token for a program, which acts as one user of the organisation, within the scopes that it is given. The token\n" +
			"is shown this once; the server keeps only a hash of it.\n\n" +
			"Scopes: tenant:read tenant:write users:read users:write messages:read messages:send audit:read",
		Example: `  pipit token add "Timetable" --as ann --scopes users:read,messages:send
  pipit token add "Backup check" --as ann --scopes audit:read --expires 720h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if as == "" || scopes == "" {
				return usageError{errors.New("say as whom it acts and what it may do: --as USERNAME --scopes SCOPES")}
			}
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			made, err := box.MakeAPIToken(cmd.Context(), tenant, apiclient.NewAPIToken{Name: args[0], User: as, ExpiresIn: int64(expires / time.Second),
				Scopes: strings.FieldsFunc(scopes, func(r rune) bool { return r == ',' || r == ' ' })})
			if err != nil {
				return err
			}
			return t.answer(made, func() {
				fmt.Fprintln(t.out, made.Token)
				fmt.Fprintf(t.err, "This is the only time that the token is shown. To end it: pipit token revoke %s --tenant %s\n", made.ID, tenant)
			})
		}}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&as, "as", "", "the `USERNAME` that the program acts as")
	c.Flags().StringVar(&scopes, "scopes", "", "`SCOPES` with commas between them")
	c.Flags().DurationVar(&expires, "expires", 0, "how long it lasts, such as 720h (default: a year of running time)")
	return c
}

func (t *tool) tokenList() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "list", Short: "List tokens, not the secrets", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			tokens, err := box.APITokens(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return t.answer(tokens, func() {
				if len(tokens) == 0 {
					fmt.Fprintln(t.err, "No tokens.")
					return
				}
				rows := make([][]string, 0, len(tokens))
				for _, k := range tokens {
					rows = append(rows, []string{k.ID, k.Name, strings.Join(k.Scopes, " "), day(k.Created), day(k.Expires)})
				}
				t.table([]string{"ID", "NAME", "SCOPES", "CREATED", "ENDS"}, rows)
			})
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) tokenRevoke() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "revoke ID", Short: "End a token at once", Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			if err := box.RevokeAPIToken(cmd.Context(), tenant, args[0]); err != nil {
				return err
			}
			return t.answer(map[string]string{"id": args[0], "tenant": tenant}, func() { fmt.Fprintf(t.out, "Token %s is no longer valid.\n", args[0]) })
		}}
	tenantFlag(c, &tenant)
	return c
}
