// Package health keeps the named conditions of the box: what is wrong now, what
// it means to people, and what to do about it. /readyz, `pipit status`, `pipit
// doctor` and a metric show the same list.
//
// It owns the catalogue of conditions (conditions.go) and the board that says
// which of them hold. It never looks for anything itself: whoever notices sets
// and clears. It is not a log; a condition is a state, with a beginning.
//
// A Board may be used from any goroutine; no call blocks on I/O but the log.
package health

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Severity says who should look.
type Severity uint8

// The severities.
const (
	Watch Severity = iota // it works; keep an eye on it
	Act                   // people notice, or will soon; do something
)

// String returns "watch" or "act".
func (s Severity) String() string {
	if s == Act {
		return "act"
	}
	return "watch"
}

// MarshalText makes JSON show the name.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Kind is one condition of the catalogue; it is never changed.
type Kind struct {
	Code     string // [a-z-]+; the metric's label and what scripts look for
	Severity Severity
	NotReady bool   // while it holds, /readyz answers 503
	Title    string // a few words
	Text     string // what it means for the people who use the box
	Hint     string // what to do, with the command
}

// Condition is a Kind that holds.
type Condition struct {
	Code     string    `json:"code"`
	Severity Severity  `json:"severity"`
	NotReady bool      `json:"not_ready,omitempty"`
	Title    string    `json:"title"`
	Text     string    `json:"text"`
	Hint     string    `json:"hint"`
	Detail   string    `json:"detail,omitempty"` // "12 MiB free of 29 GiB"
	Since    time.Time `json:"since"`
	// Figures are the numbers of Detail, for a client that phrases it in another
	// language. The end of a name says what it counts: _bytes, or _ms for a time in
	// UTC milliseconds, else things. The map is not changed any more.
	Figures map[string]int64 `json:"figures,omitempty"`
}

// Board holds the conditions of one server.
type Board struct {
	now func() time.Time
	log *slog.Logger

	mu   sync.Mutex
	held map[*Kind]Condition // guarded by mu
}

// New returns a board on which nothing holds. Changes are logged: those that
// need action as warnings, the rest as information.
func New(now func() time.Time, log *slog.Logger) *Board {
	return &Board{now: now, log: log, held: map[*Kind]Condition{}}
}

// Set says that k holds. Set again, it changes the detail and keeps the time
// since when. The detail is for the administrator: no message text, no secrets.
func (b *Board) Set(k *Kind, detail string) { b.set(k, detail, nil) }

func (b *Board) set(k *Kind, detail string, figures map[string]int64) {
	b.mu.Lock()
	c, held := b.held[k]
	if !held {
		c = Condition{Code: k.Code, Severity: k.Severity, NotReady: k.NotReady, Title: k.Title, Text: k.Text, Hint: k.Hint, Since: b.now()}
	}
	c.Detail, c.Figures = detail, figures
	b.held[k] = c
	b.mu.Unlock()
	if !held {
		b.log.Log(context.Background(), level(k), "condition begins", "condition", k.Code, "title", k.Title, "detail", detail, "hint", k.Hint)
	}
}

// Clear says that k holds no longer. Clearing what does not hold does nothing.
func (b *Board) Clear(k *Kind) {
	b.mu.Lock()
	c, held := b.held[k]
	delete(b.held, k)
	now := b.now()
	b.mu.Unlock()
	if held {
		b.log.Info("condition ends", "condition", k.Code, "after", now.Sub(c.Since))
	}
}

// Update sets or clears k: for checks that run again and again.
func (b *Board) Update(k *Kind, holds bool, detail string) { b.UpdateFigures(k, holds, detail, nil) }

// UpdateFigures is Update with the numbers of the detail (Condition.Figures).
func (b *Board) UpdateFigures(k *Kind, holds bool, detail string, figures map[string]int64) {
	if holds {
		b.set(k, detail, figures)
	} else {
		b.Clear(k)
	}
}

// Holds says whether k holds now.
func (b *Board) Holds(k *Kind) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, held := b.held[k]
	return held
}

// List returns what holds, always in the order of Kinds: what needs action
// first. The slice is the caller's, and never nil.
func (b *Board) List() []Condition {
	out := []Condition{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range Kinds() {
		if c, held := b.held[k]; held {
			out = append(out, c)
		}
	}
	return out
}

// Ready says whether the server may be sent people, and if not, why.
func (b *Board) Ready() (bool, []Condition) {
	var why []Condition
	for _, c := range b.List() {
		if c.NotReady {
			why = append(why, c)
		}
	}
	return len(why) == 0, why
}

func level(k *Kind) slog.Level {
	if k.Severity == Act {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
