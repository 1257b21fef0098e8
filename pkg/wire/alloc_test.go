package wire

import (
	"math"
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

// The message of 150 bytes that TARGETS measures with.
const sendRequest = `{"jsonrpc":"2.0","id":7,"method":"message.send","params":{"conversation":"c_k3jd8w0qmz5r1x7v","key":"3f0c2a9e-55d1-4b07","text":"@@"}}`

var (
	sendMessage = []byte(strings.Replace(sendRequest, "@@", "shall we meet at the gate?", 1))
	sendEscaped = []byte(strings.Replace(sendRequest, "@@", `she said \"meet at the gate\"\n\ud83d\ude00`, 1))
	limits      = im.Limits{FrameBytes: im.DefaultFrameBytes, TextBytes: im.DefaultTextBytes}
	entry       = im.Entry{Conv: "c_k3jd8w0qmz5r1x7v", Seq: 58, Time: 1790000600000, By: "u_0a1b2c3d4e5f6g7h",
		Kind: im.EntryMessage, Text: "she said \"meet at the gate\"\n😀"}
)

func allocations(t *testing.T, what string, want float64, f func()) {
	t.Helper()
	if got := testing.AllocsPerRun(200, f); got > want {
		t.Errorf("%s allocates %v times, at most %v are promised", what, got, want)
	}
}

func TestAllocations(t *testing.T) {
	allocations(t, "DecodeRequest", 0, func() {
		if r, fault := DecodeRequest(sendMessage); fault != nil || r.Method != MethodSend {
			t.Fatal(r, fault)
		}
	})
	for _, p := range [][]byte{sendMessage, sendEscaped} {
		r, _ := DecodeRequest(p)
		allocations(t, "DecodeSend", 3, func() {
			if p, err := DecodeSend(r.Params, limits); err != nil || p.Text == "" {
				t.Fatal(err)
			}
		})
	}
	send, err := DecodeSend([]byte(`{"conversation":"c_1","key":"k","text":"x","mentions":["u_1"]}`), limits)
	if err != nil {
		t.Fatal(err)
	}
	allocations(t, "Body", 1, func() { send.Body() })
	dst := make([]byte, 0, 1024)
	allocations(t, "AppendTextFrame", 0, func() { AppendTextFrame(dst, sendMessage) })
	allocations(t, "AppendEntry", 0, func() { AppendEntry(dst, &entry) })
	allocations(t, "AppendRequest", 0, func() { AppendRequest(dst, 7, MethodSend, &send) })
	frame := payload(t, EntryEventFrame(&entry))
	allocations(t, "DecodeServerMessage", 0, func() {
		if s, err := DecodeServerMessage(frame); err != nil || s.Method != EventEntry {
			t.Fatal(err)
		}
	})
	event, _ := DecodeServerMessage(frame)
	allocations(t, "DecodeEntry", 3, func() {
		if e, err := DecodeEntry(event.Params); err != nil || e.Seq != 58 {
			t.Fatal(err)
		}
	})
}

// TestOneAllocationAFrame holds every Frame function to its size: numbers are as
// long as can be, strings the worst case or short (where an overhead that is
// stated too low has nowhere to hide), and no frame may need a second
// allocation.
func TestOneAllocationAFrame(t *testing.T) {
	t.Run("long", func(t *testing.T) {
		oneAllocationAFrame(t, "\x01\x02\"\\\n\u00e9\u2028😀"+strings.Repeat("\x1f", 300))
	})
	t.Run("short", func(t *testing.T) { oneAllocationAFrame(t, "x") })
}

func oneAllocationAFrame(t *testing.T, worst string) {
	id := []byte(`"` + strings.Repeat("x", im.MaxRequestIDBytes) + `"`)
	long := im.Seq(1<<63 - 1)
	at := im.Millis(-1 << 63)
	all := []im.UserID{im.UserID(worst), im.UserID(worst)}
	entries := []im.Message{}
	for kind := im.EntryMessage; kind <= im.EntryMeta; kind++ {
		entries = append(entries, im.Message{
			Entry: im.Entry{Conv: im.ConvID(worst), Seq: long, Time: at, By: all[0], Kind: kind, Text: worst, ReplyTo: long, Mentions: all,
				Key: worst, Target: long, Emoji: worst, User: all[0], Change: im.ChangeJoined, Role: im.MemberModerator, Title: worst},
			State: im.State{Text: worst + worst, Edited: at, Pinned: 1, Reactions: []im.Reaction{{Emoji: worst, Count: math.MinInt}, {Emoji: worst, Count: math.MinInt}}}})
	}
	user := &im.User{ID: all[0], Username: worst, Name: worst, Role: im.RoleMember}
	heads := []im.Head{{ID: im.ConvID(worst), Kind: im.KindDirect, Title: worst, Head: long, Read: long, Unread: math.MinInt, Mentions: math.MinInt,
		Role: im.MemberModerator, Members: math.MinInt, Updated: at, Last: &entries[0], Peer: user, PeerRead: long},
		{ID: "c_1", Kind: im.KindChannel, Left: true}}
	bare := heads[0]
	bare.Last, bare.Peer = nil, nil
	heads = append(heads, bare)
	hello := &HelloResult{Session: im.SessionID(worst), User: *user, Tenant: im.Tenant{ID: im.TenantID(worst), Name: worst}, Epoch: im.Epoch(worst),
		Sync: worst, Time: at, Heartbeat: -1 << 63, Limits: im.Limits{FrameBytes: math.MinInt, TextBytes: math.MinInt, SendsPerMinute: math.MinInt},
		Conversations: heads, Next: worst, Full: true}
	nothingNew := *hello
	nothingNew.Conversations = nil
	presences := []im.Presence{{User: all[0], State: im.Online, Since: at}, {User: all[1], Since: at}}
	for name, f := range map[string]func() []byte{
		"ChangedEventFrame":   func() []byte { return ChangedEventFrame(&heads[0]) },
		"LeftEventFrame":      func() []byte { return LeftEventFrame(&heads[0]) },
		"ReadEventFrame":      func() []byte { return ReadEventFrame(heads[0].ID, all[0], long) },
		"TypingEventFrame":    func() []byte { return TypingEventFrame(heads[0].ID, all[0]) },
		"PresenceEventFrame":  func() []byte { return PresenceEventFrame(presences) },
		"HelloResultFrame":    func() []byte { return HelloResultFrame(id, hello) },
		"HelloResultFrame, 0": func() []byte { return HelloResultFrame(id, &nothingNew) },
		"HeadsResultFrame":    func() []byte { return HeadsResultFrame(id, heads, worst, worst, true) },
		"HeadResultFrame":     func() []byte { return HeadResultFrame(id, &heads[0], true) },
		"EmptyResultFrame":    func() []byte { return EmptyResultFrame(id) },
		"SeqResultFrame":      func() []byte { return SeqResultFrame(id, long, at, true) },
		"TimeResultFrame":     func() []byte { return TimeResultFrame(id, at) },
		"PageResultFrame":     func() []byte { return PageResultFrame(id, &im.Page{Entries: entries, Head: long}, heads[0].ID) },
		"PinsResultFrame":     func() []byte { return PinsResultFrame(id, entries, heads[0].ID) },
		"UsersResultFrame":    func() []byte { return UsersResultFrame(id, []*im.User{user, user}) },
		"PresenceResultFrame": func() []byte { return PresenceResultFrame(id, presences) },
		"FindResultFrame": func() []byte {
			return FindResultFrame(id, []Found{{heads[0].ID, im.KindChannel, worst, math.MinInt, false}, {heads[0].ID, im.KindChannel, worst, math.MinInt, false}}, worst)
		},
		"MembersResultFrame": func() []byte {
			return MembersResultFrame(id, []MemberInfo{{all[0], worst, worst, im.MemberModerator, at}, {all[0], worst, worst, im.MemberModerator, at}}, worst)
		},
		"ReadListResultFrame": func() []byte {
			return ReadListResultFrame(id, &ReadListResult{all, all, math.MinInt, math.MinInt, worst})
		},
		"ErrorFrame": func() []byte {
			return ErrorFrame(id, &RPCError{Code: CodeInternal, Kind: im.Unauthenticated, Message: worst, Field: worst, Limit: 1<<63 - 1, RetryAfter: 1<<63 - 1, Reason: im.Reason(worst), Ref: worst})
		},
	} {
		if s, err := DecodeServerMessage(payload(t, f())); err != nil {
			t.Errorf("%s: %v: %s", name, err, s.RawID)
		}
		allocations(t, name, 1, func() { f() })
	}
	for i := range heads {
		if size, p := headSize(&heads[i]), AppendHead(nil, &heads[i]); len(p) > size {
			t.Errorf("%s takes %d bytes, headSize says %d", p, len(p), size)
		}
	}
	for i := range entries {
		if size, p := messageSize(&entries[i]), AppendMessage(nil, &entries[i], entries[i].Conv); len(p) > size {
			t.Errorf("%s takes %d bytes, messageSize says %d", p, len(p), size)
		}
		e := &entries[i].Entry
		if size, p := entrySize(e), AppendEntry(nil, e); len(p) > size {
			t.Errorf("%s takes %d bytes, entrySize says %d", p, len(p), size)
		}
		allocations(t, "EntryEventFrame of "+e.Kind.String(), 1, func() { EntryEventFrame(e) })
	}
}

func BenchmarkDecodeSend(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(sendMessage)))
	for b.Loop() {
		r, _ := DecodeRequest(sendMessage)
		if _, err := DecodeSend(r.Params, limits); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSendBody(b *testing.B) {
	r, _ := DecodeRequest(sendMessage)
	p, _ := DecodeSend(r.Params, limits)
	b.ReportAllocs()
	for b.Loop() {
		p.Body()
	}
}

func BenchmarkEntryEventFrame(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		EntryEventFrame(&entry)
	}
}

func BenchmarkSeqResultFrame(b *testing.B) {
	id := []byte("7")
	b.ReportAllocs()
	for b.Loop() {
		SeqResultFrame(id, 58, 1790000600000, false)
	}
}

func BenchmarkDecodeEntryEvent(b *testing.B) {
	p := payload(b, EntryEventFrame(&entry))
	b.ReportAllocs()
	for b.Loop() {
		s, _ := DecodeServerMessage(p)
		if _, err := DecodeEntry(s.Params); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPageOf50(b *testing.B) {
	page := im.Page{Head: 50}
	for range 50 {
		page.Entries = append(page.Entries, im.Message{Entry: entry})
	}
	id := []byte("7")
	b.ReportAllocs()
	for b.Loop() {
		PageResultFrame(id, &page, entry.Conv)
	}
}
