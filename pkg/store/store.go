// Package store holds the contracts between the domain (chat, directory, auth)
// and what keeps its data: small interfaces, each named for its reader. Back
// ends live below it (badgerstore on the box), and package storetest holds the
// suite that every back end passes and the in-memory model it is compared with.
//
// What every back end promises:
//
//   - Durable: a method that writes returns nil only after everything it wrote
//     is on stable storage, as one atomic step. After any other return nothing
//     of it may be served, before or after a restart; if the back end cannot
//     know (a failed flush), it fails stop: that write and all later ones
//     return im.Unavailable until the store was opened anew.
//   - Sealed: the tenant is part of every key. A method reads and writes what
//     belongs to the tenant it was given and nothing else.
//   - Honest: a record that fails its checksum is never served. Reading it
//     returns an error of kind im.Internal that matches ErrDamaged, names the
//     place, and leaves other records readable.
//   - Full or read-only: im.Unavailable, and nothing was stored; reads go on.
//   - Absent: im.NotFound.
//
// All methods may be called from any goroutine and may block on the disk, so
// never from an event loop. Values passed in may not be changed by the caller
// until the method returns and are not kept; values returned belong to the
// caller and share no memory with the store.
package store

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// ErrDamaged is matched (errors.Is) by errors about records that fail their
// checksum or contradict their place or the log's count.
var ErrDamaged = errors.New("store: damaged record")

// ErrStale is matched by Append when a Write was decided on an outdated head;
// nothing of the batch was stored. With one writer it cannot happen.
var ErrStale = errors.New("store: stale head")

// Store is everything a back end offers; consumers take the part they read.
type Store interface {
	Log
	Convs
	People
	Tokens
	Records
	Box
	Admin
	Close() error
}

// Write is everything that one accepted request stores, in one conversation.
type Write struct {
	Tenant im.TenantID
	// Conv is the conversation's record as it is after the write, or nil when
	// only Members or Key are written. Its Head is the seq of the last of
	// Entries; the record is new if PrevHead is 0 and Create is set.
	Conv     *im.Conversation
	Create   bool   // Conv must not exist yet; for a direct, neither its pair (else im.Exists)
	PrevHead im.Seq // the head that the write was decided on (else ErrStale)
	// Entries are the new entries, PrevHead+1 … Conv.Head without a gap. Append
	// itself derives from them what changes on earlier messages: an edit, recall,
	// reaction or pin entry updates the State of its target, which must be a
	// message of the same log (it may be in the same batch).
	Entries []im.Entry
	Members []im.Member // records to put (joined, left, role, read mark)
	Key     *Key        // remembered with the write, or nil
}

// Key is what is remembered of an idempotency key (PROTOCOL 6.2), at least
// im.KeyMemoryDays of running time (Box.Age).
type Key struct {
	User   im.UserID
	Key    string
	Body   [16]byte  // hash of method and params
	Conv   im.ConvID // the result: conversation, and for an entry its seq and time
	Seq    im.Seq
	Time   im.Millis
	Repeat bool // the first answer was itself "is so already" (PROTOCOL 6.4)
}

// Standing is the reaction of one user with one emoji, or the pin, that is in
// force on a message: the entry that made it so. Seq 0: there never was one.
type Standing struct {
	Seq  im.Seq
	Time im.Millis
	On   bool
}

// Digest is the part of an entry that counting needs.
type Digest struct {
	Seq      im.Seq
	Kind     im.EntryKind
	By       im.UserID
	Target   im.Seq
	Recalled bool // a message that was recalled, as of now
	Mentions []im.UserID
}

