package storetest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Conv implements store.Convs.
func (m *Model) Conv(ctx context.Context, t im.TenantID, c im.ConvID) (im.Conversation, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return im.Conversation{}, err
	}
	defer unlock()
	mc, err := m.conv(t, c)
	if err != nil {
		return im.Conversation{}, err
	}
	return mc.rec, nil
}

// Members implements store.Convs. No such conversation: im.NotFound.
func (m *Model) Members(ctx context.Context, t im.TenantID, c im.ConvID) ([]im.Member, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	mc, err := m.conv(t, c)
	if err != nil {
		return nil, err
	}
	return slices.SortedFunc(maps.Values(mc.members), func(a, b im.Member) int { return cmp.Compare(a.User, b.User) }), nil
}

// OfUser implements store.Convs; in order of conversation id.
func (m *Model) OfUser(ctx context.Context, t im.TenantID, u im.UserID) ([]im.Member, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var of []im.Member
	for _, mc := range m.tenant(t).convs {
		if mem, ok := mc.members[u]; ok {
			of = append(of, mem)
		}
	}
	slices.SortFunc(of, func(a, b im.Member) int { return cmp.Compare(a.Conv, b.Conv) })
	return of, nil
}

func (mt *modelTenant) direct(a, b im.UserID) *modelConv {
	for _, mc := range mt.convs {
		p := mc.rec.Peers
		if mc.rec.Kind == im.KindDirect && (p == [2]im.UserID{a, b} || p == [2]im.UserID{b, a}) {
			return mc
		}
	}
	return nil
}

// Direct implements store.Convs.
func (m *Model) Direct(ctx context.Context, t im.TenantID, a, b im.UserID) (im.ConvID, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if mc := m.tenant(t).direct(a, b); mc != nil {
		return mc.rec.ID, nil
	}
	return "", notFound("direct conversation", a+" "+b)
}

// Channels implements store.Convs; in order of conversation id.
func (m *Model) Channels(ctx context.Context, t im.TenantID) ([]im.Conversation, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var cs []im.Conversation
	for _, mc := range m.tenant(t).convs {
		if mc.rec.Kind == im.KindChannel {
			cs = append(cs, mc.rec)
		}
	}
	slices.SortFunc(cs, func(a, b im.Conversation) int { return cmp.Compare(a.ID, b.ID) })
	return cs, nil
}

// Usage implements store.Convs. What it says of bytes is a stand-in.
func (m *Model) Usage(ctx context.Context, t im.TenantID) (store.Usage, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return store.Usage{}, err
	}
	defer unlock()
	u := store.Usage{Conversations: len(m.tenant(t).convs)}
	for _, c := range m.tenant(t).convs {
		for _, e := range c.log {
			u.Bytes += int64(len(e.entry.Text)) + 64
		}
	}
	return u, nil
}

// LastChange implements store.Convs.
func (m *Model) LastChange() im.Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.change
}

// Tenants implements store.People; in order of id.
func (m *Model) Tenants(ctx context.Context) ([]im.Tenant, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var ts []im.Tenant
	for _, mt := range m.tenants {
		if mt.rec != nil {
			ts = append(ts, *mt.rec)
		}
	}
	slices.SortFunc(ts, func(a, b im.Tenant) int { return cmp.Compare(a.ID, b.ID) })
	return ts, nil
}

// update runs fn on a copy of *old and returns the record to keep, nil for
// leaving all as it is.
func update[R any](old *R, fn func(*R) (*R, error)) (*R, error) {
	if old != nil {
		c := *old
		old = &c
	}
	rec, err := fn(old)
	if err != nil || rec == nil {
		return nil, err
	}
	c := *rec
	return &c, nil
}

// UpdateTenant implements store.People.
func (m *Model) UpdateTenant(ctx context.Context, t im.TenantID, fn func(old *im.Tenant) (*im.Tenant, error)) error {
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := update(m.tenant(t).rec, fn)
	if err != nil || rec == nil {
		return err
	}
	rec.ID = t
	m.makeTenant(t).rec = rec
	return nil
}

// Users implements store.People; in order of id.
func (m *Model) Users(ctx context.Context, t im.TenantID) ([]im.User, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return slices.SortedFunc(maps.Values(m.tenant(t).users), func(a, b im.User) int { return cmp.Compare(a.ID, b.ID) }), nil
}

// UpdateUser implements store.People.
func (m *Model) UpdateUser(ctx context.Context, t im.TenantID, u im.UserID, fn func(old *im.User) (*im.User, error)) error {
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	var old *im.User
	if rec, ok := m.tenant(t).users[u]; ok {
		old = &rec
	}
	rec, err := update(old, fn)
	if err != nil || rec == nil {
		return err
	}
	rec.Tenant, rec.ID = t, u
	for id, other := range m.tenant(t).users {
		if id != u && other.Username == rec.Username {
			return im.E(im.Exists, "that user name is taken").OnField("username")
		}
	}
	m.makeTenant(t).users[u] = *rec
	return nil
}

