package app

import (
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/im"
)

// TestTermsEnd: the hourly round archives the classes whose last day is over, and
// only while the date can be relied on; the audit log says that it was the box.
func TestTermsEnd(t *testing.T) {
	b, set := clockless(t)
	b.people("ann", "tom")
	var past im.ClassID
	for name, ends := range map[string]string{"5a": time.Now().AddDate(0, 0, -2).Format(time.DateOnly), "6b": time.Now().AddDate(0, 0, 2).Format(time.DateOnly), "7c": ""} {
		made, err := b.admin.AddClass(t.Context(), "oakhill", apiclient.NewClass{Name: name, Term: "2026", Students: []string{"ann"}})
		b.must(err)
		c, _ := b.App.dir.Class("oakhill", im.ClassID(made.ID))
		next := *c
		if next.Ends = ends; name == "5a" {
			past = c.ID
		}
		b.must(b.App.dir.PutClasses(t.Context(), "oakhill", []im.Class{next}))
	}
	_, last := b.audited(0)
	archived := func() (names []string) {
		for _, c := range b.App.dir.Classes("oakhill") {
			if c.Archived {
				names = append(names, c.Name)
			}
		}
		return names
	}
	b.tidyOnce(t.Context())
	if got := archived(); len(got) > 0 {
		t.Errorf("with a clock that nobody set %v ended", got)
	}
	set()
	b.tidyOnce(t.Context())
	b.tidyOnce(t.Context())
	if got := archived(); len(got) != 1 || got[0] != "5a" {
		t.Errorf("%v ended", got)
	}
	c, _ := b.App.dir.Class("oakhill", past)
	if conv, err := b.store.Conv(t.Context(), "oakhill", c.Group); err != nil || !conv.Archived {
		t.Errorf("its conversation: %+v %v", conv, err)
	}
	events, _, err := b.audit.Page(t.Context(), "oakhill", audit.Query{}, 0, 10)
	if err != nil || len(events) == 0 || events[0].Seq != last+1 || events[0].Action != "class.end_term" || events[0].Actor.Kind != audit.BySystem || events[0].Detail["archived"] != "1" {
		t.Errorf("audited after %d: %+v %v", last, events, err)
	}
}
