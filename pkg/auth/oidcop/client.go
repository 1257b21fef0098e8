package oidcop

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// The kinds of clients: what a program is decides how it proves itself and where
// its codes may go.
const (
	// Web runs on a server and keeps a secret.
	Web = "web"
	// Browser is a page in a browser: no secret, redirects to https or loopback.
	Browser = "browser"
	// Native runs on a person's device: no secret; it may redirect to any port of a
	// loopback address that it registered (RFC 8252 §7.3), or to a scheme of its own
	// that has a dot (§7.1). It may use the device grant.
	Native = "native"
	// Device has no browser: the device grant alone (RFC 8628).
	Device = "device"
)

// Kinds lists the kinds of clients.
func Kinds() []string { return []string{Web, Browser, Native, Device} }

// The scopes that exist. Chat lets a program read and write as the person; Admin is
// Chat and the administration that the person's role allows.
const (
	ScopeChat  = "chat"
	ScopeAdmin = "admin"
)

// Scopes lists the scopes that a client may be allowed.
func Scopes() []string {
	return []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail, oidc.ScopeOfflineAccess, ScopeChat, ScopeAdmin}
}

// CLI is the client of `pipit login`, which every tenant has without registering
// it. Each sign-in asks for consent.
const CLI = "pipit-cli"

// Client is a program that signs people in through this box.
type Client struct {
	ID           string   `json:"id"`   // [a-z0-9_-]{1,40}
	Name         string   `json:"name"` // for people, 1–120 characters
	Kind         string   `json:"kind"`
	RedirectURIs []string `json:"redirect_uris,omitempty"`
	LogoutURIs   []string `json:"logout_uris,omitempty"`
	Scopes       []string `json:"scopes"`
	// Alg signs its id_tokens: ES256, or RS256 for programs that know nothing else.
	Alg string `json:"alg"`
	// Trusted programs belong to the organisation: people are not asked whether they
	// agree.
	Trusted bool `json:"trusted,omitempty"`
	// Introspect lets it ask about tokens of other clients, as a service does that is
	// called with them (RFC 7662). It needs a secret.
	Introspect bool      `json:"introspect,omitempty"`
	Created    im.Millis `json:"created"`
	// Secret is the SHA-256 of a secret of 256 random bits; nil without one.
	Secret []byte `json:"secret,omitempty"`
}

// maxClients bounds the clients of a tenant, maxURIs and maxURIBytes their lists.
const (
	maxClients  = 200
	maxURIs     = 20
	maxURIBytes = 1000
)

var clientID = regexp.MustCompile(`^[a-z0-9_-]{1,40}$`)

// AddClient registers a client and returns it as it is kept, with its secret if its
// kind has one: it can't be shown again. ID and Scopes may be empty: then an id is
// drawn, and the scopes are openid, profile and email. Errors: im.Invalid with a
// field, im.Exists, and those of the store.
func (p *Provider) AddClient(ctx context.Context, t im.TenantID, c Client) (_ Client, secret string, _ error) {
	if c.ID == "" {
		c.ID = strings.ToLower(randomID(10))
	}
	if len(c.Scopes) == 0 {
		c.Scopes = []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail}
	}
	if c.Alg == "" {
		c.Alg = string(defaultAlg)
	}
	if err := checkClient(&c); err != nil {
		return Client{}, "", err
	}
	c.Created, c.Secret = im.Millis(p.box.Now().UnixMilli()), nil
	if c.Kind == Web {
		secret = randomText(32)
		sum := sha256.Sum256([]byte(secret))
		c.Secret = sum[:]
	}
	value, err := json.Marshal(c)
	if err != nil {
		return Client{}, "", im.Wrap("oidcop: encode a client", err)
	}
	err = p.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		all, err := tx.List(store.RecordOIDCClient, "", "", maxClients+1)
		if err != nil {
			return err
		}
		if len(all) >= maxClients {
			return im.E(im.TooLarge, "An organisation has at most %d programs that sign people in.", maxClients)
		}
		if _, err := tx.Get(store.RecordOIDCClient, c.ID); !im.Is(err, im.NotFound) {
			if err != nil {
				return err
			}
			return im.E(im.Exists, "There is a client with this id already. Choose another, or remove that one first.").OnField("id")
		}
		tx.Put(store.RecordOIDCClient, c.ID, value)
		return nil
	})
	if err != nil {
		return Client{}, "", im.Wrap("oidcop: add a client to "+string(t), err)
	}
	p.log.Info("client added", "tenant", string(t), "client", c.ID, "kind", c.Kind)
	return c, secret, nil
}

