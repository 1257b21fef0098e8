package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pipit-im/pipit/pkg/archive"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

// registerTenantLife adds what the operator does with a tenant as a whole, beside
// adding, renaming and suspending it.
func (a *API) registerTenantLife(api huma.API) {
	operation(a, api, "get-tenant", http.MethodGet, "/admin/tenants/{tenant}", "", "A tenant with its settings, quota and usage", 0,
		func(ctx context.Context, in *TenantPath) (*body[TenantDetail], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			return &body[TenantDetail]{TenantDetail{TenantInfo: a.tenantInfo(t), Settings: a.settings(ctx, t.ID)}}, nil
		})
	operation(a, api, "delete-tenant", http.MethodDelete, "/admin/tenants/{tenant}", "tenant.delete",
		"Delete a tenant: it is shut at once and erased after a week of running time, or at once", 0,
		func(ctx context.Context, in *struct {
			TenantPath
			Now bool `query:"now" doc:"Erase it at once; nothing brings it back."`
		}) (*body[TenantInfo], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			about(ctx, "tenant/"+in.Tenant, t.Name)
			if in.Now {
				requestOf(ctx).event.Action = "tenant.erase"
				return &body[TenantInfo]{a.tenantInfo(t)}, a.Directory.EraseTenant(ctx, t.ID)
			}
			if err := a.Directory.DeleteTenant(ctx, t.ID, 0); err != nil {
				return nil, err
			}
			t, _ = a.Directory.Tenant(t.ID)
			return &body[TenantInfo]{a.tenantInfo(t)}, nil
		})
	operation(a, api, "undelete-tenant", http.MethodPost, "/admin/tenants/{tenant}/undelete", "tenant.undelete",
		"Bring a deleted tenant back while it is not erased yet", 0,
		func(ctx context.Context, in *TenantPath) (*body[TenantInfo], error) {
			t, err := a.tenant(in.Tenant)
			if err == nil {
				err = a.Directory.UndeleteTenant(ctx, t.ID)
			}
			if err != nil {
				return nil, err
			}
			t, _ = a.Directory.Tenant(t.ID)
			return &body[TenantInfo]{a.tenantInfo(t)}, nil
		})
	operation(a, api, "set-tenant", http.MethodPatch, "/admin/tenants/{tenant}/settings", "tenant.settings",
		"Host names, quota and settings of a tenant", 0,
		func(ctx context.Context, in *struct {
			TenantPath
			Body BoxSettings
		}) (*body[TenantDetail], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			if v := in.Body.Keeper; v != nil && *v != (a.Directory.Keeper() == t.ID) {
				note(ctx, "keeper", strconv.FormatBool(*v))
				next := t.ID
				if !*v {
					next = ""
				}
				if err := a.Directory.SetKeeper(ctx, next); err != nil {
					return nil, err
				}
			}
			_, err = a.Directory.UpdateSettings(ctx, t.ID, func(s *directory.Settings) error {
				if v := in.Body.Hosts; v != nil {
					note(ctx, "changed", "hosts")
					s.Hosts = slices.Clone(*v)
				}
				if v := in.Body.Quota; v != nil {
					note(ctx, "quota", "set")
					s.Quota = directory.Quota(*v)
				}
				if v := in.Body.StaffTOTP; v != nil {
					s.StaffTOTP = *v
				}
				if v := in.Body.AuditDays; v != nil {
					s.AuditDays = *v
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			return &body[TenantDetail]{TenantDetail{TenantInfo: a.tenantInfo(t), Settings: a.settings(ctx, t.ID)}}, nil
		})
	a.registerTenantAccess(api)
	a.registerBoxAudit(api)
	a.registerArchive(api)
}

// registerTenantAccess adds invitations, API tokens and the end of sign-ins.
func (a *API) registerTenantAccess(api huma.API) {
	operation(a, api, "list-invitations", http.MethodGet, "/admin/tenants/{tenant}/invitations", "", "Invitations that were not used yet", 0,
		func(ctx context.Context, in *struct {
			TenantPath
			ListInput
		}) (*body[InvitationList], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			return a.invitations(ctx, t.ID, &in.ListInput)
		})
	operation(a, api, "add-invitation", http.MethodPost, "/admin/tenants/{tenant}/invitations", "invitation.create", "Invite somebody; the code is shown this once", http.StatusCreated,
		func(ctx context.Context, in *struct {
			TenantPath
			Body NewInvitation
		}) (*body[MadeInvitation], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			// Who types names and means somebody who is there invites that account.
			if u, ok := a.Directory.ByUsername(t.ID, in.Body.Username); ok && in.Body.User == "" {
				in.Body.User = string(u.ID)
			}
			v, err := a.newInvitation(ctx, t.ID, in.Body)
			if err != nil {
				return nil, err
			}
			return a.invite(ctx, t.ID, v)
		})
	operation(a, api, "remove-invitation", http.MethodDelete, "/admin/tenants/{tenant}/invitations/{invitation}", "invitation.delete", "Take an invitation back", http.StatusNoContent,
		func(ctx context.Context, in *struct {
			TenantPath
			Invitation string `path:"invitation" maxLength:"200"`
		}) (*struct{}, error) {
			t, err := a.tenant(in.Tenant)
			if err == nil {
				about(ctx, "invitation/"+in.Invitation, "")
				_, err = a.Auth.Uninvite(ctx, t.ID, in.Invitation)
			}
			return nil, err
		})
	operation(a, api, "list-tokens", http.MethodGet, "/admin/tenants/{tenant}/tokens", "", "The API tokens of programs", 0,
		func(ctx context.Context, in *TenantPath) (*body[APITokenList], error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			return a.apiTokens(ctx, t.ID)
		})
	operation(a, api, "add-token", http.MethodPost, "/admin/tenants/{tenant}/tokens", "token.create", "Make an API token; it is shown this once", http.StatusCreated,
		func(ctx context.Context, in *struct {
			TenantPath
			Body NewAPIToken
		}) (*body[MadeAPIToken], error) {
			// The operator names whom the token acts for as people do.
			u, err := a.user(UserPath{TenantPath: in.TenantPath, Username: in.Body.User})
			if err != nil {
				return nil, err
			}
			in.Body.User = string(u.ID)
			return a.makeToken(ctx, u.Tenant, "", in.Body)
		})
	operation(a, api, "revoke-token", http.MethodDelete, "/admin/tenants/{tenant}/tokens/{token}", "token.delete", "End an API token", http.StatusNoContent,
		func(ctx context.Context, in *struct {
			TenantPath
			Token string `path:"token" maxLength:"200"`
		}) (*struct{}, error) {
			t, err := a.tenant(in.Tenant)
			if err == nil {
				err = a.revokeToken(ctx, t.ID, in.Token)
			}
			return nil, err
		})
	operation(a, api, "sign-out-user", http.MethodDelete, "/admin/tenants/{tenant}/users/{username}/sessions", "session.delete_all", "Sign a user out everywhere", http.StatusNoContent,
		func(ctx context.Context, in *UserPath) (*struct{}, error) {
			u, err := a.user(*in)
			if err == nil {
				err = a.Auth.RevokeUser(ctx, u.Tenant, u.ID)
			}
			return nil, err
		})
	operation(a, api, "reset-second-factor", http.MethodDelete, "/admin/tenants/{tenant}/users/{username}/second-factor", "totp.reset",
		"Take TOTP and passkeys away from who lost the device; all of the user's sign-ins end", http.StatusNoContent,
		func(ctx context.Context, in *UserPath) (*struct{}, error) {
			u, err := a.user(*in)
			if err == nil {
				err = a.resetSecondFactor(ctx, u)
			}
			return nil, err
		})
}

// BoxTenant is the query member that says whose audit log is meant.
type BoxTenant struct {
	Tenant string `query:"tenant" maxLength:"200" doc:"A tenant's id; absent: the box's own log."`
}

// registerBoxAudit adds the audit logs of the box and of its tenants.
func (a *API) registerBoxAudit(api huma.API) {
	whose := func(t string) (im.TenantID, error) {
		if t == "" {
			return audit.Box, nil
		}
		ten, err := a.tenant(t)
		return ten.ID, err
	}
	operation(a, api, "list-audit", http.MethodGet, "/admin/audit", "", "The audit log of the box or of a tenant, newest first", 0,
		func(ctx context.Context, in *BoxAuditInput) (*body[AuditPage], error) {
			t, err := whose(in.Tenant)
			if err != nil {
				return nil, err
			}
			return a.auditPage(ctx, t, &in.AuditInput)
		})
	register(a, api, endpoint{ID: "export-audit", Method: http.MethodGet, Path: "/admin/audit/export", Caller: operator, Audit: "audit.export",
		Summary: "The audit log of the box or of a tenant as a file, oldest first", Adapt: exported},
		func(ctx context.Context, in *BoxExportInput) (*huma.StreamResponse, error) {
			t, err := whose(in.Tenant)
			if err != nil {
				return nil, err
			}
			aboutTenant(ctx, t)
			return a.auditExport(t, &in.ExportInput), nil
		})
}

// BoxAuditInput and BoxExportInput are described at TenantPath.
type BoxAuditInput struct {
	BoxTenant
	AuditInput
}

// BoxExportInput is described at TenantPath.
type BoxExportInput struct {
	BoxTenant
	ExportInput
}

// registerArchive adds export and import of a whole tenant.
func (a *API) registerArchive(api huma.API) {
	register(a, api, endpoint{ID: "export-tenant", Method: http.MethodPost, Path: "/admin/tenants/{tenant}/export", Caller: operator, Audit: "tenant.export",
		Summary: "A tenant as an archive (package archive has the format)",
		Adapt: func(op *huma.Operation) {
			op.Responses = map[string]*huma.Response{"200": {Description: "A ZIP.", Content: map[string]*huma.MediaType{"application/zip": {}}}}
		}},
		func(ctx context.Context, in *struct {
			TenantPath
			Credentials bool `query:"credentials" doc:"With hashes of passwords and second factors: keep the archive secret."`
		}) (*huma.StreamResponse, error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			note(ctx, "credentials", strconv.FormatBool(in.Credentials))
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				hc.SetHeader("Content-Type", "application/zip")
				a.stream(hc, "export", func() error {
					_, err := archive.Export(hc.Context(), a.Store, t, in.Credentials, hc.BodyWriter())
					return err
				})
			}}, nil
		})
	// The body is as long as it is: it goes to a file first, without huma, which
	// would hold it in memory.
	op := &huma.Operation{OperationID: "import-tenant", Method: http.MethodPost, Path: "/admin/tenants-import", Summary: "Make a tenant of an archive, all or nothing",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/zip": {}}}}
	schema := huma.SchemaFromType(api.OpenAPI().Components.Schemas, reflect.TypeFor[TenantInfo]())
	op.Responses = map[string]*huma.Response{"201": {Description: "The tenant.", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}},
		"default": api.OpenAPI().Paths["/admin/status"].Get.Responses["default"]}
	api.OpenAPI().AddOperation(op)
	a.endpoints = append(a.endpoints, endpoint{ID: op.OperationID, Method: op.Method, Path: op.Path, Caller: operator, Audit: "tenant.import"})
	api.Adapter().Handle(op, a.importTenant)
}

func (a *API) importTenant(hc huma.Context) {
	ctx := audit.With(hc.Context(), audit.Origin{Actor: audit.Actor{Kind: audit.ByOperator}})
	t, err := a.importFrom(hc)
	about := audit.Event{Action: "tenant.import", Object: "tenant/" + string(t.ID), Name: t.Name, Result: audit.ResultOf(err)}
	_ = a.Audit.Add(ctx, audit.Box, about) // logged there
	status, kind, out := http.StatusCreated, "application/json", any(nil)
	if err != nil {
		p := a.problem(ctx, "import-tenant", err).(*Problem)
		status, kind, out = p.Status, p.ContentType(""), p
	} else {
		t, _ = a.Directory.Tenant(t.ID)
		out = a.tenantInfo(t)
	}
	hc.SetHeader("Content-Type", kind)
	hc.SetStatus(status)
	if err := json.NewEncoder(hc.BodyWriter()).Encode(out); err != nil {
		a.log.Debug("answer not written", "error", err)
	}
}

func (a *API) importFrom(hc huma.Context) (im.Tenant, error) {
	r, w := humago.Unwrap(hc)
	c := http.NewResponseController(w)
	if err := errors.Join(c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{})); err != nil {
		a.log.Debug("import has a deadline", "error", err)
	}
	f, err := os.CreateTemp(a.Status().DataDir, ".import-*")
	if err != nil {
		return im.Tenant{}, err
	}
	defer func() {
		if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
			a.log.Warn("the copy of an archive is left", "file", f.Name(), "error", err)
		}
	}()
	n, err := io.Copy(f, r.Body)
	if err != nil {
		return im.Tenant{}, &im.Error{Kind: im.Unavailable, Message: "The archive did not arrive completely, or there is no room for it. Nothing was imported.", Cause: err}
	}
	t, err := archive.Import(hc.Context(), a.Store, f, n)
	if err != nil {
		return t, err
	}
	return t, a.Directory.Adopt(hc.Context(), t.ID)
}
