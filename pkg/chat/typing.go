package chat

import (
	"context"
	"time"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// typing passes typing notifications on (PROTOCOL 8.1), on a goroutine of its
// own, since a conversation may have to be read from the disk and an event loop
// must not wait for that. Its queue is bounded: over it, they are dropped.
type typing struct {
	chat  *Chat
	queue chan typist
	// last is when each typist's event went out, for those of the last typingGap;
	// at most maxTyping: over that, nobody's goes out until some are over.
	last map[readerKey]time.Duration
}

type typist struct {
	tenant im.TenantID
	conv   im.ConvID
	user   im.UserID
	role   im.Role
}

const (
	typingGap   = 3 * time.Second
	typingQueue = 1024
	maxTyping   = 8192
)

func newTyping(c *Chat) *typing {
	return &typing{chat: c, queue: make(chan typist, typingQueue), last: make(map[readerKey]time.Duration)}
}

// Typing says that the actor is typing. It never blocks and never fails; what
// access does not allow, conversations of more than im.EphemeralMembers members,
// and more than one per 3 s are dropped.
func (c *Chat) Typing(actor im.Actor, conv im.ConvID) {
	select {
	case c.typing.queue <- typist{actor.Tenant, conv, actor.User, actor.Role}:
	default:
		c.stats.typingDropped.Add(1)
	}
}

func (ty *typing) run(ctx context.Context) {
	for {
		select {
		case who := <-ty.queue:
			ty.pass(ctx, who)
		case <-ctx.Done():
			return
		}
	}
}

func (ty *typing) pass(ctx context.Context, who typist) {
	now := ty.chat.mono()
	k := readerKey{who.tenant, who.conv, who.user}
	if at, ok := ty.last[k]; ok && now-at < typingGap {
		return
	}
	actor := im.Actor{Tenant: who.tenant, User: who.user, Role: who.role}
	_, s, err := ty.chat.open(ctx, actor, who.conv, access.Read)
	if err != nil || s.rec.Members > im.EphemeralMembers {
		return
	}
	if len(ty.last) >= maxTyping {
		for k, at := range ty.last {
			if now-at >= typingGap {
				delete(ty.last, k)
			}
		}
		if len(ty.last) >= maxTyping {
			ty.chat.stats.typingDropped.Add(1)
			return
		}
	}
	ty.last[k] = now
	ty.chat.publish([]bus.Event{{Kind: bus.Typing, Tenant: who.tenant, Conv: who.conv, User: who.user}})
}
