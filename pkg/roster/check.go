package roster

import (
	"errors"
	"slices"

	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

func cleanUser(username, name string, role im.Role) (string, string, error) {
	return directory.CheckUser(username, name, role)
}

func cleanName(name string) (string, error) { return directory.CheckName(name) }

// explain returns the text for people of an error.
func explain(err error) string {
	var e *im.Error
	if errors.As(err, &e) && e.Message != "" {
		return e.Message
	}
	return "It can't be read."
}

// check looks at what can only be seen when everything was read: two people with
// one user name, guardians of nobody.
func (r *Roster) check() {
	keys := make(map[string]*Person, len(r.People))
	names := make(map[string]*Person, len(r.People))
	for i := range r.People {
		p := &r.People[i]
		keys[p.Key] = p
		if p.Gone {
			continue
		}
		if other := names[p.Username]; other != nil {
			r.problem(p.Place, "The user name %s is that of %s too (%s:%d).", p.Username, cut(other.Name), other.File, other.Line)
			continue
		}
		names[p.Username] = p
	}
	for i := range r.People {
		p := &r.People[i]
		p.GuardianOf = slices.Compact(slices.Sorted(slices.Values(p.GuardianOf)))
		p.GuardianOf = slices.DeleteFunc(p.GuardianOf, func(k string) bool {
			member := keys[k]
			switch {
			case member == nil && r.Delta:
				return false // the plan knows whether that is one who is here already
			case member == nil:
				r.problem(p.Place, "%s is guardian of %s, who is not in this roster.", p.Username, cut(k))
			case member.Role != im.RoleMember:
				r.problem(p.Place, "%s is guardian of %s, who is no member (student) but %s.", p.Username, member.Username, member.Role)
			default:
				return false
			}
			return true
		})
	}
	for i := range r.Classes {
		c := &r.Classes[i]
		if n := len(c.Teachers) + len(c.Students); n > directory.MaxClassPeople {
			r.problem(c.Place, "The class %s has %d people; at most %d.", cut(c.Name), n, directory.MaxClassPeople)
		}
	}
	if len(r.People) > im.MaxUsersPerTenant {
		r.problem(Place{File: r.People[0].File}, "The roster has %d people; at most %d.", len(r.People), im.MaxUsersPerTenant)
	}
}
