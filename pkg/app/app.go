// Package app is the composition root: the one place that names back ends,
// builds every part from its finished dependencies, and starts and stops them
// in order. It decides nothing about users, conversations or messages.
//
// It owns the process: listeners, the admin socket, signals' effects, the
// watchdog, and the pace at which the box's health is looked at. New is one page
// from top to bottom; Run serves until its context ends and takes everything
// down in reverse.
//
// The contract is ARCHITECTURE.md, "Start and stop".
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pipit-im/pipit/pkg/api"
	"github.com/pipit-im/pipit/pkg/archive"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/auth"
	"github.com/pipit-im/pipit/pkg/auth/oidcop"
	"github.com/pipit-im/pipit/pkg/auth/oidcrp"
	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/bus/membus"
	"github.com/pipit-im/pipit/pkg/chat"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/directory"
	"github.com/pipit-im/pipit/pkg/gateway"
	"github.com/pipit-im/pipit/pkg/health"
	"github.com/pipit-im/pipit/pkg/hub"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/metrics"
	"github.com/pipit-im/pipit/pkg/netloop"
	"github.com/pipit-im/pipit/pkg/roster"
	"github.com/pipit-im/pipit/pkg/store/badgerstore"
	"github.com/pipit-im/pipit/pkg/sysd"
	"github.com/pipit-im/pipit/pkg/web"
)

// Version is set by the build (-ldflags -X).
var Version = "dev"

// Options are what main found out before there was an app.
type Options struct {
	Config config.Config
	Reload func() (config.Config, error) // reads the configuration again, for SIGHUP
	Level  *slog.LevelVar                // of Log; a reload may change it
	Log    *slog.Logger
	Out    io.Writer // for the person who started it by hand
	// Trial is nil but in a version that has yet to prove itself. It watches
	// readiness and returns an error when the process must give up.
	Trial func(ctx context.Context, ready func() error) error
	// Machine is whose clock is judged. The zero value is the one that this runs on.
	Machine machine.Machine
}

// App is a server. New opens everything, Run serves.
type App struct {
	log    *slog.Logger
	out    io.Writer
	reload func() (config.Config, error)
	level  *slog.LevelVar
	trial  func(ctx context.Context, ready func() error) error
	began  time.Time

	host   machine.Machine // whose clock is judged
	cfg    atomic.Pointer[config.Config]
	memory sysd.MemoryLimit // watchHealth's, once that runs
	// memoryNow is the soft bound that holds now.
	memoryNow atomic.Int64
	fdMax     uint64

	board   *health.Board
	metrics *metrics.Registry
	pace    pace
	ring    metrics.Ring
	slowest atomic.Int64 // ns that an event loop took to get to a task, since the last sample
	backups backups
	loops   *netloop.Server
	certs   certificate
	store   *badgerstore.Store
	bus     *membus.Bus
	dir     *directory.Directory
	auth    *auth.Auth
	op      *oidcop.Provider
	audit   *audit.Log
	rp      *oidcrp.RP
	chat    *chat.Chat
	roster  *roster.Service
	hub     *hub.Hub
	gateway *gateway.Gateway
	api     *api.API
	web     *web.Handler

	front     swapHandler // net/http behind the front door: "starting" until the API is up
	listeners listeners
	http      *http.Server
	admin     *http.Server
	scrape    *http.Server
	wait      sync.WaitGroup // the servers' goroutines
	failed    chan error     // why the process must end, from whoever noticed first
}

