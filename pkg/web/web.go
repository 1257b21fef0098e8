// Package web serves the web client: the files that `make web` builds into
// dist, embedded in the binary.
//
// It owns the paths below / that are files of the build, their caching, their
// compression (done by the build, never while serving) and the headers that
// keep a page to itself: a Content-Security-Policy that lets nothing in but
// this server's own files. It knows nothing of users or messages; the pages
// speak to /v1 like any other client. A checkout without a build has the
// placeholder alone: Handler then passes everything on.
//
// A Handler is immutable and safe for concurrent use.
//
// The contract is ARCHITECTURE.md, "The web client", and sdk/README.md for what
// runs in the browser.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
)

//go:generate go run gen_protocol.go

//go:embed all:dist
var dist embed.FS

// placeholder is the one file of dist that is committed.
const placeholder = "placeholder.txt"

// What the build adds to the name of a compressed twin.
const gzipExt, brotliExt = ".gz", ".br"

// policy lets a page load nothing but what this server serves, run no inline
// script, be framed by nobody, and send forms nowhere else. connect-src 'self'
// covers the WebSocket of the same host (CSP Level 3). A page over plain HTTP may
// also ask secure, this host over TLS ("" if there is none): whether the device
// trusts it, see localca.Trusted. With the default ports 'self' says that too.
func policy(secure string) string {
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; " +
		"connect-src 'self'" + secure + "; manifest-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
}

// file is one file of the build. Its bytes stay where the build has them: the
// program's own file, of which a page that nobody asks for takes no memory.
type file struct {
	name                string
	plain, gzip, brotli int64 // lengths in bytes; 0: there is no such encoding
	contentType         string
	etag                string
	forever             bool // its name has a hash of its content
}

// Handler serves the web client.
type Handler struct {
	build   fs.FS
	files   map[string]file // by path, "/" being the page
	next    http.Handler
	tlsPort func() int
}

// New returns a handler that serves the files of the build and passes every
// other request to next, which must not be nil. tlsPort returns the TCP port that
// speaks TLS, 0 if there is none; nil means the latter.
func New(next http.Handler, tlsPort func() int) *Handler {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // the name above is a constant
	}
	h := newHandler(sub, next)
	h.tlsPort = tlsPort
	return h
}

func newHandler(build fs.FS, next http.Handler) *Handler {
	h := &Handler{build: build, files: map[string]file{}, next: next}
	// Reading an embedded file cannot fail; a test's file system may.
	err := fs.WalkDir(build, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || name == placeholder {
			return err
		}
		ext := path.Ext(name)
		if ext == brotliExt || ext == gzipExt {
			return nil
		}
		f := file{name: name, contentType: contentType(ext), forever: strings.HasPrefix(name, "assets/")}
		src, err := build.Open(name)
		if err != nil {
			return err
		}
		defer src.Close()
		sum := sha256.New()
		if f.plain, err = io.Copy(sum, src); err != nil {
			return err
		}
		f.etag = hex.EncodeToString(sum.Sum(nil)[:12])
		// A file that did not get smaller has no compressed twin.
		for ext, size := range map[string]*int64{gzipExt: &f.gzip, brotliExt: &f.brotli} {
			if twin, err := fs.Stat(build, name+ext); err == nil {
				*size = twin.Size()
			}
		}
		at := "/" + name
		if name == "index.html" {
			at = "/"
		}
		h.files[at] = f
		return nil
	})
	if err != nil {
		panic(err)
	}
	return h
}

// Built says whether the binary has the web client.
func (h *Handler) Built() bool { _, ok := h.files["/"]; return ok }

// contentType is fixed here, because mime asks the machine's own tables.
func contentType(ext string) string {
	switch ext {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".html":
		return "text/html; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	case ".png":
		return "image/png"
	case ".webmanifest":
		return "application/manifest+json"
	case ".json":
		return "application/json"
	}
	if t := mime.TypeByExtension(ext); t != "" {
		return t
	}
	return "application/octet-stream"
}

// ServeHTTP answers for the files of the build.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := r.URL.Path
	if isTenantsPage(at) {
		at = "/"
	}
	f, ok := h.files[at]
	if !ok {
		h.next.ServeHTTP(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "This is a page; it can only be read.", http.StatusMethodNotAllowed)
		return
	}
	head := w.Header()
	Protect(head)
	if secure := h.secure(r); secure != "" && at == "/" {
		head.Set("Content-Security-Policy", policy(secure))
	}
	head.Set("Content-Type", f.contentType)
	head.Set("Vary", "Accept-Encoding")
	if f.forever {
		head.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		head.Set("Cache-Control", "no-cache")
	}
	name, size, etag := f.name, f.plain, f.etag
	switch accepted := r.Header.Get("Accept-Encoding"); {
	case f.brotli != 0 && accepts(accepted, "br"):
		name, size, etag = f.name+brotliExt, f.brotli, f.etag+"-br"
		head.Set("Content-Encoding", "br")
	case f.gzip != 0 && accepts(accepted, "gzip"):
		name, size, etag = f.name+gzipExt, f.gzip, f.etag+"-gz"
		head.Set("Content-Encoding", "gzip")
	}
	src, err := h.build.Open(name)
	if err != nil {
		panic(err) // it was there at the start, and an embedded file stays
	}
	defer src.Close()
	head.Set("ETag", `"`+etag+`"`)
	// ServeContent answers If-None-Match and HEAD; it leaves the length to us where there is a Content-Encoding.
	if head.Get("Content-Encoding") != "" && r.Header.Get("Range") == "" {
		head.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	r.Header.Del("Range")                                         // a part of a compressed file is of no use to anybody
	http.ServeContent(w, r, "", time.Time{}, src.(io.ReadSeeker)) // as embed.FS promises
}

// isTenantsPage tells whether a path is the page of one tenant, /t/NAME/, or the
// one where somebody uses an invitation of it, /t/NAME/join#CODE. It is the same
// page, which looks at its address.
func isTenantsPage(path string) bool {
	rest, ok := strings.CutPrefix(path, "/t/")
	if !ok {
		return false
	}
	name, rest, ok := strings.Cut(rest, "/")
	return ok && name != "" && (rest == "" || rest == "join")
}

// secure is the source of this host over TLS, with a space before it; "" where the
// page came over TLS, there is none, or 'self' says it already.
func (h *Handler) secure(r *http.Request) string {
	if h.tlsPort == nil || r.TLS != nil {
		return ""
	}
	port := h.tlsPort()
	host := (&url.URL{Host: r.Host}).Hostname()
	if port == 0 || host == "" || strings.ContainsFunc(host, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '-')
	}) {
		return "" // no CSP source names an IPv6 address (CSP Level 3, host-source)
	}
	return " https://" + host + ":" + strconv.Itoa(port)
}

// Protect sets the headers that keep a page of this server to itself.
func Protect(head http.Header) {
	head.Set("Content-Security-Policy", policy(""))
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
}

// accepts says whether an Accept-Encoding header takes a coding (RFC 9110
// §12.5.3); a coding with q=0 is refused.
func accepts(header, coding string) bool {
	for item := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(item), ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		key, q, _ := strings.Cut(strings.TrimSpace(params), "=")
		if !strings.EqualFold(strings.TrimSpace(key), "q") {
			return true
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
		return err == nil && v > 0
	}
	return false
}
