package badgerstore

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// A value on disk is a Castagnoli CRC-32 over key and payload, then the
// payload, so that a record that was altered or that turns up at another place
// does not pass (DESIGN 5.5). Numbers are varints, texts and ids carry their
// length. Fields that come later go to the end: absent means zero.

const sumBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errValue = errors.New("malformed value")

func checksum(key, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, payload)
}

// seal puts the checksum in front of a payload that was encoded behind room
// for it (see begin).
func seal(k key, value []byte) []byte {
	binary.BigEndian.PutUint32(value, checksum(k.b, value[sumBytes:]))
	return value
}

// begin returns an empty value with room for the checksum.
func begin(room int) []byte { return make([]byte, sumBytes, sumBytes+room) }

// unseal returns the payload of a value that belongs to that key.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < sumBytes {
		return nil, errors.New("too short for its checksum")
	}
	if binary.BigEndian.Uint32(value) != checksum(key, value[sumBytes:]) {
		return nil, errors.New("checksum does not match")
	}
	return value[sumBytes:], nil
}

func putUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }
func putInt(b []byte, v int64) []byte   { return binary.AppendVarint(b, v) }
func putText(b []byte, s string) []byte { return append(putUint(b, uint64(len(s))), s...) }
func putStanding(b []byte, s store.Standing) []byte {
	b = putInt(putUint(b, uint64(s.Seq)), int64(s.Time))
	return append(b, bit(s.On, 0))
}

func bit(on bool, n uint) byte {
	if on {
		return 1 << n
	}
	return 0
}

// reader reads a payload; the first fault sticks. Texts are copied out.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail() {
	r.b, r.err = nil, errValue
}

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) text() string { return string(r.take(r.uint())) }

func (r *reader) id() string {
	if r.err != nil {
		return ""
	}
	id, rest, err := cutID(r.b)
	if err != nil {
		r.fail()
		return ""
	}
	r.b = rest
	return id
}

// small reads a number that must not be above most.
func (r *reader) small(most uint64) int {
	v := r.uint()
	if v > most {
		r.fail()
		return 0
	}
	return int(v)
}

func (r *reader) standing() store.Standing {
	return store.Standing{Seq: im.Seq(r.uint()), Time: im.Millis(r.int()), On: r.byte() != 0}
}

// end reports the first fault, or that something is left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return errValue
	}
	return r.err
}

// record is what is kept of one entry: the entry and what became of it. It is
// rewritten in place, so that a page is one run of the iterator.
type record struct {
	im.Message
	pin  store.Standing // of a message: the newest pin entry on it
	edit im.Seq         // of a message: the newest edit of it; of an edit: the one before
}

// What a record's second byte says is there.
const (
	hasReply uint = iota // of a recall: the text is kept
	hasMentions
	hasKey
	hasEdit
	isRecalled // of a message; of an edit: hidden
	hasPin
	hasReactions
	isEdited
)

func (m *record) encode() []byte {
	b := begin(64 + len(m.Entry.Text) + len(m.State.Text) + len(m.Title) + 14*len(m.Mentions) + 16*len(m.Reactions))
	flags := bit(m.ReplyTo != 0 || m.Keep, hasReply) | bit(len(m.Mentions) > 0, hasMentions) | bit(m.Key != "", hasKey) |
		bit(m.edit != 0, hasEdit) | bit(m.Recalled || m.Hidden, isRecalled) | bit(m.pin.Seq != 0, hasPin) |
		bit(len(m.Reactions) > 0, hasReactions) | bit(m.Edited != 0, isEdited)
	b = append(b, byte(m.Kind), flags)
	b = putInt(b, int64(m.Time))
	b = appendID(b, string(m.By))
	if m.edit != 0 {
		b = putUint(b, uint64(m.edit))
	}
	switch m.Kind {
	case im.EntryMessage:
		b = putText(b, m.Entry.Text)
		if m.ReplyTo != 0 {
			b = putUint(b, uint64(m.ReplyTo))
		}
		if len(m.Mentions) > 0 {
			b = putUint(b, uint64(len(m.Mentions)))
			for _, u := range m.Mentions {
				b = appendID(b, string(u))
			}
		}
		if m.Key != "" {
			b = putKeyText(b, m.Key)
		}
		if m.Edited != 0 {
			b = putText(putInt(b, int64(m.Edited)), m.State.Text)
		}
		if m.pin.Seq != 0 {
			b = putUint(putStanding(b, m.pin), uint64(m.Pinned))
		}
		if len(m.Reactions) > 0 {
			b = putUint(b, uint64(len(m.Reactions)))
			for _, r := range m.Reactions {
				b = putUint(putText(b, r.Emoji), uint64(r.Count))
			}
		}
	case im.EntryEdit:
		b = putText(putUint(b, uint64(m.Target)), m.Entry.Text)
	case im.EntryRecall:
		b = putUint(b, uint64(m.Target))
	case im.EntryReaction:
		b = append(putText(putUint(b, uint64(m.Target)), m.Emoji), bit(m.On, 0))
	case im.EntryPin:
		b = append(putUint(b, uint64(m.Target)), bit(m.On, 0))
	case im.EntryMember:
		b = append(appendID(b, string(m.User)), byte(m.Change), byte(m.Role))
	case im.EntryMeta:
		b = putText(b, m.Title)
		if m.Archive != 0 {
			b = append(b, byte(m.Archive))
		}
	}
	return b
}

