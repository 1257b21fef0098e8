package roster

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// decode returns a file's bytes as UTF-8 without a byte-order mark: UTF-8 as it
// is, UTF-16 with a mark (what Excel calls Unicode text), and anything else as
// GB18030, which is what Excel writes in China. Text that is none of them is
// refused.
func decode(b []byte) (text []byte, ok bool) {
	switch {
	case bytes.HasPrefix(b, []byte{0xef, 0xbb, 0xbf}):
		b = b[3:]
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}), bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		out, _, err := transform.Bytes(unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewDecoder(), b)
		if err != nil || bytes.ContainsRune(out, utf8.RuneError) {
			return nil, false
		}
		return out, true
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return nil, false
	}
	if utf8.Valid(b) {
		return b, true
	}
	out, _, err := transform.Bytes(simplifiedchinese.GB18030.NewDecoder(), b)
	if err != nil || bytes.ContainsRune(out, utf8.RuneError) {
		return nil, false
	}
	return out, true
}

// delimiters are those that spreadsheets write, in the order of preference.
var delimiters = []byte{',', ';', '\t', '|'}

// delimiter finds the delimiter of a table by its first line: the one that occurs
// most often outside of quotes.
func delimiter(text []byte) rune {
	line := text
	inQuotes := false
	var counts [256]int
	for _, c := range line {
		if c == '"' {
			inQuotes = !inQuotes
		}
		if inQuotes {
			continue
		}
		if c == '\n' {
			break
		}
		counts[c]++
	}
	best := delimiters[0]
	for _, d := range delimiters {
		if counts[d] > counts[best] {
			best = d
		}
	}
	return rune(best)
}
