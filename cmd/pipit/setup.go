package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

// setupCodeCmd prints the code with which a browser sets the box up.
func (t *tool) setupCodeCmd() *cobra.Command {
	return &cobra.Command{Use: "setup-code", Short: "The one-time code to set the box up in a browser", Args: noArgs,
		Long: "Prints the one-time code that the set-up page asks for. Open the box's address in a browser, type the code,\n" +
			"and make the organisation and its first administrator there. Once that is done there is no code any more.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			box, err := t.box()
			if err != nil {
				return err
			}
			code, err := box.SetupCode(cmd.Context())
			if err != nil {
				return err
			}
			return t.answer(apiclient.SetupCode{Code: code}, func() { fmt.Fprintln(t.out, code) })
		}}
}
