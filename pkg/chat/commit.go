package chat

import (
	"errors"
	"time"

	"github.com/pipit-im/pipit/pkg/bus"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// A batch is what one Append makes durable: commands in the order in which they
// were taken, their outcomes, and the writes of those that were accepted.
type batch struct {
	outs   []outcome
	staged []*staged
	writes []*store.Write // of staged, in the same order
	convs  []*conv        // with staged writes
	places []*member      // with staged places
	// first is the outcome from which on outcomes may rest on staged state.
	first int
	bytes int

	// What a later command of the batch may not depend on, because only the store
	// could answer and does not know it yet; see errFlush.
	keys  map[keyName]struct{}
	pairs map[pairName]struct{}
	marks map[markName]struct{}

	events []bus.Event
}

type outcome struct {
	pending
	res Result
	err error
	// headOf: the reply carries the actor's head of this conversation, made after
	// the commit.
	headOf *conv
	// pass: it goes out in its sender's quiet hours (PROTOCOL 6.7).
	pass bool
}

// keyName, pairName and markName name what a batch has changed: a key, the
// direct conversation of two users, and what is in force on a message (a
// reaction of somebody, the pin, or with neither, the recall).
type keyName struct {
	userKey
	key string
}

type pairName struct {
	tenant im.TenantID
	peers  [2]im.UserID
}

type markName struct {
	convKey
	target im.Seq
	pin    bool
	by     im.UserID
	emoji  string
}

// staged is an accepted command on its way to the store, with everything it
// writes in one allocation.
type staged struct {
	w     store.Write
	conv  *conv
	rec   im.Conversation
	key   store.Key
	entry [1]im.Entry
	// members belong to w.Members, one for one.
	members []*member

	// Whom the events are for.
	changed  []im.UserID // bus.Changed to each
	everyone bool        // bus.Changed to all members
	left     []im.UserID // bus.Left to each
	marked   bool        // bus.Read
	session  im.SessionID
}

const (
	// maxBatch and maxBatchBytes bound one Append: large enough that the flush
	// costs next to nothing a write, small enough that the first of the batch does
	// not wait for the work of the last.
	maxBatch      = 512
	maxBatchBytes = 1 << 20
)

// errFlush says that a command depends on something staged that only the store
// can tell. The batch is committed first, then the command is run again. It is
// returned before anything was staged or counted for that command.
var errFlush = errors.New("chat: commit the batch first")

func newBatch() *batch {
	return &batch{
		keys:  make(map[keyName]struct{}),
		pairs: make(map[pairName]struct{}),
		marks: make(map[markName]struct{}),
	}
}

func (b *batch) reset() {
	clear(b.outs)
	clear(b.staged)
	clear(b.writes)
	clear(b.convs)
	clear(b.places)
	b.outs, b.staged, b.writes, b.convs, b.places = b.outs[:0], b.staged[:0], b.writes[:0], b.convs[:0], b.places[:0]
	b.first, b.bytes = 0, 0
	clear(b.keys)
	clear(b.pairs)
	clear(b.marks)
}

// commit is the commit goroutine.
func (c *Chat) commit() {
	defer close(c.commits)
	for {
		items := c.queue.take(maxBatch)
		if items == nil {
			return
		}
		began := c.mono()
		for i := range items {
			p := items[i]
			items[i] = pending{} // the queue's slice must not keep it alive
			if p.call != nil {
				c.flush()
				p.call()
				continue
			}
			c.run(p)
			if len(c.batch.outs) >= maxBatch || c.batch.bytes >= maxBatchBytes {
				c.flush()
			}
		}
		c.flush()
		c.convs.evict()
		c.rest(len(items), began)
	}
}

// rest lets more commands gather for the next commit (pace).
func (c *Chat) rest(commands int, began time.Duration) {
	wait := c.pace.rest(commands, c.mono()-began)
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.queue.shut: // what waits is for the last commit
	}
}

// run runs one command against the staged state and adds its outcome to the
// batch.
func (c *Chat) run(p pending) {
	c.stats.commands.Add(1)
	out := outcome{pending: p}
	n := len(c.batch.staged)
	err := c.handle(&out)
	if err == errFlush {
		c.flush()
		n = 0
		err = c.handle(&out)
	}
	out.err = err
	if err != nil {
		if err == out.limited {
			c.stats.rateLimited.Add(1)
		}
		out.res, out.headOf, out.pass = Result{}, nil, false
		c.spend(&out) // refused ones count too (PROTOCOL 6.6)
	}
	b := c.batch
	if n == 0 && len(b.staged) > 0 {
		b.first = len(b.outs)
	}
	b.outs = append(b.outs, out)
}

