package badgerstore

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// The key layout; DESIGN.md has it as a table.
//
//	box     00 00 00 | box kind | …
//	tenant  n  n  n  | kind     | …      n: the tenant's number, never 0
//
// A tenant's number is drawn once from a counter and never used again, so what
// an erased tenant left could not come back under a new one even if the erasing
// had missed it.

// kind is the fourth byte of a key: what the record is.
type kind byte

// The kinds of tenant records. They are on disk: never renumber.
const (
	kindTenant     kind = 'T' // the im.Tenant
	kindUser       kind = 'U' // user → im.User
	kindUsername   kind = 'N' // user name → user
	kindCredential kind = 'P' // user → store.Credential
	kindConv       kind = 'C' // conversation → im.Conversation
	kindDirect     kind = 'D' // pair of users → conversation
	kindChannel    kind = 'H' // conversation: it is a channel
	kindEntry      kind = 'E' // conversation, seq → entry and state
	kindMember     kind = 'M' // conversation, user → im.Member
	kindOfUser     kind = 'O' // user, conversation: there is a member record
	kindReaction   kind = 'R' // conversation, seq, user, emoji → store.Standing
	kindPin        kind = 'B' // conversation, newest pin first → target
	kindKey        kind = 'K' // digest of user and key → store.Key
	kindSignIn     kind = 'X' // token hash → store.SignIn
	kindSignInsOf  kind = 'Y' // user, token hash: there is a sign-in
	kindRecord     kind = 'J' // store.RecordKind, id → a document
	kindCount      kind = 'Z' // kind of list and its owner → how many
)

// The kinds of box records. They are on disk: never renumber.
const (
	boxEpoch    kind = 'e' // im.Epoch
	boxChange   kind = 'g' // the change counter
	boxClock    kind = 'c' // age and high-water time
	boxProbe    kind = 'p' // how many probes
	boxNumber   kind = 'n' // the last tenant number that was drawn
	boxTenant   kind = 't' // tenant id → number
	boxErasing  kind = 'x' // tenant number whose records must still be dropped
	boxRestore  kind = 'r' // a restore is under way: what is there is half
	boxSetting  kind = 's' // setting by name
	boxRecord   kind = 'j' // store.RecordKind, id → a document of the box
	boxTenants  kind = 'z' // how many boxTenant records there are
	spaceBytes       = 3
	maxSpace         = 1<<24 - 1
	keyHashSize      = 12
)

// space is a tenant's place in the key order: it begins every key of the
// tenant. Only the tenant registry makes one; the zero space makes no key.
type space struct{ n uint32 }

// key is a complete key. Only the builders below make one, so that none can be
// written without its tenant.
type key struct{ b []byte }

func (k key) String() string { return place(k.b) }

// box begins a key of the box.
func box(k kind) key { return key{[]byte{0, 0, 0, byte(k)}} }

func boxNamed(k kind, name string) key { return key{append(box(k).b, name...)} }

// start begins a key of the tenant with room for more.
func (s space) start(k kind, room int) key {
	if s.n == 0 || s.n > maxSpace {
		panic("badgerstore: a key without a tenant")
	}
	b := make([]byte, 0, spaceBytes+1+room)
	return key{append(b, byte(s.n>>16), byte(s.n>>8), byte(s.n), byte(k))}
}

// prefix is what all keys of the tenant begin with.
func (s space) prefix() []byte { return s.start(kindTenant, 0).b[:spaceBytes] }

func (s space) tenant() key { return s.start(kindTenant, 0) }

func (s space) user(u im.UserID) key       { return s.start(kindUser, len(u)).raw(string(u)) }
func (s space) username(name string) key   { return s.start(kindUsername, len(name)).raw(name) }
func (s space) credential(u im.UserID) key { return s.start(kindCredential, len(u)).raw(string(u)) }

func (s space) conv(c im.ConvID) key    { return s.start(kindConv, idRoom).id(string(c)) }
func (s space) channel(c im.ConvID) key { return s.start(kindChannel, idRoom).id(string(c)) }

func (s space) direct(a, b im.UserID) key {
	if b < a {
		a, b = b, a
	}
	return s.start(kindDirect, 2*idRoom).id(string(a)).id(string(b))
}

func (s space) log(c im.ConvID) key { return s.start(kindEntry, idRoom+9).id(string(c)) }
func (s space) entry(c im.ConvID, q im.Seq) key {
	return s.log(c).seq(q)
}

func (s space) members(c im.ConvID) key             { return s.start(kindMember, 2*idRoom).id(string(c)) }
func (s space) member(c im.ConvID, u im.UserID) key { return s.members(c).id(string(u)) }
func (s space) ofUsers(u im.UserID) key             { return s.start(kindOfUser, 2*idRoom).id(string(u)) }
func (s space) ofUser(u im.UserID, c im.ConvID) key { return s.ofUsers(u).id(string(c)) }

