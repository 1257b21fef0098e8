package gateway

import (
	"sync"

	"github.com/pipit-im/pipit/pkg/hub"
)

// answer is the end of a request, to be written on the loop.
type answer interface {
	finish()
}

// loop is the gateway's part of one event loop.
type loop struct {
	gw    *Gateway
	shard *hub.Shard
	drain func() // l.empty, made once

	// outbox is what waits for the loop; a post is on its way while it is not
	// empty. It is bounded by the requests under way.
	mu     sync.Mutex
	outbox []answer
	spare  []answer // the loop's
}

func newLoop(g *Gateway, shard *hub.Shard) *loop {
	l := &loop{gw: g, shard: shard}
	l.drain = l.empty
	return l
}

// send brings an answer to the loop, from any goroutine. Answers are finished in
// the order of sending, and each before anything that is posted after this
// returns: if the outbox was not empty, the post that will empty it was made
// earlier still.
func (l *loop) send(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outbox = append(l.outbox, a)
	if len(l.outbox) == 1 && !l.shard.Post(l.drain) {
		l.outbox = nil // the loop has stopped; so have its sessions
	}
}

func (l *loop) empty() {
	l.mu.Lock()
	out := l.outbox
	l.outbox, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	for _, a := range out {
		a.finish()
	}
	clear(out)
	if cap(out) <= 4096 {
		l.spare = out
	}
}
