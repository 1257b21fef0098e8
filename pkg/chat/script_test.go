package chat

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

var update = flag.Bool("update", false, "write what the scripts answer into them; read the difference before you commit it")

// TestScripts plays the interaction scripts in testdata. A script is a list of
// blocks: command lines, "----", and what came of them up to the next empty line.
// Commands of one block are submitted as one batch; see testdata/README.md.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".script"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s := &script{w: newWorld(t), vars: map[string]string{}, names: map[im.ConvID]string{}}
			var out strings.Builder
			for i, block := range strings.Split(strings.TrimSpace(string(text)), "\n\n") {
				if i > 0 {
					out.WriteString("\n")
				}
				input, want, _ := strings.Cut(block, "\n----")
				got := ""
				var lines []string
				for line := range strings.Lines(input) {
					if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
						lines = append(lines, line)
					}
				}
				if len(lines) > 0 {
					got = s.run(lines)
				}
				out.WriteString(input + "\n----\n" + got)
				if want = strings.TrimPrefix(want, "\n"); !*update && strings.TrimRight(want, "\n") != strings.TrimRight(got, "\n") {
					t.Errorf("%s\ngot\n%s\nwant\n%s", input, got, want)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type script struct {
	w     *world
	vars  map[string]string
	names map[im.ConvID]string
	ids   []im.ConvID
}

// id returns the conversation of a name like c1, the first that was made.
func (s *script) id(name string) im.ConvID {
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "c")); err == nil && n >= 1 && n <= len(s.ids) {
		return s.ids[n-1]
	}
	return im.ConvID(name)
}

func (s *script) name(id im.ConvID) string {
	if s.names[id] == "" {
		s.ids = append(s.ids, id)
		s.names[id] = fmt.Sprintf("c%d", len(s.ids))
	}
	return s.names[id]
}

func short(u im.UserID) string { return strings.TrimPrefix(string(u), "u_") }

// words splits a line; a word may be "quoted", also behind name=.
func words(line string) (list []string, opts map[string]string) {
	opts = map[string]string{}
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimSpace(rest) {
		name, eq := "", strings.IndexAny(rest, "= \"")
		if eq > 0 && rest[eq] == '=' {
			name, rest = rest[:eq], rest[eq+1:]
		}
		var word string
		if q, err := strconv.QuotedPrefix(rest); err == nil {
			word, _ = strconv.Unquote(q)
			rest = rest[len(q):]
		} else {
			word, rest, _ = strings.Cut(rest, " ")
		}
		if name != "" {
			opts[name] = word
		} else {
			list = append(list, word)
		}
	}
	return list, opts
}

// run plays the commands of one block. Those that only read, or change the
// world, stand alone in theirs.
func (s *script) run(lines []string) string {
	if text, ok := s.alone(lines[0]); ok {
		return text
	}
	var out strings.Builder
	var mu sync.Mutex
	var wg sync.WaitGroup
	release := s.w.hold()
	for _, line := range lines {
		cmd := s.command(line)
		wg.Add(1)
		s.w.chat.Submit(cmd, ReplyFunc(func(_ *Command, res Result, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			out.WriteString(short(cmd.Actor.User) + ": " + s.result(cmd, res, err) + "\n")
			if len(s.peek()) > 0 {
				out.WriteString(s.published(true))
			}
		}))
	}
	release()
	wg.Wait()
	return out.String() + s.published(false)
}

// peek tells whether events are there already.
func (s *script) peek() []bus.Event {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.w.events
}

// published formats the events since the last time; early ones would have come
// before a reply of the same commit.
func (s *script) published(early bool) string {
	var events []bus.Event
	if early {
		s.w.mu.Lock()
		events, s.w.events = s.w.events, nil
		s.w.mu.Unlock()
	} else {
		events = s.w.taken()
	}
	var out strings.Builder
	for _, e := range events {
		out.WriteString("  " + s.event(e) + "\n")
	}
	return out.String()
}

