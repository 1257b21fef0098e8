package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroup is a memory cgroup of our own, of either version.
type cgroup struct {
	dir string
	v2  bool
}

// newCgroup makes one with a hard limit, which counts the page cache.
func newCgroup(limit int64) (*cgroup, error) {
	name := fmt.Sprintf("pipit-load-%d", os.Getpid())
	for _, g := range []cgroup{
		{filepath.Join("/sys/fs/cgroup/memory", name), false},
		{filepath.Join("/sys/fs/cgroup", name), true},
	} {
		if os.Mkdir(g.dir, 0o755) != nil {
			continue
		}
		file := "memory.limit_in_bytes"
		if g.v2 {
			file = "memory.max"
		}
		if err := os.WriteFile(filepath.Join(g.dir, file), []byte(strconv.FormatInt(limit, 10)), 0); err != nil {
			return nil, errors.Join(err, os.Remove(g.dir))
		}
		return &g, nil
	}
	return nil, errors.New("no memory cgroup can be made here: it needs root and the memory controller")
}

// number reads the first of the files that is there: a number, or that of a line.
func (g *cgroup) number(line string, files ...string) int64 {
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(g.dir, f))
		if err != nil {
			continue
		}
		for l := range strings.Lines(string(b)) {
			rest, ok := strings.CutPrefix(l, line)
			if n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64); ok && err == nil {
				return n
			}
		}
	}
	return 0
}

func (g *cgroup) peak() int64   { return g.number("", "memory.peak", "memory.max_usage_in_bytes") }
func (g *cgroup) killed() int64 { return g.number("oom_kill ", "memory.events", "memory.oom_control") }

// remove waits for the last process to be gone from it.
func (g *cgroup) remove() error {
	var err error
	for range 200 {
		if err = os.Remove(g.dir); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
