package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/pipit-im/pipit/pkg/im"
)

// The bounds of passkeys.
const (
	MaxPasskeys  = 20 // of one user
	ceremonyFor  = 5 * time.Minute
	maxCeremonys = 4096 // under way at once
)

// Passkey is a WebAuthn credential of a user. It belongs to the host name under
// which it was made (RPID), as browsers keep it.
type Passkey struct {
	ID         string              `json:"id"` // base64url of the credential's id
	Name       string              `json:"name"`
	RPID       string              `json:"rp_id"`
	Created    im.Millis           `json:"created"`
	Used       im.Millis           `json:"used,omitempty"`
	Credential webauthn.Credential `json:"credential"`
}

// Site is where a browser is, as the request says: passkeys are made for it and
// count there only.
type Site struct {
	Host  string // without port
	HTTPS bool
	Port  string // empty: the default one
}

// relyingParty makes the library's configuration for a site, or says why there
// can be no passkeys there (WebAuthn §5.1.3: a secure context and a DNS name).
func relyingParty(s Site, name string) (*webauthn.WebAuthn, error) {
	no := func(format string, args ...any) error { return im.E(im.Forbidden, format, args...) }
	host := strings.ToLower(strings.TrimSuffix(s.Host, "."))
	local := host == "localhost"
	switch {
	case host == "" || net.ParseIP(strings.Trim(host, "[]")) != nil:
		return nil, no("Passkeys need a host name; this address is a number. Open the server by its name.")
	case !s.HTTPS && !local:
		return nil, no("Passkeys need https. Ask the administrator to set up a certificate.")
	}
	origin := "https://" + host
	if !s.HTTPS {
		origin = "http://" + host
	}
	if s.Port != "" {
		origin = origin + ":" + s.Port
	}
	w, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: name, RPOrigins: []string{origin},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired, // a passkey is both factors at once
		},
	})
	return w, im.Wrap("auth: set up passkeys", err)
}

// ceremonies are the registrations and sign-ins under way, by a random state
// that the browser gives back, each to be used once. They are in memory alone:
// after a restart people press the button again.
type ceremonies struct {
	mu sync.Mutex
	m  map[string]*ceremony // guarded by mu
}

type ceremony struct {
	data webauthn.SessionData
	t    im.TenantID
	user im.UserID // empty for a sign-in
	site Site
	age  time.Duration
}

// put keeps c and returns its state; the oldest give way.
func (s *ceremonies) put(c *ceremony, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]*ceremony{}
	}
	if len(s.m) >= maxCeremonys {
		for k, old := range s.m {
			if c.age-old.age >= ceremonyFor {
				delete(s.m, k)
			}
		}
	}
	for k := range s.m {
		if len(s.m) < maxCeremonys {
			break
		}
		delete(s.m, k)
	}
	s.m[state] = c
}

func (s *ceremonies) take(state string, age time.Duration) *ceremony {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.m[state]
	delete(s.m, state)
	if c == nil || age-c.age >= ceremonyFor {
		return nil
	}
	return c
}

// key is a user as the library sees one.
type key struct {
	user *im.User
	keys []Passkey
	site Site
}

func (k key) WebAuthnID() []byte          { return handleOf(k.user.Tenant, k.user.ID) }
func (k key) WebAuthnName() string        { return k.user.Username }
func (k key) WebAuthnDisplayName() string { return k.user.Name }
func (k key) WebAuthnCredentials() []webauthn.Credential {
	var out []webauthn.Credential
	for _, p := range k.keys {
		if strings.EqualFold(p.RPID, k.site.Host) {
			out = append(out, p.Credential)
		}
	}
	return out
}

// handleOf is the id of a user towards authenticators: at most 64 bytes, and
// nothing about the person in it (WebAuthn §14.6.1; ids are random).
func handleOf(t im.TenantID, u im.UserID) []byte { return []byte(string(t) + "/" + string(u)) }

