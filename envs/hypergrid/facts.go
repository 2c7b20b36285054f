package hypergrid

import (
	"math"
	"slices"

	"github.com/driftmesh/driftmesh/envs"
)

// maxMultisets bounds the work for log Z of a cosine reward that is raised to
// a power and so does not factorise.
const maxMultisets = 1 << 20

// Facts are exact in any dimension. Modes is nil when no cell earns the R2
// bonus and for the cosine and corner rewards, which have no agreed definition of a
// mode; LogZ is nil only for those with an exponent on a very large grid.
func (g *Grid) Facts() envs.Facts {
	c := g.rewards.c
	cells := math.Pow(float64(c.Height), float64(c.Dim))
	f := envs.Facts{Cells: &cells, MaxSteps: g.spec.MaxSteps}
	if z, ok := g.rewards.logZ(); ok {
		f.LogZ = &z
	}
	if best := math.Exp(g.rewards.maxLogReward()); !math.IsInf(best, 0) {
		f.MaxReward = &best
	}
	if n := g.countModes(); n > 0 {
		f.Modes = &n
	}
	return f
}

func (r *rewards) maxLogReward() float64 {
	if r.factor != nil {
		return r.product(math.Pow(slices.Max(r.factor), float64(r.c.Dim)))
	}
	best := math.Inf(-1)
	for z, logR := range r.logR {
		if r.members[z] > 0 {
			best = max(best, logR)
		}
	}
	return best
}

// logZ is log Σ_x R(x)^β, without listing the cells; false when it is unknown.
func (r *rewards) logZ() (float64, bool) {
	switch {
	case r.c.Reward == Sparse:
		return r.sparseLogZ(), true
	case r.factor == nil:
		return r.zonedLogZ(), true
	case r.c.Exponent == 1:
		return r.factorisedLogZ(), true
	default:
		return r.multisetLogZ()
	}
}

// sparseLogZ counts 2^D − 1 targets.
func (r *rewards) sparseLogZ() float64 {
	d := float64(r.c.Dim)
	logTargets := logDiff(d*math.Ln2, 0)
	return logSum([]float64{
		logTargets + r.logR[band],
		logDiff(d*math.Log(float64(r.c.Height)), logTargets) + r.logR[inner],
	})
}

// zonedLogZ counts the cells of each reward: b^D cells lie in the band in
// every coordinate, (b+o)^D in the band or the outer part, H^D anywhere.
func (r *rewards) zonedLogZ() float64 {
	d := float64(r.c.Dim)
	logBand := d * math.Log(float64(r.members[band]))
	logOuter := d * math.Log(float64(r.members[band]+r.members[outer]))
	logAll := d * math.Log(float64(r.c.Height))
	return logSum([]float64{
		logBand + r.logR[band],
		logDiff(logOuter, logBand) + r.logR[outer],
		logDiff(logAll, logOuter) + r.logR[inner],
	})
}

// factorisedLogZ uses Σ_x Π_i f(x_i) = (Σ_v f(v))^D.
func (r *rewards) factorisedLogZ() float64 {
	d := float64(r.c.Dim)
	sum := 0.0
	for _, f := range r.factor {
		sum += f
	}
	return logSum([]float64{
		math.Log(r.c.R0) + d*math.Log(float64(r.c.Height)),
		math.Log(r.c.R1) + d*math.Log(sum),
	})
}

// multisetLogZ lists which distinct factors the coordinates take, how often
// each, and weights every such multiset with the number of its arrangements.
func (r *rewards) multisetLogZ() (float64, bool) {
	values, counts := distinct(r.factor)
	if logBinomial(r.c.Dim+len(values)-1, r.c.Dim) > math.Log(maxMultisets) {
		return 0, false
	}
	var terms []float64
	// place k coordinates on values[i:]; logWays already has D! and the factors placed.
	var place func(i, k int, product, logWays float64)
	place = func(i, k int, product, logWays float64) {
		if i == len(values)-1 {
			ways := logWays + float64(k)*math.Log(counts[i]) - logFactorial(k)
			terms = append(terms, ways+r.product(product*math.Pow(values[i], float64(k))))
			return
		}
		for n := 0; n <= k; n++ {
			ways := logWays + float64(n)*math.Log(counts[i]) - logFactorial(n)
			place(i+1, k-n, product*math.Pow(values[i], float64(n)), ways)
		}
	}
	place(0, r.c.Dim, 1, logFactorial(r.c.Dim))
	return logSum(terms), true
}

// distinct returns the different values of xs, ascending, with their counts.
func distinct(xs []float64) (values, counts []float64) {
	for _, x := range slices.Sorted(slices.Values(xs)) {
		if n := len(values); n > 0 && values[n-1] == x {
			counts[n-1]++
			continue
		}
		values, counts = append(values, x), append(counts, 1)
	}
	return values, counts
}

func logFactorial(n int) float64 {
	v, _ := math.Lgamma(float64(n) + 1)
	return v
}

func logBinomial(n, k int) float64 {
	return logFactorial(n) - logFactorial(k) - logFactorial(n-k)
}

// logDiff is log(e^a − e^b) for a ≥ b, −Inf when they are equal.
func logDiff(a, b float64) float64 {
	return a + math.Log(-math.Expm1(b-a))
}

// logSum is log Σ e^x; −Inf terms add nothing.
func logSum(xs []float64) float64 {
	top := slices.Max(xs)
	sum := 0.0
	for _, x := range xs {
		sum += math.Exp(x - top)
	}
	return top + math.Log(sum)
}
