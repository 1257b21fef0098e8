package oidcop

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// session is a person at a browser: the sign-in behind the cookie.
type session struct {
	user   *im.User
	signIn store.SignIn
	actor  im.Actor
}

// session finds who is signed in at the browser that sent r, in this tenant. The
// cookie must be of a sign-in with all rights: an access token, which a program has,
// must not agree to anything in somebody's name.
func (p *Provider) session(r *http.Request) (session, bool) {
	ctx := r.Context()
	token := auth.RequestToken(r)
	if token == "" {
		return session{}, false
	}
	actor, user, err := p.auth.Verify(ctx, token)
	if err != nil || actor.Tenant != tenantOf(ctx) {
		return session{}, false
	}
	own, err := p.grants.Tokens.SignIns(ctx, actor.Tenant, actor.User)
	if err != nil {
		return session{}, false
	}
	for _, s := range own {
		if s.ID == actor.SignIn {
			return session{user, s, actor}, true
		}
	}
	return session{}, false
}

// ask is an authorization request that was found good.
type ask struct {
	*oidc.AuthRequest
	client Client
	scopes []string
	hint   im.UserID // of id_token_hint, or ""
}

// errPage is a fault that must not be told to the redirect address, because that
// may be anybody's.
type errPage struct{ text string }

func (e errPage) Error() string { return e.text }

// readAsk judges an authorization request (RFC 6749 §4.1.1, RFC 9700 §2.1, OpenID
// Connect Core 3.1.2.2). With an error that is no errPage, the ask's redirect
// address is good.
func (p *Provider) readAsk(r *http.Request, form url.Values) (ask, error) {
	ctx := r.Context()
	var a ask
	for _, values := range form {
		if len(values) > 1 {
			return a, errPage{textTwice}
		}
	}
	client, err := p.client(ctx, tenantOf(ctx), form.Get("client_id"))
	switch {
	case im.Is(err, im.NotFound):
		return a, errPage{textNoClient}
	case err != nil:
		return a, err
	}
	a.client = client
	if !client.mayRedirect(form.Get("redirect_uri")) {
		return a, errPage{textRedirect}
	}
	fake := &http.Request{Method: http.MethodGet, URL: &url.URL{RawQuery: form.Encode()}}
	a.AuthRequest, err = op.ParseAuthorizeRequest(fake.WithContext(ctx), p.lib.Decoder())
	if err != nil {
		a.AuthRequest = &oidc.AuthRequest{RedirectURI: form.Get("redirect_uri"), State: form.Get("state")}
		return a, err
	}
	bad := func(text string) error { return oidc.ErrInvalidRequest().WithDescription("%s", text) }
	switch {
	case a.RequestParam != "":
		return a, oidc.ErrRequestNotSupported()
	case form.Has("request_uri"):
		return a, oauthError("request_uri_not_supported", "request_uri is not supported.")
	case a.ResponseType == "":
		return a, bad("response_type is missing.")
	case a.ResponseType != oidc.ResponseTypeCode:
		return a, oauthError("unsupported_response_type", "The response_type must be code.")
	case a.ResponseMode != "" && a.ResponseMode != oidc.ResponseModeQuery:
		return a, bad("The response_mode must be query.")
	case a.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || !validChallenge(a.CodeChallenge):
		return a, bad("PKCE is required: code_challenge with code_challenge_method S256.")
	case len(a.State)+len(a.Nonce) > 2048:
		return a, bad("state and nonce are too long.")
	}
	hint, err := op.ValidateAuthRequestClient(ctx, a.AuthRequest, libClient{&client}, p.lib.IDTokenHintVerifier(ctx))
	if err != nil {
		return a, err
	}
	a.hint = im.UserID(hint)
	for _, s := range a.Scopes {
		if slices.Contains(client.Scopes, s) && !slices.Contains(a.scopes, s) {
			a.scopes = append(a.scopes, s)
		}
	}
	a.scopes = withChat(a.scopes)
	if len(a.scopes) == 0 {
		return a, oidc.ErrInvalidScope().WithDescription("This client may have none of the scopes.")
	}
	if slices.Contains(a.scopes, oidc.ScopeOpenID) {
		if err := p.clock(); err != nil {
			return a, err
		}
	}
	return a, nil
}

// withChat adds what admin contains.
func withChat(scopes []string) []string {
	if slices.Contains(scopes, ScopeAdmin) && !slices.Contains(scopes, ScopeChat) {
		return append(slices.Clone(scopes), ScopeChat)
	}
	return scopes
}

