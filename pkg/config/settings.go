package config

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	humanize "github.com/dustin/go-humanize"
)

// setting is one row of the table. Everything that is known about a key is
// here: environment name, flag, defaults file and checks follow from it.
type setting struct {
	key string
	// def is the default as one would write it in the file.
	def string
	// doc is what the key means, in whole sentences.
	doc string
	// allowed says what check accepts; example is one value that it does.
	allowed, example string
	// field points into the Config: *string, *int, *int64, *bool,
	// *time.Duration, *slog.Level or *[]string.
	field func(*Config) any
	// size says that an integer counts bytes and may be written as 64MiB.
	size bool
	// min and max bound numbers (durations in nanoseconds), both inclusive.
	min, max int64
	// zero allows 0 beside the bounds.
	zero bool
	// check looks at text and at each element of a list, and may rewrite it.
	check func(string) (string, error)
	// reload: SIGHUP changes it without a restart.
	reload bool
	// environmental defaults are printed as a comment, because what they are
	// depends on where the server runs.
	environmental bool
}

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
	// maxInt32 keeps sizes within an int on the 32-bit boards.
	maxInt32 = int64(1)<<31 - 1

	durations = "a duration with its unit (ms, s, m, h)"
)

// settings is the table. Its order is that of the printed file.
var settings = []setting{
	{key: "listen", def: "127.0.0.1:8080", check: address, example: "0.0.0.0:8080", allowed: `address:port, or "" for none`,
		doc:   "Where people connect without TLS: web page, WebSocket and REST on one port. Sockets that systemd hands over under the name http replace it.",
		field: func(c *Config) any { return &c.Listen }},
	{key: "listen_tls", def: "", check: address, example: "0.0.0.0:8443", allowed: `address:port, or "" for none`,
		doc:   "The same with TLS, with tls.cert or with the box's own authority (tls.local_ca). Sockets named https replace it.",
		field: func(c *Config) any { return &c.ListenTLS }},
	{key: "data_dir", def: "./var", check: notEmpty, example: "/var/lib/pipit", allowed: "a directory", environmental: true,
		doc:   "Where everything is stored. Under systemd the default is the unit's state directory.",
		field: func(c *Config) any { return &c.DataDir }},
	{key: "origins", def: "", check: origin, example: "https://chat.example.org", allowed: "a list of scheme://host[:port] or host[:port], without wildcards",
		doc:   "Web pages of other hosts that may open a WebSocket here (PROTOCOL 1.3). The server's own host is always allowed.",
		field: func(c *Config) any { return &c.Origins }},
	{key: "loops", def: "0", max: 256, example: "4", allowed: "a number from 0 to 256",
		doc:   "Event loops. 0 is one for each core.",
		field: func(c *Config) any { return &c.Loops }},

	{key: "tls.cert", def: "", reload: true, example: "/etc/pipit/cert.pem", allowed: "a PEM file",
		doc:   "The certificate chain, the server's own certificate first.",
		field: func(c *Config) any { return &c.TLS.Cert }},
	{key: "tls.key", def: "", reload: true, example: "/etc/pipit/key.pem", allowed: "a PEM file",
		doc:   "The private key of that certificate.",
		field: func(c *Config) any { return &c.TLS.Key }},

	{key: "tls.local_ca", def: "auto", check: oneOf("auto", "off"), example: "auto", allowed: "auto or off",
		doc:   "auto: where TLS is served and tls.cert is not set, the box makes an authority of its own in data_dir/tls and a certificate for its names in the local network; the page /ca explains how to trust it.",
		field: func(c *Config) any { return &c.TLS.LocalCA }},

	{key: "metrics.listen", def: "127.0.0.1:9090", check: address, example: "127.0.0.1:9090", allowed: `address:port, or "" to switch it off`,
		doc:   "Where Prometheus may fetch /metrics. It is a listener of its own, so that the public one never shows it (PROTOCOL 9.4).",
		field: func(c *Config) any { return &c.Metrics.Listen }},

	{key: "log.level", def: "info", reload: true, example: "info", allowed: "debug, info, warn or error",
		doc:   "The least important lines that are written.",
		field: func(c *Config) any { return &c.Log.Level }},
	{key: "log.format", def: "auto", check: oneOf("auto", "text", "json"), example: "auto", allowed: "auto, text or json",
		doc:   "auto is text on a terminal, lines with a priority for the journal under systemd, JSON elsewhere.",
		field: func(c *Config) any { return &c.Log.Format }},

	{key: "limits.sends_per_minute", def: "120", min: 1, max: 1_000_000, reload: true, example: "120", allowed: "a number from 1 to 1000000",
		doc:   "Messages and other entries that one user may append in a minute; as many at once (PROTOCOL 6.6).",
		field: func(c *Config) any { return &c.Limits.SendsPerMinute }},
	{key: "limits.frame_bytes", def: "64KiB", size: true, min: 4 * kib, max: 16 * mib, reload: true, example: "64KiB", allowed: "a size from 4KiB to 16MiB",
		doc:   "The longest message of a client, over all its WebSocket fragments (PROTOCOL 1.2). At least three times limits.text_bytes and 8KiB.",
		field: func(c *Config) any { return &c.Limits.FrameBytes }},
	{key: "limits.text_bytes", def: "16KiB", size: true, min: 1, max: mib, reload: true, example: "16KiB", allowed: "a size from 1 byte to 1MiB",
		doc:   "The longest text of one chat message in UTF-8 (PROTOCOL 6.1).",
		field: func(c *Config) any { return &c.Limits.TextBytes }},
	{key: "limits.connections", def: "20000", min: 1, max: 1_000_000, reload: true, example: "20000", allowed: "a number from 1 to 1000000",
		doc:   "Open connections of all kinds. More are turned away; those that are open keep working.",
		field: func(c *Config) any { return &c.Limits.Connections }},
	{key: "limits.connections_per_address", def: "5000", max: 1_000_000, reload: true, example: "5000", allowed: "a number from 1 to 1000000, or 0 for no bound of its own",
		doc:   "Open connections of one address. The default lets a whole school through one router or access point (4000 people, and some with two devices), and still leaves three quarters of limits.connections when one address runs wild.",
		field: func(c *Config) any { return &c.Limits.ConnectionsPerAddress }},
	{key: "limits.output_bytes", def: "256KiB", size: true, min: 16 * kib, max: 64 * mib, example: "256KiB", allowed: "a size from 16KiB to 64MiB",
		doc:   "What may wait for one client that does not read. Above it the connection is closed with 4001 and the client resumes; nothing is lost. At least six times limits.text_bytes and 8KiB.",
		field: func(c *Config) any { return &c.Limits.OutputBytes }},
	{key: "limits.sessions_per_user", def: "32", min: 1, max: 100_000, reload: true, example: "32", allowed: "a number from 1 to 100000",
		doc:   "Open sessions of one user, over all devices and browser tabs.",
		field: func(c *Config) any { return &c.Limits.SessionsPerUser }},
	{key: "limits.signins_per_minute_per_address", def: "600", min: 1, max: 1_000_000, reload: true, example: "600", allowed: "a number from 1 to 1000000",
		doc:   "Passwords that are judged for one address in a minute. The default lets a school behind one router sign in on a Monday morning at the pace at which a small board can hash.",
		field: func(c *Config) any { return &c.Limits.SigninsPerMinutePerAddr }},
	{key: "limits.signins_per_hour_per_account", def: "20", min: 1, max: 1_000_000, reload: true, example: "20", allowed: "a number from 1 to 1000000",
		doc:   "Passwords that are judged for one account in an hour, from wherever they come; this is what stops guessing.",
		field: func(c *Config) any { return &c.Limits.SigninsPerHourPerAccount }},
	{key: "limits.password_hashes", def: "2", min: 1, max: 64, reload: true, example: "2", allowed: "a number from 1 to 64",
		doc:   "Passwords that are hashed at the same time; others wait. Each takes memory and a core.",
		field: func(c *Config) any { return &c.Limits.PasswordHashes }},
	{key: "limits.heartbeat", def: "30s", min: int64(time.Second), max: int64(10 * time.Minute), example: "30s", allowed: durations + " from 1s to 10m",
		doc:   "A session that was silent for so long is pinged, and closed after three times that (PROTOCOL 3.8).",
		field: func(c *Config) any { return &c.Limits.Heartbeat }},

	{key: "storage.low_water_bytes", def: "192MiB", size: true, min: 8 * mib, max: 1024 * gib, example: "192MiB", allowed: "a size from 8MiB to 1TiB",
		doc:   "Free space of the disk below which no message is accepted any more (reading goes on, and accepting comes back by itself). At least four memtables and 8MiB.",
		field: func(c *Config) any { return &c.Storage.LowWaterBytes }},
	{key: "storage.reserve_bytes", def: "32MiB", size: true, min: mib, max: 16 * gib, example: "32MiB", allowed: "a size from 1MiB to 16GiB",
		doc:   "Size of a reserve file that a start on a full disk gives up, to be able to open the store.",
		field: func(c *Config) any { return &c.Storage.ReserveBytes }},
	{key: "storage.memtable_bytes", def: "8MiB", size: true, min: 2 * mib, max: 256 * mib, example: "8MiB", allowed: "a size from 2MiB to 256MiB",
		doc:   "Memory of one table of newest records before it goes to its own file.",
		field: func(c *Config) any { return &c.Storage.MemtableBytes }},
	{key: "storage.cache_bytes", def: "8MiB", size: true, min: mib, max: maxInt32, example: "8MiB", allowed: "a size from 1MiB to 2047MiB",
		doc:   "Memory for blocks and indexes that were read.",
		field: func(c *Config) any { return &c.Storage.CacheBytes }},
	{key: "storage.scrub_interval", def: "168h", min: int64(time.Minute), max: int64(8784 * time.Hour), zero: true, example: "168h", allowed: durations + " from 1m to 8784h, or 0s for never",
		doc:   "How long one slow reading of everything that is stored takes at least. It goes on for ever, to find damage before somebody needs the record.",
		field: func(c *Config) any { return &c.Storage.ScrubInterval }},
	{key: "storage.read_only", def: "false", example: "false", allowed: "true or false",
		doc:   "Serve what is stored and accept nothing new, for a look at a damaged box.",
		field: func(c *Config) any { return &c.Storage.ReadOnly }},

	{key: "memory.limit_bytes", def: "0", size: true, min: 32 * mib, max: 1024 * gib, zero: true, example: "256MiB", allowed: "a size from 32MiB to 1TiB, or 0",
		doc:   "Soft bound of the memory that the Go runtime holds. 0 is 96 MiB, and more while more is in use: up to nine tenths of the limit of the unit or container, or three quarters of the machine.",
		field: func(c *Config) any { return &c.Memory.LimitBytes }},

	{key: "shutdown.timeout", def: "10s", min: int64(time.Second), max: int64(5 * time.Minute), example: "10s", allowed: durations + " from 1s to 5m",
		doc:   "How long a stop may take until connections that do not end are cut. Shorter than the unit's TimeoutStopSec.",
		field: func(c *Config) any { return &c.Shutdown.Timeout }},
}

