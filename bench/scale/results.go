package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/internal/scaling"
)

// results is what a campaign publishes.
type results struct {
	Machine     parts.Hardware `json:"machine"`
	Seed        uint64         `json:"seed"`
	Rollout     int            `json:"rollout"`
	Took        float64        `json:"seconds_of_the_run"`
	Series      []series       `json:"series"`
	Model       scaling.Model  `json:"model"`
	Error       float64        `json:"model_rms_relative_error"`
	Predictions []prediction   `json:"predictions"`

	fitted *scaling.Fit
}

// prediction is the model's rate of a mesh that was not measured.
type prediction struct {
	DelayMS    float64          `json:"reward_delay_ms"`
	Workers    int              `json:"workers"`
	Rate       scaling.Estimate `json:"rate"`
	Efficiency float64          `json:"efficiency"`
}

// fit fits the model to all measurements and asks it for more workers.
func (r *results) fit(seed uint64) error {
	var cells []scaling.Cell
	for _, s := range r.Series {
		for _, p := range s.Points {
			cells = append(cells, scaling.Cell{Workers: p.Workers, Delay: s.DelayMS / 1000, Rate: p.Rate.Value})
		}
	}
	f, err := scaling.FitModel(cells, seed)
	if err != nil {
		return err
	}
	r.fitted, r.Model, r.Error = f, f.Model, f.Error()
	for _, s := range r.Series {
		delay := s.DelayMS / 1000
		rate := f.Predict(predicted, delay)
		r.Predictions = append(r.Predictions, prediction{s.DelayMS, predicted, rate, rate.Value / (predicted * f.Model.Rate(1, delay))})
	}
	return nil
}

// table is the Markdown of the results.
func (r *results) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores, Linux %s, %s; %.0f minutes. One server, one worker process with as many slots; trajectories trained on per second\n(efficiency, and what bounds the rate where it is not the reward).\n\n",
		r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, math.Ceil(r.Took/60))
	b.WriteString("| slots |")
	for _, s := range r.Series {
		fmt.Fprintf(&b, " %g ms |", s.DelayMS)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(r.Series)) + "\n")
	for _, w := range r.slots() {
		fmt.Fprintf(&b, "| %d |", w)
		for _, s := range r.Series {
			b.WriteString(s.cell(w) + " |")
		}
		b.WriteByte('\n')
	}
	b.WriteString("| bare sleeps |")
	for _, s := range r.Series {
		if len(s.Bare) < 2 {
			b.WriteString(" |")
			continue
		}
		one, most := s.Bare[0], s.Bare[1]
		fmt.Fprintf(&b, " %d: %.0f (%.3f) |", most.Slots, most.Rate, most.Rate/float64(most.Slots)/(one.Rate/float64(one.Slots)))
	}
	fmt.Fprintf(&b, "\n| **%d**, predicted |", predicted)
	for _, p := range r.Predictions {
		fmt.Fprintf(&b, " %.0f (%.3f); 95 %%: %.0f – %.0f |", p.Rate.Value, p.Efficiency, p.Rate.Low, p.Rate.High)
	}
	fmt.Fprintf(&b, "\n\nThe model: a worker's own time %.3f ms a trajectory, shared demand %.1f µs, which grows by %.3f %% with each slot; RMS error of the fit %.1f %%.\n",
		1e3*r.Model.Own, 1e6*r.Model.Demand, 100*r.Model.Growth, 100*r.Error)
	return b.String()
}

// slots are all numbers of slots that were measured.
func (r *results) slots() (out []int) {
	for _, s := range r.Series {
		for _, p := range s.Points {
			out = append(out, p.Workers)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// cell is the table's text for a number of slots; none if that was not measured.
func (s *series) cell(workers int) string {
	i := slices.IndexFunc(s.Points, func(p point) bool { return p.Workers == workers })
	if i < 0 {
		return ""
	}
	p := s.Points[i]
	text := fmt.Sprintf(" %.0f (%.3f", p.Rate.Value, p.Efficiency.Value)
	if !math.IsNaN(p.Efficiency.Low) && i > 0 {
		text += fmt.Sprintf(", %.3f – %.3f", p.Efficiency.Low, p.Efficiency.High)
	}
	if p.Bottleneck != scaling.Reward {
		text += "; " + string(p.Bottleneck)
	}
	return text + ")"
}

// figure shows rates against slots, measured and modelled.
func (r *results) figure() plots.Figure {
	c := plots.Chart{
		Title: "Rate against worker slots, by the reward's sleep; dashed: the model",
		X:     plots.Axis{Label: "worker slots", Log: true}, Y: plots.Axis{Label: "trajectories per second", Log: true},
	}
	for i, s := range r.Series {
		line := plots.Series{Name: fmt.Sprintf("%g ms", s.DelayMS), Colour: 1 + i%6}
		for _, p := range s.Points {
			line.X, line.Y = append(line.X, float64(p.Workers)), append(line.Y, p.Rate.Value)
		}
		model := plots.Series{Reference: true}
		for w := 1; w < predicted; w = max(w+1, w*5/4) {
			model.X, model.Y = append(model.X, float64(w)), append(model.Y, r.Model.Rate(w, s.DelayMS/1000))
		}
		model.X, model.Y = append(model.X, predicted), append(model.Y, r.Model.Rate(predicted, s.DelayMS/1000))
		c.Series = append(c.Series, line, model)
	}
	return c
}

// publish writes numbers, table and plot, and prints the table.
func (r *results) publish(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	png, err := plots.PNG(r.figure())
	if err != nil {
		return err
	}
	text := r.table()
	os.Stdout.WriteString(text)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(
		atomicfile.WriteBytes(filepath.Join(dir, "results.json"), 0o644, append(bytes.TrimSpace(data), '\n')),
		atomicfile.WriteBytes(filepath.Join(dir, "results.md"), 0o644, []byte(text)),
		atomicfile.WriteBytes(filepath.Join(dir, "results.png"), 0o644, png),
	)
}
