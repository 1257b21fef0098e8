package wire

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/im"
)

// members walks the members of one JSON object and collects what is wrong with
// them. It is used on the stack:
//
//	m := openMembers(p)
//	for m.next(names) {
//		switch m.name {
//		case "seq":
//			x.Seq = m.seq()
//		}
//	}
//	return m.done(required)
//
// Unknown members are passed over; of a name that occurs twice the last counts,
// but every occurrence must have the right shape. A wrong shape (im.BadParams)
// ends the walk and outranks values that are not acceptable (im.Invalid,
// im.TooLarge), of which the first is kept: values cannot be judged before the
// shape is right.
type members struct {
	b     []byte
	i     int
	name  string // the member that next found, one of its names
	from  int    // where its value starts
	names []string
	seen  uint32 // bit n: names[n] occurred
	begun bool
	shape *im.Error
	value *im.Error
}

// openMembers starts a walk over p, which must hold one object and nothing else
// but white space. An absent object (nil) is an empty one.
func openMembers(p []byte) members {
	m := innerMembers(p)
	if m.shape == nil && !utf8.Valid(p) {
		m.shape = im.E(im.BadParams, "this is not UTF-8").OnField("params")
	}
	return m
}

// innerMembers is openMembers for bytes that are known to be UTF-8.
func innerMembers(p []byte) members {
	m := members{b: p}
	if p == nil {
		m.b = emptyObject
		return m
	}
	m.i = skipSpace(p, 0)
	if m.i == len(p) || p[m.i] != '{' {
		m.shape = im.E(im.BadParams, "an object is expected here").OnField("params")
	}
	return m
}

var emptyObject = []byte("{}")

// next moves to the next member that is one of names. It returns false at the
// end of the object or of the walk.
func (m *members) next(names []string) bool {
	m.names = names
	for m.shape == nil {
		nameFrom, nameTo, escaped, more := m.step()
		if !more {
			return false
		}
		if n := find(names, m.b[nameFrom:nameTo], escaped); n >= 0 {
			m.name = names[n]
			m.seen |= 1 << n
			return true
		}
		if !m.skip() {
			return false
		}
	}
	return false
}

func find(names []string, raw []byte, escaped bool) int {
	if escaped {
		s, _ := unquote(raw, true)
		raw = []byte(s)
	}
	for n, name := range names {
		if string(raw) == name {
			return n
		}
	}
	return -1
}

// step reads up to the value of the next member of any name.
func (m *members) step() (nameFrom, nameTo int, escaped, more bool) {
	i := m.i
	if !m.begun {
		m.begun = true
		if i = skipSpace(m.b, i+1); i < len(m.b) && m.b[i] == '}' {
			m.close(i)
			return 0, 0, false, false
		}
	} else {
		i = skipSpace(m.b, i)
		switch {
		case i < len(m.b) && m.b[i] == ',':
			i = skipSpace(m.b, i+1)
		case i < len(m.b) && m.b[i] == '}':
			m.close(i)
			return 0, 0, false, false
		default:
			m.broken()
			return 0, 0, false, false
		}
	}
	if i >= len(m.b) || m.b[i] != '"' {
		m.broken()
		return 0, 0, false, false
	}
	end, escaped, ok := skipString(m.b, i)
	if ok {
		nameFrom, nameTo = i+1, end-1
		i = skipSpace(m.b, end)
		ok = i < len(m.b) && m.b[i] == ':'
	}
	if !ok {
		m.broken()
		return 0, 0, false, false
	}
	m.from = skipSpace(m.b, i+1)
	return nameFrom, nameTo, escaped, true
}

// close ends the walk at the closing brace b[i].
func (m *members) close(i int) {
	m.i = i + 1
	if skipSpace(m.b, m.i) != len(m.b) {
		m.broken()
	}
}

func (m *members) broken() {
	m.shape = im.E(im.BadParams, "this is not JSON").OnField("params")
}

// skip passes over the value.
func (m *members) skip() bool {
	end, ok := skipValue(m.b, m.from, 1)
	if !ok {
		m.broken()
	}
	m.i = end
	return ok
}

// wrong ends the walk: the value's shape is not what the member must have.
func (m *members) wrong(expected string) {
	if m.shape == nil {
		m.shape = im.E(im.BadParams, "%s must be %s", m.name, expected).OnField(m.name)
	}
}

// refuse keeps the first value that is well formed but not acceptable.
func (m *members) refuse(e *im.Error) {
	if m.value == nil {
		m.value = e
	}
}

func (m *members) invalid(field, format string, args ...any) {
	if m.value == nil {
		m.value = im.E(im.Invalid, format, args...).OnField(field)
	}
}

func (m *members) tooLarge(field string, limit int, format string, args ...any) {
	if m.value == nil {
		m.value = im.E(im.TooLarge, format, args...).OnField(field)
		m.value.Limit = int64(limit)
	}
}

