package update

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// TestMain puts the boxes into memory where that is possible: they sync a lot,
// and what a sync is worth is played by the test of cuts.
func TestMain(m *testing.M) {
	if dir, err := os.MkdirTemp("/dev/shm", "pipit-update-"); err == nil {
		defer os.RemoveAll(dir)
		os.Setenv("TMPDIR", dir)
	}
	m.Run()
}

var quiet = slog.New(slog.DiscardHandler)

// rig is a box with one key, and a workshop that makes bundles for it.
type rig struct {
	t      *testing.T
	v      *Versions
	secret ed25519.PrivateKey
	format int
	shop   string
	made   int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, shop: t.TempDir(), format: 1}
	pub, sec, _, err := GenerateKey("the workshop")
	if err != nil {
		t.Fatal(err)
	}
	if r.secret, err = ParseSecret(sec); err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	write(t, filepath.Join(data, KeysName, "shop.pub"), string(pub))
	r.v = r.box(data)
	return r
}

// box is another view of a data directory, as after a restart.
func (r *rig) box(data string) *Versions {
	return Open(Options{DataDir: data, Factory: "1.0.0", Format: func() (int, error) { return r.format, nil }, KeyDirs: []string{filepath.Join(r.shop, "none")}})
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// program is what a program of a version says; large enough to be torn.
func program(name, version string) string {
	return strings.Repeat("#! "+name+" "+version+"\n", 500)
}

func (r *rig) source(version string) Source {
	s := Source{Manifest: Manifest{Version: version, Arch: runtime.GOARCH, StoreFormat: 1, Built: time.Unix(1800000000, 0)},
		Paths: map[string]string{}, Keys: []ed25519.PrivateKey{r.secret}}
	for _, name := range Programs {
		s.Paths[name] = filepath.Join(r.shop, version, name)
		write(r.t, s.Paths[name], program(name, version))
	}
	return s
}

func (r *rig) bundle(version string, change ...func(*Source)) string {
	r.t.Helper()
	s := r.source(version)
	for _, c := range change {
		c(&s)
	}
	var b bytes.Buffer
	if _, err := Make(&b, s); err != nil {
		r.t.Fatal(err)
	}
	r.made++
	name := filepath.Join(r.shop, fmt.Sprintf("%s-%d.pipit", version, r.made))
	write(r.t, name, b.String())
	return name
}

// install puts a version on the box and chooses it.
func (r *rig) install(version string) {
	r.t.Helper()
	if _, err := r.v.Install(r.bundle(version), "1.0.0", false); err != nil {
		r.t.Fatal(err)
	}
	if err := r.v.Activate(version); err != nil {
		r.t.Fatal(err)
	}
}

// start is what a start of the box runs: "factory", or the version whose program
// was opened. It checks that the program is that version's.
func start(t *testing.T, v *Versions) (version string, trial bool) {
	t.Helper()
	f, version, trial := v.choose("pipitd", quiet)
	if f == nil {
		return "factory", false
	}
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != program("pipitd", version) {
		t.Fatalf("version %s runs something else", version)
	}
	return version, trial
}

func (r *rig) wantStart(want string, trial bool) {
	r.t.Helper()
	if got, tr := start(r.t, r.v); got != want || tr != trial {
		r.t.Fatalf("started %s (trial %v), want %s (trial %v)", got, tr, want, trial)
	}
}

func TestCompare(t *testing.T) {
	rising := []string{"dev", "0.9", "1.0.0-rc1", "1.0.0-rc2", "1.0.0-rc10", "v1.0.0", "1.0.0-1-gabcdef0", "1.0.0-12-gabcdef0-dirty", "1.0.1", "1.2", "1.10.0", "2"}
	for i, a := range rising {
		for j, b := range rising {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := Compare(a, b); got != want {
				t.Errorf("Compare(%s, %s) = %d, want %d", a, b, got, want)
			}
		}
	}
	if Compare("1.2", "v1.2.0+debian1") != 0 || Compare("deadbee", "dev") != 0 {
		t.Error("equal versions differ")
	}
	for _, bad := range []string{"", ".", "..", "a/b", "-x", "1..2", strings.Repeat("1", 65), "1\n"} {
		if CheckVersion(bad) == nil {
			t.Errorf("%q passes as a version", bad)
		}
	}
}

// TestLife is one version after the other: trial, good, counted out, back.
func TestLife(t *testing.T) {
	r := newRig(t)
	r.wantStart("factory", false)
	r.install("1.1.0")
	r.wantStart("1.1.0", true)
	if err := r.v.Confirm("1.1.0"); err != nil {
		t.Fatal(err)
	}
	for range MaxTries + 2 {
		r.wantStart("1.1.0", false)
	}

	// One that crashes at each start gets MaxTries of them.
	r.install("1.2.0")
	for range MaxTries {
		r.wantStart("1.2.0", true)
	}
	r.wantStart("1.1.0", false)
	s, err := r.v.State()
	if err != nil || s.Current != "1.1.0" || s.Status != Good || len(s.Failed) != 1 || s.Failed[0].Version != "1.2.0" || !strings.Contains(s.Failed[0].Reason, "3 times") {
		t.Fatalf("%+v, %v", s, err)
	}

	// One that gives itself up goes at once.
	r.install("1.3.0")
	r.wantStart("1.3.0", true)
	if err := r.v.Fail("1.3.0", "it was not well"); err != nil {
		t.Fatal(err)
	}
	r.wantStart("1.1.0", false)

	// Old ones are swept by the next update; the one that runs and the one
	// behind it stay.
	r.install("1.4.0")
	list, err := r.v.List()
	if err != nil || len(list) != 2 || list[0].Version != "1.1.0" || list[1].Version != "1.4.0" {
		t.Fatalf("%v, %v", list, err)
	}
	// A second try of a failed version is on trial again.
	r.install("1.2.0")
	r.wantStart("1.2.0", true)
	if s, _ := r.v.State(); s.Previous != "1.1.0" {
		t.Fatalf("the way back from a second version on trial leads to %q", s.Previous)
	}

	// Back to the factory's by hand.
	if err := r.v.Activate(""); err != nil {
		t.Fatal(err)
	}
	r.wantStart("factory", false)
}

func TestDamagedVersion(t *testing.T) {
	for name, damage := range map[string]func(r *rig, dir string) error{
		"a flipped bit": func(r *rig, dir string) error {
			b := []byte(program("pipitd", "1.2.0"))
			b[5000] ^= 1
			return os.WriteFile(filepath.Join(dir, "pipitd"), b, 0o755)
		},
		"cut short":    func(_ *rig, dir string) error { return os.Truncate(filepath.Join(dir, "pipitd"), 100) },
		"no program":   func(_ *rig, dir string) error { return os.Remove(filepath.Join(dir, "pipitd")) },
		"no folder":    func(_ *rig, dir string) error { return os.RemoveAll(dir) },
		"no signature": func(_ *rig, dir string) error { return os.WriteFile(filepath.Join(dir, signatureName), nil, 0o644) },
		"writable by others": func(_ *rig, dir string) error {
			return os.Chmod(filepath.Join(dir, "pipitd"), 0o777)
		},
		"another manifest": func(r *rig, dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, manifestName))
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, manifestName), bytes.Replace(b, []byte("1.2.0"), []byte("1.2.1"), 1), 0o644)
		},
		"a folder of another version": func(r *rig, dir string) error {
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			return os.CopyFS(dir, os.DirFS(r.v.path("1.1.0")))
		},
		"its key is gone": func(r *rig, _ string) error { return os.RemoveAll(filepath.Join(r.v.data, KeysName)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.install("1.1.0")
			if err := r.v.Confirm("1.1.0"); err != nil {
				t.Fatal(err)
			}
			r.install("1.2.0")
			if err := r.v.Confirm("1.2.0"); err != nil {
				t.Fatal(err)
			}
			if err := damage(r, r.v.path("1.2.0")); err != nil {
				t.Fatal(err)
			}
			want := "1.1.0"
			if name == "its key is gone" {
				want = "factory"
			}
			if got, trial := start(t, r.v); got != want || trial {
				t.Errorf("started %s, want %s", got, want)
			}
		})
	}
	t.Run("update.json", func(t *testing.T) {
		r := newRig(t)
		r.install("1.1.0")
		for _, text := range []string{"", "{", `{"current":"../../tmp","status":"good"}`, `{"current":"1.1.0","status":"fine"}`, strings.Repeat(" ", maxStateBytes+1)} {
			write(t, filepath.Join(r.v.data, StateName), text)
			r.wantStart("factory", false)
			if _, err := r.v.State(); err == nil || !strings.Contains(err.Error(), "factory version runs") {
				t.Errorf("%.40q: %v", text, err)
			}
		}
		r.install("1.1.0") // mends it
		r.wantStart("1.1.0", true)
	})
}

