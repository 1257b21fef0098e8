package access

import "github.com/pipit-im/pipit/pkg/im"

// AdminAction is something that a user does with the tenant or its users.
type AdminAction uint8

// The administrative actions. Those on a user take the user's role as target.
const (
	ListUsers AdminAction = iota + 1
	AddUser
	UpdateUser // name, role, disabled; asked for the old role and for the new one
	SetPassword
	UpdateTenant
)

var adminActionNames = [...]string{"", "list_users", "add_user", "update_user", "set_password", "update_tenant"}

// String returns the action's name for logs and tests.
func (a AdminAction) String() string {
	if int(a) < len(adminActionNames) {
		return adminActionNames[a]
	}
	return ""
}

// Administer says whether actor may do that action to a user whose role is
// target, or whose role it shall become; ListUsers and UpdateTenant have no
// target. Owners may do everything, admins everything that touches no owner, all
// others nothing. Which tenant it is about is the caller's look-out: it must be
// actor.Tenant. The refusal is an *im.Error of kind Forbidden.
func Administer(actor im.Actor, target im.Role, action AdminAction) error {
	switch {
	case actor.Role != im.RoleOwner && actor.Role != im.RoleAdmin:
		return im.E(im.Forbidden, "Only owners and admins of the organisation may do that.")
	case action == ListUsers || action == UpdateTenant:
		return nil
	case action != AddUser && action != UpdateUser && action != SetPassword || !known(target):
		return im.E(im.Forbidden, "That can't be done.")
	case target == im.RoleOwner && actor.Role != im.RoleOwner:
		return im.E(im.Forbidden, "Only an owner may do that to an owner, or make one.")
	}
	return nil
}
