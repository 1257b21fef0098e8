package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/update"
)

// Names of the files of sums, which are not summed themselves.
const (
	sumsName      = "SHA256SUMS"
	signatureName = sumsName + ".minisig"
	publicName    = sumsName + ".pub"
)

// writeSums writes the sums of all files in dir, as sha256sum -c reads them, and
// signs them with the key that signs update bundles, as minisign -V reads it.
func writeSums(dir, key string) error {
	var names []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if !slices.Contains([]string{sumsName, signatureName, publicName}, name) {
			names = append(names, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		return err
	}
	slices.Sort(names)
	var sums bytes.Buffer
	for _, name := range names {
		_, sum, err := measure(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%s  %s\n", sum, name)
	}
	if err := os.WriteFile(filepath.Join(dir, sumsName), sums.Bytes(), 0o644); err != nil {
		return err
	}
	if key == "" {
		return nil
	}
	text, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	secret, err := update.ParseSecret(text)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	public, signature := minisign(secret, sums.Bytes(), "Pipit release, file: "+sumsName)
	if err := os.WriteFile(filepath.Join(dir, publicName), []byte(public), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, signatureName), []byte(signature), 0o644)
}

// minisign signs text in the form of the program minisign (its legacy form, in which
// the text itself is signed) and returns the files of the public key and of the
// signature. comment is signed too.
func minisign(secret ed25519.PrivateKey, text []byte, comment string) (public, signature string) {
	key := secret.Public().(ed25519.PublicKey)
	id, err := hex.DecodeString(update.ID(key))
	if err != nil {
		panic("update.ID is hexadecimal: " + err.Error())
	}
	head := append([]byte("Ed"), id...)
	encode := func(parts ...[]byte) string { return base64.StdEncoding.EncodeToString(bytes.Join(parts, nil)) }
	own := ed25519.Sign(secret, text)
	all := ed25519.Sign(secret, append(slices.Clone(own), comment...))
	public = "untrusted comment: minisign public key of Pipit's releases, update key " + update.ID(key) + "\n" + encode(head, key) + "\n"
	signature = strings.Join([]string{
		"untrusted comment: signature with Pipit's update key " + update.ID(key), encode(head, own),
		"trusted comment: " + comment, encode(all), "",
	}, "\n")
	return public, signature
}
