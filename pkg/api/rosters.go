package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/roster"
)

// RosterInput is a roster as it is uploaded: a zip archive or a CSV file, as the
// body. Exported for huma, as TenantPath.
type RosterInput struct {
	Name    string `query:"name" maxLength:"200" doc:"What the file is called, for the report."`
	Term    string `query:"term" maxLength:"1000" doc:"The term of a simple CSV's classes; classes with another one are over."`
	Partial bool   `query:"partial" doc:"Whoever is not in the roster stays as he is."`
	SkipBad bool   `query:"skip_bad" doc:"Leave bad rows out instead of refusing all."`
	RawBody []byte `contentType:"application/octet-stream"`
}

func (in *RosterInput) options() roster.Options {
	return roster.Options{Term: in.Term, Partial: in.Partial, SkipBad: in.SkipBad}
}

func (in *RosterInput) name() string {
	if in.Name == "" {
		return "roster.csv"
	}
	return in.Name
}

// maxToldChanges bounds the changes that an answer lists.
const maxToldChanges = 5000

// registerRosters adds the import of rosters.
func (a *API) registerRosters(api huma.API) {
	forTenant(a, api, tenantOp{id: "preview-roster", scope: auth.ScopeUsersWrite, audit: "roster.preview", method: http.MethodPost, path: "/roster/preview", tag: "roster", summary: "What importing a roster would change; nothing is", act: access.ImportRoster, maxBody: roster.MaxUploadBytes + 1},
		func(_ context.Context, who im.Actor, in *RosterInput) (*body[apiclient.RosterReport], error) {
			rep, err := a.Roster.Preview(who.Tenant, who.User, in.name(), in.RawBody, in.options())
			if err != nil {
				return nil, err
			}
			return &body[apiclient.RosterReport]{reportOf(rep)}, nil
		})
	forTenant(a, api, tenantOp{id: "import-roster", scope: auth.ScopeUsersWrite, audit: "roster.import", method: http.MethodPost, path: "/roster/import", tag: "roster", summary: "Import a roster that was previewed, all or nothing; it goes on after the answer", status: http.StatusAccepted, act: access.ImportRoster, maxBody: roster.MaxUploadBytes + 1},
		func(ctx context.Context, who im.Actor, in *struct {
			RosterInput
			Digest string `query:"digest" required:"true" maxLength:"100" doc:"Of the preview."`
		}) (*body[apiclient.RosterReport], error) {
			about(ctx, "tenant/"+string(who.Tenant), in.name())
			note(ctx, "digest", in.Digest)
			rep, err := a.Roster.Import(who.Tenant, who.User, in.name(), in.RawBody, in.options(), in.Digest)
			if err != nil {
				return nil, err
			}
			return &body[apiclient.RosterReport]{reportOf(rep)}, nil
		})
	forTenant(a, api, tenantOp{id: "roster-status", scope: auth.ScopeUsersRead, method: http.MethodGet, path: "/roster", tag: "roster", summary: "How far an import is, and what became of the last one", act: access.ImportRoster},
		func(ctx context.Context, who im.Actor, _ *struct{}) (*body[apiclient.RosterStatus], error) {
			st, err := a.Roster.Status(ctx, who.Tenant)
			if err != nil {
				return nil, err
			}
			out := apiclient.RosterStatus{State: string(st.State), Done: st.Done, Total: st.Total, Why: st.Why}
			if st.Last != nil {
				out.Last = &apiclient.RosterResult{Began: int64(st.Last.Began), Ended: int64(st.Last.Ended), Counts: st.Last.Counts}
				for _, s := range st.Last.Problems {
					out.Last.Problems = append(out.Last.Problems, s.Text)
				}
				out.Last.Said = saidOf(st.Last.Problems)
			}
			return &body[apiclient.RosterStatus]{out}, nil
		})
}

func reportOf(r *roster.Report) apiclient.RosterReport {
	out := apiclient.RosterReport{Format: r.Format, Digest: r.Digest, People: r.People, Classes: r.Classes, Counts: r.Counts(),
		Changes: []apiclient.RosterChange{}, Wrong: r.Wrong, Notes: r.Notes, Problems: []apiclient.RosterProblem{}}
	for _, c := range r.Changes[:min(len(r.Changes), maxToldChanges)] {
		out.Changes = append(out.Changes, apiclient.RosterChange{What: c.What, Of: c.Of, Key: c.Key, Name: c.Name, Detail: roster.Join(c.Detail), Said: saidOf(c.Detail)})
	}
	for _, p := range r.Problems {
		out.Problems = append(out.Problems, apiclient.RosterProblem{RosterSaid: apiclient.RosterSaid(p.Said), File: p.File, Line: p.Line, Note: p.Note})
	}
	return out
}

func saidOf(list []roster.Said) (out []apiclient.RosterSaid) {
	for _, s := range list {
		out = append(out, apiclient.RosterSaid(s))
	}
	return out
}
