package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

type tenantOutput struct{ Body Tenant }

func tenantOf(t im.Tenant) Tenant { return Tenant{ID: string(t.ID), Name: t.Name} }

// registerTenant adds what people see, and owners and admins change, of their
// organisation.
func (a *API) registerTenant(api huma.API) {
	register(a, api, endpoint{
		ID: "get-tenant", Method: http.MethodGet, Path: "/v1/tenant", Tag: "tenant", Summary: "The caller's organisation",
		Scope: auth.ScopeTenantRead, Tagged: true,
	}, func(ctx context.Context, _ *struct{}) (*tenantOutput, error) {
		t, err := a.own(ctx)
		return &tenantOutput{tenantOf(t)}, err
	})

	register(a, api, endpoint{
		ID: "update-tenant", Method: http.MethodPatch, Path: "/v1/tenant", Tag: "tenant", Summary: "Rename the organisation (owners and admins)",
		Scope: auth.ScopeTenantWrite, Tagged: true, Audit: "tenant.update",
	}, func(ctx context.Context, in *struct{ Body TenantChange }) (*tenantOutput, error) {
		who := actor(ctx)
		about(ctx, "tenant/"+string(who.Tenant), "")
		if err := access.Administer(who, 0, access.UpdateTenant); err != nil {
			return nil, err
		}
		t, err := a.own(ctx)
		if err == nil {
			err = matches(ctx, tenantOf(t))
		}
		if err == nil && in.Body.Name != nil {
			note(ctx, "changed", "name")
			err = a.Directory.RenameTenant(ctx, who.Tenant, *in.Body.Name)
		}
		if err != nil {
			return nil, err
		}
		t, err = a.own(ctx)
		return &tenantOutput{tenantOf(t)}, err
	})

	register(a, api, endpoint{
		ID: "get-settings", Method: http.MethodGet, Path: "/v1/tenant/settings", Tag: "tenant", Summary: "Settings, quota and usage of the organisation (owners and admins)",
		Scope: auth.ScopeTenantRead, Tagged: true,
	}, func(ctx context.Context, _ *struct{}) (*body[TenantSettings], error) {
		if err := access.Administer(actor(ctx), 0, access.UpdateTenant); err != nil {
			return nil, err
		}
		return &body[TenantSettings]{a.settings(ctx, actor(ctx).Tenant)}, nil
	})

	register(a, api, endpoint{
		ID: "update-settings", Method: http.MethodPatch, Path: "/v1/tenant/settings", Tag: "tenant", Summary: "Change settings of the organisation (owners and admins)",
		Scope: auth.ScopeTenantWrite, Tagged: true, Audit: "tenant.settings",
	}, func(ctx context.Context, in *struct{ Body SettingsChange }) (*body[TenantSettings], error) {
		who := actor(ctx)
		about(ctx, "tenant/"+string(who.Tenant), "")
		if err := access.Administer(who, 0, access.UpdateTenant); err != nil {
			return nil, err
		}
		if err := matches(ctx, a.settings(ctx, who.Tenant)); err != nil {
			return nil, err
		}
		_, err := a.Directory.UpdateSettings(ctx, who.Tenant, func(s *directory.Settings) error {
			if v := in.Body.StaffTOTP; v != nil {
				s.StaffTOTP = *v
				note(ctx, "staff_totp", strconv.FormatBool(*v))
			}
			if v := in.Body.AuditDays; v != nil {
				s.AuditDays = *v
				note(ctx, "audit_days", strconv.Itoa(*v))
			}
			return nil
		})
		return &body[TenantSettings]{a.settings(ctx, who.Tenant)}, err
	})
}

// own returns the caller's tenant.
func (a *API) own(ctx context.Context) (im.Tenant, error) {
	t, ok := a.Directory.Tenant(actor(ctx).Tenant)
	if !ok {
		return t, im.E(im.NotFound, "This organisation does not exist any more.")
	}
	return t, nil
}

// settings is what administrators see of a tenant.
func (a *API) settings(ctx context.Context, t im.TenantID) TenantSettings {
	s := a.Directory.Settings(t)
	out := TenantSettings{Hosts: slices.Clone(s.Hosts), StaffTOTP: s.StaffTOTP, AuditDays: s.AuditDays, Quota: Quota(s.Quota), Keeper: a.Directory.Keeper() == t}
	if out.Hosts == nil {
		out.Hosts = []string{}
	}
	if out.AuditDays == 0 {
		out.AuditDays = 365
	}
	out.Usage.Users = a.Directory.UsersOf(t)
	if u, err := a.Store.Usage(ctx, t); err != nil {
		a.log.Warn("usage not measured", "tenant", string(t), "error", err)
	} else {
		out.Usage.Conversations, out.Usage.StoredBytes = u.Conversations, u.Bytes
	}
	if a.Connected != nil {
		out.Usage.Connections = a.Connected(t)
	}
	return out
}
