package hub

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/im"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts print into testdata")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLoop keeps what is posted until run.
type fakeLoop struct {
	mu           sync.Mutex
	queue, spare []func()
}

func (l *fakeLoop) Post(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, fn)
	return true
}

func (l *fakeLoop) posts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

func (l *fakeLoop) run() {
	for l.posts() > 0 {
		l.mu.Lock()
		fns := l.queue
		l.queue = l.spare[:0]
		l.mu.Unlock()
		for _, fn := range fns {
			fn()
		}
		l.spare = fns
	}
}

// fakeSession writes down what it is handed.
type fakeSession struct {
	Member
	name string
	busy bool
	log  *[]string
}

func (s *fakeSession) Deliver(frames []byte) {
	*s.log = append(*s.log, s.name+" < "+strings.Join(describe(frames), " + "))
}
func (s *fakeSession) Busy() bool { return s.busy }
func (s *fakeSession) Close(code uint16, reason string) {
	*s.log = append(*s.log, fmt.Sprintf("%s closed %d %s", s.name, code, reason))
}

// split cuts a run of unmasked text frames into payloads (RFC 6455 §5.2).
func split(b []byte) (payloads [][]byte) {
	for len(b) > 0 {
		if b[0] != 0x81 {
			return append(payloads, fmt.Appendf(nil, `{"method":"bad header %x"}`, b[0]))
		}
		n, head := int(b[1]), 2
		switch n {
		case 126:
			n, head = int(binary.BigEndian.Uint16(b[2:])), 4
		case 127:
			n, head = int(binary.BigEndian.Uint64(b[2:])), 10
		}
		payloads = append(payloads, b[head:head+n])
		b = b[head+n:]
	}
	return payloads
}

func describe(frames []byte) (out []string) {
	for _, p := range split(frames) {
		var m struct {
			Method string
			Params struct {
				ID, Conversation, User, Title string
				Seq, Head                     int
				Left                          bool
				Users                         [][]any
			}
		}
		if err := json.Unmarshal(p, &m); err != nil {
			out = append(out, string(p))
			continue
		}
		q := m.Params
		switch m.Method {
		case "entry":
			out = append(out, fmt.Sprintf("entry %s %d", q.Conversation, q.Seq))
		case "conversation.changed":
			if q.Left {
				out = append(out, "left "+q.ID)
			} else {
				out = append(out, fmt.Sprintf("changed %s head=%d", q.ID, q.Head))
			}
		case "read":
			out = append(out, fmt.Sprintf("read %s %s %d", q.Conversation, q.User, q.Seq))
		case "typing":
			out = append(out, fmt.Sprintf("typing %s %s", q.Conversation, q.User))
		case "presence":
			var ps []string
			for _, u := range q.Users {
				ps = append(ps, fmt.Sprintf("%v=%v", u[0], u[1]))
			}
			sort.Strings(ps)
			out = append(out, "presence "+strings.Join(ps, " "))
		default:
			out = append(out, string(p))
		}
	}
	return out
}

// stage is what a script plays on.
type stage struct {
	hub      *Hub
	bus      *membus.Bus
	loops    []*fakeLoop
	sessions map[string]*fakeSession
	loopOf   map[string]int
	users    map[string]*im.User
	seq      map[string]im.Seq
	log      []string
	began    time.Time
}

func newStage(loops, perUser int) *stage {
	s := &stage{bus: membus.New(), sessions: map[string]*fakeSession{}, loopOf: map[string]int{},
		users: map[string]*im.User{}, seq: map[string]im.Seq{}, began: time.Now()}
	var ls []Loop
	for range loops {
		l := &fakeLoop{}
		s.loops = append(s.loops, l)
		ls = append(ls, l)
	}
	s.hub = New(Options{Bus: s.bus, Loops: ls, SessionsPerUser: func() int { return perUser }})
	return s
}

// user reads "ann", or "ann@other" for another tenant than "t".
func (s *stage) user(name string) *im.User {
	id, tenant, ok := strings.Cut(name, "@")
	if !ok {
		tenant = "t"
	}
	if s.users[name] == nil {
		s.users[name] = &im.User{Tenant: im.TenantID(tenant), ID: im.UserID(id)}
	}
	return s.users[name]
}

