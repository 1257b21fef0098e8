package chat

import "time"

const (
	// slowFlush is what tells a card from a disk, and restMost bounds the rest.
	slowFlush = 8 * time.Millisecond
	restMost  = 25 * time.Millisecond

	// fastFlush is what tells a fast disk, and commitEvery how far apart commits
	// begin there while many send.
	fastFlush   = 2 * time.Millisecond
	commitEvery = 8 * time.Millisecond
	// manySend is how many commands must have come together in one rest before the
	// next commits rest too, fewSend how many at least on average for it to go on.
	manySend, fewSend = 3, 1.5
	// tryEvery is how many commits of few senders pass between two rests that find
	// out whether there are more by now.
	tryEvery = 32
)

// pace tells how long the commit goroutine rests after a commit, so that more
// commands share the next one. A commit has a price whatever is in it: a page of
// 4 KiB that wears a card, and on any disk a write, a flush and a wake-up of each
// stage of a message's walk. At 400 messages a second on a disk that flushes in
// 0.3 ms that price was two fifths of the processor time: 21 µs a delivery in rooms
// of 50, 12 with commits 8 ms apart (tests/load/RESULTS.md).
//
// A lone message never waits: the last commit is longer ago than any rest. Nor
// does a sender who waits for each answer before he sends again, because nothing
// gathers meanwhile: then only one commit in tryEvery is followed by a rest. It
// belongs to the commit goroutine.
type pace struct {
	flush  time.Duration // an Append, on average
	batch  float64       // commands that a rest gathers, on average
	many   bool          // on a disk: many send
	rested bool          // before the commit that is under way
	since  int           // commits without a rest
}

// took tells how long an Append took.
func (p *pace) took(d time.Duration) { p.flush += (d - p.flush) / 8 }

// rest is how long to rest after a commit of so many commands that began so long
// ago; 0 is not at all.
//
// On a card it is half a flush, and the last to come waits two and a half flushes
// instead of two. A disk in between gathers enough while it flushes, and full
// commits gain nothing from a rest.
func (p *pace) rest(commands int, ago time.Duration) time.Duration {
	if p.rested {
		p.batch += (float64(commands) - p.batch) / 8
		switch {
		case p.many:
			p.many = p.batch >= fewSend
		case commands >= manySend:
			p.many, p.batch = true, float64(commands)
		}
	}
	wait := commitEvery - ago
	switch {
	case commands >= maxBatch/4:
		wait = 0
	case p.flush >= slowFlush:
		wait = min(p.flush/2, restMost)
	case p.flush >= fastFlush:
		wait = 0
	case !p.many && p.since < tryEvery:
		p.since++
		wait = 0
	}
	p.rested = wait > 0
	if p.rested {
		p.since = 0
	}
	return max(wait, 0)
}
