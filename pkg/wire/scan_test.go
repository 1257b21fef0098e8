package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// depthOf returns how deep the brackets of valid JSON are nested.
func depthOf(p []byte) int {
	depth, most, quoted := 0, 0, false
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && (c == '{' || c == '['):
			depth++
			most = max(most, depth)
		case !quoted && (c == '}' || c == ']'):
			depth--
		}
	}
	return most
}

func FuzzValidJSON(f *testing.F) {
	for _, s := range []string{``, ` `, `0`, `-0`, `01`, `-`, `1.`, `.1`, `1e`, `1e+`, `1E-7`, `-12.5e+3`, `nul`, `null`,
		`true`, `tru`, `"`, `""`, `"\u12"`, `"\u12aF"`, `"\x"`, "\"\n\"", "\"\x7f\"", "\"\xff\"", "\"\x1f\"", `[1}`, `{"a":1]`, `{"a":[1}`, `"\ud800"`, `[`, `[]`, `[,]`,
		`[1,]`, `[1 2]`, `{}`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1 "b":2}`, `{a:1}`, `{"a":[{"b":[]},{}]}`, `[}`, `{]`,
		` [ 1 , { "a" : null } ] `, `1 2`, `[]]`, "\ufeff{}", `{"a":{"b":{"c":[[[1]]]}}}`, "\xc3\xa9",
		strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("[", 65) + strings.Repeat("]", 65),
		strings.Repeat(`{"a":`, 63) + `[]` + strings.Repeat("}", 63)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		want := json.Valid(p) && utf8.Valid(p) && depthOf(p) <= maxDepth
		if got := validJSON(p); got != want {
			t.Fatalf("validJSON(%q) = %v, want %v", p, got, want)
		}
	})
}

func FuzzStrings(f *testing.F) {
	for _, s := range []string{"", "plain", `a"b\c`, "\x00\x1f\x7f", "é日本😀", "\u2028\u2029", "\xff\xc3", "a\xffb", "\ufffd",
		strings.Repeat("x\n", 50)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p := appendString(nil, s)
		if len(p) > quotedSize(s) || utf8.ValidString(s) && len(p) != quotedSize(s) {
			t.Fatalf("quotedSize(%q) = %d, but it takes %d", s, quotedSize(s), len(p))
		}
		var std string
		if err := json.Unmarshal(p, &std); err != nil {
			t.Fatalf("%q became %s: %v", s, p, err)
		}
		if want := string([]rune(s)); std != want {
			t.Fatalf("%q became %s, which is %q", s, p, std)
		}
		end, escaped, ok := skipString(p, 0)
		if !ok || end != len(p) {
			t.Fatalf("skipString(%s) = %d, %v", p, end, ok)
		}
		if got, whole := unquote(p[1:end-1], escaped); got != std || !whole {
			t.Fatalf("unquote(%s) = %q, %v, want %q", p, got, whole, std)
		}
	})
}

// FuzzUnquote holds unquote against encoding/json on strings with escapes of
// every kind.
func FuzzUnquote(f *testing.F) {
	for _, s := range []string{`\u00e9\n\/`, `\ud83d\ude00`, `\ud83d`, `\ude00x`, `\ud83d\u0041`, `\ud83d\ud83d\ude00`,
		`\ud83dx\ude00`, `\u0000`, `\"\\\b\f\r\t`, `\ud83d\n`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p := []byte(`"` + raw + `"`)
		end, escaped, ok := skipString(p, 0)
		if !ok || end != len(p) || !utf8.Valid(p) {
			return
		}
		var want string
		if err := json.Unmarshal(p, &want); err != nil {
			t.Fatalf("skipString takes %s, encoding/json does not: %v", p, err)
		}
		got, whole := unquote(p[1:end-1], escaped)
		if got != want {
			t.Fatalf("unquote(%s) = %q, want %q", p, got, want)
		}
		if !whole && !strings.ContainsRune(got, utf8.RuneError) {
			t.Fatalf("unquote(%s) found a lone surrogate where there is none", p)
		}
	})
}

func TestLoneSurrogates(t *testing.T) {
	for raw, want := range map[string]bool{`\ud83d\ude00`: true, `\ufffd`: true, `\ud83d`: false, `\ude00`: false,
		`\ud83d\u0041`: false, `\ude00\ud83d`: false, `a\ud83dx`: false, `\ud83d\ud83d\ude00`: false} {
		if _, whole := unquote([]byte(raw), true); whole != want {
			t.Errorf("unquote(%s): whole = %v, want %v", raw, whole, want)
		}
	}
}
