package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/driftmesh/driftmesh/internal/atomicfile"
	"github.com/driftmesh/driftmesh/internal/job"
	"github.com/driftmesh/driftmesh/internal/plots"
	"github.com/driftmesh/driftmesh/internal/runs"
	"github.com/driftmesh/driftmesh/internal/scaling"
	"github.com/driftmesh/driftmesh/internal/wire"
)

// scaleRun is a scaling benchmark: what was asked, on which machine, and what
// came out. It is what --json prints and scale.json holds.
type scaleRun struct {
	Job         string        `json:"job"`
	Seed        uint64        `json:"seed"`
	Mode        string        `json:"mode"` // weak | strong
	DelayMS     float64       `json:"reward_delay_ms"`
	Rollout     int           `json:"rollout"`
	Server      []string      `json:"server,omitempty"` // none: a local mesh
	Command     []string      `json:"command"`
	Version     string        `json:"version"`
	Machine     runs.Machine  `json:"machine"` // of this process
	Started     time.Time     `json:"started"`
	Seconds     float64       `json:"seconds"`
	Interrupted bool          `json:"interrupted"`
	Folder      string        `json:"folder"`
	Points      []*scalePoint `json:"points"`

	dir  string
	warn func(format string, args ...any)
}

// scalePoint is what was measured with one number of slots.
type scalePoint struct {
	Workers    int                `json:"workers"`
	Batch      int                `json:"batch"`
	Rate       scaling.Estimate   `json:"rate"`       // trajectories trained on, per second
	Efficiency scaling.Estimate   `json:"efficiency"` // against the first point
	Bottleneck scaling.Bottleneck `json:"bottleneck"`
	Load       scaling.Load       `json:"load"`
	WindowMS   float64            `json:"window_ms"` // at the end
	CommitMS   float64            `json:"commit_ms"` // smoothed, at the end
	Interval   float64            `json:"interval_seconds"`
	Rates      []float64          `json:"rates"` // by interval
}

const (
	scaleResults = "scale.json"
	scaleLines   = "metrics.jsonl" // one line per interval
	scalePlot    = "scale.png"
)

// newScaleRun makes the benchmark's folder, which never is an older one's, and
// writes the job.
func newScaleRun(cmd *cobra.Command, f *scaleFlags, base *job.Spec) (*scaleRun, error) {
	r := &scaleRun{
		Job: base.Name, Seed: base.Seed, Mode: "strong", DelayMS: base.Sampling.RewardDelayMS, Rollout: base.Mesh.Rollout,
		Command: os.Args, Version: version, Machine: runs.ThisMachine(), Started: time.Now(), Points: []*scalePoint{},
	}
	r.warn = func(format string, args ...any) {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: "+format+"\n", args...)
	}
	if f.weak {
		r.Mode = "weak"
	}
	if cmd.Flags().Changed("server") {
		r.Server = f.servers
	}
	config, err := base.YAML()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.runs, 0o755); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("scale-%s-%s", r.Mode, base.Name)
	for n := 1; ; n++ {
		r.dir = filepath.Join(f.runs, name)
		if n > 1 {
			r.dir = filepath.Join(f.runs, fmt.Sprintf("%s-%d", name, n))
		}
		err := os.Mkdir(r.dir, 0o755)
		if errors.Is(err, os.ErrExist) && n < maxPlaces {
			continue
		}
		if err != nil {
			return nil, err
		}
		break
	}
	r.Folder = r.dir
	return r, atomicfile.WriteBytes(filepath.Join(r.dir, runs.ConfigFile), 0o644, config)
}

// interval appends what one interval showed to metrics.jsonl.
func (r *scaleRun) interval(spec *job.Spec, i int, length time.Duration, rate float64, last wire.JobInfo) error {
	f, err := os.OpenFile(filepath.Join(r.dir, scaleLines), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = json.NewEncoder(f).Encode(map[string]any{
		"workers": spec.Mesh.MaxSlots, "batch": spec.Train.Batch, "interval": i, "seconds": length.Seconds(), "rate": rate,
		"version": last.Version, "committed": last.Trajectories, "effort": last.Effort,
	})
	return errors.Join(err, f.Close())
}

// add completes a point with what its intervals say.
func (r *scaleRun) add(p *scalePoint) {
	p.Rate = scaling.Mean(p.Rates)
	p.Efficiency = scaling.Estimate{Value: 1, Low: 1, High: 1}
	if len(r.Points) > 0 {
		base := r.Points[0]
		p.Efficiency = scaling.Efficiency(base.Workers, base.Rates, p.Workers, p.Rates)
	}
	r.Points = append(r.Points, p)
}

// write publishes the results and the plot.
func (r *scaleRun) write() error {
	r.Seconds = time.Since(r.Started).Seconds()
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(filepath.Join(r.dir, scaleResults), 0o644, append(bytes.TrimSpace(data), '\n')); err != nil {
		return err
	}
	if len(r.Points) < 2 {
		return nil // nothing to draw a line through
	}
	png, err := plots.PNG(r.figure())
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(r.dir, scalePlot), 0o644, png)
}

func (r *scaleRun) figure() plots.Figure {
	line, band, ideal := plots.Series{Name: "efficiency", Colour: 1}, plots.Series{Name: "95 % interval", Colour: 1}, plots.Series{Name: "linear scaling", Reference: true}
	for _, p := range r.Points {
		x := float64(p.Workers)
		line.X, line.Y = append(line.X, x), append(line.Y, p.Efficiency.Value)
		band.X, band.Y, band.Upper = append(band.X, x), append(band.Y, p.Efficiency.Low), append(band.Upper, p.Efficiency.High)
		ideal.X, ideal.Y = append(ideal.X, x), append(ideal.Y, 1)
	}
	return plots.Chart{
		Title: fmt.Sprintf("%s scaling of %s, %g ms per reward", r.Mode, r.Job, r.DelayMS),
		X:     plots.Axis{Label: "worker slots", Log: true}, Y: plots.Axis{Label: "efficiency"},
		Series: []plots.Series{band, line, ideal},
	}
}

const scaleRow = "%7s  %6s  %12s  %16s  %10s  %16s  %s\n"

func (r *scaleRun) head(w io.Writer) {
	fmt.Fprintf(w, "%s scaling of %s, %g ms per reward, seed %d\n\n", r.Mode, r.Job, r.DelayMS, r.Seed)
	fmt.Fprintf(w, scaleRow, "WORKERS", "BATCH", "TRAJ/S", "95 %", "EFFICIENCY", "95 %", "BOTTLENECK")
}

func (r *scaleRun) row(w io.Writer, p *scalePoint) {
	span := func(e scaling.Estimate, format string) string {
		if math.IsNaN(e.Low) {
			return "unknown"
		}
		return fmt.Sprintf(format+" to "+format, e.Low, e.High)
	}
	fmt.Fprintf(w, scaleRow, fmt.Sprint(p.Workers), fmt.Sprint(p.Batch),
		fmt.Sprintf("%.1f", p.Rate.Value), span(p.Rate, "%.1f"),
		fmt.Sprintf("%.3f", p.Efficiency.Value), span(p.Efficiency, "%.3f"), p.Bottleneck)
}

func (r *scaleRun) foot(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s, %s", r.dir, scaleResults, scaleLines)
	if len(r.Points) > 1 {
		fmt.Fprintf(w, ", %s", scalePlot)
	}
	fmt.Fprintln(w)
}
