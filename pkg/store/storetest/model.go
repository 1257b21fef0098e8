package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Model keeps a whole store in memory, written for being obviously right and
// not for speed. It keeps its promises under every hook below.
type Model struct {
	now func() time.Time

	mu         sync.Mutex
	tenants    map[im.TenantID]*modelTenant
	settings   map[string][]byte
	boxRecords map[modelRecord][]byte
	change     im.Change
	epoch      im.Epoch
	age        time.Duration
	high       time.Time // newest time that Now returned
	restored   int

	state    store.State
	reason   string
	failNext error
	closed   bool
	stats    store.Stats
}

var _ store.Store = (*Model)(nil)

type modelTenant struct {
	rec     *im.Tenant
	users   map[im.UserID]im.User
	creds   map[im.UserID]store.Credential
	convs   map[im.ConvID]*modelConv
	keys    map[modelKey]store.Key
	signIns map[[32]byte]store.SignIn
	records map[modelRecord][]byte
}

type modelRecord struct {
	kind store.RecordKind
	id   string
}

type modelKey struct {
	user im.UserID
	key  string
}

type modelConv struct {
	rec     im.Conversation
	log     []*modelEntry // log[i] has seq i+1; entries are replaced, never changed
	members map[im.UserID]im.Member
}

type modelEntry struct {
	entry     im.Entry
	state     im.State
	hidden    bool
	kept      *im.Message // what a recall with Keep left for an inquiry
	pin       store.Standing
	edits     []im.Seq
	reactions map[modelReaction]store.Standing
}

type modelReaction struct {
	by    im.UserID
	emoji string
}

// NewModel returns an empty store whose Now is the given clock, bounded below
// by what it showed before. Its Age stands still but for AddAge.
func NewModel(now func() time.Time) *Model {
	return &Model{
		now:        now,
		tenants:    map[im.TenantID]*modelTenant{},
		settings:   map[string][]byte{},
		boxRecords: map[modelRecord][]byte{},
		epoch:      "e_model0",
	}
}

// SetState makes the store refuse writes (any state but Writable) or take them
// again, as a full disk does and its end. Reads go on in every state.
func (m *Model) SetState(s store.State, reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.reason = s, reason
}

// FailNext makes the next write, and only that, fail with err; nothing of it is
// stored.
func (m *Model) FailNext(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failNext = err
}

// AddAge lets the store grow older by d (Box.Age).
func (m *Model) AddAge(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.age += d
}

// read begins a method that reads.
func (m *Model) read(ctx context.Context) (func(), error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, im.E(im.Unavailable, "the store is closed")
	}
	if err := ctx.Err(); err != nil {
		m.mu.Unlock()
		return nil, &im.Error{Kind: im.Unavailable, Message: "gave up waiting for the store", Cause: err}
	}
	return m.mu.Unlock, nil
}

// write begins a method that writes.
func (m *Model) write(ctx context.Context) (func(), error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	if m.state != store.Writable {
		err = &im.Error{Kind: im.Unavailable, Message: "the store takes no writes now: " + m.reason, RetryAfter: time.Second}
	} else {
		err, m.failNext = m.failNext, nil
	}
	if err != nil {
		unlock()
		return nil, err
	}
	m.stats.Batches++
	m.stats.BatchWrites++
	return unlock, nil
}

// tenant returns what is kept of a tenant, or an empty one that is not kept.
func (m *Model) tenant(t im.TenantID) *modelTenant {
	if mt := m.tenants[t]; mt != nil {
		return mt
	}
	return &modelTenant{}
}

// makeTenant returns what is kept of a tenant, keeping it from now on.
func (m *Model) makeTenant(t im.TenantID) *modelTenant {
	mt := m.tenants[t]
	if mt == nil {
		mt = &modelTenant{
			users:   map[im.UserID]im.User{},
			creds:   map[im.UserID]store.Credential{},
			convs:   map[im.ConvID]*modelConv{},
			keys:    map[modelKey]store.Key{},
			signIns: map[[32]byte]store.SignIn{},
			records: map[modelRecord][]byte{},
		}
		m.tenants[t] = mt
	}
	return mt
}