// set parses text into the field of c. The error says what is wrong with the
// value alone; complain adds the key and what is allowed.
func (s *setting) set(c *Config, text string) error {
	switch p := s.field(c).(type) {
	case *string:
		out, err := s.checked(text)
		*p = out
		return err
	case *[]string:
		*p = nil
		for _, elem := range strings.Split(text, listSeparator) {
			if elem = strings.TrimSpace(elem); elem == "" {
				continue
			}
			out, err := s.checked(elem)
			if err != nil {
				return err
			}
			*p = append(*p, out)
		}
		return nil
	case *bool:
		b, err := strconv.ParseBool(text)
		*p = b
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		return nil
	case *slog.Level:
		lower := strings.ToLower(text)
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
			if lower == strings.ToLower(l.String()) {
				*p = l
				return nil
			}
		}
		return fmt.Errorf("%q is not a level", text)
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration", text)
		}
		*p = d
		return s.bounded(int64(d), text)
	case *int:
		n, err := s.number(text)
		*p = int(n)
		return err
	case *int64:
		n, err := s.number(text)
		*p = n
		return err
	default:
		panic(fmt.Sprintf("config: %s has a field of type %T", s.key, p))
	}
}

// get renders the field of c so that set reads it back.
func (s *setting) get(c *Config) string {
	switch p := s.field(c).(type) {
	case *string:
		return *p
	case *[]string:
		return strings.Join(*p, listSeparator)
	case *slog.Level:
		return strings.ToLower(p.String())
	case *bool:
		return strconv.FormatBool(*p)
	case *time.Duration:
		return p.String()
	case *int:
		return strconv.Itoa(*p)
	case *int64:
		return strconv.FormatInt(*p, 10)
	default:
		panic(fmt.Sprintf("config: %s has a field of type %T", s.key, p))
	}
}

