package oidcop

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Agreement is what a person lets one program do.
type Agreement struct {
	Client, Name string
	Scopes       []string
	Since        im.Millis
	// Grants is how many sign-ins of that program last.
	Grants int
}

// Agreements returns what a user agreed to and has not taken back, and the programs
// that hold a grant without having asked (the organisation's own, and those on a
// device), by client id. Errors: those of the store.
func (p *Provider) Agreements(ctx context.Context, t im.TenantID, u im.UserID) ([]Agreement, error) {
	byClient := map[string]*Agreement{}
	of := func(client string) *Agreement {
		if byClient[client] == nil {
			byClient[client] = &Agreement{Client: client, Name: client}
			if c, err := p.client(ctx, t, client); err == nil {
				byClient[client].Name = c.Name
			}
		}
		return byClient[client]
	}
	prefix := string(u) + "/"
	// A person agrees for at most maxClients programs, so one page holds all.
	page, err := p.records.ListRecords(ctx, t, store.RecordOIDCConsent, prefix, "", store.MaxRecordsPage)
	if err != nil {
		return nil, im.Wrap("oidcop: list the consents of "+string(t), err)
	}
	for _, r := range page {
		var c consent
		if err := json.Unmarshal(r.Value, &c); err != nil {
			return nil, im.Wrap("oidcop: read a consent of "+string(t), err)
		}
		a := of(strings.TrimPrefix(r.ID, prefix))
		a.Scopes, a.Since = c.Scopes, c.Time
	}
	grants, err := p.grants.list(ctx, t, prefix)
	if err != nil {
		return nil, err
	}
	for i := range grants {
		g := &grants[i]
		if g.expired(p.box.Age()) {
			continue
		}
		a := of(g.Client)
		a.Grants++
		if a.Since == 0 {
			a.Since = g.Created
		}
		for _, s := range g.Scopes {
			if !slices.Contains(a.Scopes, s) {
				a.Scopes = append(a.Scopes, s)
			}
		}
	}
	out := make([]Agreement, 0, len(byClient))
	for _, a := range byClient {
		out = append(out, *a)
	}
	slices.SortFunc(out, func(x, y Agreement) int { return strings.Compare(x.Client, y.Client) })
	return out, nil
}

// Withdraw takes back what a user agreed to for a client: the program has to ask
// again, and its tokens end at once. Errors: im.NotFound if it may do nothing, and
// those of the store.
func (p *Provider) Withdraw(ctx context.Context, t im.TenantID, u im.UserID, client string) error {
	none := im.E(im.NotFound, "This program may do nothing in your name.")
	if !clientID.MatchString(client) {
		return none
	}
	found := false
	err := p.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		_, err := tx.Get(store.RecordOIDCConsent, string(u)+"/"+client)
		switch {
		case err == nil:
			found = true
			tx.Delete(store.RecordOIDCConsent, string(u)+"/"+client)
		case !im.Is(err, im.NotFound):
			return err
		}
		return nil
	})
	if err != nil {
		return im.Wrap("oidcop: withdraw a consent of "+string(t), err)
	}
	// After the consent: a grant that is made meanwhile was asked for anew.
	grants, err := p.grants.list(ctx, t, string(u)+"/")
	if err != nil {
		return err
	}
	for _, g := range grants {
		if g.Client != client {
			continue
		}
		found = true
		if err := p.auth.Revoke(ctx, t, u, g.ID); err != nil && !im.Is(err, im.NotFound) {
			return err
		}
	}
	if !found {
		return none
	}
	p.log.Info("consent withdrawn", "tenant", string(t), "user", string(u), "client", client)
	return nil
}
