package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// The bounds of invitations.
const (
	MaxInvitationLifetime = 90 * 24 * time.Hour
	DefaultInvitation     = 14 * 24 * time.Hour

	codeGroups     = 4
	codeGroupRunes = 4
	codeAlphabet   = "ABCDEFGHJKMNPQRSTVWXYZ23456789" // without I L O U 0 1: they are read for one another
)

// Invitation lets one person in, once: to make an account of one's own (User is
// empty), or to take over one that an administrator made (User is set). Of its
// code only a hash is kept.
type Invitation struct {
	ID        string        `json:"id"`             // "v_" and 16 characters
	User      im.UserID     `json:"user,omitempty"` // the account that it is for
	Role      im.Role       `json:"role"`           // of the account to make
	Classes   []string      `json:"classes,omitempty"`
	Username  string        `json:"username,omitempty"` // of the account to make; empty: the person chooses
	Name      string        `json:"name,omitempty"`
	CreatedBy im.UserID     `json:"created_by,omitempty"`
	Created   im.Millis     `json:"created"`
	Age       time.Duration `json:"age"`      // Box.Age when it was made
	Lifetime  time.Duration `json:"lifetime"` // in running time of the box
}

func (v *Invitation) expired(age time.Duration) bool { return age-v.Age >= v.Lifetime }

// InvitationEnds returns when an invitation ends by the clock of now.
func (a *Auth) InvitationEnds(v *Invitation) im.Millis {
	return a.now() + im.Millis((v.Lifetime - (a.box.Age() - v.Age)).Milliseconds())
}

// Invite makes invitations and returns their codes, this once, in order; ID,
// Created and Age of v are set. A code has 16 characters of 30, 78 bits, in
// groups of four, to be typed or scanned. Errors: im.Invalid (field expires_in), and
// those of the store.
func (a *Auth) Invite(ctx context.Context, t im.TenantID, vs []Invitation) (codes []string, _ error) {
	codes = make([]string, len(vs))
	values := make([][]byte, len(vs))
	now, age := a.now(), a.box.Age()
	for i := range vs {
		v := &vs[i]
		if v.Lifetime == 0 {
			v.Lifetime = DefaultInvitation
		}
		if v.Lifetime < time.Minute || v.Lifetime > MaxInvitationLifetime {
			return nil, im.E(im.Invalid, "An invitation lasts from a minute to 90 days.").OnField("expires_in")
		}
		var id [newIDRandLen]byte
		if _, err := io.ReadFull(a.rand, id[:]); err != nil {
			return nil, im.Wrap("auth: draw an id", err)
		}
		v.ID, v.Created, v.Age = "v_"+idEncoding.EncodeToString(id[:]), now, age
		var err error
		if codes[i], err = a.newCode(); err != nil {
			return nil, err
		}
		if values[i], err = json.Marshal(v); err != nil {
			return nil, err
		}
	}
	// A few hundred in one step: a record transaction is a part of the commit that
	// messages wait for.
	const step = 200
	for from := 0; from < len(vs); from += step {
		to := min(from+step, len(vs))
		err := a.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
			for i := from; i < to; i++ {
				tx.Put(store.RecordInvitation, invitationID(codes[i]), values[i])
			}
			return nil
		})
		if err != nil {
			return nil, im.Wrap("auth: store invitations of "+string(t), err)
		}
	}
	a.log.Info("invitations made", "tenant", string(t), "invitations", len(vs))
	return codes, nil
}

// newCode draws a code; rejection keeps its characters equally likely.
func (a *Auth) newCode() (string, error) {
	var code strings.Builder
	for code.Len() < codeGroups*(codeGroupRunes+1)-1 {
		if (code.Len()+1)%(codeGroupRunes+1) == 0 {
			code.WriteByte('-')
		}
		var b [1]byte
		for {
			if _, err := io.ReadFull(a.rand, b[:]); err != nil {
				return "", im.Wrap("auth: draw a code", err)
			}
			if int(b[0]) < 256/len(codeAlphabet)*len(codeAlphabet) {
				break
			}
		}
		code.WriteByte(codeAlphabet[int(b[0])%len(codeAlphabet)])
	}
	return code.String(), nil
}

// invitationID is the form in which a code is stored: capitals or not, with or
// without the dashes, it is the same code.
func invitationID(code string) string {
	plain := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToUpper(strings.TrimSpace(code)))
	sum := sha256.Sum256([]byte("pipit invitation " + plain))
	return hex.EncodeToString(sum[:])
}

