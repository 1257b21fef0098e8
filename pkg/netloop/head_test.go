package netloop

import (
	"bytes"
	"strings"
	"testing"
)

// judge runs a request head as the front door does, in one piece, and returns the
// status of what refuses it, or 0, and whether it is an upgrade.
func judge(p []byte) (status int, upgrade bool) {
	end, _, fail := headEnd(p, 0)
	if fail != nil {
		return fail.status, false
	}
	if end == 0 {
		return -1, false
	}
	h, fail := parseHead(p[:end])
	if fail != nil {
		return fail.status, false
	}
	if !h.wantsWebSocket("/v1/ws") {
		return 0, false
	}
	if fail := h.checkUpgrade("pipit.v1"); fail != nil {
		return fail.status, true
	}
	return 0, true
}

var headCases = []struct {
	name    string
	head    string
	status  int // 0: fine, -1: incomplete
	upgrade bool
}{
	{"upgrade", upgradeHead, 0, true},
	{"no query", strings.Replace(upgradeHead, "?a=b", "", 1), 0, true},
	{"lower case names", strings.Replace(upgradeHead, "Sec-WebSocket-Key", "sec-websocket-key", 1), 0, true},
	{"upper case token", strings.Replace(upgradeHead, "Upgrade: websocket", "Upgrade: WebSocket", 1), 0, true},
	{"two protocol lines", with("Sec-WebSocket-Protocol: y"), 0, true},
	{"protocol on the second line", strings.Replace(upgradeHead, "x, pipit.v1\r\n", "x\r\nSec-WebSocket-Protocol: pipit.v1\r\n", 1), 0, true},
	{"obs-text in a value", with("X: \xff\x80"), 0, true},
	{"empty host", strings.Replace(upgradeHead, "box.local", "", 1), 0, true},
	{"IPv6 host", strings.Replace(upgradeHead, "box.local", "[fe80::1]:80", 1), 0, true},

	{"other path", strings.Replace(upgradeHead, "/v1/ws", "/v1/wsx", 1), 0, false},
	{"no upgrade", "GET /v1/ws HTTP/1.1\r\nHost: x\r\n\r\n", 0, false},
	{"post with a body", "POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 0, false},
	{"HTTP/1.0 without host", "GET / HTTP/1.0\r\n\r\n", 0, false},
	{"options star", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 0, false},
	{"upgrade to something else", strings.Replace(upgradeHead, "Upgrade: websocket", "Upgrade: h2c", 1), 0, false},

	{"two hosts", with("Host: box.local"), 400, false},
	{"no host", strings.Replace(upgradeHead, "Host: box.local\r\n", "", 1), 400, false},
	{"space in host", strings.Replace(upgradeHead, "box.local", "box local", 1), 400, false},
	{"slash in host", strings.Replace(upgradeHead, "box.local", "box/local", 1), 400, false},
	{"NUL in a value", with("X: a\x00b"), 400, false},
	{"DEL in a value", with("X: a\x7fb"), 400, false},
	{"escape in a value", with("X: \x1b[2J"), 400, false},
	{"CR in a value", with("X: a\rb"), 400, false},
	{"bare LF", "GET /v1/ws HTTP/1.1\nHost: x\n\n", 400, false},
	{"LF ends one line", with("X: a\nY: b"), 400, false},
	{"folded line", with("X: a\r\n b"), 400, false},
	{"folded with a tab", with("X: a\r\n\tb"), 400, false},
	{"space before the colon", with("X : a"), 400, false},
	{"no colon", with("Xa"), 400, false},
	{"no name", with(": a"), 400, false},
	{"name with a quote", with("\"X\": a"), 400, false},
	{"length and coding", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400, false},
	{"two origins", with("Origin: a\r\nOrigin: b"), 400, false},
	{"two empty origins", with("Origin:\r\nOrigin: b"), 400, false},
	{"two keys", with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, false},
	{"two versions", with("Sec-WebSocket-Version: 13"), 400, false},
	{"two upgrades", with("Upgrade: websocket"), 400, false},
	{"two cookies", with("Cookie: a=b\r\nCookie: c=d"), 400, false},
	{"HTTP/2.0", strings.Replace(upgradeHead, "HTTP/1.1", "HTTP/2.0", 1), 400, false},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, false},
	{"no version", "GET /\r\nHost: x\r\n\r\n", 400, false},
	{"two spaces", strings.Replace(upgradeHead, "GET /", "GET  /", 1), 400, false},
	{"control in the target", strings.Replace(upgradeHead, "a=b", "a=\x01", 1), 400, false},
	{"not ASCII in the target", strings.Replace(upgradeHead, "a=b", "a=\xe9", 1), 400, false},
	{"bad method", strings.Replace(upgradeHead, "GET", "G(T", 1), 400, false},
	{"leading empty line", "\r\n" + upgradeHead, 400, false},
	{"binary", "\x00\x01\x02", 400, false},
	{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", -1, false},

	{"post upgrade", strings.Replace(upgradeHead, "GET", "POST", 1), 400, true},
	{"lower case method", strings.Replace(upgradeHead, "GET", "get", 1), 400, true},
	{"upgrade over HTTP/1.0", strings.Replace(upgradeHead, "HTTP/1.1", "HTTP/1.0", 1), 400, true},
	{"upgrade with a length", with("Content-Length: 0"), 400, true},
	{"upgrade with a coding", with("Transfer-Encoding: chunked"), 400, true},
	{"upgrade list", strings.Replace(upgradeHead, "Upgrade: websocket", "Upgrade: websocket, h2c", 1), 400, true},
	{"no connection", strings.Replace(upgradeHead, "Connection: keep-alive, Upgrade\r\n", "", 1), 400, true},
	{"connection without upgrade", strings.Replace(upgradeHead, "keep-alive, Upgrade", "keep-alive", 1), 400, true},
	{"no key", strings.Replace(upgradeHead, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 1), 400, true},
	{"short key", strings.Replace(upgradeHead, "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", 1), 400, true},
	{"key of 24 that is none", strings.Replace(upgradeHead, "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ!!", 1), 400, true},
	{"key of 18 bytes", strings.Replace(upgradeHead, "dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZXh4", 1), 400, true},
	{"no version of WebSocket", strings.Replace(upgradeHead, "Sec-WebSocket-Version: 13\r\n", "", 1), 426, true},
	{"version 8", strings.Replace(upgradeHead, "Version: 13", "Version: 8", 1), 426, true},
	{"no subprotocol", strings.Replace(upgradeHead, "Sec-WebSocket-Protocol: x, pipit.v1\r\n", "", 1), 400, true},
	{"subprotocol in capitals", strings.Replace(upgradeHead, "pipit.v1", "PIPIT.V1", 1), 400, true},
	{"subprotocol as a part", strings.Replace(upgradeHead, "pipit.v1", "pipit.v11", 1), 400, true},

	{"incomplete", upgradeHead[:100], -1, false},
	{"nothing", "", -1, false},
	{"just short enough", padded(maxHeadBytes), 0, true},
	{"one too long", padded(maxHeadBytes + 1), 431, false},
	{"endless line", "GET /" + strings.Repeat("a", maxHeadBytes), 431, false},
}

// with is upgradeHead with one line more.
func with(line string) string {
	return strings.Replace(upgradeHead, "\r\n\r\n", "\r\n"+line+"\r\n\r\n", 1)
}

// padded is upgradeHead, n bytes long.
func padded(n int) string {
	empty := with("X: ")
	return with("X: " + strings.Repeat("a", n-len(empty)))
}

func TestHeads(t *testing.T) {
	for _, c := range headCases {
		if status, upgrade := judge([]byte(c.head)); status != c.status || upgrade != c.upgrade {
			t.Errorf("%s: got %d, upgrade %v; want %d, %v", c.name, status, upgrade, c.status, c.upgrade)
		}
		// Byte by byte, headEnd must come to the same end, looking at each byte once.
		wantEnd, _, wantFail := headEnd([]byte(c.head), 0)
		end, from := 0, 0
		var fail *headError
		for n := 1; n <= len(c.head) && end == 0 && fail == nil; n++ {
			end, from, fail = headEnd([]byte(c.head[:n]), from)
		}
		if end != wantEnd || fail != wantFail {
			t.Errorf("%s, byte by byte: end %d, %v; want %d, %v", c.name, end, fail, wantEnd, wantFail)
		}
	}
}

func TestHeadFields(t *testing.T) {
	h, fail := parseHead([]byte(with("Origin: https://box.local\r\nCookie: a=b; c=d\r\nUser-Agent:  pipit/1 \t")))
	if fail != nil {
		t.Fatal(fail)
	}
	path, query := h.path()
	for _, f := range [][2]string{
		{string(h.method), "GET"}, {string(path), "/v1/ws"}, {string(query), "a=b"}, {string(h.host), "box.local"},
		{string(h.origin), "https://box.local"}, {string(h.cookie), "a=b; c=d"}, {string(h.userAgent), "pipit/1"},
	} {
		if f[0] != f[1] {
			t.Errorf("got %q, want %q", f[0], f[1])
		}
	}
}

// FuzzFrontDoor: whatever comes, byte by byte or whole, is judged alike; what passes
// has none of the things that gobwas or net/http would read differently.
func FuzzFrontDoor(f *testing.F) {
	for _, c := range headCases {
		if len(c.head) < 2000 {
			f.Add([]byte(c.head))
		}
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		wantEnd, _, wantFail := headEnd(p, 0)
		end, from := 0, 0
		var fail *headError
		for n := 1; n <= len(p) && end == 0 && fail == nil; n++ {
			end, from, fail = headEnd(p[:n], from)
		}
		if end != wantEnd || fail != wantFail {
			t.Fatalf("byte by byte: end %d, %v; whole %d, %v", end, fail, wantEnd, wantFail)
		}
		if end == 0 {
			return
		}
		head := bytes.Clone(p[:end])
		h, fail := parseHead(head)
		if fail != nil {
			return
		}
		if !bytes.Equal(head, p[:end]) {
			t.Fatal("parsing changed the bytes")
		}
		lines := strings.Split(string(head), "\r\n")
		hosts := 0
		for _, line := range lines {
			if strings.ContainsAny(line, "\r\n\x00\x7f") {
				t.Fatalf("a line with a control character passed: %q", line)
			}
			if strings.HasPrefix(strings.ToLower(line), "host:") {
				hosts++
			}
		}
		if hosts > 1 || hosts == 0 && h.minor == 1 {
			t.Fatalf("%d hosts passed", hosts)
		}
		if h.wantsWebSocket("/v1/ws") && h.checkUpgrade("pipit.v1") == nil {
			rw := headAndAnswer{head: head}
			if err := answerUpgrade(&rw, "pipit.v1"); err != nil {
				t.Fatalf("passed our check but not the library's: %v", err)
			}
			if len(rw.head) != 0 || !bytes.HasPrefix(rw.answer, []byte("HTTP/1.1 101 ")) {
				t.Fatalf("answer %q, %d bytes left", rw.answer, len(rw.head))
			}
		}
	})
}