// RemoveClient forgets a client, what people agreed to for it, and its grants: its
// tokens end at once. im.NotFound if there is none.
func (p *Provider) RemoveClient(ctx context.Context, t im.TenantID, id string) error {
	err := p.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		if _, err := tx.Get(store.RecordOIDCClient, id); err != nil {
			return err
		}
		tx.Delete(store.RecordOIDCClient, id)
		return nil
	})
	if im.Is(err, im.NotFound) {
		return im.E(im.NotFound, "There is no such client.")
	}
	if err != nil {
		return im.Wrap("oidcop: remove a client of "+string(t), err)
	}
	if err := p.forgetConsents(ctx, t, id); err != nil {
		return err
	}
	grants, err := p.grants.ofClient(ctx, t, id)
	if err != nil {
		return err
	}
	for _, g := range grants {
		if err := p.auth.Revoke(ctx, t, g.User, g.ID); err != nil && !im.Is(err, im.NotFound) {
			return err
		}
	}
	p.log.Info("client removed", "tenant", string(t), "client", id, "grants", len(grants))
	return nil
}

// Clients lists the registered clients of a tenant by id.
func (p *Provider) Clients(ctx context.Context, t im.TenantID) ([]Client, error) {
	all, err := p.records.ListRecords(ctx, t, store.RecordOIDCClient, "", "", maxClients+1)
	if err != nil {
		return nil, im.Wrap("oidcop: list the clients of "+string(t), err)
	}
	out := make([]Client, len(all))
	for i, r := range all {
		if err := json.Unmarshal(r.Value, &out[i]); err != nil {
			return nil, im.Wrap("oidcop: read client "+r.ID+" of "+string(t), err)
		}
	}
	return out, nil
}

// client returns one client, im.NotFound if there is none.
func (p *Provider) client(ctx context.Context, t im.TenantID, id string) (Client, error) {
	if id == CLI {
		return Client{ID: CLI, Name: "Pipit command line", Kind: Device, Alg: string(defaultAlg), Scopes: Scopes()}, nil
	}
	if !clientID.MatchString(id) {
		return Client{}, im.E(im.NotFound, "There is no such client.")
	}
	value, err := p.records.Record(ctx, t, store.RecordOIDCClient, id)
	if err != nil {
		return Client{}, err
	}
	var c Client
	if err := json.Unmarshal(value, &c); err != nil {
		return Client{}, im.Wrap("oidcop: read client "+id+" of "+string(t), err)
	}
	return c, nil
}

// checkClient says what is wrong with a client.
func checkClient(c *Client) error {
	switch {
	case !clientID.MatchString(c.ID) || c.ID == CLI:
		return im.E(im.Invalid, "A client id has 1 to 40 characters of a-z, 0-9, _ and -, and is not %s.", CLI).OnField("id")
	case c.Name == "" || utf8.RuneCountInString(c.Name) > im.MaxTitleRunes || !utf8.ValidString(c.Name) || strings.ContainsFunc(c.Name, unicode.IsControl):
		return im.E(im.Invalid, "A client has a name of 1 to %d characters, which people see when they are asked whether they agree.", im.MaxTitleRunes).OnField("name")
	case !slices.Contains(Kinds(), c.Kind):
		return im.E(im.Invalid, "The kind of a client is one of %s.", strings.Join(Kinds(), ", ")).OnField("kind")
	case c.Alg != string(algES256) && c.Alg != string(algRS256):
		return im.E(im.Invalid, "An id_token is signed with ES256 or RS256.").OnField("alg")
	case c.Introspect && c.Kind != Web:
		return im.E(im.Invalid, "Only a client with a secret (kind web) may introspect tokens of others.").OnField("introspect")
	case c.Trusted && c.Kind != Web:
		return im.E(im.Invalid, "Only a client with a secret (kind web) can be trusted without asking: any other program can pretend to be it.").OnField("trusted")
	case c.Kind == Device && len(c.RedirectURIs) > 0:
		return im.E(im.Invalid, "A device has no browser, so it has no redirect address.").OnField("redirect_uris")
	case c.Kind != Device && len(c.RedirectURIs) == 0:
		return im.E(im.Invalid, "Say to which address people are sent back: redirect_uris.").OnField("redirect_uris")
	case len(c.RedirectURIs) > maxURIs || len(c.LogoutURIs) > maxURIs:
		return im.E(im.Invalid, "A client has at most %d addresses of each sort.", maxURIs).OnField("redirect_uris")
	}
	for _, s := range c.Scopes {
		if !slices.Contains(Scopes(), s) {
			return im.E(im.Invalid, "There is no scope %s. The scopes are %s.", printable(s), strings.Join(Scopes(), ", ")).OnField("scopes")
		}
	}
	for _, u := range c.RedirectURIs {
		if err := checkURI(c.Kind, u); err != nil {
			return err.OnField("redirect_uris")
		}
	}
	for _, u := range c.LogoutURIs {
		if err := checkURI(c.Kind, u); err != nil {
			return err.OnField("logout_uris")
		}
	}
	return nil
}