// decode fills the record of conversation c at seq q, sharing nothing with b.
func (m *record) decode(c im.ConvID, q im.Seq, b []byte) error {
	r := reader{b: b}
	*m = record{}
	m.Kind = im.EntryKind(r.byte())
	flags := r.byte()
	has := func(n uint) bool { return flags&(1<<n) != 0 }
	m.Conv, m.Seq = c, q
	m.Time = im.Millis(r.int())
	m.By = im.UserID(r.id())
	if has(hasEdit) {
		m.edit = im.Seq(r.uint())
	}
	switch m.Kind {
	case im.EntryMessage:
		m.Entry.Text = r.text()
		if has(hasReply) {
			m.ReplyTo = im.Seq(r.uint())
		}
		if has(hasMentions) {
			n := r.small(uint64(len(r.b)))
			m.Mentions = make([]im.UserID, 0, n)
			for range n {
				m.Mentions = append(m.Mentions, im.UserID(r.id()))
			}
		}
		if has(hasKey) {
			m.Key = r.keyText()
		}
		m.Recalled = has(isRecalled)
		if has(isEdited) {
			m.Edited = im.Millis(r.int())
			m.State.Text = r.text()
		}
		if has(hasPin) {
			m.pin = r.standing()
			m.Pinned = im.Seq(r.uint())
		}
		if has(hasReactions) {
			n := r.small(uint64(len(r.b)))
			m.Reactions = make([]im.Reaction, 0, n)
			for range n {
				m.Reactions = append(m.Reactions, im.Reaction{Emoji: r.text(), Count: r.small(math.MaxInt32)})
			}
		}
	case im.EntryEdit:
		m.Target, m.Entry.Text = im.Seq(r.uint()), r.text()
		m.Hidden = has(isRecalled)
	case im.EntryRecall:
		m.Target, m.Keep = im.Seq(r.uint()), has(hasReply)
	case im.EntryReaction:
		m.Target, m.Emoji, m.On = im.Seq(r.uint()), r.text(), r.byte() != 0
	case im.EntryPin:
		m.Target, m.On = im.Seq(r.uint()), r.byte() != 0
	case im.EntryMember:
		m.User, m.Change, m.Role = im.UserID(r.id()), im.MemberChange(r.byte()), im.MemberRole(r.byte())
	case im.EntryMeta:
		m.Title = r.text()
		if len(r.b) > 0 {
			m.Archive = im.ArchiveChange(r.byte())
		}
	default:
		return errValue
	}
	return r.end()
}

// putKeyText writes an idempotency key; a lower-case UUID, which most are, in
// 17 bytes: 255, then the number. Any other: its length, then its bytes.
func putKeyText(b []byte, k string) []byte {
	if id, ok := parseUUID(k); ok {
		return append(append(b, 255), id[:]...)
	}
	if len(k) > 254 {
		k = k[:254] // cannot be: im.MaxKeyBytes
	}
	return append(append(b, byte(len(k))), k...)
}

func (r *reader) keyText() string {
	n := r.byte()
	if n < 255 {
		return string(r.take(uint64(n)))
	}
	id := r.take(16)
	if id == nil {
		return ""
	}
	return formatUUID([16]byte(id))
}

// parseUUID reads a UUID that was written as formatUUID does.
func parseUUID(s string) (id uuid.UUID, ok bool) {
	id, err := uuid.Parse(s)
	return id, err == nil && id.String() == s
}

func formatUUID(id [16]byte) string { return uuid.UUID(id).String() }

func encodeConv(c *im.Conversation) []byte {
	b := begin(64 + len(c.Title))
	b = append(b, byte(c.Kind))
	b = putUint(b, uint64(c.Head))
	b = putUint(b, uint64(c.LastMsg))
	b = putUint(b, uint64(c.Change))
	b = putInt(b, int64(c.Created))
	b = putInt(b, int64(c.Last-c.Created))
	b = putUint(b, uint64(c.Members))
	b = putText(b, c.Title)
	if c.Peers != [2]im.UserID{} {
		b = appendID(appendID(b, string(c.Peers[0])), string(c.Peers[1]))
	} else if c.Archived {
		b = append(b, bit(true, 0))
	}
	return b
}

