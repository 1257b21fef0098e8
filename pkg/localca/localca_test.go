package localca

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

var (
	day   = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	names = []string{"pipit.local", "PIPIT", "192.168.7.20", "fe80::1", "oakhill.local."}
)

func open(t *testing.T, dir string, now time.Time) *Authority {
	t.Helper()
	a, err := Open(dir, "pipit", now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func refresh(t *testing.T, a *Authority, names []string, now time.Time, want bool) {
	t.Helper()
	made, err := a.Refresh(names, now)
	if err != nil || made != want {
		t.Fatalf("refresh: %v, %v, want %v", made, err, want)
	}
}

// trusts is what a client does that has installed the root.
func trusts(a *Authority, name string, at time.Time) error {
	pool := x509.NewCertPool()
	pool.AddCert(a.Root())
	_, err := a.Certificate().Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: at})
	return err
}

func TestLife(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	a := open(t, dir, day)
	refresh(t, a, names, day, true)
	for _, n := range []string{"pipit.local", "pipit", "192.168.7.20", "[fe80::1]", "oakhill.local"} {
		if err := trusts(a, n, day); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	if err := trusts(a, "elm.local", day); err == nil {
		t.Error("elm.local is in nobody's certificate")
	}
	leaf := a.Certificate().Leaf
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 398*24*time.Hour {
		t.Errorf("lives %v", life)
	}
	if got := leaf.Subject.CommonName; got != "oakhill.local" {
		t.Errorf("named %s", got)
	}

	// The same folder, the same certificates.
	b := open(t, dir, day.Add(time.Hour))
	refresh(t, b, names, day.Add(time.Hour), false)
	if !bytes.Equal(b.Root().Raw, a.Root().Raw) || !bytes.Equal(b.Certificate().Leaf.Raw, leaf.Raw) {
		t.Error("another start made other certificates")
	}
	// A start before the network is there: the address stays in the certificate.
	c := open(t, dir, day.Add(time.Hour))
	refresh(t, c, []string{"pipit.local", "PIPIT", "oakhill.local."}, day.Add(time.Hour), false)
	refresh(t, c, names, day.Add(time.Hour), false)
	if err := trusts(c, "192.168.7.20", day.Add(time.Hour)); err != nil {
		t.Error(err)
	}
	// Another name, another certificate of the same root.
	refresh(t, b, append(slices.Clone(names), "elm.local"), day, true)
	if err := trusts(b, "elm.local", day); err != nil {
		t.Error(err)
	}
	// A name that was taken away goes at once.
	refresh(t, b, names, day, true)
	if err := trusts(b, "elm.local", day); err == nil {
		t.Error("elm.local is still in the certificate")
	}
	// In time before the end.
	refresh(t, b, names, day.AddDate(0, 0, 200), false)
	refresh(t, b, names, day.AddDate(0, 0, 240), true)
	// A clock that was years ahead made it: it has not begun.
	refresh(t, b, names, day.AddDate(0, -4, 0), true)
	if err := trusts(b, "pipit.local", day.AddDate(0, -4, 0)); err == nil {
		t.Error("the root itself begins later than that")
	}
	// Near the end of the root it does not turn in circles.
	end := a.Root().NotAfter.AddDate(0, 0, -20)
	refresh(t, b, names, end, true)
	refresh(t, b, names, end.Add(time.Minute), false)
	if err := b.Renew(names, day); err != nil {
		t.Error(err)
	}

	for _, name := range []string{rootKeyName, leafKeyName, rootCertName} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the folder: %v, %v", fi.Mode(), err)
	}
}

