// Package isolation_test proves that tenants are sealed from each other: it calls
// every route of the OpenAPI document that the server serves, and every method
// that the gateway has, with another tenant's ids and tokens, against a real
// server on a real store. What is not covered fails, so a route that somebody
// adds has to say here how it is called.
//
// Three things are looked at: no answer holds anything of the other tenant, what
// names something of it is refused as if it did not exist, and afterwards the
// other tenant's archive is the same, byte for byte, and its session heard
// nothing.
package isolation_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/gateway"
	"github.com/pipit-im/pipit/pkg/wire"
)

const patience = 60 * time.Second

// box is a server in this process.
type box struct {
	t     *testing.T
	admin *apiclient.Client
	addr  string
	// planted, if not nil, makes a call as somebody else: so answers a server that
	// forgot the tenant there (planted_test.go).
	planted func(op, token string) string
}

// judge hears what is wrong with the seal. A nil found is the test itself; where a
// leak was planted, it takes what is said.
type judge struct {
	t     *testing.T
	found *[]string
}

func (j judge) Errorf(format string, args ...any) {
	j.t.Helper()
	if j.found == nil {
		j.t.Errorf(format, args...)
		return
	}
	*j.found = append(*j.found, fmt.Sprintf(format, args...))
}

func newBox(t *testing.T) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "pipit-iso-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file, data := filepath.Join(dir, "pipit.yaml"), filepath.Join(dir, "d")
	if err := os.WriteFile(file, []byte("limits:\n  sends_per_minute: 100000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func() (config.Config, error) {
		return config.Load(config.Source{Args: []string{"--config", file, "--data-dir", data, "--listen", "127.0.0.1:0", "--metrics-listen", ""}})
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a, err := app.New(ctx, app.Options{Config: cfg, Reload: load, Level: new(slog.LevelVar), Out: io.Discard, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, nil) }()
	b := &box{t: t, admin: apiclient.New(data)}
	t.Cleanup(func() {
		b.admin.Close()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	status, err := b.admin.Status(ctx)
	if err != nil {
		t.Fatal(err)
	}
	b.addr = status.Listen[0]
	return b
}

// school is one tenant with something of everything.
type school struct {
	id                                                                             string
	owner, member                                                                  string // tokens
	ownerID, memberID                                                              string
	conv, channel, class, signIn, invitation, code, program, key, client, provider string
	secrets                                                                        []string // texts and names that nobody else may see
}

// school makes a tenant. All names in it are its own.
func (b *box) school(id string) *school {
	b.t.Helper()
	ctx := b.t.Context()
	s := &school{id: id}
	own := func(what string) string {
		v := what + " only of " + id
		s.secrets = append(s.secrets, v)
		return v
	}
	must := func(err error) {
		b.t.Helper()
		if err != nil {
			b.t.Fatal(err)
		}
	}
	_, err := b.admin.AddTenant(ctx, id, own("School"))
	must(err)
	people, err := b.admin.AddUsers(ctx, id, apiclient.BulkPeople{Tokens: true, Users: []apiclient.NewPerson{
		{Username: "ann", Name: own("Ann"), Role: "owner"}, {Username: "bob", Name: own("Bob"), Role: "member"}}})
	must(err)
	s.owner, s.ownerID, s.member, s.memberID = people[0].Token, people[0].ID, people[1].Token, people[1].ID
	inv, err := b.admin.Invite(ctx, id, apiclient.NewInvitation{Role: "staff", Name: own("Invited")})
	must(err)
	s.invitation, s.code = inv.ID, inv.Code
	k, err := b.admin.MakeAPIToken(ctx, id, apiclient.NewAPIToken{Name: own("Program"), User: "ann", Scopes: []string{
		"tenant:read", "tenant:write", "users:read", "users:write", "messages:read", "messages:send", "audit:read"}})
	must(err)
	s.program, s.key = k.ID, k.Token
	c := b.dial(s.owner)
	defer c.close()
	s.signIn = c.must("session.ping", `{}`, "") // a turn, so that hello is over
	made := c.ask("conversation.create", fmt.Sprintf(`{"kind":"group","title":%q,"members":[%q],"key":"k1"}`, own("Group"), s.memberID))
	s.conv = made.id(b.t)
	made = c.ask("conversation.create", fmt.Sprintf(`{"kind":"channel","title":%q,"members":[],"key":"k2"}`, own("Channel")))
	s.channel = made.id(b.t)
	c.must("message.send", fmt.Sprintf(`{"conversation":%q,"key":"k3","text":%q}`, s.conv, own("Text")), "")
	c.must("message.pin", fmt.Sprintf(`{"conversation":%q,"key":"k4","target":1,"on":true}`, s.conv), "")
	status, body := b.call("POST", "/v1/classes", s.owner, fmt.Sprintf(`{"name":%q}`, own("Class")), map[string]string{"Idempotency-Key": "class"})
	var class struct{ ID string }
	if status != 201 || json.Unmarshal(body, &class) != nil || class.ID == "" {
		b.t.Fatalf("class %d %s", status, body)
	}
	s.class = class.ID
	s.client, s.provider = "client-of-"+id, "provider-of-"+id
	status, body = b.call("POST", "/v1/oidc/clients", s.owner, fmt.Sprintf(`{"id":%q,"name":%q,"kind":"device"}`, s.client, own("Client")), map[string]string{"Idempotency-Key": "client"})
	if status != 201 {
		b.t.Fatalf("client %d %s", status, body)
	}
	status, body = b.call("PUT", "/v1/oidc/providers/"+s.provider, s.owner, fmt.Sprintf(`{"name":%q,"issuer":"https://login.example","client_id":"x"}`, own("Provider")), nil)
	if status != 200 {
		b.t.Fatalf("provider %d %s", status, body)
	}
	var list apiclient.SessionList
	status, body = b.call("GET", "/v1/sessions", s.owner, "", nil)
	if status != 200 || json.Unmarshal(body, &list) != nil || len(list.Sessions) == 0 {
		b.t.Fatalf("sessions %d %s", status, body)
	}
	s.signIn = list.Sessions[0].ID
	return s
}

// call makes one REST request.
func (b *box) call(method, path, token, body string, header map[string]string) (int, []byte) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, "http://"+b.addr+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, out
}

// archive returns the files of a tenant's archive but the audit log, in which
// refused sign-ins stand.
func (b *box) archive(tenant string) map[string]string {
	b.t.Helper()
	var buf bytes.Buffer
	if _, err := b.admin.ExportTenant(b.t.Context(), tenant, true, &buf); err != nil {
		b.t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		b.t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			b.t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			b.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, `{"kind":1,`) && !strings.HasPrefix(line, `{"kind":2,`) && f.Name != "manifest.json" {
				out[f.Name] += line
			}
		}
	}
	return out
}

