package chat

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// TestQuota: each bound of a tenant refuses by its name, and no other tenant
// notices.
func TestQuota(t *testing.T) {
	quota := map[im.TenantID]Quota{tenant: {SendsPerMinute: 3}}
	w := newWorld(t, func(o *Options) { o.Quota = func(t im.TenantID) Quota { return quota[t] } })
	do := func(in im.TenantID, op Op, key string, more func(*Command)) (Result, error) {
		cmd := &Command{Op: op, Key: key, Actor: im.Actor{Tenant: in, User: "u_ann", Role: im.RoleStaff}, Kind: im.KindGroup, Title: "Class"}
		if more != nil {
			more(cmd)
		}
		return w.chat.Do(context.Background(), cmd)
	}
	refused := func(err error, kind im.Kind, word string) {
		t.Helper()
		if !im.Is(err, kind) || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want %v with %q", err, kind, word)
		}
	}
	made, err := do(tenant, Create, "1", nil)
	if err != nil {
		t.Fatal(err)
	}
	say := func(c *Command) { c.Conv, c.Text = made.Head.ID, strings.Repeat("x", 100) }
	for _, key := range []string{"2", "3"} {
		if _, err := do(tenant, Send, key, say); err != nil {
			t.Fatal(err)
		}
	}
	_, err = do(tenant, Send, "4", say)
	refused(err, im.RateLimited, "organisation is sending")
	w.mono.Add(int64(time.Minute))

	// Storage, and conversations: measured beside, so the first may still pass.
	quota[tenant] = Quota{Conversations: 1, StoredBytes: 1}
	for known := false; !known; _, known = w.chat.usage(tenant) {
		time.Sleep(time.Millisecond)
	}
	_, err = do(tenant, Send, "5", say)
	refused(err, im.TooLarge, "storage is full")
	if _, err = do(tenant, Recall, "6", func(c *Command) { c.Conv, c.Target = made.Head.ID, 2 }); err != nil && im.Is(err, im.TooLarge) {
		t.Errorf("a recall was refused for want of room: %v", err)
	}
	quota[tenant] = Quota{Conversations: 2}
	if _, err = do(tenant, Create, "7", nil); err != nil {
		t.Error(err)
	}
	_, err = do(tenant, Create, "8", nil) // the one just made counts at once
	refused(err, im.TooLarge, "as many conversations")
}
