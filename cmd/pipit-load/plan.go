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
// and words, others in each text: a store that packs what it keeps shall not find
// more to pack here than in what people say.
const minText = 48

var words = strings.Fields(`the of and to in is you that it was for on are with his they at be this from have or by one had
	not but what all were when we there can an your which their said if do will each about how up out them then she many some
	so these would other into has more her two like him see time could no make than first been its who now people my made over
	did down only way find use may water long little very after words called just where most know get through back much before
	go good new write our used me man too any day same right look think also around another came come work three word must
	because does part even place well such here take why things help put years different away again off went old number great
	tell men say small every found still between name should home big give air line set own under read last never us left end
	along while might next sound below saw something thought both few those always looked show large often together asked house
	world going want school important until form food keep children feet land side without boy once animals life enough took
	sometimes four head above kind began almost live page got earth need far hand high year mother light parts country father
	let night following picture being study second eyes soon times story boys since white days ever paper hard near sentence
	better best across during today others however sure means knew tried told young miles sun ways thing whole hear example
	heard several change answer room against top turned learn point city play toward five using himself usually`)

func makeText(sender, n int, at int64, size int) string {
	s := make([]byte, 0, size+16)
	s = append(append(strconv.AppendInt(append(s, "L "...), int64(sender), 10), ' '), strconv.Itoa(n)...)
	s = append(strconv.AppendInt(append(s, ' '), at, 10), ' ')
	x := uint64(sender)<<32 ^ uint64(n) ^ uint64(at)
	for len(s) < size {
		x = x*6364136223846793005 + 1442695040888963407
		s = append(append(s, words[(x>>33)%uint64(len(words))]...), ' ')
	}
	return string(s[:size])
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
