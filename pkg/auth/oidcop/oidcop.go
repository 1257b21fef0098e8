// Package oidcop is the OpenID provider of the box: other programs in the building
// sign people in through it, and programs act in somebody's name with tokens of a
// stated scope. It also serves the pages on which people sign in, agree and sign
// out, as plain HTML that needs no script.
//
// Every tenant has an issuer of its own, SCHEME://HOST/t/TENANT, made from the host
// that was asked; so the provider works under every name that points to the box,
// and without a network. What it speaks: OpenID Connect Core and Discovery, OAuth 2
// with the rules of RFC 9700 (SECURITY.md says for each where it is kept), PKCE
// (RFC 7636, S256 for everybody), RFC 9207, 7009, 7662, 8252, 8414 and 8628. Parsing,
// client authentication and id_tokens come from github.com/zitadel/oidc.
//
// It owns clients, consents, grants and signing keys, kept as store.Records, and
// codes that wait to be exchanged, in memory: a restart makes people begin again.
// An authorization request is not kept at all; it stays in the address until
// somebody who is signed in has agreed. So who is not signed in fills no memory,
// but for device codes, which are few and bounded.
//
// A grant is a sign-in that a person made for a program: Grants shows it to auth
// among the others, so that tokens of scope chat are judged by auth.Verify like any,
// and signing out everywhere, disabling a user or suspending a tenant ends grants
// too. Grants last as long as their lifetime in running time of the box. An id_token
// is given out only while Options.TrustedClock says that the time is right.
//
// It never judges a password (auth does), never decides what a role may do, and
// never logs a code, a token, a secret or what was typed.
//
// Concurrency: all methods are safe for concurrent use and may block on the store,
// so none is called on an event loop. It starts no goroutine.
package oidcop

