package crash_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/tests/crash/disk"
)

// TestCommitCost counts what a message that is sent alone costs the disk: one
// page and one flush. The file system's journal takes another flush whenever a
// block is written for the first time, which is each 14th message here, unless
// zeros were there before.
func TestCommitCost(t *testing.T) {
	disk.Need(t)
	at, p := shortDir(t), newPlace(t)
	d, err := disk.New(disk.Options{SizeBytes: powerDisk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("the disk: %v", err)
		}
	})
	if err := d.Mount(at); err != nil {
		t.Fatal(err)
	}
	s := p.mustStart(t, filepath.Join(at, powerDataDir))
	w := settle(t, s, 1, 1)
	c := w.connect(t, p, 0, client.Handler{})
	defer c.Close()
	send := func(i int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if _, err := c.Send(ctx, client.Outgoing{Conversation: w.convs[0], Key: fmt.Sprint("k", i), Text: "What does a message cost?"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		send(i)
	}
	const messages = 1000
	before := d.Stats()
	for i := range messages {
		send(1000 + i)
	}
	after := d.Stats()
	flushes := float64(after.Flushes-before.Flushes) / messages
	pages := float64(after.BytesWritten-before.BytesWritten) / 4096 / messages
	t.Logf("a message alone: %.2f flushes, %.2f pages of 4 KiB", flushes, pages)
	// The journal is committed every five seconds besides, and once for each
	// stretch of zeros, however long the messages take on a busy machine.
	if flushes > 1.03 || pages > 1.25 {
		t.Errorf("a message alone costs %.2f flushes and %.2f pages, want 1 and little more than 1", flushes, pages)
	}
	s.stop(t)
}
