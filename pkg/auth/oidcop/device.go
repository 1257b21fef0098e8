package oidcop

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// device is a device grant on its way (RFC 8628), by its user code.
type device struct {
	tenant   im.TenantID
	client   string
	scopes   []string
	secret   [32]byte // SHA-256 of the device code
	addr     string   // where it was asked for, to bound one address
	polled   time.Duration
	interval time.Duration

	denied   bool
	user     im.UserID // who agreed, "" while nobody has
	authTime im.Millis
}

// maxDevicesPerAddr is how many device codes of one address wait at a time: a room
// of kiosks behind one router.
const maxDevicesPerAddr = 64

// userCode has 8 of 20 letters that are not mistaken for one another and make no
// words: 2.6e10, tried by signed-in people only, ten times in ten minutes.
func userCode() (string, error) {
	return op.NewUserCode([]rune(op.CharSetBase20), 8, 4)
}

// normalCode makes what was typed comparable.
func normalCode(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z':
			return c
		}
		return -1
	}, s)
	if len(s) != 8 {
		return ""
	}
	return s[:4] + "-" + s[4:]
}

// deviceAuthorization gives a device its codes.
func (p *Provider) deviceAuthorization(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	t := tenantOf(ctx)
	c, err := p.clientOf(r, oidc.GrantTypeDeviceCode)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	var scopes []string
	for _, s := range strings.Fields(r.PostForm.Get("scope")) {
		if slices.Contains(c.Scopes, s) && !slices.Contains(scopes, s) {
			scopes = append(scopes, s)
		}
	}
	scopes = withChat(scopes)
	if len(scopes) == 0 {
		p.refuse(w, r, oidc.ErrInvalidScope().WithDescription("Say which scopes, of those that the client may have."))
		return
	}
	if slices.Contains(scopes, oidc.ScopeOpenID) {
		if err := p.clock(); err != nil {
			p.refuse(w, r, err)
			return
		}
	}
	addr := remoteAddr(r).String()
	if p.devices.count(func(d *device) bool { return d.addr == addr && d.user == "" && !d.denied }) >= maxDevicesPerAddr {
		w.Header().Set("Retry-After", "60")
		writeError(w, http.StatusTooManyRequests, "slow_down", "Too many devices wait to be signed in from this address. Try again in a minute.")
		return
	}
	secret := randomText(32)
	d := device{tenant: t, client: c.ID, scopes: scopes, secret: sha256.Sum256([]byte(secret)), addr: addr, interval: devicePoll, polled: -time.Hour}
	var user string
	for taken := true; taken; {
		if user, err = userCode(); err != nil {
			p.refuse(w, r, err)
			return
		}
		taken = !p.devices.put(user, d)
	}
	page := strings.TrimSuffix(op.IssuerFromContext(ctx), "/t/"+string(t)) + p.path(r, pathDevicePage)
	writeJSON(w, http.StatusOK, oidc.DeviceAuthorizationResponse{
		DeviceCode: user + "." + secret, UserCode: user, VerificationURI: page,
		VerificationURIComplete: page + "?user_code=" + user,
		ExpiresIn:               int(deviceLife / time.Second), Interval: int(devicePoll / time.Second),
	})
}

// exchangeDevice answers a device that asks whether somebody agreed.
func (p *Provider) exchangeDevice(r *http.Request) (*oidc.AccessTokenResponse, error) {
	ctx := r.Context()
	t := tenantOf(ctx)
	c, err := p.clientOf(r, oidc.GrantTypeDeviceCode)
	if err != nil {
		return nil, err
	}
	user, secret, _ := strings.Cut(r.PostForm.Get("device_code"), ".")
	sum := sha256.Sum256([]byte(secret))
	var d device
	now := p.box.Age()
	err = oidc.ErrExpiredDeviceCode().WithDescription("The code is unknown or has expired. Begin again.")
	p.devices.with(user, func(v *device, _ time.Duration) {
		if v.tenant != t || v.client != c.ID || subtle.ConstantTimeCompare(v.secret[:], sum[:]) != 1 {
			err = oidc.ErrInvalidGrant().WithDescription("The device code is not one of this client.")
			return
		}
		early := now-v.polled < v.interval
		v.polled = now
		switch {
		case v.denied:
			err = oidc.ErrAccessDenied().WithDescription("The person did not agree.")
		case v.user == "" && early:
			v.interval += devicePoll // RFC 8628 §3.5
			err = oidc.ErrSlowDown()
		case v.user == "":
			err = oidc.ErrAuthorizationPending()
		default:
			d, err = *v, nil
			v.secret = [32]byte{} // once
		}
	})
	if err != nil {
		return nil, err
	}
	p.devices.drop(user)
	g := grant{User: d.user, Client: c.ID, ClientName: c.Name, Scopes: d.scopes, AuthTime: d.authTime}
	_, answer, err := p.grantFor(r, c, g, refreshRequest{g})
	return answer, err
}

// devicePage is where a person types the code that a device shows.
func (p *Provider) devicePage(w http.ResponseWriter, r *http.Request) {
	s, ok := p.session(r)
	if !ok {
		p.toSignIn(w, r, p.path(r, pathDevicePage), r.Form.Get("user_code"))
		return
	}
	text := r.Form.Get("user_code")
	if r.Method == http.MethodGet || text == "" {
		p.showDevice(w, r, s, text, "")
		return
	}
	if err := auth.OwnPage(r); err != nil {
		p.showError(w, r, http.StatusForbidden, textForeign)
		return
	}
	if !p.mayTry(s) {
		p.showDevice(w, r, s, "", textTooOften)
		return
	}
	codeText := normalCode(text)
	decision := r.PostForm.Get("decision")
	var d device
	found := p.devices.with(codeText, func(v *device, _ time.Duration) {
		if v.tenant != tenantOf(r.Context()) || v.user != "" || v.denied {
			return
		}
		d = *v
		switch decision {
		case "allow":
			v.user, v.authTime = s.user.ID, s.signIn.Created
			v.scopes = allowedTo(s.user, v.scopes)
		case "deny":
			v.denied = true
		}
	}) && d.client != ""
	if !found {
		p.showDevice(w, r, s, text, textNoCode)
		return
	}
	p.tries.drop(string(s.actor.Tenant) + "/" + string(s.user.ID)) // it was right: no guessing
	c, err := p.client(r.Context(), d.tenant, d.client)
	if err != nil {
		p.showError(w, r, http.StatusBadRequest, textNoClient)
		return
	}
	switch decision {
	case "allow":
		p.auditConsent(r, s, d.client, allowedTo(s.user, d.scopes), nil)
		p.log.Info("device allowed", "tenant", string(d.tenant), "user", string(s.user.ID), "client", d.client)
		p.showDone(w, r, textDeviceDone, textDeviceDoneMore)
	case "deny":
		p.auditConsent(r, s, d.client, d.scopes, im.E(im.Forbidden, "the person did not agree"))
		p.showDone(w, r, textDeviceDenied, textDeviceDeniedMore)
	default:
		p.showDeviceConsent(w, r, s, c, codeText, allowedTo(s.user, d.scopes))
	}
}

// mayTry counts a code that a person types.
func (p *Provider) mayTry(s session) bool {
	id := string(s.actor.Tenant) + "/" + string(s.user.ID)
	ok := true
	if !p.tries.with(id, func(n *int, _ time.Duration) { *n++; ok = *n <= 10 }) {
		p.tries.put(id, 1)
	}
	return ok
}
