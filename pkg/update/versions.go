package update

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/im"
)

// Versions are the versions of one box.
type Versions struct {
	data    string
	factory string
	format  func() (int, error)
	keyDirs []string
	arch    string
	owner   owners
	now     func() time.Time
	disk    disk
}

// Options say what is known about the box.
type Options struct {
	DataDir string
	// Factory is the version of the program that runs Launch, or of the tool in
	// the same package.
	Factory string
	// Format returns the format of the data in DataDir, 0 if there are none yet.
	Format func() (int, error)
	// KeyDirs are looked into beside DATA/keys; nil means SystemKeyDirs.
	KeyDirs []string
}

// Open returns the versions in a data directory. It reads nothing yet.
func Open(o Options) *Versions {
	if o.KeyDirs == nil {
		o.KeyDirs = SystemKeyDirs
	}
	return &Versions{data: o.DataDir, factory: o.Factory, format: o.Format, arch: runtime.GOARCH,
		keyDirs: append(append([]string{}, o.KeyDirs...), filepath.Join(o.DataDir, KeysName)),
		owner:   programOwner(), now: time.Now, disk: osDisk{}}
}

func (v *Versions) path(version string, names ...string) string {
	return filepath.Join(append([]string{v.data, VersionsName, version}, names...)...)
}

// Keys returns the keys whose bundles this box takes, and why files that look
// like keys are not among them.
func (v *Versions) Keys() (keys []PublicKey, refused []string) { return loadKeys(v.keyDirs, v.owner) }

// State returns which version is chosen. A damaged update.json is the factory
// version, with an error that says so.
func (v *Versions) State() (State, error) {
	s, err := readState(v.data)
	if err != nil {
		return State{}, &im.Error{Kind: im.Internal, Op: "read update.json", Cause: err,
			Message: fmt.Sprintf("%s can't be read (%s), so the factory version runs. Install the update again.", filepath.Join(v.data, StateName), text(err))}
	}
	return s, nil
}

