package directory

import (
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

// TestKeeper: one tenant keeps the box, over a restart; whoever takes the id of an
// erased one does not.
func TestKeeper(t *testing.T) {
	m := model()
	d, _ := newDirectory(t, m)
	mustTenant(t, d, "elm")
	mustTenant(t, d, "oak")
	if k := d.Keeper(); k != "" {
		t.Fatalf("a new box is kept by %q", k)
	}
	wantKind(t, d.SetKeeper(t.Context(), "ash"), im.NotFound, "tenant")
	for _, id := range []im.TenantID{"elm", "oak"} {
		if err := d.SetKeeper(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		again, _ := newDirectory(t, m)
		if d.Keeper() != id || again.Keeper() != id {
			t.Fatalf("kept by %q, after a restart by %q, want %q", d.Keeper(), again.Keeper(), id)
		}
	}
	if err := d.EraseTenant(t.Context(), "elm"); err != nil || d.Keeper() != "oak" {
		t.Fatalf("%v; kept by %q after another tenant was erased", err, d.Keeper())
	}
	if err := d.EraseTenant(t.Context(), "oak"); err != nil {
		t.Fatal(err)
	}
	mustTenant(t, d, "oak")
	again, _ := newDirectory(t, m)
	if d.Keeper() != "" || again.Keeper() != "" {
		t.Fatalf("a stranger of the same id keeps the box: %q, %q", d.Keeper(), again.Keeper())
	}
	if err := d.SetKeeper(t.Context(), "oak"); err != nil {
		t.Fatal(err)
	}
	if err := d.SetKeeper(t.Context(), ""); err != nil || d.Keeper() != "" {
		t.Fatalf("%v; kept by %q", err, d.Keeper())
	}
}
