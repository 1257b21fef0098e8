package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

func userOf(u *im.User) User {
	return User{ID: string(u.ID), Username: u.Username, Name: u.Name, Role: u.Role.String()}
}

type signInInput struct {
	request *http.Request
	Body    struct {
		_        struct{} `additionalProperties:"true"`
		Tenant   string   `json:"tenant,omitempty" maxLength:"200" doc:"The tenant's id; the only one of the box may be left out."`
		Username string   `json:"username" maxLength:"200"`
		Password string   `json:"password" maxLength:"4096"`
		Device   string   `json:"device,omitempty" maxLength:"200" doc:"What the caller calls this device, shown in the list of sign-ins."`
		Cookie   bool     `json:"cookie,omitempty" doc:"For pages of this server: the token goes into a cookie that scripts can't read, and not into the answer."`
		Keep     bool     `json:"keep,omitempty" doc:"With cookie: it outlives the browser, for a device that is one person's."`
	}
}

// Resolve keeps the request, for throttling by address and for cookies.
func (in *signInInput) Resolve(ctx huma.Context) []error {
	in.request, _ = humago.Unwrap(ctx)
	return nil
}

// signOutInput is the request alone.
type signOutInput struct{ request *http.Request }

// Resolve keeps the request, for its cookies.
func (in *signOutInput) Resolve(ctx huma.Context) []error {
	in.request, _ = humago.Unwrap(ctx)
	return nil
}

type signOutOutput struct {
	SetCookie []*http.Cookie `header:"Set-Cookie"`
}

type signInOutput struct {
	CacheControl string         `header:"Cache-Control"`
	SetCookie    []*http.Cookie `header:"Set-Cookie"`
	Body         struct {
		Token   string `json:"token,omitempty" doc:"Goes into Authorization: Bearer, and into session.hello. Absent with cookie."`
		Expires int64  `json:"expires" doc:"UTC milliseconds; an estimate while the box's clock is not trusted."`
		User    User   `json:"user"`
		Tenant  Tenant `json:"tenant"`
	}
}

// registerSessions adds sign-in and sign-out (PROTOCOL 9.2).
func (a *API) registerSessions(api huma.API) {
	huma.Register(api, huma.Operation{
		OperationID: "sign-in", Method: http.MethodPost, Path: "/v1/sessions", Tags: []string{"sessions"},
		Summary: "Sign in with a user name and a password", DefaultStatus: http.StatusCreated, MaxBodyBytes: 16 << 10,
	}, func(ctx context.Context, in *signInInput) (*signInOutput, error) {
		if in.Body.Cookie {
			if err := auth.OwnPage(in.request); err != nil {
				return nil, a.problem(ctx, "sign-in", err)
			}
		}
		tenant := im.TenantID(in.Body.Tenant)
		if tenant == "" {
			only, ok := a.Directory.OnlyTenant()
			if !ok {
				return nil, a.problem(ctx, "sign-in", im.E(im.Invalid, "Say which organisation: this server has more than one, or none yet.").OnField("tenant"))
			}
			tenant = only
		}
		token, expires, user, err := a.Auth.SignIn(ctx, auth.SignInRequest{
			Tenant: tenant, Username: in.Body.Username, Password: in.Body.Password,
			Device: in.Body.Device, Addr: remoteAddr(in.request.RemoteAddr),
		})
		if err != nil {
			return nil, a.problem(ctx, "sign-in", err)
		}
		t, _ := a.Directory.Tenant(tenant)
		out := &signInOutput{CacheControl: "no-store"}
		out.Body.Expires = int64(expires)
		if in.Body.Cookie {
			// The token is always a new one: nobody can have planted it beforehand.
			a.endReplaced(ctx, in.request)
			out.SetCookie = []*http.Cookie{auth.SignInCookie(in.request, token, a.Auth.Lifetime(), in.Body.Keep)}
		} else {
			out.Body.Token = token
		}
		out.Body.User, out.Body.Tenant = userOf(&user), Tenant{ID: string(t.ID), Name: t.Name}
		return out, nil
	})

	huma.Register(api, a.secured(api, huma.Operation{
		OperationID: "sign-out", Method: http.MethodDelete, Path: "/v1/sessions/current", Tags: []string{"sessions"},
		Summary: "Sign out: the token ends, and its open sockets close with 4101", DefaultStatus: http.StatusNoContent,
	}), func(ctx context.Context, in *signOutInput) (*signOutOutput, error) {
		if err := a.Auth.Revoke(ctx, actor(ctx).Tenant, actor(ctx).User, actor(ctx).SignIn); err != nil {
			return nil, a.problem(ctx, "sign-out", err)
		}
		out := &signOutOutput{}
		if auth.RequestToken(in.request) != "" {
			out.SetCookie = auth.ForgetCookies(in.request)
		}
		return out, nil
	})
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

// secured marks an operation as needing a token.
func (a *API) secured(api huma.API, op huma.Operation) huma.Operation {
	op.Security = []map[string][]string{{"token": {}}, {"cookie": {}}}
	op.Middlewares = huma.Middlewares{a.signedIn(api)}
	op.MaxBodyBytes = maxBodyBytes
	return op
}
