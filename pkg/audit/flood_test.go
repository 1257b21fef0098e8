package audit

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/store"
)

// by is a context of a user's request.
func by(ctx context.Context, user string, admin bool) context.Context {
	return With(ctx, Origin{Actor: Actor{Kind: ByUser, ID: user}, Addr: netip.MustParseAddr("192.168.1.7"), Weighty: admin})
}

// everything reads a log whole, and checks that no number comes twice.
func (l *Log) everything(t *testing.T) (events []Event) {
	t.Helper()
	last := uint64(0)
	if err := l.All(t.Context(), oak, Query{}, func(e *Event) error {
		if e.Seq <= last {
			t.Errorf("event %d after %d", e.Seq, last)
		}
		last = e.Seq
		events = append(events, *e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return events
}

// TestFlood: a member who calls what is audited without end fills nothing, hides
// nothing of what he does beside it, and the log says how often it was. What an
// administrator did stays.
func TestFlood(t *testing.T) {
	l, s := newLog(t)
	add := func(ctx context.Context, e Event) {
		t.Helper()
		if err := l.Add(ctx, oak, e); err != nil {
			t.Fatal(err)
		}
	}
	admin, mallory := by(t.Context(), "u_ann", true), by(t.Context(), "u_mal", false)
	add(admin, Event{Action: "user.update", Object: "user/u_bob"})
	const calls = 20_000
	for i := range calls {
		s.age += 3 * time.Hour / calls
		// Whatever the object is called, it is the same act.
		add(mallory, Event{Action: "invitation.delete", Object: fmt.Sprintf("invitation/v_%d", i), Result: "forbidden"})
		if i == calls/2 {
			add(mallory, Event{Action: "invitation.delete"})
			add(mallory, Event{Action: "password.change"})
			add(by(t.Context(), "u_bob", false), Event{Action: "password.change"})
		}
	}
	s.age += 2 * sumEach
	if _, err := l.Prune(t.Context(), oak, 0); err != nil {
		t.Fatal(err)
	}
	written, counted, others := 0, 0, 0
	for _, e := range l.everything(t) {
		switch {
		case e.Action == Repeated:
			n, err := strconv.Atoi(e.Detail["events"])
			if err != nil || e.Actor.ID != "u_mal" || e.Detail["action"] != "invitation.delete" || e.Detail["result"] != "forbidden" || e.Addr == "" {
				t.Errorf("%+v", e)
			}
			counted += n
		case e.Result != OK:
			written++
		default:
			others++
		}
	}
	if written+counted != calls || written > lightAtOnce+4*lightAnHour || others != 4 {
		t.Errorf("%d written and %d counted of %d; %d of 4 others", written, counted, calls, others)
	}
}

// TestFloodOfNobody: who is not signed in is told apart by address and by whom he
// tried to be; a whole network of IPv6 is one.
func TestFloodOfNobody(t *testing.T) {
	l, _ := newLog(t)
	try := func(addr, object string) {
		t.Helper()
		ctx := With(t.Context(), Origin{Actor: Actor{Kind: ByNobody}, Addr: netip.MustParseAddr(addr)})
		if err := l.Add(ctx, oak, Event{Action: "session.create", Object: object, Result: "unauthenticated"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 1000 {
		try(fmt.Sprintf("2001:db8::%x", i), "")
		try("10.0.0.1", "user/u_ann")
		try("10.0.0.1", fmt.Sprintf("session/%d", i))
	}
	try("10.0.0.2", "user/u_ann")
	try("10.0.0.1", "user/u_bob")
	if n := len(l.everything(t)); n != 3*lightAtOnce+2 {
		t.Errorf("%d events", n)
	}
}

// TestReserved: when the log is full, what anybody can cause gives way before what
// administrators did, and each keeps its half.
func TestReserved(t *testing.T) {
	l, s := newLog(t)
	l.max = 1000
	add := func(n int, admin bool) {
		t.Helper()
		for i := range n {
			// Many people at once: each is below what is only counted.
			if err := l.Add(by(t.Context(), fmt.Sprint("u_", i), admin), oak, Event{Action: "session.create"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func() (ofAdmins, ofOthers int) {
		t.Helper()
		all, err := s.ListRecords(t.Context(), oak, store.RecordAudit, "", "", 5000)
		if err != nil {
			t.Fatal(err)
		}
		st, err := l.load(t.Context(), oak)
		if err != nil || int(st.kept[weighty]+st.kept[light]) != len(all) || len(l.everything(t)) != len(all) {
			t.Fatalf("%d records, state %+v, %v", len(all), st, err)
		}
		return int(st.kept[weighty]), int(st.kept[light])
	}
	prune := func(want int) {
		t.Helper()
		if n, err := l.Prune(t.Context(), oak, 0); err != nil || n != want {
			t.Errorf("%d gone, want %d, %v", n, want, err)
		}
	}
	add(300, true)
	add(2000, false)
	prune(1300)
	if w, o := count(); w != 300 || o != 700 {
		t.Errorf("after a flood: %d and %d", w, o)
	}
	events := l.everything(t)
	if events[0].Seq != 1 || events[299].Seq != 300 || events[300].Seq != 1601 {
		t.Errorf("what is left: %d … %d, %d", events[0].Seq, events[299].Seq, events[300].Seq)
	}
	add(400, true)
	prune(400)
	if w, o := count(); w != 700-200 || o != 500 {
		// 700 + 700: the others come down to their half, and then the oldest go.
		t.Errorf("after many acts: %d and %d", w, o)
	}
	// Pages go over the holes.
	seen, before := 0, uint64(0)
	for {
		page, next, err := l.Page(t.Context(), oak, Query{}, before, 77)
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page)
		if before = next; next == 0 {
			break
		}
	}
	if seen != 1000 {
		t.Errorf("pages hold %d", seen)
	}
	s.age = DefaultKeep
	prune(1000)
	if w, o := count(); w != 0 || o != 0 {
		t.Errorf("after a year: %d and %d", w, o)
	}
	add(3, false)
	if _, o := count(); o != 3 {
		t.Errorf("%d new ones", o)
	}
}

// TestOldState: a log from before there were classes is read on.
func TestOldState(t *testing.T) {
	st := decodeState([]byte{0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 9})
	if st.first() != 5 || st.last != 9 || st.kept != [classes]uint64{5, 0} || decodeState(st.encode()) != st {
		t.Errorf("%+v", st)
	}
}
