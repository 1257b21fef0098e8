package auth

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// CheckPassword says whether password may become the password of the user of that
// name; the refusal is im.Invalid with field "password".
func (*Auth) CheckPassword(username, password string) error {
	bad := func(format string, args ...any) error { return im.E(im.Invalid, format, args...).OnField("password") }
	switch {
	case len(password) > im.MaxPasswordBytes:
		return bad("The password is longer than %d bytes.", im.MaxPasswordBytes)
	case !utf8.ValidString(password):
		return bad("The password is not valid UTF-8.")
	case strings.ContainsRune(password, 0):
		return bad("The password contains a character that can't be typed.")
	case utf8.RuneCountInString(normal(password)) < im.MinPasswordRunes:
		return bad("The password needs at least %d characters.", im.MinPasswordRunes)
	case strings.EqualFold(normal(password), normal(username)):
		return bad("The password must not be the user name.")
	}
	return nil
}

// normal makes passwords typed on different systems one: some send é as one code
// point, some as two (RFC 8265 §4.2 says NFC).
func normal(password string) string { return norm.NFC.String(password) }

// SetPassword gives a user a password and ends all the user's sign-ins but those
// to keep; their sockets close with 4101. Errors: im.NotFound, im.Invalid (field
// password), im.RateLimited, and those of the store; after one of the last kind
// the password may have changed while old sign-ins go on, and it should be tried
// again.
func (a *Auth) SetPassword(ctx context.Context, t im.TenantID, u im.UserID, password string, keep ...im.SignInID) error {
	op := "auth: set the password of " + string(t) + "/" + string(u)
	user, ok := a.users.User(t, u)
	if !ok {
		return im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	if err := a.CheckPassword(user.Username, password); err != nil {
		return err
	}
	phc, err := a.hasher.hash(ctx, normal(password))
	if err != nil {
		return im.Wrap(op, err)
	}
	next := store.Credential{PHC: phc, Changed: a.now()}
	err = a.people.UpdateCredential(ctx, t, u, func(*store.Credential) (*store.Credential, error) { return &next, nil })
	if err != nil {
		return im.Wrap(op, err)
	}
	a.log.Info("password set", "tenant", string(t), "user", string(u))
	_, err = a.end(ctx, t, u, func(s store.SignIn) bool { return !slices.Contains(keep, s.ID) })
	return err
}

// rehash stores a hash with the parameters of today for a password that was just
// found right. A failure only puts it off. It returns the hash that counts then.
func (a *Auth) rehash(ctx context.Context, u *im.User, password, old string) string {
	phc, err := a.hasher.hash(ctx, password)
	if err == nil {
		counts := old
		err = a.people.UpdateCredential(ctx, u.Tenant, u.ID, func(c *store.Credential) (*store.Credential, error) {
			if c == nil || c.PHC != old {
				return nil, nil // changed meanwhile: that one counts
			}
			counts = phc
			return &store.Credential{PHC: phc, Changed: c.Changed}, nil
		})
		if err == nil {
			a.stats.rehashed.Add(1)
			return counts
		}
	}
	a.log.Info("password not hashed anew", "tenant", string(u.Tenant), "user", string(u.ID), "error", err)
	return old
}
