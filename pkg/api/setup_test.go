package api

import (
	"net/http"
	"strings"
	"testing"
)

func setupBody(code, rest string) string { return `{"code":"` + code + `"` + rest + `}` }

const wholeSetup = `,"id":"oakhill","name":"Oakhill School","kind":"school","username":"ann","person":"Ann Lee","password":"correct-horse"`

// TestSetup walks the wizard: the state, a wrong code, the right one, each
// mistake, and that it is over afterwards.
func TestSetup(t *testing.T) {
	r := newRig(t)
	if a := r.do("GET", "/v1/setup", "", ""); a.status != 200 || !strings.Contains(string(a.body), `"needed":true`) {
		t.Fatalf("a new box: %d %s", a.status, a.body)
	}
	r.want(r.do("POST", "/v1/setup", "", setupBody("WRONG", wholeSetup)), http.StatusUnauthorized, "unauthenticated", "code")
	code := r.api.SetupCode()
	if a := r.do("GET", "/admin/setup-code", "", ""); a.status != 200 || !strings.Contains(string(a.body), code) {
		t.Fatalf("the tool is told %d %s, the code is %s", a.status, a.body, code)
	}
	typed := strings.ToLower(strings.ReplaceAll(code, "-", " "))
	if a := r.do("POST", "/v1/setup", "", setupBody(typed, "")); a.status != 201 || strings.Contains(string(a.body), "tenant") {
		t.Fatalf("looking at the code: %d %s", a.status, a.body)
	}
	for _, c := range []struct{ from, to, field string }{
		{`"password":"correct-horse"`, `"password":"short"`, "password"},
		{`"username":"ann"`, `"username":"a b"`, "username"},
		{`"id":"oakhill"`, `"id":"Oak Hill"`, "id"},
	} {
		r.want(r.do("POST", "/v1/setup", "", setupBody(code, strings.Replace(wholeSetup, c.from, c.to, 1))), http.StatusUnprocessableEntity, "invalid", c.field)
	}
	if n, users := r.dir.Size(); n+users != 0 {
		t.Fatalf("a refused set-up left %d tenants and %d users", n, users)
	}
	a := r.do("POST", "/v1/setup", "", setupBody(code, wholeSetup))
	if a.status != 201 || !strings.Contains(string(a.body), `"owner"`) {
		t.Fatalf("set-up: %d %s", a.status, a.body)
	}
	if got := r.dir.Policy("oakhill").Preset(); got != "school" {
		t.Errorf("the rules are those of %q", got)
	}
	r.signIn("ann", "correct-horse")
	if a := r.do("GET", "/v1/setup", "", ""); !strings.Contains(string(a.body), `"needed":false`) {
		t.Errorf("afterwards: %s", a.body)
	}
	r.want(r.do("POST", "/v1/setup", "", setupBody(code, wholeSetup)), http.StatusConflict, "conflict", "")
	r.want(r.do("GET", "/admin/setup-code", "", ""), http.StatusNotFound, "not_found", "")
	if r.api.SetupCode() != "" {
		t.Error("the code outlives its use")
	}
}

// TestSetupGuessing holds guesses back: after a handful each must wait, and
// meanwhile not even the right code is looked at.
func TestSetupGuessing(t *testing.T) {
	r := newRig(t)
	code := r.api.SetupCode()
	limited := 0
	for range setupTries + 3 {
		if a := r.do("POST", "/v1/setup", "", setupBody("AAAA-AAAA", wholeSetup)); a.status == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited != 3 {
		t.Errorf("%d of the last guesses were held back, want 3", limited)
	}
	r.want(r.do("POST", "/v1/setup", "", setupBody(code, wholeSetup)), http.StatusTooManyRequests, "rate_limited", "")
}
