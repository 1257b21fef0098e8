package conformance_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func Test1_1_Upgrade(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	const p = "Sec-WebSocket-Protocol: "
	for name, c := range map[string]struct {
		lines []string
		want  int
	}{
		"plain":                     {nil, 101},
		"extensions offered":        {[]string{"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"}, 101},
		"one of several":            {[]string{"-Sec-WebSocket-Protocol", p + "graphql-ws, pipit.v1 , x"}, 101},
		"on the second line":        {[]string{"-Sec-WebSocket-Protocol", p + "x", p + "pipit.v1"}, 101},
		"header names in any case":  {[]string{"-Upgrade", "-Connection", "UPGRADE: WebSocket", "connection: keep-alive, upgrade"}, 101},
		"no subprotocol":            {[]string{"-Sec-WebSocket-Protocol"}, 400},
		"another subprotocol":       {[]string{"-Sec-WebSocket-Protocol", p + "pipit.v2"}, 400},
		"subprotocol in wrong case": {[]string{"-Sec-WebSocket-Protocol", p + "Pipit.v1"}, 400},
		"no key":                    {[]string{"-Sec-WebSocket-Key"}, 400},
		"short key":                 {[]string{"-Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIA=="}, 400},
		"old version":               {[]string{"-Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"}, 426},
	} {
		t.Run(name, func(t *testing.T) {
			conn := s.dialTCP(t)
			conn.SetDeadline(time.Now().Add(patience))
			io.WriteString(conn, s.upgradeHead(c.lines...))
			status, h := answerHead(t, bufio.NewReader(conn))
			if status != c.want {
				t.Fatalf("answered %d, must be %d", status, c.want)
			}
			if status == 101 {
				checkUpgrade(t, h)
			}
			if status == 426 && h.Get("Sec-WebSocket-Version") != "13" {
				t.Errorf("RFC 6455 §4.4: no Sec-WebSocket-Version: 13: %v", h)
			}
		})
	}
}

func Test1_1_UpgradeByteByByteWithFramesBehind(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	ann := s.tenant(t).people(t, "ann")[0]
	hello := request("1", "session.hello", J{"token": ann.token})
	for _, bytewise := range []bool{false, true} {
		conn := s.dialTCP(t)
		conn.SetDeadline(time.Now().Add(patience))
		// All in one go: the head and the first messages may share a segment.
		all := append([]byte(s.upgradeHead()), text(hello)...)
		all = append(all, text(request("2", "session.ping", J{}))...)
		all = append(all, frameOf(fin|opClose, closing(1000, ""))...)
		if bytewise {
			for i := range all {
				if _, err := conn.Write(all[i : i+1]); err != nil {
					t.Fatal(err)
				}
			}
		} else if _, err := conn.Write(all); err != nil {
			t.Fatal(err)
		}
		ws := &socket{conn, bufio.NewReader(conn)}
		if status, _ := answerHead(t, ws.r); status != 101 {
			t.Fatal(status)
		}
		texts, end := ws.untilEnd(t)
		// The close frame came before the hello was answered or behind it: both orders are within the protocol.
		if end.code != 1000 || len(texts) > 0 && parse(t, []byte(texts[0])).get("id").num() != 1 {
			t.Errorf("bytewise %v: %q, %v", bytewise, texts, end)
		}
	}
}

func Test1_2_ByteByByte(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	id, m := a.compose("message.send", J{"conversation": c, "text": strings.Repeat("é😀", 60), "key": key()})
	for _, one := range text(m) {
		a.ws.put(t, []byte{one})
	}
	seq := a.reply(id).get("result", "seq").num()
	if got := b.entry(c, seq).get("text").str(); got != strings.Repeat("é😀", 60) {
		t.Errorf("arrived as %q", got)
	}
}

