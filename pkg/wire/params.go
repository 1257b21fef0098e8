package wire

import (
	"unicode"
	"unicode/utf8"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/rivo/uniseg"
)

// Every Decode function of this file and its neighbours reads the params of one
// method from raw JSON; nil counts as {}. Unknown members are ignored. Errors are
// *im.Error with Field: im.BadParams for a wrong shape (wrong type, null, missing
// member, number that is no integer or out of range), im.Invalid and im.TooLarge
// (with Limit) for what is well formed but not acceptable. Ids are not judged:
// one that cannot exist is simply not found. Decoded strings are copies.
//
// Every params type also encodes itself (AppendParams) for clients; what has its
// default value is left out.

// HelloParams are those of session.hello (PROTOCOL 3.1).
type HelloParams struct {
	Token    string
	HasToken bool   // false: the cookie of the upgrade counts (PROTOCOL 3.2)
	Client   string // what the client calls itself
	Epoch    string // PROTOCOL 3.7
	Sync     string // opaque (PROTOCOL 3.3)
}

var helloNames = []string{"token", "client", "epoch", "sync"}

// DecodeHello reads the params of session.hello.
func DecodeHello(params []byte) (HelloParams, error) {
	var p HelloParams
	m := openMembers(params)
	for m.next(helloNames) {
		switch m.name {
		case "token":
			p.Token, p.HasToken = m.text(), true
		case "client":
			p.Client = m.text()
		case "epoch":
			p.Epoch = m.text()
		case "sync":
			p.Sync = m.text()
		}
	}
	return p, m.done(0)
}

// DecodePing reads the params of session.ping, which has none.
func DecodePing(params []byte) error {
	m := openMembers(params)
	for m.next(nil) {
	}
	return m.done(0)
}

// ListParams are those of conversation.list (PROTOCOL 4.3).
type ListParams struct {
	Cursor, Sync string
	Limit        int // 1 to im.MaxHeadsPage
}

var listNames = []string{"cursor", "sync", "limit"}

// DecodeList reads the params of conversation.list.
func DecodeList(params []byte) (ListParams, error) {
	p := ListParams{Limit: im.MaxHeadsPage}
	m := openMembers(params)
	for m.next(listNames) {
		switch m.name {
		case "cursor":
			p.Cursor = m.text()
		case "sync":
			p.Sync = m.text()
		case "limit":
			p.Limit = m.limit(im.MaxHeadsPage)
		}
	}
	return p, m.done(0)
}

// FindParams are those of conversation.find (PROTOCOL 4.3).
type FindParams struct {
	Query, Cursor string
	Limit         int // 1 to im.MaxFindPage
}

var findNames = []string{"query", "cursor", "limit"}

// DecodeFind reads the params of conversation.find.
func DecodeFind(params []byte) (FindParams, error) {
	p := FindParams{Limit: im.MaxFindPage}
	m := openMembers(params)
	for m.next(findNames) {
		switch m.name {
		case "query":
			p.Query = m.text()
		case "cursor":
			p.Cursor = m.text()
		case "limit":
			p.Limit = m.limit(im.MaxFindPage)
		}
	}
	return p, m.done(0)
}

// DirectParams are those of conversation.direct (PROTOCOL 4.3).
type DirectParams struct{ User im.UserID }

var directNames = []string{"user"}

// DecodeDirect reads the params of conversation.direct.
func DecodeDirect(params []byte) (DirectParams, error) {
	var p DirectParams
	m := openMembers(params)
	for m.next(directNames) {
		p.User = im.UserID(m.text())
	}
	return p, m.done(1)
}

// CreateParams are those of conversation.create (PROTOCOL 4.3).
type CreateParams struct {
	Kind    im.ConvKind // never KindDirect
	Title   string
	Members []im.UserID // in the order sent, at most im.MaxMembersInCall
	Key     string
}

var createNames = []string{"kind", "title", "key", "members"}

