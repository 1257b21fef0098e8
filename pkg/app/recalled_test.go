package app

import (
	"strings"
	"testing"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// TestRecalled: what somebody takes back under recall=hide is read by an owner and
// by the operator, each time written down; others learn nothing, and the audit log
// holds no text.
func TestRecalled(t *testing.T) {
	b := newBox(t)
	ids, tokens := b.people("ann", "bob")
	_, err := b.admin.AddUser(t.Context(), "oakhill", apiclient.NewPerson{Username: "olga", Name: "Olga", Role: "owner", Password: password})
	b.must(err)
	_, owner := b.signIn("olga", password)
	_, err = b.admin.ChangePolicy(t.Context(), "oakhill", apiclient.PolicyChange{Settings: map[string]string{"recall": "hide"}})
	b.must(err)
	c := b.connect(client.Options{Token: tokens["ann"]})
	var conv im.ConvID
	b.must(c.Call(t.Context(), wire.MethodDirect, &wire.DirectParams{User: ids["bob"]}, func(r []byte) error {
		h, err := wire.DecodeHead(r)
		conv = h.ID
		return err
	}))
	sent, err := c.Send(t.Context(), client.Outgoing{Conversation: conv, Text: messageText})
	b.must(err)
	b.must(c.Call(t.Context(), wire.MethodRecall, &wire.RecallParams{Conversation: conv, Target: sent.Seq, Key: "r1"}, func([]byte) error { return nil }))
	if status, text := b.rest("GET", "/v1/conversations/"+string(conv)+"/messages", tokens["bob"], ""); status != 200 || strings.Contains(text, messageText) {
		t.Errorf("bob still reads it: %d %s", status, text)
	}
	for who, token := range map[string]string{"its author": tokens["ann"], "the other": tokens["bob"]} {
		for _, path := range []string{"?user=ann", "?user=nobody", "/" + string(conv), "/c_none"} {
			if status, text := b.rest("GET", "/v1/recalled"+path, token, ""); status != 403 || strings.Contains(text, messageText) {
				t.Errorf("%s, %s: %d %s", who, path, status, text)
			}
		}
	}
	_, last := b.audited(0)
	if status, text := b.rest("GET", "/v1/recalled?user=bob", owner, ""); status != 200 || !strings.Contains(text, `"kept":1`) || !strings.Contains(text, string(conv)) {
		t.Errorf("list: %d %s", status, text)
	}
	if status, text := b.rest("GET", "/v1/recalled/"+string(conv), owner, ""); status != 200 || !strings.Contains(text, messageText) || !strings.Contains(text, `"username":"ann"`) {
		t.Errorf("read: %d %s", status, text)
	}
	list, err := b.admin.ReadRecalled(t.Context(), "oakhill", string(conv))
	if err != nil || len(list) != 1 || list[0].Text != messageText {
		t.Errorf("the operator reads %v, %v", list, err)
	}
	lines, _ := b.audited(last)
	want := "recalled.list user ok bob conversations=1\nrecalled.read user ok  texts=1\nrecalled.read operator ok  texts=1"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("audited:\n%s\nwant\n%s", got, want)
	}
	var log strings.Builder
	b.must(b.audit.Export(t.Context(), "oakhill", audit.Query{}, audit.JSONLines, &log))
	if strings.Contains(log.String(), messageText) || strings.Contains(b.log.String(), messageText) {
		t.Error("a log holds the text")
	}
}
