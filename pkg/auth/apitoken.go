package auth

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Scope is what an API token may be used for.
type Scope string

// The scopes of API tokens. A program has the rights of its user narrowed to
// these: a scope never gives what the user's role does not.
const (
	ScopeTenantRead   Scope = "tenant:read"   // the organisation, its settings and usage
	ScopeTenantWrite  Scope = "tenant:write"  //
	ScopeUsersRead    Scope = "users:read"    // users, their sign-ins, invitations
	ScopeUsersWrite   Scope = "users:write"   //
	ScopeMessagesRead Scope = "messages:read" // conversations of the token's user
	ScopeMessagesSend Scope = "messages:send" //
	ScopeAuditRead    Scope = "audit:read"    // the audit log
)

// Scopes lists all scopes.
func Scopes() []Scope {
	return []Scope{ScopeTenantRead, ScopeTenantWrite, ScopeUsersRead, ScopeUsersWrite, ScopeMessagesRead, ScopeMessagesSend, ScopeAuditRead}
}

// The bounds of API tokens.
const (
	MaxAPITokens        = 200 // of one tenant
	MaxAPITokenLifetime = 10 * 365 * 24 * time.Hour
)

// APIToken is what lets a program in: it acts for a user, within its scopes. Of
// the token itself only a hash is kept.
type APIToken struct {
	ID        string        `json:"id"` // "a_" and 16 characters
	Name      string        `json:"name"`
	Scopes    []Scope       `json:"scopes"`
	User      im.UserID     `json:"user"` // whom it acts for
	CreatedBy im.UserID     `json:"created_by,omitempty"`
	Created   im.Millis     `json:"created"`
	Age       time.Duration `json:"age"`      // Box.Age when it was made
	Lifetime  time.Duration `json:"lifetime"` // in running time of the box
}

// apiTokenPrefix begins an API token as tokenPrefix a sign-in's.
const apiTokenPrefix = "pa_"

// IsAPIToken reports whether a token looks like a program's.
func IsAPIToken(token string) bool { return strings.HasPrefix(token, apiTokenPrefix) }

// NewAPIToken says what to make.
type NewAPIToken struct {
	Name      string
	Scopes    []Scope
	User      im.UserID // whom it acts for
	CreatedBy im.UserID
	Lifetime  time.Duration // 0: a year
}

// MakeAPIToken makes an API token and returns it, this once. Errors: im.Invalid
// (field name, scopes, user, expires_in), im.TooLarge over MaxAPITokens, and
// those of the store.
func (a *Auth) MakeAPIToken(ctx context.Context, t im.TenantID, n NewAPIToken) (token string, _ APIToken, _ error) {
	fail := func(err error) (string, APIToken, error) { return "", APIToken{}, err }
	n.Name = strings.TrimSpace(n.Name)
	if n.Name == "" || utf8.RuneCountInString(n.Name) > im.MaxTitleRunes || !utf8.ValidString(n.Name) || strings.ContainsFunc(n.Name, unicode.IsControl) {
		return fail(im.E(im.Invalid, "Give the token a name of 1 to %d characters that says which program has it.", im.MaxTitleRunes).OnField("name"))
	}
	if n.Lifetime == 0 {
		n.Lifetime = 365 * 24 * time.Hour
	}
	if n.Lifetime < time.Minute || n.Lifetime > MaxAPITokenLifetime {
		return fail(im.E(im.Invalid, "A token lasts from a minute to ten years.").OnField("expires_in"))
	}
	slices.Sort(n.Scopes)
	n.Scopes = slices.Compact(n.Scopes)
	for _, s := range n.Scopes {
		if !slices.Contains(Scopes(), s) {
			return fail(im.E(im.Invalid, "There is no scope %q.", string(s)).OnField("scopes"))
		}
	}
	if len(n.Scopes) == 0 {
		return fail(im.E(im.Invalid, "A token needs at least one scope.").OnField("scopes"))
	}
	if u, ok := a.users.User(t, n.User); !ok || u.Disabled {
		return fail(im.E(im.Invalid, "The user that the token acts for does not exist or is disabled.").OnField("user"))
	}
	var b [secretBytes + newIDRandLen]byte
	if _, err := io.ReadFull(a.rand, b[:]); err != nil {
		return fail(im.Wrap("auth: draw a token", err))
	}
	token = apiTokenPrefix + string(t) + "_" + base64.RawURLEncoding.EncodeToString(b[:secretBytes])
	k := APIToken{ID: "a_" + idEncoding.EncodeToString(b[secretBytes:]), Name: n.Name, Scopes: n.Scopes, User: n.User,
		CreatedBy: n.CreatedBy, Created: a.now(), Age: a.box.Age(), Lifetime: n.Lifetime}
	raw, err := json.Marshal(k)
	if err != nil {
		return fail(err)
	}
	hash := hashToken(token)
	err = a.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		all, err := tx.List(store.RecordAPIToken, "", "", MaxAPITokens)
		if err != nil {
			return err
		}
		if len(all) >= MaxAPITokens {
			return &im.Error{Kind: im.TooLarge, Limit: MaxAPITokens, Message: "There are too many tokens. Revoke those that are not used."}
		}
		tx.Put(store.RecordAPIToken, hex.EncodeToString(hash[:]), raw)
		return nil
	})
	if err != nil {
		return fail(im.Wrap("auth: store an API token of "+string(t), err))
	}
	a.log.Info("API token made", "tenant", string(t), "token", k.ID, "user", string(k.User))
	return token, k, nil
}

