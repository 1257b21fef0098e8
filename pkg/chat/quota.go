package chat

import (
	"context"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Quota bounds what a tenant may have; a zero field bounds nothing.
type Quota struct {
	Conversations  int
	StoredBytes    int64 // estimated, as store.Usage
	SendsPerMinute int   // of all users together, burst the same
}

// measureEvery is how long what was measured of a tenant is built upon: what was
// added since is counted, what was taken away is found by the next measuring.
const measureEvery = time.Hour

// usages knows what tenants with a quota have. It is measured beside the commit
// goroutine when it is first needed; until then nothing is refused.
type usages struct {
	mu sync.Mutex
	m  map[im.TenantID]*usage
}

type usage struct {
	store.Usage               // what was measured, and what was stored since it began
	at          time.Duration // when measuring began, on the clock of mono
	known       bool
	measuring   bool
	added       store.Usage // since measuring began
}

// usage returns what a tenant has; ok is false while that is not known.
func (c *Chat) usage(t im.TenantID) (_ store.Usage, ok bool) {
	c.usages.mu.Lock()
	defer c.usages.mu.Unlock()
	u := c.usages.m[t]
	if u == nil {
		u = &usage{}
		c.usages.m[t] = u
	}
	if !u.measuring && (!u.known || c.mono()-u.at > measureEvery) {
		u.measuring, u.at, u.added = true, c.mono(), store.Usage{}
		c.done.Go(func() { c.measure(t, u) })
	}
	return u.Usage, u.known
}

func (c *Chat) measure(t im.TenantID, u *usage) {
	got, err := c.store.Usage(context.Background(), t)
	c.usages.mu.Lock()
	defer c.usages.mu.Unlock()
	u.measuring = false
	if err != nil {
		c.log.Warn("usage of a tenant not measured", "tenant", string(t), "error", err)
		return
	}
	u.known = true
	u.Usage = store.Usage{Conversations: got.Conversations + u.added.Conversations, Bytes: got.Bytes + u.added.Bytes}
}

// count adds what a write will store. Tenants without a quota are not counted.
func (c *Chat) count(t im.TenantID, conversations, bytes int) {
	if c.quota == nil {
		return
	}
	c.usages.mu.Lock()
	defer c.usages.mu.Unlock()
	u := c.usages.m[t]
	if u == nil {
		return
	}
	for _, to := range []*store.Usage{&u.Usage, &u.added} {
		to.Conversations += conversations
		to.Bytes += int64(bytes)
	}
}

// withinQuota refuses what passes the tenant's quota of sends or storage. What
// takes back is let pass.
func (c *Chat) withinQuota(cmd *Command) error {
	if c.quota == nil {
		return nil
	}
	q := c.quota(cmd.Actor.Tenant)
	if q.SendsPerMinute > 0 {
		if wait, ok := c.tenantRates.take(userKey{tenant: cmd.Actor.Tenant}, q.SendsPerMinute); !ok {
			return &im.Error{Kind: im.RateLimited, RetryAfter: wait, Message: "Your organisation is sending more than it may. Wait a moment."}
		}
	}
	if q.StoredBytes > 0 && cmd.Op != Recall {
		if u, known := c.usage(cmd.Actor.Tenant); known && u.Bytes >= q.StoredBytes {
			return &im.Error{Kind: im.TooLarge, Limit: q.StoredBytes,
				Message: "Your organisation's storage is full. Its administrator can ask the operator of the server for more."}
		}
	}
	return nil
}

// roomForAnother refuses one conversation more than the tenant may have.
func (c *Chat) roomForAnother(t im.TenantID) error {
	if c.quota == nil {
		return nil
	}
	q := c.quota(t)
	if q.Conversations <= 0 {
		return nil
	}
	if u, known := c.usage(t); known && u.Conversations >= q.Conversations {
		return &im.Error{Kind: im.TooLarge, Limit: int64(q.Conversations),
			Message: "Your organisation has as many conversations as it may have. Its administrator can ask the operator of the server for more."}
	}
	return nil
}
