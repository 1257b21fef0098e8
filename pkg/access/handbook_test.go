package access

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

var update = flag.Bool("update", false, "write the handbook's page of roles")

// words are what the page says in one language; the order of texts is that of
// the numbers they stand for.
type words struct {
	title, about                  string
	roles                         [im.NumRoles]string // what each tenant role is for
	administer, administerAbout   string
	admin                         map[AdminAction]string
	to                            string
	conversations, convAbout      string
	acts                          map[Action]string
	whose                         [3]string
	kinds                         [im.KindNotice + 1]string
	members                       [im.MemberReader + 1]string
	archived                      string
	policy, policyAbout           string
	presets                       map[string]string
	direct, see, create, channels string
	rules                         [3]string
	recall                        string
	recallModes                   [2]string
	quiet, change                 string
	yes, no, everybody, ownersToo string
}

var languages = map[string]words{
	"en": {
		title: "Who may do what",
		about: "Everybody in an organisation has one role. What a role may do is fixed by the two tables below; on top of them each organisation has rules of its own, which its administrators change at any time.",
		roles: [im.NumRoles]string{"", "may do everything", "may do everything that touches no owner", "runs classes or teams: a teacher, a team lead",
			"a pupil, a colleague", "sees only what he or she was invited to", "a parent: linked to members, reads their class boards, writes to staff only", "a program that answers where it was invited"},
		administer: "Administration", administerAbout: "What is done to a person also depends on that person's role.",
		admin: map[AdminAction]string{ListUsers: "list everybody", AddUser: "add a person", UpdateUser: "change name or role, disable, enable",
			SetPassword: "set a password", UpdateTenant: "change the organisation", ChangePolicy: "change these rules", ManageClasses: "manage classes",
			ImportRoster: "import a roster, print login cards", ReadRecalled: "read what was taken back (always in the audit log)",
			ViewBox: "look after the box: its health and its backups (in the organisation that keeps it)", ManageBox: "look after the other organisations on the box (in the organisation that keeps it)"},
		to: "to", conversations: "In a conversation", convAbout: "A conversation is a direct (two people), a group (invited), a channel (anybody may join) or a board (its owners and moderators post, the others read). Whoever starts one is its owner.",
		acts: map[Action]string{Join: "join", Read: "read", Mark: "mark as read", React: "react", Leave: "leave", Send: "write", Edit: "edit a message",
			Recall: "take a message back", Pin: "pin", Rename: "change the title", Invite: "invite", Remove: "remove members", SetRole: "change members' roles", SeeReceipts: "see who has read a message"},
		whose: [3]string{"", " (own)", " (others')"}, kinds: [im.KindNotice + 1]string{"", "direct", "group", "channel", "board"},
		members:  [im.MemberReader + 1]string{"", "owner", "moderator", "member", "reader"},
		archived: "A conversation that is over is archived: it can be read, marked and left, and nothing else. A moderator changes only members and readers; an owner everybody.",
		policy:   "Rules that your organisation can change", policyAbout: "Three sets to begin with, and every line of them can be changed by itself: `pipit policy set NAME=VALUE`. An organisation that chose nothing has `open`. A guardian writes to staff only, whatever the rules.",
		presets: map[string]string{"school": "`school`: pupils talk within their classes and with their teachers", "office": "`office`: colleagues talk freely, guests within their teams", "open": "`open`: everybody but guests talks to everybody"},
		direct:  "Who may start a conversation of two with whom (`direct.FROM.TO`)", see: "Who sees whom in the directory, and who is online (`see.FROM.TO`)",
		create: "Who may start what (`create.KIND.ROLE`)", channels: "find and join channels (`channels.ROLE`)", rules: [3]string{"no", "class", "yes"},
		recall: "What becomes of the text of a message that is taken back (`recall`): nobody is shown it any more, and it is", recallModes: [2]string{"wiped from the box at once (`erase`)", "kept on the box for an inquiry: an owner, or the operator with `pipit recalled`, reads it, and each time stands in the audit log (`hide`)"},
		quiet:  "**Quiet hours** (`quiet.ROLE`, for example `22:00-06:00`; off in every set): what people of that role write then waits on their own device and goes out when the hours end. Whose notices on boards go out all the same is `quiet.notices.ROLE`; each one that does is in the audit log. `quiet.zone` is the time zone, the box's own by default.",
		change: "`pipit policy show` prints every setting with its value.", yes: "yes", no: "no", everybody: "everybody", ownersToo: "everybody but owners",
	},
	"zh": {
		title: "谁可以做什么",
		about: "组织里的每个人都有一个角色。角色能做什么由下面两张表规定；在此之上，每个组织有自己的规则，管理员可以随时修改。",
		roles: [im.NumRoles]string{"", "可以做一切", "可以做不涉及所有者的一切", "负责班级或小组：教师、组长",
			"学生、同事", "只能看到被邀请加入的内容", "家长：与学生关联，阅读其班级公告，只能给教职工写消息", "程序，在被邀请的地方应答"},
		administer: "管理", administerAbout: "对某人做的操作还取决于对方的角色。",
		admin: map[AdminAction]string{ListUsers: "查看全部人员", AddUser: "添加人员", UpdateUser: "修改姓名或角色、停用、启用",
			SetPassword: "设置密码", UpdateTenant: "修改组织", ChangePolicy: "修改这些规则", ManageClasses: "管理班级",
			ImportRoster: "导入名册、打印登录卡", ReadRecalled: "查看被撤回的内容（必定记入审计日志）",
			ViewBox: "照看这台设备：运行状况和备份（仅限负责设备的组织）", ManageBox: "照看设备上的其他组织（仅限负责设备的组织）"},
		to: "对", conversations: "在会话中", convAbout: "会话分为私聊（两人）、群组（受邀）、频道（任何人可加入）和公告栏（所有者和版主发布，其他人阅读）。发起者即所有者。",
		acts: map[Action]string{Join: "加入", Read: "阅读", Mark: "标为已读", React: "表情回应", Leave: "退出", Send: "发消息", Edit: "编辑消息",
			Recall: "撤回消息", Pin: "置顶", Rename: "修改标题", Invite: "邀请", Remove: "移除成员", SetRole: "修改成员角色", SeeReceipts: "查看谁已读"},
		whose: [3]string{"", "（自己的）", "（他人的）"}, kinds: [im.KindNotice + 1]string{"", "私聊", "群组", "频道", "公告栏"},
		members:  [im.MemberReader + 1]string{"", "所有者", "版主", "成员", "读者"},
		archived: "已结束的会话会归档：只能阅读、标为已读和退出。版主只能管理成员和读者；所有者可以管理所有人。",
		policy:   "组织可以修改的规则", policyAbout: "有三套规则可供起步，每一项都可以单独修改：`pipit policy set 名称=值`。没有选择的组织使用 `open`。无论规则如何，家长只能给教职工写消息。",
		presets: map[string]string{"school": "`school`（学校）：学生在班级内以及与任课教师交流", "office": "`office`（办公）：同事自由交流，访客限于其小组", "open": "`open`（开放）：除访客外，所有人可与所有人交流"},
		direct:  "谁可以与谁发起私聊（`direct.发起者.对方`）", see: "谁能在通讯录和在线状态中看到谁（`see.谁.对方`）",
		create: "谁可以创建什么（`create.种类.角色`）", channels: "查找并加入频道（`channels.角色`）", rules: [3]string{"否", "同班", "是"},
		recall: "消息撤回后其文字如何处理（`recall`）：不再向任何人显示，并且", recallModes: [2]string{"立即从设备上抹去（`erase`）", "在设备上保留，以备调查：所有者可通过 API 查看，管理设备的人可用 `pipit recalled` 查看，每次查看都记入审计日志（`hide`）"},
		quiet:  "**安静时段**（`quiet.角色`，例如 `22:00-06:00`；各套规则中默认关闭）：该角色在此时段写的消息留在自己的设备上等待，时段结束后再发出。哪些角色的公告照常发出由 `quiet.notices.角色` 决定，每一条都记入审计日志。`quiet.zone` 是时区，默认为设备的时区。",
		change: "`pipit policy show` 列出每一项设置及其值。", yes: "是", no: "否", everybody: "所有人", ownersToo: "除所有者外的所有人",
	},
}

