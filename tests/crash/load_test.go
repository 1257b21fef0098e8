package crash_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
	"github.com/pipit-im/pipit/tests/crash/history"
)

const tenant = "oak"

// person is a user with a token.
type person struct {
	id    im.UserID
	token string
}

// world is what a load lives in: people who are all members of all conversations. It outlives the servers.
type world struct {
	people  []person
	convs   []im.ConvID
	visitor im.UserID // comes and goes, and says nothing
}

// settle makes a world on s.
func settle(t *testing.T, s *server, people, convs int) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	box := apiclient.New(s.data)
	defer box.Close()
	if _, err := box.AddTenant(ctx, tenant, "Oak"); err != nil {
		t.Fatal(err)
	}
	bulk := apiclient.BulkPeople{Tokens: true}
	for i := range people {
		bulk.Users = append(bulk.Users, apiclient.NewPerson{Username: fmt.Sprint("p", i), Role: "staff"})
	}
	bulk.Users = append(bulk.Users, apiclient.NewPerson{Username: "visitor", Role: "staff"})
	made, err := box.AddUsers(ctx, tenant, bulk)
	if err != nil {
		t.Fatal(err)
	}
	w := new(world)
	var members []im.UserID
	w.visitor = im.UserID(made[people].ID)
	for _, p := range made[:people] {
		w.people = append(w.people, person{im.UserID(p.ID), p.Token})
		members = append(members, im.UserID(p.ID))
	}
	c := w.connect(t, s.place, 0, client.Handler{})
	defer c.Close()
	for i := range convs {
		params := &wire.CreateParams{Kind: im.KindGroup, Title: fmt.Sprint("room ", i), Members: members[1:], Key: fmt.Sprint("room-", i)}
		err := c.Call(ctx, wire.MethodCreate, params, func(result []byte) error {
			head, err := wire.DecodeHead(result)
			w.convs = append(w.convs, head.ID)
			return err
		})
		if err != nil {
			t.Fatalf("conversation.create: %v", err)
		}
	}
	return w
}

// connect returns a client of the ith person whose connection is live.
func (w *world) connect(t *testing.T, p *place, i int, h client.Handler) *client.Client {
	t.Helper()
	c := client.New(client.Options{URL: p.url(), Token: w.people[i].token, Name: "crash-test/1", Handler: h, FromStart: true,
		// Lucky draws: a server that is killed each second is not waited for half a minute.
		Jitter: func(n time.Duration) time.Duration { return rand.N(min(n, 300*time.Millisecond) + 1) }})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Wait(ctx); err != nil {
		c.Close()
		t.Fatalf("person %d could not connect: %v", i, err)
	}
	return c
}

