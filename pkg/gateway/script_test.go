package gateway

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

var rewrite = flag.Bool("rewrite", false, "write what the scripts print into testdata")

// script plays the files in testdata; TestScripts tells how they read.
type script struct {
	w     *world
	conns map[string]*fakeConn
	next  map[string]int // id of the next request
	mu    sync.Mutex
	heard map[string][]string
	sync  string            // newest that was told
	names map[string]string // what a script calls an id that the server made up
}

var madeUp = regexp.MustCompile(`"(c_[a-z0-9]{16}|s_[a-z0-9]{13}|e_[a-z0-9]+)"`)
var newestSync = regexp.MustCompile(`"sync":"([^"]*)"`)
var opaque = regexp.MustCompile(`"(sync|next|ref)":"[^"]*"`)

// hear is called on the loops.
func (s *script) hear(c *fakeConn, text string) {
	if found := newestSync.FindStringSubmatch(text); found != nil {
		s.mu.Lock()
		s.sync = found[1]
		s.mu.Unlock()
	}
	text = opaque.ReplaceAllString(text, `"$1":"…"`)
	text = strings.ReplaceAll(text, string(s.w.store.Epoch()), "EPOCH")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard[c.name] = append(s.heard[c.name], text)
}

// name replaces ids by c1, c2, … in the order in which the script meets them.
func (s *script) name(text string) string {
	return madeUp.ReplaceAllStringFunc(text, func(quoted string) string {
		id := strings.Trim(quoted, `"`)
		for n, known := range s.names {
			if known == id {
				return `"` + n + `"`
			}
		}
		for i := 1; ; i++ {
			n := id[:1] + strconv.Itoa(i)
			if s.names[n] == "" {
				s.names[n] = id
				return `"` + n + `"`
			}
		}
	})
}

// real is the reverse, for $c1 and the like.
func (s *script) real(text string) string {
	return regexp.MustCompile(`\$[a-z][0-9]+|\$EPOCH|\$BIG|\$SYNC`).ReplaceAllStringFunc(text, func(n string) string {
		switch n {
		case "$EPOCH":
			return string(s.w.store.Epoch())
		case "$SYNC":
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.sync
		case "$BIG":
			return strings.Repeat("x", 4000)
		}
		return s.names[n[1:]]
	})
}

func (s *script) play(line string) {
	line, goOn := strings.CutSuffix(line, " &")
	if !goOn {
		defer synctest.Wait()
	}
	words := strings.Fields(line)
	cmd, args := words[0], words[1:]
	ctx := context.Background()
	switch cmd {
	case "open": // open NAME [loop=N] [cookie=TOKEN]
		loop, t := 0, (*ticket)(nil)
		for _, o := range args[1:] {
			switch k, v, _ := strings.Cut(o, "="); k {
			case "loop":
				loop, _ = strconv.Atoi(v)
			case "cookie":
				t = &ticket{v}
			}
		}
		s.next[args[0]] = 1
		s.conns[args[0]] = s.w.connect(args[0], loop, t, s.hear)
	case "hangup":
		s.conns[args[0]].hangUp()
	case "slow":
		c := s.conns[args[0]]
		c.mu.Lock()
		c.waiting = len(args) == 1
		c.mu.Unlock()
	case "wait":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			panic(err)
		}
		time.Sleep(d)
	case "revoke": // revoke TOKEN
		s.w.auth.mu.Lock()
		s.w.auth.refuse[args[0]] = auth.ErrToken
		s.w.auth.mu.Unlock()
		u := s.w.auth.users[args[0]]
		s.w.publish(bus.Event{Kind: bus.SignedOut, Tenant: u.Tenant, User: u.ID, SignIn: im.SignInID("i_" + args[0]), Code: 4101})
	case "refuse": // refuse TOKEN disabled|suspended, at the next hello
		s.w.auth.refuse[args[0]] = map[string]error{"disabled": auth.ErrDisabled, "suspended": auth.ErrSuspended}[args[1]]
	case "disable":
		if err := s.w.dir.DisableUser(ctx, "oakhill", im.UserID("u_"+args[0]), true); err != nil {
			panic(err)
		}
	case "suspend":
		if err := s.w.dir.SuspendTenant(ctx, im.TenantID(args[0]), true); err != nil {
			panic(err)
		}
	case "store": // store full|failing|fine
		switch args[0] {
		case "full":
			s.w.store.SetState(store.Full, "full")
		case "failing":
			s.w.store.FailNext(errors.New("EIO"))
		default:
			s.w.store.SetState(store.Writable, "")
		}
	case "gate": // gate shut|open: the one worker stands at a hello with a cold token
		s.w.auth.mu.Lock()
		if args[0] == "shut" {
			s.w.auth.gate = make(chan struct{})
		} else {
			close(s.w.auth.gate)
			s.w.auth.gate = nil
		}
		s.w.auth.mu.Unlock()
	case "queues": // on a line of its own
		st := s.w.gw.Stats()
		s.mu.Lock()
		s.heard["gateway"] = append(s.heard["gateway"], fmt.Sprintf("hellos %d, reads %d, bytes behind %d", st.QueuedHellos, st.QueuedReads, st.BehindBytes))
		s.mu.Unlock()
	case "stop":
		s.w.gw.Close(ctx)
	default:
		s.speak(cmd, strings.TrimSpace(strings.TrimPrefix(line, cmd)))
	}
}

