package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/roster"
)

// tenantOp is an operation that owners and admins do in their tenant, and the
// operator for them.
type tenantOp struct {
	id, method, path, tag, summary string
	status                         int
	act                            access.AdminAction
	scope                          auth.Scope
	audit                          string
	once                           once
	tagged                         bool
	maxBody                        int64 // 0: maxBodyBytes
}

// forTenant registers one; fn is called for those who may.
func forTenant[I, O any](a *API, api huma.API, o tenantOp, fn func(ctx context.Context, who im.Actor, in *I) (*O, error)) {
	register(a, api, endpoint{ID: o.id, Method: o.method, Path: "/v1" + o.path, Tag: o.tag, Summary: o.summary + " (owners and admins)", Status: o.status,
		Scope: o.scope, Audit: o.audit, Once: o.once, Tagged: o.tagged, MaxBody: o.maxBody,
		Adapt: func(op *huma.Operation) {
			if o.maxBody > 0 {
				op.BodyReadTimeout = ReadTimeout
			}
		}}, func(ctx context.Context, in *I) (*O, error) {
		who := actor(ctx)
		if err := access.Administer(who, 0, o.act); err != nil {
			return nil, err
		}
		return fn(ctx, who, in)
	})
}

// operatorPaths are those parts of a tenant's API that the operator reaches below
// /admin/tenants/{tenant}/v1: what administers the tenant, and nothing that is
// somebody's own.
var operatorPaths = []string{"policy", "classes", "roster", "cards", "guardians", "recalled"}

type operatorKey struct{}

// asOperator serves a tenant's API to whoever holds the box's socket.
func (a *API) asOperator(public http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rest := r.PathValue("rest")
		first, _, _ := strings.Cut(rest, "/")
		allowed := false
		for _, p := range operatorPaths {
			allowed = allowed || p == first
		}
		if !allowed {
			a.unknown(w, r)
			return
		}
		if _, err := a.tenant(r.PathValue("tenant")); err != nil {
			p := a.problem(r.Context(), "operator", err).(*Problem)
			writeJSON(w, p.Status, "application/problem+json", p)
			return
		}
		who := im.Actor{Tenant: im.TenantID(r.PathValue("tenant")), Role: im.RoleOwner}
		r2 := r.Clone(context.WithValue(r.Context(), operatorKey{}, who))
		r2.URL.Path, r2.URL.RawPath = "/v1/"+rest, ""
		public.ServeHTTP(w, r2)
	}
}

// namedUsers returns the ids of users who are named by id or by user name.
func (a *API) namedUsers(t im.TenantID, field string, names []string) ([]im.UserID, error) {
	ids := make([]im.UserID, 0, len(names))
	for _, n := range names {
		if u, ok := a.Directory.User(t, im.UserID(n)); ok {
			ids = append(ids, u.ID)
		} else if u, ok := a.Directory.ByUsername(t, n); ok {
			ids = append(ids, u.ID)
		} else {
			return nil, im.E(im.NotFound, "There is no user %q.", n).OnField(field)
		}
	}
	return ids, nil
}

