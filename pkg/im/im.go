// Package im holds the nouns of Pipit: tenants, users, conversations, entries,
// roles, ids, limits and the closed set of error kinds. Every other package may
// import it and it imports none of ours.
//
// It owns names and meanings only: no interfaces, no I/O, no goroutines, no
// clock. Values are plain data; a value that was handed over is not changed by
// the giver any more (slices and pointers inside it are shared, read-only), so
// all of them may be read from any goroutine.
//
// The contract is written in pkg/wire/PROTOCOL.md; the comments here cite it.
package im

// TenantID names one organisation on the server. It is chosen by the
// administrator: [a-z0-9_-]{1,40} (PROTOCOL 1.5).
type TenantID string

// UserID names a user within a tenant, "u_" and 16 characters.
type UserID string

// SystemUser is who did what the box itself does to a conversation (PROTOCOL
// 5.1). There is no such user.
const SystemUser UserID = "system"

// ConvID names a conversation within a tenant, "c_" and 16 characters.
type ConvID string

// SessionID names one signed-in WebSocket connection, "s_…".
type SessionID string

// ClassID names a class within a tenant, "k_" and 16 characters.
type ClassID string

// SignInID names what POST /v1/sessions made: it owns one token, "i_…".
type SignInID string

// Epoch names the history of a store (PROTOCOL 3.7), "e_…".
type Epoch string

// Seq numbers the entries of one conversation: 1, 2, 3 … without gaps; 0 means
// "none" and is the head of an empty log.
type Seq uint64

// Millis is a time in UTC milliseconds since 1970 (PROTOCOL 1.5).
type Millis int64

// Change is a position in the store-wide change counter. It rises by at least
// one with each committed change of a conversation or of a membership and is
// what `sync` is made of: never the clock (PROTOCOL 3.3).
type Change uint64

// Role is a user's role in the tenant. The zero value is no role.
type Role uint8

// The tenant roles. Their numbers are on disk: append only.
const (
	RoleOwner    Role = iota + 1 // everything
	RoleAdmin                    // everything that touches no owner
	RoleStaff                    // runs classes: a teacher, a team lead
	RoleMember                   // a pupil, a colleague
	RoleGuest                    // sees only what it was invited to
	RoleGuardian                 // linked to members; reads their boards, writes to staff only
	RoleBot                      // a program; answers where it was invited

	// NumRoles bounds an array with one place for each role, no role included.
	NumRoles = int(RoleBot) + 1
)

var roleNames = [NumRoles]string{"", "owner", "admin", "staff", "member", "guest", "guardian", "bot"}

// String returns the role's wire name, or "" for the zero value.
func (r Role) String() string { return name(roleNames[:], uint8(r)) }

// ParseRole returns the role of that wire name.
func ParseRole(s string) (Role, bool) {
	i, ok := parse(roleNames[:], s)
	return Role(i), ok
}

// Roles lists the wire names of all tenant roles, in the order of their numbers.
func Roles() []string { return append([]string(nil), roleNames[1:]...) }

// MemberRole is a member's role in one conversation (PROTOCOL 4.3). The zero
// value means "no member".
type MemberRole uint8

// The member roles.
const (
	MemberOwner MemberRole = iota + 1
	MemberModerator
	MemberMember
	MemberReader
)

var memberRoleNames = [...]string{"", "owner", "moderator", "member", "reader"}

// String returns the role's wire name, or "" for the zero value.
func (r MemberRole) String() string { return name(memberRoleNames[:], uint8(r)) }

// ParseMemberRole returns the member role of that wire name.
func ParseMemberRole(s string) (MemberRole, bool) {
	i, ok := parse(memberRoleNames[:], s)
	return MemberRole(i), ok
}

// ConvKind is the kind of a conversation (PROTOCOL 4.1).
type ConvKind uint8

// The kinds of conversations.
const (
	KindDirect ConvKind = iota + 1
	KindGroup
	KindChannel
	KindNotice
)

var convKindNames = [...]string{"", "direct", "group", "channel", "notice"}

