package roster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
)

// groups plans the classes.
func (p *planner) groups() error {
	bySourced, byName, past := map[string]*im.Class{}, map[string]*im.Class{}, map[string]bool{}
	for _, c := range p.dir.Classes(p.t) {
		switch {
		case c.Archived:
			past[c.SourcedID] = true
		case c.SourcedID != "":
			bySourced[c.SourcedID] = c
		default:
			byName[strings.ToLower(c.Name)] = c
		}
	}
	for i := range p.r.Classes {
		x := &p.r.Classes[i]
		if x.SourcedID == "" {
			x.Term = cmp.Or(p.o.Term, x.Term)
		}
		old := byName[strings.ToLower(x.Name)]
		if x.SourcedID != "" {
			old = bySourced[x.SourcedID]
		}
		switch {
		case old == nil && (x.Gone || x.Name == ""):
			if x.Gone {
				p.r.note(x.Place, "The class %s is to be deleted, but is not here.", cut(x.Key))
			} else if past[x.SourcedID] {
				p.r.note(x.Place, "The class %s is over; its people stay as they are.", cut(x.Key))
			} else {
				p.r.problem(x.Place, "The class %s is neither in classes.csv nor here.", cut(x.Key))
			}
			continue
		case x.Gone:
			p.archive(*old, say("the roster says so"))
			continue
		case p.over(x.Ends) && old == nil:
			p.r.note(x.Place, "The class %s is left out: its term ended on %s.", cut(x.Name), x.Ends)
			continue
		case p.over(x.Ends):
			p.archive(*old, say("its term ended on %s", x.Ends))
			continue
		case old != nil && x.Term != "" && old.Term != "" && x.Term != old.Term:
			p.archive(*old, say("its term is over; the next begins empty"))
			old = nil
		}
		if err := p.group(x, old); err != nil {
			return err
		}
	}
	return nil
}

// group plans one class that is new (old is nil) or here.
func (p *planner) group(x *Class, old *im.Class) error {
	teachers, students := p.seated(x, x.Teachers), p.seated(x, x.Students)
	if old == nil {
		id, err := p.dir.NewClassID()
		if err != nil {
			return err
		}
		c := im.Class{Tenant: p.t, ID: id, Name: x.Name, Term: x.Term, Ends: x.Ends, SourcedID: x.SourcedID, Listed: true, Teachers: teachers, Students: students}
		p.classes[id] = c
		p.change("add", "class", x.Name, x.Term, sizes(len(teachers), len(students)), x.SourcedID+"\n"+p.names(teachers)+"\n"+p.names(students))
		return nil
	}
	next := *old
	next.Listed = true
	if x.Name != "" {
		next.Name, next.Term, next.Ends = x.Name, cmp.Or(x.Term, old.Term), cmp.Or(x.Ends, old.Ends)
	}
	if p.r.Delta || p.o.Partial {
		var left []im.UserID
		for _, key := range x.Left {
			if id, ok := p.resolve(key); ok {
				left = append(left, id)
			}
		}
		teachers, students = merged(old.Teachers, teachers, students, left), merged(old.Students, students, teachers, left)
	}
	next.Teachers, next.Students = teachers, students
	var details []Said
	if next.Name != old.Name {
		details = append(details, say("name: %s → %s", old.Name, next.Name))
		p.plan.Titles = append(p.plan.Titles, old.ID)
	}
	if next.Term != old.Term || next.Ends != old.Ends {
		details = append(details, say("term: %s", strings.TrimSpace(next.Term+" "+next.Ends)))
	}
	if next.Listed != old.Listed {
		details = append(details, say("belongs to the roster from now on"))
	}
	about := ""
	was, is := slices.Concat(old.Teachers, old.Students), slices.Concat(teachers, students)
	joined, gone := without(is, was), without(was, is)
	if len(joined) > 0 {
		details = append(details, say("%d join: %s", len(joined), some(p.names(joined))))
	}
	if len(gone) > 0 {
		details = append(details, say("%d leave: %s", len(gone), some(p.names(gone))))
	}
	if moved := len(without(teachers, old.Teachers)) - len(without(teachers, was)); moved > 0 {
		details = append(details, say("%d teach now", moved))
	}
	if moved := len(without(students, old.Students)) - len(without(students, was)); moved > 0 {
		details = append(details, say("%d are students now", moved))
	}
	about += p.names(teachers) + "\n" + p.names(students)
	p.classes[old.ID] = next
	if len(details) > 0 {
		p.change("change", "class", next.Name, next.Term, details, about)
	}
	return nil
}