func (s *script) alone(line string) (string, bool) {
	args, opts := words(line)
	ctx := context.Background()
	switch args[0] {
	case "clock":
		ms, _ := strconv.Atoi(args[1])
		s.w.clock.Add(int64(ms))
		return "", true
	case "disable":
		s.w.mu.Lock()
		u := *s.w.people[userKey{tenant, im.UserID("u_" + args[1])}]
		u.Disabled = true
		s.w.people[userKey{tenant, u.ID}] = &u
		s.w.mu.Unlock()
		return "", true
	case "fail":
		s.w.store.FailNext(errors.New("the disk is on fire"))
		return "", true
	case "full":
		s.w.store.SetState(store.Full, "the disk is full")
		return "", true
	case "writable":
		s.w.store.SetState(store.Writable, "")
		return "", true
	case "restart":
		s.w.stop()
		s.w.start()
		return "", true
	}
	if len(args) < 2 {
		return "", false
	}
	who, c := s.w.actor(args[0]), s.w.chat
	num := func(name string) im.Seq { n, _ := strconv.Atoi(opts[name]); return im.Seq(n) }
	limit := int(num("limit"))
	var text string
	var err error
	switch args[1] {
	case "get":
		var h im.Head
		if h, err = c.Head(ctx, who, s.id(args[2])); err == nil {
			text = s.head(&h) + "\n"
		}
	case "history":
		q := HistoryQuery{Conv: s.id(args[2]), After: num("after"), Before: num("before"), Limit: limit}
		_, q.HasAfter = opts["after"]
		_, q.HasBefore = opts["before"]
		var p im.Page
		if p, err = c.History(ctx, who, q); err == nil {
			text = fmt.Sprintf("head=%d\n", p.Head)
			for i := range p.Entries {
				text += s.message(&p.Entries[i]) + "\n"
			}
		}
	case "pins":
		var pins []im.Message
		if pins, err = c.Pins(ctx, who, s.id(args[2])); err == nil {
			for i := range pins {
				text += s.message(&pins[i]) + "\n"
			}
		}
	case "list":
		var p HeadsPage
		q := HeadsQuery{Limit: limit, Sync: s.value(opts["sync"]), Cursor: s.value(opts["cursor"])}
		if p, err = c.Heads(ctx, who, q); err == nil {
			for i := range p.Heads {
				text += s.head(&p.Heads[i]) + "\n"
			}
			text += fmt.Sprintf("full=%v more=%v\n", p.Full, p.Next != "")
			s.vars[opts["save"]], s.vars["next"] = p.Sync, p.Next
		}
	case "find":
		var found []Found
		found, s.vars["next"], err = c.Find(ctx, who, strings.Join(args[2:], " "), s.value(opts["cursor"]), limit)
		for _, f := range found {
			text += fmt.Sprintf("%s %s %q members=%d joined=%v\n", s.name(f.ID), f.Kind, f.Title, f.Members, f.Joined)
		}
		if s.vars["next"] != "" {
			text += "more\n"
		}
	case "members":
		var ms []im.Member
		var next string
		ms, next, err = c.Members(ctx, who, s.id(args[2]), opts["cursor"], limit)
		for _, m := range ms {
			text += fmt.Sprintf("%s %s joined=%d\n", short(m.User), m.Role, m.Joined)
		}
		if next != "" {
			text += "next=" + next + "\n"
		}
	case "readers":
		var l ReadList
		seq, _ := strconv.Atoi(args[3])
		if l, err = c.ReadList(ctx, who, s.id(args[2]), im.Seq(seq), opts["cursor"], limit); err == nil {
			text = fmt.Sprintf("read=%v unread=%v counts=%d/%d next=%s\n", l.Read, l.Unread, l.ReadCount, l.UnreadCount, l.Next)
		}
	case "convs":
		var ids []im.ConvID
		ids, err = c.ConvIDs(ctx, who.Tenant, who.User)
		var names []string
		for _, id := range ids {
			names = append(names, s.name(id))
		}
		slices.Sort(names)
		text = strings.Join(names, " ") + "\n"
	default:
		return "", false
	}
	if err != nil {
		text = fault(err) + "\n"
	}
	return text, true
}

func (s *script) value(v string) string {
	if name, ok := strings.CutPrefix(v, "$"); ok {
		return s.vars[name]
	}
	return v
}

// command reads one command that writes.
func (s *script) command(line string) *Command {
	args, opts := words(line)
	cmd := &Command{Actor: s.w.actor(args[0]), Op: Op(slices.Index(opNames[:], args[1])), Key: opts["key"], Session: "s_" + im.SessionID(args[0])}
	if cmd.Key == "" && cmd.Op.keyed() {
		cmd.Key = newKey()
	}
	users := func(list []string) (ids []im.UserID) {
		for _, u := range list {
			ids = append(ids, im.UserID("u_"+u))
		}
		return ids
	}
	num := func(word string) im.Seq { n, _ := strconv.Atoi(word); return im.Seq(n) }
	rest := args[2:]
	switch cmd.Op {
	case Create:
		cmd.Kind, _ = im.ParseConvKind(rest[0])
		cmd.Title, cmd.Users = rest[1], users(rest[2:])
		cmd.Body = bodyOf(cmd)
		return cmd
	case Direct:
		cmd.Users = users(rest)
		return cmd
	}
	cmd.Conv, rest = s.id(rest[0]), rest[1:]
	switch cmd.Op {
	case Send:
		cmd.Text, cmd.ReplyTo = rest[0], num(opts["reply"])
		if m := opts["mentions"]; m != "" {
			cmd.Mentions = users(strings.Split(m, ","))
		}
	case Edit:
		cmd.Target, cmd.Text = num(rest[0]), rest[1]
	case Recall:
		cmd.Target = num(rest[0])
	case React:
		cmd.Target, cmd.Emoji, cmd.On = num(rest[0]), rest[1], rest[2] == "on"
	case Pin:
		cmd.Target, cmd.On = num(rest[0]), rest[1] == "on"
	case Update:
		cmd.Title = rest[0]
	case Invite, Remove:
		cmd.Users = users(rest)
	case SetRole:
		cmd.Users = users(rest[:1])
		cmd.Role, _ = im.ParseMemberRole(rest[1])
	case Mark:
		cmd.Seq = num(rest[0])
	}
	cmd.Body = bodyOf(cmd)
	return cmd
}

