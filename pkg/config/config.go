// Package config holds the settings of the server: one table that names every
// key with its default, its bounds and its meaning (settings.go), and Load,
// which fills a typed Config from it.
//
// Sources, each overriding the one before: the defaults, the file
// (/etc/pipit/pipit.yaml, or the one that --config names), the environment
// (PIPIT_…), the command line. Loading is strict: a key that nobody knows is an
// error that names the nearest known one, and a value out of bounds is an error
// that says what is allowed; all errors of a run are reported together.
//
// It owns no state, opens no socket, starts nothing and imports no other
// package of Pipit. A Config is a value: whoever has one may read it from any
// goroutine; nothing here changes it afterwards. viper is imported here and
// nowhere else, with "::" as its key delimiter, so that dots in values and keys
// stay what they are.
//
// The contract is the table; Defaults renders it as a file that parses.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/spf13/viper"
)

// DefaultFile is read when it exists and --config names no other.
const DefaultFile = "/etc/pipit/pipit.yaml"

// Action is what the command line asked for.
type Action uint8

// The actions. Run is the default; the others end the process after printing.
const (
	Run           Action = iota
	Check                // --check: load, say whether it is right, end
	PrintDefaults        // --print-defaults
	Help                 // --help
	Version              // --version
)

// Config is every setting, typed and checked. Sizes are bytes.
type Config struct {
	// Action is what the command line asked for; for Help, Version and
	// PrintDefaults neither file nor environment was looked at.
	Action Action
	// File is the file that was read, "" if none was.
	File string

	Listen    string // plain listener, host:port; "" = none
	ListenTLS string // TLS listener, host:port; "" = none
	TLS       TLS
	DataDir   string
	Origins   []string // lower case scheme://host[:port] or host[:port]
	Loops     int      // event loops; 0 = one a core
	Metrics   Metrics
	Log       Log
	Limits    Limits
	Storage   Storage
	Memory    Memory
	Shutdown  Shutdown
}

// TLS names the certificate; both files are set or both are "".
type TLS struct {
	Cert    string // PEM file, leaf first
	Key     string // PEM file
	LocalCA string // auto or off: the box's own authority where Cert is ""
}

// Metrics is where Prometheus may scrape.
type Metrics struct {
	Listen string // host:port; "" = off
}

// Log is how the server logs.
type Log struct {
	Level  slog.Level
	Format string // auto, text or json
}

// Limits are the bounds that protect the box from its clients.
type Limits struct {
	SendsPerMinute           int           // for each user (PROTOCOL 6.6)
	FrameBytes               int           // one client message over all fragments (PROTOCOL 1.2)
	TextBytes                int           // UTF-8 bytes of one text (PROTOCOL 6.1)
	Connections              int           // open connections, all kinds
	ConnectionsPerAddress    int           // of one address; 0 = no bound of its own
	OutputBytes              int           // queued output of one connection (close 4001 above it)
	SessionsPerUser          int           // open sessions of one user
	SigninsPerMinutePerAddr  int           // password checks for one address
	SigninsPerHourPerAccount int           // password checks for one account
	Heartbeat                time.Duration // silence before a ping (PROTOCOL 3.8)
	PasswordHashes           int           // argon2id computations at once
}

// Storage is how the store uses the disk.
type Storage struct {
	LowWaterBytes int64 // free space below which appends are refused
	ReserveBytes  int64 // size of the reserve file that a start may give up
	MemtableBytes int64
	CacheBytes    int64
	ScrubInterval time.Duration // what one full read takes at least; 0 = never
	ReadOnly      bool
}

// Memory is the soft bound of the Go heap.
type Memory struct {
	LimitBytes int64 // 0 = 96 MiB, raised while more is in use (sysd.SetMemoryLimit)
}

// Shutdown is how the server stops.
type Shutdown struct {
	Timeout time.Duration
}

// Source is where settings come from. The zero value but for Args and Environ
// is what a program wants; tests inject the rest.
type Source struct {
	Args        []string                          // the command line without the program's name
	Environ     []string                          // as os.Environ returns it
	DefaultFile string                            // "" = DefaultFile
	ReadFile    func(name string) ([]byte, error) // nil = os.ReadFile
}

// Error is everything that is wrong with the settings, in the order of the
// file, then the environment, then the command line.
type Error struct {
	Problems []string
}

// Error lists the problems, one a line.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0]
	}
	return fmt.Sprintf("%d problems with the settings:\n  %s", len(e.Problems), strings.Join(e.Problems, "\n  "))
}

// keyDelimiter keeps viper from splitting keys at dots.
const keyDelimiter = "::"

// Load reads all sources. The error, if any, is an *Error or the reason why a
// file could not be read; its text is for people. The Config of a failed Load
// is not to be used.
func Load(src Source) (Config, error) {
	if src.ReadFile == nil {
		src.ReadFile = os.ReadFile
	}
	if src.DefaultFile == "" {
		src.DefaultFile = DefaultFile
	}
	line, err := parseArgs(src.Args)
	if err != nil {
		return Config{}, err
	}
	if line.action == Help || line.action == Version || line.action == PrintDefaults {
		return Config{Action: line.action}, nil
	}

	v := viper.NewWithOptions(viper.KeyDelimiter(keyDelimiter))
	for i := range settings {
		v.SetDefault(settings[i].viperKey(), settings[i].def)
	}
	var probs []string
	origins := map[string]string{} // key -> where its value was said
	file, err := readFile(v, src, line.file, origins, &probs)
	if err != nil {
		return Config{}, err
	}
	readEnv(v, src.Environ, origins, &probs)
	for key, val := range line.values {
		v.Set(byKey[key].viperKey(), val)
		origins[key] = "--" + byKey[key].flag()
	}

	cfg := Config{Action: line.action, File: file}
	for i := range settings {
		s := &settings[i]
		raw, err := render(v.Get(s.viperKey()))
		if err == nil {
			err = s.set(&cfg, raw)
		}
		if err != nil {
			probs = append(probs, s.complain(origins[s.key], err))
		}
	}
	if len(probs) == 0 {
		probs = append(probs, consistency(&cfg)...)
	}
	if len(probs) > 0 {
		return Config{}, &Error{Problems: probs}
	}
	return cfg, nil
}

