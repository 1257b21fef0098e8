package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/roster"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

var update = flag.Bool("update", false, "write the OpenAPI documents anew")

// TestDocuments holds the committed documents to the declarations.
func TestDocuments(t *testing.T) {
	docs, err := Documents()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range docs {
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s is not current (run make gen):\n%s", name, d)
		}
	}
}

// rig is an API on real parts over the in-memory store. Every request and
// answer that goes through it is held against the documents.
type rig struct {
	t       *testing.T
	api     *API
	audit   *audit.Log
	chat    *chat.Chat
	roster  *roster.Service
	auth    *auth.Auth
	dir     *directory.Directory
	store   *storetest.Model
	handler http.Handler
	public  validator.Validator
	admin   validator.Validator

	seen map[string]bool // operations with a good answer
	log  *bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx := context.Background()
	r := &rig{t: t, seen: map[string]bool{}, store: storetest.NewModel(time.Now), log: new(bytes.Buffer)}
	b := membus.New()
	log := slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.dir, err = directory.New(ctx, directory.Options{People: r.store, Records: r.store, Bus: b}); err != nil {
		t.Fatal(err)
	}
	cheap := auth.Hashing{MemoryKiB: 64, Iterations: 1}
	limits := auth.Limits{ChecksPerMinutePerAddr: 1000, FailuresPerHourPerAccount: 80, Hashes: 2}
	grants := oidcop.NewGrants(r.store, r.store, r.store)
	if r.auth, err = auth.New(ctx, auth.Options{Tokens: grants, Credentials: r.store, Records: r.store, Box: r.store, Users: r.dir, WantTOTP: r.dir.WantsTOTP, Hashing: cheap, Limits: limits}); err != nil {
		t.Fatal(err)
	}
	if r.chat, err = chat.New(chat.Options{Store: r.store, Bus: b, Users: r.dir, Rules: r.dir}); err != nil {
		t.Fatal(err)
	}
	r.roster = roster.New(roster.Setup{Directory: r.dir, Records: r.store, Chat: r.chat, Passwords: r.auth})
	t.Cleanup(func() {
		if err := r.roster.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := r.chat.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	r.audit = audit.New(audit.Options{Records: r.store, Box: r.store})
	openID, err := oidcop.New(oidcop.Options{Auth: r.auth, Grants: grants, Users: r.dir, Records: r.store, Box: r.store})
	if err != nil {
		t.Fatal(err)
	}
	providers, err := oidcrp.New(oidcrp.Options{Records: r.store, Box: r.store, Users: r.dir, Pages: openID, Issue: r.auth.Issue,
		Create: func(context.Context, im.TenantID, oidcrp.Newcomer) (im.UserID, error) {
			return "", errors.New("nobody comes")
		}})
	if err != nil {
		t.Fatal(err)
	}
	r.api = New(Options{
		OpenID: openID, Providers: providers, Audit: r.audit, Auth: r.auth, Directory: r.dir, Chat: r.chat, Roster: r.roster, Store: r.store, Log: log, Version: "1",
		Limits: func() im.Limits { return im.Limits{FrameBytes: 65536, TextBytes: 100, SendsPerMinute: 120} },
		Ready:  func() error { return nil },
		Box:    testBox(),
		Status: func() ServerInfo {
			return ServerInfo{Version: "1", Ready: true, DataDir: t.TempDir(), Listen: []string{}, ListenTLS: []string{}, Store: apiclient.StoreInfo{State: "writable"}, Conditions: []apiclient.ConditionInfo{}}
		},
	})
	r.handler = r.api.Admin()
	r.public, r.admin = loadValidator(t, "openapi.yaml"), loadValidator(t, "admin-openapi.yaml")
	return r
}

func loadValidator(t *testing.T, name string) validator.Validator {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := libopenapi.NewDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(doc)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := v.ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("%s: %s: %s", name, e.Message, e.Reason)
		}
	}
	return v
}

// answer is what a request came to.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

