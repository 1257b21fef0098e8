package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// in begins a snapshot in one tenant.
func (s *Store) in(ctx context.Context, t im.TenantID) (*snap, space, error) {
	r, err := s.read(ctx)
	if err != nil {
		return nil, space{}, err
	}
	sp, ok := s.spaces.find(t)
	if !ok {
		r.end()
		return nil, space{}, errAbsent
	}
	return r, sp, nil
}

// conv reads one conversation's record; errAbsent if there is none.
func (r *snap) conv(t im.TenantID, sp space, c im.ConvID) (conv im.Conversation, err error) {
	err = r.get(sp.conv(c), func(p []byte) (err error) {
		conv, err = decodeConv(t, c, p)
		return err
	})
	return conv, err
}

// run calls fn for each entry from ≤ seq ≤ to of a log in order. A hole is
// damage.
func (r *snap) run(sp space, c im.ConvID, from, to im.Seq, fn func(m *record) error) (err error) {
	if from > to {
		return nil
	}
	log := sp.log(c)
	defer r.s.caught(log.b, debug.SetPanicOnFault(true), &err)
	it := r.txn.NewIterator(badger.IteratorOptions{PrefetchValues: false, Prefix: log.b})
	defer it.Close()
	var m record
	q := from
	for it.Seek(sp.entry(c, from).b); q <= to && it.ValidForPrefix(log.b); it.Next() {
		item := it.Item()
		k := item.Key()
		at, rest, err := cutSeq(k[len(log.b):])
		if err != nil || len(rest) > 0 {
			return r.s.damaged(k, errKey)
		}
		if at != q {
			break
		}
		err = r.s.open(item, k, func(p []byte) error { return m.decode(c, q, p) })
		if err != nil {
			return err
		}
		if err := fn(&m); err != nil {
			if errors.Is(err, errStop) {
				return nil
			}
			return err
		}
		q++
	}
	if q <= to {
		return r.s.damaged(sp.entry(c, q).b, errors.New("the entry is missing"))
	}
	return nil
}

// see turns a record into what reader sees.
func (r *snap) see(sp space, m *record, reader im.UserID) (im.Message, error) {
	if m.By != reader {
		m.Key = ""
	}
	if m.Recalled || m.Hidden { // it may have been kept (recall)
		m.Entry.Text, m.State.Text = "", ""
	}
	for i := range m.Reactions {
		st, err := r.standing(sp.reaction(m.Conv, m.Seq, reader, m.Reactions[i].Emoji))
		if err != nil {
			return im.Message{}, err
		}
		m.Reactions[i].Mine = st.On
	}
	return m.Message, nil
}

func (r *snap) standing(k key) (st store.Standing, err error) {
	err = r.get(k, func(p []byte) (err error) {
		st, err = decodeStanding(p)
		return err
	})
	if errors.Is(err, errAbsent) {
		err = nil
	}
	return st, err
}

// Page implements store.Log.
func (s *Store) Page(ctx context.Context, t im.TenantID, c im.ConvID, reader im.UserID, from, to im.Seq) (im.Page, error) {
	r, sp, err := s.in(ctx, t)
	if err != nil {
		return im.Page{}, orNotFound(err, "conversation")
	}
	defer r.end()
	conv, err := r.conv(t, sp, c)
	if err != nil {
		return im.Page{}, orNotFound(err, "conversation")
	}
	from, to = max(from, 1), min(to, conv.Head)
	page := im.Page{Head: conv.Head}
	if from > to {
		return page, nil
	}
	page.Entries = make([]im.Message, 0, min(to-from+1, im.MaxHistoryPage))
	err = r.run(sp, c, from, to, func(m *record) error {
		seen, err := r.see(sp, m, reader)
		page.Entries = append(page.Entries, seen)
		return err
	})
	if err != nil {
		return im.Page{}, err
	}
	return page, nil
}

// Scan implements store.Log.
func (s *Store) Scan(ctx context.Context, t im.TenantID, c im.ConvID, from, to im.Seq, fn func(*store.Digest) bool) error {
	r, sp, err := s.in(ctx, t)
	if err != nil {
		return orNotFound(err, "conversation")
	}
	defer r.end()
	conv, err := r.conv(t, sp, c)
	if err != nil {
		return orNotFound(err, "conversation")
	}
	var d store.Digest
	return r.run(sp, c, max(from, 1), min(to, conv.Head), func(m *record) error {
		d = store.Digest{Seq: m.Seq, Kind: m.Kind, By: m.By, Target: m.Target, Recalled: m.Recalled, Mentions: m.Mentions}
		if !fn(&d) {
			return errStop
		}
		return nil
	})
}

