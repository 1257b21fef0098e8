package app

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/health"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// TestEveryMetricIsFed: a declared metric that nobody feeds would show 0 for
// ever, and somebody would believe it.
func TestEveryMetricIsFed(t *testing.T) {
	b := newBox(t)
	if list := b.metrics.Unfed(); len(list) != 0 {
		t.Errorf("declared, and fed by nobody: %s", strings.Join(list, ", "))
	}
}

func TestReadiness(t *testing.T) {
	b := newBox(t)
	until(t, "the first look at the box", func() bool { return strings.Contains(b.log.String(), "serving") })
	if status, _ := b.get("/readyz"); status != http.StatusOK {
		t.Errorf("readyz %d", status)
	}
	b.board.Set(health.StoreFailed, "a test")
	if err := b.ready(); err == nil || err.Error() != health.StoreFailed.Title {
		t.Errorf("ready() = %v", err)
	}
	b.board.Set(health.Stopping, "")
	if status, _ := b.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("readyz while stopping: %d", status)
	}
	if status, _ := b.get("/healthz"); status != http.StatusOK {
		t.Errorf("healthz while stopping: %d", status)
	}
}

// TestStarting: until the API is there, HTTP is told to wait and upgrades are
// refused with 503.
func TestStarting(t *testing.T) {
	var s swapHandler
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/v1/sessions": 503} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want || !strings.Contains(w.Body.String(), `"kind":"unavailable"`) || w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	var u swapSessions
	if err := u.upgrade(nil); err == nil || !strings.Contains(err.Error(), "starting") {
		t.Errorf("upgrade: %v", err)
	}
}

// TestOddUpgrades: a request that half asks for a WebSocket is answered once; it
// must not go to and fro between the loops and net/http.
func TestOddUpgrades(t *testing.T) {
	b := newBox(t)
	for head, want := range map[string]string{
		"GET /v1/ws HTTP/1.1\r\nUpgrade: nobody\r\nConnection: upgrade":                       "426",
		"GET /v1/ws?a=b HTTP/1.1\r\nUpgrade: h2c, x":                                          "426",
		"GET /v1/ws HTTP/1.1\r\nUpgrade: websockets":                                          "426",
		"GET /v1%2Fws HTTP/1.1\r\nUpgrade: websocket":                                         "4",
		"GET http://x/v1/ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade":            "4",
		"GET /v1/ws/ HTTP/1.1\r\nUpgrade: websocket":                                          "4",
		"GET /v1/ws HTTP/1.1\r\nUpgrade: WebSocket":                                           "400",
		"GET /v1/ws HTTP/1.1\r\nUpgrade: x,\twebsocket\r\nConnection: upgrade":                "400",
		"POST /v1/ws HTTP/1.1\r\nUpgrade: websocket\r\nContent-Length: 0":                     "4",
		"GET /v1/ws HTTP/1.1\r\nUpgrade: websocket\r\nUpgrade: nobody\r\nConnection: upgrade": "400",
		"GET /v1/ws HTTP/1.1\r\nUpgrade: nobody\r\nUpgrade: websocket":                        "4",
	} {
		for _, before := range []string{"", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"} {
			nc, err := net.Dial("tcp", b.listeners.plain[0])
			b.must(err)
			b.must(nc.SetDeadline(time.Now().Add(patience)))
			in := bufio.NewReader(nc)
			if before != "" { // on a connection that net/http has already
				fmt.Fprint(nc, before)
				resp, err := http.ReadResponse(in, nil)
				b.must(err)
				_, err = io.Copy(io.Discard, resp.Body)
				b.must(err)
			}
			fmt.Fprint(nc, head+"\r\nHost: x\r\n\r\n")
			resp, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Errorf("%q (behind %q): %v", head, before, err)
			} else if got := resp.Status; !strings.HasPrefix(got, want) {
				t.Errorf("%q (behind %q): %s, want %s", head, before, got, want)
			}
			nc.Close()
		}
	}
}

// TestAdminSocket: pprof is there and nowhere else, and the socket is its
// owner's alone.
func TestAdminSocket(t *testing.T) {
	b := newBox(t)
	name := filepath.Join(b.dir, apiclient.SocketName)
	st, err := os.Stat(name)
	b.must(err)
	if st.Mode().Perm() != 0o600 || st.Mode().Type() != os.ModeSocket {
		t.Errorf("mode %v", st.Mode())
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/admin/status", "/metrics"} {
		if status, _ := b.get(path); status != http.StatusNotFound {
			t.Errorf("%s on the public listener: %d", path, status)
		}
	}
	var text strings.Builder
	if _, err := b.admin.Stream(t.Context(), "GET", "/debug/pprof/goroutine?debug=1", &text); err != nil || !strings.Contains(text.String(), "goroutine profile") {
		t.Errorf("pprof on the admin socket: %v %.100s", err, text.String())
	}
}

