package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
)

// A token is "pt_", the tenant's id, "_" and 43 characters of base64url, 256
// random bits. The tenant is in it so that it is looked up within the tenant;
// PROTOCOL 1.5 makes it opaque to clients. The prefix lets programs that look for
// leaked secrets know it.
const (
	tokenPrefix  = "pt_"
	secretBytes  = 32
	secretLen    = 43
	minTokenLen  = len(tokenPrefix) + 1 + 1 + secretLen
	maxTokenLen  = len(tokenPrefix) + im.MaxIDBytes + 1 + secretLen
	newIDRandLen = 10 // 80 bits
)

// newToken draws a token and the id of the sign-in that will own it.
func (a *Auth) newToken(t im.TenantID) (token string, id im.SignInID, err error) {
	var b [secretBytes + newIDRandLen]byte
	if _, err := io.ReadFull(a.rand, b[:]); err != nil {
		return "", "", im.Wrap("auth: draw a token", err)
	}
	token = tokenPrefix + string(t) + "_" + base64.RawURLEncoding.EncodeToString(b[:secretBytes])
	return token, im.SignInID("i_" + idEncoding.EncodeToString(b[secretBytes:])), nil
}

// parseToken returns the tenant that a token is for and the hash under which it
// is stored; ok is false for what no server ever gave out. The hash is over the
// whole text: look-ups compare hashes of what the client sent, so their timing
// tells nothing about a stored token.
func parseToken(token string) (t im.TenantID, hash [32]byte, ok bool) {
	if len(token) < minTokenLen || len(token) > maxTokenLen || !strings.HasPrefix(token, tokenPrefix) ||
		token[len(token)-secretLen-1] != '_' {
		return "", hash, false
	}
	t = im.TenantID(token[len(tokenPrefix) : len(token)-secretLen-1])
	return t, hashToken(token), true
}

// hashToken is the form in which a token is stored.
func hashToken(token string) [32]byte {
	var b [maxTokenLen]byte // on the stack: it is called for each hello on a loop
	return sha256.Sum256(b[:copy(b[:], token)])
}
