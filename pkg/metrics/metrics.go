// Package metrics is the Prometheus registry of the server. Every metric of
// every stage of a message's walk is declared in one place (defs.go), with its
// labels' values enumerated; nothing else is ever shown.
//
// It owns the registry and the text at /metrics. It never looks at the server:
// the composition root adds sources, functions that read counters which the
// stages keep anyway as plain atomics, so that counting costs the hot path one
// atomic add and no lookup. No label ever carries the id of a user, tenant or
// conversation; a value that is not in its list is shown as "other".
//
// A Registry may be used from any goroutine; sources run one scrape at a time
// and must not block.
//
// Names are pipit_<stage>_<what>_<unit>; the rest follows Prometheus's rules for
// names, which a test applies.
package metrics

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Type is what a metric's numbers are.
type Type uint8

// The types.
const (
	TypeCounter   Type = iota // only rises, from 0 at the start
	TypeGauge                 // a state
	TypeHistogram             // a distribution
)

// Def declares one metric. The package's variables are all there are.
type Def struct {
	Name    string
	Help    string
	Type    Type
	Labels  []Label   // at most two
	Buckets []float64 // upper bounds, of a histogram
}

// Label is a label with every value that it can have; other is added.
type Label struct {
	Name   string
	Values []string
}

// Other is shown for a value that is not in a label's list.
const Other = "other"

// index returns where value stands, the place behind the last for others.
func (l Label) index(value string) int {
	if i := slices.Index(l.Values, value); i >= 0 {
		return i
	}
	return len(l.Values)
}

func (l Label) value(i int) string {
	if i < len(l.Values) {
		return l.Values[i]
	}
	return Other
}

// cells is how many series the metric can have.
func (d *Def) cells() int {
	n := 1
	for _, l := range d.Labels {
		n *= len(l.Values) + 1
	}
	return n
}

// cell returns the index of the series with these label values.
func (d *Def) cell(values []string) int {
	if len(values) != len(d.Labels) {
		panic(fmt.Sprintf("metrics: %s has %d labels, got %d values", d.Name, len(d.Labels), len(values)))
	}
	i := 0
	for n, l := range d.Labels {
		i = i*(len(l.Values)+1) + l.index(values[n])
	}
	return i
}

// labels is the inverse of cell.
func (d *Def) labels(cell int) []string {
	out := make([]string, len(d.Labels))
	for n := len(d.Labels) - 1; n >= 0; n-- {
		size := len(d.Labels[n].Values) + 1
		out[n] = d.Labels[n].value(cell % size)
		cell /= size
	}
	return out
}

// Registry holds the metrics of one server.
type Registry struct {
	reg        *prometheus.Registry
	histograms map[*Def]prometheus.Histogram // never changed after New

	mu       sync.Mutex
	sources  []func(*Emitter)   // guarded by mu
	counters map[*Def]*Counters // guarded by mu
	descs    map[*Def]*prometheus.Desc
}

// New returns a registry with Go's and the process's own metrics and no source.
// version is shown as a label of pipit_build_info.
func New(version string) *Registry {
	r := &Registry{reg: prometheus.NewRegistry(), histograms: map[*Def]prometheus.Histogram{},
		counters: map[*Def]*Counters{}, descs: map[*Def]*prometheus.Desc{}}
	for _, d := range Defs() {
		if d.Type == TypeHistogram {
			h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: d.Name, Help: d.Help, Buckets: d.Buckets})
			r.histograms[d] = h
			r.reg.MustRegister(h)
			continue
		}
		var names []string
		for _, l := range d.Labels {
			names = append(names, l.Name)
		}
		r.descs[d] = prometheus.NewDesc(d.Name, d.Help, names, nil)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "pipit_build_info", Help: "Always 1; the label is the version that runs.",
		ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	r.reg.MustRegister(build, (*collector)(r),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Observer takes one number of a distribution; it neither locks nor allocates.
type Observer interface{ Observe(float64) }

// Histogram returns the observer of d, which is kept by whoever observes.
func (r *Registry) Histogram(d *Def) Observer {
	h := r.histograms[d]
	if h == nil {
		panic("metrics: " + d.Name + " is no histogram")
	}
	return h
}

// Source adds a function that is called once a scrape and puts what it reads.
// What several sources put for one series is added up.
func (r *Registry) Source(f func(*Emitter)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources = append(r.sources, f)
}

// Emitter takes the numbers of one scrape; it is used by one source at a time,
// until that returns.
type Emitter struct {
	values map[*Def][]float64
	put    map[*Def][]bool
}

// Put shows v for the series of d with these label values, in the order of
// d.Labels.
func (e *Emitter) Put(d *Def, v float64, values ...string) {
	if d.Type == TypeHistogram {
		panic("metrics: " + d.Name + " is observed, not put")
	}
	if e.values[d] == nil {
		e.values[d], e.put[d] = make([]float64, d.cells()), make([]bool, d.cells())
	}
	i := d.cell(values)
	e.values[d][i] += v
	e.put[d][i] = true
}

// Counters are the atomics behind one metric, for a stage that has none of its
// own.
type Counters struct {
	def *Def
	n   []atomic.Uint64
}

// Counters returns the atomics of d, the same ones at each call, and shows them.
func (r *Registry) Counters(d *Def) *Counters {
	if d.Type != TypeCounter {
		panic("metrics: " + d.Name + " is no counter")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counters[d]
	if c == nil {
		c = &Counters{def: d, n: make([]atomic.Uint64, d.cells())}
		r.counters[d] = c
	}
	return c
}

// Cell returns the counter with these label values. A hot path asks once and
// keeps it.
func (c *Counters) Cell(values ...string) *atomic.Uint64 { return &c.n[c.def.cell(values)] }

// scrape runs all sources.
func (r *Registry) scrape() *Emitter {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &Emitter{values: map[*Def][]float64{}, put: map[*Def][]bool{}}
	for _, f := range r.sources {
		f(e)
	}
	for d, c := range r.counters {
		for i := range c.n {
			// A metric with two labels has hundreds of series; most never happen.
			if n := c.n[i].Load(); n > 0 || len(d.Labels) == 0 {
				e.Put(d, float64(n), d.labels(i)...)
			}
		}
	}
	return e
}

// Unfed returns the declared metrics that no source has put and no Counters
// back, in order: a test of the composition root holds it empty.
func (r *Registry) Unfed() []string {
	e := r.scrape()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, d := range Defs() {
		if d.Type != TypeHistogram && e.put[d] == nil && r.counters[d] == nil {
			out = append(out, d.Name)
		}
	}
	return out
}

// collector is the face of a Registry that prometheus calls.
type collector Registry

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		ch <- desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	e := (*Registry)(c).scrape()
	for d, values := range e.values {
		typ := prometheus.CounterValue
		if d.Type == TypeGauge {
			typ = prometheus.GaugeValue
		}
		for i, put := range e.put[d] {
			if put {
				ch <- prometheus.MustNewConstMetric(c.descs[d], typ, values[i], d.labels(i)...)
			}
		}
	}
}

// Gatherer is the registry itself, for tests and the admin socket.
func (r *Registry) Gatherer() prometheus.Gatherer { return r.reg }

// Handler serves the text format. Two scrapes at once are enough; more answer
// 503.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.reg, promhttp.HandlerOpts{MaxRequestsInFlight: 2, ErrorHandling: promhttp.ContinueOnError})
}
