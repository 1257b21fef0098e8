package roster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
)

const smallSchool = `class,role,name,username,guardian_of,password
5a,teacher,Tom Tull,tom,,
5a,student,Ann Lee,ann,,
5a,student,Ben Ito,ben,,a temporary one
6b,teacher,Tom Tull,tom,,
6b,student,陈小明,chenxm,,
,parent,Mia Lee,mia,ann,
,parent,Max Moon,max,"ben, chenxm",
,admin,Olga Office,olga,,
`

const smallState = `ann "Ann Lee" member
ben "Ben Ito" member
chenxm "陈小明" member
max "Max Moon" guardian of ben,chenxm
mia "Mia Lee" guardian of ann
olga "Olga Office" admin
tom "Tom Tull" staff
class 5a ( ) archived=false,false,false teachers tom students ann,ben
  group 5a: ann:member ben:member tom:owner
  notice 📢 5a: ann:reader ben:reader max:reader mia:reader tom:owner
class 6b ( ) archived=false,false,false teachers tom students chenxm
  group 6b: chenxm:member tom:owner
  notice 📢 6b: chenxm:reader max:reader tom:owner
`

// TestSimple: a whole life of a roster: in, again, changed, missing, back.
func TestSimple(t *testing.T) {
	w := newWorld(t)
	rep := w.run("school.csv", smallSchool, Options{})
	w.same("the first time", changes(rep), `add class 5a : 1 teacher; 2 students
add class 6b : 1 teacher; 1 student
add person ann Ann Lee: member
add person ben Ben Ito: member; with a password to change
add person chenxm 陈小明: member
add person max Max Moon: guardian of ben, chenxm
add person mia Mia Lee: guardian of ann
add person olga Olga Office: admin
add person tom Tom Tull: staff
`)
	w.same("state", w.state(), smallState)
	ben, _ := w.dir.ByUsername(oak, "ben")
	if c, err := w.store.Credential(context.Background(), oak, ben.ID); err != nil || !strings.HasPrefix(c.PHC, "$argon2id$") {
		t.Errorf("ben has no password: %+v %v", c, err)
	}
	st, err := w.service.Status(context.Background(), oak)
	if err != nil || st.Last == nil || st.Last.Counts["people"] != 7 || st.Last.Counts["classes"] != 2 || st.Last.By != "u_boss" {
		t.Errorf("%+v %v", st.Last, err)
	}

	// Again: nothing, byte for byte in the store's change counter too.
	before := w.store.LastChange()
	if rep = w.run("school.csv", smallSchool, Options{}); len(rep.Changes) != 0 || rep.Wrong != 0 {
		t.Errorf("the second time:\n%s%s", changes(rep), problems(rep))
	}
	if w.store.LastChange() != before {
		t.Error("the second time wrote something")
	}

	// Ann's name and class, Ben missing, Dan new, 6b missing; Chen moves.
	next := `class,role,name,username,guardian_of,password
5a,teacher,Tom Tull,tom,,
5a,student,Anna Lee,ann,,
5a,student,陈小明,chenxm,,
5a,student,Dan Day,dan,,
,parent,Mia Lee,mia,ann,
,parent,Max Moon,max,chenxm,
,admin,Olga Office,olga,,
`
	rep = w.run("school.csv", next, Options{})
	w.same("the next year", changes(rep), `change class 5a : 2 join: chenxm, dan; 1 leave: ben
archive class 6b : is not in the roster any more
add person dan Dan Day: member
change person ann Anna Lee: name: Ann Lee → Anna Lee
change person max Max Moon: guardian of chenxm
disable person ben Ben Ito: is not in the roster any more
`)
	w.same("state", w.state(), `ann "Anna Lee" member
ben "Ben Ito" member disabled
chenxm "陈小明" member
dan "Dan Day" member
max "Max Moon" guardian of chenxm
mia "Mia Lee" guardian of ann
olga "Olga Office" admin
tom "Tom Tull" staff
class 5a ( ) archived=false,false,false teachers tom students ann,chenxm,dan
  group 5a: ann:member chenxm:member dan:member tom:owner
  notice 📢 5a: ann:reader chenxm:reader dan:reader max:reader mia:reader tom:owner
class 6b ( ) archived=true,true,true teachers tom students chenxm
  group 6b: chenxm:member tom:owner
  notice 📢 6b: chenxm:reader max:reader tom:owner
`)
	if now, _ := w.dir.User(oak, ben.ID); now == nil || !now.Disabled {
		t.Error("ben is not disabled, or gone")
	}
	// And back as it was: Ben comes back as the same person, 6b begins anew.
	rep = w.run("school.csv", smallSchool, Options{})
	if got := changes(rep); !strings.Contains(got, "enable person ben Ben Ito: is in the roster again\n") || !strings.Contains(got, "add class 6b ") {
		t.Errorf("%s", got)
	}
	if now, _ := w.dir.ByUsername(oak, "ben"); now.ID != ben.ID || now.Disabled {
		t.Errorf("%+v", now)
	}
	if got := w.seats("5a"); got != "ann:member ben:member tom:owner" {
		t.Errorf("%s", got)
	}
}

