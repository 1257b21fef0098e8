package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

func (t *tool) tenantCmd() *cobra.Command {
	c := &cobra.Command{Use: "tenant", Short: "Organisations on this server: add, show, suspend, delete, move", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.tenantAdd(), t.tenantList(), t.tenantShow(), t.tenantRename(), t.tenantSuspend(true), t.tenantSuspend(false),
		t.tenantDelete(), t.tenantUndelete(), t.tenantExport(), t.tenantImport(), t.tenantHost(), t.tenantQuota(), t.tenantKeeper())
	return c
}

func (t *tool) tenantAdd() *cobra.Command {
	var name string
	c := &cobra.Command{Use: "add ID", Short: "Add an organisation", Args: exactArgs("ID"),
		Example: `  pipit tenant add oakhill --name "Oakhill School"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			info, err := box.AddTenant(cmd.Context(), args[0], name)
			if err != nil {
				return err
			}
			return t.answer(info, func() {
				fmt.Fprintf(t.out, "Added tenant %s (%s).\n", info.ID, printable(info.Name))
				fmt.Fprintf(t.err, "Next, its first owner: pipit user add USERNAME --tenant %s --role owner --password-stdin\n", info.ID)
			})
		}}
	c.Flags().StringVar(&name, "name", "", "`NAME` of the organisation for people (default: the id)")
	return c
}

func (t *tool) tenantList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List organisations", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			tenants, err := box.Tenants(cmd.Context())
			if err != nil {
				return err
			}
			return t.answer(tenants, func() {
				if len(tenants) == 0 {
					fmt.Fprintln(t.err, "No tenants yet. Add one: pipit tenant add ID --name NAME")
					return
				}
				rows := make([][]string, 0, len(tenants))
				for _, x := range tenants {
					rows = append(rows, []string{x.ID, x.Name, stateOf(x), day(x.Created)})
				}
				t.table([]string{"ID", "NAME", "STATE", "CREATED"}, rows)
			})
		}}
}

func (t *tool) tenantSuspend(suspend bool) *cobra.Command {
	use, short, done := "suspend ID", "Sign an organisation out and refuse its sign-ins; nothing is deleted", "Suspended"
	if !suspend {
		use, short, done = "resume ID", "Let a suspended organisation back in", "Resumed"
	}
	return &cobra.Command{Use: use, Short: short, Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			info, err := box.UpdateTenant(cmd.Context(), args[0], apiclient.TenantPatch{Suspended: &suspend})
			if err != nil {
				return err
			}
			return t.answer(info, func() { fmt.Fprintf(t.out, "%s tenant %s (%s).\n", done, info.ID, printable(info.Name)) })
		}}
}
