package wire

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// The close codes of our own (PROTOCOL 3.9).
const (
	CloseSlowConsumer = 4001
	CloseStopping     = 4002
	CloseToken        = 4101 // not accepted, expired or revoked
	CloseUserDisabled = 4102
	CloseViolation    = 4201
	CloseSuspended    = 4202 // the tenant
)

// Action is what a client does after its connection ended (PROTOCOL 3.9).
type Action uint8

// The actions.
const (
	// Backoff: reconnect with exponential backoff from 0.5 s to 30 s and full
	// jitter.
	Backoff Action = iota
	// Reconnect: reconnect after a random delay from 0 to the one returned.
	Reconnect
	// SignIn: the token is of no use any more, sign in again.
	SignIn
	// Stop: do not reconnect by yourself.
	Stop
)

// String returns the action's name, as the test vectors have it.
func (a Action) String() string {
	return [...]string{"backoff", "reconnect", "sign-in", "stop"}[a&3]
}

// maxDelayMS bounds durations that come from the other side, 24 h.
const maxDelayMS = 24 * 60 * 60 * 1000

const retryPrefix = "retry_ms="

// CloseAction returns what a client does after a connection ended with that code
// and reason, and for Reconnect the longest delay, at most 24 h. A connection
// that ended without a close frame has code 1006. A code that PROTOCOL 3.9 does
// not name means Backoff: a client that stays away for good because of an
// unknown code would be worse off than one that knocks twice a minute.
func CloseAction(code uint16, reason string) (Action, time.Duration) {
	switch {
	case code == 1002 || code == 1003 || code == 1007 || code == 1009 || code >= 4200 && code <= 4299:
		return Stop, 0
	case code >= 4100 && code <= 4199:
		return SignIn, 0
	case code == 1001 || code == 1006 || code >= 1011 && code <= 1013 || code >= 4000 && code <= 4099:
		if digits, ok := strings.CutPrefix(reason, retryPrefix); ok {
			if ms, err := strconv.ParseUint(digits, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
				return Reconnect, time.Duration(min(ms, maxDelayMS)) * time.Millisecond
			}
		}
	}
	return Backoff, 0
}

// RetryReason returns the close reason that makes clients come back after a
// random delay from 0 to d, in whole milliseconds.
func RetryReason(d time.Duration) string {
	return retryPrefix + strconv.FormatInt(max(d, 0).Milliseconds(), 10)
}