// List returns the versions that are there, oldest first, the factory version
// not among them.
func (v *Versions) List() ([]Manifest, error) {
	entries, err := os.ReadDir(filepath.Join(v.data, VersionsName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, im.Wrap("list versions", err)
	}
	var list []Manifest
	for _, e := range entries {
		if !e.IsDir() || CheckVersion(e.Name()) != nil {
			continue
		}
		m, err := v.manifest(e.Name())
		if err != nil {
			continue // Check says what is wrong with it when it is wanted
		}
		at := len(list)
		for at > 0 && Compare(m.Version, list[at-1].Version) < 0 {
			at--
		}
		list = append(list[:at], append([]Manifest{m}, list[at:]...)...)
	}
	return list, nil
}

// manifest reads the manifest of a version that was unpacked, without judging it.
func (v *Versions) manifest(version string) (Manifest, error) {
	b, err := readSmall(v.path(version, manifestName), maxManifestBytes)
	if err != nil {
		return Manifest{}, err
	}
	return parseManifest(b)
}

func readSmall(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// open checks a version that was unpacked and returns one of its programs,
// opened, so that what was checked is what runs. With sum, its SHA-256 is
// compared too.
func (v *Versions) open(version, program string, sum bool) (_ *os.File, m Manifest, err error) {
	manifest, err := readSmall(v.path(version, manifestName), maxManifestBytes)
	if err != nil {
		return nil, m, err
	}
	signature, err := readSmall(v.path(version, signatureName), maxSignatureBytes)
	if err != nil {
		return nil, m, err
	}
	keys, _ := v.Keys()
	if _, err := verify(manifest, signature, keys); err != nil {
		return nil, m, err
	}
	if m, err = parseManifest(manifest); err != nil {
		return nil, m, err
	}
	if m.Version != version {
		return nil, m, fmt.Errorf("its manifest is that of %s", m.Version)
	}
	f, err := os.Open(v.path(version, program))
	if err != nil {
		return nil, m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := v.owner.check(f); err != nil {
		return nil, m, err
	}
	want, _ := m.file(program)
	if !sum {
		return f, m, nil
	}
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return nil, m, err
	}
	if n != want.Size || hex.EncodeToString(h.Sum(nil)) != want.SHA256 {
		return nil, m, errors.New("it was damaged on the card")
	}
	return f, m, nil
}

// Installed is what Install did.
type Installed struct {
	Manifest
	SignedBy string // the key's id and comment
	Already  bool   // it was there
}

// Install checks a bundle and puts its version beside the others. It does not
// choose it: Activate does. running is the version that runs now; an older one is
// refused without downgrade.
func (v *Versions) Install(name, running string, downgrade bool) (Installed, error) {
	f, err := os.Open(name)
	if err != nil {
		return Installed{}, &im.Error{Kind: im.Invalid, Op: "install update", Cause: err, Message: fmt.Sprintf("The bundle %s can't be read: %s.", name, text(err))}
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return Installed{}, im.E(im.Invalid, "%s is no file.", name)
	}
	keys, refused := v.Keys()
	if len(keys) == 0 {
		hint := ""
		if len(refused) > 0 {
			hint = " What is there can't be used: " + strings.Join(refused, "; ")
		}
		return Installed{}, im.E(im.Forbidden, "This box knows no key, so it takes no bundle. Put the public key of whoever makes your bundles into /etc/pipit/keys/ as a file that ends in .pub.%s", hint)
	}
	b, err := openBundle(f, fi.Size(), keys)
	if err != nil {
		return Installed{}, err
	}
	if err := v.fits(&b.Manifest, running, downgrade); err != nil {
		return Installed{}, err
	}
	out := Installed{Manifest: b.Manifest, SignedBy: strings.TrimSpace(ID(b.SignedBy.Key) + " " + b.SignedBy.Comment)}
	if out.Already, err = v.unpack(b); err != nil {
		return Installed{}, err
	}
	return out, nil
}

// fits says whether a version may run here.
func (v *Versions) fits(m *Manifest, running string, downgrade bool) error {
	if m.Arch != v.arch {
		return im.E(im.Invalid, "The bundle is for %s and this box is %s. Get the bundle for %s.", m.Arch, v.arch, v.arch)
	}
	have, err := v.format()
	if err != nil {
		return err
	}
	if m.StoreFormat < have {
		return im.E(im.Invalid, "Version %s can't read this box's data: it knows formats up to %d, and the data have format %d. Restore a backup that was made with a version as old as that on a fresh card instead.", m.Version, m.StoreFormat, have)
	}
	if Compare(m.Version, running) < 0 && !downgrade {
		return im.E(im.Invalid, "Version %s is older than %s, which runs now. Say --downgrade if that is what you want.", m.Version, running)
	}
	return nil
}

// unpack puts the version into its folder, whole or not at all.
func (v *Versions) unpack(b *bundle) (already bool, err error) {
	root := filepath.Join(v.data, VersionsName)
	if err := v.disk.Mkdir(root, 0o755); err == nil {
		err = v.disk.SyncDir(v.data)
		if err != nil {
			return false, noRoom("make "+root, err)
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return false, noRoom("make "+root, err)
	}
	unlock, err := lock(root)
	if err != nil {
		return false, err
	}
	defer unlock()
	if err := v.sweep(root); err != nil {
		return false, noRoom("sweep "+root, err)
	}
	if f, _, err := v.open(b.Version, Programs[0], true); err == nil {
		same, rerr := readSmall(v.path(b.Version, manifestName), maxManifestBytes)
		f.Close()
		if rerr == nil && string(same) == string(b.manifest) {
			return true, nil
		}
	}
	st, err := readState(v.data)
	if err == nil && st.Current == b.Version && st.Status == Good {
		if f, _, err := v.open(b.Version, Programs[0], true); err == nil {
			f.Close()
			return false, im.E(im.Exists, "Another build of version %s runs already. A bundle needs a version of its own.", b.Version)
		}
	}
	tmp := filepath.Join(root, ".new-"+b.Version)
	if err := v.fill(tmp, b); err != nil {
		return false, errors.Join(err, v.disk.RemoveAll(tmp))
	}
	// What is in the way is damaged, or another build that does not run.
	if err := v.disk.RemoveAll(v.path(b.Version)); err != nil {
		return false, noRoom("replace "+b.Version, err)
	}
	if err := v.disk.Rename(tmp, v.path(b.Version)); err != nil {
		return false, noRoom("install "+b.Version, err)
	}
	if err := v.disk.SyncDir(root); err != nil {
		return false, noRoom("install "+b.Version, err)
	}
	return false, nil
}

func (v *Versions) fill(dir string, b *bundle) error {
	if err := v.disk.Mkdir(dir, 0o755); err != nil {
		return noRoom("make "+dir, err)
	}
	put := func(name string, mode fs.FileMode, fill func(io.Writer) error) error {
		err := v.disk.Write(filepath.Join(dir, name), mode, fill)
		var e *im.Error
		if err == nil || errors.As(err, &e) {
			return err
		}
		return noRoom("write "+name, err)
	}
	text := func(b []byte) func(io.Writer) error {
		return func(w io.Writer) error { _, err := w.Write(b); return err }
	}
	if err := put(manifestName, 0o644, text(b.manifest)); err != nil {
		return err
	}
	if err := put(signatureName, 0o644, text(b.signature)); err != nil {
		return err
	}
	for _, f := range b.Files {
		if err := put(f.Name, 0o755, func(w io.Writer) error { return b.unpack(w, f) }); err != nil {
			return err
		}
	}
	if err := v.disk.SyncDir(dir); err != nil {
		return noRoom("sync "+dir, err)
	}
	return nil
}

// sweep removes what earlier updates left half done, and versions that nothing
// leads to any more.
func (v *Versions) sweep(root string) error {
	s, err := readState(v.data)
	if err != nil {
		s = State{}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); e.IsDir() && name != s.Current && name != s.Previous {
			if err := v.disk.RemoveAll(filepath.Join(root, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, noRoom("lock "+dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(im.E(im.Conflict, "Another update is under way. Wait for it."), f.Close())
	}
	return func() { f.Close() }, nil
}

// Activate chooses an installed version for the next start, on trial. "" is the
// factory version, which needs no trial.
func (v *Versions) Activate(version string) error {
	s, err := readState(v.data)
	if err != nil {
		s = State{}
	}
	if version == "" {
		s.Current, s.Status, s.Tries, s.Previous, s.Factory = "", "", 0, "", v.factory
		return v.writeState(s)
	}
	f, m, err := v.open(version, Programs[0], true)
	if err != nil {
		return &im.Error{Kind: im.NotFound, Op: "activate " + version, Cause: err, Message: fmt.Sprintf("Version %s is not here to be used: %s.", version, text(err))}
	}
	f.Close()
	if err := v.fits(&m, m.Version, true); err != nil {
		return err
	}
	if s.Current != version && !(s.Status == Trial) {
		s.Previous = s.Current
	}
	if s.Previous == version {
		s.Previous = ""
	}
	s.Current, s.Status, s.Tries, s.Factory = version, Trial, 0, v.factory
	return v.writeState(s)
}

// Confirm says that the version that runs is well. It does nothing if that
// version is not on trial.
func (v *Versions) Confirm(version string) error {
	s, err := readState(v.data)
	if err != nil || s.Current != version || s.Status != Trial {
		return err
	}
	s.Status, s.Tries = Good, 0
	return v.writeState(s)
}

// Fail gives a version up, if it is the chosen one: the next start takes the
// previous one, or the factory's.
func (v *Versions) Fail(version, reason string) error {
	s, err := readState(v.data)
	if err != nil || s.Current != version || version == "" {
		return err
	}
	return v.writeState(v.back(s, reason))
}

// back is s with its current version given up.
func (v *Versions) back(s State, reason string) State {
	s.Failed = append(s.Failed, Failure{Version: s.Current, Reason: reason, At: v.now().UTC().Truncate(time.Second)})
	s.Current, s.Status, s.Tries, s.Previous = s.Previous, Good, 0, ""
	if s.Current == "" {
		s.Status = ""
	}
	return s
}
