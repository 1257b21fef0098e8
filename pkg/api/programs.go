package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

// registerPrograms adds the programs that people let act in their name.
func (a *API) registerPrograms(api huma.API) {
	register(a, api, endpoint{
		ID: "list-programs", Method: http.MethodGet, Path: "/v1/me/programs", Tag: "account",
		Summary: "The programs that may act in one's own name",
	}, func(ctx context.Context, _ *struct{}) (*body[apiclient.ProgramList], error) {
		list, err := a.OpenID.Agreements(ctx, actor(ctx).Tenant, actor(ctx).User)
		if err != nil {
			return nil, err
		}
		out := &body[apiclient.ProgramList]{apiclient.ProgramList{Programs: make([]apiclient.Program, 0, len(list))}}
		for _, p := range list {
			out.Body.Programs = append(out.Body.Programs, apiclient.Program{ID: p.Client, Name: p.Name, Scopes: some(p.Scopes), Since: int64(p.Since), SignIns: p.Grants})
		}
		return out, nil
	})
	register(a, api, endpoint{
		ID: "remove-program", Method: http.MethodDelete, Path: "/v1/me/programs/{id}", Tag: "account",
		Summary: "Take back what one let a program do; its tokens end at once", Status: http.StatusNoContent, Audit: "consent.delete",
	}, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"200"`
	}) (*struct{}, error) {
		about(ctx, "user/"+string(actor(ctx).User), "")
		note(ctx, "client", in.ID)
		return nil, a.OpenID.Withdraw(ctx, actor(ctx).Tenant, actor(ctx).User, in.ID)
	})
}
