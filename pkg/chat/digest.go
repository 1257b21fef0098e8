package chat

import (
	"cmp"
	"context"
	"slices"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// digest holds four bytes for each entry of a log from some seq on, so that
// unread messages are counted in memory and exactly, whatever was recalled
// (PROTOCOL 3.5). It begins empty at the head a conversation was loaded with,
// follows the commits, and is extended backward from the store when somebody has
// read less than it covers. Guarded by conv.mu.
type digest struct {
	from     im.Seq   // covers from … from+len(marks)-1, which is the head
	marks    []uint32 // author number << 8 | mark bits
	ids      map[im.UserID]uint32
	mentions map[im.Seq][]uint32 // whom a message names; those that name nobody are left out
	// recalls counts the recalls that were followed: an extension that was read
	// from the store while one came may have missed it.
	recalls uint64
	limit   int // entries kept at most: maxDigest, but for tests
}

const (
	markMessage  = 1 << iota
	markRecalled // the message was recalled
	markMentions // mentions has it
)

const (
	// maxDigest bounds the entries of one conversation that are kept (4 bytes
	// each). Who has read less than that is counted from the store each time.
	maxDigest = 1 << 20
	// digestStep is the least that is read from the store at a time.
	digestStep = 512
	// digestChunk is the most: it bounds the memory that an extension takes.
	digestChunk = 8192
)

func (d *digest) start(head im.Seq, limit int) { d.from, d.limit = head+1, limit }

func (d *digest) size() int64 {
	return 4*int64(cap(d.marks)) + 60*int64(len(d.ids)) + 80*int64(len(d.mentions))
}

// number returns the short number of a user within this digest.
func (d *digest) number(u im.UserID) uint32 {
	n, ok := d.ids[u]
	if !ok {
		if d.ids == nil {
			d.ids = make(map[im.UserID]uint32)
		}
		n = uint32(len(d.ids) + 1)
		d.ids[u] = n
	}
	return n
}

func (d *digest) mark(e *store.Digest) uint32 {
	if e.Kind != im.EntryMessage {
		return 0
	}
	mark := d.number(e.By)<<8 | markMessage
	if e.Recalled {
		mark |= markRecalled
	}
	if len(e.Mentions) > 0 {
		mark |= markMentions
		named := make([]uint32, len(e.Mentions))
		for i, u := range e.Mentions {
			named[i] = d.number(u)
		}
		if d.mentions == nil {
			d.mentions = make(map[im.Seq][]uint32)
		}
		d.mentions[e.Seq] = named
	}
	return mark
}

// apply follows one committed entry, which is the next.
func (d *digest) apply(e *im.Entry) {
	d.marks = append(d.marks, d.mark(&store.Digest{Seq: e.Seq, Kind: e.Kind, By: e.By, Mentions: e.Mentions}))
	if e.Kind == im.EntryRecall {
		d.recalls++
		if e.Target >= d.from {
			d.marks[e.Target-d.from] |= markRecalled
		}
	}
	if len(d.marks) > d.limit {
		d.trim(len(d.marks) - d.limit/2)
	}
}

// trim drops the oldest n.
func (d *digest) trim(n int) {
	d.marks = slices.Clone(d.marks[n:])
	d.from += im.Seq(n)
	for seq := range d.mentions {
		if seq < d.from {
			delete(d.mentions, seq)
		}
	}
}

// isMessage reports whether seq is a message, if the digest covers it.
func (d *digest) isMessage(seq im.Seq) (is, known bool) {
	if seq < d.from || seq-d.from >= im.Seq(len(d.marks)) {
		return false, false
	}
	return d.marks[seq-d.from]&markMessage != 0, true
}

// count returns the unread messages of u above read, and those of them that name
// u, as far as the digest covers them.
func (d *digest) count(u im.UserID, read im.Seq) (unread, mentions int) {
	me, known := d.ids[u]
	if !known {
		me = 1 << 24 // no author's number
	}
	skip := 0
	if read+1 > d.from {
		skip = int(read + 1 - d.from)
	}
	if skip >= len(d.marks) {
		return 0, 0
	}
	for i, m := range d.marks[skip:] {
		if m&(markMessage|markRecalled) != markMessage || m>>8 == me {
			continue
		}
		unread++
		if m&markMentions != 0 && known && slices.Contains(d.mentions[d.from+im.Seq(skip+i)], me) {
			mentions++
		}
	}
	return unread, mentions
}

// tally is what somebody has not read.
type tally struct{ unread, mentions int }

// tallies counts for all members at once, in one walk over the digest however
// many they are. The result has one for each of the roster; those who left, and
// those whose read mark is below the digest, have none.
func (d *digest) tallies(roster []*member) []*tally {
	type reader struct {
		at     int // in the roster
		read   im.Seq
		number uint32
	}
	readers := make([]reader, 0, len(roster))
	for i, m := range roster {
		if p := m.pub.Load(); p.role != 0 && p.read+1 >= d.from {
			readers = append(readers, reader{i, p.read, d.ids[m.user]}) // 0 is nobody's number
		}
	}
	slices.SortFunc(readers, func(a, b reader) int { return cmp.Compare(b.read, a.read) })
	all := make([]*tally, len(roster))
	own, named := make([]int, len(d.ids)+1), make([]int, len(d.ids)+1)
	total, next := 0, len(d.marks)
	for _, r := range readers {
		for ; next > 0 && d.from+im.Seq(next-1) > r.read; next-- {
			mark := d.marks[next-1]
			if mark&(markMessage|markRecalled) != markMessage {
				continue
			}
			total++
			own[mark>>8]++
			if mark&markMentions == 0 {
				continue
			}
			for _, n := range d.mentions[d.from+im.Seq(next-1)] {
				if n != mark>>8 {
					named[n]++
				}
			}
		}
		all[r.at] = &tally{total - own[r.number], named[r.number]}
	}
	return all
}

// covers reports whether everything above read can be counted here, or as much
// as ever will be: a digest that was full once is cut by half and not extended
// again, or it would be read anew with each cut.
func (d *digest) covers(read im.Seq) bool { return read+1 >= d.from || len(d.marks) >= d.limit/2 }

// extend reads from the store what the digest of cv lacks to count from need on,
// at most up to its limit in all, and at least digestStep entries.
func (c *Chat) extend(ctx context.Context, cv *conv, need im.Seq) error {
	cv.loadMu.Lock()
	defer cv.loadMu.Unlock()
	for {
		cv.mu.Lock()
		to, recalls, room := cv.digest.from-1, cv.digest.recalls, cv.digest.limit-len(cv.digest.marks)
		cv.mu.Unlock()
		if need > to || room <= 0 {
			return nil
		}
		n := min(max(to-need+1, digestStep), digestChunk, to, im.Seq(room))
		entries, err := c.scan(ctx, cv.key, to-n+1, to)
		if err != nil {
			return err
		}
		cv.mu.Lock()
		if cv.digest.recalls == recalls && cv.digest.from-1 == to {
			cv.digest.prepend(entries)
		}
		cv.mu.Unlock()
		c.convs.weigh(cv)
	}
}

// scan reads the digests from … to, and fails if one is missing.
func (c *Chat) scan(ctx context.Context, k convKey, from, to im.Seq) ([]store.Digest, error) {
	entries := make([]store.Digest, 0, to-from+1)
	err := c.store.Scan(ctx, k.tenant, k.id, from, to, func(e *store.Digest) bool {
		n := *e
		n.Mentions = slices.Clone(e.Mentions)
		entries = append(entries, n)
		return true
	})
	if err == nil && im.Seq(len(entries)) != to-from+1 {
		err = store.ErrDamaged
	}
	return entries, im.Wrap("scan "+string(k.id), err)
}

func (d *digest) prepend(entries []store.Digest) {
	marks := make([]uint32, 0, len(entries)+len(d.marks)+len(d.marks)/8)
	for i := range entries {
		marks = append(marks, d.mark(&entries[i]))
	}
	d.marks = append(marks, d.marks...)
	d.from -= im.Seq(len(entries))
}

// countOlder counts from the store what lies between read and the digest, for
// the rare one who is more than maxDigest entries behind.
func (c *Chat) countOlder(ctx context.Context, k convKey, u im.UserID, read, from im.Seq) (unread, mentions int, err error) {
	err = c.store.Scan(ctx, k.tenant, k.id, read+1, from-1, func(e *store.Digest) bool {
		if e.Kind == im.EntryMessage && !e.Recalled && e.By != u {
			unread++
			if slices.Contains(e.Mentions, u) {
				mentions++
			}
		}
		return true
	})
	return unread, mentions, im.Wrap("count "+string(k.id), err)
}
