package oidcop

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// code is an authorization code on its way, by its hash. It is bound to client,
// redirect address and PKCE challenge, and used once.
type code struct {
	tenant  im.TenantID
	request codeRequest
	used    bool
	// grant is what it was exchanged for; it ends when the code comes again (RFC 6749
	// §4.1.2). replayed says that it came again before there was a grant.
	grant    im.SignInID
	replayed bool
}

// codeRequest is what was asked for and agreed to; it implements op.AuthRequest.
type codeRequest struct {
	id          string // the code's place on the shelf
	user        im.UserID
	client      string
	redirectURI string
	scopes      []string
	nonce       string
	challenge   string
	authTime    time.Time
	amr         []string
}

var _ op.AuthRequest = (*codeRequest)(nil)

// GetID and what follows implement op.AuthRequest.
func (c *codeRequest) GetID() string          { return c.id }
func (c *codeRequest) GetACR() string         { return "" }
func (c *codeRequest) GetAMR() []string       { return c.amr }
func (c *codeRequest) GetAudience() []string  { return []string{c.client} }
func (c *codeRequest) GetAuthTime() time.Time { return c.authTime }
func (c *codeRequest) GetClientID() string    { return c.client }
func (c *codeRequest) GetNonce() string       { return c.nonce }
func (c *codeRequest) GetRedirectURI() string { return c.redirectURI }
func (c *codeRequest) GetScopes() []string    { return c.scopes }
func (c *codeRequest) GetState() string       { return "" }
func (c *codeRequest) GetSubject() string     { return string(c.user) }
func (c *codeRequest) Done() bool             { return true }
func (c *codeRequest) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: c.challenge, Method: oidc.CodeChallengeMethodS256}
}
func (c *codeRequest) GetResponseType() oidc.ResponseType { return oidc.ResponseTypeCode }
func (c *codeRequest) GetResponseMode() oidc.ResponseMode { return oidc.ResponseModeQuery }

// newCode keeps a request under a new code.
func (p *Provider) newCode(t im.TenantID, r codeRequest) string {
	text := randomText(32)
	r.id = hashID(sha256.Sum256([]byte(text)))
	p.codes.put(r.id, code{tenant: t, request: r})
	return text
}

// takeCode uses a code up. One that was used ends what it was exchanged for:
// somebody has a copy.
func (p *Provider) takeCode(ctx context.Context, text string) (*codeRequest, error) {
	t := tenantOf(ctx)
	var out *codeRequest
	var replayed im.SignInID
	p.codes.with(hashID(sha256.Sum256([]byte(text))), func(c *code, old time.Duration) {
		switch {
		case c.tenant != t || old >= codeLife && !c.used:
		case c.used:
			c.replayed, replayed = true, c.grant
			r := c.request
			out = &r
		default:
			c.used = true
			r := c.request
			out = &r
		}
	})
	if replayed != "" {
		p.log.Info("authorization code came twice, its grant ends", "tenant", string(t), "user", string(out.user), "client", out.client)
		if err := p.auth.Revoke(ctx, t, out.user, replayed); err != nil && !im.Is(err, im.NotFound) {
			return nil, err
		}
		p.auditGrant(ctx, "grant.reuse", grant{ID: replayed, User: out.user, Client: out.client}, "code", nil)
	}
	var again bool
	if out != nil {
		p.codes.with(out.id, func(c *code, _ time.Duration) { again = c.replayed })
	}
	if out == nil || again {
		return nil, errors.New("code unknown, used or expired")
	}
	return out, nil
}