// conn is a WebSocket of this test's own.
type conn struct {
	t    *testing.T
	c    net.Conn
	next int
	got  []string // events
}

type answer struct {
	raw    string
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Data struct {
			Kind string `json:"kind"`
		} `json:"data"`
	} `json:"error"`
}

func (a answer) id(t *testing.T) string {
	t.Helper()
	var head struct{ ID, Conversation string }
	if json.Unmarshal(a.Result, &head) != nil || head.ID == "" {
		t.Fatalf("no conversation in %s", a.raw)
	}
	return head.ID
}

func (a answer) kind() string {
	if a.Error != nil {
		return a.Error.Data.Kind
	}
	return ""
}

func (b *box) dial(token string) *conn {
	b.t.Helper()
	d := ws.Dialer{Protocols: []string{"pipit.v1"}}
	c, br, _, err := d.Dial(b.t.Context(), "ws://"+b.addr+"/v1/ws")
	if err != nil {
		b.t.Fatal(err)
	}
	if br != nil {
		ws.PutReader(br)
	}
	x := &conn{t: b.t, c: c}
	if a := x.ask("session.hello", fmt.Sprintf(`{"token":%q,"client":"isolation"}`, token)); a.Error != nil {
		b.t.Fatalf("hello: %s", a.raw)
	}
	return x
}

func (c *conn) close() { c.c.Close() }

// ask sends a request and returns its answer; events before it are kept.
func (c *conn) ask(method, params string) answer {
	c.t.Helper()
	c.next++
	id := fmt.Sprint(c.next)
	msg := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":%s}`, id, method, params)
	if err := wsutil.WriteClientText(c.c, []byte(msg)); err != nil {
		c.t.Fatalf("%s: %v", method, err)
	}
	if err := c.c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		c.t.Fatal(err)
	}
	for {
		b, err := wsutil.ReadServerText(c.c)
		if err != nil {
			c.t.Fatalf("%s: %v", method, err)
		}
		var got struct {
			ID     json.RawMessage
			Method string
		}
		if err := json.Unmarshal(b, &got); err != nil {
			c.t.Fatalf("%v in %s", err, b)
		}
		if got.Method != "" {
			c.got = append(c.got, string(b))
			continue
		}
		if string(got.ID) == id {
			a := answer{raw: string(b)}
			if err := json.Unmarshal(b, &a); err != nil {
				c.t.Fatal(err)
			}
			return a
		}
	}
}

