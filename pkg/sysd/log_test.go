package sysd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestJournalLines(t *testing.T) {
	for _, tc := range []struct {
		name string
		log  func(*slog.Logger)
		want string
	}{
		{"info", func(l *slog.Logger) { l.Info("listening", "addr", "127.0.0.1:8080") }, "<6>listening addr=127.0.0.1:8080\n"},
		{"debug", func(l *slog.Logger) { l.Debug("turn") }, "<7>turn\n"},
		{"warn", func(l *slog.Logger) { l.Warn("disk is short", "free", 5) }, "<4>disk is short free=5\n"},
		{"error", func(l *slog.Logger) { l.Error("wedged", "error", errors.New("no flush")) }, "<3>wedged error=\"no flush\"\n"},
		{"beyond", func(l *slog.Logger) { l.Log(t.Context(), slog.LevelError+4, "x") }, "<3>x\n"},
		{"forged line", func(l *slog.Logger) { l.Info("a\n<0>panic", "b", "c\n<0>d") }, `<6>"a\n<0>panic" b="c\n<0>d"` + "\n"},
		{"same names", func(l *slog.Logger) { l.Info("a", "msg", "b", "level", "c", "time", 1) }, "<6>a msg=b level=c time=1\n"},
		{"with", func(l *slog.Logger) { l.With("conn", 7).WithGroup("g").Info("a", "k", 1) }, "<6>a conn=7 g.k=1\n"},
	} {
		var b bytes.Buffer
		tc.log(slog.New(logHandler(&b, "auto", slog.LevelDebug, true, false)))
		if got := b.String(); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

func TestJournalLevelFollows(t *testing.T) {
	var b bytes.Buffer
	var level slog.LevelVar
	l := slog.New(logHandler(&b, "text", &level, true, false)).With("a", 1)
	l.Debug("hidden")
	level.Set(slog.LevelDebug)
	l.Debug("shown")
	if b.String() != "<7>shown a=1\n" {
		t.Errorf("%q", b.String())
	}
}

func TestJournalLinesDoNotMix(t *testing.T) {
	var b bytes.Buffer // writes are serialised by the handler, or the race detector speaks
	l := slog.New(logHandler(&b, "auto", slog.LevelInfo, true, false))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 100 {
				l.With("n", i).Info("x")
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 800 {
		t.Errorf("%d lines", len(lines))
	}
	for _, line := range lines {
		if len(line) != len("<6>x n=1") || !strings.HasPrefix(line, "<6>x n=") {
			t.Fatalf("%q", line)
		}
	}
}

func TestFormats(t *testing.T) {
	for _, tc := range []struct {
		format            string
		journal, terminal bool
		want              string
	}{
		{"auto", true, false, "journal"}, {"auto", false, true, "text"}, {"auto", false, false, "json"},
		{"text", true, false, "journal"}, {"text", false, true, "text"}, {"text", false, false, "text"},
		{"json", true, false, "json"}, {"json", false, true, "json"}, {"json", false, false, "json"},
	} {
		var b bytes.Buffer
		slog.New(logHandler(&b, tc.format, slog.LevelInfo, tc.journal, tc.terminal)).Info("x")
		got := "text"
		if strings.HasPrefix(b.String(), "<6>") {
			got = "journal"
		} else if json.Valid(b.Bytes()) {
			got = "json"
		}
		if got != tc.want {
			t.Errorf("%+v: %s", tc, got)
		}
	}
}

func TestIsJournal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for stream, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino):   true,
		fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false,
		fmt.Sprintf("%d:%d", st.Dev+1, st.Ino): false,
		"":                                     false,
		"x":                                    false,
	} {
		if got := isJournal(stream, f); got != want {
			t.Errorf("%q: %v", stream, got)
		}
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	slog.New(LogHandler(f, "auto", slog.LevelInfo)).Info("hello")
	if b, err := os.ReadFile(f.Name()); err != nil || string(b) != "<6>hello\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestIsTerminal(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isTerminal(null) {
		t.Error("/dev/null is a terminal")
	}
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()
	if !isTerminal(pty) {
		t.Error("a pseudo terminal is none")
	}
}
