package oidcop_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/im"
)

// TestCodeFlow goes the whole way: sign-in, consent, code, tokens, userinfo,
// introspection, refresh, revocation.
func TestCodeFlow(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	b.get(r.request())
	if res := b.signIn("ann"); !strings.Contains(b.page, `value="allow"`) {
		t.Fatalf("no consent: %d\n%s", res.StatusCode, b.page)
	}
	q := b.landed(b.submit("decision", "allow"), "https://portal.example/cb?")
	if q.Get("state") != "st&te" {
		t.Errorf("state %q", q.Get("state"))
	}
	got := r.exchange(q.Get("code"))
	if got.Status != 200 || got.AccessToken == "" || got.RefreshToken == "" || got.IDToken == "" || got.ExpiresIn != 3600 {
		t.Fatalf("%+v", got)
	}
	claims := claimsOf(t, got.IDToken)
	for k, want := range map[string]any{"iss": r.issuer(), "sub": "u_ann", "nonce": "n", "azp": "portal", "name": "Ann Lee", "preferred_username": "ann", "tenant": "oakhill", "role": "owner"} {
		if claims[k] != want {
			t.Errorf("claim %s is %v, want %v", k, claims[k], want)
		}
	}
	if c, _ := json.Marshal(claims["classes"]); string(c) != `["5a"]` {
		t.Errorf("classes %s", c)
	}
	if head := part(t, got.IDToken, 0); head["alg"] != "ES256" {
		t.Errorf("alg %v", head["alg"])
	}
	if !r.good(got.AccessToken) {
		t.Error("userinfo refuses the access token")
	}
	if in := r.introspect(got.AccessToken, "", ""); in["active"] != true || in["sub"] != "u_ann" || in["client_id"] != "portal" {
		t.Errorf("introspection %v", in)
	}
	// No chat in the scope: it is no sign-in.
	if _, _, err := r.auth.Verify(context.Background(), got.AccessToken); !im.Is(err, im.Unauthenticated) {
		t.Errorf("a token without scope chat is let in: %v", err)
	}
	next := r.refresh(got.RefreshToken)
	if next.Status != 200 || next.RefreshToken == got.RefreshToken || next.AccessToken == got.AccessToken || claimsOf(t, next.IDToken)["auth_time"] != claims["auth_time"] {
		t.Errorf("refresh %+v", next)
	}
	if status, body := r.call("/oauth/revoke", url.Values{"token": {next.RefreshToken}}, "", ""); status != 200 {
		t.Errorf("revoke: %d %s", status, body)
	}
	if r.good(next.AccessToken) || r.good(got.AccessToken) || r.introspect(next.AccessToken, "", "")["active"] != false {
		t.Error("an access token survived the revocation of its family")
	}
	r.wantError("refresh after revocation", r.refresh(next.RefreshToken), "invalid_grant")

	// Agreed once: not asked again, and not even signed in again.
	if b.landed(b.get(r.request()), "https://portal.example/cb?").Get("code") == "" {
		t.Error("no code the second time")
	}
	// More than was agreed to is asked.
	if b.get(r.request("scope", "openid chat")); !strings.Contains(b.page, `value="allow"`) {
		t.Error("a wider scope is given without asking")
	}
	if q := b.landed(b.submit("decision", "deny"), "https://portal.example/cb?"); q.Get("error") != "access_denied" || q.Get("state") != "st&te" {
		t.Errorf("denied: %v", q)
	}
}

func (r *rig) introspect(token, id, secret string) map[string]any {
	r.t.Helper()
	_, body := r.call("/oauth/introspect", url.Values{"token": {token}}, id, secret)
	var out map[string]any
	if err := json.Unmarshal(body, &out); err != nil {
		r.t.Fatalf("%v in %s", err, body)
	}
	return out
}

func part(t *testing.T, token string, i int) map[string]any {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
	var out map[string]any
	if err == nil {
		err = json.Unmarshal(raw, &out)
	}
	if err != nil {
		t.Fatalf("%v in %q", err, token)
	}
	return out
}

func claimsOf(t *testing.T, token string) map[string]any { t.Helper(); return part(t, token, 1) }

