package metrics

// Values of labels that several metrics share.
var (
	methods = []string{
		"session.hello", "session.ping",
		"conversation.list", "conversation.find", "conversation.direct", "conversation.create", "conversation.get",
		"conversation.update", "conversation.join", "conversation.leave", "conversation.invite", "conversation.remove",
		"conversation.set_role", "conversation.members", "user.search", "user.get",
		"message.send", "message.history", "message.edit", "message.recall", "message.react", "message.pin", "message.pins",
		"read.mark", "read.list", "typing", "presence.watch", "presence.set",
	}
	// ok, and the error kinds of PROTOCOL 2.
	outcomes = []string{"ok", "bad_params", "invalid", "unauthenticated", "forbidden", "not_found", "exists", "conflict",
		"too_large", "rate_limited", "unavailable", "internal"}

	// From 50 µs, a write in memory, to 3 s, a card that is busy with itself.
	durations = []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 3}
	sizes     = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000}
)

// netloop: sockets and frames.
var (
	NetConnections = &Def{Name: "pipit_netloop_connections", Type: TypeGauge, Help: "Open connections of all kinds."}
	NetAccepted    = &Def{Name: "pipit_netloop_accepted_total", Help: "Connections that were accepted."}
	NetRefused     = &Def{Name: "pipit_netloop_refused_total", Help: "Connections that were turned away.",
		Labels: []Label{{"cause", []string{"limit", "address_limit", "descriptors", "head", "handshake", "timeout"}}}}
	NetUpgraded   = &Def{Name: "pipit_netloop_upgraded_total", Help: "Connections that became a WebSocket."}
	NetHTTP       = &Def{Name: "pipit_netloop_http_total", Help: "Connections that were handed to HTTP."}
	NetFramesIn   = &Def{Name: "pipit_netloop_received_frames_total", Help: "WebSocket frames read."}
	NetFramesOut  = &Def{Name: "pipit_netloop_sent_frames_total", Help: "WebSocket frames written."}
	NetBytesIn    = &Def{Name: "pipit_netloop_received_bytes_total", Help: "Bytes read from sockets."}
	NetBytesOut   = &Def{Name: "pipit_netloop_sent_bytes_total", Help: "Bytes written to sockets."}
	NetWrites     = &Def{Name: "pipit_netloop_writes_total", Help: "System calls that wrote."}
	NetGathered   = &Def{Name: "pipit_netloop_gathered_frames_total", Help: "Frames that left together with an earlier one in one system call."}
	NetViolations = &Def{Name: "pipit_netloop_violations_total", Help: "Connections closed for breaking RFC 6455 or a bound, by close code.",
		Labels: []Label{{"code", []string{"1002", "1003", "1007", "1009"}}}}
	NetSlow     = &Def{Name: "pipit_netloop_slow_consumers_total", Help: "Connections closed because too much output waited (4001)."}
	NetQueued   = &Def{Name: "pipit_netloop_queued_bytes", Type: TypeGauge, Help: "Output that waits for clients to read."}
	NetTimeouts = &Def{Name: "pipit_netloop_timeouts_total", Help: "Connections closed for being silent or slow.",
		Labels: []Label{{"cause", []string{"first_byte", "head", "handshake", "heartbeat", "write"}}}}
	NetTurns   = &Def{Name: "pipit_netloop_turns_total", Help: "Turns of all event loops."}
	NetMailbox = &Def{Name: "pipit_netloop_mailbox_tasks", Type: TypeGauge, Help: "Tasks that wait for an event loop."}
	NetLag     = &Def{Name: "pipit_netloop_lag_seconds", Type: TypeHistogram, Buckets: durations, Help: "Time from posting a probe to an event loop until it ran."}
)

// gateway: sessions and requests.
var (
	GatewaySessions = &Def{Name: "pipit_gateway_sessions", Type: TypeGauge, Help: "Signed-in sessions."}
	GatewayRequests = &Def{Name: "pipit_gateway_requests_total", Help: "Requests and notifications, by method and how they ended.",
		Labels: []Label{{"method", methods}, {"outcome", outcomes}}}
	GatewayDecodeErrors = &Def{Name: "pipit_gateway_decode_errors_total", Help: "Messages that are no request (PROTOCOL 2).",
		Labels: []Label{{"kind", []string{"parse", "request", "method", "params"}}}}
	GatewayClosed = &Def{Name: "pipit_gateway_closed_total", Help: "Sessions that ended, by close code.",
		Labels: []Label{{"code", []string{"1000", "1001", "1002", "1003", "1006", "1007", "1009", "1011", "4001", "4002", "4101", "4102", "4201", "4202"}}}}
)

// commit: from a decision to stable storage.
var (
	CommitBatch   = &Def{Name: "pipit_commit_batch_writes", Type: TypeHistogram, Buckets: sizes, Help: "Writes that shared one transaction and one flush."}
	CommitSeconds = &Def{Name: "pipit_commit_duration_seconds", Type: TypeHistogram, Buckets: durations, Help: "One transaction, flush included."}
	CommitQueued  = &Def{Name: "pipit_commit_queued_writes", Type: TypeGauge, Help: "Writes that wait for the commit goroutine."}
	CommitEntries = &Def{Name: "pipit_commit_entries_total", Help: "Entries on stable storage."}
	CommitRefused = &Def{Name: "pipit_commit_refused_total", Help: "Writes that were refused.",
		Labels: []Label{{"cause", []string{"queue", "unavailable", "internal"}}}}
	CommitRepeats = &Def{Name: "pipit_commit_repeats_total", Help: "Requests whose key was known already (PROTOCOL 6.2)."}
)