// one reads one message; im.NotFound if there is none at that seq.
func (s *Store) one(ctx context.Context, t im.TenantID, c im.ConvID, q im.Seq, fn func(r *snap, sp space, m *record) error) error {
	r, sp, err := s.in(ctx, t)
	if err != nil {
		return orNotFound(err, "conversation")
	}
	defer r.end()
	conv, err := r.conv(t, sp, c)
	if err != nil {
		return orNotFound(err, "conversation")
	}
	if q == 0 || q > conv.Head {
		return notFound("message")
	}
	m, err := r.message(sp, c, q)
	if err != nil {
		return err
	}
	if m.Kind != im.EntryMessage {
		return notFound("message")
	}
	return fn(r, sp, m)
}

// message reads the record of an entry that must be there.
func (r *snap) message(sp space, c im.ConvID, q im.Seq) (*record, error) {
	m := new(record)
	k := sp.entry(c, q)
	err := r.get(k, func(p []byte) error { return m.decode(c, q, p) })
	if errors.Is(err, errAbsent) {
		err = r.s.damaged(k.b, errors.New("the entry is missing"))
	}
	return m, err
}

// Kept implements store.Log.
func (s *Store) Kept(ctx context.Context, t im.TenantID, c im.ConvID, q im.Seq) (m im.Message, err error) {
	err = s.one(ctx, t, c, q, func(_ *snap, _ space, r *record) error {
		if !r.Recalled || r.Entry.Text == "" {
			return notFound("kept message")
		}
		m = r.Message
		m.Key = ""
		return nil
	})
	return m, err
}

