package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

func (t *tool) userInvite() *cobra.Command {
	var tenant, role, name, url string
	var expires time.Duration
	var showQR bool
	c := &cobra.Command{Use: "invite [USERNAME]", Short: "Let somebody in with a one-time code instead of a password", Args: maxArgs(1),
		Long: "Makes an invitation. Whoever has the code chooses a password and is in; it works once. With the user name of somebody\n" +
			"who is there already it is for that account, for example because the password was forgotten. Else it makes a new one,\n" +
			"and without a USERNAME the person chooses that too.",
		Example: `  pipit user invite --role staff --name "Dan Wu"
  pipit user invite dan --url https://chat.oakhill.example --qr`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, ok := im.ParseRole(role); !ok {
				return usageError{fmt.Errorf("--role must be one of %s", strings.Join(im.Roles(), ", "))}
			}
			if showQR && url == "" {
				return usageError{errors.New("a QR code needs the server's address: --url http://oakhill.local")}
			}
			box, err := t.box()
			if err != nil {
				return err
			}
			if tenant, err = theTenant(cmd, box, tenant); err != nil {
				return err
			}
			in := apiclient.NewInvitation{Role: role, Name: name, ExpiresIn: int64(expires / time.Second)}
			if len(args) == 1 {
				in.Username = args[0]
			}
			made, err := box.Invite(cmd.Context(), tenant, in)
			if err != nil {
				return err
			}
			link := strings.TrimSuffix(url, "/") + made.Path
			return t.answer(made, func() {
				fmt.Fprintf(t.out, "Code   %s\nLink   %s\n", made.Code, link)
				fmt.Fprintf(t.err, "It works once, until %s. It is not shown again.\n", day(made.Expires))
				if showQR {
					t.qr(link)
				}
			})
		}}
	tenantFlag(c, &tenant)
	f := c.Flags()
	f.StringVar(&role, "role", "member", "`ROLE` of a new account: "+strings.Join(im.Roles(), ", "))
	f.StringVar(&name, "name", "", "`NAME` for people, of a new account")
	f.StringVar(&url, "url", "", "the server's `ADDRESS` as people reach it, for the link")
	f.BoolVar(&showQR, "qr", false, "draw the link as a QR code")
	f.DurationVar(&expires, "expires", 0, "how long it is good for, such as 72h (default: 14 days of running time)")
	return c
}

// qr draws a QR code with half blocks, two rows of it a line, light on dark
// terminals and dark on light ones: scanners take both.
func (t *tool) qr(text string) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		fmt.Fprintln(t.err, "The link is too long for a QR code.")
		return
	}
	const quiet = 2
	for y := -quiet; y < code.Size+quiet; y += 2 {
		var line strings.Builder
		for x := -quiet; x < code.Size+quiet; x++ {
			top, low := code.Black(x, y), code.Black(x, y+1)
			line.WriteString(map[[2]bool]string{{false, false}: "█", {false, true}: "▀", {true, false}: "▄", {true, true}: " "}[[2]bool{top, low}])
		}
		fmt.Fprintln(t.out, line.String())
	}
}

func (t *tool) userSignOut() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "sign-out USERNAME", Short: "Sign a person out everywhere; signing in again is allowed", Args: exactArgs("USERNAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.onUser(cmd, tenant, args[0], func(box *apiclient.Client, tenant string) error {
				return box.SignOutUser(cmd.Context(), tenant, args[0])
			}, "Signed "+printable(args[0])+" out everywhere.")
		}}
	tenantFlag(c, &tenant)
	return c
}

func (t *tool) userResetFactor() *cobra.Command {
	var tenant string
	c := &cobra.Command{Use: "reset-second-step USERNAME", Short: "Take authenticator app and passkeys away from who lost the telephone", Args: exactArgs("USERNAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return t.onUser(cmd, tenant, args[0], func(box *apiclient.Client, tenant string) error {
				return box.ResetSecondFactor(cmd.Context(), tenant, args[0])
			}, printable(args[0])+" signs in with the password alone now, and was signed out everywhere.")
		}}
	tenantFlag(c, &tenant)
	return c
}

// onUser does one thing with a user and says so.
func (t *tool) onUser(cmd *cobra.Command, tenant, username string, do func(*apiclient.Client, string) error, done string) error {
	box, err := t.box()
	if err != nil {
		return err
	}
	if tenant, err = theTenant(cmd, box, tenant); err != nil {
		return err
	}
	if err := do(box, tenant); err != nil {
		return err
	}
	return t.answer(map[string]string{"username": username, "tenant": tenant}, func() { fmt.Fprintln(t.out, done) })
}
