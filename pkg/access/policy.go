package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// Rule says whether something is allowed between two people.
type Rule uint8

// The rules, in rising order.
const (
	No      Rule = iota
	InClass      // if they share a class
	Yes
)

var ruleNames = [...]string{"no", "class", "yes"}

// String returns the rule's name in settings.
func (r Rule) String() string { return ruleNames[min(r, Yes)] }

// RecallMode says what becomes of the stored text of a message that is recalled.
type RecallMode uint8

// The modes.
const (
	Erase RecallMode = iota // wiped at once
	Hide                    // kept for an inquiry; served to nobody
)

var recallNames = [...]string{"erase", "hide"}

// Policy is what a tenant lets its people do (PROTOCOL 4.7, 6.7), on top of the
// table. It is immutable once handed out, and made by a preset and changes to
// it.
type Policy struct {
	preset  string
	changed map[string]string // the settings that differ from the preset

	direct [im.NumRoles][im.NumRoles]Rule // who may start a direct with whom
	see    [im.NumRoles][im.NumRoles]Rule // who sees whom in directory and presence
	create [im.NumRoles]kindSet           // who may create what of group, channel, board
	find   roleSet                        // who may find and join channels
	quiet  [im.NumRoles]hours             // when the role's messages wait
	pass   roleSet                        // whose notices do not wait
	zone   *time.Location                 // of the quiet hours and terms
	recall RecallMode
}

// Preset returns the policy's preset, "school" for example.
func (p *Policy) Preset() string { return p.preset }

// Changed returns the settings that differ from the preset's, by name. The map
// is the caller's.
func (p *Policy) Changed() map[string]string {
	if p.changed == nil {
		return map[string]string{}
	}
	return maps.Clone(p.changed)
}

// Zone returns where the tenant's days begin and end, for quiet hours and terms:
// setting quiet.zone. A nil policy's is the box's own.
func (p *Policy) Zone() *time.Location {
	if p == nil {
		return time.Local
	}
	return p.zone
}

// Presets lists the names of the presets, the default last.
func Presets() []string { return []string{"school", "office", "open"} }

// Open is the preset of tenants that chose nothing: the defaults of the protocol.
var Open = preset("open")

// NewPolicy makes a policy of a preset and changes to it. Errors: im.Invalid with
// the name of the setting, or "preset", as field.
func NewPolicy(name string, changed map[string]string) (*Policy, error) {
	p := preset(name)
	if p == nil {
		return nil, im.E(im.Invalid, "There is no preset %q: it is one of %s.", name, strings.Join(Presets(), ", ")).OnField("preset")
	}
	return p.With(changed)
}

// With returns the policy with other values for some settings, by name. A value
// that is the preset's own takes a change back.
func (p *Policy) With(changes map[string]string) (*Policy, error) {
	next, base := *p, preset(p.preset)
	next.changed = p.Changed()
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		s, ok := settings[name]
		if !ok {
			return nil, unknownSetting(name)
		}
		if err := s.set(&next, strings.TrimSpace(changes[name])); err != nil {
			return nil, im.E(im.Invalid, "%s %s.", name, err).OnField(name)
		}
		if now := s.get(&next); now == s.get(base) {
			delete(next.changed, name)
		} else {
			next.changed[name] = now
		}
	}
	return &next, nil
}

