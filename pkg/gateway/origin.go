package gateway

import (
	"net/http"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/netloop"
)

// cookieNames are the names of the sign-in cookie (PROTOCOL 3.2), the stricter
// first: a browser takes __Host- names over TLS only.
var cookieNames = []string{"__Host-pipit", "pipit"}

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
	if !sameOrigin(r.Origin, r.Host) && !allowedOrigin(r.Origin, g.origins()) {
		return &netloop.RefuseError{Status: http.StatusForbidden, Message: "This site may not connect here."}
	}
	if token := cookieToken(r.Cookie); token != "" {
		r.Data = &ticket{token}
	}
	return nil
}

// sameOrigin tells whether origin names the host and port of the Host header.
// The scheme is not compared: a proxy in front may speak TLS for us. A Host
// without a port means the default port of the origin's scheme.
func sameOrigin(origin, host string) bool {
	scheme, rest, ok := strings.Cut(strings.ToLower(origin), "://")
	if !ok {
		return false // "null" among them
	}
	port := map[string]string{"http": ":80", "https": ":443"}[scheme]
	if port == "" || rest == "" || strings.ContainsAny(rest, "/?#@ ") {
		return false
	}
	return strings.TrimSuffix(rest, port) == strings.TrimSuffix(strings.ToLower(host), port)
}

func allowedOrigin(origin string, allowed []string) bool {
	origin = strings.ToLower(origin)
	scheme, rest, ok := strings.Cut(origin, "://")
	if !ok || scheme == "" || rest == "" {
		return false
	}
	return slices.Contains(allowed, origin) || slices.Contains(allowed, rest)
}

// cookieToken finds the sign-in cookie in a Cookie header (RFC 6265 §4.2.1).
func cookieToken(header string) string {
	if header == "" {
		return ""
	}
	cookies, err := http.ParseCookie(header)
	if err != nil {
		return ""
	}
	for _, name := range cookieNames {
		for _, c := range cookies {
			if c.Name == name {
				return strings.Clone(c.Value)
			}
		}
	}
	return ""
}
