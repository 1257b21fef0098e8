package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Backend is a store under test with what only its back end can do. Its owner
// closes the store in the end (t.Cleanup).
type Backend struct {
	Store store.Store
	// Reopen closes the store, if it is open, and opens it anew on the same data.
	Reopen func(t *testing.T) store.Store
	// Contains reports whether the bytes are anywhere in what the closed store
	// left on its disk; nil if there is no disk.
	Contains func(t *testing.T, needle []byte) bool
}

// Run runs the suite. open makes a new, empty store each time.
func Run(t *testing.T, open func(t *testing.T) *Backend) {
	cases := []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Append", testAppend}, {"AppendErrors", testAppendErrors}, {"State", testState},
		{"Recall", testRecall}, {"Kept", testKept}, {"Pins", testPins}, {"Key", testKey}, {"Scan", testScan},
		{"Convs", testConvs}, {"People", testPeople}, {"Tokens", testTokens}, {"Records", testRecords}, {"Box", testBox},
		{"Sealed", testSealed}, {"Erase", testErase}, {"Backup", testBackup}, {"Owned", testOwned},
		{"Concurrent", testConcurrent}, {"BigBatch", testBigBatch}, {"Closed", testClosed}, {"Cancelled", testCancelled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := open(t)
			c.run(t, &suite{t: t, b: b, s: b.Store, ctx: context.Background(), open: open})
		})
	}
	t.Run("Histories", func(t *testing.T) { testHistories(t, open) })
}

type suite struct {
	t    *testing.T
	b    *Backend
	s    store.Store
	ctx  context.Context
	open func(*testing.T) *Backend
}

func (u *suite) ok(err error) {
	u.t.Helper()
	if err != nil {
		u.t.Fatal(err)
	}
}

func (u *suite) kind(err error, k im.Kind) {
	u.t.Helper()
	if !im.Is(err, k) {
		u.t.Fatalf("got %v, want an error of kind %v", err, k)
	}
}

func (u *suite) same(got, want any) {
	u.t.Helper()
	if !reflect.DeepEqual(got, want) {
		u.t.Fatalf("got  %+v\nwant %+v", got, want)
	}
}

// reopen opens the store anew.
func (u *suite) reopen() { u.s = u.b.Reopen(u.t) }

const (
	oak  = im.TenantID("oakhill")
	elm  = im.TenantID("elm")
	ann  = im.UserID("u_0123456789abcdef")
	bob  = im.UserID("u_zzzzzzzzzzzzzzzz")
	cyd  = im.UserID("cyd") // not of our making
	room = im.ConvID("c_00000000000000r1")
)

// create makes a group of ann and bob with the given entries.
func (u *suite) create(t im.TenantID, c im.ConvID, es ...im.Entry) {
	u.t.Helper()
	w := write(t, c, 0, es...)
	w.Create = true
	w.Members = []im.Member{{Conv: c, User: ann, Role: im.MemberOwner, Joined: 5}, {Conv: c, User: bob, Role: im.MemberMember, Joined: 6}}
	w.Conv.Members = 2
	u.ok(u.s.Append(u.ctx, []*store.Write{w}))
}

// write makes a Write of entries after head prev.
func write(t im.TenantID, c im.ConvID, prev im.Seq, es ...im.Entry) *store.Write {
	conv := &im.Conversation{Tenant: t, ID: c, Kind: im.KindGroup, Title: "Class 5a", Created: 100, Last: 100, Head: prev + im.Seq(len(es)), Members: 2}
	for i := range es {
		es[i].Conv, es[i].Seq = c, prev+im.Seq(i)+1
		if es[i].Time == 0 {
			es[i].Time = 1000 + im.Millis(es[i].Seq)
		}
		if es[i].By == "" {
			es[i].By = ann
		}
		conv.Last = es[i].Time
		if es[i].Kind == im.EntryMessage {
			conv.LastMsg = es[i].Seq
		}
	}
	return &store.Write{Tenant: t, Conv: conv, PrevHead: prev, Entries: es}
}

func message(text string) im.Entry { return im.Entry{Kind: im.EntryMessage, Text: text} }