// Invitations returns those of a tenant that were neither used nor expired,
// newest first.
func (a *Auth) Invitations(ctx context.Context, t im.TenantID) ([]Invitation, error) {
	var out []Invitation
	for after := ""; ; {
		page, err := a.records.ListRecords(ctx, t, store.RecordInvitation, "", after, store.MaxRecordsPage)
		if err != nil {
			return nil, im.Wrap("auth: list the invitations of "+string(t), err)
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].ID
		for _, r := range page {
			var v Invitation
			if err := json.Unmarshal(r.Value, &v); err != nil {
				return nil, im.Wrap("auth: list the invitations of "+string(t), err)
			}
			if !v.expired(a.box.Age()) {
				out = append(out, v)
			}
		}
	}
	slices.SortFunc(out, func(x, y Invitation) int { return cmp.Or(cmp.Compare(y.Age, x.Age), cmp.Compare(x.ID, y.ID)) })
	return out, nil
}

// Uninvite takes an invitation back. Errors: im.NotFound, and those of the
// store.
func (a *Auth) Uninvite(ctx context.Context, t im.TenantID, id string) (Invitation, error) {
	var gone Invitation
	n, err := a.dropInvitations(ctx, t, func(v *Invitation) bool {
		if v.ID == id {
			gone = *v
		}
		return v.ID == id
	})
	if err == nil && n == 0 {
		err = im.E(im.NotFound, "There is no such invitation; it may have been used.")
	}
	return gone, err
}

// dropInvitations deletes those that pick returns true for.
func (a *Auth) dropInvitations(ctx context.Context, t im.TenantID, pick func(*Invitation) bool) (int, error) {
	total := 0
	for after := ""; ; {
		page, err := a.records.ListRecords(ctx, t, store.RecordInvitation, "", after, 200)
		if err != nil {
			return total, im.Wrap("auth: look through the invitations of "+string(t), err)
		}
		if len(page) == 0 {
			return total, nil
		}
		after = page[len(page)-1].ID
		var ids []string
		for _, r := range page {
			var v Invitation
			if json.Unmarshal(r.Value, &v) == nil && pick(&v) {
				ids = append(ids, r.ID)
			}
		}
		if len(ids) == 0 {
			continue
		}
		total += len(ids)
		if err := a.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
			for _, id := range ids {
				tx.Delete(store.RecordInvitation, id)
			}
			return nil
		}); err != nil {
			return total, im.Wrap("auth: end invitations of "+string(t), err)
		}
	}
}

// badCode is the one answer for a code that is unknown, used or expired.
func badCode() error {
	return im.E(im.NotFound, "This invitation is not valid: it was used, has expired, or was typed wrongly. Ask for a new one.").OnField("code")
}

// Invited returns what a code is for, without using it. Whoever asks is
// throttled by address. Errors: im.NotFound (field code), im.RateLimited, and
// those of the store.
func (a *Auth) Invited(ctx context.Context, t im.TenantID, code string, addr netip.Addr) (Invitation, error) {
	if err := a.throttleAddr(addr); err != nil {
		return Invitation{}, err
	}
	raw, err := a.records.Record(ctx, t, store.RecordInvitation, invitationID(code))
	return a.openInvitation(t, raw, err)
}

func (a *Auth) openInvitation(t im.TenantID, raw []byte, err error) (v Invitation, _ error) {
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	switch ten, ok := a.users.Tenant(t); {
	case im.Is(err, im.NotFound), !ok, ten.Suspended, err == nil && v.expired(a.box.Age()):
		return Invitation{}, badCode()
	case err != nil:
		return Invitation{}, im.Wrap("auth: look up an invitation of "+string(t), err)
	}
	return v, nil
}

// UseInvitation takes an invitation: of all who try at once, one gets it. Whoever
// could not do with it what was meant gives it back with Reinvite. Errors as for
// Invited.
func (a *Auth) UseInvitation(ctx context.Context, t im.TenantID, code string, addr netip.Addr) (Invitation, error) {
	if err := a.throttleAddr(addr); err != nil {
		return Invitation{}, err
	}
	var raw []byte
	err := a.records.UpdateRecords(ctx, t, func(tx store.RecordTx) (err error) {
		if raw, err = tx.Get(store.RecordInvitation, invitationID(code)); err != nil {
			return err
		}
		raw = slices.Clone(raw)
		tx.Delete(store.RecordInvitation, invitationID(code))
		return nil
	})
	return a.openInvitation(t, raw, err)
}

// Reinvite gives an invitation back under its code.
func (a *Auth) Reinvite(ctx context.Context, t im.TenantID, code string, v Invitation) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.records.UpdateRecords(context.WithoutCancel(ctx), t, func(tx store.RecordTx) error {
		tx.Put(store.RecordInvitation, invitationID(code), raw)
		return nil
	})
}

// throttleAddr counts a code that is looked at against its address, as a
// password is.
func (a *Auth) throttleAddr(addr netip.Addr) error {
	if retry := a.throttle.admitAddr(addr); retry > 0 {
		a.stats.limitedByAddr.Add(1)
		return tooMany(retry)
	}
	return nil
}

func tooMany(retry time.Duration) error {
	return &im.Error{Kind: im.RateLimited, RetryAfter: retry, Message: "There were too many attempts to sign in. Please try again later."}
}
