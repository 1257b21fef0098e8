package auth

import (
	"context"
	"net/netip"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// HashGiven returns the hash of a password that a roster gives to somebody who
// may not be here yet, for PutGiven. It takes its turn behind people who sign in,
// and waits for as long as ctx lets it. Errors: im.Invalid (field password).
func (a *Auth) HashGiven(ctx context.Context, t im.TenantID, username, password string) (phc string, err error) {
	if err := a.CheckPassword(t, username, password); err != nil {
		return "", err
	}
	for {
		phc, err = a.hasher.hash(ctx, netip.Addr{}, normal(password))
		if !im.Is(err, im.RateLimited) {
			return phc, im.Wrap("auth: hash a given password", err)
		}
		select {
		case <-ctx.Done():
			return "", im.Wrap("auth: hash a given password", ctx.Err())
		case <-time.After(time.Second): // many people sign in just now
		}
	}
}

// PutGiven gives a user the password with that hash, unless the user has one
// already: a roster never takes a password away. The user has to
// replace it at the first sign-in. It may be done again.
func (a *Auth) PutGiven(ctx context.Context, t im.TenantID, u im.UserID, phc string) error {
	next := store.Credential{PHC: phc, Changed: a.now()}
	old, err := a.people.Credential(ctx, t, u)
	if err == nil && old.PHC != "" {
		return nil
	}
	if err != nil && !im.Is(err, im.NotFound) {
		return im.Wrap("auth: give a password to "+string(t)+"/"+string(u), err)
	}
	// The mark goes before the password, as in setPassword.
	if err := a.markMustChange(ctx, t, u, true, true); err != nil {
		return err
	}
	err = a.people.UpdateCredential(ctx, t, u, func(old *store.Credential) (*store.Credential, error) {
		if old != nil && old.PHC != "" {
			return nil, nil
		}
		return &next, nil
	})
	return im.Wrap("auth: give a password to "+string(t)+"/"+string(u), err)
}

// HasPassword says whether a user can sign in with a password.
func (a *Auth) HasPassword(ctx context.Context, t im.TenantID, u im.UserID) (bool, error) {
	c, err := a.people.Credential(ctx, t, u)
	if im.Is(err, im.NotFound) {
		return false, nil
	}
	return c.PHC != "", im.Wrap("auth: look for the password of "+string(t)+"/"+string(u), err)
}

// InviteUsers makes an invitation for the account of each user, for login cards,
// and returns the codes, in order; earlier ones for the same accounts end.
func (a *Auth) InviteUsers(ctx context.Context, t im.TenantID, by im.UserID, users []*im.User, lifetime time.Duration) ([]string, error) {
	again := make(map[im.UserID]bool, len(users))
	list := make([]Invitation, len(users))
	for i, u := range users {
		again[u.ID] = true
		list[i] = Invitation{User: u.ID, Role: u.Role, Username: u.Username, Name: u.Name, CreatedBy: by, Lifetime: lifetime}
	}
	if _, err := a.dropInvitations(ctx, t, func(v *Invitation) bool { return v.User != "" && again[v.User] }); err != nil {
		return nil, err
	}
	return a.Invite(ctx, t, list)
}
