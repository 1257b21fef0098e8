package roster

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

// Options are what whoever imports may say about it.
type Options struct {
	Term    string // of the classes of a simple CSV; a class with another term is over
	Partial bool   // who is not in the roster stays; nobody is disabled, no class archived
	SkipBad bool   // bad rows are left out instead of standing in the way
}

// Change is one thing that an import will do, for people.
type Change struct {
	What   string `json:"what"` // "add", "change", "disable", "enable", "archive"
	Of     string `json:"of"`   // "person", "class"
	Key    string `json:"key"`  // user name, or name of the class
	Name   string `json:"name,omitempty"`
	Detail []Said `json:"detail,omitempty"` // "role: member → staff", "3 join", "1 leave"
	about  string // all that the digest covers
}

// Report says what importing a roster would do.
type Report struct {
	Format   string
	Digest   string // names this roster, these options and these changes
	People   int    // in the roster
	Classes  int
	Changes  []Change
	Problems []Problem
	Wrong    int
	Notes    int
}

// Counts returns how many changes there are by What and Of: "add person".
func (r *Report) Counts() map[string]int {
	n := map[string]int{}
	for _, c := range r.Changes {
		n[c.What+" "+c.Of]++
	}
	return n
}

// Plan is everything that an import does, so that doing it twice is doing it
// once. It is what the journal keeps.
type Plan struct {
	By        im.UserID
	Users     []im.User
	Passwords []Password `json:",omitempty"`
	Roster    []im.RosterUser
	Classes   []im.Class // as they will be; without Group they are new
	Seats     []Seats    // of classes that are here already
	Titles    []im.ClassID
	// New names classes that get conversations; their seats are those of all of
	// their people.
	New     []im.ClassID
	Archive []im.ClassID
	Reopen  []im.ClassID
}

// Password is a given one of a new person: as it is in memory, hashed in the
// journal.
type Password struct {
	User  im.UserID
	plain string
	PHC   string
}

// Seats are changes of the memberships of a class's conversations.
type Seats struct {
	Class        im.ClassID
	Group, Board []chat.Seat
}

func (p *Plan) empty() bool {
	return len(p.Users)+len(p.Roster)+len(p.Classes)+len(p.Seats)+len(p.Titles)+len(p.Archive)+len(p.Reopen) == 0
}

// planner works a plan out against a directory.
type planner struct {
	t   im.TenantID
	dir *directory.Directory
	r   *Roster
	o   Options
	// today is the date there, 2027-07-31: a term that ended before it is over. ""
	// while nobody knows the date.
	today string
	plan  Plan
	rep   Report

	ids     map[string]im.UserID // of people of the roster, by key
	users   map[im.UserID]im.User
	rosters map[im.UserID]im.RosterUser
	classes map[im.ClassID]im.Class
}

// makePlan says what importing r changes. Problems that only the directory shows
// are added to r's.
func makePlan(dir *directory.Directory, t im.TenantID, by im.UserID, r *Roster, o Options, source [32]byte, today string) (*Plan, *Report, error) {
	p := &planner{t: t, dir: dir, r: r, o: o, today: today, ids: make(map[string]im.UserID, len(r.People)), users: map[im.UserID]im.User{},
		rosters: map[im.UserID]im.RosterUser{}, classes: map[im.ClassID]im.Class{}}
	p.plan.By = by
	if err := p.people(); err != nil {
		return nil, nil, err
	}
	p.links()
	if err := p.groups(); err != nil {
		return nil, nil, err
	}
	p.missing()
	p.seats()
	p.collect()
	p.rep.Format, p.rep.People, p.rep.Classes = r.Format, len(r.People), len(r.Classes)
	p.rep.Problems, p.rep.Wrong, p.rep.Notes = r.Problems, r.Wrong, r.Notes
	h := sha256.New()
	fmt.Fprintf(h, "%x\n%+v\n", source, o)
	for _, c := range p.rep.Changes {
		fmt.Fprintf(h, "%q %q %q %q\n", c.What, c.Of, c.Key, c.about)
	}
	p.rep.Digest = hex.EncodeToString(h.Sum(nil)[:16])
	return &p.plan, &p.rep, nil
}

func (p *planner) change(what, of, key, name string, detail []Said, about string) {
	p.rep.Changes = append(p.rep.Changes, Change{What: what, Of: of, Key: key, Name: name, Detail: detail, about: name + "\n" + Join(detail) + "\n" + about})
}

// user returns a user as the plan leaves him.
func (p *planner) user(id im.UserID) (im.User, bool) {
	if u, ok := p.users[id]; ok {
		return u, true
	}
	if u, ok := p.dir.User(p.t, id); ok {
		return *u, true
	}
	return im.User{}, false
}

