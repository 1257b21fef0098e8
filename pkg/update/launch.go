package update

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Variables with which the factory program hands over; they are taken out of
// the environment at once.
const (
	launchedVar = "PIPIT_LAUNCHED" // the version
	trialVar    = "PIPIT_LAUNCHED_TRIAL"
)

// Launched is what a program knows of how it was started.
type Launched struct {
	Version string // "" for the factory version
	Trial   bool
	DataDir string
}

// DataDir is where Launch looks: $PIPIT_DATA_DIR, then the unit's state
// directory, else "".
func DataDir() string {
	if dir := os.Getenv("PIPIT_DATA_DIR"); dir != "" {
		return dir
	}
	dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	return dir
}

// Launch is called before anything else by main of the factory program. If
// another version is chosen it replaces this process with that version's program
// of the same name and does not return; in that version it returns at once and
// says what runs. It never keeps the factory version from starting: what is wrong
// is logged.
func Launch(program string, v *Versions, log *slog.Logger) Launched {
	if version, ok := os.LookupEnv(launchedVar); ok {
		l := Launched{Version: version, Trial: os.Getenv(trialVar) != "", DataDir: v.data}
		// Programs that this one starts are not launched.
		if err := errors.Join(os.Unsetenv(launchedVar), os.Unsetenv(trialVar)); err != nil {
			log.Warn("environment not cleared", "error", err)
		}
		return l
	}
	f, version, trial := v.choose(program, log)
	if f == nil {
		return Launched{DataDir: v.data}
	}
	env := append(os.Environ(), launchedVar+"="+version)
	if trial {
		env = append(env, trialVar+"=1")
	}
	// By its descriptor, so that what was checked is what runs. The kernel opens
	// the path before it closes what is close-on-exec.
	path := "/proc/self/fd/" + strconv.Itoa(int(f.Fd()))
	err := unix.Exec(path, os.Args, env)
	log.Error("version not started, the factory version runs", "version", version, "error", err,
		"hint", "the data directory may be mounted noexec, or the unit forbids programs there (ExecPaths=)")
	f.Close()
	if trial {
		if err := v.Fail(version, "it can't be executed: "+err.Error()); err != nil {
			log.Error("update.json not written", "error", err)
		}
	}
	return Launched{DataDir: v.data}
}

// LaunchTool is Launch for `pipit`: it follows the server's version, but only
// one that is good, counts nothing and says nothing.
func LaunchTool(v *Versions) {
	if _, ok := os.LookupEnv(launchedVar); ok {
		_ = os.Unsetenv(launchedVar) // a name without '=' can't fail
		return
	}
	s, err := readState(v.data)
	if err != nil || s.Current == "" || s.Status != Good || v.superseded(s) {
		return
	}
	f, _, err := v.open(s.Current, Programs[1], false)
	if err != nil {
		return
	}
	defer f.Close()
	// If it fails, this tool does as well.
	_ = unix.Exec("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), os.Args, append(os.Environ(), launchedVar+"="+s.Current))
}

// superseded says that a new image or package brought a factory version that is
// newer than the one that was chosen over an older factory version.
func (v *Versions) superseded(s State) bool {
	return s.Factory != v.factory && Compare(v.factory, s.Current) > 0
}

// choose decides which version runs and, for one on trial, counts this start
// before it is made. A nil file is the factory version.
func (v *Versions) choose(program string, log *slog.Logger) (f *os.File, version string, trial bool) {
	s, err := readState(v.data)
	if err != nil {
		log.Error("update.json can't be read, the factory version runs", "error", err)
		return nil, "", false
	}
	if s.Current != "" && v.superseded(s) {
		log.Info("the factory version is newer than the chosen one and runs", "factory", v.factory, "chosen", s.Current)
		if err := v.Activate(""); err != nil {
			log.Warn("update.json not written", "error", err)
		}
		return nil, "", false
	}
	for s.Current != "" {
		f, reason := v.attempt(s, program)
		if f != nil {
			if s.Status != Trial {
				return f, s.Current, false
			}
			s.Tries++
			if err = v.writeState(s); err == nil {
				return f, s.Current, true
			}
			// A start that can't be counted would be repeated for ever. It is no
			// fault of the version: it stays chosen for when there is room.
			log.Error("trial put off: update.json can't be written", "version", s.Current, "error", err)
			f.Close()
			s.Current, s.Status, s.Previous = s.Previous, Good, ""
			continue
		}
		log.Error("version given up", "version", s.Current, "reason", reason, "next", orFactory(s.Previous))
		s = v.back(s, reason)
		if err := v.writeState(s); err != nil {
			log.Error("update.json not written", "error", err)
		}
	}
	return nil, "", false
}

// attempt opens the program of the chosen version, or says why it can't be had.
func (v *Versions) attempt(s State, program string) (*os.File, string) {
	if s.Status == Trial && s.Tries >= MaxTries {
		return nil, fmt.Sprintf("it was started %d times and never became well", s.Tries)
	}
	f, m, err := v.open(s.Current, program, true)
	if err != nil {
		return nil, text(err)
	}
	if have, err := v.format(); err == nil && m.StoreFormat < have {
		f.Close()
		return nil, fmt.Sprintf("it knows data formats up to %d, and the data have format %d", m.StoreFormat, have)
	}
	return f, ""
}

func orFactory(version string) string {
	if version == "" {
		return "factory"
	}
	return version
}
