package roster

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// OneRoster CSV, versions 1.1 and 1.2 (1EdTech, "OneRoster CSV Tables"): one
// table a file, related by sourcedId. Of the two, 1.1 has a user's role in
// users.csv, 1.2 in roles.csv. Each file is bulk (all there is) or delta (what
// changed), as manifest.csv says.

// The rows, with the columns that count here.
type (
	manifestRow struct {
		Property string `csv:"propertyname"`
		Value    string `csv:"value"`
	}
	orgRow struct {
		ID     string `csv:"sourcedid"`
		Status string `csv:"status"`
		Name   string `csv:"name"`
	}
	userRow struct {
		ID       string `csv:"sourcedid"`
		Status   string `csv:"status"`
		Enabled  string `csv:"enableduser"`
		Role     string `csv:"role"` // 1.1
		Username string `csv:"username"`
		Given    string `csv:"givenname"`
		Family   string `csv:"familyname"`
		Pref     string `csv:"preferredgivenname"` // 1.2
		PrefLast string `csv:"preferredfamilyname"`
		Agents   string `csv:"agentsourcedids"`
		Agents1  string `csv:"agents"` // what some 1.1 exports call it
		Orgs     string `csv:"orgsourcedids"`
		Password string `csv:"password"`
	}
	roleRow struct {
		ID     string `csv:"sourcedid"`
		Status string `csv:"status"`
		User   string `csv:"usersourcedid"`
		Type   string `csv:"roletype"`
		Role   string `csv:"role"`
		Org    string `csv:"orgsourcedid"`
	}
	sessionRow struct {
		ID     string `csv:"sourcedid"`
		Status string `csv:"status"`
		Title  string `csv:"title"`
		End    string `csv:"enddate"`
	}
	courseRow struct {
		ID     string `csv:"sourcedid"`
		Status string `csv:"status"`
		Title  string `csv:"title"`
	}
	classRow struct {
		ID     string `csv:"sourcedid"`
		Status string `csv:"status"`
		Title  string `csv:"title"`
		Code   string `csv:"classcode"`
		Course string `csv:"coursesourcedid"`
		School string `csv:"schoolsourcedid"`
		Terms  string `csv:"termsourcedids"`
	}
	enrollmentRow struct {
		ID     string `csv:"sourcedid"`
		Status string `csv:"status"`
		Class  string `csv:"classsourcedid"`
		User   string `csv:"usersourcedid"`
		Role   string `csv:"role"`
	}
)

// oneRoles are the roles of both versions. Who runs the district's systems is
// staff here: a roster makes nobody an administrator of this box.
var oneRoles = map[string]im.Role{
	"teacher": im.RoleStaff, "aide": im.RoleStaff, "administrator": im.RoleStaff, "proctor": im.RoleStaff, "counselor": im.RoleStaff,
	"principal": im.RoleStaff, "districtadministrator": im.RoleStaff, "siteadministrator": im.RoleStaff, "systemadministrator": im.RoleStaff,
	"student": im.RoleMember, "guardian": im.RoleGuardian, "parent": im.RoleGuardian, "relative": im.RoleGuardian,
}

const gone = "tobedeleted"

// one is a OneRoster that is being read.
type one struct {
	*Roster
	files map[string][]byte
	mode  map[string]string // by file: "bulk", "delta"

	orgs, courses map[string]string // names by sourcedId
	sessions      map[string]sessionRow
	people        map[string]int // index into People
	classes       map[string]int
}

func readOneRoster(files map[string][]byte) *Roster {
	o := &one{Roster: &Roster{Format: "OneRoster 1.1"}, files: files, mode: map[string]string{}, orgs: map[string]string{}, courses: map[string]string{},
		sessions: map[string]sessionRow{}, people: map[string]int{}, classes: map[string]int{}}
	o.manifest()
	o.readOrgs()
	o.readCourses()
	o.readSessions()
	o.readUsers()
	o.readRoles()
	o.agents()
	o.readClasses()
	o.readEnrollments()
	o.dropNobodies()
	o.check()
	return o.Roster
}

