// Package history judges what a server made of a load: it compares what was sent, acknowledged and shown with the
// logs that are read back, and names everything that is lost, doubled, changed, out of order or missing in between.
// The server names seq in its acknowledgement, so all of it is decided in one walk, without a search.
//
// It owns nothing but the record of a run. It never talks to a server. [Check] is a pure function; a [Recorder] is
// safe for concurrent use.
//
// The rules are those of pkg/wire/PROTOCOL.md: 2.3 and 5.3 (order), 5.1 (time, seq without gaps), 6.1 (what was
// acknowledged stays) and 6.2 (exactly once by key).
package history

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"github.com/pipit-im/pipit/pkg/im"
)

// Send is one message.send as the sender meant it; a resend with the same key is the same Send. Text must be unique
// in the run: it is how a message of somebody else is recognised in a log, whose key only its author is shown.
type Send struct {
	At      int64 // before the request left
	Conv    im.ConvID
	By      im.UserID
	Key     string
	Text    string
	Session string // sends of one session to one conversation are stored in their order; "" promises none
}

// Ack is a reply to a Send. A repeat is another Ack of the same key.
type Ack struct {
	At   int64 // after the reply came
	By   im.UserID
	Key  string
	Seq  im.Seq
	Time im.Millis
}

// Seen is a message that a receiver was shown. It is owed like an acknowledgement: clients keep what they were
// shown under its seq.
type Seen struct {
	At   int64 // after it came
	Conv im.ConvID
	Seq  im.Seq
	Text string
}

// History is the record of a run. Numbers in At rise with real time: a happened before b only if a.At < b.At.
type History struct {
	Sends []Send
	Acks  []Ack
	Seen  []Seen
}

// Log is a conversation as it was read back, in the order in which the server gave it.
type Log struct {
	Conv    im.ConvID
	Head    im.Seq
	Entries []im.Message
}

// Fault is the closed set of what can be wrong.
type Fault string

// The faults.
const (
	Lost      Fault = "lost"      // acknowledged, and not there
	Unshown   Fault = "unshown"   // shown to a receiver, and not there
	Doubled   Fault = "doubled"   // one message at two places
	Hole      Fault = "hole"      // a seq between 1 and head that no entry has
	Reordered Fault = "reordered" // entries out of the order that was promised
	Changed   Fault = "changed"   // there, with another text, author, key or time
	Moved     Fault = "moved"     // there, at another seq than was acknowledged
	Invented  Fault = "invented"  // a message that nobody sent
	Disagreed Fault = "disagreed" // two acknowledgements that contradict each other
)

// Violation is one broken promise.
type Violation struct {
	Fault  Fault
	Conv   im.ConvID
	Seq    im.Seq // 0 if none
	Detail string // keys and numbers, no text
}

// String is one line for test output.
func (v Violation) String() string {
	return fmt.Sprintf("%s: %s/%d: %s", v.Fault, v.Conv, v.Seq, v.Detail)
}

type sender struct {
	by  im.UserID
	key string
}

// checker is the state of one Check.
type checker struct {
	sends  map[sender]Send
	byText map[string]Send
	places map[sender]im.Seq // where each send stands in its log
	entry  map[im.ConvID]map[im.Seq]im.Message
	found  []Violation
}

func (c *checker) report(f Fault, conv im.ConvID, seq im.Seq, format string, args ...any) {
	c.found = append(c.found, Violation{f, conv, seq, fmt.Sprintf(format, args...)})
}

// Check returns every violation, in no particular order, that logs show against h. Logs must hold each conversation to which
// something was acknowledged; a conversation without a Log counts as empty.
func Check(h History, logs []Log) []Violation {
	c := &checker{
		sends: make(map[sender]Send), byText: make(map[string]Send),
		places: make(map[sender]im.Seq), entry: make(map[im.ConvID]map[im.Seq]im.Message),
	}
	for _, s := range h.Sends {
		c.sends[sender{s.By, s.Key}], c.byText[s.Text] = s, s
	}
	for _, l := range logs {
		c.log(l)
	}
	acked := c.acks(h.Acks)
	for _, s := range h.Seen {
		c.seen(s)
	}
	c.sessions(h.Sends)
	c.realTime(h.Sends, acked)
	return c.found
}

