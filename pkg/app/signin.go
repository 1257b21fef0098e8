package app

import (
	"context"
	"net/http"

	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

// openSignIn makes the OpenID provider of each tenant and the way in through the
// customers' own.
func (a *App) openSignIn(grants *oidcop.Grants) (err error) {
	if a.op, err = oidcop.New(oidcop.Options{
		Auth: a.auth, Grants: grants, Users: a.dir, Records: a.store, Box: a.store, Log: a.log,
		Profile: a.profile, Externals: a.externals,
	}); err != nil {
		return err
	}
	a.rp, err = oidcrp.New(oidcrp.Options{
		Records: a.store, Box: a.store, Users: a.dir, Pages: a.op, Issue: a.auth.Issue, Create: a.newcomer, Log: a.log,
	})
	return err
}

// signInFirst puts the sign-in pages and the OpenID provider of each tenant before
// everything else that is served.
func (a *App) signInFirst(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	a.op.Routes(mux)
	a.rp.Routes(mux)
	mux.Handle("/", next)
	return mux
}

// profile is what programs may learn of a person beside name and role.
func (a *App) profile(_ context.Context, t im.TenantID, u im.UserID) (oidcop.Profile, error) {
	var p oidcop.Profile
	for _, c := range a.dir.ClassesOf(t, u) {
		if !c.Archived {
			p.Classes = append(p.Classes, c.Name)
		}
	}
	return p, nil
}

// externals lists a tenant's providers for its sign-in page; without them people
// sign in with their passwords all the same.
func (a *App) externals(ctx context.Context, t im.TenantID) []oidcop.External {
	list, err := a.rp.Providers(ctx, t)
	if err != nil {
		a.log.Warn("providers not listed", "tenant", string(t), "error", err)
		return nil
	}
	var out []oidcop.External
	for _, v := range list {
		out = append(out, oidcop.External{ID: v.ID, Name: v.Name, Down: a.rp.IsDown(t, v.ID)})
	}
	return out
}

// newcomer makes the account of somebody whom an administrator's rule lets in.
func (a *App) newcomer(ctx context.Context, t im.TenantID, n oidcrp.Newcomer) (im.UserID, error) {
	u, err := a.dir.AddUser(ctx, t, directory.NewUser{Username: n.Username, Name: n.Name, Role: n.Role})
	if err == nil {
		if jerr := a.roster.Join(ctx, t, u.ID, n.Classes); jerr != nil {
			a.log.Info("classes of a newcomer not joined", "tenant", string(t), "user", string(u.ID), "error", jerr)
		}
	}
	return u.ID, err
}
