package chat

import (
	"slices"
	"unsafe"

	"github.com/pipit-im/pipit/pkg/im"
)

// tail holds the newest entries of a conversation as pages show them, so that
// opening a live conversation reads no disk. Guarded by conv.mu.
//
// It covers the seqs from … head without a gap and follows every entry that is
// committed. Entries come from the commits themselves, or from a store page of
// exactly the same head (fill). What such a page does not tell is marked as not
// known, and whoever needs it is sent to the store.
type tail struct {
	ring  [tailLen]*tailEntry // by seq modulo tailLen
	from  im.Seq              // the oldest that is covered; head+1: none
	head  im.Seq
	bytes int64 // of the entries in the ring
	// last is the newest message, in the ring or older than it; nil: not known.
	last *tailEntry
	// shared is last as everybody sees it (no key, no reactions); nil: to be made.
	shared *im.Message
}

const (
	tailLen   = 64
	tailBytes = 128 << 10 // of one conversation; long texts make the tail shorter
)

// tailEntry is one entry with its state as of the tail's head.
type tailEntry struct {
	im.Message
	by []reactor // who reacted, while allBy
	// allBy: by is complete, so that Mine can be told to anybody.
	allBy bool
	// keyed: Key is known; false for a message that came from a page of the store
	// that somebody else read.
	keyed bool
}

type reactor struct {
	user  im.UserID
	emoji string
}

// maxReactors bounds tailEntry.by; a message with more is left to the store.
const maxReactors = 256

func (e *tailEntry) size() int64 {
	return entryBytes + int64(len(e.Entry.Text)+len(e.State.Text)+len(e.Key)+len(e.Emoji)+len(e.Title)) +
		int64(len(e.Mentions))*int64(unsafe.Sizeof(im.UserID(""))) +
		int64(cap(e.by))*int64(unsafe.Sizeof(reactor{}))
}

func (t *tail) size() int64 { return t.bytes }

// start begins an empty tail after head.
func (t *tail) start(head im.Seq) { t.from, t.head = head+1, head }

// at returns the entry of that seq if it is here.
func (t *tail) at(seq im.Seq) *tailEntry {
	if seq >= t.from && seq <= t.head {
		return t.ring[seq%tailLen]
	}
	if t.last != nil && t.last.Seq == seq {
		return t.last
	}
	return nil
}

// apply follows one committed entry, which is the next after head.
func (t *tail) apply(e *im.Entry) {
	n := &tailEntry{Message: im.Message{Entry: *e}, allBy: true, keyed: true}
	if target := t.at(e.Target); target != nil && e.Target != 0 {
		was := target.size()
		t.change(target, e)
		if t.inRing(target.Seq) {
			t.bytes += target.size() - was
		}
		if target == t.last {
			t.shared = nil
		}
	}
	if e.Kind == im.EntryRecall {
		t.hideEdits(e.Target)
	}
	t.push(n)
	if e.Kind == im.EntryMessage {
		t.last, t.shared = n, nil
	}
}

func (t *tail) inRing(seq im.Seq) bool { return seq >= t.from && seq <= t.head }

func (t *tail) push(n *tailEntry) {
	t.head = n.Seq
	if t.head-t.from >= tailLen {
		t.shift()
	}
	t.ring[n.Seq%tailLen] = n
	t.bytes += n.size()
	for t.bytes > tailBytes && t.from < t.head {
		t.shift()
	}
}

// shift drops the oldest entry.
func (t *tail) shift() {
	i := t.from % tailLen
	t.bytes -= t.ring[i].size()
	t.ring[i] = nil
	t.from++
}

// change applies to a message what an edit, recall, reaction or pin does to it,
// as store.Log.Append does to the stored one.
func (t *tail) change(m *tailEntry, e *im.Entry) {
	switch e.Kind {
	case im.EntryEdit:
		m.State.Text, m.Edited = e.Text, e.Time
	case im.EntryRecall:
		m.Recalled, m.Entry.Text, m.State.Text, m.Pinned = true, "", "", 0
	case im.EntryPin:
		m.Pinned = 0
		if e.On {
			m.Pinned = e.Seq
		}
	case im.EntryReaction:
		m.react(e)
	}
}

// hideEdits takes the text from every edit of a recalled message (PROTOCOL 5.4).
func (t *tail) hideEdits(target im.Seq) {
	for seq := t.from; seq <= t.head; seq++ {
		e := t.ring[seq%tailLen]
		if e.Kind == im.EntryEdit && e.Target == target {
			t.bytes -= int64(len(e.Entry.Text))
			e.Entry.Text, e.Hidden = "", true
		}
	}
}

