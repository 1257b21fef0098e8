package api

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/im"
)

// testBox is what app tells of a box, with a backup that can't be begun twice.
func testBox() Box {
	b := apiclient.Backups{Key: true, Places: []apiclient.BackupPlace{}, Kept: []apiclient.KeptBackup{}}
	return Box{
		Machine: func() apiclient.MachineInfo { return apiclient.MachineInfo{Host: "pipit", MemoryBytes: 4 << 30} },
		History: func(after int64) apiclient.BoxHistory {
			out := apiclient.BoxHistory{StepMS: 5000, Samples: []apiclient.BoxSample{}}
			for _, at := range []int64{5000, 10000} {
				if at > after {
					out.Samples = append(out.Samples, apiclient.BoxSample{At: at, People: 3})
				}
			}
			return out
		},
		Backups: func() (apiclient.Backups, error) { return b, nil },
		StartBackup: func(by audit.Origin) error {
			if b.Running {
				return im.E(im.Conflict, "A backup is being made already.")
			}
			if by.Actor.Name != "ann" {
				return errors.New("nobody started it")
			}
			b.Running = true
			return nil
		},
	}
}

// everyBoxOperation calls what the keeper's owner does; ann is an owner of
// oakhill.
func (r *rig) everyBoxOperation(owner string) {
	t := r.t
	r.want(r.do("GET", "/v1/box", owner, ""), 403, "forbidden", "")
	r.want(r.do("PATCH", "/admin/tenants/oakhill/settings", "", `{"keeper":true}`), 200, "", "")
	var s TenantSettings
	r.do("GET", "/v1/tenant/settings", owner, "").decode(t, &s)
	if !s.Keeper {
		t.Error("its own settings don't say who keeps the box")
	}
	var state apiclient.BoxState
	r.do("GET", "/v1/box", owner, "").decode(t, &state)
	if !state.Ready || state.Users < 1 || state.Machine.Host != "pipit" {
		t.Errorf("box %+v", state)
	}
	var h apiclient.BoxHistory
	r.do("GET", "/v1/box/history?after=5000", owner, "").decode(t, &h)
	if len(h.Samples) != 1 || h.Samples[0].At != 10000 {
		t.Errorf("history %+v", h)
	}
	r.want(r.do("GET", "/v1/box/backups", owner, ""), 200, "", "")
	r.want(r.do("POST", "/v1/box/backups", owner, ""), 202, "", "")
	r.want(r.do("POST", "/v1/box/backups", owner, ""), 409, "conflict", "")

	body := `{"id":"elmside","name":"Elmside School","kind":"school","username":"Eve","person":"Eve Elm"}`
	var made apiclient.MadeOrganisation
	a := r.do("POST", "/v1/box/tenants", owner, body, "Idempotency-Key", "elmside")
	r.want(a, 201, "", "")
	a.decode(t, &made)
	if made.Tenant.ID != "elmside" || made.Invitation.Role != "owner" || made.Invitation.Username != "eve" || !strings.HasPrefix(made.Invitation.Path, "/t/elmside/join#") {
		t.Errorf("made %+v", made)
	}
	r.want(r.do("POST", "/v1/box/tenants", owner, body, "Idempotency-Key", "elmside"), 409, "conflict", "Idempotency-Key")
	r.want(r.do("POST", "/v1/box/tenants", owner, body), 409, "exists", "id")
	r.want(r.do("POST", "/v1/box/tenants", owner, `{"id":"half","username":"a b"}`), 422, "invalid", "username")
	if _, there := r.dir.Tenant("half"); there {
		t.Error("half an organisation is left")
	}
	if got := r.dir.Policy("elmside").Preset(); got != "school" {
		t.Errorf("its rules are those of %q", got)
	}
	eve := r.do("POST", "/v1/invitations/accept", "", `{"tenant":"elmside","code":"`+made.Invitation.Code+`","password":"three brown owls"}`)
	r.want(eve, 201, "", "")
	var grant Grant
	eve.decode(t, &grant)

	var list TenantList
	r.do("GET", "/v1/box/tenants", owner, "").decode(t, &list)
	if len(list.Tenants) < 2 {
		t.Errorf("tenants %+v", list)
	}
	a = r.do("GET", "/v1/box/tenants/elmside", owner, "")
	r.want(a, 200, "", "")
	tag := a.header.Get("ETag")
	r.want(r.do("PATCH", "/v1/box/tenants/elmside", owner, `{"name":"Elm Side"}`, "If-Match", tag), 200, "", "")
	r.want(r.do("PATCH", "/v1/box/tenants/elmside", owner, `{"name":"Elm"}`, "If-Match", tag), 409, "conflict", "If-Match")
	r.want(r.do("PATCH", "/v1/box/tenants/elmside/settings", owner, `{"hosts":["elm.local"],"quota":{"users":1,"conversations":0,"stored_bytes":0,"sends_per_minute":0,"connections":0}}`), 200, "", "")
	r.want(r.do("POST", "/v1/users", grant.Token, `{"username":"one-too-many","role":"member"}`), 413, "too_large", "")
	r.want(r.do("PATCH", "/v1/box/tenants/elmside", owner, `{"suspended":true}`), 200, "", "")
	r.want(r.do("GET", "/v1/me", grant.Token, ""), 401, "unauthenticated", "")
	r.want(r.do("PATCH", "/v1/box/tenants/elmside", owner, `{"suspended":false}`), 200, "", "")
	// Everybody else: nothing.
	for _, path := range []string{"", "/history", "/backups", "/tenants", "/tenants/oakhill", "/tenants/oakhill/export"} {
		r.want(r.do("GET", "/v1/box"+path, grant.Token, ""), 403, "forbidden", "")
	}
	r.want(r.do("DELETE", "/v1/box/tenants/oakhill", grant.Token, ""), 403, "forbidden", "")

	z := r.do("GET", "/v1/box/tenants/elmside/export", owner, "")
	r.want(z, 200, "", "")
	if _, err := zip.NewReader(bytes.NewReader(z.body), int64(len(z.body))); err != nil || bytes.Contains(z.body, []byte("argon2")) {
		t.Errorf("archive of %d bytes: %v", len(z.body), err)
	}
	r.want(r.do("DELETE", "/v1/box/tenants/oakhill", owner, ""), 409, "conflict", "")
	r.want(r.do("PATCH", "/v1/box/tenants/oakhill", owner, `{"suspended":true}`), 409, "conflict", "")
	a = r.do("DELETE", "/v1/box/tenants/elmside", owner, "")
	var gone TenantInfo
	a.decode(t, &gone)
	if a.status != 200 || gone.ErasedIn == 0 {
		t.Errorf("deleted: %d %s", a.status, a.body)
	}
	r.want(r.do("POST", "/v1/box/tenants/elmside/undelete", owner, ""), 200, "", "")
	r.want(r.do("POST", "/v1/box/tenants/elmside/undelete", owner, ""), 404, "not_found", "")
	// What was done to the other tenant stands in its log, by name; backups in the box's.
	a = r.do("GET", "/admin/audit?tenant=elmside&limit=500", "", "")
	for _, want := range []string{"tenant.create", "tenant.update", "tenant.settings", "tenant.delete", "tenant.undelete", "tenant.export", `"name":"ann"`} {
		if !bytes.Contains(a.body, []byte(want)) {
			t.Errorf("its audit log has no %s", want)
		}
	}
	if a = r.do("GET", "/admin/audit?action=backup.", "", ""); !bytes.Contains(a.body, []byte("backup.start")) {
		t.Errorf("the box's audit log: %s", a.body)
	}
	r.want(r.do("PATCH", "/admin/tenants/oakhill/settings", "", `{"keeper":false}`), 200, "", "")
	r.want(r.do("GET", "/v1/box", owner, ""), 403, "forbidden", "")
	r.everyProviderTest(owner)
}

