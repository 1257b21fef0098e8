package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

func (a *API) apiTokenOf(k *auth.APIToken) APIToken {
	out := APIToken{ID: k.ID, Name: k.Name, User: string(k.User), CreatedBy: string(k.CreatedBy), Created: int64(k.Created), Expires: int64(a.Auth.Expires(k))}
	for _, s := range k.Scopes {
		out.Scopes = append(out.Scopes, string(s))
	}
	return out
}

// registerTokens adds API tokens. Programs can't make or end them.
func (a *API) registerTokens(api huma.API) {
	register(a, api, endpoint{
		ID: "list-tokens", Method: http.MethodGet, Path: "/v1/tokens", Tag: "tokens", Summary: "The API tokens of programs (owners and admins)",
	}, func(ctx context.Context, _ *struct{}) (*body[APITokenList], error) {
		if err := access.Administer(actor(ctx), 0, access.UpdateTenant); err != nil {
			return nil, err
		}
		return a.apiTokens(ctx, actor(ctx).Tenant)
	})
	register(a, api, endpoint{
		ID: "add-token", Method: http.MethodPost, Path: "/v1/tokens", Tag: "tokens", Summary: "Make an API token; it is shown this once (owners and admins)",
		Status: http.StatusCreated, Audit: "token.create", Once: secret,
	}, func(ctx context.Context, in *struct{ Body NewAPIToken }) (*body[MadeAPIToken], error) {
		who := actor(ctx)
		if err := access.Administer(who, 0, access.UpdateTenant); err != nil {
			return nil, err
		}
		if in.Body.User == "" {
			in.Body.User = string(who.User)
		}
		// A token has the rights of its user: nobody makes one of somebody above.
		u, ok := a.Directory.User(who.Tenant, im.UserID(in.Body.User))
		if !ok {
			return nil, im.E(im.NotFound, "There is no such user.").OnField("user")
		}
		if err := access.Administer(who, u.Role, access.SetPassword); err != nil && u.ID != who.User {
			return nil, err
		}
		return a.makeToken(ctx, who.Tenant, who.User, in.Body)
	})
	register(a, api, endpoint{
		ID: "revoke-token", Method: http.MethodDelete, Path: "/v1/tokens/{token}", Tag: "tokens", Summary: "End an API token (owners and admins)",
		Status: http.StatusNoContent, Audit: "token.delete",
	}, func(ctx context.Context, in *struct {
		Token string `path:"token" maxLength:"200"`
	}) (*struct{}, error) {
		about(ctx, "token/"+in.Token, "")
		if err := access.Administer(actor(ctx), 0, access.UpdateTenant); err != nil {
			return nil, err
		}
		return nil, a.revokeToken(ctx, actor(ctx).Tenant, in.Token)
	})
}

func (a *API) apiTokens(ctx context.Context, t im.TenantID) (*body[APITokenList], error) {
	list, err := a.Auth.APITokens(ctx, t)
	if err != nil {
		return nil, err
	}
	out := &body[APITokenList]{APITokenList{Tokens: make([]APIToken, 0, len(list))}}
	for i := range list {
		out.Body.Tokens = append(out.Body.Tokens, a.apiTokenOf(&list[i]))
	}
	return out, nil
}

func (a *API) makeToken(ctx context.Context, t im.TenantID, by im.UserID, in NewAPIToken) (*body[MadeAPIToken], error) {
	n := auth.NewAPIToken{Name: in.Name, User: im.UserID(in.User), CreatedBy: by, Lifetime: time.Duration(in.ExpiresIn) * time.Second}
	for _, s := range in.Scopes {
		n.Scopes = append(n.Scopes, auth.Scope(s))
	}
	token, k, err := a.Auth.MakeAPIToken(ctx, t, n)
	if err != nil {
		return nil, err
	}
	about(ctx, "token/"+k.ID, k.Name)
	note(ctx, "scopes", strings.Join(in.Scopes, " "))
	note(ctx, "user", string(k.User))
	return &body[MadeAPIToken]{MadeAPIToken{APIToken: a.apiTokenOf(&k), Token: token}}, nil
}

func (a *API) revokeToken(ctx context.Context, t im.TenantID, id string) error {
	k, err := a.Auth.RevokeAPIToken(ctx, t, id)
	about(ctx, "token/"+id, k.Name)
	return err
}
