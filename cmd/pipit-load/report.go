package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// report is the result of a run.
type report struct {
	Profile    string    `json:"profile"`
	Users      int       `json:"users"`
	Room       int       `json:"room"`
	Rooms      int       `json:"rooms"`
	Duration   seconds   `json:"duration_s"`
	Sends      int       `json:"sends"`
	Acked      int       `json:"acked"`
	Refused    int       `json:"refused"`
	Deliveries int       `json:"deliveries"`
	Lost       int       `json:"lost"`
	Doubled    int       `json:"doubled"`
	OutOfOrder int       `json:"out_of_order"`
	Again      int       `json:"sent_again"` // refused for now, taken later
	Late       int       `json:"late"`       // came behind a later one of their sender, because they were sent again
	Pulled     int       `json:"pulled"`
	Reconnects int       `json:"reconnects"`
	SendsPerS  float64   `json:"sends_per_s"`
	DelivPerS  float64   `json:"deliveries_per_s"`
	Ack        quantiles `json:"ack_ms"`
	Delivery   quantiles `json:"delivery_ms"`
	Handshake  quantiles `json:"handshake_ms"`
	Connects   float64   `json:"handshakes_per_s"`
	Connecting seconds   `json:"connecting_s"`
	ConnectCPU seconds   `json:"server_cpu_connecting_s"`
	ServerCPU  seconds   `json:"server_cpu_s"`
	CPUPerDel  float64   `json:"server_cpu_us_per_delivery"`
	FloorUS    float64   `json:"floor_us,omitempty"`
	XFloor     float64   `json:"x_floor,omitempty"`
	ClientCPU  seconds   `json:"client_cpu_s"`
	Empty      memory    `json:"server_memory_empty"`
	Full       memory    `json:"server_memory"`
	RSSPerConn float64   `json:"rss_bytes_per_connection"`
	Written    int64     `json:"server_written_bytes"`
	Commits    uint64    `json:"commits"`
}

// seconds is a duration that JSON shows in seconds.
type seconds time.Duration

func (s seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Seconds())
}

// quantiles are in milliseconds.
type quantiles struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
	Max  float64 `json:"max"`
}

func quantilesOf(h *hdrhistogram.Histogram) quantiles {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	return quantiles{ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(99)), ms(h.ValueAtQuantile(99.9)), ms(h.Max())}
}

func (q quantiles) String() string {
	return fmt.Sprintf("p50 %.1f  p99 %.1f  p99.9 %.1f  max %.1f ms", q.P50, q.P99, q.P999, q.Max)
}

// errDamage is a run in which something got lost.
var errDamage = errors.New("messages were lost, doubled or out of order")

// print writes the report; its error says that the run failed.
func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			return err
		}
	} else {
		r.text(w)
	}
	if r.Lost != 0 || r.Doubled != 0 || r.OutOfOrder != 0 {
		return errDamage
	}
	return nil
}

func (r *report) text(w io.Writer) {
	row := func(k, format string, args ...any) { fmt.Fprintf(w, "%-14s %s\n", k, fmt.Sprintf(format, args...)) }
	mib := func(n int64) float64 { return float64(n) / (1 << 20) }
	row("profile", "%s, %d users in %d rooms of %d, %.1f s", r.Profile, r.Users, r.Rooms, r.Room, time.Duration(r.Duration).Seconds())
	row("sends", "%d (%.1f/s), %d acknowledged, %d refused", r.Sends, r.SendsPerS, r.Acked, r.Refused)
	row("deliveries", "%d (%.0f/s)", r.Deliveries, r.DelivPerS)
	row("faults", "%d lost, %d doubled, %d out of order", r.Lost, r.Doubled, r.OutOfOrder)
	row("repairs", "%d pulled, %d reconnects, %d refused for now and sent again", r.Pulled, r.Reconnects, r.Again)
	row("ack", "%s", r.Ack)
	row("delivery", "%s", r.Delivery)
	row("handshake", "%s, %.0f/s, server %.2f CPU s", r.Handshake, r.Connects, time.Duration(r.ConnectCPU).Seconds())
	row("server CPU", "%.2f s, %.1f µs a delivery", time.Duration(r.ServerCPU).Seconds(), r.CPUPerDel)
	if r.FloorUS > 0 {
		row("floor", "%.1f µs a bare write: %.2f × floor", r.FloorUS, r.XFloor)
	}
	row("client CPU", "%.2f s", time.Duration(r.ClientCPU).Seconds())
	row("server RSS", "%.1f MiB empty, %.1f MiB now (%.1f anonymous, %.1f mapped files), %.2f kB a connection",
		mib(r.Empty.RSS), mib(r.Full.RSS), mib(r.Full.Anon), mib(r.Full.File), r.RSSPerConn/1000)
	row("disk", "%.1f MiB written in %d commits", mib(r.Written), r.Commits)
}
