package roster

import (
	"context"
	"slices"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// ClassChange says what to change of a class by hand; nil leaves things as they
// are.
type ClassChange struct {
	Name     *string
	Term     *string
	Teachers *[]im.UserID
	Students *[]im.UserID
	Archived *bool // true: its term is over; false: it goes on after all
}

// AddClass makes a class with its group and its board. Errors: im.Invalid (field
// name, term, teachers or students), im.Exists for a class of that name and term,
// im.Conflict while an import is under way.
func (s *Service) AddClass(ctx context.Context, t im.TenantID, name, term string, teachers, students []im.UserID) (*im.Class, error) {
	var id im.ClassID
	err := s.byHand(ctx, t, func(p *planner) (err error) {
		c := im.Class{Tenant: t}
		if c.ID, err = s.dir.NewClassID(); err != nil {
			return err
		}
		id = c.ID
		for _, old := range s.dir.Classes(t) {
			if !old.Archived && old.Name == name && old.Term == term {
				return im.E(im.Exists, "There is a class %s already.", name).OnField("name")
			}
		}
		return p.edit(c, ClassChange{Name: &name, Term: &term, Teachers: &teachers, Students: &students})
	})
	if err != nil {
		return nil, err
	}
	c, _ := s.dir.Class(t, id)
	return c, nil
}

// ChangeClass changes a class, and its conversations with it. Errors: im.NotFound,
// im.Invalid, im.Conflict as of AddClass; im.Forbidden for people of an archived
// class.
func (s *Service) ChangeClass(ctx context.Context, t im.TenantID, id im.ClassID, ch ClassChange) (*im.Class, error) {
	err := s.byHand(ctx, t, func(p *planner) error {
		c, ok := s.dir.Class(t, id)
		if !ok {
			return noClass()
		}
		return p.edit(*c, ch)
	})
	if err != nil {
		return nil, err
	}
	c, _ := s.dir.Class(t, id)
	return c, nil
}

// Join puts a user into classes, each named by its id or by the name of one that
// goes on: as a teacher who may have that place by role, else as a student. Who is
// in one already stays as he is. Errors: im.NotFound for the first class that is
// not there, with the user in none of them; im.Conflict as of AddClass.
func (s *Service) Join(ctx context.Context, t im.TenantID, user im.UserID, classes []string) error {
	if len(classes) == 0 {
		return nil
	}
	return s.byHand(ctx, t, func(p *planner) error {
		u, ok := s.dir.User(t, user)
		if !ok {
			return im.E(im.NotFound, "There is no such user.").OnField("user")
		}
		for _, name := range classes {
			i := slices.IndexFunc(s.dir.Classes(t), func(c *im.Class) bool {
				return string(c.ID) == name || !c.Archived && c.Name == name
			})
			if i < 0 {
				return noClass()
			}
			c := *s.dir.Classes(t)[i]
			if slices.Contains(c.Teachers, user) || slices.Contains(c.Students, user) {
				continue
			}
			ch := ClassChange{}
			if u.Role == im.RoleMember {
				in := append(slices.Clone(c.Students), user)
				ch.Students = &in
			} else {
				in := append(slices.Clone(c.Teachers), user)
				ch.Teachers = &in
			}
			if err := p.edit(c, ch); err != nil {
				return err
			}
		}
		return nil
	})
}

func noClass() error { return im.E(im.NotFound, "There is no such class.").OnField("class") }

// EndTerm archives every class of a term, or, with an empty one, every class, and
// returns how many. The next roster makes new ones, which begin empty.
func (s *Service) EndTerm(ctx context.Context, t im.TenantID, term string) (n int, err error) {
	err = s.byHand(ctx, t, func(p *planner) error {
		for _, c := range s.dir.Classes(t) {
			if !c.Archived && (term == "" || c.Term == term) {
				p.archive(*c)
				n++
			}
		}
		return nil
	})
	return n, err
}

// today is the date where the tenant is, and "" while the clock is not relied on.
func (s *Service) today(t im.TenantID) string {
	now, known := s.date()
	if !known {
		return ""
	}
	return now.In(s.dir.Policy(t).Zone()).Format(time.DateOnly)
}

// over says whether a term with that last day has ended.
func (p *planner) over(ends string) bool { return ends != "" && p.today != "" && ends < p.today }

// EndOver archives every class whose term is over: the day after its last one has
// begun where the tenant is, and the clock is relied on. It returns how many. app
// calls it each hour. Errors: im.Conflict as of AddClass; it is tried again then.
func (s *Service) EndOver(ctx context.Context, t im.TenantID) (n int, err error) {
	today := planner{today: s.today(t)}
	if !slices.ContainsFunc(s.dir.Classes(t), func(c *im.Class) bool { return !c.Archived && today.over(c.Ends) }) {
		return 0, nil // nearly always: no plan, no write
	}
	err = s.byHand(ctx, t, func(p *planner) error {
		for _, c := range s.dir.Classes(t) {
			if !c.Archived && p.over(c.Ends) {
				p.archive(*c)
				n++
			}
		}
		return nil
	})
	return n, err
}

// SetGuardian says of whom a guardian is guardian; the boards of their classes
// follow. Errors: im.NotFound, im.Invalid (field guardian_of), im.Conflict.
func (s *Service) SetGuardian(ctx context.Context, t im.TenantID, guardian im.UserID, members []im.UserID) error {
	return s.byHand(ctx, t, func(p *planner) error {
		u, ok := s.dir.User(t, guardian)
		if !ok {
			return im.E(im.NotFound, "There is no such user.").OnField("user")
		}
		if u.Role != im.RoleGuardian && len(members) > 0 {
			return im.E(im.Invalid, "%s is %s: only a guardian has members to look after. Change the role first.", u.Username, u.Role).OnField("guardian_of")
		}
		for _, id := range members {
			if m, ok := s.dir.User(t, id); !ok || m.Role != im.RoleMember {
				return im.E(im.Invalid, "A guardian is guardian of members (students) of the same organisation.").OnField("guardian_of")
			}
		}
		ros := *s.dir.RosterUser(t, guardian)
		ros.GuardianOf = slices.Compact(slices.Sorted(slices.Values(members)))
		p.rosters[guardian] = ros
		return nil
	})
}

// byHand runs a small plan from beginning to end, journal and all, so that a cut
// in the middle is mended too. If ctx ends first, it goes on by itself.
func (s *Service) byHand(ctx context.Context, t im.TenantID, fn func(p *planner) error) error {
	if !s.tenant(t) {
		return im.E(im.NotFound, "There is no such tenant.").OnField("tenant")
	}
	if !s.begin(t, Preparing) {
		return busy()
	}
	p := &planner{t: t, dir: s.dir, r: &Roster{}, today: s.today(t), ids: map[string]im.UserID{}, users: map[im.UserID]im.User{},
		rosters: map[im.UserID]im.RosterUser{}, classes: map[im.ClassID]im.Class{}}
	err := fn(p)
	if err == nil {
		p.seats()
		p.collect()
		if !p.plan.empty() {
			err = s.write(ctx, t, &p.plan, 0)
		}
	}
	if err != nil || p.plan.empty() {
		s.end(t, "")
		return err
	}
	ended := make(chan struct{})
	s.wait.Go(func() {
		defer close(ended)
		defer s.end(t, "")
		s.finish(t, &p.plan, 0)
	})
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return im.E(im.Unavailable, "The change was taken and is still under way.")
	}
}

