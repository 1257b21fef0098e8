package netloop

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// clientFrame builds a masked client frame by hand, so that rules can be broken.
func clientFrame(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n <= 125:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0xa1, 0x02, 0x73, 0xfe}
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return b
}

func text(p string) []byte { return clientFrame(0x81, p) }
func ping(p string) []byte { return clientFrame(0x89, p) }
func join(f ...[]byte) []byte {
	return bytes.Join(f, nil)
}

const (
	fText, fCont, fFin = 0x01, 0x00, 0x80
)

// frameCases is the table of RFC 6455's rules, after Autobahn's chapters 1 to 7. want
// lists what comes out: t:message, i:ping, o:pong, c:close payload, then !code if it fails.
var frameCases = []struct {
	name string
	in   []byte
	want string
}{
	{"1.1.1 empty text", text(""), "t:"},
	{"1.1.2 text of 125", text(strings.Repeat("*", 125)), "t:" + strings.Repeat("*", 125)},
	{"1.1.3 text of 126", text(strings.Repeat("*", 126)), "t:" + strings.Repeat("*", 126)},
	{"1.1.6 text of 65535", text(strings.Repeat("*", 65535)), "t:" + strings.Repeat("*", 65535)},
	{"1.1.7 text of 65536", text(strings.Repeat("*", 65536)), "t:" + strings.Repeat("*", 65536)},
	{"1.2 binary", clientFrame(0x82, "x"), "!1003"},
	{"1.2 binary in fragments", clientFrame(0x02, "x"), "!1003"},
	{"2.1 ping", ping(""), "i:"},
	{"2.4 ping of 125", ping(strings.Repeat("p", 125)), "i:" + strings.Repeat("p", 125)},
	{"2.5 ping of 126", ping(strings.Repeat("p", 126)), "!1002"},
	{"2.7 unsolicited pong", join(clientFrame(0x8a, "x"), ping("y")), "o:x i:y"},
	{"3.1 rsv 1", clientFrame(0xc1, "x"), "!1002"},
	{"3.2 rsv 2 after a message", join(text("a"), clientFrame(0xa1, "x")), "t:a !1002"},
	{"3.3 rsv 3", clientFrame(0x91, "x"), "!1002"},
	{"3.5 rsv on ping", clientFrame(0xd9, ""), "!1002"},
	{"4.1 opcode 3", clientFrame(0x83, ""), "!1002"},
	{"4.1 opcode 7", clientFrame(0x87, ""), "!1002"},
	{"4.2 opcode 11", clientFrame(0x8b, ""), "!1002"},
	{"4.2 opcode 15", clientFrame(0x8f, ""), "!1002"},
	{"5.1 ping in fragments", clientFrame(0x09, "x"), "!1002"},
	{"5.3 text in fragments", join(clientFrame(fText, "a"), clientFrame(fCont|fFin, "b")), "t:ab"},
	{"5.6 ping between fragments", join(clientFrame(fText, "a"), ping("p"), clientFrame(fCont|fFin, "b")), "i:p t:ab"},
	{"5.9 continuation of nothing", clientFrame(fCont|fFin, "x"), "!1002"},
	{"5.12 continuation after a message", join(text("a"), clientFrame(fCont, "x")), "t:a !1002"},
	{"5.15 continuation after the last fragment", join(clientFrame(fText, "a"), clientFrame(fCont|fFin, "b"), clientFrame(fCont, "c")), "t:ab !1002"},
	{"5.18 text inside fragments", join(clientFrame(fText, "a"), text("b")), "!1002"},
	{"5.18 binary inside fragments", join(clientFrame(fText, "a"), clientFrame(0x82, "b")), "!1002"},
	{"5.19 many fragments, pings between", join(clientFrame(fText, "1"), clientFrame(fCont, "2"), ping("x"), clientFrame(fCont, "3"), clientFrame(fCont, ""), ping("y"), clientFrame(fCont|fFin, "4")), "i:x i:y t:1234"},
	{"empty fragments", join(clientFrame(fText, ""), clientFrame(fCont, ""), clientFrame(fCont|fFin, "")), "t:"},
	{"two fragmented messages", join(clientFrame(fText, "a"), clientFrame(fCont|fFin, "b"), clientFrame(fText, "c"), clientFrame(fCont|fFin, "d")), "t:ab t:cd"},
	{"6.2 UTF-8", text("Hello-µ@ßöäüàá-UTF-8!!"), "t:Hello-µ@ßöäüàá-UTF-8!!"},
	{"6.2 a rune cut by a fragment", join(clientFrame(fText, "\xf0\x9f"), clientFrame(fCont, "\x90"), clientFrame(fCont|fFin, "\xa6")), "t:\U0001f426"},
	{"6.3 invalid UTF-8", text("\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited"), "!1007"},
	{"6.4 invalid in the first fragment fails at once", join(clientFrame(fText, "a\xf4\x90"), ping("x")), "!1007"},
	{"6.5 an incomplete rune at the end", text("a\xf0\x9f\x90"), "!1007"},
	{"an incomplete rune at the end of fragments", join(clientFrame(fText, "a\xf0\x9f"), clientFrame(fCont|fFin, "\x90")), "!1007"},
	{"6.12 overlong", text("\xc0\xaf"), "!1007"},
	{"6.13 surrogate", text("\xed\xbf\xbf"), "!1007"},
	{"6.21 a noncharacter is fine", text("\xef\xbf\xbf"), "t:\uffff"},
	{"7.1 close", clientFrame(0x88, "\x03\xe8"), "c:\x03\xe8"},
	{"7.3.6 close of 126", clientFrame(0x88, "\x03\xe8"+strings.Repeat("*", 124)), "!1002"},
	{"unmasked", []byte{0x81, 0x01, 'x'}, "!1002"},
	{"length not minimal, 16 bits", []byte{0x81, 0xfe, 0, 125}, "!1002"},
	{"length not minimal, 64 bits", []byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, "!1002"},
	{"length with the top bit", []byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0}, "!1002"},
	{"announced too long, decided from the header", []byte{0x81, 0xff, 0, 0, 0, 0, 0, 2, 0, 0, 1, 2, 3, 4}, "!1009"},
	{"announced enormous", []byte{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, "!1009"},
	{"too long over fragments", join(clientFrame(fText, strings.Repeat("a", 60000)), clientFrame(fCont, strings.Repeat("a", 60000)), clientFrame(fCont, strings.Repeat("a", 60000))), "!1009"},
}

