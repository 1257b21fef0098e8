package wire

import (
	"errors"
	"fmt"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// The codes of JSON-RPC itself. The code of each im.Kind is in kindCodes.
const (
	CodeParse    = -32700 // not JSON
	CodeRequest  = -32600 // not JSON-RPC
	CodeMethod   = -32601 // no such method
	CodeParams   = -32602 // bad params
	CodeInternal = -32010
)

// kindCodes is the table of PROTOCOL 2 at this edge. A kind that it does not
// name is internal.
var kindCodes = [...]int{
	im.Internal:        CodeInternal,
	im.Invalid:         -32001,
	im.Unauthenticated: -32002,
	im.Forbidden:       -32003,
	im.NotFound:        -32004,
	im.Exists:          -32005,
	im.Conflict:        -32006,
	im.TooLarge:        -32007,
	im.RateLimited:     -32008,
	im.Unavailable:     -32009,
	im.BadParams:       CodeParams,
}

// kindMessages are the texts for people where an error brings none.
var kindMessages = [...]string{
	im.Internal:        "something went wrong on the server",
	im.Invalid:         "this is not acceptable",
	im.Unauthenticated: "please sign in",
	im.Forbidden:       "you may not do that",
	im.NotFound:        "there is no such thing, or you may not see it",
	im.Exists:          "that exists already",
	im.Conflict:        "this contradicts what is there",
	im.TooLarge:        "this is too large",
	im.RateLimited:     "too much at once; please wait a little",
	im.Unavailable:     "nothing can be stored at the moment; nothing was",
	im.BadParams:       "the parameters are not as the protocol says",
}

// RPCError is the `error` of a reply (PROTOCOL 2.1 and the table there).
type RPCError struct {
	Code       int
	Kind       im.Kind       // im.BadParams for JSON-RPC's own codes, whose `data` has no kind
	Message    string        // for people
	Field      string        // `data.field`, if one is to blame
	Limit      int64         // `data.limit`, if positive
	RetryAfter time.Duration // `data.retry_after_ms`, if positive; rounded up
	Reason     im.Reason     // `data.reason`, if there is one
	Ref        string        // `data.ref`, which is also in the server's log
}

// Error implements error, for clients and logs.
func (e *RPCError) Error() string {
	s := fmt.Sprintf("%s (%d): %s", e.Kind, e.Code, e.Message)
	if e.Field != "" {
		s += " (field " + e.Field + ")"
	}
	return s
}

// Unwrap gives the same as an *im.Error, so that im.KindOf and im.Is judge what
// a server answered.
func (e *RPCError) Unwrap() error {
	return &im.Error{Kind: e.Kind, Message: e.Message, Field: e.Field, Limit: e.Limit, RetryAfter: e.RetryAfter, Reason: e.Reason}
}

// hasKind tells whether `data.kind` goes with the code.
func (e *RPCError) hasKind() bool { return e.Code >= -32099 && e.Code <= -32000 }

// NoSuchMethod is the answer to a request whose Method is "".
func NoSuchMethod() *RPCError {
	return &RPCError{Code: CodeMethod, Kind: im.BadParams, Message: "there is no such method"}
}

// ErrorOf turns any error into what the caller is told: the code of its kind,
// its text for people, and never its cause. An error without a kind is internal.
// It returns nil for nil.
func ErrorOf(err error) *RPCError {
	if err == nil {
		return nil
	}
	var r *RPCError
	if errors.As(err, &r) {
		return r
	}
	e := &im.Error{Kind: im.Internal}
	errors.As(err, &e)
	kind := e.Kind
	if int(kind) >= len(kindCodes) {
		kind = im.Internal
	}
	r = &RPCError{Code: kindCodes[kind], Kind: kind, Message: e.Message, Field: e.Field,
		Limit: e.Limit, RetryAfter: e.RetryAfter, Reason: e.Reason}
	if r.Message == "" {
		r.Message = kindMessages[kind]
	}
	return r
}
