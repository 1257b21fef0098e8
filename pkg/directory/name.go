package directory

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"

	"github.com/pipit-im/pipit/pkg/im"
)

// FoldUsername returns the form in which a user name is stored and compared, or
// an im.Invalid error with field "username". It is RFC 8265's UsernameCaseMapped
// (wide and narrow forms made plain, lower case, Unicode NFC, one writing
// direction), narrowed to letters, their marks and digits of any script and the
// characters ". _ -"; 1 to im.MaxUsernameBytes bytes after folding. Folding a
// folded name changes nothing. Letters that look alike in two scripts stay
// different: names are given out by administrators.
func FoldUsername(s string) (string, error) {
	if s == "" {
		return "", im.E(im.Invalid, "A user name is missing.").OnField("username")
	}
	// Folding can shorten a name (full-width letters), but not by more than this;
	// what is longer is refused before any work is done on it.
	if len(s) > 4*im.MaxUsernameBytes {
		return "", longUsername()
	}
	if !plainUsername(s) {
		folded, err := precis.UsernameCaseMapped.String(s)
		if err != nil || strings.ContainsFunc(folded, notInUsername) {
			return "", badUsername()
		}
		s = folded
	}
	if len(s) > im.MaxUsernameBytes {
		return "", longUsername()
	}
	return s, nil
}

func badUsername() error {
	return im.E(im.Invalid, "A user name has letters, digits and the characters . _ - only.").OnField("username")
}

func longUsername() error {
	return im.E(im.Invalid, "A user name has at most %d bytes.", im.MaxUsernameBytes).OnField("username")
}

// plainUsername reports whether s is what nearly all names are: allowed, and in
// the folded form already.
func plainUsername(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func notInUsername(r rune) bool {
	return !unicode.In(r, unicode.L, unicode.M, unicode.Nd) && r != '.' && r != '_' && r != '-'
}

// checkTenantID checks an id against PROTOCOL 1.5.
func checkTenantID(id im.TenantID) error {
	ok := len(id) >= 1 && len(id) <= im.MaxIDBytes
	for i := range len(id) {
		c := id[i]
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' || c == '-')
	}
	if !ok {
		return im.E(im.Invalid, "A tenant's id has 1 to %d characters, each of a-z, 0-9, _ or -.", im.MaxIDBytes).OnField("id")
	}
	return nil
}

// checkName returns a name for people without the spaces around it, or an
// im.Invalid error with field "name": 1 to im.MaxTitleRunes code points of valid
// UTF-8, no control characters, and none that turn the writing direction of what
// stands beside the name in a list.
func checkName(name string) (string, error) {
	name = strings.TrimSpace(name)
	switch {
	case name == "":
		return "", im.E(im.Invalid, "A name is missing.").OnField("name")
	case !utf8.ValidString(name):
		return "", im.E(im.Invalid, "The name is not valid UTF-8.").OnField("name")
	case utf8.RuneCountInString(name) > im.MaxTitleRunes:
		return "", im.E(im.Invalid, "A name has at most %d characters.", im.MaxTitleRunes).OnField("name")
	case strings.ContainsFunc(name, notInName):
		return "", im.E(im.Invalid, "A name has no line breaks and no control characters.").OnField("name")
	case !strings.ContainsFunc(name, unicode.IsGraphic):
		return "", im.E(im.Invalid, "A name has at least one character that can be seen.").OnField("name")
	}
	return name, nil
}

func notInName(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp) ||
		r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

// searchKey returns what a search compares of a name: case folded rune by rune
// (Unicode simple folding) in NFC. It is the name itself, without a copy, when
// that changes nothing.
func searchKey(name string) string {
	return norm.NFC.String(strings.Map(func(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }, name))
}
