package oidcop_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// box is a store whose running time a test moves.
type box struct {
	*storetest.Model
	more atomic.Int64
}

// Age implements store.Box.
func (b *box) Age() time.Duration { return b.Model.Age() + time.Duration(b.more.Load()) }

// people is the directory of a test.
type people map[im.TenantID]map[im.UserID]*im.User

func (p people) User(t im.TenantID, id im.UserID) (*im.User, bool) {
	u, ok := p[t][id]
	return u, ok
}

func (p people) ByUsername(t im.TenantID, name string) (*im.User, bool) {
	for _, u := range p[t] {
		if u.Username == name {
			return u, true
		}
	}
	return nil, false
}

func (p people) Tenant(t im.TenantID) (im.Tenant, bool) {
	_, ok := p[t]
	return im.Tenant{ID: t, Name: "Oakhill School"}, ok
}

func (p people) OnlyTenant() (im.TenantID, bool) { return "oakhill", len(p) == 1 }

const password = "correct horse"

// rig is a provider on real parts over the in-memory store, and a browser.
type rig struct {
	t      *testing.T
	box    *box
	people people
	auth   *auth.Auth
	op     *oidcop.Provider
	srv    *httptest.Server
	clock  atomic.Pointer[error] // what TrustedClock says
	ended  atomic.Int64          // sign-ins that ended
	web    oidcop.Client
	secret string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx := context.Background()
	r := &rig{t: t, box: &box{Model: storetest.NewModel(time.Now)}, people: people{}}
	for tenant, users := range map[im.TenantID][]im.User{
		"oakhill": {{ID: "u_ann", Username: "ann", Name: "Ann Lee", Role: im.RoleOwner}, {ID: "u_bob", Username: "bob", Name: "王小明", Role: im.RoleMember}},
		"elm":     {{ID: "u_eve", Username: "eve", Name: "Eve", Role: im.RoleOwner}},
	} {
		r.people[tenant] = map[im.UserID]*im.User{}
		err := r.box.UpdateTenant(ctx, tenant, func(*im.Tenant) (*im.Tenant, error) { return &im.Tenant{ID: tenant, Name: "x"}, nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range users {
			u.Tenant = tenant
			r.people[tenant][u.ID] = &u
			if err := r.box.UpdateUser(ctx, tenant, u.ID, func(*im.User) (*im.User, error) { return &u, nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	grants := oidcop.NewGrants(r.box, r.box, r.box)
	var err error
	r.auth, err = auth.New(ctx, auth.Options{
		Tokens: grants, Credentials: r.box, Records: r.box, Box: r.box, Users: r.people,
		Hashing: auth.Hashing{MemoryKiB: 64, Iterations: 1},
		Limits:  auth.Limits{ChecksPerMinutePerAddr: 1000, FailuresPerHourPerAccount: 100, Hashes: 2},
		Ended:   func(e []auth.Ended) { r.ended.Add(int64(len(e))) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for tenant, users := range r.people {
		for id := range users {
			if err := r.auth.SetPassword(ctx, tenant, id, password); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.op, err = oidcop.New(oidcop.Options{
		Auth: r.auth, Grants: grants, Users: r.people, Records: r.box, Box: r.box,
		Profile: func(context.Context, im.TenantID, im.UserID) (oidcop.Profile, error) {
			return oidcop.Profile{Classes: []string{"5a"}}, nil
		},
		TrustedClock: func() error {
			if e := r.clock.Load(); e != nil {
				return *e
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	r.op.Routes(mux)
	r.srv = httptest.NewServer(mux)
	t.Cleanup(r.srv.Close)
	r.web, r.secret = r.client(oidcop.Client{ID: "portal", Name: "Portal", Kind: oidcop.Web, RedirectURIs: []string{"https://portal.example/cb"},
		LogoutURIs: []string{"https://portal.example/bye"}, Scopes: oidcop.Scopes()})
	return r
}

func (r *rig) client(c oidcop.Client) (oidcop.Client, string) {
	r.t.Helper()
	c, secret, err := r.op.AddClient(context.Background(), "oakhill", c)
	if err != nil {
		r.t.Fatal(err)
	}
	return c, secret
}

func (r *rig) issuer() string { return r.srv.URL + "/t/oakhill" }

// browser keeps cookies, says where its forms come from, and follows redirects
// within this server.
type browser struct {
	r      *rig
	client *http.Client
	page   string
	at     *url.URL
}

func (r *rig) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	b := &browser{r: r}
	b.client = &http.Client{Jar: jar, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if !strings.HasPrefix(req.URL.String(), r.srv.URL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return b
}

// do sends a request and returns the answer, its body in b.page.
func (b *browser) do(req *http.Request) *http.Response {
	b.r.t.Helper()
	res, err := b.client.Do(req)
	if err != nil {
		b.r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.r.t.Fatal(err)
	}
	b.page, b.at = string(body), res.Request.URL
	return res
}

func (b *browser) get(address string) *http.Response {
	b.r.t.Helper()
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		b.r.t.Fatal(err)
	}
	return b.do(req)
}

// post sends a form as a page of this server does; header pairs change that.
func (b *browser) post(address string, form url.Values, header ...string) *http.Response {
	b.r.t.Helper()
	req, err := http.NewRequest("POST", address, strings.NewReader(form.Encode()))
	if err != nil {
		b.r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", b.r.srv.URL)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return b.do(req)
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	hidden     = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)"`)
)

// submit sends the form of the page that is open, with more fields.
func (b *browser) submit(fields ...string) *http.Response {
	b.r.t.Helper()
	m := formAction.FindStringSubmatch(b.page)
	if m == nil {
		b.r.t.Fatalf("no form in\n%s", b.page)
	}
	form := url.Values{}
	for _, h := range hidden.FindAllStringSubmatch(b.page, -1) {
		form.Set(unescape(h[1]), unescape(h[2]))
	}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.post(b.r.srv.URL+unescape(m[1]), form)
}

func unescape(s string) string {
	return strings.NewReplacer("&amp;", "&", "&#43;", "+", "&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">").Replace(s)
}

func (b *browser) signIn(username string) *http.Response {
	b.r.t.Helper()
	return b.submit("username", username, "password", password)
}

// verifier of the tests and its challenge.
const verifier = "0123456789012345678901234567890123456789012"

func challengeOf(v string) string {
	sum := sha256.Sum256([]byte(v))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// request is a good authorization request; pairs change it, "" takes away.
func (r *rig) request(changes ...string) string {
	q := url.Values{"client_id": {"portal"}, "redirect_uri": {"https://portal.example/cb"}, "response_type": {"code"},
		"scope": {"openid profile offline_access"}, "state": {"st&te"}, "nonce": {"n"},
		"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"}}
	for i := 0; i+1 < len(changes); i += 2 {
		q.Del(changes[i])
		if changes[i+1] != "" {
			q.Set(changes[i], changes[i+1])
		}
	}
	return r.issuer() + "/oauth/authorize?" + q.Encode()
}

// landed returns the parameters with which the browser was sent to the program.
func (b *browser) landed(res *http.Response, at string) url.Values {
	b.r.t.Helper()
	to, err := res.Location()
	if err != nil || !strings.HasPrefix(to.String(), at) {
		b.r.t.Fatalf("%d to %v (%v), want %s\n%s", res.StatusCode, to, err, at, b.page)
	}
	if iss := to.Query().Get("iss"); iss != b.r.issuer() {
		b.r.t.Errorf("iss is %q (RFC 9207)", iss)
	}
	return to.Query()
}

// code goes the whole way to an authorization code, as ann.
func (r *rig) code(b *browser, changes ...string) string {
	r.t.Helper()
	res := b.get(r.request(changes...))
	if strings.Contains(b.page, `name="password"`) {
		res = b.signIn("ann")
	}
	if strings.Contains(b.page, `value="allow"`) {
		res = b.submit("decision", "allow")
	}
	to, err := res.Location()
	if err != nil {
		r.t.Fatalf("no redirect: %d\n%s", res.StatusCode, b.page)
	}
	if to.Query().Get("code") == "" {
		r.t.Fatalf("no code: %s", to)
	}
	return to.Query().Get("code")
}

type tokens struct {
	Status       int
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Scope        string
	ExpiresIn    int `json:"expires_in"`
	Error        string
	Description  string `json:"error_description"`
}

// call sends a form to an endpoint of the issuer, as the web client if id is "".
func (r *rig) call(path string, form url.Values, id, secret string) (int, []byte) {
	r.t.Helper()
	req, err := http.NewRequest("POST", r.issuer()+path, strings.NewReader(form.Encode()))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id == "" {
		id, secret = r.web.ID, r.secret
	}
	if secret != "" {
		req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if cc := res.Header.Get("Cache-Control"); cc != "no-store" {
		r.t.Errorf("%s may be cached: %q", path, cc)
	}
	return res.StatusCode, body
}

func (r *rig) token(form url.Values, who ...string) tokens {
	r.t.Helper()
	who = append(who, "", "")
	status, body := r.call("/oauth/token", form, who[0], who[1])
	var out tokens
	if err := json.Unmarshal(body, &out); err != nil {
		r.t.Fatalf("%v in %s", err, body)
	}
	out.Status = status
	return out
}

// exchange makes tokens of a code; pairs change the request.
func (r *rig) exchange(code string, changes ...string) tokens {
	r.t.Helper()
	form := url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {"https://portal.example/cb"}, "code_verifier": {verifier}}
	for i := 0; i+1 < len(changes); i += 2 {
		form.Del(changes[i])
		if changes[i+1] != "" {
			form.Set(changes[i], changes[i+1])
		}
	}
	return r.token(form)
}

func (r *rig) refresh(token string) tokens {
	r.t.Helper()
	return r.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

// good tells whether an access token is believed by userinfo.
func (r *rig) good(token string) bool {
	r.t.Helper()
	req, err := http.NewRequest("GET", r.issuer()+"/oauth/userinfo", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

func (r *rig) wantError(what string, got tokens, kind string) {
	r.t.Helper()
	if got.Error != kind || got.AccessToken != "" || got.IDToken != "" || got.RefreshToken != "" {
		r.t.Errorf("%s: %d %q (%s), want %q", what, got.Status, got.Error, got.Description, kind)
	}
}

var _ store.Box = (*box)(nil)
