package app

import (
	"errors"
	"log/slog"
	"time"

	"github.com/pipit-im/pipit/pkg/config"
	"github.com/pipit-im/pipit/pkg/metrics"
	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/badgerstore"
)

// StoreError is a data directory that can't be opened: one plain sentence with
// the way out.
type StoreError struct {
	Sentence string
	Cause    error
}

func (e *StoreError) Error() string { return e.Sentence }
func (e *StoreError) Unwrap() error { return e.Cause }

// StoreFormat is the format of the data that this version writes.
const StoreFormat = badgerstore.FormatNow

// DataFormat returns the format of the data in a directory, 0 if there are none
// yet. The error is a *StoreError.
func DataFormat(dir string) (int, error) {
	n, err := badgerstore.Format(dir)
	var open *badgerstore.OpenError
	if errors.As(err, &open) {
		return n, &StoreError{Sentence: open.Sentence, Cause: err}
	}
	return n, err
}

// OpenStore opens the store of a data directory that no server runs on, for
// restore and verify. The error is a *StoreError.
func OpenStore(cfg config.Config, log *slog.Logger) (store.Store, error) {
	s, err := openStore(cfg, log, nil, nil)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func openStore(cfg config.Config, log *slog.Logger, m *metrics.Registry, p *pace) (*badgerstore.Store, error) {
	o := badgerstore.Options{
		Dir: cfg.DataDir, ReadOnly: cfg.Storage.ReadOnly,
		MemTableBytes: cfg.Storage.MemtableBytes, CacheBytes: cfg.Storage.CacheBytes,
		LowWaterBytes: cfg.Storage.LowWaterBytes, ReserveBytes: cfg.Storage.ReserveBytes,
		ScrubInterval: cfg.Storage.ScrubInterval, Log: log, NoSync: noSync,
	}
	// What 0 means is said differently: there "the default", here "none".
	if o.ScrubInterval == 0 {
		o.ScrubInterval = -1
	}
	if o.ReserveBytes == 0 {
		o.ReserveBytes = -1
	}
	if m != nil {
		batch, took := m.Histogram(metrics.CommitBatch), m.Histogram(metrics.CommitSeconds)
		o.OnCommit = func(writes int, d time.Duration) {
			batch.Observe(float64(writes))
			took.Observe(d.Seconds())
			p.commit(time.Now(), d)
		}
	}
	s, err := badgerstore.Open(o)
	if err == nil {
		return s, nil
	}
	var open *badgerstore.OpenError
	if errors.As(err, &open) {
		return nil, &StoreError{Sentence: open.Sentence, Cause: err}
	}
	return nil, &StoreError{Sentence: "The data in " + cfg.DataDir + " can't be opened: " + err.Error(), Cause: err}
}
