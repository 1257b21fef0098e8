package history

import (
	"fmt"
	"slices"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
)

// run is a faultless run: ann and bob send ten messages each to one conversation in turn, bob is shown all of them, ann's page
// is what is read back. The log begins with two entries that are no messages.
func run() (History, []Log) {
	var h History
	var clock int64
	now := func() int64 { clock++; return clock }
	l := Log{Conv: "c_1", Entries: []im.Message{
		{Entry: im.Entry{Seq: 1, Time: 50, Kind: im.EntryMember}},
		{Entry: im.Entry{Seq: 2, Time: 50, Kind: im.EntryMeta}},
	}}
	for i := range 20 {
		by := im.UserID("u_ann")
		if i%2 == 1 {
			by = "u_bob"
		}
		s := Send{At: now(), Conv: l.Conv, By: by, Key: fmt.Sprint("k", i), Text: fmt.Sprint("text ", i), Session: string(by)}
		h.Sends = append(h.Sends, s)
		m := im.Message{Entry: im.Entry{Conv: l.Conv, Seq: im.Seq(i + 3), Time: im.Millis(100 + i/2), By: by, Kind: im.EntryMessage, Text: s.Text}}
		if by == "u_ann" {
			m.Key = s.Key
		}
		l.Entries = append(l.Entries, m)
		if i != 19 { // the last one was stored and its reply is still on the way
			h.Acks = append(h.Acks, Ack{At: now(), By: by, Key: s.Key, Seq: m.Seq, Time: m.Time})
		}
		h.Seen = append(h.Seen, Seen{At: now(), Conv: l.Conv, Seq: m.Seq, Text: s.Text})
	}
	// One more was sent and never stored, one was resent and acknowledged again.
	h.Sends = append(h.Sends, Send{At: now(), Conv: l.Conv, By: "u_ann", Key: "k20", Text: "text 20", Session: "u_ann"})
	again := h.Acks[4]
	again.At = now()
	h.Acks = append(h.Acks, again)
	l.Head = im.Seq(len(l.Entries))
	return h, []Log{l, {Conv: "c_empty"}}
}

func TestFaultlessRun(t *testing.T) {
	h, logs := run()
	for _, v := range Check(h, logs) {
		t.Error(v)
	}
}