// allowedTo takes away what the person could not do anyway.
func allowedTo(u *im.User, scopes []string) []string {
	if u.Role == im.RoleOwner || u.Role == im.RoleAdmin {
		return scopes
	}
	return slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == ScopeAdmin })
}

// validChallenge tells whether s can be the SHA-256 of something (RFC 7636 §4.2).
func validChallenge(s string) bool {
	return len(s) == 43 && !strings.ContainsFunc(s, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	})
}

// oauthError makes an error that the library has no name for.
func oauthError(kind, text string) error {
	e := oidc.ErrInvalidRequest().WithDescription("%s", text)
	switch kind {
	case "unsupported_response_type":
		e.ErrorType = "unsupported_response_type"
	case "request_uri_not_supported":
		e.ErrorType = "request_uri_not_supported"
	case "consent_required":
		e.ErrorType = "consent_required"
	}
	return e
}

// authorize is the authorization endpoint. Nothing is kept of a request until
// somebody who is signed in has agreed: until then it stays in the address.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	decision := ""
	if r.Method == http.MethodPost {
		decision = r.PostForm.Get("decision")
		if decision == "" { // OpenID Connect Core 3.1.2.1: a program may send it as a form
			http.Redirect(w, r, p.path(r, pathAuthorize)+"?"+r.PostForm.Encode(), http.StatusSeeOther)
			return
		}
		if err := auth.OwnPage(r); err != nil {
			p.showError(w, r, http.StatusForbidden, textForeign)
			return
		}
		r.PostForm.Del("decision")
	}
	form := r.URL.Query()
	if r.Method == http.MethodPost {
		form = r.PostForm
	}
	mark := form.Get(freshParam)
	form.Del(freshParam)

	a, err := p.readAsk(r, form)
	if err != nil {
		p.refuseAsk(w, r, a, err)
		return
	}
	s, ok := p.session(r)
	if ok && (a.hint != "" && a.hint != s.user.ID || !p.freshEnough(a, s, mark)) {
		ok = false
	}
	if !ok {
		if slices.Contains(a.Prompt, oidc.PromptNone) {
			p.refuseAsk(w, r, a, oidc.ErrLoginRequired())
			return
		}
		form.Set(freshParam, p.freshMark())
		q := url.Values{"next": {p.path(r, pathAuthorize) + "?" + form.Encode()}}
		if a.LoginHint != "" {
			q.Set("login_hint", a.LoginHint)
		}
		http.Redirect(w, r, p.path(r, pathSignIn)+"?"+q.Encode(), http.StatusSeeOther)
		return
	}
	a.scopes = allowedTo(s.user, a.scopes)
	if len(a.scopes) == 0 {
		p.refuseAsk(w, r, a, oidc.ErrInvalidScope().WithDescription("This person may give none of the scopes."))
		return
	}
	p.decide(w, r, a, s, decision, form, mark)
}

// decide asks the person where that is due, and sends the answer to the program.
func (p *Provider) decide(w http.ResponseWriter, r *http.Request, a ask, s session, decision string, form url.Values, mark string) {
	ctx := r.Context()
	t := tenantOf(ctx)
	ask, err := p.mustAsk(ctx, a, s)
	if err != nil {
		p.refuseAsk(w, r, a, err)
		return
	}
	switch {
	case decision == "deny":
		p.auditConsent(r, s, a.client.ID, a.scopes, im.E(im.Forbidden, "the person did not agree"))
		p.refuseAsk(w, r, a, oidc.ErrAccessDenied().WithDescription("The person did not agree."))
		return
	case decision == "allow":
		if a.client.Kind != Native {
			if err := p.remember(ctx, t, s.user.ID, a.client.ID, a.scopes); err != nil {
				p.refuseAsk(w, r, a, err)
				return
			}
		}
		p.auditConsent(r, s, a.client.ID, a.scopes, nil)
	case ask && slices.Contains(a.Prompt, oidc.PromptNone):
		p.refuseAsk(w, r, a, oauthError("consent_required", "The person has to agree first."))
		return
	case ask:
		if mark != "" {
			form.Set(freshParam, mark)
		}
		p.showConsent(w, r, a, s, form)
		return
	}
	c := p.newCode(t, codeRequest{
		user: s.user.ID, client: a.client.ID, redirectURI: a.RedirectURI, scopes: a.scopes, nonce: a.Nonce,
		challenge: a.CodeChallenge, authTime: time.UnixMilli(int64(s.signIn.Created)),
	})
	p.answerAsk(w, r, a, &reply{Code: c, State: a.State, Issuer: op.IssuerFromContext(ctx)})
}

