// Package scaling is the arithmetic of scaling benchmarks: rates from readings
// of a counter, efficiencies with confidence intervals, the name of what bounds
// a mesh, and a queueing model that is fitted to rates and extrapolates them.
// It is pure: who measures gives it numbers.
package scaling

import (
	"encoding/json"
	"math"
	"sort"
	"time"

	"gonum.org/v1/gonum/stat/distuv"
)

// Step is a reading at which a counter was first seen to have moved.
type Step struct {
	At    time.Duration // since any origin
	Count float64
}

// Rates returns the counter's rate, per second, in each of n intervals of a
// length that follow each other from begin: the slope of the least-squares line
// through the steps from the last one before the interval to the last one in it.
// Counters of a mesh move in steps and bursts, since workers' rewards end together
// and windows commit: a count at an interval's end is wrong by up to a burst; the
// line is exact where steps are even and wrong by the square of that share where
// they come in bursts. An interval without a step has rate 0.
//
// steps are in order of time, the first one not after begin; otherwise there are
// no rates.
func Rates(steps []Step, begin, length time.Duration, n int) []float64 {
	last := func(until time.Duration) int { // index of the last step by then, or -1
		return sort.Search(len(steps), func(i int) bool { return steps[i].At > until }) - 1
	}
	var out []float64
	for i := range n {
		from, to := last(begin+time.Duration(i)*length), last(begin+time.Duration(i+1)*length)
		if from < 0 {
			return nil
		}
		out = append(out, slope(steps[from:to+1]))
	}
	return out
}

// slope is that of the least-squares line, per second; 0 through one step.
func slope(steps []Step) float64 {
	var at, count float64 // means; from the first step, so that nothing cancels
	for _, s := range steps {
		at += (s.At - steps[0].At).Seconds()
		count += s.Count - steps[0].Count
	}
	at, count = at/float64(len(steps)), count/float64(len(steps))
	var xx, xy float64
	for _, s := range steps {
		x := (s.At - steps[0].At).Seconds() - at
		xx += x * x
		xy += x * (s.Count - steps[0].Count - count)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}

// Estimate is a value with its 95 % confidence interval. Low and High are NaN
// where there are too few samples to tell.
type Estimate struct {
	Value, Low, High float64
}

// MarshalJSON writes what is not finite as null.
func (e Estimate) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{"value": finite(e.Value), "low": finite(e.Low), "high": finite(e.High)})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Estimate) UnmarshalJSON(data []byte) error {
	var x struct{ Value, Low, High *float64 }
	if err := json.Unmarshal(data, &x); err != nil {
		return err
	}
	read := func(p *float64) float64 {
		if p == nil {
			return math.NaN()
		}
		return *p
	}
	*e = Estimate{read(x.Value), read(x.Low), read(x.High)}
	return nil
}

func finite(x float64) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nil
	}
	return x
}

// confidence of all intervals.
const confidence = 0.95

// Mean estimates the mean of independent samples, with Student's t.
func Mean(samples []float64) Estimate {
	m, v := moments(samples)
	if len(samples) < 2 {
		return Estimate{m, math.NaN(), math.NaN()}
	}
	half := student(float64(len(samples)-1)) * math.Sqrt(v/float64(len(samples)))
	return Estimate{m, m - half, m + half}
}

// Efficiency estimates rate(w) / w over rate(base) / base from the rates per
// interval at both: 1 is linear scaling. The interval is that of the logarithm of
// the ratio of two means with unequal variances (delta method, Welch's degrees
// of freedom).
func Efficiency(baseWorkers int, base []float64, workers int, rates []float64) Estimate {
	mb, vb := moments(base)
	mw, vw := moments(rates)
	ratio := (mw / float64(workers)) / (mb / float64(baseWorkers))
	if len(base) < 2 || len(rates) < 2 || !(mb > 0) || !(mw > 0) {
		return Estimate{ratio, math.NaN(), math.NaN()}
	}
	nb, nw := float64(len(base)), float64(len(rates))
	sb, sw := vb/(nb*mb*mb), vw/(nw*mw*mw) // variances of the logarithms
	s := sb + sw
	if s == 0 {
		return Estimate{ratio, ratio, ratio}
	}
	dof := s * s / (sb*sb/(nb-1) + sw*sw/(nw-1))
	half := student(dof) * math.Sqrt(s)
	return Estimate{ratio, ratio * math.Exp(-half), ratio * math.Exp(half)}
}

// moments are the mean and the unbiased variance; NaN where there are too few samples.
func moments(x []float64) (mean, variance float64) {
	n := float64(len(x))
	for _, v := range x {
		mean += v
	}
	mean /= n
	for _, v := range x {
		variance += (v - mean) * (v - mean)
	}
	return mean, variance / (n - 1)
}

// student is the two-sided quantile of Student's t.
func student(dof float64) float64 {
	return distuv.StudentsT{Mu: 0, Sigma: 1, Nu: max(1, dof)}.Quantile(1 - (1-confidence)/2)
}