func (u *suite) page(c im.ConvID, reader im.UserID) im.Page {
	u.t.Helper()
	p, err := u.s.Page(u.ctx, oak, c, reader, 1, 1<<40)
	u.ok(err)
	return p
}

// append appends entries to room and returns the new head.
func (u *suite) append(prev im.Seq, es ...im.Entry) im.Seq {
	u.t.Helper()
	u.ok(u.s.Append(u.ctx, []*store.Write{write(oak, room, prev, es...)}))
	return prev + im.Seq(len(es))
}

// everyEntry has one entry of each kind with every field that it may have.
func everyEntry() []im.Entry {
	return []im.Entry{
		{Kind: im.EntryMember, User: ann, Change: im.ChangeJoined, Role: im.MemberOwner},
		{Kind: im.EntryMessage, Text: "hello \u00e9\U0001F426", Key: "0b0cb6b8-0e1f-4a5e-8f2e-0123456789ab", Mentions: []im.UserID{bob, cyd}},
		{Kind: im.EntryMessage, Text: "answer", ReplyTo: 2, By: bob, Key: "not a uuid"},
		{Kind: im.EntryEdit, Target: 2, Text: "hello again"},
		{Kind: im.EntryReaction, Target: 2, Emoji: "\U0001F44D", On: true, By: bob},
		{Kind: im.EntryPin, Target: 3, On: true},
		{Kind: im.EntryRecall, Target: 3, By: bob},
		{Kind: im.EntryMeta, Title: "Class 5b"},
		{Kind: im.EntryMember, User: bob, Change: im.ChangeLeft},
		{Kind: im.EntryMessage, Text: "0B0CB6B8-0E1F-4A5E-8F2E-0123456789AB", Key: "0B0CB6B8-0E1F-4A5E-8F2E-0123456789AB", By: cyd, Time: 5},
	}
}

func testAppend(t *testing.T, u *suite) {
	es := everyEntry()
	u.create(oak, room, es...)
	for range 2 { // the second time after a reopen
		p := u.page(room, ann)
		if p.Head != im.Seq(len(es)) || len(p.Entries) != len(es) {
			t.Fatalf("head %d, %d entries", p.Head, len(p.Entries))
		}
		for i, got := range p.Entries {
			want := es[i]
			if want.By != ann {
				want.Key = ""
			}
			if want.Seq == 3 {
				want.Text = "" // recalled
			}
			u.same(got.Entry, want)
		}
		u.same(p.Entries[1].State, im.State{Text: "hello again", Edited: 1004, Reactions: []im.Reaction{{Emoji: "\U0001F44D", Count: 1}}})
		u.same(p.Entries[2].State, im.State{Recalled: true})
		c, err := u.s.Conv(u.ctx, oak, room)
		u.ok(err)
		u.same(c, im.Conversation{Tenant: oak, ID: room, Kind: im.KindGroup, Title: "Class 5a", Created: 100, Head: 10, Last: 5, LastMsg: 10, Members: 2, Change: c.Change})
		if c.Change == 0 || c.Change > u.s.LastChange() {
			t.Fatalf("change %d of %d", c.Change, u.s.LastChange())
		}
		u.reopen()
	}
	for _, span := range []struct{ from, to, first, last im.Seq }{
		{0, 3, 1, 3}, {2, 2, 2, 2}, {9, 99, 9, 10}, {11, 20, 0, 0}, {5, 4, 0, 0},
	} {
		p, err := u.s.Page(u.ctx, oak, room, ann, span.from, span.to)
		u.ok(err)
		var seqs []im.Seq
		for _, m := range p.Entries {
			seqs = append(seqs, m.Seq)
		}
		var want []im.Seq
		for q := span.first; q != 0 && q <= span.last; q++ {
			want = append(want, q)
		}
		u.same(seqs, want)
	}
	// The change counter rises with each Write that changes something.
	before := u.s.LastChange()
	m := &store.Write{Tenant: oak, Members: []im.Member{{Conv: room, User: ann, Role: im.MemberOwner, Read: 4}}}
	w := write(oak, room, 10, message("x"))
	u.ok(u.s.Append(u.ctx, []*store.Write{w, m}))
	if w.Conv.Change <= before || m.Members[0].Change <= w.Conv.Change || u.s.LastChange() < m.Members[0].Change {
		t.Fatalf("changes %d, %d, %d after %d", w.Conv.Change, m.Members[0].Change, u.s.LastChange(), before)
	}
}

