package apiclient

import "encoding/json"

// The shapes of the bodies. They stand here, beside the client that every tool
// uses, and package api serves the same declarations, so that the two cannot
// drift apart. The tags other than json are the OpenAPI document's.

// User is a user as others of the tenant see him.
type User struct {
	ID       string `json:"id" doc:"The user's id."`
	Username string `json:"username" doc:"The name to sign in with."`
	Name     string `json:"name" doc:"The name for people."`
	Role     string `json:"role" enum:"owner,admin,staff,member,guest,guardian,bot" doc:"The role in the tenant."`
}

// Tenant is the organisation that the caller belongs to.
type Tenant struct {
	ID   string `json:"id" doc:"The tenant's id."`
	Name string `json:"name" doc:"The organisation's name."`
}

// Person is a user as administrators see him.
type Person struct {
	User
	Disabled bool  `json:"disabled"`
	Created  int64 `json:"created" doc:"UTC milliseconds."`
}

// People is a page of users.
type People struct {
	Users []Person `json:"users" nullable:"false"`
	Next  string   `json:"next,omitempty" doc:"Goes into cursor for the next page."`
}

// NewPerson is the body that makes a user.
type NewPerson struct {
	_        struct{} `additionalProperties:"true"`
	Username string   `json:"username" maxLength:"200" doc:"1–64 bytes: letters, digits, dot, dash, underscore."`
	Name     string   `json:"name,omitempty" maxLength:"1000" doc:"1–120 characters; the user name if left out."`
	Role     string   `json:"role" enum:"owner,admin,staff,member,guest,guardian,bot"`
	Password string   `json:"password,omitempty" maxLength:"4096" doc:"At least 8 characters; without one the user can't sign in yet."`
	// Temporary passwords are replaced at the first sign-in.
	Temporary bool `json:"temporary,omitempty" doc:"The user has to replace the password at the first sign-in."`
}

// PersonChange is the body that changes a user; what is left out stays.
type PersonChange struct {
	_        struct{} `additionalProperties:"true"`
	Name     *string  `json:"name,omitempty" nullable:"false" maxLength:"1000"`
	Role     *string  `json:"role,omitempty" nullable:"false" enum:"owner,admin,staff,member,guest,guardian,bot"`
	Disabled *bool    `json:"disabled,omitempty" nullable:"false" doc:"A disabled user's sockets close with 4102."`
}

// NewPassword is the body that sets a password.
type NewPassword struct {
	_        struct{} `additionalProperties:"true"`
	Password string   `json:"password" maxLength:"4096" doc:"At least 8 characters."`
	// Temporary passwords are replaced at the next sign-in.
	Temporary bool `json:"temporary,omitempty" doc:"The user has to replace it at the next sign-in."`
}

// TenantChange is the body that changes a tenant; what is left out stays.
type TenantChange struct {
	_    struct{} `additionalProperties:"true"`
	Name *string  `json:"name,omitempty" nullable:"false" maxLength:"1000"`
}

// ServerInfo is what `pipit status` shows.
type ServerInfo struct {
	Version     string   `json:"version"`
	PID         int      `json:"pid"`
	UptimeS     int64    `json:"uptime_s"`
	Ready       bool     `json:"ready"`
	DataDir     string   `json:"data_dir"`
	Listen      []string `json:"listen" nullable:"false" doc:"Addresses that serve people, as host:port."`
	ListenTLS   []string `json:"listen_tls" nullable:"false"`
	Epoch       string   `json:"epoch"`
	Tenants     int      `json:"tenants"`
	Connections int      `json:"connections" doc:"Open sockets, of which sessions are signed in."`
	Sessions    int      `json:"sessions"`
	People      int      `json:"people" doc:"Users with sessions, or offline for less than five seconds."`
	Messages    uint64   `json:"messages" doc:"Entries stored since the start."`
	Commits     uint64   `json:"commits" doc:"Group commits since the start, one flush each."`
	// Of the last minute.
	MessagesPerMinute uint64          `json:"messages_per_minute" doc:"Entries stored in the last minute."`
	CommitP50US       int64           `json:"commit_p50_us" doc:"What half of the last minute's commits took at most, flush included, in microseconds; 0 if there were none."`
	CommitP99US       int64           `json:"commit_p99_us" doc:"The same of 99 in 100."`
	RSSBytes          int64           `json:"rss_bytes"`
	MemoryLimit       int64           `json:"memory_limit_bytes" doc:"GOMEMLIMIT; 0 if none."`
	Descriptors       DescriptorInfo  `json:"descriptors"`
	Store             StoreInfo       `json:"store"`
	Conditions        []ConditionInfo `json:"conditions" nullable:"false" doc:"What is wrong with the box, worst first; empty when all is well."`
}

