package auth

import (
	"context"
	"errors"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Errors that a refused token wraps, for who has to close a socket; the answer to
// the client is im.Unauthenticated for all.
var (
	ErrToken     = errors.New("auth: token unknown, expired or revoked")
	ErrDisabled  = errors.New("auth: user disabled")
	ErrSuspended = errors.New("auth: tenant suspended")
)

// The close codes of a session that ends with its sign-in (PROTOCOL 3.9).
const (
	closeToken     = 4101
	closeDisabled  = 4102
	closeSuspended = 4202
)

// CloseCode returns the close code for a session whose token was refused with err
// (PROTOCOL 3.2, 3.9).
func CloseCode(err error) uint16 {
	switch {
	case errors.Is(err, ErrDisabled):
		return closeDisabled
	case errors.Is(err, ErrSuspended):
		return closeSuspended
	}
	return closeToken
}

// VerifyCached judges a token from memory alone, without I/O: it may be called on
// an event loop. hit is false if the token is not known yet: then ask Verify on a
// worker. With hit, either err is nil and actor and user are who it is, or err is
// im.Unauthenticated and wraps one of the errors above. The user is shared and
// read-only.
//
// Whoever lets a session in after Verify asks VerifyCached once more, in the turn
// of the loop that registers the session: a sign-in revoked in between is
// forgotten here before Ended is called, so either this misses, or Ended's event
// finds the session.
func (a *Auth) VerifyCached(token string) (actor im.Actor, user *im.User, hit bool, err error) {
	t, hash, ok := parseToken(token)
	if !ok {
		a.stats.verifyCached.Add(1)
		return im.Actor{}, nil, true, a.refuse(ErrToken)
	}
	c := a.cache.get(hash)
	if c == nil {
		// No tenant, no look-up: strangers don't reach the disk with made-up ones.
		if _, ok := a.users.Tenant(t); ok {
			return im.Actor{}, nil, false, nil
		}
		a.stats.verifyCached.Add(1)
		return im.Actor{}, nil, true, a.refuse(ErrToken)
	}
	a.stats.verifyCached.Add(1)
	actor, user, err = a.judge(c)
	return actor, user, true, err
}

// Verify is VerifyCached that reads the store when it has to. Further errors are
// those of the store.
func (a *Auth) Verify(ctx context.Context, token string) (im.Actor, *im.User, error) {
	if actor, user, hit, err := a.VerifyCached(token); hit {
		return actor, user, err
	}
	t, hash, _ := parseToken(token)
	// It begins anew when something was revoked while it read, since that may have
	// been this very sign-in. Revocations are rare; if they never pause, the answer
	// of the last read is given and not remembered.
	var c *checked
	for range 4 {
		gen := a.cache.begin()
		a.stats.verifyLoaded.Add(1)
		s, err := a.tokens.SignIn(ctx, t, hash)
		if im.Is(err, im.NotFound) {
			return im.Actor{}, nil, a.refuse(ErrToken)
		}
		if err != nil {
			return im.Actor{}, nil, im.Wrap("auth: look up a sign-in of tenant "+string(t), err)
		}
		c = a.remember(&s)
		if a.cache.put(hash, c, gen) {
			break
		}
	}
	return a.judge(c)
}

// remember makes what the cache keeps. Its strings are the directory's where it
// has them, so that 4000 sign-ins don't hold 4000 copies of one tenant id.
func (a *Auth) remember(s *store.SignIn) *checked {
	c := &checked{id: s.ID, tenant: s.Tenant, user: s.User, created: s.CreatedAge, lifetime: s.Lifetime, limited: s.Limited}
	if u, ok := a.users.User(s.Tenant, s.User); ok {
		c.tenant, c.user = u.Tenant, u.ID
	}
	return c
}

// judge says whether a sign-in counts now. Nothing of that is cached: a user who
// is disabled is refused at once.
func (a *Auth) judge(c *checked) (im.Actor, *im.User, error) {
	t, ok := a.users.Tenant(c.tenant)
	if !ok {
		return im.Actor{}, nil, a.refuse(ErrToken)
	}
	if t.Suspended {
		return im.Actor{}, nil, a.refuse(ErrSuspended)
	}
	u, ok := a.users.User(c.tenant, c.user)
	switch {
	case !ok || c.expired(a.box.Age()):
		return im.Actor{}, nil, a.refuse(ErrToken)
	case u.Disabled:
		return im.Actor{}, nil, a.refuse(ErrDisabled)
	}
	role := u.Role
	if c.limited && (role == im.RoleOwner || role == im.RoleAdmin) {
		role = im.RoleStaff
	}
	return im.Actor{Tenant: u.Tenant, User: u.ID, Role: role, SignIn: c.id}, u, nil
}

func (a *Auth) refuse(cause error) error {
	a.stats.verifyRefused.Add(1)
	return &im.Error{Kind: im.Unauthenticated, Message: "Please sign in again.", Cause: cause}
}
