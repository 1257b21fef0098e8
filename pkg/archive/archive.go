// Package archive moves a whole tenant: it writes one to an archive, and makes
// one of an archive on a box that lacks it.
//
// It owns the format and nothing else. It reads and writes the store directly, as
// backup and restore do, and only tenants that nobody works with: what Import
// makes is announced by the caller, after it is complete. It knows no HTTP.
//
// # The format, version 1
//
// A ZIP (deflate) of files of JSON lines (UTF-8, one object a line), in this
// order, so that an archive can be read from front to back:
//
//	users.jsonl          {"id","username","name","role","disabled","created"}
//	credentials.jsonl    {"user","phc","changed"}; empty without credentials
//	conversations.jsonl  {"id","kind","title","created","peers","members":[{"user","role","joined","read"}],"head"}
//	entries.jsonl        entries 1 … head of each conversation, in the order of conversations.jsonl:
//	                     {"conversation","seq","time","by","kind",…} as in PROTOCOL 5.1
//	records.jsonl        {"kind","id","value"}: settings, policy, classes, audit log … (value in base64);
//	                     with credentials also second factors and clients of the OpenID provider
//	manifest.json        {"format":1,"tenant":{"id","name","created","suspended"},"credentials","users","conversations","entries","records"}
//
// The manifest comes last and counts the rest: an archive that was cut short has
// none. Texts of recalled messages are in no archive. Sign-ins, invitations, API
// tokens and remembered idempotency keys stay behind: they belong to the running
// time of one box. Ids are kept.
//
// Import is all or nothing over a power cut too: a mark of the box says which
// tenant is half imported, and Recover erases that one at the next start.
//
// Concurrency: Export may run beside everything; what is written meanwhile may
// be in it or not, so a tenant that is to move is suspended first. Import must
// not run twice for one tenant at once; the store refuses the second.
package archive

