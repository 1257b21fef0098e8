package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/oauth2"

	"github.com/pipit-im/pipit/pkg/im"
)

// loginClient is the client of this command at every server (oidcop.CLI).
const loginClient = "pipit-cli"

func (t *tool) loginCmd() *cobra.Command {
	var tenant string
	var scopes []string
	c := &cobra.Command{Use: "login ADDRESS", Short: "Sign in at a server as yourself, and print a token for its REST API", Args: exactArgs("ADDRESS"),
		Long: "Sign in at a Pipit server as yourself: open the address that is shown on any device, sign in there and agree.\n" +
			"The token is printed, good for an hour, and kept nowhere.",
		Example: "  TOKEN=$(pipit login https://oakhill.local)\n  curl -H \"Authorization: Bearer $TOKEN\" https://oakhill.local/v1/me",
		RunE: func(cmd *cobra.Command, args []string) error {
			issuer, err := issuerAt(cmd.Context(), args[0], tenant)
			if err != nil {
				return err
			}
			conf := &oauth2.Config{ClientID: loginClient, Scopes: scopes, Endpoint: oauth2.Endpoint{
				DeviceAuthURL: issuer + "/oauth/device_authorization", TokenURL: issuer + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams}}
			asked, err := conf.DeviceAuth(cmd.Context())
			if err != nil {
				return loginError(issuer, err)
			}
			fmt.Fprintf(t.err, "Open %s\nand check that it shows the code %s\n\n%s\n\nWaiting …\n", asked.VerificationURIComplete, asked.UserCode, qrText(asked.VerificationURIComplete))
			token, err := conf.DeviceAccessToken(cmd.Context(), asked)
			if errors.Is(err, context.DeadlineExceeded) && cmd.Context().Err() == nil {
				return im.E(im.Forbidden, "The code has expired: nobody agreed in time. Run pipit login again.")
			}
			if err != nil {
				return loginError(issuer, err)
			}
			answer := map[string]any{"token": token.AccessToken, "expires": token.Expiry.UnixMilli(), "scope": token.Extra("scope"), "issuer": issuer}
			return t.answer(answer, func() { fmt.Fprintln(t.out, token.AccessToken) })
		}}
	c.Flags().StringVar(&tenant, "tenant", "", "`ID` of the organisation (default: the one that the address selects)")
	c.Flags().StringSliceVar(&scopes, "scope", []string{"chat", "admin"}, "`SCOPES`: chat reads and writes messages, admin administers as far as you may")
	return c
}

// issuerAt finds the issuer behind what a person typed.
func issuerAt(ctx context.Context, address, tenant string) (string, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", usageError{fmt.Errorf("%q is not the address of a server, such as https://oakhill.local", address)}
	}
	base := u.Scheme + "://" + u.Host
	if rest, ok := strings.CutPrefix(u.Path, "/t/"); ok && tenant == "" {
		tenant, _, _ = strings.Cut(rest, "/")
	}
	if tenant != "" {
		return base + "/t/" + url.PathEscape(tenant), nil
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/signin", nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("%s does not answer: %w", base, err)
	}
	res.Body.Close()
	to, err := res.Location()
	if err != nil || !strings.HasPrefix(to.Path, "/t/") {
		return "", usageError{errors.New("this server has more than one organisation, or none: say which with --tenant")}
	}
	return base + strings.TrimSuffix(to.Path, "/signin"), nil
}

// loginError says what the server answered in its own words.
func loginError(issuer string, err error) error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		return fmt.Errorf("%s does not answer: %w", issuer, err)
	}
	var said struct {
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(refused.Body, &said) // then its words stay empty
	if refused.Response != nil && refused.Response.StatusCode == http.StatusNotFound {
		return im.E(im.NotFound, "%s", printable(said.Description))
	}
	return im.E(im.Forbidden, "The server refused: %s", printable(cmp.Or(said.Description, refused.ErrorCode)))
}