// must is ask for what may not fail, unless kind is given.
func (c *conn) must(method, params, kind string) string {
	c.t.Helper()
	a := c.ask(method, params)
	if a.Error != nil && kind == "" {
		c.t.Fatalf("%s: %s", method, a.raw)
	}
	return a.raw
}

// leaks fails if an answer holds something of the other school.
func leaks(t judge, what string, answer string, of *school) {
	t.t.Helper()
	for _, secret := range append(slices.Clone(of.secrets), of.owner, of.member, of.key) {
		if strings.Contains(answer, secret) {
			t.Errorf("%s answered with %q of another tenant: %s", what, secret, answer)
		}
	}
}

// bodies says what a body looks like that names things of the victim, by
// operation. An operation with a body that is not here fails.
func bodies(of *school) map[string]string {
	return map[string]string{
		"sign-in":               `{"tenant":"` + of.id + `","username":"ann","password":"a wrong one, by far"}`,
		"send-message":          `{"text":"hello"}`,
		"add-invitation":        `{"user":"` + of.memberID + `"}`,
		"view-invitation":       `{"tenant":"TENANT","code":"` + of.code + `"}`,
		"accept-invitation":     `{"tenant":"TENANT","code":"` + of.code + `","username":"mallory","password":"three brown owls"}`,
		"add-passkey":           `{"state":"none","result":{}}`,
		"begin-passkey":         `{"password":"x"}`,
		"change-password":       `{"password":"x","new_password":"three brown owls"}`,
		"new-recovery-codes":    `{"password":"x"}`,
		"begin-totp":            `{"password":"x"}`,
		"confirm-totp":          `{"totp":"123456"}`,
		"remove-totp":           `{"password":"x"}`,
		"begin-passkey-sign-in": `{"tenant":"` + of.id + `"}`,
		"passkey-sign-in":       `{"state":"none","result":{}}`,
		"set-up":                `{"code":"none","tenant":{"id":"` + of.id + `","name":"x"},"username":"x","password":"three brown owls"}`,
		"update-tenant":         `{"id":"` + of.id + `","tenant":"` + of.id + `"}`,
		"update-settings":       `{"tenant":"` + of.id + `","audit_days":365}`,
		"add-token":             `{"name":"x","scopes":["users:read"],"user":"` + of.memberID + `"}`,
		"add-user":              `{"tenant":"` + of.id + `","username":"mallory","role":"member"}`,
		"update-user":           `{"name":"Mallory"}`,
		"set-password":          `{"password":"three brown owls"}`,
		"add-class":             `{"name":"x","members":["` + of.memberID + `"],"teachers":["` + of.ownerID + `"]}`,
		"change-class":          `{"name":"x","members":["` + of.memberID + `"]}`,
		"end-term":              `{"term":"none","classes":["` + of.class + `"]}`,
		"set-guardian":          `{"of":["` + of.memberID + `"],"members":["` + of.memberID + `"]}`,
		"change-policy":         `{"tenant":"` + of.id + `"}`,
		"import-roster":         "class,role,name,username\n",
		"preview-roster":        "class,role,name,username\n",
		"print-cards":           `{"users":["` + of.memberID + `"],"classes":["` + of.class + `"],"again":true}`,
		"add-oidc-client":       `{"name":"x","kind":"device"}`,
		"add-box-tenant":        `{"id":"` + of.id + `","name":"x"}`,
		"update-box-tenant":     `{"name":"x","suspended":true}`,
		"set-box-tenant":        `{"hosts":["x.local"]}`,
		"put-oidc-provider":     `{"name":"x","issuer":"https://login.example","client_id":"x"}`,
	}
}

// members are what path parameters stand for. A path with another one fails.
func members(of *school) map[string]string {
	return map[string]string{
		"/v1/conversations/{id}": of.conv, "/v1/users/{id}": of.memberID, "/v1/invitations/{invitation}": of.invitation,
		"/v1/me/passkeys/{passkey}": "none", "/v1/sessions/{session}": of.signIn, "/v1/tokens/{token}": of.program,
		"/v1/classes/{id}": of.class, "/v1/guardians/{id}": of.memberID,
		"/v1/oidc/clients/{id}": of.client, "/v1/oidc/providers/{id}": of.provider, "/v1/box/tenants/{tenant}": of.id,
		"/v1/me/providers/{id}": of.provider, "/v1/me/programs/{id}": of.client, "/v1/recalled/{id}": of.conv,
	}
}

