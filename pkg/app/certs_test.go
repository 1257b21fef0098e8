package app

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/localca"
)

// get asks the box for a path as a device with these roots does.
func get(t *testing.T, roots *x509.CertPool, url string, change ...func(*http.Request)) (*http.Response, string, error) {
	t.Helper()
	c := http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(r)
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b), nil
}

// TestLocalCA: a device learns over HTTP that there is HTTPS, installs the root,
// and is believed and believes from then on; a new name gets into the certificate
// by itself; own files replace it and go again.
func TestLocalCA(t *testing.T) {
	b := newBox(t, "listen_tls: 127.0.0.1:0")
	plain := "http://" + b.listeners.plain[0]
	secure := "https://" + b.listeners.tls[0] + "/"

	_, body, err := get(t, nil, plain+"/v1/trusted")
	if err != nil || body != `{"secure":false,"https":"`+secure+`","trust":"/ca"}`+"\n" {
		t.Fatalf("%s, %v", body, err)
	}
	if _, _, err := get(t, nil, secure+"v1/trusted"); err == nil {
		t.Fatal("a device that never saw the box trusts it")
	}
	_, page, err := get(t, nil, plain+"/ca")
	if err != nil || !strings.Contains(page, localca.FingerprintLines(b.certs.local.Load().Root())[3]) {
		t.Fatalf("the page lacks the fingerprint: %v", err)
	}
	_, root, err := get(t, nil, plain+"/ca.pem")
	roots := x509.NewCertPool()
	if err != nil || !roots.AppendCertsFromPEM([]byte(root)) {
		t.Fatalf("%q, %v", root, err)
	}
	resp, body, err := get(t, roots, secure+"v1/trusted", func(r *http.Request) { r.Header.Set("Origin", plain) })
	if err != nil || !strings.HasPrefix(body, `{"secure":true,`) || resp.Header.Get("Access-Control-Allow-Origin") != plain {
		t.Fatalf("%s, %v, %v", body, resp, err)
	}
	if _, body, err := get(t, roots, secure+"readyz"); err != nil || !strings.Contains(body, "ready") {
		t.Errorf("the API over HTTPS: %s, %v", body, err)
	}

	// A name more: the certificate follows.
	if err := os.WriteFile(filepath.Join(b.dir, NamesName), []byte("oakhill.local\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := b.certs.local.Load()
	if made, err := ca.Refresh(b.wantedNames(b.dir), b.store.Now()); err != nil || !made || ca.Certificate().Leaf.VerifyHostname("oakhill.local") != nil {
		t.Errorf("%v, %v, %v", made, err, ca.Certificate().Leaf.DNSNames)
	}

	// Own files, then none again.
	otherDir := filepath.Join(t.TempDir(), "x")
	other, err := localca.Open(otherDir, "other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Refresh([]string{"127.0.0.1"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"leaf.crt": OwnCertName, "leaf.key": OwnKeyName} {
		text, err := os.ReadFile(filepath.Join(otherDir, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.dir, TLSDir, to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.reloadConfig()
	if _, _, err := get(t, roots, secure+"v1/trusted"); err == nil {
		t.Error("the box still shows its own certificate")
	}
	otherRoots := x509.NewCertPool()
	otherRoots.AddCert(other.Root())
	if _, _, err := get(t, otherRoots, secure+"v1/trusted"); err != nil {
		t.Error(err)
	}
	if _, ok := b.certs.left(time.Now()); !ok {
		t.Error("nobody watches when the installed certificate ends")
	}
	if err := os.Remove(filepath.Join(b.dir, TLSDir, OwnCertName)); err != nil {
		t.Fatal(err)
	}
	b.reloadConfig()
	if _, _, err := get(t, roots, secure+"v1/trusted"); err != nil {
		t.Error(err)
	}
	if _, ok := b.certs.left(time.Now()); ok {
		t.Error("the certificate that is gone is still watched")
	}
}

// TestLocalCADamaged: without an authority people still get in over HTTP, and the
// box says what is wrong.
func TestLocalCADamaged(t *testing.T) {
	b := newBoxWith(t, func(dir string) {
		if err := os.MkdirAll(filepath.Join(dir, TLSDir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, TLSDir, "ca.crt"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}, "listen_tls: 127.0.0.1:0")
	if _, body, err := get(t, nil, "http://"+b.listeners.plain[0]+"/readyz"); err != nil || !strings.Contains(body, "ready") {
		t.Errorf("%s, %v", body, err)
	}
	if _, body, err := get(t, nil, "http://"+b.listeners.plain[0]+"/v1/trusted"); err != nil || body != `{"secure":false,"trust":"/ca"}`+"\n" {
		t.Errorf("%s, %v", body, err)
	}
	found := false
	for _, c := range b.status().Conditions {
		found = found || c.Code == "local-ca-failed" && strings.Contains(c.Text, "every device has to trust it anew")
	}
	if !found {
		t.Errorf("%+v", b.status().Conditions)
	}
}