// APITokens returns the API tokens of a tenant that have not expired, newest
// first.
func (a *Auth) APITokens(ctx context.Context, t im.TenantID) ([]APIToken, error) {
	all, err := a.records.ListRecords(ctx, t, store.RecordAPIToken, "", "", MaxAPITokens)
	if err != nil {
		return nil, im.Wrap("auth: list the API tokens of "+string(t), err)
	}
	out := make([]APIToken, 0, len(all))
	for _, r := range all {
		var k APIToken
		if err := json.Unmarshal(r.Value, &k); err != nil {
			return nil, im.Wrap("auth: list the API tokens of "+string(t), err)
		}
		if !k.expired(a.box.Age()) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(x, y APIToken) int { return cmp.Or(cmp.Compare(y.Age, x.Age), cmp.Compare(x.ID, y.ID)) })
	return out, nil
}

func (k *APIToken) expired(age time.Duration) bool { return age-k.Age >= k.Lifetime }

// Expires returns when the token ends by the clock of now, if the box runs
// until then.
func (a *Auth) Expires(k *APIToken) im.Millis {
	return a.now() + im.Millis((k.Lifetime - (a.box.Age() - k.Age)).Milliseconds())
}

// RevokeAPIToken ends an API token: no request that begins after it returned is
// let in with it. Errors: im.NotFound, and those of the store.
func (a *Auth) RevokeAPIToken(ctx context.Context, t im.TenantID, id string) (APIToken, error) {
	var gone APIToken
	err := a.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		all, err := tx.List(store.RecordAPIToken, "", "", MaxAPITokens)
		if err != nil {
			return err
		}
		for _, r := range all {
			var k APIToken
			if err := json.Unmarshal(r.Value, &k); err != nil {
				return err
			}
			if k.ID == id {
				gone = k
				tx.Delete(store.RecordAPIToken, r.ID)
				return nil
			}
		}
		return im.E(im.NotFound, "There is no such token.")
	})
	if err != nil {
		return gone, im.Wrap("auth: revoke an API token of "+string(t), err)
	}
	a.log.Info("API token revoked", "tenant", string(t), "token", id)
	return gone, nil
}

// VerifyAPIToken judges an API token: which one it is and whom it acts for. The
// store is asked each time, so that nothing revoked is remembered. Errors:
// im.Unauthenticated, and those of the store.
func (a *Auth) VerifyAPIToken(ctx context.Context, token string) (*APIToken, im.Actor, error) {
	rest, ok := strings.CutPrefix(token, apiTokenPrefix)
	t, hash, known := parseToken(tokenPrefix + rest)
	if !ok || !known {
		return nil, im.Actor{}, a.refuse(ErrToken)
	}
	if _, there := a.users.Tenant(t); !there {
		return nil, im.Actor{}, a.refuse(ErrToken)
	}
	hash = hashToken(token)
	raw, err := a.records.Record(ctx, t, store.RecordAPIToken, hex.EncodeToString(hash[:]))
	if im.Is(err, im.NotFound) {
		return nil, im.Actor{}, a.refuse(ErrToken)
	}
	var k APIToken
	if err == nil {
		err = json.Unmarshal(raw, &k)
	}
	if err != nil {
		return nil, im.Actor{}, im.Wrap("auth: look up an API token of "+string(t), err)
	}
	if k.expired(a.box.Age()) {
		return nil, im.Actor{}, a.refuse(ErrToken)
	}
	who, _, err := a.judge(&checked{tenant: t, user: k.User, created: k.Age, lifetime: k.Lifetime})
	return &k, who, err
}
