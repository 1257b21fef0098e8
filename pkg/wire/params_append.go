package wire

import "github.com/pipit-im/pipit/pkg/im"

// object begins an object whose members are appended by the optional functions
// below; each writes a comma before its name, and endObject turns the first one
// into the brace.
type object struct {
	b    []byte
	from int
}

func beginObject(dst []byte) object { return object{append(dst, '{'), len(dst)} }

func (o *object) name(name string) {
	if len(o.b) > o.from+1 {
		o.b = append(o.b, ',')
	}
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
}

func (o *object) text(name, s string) {
	o.name(name)
	o.b = appendString(o.b, s)
}

func (o *object) optional(name, s string) {
	if s != "" {
		o.text(name, s)
	}
}

func (o *object) seq(name string, n im.Seq) {
	o.name(name)
	o.b = uintMember(o.b, "", n)
}

// limit leaves 0 out: the server's bound is the default.
func (o *object) limit(n int) {
	if n != 0 {
		o.name("limit")
		o.b = intMember(o.b, "", n)
	}
}

func (o *object) boolean(name string, on bool) {
	o.name(name)
	o.b = boolMember(o.b, "", on)
}

func (o *object) users(name string, list []im.UserID) {
	o.name(name)
	o.b = appendStrings(o.b, list)
}

func (o *object) end() []byte { return append(o.b, '}') }

// AppendParams implements Params.
func (p *HelloParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	if p.HasToken {
		o.text("token", p.Token)
	}
	o.optional("client", p.Client)
	o.optional("epoch", p.Epoch)
	o.optional("sync", p.Sync)
	return o.end()
}

// AppendParams implements Params.
func (p *ListParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.optional("cursor", p.Cursor)
	o.optional("sync", p.Sync)
	o.limit(p.Limit)
	return o.end()
}

// AppendParams implements Params.
func (p *FindParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.optional("query", p.Query)
	o.optional("cursor", p.Cursor)
	o.limit(p.Limit)
	return o.end()
}

// AppendParams implements Params.
func (p *DirectParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("user", string(p.User))
	return o.end()
}

// AppendParams implements Params.
func (p *CreateParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("kind", p.Kind.String())
	o.text("title", p.Title)
	if len(p.Members) > 0 {
		o.users("members", p.Members)
	}
	o.text("key", p.Key)
	return o.end()
}

// AppendParams implements Params.
func (p *ConvParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("id", string(p.ID))
	return o.end()
}

// AppendParams implements Params.
func (p *UpdateParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("id", string(p.ID))
	o.text("title", p.Title)
	return o.end()
}

// AppendParams implements Params.
func (p *UsersParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("id", string(p.ID))
	o.users("users", p.Users)
	return o.end()
}

// AppendParams implements Params.
func (p *SetRoleParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("id", string(p.ID))
	o.text("user", string(p.User))
	o.text("role", p.Role.String())
	return o.end()
}

// AppendParams implements Params.
func (p *MembersParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("id", string(p.ID))
	o.optional("cursor", p.Cursor)
	o.limit(p.Limit)
	return o.end()
}

// AppendParams implements Params.
func (p *SearchParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("query", p.Query)
	o.limit(p.Limit)
	return o.end()
}

// AppendParams implements Params.
func (p *UserGetParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.users("users", p.Users)
	return o.end()
}

// AppendParams implements Params.
func (p *WatchParams) AppendParams(dst []byte) []byte {
	return (*UserGetParams)(p).AppendParams(dst)
}

// AppendParams implements Params.
func (p *PresenceParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("state", p.State.String())
	return o.end()
}

// AppendParams implements Params.
func (p *SendParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	o.text("key", p.Key)
	o.text("text", p.Text)
	if p.ReplyTo != 0 {
		o.seq("reply_to", p.ReplyTo)
	}
	if len(p.Mentions) > 0 {
		o.users("mentions", p.Mentions)
	}
	return o.end()
}

// AppendParams implements Params.
func (p *EditParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	o.seq("target", p.Target)
	o.text("text", p.Text)
	o.text("key", p.Key)
	return o.end()
}

// AppendParams implements Params.
func (p *RecallParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	o.seq("target", p.Target)
	o.text("key", p.Key)
	return o.end()
}

// AppendParams implements Params.
func (p *ReactParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	o.seq("target", p.Target)
	o.text("emoji", p.Emoji)
	o.boolean("on", p.On)
	o.text("key", p.Key)
	return o.end()
}

// AppendParams implements Params.
func (p *PinParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	o.seq("target", p.Target)
	o.boolean("on", p.On)
	o.text("key", p.Key)
	return o.end()
}

// AppendParams implements Params.
func (p *PinsParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	return o.end()
}

// AppendParams implements Params.
func (p *HistoryParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	if p.HasAfter {
		o.seq("after", p.After)
	}
	if p.HasBefore {
		o.seq("before", p.Before)
	}
	o.limit(p.Limit)
	return o.end()
}

// AppendParams implements Params.
func (p *MarkParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	o.seq("seq", p.Seq)
	return o.end()
}

// AppendParams implements Params.
func (p *ReadListParams) AppendParams(dst []byte) []byte {
	o := beginObject(dst)
	o.text("conversation", string(p.Conversation))
	o.seq("seq", p.Seq)
	o.optional("cursor", p.Cursor)
	o.limit(p.Limit)
	return o.end()
}

// AppendParams implements Params.
func (p *TypingParams) AppendParams(dst []byte) []byte {
	return (*PinsParams)(p).AppendParams(dst)
}
