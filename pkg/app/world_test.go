package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/machine"
)

// patience bounds each wait for something that must happen; only a fault meets it.
const patience = 60 * time.Second

const (
	password    = "s3cret-horse-battery"
	messageText = "nobody else may read this: mauve"
)

// output is a log that many goroutines write and the test reads.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// box is a whole server in this process.
type box struct {
	*App
	t      *testing.T
	dir    string
	file   string // its settings
	log    *output
	reload chan os.Signal
	stop   context.CancelFunc
	ended  chan struct{}
	err    error // of Run; read after ended
	admin  *apiclient.Client
}

// newBox starts a server with further settings, one YAML line each.
func newBox(t *testing.T, settings ...string) *box {
	t.Helper()
	return newBoxWith(t, func(string) {}, settings...)
}

// newBoxWith lets prepare work on the data directory before the server starts.
func newBoxWith(t *testing.T, prepare func(dir string), settings ...string) *box {
	t.Helper()
	return newBoxOn(t, machine.Machine{}, prepare, settings...)
}

// newBoxOn says beside that on which machine it runs.
func newBoxOn(t *testing.T, m machine.Machine, prepare func(dir string), settings ...string) *box {
	t.Helper()
	dir, err := os.MkdirTemp("", "pipit-app-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := &box{t: t, dir: filepath.Join(dir, "d"), file: filepath.Join(dir, "pipit.yaml"), log: new(output),
		reload: make(chan os.Signal, 1), ended: make(chan struct{})}
	b.configure(settings...)
	prepare(b.dir)
	load := func() (config.Config, error) {
		return config.Load(config.Source{Args: []string{"--config", b.file, "--data-dir", b.dir, "--listen", "127.0.0.1:0", "--metrics-listen", ""}})
	}
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug)
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	b.App, err = New(ctx, Options{Config: cfg, Reload: load, Level: level, Out: io.Discard, Machine: m,
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: level}))})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	go func() {
		defer close(b.ended)
		b.err = b.Run(ctx, b.reload)
	}()
	b.admin = apiclient.New(b.dir)
	t.Cleanup(func() {
		b.admin.Close()
		b.end()
	})
	return b
}

// configure writes the settings file.
func (b *box) configure(lines ...string) {
	b.t.Helper()
	if err := os.WriteFile(b.file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// end stops the server and returns what Run said.
func (b *box) end() error {
	b.stop()
	<-b.ended
	return b.err
}

func (b *box) url() string { return "http://" + b.listeners.plain[0] }

func (b *box) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// until polls a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			t.Fatalf("%s did not happen within %v", what, patience)
		case <-tick.C:
		}
	}
}

// people makes a tenant with users and returns their ids and tokens, by name.
func (b *box) people(names ...string) (ids map[string]im.UserID, tokens map[string]string) {
	b.t.Helper()
	ctx := b.t.Context()
	if _, err := b.admin.AddTenant(ctx, "oakhill", "Oakhill School"); !im.Is(err, im.Exists) {
		b.must(err)
	}
	ids, tokens = map[string]im.UserID{}, map[string]string{}
	for _, n := range names {
		p, err := b.admin.AddUser(ctx, "oakhill", apiclient.NewPerson{Username: n, Name: n, Role: "staff", Password: password})
		b.must(err)
		ids[n] = im.UserID(p.ID)
		issued, err := b.admin.IssueToken(ctx, "oakhill", n)
		b.must(err)
		tokens[n] = issued.Token
	}
	return ids, tokens
}

// connect returns a client that is live.
func (b *box) connect(o client.Options) *client.Client {
	b.t.Helper()
	o.URL, o.Name = b.url(), "app-test"
	c := client.New(o)
	b.t.Cleanup(func() { c.Close() })
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	b.must(c.Wait(ctx))
	return c
}

// get asks the public listener and returns status and body.
func (b *box) get(path string) (int, string) {
	b.t.Helper()
	resp, err := http.Get(b.url() + path)
	b.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	b.must(err)
	return resp.StatusCode, string(text)
}

// signIn asks for a token with a password.
func (b *box) signIn(username, password string) (status int, token string) {
	b.t.Helper()
	body, err := json.Marshal(map[string]string{"tenant": "oakhill", "username": username, "password": password})
	b.must(err)
	resp, err := http.Post(b.url()+"/v1/sessions", "application/json", bytes.NewReader(body))
	b.must(err)
	defer resp.Body.Close()
	var out struct{ Token string }
	if resp.StatusCode == http.StatusCreated {
		b.must(json.NewDecoder(resp.Body).Decode(&out))
	}
	return resp.StatusCode, out.Token
}
