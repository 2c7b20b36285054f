package metrics

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Pearson is the correlation of x and y: NaN where one of them is constant or
// there are fewer than two values.
func Pearson(x, y []float64) (float64, error) {
	if len(x) != len(y) {
		return 0, fmt.Errorf("%w: %d and %d", ErrLength, len(x), len(y))
	}
	n := float64(len(x))
	var mx, my float64
	for i := range x {
		mx += x[i] / n
		my += y[i] / n
	}
	var sxx, syy, sxy float64
	for i := range x {
		dx, dy := x[i]-mx, y[i]-my
		sxx += float64(dx * dx)
		syy += float64(dy * dy)
		sxy += float64(dx * dy)
	}
	if len(x) < 2 || constant(x) || constant(y) {
		return math.NaN(), nil
	}
	return max(-1, min(1, sxy/(math.Sqrt(sxx)*math.Sqrt(syy)))), nil
}

// Spearman is the Pearson correlation of the ranks. Equal values share the mean
// of the ranks that they take up together, so any order of them gives the same.
func Spearman(x, y []float64) (float64, error) {
	if len(x) != len(y) {
		return 0, fmt.Errorf("%w: %d and %d", ErrLength, len(x), len(y))
	}
	return Pearson(Ranks(x), Ranks(y))
}

// Ranks returns the rank of each value, 1 for the smallest; ties are averaged.
func Ranks(x []float64) []float64 {
	type value struct {
		x  float64
		of int
	}
	order := make([]value, len(x))
	for i, v := range x {
		order[i] = value{v, i}
	}
	slices.SortFunc(order, func(a, b value) int { return cmp.Compare(a.x, b.x) }) // ties share a rank
	out := make([]float64, len(x))
	for lo := 0; lo < len(order); {
		hi := lo + 1
		for hi < len(order) && order[hi].x == order[lo].x {
			hi++
		}
		for _, v := range order[lo:hi] {
			out[v.of] = float64(lo+1+hi) / 2
		}
		lo = hi
	}
	return out
}

func constant(x []float64) bool {
	for _, v := range x {
		if v != x[0] {
			return false
		}
	}
	return true
}
