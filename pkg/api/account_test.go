package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
	"github.com/pquerna/otp/totp"

	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
)

// code is what an authenticator app shows for secret, steps from now.
func (r *rig) code(secret string, steps int) string {
	r.t.Helper()
	c, err := totp.GenerateCode(secret, r.store.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// site is where a browser with a passkey is.
var site = []string{"Host", "chat.oakhill.example", "Origin", "https://chat.oakhill.example"}

// everyAccountOperation calls what is there for accounts, invitations, tokens and
// the audit log, each with success. ann is an owner with the password "correct
// horse".
func (r *rig) everyAccountOperation(owner, memberID string) {
	t := r.t
	var me Me
	a := r.do("GET", "/v1/me", owner, "")
	r.want(a, 200, "", "")
	a.decode(t, &me)
	r.want(r.do("GET", "/v1/users/"+memberID, owner, ""), 200, "", "")
	r.want(r.do("GET", "/v1/users/"+memberID+"/sessions", owner, ""), 200, "", "")
	r.want(r.do("DELETE", "/v1/users/"+memberID+"/sessions", owner, ""), 204, "", "")
	r.want(r.do("DELETE", "/v1/users/"+memberID+"/second-factor", owner, ""), 204, "", "")
	r.want(r.do("PUT", "/v1/me/password", owner, `{"password":"correct horse","new_password":"three brown owls"}`), 204, "", "")

	// Sessions.
	other := r.signIn("ann", "three brown owls")
	var list SessionList
	a = r.do("GET", "/v1/sessions", owner, "")
	r.want(a, 200, "", "")
	a.decode(t, &list)
	if len(list.Sessions) != 2 || !list.Sessions[1].Current || list.Sessions[0].Current {
		t.Errorf("sessions %s", a.body)
	}
	r.want(r.do("DELETE", "/v1/sessions/"+list.Sessions[0].ID, owner, ""), 204, "", "")
	r.want(r.do("GET", "/v1/me", other, ""), 401, "unauthenticated", "")
	other = r.signIn("ann", "three brown owls")
	r.want(r.do("DELETE", "/v1/sessions?keep_current=true", owner, ""), 204, "", "")
	r.want(r.do("GET", "/v1/me", other, ""), 401, "unauthenticated", "")
	r.want(r.do("GET", "/v1/me", owner, ""), 200, "", "")

	// A second factor, from nothing to gone.
	proof := `{"password":"three brown owls"}`
	var secret TOTPSecret
	a = r.do("POST", "/v1/me/totp", owner, proof)
	r.want(a, 201, "", "")
	a.decode(t, &secret)
	if !strings.HasPrefix(secret.URI, "otpauth://totp/Oakhill%3Aann?") && !strings.HasPrefix(secret.URI, "otpauth://totp/Oakhill:ann?") {
		t.Errorf("uri %s", secret.URI)
	}
	r.want(r.do("PUT", "/v1/me/totp", owner, `{"totp":"`+r.code(secret.Secret, 5)+`"}`), 422, "invalid", "totp")
	var codes RecoveryCodes
	a = r.do("PUT", "/v1/me/totp", owner, `{"totp":"`+r.code(secret.Secret, -1)+`"}`)
	r.want(a, 200, "", "")
	a.decode(t, &codes)
	withTOTP := func(code string) answer {
		return r.do("POST", "/v1/sessions", "", fmt.Sprintf(`{"username":"ann","password":"three brown owls","totp":%q}`, code))
	}
	a = r.do("POST", "/v1/sessions", "", `{"username":"ann","password":"three brown owls"}`)
	r.want(a, 401, "unauthenticated", "totp")
	if !bytes.Contains(a.body, []byte(`"challenge":"totp"`)) {
		t.Errorf("no challenge in %s", a.body)
	}
	now := r.code(secret.Secret, 0)
	r.want(withTOTP(now), 201, "", "")
	r.want(withTOTP(now), 401, "unauthenticated", "totp") // a code counts once
	r.want(withTOTP(r.code(secret.Secret, -1)), 401, "unauthenticated", "totp")
	r.want(withTOTP(codes.Codes[3]), 201, "", "")
	r.want(withTOTP(codes.Codes[3]), 401, "unauthenticated", "totp")
	next := r.code(secret.Secret, 1)
	a = r.do("POST", "/v1/me/recovery-codes", owner, `{"password":"three brown owls","totp":"`+next+`"}`)
	r.want(a, 201, "", "")
	a.decode(t, &codes)
	r.want(r.do("POST", "/v1/me/totp/remove", owner, `{"password":"three brown owls"}`), 422, "invalid", "totp")
	r.want(r.do("POST", "/v1/me/totp/remove", owner, `{"password":"three brown owls","totp":"`+codes.Codes[0]+`"}`), 204, "", "")
	r.want(r.do("POST", "/v1/sessions", "", `{"username":"ann","password":"three brown owls"}`), 201, "", "")

	// A passkey, with an authenticator that nobody here wrote.
	device := virtualwebauthn.NewAuthenticator()
	device.Options.UserHandle = []byte("oakhill/" + me.User.ID)
	rp := virtualwebauthn.RelyingParty{ID: "chat.oakhill.example", Name: "Oakhill", Origin: "https://chat.oakhill.example"}
	cred := virtualwebauthn.NewCredentialWithImportedKey(virtualwebauthn.KeyTypeEC2, wholeKey(t))
	var begun PasskeyOptions
	r.want(r.do("POST", "/v1/me/passkeys/options", owner, proof, "Host", "192.168.1.5"), 403, "forbidden", "")
	a = r.do("POST", "/v1/me/passkeys/options", owner, proof, site...)
	r.want(a, 200, "", "")
	a.decode(t, &begun)
	att, err := virtualwebauthn.ParseAttestationOptions(string(begun.Options))
	if err != nil {
		t.Fatal(err)
	}
	made := virtualwebauthn.CreateAttestationResponse(rp, device, cred, *att)
	var passkey PasskeyInfo
	a = r.do("POST", "/v1/me/passkeys", owner, `{"state":"`+begun.State+`","name":"Key","result":`+made+`}`, site...)
	r.want(a, 201, "", "")
	a.decode(t, &passkey)
	r.want(r.do("POST", "/v1/me/passkeys", owner, `{"state":"`+begun.State+`","result":`+made+`}`, site...), 422, "invalid", "state")
	signIn := func(rp virtualwebauthn.RelyingParty) answer {
		a := r.do("POST", "/v1/passkeys/options", "", `{}`, site...)
		r.want(a, 200, "", "")
		a.decode(t, &begun)
		ass, err := virtualwebauthn.ParseAssertionOptions(string(begun.Options))
		if err != nil {
			t.Fatal(err)
		}
		device.AddCredential(cred)
		return r.do("POST", "/v1/passkeys/sessions", "", `{"state":"`+begun.State+`","result":`+virtualwebauthn.CreateAssertionResponse(rp, device, cred, *ass)+`}`, site...)
	}
	a = signIn(rp)
	r.want(a, 201, "", "")
	var g Grant
	a.decode(t, &g)
	r.want(r.do("GET", "/v1/me", g.Token, ""), 200, "", "")
	evil := rp
	evil.Origin = "https://chat.oakhi11.example"
	r.want(signIn(evil), 401, "unauthenticated", "")
	r.want(r.do("DELETE", "/v1/me/passkeys/"+passkey.ID, owner, ""), 204, "", "")
	r.want(signIn(rp), 401, "unauthenticated", "")

	// Invitations.
	var inv MadeInvitation
	a = r.do("POST", "/v1/invitations", owner, `{"role":"staff","name":"Dan Wu"}`, "Idempotency-Key", "i1")
	r.want(a, 201, "", "")
	a.decode(t, &inv)
	r.want(r.do("POST", "/v1/invitations", owner, `{"role":"staff","name":"Dan Wu"}`, "Idempotency-Key", "i1"), 409, "conflict", "Idempotency-Key")
	r.want(r.do("GET", "/v1/invitations", owner, ""), 200, "", "")
	a = r.do("POST", "/v1/invitations/view", "", `{"code":"`+strings.ToLower(inv.Code)+`"}`)
	r.want(a, 200, "", "")
	r.want(r.do("POST", "/v1/invitations/accept", "", `{"code":"`+inv.Code+`","username":"dan","password":"password"}`), 422, "invalid", "password")
	r.want(r.do("POST", "/v1/invitations/accept", "", `{"code":"`+inv.Code+`","username":"ann","password":"a lamp, two doors"}`), 409, "exists", "username")
	a = r.do("POST", "/v1/invitations/accept", "", `{"code":"`+inv.Code+`","username":"dan","password":"a lamp, two doors"}`)
	r.want(a, 201, "", "")
	a.decode(t, &g)
	if g.User.Name != "Dan Wu" || g.User.Role != "staff" {
		t.Errorf("invited %+v", g.User)
	}
	r.want(r.do("POST", "/v1/invitations/accept", "", `{"code":"`+inv.Code+`","username":"dan2","password":"a lamp, two doors"}`), 404, "not_found", "code")
	a = r.do("POST", "/v1/invitations", owner, `{"user":"`+memberID+`"}`)
	r.want(a, 201, "", "")
	a.decode(t, &inv)
	a = r.do("POST", "/t/oakhill/v1/invitations/accept", "", `{"code":"`+inv.Code+`","password":"bicycle under snow"}`)
	r.want(a, 201, "", "")
	a = r.do("POST", "/v1/invitations", owner, `{}`)
	a.decode(t, &inv)
	r.want(r.do("DELETE", "/v1/invitations/"+inv.ID, owner, ""), 204, "", "")

	// Tokens of programs.
	var made2 MadeAPIToken
	a = r.do("POST", "/v1/tokens", owner, `{"name":"Timetable","scopes":["users:read","audit:read"]}`)
	r.want(a, 201, "", "")
	a.decode(t, &made2)
	r.want(r.do("GET", "/v1/tokens", owner, ""), 200, "", "")
	r.want(r.do("GET", "/v1/users", made2.Token, ""), 200, "", "")
	r.want(r.do("POST", "/v1/users", made2.Token, `{"username":"eve","role":"member"}`), 403, "forbidden", "")
	r.want(r.do("GET", "/v1/tokens", made2.Token, ""), 403, "forbidden", "")
	r.want(r.do("GET", "/v1/me", made2.Token, ""), 403, "forbidden", "")
	r.want(r.do("DELETE", "/v1/tokens/"+made2.ID, owner, ""), 204, "", "")
	r.want(r.do("GET", "/v1/users", made2.Token, ""), 401, "unauthenticated", "")

	// Settings, with versions.
	a = r.do("GET", "/v1/tenant/settings", owner, "")
	r.want(a, 200, "", "")
	tag := a.header.Get("ETag")
	r.want(r.do("PATCH", "/v1/tenant/settings", owner, `{"audit_days":30}`, "If-Match", tag), 200, "", "")
	r.want(r.do("PATCH", "/v1/tenant/settings", owner, `{"audit_days":31}`, "If-Match", tag), 409, "conflict", "If-Match")

	// Who has to have a second factor gets one at the next sign-in.
	r.want(r.do("PATCH", "/v1/tenant/settings", owner, `{"staff_totp":true}`), 200, "", "")
	a = r.do("POST", "/v1/sessions", "", `{"username":"dan","password":"a lamp, two doors"}`)
	r.want(a, 401, "unauthenticated", "totp")
	var p Problem
	a.decode(t, &p)
	if p.Challenge != "totp_setup" || p.TOTPSetup == nil {
		t.Fatalf("no set-up in %s", a.body)
	}
	a = r.do("POST", "/v1/sessions", "", `{"username":"dan","password":"a lamp, two doors","totp":"`+r.code(p.TOTPSetup.Secret, 0)+`"}`)
	r.want(a, 201, "", "")
	a.decode(t, &g)
	if len(g.RecoveryCodes) != 10 {
		t.Errorf("recovery codes %v", g.RecoveryCodes)
	}
	// With a password that somebody else gave, one code does for all of it, and a bad
	// choice of password uses none up.
	r.want(r.do("POST", "/v1/users", owner, `{"username":"hal","role":"staff","password":"given by Ann","temporary":true}`), 201, "", "")
	hal := func(more string) answer {
		return r.do("POST", "/v1/sessions", "", `{"username":"hal","password":"given by Ann"`+more+`}`)
	}
	a = hal("")
	r.want(a, 401, "unauthenticated", "totp")
	a.decode(t, &p)
	r.want(hal(`,"totp":"000000"`), 401, "unauthenticated", "totp")
	code := `,"totp":"` + r.code(p.TOTPSetup.Secret, 0) + `"`
	r.want(hal(code), 401, "unauthenticated", "new_password")
	r.want(hal(code+`,"new_password":"12345678"`), 422, "invalid", "new_password")
	r.want(hal(code+`,"new_password":"given by Ann"`), 422, "invalid", "new_password")
	a = hal(code + `,"new_password":"nine grey herons"`)
	r.want(a, 201, "", "")
	a.decode(t, &g)
	if len(g.RecoveryCodes) != 10 {
		t.Errorf("recovery codes with a new password %v", g.RecoveryCodes)
	}
	r.want(r.do("PATCH", "/v1/tenant/settings", owner, `{"staff_totp":false}`), 200, "", "")

	// A password that somebody else gave.
	r.want(r.do("POST", "/v1/users", owner, `{"username":"fay","role":"member","password":"given by Ann","temporary":true}`, "Idempotency-Key", "f1"), 201, "", "")
	a = r.do("POST", "/v1/users", owner, `{"username":"fay","role":"member","password":"given by Ann","temporary":true}`, "Idempotency-Key", "f1")
	r.want(a, 201, "", "")
	if a.header.Get("Idempotency-Replayed") != "true" {
		t.Error("a repeat is not marked")
	}
	r.want(r.do("POST", "/v1/users", owner, `{"username":"gus","role":"member"}`, "Idempotency-Key", "f1"), 409, "conflict", "Idempotency-Key")
	a = r.do("POST", "/v1/sessions", "", `{"username":"fay","password":"given by Ann"}`)
	r.want(a, 401, "unauthenticated", "new_password")
	r.want(r.do("POST", "/v1/sessions", "", `{"username":"fay","password":"given by Ann","new_password":"given by Ann"}`), 422, "invalid", "new_password")
	r.want(r.do("POST", "/v1/sessions", "", `{"username":"fay","password":"given by Ann","new_password":"12345678"}`), 422, "invalid", "new_password")
	r.want(r.do("POST", "/v1/sessions", "", `{"username":"fay","password":"given by Ann","new_password":"rain on a tin roof"}`), 201, "", "")
	r.want(r.do("POST", "/v1/sessions", "", `{"username":"fay","password":"rain on a tin roof"}`), 201, "", "")

	// The audit log knows all of it, and none of the secrets.
	var page AuditPage
	a = r.do("GET", "/v1/audit?limit=500", owner, "")
	r.want(a, 200, "", "")
	a.decode(t, &page)
	seen := map[string]bool{}
	for _, e := range page.Events {
		seen[e.Action+" "+e.Result] = true
	}
	for _, want := range []string{"session.create ok", "session.create unauthenticated", "session.delete ok", "session.delete_all ok", "password.change ok",
		"totp.begin ok", "totp.set ok", "totp.set invalid", "totp.recovery_codes ok", "totp.delete ok", "passkey.create ok", "passkey.delete ok",
		"invitation.create ok", "invitation.accept ok", "invitation.accept not_found", "invitation.delete ok", "token.create ok", "token.delete ok",
		"tenant.settings ok", "tenant.settings conflict", "tenant.update ok", "user.create ok", "totp.reset ok"} {
		if !seen[want] {
			t.Errorf("no audit event %q", want)
		}
	}
	for _, secret := range []string{"three brown owls", "given by Ann", "a lamp", inv.Code, made2.Token, secret.Secret, codes.Codes[1]} {
		if bytes.Contains(a.body, []byte(secret)) || strings.Contains(r.log.String(), secret) {
			t.Errorf("the audit log or the log holds %q", secret)
		}
	}
	a = r.do("GET", "/v1/audit?action=token.&limit=1", owner, "")
	a.decode(t, &page)
	if len(page.Events) != 1 || page.Events[0].Action != "token.delete" || page.Next == "" || page.Events[0].Actor.Name != "ann" || page.Events[0].Addr != "192.0.2.1" {
		t.Errorf("audit page %s", a.body)
	}
	a = r.do("GET", "/v1/audit/export?format=csv", owner, "")
	r.want(a, 200, "", "")
	if rows, err := csv.NewReader(bytes.NewReader(a.body)).ReadAll(); err != nil || len(rows) < 30 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	a = r.do("GET", "/v1/audit/export?format=jsonl&result=refused", owner, "")
	for line := range bytes.Lines(a.body) {
		var e audit.Event
		if err := json.Unmarshal(line, &e); err != nil || e.Result == audit.OK {
			t.Errorf("%v: %s", err, line)
		}
	}
}

// TestAuditedOperations: nothing that changes something is missing in the audit
// log, and every POST that makes something can be repeated.
func TestAuditedOperations(t *testing.T) {
	r := newRig(t)
	for _, e := range r.api.endpoints {
		if e.Method != "GET" && e.Audit == "" && e.ID != "send-message" {
			t.Errorf("%s %s has no action for the audit log", e.Method, e.Path)
		}
		if e.Method == "POST" && e.Caller != anybody && e.Once == never && e.Status == 201 {
			t.Errorf("%s %s makes something and takes no Idempotency-Key", e.Method, e.Path)
		}
		if (e.Method == "PATCH" || e.Method == "PUT") && e.Caller == signedIn && !e.Tagged && !strings.Contains(e.Path, "password") && !strings.Contains(e.Path, "totp") {
			t.Errorf("%s %s heeds no If-Match", e.Method, e.Path)
		}
	}
}

// TestTenantByAddress: the path and the host name say which tenant is meant, and
// an unknown one answers like a wrong password.
func TestTenantByAddress(t *testing.T) {
	r := newRig(t)
	r.school()
	r.want(r.do("POST", "/admin/tenants", "", `{"id":"elm"}`), 201, "", "")
	ann := `{"username":"ann","password":"correct horse"}`
	r.want(r.do("POST", "/v1/sessions", "", ann), 422, "invalid", "tenant")
	if _, err := r.dir.UpdateSettings(context.Background(), "oakhill", hosts("OakHill.local", "chat.oakhill.example")); err != nil {
		t.Fatal(err)
	}
	r.want(r.do("POST", "/v1/sessions", "", ann, "Host", "oakhill.local:8080"), 201, "", "")
	r.want(r.do("POST", "/v1/sessions", "", ann, "Host", "chat.oakhill.example."), 201, "", "")
	r.want(r.do("POST", "/t/oakhill/v1/sessions", "", ann), 201, "", "")
	r.want(r.do("POST", "/t/elm/v1/sessions", "", ann), 401, "unauthenticated", "")
	r.want(r.do("POST", "/t/nowhere/v1/sessions", "", ann), 401, "unauthenticated", "")
	r.want(r.do("POST", "/t/elm/v1/sessions", "", `{"tenant":"oakhill","username":"ann","password":"correct horse"}`, "Host", "oakhill.local"), 201, "", "")
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, httptest.NewRequest("GET", "/t/oakhill", nil))
	if w.Code != 301 || w.Header().Get("Location") != "/t/oakhill/" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if _, err := r.dir.UpdateSettings(context.Background(), "elm", hosts("oakhill.local")); !im.Is(err, im.Exists) {
		t.Errorf("two tenants got one host name: %v", err)
	}
}

func hosts(list ...string) func(*directory.Settings) error {
	return func(s *directory.Settings) error { s.Hosts = list; return nil }
}

// everyTenantOperation calls what the operator does with a tenant as a whole.
func (r *rig) everyTenantOperation() {
	t := r.t
	r.want(r.do("PATCH", "/admin/tenants/oakhill/settings", "", `{"hosts":["oakhill.local"],"quota":{"users":3,"conversations":0,"stored_bytes":0,"sends_per_minute":0,"connections":0},"staff_totp":false,"audit_days":90}`), 200, "", "")
	r.want(r.do("POST", "/admin/tenants/oakhill/users", "", `{"username":"one-too-many","role":"member"}`), 413, "too_large", "")
	var d TenantDetail
	a := r.do("GET", "/admin/tenants/oakhill", "", "")
	r.want(a, 200, "", "")
	a.decode(t, &d)
	if d.Settings.Quota.Users != 3 || d.Settings.Usage.Users < 3 || d.Settings.Usage.Conversations < 1 || d.Settings.Usage.StoredBytes == 0 {
		t.Errorf("detail %s", a.body)
	}
	r.want(r.do("PATCH", "/admin/tenants/oakhill/settings", "", `{"quota":{"users":0,"conversations":0,"stored_bytes":0,"sends_per_minute":0,"connections":0}}`), 200, "", "")
	var inv MadeInvitation
	a = r.do("POST", "/admin/tenants/oakhill/invitations", "", `{"username":"bob"}`)
	r.want(a, 201, "", "")
	a.decode(t, &inv)
	r.want(r.do("GET", "/admin/tenants/oakhill/invitations", "", ""), 200, "", "")
	r.want(r.do("DELETE", "/admin/tenants/oakhill/invitations/"+inv.ID, "", ""), 204, "", "")
	var made MadeAPIToken
	a = r.do("POST", "/admin/tenants/oakhill/tokens", "", `{"name":"x","scopes":["users:read"],"user":"ann"}`)
	r.want(a, 201, "", "")
	a.decode(t, &made)
	r.want(r.do("GET", "/admin/tenants/oakhill/tokens", "", ""), 200, "", "")
	r.want(r.do("DELETE", "/admin/tenants/oakhill/tokens/"+made.ID, "", ""), 204, "", "")
	r.want(r.do("DELETE", "/admin/tenants/oakhill/users/bob/sessions", "", ""), 204, "", "")
	r.want(r.do("DELETE", "/admin/tenants/oakhill/users/bob/second-factor", "", ""), 204, "", "")
	r.want(r.do("GET", "/admin/audit", "", ""), 200, "", "")
	r.want(r.do("GET", "/admin/audit?tenant=oakhill", "", ""), 200, "", "")
	r.want(r.do("GET", "/admin/audit/export?tenant=oakhill", "", ""), 200, "", "")

	zip := r.do("POST", "/admin/tenants/oakhill/export?credentials=true", "", "")
	r.want(zip, 200, "", "")
	r.want(r.do("POST", "/admin/tenants-import", "", string(zip.body), "Content-Type", "application/zip"), 409, "exists", "id")
	r.want(r.do("DELETE", "/admin/tenants/oakhill", "", ""), 200, "", "")
	r.want(r.do("POST", "/v1/sessions", "", `{"tenant":"oakhill","username":"ann","password":"three brown owls"}`), 401, "unauthenticated", "")
	r.want(r.do("POST", "/admin/tenants/oakhill/undelete", "", ""), 200, "", "")
	r.want(r.do("POST", "/v1/sessions", "", `{"tenant":"oakhill","username":"ann","password":"three brown owls"}`), 201, "", "")
	r.want(r.do("DELETE", "/admin/tenants/oakhill?now=true", "", ""), 200, "", "")
	r.want(r.do("GET", "/admin/tenants/oakhill", "", ""), 404, "not_found", "tenant")
	r.want(r.do("POST", "/admin/tenants-import", "", string(zip.body[:len(zip.body)/2]), "Content-Type", "application/zip"), 422, "invalid", "archive")
	r.want(r.do("POST", "/admin/tenants-import", "", string(zip.body), "Content-Type", "application/zip"), 201, "", "")
	r.want(r.do("POST", "/v1/sessions", "", `{"tenant":"oakhill","username":"ann","password":"three brown owls"}`), 201, "", "")
	a = r.do("GET", "/admin/audit?action=tenant.", "", "")
	for _, want := range []string{"tenant.erase", "tenant.import"} {
		if !bytes.Contains(a.body, []byte(want)) {
			t.Errorf("the box's audit log has no %s: %s", want, a.body)
		}
	}
}

// wholeKey is a P-256 key in PKCS #8 with coordinates that begin with no zero
// octet. The authenticator leaves such octets out of the key that it hands over,
// where RFC 9053 §7.1.1 wants them: one credential in 128 of its own is refused,
// and rightly.
func wholeKey(t *testing.T) []byte {
	t.Helper()
	for {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes() // 4, then 32 octets each of x and y (SEC 1 §2.3.3)
		if err != nil {
			t.Fatal(err)
		}
		if point[1] == 0 || point[33] == 0 {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
}
