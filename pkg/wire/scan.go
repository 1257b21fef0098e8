package wire

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of arrays and objects. It is the number of bits
// in a word, because a word is the whole stack that skipValue needs: the
// scanner neither recurses nor allocates, however hostile its input is.
const maxDepth = 64

func skipSpace(b []byte, i int) int {
	for i < len(b) {
		switch b[i] {
		case ' ', '\n', '\r', '\t':
			i++
		default:
			return i
		}
	}
	return i
}

// plainByte is true for bytes that stand for themselves within a JSON string.
// Bytes of multi-byte sequences are among them: UTF-8 is checked for a message
// as a whole, which is much faster than here.
var plainByte = func() (t [256]bool) {
	for c := 0x20; c < 256; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// skipString reads the string whose opening quote is b[i]. It returns the index
// behind the closing quote and whether there was an escape.
func skipString(b []byte, i int) (end int, escaped, ok bool) {
	for i++; i < len(b); i++ {
		c := b[i]
		if plainByte[c] {
			continue
		}
		switch c {
		case '"':
			return i + 1, escaped, true
		case '\\':
			escaped = true
			i++
			if i >= len(b) {
				return i, escaped, false
			}
			switch b[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if _, ok := hex4(b, i+1); !ok {
					return i, escaped, false
				}
				i += 4
			default:
				return i, escaped, false
			}
		default: // an unescaped control character
			return i, escaped, false
		}
	}
	return i, escaped, false
}

func hex4(b []byte, i int) (r rune, ok bool) {
	if i+4 > len(b) {
		return 0, false
	}
	for _, c := range b[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// skipNumber reads the number that starts at b[i] (a digit or a minus sign) by
// the grammar of RFC 8259 §6.
func skipNumber(b []byte, i int) (end int, ok bool) {
	digits := func() bool {
		from := i
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++ // no digit may follow a leading zero
	} else if !digits() {
		return i, false
	}
	if i < len(b) && b[i] == '.' {
		i++
		if !digits() {
			return i, false
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return i, false
		}
	}
	return i, true
}

func skipLiteral(b []byte, i int, word string) (end int, ok bool) {
	end = i + len(word)
	return end, end <= len(b) && string(b[i:end]) == word
}

// skipScalar reads a string, number or literal that starts at b[i].
func skipScalar(b []byte, i int) (end int, ok bool) {
	if i >= len(b) {
		return i, false
	}
	switch c := b[i]; {
	case c == '"':
		end, _, ok = skipString(b, i)
		return end, ok
	case c == '-' || '0' <= c && c <= '9':
		return skipNumber(b, i)
	case c == 't':
		return skipLiteral(b, i, "true")
	case c == 'f':
		return skipLiteral(b, i, "false")
	case c == 'n':
		return skipLiteral(b, i, "null")
	}
	return i, false
}

// skipValue reads one JSON value that starts at b[i] and returns the index
// behind it. depth is how many arrays and objects are open around it.
func skipValue(b []byte, i, depth int) (end int, ok bool) {
	if i < len(b) && b[i] != '{' && b[i] != '[' {
		return skipScalar(b, i)
	}
	var objects uint64 // bit n: the container opened at level n is an object
	level := 0         // how many containers are open here
	for {
		// A value starts here.
		i = skipSpace(b, i)
		if i < len(b) && (b[i] == '{' || b[i] == '[') {
			if depth+level >= maxDepth {
				return i, false
			}
			object := b[i] == '{'
			objects <<= 1
			if object {
				objects |= 1
			}
			level++
			i = skipSpace(b, i+1)
			if i < len(b) && (object && b[i] == '}' || !object && b[i] == ']') {
				i++
				objects >>= 1
				level--
			} else if object {
				if i, ok = skipName(b, i); !ok {
					return i, false
				}
				continue
			} else {
				continue
			}
		} else if i, ok = skipScalar(b, i); !ok {
			return i, false
		}
		// A value ended here: close what closes, up to the next value.
		for {
			if level == 0 {
				return i, true
			}
			i = skipSpace(b, i)
			if i >= len(b) {
				return i, false
			}
			object := objects&1 != 0
			if b[i] == ',' {
				i = skipSpace(b, i+1)
				if object {
					if i, ok = skipName(b, i); !ok {
						return i, false
					}
				}
				break
			}
			if object && b[i] != '}' || !object && b[i] != ']' {
				return i, false
			}
			i++
			objects >>= 1
			level--
		}
	}
}

// skipName reads a member name and its colon.
func skipName(b []byte, i int) (end int, ok bool) {
	if i >= len(b) || b[i] != '"' {
		return i, false
	}
	if i, _, ok = skipString(b, i); !ok {
		return i, false
	}
	i = skipSpace(b, i)
	if i >= len(b) || b[i] != ':' {
		return i, false
	}
	return i + 1, true
}

// validJSON reports whether p is exactly one JSON text (RFC 8259) in UTF-8 that
// is nested at most maxDepth deep.
func validJSON(p []byte) bool {
	i, ok := skipValue(p, skipSpace(p, 0), 0)
	return ok && skipSpace(p, i) == len(p) && utf8.Valid(p)
}

// unquote returns what the string means whose content (without quotes) is raw
// and was read by skipString. It allocates once, for the result. whole is false
// if there is a lone surrogate (PROTOCOL 1.5); the result has U+FFFD there.
func unquote(raw []byte, escaped bool) (s string, whole bool) {
	if !escaped {
		return string(raw), true
	}
	var w strings.Builder
	w.Grow(len(raw)) // an escape is never shorter than what it stands for
	whole = true
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '\\' {
			from := i
			for i+1 < len(raw) && raw[i+1] != '\\' {
				i++
			}
			w.Write(raw[from : i+1])
			continue
		}
		i++
		switch c = raw[i]; c {
		case 'b':
			w.WriteByte('\b')
		case 'f':
			w.WriteByte('\f')
		case 'n':
			w.WriteByte('\n')
		case 'r':
			w.WriteByte('\r')
		case 't':
			w.WriteByte('\t')
		case 'u':
			r, _ := hex4(raw, i+1)
			i += 4
			if utf16.IsSurrogate(r) {
				pair := rune(utf8.RuneError)
				if i+2 < len(raw) && raw[i+1] == '\\' && raw[i+2] == 'u' {
					low, _ := hex4(raw, i+3)
					pair = utf16.DecodeRune(r, low)
				}
				if r = pair; r == utf8.RuneError {
					whole = false
				} else {
					i += 6
				}
			}
			w.WriteRune(r)
		default: // '"', '\\', '/'
			w.WriteByte(c)
		}
	}
	return w.String(), whole
}