func testAppendErrors(t *testing.T, u *suite) {
	u.create(oak, room, message("one"), im.Entry{Kind: im.EntryMeta, Title: "t"})
	fine := func() *store.Write {
		w := write(oak, "c_fine", 0, message("fine"))
		w.Create = true
		w.Members = []im.Member{{Conv: "c_fine", User: cyd, Role: im.MemberOwner}}
		w.Key = &store.Key{User: cyd, Key: "k"}
		return w
	}
	create := func(w *store.Write) *store.Write { w.Create = true; return w }
	direct := func(c im.ConvID, a, b im.UserID) *store.Write {
		w := create(write(oak, c, 0))
		w.Conv.Kind, w.Conv.Peers, w.Conv.Title = im.KindDirect, [2]im.UserID{a, b}, ""
		return w
	}
	u.ok(u.s.Append(u.ctx, []*store.Write{direct("c_d1", ann, bob)}))
	moved := write(oak, room, 2, message("x"))
	moved.Entries[0].Seq = 7
	other := write(oak, room, 2, message("x"))
	other.Entries[0].Conv = "c_other"
	skipped := write(oak, room, 2, message("x"))
	skipped.Conv.Head = 9
	bare := write(oak, room, 2, message("x"))
	bare.Conv = nil
	stale := func(w *store.Write) func(error) bool {
		return func(err error) bool { return errors.Is(err, store.ErrStale) }
	}(nil)
	of := func(k im.Kind) func(error) bool { return func(err error) bool { return im.Is(err, k) } }
	for name, c := range map[string]struct {
		w    *store.Write
		want func(error) bool
	}{
		"stale head":            {write(oak, room, 1, message("x")), stale},
		"head ahead":            {write(oak, room, 3, message("x")), stale},
		"no such log":           {write(oak, "c_none", 0, message("x")), stale},
		"other tenant's log":    {write(elm, room, 2, message("x")), stale},
		"member of no log":      {&store.Write{Tenant: oak, Members: []im.Member{{Conv: "c_none", User: ann}}}, stale},
		"exists":                {create(write(oak, room, 0, message("x"))), of(im.Exists)},
		"direct exists":         {direct("c_d2", bob, ann), of(im.Exists)},
		"seq out of place":      {moved, of(im.Internal)},
		"entry of another":      {other, of(im.Internal)},
		"head skips":            {skipped, of(im.Internal)},
		"entries without conv":  {bare, of(im.Internal)},
		"target is no message":  {write(oak, room, 2, im.Entry{Kind: im.EntryEdit, Target: 2, Text: "x"}), of(im.Internal)},
		"target is ahead":       {write(oak, room, 2, im.Entry{Kind: im.EntryRecall, Target: 4}), of(im.Internal)},
		"target is the same":    {write(oak, room, 2, im.Entry{Kind: im.EntryRecall, Target: 3}), of(im.Internal)},
		"target is none":        {write(oak, room, 2, im.Entry{Kind: im.EntryPin, On: true}), of(im.Internal)},
		"reaction to no target": {write(oak, room, 2, im.Entry{Kind: im.EntryReaction, Target: 99, Emoji: "x", On: true}), of(im.Internal)},
	} {
		t.Run(name, func(t *testing.T) {
			u := &suite{t: t, b: u.b, s: u.s, ctx: u.ctx}
			change := u.s.LastChange()
			if err := u.s.Append(u.ctx, []*store.Write{fine(), c.w}); !c.want(err) {
				t.Fatalf("got %v", err)
			}
			// Nothing of the batch was stored.
			_, err := u.s.Conv(u.ctx, oak, "c_fine")
			u.kind(err, im.NotFound)
			_, err = u.s.Key(u.ctx, oak, cyd, "k")
			u.kind(err, im.NotFound)
			of, err := u.s.OfUser(u.ctx, oak, cyd)
			u.ok(err)
			u.same(len(of), 0)
			u.same(u.page(room, ann).Head, im.Seq(2))
			u.same(u.s.LastChange(), change)
		})
	}
	// In one batch, later writes see earlier ones.
	u.ok(u.s.Append(u.ctx, []*store.Write{
		fine(), write(oak, "c_fine", 1, message("two"), im.Entry{Kind: im.EntryEdit, Target: 2, Text: "2"}), write(oak, "c_fine", 3, im.Entry{Kind: im.EntryRecall, Target: 1}),
	}))
	p := u.page("c_fine", ann)
	if p.Head != 4 || !p.Entries[0].Recalled || p.Entries[1].State.Text != "2" {
		t.Fatalf("%+v", p)
	}
}

