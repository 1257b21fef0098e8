package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"pgregory.net/rapid"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/snapshot"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func identity(t testing.TB) *age.X25519Identity {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// content is a box with a few files and a store of n records.
func content(t testing.TB, n int) Content {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"tls/ca.key": "secret", "tls/ca.crt": "public", "names": "oakhill.local\n", "settings": "data_dir: /x\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Content{Meta: Meta{Version: "1.2.3", Host: "oakhill", Made: noon, StoreFormat: 1}, DataDir: dir,
		Names: []string{"tls", "names", "keys"}, Settings: filepath.Join(dir, "settings"),
		Store: func(_ context.Context, w io.Writer) error { return store(w, n) }}
}

func store(w io.Writer, n int) error {
	s := snapshot.NewWriter(w)
	for i := range n {
		if err := s.Record(fmt.Appendf(nil, "key %d", i), bytes.Repeat([]byte{byte(i)}, 1000)); err != nil {
			return err
		}
	}
	return s.Close()
}

func written(t testing.TB, c Content, to ...age.Recipient) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(context.Background(), &b, c, to...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	id := identity(t)
	for _, n := range []int{0, 1, 5000} { // nothing, one piece, five pieces
		b := written(t, content(t, n), id.Recipient())
		if !Encrypted(b) || bytes.Contains(b, []byte("oakhill")) {
			t.Error("it is not encrypted")
		}
		var got, want bytes.Buffer
		if err := store(&want, n); err != nil {
			t.Fatal(err)
		}
		p, err := Read(bytes.NewReader(b), func(m Meta, r io.Reader) error {
			_, err := io.Copy(&got, r)
			return err
		}, id)
		if err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatalf("%d records: %v, %d bytes of %d", n, err, got.Len(), want.Len())
		}
		if p.Meta.Host != "oakhill" || !p.Meta.Made.Equal(noon) || string(p.Settings) != "data_dir: /x\n" {
			t.Errorf("%+v", p.Meta)
		}
		var files []string
		for _, f := range p.Files {
			files = append(files, fmt.Sprintf("%s %o %s", f.Name, f.Mode, f.Data))
		}
		if got := strings.Join(files, ";"); got != "tls/ca.crt 600 public;tls/ca.key 600 secret;names 600 oakhill.local\n" {
			t.Errorf("%q", got)
		}
		if _, records, err := Check(bytes.NewReader(b), id); records != uint64(n) || err != nil {
			t.Errorf("check: %d, %v", records, err)
		}
	}
	_, _, err := Check(bytes.NewReader(written(t, content(t, 1), id.Recipient())), identity(t))
	if !im.Is(err, im.Forbidden) {
		t.Errorf("another's identity: %v", err)
	}
}

// TestDamage: a flipped bit anywhere, a cut anywhere, something behind the end.
func TestDamage(t *testing.T) {
	id := identity(t)
	b := written(t, content(t, 3), id.Recipient())
	header := bytes.Index(b, []byte("\n---")) // in it age tells another reader from damage
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, _, err := Check(bytes.NewReader(bad), id); err == nil || i > header && !im.Is(err, im.Invalid) {
			t.Fatalf("byte %d of %d: %v", i, len(b), err)
		}
		if _, _, err := Check(bytes.NewReader(b[:i]), id); err == nil {
			t.Fatalf("cut at %d of %d: passes", i, len(b))
		}
	}
	if _, _, err := Check(bytes.NewReader(append(bytes.Clone(b), 'x')), id); !im.Is(err, im.Invalid) {
		t.Errorf("longer: %v", err)
	}
	// Encrypted by somebody, but no backup of ours.
	for name, c := range map[string]func(c *Content){
		"a store cut short": func(c *Content) {
			c.Store = func(_ context.Context, w io.Writer) error {
				var b bytes.Buffer
				if err := store(&b, 3); err != nil {
					return err
				}
				_, err := w.Write(b.Bytes()[:b.Len()-1])
				return err
			}
		},
		"no store": func(c *Content) { c.Store = func(context.Context, io.Writer) error { return nil } },
	} {
		x := content(t, 3)
		c(&x)
		if _, _, err := Check(bytes.NewReader(written(t, x, id.Recipient())), id); !im.Is(err, im.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Write(context.Background(), io.Discard, Content{Store: func(context.Context, io.Writer) error { return errors.New("the server went away") }}, id.Recipient()); err == nil {
		t.Error("a store that failed passes")
	}
}

func at(days ...float64) (list []Kept) {
	for _, d := range days {
		x := noon.Add(-time.Duration(d * 24 * float64(time.Hour)))
		list = append(list, Kept{Name: Name(x), At: x})
	}
	return list
}

func TestThin(t *testing.T) {
	// One each night for two years.
	var nights []float64
	for d := range 730 {
		nights = append(nights, float64(d))
	}
	list := at(nights...)
	gone := Thin(list)
	var kept []string
	for _, k := range list {
		if !slices.ContainsFunc(gone, func(g Kept) bool { return g.Name == k.Name }) {
			kept = append(kept, k.At.Format("0102"))
		}
	}
	// 25 November 2026 is a Wednesday: seven days, the Sundays before, the ends of months.
	want := "1125 1124 1123 1122 1121 1120 1119 1115 1108 1031 0930 0831 0731 0630 0531 0430 0331 0228 0131 1231"
	if got := strings.Join(kept, " "); got != want {
		t.Errorf("kept %s\nwant %s", got, want)
	}
	// Three a day, and days without any: the newest seven days that have one.
	if gone := Thin(at(0, 0.1, 0.2, 9, 9.1, 30)); len(gone) != 3 {
		t.Errorf("%v", gone)
	}
	if gone := Thin(nil); gone != nil {
		t.Errorf("%v", gone)
	}
}

// TestThinHolds: whatever there is, the newest stays, thinning twice is thinning
// once, and never are there more than the rule says.
func TestThinHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Kept
		for _, h := range rapid.SliceOfDistinct(rapid.IntRange(0, 24*800), func(h int) int { return h }).Draw(t, "hours ago") {
			list = append(list, at(float64(h)/24)...)
		}
		slices.SortFunc(list, func(a, b Kept) int { return b.At.Compare(a.At) })
		gone := Thin(list)
		rest := slices.DeleteFunc(slices.Clone(list), func(k Kept) bool { return slices.Contains(gone, k) })
		if len(list) > 0 && (len(rest) == 0 || rest[0] != list[0]) {
			t.Fatal("the newest is gone")
		}
		if len(rest) > keepDays+keepWeeks+keepMonths {
			t.Fatalf("%d stay", len(rest))
		}
		if again := Thin(rest); len(again) > 0 {
			t.Fatalf("a second time takes %v", again)
		}
	})
}

