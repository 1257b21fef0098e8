package wal

import (
	"encoding/binary"
	"errors"
)

// What a record of a store's log holds: one after the other, keys with what they are
// from now on. The key with its length, then the value with its length and one more;
// 0: the key is gone.

var errChange = errors.New("log: a malformed change")

// AppendChange appends one change to a record; a nil value takes the key away.
func AppendChange(b []byte, key string, value []byte) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
	if value == nil {
		return append(b, 0)
	}
	return append(binary.AppendUvarint(b, uint64(len(value))+1), value...)
}

// EachChange calls fn for every change of a record, in order; values share the
// record's bytes.
func EachChange(rec []byte, fn func(key string, value []byte)) error {
	take := func(less uint64) ([]byte, bool) {
		n, used := binary.Uvarint(rec)
		if used <= 0 || n < less || n-less > uint64(len(rec)-used) {
			return nil, false
		}
		n -= less
		v := rec[used : used+int(n) : used+int(n)]
		rec = rec[used+int(n):]
		return v, true
	}
	for len(rec) > 0 {
		k, ok := take(0)
		if !ok || len(k) == 0 || len(rec) == 0 {
			return errChange
		}
		var v []byte
		if rec[0] == 0 {
			rec = rec[1:]
		} else if v, ok = take(1); !ok {
			return errChange
		}
		fn(string(k), v)
	}
	return nil
}
