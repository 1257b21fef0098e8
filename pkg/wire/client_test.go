package wire

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

type serverVector struct {
	Name    string
	Message string
	Type    string
	ID      json.RawMessage
	Method  string
	Shape   string
	Value   json.RawMessage
	Error   *struct {
		Code         int
		Kind         string
		Message      string
		Field        string
		Limit        int64
		RetryAfterMS int64 `json:"retry_after_ms"`
		Reason       string
		Ref          string
	}
	Retry  string
	Server bool
}

func readServerMessages(t testing.TB) []serverVector {
	var file struct {
		About string
		Cases []serverVector
	}
	readVectors(t, "server_messages.json", &file)
	return file.Cases
}

// reread decodes p as that shape and returns what it means as the frame that a
// server would write: for a reply to id, or for an event.
func reread(t testing.TB, shape string, id, p []byte) (frame []byte, err error) {
	t.Helper()
	switch shape {
	case "empty":
		return EmptyResultFrame(id), nil
	case "seq":
		r, err := DecodeSeqResult(p)
		return SeqResultFrame(id, r.Seq, r.Time, r.Repeat), err
	case "time":
		at, err := DecodeTime(p)
		return TimeResultFrame(id, at), err
	case "head":
		h, err := DecodeHead(p)
		if err != nil {
			return nil, err
		}
		repeat, err := DecodeRepeat(p)
		if id == nil && h.Left {
			return LeftEventFrame(&h), err
		} else if id == nil {
			return ChangedEventFrame(&h), err
		}
		return HeadResultFrame(id, &h, repeat), err
	case "hello":
		r, err := DecodeHelloResult(p)
		return HelloResultFrame(id, &r), err
	case "heads":
		r, err := DecodeHeads(p)
		return HeadsResultFrame(id, r.Conversations, r.Next, r.Sync, r.Full), err
	case "found":
		list, next, err := DecodeFound(p)
		return FindResultFrame(id, list, next), err
	case "members":
		list, next, err := DecodeMembersResult(p)
		return MembersResultFrame(id, list, next), err
	case "users":
		list, err := DecodeUsersResult(p)
		users := make([]*im.User, len(list))
		for i := range list {
			users[i] = &list[i]
		}
		return UsersResultFrame(id, users), err
	case "read_list":
		r, err := DecodeReadListResult(p)
		return ReadListResultFrame(id, &r), err
	case "presence":
		list, err := DecodePresenceList(p)
		if id == nil {
			return PresenceEventFrame(list), err
		}
		return PresenceResultFrame(id, list), err
	case "page", "pins":
		page, err := DecodePage(p)
		var conv im.ConvID
		if len(page.Entries) > 0 {
			conv = page.Entries[0].Conv
		}
		if shape == "pins" {
			return PinsResultFrame(id, page.Entries, conv), err
		}
		return PageResultFrame(id, &page, conv), err
	case "entry":
		e, err := DecodeEntry(p)
		return EntryEventFrame(&e), err
	case "read":
		r, err := DecodeReadEvent(p)
		return ReadEventFrame(r.Conversation, r.User, r.Seq), err
	case "typing":
		r, err := DecodeReadEvent(p)
		return TypingEventFrame(r.Conversation, r.User), err
	}
	t.Fatalf("unknown shape %q", shape)
	return nil, nil
}

// payload returns what a server text frame carries.
func payload(t testing.TB, frame []byte) []byte {
	t.Helper()
	for _, n := range []int{2, 4, 10} {
		if n <= len(frame) && bytes.Equal(AppendTextFrame(nil, frame[n:]), frame) {
			return frame[n:]
		}
	}
	t.Fatalf("not a server text frame: %.40x", frame)
	return nil
}

func retryOf(k im.Kind) string {
	switch k {
	case im.Unauthenticated:
		return "sign-in"
	case im.RateLimited:
		return "then"
	case im.Unavailable:
		return "later"
	case im.Internal:
		return "once"
	}
	return "no"
}

