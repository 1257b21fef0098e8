package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// measureArm64 counts the user instructions of a delivery on an arm64: pkg/gateway's
// TestDeliver, everything real but the disk, runs in qemu-aarch64 with a plugin that
// counts. The figure is what one more recipient adds, (300 members less 100) × 600
// messages, each less the same with 2 messages; beside it stands everything that
// the process did, idle time between messages in it, by the deliveries.
func measureArm64(ctx context.Context, b *bench) error {
	for _, tool := range []string{"qemu-aarch64", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintln(os.Stderr, "  left out: it needs qemu-aarch64 (Debian: qemu-user) and gcc")
			return nil
		}
	}
	plugin, test := filepath.Join(b.dir, "count.so"), filepath.Join(b.dir, "deliver.test")
	run := func(env []string, name string, args ...string) error {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, out)
		}
		return nil
	}
	err := run(nil, "gcc", "-O2", "-shared", "-fPIC", "-o", plugin, "tests/load/testdata/count.c")
	if err == nil {
		err = run([]string{"GOARCH=arm64", "CGO_ENABLED=0"}, "go", "test", "-c", "-o", test, "./pkg/gateway")
	}
	if err != nil {
		return err
	}
	const few, many, messages = 100, 300, 600
	count := func(members, messages int) (n int64, err error) {
		file := filepath.Join(b.dir, "counts")
		env := []string{"QEMU_COUNT=" + file, fmt.Sprintf("PIPIT_DELIVER=%d %d", members, messages)}
		if err = run(env, "qemu-aarch64", "-plugin", plugin, test, "-test.run", "^TestDeliver$"); err != nil {
			return 0, err
		}
		data, err := os.ReadFile(file)
		for line := range strings.Lines(string(data)) {
			_, text, _ := strings.Cut(strings.TrimSpace(line), " ")
			block, bad := strconv.ParseInt(text, 10, 64)
			n, err = n+block, errors.Join(err, bad)
		}
		return n, err
	}
	var n [4]int64
	for i, c := range [][2]int{{few, 2}, {few, messages + 2}, {many, 2}, {many, messages + 2}} {
		if n[i], err = count(c[0], c[1]); err != nil {
			return err
		}
	}
	b.saw("arm64", float64(n[3]-n[2]-n[1]+n[0])/((many-few)*messages), "what one more recipient adds; everything that the process did in rooms of %d, by the deliveries: %.0f", many, float64(n[3]-n[2])/(many*messages))
	return nil
}
