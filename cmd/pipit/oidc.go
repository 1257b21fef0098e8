package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

// group is a command that only has commands below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noArgs, DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(below...)
	return c
}

func (t *tool) oidcCmd() *cobra.Command {
	return group("oidc", "Sign-in for other programs, and through other providers (OpenID Connect)",
		group("client", "Programs that sign people in through this box: add, list, remove", t.oidcClientAdd(), t.oidcClientList(), t.oidcClientRemove()),
		group("provider", "Providers of yours that people sign in through: add, list, remove", t.oidcProviderAdd(), t.oidcProviderList(), t.oidcProviderRemove()))
}

func (t *tool) oidcClientAdd() *cobra.Command {
	var tenant string
	var in apiclient.NewOIDCClient
	c := &cobra.Command{Use: "add ID", Short: "Let a program sign people in", Args: exactArgs("ID"),
		Long: "Let a program sign people in through this box. What it needs is printed, its secret this once.\n\n" +
			"The kind says what the program is: web (on a server, keeps a secret), browser (a page), native (on a person's device) or device (a kiosk without a browser).",
		Example: "  pipit oidc client add wiki --name \"School wiki\" --redirect https://wiki.school.example/callback",
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			in.ID = args[0]
			if in.Name == "" {
				in.Name = in.ID
			}
			made, err := box.AddOIDCClient(cmd.Context(), tenant, in)
			if err != nil {
				return err
			}
			return t.answer(made, func() {
				fmt.Fprintf(t.out, "Added %s (%s).\n", made.ID, printable(made.Name))
				fmt.Fprintf(t.out, "  Issuer         https://NAME-OF-THIS-BOX/t/%s\n  Client id      %s\n  Scopes         %s\n", tenant, made.ID, strings.Join(made.Scopes, " "))
				if made.Secret != "" {
					fmt.Fprintf(t.out, "  Client secret  %s\n", made.Secret)
					fmt.Fprintln(t.err, "The secret can't be shown again. PKCE (S256) is required of every program.")
				}
			})
		}}
	f := c.Flags()
	f.StringVar(&in.Name, "name", "", "`NAME` that people see when they are asked whether they agree (default: the id)")
	f.StringVar(&in.Kind, "kind", "web", "`KIND` of program: web, browser, native or device")
	f.StringArrayVar(&in.RedirectURIs, "redirect", nil, "`ADDRESS` that people are sent back to, letter by letter (may be repeated)")
	f.StringArrayVar(&in.LogoutURIs, "logout", nil, "`ADDRESS` that people are sent to after signing out (may be repeated)")
	f.StringSliceVar(&in.Scopes, "scope", nil, "`SCOPES` that it may have: openid, profile, email, offline_access, chat, admin (default openid,profile,email)")
	f.StringVar(&in.Alg, "alg", "", "`ALG` of its id_tokens: ES256, or RS256 for programs that know nothing else (default ES256)")
	f.BoolVar(&in.Trusted, "trusted", false, "it belongs to the organisation: people are not asked whether they agree")
	f.BoolVar(&in.Introspect, "introspect", false, "it may ask about tokens of other programs")
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) oidcClientList() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "list", Short: "List the programs that sign people in", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			list, err := box.OIDCClients(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return t.answer(list, func() {
				if len(list) == 0 {
					fmt.Fprintln(t.err, "No programs yet. Add one: pipit oidc client add ID --redirect ADDRESS")
					return
				}
				var rows [][]string
				for _, x := range list {
					rows = append(rows, []string{x.ID, x.Name, x.Kind, strings.Join(x.Scopes, " "), strings.Join(x.RedirectURIs, " ")})
				}
				t.table([]string{"ID", "NAME", "KIND", "SCOPES", "REDIRECT"}, rows)
			})
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) oidcClientRemove() *cobra.Command {
	return t.oidcRemove("Remove a program; its tokens end at once", func(cmd *cobra.Command, box *apiclient.Client, tenant, id string) error {
		return box.RemoveOIDCClient(cmd.Context(), tenant, id)
	})
}

func (t *tool) oidcProviderRemove() *cobra.Command {
	return t.oidcRemove("Remove a provider and its links; accounts stay", func(cmd *cobra.Command, box *apiclient.Client, tenant, id string) error {
		return box.RemoveOIDCProvider(cmd.Context(), tenant, id)
	})
}