func (p *planner) roster(id im.UserID) im.RosterUser {
	if r, ok := p.rosters[id]; ok {
		return r
	}
	return *p.dir.RosterUser(p.t, id)
}

// find returns who here is that person of the roster.
func (p *planner) find(x *Person) (*im.User, bool) {
	byName, named := p.dir.ByUsername(p.t, x.Username)
	if x.SourcedID == "" {
		return byName, named
	}
	if id, ok := p.dir.BySourcedID(p.t, x.SourcedID); ok {
		u, ok := p.dir.User(p.t, id)
		return u, ok
	}
	return byName, named && !x.Gone
}

func (p *planner) people() error {
	room := im.MaxUsersPerTenant - p.dir.CountUsers(p.t)
	for i := range p.r.People {
		x := &p.r.People[i]
		old, here := p.find(x)
		switch {
		case x.Gone && !here:
			p.r.note(x.Place, "%s is to be deleted, but is not here.", cut(x.Key))
			continue
		case x.Gone:
			p.ids[x.Key] = old.ID
			p.disable(*old, say("the roster says so"))
			continue
		case here && x.SourcedID != "":
			if was := p.dir.RosterUser(p.t, old.ID).SourcedID; was != "" && was != x.SourcedID {
				p.r.problem(x.Place, "The user name %s is taken: it belongs to the person with sourcedId %s.", x.Username, cut(was))
				continue
			}
		}
		if !here {
			if room--; room < 0 {
				p.r.problem(x.Place, "There is no room for %s: a tenant has at most %d people.", x.Username, im.MaxUsersPerTenant)
				continue
			}
			if err := p.add(x); err != nil {
				return err
			}
			continue
		}
		p.update(x, old)
	}
	return nil
}

func (p *planner) add(x *Person) error {
	id, err := p.dir.NewUserID()
	if err != nil {
		return err
	}
	p.ids[x.Key] = id
	p.users[id] = im.User{Tenant: p.t, ID: id, Username: x.Username, Name: x.Name, Role: x.Role, Disabled: x.Disabled}
	p.rosters[id] = im.RosterUser{User: id, SourcedID: x.SourcedID, Listed: true, Missing: x.Disabled}
	detail := []Said{say("%s", x.Role)}
	if x.Password != "" {
		detail = append(detail, say("with a password to change"))
		p.plan.Passwords = append(p.plan.Passwords, Password{User: id, plain: x.Password})
	}
	if x.Disabled {
		detail = append(detail, say("disabled"))
	}
	p.change("add", "person", x.Username, x.Name, detail, x.SourcedID)
	return nil
}

func (p *planner) update(x *Person, old *im.User) {
	p.ids[x.Key] = old.ID
	next, was := *old, *p.dir.RosterUser(p.t, old.ID)
	ros := was
	ros.Listed = true
	var details []Said
	if x.SourcedID != "" && ros.SourcedID != x.SourcedID {
		ros.SourcedID = x.SourcedID
		details = append(details, say("is known by sourcedId %s from now on", cut(x.SourcedID)))
	} else if !was.Listed {
		details = append(details, say("was made by hand, and belongs to the roster from now on"))
	}
	if x.Username != old.Username {
		p.r.note(x.Place, "The user name of %s (%s) stays: a user name never changes, and the roster says %s.", cut(old.Name), old.Username, x.Username)
	}
	if x.Name != old.Name {
		details = append(details, say("name: %s → %s", old.Name, x.Name))
		next.Name = x.Name
	}
	if x.Role != old.Role {
		if old.Role == im.RoleOwner || old.Role == im.RoleAdmin {
			p.r.note(x.Place, "%s stays %s: a roster takes no right away from owners and admins.", old.Username, old.Role)
		} else {
			details = append(details, say("role: %s → %s", old.Role, x.Role))
			next.Role = x.Role
		}
	}
	what := "change"
	switch {
	case x.Disabled && !old.Disabled && old.Role != im.RoleOwner && old.Role != im.RoleAdmin:
		next.Disabled, ros.Missing, what = true, true, "disable"
	case !x.Disabled && was.Missing:
		next.Disabled, ros.Missing, what = false, false, "enable"
		details = append(details, say("is in the roster again"))
	case !x.Disabled && old.Disabled:
		p.r.note(x.Place, "%s stays disabled: somebody here disabled the account by hand.", old.Username)
	}
	if next != *old {
		p.users[old.ID] = next
	}
	if ros.SourcedID != was.SourcedID || ros.Listed != was.Listed || ros.Missing != was.Missing {
		p.rosters[old.ID] = ros
	}
	if len(details) > 0 || what != "change" {
		p.change(what, "person", old.Username, next.Name, details, "")
	}
}

