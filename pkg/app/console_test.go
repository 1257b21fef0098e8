package app

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/pipit-im/pipit/pkg/api/apiclient"
	"github.com/pipit-im/pipit/pkg/audit"
	"github.com/pipit-im/pipit/pkg/backup"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/metrics"
)

// ask is a request of somebody who is signed in.
func (b *box) ask(method, path, token string, v any) int {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.url()+path, nil)
	b.must(err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	b.must(err)
	defer resp.Body.Close()
	if v != nil && resp.StatusCode < 300 {
		b.must(json.NewDecoder(resp.Body).Decode(v))
	}
	return resp.StatusCode
}

// keeperToken makes a tenant that keeps the box, and signs its owner in.
func (b *box) keeperToken() string {
	b.t.Helper()
	ctx, keeper := b.t.Context(), true
	_, err := b.admin.AddTenant(ctx, "oakhill", "Oakhill School")
	b.must(err)
	_, err = b.admin.SetTenant(ctx, "oakhill", apiclient.BoxSettings{Keeper: &keeper})
	b.must(err)
	_, err = b.admin.AddUser(ctx, "oakhill", apiclient.NewPerson{Username: "ann", Role: "owner", Password: password})
	b.must(err)
	issued, err := b.admin.IssueToken(ctx, "oakhill", "ann")
	b.must(err)
	return issued.Token
}

// TestConsoleBackup: a backup that is started in the console is one that its key
// opens, and the console says so; without a key, and twice at once, it is refused.
func TestConsoleBackup(t *testing.T) {
	b := newBox(t)
	ann := b.keeperToken()
	var s apiclient.Backups
	if status := b.ask("GET", "/v1/box/backups", ann, &s); status != 200 || s.Key || s.Verified != 0 {
		t.Fatalf("%d %+v", status, s)
	}
	if status := b.ask("POST", "/v1/box/backups", ann, nil); status != 409 {
		t.Fatalf("without a key: %d", status)
	}
	id, err := age.GenerateX25519Identity()
	b.must(err)
	b.must(os.WriteFile(filepath.Join(b.dir, backup.RecipientName), []byte(id.Recipient().String()+"\n"), 0o600))
	if status := b.ask("POST", "/v1/box/backups", ann, nil); status != 202 {
		t.Fatalf("started: %d", status)
	}
	until(t, "the backup", func() bool { return b.ask("GET", "/v1/box/backups", ann, &s) == 200 && !s.Running })
	if !s.Key || s.Verified == 0 || s.Error != "" || len(s.Kept) != 1 || len(s.Places) != 1 || s.Places[0].Records == 0 {
		t.Fatalf("%+v in\n%s", s, b.log)
	}
	f, err := os.Open(filepath.Join(b.dir, backup.DirName, s.Kept[0].Name))
	b.must(err)
	defer f.Close()
	meta, records, err := backup.Check(f, id)
	if err != nil || records != s.Places[0].Records || meta.Version != Version {
		t.Errorf("%+v, %d records, %v", meta, records, err)
	}
	until(t, "the event", func() bool {
		events, _, err := b.audit.Page(t.Context(), audit.Box, audit.Query{Action: "backup.made"}, 0, 10)
		return err == nil && len(events) == 1 && events[0].Actor.Name == "ann" && events[0].Result == audit.OK
	})
	// What the timer's backup holds meanwhile, this one is refused.
	unlock, err := backup.Lock(filepath.Join(b.dir, backup.DirName))
	b.must(err)
	if _, err := backup.Lock(filepath.Join(b.dir, backup.DirName)); !im.Is(err, im.Conflict) {
		t.Errorf("locked twice: %v", err)
	}
	unlock()
}

// TestSamples: a step's sample has what happened in it, and the console gets it.
func TestSamples(t *testing.T) {
	b := newBox(t)
	ann := b.keeperToken()
	end := time.Now().Truncate(metrics.SampleStep).Add(metrics.SampleStep)
	b.pace.entries(end.Add(-time.Second), 7)
	b.pace.entries(end.Add(time.Millisecond), 5) // of the next step
	b.pace.commit(end.Add(-time.Second), 20*time.Millisecond)
	b.slowest.Store(int64(3 * time.Millisecond))
	b.ring.Add(b.sample(end))
	var h apiclient.BoxHistory
	if status := b.ask("GET", "/v1/box/history", ann, &h); status != 200 || len(h.Samples) == 0 {
		t.Fatalf("%d %+v", status, h)
	}
	s := h.Samples[len(h.Samples)-1]
	if s.Stored < 7 || s.Stored > 11 || s.StoreP99US < 20_000 || s.DeliverUS < 3000 || s.RSSBytes == 0 || s.At != end.UnixMilli() {
		t.Errorf("%+v", s)
	}
	if b.slowest.Load() >= int64(3*time.Millisecond) {
		t.Error("the slowest turn is counted twice")
	}
	var state apiclient.BoxState
	if status := b.ask("GET", "/v1/box", ann, &state); status != 200 || state.Machine.DiskBytes == 0 || state.Machine.MemoryBytes == 0 || state.Users != 1 {
		t.Errorf("%d %+v", status, state)
	}
}
