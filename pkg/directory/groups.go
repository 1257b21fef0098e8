package directory

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// groups is what a tenant's people have to do with one another: its policy, its
// classes, who is whose guardian. It is never changed once published.
type groups struct {
	policy  *access.Policy // nil: the protocol's defaults
	classes map[im.ClassID]*im.Class
	roster  map[im.UserID]*im.RosterUser
	sourced map[string]im.UserID // by the roster's id

	// in are the classes of each user that are not archived, in rising order: a
	// guardian is in those of the members linked to the guardian.
	in        map[im.UserID][]*im.Class
	guardians map[im.UserID][]im.UserID // of a member
}

var noGroups = newGroups(nil, nil, nil)

func newGroups(policy *access.Policy, classes map[im.ClassID]*im.Class, roster map[im.UserID]*im.RosterUser) *groups {
	g := &groups{policy: policy, classes: classes, roster: roster, sourced: make(map[string]im.UserID, len(roster)),
		in: make(map[im.UserID][]*im.Class), guardians: make(map[im.UserID][]im.UserID)}
	for _, c := range classes {
		if c.Archived {
			continue
		}
		for _, list := range [][]im.UserID{c.Teachers, c.Students} {
			for _, u := range list {
				g.in[u] = append(g.in[u], c)
			}
		}
	}
	for u, r := range roster {
		if r.SourcedID != "" {
			g.sourced[r.SourcedID] = u
		}
		for _, member := range r.GuardianOf {
			g.guardians[member] = append(g.guardians[member], u)
		}
	}
	for u, r := range roster {
		for _, member := range r.GuardianOf {
			g.in[u] = append(g.in[u], g.in[member]...)
		}
	}
	for u, list := range g.in {
		slices.SortFunc(list, func(a, b *im.Class) int { return cmp.Compare(a.ID, b.ID) })
		g.in[u] = slices.Compact(list)
	}
	for _, list := range g.guardians {
		slices.Sort(list)
	}
	return g
}

// The values of the records; the ids are the records' own.
type (
	policyRecord struct {
		Preset  string            `json:"preset"`
		Changed map[string]string `json:"changed,omitempty"`
	}
	classRecord struct {
		Name      string      `json:"name"`
		Term      string      `json:"term,omitempty"`
		Ends      string      `json:"ends,omitempty"`
		SourcedID string      `json:"sourced_id,omitempty"`
		Teachers  []im.UserID `json:"teachers,omitempty"`
		Students  []im.UserID `json:"students,omitempty"`
		Group     im.ConvID   `json:"group,omitempty"`
		Board     im.ConvID   `json:"board,omitempty"`
		Archived  bool        `json:"archived,omitempty"`
		Listed    bool        `json:"listed,omitempty"`
		Created   im.Millis   `json:"created"`
	}
	rosterRecord struct {
		SourcedID  string      `json:"sourced_id,omitempty"`
		GuardianOf []im.UserID `json:"guardian_of,omitempty"`
		Listed     bool        `json:"listed,omitempty"`
		Missing    bool        `json:"missing,omitempty"`
	}
)

const policyID = "policy"

