package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

func userOf(u *im.User) User {
	return User{ID: string(u.ID), Username: u.Username, Name: u.Name, Role: u.Role.String()}
}

type signInInput struct {
	Remote string `json:"-"`
	Body   struct {
		_        struct{} `additionalProperties:"true"`
		Tenant   string   `json:"tenant,omitempty" maxLength:"200" doc:"The tenant's id; the only one of the box may be left out."`
		Username string   `json:"username" maxLength:"200"`
		Password string   `json:"password" maxLength:"4096"`
		Device   string   `json:"device,omitempty" maxLength:"200" doc:"What the caller calls this device, shown in the list of sign-ins."`
	}
}

// Resolve notes the peer's address, for throttling.
func (in *signInInput) Resolve(ctx huma.Context) []error {
	in.Remote = ctx.RemoteAddr()
	return nil
}

type signInOutput struct {
	CacheControl string `header:"Cache-Control"`
	Body         struct {
		Token   string `json:"token" doc:"Goes into Authorization: Bearer, and into session.hello."`
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
			Device: in.Body.Device, Addr: remoteAddr(in.Remote),
		})
		if err != nil {
			return nil, a.problem(ctx, "sign-in", err)
		}
		t, _ := a.Directory.Tenant(tenant)
		out := &signInOutput{CacheControl: "no-store"}
		out.Body.Token, out.Body.Expires = token, int64(expires)
		out.Body.User, out.Body.Tenant = userOf(&user), Tenant{ID: string(t.ID), Name: t.Name}
		return out, nil
	})

	huma.Register(api, a.secured(api, huma.Operation{
		OperationID: "sign-out", Method: http.MethodDelete, Path: "/v1/sessions/current", Tags: []string{"sessions"},
		Summary: "Sign out: the token ends, and its open sockets close with 4101", DefaultStatus: http.StatusNoContent,
	}), func(ctx context.Context, _ *struct{}) (*struct{}, error) {
		if err := a.Auth.Revoke(ctx, actor(ctx).Tenant, actor(ctx).User, actor(ctx).SignIn); err != nil {
			return nil, a.problem(ctx, "sign-out", err)
		}
		return nil, nil
	})
}

// secured marks an operation as needing a token.
func (a *API) secured(api huma.API, op huma.Operation) huma.Operation {
	op.Security = []map[string][]string{{"token": {}}}
	op.Middlewares = huma.Middlewares{a.signedIn(api)}
	op.MaxBodyBytes = maxBodyBytes
	return op
}
