package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/machine"
	"github.com/pipit-im/pipit/pkg/update"
)

func (t *tool) supportCmd() *cobra.Command {
	var out string
	c := &cobra.Command{Use: "support-bundle", Short: "What a helper needs, without secrets and messages", Args: noArgs,
		Long: "Writes a .tar.gz with versions, status, what doctor finds, metrics, settings, the state of the units and the last lines of\n" +
			"their logs. It holds no message, no password, no key, no token and no name of a person. Look into it before you send it:\n" +
			"every file in it is text.",
		Example: "  sudo pipit support-bundle --out /media/usb/support.tar.gz",
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := t.dir()
			if err != nil {
				return err
			}
			if out == "" {
				host, err := os.Hostname()
				if err != nil {
					host = "pipit"
				}
				out = fmt.Sprintf("pipit-support-%s-%s.tar.gz", host, time.Now().Format("20060102-150405"))
			}
			parts := t.supportParts(cmd.Context(), dir)
			n, err := writeWhole(cmd.Context(), out, func(_ context.Context, w io.Writer) (int64, error) {
				cw := &countingWriter{w: w}
				err := writeParts(cw, parts, time.Now())
				return cw.n, err
			})
			if err != nil {
				return err
			}
			names := make([]string, len(parts))
			for i, p := range parts {
				names[i] = p.name
			}
			return t.answer(map[string]any{"file": out, "bytes": n, "holds": names}, func() {
				fmt.Fprintf(t.out, "Wrote %s (%s): %s.\n", out, size(n), strings.Join(names, ", "))
			})
		}}
	c.Flags().StringVar(&out, "out", "", "`FILE` to write (default: pipit-support-HOST-TIME.tar.gz here)")
	return c
}

// part is one file of a support bundle.
type part struct {
	name string
	text []byte
}

// maxPartBytes bounds each file; of a longer one its end is taken.
const maxPartBytes = 4 << 20

// supportParts gathers everything. What can't be had is said in its place: a
// bundle is wanted most when something does not work.
func (t *tool) supportParts(ctx context.Context, dir string) []part {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var parts []part
	add := func(name string, text []byte, err error) {
		if err != nil {
			text = append(text, fmt.Sprintf("\n(not to be had: %v)\n", err)...)
		}
		text = scrub(text)
		parts = append(parts, part{name, text[max(0, len(text)-maxPartBytes):]})
	}
	asJSON := func(name string, v any, err error) {
		b, jerr := json.MarshalIndent(v, "", "  ")
		add(name, append(b, '\n'), errors.Join(err, jerr))
	}
	box := apiclient.New(dir)
	defer box.Close()

	v := update.Open(update.Options{DataDir: dir, Factory: app.Version, Format: func() (int, error) { return app.DataFormat(dir) }})
	state, verr := v.State()
	list, lerr := v.List()
	format, ferr := app.DataFormat(dir)
	asJSON("versions.json", map[string]any{"tool": app.Version, "go": runtime.Version(), "arch": runtime.GOARCH, "store_format": format, "update": state, "stored": list}, errors.Join(verr, lerr, ferr))
	s, err := box.Status(ctx)
	asJSON("status.json", overview{ServerInfo: s, Machine: readMachine(machine.Machine{}, dir)}, err)
	asJSON("doctor.json", t.examine(ctx, dir, "/proc"), nil)
	asJSON("network.json", readNetwork(dir, "/"), nil)
	metrics, err := scrape(ctx)
	add("metrics.txt", metrics, err)
	settings, err := os.ReadFile(config.DefaultFile)
	if errors.Is(err, fs.ErrNotExist) {
		settings, err = []byte("# no "+config.DefaultFile+"\n"), nil
	}
	add("settings.yaml", settings, err)
	files, err := listing(dir)
	add("files.txt", files, err)
	for name, argv := range map[string][]string{
		"units.txt":   {"systemctl", "--no-pager", "--full", "status", "pipit*"},
		"failed.txt":  {"systemctl", "--no-pager", "--failed"},
		"log.txt":     append([]string{"journalctl", "--no-pager", "--lines", "3000"}, unitArgs()...),
		"kernel.txt":  {"journalctl", "--no-pager", "--lines", "500", "--dmesg"},
		"os.txt":      {"cat", "/etc/os-release"},
		"mounts.txt":  {"cat", "/proc/mounts"},
		"sockets.txt": {"ss", "-s"},
	} {
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		add(name, out, err)
	}
	return parts
}

func unitArgs() (args []string) {
	for _, u := range logUnits {
		args = append(args, "--unit", u)
	}
	return args
}

// scrape fetches the metrics from where the configuration serves them.
func scrape(ctx context.Context) ([]byte, error) {
	c, err := config.Load(config.Source{Environ: os.Environ()})
	if err != nil || c.Metrics.Listen == "" {
		return nil, errors.Join(errors.New("metrics are not served"), err)
	}
	host, port, err := net.SplitHostPort(c.Metrics.Listen)
	if err != nil {
		return nil, err
	}
	if host == "" || host == "0.0.0.0" || host == "::" {
		host = "127.0.0.1"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(io.LimitReader(resp.Body, maxPartBytes))
}

// listing is names, sizes, owners and times of the data directory, not contents.
func listing(dir string) ([]byte, error) {
	var b bytes.Buffer
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", name, err)
			return nil
		}
		if fi, err := d.Info(); err == nil {
			fmt.Fprintf(&b, "%s %12d %s %s\n", fi.Mode(), fi.Size(), fi.ModTime().UTC().Format(time.RFC3339), name)
		}
		return nil
	})
	return b.Bytes(), err
}

// secrets are lines and words that must not leave the box, should they have got
// into a log or a settings file in spite of everything.
var secrets = []*regexp.Regexp{
	regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`),
	regexp.MustCompile(`AGE-SECRET-KEY-1[A-Z0-9]+`),
	regexp.MustCompile(`pipit-update-secret \S+`),
	regexp.MustCompile(`\$argon2[a-z]*\$\S+`),
	regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`),
	regexp.MustCompile(`\bp[a-z]{1,3}_[A-Za-z0-9_-]{20,}`),
	regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*`),
	regexp.MustCompile(`(?im)^(\s*["']?[a-z0-9_.-]*(password|passwd|secret|token|psk|private_?key|credential|set_?up_?code)["']?\s*[:=]\s*).*$`),
	regexp.MustCompile(`(?i)("?[a-z_]*(password|passwd|secret|token|psk|credential)"?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s,;}]+)`),
}

// scrub takes out what looks like a secret. It is the second line: nothing that
// is gathered should hold one.
func scrub(b []byte) []byte {
	for _, re := range secrets {
		b = re.ReplaceAllFunc(b, func(m []byte) []byte {
			if sub := re.FindSubmatch(m); len(sub) > 2 && bytes.HasPrefix(m, sub[1]) && len(sub[1]) > 3 {
				return append(bytes.Clone(sub[1]), "(left out)"...)
			}
			return []byte("(left out)")
		})
	}
	return b
}

func writeParts(w io.Writer, parts []part, at time.Time) error {
	z := gzip.NewWriter(w)
	t := tar.NewWriter(z)
	for _, p := range parts {
		if err := t.WriteHeader(&tar.Header{Name: "pipit-support/" + p.name, Mode: 0o600, Size: int64(len(p.text)), ModTime: at}); err != nil {
			return err
		}
		if _, err := t.Write(p.text); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}
