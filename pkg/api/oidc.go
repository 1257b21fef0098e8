package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/im"
)

// OperatorID is the id of a client or a provider of a tenant in an address.
type OperatorID struct {
	TenantPath
	ID string `path:"id" maxLength:"200"`
}

// registerOIDC adds the programs that sign people in through the box and the
// providers that people come from, for owners and admins. Programs can't change them.
func (a *API) registerOIDC(api huma.API) {
	may := func(ctx context.Context) error { return access.Administer(actor(ctx), 0, access.UpdateTenant) }
	register(a, api, endpoint{ID: "list-oidc-clients", Method: http.MethodGet, Path: "/v1/oidc/clients", Tag: "sign-in", Summary: "The programs that sign people in through this server (owners and admins)"},
		func(ctx context.Context, _ *struct{}) (*body[apiclient.OIDCClientList], error) {
			if err := may(ctx); err != nil {
				return nil, err
			}
			return a.oidcClients(ctx, actor(ctx).Tenant)
		})
	register(a, api, endpoint{ID: "add-oidc-client", Method: http.MethodPost, Path: "/v1/oidc/clients", Tag: "sign-in", Summary: "Let a program sign people in; its secret is shown this once (owners and admins)",
		Status: http.StatusCreated, Audit: "oidc-client.create", Once: secret},
		func(ctx context.Context, in *body[apiclient.NewOIDCClient]) (*body[apiclient.OIDCClient], error) {
			if err := may(ctx); err != nil {
				return nil, err
			}
			return a.addOIDCClient(ctx, actor(ctx).Tenant, in.Body)
		})
	register(a, api, endpoint{ID: "remove-oidc-client", Method: http.MethodDelete, Path: "/v1/oidc/clients/{id}", Tag: "sign-in", Summary: "Remove a program; its tokens end at once (owners and admins)",
		Status: http.StatusNoContent, Audit: "oidc-client.delete"},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"200"`
		}) (*struct{}, error) {
			about(ctx, "oidc-client/"+in.ID, "")
			if err := may(ctx); err != nil {
				return nil, err
			}
			return nil, a.OpenID.RemoveClient(ctx, actor(ctx).Tenant, in.ID)
		})
	register(a, api, endpoint{ID: "list-oidc-providers", Method: http.MethodGet, Path: "/v1/oidc/providers", Tag: "sign-in", Summary: "The providers that people sign in through (owners and admins)"},
		func(ctx context.Context, _ *struct{}) (*body[apiclient.OIDCProviderList], error) {
			if err := may(ctx); err != nil {
				return nil, err
			}
			return a.oidcProviders(ctx, actor(ctx).Tenant)
		})
	register(a, api, endpoint{ID: "get-oidc-provider", Method: http.MethodGet, Path: "/v1/oidc/providers/{id}", Tag: "sign-in", Summary: "One provider, with its version (owners and admins)", Tagged: true},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"200"`
		}) (*body[apiclient.OIDCProvider], error) {
			if err := may(ctx); err != nil {
				return nil, err
			}
			v, err := a.oidcProvider(ctx, actor(ctx).Tenant, in.ID)
			return &body[apiclient.OIDCProvider]{v}, err
		})
	register(a, api, endpoint{ID: "put-oidc-provider", Method: http.MethodPut, Path: "/v1/oidc/providers/{id}", Tag: "sign-in", Summary: "Let people sign in through a provider of yours (owners and admins)",
		Audit: "oidc-provider.update", Tagged: true},
		func(ctx context.Context, in *struct {
			ID   string `path:"id" maxLength:"200"`
			Body apiclient.PutOIDCProvider
		}) (*body[apiclient.OIDCProvider], error) {
			if err := may(ctx); err != nil {
				return nil, err
			}
			now, err := a.oidcProvider(ctx, actor(ctx).Tenant, in.ID)
			if err != nil && !im.Is(err, im.NotFound) {
				return nil, err
			}
			if err := matches(ctx, now); err != nil {
				return nil, err
			}
			return a.putOIDCProvider(ctx, actor(ctx).Tenant, in.ID, in.Body)
		})
	register(a, api, endpoint{ID: "test-oidc-provider", Method: http.MethodPost, Path: "/v1/oidc/providers/{id}/test", Tag: "sign-in", Summary: "Ask a provider for its description, as a sign-in does (owners and admins)",
		Audit: "oidc-provider.test"},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"200"`
		}) (*body[apiclient.ProviderTest], error) {
			about(ctx, "oidc-provider/"+in.ID, "")
			if err := may(ctx); err != nil {
				return nil, err
			}
			text, err := a.Providers.Test(ctx, actor(ctx).Tenant, in.ID)
			return &body[apiclient.ProviderTest]{apiclient.ProviderTest{OK: err == nil && text == "", Text: text}}, err
		})
	register(a, api, endpoint{ID: "remove-oidc-provider", Method: http.MethodDelete, Path: "/v1/oidc/providers/{id}", Tag: "sign-in", Summary: "Remove a provider and its links; accounts stay (owners and admins)",
		Status: http.StatusNoContent, Audit: "oidc-provider.delete"},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"200"`
		}) (*struct{}, error) {
			about(ctx, "oidc-provider/"+in.ID, "")
			if err := may(ctx); err != nil {
				return nil, err
			}
			return nil, a.Providers.Remove(ctx, actor(ctx).Tenant, in.ID)
		})
}

