package localca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func get(t *testing.T, h http.Handler, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://pipit.local"+path, nil)
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func header(k, v string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(k, v) }
}

func TestPage(t *testing.T) {
	a := open(t, t.TempDir(), day)
	h := Handler(a, func() int { return 443 })
	en := get(t, h, "/ca")
	zh := get(t, h, "/ca", header("Accept-Language", "fr, zh-TW;q=0.8, en;q=0.5"), header("User-Agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1)"))
	for _, x := range []struct{ body, has string }{
		{en.Body.String(), `<html lang="en">`}, {en.Body.String(), "Compare the fingerprint"}, {en.Body.String(), strings.Join(FingerprintLines(a.Root()), "\n")},
		{en.Body.String(), `href="https://pipit.local/"`}, {en.Body.String(), `href="/ca.crt">Download`}, {en.Body.String(), "</main></body></html>"},
		{zh.Body.String(), `<html lang="zh-CN">`}, {zh.Body.String(), "先核对指纹"}, {zh.Body.String(), strings.Join(FingerprintLines(a.Root()), "\n")},
		{zh.Body.String(), `<details open><summary>iPhone`}, {zh.Body.String(), `class="btn" href="/ca.mobileconfig"`}, {zh.Body.String(), "</main></body></html>"},
	} {
		if !strings.Contains(x.body, x.has) {
			t.Errorf("the page lacks %s", x.has)
		}
	}
	if strings.Contains(en.Body.String(), "<script") || strings.Contains(en.Body.String(), " style=") || strings.Contains(en.Body.String(), " open>") {
		t.Error("the page has what its policy forbids, or a section open for a device that nobody named")
	}
	if p := en.Header().Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'; style-src 'sha256-") || strings.Contains(p, "unsafe") {
		t.Errorf("policy %s", p)
	}
	if got := get(t, h, "/ca?lang=zh").Header().Get("Content-Language"); got != "zh-CN" {
		t.Errorf("language %s", got)
	}
	if get(t, h, "/ca/x").Code != http.StatusNotFound {
		t.Error("more is served than should be")
	}
	// A name in the Host header can't break out of the page.
	if evil := get(t, h, "/ca", func(r *http.Request) { r.Host = `x"><script>` }); strings.Contains(evil.Body.String(), "<script") {
		t.Error("a Host header gets into the page as it is")
	}
}

func TestDownloads(t *testing.T) {
	a := open(t, t.TempDir(), day)
	h := Handler(a, func() int { return 443 })
	der := get(t, h, "/ca.crt")
	if c, err := x509.ParseCertificate(der.Body.Bytes()); err != nil || !bytes.Equal(c.Raw, a.Root().Raw) {
		t.Errorf("/ca.crt: %v", err)
	}
	if got := der.Header().Get("Content-Disposition"); !strings.HasPrefix(got, `attachment; filename="Pipit-pipit-`) || der.Header().Get("Content-Type") != "application/x-x509-ca-cert" {
		t.Errorf("/ca.crt: %v", der.Header())
	}
	block, _ := pem.Decode(get(t, h, "/ca.pem").Body.Bytes())
	if block == nil || !bytes.Equal(block.Bytes, a.Root().Raw) {
		t.Error("/ca.pem")
	}
	profile := get(t, h, "/ca.mobileconfig").Body.Bytes()
	if !bytes.Equal(profile, get(t, h, "/ca.mobileconfig").Body.Bytes()) {
		t.Error("the profile is another each time")
	}
	for d := xml.NewDecoder(bytes.NewReader(profile)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the profile: %v", err)
		}
	}
}

func TestTrusted(t *testing.T) {
	port := 443
	h := Handler(nil, func() int { return port })
	secure := func(r *http.Request) { r.TLS = &tls.ConnectionState{} }
	for _, x := range []struct {
		name   string
		change []func(*http.Request)
		port   int
		body   string
		cors   string
	}{
		{"plain", nil, 443, `{"secure":false,"https":"https://pipit.local/","trust":"/ca"}`, ""},
		{"another port", nil, 8443, `{"secure":false,"https":"https://pipit.local:8443/","trust":"/ca"}`, ""},
		{"no TLS", nil, 0, `{"secure":false,"trust":"/ca"}`, ""},
		{"an address", []func(*http.Request){func(r *http.Request) { r.Host = "[fe80::1]:80" }}, 443, `{"secure":false,"https":"https://[fe80::1]/","trust":"/ca"}`, ""},
		{"over TLS, from the plain page", []func(*http.Request){secure, header("Origin", "http://pipit.local")}, 443, `{"secure":true,"https":"https://pipit.local/","trust":"/ca"}`, "http://pipit.local"},
		{"from another port", []func(*http.Request){secure, header("Origin", "http://PIPIT.local:8080")}, 443, `{"secure":true,"https":"https://pipit.local/","trust":"/ca"}`, "http://PIPIT.local:8080"},
		{"from another host", []func(*http.Request){secure, header("Origin", "http://elm.local")}, 443, `{"secure":true,"https":"https://pipit.local/","trust":"/ca"}`, ""},
		{"from nowhere", []func(*http.Request){secure, header("Origin", "null")}, 443, `{"secure":true,"https":"https://pipit.local/","trust":"/ca"}`, ""},
	} {
		port = x.port
		w := get(t, h, "/v1/trusted", x.change...)
		if got := strings.TrimSpace(w.Body.String()); got != x.body || w.Header().Get("Access-Control-Allow-Origin") != x.cors {
			t.Errorf("%s: %s, CORS %q", x.name, got, w.Header().Get("Access-Control-Allow-Origin"))
		}
	}
	if get(t, h, "/ca").Code != http.StatusNotFound {
		t.Error("there is a page about an authority that is not used")
	}
	for _, path := range []string{"/ca", "/ca.crt", "/ca.pem", "/ca.mobileconfig", "/v1/trusted"} {
		if !Serves(path) {
			t.Errorf("%s is not routed here", path)
		}
	}
	if Serves("/") || Serves("/ca/") {
		t.Error("too much is routed here")
	}
}
