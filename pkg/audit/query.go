package audit

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Query says which events are wanted; what is empty does not narrow.
type Query struct {
	Actor  string    // id of a user, token, or the user that a program acts for; or a kind of actor
	Action string    // an action, or its first word with a dot at the end: "session."
	Object string    // an object, or its kind with a slash at the end: "user/"
	Result string    // OK, a kind of error, or "refused" for all but OK
	Since  im.Millis // not before
	Until  im.Millis // before
}

func (q *Query) match(e *Event) bool {
	switch {
	case q.Actor != "" && q.Actor != e.Actor.ID && q.Actor != e.Actor.User && q.Actor != e.Actor.Kind:
		return false
	case !matchName(q.Action, e.Action, '.') || !matchName(q.Object, e.Object, '/'):
		return false
	case q.Result == "refused" && e.Result == OK, q.Result != "" && q.Result != "refused" && q.Result != e.Result:
		return false
	}
	return e.Time >= q.Since && (q.Until == 0 || e.Time < q.Until)
}

func matchName(want, got string, sep byte) bool {
	if want != "" && want[len(want)-1] == sep {
		return strings.HasPrefix(got, want)
	}
	return want == "" || want == got
}

// Bounds of a page.
const (
	MaxPage = 500
	// maxScanned is how many events one page looks at: a rare event in a long
	// log is found over several pages, each of them quick.
	maxScanned = 20_000
	window     = 500
)

// Page returns events of a tenant that match, newest first, below the event
// number before (0: from the newest), at most limit (clamped to 1…MaxPage).
// next, if not 0, is the before of the following page; a page may have fewer
// events than limit, even none, and still have a next.
func (l *Log) Page(ctx context.Context, t im.TenantID, q Query, before uint64, limit int) (events []Event, next uint64, err error) {
	limit = min(max(limit, 1), MaxPage)
	s, err := l.load(ctx, t)
	if err != nil {
		return nil, 0, err
	}
	if before == 0 || before > s.last+1 {
		before = s.last + 1
	}
	events = []Event{}
	for scanned := 0; before > s.first() && scanned < maxScanned; {
		from := max(s.first(), before-min(window, before))
		list, err := l.read(ctx, t, from, before)
		if err != nil {
			return nil, 0, err
		}
		for _, e := range slices.Backward(list) {
			if q.match(&e) {
				events = append(events, e)
			}
			if before = e.Seq; len(events) == limit {
				break
			}
		}
		if len(events) == limit {
			break
		}
		before = from // also when pruning took some of them meanwhile
		scanned += window
	}
	if before > s.first() {
		next = before
	}
	return events, next, nil
}

// read returns the events from ≤ seq < to in rising order.
func (l *Log) read(ctx context.Context, t im.TenantID, from, to uint64) ([]Event, error) {
	page, err := l.records.ListRecords(ctx, t, store.RecordAudit, "", id(from-1), int(to-from))
	if err != nil {
		return nil, im.Wrap("audit: read tenant "+string(t), err)
	}
	events := make([]Event, 0, len(page))
	for _, r := range page {
		var e stored
		if err := json.Unmarshal(r.Value, &e); err != nil {
			return nil, im.Wrap("audit: read tenant "+string(t), err)
		}
		if e.Seq >= from && e.Seq < to { // pruning may have shifted the page
			events = append(events, e.Event)
		}
	}
	return events, nil
}

// All calls fn with each event that matches, oldest first, until it returns an
// error, which is handed back.
func (l *Log) All(ctx context.Context, t im.TenantID, q Query, fn func(*Event) error) error {
	s, err := l.load(ctx, t)
	if err != nil {
		return err
	}
	for from := s.first(); from <= s.last; {
		to := min(from+window, s.last+1)
		list, err := l.read(ctx, t, from, to)
		if err != nil {
			return err
		}
		for i := range list {
			if !q.match(&list[i]) {
				continue
			}
			if err := fn(&list[i]); err != nil {
				return err
			}
		}
		from = to
	}
	return nil
}

// The formats of an export.
const (
	CSV       = "csv"
	JSONLines = "jsonl"
)

// columns of the CSV export; changed by adding at the end only.
var columns = []string{"seq", "time", "action", "result", "actor_kind", "actor_id", "actor_name", "actor_user", "object", "object_name", "address", "detail"}

// Export writes the events that match, oldest first: as CSV (RFC 4180, UTF-8,
// with a heading; times in ISO 8601, UTC) or as one JSON object a line. Cells
// that a spreadsheet would take for a formula get an apostrophe before them.
func (l *Log) Export(ctx context.Context, t im.TenantID, q Query, format string, w io.Writer) error {
	switch format {
	case JSONLines:
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		return l.All(ctx, t, q, func(e *Event) error { return enc.Encode(e) })
	case CSV:
		c := csv.NewWriter(w)
		if err := c.Write(columns); err != nil {
			return err
		}
		err := l.All(ctx, t, q, func(e *Event) error { return c.Write(row(e)) })
		c.Flush()
		if err == nil {
			err = c.Error()
		}
		return err
	}
	return im.E(im.Invalid, "The format is csv or jsonl.").OnField("format")
}

func row(e *Event) []string {
	var detail []string
	for _, k := range slices.Sorted(maps.Keys(e.Detail)) {
		detail = append(detail, k+"="+e.Detail[k])
	}
	cells := []string{strconv.FormatUint(e.Seq, 10), time.UnixMilli(int64(e.Time)).UTC().Format("2006-01-02T15:04:05.000Z"),
		e.Action, e.Result, e.Actor.Kind, e.Actor.ID, e.Actor.Name, e.Actor.User, e.Object, e.Name, e.Addr, strings.Join(detail, "; ")}
	for i, c := range cells {
		if c != "" && strings.ContainsRune("=+-@\t\r", rune(c[0])) {
			cells[i] = "'" + c
		}
	}
	return cells
}