// registerRules adds policy and classes.
func (a *API) registerRules(api huma.API) {
	forTenant(a, api, tenantOp{id: "get-policy", scope: auth.ScopeTenantRead, tagged: true, method: http.MethodGet, path: "/policy", tag: "policy", summary: "Who may do what: every setting", act: access.ChangePolicy},
		func(_ context.Context, who im.Actor, _ *struct{}) (*body[apiclient.Policy], error) {
			return &body[apiclient.Policy]{a.policy(who.Tenant)}, nil
		})
	forTenant(a, api, tenantOp{id: "change-policy", scope: auth.ScopeTenantWrite, tagged: true, audit: "policy.update", method: http.MethodPatch, path: "/policy", tag: "policy", summary: "Change settings; they count from the next request on", act: access.ChangePolicy},
		func(ctx context.Context, who im.Actor, in *body[apiclient.PolicyChange]) (*body[apiclient.Policy], error) {
			if err := matches(ctx, a.policy(who.Tenant)); err != nil {
				return nil, err
			}
			p := a.Directory.Policy(who.Tenant)
			if p == nil {
				p = access.Open
			}
			about(ctx, "tenant/"+string(who.Tenant), "")
			for name, value := range in.Body.Settings {
				note(ctx, name, value)
			}
			var err error
			if in.Body.Preset != nil {
				note(ctx, "preset", *in.Body.Preset)
				if p, err = access.NewPolicy(*in.Body.Preset, nil); err != nil {
					return nil, err
				}
			}
			if p, err = p.With(in.Body.Settings); err != nil {
				return nil, err
			}
			if err := a.Directory.SetPolicy(ctx, who.Tenant, p); err != nil {
				return nil, err
			}
			return &body[apiclient.Policy]{a.policy(who.Tenant)}, nil
		})
	forTenant(a, api, tenantOp{id: "list-classes", scope: auth.ScopeUsersRead, method: http.MethodGet, path: "/classes", tag: "classes", summary: "Classes, archived ones too", act: access.ManageClasses},
		func(_ context.Context, who im.Actor, in *ListInput) (*body[apiclient.Classes], error) {
			return &body[apiclient.Classes]{a.classes(who.Tenant, in)}, nil
		})
	forTenant(a, api, tenantOp{id: "add-class", scope: auth.ScopeUsersWrite, audit: "class.create", once: replay, method: http.MethodPost, path: "/classes", tag: "classes", summary: "Add a class, with its group and its board", status: http.StatusCreated, act: access.ManageClasses},
		func(ctx context.Context, who im.Actor, in *body[apiclient.NewClass]) (*body[apiclient.Class], error) {
			teachers, err := a.namedUsers(who.Tenant, "teachers", in.Body.Teachers)
			if err != nil {
				return nil, err
			}
			students, err := a.namedUsers(who.Tenant, "students", in.Body.Students)
			if err != nil {
				return nil, err
			}
			c, err := a.Roster.AddClass(ctx, who.Tenant, in.Body.Name, in.Body.Term, teachers, students)
			if err != nil {
				return nil, err
			}
			about(ctx, "class/"+string(c.ID), c.Name)
			return &body[apiclient.Class]{classOf(c)}, nil
		})
	forTenant(a, api, tenantOp{id: "get-class", scope: auth.ScopeUsersRead, tagged: true, method: http.MethodGet, path: "/classes/{id}", tag: "classes", summary: "One class", act: access.ManageClasses},
		func(_ context.Context, who im.Actor, in *struct {
			ID string `path:"id" maxLength:"200"`
		}) (*body[apiclient.Class], error) {
			c, ok := a.Directory.Class(who.Tenant, im.ClassID(in.ID))
			if !ok {
				return nil, im.E(im.NotFound, "There is no such class.").OnField("class")
			}
			return &body[apiclient.Class]{classOf(c)}, nil
		})
	forTenant(a, api, tenantOp{id: "change-class", scope: auth.ScopeUsersWrite, audit: "class.update", tagged: true, method: http.MethodPatch, path: "/classes/{id}", tag: "classes", summary: "Change a class's name, term or people, or end it", act: access.ManageClasses},
		func(ctx context.Context, who im.Actor, in *struct {
			ID   string `path:"id" maxLength:"200"`
			Body apiclient.ClassChange
		}) (*body[apiclient.Class], error) {
			if c, ok := a.Directory.Class(who.Tenant, im.ClassID(in.ID)); ok {
				if err := matches(ctx, classOf(c)); err != nil {
					return nil, err
				}
			}
			ch := roster.ClassChange{Name: in.Body.Name, Term: in.Body.Term, Archived: in.Body.Archived}
			for _, x := range []struct {
				field string
				from  *[]string
				to    **[]im.UserID
			}{{"teachers", in.Body.Teachers, &ch.Teachers}, {"students", in.Body.Students, &ch.Students}} {
				if x.from != nil {
					ids, err := a.namedUsers(who.Tenant, x.field, *x.from)
					if err != nil {
						return nil, err
					}
					*x.to = &ids
				}
			}
			c, err := a.Roster.ChangeClass(ctx, who.Tenant, im.ClassID(in.ID), ch)
			if err != nil {
				return nil, err
			}
			about(ctx, "class/"+string(c.ID), c.Name)
			return &body[apiclient.Class]{classOf(c)}, nil
		})
	forTenant(a, api, tenantOp{id: "end-term", scope: auth.ScopeUsersWrite, audit: "class.end_term", once: replay, method: http.MethodPost, path: "/classes/end-term", tag: "classes", summary: "Archive the classes of a term", act: access.ManageClasses},
		func(ctx context.Context, who im.Actor, in *body[apiclient.TermEnd]) (*body[apiclient.TermEnded], error) {
			about(ctx, "tenant/"+string(who.Tenant), in.Body.Term)
			n, err := a.Roster.EndTerm(ctx, who.Tenant, in.Body.Term)
			if err != nil {
				return nil, err
			}
			return &body[apiclient.TermEnded]{apiclient.TermEnded{Archived: n}}, nil
		})
	forTenant(a, api, tenantOp{id: "get-guardian", scope: auth.ScopeUsersRead, tagged: true, method: http.MethodGet, path: "/guardians/{id}", tag: "users", summary: "Of whom a guardian is guardian", act: access.ManageClasses},
		func(_ context.Context, who im.Actor, in *struct {
			ID string `path:"id" maxLength:"200"`
		}) (*body[apiclient.GuardianOf], error) {
			guardian, err := a.namedUsers(who.Tenant, "", []string{in.ID})
			if err != nil {
				return nil, err
			}
			return &body[apiclient.GuardianOf]{a.guardianOf(who.Tenant, guardian[0])}, nil
		})
	forTenant(a, api, tenantOp{id: "set-guardian", scope: auth.ScopeUsersWrite, audit: "guardian.update", method: http.MethodPut, path: "/guardians/{id}", tag: "users", summary: "Say of whom a guardian is guardian", tagged: true, act: access.ManageClasses},
		func(ctx context.Context, who im.Actor, in *struct {
			ID   string `path:"id" maxLength:"200"`
			Body apiclient.GuardianOf
		}) (*body[apiclient.GuardianOf], error) {
			guardian, err := a.namedUsers(who.Tenant, "", []string{in.ID})
			if err != nil {
				return nil, err
			}
			about(ctx, "user/"+string(guardian[0]), "")
			members, err := a.namedUsers(who.Tenant, "members", in.Body.Members)
			if err != nil {
				return nil, err
			}
			if err := matches(ctx, a.guardianOf(who.Tenant, guardian[0])); err != nil {
				return nil, err
			}
			if err := a.Roster.SetGuardian(ctx, who.Tenant, guardian[0], members); err != nil {
				return nil, err
			}
			return &body[apiclient.GuardianOf]{a.guardianOf(who.Tenant, guardian[0])}, nil
		})
}

