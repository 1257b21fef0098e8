package crash_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/tests/crash/disk"
)

// TestCommitCost counts what a message that is sent alone costs the disk: one flush,
// and a sector or two of 512 bytes. The file system's journal would take another
// flush and some pages whenever a block is written for the first time; the log's were
// written before.
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
	bytes := float64(after.BytesWritten-before.BytesWritten) / messages
	t.Logf("a message alone: %.2f flushes, %.0f bytes", flushes, bytes)
	// The journal is committed every five seconds besides, however long the messages
	// take on a busy machine.
	if flushes > 1.03 || bytes > 1024 {
		t.Errorf("a message alone costs %.2f flushes and %.0f bytes, want 1 and at most 1024", flushes, bytes)
	}
	s.stop(t)
}
