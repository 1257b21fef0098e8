package chat

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// Pass is a message that went out in its sender's quiet hours (PROTOCOL 6.7).
type Pass struct {
	Tenant im.TenantID
	User   im.UserID
	SignIn im.SignInID
	Conv   im.ConvID
	Seq    im.Seq
	Time   im.Millis
}

// passes hands Passes to whoever writes them down, on a goroutine of its own, so
// that the commit goroutine waits for no disk. It is bounded and loses none: while
// it is full, such messages are refused.
type passes struct {
	note  func(context.Context, Pass) error // nil: nobody wants to know
	log   *slog.Logger
	queue chan Pass
	taken atomic.Int32 // promised by room or queued, and not written down yet
	again time.Duration
}

const maxPasses = 256

func newPasses(note func(context.Context, Pass) error, log *slog.Logger) *passes {
	return &passes{note: note, log: log, queue: make(chan Pass, maxPasses+maxBatch), again: time.Second}
}

// room says whether one more can be taken. One batch may go beyond it, for which
// the queue has places. Commit goroutine, as put.
func (p *passes) room() bool { return p.note == nil || p.taken.Load() < maxPasses }

func (p *passes) put(x Pass) {
	if p.note != nil {
		p.taken.Add(1)
		p.queue <- x
	}
}

// run writes down what comes until ctx ends, and then what is still queued.
func (p *passes) run(ctx context.Context) {
	for {
		select {
		case x := <-p.queue:
			p.write(ctx, x)
		case <-ctx.Done():
			for {
				select {
				case x := <-p.queue:
					p.write(ctx, x)
				default:
					return
				}
			}
		}
	}
}

// write tries until it is written down, or, at the end of the process, once.
func (p *passes) write(ctx context.Context, x Pass) {
	defer p.taken.Add(-1)
	for {
		err := p.note(context.WithoutCancel(ctx), x)
		if err == nil {
			return
		}
		p.log.Error("a message that passed the quiet hours could not be written to the audit log",
			"tenant", x.Tenant, "user", x.User, "conversation", x.Conv, "seq", x.Seq, "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.again):
		}
	}
}