// Log is the append-only part: entries, and what they made of messages. It is
// read and written by chat.
type Log interface {
	// Append stores the whole batch in one atomic, durable step (one flush), in
	// order. It draws one im.Change for each Write with a Conv or Members and
	// writes it into w.Conv.Change and each w.Members[i].Change before storing.
	// Errors: ErrStale, im.Exists, im.Unavailable, im.Internal; nothing was
	// stored then.
	Append(ctx context.Context, batch []*Write) error
	// Page returns the entries from ≤ seq ≤ to (at most to-from+1, fewer at the
	// head) as reader sees them: Mine set for that user, Key only on messages by
	// that user, Hidden edits and recalled messages without text. Page.Head and
	// the entries are one snapshot. No such log: im.NotFound.
	Page(ctx context.Context, t im.TenantID, c im.ConvID, reader im.UserID, from, to im.Seq) (im.Page, error)
	// Scan calls fn for the digest of each entry from ≤ seq ≤ to in rising
	// order until fn returns false. The Digest is only valid during the call.
	Scan(ctx context.Context, t im.TenantID, c im.ConvID, from, to im.Seq, fn func(*Digest) bool) error
	// Pins returns the pinned messages that are not recalled, newest pin first,
	// at most limit, as reader sees them.
	Pins(ctx context.Context, t im.TenantID, c im.ConvID, reader im.UserID, limit int) ([]im.Message, error)
	// Kept returns a recalled message whose recall asked to keep its text
	// (im.Entry.Keep), with its text as it was last, for an inquiry. Anything
	// else: im.NotFound.
	Kept(ctx context.Context, t im.TenantID, c im.ConvID, seq im.Seq) (im.Message, error)
	// Reaction returns what is in force of that user's emoji on target; Pin, of
	// the pin on it.
	Reaction(ctx context.Context, t im.TenantID, c im.ConvID, target im.Seq, by im.UserID, emoji string) (Standing, error)
	Pin(ctx context.Context, t im.TenantID, c im.ConvID, target im.Seq) (Standing, error)
	// Key returns what is remembered of a key, or im.NotFound.
	Key(ctx context.Context, t im.TenantID, u im.UserID, key string) (Key, error)
}

// Usage is how much a tenant has.
type Usage struct {
	Conversations int
	// Bytes of keys and values, before compression; an estimate from above.
	Bytes int64
}

// Convs reads conversations and memberships; they are written by Log.Append.
type Convs interface {
	// Conv returns one conversation's record.
	Conv(ctx context.Context, t im.TenantID, c im.ConvID) (im.Conversation, error)
	// Members returns all member records of a conversation, those who left
	// (Role 0) among them, in order of user id.
	Members(ctx context.Context, t im.TenantID, c im.ConvID) ([]im.Member, error)
	// OfUser returns all member records of a user, left ones among them.
	OfUser(ctx context.Context, t im.TenantID, u im.UserID) ([]im.Member, error)
	// Direct returns the direct conversation of two users (any order).
	Direct(ctx context.Context, t im.TenantID, a, b im.UserID) (im.ConvID, error)
	// Channels returns all conversations of kind channel of the tenant.
	Channels(ctx context.Context, t im.TenantID) ([]im.Conversation, error)
	// Usage returns how much a tenant has, for its quota. It looks at every key of
	// the tenant: ask seldom. No such tenant: nothing.
	Usage(ctx context.Context, t im.TenantID) (Usage, error)
	// LastChange returns the store-wide change counter: no Change that was
	// stored is above it, and it never falls, not even over a restart.
	LastChange() im.Change
}

// Credential is what proves a user's password.
type Credential struct {
	PHC     string // argon2id in PHC string format; empty: no password set
	Changed im.Millis
}

// People keeps tenants and users for directory, and credentials for auth.
// Updates are closures: fn gets the old record or nil and returns the new one,
// nil to leave all as it is, or an error, which is handed back as it is with
// nothing stored. fn may be called once only and must not call the store.
type People interface {
	Tenants(ctx context.Context) ([]im.Tenant, error)
	UpdateTenant(ctx context.Context, t im.TenantID, fn func(old *im.Tenant) (*im.Tenant, error)) error
	Users(ctx context.Context, t im.TenantID) ([]im.User, error)
	// UpdateUser fails with im.Exists if another user of the tenant has that
	// Username.
	UpdateUser(ctx context.Context, t im.TenantID, u im.UserID, fn func(old *im.User) (*im.User, error)) error
	Credential(ctx context.Context, t im.TenantID, u im.UserID) (Credential, error)
	UpdateCredential(ctx context.Context, t im.TenantID, u im.UserID, fn func(old *Credential) (*Credential, error)) error
	// EraseTenant deletes every record of the tenant, so that nothing of it is
	// readable afterwards. It is durable when it returns.
	EraseTenant(ctx context.Context, t im.TenantID) error
}