import (
	"archive/zip"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Store is the part of a store that is moved from and to.
type Store interface {
	store.Log
	store.Convs
	store.People
	store.Records
}

// format is the version that is written; others are refused.
const format = 1

// The bounds of an archive that is read.
const (
	maxLineBytes = 1 << 20
	maxFileBytes = 64 << 30
)

// The files, in their order.
const (
	usersFile       = "users.jsonl"
	credentialsFile = "credentials.jsonl"
	convsFile       = "conversations.jsonl"
	entriesFile     = "entries.jsonl"
	recordsFile     = "records.jsonl"
	manifestFile    = "manifest.json"
)

// Manifest says what is in an archive.
type Manifest struct {
	Format        int    `json:"format"`
	Tenant        tenant `json:"tenant"`
	Credentials   bool   `json:"credentials"`
	Users         int    `json:"users"`
	Conversations int    `json:"conversations"`
	Entries       uint64 `json:"entries"`
	Records       int    `json:"records"`
}

type tenant struct {
	ID        im.TenantID `json:"id"`
	Name      string      `json:"name"`
	Created   im.Millis   `json:"created"`
	Suspended bool        `json:"suspended,omitempty"`
}

type user struct {
	ID       im.UserID `json:"id"`
	Username string    `json:"username"`
	Name     string    `json:"name"`
	Role     string    `json:"role"`
	Disabled bool      `json:"disabled,omitempty"`
	Created  im.Millis `json:"created"`
}

type credential struct {
	User    im.UserID `json:"user"`
	PHC     string    `json:"phc"`
	Changed im.Millis `json:"changed"`
}

type conversation struct {
	ID       im.ConvID   `json:"id"`
	Kind     string      `json:"kind"`
	Title    string      `json:"title,omitempty"`
	Created  im.Millis   `json:"created"`
	Archived bool        `json:"archived,omitempty"`
	Peers    []im.UserID `json:"peers,omitempty"`
	Members  []member    `json:"members"`
	Head     im.Seq      `json:"head"`
}

type member struct {
	User   im.UserID `json:"user"`
	Role   string    `json:"role,omitempty"` // empty: has left
	Joined im.Millis `json:"joined"`
	Read   im.Seq    `json:"read,omitempty"`
}

type entry struct {
	Conv     im.ConvID   `json:"conversation"`
	Seq      im.Seq      `json:"seq"`
	Time     im.Millis   `json:"time"`
	By       im.UserID   `json:"by"`
	Kind     string      `json:"kind"`
	Text     string      `json:"text,omitempty"`
	ReplyTo  im.Seq      `json:"reply_to,omitempty"`
	Mentions []im.UserID `json:"mentions,omitempty"`
	Target   im.Seq      `json:"target,omitempty"`
	Emoji    string      `json:"emoji,omitempty"`
	On       bool        `json:"on,omitempty"`
	User     im.UserID   `json:"user,omitempty"`
	Change   string      `json:"change,omitempty"`
	Role     string      `json:"role,omitempty"`
	Title    string      `json:"title,omitempty"`
}

type record struct {
	Kind  store.RecordKind `json:"kind"`
	ID    string           `json:"id"`
	Value []byte           `json:"value"`
}

// open are the kinds that hold no secret; staying are those that belong to the
// running time of one box. All others move with credentials only.
var (
	open    = []store.RecordKind{store.RecordAudit, store.RecordAuditState, store.RecordTenant, store.RecordPolicy, store.RecordClass, store.RecordRosterUser}
	staying = []store.RecordKind{store.RecordAPIToken, store.RecordInvitation, store.RecordRepeat, store.RecordImport}
)

// Export writes the tenant to w. Errors: im.NotFound, those of the store and of
// w.
func Export(ctx context.Context, s Store, t im.Tenant, credentials bool, w io.Writer) (Manifest, error) {
	x := &export{Store: s, ctx: ctx, t: t.ID, zip: zip.NewWriter(w), m: Manifest{Format: format, Credentials: credentials,
		Tenant: tenant{ID: t.ID, Name: t.Name, Created: t.Created, Suspended: t.Suspended}}}
	if err := x.run(); err != nil {
		return x.m, im.Wrap("archive: export tenant "+string(t.ID), err)
	}
	return x.m, nil
}

type export struct {
	Store
	ctx context.Context
	t   im.TenantID
	zip *zip.Writer
	m   Manifest
}

// lines begins a file and returns what adds a line to it.
func (x *export) lines(name string) (func(any) error, error) {
	f, err := x.zip.Create(name)
	if err != nil {
		return nil, err
	}
	enc := json.NewEncoder(f)
	enc.SetEscapeHTML(false)
	return enc.Encode, nil
}

func (x *export) run() error {
	users, err := x.Users(x.ctx, x.t)
	if err != nil {
		return err
	}
	add, err := x.lines(usersFile)
	if err != nil {
		return err
	}
	for _, u := range users {
		if err := add(user{u.ID, u.Username, u.Name, u.Role.String(), u.Disabled, u.Created}); err != nil {
			return err
		}
	}
	x.m.Users = len(users)
	if err := x.credentials(users); err != nil {
		return err
	}
	convs, err := x.conversations(users)
	if err != nil {
		return err
	}
	if err := x.entries(convs); err != nil {
		return err
	}
	if err := x.records(); err != nil {
		return err
	}
	if add, err = x.lines(manifestFile); err == nil {
		err = add(x.m)
	}
	return errors.Join(err, x.zip.Close())
}

func (x *export) credentials(users []im.User) error {
	add, err := x.lines(credentialsFile)
	if err != nil || !x.m.Credentials {
		return err
	}
	for _, u := range users {
		c, err := x.Credential(x.ctx, x.t, u.ID)
		if im.Is(err, im.NotFound) {
			continue
		}
		if err == nil {
			err = add(credential{u.ID, c.PHC, c.Changed})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// conversations writes every conversation that a user is or was in: there is no
// other.
func (x *export) conversations(users []im.User) ([]conversation, error) {
	seen := map[im.ConvID]bool{}
	var ids []im.ConvID
	for _, u := range users {
		places, err := x.OfUser(x.ctx, x.t, u.ID)
		if err != nil {
			return nil, err
		}
		for _, p := range places {
			if !seen[p.Conv] {
				seen[p.Conv] = true
				ids = append(ids, p.Conv)
			}
		}
	}
	slices.Sort(ids)
	add, err := x.lines(convsFile)
	if err != nil {
		return nil, err
	}
	var out []conversation
	for _, id := range ids {
		rec, err := x.Conv(x.ctx, x.t, id)
		if err != nil {
			return nil, err
		}
		members, err := x.Members(x.ctx, x.t, id)
		if err != nil {
			return nil, err
		}
		c := conversation{ID: id, Kind: rec.Kind.String(), Title: rec.Title, Created: rec.Created, Head: rec.Head, Archived: rec.Archived}
		if rec.Kind == im.KindDirect {
			c.Peers = rec.Peers[:]
		}
		for _, m := range members {
			c.Members = append(c.Members, member{m.User, m.Role.String(), m.Joined, min(m.Read, rec.Head)})
		}
		if err := add(c); err != nil {
			return nil, err
		}
		c.Members = nil
		out = append(out, c)
	}
	x.m.Conversations = len(out)
	return out, nil
}

func (x *export) entries(convs []conversation) error {
	add, err := x.lines(entriesFile)
	if err != nil {
		return err
	}
	for _, c := range convs {
		for from := im.Seq(1); from <= c.Head; {
			to := min(from+im.MaxHistoryPage-1, c.Head)
			page, err := x.Page(x.ctx, x.t, c.ID, "", from, to)
			if err != nil {
				return err
			}
			for i := range page.Entries {
				m := &page.Entries[i]
				e := entry{Conv: c.ID, Seq: m.Seq, Time: m.Time, By: m.By, Kind: m.Kind.String(), ReplyTo: m.ReplyTo, Mentions: m.Mentions,
					Target: m.Target, Emoji: m.Emoji, On: m.On, User: m.User, Change: m.Change.String(), Role: m.Role.String(), Title: m.Title}
				if !m.Recalled && !m.Hidden {
					e.Text = m.Entry.Text // as it was sent; its edits are entries of their own
				}
				if err := add(e); err != nil {
					return err
				}
			}
			x.m.Entries += uint64(len(page.Entries))
			from = to + 1
		}
	}
	return nil
}

func (x *export) records() error {
	add, err := x.lines(recordsFile)
	if err != nil {
		return err
	}
	for k := store.RecordKind(1); k < 255; k++ {
		if slices.Contains(staying, k) || !x.m.Credentials && !slices.Contains(open, k) {
			continue
		}
		for after := ""; ; {
			page, err := x.ListRecords(x.ctx, x.t, k, "", after, 200)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				break
			}
			after = page[len(page)-1].ID
			for _, r := range page {
				if err := add(record{k, r.ID, r.Value}); err != nil {
					return err
				}
				x.m.Records++
			}
		}
	}
	return nil
}

// reader reads one file of an archive line by line.
type reader struct {
	name string
	f    io.ReadCloser
	s    *bufio.Scanner
	n    int
}

func (r *reader) next(v any) (bool, error) {
	if !r.s.Scan() {
		if err := r.s.Err(); err != nil {
			return false, damaged("%s can't be read after line %d: %v", r.name, r.n, err)
		}
		return false, nil
	}
	r.n++
	if err := json.Unmarshal(r.s.Bytes(), v); err != nil {
		return false, damaged("%s, line %d is not what it should be: %v", r.name, r.n, err)
	}
	return true, nil
}

func damaged(format string, args ...any) error {
	return im.E(im.Invalid, "This is not a complete archive of an organisation: "+format+". Nothing was imported.", args...).OnField("archive")
}

func openFile(z *zip.Reader, name string) (*reader, error) {
	f, err := z.Open(name)
	if err != nil {
		return nil, damaged("it has no %s", name)
	}
	s := bufio.NewScanner(io.LimitReader(f, maxFileBytes))
	s.Buffer(make([]byte, 64<<10), maxLineBytes)
	return &reader{name: name, f: f, s: s}, nil
}

// each calls fn for each line of a file.
func each[T any](z *zip.Reader, name string, fn func(*T) error) (int, error) {
	r, err := openFile(z, name)
	if err != nil {
		return 0, err
	}
	defer r.f.Close()
	for {
		v := new(T)
		ok, err := r.next(v)
		if err == nil && ok {
			err = fn(v)
		}
		if err != nil || !ok {
			return r.n, err
		}
	}
}

// parallel runs what is given to add, at most 64 at once, so that the store's
// group commit shares flushes; wait returns the first error.
type parallel struct {
	wg    sync.WaitGroup
	slots chan struct{}
	mu    sync.Mutex
	err   error
}

func newParallel() *parallel { return &parallel{slots: make(chan struct{}, 64)} }

func (p *parallel) add(fn func() error) {
	p.slots <- struct{}{}
	p.wg.Go(func() {
		if err := fn(); err != nil {
			p.mu.Lock()
			p.err = errors.Join(p.err, err)
			p.mu.Unlock()
		}
		<-p.slots
	})
}

func (p *parallel) wait() error {
	p.wg.Wait()
	return p.err
}
