package wal

import (
	"bytes"
	"testing"
)

// FuzzChanges gives the reader of changes any bytes: what it reads is what was
// written.
func FuzzChanges(f *testing.F) {
	b := AppendChange(nil, "key", []byte("value"))
	f.Add(AppendChange(AppendChange(b, "gone", nil), "empty", []byte{}))
	f.Add([]byte{1})
	f.Add([]byte{1, 'k', 9, 'v'})
	type change struct {
		k string
		v []byte
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var was, is []change
		var again []byte
		err := EachChange(b, func(k string, v []byte) {
			was, again = append(was, change{k, v}), AppendChange(again, k, v)
		})
		if err != nil {
			return
		}
		if err := EachChange(again, func(k string, v []byte) { is = append(is, change{k, v}) }); err != nil || len(is) != len(was) {
			t.Fatalf("%d changes became %d: %v", len(was), len(is), err)
		}
		for i, p := range was {
			if q := is[i]; p.k != q.k || !bytes.Equal(p.v, q.v) || (p.v == nil) != (q.v == nil) {
				t.Fatalf("change %d: %q %q became %q %q", i, p.k, p.v, q.k, q.v)
			}
		}
	})
}