// everyProviderTest asks providers that are and are not there.
func (r *rig) everyProviderTest(owner string) {
	t := r.t
	var srv *httptest.Server
	srv = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/.well-known/openid-configuration" {
			http.NotFound(w, q)
			return
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"issuer": srv.URL, "authorization_endpoint": srv.URL + "/a", "token_endpoint": srv.URL + "/t", "jwks_uri": srv.URL + "/k"}); err != nil {
			t.Error(err)
		}
	}))
	defer srv.Close()
	r.want(r.do("POST", "/v1/oidc/providers/nobody/test", owner, ""), 404, "not_found", "")
	for issuer, ok := range map[string]bool{srv.URL: true, srv.URL + "/elsewhere": false} {
		r.want(r.do("PUT", "/v1/oidc/providers/probe", owner, `{"name":"Probe","issuer":"`+issuer+`","client_id":"x"}`), 200, "", "")
		var got apiclient.ProviderTest
		a := r.do("POST", "/v1/oidc/providers/probe/test", owner, "")
		r.want(a, 200, "", "")
		a.decode(t, &got)
		if got.OK != ok || got.OK == (got.Text != "") {
			t.Errorf("%s: %+v", issuer, got)
		}
	}
	r.want(r.do("DELETE", "/v1/oidc/providers/probe", owner, ""), 204, "", "")
}

// TestSetupKeeps: whoever set the box up looks after it, and nobody takes it from
// them by setting up again.
func TestSetupKeeps(t *testing.T) {
	r := newRig(t)
	r.want(r.do("POST", "/v1/setup", "", setupBody(r.api.SetupCode(), wholeSetup)), 201, "", "")
	if k := r.dir.Keeper(); k != "oakhill" {
		t.Errorf("the box is kept by %q", k)
	}
	if err := r.dir.EraseTenant(context.Background(), "oakhill"); err != nil {
		t.Fatal(err)
	}
	if k := r.dir.Keeper(); k != "" {
		t.Errorf("an erased organisation keeps the box: %q", k)
	}
}
