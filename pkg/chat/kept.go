package chat

import (
	"context"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// What was taken back under a policy that keeps it (access.Policy.KeepsRecalled)
// is shown to nobody, but to an owner of the tenant for an inquiry. The edge that
// lets an owner ask writes it into the audit log.

// MaxKeptPage bounds a page of texts that were taken back.
const MaxKeptPage = 200

// keptScan is how many entries one page looks at.
const keptScan = 20_000

// KeptIn says how many texts that were taken back a conversation holds.
type KeptIn struct {
	Conv    im.Conversation
	Members []im.UserID // who is in it now, at most 20
	Kept    int
}

// Recalled returns the conversations that u is or was in and that hold texts which
// were taken back and kept. It reads all their logs. Errors: im.Forbidden unless
// actor is an owner, im.NotFound, and those of the store.
func (c *Chat) Recalled(ctx context.Context, actor im.Actor, u im.UserID) ([]KeptIn, error) {
	if err := access.Administer(actor, 0, access.ReadRecalled); err != nil {
		return nil, err
	}
	if _, ok := c.users.User(actor.Tenant, u); !ok {
		return nil, im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	of, err := c.store.OfUser(ctx, actor.Tenant, u)
	if err != nil {
		return nil, im.Wrap("list the conversations of "+string(u), err)
	}
	var out []KeptIn
	for _, m := range of {
		conv, err := c.store.Conv(ctx, actor.Tenant, m.Conv)
		if err != nil {
			return nil, im.Wrap("read "+string(m.Conv), err)
		}
		in := KeptIn{Conv: conv}
		if err := c.eachRecalled(ctx, actor.Tenant, m.Conv, 1, conv.Head, func(seq im.Seq) (bool, error) {
			_, err := c.store.Kept(ctx, actor.Tenant, m.Conv, seq)
			if err == nil {
				in.Kept++
			}
			return true, err
		}); err != nil {
			return nil, err
		}
		if in.Kept == 0 {
			continue
		}
		members, err := c.store.Members(ctx, actor.Tenant, m.Conv)
		if err != nil {
			return nil, im.Wrap("read the members of "+string(m.Conv), err)
		}
		for _, x := range members {
			if x.Role != 0 && len(in.Members) < 20 {
				in.Members = append(in.Members, x.User)
			}
		}
		out = append(out, in)
	}
	return out, nil
}

// Kept returns texts of a conversation that were taken back and kept, in rising
// order above after, at most limit (1 to MaxKeptPage), each as it was last. next,
// if not 0, is the after of the following page; a page may be empty and have a
// next. Errors as of Recalled.
func (c *Chat) Kept(ctx context.Context, actor im.Actor, id im.ConvID, after im.Seq, limit int) (kept []im.Message, next im.Seq, err error) {
	if err := access.Administer(actor, 0, access.ReadRecalled); err != nil {
		return nil, 0, err
	}
	conv, err := c.store.Conv(ctx, actor.Tenant, id)
	if err != nil {
		return nil, 0, im.Wrap("read "+string(id), err)
	}
	limit = min(max(limit, 1), MaxKeptPage)
	if after >= conv.Head {
		return nil, 0, nil
	}
	to := min(conv.Head, after+keptScan)
	if to < conv.Head {
		next = to
	}
	err = c.eachRecalled(ctx, actor.Tenant, id, after+1, to, func(seq im.Seq) (bool, error) {
		m, err := c.store.Kept(ctx, actor.Tenant, id, seq)
		if err != nil {
			return true, err
		}
		if len(kept) == limit {
			next = kept[limit-1].Seq
			return false, nil
		}
		kept = append(kept, m)
		return true, nil
	})
	return kept, next, err
}

// eachRecalled calls fn for each message that was recalled, until it returns false
// or an error that is not im.NotFound: that text was not kept.
func (c *Chat) eachRecalled(ctx context.Context, t im.TenantID, id im.ConvID, from, to im.Seq, fn func(im.Seq) (bool, error)) error {
	var seqs []im.Seq // collected first: fn reads too
	if from <= to {
		err := c.store.Scan(ctx, t, id, from, to, func(d *store.Digest) bool {
			if d.Recalled {
				seqs = append(seqs, d.Seq)
			}
			return true
		})
		if err != nil {
			return im.Wrap("scan "+string(id), err)
		}
	}
	for _, seq := range seqs {
		on, err := fn(seq)
		if err != nil && !im.Is(err, im.NotFound) {
			return im.Wrap("read what was taken back in "+string(id), err)
		}
		if !on {
			return nil
		}
	}
	return nil
}