func testState(t *testing.T, u *suite) {
	u.create(oak, room, message("one"), message("two"))
	react := func(by im.UserID, emoji string, on bool) im.Entry {
		return im.Entry{Kind: im.EntryReaction, Target: 1, Emoji: emoji, On: on, By: by}
	}
	head := im.Seq(2)
	state := func(want im.State, reader im.UserID) {
		t.Helper()
		u.same(u.page(room, reader).Entries[0].State, want)
	}
	standing := func(by im.UserID, emoji string, want store.Standing) {
		t.Helper()
		got, err := u.s.Reaction(u.ctx, oak, room, 1, by, emoji)
		u.ok(err)
		u.same(got, want)
	}
	standing(ann, "a", store.Standing{})
	head = u.append(head, react(ann, "a", true), react(bob, "b", true), react(bob, "a", true)) // 3 4 5
	state(im.State{Reactions: []im.Reaction{{Emoji: "a", Count: 2, Mine: true}, {Emoji: "b", Count: 1}}}, ann)
	state(im.State{Reactions: []im.Reaction{{Emoji: "a", Count: 2}, {Emoji: "b", Count: 1}}}, cyd)
	head = u.append(head, react(ann, "a", true), react(cyd, "a", false)) // 6 7 change nothing
	standing(ann, "a", store.Standing{Seq: 3, Time: 1003, On: true})
	standing(cyd, "a", store.Standing{})
	head = u.append(head, react(ann, "a", false), react(bob, "a", false)) // 8 9
	state(im.State{Reactions: []im.Reaction{{Emoji: "b", Count: 1, Mine: true}}}, bob)
	standing(ann, "a", store.Standing{Seq: 8, Time: 1008})
	head = u.append(head, react(cyd, "a", true)) // 10: a is new again, behind b
	u.reopen()
	state(im.State{Reactions: []im.Reaction{{Emoji: "b", Count: 1}, {Emoji: "a", Count: 1}}}, ann)
	standing(cyd, "a", store.Standing{Seq: 10, Time: 1010, On: true})
	head = u.append(head, im.Entry{Kind: im.EntryEdit, Target: 1, Text: "uno"}, im.Entry{Kind: im.EntryEdit, Target: 1, Text: "eins"})
	m := u.page(room, ann).Entries[0]
	if m.Entry.Text != "one" || m.Shown() != "eins" || m.Edited != 1012 {
		t.Fatalf("%+v", m)
	}
	_, err := u.s.Reaction(u.ctx, oak, room, 3, ann, "a")
	u.kind(err, im.NotFound) // no message
	_, err = u.s.Pin(u.ctx, oak, room, 99)
	u.kind(err, im.NotFound)
	_, err = u.s.Pin(u.ctx, oak, "c_none", 1)
	u.kind(err, im.NotFound)
	// Nobody is lost by many.
	var es []im.Entry
	for i := range 300 {
		es = append(es, im.Entry{Kind: im.EntryReaction, Target: 2, Emoji: "x", On: true, By: im.UserID(fmt.Sprintf("u_%d", i))})
	}
	u.append(head, es...)
	u.same(u.page(room, "u_7").Entries[1].Reactions, []im.Reaction{{Emoji: "x", Count: 300, Mine: true}})
}

