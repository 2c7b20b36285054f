package metrics

import (
	"fmt"
	"math"
)

// BackwardImportance estimates log p(x), the log-probability with which a
// forward policy ends in an object, from k trajectories of each object that were
// sampled backward: log mean_k P_F(τ)/P_B(τ|x). logPF and logPB hold k values of
// the first object, then k of the second, and so on.
//
// The mean is unbiased for p(x) where P_B gives probability to every way to x;
// its logarithm is too low in expectation, by about half the relative variance
// of the mean, and exact with one k where P_B is the posterior of P_F.
func BackwardImportance(logPF, logPB []float64, k int) ([]float64, error) {
	if len(logPF) != len(logPB) {
		return nil, fmt.Errorf("%w: %d and %d", ErrLength, len(logPF), len(logPB))
	}
	if k < 1 || len(logPF)%k != 0 {
		return nil, fmt.Errorf("metrics: %d trajectories are not %d of each object", len(logPF), k)
	}
	out := make([]float64, len(logPF)/k)
	ratios := make([]float64, k)
	for i := range out {
		for j := range ratios {
			ratios[j] = logPF[i*k+j] - logPB[i*k+j]
		}
		out[i] = LogMeanExp(ratios)
	}
	return out, nil
}

// LogMeanExp is log mean e^x, without overflow; −Inf of nothing.
func LogMeanExp(x []float64) float64 {
	top := math.Inf(-1)
	for _, v := range x {
		top = max(top, v)
	}
	if math.IsInf(top, 0) {
		return top
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum/float64(len(x)))
}
