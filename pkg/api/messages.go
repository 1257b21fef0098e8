package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// sendInput is message.send over HTTP (PROTOCOL 9.3). RawBody goes through the
// socket's own decoder, so that text, limits and idempotency are judged by the
// same code and a key may be resent on either way.
type sendInput struct {
	Conversation string `path:"id" maxLength:"200"`
	Key          string `header:"Idempotency-Key" doc:"1–64 printable ASCII characters, unique for each request of the user; required."`
	RawBody      []byte `contentType:"application/json"`
}

// sendBody documents RawBody; huma does not decode it, since its errors would
// not name the field.
type sendBody struct {
	_        struct{} `additionalProperties:"true"`
	Text     string   `json:"text"`
	ReplyTo  uint64   `json:"reply_to,omitempty" doc:"The seq of a message of this conversation."`
	Mentions []string `json:"mentions,omitempty" maxItems:"1000" nullable:"false" doc:"Ids of members, at most 100."`
}

type sendOutput struct {
	Status int
	Body   struct {
		Seq    uint64 `json:"seq"`
		Time   int64  `json:"time" doc:"UTC milliseconds."`
		Repeat bool   `json:"repeat,omitempty" doc:"The same request was stored before; nothing was stored now."`
	}
}

type historyInput struct {
	Conversation string `path:"id" maxLength:"200"`
	After        string `query:"after" doc:"Entries above this seq."`
	Before       string `query:"before" doc:"Entries below this seq; not together with after."`
	Limit        string `query:"limit" doc:"At most this many, up to 200."`
}

type rawOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

// registerMessages adds message.send and message.history (PROTOCOL 9.3).
func (a *API) registerMessages(api huma.API) {
	registry := api.OpenAPI().Components.Schemas
	register(a, api, endpoint{
		ID: "send-message", Method: http.MethodPost, Path: "/v1/conversations/{id}/messages", Tag: "messages",
		Summary: "Send a message; the answer comes after it is on stable storage",
		Status:  http.StatusCreated, Scope: auth.ScopeMessagesSend, Once: own,
		Adapt: func(op *huma.Operation) {
			// The body is judged by wire, as on the socket; the schema that is set below documents it.
			op.SkipValidateBody = true
			op.Responses = map[string]*huma.Response{"200": {Description: "The same request was stored before."}}
		},
	}, a.send)
	op := api.OpenAPI().Paths["/v1/conversations/{id}/messages"].Post
	op.RequestBody.Content["application/json"].Schema = registry.Schema(reflect.TypeFor[sendBody](), true, "SendBody")
	op.Responses["200"].Content = op.Responses["201"].Content
	// A response that is given by hand keeps huma from adding the one for errors.
	failure := api.OpenAPI().Paths["/v1/sessions"].Post.Responses["default"]
	op.Responses["default"] = failure

	register(a, api, endpoint{
		ID: "message-history", Method: http.MethodGet, Path: "/v1/conversations/{id}/messages", Tag: "messages",
		Summary: "A page of the conversation's log, in rising order", Scope: auth.ScopeMessagesRead,
		Adapt: func(op *huma.Operation) {
			op.Responses = map[string]*huma.Response{"200": {
				Description: "Entries and head, one snapshot.",
				Content:     map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(pageType, true, "Page")}},
			}, "default": failure}
		},
	}, func(ctx context.Context, in *historyInput) (*rawOutput, error) {
		body, err := a.history(ctx, in)
		if err != nil {
			return nil, err
		}
		return &rawOutput{ContentType: "application/json", Body: body}, nil
	})
}

func (a *API) send(ctx context.Context, in *sendInput) (*sendOutput, error) {
	if in.Key == "" {
		return nil, im.E(im.Invalid, "Give the request a key in the header Idempotency-Key, so that it can be repeated safely.").OnField("key")
	}
	params, err := withMembers(in.RawBody, in.Conversation, in.Key)
	if err != nil {
		return nil, err
	}
	p, err := wire.DecodeSend(params, a.Limits())
	if err != nil {
		return nil, err
	}
	res, err := a.Chat.Do(ctx, &chat.Command{
		Op: chat.Send, Actor: actor(ctx), Key: p.Key, Body: p.Body(), Conv: p.Conversation,
		Text: p.Text, ReplyTo: p.ReplyTo, Mentions: p.Mentions,
	})
	if err != nil {
		return nil, err
	}
	out := &sendOutput{Status: http.StatusCreated}
	if res.Repeat {
		out.Status = http.StatusOK
	}
	out.Body.Seq, out.Body.Time, out.Body.Repeat = uint64(res.Seq), int64(res.Time), res.Repeat
	return out, nil
}

// withMembers returns body, a JSON object, with conversation and key as further
// members, whatever the body itself says of them.
func withMembers(body []byte, conversation, key string) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return nil, im.E(im.BadParams, "The body must be one JSON object.")
	}
	delete(members, "conversation")
	delete(members, "key")
	var out bytes.Buffer
	out.WriteString(`{"conversation":`)
	out.Write(quote(conversation))
	out.WriteString(`,"key":`)
	out.Write(quote(key))
	for name, value := range members {
		out.WriteByte(',')
		out.Write(quote(name))
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// quote writes s as a JSON string.
func quote(s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return []byte(`""`)
	}
	return b
}

func (a *API) history(ctx context.Context, in *historyInput) ([]byte, error) {
	params := []byte(`{"conversation":`)
	params = append(params, quote(in.Conversation)...)
	for _, q := range []struct{ name, value string }{{"after", in.After}, {"before", in.Before}, {"limit", in.Limit}} {
		if q.value == "" {
			continue
		}
		for _, c := range []byte(q.value) {
			if (c < '0' || c > '9') && c != '-' {
				return nil, im.E(im.BadParams, "This must be a whole number.").OnField(q.name)
			}
		}
		params = append(params, `,"`+q.name+`":`+q.value...)
	}
	params = append(params, '}')
	p, err := wire.DecodeHistory(params)
	if err != nil {
		return nil, err
	}
	page, err := a.Chat.History(ctx, actor(ctx), chat.HistoryQuery{
		Conv: p.Conversation, After: p.After, Before: p.Before, HasAfter: p.HasAfter, HasBefore: p.HasBefore, Limit: p.Limit,
	})
	if err != nil {
		return nil, err
	}
	return wire.AppendPage(nil, &page, p.Conversation), nil
}
