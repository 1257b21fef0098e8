package api

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

func userOf(u *im.User) User {
	return User{ID: string(u.ID), Username: u.Username, Name: u.Name, Role: u.Role.String()}
}

// peer is where a request comes from, for throttling.
func peer(ctx context.Context) netip.Addr { return remoteAddr(requestOf(ctx).http.RemoteAddr()) }

// AsCookie is embedded by the bodies of sign-ins that pages of this server send.
type AsCookie struct {
	Cookie bool `json:"cookie,omitempty" doc:"For pages of this server: the token goes into a cookie that scripts can't read, and not into the answer."`
	Keep   bool `json:"keep,omitempty" doc:"With cookie: it outlives the browser, for a device that is one person's."`
}

type signInInput struct {
	Body struct {
		AsCookie
		_           struct{} `additionalProperties:"true"`
		Tenant      string   `json:"tenant,omitempty" maxLength:"200" doc:"The tenant's id; may be left out if the address names it (/t/NAME, or its host name), or the box has only one."`
		Username    string   `json:"username" maxLength:"200"`
		Password    string   `json:"password" maxLength:"4096"`
		Device      string   `json:"device,omitempty" maxLength:"200" doc:"What the caller calls this device, shown in the list of sign-ins."`
		TOTP        string   `json:"totp,omitempty" maxLength:"100" doc:"The answer to challenge totp or totp_setup: a code of the authenticator app, or a recovery code."`
		NewPassword string   `json:"new_password,omitempty" maxLength:"4096" doc:"The answer to challenge new_password."`
	}
}

type grantOutput struct {
	CacheControl string         `header:"Cache-Control"`
	SetCookie    []*http.Cookie `header:"Set-Cookie"`
	Body         Grant
}

// fromHere refuses a sign-in that is to set a cookie and comes from elsewhere
// (PROTOCOL 9.5). It is asked before anything is judged.
func fromHere(ctx context.Context, as AsCookie) error {
	if !as.Cookie {
		return nil
	}
	return auth.OwnPage(requestFrom(requestOf(ctx).http))
}

// granted is the answer to a sign-in of any way.
func (a *API) granted(ctx context.Context, g *auth.Granted, as AsCookie) *grantOutput {
	t, _ := a.Directory.Tenant(g.User.Tenant)
	out := &grantOutput{CacheControl: "no-store", Body: Grant{
		Token: g.Token, Expires: int64(g.Expires), User: userOf(&g.User), Tenant: tenantOf(t), RecoveryCodes: g.Recovery,
	}}
	if as.Cookie {
		r := requestFrom(requestOf(ctx).http)
		// The token is always a new one: nobody can have planted it beforehand.
		a.endReplaced(ctx, r)
		out.Body.Token, out.SetCookie = "", []*http.Cookie{auth.SignInCookie(r, g.Token, a.Auth.Lifetime(), as.Keep)}
	}
	return out
}

// endReplaced ends the sign-in of the cookie that a new one takes the place of: in
// this browser nobody can reach it any more.
func (a *API) endReplaced(ctx context.Context, r *http.Request) {
	token := auth.RequestToken(r)
	if token == "" {
		return
	}
	if who, _, err := a.Auth.Verify(ctx, token); err == nil {
		if err := a.Auth.Revoke(ctx, who.Tenant, who.User, who.SignIn); err != nil {
			a.log.Info("replaced sign-in not ended", "tenant", string(who.Tenant), "user", string(who.User), "error", err)
		}
	}
}

type signOutOutput struct {
	SetCookie []*http.Cookie `header:"Set-Cookie"`
}

// auditSignIn says in the audit log who signed in, or whom somebody tried to be:
// never the name that was typed, which may be a password in the wrong field.
func (a *API) auditSignIn(ctx context.Context, t im.TenantID, u *im.User, err error) {
	aboutTenant(ctx, t)
	if u == nil {
		return
	}
	about(ctx, "user/"+string(u.ID), u.Username)
	if err == nil {
		requestOf(ctx).event.Weighty = administers(u.Role)
		requestOf(ctx).event.Actor = audit.Actor{Kind: audit.ByUser, ID: string(u.ID), Name: u.Username}
	}
}

