package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// watched is a buffer that a test reads while the command writes.
type watched struct {
	mu  sync.Mutex
	buf bytes.Buffer
	got chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.buf.Write(p)
	if strings.Contains(w.buf.String(), "Waiting") {
		select {
		case w.got <- struct{}{}:
		default:
		}
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// TestLogin signs in by the device grant: the tenant is the one that the address
// selects, and the token alone goes to standard output. (tests/signin goes the whole
// way with a browser; here the server only says what ours says.)
func TestLogin(t *testing.T) {
	agreed := make(chan struct{})
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	defer srv.Close()
	mux.HandleFunc("GET /signin", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/t/oakhill/signin", http.StatusSeeOther)
	})
	mux.HandleFunc("POST /t/oakhill/oauth/device_authorization", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("client_id") != "pipit-cli" || r.FormValue("scope") != "chat admin" {
			t.Errorf("asked with %v", r.Form)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"device_code":"BCDF-GHJK.s","user_code":"BCDF-GHJK","verification_uri":"`+srv.URL+`/t/oakhill/device","verification_uri_complete":"`+srv.URL+`/t/oakhill/device?user_code=BCDF-GHJK","expires_in":600,"interval":1}`)
	})
	mux.HandleFunc("POST /t/oakhill/oauth/token", func(w http.ResponseWriter, r *http.Request) {
		<-agreed
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"pt_oakhill_x","token_type":"Bearer","expires_in":3600,"scope":"chat admin"}`)
	})
	mux.HandleFunc("POST /t/slow/oauth/device_authorization", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"device_code":"BCDF-GHJK.s","user_code":"BCDF-GHJK","verification_uri":"`+srv.URL+`/t/slow/device","expires_in":2,"interval":1}`)
	})
	mux.HandleFunc("POST /t/slow/oauth/token", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"authorization_pending"}`)
	})
	mux.HandleFunc("POST /t/none/oauth/device_authorization", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":"invalid_request","error_description":"There is no such organisation on this server."}`)
	})
	out, said := new(bytes.Buffer), &watched{got: make(chan struct{}, 1)}
	code := make(chan int, 1)
	go func() {
		code <- run(context.Background(), []string{"login", srv.URL}, strings.NewReader(""), out, said)
	}()
	<-said.got
	close(agreed)
	if c := <-code; c != exitOK || out.String() != "pt_oakhill_x\n" {
		t.Errorf("code %d, output %q\n%s", c, out, said)
	}
	if !regexp.MustCompile(`Open http://127\.0\.0\.1:\d+/t/oakhill/device\?user_code=BCDF-GHJK`).MatchString(said.String()) || !strings.Contains(said.String(), "▀") {
		t.Errorf("said %s", said)
	}
	for args, want := range map[string]int{"--tenant none": exitNotFound, "ftp://x": exitUsage} {
		a := append([]string{"login", srv.URL}, strings.Fields(args)...)
		if strings.HasPrefix(args, "ftp") {
			a = []string{"login", args}
		}
		if c := run(context.Background(), a, strings.NewReader(""), io.Discard, new(bytes.Buffer)); c != want {
			t.Errorf("%s: code %d, want %d", args, c, want)
		}
	}
	late := new(bytes.Buffer)
	if c := run(context.Background(), []string{"login", srv.URL + "/t/slow"}, strings.NewReader(""), io.Discard, late); c != exitFailed || !strings.Contains(late.String(), "The code has expired: nobody agreed in time.") {
		t.Errorf("nobody agreed: code %d\n%s", c, late)
	}
}
