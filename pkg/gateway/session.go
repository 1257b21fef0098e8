package gateway

import (
	"crypto/rand"
	"time"

	"github.com/pipit-im/pipit/pkg/hub"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// conn is the connection of a session; *netloop.Conn is one.
type conn interface {
	Write(frames []byte)
	Waiting() bool // output waits that the socket did not take
	Close(code uint16, reason string)
}

// session is one connection from upgrade to close. All of it belongs to the
// goroutine of its loop. It is small on purpose, like netloop.Conn: thousands
// are idle.
type session struct {
	hub.Member
	loop     *loop
	conn     conn
	greeting *greeting // until the hello is answered
	rate     bucket
	reads    uint16 // requests under way, by kind
	appends  uint16
	closing  bool // Close was called
	ended    bool // the connection is gone
}

var _ hub.Session = (*session)(nil)

// greeting is what a session needs before its hello is answered.
type greeting struct {
	cookie string // the token of the sign-in cookie, "" without one
	cancel func() // ends the wait for the hello
	came   bool   // a hello was accepted as such
	behind [][]byte
	bytes  int
}

func (g *Gateway) open(c conn, l *loop, t *ticket, cancel func()) *session {
	s := &session{loop: l, conn: c, greeting: &greeting{cancel: cancel}}
	if t != nil {
		s.greeting.cookie = t.token
	}
	s.rate.fill(g.elapsed(), g.limits())
	return s
}

// Deliver implements hub.Session.
func (s *session) Deliver(frames []byte) { s.conn.Write(frames) }

// Busy implements hub.Session.
func (s *session) Busy() bool { return s.conn.Waiting() }

// Close implements hub.Session: it closes the connection with code.
func (s *session) Close(code uint16, reason string) {
	if !s.closing {
		s.closing = true
		s.conn.Close(code, reason)
	}
}

// end is called once, when the connection is gone.
func (s *session) end(code uint16, cause string) {
	g := s.loop.gw
	s.ended, s.closing = true, true
	if s.greeting != nil {
		g.behind.Add(-int64(s.greeting.bytes))
		s.greeting = nil
	}
	g.count.closed(code)
	if u := s.User(); u != nil {
		g.log.Debug("session ended", "tenant", u.Tenant, "user", u.ID, "session", s.ID(), "code", code)
	} else {
		g.log.Debug("connection ended without hello", "code", code, "cause", cause)
	}
	s.loop.shard.Detach(&s.Member)
}

// message takes one message of the client. p is lent.
func (s *session) message(p []byte) {
	switch {
	case s.closing:
	case s.greeting == nil:
		s.request(p)
	case !s.greeting.came:
		s.hello(p)
	default:
		s.keepBehind(p)
	}
}

// request runs one request of a live session.
func (s *session) request(p []byte) {
	g := s.loop.gw
	r, bad := wire.DecodeRequest(p)
	if !s.rate.take(g.elapsed(), g.limits()) {
		// A flood is answered by what costs least; without an id, not at all.
		g.count.flooded.Add(1)
		if r.ID != nil {
			s.conn.Write(wire.ErrorFrame(r.ID, wire.ErrorOf(tooFast)))
		}
		return
	}
	if bad != nil {
		if bad.Code == wire.CodeParse {
			g.count.parse.Add(1)
		} else {
			g.count.request.Add(1)
		}
		s.conn.Write(wire.ErrorFrame(r.ID, bad))
		return
	}
	m := g.methods[r.Method]
	switch {
	case m == nil:
		g.count.method.Add(1)
		if r.ID != nil {
			s.conn.Write(wire.ErrorFrame(r.ID, wire.NoSuchMethod()))
		}
	case r.ID == nil && !m.notification: // PROTOCOL 2.2
	case m.fill != nil:
		s.submit(m, &r)
	case m.read != nil:
		s.startRead(m, &r)
	default:
		s.answer(m, &r)
	}
}

var tooFast = &im.Error{Kind: im.RateLimited, Message: "too many requests; please wait a moment", RetryAfter: time.Second}

// answer runs a method that needs neither disk nor commit.
func (s *session) answer(m *method, r *wire.Request) {
	frame, err := m.now(s, r)
	switch {
	case err != nil:
		s.refuse(m, r.ID, err)
	default:
		m.ok().Add(1)
		if r.ID != nil {
			s.conn.Write(frame)
		}
	}
}

// refuse answers a request with an error, or a notification with nothing.
func (s *session) refuse(m *method, id []byte, err error) {
	g := s.loop.gw
	e := wire.ErrorOf(err)
	m.failed(e).Add(1)
	if e.Code == wire.CodeParams {
		g.count.params.Add(1)
	}
	if e.Kind == im.Internal {
		e = new(*e) // it may be shared
		e.Ref = rand.Text()[:10]
		g.log.Error("request failed", "ref", e.Ref, "method", m.name, "error", err)
	}
	if id != nil {
		s.conn.Write(wire.ErrorFrame(id, e))
	}
}

// actor is who asks, with the role of now: it may have changed since the hello.
func (s *session) actor() im.Actor {
	u := s.User()
	if now, ok := s.loop.gw.dir.User(u.Tenant, u.ID); ok {
		u = now
	}
	return im.Actor{Tenant: u.Tenant, User: u.ID, Role: u.Role, SignIn: s.SignIn()}
}

// errStopping refuses what comes while the server stops.
var errStopping = &im.Error{Kind: im.Unavailable, Message: "the server is stopping"}
