package badgerstore

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/store"
)

// Epoch implements store.Box.
func (s *Store) Epoch() im.Epoch { return *s.epoch.Load() }

// Now implements store.Box.
func (s *Store) Now() time.Time { return s.clock.now() }

// Age implements store.Box.
func (s *Store) Age() time.Duration { return s.clock.total() }

// Probe implements store.Box.
func (s *Store) Probe(ctx context.Context) error {
	return s.submit(ctx, &job{writes: 1, run: func(t *tx) error {
		n, err := t.uint(box(boxProbe))
		if err != nil {
			return err
		}
		t.put(box(boxProbe), encodeUint(n+1))
		return nil
	}})
}

// The bounds of settings.
const (
	maxSettingName  = 100
	maxSettingBytes = 4096
)

func settingName(name string) error {
	const chars = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	if name == "" || len(name) > maxSettingName || strings.Trim(name, chars) != "" {
		return im.E(im.Invalid, "a setting cannot be named %q", name)
	}
	return nil
}

// Setting implements store.Box.
func (s *Store) Setting(ctx context.Context, name string) (v []byte, err error) {
	if err := settingName(name); err != nil {
		return nil, orNotFound(errAbsent, "setting")
	}
	r, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	defer r.end()
	err = r.get(boxNamed(boxSetting, name), func(p []byte) error {
		v = append([]byte{}, p...)
		return nil
	})
	return v, orNotFound(err, "setting")
}

// SetSetting implements store.Box. A bad name is im.Invalid, a value over 4 KiB
// im.TooLarge.
func (s *Store) SetSetting(ctx context.Context, name string, value []byte) error {
	if err := settingName(name); err != nil {
		return err
	}
	if len(value) > maxSettingBytes {
		return &im.Error{Kind: im.TooLarge, Message: "a setting has at most 4096 bytes", Limit: maxSettingBytes}
	}
	v := append(begin(len(value)), bytes.Clone(value)...)
	return s.submit(ctx, &job{writes: 1, run: func(t *tx) error {
		t.put(boxNamed(boxSetting, name), v)
		return nil
	}})
}

// Stats implements store.Admin.
func (s *Store) Stats() store.Stats {
	st := s.state.Load()
	lsm, vlog := s.db.Size()
	return store.Stats{
		State: st.state, Reason: st.reason,
		Entries: s.entries.Load(), Batches: s.batches.Load(), BatchWrites: s.writes.Load(), SyncNanos: s.commitNanos.Load(),
		LSMBytes: lsm, ValueLogBytes: vlog,
		FreeBytes: s.freeBytes.Load(), LowWaterBytes: s.opt.LowWaterBytes, ReserveBytes: s.reserve.Load(),
		Scrubbed: s.scrubbed.Load(), Damaged: s.damages.Load(), QueueDepth: len(s.queue),
	}
}