// String returns the kind's wire name, or "" for the zero value.
func (k ConvKind) String() string { return name(convKindNames[:], uint8(k)) }

// ParseConvKind returns the kind of that wire name.
func ParseConvKind(s string) (ConvKind, bool) {
	i, ok := parse(convKindNames[:], s)
	return ConvKind(i), ok
}

// EntryKind is the kind of an entry (PROTOCOL 5.1).
type EntryKind uint8

// The kinds of entries.
const (
	EntryMessage EntryKind = iota + 1
	EntryEdit
	EntryRecall
	EntryReaction
	EntryPin
	EntryMember
	EntryMeta
)

var entryKindNames = [...]string{"", "message", "edit", "recall", "reaction", "pin", "member", "meta"}

// String returns the kind's wire name, or "" for the zero value.
func (k EntryKind) String() string { return name(entryKindNames[:], uint8(k)) }

// ParseEntryKind returns the kind of that wire name.
func ParseEntryKind(s string) (EntryKind, bool) {
	i, ok := parse(entryKindNames[:], s)
	return EntryKind(i), ok
}

// MemberChange says what a member entry did.
type MemberChange uint8

// The changes that a member entry records.
const (
	ChangeJoined MemberChange = iota + 1
	ChangeLeft
	ChangeRole
)

var memberChangeNames = [...]string{"", "joined", "left", "role"}

// String returns the change's wire name, or "" for the zero value.
func (c MemberChange) String() string { return name(memberChangeNames[:], uint8(c)) }

// ParseMemberChange returns the change of that wire name.
func ParseMemberChange(s string) (MemberChange, bool) {
	i, ok := parse(memberChangeNames[:], s)
	return MemberChange(i), ok
}

func name(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return ""
}

func parse(names []string, s string) (uint8, bool) {
	for i, n := range names {
		if i > 0 && n == s {
			return uint8(i), true
		}
	}
	return 0, false
}

// Tenant is one organisation on the server.
type Tenant struct {
	ID        TenantID
	Name      string // 1–120 code points
	Suspended bool
	Created   Millis
}

// User is a person or a program within a tenant.
type User struct {
	Tenant   TenantID
	ID       UserID
	Username string // lower case, [a-z0-9._-]{1,64}, unique in the tenant
	Name     string // 1–120 code points, for people
	Role     Role
	Disabled bool
	Created  Millis
}

// Class is a group of people for a term: a school's class, an office's team. It
// has a group for all of them and a board where its teachers post.
type Class struct {
	Tenant    TenantID
	ID        ClassID
	Name      string // 1–120 code points: "5a"
	Term      string // what the term is called, "" if nobody said
	Ends      string // the term's last day, "2027-07-31", "" if nobody said
	SourcedID string // the roster's id, "" for a class that no roster made
	Teachers  []UserID
	Students  []UserID
	Group     ConvID // "" until it was made
	Board     ConvID
	Archived  bool // its term is over: its conversations are archived, it gives no rights
	Listed    bool // came with a roster: is archived when a roster names it no more
	Created   Millis
}

// RosterUser is what rosters say of a user beside the user's own record.
type RosterUser struct {
	User       UserID
	SourcedID  string   // the roster's id, "" if it has none
	GuardianOf []UserID // the members to whom a guardian is linked
	Listed     bool     // came with a roster: is disabled when a roster names the user no more
	Missing    bool     // a roster had the user disabled, and may have the user enabled again
}

// Conversation is the record of one append-only log and what rules it.
type Conversation struct {
	Tenant  TenantID
	ID      ConvID
	Kind    ConvKind
	Title   string // empty for a direct
	Created Millis
	Head    Seq    // newest entry, 0 when empty
	Last    Millis // time of the newest entry, or Created while there is none
	LastMsg Seq    // newest message (recalled or not), 0 if none
	Members int    // how many members now
	Change  Change // when head, title or membership changed last
	// Peers are the two users of a direct in rising order; empty otherwise.
	Peers [2]UserID
	// Archived: nobody writes any more, all else goes on (PROTOCOL 4.6). Never a
	// direct.
	Archived bool
}

