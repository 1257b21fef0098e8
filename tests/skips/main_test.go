package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// events joins what `go test -json` would print.
func events(t *testing.T, es ...any) string {
	t.Helper()
	var b strings.Builder
	for _, e := range es {
		if s, ok := e.(string); ok {
			b.WriteString(s + "\n")
			continue
		}
		j, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(string(j) + "\n")
	}
	return b.String()
}

func out(pkg, test, text string) event {
	return event{Action: "output", Package: pkg, Test: test, Output: text}
}

func TestDigest(t *testing.T) {
	okLine := out("p", "", "ok  \tp\t0.1s\n")
	other := events(t, event{Action: "pass", Package: "q"}) // so that failing is not for want of results
	for _, tc := range []struct {
		name   string
		in     string
		ok     bool
		shown  []string
		hidden []string
		skips  []string
	}{
		{name: "pass", ok: true, shown: []string{"ok  \tp\t0.1s"}, hidden: []string{"noise", "PASS"},
			in: events(t, out("p", "A", "=== RUN A\n"), out("p", "A", "noise\n"), event{Action: "pass", Package: "p", Test: "A"},
				out("p", "", "PASS\n"), okLine, event{Action: "pass", Package: "p"})},
		{name: "fail", ok: false, shown: []string{"why", "FAIL\tp"}, hidden: []string{"noise"},
			in: events(t, out("p", "A", "noise\n"), event{Action: "pass", Package: "p", Test: "A"}, out("p", "B", "why\n"),
				event{Action: "fail", Package: "p", Test: "B"}, out("p", "", "FAIL\tp\t0.1s\n"), event{Action: "fail", Package: "p"}) + other},
		{name: "skip", ok: true, hidden: []string{"needs"}, skips: []string{"p C: x_test.go:3: needs root"},
			in: events(t, out("p", "C", "=== RUN   C\n"), out("p", "C", "    x_test.go:3: needs root\n"), out("p", "C", "--- SKIP: C (0.00s)\n"),
				event{Action: "skip", Package: "p", Test: "C"}, okLine, event{Action: "pass", Package: "p"})},
		{name: "no reason", ok: true, skips: []string{"p C: no reason given"},
			in: events(t, event{Action: "skip", Package: "p", Test: "C"}, okLine, event{Action: "pass", Package: "p"})},
		{name: "panic", ok: false, shown: []string{"panic: boom", "last words"},
			in: events(t, out("p", "D", "last words\n"), out("p", "", "panic: boom\n"), out("p", "", "FAIL\tp\t0.1s\n"), event{Action: "fail", Package: "p"})},
		{name: "build", ok: false, shown: []string{"x.go:1: wrong"},
			in: events(t, event{Action: "build-output", ImportPath: "p", Output: "x.go:1: wrong\n"}, event{Action: "build-fail", ImportPath: "p"}) + other},
		{name: "other text", ok: true, shown: []string{"go: downloading"},
			in: events(t, "go: downloading x", okLine, event{Action: "pass", Package: "p"})},
		{name: "no test files", ok: true, in: events(t, out("p", "", "?   \tp\t[no test files]\n"), event{Action: "skip", Package: "p"}),
			hidden: []string{"no test files"}},
		{name: "nothing", ok: false, shown: []string{"no package was tested"}},
		{name: "cut short", ok: true, shown: []string{"ok  \tp"}, in: strings.TrimSuffix(events(t, okLine, event{Action: "pass", Package: "p"}), "\n")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b bytes.Buffer
			ok, skips, err := digest(strings.NewReader(tc.in), &b)
			if err != nil || ok != tc.ok || !slices.Equal(skips, tc.skips) {
				t.Errorf("ok %v, skips %q, %v", ok, skips, err)
			}
			for _, s := range tc.shown {
				if !strings.Contains(b.String(), s) {
					t.Errorf("%q is not shown: %s", s, b.String())
				}
			}
			for _, s := range tc.hidden {
				if strings.Contains(b.String(), s) {
					t.Errorf("%q is shown: %s", s, b.String())
				}
			}
		})
	}
}

func TestOutputIsBounded(t *testing.T) {
	running := map[string]string{}
	for range 3 {
		keep(running, "k", strings.Repeat("x", outputBytes))
	}
	keep(running, "k", "end")
	if s := running["k"]; len(s) != outputBytes || !strings.HasSuffix(s, "xend") {
		t.Errorf("%d bytes kept", len(s))
	}
}

func TestSummary(t *testing.T) {
	file := filepath.Join(t.TempDir(), "skips")
	var b bytes.Buffer
	if ok, err := summarise(&b, file, true); !ok || err != nil || !strings.Contains(b.String(), "Nothing was skipped") {
		t.Errorf("without a file: %v, %v, %s", ok, err, b.String())
	}
	for range 2 {
		if err := remember(file, []string{"p A: needs root", "p B: no fuse"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, strict := range []bool{false, true} {
		b.Reset()
		ok, err := summarise(&b, file, strict)
		if ok == strict || err != nil {
			t.Errorf("strict %v: %v, %v", strict, ok, err)
		}
		if s := b.String(); !strings.Contains(s, "2 SKIPPED") || strings.Count(s, "needs root") != 1 || !strings.Contains(s, "no fuse") {
			t.Errorf("%s", s)
		}
	}
	if ok, err := summarise(&b, filepath.Dir(file), false); ok || err == nil {
		t.Errorf("a folder was summarised: %v, %v", ok, err)
	}
}