// TestSecretsStayOutOfTheLog drives what handles passwords, tokens and texts,
// rightly and wrongly, at the most talkative level.
func TestSecretsStayOutOfTheLog(t *testing.T) {
	b := newBox(t)
	ids, tokens := b.people("ann", "bob")
	status, token := b.signIn("ann", password)
	if status != http.StatusCreated {
		t.Fatalf("sign-in: %d", status)
	}
	if status, _ := b.signIn("ann", "wr0ng-"+password); status != http.StatusUnauthorized {
		t.Errorf("wrong password: %d", status)
	}
	c := b.connect(client.Options{Token: token})
	var conv im.ConvID
	b.must(c.Call(t.Context(), wire.MethodDirect, &wire.DirectParams{User: ids["bob"]}, func(r []byte) error {
		h, err := wire.DecodeHead(r)
		conv = h.ID
		return err
	}))
	key := client.NewKey()
	if _, err := c.Send(t.Context(), client.Outgoing{Conversation: conv, Key: key, Text: messageText}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Send(t.Context(), client.Outgoing{Conversation: conv, Key: key, Text: messageText + "!"}); !im.Is(err, im.Conflict) {
		t.Errorf("same key, other text: %v", err)
	}
	if _, err := c.Send(t.Context(), client.Outgoing{Conversation: "c_none", Text: messageText}); !im.Is(err, im.NotFound) {
		t.Errorf("no conversation: %v", err)
	}
	refused := client.New(client.Options{URL: b.url(), Token: "x" + token})
	<-refused.Done()
	if err := refused.Err(); !im.Is(err, im.Unauthenticated) {
		t.Errorf("bad token: %v", err)
	}
	raw, err := net.Dial("tcp", b.listeners.plain[0])
	b.must(err)
	defer raw.Close()
	fmt.Fprintf(raw, "GET /v1/ws?token=%s HTTP/1.1\r\nHost: x\r\nUpgrade: %s\r\n\r\n", token, messageText)
	_, err = raw.Read(make([]byte, 100))
	b.must(err)
	b.must(b.admin.SetPassword(t.Context(), "oakhill", "ann", "an0ther-"+password))
	until(t, "the end of ann's session", func() bool {
		select {
		case <-c.Done():
			return true
		default:
			return false
		}
	})
	if err := b.end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	log := b.log.String()
	for what, secret := range map[string]string{"password": "horse-battery", "token": token, "another token": tokens["bob"], "text": "mauve", "key": key} {
		if i := strings.Index(log, secret); i >= 0 {
			t.Errorf("the log has the %s: …%s", what, log[max(i-200, 0):i])
		}
	}
	for _, line := range strings.Split(log, "\n") {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "level=WARN") && !strings.Contains(line, "condition") {
			t.Errorf("what people do wrong is no fault of the server: %s", line)
		}
	}
	for _, want := range []string{"serving", "memory_limit_from"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %s", want)
		}
	}
}

func TestReload(t *testing.T) {
	b := newBox(t, "limits: {sends_per_minute: 77}", "log: {level: debug}")
	_, tokens := b.people("ann")
	told := make(chan int, 4)
	hello := client.Options{Token: tokens["ann"], Handler: client.Handler{Ready: func(r *wire.HelloResult) { told <- r.Limits.SendsPerMinute }}}
	b.connect(hello)
	if n := <-told; n != 77 {
		t.Errorf("told %d sends a minute", n)
	}
	b.configure("limits: {sends_per_minute: 78, heartbeat: 99s}", "log: {level: warn}", "origins: [https://chat.example]")
	b.reload <- syscall.SIGHUP
	until(t, "the reload", func() bool { return b.config().Limits.SendsPerMinute == 78 })
	b.connect(hello)
	if n := <-told; n != 78 {
		t.Errorf("told %d sends a minute after the reload", n)
	}
	until(t, "the level", func() bool { return b.level.Level().String() == "WARN" })
	until(t, "the condition", func() bool {
		for _, c := range b.board.List() {
			if c.Code == health.RestartNeeded.Code {
				return c.Detail == "origins, limits.heartbeat"
			}
		}
		return false
	})
	if b.config().Limits.Heartbeat != 30*time.Second {
		t.Errorf("heartbeat %v", b.config().Limits.Heartbeat)
	}
	b.configure("limits: {sends_per_minute: 0}")
	b.reload <- syscall.SIGHUP
	until(t, "the refusal", func() bool {
		for _, c := range b.board.List() {
			if c.Code == health.SettingsRejected.Code {
				return strings.Contains(c.Detail, "limits.sends_per_minute")
			}
		}
		return false
	})
	if n := b.config().Limits.SendsPerMinute; n != 78 {
		t.Errorf("%d sends a minute after a refused reload", n)
	}
}