// Member is one user's place in one conversation. It stays, with Role 0, when
// the user has left, so that `sync` can name what was left (PROTOCOL 3.5).
type Member struct {
	Conv   ConvID
	User   UserID
	Role   MemberRole // 0: has left
	Joined Millis     // when the user joined last
	Read   Seq        // read mark (PROTOCOL 7.1)
	Change Change     // when role, read mark or membership changed last
}

// Entry is one entry of a log (PROTOCOL 5.1). Which fields are set depends on
// Kind, as the table there says.
type Entry struct {
	Conv ConvID
	Seq  Seq
	Time Millis
	By   UserID
	Kind EntryKind

	Text     string   // message, edit
	ReplyTo  Seq      // message
	Mentions []UserID // message
	Key      string   // message: the sender's key, shown to its author in pages only (PROTOCOL 6.5)

	Target Seq    // edit, recall, reaction, pin
	Keep   bool   // recall: the store keeps the text, though it serves it to nobody (PROTOCOL 5.4)
	Emoji  string // reaction
	On     bool   // reaction, pin

	User   UserID       // member
	Change MemberChange // member
	Role   MemberRole   // member: joined and role

	Title   string        // meta
	Archive ArchiveChange // meta
}

// ArchiveChange is what a meta entry says of the conversation's being archived
// (PROTOCOL 4.6). Its numbers are on disk.
type ArchiveChange uint8

// What it may say; the zero value says nothing.
const (
	ArchiveSet ArchiveChange = iota + 1
	ArchiveCleared
)

// State is what later entries made of a message (PROTOCOL 6.5). The zero value
// is a message that nothing was done to.
type State struct {
	Text      string // the edited text, while Edited != 0
	Edited    Millis // time of the newest edit, 0 if none
	Recalled  bool
	Pinned    Seq        // seq of the pin entry in force, 0 if not pinned
	Reactions []Reaction // in order of first use; none with Count 0
}

// Reaction counts one emoji on one message. Mine is filled in for a reader.
type Reaction struct {
	Emoji string
	Count int
	Mine  bool
}

// Message is an entry as a page shows it: for a message with its state, for an
// edit of a recalled message with Hidden set and Text empty (PROTOCOL 5.4).
type Message struct {
	Entry
	State
	Hidden bool
}

// Shown returns the text that a reader may see now: nothing once recalled, the
// edited text if there is one.
func (m *Message) Shown() string {
	switch {
	case m.Recalled || m.Hidden:
		return ""
	case m.Edited != 0:
		return m.State.Text
	}
	return m.Entry.Text
}

// Head is a conversation as one of its members sees it (PROTOCOL 3.5).
type Head struct {
	ID       ConvID
	Kind     ConvKind
	Title    string
	Head     Seq
	Read     Seq
	Unread   int
	Mentions int
	Role     MemberRole
	Members  int
	Updated  Millis
	Last     *Message // newest message, nil if none; the encoder cuts its text
	Peer     *User    // direct only
	PeerRead Seq      // direct only
	Archived bool     // PROTOCOL 4.6
	Left     bool     // then only ID, Kind and Left count
}

// Page is a stretch of a log in rising order, one snapshot with Head
// (PROTOCOL 6.3).
type Page struct {
	Entries []Message
	Head    Seq
}

// PresenceState is how present a user is (PROTOCOL 8.2).
type PresenceState uint8

// The presence states, least present first: the most present session wins.
const (
	Offline PresenceState = iota
	Away
	Online
)

// String returns the state's wire name.
func (s PresenceState) String() string {
	switch s {
	case Online:
		return "online"
	case Away:
		return "away"
	}
	return "offline"
}

// Presence is a user's state and when it began (0: never seen).
type Presence struct {
	User  UserID
	State PresenceState
	Since Millis
}

// Actor is who asks: a signed-in user of a tenant, or the box's operator.
type Actor struct {
	Tenant TenantID
	User   UserID
	Role   Role
	SignIn SignInID
}
