package oidcop

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// safeNext returns where to go after a sign-in: an address of this server, "/" for
// anything else (no open redirect, RFC 9700 §4.11).
func safeNext(next string) string {
	u, err := url.Parse(next)
	if err != nil || len(next) > 8192 || u.IsAbs() || u.Host != "" || u.User != nil ||
		!strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsFunc(next, func(c rune) bool { return c < ' ' || c == '\\' || c == 0x7f }) {
		return "/"
	}
	return next
}

// toSignIn sends somebody who is not signed in to the page for it, and back.
func (p *Provider) toSignIn(w http.ResponseWriter, r *http.Request, path, code string) {
	next := path
	if code != "" {
		next += "?" + url.Values{"user_code": {code}}.Encode()
	}
	http.Redirect(w, r, p.path(r, pathSignIn)+"?"+url.Values{"next": {next}}.Encode(), http.StatusSeeOther)
}

// anyTenant serves an address without a tenant: the one that the host name selects,
// or the only one.
func (p *Provider) anyTenant(path string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		t, ok := p.tenant(r.Host)
		if !ok {
			t, ok = p.users.OnlyTenant()
		}
		if !ok {
			p.showError(w, r, http.StatusNotFound, textWhichTenant)
			return
		}
		to := "/t/" + string(t) + path
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// pending is what a person has shown already while one thing more is asked for; it
// travels sealed in the page, so that nothing of it is kept here or readable there.
type pending struct {
	Tenant   im.TenantID `json:"t"`
	Username string      `json:"u"`
	Password string      `json:"p"`
	TOTP     string      `json:"o,omitempty"`
	// NewPassword waits here while a code that ran out meanwhile is asked for again.
	NewPassword string        `json:"n,omitempty"`
	Keep        bool          `json:"k,omitempty"`
	Age         time.Duration `json:"a"`
}

const pendingLife = 5 * time.Minute

// signIn is the sign-in page.
func (p *Provider) signIn(w http.ResponseWriter, r *http.Request) {
	next := safeNext(r.Form.Get("next"))
	if r.Method == http.MethodGet {
		p.showSignIn(w, r, next, signInView{Username: r.Form.Get("login_hint")})
		return
	}
	if err := auth.OwnPage(r); err != nil {
		p.showError(w, r, http.StatusForbidden, textForeign)
		return
	}
	t := tenantOf(r.Context())
	in := pending{Tenant: t, Username: r.PostForm.Get("username"), Password: r.PostForm.Get("password"), Keep: r.PostForm.Get("keep") != "", Age: p.box.Age()}
	if sealed := r.PostForm.Get("state"); sealed != "" {
		raw, ok := p.unseal(sealed)
		if !ok || json.Unmarshal(raw, &in) != nil || in.Tenant != t || p.box.Age()-in.Age >= pendingLife {
			p.showSignIn(w, r, next, signInView{Problem: textExpired})
			return
		}
	}
	if code := strings.TrimSpace(r.PostForm.Get("totp")); code != "" {
		in.TOTP = code
	}
	if chosen := r.PostForm.Get("new_password"); chosen != "" {
		in.NewPassword = chosen
	}
	got, more, err := p.judge(r, in)
	switch {
	case more != nil:
		view := *more
		view.Keep = in.Keep
		if view.Step == auth.ChallengeNewPassword {
			in.NewPassword = "" // it was refused
		}
		raw, err := json.Marshal(in)
		if err != nil {
			p.showError(w, r, http.StatusInternalServerError, textFault)
			return
		}
		view.State = p.seal(raw)
		p.showSignIn(w, r, next, view)
	case err != nil:
		p.showSignIn(w, r, next, p.refusedView(r, err, in.Username))
	case len(got.Recovery) > 0:
		p.enterBrowser(w, r, got.Token, in.Keep)
		p.showSignIn(w, r, next, signInView{Step: stepRecovery, Recovery: got.Recovery})
	default:
		p.enterBrowser(w, r, got.Token, in.Keep)
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
}

// enterBrowser gives the browser the cookie of a new sign-in and ends the one that
// it had.
func (p *Provider) enterBrowser(w http.ResponseWriter, r *http.Request, token string, keep bool) {
	ctx := r.Context()
	if old := auth.RequestToken(r); old != "" {
		if who, _, err := p.auth.Verify(ctx, old); err == nil {
			if err := p.auth.Revoke(ctx, who.Tenant, who.User, who.SignIn); err != nil {
				p.log.Info("replaced sign-in not ended", "tenant", string(who.Tenant), "user", string(who.User), "error", err)
			}
		}
	}
	http.SetCookie(w, auth.SignInCookie(r, token, p.auth.Lifetime(), keep))
}

// Enter signs somebody in whom an external provider vouched for: the browser that
// sent r gets the cookie. next is an address of this server.
func (p *Provider) Enter(w http.ResponseWriter, r *http.Request, token, next string) {
	p.enterBrowser(w, r, token, false)
	http.Redirect(w, r, safeNext(next), http.StatusSeeOther)
}

// refusedView says why a sign-in was refused.
func (p *Provider) refusedView(r *http.Request, err error, username string) signInView {
	view := signInView{Username: username}
	var e *im.Error
	if !errors.As(err, &e) {
		e = &im.Error{Kind: im.Internal}
	}
	switch e.Kind {
	case im.Unauthenticated:
		view.Problem = textWrong
	case im.RateLimited:
		view.Problem, view.Wait = textWait, strconv.Itoa(int(e.RetryAfter/time.Second)+1)
	case im.Unavailable:
		view.Problem = textUnavailable
	case im.Invalid, im.TooLarge:
		view.Problem = textWrong
	default:
		view.Problem = textFault
		p.log.Error("sign-in page failed", "tenant", string(tenantOf(r.Context())), "error", err)
	}
	return view
}

// signOut ends the sign-in of this browser, after a person said so.
func (p *Provider) signOut(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		p.showSignOut(w, r, p.path(r, pathSignOut), nil, "")
		return
	}
	if err := auth.OwnPage(r); err != nil {
		p.showError(w, r, http.StatusForbidden, textForeign)
		return
	}
	if !p.leaveBrowser(w, r) {
		return
	}
	p.showDone(w, r, textSignedOut, textSignedOutMore)
}

// leaveBrowser revokes the cookie's sign-in and deletes the cookie; false if that
// could not be done, which was said then.
func (p *Provider) leaveBrowser(w http.ResponseWriter, r *http.Request) bool {
	ctx := r.Context()
	if token := auth.RequestToken(r); token != "" {
		if who, _, err := p.auth.Verify(ctx, token); err == nil {
			if err := p.auth.Revoke(ctx, who.Tenant, who.User, who.SignIn); err != nil && !im.Is(err, im.NotFound) {
				p.log.Error("sign-out failed", "tenant", string(who.Tenant), "user", string(who.User), "error", err)
				p.showError(w, r, http.StatusServiceUnavailable, textUnavailable)
				return false
			}
			p.audit(ctx, who.Tenant, auth.Event{Action: "session.delete", User: who.User, ByUser: true, Addr: remoteAddr(r),
				Detail: map[string]string{"session": string(who.SignIn), "on": "page"}})
		}
	}
	for _, c := range auth.ForgetCookies(r) {
		http.SetCookie(w, c)
	}
	return true
}

// endSession is RP-initiated logout (OpenID Connect RP-Initiated Logout 1.0). Only
// a program that holds an id_token of the very person is believed at once; others
// make the person be asked, or any page could sign people out.
func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	said := r.Method == http.MethodPost && r.PostForm.Get("decision") == "yes"
	if said {
		if err := auth.OwnPage(r); err != nil {
			p.showError(w, r, http.StatusForbidden, textForeign)
			return
		}
	}
	req, err := op.ParseEndSessionRequest(r, p.lib.Decoder())
	if err != nil {
		p.showError(w, r, http.StatusBadRequest, textLogout)
		return
	}
	end, err := op.ValidateEndSessionRequest(ctx, req, p.lib)
	if err != nil {
		p.log.Info("logout refused", "tenant", string(tenantOf(ctx)), "error", err)
		p.showError(w, r, http.StatusBadRequest, textLogout)
		return
	}
	target := ""
	if req.PostLogoutRedirectURI != "" && end.ClientID != "" {
		target = end.RedirectURI
	}
	if s, ok := p.session(r); ok && !said && string(s.user.ID) != end.UserID {
		form := url.Values{}
		for k, v := range r.Form {
			form[k] = v[:1]
		}
		form.Set("decision", "yes")
		p.showSignOut(w, r, p.path(r, pathLogout), form, target)
		return
	}
	if !p.leaveBrowser(w, r) {
		return
	}
	if target == "" {
		p.showDone(w, r, textSignedOut, textSignedOutMore)
		return
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
}

// SignedIn says who is signed in at the browser that sent r, in the tenant that its
// address names.
func (p *Provider) SignedIn(r *http.Request) (im.UserID, bool) {
	r, ok := p.enter(r)
	if !ok {
		return "", false
	}
	s, ok := p.session(r)
	if !ok {
		return "", false
	}
	return s.user.ID, true
}

// Problem shows the sign-in page with a text of the catalogue and a name in front
// of it, for sign-ins that begin elsewhere. next is an address of this server.
func (p *Provider) Problem(w http.ResponseWriter, r *http.Request, next, key, name string) {
	r, ok := p.enter(r)
	if !ok {
		p.showError(w, r, http.StatusNotFound, textNoTenant)
		return
	}
	p.showSignIn(w, r, safeNext(next), signInView{Problem: key, Name: name})
}

// Refuse shows a page that says in a text of the catalogue why nothing was done.
func (p *Provider) Refuse(w http.ResponseWriter, r *http.Request, status int, key string) {
	r, ok := p.enter(r)
	if !ok {
		status, key = http.StatusNotFound, textNoTenant
	}
	p.showError(w, r, status, key)
}
