package wire

import (
	"bytes"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// The decoders of this file read what a server sends, for clients. Unknown
// members are ignored, and so are unknown kinds, roles and states, which decode
// to zero: a newer server may have more of them. A wrong shape is an *im.Error
// of kind im.BadParams that names the member. Decoded strings are copies.

var entryNames = []string{"conversation", "seq", "time", "by", "kind", "text", "reply_to", "mentions",
	"target", "emoji", "on", "user", "change", "role", "title", "archived",
	"key", "edited", "recalled", "reactions", "pinned"}

const entryRequired = 5 // conversation to kind

const maxMembersSeen = 100_000 // no list that a server sends is refused for its length

// DecodeEntry reads the ENTRY of an event (PROTOCOL 5.1).
func DecodeEntry(p []byte) (im.Entry, error) {
	var m im.Message
	err := decodeMessage(openMembers(p), &m)
	return m.Entry, err
}

// DecodeMessage reads an ENTRY of a page or of HEAD.last (PROTOCOL 6.5). Its
// Text is what is shown now; Pinned is 1 for a pinned message, because a page
// does not tell the seq of the pin. An edit or message without text is Hidden or
// Recalled.
func DecodeMessage(p []byte) (im.Message, error) {
	var m im.Message
	err := decodeMessage(openMembers(p), &m)
	return m, err
}

func decodeMessage(m members, e *im.Message) error {
	hasText := false
	for m.next(entryNames) {
		switch m.name {
		case "conversation":
			e.Conv = im.ConvID(m.text())
		case "seq":
			e.Seq = m.seq()
		case "time":
			e.Time = im.Millis(m.integer())
		case "by":
			e.By = im.UserID(m.text())
		case "kind":
			e.Kind, _ = im.ParseEntryKind(string(m.word()))
		case "text":
			e.Entry.Text, hasText = m.text(), true
		case "reply_to":
			e.ReplyTo = m.seq()
		case "mentions":
			e.Mentions = m.users(maxMembersSeen)
		case "target":
			e.Target = m.seq()
		case "emoji":
			e.Emoji = m.text()
		case "on":
			e.On = m.boolean()
		case "user":
			e.User = im.UserID(m.text())
		case "change":
			e.Change, _ = im.ParseMemberChange(string(m.word()))
		case "role":
			e.Role, _ = im.ParseMemberRole(string(m.word()))
		case "title":
			e.Title = m.text()
		case "archived":
			if e.Archive = im.ArchiveCleared; m.boolean() {
				e.Archive = im.ArchiveSet
			}
		case "key":
			e.Key = m.text()
		case "edited":
			e.Edited = im.Millis(m.integer())
		case "recalled":
			e.Recalled = m.boolean()
		case "pinned":
			if e.Pinned = 0; m.boolean() {
				e.Pinned = 1
			}
		case "reactions":
			e.Reactions = decodeReactions(&m)
		}
	}
	if e.Edited != 0 {
		e.State.Text = e.Entry.Text
	}
	e.Hidden = e.Kind == im.EntryEdit && !hasText
	return m.done(entryRequired)
}

// word returns the content of the value, which must be a string, for comparing:
// it points into the object unless it is written with escapes.
func (m *members) word() []byte {
	end, ok := m.stringEnd(m.from)
	if !ok {
		return nil
	}
	m.i = end
	raw := m.b[m.from+1 : end-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		s, _ := unquote(raw, true)
		return []byte(s)
	}
	return raw
}

var reactionNames = []string{"emoji", "count", "mine"}

func decodeReactions(m *members) []im.Reaction {
	var list []im.Reaction
	m.objects(func(o *members) error {
		var r im.Reaction
		for o.next(reactionNames) {
			switch o.name {
			case "emoji":
				r.Emoji = o.text()
			case "count":
				r.Count = int(o.integer())
			case "mine":
				r.Mine = o.boolean()
			}
		}
		list = append(list, r)
		return o.done(2)
	})
	return list
}

// objects calls each with every element of the value, which must be an array of
// objects. Its error ends the walk.
func (m *members) objects(each func(o *members) error) {
	for i, more := m.elements(); more; {
		end, ok := skipValue(m.b, i, 2)
		if !ok {
			m.broken()
			return
		}
		o := innerMembers(m.b[i:end])
		if err := each(&o); err != nil {
			m.wrong("an array of objects of the right shape (" + err.Error() + ")")
			return
		}
		i, more = m.element(end, true)
	}
}

var headNames = []string{"id", "kind", "title", "head", "read", "unread", "mentions", "role", "members",
	"updated", "last", "peer", "peer_read", "archived", "left"}

// DecodeHead reads a HEAD (PROTOCOL 3.5), the short one of a left conversation
// among it. The text of Last may have been cut by the server.
func DecodeHead(p []byte) (im.Head, error) {
	var h im.Head
	m := openMembers(p)
	err := decodeHead(&m, &h)
	return h, err
}

func decodeHead(m *members, h *im.Head) error {
	for m.next(headNames) {
		switch m.name {
		case "id":
			h.ID = im.ConvID(m.text())
		case "kind":
			h.Kind, _ = im.ParseConvKind(string(m.word()))
		case "title":
			h.Title = m.text()
		case "head":
			h.Head = m.seq()
		case "read":
			h.Read = m.seq()
		case "unread":
			h.Unread = int(m.integer())
		case "mentions":
			h.Mentions = int(m.integer())
		case "role":
			h.Role, _ = im.ParseMemberRole(string(m.word()))
		case "members":
			h.Members = int(m.integer())
		case "updated":
			h.Updated = im.Millis(m.integer())
		case "last":
			if raw := m.raw(); raw != nil {
				h.Last = new(im.Message)
				m.nested(decodeMessage(innerMembers(raw), h.Last))
			}
		case "peer":
			if raw := m.raw(); raw != nil {
				h.Peer = new(im.User)
				o := innerMembers(raw)
				m.nested(decodeUser(&o, h.Peer))
			}
		case "peer_read":
			h.PeerRead = m.seq()
		case "archived":
			h.Archived = m.boolean()
		case "left":
			h.Left = m.boolean()
		}
	}
	return m.done(2)
}

// nested ends the walk if an object within the value is wrong.
func (m *members) nested(err error) {
	if err != nil {
		m.wrong("an object of the right shape (" + err.Error() + ")")
	}
}

var userNames = []string{"id", "username", "name", "role"}

func decodeUser(m *members, u *im.User) error {
	for m.next(userNames) {
		switch m.name {
		case "id":
			u.ID = im.UserID(m.text())
		case "username":
			u.Username = m.text()
		case "name":
			u.Name = m.text()
		case "role":
			u.Role, _ = im.ParseRole(string(m.word()))
		}
	}
	return m.done(1)
}

var helloResultNames = []string{"session", "user", "tenant", "epoch", "time", "heartbeat_ms", "limits",
	"sync", "conversations", "next", "full"}

// DecodeHelloResult reads the result of session.hello (PROTOCOL 3.1).
func DecodeHelloResult(p []byte) (HelloResult, error) {
	var r HelloResult
	m := openMembers(p)
	for m.next(helloResultNames) {
		switch m.name {
		case "session":
			r.Session = im.SessionID(m.text())
		case "user":
			if raw := m.raw(); raw != nil {
				o := innerMembers(raw)
				m.nested(decodeUser(&o, &r.User))
			}
		case "tenant":
			if raw := m.raw(); raw != nil {
				m.nested(decodeTenant(raw, &r.Tenant))
			}
		case "epoch":
			r.Epoch = im.Epoch(m.text())
		case "time":
			r.Time = im.Millis(m.integer())
		case "heartbeat_ms":
			r.Heartbeat = time.Duration(min(max(m.integer(), 0), maxDelayMS)) * time.Millisecond
		case "limits":
			if raw := m.raw(); raw != nil {
				m.nested(decodeLimits(raw, &r.Limits))
			}
		case "sync":
			r.Sync = m.text()
		case "conversations":
			r.Conversations = decodeHeadList(&m)
		case "next":
			r.Next = m.text()
		case "full":
			r.Full = m.boolean()
		}
	}
	r.User.Tenant = r.Tenant.ID
	return r, m.done(6)
}

var tenantNames = []string{"id", "name"}

func decodeTenant(p []byte, t *im.Tenant) error {
	m := innerMembers(p)
	for m.next(tenantNames) {
		switch m.name {
		case "id":
			t.ID = im.TenantID(m.text())
		case "name":
			t.Name = m.text()
		}
	}
	return m.done(1)
}

var limitNames = []string{"frame_bytes", "text_bytes", "sends_per_minute"}

func decodeLimits(p []byte, l *im.Limits) error {
	m := innerMembers(p)
	for m.next(limitNames) {
		switch m.name {
		case "frame_bytes":
			l.FrameBytes = int(m.integer())
		case "text_bytes":
			l.TextBytes = int(m.integer())
		case "sends_per_minute":
			l.SendsPerMinute = int(m.integer())
		}
	}
	return m.done(0)
}

func decodeHeadList(m *members) []im.Head {
	var list []im.Head
	m.objects(func(o *members) error {
		list = append(list, im.Head{})
		return decodeHead(o, &list[len(list)-1])
	})
	return list
}

// HeadsResult is the result of conversation.list.
type HeadsResult struct {
	Conversations []im.Head
	Next, Sync    string
	Full          bool
}

var headsResultNames = []string{"conversations", "next", "sync", "full"}

// DecodeHeads reads the result of conversation.list (PROTOCOL 3.3, 4.3).
func DecodeHeads(p []byte) (HeadsResult, error) {
	var r HeadsResult
	m := openMembers(p)
	for m.next(headsResultNames) {
		switch m.name {
		case "conversations":
			r.Conversations = decodeHeadList(&m)
		case "next":
			r.Next = m.text()
		case "sync":
			r.Sync = m.text()
		case "full":
			r.Full = m.boolean()
		}
	}
	return r, m.done(1)
}

var pageNames = []string{"entries", "head"}

// DecodePage reads the result of message.history, or of message.pins, which has
// no head (PROTOCOL 6.3, 6.4).
func DecodePage(p []byte) (im.Page, error) {
	var page im.Page
	m := openMembers(p)
	for m.next(pageNames) {
		switch m.name {
		case "entries":
			page.Entries = nil
			m.objects(func(o *members) error {
				page.Entries = append(page.Entries, im.Message{})
				return decodeMessage(*o, &page.Entries[len(page.Entries)-1])
			})
		case "head":
			page.Head = m.seq()
		}
	}
	return page, m.done(1)
}
