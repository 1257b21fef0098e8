package api

import (
	"context"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

// settled waits until no import is under way.
func (r *rig) settled() {
	r.t.Helper()
	for range 20_000 {
		st, err := r.roster.Status(context.Background(), "oakhill")
		if err != nil {
			r.t.Fatal(err)
		}
		if st.State == "idle" {
			return
		}
		time.Sleep(time.Millisecond)
	}
	r.t.Fatal("the import does not end")
}

// everyRuleOperation calls every operation about policy, classes and rosters.
func (r *rig) everyRuleOperation(owner, member, memberID string) {
	t := r.t
	t.Helper()
	for _, op := range []string{"GET /v1/policy", "GET /v1/classes", "GET /v1/roster"} {
		method, path, _ := strings.Cut(op, " ")
		r.want(r.do(method, path, member, ""), 403, "forbidden", "")
	}
	a := r.do("GET", "/v1/policy", owner, "")
	r.want(a, 200, "", "")
	tag := a.header.Get("ETag")
	r.want(r.do("PATCH", "/v1/policy", owner, `{"preset":"school","settings":{"direct.member.member":"no"}}`, "If-Match", tag), 200, "", "")
	r.want(r.do("PATCH", "/v1/policy", owner, `{"settings":{"recall":"erase"}}`, "If-Match", tag), 409, "conflict", "If-Match")
	r.want(r.do("PATCH", "/v1/policy", owner, `{"settings":{"recal":"erase"}}`), 422, "invalid", "recal")
	r.want(r.do("PATCH", "/v1/policy", owner, `{"settings":{"recall":"perhaps"}}`), 422, "invalid", "recall")
	if p := r.dir.Policy("oakhill"); p == nil || p.Preset() != "school" || p.Changed()["direct.member.member"] != "no" {
		t.Errorf("policy %v", p)
	}

	r.want(r.do("GET", "/v1/recalled?user=bob", member, ""), 403, "forbidden", "")
	r.want(r.do("GET", "/v1/recalled?user=bob", owner, ""), 200, "", "")
	r.want(r.do("GET", "/v1/recalled?user=none", owner, ""), 404, "not_found", "user")
	r.want(r.do("GET", "/v1/recalled/c_none", owner, ""), 404, "not_found", "")

	var class apiclient.Class
	a = r.do("POST", "/v1/classes", owner, `{"name":"5a","term":"2026","students":["bob"]}`)
	r.want(a, 201, "", "")
	a.decode(t, &class)
	if class.Group == "" || class.Board == "" || len(class.Students) != 1 || class.Students[0] != memberID {
		t.Errorf("%+v", class)
	}
	r.want(r.do("POST", "/v1/classes", owner, `{"name":"5a","term":"2026"}`), 409, "exists", "name")
	r.want(r.do("POST", "/v1/classes", owner, `{"name":"5b","students":["zoe"]}`), 404, "not_found", "students")
	r.want(r.do("PATCH", "/v1/classes/"+class.ID, owner, `{"name":"5b","students":[],"teachers":["`+memberID+`"]}`), 200, "", "")
	r.want(r.do("GET", "/v1/classes/"+class.ID, owner, ""), 200, "", "")
	r.want(r.do("GET", "/v1/classes/k_none", owner, ""), 404, "not_found", "class")
	r.want(r.do("PATCH", "/v1/classes/k_none", owner, `{"name":"5b"}`), 404, "not_found", "class")
	r.want(r.do("GET", "/v1/classes?limit=1", owner, ""), 200, "", "")
	r.want(r.do("POST", "/v1/classes/end-term", owner, `{"term":"2026"}`), 200, "", "")
	if c, ok := r.dir.Class("oakhill", im.ClassID(class.ID)); !ok || !c.Archived || c.Name != "5b" {
		t.Errorf("%+v", c)
	}
	r.want(r.do("POST", "/v1/users", owner, `{"username":"mum","role":"guardian"}`), 201, "", "")
	r.want(r.do("PUT", "/v1/guardians/mum", owner, `{"members":["ann"]}`), 422, "invalid", "guardian_of")
	r.want(r.do("PUT", "/v1/guardians/mum", owner, `{"members":["`+memberID+`"]}`), 200, "", "")
	r.want(r.do("GET", "/v1/guardians/mum", owner, ""), 200, "", "")
	mum, _ := r.dir.ByUsername("oakhill", "mum")
	if got := r.dir.RosterUser("oakhill", mum.ID).GuardianOf; len(got) != 1 || string(got[0]) != memberID {
		t.Errorf("%v", got)
	}

	csv := "class,role,name,username\n7c,teacher,Tom,tom\n7c,student,Kim,kim\n"
	raw := []string{"Content-Type", "application/octet-stream"}
	var rep apiclient.RosterReport
	a = r.do("POST", "/v1/roster/preview?name=a.csv", owner, csv, raw...)
	r.want(a, 200, "", "")
	a.decode(t, &rep)
	if rep.Counts["add person"] != 2 || rep.Counts["add class"] != 1 || rep.Digest == "" {
		t.Errorf("%+v", rep)
	}
	r.want(r.do("POST", "/v1/roster/import?name=a.csv&digest=x", owner, csv, raw...), 409, "conflict", "digest")
	r.want(r.do("POST", "/v1/roster/preview?name=a.csv", owner, "PK\x03\x04", raw...), 422, "invalid", "file")
	r.want(r.do("POST", "/v1/roster/import?name=a.csv&digest="+url.QueryEscape(rep.Digest), owner, csv, raw...), 202, "", "")
	r.settled()
	r.want(r.do("GET", "/v1/roster", owner, ""), 200, "", "")
	if _, ok := r.dir.ByUsername("oakhill", "kim"); !ok {
		t.Error("kim was not imported")
	}

	// Cards: for who can't sign in yet; the code on one lets its person in, once.
	r.want(r.do("POST", "/v1/cards", member, `{}`), 403, "forbidden", "")
	r.want(r.do("POST", "/v1/cards", owner, `{"classes":["9z"]}`), 404, "not_found", "classes")
	r.want(r.do("POST", "/v1/cards", owner, `{"users":["bob"]}`), 422, "invalid", "")
	print := func(body string) string {
		req := httptest.NewRequest("POST", "/v1/cards", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+owner)
		req.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, req)
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Disposition"), "attachment") {
			t.Errorf("%s: %d %v %s", body, w.Code, w.Header(), w.Body)
		}
		r.seen["POST /v1/cards"] = true
		return w.Body.String()
	}
	code := func(sheet string) string {
		_, rest, _ := strings.Cut(sheet, `<dd class="mono">kim</dd>`)
		c := regexp.MustCompile(`[A-Z0-9]{4}(-[A-Z0-9]{4}){3}`).FindString(rest)
		if c == "" {
			t.Errorf("no code in %s", sheet)
		}
		return c
	}
	first := code(print(`{"classes":["7c"],"address":"http://oakhill.local","lang":"zh"}`))
	sheet := print(`{"users":["kim"],"address":"http://oakhill.local"}`)
	if strings.Count(sheet, "<article>") != 1 || !strings.Contains(sheet, "7c") || !strings.Contains(sheet, "http://oakhill.local") {
		t.Errorf("%s", sheet)
	}
	accept := func(c string) string { return `{"tenant":"oakhill","code":"` + c + `","password":"two brown owls"}` }
	r.want(r.do("POST", "/v1/invitations/accept", "", accept(first)), 404, "not_found", "code") // a newer card ends it
	second := code(sheet)
	r.want(r.do("POST", "/v1/invitations/accept", "", accept(second)), 201, "", "")
	r.want(r.do("POST", "/v1/invitations/accept", "", accept(second)), 404, "not_found", "code")
	if strings.Contains(r.log.String(), second) {
		t.Error("the log holds a code")
	}

	// The operator reaches the same below the tenant, and nothing that is somebody's own.
	for path, want := range map[string]int{"oakhill/v1/policy": 200, "oakhill/v1/classes": 200, "oakhill/v1/roster": 200, "oakhill/v1/users": 404, "oakhill/v1/sessions": 404, "elm/v1/policy": 404} {
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, httptest.NewRequest("GET", "/admin/tenants/"+path, nil))
		if w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
