package app

import (
	"net/http"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/health"
	"github.com/pipit-im/pipit/pkg/metrics"
	"github.com/pipit-im/pipit/pkg/store"
)

// measure connects every stage's counters with the metrics that show them.
func (a *App) measure() {
	published := a.metrics.Counters(metrics.BusPublished).Cell()
	a.bus.Subscribe(func(events []bus.Event) { published.Add(uint64(len(events))) }) // until the bus is closed
	a.metrics.Source(a.measureNet)
	a.metrics.Source(a.measureCommit)
	a.metrics.Source(a.measureHub)
	a.metrics.Source(a.measureAuth)
	a.metrics.Source(a.measureStore)
	a.metrics.Source(func(e *metrics.Emitter) {
		for _, k := range health.Kinds() {
			e.Put(metrics.HealthCondition, 0, k.Code)
		}
		for _, c := range a.board.List() {
			e.Put(metrics.HealthCondition, 1, c.Code)
		}
	})
}

func (a *App) measureNet(e *metrics.Emitter) {
	s := a.loops.Stats()
	e.Put(metrics.NetConnections, float64(s.Open))
	e.Put(metrics.NetAccepted, float64(s.Accepted))
	e.Put(metrics.NetRefused, float64(s.RefusedLimit), "limit")
	e.Put(metrics.NetRefused, float64(s.RefusedAddr), "address_limit")
	e.Put(metrics.NetRefused, float64(s.RefusedFD), "descriptors")
	e.Put(metrics.NetRefused, float64(s.HeadErrors+s.UpgradeRefused+s.HTTPRefused), "head")
	e.Put(metrics.NetRefused, float64(s.RefusedHandshake+s.HandshakeFailed), "handshake")
	e.Put(metrics.NetUpgraded, float64(s.Upgraded))
	e.Put(metrics.NetHTTP, float64(s.HTTP))
	e.Put(metrics.NetFramesIn, float64(s.FramesIn))
	e.Put(metrics.NetFramesOut, float64(s.FramesOut))
	e.Put(metrics.NetBytesIn, float64(s.BytesIn))
	e.Put(metrics.NetBytesOut, float64(s.BytesOut))
	e.Put(metrics.NetWrites, float64(s.Writes))
	e.Put(metrics.NetGathered, float64(s.Gathered))
	e.Put(metrics.NetViolations, float64(s.Protocol1002), "1002")
	e.Put(metrics.NetViolations, float64(s.Protocol1003), "1003")
	e.Put(metrics.NetViolations, float64(s.Protocol1007), "1007")
	e.Put(metrics.NetViolations, float64(s.Protocol1009), "1009")
	e.Put(metrics.NetSlow, float64(s.SlowConsumers))
	e.Put(metrics.NetQueued, float64(s.QueuedBytes))
	e.Put(metrics.NetTimeouts, float64(s.TimeoutFirstByte), "first_byte")
	e.Put(metrics.NetTimeouts, float64(s.TimeoutHead), "head")
	e.Put(metrics.NetTimeouts, float64(s.TimeoutHeartbeat), "heartbeat")
	e.Put(metrics.NetTimeouts, float64(s.TimeoutWrite), "write")
	var turns uint64
	var depth int64
	for _, l := range s.Loops {
		turns += l.Turns
		depth += l.MailboxDepth
	}
	e.Put(metrics.NetTurns, float64(turns))
	e.Put(metrics.NetMailbox, float64(depth))
}

func (a *App) measureCommit(e *metrics.Emitter) {
	s := a.chat.Stats()
	e.Put(metrics.CommitQueued, float64(s.Queue))
	e.Put(metrics.CommitEntries, float64(s.Entries))
	e.Put(metrics.CommitRefused, float64(s.RefusedFull), "queue")
	e.Put(metrics.CommitRefused, float64(s.CommitErrors), "unavailable")
	e.Put(metrics.CommitRepeats, float64(s.Repeats))
}

func (a *App) measureHub(e *metrics.Emitter) {
	s := a.hub.Stats()
	e.Put(metrics.BusDropped, float64(a.bus.Forgotten()))
	e.Put(metrics.HubEvents, float64(s.Entries+s.Events))
	e.Put(metrics.HubDeliveries, float64(s.Deliveries))
	e.Put(metrics.HubGathered, float64(s.Gathered))
	e.Put(metrics.HubDropped, float64(a.chat.Stats().TypingDropped), "typing")
	e.Put(metrics.GatewaySessions, float64(s.Sessions))
}

func (a *App) measureAuth(e *metrics.Emitter) {
	s := a.auth.Stats()
	e.Put(metrics.AuthAttempts, float64(s.SignIns), "ok")
	e.Put(metrics.AuthAttempts, float64(s.Wrong), "wrong")
	e.Put(metrics.AuthAttempts, float64(s.LimitedByAccount), "throttled_account")
	e.Put(metrics.AuthAttempts, float64(s.LimitedByAddr), "throttled_address")
	e.Put(metrics.AuthAttempts, float64(s.LimitedByQueue), "busy")
	e.Put(metrics.AuthQueued, float64(s.HashWaiting))
}

func (a *App) measureStore(e *metrics.Emitter) {
	s := a.store.Stats()
	e.Put(metrics.StoreLSM, float64(s.LSMBytes))
	e.Put(metrics.StoreValueLog, float64(s.ValueLogBytes))
	e.Put(metrics.StoreFree, float64(s.FreeBytes))
	e.Put(metrics.StoreLowWater, float64(s.LowWaterBytes))
	e.Put(metrics.StoreReserve, float64(s.ReserveBytes))
	e.Put(metrics.StoreScrubbed, float64(s.Scrubbed))
	e.Put(metrics.StoreDamaged, float64(s.Damaged))
	writable := 0.0
	if s.State == store.Writable {
		writable = 1
	}
	e.Put(metrics.StoreWritable, writable)
}

// countRequests counts REST answers by class of status.
func (a *App) countRequests(next http.Handler) http.Handler {
	c := a.metrics.Counters(metrics.APIRequests)
	var classes [6]func()
	for i, name := range map[int]string{2: "2xx", 3: "3xx", 4: "4xx", 5: "5xx"} {
		cell := c.Cell(name)
		classes[i] = func() { cell.Add(1) }
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(s, r)
		if count := classes[min(max(s.status/100, 0), 5)]; count != nil {
			count()
		}
	})
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status and passes it on.
func (s *statusWriter) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the connection.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
