package metrics

import (
	"fmt"
	"math"
)

// Empirical is the total variation between a target and the frequencies of
// sampled objects. Frequencies of few samples are far from any distribution,
// even the one they were drawn from: read TV against Floor, never alone.
type Empirical struct {
	Samples int64   `json:"samples"`
	TV      float64 `json:"tv"`
	// Floor is about what as many samples of the target itself would show:
	// each frequency is off by √(2p(1−p)/(πn)) on average (normal approximation).
	Floor float64 `json:"floor"`
}

// EmpiricalTV compares counts of sampled objects with log-probabilities of the
// target. No samples give a TV of 1.
func EmpiricalTV(logTarget []float64, counts []int64) (Empirical, error) {
	if len(logTarget) != len(counts) {
		return Empirical{}, fmt.Errorf("%w: %d and %d", ErrLength, len(logTarget), len(counts))
	}
	e := Empirical{TV: 1, Floor: 1}
	for _, c := range counts {
		e.Samples += c
	}
	if e.Samples == 0 {
		return e, nil
	}
	n := float64(e.Samples)
	l1, floor := 0.0, 0.0
	for i, c := range counts {
		p := math.Exp(logTarget[i])
		l1 += math.Abs(p - float64(c)/n)
		// An object that expects less than a sample is off by at most 2p.
		floor += min(math.Sqrt(2*p*(1-p)/(math.Pi*n)), 2*p)
	}
	e.TV, e.Floor = l1/2, min(floor/2, 1)
	return e, nil
}

// FirstBelow returns the index of the first of run (at least 1) successive
// values that are all below the threshold, or -1: one lucky evaluation is not
// an arrival.
func FirstBelow(values []float64, threshold float64, run int) int {
	return firstRun(values, run, func(v float64) bool { return v < threshold })
}

// FirstAtLeast is FirstBelow for values that are to rise, such as the number of
// modes held: the first of run successive values of at least the threshold.
func FirstAtLeast(values []float64, threshold float64, run int) int {
	return firstRun(values, run, func(v float64) bool { return v >= threshold })
}

func firstRun(values []float64, run int, there func(float64) bool) int {
	run = max(run, 1)
	streak := 0
	for i, v := range values {
		if streak++; !there(v) {
			streak = 0
		}
		if streak == run {
			return i + 1 - run
		}
	}
	return -1
}
