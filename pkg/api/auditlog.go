package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// AuditQuery is described at TenantPath.
type AuditQuery struct {
	Actor  string `query:"actor" maxLength:"200" doc:"The id of a user or token, or a kind: user, program, operator, system, nobody."`
	Action string `query:"action" maxLength:"200" doc:"An action, or its first word with a dot at the end: session."`
	Object string `query:"object" maxLength:"200" doc:"An object, or its kind with a slash at the end: user/"`
	Result string `query:"result" maxLength:"200" doc:"ok, refused, or the kind of an error."`
	Since  int64  `query:"since" minimum:"0" doc:"Not before, UTC milliseconds."`
	Until  int64  `query:"until" minimum:"0" doc:"Before, UTC milliseconds."`
}

func (q *AuditQuery) query() audit.Query {
	return audit.Query{Actor: q.Actor, Action: q.Action, Object: q.Object, Result: q.Result, Since: im.Millis(q.Since), Until: im.Millis(q.Until)}
}

// AuditInput is described at TenantPath.
type AuditInput struct {
	AuditQuery
	ListInput
}

// ExportInput is described at TenantPath.
type ExportInput struct {
	AuditQuery
	Format string `query:"format" enum:"csv,jsonl" default:"csv"`
}

// registerAudit adds the audit log of the tenant.
func (a *API) registerAudit(api huma.API) {
	register(a, api, endpoint{
		ID: "list-audit", Method: http.MethodGet, Path: "/v1/audit", Tag: "audit", Summary: "The audit log, newest first (owners and admins)",
		Scope: auth.ScopeAuditRead,
	}, func(ctx context.Context, in *AuditInput) (*body[AuditPage], error) {
		if err := access.Administer(actor(ctx), 0, access.UpdateTenant); err != nil {
			return nil, err
		}
		return a.auditPage(ctx, actor(ctx).Tenant, in)
	})
	register(a, api, endpoint{
		ID: "export-audit", Method: http.MethodGet, Path: "/v1/audit/export", Tag: "audit", Summary: "The audit log as a file, oldest first (owners and admins)",
		Scope: auth.ScopeAuditRead, Audit: "audit.export",
		Adapt: exported,
	}, func(ctx context.Context, in *ExportInput) (*huma.StreamResponse, error) {
		if err := access.Administer(actor(ctx), 0, access.UpdateTenant); err != nil {
			return nil, err
		}
		return a.auditExport(actor(ctx).Tenant, in), nil
	})
}

// exported documents the answer of an export.
func exported(op *huma.Operation) {
	op.Responses = map[string]*huma.Response{"200": {Description: "A file.", Content: map[string]*huma.MediaType{
		"text/csv": {}, "application/jsonl": {}}}}
}

func (a *API) auditPage(ctx context.Context, t im.TenantID, in *AuditInput) (*body[AuditPage], error) {
	var before uint64
	if in.Cursor != "" {
		var err error
		if before, err = strconv.ParseUint(in.Cursor, 10, 64); err != nil || before == 0 {
			return nil, im.E(im.Invalid, "This cursor is not one of ours.").OnField("cursor")
		}
	}
	events, next, err := a.Audit.Page(ctx, t, in.query(), before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &body[AuditPage]{AuditPage{Events: make([]AuditEvent, len(events))}}
	for i, e := range events {
		out.Body.Events[i] = AuditEvent{Seq: e.Seq, Time: int64(e.Time), Action: e.Action, Object: e.Object, Name: e.Name,
			Actor: AuditActor(e.Actor), Addr: e.Addr, Result: e.Result, Detail: e.Detail}
	}
	if next > 0 {
		out.Body.Next = strconv.FormatUint(next, 10)
	}
	return out, nil
}

func (a *API) auditExport(t im.TenantID, in *ExportInput) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		kind := map[string]string{audit.CSV: "text/csv; charset=utf-8", audit.JSONLines: "application/jsonl"}[in.Format]
		hc.SetHeader("Content-Type", kind)
		hc.SetHeader("Content-Disposition", `attachment; filename="audit.`+in.Format+`"`)
		a.stream(hc, "audit export", func() error { return a.Audit.Export(hc.Context(), t, in.query(), in.Format, hc.BodyWriter()) })
	}}
}

// stream runs what writes a long answer: it takes as long as it takes, and one
// that fails half-way ends the connection, so that the reader knows.
func (a *API) stream(hc huma.Context, what string, write func() error) {
	_, w := humago.Unwrap(hc)
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil {
		a.log.Debug("answer has a deadline", "what", what, "error", err)
	}
	if err := write(); err != nil {
		a.log.Error(what+" failed", "error", err)
		panic(http.ErrAbortHandler)
	}
}
