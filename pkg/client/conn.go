package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/pipit-im/pipit/pkg/im"
)

const (
	// maxServerMessage bounds what the server may announce (the protocol bounds
	// only the other direction): a page of 200 messages of 16 KiB fits several
	// times.
	maxServerMessage = 32 << 20

	// maxPendingBytes bounds what waits to be written. The outbox keeps itself far
	// below it (sendWindow); whoever passes it calls without waiting for answers,
	// and the connection ends as if the server took nothing any more.
	maxPendingBytes = 8 << 20

	// dialTimeout bounds connecting, upgrade and hello together.
	dialTimeout = 30 * time.Second

	// closeTimeout bounds the closing handshake, and with it Client.Close.
	closeTimeout = time.Second

	// firstSilence is how long the server may be silent before hello told the
	// heartbeat: that of the protocol's example, and half of it again.
	firstSilence = 45 * time.Second

	// keptBytes is how large a buffer may be to be used again.
	keptBytes = 64 << 10
)

// conn is one WebSocket connection. The run goroutine reads, a goroutine of the
// connection's own writes, and anybody may queue what is written, in order and
// without waiting.
type conn struct {
	nc      net.Conn
	br      *bufio.Reader
	buf     []byte        // run goroutine; reused for each message
	silence time.Duration // run goroutine; after it, a ping; after that again, the end
	gone    chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	pending []byte        // frames that wait for the writer; guarded by mu
	closing bool          // a close frame is the last that was queued; guarded by mu
	ended   bool          // the writer takes nothing more; guarded by mu
	limit   time.Time     // of the closing handshake; guarded by mu
	wake    chan struct{} // one token: something waits
}

// dial connects and upgrades (PROTOCOL 1.1).
func dial(ctx context.Context, o *Options) (*conn, error) {
	target, err := socketURL(o.URL)
	if err != nil {
		return nil, err
	}
	d := ws.Dialer{Protocols: []string{"pipit.v1"}, NetDial: o.Dial, TLSConfig: o.TLS, ReadBufferSize: 1024, WriteBufferSize: 512}
	nc, br, hs, err := d.Dial(ctx, target)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if hs.Protocol != "pipit.v1" {
		return nil, errors.Join(fmt.Errorf("connect: %s is no Pipit server", o.URL), nc.Close())
	}
	if br == nil {
		br = bufio.NewReaderSize(nc, 2048)
	}
	k := &conn{nc: nc, br: br, silence: firstSilence, gone: make(chan struct{}), wake: make(chan struct{}, 1)}
	go k.writer(firstSilence)
	return k, nil
}

// socketURL returns the address of the WebSocket below a server's address.
func socketURL(server string) (string, error) {
	u, err := url.Parse(server)
	bad := im.E(im.Invalid, "%q is no server address: write http://host:port.", server)
	if err != nil || u.Host == "" {
		return "", bad
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return "", bad
	}
	u.Path, u.RawQuery, u.Fragment = strings.TrimSuffix(u.Path, "/")+"/v1/ws", "", ""
	return u.String(), nil
}

// write queues one text message. A failure shows at the reader.
func (k *conn) write(payload []byte) { k.queue(ws.OpText, payload) }

// queue appends a frame to what the writer takes; it never waits, so callers
// may hold a lock that says in which order frames go.
func (k *conn) queue(op ws.OpCode, payload []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing || k.ended {
		return
	}
	if len(k.pending)+len(payload) > maxPendingBytes {
		k.ended = true
		k.nc.Close() // the reader sees it, and the outbox is resent on the next connection
		return
	}
	k.pending = appendFrame(k.pending, op, payload)
	k.signal()
}

// signal wakes the writer; k.mu is held.
func (k *conn) signal() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// appendFrame appends a masked frame (RFC 6455 §5.2, §5.3).
func appendFrame(b []byte, op ws.OpCode, payload []byte) []byte {
	mask := ws.NewMask()
	b = append(b, 0x80|byte(op))
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = append(b, 0x80|126)
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b = append(b, 0x80|127)
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, mask[:]...)
	start := len(b)
	b = append(b, payload...)
	ws.Cipher(b[start:], mask, 0)
	return b
}

// writer writes what is queued, all that waits at once, until the connection
// ends. A server that takes nothing for patience is as good as gone.
func (k *conn) writer(patience time.Duration) {
	defer close(k.gone)
	var spare []byte
	for range k.wake {
		for {
			k.mu.Lock()
			out := k.pending
			k.pending = spare[:0]
			last, limit := k.closing, k.limit
			if len(out) == 0 && k.ended {
				k.mu.Unlock()
				return
			}
			if len(out) > 0 && !last {
				limit = time.Now().Add(patience)
			}
			if len(out) > 0 {
				// Under mu, so that close, which shortens the deadline, comes
				// before or after it, never between.
				if err := k.nc.SetWriteDeadline(limit); err != nil {
					k.ended = true
				}
			}
			k.mu.Unlock()
			if len(out) == 0 {
				spare = out
				break
			}
			if _, err := k.nc.Write(out); err != nil {
				k.nc.Close()
			}
			if spare = out; cap(spare) > keptBytes {
				spare = nil
			}
		}
	}
}