// DecodeCreate reads the params of conversation.create.
func DecodeCreate(params []byte) (CreateParams, error) {
	var p CreateParams
	m := openMembers(params)
	for m.next(createNames) {
		switch m.name {
		case "kind":
			kind, ok := im.ParseConvKind(m.text())
			if !ok || kind == im.KindDirect {
				m.invalid("kind", "kind must be group, channel or notice")
			}
			p.Kind = kind
		case "title":
			p.Title = m.title()
		case "key":
			p.Key = m.key()
		case "members":
			p.Members = m.users(im.MaxMembersInCall)
		}
	}
	return p, m.done(3)
}

// ConvParams are those of conversation.get, join and leave (PROTOCOL 4.3).
type ConvParams struct{ ID im.ConvID }

var convNames = []string{"id"}

// DecodeConv reads the params of conversation.get, join and leave.
func DecodeConv(params []byte) (ConvParams, error) {
	var p ConvParams
	m := openMembers(params)
	for m.next(convNames) {
		p.ID = im.ConvID(m.text())
	}
	return p, m.done(1)
}

// UpdateParams are those of conversation.update (PROTOCOL 4.3).
type UpdateParams struct {
	ID    im.ConvID
	Title string
}

var updateNames = []string{"id", "title"}

// DecodeUpdate reads the params of conversation.update.
func DecodeUpdate(params []byte) (UpdateParams, error) {
	var p UpdateParams
	m := openMembers(params)
	for m.next(updateNames) {
		switch m.name {
		case "id":
			p.ID = im.ConvID(m.text())
		case "title":
			p.Title = m.title()
		}
	}
	return p, m.done(2)
}

// UsersParams are those of conversation.invite and remove (PROTOCOL 4.3).
type UsersParams struct {
	ID    im.ConvID
	Users []im.UserID // at most im.MaxMembersInCall
}

var usersNames = []string{"id", "users"}

// DecodeUsers reads the params of conversation.invite and remove.
func DecodeUsers(params []byte) (UsersParams, error) {
	var p UsersParams
	m := openMembers(params)
	for m.next(usersNames) {
		switch m.name {
		case "id":
			p.ID = im.ConvID(m.text())
		case "users":
			p.Users = m.users(im.MaxMembersInCall)
		}
	}
	return p, m.done(2)
}

// SetRoleParams are those of conversation.set_role (PROTOCOL 4.3).
type SetRoleParams struct {
	ID   im.ConvID
	User im.UserID
	Role im.MemberRole
}

var setRoleNames = []string{"id", "user", "role"}

// DecodeSetRole reads the params of conversation.set_role.
func DecodeSetRole(params []byte) (SetRoleParams, error) {
	var p SetRoleParams
	m := openMembers(params)
	for m.next(setRoleNames) {
		switch m.name {
		case "id":
			p.ID = im.ConvID(m.text())
		case "user":
			p.User = im.UserID(m.text())
		case "role":
			role, ok := im.ParseMemberRole(m.text())
			if !ok {
				m.invalid("role", "role must be owner, moderator, member or reader")
			}
			p.Role = role
		}
	}
	return p, m.done(3)
}

// MembersParams are those of conversation.members (PROTOCOL 4.3).
type MembersParams struct {
	ID     im.ConvID
	Cursor string
	Limit  int // 1 to im.MaxMembersPage
}

var membersNames = []string{"id", "cursor", "limit"}

// DecodeMembers reads the params of conversation.members.
func DecodeMembers(params []byte) (MembersParams, error) {
	p := MembersParams{Limit: im.MaxMembersPage}
	m := openMembers(params)
	for m.next(membersNames) {
		switch m.name {
		case "id":
			p.ID = im.ConvID(m.text())
		case "cursor":
			p.Cursor = m.text()
		case "limit":
			p.Limit = m.limit(im.MaxMembersPage)
		}
	}
	return p, m.done(1)
}