import (
	"context"
	"crypto/cipher"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// How long things last, in running time of the box.
const (
	codeLife    = time.Minute      // of an authorization code
	replayLife  = 10 * time.Minute // how long a code that was used is remembered
	deviceLife  = 10 * time.Minute // of a device code
	devicePoll  = 5 * time.Second  // between two questions of a device
	accessLife  = time.Hour        // of an access token
	idTokenLife = time.Hour
	idleLife    = 30 * 24 * time.Hour  // of a grant with a refresh token that is not used
	grantLife   = 180 * 24 * time.Hour // of a grant with a refresh token at most
	keyLife     = 90 * 24 * time.Hour  // a key signs
	keyShown    = 30 * 24 * time.Hour  // and is published after that, for id_token_hint
)

// Users is what is asked about people; directory.Directory is one.
type Users interface {
	User(t im.TenantID, id im.UserID) (*im.User, bool)
	Tenant(t im.TenantID) (im.Tenant, bool)
	// ByUsername folds the name as the directory does.
	ByUsername(t im.TenantID, name string) (*im.User, bool)
	OnlyTenant() (im.TenantID, bool)
}

// Profile is what a program may learn of a person beside name and role.
type Profile struct {
	Email         string // "" if none is known
	EmailVerified bool
	Classes       []string // titles
}

// External is a provider of the customer's that people may sign in through.
type External struct {
	ID, Name string
	// Down says that it did not answer lately; it is shown, but not offered first.
	Down bool
}

// Options are what a Provider is made of. Auth, Grants, Users, Records and Box are
// required.
type Options struct {
	Auth    *auth.Auth
	Grants  *Grants // the one that Auth has as its Tokens
	Users   Users
	Records store.Records
	Box     store.Box
	// Profile is asked for claims. Nil: there are none beyond im.User.
	Profile func(ctx context.Context, t im.TenantID, u im.UserID) (Profile, error)
	// Externals lists a tenant's external providers for the sign-in page. The link of
	// each is /t/TENANT/provider/ID. Nil: none.
	Externals func(ctx context.Context, t im.TenantID) []External
	// Via returns the id of the external provider through which a browser signed in
	// last, "" if through none; who signed out is shown the way to sign out there too,
	// at /t/TENANT/provider/ID/logout. Nil: none.
	Via func(r *http.Request) string
	// Tenant returns the tenant that a host name selects, for /signin without one.
	// Nil: the only one.
	Tenant func(host string) (im.TenantID, bool)
	// TrustedClock returns why the time can't be relied on, for people, or nil. Nil:
	// it can.
	TrustedClock func() error
	// Audit is told of sign-ins on the pages, of consents and of grants. Nil: nobody is.
	Audit auth.Audit
	Log   *slog.Logger // nil: nothing is logged
}

// Provider serves the issuers of all tenants.
type Provider struct {
	auth      *auth.Auth
	grants    *Grants
	users     Users
	records   store.Records
	box       store.Box
	profile   func(context.Context, im.TenantID, im.UserID) (Profile, error)
	externals func(context.Context, im.TenantID) []External
	via       func(*http.Request) string
	tenant    func(host string) (im.TenantID, bool)
	trusted   func() error
	audit     auth.Audit
	log       *slog.Logger

	lib     *op.Provider
	keys    keyring
	codes   *shelf[code]
	devices *shelf[device]
	tries   *shelf[int] // device codes that a person typed
	fresh   [32]byte    // signs reauthentication marks; a new one at each start
	sealer  cipher.AEAD // seals what pages carry; its key too
}

// New makes a Provider.
func New(o Options) (*Provider, error) {
	p := &Provider{
		auth: o.Auth, grants: o.Grants, users: o.Users, records: o.Records, box: o.Box,
		profile: o.Profile, externals: o.Externals, via: o.Via, tenant: o.Tenant, trusted: o.TrustedClock, audit: o.Audit, log: o.Log,
	}
	if p.profile == nil {
		p.profile = func(context.Context, im.TenantID, im.UserID) (Profile, error) { return Profile{}, nil }
	}
	if p.externals == nil {
		p.externals = func(context.Context, im.TenantID) []External { return nil }
	}
	if p.via == nil {
		p.via = func(*http.Request) string { return "" }
	}
	if p.tenant == nil {
		p.tenant = func(string) (im.TenantID, bool) { return "", false }
	}
	if p.trusted == nil {
		p.trusted = func() error { return nil }
	}
	if p.audit == nil {
		p.audit = func(context.Context, im.TenantID, auth.Event) {}
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	rand.Read(p.fresh[:])
	p.codes = newShelf[code](o.Box.Age, replayLife, 20_000)
	p.devices = newShelf[device](o.Box.Age, deviceLife, 1_000)
	p.tries = newShelf[int](o.Box.Age, 10*time.Minute, 10_000)
	p.keys = keyring{records: o.Records, age: o.Box.Age}
	var err error
	if p.sealer, err = newSealer(); err != nil {
		return nil, im.Wrap("oidcop: make a key", err)
	}
	p.lib, err = newLibrary(p)
	return p, im.Wrap("oidcop: set up the library", err)
}

// Routes adds everything that is served to mux.
func (p *Provider) Routes(mux *http.ServeMux) {
	const t = "/t/{tenant}"
	mux.HandleFunc("GET "+t+"/.well-known/openid-configuration", p.open(p.discovery))
	mux.HandleFunc("GET /.well-known/openid-configuration"+t, p.open(p.discovery))
	mux.HandleFunc("GET /.well-known/oauth-authorization-server"+t, p.open(p.discovery)) // RFC 8414 §3.1
	mux.HandleFunc("GET "+t+pathKeys, p.open(p.jwks))
	mux.HandleFunc("POST "+t+pathToken, p.open(formOnly(p.token)))
	mux.HandleFunc("POST "+t+pathRevoke, p.open(formOnly(p.revoke)))
	mux.HandleFunc("POST "+t+pathIntrospect, p.open(formOnly(p.introspect)))
	mux.HandleFunc("POST "+t+pathDevice, p.open(formOnly(p.deviceAuthorization)))
	for _, m := range []string{"GET ", "POST "} {
		mux.HandleFunc(m+t+pathUserinfo, p.open(p.userinfo))
		mux.HandleFunc(m+t+pathAuthorize, p.page(p.authorize))
		mux.HandleFunc(m+t+pathLogout, p.page(p.endSession))
		mux.HandleFunc(m+t+pathSignIn, p.page(p.signIn))
		mux.HandleFunc(m+t+pathSignOut, p.page(p.signOut))
		mux.HandleFunc(m+t+pathDevicePage, p.page(p.devicePage))
	}
	for _, path := range []string{pathToken, pathKeys, pathUserinfo, "/.well-known/openid-configuration", pathRevoke, pathDevice} {
		mux.HandleFunc("OPTIONS "+t+path, p.open(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	}
	mux.HandleFunc("GET /signin", p.anyTenant(pathSignIn))
	mux.HandleFunc("GET /signout", p.anyTenant(pathSignOut))
	mux.HandleFunc("GET /device", p.anyTenant(pathDevicePage))
	mux.HandleFunc("GET "+stylePath, serveStyle)
}

// The addresses, below /t/TENANT.
const (
	pathAuthorize  = "/oauth/authorize"
	pathToken      = "/oauth/token"
	pathIntrospect = "/oauth/introspect"
	pathRevoke     = "/oauth/revoke"
	pathUserinfo   = "/oauth/userinfo"
	pathKeys       = "/oauth/keys"
	pathDevice     = "/oauth/device_authorization"
	pathLogout     = "/oauth/logout"
	pathSignIn     = "/signin"
	pathSignOut    = "/signout"
	pathDevicePage = "/device"
)

type tenantKey struct{}

// tenantOf returns the tenant that the address names; open put it there.
func tenantOf(ctx context.Context) im.TenantID {
	t, _ := ctx.Value(tenantKey{}).(im.TenantID)
	return t
}

type addrKey struct{}

// addrOf returns where the request comes from; enter put it there.
func addrOf(ctx context.Context) netip.Addr {
	a, _ := ctx.Value(addrKey{}).(netip.Addr)
	return a
}

// issuerOf is the issuer as the client that sent r sees it (RFC 8414 §2).
func issuerOf(r *http.Request, t im.TenantID) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + strings.ToLower(r.Host) + "/t/" + string(t)
}

// enter finds the tenant of a request; ok is false for one that does not exist or
// is suspended, the same for both.
func (p *Provider) enter(r *http.Request) (*http.Request, bool) {
	t := im.TenantID(r.PathValue("tenant"))
	ten, ok := p.users.Tenant(t)
	if !ok || ten.Suspended || !validHost(r.Host) {
		return r, false
	}
	ctx := context.WithValue(context.WithValue(r.Context(), tenantKey{}, t), addrKey{}, remoteAddr(r))
	return r.WithContext(op.ContextWithIssuer(ctx, issuerOf(r, t))), true
}

// validHost refuses what can't be the host of an issuer (RFC 3986 §3.2.2).
func validHost(host string) bool {
	return host != "" && len(host) <= 260 && !strings.ContainsFunc(host, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-_:[]", c))
	})
}

// open wraps an endpoint that programs call, also from other origins: it takes no
// cookie, so any page may call it with what it has in hand.
func (p *Provider) open(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Pragma", "no-cache") // RFC 6749 §5.1
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, POST")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
			h.Set("Access-Control-Max-Age", "3600")
		}
		r, ok := p.enter(r)
		if !ok {
			writeError(w, http.StatusNotFound, "invalid_request", "There is no such organisation on this server.")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		next(w, r)
	}
}

// formOnly refuses secrets in addresses, where logs would keep them, and a
// parameter that comes twice (RFC 6749 §3.2).
func formOnly(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery != "" {
			writeError(w, http.StatusBadRequest, "invalid_request", "Parameters belong into the body, not into the address.")
			return
		}
		if err := r.ParseForm(); err != nil {
			writeError(w, http.StatusBadRequest, "invalid_request", "The body is not a form.")
			return
		}
		for name, values := range r.PostForm {
			if len(values) > 1 {
				writeError(w, http.StatusBadRequest, "invalid_request", "The parameter "+printable(name)+" comes twice.")
				return
			}
		}
		next(w, r)
	}
}

// printable keeps what RFC 6749 §5.2 allows in a description.
func printable(s string) string {
	if len(s) > 60 {
		s = s[:60]
	}
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return '?'
		}
		return c
	}, s)
}
