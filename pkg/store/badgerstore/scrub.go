package badgerstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"

	"github.com/pipit-im/pipit/pkg/badgerdir"
	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// check is one reading of everything, for Verify at once, for the scrubber
// slowly.
type check struct {
	s      *Store
	r      *snap
	report store.Report
	// rest is called now and then with the bytes read since; an error ends the
	// reading.
	rest func(bytes int64) error

	spaces map[uint32]im.TenantID
	counts map[string]uint64 // what lists should have, minus what was seen
	log    struct {          // the log that is being read
		prefix []byte
		next   im.Seq
	}
	heads map[string]im.Seq // log prefix → head, for logs not seen to the end
	late  []key             // keys that may be forgotten
}

const maxDamages = 1000

func (c *check) damage(k []byte, what string) {
	c.report.Damaged++
	d := store.Damage{Place: place(k), What: what}
	if len(c.report.Damages) < maxDamages {
		c.report.Damages = append(c.report.Damages, d)
	}
	c.s.damages.Add(1)
	c.s.log.Error("damaged record", "place", d.Place, "what", what)
	if c.s.opt.OnDamage != nil {
		c.s.opt.OnDamage(d)
	}
}

// Verify implements store.Admin.
func (s *Store) Verify(ctx context.Context, progress func(records uint64)) (store.Report, error) {
	c := check{s: s}
	told := uint64(0)
	c.rest = func(int64) error {
		if err := ctx.Err(); err != nil {
			return gaveUp(err)
		}
		if progress != nil && c.report.Records-told >= 1000 {
			told = c.report.Records
			progress(told)
		}
		return nil
	}
	err := c.all(ctx)
	if err == nil && progress != nil {
		progress(c.report.Records)
	}
	return c.report, err
}

