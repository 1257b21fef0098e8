package roster

import (
	"maps"
	"strings"
	"testing"
)

// The same small school as two versions of OneRoster tell it.
var (
	one11 = map[string]string{
		"manifest.csv":         "propertyName,value\nmanifest.version,1.0\noneroster.version,1.1\nfile.orgs,bulk\nfile.users,bulk\nfile.academicSessions,bulk\nfile.courses,bulk\nfile.classes,bulk\nfile.enrollments,bulk\nfile.demographics,bulk\nfile.lineItems,absent\n",
		"orgs.csv":             "sourcedId,status,dateLastModified,name,type,identifier,parentSourcedId\no1,,,Oakhill,school,,\n",
		"academicSessions.csv": "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear\ny1,,,2026/27,schoolYear,2026-09-01,2027-07-31,,2027\nt1,,,Autumn,term,2026-09-01,2026-12-20,y1,2027\n",
		"courses.csv":          "sourcedId,status,dateLastModified,schoolYearSourcedId,title,courseCode,grades,orgSourcedId,subjects,subjectCodes\nk1,,,y1,Homeroom,H,,o1,,\n",
		"classes.csv":          "sourcedId,status,dateLastModified,title,grades,courseSourcedId,classCode,classType,location,schoolSourcedId,termSourcedIds,subjects,subjectCodes,periods\nc1,,,5a,05,k1,5a,homeroom,,o1,\"t1,y1\",,,\nc2,,,,06,k1,6b,homeroom,,o1,y1,,,\n",
		"users.csv": "sourcedId,status,dateLastModified,enabledUser,orgSourcedIds,role,username,userIds,givenName,familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password\n" +
			"u1,,,true,o1,teacher,tom,,Tom,Tull,,,,,,,,\nu2,,,true,o1,student,ann,,Ann,Lee,,,,,,p1,05,\nu3,,,true,o1,student,lixl,,小龙,李,,,,,,,05,\nu4,,,false,o1,student,ben,,Ben,Ito,,,,,,,05,\n" +
			"p1,,,true,o1,guardian,mia,,Mia,Lee,,,,,,,,\np2,,,true,o1,parent,max,,Max,Moon,,,,,,\"u3,u4\",,\nu9,,,true,o1,administrator,olga,,Olga,Office,,,,,,,,\n",
		"enrollments.csv":  "sourcedId,status,dateLastModified,classSourcedId,schoolSourcedId,userSourcedId,role,primary,beginDate,endDate\ne1,,,c1,o1,u1,teacher,true,,\ne2,,,c1,o1,u2,student,,,\ne3,,,c1,o1,u3,student,,,\ne4,,,c1,o1,u4,student,,,\ne5,,,c2,o1,u1,teacher,,,\n",
		"demographics.csv": "\x00\x01 nobody reads this \"",
	}
	one12 = func() map[string]string {
		files := maps.Clone(one11)
		files["manifest.csv"] = strings.Replace(files["manifest.csv"], "oneroster.version,1.1", "oneroster.version,1.2", 1) + "file.roles,bulk\n"
		files["users.csv"] = "sourcedId,status,dateLastModified,enabledUser,username,userIds,givenName,familyName,middleName,identifier,email,sms,phone,agentSourcedIds,grades,password,userMasterIdentifier,preferredGivenName,preferredMiddleName,preferredFamilyName,primaryOrgSourcedId,pronouns\n" +
			"u1,,,true,tom,,Thomas,Tull,,,,,,,,,,Tom,,,o1,\nu2,,,true,ann,,Ann,Lee,,,,,,p1,05,,,,,,o1,\nu3,,,true,lixl,,小龙,李,,,,,,,05,,,,,,o1,\nu4,,,false,ben,,Ben,Ito,,,,,,,05,,,,,,o1,\n" +
			"p1,,,true,mia,,Mia,Lee,,,,,,,,,,,,,o1,\np2,,,true,max,,Max,Moon,,,,,,\"u3,u4\",,,,,,,o1,\nu9,,,true,olga,,Olga,Office,,,,,,,,,,,,,o1,\n"
		files["roles.csv"] = "sourcedId,status,dateLastModified,userSourcedId,roleType,role,beginDate,endDate,orgSourcedId,userProfileSourcedId\n" +
			"r0,,,u1,secondary,parent,,,o1,\nr1,,,u1,primary,teacher,,,o1,\nr2,,,u2,primary,student,,,o1,\nr3,,,u3,primary,student,,,o1,\nr4,,,u4,primary,student,,,o1,\nr5,,,p1,primary,guardian,,,o1,\nr6,,,p2,primary,parent,,,o1,\nr7,,,u9,primary,siteAdministrator,,,o1,\n"
		return files
	}()
)

