// Package telemetry offers a node's numbers to Prometheus, and its health and
// readiness over HTTP. Every metric is declared here, once, so that names, units
// and docs/METRICS.md hold for all nodes; the packages that know the numbers
// push counts and observations as they happen, and give the rest when scraped.
package telemetry

import (
	"fmt"
	"slices"
	"strings"
)

// Kind of a metric, in Prometheus' words.
type Kind string

// Kinds of metrics.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Metric is one metric of a node. They are the variables of this package.
type Metric struct {
	Name   string // stable; ends in its unit, and in _total for a counter
	Kind   Kind
	Unit   string // "1" for a number of things
	Labels []string
	Help   string
	On     string // which nodes have it: servers, workers, learners, all
	// Buckets are a histogram's upper bounds, in Unit.
	Buckets []float64
}

// all holds every metric in the order of declaration. It is filled while the
// package initialises and never written to afterwards.
var all []*Metric

func declare(kind Kind, on, name, unit, help string, labels ...string) *Metric {
	m := &Metric{Name: "driftmesh_" + name, Kind: kind, Unit: unit, Labels: labels, Help: help, On: on}
	all = append(all, m)
	return m
}

func counter(on, name, unit, help string, labels ...string) *Metric {
	return declare(Counter, on, name, unit, help, labels...)
}

func gauge(on, name, unit, help string, labels ...string) *Metric {
	return declare(Gauge, on, name, unit, help, labels...)
}

func histogram(on, name, unit, help string, buckets []float64, labels ...string) *Metric {
	m := declare(Histogram, on, name, unit, help, labels...)
	m.Buckets = buckets
	return m
}

// All returns every metric of this package, in the order of the page.
func All() []*Metric { return slices.Clone(all) }

// Page returns docs/METRICS.md.
func Page() string {
	var b strings.Builder
	b.WriteString(`# Metrics

What a node offers at ` + "`/metrics`" + ` when it was started with ` + "`--http ADDR`" + `, in Prometheus' text format.
` + "`go test ./internal/telemetry -run TestPage -update`" + ` writes this page from the code.

Names, labels and units stay. No label has more than ` + fmt.Sprint(maxSeries) + ` values in one metric: what is beyond that is left out and counted
by ` + "`driftmesh_telemetry_series_dropped_total`" + `. There is no label per session, trajectory or version. Beside these a node offers Go's
` + "`go_*`" + ` and, on Linux, the process' ` + "`process_*`" + ` metrics.

| metric | kind | unit | labels | on | meaning |
|---|---|---|---|---|---|
`)
	for _, m := range all {
		labels := strings.Join(m.Labels, ", ")
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", m.Name, m.Kind, m.Unit, labels, m.On, m.Help)
	}
	b.WriteString(`
` + "`/healthz`" + ` answers 200 while the process does its work, 503 with the reason otherwise (a server whose replica has stopped).
` + "`/readyz`" + ` answers 200 when the node is of use: a server that knows a leader and has applied what is committed, a learner whose
replica has caught up, a worker that has parameters for every slot with a job. Otherwise 503 with the reason.
`)
	return b.String()
}
