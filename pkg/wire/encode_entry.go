package wire

import (
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/im"
)

// entryOverhead is more than an ENTRY takes beside its strings and lists: names,
// punctuation and numbers of the longest kind.
const entryOverhead = 160

// entrySize is an upper bound of what AppendEntry appends.
func entrySize(e *im.Entry) int {
	n := entryOverhead + quotedSize(e.Conv) + quotedSize(e.By)
	switch e.Kind {
	case im.EntryMessage:
		n += quotedSize(e.Text)
		for _, u := range e.Mentions {
			n += quotedSize(u) + 1
		}
	case im.EntryEdit:
		n += quotedSize(e.Text)
	case im.EntryReaction:
		n += quotedSize(e.Emoji)
	case im.EntryMember:
		n += quotedSize(e.User)
	case im.EntryMeta:
		n += quotedSize(e.Title)
	}
	return n
}

// AppendEntry appends e as the ENTRY that an event carries (PROTOCOL 5.1): as
// it was appended to the log, and without the key (PROTOCOL 6.5).
func AppendEntry(dst []byte, e *im.Entry) []byte {
	return append(appendEntryMembers(dst, e, e.Conv, e.Text, false), '}')
}

// appendEntryMembers appends an ENTRY without its closing brace. text stands in
// for e.Text, and is left out if hidden.
func appendEntryMembers(dst []byte, e *im.Entry, conv im.ConvID, text string, hidden bool) []byte {
	dst = stringMember(dst, `{"conversation":`, conv)
	dst = uintMember(dst, `,"seq":`, e.Seq)
	dst = intMember(dst, `,"time":`, e.Time)
	dst = stringMember(dst, `,"by":`, e.By)
	dst = stringMember(dst, `,"kind":`, e.Kind.String())
	switch e.Kind {
	case im.EntryMessage:
		if !hidden {
			dst = stringMember(dst, `,"text":`, text)
		}
		if e.ReplyTo != 0 {
			dst = uintMember(dst, `,"reply_to":`, e.ReplyTo)
		}
		if len(e.Mentions) > 0 {
			dst = appendStrings(append(dst, `,"mentions":`...), e.Mentions)
		}
	case im.EntryEdit:
		dst = uintMember(dst, `,"target":`, e.Target)
		if !hidden {
			dst = stringMember(dst, `,"text":`, text)
		}
	case im.EntryRecall:
		dst = uintMember(dst, `,"target":`, e.Target)
	case im.EntryReaction:
		dst = uintMember(dst, `,"target":`, e.Target)
		dst = stringMember(dst, `,"emoji":`, e.Emoji)
		dst = boolMember(dst, `,"on":`, e.On)
	case im.EntryPin:
		dst = uintMember(dst, `,"target":`, e.Target)
		dst = boolMember(dst, `,"on":`, e.On)
	case im.EntryMember:
		dst = stringMember(dst, `,"user":`, e.User)
		dst = stringMember(dst, `,"change":`, e.Change.String())
		dst = optionalMember(dst, `,"role":`, e.Role.String())
	case im.EntryMeta:
		dst = stringMember(dst, `,"title":`, e.Title)
		if e.Archive != 0 {
			dst = boolMember(dst, `,"archived":`, e.Archive == im.ArchiveSet)
		}
	}
	return dst
}

// messageSize is an upper bound of what AppendMessage and appendLast append.
func messageSize(m *im.Message) int {
	n := entrySize(&m.Entry) + quotedSize(m.State.Text) + quotedSize(m.Key) + 64
	for i := range m.Reactions {
		n += quotedSize(m.Reactions[i].Emoji) + 64
	}
	return n
}

// AppendMessage appends m as the ENTRY that a page carries: with its state as of
// the page's head, and with its key where the store gave one, which is to the
// author only (PROTOCOL 6.5). Of what is recalled there is no text (PROTOCOL
// 5.4), and no `edited` and no `pinned` either.
func AppendMessage(dst []byte, m *im.Message, conv im.ConvID) []byte {
	dst = appendEntryMembers(dst, &m.Entry, conv, m.Shown(), m.Recalled || m.Hidden)
	if m.Kind == im.EntryMessage {
		dst = optionalMember(dst, `,"key":`, m.Key)
		dst = appendFate(dst, m)
		if m.Pinned != 0 && !m.Recalled {
			dst = append(dst, `,"pinned":true`...)
		}
		for i := range m.Reactions {
			if i == 0 {
				dst = append(dst, `,"reactions":[`...)
			} else {
				dst = append(dst, ',')
			}
			r := &m.Reactions[i]
			dst = stringMember(dst, `{"emoji":`, r.Emoji)
			dst = intMember(dst, `,"count":`, r.Count)
			dst = append(boolMember(dst, `,"mine":`, r.Mine), '}')
		}
		if len(m.Reactions) > 0 {
			dst = append(dst, ']')
		}
	}
	return append(dst, '}')
}

