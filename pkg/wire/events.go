package wire

import "github.com/pipit-im/pipit/pkg/im"

// Every Frame function returns a complete server text frame that is ready to be
// sent to any number of connections.

const (
	eventOverhead = len(`{"jsonrpc":"2.0","method":"conversation.changed","params":}`)
	numberSize    = 20 // the longest decimal of 64 bits
)

func beginEvent(method string, size int) []byte {
	dst := append(BeginFrame(eventOverhead+size), `{"jsonrpc":"2.0","method":"`...)
	dst = append(dst, method...)
	return append(dst, `","params":`...)
}

func endEvent(dst []byte) []byte { return EndFrame(append(dst, '}')) }

// EntryEventFrame is the event of an appended entry (PROTOCOL 5.3). It allocates
// exactly once.
func EntryEventFrame(e *im.Entry) []byte {
	return endEvent(AppendEntry(beginEvent(EventEntry, entrySize(e)), e))
}

// ChangedEventFrame is the event conversation.changed to one who is a member
// (PROTOCOL 4.4). It allocates once.
func ChangedEventFrame(h *im.Head) []byte {
	return endEvent(AppendHead(beginEvent(EventChanged, headSize(h)), h))
}

// LeftEventFrame is the event conversation.changed to one who is no member any
// more; of h only ID and Kind count (PROTOCOL 4.4).
func LeftEventFrame(h *im.Head) []byte {
	return ChangedEventFrame(&im.Head{ID: h.ID, Kind: h.Kind, Left: true})
}

// ReadEventFrame is the event of a read mark that rose (PROTOCOL 7.1).
func ReadEventFrame(conv im.ConvID, user im.UserID, seq im.Seq) []byte {
	dst := beginEvent(EventRead, 40+numberSize+quotedSize(conv)+quotedSize(user))
	dst = stringMember(dst, `{"conversation":`, conv)
	dst = stringMember(dst, `,"user":`, user)
	return endEvent(append(uintMember(dst, `,"seq":`, seq), '}'))
}

// TypingEventFrame is the event of a user who types (PROTOCOL 8.1).
func TypingEventFrame(conv im.ConvID, user im.UserID) []byte {
	dst := beginEvent(EventTyping, 32+quotedSize(conv)+quotedSize(user))
	dst = stringMember(dst, `{"conversation":`, conv)
	return endEvent(append(stringMember(dst, `,"user":`, user), '}'))
}

// PresenceEventFrame is the event of changed presences (PROTOCOL 8.2).
func PresenceEventFrame(list []im.Presence) []byte {
	dst := append(beginEvent(EventPresence, 16+presenceSize(list)), `{"users":`...)
	return endEvent(append(AppendPresence(dst, list), '}'))
}

func presenceSize(list []im.Presence) int {
	n := 2
	for i := range list {
		n += 16 + numberSize + quotedSize(list[i].User)
	}
	return n
}
