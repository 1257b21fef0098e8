package api

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/im"
)

// registerRecalled adds the owners' inquiry into what was taken back where the
// policy keeps it. Both are in the audit log, also when they find nothing, and
// programs can't ask.
func (a *API) registerRecalled(api huma.API) {
	register(a, api, endpoint{
		ID: "list-recalled", Method: http.MethodGet, Path: "/v1/recalled", Tag: "policy", Audit: "recalled.list",
		Summary: "Which conversations of a person hold texts that were taken back and kept (owners; always in the audit log)",
	}, func(ctx context.Context, in *struct {
		User string `query:"user" required:"true" maxLength:"200" doc:"The person's id or user name."`
	}) (*body[apiclient.RecalledList], error) {
		who := actor(ctx)
		if err := access.Administer(who, 0, access.ReadRecalled); err != nil {
			return nil, err // before anybody learns whether there is such a user
		}
		ids, err := a.namedUsers(who.Tenant, "user", []string{in.User})
		if err != nil {
			return nil, err
		}
		u, _ := a.Directory.User(who.Tenant, ids[0])
		about(ctx, "user/"+string(u.ID), u.Username)
		list, err := a.Chat.Recalled(ctx, who, u.ID)
		if err != nil {
			return nil, err
		}
		out := &body[apiclient.RecalledList]{apiclient.RecalledList{Conversations: make([]apiclient.RecalledIn, 0, len(list))}}
		for _, in := range list {
			c := apiclient.RecalledIn{ID: string(in.Conv.ID), Kind: in.Conv.Kind.String(), Title: in.Conv.Title, Kept: in.Kept, Members: []apiclient.RecalledBy{}}
			for _, m := range in.Members {
				c.Members = append(c.Members, a.recalledBy(who.Tenant, m))
			}
			out.Body.Conversations = append(out.Body.Conversations, c)
		}
		note(ctx, "conversations", strconv.Itoa(len(list)))
		return out, nil
	})
	register(a, api, endpoint{
		ID: "read-recalled", Method: http.MethodGet, Path: "/v1/recalled/{id}", Tag: "policy", Audit: "recalled.read",
		Summary: "Texts of a conversation that were taken back and kept, oldest first (owners; always in the audit log)",
	}, func(ctx context.Context, in *struct {
		ID string `path:"id" maxLength:"200"`
		ListInput
	}) (*body[apiclient.RecalledPage], error) {
		who := actor(ctx)
		about(ctx, "conversation/"+in.ID, "")
		var after uint64
		if in.Cursor != "" {
			var err error
			if after, err = strconv.ParseUint(in.Cursor, 10, 64); err != nil {
				return nil, im.E(im.Invalid, "This cursor is not one of ours.").OnField("cursor")
			}
		}
		kept, next, err := a.Chat.Kept(ctx, who, im.ConvID(in.ID), im.Seq(after), in.Limit)
		if err != nil {
			return nil, err
		}
		out := &body[apiclient.RecalledPage]{apiclient.RecalledPage{Messages: make([]apiclient.RecalledMessage, 0, len(kept))}}
		for i := range kept {
			m := &kept[i]
			text := m.Entry.Text
			if m.Edited != 0 {
				text = m.State.Text
			}
			out.Body.Messages = append(out.Body.Messages, apiclient.RecalledMessage{Seq: uint64(m.Seq), Time: int64(m.Time), By: a.recalledBy(who.Tenant, m.By), Text: text})
		}
		if next > 0 {
			out.Body.Next = strconv.FormatUint(uint64(next), 10)
		}
		note(ctx, "texts", strconv.Itoa(len(kept)))
		return out, nil
	})
}

func (a *API) recalledBy(t im.TenantID, id im.UserID) apiclient.RecalledBy {
	out := apiclient.RecalledBy{ID: string(id)}
	if u, ok := a.Directory.User(t, id); ok {
		out.Username, out.Name = u.Username, u.Name
	}
	return out
}
