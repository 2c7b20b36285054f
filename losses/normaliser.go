package losses

import (
	"fmt"
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/internal/fielderr"
)

// Normaliser is where the constant c that is added to the residuals comes from
// (the residuals having log Z = 0). Only Learned's is an estimate of log Z, and
// Exact's is log Z; the others belong to the loss.
type Normaliser string

const (
	// Learned takes c = log Z, a trained scalar: classic TB.
	Learned Normaliser = "learned"
	// BatchMean takes c = −mean δ (VarGrad): right for reverse_kl up to the
	// factor (K−1)/K, biased for other members even with infinite batches.
	BatchMean Normaliser = "batch_mean"
	// BatchOptimal takes c* = argmin_c Σ g(δ_i + c): weights sum to zero.
	BatchOptimal Normaliser = "batch_optimal"
	// LeaveOneOut, for the alpha family, takes each trajectory's c from the
	// others of its group: the exact direction on-policy for any K ≥ 2.
	LeaveOneOut Normaliser = "leave_one_out"
	// Running averages c* over updates, per group.
	Running Normaliser = "running"
	// Exact takes c = log Z, known from the environment and not trained: what the
	// theorem about on-policy gradients asks for.
	Exact Normaliser = "exact"
)

// Normalisers lists all modes.
func Normalisers() []Normaliser {
	return []Normaliser{Learned, BatchMean, BatchOptimal, LeaveOneOut, Running, Exact}
}

// ParseNormaliser reads a mode; the error is a *fielderr.Error.
func ParseNormaliser(text string) (Normaliser, error) {
	n := Normaliser(text)
	if slices.Contains(Normalisers(), n) {
		return n, nil
	}
	return "", fielderr.New("normaliser", text, "learned, batch_mean, batch_optimal, leave_one_out, running or exact")
}

// Group sizes for BatchOptimal with members other than reverse_kl. At K = 2 it
// cannot tell alpha:a from alpha:(2−a); the bias shrinks as 1/K.
const (
	minGroup  = 4
	warnGroup = 16
)

// CheckGroup says whether groups of k trajectories suit the normaliser with
// this member: an error where the result would be wrong (a *fielderr.Error
// with path "normaliser"), warnings where it is poor.
func (n Normaliser) CheckGroup(d Divergence, k int) (warnings []string, err error) {
	if err := n.refuse(d, k); err != nil {
		return nil, err
	}
	if isReverseKL(d) {
		return nil, nil
	}
	switch {
	case n == BatchMean:
		warnings = append(warnings, fmt.Sprintf("batch_mean is biased for %s, however large the batch; it is right for reverse_kl only", d.Name()))
	case n == BatchOptimal && k < warnGroup:
		warnings = append(warnings, fmt.Sprintf("batch_optimal is biased O(1/K) for %s: %d trajectories per group are few, use %d or more", d.Name(), k, warnGroup))
	}
	return warnings, nil
}

// refuse is the part of CheckGroup that every batch goes through; without a
// fault it allocates nothing.
func (n Normaliser) refuse(d Divergence, k int) error {
	switch n {
	case BatchOptimal:
		if k < minGroup && !isReverseKL(d) {
			return fielderr.New("normaliser", string(n), fmt.Sprintf(
				"at least %d trajectories per group for %s, there are %d (at 2, alpha:a and alpha:(2−a) coincide); or leave_one_out or learned", minGroup, d.Name(), k))
		}
	case LeaveOneOut:
		if _, pure := alphaFamily(d); !pure {
			return fielderr.New("normaliser", string(n), fmt.Sprintf("another normaliser for %s: leave_one_out is for the alpha family without modifiers", d.Name()))
		}
		if k < 2 {
			return fielderr.New("normaliser", string(n), fmt.Sprintf("at least 2 trajectories per group, there are %d", k))
		}
	}
	return nil
}

func isReverseKL(d Divergence) bool {
	b, pure := alphaFamily(d)
	return pure && b == 0
}

// alphaFamily returns b = 1 − alpha of an unmodified member of the alpha
// family.
func alphaFamily(d Divergence) (b float64, ok bool) {
	m, ok := d.(alpha)
	return m.b, ok
}

