package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// house is the Rules of a test: a policy that may change, and one class.
type house struct {
	policy atomic.Pointer[access.Policy]
	class  []im.UserID
}

func (h *house) Policy(im.TenantID) *access.Policy { return h.policy.Load() }
func (h *house) SharesClass(_ im.TenantID, a, b im.UserID) bool {
	return slices.Contains(h.class, a) && slices.Contains(h.class, b)
}
func (h *house) Sees(actor im.Actor, u *im.User) bool {
	return actor.User == u.ID || access.Sees(h.policy.Load(), actor.Role, u.Role, h.SharesClass("", actor.User, u.ID), false)
}

func (h *house) set(t *testing.T, preset string, changes map[string]string) {
	t.Helper()
	p, err := access.NewPolicy(preset, changes)
	if err != nil {
		t.Fatal(err)
	}
	h.policy.Store(p)
}

func newHouse(t *testing.T, preset string, with ...func(*Options)) (*world, *house) {
	h := &house{class: []im.UserID{"u_ann", "u_ben", "u_cid"}}
	h.set(t, preset, nil)
	w := newWorld(t, append([]func(*Options){func(o *Options) { o.Rules = h }}, with...)...)
	return w, h
}

// TestPolicyIsLive: who may start a direct with whom follows the policy from one
// command to the next, and so does writing in one that is there.
func TestPolicyIsLive(t *testing.T) {
	w, h := newHouse(t, "school")
	ben, cid, dan, ann := w.actor("ben"), w.actor("cid"), w.actor("dan"), w.actor("ann")
	direct := func(a, b im.Actor) error {
		return w.try(&Command{Op: Direct, Actor: a, Users: []im.UserID{b.User}})
	}
	if err := direct(ben, dan); !im.Is(err, im.NotFound) {
		t.Errorf("of another class, whom he may not see: %v", err)
	}
	if err := direct(dan, ann); !im.Is(err, im.Forbidden) {
		t.Errorf("a teacher of another class, whom he sees: %v", err)
	}
	if err := direct(ann, dan); err != nil {
		t.Errorf("a teacher starts: %v", err)
	}
	if err := direct(dan, ann); err != nil {
		t.Errorf("the same one, whoever asks: %v", err)
	}
	id := w.do(&Command{Op: Direct, Actor: ben, Users: []im.UserID{cid.User}}).Head.ID
	w.send(ben, id, "hi")
	h.set(t, "school", map[string]string{"direct.member.member": "no"})
	send := &Command{Op: Send, Actor: cid, Conv: id, Key: "k", Text: "still there?"}
	if err := w.try(send); !im.Is(err, im.Forbidden) {
		t.Errorf("a direct that nobody may start any more: %v", err)
	}
	if err := w.try(&Command{Op: Mark, Actor: cid, Conv: id, Seq: 1}); err != nil {
		t.Errorf("and yet it can be read: %v", err)
	}
	h.set(t, "school", nil)
	if err := w.try(send); err != nil {
		t.Errorf("the change taken back: %v", err)
	}
	// Whom one may not see can't be made a member either.
	room := w.group(im.KindGroup, ann, ben)
	w.do(&Command{Op: SetRole, Actor: ann, Conv: room, Users: []im.UserID{ben.User}, Role: im.MemberModerator})
	if err := w.try(&Command{Op: Invite, Actor: ben, Conv: room, Users: []im.UserID{dan.User}}); !im.Is(err, im.NotFound) {
		t.Errorf("invite: %v", err)
	}
	if err := w.try(&Command{Op: Create, Actor: ben, Key: newKey(), Kind: im.KindGroup, Title: "x"}); !im.Is(err, im.Forbidden) {
		t.Errorf("a pupil makes a group: %v", err)
	}
}