// edit puts a changed class into the plan.
func (p *planner) edit(c im.Class, ch ClassChange) error {
	old := c
	if ch.Name != nil {
		name, err := cleanName(*ch.Name)
		if err != nil {
			return im.E(im.Invalid, "The name of a class has 1 to %d characters.", im.MaxTitleRunes).OnField("name")
		}
		if c.Name = name; c.Group != "" && c.Name != old.Name {
			p.plan.Titles = append(p.plan.Titles, c.ID)
		}
	}
	if ch.Term != nil && *ch.Term != c.Term {
		if *ch.Term != "" {
			if _, err := cleanName(*ch.Term); err != nil {
				return im.E(im.Invalid, "The term is a name of at most %d characters.", im.MaxTitleRunes).OnField("term")
			}
		}
		c.Term = *ch.Term
	}
	for _, x := range []struct {
		field string
		to    *[]im.UserID
		list  *[]im.UserID
	}{{"teachers", ch.Teachers, &c.Teachers}, {"students", ch.Students, &c.Students}} {
		if x.to == nil {
			continue
		}
		if old.Archived && (ch.Archived == nil || *ch.Archived) {
			return im.E(im.Forbidden, "The class %s is over; its people stay as they are.", c.Name)
		}
		for _, id := range *x.to {
			if _, ok := p.dir.User(p.t, id); !ok {
				return im.E(im.NotFound, "There is no such user.").OnField(x.field)
			}
		}
		*x.list = slices.Compact(slices.Sorted(slices.Values(*x.to)))
	}
	c.Students = without(c.Students, c.Teachers) // who teaches is no student too
	if ch.Archived != nil && *ch.Archived != c.Archived {
		c.Archived = *ch.Archived
		if c.Archived {
			p.plan.Archive = append(p.plan.Archive, c.ID)
		} else {
			p.plan.Reopen = append(p.plan.Reopen, c.ID)
			if p.over(c.Ends) {
				c.Ends = "" // or it would end again within the hour
			}
		}
	}
	p.classes[c.ID] = c
	return nil
}