// Optimal returns c* = argmin_c Σ g(δ_i + c) of one non-empty group: in closed
// form for the unmodified alpha family, the median for total variation, else
// by Newton steps guarded by bisection. Where Σ g' vanishes on an interval it
// is the midpoint. scratch, of at least len(delta), is overwritten; with nil a
// new one is made. All δ must be finite.
func Optimal(d Divergence, delta, scratch []float64) float64 {
	lo, hi := slices.Min(delta), slices.Max(delta)
	if lo == hi {
		return -lo // δ + c is exactly 0: weights vanish and nothing is divided
	}
	if b, ok := alphaFamily(d); ok {
		return logMeanExp(delta, b)
	}
	if !d.Smooth() {
		return -median(delta, scratch)
	}
	return solve(d, delta, -hi, -lo)
}

// logMeanExp is (1/b) log mean e^{−bδ}, tending to −mean δ as b → 0.
func logMeanExp(delta []float64, b float64) float64 {
	m := mean(delta)
	if b == 0 {
		return -m
	}
	// With δ taken from its mean the sum of expm1 keeps its precision however
	// small b is; the largest exponent is taken out when it could overflow.
	top := 0.0
	for _, x := range delta {
		top = math.Max(top, -b*(x-m))
	}
	var sum float64
	if top < 1 {
		for _, x := range delta {
			sum += math.Expm1(-b * (x - m))
		}
		return math.Log1p(sum/float64(len(delta)))/b - m
	}
	for _, x := range delta {
		sum += math.Exp(-b*(x-m) - top)
	}
	return (top+math.Log(sum/float64(len(delta))))/b - m
}

func mean(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v / float64(len(x)) // divided first: a sum of finite δ may overflow
	}
	return sum
}

// median is the midpoint of the two middle values for an even number of them.
func median(x, scratch []float64) float64 {
	s := append(scratch[:0], x...)
	slices.Sort(s)
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return s[n/2-1]/2 + s[n/2]/2
}

// slopes is Σ g'(δ_i + c), scaled down by a power of two so that it stays
// finite, and the rounding error that its value may have.
func slopes(d Divergence, delta []float64, c float64) (sum, slack float64) {
	const scale = 0x1p-64
	var size float64
	for _, x := range delta {
		w := d.G1(x+c) * scale
		sum += w
		size += math.Abs(w)
	}
	return sum, 1e-15 * size
}

func curvature(d Divergence, delta []float64, c float64) float64 {
	const scale = 0x1p-64
	var sum float64
	for _, x := range delta {
		sum += d.G2(x+c) * scale
	}
	return sum
}

// solve finds the zero of the non-decreasing Σ g'(δ_i + c) in [lo, hi].
func solve(d Divergence, delta []float64, lo, hi float64) float64 {
	a, b := lo, hi
	c := math.Max(lo, math.Min(hi, -mean(delta)))
	step := hi - lo
	for range 300 {
		s, slack := slopes(d, delta, c)
		curve := curvature(d, delta, c)
		if math.Abs(s) <= slack && curve*(hi-lo) <= slack*float64(len(delta)) {
			return plateau(d, delta, lo, hi, c) // flat at zero
		}
		switch {
		case s == 0:
			return c
		case s < 0:
			a = c
		default:
			b = c
		}
		next := c - s/curve
		// Newton must stay inside and halve its steps, or bisection takes over.
		if !(next > a && next < b) || math.Abs(next-c) > step/2 {
			next = a + (b-a)/2
		}
		step = math.Abs(next - c)
		if next == c || step <= 1e-16*math.Abs(c) || next == a || next == b {
			return next
		}
		c = next
	}
	return c
}

// plateau is the midpoint of the interval around c where Σ g' vanishes.
func plateau(d Divergence, delta []float64, lo, hi, c float64) float64 {
	left := bisect(lo, c, func(x float64) bool { s, slack := slopes(d, delta, x); return s >= -slack })
	right := bisect(c, hi, func(x float64) bool { s, slack := slopes(d, delta, x); return s > slack })
	return left + (right-left)/2
}

// bisect returns the point where the monotone predicate becomes true, hi if it
// never does.
func bisect(lo, hi float64, becomes func(float64) bool) float64 {
	if becomes(lo) {
		return lo
	}
	for range 200 {
		mid := lo + (hi-lo)/2
		if mid == lo || mid == hi {
			break
		}
		if becomes(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}
