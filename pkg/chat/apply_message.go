package chat

import (
	"slices"
	"time"

	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
)

// maxEmojis bounds the different emojis on one message, so that a message's
// record stays small whatever its readers do.
const maxEmojis = 200

// may asks access about the actor as a member of cv.
func (c *Chat) may(cmd *Command, cv *conv, act access.Action, obj access.Object) error {
	if cmd.System {
		return nil
	}
	rec := &cv.cur.rec
	obj.Archived = rec.Archived
	if rec.Kind == im.KindDirect {
		obj.Peer = c.peerRole(rec, cmd.Actor.User)
	}
	return access.Decide(c.rules.Policy(rec.Tenant), cmd.Actor.Role, cv.cur.roleNow(cmd.Actor.User), rec.Kind, act, obj)
}

// peerRole returns the tenant role of the other one of a direct; 0: not known.
func (c *Chat) peerRole(rec *im.Conversation, u im.UserID) im.Role {
	other := rec.Peers[0]
	if other == u {
		other = rec.Peers[1]
	}
	if user, ok := c.users.User(rec.Tenant, other); ok {
		return user.Role
	}
	return 0
}

// quiet refuses what is written in the quiet hours of the actor's role (PROTOCOL
// 6.7), without taking a token of the rate; or notes that it passes.
func (c *Chat) quiet(out *outcome, cv *conv) error {
	cmd := out.cmd
	rules := c.rules.Policy(cmd.Actor.Tenant)
	if rules == nil {
		return nil
	}
	left := rules.QuietFor(cmd.Actor.Role, c.now())
	if left == 0 {
		return nil
	}
	if rules.PassesQuiet(cmd.Actor.Role, cv.cur.rec.Kind) {
		if !c.passes.room() {
			return &im.Error{Kind: im.Unavailable, RetryAfter: time.Second,
				Message: "The audit log can't keep up just now. Nothing was stored; try again in a moment."}
		}
		out.pass = true
		return nil
	}
	out.counted = true
	return &im.Error{Kind: im.RateLimited, Reason: im.QuietHours, RetryAfter: left,
		Message: "These are quiet hours. Your message waits and goes out when they end."}
}

// one stages an accepted message command: its entry and its key.
func (c *Chat) one(out *outcome, cv *conv, e im.Entry) {
	st := &staged{}
	e.By = out.cmd.Actor.User
	st.entry[0] = e
	c.append(st, cv, st.entry[:])
	done := &st.entry[0]
	st.remember(out.cmd, cv.key.id, done.Seq, done.Time, false)
	c.stage(st, cv)
	out.res = Result{Seq: done.Seq, Time: done.Time}
}

// nothing stages the key of a command that changes nothing (PROTOCOL 6.4).
func (c *Chat) nothing(out *outcome, cv *conv, seq im.Seq, at im.Millis) {
	st := &staged{}
	st.remember(out.cmd, cv.key.id, seq, at, true)
	c.stage(st, cv)
	out.res = Result{Seq: seq, Time: at, Repeat: true}
}

// send is message.send (PROTOCOL 6.1).
func (c *Chat) send(out *outcome, cv *conv) error {
	cmd := out.cmd
	if err := c.may(cmd, cv, access.Send, access.Object{}); err != nil {
		return err
	}
	if err := c.checkText(cmd.Text); err != nil {
		return err
	}
	if len(cmd.Mentions) > im.MaxMentions {
		return tooMany("mentions", im.MaxMentions)
	}
	if err := c.checkReplyTo(cv, cmd.ReplyTo); err != nil {
		return err
	}
	if err := c.quiet(out, cv); err != nil {
		return err
	}
	if err := c.spend(out); err != nil {
		return err
	}
	var mentions []im.UserID
	for _, u := range cmd.Mentions { // who is no member is dropped (PROTOCOL 5.1)
		if cv.cur.roleNow(u) != 0 && !slices.Contains(mentions, u) {
			mentions = append(mentions, u)
		}
	}
	c.one(out, cv, im.Entry{Kind: im.EntryMessage, Text: cmd.Text, ReplyTo: cmd.ReplyTo, Mentions: mentions, Key: cmd.Key})
	return nil
}

