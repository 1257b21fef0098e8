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

	"github.com/gobwas/ws"

	"github.com/pipit-im/pipit/pkg/im"
)

// maxServerFrame bounds what the server may announce (the protocol bounds only
// the other direction): a page of 200 messages of 16 KiB fits several times.
const maxServerFrame = 32 << 20

// dialTimeout bounds connecting, upgrade and hello together.
const dialTimeout = 30 * time.Second

// conn is one WebSocket connection. Reading is the run goroutine's; writing may
// be anybody's.
type conn struct {
	nc      net.Conn
	br      *bufio.Reader
	buf     []byte // of the run goroutine, reused for each message
	silence time.Duration

	wmu    sync.Mutex // guards writes and wbuf
	wbuf   []byte
	closed bool // a close frame was sent
}

// dial connects and upgrades (PROTOCOL 1.1).
func dial(ctx context.Context, o *Options) (*conn, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" {
		return nil, im.E(im.Invalid, "%q is no server address: write http://host:port.", o.URL)
	}
	target := *u
	target.Scheme = map[string]string{"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}[strings.ToLower(u.Scheme)]
	if target.Scheme == "" {
		return nil, im.E(im.Invalid, "%q is no server address: write http://host:port.", o.URL)
	}
	target.Path = strings.TrimSuffix(u.Path, "/") + "/v1/ws"
	d := ws.Dialer{Protocols: []string{"pipit.v1"}, NetDial: o.Dial, TLSConfig: o.TLS, ReadBufferSize: 1024, WriteBufferSize: 512}
	nc, br, hs, err := d.Dial(ctx, target.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if hs.Protocol != "pipit.v1" {
		return nil, errors.Join(im.E(im.Invalid, "%s is no Pipit server.", o.URL), nc.Close())
	}
	if br == nil {
		br = bufio.NewReaderSize(nc, 2048)
	}
	return &conn{nc: nc, br: br, silence: 45 * time.Second}, nil
}

// write sends one text message. A failure shows at the reader.
func (k *conn) write(payload []byte) { k.frame(ws.OpText, payload) }

func (k *conn) frame(op ws.OpCode, payload []byte) {
	k.wmu.Lock()
	defer k.wmu.Unlock()
	if k.closed {
		return
	}
	k.closed = op == ws.OpClose
	mask := ws.NewMask()
	b := k.wbuf[:0]
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
	// A server that takes nothing for so long is as good as gone; the reader's
	// own deadline would find out later.
	if err := k.nc.SetWriteDeadline(time.Now().Add(k.silence)); err == nil {
		_, err = k.nc.Write(b)
		if err != nil {
			k.nc.Close()
		}
	}
	if cap(b) <= 4096 {
		k.wbuf = b
	} else {
		k.wbuf = nil
	}
}

// close sends a close frame and ends the connection.
func (k *conn) close(code uint16) {
	k.frame(ws.OpClose, binary.BigEndian.AppendUint16(nil, code))
	k.nc.Close()
}

// next returns the next text message, valid until the next call. It answers
// pings, and pings itself when the server is silent for too long. The error is
// a *CloseError.
func (k *conn) next() ([]byte, error) {
	k.buf = k.buf[:0]
	pinged, started := false, false
	for {
		if err := k.nc.SetReadDeadline(time.Now().Add(k.silence)); err != nil {
			return nil, &CloseError{Code: 1006, Cause: err}
		}
		// Peek takes nothing, so a time-out between frames loses nothing.
		if _, err := k.br.Peek(2); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) && !pinged {
				pinged = true
				k.frame(ws.OpPing, nil)
				continue
			}
			return nil, &CloseError{Code: 1006, Cause: err}
		}
		h, err := ws.ReadHeader(k.br)
		if err != nil {
			return nil, &CloseError{Code: 1006, Cause: err}
		}
		if h.Masked || h.Rsv != 0 || h.Length > maxServerFrame-int64(len(k.buf)) {
			k.close(1002)
			return nil, &CloseError{Code: 1002, Reason: "the server broke RFC 6455"}
		}
		if h.OpCode.IsControl() {
			if err := k.control(h); err != nil {
				return nil, err
			}
			continue
		}
		if (h.OpCode == ws.OpContinuation) != started || h.OpCode == ws.OpBinary {
			k.close(1002)
			return nil, &CloseError{Code: 1002, Reason: "the server broke RFC 6455"}
		}
		started = true
		n := len(k.buf)
		k.buf = append(k.buf, make([]byte, h.Length)...)
		if _, err := io.ReadFull(k.br, k.buf[n:]); err != nil {
			return nil, &CloseError{Code: 1006, Cause: err}
		}
		if h.Fin {
			return k.buf, nil
		}
	}
}

func (k *conn) control(h ws.Header) error {
	if h.Length > ws.MaxControlFramePayloadSize || !h.Fin {
		k.close(1002)
		return &CloseError{Code: 1002, Reason: "the server broke RFC 6455"}
	}
	p := make([]byte, h.Length)
	if _, err := io.ReadFull(k.br, p); err != nil {
		return &CloseError{Code: 1006, Cause: err}
	}
	switch h.OpCode {
	case ws.OpPing:
		k.frame(ws.OpPong, p)
	case ws.OpClose:
		code, reason := ws.ParseCloseFrameData(p)
		k.close(uint16(code))
		return &CloseError{Code: uint16(code), Reason: reason}
	}
	return nil
}