func notFound(what string, id any) error { return im.E(im.NotFound, "no such %s: %v", what, id) }

func internal(format string, args ...any) error {
	return &im.Error{Kind: im.Internal, Op: "model append", Cause: fmt.Errorf(format, args...)}
}

// Append implements store.Log.
func (m *Model) Append(ctx context.Context, batch []*store.Write) error {
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	var undo []func()
	for _, w := range batch {
		if err := m.apply(w, &undo); err != nil {
			for _, u := range slices.Backward(undo) {
				u()
			}
			return err
		}
		m.stats.Entries += uint64(len(w.Entries))
	}
	return nil
}

// apply does one write and notes how to take it back.
func (m *Model) apply(w *store.Write, undo *[]func()) error {
	if m.tenants[w.Tenant] == nil {
		*undo = append(*undo, func() { delete(m.tenants, w.Tenant) })
	}
	mt := m.makeTenant(w.Tenant)
	old := m.change
	*undo = append(*undo, func() { m.change = old })
	if w.Conv != nil || len(w.Members) > 0 {
		m.change++
	}
	if w.Conv == nil && len(w.Entries) > 0 {
		return internal("entries without their conversation")
	}
	if w.Conv != nil {
		if err := m.applyConv(mt, w, undo); err != nil {
			return err
		}
	}
	for i := range w.Members {
		w.Members[i].Change = m.change
		mem := w.Members[i]
		mc := mt.convs[mem.Conv]
		if mc == nil {
			return store.ErrStale
		}
		before, had := mc.members[mem.User]
		mc.members[mem.User] = mem
		*undo = append(*undo, func() { restore(mc.members, mem.User, before, had) })
	}
	if w.Key != nil {
		k := modelKey{w.Key.User, w.Key.Key}
		before, had := mt.keys[k]
		mt.keys[k] = *w.Key
		*undo = append(*undo, func() { restore(mt.keys, k, before, had) })
	}
	return nil
}

func restore[K comparable, V any](to map[K]V, k K, v V, had bool) {
	if had {
		to[k] = v
	} else {
		delete(to, k)
	}
}

func (m *Model) applyConv(mt *modelTenant, w *store.Write, undo *[]func()) error {
	c := w.Conv
	mc := mt.convs[c.ID]
	switch {
	case w.Create && mc != nil:
		return im.E(im.Exists, "the conversation exists already")
	case w.Create && w.PrevHead != 0:
		return internal("a new conversation with head %d", w.PrevHead)
	case !w.Create && (mc == nil || mc.rec.Head != w.PrevHead):
		return store.ErrStale
	case uint64(c.Head) != uint64(w.PrevHead)+uint64(len(w.Entries)):
		return internal("head %d after %d and %d entries", c.Head, w.PrevHead, len(w.Entries))
	}
	if w.Create {
		if c.Kind == im.KindDirect && mt.direct(c.Peers[0], c.Peers[1]) != nil {
			return im.E(im.Exists, "the direct conversation exists already")
		}
		mc = &modelConv{members: map[im.UserID]im.Member{}}
		mt.convs[c.ID] = mc
		*undo = append(*undo, func() { delete(mt.convs, c.ID) })
	}
	before, n := mc.rec, len(mc.log)
	*undo = append(*undo, func() { mc.rec, mc.log = before, mc.log[:n] })
	c.Change, c.Tenant = m.change, w.Tenant
	mc.rec = *c
	for i := range w.Entries {
		e := &w.Entries[i]
		if e.Seq != w.PrevHead+im.Seq(i)+1 || e.Conv != c.ID {
			return internal("entry %s/%d out of place", e.Conv, e.Seq)
		}
		if err := mc.add(e, undo); err != nil {
			return err
		}
	}
	return nil
}

