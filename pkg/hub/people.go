package hub

import (
	"hash/maphash"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

type userKey struct {
	tenant im.TenantID
	user   im.UserID
}

// person is a user with sessions here, or one who had some until a moment ago.
// Guarded by Hub.mu.
type person struct {
	user     *im.User      // as of the first session
	first    *Member       // newest session
	next     *person       // of those with the same hash
	gone     time.Duration // when the last present session ended, since Hub.start
	sessions int32
	online   int32 // sessions that are online
	away     int32 // sessions that are away
	// announced is the state that the bus knows from here.
	announced im.PresenceState
	leaving   bool // is in Hub.grace
}

// state is the most present state of all sessions (PROTOCOL 8.2).
func (p *person) state() im.PresenceState {
	switch {
	case p.online > 0:
		return im.Online
	case p.away > 0:
		return im.Away
	}
	return im.Offline
}

// loops returns the loops that have sessions of p.
func (p *person) loops() (set uint64) {
	for m := p.first; m != nil; m = m.next {
		set |= 1 << m.loop()
	}
	return set
}

// people is the set of persons. It is a map of hashes with chains because a map
// of the keys themselves costs fifty bytes a user more, most of them for strings
// that the person has anyway.
type people struct {
	byHash map[uint64]*person
	seed   maphash.Seed
}

func newPeople() people {
	return people{byHash: make(map[uint64]*person), seed: maphash.MakeSeed()}
}

func (s *people) hash(t im.TenantID, u im.UserID) uint64 {
	return maphash.Comparable(s.seed, userKey{t, u})
}

// find returns the person, or nil.
func (s *people) find(t im.TenantID, u im.UserID) *person {
	p := s.byHash[s.hash(t, u)]
	for p != nil && (p.user.ID != u || p.user.Tenant != t) {
		p = p.next
	}
	return p
}

// add adds a person who is not there.
func (s *people) add(user *im.User) *person {
	h := s.hash(user.Tenant, user.ID)
	p := &person{user: user, next: s.byHash[h]}
	s.byHash[h] = p
	return p
}

// remove takes p out and reports whether it was there.
func (s *people) remove(p *person) bool {
	h := s.hash(p.user.Tenant, p.user.ID)
	first := s.byHash[h]
	for at := &first; *at != nil; at = &(*at).next {
		if *at != p {
			continue
		}
		*at, p.next = p.next, nil
		if first == nil {
			delete(s.byHash, h)
		} else {
			s.byHash[h] = first
		}
		return true
	}
	return false
}

// each calls fn for everybody.
func (s *people) each(fn func(*person)) {
	for _, p := range s.byHash {
		for ; p != nil; p = p.next {
			fn(p)
		}
	}
}