// disable plans that a user is shut out, unless he runs the tenant.
func (p *planner) disable(u im.User, why Said) {
	if u.Disabled || u.Role == im.RoleOwner || u.Role == im.RoleAdmin {
		return
	}
	u.Disabled = true
	p.users[u.ID] = u
	ros := p.roster(u.ID)
	ros.Missing = true
	p.rosters[u.ID] = ros
	p.change("disable", "person", u.Username, u.Name, []Said{why}, "")
}

// links sets of whom guardians are guardians.
func (p *planner) links() {
	for i := range p.r.People {
		x := &p.r.People[i]
		id, ok := p.ids[x.Key]
		if !ok || x.Gone || x.Role != im.RoleGuardian && len(p.roster(id).GuardianOf) == 0 {
			continue
		}
		var wards []im.UserID
		for _, key := range x.GuardianOf {
			ward, ok := p.resolve(key)
			if !ok {
				p.r.problem(x.Place, "%s is guardian of %s, who is neither in this roster nor here.", x.Username, cut(key))
				continue
			}
			wards = append(wards, ward)
		}
		slices.Sort(wards)
		wards = slices.Compact(wards)
		ros := p.roster(id)
		if slices.Equal(wards, ros.GuardianOf) {
			continue
		}
		names := p.names(wards)
		if _, added := p.users[id]; !added || len(ros.GuardianOf) > 0 {
			now := say("guardian of nobody any more")
			if names != "" {
				now = say("guardian of %s", names)
			}
			p.change("change", "person", x.Username, x.Name, []Said{now}, "")
		} else {
			last := len(p.rep.Changes) - 1
			for ; last >= 0 && p.rep.Changes[last].Key != x.Username; last-- {
			}
			if last >= 0 {
				p.rep.Changes[last].Detail[0] = say("guardian of %s", names) // instead of the role
				p.rep.Changes[last].about += names
			}
		}
		ros.GuardianOf = wards
		p.rosters[id] = ros
	}
}

// resolve returns the user with that key in the roster or, for a delta, here.
func (p *planner) resolve(key string) (im.UserID, bool) {
	if id, ok := p.ids[key]; ok {
		return id, true
	}
	if !p.r.Delta {
		return "", false
	}
	return p.dir.BySourcedID(p.t, key)
}

func (p *planner) names(ids []im.UserID) string {
	var names []string
	for _, id := range ids {
		if u, ok := p.user(id); ok {
			names = append(names, u.Username)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// missing disables whom a bulk roster of the same kind of key names no more, and
// archives such classes.
func (p *planner) missing() {
	if p.r.Delta || p.o.Partial || p.r.Wrong > 0 && len(p.r.People) == 0 {
		return
	}
	named := make(map[im.UserID]bool, len(p.ids))
	for _, id := range p.ids {
		named[id] = true
	}
	sourced := p.r.Format != "CSV"
	for _, ros := range p.dir.RosterUsers(p.t) {
		if u, ok := p.dir.User(p.t, ros.User); ok && ros.Listed && (ros.SourcedID != "") == sourced && !named[ros.User] {
			p.disable(*u, say("is not in the roster any more"))
		}
	}
	for _, c := range p.dir.Classes(p.t) {
		if _, kept := p.classes[c.ID]; !kept && !c.Archived && c.Listed && (c.SourcedID != "") == sourced {
			p.archive(*c, say("is not in the roster any more"))
		}
	}
}

func (p *planner) archive(c im.Class, why ...Said) {
	c.Archived = true
	p.classes[c.ID] = c
	p.plan.Archive = append(p.plan.Archive, c.ID)
	p.change("archive", "class", c.Name, c.Term, why, string(c.ID))
}

// collect puts what changed into the plan, in a fixed order.
func (p *planner) collect() {
	for _, id := range slices.Sorted(maps.Keys(p.users)) {
		p.plan.Users = append(p.plan.Users, p.users[id])
	}
	for _, id := range slices.Sorted(maps.Keys(p.rosters)) {
		p.plan.Roster = append(p.plan.Roster, p.rosters[id])
	}
	slices.SortStableFunc(p.rep.Changes, func(a, b Change) int {
		return cmp.Or(cmp.Compare(order(a.Of), order(b.Of)), cmp.Compare(order(a.What), order(b.What)), cmp.Compare(a.Key, b.Key))
	})
}

func order(word string) int {
	return slices.Index([]string{"class", "person", "add", "change", "enable", "disable", "archive"}, word)
}
