package metrics

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Bounds of a correlation, NaN where they are not defined.
type Bounds struct{ Low, High float64 }

// fewPairs are too few for the spread of their resamples to say anything.
const fewPairs = 20

// CorrelationBounds are 95 % intervals for Pearson's and Spearman's correlation of pairs
// that were drawn independently, by the basic bootstrap over pairs on Fisher's scale
// z = artanh r, where the spread hardly depends on r (Davison and Hinkley 1997, 5.2; Fisher
// 1915). Unlike Fisher's own interval, z ± 1.96/√(n−3), it does not ask for normal
// variables. Not defined for fewer than 20 pairs, where a correlation is not, and where
// so many replicates are perfectly correlated that the scale has no end for the interval.
// Equal streams give equal bits; replicates are at least 20.
func CorrelationBounds(x, y []float64, replicates int, rnd *rand.Rand) (pearson, spearman Bounds, err error) {
	pearson, spearman = Bounds{math.NaN(), math.NaN()}, Bounds{math.NaN(), math.NaN()}
	if replicates < 20 {
		return pearson, spearman, fmt.Errorf("metrics: %d bootstrap replicates; want at least 20", replicates)
	}
	r, err := Pearson(x, y)
	if err != nil {
		return pearson, spearman, err
	}
	rho, err := Spearman(x, y)
	n := len(x)
	if err != nil || n < fewPairs || slices.ContainsFunc(x, math.IsNaN) || slices.ContainsFunc(y, math.IsNaN) {
		return pearson, spearman, err
	}
	var (
		orderX, orderY = ascending(x), ascending(y)
		ranksX, ranksY = make([]float64, n), make([]float64, n)
		weight         = make([]float64, n) // how often a replicate has a pair
		zs, rankZs     []float64
	)
	for range replicates {
		clear(weight)
		for range n {
			weight[rnd.IntN(n)]++
		}
		if v := weighted(x, y, weight); !math.IsNaN(v) {
			zs = append(zs, fisher(v))
		}
		weightedRanks(ranksX, x, orderX, weight)
		weightedRanks(ranksY, y, orderY, weight)
		if v := weighted(ranksX, ranksY, weight); !math.IsNaN(v) {
			rankZs = append(rankZs, fisher(v))
		}
	}
	return within(r, zs), within(rho, rankZs), nil
}

// most is the size of a correlation that counts as perfect.
const most = 1 - 1e-12

// fisher is artanh r, finite at ±1.
func fisher(r float64) float64 {
	return math.Atanh(max(-most, min(most, r)))
}

// within is the basic interval of a correlation; it sorts the replicates' z.
func within(r float64, zs []float64) Bounds {
	if math.IsNaN(r) || len(zs) < 20 {
		return Bounds{math.NaN(), math.NaN()}
	}
	slices.Sort(zs)
	const tail = (1 - Confidence) / 2
	if end := math.Atanh(most); quantile(zs, tail) <= -end || quantile(zs, 1-tail) >= end {
		return Bounds{math.NaN(), math.NaN()}
	}
	z := fisher(r)
	return Bounds{math.Tanh(2*z - quantile(zs, 1-tail)), math.Tanh(2*z - quantile(zs, tail))}
}

// ascending are the indices of x in the order of its values.
func ascending(x []float64) []int {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(x[a], x[b]) })
	return order
}

// weightedRanks writes the Ranks of a sample that has each value as often as its weight.
func weightedRanks(ranks, x []float64, order []int, weight []float64) {
	below := 0.0
	for lo := 0; lo < len(order); {
		hi, here := lo+1, weight[order[lo]]
		for ; hi < len(order) && x[order[hi]] == x[order[lo]]; hi++ {
			here += weight[order[hi]]
		}
		for _, i := range order[lo:hi] {
			ranks[i] = below + (here+1)/2
		}
		below += here
		lo = hi
	}
}

// weighted is Pearson of such a sample; NaN where one side of it is constant.
func weighted(x, y, weight []float64) float64 {
	n, mx, my := 0.0, 0.0, 0.0
	for i, w := range weight {
		n += w
		mx += float64(w * x[i])
		my += float64(w * y[i])
	}
	mx, my = mx/n, my/n
	var sxx, syy, sxy float64
	flatX, flatY, first := true, true, -1
	for i, w := range weight {
		if w == 0 {
			continue
		}
		if first < 0 {
			first = i
		}
		flatX, flatY = flatX && x[i] == x[first], flatY && y[i] == y[first]
		dx, dy := x[i]-mx, y[i]-my
		sxx += float64(w * dx * dx)
		syy += float64(w * dy * dy)
		sxy += float64(w * dx * dy)
	}
	if flatX || flatY {
		return math.NaN()
	}
	return max(-1, min(1, sxy/(math.Sqrt(sxx)*math.Sqrt(syy))))
}
