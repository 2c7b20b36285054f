package losses

import (
	"fmt"
	"math"
	"slices"
)

// checkWeights verifies the weights of trajectories and returns their sum.
func checkWeights(w []float64) (total float64, err error) {
	for i, x := range w {
		if !(x > 0) || math.IsInf(x, 0) {
			return 0, fmt.Errorf("%w: trajectory %d has weight %v; want a positive number", ErrInput, i, x)
		}
		total += x
	}
	if !isFinite(total) {
		return 0, fmt.Errorf("%w: the weights sum to %v", ErrInput, total)
	}
	return total, nil
}

// weighted is Optimal and the mean with a positive weight for each residual: an
// integer weight is as many copies of it.
type weighted struct {
	delta, weight []float64
	total         float64
}

func newWeighted(delta, weight []float64) weighted {
	w := weighted{delta: delta, weight: weight}
	for _, x := range weight {
		w.total += x
	}
	return w
}

func (w weighted) mean() float64 {
	var sum float64
	for i, x := range w.delta {
		sum += x * (w.weight[i] / w.total)
	}
	return sum
}

// optimal is argmin_c Σ w_i g(δ_i + c); scratch is overwritten.
func (w weighted) optimal(d Divergence, scratch []float64) float64 {
	lo, hi := slices.Min(w.delta), slices.Max(w.delta)
	if lo == hi {
		return -lo
	}
	if b, ok := alphaFamily(d); ok {
		return w.logMeanExp(b)
	}
	if !d.Smooth() {
		return -w.median(scratch)
	}
	// Bisection: the sum of slopes does not fall with c. Where it vanishes on an
	// interval, the middle of it, as without weights.
	left := bisect(-hi, -lo, func(c float64) bool { s, slack := w.slopes(d, c); return s >= -slack })
	right := bisect(left, -lo, func(c float64) bool { s, slack := w.slopes(d, c); return s > slack })
	return left + (right-left)/2
}

// slopes is Σ w_i g'(δ_i + c), scaled as in the unweighted case, and the
// rounding error that its value may have.
func (w weighted) slopes(d Divergence, c float64) (sum, slack float64) {
	const scale = 0x1p-64
	var size float64
	for i, x := range w.delta {
		s := d.G1(x+c) * scale * (w.weight[i] / w.total)
		sum += s
		size += math.Abs(s)
	}
	return sum, 1e-15 * size
}

// logMeanExp is (1/b) log Σ w e^{−bδ} / Σ w, tending to −mean as b → 0.
func (w weighted) logMeanExp(b float64) float64 {
	m := w.mean()
	if b == 0 {
		return -m
	}
	top := 0.0
	for _, x := range w.delta {
		top = math.Max(top, -b*(x-m))
	}
	var sum float64
	if top < 1 {
		for i, x := range w.delta {
			sum += w.weight[i] * math.Expm1(-b*(x-m))
		}
		return math.Log1p(sum/w.total)/b - m
	}
	for i, x := range w.delta {
		sum += w.weight[i] * math.Exp(-b*(x-m)-top)
	}
	return (top+math.Log(sum/w.total))/b - m
}

// median is the value with half of the weight on either side; between two
// values where the halves meet, their midpoint.
func (w weighted) median(scratch []float64) float64 {
	s := append(scratch[:0], w.delta...)
	slices.Sort(s)
	upTo := func(v float64) (sum float64) {
		for i, x := range w.delta {
			if x <= v {
				sum += w.weight[i]
			}
		}
		return sum
	}
	lo, hi := 0, len(s)-1 // the first value with at least half of the weight up to it
	for lo < hi {
		if mid := (lo + hi) / 2; upTo(s[mid]) >= w.total/2 {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if upTo(s[lo]) == w.total/2 {
		for _, next := range s[lo:] {
			if next > s[lo] {
				return s[lo]/2 + next/2
			}
		}
	}
	return s[lo]
}

// leaveOneOut writes c_i = (1/b) log of the weighted mean of e^{−bδ_j} over
// j ≠ i. All of a trajectory's weight is left out: what is left does not depend
// on it, whatever its weight.
func (w weighted) leaveOneOut(b float64, out []float64) {
	for i := range w.delta {
		// Quadratic in the group, but without differences of nearly equal sums.
		out[i] = w.others(i, b)
	}
}

func (w weighted) others(i int, b float64) float64 {
	var total, m float64
	for j, x := range w.weight {
		if j != i {
			total += x
		}
	}
	for j, x := range w.delta {
		if j != i {
			m += x * (w.weight[j] / total)
		}
	}
	if b == 0 {
		return -m
	}
	top := 0.0
	for j, x := range w.delta {
		if j != i {
			top = math.Max(top, -b*(x-m))
		}
	}
	var sum float64
	for j, x := range w.delta {
		if j == i {
			continue
		}
		if top < 1 {
			sum += w.weight[j] * math.Expm1(-b*(x-m))
		} else {
			sum += w.weight[j] * math.Exp(-b*(x-m)-top)
		}
	}
	if top < 1 {
		return math.Log1p(sum/total)/b - m
	}
	return (top+math.Log(sum/total))/b - m
}
