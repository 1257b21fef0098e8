package archive

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// The sizes of what Import writes in one step: well inside one transaction of
// any back end.
const (
	entriesAtOnce = 64
	bytesAtOnce   = 256 << 10
	recordsAtOnce = 100
)

// Import makes the tenant of an archive, all or nothing. When it returns without
// an error the tenant is stored completely. Errors: im.Exists if the box has a
// tenant of that id (field id), im.Invalid (field archive) for what is no archive
// or is incomplete, and those of the store.
func Import(ctx context.Context, s Store, r io.ReaderAt, size int64) (im.Tenant, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return im.Tenant{}, damaged("it is no ZIP, or its end is missing")
	}
	var m Manifest
	if n, err := each(z, manifestFile, func(v *Manifest) error { m = *v; return nil }); err != nil || n != 1 {
		return im.Tenant{}, errors.Join(err, damaged("its manifest is missing"))
	}
	if m.Format != format {
		return im.Tenant{}, im.E(im.Invalid, "The archive has format %d, which this version of Pipit does not know. Nothing was imported.", m.Format).OnField("archive")
	}
	ten := im.Tenant{ID: m.Tenant.ID, Name: m.Tenant.Name, Created: m.Tenant.Created, Suspended: m.Tenant.Suspended}
	if !goodID(string(ten.ID)) || ten.Name == "" {
		return im.Tenant{}, damaged("its manifest names no organisation")
	}
	op := "archive: import tenant " + string(ten.ID)
	all, err := s.Tenants(ctx)
	if err != nil {
		return im.Tenant{}, im.Wrap(op, err)
	}
	for _, t := range all {
		if t.ID == ten.ID {
			return im.Tenant{}, im.E(im.Exists, "There is a tenant %s already. Delete it first, or import on another server.", ten.ID).OnField("id")
		}
	}
	if err := mark(ctx, s, ten.ID, true); err != nil {
		return im.Tenant{}, im.Wrap(op, err)
	}
	i := &importer{Store: s, ctx: ctx, t: ten.ID, z: z, m: m}
	if err := i.run(ten); err != nil {
		// The mark stays if this fails too: the next start erases what is there.
		ctx := context.WithoutCancel(ctx)
		undone := s.EraseTenant(ctx, ten.ID)
		if undone == nil {
			undone = mark(ctx, s, ten.ID, false)
		}
		return im.Tenant{}, im.Wrap(op, errors.Join(err, undone))
	}
	return ten, im.Wrap(op, mark(ctx, s, ten.ID, false))
}

// Recover erases what imports that did not end have left. It is called at the
// start, before anybody reads tenants.
func Recover(ctx context.Context, s Store) error {
	half, err := s.ListRecords(ctx, "", store.RecordHalfImported, "", "", store.MaxRecordsPage)
	if err != nil {
		return im.Wrap("archive: look for half an import", err)
	}
	for _, r := range half {
		t := im.TenantID(r.ID)
		if err := s.EraseTenant(ctx, t); err != nil && !im.Is(err, im.NotFound) {
			return im.Wrap("archive: erase half of tenant "+r.ID, err)
		}
		if err := mark(ctx, s, t, false); err != nil {
			return im.Wrap("archive: erase half of tenant "+r.ID, err)
		}
	}
	return nil
}

func mark(ctx context.Context, s Store, t im.TenantID, half bool) error {
	return s.UpdateRecords(ctx, "", func(tx store.RecordTx) error {
		if half {
			tx.Put(store.RecordHalfImported, string(t), []byte("{}"))
		} else {
			tx.Delete(store.RecordHalfImported, string(t))
		}
		return nil
	})
}

// goodID reports whether an id is one that PROTOCOL 1.5 allows.
func goodID(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return len(id) >= 1 && len(id) <= im.MaxIDBytes
}

type importer struct {
	Store
	ctx context.Context
	t   im.TenantID
	z   *zip.Reader
	m   Manifest
	ids map[im.UserID]bool
}

func (i *importer) run(ten im.Tenant) error {
	err := i.UpdateTenant(i.ctx, i.t, func(old *im.Tenant) (*im.Tenant, error) {
		if old != nil {
			return nil, im.E(im.Exists, "There is a tenant %s already.", ten.ID).OnField("id")
		}
		return &ten, nil
	})
	for _, step := range []func() error{i.users, i.credentials, i.conversations, i.records} {
		if err == nil {
			err = step()
		}
	}
	return err
}

// count holds what was read against the manifest.
func count(what string, got, want uint64) error {
	if got != want {
		return damaged("it has %d %s of %d", got, what, want)
	}
	return nil
}

func (i *importer) users() error {
	i.ids = map[im.UserID]bool{}
	p := newParallel()
	n, err := each(i.z, usersFile, func(u *user) error {
		role, ok := im.ParseRole(u.Role)
		if !ok || !goodID(string(u.ID)) || u.Username == "" || i.ids[u.ID] {
			return damaged("user %q can't be used", u.ID)
		}
		i.ids[u.ID] = true
		rec := im.User{Tenant: i.t, ID: u.ID, Username: u.Username, Name: u.Name, Role: role, Disabled: u.Disabled, Created: u.Created}
		p.add(func() error {
			return i.UpdateUser(i.ctx, i.t, rec.ID, func(*im.User) (*im.User, error) { return &rec, nil })
		})
		return nil
	})
	if err := errors.Join(err, p.wait()); err != nil {
		return err
	}
	return count("users", uint64(n), uint64(i.m.Users))
}

