package gateway

import (
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// bucket is a session's token bucket over all its messages. It protects the
// loop; the limit of sends (PROTOCOL 6.6) is chat's, so this one lies above it
// wherever that is set.
type bucket struct {
	tokens float32
	at     time.Duration // of the gateway's clock
}

func bucketSize(lim im.Limits) (perSecond, atOnce float32) {
	sends := float32(lim.SendsPerMinute)
	return requestsPerSecond + sends/60, requestsAtOnce + sends
}

func (b *bucket) fill(now time.Duration, lim im.Limits) {
	_, b.tokens = bucketSize(lim)
	b.at = now
}

// take takes one token, if there is one.
func (b *bucket) take(now time.Duration, lim im.Limits) bool {
	perSecond, atOnce := bucketSize(lim)
	b.tokens = min(b.tokens+perSecond*float32((now-b.at).Seconds()), atOnce)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// elapsed is the monotonic clock of rates.
func (g *Gateway) elapsed() time.Duration { return time.Since(g.start) }
