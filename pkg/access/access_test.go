package access

import (
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

// wantMembers is PROTOCOL 4.1 and 4.3 written out by hand, apart from the code:
// y yes, f forbidden, n not found. Columns: owner, moderator, member, reader, no
// member, guest who is no member. A column "-" cannot occur (a direct has
// members only).
const wantMembers = `
direct   join                 - - y - n n
direct   read                 - - y - n n
direct   mark                 - - y - n n
direct   react                - - y - n n
direct   leave                - - f - n n
direct   send                 - - y - n n
direct   edit own             - - y - n n
direct   edit other           - - f - n n
direct   recall own           - - y - n n
direct   recall other         - - f - n n
direct   pin                  - - y - n n
direct   rename               - - f - n n
direct   invite               - - f - n n
direct   remove any           - - f - n n
direct   remove member        - - f - n n
direct   set_role any any     - - f - n n
direct   set_role member reader - - f - n n
direct   see_receipts own     - - y - n n
direct   see_receipts other   - - f - n n

group    join                 y y y y n n
group    read                 y y y y n n
group    mark                 y y y y n n
group    react                y y y y n n
group    leave                y y y y n n
group    send                 y y y f n n
group    edit own             y y y f n n
group    edit other           f f f f n n
group    recall own           y y y f n n
group    recall other         y y f f n n
group    pin                  y y f f n n
group    rename               y y f f n n
group    invite               y y f f n n
group    remove any           y y f f n n
group    remove owner         y f f f n n
group    remove moderator     y f f f n n
group    remove member        y y f f n n
group    remove reader        y y f f n n
group    set_role any any             y y f f n n
group    set_role member reader       y y f f n n
group    set_role reader member       y y f f n n
group    set_role member member       y y f f n n
group    set_role member moderator    y f f f n n
group    set_role member owner        y f f f n n
group    set_role reader moderator    y f f f n n
group    set_role moderator member    y f f f n n
group    set_role moderator moderator y f f f n n
group    set_role moderator owner     y f f f n n
group    set_role owner member        y f f f n n
group    set_role owner owner         y f f f n n
group    see_receipts own     y y y y n n
group    see_receipts other   y y f f n n

channel  join                 y y y y y n
channel  read                 y y y y f n
channel  mark                 y y y y f n
channel  react                y y y y f n
channel  leave                y y y y f n
channel  send                 y y y f f n
channel  edit own             y y y f f n
channel  edit other           f f f f f n
channel  recall own           y y y f f n
channel  recall other         y y f f f n
channel  pin                  y y f f f n
channel  rename               y y f f f n
channel  invite               y y f f f n
channel  remove any           y y f f f n
channel  remove owner         y f f f f n
channel  remove moderator     y f f f f n
channel  remove member        y y f f f n
channel  remove reader        y y f f f n
channel  set_role any any             y y f f f n
channel  set_role member reader       y y f f f n
channel  set_role reader member       y y f f f n
channel  set_role member moderator    y f f f f n
channel  set_role owner member        y f f f f n
channel  see_receipts own     y y y y f n
channel  see_receipts other   y y f f f n

notice   join                 y y y y n n
notice   read                 y y y y n n
notice   mark                 y y y y n n
notice   react                y y y y n n
notice   leave                y y y y n n
notice   send                 y y f f n n
notice   edit own             y y f f n n
notice   edit other           f f f f n n
notice   recall own           y y f f n n
notice   recall other         y y f f n n
notice   pin                  y y f f n n
notice   rename               y y f f n n
notice   invite               y y f f n n
notice   remove any           y y f f n n
notice   remove owner         y f f f n n
notice   remove moderator     y f f f n n
notice   remove member        y y f f n n
notice   remove reader        y y f f n n
notice   set_role any any             y y f f n n
notice   set_role member reader       y y f f n n
notice   set_role reader member       y y f f n n
notice   set_role member moderator    y f f f n n
notice   set_role owner member        y f f f n n
notice   see_receipts own     y y y y n n
notice   see_receipts other   y y f f n n
`

func verdict(err error) string {
	switch {
	case err == nil:
		return "y"
	case im.Is(err, im.Forbidden):
		return "f"
	case im.Is(err, im.NotFound):
		return "n"
	}
	return "?" + err.Error()
}

func action(t *testing.T, name string) Action {
	t.Helper()
	for i, n := range actionNames {
		if n == name {
			return Action(i)
		}
	}
	t.Fatalf("no action %q", name)
	return 0
}

func memberRole(t *testing.T, name string) im.MemberRole {
	t.Helper()
	if name == "any" {
		return 0
	}
	r, ok := im.ParseMemberRole(name)
	if !ok {
		t.Fatalf("no member role %q", name)
	}
	return r
}

func TestDecideMembers(t *testing.T) {
	tested := map[string]bool{}
	for line := range strings.Lines(wantMembers) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		kind, _ := im.ParseConvKind(f[0])
		act, facts, want := action(t, f[1]), f[2:len(f)-6], f[len(f)-6:]
		var obj Object
		switch act {
		case Edit, Recall, SeeReceipts:
			obj.Own = facts[0] == "own"
		case Remove:
			obj.Target = memberRole(t, facts[0])
		case SetRole:
			obj.Target, obj.To = memberRole(t, facts[0]), memberRole(t, facts[1])
		}
		tested[f[0]+" "+f[1]] = true
		for col, w := range want {
			member := im.MemberRole(col + 1)
			if col >= 4 {
				member = 0
			}
			// A member's tenant role does not matter; a stranger's only for guests.
			// A guardian posts nowhere but to staff (TestGuardian).
			actors := []im.Role{im.RoleOwner, im.RoleAdmin, im.RoleStaff, im.RoleMember, im.RoleBot, im.RoleGuest}
			if col == 4 {
				actors = actors[:5]
			} else if col == 5 {
				actors = []im.Role{im.RoleGuest, im.RoleGuardian, 0}
			}
			if w == "-" {
				continue
			}
			for _, actor := range actors {
				if got := verdict(Decide(nil, actor, member, kind, act, obj)); got != w {
					t.Errorf("%s: tenant %v, column %d: got %s, want %s", strings.TrimSpace(line), actor, col, got, w)
				}
			}
		}
	}
	for kind := im.KindDirect; kind <= im.KindNotice; kind++ {
		for act := Join; act <= SeeReceipts; act++ {
			if !tested[kind.String()+" "+act.String()] {
				t.Errorf("the table says nothing of %v %v", kind, act)
			}
		}
	}
}

