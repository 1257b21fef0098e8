package archive

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

const oak = im.TenantID("oakhill")

// school fills a store with a tenant that has something of everything.
func school(t *testing.T) *storetest.Model {
	t.Helper()
	ctx := t.Context()
	s := storetest.NewModel(time.Now)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.UpdateTenant(ctx, oak, func(*im.Tenant) (*im.Tenant, error) {
		return &im.Tenant{ID: oak, Name: "橡树山学校", Created: 5, Suspended: true}, nil
	}))
	for i, u := range []im.UserID{"u_ann", "u_bob", "u_cat"} {
		must(s.UpdateUser(ctx, oak, u, func(*im.User) (*im.User, error) {
			return &im.User{Tenant: oak, ID: u, Username: string(u[2:]), Name: "N " + string(u), Role: im.RoleOwner + im.Role(i), Disabled: i == 2, Created: 7}, nil
		}))
		must(s.UpdateCredential(ctx, oak, u, func(*store.Credential) (*store.Credential, error) {
			return &store.Credential{PHC: "$argon2id$secret-of-" + string(u), Changed: 9}, nil
		}))
	}
	must(s.UpdateRecords(ctx, oak, func(tx store.RecordTx) error {
		tx.Put(store.RecordTenant, "settings", []byte(`{"deleted":{"at":1},"staff_totp":true}`))
		tx.Put(store.RecordAccount, "u_ann", []byte(`{"totp":"SECRET"}`))
		tx.Put(store.RecordAPIToken, "ff", []byte(`{}`))
		for i := range 250 {
			tx.Put(store.RecordAudit, "a"+strings.Repeat("b", i%7)+string(rune('a'+i%26))+time.Duration(i).String(), []byte(`{}`))
		}
		return nil
	}))
	entries := []im.Entry{
		{Kind: im.EntryMember, By: "u_ann", User: "u_bob", Change: im.ChangeJoined, Role: im.MemberMember},
		{Kind: im.EntryMessage, By: "u_ann", Text: "你好, everyone", Mentions: []im.UserID{"u_bob"}},
		{Kind: im.EntryMessage, By: "u_bob", Text: "a text that is taken back", ReplyTo: 2},
		{Kind: im.EntryEdit, By: "u_ann", Target: 2, Text: "你好, all"},
		{Kind: im.EntryReaction, By: "u_bob", Target: 2, Emoji: "👍", On: true},
		{Kind: im.EntryPin, By: "u_ann", Target: 2, On: true},
		{Kind: im.EntryRecall, By: "u_bob", Target: 3},
		{Kind: im.EntryMeta, By: "u_ann", Title: "Class 5a"},
	}
	for range 300 {
		entries = append(entries, im.Entry{Kind: im.EntryMessage, By: "u_bob", Text: strings.Repeat("x", 100)})
	}
	conv := im.Conversation{Tenant: oak, ID: "c_5a", Kind: im.KindGroup, Title: "Class 5a", Created: 100, Members: 2}
	for i := range entries {
		e := &entries[i]
		e.Conv, e.Seq, e.Time = conv.ID, im.Seq(i+1), im.Millis(200+i)
		conv.Head, conv.Last = e.Seq, e.Time
		if e.Kind == im.EntryMessage {
			conv.LastMsg = e.Seq
		}
	}
	direct := im.Conversation{Tenant: oak, ID: "c_d", Kind: im.KindDirect, Created: 50, Last: 50, Members: 2, Peers: [2]im.UserID{"u_ann", "u_bob"}, Archived: true}
	must(s.Append(ctx, []*store.Write{
		{Tenant: oak, Conv: &conv, Create: true, Entries: entries, Members: []im.Member{
			{Conv: "c_5a", User: "u_ann", Role: im.MemberOwner, Joined: 100, Read: 5},
			{Conv: "c_5a", User: "u_bob", Role: im.MemberMember, Joined: 200, Read: 300},
			{Conv: "c_5a", User: "u_cat", Joined: 100}}}, // has left
		{Tenant: oak, Conv: &direct, Create: true, Members: []im.Member{
			{Conv: "c_d", User: "u_ann", Role: im.MemberMember, Joined: 50}, {Conv: "c_d", User: "u_bob", Role: im.MemberMember, Joined: 50}}},
	}))
	return s
}

// state is everything that people can see of the tenant.
func state(t *testing.T, s *storetest.Model) map[string]any {
	t.Helper()
	ctx := t.Context()
	out := map[string]any{}
	keep := func(name string, v any, err error) {
		t.Helper()
		if err != nil && !im.Is(err, im.NotFound) {
			t.Fatal(name, err)
		}
		out[name] = v
	}
	ts, err := s.Tenants(ctx)
	keep("tenants", ts, err)
	us, err := s.Users(ctx, oak)
	keep("users", us, err)
	for _, c := range []im.ConvID{"c_5a", "c_d"} {
		rec, err := s.Conv(ctx, oak, c)
		keep("conv "+string(c), rec, err)
		ms, err := s.Members(ctx, oak, c)
		keep("members "+string(c), ms, err)
		page, err := s.Page(ctx, oak, c, "u_bob", 1, 1000)
		keep("page "+string(c), page, err)
	}
	pins, err := s.Pins(ctx, oak, "c_5a", "u_ann", 10)
	keep("pins", pins, err)
	d, err := s.Direct(ctx, oak, "u_bob", "u_ann")
	keep("direct", d, err)
	return out
}

