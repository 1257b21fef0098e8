package metrics_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pipit-im/pipit/pkg/health"
	"github.com/pipit-im/pipit/pkg/metrics"
)

// fill puts a number for every series that can be.
func fill(e *metrics.Emitter) {
	for _, d := range metrics.Defs() {
		if d.Type == metrics.TypeHistogram {
			continue
		}
		switch len(d.Labels) {
		case 0:
			e.Put(d, 1)
		case 1:
			for _, v := range d.Labels[0].Values {
				e.Put(d, 1, v)
			}
		case 2:
			for _, v := range d.Labels[0].Values {
				for _, w := range d.Labels[1].Values {
					e.Put(d, 1, v, w)
				}
			}
		}
	}
}

func TestNamesFollowTheRules(t *testing.T) {
	r := metrics.New("1.2.3")
	r.Source(fill)
	problems, err := testutil.GatherAndLint(r.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestOnlyEnumeratedLabels gathers everything and holds each label that is shown
// against the list of names that may be; none of them can carry an id.
func TestOnlyEnumeratedLabels(t *testing.T) {
	r := metrics.New("1.2.3")
	r.Source(fill)
	r.Source(func(e *metrics.Emitter) { e.Put(metrics.NetRefused, 1, "u_0123456789") })
	r.Counters(metrics.GatewayRequests).Cell("c_secret", "ok").Add(3)
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string][]string{}
	for _, d := range metrics.Defs() {
		for _, l := range d.Labels {
			allowed[d.Name+" "+l.Name] = append(slices.Clone(l.Values), metrics.Other)
		}
	}
	seen := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "pipit_") || f.GetName() == "pipit_build_info" {
			continue
		}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				seen++
				if !slices.Contains(allowed[f.GetName()+" "+l.GetName()], l.GetValue()) {
					t.Errorf("%s{%s=%q} is in no list", f.GetName(), l.GetName(), l.GetValue())
				}
			}
		}
	}
	if seen < 300 {
		t.Errorf("only %d labels were looked at", seen)
	}
	text := scrape(t, r)
	for _, want := range []string{`pipit_netloop_refused_total{cause="other"} 1`, `pipit_gateway_requests_total{method="other",outcome="ok"} 3`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing", want)
		}
	}
	if strings.Contains(text, "u_0123456789") || strings.Contains(text, "c_secret") {
		t.Error("an id is shown")
	}
}

func TestDeclarations(t *testing.T) {
	name := regexp.MustCompile(`^pipit_(netloop|gateway|commit|hub|bus|auth|api|store|health)_[a-z_]+$`)
	labels := []string{"cause", "code", "kind", "method", "outcome", "status"}
	seen := map[string]bool{}
	for _, d := range metrics.Defs() {
		if seen[d.Name] || !name.MatchString(d.Name) {
			t.Errorf("%s is doubled or does not name its stage", d.Name)
		}
		seen[d.Name] = true
		if (d.Type == metrics.TypeCounter) != strings.HasSuffix(d.Name, "_total") {
			t.Errorf("%s: only counters end in _total, and all do", d.Name)
		}
		if (d.Type == metrics.TypeHistogram) != (d.Buckets != nil) || !slices.IsSorted(d.Buckets) {
			t.Errorf("%s: buckets %v", d.Name, d.Buckets)
		}
		if d.Type == metrics.TypeHistogram && len(d.Labels) > 0 || len(d.Labels) > 2 {
			t.Errorf("%s has too many labels", d.Name)
		}
		for _, l := range d.Labels {
			if !slices.Contains(labels, l.Name) {
				t.Errorf("%s: label %q is not one of %v", d.Name, l.Name, labels)
			}
			if len(l.Values) == 0 || len(l.Values) > 40 || slices.Contains(l.Values, metrics.Other) {
				t.Errorf("%s: label %q has values %v", d.Name, l.Name, l.Values)
			}
		}
	}
	// Every declared variable is in Defs.
	f, err := parser.ParseFile(token.NewFileSet(), "defs.go", nil, 0)
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
	if declared != len(seen) {
		t.Errorf("%d declared, %d in Defs", declared, len(seen))
	}
	var codes []string
	for _, k := range health.Kinds() {
		codes = append(codes, k.Code)
	}
	if !slices.Equal(codes, metrics.HealthCondition.Labels[0].Values) {
		t.Errorf("conditions are %v, package health has %v", metrics.HealthCondition.Labels[0].Values, codes)
	}
}

