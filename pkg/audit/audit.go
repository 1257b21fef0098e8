// Package audit keeps the record of what was done: every administrative act and
// every sign-in, by whom, on what, when, from where and with which result, for
// each tenant and for the box.
//
// It owns those records. It only appends: nothing here changes an event, and the
// only thing that removes one is its age (Prune) or the end of its tenant. It
// never decides, and holds no secret: no password, no token, no code, no text of
// a message; Detail has names of fields and counts.
//
// Who adds an event gives what happened; who asked and from where comes with the
// context, where the edge that let the request in has put it (With). So a domain
// package can say "user disabled" without knowing about HTTP.
//
// An event is durable when Add returns. An act whose event can't be stored has
// happened all the same: Add says so in the log and returns the error, and the
// caller decides; the edges answer the request, since a full disk must not keep
// an administrator from suspending anybody.
//
// Order is the number of an event within its tenant, of which pruning may leave
// gaps; Time is
// for people (the clock of a small box jumps). Age is judged by running time
// (store.Box.Age), so no leap of the clock removes anything.
//
// Nobody can push out of the log what others did. Who does the same over and over
// is written down a number of times and then counted (flood.go); and of the room
// for a tenant's events half is kept for what only administrators, the box and its
// operator can cause (prune.go).
//
// Concurrency: all methods are safe for concurrent use and may block on the
// disk, so never call them on an event loop. It starts no goroutine.
package audit

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/netip"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// DefaultKeep is how long events are kept, in running time of the box.
const DefaultKeep = 365 * 24 * time.Hour

// MaxKept is how many events are kept of one tenant whatever their age, so that
// nobody fills the card with them: about 100 MB. Weighty ones and others have half
// of it each, and what the one half does not need the other may have; of each the
// oldest go first.
const MaxKept = 400_000

// The bounds of an event. Longer values are cut.
const (
	maxFieldBytes = 200
	maxDetails    = 16
)

// Box is the tenant of events that are about the box itself.
const Box = im.TenantID("")

// Kinds of actors.
const (
	ByUser     = "user"     // a signed-in user
	ByProgram  = "program"  // an API token; ID is the token's id
	ByOperator = "operator" // the admin socket or the tool on the box
	BySystem   = "system"   // the server itself: expiry, policy
	ByNobody   = "nobody"   // not signed in (yet)
)

// Actor is who did it.
type Actor struct {
	Kind string `json:"kind"`
	ID   string `json:"id,omitempty"`   // user or token id
	Name string `json:"name,omitempty"` // what it was called then
	User string `json:"user,omitempty"` // the user that a program acts for
}

// Result of an act that was done; any other is the name of an im.Kind.
const OK = "ok"

// Event is one thing that was done, or refused.
type Event struct {
	// Seq numbers the events of a tenant from 1; Add sets it.
	Seq uint64 `json:"seq"`
	// Time is UTC milliseconds; Add sets it.
	Time im.Millis `json:"time"`
	// Action is what was done: "user.create", "session.create" … (Actions has
	// those of the server itself).
	Action string `json:"action"`
	// Actor is who did it. The zero value: whom the context names.
	Actor Actor `json:"actor"`
	// Object is on what: "user/u_…", "tenant/oakhill", "conversation/c_…".
	Object string `json:"object,omitempty"`
	// Name is what the object was called, for people.
	Name string `json:"name,omitempty"`
	// Addr is where the request came from; empty: what the context names.
	Addr string `json:"addr,omitempty"`
	// Result is OK or the name of the im.Kind of the refusal; empty means OK.
	Result string `json:"result"`
	// Detail says more in short words: the names of the members that changed,
	// counts. Never a secret, never a message's text.
	Detail map[string]string `json:"detail,omitempty"`
	// Weighty says that not everybody can cause such an event: an administrator did
	// it, or who may pass quiet hours. What the operator and the box do, and what the
	// context says is weighty, is so without it.
	Weighty bool `json:"-"`
}

// stored is how an event is kept: with the age at which it ends being kept.
type stored struct {
	Event
	Age   time.Duration `json:"age"` // Box.Age when it was added
	Light bool          `json:"light,omitempty"`
}

// Origin is who asks and from where; the edge puts it into the context.
type Origin struct {
	Actor Actor
	Addr  netip.Addr
	// Weighty: whoever asks administers the tenant.
	Weighty bool
}

type originKey struct{}

