package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// source is one Go file, as far as the rules need it.
type source struct {
	file    string // slash-separated, from the top
	test    bool
	name    string // of the package
	doc     string // package comment
	imports []string
	blank   []string // of them, those imported for their side effects
	inits   int
	skips   int // calls of t.Skip and its like
	lines   int
	made    bool // generated
}

// Check returns every violation in the tree, each with the file and the reason,
// sorted.
func Check(tree fs.FS) ([]string, error) {
	c := checker{packages: map[string][]source{}}
	if err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return c.dir(name)
		case !d.Type().IsRegular():
			return nil
		}
		return c.file(tree, name)
	}); err != nil {
		return nil, err
	}
	for dir, files := range c.packages {
		c.pkg(dir, files)
	}
	c.gomod(tree)
	sort.Strings(c.found)
	return c.found, nil
}

type checker struct {
	packages map[string][]source
	found    []string
}

func (c *checker) bad(where, format string, args ...any) {
	c.found = append(c.found, where+": "+fmt.Sprintf(format, args...))
}

func (c *checker) dir(name string) error {
	base := path.Base(name)
	switch {
	case name == ".":
		return nil
	case name == ".git", base == "node_modules", slices.Contains(localFolders, name), base == ".build":
		return fs.SkipDir
	case !strings.Contains(name, "/") && !strings.HasPrefix(name, ".") && !slices.Contains(topFolders, name):
		c.bad(name, "the top level holds %s and no other folder", strings.Join(topFolders, " "))
	}
	return nil
}

func (c *checker) file(tree fs.FS, name string) error {
	if !slices.ContainsFunc(textFiles, func(end string) bool { return strings.HasSuffix(name, end) }) {
		return nil
	}
	data, err := fs.ReadFile(tree, name)
	if err != nil {
		return err
	}
	text := string(data)
	if !strings.Contains(name, "testdata/fuzz/") {
		for _, f := range forbiddenText {
			if i := strings.Index(text, f.text); i >= 0 {
				c.bad(fmt.Sprintf("%s:%d", name, 1+strings.Count(text[:i], "\n")), "%q stands here: %s", f.text, f.why)
			}
		}
	}
	if !strings.HasSuffix(name, ".go") || strings.Contains("/"+name, "/testdata/") {
		return nil
	}
	s, err := parse(name, text)
	if err != nil {
		c.bad(name, "does not parse: %v", err)
		return nil
	}
	if s.lines > maxFileLines && !s.made {
		c.bad(name, "has %d lines; at most %d, mostly under 600", s.lines, maxFileLines)
	}
	if s.inits > 0 {
		c.bad(name, "has an init function: app wires everything, top to bottom, and nothing happens at import")
	}
	if s.skips > 0 && !slices.ContainsFunc(maySkip, func(p string) bool { return strings.HasPrefix(name, p) }) {
		c.bad(name, "skips a test: make it run everywhere, or move what needs a special machine to %s", strings.Join(maySkip, " or "))
	}
	for _, b := range s.blank {
		if !slices.Contains(blankImports, b) {
			c.bad(name, "imports %s for its side effects: what registers itself cannot be read in app", b)
		}
	}
	dir := path.Dir(name)
	c.packages[dir] = append(c.packages[dir], s)
	return nil
}

func parse(name, text string) (source, error) {
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s := source{file: name, test: strings.HasSuffix(name, "_test.go"), name: f.Name.Name, doc: f.Doc.Text(),
		lines: strings.Count(text, "\n"), made: ast.IsGenerated(f)}
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return source{}, err
		}
		s.imports = append(s.imports, p)
		if i.Name != nil && i.Name.Name == "_" {
			s.blank = append(s.blank, p)
		}
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			s.inits++
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
			if x, ok := sel.X.(*ast.Ident); ok && slices.Contains([]string{"t", "b", "f", "tb"}, x.Name) {
				s.skips++
			}
		}
		return true
	})
	return s, nil
}