// page writes the handbook's page of roles in one language.
func page(w words) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	row := func(cells ...string) { line("| %s |", strings.Join(cells, " | ")) }
	head := func(cells ...string) {
		row(cells...)
		line("|%s", strings.Repeat("---|", len(cells)))
	}
	line("<!-- Code generated from the table in pkg/access; DO NOT EDIT. -->\n# %s\n\n%s\n", w.title, w.about)
	for r := im.RoleOwner; r <= im.RoleBot; r++ {
		line("- **%s** %s", r, w.roles[r])
	}
	line("\n## %s\n\n%s\n", w.administer, w.administerAbout)
	head("", "owner", "admin")
	for _, a := range adminTable {
		cells := []string{w.admin[a.act]}
		for _, r := range []im.Role{im.RoleOwner, im.RoleAdmin} {
			switch {
			case !a.who.has(r):
				cells = append(cells, w.no)
			case !a.toUser:
				cells = append(cells, w.yes)
			case administers[r] == allRoles:
				cells = append(cells, w.everybody)
			default:
				cells = append(cells, w.ownersToo)
			}
		}
		row(cells...)
	}
	line("\n## %s\n\n%s\n", w.conversations, w.convAbout)
	cells := []string{""}
	for k := im.KindDirect; k <= im.KindNotice; k++ {
		cells = append(cells, w.kinds[k])
	}
	head(cells...)
	for act := Join; act <= SeeReceipts; act++ {
		for _, whose := range []which{either, own, others} {
			var cells []string
			for k := im.KindDirect; k <= im.KindNotice; k++ {
				cells = append(cells, w.may(act, whose, k))
			}
			if rowed(act, whose) {
				row(append([]string{w.acts[act] + w.whose[whose]}, cells...)...)
			}
		}
	}
	line("\n%s\n\n## %s\n\n%s\n", w.archived, w.policy, w.policyAbout)
	for _, name := range Presets() {
		line("- %s", w.presets[name])
	}
	for _, name := range Presets() {
		p := preset(name)
		line("\n### `%s`\n\n%s:\n", name, w.direct)
		w.matrix(head, row, &p.direct)
		line("\n%s:\n", w.see)
		w.matrix(head, row, &p.see)
		line("\n%s:\n", w.create)
		cells := []string{""}
		for r := im.RoleOwner; r <= im.RoleBot; r++ {
			cells = append(cells, r.String())
		}
		head(cells...)
		for k := im.KindGroup; k <= im.KindNotice; k++ {
			cells := []string{w.kinds[k] + " (`" + k.String() + "`)"}
			for r := im.RoleOwner; r <= im.RoleBot; r++ {
				cells = append(cells, w.yesNo(p.create[r].has(k)))
			}
			row(cells...)
		}
		cells = []string{w.channels}
		for r := im.RoleOwner; r <= im.RoleBot; r++ {
			cells = append(cells, w.yesNo(p.find.has(r)))
		}
		row(cells...)
		line("\n%s %s.", w.recall, w.recallModes[p.recall])
	}
	line("\n%s\n\n%s", w.quiet, w.change)
	return b.String()
}

