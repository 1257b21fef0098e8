// Command skips reads `go test -json` and prints what people need of it: one
// line a package, everything about a test that failed, nothing about one that
// passed. It remembers each skipped test with its reason, so that a run can end
// with a list of what it did not prove.
//
//	go test -json ./... 2>&1 | skips -to FILE     exits 1 if anything failed
//	skips -note "reason" -to FILE                 remembers a whole step
//	skips -summary FILE                           exits 1 if CI=true and there are any
//
// It runs nothing itself, and keeps only the output of tests that still run.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

func main() {
	to := flag.String("to", "", "`FILE` to which skips are added")
	note := flag.String("note", "", "remember this `REASON` for a step that could not run")
	summary := flag.String("summary", "", "print the skips in `FILE`")
	flag.Parse()
	ok, err := true, error(nil)
	switch {
	case *summary != "":
		ok, err = summarise(os.Stdout, *summary, os.Getenv("CI") == "true")
	case *note != "":
		fmt.Println("SKIPPED: " + *note)
		err = remember(*to, []string{*note})
	default:
		var skips []string
		if ok, skips, err = digest(os.Stdin, os.Stdout); err == nil {
			err = remember(*to, skips)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "skips:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, Test, Output, ImportPath string
}

// outputBytes bounds what is kept of one test; the end tells more than the
// beginning.
const outputBytes = 1 << 20

// digest prints the essence of events from r to w. ok is false if a test or a
// build failed, or if there was no result at all: a run that tested nothing has
// not passed.
func digest(r io.Reader, w io.Writer) (ok bool, skips []string, err error) {
	running := map[string]string{} // package + " " + test -> output so far
	ok, results := true, 0
	lines := bufio.NewReader(r)
	for {
		line, readErr := lines.ReadString('\n')
		if readErr != nil && !errors.Is(readErr, io.EOF) {
			return false, nil, readErr
		}
		var e event
		switch {
		case line == "":
		case !strings.HasPrefix(line, "{") || json.Unmarshal([]byte(line), &e) != nil:
			fmt.Fprint(w, line) // what the go command itself has to say
		case e.Action == "build-output":
			fmt.Fprint(w, e.Output)
		case e.Action == "build-fail":
			ok = false
		case e.Test == "" && e.Action == "output":
			if shown(e.Output) {
				fmt.Fprint(w, e.Output)
			} else {
				keep(running, e.Package, e.Output)
			}
		case e.Test == "" && (e.Action == "pass" || e.Action == "skip"):
			results++
			forget(running, e.Package)
		case e.Test == "" && e.Action == "fail":
			ok = false
			// Tests that were running when the process ended tell why it did.
			for _, k := range sorted(running, e.Package) {
				fmt.Fprint(w, running[k])
			}
			forget(running, e.Package)
		case e.Action == "output":
			keep(running, e.Package+" "+e.Test, e.Output)
		case e.Action == "fail":
			fmt.Fprint(w, running[e.Package+" "+e.Test])
			delete(running, e.Package+" "+e.Test)
		case e.Action == "skip":
			skips = append(skips, fmt.Sprintf("%s %s: %s", e.Package, e.Test, reason(running[e.Package+" "+e.Test])))
			delete(running, e.Package+" "+e.Test)
		case e.Action == "pass":
			delete(running, e.Package+" "+e.Test)
		}
		if readErr != nil {
			break
		}
	}
	if results == 0 && ok {
		fmt.Fprintln(w, "no package was tested")
		ok = false
	}
	return ok, skips, nil
}

// shown says whether a line about a whole package is printed at once.
func shown(s string) bool {
	return strings.HasPrefix(s, "ok  ") || strings.HasPrefix(s, "FAIL\t")
}

func keep(running map[string]string, key, text string) {
	s := running[key] + text
	running[key] = s[max(0, len(s)-outputBytes):]
}

// sorted returns the keys of the package's own output and its tests'.
func sorted(running map[string]string, pkg string) []string {
	var keys []string
	for k := range running {
		if k == pkg || strings.HasPrefix(k, pkg+" ") {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

func forget(running map[string]string, pkg string) {
	for _, k := range sorted(running, pkg) {
		delete(running, k)
	}
}

// reason is what the test said before it was skipped, on one line.
func reason(output string) string {
	var said []string
	for _, l := range strings.Split(output, "\n") {
		l = strings.TrimSpace(l)
		if l == "" || strings.HasPrefix(l, "=== ") || strings.HasPrefix(l, "--- ") {
			continue
		}
		said = append(said, l)
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}

func remember(file string, skips []string) error {
	if file == "" || len(skips) == 0 {
		return nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(skips, "\n") + "\n")
	return errors.Join(err, f.Close())
}

// summarise prints what file remembers, each once. ok is false if strict and
// there is anything.
func summarise(w io.Writer, file string, strict bool) (ok bool, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		fmt.Fprintln(w, "Nothing was skipped.")
		return true, nil
	}
	if err != nil {
		return false, err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	slices.Sort(lines)
	lines = slices.Compact(lines)
	bar := strings.Repeat("!", 72)
	fmt.Fprintf(w, "%s\n%d SKIPPED: this run did not prove what these would have:\n", bar, len(lines))
	for _, l := range lines {
		fmt.Fprintln(w, "  "+l)
	}
	if strict {
		fmt.Fprintln(w, "CI=true: a skip is a failure.")
	} else {
		fmt.Fprintln(w, "Run as root on Debian to prove them too; with CI=true a skip is a failure.")
	}
	fmt.Fprintln(w, bar)
	return !strict, nil
}