// badFrames are what a client must not send, and the code for it.
var badFrames = map[string]struct {
	bytes []byte
	code  uint16
}{
	"binary":                       {frameOf(fin|opBinary, "{}"), 1003},
	"empty binary":                 {frameOf(fin|opBinary, ""), 1003},
	"first fragment binary":        {frameOf(opBinary, "{}"), 1003},
	"not UTF-8":                    {text("{\"\xff\":1}"), 1007},
	"overlong UTF-8":               {text("\"\xc0\x80\""), 1007},
	"surrogate in UTF-8":           {text("\"\xed\xa0\x80\""), 1007},
	"beyond the last plane":        {text("\"\xf4\x90\x80\x80\""), 1007},
	"cut UTF-8":                    {text("\"\xe2\x82"), 1007},
	"UTF-8 cut at the last piece":  {slices.Concat(frameOf(opText, "\"\xe2"), frameOf(fin|opContinuation, "\x82")), 1007},
	"unmasked":                     {[]byte{fin | opText, 2, '{', '}'}, 1002},
	"unmasked and empty":           {[]byte{fin | opText, 0}, 1002},
	"first reserved bit":           {frameOf(fin|0x40|opText, "{}"), 1002},
	"second reserved bit":          {frameOf(fin|0x20|opText, "{}"), 1002},
	"third reserved bit on a ping": {frameOf(fin|0x10|opPing, ""), 1002},
	"opcode 3":                     {frameOf(fin|3, ""), 1002},
	"opcode 7":                     {frameOf(fin|7, "x"), 1002},
	"opcode 11":                    {frameOf(fin|11, ""), 1002},
	"opcode 15":                    {frameOf(fin|15, ""), 1002},
	"fragmented ping":              {frameOf(opPing, "x"), 1002},
	"ping of 126 bytes":            {frameOf(fin|opPing, strings.Repeat("x", 126)), 1002},
	"pong of 126 bytes":            {frameOf(fin|opPong, strings.Repeat("x", 126)), 1002},
	"continuation of nothing":      {frameOf(fin|opContinuation, "x"), 1002},
	"text within a message":        {slices.Concat(frameOf(opText, "{"), text("}")), 1002},
	"close of one byte":            {frameOf(fin|opClose, "\x03"), 1002},
	"close code 0":                 {frameOf(fin|opClose, closing(0, "")), 1002},
	"close code 999":               {frameOf(fin|opClose, closing(999, "")), 1002},
	"close code 1004":              {frameOf(fin|opClose, closing(1004, "")), 1002},
	"close code 1005":              {frameOf(fin|opClose, closing(1005, "")), 1002},
	"close code 1006":              {frameOf(fin|opClose, closing(1006, "")), 1002},
	"close code 1015":              {frameOf(fin|opClose, closing(1015, "")), 1002},
	"close code 1016":              {frameOf(fin|opClose, closing(1016, "")), 1002},
	"close code 5000":              {frameOf(fin|opClose, closing(5000, "")), 1002},
	"close reason not UTF-8":       {frameOf(fin|opClose, closing(1000, "\xff")), 1007},
	"too long":                     {text(strings.Repeat(" ", 65537)), 1009},
	"too long by its announcement": {append(binary.BigEndian.AppendUint64([]byte{fin | opText, 0xff}, 1<<40), 1, 2, 3, 4), 1009},
	"too long over its fragments":  {slices.Concat(frameOf(opText, strings.Repeat(" ", 40000)), frameOf(fin|opContinuation, strings.Repeat(" ", 25537))), 1009},
	"length with its highest bit":  {append(binary.BigEndian.AppendUint64([]byte{fin | opText, 0xff}, 1<<63), 1, 2, 3, 4), 0},
}

func Test1_2_BadFrames(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	ann := s.tenant(t).people(t, "ann")[0]
	for name, c := range badFrames {
		t.Run(name, func(t *testing.T) {
			for _, greeted := range []bool{false, true} {
				ws := s.open(t)
				if greeted {
					ws.put(t, text(request("1", "session.hello", J{"token": ann.token})))
					if op, last, p, err := ws.serverFrame(); err != nil || op != opText || !last {
						t.Fatal(op, last, string(p), err)
					}
				}
				ws.put(t, c.bytes)
				texts, end := ws.untilEnd(t)
				if c.code == 0 { // RFC 6455 §5.2 forbids it and 1.2 has two codes that fit
					if end.code != 1002 && end.code != 1009 {
						t.Errorf("greeted %v: ended with %v", greeted, end)
					}
				} else if end.code != c.code {
					t.Errorf("greeted %v: ended with %v, must be %d", greeted, end, c.code)
				}
				if len(texts) != 0 {
					t.Errorf("greeted %v: answered %q", greeted, texts)
				}
			}
		})
	}
}

