package twin

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// guests is how many people a party has.
const guests = 12

// party is a group of people who stay connected over everything that happens to the
// server, with the real client. Each hears every message once and in order, or the test
// fails.
type party struct {
	t       *testing.T
	m       *Machine
	room    im.ConvID
	clients []*client.Client

	mu    sync.Mutex
	heard []im.Seq // newest of each guest
	round int
}

// box is the admin socket of the machine's server.
func (m *Machine) box() *apiclient.Client {
	b := apiclient.New(m.Path("/var/lib/pipit"))
	m.t.Cleanup(b.Close)
	return b
}

// newParty makes an organisation with people and lets them all in.
func newParty(t *testing.T, m *Machine, tenant string) *party {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	box := m.box()
	if _, err := box.AddTenant(ctx, tenant, tenant); err != nil && im.KindOf(err) != im.Exists {
		t.Fatal(err)
	}
	bulk := apiclient.BulkPeople{Tokens: true}
	for i := range guests {
		bulk.Users = append(bulk.Users, apiclient.NewPerson{Username: fmt.Sprint("guest", i), Role: "staff"})
	}
	made, err := box.AddUsers(ctx, tenant, bulk)
	if err != nil {
		t.Fatal(err)
	}
	p := &party{t: t, m: m, heard: make([]im.Seq, guests)}
	var members []im.UserID
	for i, u := range made {
		members = append(members, im.UserID(u.ID))
		p.clients = append(p.clients, client.New(client.Options{
			URL: "http://127.0.0.1:80", Token: u.Token, Name: "twin/1", Dial: m.Dial, FromStart: true,
			Handler: client.Handler{Entry: func(e *im.Message) { p.hears(i, e) }, Reset: func() { p.forgets(i) }},
		}))
	}
	t.Cleanup(p.leave)
	for _, c := range p.clients {
		if err := c.Wait(ctx); err != nil {
			t.Fatal(err)
		}
	}
	params := &wire.CreateParams{Kind: im.KindGroup, Title: "party", Members: members[1:], Key: "party"}
	if err := p.clients[0].Call(ctx, wire.MethodCreate, params, func(result []byte) error {
		head, err := wire.DecodeHead(result)
		p.mu.Lock()
		p.room = head.ID
		p.mu.Unlock()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *party) leave() {
	for _, c := range p.clients {
		if err := c.Close(); err != nil {
			p.t.Error(err)
		}
	}
}

// hears takes what a client hands over: each entry once, in order, without a hole.
func (p *party) hears(i int, e *im.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.heard[i]; e.Seq != last+1 {
		p.t.Errorf("guest %d heard %d after %d", i, e.Seq, last)
	}
	p.heard[i] = e.Seq
}

// forgets: a restored backup is another history, which a client fetches anew.
func (p *party) forgets(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard[i] = 0
}

// talk lets everybody say something and waits until everybody has heard all of it. A
// client that lost its connection comes back by itself, or this does not end.
func (p *party) talk() {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	p.round++
	var newest im.Seq
	for i, c := range p.clients {
		sent, err := c.Send(ctx, client.Outgoing{Conversation: p.room, Key: client.NewKey(), Text: fmt.Sprintf("guest %d, round %d", i, p.round)})
		if err != nil {
			p.t.Fatalf("guest %d, round %d: %v", i, p.round, err)
		}
		newest = max(newest, sent.Seq)
	}
	p.m.Within(fmt.Sprintf("everybody hears round %d", p.round), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, seq := range p.heard {
			if seq < newest {
				return false
			}
		}
		return true
	})
}
