package wire

import (
	"bytes"

	"github.com/pipit-im/pipit/pkg/im"
)

// The methods of PROTOCOL 3–8.
const (
	MethodHello       = "session.hello"
	MethodPing        = "session.ping"
	MethodList        = "conversation.list"
	MethodFind        = "conversation.find"
	MethodDirect      = "conversation.direct"
	MethodCreate      = "conversation.create"
	MethodGet         = "conversation.get"
	MethodUpdate      = "conversation.update"
	MethodJoin        = "conversation.join"
	MethodLeave       = "conversation.leave"
	MethodInvite      = "conversation.invite"
	MethodRemove      = "conversation.remove"
	MethodSetRole     = "conversation.set_role"
	MethodMembers     = "conversation.members"
	MethodUserSearch  = "user.search"
	MethodUserGet     = "user.get"
	MethodSend        = "message.send"
	MethodHistory     = "message.history"
	MethodEdit        = "message.edit"
	MethodRecall      = "message.recall"
	MethodReact       = "message.react"
	MethodPin         = "message.pin"
	MethodPins        = "message.pins"
	MethodReadMark    = "read.mark"
	MethodReadList    = "read.list"
	MethodTyping      = "typing"
	MethodWatch       = "presence.watch"
	MethodPresenceSet = "presence.set"
)

var allMethods = []string{MethodHello, MethodPing, MethodList, MethodFind, MethodDirect, MethodCreate,
	MethodGet, MethodUpdate, MethodJoin, MethodLeave, MethodInvite, MethodRemove, MethodSetRole,
	MethodMembers, MethodUserSearch, MethodUserGet, MethodSend, MethodHistory, MethodEdit, MethodRecall,
	MethodReact, MethodPin, MethodPins, MethodReadMark, MethodReadList, MethodTyping, MethodWatch,
	MethodPresenceSet}

// Methods returns the names of all methods.
func Methods() []string { return append([]string(nil), allMethods...) }

var knownMethods = func() map[string]string {
	m := make(map[string]string, len(allMethods))
	for _, name := range allMethods {
		m[name] = name
	}
	return m
}()

// The events of PROTOCOL 4.4, 5.3, 7.1, 8.1 and 8.2.
const (
	EventEntry    = "entry"
	EventChanged  = "conversation.changed"
	EventRead     = "read"
	EventTyping   = "typing"
	EventPresence = "presence"
)

// Request is the envelope of one client message (PROTOCOL 2.1). Its slices
// point into the message and are lent as long as that is.
type Request struct {
	// ID is the raw JSON of `id`, a number or a string, byte for byte as it was
	// sent; nil for a notification, which gets no reply, not even an error
	// (PROTOCOL 2.2).
	ID []byte
	// Method is one of the Method constants, or "" for any other name: the answer
	// to that is NoSuchMethod.
	Method string
	// Params is the raw JSON of `params`, of whatever type: the decoders of this
	// package refuse what is no object. nil if there is none.
	Params []byte
}

// The members of an envelope; the first are those that a request must have.
var envelopeNames = []string{"jsonrpc", "method", "id", "params"}

// DecodeRequest reads the envelope of a client message. A message that is not
// JSON in UTF-8, or is nested deeper than 64 levels, is -32700; an array (batch)
// or any other value that is no request is -32600. The error must be answered
// with the returned Request's ID, which is nil ("id":null) where the id could
// not be read. It does not allocate unless it refuses the message or the method
// name is written with escapes.
func DecodeRequest(p []byte) (Request, *RPCError) {
	if i := skipSpace(p, 0); i == len(p) || p[i] != '{' {
		if validJSON(p) {
			return Request{}, notRequest("a message is one JSON object; batches are not taken")
		}
		return Request{}, notJSON()
	}
	// The walk over the members is the only pass over the message: it finds every
	// error of syntax, so what else is wrong has to wait until it is through.
	var r Request
	var wrong *RPCError
	badID := false
	m := openMembers(p)
	for m.next(envelopeNames) {
		raw := m.raw()
		if raw == nil {
			break
		}
		switch m.name {
		case "jsonrpc":
			if string(raw) != `"2.0"` && !isString(raw, "2.0") {
				wrong = notRequest(`jsonrpc must be "2.0"`)
			}
		case "method":
			if raw[0] != '"' {
				wrong = notRequest("method must be a string")
				continue
			}
			r.Method = internMethod(raw)
		case "id":
			r.ID = raw
			badID = badID || !goodID(raw)
		case "params":
			r.Params = raw
		}
	}
	switch err := m.done(2); {
	case m.shape != nil:
		return Request{}, notJSON()
	case badID:
		return Request{}, notRequest("id must be a number or a string of at most 128 bytes")
	case wrong == nil && err != nil:
		wrong = notRequest("jsonrpc and method are needed")
	}
	return r, wrong
}

func notJSON() *RPCError {
	return &RPCError{Code: CodeParse, Kind: im.BadParams, Message: "this is not JSON"}
}

func notRequest(message string) *RPCError {
	return &RPCError{Code: CodeRequest, Kind: im.BadParams, Message: message}
}

func isString(raw []byte, want string) bool {
	if raw[0] != '"' || bytes.IndexByte(raw, '\\') < 0 {
		return false
	}
	s, _ := unquote(raw[1:len(raw)-1], true)
	return s == want
}

func internMethod(raw []byte) string {
	raw = raw[1 : len(raw)-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		s, _ := unquote(raw, true)
		return knownMethods[s]
	}
	return knownMethods[string(raw)]
}

// goodID tells whether raw, a JSON value, may be an id (PROTOCOL 2.1).
func goodID(raw []byte) bool {
	switch c := raw[0]; {
	case c == '"':
		return len(raw)-2 <= im.MaxRequestIDBytes
	case c == '-' || '0' <= c && c <= '9':
		return len(raw) <= im.MaxRequestIDBytes
	}
	return false
}
