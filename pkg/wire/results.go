package wire

import (
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

const resultOverhead = len(`{"jsonrpc":"2.0","id":,"result":}`)

func beginResult(id []byte, size int) []byte {
	dst := append(BeginFrame(resultOverhead+len(id)+size), `{"jsonrpc":"2.0","id":`...)
	return append(append(dst, id...), `,"result":`...)
}

func endResult(dst []byte) []byte { return EndFrame(append(dst, '}')) }

// ErrorFrame is the reply to request id, or with `"id":null` if that is nil
// (PROTOCOL 2.1).
func ErrorFrame(id []byte, e *RPCError) []byte {
	if id == nil {
		id = []byte("null")
	}
	dst := BeginFrame(192 + len(id) + quotedSize(e.Message) + quotedSize(e.Field) + quotedSize(e.Reason) + quotedSize(e.Ref))
	dst = append(append(dst, `{"jsonrpc":"2.0","id":`...), id...)
	dst = append(dst, `,"error":`...)
	return endResult(appendError(dst, e))
}

func appendError(dst []byte, e *RPCError) []byte {
	dst = intMember(dst, `{"code":`, e.Code)
	dst = stringMember(dst, `,"message":`, e.Message)
	// Every member of data begins with a comma; the first one's becomes the brace.
	data := len(dst) + len(`,"data":`)
	dst = append(dst, `,"data":`...)
	if e.hasKind() {
		dst = stringMember(dst, `,"kind":`, e.Kind.String())
	}
	dst = optionalMember(dst, `,"field":`, e.Field)
	if e.Limit > 0 {
		dst = intMember(dst, `,"limit":`, e.Limit)
	}
	if e.RetryAfter > 0 {
		ms := (e.RetryAfter + time.Millisecond - 1) / time.Millisecond
		dst = intMember(dst, `,"retry_after_ms":`, ms)
	}
	dst = optionalMember(dst, `,"reason":`, e.Reason)
	dst = optionalMember(dst, `,"ref":`, e.Ref)
	if len(dst) == data {
		return append(dst[:data-len(`,"data":`)], '}')
	}
	dst[data] = '{'
	return append(dst, '}', '}')
}

// HelloResult is the result of session.hello (PROTOCOL 3.1).
type HelloResult struct {
	Session       im.SessionID
	User          im.User
	Tenant        im.Tenant
	Epoch         im.Epoch
	Sync          string
	Time          im.Millis
	Heartbeat     time.Duration // a whole number of milliseconds
	Limits        im.Limits
	Conversations []im.Head // newest first, at most im.MaxHeadsPage
	Next          string    // cursor of the next page, "" on the last
	Full          bool      // on the last page of a complete list (PROTOCOL 3.3)
}

// HelloResultFrame is the reply to session.hello.
func HelloResultFrame(id []byte, r *HelloResult) []byte {
	size := 384 + 6*numberSize + headsSize(r.Conversations, r.Sync, r.Next) + quotedSize(r.Session) +
		quotedSize(r.User.ID) + quotedSize(r.User.Username) + quotedSize(r.User.Name) +
		quotedSize(r.Tenant.ID) + quotedSize(r.Tenant.Name) + quotedSize(r.Epoch)
	dst := stringMember(beginResult(id, size), `{"session":`, r.Session)
	dst = AppendUser(append(dst, `,"user":`...), &r.User)
	dst = AppendTenant(append(dst, `,"tenant":`...), &r.Tenant)
	dst = stringMember(dst, `,"epoch":`, r.Epoch)
	dst = intMember(dst, `,"time":`, r.Time)
	dst = intMember(dst, `,"heartbeat_ms":`, r.Heartbeat.Milliseconds())
	dst = intMember(dst, `,"limits":{"frame_bytes":`, r.Limits.FrameBytes)
	dst = intMember(dst, `,"text_bytes":`, r.Limits.TextBytes)
	dst = intMember(dst, `,"sends_per_minute":`, r.Limits.SendsPerMinute)
	dst = append(dst, `},`...)
	return endResult(appendHeads(dst, r.Conversations, r.Next, r.Sync, r.Full))
}

// HeadsResultFrame is the reply to conversation.list (PROTOCOL 3.3, 4.3). next
// is "" on the last page; full is set there if the list is complete.
func HeadsResultFrame(id []byte, heads []im.Head, next, sync string, full bool) []byte {
	dst := append(beginResult(id, 96+headsSize(heads, sync, next)), '{')
	return endResult(appendHeads(dst, heads, next, sync, full))
}

func headsSize(heads []im.Head, sync, next string) int {
	n := quotedSize(sync) + quotedSize(next)
	for i := range heads {
		n += 1 + headSize(&heads[i])
	}
	return n
}

func appendHeads(dst []byte, heads []im.Head, next, sync string, full bool) []byte {
	dst = append(dst, `"conversations":[`...)
	for i := range heads {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendHead(dst, &heads[i])
	}
	dst = optionalMember(append(dst, ']'), `,"next":`, next)
	dst = stringMember(dst, `,"sync":`, sync)
	if full {
		dst = append(dst, `,"full":true`...)
	}
	return append(dst, '}')
}

// EmptyResultFrame is the reply `{}`.
func EmptyResultFrame(id []byte) []byte {
	return endResult(append(beginResult(id, 2), "{}"...))
}

// SeqResultFrame is the reply to a request that appended an entry (PROTOCOL 6.1,
// 6.4). It allocates once.
func SeqResultFrame(id []byte, seq im.Seq, at im.Millis, repeat bool) []byte {
	dst := uintMember(beginResult(id, 40+2*numberSize), `{"seq":`, seq)
	return endResult(appendRepeat(intMember(dst, `,"time":`, at), repeat))
}

func appendRepeat(dst []byte, repeat bool) []byte {
	if repeat {
		dst = append(dst, `,"repeat":true`...)
	}
	return append(dst, '}')
}

// HeadResultFrame is a reply that is one HEAD; repeat is for conversation.create
// (PROTOCOL 6.2).
func HeadResultFrame(id []byte, h *im.Head, repeat bool) []byte {
	dst := appendHeadMembers(beginResult(id, 16+headSize(h)), h)
	return endResult(appendRepeat(dst, repeat))
}

// PageResultFrame is the reply to message.history (PROTOCOL 6.3).
func PageResultFrame(id []byte, p *im.Page, conv im.ConvID) []byte {
	return endResult(AppendPage(beginResult(id, pageSize(p.Entries)), p, conv))
}

// AppendPage appends the result of PageResultFrame alone.
func AppendPage(dst []byte, p *im.Page, conv im.ConvID) []byte {
	dst = appendEntries(dst, p.Entries, conv)
	return append(uintMember(dst, `,"head":`, p.Head), '}')
}

// PinsResultFrame is the reply to message.pins: entries as in a page, newest pin
// first (PROTOCOL 6.4).
func PinsResultFrame(id []byte, entries []im.Message, conv im.ConvID) []byte {
	return endResult(append(appendEntries(beginResult(id, pageSize(entries)), entries, conv), '}'))
}

func pageSize(entries []im.Message) int {
	n := 32 + numberSize
	for i := range entries {
		n += 1 + messageSize(&entries[i])
	}
	return n
}

func appendEntries(dst []byte, entries []im.Message, conv im.ConvID) []byte {
	dst = append(dst, `{"entries":[`...)
	for i := range entries {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendMessage(dst, &entries[i], conv)
	}
	return append(dst, ']')
}

// Found is one channel in the result of conversation.find (PROTOCOL 4.3).
type Found struct {
	ID      im.ConvID
	Kind    im.ConvKind
	Title   string
	Members int
	Joined  bool
}

// FindResultFrame is the reply to conversation.find.
func FindResultFrame(id []byte, found []Found, next string) []byte {
	size := 48 + quotedSize(next)
	for i := range found {
		size += 96 + quotedSize(found[i].ID) + quotedSize(found[i].Title)
	}
	dst := append(beginResult(id, size), `{"conversations":[`...)
	for i := range found {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = stringMember(dst, `{"id":`, found[i].ID)
		dst = stringMember(dst, `,"kind":`, found[i].Kind.String())
		dst = stringMember(dst, `,"title":`, found[i].Title)
		dst = intMember(dst, `,"members":`, found[i].Members)
		dst = append(boolMember(dst, `,"joined":`, found[i].Joined), '}')
	}
	return endResult(append(optionalMember(append(dst, ']'), `,"next":`, next), '}'))
}

// MemberInfo is one member in the result of conversation.members (PROTOCOL 4.3).
type MemberInfo struct {
	User     im.UserID
	Name     string
	Username string
	Role     im.MemberRole
	Joined   im.Millis
}

// MembersResultFrame is the reply to conversation.members.
func MembersResultFrame(id []byte, list []MemberInfo, next string) []byte {
	size := 48 + quotedSize(next)
	for i := range list {
		size += 72 + numberSize + quotedSize(list[i].User) + quotedSize(list[i].Name) + quotedSize(list[i].Username)
	}
	dst := append(beginResult(id, size), `{"members":[`...)
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = stringMember(dst, `{"user":`, list[i].User)
		dst = stringMember(dst, `,"name":`, list[i].Name)
		dst = stringMember(dst, `,"username":`, list[i].Username)
		dst = stringMember(dst, `,"role":`, list[i].Role.String())
		dst = append(intMember(dst, `,"joined":`, list[i].Joined), '}')
	}
	return endResult(append(optionalMember(append(dst, ']'), `,"next":`, next), '}'))
}

