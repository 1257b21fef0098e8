package auth

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// CheckPassword says whether password may become the password of the user of that
// name: long enough, not one of those that everybody tries first, and not made of
// the names of user and tenant. The refusal is im.Invalid with field "password".
func (a *Auth) CheckPassword(t im.TenantID, username, password string) error {
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
	ten, _ := a.users.Tenant(t)
	if why := weak(normal(password), username, ten.Name, string(t)); why != "" {
		return bad("%s", why)
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
	return a.setPassword(ctx, t, u, password, false, keep...)
}

// SetTemporaryPassword is SetPassword by somebody else: the user has to replace
// it at the next sign-in.
func (a *Auth) SetTemporaryPassword(ctx context.Context, t im.TenantID, u im.UserID, password string) error {
	return a.setPassword(ctx, t, u, password, true)
}

func (a *Auth) setPassword(ctx context.Context, t im.TenantID, u im.UserID, password string, temporary bool, keep ...im.SignInID) error {
	op := "auth: set the password of " + string(t) + "/" + string(u)
	user, ok := a.users.User(t, u)
	if !ok {
		return im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	if err := a.CheckPassword(t, user.Username, password); err != nil {
		return err
	}
	phc, err := a.hasher.hash(ctx, netip.Addr{}, normal(password))
	if err != nil {
		return im.Wrap(op, err)
	}
	// The mark goes before a password that somebody else knows, and stays until
	// one of the user's own is there: a power cut in between asks once too often.
	if err := a.markMustChange(ctx, t, u, true, temporary); err != nil {
		return err
	}
	next := store.Credential{PHC: phc, Changed: a.now()}
	err = a.people.UpdateCredential(ctx, t, u, func(*store.Credential) (*store.Credential, error) { return &next, nil })
	if err != nil {
		return im.Wrap(op, err)
	}
	if err := a.markMustChange(ctx, t, u, false, !temporary); err != nil {
		return err
	}
	a.log.Info("password set", "tenant", string(t), "user", string(u))
	_, err = a.end(ctx, t, u, func(s store.SignIn) bool { return !slices.Contains(keep, s.ID) })
	return err
}

// markMustChange sets the mark to must, if really is; where it is so already
// nothing is written.
func (a *Auth) markMustChange(ctx context.Context, t im.TenantID, u im.UserID, must, really bool) error {
	if !really {
		return nil
	}
	acc, err := a.account(ctx, t, u)
	if err != nil || acc.MustChange == must {
		return err
	}
	return a.updateAccount(ctx, t, u, func(acc *account) error { acc.MustChange = must; return nil })
}

// replacePassword gives a user, whose password was just found right, another one
// of the user's own choice. It returns what confirm has to look for.
func (a *Auth) replacePassword(ctx context.Context, user *im.User, next string) (password, phc string, _ error) {
	if err := a.SetPassword(ctx, user.Tenant, user.ID, next); err != nil {
		return "", "", onNewPassword(err)
	}
	c, err := a.people.Credential(ctx, user.Tenant, user.ID)
	if err != nil {
		return "", "", im.Wrap("auth: confirm a password", err)
	}
	return normal(next), c.PHC, nil
}

// checkReplacement refuses what can't become the password of a user who has given.
func (a *Auth) checkReplacement(user *im.User, given, next string) error {
	if normal(next) == normal(given) {
		return im.E(im.Invalid, "Choose a password that is not the one you were given.").OnField(ChallengeNewPassword)
	}
	return onNewPassword(a.CheckPassword(user.Tenant, user.Username, next))
}

// onNewPassword names the member that a refused password came in.
func onNewPassword(err error) error {
	var e *im.Error
	if errors.As(err, &e) && e.Kind == im.Invalid {
		return e.OnField(ChallengeNewPassword)
	}
	return err
}

// ChangePassword replaces a user's own password; old is judged as at a sign-in,
// and throttled with it. All the user's sign-ins end but keep. Errors:
// im.Invalid (field password: old is wrong; field new_password), im.RateLimited,
// and those of the store.
func (a *Auth) ChangePassword(ctx context.Context, t im.TenantID, u im.UserID, old, next string, addr netip.Addr, keep im.SignInID) error {
	user, ok := a.users.User(t, u)
	if !ok {
		return im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	if err := a.CheckPassword(t, user.Username, next); err != nil {
		return onNewPassword(err)
	}
	if err := a.Reauthenticate(ctx, t, u, old, addr); err != nil {
		return err
	}
	return a.SetPassword(ctx, t, u, next, keep)
}

// Reauthenticate judges the password of a user who is signed in, before something
// grave. Errors: im.Invalid (field password), im.RateLimited, and those of the
// store.
func (a *Auth) Reauthenticate(ctx context.Context, t im.TenantID, u im.UserID, password string, addr netip.Addr) error {
	user, ok := a.users.User(t, u)
	if !ok {
		return im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	if len(password) > im.MaxPasswordBytes {
		return im.E(im.Invalid, "A password has at most %d bytes.", im.MaxPasswordBytes).OnField("password")
	}
	try, retry, _ := a.throttle.admit(accountKey{tenant: t, name: string(u)}, addr)
	if retry > 0 {
		a.stats.limitedByAccount.Add(1)
		return tooMany(retry)
	}
	done := unjudged
	defer func() { a.throttle.settle(try, done) }()
	_, ok, err := a.judgePassword(ctx, addr, t, user, normal(password))
	if err != nil {
		return im.Wrap("auth: judge a password of "+string(t), err)
	}
	if done = right; !ok {
		done = wrong
		a.stats.wrong.Add(1)
		return im.E(im.Invalid, "The password is wrong.").OnField("password")
	}
	return nil
}

// rehash stores a hash with the parameters of today for a password that was just
// found right. A failure only puts it off. It returns the hash that counts then.
func (a *Auth) rehash(ctx context.Context, from netip.Addr, u *im.User, password, old string) string {
	phc, err := a.hasher.hash(ctx, from, password)
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
