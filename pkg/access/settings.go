package access

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// Setting is one thing that an administrator may change.
type Setting struct {
	Name    string // "direct.member.staff"
	Value   string // "class"
	Default string // what the preset says
	Allowed string // for people: "yes, class or no"
}

// Settings lists every setting of the policy, in the order of the handbook.
func (p *Policy) Settings() []Setting {
	base := preset(p.preset)
	list := make([]Setting, len(settingNames))
	for i, name := range settingNames {
		s := settings[name]
		list[i] = Setting{Name: name, Value: s.get(p), Default: s.get(base), Allowed: s.allowed}
	}
	return list
}

// setting reads and writes one field of a policy. An error of set goes on after
// the setting's name.
type setting struct {
	allowed string
	get     func(*Policy) string
	set     func(*Policy, string) error
}

// settings are all of them by name, settingNames in order.
var settings, settingNames = makeSettings()

func makeSettings() (map[string]setting, []string) {
	all, names := make(map[string]setting), []string(nil)
	add := func(name string, s setting) {
		all[name] = s
		names = append(names, name)
	}
	between := func(area string, table func(*Policy) *[im.NumRoles][im.NumRoles]Rule) {
		for from := im.RoleOwner; from <= im.RoleBot; from++ {
			for to := im.RoleOwner; to <= im.RoleBot; to++ {
				if area == "direct" && guardianOnly(from, to) {
					continue // fixed: PROTOCOL 4.7
				}
				add(fmt.Sprintf("%s.%s.%s", area, from, to), choice(ruleNames[:],
					func(p *Policy) uint8 { return uint8(table(p)[from][to]) },
					func(p *Policy, v uint8) { table(p)[from][to] = Rule(v) }))
			}
		}
	}
	between("direct", func(p *Policy) *[im.NumRoles][im.NumRoles]Rule { return &p.direct })
	between("see", func(p *Policy) *[im.NumRoles][im.NumRoles]Rule { return &p.see })
	for kind := im.KindGroup; kind <= im.KindNotice; kind++ {
		for role := im.RoleOwner; role <= im.RoleBot; role++ {
			if role == im.RoleGuardian {
				continue // writes to staff only, so could not use it
			}
			add(fmt.Sprintf("create.%s.%s", kind, role), choice(noYes,
				func(p *Policy) uint8 { return uint8(p.create[role] >> kind & 1) },
				func(p *Policy, v uint8) { p.create[role] = p.create[role]&^(1<<kind) | kindSet(v)<<kind }))
		}
	}
	flags := func(area string, names []string, set func(*Policy) *roleSet) {
		for role := im.RoleOwner; role <= im.RoleBot; role++ {
			add(area+"."+role.String(), choice(names,
				func(p *Policy) uint8 { return uint8(*set(p) >> role & 1) },
				func(p *Policy, v uint8) { *set(p) = *set(p)&^(1<<role) | roleSet(v)<<role }))
		}
	}
	flags("channels", noYes, func(p *Policy) *roleSet { return &p.find })
	for role := im.RoleOwner; role <= im.RoleBot; role++ {
		add("quiet."+role.String(), setting{allowed: "off, or hours as in 22:00-06:00",
			get: func(p *Policy) string { return p.quiet[role].String() },
			set: func(p *Policy, v string) (err error) {
				p.quiet[role], err = parseHours(v)
				return err
			}})
	}
	flags("quiet.notices", []string{"wait", "pass"}, func(p *Policy) *roleSet { return &p.pass })
	add("quiet.zone", setting{allowed: "box, or a time zone as in Asia/Shanghai", get: zoneName, set: setZone})
	add("recall", choice(recallNames[:],
		func(p *Policy) uint8 { return uint8(p.recall) }, func(p *Policy, v uint8) { p.recall = RecallMode(v) }))
	return all, names
}

var noYes = []string{"no", "yes"}

// guardianOnly tells the pairs between whom a direct is never started: a guardian
// writes to staff only, and nobody else gets an answer from one.
func guardianOnly(from, to im.Role) bool {
	staff := roles(im.RoleOwner, im.RoleAdmin, im.RoleStaff)
	return from == im.RoleGuardian && !staff.has(to) || to == im.RoleGuardian && !staff.has(from)
}

// choice is a setting with one of a few values, by number.
func choice(values []string, get func(*Policy) uint8, set func(*Policy, uint8)) setting {
	shown := slices.Clone(values)
	slices.Reverse(shown)
	last := len(shown) - 1
	allowed := strings.Join(shown[:last], ", ") + " or " + shown[last]
	return setting{allowed: allowed,
		get: func(p *Policy) string { return values[get(p)] },
		set: func(p *Policy, v string) error {
			i := slices.Index(values, v)
			if i < 0 {
				return fmt.Errorf("is %s, not %q", allowed, v)
			}
			set(p, uint8(i))
			return nil
		}}
}

func zoneName(p *Policy) string {
	if p.zone == time.Local {
		return "box"
	}
	return p.zone.String()
}

func setZone(p *Policy, v string) error {
	if v == "box" {
		p.zone = time.Local
		return nil
	}
	zone, err := time.LoadLocation(v)
	if err != nil || v == "" || v == "Local" {
		return fmt.Errorf("is box, or a time zone that this machine knows, as in Asia/Shanghai, not %q", v)
	}
	p.zone = zone
	return nil
}

// unknownSetting names the nearest setting there is.
func unknownSetting(name string) error {
	best, distance := "", 1000
	for _, known := range settingNames {
		if d := apart(name, known); d < distance {
			best, distance = known, d
		}
	}
	hint := ""
	if distance <= max(2, len(name)/3) {
		hint = fmt.Sprintf(" Did you mean %s?", best)
	}
	return im.E(im.Invalid, "There is no setting %q.%s", name, hint).OnField(name)
}

// apart is the Levenshtein distance of two names.
func apart(a, b string) int {
	if len(a) > 100 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