// TestConstraints: the root can't vouch for anybody outside, even if somebody
// steals its key; and what would spoil our own certificate is left out.
func TestConstraints(t *testing.T) {
	a := open(t, t.TempDir(), day)
	good, foreign := a.Names([]string{"pipit.local", "chat.example.org", "8.8.8.8", "10.0.0.1", "2001:db8::1", "local.example.org", "notlocal", "fe80::1%eth0", "", "pipit.local"})
	if !slices.Equal(good, []string{"10.0.0.1", "pipit.local"}) {
		t.Errorf("taken: %q", good)
	}
	if !slices.Equal(foreign, []string{"chat.example.org", "8.8.8.8", "2001:db8::1", "local.example.org", "notlocal", "fe80::1%eth0"}) {
		t.Errorf("left out: %q", foreign)
	}
	if _, err := a.Refresh([]string{"example.org"}, day); !im.Is(err, im.Invalid) {
		t.Errorf("no name at all: %v", err)
	}
	for _, name := range []string{"bank.example.org", "8.8.8.8"} {
		if err := a.renew([]string{name}, day); err != nil { // as a thief would
			t.Fatal(err)
		}
		if err := trusts(a, name, day); err == nil || !strings.Contains(err.Error(), "constraint") {
			t.Errorf("%s: a client believes it: %v", name, err)
		}
	}
}

// TestClock1970: a box that does not know the time makes certificates that
// clients with the right time take.
func TestClock1970(t *testing.T) {
	dir := t.TempDir()
	a := open(t, dir, time.Unix(0, 0))
	refresh(t, a, names, time.Unix(60, 0), true)
	if err := trusts(a, "pipit.local", Floor); err != nil {
		t.Error(err)
	}
	refresh(t, a, names, time.Unix(90, 0), false)
	refresh(t, a, names, Floor.AddDate(2, 0, 0), true) // the clock was set
	if err := trusts(a, "pipit.local", Floor.AddDate(2, 0, 0)); err != nil {
		t.Error(err)
	}
	b := open(t, dir, time.Unix(0, 0)) // and lost again, but the caller's clock never runs backward
	refresh(t, b, names, Floor.AddDate(2, 0, 0), false)
}

// TestKeptRoot: a root that is there and can't be read is not replaced.
func TestKeptRoot(t *testing.T) {
	for name, harm := range map[string]func(dir string) error{
		"no key":  func(dir string) error { return os.Remove(filepath.Join(dir, rootKeyName)) },
		"damaged": func(dir string) error { return os.WriteFile(filepath.Join(dir, rootCertName), []byte("x"), 0o600) },
		"another's key": func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, leafKeyName))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, rootKeyName), b, 0o600)
		},
	} {
		dir := t.TempDir()
		refresh(t, open(t, dir, day), names, day, true)
		before, err := os.ReadFile(filepath.Join(dir, rootCertName))
		if err != nil {
			t.Fatal(err)
		}
		if err := harm(dir); err != nil {
			t.Fatal(err)
		}
		_, err = Open(dir, "pipit", day)
		if !im.Is(err, im.Unavailable) || !strings.Contains(err.Error(), "every device has to trust it anew") {
			t.Errorf("%s: %v", name, err)
		}
		if after, _ := os.ReadFile(filepath.Join(dir, rootCertName)); name != "damaged" && !bytes.Equal(before, after) {
			t.Errorf("%s: the root was replaced", name)
		}
	}
	// A key without a certificate is what a cut leaves: made anew.
	dir := t.TempDir()
	a := open(t, dir, day)
	if err := os.Remove(filepath.Join(dir, rootCertName)); err != nil {
		t.Fatal(err)
	}
	if b := open(t, dir, day); bytes.Equal(a.Root().Raw, b.Root().Raw) {
		t.Error("not made anew")
	}
	// So is a leaf that can't be read.
	a = open(t, dir, day)
	refresh(t, a, names, day, true)
	if err := os.WriteFile(filepath.Join(dir, leafCertName), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	refresh(t, open(t, dir, day), names, day, true)
}

// TestHandshake: over a real connection, with the root installed.
func TestHandshake(t *testing.T) {
	a := open(t, t.TempDir(), time.Now())
	refresh(t, a, []string{"pipit.local", "127.0.0.1"}, time.Now(), true)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.Certificate(), nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake() // the client judges
			c.Close()
		}
	}()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.RootPEM())
	for _, name := range []string{"pipit.local", "127.0.0.1"} {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", l.Addr().String(), &tls.Config{RootCAs: pool, ServerName: name})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c.Close()
	}
	if _, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{ServerName: "pipit.local"}); err == nil {
		t.Error("a client without the root trusts the box")
	}
}
