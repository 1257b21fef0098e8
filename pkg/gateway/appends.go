package gateway

import (
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// appending is one request that appends, from submission to reply. It is the
// command and its replier in one, so that a request is one allocation.
type appending struct {
	chat.Command
	s   *session
	m   *method
	id  []byte
	res chat.Result
	err error
	// idRoom holds id, if it is as short as ids are.
	idRoom [24]byte
}

// submit hands a request that appends to chat.
func (s *session) submit(m *method, r *wire.Request) {
	a := &appending{s: s, m: m}
	if err := m.fill(s, r.Params, &a.Command); err != nil {
		s.refuse(m, r.ID, err)
		return
	}
	if s.appends >= maxAppends {
		s.refuse(m, r.ID, tooFast)
		return
	}
	s.appends++
	a.Actor = s.actor()
	a.id = append(a.idRoom[:0], r.ID...)
	s.loop.gw.chat.Submit(&a.Command, a)
}

// Reply implements chat.Replier, on the commit goroutine: it leaves the encoding
// to the loop.
func (a *appending) Reply(_ *chat.Command, res chat.Result, err error) {
	a.res, a.err = res, err
	a.s.loop.send(a)
}

// finish writes the reply, on the loop.
func (a *appending) finish() {
	s := a.s
	s.appends--
	if s.closing {
		return
	}
	if a.err != nil {
		s.refuse(a.m, a.id, a.err)
		return
	}
	a.m.ok().Add(1)
	s.conn.Write(a.frame())
}

func (a *appending) frame() []byte {
	switch a.Op {
	case chat.Send, chat.Edit, chat.Recall, chat.React, chat.Pin:
		return wire.SeqResultFrame(a.id, a.res.Seq, a.res.Time, a.res.Repeat)
	case chat.Create, chat.Direct, chat.Update, chat.Join:
		return wire.HeadResultFrame(a.id, a.res.Head, a.res.Repeat)
	}
	return wire.EmptyResultFrame(a.id)
}

func fillSend(s *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeSend(params, s.loop.gw.limits())
	c.Op, c.Key, c.Body = chat.Send, p.Key, p.Body()
	c.Conv, c.Text, c.ReplyTo, c.Mentions = p.Conversation, p.Text, p.ReplyTo, p.Mentions
	return err
}

func fillEdit(s *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeEdit(params, s.loop.gw.limits())
	c.Op, c.Key, c.Body = chat.Edit, p.Key, p.Body()
	c.Conv, c.Target, c.Text = p.Conversation, p.Target, p.Text
	return err
}

func fillRecall(_ *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeRecall(params)
	c.Op, c.Key, c.Body = chat.Recall, p.Key, p.Body()
	c.Conv, c.Target = p.Conversation, p.Target
	return err
}

func fillReact(_ *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeReact(params)
	c.Op, c.Key, c.Body = chat.React, p.Key, p.Body()
	c.Conv, c.Target, c.Emoji, c.On = p.Conversation, p.Target, p.Emoji, p.On
	return err
}

func fillPin(_ *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodePin(params)
	c.Op, c.Key, c.Body = chat.Pin, p.Key, p.Body()
	c.Conv, c.Target, c.On = p.Conversation, p.Target, p.On
	return err
}

func fillCreate(_ *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeCreate(params)
	c.Op, c.Key, c.Body = chat.Create, p.Key, p.Body()
	c.Kind, c.Title, c.Users = p.Kind, p.Title, p.Members
	return err
}

func fillDirect(_ *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeDirect(params)
	c.Op, c.Users = chat.Direct, []im.UserID{p.User}
	return err
}

func fillUpdate(_ *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeUpdate(params)
	c.Op, c.Conv, c.Title = chat.Update, p.ID, p.Title
	return err
}

func fillConv(op chat.Op) func(*session, []byte, *chat.Command) error {
	return func(_ *session, params []byte, c *chat.Command) error {
		p, err := wire.DecodeConv(params)
		c.Op, c.Conv = op, p.ID
		return err
	}
}

func fillUsers(op chat.Op) func(*session, []byte, *chat.Command) error {
	return func(_ *session, params []byte, c *chat.Command) error {
		p, err := wire.DecodeUsers(params)
		c.Op, c.Conv, c.Users = op, p.ID, p.Users
		return err
	}
}

func fillSetRole(_ *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeSetRole(params)
	c.Op, c.Conv, c.Users, c.Role = chat.SetRole, p.ID, []im.UserID{p.User}, p.Role
	return err
}

func fillMark(s *session, params []byte, c *chat.Command) error {
	p, err := wire.DecodeMark(params)
	c.Op, c.Conv, c.Seq, c.Session = chat.Mark, p.Conversation, p.Seq, s.ID()
	return err
}
