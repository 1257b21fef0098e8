package directory

import (
	"slices"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

func TestFoldUsername(t *testing.T) {
	for in, want := range map[string]string{
		"ann":                    "ann",
		"Ann.Lee_2-x":            "ann.lee_2-x",
		"..-_":                   "..-_",
		"ＡＮＮ":                    "ann", // full width
		"JOSE\u0301":             "josé",
		"Дмитрий":                "дмитрий",
		"王小明":                    "王小明",
		"नमस्ते":                 "नमस्ते",  // marks belong to the letters
		"ΣΊΣΥΦΟΣ":                "σίσυφοσ", // each letter by itself
		strings.Repeat("a", 64):  strings.Repeat("a", 64),
		strings.Repeat("王", 21):  strings.Repeat("王", 21),
		"":                       "",
		" ann":                   "",
		"ann lee":                "",
		"ann@school":             "",
		"a/b":                    "",
		"a\x00":                  "",
		"a\u200d":                "",
		"a\u202eb":               "",
		"ann\n":                  "",
		"😀":                      "",
		"\xff":                   "",
		"½":                      "",
		strings.Repeat("a", 65):  "",
		strings.Repeat("王", 22):  "",
		strings.Repeat("A", 999): "",
	} {
		got, err := FoldUsername(in)
		if want == "" {
			wantKind(t, err, im.Invalid, "username")
		} else if err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzFoldUsername(f *testing.F) {
	for _, s := range []string{"ann", "ANN", "ＡＮＮ", "JOSE\u0301", "İ", "ß", "王", "a.b", "אב", "\u0300", "ϒ\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		folded, err := FoldUsername(s)
		if err != nil {
			return
		}
		if folded == "" || len(folded) > im.MaxUsernameBytes || strings.ContainsFunc(folded, notInUsername) {
			t.Fatalf("%q became %q", s, folded)
		}
		if again, err := FoldUsername(folded); err != nil || again != folded {
			t.Fatalf("%q became %q and then %q, %v", s, folded, again, err)
		}
	})
}

func TestCheckName(t *testing.T) {
	for in, want := range map[string]string{
		"Ann Lee":                  "Ann Lee",
		"\t Ann ":                  "Ann",
		"O'Neil, Zoë-Ann (5a) 👩‍🏫": "O'Neil, Zoë-Ann (5a) 👩‍🏫",
		strings.Repeat("王", 120):   strings.Repeat("王", 120),
		"":                         "",
		" \u3000":                  "",
		strings.Repeat("a", 121):   "",
		"a\nb":                     "",
		"a\x00b":                   "",
		"a\u0085b":                 "",
		"a\u2028b":                 "",
		"a\u202eb":                 "",
		"a\u2066b":                 "",
		"\u200b":                   "",
		"\xffann":                  "",
	} {
		got, err := checkName(in)
		if want == "" {
			wantKind(t, err, im.Invalid, "name")
		} else if err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestSearch(t *testing.T) {
	d, _ := newDirectory(t, model())
	mustTenant(t, d, "oak")
	mustTenant(t, d, "elm")
	for _, n := range [][2]string{
		{"ann", "Ann Lee"}, {"anna", "Anna Berg"}, {"bob", "Robert O'Neil"}, {"cid", "Cid Smith-Jones"}, {"jose", "Jose\u0301 A\u0301lvarez"},
		{"lee", "Maria Svensson"}, {"wang", "王小明"}, {"li", "Li 李小龙 (5a)"}, {"sis", "Σίσυφος"}, {"gone", "Ann Gone"}, {"王五", "Wang Wu"},
	} {
		mustUser(t, d, "oak", n[0], n[1])
	}
	mustUser(t, d, "elm", "ann", "Ann Elm")
	gone, _ := d.ByUsername("oak", "gone")
	if err := d.DisableUser(t.Context(), "oak", gone.ID, true); err != nil {
		t.Fatal(err)
	}
	ask := func(query string, limit int) []string {
		t.Helper()
		us, err := d.Search(im.Actor{Tenant: "oak", Role: im.RoleStaff}, query, limit)
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, u := range us {
			if u.Tenant != "oak" {
				t.Fatalf("found %+v of another tenant", u)
			}
			names = append(names, u.Username)
		}
		return names
	}
	for query, want := range map[string][]string{
		"ann":                {"ann", "anna"},
		"ANN":                {"ann", "anna"},
		" ann ":              {"ann", "anna"},
		"lee":                {"lee", "ann"}, // user name first, then name
		"ann lee":            {"ann"},
		"nn":                 {},
		"o'n":                {"bob"},
		"neil":               {"bob"},
		"jones":              {"cid"},
		"smith-j":            {"cid"},
		"ones":               {},
		"josé":               {"jose"}, // written in NFD, asked in NFC
		"ÁL":                 {"jose"},
		"王":                  {"王五", "wang"},
		"小明":                 {"wang"},
		"小":                  {"li", "wang"},
		"龙 (5a":              {"li"},
		"5a":                 {"li"},
		"明小":                 {},
		"ΣΊΣΥΦΟΣ":            {"sis"},
		"gone":               {},
		"(":                  {},
		"\x00":               {},
		"an\u0301":           {},
		"elm":                {},
		"zzzzzzzzzzzzzzzzzz": {},
	} {
		if got := ask(query, 50); !slices.Equal(got, want) {
			t.Errorf("%q finds %v, want %v", query, got, want)
		}
	}
	if got := ask("", 50); len(got) != 10 {
		t.Errorf("an empty query finds %v", got)
	}
	if got := ask("ann", 1); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("the first is %v", got)
	}
	if got := ask("lee", 1); !slices.Equal(got, []string{"lee"}) {
		t.Errorf("the first is %v", got)
	}
	if us, err := d.Search(im.Actor{Tenant: "ash", Role: im.RoleStaff}, "ann", 5); err != nil || len(us) != 0 {
		t.Errorf("a tenant that is not there finds %v, %v", us, err)
	}
	for field, fn := range map[string]func() error{
		"limit": func() error { _, err := d.Search(im.Actor{Tenant: "oak", Role: im.RoleStaff}, "a", 0); return err },
		"query": func() error {
			_, err := d.Search(im.Actor{Tenant: "oak", Role: im.RoleStaff}, strings.Repeat("a", 121), 5)
			return err
		},
	} {
		wantKind(t, fn(), im.Invalid, field)
	}
	_, err := d.Search(im.Actor{Tenant: "oak", Role: im.RoleStaff}, "\xff", 5)
	wantKind(t, err, im.Invalid, "query")
}

func TestSearchIsBounded(t *testing.T) {
	d, _ := newDirectory(t, people4000{model()})
	for _, query := range []string{"", "pupil", "ann"} {
		if us, err := d.Search(im.Actor{Tenant: "oakhill", Role: im.RoleStaff}, query, 4000); err != nil || len(us) != im.MaxFindPage {
			t.Errorf("%q finds %d, %v", query, len(us), err)
		}
	}
}

func TestGet(t *testing.T) {
	d, _ := newDirectory(t, model())
	mustTenant(t, d, "oak")
	mustTenant(t, d, "elm")
	ann, bob, other := mustUser(t, d, "oak", "ann", ""), mustUser(t, d, "oak", "bob", ""), mustUser(t, d, "elm", "ann", "")
	if err := d.DisableUser(t.Context(), "oak", bob.ID, true); err != nil {
		t.Fatal(err)
	}
	actor := im.Actor{Tenant: "oak", User: ann.ID, Role: im.RoleStaff}
	us, err := d.Get(actor, []im.UserID{bob.ID, other.ID, "u_x", ann.ID, bob.ID})
	if err != nil || len(us) != 2 || us[0].ID != bob.ID || us[1].ID != ann.ID {
		t.Fatalf("got %v, %v", us, err)
	}
	_, err = d.Get(actor, make([]im.UserID, im.MaxUserGet+1))
	wantKind(t, err, im.TooLarge, "users")
	if us, err := d.Get(im.Actor{Tenant: "ash", Role: im.RoleStaff}, []im.UserID{ann.ID}); err != nil || len(us) != 0 {
		t.Fatalf("got %v, %v", us, err)
	}
}