// The conversations a tenant role may start (PROTOCOL 4.3), by hand.
const createTable = `
        direct group channel notice find
owner   y y y y y
admin   y y y y y
staff   y y y y y
member  y y f f y
guest   f f f f f
guardian y f f f f
bot     f f f f y
`

func TestDecideCreateAndFind(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(createTable), "\n")
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		role, ok := im.ParseRole(f[0])
		if !ok {
			t.Fatal(f[0])
		}
		for kind := im.KindDirect; kind <= im.KindNotice; kind++ {
			if got := verdict(Decide(nil, role, 0, kind, Create, Object{})); got != f[kind] {
				t.Errorf("%v creates %v: got %s, want %s", role, kind, got, f[kind])
			}
		}
		if got := verdict(Decide(nil, role, 0, im.KindChannel, Find, Object{})); got != f[5] {
			t.Errorf("%v finds: got %s, want %s", role, got, f[5])
		}
	}
	for _, role := range []im.Role{0, im.RoleBot + 1} {
		if Decide(nil, role, 0, im.KindGroup, Create, Object{}) == nil || Decide(nil, role, 0, im.KindChannel, Find, Object{}) == nil {
			t.Errorf("tenant role %d is nobody, and yet may do something", role)
		}
	}
	if Decide(nil, im.RoleOwner, 0, 0, Create, Object{}) == nil {
		t.Error("a conversation of no kind may be created")
	}
}

func TestDecideUnknown(t *testing.T) {
	if Decide(nil, im.RoleOwner, im.MemberReader+1, im.KindGroup, Send, Object{}) == nil {
		t.Error("an unknown member role may send")
	}
	if Decide(nil, im.RoleOwner, im.MemberOwner, im.KindGroup, SeeReceipts+1, Object{}) == nil {
		t.Error("an unknown action is allowed")
	}
}

func TestLastOwner(t *testing.T) {
	for _, c := range []struct {
		before, after, members int
		refused                bool
	}{
		{1, 0, 3, true}, {2, 0, 1, true}, {1, 0, 0, false}, {2, 1, 5, false}, {0, 0, 4, false}, {1, 1, 4, false},
	} {
		err := LastOwner(c.before, c.after, c.members)
		if (err != nil) != c.refused || err != nil && !im.Is(err, im.Invalid) {
			t.Errorf("LastOwner(%d, %d, %d) = %v", c.before, c.after, c.members, err)
		}
	}
}

// Who may do what to a user of which role, by hand: rows actors, columns the
// target's role owner admin staff member guest guardian bot and none.
const wantAdmin = `
owner    y y y y y y y f
admin    f y y y y y y f
staff    f f f f f f f f
member   f f f f f f f f
guest    f f f f f f f f
guardian f f f f f f f f
bot      f f f f f f f f
`

func TestAdminister(t *testing.T) {
	for line := range strings.Lines(strings.TrimSpace(wantAdmin)) {
		f := strings.Fields(line)
		role, _ := im.ParseRole(f[0])
		who := im.Actor{Tenant: "oakhill", User: "u_1", Role: role}
		for col, want := range f[1:] {
			target := im.Role((col + 1) % 8)
			for _, act := range []AdminAction{AddUser, UpdateUser, SetPassword} {
				if got := verdict(Administer(who, target, act)); got != want {
					t.Errorf("%v %v %v: got %s, want %s", role, act, target, got, want)
				}
			}
		}
		for _, act := range []AdminAction{ReadRecalled, ManageBox} {
			if got := Administer(who, 0, act) == nil; got != (role == im.RoleOwner) {
				t.Errorf("%v %v: %v", role, act, got)
			}
		}
		for _, act := range []AdminAction{ListUsers, UpdateTenant, ChangePolicy, ManageClasses, ImportRoster, ViewBox} {
			if got := Administer(who, 0, act) == nil; got != (role == im.RoleOwner || role == im.RoleAdmin) {
				t.Errorf("%v %v: %v", role, act, got)
			}
		}
	}
	if Administer(im.Actor{}, im.RoleGuest, AddUser) == nil {
		t.Error("nobody may add a user")
	}
	if Administer(im.Actor{Role: im.RoleOwner}, im.RoleGuest, ManageBox+1) == nil {
		t.Error("an unknown administrative action is allowed")
	}
}

func TestYesAllocatesNothing(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		if Decide(nil, im.RoleMember, im.MemberMember, im.KindGroup, Send, Object{}) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("a yes allocates %v times", n)
	}
}
