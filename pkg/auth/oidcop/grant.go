package oidcop

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// A grant is what one person let one program do: a family of tokens (RFC 9700
// §4.14.2). It is kept under USER/GRANT; under the hash of each access token
// that is still good stands the grant's key.
type grant struct {
	ID         im.SignInID   `json:"id"`
	User       im.UserID     `json:"user"`
	Client     string        `json:"client"`
	ClientName string        `json:"client_name"`
	Scopes     []string      `json:"scopes"`
	Created    im.Millis     `json:"created"`
	CreatedAge time.Duration `json:"created_age"`
	UsedAge    time.Duration `json:"used_age"` // of the last refresh
	AuthTime   im.Millis     `json:"auth_time"`
	AMR        []string      `json:"amr,omitempty"`
	Tokens     []accessToken `json:"tokens"` // access tokens that have not expired
	// Family and Refresh are SHA-256 of the two secrets of the refresh token; empty
	// without one. Family stays the same over all rotations, Refresh is of the newest
	// token alone: who brings the one without the other has a token that was used.
	Family  []byte `json:"family,omitempty"`
	Refresh []byte `json:"refresh,omitempty"`
}

// accessToken is one access token of a grant; Scopes may be fewer than the grant's
// (RFC 6749 §6).
type accessToken struct {
	Hash   []byte        `json:"hash"`
	Age    time.Duration `json:"age"`
	Scopes []string      `json:"scopes"`
}

func (g *grant) key() string { return string(g.User) + "/" + string(g.ID) }

// lifetime counts from CreatedAge.
func (g *grant) lifetime() time.Duration {
	if len(g.Refresh) == 0 {
		return accessLife
	}
	return min(g.UsedAge-g.CreatedAge+idleLife, grantLife)
}

func (g *grant) expired(age time.Duration) bool { return age-g.CreatedAge >= g.lifetime() }

// signIn shows the grant as the sign-in that it is.
func (g *grant) signIn(t im.TenantID) store.SignIn {
	return store.SignIn{ID: g.ID, Tenant: t, User: g.User, Device: g.ClientName,
		Created: g.Created, CreatedAge: g.CreatedAge, Lifetime: g.lifetime()}
}

// maxTokens is how many access tokens of one grant are good at the same time: a
// client that refreshes without need loses its oldest.
const maxTokens = 4

// Grants is store.Tokens with the grants among the sign-ins: auth is given it
// instead of the bare store. Access tokens of scope chat are found like any token;
// a grant is listed, revoked, expired and crowded out like any sign-in.
type Grants struct {
	store.Tokens
	records store.Records
	box     store.Box
}

var _ store.Tokens = (*Grants)(nil)

// NewGrants makes the view of tokens that auth gets.
func NewGrants(tokens store.Tokens, records store.Records, box store.Box) *Grants {
	return &Grants{Tokens: tokens, records: records, box: box}
}

// SignIn implements store.Tokens: the bare one's, or an access token whose scope
// lets it be used as one.
func (s *Grants) SignIn(ctx context.Context, t im.TenantID, hash [32]byte) (store.SignIn, error) {
	found, err := s.Tokens.SignIn(ctx, t, hash)
	if !im.Is(err, im.NotFound) {
		return found, err
	}
	g, at, err := s.byToken(ctx, t, hash)
	if err != nil {
		return store.SignIn{}, err
	}
	if !slices.Contains(at.Scopes, ScopeChat) {
		return store.SignIn{}, im.E(im.NotFound, "There is no such sign-in.")
	}
	out := g.signIn(t)
	out.Hash, out.CreatedAge, out.Lifetime = hash, at.Age, accessLife
	out.Limited = !slices.Contains(at.Scopes, ScopeAdmin)
	return out, nil
}

// byToken finds the grant of an access token, expired or not.
func (s *Grants) byToken(ctx context.Context, t im.TenantID, hash [32]byte) (grant, accessToken, error) {
	key, err := s.records.Record(ctx, t, store.RecordOIDCToken, hashID(hash))
	if err != nil {
		return grant{}, accessToken{}, err
	}
	value, err := s.records.Record(ctx, t, store.RecordOIDCGrant, string(key))
	if err != nil {
		return grant{}, accessToken{}, err
	}
	g, err := readGrant(value)
	if err != nil {
		return grant{}, accessToken{}, err
	}
	for _, at := range g.Tokens {
		if [32]byte(at.Hash) == hash {
			return g, at, nil
		}
	}
	return grant{}, accessToken{}, im.E(im.NotFound, "There is no such token.")
}