// New opens the server: sockets answer "starting" first, then the store, then
// everything above it. On an error all that was opened is closed again.
func New(ctx context.Context, o Options) (_ *App, err error) {
	a := &App{log: o.Log, out: o.Out, reload: o.Reload, level: o.Level, trial: o.Trial, began: time.Now(), host: o.Machine, failed: make(chan error, 1)}
	cfg := o.Config
	a.cfg.Store(&cfg)
	defer func() {
		if err != nil {
			if serr := a.shutdown(context.WithoutCancel(ctx), cfg.Shutdown.Timeout); serr != nil {
				o.Log.Warn("not everything was closed", "error", serr)
			}
		}
	}()

	a.backups.ctx, a.backups.stop = context.WithCancel(context.WithoutCancel(ctx))
	a.memory = sysd.SetMemoryLimit(cfg.Memory.LimitBytes)
	a.memoryNow.Store(a.memory.Bytes)
	a.board = health.New(time.Now, o.Log)
	a.board.Set(health.Starting, "")
	a.metrics = metrics.New(Version)
	if a.fdMax, _, err = sysd.RaiseDescriptorLimit(); err != nil {
		o.Log.Warn("descriptor limit not raised", "error", err)
	}

	// Sockets first, so that people who connect meanwhile are told to wait.
	if err := a.certs.load(cfg.TLS, cfg.DataDir); err != nil {
		return nil, err
	}
	if err := a.listen(cfg); err != nil {
		return nil, err
	}

	// The store, and everything that needs it, from the bottom up.
	if a.store, err = openStore(cfg, o.Log, a.metrics, &a.pace); err != nil {
		return nil, err
	}
	if err = archive.Recover(ctx, a.store); err != nil {
		return nil, err
	}
	a.bus = membus.New()
	if a.dir, err = directory.New(ctx, directory.Options{People: a.store, Records: a.store, Bus: a.bus, Now: a.store.Now, Age: a.store.Age, Log: o.Log}); err != nil {
		return nil, err
	}
	a.audit = audit.New(audit.Options{Records: a.store, Box: a.store, Log: o.Log})
	grants := oidcop.NewGrants(a.store, a.store, a.store)
	if a.auth, err = auth.New(ctx, auth.Options{
		Tokens: grants, Credentials: a.store, Records: a.store, Box: a.store, Users: a.dir, WantTOTP: a.dir.WantsTOTP, Log: o.Log,
		Limits: authLimits(&cfg), Ended: a.signedOut,
	}); err != nil {
		return nil, err
	}
	if a.chat, err = chat.New(chat.Options{
		Store: a.store, Bus: a.bus, Users: a.dir, Rules: a.dir, OnPass: a.passedQuiet, Now: a.store.Now, Limits: a.limits, Quota: a.quota, Log: o.Log,
		PageBytes: cfg.Limits.OutputBytes / 2, // what a client asks for must fit into what may wait for it
	}); err != nil {
		return nil, err
	}
	a.roster = roster.New(roster.Setup{Directory: a.dir, Records: a.store, Chat: a.chat, Passwords: a.auth, Now: a.store.Now, Date: func() (time.Time, bool) { return time.Now(), a.trustedClock() == nil }, Log: o.Log, Done: a.imported})
	fanout := a.metrics.Histogram(metrics.HubFanout)
	a.hub = hub.New(hub.Options{
		Bus: a.bus, Loops: a.hubLoops(), Now: a.store.Now, Log: o.Log,
		SessionsPerUser:   func() int { return a.config().Limits.SessionsPerUser },
		SessionsPerTenant: func(t im.TenantID) int { return a.dir.Settings(t).Quota.Connections },
		Fanout:            func(n int) { fanout.Observe(float64(n)) },
	})
	a.gateway = gateway.New(gateway.Options{
		Auth: a.auth, Directory: a.dir, Chat: a.chat, Hub: a.hub,
		Epoch: a.store.Epoch, Now: a.store.Now, Limits: a.limits,
		Heartbeat: cfg.Limits.Heartbeat, Origins: func() []string { return a.config().Origins },
		Metrics: a.metrics, Log: o.Log,
	})
	if err = a.openSignIn(grants); err != nil {
		return nil, err
	}
	a.api = api.New(api.Options{
		Auth: a.auth, OpenID: a.op, Providers: a.rp, Directory: a.dir, Chat: a.chat, Roster: a.roster, Audit: a.audit, Store: a.store, Limits: a.limits,
		Ready: a.ready, Status: a.status, Connected: a.hub.SessionsOf, Log: o.Log, Version: Version,
		Box: api.Box{Machine: a.machine, History: a.history, Backups: a.backupState, StartBackup: a.startBackup},
	})
	a.web = web.New(a.api.Public(), a.tlsPort)
	a.measure()

	// What was cut off has its place again before anybody can ask for another.
	if err := a.roster.Resume(ctx); err != nil {
		// The next start tries again; nobody's messages wait for it.
		o.Log.Error("an import that was cut off can't go on", "error", err)
	}

	// Doors open last.
	if err := a.listenAdmin(cfg.DataDir); err != nil {
		return nil, err
	}
	if err := a.listenMetrics(cfg.Metrics.Listen); err != nil {
		// Nobody's messages wait for a number: it is said, and the server goes on.
		a.board.Set(health.MetricsOff, err.Error())
	}
	a.front.set(a.countRequests(a.takeBack(a.trust(a.signInFirst(a.web)))))
	a.listeners.handler.set(a.gateway)
	a.board.Clear(health.Starting)
	return a, nil
}

