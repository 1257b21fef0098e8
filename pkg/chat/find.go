package chat

import (
	"cmp"
	"context"
	"encoding/base64"
	"slices"
	"strings"
	"sync"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Found is one channel as conversation.find shows it.
type Found struct {
	ID      im.ConvID
	Kind    im.ConvKind
	Title   string
	Members int
	Joined  bool
}

// channels holds the channels of tenants that somebody searched, in order of
// title; at most maxTenants tenants, over that any other one is dropped.
type channels struct {
	store store.Convs
	// mu is held while a tenant's channels are read from the store, once: a commit
	// that changes one of them waits, so that it is not lost.
	mu      sync.Mutex
	tenants map[im.TenantID]*tenantChannels
}

type tenantChannels struct {
	byID   map[im.ConvID]*channel
	sorted []*channel // nil: to be sorted again
}

// channel is immutable; a change replaces it.
type channel struct {
	id      im.ConvID
	title   string
	folded  string // title in lower case: what is searched and sorted by
	members int
}

const maxTenants = 64

func newChannels(s store.Convs) *channels {
	return &channels{store: s, tenants: make(map[im.TenantID]*tenantChannels)}
}

func newChannel(rec *im.Conversation) *channel {
	return &channel{id: rec.ID, title: rec.Title, folded: strings.ToLower(rec.Title), members: rec.Members}
}

// list returns the tenant's channels in order of title; read-only.
func (ch *channels) list(ctx context.Context, t im.TenantID) ([]*channel, error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	tc := ch.tenants[t]
	if tc == nil {
		recs, err := ch.store.Channels(ctx, t)
		if err != nil {
			return nil, im.Wrap("read the channels of "+string(t), err)
		}
		tc = &tenantChannels{byID: make(map[im.ConvID]*channel, len(recs))}
		for i := range recs {
			tc.byID[recs[i].ID] = newChannel(&recs[i])
		}
		if len(ch.tenants) >= maxTenants {
			for other := range ch.tenants {
				delete(ch.tenants, other)
				break
			}
		}
		ch.tenants[t] = tc
	}
	if tc.sorted == nil {
		tc.sorted = make([]*channel, 0, len(tc.byID))
		for _, c := range tc.byID {
			tc.sorted = append(tc.sorted, c)
		}
		slices.SortFunc(tc.sorted, byTitle)
	}
	return tc.sorted, nil
}

func byTitle(a, b *channel) int {
	return cmp.Or(cmp.Compare(a.folded, b.folded), cmp.Compare(a.id, b.id))
}

// update notes a committed channel, if its title or members changed; commit
// goroutine.
func (ch *channels) update(k convKey, rec *im.Conversation) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	tc := ch.tenants[k.tenant]
	if tc == nil {
		return
	}
	if old := tc.byID[k.id]; old == nil || old.title != rec.Title || old.members != rec.Members {
		tc.byID[k.id] = newChannel(rec)
		tc.sorted = nil
	}
}

func (ch *channels) forget(t im.TenantID) {
	ch.mu.Lock()
	delete(ch.tenants, t)
	ch.mu.Unlock()
}

// Find lists the tenant's channels whose title contains query, case ignored, in
// order of title (PROTOCOL 4.3). A guest, who may not know of channels, finds
// only those that he was invited to. next is empty on the last page.
func (c *Chat) Find(ctx context.Context, actor im.Actor, query, cursor string, limit int) (found []Found, next string, err error) {
	if limit < 1 || limit > im.MaxFindPage {
		limit = im.MaxFindPage
	}
	var from *channel
	if cursor != "" {
		if from, err = parseFindCursor(cursor); err != nil {
			return nil, "", err
		}
	}
	all, err := c.channels.list(ctx, actor.Tenant)
	if err != nil {
		return nil, "", err
	}
	mine, err := c.ConvIDs(ctx, actor.Tenant, actor.User)
	if err != nil {
		return nil, "", err
	}
	joined := make(map[im.ConvID]bool, len(mine))
	for _, id := range mine {
		joined[id] = true
	}
	all = all[c.findFrom(all, from):]
	folded := strings.ToLower(query)
	mayFind := access.Decide(c.rules.Policy(actor.Tenant), actor.Role, 0, im.KindChannel, access.Find, access.Object{}) == nil
	var last *channel
	for _, ch := range all {
		if !strings.Contains(ch.folded, folded) || !mayFind && !joined[ch.id] {
			continue
		}
		if len(found) == limit {
			return found, findCursor(last), nil
		}
		found = append(found, Found{ID: ch.id, Kind: im.KindChannel, Title: ch.title, Members: ch.members, Joined: joined[ch.id]})
		last = ch
	}
	return found, "", nil
}

func (c *Chat) findFrom(all []*channel, from *channel) int {
	if from == nil {
		return 0
	}
	i, exact := slices.BinarySearchFunc(all, from, byTitle)
	if exact {
		i++
	}
	return i
}

// A cursor is the place of the last one found, so that it holds when channels
// come and go.
func findCursor(ch *channel) string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(ch.id) + " " + ch.folded))
}

func parseFindCursor(s string) (*channel, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	id, folded, ok := strings.Cut(string(b), " ")
	if err != nil || !ok {
		return nil, badCursor()
	}
	return &channel{id: im.ConvID(id), folded: folded}, nil
}