// spend takes a token of the sender's rate, once for each command.
func (c *Chat) spend(out *outcome) error {
	if out.counted || out.cmd.System || !out.cmd.Op.counts() {
		return out.limited
	}
	out.counted = true
	wait, ok := c.rates.take(userKey{out.cmd.Actor.Tenant, out.cmd.Actor.User}, c.limits().SendsPerMinute)
	if ok {
		out.limited = c.withinQuota(out.cmd)
		return out.limited
	}
	out.limited = &im.Error{Kind: im.RateLimited, Message: "You are sending too fast. Wait a moment.", RetryAfter: wait}
	return out.limited
}

// flush commits the batch, if there is one, and tells everybody.
func (c *Chat) flush() {
	b := c.batch
	if len(b.outs) == 0 {
		return
	}
	if len(b.writes) > 0 {
		start := c.mono()
		err := c.store.Append(bg, b.writes)
		took := c.mono() - start
		if c.onCommit != nil {
			c.onCommit(len(b.writes), took, err)
		}
		if err != nil {
			c.fail(err, took)
			return
		}
		if c.failing {
			c.failing = false
			c.log.Info("commits go on")
		}
		c.pace.took(took)
		c.stats.commits.Add(1)
		c.stats.writes.Add(uint64(len(b.writes)))
		c.adopt()
	}
	c.answer()
	c.publish(b.events)
	clear(b.events)
	b.events = b.events[:0]
	b.reset()
}

// fail takes everything staged back after a failed Append. If the store takes no
// writes, whatever rests on what was not stored is answered so. Any other error
// may be the fault of one write alone, say on a damaged record: then each command
// is run by itself, so that it does not take the others along for ever.
func (c *Chat) fail(err error, took time.Duration) {
	c.stats.commitErrors.Add(1)
	b := c.batch
	for _, m := range b.places {
		m.cur, m.dirty = m.pub.Load(), false
	}
	for _, cv := range b.convs {
		cv.cur, cv.dirty, cv.staged = cv.pub.Load(), false, nil
	}
	if !c.failing { // once, not for each of the many that try again
		c.failing = true
		c.log.Warn("commits fail", "writes", len(b.writes), "took", took, "kind", im.KindOf(err).String(), "err", err)
	}
	if im.KindOf(err) != im.Unavailable {
		// What is in memory may be what was wrong (store.ErrStale): read it again.
		for _, st := range b.staged {
			c.convs.remove(st.conv.key)
		}
	}
	alone := im.KindOf(err) != im.Unavailable && len(b.outs) > 1
	var again []pending
	for i := b.first; i < len(b.outs); i++ {
		out := &b.outs[i]
		if alone {
			again = append(again, out.pending)
			continue
		}
		out.res, out.headOf, out.err = Result{}, nil, refusal(out.cmd.Op, err)
	}
	if alone {
		b.outs = b.outs[:b.first]
	}
	c.answer()
	b.reset()
	for _, p := range again {
		c.run(p)
		c.flush()
	}
}

// refusal is what the sender of an unstored command hears.
func refusal(op Op, err error) error {
	if im.Is(err, im.Unavailable) {
		e := &im.Error{Kind: im.Unavailable, Message: "The server can't store anything now. Nothing was stored; try again later.", Op: "chat " + op.String(), Cause: err}
		var of *im.Error
		if errors.As(err, &of) {
			e.RetryAfter = of.RetryAfter
		}
		return e
	}
	return im.Wrap("chat "+op.String(), err)
}

// adopt makes the committed batch visible to readers.
func (c *Chat) adopt() {
	b := c.batch
	change := im.Change(c.change.Load())
	for _, st := range b.staged {
		if st.w.Conv != nil {
			st.conv.cur.rec.Change = st.rec.Change
			change = max(change, st.rec.Change)
			c.stats.entries.Add(uint64(len(st.w.Entries)))
		}
		for i, m := range st.members {
			m.cur.change = st.w.Members[i].Change
			change = max(change, m.cur.change)
			if m.pub.Load() == nil {
				c.member.add(userKey{st.w.Tenant, m.user}, st.conv.key.id)
			}
		}
	}
	for _, m := range b.places {
		m.pub.Store(m.cur)
		m.dirty = false
	}
	for _, cv := range b.convs {
		created := cv.pub.Load() == nil
		cv.mu.Lock()
		for _, st := range cv.staged {
			for i := range st.w.Entries {
				cv.tail.apply(&st.w.Entries[i])
				cv.digest.apply(&st.w.Entries[i])
			}
		}
		cv.pub.Store(cv.cur)
		cv.mu.Unlock()
		clear(cv.staged)
		cv.dirty, cv.staged = false, cv.staged[:0]
		if created {
			c.convs.put(cv)
		} else {
			c.convs.weigh(cv)
		}
		if cv.cur.rec.Kind == im.KindChannel {
			c.channels.update(cv.key, &cv.cur.rec)
		}
	}
	c.change.Store(uint64(change))
	for _, st := range b.staged {
		c.gather(st)
	}
}

