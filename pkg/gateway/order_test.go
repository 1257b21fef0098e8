package gateway

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// patience is how long a test waits for what must come. It is no bound on speed.
const patience = time.Minute

// talker is a client that sends without waiting and checks the order in which it
// is answered (PROTOCOL 2.3, 5.3).
type talker struct {
	conn *fakeConn

	mu      sync.Mutex
	faults  []string
	replied map[int]im.Seq // by request id
	mine    map[im.Seq]int // the reverse
	last    im.Seq         // newest entry heard
	texts   map[im.Seq]string
	changed chan struct{} // capacity 1
	hello   []byte        // its result
	conv    im.ConvID     // of the newest HEAD replied
	open    map[int]string
}

func newTalker(w *world, name string, loop int) *talker {
	c := &talker{replied: map[int]im.Seq{}, mine: map[im.Seq]int{}, texts: map[im.Seq]string{}, open: map[int]string{}, changed: make(chan struct{}, 1)}
	c.conn = w.connect(name, loop, nil, c.hear)
	return c
}

func (c *talker) hear(_ *fakeConn, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		select {
		case c.changed <- struct{}{}:
		default:
		}
	}()
	var m struct {
		ID     int
		Method string
		Result json.RawMessage
		Error  *struct{ Message string }
		Params struct {
			Conversation im.ConvID
			Seq          im.Seq
			Text         string
			By           im.UserID
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		c.fault("%s", text)
		return
	}
	switch {
	case m.Error != nil:
		c.fault("request %d failed: %s", m.ID, m.Error.Message)
	case m.ID == 1:
		c.hello = m.Result
	case m.ID != 0:
		var r struct {
			ID  im.ConvID
			Seq im.Seq
		}
		if err := json.Unmarshal(m.Result, &r); err != nil {
			c.fault("%s", m.Result)
		}
		switch {
		case r.ID != "":
			c.conv = r.ID
			return
		case r.Seq == 0: // not of an entry
			c.replied[m.ID] = 0
			return
		}
		if r.Seq <= c.last {
			c.fault("the reply that names %d came after entry %d", r.Seq, c.last)
		}
		if before := c.replied[m.ID-1]; m.ID > 3 && before >= r.Seq {
			c.fault("request %d has seq %d, the one before %d", m.ID, r.Seq, before)
		}
		c.replied[m.ID], c.mine[r.Seq] = r.Seq, m.ID
	case m.Method == "entry":
		if m.Params.Seq != c.last+1 {
			c.fault("entry %d came after %d", m.Params.Seq, c.last)
		}
		c.last = m.Params.Seq
		c.texts[m.Params.Seq] = m.Params.Text
	}
}

func (c *talker) fault(format string, args ...any) {
	if len(c.faults) < 5 {
		c.faults = append(c.faults, c.conn.name+": "+fmt.Sprintf(format, args...))
	}
}

// until waits for ok, which is asked under the talker's lock.
func (c *talker) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		c.mu.Lock()
		done := ok()
		faults := c.faults
		c.mu.Unlock()
		if done || len(faults) > 0 {
			return
		}
		select {
		case <-c.changed:
		case <-deadline.C:
			t.Fatalf("%s: waited in vain for %s", c.conn.name, what)
		}
	}
}

func (c *talker) request(id int, method, params string) {
	c.conn.send(envelope(strconv.Itoa(id), method, params))
}

// TestRepliesComeBeforeEvents has many sessions of three users write to one
// conversation without waiting.
func TestRepliesComeBeforeEvents(t *testing.T) {
	w := newWorld(t, worldOptions{limits: im.Limits{FrameBytes: 65536, TextBytes: 1000, SendsPerMinute: 1_000_000}})
	const each = 150
	names := []string{"ann", "bob", "cat", "ann", "bob", "cat"}
	var all []*talker
	for i, name := range names {
		c := newTalker(w, fmt.Sprintf("%s %d", name, i), i%2)
		c.request(1, "session.hello", fmt.Sprintf(`{"token":%q}`, name))
		c.until(t, "hello", func() bool { return c.hello != nil })
		all = append(all, c)
	}
	all[0].request(2, "conversation.create", `{"kind":"group","title":"5a","members":["u_bob","u_cat"],"key":"k"}`)
	all[0].until(t, "create", func() bool { return all[0].conv != "" })
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() {
			for n := range each {
				c.request(3+n, "message.send", fmt.Sprintf(`{"conversation":%q,"key":"%d-%d","text":"%d-%d"}`, all[0].conv, i, n, i, n))
			}
		})
	}
	wg.Wait()
	total := im.Seq(each * len(all))
	for i, c := range all {
		c.until(t, "all entries", func() bool { return c.last == total && len(c.replied) == each })
		c.mu.Lock()
		for seq, id := range c.mine {
			if want := fmt.Sprintf("%d-%d", i, id-3); c.texts[seq] != want {
				c.fault("request %d was answered with seq %d, which is %q", id, seq, c.texts[seq])
			}
		}
		for _, f := range c.faults {
			t.Error(f)
		}
		c.mu.Unlock()
	}
	for _, c := range all {
		c.conn.hangUp()
	}
	w.end()
}
