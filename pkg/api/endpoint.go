package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/im"
)

// endpoint says everything about one operation that the conventions of PROTOCOL
// 9 need: who may call it, what the audit log calls it, whether it may be
// repeated with a key, whether it has a version. register keeps them, so that no
// handler has to.
type endpoint struct {
	ID, Method, Path string
	Tag, Summary     string
	Status           int    // of a success; 0: 200, or 204 without a body
	Caller           caller // who may call it at all
	// Scope is what an API token needs to call it; empty: programs may not.
	Scope auth.Scope
	// Audit is the action's name in the audit log. Everything but a GET has one.
	Audit string
	// Once says what Idempotency-Key does here. Every POST has one but those that
	// make nothing.
	Once once
	// Tagged: answers carry an ETag, and a change heeds If-Match.
	Tagged bool
	// MaxBody in bytes; 0: maxBodyBytes.
	MaxBody int64
	Adapt   func(*huma.Operation) // what is special in the document
}

// caller is who may call an operation.
type caller uint8

const (
	// signedIn: whoever has a token; what they may do is the handler's question.
	signedIn caller = iota
	// anybody: no token is asked for.
	anybody
	// operator: on the box's own socket.
	operator
	// keeper: signed in, in the tenant that keeps the box. Its audit events stand in
	// the log of the tenant that it was about, else in the box's.
	keeper
)

// once is how an operation treats Idempotency-Key.
type once uint8

const (
	// never: the header means nothing (it is not a POST, or makes nothing).
	never once = iota
	// replay: a repeat gets the first answer again, with Idempotency-Replayed.
	replay
	// secret: the answer holds what is shown once; a repeat is a conflict.
	secret
	// own: the handler keeps its keys itself (messages, PROTOCOL 6.2).
	own
)

// register adds one operation to api.
func register[I, O any](a *API, api huma.API, e endpoint, fn func(context.Context, *I) (*O, error)) {
	op := huma.Operation{OperationID: e.ID, Method: e.Method, Path: e.Path, Summary: e.Summary, DefaultStatus: e.Status, MaxBodyBytes: maxBodyBytes}
	if e.Tag != "" {
		op.Tags = []string{e.Tag}
	}
	if e.MaxBody != 0 {
		op.MaxBodyBytes = e.MaxBody
	}
	op.Middlewares = huma.Middlewares{a.enter(api, e)}
	if e.Caller == signedIn || e.Caller == keeper {
		op.Security = []map[string][]string{{"token": {}}, {"cookie": {}}}
		if e.Scope != "" {
			op.Security = []map[string][]string{{"token": {string(e.Scope)}}, {"cookie": {}}}
		}
	}
	if e.Once == replay || e.Once == secret {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "Idempotency-Key", In: "header", Schema: &huma.Schema{Type: "string", MaxLength: ptr(im.MaxKeyBytes)},
			Description: "1–64 printable ASCII characters, unique for each request of the caller: a repeat of the same request within a day makes nothing new."})
	}
	change := e.Method != http.MethodGet
	if e.Tagged && change {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "If-Match", In: "header", Schema: &huma.Schema{Type: "string", MaxLength: ptr(200)},
			Description: "The ETag that the change is based on; if there is a newer version, the answer is conflict and nothing is changed."})
	}
	if e.Adapt != nil {
		e.Adapt(&op)
	}
	a.endpoints = append(a.endpoints, e)
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		rq := requestOf(ctx)
		if e.Tagged && change {
			defer a.changes.lock(rq.actor.Tenant + rq.event.tenant).Unlock()
		}
		out, err := fulfil(a, ctx, rq, e, in, fn)
		if e.Audit != "" {
			a.record(ctx, rq, e, err)
		}
		if err != nil {
			return nil, a.problem(ctx, e.ID, err)
		}
		if e.Tagged {
			rq.http.SetHeader("ETag", etag(bodyOf(out)))
		}
		return out, nil
	})
	if e.Tagged {
		document(api, e)
	}
}

