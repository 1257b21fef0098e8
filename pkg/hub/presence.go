package hub

import (
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// graceEntry is somebody who may be offline when due comes.
type graceEntry struct {
	person *person
	due    time.Duration
}

// SetPresence is `presence.set` (PROTOCOL 8.3): s is im.Online or im.Away.
func (sh *Shard) SetPresence(m *Member, s im.PresenceState) { sh.hub.setPresence(m, s) }

// setPresence changes one session's part in its user's presence and announces
// what that makes of the whole, but for offline, which has a grace.
func (h *Hub) setPresence(m *Member, s im.PresenceState) {
	h.announceMu.Lock()
	defer h.announceMu.Unlock()
	h.mu.Lock()
	p := m.person
	if p == nil || m.presence == s {
		h.mu.Unlock()
		return
	}
	p.count(m.presence, -1)
	p.count(s, +1)
	m.presence = s
	state := p.state()
	if state == im.Offline {
		p.gone = h.elapsed()
		if !p.leaving && p.announced != im.Offline {
			h.addGrace(p, p.gone+offlineGrace)
		}
	}
	announce := state != im.Offline && state != p.announced
	if announce {
		p.announced = state
	}
	h.mu.Unlock()
	if announce {
		h.bus.Announce(p.user.Tenant, p.user.ID, state, h.millis())
	}
}

func (p *person) count(s im.PresenceState, by int32) {
	switch s {
	case im.Online:
		p.online += by
	case im.Away:
		p.away += by
	}
}

// addGrace puts p into the queue. The delay is the same for all, so it stays in
// order. It is bounded by the people. h.mu is held.
func (h *Hub) addGrace(p *person, due time.Duration) {
	p.leaving = true
	h.grace = append(h.grace, graceEntry{p, due})
	if len(h.grace) == 1 {
		h.poke()
	}
}

// endGrace announces those offline who stayed away for the whole grace.
func (h *Hub) endGrace() {
	h.announceMu.Lock()
	defer h.announceMu.Unlock()
	for {
		p, at := h.nextGone()
		if p == nil {
			return
		}
		h.bus.Announce(p.user.Tenant, p.user.ID, im.Offline, at)
	}
}

// nextGone takes the first from the queue who is offline by now, if one is due.
func (h *Hub) nextGone() (*person, im.Millis) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.elapsed()
	for len(h.grace) > 0 && h.grace[0].due <= now {
		p := h.grace[0].person
		h.grace[0] = graceEntry{}
		if h.grace = h.grace[1:]; len(h.grace) == 0 {
			h.grace = nil
		}
		p.leaving = false
		switch due := p.gone + offlineGrace; {
		case p.state() != im.Offline: // came back
		case due > now: // came back, and left again since
			h.addGrace(p, due)
		default:
			p.announced = im.Offline
			h.forget(p)
			return p, h.millis() - im.Millis((now - p.gone).Milliseconds())
		}
	}
	return nil, 0
}

// takeBackPresence announces everybody here offline, at the end.
func (h *Hub) takeBackPresence() {
	h.announceMu.Lock()
	defer h.announceMu.Unlock()
	var gone []*person
	h.mu.Lock()
	h.people.each(func(p *person) {
		if p.announced != im.Offline {
			p.announced = im.Offline
			gone = append(gone, p)
		}
	})
	h.mu.Unlock()
	at := h.millis()
	for _, p := range gone {
		h.bus.Announce(p.user.Tenant, p.user.ID, im.Offline, at)
	}
}
