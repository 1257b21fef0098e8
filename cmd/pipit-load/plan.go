package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// workerArg starts this program as a worker.
const workerArg = "--worker"

// order is one line from the coordinator to a worker.
type order struct {
	Do    string // "connect", "send", "quiet", "part", "storm", "stop"
	URL   string
	Users []userPlan
	Ramp  int
	Every time.Duration
	Size  int
	Break time.Duration // soak: mean time between breaks of one connection
}

// userPlan is one user of a worker.
type userPlan struct {
	Number int // over all workers; names the sender in a text
	Token  string
	Local  string // local address to connect from
	Sends  im.ConvID
	Rooms  []im.ConvID
	Heads  []im.Seq // of Rooms, one for one, when the run began
}

// news is one line from a worker to the coordinator.
type news struct {
	Kind  string // "progress", "done"
	Count counts
	Ack   []byte // encoded histogram, with "done"
	Deliv []byte
	Conn  []byte
	Rooms map[im.ConvID]roomCount // with "done" of "stop"
	Error string
}

// counts are a worker's running totals.
type counts struct {
	Connected  int
	Sent       int // messages handed to the client
	Acked      int
	Refused    int
	Delivered  int
	Lost       int
	Doubled    int
	Misordered int
	Again      int // messages that the server refused for now and took later
	Pulled     int // entries that came by pull and not as an event
	Reconnects int
}

func (c *counts) add(o counts) {
	c.Connected += o.Connected
	c.Sent += o.Sent
	c.Acked += o.Acked
	c.Refused += o.Refused
	c.Delivered += o.Delivered
	c.Lost += o.Lost
	c.Doubled += o.Doubled
	c.Misordered += o.Misordered
	c.Again += o.Again
	c.Pulled += o.Pulled
	c.Reconnects += o.Reconnects
}

// roomCount is what the receivers of one worker saw of one conversation.
type roomCount struct {
	Acked     int    // messages of this worker's senders that were acknowledged
	MaxSeq    im.Seq // highest seq acknowledged
	Receivers int
	MinGot    int // fewest messages that a receiver got
	MaxGot    int
	MinSeq    im.Seq // lowest of the receivers' newest seq
}

func (r *roomCount) merge(o roomCount) {
	if r.Receivers == 0 {
		r.MinGot, r.MinSeq = o.MinGot, o.MinSeq
	} else if o.Receivers > 0 {
		r.MinGot, r.MinSeq = min(r.MinGot, o.MinGot), min(r.MinSeq, o.MinSeq)
	}
	r.Acked += o.Acked
	r.MaxSeq = max(r.MaxSeq, o.MaxSeq)
	r.Receivers += o.Receivers
	r.MaxGot = max(r.MaxGot, o.MaxGot)
}

// lines writes JSON values, one a line, from any goroutine.
type lines struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func newLines(w io.Writer) *lines { return &lines{enc: json.NewEncoder(w)} }

func (l *lines) write(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.enc.Encode(v)
}

// A text names its sender, its number among the sender's messages, and when it
// was sent, so that a receiver can judge it alone: "L <sender> <n> <nanoseconds>"
// and padding.
const minText = 48

func makeText(sender, n int, at int64, size int) string {
	s := "L " + strconv.Itoa(sender) + " " + strconv.Itoa(n) + " " + strconv.FormatInt(at, 10) + " "
	if pad := size - len(s); pad > 0 {
		s += strings.Repeat("·", pad/2) + strings.Repeat(".", pad%2)
	}
	return s
}

func parseText(s string) (sender, n int, at int64, err error) {
	f := strings.SplitN(s, " ", 5)
	if len(f) < 4 || f[0] != "L" {
		return 0, 0, 0, fmt.Errorf("not a message of this program")
	}
	if sender, err = strconv.Atoi(f[1]); err != nil {
		return
	}
	if n, err = strconv.Atoi(f[2]); err != nil {
		return
	}
	at, err = strconv.ParseInt(f[3], 10, 64)
	return
}
