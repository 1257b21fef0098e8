package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pipit-im/pipit/pkg/im"
)

// Policy is what a tenant lets its people do (PROTOCOL 4.7).
type Policy struct {
	Preset   string          `json:"preset" enum:"school,office,open" doc:"What the settings begin with; open is what a tenant that chose nothing has."`
	Settings []PolicySetting `json:"settings" nullable:"false"`
}

// PolicySetting is one setting of a policy.
type PolicySetting struct {
	Name    string `json:"name" doc:"direct.member.staff, quiet.member, recall …"`
	Value   string `json:"value"`
	Default string `json:"default" doc:"What the preset says."`
	Allowed string `json:"allowed" doc:"For people: which values there are."`
}

// PolicyChange changes a policy: the preset first, which takes all changes back,
// then single settings.
type PolicyChange struct {
	_        struct{}          `additionalProperties:"true"`
	Preset   *string           `json:"preset,omitempty" nullable:"false" enum:"school,office,open"`
	Settings map[string]string `json:"settings,omitempty" doc:"By name; the preset's own value takes a change back."`
}

// Class is a class with its conversations.
type Class struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Term      string   `json:"term,omitempty"`
	Ends      string   `json:"ends,omitempty" doc:"The term's last day, 2027-07-31."`
	SourcedID string   `json:"sourced_id,omitempty" doc:"The roster's id."`
	Teachers  []string `json:"teachers" nullable:"false" doc:"User ids."`
	Students  []string `json:"students" nullable:"false" doc:"User ids."`
	Group     string   `json:"group" doc:"The conversation of all of them."`
	Board     string   `json:"board" doc:"The board where the teachers post."`
	Archived  bool     `json:"archived"`
}

// Classes is a page of classes.
type Classes struct {
	Classes []Class `json:"classes" nullable:"false"`
	Next    string  `json:"next,omitempty" doc:"Goes into cursor for the next page."`
}

// NewClass is the body that makes a class. People are named by id or user name.
type NewClass struct {
	_        struct{} `additionalProperties:"true"`
	Name     string   `json:"name" maxLength:"1000"`
	Term     string   `json:"term,omitempty" maxLength:"1000"`
	Teachers []string `json:"teachers,omitempty" nullable:"false" maxItems:"2000"`
	Students []string `json:"students,omitempty" nullable:"false" maxItems:"2000"`
}

// ClassChange changes a class; what is left out stays. People are named by id or
// user name.
type ClassChange struct {
	_        struct{}  `additionalProperties:"true"`
	Name     *string   `json:"name,omitempty" nullable:"false" maxLength:"1000"`
	Term     *string   `json:"term,omitempty" nullable:"false" maxLength:"1000"`
	Teachers *[]string `json:"teachers,omitempty" nullable:"false" maxItems:"2000"`
	Students *[]string `json:"students,omitempty" nullable:"false" maxItems:"2000"`
	Archived *bool     `json:"archived,omitempty" nullable:"false" doc:"true: its term is over, nobody writes any more."`
}

// TermEnd names the term whose classes are archived.
type TermEnd struct {
	_    struct{} `additionalProperties:"true"`
	Term string   `json:"term,omitempty" maxLength:"1000" doc:"Left out: every class."`
}

// TermEnded says how many classes were archived.
type TermEnded struct {
	Archived int `json:"archived"`
}

// GuardianOf says of whom a guardian is guardian, by id or user name.
type GuardianOf struct {
	_       struct{} `additionalProperties:"true"`
	Members []string `json:"members" nullable:"false" maxItems:"100"`
}

