package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// registerAccount adds what people do with their own account.
func (a *API) registerAccount(api huma.API) {
	register(a, api, endpoint{
		ID: "get-me", Method: http.MethodGet, Path: "/v1/me", Tag: "account",
		Summary: "Who one is, and how the account is secured",
	}, func(ctx context.Context, _ *struct{}) (*body[Me], error) {
		who := actor(ctx)
		u, ok := a.Directory.User(who.Tenant, who.User)
		if !ok {
			return nil, im.E(im.NotFound, "There is no such user.")
		}
		s, err := a.security(ctx, u)
		if err != nil {
			return nil, err
		}
		t, _ := a.Directory.Tenant(who.Tenant)
		return &body[Me]{Me{User: userOf(u), Tenant: tenantOf(t), Security: s}}, nil
	})

	register(a, api, endpoint{
		ID: "change-password", Method: http.MethodPut, Path: "/v1/me/password", Tag: "account",
		Summary: "Choose another password; all other sign-ins of one's own end", Status: http.StatusNoContent, Audit: "password.change",
	}, func(ctx context.Context, in *struct{ Body OwnPassword }) (*struct{}, error) {
		who := actor(ctx)
		about(ctx, "user/"+string(who.User), "")
		return nil, a.Auth.ChangePassword(ctx, who.Tenant, who.User, in.Body.Password, in.Body.NewPassword, peer(ctx), who.SignIn)
	})

	register(a, api, endpoint{
		ID: "begin-totp", Method: http.MethodPost, Path: "/v1/me/totp", Tag: "account",
		Summary: "Draw a secret for an authenticator app; it counts once a code of it was confirmed", Status: http.StatusCreated, Audit: "totp.begin", Once: secret,
	}, func(ctx context.Context, in *struct{ Body Reauthentication }) (*body[TOTPSecret], error) {
		if err := a.reauthenticate(ctx, in.Body); err != nil {
			return nil, err
		}
		s, err := a.Auth.BeginTOTP(ctx, actor(ctx).Tenant, actor(ctx).User)
		return &body[TOTPSecret]{TOTPSecret(s)}, err
	})

	register(a, api, endpoint{
		ID: "confirm-totp", Method: http.MethodPut, Path: "/v1/me/totp", Tag: "account",
		Summary: "Confirm the app with a code of it; recovery codes are shown this once", Audit: "totp.set",
	}, func(ctx context.Context, in *struct {
		Body struct {
			_    struct{} `additionalProperties:"true"`
			TOTP string   `json:"totp" maxLength:"100"`
		}
	}) (*body[RecoveryCodes], error) {
		about(ctx, "user/"+string(actor(ctx).User), "")
		codes, err := a.Auth.ConfirmTOTP(ctx, actor(ctx).Tenant, actor(ctx).User, in.Body.TOTP, peer(ctx))
		return &body[RecoveryCodes]{RecoveryCodes{Codes: codes}}, err
	})

	register(a, api, endpoint{
		ID: "remove-totp", Method: http.MethodPost, Path: "/v1/me/totp/remove", Tag: "account",
		Summary: "Remove the second factor", Status: http.StatusNoContent, Audit: "totp.delete",
	}, func(ctx context.Context, in *struct{ Body Reauthentication }) (*struct{}, error) {
		if err := a.reauthenticate(ctx, in.Body); err != nil {
			return nil, err
		}
		return nil, a.Auth.ResetSecondFactor(ctx, actor(ctx).Tenant, actor(ctx).User, false)
	})

	register(a, api, endpoint{
		ID: "new-recovery-codes", Method: http.MethodPost, Path: "/v1/me/recovery-codes", Tag: "account",
		Summary: "Replace the recovery codes; they are shown this once", Status: http.StatusCreated, Audit: "totp.recovery_codes", Once: secret,
	}, func(ctx context.Context, in *struct{ Body Reauthentication }) (*body[RecoveryCodes], error) {
		if err := a.reauthenticate(ctx, in.Body); err != nil {
			return nil, err
		}
		codes, err := a.Auth.NewRecoveryCodes(ctx, actor(ctx).Tenant, actor(ctx).User)
		return &body[RecoveryCodes]{RecoveryCodes{Codes: codes}}, err
	})
}

// reauthenticate judges password and code before something grave: a token that
// was stolen must not be enough to take the account over.
func (a *API) reauthenticate(ctx context.Context, in Reauthentication) error {
	who := actor(ctx)
	about(ctx, "user/"+string(who.User), "")
	if err := a.Auth.Reauthenticate(ctx, who.Tenant, who.User, in.Password, peer(ctx)); err != nil {
		return err
	}
	return a.Auth.CheckSecondFactor(ctx, who.Tenant, who.User, in.TOTP, peer(ctx))
}

