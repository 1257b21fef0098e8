package wire

import "github.com/pipit-im/pipit/pkg/im"

// SendParams are those of message.send (PROTOCOL 6.1). `files` is refused by
// DecodeSend until files are defined (PROTOCOL 5.1).
type SendParams struct {
	Conversation im.ConvID
	Key          string
	Text         string      // 1 to Limits.TextBytes bytes
	ReplyTo      im.Seq      // 0: no reply
	Mentions     []im.UserID // as sent, at most im.MaxMentions
}

var sendNames = []string{"conversation", "key", "text", "reply_to", "mentions", "files"}

// DecodeSend reads the params of message.send under the limits in force. It
// allocates the strings and the list of mentions, nothing else.
func DecodeSend(params []byte, lim im.Limits) (SendParams, error) {
	var p SendParams
	m := openMembers(params)
	for m.next(sendNames) {
		switch m.name {
		case "conversation":
			p.Conversation = im.ConvID(m.text())
		case "key":
			p.Key = m.key()
		case "text":
			p.Text = m.body(lim)
		case "reply_to":
			// 0 is the seq of no message; it must not pass for "absent".
			if p.ReplyTo = m.seq(); p.ReplyTo == 0 && m.shape == nil {
				m.invalid("reply_to", "reply_to must be the seq of a message")
			}
		case "mentions":
			p.Mentions = m.users(im.MaxMentions)
		case "files":
			m.files()
		}
	}
	return p, m.done(3)
}

// EditParams are those of message.edit (PROTOCOL 6.4).
type EditParams struct {
	Conversation im.ConvID
	Target       im.Seq
	Text         string
	Key          string
}

var editNames = []string{"conversation", "target", "text", "key"}

// DecodeEdit reads the params of message.edit under the limits in force.
func DecodeEdit(params []byte, lim im.Limits) (EditParams, error) {
	var p EditParams
	m := openMembers(params)
	for m.next(editNames) {
		switch m.name {
		case "conversation":
			p.Conversation = im.ConvID(m.text())
		case "target":
			p.Target = m.seq()
		case "text":
			p.Text = m.body(lim)
		case "key":
			p.Key = m.key()
		}
	}
	return p, m.done(4)
}

// RecallParams are those of message.recall (PROTOCOL 6.4).
type RecallParams struct {
	Conversation im.ConvID
	Target       im.Seq
	Key          string
}

var recallNames = []string{"conversation", "target", "key"}

// DecodeRecall reads the params of message.recall.
func DecodeRecall(params []byte) (RecallParams, error) {
	var p RecallParams
	m := openMembers(params)
	for m.next(recallNames) {
		switch m.name {
		case "conversation":
			p.Conversation = im.ConvID(m.text())
		case "target":
			p.Target = m.seq()
		case "key":
			p.Key = m.key()
		}
	}
	return p, m.done(3)
}

// ReactParams are those of message.react (PROTOCOL 6.4).
type ReactParams struct {
	Conversation im.ConvID
	Target       im.Seq
	Emoji        string
	On           bool
	Key          string
}

var reactNames = []string{"conversation", "target", "emoji", "on", "key"}

// DecodeReact reads the params of message.react.
func DecodeReact(params []byte) (ReactParams, error) {
	var p ReactParams
	m := openMembers(params)
	for m.next(reactNames) {
		switch m.name {
		case "conversation":
			p.Conversation = im.ConvID(m.text())
		case "target":
			p.Target = m.seq()
		case "emoji":
			p.Emoji = m.emoji()
		case "on":
			p.On = m.boolean()
		case "key":
			p.Key = m.key()
		}
	}
	return p, m.done(5)
}

// PinParams are those of message.pin (PROTOCOL 6.4).
type PinParams struct {
	Conversation im.ConvID
	Target       im.Seq
	On           bool
	Key          string
}

var pinNames = []string{"conversation", "target", "on", "key"}

// DecodePin reads the params of message.pin.
func DecodePin(params []byte) (PinParams, error) {
	var p PinParams
	m := openMembers(params)
	for m.next(pinNames) {
		switch m.name {
		case "conversation":
			p.Conversation = im.ConvID(m.text())
		case "target":
			p.Target = m.seq()
		case "on":
			p.On = m.boolean()
		case "key":
			p.Key = m.key()
		}
	}
	return p, m.done(4)
}

