package roster

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
)

// TestTermEnds: the last day of a term ends its classes by itself, by the date
// in the tenant's zone; the roster of that term then changes nothing any
// more, and the next begins with empty classes.
func TestTermEnds(t *testing.T) {
	w := newWorld(t)
	p, err := access.Open.With(map[string]string{"quiet.zone": "Asia/Shanghai"})
	if err == nil {
		err = w.dir.SetPolicy(t.Context(), oak, p)
	}
	if err != nil {
		t.Fatal(err)
	}
	content := zipped(t, one12) // its classes end on 2027-07-31
	w.run("a.zip", content, Options{})
	first := map[string]*im.Class{}
	for _, c := range w.dir.Classes(oak) {
		first[c.Name] = c
	}
	w.do(chat.Command{Op: chat.Send, Actor: w.actor("tom"), Key: "1", Conv: first["5a"].Group, Text: "last year's chat"})
	shanghai := p.Zone()
	at := func(when time.Time, want int) {
		t.Helper()
		w.clock.Store(when.UnixNano())
		if n, err := w.service.EndOver(t.Context(), oak); err != nil || n != want {
			t.Fatalf("at %v %d classes ended, want %d: %v", when, n, want, err)
		}
	}
	at(time.Date(2027, 7, 31, 23, 59, 0, 0, shanghai), 0)
	w.lost.Store(true) // a clock that nobody set may say anything, and the store believes it for good
	at(time.Date(2036, 2, 7, 0, 0, 0, 0, time.UTC), 0)
	w.lost.Store(false)
	w.close() // nothing is known but by the store
	w.open(nil)
	at(time.Date(2027, 8, 1, 0, 0, 1, 0, shanghai), 2)
	at(time.Date(2027, 8, 1, 0, 0, 2, 0, shanghai), 0)
	over := w.state()
	if strings.Count(over, "archived=true,true,true") != 2 {
		t.Errorf("%s", over)
	}
	if _, err := w.chat.Do(t.Context(), &chat.Command{Op: chat.Send, Actor: w.actor("tom"), Key: "2", Conv: first["5a"].Group, Text: "x"}); !im.Is(err, im.Forbidden) {
		t.Errorf("a message into a class that is over: %v", err)
	}
	rep := w.run("a.zip", content, Options{})
	w.same("the old roster again", changes(rep), "")
	w.same("its notes", problems(rep), "classes.csv:2: The class 5a is left out: its term ended on 2027-07-31.\nclasses.csv:3: The class Homeroom is left out: its term ended on 2027-07-31.\n")
	// A delta that comes late about one of them stands in nobody's way.
	late := w.preview("late.zip", zipped(t, map[string]string{
		"manifest.csv":    "propertyName,value\noneroster.version,1.2\nfile.enrollments,delta\n",
		"enrollments.csv": "sourcedId,status,classSourcedId,userSourcedId,role\ne3,tobedeleted,c1,u3,student\n"}), Options{})
	w.same("a late delta", problems(late)+changes(late), "enrollments.csv:2: The class c1 is over; its people stay as they are.\n")

	next := zipped(t, with(one12, "academicSessions.csv", strings.NewReplacer("2026/27", "2027/28", "2027-07-31", "2028-07-31").Replace(one12["academicSessions.csv"])))
	w.same("the next term", changes(w.run("b.zip", next, Options{})), "add class 5a 2027/28: 1 teacher; 3 students\nadd class Homeroom 2027/28: 1 teacher; 0 students\n")
	for _, c := range w.dir.Classes(oak) {
		conv, err := w.store.Conv(context.Background(), oak, c.Group)
		if err != nil {
			t.Fatal(err)
		}
		if old := first[c.Name].ID == c.ID; old != c.Archived || old != conv.Archived || !old && (conv.Head != 0 || conv.ID == first[c.Name].Group) {
			t.Errorf("%+v\n%+v", c, conv)
		}
	}
	w.same("the next term again", changes(w.run("b.zip", next, Options{})), "")

	// Whoever opens one again by hand has it until he ends it.
	no := false
	c, err := w.service.ChangeClass(t.Context(), oak, first["5a"].ID, ClassChange{Archived: &no})
	if err != nil || c.Archived || c.Ends != "" {
		t.Errorf("%+v %v", c, err)
	}
	at(time.Date(2027, 9, 1, 0, 0, 0, 0, shanghai), 0)
}

// TestTermOverAtImport: where the box slept over the end, the next roster says it.
func TestTermOverAtImport(t *testing.T) {
	w := newWorld(t)
	content := zipped(t, one11)
	w.run("a.zip", content, Options{})
	w.clock.Store(time.Date(2027, 8, 9, 0, 0, 0, 0, time.UTC).UnixNano())
	w.same("over", changes(w.run("a.zip", content, Options{})), "archive class 5a 2026/27: its term ended on 2027-07-31\narchive class Homeroom 2026/27: its term ended on 2027-07-31\n")
	w.same("again", changes(w.run("a.zip", content, Options{})), "")
}
