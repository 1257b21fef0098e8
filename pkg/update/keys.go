package update

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
)

// The first words of key files. Each is one line: the word, the key in base64
// (32 bytes: the public key, or the seed of RFC 8032 §5.1.5), a comment.
const (
	publicWord = "pipit-update-public"
	secretWord = "pipit-update-secret"

	maxKeyFileBytes = 4 << 10
)

// PublicKey is a key whose bundles a box takes.
type PublicKey struct {
	Key     ed25519.PublicKey
	Comment string
	File    string // where it was read
}

// ID names a key for people: the first 8 bytes of its SHA-256 in hexadecimal.
func ID(k ed25519.PublicKey) string {
	sum := sha256.Sum256(k)
	return hex.EncodeToString(sum[:8])
}

// GenerateKey makes a key pair and returns the contents of its two files.
func GenerateKey(comment string) (public, secret []byte, id string, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, "", im.Wrap("generate update key", err)
	}
	comment = strings.Join(strings.Fields(comment), " ")
	line := func(word string, b []byte) []byte {
		return []byte(strings.TrimSpace(word+" "+base64.StdEncoding.EncodeToString(b)+" "+comment) + "\n")
	}
	return line(publicWord, pub), line(secretWord, priv.Seed()), ID(pub), nil
}

// ParseSecret reads a secret key file.
func ParseSecret(b []byte) (ed25519.PrivateKey, error) {
	seed, _, err := parseKey(b, secretWord)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// ParsePublic reads a public key file.
func ParsePublic(b []byte) (PublicKey, error) {
	key, comment, err := parseKey(b, publicWord)
	return PublicKey{Key: key, Comment: comment}, err
}

func parseKey(b []byte, word string) (key []byte, comment string, err error) {
	f := strings.SplitN(strings.TrimSpace(string(b)), " ", 3)
	if len(b) > maxKeyFileBytes || len(f) < 2 || f[0] != word {
		return nil, "", im.E(im.Invalid, "That is no key file: it does not begin with %q. `pipit update keygen` makes one.", word)
	}
	key, err = base64.StdEncoding.Strict().DecodeString(f[1])
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, "", im.E(im.Invalid, "The key file is damaged: %q is not followed by 32 bytes in base64.", word)
	}
	if len(f) == 3 {
		comment = f[2]
	}
	return key, comment, nil
}

// loadKeys reads all *.pub of the folders. A file that is no key, or that
// somebody else than the owner of this program could have written, is left out
// and said; a folder that does not exist is no error.
func loadKeys(dirs []string, owner owners) (keys []PublicKey, refused []string) {
	for _, dir := range dirs {
		names, err := filepath.Glob(filepath.Join(dir, "*.pub"))
		if err != nil {
			refused = append(refused, err.Error())
			continue
		}
		slices.Sort(names)
		for _, name := range names {
			k, err := loadKey(name, owner)
			if err != nil {
				refused = append(refused, name+": "+text(err))
				continue
			}
			keys = append(keys, k)
		}
	}
	return keys, refused
}

func loadKey(name string, owner owners) (PublicKey, error) {
	f, err := os.Open(name)
	if err != nil {
		return PublicKey{}, err
	}
	defer f.Close()
	if err := owner.check(f); err != nil {
		return PublicKey{}, err
	}
	b := make([]byte, maxKeyFileBytes+1)
	n, err := f.Read(b)
	if err != nil {
		return PublicKey{}, err
	}
	k, err := ParsePublic(b[:n])
	k.File = name
	return k, err
}

// owners says whose files are believed.
type owners struct{ uid uint32 }

// check refuses a file that somebody else than root or the owner of this
// program could have written.
func (o owners) check(f *os.File) error {
	uid, mode, err := ownerOf(f)
	if err != nil {
		return err
	}
	if !mode.IsRegular() {
		return errors.New("it is no regular file")
	}
	if uid != 0 && uid != o.uid || mode.Perm()&0o022 != 0 {
		return fmt.Errorf("it could have been written by somebody else than the owner of this program (mode %04o, owner %d): chown it to that owner and chmod go-w", mode.Perm(), uid)
	}
	return nil
}

// text is the sentence of an error for people.
func text(err error) string {
	var e *im.Error
	var p *fs.PathError
	switch {
	case errors.As(err, &e) && e.Message != "":
		return e.Message
	case errors.As(err, &p):
		return p.Err.Error()
	}
	return err.Error()
}
