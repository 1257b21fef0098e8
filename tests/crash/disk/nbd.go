package disk

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// The network block device protocol as far as nbdfuse and other libnbd clients need it: fixed newstyle negotiation
// with NBD_OPT_GO, NBD_OPT_INFO, NBD_OPT_LIST and NBD_OPT_EXPORT_NAME, simple replies, and the commands read, write, flush, trim
// and write-zeroes, with FUA. Numbers and names are those of the protocol document (NetworkBlockDevice/nbd, doc/proto.md).
const (
	nbdMagic        = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOptionMagic  = 0x49484156454f5054 // "IHAVEOPT"
	nbdReplyMagic   = 0x0003e889045565a9
	nbdRequestMagic = 0x25609513
	nbdSimpleMagic  = 0x67446698

	nbdFlagFixedNewstyle = 1 << 0
	nbdFlagNoZeroes      = 1 << 1

	nbdOptExportName = 1
	nbdOptAbort      = 2
	nbdOptList       = 3
	nbdOptInfo       = 6
	nbdOptGo         = 7

	nbdRepAck        = 1
	nbdRepServer     = 2
	nbdRepInfo       = 3
	nbdRepErrUnsup   = 1<<31 + 1
	nbdRepErrInvalid = 1<<31 + 3

	nbdInfoExport    = 0
	nbdInfoBlockSize = 3

	nbdCmdRead        = 0
	nbdCmdWrite       = 1
	nbdCmdDisconnect  = 2
	nbdCmdFlush       = 3
	nbdCmdTrim        = 4
	nbdCmdWriteZeroes = 6
	nbdCmdFlagFUA     = 1 << 0

	// has flags, send flush, send FUA, send trim, send write-zeroes. Not multi-conn: one connection keeps one order.
	nbdExportFlags = 1<<0 | 1<<2 | 1<<3 | 1<<5 | 1<<6

	nbdMaxOptionBytes  = 4096
	nbdMaxPayloadBytes = 32 << 20

	nbdErrIO      = 5
	nbdErrInvalid = 22
)

// backend is what a connection serves. Calls come from the connection's goroutine, in the order of the requests;
// an error is answered as EIO.
type backend interface {
	read(p []byte, off int64) error
	write(p []byte, off int64, fua bool) error
	zero(off int64, length uint32, fua bool) error
	// flush returns at once; done is called once, from any goroutine, when the flush has completed.
	flush(done func(error))
}

var errAborted = errors.New("nbd: the client aborted the negotiation")

