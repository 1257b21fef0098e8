package netloop

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// testCert makes a certificate for name, and a pool that trusts it.
func testCert(t testing.TB, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

func startTLS(t *testing.T, cfg Config) (*testServer, *tls.Config) {
	t.Helper()
	cert, pool := testCert(t, "box.local")
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	if cfg.TLS == nil {
		cfg.TLS = func() *tls.Config { return conf }
	}
	return startServer(t, cfg), &tls.Config{RootCAs: pool, ServerName: "box.local"}
}

// byteWriter sends each byte in a write of its own.
type byteWriter struct{ net.Conn }

func (w byteWriter) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := w.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (s *testServer) dialTLS(conf *tls.Config, wrap func(net.Conn) net.Conn) *client {
	s.t.Helper()
	raw, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	if wrap != nil {
		raw = wrap(raw)
	}
	return s.clientOn(tls.Client(raw, conf))
}

func TestTLSEcho(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		for how, wrap := range map[string]func(net.Conn) net.Conn{"": nil, " byte by byte": func(c net.Conn) net.Conn { return byteWriter{c} }} {
			t.Run(name+how, func(t *testing.T) {
				s, conf := startTLS(t, Config{
					MaxMessageBytes: func() int { return 1 << 20 }, MaxOutputBytes: 8 << 20,
					Upgrade: func(r *Request) error {
						if !r.TLS {
							t.Error("Request.TLS is not set")
						}
						return nil
					},
				})
				conf.MaxVersion = version
				c := s.dialTLS(conf, wrap)
				c.send(upgradeHead + string(text("behind")))
				c.upgraded()
				c.expectText("behind")
				sizes := []int{0, 1, 125, 126, 16_384, 70_000, 500_000}
				if wrap != nil {
					sizes = sizes[:5]
				}
				for _, n := range sizes {
					c.send(string(text(bigText(n))))
					c.expectText(bigText(n))
				}
				// Many records in one segment, and many messages in one record.
				var many []byte
				for i := range 500 {
					many = append(many, text(bigText(i))...)
				}
				if wrap == nil {
					sent := make(chan error, 1)
					go func() { _, err := c.Write(many); sent <- err }()
					for i := range 500 {
						c.expectText(bigText(i))
					}
					if err := <-sent; err != nil {
						t.Error(err)
					}
				}
				c.send(string(clientFrame(0x88, "\x03\xe8")))
				c.expectCloseEcho(1000) // a clean EOF: close_notify came
				if e := s.rec.waitClosed(t); e.code != 1000 {
					t.Errorf("closed with %d", e.code)
				}
			})
		}
	}
}

func TestTLSClosedByServer(t *testing.T) {
	s, conf := startTLS(t, Config{})
	c := s.dialTLS(conf, nil)
	c.send(upgradeHead)
	c.upgraded()
	conn := s.rec.waitOpen(t)
	onLoop(t, conn.Loop(), func() { conn.Close(4101, "sign in again") })
	c.expectClose(4101, "sign in again")
	s.rec.waitClosed(t) // each before the next begins: loops tell in no order

	// In TLS 1.2 the last record is seen to be an alert: close_notify.
	old := conf.Clone()
	old.MaxVersion = tls.VersionTLS12
	var seen recording
	c = s.dialTLS(old, func(c net.Conn) net.Conn { seen.Conn = c; return &seen })
	c.send(upgradeHead)
	c.upgraded()
	conn = s.rec.waitOpen(t)
	onLoop(t, conn.Loop(), func() { conn.Close(4101, "sign in again") })
	c.expectClose(4101, "sign in again")
	var last byte
	for p := seen.bytes; len(p) >= 5; p = p[5+int(p[3])<<8+int(p[4]):] {
		last = p[0]
	}
	if last != 21 {
		t.Errorf("the last record is of type %d", last)
	}
	s.rec.waitClosed(t)

	// And by the client's close_notify alone.
	c = s.dialTLS(conf, nil)
	c.send(upgradeHead)
	c.upgraded()
	if err := c.Conn.(*tls.Conn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if e := s.rec.waitClosed(t); e.code != closeAbnormal || e.cause != "close_notify" {
		t.Errorf("closed with %d %q", e.code, e.cause)
	}
}

// recording keeps what was read.
type recording struct {
	net.Conn
	bytes []byte
}

func (r *recording) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.bytes = append(r.bytes, p[:n]...)
	return n, err
}

