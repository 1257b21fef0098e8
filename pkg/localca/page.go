package localca

import (
	"crypto/sha256"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

//go:embed page.css
var pageCSS string

//go:embed page.html
var pageHTML string

// Trusted is the answer of GET /v1/trusted, by which a page that came over HTTP
// finds out whether its device trusts the box, and may offer to move:
//
//  1. It fetches /v1/trusted from where it came from. The answer has https, the
//     same page over TLS, or "" if the box serves none.
//  2. It fetches https + "v1/trusted". On a device that does not trust the box the
//     browser refuses that, and nothing more is said; else the answer has secure.
//  3. It asks the person whether to go there. It never goes by itself.
//
// The second is a request to another origin of the same host: it is answered with
// the CORS header for that host, on any port, and for no other.
type Trusted struct {
	Secure bool   `json:"secure"`          // this request came over TLS
	HTTPS  string `json:"https,omitempty"` // the root page over TLS, with a slash at its end
	Trust  string `json:"trust"`           // the page that explains: "/ca"
}

// Handler serves the pages about trust: /ca in Chinese and English, the root as
// /ca.crt (DER), /ca.pem and /ca.mobileconfig, and /v1/trusted. port returns the
// TCP port that speaks TLS, 0 if there is none. Without an authority (own
// certificate configured) a is nil, and only /v1/trusted is there.
func Handler(a *Authority, port func() int) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/trusted", func(w http.ResponseWriter, r *http.Request) { trusted(w, r, port()) })
	if a == nil {
		return mux
	}
	p := newPage(a)
	mux.HandleFunc("GET /ca", func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, port()) })
	mux.HandleFunc("GET /ca.crt", func(w http.ResponseWriter, _ *http.Request) {
		download(w, "application/x-x509-ca-cert", p.fileName+".crt", a.root.Raw)
	})
	mux.HandleFunc("GET /ca.pem", func(w http.ResponseWriter, _ *http.Request) {
		download(w, "application/x-pem-file", p.fileName+".pem", a.RootPEM())
	})
	mux.HandleFunc("GET /ca.mobileconfig", func(w http.ResponseWriter, _ *http.Request) {
		download(w, "application/x-apple-aspen-config", p.fileName+".mobileconfig", mobileConfig(a.root))
	})
	return mux
}

// Serves says whether a path is one of Handler's.
func Serves(path string) bool {
	return path == "/v1/trusted" || path == "/ca" || path == "/ca.crt" || path == "/ca.pem" || path == "/ca.mobileconfig"
}

func trusted(w http.ResponseWriter, r *http.Request, port int) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Vary", "Origin")
	if o, err := url.Parse(r.Header.Get("Origin")); err == nil && o.Host != "" && strings.EqualFold(o.Hostname(), hostName(r)) {
		h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	}
	// The status is out with the first byte; a peer that went away is nobody's fault.
	_ = json.NewEncoder(w).Encode(Trusted{Secure: r.TLS != nil, HTTPS: secureURL(r, port), Trust: "/ca"})
}

func hostName(r *http.Request) string {
	return (&url.URL{Host: r.Host}).Hostname()
}

// secureURL is the root page over TLS, under the name that the person used.
func secureURL(r *http.Request, port int) string {
	host := hostName(r)
	if host == "" || port == 0 {
		return ""
	}
	if port != 443 {
		return "https://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return "https://" + host + "/"
}

func download(w http.ResponseWriter, kind, name string, b []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", name))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(b) // a peer that went away is nobody's fault
}

// page is the page that explains how to trust the box.
type page struct {
	a        *Authority
	t        *template.Template
	policy   string
	fileName string
}

func newPage(a *Authority) *page {
	sum := sha256.Sum256([]byte(pageCSS))
	return &page{a: a, t: template.Must(template.New("ca").Parse(pageHTML)), fileName: fileName(a.root.Subject.CommonName),
		// Nothing but the page's own style runs or loads; no frame may show it.
		policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
}

// fileName makes "Pipit oakhill (1F2E)" a name that no file system minds.
func fileName(name string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case r == '(' || r == ')':
			return -1
		}
		return '-'
	}, name), "-")
}

func (p *page) serve(w http.ResponseWriter, r *http.Request, port int) {
	lang := language(r)
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", lang)
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept-Language, User-Agent")
	data := struct {
		Lang, Device, Name, HTTPS string
		Print                     []string
		Secure                    bool
		CSS                       template.CSS
		Ends                      time.Time
	}{lang, device(r.UserAgent()), p.a.root.Subject.CommonName, secureURL(r, port), FingerprintLines(p.a.root), r.TLS != nil, template.CSS(pageCSS), p.a.root.NotAfter}
	_ = p.t.Execute(w, data) // a peer that went away is nobody's fault; the template has a test
}

// language is zh or en: what ?lang= says, else the first of the two that the
// browser prefers (RFC 9110 §12.5.4; browsers list by falling preference).
func language(r *http.Request) string {
	for part := range strings.SplitSeq(r.URL.Query().Get("lang")+","+r.Header.Get("Accept-Language"), ",") {
		tag, _, _ := strings.Cut(strings.TrimSpace(part), ";")
		switch primary, _, _ := strings.Cut(strings.ToLower(tag), "-"); primary {
		case "zh":
			return "zh-CN"
		case "en":
			return "en"
		}
	}
	return "en"
}

// device guesses which section to open.
func device(agent string) string {
	for _, x := range []struct{ has, is string }{
		{"iPhone", "ios"}, {"iPad", "ios"}, {"Android", "android"}, {"CrOS", "chromebook"},
		{"Windows", "windows"}, {"Macintosh", "mac"}, {"Linux", "linux"},
	} {
		if strings.Contains(agent, x.has) {
			return x.is
		}
	}
	return ""
}

// mobileConfig is a configuration profile with one root (Apple, Configuration
// Profile Reference, com.apple.security.root). Its identifiers follow from the
// root, so that a second installation replaces the first.
func mobileConfig(root *x509.Certificate) []byte {
	sum := sha256.Sum256(root.Raw)
	uuid := func(b []byte) string {
		return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16]))
	}
	name := xmlText(root.Subject.CommonName)
	return fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>PayloadContent</key>
	<array>
		<dict>
			<key>PayloadCertificateFileName</key>
			<string>ca.crt</string>
			<key>PayloadContent</key>
			<data>%[1]s</data>
			<key>PayloadDisplayName</key>
			<string>%[2]s</string>
			<key>PayloadIdentifier</key>
			<string>im.pipit.ca.%[3]s.root</string>
			<key>PayloadType</key>
			<string>com.apple.security.root</string>
			<key>PayloadUUID</key>
			<string>%[3]s</string>
			<key>PayloadVersion</key>
			<integer>1</integer>
		</dict>
	</array>
	<key>PayloadDisplayName</key>
	<string>%[2]s</string>
	<key>PayloadDescription</key>
	<string>Lets this device trust one Pipit box, for names and addresses of local networks only. 让本设备信任这一台 Pipit，且仅限本地网络的名称和地址。</string>
	<key>PayloadIdentifier</key>
	<string>im.pipit.ca.%[3]s</string>
	<key>PayloadOrganization</key>
	<string>Pipit</string>
	<key>PayloadRemovalDisallowed</key>
	<false/>
	<key>PayloadType</key>
	<string>Configuration</string>
	<key>PayloadUUID</key>
	<string>%[4]s</string>
	<key>PayloadVersion</key>
	<integer>1</integer>
</dict>
</plist>
`, base64.StdEncoding.EncodeToString(root.Raw), name, uuid(sum[:16]), uuid(sum[16:]))
}

func xmlText(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}
