package gateway

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/metrics"
	"github.com/pipit-im/pipit/pkg/wire"
)

// method is one method of PROTOCOL 3–8. Just one of fill, read and now is set.
type method struct {
	name string
	// notification: it acts without an id too, and then nothing is answered
	// (PROTOCOL 2.2).
	notification bool
	// fill decodes params into a command for chat, which appends.
	fill func(s *session, params []byte, c *chat.Command) error
	// read decodes params and returns what a worker does for the reply.
	read func(s *session, params []byte) (reading, error)
	// now answers at once, on the loop.
	now func(s *session, r *wire.Request) ([]byte, error)

	outcomes [outcomeCount]*atomic.Uint64
}

// reading reads what is asked for and encodes the reply to request id.
type reading func(ctx context.Context, id []byte) ([]byte, error)

// outcomeCount is "ok" and one for each im.Kind.
const outcomeCount = 1 + int(im.BadParams) + 1

func (m *method) ok() *atomic.Uint64 { return m.outcomes[0] }

func (m *method) failed(e *wire.RPCError) *atomic.Uint64 { return m.outcomes[1+int(e.Kind)] }

// newMethods makes the table of methods, each with its own counters.
func newMethods(requests *metrics.Counters) map[string]*method {
	list := []*method{
		{name: wire.MethodHello, now: secondHello},
		{name: wire.MethodPing, now: ping},
		{name: wire.MethodList, read: listHeads},
		{name: wire.MethodFind, read: findChannels},
		{name: wire.MethodGet, read: getHead},
		{name: wire.MethodMembers, read: listMembers},
		{name: wire.MethodDirect, fill: fillDirect},
		{name: wire.MethodCreate, fill: fillCreate},
		{name: wire.MethodUpdate, fill: fillUpdate},
		{name: wire.MethodJoin, fill: fillConv(chat.Join)},
		{name: wire.MethodLeave, fill: fillConv(chat.Leave)},
		{name: wire.MethodInvite, fill: fillUsers(chat.Invite)},
		{name: wire.MethodRemove, fill: fillUsers(chat.Remove)},
		{name: wire.MethodSetRole, fill: fillSetRole},
		{name: wire.MethodUserSearch, read: searchUsers},
		{name: wire.MethodUserGet, read: getUsers},
		{name: wire.MethodSend, fill: fillSend},
		{name: wire.MethodEdit, fill: fillEdit},
		{name: wire.MethodRecall, fill: fillRecall},
		{name: wire.MethodReact, fill: fillReact},
		{name: wire.MethodPin, fill: fillPin},
		{name: wire.MethodHistory, read: readHistory},
		{name: wire.MethodPins, read: readPins},
		{name: wire.MethodReadMark, fill: fillMark},
		{name: wire.MethodReadList, read: readReadList},
		{name: wire.MethodTyping, now: typing, notification: true},
		{name: wire.MethodWatch, now: watch},
		{name: wire.MethodPresenceSet, now: setPresence, notification: true},
	}
	table := make(map[string]*method, len(list))
	for _, m := range list {
		m.outcomes[0] = requests.Cell(m.name, "ok")
		for k := im.Internal; k <= im.BadParams; k++ {
			outcome := k.String()
			if k == im.BadParams {
				outcome = "bad_params"
			}
			m.outcomes[1+int(k)] = requests.Cell(m.name, outcome)
		}
		table[m.name] = m
	}
	return table
}

// Methods lists the names of all methods, sorted: what a test that calls each of
// them has to cover.
func Methods() []string {
	return slices.Sorted(maps.Keys(newMethods(metrics.New("").Counters(metrics.GatewayRequests))))
}

// What is answered at once.

func secondHello(*session, *wire.Request) ([]byte, error) {
	return nil, im.E(im.Invalid, "this session said hello already")
}

func ping(s *session, r *wire.Request) ([]byte, error) {
	if err := wire.DecodePing(r.Params); err != nil {
		return nil, err
	}
	return wire.TimeResultFrame(r.ID, s.loop.gw.millis()), nil
}

// visible returns a user whom the session may see by the tenant's policy, or nil
// (PROTOCOL 4.7, 8.2); disabled ones too, for what they wrote is still there and
// has to bear a name.
func (s *session) visible(id im.UserID) *im.User {
	u, ok := s.loop.gw.dir.User(s.User().Tenant, id)
	if !ok || !s.loop.gw.dir.Sees(s.actor(), u) {
		return nil
	}
	return u
}

func typing(s *session, r *wire.Request) ([]byte, error) {
	p, err := wire.DecodeTyping(r.Params)
	if err != nil {
		return nil, err
	}
	s.loop.gw.chat.Typing(s.actor(), p.Conversation)
	return wire.EmptyResultFrame(r.ID), nil
}

func watch(s *session, r *wire.Request) ([]byte, error) {
	p, err := wire.DecodeWatch(r.Params)
	if err != nil {
		return nil, err
	}
	seen := p.Users[:0]
	for _, id := range p.Users {
		if u := s.visible(id); u != nil {
			seen = append(seen, u.ID) // the directory's string: ours can go
		}
	}
	return wire.PresenceResultFrame(r.ID, s.loop.shard.Watch(&s.Member, seen)), nil
}

func setPresence(s *session, r *wire.Request) ([]byte, error) {
	p, err := wire.DecodePresence(r.Params)
	if err != nil {
		return nil, err
	}
	s.loop.shard.SetPresence(&s.Member, p.State)
	return wire.EmptyResultFrame(r.ID), nil
}
