package oidcop

import (
	"context"
	"errors"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/text/language"

	"github.com/pipit-im/pipit/pkg/im"
)

// newLibrary makes the part of zitadel/oidc that is used: its parsers, its checks
// of clients, verifiers and hints, its id_tokens and its discovery document. Its
// router is not used, because it takes any method, parameters in addresses, grants
// that we do not offer, and codes and refresh tokens before it knows the client.
func newLibrary(p *Provider) (*op.Provider, error) {
	endpoint := func(path string) *op.Endpoint { return op.NewEndpoint(path) }
	return op.NewProvider(&op.Config{
		CodeMethodS256: true, AuthMethodPost: true, GrantTypeRefreshToken: true,
		SupportedScopes:    Scopes(),
		SupportedUILocales: []language.Tag{language.SimplifiedChinese, language.English},
		SupportedClaims: []string{"sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "amr", "at_hash", "azp",
			"name", "preferred_username", "email", "email_verified", "tenant", "role", "classes"},
	}, &library{p: p}, op.StaticIssuer("http://unused.invalid"),
		op.WithAllowInsecure(), // plain HTTP stays usable on a LAN; SECURITY.md says what that costs
		op.WithCrypto(bare{}),
		op.WithCustomAuthEndpoint(endpoint(pathAuthorize)),
		op.WithCustomTokenEndpoint(endpoint(pathToken)),
		op.WithCustomIntrospectionEndpoint(endpoint(pathIntrospect)),
		op.WithCustomUserinfoEndpoint(endpoint(pathUserinfo)),
		op.WithCustomRevocationEndpoint(endpoint(pathRevoke)),
		op.WithCustomEndSessionEndpoint(endpoint(pathLogout)),
		op.WithCustomKeysEndpoint(endpoint(pathKeys)),
		op.WithCustomDeviceAuthorizationEndpoint(endpoint(pathDevice)),
		op.WithIDTokenHintVerifierOpts(op.WithSupportedIDTokenHintSigningAlgorithms(string(algES256), string(algRS256))),
	)
}

// bare keeps the library from wrapping tokens: ours are opaque already, and the
// "id" of an access token is the token itself.
type bare struct{}

// Encrypt gets "token:subject" and returns the token.
func (bare) Encrypt(s string) (string, error) {
	token, _, _ := strings.Cut(s, ":")
	return token, nil
}

// Decrypt returns "token:", whose subject nobody reads.
func (bare) Decrypt(s string) (string, error) {
	if !strings.HasPrefix(s, "pt_") || strings.Contains(s, ":") {
		return "", errors.New("no access token")
	}
	return s + ":", nil
}

// library is op.Storage over a Provider. The tenant is in the context.
type library struct{ p *Provider }

var _ op.Storage = (*library)(nil)

// errUnused answers what only the library's own handlers would call.
var errUnused = oidc.ErrServerError().WithDescription("not used")

// GetClientByClientID implements op.Storage.
func (l *library) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := l.p.client(ctx, tenantOf(ctx), id)
	if err != nil {
		return nil, libraryError(err, oidc.ErrInvalidClient().WithDescription("There is no such client."))
	}
	return libClient{&c}, nil
}

// libraryError tells the server's own faults, which are 500, from everything else.
func libraryError(err error, else_ *oidc.Error) error {
	switch im.KindOf(err) {
	case im.Internal, im.Unavailable:
		return oidc.ErrServerError().WithParent(err).WithDescription("The server can't answer now.")
	}
	return else_.WithParent(err)
}

// AuthorizeClientIDSecret implements op.Storage.
func (l *library) AuthorizeClientIDSecret(ctx context.Context, id, secret string) error {
	c, err := l.p.client(ctx, tenantOf(ctx), id)
	if err != nil {
		return libraryError(err, oidc.ErrInvalidClient())
	}
	if !c.secretIs(secret) {
		return oidc.ErrInvalidClient().WithDescription("The client or its secret is wrong.")
	}
	return nil
}