// TestServerMessageVectors holds the client's decoders against the vectors, and
// the server's encoders against what those decoders made of them: a vector that
// a server writes must come out byte for byte, and every buffer must have been
// big enough.
func TestServerMessageVectors(t *testing.T) {
	shapes := map[string]bool{}
	for _, v := range readServerMessages(t) {
		t.Run(v.Name, func(t *testing.T) {
			s, err := DecodeServerMessage([]byte(v.Message))
			if v.Type == "invalid" {
				if err == nil {
					t.Fatalf("taken as %+v", s)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var frame, body []byte
			switch v.Type {
			case "event":
				if s.Method != v.Method || s.RawID != nil {
					t.Fatalf("method %q and id %s, want %q and none", s.Method, s.RawID, v.Method)
				}
				if body = s.Params; v.Shape == "unknown" {
					if knownEvents[s.Method] != "" {
						t.Errorf("%s counts as known", s.Method)
					}
					return
				}
			case "reply", "error":
				if string(s.RawID) != string(v.ID) || s.Method != "" {
					t.Fatalf("id %s and method %q, want %s and none", s.RawID, s.Method, v.ID)
				}
				if number := v.ID[0] != '"' && v.ID[0] != 'n'; s.HasID != number {
					t.Errorf("HasID is %v for %s", s.HasID, v.ID)
				}
				body = s.Result
			}
			if v.Type == "error" {
				e := s.Error
				if e == nil {
					t.Fatalf("no error but result %s", s.Result)
				}
				kind := ""
				if e.hasKind() {
					kind = e.Kind.String()
				}
				if e.Code != v.Error.Code || kind != v.Error.Kind || e.Message != v.Error.Message || e.Field != v.Error.Field ||
					e.Limit != v.Error.Limit || e.RetryAfter.Milliseconds() != v.Error.RetryAfterMS || e.Ref != v.Error.Ref || string(e.Reason) != v.Error.Reason {
					t.Errorf("error %+v, want %+v", *e, *v.Error)
				}
				if retry := retryOf(im.KindOf(e)); retry != v.Retry {
					t.Errorf("retry %s, want %s", retry, v.Retry)
				}
				id := s.RawID
				if string(id) == "null" {
					id = nil
				}
				frame = ErrorFrame(id, e)
			} else {
				shapes[v.Shape] = true
				if frame, err = reread(t, v.Shape, s.RawID, body); err != nil {
					t.Fatal(err)
				}
				again, err := DecodeServerMessage(payload(t, frame))
				if err != nil {
					t.Fatalf("%s: %v", payload(t, frame), err)
				}
				body = append(again.Result, again.Params...)
				if got := meaning(t, body); !reflect.DeepEqual(got, meaning(t, v.Value)) {
					t.Errorf("means\n%s, want\n%s", body, v.Value)
				}
			}
			if p := payload(t, frame); v.Server && string(p) != v.Message {
				t.Errorf("the server writes\n%s, want\n%s", p, v.Message)
			}
		})
	}
	for _, s := range []string{"empty", "seq", "time", "head", "hello", "heads", "found", "members", "users",
		"read_list", "presence", "page", "pins", "entry", "read", "typing"} {
		if !shapes[s] {
			t.Errorf("no vector has shape %s", s)
		}
	}
}

// TestShapesRefused gives each decoder of results and events values of wrong
// shapes: they must say so, and not panic or invent something.
func TestShapesRefused(t *testing.T) {
	for _, c := range []struct{ shape, value, field string }{
		{"seq", `{}`, "seq"}, {"seq", `{"seq":1}`, "time"}, {"seq", `{"seq":"1","time":1}`, "seq"}, {"seq", `[]`, "params"},
		{"seq", `{"seq":1,"time":1,"repeat":1}`, "repeat"},
		{"time", `{"time":null}`, "time"},
		{"head", `{"id":"c_1"}`, "kind"}, {"head", `{"id":"c_1","kind":1}`, "kind"}, {"head", `{"id":"c_1","kind":"group","last":[]}`, "last"},
		{"head", `{"id":"c_1","kind":"group","last":{"seq":1}}`, "last"}, {"head", `{"id":"c_1","kind":"group","peer":{"name":"x"}}`, "peer"},
		{"hello", `{"session":"s"}`, "user"}, {"hello", `{"user":7}`, "user"}, {"hello", `{"tenant":{}}`, "tenant"},
		{"hello", `{"limits":{"frame_bytes":"x"}}`, "limits"}, {"hello", `{"conversations":[7]}`, "conversations"},
		{"heads", `{"conversations":{}}`, "conversations"}, {"heads", `{"conversations":[{"id":"c_1"}]}`, "conversations"},
		{"found", `{"conversations":[{"joined":1}]}`, "conversations"}, {"found", `{}`, "conversations"},
		{"members", `{"members":[{"user":1}]}`, "members"}, {"users", `{"users":[{}]}`, "users"},
		{"read_list", `{"read":[],"unread":[],"counts":{"read":1}}`, "counts"}, {"read_list", `{"read":[1]}`, "read"},
		{"presence", `{"users":[["u_1","online"]]}`, "users"}, {"presence", `{"users":[[]]}`, "users"},
		{"presence", `{"users":[["u_1",1,2]]}`, "users"}, {"presence", `{"users":["u_1"]}`, "users"}, {"presence", `{"users":[["u_1","away",1.5]]}`, "users"},
		{"page", `{"entries":[{"conversation":"c_1"}]}`, "entries"}, {"page", `{"entries":null}`, "entries"}, {"page", `{}`, "entries"},
		{"entry", `{"conversation":"c_1","seq":1,"time":1,"by":"u_1"}`, "kind"},
		{"entry", `{"conversation":"c_1","seq":1,"time":1,"by":"u_1","kind":"message","text":"\ud800"}`, "text"},
		{"entry", `{"conversation":"c_1","seq":1,"time":1,"by":"u_1","kind":"message","reactions":[{"emoji":"x"}]}`, "reactions"},
		{"entry", `{"conversation":"c_1","seq":1,"time":1,"by":"u_1","kind":"message","mentions":{}}`, "mentions"},
		{"read", `{"conversation":"c_1"}`, "user"}, {"read", `{`, "params"}, {"read", `{"seq":1,}`, "params"}, {"read", `{"seq" 1}`, "params"},
		{"read", `{"seq":1} x`, "params"}, {"read", "{\"user\":\"\xff\"}", "params"}, {"read", `{"other":[}`, "params"}, {"read", `{"user":"u`, "params"},
	} {
		_, err := reread(t, c.shape, []byte("1"), []byte(c.value))
		var e *im.Error
		if !asError(err, &e) || e.Field != c.field {
			t.Errorf("%s %s: %v, want field %s to blame", c.shape, c.value, err, c.field)
		}
	}
}
