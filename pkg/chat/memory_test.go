package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"pgregory.net/rapid"
)

func TestTailFillsOnlyFromItsOwnHead(t *testing.T) {
	message := func(seq im.Seq) im.Message {
		return im.Message{Entry: im.Entry{Conv: "c_1", Seq: seq, By: "u_ann", Kind: im.EntryMessage, Text: "x"}}
	}
	page := im.Page{Head: 3, Entries: []im.Message{message(1), message(2), message(3)}}
	for _, c := range []struct {
		what       string
		start      im.Seq
		page       im.Page
		from, last im.Seq
	}{
		{"the same head", 3, page, 1, 0},
		{"a page from before the tail's head", 4, page, 5, 0},
		{"a page from after it: its state may hold what the tail will apply again", 2, page, 3, 0},
		{"a page that ends before the tail begins", 3, im.Page{Head: 3, Entries: page.Entries[:2]}, 4, 0},
		{"a page with a hole", 3, im.Page{Head: 3, Entries: []im.Message{message(1), message(3)}}, 4, 0},
		{"an empty page", 3, im.Page{Head: 3}, 4, 0},
	} {
		var tl tail
		tl.start(c.start)
		tl.fill("u_ann", c.page)
		if tl.from != c.from {
			t.Errorf("%s: covers from %d, want %d", c.what, tl.from, c.from)
		}
	}
	var tl tail
	tl.start(4)
	if tl.fillLast("u_ann", im.Page{Head: 3, Entries: page.Entries[2:]}, 3); tl.last != nil {
		t.Error("the newest message was taken from a page with another head")
	}
}

func TestTailBounds(t *testing.T) {
	var tl tail
	tl.start(0)
	seq := im.Seq(0)
	add := func(text string) {
		seq++
		tl.apply(&im.Entry{Conv: "c_1", Seq: seq, By: "u_ann", Kind: im.EntryMessage, Text: text})
	}
	for range 3 * tailLen {
		add("x")
	}
	if n := tl.head - tl.from + 1; n != tailLen {
		t.Errorf("%d entries, want %d", n, tailLen)
	}
	for range tailLen {
		add(strings.Repeat("x", 16<<10))
	}
	if tl.bytes > tailBytes+20<<10 || tl.from > tl.head {
		t.Errorf("%d bytes for %d entries", tl.bytes, tl.head-tl.from+1)
	}
	for range tailLen {
		add("x")
	}
	var sum int64
	for s := tl.from; s <= tl.head; s++ {
		sum += tl.at(s).size()
	}
	if sum != tl.bytes {
		t.Errorf("counts %d bytes, has %d", tl.bytes, sum)
	}
	// More reactions than are kept by name: counted, and left to the store.
	for i := range maxReactors + 1 {
		if _, ok := tl.newest("u_zoe"); !ok {
			t.Fatalf("not served after %d reactions", i)
		}
		tl.apply(&im.Entry{Conv: "c_1", Seq: tl.head + 1, By: im.UserID(fmt.Sprint("u_", i)), Kind: im.EntryReaction, Target: seq, Emoji: "👍", On: true})
	}
	if _, ok := tl.newest("u_zoe"); ok {
		t.Error("served although it is not known whose reactions they are")
	}
	if n := tl.at(seq).Reactions[0].Count; n != maxReactors+1 {
		t.Errorf("%d reactions counted", n)
	}
}

