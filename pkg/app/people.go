package app

import (
	"context"
	"strconv"

	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/roster"
)

// passedQuiet writes down a message that went out in quiet hours (PROTOCOL 6.7).
func (a *App) passedQuiet(ctx context.Context, p chat.Pass) error {
	by := audit.Actor{Kind: audit.ByUser, ID: string(p.User)}
	if u, ok := a.dir.User(p.Tenant, p.User); ok {
		by.Name = u.Username
	}
	return a.audit.Add(ctx, p.Tenant, audit.Event{Action: "quiet_hours.pass", Weighty: true, Actor: by, Object: "conversation/" + string(p.Conv),
		Detail: map[string]string{"seq": strconv.FormatUint(uint64(p.Seq), 10)}})
}

// endTerms archives the classes whose term is over.
func (a *App) endTerms(ctx context.Context, t im.TenantID) {
	n, err := a.roster.EndOver(ctx, t)
	if err != nil {
		a.log.Info("classes whose term is over wait for another hour", "tenant", string(t), "error", err)
	}
	if n > 0 && err == nil {
		_ = a.audit.Add(ctx, t, audit.Event{Action: "class.end_term", Actor: audit.Actor{Kind: audit.BySystem}, Object: "tenant/" + string(t),
			Detail: map[string]string{"archived": strconv.Itoa(n)}}) // logged there
	}
}

// imported writes down the end of a roster import, which goes on after the request
// that asked for it.
func (a *App) imported(ctx context.Context, t im.TenantID, r *roster.Result) {
	detail := map[string]string{"not_done": strconv.Itoa(len(r.Problems))}
	for what, n := range r.Counts {
		detail[what] = strconv.Itoa(n)
	}
	// What can't be written is logged there, and the import is done all the same.
	_ = a.audit.Add(ctx, t, audit.Event{Action: "roster.done", Actor: audit.Actor{Kind: audit.BySystem}, Object: "tenant/" + string(t), Detail: detail})
}
