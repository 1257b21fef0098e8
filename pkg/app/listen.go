package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pipit-im/pipit/pkg/api"
	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/netloop"
	"github.com/pipit-im/pipit/pkg/sysd"
)

// wsPath is where WebSockets are (PROTOCOL 1.1).
const wsPath = "/v1/ws"

// AddressError is an address that can't be listened on.
type AddressError struct {
	Sentence string
	Cause    error
}

func (e *AddressError) Error() string { return e.Sentence }
func (e *AddressError) Unwrap() error { return e.Cause }

// listeners are the addresses that serve people.
type listeners struct {
	plain, tls []string // as host:port, with the real port
	handler    swapSessions
}

// listen makes the event loops and opens the public sockets: systemd's if it
// passed any, else the configured addresses. Until the handlers are set,
// upgrades and HTTP are answered with 503.
func (a *App) listen(cfg config.Config) error {
	given, err := sysd.Listeners()
	if err != nil {
		return &AddressError{Sentence: "systemd passed sockets that can't be used: " + err.Error(), Cause: err}
	}
	open := map[string][]net.Listener{sysd.HTTP: given[sysd.HTTP], sysd.HTTPS: given[sysd.HTTPS]}
	for name, addr := range map[string]string{sysd.HTTP: cfg.Listen, sysd.HTTPS: cfg.ListenTLS} {
		if len(given) > 0 || addr == "" {
			continue
		}
		l, err := listenTCP(addr, name)
		if err != nil {
			closeAll(open)
			return err
		}
		open[name] = append(open[name], l)
	}
	if len(open[sysd.HTTPS]) > 0 {
		a.useLocalCA(cfg)
	}
	var tlsConfig func() *tls.Config
	if a.certs.configured() {
		tlsConfig = a.certs.config
	}
	a.loops, err = netloop.New(netloop.Config{
		Loops: cfg.Loops, Handler: &a.listeners.handler, Upgrade: a.listeners.handler.upgrade,
		WSPath: wsPath, Subprotocol: "pipit.v1",
		MaxMessageBytes: func() int { return a.config().Limits.FrameBytes },
		MaxOutputBytes:  cfg.Limits.OutputBytes, Heartbeat: cfg.Limits.Heartbeat,
		MaxConns: cfg.Limits.Connections, MaxConnsPerAddr: cfg.Limits.ConnectionsPerAddress,
		TLS: tlsConfig, Log: a.log, Fatal: a.fatal,
	})
	if err != nil {
		closeAll(open)
		return err
	}
	a.http = &http.Server{
		Handler: &a.front, ReadHeaderTimeout: api.ReadHeaderTimeout, ReadTimeout: api.ReadTimeout,
		WriteTimeout: api.WriteTimeout, IdleTimeout: api.IdleTimeout, MaxHeaderBytes: 16 << 10,
		ErrorLog: quietLog(a.log),
	}
	a.serve(a.http, a.loops.HTTP())
	for name, list := range open {
		for _, l := range list {
			addr := l.Addr().String()
			if err := a.loops.Serve(l, name == sysd.HTTPS); err != nil {
				return &AddressError{Sentence: fmt.Sprintf("%s can't be served: %v", addr, err), Cause: err}
			}
			if name == sysd.HTTPS {
				a.listeners.tls = append(a.listeners.tls, addr)
			} else {
				a.listeners.plain = append(a.listeners.plain, addr)
			}
		}
	}
	if len(a.listeners.plain)+len(a.listeners.tls) == 0 {
		return &AddressError{Sentence: "No address to listen on: set listen or listen_tls in the configuration."}
	}
	return nil
}

func closeAll(open map[string][]net.Listener) {
	for _, list := range open {
		for _, l := range list {
			l.Close()
		}
	}
}

// listenTCP listens with a backlog of what the kernel allows, and says in plain
// words why it can't.
func listenTCP(addr, name string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	key := map[string]string{sysd.HTTP: "listen", sysd.HTTPS: "listen_tls", "metrics": "metrics.listen"}[name]
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &AddressError{Cause: err, Sentence: fmt.Sprintf("%s is in use by another program, maybe another pipitd. Stop that, or choose another address with %s.", addr, key)}
	case errors.Is(err, fs.ErrPermission):
		return nil, &AddressError{Cause: err, Sentence: fmt.Sprintf("%s may not be listened on: ports below 1024 need systemd's socket activation or root. Choose another address with %s.", addr, key)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, &AddressError{Cause: err, Sentence: fmt.Sprintf("%s is no address of this machine. Choose another with %s.", addr, key)}
	}
	return nil, &AddressError{Cause: err, Sentence: fmt.Sprintf("%s can't be listened on: %v", addr, err)}
}

// serve runs an HTTP server on l until it is shut down.
func (a *App) serve(s *http.Server, l net.Listener) {
	a.wait.Go(func() {
		if err := s.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			a.log.Error("HTTP ended", "address", l.Addr().String(), "error", err)
		}
	})
}

// listenMetrics serves /metrics on an address of its own; "" means off.
func (a *App) listenMetrics(addr string) error {
	if addr == "" {
		return nil
	}
	l, err := listenTCP(addr, "metrics")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.metrics.Handler())
	a.scrape = &http.Server{Handler: mux, ReadHeaderTimeout: api.ReadHeaderTimeout, ReadTimeout: api.ReadTimeout,
		WriteTimeout: api.WriteTimeout, IdleTimeout: api.IdleTimeout, ErrorLog: quietLog(a.log)}
	a.serve(a.scrape, l)
	return nil
}

