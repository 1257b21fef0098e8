package chat

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"pgregory.net/rapid"
)

var people = []string{"olga", "ann", "ben", "cid", "gus"}

// TestHistories runs random commands of random users, in random batches, with
// restarts, failed commits and a cache that is too small, against the reference;
// what is read must be what the reference counts and what the store holds.
func TestHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		cacheBytes := rapid.SampledFrom([]int{1, 40 << 10, 1 << 20}).Draw(rt, "cache")
		w := newWorld(t, func(o *Options) { o.CacheBytes = cacheBytes })
		kinds := []im.ConvKind{im.KindGroup, im.KindChannel, im.KindNotice, im.KindDirect}
		refs := make([]*reference, len(kinds))
		ids := make([]im.ConvID, len(kinds))
		for i, kind := range kinds {
			if kind == im.KindDirect {
				ids[i] = w.do(&Command{Op: Direct, Actor: w.actor("ann"), Users: []im.UserID{"u_ben"}}).Head.ID
				refs[i] = newReference(kind, "u_ann", "u_ben")
				refs[i].roles["u_ann"] = im.MemberMember
				continue
			}
			ids[i] = w.group(kind, w.actor("ann"), w.actor("ben"), w.actor("cid"))
			refs[i] = newReference(kind, "u_ann", "u_ben", "u_cid")
		}
		w.taken()
		heard := make([]im.Seq, len(kinds)) // newest entry event
		planted := false
		for range rapid.IntRange(10, 60).Draw(rt, "batches") {
			switch rapid.IntRange(0, 19).Draw(rt, "world") {
			case 0:
				w.stop()
				w.start()
			case 1:
				w.store.FailNext(fmt.Errorf("planted"))
				planted = true
			}
			var cmds []*Command
			var at []int
			for range rapid.IntRange(1, 6).Draw(rt, "commands") {
				i := max(0, rapid.IntRange(-3, len(kinds)-1).Draw(rt, "conversation"))
				cmds, at = append(cmds, randomCommand(rt, w, ids[i], refs[i])), append(at, i)
			}
			results, errs := submit(w, cmds)
			for i, cmd := range cmds {
				if planted && im.Is(errs[i], im.Internal) {
					planted = false // it met a command that was alone in its batch
					continue
				}
				res, kind, ok := refs[at[i]].run(cmd)
				switch {
				case ok != (errs[i] == nil) || !ok && im.KindOf(errs[i]) != kind:
					rt.Fatalf("%v %+v: got %v, want ok=%v %v", cmd.Op, cmd, errs[i], ok, kind)
				case ok && (res.Seq != results[i].Seq || res.Repeat != results[i].Repeat):
					rt.Fatalf("%v %+v: got %+v, want %+v", cmd.Op, cmd, results[i], res)
				}
			}
			for _, e := range w.taken() {
				if e.Kind == bus.Entry {
					for i := range ids {
						if ids[i] == e.Conv {
							if heard[i]++; e.Seq != heard[i] {
								rt.Fatalf("entry %d was published after %d", e.Seq, heard[i]-1)
							}
						}
					}
				}
			}
			for i := range ids {
				compare(rt, w, ids[i], refs[i], rapid.IntRange(0, len(people)-1).Draw(rt, "reader"))
				if int(heard[i]) != len(refs[i].log) {
					rt.Fatalf("%d entries were published of %d", heard[i], len(refs[i].log))
				}
			}
		}
		w.stop()
		w.start() // for the cleanup
	})
}

func submit(w *world, cmds []*Command) ([]Result, []error) {
	results, errs := make([]Result, len(cmds)), make([]error, len(cmds))
	var wg sync.WaitGroup
	release := w.hold()
	for i, cmd := range cmds {
		wg.Add(1)
		w.chat.Submit(cmd, ReplyFunc(func(_ *Command, res Result, err error) {
			results[i], errs[i] = res, err
			wg.Done()
		}))
	}
	release()
	wg.Wait()
	return results, errs
}

