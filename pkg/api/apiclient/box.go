package apiclient

// The shapes of what the organisation that keeps the box sees of it, below
// /v1/box.

// BoxState is how the box is now.
type BoxState struct {
	ServerInfo
	Users   int         `json:"users" doc:"Of all organisations."`
	Machine MachineInfo `json:"machine"`
}

// MachineInfo is what the machine says of itself; what it does not say is 0 or
// absent.
type MachineInfo struct {
	Host                 string      `json:"host"`
	Model                string      `json:"model,omitempty"`
	UptimeS              int64       `json:"uptime_s"`
	Load                 float64     `json:"load" doc:"Average of the last minute: how many tasks want a processor."`
	MemoryBytes          int64       `json:"memory_bytes"`
	MemoryAvailableBytes int64       `json:"memory_available_bytes"`
	DiskBytes            int64       `json:"disk_bytes" doc:"Of the file system with the data."`
	DiskFreeBytes        int64       `json:"disk_free_bytes"`
	Celsius              float64     `json:"celsius,omitempty" doc:"Of the processor."`
	Throttling           *Throttling `json:"throttling,omitempty"`
	Card                 *CardInfo   `json:"card,omitempty"`
}

// Throttling is what a Raspberry Pi does to keep itself alive.
type Throttling struct {
	UnderVoltage       bool `json:"under_voltage" doc:"The power supply is too weak."`
	Slowed             bool `json:"slowed" doc:"It runs slower than it could."`
	UnderVoltageBefore bool `json:"under_voltage_before" doc:"Since the start."`
	SlowedBefore       bool `json:"slowed_before" doc:"Since the start."`
}

// CardInfo is the card or disk with the data.
type CardInfo struct {
	Device          string `json:"device"`
	Name            string `json:"name,omitempty"`
	WrittenBytes    int64  `json:"written_bytes,omitempty" doc:"Since the start of the machine."`
	LifeUsedPercent int    `json:"life_used_percent,omitempty" doc:"What it estimates, in steps of ten; SD cards say nothing."`
	Reserve         string `json:"reserve,omitempty" enum:"normal,warning,urgent"`
}

// BoxHistory is the last quarter of an hour.
type BoxHistory struct {
	StepMS  int64       `json:"step_ms" doc:"How long a sample lasts."`
	Samples []BoxSample `json:"samples" nullable:"false" doc:"Oldest first, at most 180."`
}

// BoxSample is one step.
type BoxSample struct {
	At         int64   `json:"at" doc:"UTC milliseconds at its end."`
	People     int     `json:"people"`
	Stored     uint64  `json:"stored" doc:"Entries stored during it."`
	StoreP50US int64   `json:"store_p50_us" doc:"What half of its commits took at most, in microseconds; 0 if there were none."`
	StoreP99US int64   `json:"store_p99_us"`
	DeliverUS  int64   `json:"deliver_us" doc:"The longest that what is stored waited for an event loop."`
	RSSBytes   int64   `json:"rss_bytes"`
	Celsius    float64 `json:"celsius,omitempty"`
}

// Backups is how the backups are.
type Backups struct {
	Key      bool          `json:"key" doc:"There is a key; without one no backup is made."`
	Running  bool          `json:"running" doc:"One that was started here is being made."`
	Tried    int64         `json:"tried,omitempty" doc:"When the last one was made or failed, UTC milliseconds."`
	Verified int64         `json:"verified,omitempty" doc:"When one was last written everywhere and read back whole, UTC milliseconds."`
	Error    string        `json:"error,omitempty" doc:"Of the last one, for people."`
	Places   []BackupPlace `json:"places" nullable:"false"`
	Kept     []KeptBackup  `json:"kept" nullable:"false" doc:"On the box, newest first."`
}

// BackupPlace is where the last backup went.
type BackupPlace struct {
	Place   string `json:"place" enum:"card,stick"`
	At      int64  `json:"at,omitempty" doc:"UTC milliseconds."`
	Records uint64 `json:"records" doc:"Read back from it."`
	Bytes   int64  `json:"bytes"`
	Error   string `json:"error,omitempty"`
	Why     string `json:"why,omitempty" doc:"Of the error, for programs: room, locked, failing, or left out."`
}

// KeptBackup is one file.
type KeptBackup struct {
	Name  string `json:"name"`
	At    int64  `json:"at" doc:"UTC milliseconds."`
	Bytes int64  `json:"bytes"`
}

// NewOrganisation is a tenant with the invitation of its first owner.
type NewOrganisation struct {
	_        struct{} `additionalProperties:"true"`
	ID       string   `json:"id" maxLength:"200" doc:"1–40 of a-z, 0-9, dash, underscore."`
	Name     string   `json:"name,omitempty" maxLength:"1000" doc:"1–120 characters; the id if left out."`
	Kind     string   `json:"kind,omitempty" enum:"school,office,open" doc:"The preset of rules to begin with; open if left out."`
	Username string   `json:"username,omitempty" maxLength:"200" doc:"Of the first owner; left out: the owner chooses."`
	Person   string   `json:"person,omitempty" maxLength:"1000" doc:"The first owner's name for people."`
}

// MadeOrganisation is the tenant and how its owner gets in.
type MadeOrganisation struct {
	Tenant     TenantInfo     `json:"tenant"`
	Invitation MadeInvitation `json:"invitation"`
}

// TenantBounds is what the keeper sets for a tenant; what is left out stays.
type TenantBounds struct {
	_     struct{}  `additionalProperties:"true"`
	Hosts *[]string `json:"hosts,omitempty" nullable:"false" maxItems:"20" doc:"All of them; an empty list removes them."`
	Quota *Quota    `json:"quota,omitempty" nullable:"false" doc:"All five bounds; 0: no bound."`
}

// ProviderTest is what asking a provider of sign-in came to.
type ProviderTest struct {
	OK   bool   `json:"ok"`
	Text string `json:"text,omitempty" doc:"What went wrong, for people."`
}
