package chat

import (
	"github.com/pipit-im/pipit/pkg/access"
	"github.com/pipit-im/pipit/pkg/im"
)

// update is conversation.update: a new title.
func (c *Chat) update(out *outcome, cv *conv) error {
	cmd := out.cmd
	if err := c.may(cmd, cv, access.Rename, access.Object{}); err != nil {
		return err
	}
	if err := checkTitle(cmd.Title); err != nil {
		return err
	}
	if err := c.spend(out); err != nil {
		return err
	}
	out.headOf = cv
	if cmd.Title == cv.cur.rec.Title {
		return nil
	}
	c.touch(cv).rec.Title = cmd.Title
	st := &staged{everyone: true}
	st.entry[0] = im.Entry{Kind: im.EntryMeta, By: cmd.Actor.User, Title: cmd.Title}
	c.append(st, cv, st.entry[:])
	c.stage(st, cv)
	return nil
}

// join is conversation.join.
func (c *Chat) join(out *outcome, cv *conv) error {
	cmd := out.cmd
	if err := c.may(cmd, cv, access.Join, access.Object{}); err != nil {
		return err
	}
	if err := c.spend(out); err != nil {
		return err
	}
	out.headOf = cv
	if cv.cur.roleNow(cmd.Actor.User) == 0 {
		c.admit(cv, cmd.Actor.User, []im.UserID{cmd.Actor.User})
	}
	return nil
}

// invite is conversation.invite.
func (c *Chat) invite(out *outcome, cv *conv) error {
	cmd := out.cmd
	if err := c.may(cmd, cv, access.Invite, access.Object{}); err != nil {
		return err
	}
	if len(cmd.Users) > im.MaxMembersInCall {
		return tooMany("users", im.MaxMembersInCall)
	}
	var users []im.UserID
	for _, u := range distinct(cmd.Users) {
		if cv.cur.roleNow(u) != 0 {
			continue // a member already
		}
		if _, err := c.known(cmd.Actor, u, "users"); err != nil {
			return err
		}
		users = append(users, u)
	}
	if err := c.spend(out); err != nil {
		return err
	}
	if len(users) > 0 {
		c.admit(cv, cmd.Actor.User, users)
	}
	return nil
}

// admit stages that users, none of whom is a member, join with the role member.
// Who was one before keeps the read mark.
func (c *Chat) admit(cv *conv, by im.UserID, users []im.UserID) {
	s := c.touch(cv)
	st := &staged{changed: users}
	entries := make([]im.Entry, len(users))
	var added []*member
	for i, u := range users {
		entries[i] = im.Entry{Kind: im.EntryMember, By: by, User: u, Change: im.ChangeJoined, Role: im.MemberMember}
		m := s.member(u)
		if m == nil {
			m = &member{user: u}
			added = append(added, m)
		}
		st.members = append(st.members, m)
	}
	if len(added) > 0 {
		s.roster = with(s.roster, added)
	}
	s.rec.Members += len(users)
	c.append(st, cv, entries)
	for _, m := range st.members {
		p := c.place(m)
		p.role, p.joined = im.MemberMember, s.rec.Last
	}
	c.stage(st, cv)
}

// leave is conversation.leave.
func (c *Chat) leave(out *outcome, cv *conv) error {
	cmd := out.cmd
	if err := c.may(cmd, cv, access.Leave, access.Object{}); err != nil {
		return err
	}
	if err := c.lastOwner(cv, []im.UserID{cmd.Actor.User}); err != nil {
		return err
	}
	if err := c.spend(out); err != nil {
		return err
	}
	c.dismiss(cv, cmd.Actor.User, []im.UserID{cmd.Actor.User})
	return nil
}

// remove is conversation.remove.
func (c *Chat) remove(out *outcome, cv *conv) error {
	cmd := out.cmd
	if err := c.may(cmd, cv, access.Remove, access.Object{}); err != nil {
		return err
	}
	if len(cmd.Users) > im.MaxMembersInCall {
		return tooMany("users", im.MaxMembersInCall)
	}
	users := distinct(cmd.Users)
	for _, u := range users {
		if cv.cur.roleNow(u) == 0 {
			return im.E(im.NotFound, "There is no such member.").OnField("users")
		}
	}
	for _, u := range users {
		if err := c.may(cmd, cv, access.Remove, access.Object{Target: cv.cur.roleNow(u)}); err != nil {
			return err
		}
	}
	if err := c.lastOwner(cv, users); err != nil {
		return err
	}
	if err := c.spend(out); err != nil {
		return err
	}
	if len(users) > 0 {
		c.dismiss(cv, cmd.Actor.User, users)
	}
	return nil
}

// lastOwner refuses that users leave if they are all the owners and others
// remain (PROTOCOL 4.3).
func (c *Chat) lastOwner(cv *conv, users []im.UserID) error {
	going := 0
	for _, u := range users {
		if cv.cur.roleNow(u) == im.MemberOwner {
			going++
		}
	}
	if going == 0 {
		return nil
	}
	owners := cv.cur.owners()
	return access.LastOwner(owners, owners-going, cv.cur.rec.Members-len(users))
}

// dismiss stages that users, all members, leave.
func (c *Chat) dismiss(cv *conv, by im.UserID, users []im.UserID) {
	s := c.touch(cv)
	st := &staged{left: users}
	entries := make([]im.Entry, len(users))
	for i, u := range users {
		entries[i] = im.Entry{Kind: im.EntryMember, By: by, User: u, Change: im.ChangeLeft}
		m := s.member(u)
		c.place(m).role = 0
		st.members = append(st.members, m)
	}
	s.rec.Members -= len(users)
	c.append(st, cv, entries)
	c.stage(st, cv)
}

// setRole is conversation.set_role.
func (c *Chat) setRole(out *outcome, cv *conv) error {
	cmd := out.cmd
	if err := c.may(cmd, cv, access.SetRole, access.Object{}); err != nil {
		return err
	}
	if len(cmd.Users) != 1 {
		return im.E(im.BadParams, "Name one user.").OnField("user")
	}
	if cmd.Role.String() == "" {
		return im.E(im.Invalid, "There is no such role.").OnField("role")
	}
	u := cmd.Users[0]
	was := cv.cur.roleNow(u)
	if was == 0 {
		return im.E(im.NotFound, "There is no such member.").OnField("user")
	}
	if err := c.may(cmd, cv, access.SetRole, access.Object{Target: was, To: cmd.Role}); err != nil {
		return err
	}
	if was == im.MemberOwner && cmd.Role != im.MemberOwner {
		owners := cv.cur.owners()
		// "While others remain": who is alone may step down.
		if err := access.LastOwner(owners, owners-1, cv.cur.rec.Members-1); err != nil {
			return err
		}
	}
	if err := c.spend(out); err != nil {
		return err
	}
	if was == cmd.Role {
		return nil
	}
	m := cv.cur.member(u)
	c.place(m).role = cmd.Role
	st := &staged{changed: []im.UserID{u}, members: []*member{m}}
	st.entry[0] = im.Entry{Kind: im.EntryMember, By: cmd.Actor.User, User: u, Change: im.ChangeRole, Role: cmd.Role}
	c.append(st, cv, st.entry[:])
	c.stage(st, cv)
	return nil
}