func decodeConv(t im.TenantID, id im.ConvID, b []byte) (c im.Conversation, err error) {
	r := reader{b: b}
	c.Tenant, c.ID = t, id
	c.Kind = im.ConvKind(r.byte())
	c.Head, c.LastMsg, c.Change = im.Seq(r.uint()), im.Seq(r.uint()), im.Change(r.uint())
	c.Created = im.Millis(r.int())
	c.Last = c.Created + im.Millis(r.int())
	c.Members = r.small(math.MaxInt32)
	c.Title = r.text()
	switch {
	case len(r.b) > 0 && c.Kind != im.KindDirect:
		c.Archived = r.byte()&1 != 0
	case len(r.b) > 0:
		c.Peers = [2]im.UserID{im.UserID(r.id()), im.UserID(r.id())}
	}
	return c, r.end()
}

func encodeMember(m *im.Member) []byte {
	b := begin(24)
	b = append(b, byte(m.Role))
	b = putInt(b, int64(m.Joined))
	b = putUint(b, uint64(m.Read))
	return putUint(b, uint64(m.Change))
}

func decodeMember(c im.ConvID, u im.UserID, b []byte) (im.Member, error) {
	r := reader{b: b}
	m := im.Member{Conv: c, User: u, Role: im.MemberRole(r.byte()), Joined: im.Millis(r.int()),
		Read: im.Seq(r.uint()), Change: im.Change(r.uint())}
	return m, r.end()
}

// keyRecord is a store.Key with the age of the store when it was written, in
// hours, by which it is forgotten again.
type keyRecord struct {
	store.Key
	ageHours uint64
}

func (k *keyRecord) encode() []byte {
	b := begin(48)
	b = append(b, bit(k.Repeat, 0))
	b = append(b, k.Body[:]...)
	b = appendID(b, string(k.Conv))
	b = putUint(b, uint64(k.Seq))
	b = putInt(b, int64(k.Time))
	return putUint(b, k.ageHours)
}

func (k *keyRecord) decode(b []byte) error {
	r := reader{b: b}
	k.Repeat = r.byte() != 0
	copy(k.Body[:], r.take(16))
	k.Conv, k.Seq, k.Time = im.ConvID(r.id()), im.Seq(r.uint()), im.Millis(r.int())
	k.ageHours = r.uint()
	return r.end()
}

func encodeTenant(t *im.Tenant) []byte {
	b := putText(begin(16+len(t.Name)), t.Name)
	b = append(b, bit(t.Suspended, 0))
	return putInt(b, int64(t.Created))
}

func decodeTenant(id im.TenantID, b []byte) (im.Tenant, error) {
	r := reader{b: b}
	t := im.Tenant{ID: id, Name: r.text(), Suspended: r.byte() != 0, Created: im.Millis(r.int())}
	return t, r.end()
}

func encodeUser(u *im.User) []byte {
	b := putText(begin(24+len(u.Username)+len(u.Name)), u.Username)
	b = putText(b, u.Name)
	b = append(b, byte(u.Role), bit(u.Disabled, 0))
	return putInt(b, int64(u.Created))
}

func decodeUser(t im.TenantID, id im.UserID, b []byte) (im.User, error) {
	r := reader{b: b}
	u := im.User{Tenant: t, ID: id, Username: r.text(), Name: r.text(), Role: im.Role(r.byte()),
		Disabled: r.byte() != 0, Created: im.Millis(r.int())}
	return u, r.end()
}

func encodeCredential(c *store.Credential) []byte {
	return putInt(putText(begin(16+len(c.PHC)), c.PHC), int64(c.Changed))
}

func decodeCredential(b []byte) (store.Credential, error) {
	r := reader{b: b}
	c := store.Credential{PHC: r.text(), Changed: im.Millis(r.int())}
	return c, r.end()
}

func encodeSignIn(s *store.SignIn) []byte {
	b := appendID(begin(64+len(s.Device)), string(s.ID))
	b = appendID(b, string(s.User))
	b = putText(b, s.Device)
	b = putInt(b, int64(s.Created))
	b = putInt(b, int64(s.CreatedAge))
	return putInt(b, int64(s.Lifetime))
}

func decodeSignIn(t im.TenantID, hash [32]byte, b []byte) (store.SignIn, error) {
	r := reader{b: b}
	s := store.SignIn{Tenant: t, Hash: hash, ID: im.SignInID(r.id()), User: im.UserID(r.id()), Device: r.text(),
		Created: im.Millis(r.int()), CreatedAge: time.Duration(r.int()), Lifetime: time.Duration(r.int())}
	return s, r.end()
}

// clockRecord is what survives of the clock.
type clockRecord struct {
	age  time.Duration
	high int64 // UnixMilli
}

func (c clockRecord) encode() []byte { return putInt(putInt(begin(16), int64(c.age)), c.high) }

func decodeClock(b []byte) (clockRecord, error) {
	r := reader{b: b}
	c := clockRecord{time.Duration(r.int()), r.int()}
	if c.age < 0 {
		return c, errValue
	}
	return c, r.end()
}

func encodeUint(v uint64) []byte { return putUint(begin(10), v) }

func decodeUint(b []byte) (uint64, error) {
	r := reader{b: b}
	v := r.uint()
	return v, r.end()
}

func encodeText(s string) []byte { return append(begin(len(s)), s...) }
