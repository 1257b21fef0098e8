// Command pipit is the technician's tool: it looks after a Pipit server over
// the admin socket in the data directory, and checks or restores a data
// directory while no server runs on it.
//
// Nothing but the answer goes to standard output (with --json, one JSON value,
// or one a line where it never ends); everything for the person who typed goes
// to standard error. Exit codes are listed in `pipit --help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/update"
)

// Exit codes that scripts may rely on.
const (
	exitOK         = 0
	exitFailed     = 1 // the server's fault or anything without a code of its own
	exitUsage      = 2 // wrong command line or refused input
	exitStore      = 3 // the data can't be opened, or is damaged
	exitNotRunning = 5 // no server on this data directory
	exitNotFound   = 6 // no such tenant, user or conversation
	exitExists     = 7 // it exists already
	exitAttention  = 8 // doctor or status found something to act on
)

const exitCodesHelp = `Exit codes: 0 done, 1 failed, 2 wrong command or refused input,
3 data damaged or not to be opened, 5 no server running on this data directory,
6 not found, 7 exists already, 8 something needs attention.`

func main() {
	followServer()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// stateDir is where the server's data are on a box.
const stateDir = "/var/lib/pipit"

// followServer hands over to the tool of the version that `pipit update` chose.
func followServer() {
	dir := update.DataDir()
	if dir == "" {
		dir = stateDir
	}
	update.LaunchTool(update.Open(update.Options{DataDir: dir, Factory: app.Version, Format: func() (int, error) { return app.DataFormat(dir) }}))
}

// tool is what every command shares.
type tool struct {
	dataDir string
	json    bool
	in      io.Reader
	out     io.Writer
	err     io.Writer
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	t := &tool{in: in, out: out, err: errOut}
	root := t.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var attention *attentionError
	if !errors.As(err, &attention) {
		fmt.Fprintln(errOut, "pipit: "+explain(err))
	}
	return codeOf(err)
}

// attentionError is not a failure: the answer was printed and says what to do.
type attentionError struct{ code int }

func (e *attentionError) Error() string { return "something needs attention" }

// usageError is a command line that can't be understood.
type usageError struct{ error }

// explain returns the text for people of err.
func explain(err error) string {
	var e *im.Error
	switch {
	case errors.As(err, &e) && e.Message != "":
		return e.Message
	case errors.Is(err, context.Canceled):
		return "interrupted"
	}
	return err.Error()
}

// codeOf is the one table from errors to exit codes.
func codeOf(err error) int {
	var attention *attentionError
	var usage usageError
	var store *app.StoreError
	switch {
	case errors.As(err, &attention):
		return attention.code
	case errors.Is(err, apiclient.ErrNotRunning):
		return exitNotRunning
	case errors.As(err, &store):
		return exitStore
	case errors.As(err, &usage):
		return exitUsage
	}
	switch im.KindOf(err) {
	case im.NotFound:
		return exitNotFound
	case im.Exists:
		return exitExists
	case im.Invalid, im.BadParams, im.TooLarge, im.Conflict:
		return exitUsage
	}
	return exitFailed
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "pipit",
		Short: "Look after a Pipit server",
		Long: "pipit looks after the Pipit server of this machine, over the admin socket in\n" +
			"its data directory: --data-dir, else $PIPIT_DATA_DIR, else what the configuration\n" +
			"says, else " + stateDir + ".\n\n" +
			exitCodesHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       app.Version,
		// A word that is no command is an error, not a reason to print help and end well.
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// A near miss is named.
		SuggestionsMinimumDistance: 2,
	}
	root.DisableFlagsInUseLine = true
	root.SetVersionTemplate("pipit {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w. See: %s --help", err, cmd.CommandPath())}
	})
	root.PersistentFlags().StringVar(&t.dataDir, "data-dir", "", "`DIR` with the server's data")
	root.PersistentFlags().BoolVar(&t.json, "json", false, "print the answer as JSON")
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"look", "Look after the box:", []*cobra.Command{t.statusCmd(), t.topCmd(), t.doctorCmd(), t.logsCmd(), t.verifyCmd(), t.supportCmd()}},
		{"keep", "Backups and versions:", []*cobra.Command{t.backupCmd(), t.restoreCmd(), t.updateCmd(), t.factoryResetCmd()}},
		{"set", "The box in its network:", []*cobra.Command{t.networkCmd(), t.certCmd(), t.clockCmd(), t.screenCmd(), t.setupCodeCmd(), t.provisionCmd()}},
		{"people", "Organisations and people:", []*cobra.Command{t.tenantCmd(), t.userCmd(), t.oidcCmd(), t.loginCmd(), t.rosterCmd(), t.cardsCmd(), t.classCmd(), t.policyCmd(), t.tokenCmd(), t.auditCmd(), t.recalledCmd(), t.sendCmd(), t.tailCmd()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
	root.AddCommand(t.manCmd())
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasSubCommands() {
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf(" Did you mean %q?", near[0])
		}
		return usageError{fmt.Errorf("there is no command %q.%s See: %s --help", args[0], hint, cmd.CommandPath())}
	}
	return usageError{fmt.Errorf("%q is too much here. See: %s --help", args[0], cmd.CommandPath())}
}

func minArgs(n int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usageError{fmt.Errorf("%s is missing. See: %s --help", names[len(args)], cmd.CommandPath())}
		}
		return nil
	}
}

func maxArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("%q is too much here. See: %s --help", args[n], cmd.CommandPath())}
		}
		return nil
	}
}

func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usageError{fmt.Errorf("%s is missing. See: %s --help", names[len(args)], cmd.CommandPath())}
		}
		if len(args) > len(names) {
			return usageError{fmt.Errorf("%q is too much here. See: %s --help", args[len(names)], cmd.CommandPath())}
		}
		return nil
	}
}

// dir returns the data directory that the command is about.
func (t *tool) dir() (string, error) {
	if t.dataDir != "" {
		return t.dataDir, nil
	}
	// Said outright, it does not take a right configuration to look after a server.
	if dir := os.Getenv("PIPIT_DATA_DIR"); dir != "" {
		return dir, nil
	}
	c, err := config.Load(config.Source{Environ: os.Environ()})
	if err != nil {
		return "", usageError{fmt.Errorf("where the data is can't be read from the configuration (or say it with --data-dir): %w", err)}
	}
	return onBox(c.DataDir), nil
}

// onBox returns dir, or the unit's state directory where dir is not there and
// that is: in a shell nothing says where systemd put the data.
func onBox(dir string) string {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && !filepath.IsAbs(dir) {
		if _, err := os.Stat(stateDir); err == nil {
			return stateDir
		}
	}
	return dir
}

// box returns a client of the running server.
func (t *tool) box() (*apiclient.Client, error) {
	dir, err := t.dir()
	if err != nil {
		return nil, err
	}
	return apiclient.New(dir), nil
}