func Test1_2_FragmentsAndPings(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	ann := s.tenant(t).people(t, "ann")[0]
	hello := request("1", "session.hello", J{"token": ann.token})
	ws := s.open(t)
	// Empty fragments, pings in between, a character in two fragments.
	ping := request(`"é"`, "session.ping", J{})
	cut := strings.Index(ping, "é") + 1
	for _, p := range [][]byte{
		frameOf(fin|opPing, "before"), frameOf(opText, ""), frameOf(opContinuation, hello[:10]), frameOf(fin|opPing, ""),
		frameOf(fin|opPong, "nobody asked"), frameOf(opContinuation, ""), frameOf(fin|opContinuation, hello[10:]),
		frameOf(opText, ping[:cut]), frameOf(fin|opPing, strings.Repeat("p", 125)), frameOf(fin|opContinuation, ping[cut:]),
	} {
		ws.put(t, p)
	}
	var pongs, texts []string
	ws.SetReadDeadline(time.Now().Add(patience))
	for len(texts) < 2 || len(pongs) < 3 {
		op, last, payload, err := ws.serverFrame()
		if err != nil || !last {
			t.Fatal(err, last, pongs, texts)
		}
		switch op {
		case opPong:
			pongs = append(pongs, string(payload))
		case opText:
			texts = append(texts, string(payload))
		default:
			t.Fatalf("opcode %d %q", op, payload)
		}
	}
	if want := []string{"before", "", strings.Repeat("p", 125)}; !slices.Equal(pongs, want) {
		t.Errorf("pongs %q", pongs)
	}
	if !strings.Contains(texts[0], `"id":1`) || !strings.Contains(texts[1], `"id":"é"`) {
		t.Errorf("replies %q", texts)
	}
}

func Test1_2_TheLongestMessage(t *testing.T) {
	t.Parallel()
	ann, _ := two(t)
	a := ann.connect(t)
	n := int(a.hello.get("limits", "frame_bytes").num())
	ping := request("100", "session.ping", J{})
	full := ping + strings.Repeat(" ", n-len(ping))
	a.ws.put(t, text(full))
	a.reply("100")
	ping = strings.Replace(full, "100", "101", 1)
	var p []byte
	first := byte(opText)
	for i := 0; i < len(ping); i += 5000 {
		part := ping[i:min(i+5000, len(ping))]
		if i+5000 >= len(ping) {
			first |= fin
		}
		p = append(p, frameOf(first, part)...)
		first = opContinuation
	}
	a.ws.put(t, p)
	a.reply("101")
	a.ws.put(t, text(full+" "))
	if end := a.ended(); end.code != 1009 {
		t.Errorf("one byte over %d ended with %v", n, end)
	}
}

func Test1_2_CloseHandshake(t *testing.T) {
	t.Parallel()
	s := mainServer(t)
	for _, c := range []struct {
		payload string
		want    uint16
	}{{"", 1005}, {closing(1000, "bye"), 1000}, {closing(1001, ""), 1001}, {closing(3000, ""), 3000}, {closing(4999, strings.Repeat("x", 123)), 4999}} {
		ws := s.open(t)
		ws.put(t, frameOf(fin|opClose, c.payload))
		if _, end := ws.untilEnd(t); end.code != c.want && !(c.want == 1005 && end.code == 1000) {
			t.Errorf("close %q was answered with %v", c.payload, end)
		}
	}
}

func Test1_3_Origin(t *testing.T) {
	t.Parallel()
	s := ownServer(t, "ORIGINS=https://chat.example.org,other.example.org:8443")
	for origin, want := range map[string]int{
		"http://" + s.addr: 101, "https://chat.example.org": 101, "https://other.example.org:8443": 101,
		"null": 403, "": 0, "http://127.0.0.1": 403, "http://127.0.0.1:1": 403, "https://evil.example": 403,
		"https://chat.example.org.evil.example": 403, "https://chat.example.org:444": 403, "http://" + s.addr + ".evil.example": 403,
		"file://": 403, "http://evil.example/" + s.addr: 403,
	} {
		conn := s.dialTCP(t)
		conn.SetDeadline(time.Now().Add(patience))
		lines := []string{"Origin: " + origin}
		if origin == "" {
			lines, want = nil, 101
		}
		io.WriteString(conn, s.upgradeHead(lines...))
		if status, _ := answerHead(t, bufio.NewReader(conn)); status != want {
			t.Errorf("Origin %q: %d, must be %d", origin, status, want)
		}
	}
}