func (c *checker) pkg(dir string, files []source) {
	lines, doc := 0, false
	for _, f := range files {
		if !f.test && !f.made {
			lines += f.lines
		}
		word := "Package " + f.name
		if f.name == "main" {
			word = "Command " + path.Base(dir)
		}
		doc = doc || strings.HasPrefix(f.doc, word+" ") || strings.HasPrefix(f.doc, strings.TrimSuffix(word, "_test")+" ")
		for _, i := range f.imports {
			c.library(dir, f, i)
			if to, ours := strings.CutPrefix(i, module); ours {
				c.arrow(dir, to, f)
			}
		}
	}
	if !doc {
		c.bad(dir, "has no package comment that begins with its name: what it is for, owns, never does, its concurrency, its contract")
	}
	most := maxPackageLines
	if l, ok := larger[dir]; ok {
		most = l.lines
	}
	if lines > most {
		c.bad(dir, "has %d lines without tests; at most %d", lines, most)
	}
	if slices.Contains(emptyNames, path.Base(dir)) {
		c.bad(dir, "%q names nothing: use the field's own word", path.Base(dir))
	}
	if rest, ok := strings.CutPrefix(dir, "pkg/"); ok && strings.Count(rest, "/") >= maxPkgDepth {
		c.bad(dir, "is more than %d folders below pkg", maxPkgDepth)
	} else if _, known := table[dir]; !known && !strings.HasPrefix(dir, "tests/") {
		c.bad(dir, "has no row in the table of tests/arch: say its storey and what it may import")
	}
}

// library applies oneImporter.
func (c *checker) library(dir string, f source, imported string) {
	for _, l := range oneImporter {
		if !strings.HasPrefix(imported, l.library) || slices.Contains(l.importers, dir) ||
			slices.ContainsFunc(l.tests, func(p string) bool { return strings.HasPrefix(dir, p) }) {
			continue
		}
		c.bad(f.file, "imports %s, which only %s may: %s", imported, strings.Join(l.importers, " and "), l.why)
	}
}

// arrow applies the table to one import of ours.
func (c *checker) arrow(from, to string, f source) {
	rig := strings.HasPrefix(from, "tests/")
	_, planned := table[to]
	switch {
	case from == to || rig && (planned || strings.HasPrefix(to, "tests/")):
		return // the rigs look at everything
	case !planned:
		c.bad(f.file, "imports %s: nothing imports it (rigs stand above everything, unknown packages nowhere)", to)
		return
	}
	row, known := table[from]
	if !known || allowed(from, to, row) || f.test && allowedInTest(from, to, row) {
		return // an unknown package was reported already
	}
	c.bad(f.file, "%s imports %s: %s", from, to, reason(from, to, row))
}

func allowed(from, to string, r row) bool {
	return slices.Contains(nouns, to) && r.storey > 0 ||
		path.Dir(from) == to || // child → parent
		slices.Contains(r.may, to) ||
		slices.Contains(r.may, below) && table[to].storey < r.storey
}

// allowedInTest: a test may use everything up to its own storey, so the suites
// and models of what it stands on, but not another domain package.
func allowedInTest(from, to string, r row) bool {
	return table[to].storey <= r.storey && !(isDomain(from) && isDomain(to))
}

func isDomain(p string) bool {
	return slices.ContainsFunc(domain, func(d string) bool { return p == d || strings.HasPrefix(p, d+"/") })
}

// reason is the most telling one there is.
func reason(from, to string, r row) string {
	for _, x := range reasons {
		if x.from == from && (x.to == to || x.to == "") {
			return x.why
		}
	}
	switch t := table[to]; {
	case isDomain(from) && isDomain(to):
		return "domain packages never import one another; app introduces them through interfaces"
	case t.storey > r.storey:
		return fmt.Sprintf("imports go down only, and this is storey %d to %d", r.storey, t.storey)
	case t.storey == r.storey:
		return fmt.Sprintf("nothing imports its own storey (%d)", r.storey)
	case path.Dir(to) != "pkg" && from != "pkg/app":
		return "back ends are named in app alone; use the contract " + path.Dir(to)
	}
	return fmt.Sprintf("%s is %s; it may import %s", from, r.is, strings.Join(append(slices.Clone(nouns), r.may...), " "))
}

func (c *checker) gomod(tree fs.FS) {
	data, err := fs.ReadFile(tree, "go.mod")
	if err != nil {
		c.bad("go.mod", "%v", err)
		return
	}
	if text := string(data); strings.Contains(text, "mailru/easygo ") && !strings.Contains(text, easygoVersion) {
		c.bad("go.mod", "easygo must be exactly %s", easygoVersion)
	}
	for i, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "replace ") {
			c.bad(fmt.Sprintf("go.mod:%d", i+1), "replaces a module: a checkout must build as published")
		}
	}
}
