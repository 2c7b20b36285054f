package telemetry

import (
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// maxSeries bounds the label sets of one metric.
const maxSeries = 128

// Emit gives one value of a metric to a scrape; labels are in the order of
// Metric.Labels. Of a label set that is given twice the first value counts.
type Emit func(m *Metric, value float64, labels ...string)

// Source gives the values that are read when a scrape comes. It must not block.
type Source func(emit Emit)

// Registry is what one node offers. Its methods are safe for concurrent use,
// and a nil *Registry takes everything and keeps nothing.
type Registry struct {
	prom *prometheus.Registry

	mu      sync.Mutex
	sources []Source
	counts  map[*Metric]map[string]*Series
	dropped float64
}

// Series is one label set of a counter or a histogram that is pushed. Its
// methods are safe for concurrent use, and a nil *Series keeps nothing.
type Series struct {
	metric *Metric
	labels []string

	mu      sync.Mutex
	value   float64  // of a counter; the sum of a histogram
	buckets []uint64 // of a histogram; not cumulative, the last is beyond all bounds
}

// Add counts n ≥ 0 up on a counter.
func (s *Series) Add(n float64) {
	if s == nil || n < 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value += n
}

// Observe adds one observation to a histogram.
func (s *Series) Observe(v float64) {
	if s == nil {
		return
	}
	i := 0
	for i < len(s.metric.Buckets) && v > s.metric.Buckets[i] {
		i++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value += v
	s.buckets[i]++
}

// sample is the present value for a scrape.
func (s *Series) sample() prometheus.Metric {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.metric.Kind == Counter {
		return prometheus.MustNewConstMetric(s.metric.desc(), prometheus.CounterValue, s.value, valid(s.labels)...)
	}
	cumulative, count := map[float64]uint64{}, uint64(0)
	for i, n := range s.buckets {
		count += n
		if i < len(s.metric.Buckets) {
			cumulative[s.metric.Buckets[i]] = count
		}
	}
	return prometheus.MustNewConstHistogram(s.metric.desc(), count, s.value, cumulative, valid(s.labels)...)
}

// NewRegistry returns a Registry with the Go runtime's and the process' metrics.
func NewRegistry() *Registry {
	r := &Registry{prom: prometheus.NewRegistry(), counts: map[*Metric]map[string]*Series{}}
	r.prom.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), (*collector)(r))
	return r
}

// Read adds a source.
func (r *Registry) Read(s Source) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources = append(r.sources, s)
}

// Add counts n ≥ 0 up on a counter.
func (r *Registry) Add(m *Metric, n float64, labels ...string) { r.Series(m, labels...).Add(n) }

// Observe adds one observation to a histogram.
func (r *Registry) Observe(m *Metric, v float64, labels ...string) { r.Series(m, labels...).Observe(v) }

// Series returns the series of a label set, for what is pushed often; nil once
// the metric has as many as there may be.
func (r *Registry) Series(m *Metric, labels ...string) *Series {
	if r == nil {
		return nil
	}
	if m.Kind == Gauge || len(labels) != len(m.Labels) {
		panic(fmt.Sprintf("telemetry: %s is a %s with labels %v", m.Name, m.Kind, m.Labels)) // a programming error, as in Prometheus' own client
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	sets := r.counts[m]
	if sets == nil {
		sets = map[string]*Series{}
		r.counts[m] = sets
	}
	key := strings.Join(labels, "\xff")
	s := sets[key]
	if s == nil {
		if len(sets) >= maxSeries {
			r.dropped++
			return nil
		}
		s = &Series{metric: m, labels: append([]string(nil), labels...)}
		if m.Kind == Histogram {
			s.buckets = make([]uint64, len(m.Buckets)+1)
		}
		sets[key] = s
	}
	return s
}

// collector is the Registry as Prometheus' client sees it. It describes nothing
// in advance, because a node offers only what it has.
type collector Registry

// Describe implements prometheus.Collector.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	r := (*Registry)(c)
	r.mu.Lock()
	sources := append([]Source(nil), r.sources...)
	r.mu.Unlock()

	seen := map[*Metric]map[string]bool{}
	dropped := 0
	for _, source := range sources {
		source(func(m *Metric, value float64, labels ...string) {
			if m.Kind == Histogram || len(labels) != len(m.Labels) {
				panic(fmt.Sprintf("telemetry: %s is a %s with labels %v", m.Name, m.Kind, m.Labels))
			}
			sets, key := seen[m], strings.Join(labels, "\xff")
			if sets == nil {
				sets = map[string]bool{}
				seen[m] = sets
			}
			if sets[key] {
				return
			}
			if len(sets) >= maxSeries {
				dropped++
				return
			}
			sets[key] = true
			kind := prometheus.GaugeValue
			if m.Kind == Counter {
				kind = prometheus.CounterValue
			}
			out <- prometheus.MustNewConstMetric(m.desc(), kind, value, valid(labels)...)
		})
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped += float64(dropped)
	for m, sets := range r.counts {
		if seen[m] != nil {
			continue // never both pushed and read
		}
		for _, s := range sets {
			out <- s.sample()
		}
	}
	out <- prometheus.MustNewConstMetric(DroppedSeries.desc(), prometheus.CounterValue, r.dropped)
}

func (m *Metric) desc() *prometheus.Desc {
	return prometheus.NewDesc(m.Name, m.Help, m.Labels, nil)
}

// valid replaces what Prometheus does not take in a label.
func valid(labels []string) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	return out
}
