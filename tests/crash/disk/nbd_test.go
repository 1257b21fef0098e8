package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// script is an io.ReadWriter of what a client says and what it was told.
type script struct {
	io.Reader
	bytes.Buffer
}

func (s *script) Read(p []byte) (int, error) { return s.Reader.Read(p) }

func option(kind uint32, data ...byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, nbdOptionMagic)
	b = binary.BigEndian.AppendUint32(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

func TestNegotiation(t *testing.T) {
	fixed, noZeroes := []byte{0, 0, 0, 1}, []byte{0, 0, 0, 3}
	goAll := option(nbdOptGo, 0, 0, 0, 0, 0, 0)
	for _, c := range []struct {
		name    string
		says    [][]byte
		ok      bool
		replies []uint32 // kinds, in order
	}{
		{"go", [][]byte{fixed, goAll}, true, []uint32{nbdRepInfo, nbdRepInfo, nbdRepAck}},
		{"go after unknown options", [][]byte{fixed, option(8), option(5), goAll}, true,
			[]uint32{nbdRepErrUnsup, nbdRepErrUnsup, nbdRepInfo, nbdRepInfo, nbdRepAck}},
		{"info, then go", [][]byte{fixed, option(nbdOptInfo, 0, 0, 0, 0, 0, 0), goAll}, true,
			[]uint32{nbdRepInfo, nbdRepInfo, nbdRepAck, nbdRepInfo, nbdRepInfo, nbdRepAck}},
		{"list", [][]byte{fixed, option(nbdOptList), goAll}, true, []uint32{nbdRepServer, nbdRepAck, nbdRepInfo, nbdRepInfo, nbdRepAck}},
		{"go with a name longer than the option", [][]byte{fixed, option(nbdOptGo, 0, 0, 0, 9, 'x', 0), goAll}, true,
			[]uint32{nbdRepErrInvalid, nbdRepInfo, nbdRepInfo, nbdRepAck}},
		{"export name", [][]byte{noZeroes, option(nbdOptExportName)}, true, nil},
		{"abort", [][]byte{fixed, option(nbdOptAbort)}, false, []uint32{nbdRepAck}},
		{"oldstyle client", [][]byte{{0, 0, 0, 0}}, false, nil},
		{"unknown client flag", [][]byte{{0, 0, 0, 5}}, false, nil},
		{"wrong magic", [][]byte{fixed, bytes.Repeat([]byte{1}, 16)}, false, nil},
		{"option of 4 GiB", [][]byte{fixed, append(option(nbdOptGo)[:12], 255, 255, 255, 255)}, false, nil},
		{"cut short", [][]byte{fixed, goAll[:10]}, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &script{Reader: bytes.NewReader(slices.Concat(c.says...))}
			if err := negotiate(s, 1<<24); (err == nil) != c.ok {
				t.Fatalf("negotiate: %v", err)
			} else if c.name == "option of 4 GiB" && !strings.Contains(err.Error(), "announces") {
				t.Fatalf("refused only after the room was made for it: %v", err)
			}
			told := s.Bytes()[18:]
			if c.name == "export name" {
				if len(told) != 10 || binary.BigEndian.Uint64(told) != 1<<24 {
					t.Errorf("told % x", told)
				}
				return
			}
			var kinds []uint32
			for len(told) >= 20 {
				kinds = append(kinds, binary.BigEndian.Uint32(told[12:]))
				told = told[20+binary.BigEndian.Uint32(told[16:]):]
			}
			if !slices.Equal(kinds, c.replies) {
				t.Errorf("replies %v, want %v", kinds, c.replies)
			}
		})
	}
}

// memory is a backend of 1 KiB.
type memory struct {
	b       [1024]byte
	flushes int
	fuas    int
	fail    error
}

func (m *memory) read(p []byte, off int64) error {
	copy(p, m.b[off:])
	return m.fail
}

