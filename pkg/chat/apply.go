package chat

import (
	"encoding/base32"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// handle decides one command, in the order of PROTOCOL 6.2 and 6.6: key,
// permission, validity, rate; then it stages what the command writes. It returns
// errFlush only before it counted or staged anything. Commit goroutine, as
// everything in the apply files.
func (c *Chat) handle(out *outcome) error {
	cmd := out.cmd
	if cmd.Op.keyed() {
		if done, err := c.remembered(out); done || err != nil {
			return err
		}
	}
	switch cmd.Op {
	case Create:
		return c.create(out)
	case Direct:
		return c.direct(out)
	}
	cv, err := c.conv(cmd)
	if err != nil {
		return err
	}
	switch cmd.Op {
	case Send:
		return c.send(out, cv)
	case Edit:
		return c.edit(out, cv)
	case Recall:
		return c.recall(out, cv)
	case React:
		return c.react(out, cv)
	case Pin:
		return c.pin(out, cv)
	case Update:
		return c.update(out, cv)
	case Join:
		return c.join(out, cv)
	case Leave:
		return c.leave(out, cv)
	case Invite:
		return c.invite(out, cv)
	case Remove:
		return c.remove(out, cv)
	case SetRole:
		return c.setRole(out, cv)
	case Mark:
		return c.mark(out, cv)
	case Reseat:
		return c.reseat(out, cv)
	case Archive:
		return c.archive(out, cv)
	}
	return im.E(im.Internal, "The server does not know this operation.")
}

func (c *Chat) conv(cmd *Command) (*conv, error) {
	return c.convs.get(bg, convKey{cmd.Actor.Tenant, cmd.Conv})
}

// remembered looks the command's key up (PROTOCOL 6.2) and answers a repeat.
func (c *Chat) remembered(out *outcome) (done bool, err error) {
	cmd := out.cmd
	if err := checkKey(cmd.Key); err != nil {
		return false, err
	}
	name := keyName{userKey{cmd.Actor.Tenant, cmd.Actor.User}, cmd.Key}
	if _, staged := c.batch.keys[name]; staged {
		return false, errFlush
	}
	k, err := c.store.Key(bg, cmd.Actor.Tenant, cmd.Actor.User, cmd.Key)
	switch {
	case im.Is(err, im.NotFound):
		return false, nil
	case err != nil:
		return false, im.Wrap("look a key up", err)
	case k.Body != cmd.Body:
		return false, im.E(im.Conflict, "This key was used for another request.").OnField("key")
	}
	c.stats.repeats.Add(1)
	out.res = Result{Seq: k.Seq, Time: k.Time, Repeat: true}
	if cmd.Op == Create {
		out.headOf, err = c.convs.get(bg, convKey{cmd.Actor.Tenant, k.Conv})
		out.res.Seq, out.res.Time = 0, 0
	}
	return true, err
}

func checkKey(key string) error {
	ok := len(key) >= 1 && len(key) <= im.MaxKeyBytes
	for i := 0; ok && i < len(key); i++ {
		ok = key[i] >= 0x20 && key[i] <= 0x7e
	}
	if !ok {
		return im.E(im.Invalid, "A key is 1 to %d printable ASCII characters.", im.MaxKeyBytes).OnField("key")
	}
	return nil
}

func (c *Chat) checkText(text string) error {
	limit := c.limits().TextBytes
	switch {
	case text == "":
		return im.E(im.Invalid, "A message needs a text.").OnField("text")
	case len(text) > limit:
		return &im.Error{Kind: im.TooLarge, Field: "text", Limit: int64(limit), Message: "The text is too long."}
	case !utf8.ValidString(text):
		return im.E(im.Invalid, "The text is not valid UTF-8.").OnField("text")
	}
	return nil
}

func checkTitle(title string) error {
	n := utf8.RuneCountInString(title)
	if n < 1 || n > im.MaxTitleRunes || !utf8.ValidString(title) {
		return im.E(im.Invalid, "A title has 1 to %d characters.", im.MaxTitleRunes).OnField("title")
	}
	return nil
}

func tooMany(field string, limit int) error {
	return &im.Error{Kind: im.TooLarge, Field: field, Limit: int64(limit), Message: "The list is too long."}
}

func invalidTarget(text string) error { return im.E(im.Invalid, "%s", text).OnField("target") }

// distinct returns the users in their order, each once.
func distinct(users []im.UserID) []im.UserID {
	seen := make(map[im.UserID]struct{}, len(users))
	once := make([]im.UserID, 0, len(users))
	for _, u := range users {
		if _, ok := seen[u]; !ok {
			seen[u] = struct{}{}
			once = append(once, u)
		}
	}
	return once
}

// known returns a user whom the actor may make a member. Whoever is disabled, or
// may not be seen, is unknown to those who invite.
func (c *Chat) known(actor im.Actor, u im.UserID, field string) (*im.User, error) {
	user, ok := c.users.User(actor.Tenant, u)
	if !ok || user.Disabled || !c.rules.Sees(actor, user) {
		return nil, im.E(im.NotFound, "There is no such user.").OnField(field)
	}
	return user, nil
}

// touch returns the state of cv to be changed, and has the batch publish it.
func (c *Chat) touch(cv *conv) *state {
	if !cv.dirty {
		s := *cv.cur
		cv.cur, cv.dirty = &s, true
		c.batch.convs = append(c.batch.convs, cv)
	}
	return cv.cur
}

// place returns the place of m to be changed, and has the batch publish it.
func (c *Chat) place(m *member) *place {
	if !m.dirty {
		p := new(place)
		if m.cur != nil {
			*p = *m.cur
		}
		m.cur, m.dirty = p, true
		c.batch.places = append(c.batch.places, m)
	}
	return m.cur
}

// record returns m as the store keeps it.
func (m *member) record(cv *conv) im.Member {
	return im.Member{Conv: cv.key.id, User: m.user, Role: m.cur.role, Joined: m.cur.joined, Read: m.cur.read, Change: m.cur.change}
}

// remember has st remember the command's key, with a result.
func (st *staged) remember(cmd *Command, cv im.ConvID, seq im.Seq, at im.Millis, repeat bool) {
	st.key = store.Key{User: cmd.Actor.User, Key: cmd.Key, Body: cmd.Body, Conv: cv, Seq: seq, Time: at, Repeat: repeat}
	st.w.Key = &st.key
}

// append stages entries of cv, whose seqs and times it sets, with the record as
// the state then has it.
func (c *Chat) append(st *staged, cv *conv, entries []im.Entry) {
	s := c.touch(cv)
	at := max(im.Millis(c.now().UnixMilli()), s.rec.Last) // never falls (PROTOCOL 5.1)
	st.w.PrevHead = s.rec.Head
	for i := range entries {
		e := &entries[i]
		s.rec.Head++
		e.Conv, e.Seq, e.Time = cv.key.id, s.rec.Head, at
		if e.Kind == im.EntryMessage {
			s.rec.LastMsg = e.Seq
		}
		c.batch.bytes += len(e.Text)
	}
	s.rec.Last = at
	st.w.Entries = entries
	cv.staged = append(cv.staged, st)
}

// stage adds a write to the batch, after the state has been changed.
func (c *Chat) stage(st *staged, cv *conv) {
	b := c.batch
	st.conv, st.w.Tenant = cv, cv.key.tenant
	if len(st.w.Entries) > 0 || st.w.Create {
		st.rec = cv.cur.rec
		st.w.Conv = &st.rec
	}
	for _, m := range st.members {
		st.w.Members = append(st.w.Members, m.record(cv))
	}
	if st.w.Key != nil {
		b.keys[keyName{userKey{st.w.Tenant, st.key.User}, st.key.Key}] = struct{}{}
	}
	size := 256 + 128*len(st.w.Members)
	b.bytes += size
	for i := range st.w.Entries {
		size += len(st.w.Entries[i].Text)
	}
	made := 0
	if st.w.Create {
		made = 1
	}
	c.count(st.w.Tenant, made, size)
	b.staged = append(b.staged, st)
	b.writes = append(b.writes, &st.w)
}

// newID returns an unguessable id for a conversation.
func (c *Chat) newID() (im.ConvID, error) {
	var b [10]byte
	if _, err := io.ReadFull(c.rand, b[:]); err != nil {
		return "", im.Wrap("make a conversation id", err)
	}
	return im.ConvID("c_" + strings.ToLower(base32.StdEncoding.EncodeToString(b[:]))), nil
}

// create is conversation.create (PROTOCOL 4.3).
func (c *Chat) create(out *outcome) error {
	cmd := out.cmd
	if cmd.Kind < im.KindGroup || cmd.Kind > im.KindNotice {
		return im.E(im.Invalid, "A conversation made like this is a group, a channel or a notice board.").OnField("kind")
	}
	if cmd.System {
		return c.establish(out)
	}
	if err := access.Decide(c.rules.Policy(cmd.Actor.Tenant), cmd.Actor.Role, 0, cmd.Kind, access.Create, access.Object{}); err != nil {
		return err
	}
	if err := checkTitle(cmd.Title); err != nil {
		return err
	}
	if len(cmd.Users) > im.MaxMembersInCall {
		return tooMany("members", im.MaxMembersInCall)
	}
	users := distinct(cmd.Users)
	for _, u := range users {
		if _, err := c.known(cmd.Actor, u, "members"); err != nil {
			return err
		}
	}
	if err := c.spend(out); err != nil {
		return err
	}
	if err := c.roomForAnother(cmd.Actor.Tenant); err != nil {
		return err
	}
	users = slices.DeleteFunc(users, func(u im.UserID) bool { return u == cmd.Actor.User })
	rec := im.Conversation{Kind: cmd.Kind, Title: cmd.Title}
	cv, st, err := c.found(cmd.Actor.Tenant, rec, append([]im.UserID{cmd.Actor.User}, users...))
	if err != nil {
		return err
	}
	cv.cur.member(cmd.Actor.User).cur.role = im.MemberOwner
	st.remember(cmd, cv.key.id, 0, cv.cur.rec.Created, false)
	c.stage(st, cv)
	out.headOf = cv
	return nil
}

// direct is conversation.direct (PROTOCOL 4.3).
func (c *Chat) direct(out *outcome) error {
	cmd := out.cmd
	if len(cmd.Users) != 1 {
		return im.E(im.BadParams, "Name one user.").OnField("user")
	}
	me, other := cmd.Actor.User, cmd.Users[0]
	if me == other {
		return im.E(im.Invalid, "A conversation of two needs somebody else.").OnField("user")
	}
	if len(other) > im.MaxIDBytes { // as in cache.get
		return im.E(im.NotFound, "There is no such user.").OnField("user")
	}
	pair := pairName{cmd.Actor.Tenant, [2]im.UserID{min(me, other), max(me, other)}}
	if _, staged := c.batch.pairs[pair]; staged {
		return errFlush
	}
	id, err := c.store.Direct(bg, cmd.Actor.Tenant, me, other)
	if err == nil {
		if out.headOf, err = c.convs.get(bg, convKey{cmd.Actor.Tenant, id}); err != nil {
			return err
		}
		return c.spend(out)
	}
	if !im.Is(err, im.NotFound) {
		return im.Wrap("look a direct conversation up", err)
	}
	rules := c.rules.Policy(cmd.Actor.Tenant)
	if err := access.Decide(rules, cmd.Actor.Role, 0, im.KindDirect, access.Create, access.Object{}); err != nil {
		return err
	}
	peer, err := c.known(cmd.Actor, other, "user")
	if err != nil {
		return err
	}
	facts := access.Object{Peer: peer.Role, SharesClass: c.rules.SharesClass(cmd.Actor.Tenant, me, other)}
	if err := access.Decide(rules, cmd.Actor.Role, 0, im.KindDirect, access.Create, facts); err != nil {
		return err
	}
	if err := c.spend(out); err != nil {
		return err
	}
	if err := c.roomForAnother(cmd.Actor.Tenant); err != nil {
		return err
	}
	cv, st, err := c.found(cmd.Actor.Tenant, im.Conversation{Kind: im.KindDirect, Peers: pair.peers}, pair.peers[:])
	if err != nil {
		return err
	}
	c.batch.pairs[pair] = struct{}{}
	c.stage(st, cv)
	out.headOf = cv
	return nil
}

// found makes a new conversation whose first members all have the role member.
func (c *Chat) found(t im.TenantID, rec im.Conversation, users []im.UserID) (*conv, *staged, error) {
	id, err := c.newID()
	if err != nil {
		return nil, nil, err
	}
	now := im.Millis(c.now().UnixMilli())
	rec.Tenant, rec.ID, rec.Created, rec.Last, rec.Members = t, id, now, now, len(users)
	cv := &conv{key: convKey{t, id}, cur: &state{rec: rec}, dirty: true}
	cv.tail.start(0)
	cv.digest.start(0, c.convs.digestLimit)
	st := &staged{changed: users}
	st.w.Create = true
	for _, u := range users {
		m := &member{user: u}
		p := c.place(m)
		p.role, p.joined = im.MemberMember, now
		st.members = append(st.members, m)
	}
	cv.cur.roster = with(nil, st.members)
	c.batch.convs = append(c.batch.convs, cv)
	return cv, st, nil
}