func (a *API) security(ctx context.Context, u *im.User) (Security, error) {
	s, err := a.Auth.Security(ctx, u.Tenant, u.ID)
	if err != nil {
		return Security{}, err
	}
	out := Security{Password: s.Password, MustChangePassword: s.MustChange, TOTP: s.TOTP, RecoveryCodes: s.RecoveryCodes, Passkeys: []PasskeyInfo{}}
	for _, p := range s.Passkeys {
		out.Passkeys = append(out.Passkeys, passkeyOf(&p))
	}
	return out, nil
}

func passkeyOf(p *auth.Passkey) PasskeyInfo {
	return PasskeyInfo{ID: p.ID, Name: p.Name, Host: p.RPID, Created: int64(p.Created), Used: int64(p.Used)}
}

// registerPasskeys adds passkeys of one's own, and the sign-in with one.
func (a *API) registerPasskeys(api huma.API) {
	register(a, api, endpoint{
		ID: "begin-passkey", Method: http.MethodPost, Path: "/v1/me/passkeys/options", Tag: "account",
		Summary: "Begin making a passkey: what navigator.credentials.create takes", Audit: "passkey.begin",
	}, func(ctx context.Context, in *struct{ Body Reauthentication }) (*body[PasskeyOptions], error) {
		if err := a.reauthenticate(ctx, in.Body); err != nil {
			return nil, err
		}
		options, state, err := a.Auth.BeginPasskey(ctx, actor(ctx).Tenant, actor(ctx).User, siteOf(ctx))
		return &body[PasskeyOptions]{PasskeyOptions{State: state, Options: options}}, err
	})
	register(a, api, endpoint{
		ID: "add-passkey", Method: http.MethodPost, Path: "/v1/me/passkeys", Tag: "account",
		Summary: "Keep the passkey that the browser made", Status: http.StatusCreated, Audit: "passkey.create", Once: replay,
	}, func(ctx context.Context, in *struct{ Body PasskeyResult }) (*body[PasskeyInfo], error) {
		about(ctx, "user/"+string(actor(ctx).User), "")
		p, err := a.Auth.FinishPasskey(ctx, actor(ctx).Tenant, actor(ctx).User, in.Body.State, in.Body.Name, in.Body.Result)
		return &body[PasskeyInfo]{passkeyOf(&p)}, err
	})
	register(a, api, endpoint{
		ID: "remove-passkey", Method: http.MethodDelete, Path: "/v1/me/passkeys/{passkey}", Tag: "account",
		Summary: "Remove a passkey", Status: http.StatusNoContent, Audit: "passkey.delete",
	}, func(ctx context.Context, in *struct {
		Passkey string `path:"passkey" maxLength:"2000"`
	}) (*struct{}, error) {
		about(ctx, "user/"+string(actor(ctx).User), "")
		return nil, a.Auth.RemovePasskey(ctx, actor(ctx).Tenant, actor(ctx).User, in.Passkey)
	})
	register(a, api, endpoint{
		ID: "begin-passkey-sign-in", Method: http.MethodPost, Path: "/v1/passkeys/options", Tag: "sessions", Caller: anybody,
		Summary: "Begin signing in with a passkey: what navigator.credentials.get takes", MaxBody: 16 << 10, Audit: "session.begin",
	}, func(ctx context.Context, in *struct {
		Body struct {
			_      struct{} `additionalProperties:"true"`
			Tenant string   `json:"tenant,omitempty" maxLength:"200"`
		}
	}) (*body[PasskeyOptions], error) {
		requestOf(ctx).event.Action = "" // nothing is known of anybody yet
		t, err := a.tenantOf(ctx, in.Body.Tenant)
		if err != nil {
			return nil, err
		}
		options, state, err := a.Auth.BeginPasskeySignIn(t, siteOf(ctx), peer(ctx))
		return &body[PasskeyOptions]{PasskeyOptions{State: state, Options: options}}, err
	})
	register(a, api, endpoint{
		ID: "passkey-sign-in", Method: http.MethodPost, Path: "/v1/passkeys/sessions", Tag: "sessions", Caller: anybody,
		Summary: "Sign in with what the browser answered", Status: http.StatusCreated, MaxBody: 64 << 10, Audit: "session.create",
	}, func(ctx context.Context, in *struct {
		Body struct {
			AsCookie
			PasskeyResult
		}
	}) (*grantOutput, error) {
		if err := fromHere(ctx, in.Body.AsCookie); err != nil {
			return nil, err
		}
		note(ctx, "with", "passkey")
		g, err := a.Auth.PasskeySignIn(ctx, in.Body.State, in.Body.Result, in.Body.Name, peer(ctx))
		if err != nil {
			return nil, err
		}
		a.auditSignIn(ctx, g.User.Tenant, &g.User, nil)
		return a.granted(ctx, &g, in.Body.AsCookie), nil
	})
}