// checkReplyTo accepts any message of the log, a recalled one too: a reply shows
// where it belongs even when what it answers is gone.
func (c *Chat) checkReplyTo(cv *conv, seq im.Seq) error {
	if seq == 0 {
		return nil
	}
	wrong := im.E(im.Invalid, "What is replied to is no message of this conversation.").OnField("reply_to")
	if seq > cv.cur.rec.Head {
		return wrong
	}
	if seq > committed(cv) {
		return errFlush
	}
	cv.mu.Lock()
	is, known := cv.digest.isMessage(seq)
	if e := cv.tail.at(seq); !known && e != nil {
		is, known = e.Kind == im.EntryMessage, true
	}
	cv.mu.Unlock()
	if !known {
		page, err := c.store.Page(bg, cv.key.tenant, cv.key.id, "", seq, seq)
		if err != nil {
			return im.Wrap("read what is replied to", err)
		}
		is = len(page.Entries) == 1 && page.Entries[0].Kind == im.EntryMessage
	}
	if !is {
		return wrong
	}
	return nil
}

// committed returns the committed head: 0 for a conversation that is being made.
func committed(cv *conv) im.Seq {
	if s := cv.pub.Load(); s != nil {
		return s.rec.Head
	}
	return 0
}

// target is a message that a command is about.
type target struct {
	by     im.UserID
	time   im.Millis
	emojis []im.Reaction
}

// target returns the message at seq, which must not be recalled (PROTOCOL 6.4).
func (c *Chat) target(cv *conv, seq im.Seq) (target, error) {
	if seq == 0 || seq > cv.cur.rec.Head {
		return target{}, invalidTarget("There is no such message in this conversation.")
	}
	if _, recalled := c.batch.marks[markName{convKey: cv.key, target: seq}]; recalled || seq > committed(cv) {
		return target{}, errFlush
	}
	var m im.Message
	cv.mu.Lock()
	e := cv.tail.at(seq)
	if e != nil {
		m = e.Message
		m.Reactions = slices.Clone(m.Reactions)
	}
	cv.mu.Unlock()
	if e == nil {
		page, err := c.store.Page(bg, cv.key.tenant, cv.key.id, "", seq, seq)
		if err != nil {
			return target{}, im.Wrap("read the target", err)
		}
		if len(page.Entries) == 1 {
			m = page.Entries[0]
		}
	}
	switch {
	case m.Kind != im.EntryMessage:
		return target{}, invalidTarget("That entry is no message.")
	case m.Recalled:
		return target{}, invalidTarget("That message was taken back.")
	}
	return target{m.By, m.Time, m.Reactions}, nil
}

// targeted does what the four commands about a message have in common: whether
// the caller may do such a thing at all, the message, whether to this one.
func (c *Chat) targeted(cmd *Command, cv *conv, act access.Action) (target, error) {
	if err := c.may(cmd, cv, act, access.Object{Own: true}); err != nil {
		return target{}, err
	}
	m, err := c.target(cv, cmd.Target)
	if err != nil {
		return target{}, err
	}
	return m, c.may(cmd, cv, act, access.Object{Own: m.by == cmd.Actor.User})
}

// edit is message.edit. It always makes an entry, even with the same text.
func (c *Chat) edit(out *outcome, cv *conv) error {
	cmd := out.cmd
	if _, err := c.targeted(cmd, cv, access.Edit); err != nil {
		return err
	}
	if err := c.checkText(cmd.Text); err != nil {
		return err
	}
	if err := c.quiet(out, cv); err != nil {
		return err
	}
	if err := c.spend(out); err != nil {
		return err
	}
	c.one(out, cv, im.Entry{Kind: im.EntryEdit, Target: cmd.Target, Text: cmd.Text})
	return nil
}

