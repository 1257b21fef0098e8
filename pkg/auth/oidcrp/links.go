package oidcrp

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Link says that somebody of a provider's is a user here.
type Link struct {
	Provider string
	// By is who said so: "self" the person, "rule" an administrator's rule, "new" the
	// same when it made the account.
	By      string
	Created im.Millis
}

// Links returns the links of a user, at most one for each provider. Errors: those of
// the store.
func (p *RP) Links(ctx context.Context, t im.TenantID, u im.UserID) ([]Link, error) {
	providers, err := p.Providers(ctx, t)
	if err != nil {
		return nil, err
	}
	var out []Link
	for i := range providers {
		err := eachLink(func(prefix, after string) ([]store.Record, error) {
			return p.Records.ListRecords(ctx, t, store.RecordLink, prefix, after, store.MaxRecordsPage)
		}, providers[i].ID, func(_ string, l link) bool {
			if l.User == u {
				out = append(out, Link{Provider: providers[i].ID, By: l.By, Created: l.Created})
			}
			return l.User != u
		})
		if err != nil {
			return nil, im.Wrap("oidcrp: list the links of "+string(t), err)
		}
	}
	return out, nil
}

// Unlink forgets all links of a user with a provider; im.NotFound if there is none.
// Whether the person has another way in is the caller's question.
func (p *RP) Unlink(ctx context.Context, t im.TenantID, u im.UserID, provider string) error {
	found := false
	err := p.Records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		found = false
		return eachLink(func(prefix, after string) ([]store.Record, error) {
			return tx.List(store.RecordLink, prefix, after, store.MaxRecordsPage)
		}, provider, func(id string, l link) bool {
			if l.User == u {
				tx.Delete(store.RecordLink, id)
				found = true
			}
			return true
		})
	})
	if err == nil && !found {
		return im.E(im.NotFound, "Your account is not linked with that provider.")
	}
	if err == nil {
		p.Log.Info("account unlinked", "tenant", string(t), "user", string(u), "provider", provider)
	}
	return im.Wrap("oidcrp: unlink in "+string(t), err)
}

// eachLink calls yield for each link of a provider until it returns false.
func eachLink(list func(prefix, after string) ([]store.Record, error), provider string, yield func(id string, l link) bool) error {
	if !providerID.MatchString(provider) {
		return nil
	}
	for after := ""; ; {
		page, err := list(provider+"/", after)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, r := range page {
			var l link
			if err := json.Unmarshal(r.Value, &l); err != nil {
				return err
			}
			if !yield(r.ID, l) {
				return nil
			}
		}
		after = page[len(page)-1].ID
	}
}

// Via returns through which provider the browser that sent r signed in last, ""
// if through none: for a page that offers to sign out there too. It is what the
// browser says and no proof of anything.
func Via(r *http.Request) string {
	c, err := r.Cookie(ViaCookie)
	if err != nil || !providerID.MatchString(c.Value) {
		return ""
	}
	return c.Value
}