// readBack reads every conversation in pages, as the first person.
func (w *world) readBack(t *testing.T, p *place) []history.Log {
	t.Helper()
	logs, err := w.tryReadBack(t, p)
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

// forgot says whether something of h is gone or cannot be read: no fault on a disk that lied.
func (w *world) forgot(t *testing.T, p *place, h history.History) bool {
	t.Helper()
	logs, err := w.tryReadBack(t, p)
	return err != nil || len(history.Check(h, logs)) > 0
}

func (w *world) tryReadBack(t *testing.T, p *place) ([]history.Log, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := client.New(client.Options{URL: p.url(), Token: w.people[0].token, Name: "crash-test/1"})
	defer c.Close()
	if err := c.Wait(ctx); err != nil {
		return nil, fmt.Errorf("connecting to read back: %w", err)
	}
	var logs []history.Log
	for _, conv := range w.convs {
		l := history.Log{Conv: conv}
		for {
			params := &wire.HistoryParams{Conversation: conv, After: newest(l.Entries), HasAfter: true, Limit: im.MaxHistoryPage}
			var page im.Page
			err := c.Call(ctx, wire.MethodHistory, params, func(result []byte) (err error) {
				page, err = wire.DecodePage(result)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("message.history of %s after %d: %w", conv, params.After, err)
			}
			l.Head = page.Head
			l.Entries = append(l.Entries, page.Entries...)
			// Only reaching head ends a pull (PROTOCOL 6.3); an empty page below it would be a hole, which Check names.
			if newest(l.Entries) >= page.Head || len(page.Entries) == 0 {
				break
			}
		}
		if err := unedit(l.Entries); err != nil {
			return nil, fmt.Errorf("%s: %w", conv, err)
		}
		logs = append(logs, l)
	}
	return logs, nil
}

// An edited text says what it was before, so that a log can be compared with what was sent.
const edited, editedOf = "edited ", " of "

// unedit checks that the newest edit of each message is its text, and gives it back the text that was sent.
func unedit(entries []im.Message) error {
	newest := map[im.Seq]string{}
	for _, m := range entries {
		if m.Kind == im.EntryEdit {
			newest[m.Target] = m.Entry.Text
		}
	}
	for i := range entries {
		m := &entries[i]
		if m.Kind != im.EntryMessage {
			continue
		}
		want, is := newest[m.Seq]
		if is && m.Entry.Text != want || !is && strings.HasPrefix(m.Entry.Text, edited) {
			return fmt.Errorf("message %d does not have the text of its newest edit", m.Seq)
		}
		m.Entry.Text = unedited(m.Entry.Text)
	}
	return nil
}

func unedited(text string) string {
	if _, before, ok := strings.Cut(text, editedOf); ok && strings.HasPrefix(text, edited) {
		return before
	}
	return text
}

func newest(entries []im.Message) im.Seq {
	if len(entries) == 0 {
		return 0
	}
	return entries[len(entries)-1].Seq
}

// judge reads everything back and reports what is wrong with it.
func (w *world) judge(t *testing.T, p *place, h history.History, when string) {
	t.Helper()
	const shown = 10
	for i, v := range history.Check(h, w.readBack(t, p)) {
		if i == shown {
			t.Errorf("%s: and more", when)
			break
		}
		t.Errorf("%s: %v", when, v)
	}
}

// load is a running load: each person sends to random conversations, a few messages under way at a time.
type load struct {
	t        *testing.T
	w        *world
	rec      *history.Recorder
	underWay int
	clients  []*client.Client
	stopped  chan struct{}
	senders  sync.WaitGroup
	acks     atomic.Int64
	open     atomic.Int64 // sent, not answered
	refused  atomic.Pointer[error]
	target   atomic.Pointer[target] // the newest acknowledged message
	mine     atomic.Pointer[target] // the first person's newest
	first    chan struct{}          // closed when there is one
}

type target struct {
	conv im.ConvID
	seq  im.Seq
	text string // as it was sent
}

// loadName makes keys and texts of one load differ from those of any other in this process.
var loadName atomic.Int64

// startLoad begins a load in which underWay messages of each person wait for their reply at a time, drawn from seed. The caller ends
// it with stop or abandon.
func startLoad(t *testing.T, w *world, p *place, rec *history.Recorder, underWay int, seed uint64) *load {
	t.Helper()
	l := &load{t: t, w: w, rec: rec, underWay: underWay, stopped: make(chan struct{}), first: make(chan struct{})}
	name := loadName.Add(1)
	for i := range w.people {
		c := w.connect(t, p, i, client.Handler{Entry: func(m *im.Message) {
			if m.Kind == im.EntryMessage {
				rec.Saw(history.Seen{Conv: m.Conv, Seq: m.Seq, Text: unedited(m.Entry.Text)})
			}
		}})
		l.clients = append(l.clients, c)
	}
	for i := range w.people {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		l.senders.Go(func() { l.send(i, name, rng) })
	}
	l.senders.Go(l.react)
	return l
}

// react goes on reacting to and pinning what was acknowledged last, editing what the first person wrote, and having members come,
// go and change, one request after the other, so that commits are of more kinds than one. An entry that was made is owed like a message.
func (l *load) react() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-l.stopped
		cancel()
	}()
	select {
	case <-l.first:
	case <-ctx.Done():
	}
	for n := 0; l.clients[0].Wait(ctx) == nil; n++ {
		on := l.target.Load()
		key := fmt.Sprintf("%s-%d-%d", on.conv, on.seq, n)
		var params wire.Params
		var method string
		entry, text := true, "" // the answer names an entry, with this text
		switch mine := l.mine.Load(); {
		case n%5 == 0:
			params, method = &wire.PinParams{Conversation: on.conv, Target: on.seq, On: true, Key: key}, wire.MethodPin
		case n%7 == 1 && mine != nil:
			text = fmt.Sprint(edited, n, editedOf, mine.text)
			params, method = &wire.EditParams{Conversation: mine.conv, Target: mine.seq, Text: text, Key: key}, wire.MethodEdit
			on = mine
		case n%7 == 2:
			params, method, entry = &wire.UpdateParams{ID: on.conv, Title: "room " + key}, wire.MethodUpdate, false
		case n%7 == 3:
			params, method, entry = &wire.UsersParams{ID: l.w.convs[0], Users: []im.UserID{l.w.visitor}}, wire.MethodInvite, false
		case n%7 == 4:
			params, method, entry = &wire.UsersParams{ID: l.w.convs[0], Users: []im.UserID{l.w.visitor}}, wire.MethodRemove, false
		default:
			params, method = &wire.ReactParams{Conversation: on.conv, Target: on.seq, Emoji: "👍", On: n%3 != 0, Key: key}, wire.MethodReact
		}
		err := l.clients[0].Call(ctx, method, params, func(result []byte) error {
			if !entry {
				return nil
			}
			r, err := wire.DecodeSeqResult(result)
			if err == nil && !r.Repeat { // a repeat names an entry that may be the message itself
				l.rec.Saw(history.Seen{Conv: on.conv, Seq: r.Seq, Text: text})
			}
			return err
		})
		gone := method == wire.MethodRemove && im.Is(err, im.NotFound) // a cut came between
		if err != nil && ctx.Err() == nil && !gone && !im.Is(err, im.Unavailable) && !errors.Is(err, client.ErrClosed) {
			err = fmt.Errorf("%s: %w", method, err)
			l.refused.CompareAndSwap(nil, &err)
		}
	}
}

