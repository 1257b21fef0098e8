package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

func (t *tool) recalledCmd() *cobra.Command {
	c := &cobra.Command{Use: "recalled", Short: "Read texts that were taken back, where the policy keeps them", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		Long: "Where an organisation's policy says recall=hide, the text of a message that its author takes back is shown to nobody\n" +
			"and kept for an inquiry. These commands show it. Each use stands in the organisation's audit log.",
		Example: "  pipit recalled list ann\n  pipit recalled read c_7f3k2m9q4t8w1x5z",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.recalledList(), t.recalledRead())
	return c
}

func (t *tool) recalledList() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "list PERSON", Short: "List the conversations of a person in which such texts are", Args: exactArgs("PERSON"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			list, err := box.Recalled(cmd.Context(), tenant, args[0])
			if err != nil {
				return err
			}
			return t.answer(list, func() {
				if len(list) == 0 {
					fmt.Fprintf(t.err, "No conversation of %s holds a text that was taken back and kept.\n", printable(args[0]))
					return
				}
				rows := make([][]string, 0, len(list))
				for _, c := range list {
					var names []string
					for _, m := range c.Members {
						names = append(names, calledNow(m))
					}
					rows = append(rows, []string{c.Kind, cmp.Or(c.Title, strings.Join(names, ", ")), strconv.Itoa(c.Kept), c.ID})
				}
				t.table([]string{"KIND", "CONVERSATION", "TEXTS", "ID"}, rows)
			})
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) recalledRead() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "read CONVERSATION", Short: "Read such texts of a conversation, by its ID", Args: exactArgs("CONVERSATION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			list, err := box.ReadRecalled(cmd.Context(), tenant, args[0])
			if err != nil {
				return err
			}
			return t.answer(list, func() {
				if len(list) == 0 {
					fmt.Fprintln(t.err, "This conversation holds no text that was taken back and kept.")
				}
				for _, m := range list {
					fmt.Fprintf(t.out, "%s  %d  %s: %s\n", time.UnixMilli(m.Time).Format("2006-01-02 15:04"), m.Seq, printable(calledNow(m.By)), printable(m.Text))
				}
			})
		}}
	tenantFlag(c, &tenant)
	return c
}

// calledNow is what a person is called, or the id of one who is gone.
func calledNow(p apiclient.RecalledBy) string { return cmp.Or(p.Username, p.ID) }
