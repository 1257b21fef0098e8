package im

import (
	"errors"
	"fmt"
	"time"
)

// Kind is the closed set of error kinds that cross the wire (PROTOCOL 2). It is
// append-only.
type Kind uint8

// The error kinds. One table at each edge maps them to codes, statuses, exit
// codes and log levels; KindInternal is what an error without a kind counts as.
const (
	Internal Kind = iota
	Invalid
	Unauthenticated
	Forbidden
	NotFound
	Exists
	Conflict
	TooLarge
	RateLimited
	Unavailable
	// BadParams is well-formed JSON-RPC whose params have the wrong shape:
	// code -32602 on the socket, 400 "invalid" over HTTP.
	BadParams
)

var kindNames = [...]string{"internal", "invalid", "unauthenticated", "forbidden", "not_found",
	"exists", "conflict", "too_large", "rate_limited", "unavailable", "invalid"}

// String returns the wire name (`data.kind`).
func (k Kind) String() string { return name(kindNames[:], uint8(k)) }

// Error is an error with a kind. Message is for people and leaves the box;
// Cause and Op are for the log and never do.
type Error struct {
	Kind       Kind
	Message    string        // plain words: what happened and what to do; no secrets, no message text
	Field      string        // the member that is wrong, if one is (`data.field`)
	Limit      int64         // the limit that was passed, for TooLarge (`data.limit`)
	RetryAfter time.Duration // for RateLimited (`data.retry_after_ms`)
	Reason     Reason        // why, where a client does something of its own about it (`data.reason`)
	Op         string        // operation and object, for the log
	Cause      error
}

// Reason names a cause of an error that a client can act on beyond the kind
// (PROTOCOL 2). Most errors have none.
type Reason string

// The reasons.
const (
	QuietHours Reason = "quiet_hours" // RateLimited: the sender's quiet hours; the message waits (PROTOCOL 6.7)
	Archived   Reason = "archived"    // Forbidden: the conversation is archived (PROTOCOL 4.6)
)

// Error returns text for the log: operation, kind, message and cause.
func (e *Error) Error() string {
	s := e.Message
	if s == "" {
		s = e.Kind.String()
	}
	if e.Field != "" {
		s += " (field " + e.Field + ")"
	}
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// E makes an error of that kind with a text for people.
func E(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// OnField returns a copy of e that names the member which is wrong.
func (e *Error) OnField(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

// Wrap adds operation and object to err once on its way up a storey. It keeps
// the kind and the text for people of an *Error inside; any other error becomes
// Internal. Wrap(op, nil) is nil.
func Wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		c := *e
		c.Op, c.Cause = op, err
		return &c
	}
	return &Error{Kind: Internal, Op: op, Cause: err}
}

// KindOf returns the kind of err; Internal for an error that has none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Is reports whether err is not nil and has kind k.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }

// ParseKind returns the kind of a wire name; Internal for an unknown one.
func ParseKind(s string) Kind {
	for k, n := range kindNames {
		if n == s {
			return Kind(k)
		}
	}
	return Internal
}
