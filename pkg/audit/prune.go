package audit

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// class divides a tenant's events by who can cause them, for the room they get.
type class int

const (
	weighty class = iota
	light
	classes
)

func classOf(isLight bool) class {
	if isLight {
		return light
	}
	return weighty
}

// state is kept beside the events.
type state struct {
	last uint64 // number of the newest event
	// from[c] is a number below which no event of c is left, kept[c] how many are.
	from, kept [classes]uint64
}

// first is a number below which no event is left.
func (s *state) first() uint64 { return min(s.from[weighty], s.from[light]) }

// stateID is the only id of store.RecordAuditState.
const stateID = "state"

// stateWords is how many numbers a state has; one of two is of a log from before
// there were classes, whose events all count as weighty.
const stateWords = 1 + 2*int(classes)

func decodeState(b []byte) state {
	switch len(b) {
	case 8 * stateWords:
		at := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
		return state{last: at(0), from: [classes]uint64{at(1), at(2)}, kept: [classes]uint64{at(3), at(4)}}
	case 16:
		first, last := binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])
		return state{last: last, from: [classes]uint64{first, last + 1}, kept: [classes]uint64{last + 1 - first, 0}}
	}
	return state{from: [classes]uint64{1, 1}}
}

func (s *state) encode() []byte {
	var b []byte
	for _, n := range []uint64{s.last, s.from[weighty], s.from[light], s.kept[weighty], s.kept[light]} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// Prune removes the events of a tenant that are older than keep (0:
// DefaultKeep) in running time, and what is above MaxKept. It returns how many
// there were. It also writes down how often was repeated what was only counted. To
// be called about once an hour.
func (l *Log) Prune(ctx context.Context, t im.TenantID, keep time.Duration) (int, error) {
	if keep <= 0 {
		keep = DefaultKeep
	}
	l.pruning.Lock()
	defer l.pruning.Unlock()
	if sums := l.flood.sums(t, l.box.Age()); len(sums) > 0 {
		now := im.Millis(l.box.Now().UnixMilli())
		for i := range sums {
			sums[i].Time = now
		}
		if err := l.store(ctx, t, sums, l.box.Age()); err != nil {
			return 0, err
		}
	}
	total := 0
	for {
		n, more, err := l.pruneSome(ctx, t, keep)
		total += n
		if err != nil {
			return total, im.Wrap("audit: prune tenant "+string(t), err)
		}
		if !more {
			break
		}
	}
	if total > 0 {
		l.log.Info("audit events pruned", "tenant", string(t), "events", total)
	}
	return total, nil
}

// pruneAtOnce is how many events one step looks at: few enough to let others in.
const pruneAtOnce = 200

// pruneSome removes what is too old, else what is too much: of the class that has
// more than its half. It returns how many it removed and whether to go on.
func (l *Log) pruneSome(ctx context.Context, t im.TenantID, keep time.Duration) (n int, more bool, err error) {
	s, err := l.load(ctx, t)
	if err != nil || s.last < s.first() {
		return 0, false, err
	}
	age := l.box.Age()
	old := func(e *stored) bool { return age-e.Age >= keep }
	n, more, err = l.remove(ctx, t, s.first(), weighty, light, func(e *stored, _ int) (bool, bool) { return old(e), old(e) })
	if more || err != nil {
		return n, more, err
	}
	total, half := s.kept[weighty]+s.kept[light], uint64(l.max)/2
	if total <= uint64(l.max) {
		return 0, false, nil
	}
	victim, extra := weighty, total-uint64(l.max)
	if s.kept[light] > half {
		victim, extra = light, min(extra, s.kept[light]-half)
	}
	return l.remove(ctx, t, s.from[victim], victim, victim, func(e *stored, so int) (gone, on bool) {
		return uint64(so) < extra && classOf(e.Light) == victim, uint64(so) < extra
	})
}

// remove looks at the events from number from on, up to pruneAtOnce, and deletes
// those that judge says are gone, until it says not to go on; judge gets how many
// are gone so far. Of the classes from lo to hi nothing is left below where it came
// to. It returns how many it deleted, and whether it came anywhere.
func (l *Log) remove(ctx context.Context, t im.TenantID, from uint64, lo, hi class, judge func(e *stored, so int) (gone, on bool)) (n int, came bool, _ error) {
	page, err := l.records.ListRecords(ctx, t, store.RecordAudit, "", id(from-1), pruneAtOnce)
	if err != nil {
		return 0, false, err
	}
	var gone []uint64
	var minus [classes]uint64
	to := from
	for _, r := range page {
		var e stored
		if err := json.Unmarshal(r.Value, &e); err != nil {
			return 0, false, err
		}
		drop, on := judge(&e, len(gone))
		if !on {
			break
		}
		if to = e.Seq + 1; drop {
			gone = append(gone, e.Seq)
			minus[classOf(e.Light)]++
		}
	}
	if to == from {
		return 0, false, nil
	}
	err = l.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		raw, err := tx.Get(store.RecordAuditState, stateID)
		if err != nil {
			return err
		}
		now := decodeState(raw) // events were added meanwhile, none removed
		for _, seq := range gone {
			tx.Delete(store.RecordAudit, id(seq))
		}
		for c := range classes {
			now.kept[c] -= minus[c]
			if c >= lo && c <= hi {
				now.from[c] = max(now.from[c], to)
			}
		}
		tx.Put(store.RecordAuditState, stateID, now.encode())
		return nil
	})
	return len(gone), err == nil, err
}