// PinsParams are those of message.pins (PROTOCOL 6.4).
type PinsParams struct{ Conversation im.ConvID }

var inConversationNames = []string{"conversation"}

// DecodePins reads the params of message.pins.
func DecodePins(params []byte) (PinsParams, error) {
	var p PinsParams
	m := openMembers(params)
	for m.next(inConversationNames) {
		p.Conversation = im.ConvID(m.text())
	}
	return p, m.done(1)
}

// HistoryParams are those of message.history (PROTOCOL 6.3).
type HistoryParams struct {
	Conversation im.ConvID
	After        im.Seq // exclusive; counts if HasAfter
	Before       im.Seq // exclusive; counts if HasBefore, never together with After
	HasAfter     bool
	HasBefore    bool
	Limit        int // 1 to im.MaxHistoryPage
}

var historyNames = []string{"conversation", "after", "before", "limit"}

// DecodeHistory reads the params of message.history.
func DecodeHistory(params []byte) (HistoryParams, error) {
	p := HistoryParams{Limit: im.MaxHistoryPage}
	m := openMembers(params)
	for m.next(historyNames) {
		switch m.name {
		case "conversation":
			p.Conversation = im.ConvID(m.text())
		case "after":
			p.After, p.HasAfter = m.seq(), true
		case "before":
			p.Before, p.HasBefore = m.seq(), true
		case "limit":
			p.Limit = m.limit(im.MaxHistoryPage)
		}
	}
	if p.HasAfter && p.HasBefore {
		m.invalid("before", "a page is either after or before a seq, not both")
	}
	return p, m.done(1)
}

// MarkParams are those of read.mark (PROTOCOL 7.1).
type MarkParams struct {
	Conversation im.ConvID
	Seq          im.Seq
}

var markNames = []string{"conversation", "seq"}

// DecodeMark reads the params of read.mark.
func DecodeMark(params []byte) (MarkParams, error) {
	var p MarkParams
	m := openMembers(params)
	for m.next(markNames) {
		switch m.name {
		case "conversation":
			p.Conversation = im.ConvID(m.text())
		case "seq":
			p.Seq = m.seq()
		}
	}
	return p, m.done(2)
}

// ReadListParams are those of read.list (PROTOCOL 7.3).
type ReadListParams struct {
	Conversation im.ConvID
	Seq          im.Seq
	Cursor       string
	Limit        int // 1 to im.MaxMembersPage
}

var readListNames = []string{"conversation", "seq", "cursor", "limit"}

// DecodeReadList reads the params of read.list.
func DecodeReadList(params []byte) (ReadListParams, error) {
	p := ReadListParams{Limit: im.MaxMembersPage}
	m := openMembers(params)
	for m.next(readListNames) {
		switch m.name {
		case "conversation":
			p.Conversation = im.ConvID(m.text())
		case "seq":
			p.Seq = m.seq()
		case "cursor":
			p.Cursor = m.text()
		case "limit":
			p.Limit = m.limit(im.MaxMembersPage)
		}
	}
	return p, m.done(2)
}

// TypingParams are those of typing (PROTOCOL 8.1).
type TypingParams struct{ Conversation im.ConvID }

// DecodeTyping reads the params of typing.
func DecodeTyping(params []byte) (TypingParams, error) {
	p, err := DecodePins(params)
	return TypingParams(p), err
}

// body returns the value as a message text: 1 byte to TextBytes bytes of UTF-8
// after decoding (PROTOCOL 6.1), otherwise untouched; U+0000 is a code point
// like any other.
func (m *members) body(lim im.Limits) string {
	s := m.text()
	switch {
	case m.shape != nil:
	case s == "":
		m.invalid(m.name, "%s is empty", m.name)
	case len(s) > lim.TextBytes:
		m.tooLarge(m.name, lim.TextBytes, "%s may have at most %d bytes", m.name, lim.TextBytes)
	}
	return s
}

// files refuses files, which are not defined yet (PROTOCOL 5.1); an empty list
// is the default and so as good as none.
func (m *members) files() {
	raw := m.raw()
	switch {
	case m.shape != nil:
	case string(raw) == "null":
		m.wrong("an array")
	case raw[0] == '[' && raw[skipSpace(raw, 1)] == ']':
	default:
		m.invalid("files", "files cannot be sent yet")
	}
}