// testKept: a recall that keeps the text hides it as any other does, and Kept
// alone gives it.
func testKept(t *testing.T, u *suite) {
	u.create(oak, room, message("secret one"), im.Entry{Kind: im.EntryEdit, Target: 1, Text: "secret two"}, message("secret plain"), message("wiped"), message("here"))
	u.append(5, im.Entry{Kind: im.EntryRecall, Target: 1, Keep: true}, im.Entry{Kind: im.EntryRecall, Target: 3, Keep: true}, im.Entry{Kind: im.EntryRecall, Target: 4},
		im.Entry{Kind: im.EntryEdit, Target: 1, Text: "secret late"}, im.Entry{Kind: im.EntryRecall, Target: 1})
	for range 2 {
		p := u.page(room, ann)
		for _, m := range p.Entries {
			if m.Seq != 5 && m.Entry.Text+m.State.Text != "" {
				t.Fatalf("a recalled text is served: %+v", m)
			}
		}
		if !p.Entries[5].Keep || p.Entries[7].Keep || !p.Entries[1].Hidden {
			t.Fatalf("%+v", p.Entries)
		}
		kept, err := u.s.Kept(u.ctx, oak, room, 1)
		u.ok(err)
		if kept.State.Text != "secret two" || kept.Entry.Text != "secret one" || !kept.Recalled || kept.Edited == 0 {
			t.Fatalf("%+v", kept)
		}
		kept, err = u.s.Kept(u.ctx, oak, room, 3)
		u.ok(err)
		u.same(kept.Entry.Text, "secret plain")
		for _, q := range []im.Seq{2, 4, 5, 6, 99, 0} { // an edit, wiped, not recalled, a recall, nothing
			_, err := u.s.Kept(u.ctx, oak, room, q)
			u.kind(err, im.NotFound)
		}
		_, err = u.s.Kept(u.ctx, "elm", room, 1)
		u.kind(err, im.NotFound)
		u.reopen()
	}
	u.verify()
}

func testRecall(t *testing.T, u *suite) {
	u.create(oak, room, message("secret one"), im.Entry{Kind: im.EntryEdit, Target: 1, Text: "secret two"}, message("other"),
		im.Entry{Kind: im.EntryEdit, Target: 3, Text: "edited"}, im.Entry{Kind: im.EntryEdit, Target: 1, Text: "secret three"}, im.Entry{Kind: im.EntryPin, Target: 1, On: true})
	u.append(6, im.Entry{Kind: im.EntryRecall, Target: 1})
	// What comes after a recall changes nothing and shows nothing.
	u.append(7, im.Entry{Kind: im.EntryEdit, Target: 1, Text: "secret four"}, im.Entry{Kind: im.EntryPin, Target: 1, On: true}, im.Entry{Kind: im.EntryRecall, Target: 1})
	for range 2 {
		p := u.page(room, ann)
		for _, m := range p.Entries {
			if bytes.Contains([]byte(m.Entry.Text+m.State.Text+m.Shown()), []byte("secret")) {
				t.Fatalf("a recalled text is served: %+v", m)
			}
			if hidden := m.Kind == im.EntryEdit && m.Target == 1; m.Hidden != hidden {
				t.Fatalf("hidden: %+v", m)
			}
		}
		u.same(p.Entries[0].State, im.State{Recalled: true, Edited: 1005})
		u.same(p.Entries[2].Shown(), "edited")
		pins, err := u.s.Pins(u.ctx, oak, room, ann, 10)
		u.ok(err)
		u.same(len(pins), 0)
		st, err := u.s.Pin(u.ctx, oak, room, 1)
		u.ok(err)
		u.same(st, store.Standing{Seq: 7, Time: 1007})
		u.reopen()
	}
	// A long chain of edits, longer than a transaction of a back end may be.
	head := im.Seq(10)
	for i := range 50 {
		var batch []*store.Write
		for j := range 100 {
			batch = append(batch, write(oak, room, head, im.Entry{Kind: im.EntryEdit, Target: 3, Text: fmt.Sprint("secret ", i, j)}))
			head++
		}
		u.ok(u.s.Append(u.ctx, batch))
	}
	u.append(head, im.Entry{Kind: im.EntryRecall, Target: 3})
	for _, m := range u.page(room, ann).Entries {
		if bytes.Contains([]byte(m.Entry.Text+m.State.Text), []byte("secret")) {
			t.Fatalf("a recalled text is served: %+v", m)
		}
	}
}

