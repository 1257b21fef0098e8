package roster

import (
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
)

// simpleRow is a row of the simple CSV: a person in a class.
type simpleRow struct {
	Class      string `csv:"class"`
	Role       string `csv:"role"`
	Name       string `csv:"name"`
	Username   string `csv:"username"`
	GuardianOf string `csv:"guardian_of"`
	Password   string `csv:"password"`
}

// simpleColumns are the names of columns that are understood, in lower case.
var simpleColumns = map[string]string{
	"class": "class", "group": "class", "team": "class", "班级": "class", "班": "class", "小组": "class", "部门": "class",
	"role": "role", "角色": "role", "身份": "role", "类型": "role",
	"name": "name", "full name": "name", "姓名": "name", "名字": "name", "名称": "name",
	"username": "username", "user name": "username", "user": "username", "login": "username", "用户名": "username", "账号": "username", "帐号": "username", "登录名": "username", "学号": "username", "工号": "username",
	"guardian_of": "guardian_of", "guardian of": "guardian_of", "监护": "guardian_of", "监护对象": "guardian_of", "孩子": "guardian_of", "学生用户名": "guardian_of",
	"password": "password", "密码": "password", "初始密码": "password",
}

// roleWords are the words for roles that are understood, in lower case. A roster
// makes no owners.
var roleWords = map[string]im.Role{
	"admin": im.RoleAdmin, "管理员": im.RoleAdmin,
	"staff": im.RoleStaff, "teacher": im.RoleStaff, "老师": im.RoleStaff, "教师": im.RoleStaff, "班主任": im.RoleStaff, "教职工": im.RoleStaff, "员工": im.RoleStaff,
	"member": im.RoleMember, "student": im.RoleMember, "pupil": im.RoleMember, "学生": im.RoleMember, "成员": im.RoleMember,
	"guest": im.RoleGuest, "访客": im.RoleGuest,
	"guardian": im.RoleGuardian, "parent": im.RoleGuardian, "家长": im.RoleGuardian, "监护人": im.RoleGuardian,
	"bot": im.RoleBot,
}

// readSimple reads the simple CSV.
func readSimple(file string, content []byte) *Roster {
	r := &Roster{Format: "CSV"}
	t, ok := newTable[simpleRow](r, file, content, func(name string) string { return simpleColumns[name] }, "role", "username")
	if !ok {
		return r
	}
	people, classes := map[string]*Person{}, map[string]*Class{}
	var order []string
	var classOrder []string
	t.each(func(p Place, row *simpleRow) {
		person, ok := simplePerson(r, p, row)
		if !ok {
			return
		}
		old := people[person.Key]
		switch {
		case old == nil:
			people[person.Key] = &person
			order = append(order, person.Key)
			old = &person
		case old.Name != person.Name || old.Role != person.Role:
			r.problem(p, "%s is %s (%s) in line %d and %s (%s) here: say the same in both.", person.Username, cut(old.Name), old.Role, old.Line, cut(person.Name), person.Role)
			return
		default:
			old.GuardianOf = append(old.GuardianOf, person.GuardianOf...)
			if old.Password == "" {
				old.Password = person.Password
			}
		}
		name := row.Class
		if name == "" || person.Role == im.RoleGuardian {
			if name != "" {
				r.note(p, "%s is a guardian, who is in no class: the class %s comes with the children.", person.Username, cut(name))
			}
			return
		}
		c := classes[strings.ToLower(name)]
		if c == nil {
			clean, err := cleanName(name)
			if err != nil {
				r.tell(p, refused(err, "", name))
				return
			}
			if len(classes) == MaxClasses {
				r.problem(p, "There are more than %d classes.", MaxClasses)
				return
			}
			c = &Class{Place: p, Key: clean, Name: clean}
			classes[strings.ToLower(name)] = c
			classOrder = append(classOrder, strings.ToLower(name))
		}
		c.seat(person.Role, person.Key)
	})
	for _, k := range order {
		r.People = append(r.People, *people[k])
	}
	for _, k := range classOrder {
		r.Classes = append(r.Classes, *classes[k])
	}
	r.check()
	return r
}

// seat puts a person into a class, once: staff teach.
func (c *Class) seat(role im.Role, key string) {
	list := &c.Students
	if role == im.RoleStaff || role == im.RoleAdmin {
		list = &c.Teachers
	}
	for _, k := range *list {
		if k == key {
			return
		}
	}
	*list = append(*list, key)
}

func simplePerson(r *Roster, p Place, row *simpleRow) (Person, bool) {
	role, ok := roleWords[strings.ToLower(row.Role)]
	if !ok {
		switch row.Role {
		case "":
			r.problem(p, "The role is missing: admin, staff (teacher), member (student), guest, guardian (parent) or bot.")
		default:
			r.problem(p, "The role %q is not known: admin, staff (teacher), member (student), guest, guardian (parent) or bot.", cut(row.Role))
		}
		return Person{}, false
	}
	username, name, err := cleanUser(row.Username, row.Name, role)
	if err != nil {
		r.tell(p, refused(err, row.Username, row.Name))
		return Person{}, false
	}
	person := Person{Place: p, Key: username, Username: username, Name: name, Role: role, Password: row.Password}
	if row.GuardianOf == "" {
		return person, true
	}
	if role != im.RoleGuardian {
		r.problem(p, "%s has guardian_of, but is no guardian.", username)
		return Person{}, false
	}
	for _, child := range strings.FieldsFunc(row.GuardianOf, func(c rune) bool { return strings.ContainsRune(",;，；、|/ ", c) }) {
		folded, _, err := cleanUser(child, "", im.RoleMember)
		if err != nil {
			r.tell(p, refused(err, child, ""))
			continue
		}
		person.GuardianOf = append(person.GuardianOf, folded)
	}
	return person, true
}