// SigningKey implements op.Storage: the key of the algorithm that the client wants,
// while the time can be trusted.
func (l *library) SigningKey(ctx context.Context) (op.SigningKey, error) {
	if err := l.p.clock(); err != nil {
		return nil, err
	}
	alg := defaultAlg
	if a, ok := ctx.Value(algKey{}).(jose.SignatureAlgorithm); ok {
		alg = a
	}
	k, err := l.p.keys.signer(ctx, tenantOf(ctx), alg)
	if err != nil {
		return nil, oidc.ErrServerError().WithParent(err)
	}
	return k, nil
}

type algKey struct{}

// withAlg makes id_tokens of the client's algorithm.
func withAlg(ctx context.Context, c *Client) context.Context {
	return context.WithValue(ctx, algKey{}, jose.SignatureAlgorithm(c.Alg))
}

// clock says why no id_token may be given out now, or nil (DESIGN 5.7).
func (p *Provider) clock() error {
	if p.trusted() != nil {
		// Without the cause as its parent: that would make it a fault of the server.
		e := oidc.ErrServerError().WithDescription("The clock of this box is not set, so it can't say who signed in when. Set the time of the box, then try again.")
		e.ErrorType = "temporarily_unavailable"
		return e
	}
	return nil
}

// SignatureAlgorithms implements op.Storage.
func (l *library) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{algES256, algRS256}, nil
}

// KeySet implements op.Storage.
func (l *library) KeySet(ctx context.Context) ([]op.Key, error) {
	return l.p.keys.published(ctx, tenantOf(ctx))
}

// SetUserinfoFromScopes implements op.Storage: the claims of id_tokens.
func (l *library) SetUserinfoFromScopes(ctx context.Context, info *oidc.UserInfo, user, _ string, scopes []string) error {
	return l.p.claims(ctx, info, im.UserID(user), scopes)
}

// AuthRequestByCode implements op.Storage: it takes a code, once.
func (l *library) AuthRequestByCode(ctx context.Context, c string) (op.AuthRequest, error) {
	return l.p.takeCode(ctx, c)
}

// TokenRequestByRefreshToken implements op.Storage.
func (l *library) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, errUnused // the refresh grant goes its own way, see token.go
}

// The rest of op.Storage is for the library's own handlers.

// CreateAuthRequest is not used.
func (l *library) CreateAuthRequest(context.Context, *oidc.AuthRequest, string) (op.AuthRequest, error) {
	return nil, errUnused
}

// AuthRequestByID is not used.
func (l *library) AuthRequestByID(context.Context, string) (op.AuthRequest, error) {
	return nil, errUnused
}

// SaveAuthCode is not used.
func (l *library) SaveAuthCode(context.Context, string, string) error { return errUnused }

// DeleteAuthRequest is not used.
func (l *library) DeleteAuthRequest(context.Context, string) error { return errUnused }

// CreateAccessToken is not used.
func (l *library) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return "", time.Time{}, errUnused
}

// CreateAccessAndRefreshTokens is not used.
func (l *library) CreateAccessAndRefreshTokens(context.Context, op.TokenRequest, string) (string, string, time.Time, error) {
	return "", "", time.Time{}, errUnused
}

// TerminateSession is not used.
func (l *library) TerminateSession(context.Context, string, string) error { return errUnused }

// RevokeToken is not used.
func (l *library) RevokeToken(context.Context, string, string, string) *oidc.Error { return errUnused }

// GetRefreshTokenInfo is not used.
func (l *library) GetRefreshTokenInfo(context.Context, string, string) (string, string, error) {
	return "", "", errUnused
}

// SetUserinfoFromToken is not used.
func (l *library) SetUserinfoFromToken(context.Context, *oidc.UserInfo, string, string, string) error {
	return errUnused
}

// SetIntrospectionFromToken is not used.
func (l *library) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errUnused
}

// GetPrivateClaimsFromScopes is not used: access tokens are opaque.
func (l *library) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, errUnused
}

// GetKeyByIDAndClientID is not used: no client signs.
func (l *library) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errUnused
}

// ValidateJWTProfileScopes is not used: there is no such grant.
func (l *library) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errUnused
}

// Health implements op.Storage.
func (l *library) Health(context.Context) error { return nil }