// do sends a request and validates the answer; body is JSON text or "".
func (r *rig) do(method, path, token, body string, header ...string) answer {
	r.t.Helper()
	make := func() *http.Request {
		req := httptest.NewRequest(method, path, strings.NewReader(body))
		if body == "" {
			req = httptest.NewRequest(method, path, nil)
		} else {
			req.Header.Set("Content-Type", "application/json")
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		for i := 0; i+1 < len(header); i += 2 {
			if header[i] == "Host" {
				req.Host = header[i+1]
			}
			req.Header.Set(header[i], header[i+1])
		}
		return req
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, make())
	a := answer{w.Code, w.Header(), w.Body.Bytes()}
	if ct := w.Header().Get("Content-Type"); ct != "application/octet-stream" && ct != "application/jsonl" && ct != "application/zip" && !strings.HasPrefix(path, "/t/") {
		v := r.public
		if strings.HasPrefix(path, "/admin/") {
			v = r.admin
		}
		res := w.Result()
		if ok, errs := v.ValidateHttpResponse(make(), res); !ok {
			for _, e := range errs {
				r.t.Errorf("%s %s → %d is not as documented: %s: %s\n%s", method, path, w.Code, e.Message, e.Reason, a.body)
			}
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			r.t.Error(err)
		}
	}
	if a.status/100 == 2 {
		r.seen[method+" "+strings.SplitN(path, "?", 2)[0]] = true
	} else {
		r.problem(method+" "+path, a)
	}
	return a
}

// problem holds an error answer to RFC 9457 and PROTOCOL 9.1.
func (r *rig) problem(what string, a answer) Problem {
	r.t.Helper()
	var p Problem
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		r.t.Errorf("%s: content type %q", what, ct)
	}
	a.decode(r.t, &p)
	if p.Status != a.status || p.Kind == "" || p.Detail == "" || p.Title == "" || p.Type == "" {
		r.t.Errorf("%s: incomplete problem %s", what, a.body)
	}
	return p
}

func (r *rig) want(a answer, status int, kind, field string) {
	r.t.Helper()
	if a.status != status {
		r.t.Errorf("status %d, want %d: %s", a.status, status, a.body)
	}
	if kind == "" {
		return
	}
	if p := r.problem("", a); p.Kind != kind || p.Field != field {
		r.t.Errorf("kind %q field %q, want %q %q: %s", p.Kind, p.Field, kind, field, a.body)
	}
}

// school makes a tenant with an owner and a member and returns their tokens
// and the member's id.
func (r *rig) school() (owner, member string, memberID string) {
	r.t.Helper()
	r.want(r.do("POST", "/admin/tenants", "", `{"id":"oakhill","name":"Oakhill School"}`), 201, "", "")
	r.want(r.do("POST", "/admin/tenants/oakhill/users", "", `{"username":"ann","name":"Ann Lee","role":"owner","password":"correct horse"}`), 201, "", "")
	var p Person
	a := r.do("POST", "/admin/tenants/oakhill/users", "", `{"username":"bob","role":"member","password":"battery staple"}`)
	r.want(a, 201, "", "")
	a.decode(r.t, &p)
	return r.signIn("ann", "correct horse"), r.signIn("bob", "battery staple"), p.ID
}

func (r *rig) signIn(username, password string) string {
	r.t.Helper()
	a := r.do("POST", "/v1/sessions", "", fmt.Sprintf(`{"username":%q,"password":%q}`, username, password))
	r.want(a, 201, "", "")
	var out struct{ Token string }
	a.decode(r.t, &out)
	return out.Token
}