// appendFate says whether m was recalled or edited.
func appendFate(dst []byte, m *im.Message) []byte {
	switch {
	case m.Recalled:
		return append(dst, `,"recalled":true`...)
	case m.Edited != 0:
		return intMember(dst, `,"edited":`, m.Edited)
	}
	return dst
}

// appendLast appends m as HEAD.last: the text as it is now, cut to
// im.LastTextBytes at a code point (PROTOCOL 3.5); no key, no reactions, no pin.
func appendLast(dst []byte, m *im.Message, conv im.ConvID) []byte {
	text, cut := cutText(m.Shown(), im.LastTextBytes)
	dst = appendEntryMembers(dst, &m.Entry, conv, text, m.Recalled || m.Hidden)
	if cut {
		dst = append(dst, `,"cut":true`...)
	}
	return append(appendFate(dst, m), '}')
}

// cutText returns the longest beginning of s that ends at a code point and has
// at most most bytes, and whether that is less than s.
func cutText(s string, most int) (string, bool) {
	if len(s) <= most {
		return s, false
	}
	n := most
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n], true
}

// headOverhead is more than a HEAD takes beside its strings and its `last`.
const headOverhead = 288

// headSize is an upper bound of what AppendHead appends.
func headSize(h *im.Head) int {
	n := headOverhead + quotedSize(h.ID) + quotedSize(h.Title)
	if h.Peer != nil {
		n += 48 + quotedSize(h.Peer.ID) + quotedSize(h.Peer.Username) + quotedSize(h.Peer.Name)
	}
	if h.Last != nil {
		text, _ := cutText(h.Last.Shown(), im.LastTextBytes)
		n += entryOverhead + 64 + quotedSize(h.ID) + quotedSize(h.Last.By) + quotedSize(text)
		for _, u := range h.Last.Mentions {
			n += quotedSize(u) + 1
		}
	}
	return n
}

// AppendHead appends h as a HEAD (PROTOCOL 3.5), or as the short form of one
// that was left.
func AppendHead(dst []byte, h *im.Head) []byte { return append(appendHeadMembers(dst, h), '}') }

func appendHeadMembers(dst []byte, h *im.Head) []byte {
	dst = stringMember(dst, `{"id":`, h.ID)
	dst = stringMember(dst, `,"kind":`, h.Kind.String())
	if h.Left {
		return append(dst, `,"left":true`...)
	}
	dst = optionalMember(dst, `,"title":`, h.Title)
	dst = uintMember(dst, `,"head":`, h.Head)
	dst = uintMember(dst, `,"read":`, h.Read)
	dst = intMember(dst, `,"unread":`, h.Unread)
	dst = intMember(dst, `,"mentions":`, h.Mentions)
	dst = optionalMember(dst, `,"role":`, h.Role.String())
	dst = intMember(dst, `,"members":`, h.Members)
	dst = intMember(dst, `,"updated":`, h.Updated)
	if h.Kind == im.KindDirect {
		if h.Peer != nil {
			dst = stringMember(dst, `,"peer":{"id":`, h.Peer.ID)
			dst = stringMember(dst, `,"username":`, h.Peer.Username)
			dst = append(stringMember(dst, `,"name":`, h.Peer.Name), '}')
		}
		dst = uintMember(dst, `,"peer_read":`, h.PeerRead)
	}
	if h.Archived {
		dst = append(dst, `,"archived":true`...)
	}
	if h.Last != nil {
		dst = appendLast(append(dst, `,"last":`...), h.Last, h.ID)
	}
	return dst
}

// AppendUser appends u in the shape of hello and user.search (PROTOCOL 3.1, 4.3).
func AppendUser(dst []byte, u *im.User) []byte {
	dst = stringMember(dst, `{"id":`, u.ID)
	dst = stringMember(dst, `,"username":`, u.Username)
	dst = stringMember(dst, `,"name":`, u.Name)
	return append(optionalMember(dst, `,"role":`, u.Role.String()), '}')
}

// AppendTenant appends t in the shape of hello (PROTOCOL 3.1).
func AppendTenant(dst []byte, t *im.Tenant) []byte {
	dst = stringMember(dst, `{"id":`, t.ID)
	return append(stringMember(dst, `,"name":`, t.Name), '}')
}

// AppendPresence appends a list of presences as `[[id,state,since]…]` (PROTOCOL
// 8.2).
func AppendPresence(dst []byte, list []im.Presence) []byte {
	dst = append(dst, '[')
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = stringMember(dst, "[", list[i].User)
		dst = stringMember(dst, ",", list[i].State.String())
		dst = append(intMember(dst, ",", list[i].Since), ']')
	}
	return append(dst, ']')
}