// log checks one log by itself and notes where each send stands.
func (c *checker) log(l Log) {
	entries := make(map[im.Seq]im.Message, len(l.Entries))
	c.entry[l.Conv] = entries
	var last im.Message
	for i, m := range l.Entries {
		switch {
		case i > 0 && m.Seq == last.Seq:
			c.report(Doubled, l.Conv, m.Seq, "two entries of one seq")
		case i > 0 && m.Seq < last.Seq:
			c.report(Reordered, l.Conv, m.Seq, "read behind seq %d", last.Seq)
		}
		if m.Time < last.Time {
			c.report(Reordered, l.Conv, m.Seq, "time %d after %d", m.Time, last.Time)
		}
		if m.Seq < 1 || m.Seq > l.Head {
			c.report(Invented, l.Conv, m.Seq, "outside 1 to head %d", l.Head)
		}
		last, entries[m.Seq] = m, m
		if m.Kind == im.EntryMessage {
			c.message(l.Conv, m)
		}
	}
	for seq := im.Seq(1); seq <= l.Head; seq++ {
		if _, ok := entries[seq]; !ok {
			c.report(Hole, l.Conv, seq, "head is %d", l.Head)
		}
	}
}

func (c *checker) message(conv im.ConvID, m im.Message) {
	s, ok := c.byText[m.Entry.Text]
	if !ok {
		c.report(Invented, conv, m.Seq, "a text that nobody sent")
		return
	}
	if s.Conv != conv {
		c.report(Changed, conv, m.Seq, "key %s was sent to %s", s.Key, s.Conv)
		return
	}
	if s.By != m.By || m.Key != "" && m.Key != s.Key {
		c.report(Changed, conv, m.Seq, "by %s with key %q, sent by %s with key %q", m.By, m.Key, s.By, s.Key)
	}
	id := sender{s.By, s.Key}
	if other, ok := c.places[id]; ok && other != m.Seq {
		c.report(Doubled, conv, m.Seq, "key %s stands at %d too", s.Key, other)
	}
	c.places[id] = m.Seq
}

// acks checks that what was acknowledged is there, and returns the first acknowledgement of each send.
func (c *checker) acks(acks []Ack) map[sender]Ack {
	type place struct {
		conv im.ConvID
		seq  im.Seq
	}
	first, owner := make(map[sender]Ack), make(map[place]sender)
	for _, a := range acks {
		id := sender{a.By, a.Key}
		s, ok := c.sends[id]
		if !ok {
			c.report(Invented, "", a.Seq, "key %s was acknowledged and never sent", a.Key)
			continue
		}
		if f, ok := first[id]; ok {
			if f.Seq != a.Seq || f.Time != a.Time {
				c.report(Disagreed, s.Conv, a.Seq, "key %s was acknowledged as %d at %d before, now at %d", a.Key, f.Seq, f.Time, a.Time)
			}
			continue
		}
		first[id] = a
		if other, ok := owner[place{s.Conv, a.Seq}]; ok {
			c.report(Disagreed, s.Conv, a.Seq, "acknowledged to keys %s and %s", other.key, a.Key)
		}
		owner[place{s.Conv, a.Seq}] = id

		at, stands := c.places[id]
		m, taken := c.entry[s.Conv][a.Seq]
		switch {
		case stands && at != a.Seq:
			c.report(Moved, s.Conv, a.Seq, "key %s stands at %d", a.Key, at)
		case stands && m.Time != a.Time:
			c.report(Changed, s.Conv, a.Seq, "key %s: time %d, acknowledged with %d", a.Key, m.Time, a.Time)
		case !stands && taken:
			c.report(Changed, s.Conv, a.Seq, "key %s: another entry stands there", a.Key)
		case !stands:
			c.report(Lost, s.Conv, a.Seq, "key %s", a.Key)
		}
	}
	return first
}

func (c *checker) seen(s Seen) {
	m, ok := c.entry[s.Conv][s.Seq]
	switch {
	case !ok:
		c.report(Unshown, s.Conv, s.Seq, "a receiver was shown it")
	case m.Entry.Text != s.Text:
		c.report(Changed, s.Conv, s.Seq, "a receiver was shown another text")
	}
}

