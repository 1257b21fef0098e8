// Package localca is the box's own certificate authority: a root made on the
// box, and the certificate that the box shows to browsers, renewed by itself.
//
// A box in a school's network has no name that a public authority could vouch
// for. So it vouches for itself, and people who want to trust it install its root
// once (page.go). That must not make the box dangerous to them: the root is
// constrained to names and addresses of local networks (RFC 5280 §4.2.1.10), so
// that even a stolen key can't stand for a bank. Browsers enforce that: Chromium
// since 112 also for roots that were added by hand, Firefox and Go always.
//
// It owns a folder of the data partition, mode 0700:
//
//	ca.key, ca.crt       the root: ECDSA P-256, 10 years. Made once; lost with the folder.
//	leaf.key, leaf.crt   the certificate shown: at most 397 days, made anew when
//	                     less than a third is left, or when names change
//
// Keys have mode 0600 and never leave the folder but in an encrypted backup.
//
// Time: a Pi may think it is 1970. A root or certificate made then would be
// refused by everybody. So nothing is made with a time before Floor, a certificate
// begins a month before it was made, and the caller asks again (Refresh) with a
// clock that never runs backward.
//
// It knows nothing of listeners and opens no socket. An Authority may be used
// from any goroutine.
package localca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

const (
	rootLife = 10 * 365 * 24 * time.Hour
	leafLife = 397 * 24 * time.Hour // what browsers take at most is 398 days
	// leafPast is how far back a certificate begins, for clients whose clock is
	// behind ours.
	leafPast = 30 * 24 * time.Hour
	// leafSpare is what is left when a new one is made.
	leafSpare = leafLife / 3
)

// Floor is a time that is surely past: before it, the clock is wrong.
var Floor = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// Names of files in the folder.
const (
	rootKeyName  = "ca.key"
	rootCertName = "ca.crt"
	leafKeyName  = "leaf.key"
	leafCertName = "leaf.crt"
)

// localNames are the domains that the root may vouch for, with all below them:
// multicast DNS (RFC 6762), home networks (RFC 8375), private use (ICANN 2024),
// what routers call their network, and the box itself.
var localNames = []string{"local", "home.arpa", "internal", "lan", "home", "localhost"}

// localAddresses are the networks that the root may vouch for: private use
// (RFC 1918, RFC 4193), link-local (RFC 3927, RFC 4291), loopback, and what
// providers use behind their NAT (RFC 6598).
var localAddresses = []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8", "100.64.0.0/10",
	"fc00::/7", "fe80::/10", "::1/128"}

// Authority is an opened folder.
type Authority struct {
	dir  string
	root *x509.Certificate
	key  *ecdsa.PrivateKey

	mu    sync.Mutex
	leaf  *tls.Certificate // guarded by mu; replaced, never changed
	names []string         // guarded by mu; what the leaf is for
}