// TestStopUnderLoad: a stop is clean while 200 people send, and while others
// have stopped reading or speak half a request; whoever was acknowledged is
// stored.
func TestStopUnderLoad(t *testing.T) {
	b := newBox(t, "shutdown: {timeout: 8s}", "limits: {sends_per_minute: 1000000, signins_per_minute_per_address: 1000000}")
	const users = 200
	in := apiclient.BulkPeople{Tokens: true}
	for i := range users {
		in.Users = append(in.Users, apiclient.NewPerson{Username: fmt.Sprintf("u%03d", i), Role: "staff"})
	}
	_, err := b.admin.AddTenant(t.Context(), "oakhill", "")
	b.must(err)
	made, err := b.admin.AddUsers(t.Context(), "oakhill", in)
	b.must(err)
	var acked, down atomic.Int64
	clients := make([]*client.Client, users)
	var wg sync.WaitGroup
	for i := range users {
		clients[i] = client.New(client.Options{URL: b.url(), Token: made[i].Token, Once: true,
			Handler: client.Handler{Down: func(err error, _ time.Duration) {
				var closed *client.CloseError
				if !errors.As(err, &closed) || closed.Code != 4002 || !strings.HasPrefix(closed.Reason, "retry_ms=") {
					t.Errorf("user %d: %v", i, err)
				}
				down.Add(1)
			}}})
		wg.Go(func() {
			if err := clients[i].Wait(t.Context()); err != nil {
				t.Errorf("user %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var conv im.ConvID
	create := &wire.CreateParams{Kind: im.KindGroup, Title: "All", Key: "k"}
	for _, m := range made[1:] {
		create.Members = append(create.Members, im.UserID(m.ID))
	}
	b.must(clients[0].Call(t.Context(), wire.MethodCreate, create, func(r []byte) error {
		h, err := wire.DecodeHead(r)
		conv = h.ID
		return err
	}))
	for _, c := range clients {
		var next func(client.Sent, error)
		next = func(_ client.Sent, err error) {
			if err == nil {
				acked.Add(1)
				c.SendAsync(client.Outgoing{Conversation: conv, Text: "x"}, next)
			}
		}
		c.SendAsync(client.Outgoing{Conversation: conv, Text: "x"}, next)
	}
	for range 10 { // half a request each, and silence
		nc, err := net.Dial("tcp", b.listeners.plain[0])
		b.must(err)
		defer nc.Close()
		fmt.Fprint(nc, "GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthor")
	}
	until(t, "2,000 acknowledgements", func() bool { return acked.Load() > 2000 })
	if err := b.end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	until(t, "everybody's close frame", func() bool { return down.Load() == users })
	if log := b.log.String(); strings.Contains(log, "deadline") || strings.Contains(log, "not everything") {
		t.Errorf("log: %s", log[max(len(log)-2000, 0):])
	}
	if stored := b.chat.Stats().Entries; int64(stored) < acked.Load() {
		t.Errorf("%d entries stored, %d acknowledged", stored, acked.Load())
	}
}

// TestStopWithPeersThatTakeNothing: their share of the time is not the commit
// goroutine's, and cutting them off is no failure.
func TestStopWithPeersThatTakeNothing(t *testing.T) {
	b := newBox(t, "shutdown: {timeout: 1s}")
	_, tokens := b.people("ann")
	stuck := make(chan struct{})
	c := b.connect(client.Options{Token: tokens["ann"], Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &deaf{Conn: nc, stuck: stuck}, err
	}})
	close(stuck) // it reads no more, so the close frame has no answer
	began := time.Now()
	if err := b.end(); err != nil {
		t.Errorf("Run: %v", err)
	}
	t.Logf("stopped after %v", time.Since(began))
	if strings.Contains(b.log.String(), "deadline") {
		t.Errorf("log: %s", b.log.String())
	}
	c.Close()
}

// deaf is a connection that is not read any more once stuck is closed.
type deaf struct {
	net.Conn
	stuck chan struct{}
}

func (d *deaf) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	select {
	case <-d.stuck:
		return 0, errors.New("deaf")
	default:
		return n, err
	}
}

func (d *deaf) Close() error { return nil }
