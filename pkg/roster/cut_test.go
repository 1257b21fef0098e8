package roster

import (
	"bytes"
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// cutter is a store that takes n writes of people and records and then no more,
// as after a power cut: what was acknowledged is there, nothing after it.
type cutter struct {
	gate
	left atomic.Int64
	cut  chan struct{}
}

func newCutter(n int) *cutter {
	c := &cutter{cut: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

func (c *cutter) take() error {
	switch left := c.left.Add(-1); {
	case left == -1:
		close(c.cut)
		fallthrough
	case left < 0:
		return im.E(im.Unavailable, "cut")
	}
	return nil
}

func (c *cutter) UpdateUser(ctx context.Context, t im.TenantID, u im.UserID, fn func(*im.User) (*im.User, error)) error {
	if err := c.take(); err != nil {
		return err
	}
	return c.gate.UpdateUser(ctx, t, u, fn)
}

func (c *cutter) UpdateCredential(ctx context.Context, t im.TenantID, u im.UserID, fn func(*store.Credential) (*store.Credential, error)) error {
	if err := c.take(); err != nil {
		return err
	}
	return c.gate.UpdateCredential(ctx, t, u, fn)
}

func (c *cutter) UpdateRecords(ctx context.Context, t im.TenantID, fn func(store.RecordTx) error) error {
	if err := c.take(); err != nil {
		return err
	}
	return c.gate.UpdateRecords(ctx, t, fn)
}

// TestCutAnywhere: cut after any number of writes, an import is, after the next
// start, either not there at all or there as a whole; and whatever it was, doing
// it again ends in the same state.
func TestCutAnywhere(t *testing.T) {
	// From a first roster to one that adds, changes, disables and archives.
	next := strings.NewReplacer("5a,student,Ben Ito,ben,,a temporary one\n", "7c,student,Dan,dan,,another password\n", "Ann Lee", "Anna Lee", "6b,teacher,Tom Tull,tom,,\n6b,student,陈小明,chenxm,,\n", "5a,student,陈小明,chenxm,,\n", "\"ben, chenxm\"", "chenxm").Replace(smallSchool)
	want := newWorld(t)
	want.run("a.csv", smallSchool, Options{})
	before := want.state()
	want.run("a.csv", next, Options{})
	after := want.state()
	if before == after {
		t.Fatal("nothing to see")
	}
	undone, finished := 0, 0
	for n := 0; ; n++ {
		w := newWorld(t)
		w.run("a.csv", smallSchool, Options{})
		w.close()
		c := newCutter(n)
		w.open(func(g gate) gate { c.gate = g; return c })
		rep := w.preview("a.csv", next, Options{})
		if _, err := w.service.Import(oak, "", "a.csv", []byte(next), Options{}, rep.Digest); err != nil {
			t.Fatal(err)
		}
		whole := false
		for !whole {
			select {
			case <-c.cut:
			case <-time.After(time.Millisecond):
				st, err := w.service.Status(context.Background(), oak)
				if whole = err == nil && st.State == Idle && c.left.Load() >= 0; !whole {
					continue
				}
			}
			break
		}
		w.close()
		w.open(nil) // the next start
		if err := w.service.Resume(context.Background()); err != nil {
			t.Fatal(err)
		}
		w.settle()
		switch got := w.state(); got {
		case before:
			undone++
			if finished > 0 {
				t.Errorf("cut after %d writes it is undone, and after fewer it was finished", n)
			}
		case after:
			finished++
		default:
			t.Fatalf("cut after %d writes, and then:\n%s", n, got)
		}
		if list, err := w.store.ListRecords(context.Background(), oak, store.RecordImport, partPrefix, "", 10); err != nil || len(list) > 0 {
			t.Errorf("%d parts are left (%v)", len(list), err)
		}
		if rep := w.preview("a.csv", next, Options{}); finished > 0 && len(rep.Changes) > 0 {
			t.Errorf("cut after %d writes, finished, and there is more to do:\n%s", n, changes(rep))
		}
		if undone > 0 && finished == 0 { // it can be done now
			w.run("a.csv", next, Options{})
			if w.state() != after {
				t.Errorf("after a cut at %d it can't be imported any more", n)
			}
		}
		w.close()
		if whole {
			break
		}
		if n > 1000 {
			t.Fatal("it never ends")
		}
	}
	if undone < 2 || finished < 8 {
		t.Errorf("%d undone, %d finished: the cuts missed one side", undone, finished)
	}
	t.Logf("%d cuts before the seal, %d after it", undone, finished)
}

// TestBounds: bombs, tricks with paths and damaged archives are refused in words,
// and in little memory.
func TestBounds(t *testing.T) {
	zeros := strings.Repeat("0", 70<<20)
	lines := "sourcedId,username\n" + strings.Repeat("x,y\n", MaxRows+10)
	many := map[string]string{}
	for i := range MaxFiles + 1 {
		many[strings.Repeat("a", i+1)+".csv"] = "x\n"
	}
	noise := make([]byte, 4000)
	r := rand.NewChaCha8([32]byte{7})
	if _, err := r.Read(noise); err != nil {
		t.Fatal(err)
	}
	good := zipped(t, one11)
	for name, c := range map[string]struct {
		content string
		kind    im.Kind
		says    string
	}{
		"a bomb":              {zipped(t, map[string]string{"users.csv": zeros, "classes.csv": "x", "manifest.csv": "x"}), im.TooLarge, "users.csv, unpacked, is larger than 64 MB"},
		"bombs":               {zipped(t, map[string]string{"users.csv": zeros[:60<<20], "classes.csv": zeros[:60<<20], "manifest.csv": zeros[:60<<20]}), im.TooLarge, "larger than 8 MB"},
		"too large":           {zeros[:MaxUploadBytes+1], im.TooLarge, "larger than 32 MB"},
		"many files":          {zipped(t, many), im.Invalid, "more than 64 tables"},
		"twice":               {zipped(t, map[string]string{"a/users.csv": "x", "b/USERS.csv": "x"}), im.Invalid, "users.csv twice"},
		"cut short":           {good[:len(good)-30], im.Invalid, "cut short or damaged"},
		"nothing":             {zipped(t, map[string]string{"readme.txt": "x"}), im.Invalid, "no CSV file"},
		"only demographics":   {zipped(t, map[string]string{"demographics.csv": "x"}), im.Invalid, "no CSV file"},
		"two tables":          {zipped(t, map[string]string{"a.csv": "x", "b.csv": "x"}), im.Invalid, "no OneRoster"},
		"an empty archive":    {zipped(t, nil), im.Invalid, "no CSV file"},
		"noise as an archive": {"PK\x03\x04" + string(noise), im.Invalid, "cut short or damaged"},
	} {
		r, err := Read("x", []byte(c.content))
		if !im.Is(err, c.kind) || !strings.Contains(explain(err), c.says) {
			t.Errorf("%s: %v %+v", name, err, r)
		}
	}
	// A path that climbs names nothing here: the file is read by its base name.
	files, err := Read("x.zip", []byte(zipped(t, map[string]string{"../../etc/users.csv": one11["users.csv"], `C:\classes.csv`: one11["classes.csv"], "/enrollments.csv": one11["enrollments.csv"]})))
	if err != nil || len(files.People) != 7 || len(files.Classes) != 2 {
		t.Errorf("%+v %v", files, err)
	}
	long, err := Read("x.zip", []byte(zipped(t, map[string]string{"users.csv": lines, "classes.csv": one11["classes.csv"], "enrollments.csv": one11["enrollments.csv"]})))
	if err != nil || !strings.Contains(problems(&Report{Problems: long.Problems[len(long.Problems)-1:]})+problems(&Report{Problems: long.Problems}), "twice") {
		t.Errorf("%v", err)
	}
	if len(long.Problems) > MaxProblems || long.Wrong < MaxRows-10 {
		t.Errorf("%d told of %d", len(long.Problems), long.Wrong)
	}
	wide, err := Read("x.csv", []byte("role,username,name\nmember,ann,"+strings.Repeat("x", MaxCellBytes+1)+"\n"))
	if err != nil || wide.Wrong != 1 || !strings.Contains(wide.Problems[0].Text, "A cell has more than 4096 bytes.") {
		t.Errorf("%+v %v", wide, err)
	}
}

// FuzzRead: whatever comes, reading ends, within its bounds, and what it gives is
// sound: names that can be stored, classes of people of the roster.
func FuzzRead(f *testing.F) {
	f.Add("a.csv", []byte(smallSchool))
	f.Add("a.zip", []byte(zipped(f, one11)))
	f.Add("a.zip", []byte(zipped(f, one12)))
	f.Add("a.csv", []byte("\xff\xfec\x00l\x00"))
	f.Add("b.csv", []byte("role;username\nmember;\"ann\n"))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		r, err := Read(name, content)
		if err != nil {
			return
		}
		fuzzed(t, r)
	})
}

// FuzzTables: the same with OneRoster's tables, without an archive around them.
func FuzzTables(f *testing.F) {
	f.Add([]byte(one12["manifest.csv"]), []byte(one12["users.csv"]), []byte(one12["roles.csv"]), []byte(one12["classes.csv"]), []byte(one12["enrollments.csv"]))
	f.Fuzz(func(t *testing.T, manifest, users, roles, classes, enrollments []byte) {
		r, err := ReadFiles(map[string][]byte{"manifest.csv": manifest, "users.csv": users, "roles.csv": roles, "classes.csv": classes, "enrollments.csv": enrollments})
		if err == nil {
			fuzzed(t, r)
		}
	})
}

func fuzzed(t *testing.T, r *Roster) {
	keys := map[string]bool{}
	for _, p := range r.People {
		keys[p.Key] = true
		if p.Gone {
			continue
		}
		u, n, err := cleanUser(p.Username, p.Name, p.Role)
		if err != nil || u != p.Username || n != p.Name || p.Role == im.RoleOwner {
			t.Fatalf("%+v: %v", p, err)
		}
	}
	for _, c := range r.Classes {
		for _, k := range append(append([]string(nil), c.Teachers...), c.Students...) {
			if !r.Delta && !keys[k] {
				t.Fatalf("%+v has %q, who is not in the roster", c, k)
			}
		}
	}
	if len(r.Problems) > MaxProblems || r.Wrong+r.Notes < len(r.Problems) {
		t.Fatalf("%d problems told of %d and %d", len(r.Problems), r.Wrong, r.Notes)
	}
	for _, p := range r.Problems {
		if p.Text == "" || bytes.ContainsAny([]byte(p.Text), "\x00\n") && !strings.Contains(p.Text, "sourcedId") {
			t.Fatalf("%+v", p)
		}
	}
}
