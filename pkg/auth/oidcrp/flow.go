package oidcrp

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// flow is a sign-in on its way to a provider and back, sealed in a cookie.
type flow struct {
	Tenant   im.TenantID   `json:"t"`
	Provider string        `json:"p"`
	Issuer   string        `json:"i"`
	State    string        `json:"s"`
	Nonce    string        `json:"n"`
	Verifier string        `json:"v"`
	Next     string        `json:"x"`
	Link     im.UserID     `json:"l,omitempty"` // who links this account, "" at a sign-in
	Age      time.Duration `json:"a"`
}

// The names of the cookie, as for the sign-in's own (PROTOCOL 9.5).
const (
	cookieTLS   = "__Host-pipit-provider"
	cookiePlain = "pipit-provider"
)

func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return cookieTLS
	}
	return cookiePlain
}

func (p *RP) setFlow(w http.ResponseWriter, r *http.Request, f *flow) error {
	c := &http.Cookie{Name: cookieName(r), Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil, MaxAge: -1}
	if f != nil {
		raw, err := json.Marshal(f)
		if err != nil {
			return err
		}
		c.Value, c.MaxAge = base64.RawURLEncoding.EncodeToString(p.sealer.Seal(nil, nil, raw, []byte("flow"))), int(flowLife/time.Second)
	}
	http.SetCookie(w, c)
	return nil
}

