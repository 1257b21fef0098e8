package wire

import (
	"strconv"
	"unicode/utf8"
)

// Strings are escaped as little as RFC 8259 §7 allows: quotation mark, reverse
// solidus and control characters. Everything else, U+2028 and U+007F among it,
// passes as it is. A Go string that is not UTF-8 cannot come from a client; it
// gets U+FFFD for each bad byte, because one bad name must not make every frame
// that holds it a protocol violation.

// escapedSize is how many bytes each byte of a string takes in JSON.
var escapedSize = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c == '"' || c == '\\' || c == '\b' || c == '\f' || c == '\n' || c == '\r' || c == '\t':
			t[c] = 2
		case c < 0x20:
			t[c] = 6
		default:
			t[c] = 1
		}
	}
	return t
}()

// quotedSize returns how many bytes appendString appends for s, or a little
// more if s is not UTF-8.
func quotedSize[T ~string](s T) int {
	n := 2
	for i := range len(s) {
		n += int(escapedSize[s[i]])
	}
	if !utf8.ValidString(string(s)) {
		n += 2 * len(s)
	}
	return n
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string.
func appendString[T ~string](dst []byte, s T) []byte {
	dst = append(dst, '"')
	from := 0
	valid := utf8.ValidString(string(s))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if escapedSize[c] == 1 {
			if c < utf8.RuneSelf || valid {
				continue
			}
			r, size := utf8.DecodeRuneInString(string(s[i:]))
			if r != utf8.RuneError || size > 1 {
				i += size - 1
				continue
			}
			dst = append(append(dst, s[from:i]...), "\uFFFD"...)
			from = i + 1
			continue
		}
		dst = append(append(dst, s[from:i]...), '\\')
		from = i + 1
		switch c {
		case '\b':
			c = 'b'
		case '\f':
			c = 'f'
		case '\n':
			c = 'n'
		case '\r':
			c = 'r'
		case '\t':
			c = 't'
		case '"', '\\':
		default:
			dst = append(dst, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return append(append(dst, s[from:]...), '"')
}

// appendStrings appends list as a JSON array of strings.
func appendStrings[T ~string](dst []byte, list []T) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

// The member functions append one member of an object; name is a literal with
// quotes and colon, and the comma before it if one is needed.

func stringMember[T ~string](dst []byte, name string, s T) []byte {
	return appendString(append(dst, name...), s)
}

// optionalMember appends the member unless s is empty, which is its default.
func optionalMember[T ~string](dst []byte, name string, s T) []byte {
	if s == "" {
		return dst
	}
	return appendString(append(dst, name...), s)
}

func uintMember[T ~uint64](dst []byte, name string, n T) []byte {
	return strconv.AppendUint(append(dst, name...), uint64(n), 10)
}

func intMember[T ~int | ~int64](dst []byte, name string, n T) []byte {
	return strconv.AppendInt(append(dst, name...), int64(n), 10)
}

func boolMember(dst []byte, name string, on bool) []byte {
	return strconv.AppendBool(append(dst, name...), on)
}
