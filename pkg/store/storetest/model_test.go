package storetest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// TestModelHooks checks what the suite cannot: the hooks that only a Model has.
func TestModelHooks(t *testing.T) {
	ctx := context.Background()
	m := storetest.NewModel(time.Now)
	write := func(id im.ConvID) error {
		return m.Append(ctx, []*store.Write{{
			Tenant: "oak", Create: true, Conv: &im.Conversation{ID: id, Kind: im.KindGroup, Title: "Class", Head: 1},
			Entries: []im.Entry{{Conv: id, Seq: 1, Kind: im.EntryMessage, Text: "hello"}},
		}})
	}
	m.SetState(store.Full, "the card is full")
	if err := write("c_1"); !im.Is(err, im.Unavailable) {
		t.Fatalf("a full store answered %v", err)
	}
	if s := m.Stats(); s.State != store.Full || s.Reason != "the card is full" {
		t.Fatalf("stats of a full store: %+v", s)
	}
	m.SetState(store.Writable, "")
	boom := errors.New("boom")
	m.FailNext(boom)
	if err := write("c_1"); !errors.Is(err, boom) {
		t.Fatalf("FailNext: %v", err)
	}
	if _, err := m.Conv(ctx, "oak", "c_1"); !im.Is(err, im.NotFound) {
		t.Fatalf("a failed write left %v", err)
	}
	if err := write("c_1"); err != nil {
		t.Fatalf("after FailNext: %v", err)
	}
	m.AddAge(time.Hour)
	if m.Age() != time.Hour {
		t.Fatalf("age %v", m.Age())
	}
}
