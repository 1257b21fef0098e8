// Package doctor compares what Pipit's packages put into a system with what the system
// runs with: kernel settings, units, PID 1's watchdog, the journal, modules, mounts. What
// is expected is read from the installed files themselves, so that the two can't drift
// apart.
//
// It owns no file and changes nothing. It knows nothing of the server and its data; the
// tool adds what the server says of itself. Nothing in it is used from more than one
// goroutine.
package doctor

import "fmt"

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"`
	State string `json:"state"` // good, watch, act
	Text  string `json:"text"`
	Mend  string `json:"mend,omitempty"` // the command or the step that mends it
}

// Good returns a finding that asks for nothing.
func Good(check, format string, args ...any) Finding {
	return Finding{Check: check, State: "good", Text: fmt.Sprintf(format, args...)}
}

// As returns the finding in another state, with what mends it.
func (f Finding) As(state, mend string) Finding {
	f.State, f.Mend = state, mend
	return f
}