const testMax = 100_000

// readAll feeds in to a reader in chunks of the given size and writes down what comes.
func readAll(t *testing.T, r *frameReader, in []byte, chunk, max int) string {
	t.Helper()
	var out []string
	for len(in) > 0 {
		n := min(chunk, len(in))
		p := bytes.Clone(in[:n])
		in = in[n:]
		for len(p) > 0 {
			kind, payload, rest, fail := r.next(p, max)
			if fail != nil {
				out = append(out, "!"+strconv.Itoa(int(fail.code)))
				return strings.Join(out, " ")
			}
			if len(rest) >= len(p) {
				t.Fatalf("no progress: %d bytes left of %d", len(rest), len(p))
			}
			p = rest
			if kind == frameText && (!utf8.Valid(payload) || len(payload) > max) {
				t.Fatalf("a message of %d bytes was delivered, valid UTF-8: %v", len(payload), utf8.Valid(payload))
			}
			if kind != frameNone {
				out = append(out, string("?tioc"[kind])+":"+string(payload))
			}
		}
	}
	return strings.Join(out, " ")
}

// failing tells whether a want of frameCases ends in a failure.
func failing(want string) bool { return strings.HasPrefix(want[strings.LastIndex(want, " ")+1:], "!1") }

func TestFrameRules(t *testing.T) {
	for _, c := range frameCases {
		for _, chunk := range []int{1, 2, 3, 7, 1000, 1 << 20} {
			var r frameReader
			if got := readAll(t, &r, c.in, chunk, testMax); got != c.want {
				t.Errorf("%s, in chunks of %d: got %.80q, want %.80q", c.name, chunk, got, c.want)
			} else if !failing(c.want) && !r.idle() {
				t.Errorf("%s, in chunks of %d: the reader still holds something", c.name, chunk)
			}
		}
	}
}

// TestFrameMemory holds the reader to what has arrived, whatever is announced.
func TestFrameMemory(t *testing.T) {
	var r frameReader
	head := []byte{0x81, 0xff, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 1, 2, 3, 4} // a gigabyte
	if _, _, _, fail := r.next(head, 1<<30); fail != nil {
		t.Fatal(fail)
	}
	if _, _, _, fail := r.next(make([]byte, 1000), 1<<30); fail != nil {
		t.Fatal(fail)
	}
	if cap(r.part) > 4096 {
		t.Errorf("%d bytes held for %d that came", cap(r.part), len(r.part))
	}
}