// listenAdmin opens the box's own socket: mode 0600, and peers are checked
// besides. Connections have no deadline for answers: a backup takes its time.
func (a *App) listenAdmin(dir string) error {
	path := filepath.Join(dir, apiclient.SocketName)
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		return &StoreError{Sentence: fmt.Sprintf("The path %s is too long for a socket. Choose a shorter data_dir.", path)}
	}
	// The store's lock on the directory is ours by now: a socket that is there
	// was left by a process that is gone.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &StoreError{Sentence: fmt.Sprintf("%s is in the way and can't be removed.", path), Cause: err}
	}
	old := unix.Umask(0o177) // the socket is born with mode 0600
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return &StoreError{Sentence: fmt.Sprintf("The admin socket %s can't be made: %v", path, err), Cause: err}
	}
	a.admin = &http.Server{Handler: a.plant(a.api.Admin()), ReadHeaderTimeout: api.ReadHeaderTimeout, IdleTimeout: api.IdleTimeout, ErrorLog: quietLog(a.log)}
	a.serve(a.admin, &peerListener{UnixListener: l.(*net.UnixListener), app: a})
	return nil
}

// peerListener lets in the server's own user and root only (unix(7),
// SO_PEERCRED): the mode of the socket says the same, and a restored backup of
// the directory may have lost it.
type peerListener struct {
	*net.UnixListener
	app *App
}

// Accept returns the next connection of a peer that may administer.
func (l *peerListener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peer(c)
		if err == nil && (uid == 0 || int(uid) == os.Geteuid()) {
			return c, nil
		}
		l.app.log.Warn("admin socket refused a peer", "uid", uid, "error", err)
		c.Close()
	}
}

func peer(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}

// fatal ends the process: a loop that can't wait for events serves nobody.
func (a *App) fatal(err error) {
	a.fail(fmt.Errorf("event loop: %w", err))
}

// fail makes Run end with err; the first one counts.
func (a *App) fail(err error) {
	select {
	case a.failed <- err:
	default:
	}
}

// retryReason spreads the return of everybody over a time that grows with
// their number, so that the next start is not met by all at once.
func (a *App) retryReason() func() string {
	ms := max(1000, min(a.loops.Stats().Sessions*2, 30_000))
	reason := fmt.Sprintf("retry_ms=%d", ms)
	return func() string { return reason }
}

// takeBack returns upgrades to the loops that come on a connection which served
// plain HTTP before, as a proxy may send them.
func (a *App) takeBack(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if wantsWebSocket(r) {
			err := a.loops.TakeBack(w, r)
			if err == nil {
				return
			}
			a.log.Debug("connection not taken back", "error", err)
		}
		next.ServeHTTP(w, r)
	})
}

// wantsWebSocket asks exactly what the loops ask of a head. Were it more
// generous, they would hand the request to net/http again, and so for ever.
func wantsWebSocket(r *http.Request) bool {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if path != wsPath {
		return false
	}
	for item := range strings.SplitSeq(r.Header.Get("Upgrade"), ",") {
		if strings.EqualFold(strings.Trim(item, " \t"), "websocket") {
			return true
		}
	}
	return false
}

// swapHandler answers "starting" until set is called.
type swapHandler struct{ h atomic.Pointer[http.Handler] }

func (s *swapHandler) set(h http.Handler) { s.h.Store(&h) }

// ServeHTTP passes on to what was set.
func (s *swapHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := s.h.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	status := http.StatusServiceUnavailable
	if r.URL.Path == "/healthz" {
		status = http.StatusOK // it lives, and is not ready
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"type":"about:blank","title":%q,"status":%d,"kind":"unavailable","detail":"The server is starting. Try again in a moment."}`, http.StatusText(status), status)
}

// sessions is the part of the gateway that the front door needs.
type sessions interface {
	netloop.Handler
	Upgrade(*netloop.Request) error
}

// swapSessions refuses upgrades until the gateway is there; so no connection
// reaches Open before it.
type swapSessions struct{ s atomic.Pointer[sessions] }

func (s *swapSessions) set(h sessions) { s.s.Store(&h) }

func (s *swapSessions) upgrade(r *netloop.Request) error {
	if h := s.s.Load(); h != nil {
		return (*h).Upgrade(r)
	}
	return &netloop.RefuseError{Status: http.StatusServiceUnavailable, Message: "The server is starting. Try again in a moment."}
}

// Open, Message and Closed pass on to the gateway.
func (s *swapSessions) Open(c *netloop.Conn)              { (*s.s.Load()).Open(c) }
func (s *swapSessions) Message(c *netloop.Conn, p []byte) { (*s.s.Load()).Message(c, p) }
func (s *swapSessions) Closed(c *netloop.Conn, code uint16, cause string) {
	(*s.s.Load()).Closed(c, code, cause)
}

// watchLag measures how long a loop takes to get to a task, once a second.
func (a *App) watchLag(ctx context.Context) {
	lag := a.metrics.Histogram(lagMetric)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for i := range a.loops.NumLoops() {
				at := time.Now()
				a.loops.Loop(i).Post(func() {
					took := time.Since(at)
					lag.Observe(took.Seconds())
					for old := a.slowest.Load(); int64(took) > old && !a.slowest.CompareAndSwap(old, int64(took)); old = a.slowest.Load() {
					}
				})
			}
		}
	}
}
