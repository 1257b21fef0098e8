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
	ChangePolicy
	ManageClasses
	ImportRoster // reading rosters in, and printing login cards
	ReadRecalled // an inquiry into what was taken back; always in the audit log
	// The box itself, in the one tenant that looks after it (directory.Keeper).
	ViewBox   // health, load, backups
	ManageBox // the other tenants
)

var adminActionNames = [...]string{"", "list_users", "add_user", "update_user", "set_password", "update_tenant",
	"change_policy", "manage_classes", "import_roster", "read_recalled",
	"view_box", "manage_box"}

// String returns the action's name for logs and tests.
func (a AdminAction) String() string {
	if int(a) < len(adminActionNames) {
		return adminActionNames[a]
	}
	return ""
}

// Administer says whether actor may do that action to a user whose role is
// target, or whose role it shall become; actions that are not done to a user
// have no target. Which tenant it is about is the caller's look-out: it must be
// actor.Tenant. The refusal is an *im.Error of kind Forbidden.
func Administer(actor im.Actor, target im.Role, action AdminAction) error {
	if action == 0 || int(action) >= len(adminRights) || !known(actor.Role) {
		return im.E(im.Forbidden, "That can't be done.")
	}
	row := adminRights[action]
	switch {
	case !row.who.has(actor.Role) && row.who == roles(im.RoleOwner):
		return im.E(im.Forbidden, "Only owners of the organisation may do that.")
	case !row.who.has(actor.Role):
		return im.E(im.Forbidden, "Only owners and admins of the organisation may do that.")
	case !row.toUser:
		return nil
	case !known(target):
		return im.E(im.Forbidden, "That can't be done.")
	case !administers[actor.Role].has(target):
		return im.E(im.Forbidden, "Only an owner may do that to an owner, or make one.")
	}
	return nil
}
