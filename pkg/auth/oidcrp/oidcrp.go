// Package oidcrp signs people in through the customer's own OpenID providers:
// Keycloak, Entra ID, Google, Authentik and whatever else speaks OpenID Connect.
//
// It owns the providers of each tenant and the links between their people and
// ours, kept as store.Records. A sign-in on its way is kept by the browser alone, in
// a sealed cookie: nothing of it fills memory here, and only the browser that began
// can end it. A provider is asked when somebody wants to sign in through it, never
// at start; one that does not answer costs a few seconds and leads back to the
// sign-in page, which says so and takes passwords as ever.
//
// What a provider says is believed only after all of this: state, PKCE and nonce of
// this very sign-in; the issuer in the answer (RFC 9207) and a redirect address that
// each provider has for itself, against mix-up (RFC 9700 §4.4); signature, issuer,
// audience, authorized party, times and a subject in the id_token; and no endpoint
// is followed to another address, since a redirect would carry code and secret on.
// go-oidc looks at signature, issuer, audience and expiry; the rest is here.
// While the time of the box can't be trusted nobody is believed (DESIGN 5.7).
//
// It never takes a name for a proof: somebody from outside becomes a person here by
// a link that was made before, by one that the person makes while signed in, or by a
// rule that an administrator wrote down, and such a rule never reaches an
// administrator's account.
//
// Concurrency: all methods are safe for concurrent use and may block on the network
// for as long as timeout says. It starts no goroutine of its own.
package oidcrp

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

const (
	timeout   = 5 * time.Second  // of one request to a provider
	flowLife  = 10 * time.Minute // from here to the provider and back
	metaLife  = time.Hour        // how long a provider's description is believed
	downLife  = 30 * time.Second // how long one that did not answer is not asked again
	skew      = time.Minute      // how far clocks may be apart
	oldest    = 10 * time.Minute // the age of an id_token at most
	maxAnswer = 1 << 20          // bytes of an answer
)

// Users is what is asked about people; directory.Directory is one.
type Users interface {
	User(t im.TenantID, id im.UserID) (*im.User, bool)
	ByUsername(t im.TenantID, name string) (*im.User, bool)
	Tenant(t im.TenantID) (im.Tenant, bool)
}

// Newcomer is somebody whom a rule gives an account.
type Newcomer struct {
	Username string
	Name     string
	Role     im.Role
	Classes  []string // ids or titles, as the rule says
}

// Pages is how people see what happened; the provider of the box has them.
type Pages interface {
	// Enter signs the browser in with token and sends it to next.
	Enter(w http.ResponseWriter, r *http.Request, token, next string)
	// Problem shows the sign-in page with a text and the provider's name in it.
	Problem(w http.ResponseWriter, r *http.Request, next, text, name string)
	// Refuse shows a page with a text on it.
	Refuse(w http.ResponseWriter, r *http.Request, status int, text string)
	// SignedIn says who is signed in at the browser in the tenant of the address.
	SignedIn(r *http.Request) (im.UserID, bool)
}

// The texts of Pages.Problem.
const (
	Down    = "ext_down"    // it does not answer
	Refused = "ext_refused" // it, or the person there, said no
	Unknown = "ext_unknown" // no rule lets this person in
	Lie     = "ext_lie"     // what it said can't be believed
	Clock   = "ext_clock"   // the time of the box is not known
	Expired = "ext_expired" // begun too long ago, or in another browser
	Taken   = "ext_taken"   // linked to somebody else already
	First   = "ext_first"   // who links an account has to be signed in
)

// The texts of Pages.Refuse.
const (
	Foreign    = "foreign"     // another page sent the form
	NoProvider = "no_provider" // nothing here has that address
	Fault      = "fault"       // our own
)

// Options are what an RP is made of. All but Log, Audit and TrustedClock are required.
type Options struct {
	Records store.Records
	Box     store.Box
	Users   Users
	Pages   Pages
	// Issue makes a sign-in; auth.Auth.Issue is meant.
	Issue func(ctx context.Context, t im.TenantID, u im.UserID, device string) (token string, expires im.Millis, err error)
	// Create makes an account; im.Exists if the user name is taken.
	Create func(ctx context.Context, t im.TenantID, n Newcomer) (im.UserID, error)
	// TrustedClock returns why the time can't be relied on, or nil. Nil: it can.
	TrustedClock func() error
	// Audit is told of sign-ins through providers, of links and of accounts made by
	// rule. Nil: nobody is.
	Audit auth.Audit
	Log   *slog.Logger // nil: nothing is logged
}

// RP is the relying party of all tenants.
type RP struct {
	Options
	http   *http.Client
	sealer cipher.AEAD // of the cookie; a new key at each start

	mu    sync.Mutex
	known map[providerKey]*known // guarded by mu
}

type providerKey struct {
	tenant im.TenantID
	id     string
}

// New makes an RP.
func New(o Options) (*RP, error) {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, im.Wrap("oidcrp: make a key", err)
	}
	sealer, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, im.Wrap("oidcrp: make a key", err)
	}
	if o.TrustedClock == nil {
		o.TrustedClock = func() error { return nil }
	}
	if o.Audit == nil {
		o.Audit = func(context.Context, im.TenantID, auth.Event) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &RP{Options: o, sealer: sealer, known: map[providerKey]*known{}, http: newHTTPClient()}, nil
}

// newHTTPClient follows no redirect (bounded makes one an error): one from a token endpoint would carry code and
// secret to wherever it points (RFC 9700 §4.12), and no other endpoint needs one.
func newHTTPClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 2
	transport.ResponseHeaderTimeout = timeout
	return &http.Client{Timeout: timeout, Transport: bounded{transport}}
}

// bounded cuts answers off, and takes no redirect.
type bounded struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	if res.StatusCode/100 == 3 {
		res.Body.Close()
		return nil, errRedirect
	}
	return res, nil
}

// Routes adds what is served to mux.
func (p *RP) Routes(mux *http.ServeMux) {
	mux.HandleFunc("GET /t/{tenant}/provider/{id}", p.begin)
	mux.HandleFunc("POST /t/{tenant}/provider/{id}", p.beginLink)
	mux.HandleFunc("GET /t/{tenant}/provider/{id}/callback", p.callback)
	mux.HandleFunc("GET /t/{tenant}/provider/{id}/logout", p.logout)
}
