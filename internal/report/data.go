// Package report writes a run's report: one HTML page that needs nothing else,
// and a PNG copy of each of its plots.
package report

import (
	"errors"
	"fmt"

	"github.com/driftmesh/driftmesh/internal/runs"
)

// Data is what a report shows. Only Name is required; parts without data are
// left out of the page.
type Data struct {
	Name string
	// Outcome is one sentence on how the run ended, such as "finished after
	// 5,000 updates" or "stopped by Ctrl-C".
	Outcome string
	// Facts are further headline facts, shown after the measured ones:
	// environment, member of the family, normaliser.
	Facts []Fact

	Info    runs.Info
	Config  []byte // job file
	Rows    []runs.Row
	Timings []runs.Timing

	Objects *Distribution
	Best    []Object         // best first
	Bias    *runs.BiasReport // nil where no trajectory can be stale
}

// Fact is one line of the headline.
type Fact struct {
	Name, Value string
	Note        string // smaller, below the value; may be empty
}

// Distribution holds the target and the learned probability of every object of
// an enumerable environment, numbered alike.
type Distribution struct {
	Target, Model []float64
	// Rows and Cols are set for two-dimensional grids, whose objects are then
	// row-major: object number row*Cols + col. Otherwise 0.
	Rows, Cols int
	// RowLabel and ColLabel name the grid's axes.
	RowLabel, ColLabel string
}

// Object is a terminal object with its log-reward.
type Object struct {
	Text      string
	LogReward float64
}

// check finds what would make a plot impossible.
func (d *Distribution) check() error {
	if len(d.Target) != len(d.Model) {
		return fmt.Errorf("report: %d target and %d model probabilities", len(d.Target), len(d.Model))
	}
	if d.Rows < 0 || d.Cols < 0 || d.Rows*d.Cols != 0 && d.Rows*d.Cols != len(d.Target) {
		return fmt.Errorf("report: a grid of %d × %d for %d objects", d.Rows, d.Cols, len(d.Target))
	}
	return nil
}

// FromRun reads what a run's folder knows: description, job file, metrics and
// timings. The caller adds outcome, facts and distribution.
func FromRun(dir string) (Data, error) {
	var d Data
	var errs [5]error
	d.Info, errs[0] = runs.ReadInfo(dir)
	d.Config, errs[1] = runs.ReadConfig(dir)
	d.Rows, errs[2] = runs.ReadRows(dir)
	d.Timings, errs[3] = runs.ReadTimings(dir)
	d.Bias, errs[4] = runs.ReadBias(dir)
	if err := errors.Join(errs[:]...); err != nil {
		return Data{}, fmt.Errorf("report: %w", err)
	}
	d.Name = d.Info.Name
	return d, nil
}
