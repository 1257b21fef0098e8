package oidcop_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/im"
)

// TestCodeReplay: a code works once, and one that comes again ends what it gave.
func TestCodeReplay(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	c := r.code(b)
	got := r.exchange(c)
	r.wantError("second time", r.exchange(c), "invalid_grant")
	if r.good(got.AccessToken) {
		t.Error("the access token outlives the replay of its code")
	}
	r.wantError("its refresh token", r.refresh(got.RefreshToken), "invalid_grant")

	// Many at once: at most one is served, and that one does not last.
	c = r.code(b)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var won []tokens
	for range 16 {
		wg.Go(func() {
			if got := r.exchange(c); got.AccessToken != "" {
				mu.Lock()
				won = append(won, got)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(won) > 1 {
		t.Errorf("%d of 16 got tokens for one code", len(won))
	}
	for _, w := range won {
		if r.good(w.AccessToken) {
			t.Error("tokens of a code that was used 16 times are good")
		}
	}
}

// TestCodeBinding: a code is bound to client, redirect address, verifier and
// tenant; a try with the wrong one uses it up.
func TestCodeBinding(t *testing.T) {
	r := newRig(t)
	_, otherSecret := r.client(oidcop.Client{ID: "other", Name: "Other", Kind: oidcop.Web, RedirectURIs: []string{"https://portal.example/cb"}})
	b := r.browser()
	for name, try := range map[string]func(c string) tokens{
		"another client": func(c string) tokens {
			return r.token(url.Values{"grant_type": {"authorization_code"}, "code": {c}, "redirect_uri": {"https://portal.example/cb"}, "code_verifier": {verifier}}, "other", otherSecret)
		},
		"another redirect address": func(c string) tokens { return r.exchange(c, "redirect_uri", "https://portal.example/cb2") },
		"no redirect address":      func(c string) tokens { return r.exchange(c, "redirect_uri", "") },
		"another verifier":         func(c string) tokens { return r.exchange(c, "code_verifier", strings.Repeat("x", 43)) },
	} {
		c := r.code(b)
		r.wantError(name, try(c), "invalid_grant")
		r.wantError("after "+name, r.exchange(c), "invalid_grant")
	}
	for name, v := range map[string]string{"no verifier": "", "a short verifier": "short", "the challenge itself, as with plain": challengeOf(verifier)} {
		if got := r.exchange(r.code(b), "code_verifier", v); got.AccessToken != "" || got.Error == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, who := range map[string][2]string{"a wrong secret": {"portal", "wrong"}, "no such client": {"nobody", "x"}, "a public client's name": {oidcop.CLI, "x"}} {
		c := r.code(b)
		got := r.token(url.Values{"grant_type": {"authorization_code"}, "code": {c}, "redirect_uri": {"https://portal.example/cb"}, "code_verifier": {verifier}}, who[0], who[1])
		r.wantError(name, got, "invalid_client")
		if got.Status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got.Status)
		}
		if got := r.exchange(c); got.Status != 200 {
			t.Errorf("%s used the code up: %+v", name, got)
		}
	}
	// The secret alone in the body, without basic, is fine; both ways at once are not.
	if got := r.token(url.Values{"grant_type": {"authorization_code"}, "client_id": {"portal"}, "client_secret": {r.secret}, "code": {r.code(b)}, "redirect_uri": {"https://portal.example/cb"}, "code_verifier": {verifier}}, "portal", ""); got.Status != 200 {
		t.Errorf("client_secret_post: %+v", got)
	}
	r.wantError("two ways at once", r.exchange(r.code(b), "client_secret", r.secret), "invalid_request")
}

// TestAuthorizeRefusals: PKCE downgrade, mixed-up parameters, and what is not
// offered. The program is told, with state and iss.
func TestAuthorizeRefusals(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	r.code(b) // signed in and agreed: nothing but the request stands in the way
	for name, c := range map[string]struct {
		changes []string
		kind    string
	}{
		"no PKCE":                       {[]string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request"},
		"PKCE plain":                    {[]string{"code_challenge_method", "plain"}, "invalid_request"},
		"PKCE without method":           {[]string{"code_challenge_method", ""}, "invalid_request"},
		"a method without challenge":    {[]string{"code_challenge", ""}, "invalid_request"},
		"a challenge that is no SHA256": {[]string{"code_challenge", "abc"}, "invalid_request"},
		"implicit":                      {[]string{"response_type", "token"}, "unsupported_response_type"},
		"hybrid":                        {[]string{"response_type", "code id_token"}, "unsupported_response_type"},
		"id_token":                      {[]string{"response_type", "id_token"}, "unsupported_response_type"},
		"no response type":              {[]string{"response_type", ""}, "invalid_request"},
		"fragment":                      {[]string{"response_mode", "fragment"}, "invalid_request"},
		"form_post":                     {[]string{"response_mode", "form_post"}, "invalid_request"},
		"request object":                {[]string{"request", "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"},
		"request_uri":                   {[]string{"request_uri", "https://evil.example/r"}, "request_uri_not_supported"},
		"no scope":                      {[]string{"scope", ""}, "invalid_request"},
		"unknown scope":                 {[]string{"scope", "root"}, "invalid_scope"},
		"prompt none and login":         {[]string{"prompt", "none login"}, "invalid_request"},
		"forged hint":                   {[]string{"id_token_hint", "a.b.c"}, "login_required"},
	} {
		q := b.landed(b.get(r.request(c.changes...)), "https://portal.example/cb?")
		if q.Get("error") != c.kind || q.Get("code") != "" || q.Get("state") != "st&te" {
			t.Errorf("%s: %v, want %s", name, q, c.kind)
		}
	}
}

// TestRedirectTricks: nobody is sent anywhere that is not registered, letter by
// letter.
func TestRedirectTricks(t *testing.T) {
	r := newRig(t)
	r.client(oidcop.Client{ID: "app", Name: "App", Kind: oidcop.Native, RedirectURIs: []string{"http://127.0.0.1/cb", "com.example.app:/cb"}})
	b := r.browser()
	r.code(b)
	stays := func(what string, changes ...string) {
		t.Helper()
		res := b.get(r.request(changes...))
		if to := res.Header.Get("Location"); res.StatusCode != http.StatusBadRequest || to != "" || !strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: %d %q", what, res.StatusCode, to)
		}
	}
	for _, uri := range []string{
		"", "https://evil.example/cb", "https://portal.example/cb/", "https://portal.example/cb?x=1", "https://portal.example/cb#x",
		"https://portal.example/CB", "https://PORTAL.example/cb", "http://portal.example/cb", "https://portal.example:443/cb",
		"https://portal.example/x/../cb", "https://portal.example/cb%2f..", "https://portal.example@evil.example/cb",
		"https://portal.example.evil.example/cb", "https://portal.example/cb\\@evil.example", "//evil.example/cb", "javascript:alert(1)",
		"https://portal.example:8443/cb", " https://portal.example/cb", "https://portal.example/cb\x00",
	} {
		stays(uri, "redirect_uri", uri)
	}
	stays("unknown client", "client_id", "nobody")
	stays("no client", "client_id", "")
	res := b.get(r.request() + "&redirect_uri=https%3A%2F%2Fevil.example%2Fcb")
	if res.StatusCode != http.StatusBadRequest || res.Header.Get("Location") != "" {
		t.Errorf("a second redirect_uri: %d %q", res.StatusCode, res.Header.Get("Location"))
	}

	// Native: another port of the same loopback address, and nothing else.
	for uri, ok := range map[string]bool{
		"http://127.0.0.1/cb": true, "http://127.0.0.1:51234/cb": true, "com.example.app:/cb": true,
		"http://localhost:51234/cb": false, "http://[::1]:51234/cb": false, "https://127.0.0.1:51234/cb": false,
		"http://127.0.0.1:51234/cb/": false, "http://127.0.0.1:51234/cb?x=1": false, "http://127.0.0.2:51234/cb": false,
		"http://127.0.0.1:51234@evil.example/cb": false, "http://127.0.0.1.evil.example:51234/cb": false, "com.example.app:/other": false,
		"http://127.0.0.1:1:2/cb": false,
	} {
		res := b.get(r.request("client_id", "app", "redirect_uri", uri))
		if got := res.StatusCode == http.StatusOK; got != ok || res.Header.Get("Location") != "" {
			t.Errorf("native %s: %d %q", uri, res.StatusCode, res.Header.Get("Location"))
		}
	}
	// A web client has no such exception.
	for _, c := range []oidcop.Client{
		{Name: "x", Kind: oidcop.Browser, RedirectURIs: []string{"http://portal.example/cb"}},
		{Name: "x", Kind: oidcop.Native, RedirectURIs: []string{"http://portal.example/cb"}},
		{Name: "x", Kind: oidcop.Native, RedirectURIs: []string{"app:/cb"}},
		{Name: "x", Kind: oidcop.Web, RedirectURIs: []string{"com.example:/cb"}},
		{Name: "x", Kind: oidcop.Web, RedirectURIs: []string{"https://*.example/cb"}},
		{Name: "x", Kind: oidcop.Web, RedirectURIs: []string{"https://portal.example/cb#f"}},
		{Name: "x", Kind: oidcop.Web, RedirectURIs: []string{"https://a@portal.example/cb"}},
		{Name: "x", Kind: oidcop.Web, RedirectURIs: []string{"javascript:alert(1)"}},
		{Name: "x", Kind: oidcop.Web, RedirectURIs: []string{"/cb"}},
		{Name: "x", Kind: oidcop.Web},
		{Name: "x", Kind: oidcop.Native, RedirectURIs: []string{"http://127.0.0.1/cb"}, Trusted: true},
	} {
		if _, _, err := r.op.AddClient(context.Background(), "oakhill", c); !im.Is(err, im.Invalid) {
			t.Errorf("registered %+v: %v", c, err)
		}
	}
}

// TestRefreshReuse: the second use of a refresh token ends its whole family, also
// when both come at once.
func TestRefreshReuse(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	first := r.exchange(r.code(b))
	second := r.refresh(first.RefreshToken)
	r.wantError("the first again", r.refresh(first.RefreshToken), "invalid_grant")
	r.wantError("the second, of the same family", r.refresh(second.RefreshToken), "invalid_grant")
	if r.good(first.AccessToken) || r.good(second.AccessToken) {
		t.Error("access tokens of the family are still good")
	}
	if r.ended.Load() == 0 {
		t.Error("nobody was told that the sign-ins ended: open sockets would stay")
	}

	got := r.exchange(r.code(b))
	var wg sync.WaitGroup
	var mu sync.Mutex
	n := 0
	var last tokens
	for range 8 {
		wg.Go(func() {
			if next := r.refresh(got.RefreshToken); next.RefreshToken != "" {
				mu.Lock()
				n++
				last = next
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if n != 1 {
		t.Errorf("%d of 8 refreshed with one token", n)
	}
	r.wantError("after the race", r.refresh(last.RefreshToken), "invalid_grant")

	// Who does not have the family's secret can end nothing.
	got = r.exchange(r.code(b))
	parts := strings.Split(got.RefreshToken, ".")
	parts[3] = base64.RawURLEncoding.EncodeToString(make([]byte, 16))
	r.wantError("made up", r.refresh(strings.Join(parts, ".")), "invalid_grant")
	if next := r.refresh(got.RefreshToken); next.Status != 200 {
		t.Errorf("a made-up token ended the family: %+v", next)
	}

	// Another client's refresh token, a wider scope, a public client's.
	_, otherSecret := r.client(oidcop.Client{ID: "other", Name: "Other", Kind: oidcop.Web, RedirectURIs: []string{"https://other.example/cb"}})
	got = r.exchange(r.code(b))
	r.wantError("another client", r.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}}, "other", otherSecret), "invalid_grant")
	r.wantError("a wider scope", r.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}, "scope": {"openid admin"}}), "invalid_scope")
	if next := r.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}, "scope": {"openid"}}); next.Status != 200 || next.Scope != "openid" {
		t.Errorf("a narrower scope: %+v", next)
	}
}

