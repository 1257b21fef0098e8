package isolation_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeysWithoutTenant compiles the store with one file more, which tries to
// make or use a key that belongs to no tenant. None of them may compile; the
// first, which does it right, must.
func TestKeysWithoutTenant(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/pipit-im/pipit/pkg/store/badgerstore").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(string(out))
	for _, c := range []struct{ name, code, says string }{
		{"with its tenant", `func try(t *tx, sp space) { t.put(sp.user("u_ann"), nil) }`, ""},
		{"without one", `func try(t *tx) { t.put(user("u_ann"), nil) }`, "undefined: user"},
		{"bytes for a key", `func try(t *tx) { t.put([]byte("U" + "u_ann"), nil) }`, "cannot use []byte"},
		{"text for a key", `func try(t *tx) { t.put("u_ann", nil) }`, `cannot use "u_ann"`},
		{"a tenant's id for its place", `func try(t *tx) { t.put(im.TenantID("oak").user("u_ann"), nil) }`, "has no field or method user"},
		{"a number for its place", `func try(t *tx) { t.put(space(7).user("u_ann"), nil) }`, "cannot convert 7"},
		{"reading by bytes", `func try(r *snap) { _ = r.get([]byte("x"), nil) }`, "cannot use []byte"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			file := filepath.Join(tmp, "try.go")
			code := "package badgerstore\n\nimport \"github.com/pipit-im/pipit/pkg/im\"\n\nvar _ im.Seq\n\n" + c.code + "\n"
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(dir, "try_without_tenant.go"): file}})
			if err == nil {
				err = os.WriteFile(file, []byte(code), 0o600)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(tmp, "overlay.json"), overlay, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			said, err := exec.Command("go", "build", "-overlay", filepath.Join(tmp, "overlay.json"), "github.com/pipit-im/pipit/pkg/store/badgerstore").CombinedOutput()
			switch {
			case c.says == "" && err != nil:
				t.Errorf("does not compile: %s", said)
			case c.says != "" && (err == nil || !strings.Contains(string(said), c.says)):
				t.Errorf("compiles, or for another reason does not: %v\n%s", err, said)
			}
		})
	}
}
