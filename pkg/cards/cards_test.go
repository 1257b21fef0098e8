package cards

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

func sheet(n int) *Sheet {
	s := &Sheet{Organisation: "橡山小学 Oakhill School", Address: "http://oakhill.local", Days: 14, Lang: "zh"}
	names := []string{"陈小明", "Ann Lee", "欧阳娜娜", "Łukasz Żółw", "𠮷田 <b>", strings.Repeat("很长的名字", 12)}
	for i := range n {
		s.Cards = append(s.Cards, Card{Name: names[i%len(names)], Class: fmt.Sprintf("%d年级1班", i%6+1), Username: fmt.Sprintf("s%05d", i),
			Code: "ABCD-EFGH-JKMN-PQRS", URL: "http://oakhill.local/t/oakhill/join#ABCD-EFGH-JKMN-PQRS"})
	}
	return s
}

// TestPDF: the text can be taken out again as it went in, in Chinese too, and what
// is drawn is not blank.
func TestPDF(t *testing.T) {
	var out bytes.Buffer
	err := PDF(&out, sheet(12), Fonts)
	if im.Is(err, im.Unavailable) {
		t.Skip("needs Debian's " + Package)
	}
	if err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := PDF(&again, sheet(12), Fonts); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Errorf("the same cards are not the same file (%v)", err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "cards.pdf")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 200<<10 {
		t.Errorf("%d bytes: the font is embedded as a whole", out.Len())
	}
	if _, err := exec.LookPath("pdftotext"); err != nil {
		t.Skip("needs Debian's poppler-utils")
	}
	text, err := exec.Command("pdftotext", "-layout", file, "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"陈小明", "Ann Lee", "欧阳娜娜", "Łukasz Żółw", "□田 <b>", "很长的名字很长的名字很长", "…", "3年级1班", "s00011", "ABCD-EFGH-JKMN-PQRS", "一次性代码", "橡山小学", "http://oakhill.local"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the text lacks %q", want)
		}
	}
	if out, err := exec.Command("pdftoppm", "-r", "60", "-png", file, filepath.Join(dir, "page")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "page*.png"))
	if err != nil || len(pages) != 2 {
		t.Fatalf("%v %v", pages, err)
	}
	f, err := os.Open(pages[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	dark := 0
	for y := range img.Bounds().Dy() {
		for x := range img.Bounds().Dx() {
			if r, _, _, _ := img.At(x, y).RGBA(); r < 0x8000 {
				dark++
			}
		}
	}
	if share := float64(dark) / float64(img.Bounds().Dx()*img.Bounds().Dy()); share < 0.03 || share > 0.5 {
		t.Errorf("%.3f of the page is dark", share)
	}
}

// TestNoFont: it says what to install, and nothing was written.
func TestNoFont(t *testing.T) {
	var out bytes.Buffer
	err := PDF(&out, sheet(1), []string{"/nowhere.ttf"})
	if !im.Is(err, im.Unavailable) || !strings.Contains(err.Error(), "apt install "+Package) || out.Len() > 0 {
		t.Errorf("%v, %d bytes", err, out.Len())
	}
	for _, bad := range []string{"", "ttcf", "ttcf\x00\x01\x00\x00\x00\x00\x00\x01\xff\xff\xff\x00", "ttcf\x00\x01\x00\x00\x00\x00\x00\x01\x00\x00\x00\x10\x00\x01\x00\x00\x00\x09"} {
		if _, err := single([]byte(bad)); err == nil {
			t.Errorf("%q is a font", bad)
		}
	}
}

// TestHTML: a card for each, names harmless, nothing fetched from anywhere.
func TestHTML(t *testing.T) {
	var out bytes.Buffer
	if err := HTML(&out, sheet(12)); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	if n := strings.Count(page, "<article>"); n != 12 || strings.Count(page, "<path") != 12 {
		t.Errorf("%d cards", n)
	}
	for _, want := range []string{"陈小明", "𠮷田 &lt;b&gt;", "s00011", "size: A4", `lang="zh"`, "14 天内有效"} {
		if !strings.Contains(page, want) {
			t.Errorf("lacks %q", want)
		}
	}
	if m := regexp.MustCompile(`(?i)(src|href|url\(|<script|@import)[^>]*`).FindString(page); m != "" {
		t.Errorf("it fetches or runs something: %s", m)
	}
	for _, s := range []*Sheet{{Lang: "en"}, sheet(MaxCards + 1)} {
		if err := HTML(&out, s); err == nil {
			t.Errorf("%d cards are printed", len(s.Cards))
		}
	}
	long := sheet(1)
	long.Cards[0].URL = strings.Repeat("x", 5000)
	if err := HTML(&out, long); !im.Is(err, im.Invalid) {
		t.Errorf("%v", err)
	}
}
