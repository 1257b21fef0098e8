package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

func (a *API) invitationOf(v *auth.Invitation) Invitation {
	return Invitation{ID: v.ID, User: string(v.User), Role: v.Role.String(), Classes: v.Classes, Username: v.Username, Name: v.Name,
		Created: int64(v.Created), Expires: int64(a.Auth.InvitationEnds(v))}
}

// registerInvitations adds invitations: administrators make them, and whoever has
// the code uses it.
func (a *API) registerInvitations(api huma.API) {
	register(a, api, endpoint{
		ID: "list-invitations", Method: http.MethodGet, Path: "/v1/invitations", Tag: "invitations",
		Summary: "Invitations that were not used yet, newest first (owners and admins)", Scope: auth.ScopeUsersRead,
	}, func(ctx context.Context, in *ListInput) (*body[InvitationList], error) {
		who := actor(ctx)
		if err := access.Administer(who, 0, access.ListUsers); err != nil {
			return nil, err
		}
		return a.invitations(ctx, who.Tenant, in)
	})

	register(a, api, endpoint{
		ID: "add-invitation", Method: http.MethodPost, Path: "/v1/invitations", Tag: "invitations",
		Summary: "Invite somebody; the code is shown this once (owners and admins)", Status: http.StatusCreated,
		Scope: auth.ScopeUsersWrite, Audit: "invitation.create", Once: secret,
	}, func(ctx context.Context, in *struct{ Body NewInvitation }) (*body[MadeInvitation], error) {
		who := actor(ctx)
		v, err := a.newInvitation(ctx, who.Tenant, in.Body)
		if err == nil {
			err = access.Administer(who, v.Role, access.AddUser)
		}
		if err != nil {
			return nil, err
		}
		v.CreatedBy = who.User
		return a.invite(ctx, who.Tenant, v)
	})

	register(a, api, endpoint{
		ID: "remove-invitation", Method: http.MethodDelete, Path: "/v1/invitations/{invitation}", Tag: "invitations",
		Summary: "Take an invitation back (owners and admins)", Status: http.StatusNoContent, Scope: auth.ScopeUsersWrite, Audit: "invitation.delete",
	}, func(ctx context.Context, in *struct {
		Invitation string `path:"invitation" maxLength:"200"`
	}) (*struct{}, error) {
		who := actor(ctx)
		about(ctx, "invitation/"+in.Invitation, "")
		if err := access.Administer(who, 0, access.ListUsers); err != nil {
			return nil, err
		}
		_, err := a.Auth.Uninvite(ctx, who.Tenant, in.Invitation)
		return nil, err
	})

	register(a, api, endpoint{
		ID: "view-invitation", Method: http.MethodPost, Path: "/v1/invitations/view", Tag: "invitations", Caller: anybody,
		Summary: "What a code is for, before it is used", MaxBody: 4 << 10, Audit: "invitation.view",
	}, func(ctx context.Context, in *struct {
		Body struct {
			_      struct{} `additionalProperties:"true"`
			Tenant string   `json:"tenant,omitempty" maxLength:"200"`
			Code   string   `json:"code" maxLength:"200"`
		}
	}) (*body[InvitationView], error) {
		t, err := a.tenantOf(ctx, in.Body.Tenant)
		if err != nil {
			return nil, err
		}
		aboutTenant(ctx, t)
		v, err := a.Auth.Invited(ctx, t, in.Body.Code, peer(ctx))
		if err != nil {
			return nil, err
		}
		about(ctx, "invitation/"+v.ID, "")
		ten, _ := a.Directory.Tenant(t)
		out := InvitationView{Tenant: tenantOf(ten), Role: v.Role.String(), Username: v.Username, Name: v.Name, Existing: v.User != ""}
		if u, ok := a.Directory.User(t, v.User); ok {
			out.Username, out.Name, out.Role = u.Username, u.Name, u.Role.String()
		}
		return &body[InvitationView]{out}, nil
	})

	register(a, api, endpoint{
		ID: "accept-invitation", Method: http.MethodPost, Path: "/v1/invitations/accept", Tag: "invitations", Caller: anybody,
		Summary: "Use a code: choose a password and be signed in", Status: http.StatusCreated, MaxBody: 16 << 10, Audit: "invitation.accept",
	}, func(ctx context.Context, in *struct {
		Body struct {
			AsCookie
			AcceptInvitation
		}
	}) (*grantOutput, error) {
		if err := fromHere(ctx, in.Body.AsCookie); err != nil {
			return nil, err
		}
		t, err := a.tenantOf(ctx, in.Body.Tenant)
		if err != nil {
			return nil, err
		}
		g, err := a.accept(ctx, t, in.Body.AcceptInvitation)
		if err != nil {
			return nil, err
		}
		return a.granted(ctx, &g, in.Body.AsCookie), nil
	})
}