// dropNobodies leaves out people without a role, of whom readRoles said so, from
// classes too.
func (o *one) dropNobodies() {
	nobody := func(p Person) bool { return p.Role == 0 && !p.Gone }
	out := func(key string) bool {
		i, ok := o.people[key]
		return ok && nobody(o.People[i])
	}
	for i := range o.Classes {
		c := &o.Classes[i]
		c.Teachers, c.Students = slices.DeleteFunc(c.Teachers, out), slices.DeleteFunc(c.Students, out)
	}
	for i := range o.People {
		o.People[i].GuardianOf = slices.DeleteFunc(o.People[i].GuardianOf, out)
	}
	o.People = slices.DeleteFunc(o.People, nobody)
}

// openOne returns the table of a file that is there; ok is false for one that is
// not, or can't be read.
func openOne[T any](o *one, file string, required ...string) (*table[T], bool) {
	content, ok := o.files[file]
	if !ok {
		return nil, false
	}
	return newTable[T](o.Roster, file, content, func(name string) string { return strings.ReplaceAll(name, "_", "") }, required...)
}

func (o *one) manifest() {
	if t, ok := openOne[manifestRow](o, "manifest.csv", "propertyname", "value"); ok {
		t.each(func(p Place, row *manifestRow) {
			key, value := strings.ToLower(row.Property), strings.ToLower(row.Value)
			file, isFile := strings.CutPrefix(key, "file.")
			switch {
			case key == "oneroster.version" && value != "1.1" && value != "1.2":
				o.note(p, "OneRoster version %q is not known; it is read as 1.2.", cut(row.Value))
				o.Format = "OneRoster 1.2"
			case key == "oneroster.version":
				o.Format = "OneRoster " + value
			case !isFile:
			case value == "bulk" || value == "delta":
				name := strings.ToLower(file) + ".csv"
				o.mode[name] = value
				if _, there := o.files[name]; !there && read(name) {
					o.problem(p, "The manifest says that %s.csv is %s, but the file is not there.", file, value)
				}
			case value != "absent":
				o.problem(p, "%s is %q: it can be absent, bulk or delta.", row.Property, cut(row.Value))
			}
		})
	} else if _, there := o.files["manifest.csv"]; !there {
		o.note(Place{File: "manifest.csv"}, "There is no manifest.csv; everything counts as bulk.")
		if _, v12 := o.files["roles.csv"]; v12 {
			o.Format = "OneRoster 1.2"
		}
	}
	o.Delta = o.mode["users.csv"] == "delta" || o.mode["enrollments.csv"] == "delta" || o.mode["classes.csv"] == "delta"
	for _, file := range []string{"users.csv", "classes.csv", "enrollments.csv"} {
		if _, there := o.files[file]; !there && !o.Delta {
			o.problem(Place{File: file}, "%s is missing.", file)
		}
		if o.Delta && o.mode[file] == "bulk" {
			o.problem(Place{File: "manifest.csv"}, "%s is bulk and others are delta: users, classes and enrollments must be the same.", file)
		}
	}
}

// read tells the files that are read.
func read(file string) bool {
	return slices.Contains([]string{"orgs.csv", "courses.csv", "academicsessions.csv", "users.csv", "roles.csv", "classes.csv", "enrollments.csv"}, file)
}

// id checks a row's sourcedId.
func (o *one) id(p Place, id string) bool {
	if id == "" {
		o.problem(p, "The sourcedId is missing.")
		return false
	}
	if len(id) > 255 {
		o.problem(p, "The sourcedId %q is too long.", cut(id))
		return false
	}
	return true
}

func (o *one) readOrgs() {
	if t, ok := openOne[orgRow](o, "orgs.csv", "sourcedid"); ok {
		t.each(func(p Place, row *orgRow) {
			if o.id(p, row.ID) && row.Status != gone {
				o.orgs[row.ID] = row.Name
			}
		})
	}
}

func (o *one) readCourses() {
	if t, ok := openOne[courseRow](o, "courses.csv", "sourcedid"); ok {
		t.each(func(p Place, row *courseRow) {
			if o.id(p, row.ID) && row.Status != gone {
				o.courses[row.ID] = row.Title
			}
		})
	}
}

