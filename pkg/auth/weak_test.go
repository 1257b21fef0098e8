package auth

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/trustelem/zxcvbn/frequency"

	"github.com/pipit-im/pipit/pkg/im"
)

var update = flag.Bool("update", false, "write common-passwords.bin anew")

// chinese are common where zxcvbn's sources did not look.
var chinese = []string{"woaini", "woaini520", "woaini1314", "5201314", "1314520", "wangyut2", "a123456", "a123456789", "123456a", "123456789a",
	"qq123456", "abc123456", "zxcvbnm123", "aini1314", "caonima", "woaiwojia", "iloveyou1314", "110110110", "147258369", "asd123456",
	"aa123456", "1q2w3e4r", "q1w2e3r4", "q123456", "qwe123456", "w123456", "123456abc", "asdf1234", "xiaoming", "zhangwei", "mima123456"}

// TestCommonPasswords holds the embedded list to its source.
func TestCommonPasswords(t *testing.T) {
	var hashes []uint32
	for _, p := range append(slices.Clone(frequency.FrequencyLists["passwords"]), chinese...) {
		if utf8.RuneCountInString(p) >= minCommon {
			hashes = append(hashes, hashCommon(strings.ToLower(p)))
		}
	}
	slices.Sort(hashes)
	var want []byte
	for _, h := range slices.Compact(hashes) {
		want = binary.BigEndian.AppendUint32(want, h)
	}
	if *update {
		if err := os.WriteFile("common-passwords.bin", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(want, []byte(commonPasswords)) {
		t.Errorf("common-passwords.bin is not current (go generate ./pkg/auth): %d bytes, want %d", len(commonPasswords), len(want))
	}
}

func TestWeak(t *testing.T) {
	b := newBench(t, nil)
	for _, p := range []string{"password", "PASSWORD", "Passw0rd!", "password2026", "12345678", "87654321", "11111111", "abcdefgh", "qwertyui", "poiuytre",
		"1qaz2wsx", "abababab", "iloveyou", "woaini1314", "5201314!", "football1", "Trustno1", "letmein99", "zzzzyyyy", "aaaaaaaaaaaaaaaaaaaaaaaa",
		"123123123", "annemarie1", "annemarie2026", "oakhill2026", "Oakhill!!", "school2026", "橡树山学校2026"} {
		if err := b.Auth.CheckPassword(oak, "annemarie", p); !im.Is(err, im.Invalid) {
			t.Errorf("%s was let through: %v", p, err)
		}
	}
	for _, p := range []string{"correct horse", "battery staple", "three brown owls", "Xk7#mQ2pLr", "我家门前有两棵树", "a better one", "s3cret-horse",
		"annemarie walks the dog", "tell-nobody-1"} {
		if err := b.Auth.CheckPassword(oak, "annemarie", p); err != nil {
			t.Errorf("%s was refused: %v", p, err)
		}
	}
}
