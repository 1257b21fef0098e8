package update

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
)

// versionShape is what a version may be called: it becomes the name of a folder.
var versionShape = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+~-]{0,63}$`)

// CheckVersion refuses a name that could not be a folder's.
func CheckVersion(v string) error {
	if !versionShape.MatchString(v) || strings.Contains(v, "..") {
		return im.E(im.Invalid, "%q is no version: letters, digits, dots, dashes, at most 64.", v)
	}
	return nil
}

// describe is what git describe adds behind a tag: commits since, and which.
var describe = regexp.MustCompile(`^-(\d+)-g[0-9a-f]+`)

// Compare returns -1, 0 or 1 as a is older than, as old as, or newer than b:
// numbers by value, 1.2.0-rc1 before 1.2.0 (Semantic Versioning 2.0.0 §11), and
// 1.2.0-5-gabcdef0, five commits later, after it. What has no number in front
// ("dev") is older than everything that has. -dirty and a leading v count for
// nothing.
func Compare(a, b string) int {
	x, y := split(a), split(b)
	for i := range max(len(x), len(y)) {
		if c := cmp.Compare(at(x, i), at(y, i)); c != 0 {
			return c
		}
	}
	return 0
}

func at(x []int, i int) int {
	if i < len(x) {
		return x[i]
	}
	return 0
}

// split returns the numbers of a version: three of the release, then what is
// behind them: -2 for a version before the release, with its own numbers, or 0
// and the commits since.
func split(v string) []int {
	v = strings.TrimSuffix(strings.TrimPrefix(v, "v"), "-dirty")
	release, rest := v, ""
	if i := strings.IndexAny(v, "-+~"); i >= 0 {
		release, rest = v[:i], v[i:]
	}
	out := make([]int, 3, 6)
	for i, f := range strings.SplitN(release, ".", 3) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return []int{-1}
		}
		out[i] = n
	}
	if m := describe.FindStringSubmatch(rest); m != nil {
		n, err := strconv.Atoi(m[1])
		if err == nil {
			return append(out, 0, n)
		}
	}
	if rest == "" || rest[0] == '+' {
		return append(out, 0)
	}
	out = append(out, -2)
	// rc1 and rc10: the letters by their first, then the numbers.
	out = append(out, int(rest[min(1, len(rest)-1)]))
	for _, digits := range regexp.MustCompile(`\d+`).FindAllString(rest, 3) {
		if n, err := strconv.Atoi(digits); err == nil {
			out = append(out, n)
		}
	}
	return out
}
