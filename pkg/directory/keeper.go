package directory

import (
	"context"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// box is the space of what belongs to no tenant; keeperID is a record in it.
const (
	box      = im.TenantID("")
	keeperID = "keeper"
)

func (d *Directory) loadKeeper(ctx context.Context) error {
	if d.records == nil {
		return nil
	}
	raw, err := d.records.Record(ctx, box, store.RecordTenant, keeperID)
	if err != nil && !im.Is(err, im.NotFound) {
		return im.Wrap("directory: load who keeps the box", err)
	}
	keeper := im.TenantID(raw)
	d.keeper.Store(&keeper)
	return nil
}

// Keeper returns the tenant whose owners look after the box from their browsers:
// health, backups, the other tenants. Empty: nobody does but who holds the box's
// own socket.
func (d *Directory) Keeper() im.TenantID {
	if k := d.keeper.Load(); k != nil {
		return *k
	}
	return box
}

// SetKeeper makes a tenant the one that looks after the box; empty: none. Only who
// has shown to hold the box may be let do that. Errors: im.NotFound if there is no
// such tenant, and those of the store.
func (d *Directory) SetKeeper(ctx context.Context, t im.TenantID) error {
	d.tenants.Lock()
	defer d.tenants.Unlock()
	return d.setKeeper(ctx, t)
}

// setKeeper is SetKeeper for who holds d.tenants.
func (d *Directory) setKeeper(ctx context.Context, t im.TenantID) error {
	if t != box && d.snap.Load().byID[t] == nil || d.records == nil {
		return unknownTenant()
	}
	err := d.records.UpdateRecords(ctx, box, func(tx store.RecordTx) error {
		if t == box {
			tx.Delete(store.RecordTenant, keeperID)
		} else {
			tx.Put(store.RecordTenant, keeperID, []byte(t))
		}
		return nil
	})
	if err != nil {
		return im.Wrap("directory: set who keeps the box", err)
	}
	d.keeper.Store(&t)
	d.log.Info("keeper of the box set", "tenant", string(t))
	return nil
}