// Open loads the root from dir, or makes it if there is none: box names it for
// people who look into their list of authorities. An existing root is never
// replaced, whatever is wrong with it: every device would have to trust anew. The
// error says what to do.
func Open(dir, box string, now time.Time) (*Authority, error) {
	a := &Authority{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, &im.Error{Kind: im.Unavailable, Op: "open local CA", Cause: err, Message: fmt.Sprintf("The folder %s for the box's own certificate can't be made.", dir)}
	}
	pair, err := a.load(rootCertName, rootKeyName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if pair, err = a.makeRoot(box, later(now, Floor)); err != nil {
			return nil, &im.Error{Kind: im.Unavailable, Op: "make local CA", Cause: err, Message: fmt.Sprintf("The box's own certificate authority can't be made in %s: %v.", dir, err)}
		}
	case err != nil:
		return nil, &im.Error{Kind: im.Unavailable, Op: "open local CA", Cause: err,
			Message: fmt.Sprintf("The box's own certificate authority in %s can't be used: %v. Restore a backup, or remove that folder; then a new one is made, and every device has to trust it anew.", dir, err)}
	}
	a.root = pair.Leaf
	a.key = pair.PrivateKey.(*ecdsa.PrivateKey)
	if leaf, err := a.load(leafCertName, leafKeyName); err == nil && leaf.Leaf.CheckSignatureFrom(a.root) == nil {
		a.leaf, a.names = leaf, namesOf(leaf.Leaf)
	}
	return a, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// load reads a certificate and its key.
func (a *Authority) load(cert, key string) (*tls.Certificate, error) {
	c, err := os.ReadFile(filepath.Join(a.dir, cert))
	if err != nil {
		return nil, err
	}
	k, err := os.ReadFile(filepath.Join(a.dir, key))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) && cert == rootCertName {
			return nil, errors.New("ca.crt is there, but its key is not") // not to be made anew
		}
		return nil, err
	}
	pair, err := tls.X509KeyPair(c, k)
	if err != nil {
		return nil, err
	}
	if _, ok := pair.PrivateKey.(*ecdsa.PrivateKey); !ok {
		return nil, errors.New("the key is of another kind than it should be")
	}
	return &pair, nil
}

// makeRoot makes the authority. The key is on stable storage before the
// certificate is there, so that a cut leaves both or a start over.
func (a *Authority) makeRoot(box string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: rootName(box, serial), Organization: []string{"Pipit"}},
		NotBefore:    now.Add(-leafPast), NotAfter: now.Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		ExtKeyUsage:                 []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         append(slices.Clone(localNames), bareName(box)...),
	}
	for _, n := range localAddresses {
		_, ipnet, err := net.ParseCIDR(n)
		if err != nil {
			return nil, err
		}
		t.PermittedIPRanges = append(t.PermittedIPRanges, ipnet)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return a.keep(rootCertName, rootKeyName, key, der)
}

// rootName is what people see in their device's list: which box, and, should it
// have been set up anew, which of its authorities.
func rootName(box string, serial *big.Int) string {
	return fmt.Sprintf("Pipit %s (%04X)", box, new(big.Int).And(serial, big.NewInt(0xffff)))
}

// bareName allows the box's name without a domain.
func bareName(box string) []string {
	if name := strings.ToLower(box); name != "" && !strings.ContainsAny(name, ". *") {
		return []string{name}
	}
	return nil
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// keep writes key and certificate, each whole or not at all, the key first.
func (a *Authority) keep(cert, key string, k *ecdsa.PrivateKey, der []byte) (*tls.Certificate, error) {
	kb, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kb})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(a.write(key, 0o600, keyPEM), a.write(cert, 0o600, certPEM)); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	return &pair, err
}