// hub: deliveries on this node.
var (
	HubFanout     = &Def{Name: "pipit_hub_fanout_sessions", Type: TypeHistogram, Buckets: sizes, Help: "Sessions that one event went to."}
	HubEvents     = &Def{Name: "pipit_hub_events_total", Help: "Events that were encoded, each once."}
	HubDeliveries = &Def{Name: "pipit_hub_deliveries_total", Help: "Events handed to a connection."}
	HubGathered   = &Def{Name: "pipit_hub_gathered_events_total", Help: "Events that waited a moment for others of a busy conversation."}
	HubDropped    = &Def{Name: "pipit_hub_dropped_total", Help: "Ephemeral events that were dropped (PROTOCOL 8).",
		Labels: []Label{{"kind", []string{"typing", "presence", "read"}}}}
)

// bus: events between nodes.
var (
	BusPublished = &Def{Name: "pipit_bus_published_total", Help: "Events published."}
	BusDropped   = &Def{Name: "pipit_bus_dropped_total", Help: "Presence leases that found no room, and events lost on the way, which the log repairs."}
)

// auth: sign-in.
var (
	AuthAttempts = &Def{Name: "pipit_auth_attempts_total", Help: "Passwords and tokens that were shown, by what came of it.",
		Labels: []Label{{"outcome", []string{"ok", "wrong", "disabled", "throttled_account", "throttled_address", "busy"}}}}
	AuthQueued  = &Def{Name: "pipit_auth_queued_hashes", Type: TypeGauge, Help: "Passwords that wait to be hashed."}
	AuthSeconds = &Def{Name: "pipit_auth_hash_duration_seconds", Type: TypeHistogram, Buckets: durations, Help: "Hashing one password."}
)

// api: REST.
var APIRequests = &Def{Name: "pipit_api_requests_total", Help: "REST requests, by class of status.",
	Labels: []Label{{"status", []string{"2xx", "3xx", "4xx", "5xx"}}}}

// store: the disk.
var (
	StoreLSM      = &Def{Name: "pipit_store_tables_bytes", Type: TypeGauge, Help: "Size of the tables (LSM)."}
	StoreValueLog = &Def{Name: "pipit_store_value_log_bytes", Type: TypeGauge, Help: "Size of the value log."}
	StoreFree     = &Def{Name: "pipit_store_free_bytes", Type: TypeGauge, Help: "Free space of the disk."}
	StoreLowWater = &Def{Name: "pipit_store_low_water_bytes", Type: TypeGauge, Help: "Free space below which nothing is accepted."}
	StoreReserve  = &Def{Name: "pipit_store_reserve_bytes", Type: TypeGauge, Help: "Size of the reserve file; 0 when it was given up."}
	StoreWritable = &Def{Name: "pipit_store_writable", Type: TypeGauge, Help: "1 while writes are accepted."}
	StoreDamaged  = &Def{Name: "pipit_store_damaged_records", Type: TypeGauge, Help: "Records whose checksum is wrong."}
	StoreScrubbed = &Def{Name: "pipit_store_scrubbed_records_total", Help: "Records that the slow check has read; it begins anew when it is through."}
)

// HealthCondition has one series for each condition of package health. The list
// stands here again because nothing imports its own storey; a test compares.
var HealthCondition = &Def{Name: "pipit_health_condition", Type: TypeGauge, Help: "1 while the condition holds.",
	Labels: []Label{{"code", []string{"store-failed", "store-damaged", "store-read-only", "disk-full", "certificate-expiring",
		"backup-failed", "starting", "stopping", "disk-short", "reserve-spent", "clock-untrusted", "backup-missing", "descriptors-low", "memory-short", "local-ca-failed",
		"restart-needed", "settings-rejected", "metrics-off"}}}}

// Defs returns every declared metric, in the order of a message's walk. The
// caller may change the slice, not what it points to.
func Defs() []*Def {
	return []*Def{
		NetConnections, NetAccepted, NetRefused, NetUpgraded, NetHTTP, NetFramesIn, NetFramesOut, NetBytesIn, NetBytesOut,
		NetWrites, NetGathered, NetViolations, NetSlow, NetQueued, NetTimeouts, NetTurns, NetMailbox, NetLag,
		GatewaySessions, GatewayRequests, GatewayDecodeErrors, GatewayClosed,
		CommitBatch, CommitSeconds, CommitQueued, CommitEntries, CommitRefused, CommitRepeats,
		HubFanout, HubEvents, HubDeliveries, HubGathered, HubDropped,
		BusPublished, BusDropped,
		AuthAttempts, AuthQueued, AuthSeconds,
		APIRequests,
		StoreLSM, StoreValueLog, StoreFree, StoreLowWater, StoreReserve, StoreWritable, StoreDamaged, StoreScrubbed,
		HealthCondition,
	}
}