func (s *setting) checked(text string) (string, error) {
	if s.check == nil {
		return text, nil
	}
	return s.check(text)
}

func (s *setting) number(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && s.size {
		var u uint64
		if u, err = humanize.ParseBytes(text); err == nil && u > 1<<62 {
			return 0, fmt.Errorf("%q is out of bounds", text)
		}
		n = int64(u)
	}
	switch {
	case err != nil && s.size:
		return 0, fmt.Errorf("%q is not a size", text)
	case err != nil:
		return 0, fmt.Errorf("%q is not a whole number", text)
	}
	return n, s.bounded(n, text)
}

func (s *setting) bounded(n int64, text string) error {
	if (n < s.min || n > s.max) && !(s.zero && n == 0) {
		return fmt.Errorf("%q is out of bounds", text)
	}
	return nil
}

// complain is the whole line for people: where, key, what is wrong, what is
// allowed, an example.
func (s *setting) complain(where string, err error) string {
	if where != "" {
		where += ": "
	}
	return fmt.Sprintf("%s%s: %v; allowed: %s; for example %s", where, s.key, err, s.allowed, s.example)
}

// address accepts "" and host:port with an IP address, "localhost" or nothing
// as host: a name would have to be looked up before there is a network.
func address(s string) (string, error) {
	if s == "" {
		return s, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return s, fmt.Errorf("%q is not an address with a port", s)
	}
	if _, err := netip.ParseAddr(host); host != "" && host != "localhost" && err != nil {
		return s, fmt.Errorf("%q: %q is not an IP address", s, host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return s, fmt.Errorf("%q: %q is not a port from 0 to 65535", s, port)
	}
	return s, nil
}

func notEmpty(s string) (string, error) {
	if s == "" {
		return s, fmt.Errorf("is empty")
	}
	return s, nil
}

func oneOf(words ...string) func(string) (string, error) {
	return func(s string) (string, error) {
		for _, w := range words {
			if s == w {
				return s, nil
			}
		}
		return s, fmt.Errorf("%q is not one of them", s)
	}
}

// origin accepts what a browser sends as Origin (RFC 6454 §7) or a bare
// host[:port], and returns it in lower case, as a browser would.
func origin(s string) (string, error) {
	text := strings.ToLower(s)
	full := text
	if !strings.Contains(full, "://") {
		full = "https://" + full
	}
	u, err := url.Parse(full)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil ||
		u.Path != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(u.Host, "* ") {
		return s, fmt.Errorf("%q is not an origin", s)
	}
	return text, nil
}
