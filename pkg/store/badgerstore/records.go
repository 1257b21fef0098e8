package badgerstore

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// recordSpace is the place of a tenant's records, of the box for the empty one.
// A tenant that is not there: errAbsent.
func (t *tx) recordSpace(id im.TenantID) (space, error) {
	if id == "" {
		return space{}, nil
	}
	if sp, ok := t.s.spaces.find(id); ok {
		return sp, nil
	}
	if sp, ok := t.newTenants[id]; ok {
		return sp, nil
	}
	return space{}, errAbsent
}

// records begins a snapshot for reading records.
func (s *Store) records(ctx context.Context, t im.TenantID) (*snap, space, error) {
	if t == "" {
		r, err := s.read(ctx)
		return r, space{}, err
	}
	return s.in(ctx, t)
}

// Record implements store.Records.
func (s *Store) Record(ctx context.Context, t im.TenantID, k store.RecordKind, id string) (v []byte, err error) {
	r, sp, err := s.records(ctx, t)
	if err != nil {
		return nil, orNotFound(err, "record")
	}
	defer r.end()
	err = r.get(sp.record(k, id), func(p []byte) error {
		v = append([]byte{}, p...)
		return nil
	})
	return v, orNotFound(err, "record")
}

// ListRecords implements store.Records.
func (s *Store) ListRecords(ctx context.Context, t im.TenantID, k store.RecordKind, prefix, after string, limit int) ([]store.Record, error) {
	r, sp, err := s.records(ctx, t)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.end()
	return r.listRecords(sp, k, prefix, after, limit, nil)
}

// listRecords reads a stretch of records. Those whose key is in over are as over
// has them: sealed, or nil for deleted.
func (r *snap) listRecords(sp space, k store.RecordKind, prefix, after string, limit int, over map[string][]byte) ([]store.Record, error) {
	limit = min(max(limit, 1), store.MaxRecordsPage)
	under := sp.record(k, prefix)
	from := under
	if after > prefix {
		from = sp.record(k, after).raw("\x00") // the first key above it
	}
	if after > prefix && !strings.HasPrefix(after, prefix) {
		return nil, nil // all that begins with prefix sorts below it
	}
	var top []string // keys of over in the stretch, in order
	for key := range over {
		if strings.HasPrefix(key, string(under.b)) && key >= string(from.b) {
			top = append(top, key)
		}
	}
	slices.Sort(top)
	head := len(sp.records(k).b)
	var out []store.Record
	add := func(key string, payload []byte) bool {
		out = append(out, store.Record{ID: key[head:], Value: append([]byte{}, payload...)})
		return len(out) < limit
	}
	// merge adds what over has below the key, or everything for an empty one.
	merge := func(below string) bool {
		for len(top) > 0 && (below == "" || top[0] < below) {
			key := top[0]
			top = top[1:]
			if v := over[key]; v != nil && !add(key, v[sumBytes:]) {
				return false
			}
		}
		return true
	}
	full := false
	err := r.each(under, from, func(key, p []byte) error {
		ks := string(key)
		if full = !merge(ks); full {
			return errStop
		}
		if _, ok := over[ks]; ok {
			return nil // merge adds it before the next one
		}
		if full = !add(ks, p); full {
			return errStop
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !full {
		merge("")
	}
	return out, nil
}

// UpdateRecords implements store.Records.
func (s *Store) UpdateRecords(ctx context.Context, id im.TenantID, fn func(store.RecordTx) error) error {
	return s.submit(ctx, &job{writes: 1, run: func(t *tx) error {
		sp, err := t.recordSpace(id)
		if err != nil {
			return orNotFound(err, "tenant")
		}
		rt := &recordTx{t: t, sp: sp}
		if err := fn(rt); err != nil {
			return err
		}
		if rt.err == nil && !rt.wrote {
			return errLeave
		}
		return rt.err
	}})
}

// recordTx implements store.RecordTx. It keeps the first error of a Put or
// Delete, which UpdateRecords then returns.
type recordTx struct {
	t     *tx
	sp    space
	err   error
	wrote bool
}

func (r *recordTx) Get(k store.RecordKind, id string) (v []byte, err error) {
	err = r.t.get(r.sp.record(k, id), func(p []byte) error {
		v = append([]byte{}, p...)
		return nil
	})
	return v, orNotFound(err, "record")
}

func (r *recordTx) List(k store.RecordKind, prefix, after string, limit int) ([]store.Record, error) {
	return r.t.listRecords(r.sp, k, prefix, after, limit, r.t.puts)
}

func (r *recordTx) Put(k store.RecordKind, id string, value []byte) {
	if err := store.CheckRecord(id, value); err != nil {
		r.fail(err)
		return
	}
	r.set(k, id, append(begin(len(value)), value...))
}

func (r *recordTx) Delete(k store.RecordKind, id string) { r.set(k, id, nil) }

func (r *recordTx) set(k store.RecordKind, id string, v []byte) {
	key := r.sp.record(k, id)
	had, err := r.t.has(key)
	if err != nil && v == nil {
		r.fail(err)
		return
	}
	had = had || err != nil // a damaged record is there, and may be replaced
	grow := 0
	switch {
	case v != nil:
		r.t.put(key, v)
		if !had {
			grow = 1
		}
	case had:
		r.t.del(key)
		grow = -1
	default:
		return
	}
	r.wrote = true
	if grow != 0 && r.sp.n != 0 {
		r.fail(r.t.grow(r.sp, r.sp.records(k), grow))
	}
}

func (r *recordTx) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}