// negotiate runs the handshake on rw for one export of size bytes, whatever its name, and returns when the transmission phase begins.
func negotiate(rw io.ReadWriter, size int64) error {
	hello := binary.BigEndian.AppendUint64(nil, nbdMagic)
	hello = binary.BigEndian.AppendUint64(hello, nbdOptionMagic)
	hello = binary.BigEndian.AppendUint16(hello, nbdFlagFixedNewstyle|nbdFlagNoZeroes)
	if _, err := rw.Write(hello); err != nil {
		return fmt.Errorf("nbd: greeting: %w", err)
	}
	var flags [4]byte
	if _, err := io.ReadFull(rw, flags[:]); err != nil {
		return fmt.Errorf("nbd: client flags: %w", err)
	}
	clientFlags := binary.BigEndian.Uint32(flags[:])
	if clientFlags&nbdFlagFixedNewstyle == 0 || clientFlags&^(nbdFlagFixedNewstyle|nbdFlagNoZeroes) != 0 {
		return fmt.Errorf("nbd: client flags %#x are not fixed newstyle", clientFlags)
	}
	for {
		var head [16]byte
		if _, err := io.ReadFull(rw, head[:]); err != nil {
			return fmt.Errorf("nbd: option: %w", err)
		}
		if m := binary.BigEndian.Uint64(head[:]); m != nbdOptionMagic {
			return fmt.Errorf("nbd: option magic %#x", m)
		}
		option, length := binary.BigEndian.Uint32(head[8:]), binary.BigEndian.Uint32(head[12:])
		if length > nbdMaxOptionBytes {
			return fmt.Errorf("nbd: option %d announces %d bytes", option, length)
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(rw, data); err != nil {
			return fmt.Errorf("nbd: option %d: %w", option, err)
		}
		done, err := answerOption(rw, option, data, size, clientFlags)
		if done || err != nil {
			return err
		}
	}
}

// answerOption answers one option; done says that the transmission phase follows.
func answerOption(w io.Writer, option uint32, data []byte, size int64, clientFlags uint32) (done bool, err error) {
	reply := func(kind uint32, payload []byte) error {
		b := binary.BigEndian.AppendUint64(nil, nbdReplyMagic)
		b = binary.BigEndian.AppendUint32(b, option)
		b = binary.BigEndian.AppendUint32(b, kind)
		b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
		if _, err := w.Write(append(b, payload...)); err != nil {
			return fmt.Errorf("nbd: answer to option %d: %w", option, err)
		}
		return nil
	}
	switch option {
	case nbdOptExportName:
		b := binary.BigEndian.AppendUint64(nil, uint64(size))
		b = binary.BigEndian.AppendUint16(b, nbdExportFlags)
		if clientFlags&nbdFlagNoZeroes == 0 {
			b = append(b, make([]byte, 124)...)
		}
		if _, err := w.Write(b); err != nil {
			return false, fmt.Errorf("nbd: export: %w", err)
		}
		return true, nil
	case nbdOptInfo, nbdOptGo:
		if len(data) < 6 || int64(binary.BigEndian.Uint32(data)) > int64(len(data)-6) {
			return false, reply(nbdRepErrInvalid, nil)
		}
		export := binary.BigEndian.AppendUint16(nil, nbdInfoExport)
		export = binary.BigEndian.AppendUint64(export, uint64(size))
		export = binary.BigEndian.AppendUint16(export, nbdExportFlags)
		if err := reply(nbdRepInfo, export); err != nil {
			return false, err
		}
		block := binary.BigEndian.AppendUint16(nil, nbdInfoBlockSize)
		block = binary.BigEndian.AppendUint32(block, 1)
		block = binary.BigEndian.AppendUint32(block, 4096)
		block = binary.BigEndian.AppendUint32(block, nbdMaxPayloadBytes)
		if err := reply(nbdRepInfo, block); err != nil {
			return false, err
		}
		return option == nbdOptGo, reply(nbdRepAck, nil)
	case nbdOptList:
		if err := reply(nbdRepServer, make([]byte, 4)); err != nil { // one export, with the empty name
			return false, err
		}
		return false, reply(nbdRepAck, nil)
	case nbdOptAbort:
		if err := reply(nbdRepAck, nil); err != nil {
			return false, err
		}
		return false, errAborted
	default:
		return false, reply(nbdRepErrUnsup, nil)
	}
}

// transmit answers requests on c until the client disconnects (nil) or the connection breaks. It returns after the
// last flush that was under way has completed.
func transmit(c net.Conn, size int64, b backend) error {
	var (
		in      = bufio.NewReaderSize(c, 256<<10)
		writing sync.Mutex // one reply at a time: flushes are answered from other goroutines
		pending sync.WaitGroup
		buf     []byte
	)
	defer pending.Wait()
	reply := func(cookie uint64, code uint32, payload []byte) error {
		head := binary.BigEndian.AppendUint32(make([]byte, 0, 16), nbdSimpleMagic)
		head = binary.BigEndian.AppendUint32(head, code)
		head = binary.BigEndian.AppendUint64(head, cookie)
		writing.Lock()
		defer writing.Unlock()
		bufs := net.Buffers{head}
		if len(payload) > 0 {
			bufs = append(bufs, payload)
		}
		_, err := bufs.WriteTo(c)
		return err
	}
	status := func(err error) uint32 {
		if err != nil {
			return nbdErrIO
		}
		return 0
	}
	for {
		var head [28]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return fmt.Errorf("nbd: request: %w", err)
		}
		if m := binary.BigEndian.Uint32(head[:]); m != nbdRequestMagic {
			return fmt.Errorf("nbd: request magic %#x", m)
		}
		flags, kind := binary.BigEndian.Uint16(head[4:]), binary.BigEndian.Uint16(head[6:])
		cookie, off := binary.BigEndian.Uint64(head[8:]), binary.BigEndian.Uint64(head[16:])
		length := binary.BigEndian.Uint32(head[24:])
		fua := flags&nbdCmdFlagFUA != 0

		carries := kind == nbdCmdRead || kind == nbdCmdWrite
		if carries {
			if length > nbdMaxPayloadBytes {
				return fmt.Errorf("nbd: a request announces %d bytes", length)
			}
			if int(length) > len(buf) {
				buf = make([]byte, length)
			}
		}
		if kind == nbdCmdWrite {
			if _, err := io.ReadFull(in, buf[:length]); err != nil {
				return fmt.Errorf("nbd: write: %w", err)
			}
		}
		var (
			code    uint32
			payload []byte
		)
		outside := off > uint64(size) || uint64(length) > uint64(size)-off
		switch {
		case kind == nbdCmdDisconnect:
			return nil
		case kind == nbdCmdFlush:
			pending.Add(1)
			b.flush(func(err error) {
				defer pending.Done()
				// A reply that cannot be written means that the connection is gone; the reader notices that too.
				if reply(cookie, status(err), nil) != nil {
					c.Close()
				}
			})
			continue
		case outside && (carries || kind == nbdCmdTrim || kind == nbdCmdWriteZeroes):
			code = nbdErrInvalid
		case kind == nbdCmdRead:
			if code = status(b.read(buf[:length], int64(off))); code == 0 {
				payload = buf[:length]
			}
		case kind == nbdCmdWrite:
			code = status(b.write(buf[:length], int64(off), fua))
		case kind == nbdCmdTrim, kind == nbdCmdWriteZeroes:
			code = status(b.zero(int64(off), length, fua))
		default:
			code = nbdErrInvalid
		}
		if err := reply(cookie, code, payload); err != nil {
			return fmt.Errorf("nbd: reply: %w", err)
		}
	}
}
