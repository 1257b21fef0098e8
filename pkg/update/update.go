// Package update replaces the server on a box without internet: it makes and
// checks signed bundles, keeps versions side by side in the data directory,
// chooses at each start which of them runs, and finds the way back by itself.
//
// # Layout
//
//	/usr/bin/pipitd, /usr/bin/pipit     the factory version, in the image or the .deb; never touched
//	/usr/share/pipit/keys/*.pub         keys whose bundles this box takes (the image's)
//	/etc/pipit/keys/*.pub               the same, added by the technician
//	DATA/keys/*.pub                     the same, where /etc is read-only
//	DATA/update.json                    which version runs and how it stands; replaced by one rename
//	DATA/versions/VERSION/              manifest.json, manifest.sig, pipitd, pipit; made once, never changed
//	DATA/versions/.new-…                one that is being unpacked; swept by the next update
//
// DATA is the unit's state directory (/var/lib/pipit). Versions and keys belong
// to whoever owns the factory program, root on a box, and nobody else may write
// to them; update.json belongs to the server's user, because the server itself
// counts its tries and says when it is well. The file system of DATA must allow
// programs to run (no noexec; with NoExecPaths=, ExecPaths=DATA/versions).
//
// # Who decides
//
// The unit's ExecStart= is always the factory /usr/bin/pipitd. Before anything
// else it calls Launch, which reads update.json and, when another version is
// chosen, replaces itself with that by execve(2): same process, same sockets,
// same watchdog. A unit could not fall back from a broken link by itself; this
// can. Launch looks for DATA in $PIPIT_DATA_DIR, then $STATE_DIRECTORY; started
// by hand with --data-dir, pipitd is simply the program that was typed. Each
// start checks the manifest's signature, the program's owner and its SHA-256.
//
//	            Activate            Confirm
//	factory ───────────────► trial ─────────► good
//	   ▲                       │ Fail: MaxTries starts without Confirm, or not
//	   └── previous ◄──────────┘ well within TrialTime, damaged, unreadable data
//
// A version on trial has TrialTime from each start to be ready for SettleTime
// (Trial.Watch, called by the server itself); one that does not even come so far
// is counted out by Launch. `pipit update` watches from outside as well.
//
// # Data formats
//
// A manifest names the store format that its version writes. A version that
// writes an older format than the data have is neither installed nor started. So
// that the way back stays open, a version on trial leaves the format of the data
// as it found it, and raises it at a later start only.
//
// # Cuts
//
// Everything of a version is on stable storage, its folder's name included,
// before update.json names it; update.json is replaced by rename(2) and its
// folder synced. So a cut at any moment leaves the old choice or the new one;
// cut_test.go plays every prefix of the operations, with what was not synced
// lost, kept and torn.
//
// It knows nothing of chat, sockets or systemd and imports nothing of ours but
// the nouns. Functions may be called from any goroutine; two processes that
// update at once are kept apart by a lock on DATA/versions.
package update

import "time"

const (
	// MaxTries is how many starts a version on trial gets. More than one, because
	// somebody may pull the plug in the middle of the first.
	MaxTries = 3
	// TrialTime is how long after its start a version on trial may take to be
	// well; SettleTime is how long it must have been ready without a break.
	TrialTime  = time.Minute
	SettleTime = 10 * time.Second
)

// Names of files in the data directory.
const (
	StateName    = "update.json"
	VersionsName = "versions"
	KeysName     = "keys"
)

// SystemKeyDirs are where keys are looked for beside DATA/keys.
var SystemKeyDirs = []string{"/usr/share/pipit/keys", "/etc/pipit/keys"}