// TestPlantedFaults plants each fault into the faultless run and wants exactly the named kinds to be found.
func TestPlantedFaults(t *testing.T) {
	swap := func(a, b *im.Message) {
		a.Entry.Text, b.Entry.Text, a.By, b.By, a.Key, b.Key = b.Entry.Text, a.Entry.Text, b.By, a.By, b.Key, a.Key
	}
	for _, c := range []struct {
		name  string
		plant func(h *History, l *Log)
		want  []Fault
	}{
		{"the last acknowledged ones are gone", func(_ *History, l *Log) {
			l.Entries, l.Head = l.Entries[:18], 18
		}, []Fault{Lost, Unshown}},
		{"only the head was forgotten", func(_ *History, l *Log) { l.Head = 20 }, []Fault{Invented}},
		{"head runs ahead of the entries", func(_ *History, l *Log) { l.Head++ }, []Fault{Hole}},
		{"one in the middle is gone", func(_ *History, l *Log) {
			l.Entries = slices.Delete(l.Entries, 9, 10)
		}, []Fault{Hole, Lost, Unshown}},
		{"one is gone and the rest moved up", func(_ *History, l *Log) {
			l.Entries = slices.Delete(l.Entries, 9, 10)
			for i := range l.Entries {
				l.Entries[i].Seq = im.Seq(i + 1)
			}
			l.Head--
		}, []Fault{Changed, Moved, Reordered, Unshown}},
		{"an unacknowledged one that was shown is gone", func(_ *History, l *Log) {
			l.Entries, l.Head = l.Entries[:21], 21
		}, []Fault{Unshown}},
		{"a message is stored twice", func(_ *History, l *Log) {
			m := l.Entries[12]
			m.Seq, m.Time = l.Head+1, 200
			l.Entries, l.Head = append(l.Entries, m), l.Head+1
		}, []Fault{Doubled, Moved, Reordered}},
		{"an unacknowledged message is stored twice", func(_ *History, l *Log) {
			m := l.Entries[21]
			m.Seq++
			l.Entries, l.Head = append(l.Entries, m), l.Head+1
		}, []Fault{Doubled}},
		{"an entry is given twice", func(_ *History, l *Log) {
			l.Entries = slices.Insert(l.Entries, 7, l.Entries[7])
		}, []Fault{Doubled}},
		{"a page is out of order", func(_ *History, l *Log) {
			l.Entries[6], l.Entries[7] = l.Entries[7], l.Entries[6] // of the same time
		}, []Fault{Reordered}},
		{"two messages changed places", func(_ *History, l *Log) {
			swap(&l.Entries[6], &l.Entries[8])
		}, []Fault{Changed, Moved, Reordered}},
		{"a text changed", func(_ *History, l *Log) { l.Entries[6].Entry.Text += "x" }, []Fault{Changed, Invented}},
		{"a text became another one's", func(_ *History, l *Log) { l.Entries[6].Entry.Text = l.Entries[8].Entry.Text }, []Fault{Changed, Doubled}},
		{"an author changed", func(_ *History, l *Log) { l.Entries[6].By = "u_eve" }, []Fault{Changed}},
		{"a key changed", func(_ *History, l *Log) { l.Entries[6].Key = "other" }, []Fault{Changed}},
		{"a time changed", func(_ *History, l *Log) { l.Entries[21].Time = 300; l.Entries[20].Time = 299 }, []Fault{Changed}},
		{"time runs backward", func(_ *History, l *Log) { l.Entries[1].Time = 49 }, []Fault{Reordered}},
		{"a stranger's message", func(_ *History, l *Log) {
			l.Entries = append(l.Entries, im.Message{Entry: im.Entry{Seq: 23, Time: 200, Kind: im.EntryMessage, Text: "?"}})
			l.Head++
		}, []Fault{Invented}},
		{"a message in the wrong conversation", func(h *History, _ *Log) { h.Sends[19].Conv = "c_empty" }, []Fault{Changed}},
		{"a repeat names another seq", func(h *History, _ *Log) { h.Acks[len(h.Acks)-1].Seq++ }, []Fault{Disagreed}},
		{"a repeat names another time", func(h *History, _ *Log) { h.Acks[len(h.Acks)-1].Time++ }, []Fault{Disagreed}},
		{"one seq acknowledged to two", func(h *History, _ *Log) { h.Acks[3].Seq-- }, []Fault{Disagreed, Moved}},
		{"an acknowledgement out of nowhere", func(h *History, _ *Log) {
			h.Acks = append(h.Acks, Ack{At: 99, By: "u_ann", Key: "never", Seq: 3})
		}, []Fault{Invented}},
		{"sent later by the same session, stored earlier", func(h *History, l *Log) {
			// Neither has been acknowledged, so only the session's order forbids it.
			late := Send{At: 100, Conv: "c_1", By: "u_ann", Key: "k21", Text: "text 21", Session: "u_ann"}
			h.Sends = append(h.Sends, late)
			for _, text := range []string{late.Text, "text 20"} {
				l.Head++
				l.Entries = append(l.Entries, im.Message{Entry: im.Entry{Seq: l.Head, Time: 200, By: "u_ann", Kind: im.EntryMessage, Text: text}})
			}
		}, []Fault{Reordered}},
		{"sent after another one's acknowledgement, stored before it", func(h *History, _ *Log) {
			// ann's first message left when bob's first had been acknowledged; of different sessions.
			h.Sends[0].At = h.Acks[1].At + 1
			h.Sends[0].Session = ""
		}, []Fault{Reordered}},
		{"a receiver was shown something else", func(h *History, _ *Log) { h.Seen[5].Text = "text 6" }, []Fault{Changed}},
		{"the whole log is gone", func(_ *History, l *Log) { l.Entries, l.Head = nil, 0 }, []Fault{Lost, Unshown}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, logs := run()
			c.plant(&h, &logs[0])
			got := make(map[Fault]bool)
			for _, v := range Check(h, logs) {
				got[v.Fault] = true
				t.Log(v)
			}
			for _, f := range c.want {
				if !got[f] {
					t.Errorf("%s was not found", f)
				}
				delete(got, f)
			}
			for f := range got {
				t.Errorf("%s was found and not planted", f)
			}
		})
	}
}

func TestConversationThatWasNotReadBack(t *testing.T) {
	h, _ := run()
	lost := 0
	for _, v := range Check(h, nil) {
		if v.Fault == Lost {
			lost++
		}
	}
	if lost != 19 {
		t.Errorf("%d of 19 acknowledged messages lost", lost)
	}
}

func TestRecorderCutsAtATime(t *testing.T) {
	var clock int64
	tick := func() int64 { clock++; return clock }
	r := NewRecorder(History{}, tick)
	r.Send(Send{Key: "a"})
	r.Ack(Ack{Key: "a"})
	r.Saw(Seen{Seq: 1})
	cut := clock
	r.Send(Send{Key: "b"})
	r.Ack(Ack{Key: "b"})
	if h := r.Until(cut); len(h.Sends) != 1 || len(h.Acks) != 1 || len(h.Seen) != 1 {
		t.Errorf("at the cut: %+v", h)
	}
	if h := r.Until(cut - 1); len(h.Sends) != 1 || len(h.Acks) != 1 || len(h.Seen) != 0 {
		t.Errorf("one step before it: %+v", h)
	}
	if h := r.All(); len(h.Sends) != 2 || len(h.Acks) != 2 {
		t.Errorf("at the end: %+v", h)
	}
	// A run that goes on after a cut must not change the record of the one before.
	h := r.Until(cut)
	next := NewRecorder(h, tick)
	next.Send(Send{Key: "c"})
	if all := r.All(); all.Sends[1].Key != "b" {
		t.Errorf("the former record now says %+v", all.Sends[1])
	}
	if all := next.All(); len(all.Sends) != 2 || all.Sends[1].Key != "c" || all.Sends[1].At <= cut {
		t.Errorf("the next record says %+v", all.Sends)
	}
}
