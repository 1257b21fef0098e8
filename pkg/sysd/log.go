package sysd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// LogHandler returns the slog handler for lines written to f. format is "text",
// "json" or "auto" (config's log.format): auto is text on a terminal, the
// journal's format where f is the journal, JSON elsewhere; text means the
// journal's format too where f is the journal, which has its own clock.
func LogHandler(f *os.File, format string, level slog.Leveler) slog.Handler {
	journal := isJournal(os.Getenv("JOURNAL_STREAM"), f)
	return logHandler(f, format, level, journal, isTerminal(f))
}

func logHandler(w io.Writer, format string, level slog.Leveler, journal, terminal bool) slog.Handler {
	opts := &slog.HandlerOptions{Level: level}
	switch {
	case format != "json" && journal:
		return newJournalHandler(w, level)
	case format == "text", format == "auto" && terminal:
		return slog.NewTextHandler(w, opts)
	default:
		return slog.NewJSONHandler(w, opts)
	}
}

// isJournal says whether f is the stream that systemd made: JOURNAL_STREAM
// holds its device and inode (systemd.exec(5)). A redirected stderr of a child
// inherits the variable, so the variable alone proves nothing.
func isJournal(stream string, f *os.File) bool {
	var dev, ino uint64
	if n, err := fmt.Sscanf(stream, "%d:%d", &dev, &ino); n != 2 || err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && uint64(st.Dev) == dev && uint64(st.Ino) == ino
}

func isTerminal(f *os.File) bool {
	c, err := f.SyscallConn()
	if err != nil {
		return false
	}
	terminal := false
	err = c.Control(func(fd uintptr) {
		_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		terminal = err == nil
	})
	return err == nil && terminal
}

// journalHandler writes "<6>message key=value …": the journal takes priority
// from the prefix (sd-daemon(3)) and adds the time itself. It leaves the
// attributes to slog's text handler.
type journalHandler struct {
	out   *journalOut
	inner slog.Handler
	level slog.Leveler
}

// journalOut is shared by all handlers derived from one.
type journalOut struct {
	mu  sync.Mutex
	buf bytes.Buffer // one line; guarded by mu
	w   io.Writer
}

// Marks by which ReplaceAttr tells the record's own message and level, which we
// print ourselves, from attributes that a caller gave the same names.
const (
	ownMessage = "\x00"
	ownLevel   = slog.Level(-1 << 20)
)

func newJournalHandler(w io.Writer, level slog.Leveler) *journalHandler {
	out := &journalOut{w: w}
	inner := slog.NewTextHandler(&out.buf, &slog.HandlerOptions{
		Level: ownLevel,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && (a.Key == slog.MessageKey && a.Value.Kind() == slog.KindString && a.Value.String() == ownMessage ||
				a.Key == slog.LevelKey && a.Value.Any() == ownLevel) {
				return slog.Attr{}
			}
			return a
		},
	})
	return &journalHandler{out: out, inner: inner, level: level}
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{out: h.out, inner: h.inner.WithAttrs(attrs), level: h.level}
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{out: h.out, inner: h.inner.WithGroup(name), level: h.level}
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	b := &h.out.buf
	b.Reset()
	fmt.Fprintf(b, "<%d>%s ", priority(r.Level), plain(r.Message))
	bare := slog.NewRecord(time.Time{}, ownLevel, ownMessage, r.PC) // no time: the journal has its own
	r.Attrs(func(a slog.Attr) bool { bare.AddAttrs(a); return true })
	if err := h.inner.Handle(ctx, bare); err != nil {
		return err
	}
	line := b.Bytes()
	if bytes.HasSuffix(line, []byte(" \n")) { // no attributes; a value that ends in a space is quoted
		line = append(line[:len(line)-2], '\n')
	}
	_, err := h.out.w.Write(line)
	return err
}

// priority maps a level to syslog(3)'s numbers.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	default:
		return 7
	}
}

// plain keeps a message on its line: a newline in it would begin an entry of
// its own, with a priority of the sender's choice.
func plain(s string) string {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return strconv.Quote(s)
		}
	}
	return s
}
