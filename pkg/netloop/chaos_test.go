package netloop

import (
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHostileNeighbours: while all kinds of bad clients come and go, honest ones get
// every echo and every announcement, in order; at the end nothing is left over.
func TestHostileNeighbours(t *testing.T) {
	const honest, rounds, hostile = 8, 150, 6
	s, conf := startTLS(t, Config{
		Handler:        echo{},
		MaxOutputBytes: 64 << 10, MaxConnsPerAddr: 200,
	})
	var stop atomic.Bool
	var bad sync.WaitGroup
	for i := range hostile {
		bad.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			for n := 0; n < 100 || !stop.Load(); n++ {
				s.misbehave(rng)
			}
		})
	}
	var good sync.WaitGroup
	for i := range honest {
		var c *client
		if i%2 == 0 {
			c = s.open()
		} else {
			c = s.dialTLS(conf, nil)
			c.send(upgradeHead)
			c.upgraded()
		}
		good.Go(func() {
			for n := range rounds {
				p := bigText(n * 17)
				c.send(string(join(clientFrame(fText, p[:n]), clientFrame(fCont|fFin, p[n:]))))
				f, err := readServerFrame(c.br)
				if err != nil || string(f.Payload) != bigText(n*17) {
					t.Errorf("honest client %d, round %d: %v %.40q", i, n, err, f.Payload)
					return
				}
			}
		})
	}
	good.Wait()
	stop.Store(true)
	bad.Wait()
	if st := s.Stats(); st.Protocol1002 == 0 || st.HeadErrors == 0 || st.HandshakeFailed == 0 {
		t.Errorf("the hostile ones did not get to it: %+v", st)
	}
}

// echo is a Handler that sends each message back.
type echo struct{ silent }

func (echo) Message(c *Conn, p []byte) { c.Write(AppendTextFrame(nil, p)) }

// misbehave is one bad client, from connect to end.
func (s *testServer) misbehave(rng *rand.Rand) {
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	send := func(p string) { _, _ = io.WriteString(c, p) } // the server may hang up: its right
	if kind := rng.IntN(9); kind > 2 {
		send(upgradeHead)
		if rng.IntN(2) == 0 { // else what follows shares segments with the request
			_, _ = c.Read(make([]byte, 1024))
		}
		switch kind {
		case 3: // a broken rule
			send(string(frameCases[rng.IntN(len(frameCases))].in))
		case 4: // half a message, then gone
			m := string(text(bigText(rng.IntN(5000))))
			send(m[:rng.IntN(len(m))])
		case 5: // a flood that reads nothing
			send(strings.Repeat(string(text(bigText(1000))), 200))
		case 6: // noise
			noise := make([]byte, rng.IntN(2000))
			for i := range noise {
				noise[i] = byte(rng.Uint32())
			}
			send(string(noise))
		case 7: // bytes one by one
			for _, b := range text("slowly") {
				send(string([]byte{b}))
			}
		case 8: // a close frame, and the rest after it
			send(string(join(clientFrame(0x88, "\x03\xe8"), text("late"), []byte{0xff, 0xff})))
		}
	} else {
		switch kind {
		case 0:
			head := headCases[rng.IntN(len(headCases))].head
			if rng.IntN(2) == 0 {
				head = head[:rng.IntN(len(head)+1)]
			}
			send(head)
		case 1:
			send("\x16\x03\x01\x00\x10" + bigText(rng.IntN(40)))
		case 2: // silence
		}
	}
	if rng.IntN(2) == 0 {
		_ = c.(*net.TCPConn).SetLinger(0)
		return
	}
	_ = c.(*net.TCPConn).CloseWrite()
	if rng.IntN(4) == 0 {
		_, _ = io.Copy(io.Discard, c)
	}
}
