package audit

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/pipit-im/pipit/pkg/im"
)

// How much of the same one actor has written down: so many at once, and so many an
// hour for ever. What is above is counted, and the number is an event of its own
// (Repeated), at most each hour. What the operator and the box do is never only
// counted.
const (
	// of one action that everybody can cause
	lightAtOnce, lightAnHour = 60, 6
	// of all that an administrator does: more than anybody does by hand, and a roster
	// import is one event
	weightyAtOnce, weightyAnHour = 5_000, 208

	sumEach  = time.Hour
	maxLanes = 20_000 // about 5 MB
)

// Repeated is the action of the event that says how often an actor did what was
// not written down each time: Detail has events and, if it was always the same,
// action and result.
const Repeated = "audit.repeated"

// flood counts what each actor does. What it counted and has not written down yet
// is lost when the power goes.
type flood struct {
	mu    sync.Mutex
	lanes map[laneKey]*lane // guarded by mu
}

// laneKey is what counts as the same.
type laneKey struct {
	tenant  im.TenantID
	actor   string // kind and id, or the network of who is nobody
	weighty bool
	action  string // only of what is light, as is the rest
	refused bool
	object  string // whom a nobody tried to be
}

type lane struct {
	bucket *rate.Limiter
	over   int           // not written down, since
	since  time.Duration // Box.Age of the first of them
	last   Event         // the newest of them
	same   bool          // they all have its action and result
}

// epoch is where Box.Age begins, for rate's arithmetic on times.
var epoch = time.Unix(0, 0)

func keyOf(t im.TenantID, e *Event) laneKey {
	k := laneKey{tenant: t, weighty: e.Weighty, actor: e.Actor.Kind + " " + e.Actor.ID}
	if e.Actor.Kind == ByNobody {
		k.actor += network(e.Addr)
	}
	if k.weighty {
		return k
	}
	k.action, k.refused = e.Action, e.Result != OK
	// Who is signed in may name any object; who is not names one that the edge has
	// found, or none.
	if e.Actor.Kind == ByNobody && strings.HasPrefix(e.Object, "user/") {
		k.object = e.Object
	}
	return k
}

// network is what counts as one address: an IPv6 host draws its own from a /64.
func network(addr string) string {
	a, err := netip.ParseAddr(addr)
	if err == nil && a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.Addr().String()
		}
	}
	return addr
}

// admit returns the events that are to be written down, in their order, with sums
// of what was only counted that are due.
func (f *flood) admit(t im.TenantID, events []Event, age time.Duration) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Event, 0, len(events)+1)
	for _, e := range events {
		if e.Actor.Kind == ByOperator || e.Actor.Kind == BySystem {
			out = append(out, e)
			continue
		}
		l := f.lane(keyOf(t, &e), age)
		if l.bucket.AllowN(epoch.Add(age), 1) {
			out = append(out, e)
			continue
		}
		if l.over == 0 {
			l.since, l.same = age, true
		}
		l.same = l.same && (l.over == 0 || l.last.Action == e.Action && l.last.Result == e.Result)
		l.over++
		l.last = e
		if age-l.since >= sumEach {
			out = append(out, l.sum())
		}
	}
	return out
}

// lane returns the lane of a key. When there are too many, those that are idle go;
// while all are busy the newcomers of a tenant share one. mu is held.
func (f *flood) lane(k laneKey, age time.Duration) *lane {
	if f.lanes[k] == nil && len(f.lanes) >= maxLanes {
		for old, l := range f.lanes {
			if l.over == 0 && l.bucket.TokensAt(epoch.Add(age)) >= float64(l.bucket.Burst()) {
				delete(f.lanes, old)
			}
		}
		if len(f.lanes) >= maxLanes {
			k = laneKey{tenant: k.tenant, weighty: k.weighty}
		}
	}
	if f.lanes[k] == nil {
		burst, hour := lightAtOnce, lightAnHour
		if k.weighty {
			burst, hour = weightyAtOnce, weightyAnHour
		}
		f.lanes[k] = &lane{bucket: rate.NewLimiter(rate.Limit(float64(hour)/3600), burst)}
	}
	return f.lanes[k]
}

// sum is the event that stands for what was counted.
func (l *lane) sum() Event {
	e := l.last
	e.Detail = map[string]string{"events": strconv.Itoa(l.over)}
	if l.same {
		e.Detail["action"], e.Detail["result"] = e.Action, e.Result
	} else {
		e.Object, e.Name = "", ""
	}
	e.Action, e.Result, l.over = Repeated, OK, 0
	return e
}

// sums returns all that a tenant's actors repeated and is due.
func (f *flood) sums(t im.TenantID, age time.Duration) (out []Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, l := range f.lanes {
		if k.tenant == t && l.over > 0 && age-l.since >= sumEach {
			out = append(out, l.sum())
		}
	}
	return out
}
