package chat

import (
	"github.com/pipit-im/pipit/pkg/im"
)

// Op says what a Command does and which of its fields count.
type Op uint8

// The operations, named as the methods of PROTOCOL 4.3, 6 and 7. After each:
// the fields that count besides Op, Actor and, where it is said, Key and Body.
const (
	Send    Op = iota + 1 // Key; Conv, Text, ReplyTo, Mentions
	Edit                  // Key; Conv, Target, Text
	Recall                // Key; Conv, Target
	React                 // Key; Conv, Target, Emoji, On
	Pin                   // Key; Conv, Target, On
	Create                // Key; Kind, Title, Users (the first members)
	Direct                // Users[0]
	Update                // Conv, Title
	Join                  // Conv
	Leave                 // Conv
	Invite                // Conv, Users
	Remove                // Conv, Users
	SetRole               // Conv, Users[0], Role
	Mark                  // Conv, Seq, Session
	Reseat                // System; Conv, Seats
	Archive               // System; Conv, On
)

var opNames = [...]string{"", "send", "edit", "recall", "react", "pin", "create", "direct", "update", "join",
	"leave", "invite", "remove", "set_role", "mark", "reseat", "archive"}

// String returns the operation's name for logs, metrics and tests.
func (o Op) String() string {
	if int(o) < len(opNames) {
		return opNames[o]
	}
	return ""
}

// keyed tells the operations that carry an idempotency key (PROTOCOL 6.2).
func (o Op) keyed() bool { return o >= Send && o <= Create }

// counts tells those that sends_per_minute counts (PROTOCOL 6.6): all but a mark,
// which appends nothing.
func (o Op) counts() bool { return o != Mark }

// Command is one request that may write. It belongs to the Chat from Submit
// until its reply, and nobody changes it or what it points to in between.
type Command struct {
	Op    Op
	Actor im.Actor
	// System: the box itself acts, for a class say: no permission, no rate, and a
	// Create seats nobody but Seats. Actor is Tenant and im.SystemUser, or whoever
	// had it done. Never from a client.
	System  bool
	Session im.SessionID // Mark: the session that marks, which hears no event of it
	Key     string       // PROTOCOL 6.2
	Body    [16]byte     // hash of method and params, from the wire package

	Conv     im.ConvID
	Text     string
	ReplyTo  im.Seq
	Target   im.Seq
	Mentions []im.UserID
	Emoji    string // one grapheme, checked by whoever decoded it
	On       bool
	Kind     im.ConvKind
	Title    string
	Users    []im.UserID
	Role     im.MemberRole
	Seq      im.Seq
	Seats    []Seat
}

// Seat says what shall become of one user's membership. What is so already
// changes nothing.
type Seat struct {
	User im.UserID
	Role im.MemberRole // 0: no member
	// Least: who is a member with more than Role stays so; somebody gave it.
	Least bool
}

// MaxSeats bounds Command.Seats.
const MaxSeats = 500

// Result is the answer to an accepted Command. Everything in it is read-only.
type Result struct {
	Seq    im.Seq    // Send, Edit, Recall, React, Pin
	Time   im.Millis // of that entry
	Repeat bool      // PROTOCOL 6.2 and 6.4
	Head   *im.Head  // Create, Direct, Update, Join: the caller's view, after the write
}

// Replier hears the end of a Command, exactly once. Embedding the Command and
// being the Replier in one struct makes a request cost one allocation.
type Replier interface {
	// Reply is called on the commit goroutine after what was accepted is on
	// stable storage and before any of its events, or on the submitter's
	// goroutine when the queue refuses at once. It must not block.
	Reply(cmd *Command, res Result, err error)
}

// ReplyFunc is a function as a Replier.
type ReplyFunc func(cmd *Command, res Result, err error)

// Reply implements Replier.
func (f ReplyFunc) Reply(cmd *Command, res Result, err error) { f(cmd, res, err) }
