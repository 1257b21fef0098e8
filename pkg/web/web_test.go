package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

var build = fstest.MapFS{
	"placeholder.txt":      {Data: []byte("not served")},
	"index.html":           {Data: []byte("<page>")},
	"index.html.gz":        {Data: []byte("gz")},
	"index.html.br":        {Data: []byte("br")},
	"assets/app-AbCd.js":   {Data: []byte("code")},
	"manifest.webmanifest": {Data: []byte("{}")},
}

func serve(t *testing.T, method, path string, header ...string) *http.Response {
	t.Helper()
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	newHandler(build, next).ServeHTTP(w, r)
	return w.Result()
}

func TestServe(t *testing.T) {
	cases := []struct {
		method, path string
		header       []string
		status       int
		body         string
		want         map[string]string
	}{
		{"GET", "/", nil, 200, "<page>", map[string]string{"Cache-Control": "no-cache", "Content-Type": "text/html; charset=utf-8", "Content-Encoding": ""}},
		{"GET", "/", []string{"Accept-Encoding", "gzip, deflate, br"}, 200, "br", map[string]string{"Content-Encoding": "br", "Content-Length": "2", "Vary": "Accept-Encoding"}},
		{"GET", "/", []string{"Accept-Encoding", "gzip;q=0.5, br;q=0"}, 200, "gz", map[string]string{"Content-Encoding": "gzip"}},
		{"GET", "/", []string{"Accept-Encoding", "br", "Range", "bytes=0-0"}, 200, "br", nil},
		{"HEAD", "/", nil, 200, "", nil},
		{"POST", "/", nil, 405, "This is a page; it can only be read.\n", map[string]string{"Allow": "GET, HEAD"}},
		{"GET", "/assets/app-AbCd.js", []string{"Accept-Encoding", "br"}, 200, "code", map[string]string{"Cache-Control": "public, max-age=31536000, immutable", "Content-Type": "text/javascript; charset=utf-8", "Content-Encoding": ""}},
		{"GET", "/manifest.webmanifest", nil, 200, "{}", map[string]string{"Content-Type": "application/manifest+json"}},
		{"GET", "/placeholder.txt", nil, http.StatusTeapot, "", nil},
		{"GET", "/index.html.br", nil, http.StatusTeapot, "", nil},
		{"GET", "/assets/../index.html", nil, http.StatusTeapot, "", nil},
		{"GET", "/v1/users", nil, http.StatusTeapot, "", map[string]string{"Content-Security-Policy": ""}},
	}
	for _, c := range cases {
		r := serve(t, c.method, c.path, c.header...)
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if r.StatusCode != c.status || string(body) != c.body {
			t.Errorf("%s %s %v: %d %q, want %d %q", c.method, c.path, c.header, r.StatusCode, body, c.status, c.body)
		}
		for k, v := range c.want {
			if got := r.Header.Get(k); got != v {
				t.Errorf("%s %s: %s is %q, want %q", c.method, c.path, k, got, v)
			}
		}
		if r.StatusCode == 200 {
			for _, k := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "ETag"} {
				if r.Header.Get(k) == "" {
					t.Errorf("%s %s has no %s", c.method, c.path, k)
				}
			}
		}
	}
}

// The page of a tenant, and the one of its invitations, are the same page; the rest
// below /t/ is not ours.
func TestTenantsPage(t *testing.T) {
	for path, status := range map[string]int{"/t/oakhill/": 200, "/t/oakhill/join": 200, "/t/oakhill": 418, "/t//join": 418, "/t/oakhill/join/x": 418, "/t/oakhill/v1/me": 418, "/t/oakhill/signin": 418} {
		if r := serve(t, "GET", path); r.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, r.StatusCode, status)
		}
	}
}

// A page over plain HTTP may ask this host over TLS whether the device trusts it,
// and nobody else; a Host header can't put more into the policy.
func TestSecurePolicy(t *testing.T) {
	port := 8443
	h := newHandler(build, http.NotFoundHandler())
	h.tlsPort = func() int { return port }
	ask := func(target, host string) string {
		r := httptest.NewRequest("GET", target, nil)
		r.Host = host
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		for part := range strings.SplitSeq(w.Header().Get("Content-Security-Policy"), "; ") {
			if v, ok := strings.CutPrefix(part, "connect-src "); ok {
				return v
			}
		}
		return ""
	}
	for _, c := range []struct{ target, host, want string }{
		{"http://oakhill.local/", "oakhill.local", "'self' https://oakhill.local:8443"},
		{"http://oakhill.local/", "192.168.1.5:8080", "'self' https://192.168.1.5:8443"},
		{"https://oakhill.local/", "oakhill.local", "'self'"},
		{"http://oakhill.local/", "[fe80::1]:80", "'self'"},
		{"http://oakhill.local/", "x; script-src *", "'self'"},
	} {
		if got := ask(c.target, c.host); got != c.want {
			t.Errorf("%s of %q: %s, want %s", c.target, c.host, got, c.want)
		}
	}
	if port = 0; ask("http://oakhill.local/", "oakhill.local") != "'self'" {
		t.Error("without TLS there is somebody to ask")
	}
}

// What a browser has already is not sent again.
func TestNotModified(t *testing.T) {
	first := serve(t, "GET", "/", "Accept-Encoding", "br")
	if r := serve(t, "GET", "/", "Accept-Encoding", "br", "If-None-Match", first.Header.Get("ETag")); r.StatusCode != http.StatusNotModified {
		t.Errorf("the same page again: %d", r.StatusCode)
	}
	if r := serve(t, "GET", "/", "If-None-Match", first.Header.Get("ETag")); r.StatusCode != http.StatusOK {
		t.Errorf("another encoding of it: %d", r.StatusCode)
	}
}

// A checkout without a build passes everything on.
func TestPlaceholderAlone(t *testing.T) {
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	h := newHandler(fstest.MapFS{"placeholder.txt": build["placeholder.txt"]}, next)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if h.Built() || w.Code != http.StatusTeapot {
		t.Errorf("built %v, / answered %d", h.Built(), w.Code)
	}
}
