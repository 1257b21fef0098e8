// Package netloop is the network edge of the server: event loops on epoll that
// accept connections, speak TLS, tell WebSocket upgrades from other HTTP, and move
// frames. It knows no user, no message and no permission.
//
// It owns every socket from accept until close, but those that turn out to be plain
// HTTP: they are handed to net/http through Server.HTTP with the bytes already read.
// It never blocks a loop, never reads what it has no bound for, and never keeps a
// buffer or a goroutine for an idle connection.
//
// Concurrency: a connection belongs to one loop for life. Conn's methods, the
// Handler's and timers run on that loop's goroutine only; everybody else reaches it
// through Loop.Post. Server's methods may be called from any goroutine but a loop's.
//
// The contract is written in DESIGN.md beside this file, RFC 6455, and PROTOCOL 1,
// 3.8 and 3.9.
package netloop

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what New takes. It is not to be changed afterwards.
type Config struct {
	Loops   int     // event loops; default runtime.NumCPU()
	Handler Handler // never nil

	// Upgrade decides a well-formed WebSocket upgrade of WSPath, on the loop: it
	// must not block. nil accepts; a *RefuseError names the HTTP status, any other
	// error is 500. It may set Request.Data, which becomes Conn.Data.
	Upgrade     func(*Request) error
	WSPath      string // default "/v1/ws"
	Subprotocol string // one that the client must offer, else 400; "": any

	// MaxMessageBytes is the bound of a client's message over all its fragments;
	// asked before each read, so it may change. Over it: close 1009. Default 64 KiB.
	MaxMessageBytes func() int
	// MaxOutputBytes bounds what waits for a client that does not read, in bytes
	// (each waiting frame counts 32 more). Over it: close 4001. One write onto an
	// empty queue is always taken, or a large answer could never be delivered.
	// Default 256 KiB.
	MaxOutputBytes int

	FirstByteTimeout time.Duration // accept to first byte; default 10 s
	HeaderTimeout    time.Duration // first byte to complete request head or TLS hello; default 10 s
	HandshakeTimeout time.Duration // complete TLS hello to end of handshake; default 10 s
	// Heartbeat is PROTOCOL 3.8: a silent WebSocket is pinged after it, and closed
	// after three times it. Output without progress for three times it closes too.
	// 0: neither.
	Heartbeat time.Duration
	Linger    time.Duration // how long a closing connection may take to drain; default 2 s

	MaxConns        int // all connections, those handed to net/http too; 0: unlimited
	MaxConnsPerAddr int // of one IPv4 address or IPv6 /64; 0: unlimited

	// TLS is asked for each handshake, so that certificates can be changed. nil: a
	// TLS hello is refused. The configuration is narrowed to TLS 1.2+ and http/1.1.
	TLS              func() *tls.Config
	HandshakeWorkers int // handshakes that compute at the same time; default runtime.NumCPU()

	Now   func() time.Time // monotonic, as time.Now, its default
	Log   *slog.Logger     // default: nothing is logged
	Fatal func(error)      // a loop can't wait for events any more; default: panic
}

// Handler gets what happens on connections that were upgraded. Its methods run on
// the connection's loop and must not block.
type Handler interface {
	// Open comes first.
	Open(c *Conn)
	// Message is one complete text message, valid UTF-8. p is lent until return;
	// the handler may change it, but not keep it.
	Message(c *Conn, p []byte)
	// Closed comes last, exactly once for each Open, at the end of the turn in which
	// the connection ended or Conn.Close was called. code is what was sent or
	// received: 1005 for a close frame without one, 1006 if the peer vanished.
	// cause is for logs; it may hold the peer's words.
	Closed(c *Conn, code uint16, cause string)
}

// Request is a WebSocket upgrade request, checked for form.
type Request struct {
	Host, Path, RawQuery string
	Origin               string // "" if absent
	Remote               netip.AddrPort
	TLS                  bool
	Cookie               string // raw Cookie header
	UserAgent            string
	Data                 any // for Conn.Data
}

// RefuseError makes Config.Upgrade answer with an HTTP status and Message, as
// problem+json (PROTOCOL 9.1).
type RefuseError struct {
	Status  int
	Message string
}

func (e *RefuseError) Error() string { return fmt.Sprintf("%d: %s", e.Status, e.Message) }

// ErrStopped answers Serve after StopAccept or Shutdown.
var ErrStopped = errors.New("netloop: stopped")

// Server is a set of loops and the listeners that feed them.
type Server struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	loops   []*Loop
	admit   admission
	http    *httpListener
	tls     tlsFactory
	n       counters
	workers chan struct{} // one token for each handshake that computes
	ctx     context.Context
	cancel  context.CancelFunc
	shaking sync.WaitGroup // handshake goroutines

	mu        sync.Mutex
	listeners []*listener // guarded by mu
	noAccept  bool        // guarded by mu
	spare     atomic.Int32
	stop      sync.Once
	stopErr   error
}