func testPins(t *testing.T, u *suite) {
	u.create(oak, room, message("1"), message("2"), message("3"))
	pin := func(target im.Seq, on bool) im.Entry { return im.Entry{Kind: im.EntryPin, Target: target, On: on} }
	u.append(3, pin(2, true), pin(1, true), pin(3, true), pin(2, true), pin(3, false)) // 4 5 6 7(nothing) 8
	seqs := func(limit int) (got []im.Seq) {
		t.Helper()
		pins, err := u.s.Pins(u.ctx, oak, room, ann, limit)
		u.ok(err)
		for _, m := range pins {
			got = append(got, m.Seq)
		}
		return got
	}
	u.same(seqs(10), []im.Seq{1, 2})
	u.same(seqs(1), []im.Seq{1})
	for target, want := range map[im.Seq]store.Standing{1: {Seq: 5, Time: 1005, On: true}, 2: {Seq: 4, Time: 1004, On: true}, 3: {Seq: 8, Time: 1008}} {
		st, err := u.s.Pin(u.ctx, oak, room, target)
		u.ok(err)
		u.same(st, want)
	}
	u.append(8, pin(2, false), pin(3, true), pin(2, true)) // 9 10 11
	u.reopen()
	u.same(seqs(10), []im.Seq{2, 3, 1})
	_, err := u.s.Pins(u.ctx, oak, "c_none", ann, 10)
	u.kind(err, im.NotFound)
}

func testKey(t *testing.T, u *suite) {
	k := store.Key{User: ann, Key: "k1", Body: [16]byte{1, 2, 255}, Conv: room, Seq: 1, Time: 1001}
	w := write(oak, room, 0, message("x"))
	w.Create, w.Key = true, &k
	rep := store.Key{User: bob, Key: "k1", Body: [16]byte{9}, Conv: room, Seq: 1, Time: 1001, Repeat: true}
	u.ok(u.s.Append(u.ctx, []*store.Write{w, {Tenant: oak, Key: &rep}}))
	for range 2 {
		for _, want := range []store.Key{k, rep} {
			got, err := u.s.Key(u.ctx, oak, want.User, want.Key)
			u.ok(err)
			u.same(got, want)
		}
		for _, miss := range []store.Key{{User: ann, Key: "k2"}, {User: cyd, Key: "k1"}, {User: ann, Key: "k1 "}} {
			_, err := u.s.Key(u.ctx, oak, miss.User, miss.Key)
			u.kind(err, im.NotFound)
		}
		u.reopen()
	}
}

func testScan(t *testing.T, u *suite) {
	u.create(oak, room, everyEntry()...)
	var got []store.Digest
	u.ok(u.s.Scan(u.ctx, oak, room, 2, 4, func(d *store.Digest) bool {
		c := *d
		c.Mentions = slices.Clone(d.Mentions)
		got = append(got, c)
		return true
	}))
	u.same(got, []store.Digest{
		{Seq: 2, Kind: im.EntryMessage, By: ann, Mentions: []im.UserID{bob, cyd}},
		{Seq: 3, Kind: im.EntryMessage, By: bob, Recalled: true},
		{Seq: 4, Kind: im.EntryEdit, By: ann, Target: 2},
	})
	n := 0
	u.ok(u.s.Scan(u.ctx, oak, room, 0, 1<<50, func(d *store.Digest) bool {
		n++
		if _, err := u.s.Conv(u.ctx, oak, room); err != nil { // fn may read the store
			t.Error(err)
		}
		return n < 3
	}))
	u.same(n, 3)
	u.kind(u.s.Scan(u.ctx, oak, "c_none", 1, 2, func(*store.Digest) bool { return true }), im.NotFound)
}