// fulfil runs the handler, or answers a repeat.
func fulfil[I, O any](a *API, ctx context.Context, rq *request, e endpoint, in *I, fn func(context.Context, *I) (*O, error)) (*O, error) {
	if rq.key == "" || e.Once != replay && e.Once != secret {
		return fn(ctx, in)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	k, err := a.keys.begin(ctx, rq, e, body)
	if err != nil {
		return nil, err
	}
	defer k.end()
	if k.answered {
		rq.event.Action = "" // nothing was done
		if e.Once == secret {
			return nil, im.E(im.Conflict, "This was done before. What it made was shown then and is not kept; revoke it and make another.").OnField("Idempotency-Key")
		}
		out := new(O)
		if err := json.Unmarshal(k.answer, out); err != nil {
			return nil, err
		}
		rq.http.SetHeader("Idempotency-Replayed", "true")
		return out, nil
	}
	out, err := fn(ctx, in)
	if err != nil {
		return nil, err // a refused request leaves no trace of its key
	}
	if e.Once == secret {
		return out, k.remember(ctx, nil)
	}
	answer, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return out, k.remember(ctx, answer)
}

// request is what the conventions know of a request; it belongs to the
// goroutine that serves it.
type request struct {
	http    huma.Context
	actor   im.Actor
	program *auth.APIToken // if a program asks
	tenant  im.TenantID    // that the host or the path names; empty: none
	key     string         // Idempotency-Key
	match   string         // If-Match
	event   event
}

// event is what the audit log will say; handlers fill it in.
type event struct {
	audit.Event
	tenant im.TenantID // operator's requests: which tenant it was about
}

type requestKey struct{}

// requestOf returns what enter put into the context. The zero one serves code
// that runs without a request.
func requestOf(ctx context.Context) *request {
	if rq, ok := ctx.Value(requestKey{}).(*request); ok {
		return rq
	}
	return &request{}
}

// actor returns who asks.
func actor(ctx context.Context) im.Actor { return requestOf(ctx).actor }

// about tells the audit log what the request is about: object as in
// audit.Event, and its name for people.
func about(ctx context.Context, object, name string) {
	rq := requestOf(ctx)
	rq.event.Object, rq.event.Name = object, name
}

// aboutTenant is about for the operator, whose requests name the tenant.
func aboutTenant(ctx context.Context, t im.TenantID) { requestOf(ctx).event.tenant = t }

// note adds a detail to the audit event: never a secret, never text of people.
func note(ctx context.Context, key, value string) {
	rq := requestOf(ctx)
	if rq.event.Detail == nil {
		rq.event.Detail = map[string]string{}
	}
	rq.event.Detail[key] = value
}

// enter is the middleware of every operation: it finds out who asks and from
// where, and refuses who may not ask at all.
func (a *API) enter(api huma.API, e endpoint) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		rq := &request{http: ctx, key: ctx.Header("Idempotency-Key"), match: ctx.Header("If-Match"), tenant: named(ctx.Context())}
		origin := audit.Origin{Addr: remoteAddr(ctx.RemoteAddr())}
		var err error
		switch e.Caller {
		case operator:
			origin.Actor = audit.Actor{Kind: audit.ByOperator}
		case anybody:
			origin.Actor = audit.Actor{Kind: audit.ByNobody}
		default:
			origin.Actor, err = a.authenticate(ctx, rq, e)
		}
		if err == nil && rq.key != "" && !plainKey(rq.key) && e.Once != own {
			err = im.E(im.Invalid, "A key has 1 to %d printable ASCII characters.", im.MaxKeyBytes).OnField("Idempotency-Key")
		}
		if err != nil {
			a.writeProblem(api, ctx, err)
			return
		}
		rq.event.Action = e.Audit
		origin.Weighty = administers(rq.actor.Role)
		next(huma.WithContext(ctx, audit.With(context.WithValue(ctx.Context(), requestKey{}, rq), origin)))
	}
}

// administers says whose events the audit log keeps room for, whatever others do.
func administers(r im.Role) bool { return r == im.RoleOwner || r == im.RoleAdmin }