func (w words) yesNo(yes bool) string {
	if yes {
		return w.yes
	}
	return w.no
}

// rowed tells whether the table has a line for that.
func rowed(act Action, whose which) bool {
	for _, r := range memberTable {
		if r.act == act && r.whose == whose {
			return true
		}
	}
	return false
}

func (w words) may(act Action, whose which, kind im.ConvKind) string {
	for _, r := range memberTable {
		if r.act != act || r.whose != whose || !r.in.has(kind) {
			continue
		}
		var names []string
		for m := im.MemberOwner; m <= im.MemberReader; m++ {
			if kind == im.KindDirect && m != im.MemberMember {
				continue
			}
			if r.who.has(m) {
				names = append(names, w.members[m])
			}
		}
		switch {
		case kind == im.KindDirect && len(names) == 1:
			return w.yes
		case len(names) == 4:
			return w.everybody
		case len(names) > 0:
			return strings.Join(names, ", ")
		}
	}
	return w.no
}

func (w words) matrix(head, row func(...string), table *[im.NumRoles][im.NumRoles]Rule) {
	cells := []string{w.to + " →"}
	for to := im.RoleOwner; to <= im.RoleBot; to++ {
		cells = append(cells, to.String())
	}
	head(cells...)
	for from := im.RoleOwner; from <= im.RoleBot; from++ {
		cells := []string{"**" + from.String() + "**"}
		for to := im.RoleOwner; to <= im.RoleBot; to++ {
			cells = append(cells, w.rules[table[from][to]])
		}
		row(cells...)
	}
}

// TestHandbook: the handbook's pages of roles are what the table says.
func TestHandbook(t *testing.T) {
	for lang, w := range languages {
		for a := ListUsers; a <= ManageBox; a++ {
			if w.admin[a] == "" {
				t.Errorf("%s: no words for %v", lang, a)
			}
		}
		for a := Join; a <= SeeReceipts; a++ {
			if w.acts[a] == "" {
				t.Errorf("%s: no words for %v", lang, a)
			}
		}
		file := filepath.Join("..", "web", "handbook", lang, "roles.md")
		want := page(w)
		if *update {
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the table says (%v): run go generate ./pkg/access", file, err)
		}
	}
}
