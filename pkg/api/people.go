package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

func personOf(u *im.User) Person {
	return Person{User: userOf(u), Disabled: u.Disabled, Created: int64(u.Created)}
}

type peopleOutput struct{ Body People }
type personOutput struct{ Body Person }
type tenantOutput struct{ Body Tenant }

// ListInput is described at TenantPath.
type ListInput struct {
	Cursor string `query:"cursor" maxLength:"400"`
	Limit  int    `query:"limit" minimum:"1" default:"100" doc:"At most this many, up to 500."`
}

// registerPeople adds what owners and admins do with users and their tenant.
func (a *API) registerPeople(api huma.API) {
	huma.Register(api, a.secured(api, huma.Operation{
		OperationID: "get-tenant", Method: http.MethodGet, Path: "/v1/tenant", Tags: []string{"tenant"},
		Summary: "The caller's organisation",
	}), func(ctx context.Context, _ *struct{}) (*tenantOutput, error) {
		t, ok := a.Directory.Tenant(actor(ctx).Tenant)
		if !ok {
			return nil, a.problem(ctx, "get-tenant", im.E(im.NotFound, "This organisation does not exist any more."))
		}
		return &tenantOutput{Body: Tenant{ID: string(t.ID), Name: t.Name}}, nil
	})

	huma.Register(api, a.secured(api, huma.Operation{
		OperationID: "update-tenant", Method: http.MethodPatch, Path: "/v1/tenant", Tags: []string{"tenant"},
		Summary: "Rename the organisation (owners and admins)",
	}), func(ctx context.Context, in *struct{ Body TenantChange }) (*tenantOutput, error) {
		t, err := a.renameTenant(ctx, actor(ctx), in.Body)
		if err != nil {
			return nil, a.problem(ctx, "update-tenant", err)
		}
		return &tenantOutput{Body: Tenant{ID: string(t.ID), Name: t.Name}}, nil
	})

	huma.Register(api, a.secured(api, huma.Operation{
		OperationID: "list-users", Method: http.MethodGet, Path: "/v1/users", Tags: []string{"users"},
		Summary: "All users of the organisation (owners and admins)",
	}), func(ctx context.Context, in *ListInput) (*peopleOutput, error) {
		if err := access.Administer(actor(ctx), 0, access.ListUsers); err != nil {
			return nil, a.problem(ctx, "list-users", err)
		}
		return &peopleOutput{Body: a.people(actor(ctx).Tenant, in)}, nil
	})

	huma.Register(api, a.secured(api, huma.Operation{
		OperationID: "add-user", Method: http.MethodPost, Path: "/v1/users", Tags: []string{"users"},
		Summary: "Add a user (owners and admins)", DefaultStatus: http.StatusCreated,
	}), func(ctx context.Context, in *struct{ Body NewPerson }) (*personOutput, error) {
		role, _ := im.ParseRole(in.Body.Role)
		err := access.Administer(actor(ctx), role, access.AddUser)
		if err == nil {
			var u im.User
			if u, err = a.addPerson(ctx, actor(ctx).Tenant, in.Body); err == nil {
				return &personOutput{Body: personOf(&u)}, nil
			}
		}
		return nil, a.problem(ctx, "add-user", err)
	})

	huma.Register(api, a.secured(api, huma.Operation{
		OperationID: "update-user", Method: http.MethodPatch, Path: "/v1/users/{id}", Tags: []string{"users"},
		Summary: "Change a user's name or role, disable or enable (owners and admins)",
	}), func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"200"`
		Body PersonChange
	}) (*personOutput, error) {
		u, err := a.administered(actor(ctx), in.ID, access.UpdateUser)
		if err == nil && in.Body.Role != nil {
			role, _ := im.ParseRole(*in.Body.Role)
			err = access.Administer(actor(ctx), role, access.UpdateUser)
		}
		if err == nil {
			if u, err = a.changePerson(ctx, u, in.Body); err == nil {
				return &personOutput{Body: personOf(u)}, nil
			}
		}
		return nil, a.problem(ctx, "update-user", err)
	})

	huma.Register(api, a.secured(api, huma.Operation{
		OperationID: "set-password", Method: http.MethodPut, Path: "/v1/users/{id}/password", Tags: []string{"users"},
		Summary: "Set a user's password; all of the user's sign-ins end (owners and admins)", DefaultStatus: http.StatusNoContent,
	}), func(ctx context.Context, in *struct {
		ID   string `path:"id" maxLength:"200"`
		Body NewPassword
	}) (*struct{}, error) {
		u, err := a.administered(actor(ctx), in.ID, access.SetPassword)
		if err == nil {
			err = a.Auth.SetPassword(ctx, u.Tenant, u.ID, in.Body.Password)
		}
		if err != nil {
			return nil, a.problem(ctx, "set-password", err)
		}
		return nil, nil
	})
}

// administered returns the user that who may do action to. Whom the caller may
// not administer answers as such only to those who may list users.
func (a *API) administered(who im.Actor, id string, action access.AdminAction) (*im.User, error) {
	if err := access.Administer(who, 0, access.ListUsers); err != nil {
		return nil, err
	}
	u, ok := a.Directory.User(who.Tenant, im.UserID(id))
	if !ok {
		return nil, im.E(im.NotFound, "There is no such user.")
	}
	return u, access.Administer(who, u.Role, action)
}

func (a *API) renameTenant(ctx context.Context, who im.Actor, in TenantChange) (im.Tenant, error) {
	if err := access.Administer(who, 0, access.UpdateTenant); err != nil {
		return im.Tenant{}, err
	}
	if in.Name != nil {
		if err := a.Directory.RenameTenant(ctx, who.Tenant, *in.Name); err != nil {
			return im.Tenant{}, err
		}
	}
	t, ok := a.Directory.Tenant(who.Tenant)
	if !ok {
		return t, im.E(im.NotFound, "This organisation does not exist any more.")
	}
	return t, nil
}

func (a *API) people(t im.TenantID, in *ListInput) People {
	users, next := a.Directory.Users(t, in.Cursor, in.Limit)
	page := People{Users: make([]Person, 0, len(users)), Next: next}
	for _, u := range users {
		page.Users = append(page.Users, personOf(u))
	}
	return page
}

func (a *API) addPerson(ctx context.Context, t im.TenantID, in NewPerson) (im.User, error) {
	if in.Password != "" {
		if err := a.Auth.CheckPassword(in.Username, in.Password); err != nil {
			return im.User{}, err
		}
	}
	role, ok := im.ParseRole(in.Role)
	if !ok {
		return im.User{}, im.E(im.Invalid, "The role must be one of %s.", strings.Join(im.Roles(), ", ")).OnField("role")
	}
	u, err := a.Directory.AddUser(ctx, t, directory.NewUser{Username: in.Username, Name: in.Name, Role: role})
	if err != nil || in.Password == "" {
		return u, err
	}
	return u, a.Auth.SetPassword(ctx, t, u.ID, in.Password)
}

func (a *API) changePerson(ctx context.Context, u *im.User, in PersonChange) (*im.User, error) {
	change := directory.UserChange{Name: in.Name}
	if in.Role != nil {
		role, _ := im.ParseRole(*in.Role)
		change.Role = &role
	}
	if change.Name != nil || change.Role != nil {
		if _, err := a.Directory.UpdateUser(ctx, u.Tenant, u.ID, change); err != nil {
			return nil, err
		}
	}
	if in.Disabled != nil && *in.Disabled != u.Disabled {
		if err := a.Directory.DisableUser(ctx, u.Tenant, u.ID, *in.Disabled); err != nil {
			return nil, err
		}
	}
	now, ok := a.Directory.User(u.Tenant, u.ID)
	if !ok {
		return nil, im.E(im.NotFound, "There is no such user.")
	}
	return now, nil
}