func (c *check) all(ctx context.Context) error {
	if err := c.tables(); err != nil {
		return err
	}
	r, err := c.s.read(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	c.r = r
	return c.records()
}

// tables reads every table file as a whole and checks all of its blocks: a
// block that cannot be read is otherwise only seen as records that are missing.
func (c *check) tables() error {
	named, err := badgerdir.Named(c.s.opt.Dir)
	if err != nil {
		return c.s.damaged(nil, err)
	}
	for _, t := range c.s.db.Tables() {
		how, ok := named[fmt.Sprintf("%06d", t.ID)]
		if !ok {
			how = compression // newer than the look into the manifest
		}
		name := table.NewFilename(t.ID, c.s.opt.Dir)
		// Read, not mapped: a compaction may end the file while it is looked at.
		data, err := os.ReadFile(name)
		if err == nil {
			err = badgerdir.VerifyTable(data, t.ID, how)
		}
		if err != nil && c.live(t.ID) {
			c.report.Damaged++
			c.s.damages.Add(1)
			d := store.Damage{Place: "table " + filepath.Base(name), What: "checksum does not match"}
			c.report.Damages = append(c.report.Damages, d)
			c.s.log.Error("damaged table", "place", d.Place, "cause", err)
			if c.s.opt.OnDamage != nil {
				c.s.opt.OnDamage(d)
			}
		}
		if err := c.rest(int64(len(data))); err != nil {
			return err
		}
	}
	return nil
}

func (c *check) live(id uint64) bool {
	for _, t := range c.s.db.Tables() {
		if t.ID == id {
			return true
		}
	}
	return false
}

// unread puts damage that ended a reading into the report.
func (c *check) unread(err *error) {
	if !errors.Is(*err, store.ErrDamaged) {
		return
	}
	c.report.Damaged++
	c.report.Damages = append(c.report.Damages, store.Damage{Place: "the files of the store", What: "they cannot all be read"})
	*err = nil
}

// records reads every record: checksum, place, form, and what it leads to.
func (c *check) records() (err error) {
	defer c.unread(&err)
	defer c.s.caught(nil, debug.SetPanicOnFault(true), &err)
	c.spaces = map[uint32]im.TenantID{}
	for id, sp := range c.s.spaces.all() {
		c.spaces[sp.n] = id
	}
	c.counts, c.heads = map[string]uint64{}, map[string]im.Seq{}
	it := c.r.txn.NewIterator(badger.IteratorOptions{PrefetchValues: false})
	defer it.Close()
	var since int64
	for it.Rewind(); it.Valid(); it.Next() {
		item := it.Item()
		k := item.Key()
		c.report.Records++
		size := int64(len(k)) + item.ValueSize()
		c.report.Bytes += size
		if since += size; since > 64<<10 {
			if err := c.rest(since); err != nil {
				return err
			}
			since = 0
		}
		err := item.Value(func(v []byte) error {
			p, err := unseal(k, v)
			if err != nil {
				c.pass(k)
				return err
			}
			return c.record(k, p)
		})
		if err != nil {
			c.damage(k, err.Error())
		}
	}
	c.endLog()
	for prefix, head := range c.heads {
		if head > 0 {
			c.damage([]byte(prefix), fmt.Sprintf("all %d entries of the log are missing", head))
		}
	}
	for list, n := range c.counts {
		if n != 0 {
			c.damage([]byte(list), fmt.Sprintf("the list is off its count by %d", int64(n)))
		}
	}
	return nil
}

// pass notes that a record of a log is there, if damaged.
func (c *check) pass(k []byte) {
	if at, err := parse(k); err == nil && at.kind == kindEntry && bytes.Equal(at.space.log(at.conv).b, c.log.prefix) {
		c.log.next = at.seq + 1
	}
}

// endLog checks that the log that was being read came to its head.
func (c *check) endLog() {
	if c.log.prefix == nil {
		return
	}
	p := string(c.log.prefix)
	if head := c.heads[p]; c.log.next != head+1 {
		c.damage(c.log.prefix, fmt.Sprintf("the log ends at %d and not at %d", c.log.next-1, head))
	}
	delete(c.heads, p)
	c.log.prefix = nil
}

// must notes damage if there is no record at k.
func (c *check) must(k key, from []byte) {
	if err := c.r.get(k, func([]byte) error { return nil }); errors.Is(err, errAbsent) {
		c.damage(from, "leads to "+place(k.b)+", which is missing")
	}
}

// record checks one record by its kind. Conversations sort before entries, so
// that every head is known when its log is read.
func (c *check) record(k, p []byte) error {
	at, err := parse(k)
	if err != nil {
		return err
	}
	if at.space.n == 0 {
		return nil
	}
	tenant, known := c.spaces[at.space.n]
	if !known {
		return errors.New("belongs to no tenant")
	}
	sp := at.space
	if at.kind != kindEntry {
		c.endLog()
	}
	switch at.kind {
	case kindTenant:
		_, err = decodeTenant(tenant, p)
	case kindUser:
		u, e := decodeUser(tenant, at.user, p)
		c.counts[string(sp.all(kindUser).b)]++
		if err = e; err == nil {
			c.must(sp.username(u.Username), k)
		}
	case kindUsername:
		c.must(sp.user(im.UserID(p)), k)
	case kindCredential:
		_, err = decodeCredential(p)
	case kindConv:
		conv, e := decodeConv(tenant, at.conv, p)
		c.counts[string(sp.all(kindConv).b)]++
		if err = e; err == nil {
			c.heads[string(sp.log(at.conv).b)] = conv.Head
		}
	case kindDirect:
		c.must(sp.conv(im.ConvID(p)), k)
	case kindChannel:
		c.counts[string(sp.all(kindChannel).b)]++
		c.must(sp.conv(at.conv), k)
	case kindEntry:
		err = c.entry(sp, at, k, p)
	case kindMember:
		c.counts[string(sp.members(at.conv).b)]++
		_, err = decodeMember(at.conv, at.user, p)
	case kindOfUser:
		c.counts[string(sp.ofUsers(at.user).b)]++
		c.must(sp.member(at.conv, at.user), k)
	case kindReaction:
		_, err = decodeStanding(p)
	case kindPin:
		q, e := decodeUint(p)
		if err = e; err == nil {
			c.must(sp.entry(at.conv, im.Seq(q)), k)
		}
	case kindKey:
		var rec keyRecord
		if err = rec.decode(p); err == nil && c.forgettable(&rec) {
			c.late = append(c.late, key{bytes.Clone(k)})
		}
	case kindSignIn:
		in, e := decodeSignIn(tenant, [32]byte([]byte(at.name)), p)
		if err = e; err == nil {
			c.must(sp.signInOf(in.User, in.Hash), k)
		}
	case kindSignInsOf:
		c.counts[string(sp.signInsOf(at.user).b)]++
		c.must(sp.signIn([32]byte([]byte(at.name))), k)
	case kindRecord:
		c.counts[string(sp.records(store.RecordKind(at.name[0])).b)]++
	case kindCount:
		n, e := decodeUint(p)
		c.counts[string(sp.prefix())+at.name] -= n
		err = e
	}
	return err
}

func (c *check) entry(sp space, at parts, k, p []byte) error {
	prefix := sp.log(at.conv).b
	if !bytes.Equal(prefix, c.log.prefix) {
		c.endLog()
		c.log.prefix, c.log.next = bytes.Clone(prefix), 1
		if _, ok := c.heads[string(prefix)]; !ok {
			c.damage(prefix, "a log without its conversation")
		}
	}
	if at.seq != c.log.next {
		c.damage(k, fmt.Sprintf("the entries from %d on are missing before it", c.log.next))
	}
	c.log.next = at.seq + 1
	c.report.Entries++
	var m record
	if err := m.decode(at.conv, at.seq, p); err != nil {
		return err
	}
	if m.Pinned != 0 {
		c.must(sp.pin(at.conv, m.Pinned), k)
	}
	return nil
}

// Keys are forgotten when they are a day older than promised.
func (c *check) forgettable(rec *keyRecord) bool {
	const keep = (im.KeyMemoryDays + 1) * 24
	return len(c.late) < 10000 && uint64(c.s.Age().Hours()) > rec.ageHours+keep
}

// scrubRate bounds what the scrubber reads at a time, in bytes a second.
const scrubRate = 1 << 20

// scrubLoop reads everything once in each interval, slowly, reports what is
// damaged, and forgets old idempotency keys. It ends when quit is closed.
func (s *Store) scrubLoop() {
	defer s.running.Done()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pause := func(d time.Duration) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-s.quit:
			return errClosed()
		}
	}
	// Soon after the start, when the rush is over, and then by the interval.
	for wait := min(s.opt.ScrubInterval, 10*time.Minute); pause(wait) == nil; wait = s.opt.ScrubInterval {
		if err := s.scrub(ctx, pause); err != nil {
			if im.Is(err, im.Unavailable) {
				continue // full, or closing
			}
			s.log.Warn("scrub did not finish", "cause", err)
		}
	}
}

func (s *Store) scrub(ctx context.Context, pause func(time.Duration) error) error {
	c := check{s: s}
	c.rest = func(n int64) error {
		s.scrubbed.Store(c.report.Records)
		return pause(time.Duration(float64(n) / scrubRate * float64(time.Second)))
	}
	if err := c.all(ctx); err != nil {
		return err
	}
	s.scrubbed.Store(c.report.Records)
	s.log.Info("scrub finished", "records", c.report.Records, "entries", c.report.Entries, "damaged", c.report.Damaged)
	if len(c.late) == 0 {
		return nil
	}
	return s.submit(ctx, &job{writes: 1, alone: true, run: func(t *tx) error {
		for _, k := range c.late {
			if t.full() {
				t.cut()
			}
			t.del(k)
		}
		return nil
	}})
}
