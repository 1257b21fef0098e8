package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// worker holds the sockets of its share of the users.
type worker struct {
	url   string
	users []*user

	mu     sync.Mutex // guards histograms and acknowledgements
	ack    *hdrhistogram.Histogram
	deliv  *hdrhistogram.Histogram
	conn   *hdrhistogram.Histogram
	acked  map[im.ConvID]*roomCount
	counts struct {
		connected, sent, acked, refused, delivered, lost, doubled, misordered, again, pulled, reconnects atomic.Int64
	}
}

// user is one user and its socket.
type user struct {
	w    *worker
	plan userPlan
	c    *client.Client

	nc atomic.Pointer[net.Conn]

	// Handler goroutine only, until the client was closed.
	rooms map[im.ConvID]*roomView

	next int // number of the next message; sender goroutine
}

// roomView is what one receiver saw of one conversation.
type roomView struct {
	seq  im.Seq // newest
	got  int    // messages
	from map[int]*heard
}

// heard is which numbers of one sender have come.
type heard struct {
	last    int
	missing map[int]struct{} // below last
}

// What hear says of a number.
const (
	inTurn = iota
	early  // numbers before it have not come yet
	late   // one of those
	twice
)

func (h *heard) hear(n int) int {
	if n > h.last {
		said := inTurn
		for i := h.last + 1; i < n; i++ {
			if h.missing == nil {
				h.missing = map[int]struct{}{}
			}
			h.missing[i] = struct{}{}
			said = early
		}
		h.last = n
		return said
	}
	if _, ok := h.missing[n]; !ok {
		return twice
	}
	delete(h.missing, n)
	return late
}

// histogram counts microseconds up to ten minutes, to three digits.
func histogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 600_000_000, 3) }

