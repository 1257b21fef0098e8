package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// group makes a conversation of a kind and returns it.
func group(c *client.Client, kind im.ConvKind, title, key string, members ...im.UserID) (id im.ConvID, err error) {
	err = c.Call(context.Background(), wire.MethodCreate, &wire.CreateParams{Kind: kind, Title: title, Members: members, Key: key}, func(r []byte) error {
		h, err := wire.DecodeHead(r)
		id = h.ID
		return err
	})
	return id, err
}

// posted makes the keys of post's messages differ.
var posted atomic.Int64

// post sends messageText over REST, once.
func (b *box) post(conv im.ConvID, token string) (status int, answer string) {
	b.t.Helper()
	req, err := http.NewRequest("POST", b.url()+"/v1/conversations/"+string(conv)+"/messages", strings.NewReader(`{"text":"`+messageText+`"}`))
	b.must(err)
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", fmt.Sprint("post-", posted.Add(1)))
	res, err := http.DefaultClient.Do(req)
	b.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	b.must(err)
	return res.StatusCode, string(body)
}

// TestQuotas: each of the five bounds that an operator sets holds in the server as
// it is wired, and ends when it is taken away.
func TestQuotas(t *testing.T) {
	b := newBox(t, "limits: {sends_per_minute: 1000000}")
	_, tokens := b.people("ann", "bob")
	c := b.connect(client.Options{Token: tokens["ann"]})
	room, err := group(c, im.KindGroup, "room", "r0")
	b.must(err)
	send := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := c.Send(ctx, client.Outgoing{Conversation: room, Text: "hello"})
		return err
	}
	post := func() error {
		if status, answer := b.post(room, tokens["ann"]); status != 201 {
			return errors.New(answer)
		}
		return nil
	}
	n := 0
	for _, q := range []struct {
		name  string
		quota apiclient.Quota
		says  string       // to whom it refuses
		try   func() error // whether it is let
	}{
		{"users", apiclient.Quota{Users: 2}, "as many users as it may have", func() error {
			n++
			_, err := b.admin.AddUser(t.Context(), "oakhill", apiclient.NewPerson{Username: fmt.Sprint("new", n), Role: "member"})
			return err
		}},
		{"conversations", apiclient.Quota{Conversations: 1}, "as many conversations as it may have", func() error {
			n++
			_, err := group(c, im.KindGroup, "more", fmt.Sprint("r", n))
			return err
		}},
		{"stored bytes", apiclient.Quota{StoredBytes: 1}, "storage is full", post},
		{"sends a minute", apiclient.Quota{SendsPerMinute: 1}, "organisation is sending", post},
		{"connections", apiclient.Quota{Connections: 1}, "as many people of your organisation are connected", func() error {
			x := client.New(client.Options{URL: b.url(), Token: tokens["bob"], Name: "test", Once: true})
			defer x.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return x.Wait(ctx)
		}},
	} {
		if err := q.try(); err != nil {
			t.Fatalf("%s: refused without a bound: %v", q.name, err)
		}
		_, err := b.admin.SetTenant(t.Context(), "oakhill", apiclient.BoxSettings{Quota: &q.quota})
		b.must(err)
		// What is stored is measured beside: the first may still pass.
		until(t, q.name+" being refused", func() bool {
			err := q.try()
			return err != nil && strings.Contains(err.Error(), q.says)
		})
		_, err = b.admin.SetTenant(t.Context(), "oakhill", apiclient.BoxSettings{Quota: &apiclient.Quota{}})
		b.must(err)
		until(t, q.name+" being let again", func() bool { return q.try() == nil })
	}
	b.must(send())
}

