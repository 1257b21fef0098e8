package api

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// Problem is an error answer: RFC 9457 with the members of PROTOCOL 9.1.
type Problem struct {
	Type         string `json:"type" doc:"Always about:blank: kind says what it is."`
	Title        string `json:"title" doc:"The HTTP status in words."`
	Status       int    `json:"status" doc:"The HTTP status."`
	Detail       string `json:"detail,omitempty" doc:"What happened and what to do, for people."`
	Kind         string `json:"kind" enum:"invalid,unauthenticated,forbidden,not_found,exists,conflict,too_large,rate_limited,unavailable,internal" doc:"The error kind (PROTOCOL 2)."`
	Field        string `json:"field,omitempty" doc:"The member that is wrong."`
	Limit        int64  `json:"limit,omitempty" doc:"The limit that was passed."`
	RetryAfterMS int64  `json:"retry_after_ms,omitempty" doc:"When to try again, in milliseconds."`
	Reason       string `json:"reason,omitempty" doc:"A word for programs about why, such as quiet_hours; most errors have none."`
	Ref          string `json:"ref,omitempty" doc:"The same reference is in the server's log."`
	// Challenge is the next step of a sign-in (PROTOCOL 9.2).
	Challenge string      `json:"challenge,omitempty" enum:"totp,totp_setup,new_password" doc:"The password was right; the same request again with this answered."`
	TOTPSetup *TOTPSecret `json:"totp_setup,omitempty" doc:"With challenge totp_setup: what to put into the authenticator app."`
}

// Error returns the text for people.
func (p *Problem) Error() string { return p.Detail }

// GetStatus returns the HTTP status; huma asks for it.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType names the media type of RFC 9457; huma asks for it.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders returns Retry-After for what is to be retried; huma asks for it.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.RetryAfterMS > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(float64(p.RetryAfterMS)/1000)), 10))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	return h
}

// statusOf is the one table from kinds to HTTP statuses (PROTOCOL 2).
func statusOf(k im.Kind) int {
	switch k {
	case im.BadParams:
		return http.StatusBadRequest
	case im.Invalid:
		return http.StatusUnprocessableEntity
	case im.Unauthenticated:
		return http.StatusUnauthorized
	case im.Forbidden:
		return http.StatusForbidden
	case im.NotFound:
		return http.StatusNotFound
	case im.Exists, im.Conflict:
		return http.StatusConflict
	case im.TooLarge:
		return http.StatusRequestEntityTooLarge
	case im.RateLimited:
		return http.StatusTooManyRequests
	case im.Unavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// problem turns an error of the domain into the answer. What is the server's
// own fault is logged with a reference, which is all that leaves the box of it.
func (a *API) problem(ctx context.Context, op string, err error) error {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var e *im.Error
	if !errors.As(err, &e) {
		e = &im.Error{Kind: im.Internal}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		e = im.E(im.Unavailable, "The request was given up before it was done.")
	}
	status := statusOf(e.Kind)
	p = &Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status,
		Detail: e.Message, Kind: e.Kind.String(), Field: e.Field, Limit: e.Limit,
		RetryAfterMS: e.RetryAfter.Milliseconds(), Reason: string(e.Reason),
	}
	var c *auth.Challenge
	if errors.As(err, &c) {
		p.Challenge = c.Next
		if c.Setup != nil {
			p.TOTPSetup = ptr(TOTPSecret(*c.Setup))
		}
	}
	if e.Kind == im.Internal {
		p.Ref = a.newRef()
		p.Detail = "Something went wrong on the server. Its log has the reference " + p.Ref + "."
		a.log.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("op", op), slog.String("ref", p.Ref), slog.String("error", err.Error()))
	}
	return p
}

// humaErrors makes huma answer with Problems of ours. They are process-wide
// variables of that library, so this is done once.
var humaErrors = sync.OnceFunc(func() {
	huma.ValidateStrictCasing = true // PROTOCOL 1.5: member names are case-sensitive
	huma.NewErrorWithContext = func(_ huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return newProblem(status, msg, errs...)
	}
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return newProblem(status, msg, errs...)
	}
})

// newProblem translates what huma itself found wrong: the shape of a request,
// mostly, which is 400 `invalid` here (PROTOCOL 2) and 422 there.
func newProblem(status int, msg string, errs ...error) *Problem {
	p := &Problem{Type: "about:blank", Detail: sentence(msg)}
	for _, err := range errs {
		var d huma.ErrorDetailer
		if !errors.As(err, &d) {
			continue
		}
		detail := d.ErrorDetail()
		loc := detail.Location
		for _, prefix := range []string{"body.", "query.", "path.", "header."} {
			loc = strings.TrimPrefix(loc, prefix)
		}
		// A missing member is reported at its parent: the message names it.
		if name, ok := strings.CutPrefix(detail.Message, "expected required property "); ok {
			name, _, _ = strings.Cut(name, " ")
			loc = strings.TrimPrefix(strings.TrimPrefix(loc, "body")+"."+name, ".")
		}
		p.Field, p.Detail = loc, sentence(detail.Message)
		if loc == "body" { // encoding/json's own words name Go types
			p.Field, p.Detail = "", "The body must be one JSON object of the documented shape."
		}
		break
	}
	switch status {
	case http.StatusUnprocessableEntity, http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		p.Status, p.Kind = http.StatusBadRequest, im.Invalid.String()
	case http.StatusUnauthorized:
		p.Status, p.Kind = status, im.Unauthenticated.String()
	case http.StatusForbidden:
		p.Status, p.Kind = status, im.Forbidden.String()
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		p.Status, p.Kind = status, im.NotFound.String()
	case http.StatusRequestEntityTooLarge:
		p.Status, p.Kind, p.Limit = status, im.TooLarge.String(), maxBodyBytes
	case http.StatusRequestTimeout:
		p.Status, p.Kind = status, im.Unavailable.String()
	default:
		p.Status, p.Kind = status, im.Internal.String()
	}
	p.Title = http.StatusText(p.Status)
	return p
}

// sentence makes a library's note into a sentence for people.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.HasSuffix(s, ".") {
		s += "."
	}
	return s
}
