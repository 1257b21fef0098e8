// Command load measures the bars that the server is held to, end to end: it
// starts the real pipitd, drives it with the real pipit-load, reads memory,
// processor time and bytes written from /proc, and prints each bar with its
// figure, what it must be, what it aims at, and whether it is met.
//
//	go run ./tests/load -bin .build [-only idle,rooms] [-short]
//
// It owns its servers and their data, in a temporary directory, and nothing
// else. It speaks to 127.0.0.0/8 alone. Absolute times drift with the machine,
// so times are held against a bare write loop ("the floor") measured just before
// and just after in the same run; the rest are counts. RESULTS.md has the figures
// that were seen, and what each means.
//
// Measures run one after the other, each waiting for the goroutines that it
// starts. It exits with 1 if something was lost, doubled or out of order, or if a
// measure failed; a missed bar is printed, not a failure, because it says as much
// of the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// bench is one run of this program.
type bench struct {
	bin   string // folder of the commands
	dir   string // scratch
	short bool
	rows  []row
	bad   []string
}

// measures are what can be measured, in the order in which it is.
var measures = []struct {
	name, what string
	run        func(context.Context, *bench) error
}{
	{"idle", "memory of idle sessions", measureIdle},
	{"rooms", "processor time a delivery in rooms of 50", measureRooms},
	{"hot", "processor time a delivery in a hot room of 1000", measureHot},
	{"announce", "one announcement to 4000", measureAnnounce},
	{"storm", "4000 come back at once", measureStorm},
	{"passwords", "4000 sign in by password at once, while one address guesses", measurePasswords},
	{"roster", "a roster of 4,000 people and 200 classes", measureRoster},
	{"steady", "memory, disk and acknowledgements at 400 messages a second", measureSteady},
	{"guest", "the same in a cgroup of 512 MB", measureGuest},
	{"tls", "memory of idle TLS sessions", measureTLS},
	{"disk", "a disk that flushes in 3 ms", measureDisk},
	{"slow", "64 senders on a disk that flushes in 10 ms", measureSlow},
	{"card", "bytes that reach a card at 400 messages a second", measureCard},
	{"million", "start after kill -9 with a million messages", measureMillion},
	{"arm64", "user instructions a delivery on an emulated arm64", measureArm64},
	{"code", "allocations and reads, from the benchmarks beside the code", measureCode},
}

func run(ctx context.Context) (err error) {
	b := &bench{}
	only := flag.String("only", "", "measure these alone: `names`, comma-separated")
	flag.StringVar(&b.bin, "bin", ".build", "`folder` of pipitd and pipit-load")
	flag.BoolVar(&b.short, "short", false, "shorter runs, for a quick look")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: load [flags]; what can be measured:")
		for _, m := range measures {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-9s %s\n", m.name, m.what)
		}
		flag.PrintDefaults()
	}
	flag.Parse()
	if b.bin, err = filepath.Abs(b.bin); err != nil {
		return err
	}
	var chosen []string
	if *only != "" {
		chosen = strings.Split(*only, ",")
	}
	for _, name := range chosen {
		known := false
		for _, m := range measures {
			known = known || m.name == name
		}
		if !known {
			return fmt.Errorf("there is no measure %q; -help lists them", name)
		}
	}
	if b.dir, err = os.MkdirTemp("", "pipit-load-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	for _, m := range measures {
		if len(chosen) > 0 && !slices.Contains(chosen, m.name) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s …\n", m.what)
		if err := m.run(ctx, b); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.bad = append(b.bad, m.name+": "+err.Error())
		}
	}
	b.print(os.Stdout)
	if len(b.bad) > 0 {
		return errors.New("\n  " + strings.Join(b.bad, "\n  "))
	}
	return nil
}

// length is how long a run of d takes: a third of it with -short.
func (b *bench) length(d time.Duration) time.Duration {
	if b.short {
		return max(d/3, 3*time.Second)
	}
	return d
}
