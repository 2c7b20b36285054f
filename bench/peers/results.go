package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/driftmesh/driftmesh/bench/parts"
	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/plots"
)

var numCPU = runtime.NumCPU()

// header begins every file of results.
type header struct {
	Machine  parts.Hardware    `json:"machine"`
	Versions map[string]string `json:"versions"`
	Rounds   int               `json:"rounds"`
	Seconds  float64           `json:"seconds_per_measurement"`
	Complete bool              `json:"complete"` // false: interrupted
}

func (c *comparison) header() header {
	return header{Machine: parts.Machine(), Versions: c.versions, Rounds: c.rounds, Seconds: c.seconds}
}

// times is updates.json and sampling.json.
type times struct {
	header
	Entries []*entry `json:"entries"`
}

// results is what a run measured, by part; nil where it did not.
type results struct {
	Equal    *checks
	Updates  *times
	Sampling *times
	Quality  *races
	Start    *startups
	Tuning   *tuning
}

// files are where the parts are.
func (r *results) files() map[string]any {
	return map[string]any{
		"equal.json": &r.Equal, "updates.json": &r.Updates, "sampling.json": &r.Sampling,
		"quality.json": &r.Quality, "start.json": &r.Start, "tuning.json": &r.Tuning,
	}
}

func (c *comparison) write(name string, v any) error {
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(c.out, name), 0o644, append(data, '\n'))
}

// publish writes the numbers of this run; and a table and plots of these and of
// what earlier runs left of the other parts.
func (c *comparison) publish() error {
	var faults []error
	if c.results.Equal != nil {
		old, err := load(c.out)
		if err != nil {
			return err
		}
		c.results.Equal.keep(old.Equal)
	}
	for name, v := range map[string]any{"equal.json": c.results.Equal, "updates.json": c.results.Updates, "sampling.json": c.results.Sampling, "quality.json": c.results.Quality, "start.json": c.results.Start} {
		if data, err := json.Marshal(v); err == nil && string(data) == "null" {
			continue
		}
		faults = append(faults, c.write(name, v))
	}
	r, err := load(c.out)
	if err != nil {
		return errors.Join(append(faults, err)...)
	}
	text := r.table()
	os.Stdout.WriteString(text)
	faults = append(faults, atomicfile.WriteBytes(filepath.Join(c.out, "results.md"), 0o644, []byte(text)))
	for name, f := range r.figures() {
		png, err := plots.PNG(f)
		if err == nil {
			err = atomicfile.WriteBytes(filepath.Join(c.out, name), 0o644, png)
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// load reads what there is.
func load(dir string) (*results, error) {
	r := new(results)
	for name, v := range r.files() {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = json.Unmarshal(data, v)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// ratios are, by round, how many times longer the faster peer takes than we do.
func (e *entry) ratios() (out []float64) {
	a := e.Sides[ours]
	if a == nil {
		return nil
	}
	for round, own := range a.MS {
		fastest := math.Inf(1)
		for _, lib := range libraries[1:] {
			if s := e.Sides[lib]; s != nil && len(s.MS) > round {
				fastest = min(fastest, s.MS[round])
			}
		}
		if own > 0 && !math.IsInf(fastest, 1) {
			out = append(out, fastest/own)
		}
	}
	return out
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// geomean is the geometric mean; NaN of nothing.
func geomean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += math.Log(x)
	}
	return math.Exp(sum / float64(len(v)))
}

// figures are the plots, by file.
func (r *results) figures() map[string]plots.Figure {
	out := map[string]plots.Figure{}
	if r.Updates == nil {
		return out
	}
	for _, after := range []int{0, trained} {
		title, name := "TB update from the start", "updates-start.png"
		if after > 0 {
			title, name = "TB update after 2,000 updates", "updates-trained.png"
		}
		threads := 0
		for _, e := range r.Updates.Entries {
			threads = max(threads, e.Threads)
		}
		f := plots.Chart{
			Title: fmt.Sprintf("%s, %d threads: the faster peer's time over ours", title, threads), X: plots.Axis{Label: "batch", Log: true, Pad: true},
			Y: plots.Axis{Label: "times faster", Log: true, Pad: true, Include: []float64{1, 8}},
		}
		lines := map[string]*plots.Series{}
		var order []string
		least, largest := math.Inf(1), 0.0
		for _, e := range r.Updates.Entries {
			ratios := e.ratios()
			if e.After != after || e.Variant != plainTB || e.Threads != threads || len(ratios) == 0 {
				continue
			}
			key := e.Grid.String()
			if lines[key] == nil {
				lines[key], order = &plots.Series{Name: key}, append(order, key)
			}
			lines[key].X, lines[key].Y = append(lines[key].X, float64(e.Batch)), append(lines[key].Y, median(ratios))
			least, largest = min(least, float64(e.Batch)), max(largest, float64(e.Batch))
		}
		for _, key := range order {
			f.Series = append(f.Series, *lines[key])
		}
		if len(f.Series) == 0 {
			continue
		}
		f.Series = append(f.Series, plots.Series{Name: "target", Reference: true, X: []float64{least, largest}, Y: []float64{8, 8}})
		out[name] = f
	}
	return out
}