// gather appends the events of one write, in the order that PROTOCOL 3.4 and 4.4
// ask for: who joins hears of the conversation before its entry, who left hears
// no more of it.
func (c *Chat) gather(st *staged) {
	b, cv := c.batch, st.conv
	t, s := cv.key.tenant, cv.pub.Load()
	c.gatherChanges(st, s)
	for _, u := range st.left {
		b.events = append(b.events, bus.Event{Kind: bus.Left, Tenant: t, Conv: cv.key.id, User: u,
			Head: &im.Head{ID: cv.key.id, Kind: s.rec.Kind, Left: true}})
	}
	for i := range st.w.Entries {
		e := &st.w.Entries[i]
		e.Key = "" // its author sees it in pages only (PROTOCOL 6.5); the store has it
		b.events = append(b.events, bus.Event{Kind: bus.Entry, Tenant: t, Conv: cv.key.id, Seq: e.Seq, Entry: e})
	}
	if st.marked {
		m := &st.w.Members[0]
		wide := s.rec.Members <= im.EphemeralMembers && c.receipts.mark(t, cv.key.id, m.User, m.Read, st.session)
		b.events = append(b.events, bus.Event{Kind: bus.Read, Tenant: t, Conv: cv.key.id, User: m.User, Seq: m.Read,
			Wide: wide, Session: st.session})
	}
}

// fewChanged is up to how many heads it is cheaper to count one by one.
const fewChanged = 8

// gatherChanges appends the events that members' views changed.
func (c *Chat) gatherChanges(st *staged, s *state) {
	if !st.everyone && len(st.changed) <= fewChanged {
		for _, u := range st.changed {
			c.gatherChanged(st.conv, u, nil)
		}
		return
	}
	changed := make(map[im.UserID]struct{}, len(st.changed))
	for _, u := range st.changed {
		changed[u] = struct{}{}
	}
	all := c.countAll(st.conv, s)
	for i, m := range s.roster {
		if _, ok := changed[m.user]; ok || st.everyone {
			c.gatherChanged(st.conv, m.user, all[i])
		}
	}
}

// gatherChanged appends the event that u's view changed, unless u has left again.
func (c *Chat) gatherChanged(cv *conv, u im.UserID, counted *tally) {
	if h := c.headAfter(cv, u, counted); !h.Left {
		c.batch.events = append(c.batch.events, bus.Event{Kind: bus.Changed, Tenant: cv.key.tenant, Conv: cv.key.id, User: u, Head: h})
	}
}

// countAll counts what each member has not read, for a change that all of them
// hear of: each by itself would cost members times messages.
func (c *Chat) countAll(cv *conv, s *state) []*tally {
	lowest := s.rec.Head
	for _, m := range s.roster {
		if p := m.pub.Load(); p.role != 0 {
			lowest = min(lowest, p.read)
		}
	}
	if err := c.extend(bg, cv, lowest+1); err != nil {
		c.unreadable(cv.key, err)
	}
	cv.mu.Lock()
	defer cv.mu.Unlock()
	return cv.digest.tallies(s.roster)
}

// headAfter returns a member's head after a commit. What was committed is
// answered as such even if something else of the head cannot be read just now:
// then the counts and the newest message are missing from it.
func (c *Chat) headAfter(cv *conv, u im.UserID, counted *tally) *im.Head {
	h, err := c.headOf(bg, cv, u, counted)
	if err != nil {
		c.unreadable(cv.key, err)
	}
	return &h
}

// answer sends the replies of the batch, in order.
func (c *Chat) answer() {
	for i := range c.batch.outs {
		out := &c.batch.outs[i]
		if out.err == nil && out.headOf != nil {
			out.res.Head = c.headAfter(out.headOf, out.cmd.Actor.User, nil)
		}
		if out.pass && out.err == nil {
			c.passes.put(Pass{Tenant: out.cmd.Actor.Tenant, User: out.cmd.Actor.User, SignIn: out.cmd.Actor.SignIn,
				Conv: out.cmd.Conv, Seq: out.res.Seq, Time: out.res.Time})
		}
		out.to.Reply(out.cmd, out.res, out.err)
	}
}
