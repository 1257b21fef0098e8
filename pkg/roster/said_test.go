package roster

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// sayers are the functions that make sentences, and which of their arguments is
// the format.
var sayers = map[string]int{"say": 0, "refuse": 0, "problem": 1, "note": 1}

// formats returns every format that this package makes a sentence of, with the
// place of it.
func formats(t *testing.T) map[string]string {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found, set := map[string]string{}, token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if _, makes := sayers[fn.Name.Name]; makes {
				continue // hands on the format of whoever calls it
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				called := ""
				switch f := call.Fun.(type) {
				case *ast.Ident:
					called = f.Name
				case *ast.SelectorExpr:
					called = f.Sel.Name
				}
				at, makes := sayers[called]
				if !makes || called == "problem" && len(call.Args) == 1 { // applying.problem takes what is said already
					return true
				}
				place := set.Position(call.Pos()).String()
				literal, ok := call.Args[at].(*ast.BasicLit)
				if !ok {
					t.Errorf("%s: the format is no literal, so nobody can look it up", place)
					return true
				}
				format, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				found[format] = place
				return true
			})
		}
	}
	return found
}

// TestCatalogue: whatever is said of a roster can be said in Chinese, with all
// that it names.
func TestCatalogue(t *testing.T) {
	const name = "../web/app/src/admin/i18n/roster.zh.ts"
	source, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	chinese := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^  ("(?:[^"\\]|\\.)*"): ("(?:[^"\\]|\\.)*"),$`).FindAllSubmatch(source, -1) {
		var format, words string
		if json.Unmarshal(m[1], &format) != nil || json.Unmarshal(m[2], &words) != nil {
			t.Fatalf("%s: %s", name, m[0])
		}
		chinese[format] = words
	}
	said := formats(t)
	if len(said) < 60 {
		t.Fatalf("only %d formats were found", len(said))
	}
	verb, slot := regexp.MustCompile(`%[sdqvc]`), regexp.MustCompile(`\{(\d+)(?::role)?\}`)
	for format, place := range said {
		words, ok := chinese[format]
		if !ok {
			t.Errorf("%s: %s has no words for %q", place, name, format)
			continue
		}
		named := map[string]bool{}
		for _, m := range slot.FindAllStringSubmatch(words, -1) {
			named[m[1]] = true
		}
		n := len(verb.FindAllString(format, -1))
		if strings.Count(format, "%") != n {
			t.Errorf("%s: %q has a verb that this test does not know", place, format)
		}
		for i := range n {
			if !named[strconv.Itoa(i+1)] {
				t.Errorf("%s: %q leaves out {%d} of %q", name, words, i+1, format)
			}
		}
		if len(named) != n {
			t.Errorf("%s: %q names %d things, %q %d", name, words, len(named), format, n)
		}
	}
	for format := range chinese {
		if _, ok := said[format]; !ok {
			t.Errorf("%s: nothing says %q any more", name, format)
		}
	}
}