func (o *one) readSessions() {
	t, ok := openOne[sessionRow](o, "academicsessions.csv", "sourcedid", "title", "enddate")
	if !ok {
		return
	}
	t.each(func(p Place, row *sessionRow) {
		if !o.id(p, row.ID) || row.Status == gone {
			return
		}
		if _, err := time.Parse(time.DateOnly, row.End); err != nil && row.End != "" {
			o.problem(p, "The endDate %q is no date like 2027-07-31.", cut(row.End))
			return
		}
		o.sessions[row.ID] = *row
	})
}

func (o *one) readUsers() {
	t, ok := openOne[userRow](o, "users.csv", "sourcedid", "username")
	if !ok {
		return
	}
	t.each(func(p Place, row *userRow) {
		if !o.id(p, row.ID) {
			return
		}
		if i, twice := o.people[row.ID]; twice {
			o.problem(p, "The sourcedId %s is there twice (line %d).", cut(row.ID), o.People[i].Line)
			return
		}
		person := Person{Place: p, Key: row.ID, SourcedID: row.ID, Disabled: strings.EqualFold(row.Enabled, "false") || row.Enabled == "0", Password: row.Password}
		if row.Status == gone {
			person.Gone = true
		} else if !o.user(p, row, &person) {
			return
		}
		o.people[row.ID] = len(o.People)
		o.People = append(o.People, person)
	})
}

// user checks a row of users.csv and fills person.
func (o *one) user(p Place, row *userRow, person *Person) bool {
	if row.Role != "" {
		role, ok := oneRoles[strings.ToLower(row.Role)]
		if !ok {
			o.problem(p, "The role %q is not one of OneRoster's.", cut(row.Role))
			return false
		}
		person.Role = role
	}
	given, family := cmp.Or(row.Pref, row.Given), cmp.Or(row.PrefLast, row.Family)
	name := strings.TrimSpace(given + " " + family)
	if isHan(given) && isHan(family) {
		name = family + given
	}
	// The role of 1.2 comes later; any will do for the look at the names.
	var err error
	if person.Username, person.Name, err = cleanUser(row.Username, name, im.RoleMember); err != nil {
		o.tell(p, refused(err, row.Username, name))
		return false
	}
	for _, org := range list(row.Orgs) {
		if _, ok := o.orgs[org]; !ok && len(o.orgs) > 0 && !o.Delta {
			o.problem(p, "The org %s of %s is not in orgs.csv.", cut(org), person.Username)
			return false
		}
	}
	person.GuardianOf = list(cmp.Or(row.Agents, row.Agents1))
	return true
}

func (o *one) readRoles() {
	primary := map[string]bool{}
	if t, ok := openOne[roleRow](o, "roles.csv", "usersourcedid", "role"); ok {
		t.each(func(p Place, row *roleRow) {
			if row.Status == gone {
				return
			}
			i, ok := o.people[row.User]
			if !ok {
				if !o.Delta {
					o.problem(p, "The user %s of this role is not in users.csv.", cut(row.User))
				}
				return
			}
			role, known := oneRoles[strings.ToLower(row.Role)]
			if !known {
				o.problem(p, "The role %q is not one of OneRoster's.", cut(row.Role))
				return
			}
			person := &o.People[i]
			// The primary role counts; among several, the one that may do most.
			is := strings.EqualFold(row.Type, "primary")
			if person.Role == 0 || is && !primary[row.User] || is == primary[row.User] && role < person.Role {
				person.Role = role
			}
			primary[row.User] = primary[row.User] || is
		})
	}
	for i := range o.People {
		if p := &o.People[i]; p.Role == 0 && !p.Gone {
			o.problem(p.Place, "%s has no role: users.csv (1.1) or roles.csv (1.2) says it.", p.Username)
		}
	}
}

// agents makes guardians of agents, which are told in either direction: of a
// student the guardians, of a guardian the students.
func (o *one) agents() {
	for i := range o.People {
		p := &o.People[i]
		agents := p.GuardianOf
		if p.Role == im.RoleGuardian || p.Gone {
			continue
		}
		p.GuardianOf = nil
		for _, key := range agents {
			if j, ok := o.people[key]; ok && o.People[j].Role == im.RoleGuardian && p.Role == im.RoleMember {
				o.People[j].GuardianOf = append(o.People[j].GuardianOf, p.Key)
			} else if !ok && !o.Delta {
				o.problem(p.Place, "The agent %s of %s is not in users.csv.", cut(key), p.Username)
			}
		}
	}
}