// react counts a reaction. Only one that changes something is ever appended, so
// the count is right even where it is not known whose reactions they are.
func (e *tailEntry) react(r *im.Entry) {
	i := slices.IndexFunc(e.Reactions, func(x im.Reaction) bool { return x.Emoji == r.Emoji })
	switch {
	case r.On && i < 0:
		e.Reactions = append(e.Reactions, im.Reaction{Emoji: r.Emoji, Count: 1})
	case r.On:
		e.Reactions[i].Count++
	case i >= 0 && e.Reactions[i].Count > 1:
		e.Reactions[i].Count--
	case i >= 0:
		e.Reactions = slices.Delete(e.Reactions, i, i+1)
	}
	who := reactor{r.By, r.Emoji}
	switch {
	case len(e.Reactions) == 0:
		e.by, e.allBy = nil, true
	case !e.allBy:
	case r.On && len(e.by) >= maxReactors:
		e.by, e.allBy = nil, false
	case r.On:
		e.by = append(e.by, who)
	default:
		e.by = slices.DeleteFunc(e.by, func(x reactor) bool { return x == who })
	}
}

// known reports whether everything that reader may see of the entry is here.
func (e *tailEntry) known(reader im.UserID) bool {
	return (e.keyed || e.By != reader) && (e.allBy || len(e.Reactions) == 0)
}

// seen writes the entry as reader sees it to m, sharing nothing that will change.
func (e *tailEntry) seen(reader im.UserID, m *im.Message) {
	*m = e.Message
	if e.By != reader {
		m.Key = ""
	}
	if len(e.Reactions) == 0 {
		m.Reactions = nil
		return
	}
	m.Reactions = slices.Clone(e.Reactions)
	for i := range m.Reactions {
		m.Reactions[i].Mine = slices.Contains(e.by, reactor{reader, m.Reactions[i].Emoji})
	}
}

// page returns the entries from … to, within the log, as reader sees them; false
// if something of them is not known here.
func (t *tail) page(reader im.UserID, from, to im.Seq) ([]im.Message, bool) {
	if from > to {
		return nil, true
	}
	if from < t.from || to > t.head {
		return nil, false
	}
	for seq := from; seq <= to; seq++ {
		if !t.ring[seq%tailLen].known(reader) {
			return nil, false
		}
	}
	page := make([]im.Message, to-from+1)
	for i := range page {
		t.ring[(from+im.Seq(i))%tailLen].seen(reader, &page[i])
	}
	return page, true
}

// newest returns the newest message as reader sees it in a head (no key); false
// if it is not known here.
func (t *tail) newest(reader im.UserID) (*im.Message, bool) {
	switch {
	case t.last == nil || len(t.last.Reactions) > 0 && !t.last.allBy:
		return nil, false
	case len(t.last.Reactions) > 0:
		m := new(im.Message)
		t.last.seen(reader, m)
		m.Key = ""
		return m, true
	case t.shared == nil:
		m := t.last.Message
		m.Key, m.Reactions = "", nil
		t.shared = &m
	}
	return t.shared, true
}

// fill takes up a page that reader got from the store. It counts only if its head
// is this tail's: the state of every message in it is then exactly that which the
// tail has followed to, since whatever changes a message is an entry.
func (t *tail) fill(reader im.UserID, page im.Page) {
	n := im.Seq(len(page.Entries))
	if page.Head != t.head || n == 0 {
		return
	}
	first, last := page.Entries[0].Seq, page.Entries[n-1].Seq
	if last-first+1 != n {
		return
	}
	for i := range page.Entries {
		m := &page.Entries[i]
		if e := t.at(m.Seq); e != nil && !e.keyed && e.By == reader {
			e.Key, e.keyed = m.Key, true
		}
	}
	if last+1 < t.from || t.from <= first {
		return // not adjacent, or nothing older
	}
	for seq := t.from - 1; seq >= first && t.head-seq < tailLen; seq-- {
		e := fromStore(&page.Entries[seq-first], reader)
		if t.bytes+e.size() > tailBytes {
			return
		}
		if t.last != nil && t.last.Seq == seq {
			e = t.last
		}
		t.ring[seq%tailLen] = e
		t.bytes += e.size()
		t.from = seq
	}
}

// fillLast takes up the newest message from a page of the store; see fill.
func (t *tail) fillLast(reader im.UserID, page im.Page, lastMsg im.Seq) {
	if page.Head != t.head || t.last != nil || len(page.Entries) != 1 || page.Entries[0].Seq != lastMsg {
		return
	}
	if t.last = t.at(lastMsg); t.last == nil {
		t.last = fromStore(&page.Entries[0], reader)
	}
}

// fromStore makes an entry of a page that reader got from the store. The page
// stays the reader's: what the tail will change is copied.
func fromStore(m *im.Message, reader im.UserID) *tailEntry {
	e := &tailEntry{Message: *m, allBy: len(m.Reactions) == 0}
	e.keyed = m.Kind != im.EntryMessage || m.By == reader
	e.Reactions = slices.Clone(m.Reactions)
	for i := range e.Reactions {
		e.Reactions[i].Mine = false
	}
	return e
}