func Test1_4_MessagesThatShareASegment(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	const n = 300
	var params []any
	for i := range n {
		params = append(params, J{"conversation": c, "text": fmt.Sprint(i), "key": key()})
	}
	for i, id := range a.startAll("message.send", params...) {
		if seq := a.reply(id).get("result", "seq").num(); seq != int64(i+1) {
			t.Fatalf("request %d got seq %d", i, seq)
		}
	}
	for i := range n {
		if got := b.entry(c, int64(i+1)).get("text").str(); got != fmt.Sprint(i) {
			t.Fatalf("entry %d is %q", i+1, got)
		}
	}
}

func Test1_5_MemberNamesAndNull(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a := ann.connect(t)
	c := a.direct(ben)
	send := func(more string) string {
		return `{"conversation":"` + c + `","key":"` + key() + `"` + more + `}`
	}
	a.ok("message.send", send(`,"text":"x","unknown":null,"Text":5,"also":{"deep":[null]}`))
	a.bad("message.send", send(`,"Text":"x"`), "text")
	a.bad("message.send", send(`,"text":null`), "text")
	a.bad("message.send", send(`,"text":"x","reply_to":null`), "reply_to")
	a.bad("message.send", send(`,"text":"x","mentions":null`), "mentions")
	a.bad("message.send", send(`,"text":"x","mentions":[null]`), "mentions")
	a.bad("message.send", send(`,"text":"x","files":null`), "files")
	a.bad("message.history", `{"conversation":"`+c+`","limit":null}`, "limit")
	a.bad("message.history", `{"conversation":null}`, "conversation")
	a.bad("conversation.list", `{"sync":null}`, "sync")
	a.bad("presence.set", `{"state":null}`, "state")
	// The envelope ignores what it does not know too.
	a.ws.put(t, text(`{"jsonrpc":"2.0","id":77,"method":"session.ping","more":null,"ID":4,"params":{"x":null}}`))
	a.reply("77")
	// A lone surrogate is invalid wherever text stands.
	for _, lone := range []string{`\ud800`, `\udc00`, `\ud800x`, `a\udbff`, `\ud800\ud800`, `\udc00\ud800`} {
		a.fail("message.send", send(`,"text":"`+lone+`"`), "invalid", "text")
	}
	a.fail("conversation.create", `{"kind":"group","title":"\ud800","key":"`+key()+`"}`, "invalid", "title")
	if got := a.head(c).get("head").num(); got != 1 {
		t.Errorf("head %d: something refused was stored", got)
	}
}

var texts = map[string]string{
	"NUL":            "a\x00b",
	"controls":       "\x01\x02\x08\x0b\x0c\x0e\x1f\x7f\u0080\u009f",
	"white":          " \t\r\n\u00a0\u2028\u2029\u3000 ",
	"quotes":         `"\/'<>&` + "`",
	"combining":      "e\u0301 é e\u0301\u0327\u0300 \u0301",
	"not normalised": "\u212b \u00c5 A\u030a \ufb01 \u1e9b\u0323",
	"joined":         "👩‍👩‍👧‍👦 👍🏽 🏳️‍🌈 🇩🇪 1️⃣ \u200d\u200c\ufe0f",
	"direction":      "שלום \u202eabc\u202c مرحبا \u2066x\u2069",
	"scripts":        "汉字 漢字 かな 한글 ไทย हिन्दी Ελληνικά",
	"planes":         "𝄞 𠀋 \U0001F600 \U000E0001 \U000F0000 \U0010FFFF",
	"noncharacters":  "\ufffe\uffff\ufdd0 \U0001fffe \ufeff\ufffd \ue000",
	"null":           "null",
	"json":           `{"jsonrpc":"2.0"}`,
	"escapes":        `\u0000 \ud800`,
	"long line":      strings.Repeat("x", 16384),
	"long and wide":  strings.Repeat("😀", 4096),
}