// TestEveryOperation calls each documented operation with success, and holds
// request, answer and document against one another.
func TestEveryOperation(t *testing.T) {
	r := newRig(t)
	r.want(r.do("GET", "/v1/setup", "", ""), 200, "", "")
	r.want(r.do("GET", "/admin/setup-code", "", ""), 200, "", "")
	r.want(r.do("POST", "/v1/setup", "", `{"code":"`+r.api.SetupCode()+`"}`), 201, "", "")
	owner, member, memberID := r.school()

	var head struct{ ID string }
	res, err := r.chat.Do(context.Background(), &chat.Command{Op: chat.Create, Key: "k", Kind: im.KindGroup, Title: "Staff",
		Actor: r.actor(owner), Users: []im.UserID{im.UserID(memberID)}})
	if err != nil {
		t.Fatal(err)
	}
	head.ID = string(res.Head.ID)
	messages := "/v1/conversations/" + head.ID + "/messages"
	first := r.do("POST", messages, owner, `{"text":"你好 <b>\u0001"}`, "Idempotency-Key", "a")
	r.want(first, 201, "", "")
	again := r.do("POST", messages, owner, `{"text":"你好 <b>\u0001"}`, "Idempotency-Key", "a")
	r.want(again, 200, "", "")
	if !bytes.Contains(again.body, []byte(`"repeat":true`)) || !bytes.Contains(again.body, []byte(`"seq":1`)) {
		t.Errorf("repeat answered %s", again.body)
	}
	r.want(r.do("POST", messages, owner, `{"text":"x","reply_to":1,"mentions":["`+memberID+`"],"unknown":1}`, "Idempotency-Key", "b"), 201, "", "")
	var page Page
	a := r.do("GET", messages+"?limit=1&after=0", member, "")
	r.want(a, 200, "", "")
	a.decode(t, &page)
	if len(page.Entries) != 1 || page.Entries[0].Text != "你好 <b>\u0001" || page.Head != 2 {
		t.Errorf("page %s", a.body)
	}

	r.want(r.do("GET", "/v1/recalled/"+head.ID, owner, ""), 200, "", "")

	r.want(r.do("GET", "/v1/tenant", member, ""), 200, "", "")
	r.want(r.do("PATCH", "/v1/tenant", owner, `{"name":"Oakhill"}`), 200, "", "")
	r.want(r.do("GET", "/v1/users?limit=1", owner, ""), 200, "", "")
	r.want(r.do("POST", "/v1/users", owner, `{"username":"cat","role":"guest"}`), 201, "", "")
	r.want(r.do("PATCH", "/v1/users/"+memberID, owner, `{"name":"Bob","role":"staff","disabled":false}`), 200, "", "")
	r.want(r.do("PUT", "/v1/users/"+memberID+"/password", owner, `{"password":"another one"}`), 204, "", "")
	r.want(r.do("GET", "/v1/tenant", member, ""), 401, "unauthenticated", "") // the password ended the sign-in
	member = r.signIn("bob", "another one")
	r.want(r.do("PATCH", "/v1/users/"+memberID, owner, `{"role":"member"}`), 200, "", "")
	r.everyRuleOperation(owner, member, memberID)
	r.want(r.do("DELETE", "/v1/sessions/current", member, ""), 204, "", "")
	r.want(r.do("GET", "/v1/tenant", member, ""), 401, "unauthenticated", "")

	r.everyAccountOperation(owner, memberID)
	r.everyOIDCOperation(owner, im.UserID(memberID))
	r.everyBoxOperation(owner)

	r.want(r.do("GET", "/admin/status", "", ""), 200, "", "")
	r.want(r.do("GET", "/admin/tenants", "", ""), 200, "", "")
	r.want(r.do("PATCH", "/admin/tenants/oakhill", "", `{"name":"Oak","suspended":true}`), 200, "", "")
	r.want(r.do("GET", "/v1/tenant", owner, ""), 401, "unauthenticated", "")
	r.want(r.do("PATCH", "/admin/tenants/oakhill", "", `{"suspended":false}`), 200, "", "")
	r.want(r.do("GET", "/admin/tenants/oakhill/users", "", ""), 200, "", "")
	r.want(r.do("PATCH", "/admin/tenants/oakhill/users/bob", "", `{"disabled":true}`), 200, "", "")
	r.want(r.do("PUT", "/admin/tenants/oakhill/users/bob/password", "", `{"password":"yet another"}`), 204, "", "")
	r.want(r.do("POST", "/admin/tenants/oakhill/users-bulk", "", `{"users":[{"username":"u1","role":"member"},{"username":"u2","role":"member"}],"tokens":true}`), 201, "", "")
	var issued IssuedToken
	a = r.do("POST", "/admin/tenants/oakhill/users/ann/tokens", "", "")
	r.want(a, 201, "", "")
	a.decode(t, &issued)
	r.want(r.do("GET", "/v1/tenant", issued.Token, ""), 200, "", "")
	r.want(r.do("POST", "/admin/sign-out", "", `{"token":"`+issued.Token+`"}`), 204, "", "")
	r.want(r.do("GET", "/v1/tenant", issued.Token, ""), 401, "unauthenticated", "")
	r.want(r.do("POST", "/admin/verify", "", ""), 200, "", "")
	r.want(r.do("POST", "/admin/backup", "", ""), 200, "", "")

	r.everyTenantOperation()

	docs, err := Documents()
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range docs {
		for _, op := range operations(t, doc) {
			if !r.called(op) {
				t.Errorf("%s: no test calls %s", name, op)
			}
		}
	}
	for _, secret := range []string{"correct horse", "battery staple", "another one", "你好", owner, issued.Token} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log holds a secret: %s", secret)
		}
	}
}

