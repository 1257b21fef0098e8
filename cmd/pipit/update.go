package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/app"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/update"
)

func (t *tool) updateCmd() *cobra.Command {
	var downgrade, noRestart bool
	c := &cobra.Command{Use: "update FILE", Short: "Install a signed bundle of the server, without internet",
		Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true, SuggestionsMinimumDistance: 2,
		Long: "Installs a bundle beside the version that runs, starts it, and watches it for a minute. If it does not become well,\n" +
			"the version before runs again by itself, also after a power cut. Without FILE: which versions there are.\n\n" +
			"The bundle must be signed by a key that this box knows (pipit update keys) and fit its machine and its data.",
		Example: "  sudo pipit update /media/usb/pipit-1.5.0-arm64.pipit\n  pipit update",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return t.showVersions(cmd.Context())
			}
			if err := exactArgs("FILE")(cmd, args); err != nil {
				return err
			}
			return t.update(cmd.Context(), args[0], downgrade, noRestart)
		}}
	c.Flags().BoolVar(&downgrade, "downgrade", false, "install a version that is older than the one that runs")
	c.Flags().BoolVar(&noRestart, "no-restart", false, "choose the version for the next start, but do not restart the server")
	c.AddCommand(t.updateBackCmd(), t.updateKeysCmd(), t.updateKeygenCmd(), t.updateBundleCmd())
	return c
}

// versions returns the versions in the data directory.
func (t *tool) versions() (*update.Versions, string, error) {
	dir, err := t.dir()
	if err != nil {
		return nil, "", err
	}
	return update.Open(update.Options{DataDir: dir, Factory: app.Version, Format: func() (int, error) { return app.DataFormat(dir) }}), dir, nil
}

// serverOn asks the server which version it is; "" if none runs.
func serverOn(ctx context.Context, dir string) (apiclient.ServerInfo, error) {
	box := apiclient.New(dir)
	defer box.Close()
	s, err := box.Status(ctx)
	if errors.Is(err, apiclient.ErrNotRunning) {
		return s, nil
	}
	return s, err
}

