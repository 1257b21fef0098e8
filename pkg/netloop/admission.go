package netloop

import (
	"net/netip"
	"sync"
)

// admission counts connections, all and by address, from accept until close, those
// that net/http has included. Any goroutine.
type admission struct {
	mu      sync.Mutex
	open    int
	max     int // 0: unlimited
	perAddr int // 0: unlimited
	byAddr  map[[16]byte]int32
}

// refusal is why admission refuses.
type refusal uint8

const (
	admitted refusal = iota
	overTotal
	overAddr
)

func (a *admission) init(max, perAddr int) {
	a.byAddr = make(map[[16]byte]int32)
	a.set(max, perAddr)
}

func (a *admission) set(max, perAddr int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.max, a.perAddr = max, perAddr
}

func (a *admission) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// enter counts a connection in, or refuses it.
func (a *admission) enter(addr netip.Addr) refusal {
	key := addrKey(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.max > 0 && a.open >= a.max {
		return overTotal
	}
	if n := a.byAddr[key]; a.perAddr > 0 && int(n) >= a.perAddr {
		return overAddr
	}
	a.open++
	a.byAddr[key]++
	return admitted
}

// leave counts a connection out.
func (a *admission) leave(addr netip.Addr) {
	key := addrKey(addr)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	if a.byAddr[key]--; a.byAddr[key] == 0 {
		delete(a.byAddr, key)
	}
}

// addrKey is what counts as one address: an IPv4 address, or the /64 of an IPv6 one,
// which is the least that a single host is given.
func addrKey(addr netip.Addr) [16]byte {
	addr = addr.Unmap()
	key := addr.As16()
	if addr.Is6() {
		clear(key[8:])
	}
	return key
}
