package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/archive"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

// Box is what the API asks of the box that it runs on.
type Box struct {
	Machine func() apiclient.MachineInfo
	// History returns the samples that ended after a moment, UTC milliseconds.
	History func(after int64) apiclient.BoxHistory
	Backups func() (apiclient.Backups, error)
	// StartBackup begins one and returns; by is who started it.
	StartBackup func(by audit.Origin) error
}

// boxOp is an operation that people of the organisation which keeps the box do
// from their browsers.
type boxOp struct {
	id, method, path, summary string
	status                    int
	act                       access.AdminAction
	audit                     string
	once                      once
	tagged                    bool
	adapt                     func(*huma.Operation)
}

// forBox registers one; fn is called for those who may. To everybody else the box
// has nothing to say: not even that there are other organisations.
func forBox[I, O any](a *API, api huma.API, o boxOp, fn func(ctx context.Context, in *I) (*O, error)) {
	who := map[access.AdminAction]string{access.ViewBox: "owners and admins", access.ManageBox: "owners"}[o.act]
	register(a, api, endpoint{ID: o.id, Method: o.method, Path: "/v1/box" + o.path, Tag: "box", Summary: o.summary + " (" + who + " of the organisation that keeps the box)",
		Status: o.status, Caller: keeper, Audit: o.audit, Once: o.once, Tagged: o.tagged, Adapt: o.adapt},
		func(ctx context.Context, in *I) (*O, error) {
			if err := a.keeps(actor(ctx), o.act); err != nil {
				return nil, err
			}
			return fn(ctx, in)
		})
}

// keeps says whether who may do act with the box.
func (a *API) keeps(who im.Actor, act access.AdminAction) error {
	if k := a.Directory.Keeper(); k == "" || who.Tenant != k {
		return im.E(im.Forbidden, "Your organisation does not look after this box. Whoever does can hand that over: pipit tenant keeper ID")
	}
	return access.Administer(who, 0, act)
}

func (a *API) registerBox(api huma.API) {
	forBox(a, api, boxOp{id: "get-box", method: http.MethodGet, summary: "How the server and its machine are", act: access.ViewBox},
		func(context.Context, *struct{}) (*body[apiclient.BoxState], error) {
			_, users := a.Directory.Size()
			return &body[apiclient.BoxState]{apiclient.BoxState{ServerInfo: a.Status(), Users: users, Machine: a.Box.Machine()}}, nil
		})
	forBox(a, api, boxOp{id: "box-history", method: http.MethodGet, path: "/history", summary: "The last quarter of an hour, in steps of five seconds", act: access.ViewBox},
		func(_ context.Context, in *struct {
			After int64 `query:"after" minimum:"0" doc:"Only what ended later, UTC milliseconds."`
		}) (*body[apiclient.BoxHistory], error) {
			return &body[apiclient.BoxHistory]{a.Box.History(in.After)}, nil
		})
	forBox(a, api, boxOp{id: "list-backups", method: http.MethodGet, path: "/backups", summary: "The backups, and how the last one went", act: access.ViewBox},
		func(context.Context, *struct{}) (*body[apiclient.Backups], error) {
			b, err := a.Box.Backups()
			return &body[apiclient.Backups]{b}, err
		})
	forBox(a, api, boxOp{id: "start-backup", method: http.MethodPost, path: "/backups", summary: "Back up to the card now; it goes on after the answer", status: http.StatusAccepted, act: access.ViewBox, audit: "backup.start"},
		func(ctx context.Context, _ *struct{}) (*body[apiclient.Backups], error) {
			by, _ := audit.From(ctx)
			if err := a.Box.StartBackup(by); err != nil {
				return nil, err
			}
			b, err := a.Box.Backups()
			return &body[apiclient.Backups]{b}, err
		})
	a.registerBoxTenants(api)
}