// seats returns who sits in the group of the class of that name that is not over.
func (w *world) seats(class string) string {
	for line := range strings.Lines(w.state()) {
		if rest, ok := strings.CutPrefix(line, "  group "+class+": "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "none"
}

// TestNewTerm: with another term the old class is over and the next one empty:
// nobody sees last year's chat.
func TestNewTerm(t *testing.T) {
	w := newWorld(t)
	w.run("a.csv", smallSchool, Options{Term: "2026"})
	old := w.dir.Classes(oak)[0]
	w.do(chat.Command{Op: chat.Send, Actor: w.actor("tom"), Key: "1", Conv: old.Group, Text: "last year's chat"})
	rep := w.run("a.csv", smallSchool, Options{Term: "2027"})
	w.same("the new term", changes(rep), `add class 5a 2027: 1 teacher; 2 students
add class 6b 2027: 1 teacher; 1 student
archive class 5a 2026: its term is over; the next begins empty
archive class 6b 2026: its term is over; the next begins empty
`)
	for _, c := range w.dir.Classes(oak) {
		conv, err := w.store.Conv(context.Background(), oak, c.Group)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case c.Term == "2026" && (!c.Archived || !conv.Archived):
			t.Errorf("%+v %+v", c, conv)
		case c.Term == "2027" && (c.Archived || conv.Head != 0 || conv.Archived):
			t.Errorf("%+v %+v", c, conv)
		}
	}
	ann, _ := w.dir.ByUsername(oak, "ann")
	if list := w.dir.ClassesOf(oak, ann.ID); len(list) != 1 || list[0].Term != "2027" {
		t.Errorf("ann is in %v", list)
	}
}

// TestPartial: one class's file changes nobody else.
func TestPartial(t *testing.T) {
	w := newWorld(t)
	w.run("school.csv", smallSchool, Options{})
	rep := w.run("5a.csv", "class,role,name,username\n5a,student,Eve Eden,eve\n", Options{Partial: true})
	w.same("partial", changes(rep), "change class 5a : 1 join: eve\nadd person eve Eve Eden: member\n")
	if got := w.seats("5a"); got != "ann:member ben:member eve:member tom:owner" {
		t.Errorf("%s", got)
	}
}

// TestByHandStays: who and what was made by hand is not touched; owners and admins
// lose nothing; whoever was invited or promoted by hand stays so; who was disabled
// by hand stays disabled.
func TestByHandStays(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	for name, role := range map[string]im.Role{"tom": im.RoleOwner, "hand": im.RoleMember, "zed": im.RoleStaff} {
		w.add(name, role)
	}
	w.run("school.csv", smallSchool, Options{})
	ann, _ := w.dir.ByUsername(oak, "ann")
	zed, _ := w.dir.ByUsername(oak, "zed")
	if tom, _ := w.dir.ByUsername(oak, "tom"); tom.Role != im.RoleOwner {
		t.Errorf("tom is %v", tom.Role)
	}
	c := w.dir.Classes(oak)[0]
	w.do(chat.Command{Op: chat.Invite, Actor: w.actor("tom"), Conv: c.Group, Users: []im.UserID{zed.ID}})
	w.do(chat.Command{Op: chat.SetRole, Actor: w.actor("tom"), Conv: c.Group, Users: []im.UserID{ann.ID}, Role: im.MemberModerator})
	if err := w.dir.DisableUser(ctx, oak, ann.ID, true); err != nil {
		t.Fatal(err)
	}
	rep := w.run("school.csv", smallSchool+"5a,student,Eve,eve,,\n", Options{})
	if got, want := changes(rep), "change class 5a : 1 join: eve\nadd person eve Eve: member\n"; got != want {
		t.Errorf("%s", got)
	}
	if !strings.Contains(problems(rep), "ann stays disabled") || !strings.Contains(problems(rep), "tom stays owner") {
		t.Errorf("%s", problems(rep))
	}
	if got := w.seats("5a"); got != "ann:moderator ben:member eve:member tom:owner zed:member" {
		t.Errorf("%s", got)
	}
	w.run("school.csv", "class,role,name,username\n5a,student,Eve,eve\n", Options{})
	for _, stays := range []string{"hand", "zed", "tom", "olga"} {
		if u, _ := w.dir.ByUsername(oak, stays); u.Disabled {
			t.Errorf("%s was disabled", stays)
		}
	}
}

// TestEncodings: what spreadsheets write is read: a byte-order mark, semicolons,
// tabs, CRLF, quotes, GB18030 with Chinese headers, UTF-16.
// TestJoin lets people who came one by one into classes: by id and by name, as
// students or teachers, into all or none.
func TestJoin(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	kim, lee := w.add("kim", im.RoleMember), w.add("lee", im.RoleStaff)
	a, err := w.service.AddClass(ctx, oak, "5a", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := w.service.AddClass(ctx, oak, "5b", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.service.Join(ctx, oak, kim.ID, []string{"5a", "none"}); !im.Is(err, im.NotFound) {
		t.Errorf("an unknown class: %v", err)
	}
	if n := len(w.dir.ClassesOf(oak, kim.ID)); n != 0 {
		t.Errorf("in %d classes after a refusal", n)
	}
	for range 2 { // the second time changes nothing
		if err := errors.Join(w.service.Join(ctx, oak, kim.ID, []string{"5a", string(b.ID)}), w.service.Join(ctx, oak, lee.ID, []string{string(a.ID)})); err != nil {
			t.Fatal(err)
		}
	}
	a, _ = w.dir.Class(oak, a.ID)
	b, _ = w.dir.Class(oak, b.ID)
	if !slices.Equal(a.Students, []im.UserID{kim.ID}) || !slices.Equal(a.Teachers, []im.UserID{lee.ID}) || !slices.Equal(b.Students, []im.UserID{kim.ID}) {
		t.Errorf("5a %v %v, 5b %v", a.Teachers, a.Students, b.Students)
	}
}

func TestEncodings(t *testing.T) {
	gb, err := simplifiedchinese.GB18030.NewEncoder().String("班级,角色,姓名,用户名,监护对象,密码\r\n五年级一班,老师,王老师,wang,,\r\n五年级一班,学生,李小龙,lixl,,\r\n,家长,李大龙,lidl,lixl,\r\n")
	if err != nil {
		t.Fatal(err)
	}
	utf16 := "\xff\xfe"
	for _, r := range "class\trole\tname\tusername\r\n五年级一班\t老师\t王老师\twang\r\n" {
		utf16 += string([]byte{byte(r), byte(r >> 8)})
	}
	for name, c := range map[string]struct{ content, want string }{
		"bom":    {"\xef\xbb\xbfclass;role;name;username\r\n\"五年级一班\";teacher;王老师;wang\r\n;;;\r\n\r\n", "wang 王老师 staff | 五年级一班: 1+0"},
		"gb":     {gb, "wang 王老师 staff, lixl 李小龙 member, lidl 李大龙 guardian of lixl | 五年级一班: 1+1"},
		"utf16":  {utf16, "wang 王老师 staff | 五年级一班: 1+0"},
		"tabs":   {"USERNAME\tName\tRole\tclass\textra\nAnn.Lee\tAnn \"A\" Lee\tpupil\t5a\tx\n", ""},
		"pipes":  {"username|name|role\nann|Ann|member\n", "ann Ann member | "},
		"quotes": {"username,name,role,class\nann,\"Lee, Ann \"\"A\"\"\",student,\"5a\nhome\"\n", ""},
		"short":  {"class,role,username,name,password\n5a,student,ann\n", "ann ann member | 5a: 0+1"},
	} {
		r, err := Read("x.csv", []byte(c.content))
		if err != nil {
			t.Fatal(err)
		}
		var parts []string
		for _, p := range r.People {
			s := p.Username + " " + p.Name + " " + p.Role.String()
			if len(p.GuardianOf) > 0 {
				s += " of " + strings.Join(p.GuardianOf, " ")
			}
			parts = append(parts, s)
		}
		got := strings.Join(parts, ", ") + " | "
		for _, k := range r.Classes {
			got += fmt.Sprintf("%s: %d+%d", k.Name, len(k.Teachers), len(k.Students))
		}
		switch {
		case name == "tabs" || name == "quotes": // a wrong quote, a line break in a class: told, with the line
			if r.Wrong != 1 || r.Problems[0].Line != 2 {
				t.Errorf("%s: %+v", name, r.Problems)
			}
		case r.Wrong != 0 || got != c.want:
			t.Errorf("%s: %q, want %q; %+v", name, got, c.want, r.Problems)
		}
	}
}

// TestBadRows: each is named by file and line, all at once; nothing is imported
// unless they are to be skipped.
func TestBadRows(t *testing.T) {
	w := newWorld(t)
	bad := "class,role,name,username,guardian_of,password\n" +
		"5a,student,Ann,ann,,\n" +
		"5a,boss,Ben,ben,,\n" +
		"5a,,Cid,cid,,\n" +
		"5a,student,Dan,,,\n" +
		"5a,student,Eve,eve eve,,\n" +
		"5a,student,Fay,ann,,\n" +
		"5a,student,Gus,gus,,short\n" +
		",parent,Pam,pam,nobody,\n" +
		"5a,owner,Olaf,olaf,,\n" +
		"5a,student,Hal,hal,,,,too,much\n" +
		"5a,student,Ida,ida,ann,\n" +
		",parent,Pia,pia,pam,\n"
	for range 300 {
		bad += "5a,student,No Name,,,\n"
	}
	rep := w.preview("bad.csv", bad, Options{})
	got := problems(rep)
	for _, want := range []string{
		`bad.csv:3: The role "boss" is not known: admin, staff (teacher)`,
		"bad.csv:4: The role is missing",
		"bad.csv:5: The user name is missing.",
		`bad.csv:6: The user name "eve eve" can't be one: it has letters, digits`,
		"bad.csv:7: ann is Ann (member) in line 2 and Fay (member) here",
		"bad.csv:8: The password of gus can't be one: it needs at least 8 characters",
		"bad.csv:9: pam is guardian of nobody, who is not in this roster.",
		`bad.csv:10: The role "owner" is not known`,
		"bad.csv:11: This row has 9 cells, the header 6.",
		"bad.csv:12: ida has guardian_of, but is no guardian.",
		"bad.csv:13: pia is guardian of pam, who is no member (student) but guardian.",
		"bad.csv:313: The user name is missing.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not told: %s", want)
		}
	}
	if rep.Wrong != 311 {
		t.Errorf("%d problems:\n%s", rep.Wrong, got[:2000])
	}
	if _, err := w.service.Import(oak, "", "bad.csv", []byte(bad), Options{}, rep.Digest); !im.Is(err, im.Invalid) {
		t.Errorf("%v", err)
	}
	if _, users := w.dir.Size(); users != 0 {
		t.Errorf("%d users", users)
	}
	w.run("bad.csv", bad, Options{SkipBad: true})
	if got := w.state(); !strings.HasPrefix(got, "ann \"Ann\" member\n") || strings.Contains(got, "eve") {
		t.Errorf("%s", got)
	}
	for name, content := range map[string]string{
		"The header lacks: role, username. It has: Vorname, Nachname.": "Vorname,Nachname\nAnn,Lee\n",
		"The file is empty.":                  "",
		"This is not text":                    "class,role\x00\n",
		"The column username is there twice.": "user,username,role\n",
		"The header can't be read":            strings.Repeat("a,", 300) + "\n",
		"not text in UTF-8 or GB18030":        "role,username\n\xff\xff\xff,\x81\n",
		"The quotes of this row don't match.": "role,username\nmember,\"ann\nmember,ben\n",
		"The user name ann is that of":        "", // OneRoster only: there keys are not names
	} {
		if content == "" && name != "The file is empty." {
			continue
		}
		r, err := Read("x.csv", []byte(content))
		if err != nil || r.Wrong == 0 || !strings.Contains(r.Problems[0].Text, name) {
			t.Errorf("%q: %+v %v", content, r, err)
		}
	}
}

// TestDigest: what was looked at is what is imported.
func TestDigest(t *testing.T) {
	w := newWorld(t)
	rep := w.preview("a.csv", smallSchool, Options{})
	for name, c := range map[string]struct {
		content string
		o       Options
		digest  string
	}{
		"another file":    {smallSchool + "5a,student,Eve,eve,,\n", Options{}, rep.Digest},
		"another option":  {smallSchool, Options{Partial: true}, rep.Digest},
		"another digest":  {smallSchool, Options{}, "0123"},
		"none":            {smallSchool, Options{}, ""},
		"a password only": {strings.Replace(smallSchool, "a temporary one", "a temporary two", 1), Options{}, rep.Digest},
	} {
		if _, err := w.service.Import(oak, "", "a.csv", []byte(c.content), c.o, c.digest); !im.Is(err, im.Conflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.add("zed", im.RoleMember) // changes nothing of it
	if again := w.preview("a.csv", smallSchool, Options{}); again.Digest != rep.Digest {
		t.Error("the digest is not stable")
	}
	w.add("ann", im.RoleMember) // does
	var e *im.Error
	_, err := w.service.Import(oak, "", "a.csv", []byte(smallSchool), Options{}, rep.Digest)
	if !errors.As(err, &e) || e.Kind != im.Conflict || e.Field != "digest" {
		t.Errorf("%v", err)
	}
	if _, err := w.service.Preview("elm", "", "a.csv", []byte(smallSchool), Options{}); !im.Is(err, im.NotFound) {
		t.Errorf("no such tenant: %v", err)
	}
}
