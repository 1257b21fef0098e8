package wire

import (
	"bytes"
	"errors"
	"strconv"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// Params is what a client can send: every params type of this package, by
// pointer.
type Params interface {
	AppendParams(dst []byte) []byte
}

// AppendRequest appends a request; nil params stand for none.
func AppendRequest(dst []byte, id uint64, method string, params Params) []byte {
	dst = uintMember(append(dst, `{"jsonrpc":"2.0",`...), `"id":`, id)
	return appendCall(append(dst, ','), method, params)
}

// AppendNotification appends a request without id (PROTOCOL 2.2).
func AppendNotification(dst []byte, method string, params Params) []byte {
	return appendCall(append(dst, `{"jsonrpc":"2.0",`...), method, params)
}

func appendCall(dst []byte, method string, params Params) []byte {
	dst = stringMember(dst, `"method":`, method)
	if params != nil {
		dst = params.AppendParams(append(dst, `,"params":`...))
	}
	return append(dst, '}')
}

// ServerMessage is the envelope of one message from the server: an event if
// Method is set, else a reply. Its slices point into the message.
type ServerMessage struct {
	RawID  []byte // raw JSON of `id`, "null" among it; nil for an event
	ID     uint64 // the id, if HasID
	HasID  bool   // RawID is a number that fits, as AppendRequest sends it
	Result []byte // raw JSON of `result`; nil if Error is set
	Error  *RPCError
	Method string // "" for a reply; an event that this version does not know too
	Params []byte
}

var (
	serverNames = []string{"jsonrpc", "id", "result", "error", "method", "params"}
	errorNames  = []string{"code", "message", "data"}
	dataNames   = []string{"kind", "field", "limit", "retry_after_ms", "reason", "ref"}

	errNotMessage = errors.New("wire: not a message of this protocol")
)

var knownEvents = map[string]string{EventEntry: EventEntry, EventChanged: EventChanged,
	EventRead: EventRead, EventTyping: EventTyping, EventPresence: EventPresence}

// DecodeServerMessage reads the envelope of a message from the server. It does
// not allocate for results and for events that this version knows.
func DecodeServerMessage(p []byte) (ServerMessage, error) {
	var s ServerMessage
	var fault []byte
	m := openMembers(p)
	for m.next(serverNames) {
		raw := m.raw()
		if raw == nil {
			break // done has the reason
		}
		switch m.name {
		case "jsonrpc":
			if string(raw) != `"2.0"` {
				return ServerMessage{}, errNotMessage
			}
		case "id":
			s.RawID = raw
			if raw[0] >= '0' && raw[0] <= '9' {
				n, err := strconv.ParseUint(string(raw), 10, 64)
				s.ID, s.HasID = n, err == nil
			}
		case "result":
			s.Result = raw
		case "error":
			fault = raw
		case "method":
			if raw[0] != '"' {
				return ServerMessage{}, errNotMessage
			}
			name := raw[1 : len(raw)-1]
			if s.Method = knownEvents[string(name)]; s.Method == "" {
				s.Method, _ = unquote(name, bytes.IndexByte(name, '\\') >= 0)
			}
		case "params":
			s.Params = raw
		}
	}
	if m.done(1) != nil {
		return ServerMessage{}, errNotMessage
	}
	if fault != nil {
		var err error
		if s.Error, err = decodeError(fault); err != nil {
			return ServerMessage{}, errNotMessage
		}
		s.Result = nil
	}
	// A reply has an id and a result or an error, an event has a method and no id.
	if reply := s.Result != nil || s.Error != nil; reply == (s.Method != "") || reply != (s.RawID != nil) {
		return ServerMessage{}, errNotMessage
	}
	return s, nil
}

func decodeError(p []byte) (*RPCError, error) {
	e := &RPCError{Kind: im.BadParams}
	m := innerMembers(p)
	for m.next(errorNames) {
		switch m.name {
		case "code":
			e.Code = int(m.integer())
		case "message":
			e.Message = m.text()
		case "data":
			raw := m.raw()
			if raw == nil {
				break
			}
			d := innerMembers(raw)
			for d.next(dataNames) {
				switch d.name {
				case "kind":
					e.Kind = im.ParseKind(d.text())
				case "field":
					e.Field = d.text()
				case "limit":
					e.Limit = d.integer()
				case "retry_after_ms":
					// Bounded, so that the product cannot overflow.
					e.RetryAfter = time.Duration(min(max(d.integer(), 0), maxDelayMS)) * time.Millisecond
				case "reason":
					e.Reason = im.Reason(d.text())
				case "ref":
					e.Ref = d.text()
				}
			}
			if err := d.done(0); err != nil {
				return nil, err
			}
		}
	}
	if e.hasKind() && m.seen&(1<<2) == 0 {
		e.Kind = im.Internal
	}
	return e, m.done(2)
}