// registerBoxTenants adds what the keeper's owners do with the other tenants:
// nothing that looks into them but their export, which is in their own audit log.
func (a *API) registerBoxTenants(api huma.API) {
	forBox(a, api, boxOp{id: "list-box-tenants", method: http.MethodGet, path: "/tenants", summary: "All organisations on the box", act: access.ManageBox},
		func(context.Context, *struct{}) (*body[TenantList], error) {
			out := &body[TenantList]{TenantList{Tenants: []TenantInfo{}}}
			for _, t := range a.Directory.Tenants() {
				out.Body.Tenants = append(out.Body.Tenants, a.tenantInfo(t))
			}
			return out, nil
		})
	forBox(a, api, boxOp{id: "add-box-tenant", method: http.MethodPost, path: "/tenants", summary: "Add an organisation; the code for its first owner is shown this once",
		status: http.StatusCreated, act: access.ManageBox, audit: "tenant.create", once: secret},
		func(ctx context.Context, in *body[apiclient.NewOrganisation]) (*body[apiclient.MadeOrganisation], error) {
			made, err := a.addOrganisation(ctx, &in.Body)
			if err != nil {
				return nil, err
			}
			return &body[apiclient.MadeOrganisation]{*made}, nil
		})
	forBox(a, api, boxOp{id: "get-box-tenant", method: http.MethodGet, path: "/tenants/{tenant}", summary: "An organisation with its quota and what it uses", act: access.ManageBox, tagged: true},
		func(ctx context.Context, in *TenantPath) (*body[TenantDetail], error) {
			return a.tenantDetail(ctx, in.Tenant)
		})
	forBox(a, api, boxOp{id: "update-box-tenant", method: http.MethodPatch, path: "/tenants/{tenant}", summary: "Rename, suspend or resume an organisation", act: access.ManageBox, audit: "tenant.update", tagged: true},
		func(ctx context.Context, in *struct {
			TenantPath
			Body TenantPatch
		}) (*body[TenantDetail], error) {
			id, err := a.another(ctx, in.Tenant, in.Body.Suspended != nil && *in.Body.Suspended)
			if err != nil {
				return nil, err
			}
			if in.Body.Name != nil {
				note(ctx, "changed", "name")
				err = a.Directory.RenameTenant(ctx, id, *in.Body.Name)
			}
			if err == nil && in.Body.Suspended != nil {
				note(ctx, "suspended", map[bool]string{true: "yes", false: "no"}[*in.Body.Suspended])
				err = a.Directory.SuspendTenant(ctx, id, *in.Body.Suspended)
			}
			if err != nil {
				return nil, err
			}
			return a.tenantDetail(ctx, in.Tenant)
		})
	forBox(a, api, boxOp{id: "set-box-tenant", method: http.MethodPatch, path: "/tenants/{tenant}/settings", summary: "Host names and quota of an organisation", act: access.ManageBox, audit: "tenant.settings", tagged: true},
		func(ctx context.Context, in *struct {
			TenantPath
			Body apiclient.TenantBounds
		}) (*body[TenantDetail], error) {
			id, err := a.another(ctx, in.Tenant, false)
			if err != nil {
				return nil, err
			}
			_, err = a.Directory.UpdateSettings(ctx, id, func(s *directory.Settings) error {
				if v := in.Body.Hosts; v != nil {
					note(ctx, "changed", "hosts")
					s.Hosts = slices.Clone(*v)
				}
				if v := in.Body.Quota; v != nil {
					note(ctx, "quota", "set")
					s.Quota = directory.Quota(*v)
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			return a.tenantDetail(ctx, in.Tenant)
		})
	forBox(a, api, boxOp{id: "delete-box-tenant", method: http.MethodDelete, path: "/tenants/{tenant}", summary: "Delete an organisation: it is shut at once and erased after a week of running time", act: access.ManageBox, audit: "tenant.delete"},
		func(ctx context.Context, in *TenantPath) (*body[TenantInfo], error) {
			id, err := a.another(ctx, in.Tenant, true)
			if err == nil {
				err = a.Directory.DeleteTenant(ctx, id, 0)
			}
			if err != nil {
				return nil, err
			}
			t, err := a.tenant(in.Tenant)
			return &body[TenantInfo]{a.tenantInfo(t)}, err
		})
	forBox(a, api, boxOp{id: "undelete-box-tenant", method: http.MethodPost, path: "/tenants/{tenant}/undelete", summary: "Bring a deleted organisation back while it is not erased yet", act: access.ManageBox, audit: "tenant.undelete"},
		func(ctx context.Context, in *TenantPath) (*body[TenantInfo], error) {
			t, err := a.tenant(in.Tenant)
			if err == nil {
				about(ctx, "tenant/"+in.Tenant, t.Name)
				err = a.Directory.UndeleteTenant(ctx, t.ID)
			}
			if err != nil {
				return nil, err
			}
			t, err = a.tenant(in.Tenant)
			return &body[TenantInfo]{a.tenantInfo(t)}, err
		})
	forBox(a, api, boxOp{id: "export-box-tenant", method: http.MethodGet, path: "/tenants/{tenant}/export", summary: "An organisation as an archive, without passwords (package archive has the format)", act: access.ManageBox, audit: "tenant.export",
		adapt: func(op *huma.Operation) {
			op.Responses = map[string]*huma.Response{"200": {Description: "A ZIP.", Content: map[string]*huma.MediaType{"application/zip": {}}}}
		}},
		func(ctx context.Context, in *TenantPath) (*huma.StreamResponse, error) {
			t, err := a.tenant(in.Tenant)
			if err != nil {
				return nil, err
			}
			about(ctx, "tenant/"+in.Tenant, t.Name)
			return &huma.StreamResponse{Body: func(hc huma.Context) {
				hc.SetHeader("Content-Type", "application/zip")
				hc.SetHeader("Content-Disposition", `attachment; filename="`+string(t.ID)+`.zip"`)
				a.stream(hc, "export", func() error {
					_, err := archive.Export(hc.Context(), a.Store, t, false, hc.BodyWriter())
					return err
				})
			}}, nil
		})
}

// another returns the tenant that is to be changed, judged by If-Match. What would
// lock the keeper's own people out is refused.
func (a *API) another(ctx context.Context, id string, shuts bool) (im.TenantID, error) {
	t, err := a.tenant(id)
	if err != nil {
		return "", err
	}
	about(ctx, "tenant/"+id, t.Name)
	if shuts && t.ID == actor(ctx).Tenant {
		return "", im.E(im.Conflict, "That is your own organisation, and it looks after the box. Hand the box over first: pipit tenant keeper ID")
	}
	now, err := a.tenantDetail(ctx, id)
	if err == nil {
		err = matches(ctx, now.Body)
	}
	return t.ID, err
}

func (a *API) tenantDetail(ctx context.Context, id string) (*body[TenantDetail], error) {
	t, err := a.tenant(id)
	if err != nil {
		return nil, err
	}
	return &body[TenantDetail]{TenantDetail{TenantInfo: a.tenantInfo(t), Settings: a.settings(ctx, t.ID)}}, nil
}

// addOrganisation makes a tenant with its rules and the invitation of its first
// owner, all of it or nothing.
func (a *API) addOrganisation(ctx context.Context, in *apiclient.NewOrganisation) (*apiclient.MadeOrganisation, error) {
	kind, name := in.Kind, in.Name
	if kind == "" {
		kind = access.Open.Preset()
	}
	if name == "" {
		name = in.ID
	}
	policy, err := access.NewPolicy(kind, nil)
	if err != nil {
		return nil, err
	}
	v := auth.Invitation{Role: im.RoleOwner, Name: in.Person}
	if in.Username != "" {
		if v.Username, err = directory.FoldUsername(in.Username); err != nil {
			return nil, err
		}
	}
	t, err := a.Directory.AddTenant(ctx, im.TenantID(in.ID), name)
	if err != nil {
		return nil, err
	}
	about(ctx, "tenant/"+in.ID, t.Name)
	aboutTenant(ctx, t.ID)
	err = a.Directory.SetPolicy(ctx, t.ID, policy)
	var made *body[MadeInvitation]
	if err == nil {
		made, err = a.invite(ctx, t.ID, v)
	}
	if err != nil {
		if gone := a.Directory.EraseTenant(context.WithoutCancel(ctx), t.ID); gone != nil {
			a.log.Error("half an organisation is left", "tenant", in.ID, "error", gone)
		}
		return nil, err
	}
	return &apiclient.MadeOrganisation{Tenant: a.tenantInfo(t), Invitation: made.Body}, nil
}