// UsersResultFrame is the reply to user.search and user.get (PROTOCOL 4.3).
func UsersResultFrame(id []byte, users []*im.User) []byte {
	size := 16
	for _, u := range users {
		size += 64 + quotedSize(u.ID) + quotedSize(u.Username) + quotedSize(u.Name)
	}
	dst := append(beginResult(id, size), `{"users":[`...)
	for i, u := range users {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendUser(dst, u)
	}
	return endResult(append(dst, "]}"...))
}

// ReadListResult is the result of read.list (PROTOCOL 7.3).
type ReadListResult struct {
	Read, Unread           []im.UserID
	ReadCount, UnreadCount int // of the whole list, not of this page
	Next                   string
}

// ReadListResultFrame is the reply to read.list.
func ReadListResultFrame(id []byte, r *ReadListResult) []byte {
	size := 80 + 2*numberSize + quotedSize(r.Next)
	for _, list := range [...][]im.UserID{r.Read, r.Unread} {
		for _, u := range list {
			size += 1 + quotedSize(u)
		}
	}
	dst := appendStrings(append(beginResult(id, size), `{"read":`...), r.Read)
	dst = appendStrings(append(dst, `,"unread":`...), r.Unread)
	dst = intMember(dst, `,"counts":{"read":`, r.ReadCount)
	dst = append(intMember(dst, `,"unread":`, r.UnreadCount), '}')
	return endResult(append(optionalMember(dst, `,"next":`, r.Next), '}'))
}

// PresenceResultFrame is the reply to presence.watch (PROTOCOL 8.2).
func PresenceResultFrame(id []byte, list []im.Presence) []byte {
	dst := append(beginResult(id, 16+presenceSize(list)), `{"users":`...)
	return endResult(append(AppendPresence(dst, list), '}'))
}

// TimeResultFrame is the reply to session.ping (PROTOCOL 3.8).
func TimeResultFrame(id []byte, at im.Millis) []byte {
	return endResult(append(intMember(beginResult(id, 16+numberSize), `{"time":`, at), '}'))
}
