// Package membus is the bus within one process: what is published is handed to
// every subscriber at once, on the publisher's goroutine.
//
// It owns the list of subscribers and the presence of the users of this one
// node. It never queues, drops, copies or encodes an event, so it has no bound
// to overflow but that of the presence table, and it starts no goroutine.
//
// Concurrency: every method may be called from any goroutine, except that a
// subscriber's function may not call Announce, Close or its own cancel (they
// wait for it). Publish takes one read lock a subscriber and runs in parallel
// with other publishers.
//
// The contract is pkg/bus; the suite that holds it to that is pkg/bus/bustest.
package membus

import (
	"sync"
	"sync/atomic"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// Bus is the in-process bus. The zero value is not usable; see New.
type Bus struct {
	// subs is copied on write, so that Publish reads it without a lock.
	subs atomic.Pointer[[]*subscription]
	mu   sync.Mutex // guards writes of subs, and closed
	shut bool

	// presenceMu also covers the publishing of a presence event, so that two
	// changes of one user reach the subscribers in the order of the table.
	presenceMu sync.RWMutex
	presence   map[im.TenantID]map[im.UserID]seen
	maxUsers   int
	forgotten  atomic.Uint64
}

type seen struct {
	state im.PresenceState
	since im.Millis
}

type subscription struct {
	// mu is held for reading while fn runs, so that cancel can wait for the end
	// of every call by taking it for writing.
	mu   sync.RWMutex
	fn   func([]bus.Event)
	done bool
}

var _ bus.Bus = (*Bus)(nil)

// New returns a bus that remembers the presence of up to
// im.MaxUsersPerTenant users of each tenant.
func New() *Bus {
	return &Bus{presence: make(map[im.TenantID]map[im.UserID]seen), maxUsers: im.MaxUsersPerTenant}
}

// Publish implements bus.Bus: it returns after every subscriber has seen the
// events. The slice is the caller's again then.
func (b *Bus) Publish(events []bus.Event) {
	if len(events) == 0 {
		return
	}
	subs := b.subs.Load()
	if subs == nil {
		return
	}
	for _, s := range *subs {
		s.call(events)
	}
}

func (s *subscription) call(events []bus.Event) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.done {
		s.fn(events)
	}
}

// Subscribe implements bus.Bus.
func (b *Bus) Subscribe(fn func([]bus.Event)) (cancel func()) {
	s := &subscription{fn: fn}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return func() {}
	}
	b.setSubs(func(old []*subscription) []*subscription { return append(old, s) })
	return func() { b.cancel(s) }
}

func (b *Bus) cancel(s *subscription) {
	b.mu.Lock()
	b.setSubs(func(old []*subscription) []*subscription {
		kept := old[:0]
		for _, o := range old {
			if o != s {
				kept = append(kept, o)
			}
		}
		return kept
	})
	b.mu.Unlock()
	s.mu.Lock() // waits for calls that run
	s.done = true
	s.mu.Unlock()
}

// setSubs replaces the list by edit of a copy. b.mu is held.
func (b *Bus) setSubs(edit func([]*subscription) []*subscription) {
	var old []*subscription
	if p := b.subs.Load(); p != nil {
		old = append(make([]*subscription, 0, len(*p)+1), *p...)
	}
	next := edit(old)
	b.subs.Store(&next)
}

// Announce implements bus.Bus. With one node the announced state is the most
// present one. A change is published as a bus.Presence event.
//
// The table is bounded by im.MaxUsersPerTenant a tenant: above it, somebody who
// is offline is forgotten ("never seen"); if all are present, the newcomer is
// not tracked. Both are counted (Forgotten).
func (b *Bus) Announce(t im.TenantID, u im.UserID, s im.PresenceState, at im.Millis) {
	b.presenceMu.Lock()
	defer b.presenceMu.Unlock()
	users := b.presence[t]
	old, known := users[u]
	if old.state == s {
		return // for somebody never seen too: offline from the start
	}
	if users == nil {
		users = make(map[im.UserID]seen)
		b.presence[t] = users
	}
	if !known && len(users) >= b.maxUsers {
		b.forgotten.Add(1)
		if !forgetOffline(users) {
			return
		}
	}
	users[u] = seen{s, at}
	b.Publish([]bus.Event{{Kind: bus.Presence, Tenant: t, User: u, Presence: im.Presence{User: u, State: s, Since: at}}})
}

// forgetOffline drops one user who is offline; which one is left to the map's
// random order.
func forgetOffline(users map[im.UserID]seen) bool {
	for u, p := range users {
		if p.state == im.Offline {
			delete(users, u)
			return true
		}
	}
	return false
}

// Presence implements bus.Bus. It answers from memory and may be called on an
// event loop.
func (b *Bus) Presence(t im.TenantID, users []im.UserID) []im.Presence {
	out := make([]im.Presence, len(users))
	b.presenceMu.RLock()
	defer b.presenceMu.RUnlock()
	table := b.presence[t]
	for i, u := range users {
		p := table[u]
		out[i] = im.Presence{User: u, State: p.state, Since: p.since}
	}
	return out
}

// Forgotten counts users whose presence found no room in the table.
func (b *Bus) Forgotten() uint64 { return b.forgotten.Load() }

// Close implements bus.Bus: it ends every subscription and returns when none of
// their functions runs any more. Publishing afterwards reaches nobody.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.shut = true
	var subs []*subscription
	if p := b.subs.Load(); p != nil {
		subs = *p
	}
	b.mu.Unlock()
	for _, s := range subs {
		b.cancel(s)
	}
	return nil
}
