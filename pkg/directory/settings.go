package directory

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// DefaultGrace is how long a deleted tenant can be had back, in running time of
// the box.
const DefaultGrace = 7 * 24 * time.Hour

// MaxHosts is how many host names one tenant has at most.
const MaxHosts = 20

// Quota bounds what a tenant may have; 0 is no bound.
type Quota struct {
	Users          int   `json:"users,omitempty"`
	Conversations  int   `json:"conversations,omitempty"`
	StoredBytes    int64 `json:"stored_bytes,omitempty"`
	SendsPerMinute int   `json:"sends_per_minute,omitempty"`
	Connections    int   `json:"connections,omitempty"`
}

// Settings is what is kept of a tenant beside its record. It is immutable once
// handed out.
type Settings struct {
	Hosts     []string `json:"hosts,omitempty"`      // lower case, sorted; each selects this tenant (PROTOCOL 9.2)
	StaffTOTP bool     `json:"staff_totp,omitempty"` // owners, admins and staff need a second factor
	AuditDays int      `json:"audit_days,omitempty"` // how long audit events are kept; 0: 365
	Quota     Quota    `json:"quota,omitzero"`
	// Deleted is set while the tenant waits to be erased. It is shut meanwhile.
	Deleted *Deletion `json:"deleted,omitempty"`
}

// Deletion is a deletion that can still be undone.
type Deletion struct {
	At    im.Millis     `json:"at"`
	Age   time.Duration `json:"age"`   // Box.Age when it was asked for
	Grace time.Duration `json:"grace"` // in running time of the box
}

// settingsID is the only id of store.RecordTenant.
const settingsID = "settings"

// noSettings is what a tenant has that nothing was set for.
var noSettings = &Settings{}

// AuditKeep returns how long audit events are kept; 0: the default.
func (s *Settings) AuditKeep() time.Duration { return time.Duration(s.AuditDays) * 24 * time.Hour }

func (d *Directory) loadSettings(ctx context.Context, t im.TenantID) (*Settings, error) {
	if d.records == nil {
		return noSettings, nil
	}
	raw, err := d.records.Record(ctx, t, store.RecordTenant, settingsID)
	if im.Is(err, im.NotFound) {
		return noSettings, nil
	}
	s := &Settings{}
	if err == nil {
		err = json.Unmarshal(raw, s)
	}
	return s, im.Wrap("directory: load the settings of tenant "+string(t), err)
}

// Settings returns what is set for a tenant; it is read-only. An unknown tenant
// has nothing set.
func (d *Directory) Settings(t im.TenantID) *Settings {
	if ten := d.snap.Load().byID[t]; ten != nil {
		return ten.set
	}
	return noSettings
}

// ByHost returns the tenant that a host name selects.
func (d *Directory) ByHost(host string) (im.TenantID, bool) {
	t, ok := d.snap.Load().hosts[host]
	return t, ok
}

// WantsTOTP reports whether the tenant wants this user to have a second factor.
func (d *Directory) WantsTOTP(u *im.User) bool {
	return u.Role >= im.RoleOwner && u.Role <= im.RoleStaff && d.Settings(u.Tenant).StaffTOTP
}

// UpdateSettings changes the settings of a tenant: fn gets a copy. Errors: those
// of fn, im.Invalid (field audit_days, hosts or quota), im.Exists for a host name
// that another tenant has, im.NotFound, and those of the store.
func (d *Directory) UpdateSettings(ctx context.Context, t im.TenantID, fn func(*Settings) error) (*Settings, error) {
	d.tenants.Lock()
	defer d.tenants.Unlock()
	return d.updateSettings(ctx, t, fn)
}

// updateSettings is UpdateSettings for who holds d.tenants.
func (d *Directory) updateSettings(ctx context.Context, t im.TenantID, fn func(*Settings) error) (*Settings, error) {
	ten := d.snap.Load().byID[t]
	if ten == nil || d.records == nil {
		return nil, unknownTenant()
	}
	next := *ten.set
	next.Hosts = slices.Clone(next.Hosts)
	if err := fn(&next); err != nil {
		return nil, err
	}
	if err := d.checkSettings(t, &next); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	err = d.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		tx.Put(store.RecordTenant, settingsID, raw)
		return nil
	})
	if err != nil {
		return nil, im.Wrap("directory: set tenant "+string(t), err)
	}
	d.replace(t, func(old *tenant) *tenant {
		n := *old
		n.set = &next
		return &n
	})
	d.log.Info("tenant set", "tenant", string(t))
	return &next, nil
}