// SignIns implements store.Tokens.
func (s *Grants) SignIns(ctx context.Context, t im.TenantID, u im.UserID) ([]store.SignIn, error) {
	out, err := s.Tokens.SignIns(ctx, t, u)
	if err != nil {
		return nil, err
	}
	grants, err := s.list(ctx, t, string(u)+"/")
	for _, g := range grants {
		out = append(out, g.signIn(t))
	}
	return out, err
}

// DeleteSignIns implements store.Tokens. For a grant it returns one sign-in for each
// of its access tokens, so that whoever remembers one forgets it.
func (s *Grants) DeleteSignIns(ctx context.Context, t im.TenantID, u im.UserID, pick func(store.SignIn) bool) ([]store.SignIn, error) {
	gone, err := s.Tokens.DeleteSignIns(ctx, t, u, pick)
	if err != nil {
		return gone, err
	}
	prefix := ""
	if u != "" {
		prefix = string(u) + "/"
	}
	grants, err := s.list(ctx, t, prefix)
	if err != nil {
		return gone, err
	}
	grants = slices.DeleteFunc(grants, func(g grant) bool { return !pick(g.signIn(t)) })
	for part := range slices.Chunk(grants, 100) {
		var ended []store.SignIn
		err := s.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
			for _, g := range part {
				// As it is now: a token may have been added since it was listed.
				value, err := tx.Get(store.RecordOIDCGrant, g.key())
				if im.Is(err, im.NotFound) {
					continue
				}
				if err == nil {
					g, err = readGrant(value)
				}
				if err != nil {
					return err
				}
				ended = append(ended, dropGrant(tx, t, &g)...)
			}
			return nil
		})
		if err != nil {
			return gone, err
		}
		gone = append(gone, ended...)
	}
	return gone, nil
}

// dropGrant deletes a grant and its tokens.
func dropGrant(tx store.RecordTx, t im.TenantID, g *grant) []store.SignIn {
	tx.Delete(store.RecordOIDCGrant, g.key())
	ended := []store.SignIn{g.signIn(t)}
	for _, at := range g.Tokens {
		tx.Delete(store.RecordOIDCToken, hashID([32]byte(at.Hash)))
		si := g.signIn(t)
		si.Hash = [32]byte(at.Hash)
		ended = append(ended, si)
	}
	return ended
}

// list returns the grants whose key has that prefix.
func (s *Grants) list(ctx context.Context, t im.TenantID, prefix string) ([]grant, error) {
	var out []grant
	for after := ""; ; {
		page, err := s.records.ListRecords(ctx, t, store.RecordOIDCGrant, prefix, after, store.MaxRecordsPage)
		if err != nil {
			return nil, im.Wrap("oidcop: list the grants of "+string(t), err)
		}
		for _, r := range page {
			g, err := readGrant(r.Value)
			if err != nil {
				return nil, err
			}
			out = append(out, g)
			after = r.ID
		}
		if len(page) < store.MaxRecordsPage {
			return out, nil
		}
	}
}

func (s *Grants) ofClient(ctx context.Context, t im.TenantID, client string) ([]grant, error) {
	all, err := s.list(ctx, t, "")
	return slices.DeleteFunc(all, func(g grant) bool { return g.Client != client }), err
}

// make stores a new grant with its first access token, and a refresh token if
// offline; both are returned.
func (s *Grants) make(ctx context.Context, t im.TenantID, g grant, offline bool) (made grant, access, refresh string, err error) {
	g.ID = im.SignInID("i_" + strings.ToLower(randomID(10)))
	age := s.box.Age()
	g.Created, g.CreatedAge, g.UsedAge = im.Millis(s.box.Now().UnixMilli()), age, age
	access, at := newAccess(t, age, g.Scopes)
	g.Tokens = []accessToken{at}
	if offline {
		family := randomText(16)
		refresh = g.rotate(t, family)
	}
	err = s.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		return putGrant(tx, &g, nil)
	})
	return g, access, refresh, im.Wrap("oidcop: store a grant of "+string(t), err)
}

