package directory

import (
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// TestGrace: a deleted tenant is shut at once, can be had back for a week of the
// box's running time, over restarts, and is gone after it.
func TestGrace(t *testing.T) {
	m := model()
	open := func() *Directory {
		d, err := New(t.Context(), Options{People: m, Records: m, Bus: &recorder{}, Now: m.Now, Age: m.Age, Rand: &counter{}})
		if err != nil {
			t.Fatal(err)
		}
		d.bus.(*recorder).dir = d
		return d
	}
	d := open()
	mustTenant(t, d, "elm")
	mustTenant(t, d, "oak")
	ann := mustUser(t, d, "elm", "ann", "Ann")
	due := func(want int) {
		t.Helper()
		gone, err := d.EraseDue(t.Context())
		if err != nil || len(gone) != want {
			t.Fatalf("%v are erased, want %d: %v", gone, want, err)
		}
	}
	m.AddAge(1000 * time.Hour)
	if err := d.DeleteTenant(t.Context(), "elm", 0); err != nil {
		t.Fatal(err)
	}
	due(0)
	if ten, ok := d.Tenant("elm"); !ok || !ten.Suspended || d.ErasedIn("elm") != 7*24*time.Hour {
		t.Errorf("%+v, erased in %v", ten, d.ErasedIn("elm"))
	}
	m.AddAge(7*24*time.Hour - time.Second)
	d = open()
	due(0)
	if err := d.DeleteTenant(t.Context(), "elm", 0); err != nil || d.ErasedIn("elm") != time.Second {
		t.Errorf("deleted twice: erased in %v (%v)", d.ErasedIn("elm"), err)
	}
	if err := d.UndeleteTenant(t.Context(), "elm"); err != nil {
		t.Fatal(err)
	}
	m.AddAge(time.Hour)
	due(0)
	if ten, ok := d.Tenant("elm"); !ok || ten.Suspended {
		t.Errorf("had back: %+v", ten)
	}
	if u, ok := d.User("elm", ann.ID); !ok || u.Disabled {
		t.Errorf("had back: %+v", u)
	}
	wantKind(t, d.UndeleteTenant(t.Context(), "elm"), im.NotFound, "")
	if err := d.DeleteTenant(t.Context(), "elm", time.Hour); err != nil {
		t.Fatal(err)
	}
	m.AddAge(time.Hour)
	d = open()
	due(1)
	due(0)
	if _, ok := d.Tenant("elm"); ok {
		t.Error("it is still here")
	}
	if us, err := m.Users(t.Context(), "elm"); err != nil || len(us) != 0 {
		t.Errorf("the store still has %v, %v", us, err)
	}
	if _, ok := d.Tenant("oak"); !ok {
		t.Error("another one is gone")
	}
}