func (s space) reaction(c im.ConvID, q im.Seq, u im.UserID, emoji string) key {
	return s.start(kindReaction, 2*idRoom+9+len(emoji)).id(string(c)).seq(q).id(string(u)).raw(emoji)
}

func (s space) pins(c im.ConvID) key { return s.start(kindPin, idRoom+8).id(string(c)) }

// pin keys run from the newest pin to the oldest.
func (s space) pin(c im.ConvID, pin im.Seq) key {
	k := s.pins(c)
	return key{binary.BigEndian.AppendUint64(k.b, ^uint64(pin))}
}

// idemKey holds a digest in place of user and key: half the bytes. Keys of
// different users cannot be made to meet (that needs a second preimage of 96
// bits), and who makes two of their own meet fools only themselves.
func (s space) idemKey(u im.UserID, k string) key {
	h := sha256.New()
	h.Write([]byte{byte(len(u))})
	h.Write([]byte(u))
	h.Write([]byte(k))
	var sum [sha256.Size]byte
	return s.start(kindKey, keyHashSize).raw(string(h.Sum(sum[:0])[:keyHashSize]))
}

func (s space) signIn(hash [32]byte) key { return s.start(kindSignIn, 32).raw(string(hash[:])) }
func (s space) signInsOf(u im.UserID) key {
	return s.start(kindSignInsOf, idRoom+32).id(string(u))
}
func (s space) signInOf(u im.UserID, hash [32]byte) key { return s.signInsOf(u).raw(string(hash[:])) }

// records is the prefix of the documents of one kind; the zero space is the box.
func (s space) records(k store.RecordKind) key {
	if s.n == 0 {
		return boxNamed(boxRecord, string([]byte{byte(k)}))
	}
	return s.start(kindRecord, 1+idRoom).raw(string([]byte{byte(k)}))
}

func (s space) record(k store.RecordKind, id string) key { return s.records(k).raw(id) }

// count names the record that tells how many records a list has: list is the
// list's prefix, a key without its last part.
func (s space) count(list key) key {
	return s.start(kindCount, len(list.b)).raw(string(list.b[spaceBytes:]))
}

// all is the prefix of every record of one kind.
func (s space) all(k kind) key { return s.start(k, 0) }

func (k key) raw(s string) key { return key{append(k.b, s...)} }

// seq appends a number so that keys sort by it: its length, then its bytes.
func (k key) seq(q im.Seq) key {
	n := 1
	for v := q >> 8; v > 0; v >>= 8 {
		n++
	}
	b := append(k.b, byte(n))
	for i := n - 1; i >= 0; i-- {
		b = append(b, byte(q>>(8*i)))
	}
	return key{b}
}

const idRoom = 13

func (k key) id(id string) key { return key{appendID(k.b, id)} }

// appendID appends an id so that its end can be found again. Ids of our own
// making, a letter, "_" and 16 of [0-9a-z], take 12 bytes: the letter with its
// high bit set and the rest as a number of base 36. Any other: its length
// (0–127), then its bytes.
func appendID(b []byte, id string) []byte {
	if len(id) == 18 && id[1] == '_' && id[0] >= 'a' && id[0] <= 'z' {
		hi, ok1 := base36(id[2:10])
		lo, ok2 := base36(id[10:18])
		if ok1 && ok2 {
			top := hi >> 22 // hi and lo have 42 bits each
			b = append(b, id[0]|0x80, byte(top>>16), byte(top>>8), byte(top))
			return binary.BigEndian.AppendUint64(b, hi<<42|lo)
		}
	}
	if len(id) > 127 {
		// Nobody has such an id (PROTOCOL 1.5); whoever asks for one finds nothing.
		sum := sha256.Sum256([]byte(id))
		id = id[:127-len(sum)] + string(sum[:])
	}
	return append(append(b, byte(len(id))), id...)
}

func base36(s string) (v uint64, ok bool) {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'z':
			c -= 'a' - 10
		default:
			return 0, false
		}
		v = v*36 + uint64(c)
	}
	return v, true
}

var errKey = errors.New("malformed key")

// cutID reads what appendID wrote.
func cutID(b []byte) (id string, rest []byte, err error) {
	switch {
	case len(b) == 0:
		return "", nil, errKey
	case b[0] < 0x80:
		n := int(b[0])
		if len(b) < 1+n {
			return "", nil, errKey
		}
		return string(b[1 : 1+n]), b[1+n:], nil
	case len(b) < 12:
		return "", nil, errKey
	}
	var out [18]byte
	low := binary.BigEndian.Uint64(b[4:])
	top := uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3])
	hi, lo := top<<22|low>>42, low&(1<<42-1)
	out[0], out[1] = b[0]&0x7f, '_'
	if out[0] < 'a' || out[0] > 'z' || !put36(out[2:10], hi) || !put36(out[10:], lo) {
		return "", nil, errKey
	}
	return string(out[:]), b[12:], nil
}