// checkURI says what is wrong with an address to which people are sent back (RFC
// 6749 §3.1.2, RFC 9700 §2.6, RFC 8252 §7).
func checkURI(kind, raw string) *im.Error {
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxURIBytes || u.Scheme == "" || strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '\\' || c == '*' }) {
		return im.E(im.Invalid, "%s is not a whole address. Wildcards are not allowed: name each address.", printable(raw))
	}
	if u.Fragment != "" || strings.Contains(raw, "#") || u.User != nil {
		return im.E(im.Invalid, "%s: an address to be sent back to has no # part and no user name.", printable(raw))
	}
	web := u.Scheme == "http" || u.Scheme == "https"
	if web && (u.Hostname() == "" || u.Opaque != "") {
		return im.E(im.Invalid, "%s has no host.", printable(raw))
	}
	switch {
	case u.Scheme == "https" || web && loopback(u):
		return nil
	case u.Scheme == "http" && kind == Web:
		return nil // a service in the same building; the code is useless without secret and verifier
	case u.Scheme == "http":
		return im.E(im.Invalid, "%s: only a client with a secret (kind web) may be sent back over plain http. Use https, or a loopback address.", printable(raw))
	case kind == Native && strings.Contains(u.Scheme, ".") && u.Host == "":
		return nil
	case kind == Native:
		return im.E(im.Invalid, "%s: a scheme of your own must be a domain that you own, reversed, such as com.example.app:/callback.", printable(raw))
	}
	return im.E(im.Invalid, "%s: use https.", printable(raw))
}

func loopback(u *url.URL) bool {
	return u.Hostname() == "localhost" || net.ParseIP(u.Hostname()).IsLoopback()
}

// mayRedirect tells whether uri is one of the client's, letter by letter; a native
// client's loopback address may have another port (RFC 8252 §7.3), and nothing else
// may differ.
func (c *Client) mayRedirect(uri string) bool { return c.matches(c.RedirectURIs, uri) }

func (c *Client) matches(registered []string, uri string) bool {
	if slices.Contains(registered, uri) {
		return true
	}
	if c.Kind != Native {
		return false
	}
	got, err := url.Parse(uri)
	if err != nil || got.Scheme != "http" || !loopback(got) || got.Port() == "" {
		return false
	}
	for _, r := range registered {
		want, err := url.Parse(r)
		if err != nil || !loopback(want) {
			continue
		}
		// The text with the port taken out must be the same, so that no other part is
		// read in two ways.
		if strings.Replace(uri, ":"+got.Port(), "", 1) == strings.Replace(r, portOf(want), "", 1) && want.Hostname() == got.Hostname() {
			return true
		}
	}
	return false
}

func portOf(u *url.URL) string {
	if u.Port() == "" {
		return ""
	}
	return ":" + u.Port()
}

// secretIs compares a secret in constant time.
func (c *Client) secretIs(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return len(c.Secret) == len(sum) && subtle.ConstantTimeCompare(sum[:], c.Secret) == 1
}

// libClient shows a Client to the library.
type libClient struct{ *Client }

var _ op.Client = libClient{}

// GetID and what follows implement op.Client.
func (c libClient) GetID() string                    { return c.ID }
func (c libClient) RedirectURIs() []string           { return c.Client.RedirectURIs }
func (c libClient) PostLogoutRedirectURIs() []string { return c.LogoutURIs }
func (c libClient) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}
func (c libClient) LoginURL(string) string              { return "" } // people are sent by authorize itself
func (c libClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }
func (c libClient) IDTokenLifetime() time.Duration      { return idTokenLife }
func (c libClient) DevMode() bool                       { return true } // addresses are judged by checkURI and mayRedirect
func (c libClient) IsScopeAllowed(s string) bool        { return slices.Contains(c.Scopes, s) }
func (c libClient) IDTokenUserinfoClaimsAssertion() bool {
	return true
}
func (c libClient) ClockSkew() time.Duration { return 0 }

// ApplicationType implements op.Client.
func (c libClient) ApplicationType() op.ApplicationType {
	switch c.Kind {
	case Web:
		return op.ApplicationTypeWeb
	case Browser:
		return op.ApplicationTypeUserAgent
	}
	return op.ApplicationTypeNative
}

// AuthMethod implements op.Client. A secret may come either way (RFC 6749 §2.3.1).
func (c libClient) AuthMethod() oidc.AuthMethod {
	if c.Kind == Web {
		return oidc.AuthMethodBasic
	}
	return oidc.AuthMethodNone
}

// GrantTypes implements op.Client.
func (c libClient) GrantTypes() []oidc.GrantType {
	switch c.Kind {
	case Device:
		return []oidc.GrantType{oidc.GrantTypeDeviceCode, oidc.GrantTypeRefreshToken}
	case Native:
		return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeDeviceCode}
	}
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken}
}

// RestrictAdditionalIdTokenScopes implements op.Client.
func (c libClient) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}

// RestrictAdditionalAccessTokenScopes implements op.Client.
func (c libClient) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func(s []string) []string { return s }
}

// randomText draws n bytes as base64url.
func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}