// close queues a close frame, the last one; the reader goes on until the peer
// has answered it, or closeTimeout is over. Code 0 makes one without a code.
func (k *conn) close(code uint16) {
	var payload []byte
	if code != 0 {
		payload = binary.BigEndian.AppendUint16(nil, code)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing || k.ended {
		return
	}
	k.closing, k.limit = true, time.Now().Add(closeTimeout)
	k.pending = appendFrame(k.pending, ws.OpClose, payload)
	// What is being written or read now ends in time; an error means that the
	// connection has ended already.
	if k.nc.SetDeadline(k.limit) == nil {
		k.signal()
	}
}

// end gives the connection back and waits for the writer. A close frame that
// was queued is still written, within closeTimeout. Run goroutine.
func (k *conn) end() {
	k.mu.Lock()
	if !k.closing {
		k.pending = nil
		k.nc.Close()
	}
	k.ended = true
	k.signal()
	k.mu.Unlock()
	<-k.gone
	k.nc.Close()
}

// deadline returns when the next read gives up.
func (k *conn) deadline() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing {
		return k.nc.SetReadDeadline(k.limit)
	}
	return k.nc.SetReadDeadline(time.Now().Add(k.silence))
}

// broken ends a connection whose peer does not keep to RFC 6455.
func (k *conn) broken() error {
	k.close(1002)
	return &CloseError{Code: 1002, Reason: "the server broke RFC 6455"}
}

// next returns the next text message, valid until the next call. It answers
// pings, and pings itself when the server is silent for too long. The error is
// a *CloseError. Run goroutine.
func (k *conn) next() ([]byte, error) {
	if cap(k.buf) > keptBytes {
		k.buf = nil
	}
	k.buf = k.buf[:0]
	pinged, started := false, false
	for {
		if err := k.deadline(); err != nil {
			return nil, &CloseError{Code: 1006, Cause: err}
		}
		// Peek takes nothing, so a time-out between frames loses nothing.
		if _, err := k.br.Peek(2); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && !pinged {
				pinged = true
				k.queue(ws.OpPing, nil)
				continue
			}
			return nil, &CloseError{Code: 1006, Cause: err}
		}
		h, err := ws.ReadHeader(k.br)
		if errors.Is(err, ws.ErrHeaderLengthUnexpected) || errors.Is(err, ws.ErrHeaderLengthMSB) {
			return nil, k.broken()
		}
		if err != nil {
			return nil, &CloseError{Code: 1006, Cause: err}
		}
		if h.Masked || h.Rsv != 0 || h.OpCode.IsReserved() || h.Length > maxServerMessage-int64(len(k.buf)) {
			return nil, k.broken()
		}
		if h.OpCode.IsControl() {
			if err := k.control(h); err != nil {
				return nil, err
			}
			continue
		}
		if (h.OpCode == ws.OpContinuation) != started || h.OpCode == ws.OpBinary {
			return nil, k.broken()
		}
		started = true
		if err := k.payload(h.Length); err != nil {
			return nil, &CloseError{Code: 1006, Cause: err}
		}
		if h.Fin {
			return k.buf, nil
		}
	}
}

// payload appends n bytes to buf, which grows with what came, not with what was
// announced.
func (k *conn) payload(n int64) error {
	for n > 0 {
		part := min(n, keptBytes)
		at := len(k.buf)
		k.buf = append(k.buf, make([]byte, part)...)
		if _, err := io.ReadFull(k.br, k.buf[at:]); err != nil {
			return err
		}
		n -= part
	}
	return nil
}

func (k *conn) control(h ws.Header) error {
	if h.Length > ws.MaxControlFramePayloadSize || !h.Fin || h.OpCode == ws.OpClose && h.Length == 1 {
		return k.broken()
	}
	p := make([]byte, h.Length)
	if _, err := io.ReadFull(k.br, p); err != nil {
		return &CloseError{Code: 1006, Cause: err}
	}
	switch h.OpCode {
	case ws.OpPing:
		k.queue(ws.OpPong, p)
	case ws.OpClose:
		if len(p) == 0 {
			k.close(0)
			return &CloseError{Code: uint16(ws.StatusNoStatusRcvd)}
		}
		code, reason := ws.ParseCloseFrameData(p)
		if !mayClose(code) || !utf8.ValidString(reason) {
			return k.broken()
		}
		k.close(uint16(code)) // RFC 6455 §5.5.1: the code that came is sent back
		return &CloseError{Code: uint16(code), Reason: reason}
	}
	return nil
}

// mayClose says whether a close frame may carry that code: 1004 to 1006 and 1015
// never go over the wire (RFC 6455 §7.4), 1012 to 1014 are registered since
// (gobwas does not know them).
func mayClose(code ws.StatusCode) bool {
	return code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
}