// loadGroups reads a tenant's. A policy that this version can't read is the
// protocol's defaults: locking everybody out would be worse, and it is logged.
func (d *Directory) loadGroups(ctx context.Context, t im.TenantID) (*groups, error) {
	if d.records == nil {
		return noGroups, nil
	}
	var policy *access.Policy
	value, err := d.records.Record(ctx, t, store.RecordPolicy, policyID)
	if err == nil {
		var r policyRecord
		if err = json.Unmarshal(value, &r); err == nil {
			policy, err = access.NewPolicy(r.Preset, r.Changed)
		}
		if err != nil {
			d.log.Error("the tenant's policy can't be read; the defaults count", "tenant", string(t), "err", err)
		}
	} else if !im.Is(err, im.NotFound) {
		return nil, im.Wrap("directory: load the policy of tenant "+string(t), err)
	}
	classes := make(map[im.ClassID]*im.Class)
	err = d.eachRecord(ctx, t, store.RecordClass, func(id string, value []byte) error {
		var r classRecord
		if err := json.Unmarshal(value, &r); err != nil {
			return err
		}
		classes[im.ClassID(id)] = &im.Class{Tenant: t, ID: im.ClassID(id), Name: r.Name, Term: r.Term, Ends: r.Ends, SourcedID: r.SourcedID,
			Teachers: r.Teachers, Students: r.Students, Group: r.Group, Board: r.Board, Archived: r.Archived, Listed: r.Listed, Created: r.Created}
		return nil
	})
	if err != nil {
		return nil, err
	}
	roster := make(map[im.UserID]*im.RosterUser)
	err = d.eachRecord(ctx, t, store.RecordRosterUser, func(id string, value []byte) error {
		var r rosterRecord
		if err := json.Unmarshal(value, &r); err != nil {
			return err
		}
		roster[im.UserID(id)] = &im.RosterUser{User: im.UserID(id), SourcedID: r.SourcedID, GuardianOf: r.GuardianOf, Listed: r.Listed, Missing: r.Missing}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return newGroups(policy, classes, roster), nil
}

func (d *Directory) eachRecord(ctx context.Context, t im.TenantID, k store.RecordKind, fn func(id string, value []byte) error) error {
	for after := ""; ; {
		page, err := d.records.ListRecords(ctx, t, k, "", after, store.MaxRecordsPage)
		for i := range page {
			if err == nil {
				err = fn(page[i].ID, page[i].Value)
			}
		}
		if err != nil {
			return im.Wrap("directory: load the classes of tenant "+string(t), err)
		}
		if len(page) < store.MaxRecordsPage {
			return nil
		}
		after = page[len(page)-1].ID
	}
}

func (d *Directory) groups(t im.TenantID) *groups {
	if ten := d.snap.Load().byID[t]; ten != nil && ten.groups != nil {
		return ten.groups
	}
	return noGroups
}

// Policy returns the tenant's rules; nil: the defaults of the protocol.
func (d *Directory) Policy(t im.TenantID) *access.Policy { return d.groups(t).policy }

// SharesClass says whether two users are in one class that is not archived. A
// guardian is in the classes of the members linked to the guardian.
func (d *Directory) SharesClass(t im.TenantID, a, b im.UserID) bool {
	g := d.groups(t)
	x, y := g.in[a], g.in[b]
	for len(x) > 0 && len(y) > 0 {
		switch c := cmp.Compare(x[0].ID, y[0].ID); {
		case c == 0:
			return true
		case c < 0:
			x = x[1:]
		default:
			y = y[1:]
		}
	}
	return false
}

// Sees says whether the actor may see a user of the same tenant in the directory
// and in presence (PROTOCOL 4.7, 8.2). It allocates nothing.
func (d *Directory) Sees(actor im.Actor, u *im.User) bool {
	if actor.User == u.ID {
		return true
	}
	g := d.groups(actor.Tenant)
	// The cheap question first: most policies answer it by the roles.
	if access.Sees(g.policy, actor.Role, u.Role, false, false) {
		return true
	}
	if access.Sees(g.policy, actor.Role, u.Role, true, false) && d.SharesClass(actor.Tenant, actor.User, u.ID) {
		return true
	}
	return g.linked(actor.User, u.ID) || g.linked(u.ID, actor.User)
}

func (g *groups) linked(guardian, member im.UserID) bool {
	r := g.roster[guardian]
	return r != nil && slices.Contains(r.GuardianOf, member)
}

// Class returns one class. The record is shared and read-only.
func (d *Directory) Class(t im.TenantID, id im.ClassID) (*im.Class, bool) {
	c, ok := d.groups(t).classes[id]
	return c, ok
}

// Classes returns all classes of a tenant, archived ones too, in order of name
// and, for those of one name, newest first. The records are shared and read-only.
func (d *Directory) Classes(t im.TenantID) []*im.Class {
	return slices.SortedFunc(maps.Values(d.groups(t).classes), func(a, b *im.Class) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(b.Created, a.Created), cmp.Compare(a.ID, b.ID))
	})
}

// RosterUsers returns what rosters say, in order of user id. The records are
// shared and read-only.
func (d *Directory) RosterUsers(t im.TenantID) []*im.RosterUser {
	return slices.SortedFunc(maps.Values(d.groups(t).roster), func(a, b *im.RosterUser) int { return cmp.Compare(a.User, b.User) })
}

// ClassesOf returns the classes of a user that are not archived, in order of id;
// of a guardian, those of the members linked to the guardian. The slice is shared
// and read-only.
func (d *Directory) ClassesOf(t im.TenantID, u im.UserID) []*im.Class { return d.groups(t).in[u] }

// RosterUser returns what rosters say of a user; the zero value with User set if
// they say nothing. Shared and read-only.
func (d *Directory) RosterUser(t im.TenantID, u im.UserID) *im.RosterUser {
	if r := d.groups(t).roster[u]; r != nil {
		return r
	}
	return &im.RosterUser{User: u}
}

// BySourcedID returns the user whom rosters know by that id.
func (d *Directory) BySourcedID(t im.TenantID, sourced string) (im.UserID, bool) {
	u, ok := d.groups(t).sourced[sourced]
	return u, ok
}

// CountUsers returns how many users a tenant has, disabled ones too.
func (d *Directory) CountUsers(t im.TenantID) int {
	if ten := d.snap.Load().byID[t]; ten != nil {
		return len(ten.sorted)
	}
	return 0
}

// GuardiansOf returns the guardians of a member, in order of id; read-only.
func (d *Directory) GuardiansOf(t im.TenantID, member im.UserID) []im.UserID {
	return d.groups(t).guardians[member]
}

// SetPolicy stores a tenant's rules; they count from the next request on. Errors:
// im.NotFound, and those of the store.
func (d *Directory) SetPolicy(ctx context.Context, t im.TenantID, p *access.Policy) error {
	value, err := json.Marshal(policyRecord{Preset: p.Preset(), Changed: p.Changed()})
	if err != nil {
		return im.Wrap("directory: encode a policy", err)
	}
	return d.updateGroups(ctx, t, "policy", []store.Record{{ID: policyID, Value: value}}, store.RecordPolicy, func(g groups) *groups {
		g.policy = p
		return &g
	})
}

