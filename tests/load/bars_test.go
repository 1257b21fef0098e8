package main

import (
	"strings"
	"testing"
)

func TestBarMet(t *testing.T) {
	low, high := bar{must: 4, aim: 2}, bar{must: 5000, aim: 20000, atLeast: true}
	for _, c := range []struct {
		bar    bar
		figure float64
		want   string
	}{
		{low, 2, "aim"}, {low, 2.01, "ok"}, {low, 4, "ok"}, {low, 4.01, "MISS"},
		{high, 20000, "aim"}, {high, 19999, "ok"}, {high, 5000, "ok"}, {high, 4999, "MISS"},
	} {
		if got := c.bar.met(c.figure); got != c.want {
			t.Errorf("%v against %v of %v: %s, want %s", c.figure, c.bar.must, c.bar.aim, got, c.want)
		}
	}
}

// Faults of all runs are one figure, and one fault is a miss.
func TestPrint(t *testing.T) {
	b := &bench{}
	b.saw("faults", 0, "first")
	b.saw("faults", 1, "second")
	b.saw("hot", 0.31, "%d sends", 7)
	var out strings.Builder
	b.print(&out)
	for _, want := range []string{"| **1.00** | MISS | 2 runs: first; second |", "| 0.50 × floor | 0.20 | **0.31** | ok | 7 sends |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "TLS") {
		t.Errorf("a bar that nobody measured is printed:\n%s", out.String())
	}
}
