package signin_test

import (
	"context"
	"encoding/json"
	"net/url"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/pipit-im/pipit/pkg/auth/oidcop"
)

// TestGoClient is x/oauth2 with go-oidc, used as their documentation says.
func TestGoClient(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	const back = "https://go.example/cb"
	id, secret := w.client(oidcop.Client{Name: "Go", Kind: oidcop.Web, RedirectURIs: []string{back}, Scopes: oidcop.Scopes()})
	provider, err := oidc.NewProvider(ctx, w.issuer())
	if err != nil {
		t.Fatal(err)
	}
	conf := &oauth2.Config{ClientID: id, ClientSecret: secret, RedirectURL: back, Endpoint: provider.Endpoint(),
		Scopes: []string{oidc.ScopeOpenID, "profile", "email", oidc.ScopeOfflineAccess, "chat"}}
	verifier := oauth2.GenerateVerifier()
	b := newBrowser(t, ann, back)
	u, err := url.Parse(b.visit(conf.AuthCodeURL("st", oidc.Nonce("n"), oauth2.S256ChallengeOption(verifier))))
	if err != nil || u.Query().Get("state") != "st" || u.Query().Get("iss") != w.issuer() {
		t.Fatalf("%v %v", u, err)
	}
	token, err := conf.Exchange(ctx, u.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := token.Extra("id_token").(string)
	idToken, err := provider.Verifier(&oidc.Config{ClientID: id}).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := idToken.VerifyAccessToken(token.AccessToken); err != nil || idToken.Nonce != "n" {
		t.Errorf("at_hash: %v, nonce %q", err, idToken.Nonce)
	}
	info, err := provider.UserInfo(ctx, conf.TokenSource(ctx, token))
	if err != nil || info.Subject != idToken.Subject {
		t.Errorf("userinfo %+v %v", info, err)
	}
	if actor, _, err := w.auth.Verify(ctx, token.AccessToken); err != nil || string(actor.User) != idToken.Subject {
		t.Errorf("the access token is no sign-in: %v %v", actor, err)
	}
	old := token.RefreshToken
	token.Expiry = token.Expiry.AddDate(-1, 0, 0)
	next, err := conf.TokenSource(ctx, token).Token()
	if err != nil || next.RefreshToken == old {
		t.Fatalf("refresh: %v", err)
	}
	device := &oauth2.Config{ClientID: oidcop.CLI, Endpoint: provider.Endpoint(), Scopes: []string{"chat"}}
	asked, err := device.DeviceAuth(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.visit(asked.VerificationURIComplete)
	if got, err := device.DeviceAccessToken(ctx, asked); err != nil || got.AccessToken == "" {
		t.Errorf("device grant: %v", err)
	}
}

// TestOpenIDClient is the certified npm package; js/openid-client.mjs says what it
// goes through.
func TestOpenIDClient(t *testing.T) {
	w := newWorld(t)
	const back, out = "https://app.example/cb", "https://app.example/bye"
	id, secret := w.client(oidcop.Client{ID: "app", Name: "App", Kind: oidcop.Web, RedirectURIs: []string{back}, LogoutURIs: []string{out}, Scopes: oidcop.Scopes()})
	rsID, rsSecret := w.client(oidcop.Client{ID: "old-app", Name: "Old app", Kind: oidcop.Web, RedirectURIs: []string{back}, LogoutURIs: []string{out}, Scopes: oidcop.Scopes(), Alg: "RS256"})
	got := node(t, "openid-client.mjs", map[string]any{"issuer": w.issuer(), "id": id, "secret": secret, "rsID": rsID, "rsSecret": rsSecret,
		"redirect": back, "logout": out, "username": "ann", "name": "Ann Lee", "tenant": tenant, "role": "owner"}, newBrowser(t, ann, back, out), false)
	if _, user, err := w.auth.Verify(context.Background(), got["token"].(string)); err != nil || user.Username != "ann" {
		t.Errorf("the device's token is no sign-in: %v", err)
	}
}

// TestOAuth4WebAPI is the npm package, as a native program.
func TestOAuth4WebAPI(t *testing.T) {
	w := newWorld(t)
	id, _ := w.client(oidcop.Client{ID: "native", Name: "Native", Kind: oidcop.Native, RedirectURIs: []string{"http://127.0.0.1/cb"}, Scopes: []string{"openid", "profile", "offline_access"}})
	const back = "http://127.0.0.1:51234/cb"
	node(t, "oauth4webapi.mjs", map[string]any{"issuer": w.issuer(), "nativeID": id, "nativeRedirect": back, "username": "ann"}, newBrowser(t, ann, back), false)
}

// whoIs reads what a service behind a sign-in knows of the person.
func whoIs(t *testing.T, page string) map[string]string {
	t.Helper()
	var out map[string]string
	if err := json.Unmarshal([]byte(page), &out); err != nil {
		t.Fatalf("%v in\n%s", err, page)
	}
	return out
}