// registerSessions adds sign-in, sign-out and the list of one's own sign-ins
// (PROTOCOL 9.2).
func (a *API) registerSessions(api huma.API) {
	register(a, api, endpoint{
		ID: "sign-in", Method: http.MethodPost, Path: "/v1/sessions", Tag: "sessions", Caller: anybody,
		Summary: "Sign in with a user name and a password", Status: http.StatusCreated, MaxBody: 16 << 10, Audit: "session.create",
	}, func(ctx context.Context, in *signInInput) (*grantOutput, error) {
		if err := fromHere(ctx, in.Body.AsCookie); err != nil {
			return nil, err
		}
		t, err := a.tenantOf(ctx, in.Body.Tenant)
		if err != nil {
			return nil, err
		}
		g, err := a.Auth.SignIn(ctx, auth.SignInRequest{
			Tenant: t, Username: in.Body.Username, Password: in.Body.Password, TOTP: in.Body.TOTP, NewPassword: in.Body.NewPassword,
			Device: in.Body.Device, Addr: peer(ctx),
		})
		u, _ := a.Directory.ByUsername(t, in.Body.Username)
		a.auditSignIn(ctx, t, u, err)
		note(ctx, "with", "password")
		if err != nil {
			return nil, err
		}
		return a.granted(ctx, &g, in.Body.AsCookie), nil
	})

	register(a, api, endpoint{
		ID: "sign-out", Method: http.MethodDelete, Path: "/v1/sessions/current", Tag: "sessions",
		Summary: "Sign out: the token ends, and its open sockets close with 4101", Status: http.StatusNoContent, Audit: "session.delete",
	}, func(ctx context.Context, _ *struct{}) (*signOutOutput, error) {
		out := &signOutOutput{}
		if r := requestFrom(requestOf(ctx).http); auth.RequestToken(r) != "" {
			out.SetCookie = auth.ForgetCookies(r)
		}
		return out, a.endSession(ctx, actor(ctx).User, actor(ctx).SignIn)
	})

	register(a, api, endpoint{
		ID: "list-sessions", Method: http.MethodGet, Path: "/v1/sessions", Tag: "sessions",
		Summary: "One's own sign-ins, newest first",
	}, func(ctx context.Context, _ *struct{}) (*body[SessionList], error) {
		return a.sessions(ctx, actor(ctx).User)
	})

	register(a, api, endpoint{
		ID: "delete-session", Method: http.MethodDelete, Path: "/v1/sessions/{session}", Tag: "sessions",
		Summary: "End one of one's own sign-ins", Status: http.StatusNoContent, Audit: "session.delete",
	}, func(ctx context.Context, in *struct {
		Session string `path:"session" maxLength:"200"`
	}) (*struct{}, error) {
		return nil, a.endSession(ctx, actor(ctx).User, im.SignInID(in.Session))
	})

	register(a, api, endpoint{
		ID: "delete-sessions", Method: http.MethodDelete, Path: "/v1/sessions", Tag: "sessions",
		Summary: "Sign out everywhere", Status: http.StatusNoContent, Audit: "session.delete_all",
	}, func(ctx context.Context, in *struct {
		Keep bool `query:"keep_current" doc:"All but this one."`
	}) (*struct{}, error) {
		who := actor(ctx)
		about(ctx, "user/"+string(who.User), "")
		if in.Keep {
			return nil, a.Auth.RevokeOthers(ctx, who.Tenant, who.User, who.SignIn)
		}
		return nil, a.Auth.RevokeUser(ctx, who.Tenant, who.User)
	})
}

func (a *API) endSession(ctx context.Context, u im.UserID, id im.SignInID) error {
	about(ctx, "user/"+string(u), "")
	note(ctx, "session", string(id))
	return a.Auth.Revoke(ctx, actor(ctx).Tenant, u, id)
}

func (a *API) sessions(ctx context.Context, u im.UserID) (*body[SessionList], error) {
	who := actor(ctx)
	list, err := a.Auth.SignIns(ctx, who.Tenant, u)
	if err != nil {
		return nil, err
	}
	out := &body[SessionList]{SessionList{Sessions: make([]SessionInfo, 0, len(list))}}
	for _, s := range list {
		out.Body.Sessions = append(out.Body.Sessions, SessionInfo{ID: string(s.ID), Device: s.Device, Created: int64(s.Created),
			Expires: int64(s.Expires), Current: s.ID == who.SignIn})
	}
	return out, nil
}