func randomCommand(rt *rapid.T, w *world, id im.ConvID, ref *reference) *Command {
	user := rapid.Custom(func(rt *rapid.T) im.UserID {
		return im.UserID("u_" + rapid.SampledFrom(people).Draw(rt, "user"))
	})
	seq := rapid.Custom(func(rt *rapid.T) im.Seq { return im.Seq(rapid.IntRange(0, len(ref.log)+1).Draw(rt, "seq")) })
	var messages []im.Seq // that are not recalled: what most commands are about
	for _, e := range ref.log {
		if e.Kind == im.EntryMessage && !ref.recalled(e.Seq) {
			messages = append(messages, e.Seq)
		}
	}
	target := seq
	if len(messages) > 0 && rapid.IntRange(0, 5).Draw(rt, "good target") > 0 {
		target = rapid.SampledFrom(messages)
	}
	ops := []Op{Send, Send, Send, Send, Send, Send, Edit, Edit, Edit, Recall, React, React, React, React, React, Pin, Pin, Pin,
		Mark, Mark, Mark, Update, Join, Join, Leave, Invite, Invite, Remove, SetRole}
	cmd := &Command{Op: rapid.SampledFrom(ops).Draw(rt, "op"), Conv: id, Actor: w.actor(rapid.SampledFrom(people).Draw(rt, "actor"))}
	if cmd.Op == Edit && len(messages) > 0 && rapid.IntRange(0, 3).Draw(rt, "own") > 0 {
		m := ref.log[rapid.SampledFrom(messages).Draw(rt, "own message")-1]
		cmd.Actor.User, cmd.Target = m.By, m.Seq
	}
	if cmd.Op.keyed() {
		cmd.Key = string(id) + rapid.StringMatching(`[0-9]{2}`).Draw(rt, "key") // some come twice
	}
	switch cmd.Op {
	case Send:
		cmd.Text = rapid.StringMatching(`[a-d]{1,3}`).Draw(rt, "text")
		if rapid.IntRange(0, 3).Draw(rt, "reply") == 0 {
			cmd.ReplyTo = seq.Draw(rt, "reply to")
		}
		cmd.Mentions = rapid.SliceOfN(user, 0, 2).Draw(rt, "mentions")
	case Edit:
		cmd.Text = "edited"
		if cmd.Target == 0 {
			cmd.Target = target.Draw(rt, "target")
		}
	case Recall:
		cmd.Target = target.Draw(rt, "target")
	case React:
		cmd.Target, cmd.On = target.Draw(rt, "target"), rapid.IntRange(0, 2).Draw(rt, "on") > 0
		cmd.Emoji = rapid.SampledFrom([]string{"👍", "🎉"}).Draw(rt, "emoji")
	case Pin:
		cmd.Target, cmd.On = target.Draw(rt, "target"), rapid.Bool().Draw(rt, "on")
	case Update:
		cmd.Title = rapid.SampledFrom([]string{"Room", "Hall"}).Draw(rt, "title")
	case Invite, Remove:
		cmd.Users = rapid.SliceOfNDistinct(user, 1, 2, rapid.ID).Draw(rt, "users")
	case SetRole:
		cmd.Users = []im.UserID{user.Draw(rt, "user")}
		cmd.Role = im.MemberRole(rapid.IntRange(1, 4).Draw(rt, "role"))
	case Mark:
		cmd.Seq = seq.Draw(rt, "mark")
	}
	cmd.Body = bodyOf(cmd)
	return cmd
}

