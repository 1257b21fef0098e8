package conformance_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"
)

// session is a signed-in client. A goroutine reads all that comes, holds it against the protocol and keeps it in order.
type session struct {
	t     *testing.T
	ws    *socket
	who   *person
	hello value // the result of session.hello

	mu      sync.Mutex
	all     []message
	end     *ending // when the connection is over
	news    chan struct{}
	replies map[string]value // by raw id
	law     law
	nextID  int

	at     int // the events up to here were looked at by the test; its goroutine's
	closed sync.Once
	gone   chan struct{}
}

// message is one text message of the server.
type message struct {
	value
	raw string
}

func (m message) event() string {
	if m.has("method") {
		return m.get("method").str()
	}
	return ""
}

// attach begins to read. From now on nobody else does.
func (p *person) attach(t *testing.T, ws *socket) *session {
	t.Helper()
	s := &session{t: t, ws: ws, who: p, news: make(chan struct{}), replies: make(map[string]value), gone: make(chan struct{})}
	s.law.begin()
	go s.read()
	t.Cleanup(s.close)
	return s
}

// connect signs a socket in.
func (p *person) connect(t *testing.T) *session {
	t.Helper()
	return p.connectWith(t, J{})
}

func (p *person) connectWith(t *testing.T, params J) *session {
	t.Helper()
	s := p.attach(t, p.open(t))
	params["token"] = p.token
	s.hello = s.ok("session.hello", params)
	return s
}

func (s *session) close() {
	s.closed.Do(func() {
		s.ws.Close()
		<-s.gone
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, broken := range s.law.broken {
			s.t.Errorf("%s: %s", s.who.username, broken)
		}
	})
}

// read runs until the connection is over.
func (s *session) read() {
	defer close(s.gone)
	end := ending{code: 1006}
	var whole []byte
	started := false
	for {
		op, last, payload, err := s.ws.serverFrame()
		var bad violationError
		if errors.As(err, &bad) {
			s.blame("%s", bad)
		}
		if err != nil {
			break
		}
		switch op {
		case opPing:
			_, _ = s.ws.Write(frameOf(fin|opPong, string(payload)))
			continue
		case opPong:
			continue
		case opClose:
			if end, err = endOf(payload); err != nil {
				s.blame("%s", err)
			}
			_, _ = s.ws.Write(frameOf(fin|opClose, string(payload)))
			continue
		case opText:
			if started {
				s.blame("a message within a message")
			}
			whole, started = payload, true
		case opContinuation:
			if !started {
				s.blame("a continuation of nothing")
			}
			whole = append(whole, payload...)
		default:
			s.blame("opcode %d", op)
			continue
		}
		if last {
			started = false
			s.take(string(whole))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = &end
	close(s.news)
}

func (s *session) blame(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.law.blame(format, args...)
}

func (s *session) take(raw string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := decode([]byte(raw))
	if err != nil {
		s.law.blame("not JSON: %v: %.300q", err, raw)
		return
	}
	m := message{v, raw}
	s.law.hear(m)
	s.all = append(s.all, m)
	if id, ok := v.members()["id"]; ok && id != nil {
		s.replies[rawID(id)] = v
	}
	close(s.news)
	s.news = make(chan struct{})
}

func rawID(id any) string {
	switch id := id.(type) {
	case json.Number:
		return id.String()
	case string:
		return strconv.Quote(id)
	}
	return "?"
}

// wait waits until ok, which is asked with the lock held, says true. over says that the connection had ended instead.
func (s *session) wait(what string, ok func() bool) (over bool) {
	s.t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		s.mu.Lock()
		done, news, end := ok(), s.news, s.end
		s.mu.Unlock()
		switch {
		case done:
			return false
		case end != nil:
			return true
		}
		select {
		case <-news:
		case <-limit.C:
			s.t.Fatalf("%s: %s did not come within %v; %s", s.who.username, what, patience, s.lastWords())
		}
	}
}

func (s *session) lastWords() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := "the last that came:"
	for _, m := range s.all[max(0, len(s.all)-6):] {
		out += fmt.Sprintf("\n\t%.300s", m.raw)
	}
	return out
}

// request builds a request; params are what encoding/json makes of them, or JSON as it is if they are a string.
func request(id, method string, params any) string {
	var p []byte
	switch params := params.(type) {
	case string:
		p = []byte(params)
	default:
		var err error
		if p, err = json.Marshal(params); err != nil {
			panic(err)
		}
	}
	out := `{"jsonrpc":"2.0","method":"` + method + `","params":` + string(p)
	if id != "" {
		out += `,"id":` + id
	}
	return out + "}"
}

// compose gives a request its id, and tells the law what to expect.
func (s *session) compose(method string, params any) (id, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	id = strconv.Itoa(s.nextID)
	s.law.asked(id, method, params)
	return id, request(id, method, params)
}

// brief is params in an error.
func brief(params any) string { return fmt.Sprintf("%.300s", fmt.Sprint(params)) }

// start sends a request and returns its id.
func (s *session) start(method string, params any) string {
	s.t.Helper()
	id, m := s.compose(method, params)
	s.ws.put(s.t, text(m))
	return id
}

// startAll sends many requests in one write.
func (s *session) startAll(method string, params ...any) (ids []string) {
	s.t.Helper()
	var p []byte
	for _, one := range params {
		id, m := s.compose(method, one)
		ids, p = append(ids, id), append(p, text(m)...)
	}
	s.ws.put(s.t, p)
	return ids
}