func Test1_5_TextIsServedAsSent(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	for name, s := range texts {
		seq := a.send(c, s)
		if got := b.entry(c, seq).get("text").str(); got != s {
			t.Errorf("%s: the event has %q", name, got)
		}
		if got := b.page(c, J{"after": seq - 1}).get("entries", 0, "text").str(); got != s {
			t.Errorf("%s: the page has %q", name, got)
		}
		if status, body := b.who.rest(t, "GET", "/v1/conversations/"+c+"/messages?limit=1", nil); status != 200 || body.get("entries", 0, "text").str() != s {
			t.Errorf("%s: REST has %d %s", name, status, body)
		}
		if got := b.head(c).get("last", "text").str(); !strings.HasPrefix(s, got) || len(s) <= 256 && got != s {
			t.Errorf("%s: the head has %q", name, got)
		}
		change := J{"conversation": c, "target": seq, "text": s + "!", "key": key()}
		if len(s) == 16384 {
			if e := a.fail("message.edit", change, "too_large", "text"); e.get("data", "limit").num() != 16384 {
				t.Errorf("%s: %s", name, e)
			}
			continue
		}
		edit := a.ok("message.edit", change).get("seq").num()
		if got := b.entry(c, edit).get("text").str(); got != s+"!" {
			t.Errorf("%s: the event of the edit has %q", name, got)
		}
		if got := b.page(c, J{"after": seq - 1, "limit": 1}).get("entries", 0, "text").str(); got != s+"!" {
			t.Errorf("%s: the edited page has %q", name, got)
		}
	}
}

