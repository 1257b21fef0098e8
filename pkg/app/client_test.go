package app

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// seen is what a client's handler was told of one kind of thing.
type seen struct {
	mu   sync.Mutex
	list []string
}

func (s *seen) add(x string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, x)
}

func (s *seen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.list, " ")
}

func (s *seen) want(t *testing.T, want string) {
	t.Helper()
	until(t, "seeing "+want+", not "+s.String(), func() bool { return s.String() == want })
}

// TestClientAgainstServer: the client and the server agree on what joining,
// leaving, breaking off and coming back look like.
func TestClientAgainstServer(t *testing.T) {
	b := newBox(t)
	ids, tokens := b.people("ann", "bob")
	ann := b.connect(client.Options{Token: tokens["ann"]})
	var entries seen
	var cut atomic.Pointer[net.Conn]
	var ready atomic.Int64
	bob := b.connect(client.Options{Token: tokens["bob"],
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			cut.Store(&nc)
			return nc, err
		},
		Handler: client.Handler{
			Ready:   func(*wire.HelloResult) { ready.Add(1) },
			Entry:   func(m *im.Message) { entries.add(m.Kind.String()) },
			Left:    func(*im.Head) { entries.add("left") },
			Changed: func(h *im.Head) { entries.add("changed:" + h.Title) },
		}})
	call := func(method string, p wire.Params) (conv im.ConvID) {
		t.Helper()
		b.must(ann.Call(t.Context(), method, p, func(r []byte) error {
			if method != wire.MethodCreate {
				return nil
			}
			h, err := wire.DecodeHead(r)
			conv = h.ID
			return err
		}))
		return conv
	}
	send := func(conv im.ConvID, text string) {
		t.Helper()
		_, err := ann.Send(t.Context(), client.Outgoing{Conversation: conv, Text: text})
		b.must(err)
	}
	conv := call(wire.MethodCreate, &wire.CreateParams{Kind: im.KindGroup, Title: "A", Key: "k1"})
	send(conv, "before bob")
	call(wire.MethodInvite, &wire.UsersParams{ID: conv, Users: []im.UserID{ids["bob"]}})
	send(conv, "after")
	// The entry of his own joining is part of what he sees; what was before is not asked for.
	entries.want(t, "changed:A member message")
	call(wire.MethodUpdate, &wire.UpdateParams{ID: conv, Title: "B"})
	send(conv, "again")
	until(t, "the title", func() bool {
		return strings.HasSuffix(entries.String(), "message") && strings.Contains(entries.String(), "meta")
	})
	if got := entries.String(); got != "changed:A member message meta changed:B message" && got != "changed:A member message changed:B meta message" {
		t.Errorf("%s", got)
	}
	if st := bob.Stats(); st != (client.Stats{}) {
		t.Errorf("nothing was to be repaired: %+v", st)
	}

	// Away, and back: the hole is pulled, once.
	before := entries.String()
	(*cut.Load()).Close()
	send(conv, "while away or not")
	until(t, "the return", func() bool { return ready.Load() == 2 })
	entries.want(t, before+" message")
	call(wire.MethodRemove, &wire.UsersParams{ID: conv, Users: []im.UserID{ids["bob"]}})
	entries.want(t, before+" message left")
	call(wire.MethodInvite, &wire.UsersParams{ID: conv, Users: []im.UserID{ids["bob"]}})
	entries.want(t, before+" message left changed:B member")

	// One that was made with him in it.
	call(wire.MethodCreate, &wire.CreateParams{Kind: im.KindGroup, Title: "C", Key: "k2", Members: []im.UserID{ids["bob"]}})
	until(t, "the second group", func() bool { return strings.Contains(entries.String(), "changed:C") })
	if st := bob.Stats(); st.Doubled != 0 || st.Missed != 0 {
		t.Errorf("%+v", st)
	}
}