// registerTenantOIDC is registerOIDC for the operator.
func (a *API) registerTenantOIDC(api huma.API) {
	const base = "/admin/tenants/{tenant}/oidc"
	operation(a, api, "list-oidc-clients", http.MethodGet, base+"/clients", "", "The programs that sign people of a tenant in", 0,
		func(ctx context.Context, in *TenantPath) (*body[apiclient.OIDCClientList], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			return a.oidcClients(ctx, t.ID)
		})
	operation(a, api, "add-oidc-client", http.MethodPost, base+"/clients", "oidc-client.create", "Let a program sign people of a tenant in; its secret is shown this once", http.StatusCreated,
		func(ctx context.Context, in *struct {
			TenantPath
			Body apiclient.NewOIDCClient
		}) (*body[apiclient.OIDCClient], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			return a.addOIDCClient(ctx, t.ID, in.Body)
		})
	operation(a, api, "remove-oidc-client", http.MethodDelete, base+"/clients/{id}", "oidc-client.delete", "Remove a program; its tokens end at once", http.StatusNoContent,
		func(ctx context.Context, in *OperatorID) (*struct{}, error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			about(ctx, "oidc-client/"+in.ID, "")
			return nil, a.OpenID.RemoveClient(ctx, t.ID, in.ID)
		})
	operation(a, api, "list-oidc-providers", http.MethodGet, base+"/providers", "", "The providers that people of a tenant sign in through", 0,
		func(ctx context.Context, in *TenantPath) (*body[apiclient.OIDCProviderList], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			return a.oidcProviders(ctx, t.ID)
		})
	operation(a, api, "put-oidc-provider", http.MethodPut, base+"/providers/{id}", "oidc-provider.update", "Let people of a tenant sign in through a provider", 0,
		func(ctx context.Context, in *struct {
			OperatorID
			Body apiclient.PutOIDCProvider
		}) (*body[apiclient.OIDCProvider], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			return a.putOIDCProvider(ctx, t.ID, in.ID, in.Body)
		})
	operation(a, api, "remove-oidc-provider", http.MethodDelete, base+"/providers/{id}", "oidc-provider.delete", "Remove a provider and its links; accounts stay", http.StatusNoContent,
		func(ctx context.Context, in *OperatorID) (*struct{}, error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			about(ctx, "oidc-provider/"+in.ID, "")
			return nil, a.Providers.Remove(ctx, t.ID, in.ID)
		})
}

func oidcClientOf(c *oidcop.Client) apiclient.OIDCClient {
	return apiclient.OIDCClient{ID: c.ID, Name: c.Name, Kind: c.Kind, RedirectURIs: some(c.RedirectURIs), LogoutURIs: some(c.LogoutURIs), Scopes: some(c.Scopes),
		Alg: c.Alg, Trusted: c.Trusted, Introspect: c.Introspect, Created: int64(c.Created)}
}

