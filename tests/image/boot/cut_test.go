package boot

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/client"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
	"github.com/pipit-im/pipit/tests/crash/disk"
)

// cutsVar says how many times the power of the whole machine is cut.
const cutsVar = "PIPIT_IMAGE_CUTS"

const (
	defaultCuts = 2
	// underWay is how many messages wait for their acknowledgement at a time.
	underWay = 8
	// acksBefore is how many are acknowledged before the first cut may fall.
	acksBefore = 100
)

// TestPowerCuts cuts the power of the whole machine while people write, and while
// it updates itself, on a disk that forgets what was not flushed. The card that is
// left must boot, be well, and have every message that was acknowledged.
func TestPowerCuts(t *testing.T) {
	total := defaultCuts
	if v := os.Getenv(cutsVar); v != "" {
		var err error
		if total, err = strconv.Atoi(v); err != nil || total < 0 {
			t.Fatalf("%s=%q: want a number of cuts", cutsVar, v)
		}
	}
	if total == 0 {
		return // asked for, by a pipeline that has no time for it
	}
	o := flash(t, small)
	o.Processors = 2 // what is cut is in the middle of more
	disk.Need(t)
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)

	info, err := os.Stat(o.Card)
	if err != nil {
		t.Fatal(err)
	}
	d, err := disk.New(disk.Options{SizeBytes: info.Size(), Base: o.Card, Dir: filepath.Dir(o.Card)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("the disk: %v", err)
		}
	})
	o.Disk = d.URI()
	file, public := bundle(t)
	b := start(t, o)
	w := b.write(t, d)
	w.until(acksBefore)
	from := d.Position()
	update := b.update(d, file, public)
	w.until(w.count() + 2*acksBefore)
	to := d.Position()
	b.Cut()
	w.end()

	for i := range total {
		// Every other cut falls into the update.
		lo, hi, during := from, to, "while people write"
		if i%2 == 1 {
			lo, hi, during = update.from, update.to, "during the update"
		}
		at := lo + rng.Int64N(max(hi-lo, 1))
		t.Run(fmt.Sprintf("cut %d %s", i+1, during), func(t *testing.T) {
			img, err := d.CutAt(at, rng, disk.CutAny)
			if err != nil {
				t.Fatal(err)
			}
			defer img.Close()
			left := o
			left.Disk, left.Card, left.Dir = "", img.Path(), t.TempDir()
			after := start(t, left)
			after.settled()
			if said := after.sh("cat /run/pipit/boot-errors 2>/dev/null || true"); said != "" {
				t.Errorf("the start complained: %s", said)
			}
			owed := w.owed(t, d, at)
			got := w.readBack(t, after)
			lost := 0
			for text := range owed {
				if got[text] == 0 {
					lost++
				}
			}
			t.Logf("cut at %d of %d: %d messages owed, %d lost; runs %s", at, to, len(owed), lost, after.sh("pipit --version"))
			if lost > 0 {
				t.Errorf("%d of %d acknowledged messages are lost (seed %d)", lost, len(owed), seed)
			}
			for text, n := range got {
				if n > 1 {
					t.Errorf("%q stands there %d times", text, n)
				}
			}
			after.Cut()
		})
	}
}

// writer is somebody who writes without end, and what was acknowledged to him.
type writer struct {
	c     *client.Client
	token string
	conv  im.ConvID

	mu    sync.Mutex
	acked int
	more  *sync.Cond // acked grew
	ended bool
}

// write starts a writer. Each acknowledgement is stamped on the disk, so that a cut
// knows what it owes.
func (b *box) write(t *testing.T, d *disk.Disk) *writer {
	t.Helper()
	two := b.people("cuts", 2)
	w := &writer{token: two[0].Token}
	w.more = sync.NewCond(&w.mu)
	w.c = client.New(client.Options{URL: "http://" + b.Addr(80), Token: w.token, Name: "image-test"})
	w.conv = b.pair(b.ctx(), w.c, im.UserID(two[1].ID))
	for i := range underWay {
		w.next(d, i, underWay)
	}
	return w
}