func put36(to []byte, v uint64) bool {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	for i := len(to) - 1; i >= 0; i-- {
		to[i] = digits[v%36]
		v /= 36
	}
	return v == 0
}

// cutSeq reads what key.seq wrote.
func cutSeq(b []byte) (q im.Seq, rest []byte, err error) {
	if len(b) == 0 || b[0] == 0 || b[0] > 8 || len(b) < 1+int(b[0]) {
		return 0, nil, errKey
	}
	n := int(b[0])
	for _, c := range b[1 : 1+n] {
		q = q<<8 | im.Seq(c)
	}
	if n > 1 && b[1] == 0 {
		return 0, nil, errKey
	}
	return q, b[1+n:], nil
}

// parts is a key taken apart: which fields are set depends on the kind.
type parts struct {
	space space // zero for a key of the box
	kind  kind
	conv  im.ConvID
	user  im.UserID
	peer  im.UserID
	seq   im.Seq
	name  string // user name, emoji, hash, setting, list, record
}

// parse takes a key apart. It accepts exactly what the builders make.
func parse(b []byte) (p parts, err error) {
	if len(b) < spaceBytes+1 {
		return p, errKey
	}
	p.space = space{uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])}
	p.kind = kind(b[spaceBytes])
	rest := b[spaceBytes+1:]
	if p.space.n == 0 {
		return p, parseBox(&p, rest)
	}
	id := func(to *string) {
		if err == nil {
			*to, rest, err = cutID(rest)
		}
	}
	seq := func() {
		if err == nil {
			p.seq, rest, err = cutSeq(rest)
		}
	}
	fixed := func(n int) {
		if len(rest) != n {
			err = errKey
		}
	}
	switch p.kind {
	case kindTenant:
	case kindUser, kindCredential:
		p.user, rest = im.UserID(rest), nil
	case kindUsername, kindCount:
		p.name, rest = string(rest), nil
	case kindConv, kindChannel:
		id((*string)(&p.conv))
	case kindDirect:
		id((*string)(&p.user))
		id((*string)(&p.peer))
	case kindEntry:
		id((*string)(&p.conv))
		seq()
	case kindMember:
		id((*string)(&p.conv))
		id((*string)(&p.user))
	case kindOfUser:
		id((*string)(&p.user))
		id((*string)(&p.conv))
	case kindReaction:
		id((*string)(&p.conv))
		seq()
		id((*string)(&p.user))
		p.name, rest = string(rest), nil
	case kindPin:
		id((*string)(&p.conv))
		if fixed(8); err == nil {
			p.seq, rest = im.Seq(^binary.BigEndian.Uint64(rest)), nil
		}
	case kindRecord:
		if len(rest) < 2 {
			return p, errKey
		}
		p.name, rest = string(rest), nil
	case kindKey:
		fixed(keyHashSize)
		p.name, rest = string(rest), nil
	case kindSignIn:
		fixed(32)
		p.name, rest = string(rest), nil
	case kindSignInsOf:
		id((*string)(&p.user))
		fixed(32)
		p.name, rest = string(rest), nil
	default:
		return p, errKey
	}
	if err == nil && len(rest) > 0 {
		err = errKey
	}
	return p, err
}

func parseBox(p *parts, rest []byte) error {
	switch p.kind {
	case boxEpoch, boxChange, boxClock, boxProbe, boxNumber, boxRestore, boxTenants:
		if len(rest) > 0 {
			return errKey
		}
	case boxTenant, boxSetting, boxErasing:
		p.name = string(rest)
	case boxRecord:
		if len(rest) < 2 {
			return errKey
		}
		p.name = string(rest)
	default:
		return errKey
	}
	return nil
}

var kindNames = map[kind]string{
	kindTenant: "tenant", kindUser: "user", kindUsername: "user name", kindCredential: "credential",
	kindConv: "conversation", kindDirect: "direct", kindChannel: "channel", kindEntry: "entry",
	kindMember: "member", kindOfUser: "membership", kindReaction: "reaction", kindPin: "pin",
	kindKey: "key", kindSignIn: "sign-in", kindSignInsOf: "sign-in of user", kindRecord: "record", kindCount: "count",
}

// place names where a key belongs, for people: ids and numbers, never content.
func place(b []byte) string {
	p, err := parse(b)
	if err != nil {
		return fmt.Sprintf("key of %d bytes that is none of ours", len(b))
	}
	if p.space.n == 0 {
		return "box record " + strconv.Quote(string(rune(p.kind)))
	}
	s := fmt.Sprintf("tenant #%d %s", p.space.n, kindNames[p.kind])
	if p.conv != "" {
		s += " conversation " + string(p.conv)
	}
	if p.user != "" {
		s += " user " + string(p.user)
	}
	if p.seq != 0 {
		s += " seq " + strconv.FormatUint(uint64(p.seq), 10)
	}
	return s
}