// testOwned checks that values given and returned share no memory with the store.
func testOwned(t *testing.T, u *suite) {
	es := everyEntry()
	u.create(oak, room, es...)
	want := u.page(room, bob)
	es[1].Mentions[0] = "u_evil"
	p := u.page(room, bob)
	p.Entries[1].Mentions[0] = "u_evil"
	p.Entries[1].Reactions[0].Count = 99
	u.same(u.page(room, bob), want)
	v := []byte("value")
	u.ok(u.s.SetSetting(u.ctx, "name", v))
	v[0] = 'X'
	got, err := u.s.Setting(u.ctx, "name")
	u.ok(err)
	got[1] = 'X'
	got, err = u.s.Setting(u.ctx, "name")
	u.ok(err)
	u.same(string(got), "value")
}

func testConcurrent(t *testing.T, u *suite) {
	const writers, each = 8, 40
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			c := im.ConvID(fmt.Sprintf("c_%016d", i))
			for n := range im.Seq(each) {
				w := write(oak, c, n, message(fmt.Sprint(i, n)))
				w.Create = n == 0
				w.Key = &store.Key{User: ann, Key: fmt.Sprint(i, "/", n), Conv: c, Seq: n + 1}
				if err := u.s.Append(u.ctx, []*store.Write{w}); err != nil {
					t.Error(err)
					return
				}
				// What was acknowledged is read at once, page and head agree.
				p, err := u.s.Page(u.ctx, oak, c, ann, 1, 1<<40)
				if err != nil || p.Head != n+1 || len(p.Entries) != int(n)+1 {
					t.Errorf("after %d: head %d, %d entries, %v", n+1, p.Head, len(p.Entries), err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range each {
			if err := u.s.Probe(u.ctx); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	u.reopen()
	for i := range writers {
		p := u.page(im.ConvID(fmt.Sprintf("c_%016d", i)), ann)
		u.same(len(p.Entries), each)
	}
	u.verify()
}

func (u *suite) verify() store.Report {
	u.t.Helper()
	rep, err := u.s.Verify(u.ctx, nil)
	u.ok(err)
	if rep.Damaged != 0 || len(rep.Damages) != 0 {
		u.t.Fatalf("verify found %+v", rep.Damages)
	}
	return rep
}

// testBigBatch appends more than any one transaction should hold.
func testBigBatch(t *testing.T, u *suite) {
	var batch []*store.Write
	text := string(bytes.Repeat([]byte("0123456789abcdef"), 1000))
	for i := range im.Seq(300) {
		w := write(oak, room, i, message(fmt.Sprint(i, text)))
		w.Create = i == 0
		batch = append(batch, w)
	}
	bad := append(slices.Clone(batch), write(oak, "c_none", 0, message("x")))
	if err := u.s.Append(u.ctx, bad); !errors.Is(err, store.ErrStale) {
		t.Fatalf("got %v", err)
	}
	_, err := u.s.Conv(u.ctx, oak, room)
	u.kind(err, im.NotFound)
	u.ok(u.s.Append(u.ctx, batch))
	u.reopen()
	p := u.page(room, ann)
	u.same(len(p.Entries), 300)
	u.same(p.Entries[299].Entry.Text, fmt.Sprint(299, text))
	rep := u.verify()
	u.same(rep.Entries, uint64(300))
}

func testClosed(t *testing.T, u *suite) {
	u.create(oak, room, message("x"))
	old := u.s
	u.ok(old.Close())
	_, err := old.Page(u.ctx, oak, room, ann, 1, 1)
	u.kind(err, im.Unavailable)
	u.kind(old.Append(u.ctx, []*store.Write{write(oak, room, 1, message("y"))}), im.Unavailable)
	u.kind(old.Probe(u.ctx), im.Unavailable)
	u.reopen()
	u.same(u.page(room, ann).Head, im.Seq(1))
}

func testCancelled(t *testing.T, u *suite) {
	ctx, cancel := context.WithCancel(u.ctx)
	cancel()
	w := write(oak, room, 0, message("x"))
	w.Create = true
	u.kind(u.s.Append(ctx, []*store.Write{w}), im.Unavailable)
	_, err := u.s.Conv(u.ctx, oak, room)
	u.kind(err, im.NotFound)
	_, err = u.s.Conv(ctx, oak, room)
	u.kind(err, im.Unavailable)
	deadline, cancel2 := context.WithTimeout(u.ctx, time.Minute)
	defer cancel2()
	u.ok(u.s.Append(deadline, []*store.Write{w}))
}
