package conformance_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"
)

var web = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}}

// http makes one request with header lines (name, value, …) and returns status, header and body.
func (s *server) http(t *testing.T, method, path string, body []byte, header ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode >= 400 {
		problem(t, method+" "+path, resp.StatusCode, resp.Header, answer)
	}
	return resp.StatusCode, resp.Header, answer
}

var kindOfStatus = map[int][]string{400: {"invalid"}, 401: {"unauthenticated"}, 403: {"forbidden"}, 404: {"not_found"}, 405: {"not_found"}, 409: {"exists", "conflict"},
	413: {"too_large"}, 422: {"invalid"}, 426: {"invalid"}, 429: {"rate_limited"}, 503: {"unavailable"}}

// problem holds every refusal against 9.1 and the statuses of section 2.
func problem(t *testing.T, what string, status int, h http.Header, body []byte) {
	t.Helper()
	if got := h.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("9.1: %s: %d with Content-Type %q: %.200q", what, status, got, body)
		return
	}
	p := parse(t, body)
	fits := false
	for _, kind := range kindOfStatus[status] {
		fits = fits || p.get("kind").str() == kind
	}
	if !fits || p.get("status").num() != int64(status) || !p.has("title") || !p.has("type") {
		t.Errorf("9.1: %s: %d: %s", what, status, p)
	}
	switch p.get("kind").str() {
	case "rate_limited":
		if p.get("retry_after_ms").num() < 1 || h.Get("Retry-After") == "" {
			t.Errorf("2: %s: no Retry-After: %v %s", what, h, p)
		}
	case "too_large":
		if p.get("limit").num() < 1 {
			t.Errorf("2: %s: no limit: %s", what, p)
		}
	}
}

// rest makes a signed-in request; body may be JSON as a string.
func (p *person) rest(t *testing.T, method, path string, body any, header ...string) (int, value) {
	t.Helper()
	var b []byte
	switch body := body.(type) {
	case nil:
	case string:
		b = []byte(body)
	default:
		var err error
		if b, err = json.Marshal(body); err != nil {
			t.Fatal(err)
		}
	}
	status, _, answer := p.http(t, method, path, b, append(header, "Authorization", "Bearer "+p.token, "Content-Type", "application/json")...)
	if len(answer) == 0 {
		return status, value{absent{}}
	}
	return status, parse(t, answer)
}
