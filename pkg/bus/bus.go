// Package bus carries committed events between the nodes of one installation:
// the contract, and the events. Back ends live below it: membus within one
// process now, others (Redis) pass the same suite, bustest.
//
// A bus may lose events, but for one conversation it never reorders or doubles
// them: a hole in seq is seen by the client and repaired from the log (PROTOCOL
// 5.3). It stores nothing. Events are immutable once published and shared by all
// subscribers.
package bus

import "github.com/pipit-im/pipit/pkg/im"

// Kind says what an Event is and which of its fields count.
type Kind uint8

// The kinds of events.
const (
	// Entry: Entry was appended to Conv; goes to every session of every member.
	Entry Kind = iota + 1
	// Changed: User's view of Conv changed; Head is the new one (PROTOCOL 4.4),
	// for all sessions of that user. If Head is the first that the user's
	// sessions hear of Conv, they belong to it from here on.
	Changed
	// Left: User is no member of Conv any more (Head.Left is set, Head.ID and
	// Head.Kind count). From here on its sessions hear nothing of Conv.
	Left
	// Read: User's mark in Conv rose to Seq. Wide: other members get it too
	// (PROTOCOL 7.2), else only the user's other sessions.
	Read
	// Typing: User types in Conv (PROTOCOL 8.1).
	Typing
	// Presence: User's presence is Presence (PROTOCOL 8.2).
	Presence
	// SignedOut: every session of SignIn ends with close code Code (4101). An
	// empty SignIn means every session of User, an empty User every session of
	// the tenant (4102, 4202).
	SignedOut
)

// Event is one event. It is a flat record so that any back end can write it
// down; fields that Kind does not name are zero.
type Event struct {
	Kind     Kind
	Tenant   im.TenantID
	Conv     im.ConvID
	User     im.UserID
	Seq      im.Seq
	Wide     bool
	Others   bool // Read with Wide: late; the user's own sessions heard of it already
	Entry    *im.Entry
	Head     *im.Head
	Presence im.Presence
	SignIn   im.SignInID
	Session  im.SessionID // Read: the session that marked, which does not hear of it; else empty
	Code     uint16
}

// Bus is publish and subscribe.
type Bus interface {
	// Publish hands events to every subscriber on every node, this one
	// included, in order. It does not wait for other nodes and does not block on
	// a slow one. Safe for concurrent use; events of one conversation must be
	// published by one goroutine at a time, which is what orders them.
	Publish(events []Event)
	// Subscribe calls fn with each batch, in order, from one goroutine at a
	// time for each publisher. fn must not block and must not keep the slice
	// (the events' pointers it may keep). The returned func ends it and returns
	// when fn is not running any more.
	Subscribe(fn func(events []Event)) (cancel func())
	// Announce says how present a user is on this node; Offline takes it back.
	// A node that vanishes is Offline for all its users after its lease ended.
	Announce(t im.TenantID, u im.UserID, s im.PresenceState, at im.Millis)
	// Presence returns the most present state over all nodes of each user, in
	// the order asked.
	Presence(t im.TenantID, users []im.UserID) []im.Presence
	Close() error
}
