package chat

import (
	"github.com/pipit-im/pipit/pkg/im"
)

// What the box itself does to conversations, for classes: System commands. They
// are idempotent, so that whoever was cut off in the middle does them all again.

// establish is Create by the system: a conversation with the Seats and nobody
// else, no owner among them if there is none.
func (c *Chat) establish(out *outcome) error {
	cmd := out.cmd
	if err := checkTitle(cmd.Title); err != nil {
		return err
	}
	if len(cmd.Seats) > MaxSeats {
		return tooMany("seats", MaxSeats)
	}
	roles := make(map[im.UserID]im.MemberRole, len(cmd.Seats))
	var users []im.UserID
	for _, s := range cmd.Seats {
		if u, ok := c.users.User(cmd.Actor.Tenant, s.User); !ok || u.Disabled || s.Role == 0 {
			continue
		}
		if roles[s.User] == 0 {
			users = append(users, s.User)
		}
		roles[s.User] = s.Role
	}
	cv, st, err := c.found(cmd.Actor.Tenant, im.Conversation{Kind: cmd.Kind, Title: cmd.Title}, users)
	if err != nil {
		return err
	}
	for u, role := range roles {
		cv.cur.member(u).cur.role = role
	}
	st.remember(cmd, cv.key.id, 0, cv.cur.rec.Created, false)
	c.stage(st, cv)
	out.headOf = cv
	return nil
}

// reseat brings memberships to what Seats says, in one write: who is unknown or
// disabled is passed over where a seat is to be given.
func (c *Chat) reseat(out *outcome, cv *conv) error {
	cmd := out.cmd
	if !cmd.System || cv.cur.rec.Kind == im.KindDirect {
		return im.E(im.Forbidden, "Only the box itself seats members.")
	}
	if len(cmd.Seats) > MaxSeats {
		return tooMany("seats", MaxSeats)
	}
	s := cv.cur
	st := &staged{}
	var entries []im.Entry
	var added []*member
	roles := make(map[im.UserID]im.MemberRole, len(cmd.Seats))
	count := 0
	for _, seat := range cmd.Seats {
		if _, twice := roles[seat.User]; twice {
			continue
		}
		was := s.roleNow(seat.User)
		if was == seat.Role || seat.Least && was != 0 && was < seat.Role { // the smaller number is the greater role
			continue
		}
		e := im.Entry{Kind: im.EntryMember, By: cmd.Actor.User, User: seat.User, Role: seat.Role, Change: im.ChangeRole}
		switch {
		case seat.Role == 0:
			e.Change = im.ChangeLeft
			st.left = append(st.left, seat.User)
			count--
		case was == 0:
			if u, ok := c.users.User(cmd.Actor.Tenant, seat.User); !ok || u.Disabled {
				continue
			}
			e.Change = im.ChangeJoined
			st.changed = append(st.changed, seat.User)
			count++
		default:
			st.changed = append(st.changed, seat.User)
		}
		m := s.member(seat.User)
		if m == nil {
			m = &member{user: seat.User}
			added = append(added, m)
		}
		roles[seat.User] = seat.Role
		st.members = append(st.members, m)
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		return nil
	}
	s = c.touch(cv)
	if len(added) > 0 {
		s.roster = with(s.roster, added)
	}
	s.rec.Members += count
	c.append(st, cv, entries)
	for _, m := range st.members {
		p := c.place(m)
		if p.role == 0 {
			p.joined = s.rec.Last
		}
		p.role = roles[m.user]
	}
	c.stage(st, cv)
	return nil
}

// archive closes a conversation for good, or opens it again (PROTOCOL 4.6).
func (c *Chat) archive(out *outcome, cv *conv) error {
	cmd := out.cmd
	if !cmd.System || cv.cur.rec.Kind == im.KindDirect {
		return im.E(im.Forbidden, "Only the box itself archives a conversation.")
	}
	if cv.cur.rec.Archived == cmd.On {
		return nil
	}
	s := c.touch(cv)
	s.rec.Archived = cmd.On
	st := &staged{everyone: true}
	st.entry[0] = im.Entry{Kind: im.EntryMeta, By: cmd.Actor.User, Title: s.rec.Title, Archive: im.ArchiveCleared}
	if cmd.On {
		st.entry[0].Archive = im.ArchiveSet
	}
	c.append(st, cv, st.entry[:])
	c.stage(st, cv)
	return nil
}
