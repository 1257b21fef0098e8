package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

type body[T any] struct{ Body T }

// TenantPath, UserPath and ListInput are parameters that several operations
// share; huma reads embedded structs only if they are exported.
type TenantPath struct {
	Tenant string `path:"tenant" maxLength:"200"`
}

// UserPath is described at TenantPath.
type UserPath struct {
	TenantPath
	Username string `path:"username" maxLength:"200"`
}

// Admin returns the handler of the box's own socket: the operations of
// `pipit`, the public API beside them, and pprof.
func (a *API) Admin() http.Handler {
	mux := http.NewServeMux()
	a.adminAPI(mux)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	public := a.Public()
	mux.HandleFunc("/admin/tenants/{tenant}/v1/{rest...}", a.asOperator(public))
	mux.Handle("/", public)
	return mux
}

// adminAPI registers the operator's operations on mux.
func (a *API) adminAPI(mux *http.ServeMux) huma.API {
	c := config("Pipit box", a.Version, "The operator's API, on the Unix socket DATA/admin.sock only; no password is asked.")
	c.OpenAPIPath = "/admin/openapi"
	api := humago.New(mux, c)
	operation(a, api, "status", http.MethodGet, "/admin/status", "", "The state of the server and of the box", 0,
		func(context.Context, *struct{}) (*body[ServerInfo], error) {
			return &body[ServerInfo]{a.Status()}, nil
		})
	a.registerTenants(api)
	a.registerTenantLife(api)
	a.registerTenantOIDC(api)
	a.registerTenantUsers(api)
	a.registerStore(api)
	a.registerSetupCode(api)
	return api
}

// operation registers one operator's operation; doing is its name in the audit
// log, empty for what changes nothing.
func operation[I, O any](a *API, api huma.API, id, method, path, doing, summary string, status int, fn func(context.Context, *I) (*O, error)) {
	e := endpoint{ID: id, Method: method, Path: path, Summary: summary, Status: status, Caller: operator, Audit: doing}
	if status == http.StatusCreated {
		e.Once = replay
		if id == "issue-token" || id == "add-users" || strings.HasPrefix(doing, "token.") || strings.HasPrefix(doing, "invitation.") {
			e.Once = secret
		}
	}
	register(a, api, e, fn)
}

func (a *API) registerTenants(api huma.API) {
	operation(a, api, "list-tenants", http.MethodGet, "/admin/tenants", "", "All tenants", 0,
		func(context.Context, *struct{}) (*body[TenantList], error) {
			out := &body[TenantList]{TenantList{Tenants: []TenantInfo{}}}
			for _, t := range a.Directory.Tenants() {
				out.Body.Tenants = append(out.Body.Tenants, a.tenantInfo(t))
			}
			return out, nil
		})
	operation(a, api, "add-tenant", http.MethodPost, "/admin/tenants", "tenant.create", "Add a tenant", http.StatusCreated,
		func(ctx context.Context, in *body[NewTenant]) (*body[TenantInfo], error) {
			name := in.Body.Name
			if name == "" {
				name = in.Body.ID
			}
			t, err := a.Directory.AddTenant(ctx, im.TenantID(in.Body.ID), name)
			if err != nil {
				return nil, err
			}
			return &body[TenantInfo]{a.tenantInfo(t)}, nil
		})
	operation(a, api, "update-tenant", http.MethodPatch, "/admin/tenants/{tenant}", "tenant.update", "Rename, suspend or resume a tenant", 0,
		func(ctx context.Context, in *struct {
			TenantPath
			Body TenantPatch
		}) (*body[TenantInfo], error) {
			id := im.TenantID(in.Tenant)
			if in.Body.Name != nil {
				if err := a.Directory.RenameTenant(ctx, id, *in.Body.Name); err != nil {
					return nil, err
				}
			}
			if in.Body.Suspended != nil {
				if err := a.Directory.SuspendTenant(ctx, id, *in.Body.Suspended); err != nil {
					return nil, err
				}
			}
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			return &body[TenantInfo]{a.tenantInfo(t)}, nil
		})
}

func (a *API) tenantInfo(t im.Tenant) TenantInfo {
	return TenantInfo{ID: string(t.ID), Name: t.Name, Suspended: t.Suspended, Created: int64(t.Created),
		ErasedIn: int64(a.Directory.ErasedIn(t.ID) / time.Second)}
}

func (a *API) tenant(id string) (im.Tenant, error) {
	t, ok := a.Directory.Tenant(im.TenantID(id))
	if !ok {
		return t, im.E(im.NotFound, "There is no tenant %q. `pipit tenant list` shows those there are.", id).OnField("tenant")
	}
	return t, nil
}

// user finds a user by name, for an operator who types names and not ids.
func (a *API) user(p UserPath) (*im.User, error) {
	if _, err := a.tenant(p.Tenant); err != nil {
		return nil, err
	}
	u, ok := a.Directory.ByUsername(im.TenantID(p.Tenant), p.Username)
	if !ok {
		return nil, im.E(im.NotFound, "There is no user %q in tenant %q. `pipit user list --tenant %s` shows those there are.", p.Username, p.Tenant, p.Tenant).OnField("username")
	}
	return u, nil
}

