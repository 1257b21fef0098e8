package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/client"
)

// measureTLS takes the memory of idle sessions over TLS, by the difference that
// the second thousand makes.
func measureTLS(ctx context.Context, b *bench) (err error) {
	cert, key, roots, err := certificate(b.dir)
	if err != nil {
		return err
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	s, err := b.fresh(ctx, "--listen-tls", addr, "--tls-cert", cert, "--tls-key", key)
	if err != nil {
		return err
	}
	var clients []*client.Client
	defer func() {
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(func() { c.Close() })
		}
		wg.Wait()
		err = errors.Join(err, s.stop())
	}()
	if _, err := s.box.AddTenant(ctx, "tls", "TLS"); err != nil {
		return err
	}
	const each = 1000
	var rss [3]int64
	for round := range rss {
		in := apiclient.BulkPeople{Tokens: true}
		for i := range each {
			in.Users = append(in.Users, apiclient.NewPerson{Username: fmt.Sprintf("user%d-%d", round, i), Role: "member"})
		}
		made, err := s.box.AddUsers(ctx, "tls", in)
		if err != nil {
			return err
		}
		for _, u := range made {
			c := client.New(client.Options{URL: "https://" + addr, Token: u.Token, Name: "load", TLS: &tls.Config{RootCAs: roots, ServerName: "localhost"}})
			clients = append(clients, c)
			if err := c.Wait(ctx); err != nil {
				return err
			}
		}
		time.Sleep(3 * time.Second)
		if _, err := s.heap(ctx); err != nil { // collects: handshakes leave much behind
			return err
		}
		time.Sleep(3 * time.Second)
		if rss[round], err = procStatus(s.pid(), "VmRSS"); err != nil {
			return err
		}
	}
	b.saw("tls", float64(rss[2]-rss[0])/(2*each)/1000, "the second and third thousand, after a collection; RSS %.1f, %.1f, %.1f MB; crypto/tls, no kernel TLS",
		float64(rss[0])/mb, float64(rss[1])/mb, float64(rss[2])/mb)
	return nil
}

// certificate makes a certificate for localhost and writes it and its key down.
func certificate(dir string) (cert, key string, roots *x509.CertPool, err error) {
	fail := func(err error) (string, string, *x509.CertPool, error) { return "", "", nil, err }
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(30 * 24 * time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return fail(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return fail(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(cert, public, 0o600); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		return fail(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(public)
	return cert, key, roots, nil
}