// TestQuietHoursAudited: in quiet hours a member's message waits, a teacher's notice
// passes, and the audit log says that it did, without its text.
func TestQuietHoursAudited(t *testing.T) {
	b := newBox(t)
	ids, tokens := b.people("tom") // staff
	_, err := b.admin.AddUser(t.Context(), "oakhill", apiclient.NewPerson{Username: "mia", Role: "member", Password: password})
	b.must(err)
	_, mia := b.signIn("mia", password)
	c := b.connect(client.Options{Token: tokens["tom"]})
	var member im.UserID
	b.must(b.admin.Users(t.Context(), "oakhill", func(p apiclient.Person) error {
		if p.Username == "mia" {
			member = im.UserID(p.ID)
		}
		return nil
	}))
	room, err := group(c, im.KindGroup, "room", "r", member)
	b.must(err)
	board, err := group(c, im.KindNotice, "board", "b", member)
	b.must(err)
	_, err = b.admin.ChangePolicy(t.Context(), "oakhill", apiclient.PolicyChange{Settings: map[string]string{
		"quiet.member": "00:00-23:59", "quiet.staff": "00:00-23:59", "quiet.zone": quietZone()}})
	b.must(err)
	_, last := b.audited(0)
	if status, text := b.post(room, mia); status != 429 || !strings.Contains(text, "quiet") {
		t.Errorf("a member's message: %d %s", status, text)
	}
	if status, text := b.post(room, tokens["tom"]); status != 429 {
		t.Errorf("a teacher's message in a group: %d %s", status, text)
	}
	if status, text := b.post(board, tokens["tom"]); status != 201 {
		t.Fatalf("a teacher's notice: %d %s", status, text)
	}
	var got []audit.Event
	until(t, "the pass in the audit log", func() bool {
		events, _, err := b.audit.Page(t.Context(), "oakhill", audit.Query{}, 0, 100)
		b.must(err)
		got = nil
		for _, e := range events {
			if e.Seq > last && e.Action == "quiet_hours.pass" {
				got = append(got, e)
			}
		}
		return len(got) > 0
	})
	if len(got) != 1 || got[0].Actor.ID != string(ids["tom"]) || got[0].Actor.Name != "tom" || got[0].Object != "conversation/"+string(board) || got[0].Detail["seq"] != "1" {
		t.Errorf("%+v", got)
	}
	var log strings.Builder
	b.must(b.audit.Export(t.Context(), "oakhill", audit.Query{}, audit.JSONLines, &log))
	if strings.Contains(log.String(), messageText) {
		t.Error("the audit log holds the text")
	}
}

// quietZone is one in which it is not the last minute of the day, which is quiet for
// nobody here.
func quietZone() string {
	for _, zone := range []string{"UTC", "Asia/Kolkata"} {
		if l, err := time.LoadLocation(zone); err == nil && time.Now().In(l).Format("15") != "23" {
			return zone
		}
	}
	return "UTC"
}

// TestErasedFromDisk: when a tenant was erased, none of the files of the box has its
// people or what they wrote; before, they have.
func TestErasedFromDisk(t *testing.T) {
	b := newBox(t)
	_, tokens := b.people("zebedee")
	c := b.connect(client.Options{Token: tokens["zebedee"]})
	room, err := group(c, im.KindGroup, "the mauve room", "r")
	b.must(err)
	_, err = c.Send(t.Context(), client.Outgoing{Conversation: room, Text: messageText})
	b.must(err)
	b.must(c.Close())
	holds := func() (found []string) {
		b.must(filepath.WalkDir(b.dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(name)
			if os.IsNotExist(err) {
				return nil // a file of the store that it has just replaced
			}
			for _, secret := range []string{messageText, "zebedee", "the mauve room"} {
				if bytes.Contains(data, []byte(secret)) {
					found = append(found, filepath.Base(name)+" has "+secret)
				}
			}
			return err
		}))
		return found
	}
	if list := holds(); len(list) < 3 {
		t.Fatalf("only %v before: the test looks in the wrong place", list)
	}
	_, err = b.admin.DeleteTenant(t.Context(), "oakhill", true)
	b.must(err)
	if list := holds(); len(list) > 0 {
		t.Errorf("erased, and %v", list)
	}
	b.must(b.end())
	if list := holds(); len(list) > 0 {
		t.Errorf("erased and stopped, and %v", list)
	}
}
