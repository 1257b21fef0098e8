package roster

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// The journal of an import: the plan, packed, in parts "plan/0001" …, and then
// the seal "seal", one record that says how many parts there are. With the seal
// the import has begun and will be finished; parts without one are what a cut
// left before that, and mean nothing. "last" is the result of the last import.

const (
	sealID     = "seal"
	lastID     = "last"
	partPrefix = "plan/"
	partBytes  = 48 << 10
	partsAtAll = 4 // parts in one step of the store
	maxPlan    = 64 << 20
)

type seal struct {
	Parts int       `json:"parts"`
	Time  im.Millis `json:"time"` // 0: a change by hand
}

// Result is what became of an import.
type Result struct {
	Began    im.Millis      `json:"began"`
	Ended    im.Millis      `json:"ended"`
	By       im.UserID      `json:"by,omitempty"`
	Counts   map[string]int `json:"counts"`
	Problems []Said         `json:"said,omitempty"` // what could not be done, for people; at most 100
}

func partID(i int) string { return fmt.Sprintf("%s%04d", partPrefix, i) }

// write stores the plan and seals it.
func (s *Service) write(ctx context.Context, t im.TenantID, p *Plan, began im.Millis) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if err := json.NewEncoder(z).Encode(p); err != nil {
		return im.Wrap("roster: write the plan", err)
	}
	if err := z.Close(); err != nil {
		return im.Wrap("roster: write the plan", err)
	}
	parts := slices.Collect(slices.Chunk(packed.Bytes(), partBytes))
	for from := 0; from < len(parts); from += partsAtAll {
		err := s.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
			for i := from; i < min(from+partsAtAll, len(parts)); i++ {
				tx.Put(store.RecordImport, partID(i), parts[i])
			}
			return nil
		})
		if err != nil {
			return im.Wrap("roster: write the plan", err)
		}
	}
	value, err := json.Marshal(seal{Parts: len(parts), Time: began})
	if err != nil {
		return im.Wrap("roster: seal the plan", err)
	}
	err = s.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		tx.Put(store.RecordImport, sealID, value)
		return nil
	})
	return im.Wrap("roster: seal the plan", err)
}

// read returns the plan that is sealed, or nil; then parts without a seal are
// dropped.
func (s *Service) read(ctx context.Context, t im.TenantID) (*Plan, im.Millis, error) {
	value, err := s.records.Record(ctx, t, store.RecordImport, sealID)
	if im.Is(err, im.NotFound) {
		return nil, 0, s.drop(ctx, t, nil, false)
	}
	if err != nil {
		return nil, 0, im.Wrap("roster: read the journal", err)
	}
	var head seal
	if err := json.Unmarshal(value, &head); err != nil {
		return nil, 0, im.Wrap("roster: read the journal", err)
	}
	var packed bytes.Buffer
	for i := range head.Parts {
		part, err := s.records.Record(ctx, t, store.RecordImport, partID(i))
		if err != nil {
			return nil, 0, im.Wrap("roster: read the journal", err)
		}
		packed.Write(part)
	}
	z, err := gzip.NewReader(&packed)
	if err != nil {
		return nil, 0, im.Wrap("roster: read the journal", err)
	}
	p := new(Plan)
	if err := json.NewDecoder(io.LimitReader(z, maxPlan)).Decode(p); err != nil {
		return nil, 0, im.Wrap("roster: read the journal", err)
	}
	return p, head.Time, nil
}

// drop ends the journal: the seal first, together with the result if it is to be
// kept, then the parts.
func (s *Service) drop(ctx context.Context, t im.TenantID, result *Result, keep bool) error {
	if result != nil {
		value, err := json.Marshal(result)
		if err == nil {
			err = s.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
				tx.Delete(store.RecordImport, sealID)
				if keep {
					tx.Put(store.RecordImport, lastID, value)
				}
				return nil
			})
		}
		if err != nil {
			return im.Wrap("roster: end the journal", err)
		}
	}
	list, err := s.records.ListRecords(ctx, t, store.RecordImport, partPrefix, "", store.MaxRecordsPage)
	if err != nil || len(list) == 0 {
		return im.Wrap("roster: end the journal", err)
	}
	err = s.records.UpdateRecords(ctx, t, func(tx store.RecordTx) error {
		for _, r := range list {
			tx.Delete(store.RecordImport, r.ID)
		}
		return nil
	})
	return im.Wrap("roster: end the journal", err)
}

// last returns the result of the last import; nil if there was none.
func (s *Service) last(ctx context.Context, t im.TenantID) (*Result, error) {
	value, err := s.records.Record(ctx, t, store.RecordImport, lastID)
	if im.Is(err, im.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, im.Wrap("roster: read the last result", err)
	}
	r := new(Result)
	if err := json.Unmarshal(value, r); err != nil {
		return nil, im.Wrap("roster: read the last result", err)
	}
	return r, nil
}

// retryFirst and retryMost bound how long an import waits before it tries again
// what the store did not take.
const (
	retryFirst = time.Second
	retryMost  = time.Minute
)