// TestQuietHours: what is written in them waits: refused with the time that they
// last, no token of the rate is spent, no key remembered; notices pass, and each
// that does is written down.
func TestQuietHours(t *testing.T) {
	var mu sync.Mutex
	var passed []Pass
	noted := make(chan struct{}, 16)
	failures := 1
	w, h := newHouse(t, "school", func(o *Options) {
		o.Limits = func() im.Limits { return im.Limits{TextBytes: 100, SendsPerMinute: 100} }
		o.OnPass = func(_ context.Context, p Pass) error {
			mu.Lock()
			defer mu.Unlock()
			if failures > 0 {
				failures--
				return errors.New("the disk is busy")
			}
			passed = append(passed, p)
			noted <- struct{}{}
			return nil
		}
	})
	w.chat.passes.again = time.Millisecond
	evening := time.Date(2026, 11, 25, 23, 30, 0, 0, time.UTC)
	w.clock.Store(evening.UnixMilli())
	ben, ann := w.actor("ben"), w.actor("ann")
	room, board := w.group(im.KindGroup, ann, ben), w.group(im.KindNotice, ann, ben)
	w.send(ben, room, "before")
	h.set(t, "school", map[string]string{"quiet.member": "22:00-06:00", "quiet.staff": "20:00-07:00", "quiet.zone": "UTC"})
	stats := w.chat.Stats().RateLimited
	for range 200 { // no token is spent, or this would be refused for another reason
		err := w.try(&Command{Op: Send, Actor: ben, Conv: room, Key: "waits", Text: "late"})
		var e *im.Error
		if !errors.As(err, &e) || e.Kind != im.RateLimited || e.Reason != im.QuietHours || e.RetryAfter != 6*time.Hour+30*time.Minute {
			t.Fatalf("%#v", err)
		}
	}
	if n := w.chat.Stats().RateLimited; n != stats {
		t.Errorf("%d counted as too fast", n-stats)
	}
	if err := w.try(&Command{Op: Edit, Actor: ben, Conv: room, Key: newKey(), Target: 1, Text: "late"}); !im.Is(err, im.RateLimited) {
		t.Errorf("an edit: %v", err)
	}
	for _, cmd := range []Command{{Op: React, Target: 1, Emoji: "👍", On: true}, {Op: Mark, Seq: 1}, {Op: Recall, Target: 1}} {
		cmd.Actor, cmd.Conv, cmd.Key = ben, room, newKey()
		if err := w.try(&cmd); err != nil {
			t.Errorf("%v: %v", cmd.Op, err)
		}
	}
	if err := w.try(&Command{Op: Send, Actor: ann, Conv: room, Key: newKey(), Text: "late"}); !im.Is(err, im.RateLimited) {
		t.Errorf("a teacher in a group: %v", err)
	}
	if err := w.try(&Command{Op: Send, Actor: ben, Conv: board, Key: newKey(), Text: "late"}); !im.Is(err, im.Forbidden) {
		t.Errorf("permission goes first: %v", err)
	}
	seq := w.send(ann, board, "school is closed tomorrow")
	<-noted
	mu.Lock()
	if len(passed) != 1 || passed[0] != (Pass{Tenant: tenant, User: ann.User, Conv: board, Seq: seq, Time: passed[0].Time}) {
		t.Errorf("%+v", passed)
	}
	mu.Unlock()
	// It was not stored, so its key is free, and it goes out when the hours end.
	w.clock.Store(evening.Add(7 * time.Hour).UnixMilli())
	if err := w.try(&Command{Op: Send, Actor: ben, Conv: room, Key: "waits", Text: "late"}); err != nil {
		t.Errorf("in the morning: %v", err)
	}
}

// TestPassesAreBounded: while nobody writes down what passes, no more passes.
func TestPassesAreBounded(t *testing.T) {
	gate := make(chan struct{})
	count := 0
	w, h := newHouse(t, "school", func(o *Options) {
		o.OnPass = func(context.Context, Pass) error { <-gate; count++; return nil }
	})
	w.clock.Store(time.Date(2026, 11, 25, 23, 30, 0, 0, time.UTC).UnixMilli())
	ann := w.actor("ann")
	board := w.group(im.KindNotice, ann)
	h.set(t, "school", map[string]string{"quiet.staff": "20:00-07:00", "quiet.zone": "UTC"})
	sent := 0
	for ; ; sent++ {
		err := w.try(&Command{Op: Send, Actor: ann, Conv: board, Key: newKey(), Text: "x"})
		if im.Is(err, im.Unavailable) {
			break
		}
		if err != nil || sent > 2*maxPasses {
			t.Fatalf("after %d: %v", sent, err)
		}
	}
	close(gate)
	w.stop()
	if count != sent || sent < maxPasses {
		t.Errorf("%d sent, %d written down", sent, count)
	}
	w.start()
}

