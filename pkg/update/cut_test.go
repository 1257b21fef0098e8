package update

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// tape is a disk that works and remembers what was asked of it, in the steps in
// which a cut can come between.
type tape struct {
	osDisk
	root string
	ops  []op
}

// op is one step; which says what it is.
type op struct {
	which    string // mkdir, create, data, sync, rename, remove, syncdir
	name, to string // from root
	mode     fs.FileMode
	data     []byte
}

func (d *tape) note(o op) {
	for _, p := range []*string{&o.name, &o.to} {
		if *p != "" {
			rel, err := filepath.Rel(d.root, *p)
			if err != nil {
				panic(err)
			}
			*p = rel
		}
	}
	d.ops = append(d.ops, o)
}

func (d *tape) Mkdir(name string, mode fs.FileMode) error {
	err := d.osDisk.Mkdir(name, mode)
	if err == nil {
		d.note(op{which: "mkdir", name: name, mode: mode})
	}
	return err
}

func (d *tape) Write(name string, mode fs.FileMode, fill func(io.Writer) error) error {
	d.note(op{which: "create", name: name, mode: mode})
	err := d.osDisk.Write(name, mode, func(w io.Writer) error {
		var b bytes.Buffer
		err := fill(io.MultiWriter(w, &b))
		d.note(op{which: "data", name: name, data: b.Bytes()})
		return err
	})
	d.note(op{which: "sync", name: name})
	return err
}

func (d *tape) Rename(from, to string) error {
	d.note(op{which: "rename", name: from, to: to})
	return d.osDisk.Rename(from, to)
}

func (d *tape) RemoveAll(name string) error {
	d.note(op{which: "remove", name: name})
	return d.osDisk.RemoveAll(name)
}

func (d *tape) SyncDir(name string) error {
	d.note(op{which: "syncdir", name: name})
	return d.osDisk.SyncDir(name)
}

// fate is what becomes of what was not synced when the cut comes.
type fate string

const (
	lost fate = "lost" // entries and data of the last unsynced steps are gone
	kept fate = "kept" // everything got there all the same
	torn fate = "torn" // entries got there, and half of the data
	gaps fate = "gaps" // every second unsynced entry got there
)

// replay makes in dir what a cut after the first n steps leaves. An entry of a
// folder is safe once that folder was synced later; data are safe once their file
// was. Everything else meets fate.
func (d *tape) replay(t *testing.T, dir string, n int, f fate) {
	t.Helper()
	safe := func(i int, which, name string) bool {
		for _, o := range d.ops[i+1 : n] {
			if o.which == which && o.name == name {
				return true
			}
		}
		return false
	}
	moved := func(i int, name string) string { // where a file's data are synced later
		for _, o := range d.ops[i+1 : n] {
			if o.which == "rename" && (name == o.name || filepath.Dir(name) == o.name) {
				name = o.to + name[len(o.name):]
			}
		}
		return name
	}
	unsynced := 0
	for i, o := range d.ops[:n] {
		path, dirty := filepath.Join(dir, o.name), false
		switch o.which {
		case "mkdir", "create", "remove":
			dirty = !safe(i, "syncdir", filepath.Dir(o.name)) && !safe(i, "syncdir", filepath.Dir(moved(i, o.name)))
		case "rename":
			dirty = !safe(i, "syncdir", filepath.Dir(o.to))
		case "data":
			dirty = !safe(i, "sync", o.name)
		}
		if dirty {
			unsynced++
			if f == lost || f == gaps && unsynced%2 == 0 {
				continue
			}
		}
		var err error
		switch o.which {
		case "mkdir":
			err = os.Mkdir(path, o.mode)
		case "create":
			err = os.WriteFile(path, nil, o.mode)
		case "data":
			b := o.data
			if dirty && f == torn {
				b = b[:len(b)/2]
			}
			var file *os.File
			if file, err = os.OpenFile(path, os.O_WRONLY, 0); err == nil {
				_, err = file.Write(b)
				file.Close()
			}
		case "rename":
			err = os.Rename(path, filepath.Join(dir, o.to))
		case "remove":
			err = os.RemoveAll(path)
		}
		// With gaps, what later steps work on may not be there.
		if err != nil && f != gaps && f != lost {
			t.Fatalf("step %d of %d, %s %s: %v", i, n, o.which, o.name, err)
		}
	}
}

// TestCuts: a cut at any moment of an update, of a start on trial, of the
// confirmation and of the way back leaves the old version or the new one, whole,
// and the next update works.
func TestCuts(t *testing.T) {
	r := newRig(t)
	r.install("1.1.0")
	if err := r.v.Confirm("1.1.0"); err != nil {
		t.Fatal(err)
	}
	before := t.TempDir()
	if err := os.CopyFS(before, os.DirFS(r.v.data)); err != nil {
		t.Fatal(err)
	}
	d := &tape{root: r.v.data}
	r.v.disk = d
	marks := map[string]int{}
	r.install("1.2.0")
	marks["installed"] = len(d.ops)
	r.wantStart("1.2.0", true)
	if err := r.v.Confirm("1.2.0"); err != nil {
		t.Fatal(err)
	}
	marks["confirmed"] = len(d.ops)
	r.install("1.3.0")
	r.wantStart("1.3.0", true)
	if err := r.v.Fail("1.3.0", "played"); err != nil {
		t.Fatal(err)
	}
	marks["back"] = len(d.ops)

	tried, next := map[string]int{}, r.bundle("2.0.0")
	for n := 0; n <= len(d.ops); n++ {
		for _, f := range []fate{lost, kept, torn, gaps} {
			name := fmt.Sprintf("after %d steps, %s", n, f)
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(before)); err != nil {
				t.Fatal(err)
			}
			d.replay(t, dir, n, f)
			v := r.box(dir)
			got, _ := start(t, v)
			allowed := []string{"1.1.0", "1.2.0"}
			switch {
			case n >= marks["back"]:
				allowed = []string{"1.2.0"}
			case n >= marks["confirmed"]:
				allowed = []string{"1.2.0", "1.3.0"}
			case n >= marks["installed"]:
				allowed = []string{"1.2.0"}
			}
			ok := false
			for _, a := range allowed {
				ok = ok || got == a
			}
			if !ok {
				t.Errorf("%s: started %s, want one of %v", name, got, allowed)
			}
			tried[got]++
			if f != lost && f != gaps {
				continue // each step's next update twice is enough
			}
			// The box is not stuck.
			if _, err := v.Install(next, "1.2.0", false); err != nil {
				t.Errorf("%s: the next update: %v", name, err)
				continue
			}
			if err := v.Activate("2.0.0"); err != nil {
				t.Errorf("%s: the next update: %v", name, err)
				continue
			}
			if got, trial := start(t, v); got != "2.0.0" || !trial {
				t.Errorf("%s: the next update started %s", name, got)
			}
		}
	}
	t.Logf("%d steps, 4 fates each; started: %v", len(d.ops), tried)
	for _, want := range []string{"1.1.0", "1.2.0", "1.3.0"} {
		if tried[want] == 0 {
			t.Errorf("no cut led to %s: the play does not show what it should", want)
		}
	}
}