// PutClasses stores classes, new or changed, by id, in one step each of 100.
// Errors: im.NotFound for the tenant, and those of the store.
func (d *Directory) PutClasses(ctx context.Context, t im.TenantID, list []im.Class) error {
	for part := range slices.Chunk(list, recordsAtOnce) {
		records := make([]store.Record, len(part))
		for i, c := range part {
			value, err := json.Marshal(classRecord{Name: c.Name, Term: c.Term, Ends: c.Ends, SourcedID: c.SourcedID, Teachers: c.Teachers,
				Students: c.Students, Group: c.Group, Board: c.Board, Archived: c.Archived, Listed: c.Listed, Created: c.Created})
			if err != nil {
				return im.Wrap("directory: encode a class", err)
			}
			if len(value) > store.MaxRecordBytes {
				return &im.Error{Kind: im.TooLarge, Field: "students", Limit: MaxClassPeople, Message: "The class " + c.Name + " has too many people."}
			}
			records[i] = store.Record{ID: string(c.ID), Value: value}
		}
		err := d.updateGroups(ctx, t, "classes", records, store.RecordClass, func(g groups) *groups {
			classes := maps.Clone(g.classes)
			if classes == nil {
				classes = make(map[im.ClassID]*im.Class)
			}
			for _, c := range part {
				c.Tenant, c.Teachers, c.Students = t, slices.Clone(c.Teachers), slices.Clone(c.Students)
				classes[c.ID] = &c
			}
			return newGroups(g.policy, classes, g.roster)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// PutRosterUsers stores what a roster says of users. Errors as of PutClasses.
func (d *Directory) PutRosterUsers(ctx context.Context, t im.TenantID, list []im.RosterUser) error {
	d.grouping.Lock()
	defer d.grouping.Unlock()
	for part := range slices.Chunk(list, recordsAtOnce) {
		records := make([]store.Record, len(part))
		for i, r := range part {
			value, err := json.Marshal(rosterRecord{SourcedID: r.SourcedID, GuardianOf: r.GuardianOf, Listed: r.Listed, Missing: r.Missing})
			if err != nil {
				return im.Wrap("directory: encode a user of a roster", err)
			}
			records[i] = store.Record{ID: string(r.User), Value: value}
		}
		if err := d.storeRecords(ctx, t, "roster users", records, store.RecordRosterUser); err != nil {
			return err
		}
	}
	// The maps are made anew once, not for each part.
	d.replaceGroups(t, func(g groups) *groups {
		roster := maps.Clone(g.roster)
		if roster == nil {
			roster = make(map[im.UserID]*im.RosterUser)
		}
		for _, r := range list {
			r.GuardianOf = slices.Clone(r.GuardianOf)
			roster[r.User] = &r
		}
		return newGroups(g.policy, g.classes, roster)
	})
	return nil
}

// recordsAtOnce is how many records one step of the store takes: it is part of a
// commit that messages wait for.
const recordsAtOnce = 100

// MaxClassPeople bounds the people of one class.
const MaxClassPeople = 2000

// NewClassID draws an id.
func (d *Directory) NewClassID() (im.ClassID, error) {
	var b [10]byte
	if _, err := io.ReadFull(d.rand, b[:]); err != nil {
		return "", im.Wrap("directory: draw a class id", err)
	}
	return im.ClassID("k_" + idEncoding.EncodeToString(b[:])), nil
}

// NewUserID draws an id for a user whom PutUsers will store.
func (d *Directory) NewUserID() (im.UserID, error) { return d.newUserID() }

func (d *Directory) updateGroups(ctx context.Context, t im.TenantID, what string, records []store.Record, k store.RecordKind, fn func(groups) *groups) error {
	d.grouping.Lock()
	defer d.grouping.Unlock()
	if err := d.storeRecords(ctx, t, what, records, k); err != nil {
		return err
	}
	d.replaceGroups(t, fn)
	return nil
}

func (d *Directory) storeRecords(ctx context.Context, t im.TenantID, what string, records []store.Record, k store.RecordKind) error {
	d.tenants.RLock()
	defer d.tenants.RUnlock()
	if _, ok := d.Tenant(t); !ok || d.records == nil {
		return unknownTenant()
	}
	err := d.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		for _, r := range records {
			tx.Put(k, r.ID, r.Value)
		}
		return nil
	})
	return im.Wrap("directory: store "+what+" of tenant "+string(t), err)
}

func (d *Directory) replaceGroups(t im.TenantID, fn func(groups) *groups) {
	d.replace(t, func(old *tenant) *tenant {
		if old == nil {
			return nil // erased meanwhile
		}
		next, g := *old, noGroups
		if old.groups != nil {
			g = old.groups
		}
		next.groups = fn(*g)
		return &next
	})
}