// TestFormats: no version is started on data that it can't read.
func TestFormats(t *testing.T) {
	r := newRig(t)
	r.install("1.1.0")
	if err := r.v.Confirm("1.1.0"); err != nil {
		t.Fatal(err)
	}
	name := r.bundle("1.2.0", func(s *Source) { s.Manifest.StoreFormat = 2 })
	if _, err := r.v.Install(name, "1.1.0", false); err != nil {
		t.Fatal(err)
	}
	if err := r.v.Activate("1.2.0"); err != nil {
		t.Fatal(err)
	}
	r.wantStart("1.2.0", true)
	if err := r.v.Confirm("1.2.0"); err != nil {
		t.Fatal(err)
	}
	r.format = 2 // 1.2.0, being good, raised it
	_, err := r.v.Install(r.bundle("1.3.0"), "1.2.0", false)
	wantError(t, err, im.Invalid, "can't read this box's data: it knows formats up to 1, and the data have format 2")
	_, err = r.v.Install(r.bundle("1.1.0"), "1.2.0", true)
	wantError(t, err, im.Invalid, "can't read this box's data")
	wantError(t, r.v.Activate("1.1.0"), im.Invalid, "can't read this box's data")
}

func TestSupersededByNewFactory(t *testing.T) {
	r := newRig(t)
	r.install("1.1.0")
	if err := r.v.Confirm("1.1.0"); err != nil {
		t.Fatal(err)
	}
	r.v.factory = "1.0.5" // a new package, still older
	r.wantStart("1.1.0", false)
	r.v.factory = "1.2.0"
	r.wantStart("factory", false)
	if s, _ := r.v.State(); s.Current != "" {
		t.Errorf("%+v", s)
	}
	// An older one that was asked for stays.
	if _, err := r.v.Install(r.bundle("1.1.0"), "1.2.0", true); err != nil {
		t.Fatal(err)
	}
	if err := r.v.Activate("1.1.0"); err != nil {
		t.Fatal(err)
	}
	r.wantStart("1.1.0", true)
}

