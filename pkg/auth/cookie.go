package auth

import (
	"net/http"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// The names of the sign-in cookie (PROTOCOL 9.5). A browser takes a __Host- name
// only from this very host, over TLS, for all paths (RFC 6265bis §4.1.3.2), so
// neither a page of another port or a sibling name nor who sits on the network can
// plant one. Plain HTTP, which stays usable on a LAN, has only the other.
const (
	CookieTLS   = "__Host-pipit"
	CookiePlain = "pipit"
)

// CookieToken returns the token of the sign-in cookie in a Cookie header, "" if
// there is none that counts. Over TLS the __Host- name alone counts: the plain one
// may come from who sits on the network. Without TLS it is looked for first too,
// since a proxy in front may speak TLS for us. Two cookies of one name (RFC 6265
// §4.2.2 leaves their order open) are two opinions of who somebody is: none counts.
func CookieToken(header string, tls bool) string {
	if header == "" {
		return ""
	}
	cookies, err := http.ParseCookie(header)
	if err != nil {
		return ""
	}
	if token, n := cookieNamed(cookies, CookieTLS); n > 0 || tls {
		return token
	}
	token, _ := cookieNamed(cookies, CookiePlain)
	return token
}

func cookieNamed(cookies []*http.Cookie, name string) (value string, n int) {
	for _, c := range cookies {
		if c.Name == name {
			value = strings.Clone(c.Value)
			n++
		}
	}
	if n > 1 {
		return "", n
	}
	return value, n
}

// RequestToken is CookieToken of a request of net/http.
func RequestToken(r *http.Request) string {
	return CookieToken(strings.Join(r.Header.Values("Cookie"), "; "), r.TLS != nil)
}

// SignInCookie returns the cookie that keeps token in the browser that sent r, as
// name, Secure, HttpOnly and SameSite=Lax say. Lax and not Strict, because a
// program that signs somebody in through this box sends the browser here by a link
// (the provider of oidcop); what a link may not do, OwnPage stops. With keep it
// outlives the browser, for as long as a sign-in of lifetime; else it ends with it,
// as is right for a computer that is not one person's.
func SignInCookie(r *http.Request, token string, lifetime time.Duration, keep bool) *http.Cookie {
	c := &http.Cookie{Name: CookiePlain, Value: token, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if overTLS(r) {
		c.Name, c.Secure = CookieTLS, true
	}
	if keep {
		c.MaxAge = int(lifetime / time.Second)
	}
	return c
}

// ForgetCookies returns what deletes the sign-in cookies in the browser that sent
// r: both names where it can, so that none is left from the other scheme.
func ForgetCookies(r *http.Request) []*http.Cookie {
	out := []*http.Cookie{{Name: CookiePlain, Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1}}
	if overTLS(r) {
		out = append(out, &http.Cookie{Name: CookieTLS, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1})
	}
	return out
}

// overTLS tells whether the browser speaks TLS: to us, or to a proxy in front,
// which its Origin tells (who makes that up sets a cookie for nobody but himself).
func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.HasPrefix(strings.ToLower(r.Header.Get("Origin")), "https://")
}

// OwnPage says whether a request that counts because of its cookie, or sets one,
// comes from a page of this very origin; if not, the error is im.Forbidden. That
// is what keeps other sites from acting in somebody's name (CSRF) and from signing
// somebody in as another (login CSRF).
//
// Browsers say where a request comes from, and no page can make them lie:
// Sec-Fetch-Site (to https and localhost only), else Origin. Unlike
// http.CrossOriginProtection it refuses requests with neither of them: who is no
// browser has a token instead of a cookie. Safe methods (RFC 9110 §9.2.1) change
// nothing here and are let pass.
func OwnPage(r *http.Request) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return nil
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none": // none: the person's own doing, such as a reload
		return nil
	case "":
		if SameOrigin(r.Header.Get("Origin"), r.Host, r.TLS != nil) {
			return nil
		}
	}
	return im.E(im.Forbidden, "This request does not come from a page of this server. Programs sign in with a bearer token instead of the cookie.")
}

// SameOrigin tells whether origin, as a browser sends it, names the host and port
// of a Host header. Over TLS its scheme must be https; without, a proxy in front
// may speak TLS for us, and the scheme is not compared. A Host without a port means
// the default port of the origin's scheme.
func SameOrigin(origin, host string, tls bool) bool {
	scheme, rest, ok := strings.Cut(strings.ToLower(origin), "://")
	if !ok {
		return false // "null" among them
	}
	port := map[string]string{"http": ":80", "https": ":443"}[scheme]
	if port == "" || rest == "" || strings.ContainsAny(rest, "/?#@ ") || tls && scheme != "https" {
		return false
	}
	return strings.TrimSuffix(rest, port) == strings.TrimSuffix(strings.ToLower(host), port)
}
