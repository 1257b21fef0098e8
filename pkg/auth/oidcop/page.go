package oidcop

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"sort"
	"strings"

	"github.com/zitadel/oidc/v3/pkg/oidc"
)

//go:embed pages
var files embed.FS

var (
	templates = template.Must(template.New("").Funcs(template.FuncMap{"list": func(s ...string) []string { return s }}).ParseFS(files, "pages/*.html"))
	style     = styleSheet()
	stylePath = "/signin/" + hashOf(style)[:12] + ".css"
)

// styleSheet is the tokens of the design and what the pages add.
func styleSheet() []byte {
	tokens, _ := files.ReadFile("pages/tokens.css")
	own, _ := files.ReadFile("pages/pages.css")
	return append(append(tokens, '\n'), own...)
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// serveStyle serves the one style sheet; its name changes with it.
func serveStyle(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(style) // a peer that went away is nobody's fault
}

// page wraps a handler that people see: headers, tenant, form.
func (p *Provider) page(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r, ok := p.enter(r)
		if !ok {
			p.showError(w, r, http.StatusNotFound, textNoTenant)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		if err := r.ParseForm(); err != nil {
			p.showError(w, r, http.StatusBadRequest, textForm)
			return
		}
		next(w, r)
	}
}

// frame is what every page has.
type frame struct {
	Lang, Title, Style, Tenant string
	T                          func(string) string
	N                          func(string, ...string) template.HTML // T with names in it
	V                          any
}

// show renders a page. No script runs on it, nothing is loaded from elsewhere, and
// no other page may frame it. targets are the origins to which its forms may lead,
// over redirects too.
func (p *Provider) show(w http.ResponseWriter, r *http.Request, status int, name, title string, view any, targets ...string) {
	lang := languageOf(r)
	f := frame{Lang: lang, Style: stylePath, V: view, T: func(key string) string { return text(lang, key) },
		N: func(key string, names ...string) template.HTML { return textOf(lang, key, names...) }}
	f.Title = f.T(title)
	if t, ok := p.users.Tenant(tenantOf(r.Context())); ok {
		f.Tenant = t.Name
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, f); err != nil {
		p.log.Error("page not rendered", "page", name, "error", err)
		http.Error(w, "Something went wrong on the server.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang)
	h.Set("Vary", "Accept-Language, Cookie")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action "+
		strings.Join(append([]string{"'self'"}, targets...), " "))
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: with it a browser sends "Origin: null" with a form.
	h.Set("Referrer-Policy", "same-origin")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a peer that went away is nobody's fault
}

type messageView struct {
	Text, More, Link, LinkText string
	// There is where one signs out at At, the provider that one came through.
	There, At string
}

func (p *Provider) showError(w http.ResponseWriter, r *http.Request, status int, key string) {
	p.show(w, r, status, "message.html", textErrorTitle, messageView{Text: key})
}

func (p *Provider) showDone(w http.ResponseWriter, r *http.Request, key, more string) {
	view := messageView{Text: key, More: more}
	if key == textSignedOut {
		view.Link, view.LinkText = p.path(r, pathSignIn), textSignInAgain
		for _, e := range p.externals(r.Context(), tenantOf(r.Context())) {
			if e.ID == p.via(r) {
				view.There, view.At = p.path(r, "/provider/"+url.PathEscape(e.ID)+"/logout"), e.Name
			}
		}
	}
	p.show(w, r, http.StatusOK, "message.html", key, view)
}

// signInView is the sign-in page; Step says what it asks for.
type signInView struct {
	Step     string // "" password, a challenge of auth, or stepRecovery
	Action   string
	Next     string
	Username string
	Keep     bool
	State    string // sealed, of the steps after the first
	Problem  string
	Wait     string       // seconds, with textWait
	Name     string       // of an external provider, before Problem
	QR       template.URL // data: picture of Secret, at totp_setup
	Secret   string
	Recovery []string // codes to keep, at stepRecovery

	Externals []externalView
}

// stepRecovery shows the recovery codes of a second factor that was just set up.
const stepRecovery = "recovery"

type externalView struct {
	Name, Link string
	Down       bool
}

func (p *Provider) showSignIn(w http.ResponseWriter, r *http.Request, next string, v signInView) {
	v.Action, v.Next = p.path(r, pathSignIn), next
	if v.Step == "" {
		for _, e := range p.externals(r.Context(), tenantOf(r.Context())) {
			v.Externals = append(v.Externals, externalView{Name: e.Name, Down: e.Down,
				Link: p.path(r, "/provider/"+url.PathEscape(e.ID)) + "?" + url.Values{"next": {next}}.Encode()})
		}
		sort.SliceStable(v.Externals, func(i, j int) bool { return !v.Externals[i].Down && v.Externals[j].Down })
	}
	status := http.StatusOK
	if v.Problem != "" {
		status = http.StatusUnauthorized
		if v.Problem == textWait {
			status = http.StatusTooManyRequests
		}
	}
	p.show(w, r, status, "signin.html", textSignIn, v, p.targetsOf(r, next)...)
}

// targetsOf returns where a sign-in may lead besides this server: to the program
// that asked for it. A browser follows form-action over redirects.
func (p *Provider) targetsOf(r *http.Request, next string) []string {
	u, err := url.Parse(next)
	if err != nil || u.Path != p.path(r, pathAuthorize) {
		return nil
	}
	c, err := p.client(r.Context(), tenantOf(r.Context()), u.Query().Get("client_id"))
	if err != nil || !c.mayRedirect(u.Query().Get("redirect_uri")) {
		return nil
	}
	return originOf(u.Query().Get("redirect_uri"))
}

// originOf is a CSP source for an address that was registered, so it holds nothing
// that ends a source.
func originOf(raw string) []string {
	u, err := url.Parse(raw)
	if err != nil || strings.ContainsAny(u.Host, " ;,'\"") {
		return nil
	}
	if u.Host == "" {
		return []string{u.Scheme + ":"}
	}
	return []string{u.Scheme + "://" + u.Host}
}

type consentView struct {
	Client, User, Username, Action, Code, Switch, Host string
	Scopes                                             []string // texts
	Hidden                                             []field
}

type field struct{ Name, Value string }

func fieldsOf(form url.Values) []field {
	var out []field
	for k, v := range form {
		if len(v) > 0 {
			out = append(out, field{k, v[0]})
		}
	}
	slices.SortFunc(out, func(a, b field) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (p *Provider) showConsent(w http.ResponseWriter, r *http.Request, a ask, s session, form url.Values) {
	again := url.Values{}
	for k, v := range form {
		again[k] = v
	}
	again.Set("prompt", oidc.PromptLogin)
	again.Del(freshParam)
	v := consentView{Client: a.client.Name, User: s.user.Name, Username: s.user.Username, Action: p.path(r, pathAuthorize),
		Switch: p.path(r, pathAuthorize) + "?" + again.Encode(), Scopes: scopeTexts(a.scopes), Hidden: fieldsOf(form)}
	if u, err := url.Parse(a.RedirectURI); err == nil {
		v.Host = u.Host
	}
	p.show(w, r, http.StatusOK, "consent.html", textConsent, v, originOf(a.RedirectURI)...)
}

// scopeTexts says what scopes mean, the weightiest first.
func scopeTexts(scopes []string) []string {
	var out []string
	for _, s := range []string{ScopeAdmin, ScopeChat, oidc.ScopeProfile, oidc.ScopeEmail, oidc.ScopeOpenID, oidc.ScopeOfflineAccess} {
		if slices.Contains(scopes, s) && !(s == ScopeChat && slices.Contains(scopes, ScopeAdmin)) &&
			!(s == oidc.ScopeOpenID && slices.Contains(scopes, oidc.ScopeProfile)) {
			out = append(out, "scope_"+s)
		}
	}
	return out
}

type deviceView struct{ Action, Code, Problem, User, Username string }

func (p *Provider) showDevice(w http.ResponseWriter, r *http.Request, s session, code, problem string) {
	status := http.StatusOK
	if problem == textTooOften {
		status = http.StatusTooManyRequests
	}
	if c := normalCode(code); c != "" {
		code = c
	}
	p.show(w, r, status, "device.html", textDevice, deviceView{p.path(r, pathDevicePage), code, problem, s.user.Name, s.user.Username})
}

func (p *Provider) showDeviceConsent(w http.ResponseWriter, r *http.Request, s session, c Client, code string, scopes []string) {
	p.show(w, r, http.StatusOK, "consent.html", textConsent, consentView{Client: c.Name, User: s.user.Name, Username: s.user.Username,
		Action: p.path(r, pathDevicePage), Code: code, Scopes: scopeTexts(scopes), Hidden: []field{{"user_code", code}}})
}

type signOutView struct {
	Action string
	Hidden []field
}

func (p *Provider) showSignOut(w http.ResponseWriter, r *http.Request, action string, form url.Values, target string) {
	var targets []string
	if target != "" {
		targets = originOf(target)
	}
	p.show(w, r, http.StatusOK, "signout.html", textSignOut, signOutView{action, fieldsOf(form)}, targets...)
}

// deviceName is what the list of sign-ins shows for a browser.
func deviceName(r *http.Request) string {
	ua := r.UserAgent()
	browser, system := "", ""
	for _, b := range [][2]string{{"Edg/", "Edge"}, {"MicroMessenger", "WeChat"}, {"HuaweiBrowser", "Huawei"}, {"Firefox/", "Firefox"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"}} {
		if strings.Contains(ua, b[0]) {
			browser = b[1]
			break
		}
	}
	for _, s := range [][2]string{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}} {
		if strings.Contains(ua, s[0]) {
			system = s[1]
			break
		}
	}
	name := strings.TrimSpace(browser + " " + system)
	if name == "" {
		return "Browser"
	}
	return name
}