// token is the token endpoint.
func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	var answer *oidc.AccessTokenResponse
	var err error
	switch r.PostForm.Get("grant_type") {
	case string(oidc.GrantTypeCode):
		answer, err = p.exchangeCode(r)
	case string(oidc.GrantTypeRefreshToken):
		answer, err = p.exchangeRefresh(r)
	case string(oidc.GrantTypeDeviceCode):
		answer, err = p.exchangeDevice(r)
	case "":
		err = oidc.ErrInvalidRequest().WithDescription("grant_type is missing.")
	default:
		err = oidc.ErrUnsupportedGrantType().WithDescription("This grant type is not supported.")
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// clientOf says which client sends a request to the token endpoint, after its
// secret was judged. It comes before any code or token is looked at.
func (p *Provider) clientOf(r *http.Request, grant oidc.GrantType) (*Client, error) {
	ctx := r.Context()
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if r.Header.Get("Authorization") != "" {
		basicID, basicSecret, err := basicAuth(r)
		if err != nil {
			return nil, err
		}
		if secret != "" || id != "" && id != basicID {
			return nil, oidc.ErrInvalidRequest().WithDescription("A client proves itself in one way only.")
		}
		id, secret = basicID, basicSecret
	}
	c, err := p.client(ctx, tenantOf(ctx), id)
	if err != nil {
		return nil, libraryError(err, oidc.ErrInvalidClient().WithDescription("There is no such client."))
	}
	if (c.Kind == Web) != c.secretIs(secret) || c.Kind != Web && secret != "" {
		return nil, oidc.ErrInvalidClient().WithDescription("The client or its secret is wrong.")
	}
	if grant != "" && !op.ValidateGrantType(libClient{&c}, grant) {
		return nil, oidc.ErrUnauthorizedClient().WithDescription("This client may not use this grant type.")
	}
	return &c, nil
}

func (p *Provider) exchangeCode(r *http.Request) (*oidc.AccessTokenResponse, error) {
	ctx := r.Context()
	c, err := p.clientOf(r, oidc.GrantTypeCode)
	if err != nil {
		return nil, err
	}
	verifier := r.PostForm.Get("code_verifier")
	if len(verifier) < 43 || len(verifier) > 128 { // RFC 7636 §4.1
		return nil, oidc.ErrInvalidRequest().WithDescription("A code_verifier of 43 to 128 characters is required.")
	}
	request, err := op.ParseAccessTokenRequest(r, p.lib.Decoder())
	if err != nil {
		return nil, err
	}
	// The library looks at code, verifier, client and redirect address.
	valid, _, err := op.ValidateAccessTokenRequest(ctx, request, p.lib)
	if err != nil {
		return nil, err
	}
	cr := valid.(*codeRequest)
	g, answer, err := p.grantFor(r, c, grant{
		User: cr.user, Client: c.ID, ClientName: c.Name, Scopes: cr.scopes,
		AuthTime: im.Millis(cr.authTime.UnixMilli()), AMR: cr.amr,
	}, cr)
	if err != nil {
		return nil, err
	}
	replayed := true
	p.codes.with(cr.id, func(k *code, _ time.Duration) { k.grant, replayed = g.ID, k.replayed })
	if replayed { // by somebody else, meanwhile
		if err := p.auth.Revoke(ctx, tenantOf(ctx), g.User, g.ID); err != nil {
			return nil, oidc.ErrServerError().WithParent(err)
		}
		return nil, oidc.ErrInvalidGrant().WithDescription("The code is unknown, used or expired.")
	}
	return answer, nil
}

// grantFor makes the tokens of a new grant. The person must still be let in.
func (p *Provider) grantFor(r *http.Request, c *Client, g grant, request op.IDTokenRequest) (grant, *oidc.AccessTokenResponse, error) {
	ctx := r.Context()
	t := tenantOf(ctx)
	if u, ok := p.users.User(t, g.User); !ok || u.Disabled {
		return grant{}, nil, oidc.ErrInvalidGrant().WithDescription("This person may not sign in.")
	}
	openID := slices.Contains(g.Scopes, oidc.ScopeOpenID)
	if openID {
		if err := p.clock(); err != nil {
			return grant{}, nil, err
		}
	}
	made, access, refresh, err := p.grants.make(ctx, t, g, offline(g.Scopes))
	if err != nil {
		return grant{}, nil, libraryError(err, oidc.ErrServerError())
	}
	answer := &oidc.AccessTokenResponse{AccessToken: access, RefreshToken: refresh, TokenType: oidc.BearerToken,
		ExpiresIn: uint64(accessLife / time.Second), Scope: g.Scopes}
	if openID {
		answer.IDToken, err = op.CreateIDToken(withAlg(ctx, c), op.IssuerFromContext(ctx), request, idTokenLife, access, "", p.lib.Storage(), libClient{c})
		if err != nil {
			return grant{}, nil, err
		}
	}
	p.auditGrant(ctx, "grant.create", made, r.PostForm.Get("grant_type"), nil)
	p.log.Info("grant made", "tenant", string(t), "user", string(g.User), "client", c.ID, "grant", string(made.ID), "offline", refresh != "")
	return made, answer, nil
}

// auditGrant tells what a program got, gave back or brought twice; with says by
// what means. Refreshing is not told: it changes nothing, and comes every hour.
func (p *Provider) auditGrant(ctx context.Context, action string, g grant, with string, err error) {
	detail := map[string]string{"client": g.Client, "grant": string(g.ID)}
	if len(g.Scopes) > 0 {
		detail["scope"] = strings.Join(g.Scopes, " ")
	}
	if with != "" {
		detail["with"] = strings.TrimPrefix(with, "urn:ietf:params:oauth:grant-type:")
	}
	p.audit(ctx, tenantOf(ctx), auth.Event{Action: action, User: g.User, Client: g.Client, Addr: addrOf(ctx), Err: err, Detail: detail})
}

// refreshRequest is a grant as the library wants it for an id_token.
type refreshRequest struct{ grant }

// GetAMR and what follows implement op.IDTokenRequest.
func (g refreshRequest) GetAMR() []string       { return g.AMR }
func (g refreshRequest) GetAudience() []string  { return []string{g.Client} }
func (g refreshRequest) GetAuthTime() time.Time { return time.UnixMilli(int64(g.AuthTime)) }
func (g refreshRequest) GetClientID() string    { return g.Client }
func (g refreshRequest) GetScopes() []string    { return g.Scopes }
func (g refreshRequest) GetSubject() string     { return string(g.User) }

func (p *Provider) exchangeRefresh(r *http.Request) (*oidc.AccessTokenResponse, error) {
	ctx := r.Context()
	t := tenantOf(ctx)
	c, err := p.clientOf(r, oidc.GrantTypeRefreshToken)
	if err != nil {
		return nil, err
	}
	token := r.PostForm.Get("refresh_token")
	if token == "" {
		return nil, oidc.ErrInvalidRequest().WithDescription("refresh_token is missing.")
	}
	g, err := p.grants.byRefresh(ctx, t, token, c.ID)
	if err != nil {
		return nil, p.badRefresh(ctx, g, err)
	}
	if u, ok := p.users.User(t, g.User); !ok || u.Disabled {
		return nil, oidc.ErrInvalidGrant().WithDescription("This person may not sign in.")
	}
	scopes := g.Scopes
	if asked := strings.Fields(r.PostForm.Get("scope")); len(asked) > 0 {
		if slices.ContainsFunc(asked, func(s string) bool { return !slices.Contains(g.Scopes, s) }) {
			return nil, oidc.ErrInvalidScope().WithDescription("The scope is more than was granted.")
		}
		scopes = asked
	}
	openID := slices.Contains(scopes, oidc.ScopeOpenID)
	if openID {
		// Before the token is used up: the client may come again with it.
		if err := p.clock(); err != nil {
			return nil, err
		}
	}
	g, access, next, err := p.grants.refreshed(ctx, t, token, c.ID, scopes)
	if err != nil {
		return nil, p.badRefresh(ctx, g, err)
	}
	answer := &oidc.AccessTokenResponse{AccessToken: access, RefreshToken: next, TokenType: oidc.BearerToken,
		ExpiresIn: uint64(accessLife / time.Second), Scope: scopes}
	if openID {
		g.Scopes = scopes
		answer.IDToken, err = op.CreateIDToken(withAlg(ctx, c), op.IssuerFromContext(ctx), refreshRequest{g}, idTokenLife, access, "", p.lib.Storage(), libClient{c})
		if err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// badRefresh answers for a refresh token that is not the newest of its family. A
// copy is out: the whole family ends (RFC 9700 §4.14.2).
func (p *Provider) badRefresh(ctx context.Context, g grant, err error) error {
	t := tenantOf(ctx)
	if im.Is(err, im.Conflict) {
		p.log.Info("refresh token came twice, its grant ends", "tenant", string(t), "user", string(g.User), "client", g.Client, "grant", string(g.ID))
		if err := p.auth.Revoke(ctx, t, g.User, g.ID); err != nil && !im.Is(err, im.NotFound) {
			return oidc.ErrServerError().WithParent(err)
		}
		p.auditGrant(ctx, "grant.reuse", g, "refresh_token", nil)
	}
	return libraryError(err, oidc.ErrInvalidGrant().WithDescription("The refresh token is unknown, used or expired."))
}

// revoke is RFC 7009: a token of either sort ends its whole grant. What is no token
// of that client is answered alike.
func (p *Provider) revoke(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	c, err := p.clientOf(r, "")
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	t, token := tenantOf(ctx), r.PostForm.Get("token")
	g, err := p.grants.byRefresh(ctx, t, token, c.ID)
	if im.Is(err, im.NotFound) {
		g, _, err = p.grants.byToken(ctx, t, sha256.Sum256([]byte(token)))
	}
	if im.Is(err, im.Conflict) {
		err = nil // a used refresh token names its family as well
	}
	if err == nil && g.Client == c.ID {
		if err = p.auth.Revoke(ctx, t, g.User, g.ID); err == nil {
			p.auditGrant(ctx, "grant.delete", g, "", nil)
		}
	}
	if err != nil && !im.Is(err, im.NotFound) {
		p.refuse(w, r, libraryError(err, oidc.ErrServerError()))
		return
	}
	w.WriteHeader(http.StatusOK)
}

// introspect is RFC 7662, for clients with a secret: about their own tokens, or
// about all of the tenant's for those that were allowed to.
func (p *Provider) introspect(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	c, err := p.clientOf(r, "")
	if err == nil && c.Kind != Web {
		err = oidc.ErrInvalidClient().WithDescription("Only a client with a secret may ask about tokens.")
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	g, at, err := p.accessToken(ctx, r.PostForm.Get("token"))
	if err != nil && im.KindOf(err) != im.NotFound {
		p.refuse(w, r, libraryError(err, oidc.ErrServerError()))
		return
	}
	if err != nil || g.Client != c.ID && !c.Introspect {
		writeJSON(w, http.StatusOK, map[string]bool{"active": false})
		return
	}
	u, _ := p.users.User(tenantOf(ctx), g.User)
	now := p.box.Now()
	born := now.Add(at.Age - p.box.Age())
	writeJSON(w, http.StatusOK, map[string]any{
		"active": true, "scope": strings.Join(at.Scopes, " "), "client_id": g.Client, "username": u.Username,
		"token_type": "Bearer", "exp": born.Add(accessLife).Unix(), "iat": born.Unix(),
		"sub": string(g.User), "aud": g.Client, "iss": op.IssuerFromContext(ctx),
		"tenant": string(u.Tenant), "role": u.Role.String(),
	})
}

// accessToken finds a token that is good now, of a person who is let in; else
// im.NotFound.
func (p *Provider) accessToken(ctx context.Context, token string) (grant, accessToken, error) {
	t := tenantOf(ctx)
	if !strings.HasPrefix(token, "pt_") || len(token) > 200 {
		return grant{}, accessToken{}, im.E(im.NotFound, "There is no such token.")
	}
	g, at, err := p.grants.byToken(ctx, t, sha256.Sum256([]byte(token)))
	if err != nil {
		return grant{}, accessToken{}, err
	}
	age := p.box.Age()
	u, ok := p.users.User(t, g.User)
	if !ok || u.Disabled || g.expired(age) || age-at.Age >= accessLife {
		return grant{}, accessToken{}, im.E(im.NotFound, "There is no such token.")
	}
	return g, at, nil
}

// userinfo answers who the bearer of an access token acts for (OpenID Connect Core
// 5.3). The token comes in the header; in an address it would be logged.
func (p *Provider) userinfo(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") || token == "" {
		w.Header().Set("WWW-Authenticate", "Bearer")
		writeError(w, http.StatusUnauthorized, "invalid_request", "The access token belongs into the Authorization header.")
		return
	}
	g, at, err := p.accessToken(ctx, strings.TrimSpace(token))
	switch {
	case im.Is(err, im.NotFound):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		writeError(w, http.StatusUnauthorized, "invalid_token", "The access token is unknown, expired or revoked.")
		return
	case err != nil:
		p.refuse(w, r, libraryError(err, oidc.ErrServerError()))
		return
	case !slices.Contains(at.Scopes, oidc.ScopeOpenID):
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="openid"`)
		writeError(w, http.StatusForbidden, "insufficient_scope", "The access token has no scope openid.")
		return
	}
	info := &oidc.UserInfo{Subject: string(g.User)}
	if err := p.claims(ctx, info, g.User, at.Scopes); err != nil {
		p.refuse(w, r, libraryError(err, oidc.ErrServerError()))
		return
	}
	writeJSON(w, http.StatusOK, info)
}

// claims fills in what scopes tell of a person.
func (p *Provider) claims(ctx context.Context, info *oidc.UserInfo, id im.UserID, scopes []string) error {
	t := tenantOf(ctx)
	u, ok := p.users.User(t, id)
	if !ok {
		return im.E(im.NotFound, "There is no such user.")
	}
	info.Subject = string(id)
	wantProfile, wantEmail := slices.Contains(scopes, oidc.ScopeProfile), slices.Contains(scopes, oidc.ScopeEmail)
	if !wantProfile && !wantEmail {
		return nil
	}
	more, err := p.profile(ctx, t, id)
	if err != nil {
		return im.Wrap("oidcop: profile of "+string(t)+"/"+string(id), err)
	}
	if wantEmail && more.Email != "" {
		info.Email, info.EmailVerified = more.Email, oidc.Bool(more.EmailVerified)
	}
	if wantProfile {
		info.Name, info.PreferredUsername = u.Name, u.Username
		info.AppendClaims("tenant", string(t))
		info.AppendClaims("role", u.Role.String())
		classes := more.Classes
		if classes == nil {
			classes = []string{}
		}
		info.AppendClaims("classes", classes)
	}
	return nil
}

// jwks publishes the keys. They may be kept for as long as a client likes to fetch
// again when it meets an unknown one.
func (p *Provider) jwks(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Del("Pragma")
	op.Keys(w, r, p.lib.Storage())
}

// discovery answers what this issuer can do; it says nothing that is not so.
func (p *Provider) discovery(w http.ResponseWriter, r *http.Request) {
	d := op.CreateDiscoveryConfig(r.Context(), p.lib, p.lib.Storage())
	d.ResponseTypesSupported = []string{"code"}
	d.ResponseModesSupported = []string{"query"}
	d.GrantTypesSupported = []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeDeviceCode}
	auth := []oidc.AuthMethod{oidc.AuthMethodNone, oidc.AuthMethodBasic, oidc.AuthMethodPost}
	d.TokenEndpointAuthMethodsSupported, d.RevocationEndpointAuthMethodsSupported = auth, auth
	d.IntrospectionEndpointAuthMethodsSupported = auth[1:]
	d.TokenEndpointAuthSigningAlgValuesSupported = nil
	d.IntrospectionEndpointAuthSigningAlgValuesSupported, d.RevocationEndpointAuthSigningAlgValuesSupported = nil, nil
	w.Header().Set("Cache-Control", "public, max-age=300")
	w.Header().Del("Pragma")
	writeJSON(w, http.StatusOK, struct {
		*oidc.DiscoveryConfiguration
		ISS     bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
		Prompts []string `json:"prompt_values_supported"`
	}{d, true, []string{"none", "login", "consent"}})
}

// basicAuth reads client_secret_basic (RFC 6749 §2.3.1: form-encoded within).
func basicAuth(r *http.Request) (id, secret string, err error) {
	id, secret, ok := r.BasicAuth()
	if ok {
		id, err = unescape(id)
		if err == nil {
			secret, err = unescape(secret)
		}
	}
	if !ok || err != nil {
		return "", "", oidc.ErrInvalidClient().WithDescription("The Authorization header is not Basic with a client id and its secret.")
	}
	return id, secret, nil
}

// refuse answers with an OAuth error (RFC 6749 §5.2). What is the server's own
// fault is logged and not told.
func (p *Provider) refuse(w http.ResponseWriter, r *http.Request, err error) {
	e := oidc.DefaultToServerError(err, "Something went wrong on the server.")
	status := http.StatusBadRequest
	switch string(e.ErrorType) {
	case string(oidc.InvalidClient):
		status = http.StatusUnauthorized
		if r.Header.Get("Authorization") != "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="pipit"`)
		}
	case string(oidc.ServerError):
		status = http.StatusInternalServerError
		p.log.Error("sign-in for a program failed", "tenant", string(tenantOf(r.Context())), "path", r.URL.Path, "error", err)
	case "temporarily_unavailable":
		status = http.StatusServiceUnavailable
	}
	writeError(w, status, string(e.ErrorType), e.Description)
}

func writeError(w http.ResponseWriter, status int, kind, description string) {
	writeJSON(w, status, map[string]string{"error": kind, "error_description": description})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a peer that went away is nobody's fault
}
