package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// testHistories runs random histories on a back end and on a Model and compares
// what they answer and, after each reopen and at the end, everything they hold.
func testHistories(t *testing.T, open func(t *testing.T) *Backend) {
	rapid.Check(t, func(rt *rapid.T) {
		b := open(t)
		h := &history{rt: rt, t: t, ctx: context.Background(), b: b, real: b.Store, model: NewModel(time.Now)}
		steps := rapid.IntRange(1, 60).Draw(rt, "steps")
		for range steps {
			h.step()
		}
		h.compare()
		h.real = b.Reopen(t)
		h.compare()
		rep, err := h.real.Verify(h.ctx, nil)
		if err != nil || rep.Damaged != 0 {
			rt.Fatalf("verify: %v %+v", err, rep.Damages)
		}
		if err := h.real.Close(); err != nil {
			rt.Fatalf("close: %v", err)
		}
	})
}

type history struct {
	rt    *rapid.T
	t     *testing.T
	ctx   context.Context
	b     *Backend
	real  store.Store
	model *Model
	time  im.Millis
}

var (
	historyTenants = []im.TenantID{oak, elm}
	historyConvs   = []im.ConvID{"c_0000000000000001", "c_0000000000000002", "c_three"}
	historyUsers   = []im.UserID{ann, bob, cyd}
	historyEmojis  = []string{"a", "b", "\U0001F44D"}
)

func (h *history) step() {
	switch rapid.IntRange(0, 19).Draw(h.rt, "step") {
	case 0:
		h.real = h.b.Reopen(h.t)
		h.compare()
	case 1:
		h.signIn()
	case 2:
		h.record()
	case 3, 4:
		h.user()
	case 5:
		if rapid.IntRange(0, 4).Draw(h.rt, "erase") == 0 {
			t := rapid.SampledFrom(historyTenants).Draw(h.rt, "tenant")
			h.both("erase", func(s store.Store) error { return s.EraseTenant(h.ctx, t) })
		}
	default:
		h.append()
	}
}

// both does the same on both and compares the errors.
func (h *history) both(what string, do func(store.Store) error) {
	h.rt.Helper()
	got, want := do(h.real), do(h.model)
	same := (got == nil) == (want == nil) && im.KindOf(got) == im.KindOf(want) && errors.Is(got, store.ErrStale) == errors.Is(want, store.ErrStale)
	if !same {
		h.rt.Fatalf("%s: got %v, the model %v", what, got, want)
	}
}

func (h *history) signIn() {
	t := rapid.SampledFrom(historyTenants).Draw(h.rt, "tenant")
	u := rapid.SampledFrom(historyUsers).Draw(h.rt, "user")
	n := byte(rapid.IntRange(0, 5).Draw(h.rt, "token"))
	if rapid.Bool().Draw(h.rt, "delete") {
		h.both("delete", func(s store.Store) error {
			_, err := s.DeleteSignIns(h.ctx, t, u, func(s store.SignIn) bool { return s.Hash[0] == n })
			return err
		})
		return
	}
	in := store.SignIn{ID: "i_1", Tenant: t, User: u, Hash: [32]byte{n}, Lifetime: time.Hour}
	h.both("sign in", func(s store.Store) error { return s.PutSignIn(h.ctx, in) })
}

// record puts or deletes a record of a tenant, which may not be there, or of the
// box, and lists in the middle of it.
func (h *history) record() {
	t := rapid.SampledFrom([]im.TenantID{oak, elm, ""}).Draw(h.rt, "tenant")
	k := store.RecordKind(rapid.IntRange(1, 2).Draw(h.rt, "kind"))
	id, del := rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(h.rt, "id"), rapid.Bool().Draw(h.rt, "delete")
	var seen [2]string
	n := 0
	h.both("record", func(s store.Store) error {
		return s.UpdateRecords(h.ctx, t, func(x store.RecordTx) error {
			if del {
				x.Delete(k, id)
			} else {
				x.Put(k, id, []byte(fmt.Sprint(h.time)))
			}
			rs, err := x.List(k, "a", "", 5)
			seen[n] = ids(rs)
			n++
			return err
		})
	})
	if seen[0] != seen[1] {
		h.rt.Fatalf("listed %q, the model %q", seen[0], seen[1])
	}
}

