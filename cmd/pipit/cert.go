package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/localca"
)

func notFound(format string, args ...any) error { return im.E(im.NotFound, format, args...) }

func (t *tool) certCmd() *cobra.Command {
	c := &cobra.Command{Use: "cert", Short: "The certificate for HTTPS: show, renew, install your own", Args: noArgs,
		DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		Long: "Shows the certificate that the box shows to browsers, and the fingerprint of its own authority, which people compare\n" +
			"before they trust it (page /ca).",
		RunE: func(cmd *cobra.Command, _ []string) error { return t.showCert(cmd.Context()) }}
	c.AddCommand(t.certRenewCmd(), t.certInstallCmd(), t.certRemoveCmd())
	return c
}

type certAnswer struct {
	Shown       *certInfo `json:"shown"` // null: no HTTPS
	Authority   *certInfo `json:"authority,omitempty"`
	Fingerprint string    `json:"authority_fingerprint,omitempty"`
}

type certInfo struct {
	Subject string    `json:"subject"`
	Issuer  string    `json:"issuer"`
	Names   []string  `json:"names,omitempty"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
}

func infoOf(c *x509.Certificate) *certInfo {
	i := &certInfo{Subject: c.Subject.CommonName, Issuer: c.Issuer.CommonName, Names: c.DNSNames, From: c.NotBefore, Until: c.NotAfter}
	for _, ip := range c.IPAddresses {
		i.Names = append(i.Names, ip.String())
	}
	return i
}

// readRoot reads the root of the box's own authority.
func readRoot(dir string) (*x509.Certificate, error) {
	b, err := os.ReadFile(rootFile(dir))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is no certificate", rootFile(dir))
	}
	return x509.ParseCertificate(block.Bytes)
}

// shownCert asks the running server what it shows to browsers.
func (t *tool) shownCert(ctx context.Context, dir string) (*x509.Certificate, error) {
	s, err := serverOn(ctx, dir)
	if err != nil || len(s.ListenTLS) == 0 {
		return nil, err
	}
	host, port, err := net.SplitHostPort(s.ListenTLS[0])
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{InsecureSkipVerify: true}} // it is only looked at
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, nil // it serves none now; health says why
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

func (t *tool) showCert(ctx context.Context) error {
	dir, err := t.dir()
	if err != nil {
		return err
	}
	var a certAnswer
	root, err := readRoot(dir)
	switch {
	case err == nil:
		a.Authority, a.Fingerprint = infoOf(root), localca.Fingerprint(root)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the box's own authority can't be read (run this with sudo): %w", err)
	}
	shown, err := t.shownCert(ctx, dir)
	if err != nil {
		return err
	}
	if shown != nil {
		a.Shown = infoOf(shown)
	}
	return t.answer(a, func() {
		if a.Shown == nil {
			fmt.Fprintln(t.out, "HTTPS        not served now (no server, or no listen_tls)")
		} else {
			fmt.Fprintf(t.out, "shown        %s, by %s\n", a.Shown.Subject, a.Shown.Issuer)
			for i, line := range wrap(strings.Join(a.Shown.Names, " "), 66) {
				fmt.Fprintf(t.out, "%-12s %s\n", map[bool]string{true: "names"}[i == 0], line)
			}
			fmt.Fprintf(t.out, "until        %s (%d days)\n", a.Shown.Until.Local().Format(time.DateOnly), int(time.Until(a.Shown.Until).Hours()/24))
		}
		if a.Authority == nil {
			return
		}
		fmt.Fprintf(t.out, "authority    %s, until %s\n", a.Authority.Subject, a.Authority.Until.Local().Format(time.DateOnly))
		for i, line := range localca.FingerprintLines(root) {
			fmt.Fprintf(t.out, "%-12s %s\n", map[bool]string{true: "fingerprint"}[i == 0], line)
		}
		fmt.Fprintf(t.err, "How to trust it on each kind of device: http://%s/ca\n", boxNames(dir)[0])
	})
}

func (t *tool) certRenewCmd() *cobra.Command {
	return &cobra.Command{Use: "renew", Short: "Make a new certificate of the box's own authority now", Args: noArgs,
		Long: "The box does this by itself, in time and when its names change. The authority stays, so nobody has to trust anything anew.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			if _, err := readRoot(dir); err != nil {
				return notFound("This box has no authority of its own: HTTPS is not served here, or with a certificate of yours.")
			}
			for _, name := range []string{"leaf.crt", "leaf.key"} {
				if err := os.Remove(filepath.Join(dir, app.TLSDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("take the old certificate away (run this with sudo): %w", err)
				}
			}
			return t.reload(cmd.Context(), dir, "A new certificate is made")
		}}
}

// reload makes a running server read its certificate anew, and says so.
func (t *tool) reload(ctx context.Context, dir, what string) error {
	s, err := serverOn(ctx, dir)
	if err != nil {
		return err
	}
	when := "when the server starts"
	if s.PID != 0 {
		if err := unix.Kill(s.PID, unix.SIGHUP); err != nil {
			return fmt.Errorf("tell the server (run this with sudo): %w", err)
		}
		when = "now"
	}
	return t.answer(map[string]string{"done": what, "when": when}, func() { fmt.Fprintf(t.out, "%s %s.\n", what, when) })
}

func (t *tool) certInstallCmd() *cobra.Command {
	return &cobra.Command{Use: "install CERT KEY", Short: "Show a certificate of your own instead of the box's", Args: exactArgs("CERT", "KEY"),
		Long: "Checks a PEM certificate chain (the server's own first) and its key, copies both to tls/ in the data directory, and\n" +
			"has the server show it. Files that tls.cert and tls.key name in the configuration win over it.",
		Example: "  sudo pipit cert install /media/usb/oakhill.pem /media/usb/oakhill.key",
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			cert, err := os.ReadFile(args[0])
			if err != nil {
				return usageError{fmt.Errorf("read the certificate: %w", err)}
			}
			key, err := os.ReadFile(args[1])
			if err != nil {
				return usageError{fmt.Errorf("read the key: %w", err)}
			}
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				return im.E(im.Invalid, "The two files do not fit together, or are no PEM files: %v", err)
			}
			if time.Now().After(pair.Leaf.NotAfter) {
				return im.E(im.Invalid, "That certificate ended on %s.", pair.Leaf.NotAfter.Local().Format(time.DateOnly))
			}
			folder := filepath.Join(dir, app.TLSDir)
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return err
			}
			// The key first: a certificate without its key would be refused.
			for _, f := range []struct {
				name string
				text []byte
			}{{app.OwnKeyName, key}, {app.OwnCertName, cert}} {
				if _, err := writeWhole(cmd.Context(), filepath.Join(folder, f.name), func(_ context.Context, w io.Writer) (int64, error) {
					n, err := w.Write(f.text)
					return int64(n), err
				}); err != nil {
					return err
				}
			}
			if err := giveTo(dir, folder); err != nil {
				return err
			}
			return t.reload(cmd.Context(), dir, fmt.Sprintf("The certificate of %s, until %s, is shown", strings.Join(infoOf(pair.Leaf).Names, ", "), pair.Leaf.NotAfter.Local().Format(time.DateOnly)))
		}}
}

func (t *tool) certRemoveCmd() *cobra.Command {
	return &cobra.Command{Use: "remove", Short: "Take the installed certificate away; the box shows its own again", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			err = os.Remove(filepath.Join(dir, app.TLSDir, app.OwnCertName))
			if errors.Is(err, fs.ErrNotExist) {
				return notFound("No certificate was installed with `pipit cert install`.")
			}
			if err = errors.Join(err, os.Remove(filepath.Join(dir, app.TLSDir, app.OwnKeyName))); err != nil {
				return fmt.Errorf("remove it (run this with sudo): %w", err)
			}
			return t.reload(cmd.Context(), dir, "The box shows its own certificate")
		}}
}