// NewCards says for whom login cards are printed, and how.
type NewCards struct {
	_       struct{} `additionalProperties:"true"`
	Users   []string `json:"users,omitempty" nullable:"false" maxItems:"5000" doc:"By id or user name. Neither users nor classes: everybody."`
	Classes []string `json:"classes,omitempty" nullable:"false" maxItems:"500" doc:"By id or name."`
	Again   bool     `json:"again,omitempty" doc:"Those too who have a password already; it stays until the code is used."`
	Format  string   `json:"format,omitempty" enum:"html,pdf" doc:"html if left out."`
	Lang    string   `json:"lang,omitempty" enum:"en,zh" doc:"en if left out."`
	Address string   `json:"address,omitempty" maxLength:"200" pattern:"^https?://[^/?#\\s]+$" doc:"What stands on the cards, http://oakhill.local; left out: where the request came to."`
	Days    int      `json:"days,omitempty" minimum:"1" maximum:"90" doc:"How long the codes work; 14 if left out."`
}

// RosterReport says what importing a roster would change, or began to.
type RosterReport struct {
	Format   string          `json:"format" doc:"CSV, OneRoster 1.1 or OneRoster 1.2."`
	Digest   string          `json:"digest" doc:"Names the roster, the options and the changes: what was looked at is what is imported."`
	People   int             `json:"people" doc:"In the roster."`
	Classes  int             `json:"classes" doc:"In the roster."`
	Counts   map[string]int  `json:"counts" doc:"Of the changes: add person, disable person, archive class …"`
	Changes  []RosterChange  `json:"changes" nullable:"false" doc:"At most 5000 of them."`
	Wrong    int             `json:"wrong" doc:"Bad rows: they stand in the way, unless they are to be skipped."`
	Notes    int             `json:"notes" doc:"What the import does in spite of the roster."`
	Problems []RosterProblem `json:"problems" nullable:"false" doc:"At most 1000 of both."`
}

// RosterChange is one change.
type RosterChange struct {
	What   string       `json:"what" enum:"add,change,enable,disable,archive"`
	Of     string       `json:"of" enum:"person,class"`
	Key    string       `json:"key" doc:"The user name, or the name of the class."`
	Name   string       `json:"name,omitempty"`
	Detail string       `json:"detail,omitempty" doc:"For people."`
	Said   []RosterSaid `json:"said,omitempty" nullable:"false" doc:"What detail is made of."`
}

// RosterSaid is a sentence for people, and what it was made of.
type RosterSaid struct {
	Text   string   `json:"text"`
	Format string   `json:"format" doc:"The sentence with a verb of Go's fmt for each of args, so that it can be said in another language."`
	Args   []string `json:"args,omitempty" nullable:"false"`
}

// RosterProblem is something wrong with a roster, by file and line.
type RosterProblem struct {
	RosterSaid
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	Note bool   `json:"note,omitempty" doc:"It does not stand in the way."`
}

// RosterStatus is how far an import is.
type RosterStatus struct {
	State string        `json:"state" enum:"idle,preparing,importing,waiting"`
	Done  int           `json:"done" doc:"Of total steps."`
	Total int           `json:"total"`
	Why   string        `json:"why,omitempty" doc:"Why it waits, or why the last one was not begun."`
	Last  *RosterResult `json:"last,omitempty" doc:"The last import that ended."`
}

// RosterResult is what became of an import.
type RosterResult struct {
	Began    int64          `json:"began"`
	Ended    int64          `json:"ended"`
	Counts   map[string]int `json:"counts"`
	Problems []string       `json:"problems,omitempty"`
	Said     []RosterSaid   `json:"said,omitempty" nullable:"false" doc:"The same, with what they are made of."`
}

// RosterOptions are what whoever imports may say about it.
type RosterOptions struct {
	Name    string // of the file
	Term    string
	Partial bool
	SkipBad bool
}

func (o RosterOptions) query() url.Values {
	q := url.Values{"name": {o.Name}}
	if o.Term != "" {
		q.Set("term", o.Term)
	}
	if o.Partial {
		q.Set("partial", "true")
	}
	if o.SkipBad {
		q.Set("skip_bad", "true")
	}
	return q
}

// forTenant is where the operator finds a tenant's own API.
func forTenant(tenant, path string) string { return Path("admin", "tenants", tenant) + "/v1" + path }