// refreshed rotates a refresh token: the grant gets a new access token of scopes
// and a new refresh token, both returned, and the old refresh token is dead. One
// that was dead already is im.Conflict: somebody has a copy. Anything else that is
// no refresh token of that client is im.NotFound.
func (s *Grants) refreshed(ctx context.Context, t im.TenantID, token, client string, scopes []string) (g grant, access, next string, err error) {
	rt, ok := parseRefresh(t, token)
	if !ok {
		return grant{}, "", "", im.E(im.NotFound, "There is no such token.")
	}
	age := s.box.Age()
	err = s.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		value, err := tx.Get(store.RecordOIDCGrant, rt.key)
		if err != nil {
			return err
		}
		if g, err = readGrant(value); err != nil {
			return err
		}
		if err := rt.judge(&g, client, age); err != nil {
			return err
		}
		var at accessToken
		access, at = newAccess(t, age, scopes)
		g.UsedAge = age
		next = g.rotate(t, rt.family)
		old := g.Tokens
		g.Tokens = append(slices.DeleteFunc(slices.Clone(old), func(at accessToken) bool { return age-at.Age >= accessLife }), at)
		if extra := len(g.Tokens) - maxTokens; extra > 0 {
			g.Tokens = g.Tokens[extra:]
		}
		return putGrant(tx, &g, old)
	})
	return g, access, next, err
}

// byRefresh finds the grant of a refresh token without using it up; errors as of
// refreshed.
func (s *Grants) byRefresh(ctx context.Context, t im.TenantID, token, client string) (grant, error) {
	rt, ok := parseRefresh(t, token)
	if !ok {
		return grant{}, im.E(im.NotFound, "There is no such token.")
	}
	value, err := s.records.Record(ctx, t, store.RecordOIDCGrant, rt.key)
	if err != nil {
		return grant{}, err
	}
	g, err := readGrant(value)
	if err != nil {
		return grant{}, err
	}
	return g, rt.judge(&g, client, s.box.Age())
}

// putGrant writes a grant and the index of its tokens; old are those that it had.
func putGrant(tx store.RecordTx, g *grant, old []accessToken) error {
	value, err := json.Marshal(g)
	if err != nil {
		return im.Wrap("oidcop: encode a grant", err)
	}
	tx.Put(store.RecordOIDCGrant, g.key(), value)
	for _, at := range old {
		tx.Delete(store.RecordOIDCToken, hashID([32]byte(at.Hash)))
	}
	for _, at := range g.Tokens {
		tx.Put(store.RecordOIDCToken, hashID([32]byte(at.Hash)), []byte(g.key()))
	}
	return nil
}

func readGrant(value []byte) (grant, error) {
	var g grant
	if err := json.Unmarshal(value, &g); err != nil {
		return grant{}, im.Wrap("oidcop: read a grant", err)
	}
	for _, at := range g.Tokens {
		if len(at.Hash) != sha256.Size {
			return grant{}, im.E(im.Internal, "oidcop: a grant's token has a hash of %d bytes", len(at.Hash))
		}
	}
	return g, nil
}

// newAccess draws an access token. It has the form of every token, so that
// auth.Verify judges it like any.
func newAccess(t im.TenantID, age time.Duration, scopes []string) (string, accessToken) {
	token := "pt_" + string(t) + "_" + randomText(32)
	sum := sha256.Sum256([]byte(token))
	return token, accessToken{Hash: sum[:], Age: age, Scopes: scopes}
}

// refreshToken is one that came in: pr_TENANT.USER.GRANT.FAMILY.SECRET.
type refreshToken struct{ key, family, secret string }

const refreshPrefix = "pr_"

// rotate gives the grant a new refresh token and returns it.
func (g *grant) rotate(t im.TenantID, family string) string {
	secret := randomText(32)
	f, s := sha256.Sum256([]byte(family)), sha256.Sum256([]byte(secret))
	g.Family, g.Refresh = f[:], s[:]
	return refreshPrefix + strings.Join([]string{string(t), string(g.User), string(g.ID), family, secret}, ".")
}

