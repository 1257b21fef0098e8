package signin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"

	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/im"
)

func (w *world) put(v oidcrp.Provider) {
	w.t.Helper()
	v.ID, v.Name, v.Create = "school", "School login", true
	if _, err := w.rp.Put(context.Background(), tenant, v); err != nil {
		w.t.Fatal(err)
	}
}

// comeIn signs somebody in through the provider and returns who that is.
func (w *world) comeIn(b *browser) *im.User {
	w.t.Helper()
	at := b.visit(w.issuer() + "/provider/school?next=/")
	if at != w.srv.URL+"/" {
		w.t.Fatalf("landed at %s\n%s", at, b.page)
	}
	req, err := http.NewRequest("GET", w.srv.URL, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range b.client.Jar.Cookies(req.URL) {
		if c.Name == "pipit" {
			_, u, err := w.auth.Verify(context.Background(), c.Value)
			if err != nil {
				w.t.Fatal(err)
			}
			return u
		}
	}
	w.t.Fatal("no cookie")
	return nil
}

func (w *world) callback() string { return w.issuer() + "/provider/school/callback" }

// TestOIDCProvider: people come from the certified npm package, over its own pages.
func TestOIDCProvider(t *testing.T) {
	w := newWorld(t)
	got := node(t, "oidc-provider.mjs", map[string]any{"secret": "s3cret", "redirect": w.callback(), "logout": w.issuer() + "/signin"}, nil, true)
	issuer := got["issuer"].(string)
	w.put(oidcrp.Provider{Issuer: issuer, ClientID: "pipit", ClientSecret: "s3cret", Domains: []string{"school.example"},
		RoleClaim: "groups", Roles: map[string]string{"teachers": "staff"}})
	kim := map[string]string{"login": "kim", "password": "x"}
	u := w.comeIn(newBrowser(t, kim))
	if u.Username != "kim" || u.Name != "Kim Park" || u.Role != im.RoleStaff {
		t.Errorf("%+v", u)
	}
	if again := w.comeIn(newBrowser(t, kim)); again.ID != u.ID {
		t.Errorf("the second time %+v", again)
	}
	// ann has an account here: a stranger with her name does not get it.
	b := newBrowser(t, map[string]string{"login": "ann", "password": "x"})
	b.visit(w.issuer() + "/provider/school?next=/")
	if !strings.Contains(b.page, "nobody here is linked") {
		t.Errorf("a stranger of that name:\n%s", b.page)
	}
	out := newBrowser(t, nil)
	if at := out.visit(w.issuer() + "/provider/school/logout"); !strings.HasPrefix(at, issuer+"/session/end") && !strings.HasPrefix(at, w.issuer()) {
		t.Errorf("logout leads to %s", at)
	}
}

// TestMockServer: oauth2-mock-server, honest and with claims left out.
func TestMockServer(t *testing.T) {
	for name, c := range map[string]struct {
		args map[string]any
		in   bool
	}{
		"honest":       {map[string]any{}, true},
		"no sub":       {map[string]any{"without": []string{"sub"}}, false},
		"empty sub":    {map[string]any{"claims": map[string]any{"sub": ""}}, false},
		"no iat":       {map[string]any{"without": []string{"iat"}}, false},
		"no nonce":     {map[string]any{"without": []string{"nonce"}}, false},
		"other client": {map[string]any{"claims": map[string]any{"aud": "other"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			got := node(t, "mock-server.mjs", c.args, nil, true)
			w.put(oidcrp.Provider{Issuer: got["issuer"].(string), ClientID: "pipit", ClientSecret: "x"})
			b := newBrowser(t, nil)
			if c.in {
				if u := w.comeIn(b); u.Username != "mock" {
					t.Errorf("%+v", u)
				}
				return
			}
			b.visit(w.issuer() + "/provider/school?next=/")
			if !strings.Contains(b.page, "answer can&#39;t be trusted") {
				t.Errorf("believed:\n%s", b.page)
			}
		})
	}
}

// TestZitadel: people come from zitadel's own example of its provider.
func TestZitadel(t *testing.T) {
	w := newWorld(t)
	var handler http.Handler
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { handler.ServeHTTP(rw, r) }))
	defer srv.Close()
	issuer := strings.Replace(srv.URL, "127.0.0.1", "localhost", 1) + "/"
	storage.RegisterClients(storage.WebClient("pipit", "s3cret", w.callback()))
	handler = exampleop.SetupServer(issuer, storage.NewStorage(storage.NewUserStore(issuer)), nil, false)
	w.put(oidcrp.Provider{Issuer: issuer, ClientID: "pipit", ClientSecret: "s3cret"})
	u := w.comeIn(newBrowser(t, map[string]string{"username": "test-user@localhost", "password": "verysecure"}))
	if u.Username != "test-user" || u.Role != im.RoleMember {
		t.Errorf("%+v", u)
	}
}