// DescriptorInfo counts open files of the server process.
type DescriptorInfo struct {
	Open  int `json:"open"`
	Limit int `json:"limit"`
}

// StoreInfo is the state of the store.
type StoreInfo struct {
	State         string `json:"state" enum:"writable,full,failed,read-only"`
	Reason        string `json:"reason,omitempty"`
	Bytes         int64  `json:"bytes"`
	FreeBytes     int64  `json:"free_bytes"`
	LowWaterBytes int64  `json:"low_water_bytes"`
	ReserveBytes  int64  `json:"reserve_bytes"`
	Damaged       uint64 `json:"damaged" doc:"Damaged records found since the start."`
}

// ConditionInfo is one named condition of the box.
type ConditionInfo struct {
	Code     string `json:"code"`
	Severity string `json:"severity" enum:"watch,act"`
	Title    string `json:"title"`
	Text     string `json:"text"`
	Hint     string `json:"hint"`
	Since    int64  `json:"since" doc:"UTC milliseconds."`
	// The end of a name says what is counted.
	Figures map[string]int64 `json:"figures,omitempty" doc:"The numbers of the text in brackets, to say it in another language: names that end in _bytes, in _ms for a time in UTC milliseconds (0: never), or the number of things."`
}

// TenantInfo is a tenant as the box's operator sees it.
type TenantInfo struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Suspended bool   `json:"suspended"`
	Created   int64  `json:"created"`
	ErasedIn  int64  `json:"erased_in,omitempty" doc:"Deleted: seconds of running time until it is erased."`
}

// NewTenant is the body that makes a tenant.
type NewTenant struct {
	ID   string `json:"id" maxLength:"200" doc:"1–40 of a-z, 0-9, dash, underscore."`
	Name string `json:"name,omitempty" maxLength:"1000" doc:"1–120 characters; the id if left out."`
}

// TenantPatch is the body that changes a tenant; what is left out stays.
type TenantPatch struct {
	Name      *string `json:"name,omitempty" nullable:"false" maxLength:"1000"`
	Suspended *bool   `json:"suspended,omitempty" nullable:"false" doc:"A suspended tenant's sockets close with 4202."`
}

// BulkPeople makes many users at once; they have no password.
type BulkPeople struct {
	Users  []NewPerson `json:"users" nullable:"false" maxItems:"1000"`
	Tokens bool        `json:"tokens,omitempty" doc:"Sign each of them in and answer with the tokens."`
}

// BulkPerson is one of the users made, with a token if asked for.
type BulkPerson struct {
	Person
	Token string `json:"token,omitempty"`
}

// IssuedToken is a sign-in made by the operator for a user.
type IssuedToken struct {
	Token   string `json:"token"`
	Expires int64  `json:"expires"`
	User    User   `json:"user"`
}

// VerifyReport is the result of reading every record.
type VerifyReport struct {
	Records uint64       `json:"records"`
	Bytes   int64        `json:"bytes"`
	Entries uint64       `json:"entries"`
	Damaged uint64       `json:"damaged"`
	Damages []DamageInfo `json:"damages" nullable:"false" doc:"At most 1000 of them."`
}

// DamageInfo names a damaged record by its place.
type DamageInfo struct {
	Place string `json:"place"`
	What  string `json:"what"`
}

// TenantList is the answer that lists tenants.
type TenantList struct {
	Tenants []TenantInfo `json:"tenants" nullable:"false"`
}

