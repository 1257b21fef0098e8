package access

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

func mustPolicy(t *testing.T, preset string, changes ...string) *Policy {
	t.Helper()
	m := map[string]string{}
	for _, c := range changes {
		k, v, _ := strings.Cut(c, "=")
		m[k] = v
	}
	p, err := NewPolicy(preset, m)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestDirects: who may start a direct with whom, by hand for what the presets are
// chosen for. Columns: without and with a shared class.
func TestDirects(t *testing.T) {
	for _, c := range []struct {
		preset   string
		from, to im.Role
		want     string
	}{
		{"school", im.RoleMember, im.RoleMember, "fy"},
		{"school", im.RoleMember, im.RoleStaff, "fy"},
		{"school", im.RoleMember, im.RoleAdmin, "yy"},
		{"school", im.RoleMember, im.RoleOwner, "ff"},
		{"school", im.RoleMember, im.RoleGuest, "ff"},
		{"school", im.RoleStaff, im.RoleMember, "yy"},
		{"school", im.RoleStaff, im.RoleGuardian, "yy"},
		{"school", im.RoleGuardian, im.RoleStaff, "fy"},
		{"school", im.RoleGuardian, im.RoleMember, "ff"},
		{"school", im.RoleMember, im.RoleGuardian, "ff"},
		{"school", im.RoleGuest, im.RoleStaff, "ff"},
		{"office", im.RoleMember, im.RoleMember, "yy"},
		{"office", im.RoleGuest, im.RoleMember, "fy"},
		{"office", im.RoleGuest, im.RoleGuest, "ff"},
		{"open", im.RoleMember, im.RoleGuest, "yy"},
		{"open", im.RoleGuest, im.RoleMember, "ff"},
		{"open", im.RoleGuardian, im.RoleStaff, "yy"},
		{"open", im.RoleGuardian, im.RoleGuardian, "ff"},
		{"open", im.RoleBot, im.RoleMember, "ff"},
	} {
		p, got := mustPolicy(t, c.preset), ""
		for _, class := range []bool{false, true} {
			got += verdict(Decide(p, c.from, 0, im.KindDirect, Create, Object{Peer: c.to, SharesClass: class}))
		}
		if got != c.want {
			t.Errorf("%s: %v to %v: %s, want %s", c.preset, c.from, c.to, got, c.want)
		}
	}
}

// TestDirectGoesQuiet: a direct that neither of the two may start any more can be
// read and not written to; who may be written to may answer.
func TestDirectGoesQuiet(t *testing.T) {
	ask := func(p *Policy, from, to im.Role, act Action) string {
		return verdict(Decide(p, from, im.MemberMember, im.KindDirect, act, Object{Peer: to, Own: true}))
	}
	p := mustPolicy(t, "open")
	if got := ask(p, im.RoleMember, im.RoleMember, Send); got != "y" {
		t.Fatalf("open: %s", got)
	}
	if got := ask(p, im.RoleGuest, im.RoleMember, Send); got != "y" {
		t.Errorf("a guest can't answer: %s", got)
	}
	p = mustPolicy(t, "open", "direct.member.member=no")
	for act, want := range map[Action]string{Send: "f", Edit: "f", Read: "y", Mark: "y", Recall: "y", React: "y"} {
		if got := ask(p, im.RoleMember, im.RoleMember, act); got != want {
			t.Errorf("%v: %s, want %s", act, got, want)
		}
	}
}

// TestGuardian: writes to staff only, in whatever conversation and by any policy.
func TestGuardian(t *testing.T) {
	for _, name := range Presets() {
		p := mustPolicy(t, name)
		for kind := im.KindGroup; kind <= im.KindNotice; kind++ {
			for role := im.MemberOwner; role <= im.MemberReader; role++ {
				if got := verdict(Decide(p, im.RoleGuardian, role, kind, Send, Object{})); got != "f" {
					t.Errorf("%s: a guardian posts as %v of a %v", name, role, kind)
				}
				if got := verdict(Decide(p, im.RoleGuardian, role, kind, Read, Object{})); got != "y" {
					t.Errorf("%s: a guardian can't read as %v of a %v", name, role, kind)
				}
			}
		}
		for peer := im.RoleOwner; peer <= im.RoleBot; peer++ {
			want := "f"
			if peer <= im.RoleStaff {
				want = "y"
			}
			if got := verdict(Decide(p, im.RoleGuardian, im.MemberMember, im.KindDirect, Send, Object{Peer: peer})); got != want {
				t.Errorf("%s: a guardian writes to %v: %s", name, peer, got)
			}
		}
	}
	for _, fixed := range []string{"direct.guardian.member", "direct.member.guardian", "create.group.guardian"} {
		if _, err := NewPolicy("open", map[string]string{fixed: "yes"}); !im.Is(err, im.Invalid) {
			t.Errorf("%s can be set: %v", fixed, err)
		}
	}
}

func TestSees(t *testing.T) {
	for _, c := range []struct {
		preset       string
		viewer, seen im.Role
		want         string // stranger, classmate, linked
	}{
		{"school", im.RoleMember, im.RoleMember, "nyy"},
		{"school", im.RoleMember, im.RoleStaff, "yyy"},
		{"school", im.RoleMember, im.RoleGuardian, "nny"},
		{"school", im.RoleGuardian, im.RoleMember, "nny"},
		{"school", im.RoleGuardian, im.RoleStaff, "yyy"},
		{"school", im.RoleGuest, im.RoleStaff, "nyy"},
		{"school", im.RoleStaff, im.RoleGuest, "yyy"},
		{"office", im.RoleMember, im.RoleMember, "yyy"},
		{"office", im.RoleGuest, im.RoleMember, "nyy"},
		{"open", im.RoleGuest, im.RoleMember, "yyy"},
		{"open", im.RoleGuardian, im.RoleMember, "nny"},
		{"open", 0, im.RoleMember, "nny"},
	} {
		p, got := mustPolicy(t, c.preset), ""
		for _, facts := range [][2]bool{{false, false}, {true, false}, {false, true}} {
			if Sees(p, c.viewer, c.seen, facts[0], facts[1]) {
				got += "y"
			} else {
				got += "n"
			}
		}
		if got != c.want {
			t.Errorf("%s: %v sees %v: %s, want %s", c.preset, c.viewer, c.seen, got, c.want)
		}
	}
	// Nil is Open.
	for viewer := im.RoleOwner; viewer <= im.RoleBot; viewer++ {
		for seen := im.RoleOwner; seen <= im.RoleBot; seen++ {
			if Sees(nil, viewer, seen, false, false) != Sees(Open, viewer, seen, false, false) {
				t.Errorf("%v %v", viewer, seen)
			}
		}
	}
}

// TestArchived: what is over can be read, marked and left, and says why not more.
func TestArchived(t *testing.T) {
	for act := Join; act <= SeeReceipts; act++ {
		err := Decide(nil, im.RoleOwner, im.MemberOwner, im.KindGroup, act, Object{Own: true, Archived: true})
		may := act == Join || act == Read || act == Mark || act == Leave || act == SeeReceipts
		if (err == nil) != may {
			t.Errorf("%v: %v", act, err)
		}
		if e, ok := err.(*im.Error); err != nil && (!ok || e.Kind != im.Forbidden || e.Reason != im.Archived) {
			t.Errorf("%v: %#v", act, err)
		}
	}
	if got := verdict(Decide(nil, im.RoleMember, 0, im.KindChannel, Join, Object{Archived: true})); got != "f" {
		t.Errorf("a stranger joins an archived channel: %s", got)
	}
	if got := verdict(Decide(nil, im.RoleGuest, 0, im.KindChannel, Join, Object{Archived: true})); got != "n" {
		t.Errorf("a guest hears of an archived channel: %s", got)
	}
}

func TestQuietHours(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p := mustPolicy(t, "school", "quiet.member=22:00-06:30", "quiet.staff=12:00-13:00", "quiet.zone=Europe/Berlin", "quiet.notices.admin=wait")
	at := func(text string) time.Time {
		when, err := time.ParseInLocation("2006-01-02 15:04:05", text, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return when.UTC()
	}
	for _, c := range []struct {
		role im.Role
		when string
		want time.Duration
	}{
		{im.RoleMember, "2026-11-25 21:59:59", 0},
		{im.RoleMember, "2026-11-25 22:00:00", 8*time.Hour + 30*time.Minute},
		{im.RoleMember, "2026-11-26 06:29:30", 30 * time.Second},
		{im.RoleMember, "2026-11-26 06:30:00", 0},
		{im.RoleMember, "2026-03-28 23:00:00", 6*time.Hour + 30*time.Minute}, // the night to summer time
		{im.RoleMember, "2026-10-24 23:00:00", 8*time.Hour + 30*time.Minute}, // and back
		{im.RoleStaff, "2026-11-25 12:30:00", 30 * time.Minute},
		{im.RoleStaff, "2026-11-25 13:00:00", 0},
		{im.RoleOwner, "2026-11-25 23:00:00", 0},
		{im.RoleMember, "1970-01-01 23:00:00", 0}, // nobody knows what time it is
	} {
		if got := p.QuietFor(c.role, at(c.when)); got != c.want {
			t.Errorf("%v at %s: %v, want %v", c.role, c.when, got, c.want)
		}
	}
	if !p.PassesQuiet(im.RoleStaff, im.KindNotice) || p.PassesQuiet(im.RoleStaff, im.KindGroup) ||
		p.PassesQuiet(im.RoleAdmin, im.KindNotice) || p.PassesQuiet(im.RoleMember, im.KindNotice) {
		t.Error("whose notices pass")
	}
	var none *Policy
	if none.QuietFor(im.RoleMember, at("2026-11-25 23:00:00")) != 0 || none.PassesQuiet(im.RoleOwner, im.KindNotice) || none.KeepsRecalled() {
		t.Error("no policy has quiet hours, or keeps what is recalled")
	}
	if n := testing.AllocsPerRun(100, func() { p.QuietFor(im.RoleMember, at0) }); n != 0 {
		t.Errorf("looking at the clock allocates %v times", n)
	}
}

var at0 = time.Date(2026, 11, 25, 23, 0, 0, 0, time.UTC)

// TestSettings: every setting can be read, written to each of its values and
// taken back; what is wrong is named with what would be right.
func TestSettings(t *testing.T) {
	for _, name := range Presets() {
		p := mustPolicy(t, name)
		if len(p.Changed()) != 0 {
			t.Errorf("%s: %v", name, p.Changed())
		}
		for _, s := range p.Settings() {
			if s.Value != s.Default {
				t.Errorf("%s: %+v", name, s)
			}
			value := map[string]string{"yes, class or no": "yes no class", "yes or no": "no yes", "pass or wait": "wait pass",
				"hide or erase": "hide erase", "off, or hours as in 22:00-06:00": "21:00-07:00", "box, or a time zone as in Asia/Shanghai": "Asia/Shanghai"}[s.Allowed]
			if value == "" {
				t.Fatalf("%s allows %q", s.Name, s.Allowed)
			}
			for _, v := range strings.Fields(value) {
				next, err := p.With(map[string]string{s.Name: v})
				if err != nil {
					t.Fatalf("%s=%s: %v", s.Name, v, err)
				}
				i := slices.IndexFunc(next.Settings(), func(x Setting) bool { return x.Name == s.Name })
				if got := next.Settings()[i].Value; got != v {
					t.Errorf("%s=%s reads as %s", s.Name, v, got)
				}
				changed := map[string]string{}
				if v != s.Default {
					changed[s.Name] = v
				}
				if !maps.Equal(next.Changed(), changed) {
					t.Errorf("%s=%s: changed %v", s.Name, v, next.Changed())
				}
				// What is stored says the same again, and the old policy is as it was.
				again, err := NewPolicy(next.Preset(), next.Changed())
				if err != nil || !slices.Equal(again.Settings(), next.Settings()) {
					t.Errorf("%s=%s does not survive: %v", s.Name, v, err)
				}
				back, err := next.With(map[string]string{s.Name: s.Default})
				if err != nil || len(back.Changed()) != 0 || !slices.Equal(back.Settings(), p.Settings()) {
					t.Errorf("%s can't be taken back: %v", s.Name, err)
				}
			}
			if _, err := p.With(map[string]string{s.Name: "maybe"}); !im.Is(err, im.Invalid) || err.(*im.Error).Field != s.Name {
				t.Errorf("%s=maybe: %v", s.Name, err)
			}
		}
	}
	for name, want := range map[string]string{
		"direct.member.stafff": "Did you mean direct.member.staff?",
		"recal":                "Did you mean recall?",
		"weather":              `There is no setting "weather".`,
	} {
		_, err := Open.With(map[string]string{name: "yes"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, v := range []string{"", "22-06", "22:00", "25:00-06:00", "07:00-07:00", "22:00–06:00"} {
		if _, err := Open.With(map[string]string{"quiet.member": v}); err == nil {
			t.Errorf("quiet.member=%q is accepted", v)
		}
	}
	if _, err := NewPolicy("schol", nil); !im.Is(err, im.Invalid) {
		t.Errorf("%v", err)
	}
}

func TestChannelsAndCreation(t *testing.T) {
	p := mustPolicy(t, "school")
	if verdict(Decide(p, im.RoleMember, 0, im.KindGroup, Create, Object{})) != "f" ||
		verdict(Decide(p, im.RoleStaff, 0, im.KindNotice, Create, Object{})) != "y" {
		t.Error("school: who creates")
	}
	p = mustPolicy(t, "school", "create.group.member=yes", "channels.guest=yes", "channels.member=no")
	for _, c := range []struct {
		role im.Role
		act  Action
		kind im.ConvKind
		want string
	}{
		{im.RoleMember, Create, im.KindGroup, "y"}, {im.RoleMember, Create, im.KindChannel, "f"},
		{im.RoleGuest, Find, im.KindChannel, "y"}, {im.RoleGuest, Join, im.KindChannel, "y"},
		{im.RoleMember, Find, im.KindChannel, "f"}, {im.RoleMember, Join, im.KindChannel, "n"},
	} {
		if got := verdict(Decide(p, c.role, 0, c.kind, c.act, Object{})); got != c.want {
			t.Errorf("%v %v %v: %s, want %s", c.role, c.act, c.kind, got, c.want)
		}
	}
}
