package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// tryAgainLater is the close code for a hello that can't be served now; clients
// come back after a delay (RFC 6455 §7.4.1's registry, PROTOCOL 3.9).
const tryAgainLater = 1013

// hello is one session.hello on its way (PROTOCOL 3.1–3.7). It goes
//
//	loop    the token is known: attach          else → worker: verify → loop: attach
//	worker  verify, conversations, join, heads
//	loop    release: the reply, then what was held, then the requests behind
//
// The token is verified after Attach in any case: a sign-in revoked before that
// is refused by then, and one revoked later ends the session as an event.
type hello struct {
	s      *session
	m      *method
	id     []byte
	params wire.HelloParams
	token  string
	actor  im.Actor
	user   *im.User
	// attached says which half of the work is due, or done when it comes back.
	attached bool
	frame    []byte // the reply
	err      error
}

// hello takes the first message of a session.
func (s *session) hello(p []byte) {
	g := s.loop.gw
	r, bad := wire.DecodeRequest(p)
	if bad != nil || r.Method != wire.MethodHello || r.ID == nil {
		if bad != nil && bad.Code == wire.CodeParse {
			g.count.parse.Add(1)
		} else if bad != nil {
			g.count.request.Add(1)
		}
		s.Close(wire.CloseViolation, "the first message must be session.hello")
		return
	}
	m := g.methods[wire.MethodHello]
	params, err := wire.DecodeHello(r.Params)
	if err != nil {
		s.refuse(m, r.ID, err)
		s.Close(wire.CloseViolation, "bad hello")
		return
	}
	s.greeting.came = true
	s.greeting.cancel()
	h := &hello{s: s, m: m, id: slices.Clone(r.ID), params: params, token: params.Token}
	if !params.HasToken {
		h.token = s.greeting.cookie
	}
	s.greeting.cookie = ""
	actor, user, hit, err := g.auth.VerifyCached(h.token)
	switch {
	case !hit:
		h.queue()
	case err != nil:
		h.refuse(err)
	default:
		h.actor, h.user = actor, user
		h.attach()
	}
}

func (h *hello) queue() {
	if !h.s.loop.gw.pool.hello(h) {
		h.refuse(errStopping)
	}
}

// attach is the step between the two halves of the work, on the loop.
func (h *hello) attach() {
	s := h.s
	if err := s.loop.shard.Attach(&s.Member, s, h.user, h.actor.SignIn); err != nil {
		h.refuse(err)
		return
	}
	h.attached = true
	h.queue()
}

// work does what may read the disk, on a worker.
func (h *hello) work(ctx context.Context) {
	h.actor, h.user, h.err = h.s.loop.gw.auth.Verify(ctx, h.token)
	if h.attached && h.err == nil {
		h.frame, h.err = h.compute(ctx)
		// Not by send, which may run it before what was posted already: the hub's
		// own post, which seats the session, must come first.
		h.s.loop.shard.Post(h.finish)
		return
	}
	h.s.loop.send(h)
}

// compute joins the session to its conversations and reads their heads. In this
// order, and after Attach, nothing falls between them (PROTOCOL 3.4).
func (h *hello) compute(ctx context.Context) ([]byte, error) {
	g := h.s.loop.gw
	tenant, ok := g.dir.Tenant(h.actor.Tenant)
	if !ok {
		return nil, im.E(im.Unauthenticated, "please sign in")
	}
	convs, err := g.chat.ConvIDs(ctx, h.actor.Tenant, h.actor.User)
	if err != nil {
		return nil, err
	}
	g.hub.Join(&h.s.Member, convs)
	epoch := g.epoch()
	sync := h.params.Sync
	if h.params.Epoch != "" && h.params.Epoch != string(epoch) {
		sync = "" // another history: everything (PROTOCOL 3.7)
	}
	page, err := g.chat.Heads(ctx, h.actor, chat.HeadsQuery{Sync: sync, Limit: im.MaxHeadsPage})
	if err != nil {
		return nil, err
	}
	return wire.HelloResultFrame(h.id, &wire.HelloResult{
		Session: h.s.ID(), User: *h.user, Tenant: tenant, Epoch: epoch, Sync: page.Sync, Time: g.millis(),
		Heartbeat: g.heartbeat, Limits: g.limits(), Conversations: page.Heads, Next: page.Next, Full: page.Full,
	}), nil
}

// finish is back on the loop.
func (h *hello) finish() {
	s := h.s
	switch {
	case s.closing:
	case h.err != nil:
		h.refuse(h.err)
	case !h.attached:
		h.attach()
	default:
		h.m.ok().Add(1)
		s.loop.shard.Release(&s.Member, h.frame)
		s.runBehind()
	}
}

// refuse answers with an error and closes with the code that says what to do.
func (h *hello) refuse(err error) {
	s := h.s
	s.refuse(h.m, h.id, err)
	switch im.KindOf(err) {
	case im.Unauthenticated:
		s.loop.gw.log.Info("hello refused", "error", err)
		s.Close(auth.CloseCode(err), "")
	case im.RateLimited:
		s.Close(tryAgainLater, wire.RetryReason(30*time.Second))
	default:
		s.Close(tryAgainLater, "")
	}
}

// keepBehind keeps a message that came behind the hello, to be run after it.
func (s *session) keepBehind(p []byte) {
	g, gr := s.loop.gw, s.greeting
	cost := len(p) + 64 // with what keeps it; so tiny ones are bounded too
	if gr.bytes+cost > behindBytes || g.behind.Load()+int64(cost) > allBehindBytes {
		if r, _ := wire.DecodeRequest(p); r.ID != nil {
			s.conn.Write(wire.ErrorFrame(r.ID, wire.ErrorOf(tooFast)))
		}
		return
	}
	gr.bytes += cost
	g.behind.Add(int64(cost))
	gr.behind = append(gr.behind, slices.Clone(p))
}

// runBehind makes the session live and runs what was kept, in order.
func (s *session) runBehind() {
	gr := s.greeting
	s.greeting = nil
	s.loop.gw.behind.Add(-int64(gr.bytes))
	for _, p := range gr.behind {
		s.message(p)
	}
}