func (m *memory) write(p []byte, off int64, fua bool) error {
	if fua {
		m.fuas++
	}
	copy(m.b[off:], p)
	return m.fail
}

func (m *memory) zero(off int64, length uint32, _ bool) error {
	clear(m.b[off:][:length])
	return m.fail
}

func (m *memory) flush(done func(error)) {
	m.flushes++
	go done(m.fail)
}

// client speaks the transmission phase by hand.
type client struct {
	t *testing.T
	net.Conn
}

func (c client) request(flags, kind uint16, cookie, off uint64, length uint32, payload []byte) (code uint32) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, nbdRequestMagic)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, off)
	b = binary.BigEndian.AppendUint32(b, length)
	if _, err := c.Write(append(b, payload...)); err != nil {
		c.t.Fatal(err)
	}
	var head [16]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		c.t.Fatal(err)
	}
	if binary.BigEndian.Uint32(head[:]) != nbdSimpleMagic || binary.BigEndian.Uint64(head[8:]) != cookie {
		c.t.Fatalf("reply head % x for cookie %d", head, cookie)
	}
	return binary.BigEndian.Uint32(head[4:])
}

func TestTransmission(t *testing.T) {
	here, there := net.Pipe()
	m := &memory{}
	ended := make(chan error, 1)
	go func() { ended <- transmit(there, int64(len(m.b)), m) }()
	c := client{t, here}

	if code := c.request(nbdCmdFlagFUA, nbdCmdWrite, 1, 100, 5, []byte("hello")); code != 0 || m.fuas != 1 {
		t.Errorf("write with FUA: %d, seen %d times", code, m.fuas)
	}
	if code := c.request(0, nbdCmdRead, 2, 100, 5, nil); code != 0 {
		t.Errorf("read: %d", code)
	}
	var p [5]byte
	if _, err := io.ReadFull(c, p[:]); err != nil || string(p[:]) != "hello" {
		t.Errorf("read %q, %v", p, err)
	}
	if code := c.request(0, nbdCmdTrim, 3, 101, 2, nil); code != 0 || string(m.b[100:105]) != "h\x00\x00lo" {
		t.Errorf("trim: %d, %q", code, m.b[100:105])
	}
	if code := c.request(0, nbdCmdFlush, 4, 0, 0, nil); code != 0 || m.flushes != 1 {
		t.Errorf("flush: %d, %d seen", code, m.flushes)
	}
	for name, code := range map[string]uint32{
		"write over the end":  c.request(0, nbdCmdWrite, 5, 1020, 5, []byte("hello")),
		"read behind the end": c.request(0, nbdCmdRead, 6, 1<<63, 1, nil),
		"trim over the end":   c.request(0, nbdCmdTrim, 7, 0, 1025, nil),
		"unknown command":     c.request(0, 99, 8, 0, 0, nil),
	} {
		if code != nbdErrInvalid {
			t.Errorf("%s: %d", name, code)
		}
	}
	m.fail = errors.New("planted")
	for name, code := range map[string]uint32{
		"write": c.request(0, nbdCmdWrite, 9, 0, 1, []byte("x")),
		"read":  c.request(0, nbdCmdRead, 10, 0, 1, nil), // an error carries no payload
		"flush": c.request(0, nbdCmdFlush, 11, 0, 0, nil),
		"zero":  c.request(0, nbdCmdWriteZeroes, 12, 0, 1, nil),
	} {
		if code != nbdErrIO {
			t.Errorf("failing %s: %d", name, code)
		}
	}
	here.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("after the client is gone: %v", err)
	}
}

func TestTransmissionRefusesHugeRequests(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	ended := make(chan error, 1)
	go func() { ended <- transmit(there, 1<<40, &memory{}) }()
	b := binary.BigEndian.AppendUint32(nil, nbdRequestMagic)
	b = append(b, make([]byte, 20)...)
	b = binary.BigEndian.AppendUint32(b, nbdMaxPayloadBytes+1)
	if _, err := here.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a read of more than the bound was accepted")
	}
}