// recall is message.recall.
func (c *Chat) recall(out *outcome, cv *conv) error {
	cmd := out.cmd
	if _, err := c.targeted(cmd, cv, access.Recall); err != nil {
		return err
	}
	if err := c.spend(out); err != nil {
		return err
	}
	c.batch.marks[markName{convKey: cv.key, target: cmd.Target}] = struct{}{}
	c.one(out, cv, im.Entry{Kind: im.EntryRecall, Target: cmd.Target,
		Keep: c.rules.Policy(cmd.Actor.Tenant).KeepsRecalled()})
	return nil
}

// react is message.react.
func (c *Chat) react(out *outcome, cv *conv) error {
	cmd := out.cmd
	m, err := c.targeted(cmd, cv, access.React)
	if err != nil {
		return err
	}
	if n := len(cmd.Emoji); n < 1 || n > im.MaxEmojiBytes {
		return im.E(im.Invalid, "A reaction is one emoji.").OnField("emoji")
	}
	name := markName{convKey: cv.key, target: cmd.Target, by: cmd.Actor.User, emoji: cmd.Emoji}
	if _, staged := c.batch.marks[name]; staged {
		return errFlush
	}
	now, err := c.store.Reaction(bg, cv.key.tenant, cv.key.id, cmd.Target, cmd.Actor.User, cmd.Emoji)
	if err != nil {
		return im.Wrap("read a reaction", err)
	}
	if cmd.On && !now.On && len(m.emojis) >= maxEmojis &&
		!slices.ContainsFunc(m.emojis, func(r im.Reaction) bool { return r.Emoji == cmd.Emoji }) {
		return &im.Error{Kind: im.TooLarge, Field: "emoji", Limit: maxEmojis, Message: "This message has too many different reactions."}
	}
	if err := c.spend(out); err != nil {
		return err
	}
	if now.On == cmd.On {
		c.standing(out, cv, now.Seq, now.Time, m)
		return nil
	}
	c.batch.marks[name] = struct{}{}
	c.one(out, cv, im.Entry{Kind: im.EntryReaction, Target: cmd.Target, Emoji: cmd.Emoji, On: cmd.On})
	return nil
}

// pin is message.pin.
func (c *Chat) pin(out *outcome, cv *conv) error {
	cmd := out.cmd
	m, err := c.targeted(cmd, cv, access.Pin)
	if err != nil {
		return err
	}
	name := markName{convKey: cv.key, target: cmd.Target, pin: true}
	if _, staged := c.batch.marks[name]; staged {
		return errFlush
	}
	now, err := c.store.Pin(bg, cv.key.tenant, cv.key.id, cmd.Target)
	if err != nil {
		return im.Wrap("read a pin", err)
	}
	if err := c.spend(out); err != nil {
		return err
	}
	if now.On == cmd.On {
		c.standing(out, cv, now.Seq, now.Time, m)
		return nil
	}
	c.batch.marks[name] = struct{}{}
	c.one(out, cv, im.Entry{Kind: im.EntryPin, Target: cmd.Target, On: cmd.On})
	return nil
}

// standing answers what is so already with the entry in force, or with the
// target if there never was one (PROTOCOL 6.4).
func (c *Chat) standing(out *outcome, cv *conv, seq im.Seq, at im.Millis, m target) {
	if seq == 0 {
		seq, at = out.cmd.Target, m.time
	}
	c.nothing(out, cv, seq, at)
}

// mark is read.mark (PROTOCOL 7.1).
func (c *Chat) mark(out *outcome, cv *conv) error {
	cmd := out.cmd
	if err := c.may(cmd, cv, access.Mark, access.Object{}); err != nil {
		return err
	}
	m := cv.cur.member(cmd.Actor.User)
	seq := min(cmd.Seq, cv.cur.rec.Head) // above head counts as head
	if seq <= m.cur.read {
		return nil // a mark only rises
	}
	c.place(m).read = seq
	st := &staged{marked: true, session: cmd.Session, members: []*member{m}}
	c.stage(st, cv)
	return nil
}
