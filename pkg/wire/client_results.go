package wire

import "github.com/pipit-im/pipit/pkg/im"

// SeqResult is the result of a request that appended an entry (PROTOCOL 6.1).
type SeqResult struct {
	Seq    im.Seq
	Time   im.Millis
	Repeat bool
}

var seqResultNames = []string{"seq", "time", "repeat"}

// DecodeSeqResult reads the result of message.send, edit, recall, react and pin.
func DecodeSeqResult(p []byte) (SeqResult, error) {
	var r SeqResult
	m := openMembers(p)
	for m.next(seqResultNames) {
		switch m.name {
		case "seq":
			r.Seq = m.seq()
		case "time":
			r.Time = im.Millis(m.integer())
		case "repeat":
			r.Repeat = m.boolean()
		}
	}
	return r, m.done(2)
}

// ReadEvent is the event `read` (PROTOCOL 7.1), and without Seq the event
// `typing` (PROTOCOL 8.1).
type ReadEvent struct {
	Conversation im.ConvID
	User         im.UserID
	Seq          im.Seq
}

var readEventNames = []string{"conversation", "user", "seq"}

// DecodeReadEvent reads the params of the events `read` and `typing`.
func DecodeReadEvent(p []byte) (ReadEvent, error) {
	var r ReadEvent
	m := openMembers(p)
	for m.next(readEventNames) {
		switch m.name {
		case "conversation":
			r.Conversation = im.ConvID(m.text())
		case "user":
			r.User = im.UserID(m.text())
		case "seq":
			r.Seq = m.seq()
		}
	}
	return r, m.done(2)
}

// DecodePresenceList reads the result of presence.watch and the params of the
// event `presence` (PROTOCOL 8.2).
func DecodePresenceList(p []byte) ([]im.Presence, error) {
	var list []im.Presence
	m := openMembers(p)
	for m.next(userListNames) {
		list = nil
		for i, more := m.elements(); more; {
			end, ok := skipValue(m.b, i, 2)
			if !ok {
				m.broken()
				break
			}
			one, ok := decodePresence(m.b[i:end])
			if !ok {
				m.wrong("a list of [user, state, since]")
				break
			}
			list = append(list, one)
			i, more = m.element(end, true)
		}
	}
	return list, m.done(1)
}

// decodePresence reads `[user, state, since]`; further elements are ignored.
func decodePresence(p []byte) (one im.Presence, ok bool) {
	m := members{b: p, name: "users"}
	i, more := m.elements()
	for n := 0; more; n++ {
		var end int
		switch n {
		case 0:
			var s string
			s, end, ok = m.textAt(i)
			one.User = im.UserID(s)
		case 1:
			var s string
			s, end, ok = m.textAt(i)
			switch s {
			case "online":
				one.State = im.Online
			case "away":
				one.State = im.Away
			}
		case 2:
			m.from = i
			one.Since = im.Millis(m.integer())
			end, ok = m.i, m.shape == nil
		default:
			end, ok = skipValue(p, i, 3)
		}
		if !ok {
			return one, false
		}
		if i, more = m.element(end, true); !more {
			return one, n >= 2 && m.shape == nil
		}
	}
	return one, false
}

var foundNames = []string{"id", "kind", "title", "members", "joined"}

// DecodeFound reads the result of conversation.find (PROTOCOL 4.3).
func DecodeFound(p []byte) (found []Found, next string, err error) {
	m := openMembers(p)
	for m.next(headsResultNames) {
		switch m.name {
		case "conversations":
			found = nil
			m.objects(func(o *members) error {
				var f Found
				for o.next(foundNames) {
					switch o.name {
					case "id":
						f.ID = im.ConvID(o.text())
					case "kind":
						f.Kind, _ = im.ParseConvKind(string(o.word()))
					case "title":
						f.Title = o.text()
					case "members":
						f.Members = int(o.integer())
					case "joined":
						f.Joined = o.boolean()
					}
				}
				found = append(found, f)
				return o.done(1)
			})
		case "next":
			next = m.text()
		default:
			m.raw()
		}
	}
	return found, next, m.done(1)
}

var (
	membersResultNames = []string{"members", "next"}
	memberNames        = []string{"user", "name", "username", "role", "joined"}
)

// DecodeMembersResult reads the result of conversation.members (PROTOCOL 4.3).
func DecodeMembersResult(p []byte) (list []MemberInfo, next string, err error) {
	m := openMembers(p)
	for m.next(membersResultNames) {
		switch m.name {
		case "members":
			list = nil
			m.objects(func(o *members) error {
				var one MemberInfo
				for o.next(memberNames) {
					switch o.name {
					case "user":
						one.User = im.UserID(o.text())
					case "name":
						one.Name = o.text()
					case "username":
						one.Username = o.text()
					case "role":
						one.Role, _ = im.ParseMemberRole(string(o.word()))
					case "joined":
						one.Joined = im.Millis(o.integer())
					}
				}
				list = append(list, one)
				return o.done(1)
			})
		case "next":
			next = m.text()
		}
	}
	return list, next, m.done(1)
}

// DecodeUsersResult reads the result of user.search and user.get (PROTOCOL 4.3).
func DecodeUsersResult(p []byte) ([]im.User, error) {
	var list []im.User
	m := openMembers(p)
	for m.next(userListNames) {
		list = nil
		m.objects(func(o *members) error {
			list = append(list, im.User{})
			return decodeUser(o, &list[len(list)-1])
		})
	}
	return list, m.done(1)
}

var (
	readListResultNames = []string{"read", "unread", "counts", "next"}
	countNames          = []string{"read", "unread"}
)

// DecodeReadListResult reads the result of read.list (PROTOCOL 7.3).
func DecodeReadListResult(p []byte) (ReadListResult, error) {
	var r ReadListResult
	m := openMembers(p)
	for m.next(readListResultNames) {
		switch m.name {
		case "read":
			r.Read = m.users(maxMembersSeen)
		case "unread":
			r.Unread = m.users(maxMembersSeen)
		case "counts":
			raw := m.raw()
			if raw == nil {
				break
			}
			o := innerMembers(raw)
			for o.next(countNames) {
				switch o.name {
				case "read":
					r.ReadCount = int(o.integer())
				case "unread":
					r.UnreadCount = int(o.integer())
				}
			}
			m.nested(o.done(2))
		case "next":
			r.Next = m.text()
		}
	}
	return r, m.done(3)
}

var timeNames = []string{"time"}

// DecodeTime reads the result of session.ping (PROTOCOL 3.8).
func DecodeTime(p []byte) (im.Millis, error) {
	var at im.Millis
	m := openMembers(p)
	for m.next(timeNames) {
		at = im.Millis(m.integer())
	}
	return at, m.done(1)
}

// DecodeRepeat reads whether a result says `"repeat":true` (PROTOCOL 6.2); it is
// for conversation.create, whose result is a HEAD beside that.
func DecodeRepeat(p []byte) (bool, error) {
	repeat := false
	m := openMembers(p)
	for m.next(seqResultNames[2:]) {
		repeat = m.boolean()
	}
	return repeat, m.done(0)
}
