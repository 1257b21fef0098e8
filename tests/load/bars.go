package main

import (
	"fmt"
	"io"
	"strings"
)

// bar is a number to reach. At least or at most is said by atLeast.
type bar struct {
	id, text, unit string
	must, aim      float64
	atLeast        bool
}

// bars are the numbers of the design (TARGETS, "Ours"), in its order.
var bars = []bar{
	{id: "rss4000", text: "RSS with 4000 idle sessions, 100 conversations of 40", unit: "MB", must: 40, aim: 25},
	{id: "rssmore", text: "RSS a further idle session (4000 → 15,000)", unit: "kB", must: 2, aim: 0.8},
	{id: "heap", text: "live heap a session", unit: "B", must: 1200, aim: 600},
	{id: "anon", text: "RssAnon, 4000 online, 1 M messages stored, 400/s in rooms of 30", unit: "MB", must: 160, aim: 96},
	{id: "guest", text: "the same in a cgroup of 512 MB, page cache in it", unit: "MB", must: 537, aim: 537},
	{id: "rooms", text: "CPU a delivery, rooms of 50, durable", unit: "× floor", must: 1.5, aim: 1.2},
	{id: "hot", text: "CPU a delivery, hot room of 1000", unit: "× floor", must: 0.5, aim: 0.2},
	{id: "arm64", text: "arm64 user instructions a delivery", unit: "", must: 1000, aim: 650},
	{id: "allocs", text: "allocations a recipient", unit: "", must: 0, aim: 0},
	// TARGETS: 0.30 and 0.20 s where bare sockets took 0.16.
	{id: "stormcpu", text: "4000 reconnect + hello at once, CPU", unit: "× bare sockets", must: 1.9, aim: 1.25},
	{id: "stormtime", text: "4000 reconnect + hello at once, until all are in", unit: "s", must: 5, aim: 2},
	{id: "passwords", text: "4000 sign in by password at once: who did not get in", unit: "", must: 0, aim: 0},
	{id: "passwordping", text: "p99 of a ping meanwhile", unit: "ms", must: 250, aim: 50},
	{id: "passwordanon", text: "RssAnon meanwhile", unit: "MB", must: 160, aim: 96},
	{id: "roster", text: "roster of 4,000 people and 200 classes, until all is there", unit: "s", must: 60, aim: 15},
	{id: "tls", text: "idle TLS session, RSS", unit: "kB", must: 14, aim: 3},
	{id: "sends", text: "durable sends/s, a disk that flushes in 3 ms", unit: "/s", must: 5000, aim: 20000, atLeast: true},
	{id: "ack", text: "ack p99 at 400 sends/s, a disk that flushes in 3 ms", unit: "× fsync", must: 3, aim: 2},
	{id: "slow", text: "acknowledgements/s, 64 senders, a disk that flushes in 10 ms", unit: "/s", must: 900, aim: 1000, atLeast: true},
	{id: "announce", text: "one announcement to 4000, last delivery", unit: "× floor", must: 2, aim: 1.3},
	{id: "written", text: "bytes written a stored message byte, 400 sends/s", unit: "", must: 4, aim: 2},
	{id: "ready", text: "start to ready after kill -9, 1 M messages", unit: "s", must: 0.5, aim: 0.3},
	{id: "cold", text: "first 50 messages of a conversation, cold", unit: "µs", must: 250, aim: 100},
	{id: "warm", text: "first 50 messages of a conversation, from memory", unit: "µs", must: 20, aim: 10},
	{id: "faults", text: "lost, doubled, out of order, in all runs", unit: "", must: 0, aim: 0},
}

// row is a figure that was seen.
type row struct {
	id     string
	figure float64
	note   string
}

func (b *bench) saw(id string, figure float64, note string, args ...any) {
	b.rows = append(b.rows, row{id, figure, fmt.Sprintf(note, args...)})
}

// met says how a figure stands to its bar.
func (x *bar) met(figure float64) string {
	reaches := func(want float64) bool {
		if x.atLeast {
			return figure >= want
		}
		return figure <= want
	}
	switch {
	case reaches(x.aim):
		return "aim"
	case reaches(x.must):
		return "ok"
	}
	return "MISS"
}

// print writes the table as Markdown, so that it can go into RESULTS.md as it is.
func (b *bench) print(w io.Writer) {
	fmt.Fprintln(w, "| bar | must | aim | figure | | how |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|")
	for i := range bars {
		x := &bars[i]
		if x.id == "faults" {
			b.printFaults(w, x)
			continue
		}
		for _, r := range b.rows {
			if r.id == x.id {
				unit := strings.TrimSuffix(" "+x.unit, " ")
				fmt.Fprintf(w, "| %s | %s%s | %s | **%s** | %s | %s |\n", x.text, number(x.must), unit, number(x.aim), number(r.figure), x.met(r.figure), r.note)
			}
		}
	}
}

// printFaults adds the runs up: one is as bad as many.
func (b *bench) printFaults(w io.Writer, x *bar) {
	sum, runs := 0.0, 0
	var notes []string
	for _, r := range b.rows {
		if r.id == x.id {
			sum += r.figure
			runs++
			notes = append(notes, r.note)
		}
	}
	if runs > 0 {
		fmt.Fprintf(w, "| %s | %s | %s | **%s** | %s | %d runs: %s |\n", x.text, number(x.must), number(x.aim), number(sum), x.met(sum), runs, strings.Join(notes, "; "))
	}
}

// number shows three digits that mean something.
func number(v float64) string {
	switch {
	case v == 0:
		return "0"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
