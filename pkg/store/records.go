package store

import (
	"context"

	"github.com/pipit-im/pipit/pkg/im"
)

// RecordKind names a collection of small documents. The numbers are on disk:
// never renumber, never use one again. Each kind belongs to the one package that
// reads and writes it, which also owns the encoding of its values.
type RecordKind uint8

// Where the kinds come from, so that two packages never draw the same number:
// 1–19 tenants, accounts and the audit log; 20–39 classes, rosters and policy;
// 40–59 sign-in for and through others; 60–79 the box itself.

// The kinds of tenants, accounts and the audit log.
const (
	RecordAudit        RecordKind = 1 // audit: number of the event → event; of the box too
	RecordAuditState   RecordKind = 2 // audit: "state" → numbers of the first and last event
	RecordTenant       RecordKind = 3 // directory: "settings" → settings of the tenant; of the box, "keeper" → who keeps it
	RecordAPIToken     RecordKind = 5 // auth: hash of the token → auth.APIToken
	RecordInvitation   RecordKind = 6 // auth: hash of the code → auth.Invitation
	RecordAccount      RecordKind = 7 // auth: user → second factor, passkeys
	RecordRepeat       RecordKind = 8 // api: hash of an Idempotency-Key → answer
	RecordHalfImported RecordKind = 9 // archive, of the box: tenant whose import is under way
)

// The kinds of directory (20–24) and roster (25–29).
const (
	RecordPolicy     RecordKind = 20 // a tenant's rules; one record, id "policy"
	RecordClass      RecordKind = 21 // by class id
	RecordRosterUser RecordKind = 22 // by user id
	RecordImport     RecordKind = 25 // the journal of a roster import that is under way
)

// The kinds of sign-in for and through others.
const (
	RecordOIDCKey     RecordKind = 40 // oidcop: key id → signing key
	RecordOIDCClient  RecordKind = 41 // oidcop: client id → client
	RecordOIDCConsent RecordKind = 42 // oidcop: user "/" client → scopes agreed to
	RecordOIDCGrant   RecordKind = 43 // oidcop: user "/" grant → grant
	RecordOIDCToken   RecordKind = 44 // oidcop: hash of an access token → user "/" grant
	RecordProvider    RecordKind = 50 // oidcrp: provider id → provider
	RecordLink        RecordKind = 51 // oidcrp: provider "/" hash of the subject → user
)

// The bounds of records.
const (
	MaxRecordID    = 128      // bytes of an id: printable ASCII without the space
	MaxRecordBytes = 64 << 10 // bytes of a value
	MaxRecordsPage = 1000     // records that one listing returns
)

// Record is one document of a collection. Value belongs to the caller.
type Record struct {
	ID    string
	Value []byte
}

// Records keeps small documents that have no contract of their own: settings of
// a tenant, invitations, clients, keys, the audit log. They are kept by tenant,
// kind and id; the empty tenant is the box itself. Nothing here is on a
// message's walk.
type Records interface {
	// Record returns one value. No such record, or no such tenant: im.NotFound.
	Record(ctx context.Context, t im.TenantID, k RecordKind, id string) ([]byte, error)
	// ListRecords returns the records whose id begins with prefix and is above
	// after, in byte order of the id, at most limit (clamped to 1…MaxRecordsPage).
	// It is one snapshot. No such tenant: none.
	ListRecords(ctx context.Context, t im.TenantID, k RecordKind, prefix, after string, limit int) ([]Record, error)
	// UpdateRecords runs fn and stores what it put and deleted as one atomic,
	// durable step that shares its flush with whatever else is being written. An
	// error of fn is handed back as it is and nothing is stored. fn runs once, on
	// the store's own goroutine: it must be quick and must not call the store. No
	// such tenant: im.NotFound (a tenant is there from its first stored record,
	// whichever contract made it, until EraseTenant). A bad id: im.Invalid, too
	// large a value: im.TooLarge; nothing is stored then.
	UpdateRecords(ctx context.Context, t im.TenantID, fn func(RecordTx) error) error
}

// RecordTx is what fn of UpdateRecords reads and writes: the records as they are
// with its own changes on top. It is valid until fn returns.
type RecordTx interface {
	Get(k RecordKind, id string) ([]byte, error)
	List(k RecordKind, prefix, after string, limit int) ([]Record, error)
	Put(k RecordKind, id string, value []byte)
	Delete(k RecordKind, id string) // of what is not there: nothing happens
}

// CheckRecord says what is wrong with a record's id or the size of its value;
// back ends call it.
func CheckRecord(id string, value []byte) error {
	if len(id) == 0 || len(id) > MaxRecordID {
		return im.E(im.Invalid, "a record's id has 1 to %d bytes", MaxRecordID)
	}
	for i := range len(id) {
		if id[i] <= ' ' || id[i] > '~' {
			return im.E(im.Invalid, "a record's id is printable ASCII")
		}
	}
	if len(value) > MaxRecordBytes {
		return &im.Error{Kind: im.TooLarge, Message: "too large for one record", Limit: MaxRecordBytes}
	}
	return nil
}
