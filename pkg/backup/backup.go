// Package backup is the encrypted backup of a whole box in one file: what the
// store holds, and the few files beside it that devices rely on, the authority
// they trust first of all.
//
// # The file
//
// age(zstd(tar)). Encrypted with age (age-encryption.org/v1) to the recipient
// that the technician's identity belongs to; the box keeps the recipient alone and
// can't read its own backups later. In the tar, in this order:
//
//	pipit-backup.json   Meta
//	files/NAME          files of the data directory, small
//	settings.yaml       the server's settings, for whoever compares
//	store/NNNNNN        the store's snapshot (package snapshot) in pieces
//
// # Verified by opening it
//
// Take encrypts to a second recipient as well, whose identity exists in this
// process's memory only and is gone with it. When the file is on stable storage,
// Take drops it from the page cache, reads it back from the medium, decrypts it
// with that identity, and reads it to the end: age's and zstd's checksums, the
// tar's form, number and SHA-256 of the store's records. Only then does the file
// get its name. What that can't show is that the technician still has his
// identity, and that a restored store opens; the first is his, the second is
// tested with the real programs.
//
// # Which ones stay
//
// Of each folder: the newest of each of the last 7 days that have one, of the last
// 4 weeks (ISO 8601), of the last 12 months; the newest always. Where the card is
// short, the oldest go first and the newest stays; if that is not enough, the
// backup is refused, long before messages are.
//
// It imports nothing of ours but the nouns and the form of a snapshot; what the
// store is, it is told as functions. Calls block on the disk. Of two that
// Take to one folder at once the second is refused.
package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/snapshot"
)

const (
	format     = 1
	pieceBytes = 1 << 20
	// maxFileBytes bounds a file beside the store, maxFiles their number.
	maxFileBytes = 1 << 20
	maxFiles     = 256

	metaName     = "pipit-backup.json"
	settingsName = "settings.yaml"
	filesPrefix  = "files/"
	storePrefix  = "store/"
)

// Meta says what a backup is of.
type Meta struct {
	Format      int       `json:"pipit_backup"`
	Version     string    `json:"version"` // that made it
	Host        string    `json:"host"`
	Made        time.Time `json:"made"`
	StoreFormat int       `json:"store_format"`
}

// Content is what goes into a backup.
type Content struct {
	Meta Meta
	// DataDir and Names: files and folders in it, without the store's. One that
	// does not exist is left out.
	DataDir  string
	Names    []string
	Settings string // path of the server's settings, "" for none
	// Store writes the store's snapshot.
	Store func(context.Context, io.Writer) error
}