func (l *load) send(i int, name int64, rng *rand.Rand) {
	slots := make(chan struct{}, l.underWay)
	by := l.w.people[i].id
	session := fmt.Sprintf("%d-%s", name, by)
	for n := 0; ; n++ {
		select {
		case slots <- struct{}{}:
		case <-l.stopped:
			return
		}
		key := fmt.Sprintf("k%d-%d-%d", name, i, n)
		m := client.Outgoing{
			Conversation: l.w.convs[rng.IntN(len(l.w.convs))], Key: key,
			Text: key + " " + strings.Repeat("é…", 1+rng.IntN(200)),
		}
		l.rec.Send(history.Send{Conv: m.Conversation, By: by, Key: key, Text: m.Text, Session: session})
		l.open.Add(1)
		l.clients[i].SendAsync(m, func(sent client.Sent, err error) {
			switch {
			case err == nil:
				l.rec.Ack(history.Ack{By: by, Key: key, Seq: sent.Seq, Time: sent.Time})
				l.target.Store(&target{m.Conversation, sent.Seq, m.Text})
				if i == 0 {
					l.mine.Store(&target{m.Conversation, sent.Seq, m.Text})
				}
				if l.acks.Add(1) == 1 {
					close(l.first)
				}
			case !errors.Is(err, client.ErrClosed):
				l.refused.CompareAndSwap(nil, &err)
			}
			l.open.Add(-1)
			<-slots
		})
	}
}

// untilAcks returns when n more messages were acknowledged.
func (l *load) untilAcks(n int64) {
	l.t.Helper()
	goal := l.acks.Load() + n
	within(l.t, fmt.Sprintf("%d more acknowledgements", n), func() bool { return l.acks.Load() >= goal })
}

// stop lets everything that was sent be answered and ends the clients.
func (l *load) stop() {
	l.t.Helper()
	close(l.stopped)
	l.senders.Wait()
	within(l.t, "the outboxes running empty", func() bool { return l.open.Load() == 0 })
	l.closeClients()
}

// abandon ends the load as it stands: what was not answered never will be.
func (l *load) abandon() {
	close(l.stopped)
	l.closeClients() // answers what waits, which frees the senders
	l.senders.Wait()
}

func (l *load) closeClients() {
	var wait sync.WaitGroup
	for _, c := range l.clients {
		wait.Go(func() { c.Close() })
	}
	wait.Wait()
	if err := l.refused.Load(); err != nil {
		l.t.Errorf("a message was refused: %v", *err)
	}
}

// resend sends what h does not know to be acknowledged once more, each with its key as an outbox does, and waits for the answers.
func (w *world) resend(t *testing.T, p *place, h history.History, rec *history.Recorder) (sent int) {
	t.Helper()
	type id struct {
		by  im.UserID
		key string
	}
	acked := make(map[id]bool, len(h.Acks))
	for _, a := range h.Acks {
		acked[id{a.By, a.Key}] = true
	}
	for i, who := range w.people {
		var answers sync.WaitGroup
		c := w.connect(t, p, i, client.Handler{})
		failed := make(chan error, len(h.Sends))
		for _, s := range h.Sends {
			if s.By != who.id || acked[id{s.By, s.Key}] {
				continue
			}
			sent++
			answers.Add(1)
			c.SendAsync(client.Outgoing{Conversation: s.Conv, Key: s.Key, Text: s.Text}, func(a client.Sent, err error) {
				defer answers.Done()
				if err != nil {
					failed <- fmt.Errorf("resending key %s: %w", s.Key, err)
					return
				}
				rec.Ack(history.Ack{By: s.By, Key: s.Key, Seq: a.Seq, Time: a.Time})
			})
		}
		all := make(chan struct{})
		go func() { answers.Wait(); close(all) }()
		within(t, "the answers to what was sent again", func() bool {
			select {
			case <-all:
				return true
			default:
				return false
			}
		})
		c.Close()
		select {
		case err := <-failed:
			t.Error(err)
		default:
		}
	}
	return sent
}