func TestTake(t *testing.T) {
	id := identity(t)
	dir := filepath.Join(t.TempDir(), DirName)
	free := int64(1 << 40)
	p := Place{Dir: dir, SpareBytes: 100 << 20, Free: func(string) (int64, error) { return free, nil }}
	take := func(made time.Time, thin bool, change ...func(*Content)) (Taken, error) {
		c := content(t, 50)
		c.Meta.Made = made
		for _, f := range change {
			f(&c)
		}
		return p.Take(context.Background(), c, 1<<20, thin, id.Recipient())
	}
	names := func() (list []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Name())
		}
		return list
	}
	got, err := take(noon, true)
	if err != nil || got.Name != "pipit-20261125-120000Z.age" || got.Records != 50 || got.Bytes == 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	b, err := os.ReadFile(got.Path)
	if err != nil {
		t.Fatal(err)
	}
	if _, n, err := Check(bytes.NewReader(b), id); n != 50 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	// Two of one day: the newer stays. What a cut left goes; what is not ours stays.
	for _, name := range []string{"pipit-20261125-113000Z.age.new", "holiday.jpg"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err = take(noon.Add(time.Hour), true); err != nil || len(got.Removed) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if got := strings.Join(names(), " "); got != "holiday.jpg pipit-20261125-130000Z.age" {
		t.Errorf("there is %s", got)
	}
	// A clock that nobody believes thins nothing out.
	if got, err = take(noon.Add(2*time.Hour), false); err != nil || len(got.Removed) != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	// A store that does not come whole leaves nothing, and the old ones stay.
	_, err = take(noon.Add(3*time.Hour), true, func(c *Content) {
		c.Store = func(_ context.Context, w io.Writer) error { _, err := w.Write([]byte("half")); return err }
	})
	if !im.Is(err, im.Unavailable) || !strings.Contains(err.Error(), "could not be read back") || Why(err) != "failing" || len(names()) != 3 {
		t.Errorf("%v, %v", err, names())
	}
	// Short of room: the oldest goes, the newest stays, and then it is refused.
	free = 100 << 20
	if _, err = take(noon.Add(4*time.Hour), true); !im.Is(err, im.Unavailable) || !strings.Contains(err.Error(), "about 1 MiB, and 100 MiB must stay free there for messages; 100 MiB are free") || Why(err) != "room" {
		t.Error(err)
	}
	if got := strings.Join(names(), " "); got != "holiday.jpg pipit-20261125-140000Z.age" {
		t.Errorf("there is %s", got)
	}
	// Larger than anybody thought: stopped on the way.
	free = 101 << 20
	_, err = take(noon.Add(5*time.Hour), true, func(c *Content) {
		c.Store = func(_ context.Context, w io.Writer) error {
			free = 99 << 20
			_, err := io.CopyN(w, rand.Reader, 16<<20)
			return err
		}
	})
	if !im.Is(err, im.Unavailable) || !strings.Contains(err.Error(), "was stopped") || Why(err) != "room" || len(names()) != 2 {
		t.Errorf("%v, %v", err, names())
	}
	// No folder can be made below a file.
	if _, err = (Place{Dir: filepath.Join(got.Path, "x")}).Take(context.Background(), content(t, 1), 0, true, id.Recipient()); err == nil || Why(err) != "" {
		t.Errorf("%v is %q", err, Why(err))
	}
	for cause, want := range map[error]string{syscall.ENOSPC: "room", fs.ErrPermission: "locked", syscall.EROFS: "locked"} {
		if got := Why((Place{Dir: dir}).cant(&fs.PathError{Op: "open", Path: dir, Err: cause})); got != want {
			t.Errorf("%v is %q, want %q", cause, got, want)
		}
	}
}

// FuzzRead: what is inside an encrypted file is no better than any input.
func FuzzRead(f *testing.F) {
	id := identity(f)
	f.Add(written(f, content(f, 1), id.Recipient()))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = Check(bytes.NewReader(b), id) })
}