// With returns a context whose events are o's.
func With(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

// From returns what With put there.
func From(ctx context.Context) (Origin, bool) {
	o, ok := ctx.Value(originKey{}).(Origin)
	return o, ok
}

// ResultOf returns the result of an act that ended with err.
func ResultOf(err error) string {
	if err == nil {
		return OK
	}
	return im.KindOf(err).String()
}

// Options are what a Log is made of.
type Options struct {
	Records store.Records
	Box     store.Box
	Log     *slog.Logger // nil: nothing is logged
}

// Log is the audit log of the box and of all tenants.
type Log struct {
	records store.Records
	box     store.Box
	log     *slog.Logger
	max     int // MaxKept, but in tests
	flood   flood

	// pruning is held while old events are removed, so that two never count twice.
	pruning sync.Mutex
}

// New makes a Log. It reads nothing yet.
func New(o Options) *Log {
	l := &Log{records: o.Records, box: o.Box, log: o.Log, max: MaxKept}
	l.flood.lanes = map[laneKey]*lane{}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return l
}

// id is the record's id of an event: it sorts as the number does.
func id(seq uint64) string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, seq))
}

// Add appends events of one tenant (Box: the box), all in one atomic, durable
// step. Seq and Time are set; an empty Actor and Addr are the context's. Of what
// one actor repeats too often only the number is kept (flood.go); Seq of such an
// event stays 0. The error, if any, was logged.
func (l *Log) Add(ctx context.Context, t im.TenantID, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	o, known := From(ctx)
	now, age := im.Millis(l.box.Now().UnixMilli()), l.box.Age()
	for i := range events {
		e := &events[i]
		if e.Actor == (Actor{}) {
			if e.Actor = o.Actor; !known {
				e.Actor = Actor{Kind: BySystem}
			}
		}
		if e.Addr == "" && o.Addr.IsValid() {
			e.Addr = o.Addr.Unmap().WithZone("").String()
		}
		if e.Result == "" {
			e.Result = OK
		}
		e.Time = now
		e.Weighty = e.Weighty || o.Weighty || e.Actor.Kind == ByOperator || e.Actor.Kind == BySystem
		e.bound()
	}
	if events = l.flood.admit(t, events, age); len(events) == 0 {
		return nil
	}
	// What was done has happened: that the asker went away does not undo it.
	return l.store(context.WithoutCancel(ctx), t, events, age)
}

// store appends events that are complete but for their numbers.
func (l *Log) store(ctx context.Context, t im.TenantID, events []Event, age time.Duration) error {
	err := l.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		raw, err := tx.Get(store.RecordAuditState, stateID)
		if err != nil && !im.Is(err, im.NotFound) {
			return err
		}
		s := decodeState(raw)
		for i := range events {
			s.last++
			s.kept[classOf(!events[i].Weighty)]++
			events[i].Seq = s.last
			b, err := json.Marshal(stored{events[i], age, !events[i].Weighty})
			if err != nil {
				return err
			}
			tx.Put(store.RecordAudit, id(s.last), b)
		}
		tx.Put(store.RecordAuditState, stateID, s.encode())
		return nil
	})
	if err != nil {
		for i := range events {
			l.log.Error("audit event not stored", "tenant", string(t), "action", events[i].Action,
				"actor", events[i].Actor.Kind+" "+events[i].Actor.ID, "object", events[i].Object, "result", events[i].Result, "error", err)
		}
		return im.Wrap("audit: add to tenant "+string(t), err)
	}
	return nil
}

// bound keeps an event small and readable, whatever its maker put in.
func (e *Event) bound() {
	for _, p := range []*string{&e.Action, &e.Actor.Kind, &e.Actor.ID, &e.Actor.Name, &e.Actor.User, &e.Object, &e.Name, &e.Addr, &e.Result} {
		*p = cut(*p)
	}
	if len(e.Detail) == 0 {
		return
	}
	detail := make(map[string]string, len(e.Detail))
	for k, v := range e.Detail {
		if len(detail) == maxDetails {
			break
		}
		detail[cut(k)] = cut(v)
	}
	e.Detail = detail
}

// cut shortens s to maxFieldBytes at a character's border.
func cut(s string) string {
	if len(s) <= maxFieldBytes {
		return s
	}
	s = s[:maxFieldBytes]
	for len(s) > 0 && !utf8.RuneStart(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s[:max(len(s)-1, 0)] + "…"
}

// load reads the state of a tenant's log.
func (l *Log) load(ctx context.Context, t im.TenantID) (state, error) {
	raw, err := l.records.Record(ctx, t, store.RecordAuditState, stateID)
	if err != nil && !im.Is(err, im.NotFound) {
		return state{}, im.Wrap("audit: read the state of tenant "+string(t), err)
	}
	return decodeState(raw), nil
}
