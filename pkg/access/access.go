// Package access decides who may do what: pure functions of roles and facts, no
// state, no I/O, no clock. It holds the role table of PROTOCOL 4.1 and 4.3 and
// the table of who may administer a tenant.
//
// It owns the decisions and their words for people. It never looks anything up:
// the caller brings the facts, and brings them from one snapshot. Every function
// may be called from any goroutine and allocates nothing when it says yes.
package access

import "github.com/pipit-im/pipit/pkg/im"

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

// Object holds the facts about what is acted on. With a zero Target and To, and
// Own set, Decide answers whether the caller may do the action to anything at all.
type Object struct {
	Own    bool          // Edit, Recall, SeeReceipts: the message is the caller's own
	Target im.MemberRole // Remove, SetRole: the member's role now
	To     im.MemberRole // SetRole: the role that the member shall have
}

// Decide says whether a user with tenant role actor and member role member (0:
// no member) may do act in a conversation of that kind. It returns nil, or an
// *im.Error: NotFound where the caller may not know of the conversation,
// Forbidden where the caller may see it. What depends on the other members (the
// last owner, PROTOCOL 4.3) is LastOwner's.
func Decide(actor im.Role, member im.MemberRole, kind im.ConvKind, act Action, obj Object) error {
	switch act {
	case Create:
		return create(actor, kind)
	case Find:
		return find(actor)
	}
	if member == 0 {
		return stranger(actor, kind, act)
	}
	if allowed(member, kind, act, obj) {
		return nil
	}
	return refuse(kind, act)
}

// create is the last sentence of PROTOCOL 4.3.
func create(actor im.Role, kind im.ConvKind) error {
	switch actor {
	case im.RoleOwner, im.RoleAdmin, im.RoleStaff:
		if kind >= im.KindDirect && kind <= im.KindNotice {
			return nil
		}
	case im.RoleMember:
		if kind == im.KindDirect || kind == im.KindGroup {
			return nil
		}
	}
	return im.E(im.Forbidden, "Your role does not allow you to start a conversation of this kind.")
}

func find(actor im.Role) error {
	if known(actor) && actor != im.RoleGuest {
		return nil
	}
	return im.E(im.Forbidden, "Guests see only the conversations that they were invited to.")
}

func known(actor im.Role) bool { return actor >= im.RoleOwner && actor <= im.RoleGuest }

// stranger is PROTOCOL 4.1: a channel may be joined, and answers forbidden to
// all else; a guest, and everybody elsewhere, may not even know that it exists.
func stranger(actor im.Role, kind im.ConvKind, act Action) error {
	if kind != im.KindChannel || find(actor) != nil {
		return NotFound()
	}
	if act == Join {
		return nil
	}
	return im.E(im.Forbidden, "Join the channel first.")
}

// NotFound is the one answer for a conversation that does not exist and for one
// that the caller may not know of (PROTOCOL 2).
func NotFound() error { return im.E(im.NotFound, "There is no such conversation.") }

// allowed is the table of PROTOCOL 4.3 for members.
func allowed(member im.MemberRole, kind im.ConvKind, act Action, obj Object) bool {
	runs := member == im.MemberOwner || member == im.MemberModerator
	direct := kind == im.KindDirect
	switch act {
	case Join, Read, Mark, React:
		return true
	case Leave:
		return !direct // nobody leaves a direct
	case Send:
		return posts(member, kind)
	case Edit:
		return obj.Own && posts(member, kind)
	case Recall:
		if obj.Own {
			return posts(member, kind)
		}
		return runs && !direct
	case Pin:
		return runs || direct
	case Rename, Invite:
		return runs && !direct
	case Remove:
		return !direct && governs(member, obj.Target)
	case SetRole:
		return !direct && governs(member, obj.Target) && governs(member, obj.To)
	case SeeReceipts:
		return obj.Own || runs
	}
	return false
}

// posts says who may write messages: everybody but readers, and on a board only
// those who run it.
func posts(member im.MemberRole, kind im.ConvKind) bool {
	switch member {
	case im.MemberOwner, im.MemberModerator:
		return true
	case im.MemberMember:
		return kind != im.KindNotice
	}
	return false
}

// governs says whose membership one may change and into which role: an owner
// everybody's, a moderator that of members and readers. Role 0 is a role not
// known yet.
func governs(member, other im.MemberRole) bool {
	switch member {
	case im.MemberOwner:
		return true
	case im.MemberModerator:
		return other == 0 || other == im.MemberMember || other == im.MemberReader
	}
	return false
}

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
