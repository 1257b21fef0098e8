package app

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/machine"
)

// visitor is somebody at a browser: it keeps cookies, and says where its forms
// come from.
type visitor struct {
	b      *box
	client *http.Client
	page   string
	at     *url.URL
}

func (b *box) visitor() *visitor {
	jar, err := cookiejar.New(nil)
	b.must(err)
	return &visitor{b: b, client: &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(r.URL.String(), b.url()) {
			return http.ErrUseLastResponse
		}
		return nil
	}}}
}

func (v *visitor) do(method, address string, form url.Values) *http.Response {
	v.b.t.Helper()
	req, err := http.NewRequest(method, address, strings.NewReader(form.Encode()))
	v.b.must(err)
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", v.b.url())
	}
	res, err := v.client.Do(req)
	v.b.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	v.b.must(err)
	v.page, v.at = string(body), res.Request.URL
	return res
}

var (
	pageForm   = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	pageHidden = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
	unescaped  = strings.NewReplacer("&amp;", "&", "&#43;", "+", "&#34;", `"`, "&#39;", "'")
)

// submit sends the form of the page that is open, with more fields in pairs.
func (v *visitor) submit(fields ...string) *http.Response {
	v.b.t.Helper()
	m := pageForm.FindStringSubmatch(v.page)
	if m == nil {
		v.b.t.Fatalf("no form at %s:\n%s", v.at, v.page)
	}
	form := url.Values{}
	for _, h := range pageHidden.FindAllStringSubmatch(v.page, -1) {
		form.Set(unescaped.Replace(h[1]), unescaped.Replace(h[2]))
	}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	to, err := v.at.Parse(unescaped.Replace(m[1]))
	v.b.must(err)
	return v.do("POST", to.String(), form)
}

// program is a client of the box's provider, as a stranger's program is.
type program struct {
	b          *box
	id, secret string
}

const (
	programBack = "https://portal.example/cb"
	verifier    = "0123456789012345678901234567890123456789012"
)

func (b *box) program(id string, scopes ...string) program {
	b.t.Helper()
	c, err := b.admin.AddOIDCClient(b.t.Context(), "oakhill", apiclient.NewOIDCClient{ID: id, Name: "Portal", Kind: "web", RedirectURIs: []string{programBack}, Scopes: scopes})
	b.must(err)
	return program{b, id, c.Secret}
}

