// Package sysd is where the server meets the machine it runs on: sockets that
// systemd hands over, readiness and watchdog messages, the journal's line
// format, and the process's own bounds (memory, descriptors).
//
// It owns the variables NOTIFY_SOCKET, WATCHDOG_*, LISTEN_*, JOURNAL_STREAM and
// GOMEMLIMIT; nobody else reads them. It knows nothing of chat and decides
// nothing: what counts as progress is told to it as Probes. Run by hand, without
// systemd, every function does the sensible nothing.
//
// go-systemd is imported here and nowhere else. Functions may be called from
// any goroutine but Listeners, which takes descriptors over once, at the start.
//
// Contracts: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3),
// sd-daemon(3), systemd.exec(5) for JOURNAL_STREAM.
package sysd

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Names of sockets (FileDescriptorName= of the socket unit).
const (
	HTTP  = "http"  // plain: web page, WebSocket, REST
	HTTPS = "https" // the same over TLS
)

// Listeners takes over the sockets that systemd passed (LISTEN_FDS), by name;
// the map is empty without socket activation. A socket of another name, or one
// that does not listen on TCP, is an error, and then none is kept open. The
// caller owns the listeners. A second call returns nothing.
func Listeners() (map[string][]net.Listener, error) {
	files := activation.Files(true)
	out := map[string][]net.Listener{}
	var bad []string
	for _, f := range files {
		l, err := net.FileListener(f) // a duplicate
		f.Close()
		name := f.Name()
		if err != nil {
			bad = append(bad, fmt.Sprintf("%q is no listening socket: %v (Accept=yes is not supported)", name, err))
			continue
		}
		if _, tcp := l.(*net.TCPListener); !tcp || (name != HTTP && name != HTTPS) {
			l.Close()
			bad = append(bad, fmt.Sprintf("%q (%s): want a TCP socket with FileDescriptorName=%s or %s", name, l.Addr().Network(), HTTP, HTTPS))
			continue
		}
		out[name] = append(out[name], l)
	}
	if len(bad) == 0 {
		return out, nil
	}
	for _, ls := range out {
		for _, l := range ls {
			l.Close()
		}
	}
	slices.Sort(bad)
	return nil, fmt.Errorf("sockets from systemd: %s", strings.Join(bad, "; "))
}

// Ready tells systemd that the start, or a reload, is complete, and what
// `systemctl status` shows.
func Ready(status string) error {
	return notify(daemon.SdNotifyReady, "STATUS="+oneLine(status))
}

// Reloading tells systemd that settings are being read again; Ready ends it.
func Reloading() error {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return fmt.Errorf("monotonic clock: %w", err)
	}
	// Type=notify-reload wants the moment, to tell this reload from an older one.
	return notify(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", ts.Nano()/int64(time.Microsecond)))
}

// Stopping tells systemd that a stop has begun.
func Stopping(status string) error {
	return notify(daemon.SdNotifyStopping, "STATUS="+oneLine(status))
}

// Status changes what `systemctl status` shows.
func Status(status string) error { return notify("STATUS=" + oneLine(status)) }

// feed tells systemd's watchdog that the service is alive.
func feed() error { return notify(daemon.SdNotifyWatchdog) }

// notify sends the assignments as one datagram. Without NOTIFY_SOCKET it does
// nothing.
func notify(assignments ...string) error {
	if _, err := daemon.SdNotify(false, strings.Join(assignments, "\n")); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// oneLine keeps a text from becoming further assignments.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Supervised says whether systemd waits for messages of this process.
func Supervised() bool { return os.Getenv("NOTIFY_SOCKET") != "" }
