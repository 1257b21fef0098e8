// Command pipit-load puts load on a running Pipit server and counts every
// message at every receiver: lost, doubled and out of order must be 0. It makes
// a tenant of its own with its users through the admin socket, so it runs on
// the server's machine, as the server's user or root.
//
// The users' sockets live in worker processes (this program started again), so
// that no process runs out of descriptors and the server's CPU time, read from
// /proc, is never mixed with the load's own. The addresses of the clients are
// 127.0.0.x, in turn.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) == 2 && os.Args[1] == workerArg {
		if err := serveWorker(ctx, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "pipit-load worker:", err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 4 && (os.Args[1] == sinkArg || os.Args[1] == callersArg) {
		sockets, err := strconv.Atoi(os.Args[3])
		switch {
		case err != nil:
		case os.Args[1] == sinkArg:
			err = serveSink(os.Args[2], sockets, os.Stdout)
		default:
			err = serveCallers(os.Args[2], sockets, os.Stdin)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "pipit-load %s: %v\n", os.Args[1], err)
			os.Exit(1)
		}
		return
	}
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "pipit-load:", err)
		os.Exit(1)
	}
}

// settings are one run's flags.
type settings struct {
	Profile  string
	DataDir  string
	URL      string
	Users    int
	Duration time.Duration
	Room     int
	Every    time.Duration
	Size     int
	Floor    bool
	JSON     bool
	Ramp     int
	Online   int
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "pipit-load PROFILE",
		Short: "Put load on a running Pipit server and count every message at every receiver",
		Long: `Puts load on a running Pipit server and counts every message at every receiver.
It exits with 1 if one message was lost, doubled or out of order.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, p := range profiles {
		c.AddCommand(profileCmd(p))
	}
	c.AddCommand(floorCmd())
	return c
}

func profileCmd(p profile) *cobra.Command {
	s := settings{Profile: p.name}
	c := &cobra.Command{Use: p.name, Short: p.short, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.DataDir == "" {
				s.DataDir = os.Getenv("PIPIT_DATA_DIR")
			}
			if s.DataDir == "" {
				return fmt.Errorf("say where the server's data is: --data-dir DIR")
			}
			if err := s.check(); err != nil {
				return err
			}
			report, err := run(cmd.Context(), s, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			return report.print(cmd.OutOrStdout(), s.JSON)
		}}
	f := c.Flags()
	f.StringVar(&s.DataDir, "data-dir", "", "data `directory` of the server (default: $PIPIT_DATA_DIR)")
	f.StringVar(&s.URL, "url", "", "`address` of the server (default: what the admin socket says)")
	f.IntVar(&s.Users, "users", 4000, "how many users")
	f.DurationVar(&s.Duration, "duration", 30*time.Second, "how long to measure")
	f.IntVar(&s.Room, "room", p.room, "members of a conversation")
	f.DurationVar(&s.Every, "every", p.every, "each sender sends one message in this time")
	f.IntVar(&s.Size, "size", 64, "bytes of a message's text, 48 to 4096")
	f.IntVar(&s.Ramp, "ramp", 500, "connections under way at once while connecting")
	f.IntVar(&s.Online, "online", 0, "connect this many of the users, in their order (default: all)")
	f.BoolVar(&s.Floor, "floor", false, "also measure a bare write loop, and say the ratio")
	f.BoolVar(&s.JSON, "json", false, "print the report as JSON")
	return c
}

func (s *settings) check() error {
	switch {
	case s.Users < 2 || s.Users > 100000:
		return fmt.Errorf("--users must be from 2 to 100000")
	case s.Room < 2:
		return fmt.Errorf("--room must be at least 2")
	case s.Size < minText || s.Size > 4096:
		return fmt.Errorf("--size must be from %d to 4096", minText)
	case s.Duration < time.Second || s.Duration > 24*time.Hour:
		return fmt.Errorf("--duration must be from 1s to 24h")
	case s.Every < 10*time.Millisecond:
		return fmt.Errorf("--every must be at least 10ms")
	case s.Online < 0 || s.Online > s.Users:
		return fmt.Errorf("--online must be from 1 to --users")
	case s.Ramp < 1:
		return fmt.Errorf("--ramp must be at least 1")
	}
	s.Room = min(s.Room, s.Users)
	return nil
}

// profile is one kind of load.
type profile struct {
	name, short string
	room        int
	every       time.Duration
}

var profiles = []profile{
	{"idle", "Everybody is connected and silent: memory of a connection", 40, time.Minute},
	{"chat", "Rooms in which each member sends one message every --every", 30, 10 * time.Second},
	{"announce", "One sender, everybody receives", 1 << 20, 2 * time.Second},
	{"storm", "All connections are cut and come back at once, again and again", 40, time.Minute},
	{"soak", "Like chat, while connections break and come back", 30, 10 * time.Second},
}
