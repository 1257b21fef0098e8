package netloop

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/gobwas/ws"
)

// tlsHello is the first byte of a TLS connection: a handshake record.
const tlsHello = 0x16

// maxHelloBytes bounds the first TLS record: its header and the 16 KiB that RFC 8446
// §5.1 allows.
const maxHelloBytes = 5 + 16<<10

// opening is what came before a decision could be made. It is made with the first
// bytes that are not enough.
type opening struct {
	buf     []byte
	scanned int // of buf, by headEnd
}

// headInput takes bytes of a connection that is neither upgraded nor handed over.
func (c *Conn) headInput(p []byte) {
	first := c.head == nil
	from := 0
	if !first {
		from = c.head.scanned
		c.head.buf = append(c.head.buf, p...)
		p = c.head.buf
	} else if c.tls == nil {
		c.mark = c.loop.after(c.loop.s.cfg.HeaderTimeout)
		c.rearm()
	}
	if c.tls == nil && p[0] == tlsHello {
		c.hello(p)
		return
	}
	if c.tls == nil && c.wantTLS {
		c.refuse(http.StatusBadRequest, "this port speaks TLS", "")
		return
	}
	end, scanned, fail := headEnd(p, from)
	if fail == nil && end == 0 {
		if first {
			c.head = &opening{buf: bytes.Clone(p)}
		}
		c.head.scanned = scanned
		return
	}
	var h requestHead
	if fail == nil {
		h, fail = parseHead(p[:end])
	}
	if fail == nil && !h.wantsWebSocket(c.loop.s.cfg.WSPath) {
		c.handOver(p)
		return
	}
	if fail == nil {
		fail = h.checkUpgrade(c.loop.s.cfg.Subprotocol)
	}
	if fail != nil {
		c.loop.s.n.headErrors.Add(1)
		extra := ""
		if fail == errWSVersion {
			extra = "Sec-WebSocket-Version: 13\r\n"
		}
		c.refuse(fail.status, fail.reason, extra)
		return
	}
	c.upgrade(&h, p[:end], p[end:])
}

// hello waits for the whole first TLS record: a peer that never sends it must not
// hold a goroutine.
func (c *Conn) hello(p []byte) {
	s := c.loop.s
	if s.cfg.TLS == nil {
		s.n.refusedHandshake.Add(1)
		c.destroy()
		return
	}
	if len(p) >= 5 {
		size := 5 + int(p[3])<<8 + int(p[4])
		if size > maxHelloBytes {
			s.n.handshakeFailed.Add(1)
			c.destroy()
			return
		}
		if len(p) >= size {
			c.handshake(bytes.Clone(p))
			return
		}
	}
	if c.head == nil {
		c.head = &opening{buf: bytes.Clone(p)}
	}
}

// upgrade answers a checked upgrade and opens the WebSocket. head and rest are lent;
// rest is what the client sent behind its request.
func (c *Conn) upgrade(h *requestHead, head, rest []byte) {
	s := c.loop.s
	path, query := h.path()
	req := &Request{
		Host: string(h.host), Path: string(path), RawQuery: string(query), Origin: string(h.origin),
		Remote: c.Remote(), TLS: c.tls != nil, Cookie: string(h.cookie), UserAgent: string(h.userAgent),
	}
	if err := s.cfg.Upgrade(req); err != nil {
		s.n.upgradeRefused.Add(1)
		var refused *RefuseError
		if !errors.As(err, &refused) {
			s.log.Error("decide an upgrade", "err", err)
			refused = &RefuseError{Status: http.StatusInternalServerError, Message: "internal error"}
		}
		c.refuse(refused.Status, refused.Message, "")
		return
	}
	rw := headAndAnswer{head: head, answer: make([]byte, 0, 256)}
	if err := answerUpgrade(&rw, s.cfg.Subprotocol); err != nil {
		s.n.headErrors.Add(1) // the library is stricter than we are, somewhere
		c.refuse(http.StatusBadRequest, "bad WebSocket upgrade", "")
		return
	}
	c.head = nil // rest may point into it; then it lives until we return
	c.data = req.Data
	c.phase = phaseOpen
	c.opened = true
	c.mark = c.loop.tick()
	c.rearm()
	s.n.upgraded.Add(1)
	s.n.sessions.Add(1)
	c.push(rw.answer)
	s.cfg.Handler.Open(c)
	if len(rest) > 0 {
		c.input(rest)
	}
}

// answerUpgrade lets the library read a checked head and write the answer.
func answerUpgrade(rw *headAndAnswer, subprotocol string) error {
	up := ws.Upgrader{
		ReadBufferSize: maxHeadBytes, WriteBufferSize: 512,
		Protocol: func(p []byte) bool { return string(p) == subprotocol },
	}
	_, err := up.Upgrade(rw)
	return err
}

// headAndAnswer feeds ws.Upgrader, which reads and writes in a blocking way, with
// bytes that are all there.
type headAndAnswer struct {
	head, answer []byte
}

func (rw *headAndAnswer) Read(p []byte) (int, error) {
	if len(rw.head) == 0 {
		return 0, errors.New("read past the request head")
	}
	n := copy(p, rw.head)
	rw.head = rw.head[n:]
	return n, nil
}

func (rw *headAndAnswer) Write(p []byte) (int, error) {
	rw.answer = append(rw.answer, p...)
	return len(p), nil
}

// refuse answers with problem+json (PROTOCOL 9.1) and closes. extra is a header line
// with its line end, or "".
func (c *Conn) refuse(status int, message, extra string) {
	c.beginClosing(0, "")
	c.push(problem(status, message, extra))
}

// problemKinds are PROTOCOL 2's kinds for the statuses that the front door uses;
// im has the whole table, a storey that this package need not know.
var problemKinds = map[int]string{
	http.StatusUnauthorized:          "unauthenticated",
	http.StatusForbidden:             "forbidden",
	http.StatusNotFound:              "not_found",
	http.StatusRequestEntityTooLarge: "too_large",
	http.StatusTooManyRequests:       "rate_limited",
	http.StatusServiceUnavailable:    "unavailable",
	http.StatusInternalServerError:   "internal",
}

// problem makes a whole HTTP/1.1 response.
func problem(status int, message, extra string) []byte {
	kind, known := problemKinds[status]
	if !known {
		kind = "invalid"
	}
	title := http.StatusText(status)
	body, err := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Kind   string `json:"kind"`
	}{title, status, message, kind})
	if err != nil {
		body = []byte("{}") // three strings and an int always marshal
	}
	b := make([]byte, 0, 256+len(body))
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, title...)
	b = append(b, "\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"...)
	b = append(b, extra...)
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}
