package netloop

import (
	"encoding/binary"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// Close codes that this package itself sends (RFC 6455 §7.4.1, PROTOCOL 3.9).
const (
	closeNormal     = 1000
	closeGoingAway  = 1001
	closeProtocol   = 1002
	closeBinary     = 1003
	closeNoStatus   = 1005 // never on the wire: a close frame without a code
	closeAbnormal   = 1006 // never on the wire: the peer vanished
	closeNotUTF8    = 1007
	closeTooBig     = 1009
	closeSlowReader = 4001
)

// Opcodes of RFC 6455 §5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

// maxControlPayload is the bound of RFC 6455 §5.5 in bytes.
const maxControlPayload = 125

// maxHeaderBytes is the longest header a client frame can have: two bytes,
// eight of length, four of mask.
const maxHeaderBytes = 14

// frameError is why a connection is failed: the close code and a reason that
// may leave the box (it names the rule, never the content).
type frameError struct {
	code   uint16
	reason string
}

func (e *frameError) Error() string { return e.reason }

var (
	errReservedBits   = &frameError{closeProtocol, "reserved bits are set"}
	errOpcode         = &frameError{closeProtocol, "unknown opcode"}
	errUnmasked       = &frameError{closeProtocol, "client frames are masked"}
	errControlTooLong = &frameError{closeProtocol, "control frame over 125 bytes"}
	errControlFrag    = &frameError{closeProtocol, "control frame in fragments"}
	errLength         = &frameError{closeProtocol, "length is not minimal"}
	errNoFirst        = &frameError{closeProtocol, "continuation of nothing"}
	errInterleaved    = &frameError{closeProtocol, "new message inside a fragmented one"}
	errCloseLength    = &frameError{closeProtocol, "close frame of one byte"}
	errCloseCode      = &frameError{closeProtocol, "bad close code"}
	errBinary         = &frameError{closeBinary, "binary message"}
	errNotUTF8        = &frameError{closeNotUTF8, "text is not UTF-8"}
	errTooBig         = &frameError{closeTooBig, "message too long"}
)

// frameHeader is one parsed client frame header.
type frameHeader struct {
	fin    bool
	op     byte
	mask   [4]byte
	length uint64 // payload bytes announced
	size   int    // header bytes; 0: more bytes are needed
}

// parseFrameHeader reads a client frame header off the front of p (RFC 6455
// §5.2). What a rule forbids is an error as soon as the bytes that show it are
// there, also when the rest of the header is not.
func parseFrameHeader(p []byte) (h frameHeader, fail *frameError) {
	if len(p) < 2 {
		return h, nil
	}
	if p[0]&0x70 != 0 {
		return h, errReservedBits // no extension is ever negotiated
	}
	h.fin, h.op = p[0]&0x80 != 0, p[0]&0x0f
	switch h.op {
	case opContinuation, opText, opBinary:
	case opClose, opPing, opPong:
		if !h.fin {
			return h, errControlFrag
		}
		if p[1]&0x7f > maxControlPayload {
			return h, errControlTooLong
		}
	default:
		return h, errOpcode
	}
	if p[1]&0x80 == 0 {
		return h, errUnmasked
	}
	at := 2
	switch n := p[1] & 0x7f; n {
	default:
		h.length = uint64(n)
	case 126:
		if len(p) < 4 {
			return h, nil
		}
		h.length = uint64(binary.BigEndian.Uint16(p[2:]))
		if h.length < 126 {
			return h, errLength
		}
		at = 4
	case 127:
		if len(p) < 10 {
			return h, nil
		}
		h.length = binary.BigEndian.Uint64(p[2:])
		if h.length <= 0xffff || h.length>>63 != 0 {
			return h, errLength
		}
		at = 10
	}
	if len(p) < at+4 {
		return h, nil
	}
	copy(h.mask[:], p[at:])
	h.size = at + 4
	return h, nil
}

// frameKind says what frameReader.next found.
type frameKind uint8

const (
	frameNone  frameKind = iota // nothing whole yet
	frameText                   // a complete message
	framePing                   // payload to be echoed
	framePong                   //
	frameClose                  // payload: code and reason, unchecked
)

// frameReader turns the byte stream of one client into messages and control
// frames. It is pure: bytes in, events out, no clock, no I/O. The zero value is
// ready. It holds memory only while a frame or a message is incomplete, and
// never more than about twice what has arrived, whatever a header announces.
type frameReader struct {
	part []byte // an incomplete frame as it came, header included
	need int    // size of that frame; 0 while its header is incomplete
	msg  []byte // unmasked fragments of an incomplete message
	good int    // msg[:good] is known to be whole, valid UTF-8
	frag bool   // inside a fragmented message

	partLent, msgLent bool // handed out by the last next; free at the following one
}

// idle reports whether the reader holds nothing, so that it can be given away.
func (r *frameReader) idle() bool {
	return !r.frag && (len(r.part) == 0 || r.partLent)
}

// release forgets what was lent, and keeps buffers of up to keep bytes.
func (r *frameReader) release(keep int) {
	r.settle()
	if cap(r.part) > keep {
		r.part = nil
	}
	if cap(r.msg) > keep {
		r.msg = nil
	}
}

func (r *frameReader) settle() {
	if r.partLent {
		r.part, r.partLent = r.part[:0], false
	}
	if r.msgLent {
		r.msg, r.msgLent = r.msg[:0], false
	}
}

// next takes the next whole frame off in, which it changes (unmasking happens in
// place), and returns what follows it. frameNone with an empty rest means that
// all of in was consumed and more is needed; frameNone with a rest means that a
// fragment was taken: call again. payload is lent until the next call. max is the
// bound of a message in bytes over all its fragments; it is held against the
// announced length. After a failure the reader is not to be used again.
func (r *frameReader) next(in []byte, max int) (kind frameKind, payload, rest []byte, fail *frameError) {
	r.settle()
	var frame []byte
	if len(r.part) == 0 {
		h, fail := parseFrameHeader(in)
		if fail != nil {
			return 0, nil, nil, fail
		}
		if h.size == 0 {
			r.part, r.need = append(r.part, in...), 0
			return frameNone, nil, nil, nil
		}
		if fail := r.check(h, max); fail != nil {
			return 0, nil, nil, fail
		}
		total := h.size + int(h.length)
		if len(in) < total {
			r.part, r.need = append(r.part, in...), total
			return frameNone, nil, nil, nil
		}
		frame, rest = in[:total], in[total:]
		return r.take(h, frame, rest)
	}

	// Something is set aside: complete the header, then the payload.
	var h frameHeader
	for {
		if h, fail = parseFrameHeader(r.part); fail != nil {
			return 0, nil, nil, fail
		}
		if h.size != 0 {
			break
		}
		if len(in) == 0 {
			return frameNone, nil, nil, nil
		}
		r.part, in = append(r.part, in[0]), in[1:]
	}
	if r.need == 0 {
		if fail := r.check(h, max); fail != nil {
			return 0, nil, nil, fail
		}
		r.need = h.size + int(h.length)
	}
	n := min(r.need-len(r.part), len(in))
	r.part, rest = append(r.part, in[:n]...), in[n:]
	if len(r.part) < r.need {
		return frameNone, nil, nil, nil
	}
	r.partLent = true
	return r.take(h, r.part, rest)
}

// check judges a header in the light of what came before (RFC 6455 §5.4).
func (r *frameReader) check(h frameHeader, max int) *frameError {
	switch h.op {
	case opContinuation:
		if !r.frag {
			return errNoFirst
		}
	case opText, opBinary:
		if r.frag {
			return errInterleaved
		}
		if h.op == opBinary {
			return errBinary
		}
	default:
		return nil
	}
	// max - len(msg) cannot be negative: each fragment passed this line. It can
	// after max was lowered by a reload, hence the comparison in this order.
	if room := max - len(r.msg); room < 0 || h.length > uint64(room) {
		return errTooBig
	}
	return nil
}

// take unmasks a whole frame and says what it is.
func (r *frameReader) take(h frameHeader, frame, rest []byte) (frameKind, []byte, []byte, *frameError) {
	p := frame[h.size:]
	ws.Cipher(p, h.mask, 0)
	switch h.op {
	case opPing:
		return framePing, p, rest, nil
	case opPong:
		return framePong, p, rest, nil
	case opClose:
		return frameClose, p, rest, nil
	case opText:
		if h.fin {
			if !utf8.Valid(p) {
				return 0, nil, nil, errNotUTF8
			}
			return frameText, p, rest, nil
		}
	}
	r.msg = append(r.msg, p...)
	r.frag = !h.fin
	end := len(r.msg)
	if r.frag {
		end -= incompleteRune(r.msg[r.good:])
	}
	if !utf8.Valid(r.msg[r.good:end]) {
		return 0, nil, nil, errNotUTF8
	}
	r.good = end
	if r.frag {
		return frameNone, nil, rest, nil
	}
	r.good, r.msgLent = 0, true
	return frameText, r.msg, rest, nil
}

// incompleteRune returns how many bytes at the end of p begin a rune that a later
// fragment may complete (0 to 3).
func incompleteRune(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if tail := p[len(p)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// parseClose reads the payload of a close frame (RFC 6455 §5.5.1, §7.4). Without a
// code it answers 1005.
func parseClose(p []byte) (code uint16, reason []byte, fail *frameError) {
	if len(p) == 0 {
		return closeNoStatus, nil, nil
	}
	if len(p) == 1 {
		return 0, nil, errCloseLength
	}
	code = binary.BigEndian.Uint16(p)
	if !validCloseCode(code) {
		return 0, nil, errCloseCode
	}
	if !utf8.Valid(p[2:]) {
		return 0, nil, errNotUTF8
	}
	return code, p[2:], nil
}

// validCloseCode tells whether code may stand on the wire: what RFC 6455 §7.4.1
// and the IANA registry define (1012–1014 came later), and the ranges for
// libraries and applications. 1004–1006 and 1015 are reserved.
func validCloseCode(code uint16) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return code >= 3000 && code <= 4999
}

// AppendTextFrame appends to dst one final text frame of a server: header and
// payload, unmasked (RFC 6455 §5.2). Any goroutine.
func AppendTextFrame(dst, payload []byte) []byte {
	return append(appendServerHeader(dst, opText, len(payload)), payload...)
}

func appendServerHeader(dst []byte, op byte, n int) []byte {
	dst = append(dst, 0x80|op)
	switch {
	case n <= 125:
		return append(dst, byte(n))
	case n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
}

// appendCloseFrame appends a close frame. A code that must not stand on the wire
// becomes an empty close frame; a reason is cut to what a control frame holds, at
// a rune's edge.
func appendCloseFrame(dst []byte, code uint16, reason string) []byte {
	if !validCloseCode(code) {
		return appendServerHeader(dst, opClose, 0)
	}
	if most := maxControlPayload - 2; len(reason) > most {
		for most > 0 && !utf8.RuneStart(reason[most]) {
			most--
		}
		reason = reason[:most]
	}
	dst = appendServerHeader(dst, opClose, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, reason...)
}
