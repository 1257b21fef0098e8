package app

import (
	"context"
	"net/http"

	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
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
		Profile: a.profile, Externals: a.externals, Via: oidcrp.Via, TrustedClock: a.trustedClock, Audit: a.auditSignIn,
	}); err != nil {
		return err
	}
	a.rp, err = oidcrp.New(oidcrp.Options{
		Records: a.store, Box: a.store, Users: a.dir, Pages: a.op, Issue: a.auth.Issue, Create: a.newcomer, Log: a.log,
		TrustedClock: a.trustedClock, Audit: a.auditSignIn,
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

// trustedClock says why the time can't be relied on, or nil (DESIGN 5.7). Only what
// goes by the wall clock asks it: id_tokens that the box gives out, and those of
// other providers, whose expiry can't be judged. Passwords, passkeys, cards, tokens
// and programs that ask for no id_token go on without it. Unlike the health
// condition, which is looked at now and then, it is judged anew each time, so that
// sign-in works from the moment at which the clock was set.
func (a *App) trustedClock() error {
	if a.host.ClockTrust(a.config().DataDir).Believed() {
		return nil
	}
	return im.E(im.Unavailable, "The clock of this box was not set since it was switched on.")
}

// auditSignIn writes down what happened on the pages and endpoints of sign-in.
func (a *App) auditSignIn(ctx context.Context, t im.TenantID, e auth.Event) {
	out := audit.Event{Action: e.Action, Actor: audit.Actor{Kind: audit.ByNobody}, Result: audit.ResultOf(e.Err), Detail: e.Detail}
	if e.Addr.IsValid() {
		out.Addr = e.Addr.String()
	}
	if e.User != "" {
		out.Object = "user/" + string(e.User)
		if u, ok := a.dir.User(t, e.User); ok {
			out.Name = u.Username
			out.Weighty = e.ByUser && e.Err == nil && (u.Role == im.RoleOwner || u.Role == im.RoleAdmin)
		}
	}
	switch {
	case e.ByUser:
		out.Actor = audit.Actor{Kind: audit.ByUser, ID: string(e.User), Name: out.Name}
	case e.Client != "":
		out.Actor = audit.Actor{Kind: audit.ByProgram, ID: e.Client, User: string(e.User)}
	case e.Err == nil:
		out.Actor.Kind = audit.BySystem // a rule
	}
	// What can't be written is logged there, and the sign-in is done all the same.
	_ = a.audit.Add(ctx, t, out)
}
