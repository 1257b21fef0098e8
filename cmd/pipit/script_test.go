package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
)

// patience bounds each wait for something that must happen; only a fault meets it.
const patience = 60 * time.Second

// binaries is where the server is built, once for all scripts.
var binaries string

// TestMain makes this binary the tool itself when a script calls `pipit`.
func TestMain(m *testing.M) { testscript.Main(built{m}, map[string]func(){"pipit": main}) }

// built builds the server before the tests run.
type built struct{ *testing.M }

func (b built) Run() int {
	var err error
	if binaries, err = os.MkdirTemp("", "pipit-bin-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	out, err := exec.Command("go", "build", "-o", filepath.Join(binaries, "pipitd"), "github.com/pipit-im/pipit/cmd/pipitd").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "building pipitd: %v\n%s", err, out)
		return 1
	}
	return b.M.Run()
}

// TestScripts runs testdata/*.txtar. Beside testscript's own commands:
//
//	serve DIR [args…]     start pipitd on DIR and wait until it is ready; its output goes to DIR.log
//	supervise DIR [args…] the same as a unit would: with STATE_DIRECTORY, and again
//	                      whenever it ends until it was sent TERM
//	build DIR VERSION     build the programs of a version into DIR
//	signal DIR HUP|TERM|KILL   send the server of DIR a signal
//	has FILE REGEXP       wait until a file, a server's log perhaps, has it
//	ended DIR CODE        wait until the server has ended, with this code
//	code N program args…  run a program that must end with this code
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", binaries+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("PIPIT_LISTEN", "127.0.0.1:0")
			e.Setenv("PIPIT_METRICS_LISTEN", "")
			e.Values[serversKey{}] = servers{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": cmdServe, "supervise": cmdSupervise, "build": cmdBuild, "signal": cmdSignal, "has": cmdHas, "ended": cmdEnded, "code": cmdCode,
		},
	})
}

// servers are the running servers of one script, by directory.
type servers map[string]*serving

// serversKey is where testscript keeps them.
type serversKey struct{}

type serving struct {
	mu    sync.Mutex
	cmd   *exec.Cmd     // guarded by mu; the supervisor starts another
	told  atomic.Bool   // it was told to end, so it is not started again
	ended chan struct{} // closed when it has ended for good
}

func (s *serving) process() *os.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cmd.Process
}

func usage(ts *testscript.TestScript, neg, ok bool, text string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func running(ts *testscript.TestScript, dir string) *serving {
	s := ts.Value(serversKey{}).(servers)[dir]
	if s == nil {
		ts.Fatalf("no server was started on %s", dir)
	}
	return s
}

func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 0, "serve DIR [args…]")
	serve(ts, args[0], false, append([]string{"--data-dir", ts.MkAbs(args[0])}, args[1:]...))
}

func cmdSupervise(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 0, "supervise DIR [args…]")
	serve(ts, args[0], true, args[1:])
}

// serve starts the server and waits until it is ready.
func serve(ts *testscript.TestScript, name string, supervised bool, args []string) {
	dir := ts.MkAbs(name)
	log, err := os.OpenFile(dir+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	ts.Check(err)
	var env []string
	for _, name := range []string{"PATH", "HOME", "PIPIT_LISTEN", "PIPIT_METRICS_LISTEN"} {
		env = append(env, name+"="+ts.Getenv(name))
	}
	if supervised {
		env = append(env, "STATE_DIRECTORY="+dir)
	}
	s := &serving{ended: make(chan struct{})}
	start := func() error {
		cmd := exec.Command(filepath.Join(binaries, "pipitd"), args...)
		cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = env, log, log, ts.MkAbs(".")
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cmd = cmd
		return cmd.Start()
	}
	ts.Check(start())
	go func() {
		defer close(s.ended)
		defer log.Close()
		_ = s.cmd.Wait() // ended reads the state
		for supervised && !s.told.Load() {
			fmt.Fprintf(log, "supervisor: ended with %d\n", s.cmd.ProcessState.ExitCode())
			if start() != nil {
				return
			}
			_ = s.cmd.Wait()
		}
	}()
	ts.Value(serversKey{}).(servers)[name] = s
	ts.Defer(func() {
		s.told.Store(true)
		_ = s.process().Kill() // fails if it has ended
		<-s.ended
	})
	box := apiclient.New(dir)
	defer box.Close()
	until(ts, "the server on "+name+" is not ready", func() bool {
		select {
		case <-s.ended:
			ts.Fatalf("the server has ended:\n%s", ts.ReadFile(dir+".log"))
		default:
		}
		status, err := box.Status(context.Background())
		return err == nil && status.Ready
	})
}

func cmdBuild(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "build DIR VERSION")
	cmd := exec.Command("go", "build", "-o", ts.MkAbs(args[0])+"/", "-ldflags", "-X github.com/pipit-im/pipit/pkg/app.Version="+args[1],
		"github.com/pipit-im/pipit/cmd/pipitd", "github.com/pipit-im/pipit/cmd/pipit")
	if out, err := cmd.CombinedOutput(); err != nil {
		ts.Fatalf("build: %v\n%s", err, out)
	}
}

// until polls a condition.
func until(ts *testscript.TestScript, what string, ok func() bool) {
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			ts.Fatalf("%s after %v", what, patience)
		case <-tick.C:
		}
	}
}

func cmdSignal(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "signal DIR HUP|TERM|KILL")
	sig := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[args[1]]
	s := running(ts, args[0])
	if sig == syscall.SIGTERM {
		s.told.Store(true)
	}
	ts.Check(s.process().Signal(sig))
}

func cmdHas(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "has FILE REGEXP")
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	name := ts.MkAbs(args[0])
	until(ts, args[0]+" has no "+args[1], func() bool {
		b, err := os.ReadFile(name)
		return err == nil && re.Match(b)
	})
}

func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "ended DIR CODE")
	s := running(ts, args[0])
	until(ts, "the server goes on", func() bool {
		select {
		case <-s.ended:
			return true
		default:
			return false
		}
	})
	if got := strconv.Itoa(s.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("the server ended with %s, want %s:\n%s", got, args[1], ts.ReadFile(args[0]+".log"))
	}
}

func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "code N program args…")
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%v ended with %d, want %s", args[1:], got, args[0])
	}
}
