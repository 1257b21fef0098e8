package oidcop

import (
	"sync"
	"time"
)

// shelf keeps short-lived things in memory by an id, each for the same life in
// running time of the box. When it is full the oldest gives way.
type shelf[T any] struct {
	age  func() time.Duration
	life time.Duration
	max  int

	mu    sync.Mutex
	items map[string]*slot[T] // guarded by mu
	order []string            // ids, oldest first; some are gone already; guarded by mu
}

type slot[T any] struct {
	value T
	born  time.Duration
}

func newShelf[T any](age func() time.Duration, life time.Duration, max int) *shelf[T] {
	return &shelf[T]{age: age, life: life, max: max, items: map[string]*slot[T]{}}
}

// put adds a new item; false if the id is taken.
func (s *shelf[T]) put(id string, v T) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidy()
	if _, taken := s.items[id]; taken {
		return false
	}
	s.items[id] = &slot[T]{value: v, born: s.age()}
	s.order = append(s.order, id)
	return true
}

// with calls fn on the item of that id, under the lock; false if there is none.
// fn may change it and must not call the shelf.
func (s *shelf[T]) with(id string, fn func(v *T, old time.Duration)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.items[id]
	if it == nil {
		return false
	}
	old := s.age() - it.born
	if old >= s.life {
		return false
	}
	fn(&it.value, old)
	return true
}

func (s *shelf[T]) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, id)
}

// count returns how many items pick holds for.
func (s *shelf[T]) count(pick func(*T) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tidy()
	n := 0
	for _, it := range s.items {
		if pick(&it.value) {
			n++
		}
	}
	return n
}

// tidy drops what has expired, and the oldest while there are too many. mu is
// held.
func (s *shelf[T]) tidy() {
	now := s.age()
	for len(s.order) > 0 {
		it := s.items[s.order[0]]
		if it != nil && now-it.born < s.life && len(s.items) < s.max {
			return
		}
		delete(s.items, s.order[0])
		s.order = s.order[1:]
	}
}
