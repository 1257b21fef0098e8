// Package wire is the protocol of Pipit as code: PROTOCOL.md beside this file
// is the contract, and everything here cites its sections.
//
// It owns the JSON-RPC envelope, the parameters of every method, the shapes of
// results, events and errors, the RFC 6455 header of server text frames, and
// the meaning of close codes. The server decodes requests and encodes replies
// and events with it; the Go client does the reverse. testdata/vectors holds
// both directions as data, for clients in other languages.
//
// It never does I/O, starts no goroutine, reads no clock, decides no
// permission, and imports only pkg/im of ours. All functions are pure and may
// be called from any goroutine. Functions that decode borrow their argument
// until they return, unless they say that slices point into it; decoded strings
// are copies. Functions that encode return memory that they allocated, which
// nobody changes afterwards, so one frame may be given to any number of
// connections.
//
// The JSON reader is our own because encoding/json is too slow and too lenient
// for this edge: it folds the case of names, takes null for anything, replaces
// lone surrogates and invalid UTF-8. What is left open by PROTOCOL.md sections
// 1–9 and how it is settled here is written in its section 10.
package wire
