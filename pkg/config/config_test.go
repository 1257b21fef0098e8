package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// file returns a Source whose default file holds text, or none if text is "-".
func file(text string, environ []string, args ...string) Source {
	return Source{Args: args, Environ: environ, ReadFile: func(name string) ([]byte, error) {
		if text == "-" || name != DefaultFile {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}}
}

func load(t *testing.T, src Source) Config {
	t.Helper()
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	c := load(t, file("-", nil))
	want := Config{
		Listen: "127.0.0.1:8080", DataDir: "./var",
		Metrics: Metrics{Listen: "127.0.0.1:9090"}, TLS: TLS{LocalCA: "auto"},
		Log: Log{Level: slog.LevelInfo, Format: "auto"},
		Limits: Limits{SendsPerMinute: 120, FrameBytes: 65536, TextBytes: 16384, Connections: 20000,
			ConnectionsPerAddress: 5000, OutputBytes: 262144, SessionsPerUser: 32, SigninsPerMinutePerAddr: 600,
			SigninsPerHourPerAccount: 20, PasswordHashes: 2, Heartbeat: 30 * time.Second},
		Storage: Storage{LowWaterBytes: 192 << 20, ReserveBytes: 32 << 20, MemtableBytes: 8 << 20,
			CacheBytes: 8 << 20, ScrubInterval: 168 * time.Hour},
		Shutdown: Shutdown{Timeout: 10 * time.Second},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestPrintedDefaultsLoadAsDefaults(t *testing.T) {
	text := Defaults()
	c := load(t, file(text, nil))
	want := load(t, file("-", nil))
	want.File = DefaultFile
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	for i := range settings {
		s := &settings[i]
		_, name := s.section()
		if !strings.Contains(text, name+": ") || !strings.Contains(text, s.env()) {
			t.Errorf("%s is not in the printed file", s.key)
		}
	}
	for i, line := range strings.Split(text, "\n") {
		if len(line) > commentWidth+2 {
			t.Errorf("line %d is %d columns wide", i+1, len(line))
		}
	}
}

// TestTable holds what the rows promise one another.
func TestTable(t *testing.T) {
	seen := map[any]string{}
	var c Config
	for i := range settings {
		s := &settings[i]
		p := s.field(&c)
		if other := seen[p]; other != "" {
			t.Errorf("%s and %s fill the same field", s.key, other)
		}
		seen[p] = s.key
		if s.doc == "" || s.allowed == "" || s.example == "" {
			t.Errorf("%s lacks its meaning, what is allowed or an example", s.key)
		}
		if err := s.set(&c, s.def); err != nil {
			t.Errorf("%s: default: %v", s.key, err)
		}
		first := s.get(&c)
		if err := s.set(&c, s.example); err != nil {
			t.Errorf("%s: example: %v", s.key, err)
		}
		if err := s.set(&c, first); err != nil || s.get(&c) != first {
			t.Errorf("%s: %q does not come back from get: %q, %v", s.key, first, s.get(&c), err)
		}
	}
	if len(byEnv) != len(settings) || len(byKey) != len(settings) {
		t.Errorf("%d rows, %d keys, %d variables", len(settings), len(byKey), len(byEnv))
	}
	if n := leaves(reflect.TypeOf(c)); n != len(settings)+2 {
		t.Errorf("Config has %d fields besides Action and File, the table %d rows", n-2, len(settings))
	}
}

func leaves(t reflect.Type) int {
	n := 0
	for i := range t.NumField() {
		if f := t.Field(i); f.Type.Kind() == reflect.Struct {
			n += leaves(f.Type)
		} else {
			n++
		}
	}
	return n
}

func TestPrecedence(t *testing.T) {
	text := "listen: 127.0.0.1:1\nlimits:\n  sends_per_minute: 1\n  heartbeat: 1s\n"
	env := []string{"PIPIT_LIMITS_SENDS_PER_MINUTE=2", "PIPIT_LISTEN=127.0.0.1:2", "HOME=/root"}
	c := load(t, file(text, env, "--listen", "127.0.0.1:3"))
	if c.Listen != "127.0.0.1:3" || c.Limits.SendsPerMinute != 2 || c.Limits.Heartbeat != time.Second || c.Limits.TextBytes != 16384 {
		t.Errorf("listen %q, sends %d, heartbeat %v, text %d", c.Listen, c.Limits.SendsPerMinute, c.Limits.Heartbeat, c.Limits.TextBytes)
	}
	if c.File != DefaultFile {
		t.Errorf("file %q", c.File)
	}
}

// TestEveryKeyFromEverySource sets each key in the file, by variable and by
// option: no source may miss one (viper forgets variables of keys it was not
// told of).
func TestEveryKeyFromEverySource(t *testing.T) {
	others := map[string]string{
		"listen": "[::1]:81", "listen_tls": "0.0.0.0:8443", "data_dir": "/srv/pipit", "origins": "https://a.example,b.example:81", "loops": "3",
		"tls.cert": "/c.pem", "tls.key": "/k.pem", "tls.local_ca": "off", "metrics.listen": "localhost:99", "log.level": "debug", "log.format": "json",
		"limits.sends_per_minute": "7", "limits.frame_bytes": "131072", "limits.text_bytes": "8192", "limits.connections": "10001",
		"limits.connections_per_address": "12", "limits.output_bytes": "524288", "limits.sessions_per_user": "5",
		"limits.signins_per_minute_per_address": "9", "limits.signins_per_hour_per_account": "11", "limits.password_hashes": "1",
		"limits.heartbeat": "5s", "storage.low_water_bytes": "268435456", "storage.reserve_bytes": "2097152",
		"storage.memtable_bytes": "4194304", "storage.cache_bytes": "4194304",
		"storage.scrub_interval": "2h0m0s", "storage.read_only": "true", "memory.limit_bytes": "268435456", "shutdown.timeout": "3s",
	}
	var environ, args []string
	yaml := map[string]string{}
	for i := range settings {
		s := &settings[i]
		val, ok := others[s.key]
		if !ok {
			t.Fatalf("%s is not tried", s.key)
		}
		environ = append(environ, s.env()+"="+val)
		args = append(args, "--"+s.flag()+"="+val)
		sec, name := s.section()
		text := "\"" + val + "\""
		if s.key == "origins" {
			text = "[\"https://a.example\", \"b.example:81\"]"
		}
		indent := ""
		if sec != "" {
			indent = "  "
		}
		yaml[sec] += indent + name + ": " + text + "\n"
	}
	text := yaml[""]
	for sec, lines := range yaml {
		if sec != "" {
			text += sec + ":\n" + lines
		}
	}
	for name, src := range map[string]Source{"file": file(text, nil), "environment": file("-", environ), "options": file("-", nil, args...)} {
		c := load(t, src)
		for i := range settings {
			s := &settings[i]
			if got := s.get(&c); got != others[s.key] {
				t.Errorf("%s by %s is %q, want %q", s.key, name, got, others[s.key])
			}
		}
	}
}

func TestErrorsNameKeyValueAndWayOut(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		env, args  []string
		want       []string
	}{
		{name: "typo", text: "\nlisen: 127.0.0.1:1\n", want: []string{DefaultFile + ":2: ", "lisen", "nearest is listen"}},
		{name: "typo in a section", text: "limits:\n  send_per_minute: 5\n", want: []string{":2: ", "limits.sends_per_minute"}},
		{name: "section forgotten", text: "heartbeat: 5s\n", want: []string{"nearest is limits.heartbeat"}},
		{name: "other case", text: "Listen: \"\"\n", want: []string{"Listen is no setting", "nearest is listen"}},
		{name: "dotted", text: "limits.heartbeat: 5s\n", want: []string{"`limits:`", "`heartbeat:`"}},
		{name: "twice", text: "listen: \"\"\nlisten: \"\"\n", want: []string{":2: ", "line 1"}},
		{name: "section as value", text: "limits: 5\n", want: []string{":1: ", "limits is a section"}},
		{name: "value as section", text: "listen:\n  port: 5\n", want: []string{":1: listen", "single value"}},
		{name: "list for a value", text: "listen: [a, b]\n", want: []string{":1: listen", "single value"}},
		{name: "no value", text: "data_dir:\n", want: []string{":1: data_dir: has no value"}},
		{name: "no mapping", text: "- a\n", want: []string{"key: value"}},
		{name: "second document", text: "listen: \"\"\n---\nlisten: \"\"\n", want: []string{"second document"}},
		{name: "no YAML", text: "listen: [\n", want: []string{DefaultFile, "line"}},
		{name: "no unit", text: "limits:\n  heartbeat: 30\n", want: []string{":2: limits.heartbeat", `"30"`, "with its unit", "30s"}},
		{name: "too long", text: "limits: {heartbeat: 11m}\n", want: []string{"limits.heartbeat", "1s to 10m"}},
		{name: "negative", text: "limits: {connections: -1}\n", want: []string{"limits.connections", `"-1"`, "1 to 1000000"}},
		{name: "fraction", text: "limits: {connections: 1.5}\n", want: []string{"limits.connections", "whole number"}},
		{name: "no size", text: "storage: {cache_bytes: big}\n", want: []string{"storage.cache_bytes", `"big"`, "8MiB"}},
		{name: "huge size", text: "storage: {cache_bytes: 9EiB}\n", want: []string{"storage.cache_bytes", "out of bounds"}},
		{name: "no bool", text: "storage: {read_only: maybe}\n", want: []string{"storage.read_only", "true or false"}},
		{name: "level", text: "log: {level: loud}\n", want: []string{"log.level", "debug, info, warn or error"}},
		{name: "format", text: "log: {format: xml}\n", want: []string{"log.format", "auto, text or json"}},
		{name: "port alone", text: "listen: 8080\n", want: []string{":1: listen", `"8080"`, "0.0.0.0:8080"}},
		{name: "host name", text: "listen: box.local:80\n", want: []string{"not an IP address"}},
		{name: "port number", text: "listen: 127.0.0.1:65536\n", want: []string{"not a port"}},
		{name: "port name", text: "listen: 127.0.0.1:http\n", want: []string{"not a port"}},
		{name: "empty directory", text: "data_dir: \"\"\n", want: []string{"data_dir", "is empty"}},
		{name: "wildcard origin", text: "origins: [\"https://*.example\"]\n", want: []string{"origins", "not an origin"}},
		{name: "origin with path", text: "origins: [\"https://a.example/x\"]\n", want: []string{"not an origin"}},
		{name: "variable", text: "-", env: []string{"PIPIT_LISEN=x"}, want: []string{"PIPIT_LISEN", "nearest is PIPIT_LISTEN"}},
		{name: "variable's value", text: "-", env: []string{"PIPIT_LOOPS=many"}, want: []string{"PIPIT_LOOPS: loops", `"many"`}},
		{name: "option", text: "-", args: []string{"--data-dri=x"}, want: []string{"--data-dri", "nearest is --data-dir"}},
		{name: "option's value", text: "-", args: []string{"--loops=x"}, want: []string{"--loops: loops", `"x"`}},
		{name: "option without value", text: "-", args: []string{"--loops"}, want: []string{"command line", "--loops"}},
		{name: "short option", text: "-", args: []string{"-x"}, want: []string{"command line"}},
		{name: "word", text: "-", args: []string{"run"}, want: []string{`"run"`}},
		{name: "key without cert", text: "tls: {key: k}\n", want: []string{"tls.cert and tls.key"}},
		{name: "TLS without cert", text: "listen_tls: 127.0.0.1:1\ntls: {local_ca: off}\n", want: []string{"listen_tls", "tls.cert"}},
		{name: "one port twice", text: "metrics: {listen: 127.0.0.1:8080}\n", want: []string{"metrics.listen", "taken by listen"}},
		{name: "frame too small", text: "limits: {text_bytes: 32KiB}\n", want: []string{"limits.frame_bytes", "at least 106496"}},
		{name: "output too small", text: "limits: {output_bytes: 64KiB}\n", want: []string{"limits.output_bytes", "at least 106496"}},
		{name: "low water", text: "storage: {low_water_bytes: 8MiB}\n", want: []string{"storage.low_water_bytes", "at least 41943040"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(file(tc.text, tc.env, tc.args...))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in: %v", w, err)
				}
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Load(file("lisen: x\nloops: many\n", []string{"PIPIT_LOOSP=1"}))
	var e *Error
	if !errors.As(err, &e) || len(e.Problems) != 2 {
		t.Fatalf("%v", err)
	}
	// Values of a file that does not parse by itself are judged after it does.
	_, err = Load(file("loops: many\nlog: {level: x}\n", []string{"PIPIT_LOOSP=1"}))
	if !errors.As(err, &e) || len(e.Problems) != 3 {
		t.Fatalf("%v", err)
	}
}

func TestForms(t *testing.T) {
	c := load(t, file("# nothing\n", nil))
	if c.File != DefaultFile {
		t.Errorf("file %q", c.File)
	}
	c = load(t, file("limits:\norigins: [\"HTTPS://Chat.Example\", b.example:81]\nstorage: {cache_bytes: 1.5MiB, scrub_interval: 0s}\n",
		[]string{"PIPIT_METRICS_LISTEN=", "PIPIT_PORT=tcp://10.0.0.1:80", "PIPIT_SERVICE_HOST=10.0.0.1", "PIPIT_TEST_X=1", "PIPIT_TORTURE_CUTS=5", "PIPIT_UNSAFE_NO_SYNC=yes"}, "--storage-read-only"))
	if !reflect.DeepEqual(c.Origins, []string{"https://chat.example", "b.example:81"}) {
		t.Errorf("origins %q", c.Origins)
	}
	if c.Storage.CacheBytes != 3<<19 || c.Storage.ScrubInterval != 0 || !c.Storage.ReadOnly || c.Metrics.Listen != "" {
		t.Errorf("%+v %+v", c.Storage, c.Metrics)
	}
	if c := load(t, file("a: &x 7\n", nil, "--help")); c.Action != Help {
		t.Errorf("action %v", c.Action)
	}
	if c := load(t, file("loops: &x 7\nlimits: {connections: *x}\n", nil)); c.Limits.Connections != 7 {
		t.Errorf("alias gave %d", c.Limits.Connections)
	}
}

func TestDataDirUnderSystemd(t *testing.T) {
	state := "STATE_DIRECTORY=/var/lib/pipit:/var/lib/other"
	for _, tc := range []struct {
		text string
		env  []string
		want string
	}{
		{"-", []string{state}, "/var/lib/pipit"},
		{"data_dir: /a\n", []string{state}, "/a"},
		{"-", []string{state, "PIPIT_DATA_DIR=/b"}, "/b"},
		{"-", []string{"PIPIT_DATA_DIR=/b", state}, "/b"},
		{"-", []string{"STATE_DIRECTORY="}, "./var"},
	} {
		if c := load(t, file(tc.text, tc.env)); c.DataDir != tc.want {
			t.Errorf("%q %q: %s, want %s", tc.text, tc.env, c.DataDir, tc.want)
		}
	}
}

func TestNamedFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "p.yaml")
	if _, err := Load(Source{Args: []string{"--config", name}}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(name, []byte("loops: 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := load(t, Source{Args: []string{"--config", name, "--check"}})
	if c.Loops != 2 || c.File != name || c.Action != Check {
		t.Errorf("%+v", c)
	}
	// A default file that is there but cannot be read is not passed over.
	src := file("-", nil)
	src.ReadFile = func(string) ([]byte, error) { return nil, fs.ErrPermission }
	if _, err := Load(src); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("unreadable file: %v", err)
	}
}

func TestReload(t *testing.T) {
	old := load(t, file("tls: {cert: c, key: k}\nlisten_tls: 127.0.0.1:1\n", nil))
	next := load(t, file("tls: {cert: c2, key: k2}\nlisten_tls: 127.0.0.1:2\nloops: 3\nlimits: {heartbeat: 5s, sessions_per_user: 3}\nlog: {level: debug}\n", nil))
	if got := old.Reloadable(next); !reflect.DeepEqual(got, []string{"listen_tls", "loops", "limits.heartbeat"}) {
		t.Errorf("needs a restart: %q", got)
	}
	c, err := old.Reloaded(next)
	if err != nil {
		t.Fatal(err)
	}
	want := old
	want.TLS, want.Limits.SessionsPerUser, want.Log.Level = TLS{"c2", "k2", "auto"}, 3, slog.LevelDebug
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	// The loops are made with these two, and every session is told the heartbeat.
	made := map[string]bool{"limits.output_bytes": true, "limits.heartbeat": true}
	for i := range settings {
		s := &settings[i]
		sec, _ := s.section()
		if want := sec == "limits" && !made[s.key] || sec == "tls" && s.key != "tls.local_ca" || s.key == "log.level"; s.reload != want {
			t.Errorf("%s: reload %v", s.key, s.reload)
		}
	}
	// The TLS listener stays until a restart, so where the box makes none itself its
	// certificate must too.
	old = load(t, file("tls: {cert: c, key: k, local_ca: \"off\"}\nlisten_tls: 127.0.0.1:1\n", nil))
	if c, err := old.Reloaded(load(t, file("-", nil))); err == nil || c.TLS.Cert != "c" {
		t.Errorf("reload without certificate: %v, %+v", err, c.TLS)
	}
}

func TestUsageNamesEveryOption(t *testing.T) {
	text := Usage()
	for i := range settings {
		if !strings.Contains(text, "--"+settings[i].flag()+" ") {
			t.Errorf("%s is not in the help", settings[i].flag())
		}
	}
	for _, word := range []string{"--config FILE", "--check", "--print-defaults", "--version"} {
		if !strings.Contains(text, word) {
			t.Errorf("%s is not in the help", word)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"lisen", "listen", 1}, {"lsiten", "listen", 1}, {"kitten", "sitting", 3}} {
		if got := distance(tc.a, tc.b); got != tc.want {
			t.Errorf("%q %q: %d, want %d", tc.a, tc.b, got, tc.want)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, s := range []string{Defaults(), "listen: *x\n", "a: &a [*a]\n", "limits: {<<: {heartbeat: 5s}}\n", "? [a]\n: b\n", "!!binary a: b\n", "origins: [[a], {b: c}]\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Load(file(text, nil))
		if err != nil {
			return
		}
		// What was accepted is within every bound.
		for i := range settings {
			s := &settings[i]
			if err := s.set(&c, s.get(&c)); err != nil {
				t.Errorf("%s: %v", s.key, err)
			}
		}
	})
}

// TestForeignVariables: a name that is a slip away from a setting, or in one of
// our sections, is refused; others with the prefix belong to somebody else.
func TestForeignVariables(t *testing.T) {
	for name, refused := range map[string]bool{
		"PIPIT_LISSEN": true, "PIPIT_DATADIR": true, "PIPIT_LIMITS_SEND_PER_DAY": true, "PIPIT_STORAGE_X": true,
		"PIPIT_BIN": false, "PIPIT_URL": false, "PIPIT_HARNESS_PORT": false,
	} {
		_, err := Load(Source{Environ: []string{name + "=1"}, DefaultFile: "/nonexistent"})
		if (err != nil) != refused {
			t.Errorf("%s: %v, want refused %t", name, err, refused)
		}
	}
}