// called says whether an operation such as "GET /v1/users/{id}" was called.
func (r *rig) called(op string) bool {
	want := strings.Split(op, "/")
next:
	for got := range r.seen {
		parts := strings.Split(got, "/")
		if len(parts) != len(want) {
			continue
		}
		for i := range want {
			if want[i] != parts[i] && !strings.HasPrefix(want[i], "{") {
				continue next
			}
		}
		return true
	}
	return false
}

func operations(t *testing.T, doc []byte) []string {
	t.Helper()
	d, err := libopenapi.NewDocument(doc)
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	var ops []string
	for path, item := range m.Model.Paths.PathItems.FromOldest() {
		for method := range item.GetOperations().FromOldest() {
			ops = append(ops, strings.ToUpper(method)+" "+path)
		}
	}
	if len(ops) < 5 {
		t.Fatalf("only %d operations in the document", len(ops))
	}
	return ops
}

func (r *rig) actor(token string) im.Actor {
	r.t.Helper()
	who, _, err := r.auth.Verify(context.Background(), token)
	if err != nil {
		r.t.Fatal(err)
	}
	return who
}

// TestBadRequests goes through what callers get wrong.
func TestBadRequests(t *testing.T) {
	r := newRig(t)
	owner, member, memberID := r.school()
	res, err := r.chat.Do(context.Background(), &chat.Command{Op: chat.Create, Key: "k", Kind: im.KindGroup, Title: "Mine", Actor: r.actor(owner)})
	if err != nil {
		t.Fatal(err)
	}
	mine := "/v1/conversations/" + string(res.Head.ID) + "/messages"
	key := []string{"Idempotency-Key", "k1"}
	for _, c := range []struct {
		name, method, path, token, body string
		header                          []string
		status                          int
		kind, field                     string
	}{
		{"nobody", "GET", "/v1/tenant", "", "", nil, 401, "unauthenticated", ""},
		{"made-up token", "GET", "/v1/tenant", "pt_oakhill_xxx", "", nil, 401, "unauthenticated", ""},
		{"basic scheme", "GET", "/v1/tenant", "", "", []string{"Authorization", "Basic eA=="}, 401, "unauthenticated", ""},
		{"wrong password", "POST", "/v1/sessions", "", `{"username":"ann","password":"no"}`, nil, 401, "unauthenticated", ""},
		{"unknown user", "POST", "/v1/sessions", "", `{"username":"zed","password":"no"}`, nil, 401, "unauthenticated", ""},
		{"unknown tenant", "POST", "/v1/sessions", "", `{"tenant":"nowhere","username":"ann","password":"correct horse"}`, nil, 401, "unauthenticated", ""},
		{"no password", "POST", "/v1/sessions", "", `{"username":"ann"}`, nil, 400, "invalid", "password"},
		{"null", "POST", "/v1/sessions", "", `{"username":"ann","password":null}`, nil, 400, "invalid", "password"},
		{"number", "POST", "/v1/sessions", "", `{"username":1,"password":"x"}`, nil, 400, "invalid", "username"},
		{"other case", "POST", "/v1/sessions", "", `{"Username":"ann","password":"correct horse"}`, nil, 400, "invalid", "username"},
		{"not JSON", "POST", "/v1/sessions", "", `{`, nil, 400, "invalid", ""},
		{"huge", "POST", "/v1/sessions", "", `{"username":"` + strings.Repeat("x", 20<<10) + `"}`, nil, 413, "too_large", ""},
		{"no key", "POST", mine, owner, `{"text":"x"}`, nil, 422, "invalid", "key"},
		{"bad key", "POST", mine, owner, `{"text":"x"}`, []string{"Idempotency-Key", "a b\tc"}, 422, "invalid", "key"},
		{"array", "POST", mine, owner, `[]`, key, 400, "invalid", ""},
		{"no text", "POST", mine, owner, `{}`, key, 400, "invalid", "text"},
		{"empty text", "POST", mine, owner, `{"text":""}`, key, 422, "invalid", "text"},
		{"lone surrogate", "POST", mine, owner, `{"text":"\ud800"}`, key, 422, "invalid", "text"},
		{"long text", "POST", mine, owner, `{"text":"` + strings.Repeat("x", 101) + `"}`, key, 413, "too_large", "text"},
		{"own conversation wins", "POST", mine, owner, `{"text":"x","conversation":"c_other","key":"other"}`, key, 201, "", ""},
		{"other body", "POST", mine, owner, `{"text":"y"}`, key, 409, "conflict", "key"},
		{"stranger", "POST", mine, member, `{"text":"x"}`, key, 404, "not_found", ""},
		{"stranger reads", "GET", mine, member, "", nil, 404, "not_found", ""},
		{"no such conversation", "GET", "/v1/conversations/c_none/messages", member, "", nil, 404, "not_found", ""},
		{"both ends", "GET", mine + "?after=1&before=2", owner, "", nil, 422, "invalid", "before"},
		{"letters", "GET", mine + "?limit=x", owner, "", nil, 400, "invalid", "limit"},
		{"limit 0", "GET", mine + "?limit=0", owner, "", nil, 422, "invalid", "limit"},
		{"member administers", "POST", "/v1/users", member, `{"username":"dan","role":"member"}`, nil, 403, "forbidden", ""},
		{"member lists", "GET", "/v1/users", member, "", nil, 403, "forbidden", ""},
		{"member changes", "PATCH", "/v1/users/" + memberID, member, `{"role":"owner"}`, nil, 403, "forbidden", ""},
		{"unknown role", "POST", "/v1/users", owner, `{"username":"dan","role":"king"}`, nil, 400, "invalid", "role"},
		{"taken name", "POST", "/v1/users", owner, `{"username":"BOB","role":"member"}`, nil, 409, "exists", "username"},
		{"short password", "POST", "/v1/users", owner, `{"username":"dan","role":"member","password":"short"}`, nil, 422, "invalid", "password"},
		{"unknown user", "PATCH", "/v1/users/u_none", owner, `{"name":"x"}`, nil, 404, "not_found", ""},
		{"same tenant twice", "POST", "/admin/tenants", "", `{"id":"oakhill"}`, nil, 409, "exists", "id"},
		{"tenant with capitals", "POST", "/admin/tenants", "", `{"id":"Oak Hill"}`, nil, 422, "invalid", "id"},
		{"no such tenant", "GET", "/admin/tenants/none/users", "", "", nil, 404, "not_found", "tenant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := *r
			sub.t, sub.seen = t, map[string]bool{}
			sub.want(sub.do(c.method, c.path, c.token, c.body, c.header...), c.status, c.kind, c.field)
		})
	}
	for _, path := range []string{"/nothing", "/v2/x", "/v1/ws"} {
		w := httptest.NewRecorder()
		r.handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if ct := w.Header().Get("Content-Type"); w.Code/100 != 4 || ct != "application/problem+json" {
			t.Errorf("%s: %d %s", path, w.Code, ct)
		}
	}
}

// TestStoreFailure: a store that refuses is 503, nothing was stored, and the
// same key works once it is back.
func TestStoreFailure(t *testing.T) {
	r := newRig(t)
	owner, _, _ := r.school()
	res, err := r.chat.Do(context.Background(), &chat.Command{Op: chat.Create, Key: "k", Kind: im.KindGroup, Title: "Mine", Actor: r.actor(owner)})
	if err != nil {
		t.Fatal(err)
	}
	mine := "/v1/conversations/" + string(res.Head.ID) + "/messages"
	r.store.FailNext(im.E(im.Unavailable, "The box is full."))
	r.want(r.do("POST", mine, owner, `{"text":"x"}`, "Idempotency-Key", "k1"), 503, "unavailable", "")
	r.want(r.do("GET", mine, owner, ""), 200, "", "")
	r.want(r.do("POST", mine, owner, `{"text":"x"}`, "Idempotency-Key", "k1"), 201, "", "")
}