// add appends e and works what it makes of its target.
func (mc *modelConv) add(e *im.Entry, undo *[]func()) error {
	me := &modelEntry{entry: *e}
	me.entry.Mentions = slices.Clone(e.Mentions)
	mc.log = append(mc.log, me)
	switch e.Kind {
	case im.EntryEdit, im.EntryRecall, im.EntryReaction, im.EntryPin:
	default:
		return nil
	}
	if e.Target == 0 || e.Target >= e.Seq || mc.log[e.Target-1].entry.Kind != im.EntryMessage {
		return internal("target %d of entry %d is no message", e.Target, e.Seq)
	}
	was := mc.log[e.Target-1]
	t := was.clone()
	mc.log[e.Target-1] = t
	*undo = append(*undo, func() { mc.log[e.Target-1] = was })
	switch e.Kind {
	case im.EntryEdit:
		if t.state.Recalled {
			me.entry.Text, me.hidden = "", true
			break
		}
		t.state.Text, t.state.Edited = e.Text, e.Time
		t.edits = append(t.edits, e.Seq)
	case im.EntryRecall:
		if t.state.Recalled {
			break
		}
		if t.state.Pinned != 0 {
			t.pin = store.Standing{Seq: e.Seq, Time: e.Time}
		}
		if e.Keep {
			kept := t.seenBy("")
			kept.Recalled, kept.Pinned = true, 0
			t.kept = &kept
		}
		t.state.Recalled, t.state.Text, t.state.Pinned = true, "", 0
		t.entry.Text = ""
		for _, s := range t.edits {
			edit := mc.log[s-1]
			hidden := edit.clone()
			hidden.entry.Text, hidden.hidden = "", true
			mc.log[s-1] = hidden
			*undo = append(*undo, func() { mc.log[s-1] = edit })
		}
	case im.EntryReaction:
		t.react(e)
	case im.EntryPin:
		if t.state.Recalled || e.On == t.pin.On {
			break // nothing changes: what is in force stays in force
		}
		t.pin = store.Standing{Seq: e.Seq, Time: e.Time, On: e.On}
		t.state.Pinned = 0
		if e.On {
			t.state.Pinned = e.Seq
		}
	}
	return nil
}

func (me *modelEntry) react(e *im.Entry) {
	k := modelReaction{e.By, e.Emoji}
	if me.reactions[k].On == e.On {
		return
	}
	if me.reactions == nil {
		me.reactions = map[modelReaction]store.Standing{}
	}
	me.reactions[k] = store.Standing{Seq: e.Seq, Time: e.Time, On: e.On}
	rs := me.state.Reactions
	i := slices.IndexFunc(rs, func(r im.Reaction) bool { return r.Emoji == e.Emoji })
	switch {
	case e.On && i < 0:
		rs = append(rs, im.Reaction{Emoji: e.Emoji, Count: 1})
	case e.On:
		rs[i].Count++
	case rs[i].Count == 1:
		rs = slices.Delete(rs, i, i+1)
	default:
		rs[i].Count--
	}
	if len(rs) == 0 {
		rs = nil
	}
	me.state.Reactions = rs
}

func (me *modelEntry) clone() *modelEntry {
	c := *me
	c.entry.Mentions = slices.Clone(me.entry.Mentions)
	c.edits = slices.Clone(me.edits)
	c.state.Reactions = slices.Clone(me.state.Reactions)
	c.reactions = make(map[modelReaction]store.Standing, len(me.reactions))
	for k, v := range me.reactions {
		c.reactions[k] = v
	}
	return &c
}

// seenBy returns the entry as reader sees it, sharing no memory with me.
func (me *modelEntry) seenBy(reader im.UserID) im.Message {
	c := me.clone()
	msg := im.Message{Entry: c.entry, State: c.state, Hidden: c.hidden}
	if msg.By != reader {
		msg.Key = ""
	}
	for i := range msg.Reactions {
		r := &msg.Reactions[i]
		r.Mine = c.reactions[modelReaction{reader, r.Emoji}].On
	}
	return msg
}

// conv returns one conversation or im.NotFound.
func (m *Model) conv(t im.TenantID, c im.ConvID) (*modelConv, error) {
	if mc := m.tenant(t).convs[c]; mc != nil {
		return mc, nil
	}
	return nil, notFound("conversation", c)
}

func (mc *modelConv) span(from, to im.Seq) []*modelEntry {
	from, to = max(from, 1), min(to, im.Seq(len(mc.log)))
	if from > to {
		return nil
	}
	return mc.log[from-1 : to]
}

