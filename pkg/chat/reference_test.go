package chat

import (
	"slices"

	"github.com/pipit-im/pipit/pkg/im"
)

// reference is what a conversation must answer, written from PROTOCOL 4 to 7 as
// plainly as possible: it keeps the whole log and counts everything anew.
type reference struct {
	kind  im.ConvKind
	title string
	log   []im.Entry
	roles map[im.UserID]im.MemberRole
	reads map[im.UserID]im.Seq
	keys  map[string]refKey
}

type refKey struct {
	cmd *Command
	res Result
}

func newReference(kind im.ConvKind, owner im.UserID, others ...im.UserID) *reference {
	r := &reference{kind: kind, title: "Room", roles: map[im.UserID]im.MemberRole{}, reads: map[im.UserID]im.Seq{}, keys: map[string]refKey{}}
	for _, u := range others {
		r.roles[u] = im.MemberMember
	}
	r.roles[owner] = im.MemberOwner
	return r
}

func (r *reference) add(e im.Entry) Result {
	e.Seq = im.Seq(len(r.log) + 1)
	r.log = append(r.log, e)
	return Result{Seq: e.Seq}
}

func (r *reference) runs(u im.UserID) bool {
	return r.roles[u] == im.MemberOwner || r.roles[u] == im.MemberModerator
}

func (r *reference) posts(u im.UserID) bool {
	return r.runs(u) || r.roles[u] == im.MemberMember && r.kind != im.KindNotice
}

func (r *reference) recalled(seq im.Seq) bool {
	return slices.ContainsFunc(r.log, func(e im.Entry) bool { return e.Kind == im.EntryRecall && e.Target == seq })
}

// standing is the newest reaction (of by) or pin entry on a target.
func (r *reference) standing(kind im.EntryKind, target im.Seq, by im.UserID, emoji string) (im.Seq, bool) {
	for _, e := range slices.Backward(r.log) {
		if e.Kind == kind && e.Target == target && (kind == im.EntryPin || e.By == by && e.Emoji == emoji) {
			return e.Seq, e.On
		}
	}
	return 0, false
}

func (r *reference) owners() (n, members int) {
	for _, role := range r.roles {
		if role == im.MemberOwner {
			n++
		}
		if role != 0 {
			members++
		}
	}
	return n, members
}

// run answers a command: its result without the time, or the kind of its error.
func (r *reference) run(cmd *Command) (Result, im.Kind, bool) {
	me := cmd.Actor.User
	if cmd.Op.keyed() {
		if k, ok := r.keys[string(me)+cmd.Key]; ok {
			if bodyOf(k.cmd) != cmd.Body {
				return Result{}, im.Conflict, false
			}
			k.res.Repeat = true
			return k.res, 0, true
		}
	}
	res, kind, ok := r.fresh(cmd)
	if ok && cmd.Op.keyed() {
		r.keys[string(me)+cmd.Key] = refKey{cmd, res}
	}
	return res, kind, ok
}

