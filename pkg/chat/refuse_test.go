package chat

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// TestRefused goes through what is well formed but not acceptable, and checks
// kind, field and limit (PROTOCOL 2, 4.5).
func TestRefused(t *testing.T) {
	w := newWorld(t)
	ann := w.actor("ann")
	id := w.group(im.KindGroup, ann, w.actor("ben"))
	w.send(ann, id, "x")
	many := make([]im.UserID, im.MaxMembersInCall+1)
	for i := range many {
		many[i] = im.UserID(fmt.Sprint("u_", i))
	}
	long := strings.Repeat("é", im.MaxTitleRunes+1)
	for _, c := range []struct {
		cmd   Command
		kind  im.Kind
		field string
		limit int64
	}{
		{Command{Op: Create, Kind: im.KindGroup, Title: "x", Users: many}, im.TooLarge, "members", 500},
		{Command{Op: Create, Kind: im.KindGroup, Title: long}, im.Invalid, "title", 0},
		{Command{Op: Create, Kind: im.KindGroup, Title: "\xff"}, im.Invalid, "title", 0},
		{Command{Op: Create, Kind: 0, Title: "x"}, im.Invalid, "kind", 0},
		{Command{Op: Invite, Users: many}, im.TooLarge, "users", 500},
		{Command{Op: Remove, Users: many}, im.TooLarge, "users", 500},
		{Command{Op: Send, Text: "x", Mentions: many[:im.MaxMentions+1]}, im.TooLarge, "mentions", 100},
		{Command{Op: Send, Text: "\xff"}, im.Invalid, "text", 0},
		{Command{Op: Send, Text: strings.Repeat("é", 51)}, im.TooLarge, "text", 100},
		{Command{Op: Edit, Target: 1}, im.Invalid, "text", 0},
		{Command{Op: React, Target: 1, Emoji: strings.Repeat("x", im.MaxEmojiBytes+1), On: true}, im.Invalid, "emoji", 0},
		{Command{Op: SetRole, Users: []im.UserID{"u_ben"}}, im.Invalid, "role", 0},
		{Command{Op: SetRole, Users: nil, Role: im.MemberReader}, im.BadParams, "user", 0},
		{Command{Op: Direct}, im.BadParams, "user", 0},
		{Command{Op: Update, Title: long}, im.Invalid, "title", 0},
		{Command{Op: Archive + 1}, im.Internal, "", 0},
	} {
		cmd := c.cmd
		cmd.Actor, cmd.Conv, cmd.Key = ann, id, newKey()
		var e *im.Error
		if err := w.try(&cmd); !errors.As(err, &e) || e.Kind != c.kind || e.Field != c.field || e.Limit != c.limit {
			t.Errorf("%v: got %+v, want %v %s %d", cmd.Op, e, c.kind, c.field, c.limit)
		}
	}
	if err := w.try(&Command{Op: Send, Actor: ann, Conv: id, Text: "x"}); !im.Is(err, im.Invalid) {
		t.Errorf("without a key: %v", err)
	}
	if h, err := w.chat.Head(context.Background(), ann, id); err != nil || h.Head != 1 {
		t.Errorf("refused commands left something: %+v %v", h, err)
	}
}

// TestEveryCommandCounts: each that appends is held by the rate, and leaves
// nothing behind then (PROTOCOL 6.6).
func TestEveryCommandCounts(t *testing.T) {
	var limit atomic.Int64
	w := newWorld(t, func(o *Options) {
		o.Limits = func() im.Limits { return im.Limits{TextBytes: 100, SendsPerMinute: int(limit.Load())} }
	})
	ann := w.actor("ann")
	id := w.group(im.KindGroup, ann, w.actor("ben"))
	w.send(ann, id, "x")
	other := w.group(im.KindChannel, w.actor("ada"))
	limit.Store(1)
	// A first command takes the one token that a bucket of one has.
	if err := w.try(&Command{Op: Direct, Actor: ann, Users: []im.UserID{"u_ben"}}); err != nil {
		t.Fatal(err)
	}
	before, err := w.chat.Heads(context.Background(), ann, HeadsQuery{})
	if err != nil {
		t.Fatal(err)
	}
	w.taken()
	ben := []im.UserID{"u_ben"}
	for _, cmd := range []Command{
		{Op: Send, Text: "x"}, {Op: Edit, Target: 1, Text: "y"}, {Op: Recall, Target: 1}, {Op: React, Target: 1, Emoji: "👍", On: true},
		{Op: React, Target: 1, Emoji: "👍"}, {Op: Pin, Target: 1, On: true}, {Op: Create, Kind: im.KindGroup, Title: "y"},
		{Op: Direct, Users: []im.UserID{"u_cid"}}, {Op: Direct, Users: ben}, {Op: Update, Title: "New"}, {Op: Update, Title: "Room"},
		{Op: Join, Conv: other}, {Op: Join}, {Op: Invite, Users: []im.UserID{"u_cid"}}, {Op: Invite, Users: ben},
		{Op: Remove, Users: ben}, {Op: SetRole, Users: ben, Role: im.MemberReader},
	} {
		cmd.Actor, cmd.Key = ann, newKey()
		if cmd.Conv == "" {
			cmd.Conv = id
		}
		if err := w.try(&cmd); !im.Is(err, im.RateLimited) {
			t.Errorf("%v: %v", cmd.Op, err)
		}
		if cmd.Op.keyed() {
			if _, err := w.store.Key(context.Background(), tenant, ann.User, cmd.Key); !im.Is(err, im.NotFound) {
				t.Errorf("%v: the key of a refused request is remembered", cmd.Op)
			}
		}
	}
	if err := w.try(&Command{Op: Leave, Actor: w.actor("ben"), Conv: id}); err != nil {
		t.Errorf("leave, by one who has a token: %v", err)
	}
	if err := w.try(&Command{Op: Leave, Actor: w.actor("ben"), Conv: id}); !im.Is(err, im.NotFound) {
		t.Errorf("permission is looked at before rate: %v", err)
	}
	if err := w.try(&Command{Op: Mark, Actor: ann, Conv: id, Seq: 1}); err != nil {
		t.Errorf("a mark: %v", err)
	}
	for _, e := range w.taken() {
		if e.Entry != nil && e.Entry.By == ann.User || e.Head != nil && e.User == ann.User {
			t.Errorf("a refused command was heard: %+v", e)
		}
	}
	after, err := w.chat.Heads(context.Background(), ann, HeadsQuery{})
	if err != nil || len(after.Heads) != len(before.Heads) {
		t.Errorf("%d conversations, %d before (%v)", len(after.Heads), len(before.Heads), err)
	}
}

