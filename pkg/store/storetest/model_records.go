package storetest

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// records returns the records of a tenant, of the box for the empty one; nil if
// the tenant is not there.
func (m *Model) records(t im.TenantID) map[modelRecord][]byte {
	if t == "" {
		return m.boxRecords
	}
	return m.tenant(t).records
}

// Record implements store.Records.
func (m *Model) Record(ctx context.Context, t im.TenantID, k store.RecordKind, id string) ([]byte, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return modelTx{rs: m.records(t)}.Get(k, id)
}

// ListRecords implements store.Records.
func (m *Model) ListRecords(ctx context.Context, t im.TenantID, k store.RecordKind, prefix, after string, limit int) ([]store.Record, error) {
	unlock, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return modelTx{rs: m.records(t)}.List(k, prefix, after, limit)
}

// UpdateRecords implements store.Records.
func (m *Model) UpdateRecords(ctx context.Context, t im.TenantID, fn func(store.RecordTx) error) error {
	unlock, err := m.write(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	rs := m.records(t)
	if rs == nil {
		return notFound("tenant", t)
	}
	tx := &modelTx{rs: maps.Clone(rs)}
	if err := fn(tx); err != nil {
		return err
	}
	if tx.err == nil {
		clear(rs)
		maps.Copy(rs, tx.rs)
	}
	return tx.err
}

// modelTx works on a copy of a tenant's records.
type modelTx struct {
	rs  map[modelRecord][]byte
	err error
}

func (x modelTx) Get(k store.RecordKind, id string) ([]byte, error) {
	v, ok := x.rs[modelRecord{k, id}]
	if !ok {
		return nil, notFound("record", id)
	}
	return append([]byte{}, v...), nil
}

func (x modelTx) List(k store.RecordKind, prefix, after string, limit int) ([]store.Record, error) {
	var out []store.Record
	for r, v := range x.rs {
		if r.kind == k && strings.HasPrefix(r.id, prefix) && r.id > after {
			out = append(out, store.Record{ID: r.id, Value: append([]byte{}, v...)})
		}
	}
	slices.SortFunc(out, func(a, b store.Record) int { return strings.Compare(a.ID, b.ID) })
	return out[:min(len(out), max(limit, 1), store.MaxRecordsPage)], nil
}

func (x *modelTx) Put(k store.RecordKind, id string, value []byte) {
	if err := store.CheckRecord(id, value); err != nil {
		if x.err == nil {
			x.err = err
		}
		return
	}
	x.rs[modelRecord{k, id}] = append([]byte{}, value...)
}

func (x *modelTx) Delete(k store.RecordKind, id string) { delete(x.rs, modelRecord{k, id}) }
