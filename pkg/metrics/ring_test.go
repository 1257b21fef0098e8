package metrics

import (
	"sync"
	"testing"
)

func TestRing(t *testing.T) {
	var r Ring
	if got := r.After(0); got == nil || len(got) != 0 {
		t.Errorf("an empty ring gave %v", got)
	}
	for i := range int64(3) {
		r.Add(Sample{At: i + 1})
	}
	if got := r.After(1); len(got) != 2 || got[0].At != 2 || got[1].At != 3 {
		t.Errorf("after the first: %v", got)
	}
	for i := range int64(2 * ringSize) {
		r.Add(Sample{At: i + 4})
	}
	got := r.After(0)
	if len(got) != ringSize {
		t.Fatalf("%d samples are kept, want %d", len(got), ringSize)
	}
	for i, s := range got {
		if want := int64(ringSize + 4 + i); s.At != want {
			t.Fatalf("sample %d is of %d, want %d", i, s.At, want)
		}
	}
	if got := r.After(got[len(got)-1].At); len(got) != 0 {
		t.Errorf("after the last: %v", got)
	}
}

func TestRingConcurrently(t *testing.T) {
	var r Ring
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range int64(500) {
				r.Add(Sample{At: i})
				r.After(i)
			}
		})
	}
	wg.Wait()
	if n := len(r.After(-1)); n != ringSize {
		t.Errorf("%d samples, want %d", n, ringSize)
	}
}
