package netloop

import (
	"sync/atomic"
	"time"
)

// Stats is a snapshot of the counters (which only rise) and gauges of a Server. It
// is not one instant: values are read one after another.
type Stats struct {
	Open     int64 // gauge: connections, those net/http has too
	Sessions int64 // gauge: upgraded ones

	Accepted         uint64
	RefusedLimit     uint64 // over MaxConns
	RefusedAddr      uint64 // over MaxConnsPerAddr
	RefusedFD        uint64 // out of descriptors or memory
	RefusedHandshake uint64 // too many TLS handshakes under way, or TLS not configured
	HandshakeFailed  uint64
	HandshakesNow    int64  // gauge
	HeadErrors       uint64 // malformed request heads
	UpgradeRefused   uint64 // well-formed upgrades that were refused
	Upgraded         uint64
	HTTP             uint64 // handed to net/http
	HTTPRefused      uint64 // its backlog was full

	FramesIn, FramesOut uint64 // messages and control frames in; writes of callers out
	BytesIn, BytesOut   uint64 // on the socket
	Writes              uint64 // write and writev calls
	Gathered            uint64 // frames that left in the same call as one before
	QueuedBytes         int64  // gauge: output that waits
	SlowConsumers       uint64 // closed with 4001
	Protocol1002        uint64 // closed for breaking RFC 6455
	Protocol1003        uint64 // for a binary message
	Protocol1007        uint64 // for text that is not UTF-8
	Protocol1009        uint64 // for a message too long
	TimeoutFirstByte    uint64
	TimeoutHead         uint64
	TimeoutHeartbeat    uint64
	TimeoutWrite        uint64
	TimeoutDeadline     uint64 // Conn.CloseAfter

	Loops []LoopStats
}

// LoopStats is the part of one loop.
type LoopStats struct {
	Conns        int64 // gauge
	Turns        uint64
	MailboxDepth int64         // gauge: posts that wait
	LastTurn     time.Duration // how long the last turn took
	MaxTurn      time.Duration // the longest since the last snapshot
	LastLag      time.Duration // how long the first of the last burst of posts waited
	MaxLag       time.Duration // the longest since the last snapshot
	Busy         time.Duration // all turns together
}

// counters are those that are counted where no loop is at hand, or rarely.
type counters struct {
	accepted, refusedLimit, refusedAddr, refusedFD   atomic.Uint64
	refusedHandshake, handshakeFailed                atomic.Uint64
	headErrors, upgradeRefused, upgraded             atomic.Uint64
	http, httpRefused                                atomic.Uint64
	slow                                             atomic.Uint64
	by1002, by1003, by1007, by1009                   atomic.Uint64
	firstByte, head, heartbeat, writeStall, deadline atomic.Uint64
	handshakes, sessions                             atomic.Int64
}

func (n *counters) closedFor(code uint16) {
	switch code {
	case closeProtocol:
		n.by1002.Add(1)
	case closeBinary:
		n.by1003.Add(1)
	case closeNotUTF8:
		n.by1007.Add(1)
	case closeTooBig:
		n.by1009.Add(1)
	}
}

// loopCounters are the busy ones: each loop has its own, so that cores don't fight
// over a cache line. Only the loop adds; anybody reads.
type loopCounters struct {
	conns, queued                            atomic.Int64
	turns, framesIn, framesOut               atomic.Uint64
	bytesIn, bytesOut, writes, gathered      atomic.Uint64
	lastTurn, maxTurn, lastLag, maxLag, busy atomic.Int64 // nanoseconds
}

func (n *loopCounters) turn(took time.Duration) {
	n.turns.Add(1)
	n.busy.Add(int64(took))
	n.lastTurn.Store(int64(took))
	if int64(took) > n.maxTurn.Load() {
		n.maxTurn.Store(int64(took))
	}
}

func (n *loopCounters) lag(d time.Duration) {
	n.lastLag.Store(int64(d))
	if int64(d) > n.maxLag.Load() {
		n.maxLag.Store(int64(d))
	}
}

// Stats takes a snapshot. Any goroutine.
func (s *Server) Stats() Stats {
	n := &s.n
	st := Stats{
		Open: int64(s.admit.count()), Sessions: n.sessions.Load(),
		Accepted: n.accepted.Load(), RefusedLimit: n.refusedLimit.Load(), RefusedAddr: n.refusedAddr.Load(),
		RefusedFD: n.refusedFD.Load(), RefusedHandshake: n.refusedHandshake.Load(),
		HandshakeFailed: n.handshakeFailed.Load(), HandshakesNow: n.handshakes.Load(),
		HeadErrors: n.headErrors.Load(), UpgradeRefused: n.upgradeRefused.Load(), Upgraded: n.upgraded.Load(),
		HTTP: n.http.Load(), HTTPRefused: n.httpRefused.Load(), SlowConsumers: n.slow.Load(),
		Protocol1002: n.by1002.Load(), Protocol1003: n.by1003.Load(),
		Protocol1007: n.by1007.Load(), Protocol1009: n.by1009.Load(),
		TimeoutFirstByte: n.firstByte.Load(), TimeoutHead: n.head.Load(), TimeoutHeartbeat: n.heartbeat.Load(),
		TimeoutWrite: n.writeStall.Load(), TimeoutDeadline: n.deadline.Load(),
		Loops: make([]LoopStats, len(s.loops)),
	}
	for i, l := range s.loops {
		st.FramesIn += l.n.framesIn.Load()
		st.FramesOut += l.n.framesOut.Load()
		st.BytesIn += l.n.bytesIn.Load()
		st.BytesOut += l.n.bytesOut.Load()
		st.Writes += l.n.writes.Load()
		st.Gathered += l.n.gathered.Load()
		st.QueuedBytes += l.n.queued.Load()
		st.Loops[i] = LoopStats{
			Conns: l.n.conns.Load(), Turns: l.n.turns.Load(), MailboxDepth: l.box.depth.Load(),
			LastTurn: time.Duration(l.n.lastTurn.Load()), MaxTurn: time.Duration(l.n.maxTurn.Swap(0)),
			LastLag: time.Duration(l.n.lastLag.Load()), MaxLag: time.Duration(l.n.maxLag.Swap(0)),
			Busy: time.Duration(l.n.busy.Load()),
		}
	}
	return st
}