// Run serves until ctx ends, then stops in order. It returns nil after a clean
// stop. Signals that ask for a reload come on reload.
func (a *App) Run(ctx context.Context, reload <-chan os.Signal) error {
	a.greet()
	if err := sysd.Ready("serving"); err != nil {
		a.log.Warn("systemd not told", "error", err)
	}
	background, stop := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := sysd.Watchdog(background, a.log, a.probes()); err != nil {
			a.log.Error("watchdog", "error", err)
		}
	})
	wait.Go(func() { a.watchHealth(background) })
	wait.Go(func() { a.watchLag(background) })
	wait.Go(func() { a.tidyUp(background) })
	wait.Go(func() { a.keepCertificate(background) })
	wait.Go(func() { a.watchPace(background) })
	wait.Go(func() { a.watchSamples(background) })
	wait.Go(func() { a.watchBox(background) })
	if a.trial != nil {
		wait.Go(func() {
			if err := a.trial(background, a.ready); err != nil {
				a.fail(err)
			}
		})
	}
	var err error
	for running := true; running; {
		select {
		case <-ctx.Done():
			running = false
		case err = <-a.failed:
			running = false
		case <-reload:
			a.reloadConfig()
		}
	}
	a.board.Set(health.Stopping, "")
	if serr := sysd.Stopping("closing connections"); serr != nil {
		a.log.Warn("systemd not told", "error", serr)
	}
	stop()
	wait.Wait()
	return errors.Join(err, a.shutdown(context.WithoutCancel(ctx), a.config().Shutdown.Timeout))
}