// readEnv lays PIPIT_… over what v holds. It reads the given environment, not
// the process's: viper's own AutomaticEnv would miss unknown names and empty
// values, and `PIPIT_METRICS_LISTEN=` must be able to switch the listener off.
func readEnv(v *viper.Viper, environ []string, origins map[string]string, probs *[]string) {
	env := map[string]string{}
	for _, kv := range environ {
		name, val, _ := strings.Cut(kv, "=")
		env[name] = val
	}
	// A unit with StateDirectory= says where the data belong; whoever names
	// data_dir anywhere else means it.
	if dir, _, _ := strings.Cut(env["STATE_DIRECTORY"], ":"); dir != "" && origins["data_dir"] == "" {
		v.Set(byKey["data_dir"].viperKey(), dir)
		origins["data_dir"] = "STATE_DIRECTORY"
	}
	names := make([]string, 0, len(env))
	for name := range env {
		if strings.HasPrefix(name, envPrefix) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		if s := byEnv[name]; s != nil {
			v.Set(s.viperKey(), env[name])
			origins[s.key] = name
		} else if near, meant := meantEnv(name); meant && !foreignEnv(name) {
			*probs = append(*probs, fmt.Sprintf("environment: %s is no setting; the nearest is %s", name, near))
		}
	}
}

// consistency checks what no single key can say. It runs on values that are
// each allowed by themselves.
func consistency(c *Config) []string {
	var probs []string
	bad := func(format string, args ...any) { probs = append(probs, fmt.Sprintf(format, args...)) }
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls.cert and tls.key: one is set, the other is not; set both or neither")
	}
	if c.ListenTLS != "" && c.TLS.Cert == "" && c.TLS.LocalCA == "off" {
		bad("listen_tls: %q needs a certificate: set tls.cert and tls.key, or tls.local_ca to auto", c.ListenTLS)
	}
	used := map[string]string{}
	for _, a := range []struct{ key, addr string }{{"listen", c.Listen}, {"listen_tls", c.ListenTLS}, {"metrics.listen", c.Metrics.Listen}} {
		if a.addr == "" || strings.HasSuffix(a.addr, ":0") {
			continue
		}
		if other := used[a.addr]; other != "" {
			bad("%s: %q is taken by %s already; give each its own port", a.key, a.addr, other)
		}
		used[a.addr] = a.key
	}
	if need := clientFrameBytes(c.Limits.TextBytes); c.Limits.FrameBytes < need {
		bad("limits.frame_bytes: %d is too small for texts of limits.text_bytes = %d: at least %d, because clients may escape each character",
			c.Limits.FrameBytes, c.Limits.TextBytes, need)
	}
	if need := serverFrameBytes(c.Limits.TextBytes); c.Limits.OutputBytes < need {
		bad("limits.output_bytes: %d is too small for one message of limits.text_bytes = %d: at least %d",
			c.Limits.OutputBytes, c.Limits.TextBytes, need)
	}
	if need := storageRoomBytes(c.Storage); c.Storage.LowWaterBytes < need {
		bad("storage.low_water_bytes: %d is too low for memtables of %d bytes: at least %d, or a full disk could stop the store",
			c.Storage.LowWaterBytes, c.Storage.MemtableBytes, need)
	}
	return probs
}

// frameOverheadBytes is room for everything of a message but its text: a
// hundred mentions of 43 bytes, key, ids, names of members.
const frameOverheadBytes = 8 << 10

// clientFrameBytes is the longest request that a client needs for a text of n
// bytes. An encoder that escapes all but ASCII needs three bytes for one (two
// UTF-8 bytes become \u0416); six for one is needed by control characters
// alone, and a text of nothing but those may be refused.
func clientFrameBytes(n int) int { return 3*n + frameOverheadBytes }

// serverFrameBytes is the longest event that we write for a text of n bytes:
// our encoder escapes control characters (\u0001, six for one) and quotes.
func serverFrameBytes(n int) int { return 6*n + frameOverheadBytes }

// storageRoomBytes is what the store may still need after the last append was
// taken: the logs and the tables of the memtable in use and of the one being
// flushed, and a few small files.
func storageRoomBytes(s Storage) int64 { return 4*s.MemtableBytes + 8*mib }

// Reloadable returns the keys in which next differs from c and which a reload
// (SIGHUP) cannot change, in the order of the table.
func (c Config) Reloadable(next Config) (changedButNeedsRestart []string) {
	for i := range settings {
		if s := &settings[i]; !s.reload && s.get(&c) != s.get(&next) {
			changedButNeedsRestart = append(changedButNeedsRestart, s.key)
		}
	}
	return changedButNeedsRestart
}

// Reloaded returns c with those settings of next that a reload changes. It
// fails if they do not fit to what only a restart would change; then c stays
// in force.
func (c Config) Reloaded(next Config) (Config, error) {
	out := c
	for i := range settings {
		if s := &settings[i]; s.reload {
			if err := s.set(&out, s.get(&next)); err != nil {
				return c, &Error{Problems: []string{s.complain("", err)}}
			}
		}
	}
	if probs := consistency(&out); len(probs) > 0 {
		return c, &Error{Problems: probs}
	}
	return out, nil
}

// errNoValue is a key without anything behind the colon.
var errNoValue = errors.New("has no value")