func fault(err error) string {
	var e *im.Error
	if !errors.As(err, &e) {
		return "error without a kind: " + err.Error()
	}
	text := "error " + e.Kind.String()
	if e.Field != "" {
		text += " field=" + e.Field
	}
	if e.Limit != 0 {
		text += fmt.Sprintf(" limit=%d", e.Limit)
	}
	if e.RetryAfter != 0 {
		text += " retry=" + e.RetryAfter.String()
	}
	return text
}

func (s *script) result(cmd *Command, res Result, err error) string {
	if err != nil {
		return fault(err)
	}
	text := "ok"
	if res.Seq != 0 {
		text = fmt.Sprintf("seq=%d time=%d", res.Seq, res.Time)
	}
	if res.Head != nil {
		text = s.head(res.Head)
	}
	if res.Repeat {
		text += " repeat"
	}
	return text
}

func (s *script) head(h *im.Head) string {
	if h.Left {
		return s.name(h.ID) + " " + h.Kind.String() + " left"
	}
	text := fmt.Sprintf("%s %s %q head=%d read=%d unread=%d mentions=%d %s members=%d updated=%d",
		s.name(h.ID), h.Kind, h.Title, h.Head, h.Read, h.Unread, h.Mentions, h.Role, h.Members, h.Updated)
	if h.Peer != nil {
		text += fmt.Sprintf(" peer=%s peer_read=%d", h.Peer.Username, h.PeerRead)
	}
	if h.Last != nil {
		text += " last=" + s.message(h.Last)
	}
	return text
}

func (s *script) entry(e *im.Entry) string {
	text := fmt.Sprintf("%s#%d %s by %s at %d", s.name(e.Conv), e.Seq, e.Kind, short(e.By), e.Time)
	if e.Text != "" {
		text += fmt.Sprintf(" %q", e.Text)
	}
	if e.ReplyTo != 0 {
		text += fmt.Sprintf(" reply_to=%d", e.ReplyTo)
	}
	for _, u := range e.Mentions {
		text += " @" + short(u)
	}
	if e.Key != "" && !strings.HasPrefix(e.Key, "key-") {
		text += " key=" + e.Key
	}
	if e.Target != 0 {
		text += fmt.Sprintf(" target=%d", e.Target)
	}
	if e.Kind == im.EntryReaction || e.Kind == im.EntryPin {
		text += fmt.Sprintf(" %s on=%v", e.Emoji, e.On)
	}
	if e.Kind == im.EntryMember {
		text += fmt.Sprintf(" %s %s %s", short(e.User), e.Change, e.Role)
	}
	if e.Kind == im.EntryMeta {
		text += fmt.Sprintf(" title=%q", e.Title)
	}
	return text
}

func (s *script) message(m *im.Message) string {
	text := s.entry(&m.Entry)
	if m.Edited != 0 {
		text += fmt.Sprintf(" edited=%d:%q", m.Edited, m.State.Text)
	}
	if m.Recalled {
		text += " recalled"
	}
	if m.Pinned != 0 {
		text += fmt.Sprintf(" pinned=%d", m.Pinned)
	}
	for _, r := range m.Reactions {
		text += fmt.Sprintf(" %s×%d", r.Emoji, r.Count)
		if r.Mine {
			text += "(mine)"
		}
	}
	if m.Hidden {
		text += " hidden"
	}
	return text
}

func (s *script) event(e bus.Event) string {
	switch e.Kind {
	case bus.Entry:
		return "entry " + s.entry(e.Entry)
	case bus.Changed:
		return "changed for " + short(e.User) + ": " + s.head(e.Head)
	case bus.Left:
		return "left for " + short(e.User) + ": " + s.head(e.Head)
	case bus.Read:
		return fmt.Sprintf("read %s %s %d wide=%v not to %s", s.name(e.Conv), short(e.User), e.Seq, e.Wide, e.Session)
	}
	return fmt.Sprintf("event %d", e.Kind)
}