// forge signs an id_token anew, as somebody who has only the public keys can.
func forge(t *testing.T, token, alg string) string {
	t.Helper()
	head := part(t, token, 0)
	head["alg"] = alg
	h, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(h) + "." + strings.Split(token, ".")[1] + "."
}

// TestAlgorithmConfusion: id_token_hint is the one signed thing that comes back in.
func TestAlgorithmConfusion(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	got := r.exchange(r.code(b))
	res, err := http.Get(r.issuer() + "/oauth/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	var public []byte
	for _, k := range set.Keys {
		if e, ok := k.Key.(*ecdsa.PublicKey); ok {
			public, _ = e.Bytes()
		}
	}
	hs := forge(t, got.IDToken, "HS256")
	mac := hmac.New(sha256.New, public)
	mac.Write([]byte(strings.TrimSuffix(hs, ".")))
	hs += base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	tampered := strings.Split(got.IDToken, ".")
	payload, _ := base64.RawURLEncoding.DecodeString(tampered[1])
	tampered[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), "u_ann", "u_bob", 1)))
	other := newRig(t)
	foreign := other.exchange(other.code(other.browser())).IDToken
	for name, hint := range map[string]string{
		"none": forge(t, got.IDToken, "none"), "None": forge(t, got.IDToken, "None"), "HS256 with the public key": hs,
		"another person": strings.Join(tampered, "."), "another issuer's": foreign, "an access token": got.AccessToken, "nothing": "..",
	} {
		if res := b.get(r.issuer() + "/oauth/logout?" + url.Values{"id_token_hint": {hint}}.Encode()); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", name, res.StatusCode)
		}
	}
	if b.get(r.request()); strings.Contains(b.page, `name="password"`) {
		t.Error("a forged hint signed somebody out")
	}
}