func (s *stage) say(format string, args ...any) { s.log = append(s.log, fmt.Sprintf(format, args...)) }

// play does one line of a script: a command, words, and key=value options.
func (s *stage) play(line string) {
	var words []string
	opt := map[string]string{}
	for _, f := range strings.Fields(line) {
		if k, v, ok := strings.Cut(f, "="); ok {
			opt[k] = v
		} else {
			words = append(words, f)
		}
	}
	cmd, args := words[0], words[1:]
	number := func(key string, def int) int {
		if v, ok := opt[key]; ok {
			n, err := strconv.Atoi(v)
			if err != nil {
				panic(err)
			}
			return n
		}
		return def
	}
	tenant := im.TenantID("t")
	if v, ok := opt["tenant"]; ok {
		tenant = im.TenantID(v)
	}
	switch cmd {
	case "attach": // attach SESSION USER loop=N signin=I
		fs := &fakeSession{name: args[0], log: &s.log}
		s.sessions[args[0]], s.loopOf[args[0]] = fs, number("loop", 0)
		if err := s.hub.Shard(number("loop", 0)).Attach(&fs.Member, fs, s.user(args[1]), im.SignInID(opt["signin"])); err != nil {
			s.say("%s refused: %s", args[0], im.KindOf(err))
		}
	case "join": // join SESSION CONV…
		var convs []im.ConvID
		for _, c := range args[1:] {
			convs = append(convs, im.ConvID(c))
		}
		s.hub.Join(&s.sessions[args[0]].Member, convs)
	case "release":
		s.hub.Shard(s.loopOf[args[0]]).Release(&s.sessions[args[0]].Member, []byte("\x81\x02hi"))
	case "live": // live SESSION USER loop=N CONV…: attach, join and release
		s.play("attach " + args[0] + " " + args[1] + " loop=" + strconv.Itoa(number("loop", 0)) + " signin=" + opt["signin"])
		s.play("join " + args[0] + " " + strings.Join(args[2:], " "))
		s.loops[number("loop", 0)].run()
		s.hub.Shard(s.loopOf[args[0]]).Release(&s.sessions[args[0]].Member, nil)
		s.log = s.log[:len(s.log)-1]
	case "detach":
		s.hub.Shard(s.loopOf[args[0]]).Detach(&s.sessions[args[0]].Member)
	case "busy", "idle":
		s.sessions[args[0]].busy = cmd == "busy"
	case "entry": // entry CONV n=COUNT: each in a batch of its own
		for range number("n", 1) {
			s.seq[args[0]]++
			s.bus.Publish([]bus.Event{{Kind: bus.Entry, Tenant: tenant, Conv: im.ConvID(args[0]), Entry: &im.Entry{
				Conv: im.ConvID(args[0]), Seq: s.seq[args[0]], By: "ann", Kind: im.EntryMessage, Text: strings.Repeat("x", number("bytes", 1))}}})
		}
	case "changed": // changed USER CONV, with an entry after it in the same batch if entry=1
		s.bus.Publish(s.changed(args, tenant, number("entry", 0)))
	case "left":
		s.bus.Publish([]bus.Event{{Kind: bus.Left, Tenant: tenant, User: im.UserID(args[0]), Conv: im.ConvID(args[1]),
			Head: &im.Head{ID: im.ConvID(args[1]), Kind: im.KindGroup, Left: true}}})
	case "read": // read USER CONV SEQ session=S wide=1 others=1
		e := bus.Event{Kind: bus.Read, Tenant: tenant, User: im.UserID(args[0]), Conv: im.ConvID(args[1]), Seq: im.Seq(number("seq", 1)), Wide: opt["wide"] != "", Others: opt["others"] != ""}
		if m := s.sessions[opt["session"]]; m != nil {
			e.Session = m.ID()
		}
		s.bus.Publish([]bus.Event{e})
	case "typing":
		s.bus.Publish([]bus.Event{{Kind: bus.Typing, Tenant: tenant, User: im.UserID(args[0]), Conv: im.ConvID(args[1])}})
	case "signedout":
		s.bus.Publish([]bus.Event{{Kind: bus.SignedOut, Tenant: tenant, User: im.UserID(opt["user"]), SignIn: im.SignInID(opt["signin"]), Code: uint16(number("code", 4101))}})
	case "watch": // watch SESSION USER…
		var users []im.UserID
		for _, u := range args[1:] {
			users = append(users, im.UserID(u))
		}
		for _, p := range s.hub.Shard(s.loopOf[args[0]]).Watch(&s.sessions[args[0]].Member, users) {
			since := "never"
			if p.Since != 0 {
				since = time.UnixMilli(int64(p.Since)).Sub(s.began).String()
			}
			s.say("%s %s since %s", p.User, p.State, since)
		}
	case "presence": // presence SESSION online|away
		st := im.Online
		if args[1] == "away" {
			st = im.Away
		}
		s.hub.Shard(s.loopOf[args[0]]).SetPresence(&s.sessions[args[0]].Member, st)
	case "run": // run [LOOP]: what was posted
		for i, l := range s.loops {
			if len(args) == 0 || args[0] == strconv.Itoa(i) {
				l.run()
			}
		}
	case "posts": // how many posts wait on each loop
		for i, l := range s.loops {
			s.say("loop %d: %d", i, l.posts())
		}
	case "wait": // wait DURATION, until everything else sleeps
		d, err := time.ParseDuration(args[0])
		if err != nil {
			panic(err)
		}
		time.Sleep(d)
		synctest.Wait()
	case "stats":
		st := s.hub.Stats()
		s.say("sessions %d people %d rooms %d", st.Sessions, st.People, st.Rooms)
	case "close":
		s.hub.Close()
	default:
		panic("unknown command: " + line)
	}
}

