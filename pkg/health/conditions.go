package health

// The conditions, in the order in which they are listed. One row each: whoever
// notices something sets it by name, and nothing else needs to know.
var (
	Starting = &Kind{Code: "starting", Severity: Watch, NotReady: true,
		Title: "The server is starting",
		Text:  "It is opening its store and does not serve anybody yet.",
		Hint:  "Wait. A start after a power cut takes longer than others."}
	Stopping = &Kind{Code: "stopping", Severity: Watch, NotReady: true,
		Title: "The server is stopping",
		Text:  "It takes no new connections and closes those that are open.",
		Hint:  "Clients come back by themselves when it runs again."}
	StoreFailed = &Kind{Code: "store-failed", Severity: Act, NotReady: true,
		Title: "The store has failed",
		Text:  "A write did not reach the disk, so nothing more is accepted. What was acknowledged before is safe.",
		Hint:  "Restart the server. If this comes back, the disk or card is dying: make a backup with `pipit backup`, then replace it."}
	StoreReadOnly = &Kind{Code: "store-read-only", Severity: Act,
		Title: "The store is read-only",
		Text:  "Everything can be read, nothing new is accepted.",
		Hint:  "If storage.read_only was not set on purpose, look in the log for the write that failed, and at the disk."}
	StoreDamaged = &Kind{Code: "store-damaged", Severity: Act,
		Title: "Stored records are damaged",
		Text:  "Records were found whose checksum is wrong. They are not shown to anybody; all others are.",
		Hint:  "Run `pipit verify` for the list, and restore them from a backup with `pipit restore`. Replace the disk or card if the number grows."}
	DiskFull = &Kind{Code: "disk-full", Severity: Act,
		Title: "The disk is full",
		Text:  "Free space is below storage.low_water_bytes, so nothing new is accepted. Reading goes on.",
		Hint:  "Make room. Accepting comes back by itself, without a restart."}
	DiskShort = &Kind{Code: "disk-short", Severity: Watch,
		Title: "The disk is nearly full",
		Text:  "There is room for a while, but not for long.",
		Hint:  "Remove what is not needed, or move to a larger disk or card with `pipit backup` and `pipit restore`."}
	ReserveSpent = &Kind{Code: "reserve-spent", Severity: Watch,
		Title: "The reserve file is used up",
		Text:  "The last start needed the room that is kept for starting on a full disk. Another one may fail.",
		Hint:  "Make room. The file is made again by itself."}
	ClockUntrusted = &Kind{Code: "clock-untrusted", Severity: Watch,
		Title: "The clock is not set",
		Text:  "The time of this box was neither fetched from a network nor set by hand. Messages keep their order, but may show a wrong time.",
		Hint:  "Connect the box to a network with a time server, or set the clock: `sudo pipit clock set \"YYYY-MM-DD HH:MM\"`."}
	DescriptorsLow = &Kind{Code: "descriptors-low", Severity: Watch,
		Title: "Too few file descriptors",
		Text:  "The process may open fewer files than limits.connections asks for; the rest would be turned away.",
		Hint:  "Set LimitNOFILE= of the unit (`systemctl edit pipit`) above limits.connections, or lower that."}
	MemoryShort = &Kind{Code: "memory-short", Severity: Watch,
		Title: "Memory is short",
		Text:  "The server is close to its memory limit and becomes slower before it stops growing.",
		Hint:  "Raise MemoryMax= of the unit, lower limits.connections, or use a board with more memory."}
	CertificateExpiring = &Kind{Code: "certificate-expiring", Severity: Act,
		Title: "The TLS certificate ends soon",
		Text:  "When it has ended, browsers and apps refuse to connect.",
		Hint:  "Put the new one at tls.cert and tls.key, then `systemctl reload pipit`."}
	BackupFailed = &Kind{Code: "backup-failed", Severity: Act,
		Title: "The last backup failed",
		Text:  "If the card dies now, what was written since the last good backup is lost.",
		Hint:  "Mend what it says, then `sudo pipit backup --nightly`."}
	BackupMissing = &Kind{Code: "backup-missing", Severity: Watch,
		Title: "There is no recent backup",
		Text:  "If the card dies, everything since the last backup is lost.",
		Hint:  "Make a key once with `sudo pipit backup key`; then the box backs up each night. A USB stick labelled PIPIT-BACKUP gets a copy."}
	LocalCAFailed = &Kind{Code: "local-ca-failed", Severity: Watch,
		Title: "There is no certificate for HTTPS",
		Text:  "The box's own authority could not be opened or could not make a certificate. People reach the box without encryption only.",
		Hint:  "Look at `pipit cert`; make room on the card if it is full."}
	RestartNeeded = &Kind{Code: "restart-needed", Severity: Watch,
		Title: "Changed settings wait for a restart",
		Text:  "The last reload found changes that only a restart can make.",
		Hint:  "Run `systemctl restart pipit` when it suits; people are reconnected within seconds."}
	MetricsOff = &Kind{Code: "metrics-off", Severity: Watch,
		Title: "Metrics are not served",
		Text:  "The address of metrics.listen could not be had. Everything else works.",
		Hint:  "Choose another address with metrics.listen, or \"\" for none, and restart when it suits."}
	SettingsRejected = &Kind{Code: "settings-rejected", Severity: Watch,
		Title: "The last reload was refused",
		Text:  "The settings have an error, so the old ones stay in force. The next start would fail.",
		Hint:  "Run `pipitd --check`, mend what it names, then `systemctl reload pipit`."}
)

// Kinds returns every condition there is, in listing order. The caller may
// change the slice, not what it points to.
func Kinds() []*Kind {
	return []*Kind{StoreFailed, StoreDamaged, StoreReadOnly, DiskFull, CertificateExpiring, BackupFailed,
		Starting, Stopping, DiskShort, ReserveSpent, ClockUntrusted, BackupMissing, DescriptorsLow, MemoryShort, LocalCAFailed, RestartNeeded, SettingsRejected, MetricsOff}
}
