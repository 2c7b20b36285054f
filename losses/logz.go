package losses

import (
	"fmt"
	"math"
)

// LogZ is an estimate of log Z, the log of the sum of rewards, in nats. It is
// reported beside training and never enters the loss.
type LogZ struct {
	Value float64
	// Estimator is "learned", "exact", "elbo", "importance" or "eubo".
	Estimator string
	StdErr    float64 // standard error of Value; 0 for learned and exact
	ESS       float64 // effective sample size; N for plain means, 0 without samples
	N         int     // samples used
}

// LearnedLogZ wraps the trained scalar.
func LearnedLogZ(v float64) LogZ { return LogZ{Value: v, Estimator: "learned"} }

// ExactLogZ wraps a value found by enumeration.
func ExactLogZ(v float64) LogZ { return LogZ{Value: v, Estimator: "exact"} }

// ELBO is −mean δ over trajectories sampled from P_F itself (residuals with
// log Z = 0): in expectation a lower bound, short of log Z by
// KL(model ‖ target) over trajectories.
func ELBO(delta []float64) (LogZ, error) { return minusMean("elbo", delta) }

// EUBO is −mean δ over trajectories whose objects come from the target and
// whose paths come from P_B: an upper bound in expectation, beyond log Z by
// KL(target ‖ model) over trajectories.
func EUBO(delta []float64) (LogZ, error) { return minusMean("eubo", delta) }

func minusMean(name string, delta []float64) (LogZ, error) {
	n := len(delta)
	if n == 0 {
		return LogZ{}, fmt.Errorf("%w: %s of no trajectories", ErrInput, name)
	}
	for i, x := range delta {
		if !isFinite(x) {
			return LogZ{}, nonFinite(i, "residual", x)
		}
	}
	m := mean(delta)
	var squares float64
	for _, x := range delta {
		squares += float64((x - m) * (x - m))
	}
	e := LogZ{Value: -m, Estimator: name, N: n, ESS: float64(n), StdErr: math.Inf(1)}
	if n > 1 {
		e.StdErr = math.Sqrt(squares / float64(n-1) / float64(n))
	}
	return e, nil
}

// ImportanceLogZ is log mean(R P_B / P_behaviour), with the effective sample
// size of these weights and a standard error by the delta method. Trajectories
// whose logBehaviour is NaN are left out; all three slices are equally long. A
// standard error from one sample is +Inf.
func ImportanceLogZ(logReward, logPB, logBehaviour []float64) (LogZ, error) {
	if len(logReward) != len(logPB) || len(logReward) != len(logBehaviour) {
		return LogZ{}, fmt.Errorf("%w: %d rewards, %d log P_B, %d log behaviour", ErrInput, len(logReward), len(logPB), len(logBehaviour))
	}
	n, top := 0, math.Inf(-1)
	for i, lb := range logBehaviour {
		if math.IsNaN(lb) {
			continue
		}
		w := logReward[i] + logPB[i] - lb
		if !isFinite(w) {
			return LogZ{}, nonFinite(i, "importance weight (log)", w)
		}
		n, top = n+1, math.Max(top, w)
	}
	if n == 0 {
		return LogZ{}, fmt.Errorf("%w: no trajectory has a behaviour log-probability", ErrInput)
	}
	var sum, squares float64
	for i, lb := range logBehaviour {
		if !math.IsNaN(lb) {
			w := math.Exp(logReward[i] + logPB[i] - lb - top)
			sum += w
			squares += float64(w * w)
		}
	}
	e := LogZ{
		Value: top + math.Log(sum/float64(n)), Estimator: "importance",
		N: n, ESS: sum * sum / squares, StdErr: math.Inf(1),
	}
	if n > 1 { // the variance of the weights over their squared mean is n/ESS − 1
		e.StdErr = math.Sqrt(math.Max(0, float64(n)/e.ESS-1) / float64(n-1))
	}
	return e, nil
}
