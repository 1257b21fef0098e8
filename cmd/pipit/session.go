package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// session is a socket as one user, made with a sign-in of the operator's that
// ends with it.
type session struct {
	*client.Client
	hello *wire.HelloResult
	box   *apiclient.Client
	token string
}

// as connects to the running server as username.
func (t *tool) as(cmd *cobra.Command, tenant, username string, h client.Handler) (*session, error) {
	if username == "" {
		return nil, usageError{errors.New("say as whom: --as USERNAME")}
	}
	ctx := cmd.Context()
	box, err := t.box()
	if err != nil {
		return nil, err
	}
	if tenant, err = theTenant(cmd, box, tenant); err != nil {
		return nil, err
	}
	status, err := box.Status(ctx)
	if err != nil {
		return nil, err
	}
	url, tlsConfig, err := address(status)
	if err != nil {
		return nil, err
	}
	issued, err := box.IssueToken(ctx, tenant, username)
	if err != nil {
		return nil, err
	}
	hello := make(chan *wire.HelloResult, 1)
	h.Ready = func(r *wire.HelloResult) {
		select {
		case hello <- r:
		default: // a reconnect
		}
	}
	s := &session{box: box, token: issued.Token}
	s.Client = client.New(client.Options{URL: url, TLS: tlsConfig, Token: issued.Token, Name: "pipit/" + app.Version, Handler: h, Log: t.log()})
	select {
	case s.hello = <-hello:
		return s, nil
	case <-s.Done():
		err = s.Err()
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, s.end())
}

// end closes the socket and ends the sign-in.
func (s *session) end() error {
	err := s.Client.Close()
	// The command may have been interrupted: the sign-in ends all the same.
	return errors.Join(err, s.box.RevokeToken(context.Background(), s.token))
}

// address returns how this machine reaches its own server.
func address(s apiclient.ServerInfo) (string, *tls.Config, error) {
	local := func(hostport string) string {
		host, port, err := net.SplitHostPort(hostport)
		if err != nil {
			return hostport
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1"
		}
		return net.JoinHostPort(host, port)
	}
	switch {
	case len(s.Listen) > 0:
		return "http://" + local(s.Listen[0]), nil, nil
	case len(s.ListenTLS) > 0:
		// The address came over the admin socket and leads to this machine; the
		// certificate is for the names that people use.
		return "https://" + local(s.ListenTLS[0]), &tls.Config{InsecureSkipVerify: true}, nil
	}
	return "", nil, im.E(im.Unavailable, "The server listens on no address.")
}

// find resolves what a person calls a conversation: its id, its title, or
// @username for the direct conversation with someone.
func (s *session) find(ctx context.Context, name string) (im.Head, error) {
	if username, ok := strings.CutPrefix(name, "@"); ok {
		return s.direct(ctx, username)
	}
	var found []im.Head
	match := func(heads []im.Head) {
		for _, h := range heads {
			if string(h.ID) == name || h.Title != "" && strings.EqualFold(h.Title, name) {
				found = append(found, h)
			}
		}
	}
	match(s.hello.Conversations)
	for cursor := s.hello.Next; cursor != ""; {
		err := s.Call(ctx, wire.MethodList, &wire.ListParams{Cursor: cursor, Limit: im.MaxHeadsPage}, func(result []byte) error {
			page, err := wire.DecodeHeads(result)
			cursor = page.Next
			match(page.Conversations)
			return err
		})
		if err != nil {
			return im.Head{}, err
		}
	}
	switch len(found) {
	case 0:
		return im.Head{}, im.E(im.NotFound, "%s is in no conversation %q. Give its id, its title, or @username.", s.hello.User.Username, name)
	case 1:
		return found[0], nil
	}
	ids := make([]string, len(found))
	for i, h := range found {
		ids[i] = string(h.ID)
	}
	return im.Head{}, usageError{fmt.Errorf("%d conversations have this title: give the id, one of %s", len(found), strings.Join(ids, ", "))}
}

func (s *session) direct(ctx context.Context, username string) (im.Head, error) {
	var head im.Head
	var peer im.UserID
	err := s.Call(ctx, wire.MethodUserSearch, &wire.SearchParams{Query: username, Limit: im.MaxFindPage}, func(result []byte) error {
		users, err := wire.DecodeUsersResult(result)
		for _, u := range users {
			if strings.EqualFold(u.Username, username) {
				peer = u.ID
			}
		}
		return err
	})
	if err != nil {
		return head, err
	}
	if peer == "" {
		return head, im.E(im.NotFound, "There is no user %q whom %s may write to.", username, s.hello.User.Username)
	}
	return head, s.Call(ctx, wire.MethodDirect, &wire.DirectParams{User: peer}, func(result []byte) (err error) {
		head, err = wire.DecodeHead(result)
		return err
	})
}
