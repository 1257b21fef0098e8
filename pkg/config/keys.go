package config

import "strings"

// envPrefix marks the variables that are ours to judge.
const envPrefix = "PIPIT_"

// listSeparator divides the elements of a list in variables and flags.
const listSeparator = ","

var (
	byKey = index(func(s *setting) string { return s.key })
	byEnv = index(func(s *setting) string { return s.env() })
)

func index(name func(*setting) string) map[string]*setting {
	m := make(map[string]*setting, len(settings))
	for i := range settings {
		m[name(&settings[i])] = &settings[i]
	}
	return m
}

// env is the key's variable: limits.sends_per_minute is
// PIPIT_LIMITS_SENDS_PER_MINUTE.
func (s *setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// flag is the key's option without its dashes: limits-sends-per-minute.
func (s *setting) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(s.key)
}

func (s *setting) viperKey() string { return strings.ReplaceAll(s.key, ".", keyDelimiter) }

// section is the part of the key before the dot, "" for those at the top.
func (s *setting) section() (section, name string) {
	if section, name, ok := strings.Cut(s.key, "."); ok {
		return section, name
	}
	return "", s.key
}

func keyNames() []string { return names(func(s *setting) string { return s.key }) }
func envNames() []string { return names(func(s *setting) string { return s.env() }) }

func names(name func(*setting) string) []string {
	out := make([]string, len(settings))
	for i := range settings {
		out[i] = name(&settings[i])
	}
	return out
}

// foreignEnv says whether a PIPIT_ variable belongs to somebody else: our test
// rigs, or Kubernetes, which sets PIPIT_PORT, PIPIT_SERVICE_HOST and their like
// in every pod beside a service that is called pipit.
func foreignEnv(name string) bool {
	rest := strings.TrimPrefix(name, envPrefix)
	for _, p := range []string{"TEST_", "TORTURE_", "BENCH_", "UNSAFE_", "SERVICE_HOST", "SERVICE_PORT", "PORT_"} {
		if strings.HasPrefix(rest, p) {
			return true
		}
	}
	return rest == "PORT"
}

// nearest returns the candidate that takes the fewest edits to become name. A
// key that lacks only its section (heartbeat for limits.heartbeat) is nearer
// than any that is spelt otherwise.
func nearest(name string, candidates []string) string {
	// No key is half as long; a longer name costs time and says nothing more.
	name = strings.ToLower(name[:min(len(name), 96)])
	best, bestAt := "", 1<<30
	for _, c := range candidates {
		lower := strings.ToLower(c)
		d := distance(name, lower)
		if i := strings.LastIndexByte(lower, '.'); i >= 0 {
			last := name[strings.LastIndexByte(name, '.')+1:]
			d = min(d, distance(last, lower[i+1:])+1)
		}
		if d < bestAt {
			best, bestAt = c, d
		}
	}
	return best
}

// meantEnv says whether a PIPIT_ variable that is no setting was meant to be one,
// and which: it is a slip of the fingers away from one, or in one of our
// sections. Other programs may use the prefix for names of their own; those are
// not ours to refuse.
func meantEnv(name string) (near string, meant bool) {
	near = nearest(name, envNames())
	if distance(strings.ToLower(name[:min(len(name), 96)]), strings.ToLower(near)) <= maxSlip {
		return near, true
	}
	for i := range settings {
		if section, _, ok := strings.Cut(settings[i].key, "."); ok && strings.HasPrefix(name, envPrefix+strings.ToUpper(section)+"_") {
			return near, true
		}
	}
	return near, false
}

// maxSlip is how many letters may be wrong, missing or too many.
const maxSlip = 3

// distance counts the insertions, deletions, substitutions and swaps of
// neighbours between a and b (optimal string alignment).
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}