func (p *RP) flowOf(r *http.Request) (flow, bool) {
	var f flow
	cookies := r.CookiesNamed(cookieName(r))
	if len(cookies) != 1 {
		return f, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(cookies[0].Value)
	if err == nil {
		raw, err = p.sealer.Open(nil, nil, raw, []byte("flow"))
	}
	if err == nil {
		err = json.Unmarshal(raw, &f)
	}
	return f, err == nil && p.Box.Age()-f.Age < flowLife
}

// enter finds tenant and provider of an address.
func (p *RP) enter(w http.ResponseWriter, r *http.Request) (im.TenantID, Provider, bool) {
	t := im.TenantID(r.PathValue("tenant"))
	ten, ok := p.Users.Tenant(t)
	var v Provider
	err := error(im.E(im.NotFound, "There is no such organisation."))
	if ok && !ten.Suspended {
		v, err = p.provider(r.Context(), t, r.PathValue("id"))
	}
	if err != nil {
		status, text := http.StatusNotFound, NoProvider
		if !im.Is(err, im.NotFound) {
			p.Log.Error("provider not read", "tenant", string(t), "error", err)
			status, text = http.StatusInternalServerError, Fault
		}
		p.Pages.Refuse(w, r, status, text)
		return t, v, false
	}
	return t, v, true
}

// begin sends somebody to a provider.
func (p *RP) begin(w http.ResponseWriter, r *http.Request) {
	if t, v, ok := p.enter(w, r); ok {
		p.start(w, r, t, v, r.URL.Query().Get("next"), "")
	}
}

// beginLink does so to link the account there with the one that is signed in here.
// It takes a form of an own page: else a page could link its own account to
// somebody, and sign in as that person ever after. A script that asks for JSON gets
// the address to go to: the policy of its page lets no form leave this server.
func (p *RP) beginLink(w http.ResponseWriter, r *http.Request) {
	t, v, ok := p.enter(w, r)
	if !ok {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := auth.OwnPage(r); err != nil {
		p.Pages.Refuse(w, r, http.StatusForbidden, Foreign)
		return
	}
	user, in := p.Pages.SignedIn(r)
	if !in {
		p.Pages.Problem(w, r, r.PostFormValue("next"), First, v.Name)
		return
	}
	p.start(w, r, t, v, r.PostFormValue("next"), user)
}

func (p *RP) start(w http.ResponseWriter, r *http.Request, t im.TenantID, v Provider, next string, link im.UserID) {
	if err := p.TrustedClock(); err != nil {
		p.Pages.Problem(w, r, next, Clock, v.Name)
		return
	}
	k, err := p.ask(r.Context(), t, &v)
	if err != nil {
		p.Pages.Problem(w, r, next, Down, v.Name)
		return
	}
	f := &flow{Tenant: t, Provider: v.ID, Issuer: v.Issuer, State: randomText(), Nonce: randomText(), Verifier: oauth2.GenerateVerifier(),
		Next: next, Link: link, Age: p.Box.Age()}
	if err := p.setFlow(w, r, f); err != nil {
		p.Log.Error("flow not sealed", "error", err)
		p.Pages.Problem(w, r, next, Lie, v.Name)
		return
	}
	to := p.oauth(r, t, &v, k).AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier))
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodPost && r.Header.Get("Accept") == "application/json" {
		w.Header().Set("Content-Type", "application/json")
		// A peer that went away is nobody's fault.
		_ = json.NewEncoder(w).Encode(map[string]string{"location": to})
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// oauth is the client that we are to a provider. Each provider has a redirect
// address of its own.
func (p *RP) oauth(r *http.Request, t im.TenantID, v *Provider, k *known) *oauth2.Config {
	e := k.provider.Endpoint()
	// Not detected by trying: a code works once, and a secret is sent where it must.
	e.AuthStyle = oauth2.AuthStyleInHeader
	if v.ClientSecret == "" || len(k.meta.Methods) > 0 && !slices.Contains(k.meta.Methods, "client_secret_basic") {
		e.AuthStyle = oauth2.AuthStyleInParams
	}
	scopes := v.Scopes
	if scopes == nil {
		scopes = []string{"profile", "email"}
	}
	return &oauth2.Config{ClientID: v.ClientID, ClientSecret: v.ClientSecret, Endpoint: e,
		RedirectURL: redirectURL(r, t, v.ID), Scopes: append([]string{oidc.ScopeOpenID}, scopes...)}
}

// redirectURL is the address that an administrator registers at the provider.
func redirectURL(r *http.Request, t im.TenantID, id string) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + strings.ToLower(r.Host) + CallbackPath(t, id)
}

// CallbackPath is the path of that address.
func CallbackPath(t im.TenantID, id string) string { return SignInPath(t, id) + "/callback" }

// SignInPath is where a browser goes to sign in through a provider; a POST links.
func SignInPath(t im.TenantID, id string) string {
	return "/t/" + string(t) + "/provider/" + id
}

// callback takes the answer of a provider.
func (p *RP) callback(w http.ResponseWriter, r *http.Request) {
	t, v, ok := p.enter(w, r)
	if !ok {
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer") // the address has a code in it
	q := r.URL.Query()
	f, ok := p.flowOf(r)
	if err := p.setFlow(w, r, nil); err != nil {
		p.Log.Error("cookie not deleted", "error", err)
	}
	one := func(name string) string {
		if len(q[name]) > 1 {
			return ""
		}
		return q.Get(name)
	}
	if !ok || f.Tenant != t || f.Provider != v.ID || f.Issuer != v.Issuer || subtle.ConstantTimeCompare([]byte(one("state")), []byte(f.State)) != 1 {
		p.Pages.Problem(w, r, "/", Expired, v.Name)
		return
	}
	fail := func(text string, err error) {
		p.Log.Info("sign-in through a provider refused", "tenant", string(t), "provider", v.ID, "why", text, "error", err)
		p.auditRefused(r, t, &v, &f, text)
		p.Pages.Problem(w, r, f.Next, text, v.Name)
	}
	if err := p.TrustedClock(); err != nil {
		fail(Clock, err)
		return
	}
	k, err := p.ask(r.Context(), t, &v)
	if err != nil {
		fail(Down, err)
		return
	}
	// RFC 9207 §2.4, before anything of the answer is used.
	if iss := q["iss"]; len(iss) > 1 || len(iss) == 1 && iss[0] != v.Issuer || len(iss) == 0 && k.meta.ISS {
		fail(Lie, errors.New("the answer comes from another issuer"))
		return
	}
	if q.Has("error") || one("code") == "" {
		fail(Refused, errors.New("the provider answered with an error"))
		return
	}
	who, err := p.identify(r, t, &v, k, &f, one("code"))
	if err != nil {
		text := Lie
		if errors.Is(err, errDown) {
			text = Down
		}
		fail(text, err)
		return
	}
	p.admit(w, r, t, &v, &f, who, fail)
}

// person is somebody whom a provider vouched for.
type person struct {
	Subject  string
	Email    string // verified, else ""
	Name     string
	Username string
	claims   map[string]any
}

// identify exchanges a code and judges what comes.
func (p *RP) identify(r *http.Request, t im.TenantID, v *Provider, k *known, f *flow, code string) (person, error) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*timeout)
	defer cancel()
	ctx = oidc.ClientContext(ctx, p.http)
	conf := p.oauth(r, t, v, k)
	token, err := conf.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		var refused *oauth2.RetrieveError
		if errors.As(err, &refused) { // its text may hold the provider's words; they stay here
			return person{}, fmt.Errorf("the token endpoint refused the code: %s", refused.ErrorCode)
		}
		if errors.Is(err, errRedirect) {
			return person{}, errRedirect
		}
		return person{}, errDown
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return person{}, errors.New("the answer has no id_token")
	}
	verifier := k.provider.VerifierContext(oidc.ClientContext(context.WithoutCancel(ctx), p.http),
		&oidc.Config{ClientID: v.ClientID, SupportedSigningAlgs: algs(k.meta.Algs), Now: p.Box.Now})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		return person{}, fmt.Errorf("the id_token is not good: %w", err)
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return person{}, errors.New("the claims of the id_token can't be read")
	}
	if err := judge(id, claims, v.ClientID, f.Nonce, p.Box.Now()); err != nil {
		return person{}, err
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return person{}, errors.New("the access token is not that of the id_token")
		}
	}
	if err := p.moreClaims(ctx, k, token, id.Subject, claims); err != nil {
		return person{}, err
	}
	return personOf(v, id.Subject, claims), nil
}