// named are the routes whose path holds a name that each tenant gives in a space
// of its own: the caller gets one of that name, or finds none, and unharmed holds
// that it is another one.
var named = []string{"put-oidc-provider", "get-oidc-provider", "test-oidc-provider", "remove-oidc-provider"}

// last are the routes that end the caller's own sign-in: they are called last.
var last = []string{"delete-sessions", "sign-out"}

func TestEveryRoute(t *testing.T) {
	b := newBox(t)
	victim, mallory := b.school("oakhill"), b.school("elm")
	before := b.archive("oakhill")
	ear := b.dial(victim.member)
	defer ear.close()
	routes, calls := b.everyRoute(judge{t: t}, b.document(), victim, mallory, nil)
	t.Logf("%d routes, %d calls", routes, calls)
	b.unharmed(judge{t: t}, victim, before, ear)
}

// document is what is read of an OpenAPI document.
type document struct {
	Paths map[string]map[string]operation `json:"paths"`
}

type operation struct {
	OperationID string          `json:"operationId"`
	RequestBody json.RawMessage `json:"requestBody"`
}

// document returns the one that the server serves.
func (b *box) document() (spec document) {
	b.t.Helper()
	status, doc := b.call("GET", "/v1/openapi.json", "", "", nil)
	if err := json.Unmarshal(doc, &spec); status != 200 || err != nil || len(spec.Paths) < 20 {
		b.t.Fatalf("the server's document: %d, %v, %d paths", status, err, len(spec.Paths))
	}
	return spec
}

// everyRoute calls every operation of the document, or only that one, with the
// victim's ids as people of another tenant, a program of theirs, and nobody.
func (b *box) everyRoute(t judge, spec document, victim, mallory *school, only *string) (_, calls int) {
	b.t.Helper()
	type route struct{ op, method, template, path, body string }
	var routes []route
	for template, methods := range spec.Paths {
		for method, op := range methods {
			if only != nil && op.OperationID != *only {
				continue
			}
			r := route{op: op.OperationID, method: strings.ToUpper(method), template: template, path: template}
			for member, id := range members(victim) {
				if strings.HasPrefix(r.path, member) {
					r.path = strings.Replace(r.path, member, member[:strings.LastIndex(member, "/")+1]+id, 1)
				}
			}
			if strings.Contains(r.path, "{") {
				t.Errorf("%s %s is not covered: say in members() what its path is made of", r.method, template)
			}
			var known bool
			if r.body, known = bodies(victim)[r.op]; op.RequestBody != nil && !known {
				t.Errorf("%s %s is not covered: say in bodies() what %s is called with", r.method, template, r.op)
			}
			routes = append(routes, r)
		}
	}
	slices.SortFunc(routes, func(x, y route) int {
		lx, ly := slices.Index(last, x.op), slices.Index(last, y.op)
		if lx != ly {
			return lx - ly
		}
		return strings.Compare(x.op, y.op)
	})
	for _, r := range routes {
		for who, token := range map[string]string{"owner": mallory.owner, "member": mallory.member, "program": mallory.key, "nobody": ""} {
			for _, prefix := range []string{"", "/t/" + mallory.id} {
				for _, header := range []map[string]string{nil, {"Idempotency-Key": "key-" + who, "X-Tenant": victim.id, "Host": victim.id + ".local"}} {
					calls++
					body := strings.ReplaceAll(r.body, "TENANT", mallory.id)
					if b.planted != nil {
						token = b.planted(r.op, token)
					}
					status, answer := b.call(r.method, prefix+r.path, token, body, header)
					what := fmt.Sprintf("%s %s as %s", r.method, prefix+r.path, who)
					leaks(t, what, string(answer), victim)
					if r.path != r.template && status/100 == 2 && !slices.Contains(named, r.op) {
						t.Errorf("%s: %d %s", what, status, answer)
					}
					if status >= 500 {
						t.Errorf("%s: %d %s", what, status, answer)
					}
				}
			}
		}
	}
	return len(routes), calls
}

// unharmed holds that nothing of the victim has changed and its session heard
// nothing.
func (b *box) unharmed(t judge, victim *school, before map[string]string, ear *conn) {
	b.t.Helper()
	after := b.archive(victim.id)
	for name := range before {
		if before[name] != after[name] {
			t.Errorf("%s of the other tenant has changed:\n%s\n%s", name, before[name], after[name])
		}
	}
	for path, name := range map[string]string{"/v1/oidc/clients": "Client only of " + victim.id, "/v1/oidc/providers": "Provider only of " + victim.id} {
		if status, list := b.call("GET", path, victim.owner, "", nil); status != 200 || strings.Count(string(list), `"id"`) != 1 || !strings.Contains(string(list), name) {
			t.Errorf("%s of the other tenant: %d %s", path, status, list)
		}
	}
	ear.must("session.ping", `{}`, "")
	if len(ear.got) > 0 {
		t.Errorf("the other tenant's session heard %v", ear.got)
	}
}