// Test1_5_EveryCodePoint sends each of the 1,112,064 there are, plain and as escapes.
func Test1_5_EveryCodePoint(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	var want []string
	var part []rune
	flush := func() {
		if len(part) > 0 {
			want = append(want, string(part))
			part = part[:0]
		}
	}
	for r := rune(0); r <= 0x10ffff; r++ {
		if r >= 0xd800 && r < 0xe000 {
			continue
		}
		if part = append(part, r); len(part) == 4000 {
			flush()
		}
	}
	flush()
	for i, s := range want {
		var params any = J{"conversation": c, "text": s, "key": key()}
		if i%8 == 0 { // as UTF-16 escapes, which fit for fewer characters
			s = string([]rune(s)[:1000])
			want[i] = s
			var esc strings.Builder
			for _, r := range s {
				if r > 0xffff {
					fmt.Fprintf(&esc, `\u%04x\u%04X`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
				} else {
					fmt.Fprintf(&esc, `\u%04x`, r)
				}
			}
			params = `{"conversation":"` + c + `","key":"` + key() + `","text":"` + esc.String() + `"}`
		}
		if seq := a.ok("message.send", params).get("seq").num(); seq != int64(i+1) {
			t.Fatalf("seq %d for message %d", seq, i+1)
		}
		if got := b.entry(c, int64(i+1)).get("text").str(); got != s {
			t.Fatalf("text %d, which begins with %U, arrived otherwise", i, []rune(s)[0])
		}
	}
	for i, e := range b.log(c) {
		if e.get("text").str() != want[i] {
			t.Fatalf("text %d, which begins with %U, is stored otherwise", i, []rune(want[i])[0])
		}
	}
}

func Test2_1_IdsAreEchoedByteForByte(t *testing.T) {
	t.Parallel()
	ann, _ := two(t)
	ws := ann.open(t)
	ws.put(t, text(request("1", "session.hello", J{"token": ann.token})))
	good := []string{"0", "-0", "7", "1.50", "-1", "1e400", "0.1E+2", "12345678901234567890123", "9007199254740993", `""`, `"a"`, `"é"`, `"\u0041\n\/"`,
		`"` + strings.Repeat("x", 128) + `"`, `"` + strings.Repeat("é", 64) + `"`, `"null"`, `"\ud800"`, `" "`}
	for _, id := range good {
		ws.put(t, text(request(id, "session.ping", J{})))
	}
	bad := []string{"true", "false", "null", "{}", "[]", "[1]", `{"id":1}`, `"` + strings.Repeat("x", 129) + `"`, `"` + strings.Repeat("é", 65) + `"`}
	for _, id := range bad {
		ws.put(t, text(request(id, "session.ping", J{})))
	}
	var got []string
	ws.SetReadDeadline(time.Now().Add(patience))
	for len(got) < 1+len(good)+len(bad) {
		op, _, payload, err := ws.serverFrame()
		if err != nil || op != opText {
			t.Fatalf("%d replies to %d requests, then opcode %d, %v", len(got), 1+len(good)+len(bad), op, err)
		}
		got = append(got, string(payload))
	}
	for i, id := range good {
		var m struct {
			ID     json.RawMessage
			Result json.RawMessage
		}
		if err := json.Unmarshal([]byte(got[1+i]), &m); err != nil || !bytes.Equal(m.ID, []byte(id)) || m.Result == nil {
			t.Errorf("id %s: %s", id, got[1+i])
		}
	}
	for i, id := range bad {
		m := parse(t, []byte(got[1+len(good)+i]))
		if v, there := m.members()["id"]; !there || v != nil || m.get("error", "code").num() != -32600 {
			t.Errorf("id %s: %s", id, m)
		}
	}
}

func Test2_1_Envelope(t *testing.T) {
	t.Parallel()
	ann, _ := two(t)
	a := ann.connect(t)
	nest := func(n int) string { // params that make a message of n levels
		return strings.Repeat(`{"x":`, n-2) + `{}` + strings.Repeat(`}`, n-2)
	}
	for _, c := range []struct {
		m, id string
		code  int64
		field string
	}{
		{``, "null", -32700, ""},
		{` `, "null", -32700, ""},
		{`{`, "null", -32700, ""},
		{`}`, "null", -32700, ""},
		{`{"jsonrpc":"2.0","id":900,"method":"session.ping"} x`, "null", -32700, ""},
		{`{"jsonrpc":"2.0","id":900,"method":"session.ping",}`, "null", -32700, ""},
		{`{"jsonrpc":"2.0","id":0900,"method":"session.ping"}`, "null", -32700, ""},
		{`{"jsonrpc":"2.0","id":900,"method":'session.ping'}`, "null", -32700, ""},
		{"{\"jsonrpc\":\"2.0\",\"id\":\"a\tb\",\"method\":\"session.ping\"}", "null", -32700, ""},
		{`{"jsonrpc":"2.0","id":900,"method":"session.ping","params":{"a":NaN}}`, "null", -32700, ""},
		{`{"jsonrpc":"2.0","id":900,"method":"session.ping","params":{"a":"\x"}}`, "null", -32700, ""},
		{"\ufeff" + `{"jsonrpc":"2.0","id":900,"method":"session.ping"}`, "null", -32700, ""},
		{`{"jsonrpc":"2.0","id":900,"method":"session.ping","params":` + nest(65) + `}`, "null", -32700, ""},
		{strings.Repeat("[", 60000), "null", -32700, ""},
		{`"x"`, "null", -32600, ""},
		{`42`, "null", -32600, ""},
		{`null`, "null", -32600, ""},
		{`[]`, "null", -32600, ""},
		{`[{"jsonrpc":"2.0","id":900,"method":"session.ping"}]`, "null", -32600, ""},
		{`{}`, "null", -32600, ""},
		{`{"id":901,"method":"session.ping"}`, "901", -32600, ""},
		{`{"jsonrpc":"1.0","id":902,"method":"session.ping"}`, "902", -32600, ""},
		{`{"jsonrpc":2.0,"id":903,"method":"session.ping"}`, "903", -32600, ""},
		{`{"jsonrpc":"2.0","id":904}`, "904", -32600, ""},
		{`{"jsonrpc":"2.0","id":905,"method":7}`, "905", -32600, ""},
		{`{"jsonrpc":"2.0","id":906,"method":null}`, "906", -32600, ""},
		{`{"jsonrpc":"2.0","id":907,"method":"session.pong"}`, "907", -32601, ""},
		{`{"jsonrpc":"2.0","id":908,"method":""}`, "908", -32601, ""},
		{`{"jsonrpc":"2.0","id":909,"method":"Session.Ping"}`, "909", -32601, ""},
		{`{"jsonrpc":"2.0","id":910,"method":"conversation.get","params":[]}`, "910", -32602, "params"},
		{`{"jsonrpc":"2.0","id":911,"method":"conversation.get","params":"x"}`, "911", -32602, "params"},
		{`{"jsonrpc":"2.0","id":912,"method":"session.ping","params":null}`, "912", -32602, "params"},
		{`{"jsonrpc":"2.0","id":913,"method":"conversation.get"}`, "913", -32602, "id"},
		{`{"jsonrpc":"2.0","id":914,"method":"conversation.get","params":{}}`, "914", -32602, "id"},
		{`{"jsonrpc":"2.0","id":915,"method":"conversation.get","params":{"id":"x","id":5}}`, "915", -32602, "id"},
		{`{"jsonrpc":"2.0","id":916,"method":"conversation.get","params":{"id":5,"id":"x"}}`, "916", -32602, "id"},
		{`{"jsonrpc":"2.0","id":917,"method":"session.ping"}`, "917", 0, ""},
		{`{"jsonrpc":"2.0","id":1,"id":918,"method":"session.ping"}`, "918", 0, ""},
		{`{"jsonrpc":"2.0","id":919,"method":"session.ping","params":` + nest(64) + `}`, "919", 0, ""},
		{" \r\n\t{ \"method\" : \"session.p\\u0069ng\" , \"id\" : 920 , \"jsonrpc\" : \"2\\u002e0\" } \n", "920", 0, ""},
	} {
		a.ws.put(t, text(c.m))
		m := a.until("the answer to "+c.m[:min(80, len(c.m))], func(m message) bool { return m.event() == "" && !m.has("result", "session") })
		got := "null"
		if id := m.members()["id"]; id != nil {
			got = rawID(id)
		}
		code := m.get("error", "code").num()
		if c.code == 0 && !m.has("result") || c.code != 0 && code != c.code || got != c.id ||
			c.field != "" && m.get("error", "data", "field").str() != c.field {
			t.Errorf("%.120s: must be %d for id %s: %s", c.m, c.code, c.id, m)
		}
	}
}

func Test2_1_Numbers(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a := ann.connect(t)
	c := a.direct(ben)
	a.send(c, "x")
	for _, n := range []string{"1.0", "1e3", "1E0", "-1", `"1"`, "true", "[]", "{}", "9223372036854775808", "99999999999999999999999", "-0.0"} {
		a.bad("message.history", `{"conversation":"`+c+`","after":`+n+`}`, "after")
		a.bad("read.mark", `{"conversation":"`+c+`","seq":`+n+`}`, "seq")
		a.bad("message.send", `{"conversation":"`+c+`","key":"`+key()+`","text":"x","reply_to":`+n+`}`, "reply_to")
	}
	a.ok("message.history", `{"conversation":"`+c+`","after":9223372036854775807}`)
	a.ok("read.mark", `{"conversation":"`+c+`","seq":9223372036854775807}`)
	for _, n := range []string{"1000000", "9223372036854775807", "99999999999999999999999999"} {
		a.ok("message.history", `{"conversation":"`+c+`","limit":`+n+`}`)
	}
	for _, n := range []string{"0", "-1", "-99999999999999999999999999"} {
		a.fail("message.history", `{"conversation":"`+c+`","limit":`+n+`}`, "invalid", "limit")
	}
	for _, n := range []string{"1.5", "1e1", `"5"`, "true"} {
		a.bad("message.history", `{"conversation":"`+c+`","limit":`+n+`}`, "limit")
	}
	for _, on := range []string{"1", `"true"`, "0"} {
		a.bad("message.react", `{"conversation":"`+c+`","key":"`+key()+`","target":1,"emoji":"👍","on":`+on+`}`, "on")
	}
}

func Test2_2_Notifications(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.direct(ben)
	before := len(a.seen())
	a.notify("message.send", J{"conversation": c, "text": "x", "key": key()})
	a.notify("message.history", J{"conversation": c})
	a.notify("session.ping", J{})
	a.notify("session.hello", J{})
	a.notify("no.such.method", J{})
	a.notify("typing", J{})
	a.notify("typing", `[]`)
	a.notify("typing", J{"conversation": "c_none"})
	a.notify("presence.set", J{"state": "asleep"})
	a.notify("presence.set", J{"state": "away"})
	a.ok("typing", J{"conversation": c})
	a.ok("presence.set", J{"state": "online"})
	a.fail("presence.set", J{"state": "offline"}, "invalid", "state")
	if seq := a.send(c, "first"); seq != 1 {
		t.Errorf("seq %d: a notification was executed", seq)
	}
	for _, m := range a.seen()[before:] {
		if m.event() == "" && !m.has("id") {
			t.Errorf("a notification was answered: %s", m)
		}
	}
	b.entry(c, 1)
}

// Test2_3_OrderWithinASession mixes all that appends, with refused ones between, in one write.
func Test2_3_OrderWithinASession(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a, b := ann.connect(t), ben.connect(t)
	c := a.create("group", "G", ben)
	a.send(c, "the target")
	var frames []byte
	var order []string
	ids := map[string]string{}
	add := func(what, method string, params any) {
		id, m := a.compose(method, params)
		frames = append(frames, text(m)...)
		order, ids[id] = append(order, id), what
	}
	for i := range 60 {
		add("message", "message.send", J{"conversation": c, "text": fmt.Sprint("m", i), "key": key()})
		add("refused", "message.send", J{"conversation": c, "text": "x", "reply_to": 100000, "key": key()})
		add("edit", "message.edit", J{"conversation": c, "target": 1, "text": fmt.Sprint("e", i), "key": key()})
		add("refused", "message.edit", J{"conversation": c, "target": 99999, "text": "x", "key": key()})
		add("reaction", "message.react", J{"conversation": c, "target": 1, "emoji": "👍", "on": i%2 == 0, "key": key()})
		add("meta", "conversation.update", J{"id": c, "title": fmt.Sprint("T", i)})
		add("pin", "message.pin", J{"conversation": c, "target": 1, "on": i%2 == 0, "key": key()})
	}
	a.ws.put(t, frames)
	next := int64(2)
	for _, id := range order {
		v := a.reply(id)
		switch ids[id] {
		case "refused":
			if v.get("error", "data", "kind").str() != "invalid" {
				t.Errorf("%s", v)
			}
			continue
		case "meta":
			if got := v.get("result", "head").num(); got < next {
				t.Errorf("update: head %d, must be at least %d", got, next)
			}
		default:
			if got := v.get("result", "seq").num(); got != next {
				t.Fatalf("%s got seq %d, must be %d", ids[id], got, next)
			}
		}
		next++
	}
	for _, s := range []*session{a, b} {
		want := int64(1)
		for seq := want; seq < next; seq++ {
			s.entry(c, seq) // the law counts the holes
		}
	}
	// The replies to the updates came before their events (those of the others are held by the law).
	updates := 0
	at := map[string]int{}
	var metas []int
	for i, m := range a.seen() {
		if id, ok := m.members()["id"]; ok && ids[rawID(id)] == "meta" {
			at[rawID(id)] = i
			updates++
		}
		if m.event() == "entry" && m.get("params", "kind").str() == "meta" {
			metas = append(metas, i)
		}
	}
	n := 0
	for _, id := range order {
		if ids[id] == "meta" {
			if at[id] > metas[n] {
				t.Errorf("the meta entry %d came before the reply of its update", n)
			}
			n++
		}
	}
	if updates != 60 || len(metas) != 60 {
		t.Errorf("%d replies, %d metas", updates, len(metas))
	}
}

func Test2_3_ReplyBeforeChanged(t *testing.T) {
	t.Parallel()
	ann, ben := two(t)
	a := ann.connect(t)
	for i := range 30 {
		mark := len(a.seen())
		var conv string
		for step, call := range []func() string{
			func() string {
				return a.start("conversation.create", J{"kind": "group", "title": fmt.Sprint("G", i), "members": ids(ben), "key": key()})
			},
			func() string { return a.start("conversation.update", J{"id": conv, "title": fmt.Sprint("H", i)}) },
			func() string { return a.start("conversation.set_role", J{"id": conv, "user": ben.id, "role": "owner"}) },
			func() string { return a.start("conversation.leave", J{"id": conv}) },
		} {
			id := call()
			v := a.reply(id)
			if step == 0 {
				conv = v.get("result", "id").str()
			}
			replied := false
			for _, m := range a.seen()[mark:] {
				if got, ok := m.members()["id"]; ok && rawID(got) == id {
					replied = true
				}
				if m.event() == "conversation.changed" && m.get("params", "id").str() == conv && !replied {
					t.Fatalf("step %d: %s came before the reply", step, m)
				}
			}
			if step == 2 {
				break // another's role is no change of ours; the entry is its sign
			}
			a.changed(conv)
			mark = len(a.seen())
		}
	}
}
