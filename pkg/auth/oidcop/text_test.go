package oidcop

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTexts: what the pages say, and what oidcrp has them say, is in the catalogue.
func TestTexts(t *testing.T) {
	asked := regexp.MustCompile(`call (?:\$t|\$?\.N) "(\w+)"|\btext[A-Z]\w+ += "(\w+)"|(?m)^\t[A-Z]\w+ += "(\w+)" +// `)
	files, err := filepath.Glob("pages/*.html")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, name := range append(files, "text.go", "../oidcrp/oidcrp.go") {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range asked.FindAllStringSubmatch(string(raw), -1) {
			key := m[1] + m[2] + m[3]
			found[key] = true
			if _, ok := catalogue[key]; !ok {
				t.Errorf("%s: %q has no words", name, key)
			}
		}
	}
	for _, key := range []string{"consent_as", textForeign, "ext_first", "no_provider", "fault"} {
		if !found[key] {
			t.Errorf("this test does not see %q", key)
		}
	}
}

// TestChinese: the pages speak as the client does (UX): 你 and 单位, full-width
// punctuation, a space between Chinese and Latin characters and no other.
func TestChinese(t *testing.T) {
	wrong := regexp.MustCompile(`您|机构|第二步|\p{Han}[,;:?!]|[,;:?!]\p{Han}|\p{Han}[0-9A-Za-z]|[0-9A-Za-z]\p{Han}|\p{Han} +\p{Han}|[：，。；！？“（] | [：，。；！？”）]`)
	for key, words := range catalogue {
		if got := wrong.FindString(words[1]); got != "" {
			t.Errorf("%s: %q in %q", key, got, words[1])
		}
		if en, zh := gap.FindAllString(words[0], -1), gap.FindAllString(words[1], -1); strings.Join(en, "") != strings.Join(zh, "") {
			t.Errorf("%s: %q in one language, %q in the other", key, en, zh)
		}
	}
}

func TestTextOf(t *testing.T) {
	for _, c := range []struct {
		lang, key string
		names     []string
		want      string
	}{
		{"en", "consent_as", []string{"Ann <b>", "ann"}, "You are signed in as <strong>Ann &lt;b&gt;</strong> (ann)"},
		{"zh-CN", "consent_as", []string{"王小明", "ming"}, "当前登录：<strong>王小明</strong>（ming）"},
		{"zh-CN", "consent_wants", []string{"Portal"}, "<strong>Portal</strong> 希望："},
		{"zh-CN", "consent_wants", []string{"教室大屏"}, "<strong>教室大屏</strong>希望："},
		{"zh-CN", "consent_wants", []string{""}, "希望："},
		{"zh-CN", "via", []string{"Portal"}, "你是通过“<strong>Portal</strong>”登录的，那边仍处于登录状态。下一个使用此浏览器的人可能以你的身份登录。"},
		{"zh-CN", textWait, []string{"30"}, "尝试次数太多，请 30 秒后再试。"},
		{"zh-CN", textWrong, []string{""}, "用户名或密码不对。"},
		{"en", "of", []string{"{*}"}, "{*}: "},
	} {
		if got := string(textOf(c.lang, c.key, c.names...)); got != c.want {
			t.Errorf("%s of %q: %q, want %q", c.key, c.names, got, c.want)
		}
	}
}