func (w *writer) next(d *disk.Disk, n, step int) {
	text := fmt.Sprintf("message %d", n)
	w.c.SendAsync(client.Outgoing{Conversation: w.conv, Text: text}, func(_ client.Sent, err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if err == nil {
			d.Stamp(text)
			w.acked++
			w.more.Broadcast()
		}
		if !w.ended {
			go w.next(d, n+step, step)
		}
	})
}

func (w *writer) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// until waits for n acknowledgements in all.
func (w *writer) until(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.acked < n {
		w.more.Wait()
	}
}

func (w *writer) end() {
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	_ = w.c.Close()
}

// owed are the messages that were acknowledged before a cut at that position.
func (w *writer) owed(t *testing.T, d *disk.Disk, at int64) map[string]bool {
	t.Helper()
	stamps, err := d.Stamps(at)
	if err != nil {
		t.Fatal(err)
	}
	owed := map[string]bool{}
	for _, text := range stamps {
		owed[text.(string)] = true
	}
	return owed
}

// readBack counts each message that the box has.
func (w *writer) readBack(t *testing.T, b *box) map[string]int {
	t.Helper()
	ctx := b.ctx()
	c := client.New(client.Options{URL: "http://" + b.Addr(80), Token: w.token, Name: "image-test"})
	defer c.Close()
	if err := c.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for after := im.Seq(0); ; {
		var page im.Page
		err := c.Call(ctx, wire.MethodHistory, &wire.HistoryParams{Conversation: w.conv, After: after, HasAfter: true, Limit: im.MaxHistoryPage}, func(result []byte) (err error) {
			page, err = wire.DecodePage(result)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Entries {
			after = m.Entry.Seq
			if m.Entry.Kind == im.EntryMessage {
				got[m.Entry.Text]++
			}
		}
		if after >= page.Head || len(page.Entries) == 0 {
			return got
		}
	}
}

// span is a part of the disk's log.
type span struct{ from, to int64 }

// bundle makes a signed update, for the card's machine, of what is built here under
// a newer version, and returns its file and the public key.
func bundle(t *testing.T) (file, public string) {
	t.Helper()
	dir := t.TempDir()
	build := func(out, arch string) {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/pipit-im/pipit/pkg/app.Version="+newer, "-o", out, "./cmd/pipitd", "./cmd/pipit")
		cmd.Dir = top
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
	}
	build(dir+"/new/", "arm64")
	build(dir+"/here/", runtime.GOARCH)
	run(t, dir+"/here/pipit", "update", "keygen", dir+"/test")
	run(t, dir+"/here/pipit", "update", "bundle", dir+"/new", "--arch", "arm64", "--key", dir+"/test.key", "--bundle-version", newer, "--out", dir+"/new.pipit")
	text, err := os.ReadFile(dir + "/test.pub")
	if err != nil {
		t.Fatal(err)
	}
	return dir + "/new.pipit", string(text)
}

// newer is the version of the update.
const newer = "99.0.0"

// update installs a bundle, and says which part of the disk's log that was.
func (b *box) update(d *disk.Disk, file, public string) span {
	b.t.Helper()
	f, err := os.Open(file)
	b.must(err)
	defer f.Close()
	ctx := b.ctx()
	_, err = b.RunIn(ctx, "cat > /tmp/update.pipit", f)
	b.must(err)
	_, err = b.RunIn(ctx, "sudo mkdir -p /etc/pipit/keys && sudo tee /etc/pipit/keys/test.pub", strings.NewReader(public))
	b.must(err)
	s := span{from: d.Position()}
	out, err := b.Run(ctx, "sudo pipit update /tmp/update.pipit")
	s.to = d.Position()
	b.t.Logf("update: %s", strings.TrimSpace(out))
	if err != nil {
		b.t.Errorf("the update: %v", err)
	}
	return s
}
