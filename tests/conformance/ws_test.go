package conformance_test

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// The opcodes of RFC 6455 §5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// socket is the client's half of RFC 6455, and nothing more.
type socket struct {
	net.Conn
	r *bufio.Reader
}

// dialTCP connects without a word.
func (s *server) dialTCP(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

const wsKey = "dGhlIHNhbXBsZSBub25jZQ=="

// upgradeHead is a right upgrade request with lines added; a line "-Name" takes that header out.
func (s *server) upgradeHead(lines ...string) string {
	head := []string{"GET /v1/ws HTTP/1.1", "Host: " + s.addr, "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: " + wsKey, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: pipit.v1"}
	for _, line := range lines {
		if name, ok := strings.CutPrefix(line, "-"); ok {
			kept := head[:0]
			for _, h := range head {
				if !strings.HasPrefix(h, name+":") {
					kept = append(kept, h)
				}
			}
			head = kept
		} else {
			head = append(head, line)
		}
	}
	return strings.Join(head, "\r\n") + "\r\n\r\n"
}

// answerHead reads the head of an HTTP answer.
func answerHead(t *testing.T, r *bufio.Reader) (status int, h http.Header) {
	t.Helper()
	tr := textproto.NewReader(r)
	line, err := tr.ReadLine()
	if err != nil {
		t.Fatalf("no answer to the upgrade: %v", err)
	}
	if _, err := fmt.Sscanf(line, "HTTP/1.1 %d", &status); err != nil {
		t.Fatalf("answered %q", line)
	}
	mime, err := tr.ReadMIMEHeader()
	if err != nil {
		t.Fatal(err)
	}
	return status, http.Header(mime)
}

// open makes a WebSocket.
func (s *server) open(t *testing.T, lines ...string) *socket {
	t.Helper()
	conn := s.dialTCP(t)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, s.upgradeHead(lines...)); err != nil {
		t.Fatal(err)
	}
	ws := &socket{conn, bufio.NewReaderSize(conn, 1<<16)}
	status, h := answerHead(t, ws.r)
	if status != 101 {
		t.Fatalf("upgrade answered %d", status)
	}
	checkUpgrade(t, h)
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	return ws
}

// checkUpgrade holds the answer against RFC 6455 §4.1 and PROTOCOL 1.1.
func checkUpgrade(t *testing.T, h http.Header) {
	t.Helper()
	sum := sha1.Sum([]byte(wsKey + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if got := h.Get("Sec-WebSocket-Accept"); got != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Errorf("Sec-WebSocket-Accept: %q", got)
	}
	if got := h.Values("Sec-WebSocket-Protocol"); len(got) != 1 || got[0] != "pipit.v1" {
		t.Errorf("Sec-WebSocket-Protocol: %q", got)
	}
	if got := h.Values("Sec-WebSocket-Extensions"); len(got) != 0 {
		t.Errorf("Sec-WebSocket-Extensions: %q", got)
	}
	if !strings.EqualFold(h.Get("Upgrade"), "websocket") || !strings.EqualFold(h.Get("Connection"), "upgrade") {
		t.Errorf("Upgrade: %q, Connection: %q", h.Get("Upgrade"), h.Get("Connection"))
	}
}

const fin = 0x80

// frameOf builds a masked frame; first is FIN, reserved bits and opcode.
func frameOf(first byte, payload string) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	var mask [4]byte
	rand.Read(mask[:]) // never fails
	b = append(b, mask[:]...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i&3])
	}
	return b
}

func text(payload string) []byte { return frameOf(fin|opText, payload) }

func closing(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// serverFrame reads one frame of the server and holds it against RFC 6455 §5.
func (ws *socket) serverFrame() (op byte, last bool, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(ws.r, head[:]); err != nil {
		return 0, false, nil, err
	}
	op, last = head[0]&0x0f, head[0]&fin != 0
	if head[0]&0x70 != 0 {
		return 0, false, nil, violation("reserved bits in a frame of the server")
	}
	if head[1]&0x80 != 0 {
		return 0, false, nil, violation("the server masks")
	}
	n := uint64(head[1])
	switch n {
	case 126:
		var b [2]byte
		if _, err := io.ReadFull(ws.r, b[:]); err != nil {
			return 0, false, nil, err
		}
		if n = uint64(binary.BigEndian.Uint16(b[:])); n < 126 {
			return 0, false, nil, violation("length not in its shortest form")
		}
	case 127:
		var b [8]byte
		if _, err := io.ReadFull(ws.r, b[:]); err != nil {
			return 0, false, nil, err
		}
		if n = binary.BigEndian.Uint64(b[:]); n < 1<<16 {
			return 0, false, nil, violation("length not in its shortest form")
		}
	}
	if op >= 8 && (n > 125 || !last) {
		return 0, false, nil, violation("a control frame of %d bytes, fin %v", n, last)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(ws.r, payload)
	return op, last, payload, err
}

// violationError is what only a wrong server does; a cut connection is something else.
type violationError string

func (e violationError) Error() string { return string(e) }

func violation(format string, args ...any) error { return violationError(fmt.Sprintf(format, args...)) }

// ending is how a connection ended.
type ending struct {
	code   uint16 // 1005: a close frame without one; 1006: no close frame
	reason string
}

// endOf judges the payload of a close frame (RFC 6455 §5.5.1, §7.4).
func endOf(payload []byte) (ending, error) {
	if len(payload) == 0 {
		return ending{code: 1005}, nil
	}
	if len(payload) == 1 || !utf8.Valid(payload[2:]) {
		return ending{}, violation("close frame %q", payload)
	}
	e := ending{binary.BigEndian.Uint16(payload), string(payload[2:])}
	if e.code < 1000 || e.code == 1004 || e.code == 1005 || e.code == 1006 || e.code == 1015 || e.code >= 5000 {
		return ending{}, violation("close code %d", e.code)
	}
	return e, nil
}

// put writes bytes as they are.
func (ws *socket) put(t *testing.T, p []byte) {
	t.Helper()
	if err := ws.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	// A server that closes in the middle of what it refuses is right: what it said before is still to be read.
	var late net.Error
	if _, err := ws.Write(p); errors.As(err, &late) && late.Timeout() {
		t.Fatal("the server does not read")
	}
}

// untilEnd reads until the server has closed and returns the texts that came before, and how it ended.
func (ws *socket) untilEnd(t *testing.T) (texts []string, end ending) {
	t.Helper()
	if err := ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	end.code = 1006
	for {
		op, last, payload, err := ws.serverFrame()
		var bad violationError
		var late net.Error
		switch {
		case errors.As(err, &bad):
			t.Fatal(err)
		case errors.As(err, &late) && late.Timeout():
			t.Fatalf("the server does not end the connection; it sent %q and ended %v", texts, end)
		case err != nil:
			return texts, end
		case end.code != 1006:
			t.Fatalf("a frame behind the close frame: opcode %d", op)
		case op == opText && last:
			texts = append(texts, string(payload))
		case op == opPing || op == opPong:
		case op == opClose:
			if end, err = endOf(payload); err != nil {
				t.Fatal(err)
			}
			_, _ = ws.Write(frameOf(fin|opClose, string(payload))) // RFC 6455 §5.5.1; it may be too late
		default:
			t.Fatalf("opcode %d, fin %v", op, last)
		}
	}
}
