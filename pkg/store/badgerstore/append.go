package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// bigWrite is how many entries and members make a Write begin a transaction of
// its own, so that it finds all the room of one.
const bigWrite = 50

// Append implements store.Log. A Write of some thousands of entries or members
// is im.TooLarge (stated in DESIGN.md). A batch whose records exceed what one badger
// transaction may hold (some 0.6 MB) is split between its Writes: still one
// flush, and nothing of it visible before all is durable, but a power cut in
// the middle may leave its first Writes, each whole and none acknowledged.
func (s *Store) Append(ctx context.Context, batch []*store.Write) error {
	if len(batch) == 0 {
		return nil
	}
	return s.submit(ctx, &job{writes: len(batch), run: func(t *tx) error {
		for _, w := range batch {
			if t.full() || len(w.Entries)+len(w.Members) > bigWrite {
				t.cut()
			}
			if err := t.write(w); err != nil {
				return err
			}
			if err := t.fits(); err != nil {
				return err
			}
		}
		return nil
	}})
}

func broken(format string, args ...any) error {
	return &im.Error{Kind: im.Internal, Op: "store append", Cause: fmt.Errorf(format, args...)}
}

// write works one Write out.
func (t *tx) write(w *store.Write) error {
	sp, err := t.space(w.Tenant)
	if err != nil {
		return err
	}
	if w.Conv != nil || len(w.Members) > 0 {
		t.change++
		t.drew = true
	}
	switch {
	case w.Conv != nil:
		err = t.writeConv(sp, w)
	case len(w.Entries) > 0:
		err = broken("entries without their conversation")
	}
	if err != nil {
		return err
	}
	for i := range w.Members {
		m := &w.Members[i]
		m.Change = t.change
		if err := t.writeMember(sp, m); err != nil {
			return err
		}
	}
	if w.Key != nil {
		k := keyRecord{Key: *w.Key, ageHours: uint64(t.s.Age().Hours())}
		t.put(sp.idemKey(w.Key.User, w.Key.Key), k.encode())
	}
	return nil
}

func (t *tx) writeMember(sp space, m *im.Member) error {
	if ok, err := t.has(sp.conv(m.Conv)); err != nil || !ok {
		return errors.Join(err, staleIf(err == nil))
	}
	k := sp.member(m.Conv, m.User)
	had, err := t.has(k)
	if err != nil {
		return err
	}
	if !had {
		t.put(sp.ofUser(m.User, m.Conv), begin(0))
		if err := errors.Join(t.grow(sp, sp.members(m.Conv), 1), t.grow(sp, sp.ofUsers(m.User), 1)); err != nil {
			return err
		}
	}
	t.put(k, encodeMember(m))
	return nil
}

func staleIf(stale bool) error {
	if stale {
		return store.ErrStale
	}
	return nil
}

func (t *tx) writeConv(sp space, w *store.Write) error {
	c := w.Conv
	k := sp.conv(c.ID)
	var old im.Conversation
	err := t.get(k, func(p []byte) (err error) {
		old, err = decodeConv(w.Tenant, c.ID, p)
		return err
	})
	absent := errors.Is(err, errAbsent)
	switch {
	case err != nil && !absent:
		return err
	case w.Create && !absent:
		return im.E(im.Exists, "the conversation exists already")
	case w.Create && w.PrevHead != 0:
		return broken("a new conversation with head %d", w.PrevHead)
	case !w.Create && (absent || old.Head != w.PrevHead):
		return store.ErrStale
	case uint64(c.Head) != uint64(w.PrevHead)+uint64(len(w.Entries)):
		return broken("head %d after %d and %d entries", c.Head, w.PrevHead, len(w.Entries))
	case !w.Create && (old.Kind != c.Kind || old.Peers != c.Peers):
		return broken("kind or peers of a conversation cannot change")
	}
	if w.Create {
		if err := t.createConv(sp, c); err != nil {
			return err
		}
	}
	c.Change, c.Tenant = t.change, w.Tenant
	t.put(k, encodeConv(c))
	for i := range w.Entries {
		e := &w.Entries[i]
		if e.Seq != w.PrevHead+im.Seq(i)+1 || e.Conv != c.ID {
			return broken("entry %s/%d out of place", e.Conv, e.Seq)
		}
		if err := t.writeEntry(sp, e); err != nil {
			return err
		}
	}
	t.entries += len(w.Entries)
	return nil
}

// createConv writes what leads to a new conversation.
func (t *tx) createConv(sp space, c *im.Conversation) error {
	switch c.Kind {
	case im.KindDirect:
		k := sp.direct(c.Peers[0], c.Peers[1])
		if had, err := t.has(k); err != nil {
			return err
		} else if had {
			return im.E(im.Exists, "the direct conversation exists already")
		}
		t.put(k, encodeText(string(c.ID)))
	case im.KindChannel:
		t.put(sp.channel(c.ID), begin(0))
		if err := t.grow(sp, sp.all(kindChannel), 1); err != nil {
			return err
		}
	}
	return t.grow(sp, sp.all(kindConv), 1)
}

// record reads one entry's record.
func (t *tx) record(sp space, c im.ConvID, q im.Seq) (m record, err error) {
	err = t.get(sp.entry(c, q), func(p []byte) error { return m.decode(c, q, p) })
	return m, err
}

