package signin_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/pipit-im/pipit/pkg/auth/oidcop"
)

// apacheConf guards a service with mod_auth_openidc.
var apacheConf = template.Must(template.New("").Parse(`
ServerRoot {{.Dir}}
ServerName 127.0.0.1
Listen 127.0.0.1:{{.Port}}
PidFile {{.Dir}}/pid
ErrorLog {{.Dir}}/error.log
LogLevel warn auth_openidc:warn
{{range .Modules}}LoadModule {{.}}_module /usr/lib/apache2/modules/mod_{{.}}.so
{{end}}
User www-data
Group www-data
DefaultRuntimeDir {{.Dir}}
Mutex file:{{.Dir}}
DocumentRoot {{.Dir}}
OIDCProviderMetadataURL {{.Issuer}}/.well-known/openid-configuration
OIDCClientID {{.ID}}
OIDCClientSecret {{.Secret}}
OIDCRedirectURI http://127.0.0.1:{{.Port}}/guarded/callback
OIDCCryptoPassphrase 0123456789abcdef0123456789abcdef
OIDCScope "openid profile"
OIDCPKCEMethod S256
OIDCCookieSameSite Off
OIDCRemoteUserClaim preferred_username
OIDCSSLValidateServer Off
OIDCCacheType file
OIDCCacheDir {{.Dir}}/cache
ProxyPass /guarded/service {{.Service}}
<Location /guarded>
	AuthType openid-connect
	Require claim tenant:oakhill
	RequestHeader set X-User expr=%{REMOTE_USER}
</Location>
`))

// TestModAuthOpenIDC puts Apache's module before a service: who comes is sent to
// sign in, and the service learns who it is.
func TestModAuthOpenIDC(t *testing.T) {
	const module = "/usr/lib/apache2/modules/mod_auth_openidc.so"
	if _, err := os.Stat(module); err != nil {
		t.Skip("needs Apache and its module (Debian: apache2 libapache2-mod-auth-openidc)")
	}
	w := newWorld(t)
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, `{"user":%q,"name":%q,"role":%q,"iss":%q}`, r.Header.Get("X-User"), r.Header.Get("OIDC_CLAIM_name"), r.Header.Get("OIDC_CLAIM_role"), r.Header.Get("OIDC_CLAIM_iss"))
	}))
	defer service.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	base := fmt.Sprintf("http://127.0.0.1:%d/guarded/", port)
	id, secret := w.client(oidcop.Client{ID: "apache", Name: "Apache", Kind: oidcop.Web, RedirectURIs: []string{base + "callback"}})
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "cache"), 0o777); err != nil {
		t.Fatal(err)
	}
	for at := filepath.Join(dir, "cache"); at != os.TempDir() && at != "/"; at = filepath.Dir(at) { // Apache gives up root
		if err := os.Chmod(at, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	var conf bytes.Buffer
	modules := []string{"mpm_event", "authn_core", "authz_core", "authz_user", "proxy", "proxy_http", "headers", "auth_openidc"}
	if err := apacheConf.Execute(&conf, map[string]any{"Dir": dir, "Port": port, "Issuer": w.issuer(), "ID": id, "Secret": secret, "Service": service.URL, "Modules": modules}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "apache.conf")
	if err := os.WriteFile(file, conf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	apache := exec.Command("apache2", "-f", file, "-DFOREGROUND")
	apache.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin")
	if path, err := exec.LookPath("/usr/sbin/apache2"); err == nil {
		apache.Path, apache.Err = path, nil
	}
	said := new(strings.Builder)
	apache.Stdout, apache.Stderr = said, said
	if err := apache.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = apache.Wait(); close(ended) }()
	defer func() {
		_ = apache.Process.Signal(syscall.SIGTERM)
		<-ended
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, "error.log"))
			t.Logf("%s\n%s", said, log)
		}
	}()
	for up := false; !up; { // until it listens, or has given up
		select {
		case <-ended:
			t.Fatal("Apache did not start")
		case <-time.After(20 * time.Millisecond):
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if up = err == nil; up {
				c.Close()
			}
		}
	}
	b := newBrowser(t, ann)
	b.visit(base + "service")
	got := whoIs(t, b.page)
	if got["user"] != "ann" || got["name"] != "Ann Lee" || got["role"] != "owner" || got["iss"] != w.issuer() {
		t.Errorf("the service learns %v", got)
	}
	// Another browser, which brings the first one's answer, is not let in with it.
	stranger := newBrowser(t, nil)
	if at := stranger.visit(base + "service"); !strings.HasPrefix(at, w.issuer()+"/signin") {
		t.Errorf("a stranger lands at %s", at)
	}
}