// Write writes an encrypted backup to w.
func Write(ctx context.Context, w io.Writer, c Content, to ...age.Recipient) error {
	enc, err := age.Encrypt(w, to...)
	if err != nil {
		return im.Wrap("encrypt backup", err)
	}
	z, err := zstd.NewWriter(enc, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	if err != nil {
		return im.Wrap("compress backup", err)
	}
	t := &archive{w: tar.NewWriter(z), at: c.Meta.Made}
	err = t.all(ctx, c)
	return im.Wrap("write backup", errors.Join(err, t.w.Close(), z.Close(), enc.Close()))
}

// archive writes the tar.
type archive struct {
	w  *tar.Writer
	at time.Time
}

func (t *archive) all(ctx context.Context, c Content) error {
	c.Meta.Format = format
	meta, err := json.Marshal(c.Meta)
	if err != nil {
		return err
	}
	if err := t.put(metaName, 0o600, meta); err != nil {
		return err
	}
	n := 0
	for _, name := range c.Names {
		if err := t.tree(c.DataDir, name, &n); err != nil {
			return err
		}
	}
	if c.Settings != "" {
		b, err := os.ReadFile(c.Settings)
		if err == nil {
			err = t.put(settingsName, 0o600, b)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	p := &pieces{t: t}
	if err := c.Store(ctx, p); err != nil {
		return err
	}
	return p.flush()
}

func (t *archive) put(name string, mode fs.FileMode, b []byte) error {
	if err := t.w.WriteHeader(&tar.Header{Name: name, Mode: int64(mode.Perm()), Size: int64(len(b)), ModTime: t.at, Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err := t.w.Write(b)
	return err
}

// tree puts a file, or all files of a folder, into the archive.
func (t *archive) tree(dir, name string, n *int) error {
	return filepath.WalkDir(filepath.Join(dir, name), func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if *n++; *n > maxFiles || fi.Size() > maxFileBytes {
			return fmt.Errorf("%s is too large for a backup, or one of too many", p)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		return t.put(filesPrefix+filepath.ToSlash(rel), fi.Mode(), b)
	})
}

// pieces cuts a stream whose length nobody knows into entries of the tar.
type pieces struct {
	t   *archive
	buf []byte
	n   int
}

// Write gathers whole pieces.
func (p *pieces) Write(b []byte) (int, error) {
	whole := len(b)
	for len(b) > 0 {
		room := min(pieceBytes-len(p.buf), len(b))
		p.buf = append(p.buf, b[:room]...)
		b = b[room:]
		if len(p.buf) == pieceBytes {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return whole, nil
}

func (p *pieces) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	err := p.t.put(fmt.Sprintf("%s%06d", storePrefix, p.n), 0o600, p.buf)
	p.n, p.buf = p.n+1, p.buf[:0]
	return err
}

// File is a small file of a backup, its name with slashes and from the data
// directory.
type File struct {
	Name string
	Mode fs.FileMode
	Data []byte
}

// Parts are a backup that was read. Files and Settings are to be written after
// the store took everything.
type Parts struct {
	Meta     Meta
	Files    []File
	Settings []byte
}

// Encrypted says whether head, the first bytes of a file, are those of an
// encrypted backup.
func Encrypted(head []byte) bool { return bytes.HasPrefix(head, []byte("age-encryption.org/")) }

// Read decrypts a backup and hands the store's snapshot to store, which must read
// it to its end. Nothing that store got may be believed before Read returned
// without an error.
func Read(r io.Reader, store func(Meta, io.Reader) error, identities ...age.Identity) (Parts, error) {
	var p Parts
	plain, err := age.Decrypt(r, identities...)
	var wrong *age.NoIdentityMatchError
	switch {
	case errors.As(err, &wrong):
		return p, &im.Error{Kind: im.Forbidden, Op: "decrypt backup", Cause: err, Message: "This identity does not open this backup: it was made for another key. Try the identity that was in use when it was made."}
	case err != nil:
		return p, damaged(err)
	}
	z, err := zstd.NewReader(plain, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return p, damaged(err)
	}
	defer z.Close()
	t := tar.NewReader(z)
	h, err := t.Next()
	if err != nil || h.Name != metaName {
		return p, damaged(errors.Join(errors.New("it does not begin as a backup does"), err))
	}
	if err := small(t, h, &p.Meta); err != nil {
		return p, err
	}
	if p.Meta.Format != format {
		return p, im.E(im.Invalid, "The backup has format %d and this program knows %d. Restore it with the version that made it: %s.", p.Meta.Format, format, p.Meta.Version)
	}
	for {
		if h, err = t.Next(); err != nil {
			return p, damaged(fmt.Errorf("no store in it: %w", err))
		}
		if strings.HasPrefix(h.Name, storePrefix) {
			break
		}
		b, err := io.ReadAll(io.LimitReader(t, maxFileBytes+1))
		if err != nil {
			return p, damaged(err)
		}
		name, file := strings.CutPrefix(h.Name, filesPrefix)
		switch {
		case h.Typeflag != tar.TypeReg || len(b) > maxFileBytes || len(p.Files) == maxFiles:
			return p, damaged(fmt.Errorf("%.80q is none of ours", h.Name))
		case h.Name == settingsName:
			p.Settings = b
		case file && name != "" && path.Clean("/" + name)[1:] == name:
			p.Files = append(p.Files, File{Name: name, Mode: fs.FileMode(h.Mode) & 0o755, Data: b})
		default:
			return p, damaged(fmt.Errorf("%.80q is none of ours", h.Name))
		}
	}
	s := &joined{t: t, h: h}
	if err := store(p.Meta, s); err != nil {
		return p, err
	}
	// What follows must be the end: of the tar, of zstd's frame, of age's stream.
	if n, err := io.Copy(io.Discard, s); err != nil || n > 0 {
		return p, damaged(errors.Join(errors.New("something follows the store"), err))
	}
	if _, err := io.Copy(io.Discard, z); err != nil {
		return p, damaged(err)
	}
	return p, nil
}

func small(t *tar.Reader, h *tar.Header, v any) error {
	if h.Size > maxFileBytes {
		return damaged(fmt.Errorf("%s is too long", h.Name))
	}
	if err := json.NewDecoder(t).Decode(v); err != nil {
		return damaged(err)
	}
	return nil
}

func damaged(cause error) error {
	return &im.Error{Kind: im.Invalid, Op: "read backup", Cause: cause, Message: "The backup is damaged or cut short; nothing was restored. Take an older one."}
}

// joined reads the pieces of the store as one stream.
type joined struct {
	t *tar.Reader
	h *tar.Header
	n int
}

// Read returns io.EOF behind the last piece only.
func (j *joined) Read(b []byte) (int, error) {
	for {
		if j.h == nil {
			return 0, io.EOF
		}
		if want := fmt.Sprintf("%s%06d", storePrefix, j.n); j.h.Name != want || j.h.Size > pieceBytes {
			return 0, damaged(fmt.Errorf("%.80q stands where %s should", j.h.Name, want))
		}
		n, err := j.t.Read(b)
		if n > 0 || err == nil {
			return n, nil
		}
		if !errors.Is(err, io.EOF) {
			return 0, damaged(err)
		}
		j.n++
		j.h, err = j.t.Next()
		if errors.Is(err, io.EOF) {
			j.h = nil
		} else if err != nil {
			return 0, damaged(err)
		}
	}
}

// Check reads a whole backup and believes nothing: every checksum there is.
func Check(r io.Reader, identities ...age.Identity) (Meta, uint64, error) {
	var records uint64
	p, err := Read(r, func(_ Meta, store io.Reader) (err error) {
		records, err = snapshot.Check(store)
		return err
	}, identities...)
	return p.Meta, records, err
}
