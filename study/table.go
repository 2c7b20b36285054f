// Package study holds the computed parts of experiments: what can be said about
// the f-TB family beside training runs, by enumeration and quadrature, and the
// comparison of both. A computation takes parameters and gives a table, with
// sentences on what it shows and figures.
package study

import (
	"context"
	"math"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/driftmesh/driftmesh/internal/job"
)

// Trainer trains a job to its end and returns the log-probability of every
// object under the model that came of it. Training that diverged is an error
// that wraps experiment.ErrDiverged. It may be called from several goroutines.
type Trainer func(ctx context.Context, spec *job.Spec) (logModel []float64, err error)

// Estimate is a mean over seeds with its 95 % interval by Student's t.
type Estimate struct {
	Mean, Low, High float64
	N               int
}

// NewEstimate summarises values, of which NaN are left out. One value has an
// interval without bounds.
func NewEstimate(values []float64) Estimate {
	var e Estimate
	for _, v := range values {
		if v == v {
			e.Mean += v
			e.N++
		}
	}
	if e.N == 0 {
		return Estimate{Mean: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	n := float64(e.N)
	e.Mean /= n
	half := math.Inf(1)
	if e.N > 1 {
		variance := 0.0
		for _, v := range values {
			if v == v {
				variance += (v - e.Mean) * (v - e.Mean)
			}
		}
		half = distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n - 1}.Quantile(0.975) * math.Sqrt(variance/(n-1)/n)
	}
	e.Low, e.High = e.Mean-half, e.Mean+half
	return e
}