// TestTLSNothingStaysBehind: much input at once is read in several turns, and what the
// TLS layer holds at the end of one is not left there for want of an event.
func TestTLSNothingStaysBehind(t *testing.T) {
	s, conf := startTLS(t, Config{Loops: 1, MaxOutputBytes: 8 << 20, MaxMessageBytes: func() int { return 1 << 20 }})
	c := s.dialTLS(conf, nil)
	c.send(upgradeHead)
	c.upgraded()
	for size := 60_000; size < 180_000; size += 3_000 {
		sent := make(chan struct{})
		s.Loop(0).Post(func() { <-sent }) // all of it waits when the loop comes to read
		message := text(bigText(size))
		for at := 0; at < len(message); at += 4096 { // small records: TLS 1.3 reads many at once
			c.send(string(message[at:min(at+4096, len(message))]))
		}
		close(sent)
		c.expectText(bigText(size))
	}
}

// TestTLSBackpressure: large output to a reader that comes late, all of it in order.
func TestTLSBackpressure(t *testing.T) {
	const n = 800
	s, conf := startTLS(t, Config{MaxOutputBytes: 1 << 30, Linger: patience})
	c := s.dialTLS(conf, nil)
	c.send(upgradeHead)
	c.upgraded()
	conn := s.rec.waitOpen(t)
	for i := range n {
		conn.Loop().Post(func() { conn.Write(numbered(i, 8+i*40)) })
	}
	conn.Loop().Post(func() { conn.Close(4000, "done") })
	eventually(t, "output to queue up", func() bool { return s.Stats().QueuedBytes > 1<<20 })
	for i := range n {
		f := c.frame()
		if want := numbered(i, 8+i*40); string(f.Payload) != string(want[len(want)-len(f.Payload):]) || len(f.Payload) != 8+i*40 {
			t.Fatalf("frame %d is wrong", i)
		}
	}
	c.expectClose(4000, "done")
}

func TestTLSSlowConsumer(t *testing.T) {
	const bound = 200_000
	s, conf := startTLS(t, Config{MaxOutputBytes: bound})
	c := s.dialTLS(conf, nil)
	c.send(upgradeHead)
	c.upgraded()
	conn := s.rec.waitOpen(t)
	for done := false; !done; {
		onLoop(t, conn.Loop(), func() {
			conn.Write(numbered(1, 10_000))
			done = conn.Closed()
		})
		if n := s.Stats().QueuedBytes; n > bound+30_000 {
			t.Fatalf("%d bytes queued", n)
		}
	}
	if e := s.rec.waitClosed(t); e.code != closeSlowReader {
		t.Errorf("closed with %d", e.code)
	}
}

func TestHTTPS(t *testing.T) {
	s, conf := startTLS(t, Config{})
	serveHTTP(t, s, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.TLS == nil || r.TLS.ServerName != "box.local" {
			t.Errorf("Request.TLS: %+v", r.TLS)
		}
		_, _ = w.Write(body)
	})
	tr := &http.Transport{TLSClientConfig: conf}
	defer tr.CloseIdleConnections()
	hc := &http.Client{Transport: tr, Timeout: patience}
	for _, n := range []int{10, 300_000, 10} {
		r, err := hc.Post("https://"+s.addr+"/v1/x", "text/plain", strings.NewReader(bigText(n)))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil || string(body) != bigText(n) {
			t.Errorf("%d bytes: got %d, %v", n, len(body), err)
		}
	}
	if st := s.Stats(); st.HTTP != 1 || st.Open != 1 {
		t.Errorf("%d handed over, %d open", st.HTTP, st.Open)
	}
	tr.CloseIdleConnections()
	eventually(t, "the count to fall", func() bool { return s.Stats().Open == 0 })
}