func (s *stage) changed(args []string, tenant im.TenantID, entries int) []bus.Event {
	conv := im.ConvID(args[1])
	evs := []bus.Event{{Kind: bus.Changed, Tenant: tenant, User: im.UserID(args[0]), Conv: conv,
		Head: &im.Head{ID: conv, Kind: im.KindGroup, Title: "T", Head: s.seq[args[1]], Role: im.MemberMember}}}
	for range entries {
		s.seq[args[1]]++
		evs = append(evs, bus.Event{Kind: bus.Entry, Tenant: tenant, Conv: conv, Entry: &im.Entry{
			Conv: conv, Seq: s.seq[args[1]], By: "ann", Kind: im.EntryMember, User: im.UserID(args[0]), Change: im.ChangeJoined, Role: im.MemberMember}})
	}
	return evs
}

// TestScripts plays testdata/*.txt. A block is commands, a line "----", and what
// they print; blocks are parted by an empty line. Lines that begin with # are
// comments. A run of the same delivery to several sessions is sorted.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			synctest.Test(t, func(t *testing.T) {
				s := newStage(2, 3)
				playAll(s, string(text), &out)
				s.hub.Close()
				s.bus.Close()
			})
			if *rewrite {
				if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := out.String(); got != string(text) {
				t.Errorf("%s prints otherwise:\n%s", file, firstDifference(string(text), got))
			}
		})
	}
}

func playAll(s *stage, text string, out *bytes.Buffer) {
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, _ := strings.Cut(block+"\n", "----\n")
		out.WriteString(commands)
		s.log = s.log[:0]
		played := false
		for _, line := range strings.Split(strings.TrimSpace(commands), "\n") {
			if line != "" && !strings.HasPrefix(line, "#") {
				s.play(line)
				played = true
			}
		}
		if played {
			out.WriteString("----\n")
		}
		for _, l := range sortRuns(s.log) {
			out.WriteString(strings.TrimRight(l, " ") + "\n")
		}
	}
}

// sortRuns sorts neighbouring lines of the same delivery by session: the order
// within a room means nothing.
func sortRuns(log []string) []string {
	what := func(l string) string { _, w, _ := strings.Cut(l, " "); return w }
	for i := 0; i < len(log); {
		j := i + 1
		for j < len(log) && what(log[j]) == what(log[i]) {
			j++
		}
		sort.Strings(log[i:j])
		i = j
	}
	return log
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			line := "(end)"
			if i < len(g) {
				line = g[i]
			}
			return fmt.Sprintf("line %d is\n\t%s\nwant\n\t%s\n\nwhole:\n%s", i+1, line, w[i], got)
		}
	}
	return "it goes on after the end:\n" + got
}