type updateAnswer struct {
	Version  string `json:"version"`
	Signed   string `json:"signed_by"`
	State    string `json:"state"` // good, failed, or waiting for a start
	Runs     string `json:"runs,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Previous string `json:"previous"` // "" is the factory version
}

func (t *tool) update(ctx context.Context, name string, downgrade, noRestart bool) error {
	v, dir, err := t.versions()
	if err != nil {
		return err
	}
	was, err := serverOn(ctx, dir)
	if err != nil {
		return err
	}
	now := was.Version
	if now == "" {
		now = app.Version
	}
	in, err := v.Install(name, now, downgrade)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.err, "Version %s for %s, signed by %s.\n", in.Version, in.Arch, printable(in.SignedBy))
	if in.Notes != "" {
		fmt.Fprintln(t.err, printable(in.Notes))
	}
	if st, err := v.State(); err == nil && in.Already && st.Current == in.Version && st.Status == update.Good {
		return t.answer(updateAnswer{Version: in.Version, Signed: in.SignedBy, State: "good", Runs: was.Version}, func() {
			fmt.Fprintf(t.out, "Version %s is installed and well already.\n", in.Version)
		})
	}
	if err := v.Activate(in.Version); err != nil {
		return err
	}
	return t.tryOut(ctx, v, in.Version, in.SignedBy, dir, was, noRestart)
}

// tryOut restarts the server, if it can, and waits until the version is good or
// given up. version is "" for the factory's, which has no trial.
func (t *tool) tryOut(ctx context.Context, v *update.Versions, version, signed, dir string, was apiclient.ServerInfo, noRestart bool) error {
	a := updateAnswer{Version: version, Signed: signed, State: "waiting"}
	named := version
	if version == "" {
		named = "the factory version"
	}
	waiting := func(how string) error {
		return t.answer(a, func() { fmt.Fprintf(t.out, "%s is chosen for the next start%s\n", upper(named), how) })
	}
	switch {
	case noRestart || was.PID == 0:
		return waiting(".")
	case !supervised():
		if version == "" {
			return waiting(". Restart the server.")
		}
		fmt.Fprintf(t.err, "%s is chosen. systemd does not run here: restart the server now; watching it.\n", upper(named))
	default:
		fmt.Fprintln(t.err, "Restarting the server; people are reconnected within seconds.")
		if err := systemctl(ctx, "restart", unit); err != nil {
			return err
		}
		if version == "" {
			return waiting(", and the server was restarted.")
		}
	}
	limit := time.Now().Add(update.TrialTime + 30*time.Second)
	for {
		s, err := v.State()
		switch {
		case err != nil:
			return err
		case s.Current == version && s.Status == update.Good:
			a.State, a.Previous = "good", s.Previous
			if info, err := serverOn(ctx, dir); err == nil {
				a.Runs = info.Version
			}
			return t.answer(a, func() { fmt.Fprintf(t.out, "Version %s runs and is well.\n", version) })
		case s.Current != version:
			return t.gaveUp(a, s)
		case time.Now().After(limit):
			if err := v.Fail(version, "nobody said within the time that it is well"); err != nil {
				return err
			}
			if s, err = v.State(); err != nil {
				return err
			}
			if supervised() {
				if err := systemctl(ctx, "restart", unit); err != nil {
					return err
				}
			}
			return t.gaveUp(a, s)
		}
		select {
		case <-ctx.Done():
			fmt.Fprintln(t.err, "Not watching any longer. The server itself goes on with the trial.")
			return ctx.Err()
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// gaveUp says that the version did not become well, and what runs instead.
func (t *tool) gaveUp(a updateAnswer, s update.State) error {
	a.State, a.Previous = "failed", s.Current
	for _, f := range s.Failed {
		if f.Version == a.Version {
			a.Reason = f.Reason
		}
	}
	instead := "version " + s.Current
	if s.Current == "" {
		instead = "the factory version"
	}
	if t.json {
		if err := t.answer(a, nil); err != nil {
			return err
		}
	}
	return &im.Error{Kind: im.Unavailable, Message: fmt.Sprintf("Version %s did not become well: %s. %s runs again; nothing is lost. `pipit logs` shows what happened.", a.Version, a.Reason, upper(instead))}
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

type versionsAnswer struct {
	Running string            `json:"running"` // "" if no server runs
	Factory string            `json:"factory"`
	Chosen  string            `json:"chosen"` // "" is the factory version
	Status  update.Status     `json:"status,omitempty"`
	Stored  []update.Manifest `json:"stored"`
	Failed  []update.Failure  `json:"failed"`
}

func (t *tool) showVersions(ctx context.Context) error {
	v, dir, err := t.versions()
	if err != nil {
		return err
	}
	s, err := v.State()
	if err != nil {
		return err
	}
	list, err := v.List()
	if err != nil {
		return err
	}
	info, err := serverOn(ctx, dir)
	if err != nil {
		return err
	}
	a := versionsAnswer{Running: info.Version, Factory: app.Version, Chosen: s.Current, Status: s.Status, Stored: list, Failed: s.Failed}
	if a.Stored == nil {
		a.Stored = []update.Manifest{}
	}
	if a.Failed == nil {
		a.Failed = []update.Failure{}
	}
	return t.answer(a, func() {
		if a.Running == "" {
			fmt.Fprintln(t.out, "running  nothing: no server on "+dir)
		} else {
			fmt.Fprintln(t.out, "running  "+a.Running)
		}
		fmt.Fprintln(t.out, "factory  "+a.Factory)
		if a.Chosen == "" {
			fmt.Fprintln(t.out, "chosen   the factory version")
		} else {
			fmt.Fprintf(t.out, "chosen   %s (%s)\n", a.Chosen, map[update.Status]string{update.Good: "good", update.Trial: "on trial"}[a.Status])
		}
		for _, m := range list {
			fmt.Fprintf(t.out, "stored   %s, built %s\n", m.Version, m.Built.Format(time.DateOnly))
		}
		for _, f := range s.Failed {
			fmt.Fprintf(t.out, "failed   %s on %s: %s\n", f.Version, f.At.Local().Format("2006-01-02 15:04"), printable(f.Reason))
		}
	})
}

func (t *tool) updateBackCmd() *cobra.Command {
	var noRestart bool
	c := &cobra.Command{Use: "back", Short: "Go back to the version before, or to the factory's", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, dir, err := t.versions()
			if err != nil {
				return err
			}
			s, err := v.State()
			if err != nil {
				return err
			}
			if s.Current == "" {
				return im.E(im.Conflict, "The factory version runs already; there is nothing behind it.")
			}
			was, err := serverOn(cmd.Context(), dir)
			if err != nil {
				return err
			}
			if err := v.Activate(s.Previous); err != nil {
				return err
			}
			return t.tryOut(cmd.Context(), v, s.Previous, "", dir, was, noRestart)
		}}
	c.Flags().BoolVar(&noRestart, "no-restart", false, "choose it for the next start, but do not restart the server")
	return c
}

func (t *tool) updateKeysCmd() *cobra.Command {
	return &cobra.Command{Use: "keys", Short: "List the keys whose bundles this box takes", Args: noArgs,
		Long: "Keys are files that end in .pub in " + strings.Join(update.SystemKeyDirs, ", ") + " and in keys/ of the data directory.\n" +
			"They must belong to root (or to the owner of this program), and nobody else may write to them.",
		RunE: func(*cobra.Command, []string) error {
			v, _, err := t.versions()
			if err != nil {
				return err
			}
			keys, refused := v.Keys()
			type key struct{ ID, Comment, File string }
			list := []key{}
			rows := [][]string{}
			for _, k := range keys {
				list = append(list, key{update.ID(k.Key), k.Comment, k.File})
				rows = append(rows, []string{update.ID(k.Key), k.Comment, k.File})
			}
			for _, r := range refused {
				fmt.Fprintln(t.err, "not used: "+r)
			}
			return t.answer(list, func() {
				if len(rows) == 0 {
					fmt.Fprintln(t.err, "This box knows no key, so it takes no bundle.")
					return
				}
				t.table([]string{"KEY", "WHOSE", "FILE"}, rows)
			})
		}}
}

func (t *tool) updateKeygenCmd() *cobra.Command {
	var comment string
	c := &cobra.Command{Use: "keygen NAME", Short: "Make a key pair for signing bundles: NAME.key and NAME.pub", Args: exactArgs("NAME"),
		Long: "Makes NAME.key, which signs bundles and must stay secret, and NAME.pub, which boxes that shall take them get into\n" +
			"/etc/pipit/keys/. Neither file may exist yet.",
		RunE: func(_ *cobra.Command, args []string) error {
			name := strings.TrimSuffix(args[0], ".key")
			public, secret, id, err := update.GenerateKey(comment)
			if err != nil {
				return err
			}
			for _, f := range []struct {
				name string
				mode fs.FileMode
				text []byte
			}{{name + ".key", 0o600, secret}, {name + ".pub", 0o644, public}} {
				if err := writeNew(f.name, f.mode, f.text); err != nil {
					return err
				}
			}
			return t.answer(map[string]string{"id": id, "secret": name + ".key", "public": name + ".pub"}, func() {
				fmt.Fprintf(t.out, "Made %[1]s.key and %[1]s.pub, key %[2]s.\n", name, id)
				fmt.Fprintf(t.err, "Keep %[1]s.key secret and safe; boxes get %[1]s.pub into /etc/pipit/keys/.\n", name)
			})
		}}
	c.Flags().StringVar(&comment, "comment", "", "`TEXT` that says whose key it is")
	return c
}

// writeNew makes a file that must not exist.
func writeNew(name string, mode fs.FileMode, text []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return im.E(im.Exists, "%s exists already and is not overwritten.", name)
	}
	if err != nil {
		return usageError{fmt.Errorf("write %s: %w", name, err)}
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func (t *tool) updateBundleCmd() *cobra.Command {
	var keys []string
	var out string
	var built int64
	m := update.Manifest{Arch: runtime.GOARCH, StoreFormat: app.StoreFormat, Version: app.Version}
	c := &cobra.Command{Use: "bundle DIR", Short: "Make a bundle of the pipitd and pipit in DIR (for whoever builds them)", Args: exactArgs("DIR"),
		Example: "  pipit update bundle .build/release/linux-arm64 --arch arm64 --key oakhill.key --out pipit-1.5.0-arm64.pipit",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(keys) == 0 || out == "" {
				return usageError{errors.New("say which key signs it and where it goes: --key FILE --out FILE")}
			}
			s := update.Source{Manifest: m, Paths: map[string]string{}}
			s.Manifest.Built = time.Unix(built, 0)
			for _, name := range update.Programs {
				s.Paths[name] = filepath.Join(args[0], name)
			}
			for _, k := range keys {
				secret, err := readSecret(k)
				if err != nil {
					return err
				}
				s.Keys = append(s.Keys, secret)
			}
			var made update.Manifest
			n, err := writeWhole(context.Background(), out, func(_ context.Context, w io.Writer) (n int64, err error) {
				cw := &countingWriter{w: w}
				made, err = update.Make(cw, s)
				return cw.n, err
			})
			if err != nil {
				return err
			}
			return t.answer(made, func() {
				fmt.Fprintf(t.out, "Wrote %s (%s): version %s for %s.\n", out, size(n), made.Version, made.Arch)
			})
		}}
	c.Flags().StringArrayVar(&keys, "key", nil, "secret key `FILE` that signs it; may be given twice, while keys change")
	c.Flags().StringVar(&out, "out", "", "`FILE` to write")
	c.Flags().StringVar(&m.Version, "bundle-version", m.Version, "`VERSION` of the programs")
	c.Flags().StringVar(&m.Arch, "arch", m.Arch, "`ARCH` that they are for: amd64, arm64, arm")
	c.Flags().StringVar(&m.Notes, "notes", "", "one `LINE` for whoever installs it")
	c.Flags().Int64Var(&built, "built", 0, "when they were built, in `SECONDS` since 1970")
	return c
}

func readSecret(name string) (ed25519.PrivateKey, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("read the key: %w", err)}
	}
	return update.ParseSecret(b)
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// unit is the server's.
const unit = "pipit.service"

// supervised says whether systemd runs this machine (sd_booted(3)) and knows our
// unit.
func supervised() bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	return exec.Command("systemctl", "cat", "--quiet", unit).Run() == nil
}

func systemctl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return &im.Error{Kind: im.Unavailable, Cause: err, Message: fmt.Sprintf("systemctl %s failed: %s", strings.Join(args, " "), strings.TrimSpace(string(out)))}
	}
	return nil
}
