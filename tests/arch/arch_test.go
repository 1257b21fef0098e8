package arch

import (
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestHouse is the check of this tree.
func TestHouse(t *testing.T) {
	found, err := Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// TestLocalFoldersAreIgnored: what running things leaves behind is not
// committed.
func TestLocalFoldersAreIgnored(t *testing.T) {
	data, err := os.ReadFile("../../.gitignore")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	for _, d := range append([]string{".build"}, localFolders...) {
		if !slices.Contains(lines, "/"+d+"/") {
			t.Errorf("/%s/ is not in .gitignore", d)
		}
	}
}

// TestTable holds what the rows promise one another.
func TestTable(t *testing.T) {
	for name, r := range table {
		if r.is == "" {
			t.Errorf("%s does not say what it is", name)
		}
		for _, to := range r.may {
			if to == below {
				continue
			}
			other, ok := table[to]
			if !ok {
				t.Errorf("%s may import %s, which has no row", name, to)
			} else if other.storey >= r.storey && !(name == "pkg/client" && to == "pkg/wire") && path.Dir(to) != name {
				t.Errorf("%s (%d) may import %s (%d), which is not below it", name, r.storey, to, other.storey)
			}
			if isDomain(name) && isDomain(to) {
				t.Errorf("%s may import %s: domain packages never do", name, to)
			}
		}
		if dir := path.Dir(name); dir != "pkg" && dir != "cmd" && dir != "image" && table[dir].storey != r.storey {
			t.Errorf("%s is on storey %d, its parent on %d", name, r.storey, table[dir].storey)
		}
	}
	for _, x := range reasons {
		r := table[x.from]
		if x.why == "" || r.is == "" || x.to != "" && table[x.to].is == "" || slices.Contains(r.may, x.to) {
			t.Errorf("the reason for %s → %s says something else than the table", x.from, x.to)
		}
	}
}

// good is a package file that breaks no rule.
func good(dir, imports string) string {
	return fmt.Sprintf("// Package %s is planted.\npackage %s\n\n%s", path.Base(dir), path.Base(dir), imports)
}

func ours(p string) string { return fmt.Sprintf("import _x %q\n", module+p) }

const goMod = "module github.com/pipit-im/pipit\n\nrequire " + easygoVersion + "\n"

// TestPlantedViolations: every rule finds what breaks it, with its reason, and
// only that.
func TestPlantedViolations(t *testing.T) {
	for _, tc := range []struct {
		name  string
		file  string
		text  string
		want  string // "" = nothing is found
		where string // "" = file
	}{
		{name: "nothing", file: "pkg/im/im.go", text: good("im", "")},
		{name: "nouns for all", file: "pkg/wire/wire.go", text: good("wire", ours("pkg/im"))},
		{name: "child to parent", file: "pkg/store/badgerstore/b.go", text: good("badgerstore", ours("pkg/store"))},
		{name: "client to wire", file: "pkg/client/c.go", text: good("client", ours("pkg/wire"))},
		{name: "allowed arrow", file: "pkg/hub/h.go", text: good("hub", ours("pkg/bus"))},
		{name: "app names back ends", file: "pkg/app/a.go", text: good("app", ours("pkg/store/badgerstore"))},
		{name: "a suite in a test", file: "pkg/chat/c_test.go", text: good("chat", ours("pkg/store/storetest"))},
		{name: "a rig", file: "tests/crash/c.go", text: good("crash", ours("pkg/store/badgerstore"))},

		{name: "noun to noun", file: "pkg/metrics/m.go", text: good("metrics", ours("pkg/health")), want: "nothing imports its own storey (0)"},
		{name: "parent to child", file: "pkg/store/s.go", text: good("store", ours("pkg/store/badgerstore")), want: "nothing imports its own storey (2)"},
		{name: "up", file: "pkg/store/s.go", text: good("store", ours("pkg/chat")), want: "imports go down only, and this is storey 2 to 3"},
		{name: "up in a test", file: "pkg/store/s_test.go", text: good("store", ours("pkg/chat")), want: "imports go down only"},
		{name: "domain", file: "pkg/chat/c.go", text: good("chat", ours("pkg/directory")), want: "domain packages never import one another"},
		{name: "domain in a test", file: "pkg/chat/c_test.go", text: good("chat", ours("pkg/auth/oidcop")), want: "domain packages never import one another"},
		{name: "hub asks", file: "pkg/hub/h.go", text: good("hub", ours("pkg/access")), want: "the hub decides nothing"},
		{name: "loop knows", file: "pkg/netloop/n.go", text: good("netloop", ours("pkg/wire")), want: "the loops know no user"},
		{name: "back end by name", file: "pkg/chat/c.go", text: good("chat", ours("pkg/store/badgerstore")), want: "back ends are named in app alone; use the contract pkg/store"},
		{name: "not in the row", file: "pkg/auth/a.go", text: good("auth", ours("pkg/wire")), want: "pkg/auth is credentials and tokens; it may import pkg/im pkg/metrics pkg/health pkg/store"},
		{name: "a command", file: "pkg/app/a.go", text: good("app", ours("cmd/pipitd")), want: "imports go down only"},
		{name: "tests", file: "pkg/app/a.go", text: good("app", ours("tests/crash")), want: "nothing imports it"},
		{name: "a rig uses a rig", file: "tests/crash/c.go", text: good("crash", ours("tests/crash/disk"))},
		{name: "a rig imports what is not planned", file: "tests/crash/c.go", text: good("crash", ours("pkg/billing")), want: "nothing imports it"},

		{name: "easygo", file: "pkg/hub/h.go", text: good("hub", "import _x \"github.com/mailru/easygo/netpoll\"\n"), want: "which only pkg/netloop may"},
		{name: "easygo in tests", file: "tests/load/l.go", text: good("load", "import _x \"github.com/mailru/easygo/netpoll\"\n"), want: "which only pkg/netloop may"},
		{name: "gobwas", file: "pkg/gateway/g_test.go", text: good("gateway", "import _x \"github.com/gobwas/ws\"\n"), want: "which only pkg/netloop and pkg/client may"},
		{name: "gobwas in a rig", file: "tests/load/l.go", text: good("load", "import _x \"github.com/gobwas/ws\"\n")},
		{name: "viper", file: "cmd/pipit/m.go", text: "// Command pipit is planted.\npackage main\nimport _x \"github.com/spf13/viper\"\n", want: "which only pkg/config may"},
		{name: "systemd", file: "pkg/app/a.go", text: good("app", "import _x \"github.com/coreos/go-systemd/v22/daemon\"\n"), want: "which only pkg/sysd may"},
		{name: "badger", file: "pkg/store/s.go", text: good("store", "import _x \"github.com/dgraph-io/badger/v4\"\n"), want: "which only pkg/store/badgerstore and pkg/badgerdir may"},

		{name: "no comment", file: "pkg/im/im.go", text: "package im\n", want: "has no package comment", where: "pkg/im"},
		{name: "comment of a command", file: "cmd/pipit/m.go", text: "// Package main is planted.\npackage main\n", want: "has no package comment", where: "cmd/pipit"},
		{name: "comment of tests alone", file: "tests/crash/c_test.go", text: "// Package crash_test is planted.\npackage crash_test\n"},
		{name: "too deep", file: "pkg/store/badgerstore/deep/d.go", text: good("deep", ""), want: "is more than 2 folders below pkg", where: "pkg/store/badgerstore/deep"},
		{name: "no row", file: "pkg/billing/b.go", text: good("billing", ""), want: "has no row in the table", where: "pkg/billing"},
		{name: "empty name", file: "tests/util/u.go", text: good("util", ""), want: `"util" names nothing`, where: "tests/util"},
		{name: "top folder", file: "docs/a.md", text: "x\n", want: "the top level holds", where: "docs"},
		{name: "hidden folder", file: ".ci/run", text: "x\n"},
		{name: "local folder", file: "var/x.go", text: "package y\n"},
		{name: "long file", file: "pkg/im/im.go", text: good("im", strings.Repeat("\n", 1000)), want: "has 1003 lines"},
		{name: "long generated file", file: "pkg/im/im.go", text: "// Code generated by x. DO NOT EDIT.\n\n" + good("im", strings.Repeat("\n", 1000))},
		{name: "init", file: "pkg/im/im.go", text: good("im", "func init() {}\n"), want: "has an init function"},
		{name: "method init", file: "pkg/im/im.go", text: good("im", "type t int\nfunc (t) init() {}\n")},
		{name: "skip", file: "pkg/im/im_test.go", text: good("im", "func TestX(t *testing.T) { t.Skipf(\"no\") }\n"), want: "skips a test"},
		{name: "skip in a rig", file: "tests/crash/c_test.go", text: good("crash", "func TestX(t *testing.T) { t.Skip() }\n")},
		{name: "another Skip", file: "pkg/im/im.go", text: good("im", "func x(r reader) { r.Skip(1) }\n")},
		{name: "side effects", file: "pkg/app/a.go", text: good("app", "import _ \"net/http/pprof\"\n"), want: "for its side effects"},
		{name: "embedding", file: "pkg/web/w.go", text: good("web", "import _ \"embed\"\n")},
		{name: "machine path", file: "systemd/pipit.service", text: "\nExecStart=/work" + "/main/pipitd\n", want: "a path of one machine", where: "systemd/pipit.service:2"},
		{name: "registry", file: "README.md", text: "https://proxy" + ".golang.org\n", want: "a registry's host", where: "README.md:1"},
		{name: "later", file: "pkg/im/im.go", text: good("im", "// TO"+"DO: x\n"), want: "a thing not done", where: "pkg/im/im.go:4"},
		{name: "syntax", file: "pkg/im/im.go", text: "package\n", want: "does not parse"},
		{name: "easygo's version", file: "go.mod", text: "require github.com/mailru/easygo v0.0.1\n", want: "easygo must be exactly"},
		{name: "replace", file: "go.mod", text: goMod + "replace a => b\n", want: "replaces a module", where: "go.mod:4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := fstest.MapFS{"go.mod": {Data: []byte(goMod)}}
			tree[tc.file] = &fstest.MapFile{Data: []byte(tc.text)}
			found, err := Check(tree)
			if err != nil {
				t.Fatal(err)
			}
			if tc.want == "" {
				if len(found) > 0 {
					t.Errorf("found %q", found)
				}
				return
			}
			where := tc.where
			if where == "" {
				where = tc.file
			}
			if len(found) != 1 || !strings.HasPrefix(found[0], where+": ") || !strings.Contains(found[0], tc.want) {
				t.Errorf("found %q, want one at %s with %q", found, where, tc.want)
			}
		})
	}
}

func TestPackageLines(t *testing.T) {
	tree := fstest.MapFS{"go.mod": {Data: []byte(goMod)}}
	for i := range 6 {
		tree[fmt.Sprintf("pkg/im/f%d.go", i)] = &fstest.MapFile{Data: []byte(good("im", strings.Repeat("\n", 900)))}
	}
	found, err := Check(tree)
	if err != nil || len(found) != 1 || !strings.Contains(found[0], "5418 lines without tests") {
		t.Errorf("%q, %v", found, err)
	}
	for i := range 3 {
		delete(tree, fmt.Sprintf("pkg/im/f%d.go", i))
		tree[fmt.Sprintf("pkg/im/f%d_test.go", i)] = &fstest.MapFile{Data: []byte(good("im", strings.Repeat("\n", 900)))}
	}
	if found, err := Check(tree); err != nil || len(found) != 0 {
		t.Errorf("tests count: %q, %v", found, err)
	}
}
