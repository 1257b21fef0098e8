package chat

import (
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// userKey names a user over all tenants.
type userKey struct {
	tenant im.TenantID
	user   im.UserID
}

// rates holds the token buckets of PROTOCOL 6.6, one for each user who sent
// something within the last minute. It belongs to the commit goroutine.
//
// A bucket that is full again equals one that was never there, and only such
// ones are dropped: nobody gets a fresh bucket by making others crowd theirs
// out. So there are never more buckets than users who sent within a minute, plus
// those that the next sweep drops.
type rates struct {
	mono    func() time.Duration
	buckets map[userKey]bucket
	sweepAt int // sweep when there are so many
}

type bucket struct {
	tokens float64
	at     time.Duration // when tokens was right
}

const firstSweep = 1024

func newRates(mono func() time.Duration) *rates {
	return &rates{mono: mono, buckets: make(map[userKey]bucket), sweepAt: firstSweep}
}

// take takes one token of the user's, or says after how long there is one.
// perMinute is the bucket's size too; 0 or less means no limit.
func (r *rates) take(k userKey, perMinute int) (wait time.Duration, ok bool) {
	if perMinute <= 0 {
		return 0, true
	}
	now, size := r.mono(), float64(perMinute)
	b, had := r.buckets[k]
	if !had {
		if len(r.buckets) >= r.sweepAt {
			r.sweep(now, size)
		}
		b = bucket{tokens: size, at: now}
	}
	b.tokens = min(size, b.tokens+size*(now-b.at).Minutes())
	b.at = now
	if b.tokens < 1 {
		r.buckets[k] = b
		return time.Duration((1 - b.tokens) / size * float64(time.Minute)), false
	}
	b.tokens--
	r.buckets[k] = b
	return 0, true
}

// sweep drops the buckets that are full by now and puts the next sweep off until
// the rest has doubled, so that its cost stays constant for each new bucket.
func (r *rates) sweep(now time.Duration, size float64) {
	for k, b := range r.buckets {
		if b.tokens+size*(now-b.at).Minutes() >= size {
			delete(r.buckets, k)
		}
	}
	r.sweepAt = max(firstSweep, 2*len(r.buckets))
}