// TestFrameMaxLowered: a reload may lower the bound below what is already there.
func TestFrameMaxLowered(t *testing.T) {
	var r frameReader
	if _, _, _, fail := r.next(clientFrame(fText, strings.Repeat("a", 500)), 1000); fail != nil {
		t.Fatal(fail)
	}
	if _, _, _, fail := r.next(clientFrame(fCont|fFin, ""), 100); fail != errTooBig {
		t.Errorf("got %v, want %v", fail, errTooBig)
	}
}

func TestCloseCodes(t *testing.T) {
	good := []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999}
	bad := []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535}
	for _, code := range good {
		got, reason, fail := parseClose(append(binary.BigEndian.AppendUint16(nil, uint16(code)), "why"...))
		if fail != nil || int(got) != code || string(reason) != "why" {
			t.Errorf("%d: got %d %q %v", code, got, reason, fail)
		}
	}
	for _, code := range bad {
		if _, _, fail := parseClose(binary.BigEndian.AppendUint16(nil, uint16(code))); fail != errCloseCode {
			t.Errorf("%d: got %v, want %v", code, fail, errCloseCode)
		}
	}
	if code, _, fail := parseClose(nil); code != closeNoStatus || fail != nil {
		t.Errorf("empty: got %d %v", code, fail)
	}
	if _, _, fail := parseClose([]byte{3}); fail != errCloseLength {
		t.Errorf("one byte: got %v", fail)
	}
	if _, _, fail := parseClose([]byte("\x03\xe8\xff")); fail != errNotUTF8 {
		t.Errorf("bad reason: got %v", fail)
	}
}

func TestAppendCloseFrame(t *testing.T) {
	for _, c := range []struct {
		code   uint16
		reason string
		want   string
	}{
		{4001, "slow", "\x88\x06\x0f\xa1slow"},
		{closeNoStatus, "x", "\x88\x00"},
		{1000, strings.Repeat("a", 200), "\x88\x7d\x03\xe8" + strings.Repeat("a", 123)},
		{1000, strings.Repeat("a", 122) + "é", "\x88\x7c\x03\xe8" + strings.Repeat("a", 122)},
	} {
		if got := string(appendCloseFrame(nil, c.code, c.reason)); got != c.want {
			t.Errorf("%d %q: got %q, want %q", c.code, c.reason, got, c.want)
		}
	}
}

func TestAppendTextFrame(t *testing.T) {
	for _, n := range []int{0, 125, 126, 65535, 65536} {
		p := bytes.Repeat([]byte("x"), n)
		f, err := readServerFrame(bytes.NewReader(AppendTextFrame(nil, p)))
		if err != nil || f.Header.OpCode != ws.OpText || !f.Header.Fin || f.Header.Masked || !bytes.Equal(f.Payload, p) {
			t.Errorf("%d bytes: %+v %v", n, f.Header, err)
		}
	}
}

// TestCipher holds the library's unmasking, which is assembly on some machines,
// against the loop of RFC 6455 §5.3, at each length and alignment, and looks for
// writes beyond the slice.
func TestCipher(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		for shift := range 17 {
			buf := make([]byte, 32+n+32)
			for i := range buf {
				buf[i] = byte(rng.Uint32())
			}
			var mask [4]byte
			binary.LittleEndian.PutUint32(mask[:], rng.Uint32())
			want := bytes.Clone(buf)
			for i := range n {
				want[shift+i] ^= mask[i%4]
			}
			ws.Cipher(buf[shift:shift+n], mask, 0)
			if !bytes.Equal(buf, want) {
				t.Fatalf("%d bytes at %d: wrong", n, shift)
			}
		}
	}
}

func FuzzFrameReader(f *testing.F) {
	for _, c := range frameCases {
		if len(c.in) < 4096 {
			f.Add(c.in, uint8(3))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, chunk uint8) {
		const max = 1000
		var whole, parts frameReader
		a := readAll(t, &whole, in, len(in)+1, max)
		b := readAll(t, &parts, in, int(chunk)+1, max)
		if a != b {
			t.Fatalf("whole: %q\nin chunks of %d: %q", a, int(chunk)+1, b)
		}
		if n := cap(parts.part) + cap(parts.msg); n > 4*(max+maxHeaderBytes)+256 {
			t.Fatalf("%d bytes held", n)
		}
	})
}
