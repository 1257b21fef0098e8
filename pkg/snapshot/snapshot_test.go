package snapshot

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

func whole(t testing.TB, records ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b)
	for _, r := range records {
		if err := w.Record([]byte(r), []byte("value of "+r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	r, err := NewReader(bytes.NewReader(whole(t, "a", "b")))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for {
		k, v, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(k)+"="+string(v))
	}
	if len(got) != 2 || got[0] != "a=value of a" || got[1] != "b=value of b" {
		t.Errorf("%q", got)
	}
	if n, err := Check(bytes.NewReader(whole(t))); n != 0 || err != nil {
		t.Errorf("empty: %d, %v", n, err)
	}
}

// TestDamage: every flipped bit, every cut and every addition is noticed.
func TestDamage(t *testing.T) {
	good := whole(t, "a", "b", "c")
	if n, err := Check(bytes.NewReader(good)); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := Check(bytes.NewReader(bad)); !im.Is(err, im.Invalid) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
		}
		if _, err := Check(bytes.NewReader(good[:i])); !im.Is(err, im.Invalid) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := Check(bytes.NewReader(append(bytes.Clone(good), 'x'))); !im.Is(err, im.Invalid) {
		t.Errorf("longer: %v", err)
	}
}

// FuzzCheck: nothing makes it panic or believe what was not written.
func FuzzCheck(f *testing.F) {
	f.Add(whole(f, "a", "b"))
	f.Add([]byte(name + "2\n"))
	f.Add([]byte(name + "1\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = Check(bytes.NewReader(b)) })
}