// authenticate finds out who asks, by the bearer token of a person or of a
// program, or by the browser's cookie. It is the one place that does.
func (a *API) authenticate(ctx huma.Context, rq *request, e endpoint) (audit.Actor, error) {
	r := requestFrom(ctx)
	if who, ok := r.Context().Value(operatorKey{}).(im.Actor); ok {
		rq.actor = who // by the box's own socket (asOperator)
		return audit.Actor{Kind: audit.ByOperator}, nil
	}
	token, ok := bearer(r.Header.Get("Authorization"))
	if len(r.Header.Values("Authorization")) == 0 {
		// The cookie counts for requests that come from a page of this server
		// (PROTOCOL 9.5).
		if token = auth.RequestToken(r); token != "" {
			if err := auth.OwnPage(r); err != nil {
				return audit.Actor{}, err
			}
		}
		ok = token != ""
	}
	if !ok {
		return audit.Actor{}, im.E(im.Unauthenticated, "Sign in first: the request has no bearer token and no sign-in cookie.")
	}
	if auth.IsAPIToken(token) {
		program, who, err := a.Auth.VerifyAPIToken(ctx.Context(), token)
		if err != nil {
			return audit.Actor{}, err
		}
		if e.Scope == "" {
			return audit.Actor{}, im.E(im.Forbidden, "Programs can't do that; a person has to sign in.")
		}
		if !slices.Contains(program.Scopes, e.Scope) {
			return audit.Actor{}, im.E(im.Forbidden, "This token has no scope %s.", e.Scope)
		}
		rq.actor, rq.program = who, program
		return audit.Actor{Kind: audit.ByProgram, ID: program.ID, Name: program.Name, User: string(who.User)}, nil
	}
	who, user, err := a.Auth.Verify(ctx.Context(), token)
	if err != nil {
		return audit.Actor{}, err
	}
	rq.actor = who
	return audit.Actor{Kind: audit.ByUser, ID: string(who.User), Name: user.Username}, nil
}

// record writes the audit event of a request that was served. What fails to be
// written was logged there; the request has been done.
func (a *API) record(ctx context.Context, rq *request, e endpoint, err error) {
	ev := rq.event
	if ev.Action == "" || a.Audit == nil {
		return
	}
	ev.Result = audit.ResultOf(err)
	if im.Is(err, im.BadParams) {
		return // nothing was even asked
	}
	t := rq.actor.Tenant
	if e.Caller != signedIn {
		t = ev.tenant
	}
	if (e.Caller == operator || e.Caller == keeper) && t == "" {
		t = im.TenantID(rq.http.Param("tenant"))
		if ev.Object == "" {
			if name := rq.http.Param("username"); name == "" {
				ev.Object = "tenant/" + string(t)
			} else if u, ok := a.Directory.ByUsername(t, name); ok {
				ev.Object, ev.Name = "user/"+string(u.ID), u.Username
			}
		}
		if t == "" && ev.Object == "tenant/" {
			ev.Object = ""
		}
	}
	if _, known := a.Directory.Tenant(t); !known {
		// A tenant that is not there has no log; the box's own says what was tried.
		if t != "" && ev.Object == "" {
			ev.Object = "tenant/" + string(t)
		}
		t = audit.Box
	}
	_ = a.Audit.Add(ctx, t, ev.Event)
}

// matches refuses a change that is based on another version than the current
// one; current is the representation that a GET would answer with.
func matches(ctx context.Context, current any) error {
	want := requestOf(ctx).match
	if want == "" || want == "*" {
		return nil
	}
	tag := etag(current)
	for w := range strings.SplitSeq(want, ",") {
		if strings.TrimSpace(w) == tag {
			return nil
		}
	}
	return im.E(im.Conflict, "It has changed since you read it. Read it again, then repeat the change.").OnField("If-Match")
}

// etag is a strong validator (RFC 9110 §8.8.3) of a representation.
func etag(v any) string {
	switch s := v.(type) { // without what changes by itself
	case TenantSettings:
		s.Usage = Usage{}
		v = s
	case TenantDetail:
		s.Settings.Usage, s.ErasedIn = Usage{}, min(s.ErasedIn, 1)
		v = s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return `""`
	}
	sum := sha256.Sum256(b)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
}

// bodyOf returns the Body of an output.
func bodyOf(out any) any {
	if v := reflect.Indirect(reflect.ValueOf(out)); v.Kind() == reflect.Struct {
		if f := v.FieldByName("Body"); f.IsValid() {
			return f.Interface()
		}
	}
	return nil
}

// document adds the ETag header to the operation's good answers.
func document(api huma.API, e endpoint) {
	item := api.OpenAPI().Paths[e.Path]
	for _, op := range []*huma.Operation{item.Get, item.Patch, item.Put} {
		if op == nil || op.OperationID != e.ID {
			continue
		}
		for status, r := range op.Responses {
			if strings.HasPrefix(status, "2") {
				if r.Headers == nil {
					r.Headers = map[string]*huma.Param{}
				}
				r.Headers["ETag"] = &huma.Param{Description: "The version; goes into If-Match.", Schema: &huma.Schema{Type: "string"}}
			}
		}
	}
}

// plainKey reports whether a key is one that PROTOCOL 6.2 allows.
func plainKey(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= im.MaxKeyBytes
}

func ptr[T any](v T) *T { return &v }
