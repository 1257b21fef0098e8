package health

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func board(log *bytes.Buffer) (*Board, *time.Time) {
	now := time.UnixMilli(1790000000000).UTC()
	return New(func() time.Time { return now }, slog.New(slog.NewTextHandler(log, nil))), &now
}

func codes(cs []Condition) string {
	var out []string
	for _, c := range cs {
		out = append(out, c.Code)
	}
	return strings.Join(out, " ")
}

func TestSetClearList(t *testing.T) {
	var log bytes.Buffer
	b, now := board(&log)
	if l := b.List(); l == nil || len(l) != 0 {
		t.Errorf("empty board lists %v", l)
	}
	begin := *now
	b.Set(ClockUntrusted, "1970")
	*now = now.Add(time.Minute)
	b.Set(DiskFull, "12 MiB free")
	b.Set(ClockUntrusted, "1971")
	if got := codes(b.List()); got != "disk-full clock-untrusted" {
		t.Errorf("order: %s", got)
	}
	c := b.List()[1]
	if !c.Since.Equal(begin) || c.Detail != "1971" {
		t.Errorf("set again: since %v, detail %q", c.Since, c.Detail)
	}
	if !b.Holds(DiskFull) || b.Holds(StoreFailed) {
		t.Error("Holds is wrong")
	}
	if n := strings.Count(log.String(), "condition begins"); n != 2 {
		t.Errorf("%d beginnings logged", n)
	}
	if !strings.Contains(log.String(), `level=WARN msg="condition begins" condition=disk-full`) ||
		!strings.Contains(log.String(), `level=INFO msg="condition begins" condition=clock-untrusted`) {
		t.Errorf("log: %s", log.String())
	}
	b.Clear(ClockUntrusted)
	b.Clear(ClockUntrusted)
	if n := strings.Count(log.String(), "condition ends"); n != 1 {
		t.Errorf("%d ends logged", n)
	}
	if !strings.Contains(log.String(), "after=1m0s") {
		t.Errorf("log: %s", log.String())
	}
	b.Update(DiskFull, false, "")
	b.Update(StoreDamaged, true, "3")
	if got := codes(b.List()); got != "store-damaged" {
		t.Errorf("after update: %s", got)
	}
	b.Set(StoreDamaged, "4")
	*now = now.Add(time.Hour)
	b.Clear(StoreDamaged)
	b.Set(StoreDamaged, "5")
	if c := b.List()[0]; !c.Since.Equal(*now) {
		t.Errorf("a new beginning is dated %v", c.Since)
	}
}

func TestReady(t *testing.T) {
	b, _ := board(new(bytes.Buffer))
	b.Set(Starting, "")
	b.Set(DiskFull, "")
	if ok, why := b.Ready(); ok || codes(why) != "starting" {
		t.Errorf("ready %v, %s", ok, codes(why))
	}
	b.Clear(Starting)
	if ok, why := b.Ready(); !ok || len(why) != 0 {
		t.Errorf("a full disk still serves readers: ready %v, %s", ok, codes(why))
	}
}

func TestJSON(t *testing.T) {
	b, _ := board(new(bytes.Buffer))
	b.Set(StoreFailed, "EIO")
	j, err := json.Marshal(b.List())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"code":"store-failed"`, `"severity":"act"`, `"not_ready":true`, `"detail":"EIO"`, `"since":"2026-09-21T`} {
		if !strings.Contains(string(j), want) {
			t.Errorf("%s is not in %s", want, j)
		}
	}
}

// TestFigures: they come with the detail, change with it, and go with the condition.
func TestFigures(t *testing.T) {
	b, _ := board(new(bytes.Buffer))
	b.UpdateFigures(DiskShort, true, "5 free", map[string]int64{"free_bytes": 5})
	b.UpdateFigures(DiskShort, true, "4 free", map[string]int64{"free_bytes": 4})
	if c := b.List(); len(c) != 1 || c[0].Detail != "4 free" || c[0].Figures["free_bytes"] != 4 {
		t.Errorf("%+v", c)
	}
	b.Set(DiskShort, "nobody counted")
	if c := b.List(); len(c) != 1 || len(c[0].Figures) != 0 {
		t.Errorf("figures of an older detail: %+v", c)
	}
	b.UpdateFigures(DiskShort, false, "", nil)
	if c := b.List(); len(c) != 0 {
		t.Errorf("%+v", c)
	}
}

// TestCatalogue: every declared condition is in Kinds, once, with all its
// texts, and those that need action come first.
func TestCatalogue(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "conditions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(f, func(n ast.Node) bool {
		if u, ok := n.(*ast.UnaryExpr); ok && u.Op == token.AND {
			declared++
		}
		return true
	})
	seen := map[string]bool{}
	act := true
	for _, k := range Kinds() {
		if seen[k.Code] || !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(k.Code) {
			t.Errorf("code %q is doubled or odd", k.Code)
		}
		seen[k.Code] = true
		if k.Title == "" || k.Text == "" || k.Hint == "" {
			t.Errorf("%s lacks a text", k.Code)
		}
		if k.Severity == Act && !act {
			t.Errorf("%s needs action, but is listed below what does not", k.Code)
		}
		act = k.Severity == Act
	}
	if len(seen) != declared {
		t.Errorf("%d declared, %d in Kinds", declared, len(seen))
	}
}

func TestConcurrent(t *testing.T) {
	b, _ := board(new(bytes.Buffer))
	var wg sync.WaitGroup
	for _, k := range Kinds() {
		wg.Go(func() {
			for range 100 {
				b.Set(k, "x")
				b.List()
				b.Clear(k)
			}
			b.Set(k, "end")
		})
	}
	wg.Wait()
	if n := len(b.List()); n != len(Kinds()) {
		t.Errorf("%d hold, want %d", n, len(Kinds()))
	}
}
