package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/im"
)

// FuzzDecodeRequest holds the envelope against encoding/json: what is taken is a
// JSON object with the members that PROTOCOL 2.1 asks for, and nothing that is
// such an object is refused.
func FuzzDecodeRequest(f *testing.F) {
	cases, _ := readRequests(f)
	for _, v := range cases {
		f.Add(v.bytes(f))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		lent := bytes.Clone(p)
		r, fault := DecodeRequest(p)
		if !bytes.Equal(p, lent) {
			t.Fatal("the message was changed")
		}
		if fault != nil && fault.Code == CodeParse != !validJSON(p) {
			t.Fatalf("%q: %v", p, fault)
		}
		if fault != nil && fault.Code != CodeParse && fault.Code != CodeRequest {
			t.Fatalf("%q: %v", p, fault)
		}
		if r.ID != nil && !goodID(r.ID) {
			t.Fatalf("%q: id %s", p, r.ID)
		}
		if err := fault; err != nil {
			frame := ErrorFrame(r.ID, fault)
			if s, err := DecodeServerMessage(payload(t, frame)); err != nil || s.Error == nil || *s.Error != *fault {
				t.Fatalf("the client reads %s as %+v, %v", frame, s, err)
			}
			return
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(p, &members); err != nil {
			t.Fatalf("%q was taken: %v", p, err)
		}
		var version, method string
		if json.Unmarshal(members["jsonrpc"], &version) != nil || version != "2.0" {
			t.Fatalf("%q was taken", p)
		}
		if json.Unmarshal(members["method"], &method) != nil || r.Method != knownMethods[method] {
			t.Fatalf("%q: method %q, want %q", p, r.Method, method)
		}
		if !bytes.Equal(r.ID, members["id"]) || !bytes.Equal(r.Params, members["params"]) {
			t.Fatalf("%q: id %s and params %s, want %s and %s", p, r.ID, r.Params, members["id"], members["params"])
		}
		checkParams(t, r.Method, r.Params)
	})
}

// FuzzParams gives arbitrary bytes to the params decoder of every method.
func FuzzParams(f *testing.F) {
	cases, _ := readRequests(f)
	for _, v := range cases {
		if r, fault := DecodeRequest(v.bytes(f)); fault == nil && len(r.Params) < 1000 {
			for n, m := range allMethods {
				if m == r.Method {
					f.Add(uint8(n), r.Params)
				}
			}
		}
	}
	for _, s := range []string{"", "{", `{"id"`, `{"id":`, `{"id":"`, `{"id":"c"`, `{"id":"c",`, `{"users":[`, `{"users":["a"`, `{"users":["a",`, `{"users":[,]}`} {
		f.Add(uint8(10), []byte(s))
	}
	f.Fuzz(func(t *testing.T, n uint8, p []byte) {
		checkParams(t, allMethods[int(n)%len(allMethods)], p)
	})
}

// checkParams decodes p as the params of method. Either it is refused with an
// error that PROTOCOL knows, or what it means survives being sent again.
func checkParams(t *testing.T, method string, p []byte) {
	if method == "" {
		return
	}
	lim := im.Limits{TextBytes: 300}
	got, err := decodeParams(method, p, lim)
	if err != nil {
		e, ok := err.(*im.Error)
		if !ok || e.Field == "" || e.Message == "" || !utf8.ValidString(e.Message) ||
			e.Kind != im.BadParams && e.Kind != im.Invalid && (e.Kind != im.TooLarge || e.Limit == 0) {
			t.Fatalf("%s %q: %#v", method, p, err)
		}
		if e.Kind != im.BadParams && !json.Valid(p) {
			t.Fatalf("%s %q is no JSON, but the error is %v", method, p, err)
		}
		return
	}
	if p != nil && !(json.Valid(p) && utf8.Valid(p)) {
		t.Fatalf("%s %q was taken", method, p)
	}
	sent := got.AppendParams(nil)
	if !json.Valid(sent) || !utf8.Valid(sent) {
		t.Fatalf("%s %q is sent as %q", method, p, sent)
	}
	again, err := decodeParams(method, sent, lim)
	if err != nil || !sameParams(got, again) {
		t.Fatalf("%s %q is %+v, but sent as %s it is %+v, %v", method, p, got, sent, again, err)
	}
	if b, ok := got.(interface{ Body() [16]byte }); ok && b.Body() != again.(interface{ Body() [16]byte }).Body() {
		t.Fatalf("%s %q and %s have different bodies", method, p, sent)
	}
}