func (a *API) oidcClients(ctx context.Context, t im.TenantID) (*body[apiclient.OIDCClientList], error) {
	list, err := a.OpenID.Clients(ctx, t)
	if err != nil {
		return nil, err
	}
	out := &body[apiclient.OIDCClientList]{apiclient.OIDCClientList{Clients: make([]apiclient.OIDCClient, 0, len(list))}}
	for i := range list {
		out.Body.Clients = append(out.Body.Clients, oidcClientOf(&list[i]))
	}
	return out, nil
}

func (a *API) addOIDCClient(ctx context.Context, t im.TenantID, in apiclient.NewOIDCClient) (*body[apiclient.OIDCClient], error) {
	c, secret, err := a.OpenID.AddClient(ctx, t, oidcop.Client{ID: in.ID, Name: in.Name, Kind: in.Kind, RedirectURIs: in.RedirectURIs, LogoutURIs: in.LogoutURIs,
		Scopes: in.Scopes, Alg: in.Alg, Trusted: in.Trusted, Introspect: in.Introspect})
	if err != nil {
		return nil, err
	}
	about(ctx, "oidc-client/"+c.ID, c.Name)
	out := &body[apiclient.OIDCClient]{oidcClientOf(&c)}
	out.Body.Secret = secret
	return out, nil
}

func oidcProviderOf(t im.TenantID, v *oidcrp.Provider) apiclient.OIDCProvider {
	out := apiclient.OIDCProvider{ID: v.ID, Name: v.Name, Issuer: v.Issuer, ClientID: v.ClientID, Secret: v.ClientSecret != "", Scopes: some(v.Scopes), Domains: some(v.Domains),
		Create: v.Create, Link: v.Link, Username: v.Username, Role: v.Role, RoleClaim: v.RoleClaim, Roles: v.Roles, ClassClaim: v.ClassClaim, Classes: v.Classes,
		Created: int64(v.Created), Callback: oidcrp.CallbackPath(t, v.ID)}
	if out.Roles == nil {
		out.Roles = map[string]string{}
	}
	if out.Classes == nil {
		out.Classes = map[string]string{}
	}
	return out
}

func (a *API) oidcProviders(ctx context.Context, t im.TenantID) (*body[apiclient.OIDCProviderList], error) {
	list, err := a.Providers.Providers(ctx, t)
	if err != nil {
		return nil, err
	}
	out := &body[apiclient.OIDCProviderList]{apiclient.OIDCProviderList{Providers: make([]apiclient.OIDCProvider, 0, len(list))}}
	for i := range list {
		out.Body.Providers = append(out.Body.Providers, oidcProviderOf(t, &list[i]))
	}
	return out, nil
}

func (a *API) oidcProvider(ctx context.Context, t im.TenantID, id string) (apiclient.OIDCProvider, error) {
	list, err := a.Providers.Providers(ctx, t)
	for i := range list {
		if list[i].ID == id {
			return oidcProviderOf(t, &list[i]), nil
		}
	}
	if err == nil {
		err = im.E(im.NotFound, "There is no such provider.")
	}
	return apiclient.OIDCProvider{}, err
}

func (a *API) putOIDCProvider(ctx context.Context, t im.TenantID, id string, in apiclient.PutOIDCProvider) (*body[apiclient.OIDCProvider], error) {
	about(ctx, "oidc-provider/"+id, in.Name)
	v, err := a.Providers.Put(ctx, t, oidcrp.Provider{ID: id, Name: in.Name, Issuer: in.Issuer, ClientID: in.ClientID, ClientSecret: in.ClientSecret, Scopes: in.Scopes,
		Domains: in.Domains, Create: in.Create, Link: in.Link, Username: in.Username, Role: in.Role, RoleClaim: in.RoleClaim, Roles: in.Roles, ClassClaim: in.ClassClaim, Classes: in.Classes})
	if err != nil {
		return nil, err
	}
	return &body[apiclient.OIDCProvider]{oidcProviderOf(t, &v)}, nil
}

// some makes an absent list an empty one, which JSON does not write as null.
func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