// reply waits for the reply to a request.
func (s *session) reply(id string) value {
	s.t.Helper()
	var v value
	over := s.wait("the reply to "+id, func() bool {
		got, ok := s.replies[id]
		v = got
		return ok
	})
	if over {
		s.t.Fatalf("%s: the connection ended with %v before the reply to %s; %s", s.who.username, *s.end, id, s.lastWords())
	}
	return v
}

func (s *session) call(method string, params any) value {
	s.t.Helper()
	return s.reply(s.start(method, params))
}

// ok is a request that must succeed.
func (s *session) ok(method string, params any) value {
	s.t.Helper()
	v := s.call(method, params)
	if !v.has("result") {
		s.t.Fatalf("%s: %s %s answered %s", s.who.username, method, brief(params), v)
	}
	return v.get("result")
}

// fail is a request that must be refused with that kind and field ("" for none).
func (s *session) fail(method string, params any, kind, field string) value {
	s.t.Helper()
	v := s.call(method, params)
	s.wantError(v, method+" "+brief(params), kind, field)
	return v.get("error")
}

// bad is a request whose params are bad: -32602.
func (s *session) bad(method string, params any, field string) {
	s.t.Helper()
	v := s.call(method, params)
	if v.get("error", "code").num() != -32602 || field != "" && v.get("error", "data", "field").str() != field {
		s.t.Errorf("%s: %s %s must be bad params, field %q, and answered %s", s.who.username, method, brief(params), field, v)
	}
}

func (s *session) wantError(v value, what, kind, field string) {
	s.t.Helper()
	e := v.get("error")
	if e.get("data", "kind").str() != kind || field != "" && e.get("data", "field").str() != field {
		s.t.Errorf("%s: %s must be %s %s, and answered %s", s.who.username, what, kind, field, v)
	}
}

// notify sends a request without an id.
func (s *session) notify(method string, params any) {
	s.t.Helper()
	s.ws.put(s.t, text(request("", method, params)))
}

// until returns the next message after those looked at for which ok says true; those before it are looked at then.
func (s *session) until(what string, ok func(message) bool) message {
	s.t.Helper()
	var found message
	at := s.at
	over := s.wait(what, func() bool {
		for at < len(s.all) {
			m := s.all[at]
			at++
			if ok(m) {
				found = m
				return true
			}
		}
		return false
	})
	if over {
		s.t.Fatalf("%s: the connection ended with %v before %s; %s", s.who.username, *s.end, what, s.lastWords())
	}
	s.at = at
	return found
}

// entry waits for the event of one entry.
func (s *session) entry(conv string, seq int64) value {
	s.t.Helper()
	return s.until(fmt.Sprintf("entry %d of %s", seq, conv), func(m message) bool {
		p := m.get("params")
		return m.event() == "entry" && p.get("conversation").str() == conv && p.get("seq").num() == seq
	}).get("params")
}

// changed waits for conversation.changed of a conversation.
func (s *session) changed(conv string) value {
	s.t.Helper()
	return s.until("conversation.changed of "+conv, func(m message) bool {
		return m.event() == "conversation.changed" && m.get("params", "id").str() == conv
	}).get("params")
}

// seen returns what came up to now, looked at or not.
func (s *session) seen() []message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]message(nil), s.all...)
}

// ended waits for the end of the connection.
func (s *session) ended() ending {
	s.t.Helper()
	s.wait("the end", func() bool { return s.end != nil })
	s.mu.Lock()
	defer s.mu.Unlock()
	return *s.end
}

// key returns a new idempotency key.
func key() string { return rand.Text() }

// send posts a message and returns its seq.
func (s *session) send(conv, text string) int64 {
	s.t.Helper()
	return s.ok("message.send", J{"conversation": conv, "text": text, "key": key()}).get("seq").num()
}

// create makes a conversation with members beside the caller.
func (s *session) create(kind, title string, members ...*person) string {
	s.t.Helper()
	return s.ok("conversation.create", J{"kind": kind, "title": title, "members": ids(members...), "key": key()}).get("id").str()
}

func (s *session) direct(with *person) string {
	s.t.Helper()
	return s.ok("conversation.direct", J{"user": with.id}).get("id").str()
}

func (s *session) head(conv string) value {
	s.t.Helper()
	return s.ok("conversation.get", J{"id": conv})
}

// page is message.history with further params.
func (s *session) page(conv string, more J) value {
	s.t.Helper()
	p := J{"conversation": conv}
	for k, v := range more {
		p[k] = v
	}
	return s.ok("message.history", p)
}

// log pulls the whole log, page by page.
func (s *session) log(conv string) []value {
	s.t.Helper()
	var entries []value
	for after := int64(0); ; {
		page := s.page(conv, J{"after": after})
		entries = append(entries, page.get("entries").list()...)
		if n := len(page.get("entries").list()); n > 0 {
			after = page.get("entries", n-1, "seq").num()
		} else if after < page.get("head").num() {
			s.t.Fatalf("an empty page after %d, and the head is %s", after, page.get("head"))
		}
		if after >= page.get("head").num() {
			return entries
		}
	}
}

func ids(people ...*person) []string {
	list := make([]string, len(people))
	for i, p := range people {
		list[i] = p.id
	}
	return list
}