func wantError(t *testing.T, err error, kind im.Kind, text string) {
	t.Helper()
	var e *im.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Message, text) {
		t.Errorf("error %v, want %v with %q", err, kind, text)
	}
}

// rezip copies a bundle entry by entry through change, which may return nil to
// leave one out.
func rezip(t *testing.T, name string, change func(name string, b []byte) []byte, more ...string) string {
	t.Helper()
	z, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	put := func(name string, b []byte) {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		if b = change(f.Name, b); b != nil {
			put(f.Name, b)
		}
	}
	for _, m := range more {
		put(m, []byte("more"))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	changed := name + "+"
	write(t, changed, out.String())
	return changed
}

// TestRefusedBundles: what is wrong with a bundle is said, and nothing is left
// behind.
func TestRefusedBundles(t *testing.T) {
	r := newRig(t)
	r.install("1.1.0")
	if err := r.v.Confirm("1.1.0"); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(r.bundle("1.2.0"))
	if err != nil {
		t.Fatal(err)
	}
	as := func(b []byte) string {
		name := filepath.Join(r.shop, "as.pipit")
		write(t, name, string(b))
		return name
	}
	edit := func(which string, fn func([]byte) []byte, more ...string) string {
		return rezip(t, r.bundle("1.2.0"), func(name string, b []byte) []byte {
			if name == which {
				return fn(b)
			}
			return b
		}, more...)
	}
	same := func(b []byte) []byte { return b }
	none := func([]byte) []byte { return nil }
	_, otherSecret, otherID, err := GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	other, err := ParseSecret(otherSecret)
	if err != nil {
		t.Fatal(err)
	}
	resigned := func(fn func([]byte) []byte) string { // the workshop signs nonsense
		var manifest []byte
		name := edit(manifestName, func(b []byte) []byte { manifest = fn(b); return manifest })
		return rezip(t, name, func(n string, b []byte) []byte {
			if n == signatureName {
				return sign(manifest, []ed25519.PrivateKey{r.secret})
			}
			return b
		})
	}
	for _, x := range []struct {
		what, file, says string
		kind             im.Kind
	}{
		{"no file", filepath.Join(r.shop, "none.pipit"), "can't be read: no such file", im.Invalid},
		{"a folder", r.shop, "is no file", im.Invalid},
		{"empty", as(nil), "no complete ZIP", im.Invalid},
		{"cut short", as(whole[:len(whole)-100]), "no complete ZIP", im.Invalid},
		{"another key", r.bundle("1.3.0", func(s *Source) { s.Keys = []ed25519.PrivateKey{other} }), "signed by a key that this box doesn't know: " + otherID, im.Forbidden},
		{"manifest changed", edit(manifestName, func(b []byte) []byte { return bytes.Replace(b, []byte("1.2.0"), []byte("9.2.0"), 1) }), "signature is wrong", im.Forbidden},
		{"no manifest", edit(manifestName, none), "has no manifest.json", im.Invalid},
		{"no signature", edit(signatureName, none), "has no manifest.sig", im.Invalid},
		{"empty signature", edit(signatureName, func([]byte) []byte { return []byte{} }), "is not signed", im.Forbidden},
		{"bad signature", edit(signatureName, func([]byte) []byte { return []byte("x y\n") }), "signature can't be read", im.Invalid},
		{"long signature", edit(signatureName, func([]byte) []byte { return bytes.Repeat([]byte("x"), maxSignatureBytes+1) }), "too long", im.Invalid},
		{"program changed", edit("pipitd", func(b []byte) []byte { b[0] ^= 1; return b }), "pipitd is not what the manifest says", im.Invalid},
		{"program longer", edit("pipitd", func(b []byte) []byte { return append(b, 'x') }), "pipitd is not what the manifest says", im.Invalid},
		{"no program", edit("pipit", none), "has no pipit", im.Invalid},
		{"a stranger", edit("pipit", same, "../../etc/passwd"), "which no bundle has", im.Invalid},
		{"twice", edit("pipit", same, "pipit"), "or has once", im.Invalid},
		{"older", r.bundle("0.9.0"), "Say --downgrade", im.Invalid},
		{"another machine", r.bundle("1.3.0", func(s *Source) { s.Manifest.Arch = "s390x" }), "is for s390x and this box is " + runtime.GOARCH, im.Invalid},
		{"another format", resigned(func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"pipit_bundle": 1`), []byte(`"pipit_bundle": 2`), 1)
		}), "has format 2 and this program knows 1", im.Invalid},
		{"unknown member", resigned(func(b []byte) []byte { return bytes.Replace(b, []byte(`"version"`), []byte(`"vorsion"`), 1) }), "vorsion", im.Invalid},
		{"a path as version", resigned(func(b []byte) []byte { return bytes.Replace(b, []byte(`1.2.0`), []byte(`../x`), 1) }), "is no version", im.Invalid},
		{"a huge program", resigned(func(b []byte) []byte { return bytes.Replace(b, []byte(`"size": `), []byte(`"size": 9000000`), 1) }), "that can't be", im.Invalid},
		{"a file of another name", resigned(func(b []byte) []byte { return bytes.Replace(b, []byte(`"pipit",`), []byte(`"pipjt",`), 1) }), "has no pipit", im.Invalid},
	} {
		t.Run(x.what, func(t *testing.T) {
			_, err := r.v.Install(x.file, "1.1.0", false)
			wantError(t, err, x.kind, x.says)
			if entries, _ := os.ReadDir(filepath.Join(r.v.data, VersionsName)); len(entries) != 1 {
				t.Errorf("left behind: %v", entries)
			}
			r.wantStart("1.1.0", false)
		})
	}
	t.Run("another build of what runs", func(t *testing.T) {
		_, err := r.v.Install(r.bundle("1.1.0", func(s *Source) { s.Manifest.Notes = "again" }), "1.1.0", false)
		wantError(t, err, im.Exists, "Another build of version 1.1.0 runs already")
	})
	t.Run("the same again", func(t *testing.T) {
		if in, err := r.v.Install(r.bundle("1.1.0"), "1.1.0", false); err != nil || !in.Already {
			t.Errorf("%+v, %v", in, err)
		}
	})
	t.Run("under way", func(t *testing.T) {
		unlock, err := lock(filepath.Join(r.v.data, VersionsName))
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		_, err = r.v.Install(r.bundle("1.2.0"), "1.1.0", false)
		wantError(t, err, im.Conflict, "Another update is under way")
	})
	t.Run("no keys", func(t *testing.T) {
		r := newRig(t)
		if err := os.RemoveAll(filepath.Join(r.v.data, KeysName)); err != nil {
			t.Fatal(err)
		}
		_, err := r.v.Install(r.bundle("1.2.0"), "1.0.0", false)
		wantError(t, err, im.Forbidden, "knows no key")
	})
}

func TestKeys(t *testing.T) {
	r := newRig(t)
	dir := filepath.Join(r.v.data, KeysName)
	write(t, filepath.Join(dir, "bad.pub"), "ssh-ed25519 AAAA\n")
	write(t, filepath.Join(dir, "open.pub"), "x")
	if err := os.Chmod(filepath.Join(dir, "open.pub"), 0o666); err != nil {
		t.Fatal(err)
	}
	keys, refused := r.v.Keys()
	if len(keys) != 1 || keys[0].Comment != "the workshop" || len(refused) != 2 ||
		!strings.Contains(refused[0], "no key file") || !strings.Contains(refused[1], "written by somebody else") {
		t.Errorf("%v, %q", keys, refused)
	}
	// Signed by the old and the new key: boxes that know either take it.
	_, sec, _, err := GenerateKey("new")
	if err != nil {
		t.Fatal(err)
	}
	next, err := ParseSecret(sec)
	if err != nil {
		t.Fatal(err)
	}
	both := r.bundle("1.1.0", func(s *Source) { s.Keys = []ed25519.PrivateKey{next, r.secret} })
	if in, err := r.v.Install(both, "1.0.0", false); err != nil || !strings.HasSuffix(in.SignedBy, "the workshop") {
		t.Errorf("%+v, %v", in, err)
	}
	if _, err := ParseSecret([]byte("pipit-update-secret AAAA")); err == nil {
		t.Error("a short key passes")
	}
}

// TestMakeIsReproducible: the same source makes the same bytes.
func TestMakeIsReproducible(t *testing.T) {
	r := newRig(t)
	var a, b bytes.Buffer
	if _, err := Make(&a, r.source("1.1.0")); err != nil {
		t.Fatal(err)
	}
	if _, err := Make(&b, r.source("1.1.0")); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two bundles of one source differ")
	}
	s := r.source("1.1.0")
	s.Keys = nil
	if _, err := Make(io.Discard, s); err == nil {
		t.Error("an unsigned bundle was made")
	}
	s = r.source("1.1.0")
	delete(s.Paths, "pipit")
	if _, err := Make(io.Discard, s); err == nil {
		t.Error("a bundle without pipit was made")
	}
}

// TestWatch plays a trial on a fake clock.
func TestWatch(t *testing.T) {
	notReady := errors.New("the store is opening")
	for _, x := range []struct {
		name  string
		ready func(since time.Duration) error
		want  string // the error, "" when confirmed
		took  time.Duration
	}{
		{"well at once", func(time.Duration) error { return nil }, "", 11 * time.Second},
		{"well late", func(d time.Duration) error {
			if d < 45*time.Second {
				return notReady
			}
			return nil
		}, "", 55 * time.Second},
		{"never", func(time.Duration) error { return notReady }, "not well within 1m0s: the store is opening", time.Minute},
		{"flapping", func(d time.Duration) error {
			if int(d.Seconds())%8 == 0 {
				return notReady
			}
			return nil
		}, "the store is opening", time.Minute},
		{"too late", func(d time.Duration) error {
			if d < 55*time.Second {
				return notReady
			}
			return nil
		}, "the store is opening", time.Minute},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := newRig(t)
			r.install("1.1.0")
			r.wantStart("1.1.0", true)
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				err := r.v.Watch(context.Background(), "1.1.0", func() error { return x.ready(time.Since(began)) })
				if took := time.Since(began); took != x.took {
					t.Errorf("took %v, want %v", took, x.took)
				}
				if got := fmt.Sprint(err); (err == nil) != (x.want == "") || !strings.Contains(got, x.want) {
					t.Errorf("%v, want %q", err, x.want)
				}
			})
			want, status := "1.1.0", Good
			if x.want != "" {
				want, status = "", ""
			}
			if s, err := r.v.State(); err != nil || s.Current != want || s.Status != status {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

// FuzzBundle: whatever is handed in is refused, or is a bundle of ours.
func FuzzBundle(f *testing.F) {
	pub, sec, _, err := GenerateKey("")
	if err != nil {
		f.Fatal(err)
	}
	key, err := ParseSecret(sec)
	if err != nil {
		f.Fatal(err)
	}
	k, err := ParsePublic(pub)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	s := Source{Manifest: Manifest{Version: "1", Arch: "arm64", StoreFormat: 1}, Paths: map[string]string{}, Keys: []ed25519.PrivateKey{key}}
	for _, name := range Programs {
		s.Paths[name] = filepath.Join(dir, name)
		if err := os.WriteFile(s.Paths[name], []byte(name), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	var b bytes.Buffer
	if _, err := Make(&b, s); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := openBundle(bytes.NewReader(in), int64(len(in)), []PublicKey{k})
		if err != nil {
			return
		}
		if got.Version != "1" {
			t.Fatalf("version %q was never signed", got.Version)
		}
		for _, file := range got.Files {
			var out bytes.Buffer
			if err := got.unpack(&out, file); err == nil && out.String() != file.Name {
				t.Fatalf("unpacked %q", out.String())
			}
		}
	})
}