func exported(t *testing.T, s Store, credentials bool) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := Export(t.Context(), s, im.Tenant{ID: oak, Name: "橡树山学校", Created: 5, Suspended: true}, credentials, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	from := school(t)
	file := exported(t, from, true)
	to := storetest.NewModel(time.Now)
	ten, err := Import(t.Context(), to, bytes.NewReader(file), int64(len(file)))
	if err != nil || ten.ID != oak || !ten.Suspended {
		t.Fatalf("%+v, %v", ten, err)
	}
	same := cmp.Options{cmpopts.IgnoreFields(im.Conversation{}, "Change"), cmpopts.IgnoreFields(im.Member{}, "Change"), cmpopts.IgnoreFields(im.Entry{}, "Key")}
	was, is := state(t, from), state(t, to)
	page := was["page c_5a"].(im.Page)
	page.Entries[2].Entry.Text = "" // what was taken back is in no archive
	if d := cmp.Diff(was, is, same); d != "" {
		t.Error(d)
	}
	if c, err := to.Credential(t.Context(), oak, "u_ann"); err != nil || c.PHC != "$argon2id$secret-of-u_ann" {
		t.Errorf("credential %+v, %v", c, err)
	}
	if v, err := to.Record(t.Context(), oak, store.RecordTenant, "settings"); err != nil || string(v) != `{"staff_totp":true}` {
		t.Errorf("settings %s, %v", v, err)
	}
	if _, err := to.Record(t.Context(), oak, store.RecordAPIToken, "ff"); !im.Is(err, im.NotFound) {
		t.Error("an API token has moved")
	}
	audit, err := to.ListRecords(t.Context(), oak, store.RecordAudit, "", "", 1000)
	if err != nil || len(audit) != 250 {
		t.Errorf("%d audit events, %v", len(audit), err)
	}
	if _, err := Import(t.Context(), to, bytes.NewReader(file), int64(len(file))); !im.Is(err, im.Exists) {
		t.Errorf("imported twice: %v", err)
	}
}

// TestSecrets: without credentials there is no secret in an archive, and never
// what was taken back.
func TestSecrets(t *testing.T) {
	s := school(t)
	for _, credentials := range []bool{false, true} {
		to := storetest.NewModel(time.Now)
		file := exported(t, s, credentials)
		if _, err := Import(t.Context(), to, bytes.NewReader(file), int64(len(file))); err != nil {
			t.Fatal(err)
		}
		_, err := to.Credential(t.Context(), oak, "u_ann")
		_, err2 := to.Record(t.Context(), oak, store.RecordAccount, "u_ann")
		if credentials != (err == nil) || credentials != (err2 == nil) {
			t.Errorf("with credentials %v: %v, %v", credentials, err, err2)
		}
		page, err := to.Page(t.Context(), oak, "c_5a", "u_bob", 3, 3)
		if err != nil || page.Entries[0].Entry.Text != "" {
			t.Errorf("%+v, %v", page, err)
		}
	}
}

// TestAllOrNothing breaks an archive at every place, and the store at every
// write: nothing of the tenant may be left.
func TestAllOrNothing(t *testing.T) {
	file := exported(t, school(t), true)
	empty := state(t, storetest.NewModel(time.Now))
	check := func(what string, s *storetest.Model) {
		t.Helper()
		if d := cmp.Diff(empty, state(t, s)); d != "" {
			t.Errorf("%s: something is left:\n%s", what, d)
		}
		if half, err := s.ListRecords(t.Context(), "", store.RecordHalfImported, "", "", 10); err != nil || len(half) != 0 {
			t.Errorf("%s: a mark is left: %v %v", what, half, err)
		}
	}
	for cut := 0; cut < len(file); cut += 97 {
		s := storetest.NewModel(time.Now)
		if _, err := Import(t.Context(), s, bytes.NewReader(file[:cut]), int64(cut)); !im.Is(err, im.Invalid) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		check("cut", s)
	}
	for at := 0; at < len(file); at += 211 {
		broken := bytes.Clone(file)
		broken[at] ^= 0x40
		s := storetest.NewModel(time.Now)
		if _, err := Import(t.Context(), s, bytes.NewReader(broken), int64(len(broken))); err != nil {
			if !im.Is(err, im.Invalid) && !im.Is(err, im.TooLarge) {
				t.Errorf("byte %d changed: %v", at, err)
			}
			check("changed", s)
		}
	}
	refused := errors.New("no more")
	for n := 2; ; n++ {
		s := storetest.NewModel(time.Now)
		w := &failing{Store: s, left: n, err: refused}
		_, err := Import(t.Context(), w, bytes.NewReader(file), int64(len(file)))
		if err == nil {
			if n < 8 {
				t.Errorf("only %d writes", n)
			}
			break
		}
		if !errors.Is(err, refused) {
			t.Fatal(err)
		}
		// As after a power cut: the process ended, and the next start looks.
		if err := Recover(context.Background(), s); err != nil {
			t.Fatal(err)
		}
		check("store refused", s)
	}
}

// failing is a store that takes so many writes and no more.
type failing struct {
	Store
	left int
	err  error
}

func (f *failing) take() error {
	if f.left--; f.left < 0 {
		return f.err
	}
	return nil
}

func (f *failing) Append(ctx context.Context, b []*store.Write) error {
	if err := f.take(); err != nil {
		return err
	}
	return f.Store.Append(ctx, b)
}

func (f *failing) UpdateRecords(ctx context.Context, t im.TenantID, fn func(store.RecordTx) error) error {
	if err := f.take(); err != nil {
		return err
	}
	return f.Store.UpdateRecords(ctx, t, fn)
}

func (f *failing) EraseTenant(ctx context.Context, t im.TenantID) error {
	if err := f.take(); err != nil {
		return err
	}
	return f.Store.EraseTenant(ctx, t)
}