func (h *history) user() {
	t := rapid.SampledFrom(historyTenants).Draw(h.rt, "tenant")
	u := rapid.SampledFrom(historyUsers).Draw(h.rt, "user")
	name := rapid.SampledFrom([]string{"ann", "bob"}).Draw(h.rt, "name")
	h.both("user", func(s store.Store) error {
		return s.UpdateUser(h.ctx, t, u, func(old *im.User) (*im.User, error) {
			return &im.User{Tenant: t, ID: u, Username: name}, nil
		})
	})
}

// append draws a batch. Most of it is sound; some is stale or meets what
// exists.
func (h *history) append() {
	var batch []*store.Write
	heads := map[string]im.Conversation{}
	for range rapid.IntRange(1, 3).Draw(h.rt, "writes") {
		batch = append(batch, h.write(heads))
	}
	h.both("append", func(s store.Store) error {
		own := make([]*store.Write, len(batch)) // Append writes into what it is given
		for i, w := range batch {
			c := *w
			if w.Conv != nil {
				conv := *w.Conv
				c.Conv = &conv
			}
			c.Members = append([]im.Member(nil), w.Members...)
			own[i] = &c
		}
		return s.Append(h.ctx, own)
	})
}

func (h *history) write(heads map[string]im.Conversation) *store.Write {
	rt := h.rt
	t := rapid.SampledFrom(historyTenants).Draw(rt, "tenant")
	c := rapid.SampledFrom(historyConvs).Draw(rt, "conv")
	u := rapid.SampledFrom(historyUsers).Draw(rt, "user")
	h.time++
	w := &store.Write{Tenant: t}
	if rapid.IntRange(0, 3).Draw(rt, "key") == 0 {
		w.Key = &store.Key{User: u, Key: fmt.Sprint(rapid.IntRange(0, 3).Draw(rt, "k")), Conv: c, Time: h.time}
	}
	if rapid.IntRange(0, 3).Draw(rt, "member") == 0 {
		w.Members = []im.Member{{Conv: c, User: u, Role: im.MemberRole(rapid.IntRange(0, 4).Draw(rt, "role")), Joined: h.time}}
	}
	at := string(t) + "/" + string(c)
	conv, known := heads[at]
	if !known {
		old, err := h.model.Conv(h.ctx, t, c)
		known = err == nil
		conv = old
	}
	if known && len(w.Members) > 0 && rapid.Bool().Draw(rt, "members only") {
		return w
	}
	if !known || rapid.IntRange(0, 30).Draw(rt, "create again") == 0 {
		w.Create = true
		conv = im.Conversation{ID: c, Kind: im.KindGroup, Created: h.time, Last: h.time}
		if c == "c_three" {
			conv.Kind = im.KindChannel
		}
	}
	w.PrevHead = conv.Head
	if rapid.IntRange(0, 30).Draw(rt, "stale") == 0 {
		w.PrevHead++
	}
	for range rapid.IntRange(0, 4).Draw(rt, "entries") {
		conv.Head++
		w.Entries = append(w.Entries, h.entry(c, conv.Head, u))
	}
	if conv.Kind != im.KindDirect {
		conv.Archived = rapid.Bool().Draw(rt, "archived")
	}
	if n := len(w.Entries); n > 0 {
		conv.Last = w.Entries[n-1].Time
	}
	w.Conv = &conv
	heads[at] = conv
	return w
}

