package losses

import "math"

// leaveOneOut writes c_i = (1/b) log mean_{j≠i} e^{−bδ_j} (b → 0: the mean of
// the others, negated), so that g'(δ_i + c_i) is the leave-one-out weight
// (1 − e^{−bδ_i} / mean_{j≠i} e^{−bδ_j}) / b. It takes time linear in the
// group, len(delta) ≥ 2, and out has the length of delta.
func leaveOneOut(delta []float64, b float64, out []float64) {
	n := float64(len(delta))
	m := mean(delta)
	if b == 0 {
		for i, x := range delta {
			out[i] = (x-m)/(n-1) - m
		}
		return
	}
	// y_i = −b(δ_i − m); first is the index of the largest, second the next value.
	first, top, second := 0, math.Inf(-1), math.Inf(-1)
	for i, x := range delta {
		y := -b * (x - m)
		if y > top {
			first, top, second = i, y, top
		} else {
			second = math.Max(second, y)
		}
	}
	if top < 1 && second > -1 {
		leaveOneOutNear(delta, b, m, out)
		return
	}
	var all, others float64 // sums relative to top and, without first, to second
	for i, x := range delta {
		y := -b * (x - m)
		all += math.Exp(y - top)
		if i != first {
			others += math.Exp(y - second)
		}
	}
	for i, x := range delta {
		if i == first {
			out[i] = (second+math.Log(others/(n-1)))/b - m
			continue
		}
		// all ≥ 1 + own and own ≤ 1: at most one bit is lost.
		own := math.Exp(-b*(x-m) - top)
		out[i] = (top+math.Log((all-own)/(n-1)))/b - m
	}
}

// leaveOneOutNear serves exponents below 1, where expm1 and log1p keep the
// precision that division by a small b would lose.
func leaveOneOutNear(delta []float64, b, m float64, out []float64) {
	n := float64(len(delta))
	var all float64
	for _, x := range delta {
		all += math.Expm1(-b * (x - m))
	}
	for i, x := range delta {
		own := math.Expm1(-b * (x - m))
		out[i] = math.Log1p((all-own)/(n-1))/b - m
	}
}
