// Command pipitd is the Pipit server. Its settings come from a file, from
// PIPIT_… variables and from flags; `pipitd --help` lists them. It logs to
// standard error. As a service it hands over to the version that `pipit update`
// chose (package update). It ends with 0 after a clean stop, 2 for a wrong
// configuration, 3 for data that can't be opened, 4 for an address that can't
// be listened on, 1 for anything else.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/sysd"
	"github.com/pipit-im/pipit/pkg/update"
)

func main() {
	launched, versions := launch()
	code := run(launched, versions)
	os.Exit(judge(launched, versions, code))
}

func run(launched update.Launched, versions *update.Versions) int {
	load := func() (config.Config, error) {
		return config.Load(config.Source{Args: os.Args[1:], Environ: os.Environ()})
	}
	cfg, err := load()
	if err != nil {
		fail(err)
		return 2 // also for a file that can't be read
	}
	switch cfg.Action {
	case config.Check:
		if err := app.Check(cfg); err != nil {
			return fail(err)
		}
		fmt.Println("The configuration is good.")
		return 0
	case config.PrintDefaults:
		fmt.Print(config.Defaults())
		return 0
	case config.Help:
		fmt.Print(config.Usage())
		return 0
	case config.Version:
		fmt.Println("pipitd", app.Version)
		return 0
	}

	app.Tune()
	level := new(slog.LevelVar)
	level.Set(cfg.Log.Level)
	log := slog.New(sysd.LogHandler(os.Stderr, cfg.Log.Format, level))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)

	o := app.Options{Config: cfg, Reload: load, Level: level, Log: log, Out: os.Stdout}
	if launched.Trial {
		o.Trial = func(ctx context.Context, ready func() error) error {
			return versions.Watch(ctx, launched.Version, ready)
		}
	}
	a, err := app.New(ctx, o)
	if err != nil {
		return fail(err)
	}
	// A second interrupt ends the process the hard way: nothing is lost by it.
	context.AfterFunc(ctx, stop)
	if err := a.Run(ctx, reload); err != nil {
		log.Error("stopped", "error", err)
		return codeOf(err)
	}
	log.Info("stopped")
	return 0
}

// fail prints why the server does not run and returns the exit code.
func fail(err error) int {
	fmt.Fprintln(os.Stderr, "pipitd: "+err.Error())
	return codeOf(err)
}

// codeOf is the one table from errors to exit codes.
func codeOf(err error) int {
	var cfg *config.Error
	var store *app.StoreError
	var addr *app.AddressError
	switch {
	case errors.As(err, &cfg):
		return 2
	case errors.As(err, &store):
		return 3
	case errors.As(err, &addr):
		return 4
	}
	return 1
}
