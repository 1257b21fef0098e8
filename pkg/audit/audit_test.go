package audit

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

const oak = im.TenantID("oakhill")

// aged is a store whose running time a test sets.
type aged struct {
	*storetest.Model
	age time.Duration
}

func (a *aged) Age() time.Duration { return a.age }

func newLog(t *testing.T) (*Log, *aged) {
	t.Helper()
	s := &aged{Model: storetest.NewModel(func() time.Time { return time.UnixMilli(1_790_000_000_000) })}
	if err := s.UpdateTenant(t.Context(), oak, func(*im.Tenant) (*im.Tenant, error) { return &im.Tenant{ID: oak, Name: "n"}, nil }); err != nil {
		t.Fatal(err)
	}
	return New(Options{Records: s, Box: s}), s
}

func (l *Log) fill(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		e := Event{Action: fmt.Sprintf("user.do%d", i%3), Object: fmt.Sprintf("user/u_%d", i%5)}
		if i%4 == 0 {
			e.Result = "forbidden"
		}
		if err := l.Add(t.Context(), oak, e); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPages: pages together are the log, whatever their size, and what is asked
// for narrows them.
func TestPages(t *testing.T) {
	l, _ := newLog(t)
	l.fill(t, 1203)
	for _, limit := range []int{1, 7, 500, 9999} {
		seen, before := uint64(1204), uint64(0)
		for {
			events, next, err := l.Page(t.Context(), oak, Query{}, before, limit)
			if err != nil || len(events) > min(limit, MaxPage) {
				t.Fatal(len(events), err)
			}
			for _, e := range events {
				if e.Seq != seen-1 {
					t.Fatalf("event %d after %d", e.Seq, seen)
				}
				seen = e.Seq
			}
			if before = next; next == 0 {
				break
			}
			if limit == 1 && seen < 1190 {
				seen = 1
				break
			}
		}
		if seen != 1 {
			t.Errorf("pages of %d end at %d", limit, seen)
		}
	}
	for q, want := range map[Query]int{
		{Action: "user.do1"}: 401, {Action: "user."}: 1203, {Action: "user"}: 0, {Object: "user/u_2"}: 241, {Object: "conversation/"}: 0,
		{Result: OK}: 902, {Result: "refused"}: 301, {Result: "forbidden"}: 301, {Actor: BySystem}: 1203, {Actor: "u_9"}: 0,
		{Since: 1_790_000_000_001}: 0, {Until: 1_790_000_000_000}: 0, {Since: 1, Until: 1_790_000_000_001}: 1203,
	} {
		found := 0
		for before := uint64(0); ; {
			events, next, err := l.Page(t.Context(), oak, q, before, 300)
			if err != nil {
				t.Fatal(err)
			}
			found += len(events)
			if before = next; next == 0 {
				break
			}
		}
		if found != want {
			t.Errorf("pages of %+v: %d, want %d", q, found, want)
		}
		n := 0
		if err := l.All(t.Context(), oak, q, func(*Event) error { n++; return nil }); err != nil || n != want {
			t.Errorf("%+v: %d, want %d, %v", q, n, want, err)
		}
	}
	if events, _, err := l.Page(t.Context(), Box, Query{}, 0, 10); err != nil || len(events) != 0 {
		t.Errorf("the box's log has %v, %v", events, err)
	}
}

// TestPrune: events go by running time alone, the oldest first, and numbers go on.
func TestPrune(t *testing.T) {
	l, s := newLog(t)
	l.fill(t, 450)
	s.age = 20 * 24 * time.Hour
	l.fill(t, 10)
	if n, err := l.Prune(t.Context(), oak, 30*24*time.Hour); n != 0 || err != nil {
		t.Fatalf("%d gone, %v", n, err)
	}
	s.age = 31 * 24 * time.Hour
	if n, err := l.Prune(t.Context(), oak, 30*24*time.Hour); n != 450 || err != nil {
		t.Fatalf("%d gone, %v", n, err)
	}
	l.fill(t, 1)
	events, next, err := l.Page(t.Context(), oak, Query{}, 0, 100)
	if err != nil || next != 0 || len(events) != 11 || events[0].Seq != 461 || events[10].Seq != 451 {
		t.Fatalf("%d events, next %d, %v", len(events), next, err)
	}
	left, err := s.ListRecords(t.Context(), oak, store.RecordAudit, "", "", 1000)
	if err != nil || len(left) != 11 {
		t.Errorf("%d records are left, %v", len(left), err)
	}
}

// TestContext: who asked and from where comes with the context; long values are
// cut at a character.
func TestContext(t *testing.T) {
	l, _ := newLog(t)
	who := Actor{Kind: ByUser, ID: "u_ann", Name: "ann"}
	ctx := With(t.Context(), Origin{Actor: who, Addr: netip.MustParseAddr("::ffff:192.168.1.7")})
	gone, cancel := context.WithCancel(ctx)
	cancel() // the asker went away: it was done all the same
	if err := l.Add(gone, oak, Event{Action: "a.b", Name: strings.Repeat("王", 200)}); err != nil {
		t.Fatal(err)
	}
	events, _, err := l.Page(ctx, oak, Query{}, 0, 1)
	if err != nil || len(events) != 1 {
		t.Fatal(events, err)
	}
	e := events[0]
	if e.Actor != who || e.Addr != "192.168.1.7" || e.Result != OK || len(e.Name) > maxFieldBytes+3 || strings.ContainsRune(e.Name, '\ufffd') {
		t.Errorf("%+v", e)
	}
	if err := l.Add(ctx, "nowhere", Event{Action: "a.b"}); !im.Is(err, im.NotFound) {
		t.Errorf("a tenant that is not there has a log: %v", err)
	}
}

// TestExport: both formats hold every event, and no cell is a formula.
func TestExport(t *testing.T) {
	l, _ := newLog(t)
	l.fill(t, 3)
	if err := l.Add(t.Context(), oak, Event{Action: "user.create", Name: `=HYPERLINK("http://x")`, Detail: map[string]string{"b": "2", "a": "1"}}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := l.Export(t.Context(), oak, Query{}, CSV, &b); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(strings.NewReader(b.String())).ReadAll()
	if err != nil || len(rows) != 5 || len(rows[0]) != len(columns) || rows[4][9][0] != '\'' || rows[4][11] != "a=1; b=2" {
		t.Errorf("%v, %v", rows, err)
	}
	b.Reset()
	if err := l.Export(t.Context(), oak, Query{Result: OK}, JSONLines, &b); err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(b.String()) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Error(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d lines", n)
	}
	if err := l.Export(t.Context(), oak, Query{}, "xml", &b); !im.Is(err, im.Invalid) {
		t.Error(err)
	}
	full := errors.New("full")
	if err := l.All(t.Context(), oak, Query{}, func(*Event) error { return full }); !errors.Is(err, full) {
		t.Error(err)
	}
}
