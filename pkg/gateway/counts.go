package gateway

import (
	"strconv"
	"sync/atomic"

	"github.com/pipit-im/pipit/pkg/metrics"
)

// counts are the gateway's counters, looked up once.
type counts struct {
	requests                       *metrics.Counters
	parse, request, method, params *atomic.Uint64 // messages that are no request
	codes                          map[uint16]*atomic.Uint64
	otherCode                      *atomic.Uint64
	flooded                        *atomic.Uint64 // messages over the session's rate
}

// closeCodes are those that metrics.GatewayClosed names.
var closeCodes = []uint16{1000, 1001, 1002, 1003, 1006, 1007, 1009, 1011, 4001, 4002, 4101, 4102, 4201, 4202}

func newCounts(r *metrics.Registry) counts {
	bad, closed := r.Counters(metrics.GatewayDecodeErrors), r.Counters(metrics.GatewayClosed)
	c := counts{
		requests: r.Counters(metrics.GatewayRequests),
		parse:    bad.Cell("parse"), request: bad.Cell("request"), method: bad.Cell("method"), params: bad.Cell("params"),
		codes: make(map[uint16]*atomic.Uint64), otherCode: closed.Cell(metrics.Other),
	}
	c.flooded = c.requests.Cell(metrics.Other, "rate_limited")
	for _, code := range closeCodes {
		c.codes[code] = closed.Cell(strconv.Itoa(int(code)))
	}
	return c
}

func (c *counts) closed(code uint16) {
	cell := c.codes[code]
	if cell == nil {
		cell = c.otherCode
	}
	cell.Add(1)
}