// TestRecallKeeps: the policy says whether the text is wiped; it is shown to
// nobody either way.
func TestRecallKeeps(t *testing.T) {
	for _, preset := range []string{"school", "open"} {
		w, _ := newHouse(t, preset)
		ann := w.actor("ann")
		room := w.group(im.KindGroup, ann, w.actor("ben"))
		seq := w.send(ann, room, "a secret")
		w.do(&Command{Op: Recall, Actor: ann, Conv: room, Key: newKey(), Target: seq})
		page, err := w.chat.History(context.Background(), w.actor("ben"), HistoryQuery{Conv: room})
		if err != nil || page.Entries[0].Shown() != "" || page.Entries[0].Entry.Text != "" {
			t.Errorf("%s: %+v %v", preset, page.Entries, err)
		}
		kept, err := w.store.Kept(context.Background(), tenant, room, seq)
		if keeps := err == nil && kept.Entry.Text == "a secret"; keeps != (preset == "school") {
			t.Errorf("%s: kept %v (%v)", preset, keeps, err)
		}
	}
}

// TestKept: an owner alone reads what was taken back and kept, as it was last, page
// by page, also where the owner is no member; what was erased is in no page.
func TestKept(t *testing.T) {
	ctx := context.Background()
	w, h := newHouse(t, "school")
	ann, olga := w.actor("ann"), w.actor("olga")
	room := w.group(im.KindGroup, ann, w.actor("ben"))
	var seqs []im.Seq
	for i := range 5 {
		seqs = append(seqs, w.send(ann, room, fmt.Sprintf("text %d", i)))
	}
	w.do(&Command{Op: Edit, Actor: ann, Conv: room, Key: newKey(), Target: seqs[1], Text: "text 1, mended"})
	for _, i := range []int{0, 1, 3} {
		w.do(&Command{Op: Recall, Actor: ann, Conv: room, Key: newKey(), Target: seqs[i]})
	}
	h.set(t, "school", map[string]string{"recall": "erase"})
	w.do(&Command{Op: Recall, Actor: ann, Conv: room, Key: newKey(), Target: seqs[4]})

	var got []string
	for after := im.Seq(0); ; {
		page, next, err := w.chat.Kept(ctx, olga, room, after, 2)
		if err != nil || len(page) > 2 {
			t.Fatal(len(page), err)
		}
		for _, m := range page {
			text := m.Entry.Text
			if m.Edited != 0 {
				text = m.State.Text
			}
			got = append(got, text)
		}
		if after = next; next == 0 {
			break
		}
	}
	if want := []string{"text 0", "text 1, mended", "text 3"}; !slices.Equal(got, want) {
		t.Errorf("kept %q, want %q", got, want)
	}
	list, err := w.chat.Recalled(ctx, olga, "u_ben")
	if err != nil || len(list) != 1 || list[0].Conv.ID != room || list[0].Kept != 3 || len(list[0].Members) != 2 {
		t.Errorf("%+v %v", list, err)
	}
	if list, err = w.chat.Recalled(ctx, olga, "u_cid"); err != nil || len(list) != 0 {
		t.Errorf("who is not in it: %+v %v", list, err)
	}
	admin := olga
	admin.Role = im.RoleAdmin
	for who, a := range map[string]im.Actor{"the author": ann, "an admin": admin, "another tenant's owner": {Tenant: "elm", User: "u_eve", Role: im.RoleOwner}} {
		want := im.Forbidden
		if a.Tenant == "elm" {
			want = im.NotFound
		}
		if page, _, err := w.chat.Kept(ctx, a, room, 0, 9); !im.Is(err, want) || page != nil {
			t.Errorf("%s reads %v, %v", who, page, err)
		}
		if list, err := w.chat.Recalled(ctx, a, "u_ben"); !im.Is(err, want) || list != nil {
			t.Errorf("%s lists %v, %v", who, list, err)
		}
	}
}

func (w *world) seats(id im.ConvID) string {
	w.t.Helper()
	list, err := w.store.Members(context.Background(), tenant, id)
	if err != nil {
		w.t.Fatal(err)
	}
	s := ""
	for _, m := range list {
		if m.Role != 0 {
			s += string(m.User[2:]) + ":" + m.Role.String() + " "
		}
	}
	return s
}

