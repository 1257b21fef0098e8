package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

func (t *tool) policyCmd() *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Who may do what: rules that an organisation can change", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		Long: "Each organisation has rules of its own: who may write to whom, see whom and start what, quiet hours, what a recall does.\n" +
			"They begin with a preset and can be changed one by one; a change counts from the next request on.\n\n" +
			"  school  pupils talk within their classes and with their teachers\n" +
			"  office  colleagues talk freely, guests within their teams\n" +
			"  open    everybody but guests talks to everybody (the default)",
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	c.AddCommand(t.policyShow(), t.policyPreset(), t.policySet())
	return c
}

func (t *tool) policyShow() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "show [NAME]", Short: "Show every setting, or those that begin with NAME", Args: cobra.MaximumNArgs(1),
		Example: "  pipit policy show\n  pipit policy show direct.member",
		RunE: func(cmd *cobra.Command, args []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			p, err := box.Policy(cmd.Context(), tenant)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				var some []apiclient.PolicySetting
				for _, s := range p.Settings {
					if strings.HasPrefix(s.Name, args[0]) {
						some = append(some, s)
					}
				}
				if p.Settings = some; len(some) == 0 {
					return usageError{fmt.Errorf("no setting begins with %q. See: pipit policy show", args[0])}
				}
			}
			return t.answer(p, func() { t.showPolicy(p) })
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) showPolicy(p apiclient.Policy) {
	fmt.Fprintf(t.out, "Preset: %s\n\n", p.Preset)
	rows := make([][]string, 0, len(p.Settings))
	for _, s := range p.Settings {
		changed := ""
		if s.Value != s.Default {
			changed = "changed (" + p.Preset + ": " + s.Default + ")"
		}
		rows = append(rows, []string{s.Name, s.Value, changed, s.Allowed})
	}
	t.table([]string{"SETTING", "VALUE", "", "CAN BE"}, rows)
}

func (t *tool) policyPreset() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "preset school|office|open", Short: "Begin anew with a preset; single changes are taken back", Args: exactArgs("PRESET"),
		ValidArgs: []string{"school", "office", "open"},
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.changePolicy(cmd, &tenant, apiclient.PolicyChange{Preset: &args[0]}, "The rules are those of "+args[0]+" now.")
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) policySet() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "set NAME=VALUE ...", Short: "Change settings; they count from the next request on",
		Example: "  pipit policy set direct.member.member=no\n  pipit policy set quiet.member=22:00-06:00 quiet.staff=20:00-07:00",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("NAME=VALUE is missing. See: pipit policy set --help")}
			}
			ch := apiclient.PolicyChange{Settings: map[string]string{}}
			for _, a := range args {
				name, value, ok := strings.Cut(a, "=")
				if !ok {
					return usageError{fmt.Errorf("%q is not NAME=VALUE", a)}
				}
				ch.Settings[name] = value
			}
			return t.changePolicy(cmd, &tenant, ch, "Changed: "+strings.Join(args, ", "))
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) changePolicy(cmd *cobra.Command, tenant *string, ch apiclient.PolicyChange, done string) error {
	box, err := t.box()
	if err != nil {
		return err
	}
	if *tenant, err = theTenant(cmd, box, *tenant); err != nil {
		return err
	}
	p, err := box.ChangePolicy(cmd.Context(), *tenant, ch)
	if err != nil {
		return err
	}
	return t.answer(p, func() { fmt.Fprintln(t.out, done) })
}
