// Package api is Pipit's REST face: sign-in, messages for programs that do not
// hold a socket, the administration of one tenant by its owner and admins
// (PROTOCOL 9), and, on a socket of its own, the administration of the box.
//
// It owns routes, the shapes of bodies and the mapping of errors to RFC 9457
// problems; openapi.yaml and admin-openapi.yaml beside it are generated from the
// same declarations and committed. It decides nothing: access, chat, directory
// and auth do. It never touches an event loop; handlers block, each on the
// goroutine that net/http gives it.
//
// The box's API is served on a Unix socket only, to the peers that the socket's
// owner let in, and asks for no password: whoever may open the socket owns the
// data anyway.
//
// The contract is PROTOCOL 2 and 9.
package api

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pipit-im/pipit/pkg/archive"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/roster"
	"github.com/pipit-im/pipit/pkg/store"
)

// maxBodyBytes bounds every request body; larger ones are too_large.
const maxBodyBytes = 1 << 20

// Options are the finished dependencies of an API.
type Options struct {
	Auth      *auth.Auth
	Directory *directory.Directory
	Chat      *chat.Chat
	Audit     *audit.Log
	Roster    *roster.Service
	OpenID    *oidcop.Provider
	Providers *oidcrp.RP
	Store     interface {
		store.Box
		store.Admin
		archive.Store
	}
	// Connected returns how many sessions a tenant has. Nil: none are counted.
	Connected func(im.TenantID) int
	Limits    func() im.Limits
	Ready     func() error      // nil once everything is up
	Status    func() ServerInfo // what the server knows of itself
	Box       Box               // what it runs on
	Log       *slog.Logger
	Version   string
}

// API holds the handlers. All methods are safe for concurrent use.
type API struct {
	Options
	log       *slog.Logger
	keys      *repeats
	changes   stripes
	endpoints []endpoint // what was registered, for the documents and the tests
	setup     setup
}

// New makes an API.
func New(o Options) *API {
	humaErrors()
	return &API{Options: o, log: o.Log, keys: newRepeats(o.Store, o.Store.Age)}
}

// Tidy forgets what was remembered of a tenant's requests by Idempotency-Key and
// is older than a day. To be called about once an hour.
func (a *API) Tidy(ctx context.Context, t im.TenantID) error { return a.keys.tidy(ctx, t) }

// Public returns the handler of the public listeners: /v1, /healthz, /readyz
// and the OpenAPI document. Everything else is not_found.
func (a *API) Public() http.Handler {
	mux := http.NewServeMux()
	a.publicAPI(mux)
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.HandleFunc("GET /{$}", a.landing)
	mux.HandleFunc("/", a.unknown)
	return a.named(mux)
}

// publicAPI registers the tenant-facing operations on mux.
func (a *API) publicAPI(mux *http.ServeMux) huma.API {
	api := humago.New(mux, config("Pipit", a.Version,
		"The REST API of a Pipit server. Messages, conversations and events go over the WebSocket at /v1/ws."))
	api.OpenAPI().Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token": {Type: "http", Scheme: "bearer", Description: "A token from POST /v1/sessions, or an API token with the scope that stands beside it. " +
			"Operations without a scope are for people alone."},
		"cookie": {Type: "apiKey", In: "cookie", Name: auth.CookieTLS,
			Description: "The cookie from POST /v1/sessions with cookie true; over plain HTTP its name is " + auth.CookiePlain + ". Requests that change something must come from a page of this server: Sec-Fetch-Site or Origin says so."},
	}
	a.registerSessions(api)
	a.registerAccount(api)
	a.registerPasskeys(api)
	a.registerMessages(api)
	a.registerTenant(api)
	a.registerPeople(api)
	a.registerInvitations(api)
	a.registerTokens(api)
	a.registerOIDC(api)
	a.registerWays(api)
	a.registerPrograms(api)
	a.registerAudit(api)
	a.registerSetup(api)
	a.registerRules(api)
	a.registerRecalled(api)
	a.registerRosters(api)
	a.registerCards(api)
	a.registerBox(api)
	return api
}

// config returns huma's settings for one of the two APIs: no documentation
// pages (they fetch from other hosts), no $schema members in answers.
func config(title, version, description string) huma.Config {
	c := huma.DefaultConfig(title, version)
	c.Info.Description = description
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.DocsPath, c.SchemasPath = "", ""
	c.OpenAPIPath = "/v1/openapi"
	c.CreateHooks = nil
	return c
}

// writeProblem answers from a middleware, where huma has no error to return.
func (a *API) writeProblem(api huma.API, ctx huma.Context, err error) {
	p := a.problem(ctx.Context(), ctx.Operation().OperationID, err).(*Problem)
	for k, v := range p.GetHeaders() {
		ctx.SetHeader(k, v[0])
	}
	ctx.SetHeader("Content-Type", "application/problem+json")
	ctx.SetStatus(p.Status)
	if err := api.Marshal(ctx.BodyWriter(), "application/json", p); err != nil {
		a.log.Debug("answer not written", "error", err)
	}
}

// bearer takes the token from an Authorization header (RFC 6750 §2.1; the
// scheme's case does not matter, RFC 9110 §11.1).
func bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	return token, ok && strings.EqualFold(scheme, "bearer") && token != ""
}

// remoteAddr returns the peer's address without port, for throttling.
func remoteAddr(hostport string) netip.Addr {
	if ap, err := netip.ParseAddrPort(hostport); err == nil {
		return ap.Addr().Unmap()
	}
	return netip.Addr{}
}

// newRef makes a reference that stands in an answer and in the log.
func (a *API) newRef() string {
	var b [5]byte
	if _, err := io.ReadFull(rand.Reader, b[:]); err != nil {
		return "none"
	}
	return strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))
}

// unknown answers for a path that nobody serves.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/ws" {
		// A WebSocket upgrade never gets here: the front door took it.
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		writeJSON(w, http.StatusUpgradeRequired, "application/problem+json", &Problem{Type: "about:blank",
			Title: http.StatusText(http.StatusUpgradeRequired), Status: http.StatusUpgradeRequired,
			Kind: "invalid", Detail: "This address speaks WebSocket with the subprotocol pipit.v1."})
		return
	}
	writeJSON(w, http.StatusNotFound, "application/problem+json", &Problem{Type: "about:blank",
		Title: http.StatusText(http.StatusNotFound), Status: http.StatusNotFound,
		Kind: "not_found", Detail: "There is nothing at this address."})
}

// healthz says that the process lives (PROTOCOL 9.4).
func (a *API) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, "application/json", map[string]string{"status": "ok"})
}

// readyz says whether requests are served (PROTOCOL 9.4), and the named
// conditions of the box.
func (a *API) readyz(w http.ResponseWriter, _ *http.Request) {
	status, text := http.StatusOK, "ready"
	if err := a.Ready(); err != nil {
		status, text = http.StatusServiceUnavailable, err.Error()
	}
	writeJSON(w, status, "application/json", map[string]string{"status": text})
}

// httpTimeouts are what net/http is given by app, stated here beside the
// handlers that they protect.
const (
	ReadHeaderTimeout = 10 * time.Second
	ReadTimeout       = 30 * time.Second
	WriteTimeout      = 60 * time.Second
	IdleTimeout       = 2 * time.Minute
)
