package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/health"
	"github.com/pipit-im/pipit/pkg/localca"
)

// Where certificates are in the data directory, beside the local authority's own
// files, and the names in the local network that were given to the box (one a
// line; the box's own name and addresses need not be said).
const (
	TLSDir      = "tls"
	OwnCertName = "own.crt"
	OwnKeyName  = "own.key"
	NamesName   = "names"
)

// certificate is what TLS shows: the configured pair, else one that was installed
// in the data directory, else the local authority's. A reload replaces it.
type certificate struct {
	tls   atomic.Pointer[tls.Config]
	end   atomic.Int64                      // NotAfter of a pair of files, Unix seconds
	local atomic.Pointer[localca.Authority] // nil: not used
}

func (c *certificate) configured() bool { return c.tls.Load() != nil || c.local.Load() != nil }

// config returns what a handshake uses; the same pointer as long as it is the
// same certificate, because session tickets hang on it.
func (c *certificate) config() *tls.Config { return c.tls.Load() }

// ownPair returns the files that the settings name, or that were installed.
func ownPair(t config.TLS, dataDir string) (cert, key string) {
	if t.Cert != "" {
		return t.Cert, t.Key
	}
	cert, key = filepath.Join(dataDir, TLSDir, OwnCertName), filepath.Join(dataDir, TLSDir, OwnKeyName)
	if _, err := os.Stat(cert); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return "", ""
	}
	return cert, key
}

func (c *certificate) load(t config.TLS, dataDir string) error {
	cert, key := ownPair(t, dataDir)
	if cert == "" {
		c.end.Store(0)
		if a := c.local.Load(); a != nil {
			c.showLocal(a)
		}
		return nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return &config.Error{Problems: []string{fmt.Sprintf("tls.cert %s and tls.key %s can't be used: %v", cert, key, err)}}
	}
	if pair.Leaf != nil {
		c.end.Store(pair.Leaf.NotAfter.Unix())
	}
	c.tls.Store(&tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	return nil
}

// showLocal lets handshakes ask the authority each time: it renews by itself.
func (c *certificate) showLocal(a *localca.Authority) {
	c.tls.Store(&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if leaf := a.Certificate(); leaf != nil {
			return leaf, nil
		}
		return nil, errors.New("no certificate yet")
	}})
}

// Check says whether the files that the configuration names can be used; the
// error is a *config.Error.
func Check(cfg config.Config) error { return new(certificate).load(cfg.TLS, cfg.DataDir) }

// left returns how long a pair of files is still good, or false without one.
func (c *certificate) left(now time.Time) (time.Duration, bool) {
	end := c.end.Load()
	return time.Unix(end, 0).Sub(now), end != 0
}

// useLocalCA opens or makes the box's own authority and its certificate. Without
// one HTTP goes on, and a condition says why there is no HTTPS. It is opened
// beside a configured pair too: that may be taken away by a reload.
func (a *App) useLocalCA(cfg config.Config) {
	if cfg.TLS.LocalCA == "off" {
		return
	}
	ca, err := localca.Open(filepath.Join(cfg.DataDir, TLSDir), boxName(), time.Now())
	if err == nil {
		_, err = ca.Refresh(a.wantedNames(cfg.DataDir), time.Now())
	}
	if err != nil {
		a.board.Set(health.LocalCAFailed, err.Error())
		return
	}
	a.certs.local.Store(ca)
	if a.certs.tls.Load() == nil {
		a.certs.showLocal(ca)
	}
}

// certificatePause is how often the box's names and addresses are looked at: the
// certificate is for a new one as soon as the network knows it (`pipit network
// announce` looks as often).
const certificatePause = 5 * time.Second

// keepCertificate renews the authority's certificate in time and when the box's
// names change, by the store's clock, which never runs backward.
func (a *App) keepCertificate(ctx context.Context) {
	ca := a.certs.local.Load()
	if ca == nil {
		return
	}
	tick := time.NewTicker(certificatePause)
	defer tick.Stop()
	for {
		made, err := ca.Refresh(a.wantedNames(a.config().DataDir), a.store.Now())
		if err != nil {
			a.board.Set(health.LocalCAFailed, err.Error())
		} else {
			a.board.Clear(health.LocalCAFailed)
		}
		if made {
			leaf := ca.Certificate().Leaf
			a.log.Info("certificate made", "names", leaf.DNSNames, "addresses", leaf.IPAddresses, "until", leaf.NotAfter)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// refreshCertificate makes a new certificate at a reload if the names of the box have
// changed or somebody (`pipit cert renew`) removed the authority's last one.
func (a *App) refreshCertificate() {
	ca := a.certs.local.Load()
	if ca == nil {
		return
	}
	names, now := a.wantedNames(a.config().DataDir), a.store.Now()
	var err error
	if ca.Gone() {
		err = ca.Renew(names, now)
	} else {
		_, err = ca.Refresh(names, now)
	}
	if err != nil {
		a.log.Error("certificate not renewed", "error", err)
	}
}

// boxName is the box's name without a domain.
func boxName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "pipit"
	}
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	return name
}

// wantedNames are the names and addresses under which people reach this box.
func (a *App) wantedNames(dataDir string) []string {
	name := boxName()
	names := []string{name, name + ".local", "localhost"}
	if full, err := os.Hostname(); err == nil {
		names = append(names, full)
	}
	names = append(names, ReadNames(dataDir)...)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		a.log.Debug("addresses not known", "error", err)
	}
	for _, x := range addrs {
		// Link-local IPv6 addresses need a zone, which no browser takes; temporary
		// ones would have the certificate made anew each day.
		if n, ok := x.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap().Is4() {
				names = append(names, ip.Unmap().String())
			}
		}
	}
	return names
}

// ReadNames returns the further names that were given to the box in the local
// network (`pipit network name`), as in oakhill.local.
func ReadNames(dataDir string) []string {
	b, err := os.ReadFile(filepath.Join(dataDir, NamesName))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b))
}

// tlsPort is the port that speaks TLS, 0 if there is none.
func (a *App) tlsPort() int {
	for _, addr := range a.listeners.tls {
		if _, port, err := net.SplitHostPort(addr); err == nil {
			if n, err := strconv.Atoi(port); err == nil && a.certs.configured() {
				return n
			}
		}
	}
	return 0
}

// trust serves what is about trusting this box before everything else.
func (a *App) trust(next http.Handler) http.Handler {
	own := localca.Handler(a.certs.local.Load(), a.tlsPort)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if localca.Serves(r.URL.Path) {
			own.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}
