// Package roster fills a tenant from the list that a school or an office already
// has: it reads a roster (a simple CSV, or OneRoster 1.1 and 1.2), says what
// importing it would change (the dry run), and then does it, all or nothing; and
// it keeps each class's conversation and board in step with its people.
//
// It owns the formats, the difference between a roster and a directory, the
// journal of an import that is under way, and the doings of classes. It decides
// nothing about who may import (access does) and stores nothing but its journal:
// people and classes are directory's, passwords auth's, conversations chat's.
//
// Reading never trusts a file: archives, files, rows and problems are bounded
// (bounds.go), paths in archives name nothing on this machine, and demographics
// are never opened. What is wrong is reported by file and line, all of it at
// once.
//
// All or nothing. A Plan says everything that an import will do, with the ids of
// whoever is new, so that doing it twice is doing it once. The import begins when
// the plan is in the store, sealed; from then on it is finished, by this process
// or by the next one that starts (Service.Resume). Before that nothing has
// happened. While it is being done, in seconds, people may see that some of the
// new ones are there already.
//
// Rosters are keyed on their sourcedId, the simple CSV on the user name. Who came
// with a roster and is in it no more is disabled, never deleted; who was made by
// hand is left alone. A roster makes no owners and takes no right away from
// owners and admins.
//
// A class is over when its term's last day is (EndOver, by the date in the
// tenant's zone), or a roster says so: it is archived, and what comes next
// is another class, which begins empty.
//
// Concurrency: reading and planning are functions without state. A Service does
// one import of a tenant at a time, on a goroutine that Close waits for.
package roster

import "github.com/pipit-im/pipit/pkg/im"

// Place is where in a roster something is said.
type Place struct {
	File string `json:"file"`
	Line int    `json:"line"` // from 1, the header among them; 0: the file as a whole
}

// Problem is something that is wrong with a roster.
type Problem struct {
	Place
	Said // what is wrong and what would be right
	// Note: the import goes on all the same; anything else stands in its way.
	Note bool `json:"note,omitempty"`
}

// Roster is what a roster says, after everything in it was checked against the
// rest of it.
type Roster struct {
	Format string // "CSV", "OneRoster 1.1", "OneRoster 1.2"
	// Delta: it names only what changed; who is not in it stays.
	Delta    bool
	People   []Person
	Classes  []Class
	Problems []Problem // at most MaxProblems
	Wrong    int       // how many problems there are, notes not counted
	Notes    int       // how many notes
}

// Person is one person of a roster.
type Person struct {
	Place
	Key        string // names the person within the roster: sourcedId, or user name
	SourcedID  string // OneRoster only
	Username   string // folded
	Name       string
	Role       im.Role
	GuardianOf []string // keys of members
	Password   string   // for a person who is new; "" for most
	Disabled   bool
	Gone       bool // a delta says so
}

// Class is one class of a roster.
type Class struct {
	Place
	Key       string // sourcedId, or the name
	SourcedID string
	Name      string
	Term      string
	Ends      string // the term's last day, 2027-07-31; "": it ends by hand or by the next roster
	Teachers  []string
	Students  []string
	Gone      bool // a delta says so
	// Left are those whom a delta takes out; whoever it does not name stays.
	Left []string
}

// problem adds one; beyond MaxProblems they are only counted.
func (r *Roster) problem(p Place, format string, args ...any) {
	r.tell(p, say(format, args...))
}

func (r *Roster) note(p Place, format string, args ...any) {
	r.Notes++
	r.add(Problem{Place: p, Said: say(format, args...), Note: true})
}

func (r *Roster) add(p Problem) {
	if len(r.Problems) < MaxProblems {
		r.Problems = append(r.Problems, p)
	}
}
