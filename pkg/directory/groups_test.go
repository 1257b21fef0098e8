package directory

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// school is a directory with a class 5a (tom teaches ann and ben), a class 6b
// (tom teaches cid), a guardian of ann and one of cid.
func school(t *testing.T, m *storetest.Model) (*Directory, *recorder, map[string]im.User) {
	t.Helper()
	d, rec := newDirectory(t, m)
	if _, err := d.AddTenant(t.Context(), "oak", ""); err != nil {
		t.Fatal(err)
	}
	users := map[string]im.User{}
	for name, r := range map[string]im.Role{"tom": im.RoleStaff, "tim": im.RoleStaff, "ann": im.RoleMember, "ben": im.RoleMember, "cid": im.RoleMember,
		"mum": im.RoleGuardian, "pop": im.RoleGuardian, "gus": im.RoleGuest} {
		u, err := d.AddUser(t.Context(), "oak", NewUser{Username: name, Role: r})
		if err != nil {
			t.Fatal(err)
		}
		users[name] = u
	}
	id := func(names ...string) (ids []im.UserID) {
		for _, n := range names {
			ids = append(ids, users[n].ID)
		}
		return ids
	}
	err := d.PutClasses(t.Context(), "oak", []im.Class{
		{ID: "k_5a", Name: "5a", Term: "2026", SourcedID: "c1", Teachers: id("tom"), Students: id("ann", "ben"), Group: "c_1", Board: "c_2", Created: 5},
		{ID: "k_6b", Name: "6b", Teachers: id("tom"), Students: id("cid")},
		{ID: "k_old", Name: "5a", Students: id("ann", "cid"), Archived: true}})
	if err != nil {
		t.Fatal(err)
	}
	err = d.PutRosterUsers(t.Context(), "oak", []im.RosterUser{
		{User: users["mum"].ID, SourcedID: "g1", GuardianOf: id("ann"), Listed: true}, {User: users["pop"].ID, GuardianOf: id("cid")}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := access.NewPolicy("school", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.SetPolicy(t.Context(), "oak", p); err != nil {
		t.Fatal(err)
	}
	return d, rec, users
}

// TestGroups: who shares a class and who sees whom, also after a restart; what is
// said of one tenant says nothing of another.
func TestGroups(t *testing.T) {
	m := model()
	d, _, users := school(t, m)
	if _, err := d.AddTenant(t.Context(), "elm", ""); err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		if again {
			d, _ = newDirectory(t, m)
		}
		for pair, want := range map[[2]string][2]bool{ // shares a class, sees
			{"ann", "ben"}: {true, true}, {"ann", "cid"}: {false, false}, {"ann", "tom"}: {true, true}, {"ann", "tim"}: {false, true},
			{"cid", "tom"}: {true, true}, {"mum", "tom"}: {true, true}, {"mum", "tim"}: {false, true}, {"mum", "ann"}: {true, true},
			{"mum", "ben"}: {true, false}, {"mum", "cid"}: {false, false}, {"ann", "mum"}: {true, true}, {"ben", "mum"}: {true, false},
			{"mum", "pop"}: {false, false}, {"gus", "tom"}: {false, false}, {"tom", "gus"}: {false, true}, {"gus", "gus"}: {false, true},
		} {
			a, b := users[pair[0]], users[pair[1]]
			if got := d.SharesClass("oak", a.ID, b.ID); got != want[0] {
				t.Errorf("%v share a class: %v", pair, got)
			}
			if got := d.Sees(im.Actor{Tenant: "oak", User: a.ID, Role: a.Role}, &b); got != want[1] {
				t.Errorf("%v: sees %v", pair, got)
			}
			if d.SharesClass("elm", a.ID, b.ID) {
				t.Errorf("%v share a class of another tenant", pair)
			}
		}
		if p := d.Policy("oak"); p == nil || p.Preset() != "school" {
			t.Errorf("policy %v", p)
		}
		if d.Policy("elm") != nil || len(d.Classes("elm")) != 0 {
			t.Error("another tenant has them too")
		}
		c, ok := d.Class("oak", "k_5a")
		if !ok || c.Tenant != "oak" || c.Term != "2026" || c.SourcedID != "c1" || c.Group != "c_1" || c.Board != "c_2" || len(c.Students) != 2 || c.Created != 5 {
			t.Errorf("%+v", c)
		}
		if u, ok := d.BySourcedID("oak", "g1"); !ok || u != users["mum"].ID || !d.RosterUser("oak", u).Listed {
			t.Error("by the roster's id")
		}
		if got := d.GuardiansOf("oak", users["ann"].ID); !slices.Equal(got, []im.UserID{users["mum"].ID}) {
			t.Errorf("guardians %v", got)
		}
		found, err := d.Search(im.Actor{Tenant: "oak", User: users["cid"].ID, Role: im.RoleMember}, "", 50)
		names := ""
		for _, u := range found {
			names += u.Username + " "
		}
		if err != nil || names != "cid pop tim tom " {
			t.Errorf("cid finds %q (%v)", names, err)
		}
		got, err := d.Get(im.Actor{Tenant: "oak", User: users["cid"].ID, Role: im.RoleMember}, []im.UserID{users["ann"].ID, users["tom"].ID})
		if err != nil || len(got) != 1 {
			t.Errorf("cid gets %v (%v)", got, err)
		}
	}
	tom, ann := users["tom"], users["ann"]
	actor := im.Actor{Tenant: "oak", User: ann.ID, Role: ann.Role}
	if n := testing.AllocsPerRun(100, func() { d.Sees(actor, &tom); d.SharesClass("oak", ann.ID, tom.ID); d.Policy("oak") }); n != 0 {
		t.Errorf("asking allocates %v times", n)
	}
	// Changes of users do not lose the groups, nor the other way round.
	if _, err := d.UpdateUser(t.Context(), "oak", ann.ID, UserChange{Role: role(im.RoleStaff)}); err != nil {
		t.Fatal(err)
	}
	if err := d.RenameTenant(t.Context(), "oak", "Oak School"); err != nil {
		t.Fatal(err)
	}
	if !d.SharesClass("oak", ann.ID, tom.ID) || d.Policy("oak") == nil {
		t.Error("a change of a user, or of the tenant, lost the classes")
	}
	if err := d.PutClasses(t.Context(), "ash", []im.Class{{ID: "k_1", Name: "x"}}); !im.Is(err, im.NotFound) {
		t.Errorf("classes of no tenant: %v", err)
	}
	if err := d.EraseTenant(t.Context(), "oak"); err != nil {
		t.Fatal(err)
	}
	if d.Policy("oak") != nil || len(d.Classes("oak")) != 0 {
		t.Error("erased, and still there")
	}
}

// TestPutUsers: by id, again and again; a user name that somebody else has is
// refused, the others go on.
func TestPutUsers(t *testing.T) {
	m := model()
	d, rec, users := school(t, m)
	var list []im.User
	for i := range 300 {
		list = append(list, im.User{ID: im.UserID(fmt.Sprintf("u_%016d", i)), Username: fmt.Sprintf("pupil%d", i), Name: fmt.Sprintf("Pupil %d", i), Role: im.RoleMember})
	}
	list = append(list, im.User{ID: "u_9999999999999999", Username: "tom", Name: "Another Tom", Role: im.RoleMember},
		im.User{ID: "u_9999999999999998", Username: "Not Folded", Name: "x", Role: im.RoleMember},
		im.User{ID: users["ben"].ID, Username: "whatever", Name: "Benjamin", Role: im.RoleMember, Disabled: true})
	for range 2 {
		errs := d.PutUsers(t.Context(), "oak", list)
		for i, err := range errs {
			switch i {
			case 300:
				wantKind(t, err, im.Exists, "username")
			case 301:
				wantKind(t, err, im.Invalid, "username")
			default:
				if err != nil {
					t.Fatalf("%d: %v", i, err)
				}
			}
		}
		ben, _ := d.User("oak", users["ben"].ID)
		if ben.Name != "Benjamin" || ben.Username != "ben" || !ben.Disabled || ben.Created == 0 {
			t.Errorf("%+v", ben)
		}
		if _, n := d.Size(); n != 308 {
			t.Errorf("%d users", n)
		}
	}
	closed := 0
	for _, e := range rec.events {
		if e.User == users["ben"].ID && e.Code == closeDisabled {
			closed++
		}
	}
	if closed != 1 {
		t.Errorf("ben's sockets were closed %d times", closed)
	}
	if d.SharesClass("oak", users["ann"].ID, users["tom"].ID) == false {
		t.Error("the classes are gone")
	}
	d, _ = newDirectory(t, m)
	if u, ok := d.ByUsername("oak", "pupil299"); !ok || u.Name != "Pupil 299" {
		t.Error("not stored")
	}
}
