package badgerstore

import (
	"bytes"
	"testing"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// everyKey has one key of each kind.
func everyKey() []key {
	sp := space{0x010203}
	const u, c = im.UserID("u_0123456789abcdef"), im.ConvID("short")
	return []key{
		sp.tenant(), sp.user(u), sp.username("ann"), sp.credential(u), sp.conv(c), sp.direct(u, "bob"), sp.channel(c),
		sp.entry(c, 1), sp.entry(c, 1<<40), sp.member(c, u), sp.ofUser(u, c), sp.reaction(c, 300, u, "\U0001F44D"), sp.pin(c, 7),
		sp.record(3, "id"), space{}.record(3, "id"), sp.count(sp.records(3)),
		sp.idemKey(u, "k"), sp.signIn([32]byte{1}), sp.signInOf(u, [32]byte{2}), sp.count(sp.members(c)), sp.count(sp.all(kindUser)),
		box(boxEpoch), box(boxChange), box(boxClock), box(boxProbe), box(boxNumber), box(boxRestore), box(boxTenants),
		boxNamed(boxTenant, "oak"), boxNamed(boxSetting, "a.b"), boxErase(sp),
	}
}

// build makes the key again from its parts.
func build(p parts) key {
	sp := p.space
	switch {
	case sp.n == 0:
		return boxNamed(p.kind, p.name)
	case p.kind == kindTenant:
		return sp.tenant()
	case p.kind == kindUser:
		return sp.user(p.user)
	case p.kind == kindUsername:
		return sp.username(p.name)
	case p.kind == kindCredential:
		return sp.credential(p.user)
	case p.kind == kindConv:
		return sp.conv(p.conv)
	case p.kind == kindDirect:
		return sp.start(kindDirect, 0).id(string(p.user)).id(string(p.peer))
	case p.kind == kindChannel:
		return sp.channel(p.conv)
	case p.kind == kindEntry:
		return sp.entry(p.conv, p.seq)
	case p.kind == kindMember:
		return sp.member(p.conv, p.user)
	case p.kind == kindOfUser:
		return sp.ofUser(p.user, p.conv)
	case p.kind == kindReaction:
		return sp.reaction(p.conv, p.seq, p.user, p.name)
	case p.kind == kindPin:
		return sp.pin(p.conv, p.seq)
	case p.kind == kindSignInsOf:
		return sp.signInsOf(p.user).raw(p.name)
	}
	return sp.start(p.kind, 0).raw(p.name)
}

// FuzzKey checks that what parse accepts is what the builders make: nothing is
// accepted that could not be found again.
func FuzzKey(f *testing.F) {
	for _, k := range everyKey() {
		f.Add(k.b)
	}
	f.Add([]byte{0, 0, 1, 'E', 0xe3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		place(b)
		p, err := parse(b)
		if err != nil {
			return
		}
		again := build(p).b
		q, err := parse(again)
		if err != nil || p != q {
			t.Fatalf("%x is %+v, made again %x is %+v: %v", b, p, again, q, err)
		}
	})
}

func TestKeys(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range everyKey() {
		p, err := parse(k.b)
		if err != nil {
			t.Fatalf("%x: %v", k.b, err)
		}
		if again := build(p); !bytes.Equal(again.b, k.b) {
			t.Fatalf("%x became %x", k.b, again.b)
		}
		if seen[string(k.b)] {
			t.Fatalf("%x twice", k.b)
		}
		seen[string(k.b)] = true
	}
	sp := space{1}
	for _, pair := range [][2]im.Seq{{1, 2}, {255, 256}, {256, 257}, {65535, 65536}, {1 << 24, 1 << 40}, {1<<63 - 1, 1 << 63}} {
		if bytes.Compare(sp.entry("c", pair[0]).b, sp.entry("c", pair[1]).b) >= 0 {
			t.Errorf("%d does not sort before %d", pair[0], pair[1])
		}
		if bytes.Compare(sp.pin("c", pair[1]).b, sp.pin("c", pair[0]).b) >= 0 {
			t.Errorf("pin %d does not sort before %d", pair[1], pair[0])
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("the zero space made a key")
		}
	}()
	space{}.user("u")
}

// FuzzValue gives every decoder any bytes: none may panic or take memory
// beyond what it was given, and an entry that decodes is encoded to what
// decodes to the same.
func FuzzValue(f *testing.F) {
	m := record{Message: im.Message{Entry: im.Entry{Kind: im.EntryMessage, Text: "t", By: "u_0123456789abcdef", Mentions: []im.UserID{"a"},
		Key: "0b0cb6b8-0e1f-4a5e-8f2e-0123456789ab", ReplyTo: 3}, State: im.State{Text: "e", Edited: 9, Pinned: 4, Reactions: []im.Reaction{{Emoji: "x", Count: 2}}}},
		pin: store.Standing{Seq: 4, On: true}, edit: 5}
	f.Add(m.encode()[sumBytes:])
	for k := im.EntryEdit; k <= im.EntryMeta; k++ {
		e := record{Message: im.Message{Entry: im.Entry{Kind: k, Target: 1, Text: "x", Emoji: "y", User: "z", Title: "w"}}}
		f.Add(e.encode()[sumBytes:])
	}
	f.Add(encodeConv(&im.Conversation{Title: "t", Peers: [2]im.UserID{"a", "b"}})[sumBytes:])
	f.Add(encodeSignIn(&store.SignIn{ID: "i", Device: "d"})[sumBytes:])
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeConv("t", "c", b)
		decodeMember("c", "u", b)
		decodeTenant("t", b)
		decodeUser("t", "u", b)
		decodeCredential(b)
		decodeSignIn("t", [32]byte{}, b)
		decodeStanding(b)
		decodeClock(b)
		decodeUint(b)
		var k keyRecord
		k.decode(b)
		var m, n record
		if m.decode("c", 7, b) != nil {
			return
		}
		if len(m.Mentions) > len(b) || len(m.Reactions) > len(b) {
			t.Fatal("more than was there")
		}
		v := m.encode()
		if err := n.decode("c", 7, v[sumBytes:]); err != nil {
			t.Fatalf("%x decodes, but not encoded again as %x: %v", b, v[sumBytes:], err)
		}
		if w := n.encode(); !bytes.Equal(v, w) {
			t.Fatalf("%x became %x", v, w)
		}
	})
}
