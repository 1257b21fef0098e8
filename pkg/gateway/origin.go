package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/netloop"
)

// ticket is what an upgrade request leaves for the hello.
type ticket struct {
	token string // of the sign-in cookie
}

// Upgrade decides on the Origin of an upgrade request (PROTOCOL 1.3) and keeps
// the sign-in cookie of one that has an Origin: a page of another site can make
// a browser send the cookie, but not hide where it is from.
func (g *Gateway) Upgrade(r *netloop.Request) error {
	if r.Origin == "" {
		return nil
	}
	if !auth.SameOrigin(r.Origin, r.Host, r.TLS) && !allowedOrigin(r.Origin, g.origins()) {
		return &netloop.RefuseError{Status: http.StatusForbidden, Message: "This site may not connect here."}
	}
	if token := auth.CookieToken(r.Cookie, r.TLS); token != "" {
		r.Data = &ticket{token}
	}
	return nil
}

func allowedOrigin(origin string, allowed []string) bool {
	origin = strings.ToLower(origin)
	scheme, rest, ok := strings.Cut(origin, "://")
	if !ok || scheme == "" || rest == "" {
		return false
	}
	return slices.Contains(allowed, origin) || slices.Contains(allowed, rest)
}