// speak sends what a connection says: METHOD PARAMS, with an id; ! METHOD
// PARAMS, without; = TEXT, as it is; N× before either, that often, with # as the
// number of the time.
func (s *script) speak(who, what string) {
	c := s.conns[who]
	if c == nil {
		panic("nobody is called " + who)
	}
	times := 1
	if n, rest, ok := strings.Cut(what, "× "); ok {
		times, _ = strconv.Atoi(n)
		what = rest
	}
	for i := range times {
		text := strings.ReplaceAll(s.real(what), "#", strconv.Itoa(i))
		switch {
		case strings.HasPrefix(text, "= "):
			text = text[2:]
		case strings.HasPrefix(text, "! "):
			method, params, _ := strings.Cut(text[2:], " ")
			text = envelope("", method, params)
		default:
			method, params, _ := strings.Cut(text, " ")
			text = envelope(strconv.Itoa(s.next[who]), method, params)
			s.next[who]++
		}
		c.send(text)
	}
}

func envelope(id, method, params string) string {
	var b strings.Builder
	b.WriteString(`{"jsonrpc":"2.0"`)
	if id != "" {
		b.WriteString(`,"id":` + id)
	}
	b.WriteString(`,"method":"` + method + `"`)
	if params != "" {
		b.WriteString(`,"params":` + params)
	}
	return b.String() + "}"
}

// TestScripts plays testdata/*.txt. A block is commands, a line "----", and what
// each connection heard; blocks are parted by an empty line. After a command
// everything comes to rest, unless it ends in &: then the next one follows at
// once. Lines that begin with # are comments.
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
				var log syncBuffer
				o := worldOptions{perUser: 3, workers: 1, log: &log}
				if strings.HasPrefix(filepath.Base(file), "limits") {
					o.limits = im.Limits{FrameBytes: 4096, TextBytes: 10, SendsPerMinute: 3}
				}
				s := &script{w: newWorld(t, o), conns: map[string]*fakeConn{}, next: map[string]int{}, heard: map[string][]string{}, names: map[string]string{}}
				playAll(s, string(text), &out)
				for _, c := range s.conns {
					c.hangUp()
				}
				s.w.end()
				checkLog(t, log.String())
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

func playAll(s *script, text string, out *bytes.Buffer) {
	for i, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, _ := strings.Cut(block+"\n", "----\n")
		out.WriteString(commands)
		played := false
		for _, line := range strings.Split(strings.TrimSpace(commands), "\n") {
			if line != "" && !strings.HasPrefix(line, "#") {
				s.play(line)
				played = true
			}
		}
		synctest.Wait()
		if played {
			out.WriteString("----\n")
		}
		s.mu.Lock()
		heard := s.heard
		s.heard = map[string][]string{}
		s.mu.Unlock()
		for _, name := range slices.Sorted(maps.Keys(heard)) {
			lines := heard[name]
			for j := 0; j < len(lines); {
				n := 1
				for j+n < len(lines) && lines[j+n] == lines[j] {
					n++
				}
				times := ""
				if n > 1 {
					times = fmt.Sprintf(" (%d×)", n)
				}
				out.WriteString(strings.TrimRight(name+" < "+s.name(lines[j])+times, " ") + "\n")
				j += n
			}
		}
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range w {
		if i >= len(g) || w[i] != g[i] {
			line := "(end)"
			if i < len(g) {
				line = g[i]
			}
			return fmt.Sprintf("line %d is\n\t%s\nwant\n\t%s", i+1, line, w[i])
		}
	}
	return "it goes on after the end:\n" + got
}

// checkLog holds the promise that what users do wrong is logged at info or
// lower, and that tokens and texts never are.
func checkLog(t *testing.T, log string) {
	t.Helper()
	for _, line := range strings.Split(log, "\n") {
		if strings.Contains(line, "secret") || strings.Contains(line, "tok-") {
			t.Errorf("a text or token is in the log: %s", line)
		}
		if (strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN")) && !strings.Contains(line, "disk on fire") && !strings.Contains(line, "a commit failed") && !strings.Contains(line, "EIO") {
			t.Errorf("logged too loudly: %s", line)
		}
	}
}