func (a *API) registerTenantUsers(api huma.API) {
	operation(a, api, "list-users", http.MethodGet, "/admin/tenants/{tenant}/users", "", "A page of a tenant's users", 0,
		func(_ context.Context, in *struct {
			TenantPath
			ListInput
		}) (*peopleOutput, error) {
			if _, err := a.tenant(in.Tenant); err != nil {
				return nil, err
			}
			return &peopleOutput{a.people(im.TenantID(in.Tenant), &in.ListInput)}, nil
		})
	operation(a, api, "add-user", http.MethodPost, "/admin/tenants/{tenant}/users", "user.create", "Add a user", http.StatusCreated,
		func(ctx context.Context, in *struct {
			TenantPath
			Body NewPerson
		}) (*personOutput, error) {
			if _, err := a.tenant(in.Tenant); err != nil {
				return nil, err
			}
			u, err := a.addPerson(ctx, im.TenantID(in.Tenant), in.Body)
			if err != nil {
				return nil, err
			}
			return &personOutput{personOf(&u)}, nil
		})
	operation(a, api, "add-users", http.MethodPost, "/admin/tenants/{tenant}/users-bulk", "user.create_many", "Add many users without passwords", http.StatusCreated,
		func(ctx context.Context, in *struct {
			TenantPath
			Body BulkPeople
		}) (*body[BulkAnswer], error) {
			people, err := a.addMany(ctx, in.Tenant, in.Body)
			if err != nil {
				return nil, err
			}
			return &body[BulkAnswer]{BulkAnswer{Users: people}}, nil
		})
	operation(a, api, "update-user", http.MethodPatch, "/admin/tenants/{tenant}/users/{username}", "user.update", "Change a user's name or role, disable or enable", 0,
		func(ctx context.Context, in *struct {
			UserPath
			Body PersonChange
		}) (*personOutput, error) {
			u, err := a.user(in.UserPath)
			if err != nil {
				return nil, err
			}
			if u, err = a.changePerson(ctx, u, in.Body); err != nil {
				return nil, err
			}
			return &personOutput{personOf(u)}, nil
		})
	operation(a, api, "set-password", http.MethodPut, "/admin/tenants/{tenant}/users/{username}/password", "password.set", "Set a user's password; all of the user's sign-ins end", http.StatusNoContent,
		func(ctx context.Context, in *struct {
			UserPath
			Body NewPassword
		}) (*struct{}, error) {
			u, err := a.user(in.UserPath)
			if err != nil {
				return nil, err
			}
			return nil, a.setPassword(ctx, u, in.Body)
		})
	operation(a, api, "issue-token", http.MethodPost, "/admin/tenants/{tenant}/users/{username}/tokens", "session.create", "Sign a user in without a password, as the operator", http.StatusCreated,
		func(ctx context.Context, in *UserPath) (*body[IssuedToken], error) {
			u, err := a.user(*in)
			if err != nil {
				return nil, err
			}
			token, expires, err := a.Auth.Issue(ctx, u.Tenant, u.ID, "operator")
			if err != nil {
				return nil, err
			}
			return &body[IssuedToken]{IssuedToken{Token: token, Expires: int64(expires), User: userOf(u)}}, nil
		})
	operation(a, api, "sign-out", http.MethodPost, "/admin/sign-out", "session.delete", "End the sign-in that owns a token", http.StatusNoContent,
		func(ctx context.Context, in *body[apiclient.SignOut]) (*struct{}, error) {
			who, _, err := a.Auth.Verify(ctx, in.Body.Token)
			if err != nil {
				return nil, err
			}
			return nil, a.Auth.Revoke(ctx, who.Tenant, who.User, who.SignIn)
		})
}

func (a *API) addMany(ctx context.Context, tenant string, in BulkPeople) ([]BulkPerson, error) {
	t, err := a.tenant(tenant)
	if err != nil {
		return nil, err
	}
	people := make([]directory.NewUser, 0, len(in.Users))
	for _, p := range in.Users {
		role, ok := im.ParseRole(p.Role)
		if !ok {
			return nil, badRole()
		}
		people = append(people, directory.NewUser{Username: p.Username, Name: p.Name, Role: role})
	}
	added := a.Directory.AddUsers(ctx, t.ID, people)
	out := make([]BulkPerson, len(added))
	ids := make([]im.UserID, len(added))
	for i := range added {
		if err := added[i].Err; err != nil {
			return nil, fmt.Errorf("user %d of the list: %w", i+1, err)
		}
		out[i].Person = personOf(&added[i].User)
		ids[i] = added[i].User.ID
	}
	if !in.Tokens {
		return out, nil
	}
	tokens, err := a.Auth.IssueMany(ctx, t.ID, ids, "operator")
	if err != nil {
		return nil, err
	}
	for i, token := range tokens {
		out[i].Token = token
	}
	return out, nil
}

func (a *API) registerStore(api huma.API) {
	operation(a, api, "verify", http.MethodPost, "/admin/verify", "store.verify", "Read every record and check it", 0,
		func(ctx context.Context, _ *struct{}) (*body[VerifyReport], error) {
			r, err := a.Store.Verify(ctx, nil)
			if err != nil {
				return nil, err
			}
			out := &body[VerifyReport]{VerifyReport{Records: r.Records, Bytes: r.Bytes, Entries: r.Entries, Damaged: r.Damaged, Damages: []DamageInfo{}}}
			for _, d := range r.Damages {
				out.Body.Damages = append(out.Body.Damages, DamageInfo{Place: d.Place, What: d.What})
			}
			return out, nil
		})
	operation(a, api, "backup", http.MethodPost, "/admin/backup", "store.backup", "A consistent snapshot of the whole store", 0,
		func(context.Context, *struct{}) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				hc.SetHeader("Content-Type", "application/octet-stream")
				a.stream(hc, "backup", func() error { return a.Store.Backup(hc.Context(), hc.BodyWriter()) })
			}}, nil
		})
}

// landing is what a browser sees while no web client is built in.
func (a *API) landing(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if _, err := io.WriteString(w, landingPage); err != nil {
		a.log.Debug("page not written", "error", err)
	}
}
