package conformance_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// law is what holds for everything that a session hears, whatever the test is about. It collects what is broken.
type law struct {
	broken []string
	heads  map[string]int64  // newest seq heard as an event, by conversation
	asks   map[string]asking // requests without a reply, by id
}

type asking struct {
	method, conversation string
}

func (l *law) begin() {
	l.heads, l.asks = make(map[string]int64), make(map[string]asking)
}

func (l *law) blame(format string, args ...any) {
	if len(l.broken) < 20 {
		l.broken = append(l.broken, fmt.Sprintf(format, args...))
	}
}

func (l *law) asked(id, method string, params any) {
	a := asking{method: method}
	switch p := params.(type) {
	case J:
		a.conversation, _ = p["conversation"].(string)
	case string:
		if v, err := decode([]byte(p)); err == nil {
			a.conversation = v.get("conversation").str()
		}
	}
	l.asks[id] = a
}

// hear holds a message against the protocol.
func (l *law) hear(m message) {
	if !utf8.ValidString(m.raw) {
		l.blame("1.2: not UTF-8: %.300q", m.raw)
	}
	if !strings.Contains(m.raw, `"id":"`) { // the id is the client's, byte for byte
		if bad := badEscape(m.raw); bad != "" {
			l.blame("10.8: %s: %.300s", bad, m.raw)
		}
	}
	l.shape(m.raw, m.v, true)
	if twice := doubleMember(m.raw); twice != "" {
		l.blame("the member %s occurs twice: %.300s", twice, m.raw)
	}
	if m.get("jsonrpc").str() != "2.0" {
		l.blame("2.1: no jsonrpc: %.300s", m.raw)
	}
	members := m.members()
	_, isReply := members["id"]
	switch {
	case isReply && m.has("result") != m.has("error"):
		l.only(m.value, "a reply", "jsonrpc id result|error")
		l.reply(m)
	case !isReply && m.has("params"):
		l.only(m.value, "an event", "jsonrpc method params")
		l.event(m)
	default:
		l.blame("2.1: neither reply nor event: %.300s", m.raw)
	}
}

var codes = map[int64]string{-32001: "invalid", -32002: "unauthenticated", -32003: "forbidden", -32004: "not_found", -32005: "exists",
	-32006: "conflict", -32007: "too_large", -32008: "rate_limited", -32009: "unavailable", -32010: "internal"}

func (l *law) reply(m message) {
	a := l.asks[rawID(m.members()["id"])]
	if e := m.get("error"); e.exists() {
		code := e.get("code").num()
		kind, own := codes[code]
		switch {
		case own && e.get("data", "kind").str() != kind, !own && e.has("data", "kind"):
			l.blame("2: code and kind: %s", m.raw)
		case !own && code != -32700 && code != -32600 && code != -32601 && code != -32602:
			l.blame("2: no such code: %s", m.raw)
		case kind == "too_large" && e.get("data", "limit").num() < 1:
			l.blame("2: too_large without its limit: %s", m.raw)
		case kind == "rate_limited" && e.get("data", "retry_after_ms").num() < 1:
			l.blame("2: rate_limited without retry_after_ms: %s", m.raw)
		case code == -32602 && !e.has("data", "field"):
			l.blame("2: bad params without field: %s", m.raw)
		case code == -32010:
			l.blame("an internal error: %s", m.raw)
		}
		if s, ok := e.get("message").v.(string); !ok || s == "" {
			l.blame("2.1: an error without words for people: %s", m.raw)
		}
		l.only(e, "an error", "code message data?")
		if e.has("data") {
			l.only(e.get("data"), "error.data", "kind? field? limit? retry_after_ms? ref?")
		}
		return
	}
	r := m.get("result")
	switch a.method {
	case "message.send", "message.edit", "message.recall", "message.react", "message.pin":
		l.only(r, a.method, "seq time repeat?")
		if !r.has("repeat") && l.heads[a.conversation] >= r.get("seq").num() {
			l.blame("2.3: event %d of %s came before the reply %s", l.heads[a.conversation], a.conversation, m.raw)
		}
	case "message.history":
		l.only(r, a.method, "entries head")
		l.page(r, a.conversation)
	case "message.pins":
		l.only(r, a.method, "entries")
		for _, e := range r.get("entries").list() {
			l.entry(e, "page")
		}
	case "conversation.get", "conversation.direct", "conversation.create", "conversation.update", "conversation.join":
		l.head(r, a.method == "conversation.create")
	case "conversation.list":
		l.only(r, a.method, "conversations next? sync full?")
		l.heads4(r)
	case "session.hello":
		l.only(r, a.method, "session user tenant epoch sync time heartbeat_ms limits conversations next? full?")
		l.only(r.get("user"), "user", "id username name role")
		l.only(r.get("tenant"), "tenant", "id name")
		l.only(r.get("limits"), "limits", "frame_bytes text_bytes sends_per_minute")
		l.heads4(r)
	case "conversation.find":
		l.only(r, a.method, "conversations next?")
		for _, c := range r.get("conversations").list() {
			l.only(c, "a found channel", "id kind title members joined")
		}
	case "conversation.members":
		l.only(r, a.method, "members next?")
		for _, c := range r.get("members").list() {
			l.only(c, "a member", "user name username role joined")
		}
	case "user.search", "user.get":
		l.only(r, a.method, "users")
		for _, c := range r.get("users").list() {
			l.only(c, "a user", "id username name role")
		}
	case "read.list":
		l.only(r, a.method, "read unread counts next?")
		l.only(r.get("counts"), "counts", "read unread")
	case "conversation.leave", "conversation.invite", "conversation.remove", "conversation.set_role", "read.mark", "typing", "presence.set":
		l.only(r, a.method, "")
	case "session.ping":
		l.only(r, a.method, "time")
	case "presence.watch":
		l.presence(r)
	}
}

