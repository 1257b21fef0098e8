package auth

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

func TestCookieToken(t *testing.T) {
	tests := []struct {
		name, header string
		plain, tls   string
	}{
		{name: "none"},
		{name: "plain", header: "a=b; pipit=tok; c=d", plain: "tok"},
		{name: "TLS", header: "__Host-pipit=tok", plain: "tok", tls: "tok"},
		{name: "planted beside the real one", header: "pipit=evil; __Host-pipit=tok", plain: "tok", tls: "tok"},
		{name: "planted, two of one name", header: "pipit=tok; pipit=evil"},
		{name: "two of one name do not fall back", header: "__Host-pipit=a; __Host-pipit=b; pipit=evil"},
		{name: "other name", header: "xpipit=tok; pipitx=tok; PIPIT=tok"},
		{name: "broken", header: "=;=;\x01"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := CookieToken(tt.header, false); got != tt.plain {
				t.Errorf("over plain HTTP %q, want %q", got, tt.plain)
			}
			if got := CookieToken(tt.header, true); got != tt.tls {
				t.Errorf("over TLS %q, want %q", got, tt.tls)
			}
		})
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Add("Cookie", "pipit=tok")
	r.Header.Add("Cookie", "pipit=evil")
	if got := RequestToken(r); got != "" {
		t.Errorf("a second Cookie line was not seen: %q", got)
	}
}

func TestCookies(t *testing.T) {
	plain := httptest.NewRequest("POST", "http://box.local/", nil)
	behindProxy := httptest.NewRequest("POST", "http://box.local/", nil)
	behindProxy.Header.Set("Origin", "https://box.local")
	direct := httptest.NewRequest("POST", "https://box.local/", nil)
	for _, tt := range []struct {
		r    *http.Request
		keep bool
		want string
	}{
		{plain, false, "pipit=tok; Path=/; HttpOnly; SameSite=Lax"},
		{plain, true, "pipit=tok; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"},
		{behindProxy, false, "__Host-pipit=tok; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{direct, true, "__Host-pipit=tok; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax"},
	} {
		if got := SignInCookie(tt.r, "tok", time.Minute, tt.keep).String(); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
	var names []string
	for _, c := range ForgetCookies(direct) {
		if c.MaxAge >= 0 || c.Path != "/" {
			t.Errorf("does not delete: %s", c)
		}
		names = append(names, c.Name)
	}
	if strings.Join(names, " ") != "pipit __Host-pipit" {
		t.Errorf("deletes %q over TLS", names)
	}
}

// TestOwnPage is the rule against CSRF, over every way in which a browser says
// where a request comes from.
func TestOwnPage(t *testing.T) {
	tests := []struct {
		name, method, site, origin string
		tls, ok                    bool
	}{
		{name: "own page", method: "POST", site: "same-origin", origin: "http://box.local", ok: true},
		{name: "typed or reloaded", method: "POST", site: "none", ok: true},
		{name: "other site", method: "POST", site: "cross-site", origin: "https://evil.example"},
		{name: "other site, with our origin made up", method: "POST", site: "cross-site", origin: "http://box.local"},
		{name: "another port or sibling name", method: "POST", site: "same-site", origin: "http://box.local:8081"},
		{name: "a word that no standard knows", method: "POST", site: "friendly", origin: "http://box.local"},
		{name: "without fetch metadata, own", method: "POST", origin: "http://box.local", ok: true},
		{name: "without fetch metadata, TLS before us", method: "POST", origin: "https://box.local", ok: true},
		{name: "other origin", method: "POST", origin: "http://evil.example"},
		{name: "other port", method: "POST", origin: "http://box.local:8081"},
		{name: "suffix", method: "POST", origin: "http://box.local.evil.example"},
		{name: "sandboxed", method: "POST", origin: "null"},
		{name: "plain page to TLS", method: "POST", origin: "http://box.local", tls: true},
		{name: "TLS page to TLS", method: "POST", origin: "https://box.local", tls: true, ok: true},
		{name: "nobody says where from", method: "POST"},
		{name: "DELETE from elsewhere", method: "DELETE", origin: "http://evil.example"},
		{name: "PATCH from elsewhere", method: "PATCH", site: "cross-site"},
		{name: "a method of somebody's own", method: "FETCH", site: "cross-site"},
		{name: "a link from elsewhere changes nothing", method: "GET", site: "cross-site", ok: true},
		{name: "HEAD", method: "HEAD", site: "cross-site", ok: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, "http://box.local/v1/x", nil)
			if tt.tls {
				r.TLS = &tls.ConnectionState{}
			}
			if tt.site != "" {
				r.Header.Set("Sec-Fetch-Site", tt.site)
			}
			if tt.origin != "" {
				r.Header.Set("Origin", tt.origin)
			}
			err := OwnPage(r)
			if tt.ok && err != nil || !tt.ok && !im.Is(err, im.Forbidden) {
				t.Errorf("got %v, want ok=%v", err, tt.ok)
			}
		})
	}
}
