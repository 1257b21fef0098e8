package gateway

import (
	"errors"
	"net/http"
	"testing"

	"github.com/pipit-im/pipit/pkg/netloop"
)

func TestUpgrade(t *testing.T) {
	w := newWorld(t, worldOptions{})
	defer w.end()
	tests := []struct {
		name, origin, host, cookie string
		tls                        bool
		status                     int // 0: taken
		token                      string
	}{
		{name: "no origin", host: "oak.example"},
		{name: "no origin, so the cookie does not count", host: "oak.example", cookie: "pipit=tok"},
		{name: "same", origin: "https://oak.example", host: "oak.example", cookie: "pipit=tok", token: "tok"},
		{name: "same, behind a proxy that speaks TLS", origin: "https://oak.example", host: "OAK.example:443"},
		{name: "default port said", origin: "http://oak.example:80", host: "oak.example"},
		{name: "same port", origin: "http://oak.example:8080", host: "oak.example:8080"},
		{name: "case", origin: "HTTP://Oak.Example:8080", host: "oak.example:8080"},
		{name: "IPv6", origin: "http://[::1]:8080", host: "[::1]:8080"},
		{name: "other port", origin: "http://oak.example:8081", host: "oak.example:8080", status: 403},
		{name: "other scheme's default port", origin: "http://oak.example", host: "oak.example:443", status: 403},
		{name: "other host", origin: "https://evil.example", host: "oak.example", status: 403},
		{name: "suffix", origin: "https://oak.example.evil.example", host: "oak.example", status: 403},
		{name: "userinfo", origin: "https://oak.example@evil.example", host: "evil.example", status: 403},
		{name: "path", origin: "https://oak.example/", host: "oak.example", status: 403},
		{name: "null", origin: "null", host: "oak.example", status: 403},
		{name: "null for a host of that name", origin: "null", host: "null", status: 403},
		{name: "no host", origin: "https://", host: "", status: 403},
		{name: "file", origin: "file://", host: "", status: 403},
		{name: "allowed", origin: "https://chat.example", host: "oak.example", cookie: "a=b; pipit=tok", token: "tok"},
		{name: "allowed with another scheme", origin: "http://chat.example", host: "oak.example", status: 403},
		{name: "allowed host of any scheme", origin: "http://intra.example:8443", host: "oak.example"},
		{name: "allowed host, other port", origin: "http://intra.example", host: "oak.example", status: 403},
		{name: "stricter cookie first", origin: "https://oak.example", host: "oak.example", cookie: "pipit=a; __Host-pipit=b", token: "b"},
		{name: "planted without TLS, read over TLS", origin: "https://oak.example", host: "oak.example", cookie: "pipit=a", tls: true},
		{name: "TLS", origin: "https://oak.example", host: "oak.example", cookie: "pipit=a; __Host-pipit=b", tls: true, token: "b"},
		{name: "plain page over TLS", origin: "http://oak.example", host: "oak.example", tls: true, status: 403},
		{name: "no such cookie", origin: "https://oak.example", host: "oak.example", cookie: "xpipit=a"},
		{name: "broken cookies", origin: "https://oak.example", host: "oak.example", cookie: "=;=;\x01"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &netloop.Request{Host: tt.host, Path: "/v1/ws", Origin: tt.origin, Cookie: tt.cookie, TLS: tt.tls}
			err := w.gw.Upgrade(r)
			var refused *netloop.RefuseError
			switch {
			case tt.status == 0 && err != nil:
				t.Errorf("refused: %v", err)
			case tt.status != 0 && (!errors.As(err, &refused) || refused.Status != http.StatusForbidden):
				t.Errorf("got %v, want 403", err)
			}
			token := ""
			if tk, ok := r.Data.(*ticket); ok {
				token = tk.token
			}
			if token != tt.token {
				t.Errorf("the cookie's token is %q, want %q", token, tt.token)
			}
		})
	}
}
