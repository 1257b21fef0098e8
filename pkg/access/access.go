// Package access decides who may do what to whom: pure functions of roles, a
// tenant's policy and facts; no state, no I/O, no clock.
//
// It owns the one table (table.go: PROTOCOL 4.1, 4.3, 4.6 and who administers a
// tenant), the policy that each tenant may change on top of it (policy.go:
// PROTOCOL 4.7, 6.7), and the words for people of both. The handbook's page of
// roles is made from them (go generate), so that it can't be wrong. It never
// looks anything up: the caller brings the facts, and brings them from one
// snapshot. Every function may be called from any goroutine; deciding allocates
// nothing when the answer is yes. A *Policy is immutable once handed out.
package access

import (
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

//go:generate go test -run TestHandbook -update .

// Action is something that a user does with a conversation.
type Action uint8

// The actions. Those up to Find are about what the conversation need not exist
// for, or the caller need not be a member of.
const (
	Create      Action = iota + 1 // make a conversation of a kind (PROTOCOL 4.3)
	Find                          // list the tenant's channels
	Join                          // become a member by oneself
	Read                          // history, pins, members, head, typing
	Mark                          // move one's read mark
	React                         // add or take back one's reaction
	Leave                         // stop being a member
	Send                          // post a message
	Edit                          // change a message's text; Object.Own counts
	Recall                        // take a message back; Object.Own counts
	Pin                           // pin or unpin a message
	Rename                        // set the title
	Invite                        // make others members
	Remove                        // make others leave; Object.Target counts
	SetRole                       // change a member's role; Object.Target and To count
	SeeReceipts                   // read.list (PROTOCOL 7.3); Object.Own counts
)

var actionNames = [...]string{"", "create", "find", "join", "read", "mark", "react", "leave", "send", "edit",
	"recall", "pin", "rename", "invite", "remove", "set_role", "see_receipts"}

// String returns the action's name for logs and tests.
func (a Action) String() string {
	if int(a) < len(actionNames) {
		return actionNames[a]
	}
	return ""
}

// Object holds the facts about what is acted on. With a zero Target, To and
// Peer, and Own set, Decide answers whether the caller may do the action to
// anything at all.
type Object struct {
	Own         bool          // Edit, Recall, SeeReceipts: the message is the caller's own
	Target      im.MemberRole // Remove, SetRole: the member's role now
	To          im.MemberRole // SetRole: the role that the member shall have
	Archived    bool          // the conversation is over (PROTOCOL 4.6)
	Peer        im.Role       // direct: the tenant role of the other one, 0: not known
	SharesClass bool          // Create of a direct: the two share a class
}

// Decide says whether a user with tenant role actor and member role member (0:
// no member) may do act in a conversation of that kind, by the tenant's policy
// (nil: Open). It returns nil, or an *im.Error: NotFound where the caller may not
// know of the conversation, Forbidden where the caller may see it. What depends
// on the other members (the last owner, PROTOCOL 4.3) is LastOwner's; what
// depends on the time is QuietFor's.
func Decide(p *Policy, actor im.Role, member im.MemberRole, kind im.ConvKind, act Action, obj Object) error {
	if p == nil {
		p = Open
	}
	switch act {
	case Create:
		return create(p, actor, kind, obj)
	case Find:
		return find(p, actor)
	}
	if member == 0 {
		return stranger(p, actor, kind, act, obj)
	}
	switch {
	case !allowed(member, kind, act, obj):
		return refuse(kind, act)
	case obj.Archived && !whileArchived.has(act):
		return archived()
	case act == Send || act == Edit:
		return writes(p, actor, kind, obj)
	}
	return nil
}

// create is who may start what: the last sentence of PROTOCOL 4.3, and 4.7.
func create(p *Policy, actor im.Role, kind im.ConvKind, obj Object) error {
	if kind == im.KindDirect {
		return startDirect(p, actor, obj)
	}
	if known(actor) && kind > im.KindDirect && kind <= im.KindNotice && p.create[actor].has(kind) {
		return nil
	}
	return im.E(im.Forbidden, "Your role does not allow you to start a conversation of this kind.")
}

func startDirect(p *Policy, actor im.Role, obj Object) error {
	if !known(actor) {
		return im.E(im.Forbidden, "Your role does not allow you to start a conversation of this kind.")
	}
	if obj.Peer == 0 { // with anybody at all?
		for to := im.RoleOwner; to <= im.RoleBot; to++ {
			if p.direct[actor][to] != No {
				return nil
			}
		}
		return im.E(im.Forbidden, "Your role does not allow you to start a conversation of this kind.")
	}
	switch rule := p.direct[actor][obj.Peer&7]; {
	case rule == Yes || rule == InClass && obj.SharesClass:
		return nil
	case rule == InClass:
		return im.E(im.Forbidden, "You may write to this person only while you share a class.")
	}
	return im.E(im.Forbidden, "Your organisation's rules do not let you start a conversation with this person.")
}

// writes is what tenant role and policy add to a member's right to post.
func writes(p *Policy, actor im.Role, kind im.ConvKind, obj Object) error {
	if kind != im.KindDirect {
		if actor == im.RoleGuardian {
			return im.E(im.Forbidden, "Guardians write to staff only, in conversations of two.")
		}
		return nil
	}
	if !known(actor) || !known(obj.Peer) {
		return nil // who the other is is not known: the direct was allowed once
	}
	if p.direct[actor][obj.Peer] == No && p.direct[obj.Peer][actor] == No {
		return im.E(im.Forbidden, "Your organisation's rules do not let the two of you write to each other any more.")
	}
	return nil
}

func find(p *Policy, actor im.Role) error {
	if known(actor) && p.find.has(actor) {
		return nil
	}
	return im.E(im.Forbidden, "Guests see only the conversations that they were invited to.")
}

func known(actor im.Role) bool { return actor >= im.RoleOwner && actor <= im.RoleBot }

// stranger is PROTOCOL 4.1: a channel may be joined, and answers forbidden to
// all else; who may not find channels, and everybody elsewhere, may not even know
// that it exists.
func stranger(p *Policy, actor im.Role, kind im.ConvKind, act Action, obj Object) error {
	if kind != im.KindChannel || find(p, actor) != nil {
		return NotFound()
	}
	switch {
	case act != Join:
		return im.E(im.Forbidden, "Join the channel first.")
	case obj.Archived:
		return archived()
	}
	return nil
}

// NotFound is the one answer for a conversation that does not exist and for one
// that the caller may not know of (PROTOCOL 2).
func NotFound() error { return im.E(im.NotFound, "There is no such conversation.") }

func archived() error {
	e := im.E(im.Forbidden, "This conversation is over. It can be read, but nothing can be added.")
	e.Reason = im.Archived
	return e
}

// allowed looks a member's right up in the table of PROTOCOL 4.3.
func allowed(member im.MemberRole, kind im.ConvKind, act Action, obj Object) bool {
	if member > im.MemberReader || kind > im.KindNotice || act > SeeReceipts {
		return false
	}
	own := 0
	if obj.Own {
		own = 1
	}
	if !memberRights[kind][act][own].has(member) {
		return false
	}
	switch act {
	case Remove:
		return obj.Target == 0 || governs[member].has(obj.Target)
	case SetRole:
		return (obj.Target == 0 || governs[member].has(obj.Target)) && (obj.To == 0 || governs[member].has(obj.To))
	}
	return true
}

// Sees says whether a user with role viewer may see one with role seen in the
// directory and in presence (PROTOCOL 4.7, 8.2): sharesClass whether the two
// share a class, linked whether one is the other's guardian. Everybody sees
// oneself; the caller knows that.
func Sees(p *Policy, viewer, seen im.Role, sharesClass, linked bool) bool {
	if p == nil {
		p = Open
	}
	if linked {
		return true
	}
	if !known(viewer) || !known(seen) {
		return false
	}
	rule := p.see[viewer][seen]
	return rule == Yes || rule == InClass && sharesClass
}

// QuietFor says how long, at that time, the quiet hours of a role still last; 0:
// there are none now (PROTOCOL 6.7).
func (p *Policy) QuietFor(role im.Role, now time.Time) time.Duration {
	if p == nil || !known(role) {
		return 0
	}
	return p.quiet[role].left(now.In(p.zone))
}

// PassesQuiet says whether messages that a role posts on a board in a
// conversation of that kind go out in its quiet hours.
func (p *Policy) PassesQuiet(role im.Role, kind im.ConvKind) bool {
	return p != nil && known(role) && kind == im.KindNotice && p.pass.has(role)
}

// KeepsRecalled says whether the store keeps the text of what is recalled, which
// is served to nobody either way (PROTOCOL 5.4).
func (p *Policy) KeepsRecalled() bool { return p != nil && p.recall == Hide }

func refuse(kind im.ConvKind, act Action) error {
	switch {
	case act == Leave:
		return im.E(im.Forbidden, "Nobody can leave a conversation of two.")
	case kind == im.KindNotice && (act == Send || act == Edit):
		return im.E(im.Forbidden, "Only its owners and moderators write on this board.")
	case act == SeeReceipts:
		return im.E(im.Forbidden, "Only the author, owners and moderators see who has read a message.")
	}
	return im.E(im.Forbidden, "Your role in this conversation does not allow that.")
}

// LastOwner refuses what would leave a conversation that has members without an
// owner (PROTOCOL 4.3): owners and members count those before and after.
func LastOwner(ownersBefore, ownersAfter, membersAfter int) error {
	if ownersBefore > 0 && ownersAfter == 0 && membersAfter > 0 {
		return im.E(im.Invalid, "Make somebody else an owner first: the last owner can't go while others remain.")
	}
	return nil
}
