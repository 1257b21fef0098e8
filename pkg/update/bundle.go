package update

import (
	"archive/zip"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// A bundle is a ZIP file of exactly these: manifest.json, manifest.sig, and the
// files that the manifest names. The signature is over the manifest's bytes as
// they stand, after a line that keeps it from being a signature of anything else.
const (
	manifestName  = "manifest.json"
	signatureName = "manifest.sig"
	signedPrefix  = "pipit update manifest 1\n"
	bundleFormat  = 1

	maxManifestBytes  = 64 << 10
	maxSignatureBytes = 4 << 10
	maxFileBytes      = 256 << 20
	maxBundleBytes    = 2 * maxFileBytes
)

// Programs are the files that a bundle must have.
var Programs = []string{"pipitd", "pipit"}

// Manifest says what a bundle is.
type Manifest struct {
	Bundle      int       `json:"pipit_bundle"` // 1
	Version     string    `json:"version"`
	Built       time.Time `json:"built"`        // for people
	Arch        string    `json:"arch"`         // GOARCH, "arm" being ARMv7
	StoreFormat int       `json:"store_format"` // the format that it writes, and reads with all older ones
	Notes       string    `json:"notes,omitempty"`
	Files       []File    `json:"files"`
}

// File is one program of a bundle.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func (m *Manifest) file(name string) (File, bool) {
	i := slices.IndexFunc(m.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		return File{}, false
	}
	return m.Files[i], true
}

func damagedBundle(cause error) error {
	return &im.Error{Kind: im.Invalid, Op: "read bundle", Cause: cause,
		Message: "The bundle is damaged or no Pipit bundle; nothing was changed. Copy it again: " + cause.Error() + "."}
}

