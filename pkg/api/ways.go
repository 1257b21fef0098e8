package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/im"
)

// registerWays adds how people get in besides their password: what a sign-in page
// offers, and whose accounts elsewhere are linked with one's own.
func (a *API) registerWays(api huma.API) {
	register(a, api, endpoint{
		ID: "sign-in-ways", Method: http.MethodGet, Path: "/v1/sign-in", Tag: "sessions", Caller: anybody,
		Summary: "What a sign-in page offers: the organisation and the providers that it takes people from",
	}, func(ctx context.Context, in *struct {
		Tenant string `query:"tenant" maxLength:"200"`
	}) (*body[apiclient.SignInWays], error) {
		t, err := a.tenantOf(ctx, in.Tenant)
		if err != nil {
			return nil, err
		}
		ten, ok := a.Directory.Tenant(t)
		if !ok || ten.Suspended { // the same for both, as the sign-in pages say it
			return nil, im.E(im.NotFound, "There is no such organisation here.").OnField("tenant")
		}
		out := &body[apiclient.SignInWays]{apiclient.SignInWays{Tenant: tenantOf(ten), Providers: []apiclient.SignInProvider{}}}
		list, err := a.Providers.Providers(ctx, t)
		if err != nil {
			// Passwords are taken all the same.
			a.log.Warn("providers not listed", "tenant", string(t), "error", err)
			return out, nil
		}
		via := oidcrp.Via(requestFrom(requestOf(ctx).http))
		for _, v := range list {
			out.Body.Providers = append(out.Body.Providers, apiclient.SignInProvider{ID: v.ID, Name: v.Name, Path: oidcrp.SignInPath(t, v.ID),
				Down: a.Providers.IsDown(t, v.ID), Last: v.ID == via})
		}
		return out, nil
	})

	register(a, api, endpoint{
		ID: "list-linked", Method: http.MethodGet, Path: "/v1/me/providers", Tag: "account",
		Summary: "The providers of the organisation, and whether one's own account is linked with them",
	}, func(ctx context.Context, _ *struct{}) (*body[apiclient.LinkedProviders], error) {
		who := actor(ctx)
		list, err := a.Providers.Providers(ctx, who.Tenant)
		if err != nil {
			return nil, err
		}
		links, err := a.Providers.Links(ctx, who.Tenant, who.User)
		if err != nil {
			return nil, err
		}
		out := &body[apiclient.LinkedProviders]{apiclient.LinkedProviders{Providers: make([]apiclient.LinkedProvider, 0, len(list))}}
		for _, v := range list {
			p := apiclient.LinkedProvider{ID: v.ID, Name: v.Name, Path: oidcrp.SignInPath(who.Tenant, v.ID)}
			if i := slices.IndexFunc(links, func(l oidcrp.Link) bool { return l.Provider == v.ID }); i >= 0 {
				p.Linked, p.By, p.Created = true, links[i].By, int64(links[i].Created)
			}
			out.Body.Providers = append(out.Body.Providers, p)
		}
		return out, nil
	})

	register(a, api, endpoint{
		ID: "unlink", Method: http.MethodDelete, Path: "/v1/me/providers/{id}", Tag: "account",
		Summary: "Unlink one's own account from a provider", Status: http.StatusNoContent, Audit: "provider.unlink",
	}, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"200"`
	}) (*struct{}, error) {
		who := actor(ctx)
		about(ctx, "user/"+string(who.User), "")
		note(ctx, "provider", in.ID)
		links, err := a.Providers.Links(ctx, who.Tenant, who.User)
		if err != nil {
			return nil, err
		}
		s, err := a.Auth.Security(ctx, who.Tenant, who.User)
		if err != nil {
			return nil, err
		}
		if len(links) == 1 && links[0].Provider == in.ID && !s.Password && len(s.Passkeys) == 0 {
			return nil, im.E(im.Conflict, "This is your only way in. Add a passkey first, or ask an administrator for a password.")
		}
		return nil, a.Providers.Unlink(ctx, who.Tenant, who.User, in.ID)
	})
}