func (t *tool) oidcRemove(short string, remove func(*cobra.Command, *apiclient.Client, string, string) error) *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "remove ID", Short: short, Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			if err := remove(cmd, box, tenant, args[0]); err != nil {
				return err
			}
			return t.answer(map[string]string{"removed": args[0]}, func() { fmt.Fprintf(t.out, "Removed %s.\n", args[0]) })
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) oidcProviderAdd() *cobra.Command {
	var tenant string
	var in apiclient.PutOIDCProvider
	var stdin bool
	c := &cobra.Command{Use: "add ID", Short: "Let people sign in through a provider of yours, or change it", Args: exactArgs("ID"),
		Long: "Let people sign in through an OpenID provider of yours (Keycloak, Entra ID, Google, Authentik …), or change one.\n" +
			"The provider's client secret is read from standard input with --secret-stdin, its first line only.\n\n" +
			"Without rules, people link their account there themselves, while they are signed in here. --create and --link are rules for all;\n" +
			"they never reach the account of an owner or admin.",
		Example: "  pipit oidc provider add school --name \"School login\" --issuer https://login.school.example/realms/school \\\n" +
			"    --client-id pipit --secret-stdin --domain school.example --create --role-claim groups --role-of teachers=staff",
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			if stdin {
				if in.ClientSecret, err = t.password(true); err != nil {
					return err
				}
			}
			if in.Name == "" {
				in.Name = args[0]
			}
			made, err := box.PutOIDCProvider(cmd.Context(), tenant, args[0], in)
			if err != nil {
				return err
			}
			return t.answer(made, func() {
				fmt.Fprintf(t.out, "People of %s can sign in through %s (%s).\n", tenant, made.ID, printable(made.Name))
				fmt.Fprintf(t.out, "  Register this address there: https://NAME-OF-THIS-BOX%s\n", made.Callback)
			})
		}}
	f := c.Flags()
	f.StringVar(&in.Name, "name", "", "`NAME` on its button (default: the id)")
	f.StringVar(&in.Issuer, "issuer", "", "`ADDRESS` of the provider, https")
	f.StringVar(&in.ClientID, "client-id", "", "`ID` that the provider knows this box by")
	f.BoolVar(&stdin, "secret-stdin", false, "read the client secret from standard input")
	f.StringSliceVar(&in.Scopes, "scope", nil, "`SCOPES` to ask for beside openid (default profile,email)")
	f.StringSliceVar(&in.Domains, "domain", nil, "e-mail `DOMAINS` that rules are for; the address must be verified")
	f.BoolVar(&in.Create, "create", false, "give people whom nobody knows yet an account")
	f.StringVar(&in.Link, "link", "", "`RULE` for accounts that are there: email (a verified address in --domain, before its @), or a claim that is the user name")
	f.StringVar(&in.Username, "username-claim", "", "`CLAIM` that new user names are made of")
	f.StringVar(&in.Role, "role", "", "`ROLE` of new accounts (default member)")
	f.StringVar(&in.RoleClaim, "role-claim", "", "`CLAIM` that says the role")
	f.StringToStringVar(&in.Roles, "role-of", nil, "`VALUE=ROLE` of that claim (may be repeated)")
	f.StringVar(&in.ClassClaim, "class-claim", "", "`CLAIM` that says the classes")
	f.StringToStringVar(&in.Classes, "class-of", nil, "`VALUE=CLASS` of that claim (may be repeated)")
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) oidcProviderList() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "list", Short: "List the providers that people sign in through", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			list, err := box.OIDCProviders(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			return t.answer(list, func() {
				if len(list) == 0 {
					fmt.Fprintln(t.err, "No providers yet. Add one: pipit oidc provider add ID --issuer ADDRESS --client-id ID")
					return
				}
				var rows [][]string
				for _, x := range list {
					makes := "no"
					if x.Create {
						makes = "yes"
					}
					rows = append(rows, []string{x.ID, x.Name, x.Issuer, makes, strings.Join(x.Domains, " ")})
				}
				t.table([]string{"ID", "NAME", "ISSUER", "NEW ACCOUNTS", "DOMAINS"}, rows)
			})
		}}
	tenantFlag(c, &tenant)
	return c
}