// SignIn is what owns a token (PROTOCOL "Words"). Of the token only a hash is
// kept.
type SignIn struct {
	ID         im.SignInID
	Tenant     im.TenantID
	User       im.UserID
	Hash       [32]byte // SHA-256 of the token
	Device     string   // what the client called itself, for people
	Created    im.Millis
	CreatedAge time.Duration // Box.Age at creation: expiry is judged by it, not by the clock (DESIGN 5.7)
	Lifetime   time.Duration
	// Limited is a token that a person gave to a program and that does not administer.
	// It is never stored: oidcop's view of Tokens sets it.
	Limited bool
}

// Tokens keeps sign-ins for auth.
type Tokens interface {
	PutSignIn(ctx context.Context, s SignIn) error
	// SignIn finds a sign-in by its token's hash.
	SignIn(ctx context.Context, t im.TenantID, hash [32]byte) (SignIn, error)
	SignIns(ctx context.Context, t im.TenantID, u im.UserID) ([]SignIn, error)
	// DeleteSignIns deletes those that pick returns true for and returns them.
	// An empty user means all users of the tenant.
	DeleteSignIns(ctx context.Context, t im.TenantID, u im.UserID, pick func(SignIn) bool) ([]SignIn, error)
}

// Box is what belongs to the box and not to a tenant.
type Box interface {
	Epoch() im.Epoch
	// Now is the wall clock, bounded below by a persisted high-water time, so
	// that it never runs backward over a restart; it goes on with the monotonic
	// clock while the wall clock is behind (DESIGN 5.7).
	Now() time.Time
	// Age is how long this store has been running, over all starts: a persisted
	// counter fed by the monotonic clock. It may lose the last minute at a cut
	// and never jumps.
	Age() time.Duration
	// Probe does one tiny durable write through the same path as Append and
	// returns when it is on stable storage. The watchdog asks it.
	Probe(ctx context.Context) error
	// Setting and SetSetting keep small values of the box by name ([a-z0-9._-]),
	// at most 4 KiB each.
	Setting(ctx context.Context, name string) ([]byte, error)
	SetSetting(ctx context.Context, name string, value []byte) error
}

// State says whether a store takes writes.
type State uint8

// The states of a store.
const (
	Writable State = iota
	Full           // under the low-water mark: reads go on, comes back by itself
	Failed         // a write or flush failed: reads go on, needs a restart
	ReadOnly       // opened read-only, or read-only by configuration
)

// String returns the state's name for people and metrics.
func (s State) String() string {
	return [...]string{"writable", "full", "failed", "read-only"}[s&3]
}

// Stats is a snapshot for metrics and `pipit status`.
type Stats struct {
	State         State
	Reason        string // why it is not Writable, for people
	Entries       uint64 // entries appended since the start
	Batches       uint64 // commits since the start
	BatchWrites   uint64 // writes in them
	SyncNanos     uint64 // time spent in commits, flush included
	LSMBytes      int64
	ValueLogBytes int64
	FreeBytes     int64 // of the file system, for this process
	LowWaterBytes int64 // appends are refused below this
	ReserveBytes  int64 // held by the reserve file
	Scrubbed      uint64
	Damaged       uint64 // damaged records found since the start
	QueueDepth    int    // writers that wait
}

// Damage names one damaged record by its place.
type Damage struct {
	Place string // tenant, kind, conversation and seq; never content
	What  string
}

// Report is the result of Verify.
type Report struct {
	Records uint64
	Bytes   int64
	Entries uint64
	Damages []Damage // at most 1000; Damaged counts all
	Damaged uint64
}

// Admin backs up, restores and checks a store.
type Admin interface {
	// Backup writes a consistent snapshot with a checksum over the whole.
	Backup(ctx context.Context, w io.Writer) error
	// Restore fills an empty store from a backup, all or nothing, and gives it a
	// new Epoch (PROTOCOL 3.7). im.Conflict if the store is not empty, im.Invalid
	// if the backup is damaged, cut short, or from a newer format.
	Restore(ctx context.Context, r io.Reader) error
	// Verify reads every record, checks checksums, places, counts and holes.
	Verify(ctx context.Context, progress func(records uint64)) (Report, error)
	Stats() Stats
}
