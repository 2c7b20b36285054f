package losses

import (
	"math"
	"slices"
)

// Diagnostics describe how far off-policy a batch was and where its weight
// lies. They change nothing: f-TB needs no importance weights.
type Diagnostics struct {
	// Known is the number of trajectories with a behaviour log-probability;
	// ESS and KL are over these, and 0 when there are none.
	Known int
	// ESS is the effective sample size (Σρ)²/Σρ² of whole-trajectory ratios
	// ρ = π_now/π_behaviour, between 1 and Known.
	ESS float64
	// KL estimates KL(behaviour ‖ now) in nats: the mean of
	// log π_behaviour − log π_now. As an estimate it may be negative.
	KL float64
	// TailShare is the part of Σ|w| that lies at or beyond the member's tail
	// (TailStart); 0 without one.
	TailShare float64
	// DeltaQuantiles of the residuals with c, at DeltaLevels.
	DeltaQuantiles [7]float64
	// Lag in updates; all 0 when not given.
	Lag LagSummary
}

// LagSummary is in updates; the 95 % point is the nearest rank.
type LagSummary struct{ Min, Median, P95, Max float64 }

// DeltaLevels returns the levels of Diagnostics.DeltaQuantiles.
func DeltaLevels() [7]float64 { return [7]float64{0, 0.05, 0.25, 0.5, 0.75, 0.95, 1} }

// measure fills the diagnostics; it sorts in scratch and returns it for reuse.
func (q *Diagnostics) measure(d Divergence, in *Input, out *Output, scratch []float64) []float64 {
	q.Known, q.ESS, q.KL = offPolicy(in)
	q.TailShare = tailShare(d, out)
	scratch = append(scratch[:0], out.Delta...)
	slices.Sort(scratch)
	for i, level := range DeltaLevels() {
		q.DeltaQuantiles[i] = quantile(scratch, level)
	}
	q.Lag = LagSummary{}
	if len(in.Lag) > 0 {
		scratch = scratch[:0]
		for _, l := range in.Lag {
			scratch = append(scratch, float64(l))
		}
		slices.Sort(scratch)
		q.Lag = LagSummary{
			Min: scratch[0], Median: quantile(scratch, 0.5),
			P95: scratch[rank(len(scratch), 0.95)], Max: scratch[len(scratch)-1],
		}
	}
	return scratch
}

// offPolicy computes ESS and KL relative to the largest log-ratio, so that no
// ratio overflows.
func offPolicy(in *Input) (known int, ess, kl float64) {
	top := math.Inf(-1)
	for i, lb := range in.LogBehaviour {
		if !math.IsNaN(lb) {
			known++
			top = math.Max(top, in.LogPF[i]-lb)
		}
	}
	if known == 0 {
		return 0, 0, 0
	}
	var sum, squares float64
	for i, lb := range in.LogBehaviour {
		if math.IsNaN(lb) {
			continue
		}
		ratio := math.Exp(in.LogPF[i] - lb - top)
		sum += ratio
		squares += float64(ratio * ratio)
		kl += (lb - in.LogPF[i]) / float64(known)
	}
	return known, sum * sum / squares, kl
}

func tailShare(d Divergence, out *Output) float64 {
	k, ok := TailStart(d)
	if !ok {
		return 0
	}
	// Relative to the largest weight, so that the sums stay finite.
	var top, all, beyond float64
	for _, w := range out.W {
		top = math.Max(top, math.Abs(w))
	}
	if top == 0 {
		return 0
	}
	for i, w := range out.W {
		share := math.Abs(w) / top
		all += share
		if math.Abs(out.Delta[i]) >= k {
			beyond += share
		}
	}
	return beyond / all
}

// quantile interpolates linearly in a sorted slice (Hyndman and Fan's type 7).
func quantile(sorted []float64, level float64) float64 {
	at := level * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	t := at - float64(i)
	return float64(sorted[i]*(1-t)) + float64(sorted[i+1]*t)
}

// rank is the index of the nearest-rank quantile of n sorted values.
func rank(n int, level float64) int {
	return max(int(math.Ceil(level*float64(n)))-1, 0)
}
