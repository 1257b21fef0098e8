package membus

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/bus/bustest"
	"github.com/pipit-im/pipit/pkg/im"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSuite(t *testing.T) {
	bustest.Run(t, func(t *testing.T) []bus.Bus {
		b := New()
		t.Cleanup(func() { b.Close() })
		return []bus.Bus{b}
	})
}

// Publish of a batch that nobody looks into must cost nothing: it runs on the
// commit goroutine.
func TestPublishDoesNotAllocate(t *testing.T) {
	b := New()
	defer b.Close()
	seen := 0
	defer b.Subscribe(func(evs []bus.Event) { seen += len(evs) })()
	evs := []bus.Event{{Kind: bus.Typing}, {Kind: bus.Typing}}
	if n := testing.AllocsPerRun(100, func() { b.Publish(evs) }); n != 0 {
		t.Errorf("Publish allocates %v times, want 0", n)
	}
	if seen != 2*101 {
		t.Errorf("subscriber saw %d events, want %d", seen, 2*101)
	}
}

func TestPresenceTableIsBounded(t *testing.T) {
	b := New()
	defer b.Close()
	b.maxUsers = 3
	user := func(i int) im.UserID { return im.UserID(fmt.Sprintf("u_%d", i)) }
	state := func(i int) im.PresenceState { return b.Presence("t", []im.UserID{user(i)})[0].State }
	for i := range 3 {
		b.Announce("t", user(i), im.Online, 1)
	}
	b.Announce("t", user(3), im.Online, 2)
	if got := len(b.presence["t"]); got != 3 || state(3) != im.Offline || b.Forgotten() != 1 {
		t.Fatalf("all present: %d users in the table, newcomer %v, forgotten %d; want 3, offline, 1", got, state(3), b.Forgotten())
	}
	b.Announce("t", user(1), im.Offline, 3)
	b.Announce("t", user(3), im.Online, 4)
	if got := len(b.presence["t"]); got != 3 || state(3) != im.Online || b.Forgotten() != 2 {
		t.Fatalf("one offline: %d users in the table, newcomer %v, forgotten %d; want 3, online, 2", got, state(3), b.Forgotten())
	}
	if p := b.Presence("t", []im.UserID{user(1)})[0]; p.Since != 0 {
		t.Errorf("the forgotten user has since %d, want 0 (never seen)", p.Since)
	}
}
