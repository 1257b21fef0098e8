package badgerstore

import (
	"context"
	"sync"
	"time"
)

// clock is what the store knows of time (DESIGN 5.7): the wall clock bounded
// below, and how long the store has been running. Both go on with the monotonic
// clock and are written at most once a minute, with a commit if there is one.
type clock struct {
	wall func() time.Time
	mono func() time.Duration

	mu       sync.Mutex
	age      time.Duration // at the start
	began    time.Duration // mono at the start
	high     time.Time     // newest time that was ever told
	highMono time.Duration // mono then
	written  time.Duration // mono at the last write
}

const clockEvery = time.Minute

func (c *clock) start(rec clockRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.age, c.began = rec.age, c.mono()
	c.high, c.highMono = time.UnixMilli(rec.high), c.began
	c.written = c.began
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nowLocked()
}

func (c *clock) nowLocked() time.Time {
	wall, mono := c.wall().Round(0), c.mono()
	if ahead := c.high.Add(mono - c.highMono); wall.Before(ahead) {
		wall = ahead // the wall clock is behind: go on without it
	}
	c.high, c.highMono = wall, mono
	return wall
}

func (c *clock) total() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.age + c.mono() - c.began
}

func (c *clock) isDue() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mono()-c.written >= clockEvery
}

// due returns what is to be written if it is time to.
func (c *clock) due() (clockRecord, bool) {
	if !c.isDue() {
		return clockRecord{}, false
	}
	return c.record(), true
}

// record returns what is to be written now.
func (c *clock) record() clockRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	mono := c.mono()
	c.written = mono
	return clockRecord{c.age + mono - c.began, c.nowLocked().UnixMilli()}
}

// peek is record for who does not write it into the store.
func (c *clock) peek() clockRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return clockRecord{c.age + c.mono() - c.began, c.nowLocked().UnixMilli()}
}

// keepClock writes the clock while nobody else writes.
func (s *Store) keepClock() {
	if !s.clock.isDue() || s.refusal() != nil {
		return
	}
	if err := s.saveClock(context.Background()); err != nil {
		s.log.Warn("could not write the clock", "cause", err)
	}
}

func (s *Store) saveClock(ctx context.Context) error {
	return s.submit(ctx, &job{writes: 1, run: func(t *tx) error {
		t.put(box(boxClock), s.clock.record().encode())
		return nil
	}})
}