func (t *tx) putRecord(sp space, m *record) { t.put(sp.entry(m.Conv, m.Seq), m.encode()) }

// writeEntry writes one entry and works what it makes of its target.
func (t *tx) writeEntry(sp space, e *im.Entry) error {
	m := record{Message: im.Message{Entry: *e}}
	switch e.Kind {
	case im.EntryMessage, im.EntryMember, im.EntryMeta:
		t.putRecord(sp, &m)
		return nil
	case im.EntryEdit, im.EntryRecall, im.EntryReaction, im.EntryPin:
	default:
		return broken("entry %d has no kind", e.Seq)
	}
	target, err := t.record(sp, e.Conv, e.Target)
	switch {
	case errors.Is(err, errAbsent) || err == nil && (target.Kind != im.EntryMessage || e.Target >= e.Seq):
		return broken("target %d of entry %d is no message", e.Target, e.Seq)
	case err != nil:
		return err
	}
	changed := true
	switch e.Kind {
	case im.EntryEdit:
		if changed = !target.Recalled; !changed {
			m.Entry.Text, m.Hidden = "", true
			break
		}
		m.edit, target.edit = target.edit, e.Seq
		target.State.Text, target.Edited = e.Text, e.Time
	case im.EntryRecall:
		if changed = !target.Recalled; changed {
			err = t.recall(sp, &target, e)
		}
	case im.EntryReaction:
		changed, err = t.react(sp, &target, e)
	case im.EntryPin:
		// What is so already stays in force; nothing is pinned once recalled.
		if changed = !target.Recalled && e.On != target.pin.On; changed {
			t.pinned(sp, &target, e)
		}
	}
	if err != nil {
		return err
	}
	t.putRecord(sp, &m)
	if changed {
		t.putRecord(sp, &target)
	}
	return nil
}

func (t *tx) pinned(sp space, target *record, e *im.Entry) {
	if target.Pinned != 0 {
		t.del(sp.pin(e.Conv, target.Pinned))
	}
	target.pin = store.Standing{Seq: e.Seq, Time: e.Time, On: e.On}
	target.Pinned = 0
	if e.On {
		target.Pinned = e.Seq
		t.put(sp.pin(e.Conv, e.Seq), encodeUint(uint64(target.Seq)))
	}
}

// recall marks a message and every edit of it, and wipes their text: what nobody
// may read is not kept either (PROTOCOL 5.4), unless the recall says so; then
// see leaves it out. If there are more edits than one
// badger transaction may hold, they are wiped in transactions before that of
// the recall; a cut between them leaves edits without text of a message that is
// not recalled, and nobody was told that it is.
func (t *tx) recall(sp space, target *record, e *im.Entry) error {
	target.Recalled = true
	if !e.Keep {
		target.Entry.Text, target.State.Text = "", ""
	}
	if target.Pinned != 0 {
		t.pinned(sp, target, &im.Entry{Conv: e.Conv, Seq: e.Seq, Time: e.Time})
	}
	for q := target.edit; q != 0; {
		edit, err := t.record(sp, e.Conv, q)
		if errors.Is(err, errAbsent) || err == nil && (edit.Kind != im.EntryEdit || edit.edit >= q) {
			err = t.s.damaged(sp.entry(e.Conv, q).b, errors.New("an edit is missing"))
		}
		if err != nil {
			return err
		}
		edit.Hidden = true
		if !e.Keep {
			edit.Entry.Text = ""
		}
		t.putRecord(sp, &edit)
		t.wipes = append(t.wipes, string(sp.entry(e.Conv, q).b))
		q = edit.edit
	}
	return nil
}

// maxEmojis bounds the different emojis on one message, whose record they are
// in.
const maxEmojis = 1000

// react counts a reaction and keeps what is in force of it.
func (t *tx) react(sp space, target *record, e *im.Entry) (changed bool, err error) {
	k := sp.reaction(e.Conv, e.Target, e.By, e.Emoji)
	st, err := t.standing(k)
	if err != nil || st.On == e.On {
		return false, err
	}
	v := putStanding(begin(16), store.Standing{Seq: e.Seq, Time: e.Time, On: e.On})
	t.put(k, v)
	rs := target.Reactions
	i := slices.IndexFunc(rs, func(r im.Reaction) bool { return r.Emoji == e.Emoji })
	switch {
	case e.On && i < 0 && len(rs) >= maxEmojis:
		return false, &im.Error{Kind: im.TooLarge, Message: "the message has too many different reactions", Limit: maxEmojis}
	case e.On && i < 0:
		rs = append(rs, im.Reaction{Emoji: e.Emoji, Count: 1})
	case e.On:
		rs[i].Count++
	case i < 0:
		return false, t.s.damaged(k.b, errors.New("a reaction that was not counted"))
	case rs[i].Count == 1:
		rs = slices.Delete(rs, i, i+1)
	default:
		rs[i].Count--
	}
	target.Reactions = rs
	return true, nil
}

func (t *tx) standing(k key) (st store.Standing, err error) {
	err = t.get(k, func(p []byte) (err error) {
		st, err = decodeStanding(p)
		return err
	})
	if errors.Is(err, errAbsent) {
		err = nil
	}
	return st, err
}

func decodeStanding(p []byte) (store.Standing, error) {
	r := reader{b: p}
	st := r.standing()
	return st, r.end()
}
