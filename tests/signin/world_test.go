// Package signin_test lets clients and providers of OpenID Connect that nobody here
// wrote talk to ours: golang.org/x/oauth2 with go-oidc, the npm packages
// openid-client (certified) and oauth4webapi, and Apache's mod_auth_openidc sign
// people in through the box; the npm packages oidc-provider (certified) and
// oauth2-mock-server and zitadel's own example are providers that people of the box
// come from. All of it runs on loopback.
//
// The npm packages are those of package-lock.json; tests/run.sh installs them and
// Apache. Without them the tests skip.
package signin_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

const (
	tenant   = "oakhill"
	password = "grey heron on a wet roof"
)

// world is a box: directory, auth, provider and relying party on one address.
type world struct {
	t    *testing.T
	dir  *directory.Directory
	auth *auth.Auth
	op   *oidcop.Provider
	rp   *oidcrp.RP
	srv  *httptest.Server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx := context.Background()
	w := &world{t: t}
	said := new(bytes.Buffer)
	log := slog.New(slog.NewTextHandler(said, nil))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the box says:\n%s", said)
		}
	})
	model := storetest.NewModel(time.Now)
	var err error
	if w.dir, err = directory.New(ctx, directory.Options{People: model, Records: model, Bus: membus.New(), Now: model.Now, Age: model.Age}); err != nil {
		t.Fatal(err)
	}
	grants := oidcop.NewGrants(model, model, model)
	if w.auth, err = auth.New(ctx, auth.Options{Tokens: grants, Credentials: model, Records: model, Box: model, Users: w.dir,
		Hashing: auth.Hashing{MemoryKiB: 64, Iterations: 1}, Limits: auth.Limits{ChecksPerMinutePerAddr: 1000, FailuresPerHourPerAccount: 100, Hashes: 2}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dir.AddTenant(ctx, tenant, "Oakhill School"); err != nil {
		t.Fatal(err)
	}
	u, err := w.dir.AddUser(ctx, tenant, directory.NewUser{Username: "ann", Name: "Ann Lee", Role: im.RoleOwner})
	if err == nil {
		err = w.auth.SetPassword(ctx, tenant, u.ID, password)
	}
	if err != nil {
		t.Fatal(err)
	}
	if w.op, err = oidcop.New(oidcop.Options{Auth: w.auth, Grants: grants, Users: w.dir, Records: model, Box: model, Log: log}); err != nil {
		t.Fatal(err)
	}
	w.rp, err = oidcrp.New(oidcrp.Options{Records: model, Box: model, Users: w.dir, Pages: w.op, Issue: w.auth.Issue, Log: log,
		Create: func(ctx context.Context, t im.TenantID, n oidcrp.Newcomer) (im.UserID, error) {
			u, err := w.dir.AddUser(ctx, t, directory.NewUser{Username: n.Username, Name: n.Name, Role: n.Role})
			return u.ID, err
		}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	w.op.Routes(mux)
	w.rp.Routes(mux)
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "the messages") })
	w.srv = httptest.NewServer(mux)
	t.Cleanup(w.srv.Close)
	return w
}

func (w *world) issuer() string { return w.srv.URL + "/t/" + tenant }

func (w *world) client(c oidcop.Client) (id, secret string) {
	w.t.Helper()
	c, secret, err := w.op.AddClient(context.Background(), tenant, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.ID, secret
}

// browser follows links and redirects, keeps cookies, and fills in the forms that
// it meets, until it is sent to an address that begins with one of ends.
type browser struct {
	t      *testing.T
	client *http.Client
	ends   []string
	fields map[string]string
	page   string
}

func newBrowser(t *testing.T, fields map[string]string, ends ...string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t, fields: fields, ends: ends}
	b.client = &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > 20 {
			return fmt.Errorf("redirected for ever, at last to %s", r.URL)
		}
		if b.ended(r.URL.String()) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return b
}

func (b *browser) ended(address string) bool {
	for _, e := range b.ends {
		if strings.HasPrefix(address, e) {
			return true
		}
	}
	return false
}

// visit goes to address and returns where it ended: the address it was sent to, or
// that of a page without a form that it can fill in.
func (b *browser) visit(address string) string {
	b.t.Helper()
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for range 10 {
		req.Header.Set("Accept", "text/html")
		res, err := b.client.Do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			b.t.Fatal(err)
		}
		b.page = string(body)
		if to, err := res.Location(); err == nil {
			return to.String()
		}
		action, form, ok := b.form(res.Request.URL, b.page)
		if !ok {
			return res.Request.URL.String()
		}
		if req, err = http.NewRequest("POST", action, strings.NewReader(form.Encode())); err != nil {
			b.t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", res.Request.URL.Scheme+"://"+res.Request.URL.Host)
	}
	b.t.Fatalf("forms for ever; the last page:\n%s", b.page)
	return ""
}

// form fills in the first form of a page; false if there is none, or one with a
// visible field that nobody said what to put into.
func (b *browser) form(at *url.URL, page string) (action string, form url.Values, ok bool) {
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		b.t.Fatal(err)
	}
	form = url.Values{}
	attr := func(n *html.Node, name string) string {
		for _, a := range n.Attr {
			if a.Key == name {
				return a.Val
			}
		}
		return ""
	}
	unknown := false
	var walk func(n *html.Node, in bool)
	walk = func(n *html.Node, in bool) {
		if n.Type == html.ElementNode {
			switch {
			case n.Data == "form" && !ok && strings.EqualFold(attr(n, "method"), "post"):
				to, err := at.Parse(attr(n, "action"))
				if err != nil {
					b.t.Fatal(err)
				}
				action, ok, in = to.String(), true, true
			case in && n.Data == "input" && attr(n, "type") == "hidden":
				form.Set(attr(n, "name"), attr(n, "value"))
			case in && n.Data == "input" && attr(n, "type") != "checkbox" && attr(n, "type") != "submit":
				value, known := b.fields[attr(n, "name")]
				if !known {
					value = attr(n, "value")
				}
				unknown = unknown || value == ""
				form.Set(attr(n, "name"), value)
			case in && n.Data == "button" && attr(n, "name") != "" && !form.Has(attr(n, "name")):
				value, known := b.fields[attr(n, "name")]
				if !known {
					value = attr(n, "value") // the first button
				}
				form.Set(attr(n, "name"), value)
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c, in)
		}
	}
	walk(doc, false)
	return action, form, ok && !unknown
}

// ann is what somebody of this box types.
var ann = map[string]string{"username": "ann", "password": password}

// node runs a script of js/, and the browser for it; it returns the last thing that
// it said. With stay it goes on until the test ends, and the first is returned.
func node(t *testing.T, script string, args map[string]any, b *browser, stay bool) map[string]any {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("needs Node.js 20 or newer and npm")
	}
	if _, err := os.Stat("node_modules"); err != nil {
		t.Skip("needs the npm packages: npm ci in tests/signin")
	}
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "node", filepath.Join("js", script), string(raw))
	complaints := new(strings.Builder)
	cmd.Stderr = complaints
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := map[string]any{}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		last = map[string]any{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatalf("%s said %q", script, lines.Text())
		}
		if stay {
			t.Cleanup(func() { in.Close(); _ = cmd.Wait() }) // it ends with its input, or by cancel
			return last
		}
		if to, ok := last["visit"].(string); ok {
			fmt.Fprintln(in, b.visit(to))
		}
	}
	if err := cmd.Wait(); err != nil || last["done"] != true {
		t.Fatalf("%s: %v\n%s\nthe browser's last page:\n%s", script, err, complaints, b.page)
	}
	return last
}