// TestMethodsAreThoseOfTheProtocol compares the label with the text that is the
// authority.
func TestMethodsAreThoseOfTheProtocol(t *testing.T) {
	text, err := os.ReadFile("../wire/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range metrics.GatewayRequests.Labels[0].Values {
		if !strings.Contains(string(text), m) && !strings.Contains(string(text), "`"+m[strings.IndexByte(m, '.')+1:]+"`") {
			t.Errorf("%s is not in PROTOCOL.md", m)
		}
	}
	for _, m := range regexp.MustCompile("`((?:session|conversation|user|message|read|presence)\\.[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		if m[1] != "conversation.changed" && !slices.Contains(metrics.GatewayRequests.Labels[0].Values, m[1]) {
			t.Errorf("%s is no value of the label", m[1])
		}
	}
}

func TestSourcesAddUp(t *testing.T) {
	r := metrics.New("x")
	for i := range 3 {
		r.Source(func(e *metrics.Emitter) {
			e.Put(metrics.NetTurns, float64(i))
			e.Put(metrics.NetRefused, 2, "limit")
		})
	}
	c := r.Counters(metrics.BusDropped)
	if c != r.Counters(metrics.BusDropped) {
		t.Error("other atomics at the second call")
	}
	c.Cell().Add(5)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r.Counters(metrics.GatewayRequests).Cell("message.send", "ok").Add(1)
			scrape(t, r)
		})
	}
	wg.Wait()
	text := scrape(t, r)
	for _, want := range []string{"pipit_netloop_turns_total 3\n", `pipit_netloop_refused_total{cause="limit"} 6`, "pipit_bus_dropped_total 5\n",
		`pipit_gateway_requests_total{method="message.send",outcome="ok"} 8`, `pipit_build_info{version="x"} 1`, "go_goroutines ", "process_resident_memory_bytes "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(text, `method="message.edit"`) {
		t.Error("a series that never happened is shown")
	}
}

func TestUnfed(t *testing.T) {
	r := metrics.New("x")
	r.Source(func(e *metrics.Emitter) { e.Put(metrics.NetTurns, 0) })
	r.Counters(metrics.GatewayRequests)
	unfed := r.Unfed()
	if slices.Contains(unfed, metrics.NetTurns.Name) || slices.Contains(unfed, metrics.GatewayRequests.Name) || slices.Contains(unfed, metrics.CommitBatch.Name) {
		t.Errorf("fed, but listed: %v", unfed)
	}
	if !slices.Contains(unfed, metrics.StoreFree.Name) {
		t.Errorf("not fed, and not listed: %v", unfed)
	}
	r.Source(fill)
	if unfed := r.Unfed(); len(unfed) != 0 {
		t.Errorf("all fed, but %v", unfed)
	}
}

// TestHotPathAllocatesNothing: an observation and a count are on the path of
// each message.
func TestHotPathAllocatesNothing(t *testing.T) {
	r := metrics.New("x")
	h := r.Histogram(metrics.CommitSeconds)
	n := r.Counters(metrics.GatewayRequests).Cell("message.send", "ok")
	if got := testing.AllocsPerRun(1000, func() { h.Observe(.003); n.Add(1) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if text := scrape(t, r); !strings.Contains(text, "pipit_commit_duration_seconds_count 1001\n") {
		t.Error("observations are not shown")
	}
}

func TestMisuse(t *testing.T) {
	r := metrics.New("x")
	for name, f := range map[string]func(){
		"histogram of a gauge":     func() { r.Histogram(metrics.StoreFree) },
		"counters of a gauge":      func() { r.Counters(metrics.StoreFree) },
		"too few labels":           func() { r.Counters(metrics.GatewayRequests).Cell("ok") },
		"putting into a histogram": func() { r.Source(func(e *metrics.Emitter) { e.Put(metrics.NetLag, 1) }); r.Unfed() },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func scrape(t *testing.T, r *metrics.Registry) string {
	t.Helper()
	// MaxRequestsInFlight may turn a parallel scrape away; ask until it does not.
	for {
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if w.Code == http.StatusServiceUnavailable {
			continue
		}
		b, err := io.ReadAll(w.Body)
		if err != nil || w.Code != http.StatusOK {
			t.Errorf("status %d, %v: %s", w.Code, err, b)
		}
		return string(b)
	}
}
