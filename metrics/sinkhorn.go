package metrics

import (
	"fmt"
	"math"
)

// Sinkhorn is the entropic transport between two sets of points.
type Sinkhorn struct {
	// Cost is Σ P·c under the plan P that minimises Σ P·c − ε·H(P), where c is
	// the squared Euclidean distance and every point of a set weighs the same.
	// For ε → 0 it falls to the squared Wasserstein-2 distance of the sets.
	Cost    float64 `json:"cost"`
	Epsilon float64 `json:"epsilon"`
	// Error is what is left of the marginal constraint of the first set, Σ|P·1 − a|.
	Error float64 `json:"error"`
	Steps int     `json:"steps"`
}

// SinkhornOptions say how exactly to solve.
type SinkhornOptions struct {
	Epsilon   float64 // of the entropy, in units of the cost; above 0
	Tolerance float64 // of the marginals; default 1e-4
	MaxSteps  int     // at the last ε; default 2000
}

// maxPairs bounds the matrix of costs: 128 MiB.
const maxPairs = 1 << 24

// SinkhornDistance transports x to y, each len/dim points of dim coordinates.
// Steps are in the log domain (Peyré and Cuturi 2019, 4.4), so small ε do not
// underflow; ε is approached from the largest cost by halves, so they converge.
func SinkhornDistance(x, y []float64, dim int, o SinkhornOptions) (Sinkhorn, error) {
	if dim < 1 || len(x) == 0 || len(y) == 0 || len(x)%dim != 0 || len(y)%dim != 0 {
		return Sinkhorn{}, fmt.Errorf("metrics: %d and %d coordinates are no two sets of points in %d dimensions", len(x), len(y), dim)
	}
	n, m := len(x)/dim, len(y)/dim
	if n > maxPairs/m {
		return Sinkhorn{}, fmt.Errorf("metrics: transport of %d points to %d; at most %d pairs", n, m, maxPairs)
	}
	if !(o.Epsilon > 0) || math.IsInf(o.Epsilon, 0) {
		return Sinkhorn{}, fmt.Errorf("metrics: Sinkhorn's epsilon is %v; want a finite number above 0", o.Epsilon)
	}
	if o.Tolerance <= 0 {
		o.Tolerance = 1e-4
	}
	if o.MaxSteps <= 0 {
		o.MaxSteps = 2000
	}
	t := transport{n: n, m: m, f: make([]float64, n), g: make([]float64, m), cost: make([]float64, n*m), sums: make([]float64, m), tops: make([]float64, m)}
	largest := 0.0
	for i := range n {
		for j := range m {
			c := 0.0
			for k := range dim {
				d := x[i*dim+k] - y[j*dim+k]
				c += float64(d * d)
			}
			if math.IsNaN(c) || math.IsInf(c, 0) {
				return Sinkhorn{}, fmt.Errorf("metrics: points %d and %d are at distance² %v; want finite coordinates", i, j, c)
			}
			t.cost[i*m+j] = c
			largest = max(largest, c)
		}
	}
	for eps := largest; eps > o.Epsilon; eps /= 2 {
		for range 10 {
			t.step(eps)
		}
	}
	out := Sinkhorn{Epsilon: o.Epsilon, Error: math.Inf(1)}
	for out.Steps < o.MaxSteps && out.Error > o.Tolerance {
		t.step(o.Epsilon)
		out.Steps++
		if out.Steps%10 == 0 || out.Steps == o.MaxSteps {
			out.Cost, out.Error = t.value(o.Epsilon)
		}
	}
	return out, nil
}

// transport holds the potentials f and g: P_ij = exp((f_i + g_j − c_ij)/ε)/(nm).
type transport struct {
	n, m       int
	f, g       []float64
	cost       []float64 // n × m
	sums, tops []float64 // of columns
}

// step makes the first marginals right, then the second.
func (t *transport) step(eps float64) {
	for i := range t.f {
		row := t.cost[i*t.m : (i+1)*t.m]
		top := math.Inf(-1)
		for j, c := range row {
			top = max(top, (t.g[j]-c)/eps)
		}
		sum := 0.0
		for j, c := range row {
			sum += math.Exp((t.g[j]-c)/eps - top)
		}
		t.f[i] = -eps * (top + math.Log(sum/float64(t.m)))
	}
	for j := range t.tops {
		t.tops[j], t.sums[j] = math.Inf(-1), 0
	}
	for i, f := range t.f {
		for j, c := range t.cost[i*t.m : (i+1)*t.m] {
			t.tops[j] = max(t.tops[j], (f-c)/eps)
		}
	}
	for i, f := range t.f {
		for j, c := range t.cost[i*t.m : (i+1)*t.m] {
			t.sums[j] += math.Exp((f-c)/eps - t.tops[j])
		}
	}
	for j := range t.g {
		t.g[j] = -eps * (t.tops[j] + math.Log(t.sums[j]/float64(t.n)))
	}
}

// value is the cost of the present plan, and how far its first marginals are off.
func (t *transport) value(eps float64) (cost, off float64) {
	pairs := float64(t.n) * float64(t.m)
	for i, f := range t.f {
		mass := 0.0
		for j, c := range t.cost[i*t.m : (i+1)*t.m] {
			p := math.Exp((f+t.g[j]-c)/eps) / pairs
			mass += p
			cost += float64(p * c)
		}
		off += math.Abs(mass - 1/float64(t.n))
	}
	return cost, off
}