// sameParams compares what two params mean: an empty list is no list.
func sameParams(a, b Params) bool {
	return reflect.DeepEqual(a, b) || bytes.Equal(a.AppendParams(nil), b.AppendParams(nil))
}

// FuzzServerMessage gives arbitrary bytes to every decoder of the client; what
// one takes, the server can write, and then it means the same again.
func FuzzServerMessage(f *testing.F) {
	shapes := map[string]bool{}
	for _, v := range readServerMessages(f) {
		if v.Shape != "unknown" && v.Shape != "" {
			shapes[v.Shape] = true
		}
		f.Add([]byte(v.Message))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := DecodeServerMessage(p)
		if err != nil {
			return
		}
		if !json.Valid(p) {
			t.Fatalf("%q was taken", p)
		}
		if s.Error != nil {
			if _, err := DecodeServerMessage(payload(t, ErrorFrame(s.RawID, s.Error))); err != nil {
				t.Fatalf("%q: %v", p, err)
			}
			return
		}
		body := append(s.Result, s.Params...)
		for shape := range shapes {
			for _, id := range [][]byte{nil, []byte("7")} {
				if id == nil && !eventShapes[shape] {
					continue
				}
				frame, err := reread(t, shape, id, body)
				if err != nil {
					continue
				}
				once, err := DecodeServerMessage(payload(t, frame))
				if err != nil {
					t.Fatalf("%s %q was written as %s: %v", shape, body, payload(t, frame), err)
				}
				again, err := reread(t, shape, id, append(once.Result, once.Params...))
				if err != nil || !bytes.Equal(again, frame) {
					t.Fatalf("%s %q was written as %s, then as %s, %v", shape, body, payload(t, frame), payload(t, again), err)
				}
			}
		}
	})
}

var eventShapes = map[string]bool{"head": true, "presence": true, "entry": true, "read": true, "typing": true}

// FuzzEntry encodes entries of every kind as an event and decodes them again.
func FuzzEntry(f *testing.F) {
	f.Add(uint8(1), "c_1", uint64(58), int64(1790000600000), "u_1", "hi", uint64(0), "u_2")
	f.Add(uint8(1), "c_1", uint64(1<<63-1), int64(-1), "u_1", "\"\\\n\x00\x1f\x7f é日😀\u2028", uint64(57), "")
	f.Add(uint8(3), "", uint64(0), int64(0), "", "", uint64(0), "")
	for kind := range uint8(9) {
		f.Add(kind, "c_1", uint64(58), int64(1), "u_1", "👍", uint64(57), "u_2")
	}
	f.Fuzz(func(t *testing.T, kind uint8, conv string, seq uint64, at int64, by, text string, target uint64, user string) {
		for _, s := range []string{conv, by, text, user} {
			if !utf8.ValidString(s) {
				return
			}
		}
		seq, target = seq&(1<<63-1), target&(1<<63-1)
		e := im.Entry{Conv: im.ConvID(conv), Seq: im.Seq(seq), Time: im.Millis(at), By: im.UserID(by), Kind: im.EntryKind(kind)}
		switch e.Kind {
		case im.EntryMessage:
			e.Text, e.ReplyTo = text, im.Seq(target)
			if user != "" {
				e.Mentions = []im.UserID{im.UserID(user), e.By}
			}
		case im.EntryEdit:
			e.Text, e.Target = text, im.Seq(target)
		case im.EntryRecall:
			e.Target = im.Seq(target)
		case im.EntryReaction:
			e.Target, e.Emoji, e.On = im.Seq(target), text, seq&1 != 0
		case im.EntryPin:
			e.Target, e.On = im.Seq(target), seq&1 != 0
		case im.EntryMember:
			e.User, e.Change, e.Role = im.UserID(user), im.MemberChange(1+target%3), im.MemberRole(seq%5)
		case im.EntryMeta:
			e.Title = text
		default:
			e.Kind = 0
		}
		frame := EntryEventFrame(&e)
		s, err := DecodeServerMessage(payload(t, frame))
		if err != nil || s.Method != EventEntry {
			t.Fatalf("%+v became %s: %v", e, frame, err)
		}
		got, err := DecodeEntry(s.Params)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v became %s, which is %+v, %v", e, frame, got, err)
		}
		if size := entrySize(&e); len(s.Params) > size {
			t.Fatalf("%s takes %d bytes, entrySize says %d", s.Params, len(s.Params), size)
		}
	})
}
