package hub

import (
	"slices"

	"github.com/pipit-im/pipit/pkg/im"
	"github.com/pipit-im/pipit/pkg/wire"
)

// topic is a user whose presence sessions of one loop watch. It belongs to that
// loop's goroutine, and exists while somebody watches.
type topic struct {
	key      userKey
	watchers []*watch // ended ones among them, until half of them are
	ended    int
}

// watch is the set of users that one session watches (PROTOCOL 8.2). It is
// replaced as a whole and never changed. Leaving the topics is lazy: marking a
// watch ended costs nothing a topic, while searching two hundred popular topics
// for each session of a crowd that goes would be felt.
type watch struct {
	member *Member
	topics []*topic
	// pending are changes that the session was not told yet, one a user.
	pending []im.Presence
	ended   bool
	behind  bool // is in Shard.behind
}

// Watch replaces the set of users whose presence the session is told, and
// returns what they are now, in the order given, each once. The session is
// attached. users are of its tenant, at most im.MaxUserGet of them, and those
// that it may see: the caller saw to that. The slice is the hub's then.
func (sh *Shard) Watch(m *Member, users []im.UserID) []im.Presence {
	sh.unwatch(m)
	once := users[:0]
	if len(users) > 0 {
		w := &watch{member: m, topics: make([]*topic, 0, len(users))}
		for _, u := range users {
			key := userKey{m.user.Tenant, u}
			t := sh.topics[key]
			if t == nil {
				t = &topic{key: key}
				sh.topics[key] = t
			}
			if n := len(t.watchers); n > 0 && t.watchers[n-1] == w {
				continue // named before
			}
			t.watchers = append(t.watchers, w)
			w.topics = append(w.topics, t)
			once = append(once, u)
		}
		m.watch = w
		sh.countWatches(+1)
	}
	// Only now, so that a change is in this answer or comes as an event.
	return sh.hub.bus.Presence(m.user.Tenant, once)
}

func (sh *Shard) unwatch(m *Member) {
	w := m.watch
	if w == nil {
		return
	}
	m.watch = nil
	w.ended, w.member, w.pending = true, nil, nil
	for _, t := range w.topics {
		if t.ended++; 2*t.ended < len(t.watchers) {
			continue
		}
		t.ended = 0
		t.watchers = slices.DeleteFunc(t.watchers, func(w *watch) bool { return w.ended })
		if len(t.watchers) == 0 {
			delete(sh.topics, t.key)
		}
	}
	w.topics = nil
	sh.countWatches(-1)
}

func (sh *Shard) countWatches(by int) {
	sh.hub.mu.Lock()
	sh.hub.watches += by
	sh.hub.mu.Unlock()
}

// noteChange keeps a change of presence for the watchers, if there are any. A
// later one of the same user replaces it. h.mu is held.
func (h *Hub) noteChange(key userKey, p im.Presence) {
	if h.watches == 0 {
		return
	}
	h.changes[key] = p
	h.changesSoon()
}

// changesSoon makes flushChanges run after the gathering time. h.mu is held.
func (h *Hub) changesSoon() {
	if h.changesDue == 0 {
		h.changesDue = h.elapsed() + presenceGather
		h.poke()
	}
}

// change is one user's newest presence on its way to the loops.
type change struct {
	key      userKey
	presence im.Presence
}

// flushChanges posts what was gathered to every loop.
func (h *Hub) flushChanges() {
	h.mu.Lock()
	if h.changesDue == 0 || h.elapsed() < h.changesDue {
		h.mu.Unlock()
		return
	}
	h.changesDue = 0
	list := make([]change, 0, len(h.changes))
	for key, p := range h.changes {
		list = append(list, change{key, p})
	}
	clear(h.changes)
	h.mu.Unlock()
	for _, sh := range h.shards {
		sh.loop.Post(func() { sh.tellWatchers(list) })
	}
}

// tellWatchers sends each watcher one event with all changes that it watches. A
// session whose output waits gets them later, together with newer ones.
func (sh *Shard) tellWatchers(list []change) {
	for i := range list {
		t := sh.topics[list[i].key]
		if t == nil {
			continue
		}
		for _, w := range t.watchers {
			if !w.ended {
				w.note(list[i].presence)
				sh.lag(w)
			}
		}
	}
	late := sh.behind[:0]
	var frame []byte
	var of im.Presence
	for _, w := range sh.behind {
		switch {
		case w.ended:
		case w.member.held != nil || w.member.sess.Busy():
			late = append(late, w)
			continue
		case len(w.pending) == 1:
			// Many watch the one who came: one frame for all of them.
			if frame == nil || of != w.pending[0] {
				of = w.pending[0]
				frame = wire.PresenceEventFrame(w.pending)
			}
			w.tell(frame)
		default:
			w.tell(wire.PresenceEventFrame(w.pending))
		}
		w.behind = false
	}
	clear(sh.behind[len(late):])
	sh.behind = late
	if len(late) > 0 {
		sh.hub.mu.Lock()
		sh.hub.changesSoon()
		sh.hub.mu.Unlock()
	}
}

// note replaces what is pending of that user, or adds it.
func (w *watch) note(p im.Presence) {
	for i := range w.pending {
		if w.pending[i].User == p.User {
			w.pending[i] = p
			return
		}
	}
	w.pending = append(w.pending, p)
}

func (w *watch) tell(frame []byte) {
	w.pending = nil
	w.member.shard.hub.n.presenceFrames.Add(1)
	w.member.sess.Deliver(frame)
}

func (sh *Shard) lag(w *watch) {
	if !w.behind {
		w.behind = true
		sh.behind = append(sh.behind, w)
	}
}