func (r *reference) fresh(cmd *Command) (Result, im.Kind, bool) {
	me := cmd.Actor.User
	no := func(k im.Kind) (Result, im.Kind, bool) { return Result{}, k, false }
	yes := func(e im.Entry) (Result, im.Kind, bool) { e.By = me; return r.add(e), 0, true }
	nothing := Result{}
	if r.roles[me] == 0 && !(cmd.Op == Join && r.kind == im.KindChannel && cmd.Actor.Role != im.RoleGuest) {
		if r.kind == im.KindChannel && cmd.Actor.Role != im.RoleGuest {
			return no(im.Forbidden)
		}
		return no(im.NotFound)
	}
	switch cmd.Op {
	case Send:
		switch {
		case !r.posts(me):
			return no(im.Forbidden)
		case cmd.ReplyTo != 0 && (int(cmd.ReplyTo) > len(r.log) || r.log[cmd.ReplyTo-1].Kind != im.EntryMessage):
			return no(im.Invalid)
		}
		e := im.Entry{Kind: im.EntryMessage, Text: cmd.Text, ReplyTo: cmd.ReplyTo}
		for _, u := range cmd.Mentions {
			if r.roles[u] != 0 && !slices.Contains(e.Mentions, u) {
				e.Mentions = append(e.Mentions, u)
			}
		}
		return yes(e)
	case Edit, Recall, React, Pin:
		if (cmd.Op == Edit || cmd.Op == Recall) && !r.posts(me) || cmd.Op == Pin && !r.runs(me) && r.kind != im.KindDirect {
			return no(im.Forbidden)
		}
		if cmd.Target == 0 || int(cmd.Target) > len(r.log) || r.log[cmd.Target-1].Kind != im.EntryMessage || r.recalled(cmd.Target) {
			return no(im.Invalid)
		}
		own := r.log[cmd.Target-1].By == me
		switch cmd.Op {
		case Edit:
			if !own {
				return no(im.Forbidden)
			}
			return yes(im.Entry{Kind: im.EntryEdit, Target: cmd.Target, Text: cmd.Text})
		case Recall:
			if !own && (!r.runs(me) || r.kind == im.KindDirect) {
				return no(im.Forbidden)
			}
			return yes(im.Entry{Kind: im.EntryRecall, Target: cmd.Target})
		}
		kind := im.EntryReaction
		if cmd.Op == Pin {
			kind = im.EntryPin
		}
		if seq, on := r.standing(kind, cmd.Target, me, cmd.Emoji); on == cmd.On {
			if seq == 0 {
				seq = cmd.Target
			}
			return Result{Seq: seq, Repeat: true}, 0, true
		}
		return yes(im.Entry{Kind: kind, Target: cmd.Target, Emoji: cmd.Emoji, On: cmd.On})
	case Update:
		if !r.runs(me) || r.kind == im.KindDirect {
			return no(im.Forbidden)
		}
		if r.title != cmd.Title {
			r.title = cmd.Title
			r.add(im.Entry{Kind: im.EntryMeta, By: me, Title: cmd.Title})
		}
	case Join:
		if r.roles[me] == 0 {
			r.joined(me, me)
		}
	case Leave:
		if r.kind == im.KindDirect {
			return no(im.Forbidden)
		}
		return r.gone(me, []im.UserID{me})
	case Invite:
		if !r.runs(me) || r.kind == im.KindDirect {
			return no(im.Forbidden)
		}
		for _, u := range cmd.Users {
			if r.roles[u] == 0 {
				r.joined(me, u)
			}
		}
	case Remove:
		if !r.runs(me) || r.kind == im.KindDirect {
			return no(im.Forbidden)
		}
		for _, u := range cmd.Users {
			if r.roles[u] == 0 {
				return no(im.NotFound)
			}
		}
		for _, u := range cmd.Users {
			if r.roles[me] == im.MemberModerator && r.runs(u) {
				return no(im.Forbidden)
			}
		}
		return r.gone(me, cmd.Users)
	case SetRole:
		u := cmd.Users[0]
		if !r.runs(me) || r.kind == im.KindDirect {
			return no(im.Forbidden)
		}
		was := r.roles[u]
		if was == 0 {
			return no(im.NotFound)
		}
		if r.roles[me] == im.MemberModerator && (r.runs(u) || cmd.Role == im.MemberOwner || cmd.Role == im.MemberModerator) {
			return no(im.Forbidden)
		}
		owners, members := r.owners()
		if was == im.MemberOwner && cmd.Role != was && owners == 1 && members > 1 {
			return no(im.Invalid)
		}
		if was != cmd.Role {
			r.roles[u] = cmd.Role
			r.add(im.Entry{Kind: im.EntryMember, By: me, User: u, Change: im.ChangeRole, Role: cmd.Role})
		}
	case Mark:
		r.reads[me] = max(r.reads[me], min(cmd.Seq, im.Seq(len(r.log))))
	}
	return nothing, 0, true
}

func (r *reference) joined(by, u im.UserID) {
	r.roles[u] = im.MemberMember
	r.add(im.Entry{Kind: im.EntryMember, By: by, User: u, Change: im.ChangeJoined, Role: im.MemberMember})
}

func (r *reference) gone(by im.UserID, users []im.UserID) (Result, im.Kind, bool) {
	owners, members := r.owners()
	going := 0
	for _, u := range users {
		if r.roles[u] == im.MemberOwner {
			going++
		}
	}
	if going > 0 && owners == going && members > len(users) {
		return Result{}, im.Invalid, false
	}
	for _, u := range users {
		r.roles[u] = 0
		r.add(im.Entry{Kind: im.EntryMember, By: by, User: u, Change: im.ChangeLeft})
	}
	return Result{}, 0, true
}

// unread is PROTOCOL 3.5.
func (r *reference) unread(u im.UserID) (unread, mentions int) {
	for _, e := range r.log {
		if e.Kind == im.EntryMessage && e.Seq > r.reads[u] && e.By != u && !r.recalled(e.Seq) {
			unread++
			if slices.Contains(e.Mentions, u) {
				mentions++
			}
		}
	}
	return unread, mentions
}
