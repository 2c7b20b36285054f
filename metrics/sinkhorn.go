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
	Relative  bool    // Epsilon is a share of the mean cost of all pairs instead
	Tolerance float64 // of the marginals; default 1e-4
	MaxSteps  int     // at the last ε; default 2000
}

// maxPairs bounds the matrices of costs and of the kernel: 128 MiB each.
const maxPairs = 1 << 24

// SinkhornDistance transports x to y, each len/dim points of dim coordinates.
// Scalings are absorbed into log-domain potentials before they get large (Schmitzer
// 2019, 3.1), so small ε do not underflow; ε is approached from the largest cost by
// halves, so the steps converge.
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
	t := newTransport(n, m)
	largest, mean := 0.0, 0.0
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
			mean += c / float64(n*m)
		}
	}
	if largest == 0 {
		return Sinkhorn{Epsilon: o.Epsilon}, nil // all points are one
	}
	if o.Relative {
		o.Epsilon *= mean
	}
	for eps := largest; eps > o.Epsilon; eps /= 2 {
		t.at(eps)
		t.steps(10)
	}
	t.at(o.Epsilon)
	out := Sinkhorn{Epsilon: o.Epsilon}
	out.Cost, out.Error = t.value()
	for out.Steps < o.MaxSteps && out.Error > o.Tolerance {
		n := min(20, o.MaxSteps-out.Steps)
		t.steps(n)
		out.Steps += n
		out.Cost, out.Error = t.value()
	}
	return out, nil
}

// transport holds the plan P_ij = u_i·K_ij·v_j/(nm), K_ij = exp((f_i + g_j − c_ij)/ε).
type transport struct {
	n, m       int
	eps        float64
	f, g       []float64 // potentials
	u, v       []float64 // scalings that are not part of them yet
	cost       []float64 // n × m
	kernel     []float64 // n × m
	sums, tops []float64 // of columns
}

func newTransport(n, m int) *transport {
	return &transport{
		n: n, m: m, f: make([]float64, n), g: make([]float64, m), u: make([]float64, n), v: make([]float64, m),
		cost: make([]float64, n*m), kernel: make([]float64, n*m), sums: make([]float64, m), tops: make([]float64, m),
	}
}

// at goes on with another ε: one step in the log domain makes the potentials fit it.
func (t *transport) at(eps float64) {
	t.eps = eps
	t.exactStep()
	t.fill()
}

// fill computes the kernel of the potentials.
func (t *transport) fill() {
	for i, f := range t.f {
		for j, c := range t.cost[i*t.m : (i+1)*t.m] {
			t.kernel[i*t.m+j] = math.Exp((f + t.g[j] - c) / t.eps)
		}
	}
	for i := range t.u {
		t.u[i] = 1
	}
	for j := range t.v {
		t.v[j] = 1
	}
}

// absorb makes the scalings part of the potentials.
func (t *transport) absorb() {
	for i, u := range t.u {
		t.f[i] += float64(t.eps * math.Log(u))
	}
	for j, v := range t.v {
		t.g[j] += float64(t.eps * math.Log(v))
	}
}

// steps makes the first marginals right and then the second, n times.
func (t *transport) steps(n int) {
	const large = 1e30
	for range n {
		extreme := false
		for i := range t.u {
			sum := 0.0
			for j, k := range t.kernel[i*t.m : (i+1)*t.m] {
				sum += float64(k * t.v[j])
			}
			t.u[i] = float64(t.m) / sum
			extreme = extreme || !(1/large < t.u[i] && t.u[i] < large)
		}
		clear(t.sums)
		for i, u := range t.u {
			for j, k := range t.kernel[i*t.m : (i+1)*t.m] {
				t.sums[j] += float64(k * u)
			}
		}
		for j, sum := range t.sums {
			t.v[j] = float64(t.n) / sum
			extreme = extreme || !(1/large < t.v[j] && t.v[j] < large)
		}
		if extreme { // the potentials before them are still good
			t.exactStep()
			t.fill()
		}
	}
	t.absorb()
	t.fill()
}

// exactStep is a step of the potentials alone, which cannot underflow.
func (t *transport) exactStep() {
	eps := t.eps
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

// value is the cost of the plan of the kernel, whose scalings were absorbed, and how
// far its first marginals are off.
func (t *transport) value() (cost, off float64) {
	pairs := float64(t.n) * float64(t.m)
	for i := range t.f {
		mass := 0.0
		for j, c := range t.cost[i*t.m : (i+1)*t.m] {
			p := t.kernel[i*t.m+j] / pairs
			mass += p
			cost += float64(p * c)
		}
		off += math.Abs(mass - 1/float64(t.n))
	}
	return cost, off
}
