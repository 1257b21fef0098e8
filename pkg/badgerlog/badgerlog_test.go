package badgerlog

import (
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// entry writes one log entry as badger does: key with inverted version, value.
func entry(version uint64, fin bool, key, value string) []byte {
	k := binary.BigEndian.AppendUint64([]byte(key), ^version)
	meta := byte(0x40)
	if fin {
		meta |= 0x80
	}
	b := []byte{meta, 0}
	b = binary.AppendUvarint(b, uint64(len(k)))
	b = binary.AppendUvarint(b, uint64(len(value)))
	b = binary.AppendUvarint(b, 0)
	b = append(append(b, k...), value...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// logOf writes a log of n transactions, each a record and its end, and returns
// where each ends.
func logOf(n int) (b []byte, ends []int) {
	b = make([]byte, Header)
	for v := 1; v <= n; v++ {
		b = append(b, entry(uint64(v), false, "record", "some value")...)
		b = append(b, entry(uint64(v), true, finKey, "1")...)
		ends = append(ends, len(b))
	}
	return append(b, make([]byte, 4096)...), ends
}

// TestTornOrRotten: what a power cut can have done to the last transaction is
// let pass and its place returned; damage further ahead is an error.
func TestTornOrRotten(t *testing.T) {
	whole, ends := logOf(6)
	used, err := Check(whole)
	if err != nil || used != ends[5] {
		t.Fatalf("a whole log: %d, %v; want %d", used, err, ends[5])
	}
	for at := Header; at < ends[5]; at++ {
		b := append([]byte(nil), whole...)
		b[at] ^= 0x55
		used, err := Check(b)
		switch {
		case at >= ends[4]: // in the last transaction: torn
			if err != nil || used != ends[4] {
				t.Fatalf("byte %d of the last transaction: %d, %v; want %d", at, used, err, ends[4])
			}
		case at < ends[3] && err == nil: // two whole ones behind it
			t.Fatalf("byte %d is broken and nothing is said; used %d", at, used)
		}
	}
}

// FuzzLog gives the log scanner any bytes.
func FuzzLog(f *testing.F) {
	f.Add(make([]byte, 100))
	f.Add(append(make([]byte, Header), "\x80\x00\x13\x01\x00!badger!txn\xff\xff\xff\xff\xff\xff\xff\xfe1abcd"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		used, err := Check(b)
		if err == nil && used > max(len(b), Header) {
			t.Fatalf("%d of %d bytes", used, len(b))
		}
	})
}
