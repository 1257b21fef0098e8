package web

import (
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"
)

// maxFirstLoad is what a browser may have to fetch before the chat is usable,
// compressed JavaScript and CSS together.
const maxFirstLoad = 150_000

// TestFirstLoad holds the weight of the build that is embedded, if there is one:
// what the page names, and what those scripts import at once.
func TestFirstLoad(t *testing.T) {
	h := New(nil, nil)
	if !h.Built() {
		return // nothing is embedded; tests/run.sh builds first and says if it could not
	}
	text, err := fs.ReadFile(h.build, h.files["/"].name)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	if strings.Contains(page, "<style") || regexp.MustCompile(`<script(?:[^>]*)>[^<]`).MatchString(page) {
		t.Errorf("the page has inline script or style, which the policy refuses:\n%s", page)
	}
	total := 0
	for _, name := range regexp.MustCompile(`/assets/[\w.-]+`).FindAllString(page, -1) {
		f, ok := h.files[name]
		if !ok {
			t.Fatalf("the page names %s, which is not there", name)
		}
		if f.gzip == 0 || f.brotli == 0 {
			t.Errorf("%s has no compressed twin", name)
		}
		total += int(f.gzip)
		t.Logf("%s: %d bytes, gzip %d, brotli %d", name, f.plain, f.gzip, f.brotli)
	}
	if total == 0 || total > maxFirstLoad {
		t.Errorf("the first load is %d bytes of gzip, at most %d", total, maxFirstLoad)
	}
	// Nothing is fetched from elsewhere, fonts above all.
	err = fs.WalkDir(dist, "dist", func(name string, _ fs.DirEntry, err error) error {
		switch path.Ext(name) {
		case ".woff", ".woff2", ".ttf", ".otf", ".map":
			t.Errorf("%s is in the build", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