// Policy returns a tenant's rules.
func (c *Client) Policy(ctx context.Context, tenant string) (Policy, error) {
	var out Policy
	return out, c.Do(ctx, http.MethodGet, forTenant(tenant, "/policy"), nil, &out)
}

// ChangePolicy changes a tenant's rules.
func (c *Client) ChangePolicy(ctx context.Context, tenant string, ch PolicyChange) (Policy, error) {
	var out Policy
	return out, c.Do(ctx, http.MethodPatch, forTenant(tenant, "/policy"), ch, &out)
}

// Classes returns all classes of a tenant.
func (c *Client) Classes(ctx context.Context, tenant string) ([]Class, error) {
	all := []Class{}
	q := url.Values{"limit": {"500"}}
	for {
		var page Classes
		if err := c.Do(ctx, http.MethodGet, forTenant(tenant, "/classes?"+q.Encode()), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Classes...)
		if page.Next == "" {
			return all, nil
		}
		q.Set("cursor", page.Next)
	}
}

// AddClass makes a class.
func (c *Client) AddClass(ctx context.Context, tenant string, n NewClass) (Class, error) {
	var out Class
	return out, c.Do(ctx, http.MethodPost, forTenant(tenant, "/classes"), n, &out)
}

// ChangeClass changes a class.
func (c *Client) ChangeClass(ctx context.Context, tenant, id string, ch ClassChange) (Class, error) {
	var out Class
	return out, c.Do(ctx, http.MethodPatch, forTenant(tenant, "/classes/"+url.PathEscape(id)), ch, &out)
}

// EndTerm archives the classes of a term; of every term for an empty one.
func (c *Client) EndTerm(ctx context.Context, tenant, term string) (int, error) {
	var out TermEnded
	return out.Archived, c.Do(ctx, http.MethodPost, forTenant(tenant, "/classes/end-term"), TermEnd{Term: term}, &out)
}

// PreviewRoster says what importing would change.
func (c *Client) PreviewRoster(ctx context.Context, tenant string, content []byte, o RosterOptions) (RosterReport, error) {
	var out RosterReport
	return out, c.upload(ctx, forTenant(tenant, "/roster/preview?"+o.query().Encode()), content, &out)
}

// ImportRoster begins what PreviewRoster showed; RosterStatus says how far it is.
func (c *Client) ImportRoster(ctx context.Context, tenant string, content []byte, o RosterOptions, digest string) (RosterReport, error) {
	q := o.query()
	q.Set("digest", digest)
	var out RosterReport
	return out, c.upload(ctx, forTenant(tenant, "/roster/import?"+q.Encode()), content, &out)
}

// RosterStatus says how far the import of a tenant is.
func (c *Client) RosterStatus(ctx context.Context, tenant string) (RosterStatus, error) {
	var out RosterStatus
	return out, c.Do(ctx, http.MethodGet, forTenant(tenant, "/roster"), nil, &out)
}

// PrintCards writes login cards with new codes to w and returns how many.
func (c *Client) PrintCards(ctx context.Context, tenant string, n NewCards, w io.Writer) (int, error) {
	resp, err := c.call(ctx, http.MethodPost, forTenant(tenant, "/cards"), n)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return 0, &im.Error{Kind: im.Internal, Message: "The cards were cut short. Print them again: the codes on these may not be complete.", Cause: err}
	}
	count, _ := strconv.Atoi(resp.Header.Get("Pipit-Cards")) // for people only
	return count, nil
}

// upload posts bytes as they are.
func (c *Client) upload(ctx context.Context, path string, content []byte, out any) error {
	op := http.MethodPost + " " + path
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://box"+path, bytes.NewReader(content))
	if err != nil {
		return &im.Error{Kind: im.Internal, Op: op, Cause: err}
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := c.http.Do(req)
	if err != nil {
		return c.explain(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return problem(op, resp)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return &im.Error{Kind: im.Internal, Message: "The server's answer can't be read.", Op: op, Cause: err}
	}
	return nil
}