// TestTokenAudience: a token is good for its own client and tenant.
func TestTokenAudience(t *testing.T) {
	r := newRig(t)
	_, secret := r.client(oidcop.Client{ID: "nosy", Name: "Nosy", Kind: oidcop.Web, RedirectURIs: []string{"https://nosy.example/cb"}})
	_, service := r.client(oidcop.Client{ID: "service", Name: "Service", Kind: oidcop.Web, RedirectURIs: []string{"https://service.example/cb"}, Introspect: true})
	got := r.exchange(r.code(r.browser()))
	if in := r.introspect(got.AccessToken, "nosy", secret); len(in) != 1 || in["active"] != false {
		t.Errorf("another client learns %v", in)
	}
	if in := r.introspect(got.AccessToken, "service", service); in["active"] != true {
		t.Errorf("a service that may ask learns %v", in)
	}
	if status, _ := r.call("/oauth/introspect", url.Values{"token": {got.AccessToken}, "client_id": {oidcop.CLI}}, oidcop.CLI, ""); status != http.StatusUnauthorized {
		t.Errorf("a client without a secret asks about tokens: %d", status)
	}
	if status, _ := r.call("/oauth/revoke", url.Values{"token": {got.AccessToken}}, "nosy", secret); status != http.StatusOK || !r.good(got.AccessToken) {
		t.Errorf("another client revoked it: %d", status)
	}
	req, err := http.NewRequest("GET", r.srv.URL+"/t/elm/oauth/userinfo", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+got.AccessToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized || !strings.Contains(res.Header.Get("WWW-Authenticate"), "invalid_token") {
		t.Errorf("another tenant believes it: %d %q", res.StatusCode, res.Header.Get("WWW-Authenticate"))
	}
	for _, method := range []string{"GET", "PUT"} {
		req, err := http.NewRequest(method, r.issuer()+"/oauth/token?grant_type=refresh_token&refresh_token="+got.RefreshToken, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode/100 == 2 {
			t.Errorf("%s of the token endpoint: %d", method, res.StatusCode)
		}
	}
	if status, _ := r.call("/oauth/token?client_secret="+r.secret, url.Values{"grant_type": {"refresh_token"}}, "", ""); status != http.StatusBadRequest {
		t.Errorf("secrets in the address: %d", status)
	}
}

// TestRefuse: who is refused elsewhere reads why on a page like the others.
func TestRefuse(t *testing.T) {
	r := newRig(t)
	refuse := func(w http.ResponseWriter, req *http.Request) { r.op.Refuse(w, req, http.StatusForbidden, "foreign") }
	mux := http.NewServeMux()
	mux.HandleFunc("/t/{tenant}/x", refuse)
	for _, c := range []struct {
		path, lang string
		status     int
		want       string
	}{
		{"/t/oakhill/x", "zh-CN", http.StatusForbidden, "这个表单来自别的网页，因此没有执行。"},
		{"/t/oakhill/x", "en", http.StatusForbidden, "This form was sent by another page"},
		{"/t/nowhere/x", "zh-CN", http.StatusNotFound, "这里没有这个单位。"},
	} {
		req := httptest.NewRequest("POST", c.path, nil)
		req.Header.Set("Accept-Language", c.lang)
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, req)
		if body := rec.Body.String(); rec.Code != c.status || !strings.Contains(body, c.want) || !strings.Contains(body, "<html lang=\""+c.lang+"\">") || !strings.Contains(rec.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s in %s: %d %v\n%s", c.path, c.lang, rec.Code, rec.Header(), body)
		}
	}
}

// TestForeignPages: CSRF, fixation, framing and open redirects at the pages.
func TestForeignPages(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	page := r.issuer() + "/signin"
	form := url.Values{"username": {"ann"}, "password": {password}}
	for _, head := range [][]string{{"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", ""}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
		if res := b.post(page, form, head...); res.StatusCode != http.StatusForbidden || len(res.Cookies()) != 0 {
			t.Errorf("sign-in with %q: %d %v", head, res.StatusCode, res.Cookies())
		}
	}
	// Fixation: the cookie that was there before is not the one after.
	u, err := url.Parse(r.srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	planted := "pt_oakhill_" + strings.Repeat("A", 43)
	b.client.Jar.SetCookies(u, []*http.Cookie{{Name: "pipit", Value: planted, Path: "/"}})
	b.get(page)
	b.signIn("ann")
	cookie := func() string {
		for _, c := range b.client.Jar.Cookies(u) {
			if c.Name == "pipit" {
				return c.Value
			}
		}
		return ""
	}
	mine := cookie()
	if mine == planted || mine == "" {
		t.Fatalf("cookie after sign-in %q", mine)
	}
	b.get(page)
	b.signIn("ann")
	if _, _, err := r.auth.Verify(context.Background(), mine); !im.Is(err, im.Unauthenticated) || cookie() == mine {
		t.Errorf("the replaced sign-in still counts: %v", err)
	}
	// Consent can't be sent from elsewhere, nor asked away.
	b.get(r.request())
	for _, address := range []string{r.request("x", "y"), r.issuer() + "/oauth/authorize"} {
		q, _ := url.Parse(r.request())
		f := q.Query()
		f.Set("decision", "allow")
		if res := b.post(address, f, "Origin", "https://evil.example"); res.StatusCode != http.StatusForbidden || res.Header.Get("Location") != "" {
			t.Errorf("consent from elsewhere: %d %q", res.StatusCode, res.Header.Get("Location"))
		}
	}
	if res := b.get(r.request("decision", "allow")); res.Header.Get("Location") != "" {
		t.Error("consent by a link")
	}
	if res := b.post(r.issuer()+"/signout", nil, "Origin", "https://evil.example"); res.StatusCode != http.StatusForbidden {
		t.Errorf("sign-out from elsewhere: %d", res.StatusCode)
	}
	// Nothing frames the pages, nothing runs on them.
	res := b.get(page)
	csp := res.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("CSP %q lacks %q", csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "script-src") || res.Header.Get("X-Frame-Options") != "DENY" || res.Header.Get("Referrer-Policy") != "same-origin" {
		t.Errorf("headers %v", res.Header)
	}
	// Open redirects.
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, `\\evil.example`, "/\t/evil.example", "javascript:alert(1)", "http:evil.example", "///evil.example", "/%0d%0aSet-Cookie:x=y\r\nX: y"} {
		b := r.browser()
		b.get(page + "?" + url.Values{"next": {next}}.Encode())
		b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		res := b.signIn("ann")
		if to := res.Header.Get("Location"); to != "/" {
			t.Errorf("next=%q leads to %q", next, to)
		}
	}
	if res := r.browser().get(page + "?login_hint=" + url.QueryEscape(`"><script>alert(1)</script>`)); res.StatusCode != 200 {
		t.Errorf("hostile hint: %d", res.StatusCode)
	}
	evil := r.browser()
	evil.get(page + "?login_hint=" + url.QueryEscape(`"><script>alert(1)</script>`))
	if strings.Contains(evil.page, "<script") {
		t.Error("a script on the page")
	}
}