// BulkAnswer is the answer to BulkPeople, in the order asked.
type BulkAnswer struct {
	Users []BulkPerson `json:"users" nullable:"false"`
}

// SignOut is the body that ends the sign-in which owns a token.
type SignOut struct {
	Token string `json:"token" maxLength:"400"`
}

// Grant is the answer to a sign-in (PROTOCOL 9.2).
type Grant struct {
	Token         string   `json:"token,omitempty" doc:"Goes into Authorization: Bearer, and into session.hello. Absent with cookie."`
	Expires       int64    `json:"expires" doc:"UTC milliseconds; an estimate while the box's clock is not trusted."`
	User          User     `json:"user"`
	Tenant        Tenant   `json:"tenant"`
	RecoveryCodes []string `json:"recovery_codes,omitempty" nullable:"false" doc:"After totp_setup: each lets in once without the app. Shown this once."`
}

// SessionInfo is one sign-in.
type SessionInfo struct {
	ID      string `json:"id"`
	Device  string `json:"device,omitempty" doc:"What the client called the device."`
	Created int64  `json:"created" doc:"UTC milliseconds."`
	Expires int64  `json:"expires" doc:"UTC milliseconds."`
	Current bool   `json:"current,omitempty" doc:"The one that asks."`
}

// SessionList is a user's sign-ins, newest first; there are at most 64.
type SessionList struct {
	Sessions []SessionInfo `json:"sessions" nullable:"false"`
}

// Security is how an account is secured.
type Security struct {
	Password           bool          `json:"password" doc:"One is set."`
	MustChangePassword bool          `json:"must_change_password,omitempty" doc:"At the next sign-in."`
	TOTP               bool          `json:"totp" doc:"A code of an authenticator app is asked for."`
	RecoveryCodes      int           `json:"recovery_codes" doc:"How many are left."`
	Passkeys           []PasskeyInfo `json:"passkeys" nullable:"false"`
}

// PasskeyInfo is one passkey of a user.
type PasskeyInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Host    string `json:"host" doc:"The host name where it counts."`
	Created int64  `json:"created" doc:"UTC milliseconds."`
	Used    int64  `json:"used,omitempty" doc:"UTC milliseconds."`
}

// Me is who asks.
type Me struct {
	User     User     `json:"user"`
	Tenant   Tenant   `json:"tenant"`
	Security Security `json:"security"`
}

// OwnPassword changes one's own password.
type OwnPassword struct {
	_           struct{} `additionalProperties:"true"`
	Password    string   `json:"password" maxLength:"4096" doc:"The one that counts now."`
	NewPassword string   `json:"new_password" maxLength:"4096" doc:"At least 8 characters."`
}

// Reauthentication proves once more who one is, before something grave.
type Reauthentication struct {
	_        struct{} `additionalProperties:"true"`
	Password string   `json:"password" maxLength:"4096"`
	TOTP     string   `json:"totp,omitempty" maxLength:"100" doc:"A code or a recovery code, if the account has a second factor."`
}

// TOTPSecret is what an authenticator app needs. It is shown once.
type TOTPSecret struct {
	Secret string `json:"secret" doc:"Base32."`
	URI    string `json:"uri" doc:"otpauth://, for a QR code."`
}

// RecoveryCodes each let in once without the app. They are shown once.
type RecoveryCodes struct {
	Codes []string `json:"recovery_codes" nullable:"false"`
}

// PasskeyOptions begin a ceremony in the browser.
type PasskeyOptions struct {
	State   string          `json:"state" doc:"To be given back with the result, within 5 minutes."`
	Options json.RawMessage `json:"options" doc:"For navigator.credentials.create or get (WebAuthn, base64url members)."`
}

// PasskeyResult is what the browser answered.
type PasskeyResult struct {
	_      struct{}        `additionalProperties:"true"`
	State  string          `json:"state" maxLength:"100"`
	Name   string          `json:"name,omitempty" maxLength:"1000" doc:"What the person calls the passkey; at a sign-in, the device."`
	Result json.RawMessage `json:"result" doc:"The PublicKeyCredential in its JSON form."`
}

