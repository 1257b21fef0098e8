package api

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

// cookieOf returns the sign-in cookie that an answer sets.
func cookieOf(t *testing.T, a answer, name string) *http.Cookie {
	t.Helper()
	for _, c := range (&http.Response{Header: a.header}).Cookies() {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no cookie %s in %q", name, a.header["Set-Cookie"])
	return nil
}

// TestCookieSignIn signs in as a page of the server does, acts, and signs out.
func TestCookieSignIn(t *testing.T) {
	r := newRig(t)
	r.school()
	const origin = "http://example.com" // httptest's host
	in := `{"username":"ann","password":"correct horse","cookie":true}`

	a := r.do("POST", "/v1/sessions", "", in, "Origin", origin)
	if a.status != http.StatusCreated || strings.Contains(string(a.body), `"token"`) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	c := cookieOf(t, a, "pipit")
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 0 {
		t.Errorf("cookie %s", c)
	}
	mine := "pipit=" + c.Value
	if a := r.do("GET", "/v1/tenant", "", "", "Cookie", mine); a.status != http.StatusOK {
		t.Errorf("GET with the cookie: %d", a.status)
	}
	if a := r.do("PATCH", "/v1/tenant", "", `{"name":"Oak Hill"}`, "Cookie", mine, "Origin", origin); a.status != http.StatusOK {
		t.Errorf("PATCH from an own page: %d %s", a.status, a.body)
	}
	if a := r.do("GET", "/v1/tenant", "wrong", "", "Cookie", mine); a.status != http.StatusUnauthorized {
		t.Errorf("a wrong token beside a right cookie: %d", a.status)
	}

	// Cross-site: nothing that changes anything, and no sign-in either.
	for _, head := range [][]string{{}, {"Origin", "http://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site", "Origin", origin}} {
		head = append(head, "Cookie", mine)
		if a := r.do("PATCH", "/v1/tenant", "", `{"name":"Evil"}`, head...); a.status != http.StatusForbidden {
			t.Errorf("PATCH with %q: %d", head, a.status)
		}
		if a := r.do("DELETE", "/v1/sessions/current", "", "", head...); a.status != http.StatusForbidden {
			t.Errorf("sign-out with %q: %d", head, a.status)
		}
		if a := r.do("POST", "/v1/sessions", "", in, head...); a.status != http.StatusForbidden || a.header.Get("Set-Cookie") != "" {
			t.Errorf("sign-in with %q: %d %q", head, a.status, a.header["Set-Cookie"])
		}
	}

	// Fixation: the token is a new one whatever the browser brought, and the one
	// that it replaces is dead.
	a = r.do("POST", "/v1/sessions", "", strings.Replace(in, "true}", `true,"keep":true}`, 1), "Origin", origin, "Cookie", mine)
	c2 := cookieOf(t, a, "pipit")
	if c2.Value == c.Value || c2.MaxAge <= 0 {
		t.Errorf("second cookie %s", c2)
	}
	if a := r.do("GET", "/v1/tenant", "", "", "Cookie", mine); a.status != http.StatusUnauthorized {
		t.Errorf("the replaced cookie still counts: %d", a.status)
	}
	planted := "pipit=pt_oakhill_" + strings.Repeat("A", 43)
	if a := r.do("POST", "/v1/sessions", "", in, "Origin", origin, "Cookie", planted); "pipit="+cookieOf(t, a, "pipit").Value == planted {
		t.Error("a planted token was taken")
	}

	// Sign-out deletes the cookie and ends the sign-in.
	mine = "pipit=" + c2.Value
	a = r.do("DELETE", "/v1/sessions/current", "", "", "Origin", origin, "Cookie", mine)
	if a.status != http.StatusNoContent || cookieOf(t, a, "pipit").MaxAge >= 0 {
		t.Errorf("sign-out: %d %q", a.status, a.header["Set-Cookie"])
	}
	if _, _, err := r.auth.Verify(context.Background(), c2.Value); !im.Is(err, im.Unauthenticated) {
		t.Errorf("after sign-out: %v", err)
	}
}
