package badgerstore

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/pipit-im/pipit/pkg/store"
	"github.com/pipit-im/pipit/pkg/store/storetest"
)

// small makes a store small enough for tests to fill.
func small(dir string) Options {
	return Options{Dir: dir, MemTableBytes: 2 << 20, ReserveBytes: 1 << 20, ScrubInterval: -1, unwatched: true}
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// fastDir returns a directory in memory where there is one: hundreds of stores
// are opened in it, and what a disk forgets is shown elsewhere.
func fastDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "badgerstore")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func TestSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *storetest.Backend {
		dir := fastDir(t)
		s := mustOpen(t, small(dir))
		b := &storetest.Backend{Store: s}
		b.Reopen = func(t *testing.T) store.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = mustOpen(t, small(dir))
			return s
		}
		b.Contains = func(t *testing.T, needle []byte) bool {
			found := false
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				data, err := os.ReadFile(path)
				found = found || bytes.Contains(data, needle)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		return b
	})
}
