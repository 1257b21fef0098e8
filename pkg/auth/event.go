package auth

import (
	"context"
	"net/netip"

	"github.com/pipit-im/pipit/pkg/im"
)

// Event is something that happened on a page or an endpoint of sign-in and that
// the audit log is to hold. auth and what is below it do not know that log: they
// tell Audit, and the composition root writes it down.
type Event struct {
	Action string    // as in the audit log: "session.create", "consent.create", "grant.delete" …
	User   im.UserID // whose sign-in, consent or grant it is; empty: nobody that is known
	// ByUser says that the user did it. Otherwise nobody is known to have done it,
	// or Client did.
	ByUser bool
	Client string // the program, if one did it
	Addr   netip.Addr
	Err    error             // nil: it was done
	Detail map[string]string // short words, never a secret and nothing that was typed
}

// Audit takes an event of a tenant. It returns when the event is durable or was
// given up, which is logged there: what happened has happened.
type Audit func(ctx context.Context, t im.TenantID, e Event)
