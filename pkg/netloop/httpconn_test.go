package netloop

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serveHTTP runs net/http on the server's HTTP listener until the test ends.
func serveHTTP(t *testing.T, s *testServer, h http.HandlerFunc) {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(s.HTTP()) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

func TestHTTPHandedOver(t *testing.T) {
	s := startServer(t, Config{})
	serveHTTP(t, s, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Path", r.URL.Path)
		_, _ = io.WriteString(w, r.Method+" "+string(body))
	})
	c := s.dial()
	// Split within the body: the head and a part of it come by the loop.
	c.send("POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
	eventually(t, "net/http to get it", func() bool { return s.Stats().HTTP == 1 })
	c.send("56789GET /two HTTP/1.1\r\nHost: x\r\n\r\n")
	for _, want := range [][2]string{{"/v1/sessions", "POST 0123456789"}, {"/two", "GET "}} {
		r, err := http.ReadResponse(c.br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("X-Path") != want[0] || string(body) != want[1] {
			t.Errorf("got %q %q, want %q", r.Header.Get("X-Path"), body, want)
		}
	}
	if n := s.Stats().Open; n != 1 {
		t.Errorf("%d connections counted while net/http has one", n)
	}
	c.Close()
	eventually(t, "the count to fall", func() bool { return s.Stats().Open == 0 })

	// A GET of the WebSocket path without an upgrade is net/http's as well.
	c = s.dial()
	c.trickle([]byte("GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
	r, err := http.ReadResponse(c.br, nil)
	if err != nil || r.Header.Get("X-Path") != "/v1/ws" {
		t.Errorf("%v %v", r, err)
	}
}

func TestHandedConn(t *testing.T) {
	s := startServer(t, Config{})
	if a := s.HTTP().Addr().String(); a != s.addr {
		t.Errorf("address %s, want %s", a, s.addr)
	}
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, read := range []func(net.Conn) ([]byte, error){
		func(c net.Conn) ([]byte, error) { return io.ReadAll(c) },
		func(c net.Conn) ([]byte, error) {
			var b bytes.Buffer
			_, err := c.(io.WriterTo).WriteTo(&b)
			return b.Bytes(), err
		},
	} {
		c := s.dial()
		c.send(request)
		conn, err := s.HTTP().Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.send("more")
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got, err := read(conn); err != nil || string(got) != request+"more" {
			t.Errorf("got %q, %v", got, err)
		}
		_, _ = conn.Close(), conn.Close() // the second must not count again
	}
	if n := s.Stats().Open; n != 0 {
		t.Errorf("%d open", n)
	}
}

func TestTakeBack(t *testing.T) {
	s, conf := startTLS(t, Config{Upgrade: func(r *Request) error {
		if r.Host != "box.local" || r.RawQuery != "a=b" || r.Cookie != "k=v" || r.UserAgent != "" || !r.Remote.IsValid() {
			t.Errorf("request %+v", r)
		}
		r.Data = r.TLS
		return nil
	}})
	serveHTTP(t, s, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/ws" {
			if err := s.TakeBack(w, r); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
			}
			return
		}
		_, _ = io.WriteString(w, "plain")
	})
	conf.DynamicRecordSizingDisabled = true // so that a record is more than net/http's buffer
	for _, overTLS := range []bool{false, true} {
		var c *client
		if overTLS {
			c = s.dialTLS(conf, nil)
		} else {
			c = s.dial()
		}
		get := func(head, status, body string) {
			t.Helper()
			c.send(head)
			r, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(r.Body); r.Status != status || !strings.Contains(string(b), body) {
				t.Errorf("got %s %q", r.Status, b)
			}
		}
		get("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "plain")
		get("GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "400 Bad Request", "not an upgrade")
		get(with("Content-Length: 1")+"x", "400 Bad Request", "without a body")
		c.send(with("Cookie: k=v") + string(text(bigText(10_000))))
		c.upgraded()
		c.expectText(bigText(10_000))
		c.send(string(text(bigText(30_000))))
		c.expectText(bigText(30_000))
		conn := s.rec.waitOpen(t)
		onLoop(t, conn.Loop(), func() {
			if conn.Data() != overTLS || conn.Remote().String() != c.LocalAddr().String() {
				t.Errorf("TLS %v, remote %v", conn.Data(), conn.Remote())
			}
			conn.Close(4000, "done")
		})
		c.expectClose(4000, "done")

		// What the loop refuses, it answers.
		if overTLS {
			c = s.dialTLS(conf, nil)
		} else {
			c = s.dial()
		}
		get("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", "plain")
		get(strings.Replace(upgradeHead, "pipit.v1", "other", 1), "400 Bad Request", "the subprotocol is not offered")
		c.expectEOF()
	}
	eventually(t, "no connection to be left", func() bool { return s.Stats().Open == 0 })
	for _, l := range s.Stats().Loops {
		if l.Conns != 0 {
			t.Errorf("%d connections counted", l.Conns)
		}
	}
}

func TestHTTPBacklogFull(t *testing.T) {
	s := startServer(t, Config{})
	for range httpBacklog {
		s.dial().send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	eventually(t, "the backlog to fill", func() bool { return s.Stats().HTTP == httpBacklog })
	c := s.dial()
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if head := c.responseHead(); !strings.HasPrefix(head, "HTTP/1.1 503 ") || !strings.Contains(head, "Retry-After: 1\r\n") {
		t.Errorf("got %q", head)
	}
	eventually(t, "the refused one to be gone", func() bool { return s.Stats().Open == httpBacklog })
}

func TestUpgradeRefused(t *testing.T) {
	// No Linger to end it: our side must shut down by itself.
	s := startServer(t, Config{Linger: time.Hour, Upgrade: func(r *Request) error {
		switch r.Origin {
		case "null":
			return &RefuseError{Status: 403, Message: "this origin is not allowed"}
		case "broken":
			return io.ErrUnexpectedEOF
		}
		return nil
	}})
	for _, c := range []struct{ name, head, status, body string }{
		{"origin", "Origin: null\r\n", "403 Forbidden", `{"title":"Forbidden","status":403,"detail":"this origin is not allowed","kind":"forbidden"}`},
		{"fault", "Origin: broken\r\n", "500 Internal Server Error", `{"title":"Internal Server Error","status":500,"detail":"internal error","kind":"internal"}`},
		{"no subprotocol", "Sec-WebSocket-Protocol: pipit.v2\r\n", "400 Bad Request", `{"title":"Bad Request","status":400,"detail":"the subprotocol is not offered","kind":"invalid"}`},
	} {
		head := upgradeHead
		if c.name == "no subprotocol" {
			head = strings.Replace(head, "Sec-WebSocket-Protocol: x, pipit.v1\r\n", c.head, 1)
		} else {
			head = strings.Replace(head, "\r\n\r\n", "\r\n"+c.head+"\r\n", 1)
		}
		conn := s.dial()
		conn.send(head)
		r, err := http.ReadResponse(conn.br, nil)
		if err != nil {
			t.Fatal(c.name, err)
		}
		body, _ := io.ReadAll(r.Body)
		if r.Status != c.status || string(body) != c.body || r.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: got %s %s", c.name, r.Status, body)
		}
		conn.expectEOF()
	}
	old := s.dial()
	old.send(strings.Replace(upgradeHead, "Version: 13", "Version: 8", 1))
	if head := old.responseHead(); !strings.HasPrefix(head, "HTTP/1.1 426 ") || !strings.Contains(head, "Sec-WebSocket-Version: 13\r\n") {
		t.Errorf("got %q", head)
	}
	if st := s.Stats(); st.UpgradeRefused != 2 || st.HeadErrors != 2 || st.Upgraded != 0 || len(s.rec.opened)+len(s.rec.closed) != 0 {
		t.Errorf("stats %+v", st)
	}
}