// Credential implements store.People.
func (m *Model) Credential(ctx context.Context, t im.TenantID, u im.UserID) (store.Credential, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return store.Credential{}, err
	}
	defer unlock()
	c, ok := m.tenant(t).creds[u]
	if !ok {
		return c, notFound("credential", u)
	}
	return c, nil
}

// UpdateCredential implements store.People.
func (m *Model) UpdateCredential(ctx context.Context, t im.TenantID, u im.UserID, fn func(old *store.Credential) (*store.Credential, error)) error {
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	var old *store.Credential
	if rec, ok := m.tenant(t).creds[u]; ok {
		old = &rec
	}
	rec, err := update(old, fn)
	if err != nil || rec == nil {
		return err
	}
	m.makeTenant(t).creds[u] = *rec
	return nil
}

// EraseTenant implements store.People.
func (m *Model) EraseTenant(ctx context.Context, t im.TenantID) error {
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	delete(m.tenants, t)
	return nil
}

// PutSignIn implements store.Tokens.
func (m *Model) PutSignIn(ctx context.Context, s store.SignIn) error {
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m.makeTenant(s.Tenant).signIns[s.Hash] = s
	return nil
}

// SignIn implements store.Tokens.
func (m *Model) SignIn(ctx context.Context, t im.TenantID, hash [32]byte) (store.SignIn, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return store.SignIn{}, err
	}
	defer unlock()
	s, ok := m.tenant(t).signIns[hash]
	if !ok {
		return s, im.E(im.NotFound, "no such sign-in")
	}
	return s, nil
}

func (mt *modelTenant) signInsOf(u im.UserID) []store.SignIn {
	var of []store.SignIn
	for _, s := range mt.signIns {
		if u == "" || s.User == u {
			of = append(of, s)
		}
	}
	slices.SortFunc(of, func(a, b store.SignIn) int {
		return cmp.Or(cmp.Compare(a.User, b.User), bytes.Compare(a.Hash[:], b.Hash[:]))
	})
	return of
}

// SignIns implements store.Tokens; in order of the hash.
func (m *Model) SignIns(ctx context.Context, t im.TenantID, u im.UserID) ([]store.SignIn, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return m.tenant(t).signInsOf(u), nil
}

// DeleteSignIns implements store.Tokens.
func (m *Model) DeleteSignIns(ctx context.Context, t im.TenantID, u im.UserID, pick func(store.SignIn) bool) ([]store.SignIn, error) {
	unlock, err := m.write(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	mt := m.tenant(t)
	var gone []store.SignIn
	for _, s := range mt.signInsOf(u) {
		if pick(s) {
			gone = append(gone, s)
			delete(mt.signIns, s.Hash)
		}
	}
	return gone, nil
}

// Epoch implements store.Box.
func (m *Model) Epoch() im.Epoch {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.epoch
}

// Now implements store.Box.
func (m *Model) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t := m.now(); t.After(m.high) {
		m.high = t
	}
	return m.high
}

// Age implements store.Box.
func (m *Model) Age() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.age
}

// Probe implements store.Box.
func (m *Model) Probe(ctx context.Context) error {
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	unlock()
	return nil
}

// Setting implements store.Box.
func (m *Model) Setting(ctx context.Context, name string) ([]byte, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, ok := m.settings[name]
	if !ok {
		return nil, notFound("setting", name)
	}
	return bytes.Clone(v), nil
}

// SetSetting implements store.Box. A bad name is im.Invalid, a value over 4 KiB
// im.TooLarge.
func (m *Model) SetSetting(ctx context.Context, name string, value []byte) error {
	const chars = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	if name == "" || len(name) > 100 || len(bytes.Trim([]byte(name), chars)) > 0 {
		return im.E(im.Invalid, "a setting cannot be named %q", name)
	}
	if len(value) > 4096 {
		return &im.Error{Kind: im.TooLarge, Message: "a setting has at most 4096 bytes", Limit: 4096}
	}
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	m.settings[name] = append([]byte{}, value...)
	return nil
}

// Stats implements store.Admin.
func (m *Model) Stats() store.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.State, s.Reason = m.state, m.reason
	return s
}

// Verify implements store.Admin. A Model is never damaged.
func (m *Model) Verify(ctx context.Context, progress func(records uint64)) (store.Report, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return store.Report{}, err
	}
	var r store.Report
	for _, mt := range m.tenants {
		r.Records += uint64(len(mt.users) + len(mt.creds) + len(mt.keys) + len(mt.signIns) + len(mt.convs) + len(mt.records))
		for _, mc := range mt.convs {
			r.Entries += uint64(len(mc.log))
			r.Records += uint64(len(mc.log) + len(mc.members))
		}
	}
	unlock()
	if progress != nil {
		progress(r.Records)
	}
	return r, nil
}

// modelBackup is what Backup writes, after the SHA-256 of its gob.
type modelBackup struct {
	Change   im.Change
	Age      time.Duration
	Settings map[string][]byte
	Records  []backupRecord
	Tenants  map[im.TenantID]backupTenant
}

type backupTenant struct {
	Rec     *im.Tenant
	Users   map[im.UserID]im.User
	Creds   map[im.UserID]store.Credential
	Convs   map[im.ConvID]backupConv
	Keys    []store.Key
	SignIns []store.SignIn
	Records []backupRecord
}

