package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// readVectors reads one file of test vectors (testdata/vectors/README.md). A
// member that the file has and v has not is an error: nothing may stay unread.
func readVectors(t testing.TB, name string, v any) {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(p))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// meaning returns JSON as a value that can be compared, its numbers exact.
func meaning(t testing.TB, p []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	return v
}

type fill struct {
	Of    string
	Times int
}

// fillIn replaces the mark "@@" as the vectors ask for.
func (f *fill) fillIn(s string) string {
	if f == nil {
		return s
	}
	return strings.ReplaceAll(s, "@@", strings.Repeat(f.Of, f.Times))
}

type requestVector struct {
	Name       string
	Message    string
	MessageHex string `json:"message_hex"`
	Fill       *fill
	ID         string
	Method     string
	Params     json.RawMessage
	Error      *struct {
		Code  int
		Kind  string
		Field string
		Limit int64
	}
}

func (v *requestVector) bytes(t testing.TB) []byte {
	if v.MessageHex != "" {
		p, err := hex.DecodeString(v.MessageHex)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	return []byte(v.Fill.fillIn(v.Message))
}

// params is what every pointer to a params type can do; decodeParams is the
// gateway's table in small.
func decodeParams(method string, raw []byte, lim im.Limits) (Params, error) {
	switch method {
	case MethodHello:
		p, err := DecodeHello(raw)
		return &p, err
	case MethodPing:
		return &PingParams{}, DecodePing(raw)
	case MethodList:
		p, err := DecodeList(raw)
		return &p, err
	case MethodFind:
		p, err := DecodeFind(raw)
		return &p, err
	case MethodDirect:
		p, err := DecodeDirect(raw)
		return &p, err
	case MethodCreate:
		p, err := DecodeCreate(raw)
		return &p, err
	case MethodGet, MethodJoin, MethodLeave:
		p, err := DecodeConv(raw)
		return &p, err
	case MethodUpdate:
		p, err := DecodeUpdate(raw)
		return &p, err
	case MethodInvite, MethodRemove:
		p, err := DecodeUsers(raw)
		return &p, err
	case MethodSetRole:
		p, err := DecodeSetRole(raw)
		return &p, err
	case MethodMembers:
		p, err := DecodeMembers(raw)
		return &p, err
	case MethodUserSearch:
		p, err := DecodeSearch(raw)
		return &p, err
	case MethodUserGet:
		p, err := DecodeUserGet(raw)
		return &p, err
	case MethodSend:
		p, err := DecodeSend(raw, lim)
		return &p, err
	case MethodHistory:
		p, err := DecodeHistory(raw)
		return &p, err
	case MethodEdit:
		p, err := DecodeEdit(raw, lim)
		return &p, err
	case MethodRecall:
		p, err := DecodeRecall(raw)
		return &p, err
	case MethodReact:
		p, err := DecodeReact(raw)
		return &p, err
	case MethodPin:
		p, err := DecodePin(raw)
		return &p, err
	case MethodPins:
		p, err := DecodePins(raw)
		return &p, err
	case MethodReadMark:
		p, err := DecodeMark(raw)
		return &p, err
	case MethodReadList:
		p, err := DecodeReadList(raw)
		return &p, err
	case MethodTyping:
		p, err := DecodeTyping(raw)
		return &p, err
	case MethodWatch:
		p, err := DecodeWatch(raw)
		return &p, err
	case MethodPresenceSet:
		p, err := DecodePresence(raw)
		return &p, err
	}
	return nil, NoSuchMethod()
}

// PingParams stands in for the params that session.ping has not.
type PingParams struct{}

func (*PingParams) AppendParams(dst []byte) []byte { return append(dst, "{}"...) }

func readRequests(t testing.TB) ([]requestVector, im.Limits) {
	var file struct {
		About  string
		Limits struct {
			TextBytes int `json:"text_bytes"`
		}
		Cases []requestVector
	}
	readVectors(t, "requests.json", &file)
	return file.Cases, im.Limits{FrameBytes: 1 << 20, TextBytes: file.Limits.TextBytes}
}

func TestRequestVectors(t *testing.T) {
	cases, lim := readRequests(t)
	methods := map[string]bool{}
	for _, v := range cases {
		t.Run(v.Name, func(t *testing.T) {
			r, fault := DecodeRequest(v.bytes(t))
			if string(r.ID) != v.ID {
				t.Errorf("id %s, want %s", r.ID, v.ID)
			}
			var p Params
			if fault == nil {
				if r.Method != v.Method {
					t.Errorf("method %q, want %q", r.Method, v.Method)
				}
				var err error
				if p, err = decodeParams(r.Method, r.Params, lim); err != nil {
					fault = ErrorOf(err)
				}
			}
			if v.Error == nil {
				if fault != nil {
					t.Fatalf("refused: %v", fault)
				}
				methods[r.Method] = true
				want := meaning(t, []byte(v.Fill.fillIn(string(v.Params))))
				if got := meaning(t, p.AppendParams(nil)); !reflect.DeepEqual(got, want) {
					t.Errorf("params %v, want %v", got, want)
				}
				return
			}
			if fault == nil {
				t.Fatalf("taken as %+v, want error %+v", p, *v.Error)
			}
			kind := ""
			if fault.hasKind() {
				kind = fault.Kind.String()
			}
			if fault.Code != v.Error.Code || kind != v.Error.Kind || fault.Field != v.Error.Field || fault.Limit != v.Error.Limit {
				t.Errorf("error %+v, want %+v", *fault, *v.Error)
			}
			if fault.Message == "" {
				t.Error("the error has no text for people")
			}
		})
	}
	for _, m := range Methods() {
		if !methods[m] {
			t.Errorf("no vector takes %s", m)
		}
	}
}

func TestClientRequestVectors(t *testing.T) {
	var file struct {
		About string
		Cases []struct {
			Name    string
			Method  string
			ID      *uint64
			Params  json.RawMessage
			Message string
		}
	}
	readVectors(t, "client_requests.json", &file)
	methods := map[string]bool{}
	for _, v := range file.Cases {
		methods[v.Method] = true
		var p Params
		if v.Params != nil {
			var err error
			if p, err = decodeParams(v.Method, v.Params, im.Limits{TextBytes: 1000}); err != nil {
				t.Errorf("%s: %v", v.Name, err)
				continue
			}
		}
		var got []byte
		if v.ID != nil {
			got = AppendRequest(nil, *v.ID, v.Method, p)
		} else {
			got = AppendNotification(nil, v.Method, p)
		}
		if !reflect.DeepEqual(meaning(t, got), meaning(t, []byte(v.Message))) {
			t.Errorf("%s:\n got %s\nwant %s", v.Name, got, v.Message)
		}
		if r, err := DecodeRequest(got); err != nil || r.Method != v.Method || (r.ID != nil) != (v.ID != nil) {
			t.Errorf("%s: our own server reads it as %+v, %v", v.Name, r, err)
		}
	}
	for _, m := range Methods() {
		if !methods[m] {
			t.Errorf("no vector sends %s", m)
		}
	}
}

func TestBodyVectors(t *testing.T) {
	var file struct {
		About string
		Cases []struct {
			Name   string
			Bodies []struct {
				Requests []string
				Hash     string
			}
		}
	}
	readVectors(t, "bodies.json", &file)
	seen := map[string]string{}
	for _, v := range file.Cases {
		for _, b := range v.Bodies {
			for _, request := range b.Requests {
				r, fault := DecodeRequest([]byte(request))
				if fault != nil {
					t.Fatalf("%s: %v", request, fault)
				}
				p, err := decodeParams(r.Method, r.Params, im.Limits{TextBytes: 1000})
				if err != nil {
					t.Fatalf("%s: %v", request, err)
				}
				h := p.(interface{ Body() [16]byte }).Body()
				if got := hex.EncodeToString(h[:]); got != b.Hash {
					t.Errorf("%s: %s, want %q", request, got, b.Hash)
				}
			}
			if seen[b.Hash] != "" {
				t.Errorf("%s and %s have the same body", b.Requests[0], seen[b.Hash])
			}
			seen[b.Hash] = b.Requests[0]
		}
	}
}

func TestCloseVectors(t *testing.T) {
	var file struct {
		About string
		Cases []struct {
			Code       uint16
			Reason     string
			Action     string
			MaxDelayMS int64 `json:"max_delay_ms"`
		}
	}
	readVectors(t, "close.json", &file)
	for _, v := range file.Cases {
		a, d := CloseAction(v.Code, v.Reason)
		if a.String() != v.Action || d.Milliseconds() != v.MaxDelayMS {
			t.Errorf("%d %q: %v within %v, want %s within %d ms", v.Code, v.Reason, a, d, v.Action, v.MaxDelayMS)
		}
	}
	for _, d := range []time.Duration{0, time.Millisecond, 5 * time.Second} {
		if a, got := CloseAction(CloseStopping, RetryReason(d)); a != Reconnect || got != d {
			t.Errorf("RetryReason(%v) is read as %v within %v", d, a, got)
		}
	}
	if RetryReason(-time.Second) != "retry_ms=0" {
		t.Errorf("RetryReason(-1s) = %s", RetryReason(-time.Second))
	}
}

func TestFrameVectors(t *testing.T) {
	var file struct {
		About string
		Cases []struct {
			Name      string
			Payload   fill
			HeaderHex string `json:"header_hex"`
		}
	}
	readVectors(t, "frames.json", &file)
	for _, v := range file.Cases {
		payload := strings.Repeat(v.Payload.Of, v.Payload.Times)
		header, err := hex.DecodeString(v.HeaderHex)
		if err != nil {
			t.Fatal(err)
		}
		want := string(header) + payload
		if got := string(AppendTextFrame([]byte("before"), []byte(payload))); got != "before"+want {
			t.Errorf("%s: AppendTextFrame wrote %.20x…, want %.20x…", v.Name, got[6:], want)
		}
		for _, size := range []int{0, len(payload)} {
			if got := string(EndFrame(append(BeginFrame(size), payload...))); got != want {
				t.Errorf("%s: BeginFrame(%d) wrote %.20x…, want %.20x…", v.Name, size, got, want)
			}
		}
	}
}

func TestErrorOf(t *testing.T) {
	cause := errors.New("disk /dev/x: token abc")
	wrapped := im.Wrap("chat: send c_1", im.Wrap("store: append c_1", &im.Error{Kind: im.RateLimited, Message: "slow down",
		RetryAfter: 1500 * time.Millisecond, Cause: cause}))
	e := ErrorOf(wrapped)
	if e.Code != -32008 || e.Message != "slow down" || e.RetryAfter != 1500*time.Millisecond {
		t.Errorf("a wrapped error became %+v", *e)
	}
	if e = ErrorOf(cause); e.Code != CodeInternal || e.Kind != im.Internal || strings.Contains(e.Message, "token") {
		t.Errorf("an error without a kind became %+v", *e)
	}
	if e = ErrorOf(&im.Error{Kind: 200, Message: "x"}); e.Code != CodeInternal || e.Kind != im.Internal {
		t.Errorf("an unknown kind became %+v", *e)
	}
	for k := im.Internal; k <= im.BadParams; k++ {
		e := ErrorOf(im.E(k, ""))
		if e.Kind != k || e.Message == "" {
			t.Errorf("kind %v became %+v", k, *e)
		}
		if im.KindOf(e) != k {
			t.Errorf("a client takes %+v for %v", *e, im.KindOf(e))
		}
	}
	if ErrorOf(nil) != nil {
		t.Error("ErrorOf(nil) is an error")
	}
	if again := ErrorOf(error(e)); again != e {
		t.Errorf("ErrorOf changed an *RPCError to %+v", *again)
	}
}

func asError(err error, e **im.Error) bool { return errors.As(err, e) }
