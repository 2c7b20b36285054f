package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/chaos"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/plots"
)

// results is what a run publishes.
type results struct {
	Machine  parts.Hardware `json:"machine"`
	Params   int            `json:"parameters"`
	Seconds  float64        `json:"seconds_per_measurement"`
	Took     float64        `json:"seconds_of_the_run"`
	Rounds   []round        `json:"rounds"`
	Failover *failures      `json:"failover,omitempty"`
}

// measure is one row of the table.
type measure struct {
	name   string
	unit   string
	target string
	more   bool // is better
	of     func(side) float64
	ours   func(side) float64 // when it is not the same as theirs
}

var measures = []measure{
	{name: "transport and admission into bounded replay", unit: "trajectories/s", target: "≥ 10×", more: true, of: func(s side) float64 { return s.Transport.Rate }},
	{name: "the same, every object archived on disk before its mark", unit: "trajectories/s", more: true, of: func(s side) float64 { return s.Transport.Rate }, ours: func(s side) float64 { return s.Archived.Rate }},
	{name: "age of parameters at first use, p50, committed by three durable voters", unit: "ms", target: "≥ 3×", of: func(s side) float64 { return s.Ages.P50 }},
	{name: "the same, p95", unit: "ms", target: "≥ 3×", of: func(s side) float64 { return s.Ages.P95 }},
	{name: "age without the commit, p50 (from the commit on)", unit: "ms", target: "≥ 3×", of: func(s side) float64 { return s.Ages.P50 }, ours: func(s side) float64 { return s.Ages.Transport[0] }},
	{name: "the same, p95", unit: "ms", target: "≥ 3×", of: func(s side) float64 { return s.Ages.P95 }, ours: func(s side) float64 { return s.Ages.Transport[1] }},
	{name: "processor time per delivered snapshot, committed", unit: "ms", target: "≥ 3×", of: func(s side) float64 { return s.Ages.CPU }},
	{name: "the same, without what both use when idle", unit: "ms", of: func(s side) float64 { return s.Ages.NetCPU }},
	{name: "memory per additional sampler slot (PSS)", unit: "MiB", target: "≥ 10×", of: func(s side) float64 { return s.Memory.Slot }},
	{name: "memory per sampler process (PSS)", unit: "MiB", of: func(s side) float64 { return s.Memory.Process }},
	{name: "trajectories trained on", unit: "trajectories/s", more: true, of: func(s side) float64 { return s.Training.Rate }},
	{name: "age of parameters at first use while training, p50", unit: "ms", of: func(s side) float64 { return s.Training.P50 }},
	{name: "the same, p95", unit: "ms", of: func(s side) float64 { return s.Training.P95 }},
}

// row is a measure over all rounds.
type row struct {
	Name      string  `json:"name"`
	Unit      string  `json:"unit"`
	Driftmesh float64 `json:"driftmesh"` // median
	Ray       float64 `json:"ray"`       // median
	Ratio     float64 `json:"ratio"`     // median of the rounds' own ratios; above 1 is in our favour
	Least     float64 `json:"least_ratio"`
	Most      float64 `json:"most_ratio"`
	Target    string  `json:"target,omitempty"`
}

// value is what f reads of a side; NaN where that part was not measured.
func (m measure) value(f func(side) float64, s side) (v float64) {
	defer func() {
		if recover() != nil {
			v = math.NaN() // that part was not measured
		}
	}()
	return f(s)
}

func (r *results) rows() (out []row) {
	for _, m := range measures {
		own := m.of
		if m.ours != nil {
			own = m.ours
		}
		var a, b, ratios []float64
		for _, one := range r.Rounds {
			x, y := m.value(own, one.Driftmesh), m.value(m.of, one.Ray)
			if math.IsNaN(x) || math.IsNaN(y) {
				continue
			}
			ratio := y / x
			if m.more {
				ratio = x / y
			}
			a, b, ratios = append(a, x), append(b, y), append(ratios, ratio)
		}
		if len(ratios) > 0 {
			out = append(out, row{
				Name: m.name, Unit: m.unit, Target: m.target, Driftmesh: chaos.Quantile(a, 0.5), Ray: chaos.Quantile(b, 0.5),
				Ratio: chaos.Quantile(ratios, 0.5), Least: chaos.Quantile(ratios, 0), Most: chaos.Quantile(ratios, 1),
			})
		}
	}
	return out
}

// table is the Markdown of the results.
func (r *results) table(rows []row) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores, Linux %s, %s; %d rounds of both systems in turn, medians; %.0f minutes.\n\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, len(r.Rounds), math.Ceil(r.Took/60))
	b.WriteString("| | what | Driftmesh | Ray | ratio (least – most) | target |\n|---|---|---|---|---|---|\n")
	for i, w := range rows {
		fmt.Fprintf(&b, "| %d | %s | %s %s | %s %s | %.1f× (%.1f – %.1f) | %s |\n", i+1, w.Name, parts.Short(w.Driftmesh), w.Unit, parts.Short(w.Ray), w.Unit, w.Ratio, w.Least, w.Most, w.Target)
	}
	if f := r.Failover; f != nil {
		fmt.Fprintf(&b, "| | from the death of leader and learner to the next commit, p50 of %d | %.2f s | %s | | |\n", len(f.Driftmesh.Leader), chaos.Quantile(f.Driftmesh.Leader, 0.5), f.Ray.verdict())
		fmt.Fprintf(&b, "| | the same, most | %.2f s | | | |\n", chaos.Quantile(f.Driftmesh.Leader, 1))
	}
	return b.String()
}

// verdict is what became of the job, in words.
func (d *headDeath) verdict() string {
	switch {
	case d.Ended && d.ExitCode != nil:
		return fmt.Sprintf("never: updates went on for %.0f s, then the job ended with exit code %d", d.Last, *d.ExitCode)
	case d.Watched-d.Last > d.Watched/2:
		return fmt.Sprintf("never: no update after %.0f s, watched for %.0f s", d.Last, d.Watched)
	}
	return fmt.Sprintf("still going on %.0f s after the death", d.Watched)
}

// publish writes the results: numbers, a table, and a plot of the ratios.
func (c *comparison) publish(r *results) error {
	rows := r.rows()
	data, err := json.MarshalIndent(struct {
		*results
		Rows []row `json:"rows"`
	}{r, rows}, "", "  ")
	if err != nil {
		return err
	}
	png, err := plots.PNG(figure(rows))
	if err != nil {
		return err
	}
	text := r.table(rows)
	os.Stdout.WriteString(text)
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	return errors.Join(
		atomicfile.WriteBytes(filepath.Join(c.out, "results.json"), 0o644, append(bytes.TrimSpace(data), '\n')),
		atomicfile.WriteBytes(filepath.Join(c.out, "results.md"), 0o644, []byte(text)),
		atomicfile.WriteBytes(filepath.Join(c.out, "results.png"), 0o644, png),
	)
}

// figure shows how many times better we are, by the rows of the table.
func figure(rows []row) plots.Bars {
	f := plots.Bars{Title: "Driftmesh against Ray: how many times better", YLabel: "ratio", XLabel: "row of the table", Ratios: true}
	for i, w := range rows {
		f.Bars = append(f.Bars, plots.Bar{Label: fmt.Sprint(i + 1), Value: w.Ratio})
	}
	return f
}