func (o *one) readClasses() {
	t, ok := openOne[classRow](o, "classes.csv", "sourcedid")
	if !ok {
		return
	}
	t.each(func(p Place, row *classRow) {
		if !o.id(p, row.ID) {
			return
		}
		if i, twice := o.classes[row.ID]; twice {
			o.problem(p, "The sourcedId %s is there twice (line %d).", cut(row.ID), o.Classes[i].Line)
			return
		}
		if len(o.Classes) == MaxClasses {
			o.problem(p, "There are more than %d classes.", MaxClasses)
			return
		}
		c := Class{Place: p, Key: row.ID, SourcedID: row.ID, Gone: row.Status == gone}
		if !c.Gone {
			title := cmp.Or(row.Title, o.courses[row.Course], row.Code)
			name, err := cleanName(title)
			if err != nil {
				o.tell(p, refused(err, "", title))
				return
			}
			c.Name = name
			if _, ok := o.orgs[row.School]; !ok && row.School != "" && len(o.orgs) > 0 && !o.Delta {
				o.problem(p, "The school %s of the class %s is not in orgs.csv.", cut(row.School), cut(name))
			}
			if _, ok := o.courses[row.Course]; !ok && row.Course != "" && len(o.courses) > 0 && !o.Delta {
				o.problem(p, "The course %s of the class %s is not in courses.csv.", cut(row.Course), cut(name))
			}
			o.term(p, &c, row)
		}
		o.classes[row.ID] = len(o.Classes)
		o.Classes = append(o.Classes, c)
	})
}

// term gives a class the term, of those it names, that ends last.
func (o *one) term(p Place, c *Class, row *classRow) {
	for _, id := range list(row.Terms) {
		s, ok := o.sessions[id]
		if !ok {
			if len(o.sessions) > 0 && !o.Delta {
				o.problem(p, "The term %s of the class %s is not in academicSessions.csv.", cut(id), cut(c.Name))
			}
			continue
		}
		if c.Term == "" || s.End > c.Ends {
			c.Term, c.Ends = s.Title, s.End
		}
	}
}

func (o *one) readEnrollments() {
	t, ok := openOne[enrollmentRow](o, "enrollments.csv", "classsourcedid", "usersourcedid", "role")
	if !ok {
		return
	}
	type seat struct{ class, user string }
	seen := map[seat]int{}
	t.each(func(p Place, row *enrollmentRow) {
		i, ok := o.classes[row.Class]
		if !ok && !o.Delta {
			o.problem(p, "The class %s of this enrollment is not in classes.csv.", cut(row.Class))
			return
		}
		if _, ok := o.people[row.User]; !ok && !o.Delta {
			o.problem(p, "The user %s of this enrollment is not in users.csv.", cut(row.User))
			return
		}
		if !ok { // a delta about a class that is here already
			i = len(o.Classes)
			o.classes[row.Class] = i
			o.Classes = append(o.Classes, Class{Place: p, Key: row.Class, SourcedID: row.Class})
		}
		c := &o.Classes[i]
		if row.Status == gone {
			c.Left = append(c.Left, row.User)
			return
		}
		if line, twice := seen[seat{row.Class, row.User}]; twice {
			o.note(p, "This enrollment is there twice (line %d).", line)
		}
		seen[seat{row.Class, row.User}] = p.Line
		switch strings.ToLower(row.Role) {
		case "teacher", "administrator", "proctor", "aide":
			c.seat(im.RoleStaff, row.User)
		case "student":
			c.seat(im.RoleMember, row.User)
		default:
			o.problem(p, "The role %q of an enrollment is teacher, student, administrator or proctor.", cut(row.Role))
		}
	})
}

// list splits a cell that holds several ids.
func list(cell string) (ids []string) {
	for id := range strings.SplitSeq(cell, ",") {
		if id = strings.TrimSpace(id); id != "" {
			ids = append(ids, id)
		}
	}
	return ids
}

func isHan(s string) bool {
	for _, r := range s {
		if r < 0x2e80 {
			return false
		}
	}
	return s != ""
}
