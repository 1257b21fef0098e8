package oidcop

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"

	"rsc.io/qr"
)

// newSealer makes a key that lives as long as the process.
func newSealer() (cipher.AEAD, error) {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal makes something that only this process reads and nobody changes.
func (p *Provider) seal(b []byte) string {
	return base64.RawURLEncoding.EncodeToString(p.sealer.Seal(nil, nil, b, nil))
}

func (p *Provider) unseal(s string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return nil, false
	}
	out, err := p.sealer.Open(nil, nil, b, nil)
	return out, err == nil
}

// qrPicture draws text as a QR code, as a data: address.
func qrPicture(text string) string {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return ""
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(code.PNG())
}

// unescape reads one part of client_secret_basic.
func unescape(s string) (string, error) { return url.QueryUnescape(s) }

// remoteAddr is where a request comes from, for throttling.
func remoteAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}
