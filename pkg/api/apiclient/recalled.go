package apiclient

import (
	"context"
	"net/http"
	"net/url"
)

// RecalledList is the conversations of a person that hold texts which were taken
// back and kept.
type RecalledList struct {
	Conversations []RecalledIn `json:"conversations" nullable:"false"`
}

// RecalledIn is one of them.
type RecalledIn struct {
	ID      string       `json:"id"`
	Kind    string       `json:"kind" enum:"direct,group,channel,notice"`
	Title   string       `json:"title,omitempty"`
	Members []RecalledBy `json:"members" nullable:"false" doc:"Who is in it now; 20 at most."`
	Kept    int          `json:"kept" doc:"How many texts."`
}

// RecalledBy is a person, as they are called now.
type RecalledBy struct {
	ID       string `json:"id"`
	Username string `json:"username,omitempty"`
	Name     string `json:"name,omitempty"`
}

// RecalledPage is a page of texts.
type RecalledPage struct {
	Messages []RecalledMessage `json:"messages" nullable:"false"`
	Next     string            `json:"next,omitempty" doc:"Goes into cursor for the next page; a page may be empty and have one."`
}

// RecalledMessage is a text that was taken back and kept.
type RecalledMessage struct {
	Seq  uint64     `json:"seq"`
	Time int64      `json:"time" doc:"When it was sent, UTC milliseconds."`
	By   RecalledBy `json:"by"`
	Text string     `json:"text" doc:"As it was last."`
}

// Recalled lists the conversations of a person that hold texts which were taken
// back and kept; user is an id or a user name.
func (c *Client) Recalled(ctx context.Context, tenant, user string) ([]RecalledIn, error) {
	var out RecalledList
	err := c.Do(ctx, http.MethodGet, forTenant(tenant, "/recalled?user="+url.QueryEscape(user)), nil, &out)
	return out.Conversations, err
}

// ReadRecalled reads all texts of a conversation that were taken back and kept.
func (c *Client) ReadRecalled(ctx context.Context, tenant, conversation string) ([]RecalledMessage, error) {
	all := []RecalledMessage{}
	for cursor := ""; ; {
		var page RecalledPage
		path := forTenant(tenant, "/recalled/"+url.PathEscape(conversation)+"?limit=200&cursor="+url.QueryEscape(cursor))
		if err := c.Do(ctx, http.MethodGet, path, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Messages...)
		if cursor = page.Next; cursor == "" {
			return all, nil
		}
	}
}