// TestTLSResumption: tickets work over several handshakes, so the configuration is not
// cloned for each; a changed one serves its own certificate at once.
func TestTLSResumption(t *testing.T) {
	certA, poolA := testCert(t, "box.local")
	certB, poolB := testCert(t, "box.local")
	var conf atomic.Pointer[tls.Config]
	conf.Store(&tls.Config{Certificates: []tls.Certificate{certA}, MinVersion: tls.VersionTLS10})
	s, _ := startTLS(t, Config{TLS: conf.Load})
	cc := &tls.Config{RootCAs: poolA, ServerName: "box.local", ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for i := range 3 {
		c := s.dialTLS(cc, nil)
		c.send(upgradeHead)
		c.upgraded()
		st := c.Conn.(*tls.Conn).ConnectionState()
		if st.DidResume != (i > 0) {
			t.Errorf("handshake %d: resumed %v", i, st.DidResume)
		}
		if st.CurveID != tls.X25519 {
			t.Errorf("key exchange by %v", st.CurveID)
		}
	}
	conf.Store(&tls.Config{Certificates: []tls.Certificate{certB}})
	c := s.dialTLS(&tls.Config{RootCAs: poolB, ServerName: "box.local"}, nil)
	c.send(upgradeHead)
	c.upgraded()

	old := tls.Client(s.dial(), &tls.Config{RootCAs: poolB, ServerName: "box.local", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err := old.Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

// stalled is a client connection whose reads never answer: its handshake hangs after
// the hello.
type stalled struct {
	net.Conn
	ctx context.Context
}

func (c stalled) Read([]byte) (int, error) { <-c.ctx.Done(); return 0, io.EOF }

// TestTLSSlowHandshakes: peers that stop in the middle of a handshake hold no worker;
// an honest one gets through.
func TestTLSSlowHandshakes(t *testing.T) {
	s, conf := startTLS(t, Config{HandshakeWorkers: 1, HandshakeTimeout: time.Hour})
	const n = 20
	for range n {
		s.stall(conf)
	}
	eventually(t, "the handshakes to begin", func() bool { return s.Stats().HandshakesNow == n })
	c := s.dialTLS(conf, nil)
	c.send(upgradeHead)
	c.upgraded()
	if n := s.Stats().HandshakeFailed; n != 0 {
		t.Errorf("%d handshakes failed", n)
	}
}

func TestTLSHandshakeTimeouts(t *testing.T) {
	s, conf := startTLS(t, Config{HandshakeTimeout: 50 * time.Millisecond, HeaderTimeout: 50 * time.Millisecond})
	s.stall(conf)
	eventually(t, "the slow one to be cut off", func() bool { return s.Stats().HandshakeFailed == 1 })
	half := s.dial() // not even a hello
	half.send("\x16\x03\x01\x02\x00\x01")
	half.expectEOF()
	if n := s.Stats().TimeoutHead; n != 1 {
		t.Errorf("%d header timeouts", n)
	}
}

// stall begins a handshake that goes no further than the hello, until the test ends.
func (s *testServer) stall(conf *tls.Config) {
	raw := s.dial()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = tls.Client(stalled{raw, ctx}, conf).Handshake() }()
	s.t.Cleanup(func() { cancel(); <-done })
}

// TestShutdownInHandshake: a handshake under way does not hold up the stop.
func TestShutdownInHandshake(t *testing.T) {
	s, conf := startTLS(t, Config{HandshakeTimeout: time.Hour})
	s.stall(conf)
	eventually(t, "the handshake to begin", func() bool { return s.Stats().HandshakesNow == 1 })
	stop, stopped := context.WithTimeout(context.Background(), patience)
	defer stopped()
	if err := s.Shutdown(stop, 4002, func() string { return "" }); err != nil {
		t.Error(err)
	}
}

func TestTLSWhereItIsNot(t *testing.T) {
	s := startServer(t, Config{})
	c := s.dial()
	c.send("\x16\x03\x01\x00\x05hello")
	c.expectEOF()
	if n := s.Stats().RefusedHandshake; n != 1 {
		t.Errorf("%d counted", n)
	}

	s, conf := startTLS(t, Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	if err := s.Serve(l, true); err != nil {
		t.Fatal(err)
	}
	c = s.dial()
	c.send(upgradeHead)
	if head := c.responseHead(); !strings.HasPrefix(head, "HTTP/1.1 400 ") {
		t.Errorf("got %q", head)
	}
	c = s.dialTLS(conf, nil)
	c.send(upgradeHead)
	c.upgraded()

	c = s.dial()
	c.send("\x16\x03\x01\xff\xff" + strings.Repeat("x", 100))
	c.expectEOF()
	c = s.dial()
	c.send("\x16\x03\x01\x00\x05hello")
	if b, _ := io.ReadAll(c.br); len(b) != 7 || b[0] != 21 { // one alert
		t.Errorf("got %x", b)
	}
	eventually(t, "both to be counted", func() bool { return s.Stats().HandshakeFailed == 2 })
}
