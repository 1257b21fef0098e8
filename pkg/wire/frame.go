package wire

import "encoding/binary"

// headerRoom is the longest header of a server frame: two bytes and a 64-bit
// length (RFC 6455 §5.2); servers do not mask.
const headerRoom = 10

const finText = 0x81 // FIN and opcode 1: a complete text message in one frame

// AppendTextFrame appends to dst a complete server text frame that carries
// payload.
func AppendTextFrame(dst, payload []byte) []byte {
	var header [headerRoom]byte
	return append(append(dst, header[putHeader(&header, len(payload)):]...), payload...)
}

// BeginFrame returns a buffer of its own with room for a frame whose payload
// has size bytes: append the payload to it, then call EndFrame. If size was
// enough, that is one allocation and no copy.
func BeginFrame(size int) []byte { return make([]byte, headerRoom, headerRoom+size) }

// EndFrame puts the header directly before the payload that was appended to
// BeginFrame's buffer and returns the frame, which starts where the header
// needs it to.
func EndFrame(b []byte) []byte {
	var header [headerRoom]byte
	from := putHeader(&header, len(b)-headerRoom)
	copy(b[from:], header[from:])
	return b[from:]
}

// putHeader writes the header of a text frame with n bytes of payload to the
// end of h and returns where it starts.
func putHeader(h *[headerRoom]byte, n int) (from int) {
	switch {
	case n < 126:
		from = headerRoom - 2
		h[from+1] = byte(n)
	case n <= 0xffff:
		from = headerRoom - 4
		h[from+1] = 126
		binary.BigEndian.PutUint16(h[from+2:], uint16(n))
	default:
		h[1] = 127
		binary.BigEndian.PutUint64(h[2:], uint64(n))
	}
	h[from] = finText
	return from
}