func (d *Directory) checkSettings(t im.TenantID, s *Settings) error {
	bad := func(field, format string, args ...any) error { return im.E(im.Invalid, format, args...).OnField(field) }
	q := s.Quota
	switch {
	case s.AuditDays < 0 || s.AuditDays > 3650:
		return bad("audit_days", "Audit events are kept for 1 to 3650 days.")
	case q.Users < 0 || q.Conversations < 0 || q.StoredBytes < 0 || q.SendsPerMinute < 0 || q.Connections < 0:
		return bad("quota", "A quota is 0 (no bound) or more.")
	case len(s.Hosts) > MaxHosts:
		return bad("hosts", "An organisation has at most %d host names.", MaxHosts)
	}
	hosts := d.snap.Load().hosts
	for i, h := range s.Hosts {
		folded, ok := FoldHost(h)
		if !ok {
			return bad("hosts", "%q is not a host name. It has letters, digits, dashes and dots, such as chat.oakhill.example or oakhill.local.", h)
		}
		s.Hosts[i] = folded
		if other, taken := hosts[folded]; taken && other != t {
			return im.E(im.Exists, "The host name %s belongs to another organisation on this server.", folded).OnField("hosts")
		}
	}
	slices.Sort(s.Hosts)
	s.Hosts = slices.Compact(s.Hosts)
	return nil
}

// FoldHost returns a host name in the form in which it is compared: lower case,
// without the dot at the end; ok is false for what is none (RFC 1123 §2.1), and
// for addresses.
func FoldHost(s string) (folded string, ok bool) {
	s = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(s), "."))
	if s == "" || len(s) > 128 || !strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") {
		return "", false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
				return "", false
			}
		}
	}
	return s, true
}

// DeleteTenant shuts a tenant and marks it to be erased after grace (0:
// DefaultGrace; negative: at once) of running time; until then UndeleteTenant
// brings it back as it was. Errors: im.NotFound, and those of the store.
func (d *Directory) DeleteTenant(ctx context.Context, id im.TenantID, grace time.Duration) error {
	if grace < 0 {
		return d.EraseTenant(ctx, id)
	}
	if grace == 0 {
		grace = DefaultGrace
	}
	now, age := d.nowMillis(), d.age()
	_, err := d.UpdateSettings(ctx, id, func(s *Settings) error {
		if s.Deleted == nil {
			s.Deleted = &Deletion{At: now, Age: age, Grace: grace}
		}
		return nil
	})
	if err == nil {
		d.bus.Publish([]bus.Event{{Kind: bus.SignedOut, Tenant: id, Code: closeSuspended}})
		d.log.Info("tenant deleted; it can be had back", "tenant", string(id), "for", grace)
	}
	return err
}

// UndeleteTenant brings a deleted tenant back, suspended if it was. Errors:
// im.NotFound if there is none or it was not deleted, and those of the store.
func (d *Directory) UndeleteTenant(ctx context.Context, id im.TenantID) error {
	_, err := d.UpdateSettings(ctx, id, func(s *Settings) error {
		if s.Deleted == nil {
			return im.E(im.NotFound, "The organisation is not deleted.")
		}
		s.Deleted = nil
		return nil
	})
	return err
}

// ErasedIn returns how much running time is left until a deleted tenant is
// erased, at least a second; 0 for one that is not deleted.
func (d *Directory) ErasedIn(t im.TenantID) time.Duration {
	del := d.Settings(t).Deleted
	if del == nil {
		return 0
	}
	return max(del.Grace-(d.age()-del.Age), time.Second)
}

// Adopt makes a tenant known that was put into the store beside the directory
// (by an import). Host names that another tenant has are taken from it. Errors:
// im.NotFound, and those of the store.
func (d *Directory) Adopt(ctx context.Context, id im.TenantID) error {
	d.tenants.Lock()
	defer d.tenants.Unlock()
	recs, err := d.people.Tenants(ctx)
	if err != nil {
		return im.Wrap("directory: load tenants", err)
	}
	i := slices.IndexFunc(recs, func(t im.Tenant) bool { return t.ID == id })
	if i < 0 {
		return unknownTenant()
	}
	ten, err := d.load(ctx, recs[i])
	if err != nil {
		return err
	}
	hosts := d.snap.Load().hosts
	free := slices.DeleteFunc(slices.Clone(ten.set.Hosts), func(h string) bool {
		other, taken := hosts[h]
		return taken && other != id
	})
	wanted := len(ten.set.Hosts)
	set := *ten.set
	set.Hosts = free
	ten.set = &set
	d.replace(id, func(*tenant) *tenant { return ten })
	d.log.Info("tenant adopted", "tenant", string(id), "users", len(ten.sorted))
	if len(free) == wanted {
		return nil
	}
	_, err = d.updateSettings(ctx, id, func(*Settings) error { return nil })
	return err
}

// EraseDue erases the tenants whose grace is over and returns them. To be called
// about once an hour. One that fails is tried again then.
func (d *Directory) EraseDue(ctx context.Context) (gone []im.Tenant, _ error) {
	var errs []error
	for _, t := range d.Tenants() {
		del := d.Settings(t.ID).Deleted
		if del == nil || d.age()-del.Age < del.Grace {
			continue
		}
		if err := d.EraseTenant(ctx, t.ID); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, t)
	}
	return gone, errors.Join(errs...)
}

// shut is a tenant's record as the rest of the house sees it: one that waits to
// be erased is suspended.
func (t *tenant) shut() im.Tenant {
	rec := t.rec
	rec.Suspended = rec.Suspended || t.set.Deleted != nil
	return rec
}