// calls says how each method is called with ids of the victim. A method that is
// not here fails.
func calls(of *school) map[string]string {
	in := func(rest string) string { return `{"conversation":"` + of.conv + `"` + rest + `}` }
	id := func(rest string) string { return `{"id":"` + of.conv + `"` + rest + `}` }
	return map[string]string{
		wire.MethodHello:       `{"token":"` + of.owner + `"}`,
		wire.MethodPing:        `{}`,
		wire.MethodList:        `{}`,
		wire.MethodFind:        `{"query":"only"}`,
		wire.MethodGet:         id(""),
		wire.MethodMembers:     id(""),
		wire.MethodDirect:      `{"user":"` + of.memberID + `","key":"d1"}`,
		wire.MethodCreate:      `{"kind":"group","title":"x","members":["` + of.memberID + `"],"key":"c1"}`,
		wire.MethodUpdate:      id(`,"title":"x","key":"u1"`),
		wire.MethodJoin:        `{"id":"` + of.channel + `","key":"j1"}`,
		wire.MethodLeave:       id(`,"key":"l1"`),
		wire.MethodInvite:      id(`,"users":["` + of.memberID + `"],"key":"i1"`),
		wire.MethodRemove:      id(`,"users":["` + of.memberID + `"],"key":"r1"`),
		wire.MethodSetRole:     id(`,"user":"` + of.memberID + `","role":"reader","key":"s1"`),
		wire.MethodUserSearch:  `{"query":"only"}`,
		wire.MethodUserGet:     `{"users":["` + of.memberID + `","` + of.ownerID + `"]}`,
		wire.MethodSend:        in(`,"key":"m1","text":"x","mentions":["` + of.memberID + `"]`),
		wire.MethodEdit:        in(`,"key":"e1","target":1,"text":"x"`),
		wire.MethodRecall:      in(`,"key":"rc1","target":1`),
		wire.MethodReact:       in(`,"key":"ra1","target":1,"emoji":"👍","on":true`),
		wire.MethodPin:         in(`,"key":"p1","target":1,"on":true`),
		wire.MethodHistory:     in(""),
		wire.MethodPins:        in(""),
		wire.MethodReadMark:    in(`,"seq":1`),
		wire.MethodReadList:    in(`,"seq":1`),
		wire.MethodTyping:      in(""),
		wire.MethodWatch:       `{"users":["` + of.memberID + `","` + of.ownerID + `"]}`,
		wire.MethodPresenceSet: `{"state":"away"}`,
	}
}

func TestEveryMethod(t *testing.T) {
	b := newBox(t)
	victim, mallory := b.school("oakhill"), b.school("elm")
	before := b.archive("oakhill")
	ear := b.dial(victim.member)
	defer ear.close()
	b.everyMethod(judge{t: t}, gateway.Methods(), victim, mallory)
	b.unharmed(judge{t: t}, victim, before, ear)
}

// everyMethod calls the methods with the victim's ids as people of another tenant.
func (b *box) everyMethod(t judge, methods []string, victim, mallory *school) {
	b.t.Helper()
	for _, token := range []string{mallory.owner, mallory.member} {
		c := b.dial(token)
		for _, name := range methods {
			params, known := calls(victim)[name]
			if !known {
				t.Errorf("%s is not covered: say in calls() how it is called with another tenant's ids", name)
				continue
			}
			asks := c
			if b.planted != nil {
				if as := b.planted(name, token); as != token {
					asks = b.dial(as)
				}
			}
			a := asks.ask(name, params)
			leaks(t, name, a.raw, victim)
			if names := strings.Contains(params, victim.conv) || strings.Contains(params, victim.memberID) || strings.Contains(params, victim.channel); names &&
				a.kind() != "not_found" && name != wire.MethodUserGet && name != wire.MethodWatch && name != wire.MethodTyping {
				t.Errorf("%s answered as if it knew: %s", name, a.raw)
			}
			if strings.Contains(a.raw, victim.memberID) || strings.Contains(a.raw, victim.ownerID) {
				t.Errorf("%s answered with a user of another tenant: %s", name, a.raw)
			}
			if asks != c {
				asks.close()
			}
		}
		for _, e := range c.got {
			leaks(t, "an event", e, victim)
		}
		c.close()
	}
}