// done returns what is wrong, in order of rank: shape, a missing one of the
// first required names, value.
func (m *members) done(required int) error {
	if m.shape != nil {
		return m.shape
	}
	for n := range required {
		if m.seen&(1<<n) == 0 {
			return im.E(im.BadParams, "%s is missing", m.names[n]).OnField(m.names[n])
		}
	}
	if m.value != nil {
		return m.value
	}
	return nil
}

// raw returns the value's bytes, which point into the object's.
func (m *members) raw() []byte {
	if !m.skip() {
		return nil
	}
	return m.b[m.from:m.i:m.i]
}

// text returns the value, which must be a string without lone surrogates.
func (m *members) text() string {
	s, end, ok := m.textAt(m.from)
	if ok {
		m.i = end
	}
	return s
}

func (m *members) textAt(i int) (s string, end int, ok bool) {
	if end, ok = m.stringEnd(i); !ok {
		return "", i, false
	}
	raw := m.b[i+1 : end-1]
	s, whole := unquote(raw, bytes.IndexByte(raw, '\\') >= 0)
	if !whole {
		m.invalid(m.name, "%s holds half of a surrogate pair", m.name)
	}
	return s, end, true
}

// stringEnd returns the index behind the string that starts at i.
func (m *members) stringEnd(i int) (end int, ok bool) {
	if i >= len(m.b) || m.b[i] != '"' {
		m.wrong("a string")
		return i, false
	}
	if end, _, ok = skipString(m.b, i); !ok {
		m.broken()
	}
	return end, ok
}

// seq returns the value, which must be an integer from 0 to 2^63-1 without
// fraction or exponent.
func (m *members) seq() im.Seq {
	from := m.from
	if !m.number() {
		return 0
	}
	n, err := strconv.ParseUint(string(m.b[from:m.i]), 10, 63)
	if err != nil {
		m.wrong("an integer from 0 to 2^63-1")
		return 0
	}
	return im.Seq(n)
}

// integer returns the value, which must be an integer without fraction or
// exponent; one that does not fit is the nearest that does.
func (m *members) integer() int64 {
	from := m.from
	if !m.number() {
		return 0
	}
	digits := m.b[from:m.i]
	n, err := strconv.ParseInt(string(digits), 10, 64)
	if err == nil {
		return n
	}
	for _, c := range digits {
		if c != '-' && (c < '0' || c > '9') {
			m.wrong("an integer")
			return 0
		}
	}
	if digits[0] == '-' {
		return math.MinInt64
	}
	return math.MaxInt64
}

func (m *members) number() bool {
	if m.from >= len(m.b) || m.b[m.from] != '-' && (m.b[m.from] < '0' || m.b[m.from] > '9') {
		m.wrong("an integer")
		return false
	}
	end, ok := skipNumber(m.b, m.from)
	if !ok {
		m.broken()
		return false
	}
	m.i = end
	return true
}

// limit returns the value as the size of a page: clamped to most, refused below
// one (PROTOCOL 4.5).
func (m *members) limit(most int) int {
	n := m.integer()
	if n < 1 && m.shape == nil {
		m.invalid(m.name, "%s must be at least 1", m.name)
		return most
	}
	return int(min(n, int64(most)))
}

// boolean returns the value, which must be true or false.
func (m *members) boolean() bool {
	for _, word := range [...]string{"true", "false"} {
		if end, ok := skipLiteral(m.b, m.from, word); ok {
			m.i = end
			return word == "true"
		}
	}
	m.wrong("true or false")
	return false
}

// users returns the value, which must be an array of strings. Above most
// elements nothing more is kept and the list is refused as too large.
func (m *members) users(most int) []im.UserID {
	var list []im.UserID
	n := 0
	for i, more := m.elements(); more; n++ {
		if n >= most {
			// The shape of the rest still counts, its content does not.
			end, ok := m.stringEnd(i)
			i, more = m.element(end, ok)
			continue
		}
		s, end, ok := m.textAt(i)
		list = append(list, im.UserID(s))
		i, more = m.element(end, ok)
	}
	if n > most {
		m.tooLarge(m.name, most, "%s may hold at most %d", m.name, most)
		return nil
	}
	return list
}

// elements starts a walk over the value, which must be an array, and returns
// the index of its first element, if there is one.
func (m *members) elements() (i int, more bool) {
	if m.from >= len(m.b) || m.b[m.from] != '[' {
		m.wrong("an array")
		return 0, false
	}
	i = skipSpace(m.b, m.from+1)
	if i < len(m.b) && m.b[i] == ']' {
		m.i = i + 1
		return 0, false
	}
	return i, true
}

// element returns the index of the element behind the one that ended at i,
// unless that was the last or not ok.
func (m *members) element(i int, ok bool) (next int, more bool) {
	if !ok {
		return 0, false
	}
	i = skipSpace(m.b, i)
	switch {
	case i < len(m.b) && m.b[i] == ',':
		return skipSpace(m.b, i+1), true
	case i < len(m.b) && m.b[i] == ']':
		m.i = i + 1
	default:
		m.broken()
	}
	return 0, false
}