// New makes the loops and starts them. Shutdown must be called on what it returns.
func New(cfg Config) (*Server, error) {
	if cfg.Handler == nil {
		return nil, errors.New("netloop: no handler")
	}
	setDefaults(&cfg)
	s := &Server{cfg: cfg, log: cfg.Log, now: cfg.Now}
	s.workers = make(chan struct{}, cfg.HandshakeWorkers)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.http = newHTTPListener(s)
	s.admit.init(cfg.MaxConns, cfg.MaxConnsPerAddr)
	s.openSpare()
	for i := range cfg.Loops {
		l, err := newLoop(s, i)
		if err != nil {
			for _, l := range s.loops {
				l.stop()
			}
			s.closeSpare()
			s.cancel()
			return nil, fmt.Errorf("netloop: start loop %d: %w", i, err)
		}
		s.loops = append(s.loops, l)
	}
	return s, nil
}

func setDefaults(cfg *Config) {
	orInt := func(p *int, d int) {
		if *p <= 0 {
			*p = d
		}
	}
	orDur := func(p *time.Duration, d time.Duration) {
		if *p <= 0 {
			*p = d
		}
	}
	orInt(&cfg.Loops, runtime.NumCPU())
	orInt(&cfg.HandshakeWorkers, runtime.NumCPU())
	orInt(&cfg.MaxOutputBytes, 256<<10)
	orDur(&cfg.FirstByteTimeout, 10*time.Second)
	orDur(&cfg.HeaderTimeout, 10*time.Second)
	orDur(&cfg.HandshakeTimeout, 10*time.Second)
	orDur(&cfg.Linger, 2*time.Second)
	if cfg.WSPath == "" {
		cfg.WSPath = "/v1/ws"
	}
	if cfg.MaxMessageBytes == nil {
		cfg.MaxMessageBytes = func() int { return 64 << 10 }
	}
	if cfg.Upgrade == nil {
		cfg.Upgrade = func(*Request) error { return nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Fatal == nil {
		cfg.Fatal = func(err error) { panic(err) }
	}
}

// Serve takes over a listener and returns at once. It duplicates the descriptor
// and closes l. With tls, connections must begin with a TLS hello; without, both
// TLS (if configured) and plain HTTP are served. The listening socket stays open
// until StopAccept or Shutdown.
func (s *Server) Serve(l net.Listener, tls bool) error {
	tl, ok := l.(*net.TCPListener)
	if !ok {
		return fmt.Errorf("netloop: serve %s: %T is no TCP listener", l.Addr(), l)
	}
	fd, err := dupFD(tl)
	if err != nil {
		return fmt.Errorf("netloop: serve %s: %w", l.Addr(), err)
	}
	addr := l.Addr()
	if err := tl.Close(); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("netloop: serve %s: close the wrapper: %w", addr, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noAccept {
		_ = unix.Close(fd)
		return ErrStopped
	}
	ln := &listener{s: s, fd: fd, tls: tls, addr: addr, loop: s.loops[len(s.listeners)%len(s.loops)]}
	added := make(chan error, 1)
	if !ln.loop.Post(func() { added <- ln.start() }) {
		_ = unix.Close(fd)
		return ErrStopped
	}
	if err := <-added; err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("netloop: serve %s: %w", addr, err)
	}
	s.listeners = append(s.listeners, ln)
	return nil
}

// HTTP is the listener for net/http: it yields connections that are not WebSocket
// upgrades, each with a complete request head to read. TLS ones have
// ConnectionState, so that net/http fills Request.TLS. Close makes the loops refuse
// such connections with 503; so does a full backlog of 128.
func (s *Server) HTTP() net.Listener { return s.http }

// Loop returns loop i of NumLoops.
func (s *Server) Loop(i int) *Loop { return s.loops[i] }

// NumLoops is fixed for life.
func (s *Server) NumLoops() int { return len(s.loops) }

// SetLimits replaces MaxConns and MaxConnsPerAddr (0: unlimited). Connections that
// are open stay.
func (s *Server) SetLimits(maxConns, perAddr int) { s.admit.set(maxConns, perAddr) }

// StopAccept closes the listening sockets, and returns when they are closed.
func (s *Server) StopAccept() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noAccept = true
	for _, ln := range s.listeners {
		done := make(chan struct{})
		if ln.loop.Post(func() { ln.close(); close(done) }) {
			<-done
		}
	}
	s.listeners = nil
}

// Shutdown stops for good: no accept, every WebSocket closed with code and
// reason() (asked for each, so that a retry delay can be spread), output drained,
// loops stopped, every goroutine waited for. When ctx ends first, what has not
// drained is cut off, and ctx's error returned; it is complete all the same.
// Connections that net/http has are net/http's to close. Later calls wait for the
// first and return the same.
func (s *Server) Shutdown(ctx context.Context, code uint16, reason func() string) error {
	s.stop.Do(func() { s.stopErr = s.shutdown(ctx, code, reason) })
	return s.stopErr
}

func (s *Server) shutdown(ctx context.Context, code uint16, reason func() string) (err error) {
	s.StopAccept()
	s.cancel()
	for _, l := range s.loops {
		l.Post(func() { l.closeAll(code, reason) })
	}
	for _, l := range s.loops {
		select {
		case <-l.empty:
			continue
		case <-ctx.Done():
			err = ctx.Err()
		}
		l.Post(l.dropAll)
		<-l.empty
	}
	s.shaking.Wait()
	for _, l := range s.loops {
		l.stop()
	}
	_ = s.http.Close()
	s.http.discard()
	s.closeSpare()
	return err
}
