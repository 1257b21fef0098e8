package arch

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// namingFiles promise things and name the tests that show them.
var namingFiles = []string{"SECURITY.md", "ARCHITECTURE.md", "tests/load/RESULTS.md"}

var (
	namedTest  = regexp.MustCompile("`(Test[A-Z0-9][A-Za-z0-9_]*)`")
	testHeader = regexp.MustCompile(`(?m)^func (Test[A-Z0-9][A-Za-z0-9_]*)\(\w+ \*testing\.T\)`)
	// ruleRow is a row of the table of RFC 9700: what it says, and in the last cell
	// which tests show it.
	ruleRow = regexp.MustCompile(`(?m)^\| [0-9][0-9., ]* \|.*\| ([^|]*) \|$`)
)

// noTest are the cells of rules that nothing can show: there is nothing of the kind.
var noTest = []string{"–"}

// unnamed returns what documents promise by tests that are not in the tree, and
// rules of SECURITY.md that name none.
func unnamed(tree fs.FS) (found []string, err error) {
	here := map[string]bool{}
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasSuffix(name, "_test.go") || strings.Contains(name, "node_modules/") {
			return err
		}
		data, err := fs.ReadFile(tree, name)
		for _, m := range testHeader.FindAllSubmatch(data, -1) {
			here[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, file := range namingFiles {
		data, err := fs.ReadFile(tree, file)
		if err != nil {
			return nil, err
		}
		for _, m := range namedTest.FindAllSubmatch(data, -1) {
			if !here[string(m[1])] {
				found = append(found, fmt.Sprintf("%s names %s, and there is no such test", file, m[1]))
			}
		}
		if file != "SECURITY.md" {
			continue
		}
		rows := ruleRow.FindAllSubmatch(data, -1)
		if len(rows) == 0 {
			found = append(found, file+" has no table of rules")
		}
		for _, m := range rows {
			if !namedTest.Match(m[1]) && !slices.Contains(noTest, string(m[1])) {
				found = append(found, fmt.Sprintf("%s: no test shows %.80s …", file, m[0]))
			}
		}
	}
	return found, nil
}

// TestNamedTests: a promise is shown by a test that exists.
func TestNamedTests(t *testing.T) {
	found, err := unnamed(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// TestNamedTestsPlanted holds that TestNamedTests can fail.
func TestNamedTestsPlanted(t *testing.T) {
	tree := fstest.MapFS{
		"a/a_test.go":           {Data: []byte("package a\n\nfunc TestHere(t *testing.T) {}\n\nfunc testThere() {}\n")},
		"ARCHITECTURE.md":       {Data: []byte("It holds (`TestHere`, not `TestGone`).\n")},
		"tests/load/RESULTS.md": {Data: []byte("go test -run TestNothing: no promise\n")},
		"SECURITY.md":           {Data: []byte("| RFC 9700 | rule | kept where | shown by |\n|---|---|---|---|\n| 2.1, 4.1 | a | op | `TestHere` |\n| 2.1.1 | b | op | by looking |\n| 4.17 | c | op | – |\n| 4.2 | d | op | `TestLost` |\n")},
	}
	found, err := unnamed(tree)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"SECURITY.md names TestLost, and there is no such test",
		"SECURITY.md: no test shows | 2.1.1 | b | op | by looking | …",
		"ARCHITECTURE.md names TestGone, and there is no such test",
	}
	if !slices.Equal(found, want) {
		t.Errorf("%q, want %q", found, want)
	}
}