// Pins implements store.Log.
func (s *Store) Pins(ctx context.Context, t im.TenantID, c im.ConvID, reader im.UserID, limit int) ([]im.Message, error) {
	r, sp, err := s.in(ctx, t)
	if err != nil {
		return nil, orNotFound(err, "conversation")
	}
	defer r.end()
	if _, err := r.conv(t, sp, c); err != nil {
		return nil, orNotFound(err, "conversation")
	}
	var pins []im.Message
	prefix := sp.pins(c)
	err = r.each(prefix, prefix, func(k, p []byte) error {
		if len(pins) >= limit {
			return errStop
		}
		q, err := decodeUint(p)
		if err != nil {
			return s.damaged(k, err)
		}
		m, err := r.message(sp, c, im.Seq(q))
		if err != nil {
			return err
		}
		at, err := parse(k)
		if err != nil || m.Pinned != at.seq {
			return s.damaged(k, fmt.Errorf("message %d is not pinned by entry %d", q, at.seq))
		}
		seen, err := r.see(sp, m, reader)
		pins = append(pins, seen)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pins, nil
}

// Reaction implements store.Log.
func (s *Store) Reaction(ctx context.Context, t im.TenantID, c im.ConvID, target im.Seq, by im.UserID, emoji string) (st store.Standing, err error) {
	err = s.one(ctx, t, c, target, func(r *snap, sp space, _ *record) (err error) {
		st, err = r.standing(sp.reaction(c, target, by, emoji))
		return err
	})
	return st, err
}

// Pin implements store.Log.
func (s *Store) Pin(ctx context.Context, t im.TenantID, c im.ConvID, target im.Seq) (st store.Standing, err error) {
	err = s.one(ctx, t, c, target, func(_ *snap, _ space, m *record) error {
		st = m.pin
		return nil
	})
	return st, err
}

// Key implements store.Log.
func (s *Store) Key(ctx context.Context, t im.TenantID, u im.UserID, k string) (store.Key, error) {
	r, sp, err := s.in(ctx, t)
	if err != nil {
		return store.Key{}, orNotFound(err, "key")
	}
	defer r.end()
	var rec keyRecord
	if err := r.get(sp.idemKey(u, k), rec.decode); err != nil {
		return store.Key{}, orNotFound(err, "key")
	}
	rec.User, rec.Key.Key = u, k
	return rec.Key, nil
}

// Conv implements store.Convs.
func (s *Store) Conv(ctx context.Context, t im.TenantID, c im.ConvID) (im.Conversation, error) {
	r, sp, err := s.in(ctx, t)
	if err != nil {
		return im.Conversation{}, orNotFound(err, "conversation")
	}
	defer r.end()
	conv, err := r.conv(t, sp, c)
	return conv, orNotFound(err, "conversation")
}

// Members implements store.Convs. No such conversation: im.NotFound.
func (s *Store) Members(ctx context.Context, t im.TenantID, c im.ConvID) ([]im.Member, error) {
	r, sp, err := s.in(ctx, t)
	if err != nil {
		return nil, orNotFound(err, "conversation")
	}
	defer r.end()
	if _, err := r.conv(t, sp, c); err != nil {
		return nil, orNotFound(err, "conversation")
	}
	var ms []im.Member
	err = r.list(sp, sp.members(c), func(k, p []byte) error {
		at, err := parse(k)
		if err != nil {
			return s.damaged(k, err)
		}
		m, err := decodeMember(c, at.user, p)
		if err != nil {
			return s.damaged(k, err)
		}
		ms = append(ms, m)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(ms, func(a, b im.Member) int { return strings.Compare(string(a.User), string(b.User)) })
	return ms, nil
}

// OfUser implements store.Convs; in order of conversation id.
func (s *Store) OfUser(ctx context.Context, t im.TenantID, u im.UserID) ([]im.Member, error) {
	r, sp, err := s.in(ctx, t)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.end()
	var ms []im.Member
	err = r.list(sp, sp.ofUsers(u), func(k, _ []byte) error {
		at, err := parse(k)
		if err != nil {
			return s.damaged(k, err)
		}
		var m im.Member
		mk := sp.member(at.conv, u)
		err = r.get(mk, func(p []byte) (err error) {
			m, err = decodeMember(at.conv, u, p)
			return err
		})
		if errors.Is(err, errAbsent) {
			err = s.damaged(mk.b, errors.New("the member record is missing"))
		}
		ms = append(ms, m)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(ms, func(a, b im.Member) int { return strings.Compare(string(a.Conv), string(b.Conv)) })
	return ms, nil
}

// Direct implements store.Convs.
func (s *Store) Direct(ctx context.Context, t im.TenantID, a, b im.UserID) (c im.ConvID, err error) {
	r, sp, err := s.in(ctx, t)
	if err != nil {
		return "", orNotFound(err, "direct conversation")
	}
	defer r.end()
	err = r.get(sp.direct(a, b), func(p []byte) error {
		c = im.ConvID(p)
		return nil
	})
	return c, orNotFound(err, "direct conversation")
}

// Channels implements store.Convs; in order of conversation id.
func (s *Store) Channels(ctx context.Context, t im.TenantID) ([]im.Conversation, error) {
	r, sp, err := s.in(ctx, t)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.end()
	var cs []im.Conversation
	err = r.list(sp, sp.all(kindChannel), func(k, _ []byte) error {
		at, err := parse(k)
		if err != nil {
			return s.damaged(k, err)
		}
		c, err := r.conv(t, sp, at.conv)
		if errors.Is(err, errAbsent) {
			err = s.damaged(sp.conv(at.conv).b, errors.New("the conversation is missing"))
		}
		cs = append(cs, c)
		return err
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(cs, func(a, b im.Conversation) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return cs, nil
}

// Usage implements store.Convs. Keys alone are read: sizes stand beside them.
func (s *Store) Usage(ctx context.Context, t im.TenantID) (u store.Usage, err error) {
	r, sp, err := s.in(ctx, t)
	if errors.Is(err, errAbsent) {
		return u, nil
	}
	if err != nil {
		return u, err
	}
	defer r.end()
	it := r.txn.NewIterator(badger.IteratorOptions{PrefetchValues: false, Prefix: sp.prefix()})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		u.Bytes += item.EstimatedSize()
		if kind(item.Key()[spaceBytes]) == kindConv {
			u.Conversations++
		}
	}
	return u, nil
}

// LastChange implements store.Convs.
func (s *Store) LastChange() im.Change { return im.Change(s.change.Load()) }