// judge looks at what go-oidc leaves to its user (OpenID Connect Core 2, 3.1.3.7).
func judge(id *oidc.IDToken, claims map[string]any, clientID, nonce string, now time.Time) error {
	azp, hasAZP := claims["azp"].(string)
	_, hasIAT := claims["iat"].(float64)
	switch {
	case id.Subject == "" || len(id.Subject) > 255:
		return errors.New("the id_token names nobody")
	case !hasIAT:
		return errors.New("the id_token does not say when it was made")
	case id.IssuedAt.After(now.Add(skew)):
		return errors.New("the id_token was made in the future")
	case now.Sub(id.IssuedAt) > oldest:
		return errors.New("the id_token is old")
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1:
		return errors.New("the id_token is of another sign-in")
	case len(id.Audience) > 1 && !hasAZP, hasAZP && azp != clientID:
		return errors.New("the id_token was made for another program")
	}
	return nil
}

// algs are those of a provider that a public key can check; "none" and shared
// secrets are never among them (RFC 8725 §3.1).
func algs(theirs []string) []string {
	ours := []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}
	if len(theirs) == 0 {
		return []string{oidc.RS256}
	}
	out := slices.DeleteFunc(ours, func(a string) bool { return !slices.Contains(theirs, a) })
	if len(out) == 0 {
		return []string{oidc.RS256}
	}
	return out
}

// moreClaims asks the userinfo endpoint for what the id_token does not say.
func (p *RP) moreClaims(ctx context.Context, k *known, token *oauth2.Token, subject string, claims map[string]any) error {
	_, name := claims["name"]
	_, email := claims["email"]
	if name && email || k.provider.UserInfoEndpoint() == "" || token.AccessToken == "" {
		return nil
	}
	info, err := k.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return nil //nolint:nilerr // the id_token is enough to know who it is
	}
	if info.Subject != subject { // OpenID Connect Core 5.3.2
		return errors.New("the userinfo is of somebody else")
	}
	more := map[string]any{}
	if err := info.Claims(&more); err != nil {
		return nil //nolint:nilerr // as above
	}
	for key, value := range more {
		if _, has := claims[key]; !has {
			claims[key] = value
		}
	}
	return nil
}

// logout sends somebody who signed out here on to the provider's own sign-out.
func (p *RP) logout(w http.ResponseWriter, r *http.Request) {
	t, v, ok := p.enter(w, r)
	if !ok {
		return
	}
	back := strings.TrimSuffix(redirectURL(r, t, v.ID), "/provider/"+v.ID+"/callback") + "/signin"
	http.SetCookie(w, &http.Cookie{Name: ViaCookie, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: r.TLS != nil, MaxAge: -1})
	k, err := p.ask(r.Context(), t, &v)
	if err != nil || k.meta.EndSession == "" {
		http.Redirect(w, r, back, http.StatusSeeOther)
		return
	}
	u, err := url.Parse(k.meta.EndSession)
	if err != nil || u.Host == "" {
		http.Redirect(w, r, back, http.StatusSeeOther)
		return
	}
	q := u.Query()
	q.Set("client_id", v.ClientID)
	q.Set("post_logout_redirect_uri", back)
	u.RawQuery = q.Encode()
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

func randomText() string {
	b := make([]byte, 32)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
