package directory

import (
	"context"
	"errors"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// AddTenant adds a tenant; without a name it is called like its id. Errors:
// im.Invalid (field id or name), im.Exists, and those of the store.
func (d *Directory) AddTenant(ctx context.Context, id im.TenantID, name string) (im.Tenant, error) {
	if err := checkTenantID(id); err != nil {
		return im.Tenant{}, err
	}
	if name == "" {
		name = string(id)
	}
	name, err := checkName(name)
	if err != nil {
		return im.Tenant{}, err
	}
	created := d.nowMillis() // it asks the store, which the closure must not
	return d.updateTenant(ctx, "add", id, func(old *im.Tenant) (*im.Tenant, error) {
		if old != nil {
			return nil, im.E(im.Exists, "There is a tenant %s already.", id).OnField("id")
		}
		return &im.Tenant{ID: id, Name: name, Created: created}, nil
	})
}

// RenameTenant gives a tenant another name. Errors: im.Invalid (field name),
// im.NotFound, and those of the store.
func (d *Directory) RenameTenant(ctx context.Context, id im.TenantID, name string) error {
	name, err := checkName(name)
	if err != nil {
		return err
	}
	_, err = d.updateTenant(ctx, "rename", id, func(old *im.Tenant) (*im.Tenant, error) {
		return changedTenant(old, func(t *im.Tenant) { t.Name = name })
	})
	return err
}

// SuspendTenant shuts a tenant, or opens it again. While it is shut nobody of it
// can sign in and no token of it is accepted; its sockets close with 4202
// (PROTOCOL 3.9), each time it is called. Sign-ins are kept. Errors: im.NotFound,
// and those of the store.
func (d *Directory) SuspendTenant(ctx context.Context, id im.TenantID, suspended bool) error {
	_, err := d.updateTenant(ctx, "suspend", id, func(old *im.Tenant) (*im.Tenant, error) {
		return changedTenant(old, func(t *im.Tenant) { t.Suspended = suspended })
	})
	if err == nil && suspended {
		d.bus.Publish([]bus.Event{{Kind: bus.SignedOut, Tenant: id, Code: closeSuspended}})
	}
	return err
}

// EraseTenant deletes a tenant with everything in it, for good. It is suspended
// first, so that its sockets close (4202) and nothing is added on the way. After
// an error the tenant stays suspended, and erasing it can be tried again. Errors:
// im.NotFound, and those of the store.
func (d *Directory) EraseTenant(ctx context.Context, id im.TenantID) error {
	if err := d.SuspendTenant(ctx, id, true); err != nil {
		return err
	}
	d.tenants.Lock()
	defer d.tenants.Unlock()
	if d.Keeper() == id {
		// Before the tenant goes: whoever makes another one of that id is a stranger.
		if err := d.setKeeper(ctx, box); err != nil {
			return err
		}
	}
	if err := d.people.EraseTenant(ctx, id); err != nil {
		return im.Wrap("directory: erase tenant "+string(id), err)
	}
	d.replace(id, func(*tenant) *tenant { return nil })
	d.log.Info("tenant erased", "tenant", string(id))
	return nil
}

// changedTenant applies change to a copy of old; errSame if that changes nothing.
func changedTenant(old *im.Tenant, change func(*im.Tenant)) (*im.Tenant, error) {
	if old == nil {
		return nil, unknownTenant()
	}
	next := *old
	if change(&next); next == *old {
		return nil, errSame
	}
	return &next, nil
}

// updateTenant stores a tenant and then publishes the new snapshot.
func (d *Directory) updateTenant(ctx context.Context, verb string, id im.TenantID, fn func(old *im.Tenant) (*im.Tenant, error)) (im.Tenant, error) {
	if err := checkTenantID(id); err != nil {
		return im.Tenant{}, unknownTenant()
	}
	d.tenants.Lock()
	defer d.tenants.Unlock()
	var next im.Tenant
	err := d.people.UpdateTenant(ctx, id, func(old *im.Tenant) (*im.Tenant, error) {
		t, err := fn(old)
		if t != nil {
			next = *t
		} else if old != nil {
			next = *old
		}
		return t, err
	})
	if errors.Is(err, errSame) {
		return next, nil
	}
	if err != nil {
		return im.Tenant{}, im.Wrap("directory: "+verb+" tenant "+string(id), err)
	}
	d.replace(id, func(old *tenant) *tenant {
		if old == nil {
			return newTenant(next, noSettings, nil)
		}
		t := *old
		t.rec = next
		return &t
	})
	d.log.Info("tenant stored", "what", verb, "tenant", string(id), "suspended", next.Suspended)
	return next, nil
}