const oneState = `ann "Ann Lee" member
ben "Ben Ito" member disabled
lixl "李小龙" member
max "Max Moon" guardian of ben,lixl
mia "Mia Lee" guardian of ann
olga "Olga Office" staff
tom "Tom Tull" staff
class 5a (2026/27 2027-07-31) archived=false,false,false teachers tom students ann,ben,lixl
  group 5a: ann:member lixl:member tom:owner
  notice 📢 5a: ann:reader lixl:reader max:reader mia:reader tom:owner
class Homeroom (2026/27 2027-07-31) archived=false,false,false teachers tom students ` + `
  group Homeroom: tom:owner
  notice 📢 Homeroom: tom:owner
`

func with(files map[string]string, more ...string) map[string]string {
	c := maps.Clone(files)
	for i := 0; i < len(more); i += 2 {
		c[more[i]] = more[i+1]
	}
	return c
}

// TestOneRoster: both versions say the same, from a zip, in a folder of it, with
// what a Mac adds; demographics are never opened.
func TestOneRoster(t *testing.T) {
	for name, files := range map[string]map[string]string{"1.1": one11, "1.2": one12} {
		w := newWorld(t)
		inFolder := map[string]string{"__MACOSX/._users.csv": "junk", "export/.DS_Store": "junk", "export/readme.txt": "junk"}
		for n, content := range files {
			inFolder["export/"+n] = content
		}
		content := zipped(t, inFolder)
		rep := w.run("export.zip", content, Options{})
		if rep.Format != "OneRoster "+name || rep.Wrong != 0 || rep.People != 7 {
			t.Errorf("%s: %+v", name, rep)
		}
		w.same(name, w.state(), oneState)
		if rep = w.run("export.zip", content, Options{}); len(rep.Changes) != 0 {
			t.Errorf("%s again:\n%s", name, changes(rep))
		}
		// Ben is enabled: he takes his seat. Ann has another name and user name.
		files = with(files, "users.csv", strings.NewReplacer("u4,,,false", "u4,,,true", "ann,,Ann,Lee", "annlee,,Anne,Lee").Replace(files["users.csv"]))
		rep = w.run("export.zip", zipped(t, files), Options{})
		w.same(name+" enabled", changes(rep), "change person ann Anne Lee: name: Ann Lee → Anne Lee\nenable person ben Ben Ito: is in the roster again\n")
		if got := w.seats("5a"); got != "ann:member ben:member lixl:member tom:owner" {
			t.Errorf("%s: %s", name, got)
		}
		if got := problems(rep); !strings.Contains(got, "The user name of Ann Lee (ann) stays") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestDelta: only what it names changes.
func TestDelta(t *testing.T) {
	w := newWorld(t)
	w.run("all.zip", zipped(t, one12), Options{})
	delta := map[string]string{
		"manifest.csv":    "propertyName,value\noneroster.version,1.2\nfile.users,delta\nfile.roles,delta\nfile.classes,delta\nfile.enrollments,delta\n",
		"users.csv":       "sourcedId,status,dateLastModified,enabledUser,username,givenName,familyName,agentSourcedIds\nu5,active,2026-11-01T00:00:00Z,true,dan,Dan,Day,\nu2,tobedeleted,2026-11-01T00:00:00Z,,,,,\nu77,tobedeleted,2026-11-01T00:00:00Z,,,,,\n",
		"roles.csv":       "sourcedId,status,userSourcedId,roleType,role\nr9,active,u5,primary,student\n",
		"classes.csv":     "sourcedId,status,title\nc2,tobedeleted,\n",
		"enrollments.csv": "sourcedId,status,classSourcedId,userSourcedId,role\ne9,active,c1,u5,student\ne3,tobedeleted,c1,u3,student\ne8,active,c9,u5,student\n",
	}
	rep := w.preview("delta.zip", zipped(t, delta), Options{})
	if rep.Wrong != 1 || !strings.Contains(problems(rep), "enrollments.csv:4: The class c9 is neither in classes.csv nor here.") || !strings.Contains(problems(rep), "u77 is to be deleted, but is not here.") {
		t.Errorf("%s", problems(rep))
	}
	delta["enrollments.csv"] = strings.Replace(delta["enrollments.csv"], "c9", "c1", 1)
	rep = w.run("delta.zip", zipped(t, delta), Options{})
	w.same("delta", changes(rep), `change class 5a 2026/27: 1 join: dan; 1 leave: lixl
archive class Homeroom 2026/27: the roster says so
add person dan Dan Day: member
disable person ann Ann Lee: the roster says so
`)
	if got := w.seats("5a"); got != "dan:member tom:owner" {
		t.Errorf("%s", got)
	}
	if rep = w.run("delta.zip", zipped(t, delta), Options{}); len(rep.Changes) != 0 {
		t.Errorf("again:\n%s", changes(rep))
	}
	// The whole roster after it brings all back as it says.
	w.run("all.zip", zipped(t, one12), Options{})
	if got := w.seats("5a"); got != "ann:member lixl:member tom:owner" {
		t.Errorf("%s", got)
	}
	if dan, _ := w.dir.ByUsername(oak, "dan"); !dan.Disabled {
		t.Error("dan is in no roster, and not disabled")
	}
}

// TestOrphans: what refers to nothing is named by file and line.
func TestOrphans(t *testing.T) {
	add := func(files map[string]string, file, line string) map[string]string {
		return with(files, file, files[file]+line+"\n")
	}
	files := add(one11, "enrollments.csv", "e6,,,c77,o1,u1,teacher,,,")
	files = add(files, "enrollments.csv", "e7,,,c1,o1,u77,student,,,")
	files = add(files, "enrollments.csv", "e8,,,c1,o1,u2,janitor,,,")
	files = add(files, "classes.csv", "c3,,,7c,07,k77,7c,homeroom,,o77,t77,,,")
	files = add(files, "classes.csv", "c1,,,7c,07,k1,7c,homeroom,,o1,t1,,,")
	files = add(files, "users.csv", "u2,,,true,o1,student,anntwo,,Ann,Two,,,,,,,,")
	files = add(files, "users.csv", "u5,,,true,o1,student,ann,,Ann,Three,,,,,,,,")
	files = add(files, "users.csv", "u6,,,true,o1,student,kim,,Kim,Kay,,,,,,p77,,")
	files = add(files, "users.csv", ",,,true,o1,student,lee,,Lee,Lo,,,,,,,,")
	files = add(files, "users.csv", "u7,,,true,o77,student,lou,,Lou,Lo,,,,,,,,")
	files = add(files, "users.csv", "u8,,,true,o1,wizard,merlin,,Mer,Lin,,,,,,,,")
	files = add(files, "academicSessions.csv", "t9,,,Spring,term,2027-01-01,31.7.2027,y1,2027")
	files = add(files, "manifest.csv", "file.roles,bulk")
	r, err := Read("x.zip", []byte(zipped(t, files)))
	if err != nil {
		t.Fatal(err)
	}
	got := problems(&Report{Problems: r.Problems})
	for _, want := range []string{
		"enrollments.csv:7: The class c77 of this enrollment is not in classes.csv.",
		"enrollments.csv:8: The user u77 of this enrollment is not in users.csv.",
		`enrollments.csv:9: The role "janitor"`,
		"classes.csv:4: The school o77 of the class 7c is not in orgs.csv.",
		"classes.csv:4: The course k77 of the class 7c is not in courses.csv.",
		"classes.csv:4: The term t77 of the class 7c is not in academicSessions.csv.",
		"classes.csv:5: The sourcedId c1 is there twice (line 2).",
		"users.csv:9: The sourcedId u2 is there twice (line 3).",
		"users.csv:10: The user name ann is that of Ann Lee too (users.csv:3).",
		"users.csv:11: The agent p77 of kim is not in users.csv.",
		"users.csv:12: The sourcedId is missing.",
		"users.csv:13: The org o77 of lou is not in orgs.csv.",
		`users.csv:14: The role "wizard" is not one of OneRoster's.`,
		`academicsessions.csv:4: The endDate "31.7.2027" is no date like 2027-07-31.`,
		"manifest.csv:12: The manifest says that roles.csv is bulk, but the file is not there.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("not told: %s\n%s", want, got)
		}
	}
	if r.Wrong != 15 {
		t.Errorf("%d problems:\n%s", r.Wrong, got)
	}
}