func (a *Authority) write(name string, mode fs.FileMode, b []byte) error {
	path := filepath.Join(a.dir, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(a.dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Names sorts out what a certificate of this box may be for: local names and
// addresses, each once, in order. One that the root may not vouch for would make
// browsers refuse the whole certificate; those come back as foreign.
func (a *Authority) Names(wanted []string) (names, foreign []string) {
	for _, w := range wanted {
		w = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(w), "."))
		if w == "" {
			continue
		}
		if a.permits(w) {
			names = append(names, w)
		} else {
			foreign = append(foreign, w)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), foreign
}

func (a *Authority) permits(name string) bool {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Zone() == "" && slices.ContainsFunc(a.root.PermittedIPRanges, func(n *net.IPNet) bool { return n.Contains(ip.AsSlice()) })
	}
	return slices.ContainsFunc(a.root.PermittedDNSDomains, func(d string) bool {
		return name == d || strings.HasSuffix(name, "."+d)
	})
}

// Refresh makes a new certificate if a wanted name or address is not in it, if a name
// in it is not wanted any more, if it ends soon, or if it has not begun yet; else it
// does nothing. An address that the box has not now stays until then: at a start the
// network is not there yet, and each start would make two certificates, the first
// without the box's address. now is a clock that never runs backward. It reports
// whether it made one.
func (a *Authority) Refresh(wanted []string, now time.Time) (made bool, err error) {
	names, _ := a.Names(wanted)
	if len(names) == 0 {
		return false, im.E(im.Invalid, "This box has no name and no address that its own certificate could be for.")
	}
	now = later(now, Floor)
	a.mu.Lock()
	defer a.mu.Unlock()
	missing := slices.ContainsFunc(names, func(n string) bool { return !slices.Contains(a.names, n) })
	stale := slices.ContainsFunc(a.names, func(n string) bool {
		_, notAddress := netip.ParseAddr(n)
		return notAddress != nil && !slices.Contains(names, n)
	})
	if a.leaf != nil && !missing && !stale &&
		now.After(a.leaf.Leaf.NotBefore) && a.leaf.Leaf.NotAfter.Sub(now) > min(leafSpare, a.root.NotAfter.Sub(now)/3) {
		return false, nil
	}
	return true, a.renew(names, now)
}

// Renew makes a new certificate now.
func (a *Authority) Renew(wanted []string, now time.Time) error {
	names, _ := a.Names(wanted)
	if len(names) == 0 {
		return im.E(im.Invalid, "This box has no name and no address that its own certificate could be for.")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.renew(names, later(now, Floor))
}

// Gone says that the files of the certificate were removed from the folder.
func (a *Authority) Gone() bool {
	_, err := os.Stat(filepath.Join(a.dir, leafCertName))
	return errors.Is(err, fs.ErrNotExist)
}

func (a *Authority) renew(names []string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return im.Wrap("make certificate", err)
	}
	serial, err := newSerial()
	if err != nil {
		return im.Wrap("make certificate", err)
	}
	begin := now.Add(-leafPast)
	end := begin.Add(leafLife)
	if end.After(a.root.NotAfter) {
		end = a.root.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: firstName(names), Organization: []string{"Pipit"}},
		NotBefore:    later(begin, a.root.NotBefore), NotAfter: end,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip, err := netip.ParseAddr(n); err == nil {
			t.IPAddresses = append(t.IPAddresses, ip.AsSlice())
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.root, key.Public(), a.key)
	if err != nil {
		return im.Wrap("make certificate", err)
	}
	leaf, err := a.keep(leafCertName, leafKeyName, key, der)
	if err != nil {
		return &im.Error{Kind: im.Unavailable, Op: "make certificate", Cause: err, Message: "The new certificate can't be stored: " + err.Error() + ". The old one stays in use."}
	}
	a.leaf, a.names = leaf, names
	return nil
}

// firstName is the first that is no address: what people know the box by.
func firstName(names []string) string {
	for _, n := range names {
		if _, err := netip.ParseAddr(n); err != nil && strings.HasSuffix(n, ".local") {
			return n
		}
	}
	return names[0]
}

func namesOf(c *x509.Certificate) []string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		if addr, ok := netip.AddrFromSlice(ip); ok {
			names = append(names, addr.Unmap().String())
		}
	}
	slices.Sort(names)
	return names
}

// Certificate returns the certificate to show, or nil
// before the first Refresh. It is never changed.
func (a *Authority) Certificate() *tls.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leaf
}

// Root returns the root's certificate.
func (a *Authority) Root() *x509.Certificate { return a.root }

// RootPEM returns the root as people's devices import it.
func (a *Authority) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
}

// Fingerprint returns the SHA-256 of a certificate as devices show it:
// AB:CD:… in capitals.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	var b bytes.Buffer
	for i, x := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", x)
	}
	return b.String()
}

// FingerprintLines is Fingerprint in four lines of eight, as people compare it.
func FingerprintLines(c *x509.Certificate) []string {
	pairs := strings.Split(Fingerprint(c), ":")
	var lines []string
	for eight := range slices.Chunk(pairs, 8) {
		lines = append(lines, strings.Join(eight, ":"))
	}
	return lines
}
