package im

// The protocol's fixed limits. Those that an administrator may change are in
// Limits.
const (
	MaxIDBytes           = 40    // ids (PROTOCOL 1.5)
	MaxKeyBytes          = 64    // idempotency keys (PROTOCOL 6.2)
	MaxRequestIDBytes    = 128   // JSON-RPC ids (PROTOCOL 2.1)
	MaxTitleRunes        = 120   // titles and names, code points (PROTOCOL 4.5)
	MaxUsernameBytes     = 64    // user names
	MaxMembersInCall     = 500   // `members`, `users` of create, invite, remove (PROTOCOL 4.3)
	MaxMentions          = 100   // PROTOCOL 5.1
	MaxEmojiBytes        = 64    // PROTOCOL 5.1
	MaxHeadsPage         = 200   // conversation.list and hello (PROTOCOL 3.3)
	MaxFindPage          = 50    // conversation.find, user.search
	MaxMembersPage       = 500   // conversation.members, read.list
	MaxHistoryPage       = 200   // message.history (PROTOCOL 6.3)
	MaxPins              = 200   // message.pins (PROTOCOL 6.4)
	MaxUserGet           = 200   // user.get, presence.watch
	LastTextBytes        = 256   // HEAD.last is cut to this (PROTOCOL 3.5)
	EphemeralMembers     = 100   // typing and read go to others up to this many members (PROTOCOL 7.2, 8.1)
	KeyMemoryDays        = 30    // keys are remembered at least so long (PROTOCOL 6.2)
	MaxUsersPerTenant    = 50000 // a stated bound, so that a directory fits in memory
	MaxPasswordBytes     = 1024  // longer ones are refused before any hashing
	MinPasswordRunes     = 8     //
	DefaultFrameBytes    = 65536 // PROTOCOL 3.1
	DefaultTextBytes     = 16384 //
	DefaultSendsPerMin   = 120   // PROTOCOL 6.6
	DefaultHeartbeatSecs = 30    // PROTOCOL 3.8
)

// Limits are the bounds that a session is told in its hello (PROTOCOL 3.1).
type Limits struct {
	FrameBytes     int // client to server, one message over all fragments
	TextBytes      int // UTF-8 bytes of one message text
	SendsPerMinute int // for each user, burst the same (PROTOCOL 6.6)
}