// parseManifest reads a manifest strictly: what it does not know may matter.
func parseManifest(b []byte) (Manifest, error) {
	var m Manifest
	var head struct {
		Bundle int `json:"pipit_bundle"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return m, damagedBundle(errors.New("its manifest is no JSON"))
	}
	if head.Bundle != bundleFormat {
		return m, im.E(im.Invalid, "The bundle has format %d and this program knows %d. Update to a version between the two first.", head.Bundle, bundleFormat)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&m); err != nil {
		return m, damagedBundle(fmt.Errorf("its manifest: %v", err))
	}
	if err := CheckVersion(m.Version); err != nil {
		return m, err
	}
	if m.StoreFormat < 1 {
		return m, damagedBundle(errors.New("its manifest names no store format"))
	}
	for _, name := range Programs {
		if _, ok := m.file(name); !ok {
			return m, damagedBundle(fmt.Errorf("its manifest has no %s", name))
		}
	}
	for i, f := range m.Files {
		sum, err := hex.DecodeString(f.SHA256)
		if !slices.Contains(Programs, f.Name) || f.Size < 1 || f.Size > maxFileBytes || err != nil || len(sum) != sha256.Size {
			return m, damagedBundle(fmt.Errorf("its manifest describes a file %q that can't be", f.Name))
		}
		if slices.ContainsFunc(m.Files[:i], func(o File) bool { return o.Name == f.Name }) {
			return m, damagedBundle(fmt.Errorf("its manifest names %s twice", f.Name))
		}
	}
	return m, nil
}

func sign(manifest []byte, keys []ed25519.PrivateKey) []byte {
	var out bytes.Buffer
	for _, k := range keys {
		sig := ed25519.Sign(k, append([]byte(signedPrefix), manifest...))
		fmt.Fprintf(&out, "%s %s\n", ID(k.Public().(ed25519.PublicKey)), base64.StdEncoding.EncodeToString(sig))
	}
	return out.Bytes()
}

// verify returns the key that signed, or says whose bundle it is.
func verify(manifest, signature []byte, keys []PublicKey) (PublicKey, error) {
	var ids []string
	for line := range strings.Lines(string(signature)) {
		id, text, _ := strings.Cut(strings.TrimSpace(line), " ")
		sig, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(sig) != ed25519.SignatureSize || len(id) != 16 || len(ids) == 8 {
			return PublicKey{}, damagedBundle(errors.New("its signature can't be read"))
		}
		ids = append(ids, id)
		for _, k := range keys {
			if ID(k.Key) != id {
				continue
			}
			if !ed25519.Verify(k.Key, append([]byte(signedPrefix), manifest...), sig) {
				return PublicKey{}, im.E(im.Forbidden, "The bundle's signature is wrong: it was changed after key %s signed it. Nothing was changed here. Get it anew from where it was made.", id)
			}
			return k, nil
		}
	}
	if len(ids) == 0 {
		return PublicKey{}, im.E(im.Forbidden, "The bundle is not signed. Nothing was changed.")
	}
	return PublicKey{}, im.E(im.Forbidden, "This bundle was signed by a key that this box doesn't know: %s. If you trust whoever made it, put the public key into /etc/pipit/keys/ (or keys/ in the data directory) as a file that ends in .pub. `pipit update keys` lists those it knows.", strings.Join(ids, ", "))
}

// Source is what a bundle is made of.
type Source struct {
	Manifest Manifest          // Files are filled in
	Paths    map[string]string // name of a program → where it is
	Keys     []ed25519.PrivateKey
}

// Make writes a bundle. The same source makes the same bytes.
func Make(w io.Writer, s Source) (Manifest, error) {
	m := s.Manifest
	m.Bundle, m.Files = bundleFormat, nil
	m.Built = m.Built.UTC().Truncate(time.Second)
	for _, name := range Programs {
		f, err := describeFile(name, s.Paths[name])
		if err != nil {
			return m, &im.Error{Kind: im.Invalid, Op: "make bundle", Cause: err, Message: fmt.Sprintf("%s can't be put into a bundle: %v", name, err)}
		}
		m.Files = append(m.Files, f)
	}
	manifest, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, im.Wrap("make bundle", err)
	}
	manifest = append(manifest, '\n')
	if _, err := parseManifest(manifest); err != nil {
		return m, err
	}
	if len(s.Keys) == 0 {
		return m, im.E(im.Invalid, "A bundle needs a key to be signed with. `pipit update keygen` makes one.")
	}
	z := zip.NewWriter(w)
	put := func(name string, method uint16, fill func(io.Writer) error) error {
		h := &zip.FileHeader{Name: name, Method: method, Modified: m.Built}
		h.SetMode(0o644)
		if slices.Contains(Programs, name) {
			h.SetMode(0o755)
		}
		out, err := z.CreateHeader(h)
		if err != nil {
			return err
		}
		return fill(out)
	}
	text := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	err = put(manifestName, zip.Store, text(manifest))
	if err == nil {
		err = put(signatureName, zip.Store, text(sign(manifest, s.Keys)))
	}
	for _, f := range m.Files {
		if err == nil {
			err = put(f.Name, zip.Deflate, func(w io.Writer) error { return copyFile(w, s.Paths[f.Name]) })
		}
	}
	return m, im.Wrap("make bundle", errors.Join(err, z.Close()))
}

func describeFile(name, path string) (File, error) {
	h := sha256.New()
	n := &counter{w: h}
	if err := copyFile(n, path); err != nil {
		return File{}, err
	}
	return File{Name: name, Size: n.n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return errors.Join(err, f.Close())
}

type counter struct {
	w io.Writer
	n int64
}

// Write counts what it passes on.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// bundle is one that was opened and whose manifest is signed by a known key. Its
// programs are checked while they are unpacked.
type bundle struct {
	Manifest
	SignedBy  PublicKey
	manifest  []byte
	signature []byte
	files     map[string]*zip.File
}

// openBundle reads a bundle's manifest and checks who signed it. r must stay
// readable while the programs are unpacked.
func openBundle(r io.ReaderAt, size int64, keys []PublicKey) (*bundle, error) {
	if size > maxBundleBytes {
		return nil, damagedBundle(fmt.Errorf("it is larger than %d MiB", maxBundleBytes>>20))
	}
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, damagedBundle(errors.New("it is no complete ZIP file"))
	}
	b := &bundle{files: map[string]*zip.File{}}
	known := append([]string{manifestName, signatureName}, Programs...)
	for _, f := range z.File {
		if !slices.Contains(known, f.Name) || b.files[f.Name] != nil {
			return nil, damagedBundle(fmt.Errorf("it holds %.80q, which no bundle has, or has once", f.Name))
		}
		b.files[f.Name] = f
	}
	if b.manifest, err = b.small(manifestName, maxManifestBytes); err != nil {
		return nil, err
	}
	if b.signature, err = b.small(signatureName, maxSignatureBytes); err != nil {
		return nil, err
	}
	// Who says so comes before what it says.
	if b.SignedBy, err = verify(b.manifest, b.signature, keys); err != nil {
		return nil, err
	}
	if b.Manifest, err = parseManifest(b.manifest); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *bundle) small(name string, most int64) ([]byte, error) {
	f := b.files[name]
	if f == nil {
		return nil, damagedBundle(fmt.Errorf("it has no %s", name))
	}
	r, err := f.Open()
	if err != nil {
		return nil, damagedBundle(err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, damagedBundle(err)
	}
	if int64(len(text)) > most {
		return nil, damagedBundle(fmt.Errorf("its %s is too long", name))
	}
	return text, nil
}

// unpack writes one program to w. An error means that w got something else than
// what the manifest promises.
func (b *bundle) unpack(w io.Writer, f File) error {
	z := b.files[f.Name]
	if z == nil {
		return damagedBundle(fmt.Errorf("it has no %s", f.Name))
	}
	r, err := z.Open()
	if err != nil {
		return damagedBundle(err)
	}
	defer r.Close()
	h := sha256.New()
	src := &source{r: io.LimitReader(r, f.Size+1)}
	n, err := io.Copy(io.MultiWriter(w, h), src)
	switch {
	case src.err != nil:
		return damagedBundle(fmt.Errorf("%s: %v", f.Name, src.err))
	case err != nil:
		return err // the disk's
	case n != f.Size || hex.EncodeToString(h.Sum(nil)) != f.SHA256:
		return damagedBundle(fmt.Errorf("%s is not what the manifest says", f.Name))
	}
	return nil
}

// source tells a failing bundle from a failing disk.
type source struct {
	r   io.Reader
	err error
}

// Read notes what was wrong with the source.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}
