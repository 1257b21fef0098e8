package api

import (
	"context"
	"strings"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// everyOIDCOperation calls what is there for programs and providers of sign-in, as
// an owner and as the operator; member may do none of it.
func (r *rig) everyOIDCOperation(owner string, bob im.UserID) {
	t := r.t
	member, _, err := r.auth.Issue(context.Background(), "oakhill", bob, "test")
	if err != nil {
		t.Fatal(err)
	}
	for base, token := range map[string]string{"/v1/oidc": owner, "/admin/tenants/oakhill/oidc": ""} {
		id := "portal" + strings.ReplaceAll(base, "/", "-")
		a := r.do("POST", base+"/clients", token, `{"id":"`+id+`","name":"Portal","kind":"web","redirect_uris":["https://portal.example/cb"],"scopes":["openid"]}`)
		r.want(a, 201, "", "")
		var c apiclient.OIDCClient
		a.decode(t, &c)
		if len(c.Secret) < 40 || c.Alg != "ES256" {
			t.Errorf("%s: made %+v", base, c)
		}
		a = r.do("GET", base+"/clients", token, "")
		r.want(a, 200, "", "")
		if strings.Contains(string(a.body), c.Secret) || !strings.Contains(string(a.body), id) {
			t.Errorf("%s: listed %s", base, a.body)
		}
		if strings.Contains(r.log.String(), c.Secret) {
			t.Error("the log holds a client's secret")
		}
		r.want(r.do("POST", base+"/clients", token, `{"id":"`+id+`","name":"Again","kind":"device"}`), 409, "exists", "id")
		r.want(r.do("POST", base+"/clients", token, `{"name":"x","kind":"browser","redirect_uris":["http://portal.example/"]}`), 422, "invalid", "redirect_uris")
		r.want(r.do("DELETE", base+"/clients/"+id, token, ""), 204, "", "")
		r.want(r.do("DELETE", base+"/clients/"+id, token, ""), 404, "not_found", "")

		a = r.do("PUT", base+"/providers/school", token, `{"name":"School login","issuer":"https://login.example","client_id":"pipit","client_secret":"s3cret-of-ours","create":true,"roles":{"t":"staff"},"role_claim":"groups"}`)
		r.want(a, 200, "", "")
		a = r.do("GET", base+"/providers", token, "")
		r.want(a, 200, "", "")
		if strings.Contains(string(a.body), "s3cret") || !strings.Contains(string(a.body), `"/t/oakhill/provider/school/callback"`) {
			t.Errorf("%s: listed %s", base, a.body)
		}
		if token != "" {
			tag := r.do("GET", base+"/providers/school", token, "").header.Get("ETag")
			r.want(r.do("PUT", base+"/providers/school", token, `{"name":"New name","issuer":"https://login.example","client_id":"pipit"}`, "If-Match", tag), 200, "", "")
			r.want(r.do("PUT", base+"/providers/school", token, `{"name":"Late","issuer":"https://login.example","client_id":"pipit"}`, "If-Match", tag), 409, "conflict", "If-Match")
			r.want(r.do("GET", base+"/providers/none", token, ""), 404, "not_found", "")
		}
		r.want(r.do("PUT", base+"/providers/school", token, `{"name":"x","issuer":"http://login.example","client_id":"pipit"}`), 422, "invalid", "issuer")
		r.want(r.do("DELETE", base+"/providers/school", token, ""), 204, "", "")
		r.want(r.do("DELETE", base+"/providers/school", token, ""), 404, "not_found", "")
	}
	r.everyWay(member)
	a := r.do("GET", "/v1/me/programs", member, "")
	r.want(a, 200, "", "")
	if string(a.body) != `{"programs":[]}`+"\n" {
		t.Errorf("programs %s", a.body)
	}
	r.want(r.do("DELETE", "/v1/me/programs/portal", member, ""), 404, "not_found", "")
	// A consent, as the page leaves one; pkg/app goes the whole way.
	err = r.store.UpdateRecords(context.Background(), "oakhill", func(tx store.RecordTx) error {
		tx.Put(store.RecordOIDCConsent, string(bob)+"/portal", []byte(`{"scopes":["chat"],"time":7}`))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if a = r.do("GET", "/v1/me/programs", member, ""); !strings.Contains(string(a.body), `{"id":"portal","name":"portal","scopes":["chat"],"since":7,"sign_ins":0}`) {
		t.Errorf("programs %s", a.body)
	}
	r.want(r.do("DELETE", "/v1/me/programs/portal", owner, ""), 404, "not_found", "") // somebody else's
	r.want(r.do("DELETE", "/v1/me/programs/portal", member, ""), 204, "", "")
	r.want(r.do("GET", "/v1/oidc/clients", member, ""), 403, "forbidden", "")
	r.want(r.do("POST", "/v1/oidc/clients", member, `{"name":"x","kind":"device"}`), 403, "forbidden", "")
	r.want(r.do("DELETE", "/v1/oidc/clients/x", member, ""), 403, "forbidden", "")
	r.want(r.do("GET", "/v1/oidc/providers", member, ""), 403, "forbidden", "")
	r.want(r.do("PUT", "/v1/oidc/providers/x", member, `{"name":"x","issuer":"https://x.example","client_id":"x"}`), 403, "forbidden", "")
	r.want(r.do("DELETE", "/v1/oidc/providers/x", member, ""), 403, "forbidden", "")
}

// everyWay asks what a sign-in page offers, and for the links of somebody who has
// none; pkg/auth/oidcrp and tests/e2e make some.
func (r *rig) everyWay(member string) {
	t := r.t
	_, err := r.api.Providers.Put(context.Background(), "oakhill", oidcrp.Provider{ID: "school", Name: "School login", Issuer: "https://login.example", ClientID: "pipit", ClientSecret: "s3cret-of-ours"})
	if err != nil {
		t.Fatal(err)
	}
	var ways apiclient.SignInWays
	a := r.do("GET", "/v1/sign-in?tenant=oakhill", "", "", "Cookie", "pipit-via=school")
	r.want(a, 200, "", "")
	a.decode(t, &ways)
	if len(ways.Providers) != 1 || ways.Providers[0] != (apiclient.SignInProvider{ID: "school", Name: "School login", Path: "/t/oakhill/provider/school", Last: true}) || ways.Tenant.ID != "oakhill" {
		t.Errorf("ways %s", a.body)
	}
	if strings.Contains(string(a.body), "s3cret") || strings.Contains(string(a.body), "login.example") {
		t.Errorf("anybody learns %s", a.body)
	}
	r.want(r.do("GET", "/v1/sign-in?tenant=none", "", ""), 404, "not_found", "tenant")
	a = r.do("GET", "/v1/me/providers", member, "")
	r.want(a, 200, "", "")
	if !strings.Contains(string(a.body), `"linked":false`) {
		t.Errorf("links %s", a.body)
	}
	r.want(r.do("DELETE", "/v1/me/providers/school", member, ""), 404, "not_found", "")
	// A link, as a sign-in through the provider leaves one.
	value := `{"user":"` + string(r.actor(member).User) + `","by":"rule","created":1}`
	err = r.store.UpdateRecords(context.Background(), "oakhill", func(tx store.RecordTx) error {
		tx.Put(store.RecordLink, "school/x", []byte(value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if a = r.do("GET", "/v1/me/providers", member, ""); !strings.Contains(string(a.body), `"linked":true,"by":"rule"`) {
		t.Errorf("links %s", a.body)
	}
	r.want(r.do("DELETE", "/v1/me/providers/school", member, ""), 204, "", "")
	// It is the only way in of somebody without a password: it stays.
	u, err := r.dir.AddUser(context.Background(), "oakhill", directory.NewUser{Username: "noor", Name: "Noor", Role: im.RoleMember})
	if err != nil {
		t.Fatal(err)
	}
	kim, _, err := r.auth.Issue(context.Background(), "oakhill", u.ID, "test")
	if err != nil {
		t.Fatal(err)
	}
	err = r.store.UpdateRecords(context.Background(), "oakhill", func(tx store.RecordTx) error {
		tx.Put(store.RecordLink, "school/y", []byte(`{"user":"`+string(u.ID)+`","by":"new","created":1}`))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.want(r.do("DELETE", "/v1/me/providers/school", kim, ""), 409, "conflict", "")
	if err := r.api.Providers.Remove(context.Background(), "oakhill", "school"); err != nil {
		t.Fatal(err)
	}
}
