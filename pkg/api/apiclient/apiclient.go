// Package apiclient speaks the box's API over its Unix socket, DATA/admin.sock:
// what `pipit`, `pipit-load` and the tests use to administer a running server.
//
// It owns one connection pool and nothing else. Calls may be made from any
// goroutine; each is bounded by its context. Errors are *im.Error with the kind
// and the text that the server gave; ErrNotRunning is matched when nobody
// listens on the socket.
//
// The contract is pkg/api/admin-openapi.yaml.
package apiclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// ErrNotRunning is matched by errors of calls that found no server.
var ErrNotRunning = errors.New("no server is running on this data directory")

// SocketName is the socket's name in the data directory.
const SocketName = "admin.sock"

// Client is a client of one box.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client for the server that runs on dataDir. It connects at the
// first call.
func New(dataDir string) *Client {
	socket := filepath.Join(dataDir, SocketName)
	var d net.Dialer
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     30 * time.Second,
	}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do calls method on path with in as its JSON body (nil: none) and decodes the
// answer into out (nil: discarded).
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.call(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return &im.Error{Kind: im.Internal, Message: "The server's answer can't be read.", Op: method + " " + path, Cause: err}
	}
	return nil
}

// Send calls method on path with r as its body and decodes the answer into out.
func (c *Client) Send(ctx context.Context, method, path string, r io.Reader, out any) error {
	resp, err := c.request(ctx, method, path, r, "application/zip")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return &im.Error{Kind: im.Internal, Message: "The server's answer can't be read.", Op: method + " " + path, Cause: err}
	}
	return nil
}

// Stream calls method on path and copies the answer's body to w.
func (c *Client) Stream(ctx context.Context, method, path string, w io.Writer) (int64, error) {
	resp, err := c.call(ctx, method, path, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return io.Copy(w, resp.Body)
}

func (c *Client) call(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, &im.Error{Kind: im.Internal, Op: method + " " + path, Cause: err}
		}
		body = bytes.NewReader(b)
	}
	return c.request(ctx, method, path, body, "application/json")
}

func (c *Client) request(ctx context.Context, method, path string, body io.Reader, kind string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://box"+path, body)
	if err != nil {
		return nil, &im.Error{Kind: im.Internal, Op: method + " " + path, Cause: err}
	}
	if body != nil {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, problem(method+" "+path, resp)
	}
	return resp, nil
}

// explain says in plain words why the socket could not be reached.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return &im.Error{Kind: im.Unavailable, Cause: fmt.Errorf("%w: %w", ErrNotRunning, err),
			Message: fmt.Sprintf("No server is running on %s. Start pipitd, or name its data directory with --data-dir.", filepath.Dir(c.socket))}
	case errors.Is(err, fs.ErrPermission):
		return &im.Error{Kind: im.Forbidden, Cause: err,
			Message: fmt.Sprintf("%s may be opened by the server's own user only. Run this as that user or as root (sudo).", c.socket)}
	}
	return &im.Error{Kind: im.Unavailable, Cause: err, Message: "The server did not answer."}
}

// problem turns an RFC 9457 answer back into the error it was made from.
func problem(op string, resp *http.Response) error {
	var p struct {
		Detail       string `json:"detail"`
		Kind         string `json:"kind"`
		Field        string `json:"field"`
		Limit        int64  `json:"limit"`
		RetryAfterMS int64  `json:"retry_after_ms"`
		Reason       string `json:"reason"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p); err != nil || p.Kind == "" {
		return &im.Error{Kind: im.Internal, Op: op, Message: "The server answered " + resp.Status + "."}
	}
	return &im.Error{Kind: im.ParseKind(p.Kind), Op: op, Message: p.Detail, Field: p.Field, Limit: p.Limit,
		RetryAfter: time.Duration(p.RetryAfterMS) * time.Millisecond, Reason: im.Reason(p.Reason)}
}

// Path joins segments into a path, each escaped.
func Path(segments ...string) string {
	p := ""
	for _, s := range segments {
		p += "/" + url.PathEscape(s)
	}
	return p
}