// TestChatToken: with scope chat an access token is a sign-in like any, and ends
// with the others.
func TestChatToken(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	b := r.browser()
	got := r.exchange(r.code(b, "scope", "openid chat offline_access"))
	actor, user, err := r.auth.Verify(ctx, got.AccessToken)
	if err != nil || actor.User != "u_ann" || user.Username != "ann" {
		t.Fatalf("%v %v", actor, err)
	}
	if actor.Role != im.RoleStaff { // ann owns the place; this program was not given that
		t.Errorf("without scope admin the role is %v", actor.Role)
	}
	admin := r.exchange(r.code(b, "scope", "admin"))
	if actor, _, err := r.auth.Verify(ctx, admin.AccessToken); err != nil || actor.Role != im.RoleOwner || admin.Scope != "admin chat" {
		t.Errorf("with scope admin: %v %v %q", actor, err, admin.Scope)
	}
	list, err := r.auth.SignIns(ctx, "oakhill", "u_ann")
	if err != nil || len(list) != 3 {
		t.Fatalf("sign-ins %v %v", list, err)
	}
	// It must not be used to agree to more in the person's name.
	thief := r.browser()
	req, err := http.NewRequest("GET", r.request("scope", "openid admin"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Cookie", "pipit="+got.AccessToken)
	if thief.do(req); !strings.Contains(thief.page, `name="password"`) {
		t.Error("an access token counts as a sign-in at the authorization endpoint")
	}
	if err := r.auth.RevokeUser(ctx, "oakhill", "u_ann"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.auth.Verify(ctx, got.AccessToken); !im.Is(err, im.Unauthenticated) {
		t.Errorf("after signing out everywhere: %v", err)
	}
	if r.good(got.AccessToken) {
		t.Error("userinfo believes it after signing out everywhere")
	}
	r.wantError("refresh after signing out everywhere", r.refresh(got.RefreshToken), "invalid_grant")
}

// TestExpiry: everything ends by running time of the box, nothing by the clock.
func TestExpiry(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	late := r.code(b)
	r.box.more.Add(int64(61 * time.Second))
	r.wantError("a code after its minute", r.exchange(late), "invalid_grant")
	got := r.exchange(r.code(b))
	r.box.more.Add(int64(time.Hour + time.Second))
	if r.good(got.AccessToken) || r.introspect(got.AccessToken, "", "")["active"] != false {
		t.Error("an access token outlives its hour")
	}
	got = r.refresh(got.RefreshToken)
	if got.Status != 200 {
		t.Fatalf("refresh after the access token expired: %+v", got)
	}
	r.box.more.Add(int64(31 * 24 * time.Hour))
	r.wantError("a refresh token that was not used for a month", r.refresh(got.RefreshToken), "invalid_grant")
	if n, err := r.auth.Expire(context.Background()); err != nil || n == 0 {
		t.Errorf("Expire: %d %v", n, err)
	}
}

// TestUntrustedClock: no id_token while the time may be wrong (DESIGN 5.7), and
// nothing is used up by asking; what needs no clock goes on.
func TestUntrustedClock(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	c := r.code(b)
	got := r.exchange(r.code(b))
	no := errors.New("not set")
	r.clock.Store(&no)
	r.wantError("code", r.exchange(c), "temporarily_unavailable")
	r.wantError("refresh", r.refresh(got.RefreshToken), "temporarily_unavailable")
	if q := b.landed(b.get(r.request()), "https://portal.example/cb?"); q.Get("error") != "temporarily_unavailable" {
		t.Errorf("authorize: %v", q)
	}
	plain := r.exchange(r.code(b, "scope", "chat"))
	if plain.Status != 200 || plain.IDToken != "" {
		t.Errorf("without openid: %+v", plain)
	}
	r.clock.Store(nil)
	if again := r.refresh(got.RefreshToken); again.Status != 200 {
		t.Errorf("refresh once the clock is set: %+v", again)
	}
}

// TestKeys: RS256 for a client that asks, rotation, and tokens of the old key.
func TestKeys(t *testing.T) {
	r := newRig(t)
	ctx := context.Background()
	_, secret := r.client(oidcop.Client{ID: "old", Name: "Old program", Kind: oidcop.Web, RedirectURIs: []string{"https://old.example/cb"}, Alg: "RS256", Trusted: true})
	b := r.browser()
	c := r.code(b, "client_id", "old", "redirect_uri", "https://old.example/cb", "scope", "openid")
	got := r.token(url.Values{"grant_type": {"authorization_code"}, "code": {c}, "redirect_uri": {"https://old.example/cb"}, "code_verifier": {verifier}}, "old", secret)
	head := part(t, got.IDToken, 0)
	if head["alg"] != "RS256" {
		t.Fatalf("head %v", head)
	}
	kids := r.kids()
	if !kids[head["kid"].(string)] || len(kids) != 2 {
		t.Errorf("keys %v do not have %v", kids, head["kid"])
	}
	r.box.more.Add(int64(91 * 24 * time.Hour))
	if after := r.kids(); len(after) != 4 || !after[head["kid"].(string)] {
		t.Errorf("after 91 days: %v", after)
	}
	r.box.more.Add(int64(95 * 24 * time.Hour))
	if after := r.kids(); after[head["kid"].(string)] {
		t.Errorf("after 186 days the first key is still published: %v", after)
	}
	before := r.kids()
	if err := r.op.RotateKeys(ctx, "oakhill"); err != nil {
		t.Fatal(err)
	}
	for kid := range r.kids() {
		if before[kid] {
			t.Errorf("key %s survived RotateKeys", kid)
		}
	}
}

func (r *rig) kids() map[string]bool {
	r.t.Helper()
	res, err := http.Get(r.issuer() + "/oauth/keys")
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	var set struct{ Keys []map[string]any }
	if err := json.NewDecoder(res.Body).Decode(&set); err != nil {
		r.t.Fatal(err)
	}
	out := map[string]bool{}
	for _, k := range set.Keys {
		if k["d"] != nil || k["use"] != "sig" {
			r.t.Errorf("published key %v", k)
		}
		out[k["kid"].(string)] = true
	}
	return out
}

// TestDiscovery: the document says what is so, for each name of the box.
func TestDiscovery(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/t/oakhill/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/t/oakhill", "/.well-known/openid-configuration/t/oakhill"} {
		req, err := http.NewRequest("GET", r.srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "oakhill.local:8080"
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var d map[string]any
		if err := json.NewDecoder(res.Body).Decode(&d); err != nil {
			t.Fatal(err)
		}
		for k, want := range map[string]string{
			"issuer":                                         `"http://oakhill.local:8080/t/oakhill"`,
			"token_endpoint":                                 `"http://oakhill.local:8080/t/oakhill/oauth/token"`,
			"response_types_supported":                       `["code"]`,
			"response_modes_supported":                       `["query"]`,
			"grant_types_supported":                          `["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"]`,
			"code_challenge_methods_supported":               `["S256"]`,
			"id_token_signing_alg_values_supported":          `["ES256","RS256"]`,
			"authorization_response_iss_parameter_supported": `true`,
			"scopes_supported":                               `["openid","profile","email","offline_access","chat","admin"]`,
			"device_authorization_endpoint":                  `"http://oakhill.local:8080/t/oakhill/oauth/device_authorization"`,
		} {
			if got, _ := json.Marshal(d[k]); string(got) != want {
				t.Errorf("%s: %s is %s, want %s", path, k, got, want)
			}
		}
	}
	for _, path := range []string{"/t/none/.well-known/openid-configuration", "/t/none/oauth/authorize?x=1"} {
		if res := r.browser().get(r.srv.URL + path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %d", path, res.StatusCode)
		}
	}
}

// TestPrompts: prompt, max_age, id_token_hint.
func TestPrompts(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	none := func(changes ...string) string {
		return b.landed(b.get(r.request(append(changes, "prompt", "none")...)), "https://portal.example/cb?").Get("error")
	}
	if got := none(); got != "login_required" {
		t.Errorf("nobody signed in: %q", got)
	}
	got := r.exchange(r.code(b))
	if got := none(); got != "" {
		t.Errorf("signed in and agreed: %q", got)
	}
	if got := none("scope", "openid chat"); got != "consent_required" {
		t.Errorf("not agreed: %q", got)
	}
	if b.get(r.request("prompt", "consent")); !strings.Contains(b.page, `value="allow"`) {
		t.Error("prompt=consent does not ask")
	}
	if b.get(r.request("prompt", "login")); !strings.Contains(b.page, `name="password"`) {
		t.Error("prompt=login does not ask")
	}
	if b.landed(b.signIn("ann"), "https://portal.example/cb?").Get("code") == "" {
		t.Error("prompt=login, signed in anew: no code")
	}
	r.box.more.Add(int64(10 * time.Minute))
	if b.landed(b.get(r.request("max_age", "3600")), "https://portal.example/cb?").Get("code") == "" {
		t.Error("max_age of an hour asks after ten minutes")
	}
	if b.get(r.request("max_age", "60")); !strings.Contains(b.page, `name="password"`) {
		t.Error("max_age of a minute does not ask after ten")
	}
	// A mark that was made up does not replace the sign-in.
	if b.get(r.request("prompt", "login", "pipit_fresh", "0.AAAA")); !strings.Contains(b.page, `name="password"`) {
		t.Error("a made-up mark passes for a new sign-in")
	}
	b2 := r.browser()
	b2.get(r.srv.URL + "/t/oakhill/signin")
	b2.signIn("bob")
	if b2.get(r.request("id_token_hint", got.IDToken)); !strings.Contains(b2.page, `name="password"`) {
		t.Error("ann's hint goes through with bob signed in")
	}
}

// TestDeviceGrant is RFC 8628: a kiosk, and pipit login.
func TestDeviceGrant(t *testing.T) {
	r := newRig(t)
	begin := func() (d struct {
		DeviceCode, UserCode, URI, Complete string
	}) {
		_, body := r.call("/oauth/device_authorization", url.Values{"client_id": {oidcop.CLI}, "scope": {"chat admin offline_access"}}, oidcop.CLI, "")
		var raw map[string]any
		if err := json.Unmarshal(body, &raw); err != nil {
			t.Fatal(err)
		}
		d.DeviceCode, _ = raw["device_code"].(string)
		d.UserCode, _ = raw["user_code"].(string)
		d.URI, _ = raw["verification_uri"].(string)
		d.Complete, _ = raw["verification_uri_complete"].(string)
		if d.URI != r.issuer()+"/device" || raw["interval"] != 5.0 {
			t.Fatalf("%s", body)
		}
		return d
	}
	poll := func(code string) tokens {
		return r.token(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {code}, "client_id": {oidcop.CLI}}, oidcop.CLI, "")
	}
	d := begin()
	r.wantError("nobody was there", poll(d.DeviceCode), "authorization_pending")
	r.wantError("too early", poll(d.DeviceCode), "slow_down")
	b := r.browser()
	b.get(d.Complete)
	b.signIn("ann")
	if !strings.Contains(b.page, d.UserCode) {
		t.Fatalf("the code is not filled in after the sign-in\n%s", b.page)
	}
	b.submit("user_code", strings.ToLower(strings.ReplaceAll(d.UserCode, "-", " ")))
	if !strings.Contains(b.page, `value="allow"`) || !strings.Contains(b.page, "Pipit command line") {
		t.Fatalf("no question\n%s", b.page)
	}
	b.submit("decision", "allow")
	got := poll(d.DeviceCode)
	if got.Status != 200 || got.Scope != "chat admin offline_access" || got.RefreshToken == "" || got.IDToken != "" {
		t.Fatalf("%+v", got)
	}
	r.wantError("a device code a second time", poll(d.DeviceCode), "expired_token")
	if actor, _, err := r.auth.Verify(context.Background(), got.AccessToken); err != nil || actor.User != "u_ann" {
		t.Errorf("%v %v", actor, err)
	}

	d = begin()
	b.get(d.URI)
	b.submit("user_code", d.UserCode)
	b.submit("decision", "deny")
	r.wantError("denied", poll(d.DeviceCode), "access_denied")

	d = begin()
	r.box.more.Add(int64(11 * time.Minute))
	r.wantError("late", poll(d.DeviceCode), "expired_token")

	for range 11 { // guessing
		b.get(d.URI)
		b.submit("user_code", "BBBB-BBBB")
	}
	d = begin()
	if res := b.post(d.URI, url.Values{"user_code": {d.UserCode}}); res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("after ten wrong codes: %d", res.StatusCode)
	}
}

// TestLogout is RP-initiated logout.
func TestLogout(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	got := r.exchange(r.code(b))
	end := func(q url.Values) *http.Response { return b.get(r.issuer() + "/oauth/logout?" + q.Encode()) }
	signedIn := func() bool {
		b.get(r.request())
		return !strings.Contains(b.page, `name="password"`)
	}
	end(url.Values{"client_id": {"portal"}, "post_logout_redirect_uri": {"https://portal.example/bye"}})
	if !signedIn() {
		t.Error("a link without id_token_hint signs people out")
	}
	if res := end(url.Values{"id_token_hint": {got.IDToken}, "post_logout_redirect_uri": {"https://evil.example/"}}); res.StatusCode != http.StatusBadRequest {
		t.Errorf("a foreign address: %d", res.StatusCode)
	}
	if res := end(url.Values{"id_token_hint": {forge(t, got.IDToken, "none")}}); res.StatusCode != http.StatusBadRequest || !signedIn() {
		t.Errorf("a forged hint: %d", res.StatusCode)
	}
	// Asked, and agreed.
	end(url.Values{"client_id": {"portal"}, "post_logout_redirect_uri": {"https://portal.example/bye"}, "state": {"s"}})
	res := b.submit()
	if to, err := res.Location(); err != nil || to.String() != "https://portal.example/bye?state=s" {
		t.Errorf("after agreeing: %v %v", to, err)
	}
	if signedIn() {
		t.Error("still signed in")
	}
	got = r.exchange(r.code(b))
	res = end(url.Values{"id_token_hint": {got.IDToken}, "post_logout_redirect_uri": {"https://portal.example/bye"}})
	if to, err := res.Location(); err != nil || to.String() != "https://portal.example/bye" || signedIn() {
		t.Errorf("with a hint: %v %v", to, err)
	}
}
