package wire

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/im"
)

func TestLastIsCut(t *testing.T) {
	for _, c := range []struct {
		text string
		want int // bytes that are left
		cut  bool
	}{
		{strings.Repeat("x", 256), 256, false},
		{strings.Repeat("x", 257), 256, true},
		{strings.Repeat("é", 128), 256, false},
		{"x" + strings.Repeat("é", 128), 255, true},
		{strings.Repeat("日", 86), 255, true},
		{"xx" + strings.Repeat("😀", 64), 254, true},
		{"", 0, false},
	} {
		h := &im.Head{ID: "c_1", Kind: im.KindGroup, Title: "x", Last: &im.Message{Entry: im.Entry{Seq: 1, Kind: im.EntryMessage, Text: c.text}}}
		var got struct {
			Last struct {
				Text *string
				Cut  bool
			}
		}
		p := AppendHead(nil, h)
		if err := json.Unmarshal(p, &got); err != nil {
			t.Fatal(err)
		}
		if got.Last.Text == nil || *got.Last.Text != c.text[:c.want] || got.Last.Cut != c.cut {
			t.Errorf("%.20q… of %d bytes became %s", c.text, len(c.text), p)
		}
		if c.cut != strings.Contains(string(p), `"cut":true`) || strings.Contains(string(p), `"cut":false`) {
			t.Errorf("%.20q… of %d bytes became %s", c.text, len(c.text), p)
		}
	}
}

// TestRecalledTextIsServedToNobody holds PROTOCOL 5.4: whatever the state of a
// message that was recalled, neither its text nor that of an edit appears.
func TestRecalledTextIsServedToNobody(t *testing.T) {
	const secret, edited = "first wording", "second wording"
	recalled := im.Message{Entry: im.Entry{Conv: "c_1", Seq: 1, Kind: im.EntryMessage, Text: secret, Key: "k"},
		State: im.State{Text: edited, Edited: 5, Recalled: true, Pinned: 3, Reactions: []im.Reaction{{Emoji: "👍", Count: 1}}}}
	hidden := im.Message{Entry: im.Entry{Conv: "c_1", Seq: 2, Kind: im.EntryEdit, Target: 1, Text: edited}, Hidden: true}
	page := payload(t, PageResultFrame([]byte("1"), &im.Page{Entries: []im.Message{recalled, hidden}, Head: 2}, "c_1"))
	head := payload(t, ChangedEventFrame(&im.Head{ID: "c_1", Kind: im.KindGroup, Last: &recalled}))
	pins := payload(t, PinsResultFrame([]byte("1"), []im.Message{recalled}, "c_1"))
	for name, p := range map[string][]byte{"page": page, "head": head, "pins": pins} {
		for _, word := range []string{"wording", `"text"`, `"edited"`, `"pinned"`, `"cut"`} {
			if strings.Contains(string(p), word) {
				t.Errorf("%s tells %s: %s", name, word, p)
			}
		}
		if !strings.Contains(string(p), `"recalled":true`) {
			t.Errorf("%s does not say that it was recalled: %s", name, p)
		}
	}
}

// TestKeyIsForPagesOnly holds PROTOCOL 6.5.
func TestKeyIsForPagesOnly(t *testing.T) {
	m := im.Message{Entry: im.Entry{Conv: "c_1", Seq: 1, Kind: im.EntryMessage, Text: "x", Key: "my-key"}}
	if p := EntryEventFrame(&m.Entry); strings.Contains(string(p), "key") {
		t.Errorf("the event tells the key: %s", p)
	}
	if p := AppendHead(nil, &im.Head{Last: &m}); strings.Contains(string(p), "key") {
		t.Errorf("the head tells the key: %s", p)
	}
	if p := AppendMessage(nil, &m, "c_1"); !strings.Contains(string(p), `"key":"my-key"`) {
		t.Errorf("the page does not tell the key: %s", p)
	}
}

// TestNeverNull holds PROTOCOL 1.5: zero values are left out or are zero.
func TestNeverNull(t *testing.T) {
	id := []byte("1")
	for name, frame := range map[string][]byte{
		"entry": EntryEventFrame(&im.Entry{Kind: im.EntryMessage}), "head": HeadResultFrame(id, &im.Head{}, false),
		"direct": ChangedEventFrame(&im.Head{Kind: im.KindDirect}), "hello": HelloResultFrame(id, &HelloResult{}),
		"heads": HeadsResultFrame(id, nil, "", "", false), "found": FindResultFrame(id, nil, ""), "members": MembersResultFrame(id, nil, ""),
		"users": UsersResultFrame(id, nil), "read": ReadListResultFrame(id, &ReadListResult{}), "presence": PresenceResultFrame(id, nil),
		"page": PageResultFrame(id, &im.Page{}, ""), "pins": PinsResultFrame(id, nil, ""), "error": ErrorFrame(id, &RPCError{Code: CodeParse}),
	} {
		if strings.Contains(string(frame), "null") {
			t.Errorf("%s: %s", name, frame)
		}
		if !validJSON(payload(t, frame)) {
			t.Errorf("%s is not JSON: %s", name, frame)
		}
	}
	if p := payload(t, ErrorFrame(nil, &RPCError{Code: CodeParse})); !strings.Contains(string(p), `"id":null`) {
		t.Errorf("an error without id: %s", p)
	}
}

// TestBadStringsStayInside: one name that is not UTF-8 must not make a frame
// that clients refuse with 1007.
func TestBadStringsStayInside(t *testing.T) {
	for _, s := range []string{"\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80x", "é\xa9é"} {
		frame := TypingEventFrame(im.ConvID(s), "u_1")
		if !utf8.Valid(payload(t, frame)) || !validJSON(payload(t, frame)) {
			t.Errorf("%q became %s", s, frame)
		}
	}
}

func TestRetryAfterIsRoundedUp(t *testing.T) {
	e := ErrorOf(&im.Error{Kind: im.RateLimited, RetryAfter: 1})
	if p := payload(t, ErrorFrame([]byte("1"), e)); !strings.Contains(string(p), `"retry_after_ms":1}`) {
		t.Errorf("a nanosecond became %s", p)
	}
}
