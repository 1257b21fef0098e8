package app

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	var p pace
	now := time.Unix(1_800_000_000, 0)
	if n, p50, p99 := p.lastMinute(now); n != 0 || p50 != 0 || p99 != 0 {
		t.Errorf("nothing yet: %d %v %v", n, p50, p99)
	}
	// 98 commits of 1 ms, 2 of 100 ms, within a bucket's quarter.
	for i := range 100 {
		d := time.Millisecond
		if i < 2 {
			d = 100 * time.Millisecond
		}
		p.commit(now.Add(time.Duration(i)*300*time.Millisecond), d)
		p.entries(now.Add(time.Duration(i)*300*time.Millisecond), 3)
	}
	n, p50, p99 := p.lastMinute(now.Add(30 * time.Second))
	if n != 300 || p50 < time.Millisecond || p50 > 1300*time.Microsecond || p99 < 100*time.Millisecond || p99 > 130*time.Millisecond {
		t.Errorf("%d %v %v", n, p50, p99)
	}
	// A minute later they count no more.
	if n, _, _ := p.lastMinute(now.Add(85 * time.Second)); n >= 300 {
		t.Errorf("%d of the minute before", n)
	}
	if n, p50, _ := p.lastMinute(now.Add(3 * time.Minute)); n != 0 || p50 != 0 {
		t.Errorf("%d %v long after", n, p50)
	}
	// Every duration has a bucket that holds it.
	for d := time.Microsecond; d < 50*time.Second; d = d*5/4 + 1 {
		if up := (paceSlot{}).upper(paceBucket(d)); up < d && paceBucket(d) < paceBuckets-1 {
			t.Errorf("%v is in a bucket up to %v", d, up)
		}
	}
}