func (h *history) entry(c im.ConvID, q im.Seq, by im.UserID) im.Entry {
	rt := h.rt
	e := im.Entry{Conv: c, Seq: q, Time: h.time, By: by}
	e.Kind = im.EntryKind(rapid.IntRange(1, 7).Draw(rt, "kind"))
	if e.Kind != im.EntryMessage && q > 1 && rapid.Bool().Draw(rt, "rather a message") || q == 1 {
		e.Kind = im.EntryMessage
	}
	switch e.Kind {
	case im.EntryMessage:
		e.Text = rapid.StringN(1, 20, -1).Draw(rt, "text")
		e.Key = fmt.Sprint("key ", q)
	case im.EntryEdit:
		e.Text = "edit " + rapid.StringN(1, 5, -1).Draw(rt, "text")
	case im.EntryReaction:
		e.Emoji, e.On = rapid.SampledFrom(historyEmojis).Draw(rt, "emoji"), rapid.Bool().Draw(rt, "on")
	case im.EntryPin:
		e.On = rapid.Bool().Draw(rt, "on")
	case im.EntryMember:
		e.User, e.Change, e.Role = by, im.ChangeJoined, im.MemberMember
	case im.EntryMeta:
		e.Title, e.Archive = "title", im.ArchiveChange(rapid.IntRange(0, 2).Draw(rt, "archive"))
	case im.EntryRecall:
		e.Keep = rapid.Bool().Draw(rt, "keep")
	}
	switch e.Kind {
	case im.EntryEdit, im.EntryRecall, im.EntryReaction, im.EntryPin:
		// Often the first message, so that much happens to it.
		e.Target = 1
		if rapid.Bool().Draw(rt, "any target") {
			e.Target = im.Seq(rapid.IntRange(1, int(q)).Draw(rt, "target"))
		}
	}
	return e
}

// compare compares everything that both hold.
func (h *history) compare() {
	h.rt.Helper()
	for _, t := range historyTenants {
		h.look("users", func(s store.Store) (any, error) { return s.Users(h.ctx, t) })
		h.look("channels", func(s store.Store) (any, error) { return s.Channels(h.ctx, t) })
		for _, u := range historyUsers {
			h.look("of user", func(s store.Store) (any, error) { return s.OfUser(h.ctx, t, u) })
			h.look("sign-ins", func(s store.Store) (any, error) { return s.SignIns(h.ctx, t, u) })
			for k := range 4 {
				h.look("key", func(s store.Store) (any, error) { return s.Key(h.ctx, t, u, fmt.Sprint(k)) })
			}
		}
		for _, c := range historyConvs {
			h.look("conv", func(s store.Store) (any, error) { return s.Conv(h.ctx, t, c) })
			h.look("members", func(s store.Store) (any, error) { return s.Members(h.ctx, t, c) })
			h.look("pins", func(s store.Store) (any, error) { return s.Pins(h.ctx, t, c, ann, 100) })
			for _, u := range historyUsers {
				h.look("page", func(s store.Store) (any, error) { return s.Page(h.ctx, t, c, u, 0, 1000) })
				for q := range im.Seq(4) {
					h.look("pin", func(s store.Store) (any, error) { return s.Pin(h.ctx, t, c, q) })
					h.look("kept", func(s store.Store) (any, error) { return s.Kept(h.ctx, t, c, q) })
					h.look("reaction", func(s store.Store) (any, error) { return s.Reaction(h.ctx, t, c, q, u, historyEmojis[0]) })
				}
			}
			h.look("scan", func(s store.Store) (any, error) {
				var ds []store.Digest
				err := s.Scan(h.ctx, t, c, 1, 1000, func(d *store.Digest) bool {
					ds = append(ds, *d)
					return true
				})
				return ds, err
			})
		}
	}
	for _, t := range []im.TenantID{oak, elm, ""} {
		for k := range store.RecordKind(3) {
			h.look("records", func(s store.Store) (any, error) { return s.ListRecords(h.ctx, t, k, "", "", 99) })
		}
	}
	if got, want := h.real.LastChange(), h.model.LastChange(); got != want {
		h.rt.Fatalf("last change %d, the model %d", got, want)
	}
}

func (h *history) look(what string, get func(store.Store) (any, error)) {
	h.rt.Helper()
	got, gotErr := get(h.real)
	want, wantErr := get(h.model)
	if (gotErr == nil) != (wantErr == nil) || im.KindOf(gotErr) != im.KindOf(wantErr) {
		h.rt.Fatalf("%s: got %v, the model %v", what, gotErr, wantErr)
	}
	if !reflect.DeepEqual(got, want) && !bothEmpty(got, want) {
		h.rt.Fatalf("%s:\ngot       %+v\nthe model %+v", what, got, want)
	}
}

// bothEmpty lets a nil slice be an empty one.
func bothEmpty(a, b any) bool {
	av, bv := reflect.ValueOf(a), reflect.ValueOf(b)
	return av.Kind() == reflect.Slice && av.Len() == 0 && bv.Len() == 0
}
