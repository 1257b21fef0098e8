package api

import (
	"bytes"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/cards"
	"github.com/pipit-im/pipit/pkg/im"
)

// CardsOutput is a sheet of login cards, as a file. Exported for huma.
type CardsOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"` // a file, and no page of this server
	Cards       string `header:"Pipit-Cards" doc:"How many cards are on it."`
	Body        []byte
}

// registerCards adds the printing of login cards.
func (a *API) registerCards(api huma.API) {
	forTenant(a, api, tenantOp{id: "print-cards", method: http.MethodPost, path: "/cards", tag: "roster", summary: "Login cards with new one-time codes, as a sheet to print; earlier codes of the same people end",
		scope: auth.ScopeUsersWrite, audit: "cards.print", act: access.ImportRoster},
		func(ctx context.Context, who im.Actor, in *body[apiclient.NewCards]) (*CardsOutput, error) {
			list, err := a.cardHolders(ctx, who.Tenant, &in.Body)
			if err != nil {
				return nil, err
			}
			days := in.Body.Days
			if days == 0 {
				days = int(auth.DefaultInvitation / (24 * time.Hour))
			}
			ten, _ := a.Directory.Tenant(who.Tenant)
			sheet := cards.Sheet{Organisation: ten.Name, Address: a.cardAddress(ctx, in.Body.Address), Days: days, Lang: in.Body.Lang}
			if len(list) == 0 {
				return nil, im.E(im.Invalid, "There is nobody to print a card for: everybody meant can sign in already. With again, new codes are made for them too.")
			}
			if len(list) > cards.MaxCards {
				return nil, &im.Error{Kind: im.TooLarge, Limit: cards.MaxCards, Message: "Those are too many cards for one sheet: print class by class."}
			}
			if in.Body.Format == "pdf" { // before codes are made that nobody would see
				if err := cards.PDF(new(bytes.Buffer), &cards.Sheet{Cards: []cards.Card{{URL: "x"}}}, cards.Fonts); err != nil {
					return nil, err
				}
			}
			codes, err := a.Auth.InviteUsers(ctx, who.Tenant, who.User, list, time.Duration(days)*24*time.Hour)
			if err != nil {
				return nil, err
			}
			for i, u := range list {
				c := cards.Card{Name: u.Name, Username: u.Username, Code: codes[i], URL: sheet.Address + invitationPath(who.Tenant, codes[i])}
				if classes := a.Directory.ClassesOf(who.Tenant, u.ID); len(classes) > 0 && u.Role == im.RoleMember {
					c.Class = classes[0].Name
				}
				sheet.Cards = append(sheet.Cards, c)
			}
			cards.Sort(sheet.Cards)
			about(ctx, "tenant/"+string(who.Tenant), "")
			note(ctx, "cards", strconv.Itoa(len(list)))
			out := &CardsOutput{ContentType: "text/html; charset=utf-8", Cards: strconv.Itoa(len(list)),
				Disposition: `attachment; filename="cards.html"`}
			var b bytes.Buffer
			if in.Body.Format == "pdf" {
				out.ContentType, out.Disposition = "application/pdf", `attachment; filename="cards.pdf"`
				err = cards.PDF(&b, &sheet, cards.Fonts)
			} else {
				err = cards.HTML(&b, &sheet)
			}
			out.Body = b.Bytes()
			return out, err
		})
}

// cardHolders returns whom the cards are for: those named, those of the classes
// named, or everybody; without whom can sign in already, unless that is asked for.
func (a *API) cardHolders(ctx context.Context, t im.TenantID, in *apiclient.NewCards) ([]*im.User, error) {
	ids, err := a.namedUsers(t, "users", in.Users)
	if err != nil {
		return nil, err
	}
	for _, name := range in.Classes {
		found := false
		for _, c := range a.Directory.Classes(t) {
			if string(c.ID) == name || !c.Archived && c.Name == name {
				found = true
				ids = append(append(ids, c.Teachers...), c.Students...)
			}
		}
		if !found {
			return nil, im.E(im.NotFound, "There is no class %q.", name).OnField("classes")
		}
	}
	if len(in.Users)+len(in.Classes) == 0 {
		for cursor := ""; ; {
			page, next := a.Directory.Users(t, cursor, 500)
			for _, u := range page {
				ids = append(ids, u.ID)
			}
			if cursor = next; next == "" {
				break
			}
		}
	}
	var list []*im.User
	seen := map[im.UserID]bool{}
	for _, id := range ids {
		u, ok := a.Directory.User(t, id)
		if !ok || seen[id] || u.Disabled || u.Role == im.RoleBot || u.Role == im.RoleOwner {
			continue
		}
		seen[id] = true
		if !in.Again {
			has, err := a.Auth.HasPassword(ctx, t, id)
			if err != nil {
				return nil, err
			}
			if has {
				continue
			}
		}
		list = append(list, u)
	}
	return list, nil
}

// cardAddress is what stands on the cards: what was given, or where the request
// came to.
func (a *API) cardAddress(ctx context.Context, given string) string {
	if given != "" {
		return given
	}
	r := requestFrom(requestOf(ctx).http)
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}