// fillLog appends n messages of ann's, each third naming ben, each fifth
// recalled, straight to the store.
func fillLog(t testing.TB, w *world, id im.ConvID, n int) {
	t.Helper()
	ctx := context.Background()
	rec, err := w.store.Conv(ctx, tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < n; {
		wr := &store.Write{Tenant: tenant, PrevHead: rec.Head}
		for range 1000 {
			i++
			rec.Head++
			e := im.Entry{Conv: id, Seq: rec.Head, Time: rec.Last, By: "u_ann", Kind: im.EntryMessage, Text: "some words of a message"}
			rec.LastMsg = rec.Head
			if i%3 == 0 {
				e.Mentions = []im.UserID{"u_ben"}
			}
			wr.Entries = append(wr.Entries, e)
			if i%5 == 0 {
				rec.Head++
				wr.Entries = append(wr.Entries, im.Entry{Conv: id, Seq: rec.Head, Time: rec.Last, By: "u_ann", Kind: im.EntryRecall, Target: rec.Head - 1})
			}
		}
		c := rec
		wr.Conv = &c
		if err := w.store.Append(ctx, []*store.Write{wr}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFarBehind counts for readers at many places of a long log, within the
// digest, over several chunks of it, and beyond its bound.
func TestFarBehind(t *testing.T) {
	for _, limit := range []int{maxDigest, 4000} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			w := newWorld(t)
			id := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"), w.actor("cid"))
			w.stop()
			fillLog(t, w, id, 20000)
			w.start()
			w.chat.convs.digestLimit = limit
			ctx := context.Background()
			head := im.Seq(24000)
			for _, read := range []im.Seq{1, 1000, 4000, 23988, 24000} {
				h, err := w.chat.Head(ctx, w.actor("cid"), id)
				if err != nil || h.Head != head || h.Unread != 16000 || h.Mentions != 0 {
					t.Fatalf("cid, who read nothing: %+v %v", h, err)
				}
				w.do(&Command{Op: Mark, Actor: w.actor("ben"), Conv: id, Seq: read})
				unread, mentions := 0, 0
				err = w.store.Scan(ctx, tenant, id, read+1, head, func(d *store.Digest) bool {
					if d.Kind == im.EntryMessage && !d.Recalled {
						unread++
						mentions += len(d.Mentions)
					}
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				h, err = w.chat.Head(ctx, w.actor("ben"), id)
				if err != nil || h.Read != read || h.Unread != unread || h.Mentions != mentions {
					t.Errorf("read %d: %d unread, %d mentions, want %d and %d (%v)", read, h.Unread, h.Mentions, unread, mentions, err)
				}
			}
			if limit == maxDigest {
				return
			}
			// The live end goes on, and is cut, within the bound.
			for i := range limit {
				w.send(w.actor("ann"), id, fmt.Sprint(i))
			}
			cv, err := w.chat.convs.get(ctx, convKey{tenant, id})
			if err != nil {
				t.Fatal(err)
			}
			cv.mu.Lock()
			n := len(cv.digest.marks)
			cv.mu.Unlock()
			if n > limit {
				t.Errorf("the digest has %d entries, its bound is %d", n, limit)
			}
			if h, err := w.chat.Head(ctx, w.actor("cid"), id); err != nil || h.Unread != 16000+limit {
				t.Errorf("cid, who read nothing: %d unread, want %d (%v)", h.Unread, 16000+limit, err)
			}
		})
	}
}

// recallDuringScan recalls a message while the digest is being read.
type recallDuringScan struct {
	store.Store
	once func()
}

func (s *recallDuringScan) Scan(ctx context.Context, t im.TenantID, c im.ConvID, from, to im.Seq, fn func(*store.Digest) bool) error {
	err := s.Store.Scan(ctx, t, c, from, to, fn)
	if s.once != nil {
		once := s.once
		s.once = nil
		once()
	}
	return err
}

func TestRecallDuringScan(t *testing.T) {
	scan := &recallDuringScan{}
	w := newWorld(t, func(o *Options) { scan.Store = o.Store.(store.Store); o.Store = scan })
	id := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"))
	for range 3 {
		w.send(w.actor("ann"), id, "x")
	}
	w.stop()
	w.start()
	scan.once = func() {
		w.do(&Command{Op: Recall, Actor: w.actor("ann"), Conv: id, Target: 2, Key: newKey()})
	}
	h, err := w.chat.Head(context.Background(), w.actor("ben"), id)
	if err != nil || h.Unread != 2 {
		t.Errorf("%d unread after a recall that came while they were counted, want 2 (%v)", h.Unread, err)
	}
}

// TestCacheBound works on more conversations than fit.
func TestCacheBound(t *testing.T) { synctest.Test(t, cacheBound) }

func cacheBound(t *testing.T) {
	const bound = 64 << 10
	w := newWorld(t, func(o *Options) { o.CacheBytes = bound })
	var ids []im.ConvID
	for range 100 {
		id := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"))
		ids = append(ids, id)
		w.send(w.actor("ann"), id, "hello")
	}
	check := func(when string) {
		t.Helper()
		time.Sleep(restMost) // readers only ask for an eviction, and the one who does it may rest
		synctest.Wait()
		if s := w.chat.Stats(); s.CacheBytes > bound || s.Conversations >= 100 || s.Conversations < 5 {
			t.Errorf("%s: %d conversations, %d bytes", when, s.Conversations, s.CacheBytes)
		}
	}
	check("after writing")
	for _, id := range ids {
		h, err := w.chat.Head(context.Background(), w.actor("ben"), id)
		if err != nil || h.Unread != 1 || h.Last == nil {
			t.Fatalf("%+v %v", h, err)
		}
		if _, err := w.chat.History(context.Background(), w.actor("ben"), HistoryQuery{Conv: id}); err != nil {
			t.Fatal(err)
		}
	}
	check("after reading")
	w.checkCount()
}

// checkCount: what is counted for all is what each conversation takes.
func (w *world) checkCount() {
	w.t.Helper()
	w.chat.convs.mu.Lock()
	defer w.chat.convs.mu.Unlock()
	var sum int64
	for _, s := range w.chat.convs.slots {
		sum += s.cv.bytes
	}
	if sum != w.chat.convs.bytes.Load() {
		w.t.Errorf("counts %d bytes, has %d", w.chat.convs.bytes.Load(), sum)
	}
}

func TestForget(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	id := w.group(im.KindChannel, w.actor("ann"), w.actor("ben"))
	w.send(w.actor("ann"), id, "secret")
	if _, _, err := w.chat.Find(ctx, w.actor("ben"), "", "", 0); err != nil {
		t.Fatal(err)
	}
	if err := w.store.EraseTenant(ctx, tenant); err != nil {
		t.Fatal(err)
	}
	if err := w.chat.Forget(ctx, tenant); err != nil {
		t.Fatal(err)
	}
	if _, err := w.chat.History(ctx, w.actor("ben"), HistoryQuery{Conv: id}); !im.Is(err, im.NotFound) {
		t.Errorf("history of an erased tenant: %v", err)
	}
	if found, _, err := w.chat.Find(ctx, w.actor("ben"), "", "", 0); err != nil || len(found) != 0 {
		t.Errorf("channels of an erased tenant: %v %v", found, err)
	}
	if p, err := w.chat.Heads(ctx, w.actor("ben"), HeadsQuery{}); err != nil || len(p.Heads) != 0 {
		t.Errorf("heads of an erased tenant: %v %v", p.Heads, err)
	}
	if s := w.chat.Stats(); s.CacheBytes != 0 {
		t.Errorf("%d bytes are still counted", s.CacheBytes)
	}
}

// TestTallies compares counting for all at once with counting for each, for
// members at random places of a random log.
func TestTallies(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var d digest
		d.start(im.Seq(rapid.IntRange(0, 3).Draw(rt, "from")), maxDigest)
		user := rapid.Custom(func(rt *rapid.T) im.UserID { return im.UserID(rapid.SampledFrom(people).Draw(rt, "user")) })
		first := d.from
		for seq := first; seq < first+im.Seq(rapid.IntRange(0, 30).Draw(rt, "entries")); seq++ {
			e := im.Entry{Seq: seq, By: user.Draw(rt, "by"), Kind: im.EntryMessage, Mentions: rapid.SliceOfNDistinct(user, 0, 2, rapid.ID).Draw(rt, "mentions")}
			if rapid.IntRange(0, 3).Draw(rt, "recall") == 0 && seq > first {
				e.Kind, e.Target = im.EntryRecall, im.Seq(rapid.IntRange(int(first), int(seq)-1).Draw(rt, "target"))
			}
			d.apply(&e)
		}
		var roster []*member
		for _, u := range people {
			m := &member{user: im.UserID(u)}
			m.pub.Store(&place{role: im.MemberRole(rapid.IntRange(0, 1).Draw(rt, "role")), read: im.Seq(rapid.IntRange(0, 40).Draw(rt, "read"))})
			roster = append(roster, m)
		}
		for i, got := range d.tallies(roster) {
			p := roster[i].pub.Load()
			if none := p.role == 0 || p.read+1 < d.from; none != (got == nil) {
				rt.Fatalf("%s, role %d, read %d: %v", roster[i].user, p.role, p.read, got)
			} else if none {
				continue
			}
			if unread, mentions := d.count(roster[i].user, p.read); *got != (tally{unread, mentions}) {
				rt.Fatalf("%s, read %d: %v, want %d and %d", roster[i].user, p.read, *got, unread, mentions)
			}
		}
	})
}

// damagedStore has records that fail their checksum.
type damagedStore struct {
	store.Store
	conv        im.ConvID // its record and members cannot be read
	page, scans bool      // nor pages and scans of any
}

func damage(place any) error {
	return &im.Error{Kind: im.Internal, Cause: fmt.Errorf("%w: %v", store.ErrDamaged, place)}
}

func (s *damagedStore) Conv(ctx context.Context, t im.TenantID, c im.ConvID) (im.Conversation, error) {
	if c == s.conv {
		return im.Conversation{}, damage(c)
	}
	return s.Store.Conv(ctx, t, c)
}

func (s *damagedStore) Page(ctx context.Context, t im.TenantID, c im.ConvID, reader im.UserID, from, to im.Seq) (im.Page, error) {
	if s.page {
		return im.Page{}, damage(c)
	}
	return s.Store.Page(ctx, t, c, reader, from, to)
}

func (s *damagedStore) Scan(ctx context.Context, t im.TenantID, c im.ConvID, from, to im.Seq, fn func(*store.Digest) bool) error {
	if s.scans {
		return damage(c)
	}
	return s.Store.Scan(ctx, t, c, from, to, fn)
}

// TestDamaged: a damaged record takes away itself and not the sign-in of all who
// could have read it; what was written is acknowledged all the same.
func TestDamaged(t *testing.T) {
	bad := &damagedStore{}
	w := newWorld(t, func(o *Options) { bad.Store = o.Store.(store.Store); o.Store = bad })
	ctx, ann := context.Background(), w.actor("ann")
	one, two := w.group(im.KindGroup, ann, w.actor("ben")), w.group(im.KindGroup, ann, w.actor("ben"))
	w.send(ann, one, "x")
	w.send(ann, two, "x")
	w.stop()
	bad.conv, bad.page, bad.scans = one, true, true
	w.start()
	p, err := w.chat.Heads(ctx, w.actor("ben"), HeadsQuery{})
	if err != nil || len(p.Heads) != 1 || p.Heads[0].ID != two || p.Heads[0].Head != 1 || p.Heads[0].Last != nil {
		t.Errorf("heads: %+v %v", p.Heads, err)
	}
	if ids, err := w.chat.ConvIDs(ctx, tenant, "u_ben"); err != nil || len(ids) != 1 {
		t.Errorf("ids: %v %v", ids, err)
	}
	if h, err := w.chat.Head(ctx, w.actor("ben"), two); err != nil || h.Head != 1 {
		t.Errorf("head: %+v %v", h, err)
	}
	if _, err := w.chat.History(ctx, w.actor("ben"), HistoryQuery{Conv: two}); !im.Is(err, im.Internal) {
		t.Errorf("history: %v", err)
	}
	if err := w.try(&Command{Op: Send, Actor: ann, Conv: one, Key: newKey(), Text: "x"}); !im.Is(err, im.Internal) {
		t.Errorf("send where the record is damaged: %v", err)
	}
	if seq := w.send(ann, two, "y"); seq != 2 {
		t.Errorf("send: %d", seq)
	}
	if res := w.do(&Command{Op: Update, Actor: ann, Conv: two, Title: "New"}); res.Head.Title != "New" {
		t.Errorf("update: %+v", res.Head)
	}
}

// TestManyInvited: the heads of a crowd are counted at once, and right.
func TestManyInvited(t *testing.T) {
	w := newWorld(t)
	id := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"))
	for range 3 {
		w.send(w.actor("ann"), id, "x")
	}
	cmd := &Command{Op: Invite, Actor: w.actor("ann"), Conv: id}
	for i := range 2 * fewChanged {
		cmd.Users = append(cmd.Users, w.user(fmt.Sprint("m", i), im.RoleMember).User)
	}
	w.taken()
	w.do(cmd)
	told := map[im.UserID]bool{}
	for _, e := range w.taken() {
		if e.Kind == bus.Changed {
			told[e.User] = true
			if e.Head.Unread != 3 || e.Head.Head != im.Seq(3+len(cmd.Users)) {
				t.Errorf("%s: %+v", e.User, e.Head)
			}
		}
	}
	if len(told) != len(cmd.Users) || told["u_ben"] {
		t.Errorf("%d were told of %d who were invited", len(told), len(cmd.Users))
	}
}

// TestPageBytes: pages stay below their bound however long and whatever the texts
// are, and a client that goes on gets everything.
func TestPageBytes(t *testing.T) {
	const bound = 20 << 10
	w := newWorld(t, func(o *Options) {
		o.PageBytes = bound
		o.Limits = func() im.Limits { return im.Limits{TextBytes: 16 << 10} }
	})
	ctx, ann := context.Background(), w.actor("ann")
	id := w.group(im.KindGroup, ann, w.actor("ben"))
	texts := []string{strings.Repeat("x", 9<<10), strings.Repeat("\x01", 2<<10), strings.Repeat(`"`, 8<<10), "short", strings.Repeat("\x00", 16<<10), "short"}
	for _, text := range texts {
		seq := w.send(ann, id, text)
		w.do(&Command{Op: Pin, Actor: ann, Conv: id, Target: seq, On: true, Key: newKey()})
	}
	size := func(entries []im.Message) (n int) {
		for i := range entries {
			b, err := json.Marshal(entries[i].Shown())
			if err != nil {
				t.Fatal(err)
			}
			n += len(b)
		}
		return n
	}
	head := im.Seq(2 * len(texts))
	for after := im.Seq(0); after < head; {
		p, err := w.chat.History(ctx, ann, HistoryQuery{Conv: id, HasAfter: true, After: after})
		if err != nil || len(p.Entries) == 0 || p.Entries[0].Seq != after+1 {
			t.Fatalf("after %d: %d entries, %v", after, len(p.Entries), err)
		}
		if n := size(p.Entries); n > bound && len(p.Entries) > 1 {
			t.Errorf("after %d: %d bytes in %d entries", after, n, len(p.Entries))
		}
		after = p.Entries[len(p.Entries)-1].Seq
	}
	for before := head + 1; before > 1; {
		p, err := w.chat.History(ctx, ann, HistoryQuery{Conv: id, HasBefore: true, Before: before})
		if err != nil || len(p.Entries) == 0 || p.Entries[len(p.Entries)-1].Seq != before-1 {
			t.Fatalf("before %d: %d entries, %v", before, len(p.Entries), err)
		}
		if n := size(p.Entries); n > bound && len(p.Entries) > 1 {
			t.Errorf("before %d: %d bytes in %d entries", before, n, len(p.Entries))
		}
		before = p.Entries[0].Seq
	}
	pins, err := w.chat.Pins(ctx, ann, id)
	if err != nil || len(pins) == 0 || pins[0].Seq != head-1 || size(pins) > bound {
		t.Errorf("%d pins, %d bytes: %v", len(pins), size(pins), err)
	}
	for range 60 {
		cmd := &Command{Op: Create, Actor: ann, Key: newKey(), Kind: im.KindGroup, Title: strings.Repeat("\x01", im.MaxTitleRunes)}
		w.do(cmd)
	}
	listed := map[im.ConvID]bool{}
	for cursor := ""; ; {
		p, err := w.chat.Heads(ctx, ann, HeadsQuery{Cursor: cursor})
		if err != nil || len(p.Heads) == 0 || len(p.Heads) > 25 {
			t.Fatalf("%d heads: %v", len(p.Heads), err)
		}
		for _, h := range p.Heads {
			listed[h.ID] = true
		}
		if cursor = p.Next; cursor == "" {
			break
		}
	}
	if len(listed) != 61 {
		t.Errorf("%d conversations are listed of 61", len(listed))
	}
}

// TestStale: a log that somebody else wrote to fails once and is read again.
func TestStale(t *testing.T) {
	w := newWorld(t)
	ann := w.actor("ann")
	id := w.group(im.KindGroup, ann, w.actor("ben"))
	w.send(ann, id, "x")
	rec, err := w.store.Conv(context.Background(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	rec.Head, rec.LastMsg = 2, 2
	if err := w.store.Append(context.Background(), []*store.Write{{Tenant: tenant, Conv: &rec, PrevHead: 1,
		Entries: []im.Entry{{Conv: id, Seq: 2, Time: rec.Last, By: "u_ben", Kind: im.EntryMessage, Text: "behind its back"}}}}); err != nil {
		t.Fatal(err)
	}
	if err := w.try(&Command{Op: Send, Actor: ann, Conv: id, Key: newKey(), Text: "y"}); !errors.Is(err, store.ErrStale) {
		t.Fatalf("a stale write: %v", err)
	}
	if seq := w.send(ann, id, "y"); seq != 3 {
		t.Errorf("afterwards: seq %d", seq)
	}
}