// sessions checks that what one session sent to one conversation stands in the order of sending (PROTOCOL 2.3).
func (c *checker) sessions(sends []Send) {
	type lane struct {
		session string
		conv    im.ConvID
	}
	newest := make(map[lane]Send)
	for _, s := range byTime(sends, func(s Send) int64 { return s.At }) {
		at, stands := c.places[sender{s.By, s.Key}]
		if s.Session == "" || !stands {
			continue
		}
		l := lane{s.Session, s.Conv}
		if before, ok := newest[l]; ok && c.places[sender{before.By, before.Key}] > at {
			c.report(Reordered, s.Conv, at, "key %s was sent after key %s, which stands at %d", s.Key, before.Key, c.places[sender{before.By, before.Key}])
			continue
		}
		newest[l] = s
	}
}

// realTime checks that a message sent after another one's acknowledgement stands behind it, whoever sent them.
func (c *checker) realTime(sends []Send, first map[sender]Ack) {
	acks := make([]Ack, 0, len(first))
	for _, a := range first {
		acks = append(acks, a)
	}
	acks = byTime(acks, func(a Ack) int64 { return a.At })
	highest := make(map[im.ConvID]Ack) // of the acknowledgements before the send that is looked at
	for _, s := range byTime(sends, func(s Send) int64 { return s.At }) {
		for len(acks) > 0 && acks[0].At < s.At {
			a := acks[0]
			acks = acks[1:]
			if conv := c.sends[sender{a.By, a.Key}].Conv; a.Seq > highest[conv].Seq {
				highest[conv] = a
			}
		}
		at, stands := c.places[sender{s.By, s.Key}]
		if a := highest[s.Conv]; stands && at <= a.Seq {
			c.report(Reordered, s.Conv, at, "key %s was sent after key %s had been acknowledged as %d", s.Key, a.Key, a.Seq)
		}
	}
}

func byTime[T any](list []T, at func(T) int64) []T {
	return slices.SortedStableFunc(slices.Values(list), func(a, b T) int { return cmp.Compare(at(a), at(b)) })
}

// Recorder collects the History of a running load.
type Recorder struct {
	clock func() int64

	mu sync.Mutex
	h  History // guarded by mu
}

// NewRecorder returns a Recorder that goes on after h and takes its times from clock, which must rise with each call and be
// above every time in h. clock is called under a lock.
func NewRecorder(h History, clock func() int64) *Recorder {
	return &Recorder{clock: clock, h: History{slices.Clone(h.Sends), slices.Clone(h.Acks), slices.Clone(h.Seen)}}
}

// Send notes s; to be called before the request leaves. s.At is set here.
func (r *Recorder) Send(s Send) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.At = r.clock()
	r.h.Sends = append(r.h.Sends, s)
}

// Ack notes a; to be called when the reply has come. a.At is set here.
func (r *Recorder) Ack(a Ack) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.At = r.clock()
	r.h.Acks = append(r.h.Acks, a)
}

// Saw notes s; to be called when the message has come. s.At is set here.
func (r *Recorder) Saw(s Seen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.At = r.clock()
	r.h.Seen = append(r.h.Seen, s)
}

// Until returns what had happened at time at: what a server that was cut off then owes. It may be called while the load goes on.
func (r *Recorder) Until(at int64) History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{
		Sends: r.h.Sends[:count(r.h.Sends, func(s Send) int64 { return s.At }, at)],
		Acks:  r.h.Acks[:count(r.h.Acks, func(a Ack) int64 { return a.At }, at)],
		Seen:  r.h.Seen[:count(r.h.Seen, func(s Seen) int64 { return s.At }, at)],
	}
}

// All returns everything so far.
func (r *Recorder) All() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return History{slices.Clip(r.h.Sends), slices.Clip(r.h.Acks), slices.Clip(r.h.Seen)}
}

// count returns how many of list, which is in order of time, happened up to at.
func count[T any](list []T, when func(T) int64, at int64) int {
	n, _ := slices.BinarySearchFunc(list, at, func(x T, at int64) int {
		if when(x) <= at {
			return -1
		}
		return 1
	})
	return n
}
