package chat

import (
	"context"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
)

// receipts gathers the read events that go to the other members: at most one per
// reader, conversation and second, the last one always within a second (PROTOCOL
// 7.2). The first goes out with the mark itself; marks in the second after it
// only update what goes out at its end.
//
// It holds one record for each reader and conversation that marked within the
// last second, at most maxReceipts: over that, marks go out at once and nothing
// is held back, so that nothing is lost.
type receipts struct {
	mono    func() time.Duration
	publish func([]bus.Event)

	mu   sync.Mutex
	held map[readerKey]*receipt
	due  []*receipt    // of held, in order of their ends
	wake chan struct{} // a token when due got its first
}

type readerKey struct {
	tenant im.TenantID
	conv   im.ConvID
	user   im.UserID
}

type receipt struct {
	readerKey
	end     time.Duration // one second after the last that went out
	seq     im.Seq        // to go out at the end; 0: nothing came since
	session im.SessionID  // that marked it
}

const (
	receiptGap  = time.Second
	maxReceipts = 8192
)

func newReceipts(mono func() time.Duration, publish func([]bus.Event)) *receipts {
	return &receipts{mono: mono, publish: publish, held: make(map[readerKey]*receipt), wake: make(chan struct{}, 1)}
}

// mark reports whether a mark goes out to the others now; if not, it will. Called
// on the commit goroutine; it does not block.
func (r *receipts) mark(t im.TenantID, cv im.ConvID, u im.UserID, seq im.Seq, session im.SessionID) (now bool) {
	k := readerKey{t, cv, u}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.held[k]; old != nil {
		old.seq, old.session = seq, session
		return false
	}
	if len(r.held) >= maxReceipts {
		return true
	}
	rec := &receipt{readerKey: k, end: r.mono() + receiptGap}
	r.held[k] = rec
	r.due = append(r.due, rec)
	if len(r.due) == 1 {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// run publishes what is due until ctx ends; then it publishes all that is held.
func (r *receipts) run(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		next := r.release(r.mono())
		timer.Reset(next)
		select {
		case <-timer.C:
		case <-r.wake:
		case <-ctx.Done():
			r.release(1<<63 - 1)
			return
		}
	}
}

// release publishes what is due at now and returns how long until the next.
func (r *receipts) release(now time.Duration) time.Duration {
	var events []bus.Event
	next := time.Hour
	r.mu.Lock()
	i := 0
	for ; i < len(r.due); i++ {
		rec := r.due[i]
		if rec.end > now {
			next = rec.end - now
			break
		}
		if rec.seq == 0 {
			delete(r.held, rec.readerKey)
			continue
		}
		events = append(events, bus.Event{Kind: bus.Read, Tenant: rec.tenant, Conv: rec.conv, User: rec.user,
			Seq: rec.seq, Wide: true, Others: true, Session: rec.session})
		rec.seq, rec.end = 0, now+receiptGap
		if now == 1<<63-1 {
			delete(r.held, rec.readerKey)
			continue
		}
		r.due = append(r.due, rec) // again at the end: it has the latest end now
	}
	clear(r.due[:i])
	r.due = r.due[i:]
	r.mu.Unlock()
	r.publish(events)
	return next
}

func (r *receipts) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}