// serveWorker obeys the orders that come on in, one JSON value a line.
func serveWorker(ctx context.Context, in io.Reader, out io.Writer) error {
	w := &worker{ack: histogram(), deliv: histogram(), conn: histogram(), acked: map[im.ConvID]*roomCount{}}
	reply := newLines(out)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ticker sync.WaitGroup
	ticker.Go(func() {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				if reply.write(news{Kind: "progress", Count: w.snapshot()}) != nil {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	defer ticker.Wait()
	defer cancel()
	dec := json.NewDecoder(bufio.NewReaderSize(in, 1<<20))
	sending := newSenders(ctx)
	defer sending.stop()
	for {
		var o order
		if err := dec.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		done := news{Kind: "done"}
		var err error
		switch o.Do {
		case "connect":
			w.url = o.URL
			err = w.connect(ctx, o)
		case "send":
			sending.start(w, o)
		case "quiet":
			sending.stop()
			err = w.settle(ctx)
		case "part":
			w.part()
		case "storm":
			err = w.storm(ctx, o.Ramp)
		case "stop":
			done.Rooms = w.close()
		default:
			err = fmt.Errorf("unknown order %q", o.Do)
		}
		if err != nil {
			done.Error = err.Error()
		}
		done.Count = w.snapshot()
		w.mu.Lock()
		done.Ack, _ = w.ack.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		done.Deliv, _ = w.deliv.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		done.Conn, _ = w.conn.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
		w.mu.Unlock()
		if err := reply.write(done); err != nil {
			return err
		}
	}
}

func (w *worker) snapshot() counts {
	c := &w.counts
	return counts{
		Connected: int(c.connected.Load()), Sent: int(c.sent.Load()), Acked: int(c.acked.Load()), Refused: int(c.refused.Load()),
		Delivered: int(c.delivered.Load()), Lost: int(c.lost.Load()), Doubled: int(c.doubled.Load()),
		Misordered: int(c.misordered.Load()), Again: int(c.again.Load()), Pulled: int(c.pulled.Load()), Reconnects: int(c.reconnects.Load()),
	}
}

// connect connects the users of the order, at most Ramp at once.
func (w *worker) connect(ctx context.Context, o order) error {
	slots := make(chan struct{}, o.Ramp)
	for _, p := range o.Users {
		u := &user{w: w, plan: p, rooms: map[im.ConvID]*roomView{}}
		for i, r := range p.Rooms {
			u.rooms[r] = &roomView{seq: p.Heads[i], from: map[int]*heard{}}
		}
		w.users = append(w.users, u)
	}
	return w.each(ctx, slots, func(u *user) error { return u.connect(ctx) })
}

// each runs fn for every user, at most cap(slots) at once, and returns the
// first error.
func (w *worker) each(ctx context.Context, slots chan struct{}, fn func(*user) error) error {
	var wg sync.WaitGroup
	var first atomic.Pointer[error]
	for _, u := range w.users {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			wg.Wait()
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := fn(u); err != nil {
				first.CompareAndSwap(nil, &err)
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

func (u *user) connect(ctx context.Context) error {
	local := &net.TCPAddr{IP: net.ParseIP(u.plan.Local)}
	d := net.Dialer{LocalAddr: local}
	began := time.Now()
	var once sync.Once
	have := map[im.ConvID]im.Seq{}
	for id, v := range u.rooms {
		have[id] = v.seq
	}
	u.c = client.New(client.Options{
		URL: u.w.url, Token: u.plan.Token, Name: "pipit-load", Positions: have,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := d.DialContext(ctx, network, addr)
			if err == nil {
				u.nc.Store(&nc)
			}
			return nc, err
		},
		Handler: client.Handler{
			Ready: func(*wire.HelloResult) {
				u.w.counts.connected.Add(1)
				once.Do(func() { u.w.record(u.w.conn, time.Since(began)) })
			},
			Down: func(err error, retry time.Duration) {
				u.w.counts.reconnects.Add(1)
				u.w.counts.connected.Add(-1)
			},
			Entry: u.entry,
		},
	})
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := u.c.Wait(ctx); err != nil {
		return fmt.Errorf("user %d: %w", u.plan.Number, err)
	}
	return nil
}

func (w *worker) record(h *hdrhistogram.Histogram, d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = h.RecordValue(max(d.Microseconds(), 1)) // above ten minutes it does not count
}

// entry judges one entry: its place in the log, and its number among the
// sender's messages.
func (u *user) entry(m *im.Message) {
	v := u.rooms[m.Conv]
	if v == nil {
		return // not of this run
	}
	c := &u.w.counts
	switch {
	case m.Seq == v.seq+1:
	case m.Seq <= v.seq:
		c.doubled.Add(1)
		return
	default:
		c.lost.Add(int64(m.Seq - v.seq - 1))
	}
	v.seq = m.Seq
	if m.Kind != im.EntryMessage {
		return
	}
	sender, n, at, err := parseText(m.Shown())
	if err != nil {
		return
	}
	c.delivered.Add(1)
	v.got++
	s := v.from[sender]
	if s == nil {
		s = &heard{}
		v.from[sender] = s
	}
	switch s.hear(n) {
	case late:
		c.misordered.Add(1)
	case twice:
		c.doubled.Add(1)
	}
	u.w.record(u.w.deliv, time.Duration(time.Now().UnixNano()-at))
}

// send sends the user's next message; the number is used once.
func (u *user) send(size int) {
	u.next++
	conv := u.plan.Sends
	began := time.Now()
	w := u.w
	w.counts.sent.Add(1)
	u.c.SendAsync(client.Outgoing{Conversation: conv, Text: makeText(u.plan.Number, u.next, began.UnixNano(), size)}, func(s client.Sent, err error) {
		if err != nil {
			w.counts.refused.Add(1)
			return
		}
		w.counts.acked.Add(1)
		w.mu.Lock()
		defer w.mu.Unlock()
		_ = w.ack.RecordValue(max(time.Since(began).Microseconds(), 1))
		r := w.acked[conv]
		if r == nil {
			r = &roomCount{}
			w.acked[conv] = r
		}
		r.Acked++
		r.MaxSeq = max(r.MaxSeq, s.Seq)
	})
}

// settle waits until nothing is under way: every outbox is empty and deliveries
// have stopped.
func (w *worker) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	last, still := int64(-1), 0
	for still < 4 {
		select {
		case <-time.After(250 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("after two minutes %d of %d messages have no answer, and %d of %d people are connected",
				w.counts.sent.Load()-w.counts.acked.Load()-w.counts.refused.Load(), w.counts.sent.Load(), w.counts.connected.Load(), len(w.users))
		}
		now := w.counts.delivered.Load() + w.counts.acked.Load()
		settled := w.counts.sent.Load() == w.counts.acked.Load()+w.counts.refused.Load()
		if now == last && settled && int(w.counts.connected.Load()) == len(w.users) {
			still++
		} else {
			still = 0
		}
		last = now
	}
	return nil
}

// cut breaks the user's connection without a word, as a network does.
func (u *user) cut() {
	if nc := u.nc.Load(); nc != nil {
		(*nc).Close()
	}
}

// part closes every socket.
func (w *worker) part() {
	var wg sync.WaitGroup
	for _, u := range w.users {
		wg.Go(func() { u.c.Close() })
	}
	wg.Wait()
}

// storm connects everybody again, all at once.
func (w *worker) storm(ctx context.Context, ramp int) error {
	slots := make(chan struct{}, max(ramp, 1))
	return w.each(ctx, slots, func(u *user) error { return u.connect(ctx) })
}

// close ends all users and returns what they saw.
func (w *worker) close() map[im.ConvID]roomCount {
	w.part()
	rooms := map[im.ConvID]roomCount{}
	for _, u := range w.users {
		st := u.c.Stats()
		w.counts.pulled.Add(int64(st.Pulled))
		w.counts.again.Add(int64(st.Again))
		w.counts.doubled.Add(int64(st.Doubled))
		for id, v := range u.rooms {
			r := rooms[id]
			r.merge(roomCount{Receivers: 1, MinGot: v.got, MaxGot: v.got, MinSeq: v.seq})
			rooms[id] = r
			for _, s := range v.from {
				w.counts.lost.Add(int64(len(s.missing)))
			}
		}
	}
	for id, a := range w.acked {
		r := rooms[id]
		r.Acked += a.Acked
		r.MaxSeq = max(r.MaxSeq, a.MaxSeq)
		rooms[id] = r
	}
	return rooms
}

// senders sends for the users that send, evenly spread over the interval.
type senders struct {
	ctx    context.Context
	cancel context.CancelFunc
	parent context.Context
	wg     sync.WaitGroup
}

func newSenders(ctx context.Context) *senders { return &senders{parent: ctx, cancel: func() {}} }

func (s *senders) start(w *worker, o order) {
	s.stop()
	s.ctx, s.cancel = context.WithCancel(s.parent)
	ctx := s.ctx
	var sending []*user
	for _, u := range w.users {
		if u.plan.Sends != "" {
			sending = append(sending, u)
		}
	}
	// One goroutine walks all senders of this worker, so that their messages are
	// spread evenly and a slow moment is caught up, not skipped.
	if len(sending) > 0 {
		s.wg.Go(func() {
			pause := o.Every / time.Duration(len(sending))
			next := time.Now()
			for i := 0; ; i = (i + 1) % len(sending) {
				next = next.Add(pause)
				if wait := time.Until(next); wait > 0 {
					select {
					case <-time.After(wait):
					case <-ctx.Done():
						return
					}
				} else if ctx.Err() != nil {
					return
				}
				sending[i].send(o.Size)
			}
		})
	}
	if o.Break > 0 {
		s.wg.Go(func() {
			pause := o.Break / time.Duration(max(len(w.users), 1))
			for {
				select {
				case <-time.After(pause):
					w.users[rand.IntN(len(w.users))].cut()
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

func (s *senders) stop() {
	s.cancel()
	s.wg.Wait()
}