// BeginPasskey starts making a passkey for a user who is signed in: options for
// navigator.credentials.create, and the state to give back with the result.
// Errors: im.Forbidden where the site can have none, im.TooLarge over
// MaxPasskeys, im.NotFound, and those of the store.
func (a *Auth) BeginPasskey(ctx context.Context, t im.TenantID, u im.UserID, site Site) (options json.RawMessage, state string, _ error) {
	user, ok := a.users.User(t, u)
	if !ok {
		return nil, "", im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	ten, _ := a.users.Tenant(t)
	w, err := relyingParty(site, ten.Name)
	if err != nil {
		return nil, "", err
	}
	acc, err := a.account(ctx, t, u)
	if err != nil {
		return nil, "", err
	}
	if len(acc.Passkeys) >= MaxPasskeys {
		return nil, "", &im.Error{Kind: im.TooLarge, Limit: MaxPasskeys, Message: "You have as many passkeys as you can have. Remove one first."}
	}
	k := key{user, acc.Passkeys, site}
	var had []protocol.CredentialDescriptor
	for _, c := range k.WebAuthnCredentials() {
		had = append(had, c.Descriptor())
	}
	creation, data, err := w.BeginRegistration(k, webauthn.WithExclusions(had))
	if err != nil {
		return nil, "", im.Wrap("auth: begin a passkey", err)
	}
	return a.beginCeremony(creation, &ceremony{data: *data, t: t, user: u, site: site})
}

func (a *Auth) beginCeremony(options any, c *ceremony) (json.RawMessage, string, error) {
	raw, err := json.Marshal(options)
	if err != nil {
		return nil, "", im.Wrap("auth: begin a passkey", err)
	}
	var b [16]byte
	if _, err := io.ReadFull(a.rand, b[:]); err != nil {
		return nil, "", im.Wrap("auth: draw a state", err)
	}
	state := base64.RawURLEncoding.EncodeToString(b[:])
	c.age = a.box.Age()
	a.ceremonies.put(c, state)
	return raw, state, nil
}

// FinishPasskey keeps the passkey that a browser made. Errors: im.Invalid if the
// state is unknown or used, or the result is not what was asked for; and those of
// the store.
func (a *Auth) FinishPasskey(ctx context.Context, t im.TenantID, u im.UserID, state, name string, result []byte) (Passkey, error) {
	c := a.ceremonies.take(state, a.box.Age())
	user, ok := a.users.User(t, u)
	if c == nil || c.t != t || c.user != u || !ok {
		return Passkey{}, staleCeremony()
	}
	if name = strings.TrimSpace(name); name == "" {
		name = "Passkey"
	}
	if err := checkDevice(name); err != nil || utf8.RuneCountInString(name) > im.MaxTitleRunes {
		return Passkey{}, im.E(im.Invalid, "A name has at most %d characters, without line breaks.", im.MaxTitleRunes).OnField("name")
	}
	w, err := relyingParty(c.site, "")
	if err != nil {
		return Passkey{}, err
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(result)
	var cred *webauthn.Credential
	if err == nil {
		cred, err = w.CreateCredential(key{user, nil, c.site}, c.data, parsed)
	}
	if err != nil {
		return Passkey{}, &im.Error{Kind: im.Invalid, Message: "The passkey can't be used here. Please try again.", Field: "result", Cause: explainWebAuthn(err)}
	}
	p := Passkey{ID: base64.RawURLEncoding.EncodeToString(cred.ID), Name: name, RPID: strings.ToLower(c.site.Host), Created: a.now(), Credential: *cred}
	err = a.updateAccount(ctx, t, u, func(acc *account) error {
		if len(acc.Passkeys) >= MaxPasskeys {
			return &im.Error{Kind: im.TooLarge, Limit: MaxPasskeys, Message: "You have as many passkeys as you can have. Remove one first."}
		}
		if slices.ContainsFunc(acc.Passkeys, func(o Passkey) bool { return o.ID == p.ID }) {
			return im.E(im.Exists, "You have this passkey already.")
		}
		acc.Passkeys = append(acc.Passkeys, p)
		return nil
	})
	if err != nil {
		return Passkey{}, err
	}
	a.log.Info("passkey made", "tenant", string(t), "user", string(u))
	return p, nil
}

func staleCeremony() error {
	return im.E(im.Invalid, "That took too long, or was done already. Please begin again.").OnField("state")
}

// explainWebAuthn brings what the library keeps apart into the log.
func explainWebAuthn(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return errors.New(e.Details + " " + e.DevInfo)
	}
	return err
}

// RemovePasskey takes a passkey away. Errors: im.NotFound, and those of the
// store.
func (a *Auth) RemovePasskey(ctx context.Context, t im.TenantID, u im.UserID, id string) error {
	return a.updateAccount(ctx, t, u, func(acc *account) error {
		i := slices.IndexFunc(acc.Passkeys, func(p Passkey) bool { return p.ID == id })
		if i < 0 {
			return im.E(im.NotFound, "There is no such passkey.")
		}
		acc.Passkeys = slices.Delete(acc.Passkeys, i, i+1)
		return nil
	})
}

// BeginPasskeySignIn starts a sign-in without a name: the browser offers the
// passkeys that it has for the site. It says nothing about who has any.
func (a *Auth) BeginPasskeySignIn(t im.TenantID, site Site, addr netip.Addr) (options json.RawMessage, state string, _ error) {
	if err := a.throttleAddr(addr); err != nil {
		return nil, "", err
	}
	w, err := relyingParty(site, "")
	if err != nil {
		return nil, "", err
	}
	assertion, data, err := w.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	if err != nil {
		return nil, "", im.Wrap("auth: begin a sign-in by passkey", err)
	}
	return a.beginCeremony(assertion, &ceremony{data: *data, t: t, site: site})
}

// PasskeySignIn judges what the browser answered and makes a sign-in. A passkey
// is both factors: no code is asked for besides. Errors: im.Unauthenticated (one
// answer for all that is wrong), im.RateLimited, and those of the store.
func (a *Auth) PasskeySignIn(ctx context.Context, state string, result []byte, device string, addr netip.Addr) (Granted, error) {
	refused := func(cause error) (Granted, error) {
		a.stats.wrong.Add(1)
		return Granted{}, &im.Error{Kind: im.Unauthenticated, Message: "This passkey does not let you in here.", Cause: cause}
	}
	if err := checkDevice(device); err != nil {
		return Granted{}, err
	}
	if err := a.throttleAddr(addr); err != nil {
		return Granted{}, err
	}
	c := a.ceremonies.take(state, a.box.Age())
	if c == nil || c.user != "" {
		return Granted{}, staleCeremony()
	}
	w, err := relyingParty(c.site, "")
	if err != nil {
		return Granted{}, err
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(result)
	if err != nil {
		return refused(explainWebAuthn(err))
	}
	var user *im.User
	_, cred, err := w.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
		t, u, _ := strings.Cut(string(handle), "/")
		who, ok := a.users.User(c.t, im.UserID(u))
		if !ok || t != string(c.t) || !a.open(c.t, who.ID) {
			return nil, ErrToken
		}
		acc, err := a.account(ctx, c.t, who.ID)
		if err != nil {
			return nil, err
		}
		user = who
		return key{who, acc.Passkeys, c.site}, nil
	}, c.data, parsed)
	if err != nil {
		return refused(explainWebAuthn(err))
	}
	if cred.Authenticator.CloneWarning {
		// Its counter went backwards (WebAuthn §7.2 step 22): there are two of it.
		return refused(errors.New("the authenticator seems to have been copied"))
	}
	id := base64.RawURLEncoding.EncodeToString(cred.ID)
	now := a.now() // it asks the store, which the closure must not
	err = a.updateAccount(ctx, c.t, user.ID, func(acc *account) error {
		i := slices.IndexFunc(acc.Passkeys, func(p Passkey) bool { return p.ID == id })
		if i < 0 {
			return im.E(im.Unauthenticated, "This passkey does not let you in here.") // removed meanwhile
		}
		acc.Passkeys[i].Credential, acc.Passkeys[i].Used = *cred, now
		return nil
	})
	if err != nil {
		return Granted{}, err
	}
	token, expires, signIn, _, err := a.issue(ctx, user, device)
	if err != nil {
		return Granted{}, err
	}
	if !a.open(user.Tenant, user.ID) { // shut meanwhile, see SignIn
		_ = a.Revoke(ctx, user.Tenant, user.ID, signIn)
		return refused(ErrDisabled)
	}
	a.stats.signIns.Add(1)
	a.log.Info("signed in by passkey", "tenant", string(user.Tenant), "user", string(user.ID), "sign_in", string(signIn))
	return Granted{Token: token, Expires: expires, User: *user}, nil
}