// Page implements store.Log.
func (m *Model) Page(ctx context.Context, t im.TenantID, c im.ConvID, reader im.UserID, from, to im.Seq) (im.Page, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return im.Page{}, err
	}
	defer unlock()
	mc, err := m.conv(t, c)
	if err != nil {
		return im.Page{}, err
	}
	p := im.Page{Head: mc.rec.Head}
	for _, me := range mc.span(from, to) {
		p.Entries = append(p.Entries, me.seenBy(reader))
	}
	return p, nil
}

// Scan implements store.Log.
func (m *Model) Scan(ctx context.Context, t im.TenantID, c im.ConvID, from, to im.Seq, fn func(*store.Digest) bool) error {
	unlock, err := m.read(ctx)
	if err != nil {
		return err
	}
	mc, err := m.conv(t, c)
	if err != nil {
		unlock()
		return err
	}
	span := slices.Clone(mc.span(from, to))
	unlock() // fn may call the store
	for _, me := range span {
		d := store.Digest{
			Seq: me.entry.Seq, Kind: me.entry.Kind, By: me.entry.By, Target: me.entry.Target,
			Recalled: me.state.Recalled, Mentions: slices.Clone(me.entry.Mentions),
		}
		if !fn(&d) {
			break
		}
	}
	return nil
}

// Kept implements store.Log.
func (m *Model) Kept(ctx context.Context, t im.TenantID, c im.ConvID, seq im.Seq) (im.Message, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return im.Message{}, err
	}
	defer unlock()
	me, err := m.target(t, c, seq)
	if err != nil {
		return im.Message{}, err
	}
	if me.kept == nil {
		return im.Message{}, im.E(im.NotFound, "nothing was kept of it")
	}
	kept := me.clone().seenBy("")
	kept.Entry.Text, kept.State.Text = me.kept.Entry.Text, me.kept.State.Text
	return kept, nil
}

// Pins implements store.Log.
func (m *Model) Pins(ctx context.Context, t im.TenantID, c im.ConvID, reader im.UserID, limit int) ([]im.Message, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	mc, err := m.conv(t, c)
	if err != nil {
		return nil, err
	}
	var pins []im.Message
	for _, me := range mc.log {
		if me.state.Pinned != 0 {
			pins = append(pins, me.seenBy(reader))
		}
	}
	slices.SortFunc(pins, func(a, b im.Message) int { return cmp.Compare(b.Pinned, a.Pinned) })
	return pins[:min(len(pins), max(limit, 0))], nil
}

func (m *Model) target(t im.TenantID, c im.ConvID, target im.Seq) (*modelEntry, error) {
	mc, err := m.conv(t, c)
	if err != nil {
		return nil, err
	}
	if target == 0 || target > mc.rec.Head || mc.log[target-1].entry.Kind != im.EntryMessage {
		return nil, notFound("message", target)
	}
	return mc.log[target-1], nil
}

// Reaction implements store.Log.
func (m *Model) Reaction(ctx context.Context, t im.TenantID, c im.ConvID, target im.Seq, by im.UserID, emoji string) (store.Standing, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return store.Standing{}, err
	}
	defer unlock()
	me, err := m.target(t, c, target)
	if err != nil {
		return store.Standing{}, err
	}
	return me.reactions[modelReaction{by, emoji}], nil
}

// Pin implements store.Log.
func (m *Model) Pin(ctx context.Context, t im.TenantID, c im.ConvID, target im.Seq) (store.Standing, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return store.Standing{}, err
	}
	defer unlock()
	me, err := m.target(t, c, target)
	if err != nil {
		return store.Standing{}, err
	}
	return me.pin, nil
}

// Key implements store.Log.
func (m *Model) Key(ctx context.Context, t im.TenantID, u im.UserID, key string) (store.Key, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return store.Key{}, err
	}
	defer unlock()
	k, ok := m.tenant(t).keys[modelKey{u, key}]
	if !ok {
		return store.Key{}, notFound("key", key)
	}
	return k, nil
}

// Close implements store.Store.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errors.New("model: closed twice")
	}
	m.closed = true
	return nil
}