// preset returns a new policy of that name, or nil. The letters in the tables are
// y yes, c if they share a class, - no; the columns are the roles in the order of
// their numbers, as are the rows.
func preset(name string) *Policy {
	p := &Policy{preset: name, zone: time.Local, pass: roles(im.RoleOwner, im.RoleAdmin, im.RoleStaff)}
	switch name {
	case "open":
		//            owner admin staff member guest guardian bot
		p.direct = rules("y y y y y y y", "y y y y y y y", "y y y y y y y", "y y y y y - y", "- - - - - - -", "y y y - - - -", "- - - - - - -")
		p.see = rules("y y y y y y y", "y y y y y y y", "y y y y y y y", "y y y y y y y", "y y y y y y y", "y y y - - - -", "y y y y y y y")
		p.create = creates("gcn", "gcn", "gcn", "g", "", "", "")
		p.find = roles(im.RoleOwner, im.RoleAdmin, im.RoleStaff, im.RoleMember, im.RoleBot)
	case "office":
		p.direct = rules("y y y y y y y", "y y y y y y y", "y y y y y y y", "y y y y y - y", "c c c c - - -", "y y y - - - -", "- - - - - - -")
		p.see = rules("y y y y y y y", "y y y y y y y", "y y y y y y y", "y y y y y - y", "c c c c c - -", "y y y - - - -", "y y y y - - -")
		p.create = creates("gcn", "gcn", "gcn", "gc", "", "", "")
		p.find = roles(im.RoleOwner, im.RoleAdmin, im.RoleStaff, im.RoleMember)
	case "school":
		p.direct = rules("y y y y y y y", "y y y y y y y", "y y y y y y y", "- y c c - - y", "- - - - - - -", "y y c - - - -", "- - - - - - -")
		p.see = rules("y y y y y y y", "y y y y y y y", "y y y y y y y", "y y y c - - y", "c c c - - - -", "y y y - - - -", "y y y c - - -")
		p.create = creates("gcn", "gcn", "gcn", "", "", "", "")
		p.find = roles(im.RoleOwner, im.RoleAdmin, im.RoleStaff, im.RoleMember)
		p.recall = Hide
	default:
		return nil
	}
	return p
}

func rules(rows ...string) (t [im.NumRoles][im.NumRoles]Rule) {
	for i, row := range rows {
		for j, letter := range strings.Fields(row) {
			t[i+1][j+1] = Rule(strings.Index("-cy", letter))
		}
	}
	return t
}

func creates(rows ...string) (t [im.NumRoles]kindSet) {
	for i, row := range rows {
		for _, letter := range row {
			t[i+1] |= 1 << map[rune]im.ConvKind{'g': im.KindGroup, 'c': im.KindChannel, 'n': im.KindNotice}[letter]
		}
	}
	return t
}

// hours are the quiet hours of a role: from a minute of the day to another, over
// midnight if that comes first. The zero value has none.
type hours struct{ from, to uint16 }

// left says how long they still last at now, which is in their zone.
func (h hours) left(now time.Time) time.Duration {
	if h.from == h.to || now.Year() < clockFloor {
		return 0
	}
	minute := uint16(now.Hour()*60 + now.Minute())
	over := h.from > h.to
	if over && minute >= h.to && minute < h.from || !over && (minute < h.from || minute >= h.to) {
		return 0
	}
	y, m, d := now.Date()
	if over && minute >= h.from {
		d++
	}
	// Of the calendar, not 24 h later: a change to summer time lies in between.
	end := time.Date(y, m, d, int(h.to/60), int(h.to%60), 0, 0, now.Location())
	return max(end.Sub(now), time.Second)
}

// clockFloor is the year before which a clock is known to be wrong: it is that of
// a Pi that was switched on without one.
const clockFloor = 2025

func (h hours) String() string {
	if h.from == h.to {
		return "off"
	}
	return fmt.Sprintf("%02d:%02d-%02d:%02d", h.from/60, h.from%60, h.to/60, h.to%60)
}

func parseHours(s string) (hours, error) {
	if s == "off" {
		return hours{}, nil
	}
	from, to, ok := strings.Cut(s, "-")
	a, ok1 := parseMinute(from)
	b, ok2 := parseMinute(to)
	if !ok || !ok1 || !ok2 || a == b {
		return hours{}, fmt.Errorf("is off, or two times of the day as in 22:00-06:00, not %q", s)
	}
	return hours{a, b}, nil
}

func parseMinute(s string) (uint16, bool) {
	t, err := time.Parse("15:04", strings.TrimSpace(s))
	if err != nil {
		return 0, false
	}
	return uint16(t.Hour()*60 + t.Minute()), true
}