// seated turns keys into users, in order of id; who is unknown was reported.
func (p *planner) seated(x *Class, keys []string) []im.UserID {
	var ids []im.UserID
	for _, key := range keys {
		id, ok := p.resolve(key)
		if !ok {
			if p.r.Delta {
				p.r.problem(x.Place, "%s of the class %s is neither in this roster nor here.", cut(key), cut(x.Key))
			}
			continue
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// merged adds to a list and takes out who changed sides or left.
func merged(old, add, other, left []im.UserID) []im.UserID {
	list := slices.Concat(without(without(old, other), left), add)
	slices.Sort(list)
	return slices.Compact(list)
}

func without(list, drop []im.UserID) (rest []im.UserID) {
	set := make(map[im.UserID]bool, len(drop))
	for _, u := range drop {
		set[u] = true
	}
	for _, u := range list {
		if !set[u] {
			rest = append(rest, u)
		}
	}
	return rest
}

func some(names string) string {
	list := strings.Split(names, ", ")
	if len(list) <= 6 {
		return names
	}
	return strings.Join(list[:5], ", ") + fmt.Sprintf(" … (%d)", len(list))
}

// seats plans who sits in the conversations of each class: the difference
// between before and after, so that who was invited by hand stays.
func (p *planner) seats() {
	wards := map[im.UserID][]im.UserID{} // guardians by member, as planned
	for _, ros := range p.dir.RosterUsers(p.t) {
		if _, planned := p.rosters[ros.User]; !planned {
			for _, m := range ros.GuardianOf {
				wards[m] = append(wards[m], ros.User)
			}
		}
	}
	for id, ros := range p.rosters {
		for _, m := range ros.GuardianOf {
			wards[m] = append(wards[m], id)
		}
	}
	before := func(id im.UserID) bool { u, ok := p.dir.User(p.t, id); return ok && !u.Disabled }
	after := func(id im.UserID) bool { u, ok := p.user(id); return ok && !u.Disabled }
	for _, c := range p.dir.Classes(p.t) {
		next, planned := p.classes[c.ID]
		if !planned {
			next = *c
		}
		if c.Archived || next.Archived {
			continue
		}
		group, board := places(c, before, func(m im.UserID) []im.UserID { return p.dir.GuardiansOf(p.t, m) })
		nextGroup, nextBoard := places(&next, after, func(m im.UserID) []im.UserID { return wards[m] })
		s := Seats{Class: c.ID, Group: moves(group, nextGroup), Board: moves(board, nextBoard)}
		if len(s.Group)+len(s.Board) > 0 {
			p.plan.Seats = append(p.plan.Seats, s)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(p.classes)) {
		next := p.classes[id]
		old, here := p.dir.Class(p.t, id)
		if here && same(old, &next) {
			continue
		}
		p.plan.Classes = append(p.plan.Classes, next)
		if !here {
			p.plan.New = append(p.plan.New, id)
			group, board := places(&next, after, func(m im.UserID) []im.UserID { return wards[m] })
			p.plan.Seats = append(p.plan.Seats, Seats{Class: id, Group: moves(nil, group), Board: moves(nil, board)})
		}
	}
}

func same(a, b *im.Class) bool {
	return a.Name == b.Name && a.Term == b.Term && a.Ends == b.Ends && a.Archived == b.Archived && a.Listed == b.Listed && a.SourcedID == b.SourcedID &&
		slices.Equal(a.Teachers, b.Teachers) && slices.Equal(a.Students, b.Students)
}

// places says who of a class has which role in its group and on its board.
func places(c *im.Class, active func(im.UserID) bool, guardians func(im.UserID) []im.UserID) (group, board map[im.UserID]im.MemberRole) {
	group, board = map[im.UserID]im.MemberRole{}, map[im.UserID]im.MemberRole{}
	for _, u := range c.Students {
		for _, g := range guardians(u) {
			if active(g) {
				board[g] = im.MemberReader
			}
		}
	}
	for _, u := range c.Students {
		if active(u) {
			group[u], board[u] = im.MemberMember, im.MemberReader
		}
	}
	for _, u := range c.Teachers {
		if active(u) {
			group[u], board[u] = im.MemberOwner, im.MemberOwner
		}
	}
	return group, board
}

// moves is what leads from one to the other, in order of user id.
func moves(from, to map[im.UserID]im.MemberRole) (seats []chat.Seat) {
	for u, role := range to {
		if was := from[u]; was != role {
			seats = append(seats, chat.Seat{User: u, Role: role, Least: was == 0})
		}
	}
	for u := range from {
		if to[u] == 0 {
			seats = append(seats, chat.Seat{User: u})
		}
	}
	slices.SortFunc(seats, func(a, b chat.Seat) int { return cmp.Compare(a.User, b.User) })
	return seats
}