func (l *law) heads4(r value) {
	for _, h := range r.get("conversations").list() {
		if h.has("left") {
			l.only(h, "a HEAD that was left", "id kind left")
			continue
		}
		l.head(h, false)
	}
}

func (l *law) event(m message) {
	p := m.get("params")
	switch m.event() {
	case "entry":
		l.entry(p, "event")
		conv, seq := p.get("conversation").str(), p.get("seq").num()
		if before := l.heads[conv]; before != 0 && seq != before+1 {
			l.blame("5.3: event %d of %s came after %d", seq, conv, before)
		}
		l.heads[conv] = seq
	case "conversation.changed":
		if p.has("left") {
			l.only(p, "conversation.changed", "id kind left")
			delete(l.heads, p.get("id").str()) // what comes later begins anew
			return
		}
		l.head(p, false)
	case "read":
		l.only(p, "read", "conversation user seq")
	case "typing":
		l.only(p, "typing", "conversation user")
	case "presence":
		l.presence(p)
	default:
		l.blame("no such event: %.300s", m.raw)
	}
}

func (l *law) presence(p value) {
	l.only(p, "presence", "users")
	for _, u := range p.get("users").list() {
		three := u.list()
		if len(three) != 3 || !slices.Contains([]string{"online", "away", "offline"}, three[1].str()) || three[2].num() < 0 {
			l.blame("8.2: %s", u)
		}
	}
}

// page holds a page against 6.3.
func (l *law) page(r value, conv string) {
	last := int64(-1)
	for _, e := range r.get("entries").list() {
		l.entry(e, "page")
		seq := e.get("seq").num()
		if last >= 0 && seq != last+1 || seq > r.get("head").num() || e.get("conversation").str() != conv {
			l.blame("6.3: entry %d after %d in a page of %s with head %s: %s", seq, last, conv, r.get("head"), e)
		}
		last = seq
	}
}

var entryMembers = map[string]string{
	"message":  "text? reply_to? mentions?",
	"edit":     "target text?",
	"recall":   "target",
	"reaction": "target emoji on",
	"pin":      "target on",
	"member":   "user change role?",
	"meta":     "title",
}

// entry holds an ENTRY against 5.1, 6.5 and 10.7; where it stands ("event", "page", "last") decides what more it may have.
func (l *law) entry(e value, where string) {
	kind := e.get("kind").str()
	members, ok := entryMembers[kind]
	if !ok {
		l.blame("5.1: no such kind: %s", e)
		return
	}
	members += " conversation seq time by kind"
	switch {
	case kind != "message":
	case where == "page":
		members += " key? edited? recalled? reactions? pinned?"
	case where == "last":
		members += " edited? recalled? cut?"
	}
	l.only(e, kind+" ("+where+")", members)
	if e.get("seq").num() < 1 || e.get("time").num() < 1 {
		l.blame("5.1: %s", e)
	}
	if kind == "message" && e.has("text") == e.get("recalled").yes() || where == "event" && (kind == "message" || kind == "edit") && !e.has("text") {
		l.blame("6.5: text or recalled, one of them: %s", e)
	}
	for _, flag := range []string{"recalled", "cut", "pinned"} {
		if e.get(flag).no() {
			l.blame("1.5: absent means default: %s", e)
		}
	}
	if e.get("recalled").yes() && (e.has("edited") || e.has("pinned")) {
		l.blame("10.7: %s", e)
	}
	for _, r := range e.get("reactions").list() {
		l.only(r, "a reaction", "emoji count mine")
		if r.get("count").num() < 1 {
			l.blame("6.5: nobody's reaction: %s", e)
		}
	}
}