// compare reads a conversation as one of the people does.
func compare(rt *rapid.T, w *world, id im.ConvID, ref *reference, who int) {
	ctx, actor := context.Background(), w.actor(people[who])
	h, err := w.chat.Head(ctx, actor, id)
	if ref.roles[actor.User] == 0 {
		if err == nil {
			rt.Fatalf("a stranger got %+v", h)
		}
		return
	}
	if err != nil {
		rt.Fatalf("head: %v", err)
	}
	_, members := ref.owners()
	unread, mentions := ref.unread(actor.User)
	got := []any{h.Head, h.Read, h.Unread, h.Mentions, h.Role, h.Members, h.Title}
	want := []any{im.Seq(len(ref.log)), ref.reads[actor.User], unread, mentions, ref.roles[actor.User], members, ref.title}
	if h.Kind == im.KindDirect {
		got, want = got[:6], want[:6]
	}
	if !reflect.DeepEqual(got, want) {
		rt.Fatalf("head of %s for %s: got %v, want %v", ref.kind, actor.User, got, want)
	}
	limit := rapid.SampledFrom([]int{1, 3, 0}).Draw(rt, "limit")
	q := HistoryQuery{Conv: id, Limit: limit}
	from, to := max(1, len(ref.log)-limit+1), len(ref.log)
	if limit == 0 {
		from = 1
	}
	switch rapid.IntRange(0, 2).Draw(rt, "page") {
	case 1:
		q.HasAfter, q.After = true, im.Seq(rapid.IntRange(0, to).Draw(rt, "after"))
		from = int(q.After) + 1
		if limit > 0 {
			to = min(to, from+limit-1)
		}
	case 2:
		q.HasBefore, q.Before = true, im.Seq(rapid.IntRange(1, to+1).Draw(rt, "before"))
		to = int(q.Before) - 1
		from = max(1, to-limit+1)
		if limit == 0 {
			from = 1
		}
	}
	page, err := w.chat.History(ctx, actor, q)
	if err != nil {
		rt.Fatalf("history: %v", err)
	}
	stored, err := w.store.Page(ctx, tenant, id, actor.User, im.Seq(from), im.Seq(to))
	if err != nil {
		rt.Fatal(err)
	}
	if to < from {
		stored.Entries = nil
	}
	if len(page.Entries) != len(stored.Entries) || page.Head != stored.Head {
		rt.Fatalf("history %+v: %d entries and head %d, want %d and %d", q, len(page.Entries), page.Head, len(stored.Entries), stored.Head)
	}
	for i := range page.Entries {
		if !same(&page.Entries[i], &stored.Entries[i]) {
			rt.Fatalf("history as %s sees it: got\n%+v\nwant\n%+v", actor.User, page.Entries[i], stored.Entries[i])
		}
		if e := ref.log[stored.Entries[i].Seq-1]; e.Kind != page.Entries[i].Kind || e.By != page.Entries[i].By || e.Target != page.Entries[i].Target {
			rt.Fatalf("history: got %+v, want %+v", page.Entries[i], e)
		}
	}
	if h.Last != nil {
		last, err := w.store.Page(ctx, tenant, id, actor.User, h.Last.Seq, h.Last.Seq)
		if err != nil {
			rt.Fatal(err)
		}
		last.Entries[0].Key = ""
		if !same(h.Last, &last.Entries[0]) {
			rt.Fatalf("last: got\n%+v\nwant\n%+v", h.Last, last.Entries[0])
		}
	}
	for _, e := range ref.log {
		if e.Kind == im.EntryMessage && h.Last == nil || h.Last != nil && e.Kind == im.EntryMessage && e.Seq > h.Last.Seq {
			rt.Fatalf("last is %v, but %d is a message", h.Last, e.Seq)
		}
	}
	var peers []im.UserID
	members2, _, err := w.chat.Members(ctx, actor, id, "", 0)
	if err != nil {
		rt.Fatal(err)
	}
	for _, m := range members2 {
		if ref.roles[m.User] != m.Role || ref.reads[m.User] != m.Read {
			rt.Fatalf("member %+v, want %v read %d", m, ref.roles[m.User], ref.reads[m.User])
		}
		peers = append(peers, m.User)
	}
	if len(peers) != members {
		rt.Fatalf("%d members are listed of %d", len(peers), members)
	}
}

// same compares two messages; no slice and an empty one are the same.
func same(a, b *im.Message) bool {
	norm := func(m im.Message) im.Message {
		if len(m.Mentions) == 0 {
			m.Mentions = nil
		}
		if len(m.Reactions) == 0 {
			m.Reactions = nil
		}
		return m
	}
	return reflect.DeepEqual(norm(*a), norm(*b))
}
