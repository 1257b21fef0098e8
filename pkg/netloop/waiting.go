package netloop

// Waiting tells whether output waits because the socket takes no more: what may be
// left out should be (PROTOCOL 8). Output of this turn does not count.
func (c *Conn) Waiting() bool { return c.out != nil }