// shutdown takes down what New built, from the doors to the store, within
// timeout. Parts that New did not reach are nil.
//
// Peers have half of the time to take their close frame, and HTTP a quarter more
// for what it has under way; whoever does not take it is cut off, which is no
// failure of ours. So the commit goroutine always has time left for what it took.
func (a *App) shutdown(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	peers, cancel := context.WithTimeout(ctx, timeout/2)
	defer cancel()
	requests, cancel := context.WithTimeout(ctx, timeout*3/4)
	defer cancel()
	var errs []error
	note := func(what string, err error) {
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if a.loops != nil {
		a.loops.StopAccept()
		err := a.loops.Shutdown(peers, 4002, a.retryReason())
		if errors.Is(err, context.DeadlineExceeded) {
			a.log.Info("connections that did not take their close frame were cut off")
			err = nil
		}
		note("close sockets", err)
	}
	for _, s := range []*http.Server{a.http, a.scrape, a.admin} {
		if s != nil {
			if err := s.Shutdown(requests); err != nil {
				note("stop HTTP", s.Close())
			}
		}
	}
	a.backups.stop()
	a.backups.wait.Wait()
	if a.gateway != nil {
		note("stop gateway", a.gateway.Close(ctx))
	}
	if a.roster != nil {
		note("stop imports", a.roster.Close(ctx))
	}
	if a.chat != nil {
		note("stop chat", a.chat.Close(ctx))
	}
	if a.hub != nil {
		a.hub.Close()
	}
	if a.bus != nil {
		note("stop bus", a.bus.Close())
	}
	if a.store != nil {
		note("close store", a.store.Close())
	}
	a.wait.Wait()
	return errors.Join(errs...)
}

func (a *App) config() *config.Config { return a.cfg.Load() }

// limits are what sessions are told and held to; a reload changes them.
func (a *App) limits() im.Limits {
	l := a.config().Limits
	return im.Limits{FrameBytes: l.FrameBytes, TextBytes: l.TextBytes, SendsPerMinute: l.SendsPerMinute}
}

// quota is what the operator allows a tenant of what chat stores.
func (a *App) quota(t im.TenantID) chat.Quota {
	q := a.dir.Settings(t).Quota
	return chat.Quota{Conversations: q.Conversations, StoredBytes: q.StoredBytes, SendsPerMinute: q.SendsPerMinute}
}

// signedOut brings what auth revoked to the sockets.
func (a *App) signedOut(ended []auth.Ended) {
	events := make([]bus.Event, len(ended))
	for i, e := range ended {
		events[i] = bus.Event{Kind: bus.SignedOut, Tenant: e.Tenant, User: e.User, SignIn: e.SignIn, Code: e.Code}
	}
	a.bus.Publish(events)
}

func (a *App) hubLoops() []hub.Loop {
	loops := make([]hub.Loop, a.loops.NumLoops())
	for i := range loops {
		loops[i] = a.loops.Loop(i)
	}
	return loops
}

func (a *App) ready() error {
	ok, conditions := a.board.Ready()
	if ok {
		return nil
	}
	for _, c := range conditions {
		if c.NotReady {
			return errors.New(c.Title)
		}
	}
	return errors.New("not ready")
}

// greet tells the person at the terminal where the server is and what is next.
func (a *App) greet() {
	var addrs []string
	for _, x := range a.listeners.plain {
		addrs = append(addrs, "http://"+x)
	}
	for _, x := range a.listeners.tls {
		addrs = append(addrs, "https://"+x)
	}
	a.log.Info("serving", "version", Version, "addresses", addrs, "data_dir", a.config().DataDir, "memory_limit", a.memory.Bytes, "memory_limit_from", a.memory.Source)
	if a.out == nil || sysd.Supervised() {
		return
	}
	tenants, _ := a.dir.Size()
	dir, tool := a.config().DataDir, toolPath()
	fmt.Fprintf(a.out, "\nPipit %s is running.\n", Version)
	for _, x := range addrs {
		fmt.Fprintf(a.out, "  Address  %s\n", x)
	}
	fmt.Fprintf(a.out, "  Data     %s\n\n", dir)
	if tenants == 0 {
		if code := a.api.SetupCode(); code != "" && a.web.Built() {
			fmt.Fprintf(a.out, "  Set-up   open the address in a browser; the code is  %s\n\n", code)
		}
		fmt.Fprintf(a.out, "Next, in another terminal, make an organisation and its first person:\n\n"+
			"  %[1]s --data-dir %[2]s tenant add oakhill --name \"Oakhill School\"\n"+
			"  %[1]s --data-dir %[2]s user add ann --tenant oakhill --role owner --name \"Ann Lee\"\n\n", tool, dir)
	}
	fmt.Fprintf(a.out, "How it is: %s --data-dir %s status      Stop it: Ctrl-C\n\n", tool, dir)
}

// toolPath is how the person at this terminal starts pipit: by name where it is
// installed, else by the path beside this program.
func toolPath() string {
	if _, err := exec.LookPath("pipit"); err == nil {
		return "pipit"
	}
	self, err := os.Executable()
	if err != nil {
		return "pipit"
	}
	path := filepath.Join(filepath.Dir(self), "pipit")
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && !strings.HasPrefix(rel, "..") {
			path = rel
		}
	}
	if _, err := os.Stat(path); err != nil {
		return "pipit"
	}
	return path
}