// TestManyEmojis: a message's record stays small.
func TestManyEmojis(t *testing.T) {
	w := newWorld(t)
	id := w.group(im.KindGroup, w.actor("ann"), w.actor("ben"))
	w.send(w.actor("ann"), id, "x")
	react := func(who, emoji string) error {
		return w.try(&Command{Op: React, Actor: w.actor(who), Conv: id, Target: 1, Emoji: emoji, On: true, Key: newKey()})
	}
	for i := range maxEmojis {
		if err := react("ann", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	var e *im.Error
	if err := react("ben", "one more"); !errors.As(err, &e) || e.Kind != im.TooLarge || e.Limit != maxEmojis {
		t.Errorf("one more: %v", err)
	}
	if err := react("ben", "7"); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

// TestLargeBatch: what waits is committed in parts, in order, none left out.
func TestLargeBatch(t *testing.T) {
	var commits, writes int
	w := newWorld(t, func(o *Options) {
		o.OnCommit = func(n int, _ time.Duration, _ error) { commits, writes = commits+1, writes+n }
	})
	id := w.group(im.KindGroup, w.actor("ann"))
	w.settle()
	commits, writes = 0, 0
	var cmds []*Command
	for range 2*maxBatch + 1 {
		cmds = append(cmds, &Command{Op: Send, Actor: w.actor("ann"), Conv: id, Key: newKey(), Text: "x"})
	}
	results, errs := submit(w, cmds)
	for i := range cmds {
		if errs[i] != nil || results[i].Seq != im.Seq(i+1) {
			t.Fatalf("%d: %+v %v", i, results[i], errs[i])
		}
	}
	w.settle()
	if commits != 3 || writes != len(cmds) {
		t.Errorf("%d commits of %d writes, want 3 of %d", commits, writes, len(cmds))
	}
}

// peeking reads the conversations of a user as soon as they are stored, before
// the commit goroutine makes them visible.
type peeking struct {
	store.Store
	after func()
}

func (s *peeking) Append(ctx context.Context, batch []*store.Write) error {
	err := s.Store.Append(ctx, batch)
	if s.after != nil {
		s.after()
	}
	return err
}

// TestReaderMeetsNewConversation: who reads a conversation from the store between
// its commit and its publication must not see it stand still from then on.
func TestReaderMeetsNewConversation(t *testing.T) {
	peek := &peeking{}
	w := newWorld(t, func(o *Options) { peek.Store = o.Store.(store.Store); o.Store = peek })
	ctx, ben := context.Background(), w.actor("ben")
	met := 0
	w.settle()
	peek.after = func() {
		p, err := w.chat.Heads(ctx, ben, HeadsQuery{})
		if err != nil {
			t.Error(err)
		}
		met = len(p.Heads)
	}
	id := w.group(im.KindGroup, w.actor("ann"), ben)
	if met != 1 {
		t.Fatalf("the reader met %d conversations: this test tests nothing", met)
	}
	w.send(w.actor("ann"), id, "x")
	if h, err := w.chat.Head(ctx, ben, id); err != nil || h.Head != 1 {
		t.Errorf("%+v %v", h, err)
	}
	w.settle()
	if s := w.chat.Stats(); s.Conversations != 1 {
		t.Errorf("%d conversations in memory", s.Conversations)
	}
	w.checkCount()
}
