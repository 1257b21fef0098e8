package gateway

import (
	"context"
	"sync"
)

// job is work that may read the disk.
type job interface {
	work(ctx context.Context)
}

// pool runs jobs on a fixed number of goroutines. There are two queues, served in
// turns, so that neither a storm of hellos nor a flood of reads starves the
// other: hellos are bounded by the connections (one each), reads by
// maxQueuedReads.
type pool struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	some   sync.Cond
	hellos fifo
	reads  fifo
	turn   bool // whose turn it is: reads
	closed bool
}

type fifo struct {
	jobs  []job
	first int
}

func (q *fifo) len() int   { return len(q.jobs) - q.first }
func (q *fifo) push(j job) { q.jobs = append(q.jobs, j) }

func (q *fifo) pop() job {
	j := q.jobs[q.first]
	q.jobs[q.first] = nil
	if q.first++; q.first == len(q.jobs) {
		q.first = 0
		if q.jobs = q.jobs[:0]; cap(q.jobs) > 1024 {
			q.jobs = nil
		}
	}
	return j
}

func newPool(workers int) *pool {
	p := &pool{}
	p.some.L = &p.mu
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for range workers {
		p.wg.Go(p.run)
	}
	return p
}

func (p *pool) run() {
	for {
		p.mu.Lock()
		for p.hellos.len()+p.reads.len() == 0 && !p.closed {
			p.some.Wait()
		}
		if p.hellos.len()+p.reads.len() == 0 {
			p.mu.Unlock()
			return
		}
		q := &p.hellos
		if p.turn = !p.turn; p.hellos.len() == 0 || p.turn && p.reads.len() > 0 {
			q = &p.reads
		}
		j := q.pop()
		p.mu.Unlock()
		j.work(p.ctx)
	}
}

// hello queues the work for a hello; false: the pool is closed.
func (p *pool) hello(j job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.hellos.push(j)
	p.some.Signal()
	return true
}

// read queues a read; false: there are too many, or the pool is closed.
func (p *pool) read(j job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.reads.len() >= maxQueuedReads {
		return false
	}
	p.reads.push(j)
	p.some.Signal()
	return true
}

func (p *pool) queued() (hellos, reads int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hellos.len(), p.reads.len()
}

// close lets the workers finish what is queued; when ctx ends first, what runs
// is told to stop.
func (p *pool) close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.some.Broadcast()
	p.mu.Unlock()
	done := make(chan struct{})
	go func() { p.wg.Wait(); close(done) }()
	defer p.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		p.cancel()
		<-done
		return ctx.Err()
	}
}
