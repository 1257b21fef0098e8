package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

func (t *tool) cardsCmd() *cobra.Command {
	var tenant, out, users, classes string
	var n apiclient.NewCards
	c := &cobra.Command{Use: "cards", Short: "Print login cards with one-time codes", Args: noArgs,
		Long: `Writes a sheet of A4 with a login card for each person: name, class, user
name, a one-time code, its QR code and the address of the box. HTML is
printed from a browser; PDF needs fonts-wqy-microhei on the box.

Everybody gets one who has no password yet, or those of --class and --user.
Earlier codes of the same people end.`,
		Example: "  pipit cards --out cards.pdf --lang zh --address http://oakhill.local\n  pipit cards --class 5a --out 5a.html --address http://oakhill.local",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch ext := strings.ToLower(filepath.Ext(out)); ext {
			case ".pdf", ".html":
				n.Format = ext[1:]
			default:
				return usageError{fmt.Errorf("--out is a file that ends in .pdf or .html")}
			}
			if n.Address == "" {
				host, err := os.Hostname()
				if err != nil {
					return usageError{fmt.Errorf("say with --address what stands on the cards")}
				}
				n.Address = "http://" + strings.TrimSuffix(host, ".local") + ".local"
			}
			n.Address = strings.TrimSuffix(n.Address, "/")
			n.Users, n.Classes = listed(users), strings.FieldsFunc(classes, func(r rune) bool { return r == ',' })
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			var sheet bytes.Buffer
			count, err := box.PrintCards(cmd.Context(), tenant, n, &sheet)
			if err != nil {
				return err
			}
			// Codes are keys: the file is for whoever printed it.
			if err := os.WriteFile(out, sheet.Bytes(), 0o600); err != nil {
				return fmt.Errorf("the cards can't be written: %w. Their codes work; print them again to see new ones", err)
			}
			return t.answer(map[string]any{"cards": count, "file": out}, func() {
				fmt.Fprintf(t.out, "Wrote %s to %s, with %s on them. Delete the file once they are printed.\n", plural(count, "card", "cards"), out, n.Address)
			})
		}}
	tenantFlag(c, &tenant)
	c.Flags().StringVar(&out, "out", "cards.html", "`FILE` to write, .html or .pdf")
	c.Flags().StringVar(&n.Address, "address", "", "`URL` on the cards (default: http://HOSTNAME.local)")
	c.Flags().StringVar(&n.Lang, "lang", "en", "language of the cards, en or zh: `LANG`")
	c.Flags().StringVar(&classes, "class", "", "only these classes: `NAMES`, with commas")
	c.Flags().StringVar(&users, "user", "", "only these people: user `NAMES`, with commas")
	c.Flags().IntVar(&n.Days, "days", 14, "how many days the codes work: `N`")
	c.Flags().BoolVar(&n.Again, "again", false, "those too who have a password already")
	return c
}
