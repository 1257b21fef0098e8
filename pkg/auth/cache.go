package auth

import (
	"sync"
	"time"

	"github.com/pipit-im/pipit/pkg/im"
)

// checked is a sign-in that was found in the store. It is never changed.
type checked struct {
	id       im.SignInID
	tenant   im.TenantID
	user     im.UserID
	created  time.Duration // Box.Age
	lifetime time.Duration
	limited  bool // it gives no administration
}

func (c *checked) expired(age time.Duration) bool { return age-c.created >= c.lifetime }

// cache remembers sign-ins by the hash of their token. Invariant: a sign-in that
// was purged is not in it, even if somebody read it from the store before it was
// deleted there: what is put carries the generation in which the read began, and
// every purge begins a new one. When it is full, any one gives way: it will be
// read from the store again.
type cache struct {
	max int
	mu  sync.RWMutex // never held over I/O
	gen uint64       // guarded by mu
	m   map[[32]byte]*checked
}

func newCache(maxEntries int) *cache { return &cache{max: maxEntries, m: map[[32]byte]*checked{}} }

func (c *cache) get(hash [32]byte) *checked {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.m[hash]
}

func (c *cache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.m)
}

// begin returns the generation, to be asked for before the store is read.
func (c *cache) begin() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.gen
}

// put adds what was read since begin. It reports false, and adds nothing, if
// something was purged since.
func (c *cache) put(hash [32]byte, e *checked, gen uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gen != gen {
		return false
	}
	if _, known := c.m[hash]; !known && len(c.m) >= c.max {
		for any := range c.m {
			delete(c.m, any)
			break
		}
	}
	c.m[hash] = e
	return true
}

// purge forgets sign-ins. Only after they are deleted in the store.
func (c *cache) purge(hashes [][32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gen++
	for _, h := range hashes {
		delete(c.m, h)
	}
}
