package roster

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

const oak = im.TenantID("oakhill")

// world is a Service with the real directory, auth and chat on the model store.
type world struct {
	t       *testing.T
	store   *storetest.Model
	dir     *directory.Directory
	auth    *auth.Auth
	chat    *chat.Chat
	service *Service
	clock   atomic.Int64 // the wall's, ns; each look at it takes a millisecond
	lost    atomic.Bool  // nobody knows the date
	closed  bool
}

// gate lets a test cut the store off.
type gate interface {
	store.People
	store.Records
}

func newWorld(t *testing.T) *world {
	w := &world{t: t}
	w.clock.Store(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC).UnixNano())
	w.store = storetest.NewModel(w.now)
	w.open(nil)
	if _, err := w.dir.AddTenant(t.Context(), oak, "Oakhill"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

func (w *world) now() time.Time { return time.Unix(0, w.clock.Add(int64(time.Millisecond))) }

// open starts everything over the store; through, if not nil, stands between it
// and the directory and the service.
func (w *world) open(through func(gate) gate) {
	w.t.Helper()
	var g gate = w.store
	if through != nil {
		g = through(w.store)
	}
	bus := membus.New()
	var err error
	if w.dir, err = directory.New(context.Background(), directory.Options{People: g, Records: g, Bus: bus, Now: w.store.Now}); err != nil {
		w.t.Fatal(err)
	}
	if w.auth, err = auth.New(context.Background(), auth.Options{Tokens: w.store, Credentials: g, Records: g, Box: w.store, Users: w.dir,
		Hashing: auth.Hashing{MemoryKiB: 8, Iterations: 1}, Limits: auth.Limits{ChecksPerMinutePerAddr: 600, FailuresPerHourPerAccount: 20}}); err != nil {
		w.t.Fatal(err)
	}
	if w.chat, err = chat.New(chat.Options{Store: w.store, Bus: bus, Users: w.dir, Rules: w.dir, Now: w.store.Now}); err != nil {
		w.t.Fatal(err)
	}
	w.service = New(Setup{Directory: w.dir, Records: g, Chat: w.chat, Passwords: w.auth,
		Now: w.store.Now, Date: func() (time.Time, bool) { return w.now(), !w.lost.Load() }})
	w.closed = false
}

func (w *world) close() {
	if w.closed {
		return
	}
	w.closed = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.service.Close(ctx); err != nil {
		w.t.Error(err)
	}
	if err := w.chat.Close(ctx); err != nil {
		w.t.Error(err)
	}
}

// preview makes the dry run.
func (w *world) preview(name, content string, o Options) *Report {
	w.t.Helper()
	rep, err := w.service.Preview(oak, "u_boss", name, []byte(content), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return rep
}

// run imports and waits for it.
func (w *world) run(name, content string, o Options) *Report {
	w.t.Helper()
	rep := w.preview(name, content, o)
	if rep, err := w.service.Import(oak, "u_boss", name, []byte(content), o, rep.Digest); err != nil {
		w.t.Fatalf("%v: %+v", err, rep)
	}
	w.settle()
	return rep
}

func (w *world) settle() {
	w.t.Helper()
	for range 60_000 {
		st, err := w.service.Status(context.Background(), oak)
		if err != nil {
			w.t.Fatal(err)
		}
		if st.State == Idle {
			if st.Why != "" {
				w.t.Fatal(st.Why)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatal("the import does not end")
}

// changes returns what a report would do, a line each.
func changes(rep *Report) string {
	s := ""
	for _, c := range rep.Changes {
		s += strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s: %s", c.What, c.Of, c.Key, c.Name, Join(c.Detail))), " ") + "\n"
	}
	return s
}

func problems(rep *Report) string {
	s := ""
	for _, p := range rep.Problems {
		s += fmt.Sprintf("%s:%d: %s\n", p.File, p.Line, p.Text)
	}
	return s
}

func (w *world) same(what, got, want string) {
	w.t.Helper()
	if got != want {
		w.t.Errorf("%s:\ngot\n%s\nwant\n%s", what, got, want)
	}
}

// state describes all people and classes, with who sits where, without ids.
func (w *world) state() string {
	var lines []string
	name := func(id im.UserID) string {
		if u, ok := w.dir.User(oak, id); ok {
			return u.Username
		}
		return "?" + string(id)
	}
	names := func(ids []im.UserID) string {
		var list []string
		for _, id := range ids {
			list = append(list, name(id))
		}
		sort.Strings(list)
		return strings.Join(list, ",")
	}
	for cursor := ""; ; {
		users, next := w.dir.Users(oak, cursor, 500)
		for _, u := range users {
			line := fmt.Sprintf("%s %q %s", u.Username, u.Name, u.Role)
			if u.Disabled {
				line += " disabled"
			}
			if of := w.dir.RosterUser(oak, u.ID).GuardianOf; len(of) > 0 {
				line += " of " + names(of)
			}
			lines = append(lines, line)
		}
		if cursor = next; next == "" {
			break
		}
	}
	seats := func(id im.ConvID) string {
		list, err := w.store.Members(context.Background(), oak, id)
		if err != nil {
			w.t.Fatalf("members of %q: %v", id, err)
		}
		var out []string
		for _, m := range list {
			if m.Role != 0 {
				out = append(out, name(m.User)+":"+m.Role.String())
			}
		}
		sort.Strings(out)
		return strings.Join(out, " ")
	}
	for _, c := range w.dir.Classes(oak) {
		group, err := w.store.Conv(context.Background(), oak, c.Group)
		if err != nil {
			w.t.Fatalf("%s: %v", c.Name, err)
		}
		board, err := w.store.Conv(context.Background(), oak, c.Board)
		if err != nil {
			w.t.Fatalf("%s: %v", c.Name, err)
		}
		lines = append(lines, fmt.Sprintf("class %s (%s %s) archived=%v,%v,%v teachers %s students %s\n  %s %s: %s\n  %s %s: %s", c.Name, c.Term, c.Ends, c.Archived, group.Archived, board.Archived,
			names(c.Teachers), names(c.Students), group.Kind, group.Title, seats(c.Group), board.Kind, board.Title, seats(c.Board)))
	}
	return strings.Join(lines, "\n") + "\n"
}

func zipped(t testing.TB, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		f, err := z.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(files[n])); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func (w *world) add(name string, role im.Role) im.User {
	w.t.Helper()
	u, err := w.dir.AddUser(context.Background(), oak, directory.NewUser{Username: name, Role: role})
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

func (w *world) actor(name string) im.Actor {
	w.t.Helper()
	u, ok := w.dir.ByUsername(oak, name)
	if !ok {
		w.t.Fatalf("no user %s", name)
	}
	return im.Actor{Tenant: oak, User: u.ID, Role: u.Role}
}

func (w *world) do(cmd chat.Command) chat.Result {
	w.t.Helper()
	res, err := w.chat.Do(context.Background(), &cmd)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}
