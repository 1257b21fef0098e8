package api

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

func personOf(u *im.User) Person {
	return Person{User: userOf(u), Disabled: u.Disabled, Created: int64(u.Created)}
}

type peopleOutput struct{ Body People }
type personOutput struct{ Body Person }

// ListInput is described at TenantPath.
type ListInput struct {
	Cursor string `query:"cursor" maxLength:"400"`
	Limit  int    `query:"limit" minimum:"1" default:"100" doc:"At most this many, up to 500."`
}

// UserIDPath is described at TenantPath.
type UserIDPath struct {
	ID string `path:"id" maxLength:"200"`
}

// registerPeople adds what owners and admins do with users.
func (a *API) registerPeople(api huma.API) {
	register(a, api, endpoint{
		ID: "list-users", Method: http.MethodGet, Path: "/v1/users", Tag: "users",
		Summary: "All users of the organisation (owners and admins)", Scope: auth.ScopeUsersRead,
	}, func(ctx context.Context, in *ListInput) (*peopleOutput, error) {
		if err := access.Administer(actor(ctx), 0, access.ListUsers); err != nil {
			return nil, err
		}
		return &peopleOutput{Body: a.people(actor(ctx).Tenant, in)}, nil
	})

	register(a, api, endpoint{
		ID: "add-user", Method: http.MethodPost, Path: "/v1/users", Tag: "users",
		Summary: "Add a user (owners and admins)", Status: http.StatusCreated, Scope: auth.ScopeUsersWrite, Audit: "user.create", Once: replay,
	}, func(ctx context.Context, in *struct{ Body NewPerson }) (*personOutput, error) {
		role, _ := im.ParseRole(in.Body.Role)
		if err := access.Administer(actor(ctx), role, access.AddUser); err != nil {
			return nil, err
		}
		u, err := a.addPerson(ctx, actor(ctx).Tenant, in.Body)
		return &personOutput{Body: personOf(&u)}, err
	})

	register(a, api, endpoint{
		ID: "get-user", Method: http.MethodGet, Path: "/v1/users/{id}", Tag: "users",
		Summary: "One user, and how the account is secured (owners and admins)", Scope: auth.ScopeUsersRead,
	}, func(ctx context.Context, in *UserIDPath) (*body[PersonDetail], error) {
		u, err := a.seen(actor(ctx), in.ID)
		if err != nil {
			return nil, err
		}
		s, err := a.security(ctx, u)
		requestOf(ctx).http.SetHeader("ETag", etag(personOf(u)))
		return &body[PersonDetail]{PersonDetail{Person: personOf(u), Security: s}}, err
	})

	register(a, api, endpoint{
		ID: "update-user", Method: http.MethodPatch, Path: "/v1/users/{id}", Tag: "users",
		Summary: "Change a user's name or role, disable or enable (owners and admins)", Scope: auth.ScopeUsersWrite, Audit: "user.update", Tagged: true,
	}, func(ctx context.Context, in *struct {
		UserIDPath
		Body PersonChange
	}) (*personOutput, error) {
		u, err := a.administered(ctx, in.ID, access.UpdateUser)
		if err == nil && in.Body.Role != nil {
			role, _ := im.ParseRole(*in.Body.Role)
			err = access.Administer(actor(ctx), role, access.UpdateUser)
		}
		if err == nil {
			err = matches(ctx, personOf(u))
		}
		if err != nil {
			return nil, err
		}
		if u, err = a.changePerson(ctx, u, in.Body); err != nil {
			return nil, err
		}
		return &personOutput{Body: personOf(u)}, nil
	})

	register(a, api, endpoint{
		ID: "set-password", Method: http.MethodPut, Path: "/v1/users/{id}/password", Tag: "users",
		Summary: "Set a user's password; all of the user's sign-ins end (owners and admins)", Status: http.StatusNoContent,
		Scope: auth.ScopeUsersWrite, Audit: "password.set",
	}, func(ctx context.Context, in *struct {
		UserIDPath
		Body NewPassword
	}) (*struct{}, error) {
		u, err := a.administered(ctx, in.ID, access.SetPassword)
		if err != nil {
			return nil, err
		}
		return nil, a.setPassword(ctx, u, in.Body)
	})

	register(a, api, endpoint{
		ID: "list-user-sessions", Method: http.MethodGet, Path: "/v1/users/{id}/sessions", Tag: "users",
		Summary: "A user's sign-ins (owners and admins)", Scope: auth.ScopeUsersRead,
	}, func(ctx context.Context, in *UserIDPath) (*body[SessionList], error) {
		u, err := a.seen(actor(ctx), in.ID)
		if err != nil {
			return nil, err
		}
		return a.sessions(ctx, u.ID)
	})

	register(a, api, endpoint{
		ID: "delete-user-sessions", Method: http.MethodDelete, Path: "/v1/users/{id}/sessions", Tag: "users",
		Summary: "Sign a user out everywhere (owners and admins)", Status: http.StatusNoContent, Scope: auth.ScopeUsersWrite, Audit: "session.delete_all",
	}, func(ctx context.Context, in *UserIDPath) (*struct{}, error) {
		u, err := a.administered(ctx, in.ID, access.SetPassword)
		if err != nil {
			return nil, err
		}
		return nil, a.Auth.RevokeUser(ctx, u.Tenant, u.ID)
	})

	register(a, api, endpoint{
		ID: "reset-second-factor", Method: http.MethodDelete, Path: "/v1/users/{id}/second-factor", Tag: "users",
		Summary: "Take TOTP and passkeys away from who lost the device; all of the user's sign-ins end (owners and admins)",
		Status:  http.StatusNoContent, Scope: auth.ScopeUsersWrite, Audit: "totp.reset",
	}, func(ctx context.Context, in *UserIDPath) (*struct{}, error) {
		u, err := a.administered(ctx, in.ID, access.SetPassword)
		if err != nil {
			return nil, err
		}
		return nil, a.resetSecondFactor(ctx, u)
	})
}

