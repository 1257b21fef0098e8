package metrics

import (
	"sync"
	"time"
)

// Sample is how the server was over one SampleStep.
type Sample struct {
	At       int64         // UTC milliseconds at its end
	People   int           // online at its end
	Stored   uint64        // entries stored during it
	StoreP50 time.Duration // what half of its commits took at most, flush included; 0: there were none
	StoreP99 time.Duration // the same of 99 in 100
	Deliver  time.Duration // the longest that an event loop took to get to a task
	Bytes    int64         // resident memory of the process at its end
	Celsius  float64       // of the processor at its end; 0: it does not say
}

// SampleStep is how long a sample lasts; a Ring holds the last RingSpan of them.
const (
	SampleStep = 5 * time.Second
	RingSpan   = 15 * time.Minute
	ringSize   = int(RingSpan / SampleStep)
)

// Ring holds the last samples and forgets older ones: 12 KiB, whatever happens.
// The zero Ring is ready; it may be used from any goroutine.
type Ring struct {
	mu   sync.Mutex
	all  [ringSize]Sample // guarded by mu
	next int              // guarded by mu; where the next one goes
	n    int              // guarded by mu; how many there are
}

// Add puts a sample behind the others.
func (r *Ring) Add(s Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[r.next] = s
	r.next = (r.next + 1) % ringSize
	r.n = min(r.n+1, ringSize)
}

// After returns the samples that ended later than at (UTC milliseconds), oldest
// first. They are the caller's, and never nil.
func (r *Ring) After(at int64) []Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Sample, 0, r.n)
	for i := range r.n {
		if s := r.all[(r.next-r.n+i+ringSize)%ringSize]; s.At > at {
			out = append(out, s)
		}
	}
	return out
}