type backupRecord struct {
	Kind  store.RecordKind
	ID    string
	Value []byte
}

func backupRecords(rs map[modelRecord][]byte) (out []backupRecord) {
	for k, v := range rs {
		out = append(out, backupRecord{k.kind, k.id, v})
	}
	return out
}

func restoreRecords(to map[modelRecord][]byte, rs []backupRecord) {
	for _, r := range rs {
		to[modelRecord{r.Kind, r.ID}] = append([]byte{}, r.Value...)
	}
}

type backupConv struct {
	Rec     im.Conversation
	Members map[im.UserID]im.Member
	Log     []backupEntry
}

type backupEntry struct {
	Entry     im.Entry
	State     im.State
	Hidden    bool
	Kept      *im.Message
	Pin       store.Standing
	Edits     []im.Seq
	Reactions []backupReaction
}

type backupReaction struct {
	By    im.UserID
	Emoji string
	store.Standing
}

// Backup implements store.Admin.
func (m *Model) Backup(ctx context.Context, w io.Writer) error {
	unlock, err := m.read(ctx)
	if err != nil {
		return err
	}
	b := modelBackup{Change: m.change, Age: m.age, Settings: m.settings, Records: backupRecords(m.boxRecords), Tenants: map[im.TenantID]backupTenant{}}
	for id, mt := range m.tenants {
		bt := backupTenant{Rec: mt.rec, Users: mt.users, Creds: mt.creds, Convs: map[im.ConvID]backupConv{}, SignIns: mt.signInsOf(""), Records: backupRecords(mt.records)}
		for _, k := range mt.keys {
			bt.Keys = append(bt.Keys, k)
		}
		for cid, mc := range mt.convs {
			bc := backupConv{Rec: mc.rec, Members: mc.members}
			for _, me := range mc.log {
				be := backupEntry{Entry: me.entry, State: me.state, Hidden: me.hidden, Kept: me.kept, Pin: me.pin, Edits: me.edits}
				for k, s := range me.reactions {
					be.Reactions = append(be.Reactions, backupReaction{k.by, k.emoji, s})
				}
				bc.Log = append(bc.Log, be)
			}
			bt.Convs[cid] = bc
		}
		b.Tenants[id] = bt
	}
	var buf bytes.Buffer
	err = gob.NewEncoder(&buf).Encode(b)
	unlock()
	if err != nil {
		return im.Wrap("model backup", err)
	}
	sum := sha256.Sum256(buf.Bytes())
	if _, err = w.Write(sum[:]); err == nil {
		_, err = w.Write(buf.Bytes())
	}
	return im.Wrap("model backup", err)
}

// Restore implements store.Admin.
func (m *Model) Restore(ctx context.Context, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return im.Wrap("model restore", err)
	}
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if len(m.tenants) > 0 || len(m.settings) > 0 || len(m.boxRecords) > 0 {
		return im.E(im.Conflict, "the store is not empty")
	}
	var b modelBackup
	if len(data) < sha256.Size || sha256.Sum256(data[sha256.Size:]) != [32]byte(data[:sha256.Size]) ||
		gob.NewDecoder(bytes.NewReader(data[sha256.Size:])).Decode(&b) != nil {
		return im.E(im.Invalid, "the backup is damaged or cut short")
	}
	m.change, m.age = b.Change, b.Age
	maps.Copy(m.settings, b.Settings)
	restoreRecords(m.boxRecords, b.Records)
	for id, bt := range b.Tenants {
		mt := m.makeTenant(id)
		mt.rec = bt.Rec
		maps.Copy(mt.users, bt.Users)
		restoreRecords(mt.records, bt.Records)
		maps.Copy(mt.creds, bt.Creds)
		for _, k := range bt.Keys {
			mt.keys[modelKey{k.User, k.Key}] = k
		}
		for _, s := range bt.SignIns {
			mt.signIns[s.Hash] = s
		}
		for cid, bc := range bt.Convs {
			mc := &modelConv{rec: bc.Rec, members: map[im.UserID]im.Member{}}
			maps.Copy(mc.members, bc.Members)
			for _, be := range bc.Log {
				me := &modelEntry{entry: be.Entry, state: be.State, hidden: be.Hidden, kept: be.Kept, pin: be.Pin, edits: be.Edits,
					reactions: map[modelReaction]store.Standing{}}
				for _, r := range be.Reactions {
					me.reactions[modelReaction{r.By, r.Emoji}] = r.Standing
				}
				mc.log = append(mc.log, me)
			}
			mt.convs[cid] = mc
		}
	}
	m.restored++
	m.epoch = im.Epoch(fmt.Sprintf("e_model_restored%d", m.restored))
	return nil
}

// Reopened closes m, if it is open, and returns a new Model with what m held,
// as opening a store again does.
func (m *Model) Reopened() *Model {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	n := NewModel(m.now)
	n.tenants, n.settings, n.boxRecords = m.tenants, m.settings, m.boxRecords
	n.change, n.epoch, n.age, n.high, n.restored = m.change, m.epoch, m.age, m.high, m.restored
	return n
}