func (a *API) resetSecondFactor(ctx context.Context, u *im.User) error {
	if err := a.Auth.ResetSecondFactor(ctx, u.Tenant, u.ID, true); err != nil {
		return err
	}
	return a.Auth.RevokeUser(ctx, u.Tenant, u.ID)
}

func (a *API) setPassword(ctx context.Context, u *im.User, in NewPassword) error {
	if in.Temporary {
		note(ctx, "temporary", "true")
		return a.Auth.SetTemporaryPassword(ctx, u.Tenant, u.ID, in.Password)
	}
	return a.Auth.SetPassword(ctx, u.Tenant, u.ID, in.Password)
}

// seen returns a user of the caller's tenant to who may list users.
func (a *API) seen(who im.Actor, id string) (*im.User, error) {
	if err := access.Administer(who, 0, access.ListUsers); err != nil {
		return nil, err
	}
	u, ok := a.Directory.User(who.Tenant, im.UserID(id))
	if !ok {
		return nil, im.E(im.NotFound, "There is no such user.")
	}
	return u, nil
}

// administered returns the user that the caller may do action to. Whom the caller
// may not administer answers as such only to those who may list users.
func (a *API) administered(ctx context.Context, id string, action access.AdminAction) (*im.User, error) {
	who := actor(ctx)
	about(ctx, "user/"+id, "")
	u, err := a.seen(who, id)
	if err != nil {
		return nil, err
	}
	about(ctx, "user/"+string(u.ID), u.Username)
	return u, access.Administer(who, u.Role, action)
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
		if err := a.Auth.CheckPassword(t, in.Username, in.Password); err != nil {
			return im.User{}, err
		}
	}
	role, ok := im.ParseRole(in.Role)
	if !ok {
		return im.User{}, badRole()
	}
	u, err := a.Directory.AddUser(ctx, t, directory.NewUser{Username: in.Username, Name: in.Name, Role: role})
	if err != nil {
		return u, err
	}
	about(ctx, "user/"+string(u.ID), u.Username)
	note(ctx, "role", in.Role)
	if in.Password == "" {
		return u, nil
	}
	return u, a.setPassword(ctx, &u, NewPassword{Password: in.Password, Temporary: in.Temporary})
}

func badRole() error {
	return im.E(im.Invalid, "The role must be one of %s.", strings.Join(im.Roles(), ", ")).OnField("role")
}

func (a *API) changePerson(ctx context.Context, u *im.User, in PersonChange) (*im.User, error) {
	about(ctx, "user/"+string(u.ID), u.Username)
	change := directory.UserChange{Name: in.Name}
	if in.Name != nil {
		note(ctx, "changed", "name")
	}
	if in.Disabled != nil {
		note(ctx, "disabled", strconv.FormatBool(*in.Disabled))
	}
	if in.Role != nil {
		note(ctx, "role", *in.Role)
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
