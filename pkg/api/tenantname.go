package api

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

type namedKey struct{}

// named returns which tenant the address of a request names: by its path
// (/t/NAME/…) or by its host name; empty if neither does.
func named(ctx context.Context) im.TenantID {
	t, _ := ctx.Value(namedKey{}).(im.TenantID)
	return t
}

// named is the handler in front of the mux: it takes /t/NAME off the path and
// notes which tenant is meant. Whether there is such a tenant is nobody's
// business before a sign-in, so nothing is refused here.
func (a *API) named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := im.TenantID("")
		if rest, ok := strings.CutPrefix(r.URL.Path, "/t/"); ok {
			name, path, found := strings.Cut(rest, "/")
			if !found {
				http.Redirect(w, r, "/t/"+name+"/", http.StatusMovedPermanently)
				return
			}
			t = im.TenantID(name)
			r2 := r.Clone(r.Context())
			r2.URL.Path, r2.URL.RawPath = "/"+path, ""
			r = r2
		} else if id, ok := a.Directory.ByHost(hostOf(r)); ok {
			t = id
		}
		if t != "" {
			r = r.WithContext(context.WithValue(r.Context(), namedKey{}, t))
		}
		next.ServeHTTP(w, r)
	})
}

// tenantOf says which tenant a request without a token is for: the one that it
// names itself, else the address, else the only one of the box (PROTOCOL 9.2).
func (a *API) tenantOf(ctx context.Context, field string) (im.TenantID, error) {
	if field != "" {
		return im.TenantID(field), nil
	}
	if t := requestOf(ctx).tenant; t != "" {
		return t, nil
	}
	if t, ok := a.Directory.OnlyTenant(); ok {
		return t, nil
	}
	return "", im.E(im.Invalid, "Say which organisation: this server has more than one, or none yet.").OnField("tenant")
}

// hostOf returns the host that a request was made to, without port.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// requestFrom returns the HTTP request behind a huma context.
func requestFrom(ctx huma.Context) *http.Request {
	r, _ := humago.Unwrap(ctx)
	return r
}

// siteOf says where the browser is, for passkeys. What it says of itself need not
// be believed: the authenticator signs the origin that it saw.
func siteOf(ctx context.Context) auth.Site {
	r := requestFrom(requestOf(ctx).http)
	s := auth.Site{Host: hostOf(r), HTTPS: r.TLS != nil || strings.HasPrefix(r.Header.Get("Origin"), "https://")}
	if _, port, err := net.SplitHostPort(r.Host); err == nil {
		s.Port = port
	}
	return s
}