// auditConsent tells what a person answered to a program's request.
func (p *Provider) auditConsent(r *http.Request, s session, client string, scopes []string, err error) {
	p.audit(r.Context(), s.actor.Tenant, auth.Event{Action: "consent.create", User: s.user.ID, ByUser: true, Addr: remoteAddr(r), Err: err,
		Detail: map[string]string{"client": client, "scope": strings.Join(scopes, " ")}})
}

// mustAsk tells whether the person has to agree: not for the organisation's own
// programs, not twice for the same, but each time for a program that any other on
// that device can pretend to be (RFC 8252 §8.6).
func (p *Provider) mustAsk(ctx context.Context, a ask, s session) (bool, error) {
	switch {
	case slices.Contains(a.Prompt, oidc.PromptConsent), a.client.Kind == Native:
		return true, nil
	case a.client.Trusted:
		return false, nil
	}
	ok, err := p.agreed(ctx, tenantOf(ctx), s.user.ID, a.client.ID, a.scopes)
	return !ok, err
}

// reply is the answer of the authorization endpoint, with RFC 9207's iss.
type reply struct {
	Code        string `schema:"code,omitempty"`
	State       string `schema:"state,omitempty"`
	Issuer      string `schema:"iss"`
	Error       string `schema:"error,omitempty"`
	Description string `schema:"error_description,omitempty"`
}

func (p *Provider) answerAsk(w http.ResponseWriter, r *http.Request, a ask, answer *reply) {
	to, err := op.AuthResponseURL(a.RedirectURI, oidc.ResponseTypeCode, oidc.ResponseModeQuery, answer, p.lib.Encoder())
	if err != nil {
		p.showError(w, r, http.StatusBadRequest, textRedirect)
		return
	}
	// 303: a browser that came with a form must not send it on (RFC 9700 §4.12).
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// refuseAsk tells the program, or the person where no program can be told.
func (p *Provider) refuseAsk(w http.ResponseWriter, r *http.Request, a ask, err error) {
	var page errPage
	var fault *im.Error
	switch {
	case errors.As(err, &page):
		p.showError(w, r, http.StatusBadRequest, page.text)
		return
	case a.AuthRequest == nil || errors.As(err, &fault):
		p.log.Error("authorization failed", "tenant", string(tenantOf(r.Context())), "client", a.client.ID, "error", err)
		p.showError(w, r, http.StatusInternalServerError, textFault)
		return
	}
	e := oidc.DefaultToServerError(err, "")
	p.log.Info("authorization refused", "tenant", string(tenantOf(r.Context())), "client", a.client.ID, "error", string(e.ErrorType))
	p.answerAsk(w, r, a, &reply{State: a.State, Issuer: op.IssuerFromContext(r.Context()), Error: string(e.ErrorType), Description: e.Description})
}

// freshParam carries the moment at which a new sign-in was asked for, so that the
// request is known again when the person comes back with one.
const freshParam = "pipit_fresh"

// freshMark says "a sign-in from now on", signed.
func (p *Provider) freshMark() string {
	at := strconv.FormatInt(int64(p.box.Age()), 36)
	return at + "." + p.macOf(at)
}

func (p *Provider) macOf(s string) string {
	m := hmac.New(sha256.New, p.fresh[:])
	m.Write([]byte(s))
	return hashID([32]byte(m.Sum(nil)))
}

// freshEnough tells whether the sign-in is as new as the request wants it
// (prompt=login, max_age).
func (p *Provider) freshEnough(a ask, s session, mark string) bool {
	if a.MaxAge == nil && !slices.Contains(a.Prompt, oidc.PromptLogin) {
		return true
	}
	if at, mac, ok := strings.Cut(mark, "."); ok && hmac.Equal([]byte(mac), []byte(p.macOf(at))) {
		if n, err := strconv.ParseInt(at, 36, 64); err == nil && s.signIn.CreatedAge >= time.Duration(n) {
			return true
		}
	}
	if slices.Contains(a.Prompt, oidc.PromptLogin) {
		return false
	}
	old := p.box.Age() - s.signIn.CreatedAge
	return old <= time.Duration(*a.MaxAge)*time.Second && *a.MaxAge > 0
}

// path is an address of this tenant.
func (p *Provider) path(r *http.Request, path string) string {
	return "/t/" + string(tenantOf(r.Context())) + path
}