// Invitation lets one person in, once.
type Invitation struct {
	ID       string   `json:"id"`
	User     string   `json:"user,omitempty" doc:"The account that it is for; absent: it makes one."`
	Role     string   `json:"role"`
	Classes  []string `json:"classes,omitempty" nullable:"false"`
	Username string   `json:"username,omitempty"`
	Name     string   `json:"name,omitempty"`
	Created  int64    `json:"created" doc:"UTC milliseconds."`
	Expires  int64    `json:"expires" doc:"UTC milliseconds."`
}

// InvitationList is a page of invitations.
type InvitationList struct {
	Invitations []Invitation `json:"invitations" nullable:"false"`
	Next        string       `json:"next,omitempty" doc:"Goes into cursor for the next page."`
}

// NewInvitation is the body that makes an invitation.
type NewInvitation struct {
	_         struct{} `additionalProperties:"true"`
	User      string   `json:"user,omitempty" maxLength:"200" doc:"The id of an account that exists already; the person chooses a password for it."`
	Role      string   `json:"role,omitempty" enum:"owner,admin,staff,member,guest,guardian,bot" doc:"Of the account to make; default member."`
	Classes   []string `json:"classes,omitempty" nullable:"false" maxItems:"100"`
	Username  string   `json:"username,omitempty" maxLength:"200" doc:"Of the account to make; absent: the person chooses."`
	Name      string   `json:"name,omitempty" maxLength:"1000"`
	ExpiresIn int64    `json:"expires_in,omitempty" minimum:"0" doc:"Seconds of running time; default 14 days, at most 90."`
}

// MadeInvitation is an invitation with its code, which is shown this once.
type MadeInvitation struct {
	Invitation
	Code string `json:"code" doc:"16 characters in groups of four; works once."`
	Path string `json:"path" doc:"For a link or QR code: the server's address and this."`
}

// InvitationView is what the person sees who has a code.
type InvitationView struct {
	Tenant   Tenant `json:"tenant"`
	Role     string `json:"role"`
	Username string `json:"username,omitempty"`
	Name     string `json:"name,omitempty"`
	Existing bool   `json:"existing" doc:"The account is there already: only a password is chosen."`
}

// AcceptInvitation is the body that uses a code.
type AcceptInvitation struct {
	_        struct{} `additionalProperties:"true"`
	Tenant   string   `json:"tenant,omitempty" maxLength:"200"`
	Code     string   `json:"code" maxLength:"200"`
	Username string   `json:"username,omitempty" maxLength:"200" doc:"Unless the invitation says it."`
	Name     string   `json:"name,omitempty" maxLength:"1000"`
	Password string   `json:"password" maxLength:"4096" doc:"At least 8 characters."`
	Device   string   `json:"device,omitempty" maxLength:"200"`
}

// APIToken lets a program in.
type APIToken struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	Scopes    []string `json:"scopes" nullable:"false"`
	User      string   `json:"user" doc:"The id of the user that it acts for."`
	CreatedBy string   `json:"created_by,omitempty"`
	Created   int64    `json:"created" doc:"UTC milliseconds."`
	Expires   int64    `json:"expires" doc:"UTC milliseconds."`
}

// APITokenList is all API tokens of a tenant, newest first; there are at most 200.
type APITokenList struct {
	Tokens []APIToken `json:"tokens" nullable:"false"`
}

// NewAPIToken is the body that makes an API token.
type NewAPIToken struct {
	_         struct{} `additionalProperties:"true"`
	Name      string   `json:"name" maxLength:"1000" doc:"Which program has it."`
	Scopes    []string `json:"scopes" nullable:"false" minItems:"1" maxItems:"20"`
	User      string   `json:"user,omitempty" maxLength:"200" doc:"The id of the user that it acts for; default: who makes it."`
	ExpiresIn int64    `json:"expires_in,omitempty" minimum:"0" doc:"Seconds of running time; default a year."`
}

// MadeAPIToken is an API token with the token itself, which is shown this once.
type MadeAPIToken struct {
	APIToken
	Token string `json:"token"`
}