func (a *API) guardianOf(t im.TenantID, u im.UserID) apiclient.GuardianOf {
	out := apiclient.GuardianOf{Members: []string{}}
	for _, m := range a.Directory.RosterUser(t, u).GuardianOf {
		out.Members = append(out.Members, string(m))
	}
	return out
}

func (a *API) policy(t im.TenantID) apiclient.Policy {
	p := a.Directory.Policy(t)
	if p == nil {
		p = access.Open
	}
	out := apiclient.Policy{Preset: p.Preset()}
	for _, s := range p.Settings() {
		out.Settings = append(out.Settings, apiclient.PolicySetting(s))
	}
	return out
}

func classOf(c *im.Class) apiclient.Class {
	out := apiclient.Class{ID: string(c.ID), Name: c.Name, Term: c.Term, Ends: c.Ends, SourcedID: c.SourcedID, Group: string(c.Group), Board: string(c.Board),
		Archived: c.Archived, Teachers: make([]string, len(c.Teachers)), Students: make([]string, len(c.Students))}
	for i, u := range c.Teachers {
		out.Teachers[i] = string(u)
	}
	for i, u := range c.Students {
		out.Students[i] = string(u)
	}
	return out
}

// classes returns a page of classes, in order of name; the cursor is the id of the
// last one.
func (a *API) classes(t im.TenantID, in *ListInput) apiclient.Classes {
	out := apiclient.Classes{Classes: []apiclient.Class{}}
	all := a.Directory.Classes(t)
	from := 0
	for i, c := range all {
		if in.Cursor != "" && string(c.ID) == in.Cursor {
			from = i + 1
		}
	}
	limit := min(max(in.Limit, 1), 500)
	for i, c := range all[from:] {
		if i == limit {
			out.Next = out.Classes[i-1].ID
			break
		}
		out.Classes = append(out.Classes, classOf(c))
	}
	return out
}
