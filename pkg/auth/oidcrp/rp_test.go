package oidcrp_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// liar is an OpenID provider that says what a test wants.
type liar struct {
	*httptest.Server
	key    *ecdsa.PrivateKey
	nonce  string         // of the last authorization request
	query  url.Values     // of the last authorization request
	claims map[string]any // laid over good claims; nil takes one away
	alg    string         // "" ES256, "none", "HS256", "other" (another key)
	meta   map[string]any // laid over the description
	answer url.Values     // laid over the answer of the authorization endpoint
	token  http.HandlerFunc
	info   map[string]any
	asked  atomic.Int32 // of the token endpoint
	form   url.Values   // of the last token request
}

func newLiar(t *testing.T) *liar {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		d := map[string]any{"issuer": l.URL, "authorization_endpoint": l.URL + "/auth", "token_endpoint": l.URL + "/token", "jwks_uri": l.URL + "/keys",
			"userinfo_endpoint": l.URL + "/info", "id_token_signing_alg_values_supported": []string{"ES256", "HS256", "none"},
			"authorization_response_iss_parameter_supported": true, "end_session_endpoint": l.URL + "/bye"}
		maps.Copy(d, l.meta)
		send(w, d)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		send(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("/auth", func(w http.ResponseWriter, r *http.Request) {
		l.query = r.URL.Query()
		l.nonce = l.query.Get("nonce")
		q := url.Values{"code": {"c0de"}, "state": {l.query.Get("state")}, "iss": {l.URL}}
		for k, v := range l.answer {
			q.Del(k)
			if v[0] != "" {
				q[k] = v
			}
		}
		http.Redirect(w, r, l.query.Get("redirect_uri")+"?"+q.Encode(), http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		_ = r.ParseForm()
		l.form = r.PostForm
		if l.token != nil {
			l.token(w, r)
			return
		}
		send(w, map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "id_token": l.idToken(t)})
	})
	mux.HandleFunc("/info", func(w http.ResponseWriter, _ *http.Request) { send(w, l.info) })
	l.Server = httptest.NewServer(mux)
	t.Cleanup(l.Close)
	return l
}

func send(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (l *liar) idToken(t *testing.T) string {
	now := time.Now()
	c := map[string]any{"iss": l.URL, "sub": "1234", "aud": "pipit", "iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "nonce": l.nonce,
		"name": "Kim Park", "preferred_username": "kim", "email": "kim@school.example", "email_verified": true, "groups": []string{"x", "teachers"}, "class": "5a"}
	for k, v := range l.claims {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	alg := l.alg
	key := l.key
	switch alg {
	case "none":
		return b64([]byte(`{"alg":"none"}`)) + "." + b64(body) + "."
	case "HS256":
		pub, _ := key.PublicKey.Bytes()
		head := b64([]byte(`{"alg":"HS256","kid":"k"}`)) + "." + b64(body)
		m := hmac.New(sha256.New, pub)
		m.Write([]byte(head))
		return head + "." + b64(m.Sum(nil))
	case "other":
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: crypto.Signer(key), KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// world is a relying party, its tenant, and the pages that it would show.
type world struct {
	t       *testing.T
	model   *storetest.Model
	rp      *oidcrp.RP
	srv     *httptest.Server
	people  map[im.UserID]*im.User
	in      im.UserID // signed in at the browser, ""
	entered im.UserID // who was signed in by the last answer
	problem string
	next    string
	clock   error
	made    []oidcrp.Newcomer
}

func (w *world) User(_ im.TenantID, id im.UserID) (*im.User, bool) {
	u, ok := w.people[id]
	return u, ok
}
func (w *world) Tenant(t im.TenantID) (im.Tenant, bool) { return im.Tenant{ID: t}, t == "oakhill" }
func (w *world) ByUsername(_ im.TenantID, name string) (*im.User, bool) {
	for _, u := range w.people {
		if u.Username == name {
			return u, true
		}
	}
	return nil, false
}
func (w *world) SignedIn(*http.Request) (im.UserID, bool) { return w.in, w.in != "" }
func (w *world) Enter(rw http.ResponseWriter, _ *http.Request, token, next string) {
	w.entered, w.next = im.UserID(token), next
	rw.WriteHeader(http.StatusNoContent)
}
func (w *world) Problem(rw http.ResponseWriter, _ *http.Request, next, text, _ string) {
	w.problem, w.next = text, next
	rw.WriteHeader(http.StatusUnauthorized)
}
func (w *world) Refuse(rw http.ResponseWriter, _ *http.Request, status int, text string) {
	w.problem = text
	rw.WriteHeader(status)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, model: storetest.NewModel(time.Now), people: map[im.UserID]*im.User{
		"u_ann": {Tenant: "oakhill", ID: "u_ann", Username: "ann", Role: im.RoleOwner},
		"u_bob": {Tenant: "oakhill", ID: "u_bob", Username: "bob", Role: im.RoleMember},
	}}
	err := w.model.UpdateTenant(context.Background(), "oakhill", func(*im.Tenant) (*im.Tenant, error) { return &im.Tenant{ID: "oakhill", Name: "x"}, nil })
	if err != nil {
		t.Fatal(err)
	}
	w.rp, err = oidcrp.New(oidcrp.Options{
		Records: w.model, Box: w.model, Users: w, Pages: w, TrustedClock: func() error { return w.clock },
		Issue: func(_ context.Context, _ im.TenantID, u im.UserID, _ string) (string, im.Millis, error) {
			if w.people[u].Disabled {
				return "", 0, im.E(im.Forbidden, "disabled")
			}
			return string(u), 0, nil
		},
		Create: func(_ context.Context, _ im.TenantID, n oidcrp.Newcomer) (im.UserID, error) {
			if _, taken := w.ByUsername("oakhill", n.Username); taken || n.Username == "" {
				return "", im.E(im.Exists, "taken")
			}
			id := im.UserID("u_" + n.Username)
			w.people[id] = &im.User{Tenant: "oakhill", ID: id, Username: n.Username, Name: n.Name, Role: n.Role}
			w.made = append(w.made, n)
			return id, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	w.rp.Routes(mux)
	w.srv = httptest.NewServer(mux)
	t.Cleanup(w.srv.Close)
	return w
}

func (w *world) put(v oidcrp.Provider) {
	w.t.Helper()
	if _, err := w.rp.Put(context.Background(), "oakhill", v); err != nil {
		w.t.Fatal(err)
	}
}

// provider is the liar as an administrator registers it.
func (l *liar) provider(change func(*oidcrp.Provider)) oidcrp.Provider {
	v := oidcrp.Provider{ID: "school", Name: "School login", Issuer: l.URL, ClientID: "pipit", ClientSecret: "s3cret", Create: true}
	if change != nil {
		change(&v)
	}
	return v
}

func (w *world) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &http.Client{Jar: jar}
}

// signIn goes the whole way in a new browser.
func (w *world) signIn(b *http.Client) {
	w.t.Helper()
	w.entered, w.problem, w.next = "", "", ""
	res, err := b.Get(w.srv.URL + "/t/oakhill/provider/school?next=/somewhere")
	if err != nil {
		w.t.Fatal(err)
	}
	res.Body.Close()
}

func TestSignIn(t *testing.T) {
	w, l := newWorld(t), newLiar(t)
	w.put(l.provider(func(v *oidcrp.Provider) {
		v.RoleClaim, v.Roles = "groups", map[string]string{"teachers": "staff"}
		v.ClassClaim, v.Classes = "class", map[string]string{"5a": "Class 5a"}
	}))
	b := w.browser()
	w.signIn(b)
	if w.entered != "u_kim" || w.next != "/somewhere" || w.problem != "" {
		t.Fatalf("entered %q, problem %q", w.entered, w.problem)
	}
	if len(w.made) != 1 || w.made[0].Role != im.RoleStaff || w.made[0].Name != "Kim Park" || len(w.made[0].Classes) != 1 || w.made[0].Classes[0] != "Class 5a" {
		t.Errorf("made %+v", w.made)
	}
	if l.query.Get("code_challenge_method") != "S256" || l.query.Get("state") == "" || l.query.Get("nonce") == "" || l.form.Get("code_verifier") == "" {
		t.Errorf("request %v, exchange %v", l.query, l.form)
	}
	// The same person again, under another name: the link counts, not the name.
	l.claims = map[string]any{"preferred_username": "ann", "name": "Somebody"}
	w.signIn(b)
	if w.entered != "u_kim" || len(w.made) != 1 {
		t.Errorf("second time: %q, %d made", w.entered, len(w.made))
	}
	w.people["u_kim"].Disabled = true
	if w.signIn(b); w.entered != "" || w.problem != oidcrp.Unknown {
		t.Errorf("disabled: %q %q", w.entered, w.problem)
	}
}

// TestLies: what a provider, or who sits between, may say, and is not believed.
// go-oidc by itself believes the first five (TESTKIT "Sign-in").
func TestLies(t *testing.T) {
	future := float64(time.Now().Add(time.Hour).Unix())
	past := float64(time.Now().Add(-time.Hour).Unix())
	var carried atomic.Int32
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { carried.Add(1) }))
	defer thief.Close()
	for name, lie := range map[string]func(*liar){
		"no sub":        func(l *liar) { l.claims = map[string]any{"sub": nil} },
		"empty sub":     func(l *liar) { l.claims = map[string]any{"sub": ""} },
		"no iat":        func(l *liar) { l.claims = map[string]any{"iat": nil} },
		"another iss":   func(l *liar) { l.answer = url.Values{"iss": {"https://evil.example"}} },
		"307 for token": func(l *liar) { l.token = redirectTo(thief.URL, 307) },

		"302 for token":         func(l *liar) { l.token = redirectTo(thief.URL, 302) },
		"308 for token":         func(l *liar) { l.token = redirectTo(thief.URL, 308) },
		"iss left out":          func(l *liar) { l.answer = url.Values{"iss": {""}} },
		"iss twice":             func(l *liar) { l.answer = url.Values{"iss": {l.URL, "https://evil.example"}} },
		"alg none":              func(l *liar) { l.alg = "none" },
		"HS256 with public key": func(l *liar) { l.alg = "HS256" },
		"another key":           func(l *liar) { l.alg = "other" },
		"another issuer":        func(l *liar) { l.claims = map[string]any{"iss": "https://evil.example"} },
		"another audience":      func(l *liar) { l.claims = map[string]any{"aud": "other"} },
		"two audiences, no azp": func(l *liar) { l.claims = map[string]any{"aud": []string{"pipit", "other"}} },
		"another azp":           func(l *liar) { l.claims = map[string]any{"azp": "other"} },
		"another nonce":         func(l *liar) { l.claims = map[string]any{"nonce": "x"} },
		"no nonce":              func(l *liar) { l.claims = map[string]any{"nonce": nil} },
		"expired":               func(l *liar) { l.claims = map[string]any{"exp": past} },
		"no exp":                func(l *liar) { l.claims = map[string]any{"exp": nil} },
		"made in the future":    func(l *liar) { l.claims = map[string]any{"iat": future, "exp": future + 60} },
		"made long ago":         func(l *liar) { l.claims = map[string]any{"iat": past} },
		"not yet valid":         func(l *liar) { l.claims = map[string]any{"nbf": future} },
		"another access token":  func(l *liar) { l.claims = map[string]any{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"} },
		"iat as text":           func(l *liar) { l.claims = map[string]any{"iat": "yesterday"} },
		"userinfo of another": func(l *liar) {
			l.claims = map[string]any{"name": nil}
			l.info = map[string]any{"sub": "999", "name": "x"}
		},
		"no id_token": func(l *liar) {
			l.token = func(w http.ResponseWriter, _ *http.Request) {
				send(w, map[string]any{"access_token": "x", "token_type": "Bearer"})
			}
		},
		"another state": func(l *liar) { l.answer = url.Values{"state": {"x"}} },
		"no state":      func(l *liar) { l.answer = url.Values{"state": {""}} },
		"an error":      func(l *liar) { l.answer = url.Values{"error": {"access_denied"}, "code": {""}} },
	} {
		t.Run(name, func(t *testing.T) {
			w, l := newWorld(t), newLiar(t)
			lie(l)
			w.put(l.provider(nil))
			w.signIn(w.browser())
			if w.entered != "" || w.problem == "" || len(w.made) != 0 {
				t.Errorf("believed: entered %q, problem %q", w.entered, w.problem)
			}
		})
	}
	if carried.Load() != 0 {
		t.Error("code and secret were carried on to another address")
	}
}

func redirectTo(to string, status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, status) }
}

// TestMixUp: an answer of one provider does not count at another's address, nor in
// another browser, nor twice.
func TestMixUp(t *testing.T) {
	w, honest, evil := newWorld(t), newLiar(t), newLiar(t)
	w.put(honest.provider(nil))
	w.put(evil.provider(func(v *oidcrp.Provider) { v.ID = "evil" }))
	b := w.browser()
	b.CheckRedirect = func(r *http.Request, _ []*http.Request) error { return http.ErrUseLastResponse }
	res, err := b.Get(w.srv.URL + "/t/oakhill/provider/school")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	to, err := res.Location()
	if err != nil {
		t.Fatal(err)
	}
	answer := "/callback?" + url.Values{"code": {"c0de"}, "state": {to.Query().Get("state")}, "iss": {honest.URL}}.Encode()
	get := func(c *http.Client, path string) {
		t.Helper()
		w.entered, w.problem = "", ""
		res, err := c.Get(w.srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	other := w.browser()
	if get(other, "/t/oakhill/provider/school"+answer); w.entered != "" || w.problem != oidcrp.Expired {
		t.Errorf("another browser: %q %q", w.entered, w.problem)
	}
	if get(b, "/t/oakhill/provider/evil"+answer); w.entered != "" || w.problem != oidcrp.Expired || evil.asked.Load() != 0 {
		t.Errorf("at another provider's address: %q %q, asked %d", w.entered, w.problem, evil.asked.Load())
	}
	if get(b, "/t/oakhill/provider/school"+answer); w.entered != "" {
		t.Error("the flow outlives a wrong answer")
	}
	// The evil provider's description claims the honest one's issuer.
	evil.meta = map[string]any{"issuer": honest.URL}
	w.put(evil.provider(func(v *oidcrp.Provider) { v.ID = "evil" }))
	if get(b, "/t/oakhill/provider/evil"); w.problem != oidcrp.Down {
		t.Errorf("a description of another issuer: %q", w.problem)
	}
}

// TestDown: a provider that does not answer costs nobody anything, and is asked
// again later.
func TestDown(t *testing.T) {
	w, l := newWorld(t), newLiar(t)
	v := l.provider(nil)
	l.Close()
	w.put(v)
	b := w.browser()
	if w.signIn(b); w.problem != oidcrp.Down || w.next != "/somewhere" || !w.rp.IsDown("oakhill", "school") {
		t.Errorf("%q %q", w.problem, w.next)
	}
	w.clock = errors.New("not set")
	if w.signIn(b); w.problem != oidcrp.Clock {
		t.Errorf("untrusted clock: %q", w.problem)
	}
}

// TestRules: who is let in by which rule.
func TestRules(t *testing.T) {
	for name, c := range map[string]struct {
		rule   func(*oidcrp.Provider)
		claims map[string]any
		want   im.UserID
	}{
		"nobody is made":                {func(v *oidcrp.Provider) { v.Create = false }, nil, ""},
		"domain":                        {func(v *oidcrp.Provider) { v.Domains = []string{"school.example"} }, nil, "u_kim"},
		"another domain":                {func(v *oidcrp.Provider) { v.Domains = []string{"other.example"} }, nil, ""},
		"a domain that ends so":         {func(v *oidcrp.Provider) { v.Domains = []string{"school.example"} }, map[string]any{"email": "kim@evilschool.example"}, ""},
		"address not verified":          {func(v *oidcrp.Provider) { v.Domains = []string{"school.example"} }, map[string]any{"email_verified": false}, ""},
		"verification left out":         {func(v *oidcrp.Provider) { v.Domains = []string{"school.example"} }, map[string]any{"email_verified": nil}, ""},
		"two at signs":                  {func(v *oidcrp.Provider) { v.Domains = []string{"school.example"} }, map[string]any{"email": "x@school.example@evil.example"}, ""},
		"the name of somebody here":     {nil, map[string]any{"preferred_username": "bob"}, ""},
		"the name, and a rule":          {func(v *oidcrp.Provider) { v.Link = "preferred_username" }, map[string]any{"preferred_username": "bob"}, "u_bob"},
		"the address, and a rule":       {func(v *oidcrp.Provider) { v.Link, v.Domains = oidcrp.LinkEmail, []string{"school.example"} }, map[string]any{"email": "Bob@school.example"}, "u_bob"},
		"the address, not verified":     {func(v *oidcrp.Provider) { v.Link, v.Domains = oidcrp.LinkEmail, []string{"school.example"} }, map[string]any{"email": "bob@school.example", "email_verified": false}, ""},
		"the address elsewhere":         {func(v *oidcrp.Provider) { v.Link, v.Domains = oidcrp.LinkEmail, []string{"school.example"} }, map[string]any{"email": "bob@evil.example"}, ""},
		"an owner's name, and a rule":   {func(v *oidcrp.Provider) { v.Link = "preferred_username" }, map[string]any{"preferred_username": "ann"}, ""},
		"the rule's claim is no text":   {func(v *oidcrp.Provider) { v.Link = "uid" }, map[string]any{"uid": []string{"bob"}, "preferred_username": "bob"}, ""},
		"no name to make an account of": {nil, map[string]any{"preferred_username": nil, "email": nil}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w, l := newWorld(t), newLiar(t)
			l.claims = c.claims
			w.put(l.provider(c.rule))
			if w.signIn(w.browser()); w.entered != c.want {
				t.Errorf("entered %q (%s), want %q", w.entered, w.problem, c.want)
			}
		})
	}
}

// TestLinking: somebody who is signed in links, by a form of an own page only.
func TestLinking(t *testing.T) {
	w, l := newWorld(t), newLiar(t)
	w.put(l.provider(func(v *oidcrp.Provider) { v.Create = false }))
	w.in = "u_ann"
	var asked struct{ Location string }
	link := func(b *http.Client, origin string, header ...string) int {
		t.Helper()
		req, err := http.NewRequest("POST", w.srv.URL+"/t/oakhill/provider/school", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", origin)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := b.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		asked.Location = ""
		if res.Header.Get("Content-Type") == "application/json" {
			if err := json.NewDecoder(res.Body).Decode(&asked); err != nil {
				t.Error(err)
			}
		}
		return res.StatusCode
	}
	b := w.browser()
	if s := link(b, "https://evil.example"); s != http.StatusForbidden || w.problem != oidcrp.Foreign {
		t.Errorf("from another page: %d %q", s, w.problem)
	}
	w.in = ""
	if s := link(b, w.srv.URL); s != http.StatusUnauthorized || w.problem != oidcrp.First {
		t.Errorf("by nobody: %d %q", s, w.problem)
	}
	if res, err := b.Get(w.srv.URL + "/t/oakhill/provider/nothing"); err != nil || res.Body.Close() != nil || res.StatusCode != http.StatusNotFound || w.problem != oidcrp.NoProvider {
		t.Errorf("a provider that is not there: %v %v %q", res, err, w.problem)
	}
	w.in = "u_ann"
	link(b, w.srv.URL)
	w.in = ""
	if w.signIn(w.browser()); w.entered != "u_ann" {
		t.Errorf("after linking: %q %q", w.entered, w.problem)
	}
	// The person sees the link, and others see none.
	for u, n := range map[im.UserID]int{"u_ann": 1, "u_bob": 0} {
		if links, err := w.rp.Links(t.Context(), "oakhill", u); err != nil || len(links) != n || n == 1 && (links[0].Provider != "school" || links[0].By != "self") {
			t.Errorf("links of %s: %+v, %v", u, links, err)
		}
	}
	// Somebody else can't take it over, nor take it away.
	if err := w.rp.Unlink(t.Context(), "oakhill", "u_bob", "school"); !im.Is(err, im.NotFound) {
		t.Errorf("bob unlinks what is ann's: %v", err)
	}
	w.in, w.problem = "u_bob", ""
	if link(b, w.srv.URL); w.problem != oidcrp.Taken {
		t.Errorf("a second person links the same account: %q", w.problem)
	}
	// Unlinked, it leads in no more; linked by a script, it does again.
	if err := w.rp.Unlink(t.Context(), "oakhill", "u_ann", "school"); err != nil {
		t.Error(err)
	}
	w.in = ""
	if w.signIn(w.browser()); w.entered != "" {
		t.Errorf("after unlinking: %q", w.entered)
	}
	w.in = "u_ann"
	if s := link(b, w.srv.URL, "Accept", "application/json"); s != http.StatusOK {
		t.Errorf("a script is answered %d", s)
	}
	if res, err := b.Get(asked.Location); err != nil {
		t.Error(err)
	} else {
		res.Body.Close()
	}
	w.in = ""
	if w.signIn(w.browser()); w.entered != "u_ann" {
		t.Errorf("after linking by a script: %q %q", w.entered, w.problem)
	}
	// With another issuer under the same id, links are gone.
	l2 := newLiar(t)
	w.put(l2.provider(func(v *oidcrp.Provider) { v.Create = false }))
	w.in = ""
	if w.signIn(w.browser()); w.entered != "" {
		t.Errorf("another issuer's 1234 is let in as %q", w.entered)
	}
}

// TestPut: what can't be registered.
func TestPut(t *testing.T) {
	w := newWorld(t)
	good := oidcrp.Provider{ID: "a", Name: "A", Issuer: "https://a.example", ClientID: "x"}
	for field, change := range map[string]func(*oidcrp.Provider){
		"id":        func(v *oidcrp.Provider) { v.ID = "A b" },
		"name":      func(v *oidcrp.Provider) { v.Name = "" },
		"issuer":    func(v *oidcrp.Provider) { v.Issuer = "http://a.example" },
		"client_id": func(v *oidcrp.Provider) { v.ClientID = "" },
		"domains":   func(v *oidcrp.Provider) { v.Link = oidcrp.LinkEmail },
		"role":      func(v *oidcrp.Provider) { v.Roles = map[string]string{"x": "owner"} },
	} {
		v := good
		change(&v)
		_, err := w.rp.Put(context.Background(), "oakhill", v)
		var e *im.Error
		if !errors.As(err, &e) || e.Kind != im.Invalid || e.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	v := good
	v.ClientSecret = "s"
	w.put(v)
	w.put(good) // the secret stays
	list, err := w.rp.Providers(context.Background(), "oakhill")
	if err != nil || len(list) != 1 || list[0].ClientSecret != "s" {
		t.Errorf("%+v %v", list, err)
	}
	if err := w.rp.Remove(context.Background(), "oakhill", "a"); err != nil {
		t.Error(err)
	}
	if err := w.rp.Remove(context.Background(), "oakhill", "a"); !im.Is(err, im.NotFound) {
		t.Error(err)
	}
	if strings.Contains(w.problem, "s3cret") {
		t.Error("secret shown")
	}
}
