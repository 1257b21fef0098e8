package oidcop

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base32"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// The algorithms of id_tokens. No other is ever signed with or accepted, so no
// token says how it is to be checked (RFC 8725 §3.1).
const (
	algES256   = jose.ES256
	algRS256   = jose.RS256
	defaultAlg = algES256
)

// keyring keeps the signing keys of all tenants. A key is made when one is needed
// first, and anew after keyLife; it stays published for keyShown after that.
type keyring struct {
	records store.Records
	age     func() time.Duration
	making  sync.Mutex // one key at a time is made: RSA takes seconds on a small board
}

// signingKey is one key pair as it is kept.
type signingKey struct {
	KeyID   string                  `json:"kid"`
	Alg     jose.SignatureAlgorithm `json:"alg"`
	BornAge time.Duration           `json:"born_age"`
	PKCS8   []byte                  `json:"pkcs8"`
	private crypto.Signer
}

// SignatureAlgorithm, Key and ID implement op.SigningKey.
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.Alg }
func (k *signingKey) Key() any                                    { return k.private }
func (k *signingKey) ID() string                                  { return k.KeyID }

// publicKey shows the public half to the library.
type publicKey struct{ *signingKey }

// Algorithm, Use and Key implement op.Key.
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return k.Alg }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return k.private.Public() }

// signer returns the key that signs now with alg, making one if there is none.
func (r *keyring) signer(ctx context.Context, t im.TenantID, alg jose.SignatureAlgorithm) (*signingKey, error) {
	if k, err := r.current(ctx, t, alg); k != nil || err != nil {
		return k, err
	}
	r.making.Lock()
	defer r.making.Unlock()
	if k, err := r.current(ctx, t, alg); k != nil || err != nil {
		return k, err
	}
	return r.add(ctx, t, alg)
}

// current returns the newest key of alg that is young enough, nil if there is none.
func (r *keyring) current(ctx context.Context, t im.TenantID, alg jose.SignatureAlgorithm) (*signingKey, error) {
	keys, err := r.all(ctx, t)
	if err != nil {
		return nil, err
	}
	age := r.age()
	for _, k := range keys {
		if k.Alg == alg && age-k.BornAge < keyLife {
			return k, nil
		}
	}
	return nil, nil
}

// add makes a key and keeps it, forgetting those that nobody needs any more.
func (r *keyring) add(ctx context.Context, t im.TenantID, alg jose.SignatureAlgorithm) (*signingKey, error) {
	var private crypto.Signer
	var err error
	if alg == algRS256 {
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	k := &signingKey{KeyID: strings.ToLower(randomID(10)), Alg: alg, BornAge: r.age(), private: private}
	if err == nil {
		k.PKCS8, err = x509.MarshalPKCS8PrivateKey(private)
	}
	var value []byte
	if err == nil {
		value, err = json.Marshal(k)
	}
	if err != nil {
		return nil, im.Wrap("oidcop: make a signing key for "+string(t), err)
	}
	old, err := r.all(ctx, t)
	if err != nil {
		return nil, err
	}
	err = r.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		tx.Put(store.RecordOIDCKey, k.KeyID, value)
		for _, o := range old {
			if k.BornAge-o.BornAge >= keyLife+keyShown {
				tx.Delete(store.RecordOIDCKey, o.KeyID)
			}
		}
		return nil
	})
	return k, im.Wrap("oidcop: keep a signing key of "+string(t), err)
}

// all returns every key of a tenant, newest first.
func (r *keyring) all(ctx context.Context, t im.TenantID) ([]*signingKey, error) {
	list, err := r.records.ListRecords(ctx, t, store.RecordOIDCKey, "", "", store.MaxRecordsPage)
	if err != nil {
		return nil, im.Wrap("oidcop: list the signing keys of "+string(t), err)
	}
	out := make([]*signingKey, 0, len(list))
	for _, rec := range list {
		k := new(signingKey)
		err := json.Unmarshal(rec.Value, k)
		if err == nil {
			var private any
			private, err = x509.ParsePKCS8PrivateKey(k.PKCS8)
			k.private, _ = private.(crypto.Signer)
		}
		if err != nil || k.private == nil {
			return nil, im.Wrap("oidcop: read signing key "+rec.ID+" of "+string(t), err)
		}
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b *signingKey) int {
		return cmp.Or(cmp.Compare(b.BornAge, a.BornAge), cmp.Compare(a.KeyID, b.KeyID))
	})
	return out, nil
}

// published returns the public keys that tokens may still be signed with.
func (r *keyring) published(ctx context.Context, t im.TenantID) ([]op.Key, error) {
	// One key of each algorithm is there before anybody asks for it by a token, so
	// that a client's first look at the keys is enough.
	for _, alg := range []jose.SignatureAlgorithm{algES256, algRS256} {
		if _, err := r.signer(ctx, t, alg); err != nil {
			return nil, err
		}
	}
	keys, err := r.all(ctx, t)
	if err != nil {
		return nil, err
	}
	age := r.age()
	var out []op.Key
	for _, k := range keys {
		if age-k.BornAge < keyLife+keyShown {
			out = append(out, publicKey{k})
		}
	}
	return out, nil
}

// RotateKeys makes new signing keys for a tenant and forgets the old ones at once:
// what they signed is not believed any more. It is for a box whose data somebody
// may have read; without it keys change by themselves.
func (p *Provider) RotateKeys(ctx context.Context, t im.TenantID) error {
	p.keys.making.Lock()
	defer p.keys.making.Unlock()
	old, err := p.keys.all(ctx, t)
	if err != nil {
		return err
	}
	for _, alg := range []jose.SignatureAlgorithm{algES256, algRS256} {
		if _, err := p.keys.add(ctx, t, alg); err != nil {
			return err
		}
	}
	err = p.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		for _, k := range old {
			tx.Delete(store.RecordOIDCKey, k.KeyID)
		}
		return nil
	})
	p.log.Info("signing keys rotated", "tenant", string(t), "forgotten", len(old))
	return im.Wrap("oidcop: forget the signing keys of "+string(t), err)
}

// randomID draws n bytes as base32 without padding.
func randomID(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b)
}