func (i *importer) credentials() error {
	p := newParallel()
	_, err := each(i.z, credentialsFile, func(c *credential) error {
		if !i.ids[c.User] {
			return damaged("a credential is of nobody")
		}
		rec := store.Credential{PHC: c.PHC, Changed: c.Changed}
		p.add(func() error {
			return i.UpdateCredential(i.ctx, i.t, c.User, func(*store.Credential) (*store.Credential, error) { return &rec, nil })
		})
		return nil
	})
	return errors.Join(err, p.wait())
}

// conversations reads entries beside the conversations that they are of. Logs are
// written one after the other, several conversations in one step.
func (i *importer) conversations() error {
	entries, err := openFile(i.z, entriesFile)
	if err != nil {
		return err
	}
	defer entries.f.Close()
	var total uint64
	var batch []*store.Write
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := i.Append(i.ctx, batch)
		batch, size = nil, 0
		return err
	}
	n, err := each(i.z, convsFile, func(c *conversation) error {
		kind, ok := im.ParseConvKind(c.Kind)
		if !ok || !goodID(string(c.ID)) || (kind == im.KindDirect) != (len(c.Peers) == 2) {
			return damaged("conversation %q can't be used", c.ID)
		}
		rec := im.Conversation{Tenant: i.t, ID: c.ID, Kind: kind, Title: c.Title, Created: c.Created, Last: c.Created, Archived: c.Archived}
		copy(rec.Peers[:], c.Peers)
		w := &store.Write{Tenant: i.t, Create: true}
		for _, m := range c.Members {
			role, _ := im.ParseMemberRole(m.Role)
			if !i.ids[m.User] || m.Read > c.Head {
				return damaged("a member of conversation %q can't be used", c.ID)
			}
			if role != 0 {
				rec.Members++
			}
			w.Members = append(w.Members, im.Member{Conv: c.ID, User: m.User, Role: role, Joined: m.Joined, Read: m.Read})
		}
		for q := im.Seq(1); q <= c.Head; q++ {
			var e entry
			if ok, err := entries.next(&e); err != nil || !ok || e.Conv != c.ID || e.Seq != q {
				return errors.Join(err, damaged("entry %d of conversation %s is missing", q, c.ID))
			}
			made, err := e.entry()
			if err != nil {
				return err
			}
			w.Entries = append(w.Entries, made)
			if rec.Head, rec.Last = q, max(rec.Last, made.Time); made.Kind == im.EntryMessage {
				rec.LastMsg = q
			}
			total++
			size += len(made.Text) + 256
			if len(w.Entries) == entriesAtOnce || size > bytesAtOnce {
				now := rec
				w.Conv = &now
				batch = append(batch, w)
				if err := flush(); err != nil {
					return err
				}
				w = &store.Write{Tenant: i.t, PrevHead: q}
			}
		}
		if w.Create || len(w.Entries) > 0 {
			w.Conv = &rec
			batch = append(batch, w)
			size += 512 + 128*len(w.Members)
		}
		if size > bytesAtOnce || len(batch) >= entriesAtOnce {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	if err := count("conversations", uint64(n), uint64(i.m.Conversations)); err != nil {
		return err
	}
	return count("entries", total, i.m.Entries)
}

// entry turns a line back into an entry.
func (e *entry) entry() (im.Entry, error) {
	kind, ok := im.ParseEntryKind(e.Kind)
	change, _ := im.ParseMemberChange(e.Change)
	role, _ := im.ParseMemberRole(e.Role)
	if !ok {
		return im.Entry{}, damaged("entry %d of conversation %s is of no kind", e.Seq, e.Conv)
	}
	return im.Entry{Conv: e.Conv, Seq: e.Seq, Time: e.Time, By: e.By, Kind: kind, Text: e.Text, ReplyTo: e.ReplyTo, Mentions: e.Mentions,
		Target: e.Target, Emoji: e.Emoji, On: e.On, User: e.User, Change: change, Role: role, Title: e.Title}, nil
}

func (i *importer) records() error {
	var batch []record
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := i.UpdateRecords(i.ctx, i.t, func(tx store.RecordTx) error {
			for _, r := range batch {
				tx.Put(r.Kind, r.ID, r.Value)
			}
			return nil
		})
		batch = nil
		return err
	}
	size := 0
	n, err := each(i.z, recordsFile, func(r *record) error {
		if r.Kind == store.RecordTenant {
			r.Value = alive(r.Value)
		}
		batch = append(batch, *r)
		if size += len(r.Value); len(batch) == recordsAtOnce || size > bytesAtOnce {
			size = 0
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	return count("records", uint64(n), uint64(i.m.Records))
}

// alive takes the mark of a deletion out of settings: it is judged by the running
// time of the box that they come from.
func alive(settings []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(settings, &members) != nil {
		return settings
	}
	delete(members, "deleted")
	out, err := json.Marshal(members)
	if err != nil {
		return settings
	}
	return out
}