func parseRefresh(t im.TenantID, token string) (refreshToken, bool) {
	rest, ok := strings.CutPrefix(token, refreshPrefix)
	parts := strings.Split(rest, ".")
	if !ok || len(token) > 400 || len(parts) != 5 || parts[0] != string(t) {
		return refreshToken{}, false
	}
	rt := refreshToken{key: parts[1] + "/" + parts[2], family: parts[3], secret: parts[4]}
	return rt, store.CheckRecord(rt.key, nil) == nil
}

// judge says whether the token is the grant's newest. The family's secret comes
// first: without it nothing is learned, and nobody's grant can be ended.
func (rt refreshToken) judge(g *grant, client string, age time.Duration) error {
	family, secret := sha256.Sum256([]byte(rt.family)), sha256.Sum256([]byte(rt.secret))
	if len(g.Refresh) == 0 || subtle.ConstantTimeCompare(family[:], g.Family) != 1 || g.Client != client || g.expired(age) {
		return im.E(im.NotFound, "There is no such token.")
	}
	if subtle.ConstantTimeCompare(secret[:], g.Refresh) != 1 {
		return im.E(im.Conflict, "The refresh token was used before.")
	}
	return nil
}

// offline tells whether scopes ask for a refresh token.
func offline(scopes []string) bool { return slices.Contains(scopes, oidc.ScopeOfflineAccess) }

func hashID(hash [32]byte) string { return base64.RawURLEncoding.EncodeToString(hash[:]) }

// consent is what a person agreed to for a client, kept under USER/CLIENT.
type consent struct {
	Scopes []string  `json:"scopes"`
	Time   im.Millis `json:"time"`
}

// agreed tells whether the user agreed to all of scopes before.
func (p *Provider) agreed(ctx context.Context, t im.TenantID, u im.UserID, client string, scopes []string) (bool, error) {
	value, err := p.records.Record(ctx, t, store.RecordOIDCConsent, string(u)+"/"+client)
	if im.Is(err, im.NotFound) {
		return false, nil
	}
	var c consent
	if err == nil {
		err = json.Unmarshal(value, &c)
	}
	if err != nil {
		return false, im.Wrap("oidcop: read a consent of "+string(t), err)
	}
	return !slices.ContainsFunc(scopes, func(s string) bool { return !slices.Contains(c.Scopes, s) }), nil
}

// remember keeps that the user agreed to scopes, with those from before.
func (p *Provider) remember(ctx context.Context, t im.TenantID, u im.UserID, client string, scopes []string) error {
	id := string(u) + "/" + client
	now := im.Millis(p.box.Now().UnixMilli())
	err := p.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		var c consent
		if value, err := tx.Get(store.RecordOIDCConsent, id); err == nil {
			if err := json.Unmarshal(value, &c); err != nil {
				return err
			}
		} else if !im.Is(err, im.NotFound) {
			return err
		}
		for _, s := range scopes {
			if !slices.Contains(c.Scopes, s) {
				c.Scopes = append(c.Scopes, s)
			}
		}
		slices.SortFunc(c.Scopes, cmp.Compare[string])
		c.Time = now
		value, err := json.Marshal(c)
		if err == nil {
			tx.Put(store.RecordOIDCConsent, id, value)
		}
		return err
	})
	return im.Wrap("oidcop: keep a consent of "+string(t), err)
}

// forgetConsents deletes what everybody agreed to for a client.
func (p *Provider) forgetConsents(ctx context.Context, t im.TenantID, client string) error {
	for after := ""; ; {
		page, err := p.records.ListRecords(ctx, t, store.RecordOIDCConsent, "", after, store.MaxRecordsPage)
		if err != nil {
			return im.Wrap("oidcop: list the consents of "+string(t), err)
		}
		err = p.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
			for _, r := range page {
				if strings.HasSuffix(r.ID, "/"+client) {
					tx.Delete(store.RecordOIDCConsent, r.ID)
				}
				after = r.ID
			}
			return nil
		})
		if err != nil {
			return im.Wrap("oidcop: forget consents of "+string(t), err)
		}
		if len(page) < store.MaxRecordsPage {
			return nil
		}
	}
}
