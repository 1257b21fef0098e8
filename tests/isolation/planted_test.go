package isolation_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/gateway"
	"github.com/pipit-im/pipit/pkg/wire"
)

// TestPlantedLeaks plants one leak after the other and holds that the tests of this
// package say so: a test that can't fail seals nothing. A leak is planted where the
// harness calls: one operation is answered to the stranger as it would be to the
// tenant's own owner, which is what a server does that forgets the tenant there.
func TestPlantedLeaks(t *testing.T) {
	b := newBox(t)
	n := 0
	for _, c := range []struct {
		op, says string
	}{
		{"list-users", "answered with \"Ann only of"},
		{"message-history", "answered with \"Text only of"},
		{"list-tokens", "answered with \"Program only of"},
		{"update-user", "of the other tenant has changed"},
		{"send-message", "session heard"},
		{"remove-invitation", ": 204"},
		{"remove-oidc-client", "/v1/oidc/clients of the other tenant"},
		{wire.MethodHistory, "answered with \"Text only of"},
		{wire.MethodUserSearch, "answered with a user of another tenant"},
		{wire.MethodGet, "answered as if it knew"},
		{wire.MethodRecall, "of the other tenant has changed"},
	} {
		n++
		victim, mallory := b.school(fmt.Sprint("oak", n)), b.school(fmt.Sprint("elm", n))
		found := c.op
		said := func(planted bool) []string {
			var list []string
			j := judge{t: t, found: &list}
			before := b.archive(victim.id)
			ear := b.dial(victim.member)
			defer ear.close()
			b.planted = nil
			if planted {
				b.planted = func(op, token string) string {
					if op == c.op {
						return victim.owner
					}
					return token
				}
			}
			if strings.Contains(c.op, ".") {
				b.everyMethod(j, []string{c.op}, victim, mallory)
			} else if routes, _ := b.everyRoute(j, b.document(), victim, mallory, &found); routes != 1 {
				t.Fatalf("there is no operation %s", c.op)
			}
			b.planted = nil
			b.unharmed(j, victim, before, ear)
			return list
		}
		if list := said(false); len(list) > 0 {
			t.Fatalf("%s, nothing planted: %q", c.op, list)
		}
		list := said(true)
		if !slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, c.says) }) {
			t.Errorf("a leak in %s is not reported as %q, but: %.2000q", c.op, c.says, list)
		}
	}
	// What nobody said how to call is not passed over.
	victim, mallory := b.school("oak"), b.school("elm")
	var list []string
	j := judge{t: t, found: &list}
	spec := b.document()
	spec.Paths["/v1/secrets/{secret}"] = map[string]operation{"get": {OperationID: "get-secret"}, "put": {OperationID: "put-secret", RequestBody: []byte(`{}`)}}
	for _, op := range []string{"get-secret", "put-secret"} {
		b.everyRoute(j, spec, victim, mallory, &op)
	}
	b.everyMethod(j, append(slices.Clone(gateway.Methods()), "secret.tell"), victim, mallory)
	for _, want := range []string{"GET /v1/secrets/{secret} is not covered", "PUT /v1/secrets/{secret} is not covered: say in members()", "is not covered: say in bodies() what put-secret", "secret.tell is not covered"} {
		if !slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("not said: %s; but %q", want, list)
		}
	}
}
