package auth

import (
	_ "embed"
	"encoding/binary"
	"hash/fnv"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/im"
)

//go:generate go test -run TestCommonPasswords -update .

// commonPasswords holds the passwords that everybody tries first: 47,023 from
// breaches (the list of zxcvbn, MIT licence) and some that are common in Chinese,
// of at least minCommon characters, in lower case, each as its 32-bit FNV-1a
// hash, sorted. Of passwords that are in no list, one in about 140,000 is refused
// by chance, which hurts nobody.
//
//go:embed common-passwords.bin
var commonPasswords string

// minCommon is how long the entries are at least: shorter ones are no part of a
// password that is long enough.
const minCommon = 5

// common reports whether a word is in the list.
func common(word string) bool {
	if utf8.RuneCountInString(word) < minCommon {
		return false
	}
	h := hashCommon(word)
	n := len(commonPasswords) / 4
	at := func(i int) uint32 { return binary.BigEndian.Uint32([]byte(commonPasswords[4*i : 4*i+4])) }
	i := sort.Search(n, func(i int) bool { return at(i) >= h })
	return i < n && at(i) == h
}

func hashCommon(word string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(word))
	return h.Sum32()
}

// weak says why a password is among the first that somebody would try, or
// nothing. names are what the person and the organisation are called.
func weak(password string, names ...string) string {
	plain := strings.ToLower(password)
	switch {
	case common(plain):
		return "This is one of the passwords that everybody tries first. Take another, for example four words that have nothing to do with each other."
	case trivial(plain):
		return "This password only repeats or counts. Take another, for example four words that have nothing to do with each other."
	}
	for _, core := range []string{strings.TrimFunc(plain, notLetter), strings.TrimFunc(unleet(plain), notLetter),
		strings.TrimFunc(plain, func(r rune) bool { return notLetter(r) && !unicode.IsDigit(r) })} {
		// A common password with a year behind it is the second thing to be tried.
		if common(core) && utf8.RuneCountInString(plain)-utf8.RuneCountInString(core) <= 4 {
			return "This is a password that everybody tries first, with a little added. Take another, for example four words that have nothing to do with each other."
		}
	}
	for _, name := range names {
		for _, word := range strings.FieldsFunc(strings.ToLower(normal(name)), func(r rune) bool { return notLetter(r) && !unicode.IsDigit(r) }) {
			// What is left without the name has to be a password by itself.
			if n := utf8.RuneCountInString(word); (n >= 4 || n >= 2 && word[0] >= utf8.RuneSelf) && strings.Contains(plain, word) &&
				utf8.RuneCountInString(strings.ReplaceAll(plain, word, "")) < im.MinPasswordRunes {
				return "The password must not be made of the user name or the organisation's name."
			}
		}
	}
	return ""
}

func notLetter(r rune) bool { return !unicode.IsLetter(r) }

// unleet undoes the substitutions that everybody knows.
func unleet(s string) string {
	return strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "@", "a", "5", "s", "$", "s", "7", "t", "!", "i").Replace(s)
}

// keyRows are what a finger walks along.
var keyRows = []string{"qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "azertyuiop", "1qaz2wsx3edc4rfv5tgb6yhn"}

// trivial reports whether s has few different characters, counts up or down, or
// walks along a row of keys.
func trivial(s string) bool {
	seen := map[rune]bool{}
	up, down, n := 0, 0, 0
	var last rune
	for _, r := range s {
		seen[r] = true
		if n > 0 && r == last+1 {
			up++
		}
		if n > 0 && r == last-1 {
			down++
		}
		last = r
		n++
	}
	if len(seen) <= 3 || up >= n-2 || down >= n-2 {
		return true
	}
	for _, row := range keyRows {
		if strings.Contains(row, s) || strings.Contains(reverse(row), s) {
			return true
		}
	}
	// The same piece again and again.
	for size := 1; size <= len(s)/2 && size <= 4; size++ {
		if len(s)%size == 0 && strings.Repeat(s[:size], len(s)/size) == s {
			return true
		}
	}
	return false
}

func reverse(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}
