package storetest_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// TestModel runs the suite on the Model itself. It has no disk: a reopened one
// is the same data in a new Model.
func TestModel(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storetest.Backend {
		b := &storetest.Backend{}
		m := storetest.NewModel(time.Now)
		b.Store = m
		b.Reopen = func(t *testing.T) store.Store {
			m = m.Reopened()
			return m
		}
		return b
	})
}

// TestModelReopened checks that a reopened Model holds what the old one held
// and shares nothing with it.
func TestModelReopened(t *testing.T) {
	ctx := context.Background()
	a := storetest.NewModel(time.Now)
	if err := a.SetSetting(ctx, "x", []byte("1")); err != nil {
		t.Fatal(err)
	}
	b := a.Reopened()
	if err := b.SetSetting(ctx, "x", []byte("2")); err != nil {
		t.Fatal(err)
	}
	if v, _ := b.Setting(ctx, "x"); !bytes.Equal(v, []byte("2")) {
		t.Fatalf("got %q", v)
	}
	if _, err := a.Setting(ctx, "x"); err == nil {
		t.Fatal("the old Model still answers")
	}
}