// AuditEvent is one event of the audit log.
type AuditEvent struct {
	Seq    uint64            `json:"seq"`
	Time   int64             `json:"time" doc:"UTC milliseconds."`
	Action string            `json:"action" doc:"Such as user.create."`
	Actor  AuditActor        `json:"actor"`
	Object string            `json:"object,omitempty" doc:"Such as user/u_…."`
	Name   string            `json:"name,omitempty" doc:"What the object was called."`
	Addr   string            `json:"addr,omitempty"`
	Result string            `json:"result" doc:"ok, or the kind of the error."`
	Detail map[string]string `json:"detail,omitempty"`
}

// AuditActor is who did it.
type AuditActor struct {
	Kind string `json:"kind" doc:"user, program, operator, system or nobody."`
	ID   string `json:"id,omitempty"`
	Name string `json:"name,omitempty"`
	User string `json:"user,omitempty" doc:"The user that a program acted for."`
}

// AuditPage is a page of the audit log, newest first.
type AuditPage struct {
	Events []AuditEvent `json:"events" nullable:"false"`
	Next   string       `json:"next,omitempty" doc:"Goes into cursor for the next page; a page may be short or empty and still have one."`
}

// TenantSettings is what owners and admins set for their organisation.
type TenantSettings struct {
	Hosts     []string `json:"hosts" nullable:"false" doc:"Host names that select the organisation. The operator sets them."`
	StaffTOTP bool     `json:"staff_totp" doc:"Owners, admins and staff need a second factor."`
	AuditDays int      `json:"audit_days" minimum:"1" maximum:"3650" doc:"How long audit events are kept, days of running time."`
	Quota     Quota    `json:"quota" doc:"What the operator allows; 0: no bound."`
	Usage     Usage    `json:"usage"`
	Keeper    bool     `json:"keeper,omitempty" doc:"Its owners look after the box: /v1/box."`
}

// SettingsChange changes settings; what is left out stays.
type SettingsChange struct {
	_         struct{} `additionalProperties:"true"`
	StaffTOTP *bool    `json:"staff_totp,omitempty" nullable:"false"`
	AuditDays *int     `json:"audit_days,omitempty" nullable:"false" minimum:"1" maximum:"3650"`
}

// Quota bounds a tenant; 0: no bound.
type Quota struct {
	Users          int   `json:"users" minimum:"0"`
	Conversations  int   `json:"conversations" minimum:"0"`
	StoredBytes    int64 `json:"stored_bytes" minimum:"0"`
	SendsPerMinute int   `json:"sends_per_minute" minimum:"0"`
	Connections    int   `json:"connections" minimum:"0"`
}

// Usage is what a tenant has of what a quota bounds.
type Usage struct {
	Users         int   `json:"users"`
	Conversations int   `json:"conversations"`
	StoredBytes   int64 `json:"stored_bytes" doc:"An estimate: keys and values of everything stored, before compression."`
	Connections   int   `json:"connections"`
}

// PersonDetail is a user with what administrators see of the account.
type PersonDetail struct {
	Person
	Security Security `json:"security"`
}

// SetupCode is the one-time code of a box that is not set up yet.
type SetupCode struct {
	Code string `json:"code" doc:"Typed into the browser that sets the box up."`
}

// TenantDetail is a tenant with what is set for it.
type TenantDetail struct {
	TenantInfo
	Settings TenantSettings `json:"settings"`
}

// BoxSettings changes what is set for a tenant; what is left out stays.
type BoxSettings struct {
	Hosts     *[]string `json:"hosts,omitempty" nullable:"false" maxItems:"20" doc:"All of them; an empty list removes them."`
	Quota     *Quota    `json:"quota,omitempty" nullable:"false" doc:"All five bounds; 0: no bound."`
	Keeper    *bool     `json:"keeper,omitempty" nullable:"false" doc:"true: its owners look after the box from their browsers, and nobody else's; false: nobody's, if it was this one."`
	StaffTOTP *bool     `json:"staff_totp,omitempty" nullable:"false"`
	AuditDays *int      `json:"audit_days,omitempty" nullable:"false" minimum:"1" maximum:"3650"`
}