func (l *law) head(h value, created bool) {
	members := "id kind head read unread mentions role members updated last?"
	if h.get("kind").str() == "direct" {
		members += " peer peer_read"
		l.only(h.get("peer"), "peer", "id username name")
	} else {
		members += " title"
	}
	if created {
		members += " repeat?"
	}
	l.only(h, "HEAD", members)
	for _, n := range []string{"head", "read", "unread", "mentions", "members", "updated"} {
		if h.get(n).num() < 0 {
			l.blame("3.5: %s is no number: %s", n, h)
		}
	}
	if h.get("read").num() > h.get("head").num() || h.get("unread").num() > h.get("head").num() || h.get("mentions").num() > h.get("unread").num() {
		l.blame("3.5: numbers: %s", h)
	}
	if last := h.get("last"); last.exists() {
		l.entry(last, "last")
		if last.get("kind").str() != "message" || last.get("conversation").str() != h.get("id").str() || last.get("seq").num() > h.get("head").num() ||
			len(last.get("text").str()) > 256 && last.has("text") {
			l.blame("3.5: last: %s", h)
		}
	}
}

// only holds the members of an object against a list; "?" marks those that may be missing, "a|b" stands for either.
func (l *law) only(v value, what, list string) {
	have, ok := v.v.(map[string]any)
	if !ok {
		l.blame("%s is no object: %s", what, v)
		return
	}
	allowed := make(map[string]bool)
	for _, name := range strings.Fields(list) {
		name, optional := strings.CutSuffix(name, "?")
		either := strings.Split(name, "|")
		found := false
		for _, n := range either {
			allowed[n] = true
			_, here := have[n]
			found = found || here
		}
		if !optional && !found {
			l.blame("%s has no %s: %s", what, name, v)
		}
	}
	for name := range have {
		if !allowed[name] {
			l.blame("%s has a member %s that PROTOCOL does not know: %s", what, name, v)
		}
	}
}

var (
	memberName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	anID       = regexp.MustCompile(`^[a-z0-9_-]{1,40}$`)
	integer    = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
)

var idMembers = []string{"conversation", "by", "user", "session"}

// shape holds names, ids and numbers against 1.5.
func (l *law) shape(raw string, v any, top bool) {
	switch v := v.(type) {
	case nil:
		l.blame("1.5: null: %.300s", raw)
	case json.Number:
		if !integer.MatchString(v.String()) {
			l.blame("1.5: %s is no integer: %.300s", v, raw)
		}
	case []any:
		for _, x := range v {
			l.shape(raw, x, false)
		}
	case map[string]any:
		for name, x := range v {
			if !memberName.MatchString(name) {
				l.blame("1.5: member name %q: %.300s", name, raw)
			}
			if s, ok := x.(string); ok && slices.Contains(idMembers, name) && !anID.MatchString(s) {
				l.blame("1.5: %s %q is no id: %.300s", name, s, raw)
			}
			if top && name == "id" {
				continue
			}
			l.shape(raw, x, false)
		}
	}
}

// badEscape finds an escape that 10.8 does not allow.
func badEscape(raw string) string {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		switch raw[i] {
		case '"', '\\', 'b', 'f', 'n', 'r', 't':
		case 'u':
			if i+4 >= len(raw) || raw[i+1:i+3] != "00" || raw[i+3] > '1' {
				return "escape \\" + raw[i:min(i+5, len(raw))]
			}
		default:
			return "escape \\" + raw[i:i+1]
		}
	}
	return ""
}

// doubleMember finds a member name that occurs twice in one object.
func doubleMember(raw string) string {
	d := json.NewDecoder(strings.NewReader(raw))
	type level struct {
		names map[string]bool // nil in an array
		name  bool            // a name is next
	}
	var stack []*level
	for {
		tok, err := d.Token()
		if err != nil {
			return ""
		}
		var in *level
		if len(stack) > 0 {
			in = stack[len(stack)-1]
		}
		switch tok := tok.(type) {
		case json.Delim:
			switch tok {
			case '{', '[':
				if in != nil && in.names != nil {
					in.name = true
				}
				l := &level{name: true}
				if tok == '{' {
					l.names = make(map[string]bool)
				}
				stack = append(stack, l)
			default:
				stack = stack[:len(stack)-1]
			}
		case string:
			if in != nil && in.names != nil && in.name {
				if in.names[tok] {
					return tok
				}
				in.names[tok], in.name = true, false
				continue
			}
			if in != nil {
				in.name = true
			}
		default:
			if in != nil {
				in.name = true
			}
		}
	}
}