func (a *API) invitations(ctx context.Context, t im.TenantID, in *ListInput) (*body[InvitationList], error) {
	list, err := a.Auth.Invitations(ctx, t)
	if err != nil {
		return nil, err
	}
	if in.Cursor != "" {
		if i := slices.IndexFunc(list, func(v auth.Invitation) bool { return v.ID == in.Cursor }); i >= 0 {
			list = list[i+1:]
		}
	}
	out := InvitationList{Invitations: []Invitation{}}
	for i := range list {
		if i == min(in.Limit, directory.MaxUsersPage) {
			out.Next = list[i-1].ID
			break
		}
		out.Invitations = append(out.Invitations, a.invitationOf(&list[i]))
	}
	return &body[InvitationList]{out}, nil
}

// newInvitation reads what is to be made.
func (a *API) newInvitation(ctx context.Context, t im.TenantID, in NewInvitation) (auth.Invitation, error) {
	v := auth.Invitation{User: im.UserID(in.User), Classes: in.Classes, Name: in.Name, Lifetime: time.Duration(in.ExpiresIn) * time.Second}
	if v.User != "" {
		u, ok := a.Directory.User(t, v.User)
		if !ok {
			return v, im.E(im.NotFound, "There is no such user.").OnField("user")
		}
		v.Role, v.Username, v.Name = u.Role, u.Username, u.Name
		about(ctx, "user/"+string(u.ID), u.Username)
		return v, nil
	}
	if in.Role == "" {
		in.Role = im.RoleMember.String()
	}
	var ok bool
	if v.Role, ok = im.ParseRole(in.Role); !ok {
		return v, badRole()
	}
	if in.Username != "" {
		var err error
		if v.Username, err = directory.FoldUsername(in.Username); err != nil {
			return v, err
		}
		if _, taken := a.Directory.ByUsername(t, v.Username); taken {
			return v, im.E(im.Exists, "There is a user %s already.", v.Username).OnField("username")
		}
	}
	return v, nil
}

func (a *API) invite(ctx context.Context, t im.TenantID, v auth.Invitation) (*body[MadeInvitation], error) {
	vs := []auth.Invitation{v}
	codes, err := a.Auth.Invite(ctx, t, vs)
	if err != nil {
		return nil, err
	}
	note(ctx, "invitation", vs[0].ID)
	note(ctx, "role", vs[0].Role.String())
	return &body[MadeInvitation]{MadeInvitation{Invitation: a.invitationOf(&vs[0]), Code: codes[0], Path: invitationPath(t, codes[0])}}, nil
}

// invitationPath is where the client takes a code. It stands behind the #, so that
// it is in no server's log.
func invitationPath(t im.TenantID, code string) string { return "/t/" + string(t) + "/join#" + code }

// accept makes the account of an invitation, or takes over the one that is there,
// and signs its person in. What it refuses leaves the code as it was.
func (a *API) accept(ctx context.Context, t im.TenantID, in AcceptInvitation) (none auth.Granted, _ error) {
	aboutTenant(ctx, t)
	addr := peer(ctx)
	seen, err := a.Auth.Invited(ctx, t, in.Code, addr)
	if err != nil {
		return none, err
	}
	username := seen.Username
	if username == "" {
		username = in.Username
	}
	if err := a.Auth.CheckPassword(t, username, in.Password); err != nil {
		return none, err
	}
	v, err := a.Auth.UseInvitation(ctx, t, in.Code, addr)
	if err != nil {
		return none, err
	}
	u, err := a.take(ctx, t, v, username, in)
	if err != nil {
		if gaveBack := a.Auth.Reinvite(ctx, t, in.Code, v); gaveBack != nil {
			a.log.Info("invitation not given back", "tenant", string(t), "invitation", v.ID, "error", gaveBack)
		}
		return none, err
	}
	note(ctx, "invitation", v.ID)
	g, err := a.Auth.SignIn(ctx, auth.SignInRequest{Tenant: t, Username: u.Username, Password: in.Password, Device: in.Device, Addr: addr})
	a.auditSignIn(ctx, t, u, err)
	return g, err
}

func (a *API) take(ctx context.Context, t im.TenantID, v auth.Invitation, username string, in AcceptInvitation) (*im.User, error) {
	if v.User != "" {
		u, ok := a.Directory.User(t, v.User)
		if !ok || u.Disabled {
			return nil, im.E(im.NotFound, "The account of this invitation is not there any more.").OnField("code")
		}
		return u, a.Auth.SetPassword(ctx, t, u.ID, in.Password)
	}
	name := v.Name
	if name == "" {
		name = in.Name
	}
	u, err := a.Directory.AddUser(ctx, t, directory.NewUser{Username: username, Name: name, Role: v.Role})
	if err != nil {
		return nil, err
	}
	if err := a.Roster.Join(ctx, t, u.ID, v.Classes); err != nil {
		a.log.Info("classes of an invitation not joined", "tenant", string(t), "user", string(u.ID), "error", err)
	}
	return &u, a.Auth.SetPassword(ctx, t, u.ID, in.Password)
}