// SearchParams are those of user.search (PROTOCOL 4.3).
type SearchParams struct {
	Query string
	Limit int // 1 to im.MaxFindPage
}

var searchNames = []string{"query", "limit"}

// DecodeSearch reads the params of user.search.
func DecodeSearch(params []byte) (SearchParams, error) {
	p := SearchParams{Limit: im.MaxFindPage}
	m := openMembers(params)
	for m.next(searchNames) {
		switch m.name {
		case "query":
			p.Query = m.text()
		case "limit":
			p.Limit = m.limit(im.MaxFindPage)
		}
	}
	return p, m.done(1)
}

// UserGetParams are those of user.get (PROTOCOL 4.3).
type UserGetParams struct{ Users []im.UserID } // at most im.MaxUserGet

var userListNames = []string{"users"}

// DecodeUserGet reads the params of user.get.
func DecodeUserGet(params []byte) (UserGetParams, error) {
	var p UserGetParams
	m := openMembers(params)
	for m.next(userListNames) {
		p.Users = m.users(im.MaxUserGet)
	}
	return p, m.done(1)
}

// WatchParams are those of presence.watch (PROTOCOL 8.2).
type WatchParams struct{ Users []im.UserID } // at most im.MaxUserGet

// DecodeWatch reads the params of presence.watch.
func DecodeWatch(params []byte) (WatchParams, error) {
	p, err := DecodeUserGet(params)
	return WatchParams(p), err
}

// PresenceParams are those of presence.set (PROTOCOL 8.3).
type PresenceParams struct{ State im.PresenceState } // Online or Away

var presenceNames = []string{"state"}

// DecodePresence reads the params of presence.set.
func DecodePresence(params []byte) (PresenceParams, error) {
	var p PresenceParams
	m := openMembers(params)
	for m.next(presenceNames) {
		switch m.text() {
		case "online":
			p.State = im.Online
		case "away":
			p.State = im.Away
		default:
			m.invalid("state", "state must be online or away")
		}
	}
	return p, m.done(1)
}

// title returns the value as a title: 1 to im.MaxTitleRunes code points
// (PROTOCOL 4.5).
func (m *members) title() string {
	s := m.text()
	if n := utf8.RuneCountInString(s); m.shape == nil && (n < 1 || n > im.MaxTitleRunes) {
		m.invalid(m.name, "%s must have 1 to %d characters", m.name, im.MaxTitleRunes)
	}
	return s
}

// key returns the value as an idempotency key (PROTOCOL 6.2).
func (m *members) key() string {
	s := m.text()
	if e := CheckKey(s); e != nil && m.shape == nil {
		m.refuse(e)
	}
	return s
}

// CheckKey returns nil for an acceptable idempotency key: 1 to im.MaxKeyBytes
// printable ASCII characters, the space among them (PROTOCOL 6.2); else an
// im.Invalid on field "key". REST asks it about its header (PROTOCOL 9.3).
func CheckKey(s string) *im.Error {
	good := len(s) >= 1 && len(s) <= im.MaxKeyBytes
	for i := 0; good && i < len(s); i++ {
		good = s[i] >= ' ' && s[i] <= '~'
	}
	if good {
		return nil
	}
	return im.E(im.Invalid, "key must be 1 to %d printable ASCII characters", im.MaxKeyBytes).OnField("key")
}

// emoji returns the value as a reaction: one grapheme cluster of at most
// im.MaxEmojiBytes (PROTOCOL 5.1) that is visible, so neither a control
// character nor white space.
func (m *members) emoji() string {
	s := m.text()
	if m.shape != nil {
		return s
	}
	first, _ := utf8.DecodeRuneInString(s)
	if s == "" || len(s) > im.MaxEmojiBytes || unicode.IsControl(first) || unicode.IsSpace(first) ||
		uniseg.GraphemeClusterCount(s) != 1 {
		m.invalid(m.name, "%s must be one emoji of at most %d bytes", m.name, im.MaxEmojiBytes)
	}
	return s
}