// ask is where the program sends a browser.
func (p program) ask(scope string) string {
	sum := sha256.Sum256([]byte(verifier))
	return p.b.url() + "/t/oakhill/oauth/authorize?" + url.Values{"client_id": {p.id}, "redirect_uri": {programBack}, "response_type": {"code"}, "scope": {scope}, "state": {"s"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"}}.Encode()
}

func (p program) post(path string, form url.Values) (int, map[string]any) {
	p.b.t.Helper()
	req, err := http.NewRequest("POST", p.b.url()+"/t/oakhill/oauth"+path, strings.NewReader(form.Encode()))
	p.b.must(err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if p.secret != "" {
		req.SetBasicAuth(p.id, p.secret)
	}
	res, err := http.DefaultClient.Do(req)
	p.b.must(err)
	defer res.Body.Close()
	out := map[string]any{}
	if body, err := io.ReadAll(res.Body); err == nil && len(body) > 0 {
		p.b.must(json.Unmarshal(body, &out))
	}
	return res.StatusCode, out
}

// landed returns what the browser brings back to the program.
func (p program) landed(v *visitor, res *http.Response) url.Values {
	p.b.t.Helper()
	to, err := res.Location()
	if err != nil || !strings.HasPrefix(to.String(), programBack) {
		p.b.t.Fatalf("%d at %s, not back at the program:\n%s", res.StatusCode, v.at, v.page)
	}
	return to.Query()
}

// rest calls the API with a token.
func (b *box) rest(method, path, token, body string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequest(method, b.url()+path, strings.NewReader(body))
	b.must(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	b.must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	b.must(err)
	return res.StatusCode, string(text)
}

// audited returns the newest events of the tenant, oldest first, in short lines:
// action, kind of actor, result, and what else is asked for.
func (b *box) audited(after uint64) (lines []string, last uint64) {
	b.t.Helper()
	events, _, err := b.audit.Page(b.t.Context(), "oakhill", audit.Query{}, 0, 200)
	b.must(err)
	for _, e := range slices.Backward(events) {
		if e.Seq <= after {
			continue
		}
		last = e.Seq
		delete(e.Detail, "grant")
		delete(e.Detail, "session")
		delete(e.Detail, "invitation")
		var detail []string
		for _, k := range slices.Sorted(maps.Keys(e.Detail)) {
			detail = append(detail, k+"="+e.Detail[k])
		}
		lines = append(lines, strings.TrimSpace(strings.Join([]string{e.Action, e.Actor.Kind, e.Result, e.Name, strings.Join(detail, ",")}, " ")))
		if e.Addr != "127.0.0.1" && e.Actor.Kind != audit.ByOperator {
			b.t.Errorf("%s comes from %q", e.Action, e.Addr)
		}
	}
	return lines, max(last, after)
}

// TestSignInAudited: whatever way somebody gets in, lets a program in or puts it
// out stands in the audit log, and nothing that was typed does.
func TestSignInAudited(t *testing.T) {
	b := newBox(t)
	ids, tokens := b.people("ann", "bob")
	_, last := b.audited(0)
	expect := func(what string, want ...string) {
		t.Helper()
		var got []string
		got, last = b.audited(last)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\ngot\n\t%s\nwant\n\t%s", what, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		}
	}

	v := b.visitor()
	v.do("GET", b.url()+"/t/oakhill/signin", nil)
	v.submit("username", "ann", "password", "not that one")
	v.submit("username", "hunter2-typed-as-a-name", "password", password)
	v.submit("username", "ann", "password", password)
	expect("the sign-in page",
		"session.create nobody unauthenticated ann on=page,with=password",
		"session.create nobody unauthenticated  on=page,with=password",
		"session.create user ok ann on=page,with=password")

	p := b.program("portal", "openid", "profile", "offline_access", "chat")
	expect("a program is added", "oidc-client.create operator ok Portal")
	v.do("GET", p.ask("chat offline_access"), nil)
	if q := p.landed(v, v.submit("decision", "deny")); q.Get("error") != "access_denied" {
		t.Errorf("denied: %v", q)
	}
	expect("a refusal", "consent.create user forbidden ann client=portal,scope=chat offline_access")
	v.do("GET", p.ask("chat offline_access"), nil)
	q := p.landed(v, v.submit("decision", "allow"))
	form := url.Values{"grant_type": {"authorization_code"}, "code": {q.Get("code")}, "redirect_uri": {programBack}, "code_verifier": {verifier}}
	status, first := p.post("/token", form)
	if status != 200 {
		t.Fatalf("exchange: %d %v", status, first)
	}
	expect("a consent and its grant",
		"consent.create user ok ann client=portal,scope=chat offline_access",
		"grant.create program ok ann client=portal,scope=chat offline_access,with=authorization_code")
	again := func() (int, map[string]any) {
		return p.post("/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first["refresh_token"].(string)}})
	}
	if status, _ := again(); status != 200 {
		t.Errorf("refresh: %d", status)
	}
	expect("a refresh, which changes nothing")
	if status, _ := again(); status != 400 {
		t.Errorf("a used refresh token: %d", status)
	}
	expect("a used refresh token", "grant.reuse program ok ann client=portal,scope=chat offline_access,with=refresh_token")

	exchange := func() map[string]any {
		t.Helper()
		form.Set("code", p.landed(v, v.do("GET", p.ask("chat offline_access"), nil)).Get("code")) // consent is remembered
		status, got := p.post("/token", form)
		if status != 200 {
			t.Fatalf("exchange: %d %v", status, got)
		}
		return got
	}
	granted := "grant.create program ok ann client=portal,scope=chat offline_access,with=authorization_code"
	exchange()
	if status, _ := p.post("/token", form); status != 400 {
		t.Errorf("a code came twice: %d", status)
	}
	expect("a code comes twice", granted, "grant.reuse program ok ann client=portal,with=code")
	got := exchange()
	if status, _ := p.post("/revoke", url.Values{"token": {got["access_token"].(string)}}); status != 200 {
		t.Errorf("revoke: %d", status)
	}
	expect("a program gives its grant back", granted, "grant.delete program ok ann client=portal,scope=chat offline_access")

	got = exchange()
	status, list := b.rest("GET", "/v1/me/programs", tokens["ann"], "")
	if status != 200 || !strings.Contains(list, `"id":"portal"`) || !strings.Contains(list, `"sign_ins":1`) {
		t.Errorf("programs: %d %s", status, list)
	}
	if status, list = b.rest("GET", "/v1/me/programs", tokens["bob"], ""); !strings.Contains(list, `[]`) {
		t.Errorf("bob's programs: %d %s", status, list)
	}
	if status, text := b.rest("DELETE", "/v1/me/programs/portal", tokens["ann"], ""); status != 204 {
		t.Errorf("withdraw: %d %s", status, text)
	}
	if status, _ := b.rest("GET", "/v1/me", got["access_token"].(string), ""); status != 401 {
		t.Errorf("the withdrawn program's token still counts: %d", status)
	}
	if v.do("GET", p.ask("chat offline_access"), nil); !strings.Contains(v.page, `value="allow"`) {
		t.Errorf("the program need not ask again:\n%s", v.page)
	}
	expect("a consent is withdrawn", granted, "consent.delete user ok  client=portal")

	// A device, that is allowed and refused.
	for decision, want := range map[string]string{"allow": "ok", "deny": "forbidden"} {
		cli := program{b, "pipit-cli", ""}
		_, codes := cli.post("/device_authorization", url.Values{"client_id": {"pipit-cli"}, "scope": {"chat"}})
		v.do("GET", codes["verification_uri_complete"].(string), nil)
		v.submit("user_code", codes["user_code"].(string))
		v.submit("decision", decision)
		poll, _ := cli.post("/token", url.Values{"client_id": {"pipit-cli"}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {codes["device_code"].(string)}})
		lines := []string{"consent.create user " + want + " ann client=pipit-cli,scope=chat"}
		if decision == "allow" {
			lines = append(lines, "grant.create program ok ann client=pipit-cli,scope=chat,with=device_code")
		}
		if (poll == 200) != (decision == "allow") {
			t.Errorf("%s: %d", decision, poll)
		}
		expect("a device: "+decision, lines...)
	}

	// A card: what its QR code leads to.
	status, _ = b.rest("POST", "/v1/cards", tokens["ann"], `{"users":["`+string(ids["bob"])+`"],"again":true}`)
	if status != 403 {
		t.Errorf("cards for staff: %d", status)
	}
	_, err := b.admin.AddUser(t.Context(), "oakhill", apiclient.NewPerson{Username: "olga", Name: "Olga", Role: "owner", Password: password})
	b.must(err)
	owner, err := b.admin.IssueToken(t.Context(), "oakhill", "olga")
	b.must(err)
	status, sheet := b.rest("POST", "/v1/cards", owner.Token, `{"users":["`+string(ids["bob"])+`"],"again":true}`)
	code := regexp.MustCompile(`[A-Z2-9]{4}-[A-Z2-9]{4}-[A-Z2-9]{4}-[A-Z2-9]{4}`).FindString(sheet)
	if status != 200 && status != 201 || code == "" {
		t.Fatalf("cards: %d %s", status, sheet)
	}
	expect("cards are printed", "cards.print user forbidden", "user.create operator ok olga role=owner", "session.create operator ok olga", "cards.print user ok  cards=1")
	for body, want := range map[string]int{
		`{"tenant":"oakhill","code":"AAAA-BBBB-CCCC-DDDD","password":"three brown owls"}`: 404,
		`{"tenant":"oakhill","code":"` + code + `","password":"three brown owls"}`:        201,
	} {
		if status, text := b.rest("POST", "/v1/invitations/accept", "", body); status != want {
			t.Errorf("accept: %d %s", status, text)
		}
	}
	lines, _ := b.audited(last)
	slices.Sort(lines)
	if want := []string{"invitation.accept nobody not_found", "invitation.accept user ok bob"}; !slices.Equal(lines, want) {
		t.Errorf("a card is used: %q", lines)
	}
	_, last = b.audited(last)

	v.do("GET", b.url()+"/t/oakhill/signout", nil)
	v.submit()
	expect("signing out", "session.delete user ok ann on=page")

	var text strings.Builder
	b.must(b.audit.Export(t.Context(), "oakhill", audit.Query{}, audit.JSONLines, &text))
	for _, secret := range []string{password, "hunter2", "not that one", "owls", code, p.secret, verifier, first["refresh_token"].(string), got["access_token"].(string)} {
		if strings.Contains(text.String(), secret) {
			t.Errorf("the audit log holds %q", secret)
		}
	}
}

// TestProviderAudited: people come from another organisation's provider, which is
// this box's own here: by a link of their own, by rule and not at all.
func TestProviderAudited(t *testing.T) {
	b, set := clockless(t)
	_, _ = b.people("ann")
	ctx := t.Context()
	_, err := b.admin.AddTenant(ctx, "elm", "Elm School")
	b.must(err)
	for _, n := range []string{"kim", "lee"} {
		_, err = b.admin.AddUser(ctx, "elm", apiclient.NewPerson{Username: n, Name: n, Role: "staff", Password: password})
		b.must(err)
	}
	c, err := b.admin.AddOIDCClient(ctx, "elm", apiclient.NewOIDCClient{ID: "oak", Name: "Oakhill", Kind: "web", RedirectURIs: []string{b.url() + "/t/oakhill/provider/elm/callback"}, Trusted: true})
	b.must(err)
	provider := apiclient.PutOIDCProvider{Name: "Elm", Issuer: b.url() + "/t/elm", ClientID: "oak", ClientSecret: c.Secret}
	_, err = b.admin.PutOIDCProvider(ctx, "oakhill", "elm", provider)
	b.must(err)
	_, last := b.audited(0)
	come := func(username string) {
		t.Helper()
		v := b.visitor()
		v.do("GET", b.url()+"/t/oakhill/provider/elm?next=/healthz", nil)
		v.submit("username", username, "password", password)
	}
	v := b.visitor()
	v.do("GET", b.url()+"/t/oakhill/provider/elm", nil)
	if !strings.Contains(v.page, "clock") {
		t.Errorf("with an untrusted clock:\n%s", v.page)
	}
	set()
	come("kim")
	provider.Create = true
	_, err = b.admin.PutOIDCProvider(ctx, "oakhill", "elm", provider)
	b.must(err)
	come("kim")
	come("kim")
	lines, _ := b.audited(last)
	want := []string{
		"session.create nobody forbidden  provider=elm,why=ext_unknown,with=provider",
		"oidc-provider.update operator ok Elm",
		"user.create system ok kim by=rule,provider=elm",
		"session.create user ok kim provider=elm,with=provider",
		"session.create user ok kim provider=elm,with=provider",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("got\n\t%s\nwant\n\t%s", strings.Join(lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// clockless starts a server on a machine whose clock nobody set; what is returned
// lets a time server set it.
func clockless(t *testing.T) (_ *box, set func()) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "run/systemd/timesync")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return newBoxOn(t, machine.Machine{Root: root}, func(string) {}), func() {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "synchronized"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClock: while nobody set the clock, what goes by it is refused, says why, and
// works from the moment at which it is set; all else works (DESIGN 5.7).
func TestClock(t *testing.T) {
	b, set := clockless(t)
	_, _ = b.people("ann")
	p := b.program("portal", "openid", "chat")
	v := b.visitor()
	v.do("GET", b.url()+"/t/oakhill/signin", nil)
	v.submit("username", "ann", "password", password)
	v.do("GET", p.ask("chat"), nil)
	if q := p.landed(v, v.submit("decision", "allow")); q.Get("code") == "" {
		t.Errorf("without an id_token: %v", q)
	}
	if q := p.landed(v, v.do("GET", p.ask("openid"), nil)); q.Get("error") != "temporarily_unavailable" || !strings.Contains(q.Get("error_description"), "clock") {
		t.Errorf("an id_token: %v", q)
	}
	if status, token := b.signIn("ann", password); status != 201 || token == "" {
		t.Errorf("a password: %d", status)
	}
	set()
	if res := v.do("GET", p.ask("openid"), nil); res.StatusCode != 200 || !strings.Contains(v.page, `value="allow"`) {
		t.Errorf("once the clock is set: %d\n%s", res.StatusCode, v.page)
	}
}

// TestAuditFlood: a member repeats a refused call over HTTP; the log holds a few,
// each of another's acts, and an administrator's as what it is.
func TestAuditFlood(t *testing.T) {
	b := newBox(t)
	_, tokens := b.people("mal")
	_, err := b.admin.AddUser(t.Context(), "oakhill", apiclient.NewPerson{Username: "olga", Name: "Olga", Role: "owner", Password: password})
	b.must(err)
	_, owner := b.signIn("olga", password)
	for i := range 200 {
		if status, text := b.rest("DELETE", "/v1/invitations/v_"+strconv.Itoa(i), tokens["mal"], ""); status != 403 {
			t.Fatalf("%d %s", status, text)
		}
		if status, text := b.rest("DELETE", "/v1/invitations/v_"+strconv.Itoa(i), owner, ""); status != 404 {
			t.Fatalf("%d %s", status, text)
		}
	}
	counts := map[string]int{}
	b.must(b.audit.All(t.Context(), "oakhill", audit.Query{Action: "invitation.delete"}, func(e *audit.Event) error {
		counts[e.Actor.Name+" "+e.Result]++
		return nil
	}))
	if counts["olga not_found"] != 200 || counts["mal forbidden"] < 60 || counts["mal forbidden"] > 70 {
		t.Errorf("%v", counts)
	}
}
