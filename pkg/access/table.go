package access

import "github.com/pipit-im/pipit/pkg/im"

// The table of who may do what to whom. Decide and Administer read it, and the
// handbook's page is made from it.

// Sets of small numbers, as bits.
type (
	roleSet   uint16 // of im.Role
	memberSet uint8  // of im.MemberRole
	kindSet   uint8  // of im.ConvKind
	actionSet uint32 // of Action
)

func (s roleSet) has(r im.Role) bool         { return s>>r&1 != 0 }
func (s memberSet) has(r im.MemberRole) bool { return s>>r&1 != 0 }
func (s kindSet) has(k im.ConvKind) bool     { return s>>k&1 != 0 }
func (s actionSet) has(a Action) bool        { return s>>a&1 != 0 }

func roles(list ...im.Role) (s roleSet) {
	for _, r := range list {
		s |= 1 << r
	}
	return s
}

func members(list ...im.MemberRole) (s memberSet) {
	for _, r := range list {
		s |= 1 << r
	}
	return s
}

func kinds(list ...im.ConvKind) (s kindSet) {
	for _, k := range list {
		s |= 1 << k
	}
	return s
}

func actions(list ...Action) (s actionSet) {
	for _, a := range list {
		s |= 1 << a
	}
	return s
}

var (
	direct    = kinds(im.KindDirect)
	board     = kinds(im.KindNotice)
	talk      = kinds(im.KindGroup, im.KindChannel)
	many      = talk | board
	anywhere  = direct | many
	everybody = members(im.MemberOwner, im.MemberModerator, im.MemberMember, im.MemberReader)
	posters   = members(im.MemberOwner, im.MemberModerator, im.MemberMember)
	runners   = members(im.MemberOwner, im.MemberModerator)
)

// which says whose message an action is about.
type which uint8

const (
	either which = iota
	own
	others
)

// memberRow is one line of PROTOCOL 4.3: in conversations of those kinds, members
// with one of the roles who may do act.
type memberRow struct {
	act   Action
	whose which
	in    kindSet
	who   memberSet
}

// memberTable is what members may do. What it does not name nobody may.
var memberTable = []memberRow{
	{Join, either, anywhere, everybody}, // of what one is in: nothing happens
	{Read, either, anywhere, everybody},
	{Mark, either, anywhere, everybody},
	{React, either, anywhere, everybody},
	{Leave, either, many, everybody}, // nobody leaves a direct
	{Send, either, direct | talk, posters},
	{Send, either, board, runners},
	{Edit, own, direct | talk, posters},
	{Edit, own, board, runners},
	{Recall, own, direct | talk, posters},
	{Recall, own, board, runners},
	{Recall, others, many, runners},
	{Pin, either, direct, everybody},
	{Pin, either, many, runners},
	{Rename, either, many, runners},
	{Invite, either, many, runners},
	{Remove, either, many, runners},  // of whom governs says
	{SetRole, either, many, runners}, // from and to what governs says
	{SeeReceipts, own, anywhere, everybody},
	{SeeReceipts, others, anywhere, runners},
}

// governs says whose membership one may change, and into which roles.
var governs = [...]memberSet{
	im.MemberOwner:     everybody,
	im.MemberModerator: members(im.MemberMember, im.MemberReader),
	im.MemberReader:    0,
}

// whileArchived is what can still be done in a conversation that is over
// (PROTOCOL 4.6).
var whileArchived = actions(Join, Read, Mark, Leave, SeeReceipts)

// memberRights is memberTable by kind, action and whether the message is one's
// own.
var memberRights = func() (t [im.KindNotice + 1][SeeReceipts + 1][2]memberSet) {
	for _, row := range memberTable {
		for kind := im.KindDirect; kind <= im.KindNotice; kind++ {
			if !row.in.has(kind) {
				continue
			}
			if row.whose != own {
				t[kind][row.act][0] |= row.who
			}
			if row.whose != others {
				t[kind][row.act][1] |= row.who
			}
		}
	}
	return t
}()

// adminRow is one administrative action: which tenant roles may do it, and
// whether it is done to a user, whose role counts then (administers).
type adminRow struct {
	act    AdminAction
	who    roleSet
	toUser bool
}

var (
	heads    = roles(im.RoleOwner, im.RoleAdmin)
	allRoles = roles(im.RoleOwner, im.RoleAdmin, im.RoleStaff, im.RoleMember, im.RoleGuest, im.RoleGuardian, im.RoleBot)
)

// adminTable is who administers the tenant.
var adminTable = []adminRow{
	{ListUsers, heads, false},
	{AddUser, heads, true},
	{UpdateUser, heads, true},
	{SetPassword, heads, true},
	{UpdateTenant, heads, false},
	{ChangePolicy, heads, false},
	{ManageClasses, heads, false},
	{ImportRoster, heads, false},
	{ReadRecalled, roles(im.RoleOwner), false},
	{ViewBox, heads, false},
	{ManageBox, roles(im.RoleOwner), false},
}

// administers says to users of which roles one may do what is done to users.
var administers = [im.NumRoles]roleSet{
	im.RoleOwner: allRoles,
	im.RoleAdmin: allRoles &^ roles(im.RoleOwner),
}

var adminRights = func() (t [ManageBox + 1]adminRow) {
	for _, row := range adminTable {
		t[row.act] = row
	}
	return t
}()