// TestSystemCommands: what the box does for a class, twice each: the second time
// nothing changes.
func TestSystemCommands(t *testing.T) {
	w := newWorld(t)
	w.user("dis", im.RoleMember)
	w.people[userKey{tenant, "u_dis"}].Disabled = true
	box := im.Actor{Tenant: tenant, User: im.SystemUser}
	create := &Command{Op: Create, System: true, Actor: box, Key: "class/1/group", Kind: im.KindGroup, Title: "5a",
		Seats: []Seat{{User: "u_ann", Role: im.MemberOwner}, {User: "u_ben", Role: im.MemberMember}, {User: "u_dis", Role: im.MemberMember}, {User: "u_none", Role: im.MemberMember}}}
	res := w.do(create)
	id := res.Head.ID
	if got := w.seats(id); got != "ann:owner ben:member " {
		t.Fatalf("%s", got)
	}
	if again := w.do(create); again.Head.ID != id || !again.Repeat {
		t.Fatalf("%+v", again)
	}
	heard := map[im.UserID]bool{}
	for _, e := range w.taken() {
		if e.Kind == bus.Changed {
			heard[e.User] = true
		}
	}
	if !heard["u_ann"] || !heard["u_ben"] || len(heard) != 2 {
		t.Errorf("heard by %v", heard)
	}
	w.do(&Command{Op: SetRole, Actor: w.actor("ann"), Conv: id, Users: []im.UserID{"u_ben"}, Role: im.MemberModerator})
	w.taken()
	seats := &Command{Op: Reseat, System: true, Actor: box, Conv: id, Seats: []Seat{
		{User: "u_ann", Role: im.MemberOwner}, {User: "u_ben", Role: im.MemberMember, Least: true}, {User: "u_cid", Role: im.MemberMember},
		{User: "u_cid", Role: im.MemberMember}, {User: "u_gus", Role: im.MemberReader}, {User: "u_dis", Role: im.MemberMember}}}
	w.do(seats)
	if got := w.seats(id); got != "ann:owner ben:moderator cid:member gus:reader " {
		t.Errorf("%s", got)
	}
	rec, err := w.store.Conv(context.Background(), tenant, id)
	if err != nil || rec.Members != 4 {
		t.Errorf("%+v %v", rec, err)
	}
	w.taken()
	w.do(seats)
	if e := w.taken(); len(e) != 0 {
		t.Errorf("the second time: %+v", e)
	}
	out := &Command{Op: Reseat, System: true, Actor: box, Conv: id, Seats: []Seat{{User: "u_ann"}, {User: "u_gus"}, {User: "u_ben", Role: im.MemberMember}}}
	w.do(out)
	w.do(out)
	if got := w.seats(id); got != "ben:member cid:member " { // no owner is left: the box may
		t.Errorf("%s", got)
	}
	w.do(&Command{Op: Reseat, System: true, Actor: box, Conv: id, Seats: []Seat{{User: "u_ann", Role: im.MemberOwner}}})
	w.send(w.actor("ben"), id, "last words")
	w.taken()

	over := &Command{Op: Archive, System: true, Actor: box, Conv: id, On: true}
	w.do(over)
	archived := 0
	for _, e := range w.taken() {
		if e.Kind == bus.Changed && e.Head.Archived {
			archived++
		}
	}
	if archived != 3 {
		t.Errorf("%d of 3 members hear that it is archived", archived)
	}
	w.do(over)
	if e := w.taken(); len(e) != 0 {
		t.Errorf("the second time: %+v", e)
	}
	err = w.try(&Command{Op: Send, Actor: w.actor("ben"), Conv: id, Key: newKey(), Text: "more"})
	var e *im.Error
	if !errors.As(err, &e) || e.Kind != im.Forbidden || e.Reason != im.Archived {
		t.Errorf("%v", err)
	}
	w.stop() // and after a restart too
	w.start()
	h, err := w.chat.Head(context.Background(), w.actor("ben"), id)
	if err != nil || !h.Archived {
		t.Errorf("%+v %v", h, err)
	}
	page, err := w.chat.History(context.Background(), w.actor("ben"), HistoryQuery{Conv: id})
	if last := page.Entries[len(page.Entries)-1]; err != nil || last.Archive != im.ArchiveSet || last.By != im.SystemUser || last.Title != "5a" {
		t.Errorf("%+v %v", last, err)
	}
	w.do(&Command{Op: Archive, System: true, Actor: box, Conv: id})
	w.send(w.actor("ben"), id, "again")

	// None of it without System.
	for _, cmd := range []Command{{Op: Reseat, Seats: []Seat{{User: "u_dan", Role: im.MemberMember}}}, {Op: Archive, On: true}} {
		cmd.Actor, cmd.Conv = w.actor("ann"), id
		if err := w.try(&cmd); !im.Is(err, im.Forbidden) {
			t.Errorf("%v by a user: %v", cmd.Op, err)
		}
	}
	direct := w.do(&Command{Op: Direct, Actor: w.actor("ann"), Users: []im.UserID{"u_ben"}}).Head.ID
	if err := w.try(&Command{Op: Archive, System: true, Actor: box, Conv: direct, On: true}); !im.Is(err, im.Forbidden) {
		t.Errorf("a direct is archived: %v", err)
	}
}
