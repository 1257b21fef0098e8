package main

import (
	"log/slog"
)

// log returns a logger for work that this tool does itself: warnings only, on
// standard error.
func (t *tool) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}
