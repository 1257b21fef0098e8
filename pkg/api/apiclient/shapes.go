package apiclient

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
}

// TenantChange is the body that changes a tenant; what is left out stays.
type TenantChange struct {
	_    struct{} `additionalProperties:"true"`
	Name *string  `json:"name,omitempty" nullable:"false" maxLength:"1000"`
}

// ServerInfo is what `pipit status` shows.
type ServerInfo struct {
	Version     string          `json:"version"`
	PID         int             `json:"pid"`
	UptimeS     int64           `json:"uptime_s"`
	Ready       bool            `json:"ready"`
	DataDir     string          `json:"data_dir"`
	Listen      []string        `json:"listen" nullable:"false" doc:"Addresses that serve people, as host:port."`
	ListenTLS   []string        `json:"listen_tls" nullable:"false"`
	Epoch       string          `json:"epoch"`
	Tenants     int             `json:"tenants"`
	Connections int             `json:"connections" doc:"Open sockets, of which sessions are signed in."`
	Sessions    int             `json:"sessions"`
	Messages    uint64          `json:"messages" doc:"Entries stored since the start."`
	Commits     uint64          `json:"commits" doc:"Group commits since the start, one flush each."`
	RSSBytes    int64           `json:"rss_bytes"`
	MemoryLimit int64           `json:"memory_limit_bytes" doc:"GOMEMLIMIT; 0 if none."`
	Descriptors DescriptorInfo  `json:"descriptors"`
	Store       StoreInfo       `json:"store"`
	Conditions  []ConditionInfo `json:"conditions" nullable:"false" doc:"What is wrong with the box, worst first; empty when all is well."`
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
}

// TenantInfo is a tenant as the box's operator sees it.
type TenantInfo struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Suspended bool   `json:"suspended"`
	Created   int64  `json:"created"`
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
