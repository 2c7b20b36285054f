package losses

import (
	"fmt"
	"math"
)

// LogZ is an estimate of log Z, the log of the sum of rewards, in nats. It is
// reported beside training and never enters the loss.
type LogZ struct {
	Value float64
	// Estimator is "learned", "elbo", "importance" or "eubo".
	Estimator string
	StdErr    float64 // standard error of Value; 0 for learned
	ESS       float64 // effective sample size; N for plain means, 0 without samples
	N         int     // samples used
}

// LearnedLogZ wraps the trained scalar.
func LearnedLogZ(v float64) LogZ { return LogZ{Value: v, Estimator: "learned"} }

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
	var sums ImportanceSums
	for i, lb := range logBehaviour {
		sums.Add(logReward[i], logPB[i], lb)
	}
	return sums.LogZ()
}

// ImportanceSums is ImportanceLogZ one trajectory at a time, in constant
// memory. The zero value is empty.
type ImportanceSums struct {
	seen         int     // trajectories given, counted or not
	n            int     // with a behaviour log-probability
	top          float64 // the largest log-weight; the sums are relative to its exponential
	sum, squares float64
	fault        error // the first weight that was not finite
}

// Add counts one trajectory, unless its logBehaviour is NaN. The three are in nats.
func (s *ImportanceSums) Add(logReward, logPB, logBehaviour float64) {
	s.seen++
	if math.IsNaN(logBehaviour) {
		return
	}
	w := logReward + logPB - logBehaviour
	if !isFinite(w) {
		if s.fault == nil {
			s.fault = nonFinite(s.seen-1, "importance weight (log)", w)
		}
		return
	}
	if s.n++; s.n == 1 || w > s.top {
		shrink := 0.0
		if s.n > 1 {
			shrink = math.Exp(s.top - w)
		}
		s.sum *= shrink
		s.squares *= float64(shrink * shrink)
		s.top = w
	}
	r := math.Exp(w - s.top)
	s.sum += r
	s.squares += float64(r * r)
}

// ImportanceSumsState is an ImportanceSums that can be written down.
type ImportanceSumsState struct {
	Seen, N           int
	Top, Sum, Squares float64
	Fault             bool
}

// State returns the sums.
func (s *ImportanceSums) State() ImportanceSumsState {
	return ImportanceSumsState{Seen: s.seen, N: s.n, Top: s.top, Sum: s.sum, Squares: s.squares, Fault: s.fault != nil}
}

// Restore goes on from sums that State returned; of a fault it knows no more
// than that there was one.
func (s *ImportanceSums) Restore(from ImportanceSumsState) {
	*s = ImportanceSums{seen: from.Seen, n: from.N, top: from.Top, sum: from.Sum, squares: from.Squares}
	if from.Fault {
		s.fault = fmt.Errorf("losses: importance weight (log) of a trajectory: %w", ErrNonFinite)
	}
}

// LogZ returns the estimate from what was added: an error if that is nothing,
// or if any weight was not finite.
func (s *ImportanceSums) LogZ() (LogZ, error) {
	if s.fault != nil {
		return LogZ{}, s.fault
	}
	if s.n == 0 {
		return LogZ{}, fmt.Errorf("%w: no trajectory has a behaviour log-probability", ErrInput)
	}
	n := float64(s.n)
	e := LogZ{
		Value: s.top + math.Log(s.sum/n), Estimator: "importance",
		N: s.n, ESS: s.sum * s.sum / s.squares, StdErr: math.Inf(1),
	}
	if s.n > 1 { // the variance of the weights over their squared mean is n/ESS − 1
		e.StdErr = math.Sqrt(math.Max(0, n/e.ESS-1) / (n - 1))
	}
	return e, nil
}
